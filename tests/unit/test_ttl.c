/* SPDX-License-Identifier: Apache-2.0
 * Adaptive times to live. */
#include <criterion/criterion.h>

#include "tests/support/random.h"
#include "writer/resident/ttl.h"

TestSuite(ttl, .timeout = 30);

static const struct ttl_config config = {
	.min_ms = 1000, .base_ms = 30000, .max_ms = 600000, .longer_percent = 150, .shorter_percent = 50};

static double seconds(const struct ttl_config *c, uint8_t ttl)
{
	return (double)ttl_ns(c, ttl) / 1e9;
}

Test(ttl, a_record_that_never_changes_reaches_the_longest_time)
{
	uint8_t ttl = ttl_first(&config);

	cr_expect_gt(seconds(&config, ttl), 30 / 1.1);
	cr_expect_leq(seconds(&config, ttl), 30);
	for (int i = 0; i < 10; i++) {
		double before = seconds(&config, ttl);

		ttl = ttl_unchanged(&config, ttl);
		cr_expect_geq(seconds(&config, ttl), before);
		cr_expect_leq(seconds(&config, ttl), before * 1.5 * 1.001);
	}
	cr_expect_gt(seconds(&config, ttl), 600 / 1.1);
	cr_expect_leq(seconds(&config, ttl), 600);
}

Test(ttl, a_record_that_changes_all_the_time_reaches_the_shortest_time)
{
	uint8_t ttl = ttl_first(&config);

	for (int i = 0; i < 8; i++)
		ttl = ttl_changed(&config, ttl);
	cr_expect_eq(ttl_ns(&config, ttl), UINT64_C(1000000000));
	cr_expect_eq(ttl_ns(&config, ttl_changed(&config, ttl)), UINT64_C(1000000000));
}

Test(ttl, a_record_that_changes_now_and_then_settles_near_its_period)
{
	/* A change every 100 s on average: the time to live settles where a refresh finds one in a third of the cases. */
	uint8_t ttl = ttl_first(&config);
	double sum = 0;

	random_begin(5);
	for (int i = 0; i < 20000; i++) {
		double span = seconds(&config, ttl);
		bool changed = false;

		for (double t = 0; t < span; t++)
			changed |= random_below(100) == 0;
		ttl = changed ? ttl_changed(&config, ttl) : ttl_unchanged(&config, ttl);
		sum += seconds(&config, ttl);
	}
	cr_expect_gt(sum / 20000, 20);
	cr_expect_lt(sum / 20000, 120);
}

Test(ttl, a_byte_stays_valid_when_the_bounds_change)
{
	struct ttl_config narrow = {
		.min_ms = 5000, .base_ms = 6000, .max_ms = 7000, .longer_percent = 800, .shorter_percent = 10};

	for (int byte = 0; byte <= UINT8_MAX; byte++) {
		uint8_t ttl = (uint8_t)byte;

		cr_expect(seconds(&narrow, ttl) >= 5 && seconds(&narrow, ttl) <= 7);
		cr_expect(seconds(&narrow, ttl_unchanged(&narrow, ttl)) <= 7);
		cr_expect_eq(ttl_ns(&narrow, ttl_changed(&narrow, ttl)), UINT64_C(5000000000));
		cr_expect_geq(ttl_ns(&config, ttl_unchanged(&config, ttl)), ttl_ns(&config, ttl));
		cr_expect_leq(ttl_ns(&config, ttl_changed(&config, ttl)), ttl_ns(&config, ttl));
	}
}

Test(ttl, small_rates_move_and_rates_of_100_percent_do_not)
{
	struct ttl_config slow = config;
	uint8_t ttl = ttl_first(&config);

	slow.longer_percent = 101;
	slow.shorter_percent = 99;
	cr_expect_gt(ttl_unchanged(&slow, ttl), ttl);
	cr_expect_lt(ttl_changed(&slow, ttl), ttl);
	slow.longer_percent = slow.shorter_percent = 100;
	cr_expect_eq(ttl_unchanged(&slow, ttl), ttl);
	cr_expect_eq(ttl_changed(&slow, ttl), ttl);
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
