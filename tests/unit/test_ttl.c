/* SPDX-License-Identifier: Apache-2.0
 * Adaptive times to live. */
#include <criterion/criterion.h>

#include "tests/support/random.h"
#include "writer/resident/ttl.h"

TestSuite(ttl, .timeout = 30);

static const struct ttl_config config = {
	.min_ms = 1000, .base_ms = 30000, .max_ms = 600000, .longer_percent = 150, .shorter_percent = 50};

Test(ttl, a_record_that_never_changes_reaches_the_longest_time)
{
	uint32_t ttl = ttl_within(&config, 0);

	cr_expect_eq(ttl, 30000);
	cr_expect_eq(ttl_unchanged(&config, 0), 45000);
	for (int i = 0; i < 10; i++) {
		uint32_t before = ttl;

		ttl = ttl_unchanged(&config, ttl);
		cr_expect_geq(ttl, before);
		cr_expect_leq(ttl, before * 3 / 2);
	}
	cr_expect_eq(ttl, 600000);
}

Test(ttl, a_record_that_changes_all_the_time_reaches_the_shortest_time)
{
	uint32_t ttl = ttl_within(&config, 0);

	cr_expect_eq(ttl_changed(&config, 0), 15000);
	for (int i = 0; i < 8; i++)
		ttl = ttl_changed(&config, ttl);
	cr_expect_eq(ttl, 1000);
	cr_expect_eq(ttl_changed(&config, ttl), 1000);
}

Test(ttl, a_record_that_changes_now_and_then_settles_near_its_period)
{
	/* A change every 100 s on average: the time to live settles where a refresh finds one in a
	 * third of the cases. */
	uint32_t ttl = ttl_within(&config, 0);
	double sum = 0;

	random_begin(5);
	for (int i = 0; i < 20000; i++) {
		bool changed = false;

		for (uint32_t ms = 0; ms < ttl; ms += 1000)
			changed |= random_below(100) == 0;
		ttl = changed ? ttl_changed(&config, ttl) : ttl_unchanged(&config, ttl);
		sum += ttl / 1000.0;
	}
	cr_expect_gt(sum / 20000, 20);
	cr_expect_lt(sum / 20000, 120);
}

Test(ttl, a_time_stays_valid_when_the_bounds_change)
{
	static const uint32_t times[] = {0, 1, 999, 5000, 6999, 7001, 600000, TTL_MAX_MS, UINT32_MAX};
	struct ttl_config narrow = {
		.min_ms = 5000, .base_ms = 6000, .max_ms = 7000, .longer_percent = 800, .shorter_percent = 10};

	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		cr_expect(ttl_within(&narrow, times[i]) >= 5000 && ttl_within(&narrow, times[i]) <= 7000);
		cr_expect_eq(ttl_unchanged(&narrow, times[i]), 7000);
		cr_expect_eq(ttl_changed(&narrow, times[i]), 5000);
		cr_expect_geq(ttl_unchanged(&config, times[i]), ttl_within(&config, times[i]));
		cr_expect_leq(ttl_changed(&config, times[i]), ttl_within(&config, times[i]));
	}
}

Test(ttl, small_rates_move_and_rates_of_100_percent_do_not)
{
	struct ttl_config slow = {
		.min_ms = 1, .base_ms = 10, .max_ms = 1000, .longer_percent = 101, .shorter_percent = 99};

	cr_expect_eq(ttl_unchanged(&slow, 10), 11);
	cr_expect_eq(ttl_changed(&slow, 10), 9);
	cr_expect_eq(ttl_changed(&slow, 1), 1);
	slow.longer_percent = slow.shorter_percent = 100;
	cr_expect_eq(ttl_unchanged(&slow, 10), 10);
	cr_expect_eq(ttl_changed(&slow, 10), 10);
}

Test(ttl, presets_are_valid_and_wrong_configurations_are_named)
{
	struct ttl_config bad;

	for (int i = 0; i < TTL_PRESETS; i++) {
		cr_expect_not_null(ttl_presets[i].name);
		cr_expect_null(ttl_config_error(&ttl_presets[i].config), "%s", ttl_presets[i].name);
	}
#define BAD(change)                                         \
	do {                                                \
		bad = config;                               \
		change;                                     \
		cr_expect_not_null(ttl_config_error(&bad)); \
	} while (0)
	BAD(bad.min_ms = 0);
	BAD(bad.min_ms = 30001);
	BAD(bad.base_ms = 600001);
	BAD(bad.max_ms = TTL_MAX_MS + 1);
	BAD(bad.longer_percent = 99);
	BAD(bad.longer_percent = 801);
	BAD(bad.shorter_percent = 9);
	BAD(bad.shorter_percent = 101);
}
