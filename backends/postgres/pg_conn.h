/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what logging in (pg_login.c) and a connection's use (pg_conn.c) share. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_CONN_H
#define SHMETA_BACKENDS_POSTGRES_PG_CONN_H

#include "backends/postgres/postgres.h"

/* For jitter: a number that other processes do not have at the same moment. */
static inline uint64_t pg_scatter(struct pg_state *state)
{
	state->seed ^= state->seed << 13;
	state->seed ^= state->seed >> 7;
	state->seed ^= state->seed << 17;
	return state->seed;
}

/* Until the socket is ready for one of events, or the deadline. */
enum shmeta_status pg_wait_for(struct pg_state *state, struct pg_conn *conn, short events, uint64_t deadline_ns,
                               struct backend_error *err);

#endif
