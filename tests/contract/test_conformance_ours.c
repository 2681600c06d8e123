/* SPDX-License-Identifier: Apache-2.0
 * Conformance, part C of the contract: what shmeta promises beyond its reference, clause by clause,
 * through the public API and a real writer, on each engine. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/conformance.h"

CONFORMANCE_SUITES

/* ---- C2 identity, C3 outcomes, C4 consistency, C5 snapshots ---- */

CLAIM(c2_a_topic_made_again_is_another_one_and_handles_know_it)
{
	struct shmeta_handle *handle = NULL;
	struct shmeta_partition p;
	struct shmeta_topic first, second;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_topic("orders", &first), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(api.reader, "orders", 6, 0, &handle), SHMETA_OK);
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_topic("orders", &second), SHMETA_OK);
	cr_expect_neq(second.topic_id, first.topic_id);
	cr_expect_eq(shmeta_get_partition(handle, NULL, &p, NULL), SHMETA_ABSENT);
	cr_expect_eq(api_partition("orders", 0, &p), SHMETA_OK);
	cr_expect_eq(shmeta_get_topic_by_id(api.reader, first.topic_id, NULL, &first, NULL), SHMETA_ABSENT);
	shmeta_partition_close(handle);
}

CLAIM(c3_before_the_start_in_a_gap_and_at_the_end_are_three_answers)
{
	struct shmeta_segment s;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 10, 19), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 30, 39), SHMETA_OK);
	cr_expect_eq(api_find("orders", 0, 9, &s), SHMETA_ABSENT_BEFORE_START);
	cr_expect_eq(api_find("orders", 0, 20, &s), SHMETA_ABSENT_GAP);
	cr_expect_eq(api_find("orders", 0, 40, &s), SHMETA_ABSENT_AT_END);
	cr_expect_eq(api_find("orders", 1, 0, &s), SHMETA_ABSENT);
}

CLAIM(c3_answers_carry_an_age_and_hints_say_that_they_are)
{
	struct shmeta_freshness f = {.ttl_ns = 0};
	struct shmeta_topic t;
	struct shmeta_agent a;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(api.reader, "orders", 6, NULL, &t, &f), SHMETA_OK);
	cr_expect_eq(f.ttl_ns, UINT64_C(300000000000));
	cr_expect(f.fresh && f.age_ns < f.ttl_ns && !f.hint);
	cr_expect_geq(f.txn, 1);
	memset(&f, 0, sizeof f);
	cr_assert_eq(shmeta_get_topic(api.reader, "nothing", 7, NULL, &t, &f), SHMETA_ABSENT);
	cr_expect(f.fresh && f.ttl_ns > 0, "absence has an age too");
	cr_assert_eq(shmeta_get_agent(api.reader, "a", 1, NULL, &a, &f), SHMETA_OK);
	cr_expect(f.hint);
}

CLAIM(c4_fresh_and_source_answer_what_is_there)
{
	struct shmeta_read read = {.size = sizeof read,
	                           .consistency = SHMETA_FRESH,
	                           .timeout_ms = API_WAIT_MS,
	                           .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_snapshot_info before, after;
	struct shmeta_topic t;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), SHMETA_OK);
	cr_expect_eq(shmeta_get_topic(api.reader, "nothing", 7, &read, &t, NULL), SHMETA_ABSENT);
	read.consistency = SHMETA_SOURCE;
	cr_assert_eq(shmeta_snapshot_info(api.reader, &before), SHMETA_OK);
	cr_expect_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(api.reader, &after), SHMETA_OK);
	cr_expect_geq(after.txn, before.txn);
	cr_expect_eq(shmeta_get_topic(api.reader, "nothing", 7, &read, &t, NULL), SHMETA_ABSENT);
}

CLAIM(c4_source_sees_what_somebody_else_committed_before_the_call)
{
	struct shmeta_read read = {.size = sizeof read,
	                           .consistency = SHMETA_SOURCE,
	                           .timeout_ms = API_WAIT_MS,
	                           .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_partition p;
	char sql[96];

	if (api.engine->sql == NULL)
		NOT_HERE("nobody else can reach its rows");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	for (unsigned int i = 1; i <= 50; i++) {
		(void)snprintf(sql, sizeof sql, "UPDATE partitions SET high_watermark = %u", i);
		cr_assert_eq(api_sql(sql), 0);
		cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 0, &read, &p, NULL), SHMETA_OK);
		cr_assert_eq(p.high_watermark, i);
	}
}

CLAIM(c4_cached_answers_without_the_writer_and_source_never_does)
{
	struct shmeta_read read = {
		.size = sizeof read, .consistency = SHMETA_FRESH, .timeout_ms = 100, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_freshness f;
	struct shmeta_topic t;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(kill(api.d.pid, SIGSTOP), 0);
	api_look();
	cr_expect_eq(shmeta_get_topic(api.reader, "orders", 6, NULL, &t, &f), SHMETA_OK);
	cr_expect_eq(shmeta_get_topic(api.reader, "nothing", 7, NULL, &t, &f), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, &f), SHMETA_OK, "fresh: nobody is asked");
	cr_expect(f.fresh);
	read.consistency = SHMETA_SOURCE;
	cr_expect_lt(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), 0, "nobody to ask");
	cr_assert_eq(kill(api.d.pid, SIGCONT), 0);
	read.timeout_ms = API_WAIT_MS;
	api_look();
	cr_expect_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), SHMETA_OK);
}

CLAIM(c4_fresh_asks_the_source_when_the_answer_is_stale)
{
	struct shmeta_read read = {
		.size = sizeof read, .consistency = SHMETA_FRESH, .timeout_ms = 100, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_freshness f;
	struct shmeta_partition p;
	double end;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	/* Everything is stale as soon as it is a millisecond old. */
	api_configure("ttl { topic_ms = 1ms\n partition_ms = 1ms\n segment_ms = 1ms\n list_ms = 1ms }\n");
	f.ttl_ns = 0;
	for (end = run_now_s() + 10; run_now_s() < end && f.ttl_ns != 1000000;) {
		api_look();
		cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 0, NULL, &p, &f), SHMETA_OK);
	}
	cr_assert_eq(kill(api.d.pid, SIGSTOP), 0);
	for (f.fresh = 1; run_now_s() < end && f.fresh;)
		cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 0, NULL, &p, &f), SHMETA_OK);
	cr_expect(!f.fresh && f.age_ns >= f.ttl_ns, "CACHED says that it is stale, and answers");
	cr_expect_lt(shmeta_get_partition_named(api.reader, "orders", 6, 0, &read, &p, NULL), 0, "asked in vain");
	cr_assert_eq(kill(api.d.pid, SIGCONT), 0);
	if (api.engine->sql != NULL)
		cr_assert_eq(api_sql("UPDATE partitions SET high_watermark = 77"), 0);
	/* What FRESH returns was true within the time to live: at the latest then it is the new
	 * one. */
	read.timeout_ms = API_WAIT_MS;
	api_look();
	for (end = run_now_s() + 10; run_now_s() < end;) {
		cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 0, &read, &p, NULL), SHMETA_OK);
		if (p.high_watermark == (api.engine->sql != NULL ? 77 : 0))
			break;
	}
	cr_expect_eq(p.high_watermark, api.engine->sql != NULL ? 77 : 0);
}

