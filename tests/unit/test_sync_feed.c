/* SPDX-License-Identifier: Apache-2.0
 * Following the source: what changes there shows here, whole and in step, at a small and known
 * cost. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/sync_fixture.h"
#include "tests/support/write_ops.h"

TestSuite(sync_feed, .timeout = 60);

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

Test(sync_feed, every_kind_of_change_shows_after_one_poll)
{
	fixture_init(&f);
	cr_assert(memory_fill(f.db, 5, 4, 300, 3));
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 5000);

	uint64_t loads = fixture_counters(&f).loads, reconciles = fixture_counters(&f).reconciles;

	fixture_topic(&f, "new", 3, 700, 1111);
	fixture_pass(&f, 1000);
	SAME();
	fixture_add_segment(&f, "new", 1, 700000, 1000);
	fixture_pass(&f, 1000);
	SAME();
	memory_delete_segments_before(f.db, NULL, "new", 1, 350000);
	fixture_add_segment(&f, "new", 1, 701000, 1000);
	fixture_pass(&f, 1000);
	SAME();
	memory_set_watermark(f.db, NULL, "new", 2, 5); /* backwards, as A allows */
	fixture_pass(&f, 1000);
	SAME();
	memory_delete_partition(f.db, NULL, "new", 0);
	fixture_pass(&f, 1000);
	SAME();
	cr_assert(memory_put_partition(f.db, NULL, "new", &(struct shmeta_partition){.partition_id = 7}));
	fixture_pass(&f, 1000);
	SAME();
	cr_assert(memory_put_topic(f.db, NULL,
	                           &(struct shmeta_topic){.name = str("new"),
	                                                  .created_at_ms = 1111,
	                                                  .updated_at_ms = 5,
	                                                  .partition_count = 8,
	                                                  .has_retention = 1,
	                                                  .retention_ms = 7}));
	fixture_pass(&f, 1000);
	SAME();
	cr_assert(memory_put_agent(f.db, NULL, &(struct shmeta_agent){.agent_id = str("a1"), .address = str("x")}));
	cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str("g1")}));
	for (uint32_t p = 1; p < 3; p++) {
		cr_assert(memory_put_offset(f.db, NULL, "new",
		                            &(struct shmeta_committed_offset){
						    .group_id = str("g1"), .partition_id = p, .committed_offset = 3}));
		cr_assert(memory_put_lease(
			f.db, NULL, "new",
			&(struct shmeta_lease){.leader_agent_id = str("a1"), .partition_id = p, .epoch = 1}));
	}
	fixture_pass(&f, 1000);
	SAME();
	cr_assert(memory_delete_lease(f.db, NULL, "new", 1));
	/* takes its offset and lease along */
	cr_assert(memory_delete_partition(f.db, NULL, "new", 2));
	fixture_pass(&f, 1000);
	SAME();
	cr_assert(memory_delete_group(f.db, NULL, "g1"));
	cr_assert(memory_delete_topic(f.db, NULL, "new"));
	cr_assert(memory_delete_agent(f.db, NULL, "a1"));
	fixture_pass(&f, 1000);
	SAME();
	cr_assert_eq(fixture_counters(&f).loads, loads);
	cr_assert_eq(fixture_counters(&f).reconciles, reconciles, "it was a reconcile that found it");
	fixture_done(&f);
}

Test(sync_feed, a_thousand_random_changes_end_in_what_the_source_has)
{
	unsigned seed = 11;

	fixture_init(&f);
	cr_assert(memory_fill(f.db, 8, 4, 100, 3));
	fixture_open(&f);
	fixture_run(&f);
	for (int i = 0; i < 1000; i++) {
		char topic[32];
		uint32_t p = (uint32_t)rand_r(&seed) % 4;

		snprintf(topic, sizeof topic, "topic-%05d", rand_r(&seed) % 10);
		switch (rand_r(&seed) % 9) {
		case 0:
			memory_delete_topic(f.db, NULL, topic);
			break;
		case 1:
			if (memory_create_topic(f.db, NULL, topic, 4, 1000 + i))
				fixture_add_segment(&f, topic, p, 0, 1000);
			break;
		case 2:
			memory_delete_segments_before(f.db, NULL, topic, p, (uint64_t)rand_r(&seed) % 100000);
			break;
		case 3:
			memory_delete_segment(f.db, NULL, topic, p, (uint64_t)rand_r(&seed) % 100 * 1000);
			break;
		case 4:
			fixture_refresh(&f, SHMETA_CLASS_TOPIC, topic, 0, (uint64_t)i);
			break;
		case 5:
			fixture_refresh(&f, SHMETA_CLASS_SEGMENT, topic, p, (uint64_t)i);
			break;
		default:
			if (fixture_topic_id(&f, topic) != 0)
				fixture_add_segment(&f, topic, p, (uint64_t)rand_r(&seed) % 300 * 1000,
				                    (uint64_t)(1 + rand_r(&seed) % 2000));
		}
		if (rand_r(&seed) % 3 == 0)
			fixture_run(&f);
		if (rand_r(&seed) % 11 == 0)
			fixture_pass(&f, (uint64_t)rand_r(&seed) % 300);
		if (i % 50 == 49) {
			fixture_pass(&f, 1000);
			SAME();
		}
	}
	fixture_done(&f);
}

