/* SPDX-License-Identifier: Apache-2.0
 * Somebody else's changes: a process that commits small transactions to the source at a given
 * rate. */
#ifndef SHMETA_BENCH_CHURN_H
#define SHMETA_BENCH_CHURN_H

#include "bench/bench.h"

/* The topic that only the churn changes; made by churn_prepare() before the daemon starts. */
#define CHURN_TOPIC "bench-churn"

void churn_prepare(const struct bench *b);
pid_t churn_start(const struct bench *b, unsigned per_second);
uint64_t churn_commits(struct shmeta *instance); /* the store's newest commit */

#endif