CLAIM(c18_source_reads_one_advisory_record_and_not_its_class)
{
	static char buffer[4096];
	const struct shmeta_read source = {.size = sizeof source,
	                                   .consistency = SHMETA_SOURCE,
	                                   .timeout_ms = API_WAIT_MS,
	                                   .buffer = buffer,
	                                   .buffer_bytes = sizeof buffer};
	const int strangers = api.engine->sql != NULL;
	struct shmeta_committed_offset o;
	struct shmeta_freshness f;
	struct shmeta_group g;
	struct shmeta_agent a;
	struct shmeta_lease l;

	cr_assert_eq(api_create("orders", 4), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	for (uint32_t i = 0; i < 4; i++) {
		cr_assert_eq(api_commit("g", "orders", i, 5, NULL), SHMETA_OK);
		cr_assert_eq(api_acquire("orders", i, "a", 100000), SHMETA_OK);
	}
	if (strangers) {
		cr_assert_eq(api_sql("UPDATE consumer_offsets SET committed_offset = 77"), 0);
		cr_assert_eq(api_sql("UPDATE agents SET address = 'elsewhere'"), 0);
		cr_assert_eq(api_sql("UPDATE partition_leases SET epoch = 9"), 0);
	}
	cr_assert_eq(shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 2, &source, &o, &f), SHMETA_OK);
	cr_expect_eq(o.committed_offset, strangers ? 77 : 5);
	cr_expect(f.fresh && f.hint);
	cr_assert_eq(shmeta_get_agent(api.reader, "a", 1, &source, &a, &f), SHMETA_OK);
	cr_expect(!strangers || (a.address.bytes == 9 && memcmp(a.address.data, "elsewhere", 9) == 0));
	cr_assert_eq(shmeta_get_lease(api.reader, "orders", 6, 3, INT64_MIN, &source, &l, &f), SHMETA_OK);
	cr_expect_eq(l.epoch, strangers ? 9 : 1);
	cr_assert_eq(shmeta_get_group(api.reader, "g", 1, &source, &g, &f), SHMETA_OK);
	cr_expect_eq(shmeta_get_lease(api.reader, "orders", 6, 4, INT64_MIN, &source, &l, &f), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_committed_offset(api.reader, "h", 1, "orders", 6, 0, &source, &o, &f), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_agent(api.reader, "b", 1, &source, &a, &f), SHMETA_ABSENT);
	cr_expect_eq(shmeta_get_group(api.reader, "h", 1, &source, &g, &f), SHMETA_ABSENT);
	cr_expect(f.fresh);
	cr_expect_eq(shmeta_get_lease(api.reader, "nothing", 7, 0, INT64_MIN, &source, &l, &f), SHMETA_ABSENT);
}

CLAIM(c4_lists_and_batches_can_be_asked_of_the_source)
{
	const struct shmeta_read source = {
		.size = sizeof source, .consistency = SHMETA_SOURCE, .timeout_ms = API_WAIT_MS};
	const int strangers = api.engine->sql != NULL;
	struct shmeta_handle *handle[2];
	enum shmeta_status status[2];
	struct shmeta_partition p[2];
	struct shmeta_committed_offset o;
	struct shmeta_iter *iter;
	struct shmeta_str name;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(api.reader, "orders", 6, 0, &handle[0]), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(api.reader, "orders", 6, 1, &handle[1]), SHMETA_OK);
	if (strangers) {
		cr_assert_eq(api_sql("UPDATE consumer_offsets SET committed_offset = 77"), 0);
		cr_assert_eq(api_sql("UPDATE partitions SET high_watermark = 78"), 0);
	}
	cr_assert_eq(shmeta_get_partitions(2, handle, &source, status, p), SHMETA_OK);
	cr_expect(status[0] == SHMETA_OK && status[1] == SHMETA_OK);
	cr_expect_eq(p[1].high_watermark, strangers ? 78 : 0);
	if (strangers)
		cr_assert_eq(api_sql("UPDATE partitions SET high_watermark = 79"), 0);
	cr_assert_eq(shmeta_list_partitions(api.reader, "orders", 6, &source, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_partition(iter, &p[0], NULL), SHMETA_OK);
	cr_expect_eq(p[0].high_watermark, strangers ? 79 : 0);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_committed_offsets(api.reader, "g", 1, &source, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_committed_offset(iter, &name, &o, NULL), SHMETA_OK);
	cr_expect_eq(o.committed_offset, strangers ? 77 : 5);
	shmeta_iter_free(iter);
	shmeta_partition_close(handle[0]);
	shmeta_partition_close(handle[1]);
}

static void *append_one(void *unused)
{
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 10};
	struct shmeta_result result;

	(void)unused;
	return shmeta_write(api.client, &op, 1, API_WAIT_MS, &result, NULL) == SHMETA_OK && result.status == SHMETA_OK
	               ? NULL
	               : api.client;
}

