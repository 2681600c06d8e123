/* SPDX-License-Identifier: Apache-2.0
 * Loading and reconciling: what the store shows is what the source has, only differences are
 * written, identities are never used again, and a load that shrank is not believed at once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_load, .timeout = 60);

static struct fixture f;

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void put_hints(const char *topic)
{
	cr_assert(memory_put_agent(f.db, NULL,
	                           &(struct shmeta_agent){.agent_id = str("agent-1"),
	                                                  .address = str("10.0.0.1:9000"),
	                                                  .availability_zone = str("a"),
	                                                  .agent_group = str("g"),
	                                                  .last_heartbeat_ms = 5,
	                                                  .started_at_ms = 4}));
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str("group-1"), .created_at_ms = 1}));
	cr_assert(memory_put_offset(
		f.db, NULL, topic,
		&(struct shmeta_committed_offset){
			.group_id = str("group-1"), .metadata = str("m"), .has_metadata = 1, .committed_offset = 17}));
	cr_assert(memory_put_lease(f.db, NULL, topic,
	                           &(struct shmeta_lease){.leader_agent_id = str("agent-1"),
	                                                  .lease_expires_at_ms = 100,
	                                                  .acquired_at_ms = 50,
	                                                  .epoch = 3}));
}

static void reconcile(void)
{
	uint64_t before = fixture_counters(&f).reconciles;

	cr_assert_eq(fixture_compare_all(&f, 900000 + before), SHMETA_OK);
	fixture_pass(&f, 60000);
	cr_assert_gt(fixture_counters(&f).reconciles, before);
}

Test(sync_load, the_first_load_shows_everything_that_the_source_has)
{
	fixture_init(&f);
	cr_assert(memory_fill(f.db, 30, 4, 1500, 7));
	fixture_topic(&f, "orders", 3, 40, 1111);
	put_hints("orders");
	fixture_open(&f);
	cr_assert_eq(f.board->generation, 0);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 1);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_assert_eq(f.board->phase, SHMETA_PHASE_SERVING);
	SAME();

	struct sync_counters c = fixture_counters(&f);

	cr_assert_eq(c.topics, 31);
	cr_assert_eq(c.partitions, 123);
	cr_assert_eq(c.segments, 30 * 4 * 1500 + 120);
	cr_assert_eq(c.loads, 1);
	cr_assert_gt(c.commits, 10); /* options.commit_rows is 10 000 */
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		cr_assert_eq(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 0);
	cr_assert_gt(f.progress_calls, 0);
	fixture_done(&f);
}

Test(sync_load, an_empty_source_gives_an_empty_store_that_serves)
{
	fixture_init(&f);
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	SAME();
	fixture_done(&f);
}

Test(sync_load, a_reconcile_of_an_unchanged_source_writes_nothing)
{
	fixture_init(&f);
	cr_assert(memory_fill(f.db, 10, 4, 600, 1));
	fixture_topic(&f, "orders", 3, 40, 1111);
	put_hints("orders");
	fixture_open(&f);
	fixture_run(&f);

	struct sync_counters before = fixture_counters(&f);
	uint64_t committed = fixture_committed(&f);

	reconcile();
	cr_assert_eq(fixture_committed(&f), committed);
	cr_assert_eq(fixture_counters(&f).commits, before.commits);
	cr_assert_eq(fixture_counters(&f).rows_applied, before.rows_applied);
	cr_assert_geq(fixture_counters(&f).rows_unchanged - before.rows_unchanged, 10 * 4 * 600);
	cr_assert_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 1000);
	fixture_done(&f);
}

