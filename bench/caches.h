/* SPDX-License-Identifier: Apache-2.0
 * What the policy of residency is measured against: exact LRU, W-TinyLFU and Belady's optimum,
 * records of one size. Each plays a trace and returns the share of hits among the lookups from from
 * on. */
#ifndef SHMETA_BENCH_CACHES_H
#define SHMETA_BENCH_CACHES_H

#include <stdint.h>

double cache_lru(const uint32_t *key, uint32_t count, uint32_t from, uint32_t keys, uint32_t room);
/* W-TinyLFU, which learns of hits only when they are collected, after each every lookups, in no
 * order, as readers tell of them. */
double cache_wtinylfu(const uint32_t *key, uint32_t count, uint32_t from, uint32_t keys, uint32_t room, uint32_t every);
/* It knows the future and need not keep what it loads. */
double cache_optimum(const uint32_t *key, uint32_t count, uint32_t from, uint32_t keys, uint32_t room);

#endif
