/* SPDX-License-Identifier: Apache-2.0
 * A bounded store whose source has no change feed: each partition's time to live follows how often
 * it was found to have changed, what is used is read again before it expires, what is not costs
 * nothing, and a budget stands above all that. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/page/touch.h"
#include "tests/support/sync_fixture.h"
#include "writer/resident/ttl.h"

TestSuite(sync_freshness, .timeout = 120);

enum { LEAST = 2000, BASE = 8000, MOST = 64000, TICK = 500, MANY = 10 };

static struct fixture f;
static uint64_t ticket;
static const char *used[MANY + 1]; /* topics, of which the first partition is used all the time */

static void mark_used(struct fixture *fixture, uint8_t *seen, uint32_t ceiling)
{
	for (size_t i = 0; used[i] != NULL; i++)
		seen[touch_slot((uint64_t)fixture_topic_id(fixture, used[i]) << 32, ceiling)] = 1;
}

static void prepare(void)
{
	fixture_init(&f);
	ticket = 0;
	memset(used, 0, sizeof used);
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	f.on_touched = mark_used;
	f.kept = 1;
	f.options.bounded = true;
	f.options.touch_ceiling = touch_ceiling(f.options.max_topics + 1000);
	f.options.freshness = (struct ttl_config){
		.min_ms = LEAST, .base_ms = BASE, .max_ms = MOST, .longer_percent = 200, .shorter_percent = 50};
}

static void open_with(const char *a, const char *b)
{
	fixture_topic(&f, a, 1, 3, 1);
	if (b != NULL)
		fixture_topic(&f, b, 1, 3, 2);
	fixture_open(&f);
	fixture_pass(&f, 1000);
}

static void done(void)
{
	if (f.sync != NULL)
		fixture_close(&f);
	fixture_done(&f);
}

static void ask(const char *topic)
{
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_SEGMENT, topic, 0, ++ticket), SHMETA_OK);
	for (int i = 0; i < 10 && fixture_answer(&f, ticket) == NULL; i++)
		fixture_run(&f);
	cr_assert_not_null(fixture_answer(&f, ticket));
	cr_assert_eq(fixture_answer(&f, ticket)->status, SHMETA_OK);
}

static uint32_t ttl_ms(const char *topic)
{
	uint64_t synced;
	uint32_t ttl = 0;

	cr_assert(fixture_record_stamp(&f, topic, 0, &synced, &ttl), "%s", topic);
	return ttl;
}

static uint64_t synced_at(const char *topic)
{
	uint64_t synced = 0;
	uint32_t ttl;

	cr_assert(fixture_record_stamp(&f, topic, 0, &synced, &ttl), "%s", topic);
	return synced;
}

/* As a reader judges it. */
static bool is_fresh(const char *topic)
{
	const struct shmeta_stamp *stamp = &shmeta__store_generation(sync_store(f.sync))->stamp[SHMETA_CLASS_SEGMENT];
	uint64_t synced = synced_at(topic), ttl = ttl_ms(topic) * UINT64_C(1000000);

	if (synced < stamp->synced_at_ns)
		synced = stamp->synced_at_ns;
	return f.now_ns - synced < (ttl != 0 ? ttl : stamp->ttl_ns);
}

static uint64_t class_ttl_ms(enum shmeta_class cls)
{
	return shmeta__store_generation(sync_store(f.sync))->stamp[cls].ttl_ns / 1000000;
}

Test(sync_freshness, times_grow_without_changes_and_shrink_with_them_and_what_is_used_is_never_stale, .fini = done)
{
	uint64_t end = 4000, reads = 0, at = 0;

	prepare();
	open_with("busy", "calm");
	ask("busy");
	ask("calm");
	cr_assert_eq(ttl_ms("busy"), BASE);
	cr_assert_eq(ttl_ms("calm"), BASE);
	used[0] = "busy";
	used[1] = "calm";
	for (uint64_t i = 0, last = BASE; i < 10 * MOST / TICK; i++) {
		cr_assert(fixture_add_segment(&f, "busy", 0, end, 10));
		end += 10;
		fixture_pass(&f, TICK);
		cr_assert(is_fresh("busy"), "after %u ms", (unsigned)i * TICK);
		cr_assert(is_fresh("calm"), "after %u ms", (unsigned)i * TICK);
		cr_assert(ttl_ms("calm") == last || ttl_ms("calm") == 2 * last, "from %u to %u", (unsigned)last,
		          ttl_ms("calm"));
		last = ttl_ms("calm");
		reads += synced_at("calm") != at;
		at = synced_at("calm");
		cr_assert_geq(ttl_ms("busy"), LEAST);
		cr_assert_leq(last, MOST);
	}
	cr_expect_eq(ttl_ms("busy"), LEAST);
	cr_expect_eq(ttl_ms("calm"), MOST);
	cr_expect_leq(reads, 4 + 10 * 10 / 8 + 1, "it was read %u times in ten of the longest times", (unsigned)reads);
	used[0] = NULL; /* "busy" is left alone now */
	fixture_pass(&f, 3 * LEAST);
	cr_expect_null(strstr(f.log, "reconciled"));
}

