/* SPDX-License-Identifier: Apache-2.0
 * What fails fails alone: one key that cannot be read, or not be applied, keeps nothing else from
 * being brought over. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"
#include "writer/engine/engine.h"

TestSuite(sync_alone, .timeout = 60);

static struct fixture f;

enum { TOPICS = 40 };

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

/* Few enough to be tried in one batch. */
enum { FAILING_MANY = 8 };

static void open_many(void)
{
	char name[16];

	fixture_init(&f);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%02d", i);
		fixture_topic(&f, name, 2, 3, 1111);
	}
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	SAME();
}

static void change_all(uint64_t watermark)
{
	char name[16];

	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%02d", i);
		cr_assert(memory_set_watermark(f.db, NULL, name, 1, watermark));
	}
}

/* The only line in which source and store differ is of this partition. */
static void only_old(uint64_t source, uint64_t store)
{
	char expected[200];
	const char *difference = fixture_difference(&f);

	snprintf(expected, sizeof expected,
	         "source ' partition 1 watermark %llu created 1111 updated 1111', store "
	         "' partition 1 watermark %llu created 1111 updated 1111'",
	         (unsigned long long)source, (unsigned long long)store);
	cr_assert_not_null(difference);
	cr_assert_str_eq(difference, expected);
}

static uint64_t waits_ms(void)
{
	return fixture_run(&f) / 1000000;
}

