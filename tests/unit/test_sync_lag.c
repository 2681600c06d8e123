/* SPDX-License-Identifier: Apache-2.0
 * A feed that says until when it tells: no answer is younger than that, and none goes stale for it
 * that a pass keeps fresh. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_lag, .timeout = 60);

static struct fixture f;

enum { MS = 1000000 };

static void begin(uint64_t lag_ms, const char *trouble)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	memory_set_feed(f.db, lag_ms * MS, trouble);
	fixture_open(&f);
	fixture_run(&f);
}

static void expect_same(void)
{
	const char *difference = fixture_difference(&f);

	cr_expect_null(difference, "%s", difference);
}

static struct memory_stats stats(void)
{
	struct memory_stats ret;

	memory_read_stats(f.db, &ret);
	return ret;
}

Test(sync_lag, no_class_is_younger_than_the_feed_tells)
{
	struct memory_stats before;

	begin(2000, NULL);
	fixture_pass(&f, 10000);
	before = stats();
	for (int i = 0; i < 200; i++) {
		fixture_pass(&f, 37);
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++) {
			cr_expect_geq(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 2000, "class %d", cls);
			cr_expect_leq(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 2000 + 1000 + 37, "class %d",
			              cls);
		}
		cr_expect_geq(fixture_counters(&f).lag_ns, 2000 * (uint64_t)MS);
	}
	cr_expect_eq(stats().calls[MEMORY_LOAD], before.calls[MEMORY_LOAD], "it tells in time: nothing is compared");
	cr_expect_eq(stats().calls[MEMORY_FETCH], before.calls[MEMORY_FETCH]);
	fixture_done(&f);
}

Test(sync_lag, what_it_names_shows_at_once_whatever_it_lags)
{
	begin(20000, NULL);
	fixture_pass(&f, 100);
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	fixture_pass(&f, 1100);
	expect_same();
	fixture_done(&f);
}

Test(sync_lag, what_was_read_since_then_does_not_get_older_by_it)
{
	begin(1000, NULL);
	fixture_pass(&f, 5000);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_LIST, "", 0, 1), SHMETA_OK);
	memory_set_feed(f.db, 20000 * (uint64_t)MS, NULL);
	fixture_pass(&f, 3000);
	cr_assert_not_null(fixture_answer(&f, 1));
	cr_expect_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	for (int cls = 0; cls <= SHMETA_CLASS_LIST; cls++)
		cr_expect_leq(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 3001, "class %d", cls);
	fixture_done(&f);
}

Test(sync_lag, where_it_stands_still_passes_keep_every_class_within_its_time_to_live)
{
	struct memory_stats before;
	uint64_t stood = 0;

	begin(1000, NULL);
	fixture_pass(&f, 5000);
	before = stats();
	for (int i = 0; i < 1200; i++, stood += 100) {
		memory_set_feed(f.db, (1000 + stood) * MS, "the feed has stopped");
		if (i == 500)
			fixture_add_segment(&f, "t", 1, 10000, 1000);
		fixture_pass(&f, 100);
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
			cr_expect_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), f.options.ttl_ms[cls],
			             "class %d after %d ms", cls, i * 100);
	}
	/* 120 s, a time to live of 30 s: no more often than without a feed. */
	cr_expect_geq(stats().calls[MEMORY_LOAD] - before.calls[MEMORY_LOAD], 4);
	cr_expect_leq(stats().calls[MEMORY_LOAD] - before.calls[MEMORY_LOAD], 6);
	expect_same();
	fixture_done(&f);
}

Test(sync_lag, hints_that_live_shorter_than_it_lags_are_read_as_without_a_feed)
{
	begin(4700, NULL);
	for (int i = 0; i < 600; i++) {
		fixture_pass(&f, 100);
		for (int cls = SHMETA_CLASS_AGENT; cls <= SHMETA_CLASS_OFFSET; cls++)
			cr_expect_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), f.options.ttl_ms[cls]);
	}
	cr_expect_leq(stats().calls[MEMORY_FETCH], 60 / 3 + 1);
	fixture_done(&f);
}

Test(sync_lag, a_feed_that_is_gone_is_passes_and_comes_back_with_one)
{
	struct memory_stats before;
	char text[600];

	begin(1000, NULL);
	fixture_pass(&f, 5000);
	memory_set_feed(f.db, 1000 * (uint64_t)MS, "it is refused; passes");
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	fixture_pass(&f, 1100);
	cr_expect(fixture_logged(&f, "feed_stopped"));
	sync_source_status(f.sync, text, sizeof text);
	cr_expect_str_eq(text, "connected; it is refused; passes");
	before = stats();
	for (int i = 0; i < 600; i++) {
		fixture_pass(&f, 100);
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
			cr_expect_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), f.options.ttl_ms[cls]);
	}
	cr_expect_leq(stats().calls[MEMORY_LOAD] - before.calls[MEMORY_LOAD], 3);
	/* Each pass asks once whether there is a feed by now. */
	cr_expect_leq(stats().calls[MEMORY_CHANGES] - before.calls[MEMORY_CHANGES],
	              stats().calls[MEMORY_LOAD] - before.calls[MEMORY_LOAD]);
	/* The next pass finds it. */
	memory_set_feed(f.db, 1000 * (uint64_t)MS, NULL);
	memory_set_feed_kind(f.db, BACKEND_FEED_KEYS);
	fixture_pass(&f, 25000);
	cr_expect(fixture_logged(&f, "feed_runs"));
	sync_source_status(f.sync, text, sizeof text);
	cr_expect_str_eq(text, "connected");
	fixture_add_segment(&f, "t", 2, 10000, 1000);
	before = stats();
	fixture_pass(&f, 1100);
	cr_expect_eq(stats().calls[MEMORY_LOAD], before.calls[MEMORY_LOAD], "the feed told it");
	expect_same();
	fixture_done(&f);
}
