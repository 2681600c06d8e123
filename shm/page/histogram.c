/* SPDX-License-Identifier: Apache-2.0
 * Buckets of histograms. */
#include "shm/page/histogram.h"

/* 1 << linear_bits buckets per power of two, from 1 << first_power ns on. */
struct scale {
	uint32_t linear_bits, first_power, buckets;
};

static const struct scale lookups = {2, 3, SHMETA_HISTOGRAM_BUCKETS}, times = {1, 12, SHMETA_TIMES_BUCKETS};

static inline uint32_t bucket(const struct scale *s, uint64_t ns)
{
	const uint64_t parts = UINT64_C(1) << s->linear_bits;
	uint32_t power, i;

	if (ns < UINT64_C(1) << s->first_power)
		return 0;
	power = 63 - (uint32_t)__builtin_clzll(ns);
	i = 1 + ((power - s->first_power) << s->linear_bits) + (uint32_t)(ns >> (power - s->linear_bits) & (parts - 1));
	return i < s->buckets ? i : s->buckets - 1;
}

static inline uint64_t lower_bound(const struct scale *s, uint32_t i)
{
	const uint64_t parts = UINT64_C(1) << s->linear_bits;
	uint32_t power;

	if (i == 0)
		return 0;
	power = s->first_power + ((i - 1) >> s->linear_bits);
	return (parts + ((i - 1) & (parts - 1))) << (power - s->linear_bits);
}

uint32_t shmeta__histogram_bucket(uint64_t ns)
{
	return bucket(&lookups, ns);
}

uint64_t shmeta__histogram_floor(uint32_t i)
{
	return lower_bound(&lookups, i);
}

uint32_t shmeta__times_bucket(uint64_t ns)
{
	return bucket(&times, ns);
}

uint64_t shmeta__times_floor(uint32_t i)
{
	return lower_bound(&times, i);
}
