/* SPDX-License-Identifier: Apache-2.0
 * Conformance: operations that do many things at once, C12 and C14 of the contract, through the
 * public API and a real writer, on each engine. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/support/conformance.h"

CONFORMANCE_SUITES

/* ---- C12 replace_segments ---- */

enum { OLD = 4 };
static struct shmeta_segment old_one[OLD], new_one[OLD];
static char ids[2 * OLD][64];

/* Four of ten offsets each. */
static void begin(void)
{
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	for (uint64_t i = 0; i < OLD; i++) {
		const struct shmeta_op op = api_segment("orders", 0, 10 * i, 10 * i + 9, ids[i]);

		cr_assert_eq(api_append("orders", 0, 10 * i, 10 * i + 9), SHMETA_OK);
		old_one[i] = op.u.segment;
	}
}

static struct shmeta_segment *fresh(uint32_t at, uint64_t base, uint64_t end, const char *key)
{
	(void)snprintf(ids[OLD + at], sizeof ids[0], "merged-%u-%llu", at, (unsigned long long)base);
	new_one[at] = (struct shmeta_segment){.base_offset = base,
	                                      .end_offset = end,
	                                      .record_count = (uint32_t)(end - base + 1),
	                                      .size_bytes = 40,
	                                      .created_at_ms = 7,
	                                      .id = S(ids[OLD + at]),
	                                      .s3_bucket = S("bucket"),
	                                      .s3_key = S(key)};
	return &new_one[at];
}

/* Old ones from `from` on, by `count` new ones; how NULL: plain. */
static enum shmeta_status replace(uint32_t from, const struct shmeta_op *how, uint32_t count)
{
	struct shmeta_op op = how != NULL ? *how : (struct shmeta_op){.type = 0};

	op.type = SHMETA_OP_REPLACE_SEGMENTS;
	op.name = S("orders");
	op.u.replace.old_segments = old_one + from;
	op.u.replace.new_segments = new_one;
	if (op.u.replace.old_count == 0)
		op.u.replace.old_count = OLD - from;
	op.u.replace.new_count = count;
	return api_do(&op, 1);
}

CLAIM(c12_many_segments_become_few_in_one_unit)
{
	struct shmeta_partition p;
	struct shmeta_segment s;

	begin();
	cr_assert_eq(api_append("orders", 0, 40, 49), SHMETA_OK);
	(void)fresh(0, 0, 24, "merged-a");
	(void)fresh(1, 30, 39, "merged-b");
	cr_assert_eq(replace(0, NULL, 2), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, OLD);
	cr_expect_str_eq(api_segments("orders", 0), "0-24 30-39 40-49");
	cr_expect_eq(api_find("orders", 0, 27, &s), SHMETA_ABSENT_GAP);
	cr_assert_eq(api_find("orders", 0, 12, &s), SHMETA_OK);
	cr_expect(s.size_bytes == 40 && s.record_count == 25);
	cr_expect_eq(api_watermark("orders", 0), 50);
	cr_assert_eq(api_partition("orders", 0, &p), SHMETA_OK);
	cr_expect_eq(p.segment_count, 3);
}

CLAIM(c12_nothing_may_survive)
{
	const struct shmeta_op how = {.u.replace.old_count = 3};

	begin();
	cr_assert_eq(replace(0, &how, 0), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, 3);
	cr_expect_str_eq(api_segments("orders", 0), "30-39");
	cr_expect_eq(api_watermark("orders", 0), 40);
}

