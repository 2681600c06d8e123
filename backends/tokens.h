/* SPDX-License-Identifier: Apache-2.0
 * A bucket of tokens: what the source may be asked per second, in queries, rows or units. In any
 * span of time no more is granted than the burst and the rate times the span, but for a single
 * request beyond the burst. A cost that is known only afterwards is taken by its estimate and
 * settled: what it cost beyond that is paid before anything else is granted. (writer/keys/askers.c
 * divides reads between users; this bounds them all.) Pure accounting; nothing blocks or locks. */
#ifndef SHMETA_BACKENDS_TOKENS_H
#define SHMETA_BACKENDS_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

enum { TOKENS_MAX = 1000000000 }; /* rate and burst */

/* Zeroed: no limit. */
struct tokens {
	uint32_t rate, burst;        /* a second, and at once; rate 0: no limit */
	int64_t level;               /* billionths of a token; below 0: owed    */
	uint64_t at_ns;              /* when level was right                    */
	uint64_t granted, postponed; /* tokens granted; requests that were not. They only grow */
};

/* A new rate and burst, each at most TOKENS_MAX, burst at least 1. A bucket without a limit before
 * is full; any other keeps what it has, up to the burst, and its counters. */
void tokens_configure(struct tokens *t, uint32_t rate, uint32_t burst, uint64_t now_ns);
/* Take n, or none and count it as postponed. More than the burst is granted when the bucket is
 * full, and owed. Times that go back count as no time. */
bool tokens_take(struct tokens *t, uint32_t n, uint64_t now_ns);
/* What was taken as estimate has cost so much. */
void tokens_settle(struct tokens *t, uint32_t estimate, uint32_t cost);
/* When n can be taken: now_ns when they can be now. */
uint64_t tokens_when(struct tokens *t, uint32_t n, uint64_t now_ns);

#endif