CLAIM(c15_who_waits_for_a_partition_is_woken_by_its_growth)
{
	struct shmeta_wait wait[2] = {{.handle = NULL}};
	void *failed = NULL;
	pthread_t thread;
	size_t ready = 0;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	for (uint32_t i = 0; i < 2; i++)
		cr_assert_eq(shmeta_partition_open(api.reader, "orders", 6, i, &wait[i].handle), SHMETA_OK);
	cr_assert_eq(shmeta_end(api.reader), SHMETA_OK);
	cr_expect_eq(shmeta_wait_partitions(wait, 2, 0, &ready), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(pthread_create(&thread, NULL, append_one, NULL), 0);
	cr_expect_eq(shmeta_wait_partitions(wait, 2, API_WAIT_MS, &ready), SHMETA_OK);
	cr_expect(ready == 1 && wait[0].status == SHMETA_OK && wait[1].status == SHMETA_ERR_TIMEOUT);
	cr_assert_eq(pthread_join(thread, &failed), 0);
	cr_expect_null(failed);
	cr_assert_eq(shmeta_begin(api.reader), SHMETA_OK);
	shmeta_partition_close(wait[0].handle);
	shmeta_partition_close(wait[1].handle);
}

CLAIM(c15_a_submitted_wait_is_over_with_the_growth_that_it_is_for)
{
	struct shmeta_watch watch[2] = {{.topic = S("orders")}, {.topic = S("orders"), .partition_id = 1}};
	struct shmeta_done done = {.size = sizeof done};
	double end = run_now_s() + API_WAIT_MS / 1000.0;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(shmeta_submit_wait(api.client, watch, 2, NULL, watch, NULL), SHMETA_OK);
	for (int i = 0; i < 20; i++) {
		(void)!shmeta_client_process(api.client, NULL);
		cr_assert_eq(shmeta_client_next_done(api.client, &done), SHMETA_END);
		(void)usleep(1000);
	}
	cr_assert_null(append_one(NULL));
	while (shmeta_client_next_done(api.client, &done) == SHMETA_END) {
		cr_assert_lt(run_now_s(), end, "it did not end");
		(void)!shmeta_client_process(api.client, NULL);
		(void)usleep(200);
	}
	cr_expect(done.status == SHMETA_OK && done.arg == watch);
	cr_expect(watch[0].status == SHMETA_OK && watch[1].status == SHMETA_ERR_TIMEOUT);
	api_look();
	cr_expect_eq(api_watermark("orders", 0), 10);
}

CLAIM(c16_a_plan_joins_slices_of_an_object_and_counts_to_the_watermark)
{
	struct shmeta_segment segments[8];
	struct shmeta_fetch_range ranges[8];
	static char buffer[8192];
	struct shmeta_fetch fetch = {.size = sizeof fetch,
	                             .from = 5,
	                             .min_bytes = 1,
	                             .max_segments = 8,
	                             .segments = segments,
	                             .max_ranges = 8,
	                             .ranges = ranges,
	                             .buffer = buffer,
	                             .buffer_bytes = sizeof buffer};
	struct shmeta_fetch_plan plan = {.size = sizeof plan};
	struct shmeta_handle *handle;
	struct shmeta_op op[3] = {0};
	uint64_t bytes;
	char id[2][64];

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	op[0] = (struct shmeta_op){.type = SHMETA_OP_COMMIT_OBJECT,
	                           .u.object = {.s3_bucket = S("b"), .s3_key = S("many"), .size_bytes = 1000}};
	for (uint64_t i = 0; i < 2; i++) {
		op[1 + i] = api_segment("orders", 0, 10 + 10 * i, 19 + 10 * i, id[i]);
		op[1 + i].type = SHMETA_OP_ADD_SLICE;
		op[1 + i].u.segment.s3_bucket = op[1 + i].u.segment.s3_key = (struct shmeta_str){NULL, 0};
		op[1 + i].u.segment.position = i * op[1].u.segment.size_bytes;
	}
	cr_assert_eq(api_do(op, 3), SHMETA_OK);
	cr_assert(api.result[1].status == SHMETA_OK && api.result[2].status == SHMETA_OK);
	cr_assert_eq(api_set_watermark("orders", 0, 20), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(api.reader, "orders", 6, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_plan_fetch(handle, &fetch, NULL, &plan, NULL), SHMETA_OK);
	cr_expect_eq(plan.segments, 2, "the second slice begins at the watermark");
	cr_expect_eq(plan.next_offset, 20);
	cr_expect_eq(plan.available_bytes, plan.bytes);
	cr_expect(plan.enough);
	cr_assert_eq(api_set_watermark("orders", 0, 30), SHMETA_OK);
	cr_assert_eq(shmeta_plan_fetch(handle, &fetch, NULL, &plan, NULL), SHMETA_OK);
	cr_expect_eq(plan.segments, 3);
	cr_assert_eq(plan.ranges, 2);
	bytes = segments[1].size_bytes + segments[2].size_bytes;
	cr_expect(ranges[1].count == 2 && ranges[1].first == 1 && ranges[1].bytes == bytes);
	cr_expect(ranges[1].s3_key.bytes == 4 && memcmp(ranges[1].s3_key.data, "many", 4) == 0);
	shmeta_partition_close(handle);
}

CLAIM(c4_leases_agents_and_offsets_are_decided_on_the_sources_word)
{
	struct shmeta_committed_offset o;
	uint64_t txn = 0;

	if (api.engine->sql == NULL)
		NOT_HERE("nobody else can reach its rows");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK);
	for (int i = 0; i < 20; i++) {
		char sql[96];

		(void)snprintf(sql, sizeof sql, "UPDATE consumer_offsets SET committed_offset = %d", 100 + i);
		cr_assert_eq(api_sql(sql), 0);
		cr_assert_eq(shmeta_refresh(api.instance, SHMETA_CLASS_OFFSET, NULL, 0, 0, API_WAIT_MS, &txn),
		             SHMETA_OK);
		api_look();
		cr_assert_eq(shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, NULL, &o, NULL),
		             SHMETA_OK);
		cr_assert_eq(o.committed_offset, 100 + (uint64_t)i);
	}
}

CLAIM(c4_a_submitted_refresh_shows_what_the_source_had_when_it_was_asked)
{
	const struct shmeta_key key = {.cls = SHMETA_CLASS_OFFSET, .topic = S("orders"), .name = S("g")};
	struct shmeta_done done = {.size = sizeof done};
	struct shmeta_committed_offset o;
	double end = run_now_s() + API_WAIT_MS / 1000.0;

	if (api.engine->sql == NULL)
		NOT_HERE("nobody else can reach its rows");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK);
	for (int i = 0; i < 20; i++) {
		char sql[96];

		(void)snprintf(sql, sizeof sql, "UPDATE consumer_offsets SET committed_offset = %d", 100 + i);
		cr_assert_eq(api_sql(sql), 0);
		cr_assert_eq(shmeta_submit_refresh(api.client, &key, 0, NULL, &done, NULL), SHMETA_OK);
		while (shmeta_client_next_done(api.client, &done) == SHMETA_END) {
			cr_assert_lt(run_now_s(), end, "it was not answered");
			(void)!shmeta_client_process(api.client, NULL);
			(void)usleep(200);
		}
		cr_assert_eq(done.status, SHMETA_OK, "%s", done.results[0].text);
		cr_expect(done.arg == &done && done.token.txn > 0);
		api_look();
		cr_assert_eq(shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, NULL, &o, NULL),
		             SHMETA_OK);
		cr_assert_eq(o.committed_offset, 100 + (uint64_t)i);
	}
}

CLAIM(c5_a_snapshot_does_not_change_underfoot)
{
	char id[64];
	struct shmeta_op op = api_segment("orders", 0, 0, 9, id);
	struct shmeta_topic t;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	op.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	cr_assert_eq(shmeta_write(api.client, &op, 1, API_WAIT_MS, api.result, NULL), SHMETA_OK);
	cr_assert_eq(api.result[0].status, SHMETA_OK);
	op = (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = S("more"), .partition_count = 1}};
	cr_assert_eq(shmeta_write(api.client, &op, 1, API_WAIT_MS, api.result, NULL), SHMETA_OK);
	cr_expect_eq(api_watermark("orders", 0), 0);
	cr_expect_str_eq(api_segments("orders", 0), "");
	cr_expect_eq(api_topic("more", &t), SHMETA_ABSENT);
	cr_expect_str_eq(api_topics(NULL, 0), "orders");
	api_look();
	cr_expect_eq(api_watermark("orders", 0), 10);
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
	cr_expect_str_eq(api_topics(NULL, 0), "more orders");
}

enum { TOGETHER = 16, ROUNDS = 300, SLOW_ROUNDS = 30 };

static uint64_t rounds(void)
{
	return api.engine->slow ? SLOW_ROUNDS : ROUNDS;
}

/* Snapshots in which the partitions of the topic did not all show the same write, or a watermark
 * lay behind its segments. Also, how often the topic was not there. In a child: no Criterion. */
