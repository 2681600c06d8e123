/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what logging in (login.c) and a connection's use (conn.c) share. */
#ifndef SHMETA_BACKENDS_POSTGRES_CONN_H
#define SHMETA_BACKENDS_POSTGRES_CONN_H

#include <time.h>

#include "backends/postgres/postgres.h"

enum { PG_TIMEOUT_MS = 5000 };

static inline uint64_t pg_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* For jitter: a number that other processes do not have at the same moment. */
static inline uint64_t pg_scatter(struct pg_state *state)
{
	state->seed ^= state->seed << 13;
	state->seed ^= state->seed >> 7;
	state->seed ^= state->seed << 17;
	return state->seed;
}

/* Of one call, in milliseconds. */
static inline uint32_t pg_timeout_of(const struct pg_state *state)
{
	return state->options.timeout_ms > 0 ? state->options.timeout_ms : PG_TIMEOUT_MS;
}

/* Until the socket is ready for one of events, or the deadline. */
enum shmeta_status pg_wait_for(struct pg_state *state, struct pg_conn *conn, short events, uint64_t deadline_ns,
                               struct backend_error *err);

#endif
