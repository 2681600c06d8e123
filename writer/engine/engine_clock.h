/* SPDX-License-Identifier: Apache-2.0
 * The engine's clocks, its chance, and how long a round may sleep. What belongs to the engine's
 * thread says so; sync_now() and sync_wall_ms() may be asked by any. */
#ifndef SHMETA_WRITER_ENGINE_ENGINE_CLOCK_H
#define SHMETA_WRITER_ENGINE_ENGINE_CLOCK_H

#include <stdint.h>

struct sync;

#define SYNC_NEVER UINT64_MAX
#define SYNC_MS 1000000ull
#define SYNC_S 1000000000ull

/* The engine's thread. */
struct engine_clock {
	uint64_t random;
	uint64_t wake_ns; /* the earliest time that anything asked to be waited for in this round */
};

uint64_t sync_now(struct sync *s);    /* CLOCK_BOOTTIME, ns */
int64_t sync_wall_ms(struct sync *s); /* what records carry */
/* seed 0: of the clock. Before anything is jittered. */
void clock_seed(struct sync *s, uint32_t seed);
/* U(low, high) in thousandths of value. The engine's thread. */
uint64_t sync_jitter(struct sync *s, uint64_t value, uint32_t low, uint32_t high);

/* A round begins: nothing is waited for. */
void clock_round_begins(struct sync *s);
/* Something is due at this time: the round must not wait longer. The engine's thread. */
void sync_wake_at(struct sync *s, uint64_t due_ns);
/* How long nothing is due; SYNC_NEVER. */
uint64_t clock_round_wait(struct sync *s);

#endif