Test(sync_load, a_reconcile_repairs_what_the_feed_never_named)
{
	fixture_init(&f);
	cr_assert(memory_fill(f.db, 10, 4, 100, 1));
	fixture_topic(&f, "changed", 3, 1200, 1111);
	fixture_topic(&f, "deleted", 2, 5, 1111);
	put_hints("changed");
	fixture_open(&f);
	fixture_run(&f);

	uint32_t id = fixture_topic_id(&f, "changed");

	memory_silence(f.db, true);
	fixture_add_segment(&f, "changed", 0, 1200000, 500); /* appended */
	/* dropped from the front */
	memory_delete_segments_before(f.db, NULL, "changed", 1, 300000);
	memory_delete_segment(f.db, NULL, "changed", 2, 600000); /* a hole */
	fixture_add_segment(&f, "changed", 2, 100500, 77);       /* inserted, overlapping */
	memory_delete_topic(f.db, NULL, "deleted");
	fixture_topic(&f, "created", 5, 3, 2222);
	memory_delete_agent(f.db, NULL, "agent-1");
	memory_delete_lease(f.db, NULL, "changed", 0);
	fixture_pass(&f, 2000);
	cr_assert_not_null(fixture_difference(&f), "the feed was not silent");
	reconcile();
	SAME();
	cr_assert_eq(fixture_topic_id(&f, "changed"), id);
	cr_assert_eq(fixture_topic_id(&f, "deleted"), 0);
	cr_assert_gt(fixture_counters(&f).reconcile_repairs, 0);
	cr_expect_not_null(strstr(f.log, "it was made because somebody asked for it"), "%s", f.log);
	fixture_done(&f);
}

static void open_lagging(uint64_t lag_ms)
{
	fixture_init(&f);
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE); /* no feed: passes are all there is */
	memory_set_lag(f.db, lag_ms * 1000000);
	fixture_topic(&f, "orders", 3, 40, 1111);
	put_hints("orders");
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 0, "the first load is of now");
}

Test(sync_load, a_pass_that_lags_counts_as_read_when_what_it_shows_was_so_and_the_next_one_is_due_earlier)
{
	uint64_t lagged = 0;

	open_lagging(14000);
	for (int i = 0; i < 900; i++) {
		uint64_t before = fixture_counters(&f).reconciles_lagged;

		fixture_pass(&f, 100);
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
			cr_assert_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), f.options.ttl_ms[cls],
			             "class %d after %d ms", cls, i * 100);
		if (fixture_counters(&f).reconciles_lagged == before)
			continue;
		lagged++;
		for (int cls = 0; cls < SHMETA_CLASS_AGENT; cls++)
			cr_assert_geq(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 14000);
		for (int cls = SHMETA_CLASS_AGENT; cls < SHMETA_CLASS_COUNT; cls++)
			cr_assert_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 14000, "these do not lag");
	}
	cr_expect_geq(lagged, 4);
	cr_expect_eq(lagged, fixture_counters(&f).reconciles);
	SAME();
	fixture_done(&f);
}

Test(sync_load, a_pass_that_somebody_waits_for_does_not_lag)
{
	uint64_t asked;

	open_lagging(5000);
	fixture_pass(&f, 60000);
	cr_assert_gt(fixture_counters(&f).reconciles_lagged, 0);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t before = fixture_counters(&f).reconciles_lagged;

		asked = f.now_ns;
		cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, NULL, 0, 100 + i), SHMETA_OK);
		while (fixture_answer(&f, 100 + i) == NULL)
			fixture_pass(&f, 10);
		cr_expect_eq(fixture_answer(&f, 100 + i)->status, SHMETA_OK);
		cr_expect_geq(fixture_answer(&f, 100 + i)->synced_at_ns, asked);
		cr_expect_eq(fixture_counters(&f).reconciles_lagged, before);
		fixture_pass(&f, 3000);
	}
	fixture_done(&f);
}

Test(sync_load, a_pass_does_not_lag_by_more_than_half_of_the_time_to_live)
{
	open_lagging(16000);
	fixture_pass(&f, 90000);
	cr_expect_gt(fixture_counters(&f).reconciles, 2);
	cr_expect_eq(fixture_counters(&f).reconciles_lagged, 0);
	fixture_done(&f);
}

