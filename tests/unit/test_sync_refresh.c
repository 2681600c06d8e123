/* SPDX-License-Identifier: Apache-2.0
 * What readers ask for: one query however many ask, an answer each, and never something older over
 * something newer. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_refresh, .timeout = 60);

static struct fixture f;

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static uint64_t fetches(void)
{
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	return stats.calls[MEMORY_FETCH];
}

/* A source whose feed says nothing, so that only a refresh can show a change. */
static void open_silent(void)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_topic(&f, "u", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	memory_silence(f.db, true);
	f.now_ns += 1000000000;
}

Test(sync_refresh, five_hundred_requests_for_one_key_are_one_fetch_and_five_hundred_answers)
{
	open_silent();
	fixture_add_segment(&f, "t", 2, 10000, 1000);

	uint64_t before = fetches(), asked_ns = f.now_ns;

	for (uint64_t i = 0; i < 500; i++)
		cr_assert_eq(fixture_refresh(&f, i % 2 ? SHMETA_CLASS_SEGMENT : SHMETA_CLASS_PARTITION, "t", 2, i),
		             SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fetches(), before + 1);
	cr_assert_eq(f.answer_count, 500);
	for (uint64_t i = 0; i < 500; i++) {
		const struct fixture_answer *a = fixture_answer(&f, i);

		cr_assert_eq(a->status, SHMETA_OK, "%s", a->sentence);
		cr_assert_eq(a->txn, fixture_committed(&f));
		cr_assert_eq(a->generation, 1);
		cr_assert_eq(a->synced_at_ns, asked_ns);
	}
	cr_assert_eq(fixture_counters(&f).refresh_requests, 500);
	cr_assert_eq(fixture_counters(&f).refresh_coalesced, 499);
	SAME();
	fixture_done(&f);
}

static void ask_again(void *arg)
{
	(void)arg;
	if (f.answer_count == 0 && fixture_counters(&f).fetches <= 1)
		fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 2);
}

Test(sync_refresh, a_request_for_a_key_that_is_being_read_shares_that_read)
{
	open_silent();

	uint64_t before = fetches();

	sync_set_fetched_hook(f.sync, ask_again, NULL);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 1), SHMETA_OK);
	fixture_run(&f);
	sync_set_fetched_hook(f.sync, NULL, NULL);
	fixture_run(&f);
	cr_assert_eq(fetches(), before + 1);
	cr_assert_not_null(fixture_answer(&f, 1));
	cr_assert_not_null(fixture_answer(&f, 2));
	fixture_done(&f);
}

Test(sync_refresh, many_keys_are_fetched_in_chunks_of_the_configured_size)
{
	fixture_init(&f);
	f.options.refresh_batch_keys = 100;
	cr_assert(memory_fill(f.db, 50, 10, 5, 1));
	fixture_open(&f);
	fixture_run(&f);
	f.now_ns += 1000000000;

	uint64_t before = fetches();

	for (uint64_t i = 0; i < 500; i++) {
		char name[32];

		snprintf(name, sizeof name, "topic-%05d", (int)(i / 10));
		cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, name, (uint32_t)(i % 10), i), SHMETA_OK);
	}
	fixture_run(&f);
	cr_assert_eq(fetches(), before + 5);
	cr_assert_eq(f.answer_count, 500);
	fixture_done(&f);
}

Test(sync_refresh, a_refreshed_record_carries_the_time_of_the_read_when_its_class_is_older)
{
	uint64_t synced, later;
	uint32_t ttl;

	open_silent();
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	cr_assert(fixture_record_stamp(&f, "t", 1, &synced, &ttl));
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
	/* No poll in between: the class's stamp stays where it was. */
	memory_fail(f.db, MEMORY_CHANGES, 1, 0, SHMETA_ERR_SOURCE, "not now");
	memory_fail(f.db, MEMORY_FETCH, 1, 0, SHMETA_ERR_SOURCE, "not now");
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_SOURCE);
	fixture_done(&f);

	fixture_init(&f);
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	f.now_ns += 1000000000;
	cr_assert(fixture_record_stamp(&f, "t", 1, &synced, &ttl));
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 2), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	cr_assert(fixture_record_stamp(&f, "t", 1, &later, &ttl));
	cr_assert_eq(later, f.now_ns);
	cr_assert(fixture_record_stamp(&f, "t", -1, &later, &ttl));
	cr_assert_eq(later, f.now_ns);
	/* The others are as old as they were. */
	cr_assert(fixture_record_stamp(&f, "t", 2, &later, &ttl));
	cr_assert_eq(later, synced);
	fixture_done(&f);
}

