/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: transactions, tried again where the server asks for it. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_TRANSACTION_H
#define SHMETA_BACKENDS_POSTGRES_PG_TRANSACTION_H

#include "backends/postgres/pg_state.h"

/* One statement that may run twice: send, sync, next. Outside a transaction it connects, and is
 * tried again, by itself. */
enum shmeta_status pg_query(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                            const struct pg_params *params, PGresult **ret, struct backend_error *err);
/* The body in a transaction: BEGIN goes out with its first statement, COMMIT after it returned OK,
 * unless it has sent that itself with its last statements (pg_send_commit()). Connects where
 * needed. The body runs again, from its start, when the server asks for it (40001, 40P01: bounded,
 * with jitter), when a plan was stale, and when the connection turned out to be dead before
 * anything was committed. A body must be able to; what it gave out before, it takes back. It is
 * also run again once when its connection died before COMMIT was sent.
 * OK: committed. ERR_OUTCOME_UNKNOWN: the connection, or the server, went away in COMMIT. Anything
 * else: rolled back. */
enum shmeta_status pg_transaction(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                                  enum shmeta_status (*body)(void *arg, struct backend_error *err), void *arg,
                                  struct backend_error *err);
/* The BEGIN of a transaction whose first statements are sent before pg_transaction() is called,
 * with a body that knows. Connects where needed. */
enum shmeta_status pg_begin(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                            struct backend_error *err);

#endif