Test(sync_load, a_topic_that_was_deleted_and_created_again_gets_a_number_that_was_never_used)
{
	fixture_init(&f);
	fixture_topic(&f, "orders", 3, 40, 1111);
	fixture_topic(&f, "stays", 3, 40, 1111);
	put_hints("orders");
	fixture_open(&f);
	fixture_run(&f);

	uint32_t first = fixture_topic_id(&f, "orders"), highest = first;

	for (int i = 0; i < 20; i++) {
		bool by_reconcile = i % 2 == 0;

		memory_silence(f.db, by_reconcile);
		cr_assert(memory_delete_topic(f.db, NULL, "orders"));
		/* The feed names the delete; a reconcile has the time of creation only. */
		fixture_topic(&f, "orders", 2, (uint32_t)(5 + i), by_reconcile ? 2000 + i : 1111);
		if (by_reconcile)
			reconcile();
		else
			fixture_pass(&f, 2000);
		SAME();

		uint32_t id = fixture_topic_id(&f, "orders");

		cr_assert_gt(id, highest, "round %d: %u after %u", i, id, highest);
		highest = id;
	}
	cr_assert_eq(fixture_counters(&f).partitions, 5);
	fixture_done(&f);
}

Test(sync_load, an_empty_load_deletes_nothing_until_a_second_one_says_the_same)
{
	fixture_init(&f);
	cr_assert(memory_fill(f.db, 10, 4, 50, 1));
	fixture_open(&f);
	fixture_run(&f);

	uint64_t segments = fixture_counters(&f).segments;

	/* Once empty, then everything again. */
	memory_lie_empty(f.db, 1);
	reconcile();
	cr_assert(fixture_logged(&f, "shrink_suspected"), "%s", f.log);
	cr_assert_not(fixture_logged(&f, "shrink_confirmed"));
	cr_assert_eq(fixture_counters(&f).segments, segments);
	SAME();

	/* Twice empty: then it is so. */
	memory_silence(f.db, true);
	for (int i = 0; i < 10; i++) {
		char name[32];

		snprintf(name, sizeof name, "topic-%05d", i);
		memory_delete_topic(f.db, NULL, name);
	}
	reconcile();
	cr_assert(fixture_logged(&f, "shrink_confirmed"), "%s", f.log);
	cr_assert_eq(fixture_counters(&f).segments, 0, "%s", fixture_source_text(&f));
	SAME();
	fixture_done(&f);
}

static void less_than_half(uint32_t commit_rows)
{
	fixture_init(&f);
	f.options.commit_rows = commit_rows;
	fixture_topic(&f, "big", 4, 500, 1111);
	fixture_topic(&f, "small", 4, 5, 1111);
	fixture_open(&f);
	fixture_run(&f);

	uint64_t committed = fixture_committed(&f);

	memory_silence(f.db, true);
	for (uint32_t p = 0; p < 4; p++)
		memory_delete_segments_before(f.db, NULL, "big", p, 400000);
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert(fixture_logged(&f, "shrink_suspected"), "%s", f.log);
	cr_assert_eq(fixture_committed(&f), committed, "something was written before the second read");
	cr_assert_null(fixture_answer(&f, 1));
	fixture_pass(&f, 10000);
	cr_assert(fixture_logged(&f, "shrink_confirmed"), "%s", f.log);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	SAME();
	fixture_done(&f);
}

Test(sync_load, a_load_with_less_than_half_of_the_segments_is_confirmed_before_any_is_deleted)
{
	less_than_half(100000);
}

Test(sync_load, it_is_also_when_a_commit_would_have_been_due_in_the_middle)
{
	less_than_half(300);
}

Test(sync_load, it_is_also_when_one_transaction_cannot_hold_the_removals)
{
	less_than_half(10);
}

Test(sync_load, removals_too_many_for_one_transaction_are_made_in_several)
{
	fixture_init(&f);
	f.options.commit_rows = 10;
	cr_assert(memory_fill(f.db, 50, 4, 20, 1));
	fixture_open(&f);
	fixture_run(&f);
	memory_silence(f.db, true);
	for (int i = 0; i < 24; i++) {
		char name[32];

		snprintf(name, sizeof name, "topic-%05d", 2 * i);
		for (uint32_t p = 0; p < 4; p++)
			memory_delete_segments_before(f.db, NULL, name, p, 5000);
	}
	uint64_t passes = fixture_counters(&f).reconciles, commits = fixture_counters(&f).commits;

	reconcile();
	SAME();
	cr_assert_eq(fixture_counters(&f).reconciles, passes + 1);
	cr_assert_gt(fixture_counters(&f).commits, commits + 1, "one transaction held all removals");
	cr_assert_not(fixture_logged(&f, "shrink_suspected"));
	fixture_done(&f);
}

