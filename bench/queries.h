/* SPDX-License-Identifier: Apache-2.0
 * What lookups are asked for, and what bounds them on the same data: flat arrays, and a raw LMDB
 * floor search. */
#ifndef SHMETA_BENCH_QUERIES_H
#define SHMETA_BENCH_QUERIES_H

#include "bench/bench.h"

enum { HOT_QUERIES = 4096, RANDOM_QUERIES = 1 << 20 };

struct query {
	uint32_t part, row; /* row: the answer */
	uint64_t offset;
};

/* Any row of `partitions` partitions that are spread over all. free() them, as those below. */
struct query *queries_random(const struct bench *b, size_t count, uint32_t partitions, uint64_t *seed);
/* As consumers that follow: near the end of the log, in HOT_PARTITIONS partitions. */
struct query *queries_hot(const struct bench *b, size_t count, uint64_t *seed);
/* In HOT_PARTITIONS partitions: the last row, which no block holds yet, or the first one of a
 * partition of several blocks. */
struct query *queries_tail(const struct bench *b, size_t count, uint64_t *seed);
struct query *queries_sealed(const struct bench *b, size_t count, uint64_t *seed);
/* Eight offsets of one row in ascending order, then of the next row of another partition. */
struct query *queries_repeat(const struct bench *b, size_t count, uint64_t *seed);

/* Each query `repeat` times, as a round of the figure. */
typedef uint32_t flat_search(const uint64_t *bases, uint32_t count, uint64_t offset);
flat_search flat_binary, flat_interpolate;
void flat_figure(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat,
                 flat_search *search);

void lmdb_build(const struct bench *b);
void lmdb_figure(const char *name, const struct query *q, size_t count, size_t repeat);
void lmdb_close(void);

#endif
