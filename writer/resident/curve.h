/* SPDX-License-Identifier: Apache-2.0
 * The miss-ratio curve of a stream of accesses under LRU, estimated from few keys (SHARDS with a
 * fixed number of them): which share of the accesses would miss with a budget of so many bytes.
 * Keys are sampled by their hash, so that of a sampled key every access counts; whoever samples
 * before must also do it by curve_wants(), and not by accesses. Memory is bounded by the number of
 * keys, whatever the stream. One owner, no locks, nothing blocks. */
#ifndef SHMETA_WRITER_RESIDENT_CURVE_H
#define SHMETA_WRITER_RESIDENT_CURVE_H

#include <stdbool.h>
#include <stdint.h>

enum { CURVE_KEYS_DEFAULT = 8192 };

struct curve;

/* keys: how many are followed, at most; 64..1048576. With 8192 the curve is less than 0.01 off on
 * average, and less than 0.03 anywhere (tests/unit/test_curve.c).
 * NULL: no memory. Give it back by curve_free(); NULL is allowed there. */
struct curve *curve_new(uint32_t keys);
void curve_free(struct curve *curve);
uint64_t curve_memory_bytes(const struct curve *curve);

/* Is the key with this hash (of any quality) sampled now? Keys only leave the sample, so an older
 * answer may say yes too often. */
bool curve_wants(const struct curve *curve, uint64_t hash);
/* One access to a key whose record has so many bytes. Keys that are not sampled count for the
 * number of accesses alone. O(log keys) amortised. */
void curve_access(struct curve *curve, uint64_t hash, uint32_t bytes);
/* Half the weight of what was seen until now, so that the curve follows its host. */
void curve_age(struct curve *curve);

/* The share of accesses, 0..1, that would miss with a budget of so many bytes. 1 before the first
 * access. */
double curve_miss_ratio(const struct curve *curve, uint64_t budget_bytes);
/* The share of keys that are sampled. */
double curve_rate(const struct curve *curve);

#endif
