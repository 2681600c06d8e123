/* SPDX-License-Identifier: Apache-2.0
 * The pass over everything: what it holds, what it removes, and what is not its business any more.
 * Who has a turn in it: contract/test_pass. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"
#include "writer/engine/engine.h"
#include "writer/keys/queue.h"

TestSuite(sync_pass, .timeout = 60);

static struct fixture f;

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static struct memory_stats stats(void)
{
	struct memory_stats ret;

	memory_read_stats(f.db, &ret);
	return ret;
}

static void open_many(uint32_t topics, uint32_t pass_keys)
{
	fixture_init(&f);
	f.options.pass_keys = pass_keys;
	cr_assert(memory_fill(f.db, topics, 2, 3, 7));
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	memory_silence(f.db, true);
}

static const char *name_of(int i)
{
	static char name[32];

	snprintf(name, sizeof name, "topic-%05d", i);
	return name;
}

static void compare_all(void)
{
	uint64_t before = fixture_counters(&f).reconciles;

	cr_assert_eq(fixture_compare_all(&f, 1 + before), SHMETA_OK);
	fixture_pass(&f, 60000);
	cr_assert_eq(fixture_counters(&f).reconciles, before + 1);
	cr_assert_not_null(fixture_answer(&f, 1 + before));
	cr_assert_eq(fixture_answer(&f, 1 + before)->status, SHMETA_OK, "%s", fixture_answer(&f, 1 + before)->sentence);
}

/* The most that waits for a pass at any time. */
static size_t most;

static void look(struct fixture *fixture)
{
	if (fixture->sync != NULL && fixture->sync->queue->pass.count > most)
		most = fixture->sync->queue->pass.count;
}

/* ---- how much is held ---- */

Test(sync_pass, more_differences_than_are_held_are_found_in_several_looks_and_none_is_left)
{
	uint64_t loads;

	open_many(400, 50);
	for (int i = 0; i < 400; i++)
		cr_assert(memory_set_watermark(f.db, NULL, name_of(i), 1, 4711));
	loads = stats().calls[MEMORY_LOAD];
	most = 0;
	f.on_clock = look;
	compare_all();
	f.on_clock = NULL;
	loads = stats().calls[MEMORY_LOAD] - loads;
	cr_expect_geq(loads, 8, "%d looks held 400 differences", (int)loads);
	cr_expect_leq(loads, 9);
	cr_expect_leq(most, 50 + 3, "and three classes");
	cr_expect_eq(fixture_counters(&f).reconcile_repairs, 400);
	SAME();
	fixture_done(&f);
}

