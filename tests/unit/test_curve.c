/* SPDX-License-Identifier: Apache-2.0
 * Miss-ratio curves from a sample of the keys, against exact ones. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/random.h"
#include "writer/resident/curve.h"

TestSuite(curve, .timeout = 120);

enum { KEYS = 100000, ACCESSES = 1000000, SIZES = 20 };

static uint32_t key_at[ACCESSES], bytes_of_key[KEYS];
static double exact[SIZES];

/* A popular key is a small number: each octave of keys has as many accesses, about Zipf 1. */
static uint32_t skewed(uint32_t keys)
{
	uint32_t key;

	do {
		uint32_t octave = (uint32_t)random_below(17);

		key = (1U << octave | (uint32_t)random_below(1U << octave)) - 1;
	} while (key >= keys);
	return key;
}

static uint64_t size_at(int i)
{
	return (uint64_t)KEYS * 1000 * (uint64_t)(i + 1) / SIZES;
}

/* LRU misses by the stack distance of each access in bytes: a Fenwick tree over the times of all
 * last accesses. */
static void exact_curve(void)
{
	uint64_t *tree = calloc(ACCESSES + 1, sizeof *tree);
	uint32_t *last = calloc(KEYS, sizeof *last);

	cr_assert(tree != NULL && last != NULL);
	memset(exact, 0, sizeof exact);
	for (uint32_t t = 1; t <= ACCESSES; t++) {
		uint32_t key = key_at[t - 1];
		uint64_t distance = UINT64_MAX;

		if (last[key] != 0) {
			distance = 0;
			for (uint32_t i = t - 1; i > 0; i -= i & -i)
				distance += tree[i];
			for (uint32_t i = last[key] - 1; i > 0; i -= i & -i)
				distance -= tree[i];
			for (uint32_t i = last[key]; i <= ACCESSES; i += i & -i)
				tree[i] -= bytes_of_key[key];
		}
		for (uint32_t i = t; i <= ACCESSES; i += i & -i)
			tree[i] += bytes_of_key[key];
		last[key] = t;
		for (int i = 0; i < SIZES; i++)
			exact[i] += distance > size_at(i);
	}
	for (int i = 0; i < SIZES; i++)
		exact[i] /= ACCESSES;
	free(tree);
	free(last);
}

/* The mean and the largest error of a curve of this trace. */
static double error_of(uint32_t sample, double *ret_largest, double *ret_rate)
{
	struct curve *c = curve_new(sample);
	double sum = 0;

	cr_assert_not_null(c);
	*ret_largest = 0;
	for (int t = 0; t < ACCESSES; t++)
		curve_access(c, key_at[t] * UINT64_C(0x9E3779B97F4A7C15), bytes_of_key[key_at[t]]);
	for (int i = 0; i < SIZES; i++) {
		double error = fabs(curve_miss_ratio(c, size_at(i)) - exact[i]);

		sum += error;
		*ret_largest = error > *ret_largest ? error : *ret_largest;
	}
	*ret_rate = curve_rate(c);
	curve_free(c);
	return sum / SIZES;
}

static void make_trace(bool weights, bool scans)
{
	random_begin(17);
	for (uint32_t i = 0; i < KEYS; i++)
		bytes_of_key[i] = weights ? 1 + (uint32_t)random_below(2000) : 1000;
	for (uint32_t t = 0; t < ACCESSES; t++)
		key_at[t] = scans && t / 10000 % 5 == 0 ? t % KEYS : (skewed(KEYS) * 7919U) % KEYS;
	exact_curve();
}

Test(curve, all_keys_give_the_exact_curve)
{
	double largest, rate;

	make_trace(false, false);
	cr_expect_lt(error_of(131072, &largest, &rate), 0.005); /* by the width of its buckets */
	cr_expect_eq(rate, 1);
	make_trace(true, false);
	cr_expect_lt(error_of(131072, &largest, &rate), 0.005);
}

Test(curve, of_8192_keys_the_mean_error_is_below_one_hundredth)
{
	double largest, rate, mean;

	for (int i = 0; i < 4; i++) {
		make_trace(i % 2 == 1, i >= 2);
		mean = error_of(CURVE_KEYS_DEFAULT, &largest, &rate);
		cr_expect_lt(mean, 0.01, "trace %d: %f", i, mean);
		cr_expect_lt(largest, 0.03, "trace %d: %f", i, largest);
		cr_expect_lt(rate, 0.2);
	}
}

Test(curve, memory_stays_the_same_whatever_is_seen)
{
	struct curve *c = curve_new(CURVE_KEYS_DEFAULT);
	uint64_t before;

	cr_assert_not_null(c);
	before = curve_memory_bytes(c);
	cr_expect_leq(before, 512 * 1024);
	for (uint64_t key = 0; key < 3000000; key++)
		curve_access(c, key, 100);
	cr_expect_eq(curve_memory_bytes(c), before);
	cr_expect_lt(curve_rate(c), 0.004);
	cr_expect_gt(curve_miss_ratio(c, UINT64_C(1) << 40), 0.9, "a scan never hits");
	curve_free(c);
	curve_free(NULL);
	cr_expect_null(curve_new(63));
	cr_expect_null(curve_new(1048577));
}

Test(curve, what_curve_wants_is_enough)
{
	struct curve *c = curve_new(64);
	uint32_t wanted = 0;

	cr_assert_not_null(c);
	for (uint64_t key = 0; key < 100000; key++)
		curve_access(c, key, 1);
	for (uint64_t key = 0; key < 100000; key++)
		wanted += curve_wants(c, key);
	cr_expect_gt(wanted, 20);
	cr_expect_leq(wanted, 64);
	curve_free(c);
}

Test(curve, an_aged_curve_follows_the_newer_half)
{
	struct curve *c = curve_new(1024);

	cr_assert_not_null(c);
	cr_expect_eq(curve_miss_ratio(c, 1000), 1);
	for (int round = 0; round < 10; round++)
		for (uint64_t key = 0; key < 100; key++)
			curve_access(c, key, 1); /* hits with 100 bytes */
	cr_expect_lt(curve_miss_ratio(c, 110), 0.15);
	cr_expect_gt(curve_miss_ratio(c, 90), 0.9);
	for (int round = 0; round < 20; round++) {
		curve_age(c);
		for (uint64_t i = 0; i < 1000; i++)
			curve_access(c, i % 10, 1); /* and now with 10 */
	}
	cr_expect_lt(curve_miss_ratio(c, 20), 0.05);
	curve_free(c);
}
