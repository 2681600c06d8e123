/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the source's clock. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_CLOCK_H
#define SHMETA_BACKENDS_POSTGRES_PG_CLOCK_H

#include "backends/postgres/pg_state.h"

/* An expression for the source's time in ms; @now in it is the caller's (for tests). */
const char *pg_clock(const struct pg_state *state);
/* The server told its time in answer to what was sent and received at these times of
 * CLOCK_MONOTONIC. */
void pg_clock_seen(struct pg_state *state, int64_t source_ms, uint64_t before_ns, uint64_t after_ns);
/* How far the source's clock is ahead of the caller's, who says that it is caller_ms now; 0 where
 * they are close, or nothing is known. */
int64_t pg_clock_distance(const struct pg_state *state, int64_t caller_ms);
/* Nanoseconds of a number of microseconds; one without such is the last there is on its side. */
int64_t pg_clock_ns(int64_t us);
/* The server's time server_ns by our clock, which showed here_ns when the server's showed there_ns;
 * 0 or UINT64_MAX where that is none. */
uint64_t pg_clock_local(int64_t server_ns, int64_t there_ns, uint64_t here_ns);
/* A time of the caller's as one of the source's; as it is where that would be none. */
int64_t pg_clock_moved(int64_t time_ms, int64_t distance);

#endif