Test(sync_refresh, an_unchanged_record_is_not_rewritten_when_its_class_is_as_fresh)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 3000);

	uint64_t committed = fixture_committed(&f);

	/* The poll of this very round moves the class's stamp first in time: it was asked before
	 * the fetch. */
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	cr_assert_eq(fixture_answer(&f, 1)->txn, fixture_committed(&f));
	cr_assert_leq(fixture_committed(&f), committed + 1);
	fixture_done(&f);
}

Test(sync_refresh, a_topic_that_the_store_does_not_know_is_loaded_whole)
{
	open_silent();
	fixture_topic(&f, "new", 3, 20, 2222);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_SEGMENT, "new", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, a_topic_that_nobody_knows_is_answered_ok_with_the_time_of_the_read)
{
	open_silent();

	uint64_t committed = fixture_committed(&f);

	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "nobody", 0, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	cr_assert_eq(fixture_answer(&f, 1)->synced_at_ns, f.now_ns);
	cr_assert_eq(fixture_answer(&f, 1)->txn, committed);
	cr_assert_eq(fixture_committed(&f), committed);
	fixture_done(&f);
}

Test(sync_refresh, a_deleted_topic_and_a_deleted_partition_take_their_offsets_and_leases_along)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_topic(&f, "u", 4, 10, 1111);
	cr_assert(memory_put_agent(f.db, NULL, &(struct shmeta_agent){.agent_id = {"a", 1}, .address = {"x", 1}}));
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = {"g", 1}}));
	for (uint32_t p = 0; p < 4; p++)
		for (int topic = 0; topic < 2; topic++) {
			cr_assert(memory_put_offset(
				f.db, NULL, topic ? "u" : "t",
				&(struct shmeta_committed_offset){.group_id = {"g", 1}, .partition_id = p}));
			cr_assert(memory_put_lease(
				f.db, NULL, topic ? "u" : "t",
				&(struct shmeta_lease){.leader_agent_id = {"a", 1}, .partition_id = p, .epoch = 1}));
		}
	fixture_open(&f);
	fixture_run(&f);
	SAME();
	memory_silence(f.db, true);
	f.now_ns += 1000000000;
	memory_delete_topic(f.db, NULL, "t");
	memory_delete_partition(f.db, NULL, "u", 3);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "u", 3, 2), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	SAME();
	/* The same by the topic's list: one from the middle, one from the end. */
	memory_delete_partition(f.db, NULL, "u", 0);
	memory_delete_partition(f.db, NULL, "u", 2);
	f.now_ns += 1000000000;
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "u", 0, 3), SHMETA_OK);
	fixture_run(&f);
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, partitions_that_a_topic_gained_come_with_their_segments)
{
	open_silent();

	struct shmeta_partition p = {.partition_id = 9, .high_watermark = 0, .created_at_ms = 3333};

	cr_assert(memory_put_partition(f.db, NULL, "t", &p));
	for (uint64_t i = 0; i < 5; i++)
		fixture_add_segment(&f, "t", 9, i * 1000, 1000);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, a_partition_of_another_incarnation_brings_the_whole_topic_anew)
{
	open_silent();

	uint32_t id = fixture_topic_id(&f, "t");

	memory_delete_topic(f.db, NULL, "t");
	fixture_topic(&f, "t", 2, 3, 4444);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	SAME();
	cr_assert_gt(fixture_topic_id(&f, "t"), id);
	fixture_done(&f);
}

