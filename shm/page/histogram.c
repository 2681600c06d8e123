/* SPDX-License-Identifier: Apache-2.0
 * The histogram of a slot. */
#include "shm/page/histogram.h"

enum { LINEAR_BITS = 2, FIRST_POWER = 3 }; /* 4 buckets per power of two, from 2^3 ns on */

uint32_t shmeta__histogram_bucket(uint64_t ns)
{
	uint32_t power, i;

	if (ns < 1u << FIRST_POWER)
		return 0;
	power = 63 - (uint32_t)__builtin_clzll(ns);
	i = 1 + ((power - FIRST_POWER) << LINEAR_BITS) + (uint32_t)(ns >> (power - LINEAR_BITS) & 3);
	return i < SHMETA_HISTOGRAM_BUCKETS ? i : SHMETA_HISTOGRAM_BUCKETS - 1;
}

uint64_t shmeta__histogram_floor(uint32_t i)
{
	uint32_t power;

	if (i == 0)
		return 0;
	power = FIRST_POWER + ((i - 1) >> LINEAR_BITS);
	return ((uint64_t)4 + ((i - 1) & 3)) << (power - LINEAR_BITS);
}
