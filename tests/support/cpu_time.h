/* SPDX-License-Identifier: Apache-2.0
 * What something costs beside something else, in the same process: the ratio says whether work
 * grows with what it should not. */
#ifndef SHMETA_TESTS_CPU_TIME_H
#define SHMETA_TESTS_CPU_TIME_H

#include <stdint.h>
#include <time.h>

/* Processor time of this thread. */
static inline uint64_t cpu_time_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

#endif
