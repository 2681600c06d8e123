/* SPDX-License-Identifier: Apache-2.0
 * Histograms of times, log-linear: that of a slot, of sampled lookups, and those of what the writer
 * does. */
#ifndef SHMETA_SHM_PAGE_HISTOGRAM_H
#define SHMETA_SHM_PAGE_HISTOGRAM_H

#include <stdint.h>

#include "shm/page/slots.h"

/* Lookups: 4 buckets per power of two from 8 ns on. Bucket 0 is [0, 8), the last one is open. */
uint32_t shmeta__histogram_bucket(uint64_t ns);
/* The lower bound of bucket i, in ns. */
uint64_t shmeta__histogram_floor(uint32_t i);

/* What the writer measures: X(NAME, name, what is measured). */
#define SHMETA_TIMES_LIST(X)                                              \
	X(SOURCE, source, "one bulk read of keys from the source")        \
	X(COMMIT, commit, "one commit to the store, with its rows")       \
	X(WRITE, write, "a call of operations, from arrival to answer")   \
	X(WAKE, wake, "from the wake of the engine's thread to its turn") \
	X(VISIBLE, visible, "from a change, as its feed tells, to its commit")

enum shmeta_timed {
#define X(NAME, name, help) SHMETA_TIMED_##NAME,
	SHMETA_TIMES_LIST(X)
#undef X
		SHMETA_TIMED_COUNT
};

enum { SHMETA_TIMES_BUCKETS = 44 };

struct shmeta_times {
	uint64_t sum_ns;                      /*   0                                                 */
	uint64_t count[SHMETA_TIMES_BUCKETS]; /*   8  by shmeta__times_bucket()                      */
};
SHMETA_FROZEN(shmeta_times, sum_ns, 0);
SHMETA_FROZEN(shmeta_times, count, 8);
SHMETA_FROZEN_SIZE(shmeta_times, 360);

/* 2 buckets per power of two from 4.1 us on, the last one, open, from 8.6 s. */
uint32_t shmeta__times_bucket(uint64_t ns);
uint64_t shmeta__times_floor(uint32_t i);

#endif