Test(sync_freshness, what_nobody_uses_is_not_read_again, .fini = done)
{
	uint64_t at;

	prepare();
	open_with("cold", NULL);
	ask("cold");
	at = synced_at("cold");
	fixture_pass(&f, 10 * MOST);
	cr_expect_eq(synced_at("cold"), at);
	cr_expect_eq(ttl_ms("cold"), BASE);
	cr_expect_not(is_fresh("cold"), "its age says so");
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), 300000, "topics are compared all the same");
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_LIST), 30000);
	cr_expect_eq(class_ttl_ms(SHMETA_CLASS_PARTITION), TTL_MAX_MS, "and no class is late");
	cr_expect_eq(class_ttl_ms(SHMETA_CLASS_SEGMENT), TTL_MAX_MS);
	cr_expect_lt(shmeta__late_class(shmeta__store_generation(sync_store(f.sync)), f.now_ns), 0);
	/* Whoever asks has it read. */
	ask("cold");
	cr_expect_eq(synced_at("cold"), f.now_ns);
	cr_expect_eq(ttl_ms("cold"), 2 * BASE);
	/* Everything is read when somebody asks for everything. */
	at = synced_at("cold");
	memory_silence(f.db, true);
	cr_assert(fixture_add_segment(&f, "cold", 0, 9000, 10));
	cr_assert_eq(fixture_compare_all(&f, ++ticket), SHMETA_OK);
	fixture_pass(&f, 1000);
	cr_assert_not_null(fixture_answer(&f, ticket));
	cr_expect_null(fixture_difference(&f));
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 1000);
}

Test(sync_freshness, a_budget_wins_and_the_age_says_so, .fini = done)
{
	static char name[MANY][16];
	enum { SECONDS = 60, ROWS = 4 /* of a read of one of them, at least */ };
	uint64_t reads = 0, at[MANY];
	bool stale = false;

	prepare();
	f.options.freshness.max_ms = f.options.freshness.base_ms = LEAST;
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name[i], sizeof name[i], "topic-%d", i);
		fixture_topic(&f, name[i], 1, 3, i);
	}
	fixture_open(&f);
	fixture_pass(&f, 1000);
	for (int i = 0; i < MANY; i++) {
		ask(name[i]);
		used[i] = name[i];
		at[i] = synced_at(name[i]);
	}
	f.options.refresh_rows_s = 1;
	sync_reconfigure(f.sync, &f.options);
	for (int tick = 0; tick < SECONDS * 1000 / TICK; tick++) {
		fixture_pass(&f, TICK);
		for (int i = 0; i < MANY; i++) {
			stale |= !is_fresh(name[i]);
			reads += synced_at(name[i]) != at[i];
			at[i] = synced_at(name[i]);
		}
	}
	cr_expect(stale);
	cr_expect_gt(reads, 0);
	/* Without the budget they would be read 300 times. The first batch of ten begins with one
	 * token. */
	cr_expect_leq(reads, (SECONDS + 1) / ROWS + MANY);
	cr_expect_gt(fixture_counters(&f).postponed_ns, UINT64_C(10000000000));
	f.options.refresh_rows_s = 0;
	sync_reconfigure(f.sync, &f.options);
	fixture_pass(&f, LEAST);
	for (int i = 0; i < MANY; i++)
		cr_expect(is_fresh(name[i]), "%s, when the budget is gone", name[i]);
}

Test(sync_freshness, an_override_stands_and_is_read_in_time, .fini = done)
{
	const struct sync_ttl_override override = {.prefix = "fixed.", .ttl_ms = 5000};

	prepare();
	f.options.overrides = &override;
	f.options.override_count = 1;
	open_with("fixed.topic", NULL);
	ask("fixed.topic");
	used[0] = "fixed.topic";
	for (int i = 0; i < 200; i++) {
		fixture_pass(&f, TICK);
		cr_assert_eq(ttl_ms("fixed.topic"), 5000);
		cr_assert(is_fresh("fixed.topic"));
	}
	/* Without it, the time goes on from there. */
	f.options.override_count = 0;
	sync_reconfigure(f.sync, &f.options);
	fixture_pass(&f, 10000);
	cr_expect_geq(ttl_ms("fixed.topic"), 10000);
}

Test(sync_freshness, times_outlive_a_restart, .fini = done)
{
	prepare();
	open_with("calm", NULL);
	ask("calm");
	used[0] = "calm";
	fixture_pass(&f, 3 * MOST);
	cr_assert_eq(ttl_ms("calm"), MOST);
	fixture_close(&f);
	fixture_open(&f);
	fixture_pass(&f, TICK);
	cr_expect_eq(ttl_ms("calm"), MOST);
	for (int i = 0; i < 4 * MOST / TICK; i++) {
		fixture_pass(&f, TICK);
		cr_assert(is_fresh("calm"));
	}
	/* Other bounds hold at once. */
	f.options.freshness.max_ms = BASE;
	sync_reconfigure(f.sync, &f.options);
	fixture_pass(&f, 1000);
	cr_expect_eq(ttl_ms("calm"), BASE);
}

static void is_by_class(void)
{
	fixture_pass(&f, 40000);
	cr_expect_eq(class_ttl_ms(SHMETA_CLASS_PARTITION), 30000);
	cr_expect_eq(class_ttl_ms(SHMETA_CLASS_SEGMENT), 30000);
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_PARTITION), 30000);
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 30000);
	cr_expect_eq(ttl_ms("calm"), 0);
	cr_expect(is_fresh("calm"));
}

Test(sync_freshness, fixed_times_come_back_by_a_reload, .fini = done)
{
	prepare();
	open_with("calm", NULL);
	ask("calm");
	fixture_pass(&f, 100000);
	f.options.freshness = (struct ttl_config){.max_ms = 0};
	sync_reconfigure(f.sync, &f.options);
	is_by_class();
	fixture_pass(&f, 100000);
	is_by_class();
}

Test(sync_freshness, a_feed_makes_times_of_their_own_needless, .fini = done)
{
	prepare();
	open_with("calm", NULL);
	ask("calm");
	fixture_pass(&f, 100000);
	cr_assert_eq(ttl_ms("calm"), BASE);
	memory_set_feed_kind(f.db, BACKEND_FEED_KEYS);
	is_by_class();
	cr_expect_leq(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 1000, "the feed says that nothing has changed");
}