Test(sync_refresh, a_topic_that_a_reader_had_read_before_the_feed_named_its_birth_keeps_its_number)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 30000); /* the poll has become slow */
	fixture_topic(&f, "new", 3, 20, 2222);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "new", 0, 1), SHMETA_OK);
	f.now_ns += 1000000;
	fixture_run(&f);

	uint32_t id = fixture_topic_id(&f, "new");

	cr_assert_neq(id, 0);
	fixture_pass(&f, 3000);
	cr_assert_eq(fixture_topic_id(&f, "new"), id, "a reader's handle died though its topic lived: %u is %u", id,
	             fixture_topic_id(&f, "new"));
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, whole_classes_of_hints_can_be_refreshed)
{
	open_silent();
	cr_assert(memory_put_agent(f.db, NULL, &(struct shmeta_agent){.agent_id = {"a", 1}, .address = {"x", 1}}));
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = {"g", 1}}));
	cr_assert(memory_put_offset(f.db, NULL, "t",
	                            &(struct shmeta_committed_offset){.group_id = {"g", 1}, .committed_offset = 3}));
	cr_assert(memory_put_lease(f.db, NULL, "t", &(struct shmeta_lease){.leader_agent_id = {"a", 1}, .epoch = 3}));
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_AGENT, NULL, 0, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_OFFSET, NULL, 0, 2), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LEASE, NULL, 0, 3), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.answer_count, 3);
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, where_one_agent_offset_or_lease_is_named_it_alone_is_read)
{
	const struct shmeta_str tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)};
	struct memory_stats before, after;

	fixture_init(&f);
	fixture_topic(&f, "t", 8, 1, 1111);
	for (uint32_t i = 0; i < 8; i++) {
		char id[8];
		int n = snprintf(id, sizeof id, "a%u", i);
		struct shmeta_str name = {id, (size_t)n};

		cr_assert(memory_put_agent(f.db, NULL, &(struct shmeta_agent){.agent_id = name, .address = name}));
		cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = name}));
		cr_assert(memory_put_offset(
			f.db, NULL, "t",
			&(struct shmeta_committed_offset){.group_id = name, .partition_id = i, .committed_offset = 3}));
		cr_assert(memory_put_lease(
			f.db, NULL, "t",
			&(struct shmeta_lease){.leader_agent_id = name, .partition_id = i, .epoch = 1}));
	}
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 1000);
	memory_silence(f.db, true);
	cr_assert(memory_put_agent(f.db, NULL, &(struct shmeta_agent){.agent_id = {"a3", 2}, .address = {"new", 3}}));
	cr_assert(memory_put_offset(
		f.db, NULL, "t",
		&(struct shmeta_committed_offset){.group_id = {"a3", 2}, .partition_id = 3, .committed_offset = 99}));
	cr_assert(memory_delete_lease(f.db, NULL, "t", 3));

	const struct backend_key keys[] = {
		{.cls = SHMETA_CLASS_AGENT, .tenant = tenant, .name = {"a3", 2}},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = tenant, .name = {"a3", 2}, .topic = {"t", 1}, .partition_id = 3},
		{.cls = SHMETA_CLASS_LEASE, .tenant = tenant, .topic = {"t", 1}, .partition_id = 3}};

	memory_read_stats(f.db, &before);
	for (uint64_t i = 0; i < 3; i++)
		cr_assert_eq(sync_refresh(f.sync, &keys[i], false, 0, UINT64_MAX, i), SHMETA_OK);
	fixture_run(&f);
	memory_read_stats(f.db, &after);
	for (uint64_t i = 0; i < 3; i++)
		cr_expect_eq(fixture_answer(&f, i)->status, SHMETA_OK, "%s", fixture_answer(&f, i)->sentence);
	cr_expect_leq(after.rows - before.rows, 3, "%llu rows were read",
	              (unsigned long long)(after.rows - before.rows));
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, a_request_for_the_list_is_answered_by_the_feed_where_it_tells_at_once)
{
	struct memory_stats before, after;
	uint64_t asked_ns;

	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_pass(&f, 3000);
	memory_read_stats(f.db, &before);
	asked_ns = f.now_ns += 1000; /* no poll is due */
	fixture_topic(&f, "new", 3, 20, 2222);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, NULL, 0, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, NULL, 0, 2), SHMETA_OK);
	fixture_run(&f);
	memory_read_stats(f.db, &after);
	for (uint64_t ticket = 1; ticket <= 2; ticket++) {
		cr_assert_not_null(fixture_answer(&f, ticket));
		cr_expect_eq(fixture_answer(&f, ticket)->status, SHMETA_OK);
		cr_expect_geq(fixture_answer(&f, ticket)->synced_at_ns, asked_ns);
		cr_expect_eq(fixture_answer(&f, ticket)->txn, fixture_committed(&f));
	}
	cr_expect_eq(after.calls[MEMORY_LOAD], before.calls[MEMORY_LOAD]);
	cr_expect_eq(after.calls[MEMORY_CHANGES], before.calls[MEMORY_CHANGES] + 1);
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, a_request_for_the_list_waits_for_what_the_feed_has_named)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_pass(&f, 3000);
	fixture_topic(&f, "new", 3, 20, 2222);
	memory_fail(f.db, MEMORY_FETCH, 1, 0, SHMETA_ERR_SOURCE, "gone");
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, NULL, 0, 1), SHMETA_OK);
	fixture_pass(&f, 2000);
	cr_assert_not_null(fixture_answer(&f, 1));
	if (fixture_answer(&f, 1)->status == SHMETA_OK)
		cr_assert_geq(fixture_answer(&f, 1)->txn, fixture_committed(&f));
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, a_request_for_the_list_is_answered_by_a_full_pass_where_no_feed_tells)
{
	open_silent();
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	fixture_topic(&f, "new", 3, 20, 2222);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, NULL, 0, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, NULL, 0, 2), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	cr_assert_eq(fixture_answer(&f, 2)->status, SHMETA_OK);
	cr_assert_geq(fixture_counters(&f).reconciles, 1);
	SAME();
	fixture_done(&f);
}