Test(sync_pass, more_new_names_than_are_held_are_listed_again_until_all_are_read)
{
	open_many(3, 50);
	for (int i = 100; i < 500; i++)
		fixture_topic(&f, name_of(i), 1, 1, 1111);
	/* No load is possible for the sake of one row, so everything is read by its keys. */
	cr_assert(memory_break_partition(f.db, name_of(0), 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	uint64_t loads = stats().calls[MEMORY_LOAD];

	most = 0;
	f.on_clock = look;
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_pass(&f, 5000);
	f.on_clock = NULL;
	cr_expect_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(stats().calls[MEMORY_LOAD] - loads, 1 + 8, "a load, and lists of 50 of 400 names");
	cr_expect_leq(most, 512);
	memory_mend_partition(f.db, name_of(0), 1);
	SAME();
	fixture_done(&f);
}

static unsigned int lists;
static bool answered;

/* Somebody writes when the names begin to be listed, behind a load that fails. */
static void write_meanwhile(void *arg, enum memory_call call, int end)
{
	static const struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                                    .name = {"topic-00002", 11},
	                                    .partition_id = 1,
	                                    .offset = 4711};

	(void)arg;
	if (call != MEMORY_LOAD)
		return;
	lists += !end;
	if (lists != 2)
		return;
	f.now_ns += 1000000000; /* a turn is due */
	if (!end)
		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	else
		answered = f.writes_answered == 1;
}

Test(sync_pass, others_have_their_turn_while_names_are_listed)
{
	open_many(3, 50);
	cr_assert(memory_break_partition(f.db, name_of(0), 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	memory_set_hook(f.db, write_meanwhile, NULL);
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_pass(&f, 5000);
	memory_set_hook(f.db, NULL, NULL);
	cr_expect_eq(lists, 2, "a load, and a list");
	cr_expect(answered, "the write waited for the list");
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	memory_mend_partition(f.db, name_of(0), 1);
	SAME();
	fixture_done(&f);
}

Test(sync_pass, everything_that_the_store_has_is_read_by_its_keys_however_much_it_is)
{
	open_many(3000, 50);
	for (int i = 0; i < 3000; i++)
		cr_assert(memory_set_watermark(f.db, NULL, name_of(i), 0, 4711));
	cr_assert(memory_break_partition(f.db, name_of(0), 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	most = 0;
	f.on_clock = look;
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_pass(&f, 5000);
	f.on_clock = NULL;
	cr_expect_leq(most, 512);
	memory_mend_partition(f.db, name_of(0), 1);
	SAME();
	fixture_done(&f);
}

/* ---- what goes ---- */

/* A topic that is not there while everything is loaded, and is again before it is read by
 * itself. */
static enum { THERE, AWAY, THERE_AGAIN } orders;

static void on_call(void *arg, enum memory_call call, int end)
{
	(void)arg;
	if (end == 0 && call == MEMORY_LOAD && orders == THERE) {
		memory_delete_topic(f.db, NULL, "orders");
		orders = AWAY;
	} else if (end == 0 && call == MEMORY_FETCH && orders == AWAY) {
		fixture_topic(&f, "orders", 3, 40, 1111);
		orders = THERE_AGAIN;
	}
}

Test(sync_pass, what_the_load_did_not_show_is_read_again_before_it_is_removed)
{
	uint32_t id;

	fixture_init(&f);
	fixture_topic(&f, "orders", 3, 40, 1111);
	fixture_topic(&f, "stays", 3, 40, 1111);
	fixture_topic(&f, "stays too", 3, 40, 1111);
	fixture_open(&f);
	fixture_run(&f);
	id = fixture_topic_id(&f, "orders");
	memory_silence(f.db, true);
	orders = THERE;
	memory_set_hook(f.db, on_call, NULL);
	compare_all();
	memory_set_hook(f.db, NULL, NULL);
	cr_assert_eq(orders, THERE_AGAIN, "it was not away while everything was loaded, or was not read again");
	cr_expect_eq(fixture_topic_id(&f, "orders"), id, "it was removed, and came back as another one");
	SAME();
	fixture_done(&f);
}

/* ---- lost names ---- */

static bool lose;

static void on_load(void *arg, enum memory_call call, int end)
{
	(void)arg;
	/* While it is loaded, the feed loses its log: what has changed since is not known by
	 * name. */
	if (call == MEMORY_LOAD && end == 0 && lose) {
		lose = false;
		memory_silence(f.db, false);
		fixture_add_segment(&f, "orders", 0, 40000, 10);
		memory_drop_feed(f.db);
	}
}

Test(sync_pass, a_feed_that_loses_its_log_in_a_pass_is_in_step_only_after_another_one)
{
	fixture_init(&f);
	fixture_topic(&f, "orders", 3, 40, 1111);
	fixture_open(&f);
	fixture_run(&f);
	lose = true;
	memory_set_hook(f.db, on_load, NULL);
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_counters(&f).reconciles, 1);
	cr_expect(feed_is_behind(f.sync), "it is %s", feed_state_name(f.sync->feed));
	fixture_pass(&f, 20000);
	memory_set_hook(f.db, NULL, NULL);
	cr_expect_eq(fixture_counters(&f).reconciles, 2);
	cr_expect(feed_in_step(f.sync));
	SAME();
	fixture_done(&f);
}

/* ---- times to live ---- */

static void expect_ttl(const char *topic, uint32_t ttl_ms, uint64_t synced_at_ns)
{
	uint64_t synced;
	uint32_t ttl;

	for (int64_t partition = -1; partition < 2; partition++) {
		cr_assert(fixture_record_stamp(&f, topic, partition, &synced, &ttl));
		cr_expect_eq(ttl, ttl_ms, "%s %d has %u", topic, (int)partition, ttl);
		cr_expect_eq(synced, synced_at_ns, "it was not read again");
	}
}

Test(sync_pass, times_to_live_that_are_configured_anew_reach_all_records_and_cost_the_source_nothing)
{
	static const struct sync_ttl_override overrides[] = {{"topic-0", 7000}, {"topic-00017", 9000}};
	struct memory_stats before;
	uint64_t synced;
	uint32_t ttl;

	open_many(3000, 0);
	cr_assert(fixture_record_stamp(&f, name_of(17), 0, &synced, &ttl));
	cr_expect_eq(ttl, 0);
	before = stats();
	f.options.overrides = overrides;
	f.options.override_count = 2;
	sync_reconfigure(f.sync, &f.options);
	fixture_pass(&f, 100);
	expect_ttl(name_of(0), 7000, synced);
	expect_ttl(name_of(17), 9000, synced);
	expect_ttl(name_of(2999), 7000, synced);
	/* A writer that starts anew finds what was configured meanwhile, as soon as it may
	 * write. */
	fixture_close(&f);
	f.options.override_count = 1;
	fixture_open(&f);
	memory_silence(f.db, false);
	cr_assert(memory_set_watermark(f.db, NULL, name_of(1), 0, 4711));
	fixture_pass(&f, 5000);
	expect_ttl(name_of(17), 7000, synced);
	cr_expect_eq(stats().calls[MEMORY_LOAD], before.calls[MEMORY_LOAD]);
	cr_expect_eq(fixture_counters(&f).reconciles, 0);
	SAME();
	fixture_done(&f);
}
