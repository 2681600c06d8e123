/* SPDX-License-Identifier: Apache-2.0
 * What is measured of every engine in the same way. */
#ifndef SHMETA_BENCH_SOURCE_H
#define SHMETA_BENCH_SOURCE_H

#include "bench/bench.h"

/* Somebody else, who commits another watermark of partition 3 of the churn's topic. */
struct source_change {
	void (*set_watermark)(void *arg, uint64_t watermark);
	void *arg;
};
/* The statement that does it. */
void source_change_sql(char *ret, size_t bytes, uint64_t watermark);

/* How soon a daemon's readers see what somebody else changed: visibility.ENGINE.{p50,p99,idle_max}.
 * most_ms: of the p99; 0: no target. */
void source_visibility(struct bench *b, const char *engine, const char *instance_dir, double most_ms,
                       const struct source_change *change);

/* A file of 100 000 partitions without segments, made when it is first asked for. */
void source_idle_file(const struct bench *b, char *ret, size_t bytes);
/* What 100 000 partitions cost while nobody changes anything: refresh.{queries_per_s,cpu}.HOW. */
void source_idle(struct bench *b, const char *source, const char *how, const char *extra, double most);

#endif