Test(sync_load, quarantined_rows_are_counted_and_never_stop_the_others)
{
	fixture_init(&f);
	fixture_topic(&f, "good", 3, 40, 1111);
	fixture_topic(&f, "half", 2, 4, 1111);
	/* end < base; a name with a control character; a negative base; 30 more to see the log
	 * limited */
	struct shmeta_segment bad = fixture_segment(0, 900000, 10);

	bad.id = str("bad");
	bad.s3_bucket = str("b");
	bad.s3_key = str("k");
	bad.end_offset = 5;
	cr_assert(memory_put_segment(f.db, NULL, "half", &bad));
	cr_assert(memory_create_topic(f.db, NULL, "evil\n\033[31m", 2, 5));
	for (int i = 0; i < 30; i++) {
		char id[20];

		snprintf(id, sizeof id, "bad%d", i);
		bad.id = str(id);
		bad.base_offset = 1000000 + (uint64_t)i * 100;
		cr_assert(memory_put_segment(f.db, NULL, "good", &bad));
	}
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_assert_eq(fixture_counters(&f).quarantined, 31 + 3, "segments, the topic and its partitions");
	cr_assert_eq(fixture_counters(&f).topics, 2);
	cr_assert_eq(fixture_counters(&f).segments, 3 * 40 + 2 * 4);
	cr_assert(fixture_logged(&f, "quarantined_total"));

	int shown = 0;

	for (const char *p = f.log; (p = strstr(p, " quarantined: ")) != NULL; p++)
		shown++;
	cr_assert_eq(shown, 10, "%s", f.log);
	cr_assert_null(strchr(f.log, '\033'), "an untrusted byte reached the log");
	fixture_done(&f);
}

/* The list has 10 000 at most. */
Test(sync_load, the_log_counts_quarantined_rows_that_are_not_listed)
{
	fixture_init(&f);
	fixture_topic(&f, "good", 1, 4, 1111);
	struct shmeta_segment bad = fixture_segment(0, 900000, 10);

	bad.s3_bucket = str("b");
	bad.s3_key = str("k");
	bad.end_offset = 5;
	for (int i = 0; i < 12000; i++) {
		char id[20];

		snprintf(id, sizeof id, "bad%d", i);
		bad.id = str(id);
		bad.base_offset = 1000000 + (uint64_t)i * 100;
		cr_assert(memory_put_segment(f.db, NULL, "good", &bad));
	}
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(fixture_counters(&f).quarantined, 12000);
	cr_expect_eq(fixture_counters(&f).quarantine_entered, 12000);
	cr_expect_not_null(strstr(f.log, "12000 rows were quarantined in this load"), "%s", f.log);
	fixture_done(&f);
}

Test(sync_load, tenants_are_kept_apart)
{
	fixture_init(&f);
	cr_assert(memory_create_topic(f.db, "tenant-a", "orders", 2, 5));
	cr_assert(memory_create_topic(f.db, "tenant-b", "orders", 3, 6));
	cr_assert(memory_create_topic(f.db, NULL, "orders", 4, 7));
	fixture_open(&f);
	fixture_run(&f);
	SAME();
	cr_assert(memory_delete_topic(f.db, "tenant-a", "orders"));
	fixture_pass(&f, 1500);
	SAME();
	cr_assert_eq(fixture_counters(&f).partitions, 7);
	fixture_done(&f);
}

Test(sync_load, a_load_that_breaks_off_publishes_nothing_and_is_tried_again)
{
	fixture_init(&f);
	cr_assert(memory_fill(f.db, 10, 4, 50, 1));
	memory_fail(f.db, MEMORY_LOAD, 2, 700, SHMETA_ERR_SOURCE, "the cable was pulled");
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.board->generation, 0);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	cr_assert_not_null(strstr(f.sentence, "the cable was pulled"), "%s", f.sentence);
	fixture_pass(&f, 30000);
	cr_assert_neq(f.board->generation, 0, "%s", f.log);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	SAME();
	fixture_done(&f);
}