static uint64_t fetches_when_written, write_at;

static void write_in_the_middle(void *arg)
{
	static const struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t", 1}, .partition_id = 0, .offset = 7};

	(void)arg;
	if (fixture_counters(&f).fetches <= 1 && write_at == 0) {
		write_at = fetches();
		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	}
	if (write_at > 0 && f.writes_answered > 0 && fetches_when_written == 0)
		fetches_when_written = fetches();
}

Test(sync_refresh, who_writes_does_not_wait_for_all_that_readers_ask_for)
{
	fixture_init(&f);
	f.options.refresh_batch_keys = 10;
	fixture_topic(&f, "t", 600, 0, 1111);
	fixture_open(&f);
	fixture_run(&f);
	f.now_ns += 1000000;
	for (uint32_t i = 0; i < 600; i++)
		cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", i, i), SHMETA_OK);
	sync_set_fetched_hook(f.sync, write_in_the_middle, NULL);
	while (f.answer_count < 600)
		fixture_run(&f);
	sync_set_fetched_hook(f.sync, NULL, NULL);
	cr_assert_eq(f.writes_answered, 1);
	cr_assert_gt(write_at, 0);
	cr_expect_leq(fetches_when_written - write_at, 4, "it waited for %llu reads",
	              (unsigned long long)(fetches_when_written - write_at));
	SAME();
	fixture_done(&f);
}

Test(sync_refresh, a_full_queue_answers_busy_and_nothing_else)
{
	fixture_init(&f);
	f.options.refresh_queue_max = 10;
	fixture_topic(&f, "t", 40, 1, 1111);
	fixture_open(&f);
	fixture_run(&f);
	for (uint64_t i = 0; i < 30; i++)
		cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", (uint32_t)i, i),
		             i < 10 ? SHMETA_OK : SHMETA_ERR_BUSY, "request %d", (int)i);
	/* A key that waits already costs no place. */
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 3, 100), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.answer_count, 11);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 20, 101), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.answer_count, 12);
	fixture_done(&f);
}

Test(sync_refresh, a_name_that_cannot_exist_is_refused_with_a_sentence)
{
	char name[260];

	open_silent();
	memset(name, 'x', 255);
	name[255] = '\0';
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, name, 0, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "", 0, 2), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "a\nb", 0, 3), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, (enum shmeta_class)99, "a", 0, 4), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.answer_count, 4);
	for (uint64_t i = 1; i <= 4; i++)
		cr_assert_eq(fixture_answer(&f, i)->status, SHMETA_ERR_INVALID_ARGUMENT);
	fixture_done(&f);
}