static void add_before_fetch(void *arg, enum memory_call call, int end)
{
	struct fixture *fixture = arg;
	static bool done;

	if (call != MEMORY_FETCH || end || done)
		return;
	done = true;
	fixture_add_segment(fixture, "t", 0, 10000, 1000);
}

static const struct shmeta_op put_agent = {
	.type = SHMETA_OP_REGISTER_AGENT,
	.u.agent = {.agent_id = {"a", 1}, .address = {"b", 1}, .last_heartbeat_ms = 2, .started_at_ms = 2}};

/* A writer that knows of an agent, and a topic that the feed tells of with its next poll. */
static void begin_with_a_topic_untold(void)
{
	fixture_init(&f);
	fixture_open(&f);
	cr_assert_eq(fixture_write(&f, &put_agent, 1), SHMETA_OK);
	fixture_pass(&f, 20000);
	cr_assert(memory_create_topic(f.db, NULL, "n", 1, 1111));
}

/* The feed does not tell of the write itself. */
static void write_in_silence(const struct shmeta_op *ops, size_t count)
{
	memory_silence(f.db, true);
	cr_assert_eq(fixture_write(&f, ops, count), SHMETA_OK);
	fixture_run(&f);
	memory_silence(f.db, false);
	cr_assert_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	for (size_t i = 0; i < count; i++)
		cr_assert_eq(f.write_result[i].status, SHMETA_OK, "%s", f.write_result[i].text);
}

Test(sync_feed, a_lease_and_an_offset_of_a_topic_that_was_not_told_yet_are_shown_when_they_are_answered)
{
	const struct shmeta_op ops[] = {
		{.type = SHMETA_OP_ACQUIRE_LEASE, .name = {"n", 1}, .agent_id = {"a", 1}, .duration_ms = 1000},
		{.type = SHMETA_OP_COMMIT_OFFSET,
	         .name = {"n", 1},
	         .group_id = {"g", 1},
	         .offset = 3,
	         .u.committed = {.group_id = {"g", 1}, .committed_offset = 3}}};

	for (size_t i = 0; i < 2; i++) {
		begin_with_a_topic_untold();
		write_in_silence(&ops[i], 1);
		SAME();
		fixture_done(&f);
	}
}

/* Also where each poll meets a write, which has the queue emptied for its own answer. */
Test(sync_feed, a_lease_that_was_read_before_its_topic_was_told_is_shown_once_the_topic_is_there)
{
	begin_with_a_topic_untold();
	memory_silence(f.db, true);
	cr_assert(memory_put_lease(f.db, NULL, "n", &(struct shmeta_lease){.leader_agent_id = {"a", 1}, .epoch = 1}));
	memory_silence(f.db, false);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LEASE, NULL, 0, 1), SHMETA_OK);
	fixture_pass(&f, 5 * f.options.poll_min_ms); /* it is tried a few times */
	cr_assert_eq(fixture_topic_id(&f, "n"), 0, "the feed has not told of it yet");
	f.now_ns += f.options.poll_max_ms * UINT64_C(1000000);
	write_in_silence(&put_agent, 1);
	cr_assert_neq(fixture_topic_id(&f, "n"), 0);
	cr_assert_not_null(fixture_difference(&f));
	cr_assert_geq(fixture_stamp_age_ms(&f, SHMETA_CLASS_LEASE), f.options.poll_max_ms,
	              "the feed does not call young what is still to be read");
	cr_assert_lt(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), f.options.poll_max_ms);
	fixture_pass(&f, 60000);
	SAME();
	fixture_done(&f);
}