CLAIM(c12_what_is_repeated_is_done_already)
{
	begin();
	(void)fresh(0, 0, 39, "merged");
	cr_assert_eq(replace(0, NULL, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, OLD);
	cr_expect_eq(replace(0, NULL, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, 0);
	cr_expect_str_eq(api_segments("orders", 0), "0-39");
}

/* Refused for the segment at that offset, and the result says so as the sentence does. */
static void expect_conflict_at(enum shmeta_status status, uint64_t offset)
{
	const struct shmeta_result *r = &api.result[0];
	char words[40];

	(void)snprintf(words, sizeof words, "offset %llu ", (unsigned long long)offset);
	cr_expect_eq(status, SHMETA_ERR_CONFLICT);
	cr_expect_not_null(strstr(r->text, words), "%s", r->text);
	cr_expect(r->most > 0 && r->value == offset && r->count == 0, "%s: %llu", r->text,
	          (unsigned long long)r->value);
}

static void expect_fenced(enum shmeta_status status, uint64_t epoch, uint64_t least)
{
	const struct shmeta_result *r = &api.result[0];

	cr_expect_eq(status, SHMETA_ERR_FENCED);
	cr_expect(r->epoch == epoch && r->least == least && r->count == 0, "%s: %llu, %llu", r->text,
	          (unsigned long long)r->epoch, (unsigned long long)r->least);
	cr_expect(least == 0 ? r->most == 0 : r->most == INT64_MAX && r->value == epoch, "%s", r->text);
}

CLAIM(c12_an_old_one_that_is_not_there_as_given_is_a_conflict_and_nothing_is_written)
{
	const struct shmeta_op two = {.u.replace.old_count = 2};

	begin();
	(void)fresh(0, 0, 39, "merged");
	old_one[2].size_bytes++;
	expect_conflict_at(replace(0, NULL, 1), 20);
	old_one[2].size_bytes--;
	old_one[1].base_offset = 11; /* there is none; and the one at 10 lies between */
	expect_conflict_at(replace(0, NULL, 1), 11);
	old_one[1] = old_one[2];
	(void)fresh(0, 0, 9, "merged");
	expect_conflict_at(replace(0, &two, 1), 10);
	old_one[0].size_bytes++;
	expect_conflict_at(replace(0, &two, 1), 0);
	old_one[0].size_bytes--;
	cr_expect_str_eq(api_segments("orders", 0), "0-9 10-19 20-29 30-39");
	cr_expect_eq(api_do(&(struct shmeta_op){.type = SHMETA_OP_REPLACE_SEGMENTS,
	                                        .name = S("orders"),
	                                        .partition_id = 7,
	                                        .u.replace = {.old_segments = old_one, .old_count = 1}},
	                    1),
	             SHMETA_ERR_PARTITION_NOT_FOUND);
}

CLAIM(c12_a_segment_that_stays_is_not_overlapped)
{
	const struct shmeta_op first = {.u.replace.old_count = 1};
	struct shmeta_op op;
	char id[64];

	begin();
	/* 15-34 reaches into what lies before and behind it. */
	op = api_segment("orders", 0, 15, 34, id);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	old_one[0] = op.u.segment;
	old_one[0].partition_id = 0;
	(void)fresh(0, 15, 30, "merged");
	cr_expect_eq(replace(0, &first, 1), SHMETA_ERR_CONFLICT, "one before it reaches 19");
	(void)fresh(0, 20, 30, "merged");
	cr_expect_eq(replace(0, &first, 1), SHMETA_ERR_CONFLICT, "one behind it begins at 20");
	cr_expect_str_eq(api_segments("orders", 0), "0-9 10-19 15-34 20-29 30-39");
	cr_expect_eq(replace(0, &first, 0), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(api_segments("orders", 0), "0-9 10-19 20-29 30-39");
}

CLAIM(c12_a_long_segment_that_begins_far_before_is_not_overlapped)
{
	const struct shmeta_op last = {.u.replace.old_count = 1};
	struct shmeta_op op;
	char id[64];

	begin();
	op = api_segment("orders", 0, 5, 38, id);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	(void)fresh(0, 30, 39, "merged");
	cr_expect_eq(replace(3, &last, 1), SHMETA_ERR_CONFLICT, "one that begins at 5 reaches 38");
	cr_expect_str_eq(api_segments("orders", 0), "0-9 5-38 10-19 20-29 30-39");
	(void)fresh(0, 39, 39, "merged");
	cr_expect_eq(replace(3, &last, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(api_segments("orders", 0), "0-9 5-38 10-19 20-29 39-39");
}

/* Segments of one offset each, at bases from `from` on. */
static void append_many(uint64_t from, uint64_t count)
{
	static char many_ids[API_RESULTS][64];
	struct shmeta_op ops[API_RESULTS];

	for (uint64_t done = 0; done < count;) {
		size_t n = 0;

		for (; n < API_RESULTS && done < count; n++, done++)
			ops[n] = api_segment("orders", 0, from + done, from + done, many_ids[n]);
		cr_assert_eq(api_do(ops, n), SHMETA_OK, "%s", api.result[0].text);
	}
}

/* Nobody waits for a look through a whole partition. */
CLAIM(c12_a_segment_that_1024_others_begin_within_is_not_looked_for)
{
	const struct shmeta_op last = {.u.replace.old_count = 1};
	struct shmeta_op op;
	char id[64];

	if (strcmp(api.engine->name, "dynamodb") == 0)
		NOT_HERE("it keeps how long the longest segment is");
	begin();
	op = api_segment("orders", 0, 40, 9000, id);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	append_many(1000, 1023);
	op = api_segment("orders", 0, 5000, 5009, ids[3]);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	old_one[3] = op.u.segment;
	(void)fresh(0, 5000, 5009, "merged");
	expect_conflict_at(replace(3, &last, 1), 5000);
	append_many(2023, 1);
	cr_expect_eq(replace(3, &last, 1), SHMETA_OK, "%s", api.result[0].text);
}

CLAIM(c12_one_that_is_in_both_lists_stays_and_bases_and_ids_may_stay)
{
	struct shmeta_segment s;

	begin();
	new_one[0] = old_one[0];
	*fresh(1, 10, 39, "compacted") = (struct shmeta_segment){.base_offset = 10,
	                                                         .end_offset = 35,
	                                                         .record_count = 3,
	                                                         .size_bytes = 11,
	                                                         .created_at_ms = 9,
	                                                         .id = old_one[1].id,
	                                                         .s3_bucket = S("bucket"),
	                                                         .s3_key = S("compacted")};
	cr_assert_eq(replace(0, NULL, 2), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, 3);
	cr_expect_str_eq(api_segments("orders", 0), "0-9 10-35");
	cr_assert_eq(api_find("orders", 0, 10, &s), SHMETA_OK);
	cr_expect(s.size_bytes == 11 && s.record_count == 3);
	cr_expect_eq(replace(0, NULL, 2), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 0);
}

CLAIM(c12_an_object_of_its_own_has_a_key_and_an_id_of_its_own)
{
	char key[128];

	begin();
	(void)snprintf(key, sizeof key, "%.*s", (int)old_one[2].s3_key.bytes, old_one[2].s3_key.data);
	fresh(0, 0, 39, key)->s3_bucket = old_one[2].s3_bucket;
	cr_expect_eq(replace(0, NULL, 1), SHMETA_ERR_INVALID_ARGUMENT, "%s", api.result[0].text);
	fresh(0, 0, 39, "merged")->position = 5;
	cr_expect_eq(replace(0, NULL, 1), SHMETA_ERR_INVALID_ARGUMENT, "it is no slice: %s", api.result[0].text);
	cr_assert_eq(api_append("orders", 1, 0, 9), SHMETA_OK);
	(void)api_segment("orders", 1, 0, 9, ids[OLD]);
	(void)fresh(0, 0, 39, "merged");
	(void)api_segment("orders", 1, 0, 9, ids[OLD]);
	new_one[0].id = S(ids[OLD]);
	cr_expect_eq(replace(0, NULL, 1), SHMETA_ERR_CONFLICT, "the id is another's: %s", api.result[0].text);
	cr_expect_eq(api.result[0].most, 0, "it names no number");
	(void)fresh(0, 0, 29, "merged");
	new_one[0].id = old_one[3].id;
	new_one[1] = old_one[3];
	cr_expect_eq(replace(0, NULL, 2), SHMETA_ERR_CONFLICT, "the id is one's that stays: %s", api.result[0].text);
	(void)fresh(0, 0, 9, "merged");
	fresh(1, 10, 39, "merged")->id = new_one[0].id;
	cr_expect_eq(replace(0, NULL, 2), SHMETA_ERR_CONFLICT, "the id comes twice: %s", api.result[0].text);
	cr_expect_str_eq(api_segments("orders", 0), "0-9 10-19 20-29 30-39");
}

CLAIM(c12_a_fence_and_a_compaction_epoch_decide)
{
	struct shmeta_op how = {.fence = {S("a"), 2}};

	begin();
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	(void)fresh(0, 0, 19, "merged-1");
	how.u.replace.old_count = 2;
	how.u.replace.compaction_epoch = 4;
	expect_fenced(replace(0, &how, 1), 2, 0);
	how.fence.epoch = 1;
	how.u.replace.compaction_epoch = 5;
	cr_assert_eq(replace(0, &how, 1), SHMETA_OK, "%s", api.result[0].text);
	old_one[0] = new_one[0];
	old_one[1] = old_one[2];
	(void)fresh(0, 0, 29, "merged-2");
	how.u.replace.compaction_epoch = 4;
	expect_fenced(replace(0, &how, 1), 4, 5); /* a former compactor */
	cr_expect_str_eq(api_segments("orders", 0), "0-19 20-29 30-39");
	how.u.replace.compaction_epoch = 5;
	cr_expect_eq(replace(0, &how, 1), SHMETA_OK, "%s", api.result[0].text);
	how.u.replace.compaction_epoch = 6;
	cr_expect_eq(replace(0, &how, 1), SHMETA_OK, "done already: %s", api.result[0].text);
	how.u.replace.compaction_epoch = 5;
	expect_fenced(replace(0, &how, 1), 5, 6);
	how.fence = (struct shmeta_fence){.epoch = 0};
	expect_fenced(replace(0, &how, 1), 5, 6);
	cr_expect_str_eq(api_segments("orders", 0), "0-29 30-39");
}

/* The number of slices that the object has; -1: it is not listed. */
static int64_t slices_of(const char *key)
{
	struct shmeta_object_info info;
	struct shmeta_objects *list = NULL;
	int64_t slices = -1;

	cr_assert_eq(shmeta_list_objects(api.instance, 0, API_WAIT_MS, &list), SHMETA_OK);
	while (shmeta_next_object(list, &info) == SHMETA_OK)
		if (info.object.s3_key.bytes == strlen(key) &&
		    memcmp(info.object.s3_key.data, key, info.object.s3_key.bytes) == 0)
			slices = (int64_t)info.slices;
	shmeta_objects_free(list);
	return slices;
}

CLAIM(c12_reference_counts_of_objects_follow)
{
	struct shmeta_op op[3] = {{.type = SHMETA_OP_COMMIT_OBJECT,
	                           .u.object = {.s3_bucket = S("bucket"), .s3_key = S("shared"), .size_bytes = 100}}};
	struct shmeta_segment s;
	static char buffer[512];
	char id[2][64];

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	for (uint32_t i = 0; i < 2; i++) {
		op[1 + i] = api_segment("orders", 0, 10 * i, 10 * i + 9, id[i]);
		op[1 + i].type = SHMETA_OP_ADD_SLICE;
		op[1 + i].u.segment.size_bytes = 40;
		op[1 + i].u.segment.position = 40 * i;
		op[1 + i].u.segment.s3_bucket = op[1 + i].u.segment.s3_key = (struct shmeta_str){NULL, 0};
	}
	cr_assert_eq(api_do(op, 3), SHMETA_OK);
	cr_assert(api.result[1].status == SHMETA_OK && api.result[2].status == SHMETA_OK);
	for (int i = 0; i < 2; i++) {
		old_one[i] = op[1 + i].u.segment;
		old_one[i].s3_bucket = S("bucket");
		old_one[i].s3_key = S("shared");
	}
	cr_expect_eq(slices_of("shared"), 2);
	/* Two slices that touch become one. */
	fresh(0, 0, 19, "shared")->size_bytes = 101;
	cr_expect_eq(replace(0, &(struct shmeta_op){.u.replace.old_count = 2}, 1), SHMETA_ERR_INVALID_ARGUMENT,
	             "it lies beyond the object: %s", api.result[0].text);
	fresh(0, 0, 19, "shared")->size_bytes = 70;
	new_one[0].position = 10;
	cr_assert_eq(replace(0, &(struct shmeta_op){.u.replace.old_count = 2}, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(slices_of("shared"), 1);
	cr_assert_eq(api_find("orders", 0, 15, &s), SHMETA_OK);
	cr_assert_eq(shmeta_segment_strings_named(api.reader, "orders", 6, &s, buffer, sizeof buffer), SHMETA_OK);
	cr_expect_eq(s.position, 10);
	/* And then an object of its own: the shared one is garbage. */
	old_one[0] = new_one[0];
	(void)fresh(0, 0, 19, "alone");
	cr_assert_eq(replace(0, &(struct shmeta_op){.u.replace.old_count = 1}, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(slices_of("shared"), 0);
	cr_expect_eq(
		api_do(&(struct shmeta_op){.type = SHMETA_OP_CONFIRM_OBJECT_DELETED, .u.object = op[0].u.object}, 1),
		SHMETA_OK, "%s", api.result[0].text);
}

/* ---- C14 renew_agent ---- */

static enum shmeta_status renew(const char *agent, int64_t heartbeat_ms, int64_t duration_ms)
{
	const struct shmeta_op op = {.type = SHMETA_OP_RENEW_AGENT,
	                             .agent_id = S(agent),
	                             .duration_ms = duration_ms,
	                             .u.agent.last_heartbeat_ms = heartbeat_ms};

	return api_do(&op, 1);
}

/* As the store shows it, expired or not. */
static struct shmeta_lease lease(uint32_t partition)
{
	struct shmeta_lease l = {0};

	cr_assert_eq(shmeta_get_lease(api.reader, "orders", 6, partition, INT64_MIN, NULL, &l, NULL), SHMETA_OK);
	l.leader_agent_id = (struct shmeta_str){NULL, 0};
	return l;
}

CLAIM(c14_one_renewal_is_the_heartbeat_and_extends_every_lease_of_the_agent)
{
	const int64_t beat = INT64_C(1000) * time(NULL) + 5000;
	struct shmeta_lease before[3], after;
	struct shmeta_agent agent;

	cr_assert_eq(api_create("orders", 3), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 60000), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 1, "a", 90000000), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 2, "b", 60000), SHMETA_OK);
	for (uint32_t i = 0; i < 3; i++)
		before[i] = lease(i);
	cr_assert_eq(renew("a", beat, 600000), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, 2);
	after = lease(0);
	cr_expect_geq(after.lease_expires_at_ms, before[0].acquired_at_ms + 600000);
	cr_expect_leq(after.lease_expires_at_ms, before[0].acquired_at_ms + 600000 + API_WAIT_MS);
	after.lease_expires_at_ms = before[0].lease_expires_at_ms;
	cr_expect_eq(memcmp(&after, &before[0], sizeof after), 0, "its epoch and since when it is held stay");
	after = lease(1);
	cr_expect_eq(memcmp(&after, &before[1], sizeof after), 0, "none is shortened");
	after = lease(2);
	cr_expect_eq(memcmp(&after, &before[2], sizeof after), 0, "others' stay");
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:a@1 orders/1:a@1 orders/2:b@1");
	cr_assert_eq(shmeta_get_agent(api.reader, "a", 1, NULL, &agent, NULL), SHMETA_OK);
	cr_expect(agent.last_heartbeat_ms > beat - 2000 && agent.last_heartbeat_ms < beat + 2000);
	cr_assert_eq(renew("b", beat, 600000), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 1);
}

CLAIM(c14_what_has_expired_stays_expired_and_another_may_take_it)
{
	struct timespec while_it_expires = {.tv_nsec = 5000000};
	struct shmeta_lease before, after;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 1), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 1, "a", 60000), SHMETA_OK);
	cr_assert_eq(nanosleep(&while_it_expires, NULL), 0);
	before = lease(0);
	cr_assert_eq(renew("a", 7, 600000), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, 1);
	after = lease(0);
	cr_expect_eq(memcmp(&after, &before, sizeof after), 0);
	cr_assert_eq(api_acquire("orders", 0, "b", 60000), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(renew("a", 8, 600000), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 1);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:b@2 orders/1:a@1");
}

CLAIM(c14_an_unknown_agent_is_not_found_and_one_without_leases_has_a_heartbeat)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(renew("a", 7, 600000), SHMETA_ERR_NOT_FOUND);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_expect_eq(renew("a", 7, 0), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(renew("a", 7, 600000), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, 0);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "");
}

CLAIM(c14_a_fence_holds_through_renewals)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 9, .fence = {S("a"), 1}};

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 60000), SHMETA_OK);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(renew("a", i, 60000), SHMETA_OK);
	cr_expect_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_watermark("orders", 0), 9);
}