static int watch_them_move(void)
{
	struct shmeta *instance = run_daemon_open(&api.d, "watcher", 0);
	struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
	struct shmeta_partition p;
	struct shmeta_handle *handle = NULL;
	struct shmeta_segment last;
	int torn = 0;

	if (reader == NULL)
		return 101;
	for (uint64_t seen = 0; seen < rounds();) {
		uint64_t first = UINT64_MAX;

		if (run_daemon_begin(reader) != SHMETA_OK)
			return 102;
		for (uint32_t i = 0; i < TOGETHER; i++) {
			enum shmeta_status status = shmeta_partition_open(reader, "orders", 6, i, &handle);

			if (status == SHMETA_OK)
				status = shmeta_get_partition(handle, NULL, &p, NULL);
			if (status == SHMETA_OK && first == UINT64_MAX)
				first = p.high_watermark;
			torn += status != SHMETA_OK || p.high_watermark != first || p.segment_count != first;
			if (status == SHMETA_OK && shmeta_last_segment(handle, NULL, &last, NULL) == SHMETA_OK)
				torn += p.high_watermark < last.end_offset + 1;
			shmeta_partition_close(handle);
			handle = NULL;
		}
		seen = first;
		(void)shmeta_end(reader);
		if (torn > 0)
			break;
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return torn > 99 ? 99 : torn;
}

CLAIM(c5_what_one_call_does_to_a_topic_shows_together_or_not_at_all)
{
	struct shmeta_op op[TOGETHER];
	char id[TOGETHER][64];
	pid_t watcher;

	cr_assert_eq(api_create("orders", TOGETHER), SHMETA_OK);
	watcher = run_fork();
	if (watcher == 0)
		_exit(watch_them_move());
	for (uint64_t round = 0; round < rounds(); round++) {
		for (uint32_t i = 0; i < TOGETHER; i++) {
			op[i] = api_segment("orders", i, round, round, id[i]);
			op[i].type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
		}
		cr_assert_eq(api_do(op, TOGETHER), SHMETA_OK, "%s", api.result[0].text);
		/* Beside it, refreshes of the whole list: a topic that is there stays there. */
		if (round % 20 == 0)
			cr_assert_eq(shmeta_refresh(api.instance, SHMETA_CLASS_LIST, NULL, 0, 0, API_WAIT_MS, NULL),
			             SHMETA_OK);
	}
	cr_expect_eq(run_reap(watcher), 0, "torn snapshots (above 100: it could not look)");
}

/* ---- C6 writes ---- */

CLAIM(c6_what_is_acknowledged_shows_in_every_new_snapshot)
{
	struct shmeta *other = run_daemon_open(&api.d, "other", 0);
	struct shmeta_reader *reader;
	struct shmeta_partition p;

	cr_assert_not_null(other);
	reader = run_daemon_reader(other);
	cr_assert_not_null(reader);
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	for (uint64_t i = 0; i < (api.engine->slow ? 40 : 200); i++) {
		cr_assert_eq(api_append("orders", 0, i, i), SHMETA_OK);
		cr_assert_eq(api_watermark("orders", 0), i + 1);
		cr_assert_eq(shmeta_wait_token(other, &api.token, 0), SHMETA_OK);
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_assert_eq(shmeta_get_partition_named(reader, "orders", 6, 0, NULL, &p, NULL), SHMETA_OK);
		cr_assert_eq(p.high_watermark, i + 1);
		cr_assert_eq(p.segment_count, i + 1);
		cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	}
	shmeta_reader_free(reader);
	shmeta_close(other);
}

CLAIM(c6_an_identical_add_is_told_from_another)
{
	char id[64];
	struct shmeta_op op = api_segment("orders", 0, 0, 9, id);

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_ALREADY_EXISTS);
	cr_expect_eq(api.result[0].existing.end_offset, 9);
	cr_expect_eq(api.result[0].existing.size_bytes, 100);
	op.u.segment.size_bytes = 101;
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_CONFLICT);
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
}

/* What became of the submitted call. */
struct fate {
	int told;
	enum shmeta_status status;
};

static void note_fate(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                      const struct shmeta_token *token)
{
	struct fate *fate = arg;

	(void)token;
	fate->told++;
	fate->status = status != SHMETA_OK ? status : count == 1 ? results[0].status : SHMETA_ERR_SYSTEM;
}

CLAIM(c6_a_write_whose_answer_is_lost_is_unknown_and_a_retry_says_what_became_of_it)
{
	char id[64];
	struct shmeta_op op = api_segment("orders", 0, 0, 9, id);
	struct fate fate = {.told = 0};
	double end = run_now_s() + API_WAIT_MS / 1000.0;

	if (api.engine->sql == NULL)
		NOT_HERE("its rows die with the writer");
	op.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	/* Sent to a writer that is stopped, which is then killed: nobody can say what it did. */
	cr_assert_eq(kill(api.d.pid, SIGSTOP), 0);
	cr_assert_eq(shmeta_submit(api.client, &op, 1, note_fate, &fate), SHMETA_OK);
	(void)!shmeta_client_process(api.client, NULL);
	cr_assert_eq(run_daemon_end(&api.d, SIGKILL), 128 + SIGKILL);
	while (fate.told == 0 && run_now_s() < end) {
		uint32_t wait = 0;

		(void)!shmeta_client_process(api.client, &wait);
		(void)usleep(1000);
	}
	cr_assert_eq(fate.told, 1, "once");
	cr_expect_eq(fate.status, SHMETA_ERR_OUTCOME_UNKNOWN, "%s", shmeta_strerror(fate.status));
	cr_assert_eq(run_daemon_start(&api.d, api.source), 0);
	api_as(NULL);
	if (api_do(&op, 1) != SHMETA_OK)
		cr_expect_eq(api.result[0].status, SHMETA_ERR_ALREADY_EXISTS, "%s", api.result[0].text);
	cr_expect_str_eq(api_segments("orders", 0), "0-9", "once, whatever had become of it");
	cr_expect_eq(api_watermark("orders", 0), 10);
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_ALREADY_EXISTS);
}

CLAIM(c6_a_request_id_is_answered_once_and_done_once)
{
	struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                       .name = S("orders"),
	                       .agent_id = S("a"),
	                       .duration_ms = 100000,
	                       .request_id = {7, 8}};

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 1);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 1, "the first one's answer");
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:a@1");
	op.request_id[1] = 9;
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 2);
}

CLAIM(c6_another_operation_under_an_id_is_a_conflict_and_not_done)
{
	char id[64];
	struct shmeta_op group = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = S("g")},
			 add = api_segment("orders", 0, 0, 9, id);

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(shmeta_request_id(group.request_id), SHMETA_OK);
	memcpy(add.request_id, group.request_id, sizeof add.request_id);
	cr_assert_eq(api_do(&group, 1), SHMETA_OK);
	cr_expect_eq(api_do(&add, 1), SHMETA_ERR_CONFLICT);
	cr_expect_not_null(strstr(api.result[0].text, "the request id was used for another operation"), "%s",
	                   api.result[0].text);
	cr_expect_str_eq(api_segments("orders", 0), "");
	cr_assert_eq(shmeta_request_id(add.request_id), SHMETA_OK);
	cr_assert_eq(api_do(&add, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
}

/* ---- C7 leases ---- */

CLAIM(c7_epochs_never_go_back_through_release_deregistration_and_recreation)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_release("orders", 0, "a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 2);
	cr_assert_eq(api_deregister("a"), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 3);
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 4);
}

CLAIM(c7_epochs_survive_restart)
{
	if (api.engine->sql == NULL)
		NOT_HERE("its rows die with the writer");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_release("orders", 0, "a"), SHMETA_OK);
	api_restart();
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 2);
}

CLAIM(c7_a_fence_lets_only_the_current_holder_write)
{
	char id[64];
	struct shmeta_op op[3];
	static const struct {
		const char *agent;
		uint64_t epoch;
		enum shmeta_status answer;
	} fences[] = {{"a", 1, SHMETA_ERR_FENCED},
	              {"b", 2, SHMETA_ERR_FENCED},
	              {"a", 3, SHMETA_ERR_FENCED},
	              {"a", 2, SHMETA_OK}};

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	for (size_t i = 0; i < sizeof fences / sizeof *fences; i++) {
		char other[64];

		op[0] = api_segment("orders", 0, 0, 9, id);
		op[1] = api_segment("orders", 0, 10, 19, other);
		op[1].type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
		op[2] = (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 30};
		for (int k = 0; k < 3; k++)
			op[k].fence = (struct shmeta_fence){S(fences[i].agent), fences[i].epoch};
		(void)api_do(op, 3);
		for (int k = 0; k < 3; k++)
			cr_expect_eq(api.result[k].status, fences[i].answer, "fence %zu, operation %d: %s", i, k,
			             api.result[k].text);
		cr_expect_eq(api_watermark("orders", 0), fences[i].answer == SHMETA_OK ? 30 : 0);
	}
	cr_expect_str_eq(api_segments("orders", 0), "0-9 10-19");
	cr_assert_eq(api_release("orders", 0, "a"), SHMETA_OK);
	cr_expect_eq(api_do(&op[2], 1), SHMETA_ERR_FENCED, "released");
}

