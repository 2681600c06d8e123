/* SPDX-License-Identifier: Apache-2.0
 * Percentiles of the histogram against the exact ones of the same samples. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "tools/monitor/percentile.h"

TestSuite(percentile, .timeout = 60);

enum { SAMPLES = 300000 };

static uint64_t state = 88172645463325252u;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
	return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The worst error, as a part of the exact value, of these percentiles. */
static double worst(uint64_t *sample)
{
	static const double parts[] = {0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999};
	uint64_t counts[SHMETA_HISTOGRAM_BUCKETS] = {0};
	double most = 0;

	for (int i = 0; i < SAMPLES; i++)
		counts[shmeta__histogram_bucket(sample[i])]++;
	qsort(sample, SAMPLES, sizeof(*sample), ascending);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		double exact = (double)sample[(size_t)ceil(parts[i] * SAMPLES) - 1],
		       told = (double)percentile_of(counts, parts[i]);
		/* A nanosecond is as much as a clock tells. */
		double error = fabs(told - exact) <= 1 ? 0 : fabs(told - exact) / exact;

		most = error > most ? error : most;
	}
	return most;
}

Test(percentile, is_within_two_percent_of_an_exact_list)
{
	uint64_t *sample = malloc(SAMPLES * sizeof(*sample));

	/* As lookups are: most of them alike, and a tail; faster and slower hosts, narrower and
	 * wider. */
	for (int median = 60; median <= 2000; median *= 3)
		for (int width = 3; width <= 7; width += 2) {
			double error;

			for (int i = 0; i < SAMPLES; i++)
				sample[i] = (uint64_t)(median * exp(normal() * width / 10));
			error = worst(sample);
			cr_assert_lt(error, 0.02, "median %d ns, sigma 0.%d: %.2f %%", median, width, error * 100);
		}
	/* And spread evenly. */
	for (int i = 0; i < SAMPLES; i++)
		sample[i] = 100 + (uint64_t)(uniform() * 5000);
	cr_assert_lt(worst(sample), 0.02);
	free(sample);
}

Test(percentile, of_nothing_is_unknown_and_of_one_bucket_in_it)
{
	uint64_t counts[SHMETA_HISTOGRAM_BUCKETS] = {0};

	cr_assert_eq(percentile_of(counts, 0.5), UINT64_MAX);
	counts[20] = 1;
	for (int i = 0; i <= 10; i++) {
		uint64_t ns = percentile_of(counts, i / 10.0);

		cr_assert(ns >= shmeta__histogram_floor(20) && ns <= shmeta__histogram_floor(21), "%d: %d", i, (int)ns);
	}
	counts[SHMETA_HISTOGRAM_BUCKETS - 1] = 10;
	cr_assert_eq(percentile_of(counts, 0.99), shmeta__histogram_floor(SHMETA_HISTOGRAM_BUCKETS - 1));
}
