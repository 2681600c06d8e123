/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: connections, made where needed and set up as sessions of shmeta's. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_LINK_H
#define SHMETA_BACKENDS_POSTGRES_PG_LINK_H

#include "backends/postgres/pg_state.h"

/* OK: connected, the session set up. After a refused attempt everyone gets the same answer for a
 * while. */
enum shmeta_status pg_connect(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);

#endif