CLAIM(c7_a_duration_of_nothing_is_refused_and_writes_nothing)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_expect_eq(api_acquire("orders", 0, "a", 0), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(api_acquire("orders", 0, "a", -5), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "");
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 1);
}

CLAIM(c7_a_lease_is_handed_to_the_agent_that_accepted_it)
{
	struct shmeta_op offer = {.type = SHMETA_OP_OFFER_LEASE,
	                          .name = S("orders"),
	                          .agent_id = S("a"),
	                          .to_agent_id = S("b"),
	                          .duration_ms = 100000};
	struct shmeta_op accept = {.type = SHMETA_OP_ACCEPT_LEASE, .agent_id = S("a")};
	struct shmeta_op complete = {.type = SHMETA_OP_COMPLETE_LEASE, .agent_id = S("a"), .duration_ms = 100000};
	struct shmeta_op reject = {.type = SHMETA_OP_REJECT_LEASE, .agent_id = S("a")};

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_expect_eq(api_do(&offer, 1), SHMETA_ERR_CONFLICT, "not the holder");
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_do(&offer, 1), SHMETA_OK, "%s", api.result[0].text);
	accept.transfer_id = complete.transfer_id = api.result[0].transfer_id;
	cr_expect_eq(api_do(&offer, 1), SHMETA_ERR_CONFLICT, "on offer already");
	cr_expect_eq(api_do(&accept, 1), SHMETA_ERR_CONFLICT, "not addressed to it");
	cr_expect_eq(api_do(&complete, 1), SHMETA_ERR_CONFLICT, "not accepted");
	accept.agent_id = S("b");
	cr_assert_eq(api_do(&accept, 1), SHMETA_OK);
	cr_assert_eq(api_do(&complete, 1), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 2);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:b@2");
	cr_expect_eq(api_do(&complete, 1), SHMETA_ERR_CONFLICT, "only once");
	offer.agent_id = S("b");
	offer.to_agent_id = S("a");
	cr_assert_eq(api_do(&offer, 1), SHMETA_OK);
	reject.transfer_id = api.result[0].transfer_id;
	cr_assert_eq(api_do(&reject, 1), SHMETA_OK);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:b@2");
	reject.transfer_id = 999;
	cr_expect_eq(api_do(&reject, 1), SHMETA_ERR_NOT_FOUND);
}

/* ---- C8 more operations ---- */

CLAIM(c8_a_segment_and_its_watermark_are_one_write)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	cr_expect_eq(api_watermark("orders", 0), 10);
	cr_expect_eq(api_append("orders", 0, 0, 99), SHMETA_ERR_CONFLICT);
	cr_expect_eq(api_watermark("orders", 0), 10, "neither");
}

CLAIM(c8_topics_are_listed_by_prefix_and_by_glob)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_create("orders.eu", 1), SHMETA_OK);
	cr_assert_eq(api_create("reorders", 1), SHMETA_OK);
	cr_assert_eq(api_create("a?c", 1), SHMETA_OK);
	cr_expect_str_eq(api_topics("orders", 0), "orders orders.eu");
	cr_expect_str_eq(api_topics("orders", 1), "orders", "anchored");
	cr_expect_str_eq(api_topics("*orders", 1), "orders reorders");
	cr_expect_str_eq(api_topics("*o*eu", 1), "orders.eu");
	cr_expect_str_eq(api_topics("a?c", 1), "a?c");
	cr_expect_str_eq(api_topics("?rders", 1), "", "only * is special");
}