Test(sync_feed, a_watermark_never_shows_without_the_segments_below_it)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 1, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);

	/* Between the poll and the fetch one more segment arrives, with its watermark: the fetch
	 * sees the new watermark, and must bring the new segment along although no poll has named
	 * it. */
	memory_set_watermark(f.db, NULL, "t", 0, 10001);
	f.now_ns += 1000000000;
	memory_set_hook(f.db, add_before_fetch, &f);
	fixture_run(&f);
	memory_set_hook(f.db, NULL, NULL);
	cr_assert_gt(fixture_counters(&f).fetches, 0);
	SAME();
	fixture_done(&f);
}

Test(sync_feed, one_hundred_thousand_quiet_partitions_cost_polls_and_no_fetches)
{
	struct memory_stats before, after;

	fixture_init(&f);
	cr_assert(memory_fill(f.db, 1000, 100, 1, 3));
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 5000);
	cr_assert_eq(fixture_counters(&f).partitions, 100000);
	memory_read_stats(f.db, &before);

	struct sync_counters c = fixture_counters(&f);

	fixture_pass(&f, 30000);
	memory_read_stats(f.db, &after);
	cr_assert_eq(after.calls[MEMORY_FETCH], before.calls[MEMORY_FETCH]);
	cr_assert_eq(after.calls[MEMORY_LOAD], before.calls[MEMORY_LOAD]);
	cr_assert_leq(after.calls[MEMORY_CHANGES] - before.calls[MEMORY_CHANGES], 31);
	cr_assert_eq(fixture_counters(&f).commits, c.commits);
	cr_assert_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 1000);
	fixture_done(&f);
}

Test(sync_feed, a_heartbeat_says_nothing_of_the_other_agents)
{
	const struct shmeta_op op = {.type = SHMETA_OP_REGISTER_AGENT,
	                             .u.agent = {.agent_id = {"a", 1},
	                                         .address = {"h:1", 3},
	                                         .availability_zone = {"z", 1},
	                                         .agent_group = {"g", 1},
	                                         .last_heartbeat_ms = 1,
	                                         .started_at_ms = 1}};
	uint64_t age;

	fixture_init(&f);
	/* with a feed every class is known to be up to date */
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	f.options.ttl_ms[SHMETA_CLASS_AGENT] = f.options.ttl_ms[SHMETA_CLASS_LEASE] =
		f.options.ttl_ms[SHMETA_CLASS_OFFSET] = 30000;
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 3000);
	age = fixture_stamp_age_ms(&f, SHMETA_CLASS_AGENT);
	cr_assert_geq(age, 3000);
	cr_assert_eq(write_ops(f.sync, (struct shmeta_str){SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)}, &op,
	                       1, UINT64_MAX, 0, 1, "test", 1),
	             SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.writes_answered, 1);
	cr_assert_eq(f.write_status, SHMETA_OK);
	cr_expect_geq(fixture_stamp_age_ms(&f, SHMETA_CLASS_AGENT), age, "one agent was read, not all of them");
	fixture_done(&f);
}

Test(sync_feed, without_a_feed_one_hundred_thousand_partitions_cost_single_digit_queries_in_their_time_to_live)
{
	struct memory_stats before, after;

	fixture_init(&f);
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	cr_assert(memory_fill(f.db, 1000, 100, 1, 3));
	f.options.ttl_ms[SHMETA_CLASS_AGENT] = f.options.ttl_ms[SHMETA_CLASS_LEASE] =
		f.options.ttl_ms[SHMETA_CLASS_OFFSET] = 30000;
	fixture_open(&f);
	fixture_run(&f);
	memory_read_stats(f.db, &before);
	for (int i = 0; i < 300; i++) {
		struct memory_stats round;

		memory_read_stats(f.db, &round);
		fixture_pass(&f, 100);
		memory_read_stats(f.db, &after);
		/* All of them expire at once, and are one pass. */
		cr_assert_leq(after.queries - round.queries, 10, "%lu queries after %d ms",
		              after.queries - round.queries, i * 100);
		/* Every answer stays within its time to live. */
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
			cr_assert_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), f.options.ttl_ms[cls],
			             "class %d after %d ms", cls, i * 100);
	}
	memory_read_stats(f.db, &after);
	/* Each pass asks once whether there is a feed by now. */
	cr_assert_leq(after.calls[MEMORY_CHANGES] - before.calls[MEMORY_CHANGES],
	              after.calls[MEMORY_LOAD] - before.calls[MEMORY_LOAD]);
	cr_assert_leq(after.calls[MEMORY_LOAD] - before.calls[MEMORY_LOAD], 3);
	cr_assert_leq(after.calls[MEMORY_FETCH] - before.calls[MEMORY_FETCH], 3);
	cr_assert_leq(after.queries - before.queries, 30);
	fixture_done(&f);
}