Test(sync_refresh, what_waits_when_the_writer_stops_is_answered)
{
	open_silent();
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, NULL, 0, 2), SHMETA_OK);
	fixture_close(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_WRITER_AWAY);
	cr_assert_eq(fixture_answer(&f, 2)->status, SHMETA_ERR_WRITER_AWAY);
	cr_assert_eq(f.phase, SHMETA_PHASE_STOPPED);
	fixture_done(&f);
}

/* ---- the stale-set race (semantics.md C6) ---- */

static int interleaved;
static void (*meanwhile)(void);

/* Between the outer fetch and its apply: the source changes, and another refresh reads and applies
 * that. */
static void interleave(void *arg)
{
	(void)arg;
	if (interleaved++ > 0)
		return;
	meanwhile();
}

static void newer_segment(void)
{
	fixture_add_segment(&f, "t", 1, 10000, 1000);
	f.now_ns += 1000000;
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LEASE, NULL, 0, 50), SHMETA_OK);
	/* Not the flying key itself, which would join it: its whole topic. */
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 51), SHMETA_OK);
	const struct backend_key key = {.cls = SHMETA_CLASS_TOPIC,
	                                .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
	                                .topic = {"t", 1},
	                                .with_segments = 1};
	cr_assert_eq(sync_refresh(f.sync, &key, false, 0, UINT64_MAX, 52), SHMETA_OK);
	fixture_run(&f);
}

Test(sync_refresh, a_read_that_was_superseded_does_not_bring_the_old_state_back)
{
	open_silent();
	interleaved = 0;
	meanwhile = newer_segment;
	sync_set_fetched_hook(f.sync, interleave, NULL);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_geq(interleaved, 2);
	cr_assert_not_null(fixture_answer(&f, 51));
	SAME();
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	fixture_done(&f);
}

static void reborn(void)
{
	memory_delete_topic(f.db, NULL, "t");
	fixture_topic(&f, "t", 2, 3, 9999);
	f.now_ns += 1000000;
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 50), SHMETA_OK);
	fixture_run(&f);
	SAME();
}

Test(sync_refresh, a_topic_read_before_its_rebirth_does_not_bring_the_dead_back)
{
	open_silent();
	interleaved = 0;
	meanwhile = reborn;
	sync_set_fetched_hook(f.sync, interleave, NULL);

	const struct backend_key key = {.cls = SHMETA_CLASS_TOPIC,
	                                .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
	                                .topic = {"t", 1},
	                                .with_segments = 1};
	cr_assert_eq(sync_refresh(f.sync, &key, false, 0, UINT64_MAX, 1), SHMETA_OK);
	fixture_run(&f);
	SAME();

	uint32_t id = fixture_topic_id(&f, "t");

	fixture_pass(&f, 3000);
	cr_assert_eq(fixture_topic_id(&f, "t"), id);
	SAME();
	fixture_done(&f);
}

static void deleted(void)
{
	memory_delete_topic(f.db, NULL, "t");
	f.now_ns += 1000000;
	memory_silence(f.db, false);
	fixture_topic(&f, "other", 1, 1, 5);
	fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 0, 50);
	fixture_run(&f);
}

Test(sync_refresh, a_thousand_interleavings_leave_no_regression)
{
	unsigned seed = 5;

	open_silent();
	memory_silence(f.db, false);
	meanwhile = newer_segment;
	for (int i = 0; i < 1000; i++) {
		interleaved = 0;
		f.answer_count = 0;
		memory_delete_segments_before(f.db, NULL, "t", 1, 10500 + (unsigned)rand_r(&seed) % 2 * 500);
		sync_set_fetched_hook(f.sync, interleave, NULL);
		fixture_refresh(&f, rand_r(&seed) % 2 ? SHMETA_CLASS_PARTITION : SHMETA_CLASS_TOPIC, "t", 1, 1);
		f.now_ns += 1000000;
		fixture_run(&f);
		sync_set_fetched_hook(f.sync, NULL, NULL);
		fixture_pass(&f, 10);
		if (i % 50 == 0)
			SAME();
	}
	SAME();
	interleaved = 0;
	meanwhile = deleted;
	f.answer_count = 0;
	sync_set_fetched_hook(f.sync, interleave, NULL);
	fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 1, 1);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	SAME();
	cr_assert_eq(fixture_topic_id(&f, "t"), 0);
	fixture_done(&f);
}