CLAIM(c8_a_segment_is_found_by_time)
{
	struct shmeta_handle *handle = NULL;
	struct shmeta_segment s;
	struct shmeta_op op[2];
	char id[2][64];

	if (!api.engine->timestamps)
		NOT_HERE("its segments have no times");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	for (uint64_t i = 0; i < 2; i++) {
		op[i] = api_segment("orders", 0, i * 10, i * 10 + 9, id[i]);
		op[i].type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
		op[i].u.segment.min_timestamp_ms = 1000 + (int64_t)i * 100;
		op[i].u.segment.max_timestamp_ms = 1099 + (int64_t)i * 100;
	}
	cr_assert_eq(api_do(op, 2), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(api.reader, "orders", 6, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_find_segment_for_timestamp(handle, 0, NULL, &s, NULL), SHMETA_OK);
	cr_expect_eq(s.base_offset, 0);
	cr_assert_eq(shmeta_find_segment_for_timestamp(handle, 1100, NULL, &s, NULL), SHMETA_OK);
	cr_expect_eq(s.base_offset, 10);
	cr_expect_eq(shmeta_find_segment_for_timestamp(handle, 1200, NULL, &s, NULL), SHMETA_ABSENT_AT_END);
	shmeta_partition_close(handle);
}

CLAIM(c8_a_topic_knows_its_segments_and_bytes)
{
	struct shmeta_topic_stats stats;

	cr_assert_eq(api_create("orders", 3), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	cr_assert_eq(api_append("orders", 2, 0, 9), SHMETA_OK);
	cr_assert_eq(shmeta_topic_stats(api.reader, "orders", 6, NULL, &stats, NULL), SHMETA_OK);
	cr_expect(stats.partition_count == 3 && stats.segment_count == 2 && stats.size_bytes == 200);
	cr_expect_eq(shmeta_topic_stats(api.reader, "nothing", 7, NULL, &stats, NULL), SHMETA_ABSENT);
}

CLAIM(c8_batches_are_answered_in_the_order_of_their_input)
{
	struct shmeta_str names[3] = {S("b"), S("nothing"), S("a")};
	enum shmeta_status status[3];
	struct shmeta_topic topics[3];
	struct shmeta_handle *handle = NULL;
	struct shmeta_segment found[2];
	struct shmeta_op op[4];
	char id[4][64];

	cr_assert_eq(api_create("a", 1), SHMETA_OK);
	cr_assert_eq(api_create("b", 2), SHMETA_OK);
	cr_assert_eq(shmeta_get_topics(api.reader, 3, names, NULL, status, topics), SHMETA_OK);
	cr_expect(status[0] == SHMETA_OK && topics[0].partition_count == 2);
	cr_expect_eq(status[1], SHMETA_ABSENT);
	cr_expect(status[2] == SHMETA_OK && topics[2].partition_count == 1);
	for (uint64_t i = 0; i < 4; i++) {
		op[i] = api_segment(i == 2 ? "nothing" : "a", 0, i * 10, i * 10 + 9, id[i]);
		op[i].type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	}
	op[1].u.segment.end_offset = 5;
	cr_expect_eq(api_do(op, 4), SHMETA_OK);
	cr_expect_eq(api.result[1].status, SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(api.result[2].status, SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_expect_eq(api.result[3].status, SHMETA_OK);
	cr_expect_str_eq(api_segments("a", 0), "0-9 30-39", "one that fails harms no other");
	cr_assert_eq(shmeta_partition_open(api.reader, "a", 1, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_find_segments(2, (struct shmeta_find[]){{handle, 35}, {handle, 15}}, NULL, status, found),
	             SHMETA_OK);
	cr_expect(status[0] == SHMETA_OK && found[0].base_offset == 30);
	cr_expect_eq(status[1], SHMETA_ABSENT_GAP);
	shmeta_partition_close(handle);
}

CLAIM(c8_an_object_is_gone_when_its_last_slice_is)
{
	char id[3][64], text[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_op op[4] = {{.type = SHMETA_OP_COMMIT_OBJECT,
	                           .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/1"), .size_bytes = 500}}};
	struct shmeta_op confirm = {.type = SHMETA_OP_CONFIRM_OBJECT_DELETED,
	                            .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/1")}};
	struct shmeta_segment s;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	for (uint32_t i = 0; i < 3; i++) {
		op[i + 1] = api_segment("orders", i, 0, 9, id[i]);
		op[i + 1].type = SHMETA_OP_ADD_SLICE;
		op[i + 1].u.segment.position = i * 100;
		op[i + 1].u.segment.s3_bucket = op[i + 1].u.segment.s3_key = S("");
	}
	cr_assert_eq(api_do(op, 4), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[1].status, SHMETA_OK);
	cr_expect_eq(api.result[2].status, SHMETA_OK);
	cr_expect_eq(api.result[3].status, SHMETA_ERR_PARTITION_NOT_FOUND, "each slice has its own");
	cr_expect_eq(api_watermark("orders", 1), 10);
	cr_assert_eq(api_find("orders", 1, 5, &s), SHMETA_OK);
	cr_assert_eq(shmeta_segment_strings_named(api.reader, "orders", 6, &s, text, sizeof text), SHMETA_OK);
	cr_expect_str_eq(s.s3_bucket.data, "b");
	cr_expect_str_eq(s.s3_key.data, "obj/1");
	cr_expect_eq(s.position, 100);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_ERR_CONFLICT, "it has slices");
	cr_assert_eq(api_delete_before("orders", 0, 10), SHMETA_OK);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_ERR_CONFLICT);
	cr_assert_eq(api_delete_before("orders", 1, 10), SHMETA_OK);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_OK, "idempotent");
}

/* "key:slices" of each object, with "!" where it is known to have none; or the error. */
static const char *listed(uint32_t flags)
{
	static char text[400];
	struct shmeta_objects *list;
	struct shmeta_object_info info;
	enum shmeta_status status = shmeta_list_objects(api.instance, flags, API_WAIT_MS, &list);
	size_t used = 0;

	if (status != SHMETA_OK)
		return shmeta_last_error(api.instance, text, sizeof text);
	text[0] = '\0';
	while ((status = shmeta_next_object(list, &info)) == SHMETA_OK)
		used += (size_t)snprintf(text + used, sizeof text - used, "%.*s:%d%s ", (int)info.object.s3_key.bytes,
		                         info.object.s3_key.data, (int)info.slices,
		                         info.unreferenced_since_ms != 0 ? "!" : "");
	shmeta_objects_free(list);
	return status == SHMETA_END ? text : shmeta_strerror(status);
}

CLAIM(c8_objects_are_listed_and_without_slices_not_deletable_before_their_grace)
{
	struct shmeta_op op[2] = {{.type = SHMETA_OP_COMMIT_OBJECT,
	                           .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/2"), .size_bytes = 500}}};
	struct shmeta_op confirm = {.type = SHMETA_OP_CONFIRM_OBJECT_DELETED,
	                            .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/1")}};
	char id[64];

	cr_expect_str_eq(listed(0), "");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	for (uint64_t i = 0; i < 2; i++) {
		op[1] = api_segment("orders", 0, i * 10, i * 10 + 9, id);
		op[1].type = SHMETA_OP_ADD_SLICE;
		op[1].u.segment.s3_bucket = op[1].u.segment.s3_key = S("");
		cr_assert_eq(api_do(op, 2), SHMETA_OK, "%s", api.result[0].text);
		cr_assert_eq(api.result[1].status, SHMETA_OK, "%s", api.result[1].text);
		op[0].u.object.s3_key = S("obj/1");
	}
	cr_expect_str_eq(listed(0), "obj/1:1 obj/2:1 ", "in order of their keys");
	cr_assert_eq(api_delete_before("orders", 0, 20), SHMETA_OK);
	cr_expect_str_eq(listed(SHMETA_OBJECTS_DELETABLE), "", "their grace begins");
	cr_expect_str_eq(listed(0), "obj/1:0! obj/2:0! ");
	cr_assert_eq(api_do(&confirm, 1), SHMETA_OK);
	cr_assert_eq(api_do(&confirm, 1), SHMETA_OK, "idempotent");
	cr_expect_str_eq(listed(0), "obj/2:0! ");
	cr_expect_eq(shmeta_list_objects(api.instance, 2, API_WAIT_MS, &(struct shmeta_objects *){NULL}),
	             SHMETA_ERR_INVALID_ARGUMENT);
}

/* ---- C9 limits ---- */

CLAIM(c20_a_read_of_the_source_leaves_the_snapshot_alone_unless_it_may_move)
{
	static char buffer[SHMETA_NAME_MAX + SHMETA_STRING_MAX + SHMETA_MAP_MAX];
	struct shmeta_read read = {.size = sizeof read,
	                           .consistency = SHMETA_SOURCE,
	                           .timeout_ms = API_WAIT_MS,
	                           .buffer = buffer,
	                           .buffer_bytes = sizeof buffer};
	struct shmeta_snapshot_info before, after;
	struct shmeta_topic old, t;
	struct shmeta_segment s;
	struct shmeta_iter *iter;
	char id[64];
	const struct shmeta_op add = api_segment("orders", 0, 0, 9, id);
	struct shmeta_result result;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(api.reader, &before), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(api.reader, "orders", 6, NULL, &old, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_list_topics(api.reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	/* Written past the snapshot that is open. */
	cr_assert_eq(shmeta_write(api.client, &add, 1, API_WAIT_MS, &result, NULL), SHMETA_OK);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
	cr_assert_eq(shmeta_find_segment_named(api.reader, "orders", 6, 0, 5, &read, &s, NULL), SHMETA_OK);
	cr_expect_eq(s.end_offset, 9);
	cr_expect(s.id.data >= buffer && s.id.data < buffer + sizeof buffer && s.id.bytes == strlen(id));
	cr_assert_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), SHMETA_OK);
	cr_expect(t.name.data >= buffer && t.name.data < buffer + sizeof buffer);
	cr_assert_eq(shmeta_snapshot_info(api.reader, &after), SHMETA_OK);
	cr_expect_eq(after.txn, before.txn);
	cr_expect_eq(memcmp(old.name.data, "orders", 6), 0);
	cr_expect_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_OK);
	cr_expect_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_expect_neq(shmeta_find_segment_named(api.reader, "orders", 6, 0, 5, NULL, &s, NULL), SHMETA_OK);
	read.flags = SHMETA_READ_MAY_MOVE;
	cr_assert_eq(shmeta_find_segment_named(api.reader, "orders", 6, 0, 5, &read, &s, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(api.reader, &after), SHMETA_OK);
	cr_expect_gt(after.txn, before.txn);
	cr_expect_eq(shmeta_find_segment_named(api.reader, "orders", 6, 0, 5, NULL, &s, NULL), SHMETA_OK);
}

CLAIM(c22_a_name_that_cannot_exist_is_absent)
{
	static const char *const wrong[] = {"", "a\nb", "a\x7f", "\xff\xfe", "\xc3"};
	const struct shmeta_read source = {
		.size = sizeof source, .consistency = SHMETA_SOURCE, .timeout_ms = API_WAIT_MS};
	struct shmeta_freshness f;
	struct shmeta_partition p;
	struct shmeta_topic t;
	struct shmeta_agent a;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		cr_expect_eq(shmeta_get_topic(api.reader, wrong[i], strlen(wrong[i]), NULL, &t, &f), SHMETA_ABSENT);
		cr_expect(f.fresh);
		cr_expect_eq(shmeta_get_partition_named(api.reader, wrong[i], strlen(wrong[i]), 0, &source, &p, &f),
		             SHMETA_ABSENT);
		cr_expect(f.fresh);
		cr_expect_eq(shmeta_get_agent(api.reader, wrong[i], strlen(wrong[i]), NULL, &a, &f), SHMETA_ABSENT);
		cr_expect(f.fresh);
	}
}

CLAIM(c9_names_are_249_bytes_of_printable_utf_8)
{
	char name[252];
	static const char *const wrong[] = {"", "a\nb", "a\x7f", "\xff\xfe", "\xc3"};

	memset(name, 'n', sizeof name);
	name[250] = '\0';
	cr_expect_eq(api_create(name, 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_not_null(strstr(api.result[0].text, "topic name"));
	cr_expect_not_null(strstr(api.result[0].text, "249"));
	name[249] = '\0';
	cr_expect_eq(api_create(name, 1), SHMETA_OK);
	cr_expect_str_eq(api_topics(NULL, 0), name);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		cr_expect_eq(api_create(wrong[i], 1), SHMETA_ERR_INVALID_ARGUMENT, "name %zu", i);
		cr_expect_neq(api.result[0].text[0], '\0');
		cr_expect_null(strchr(api.result[0].text, '\n'), "escaped");
		cr_expect_eq(api_register(wrong[i]), SHMETA_ERR_INVALID_ARGUMENT, "agent %zu", i);
		cr_expect_eq(api_commit(wrong[i], name, 0, 1, NULL), SHMETA_ERR_INVALID_ARGUMENT, "group %zu", i);
	}
	cr_expect_str_eq(api_topics(NULL, 0), name);
	cr_expect_str_eq(api_groups(), "");
	cr_expect_str_eq(api_agents(NULL, NULL, 0), "");
}

CLAIM(c9_a_topic_has_100000_partitions_at_most)
{
	struct shmeta_topic t;

	cr_expect_eq(api_create("wide", 100001), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_not_null(strstr(api.result[0].text, "partition_count"));
	cr_expect_not_null(strstr(api.result[0].text, "100001"));
	cr_expect_not_null(strstr(api.result[0].text, "100000"));
	cr_expect_eq(api_topic("wide", &t), SHMETA_ABSENT);
}

CLAIM(c9_offsets_end_below_2_to_the_63)
{
	const uint64_t most = INT64_MAX;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(api_set_watermark("orders", 0, most + 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(api_add("orders", 0, most + 1, most + 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(api_commit("g", "orders", 0, most + 1, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(api_append("orders", 0, most, most), SHMETA_ERR_INVALID_ARGUMENT, "no watermark behind it");
	cr_expect_eq(api_watermark("orders", 0), 0);
	cr_expect_eq(api_append("orders", 0, most - 1, most - 1), SHMETA_OK);
	cr_expect_eq(api_base("orders", 0, most - 1), most - 1);
}

CLAIM(c9_a_map_is_64_kib_at_most)
{
	char *map = calloc(1, SHMETA_MAP_MAX + 1);
	uint32_t key = 1, value = SHMETA_MAP_MAX - 9 + 1;
	struct shmeta_op op = {
		.type = SHMETA_OP_CREATE_TOPIC,
		.u.topic = {.name = S("orders"), .partition_count = 1, .config = {map, SHMETA_MAP_MAX + 1}}};
	struct shmeta_topic t;

	cr_assert_not_null(map);
	memset(map, 'v', SHMETA_MAP_MAX + 1);
	memcpy(map, &key, 4);
	memcpy(map + 4, &value, 4);
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(api_topic("orders", &t), SHMETA_ABSENT);
	value--;
	memcpy(map + 4, &value, 4);
	op.u.topic.config.bytes--;
	cr_expect_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_topic("orders", &t), SHMETA_OK);
	cr_expect_eq(t.config.bytes, SHMETA_MAP_MAX);
	cr_expect_arr_eq(t.config.data, map, SHMETA_MAP_MAX);
	free(map);
}

/* ---- C17 ---- */

/* How often the snapshot's journal tells of the key since that position; -1: too old. A key's topic
 * or name is `text`. */
static int times_told(const struct shmeta_token *since, enum shmeta_class cls, const char *text, uint32_t partition,
                      bool deleted)
{
	struct shmeta_change change;
	struct shmeta_iter *iter;
	int times = 0;

	if (shmeta_changes_since(api.reader, since, &iter) != SHMETA_OK)
		return -1;
	while (shmeta_next_change(iter, &change) == SHMETA_OK) {
		struct shmeta_str of = change.name.bytes > 0 ? change.name : change.topic;

		times += change.cls == cls && change.partition_id == partition && (change.deleted != 0) == deleted &&
		         of.bytes == strlen(text) && memcmp(of.data, text, of.bytes) == 0;
	}
	shmeta_iter_free(iter);
	return times;
}

static struct shmeta_token position(void)
{
	struct shmeta_snapshot_info info;

	cr_assert_eq(shmeta_snapshot_info(api.reader, &info), SHMETA_OK);
	return (struct shmeta_token){info.generation, info.txn};
}

CLAIM(c17_the_keys_of_what_changed_are_told_and_of_another_generation_it_is_too_old)
{
	struct shmeta_token before, made, now;

	before = position();
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_expect_geq(times_told(&before, SHMETA_CLASS_TOPIC, "orders", 0, false), 1);
	cr_expect_geq(times_told(&before, SHMETA_CLASS_PARTITION, "orders", 1, false), 1);
	made = position();
	cr_assert_eq(api_append("orders", 1, 0, 9), SHMETA_OK);
	cr_expect_geq(times_told(&made, SHMETA_CLASS_PARTITION, "orders", 1, false), 1);
	cr_expect_eq(times_told(&made, SHMETA_CLASS_PARTITION, "orders", 0, false), 0, "it did not change");
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect_geq(times_told(&made, SHMETA_CLASS_AGENT, "a", 0, false), 1);
	cr_expect_geq(times_told(&made, SHMETA_CLASS_LEASE, "orders", 0, false), 1);
	now = position();
	cr_expect_eq(times_told(&now, SHMETA_CLASS_LEASE, "orders", 0, false), 0, "nothing since");
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_expect_geq(times_told(&now, SHMETA_CLASS_TOPIC, "orders", 0, true), 1);
	cr_expect_geq(times_told(&now, SHMETA_CLASS_PARTITION, "orders", 1, true), 1);
	cr_expect_geq(times_told(&now, SHMETA_CLASS_LEASE, "orders", 0, true), 1);
	now.generation++;
	cr_expect_eq(times_told(&now, SHMETA_CLASS_TOPIC, "orders", 0, true), -1);
}

/* ---- C19 ---- */

CLAIM(c19_a_read_that_fills_nothing_is_answered_as_any_other)
{
	static char buffer[SHMETA_NAME_MAX + SHMETA_STRING_MAX + SHMETA_MAP_MAX];
	struct shmeta_read read = {.size = sizeof read,
	                           .timeout_ms = API_WAIT_MS,
	                           .flags = SHMETA_READ_NO_FILL,
	                           .buffer = buffer,
	                           .buffer_bytes = sizeof buffer};
	static const enum shmeta_consistency ways[] = {SHMETA_FRESH, SHMETA_SOURCE};
	struct shmeta_partition p;
	struct shmeta_segment s;
	struct shmeta_topic t;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_append("orders", 1, 0, 9), SHMETA_OK);
	for (size_t i = 0; i < 2; i++) {
		read.consistency = ways[i];
		cr_assert_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), SHMETA_OK);
		cr_expect_eq(t.partition_count, 2);
		cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 1, &read, &p, NULL), SHMETA_OK);
		cr_expect_eq(p.high_watermark, 10);
		cr_assert_eq(shmeta_find_segment_named(api.reader, "orders", 6, 1, 5, &read, &s, NULL), SHMETA_OK);
		cr_expect(s.base_offset == 0 && s.end_offset == 9);
		cr_expect_eq(shmeta_find_segment_named(api.reader, "orders", 6, 1, 10, &read, &s, NULL),
		             SHMETA_ABSENT_AT_END);
		cr_expect_eq(shmeta_get_topic(api.reader, "other", 5, &read, &t, NULL), SHMETA_ABSENT);
	}
}

/* ---- C21 ---- */

enum { C21_RECORDS = 9 };

/* Lookups that nothing but an unreadable row keeps from OK: each is answered `expected`, or is told
 * by its number. */
static void c21_expect_each(const struct shmeta_read *read, uint32_t topic_id, enum shmeta_status expected)
{
	enum shmeta_status status[C21_RECORDS];
	struct shmeta_committed_offset o;
	struct shmeta_partition p;
	struct shmeta_segment s;
	struct shmeta_agent a;
	struct shmeta_lease l;
	struct shmeta_topic t;

	status[0] = shmeta_get_topic(api.reader, "broken", 6, read, &t, NULL);
	status[1] = shmeta_get_partition_named(api.reader, "broken", 6, 0, read, &p, NULL);
	status[2] = shmeta_find_segment_named(api.reader, "broken", 6, 0, 5, read, &s, NULL);
	status[3] = shmeta_get_partition_named(api.reader, "orders", 6, 1, read, &p, NULL);
	status[4] = shmeta_find_segment_named(api.reader, "orders", 6, 0, 15, read, &s, NULL);
	status[5] = shmeta_get_agent(api.reader, "a", 1, read, &a, NULL);
	status[6] = shmeta_get_lease(api.reader, "orders", 6, 0, INT64_MIN, read, &l, NULL);
	status[7] = shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, read, &o, NULL);
	/* A topic that is read again has another number. */
	status[8] = expected == SHMETA_OK ? SHMETA_OK : shmeta_get_topic_by_id(api.reader, topic_id, read, &t, NULL);
	for (int i = 0; i < C21_RECORDS; i++)
		cr_expect_eq(status[i], expected, "lookup %d, consistency %d: %s", i,
		             read == NULL ? 0 : (int)read->consistency, shmeta_strerror(status[i]));
}

/* What hands have done to the rows is read. */
static void c21_reread(void)
{
	static const enum shmeta_class classes[] = {SHMETA_CLASS_TOPIC, SHMETA_CLASS_SEGMENT, SHMETA_CLASS_AGENT,
	                                            SHMETA_CLASS_LEASE, SHMETA_CLASS_OFFSET};

	for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
		cr_assert_eq(shmeta_refresh(api.instance, classes[i], NULL, 0, 0, API_WAIT_MS, NULL), SHMETA_OK);
	api_look();
}

/* An agent's address of `bytes`; the limit is 1024. */
static void c21_set_address(int bytes)
{
	char sql[1200];

	(void)snprintf(sql, sizeof sql, "UPDATE agents SET address = '%0*d'", bytes, 0);
	cr_assert_eq(api_sql(sql), 0);
}

CLAIM(c21_what_cannot_be_read_is_unknown_with_what_is_below_it_and_nothing_else_is)
{
	static char buffer[SHMETA_NAME_MAX + SHMETA_STRING_MAX + SHMETA_MAP_MAX];
	struct shmeta_read read = {
		.size = sizeof read, .timeout_ms = API_WAIT_MS, .buffer = buffer, .buffer_bytes = sizeof buffer};
	static const enum shmeta_consistency ways[] = {SHMETA_CACHED, SHMETA_FRESH, SHMETA_SOURCE};
	struct shmeta_segment s;
	struct shmeta_iter *iter;
	struct shmeta_topic t;

	if (api.engine->sql == NULL)
		NOT_HERE("its rows come by shmeta's own operations, which let in none that cannot be read");
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_create("broken", 1), SHMETA_OK);
	for (uint64_t base = 0; base < 30; base += 10)
		cr_assert_eq(api_append("orders", 0, base, base + 9), SHMETA_OK);
	cr_assert_eq(api_append("broken", 0, 0, 9), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK);
	cr_assert_eq(api_topic("broken", &t), SHMETA_OK);

	cr_assert_eq(api_sql("UPDATE topics SET partition_count = 100001 WHERE name = 'broken'"), 0);
	cr_assert_eq(api_sql("UPDATE partitions SET high_watermark = -1 WHERE topic = 'orders' AND partition_id = 1"),
	             0);
	cr_assert_eq(api_sql("UPDATE segments SET size_bytes = -1 WHERE base_offset = 10"), 0);
	cr_assert_eq(api_sql("UPDATE partition_leases SET epoch = -1"), 0);
	cr_assert_eq(api_sql("UPDATE consumer_offsets SET committed_offset = -1"), 0);
	c21_set_address(1100);
	c21_reread();
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		read.consistency = ways[i];
		c21_expect_each(&read, t.topic_id, SHMETA_UNKNOWN);
	}
	cr_expect_eq(api_find("orders", 0, 25, &s), SHMETA_OK);
	cr_expect_eq(api_find("orders", 0, 30, &s), SHMETA_ABSENT_AT_END);
	cr_expect_eq(api_topic("nothing", &t), SHMETA_ABSENT);
	cr_expect_str_eq(api_topics(NULL, 0), "orders");
	cr_assert_eq(shmeta_list_topics(api.reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_expect_eq(shmeta_iter_complete(iter), SHMETA_UNKNOWN, "one is missing");
	shmeta_iter_free(iter);

	cr_assert_eq(api_sql("UPDATE topics SET partition_count = 1 WHERE name = 'broken'"), 0);
	cr_assert_eq(api_sql("UPDATE partitions SET high_watermark = 0 WHERE topic = 'orders' AND partition_id = 1"),
	             0);
	cr_assert_eq(api_sql("UPDATE segments SET size_bytes = 100 WHERE base_offset = 10"), 0);
	cr_assert_eq(api_sql("UPDATE partition_leases SET epoch = 1"), 0);
	cr_assert_eq(api_sql("UPDATE consumer_offsets SET committed_offset = 5"), 0);
	c21_set_address(9);
	c21_reread();
	c21_expect_each(NULL, 0, SHMETA_OK);
}