Test(sync_feed, a_source_that_only_hints_is_read_again_when_something_changed_and_not_otherwise)
{
	struct memory_stats before, after;

	fixture_init(&f);
	memory_set_feed_kind(f.db, BACKEND_FEED_HINT);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 10000);
	memory_read_stats(f.db, &before);
	fixture_pass(&f, 20000);
	memory_read_stats(f.db, &after);
	cr_assert_eq(after.calls[MEMORY_LOAD], before.calls[MEMORY_LOAD]);
	cr_assert_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 1000);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	fixture_pass(&f, 2500);
	cr_assert_eq(fixture_counters(&f).reconciles, 1);
	SAME();
	fixture_done(&f);
}

Test(sync_feed, stamps_do_not_move_before_what_the_feed_named_is_shown)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	memory_fail(f.db, MEMORY_FETCH, 1000, 0, SHMETA_ERR_SOURCE, "cannot read");

	uint64_t stamp = shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_SEGMENT].synced_at_ns;

	fixture_pass(&f, 20000);
	cr_assert_leq(shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_SEGMENT].synced_at_ns,
	              stamp + 1000000000, "the class was called in step although a change is not shown");
	cr_assert_geq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 19000);
	memory_fail(f.db, MEMORY_FETCH, 0, 0, SHMETA_ERR_SOURCE, "");
	fixture_pass(&f, 20000);
	SAME();
	cr_assert_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 1000);
	fixture_done(&f);
}

Test(sync_feed, the_poll_is_quick_while_the_source_is_busy_and_slow_when_it_is_quiet)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 30000);
	cr_assert_geq(fixture_run(&f), 0);

	uint64_t polls = fixture_counters(&f).polls;

	fixture_pass(&f, 10000);
	cr_assert_leq(fixture_counters(&f).polls - polls, 11);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	fixture_pass(&f, 1000);
	SAME();
	for (int i = 1; i < 20; i++) {
		/* Every change after the first is seen within 20 ms. */
		fixture_pass(&f, 50);
		fixture_add_segment(&f, "t", 0, 10000 + (uint64_t)i * 1000, 1000);
		fixture_pass(&f, 20);
		SAME();
	}
	fixture_done(&f);
}

Test(sync_feed, a_feed_that_lost_its_log_leads_to_a_reconcile)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	memory_silence(f.db, true);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	memory_silence(f.db, false);
	memory_drop_feed(f.db);
	fixture_pass(&f, 5000);
	SAME();
	cr_assert_eq(fixture_counters(&f).reconciles, 1);
	fixture_done(&f);
}

Test(sync_feed, the_periodic_reconcile_comes_by_itself)
{
	fixture_init(&f);
	f.options.reconcile_s = 60;
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	memory_silence(f.db, true);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	fixture_pass(&f, 61000);
	SAME();
	fixture_done(&f);
}

Test(sync_feed, a_source_that_goes_away_is_tried_with_growing_pauses_and_the_store_keeps_serving)
{
	struct memory_stats stats;

	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	memory_read_stats(f.db, &stats);

	uint64_t calls = stats.calls[MEMORY_CHANGES];

	fixture_pass(&f, 3600 * 1000);
	memory_read_stats(f.db, &stats);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	cr_assert_eq(f.board->phase, SHMETA_PHASE_DEGRADED);
	cr_assert_not_null(strstr(f.sentence, "connection refused"));
	cr_assert_geq(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), 3590 * 1000);
	/* retry_max is 10 s, so an hour has at least 360 tries; full jitter at most doubles and a
	 * bit. */
	cr_assert_geq(stats.calls[MEMORY_CHANGES] - calls, 360);
	cr_assert_leq(stats.calls[MEMORY_CHANGES] - calls, 1000);

	char text[600];

	sync_source_status(f.sync, text, sizeof text);
	cr_assert_not_null(strstr(text, "away since "));
	cr_assert_not_null(strstr(text, "connection refused"));
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_SOURCE);
	cr_assert_not_null(strstr(fixture_answer(&f, 1)->sentence, "connection refused"));

	fixture_add_segment(&f, "t", 0, 10000, 1000);
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 0, 0, SHMETA_OK, "");
	fixture_pass(&f, 11000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	SAME();
	cr_assert_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), 1000);
	sync_source_status(f.sync, text, sizeof text);
	cr_assert_str_eq(text, "connected");
	fixture_done(&f);
}

