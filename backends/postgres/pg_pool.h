/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: does a session of our own answer, or a pool that lends one for a transaction at
 * a time? */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_POOL_H
#define SHMETA_BACKENDS_POSTGRES_PG_POOL_H

#include "backends/postgres/pg_state.h"

/* A pooled connection that was just made: OK, or its sessions are lent to others between our
 * transactions. */
enum shmeta_status pg_judge_pool(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
/* It does: the connection is closed and left alone for a while. */
enum shmeta_status pg_refuse_pool(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);

#endif
