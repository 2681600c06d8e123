/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: logging in. Who has to prove who it is, where the password comes from, and how
 * long nobody tries again after a refusal. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_LOGIN_H
#define SHMETA_BACKENDS_POSTGRES_PG_LOGIN_H

#include <stdint.h>

#include "backends/postgres/pg_state.h"

/* For jitter: a number that other processes do not have at the same moment. */
static inline uint64_t pg_scatter(struct pg_state *state)
{
	state->seed ^= state->seed << 13;
	state->seed ^= state->seed >> 7;
	state->seed ^= state->seed << 17;
	return state->seed;
}

/* Open the connection: nothing is asked, nothing set. */
enum shmeta_status pg_login(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
/* May a connection to these hosts (comma-separated) be made with this sslmode, which cannot tell
 * one server from another unless it is verify-full? */
enum shmeta_status pg_judge_hosts(const struct pg_state *state, const char *hosts, const char *mode,
                                  struct backend_error *err);
enum { PG_LOGIN_GATE_MS = 15000 };
/* Closed, and not tried again for so long. */
void pg_shun(struct pg_state *state, struct pg_conn *conn, const struct backend_error *why);

#endif