Test(sync_feed, a_source_without_a_feed_that_goes_away_is_tried_again_too)
{
	fixture_init(&f);
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 3600 * 1000);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 0, 0, SHMETA_ERR_SOURCE, "");
	fixture_pass(&f, 11000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	fixture_pass(&f, f.options.ttl_ms[SHMETA_CLASS_SEGMENT]);
	SAME();
	fixture_done(&f);
}

/* Nobody says what became of it, and what it may have done has names: no pass over everything is
 * needed. */
Test(sync_feed, a_write_of_unknown_outcome_is_looked_up_by_its_keys_alone)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"w", 1}, .partition_count = 1}};
	struct memory_stats before, after;

	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	for (uint64_t done = 0; done < 2; done++) {
		memory_read_stats(f.db, &before);
		memory_fail(f.db, MEMORY_APPLY, 1, done, SHMETA_ERR_OUTCOME_UNKNOWN,
		            "the connection was lost in COMMIT");
		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
		fixture_pass(&f, 2000);
		cr_expect_eq(f.write_status, SHMETA_ERR_OUTCOME_UNKNOWN);
		memory_read_stats(f.db, &after);
		cr_expect_eq(after.calls[MEMORY_LOAD], before.calls[MEMORY_LOAD], "everything was read");
		cr_expect_eq(fixture_topic_id(&f, "w") != 0, done == 1);
		SAME();
	}
	fixture_done(&f);
}

Test(sync_feed, a_source_that_goes_away_before_everything_was_compared_is_tried_again_too)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"w", 1}, .partition_count = 1}};

	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	memory_fail(f.db, MEMORY_APPLY, 1, 1, SHMETA_ERR_OUTCOME_UNKNOWN, "the connection was lost in COMMIT");
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	memory_fail(f.db, MEMORY_FETCH, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	memory_fail(f.db, MEMORY_LOAD, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_pass(&f, 60000);
	cr_assert_eq(f.write_status, SHMETA_ERR_OUTCOME_UNKNOWN);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 0, 0, SHMETA_ERR_SOURCE, "");
	fixture_pass(&f, 15000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	SAME();
	fixture_done(&f);
}

/* Whenever the request comes: in the round that finds the source away, between two tries, and at
 * the very time of a try. */
Test(sync_feed, nothing_waits_for_a_source_that_is_away)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"w", 1}, .partition_count = 1}};
	struct sync_object_list list = {.tenant = {SHMETA_DEFAULT_TENANT, sizeof SHMETA_DEFAULT_TENANT - 1}, .most = 1};
	uint64_t wait_ns = 0;

	fixture_init(&f);
	fixture_topic(&f, "t", 1, 1, 1111);
	fixture_open(&f);
	fixture_run(&f);
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	f.now_ns += 2000 * 1000000ull;
	for (uint64_t i = 0; i < 20; i++) {
		const struct fixture_answer *a;

		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
		cr_assert_eq(sync_list_objects(f.sync, &list, UINT64_MAX, 100 + i), SHMETA_OK);
		wait_ns = fixture_run(&f);
		cr_expect_eq(f.phase, SHMETA_PHASE_DEGRADED);
		cr_expect_eq(f.writes_answered, i + 1, "a write waits for the source after round %lu", i);
		cr_expect_eq(f.write_status, SHMETA_ERR_SOURCE);
		cr_expect_not_null(strstr(f.write_sentence, "connection refused"), "%s", f.write_sentence);
		a = fixture_answer(&f, 100 + i);
		cr_assert_not_null(a, "a list waits for the source after round %lu", i);
		cr_expect_eq(a->status, SHMETA_ERR_SOURCE);
		f.now_ns += i % 2 == 0 ? wait_ns : wait_ns / 2;
	}
	fixture_done(&f);
}

