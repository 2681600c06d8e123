/* SPDX-License-Identifier: Apache-2.0
 * The counters of a daemon that a test runs, from its stats page. */
#ifndef SHMETA_TESTS_SUPPORT_RUN_STATS_H
#define SHMETA_TESTS_SUPPORT_RUN_STATS_H

#include <stdint.h>

#include "tests/support/run_daemon.h"

/* Fails the test where there is no such counter. */
uint64_t run_stats_counter(const struct run_daemon *d, const char *name);
/* The page follows within a second: wait until it has what has been counted by now. */
void run_stats_settle(const struct run_daemon *d);

#endif
