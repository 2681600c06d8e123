/* SPDX-License-Identifier: Apache-2.0
 * Numbers that are the same in each run. For one file of a program. */
#ifndef SHMETA_TESTS_SUPPORT_RANDOM_H
#define SHMETA_TESTS_SUPPORT_RANDOM_H

#include <stdint.h>

static uint64_t seed = 1; /* never 0 */

static uint64_t random_below(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

/* The sequence of one trial out of many. */
static inline void random_begin(uint64_t trial)
{
	seed = UINT64_C(0x9E3779B97F4A7C15) * (trial + 1);
}

#endif