Test(sync_feed, a_full_store_says_so_serves_on_and_goes_on_when_there_is_room)
{
	fixture_init(&f);
	f.options.store_max_bytes = 2 << 20;
	f.options.grace_ns = 1000000; /* of real time: what commits leave behind is used again */
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);

	for (int i = 0; i < 40; i++) {
		char name[32];

		snprintf(name, sizeof name, "big-%d", i);
		fixture_topic(&f, name, 10, 900, 1111);
	}
	fixture_pass(&f, 5000);

	struct sync_counters shown = fixture_counters(&f);

	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED, "%s", f.log);
	cr_assert_not_null(strstr(f.sentence, "the store is full"), "%s", f.sentence);
	cr_assert_geq(fixture_counters(&f).store_full, 1);
	cr_assert_lt(shown.topics, 41);
	cr_assert_eq(shown.partitions, 4 + (shown.topics - 1) * 10, "a part of a topic was shown");
	cr_assert_eq(shown.segments, 40 + (shown.topics - 1) * 9000, "a part of a topic was shown");
	cr_assert_geq(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), 3000);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_FULL, "%d", fixture_answer(&f, 1)->status);

	/* Writes go on at the source, and say that the store does not show them. */
	const struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("t"), .partition_id = 1, .offset = 12345};
	struct shmeta_partition p;

	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.writes_answered, 1);
	cr_assert_eq(f.write_status, SHMETA_ERR_NOT_CACHED, "%s", f.write_sentence);
	cr_assert_not_null(strstr(f.write_sentence, "the store is full"), "%s", f.write_sentence);
	cr_assert_eq(f.write_result[0].status, SHMETA_OK);
	cr_assert(memory_find_partition(f.db, SHMETA_DEFAULT_TENANT, "t", 1, &p));
	cr_assert_eq(p.high_watermark, 12345);

	for (int i = 0; i < 38; i++) {
		char name[32];

		snprintf(name, sizeof name, "big-%d", i);
		memory_delete_topic(f.db, NULL, name);
	}
	fixture_pass(&f, 30000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	SAME();
	cr_assert_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), 1000);
	fixture_done(&f);
}

Test(sync_feed, the_longest_prefix_gives_a_topic_its_own_time_to_live_and_a_reload_changes_it)
{
	uint64_t synced;
	uint32_t ttl;

	fixture_init(&f);
	const struct sync_ttl_override overrides[] = {{"a", 1000}, {"a.b.", 2000}, {"a.b", 3000}};

	f.options.overrides = overrides;
	f.options.override_count = 3;
	fixture_topic(&f, "a.b.c", 2, 3, 1111);
	fixture_topic(&f, "axe", 2, 3, 1111);
	fixture_topic(&f, "other", 2, 3, 1111);
	fixture_open(&f);
	fixture_run(&f);
	cr_assert(fixture_record_stamp(&f, "a.b.c", -1, &synced, &ttl));
	cr_assert_eq(ttl, 2000);
	cr_assert(fixture_record_stamp(&f, "a.b.c", 1, &synced, &ttl));
	cr_assert_eq(ttl, 2000);
	cr_assert(fixture_record_stamp(&f, "axe", 0, &synced, &ttl));
	cr_assert_eq(ttl, 1000);
	cr_assert(fixture_record_stamp(&f, "other", 0, &synced, &ttl));
	cr_assert_eq(ttl, 0);

	const struct sync_ttl_override others[] = {{"other", 4000}};

	f.options.overrides = others;
	f.options.override_count = 1;
	f.options.ttl_ms[SHMETA_CLASS_TOPIC] = 77000;
	sync_reconfigure(f.sync, &f.options);
	fixture_pass(&f, 3000);
	cr_assert(fixture_record_stamp(&f, "a.b.c", 1, &synced, &ttl));
	cr_assert_eq(ttl, 0);
	cr_assert(fixture_record_stamp(&f, "axe", -1, &synced, &ttl));
	cr_assert_eq(ttl, 0);
	cr_assert(fixture_record_stamp(&f, "other", 0, &synced, &ttl));
	cr_assert_eq(ttl, 4000);
	cr_assert_eq(shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_TOPIC].ttl_ns, 77000000000);
	SAME();
	fixture_done(&f);
}