static void spoil(bool stray)
{
	cr_assert(stray ? memory_stray_partition(f.db, "t17", 1)
	                : memory_break_partition(f.db, "t17", 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
}

static void one_bad_key_of_forty(bool stray)
{
	open_many();
	spoil(stray);
	change_all(77777);
	fixture_pass(&f, 1000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	memory_mend_partition(f.db, "t17", 1); /* for the look at the source */
	only_old(77777, 3000);
	spoil(stray);
	cr_assert(fixture_logged(&f, "quarantined"));
	cr_assert(!fixture_logged(&f, "source_away") && !fixture_logged(&f, "store_failed"), "%s", f.log);

	/* Others go on, and the bad one is asked for now and then only. */
	uint64_t before = fetches();

	fixture_pass(&f, 60000);
	cr_assert_leq(fetches() - before, 20);
	cr_assert_gt(fetches(), before, "it is never tried again");
	cr_assert_eq(fixture_counters(&f).quarantined, 1, "the same failure is one quarantined row");

	/* Who asks for it hears why; who asks for another one does not. */
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t17", 1, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t17", 0, 2), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_not_null(strstr(fixture_answer(&f, 1)->sentence, stray ? "out of range" : "cannot be converted"),
	                   "%s", fixture_answer(&f, 1)->sentence);
	cr_assert_eq(fixture_answer(&f, 2)->status, SHMETA_OK, "%s", fixture_answer(&f, 2)->sentence);

	memory_mend_partition(f.db, "t17", 1);
	fixture_pass(&f, 30000);
	SAME();
	cr_assert(fixture_logged(&f, "quarantine_left"), "%d %s", (int)fixture_counters(&f).quarantined, f.log);
	fixture_done(&f);
}

Test(sync_alone, a_key_that_the_source_cannot_show_is_quarantined_alone_and_comes_back)
{
	one_bad_key_of_forty(false);
}

Test(sync_alone, a_key_that_the_store_cannot_take_is_quarantined_alone_and_comes_back)
{
	one_bad_key_of_forty(true);
}

Test(sync_alone, many_bad_keys_leave_the_good_ones_alone_too)
{
	char name[16];

	open_many();
	for (int i = 0; i < TOPICS; i += 2) {
		snprintf(name, sizeof name, "t%02d", i);
		cr_assert(memory_break_partition(f.db, name, 1, SHMETA_ERR_INVALID_ARGUMENT, "broken"));
	}
	change_all(5);
	fixture_topic(&f, "later", 1, 1, 2222);
	fixture_pass(&f, 1000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	for (int i = 0; i < TOPICS; i += 2) {
		snprintf(name, sizeof name, "t%02d", i);
		memory_mend_partition(f.db, name, 1);
	}
	fixture_pass(&f, 60000);
	SAME();
	fixture_done(&f);
}

Test(sync_alone, the_feed_brings_a_mended_key_back_within_seconds)
{
	open_many();
	cr_assert(memory_break_partition(f.db, "t17", 1, SHMETA_ERR_INVALID_ARGUMENT, "broken"));
	change_all(5);
	fixture_pass(&f, 600000); /* by now it is tried rarely */
	memory_mend_partition(f.db, "t17", 1);
	cr_assert(memory_set_watermark(f.db, NULL, "t17", 1, 6));
	cr_assert_leq(waits_ms(), 2000);
	fixture_pass(&f, 2000);
	SAME();
	fixture_done(&f);
}

Test(sync_alone, a_restart_names_what_failed_again)
{
	open_many();
	cr_assert(memory_break_partition(f.db, "t17", 1, SHMETA_ERR_INVALID_ARGUMENT, "broken"));
	change_all(5);
	fixture_pass(&f, 1000);
	fixture_close(&f);
	memory_mend_partition(f.db, "t17", 1);
	fixture_open(&f);
	fixture_pass(&f, 2000);
	SAME();
	fixture_done(&f);
}

Test(sync_alone, a_key_that_fails_is_forgotten_with_its_topic)
{
	uint64_t reconciles;

	open_many();
	spoil(false);
	change_all(5);
	fixture_pass(&f, 1000);
	memory_delete_topic(f.db, NULL, "t17");
	fixture_pass(&f, 60000);
	SAME();
	cr_assert_eq(f.sync->failing.count, 0);
	/* Nothing holds the feed's position back any more: a restart goes on from it. */
	fixture_close(&f);
	fixture_topic(&f, "later", 1, 1, 2222);
	fixture_open(&f);
	reconciles = fixture_counters(&f).reconciles;
	fixture_pass(&f, 5000);
	cr_assert_eq(fixture_counters(&f).reconciles, reconciles);
	cr_assert_eq(fixture_counters(&f).loads, 0);
	cr_assert_not_null(strstr(f.log, "the change feed goes on where the former writer left it"), "%s", f.log);
	SAME();
	fixture_done(&f);
}

Test(sync_alone, a_full_pass_that_ends_well_forgets_what_failed)
{
	open_many();
	spoil(false);
	change_all(5);
	fixture_pass(&f, 120000); /* it is tried rarely by now */
	cr_assert_eq(f.sync->failing.count, 1);
	memory_mend_partition(f.db, "t17", 1);
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_pass(&f, 10);
	cr_assert_eq(f.sync->failing.count, 0);
	SAME();
	fixture_done(&f);
}

Test(sync_alone, a_write_to_a_quarantined_key_is_not_cached_and_the_others_are_done)
{
	struct shmeta_op ops[2] = {
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t17", 3}, .partition_id = 1, .offset = 9},
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t18", 3}, .partition_id = 1, .offset = 9}};

	open_many();
	cr_assert(memory_break_partition(f.db, "t17", 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	cr_assert_eq(fixture_write(&f, &ops[0], 1), SHMETA_OK);
	fixture_pass(&f, 100);
	cr_assert_eq(f.write_status, SHMETA_ERR_NOT_CACHED);
	cr_assert_not_null(strstr(f.write_sentence, "cannot be converted"), "%s", f.write_sentence);
	cr_assert_eq(f.write_result[0].status, SHMETA_OK);
	cr_assert_eq(fixture_write(&f, &ops[1], 1), SHMETA_OK);
	fixture_pass(&f, 100);
	cr_assert_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);

	/* A topic that cannot be read at all once it is there. */
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = {"new", 3}, .partition_count = 2}};

	cr_assert(memory_break_partition(f.db, "new", 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	cr_assert_eq(fixture_write(&f, &create, 1), SHMETA_OK);
	fixture_pass(&f, 100);
	cr_assert_eq(f.write_result[0].status, SHMETA_OK, "%s", f.write_result[0].text);
	cr_assert_eq(f.write_status, SHMETA_ERR_NOT_CACHED);
	fixture_done(&f);
}

/* The write itself has just taken the lock: whoever had it is gone. */
Test(sync_alone, a_write_to_a_key_that_was_locked_before_it_is_shown_with_its_answer)
{
	struct shmeta_op ops[FAILING_MANY];
	char name[FAILING_MANY][8];

	open_many();
	for (uint32_t i = 0; i < FAILING_MANY; i++) {
		snprintf(name[i], sizeof name[i], "t%02u", i);
		ops[i] = (struct shmeta_op){
			.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {name[i], 3}, .partition_id = 1, .offset = 9};
		cr_assert(memory_break_partition(f.db, name[i], 1, SHMETA_ERR_BUSY, "another session has locked it"));
		cr_assert(memory_set_watermark(f.db, NULL, name[i], 1, 7));
	}
	fixture_pass(&f, 5000);
	cr_assert_eq(f.sync->failing.count, FAILING_MANY);
	for (uint32_t i = 0; i < FAILING_MANY; i++)
		memory_mend_partition(f.db, name[i], 1);
	/* No time passes: none of them is tried again by itself. */
	cr_assert_eq(fixture_write(&f, ops, FAILING_MANY), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_eq(f.sync->failing.count, 0);
	SAME();
	fixture_done(&f);
}

Test(sync_alone, a_write_to_a_partition_of_a_topic_that_was_locked_before_it_is_shown_with_its_answer)
{
	const struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t05", 3}, .partition_id = 0, .offset = 9};

	open_many();
	cr_assert(memory_break_partition(f.db, "t05", 1, SHMETA_ERR_BUSY, "another session has locked it"));
	memory_delete_topic(f.db, NULL, "t05");
	fixture_topic(&f, "t05", 2, 3, 2222);
	fixture_pass(&f, 5000);
	cr_assert_eq(f.sync->failing.count, 1);
	memory_mend_partition(f.db, "t05", 1);
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_eq(f.sync->failing.count, 0);
	SAME();
	fixture_done(&f);
}

/* A consumer's offset lies at a partition, and is not of it. */
Test(sync_alone, a_locked_offset_makes_no_write_to_its_partition_or_lease_one_that_is_not_shown)
{
	const struct shmeta_group group = {.group_id = {"g", 1}};
	const struct shmeta_committed_offset offset = {.group_id = {"g", 1}, .partition_id = 1, .committed_offset = 1};
	struct shmeta_op ops[3] = {
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t05", 3}, .partition_id = 1, .offset = 9},
		{.type = SHMETA_OP_ENSURE_GROUP, .group_id = {"h", 1}},
		{.type = SHMETA_OP_COMMIT_OFFSET,
	         .name = {"t05", 3},
	         .partition_id = 1,
	         .u.committed = {.group_id = {"g", 1}, .committed_offset = 2}}};

	open_many();
	cr_assert(memory_put_group(f.db, NULL, &group));
	fixture_pass(&f, 1000);
	memory_fail(f.db, MEMORY_FETCH, 1, 0, SHMETA_ERR_BUSY, "another session has locked it");
	cr_assert(memory_put_offset(f.db, NULL, "t05", &offset));
	for (int i = 0; i < 1000 && f.sync->failing.count == 0; i++) {
		f.now_ns += 1000000;
		fixture_run(&f);
	}
	cr_assert_eq(f.sync->failing.count, 1);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(fixture_write(&f, &ops[i], 1), SHMETA_OK);
		if (i == 2)
			memory_fail(f.db, MEMORY_FETCH, 1, 0, SHMETA_ERR_BUSY, "another session has locked it");
		fixture_run(&f);
		cr_expect_eq(f.write_status, i == 2 ? SHMETA_ERR_NOT_CACHED : SHMETA_OK, "%d: %s", i, f.write_sentence);
	}
	fixture_pass(&f, 5000);
	SAME();
	fixture_done(&f);
}

Test(sync_alone, a_row_that_no_full_pass_can_show_does_not_stop_the_feed)
{
	open_many();
	spoil(false);
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_pass(&f, 1000);
	cr_assert_not_null(fixture_answer(&f, 1));
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_INVALID_ARGUMENT, "%d", fixture_answer(&f, 1)->status);
	cr_assert_not_null(strstr(fixture_answer(&f, 1)->sentence, "cannot be converted"));
	cr_assert(memory_set_watermark(f.db, NULL, "t18", 1, 88888));
	fixture_topic(&f, "later", 1, 1, 2222);
	fixture_pass(&f, 1000);

	uint64_t loads_before, loads_after;
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	loads_before = stats.calls[MEMORY_LOAD];
	memory_mend_partition(f.db, "t17", 1);
	SAME();
	memory_read_stats(f.db, &stats);
	loads_after = stats.calls[MEMORY_LOAD];
	cr_assert_eq(loads_after, loads_before + 1, "the oracle's own");
	fixture_pass(&f, 60000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	SAME();
	fixture_done(&f);
}

/* Without a feed to go on from, and with a row that no full pass can show, what is known is read by
 * its keys. */
Test(sync_alone, a_row_that_no_full_pass_can_show_leaves_the_others_to_be_read_by_their_keys)
{
	open_many();
	fixture_crash(&f);
	change_all(4242);
	memory_drop_feed(f.db);
	spoil(false);
	f.now_ns += 2000000000;
	fixture_open(&f);
	fixture_pass(&f, 5000);
	memory_mend_partition(f.db, "t17", 1);
	only_old(4242, 3000);
	spoil(false);
	fixture_pass(&f, 60000);
	memory_mend_partition(f.db, "t17", 1);
	fixture_topic(&f, "later", 1, 1, 2222);
	fixture_pass(&f, 60000);
	SAME();
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	fixture_done(&f);
}

Test(sync_alone, the_periodic_comparison_compares_the_others_by_their_keys_then)
{
	open_many();
	fixture_close(&f);
	f.options.reconcile_s = 60;
	f.now_ns += 2000000000;
	fixture_open(&f);
	fixture_pass(&f, 2000);
	memory_silence(f.db, true);
	cr_assert(memory_set_watermark(f.db, NULL, "t05", 1, 555));
	spoil(false);
	fixture_pass(&f, 120000);
	memory_mend_partition(f.db, "t17", 1);
	SAME();
	cr_assert_eq(fixture_counters(&f).reconcile_repairs, 1);
	fixture_done(&f);
}

/* ---- without a store to begin with ---- */

Test(sync_alone, a_row_that_the_source_cannot_show_costs_the_first_load_that_row_only)
{
	char name[16];

	fixture_init(&f);
	for (int i = 0; i < 700; i++) { /* several pieces */
		snprintf(name, sizeof name, "t%02d", i);
		fixture_topic(&f, name, 2, 3, 1111);
	}
	spoil(false);
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	cr_assert_eq(fixture_counters(&f).loads, 1);
	cr_assert_eq(fixture_counters(&f).topics, 700);
	cr_assert_eq(fixture_counters(&f).partitions, 2 * 700 - 1);
	cr_assert_geq(f.progress_calls, 3, "%d", (int)f.progress_calls);
	cr_assert_eq(fixture_counters(&f).quarantined, 1);
	cr_assert(fixture_logged(&f, "quarantined"));

	/* The feed goes on from the list of names. */
	cr_assert(memory_set_watermark(f.db, NULL, "t18", 1, 88888));
	fixture_topic(&f, "later", 1, 1, 2222);
	fixture_pass(&f, 1000);
	cr_assert_eq(fixture_counters(&f).topics, 701);

	memory_mend_partition(f.db, "t17", 1);
	fixture_pass(&f, 60000);
	SAME();
	cr_assert_eq(fixture_counters(&f).quarantined, 0);
	cr_assert(fixture_logged(&f, "quarantine_left"));
	cr_assert_eq(fixture_counters(&f).loads, 1);
	fixture_done(&f);
}

static uint64_t listed;

/* As soon as the store is published. */
static void look_once(struct fixture *fixture)
{
	if (listed == UINT64_MAX && fixture->sync != NULL && sync_store(fixture->sync) != NULL)
		listed = shmeta__store_counters(sync_store(fixture->sync))->listed;
}

Test(sync_alone, what_the_first_load_lost_is_listed_in_the_store_that_it_publishes)
{
	fixture_init(&f);
	fixture_topic(&f, "t17", 2, 3, 1111);
	spoil(false);
	listed = UINT64_MAX;
	f.on_clock = look_once;
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_eq(listed, 1, "a reader was told that the source does not have it");
	fixture_done(&f);
}

Test(sync_alone, so_many_bad_rows_are_no_longer_about_keys)
{
	char name[16];

	fixture_init(&f);
	for (int i = 0; i < 1001; i++) {
		snprintf(name, sizeof name, "t%04d", i);
		fixture_topic(&f, name, 1, 0, 1111);
		cr_assert(memory_break_partition(f.db, name, 0, SHMETA_ERR_INVALID_ARGUMENT, "broken"));
	}
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_null(sync_store(f.sync));
	cr_assert_not_null(strstr(f.sentence, "more than 1000 keys cannot be read; the last: "), "%s", f.sentence);
	for (int i = 0; i < 1001; i++) {
		snprintf(name, sizeof name, "t%04d", i);
		memory_mend_partition(f.db, name, 0);
	}
	fixture_pass(&f, 60000);
	SAME();
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	fixture_done(&f);
}

/* A topic that came meanwhile and was not told of is found, too, and one that went goes. */
Test(sync_alone, a_pass_by_keys_finds_what_the_store_does_not_know)
{
	open_many();
	fixture_crash(&f);
	fixture_topic(&f, "later", 1, 1, 2222);
	cr_assert(memory_delete_topic(f.db, NULL, "t03"));
	memory_drop_feed(f.db);
	spoil(false);
	f.now_ns += 2000000000;
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	cr_assert_neq(fixture_topic_id(&f, "later"), 0);
	cr_assert_eq(fixture_topic_id(&f, "t03"), 0);
	cr_assert_neq(fixture_topic_id(&f, "t17"), 0);
	cr_assert_eq(fixture_counters(&f).quarantined, 1);
	/* In step again, but for that key. */
	cr_assert(memory_set_watermark(f.db, NULL, "t18", 1, 88888));
	fixture_pass(&f, 1000);
	cr_assert_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_PARTITION), 1000);
	memory_mend_partition(f.db, "t17", 1);
	fixture_pass(&f, 60000);
	SAME();
	fixture_done(&f);
}

/* Of a topic whose partitions are read one by one. */
Test(sync_alone, partitions_that_the_topic_no_longer_has_go)
{
	const struct shmeta_topic smaller = {
		.name = {"t17", 3}, .partition_count = 1, .created_at_ms = 1111, .updated_at_ms = 1111};

	open_many();
	fixture_crash(&f);
	cr_assert(memory_put_topic(f.db, NULL, &smaller));
	(void)memory_delete_partition(f.db, NULL, "t17", 1);
	cr_assert(memory_break_partition(f.db, "t17", 0, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	memory_drop_feed(f.db);
	f.now_ns += 2000000000;
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	cr_assert_eq(fixture_counters(&f).partitions, 2 * TOPICS - 1);
	memory_mend_partition(f.db, "t17", 0);
	fixture_pass(&f, 60000);
	SAME();
	fixture_done(&f);
}

/* While a first load waits: nobody sees a store that lacks the key. */
static void unlock_after_a_while(struct fixture *fixture)
{
	static unsigned int looks;
	struct memory_stats stats;

	memory_read_stats(fixture->db, &stats);
	if (stats.calls[MEMORY_FETCH] == 0)
		return;
	fixture->now_ns += 20000000000;
	if (++looks != 100)
		return;
	cr_assert_null(sync_store(fixture->sync), "it was taken for a row that cannot be read");
	memory_mend_partition(fixture->db, "t18", 1);
}

/* It says nothing of the key: all of it is read when the lock is gone. */
Test(sync_alone, a_key_that_is_locked_is_not_lost)
{
	char name[16];
	struct memory_stats stats;

	fixture_init(&f);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%02d", i);
		fixture_topic(&f, name, 2, 3, 1111);
	}
	spoil(false);
	cr_assert(memory_break_partition(f.db, "t18", 1, SHMETA_ERR_BUSY, "somebody has locked it"));
	fixture_open(&f);
	f.on_clock = unlock_after_a_while;
	fixture_run(&f);
	f.on_clock = NULL;
	cr_assert_not_null(sync_store(f.sync));
	memory_read_stats(f.db, &stats);
	cr_expect_eq(stats.calls[MEMORY_LOAD], 2, "it began anew: all, the names");
	cr_assert_eq(fixture_counters(&f).quarantined, 1);
	memory_mend_partition(f.db, "t17", 1);
	fixture_pass(&f, 60000);
	SAME();
	fixture_done(&f);
}

static void stop_after_a_while(struct fixture *fixture)
{
	static unsigned int looks;

	fixture->now_ns += 20000000000;
	if (++looks == 1000)
		wake_stop(fixture->sync);
}

Test(sync_alone, a_stop_ends_a_first_load_that_waits)
{
	fixture_init(&f);
	fixture_topic(&f, "t17", 2, 3, 1111);
	fixture_topic(&f, "t18", 2, 3, 1111);
	spoil(false);
	cr_assert(memory_break_partition(f.db, "t18", 1, SHMETA_ERR_BUSY, "somebody has locked it"));
	fixture_open(&f);
	f.on_clock = stop_after_a_while;
	fixture_run(&f);
	cr_expect_null(sync_store(f.sync));
	fixture_done(&f);
}

/* The list of names is judged like a load. */
Test(sync_alone, a_pass_by_keys_does_not_believe_at_once_that_most_is_gone)
{
	char name[16];

	open_many();
	fixture_crash(&f);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%02d", i);
		if (i != 17)
			cr_assert(memory_delete_topic(f.db, NULL, name));
	}
	memory_drop_feed(f.db);
	spoil(false);
	f.now_ns += 2000000000;
	fixture_open(&f);
	for (int i = 0; i < 100 && !fixture_logged(&f, "shrink_suspected"); i++) {
		f.now_ns += 10000000;
		fixture_run(&f);
	}
	cr_assert(fixture_logged(&f, "shrink_suspected"), "%s", f.log);
	cr_assert_neq(fixture_topic_id(&f, "t16"), 0);
	fixture_pass(&f, 10000);
	cr_assert(fixture_logged(&f, "shrink_confirmed"), "%s", f.log);
	cr_assert_eq(fixture_topic_id(&f, "t16"), 0);
	cr_assert_neq(fixture_topic_id(&f, "t17"), 0);
	memory_mend_partition(f.db, "t17", 1);
	fixture_pass(&f, 60000);
	SAME();
	fixture_done(&f);
}

/* The feed will not name it again: whoever starts anew reads everything. */
Test(sync_alone, a_writer_that_starts_anew_finds_what_the_first_load_lost)
{
	char name[16];

	fixture_init(&f);
	for (int i = 0; i < TOPICS; i++) {
		snprintf(name, sizeof name, "t%02d", i);
		fixture_topic(&f, name, 2, 3, 1111);
	}
	spoil(false);
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_assert_eq(fixture_counters(&f).quarantined, 1);
	fixture_crash(&f);
	memory_mend_partition(f.db, "t17", 1);
	f.now_ns += 2000000000;
	fixture_open(&f);
	fixture_pass(&f, 5000);
	SAME();
	cr_assert_eq(fixture_counters(&f).quarantined, 0);
	fixture_done(&f);
}
