/* SPDX-License-Identifier: Apache-2.0
 * A reload is in force at once, also for what was planned by the former options; and one that changes nothing postpones nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/memory_faults.h"
#include "tests/support/sync_fixture.h"

static struct fixture f;

static void prepare(void)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 2, 3, 1111);
}

static void done(void)
{
	fixture_done(&f);
}

TestSuite(sync_reload, .timeout = 60, .init = prepare, .fini = done);

static void open_engine(void)
{
	fixture_open(&f);
	fixture_pass(&f, 100);
}

static void reload(void)
{
	sync_reconfigure(f.sync, &f.options);
}

Test(sync_reload, a_reload_of_the_same_options_postpones_no_full_comparison)
{
	f.options.reconcile_s = 300;
	open_engine();
	uint64_t before = fixture_counters(&f).reconciles;

	for (int i = 0; i < 20; i++) {
		fixture_pass(&f, 60000);
		reload();
	}
	cr_expect_geq(fixture_counters(&f).reconciles - before, 3u);
}

Test(sync_reload, without_a_feed_reloads_let_no_answer_go_stale)
{
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	open_engine();
	for (int i = 0; i < 20; i++) {
		fixture_pass(&f, 10000);
		reload();
		cr_assert_lt(fixture_stamp_age_ms(&f, SHMETA_CLASS_PARTITION), 30000u, "reload %d", i);
	}
}

Test(sync_reload, a_shorter_interval_of_comparisons_holds_at_once_and_a_longer_one_too)
{
	f.options.reconcile_s = 100000;
	open_engine();
	uint64_t before = fixture_counters(&f).reconciles;

	f.options.reconcile_s = 60;
	reload();
	fixture_pass(&f, 61000);
	cr_expect_eq(fixture_counters(&f).reconciles - before, 1u);
	f.options.reconcile_s = 0;
	reload();
	fixture_pass(&f, 200000);
	cr_expect_eq(fixture_counters(&f).reconciles - before, 1u);
}

Test(sync_reload, shorter_times_to_live_of_advisory_records_are_kept)
{
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	for (int cls = SHMETA_CLASS_AGENT; cls <= SHMETA_CLASS_OFFSET; cls++)
		f.options.ttl_ms[cls] = 3600000;
	open_engine();
	fixture_pass(&f, 60000);
	for (int cls = SHMETA_CLASS_AGENT; cls <= SHMETA_CLASS_OFFSET; cls++)
		f.options.ttl_ms[cls] = 5000;
	reload();
	fixture_pass(&f, 10000);
	for (int cls = SHMETA_CLASS_AGENT; cls <= SHMETA_CLASS_OFFSET; cls++)
		cr_expect_lt(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 5000u, "class %d", cls);
}

Test(sync_reload, a_shorter_pause_between_retries_ends_a_longer_one)
{
	f.options.retry_min_ms = 60000;
	f.options.retry_max_ms = 3600000;
	open_engine();
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 6 * 3600000);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	for (int call = 0; call < MEMORY_CALLS; call++)
		memory_fail(f.db, (enum memory_call)call, 0, 0, SHMETA_OK, "");
	f.options.retry_min_ms = 100;
	f.options.retry_max_ms = 1000;
	reload();
	fixture_pass(&f, 3000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING);
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), 2000u);
}
