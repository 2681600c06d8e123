/* SPDX-License-Identifier: Apache-2.0
 * A reload is in force at once, also for what was planned by the former options; and one that
 * changes nothing postpones nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/memory_faults.h"
#include "tests/support/sync_fixture.h"
#include "writer/config/config.h"
#include "writer/engine/engine.h"

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

/* ---- every option ---- */

/* Every option of the engine that is said to change at reload does: what of the engine's options
 * depends on it is what the new configuration says. */
Test(sync_reload, every_option_that_changes_at_reload_is_in_force)
{
	const struct config_flags flags = {.source = "memory:"};
	struct sync_options before, after;
	struct config *config;
	struct shmeta_err err;
	size_t seen = 0;

	open_engine();
	cr_assert_eq(config_load(&flags, NULL, &config, &err), SHMETA_OK, "%s", err.text);
	for (size_t i = 0; i < CONFIG_OPTION_COUNT; i++) {
		const struct config_option *o = &config_options[i];
		uint64_t *value = (uint64_t *)(void *)((char *)config + o->at), was = *value;
		const uint8_t *had = (const uint8_t *)&before, *wanted = (const uint8_t *)&after;
		bool depends = false;

		if (o->kind == CONFIG_TEXT || o->when == CONFIG_AT_RESTART)
			continue;
		config_sync_options(config, NULL, &before);
		*value = was == o->max ? o->min : o->max;
		config_sync_options(config, NULL, &after);
		*value = was;
		sync_reconfigure(f.sync, &before);
		fixture_run(&f);
		sync_reconfigure(f.sync, &after);
		fixture_run(&f);
		for (size_t at = 0; at < sizeof after; at++)
			if (had[at] != wanted[at]) {
				depends = true;
				cr_expect_eq(((const uint8_t *)&f.sync->options)[at], wanted[at], "%s", o->key);
			}
		seen += depends;
	}
	cr_expect_geq(seen, 35u);
	config_free(config);
}

/* ---- in a pass ---- */

static uint64_t ttl_in_the_pass;

static void time_passes(struct fixture *fixture)
{
	fixture->now_ns += 1000000;
}

static void on_load(void *arg, enum memory_call call, int end)
{
	(void)arg;
	if (call != MEMORY_LOAD)
		return;
	if (end == 0) {
		f.options.ttl_ms[SHMETA_CLASS_TOPIC] = 77000;
		reload();
	} else {
		ttl_in_the_pass = shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_TOPIC].ttl_ns;
	}
}

Test(sync_reload, a_full_comparison_that_is_under_way_holds_up_no_reload)
{
	cr_assert(memory_fill(f.db, 1000, 2, 3, 7));
	open_engine();
	memory_set_hook(f.db, on_load, NULL);
	f.on_clock = time_passes;
	cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
	for (int i = 0; i < 10 && ttl_in_the_pass == 0; i++)
		fixture_run(&f);
	f.on_clock = NULL;
	memory_set_hook(f.db, NULL, NULL);
	cr_expect_eq(ttl_in_the_pass, UINT64_C(77000000000));
}

/* ---- rates ---- */

static enum shmeta_status ask_number(int number, uint64_t timeout_ms)
{
	char name[32];
	const struct backend_key key = {.cls = SHMETA_CLASS_TOPIC,
	                                .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
	                                .topic = {name, (size_t)snprintf(name, sizeof name, "unknown-%d", number)},
	                                .to = UINT64_MAX};

	return sync_refresh(f.sync, &key, false, 4001, f.now_ns + timeout_ms * 1000000, (uint64_t)number);
}

/* A user has used up 500 keys at one a second. */
static void in_debt(void)
{
	f.options.refresh_user_rate = 1;
	f.options.refresh_user_burst = 500;
	open_engine();
	for (int i = 0; i < 500; i++)
		cr_assert_eq(ask_number(i, 0), SHMETA_OK);
	cr_assert_eq(ask_number(500, 0), SHMETA_ERR_BUSY);
	fixture_pass(&f, 100);
}

Test(sync_reload, a_user_who_used_up_a_low_rate_is_not_held_to_it_by_a_higher_one)
{
	in_debt();
	f.options.refresh_user_rate = 1000;
	f.options.refresh_user_burst = 100;
	reload();
	cr_expect_eq(ask_number(600, 0), SHMETA_ERR_BUSY, "the bucket is as empty as before");
	fixture_pass(&f, 150);
	for (int i = 700; i < 800; i++)
		cr_assert_eq(ask_number(i, 0), SHMETA_OK, "%d", i);
}

Test(sync_reload, without_a_rate_nobody_is_bound_by_the_former_one)
{
	in_debt();
	f.options.refresh_user_rate = 0;
	reload();
	for (int i = 700; i < 2000; i++)
		cr_assert_eq(ask_number(i, 0), SHMETA_OK, "%d", i);
	fixture_pass(&f, 100);
	cr_expect_not_null(fixture_answer(&f, 1999));
}

Test(sync_reload, keys_that_wait_for_a_token_are_read_at_the_new_rate)
{
	in_debt();
	for (int i = 700; i < 800; i++)
		cr_assert_eq(ask_number(i, 600000), SHMETA_OK);
	fixture_pass(&f, 1);
	f.options.refresh_user_rate = 1000;
	f.options.refresh_user_burst = 100;
	reload();
	fixture_pass(&f, 200);
	for (uint64_t i = 700; i < 800; i++)
		cr_expect_not_null(fixture_answer(&f, i), "%u", (unsigned)i);
}
