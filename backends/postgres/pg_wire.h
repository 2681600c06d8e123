/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: statements on an open connection, and what a failure means. Nothing waits in
 * libpq: every wait is a poll() with a deadline. A connection is always in pipeline mode but during
 * a COPY, so that what can be sent together is (a BEGIN costs no round trip of its own).
 *
 * pg_send() queues a statement, pg_sync() ends what goes together, pg_next() waits for the next
 * result in the order of sending. Several connections may be driven at once: send and pg_flush() on
 * each, then read each.
 *
 * A statement that fails makes the server skip all that was sent behind it up to the sync;
 * pg_next() gives each of these the failure's own status and sentence. conn->sqlstate has its code.
 * pg_drop_results() reads and drops what is left.
 *
 * One call has options.timeout_ms, each pg_next() anew. After a deadline or a lost connection the
 * connection is closed, every later pg_next() fails the same way, and the next pg_transaction() or
 * pg_connect() connects again. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_WIRE_H
#define SHMETA_BACKENDS_POSTGRES_PG_WIRE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "backends/postgres/pg_statements.h"
#include "backends/postgres/pg_values.h"

enum { PG_PENDING_MAX = 64 }; /* statements in flight */

struct pg_conn {
	const char *role; /* "primary", "replica": for sentences */
	const char *conninfo;
	PGconn *pg;        /* NULL: not connected */
	uint64_t connects; /* how often it has been connected: what hung on a former one is gone */
	char sqlstate[6];  /* of the last failure; "": it came from no server */
	char said[112];    /* the server's own words for it                   */
	bool prepared[PG_STATEMENTS];
	bool in_transaction; /* a BEGIN was queued and neither COMMIT nor ROLLBACK has been
                              * answered */
	bool committing;     /* a COMMIT has been handed to the socket: what becomes of it is the
                              * server's to say */
	bool committed;
	bool stale_plan; /* the last failure was a plan of an older schema: prepared anew, try the
                          * transaction again */
	bool streaming;  /* rows one at a time, of the result that is being read */
	bool given_out;  /* set by a body that must not run again: rows of it are with the sink */
	bool timed_out;  /* it was closed for a deadline */
	bool begun;      /* pg_begin() was called, and pg_transaction() not yet */
	bool copying;
	bool flowing; /* the result that is being read has begun to come */
	char *copied; /* the last piece of a COPY */
	/* What was sent and not answered, oldest first. */
	struct pg_pending {
		uint8_t kind; /* of pg_wire.c */
		uint8_t statement;
	} pending[PG_PENDING_MAX];
	uint32_t pending_first, pending_count;
	bool failing; /* what was sent behind a failed statement is being skipped, each with this
                       * failure */
	struct backend_error failure;
	uint32_t patience_ms; /* instead of options.timeout_ms, for statements that take long; 0:
                               * not */
	/* Called about every 100 ms of waiting, where it is there; not OK ends the wait, and the
	 * connection. */
	enum shmeta_status (*tick)(void *arg);
	void *tick_arg;
	/* After a failed login: not before, and until then this is what everyone is told. */
	uint64_t retry_at_ns;
	uint32_t failures;
	struct backend_error refused;
	bool in_recovery, server_read_only;
	int server_version;
	int session;  /* its process at the server; 0: not known */
	bool pooled;  /* something that makes sessions of its own is between us and the server */
	bool strange; /* the session is not the one that we prepared: not to be gone on with */
};

bool pg_connected(const struct pg_conn *conn);
void pg_disconnect(struct pg_state *state, struct pg_conn *conn);
/* host:port/database, or the socket's folder; never a secret. */
const char *pg_place(const struct pg_conn *conn, char *buffer, size_t bytes);

/* ---- failures */

/* Did the last failure on the connection carry this code, or, with two characters, one of this
 * class? */
bool pg_failed_with(const struct pg_conn *conn, const char *sqlstate);
/* The status and the sentence of a failure, the only place that knows what a SQLSTATE means to us:
 * "postgresql: DOING HOST/DB: what the server said (42P01)". Fills conn->sqlstate. result NULL: the
 * connection's own. */
enum shmeta_status pg_fail(struct pg_state *state, struct pg_conn *conn, const PGresult *result,
                           struct backend_error *err);

/* ---- sending and receiving */

enum shmeta_status pg_send(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                           const struct pg_params *params, struct backend_error *err);
/* As pg_send(); pg_next() passes over its result unless it failed. */
enum shmeta_status pg_send_quiet(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                 struct backend_error *err);
/* Queue the COMMIT and the sync behind what was sent; pg_transaction() takes its result when the
 * body has read the others'. */
enum shmeta_status pg_send_commit(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
enum shmeta_status pg_sync(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
enum shmeta_status pg_flush(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
/* *ret (may be NULL: not wanted) is the caller's to PQclear(); NULL on failure. */
enum shmeta_status pg_next(struct pg_state *state, struct pg_conn *conn, PGresult **ret, struct backend_error *err);
/* Is the next result that of a COMMIT? Waits for what pg_next() passes over. */
enum shmeta_status pg_next_is_commit(struct pg_state *state, struct pg_conn *conn, bool *ret,
                                     struct backend_error *err);
/* The next result row by row: each call one PGresult with one row; *ret NULL: there are no more. */
enum shmeta_status pg_next_row(struct pg_state *state, struct pg_conn *conn, PGresult **ret, struct backend_error *err);
void pg_drop_results(struct pg_state *state, struct pg_conn *conn);
/* One that is not worth preparing: text results, several commands not allowed. */
enum shmeta_status pg_execute(struct pg_state *state, struct pg_conn *conn, const char *sql, PGresult **ret,
                              struct backend_error *err);
/* The first value of the first row of such a query on the primary. */
enum shmeta_status pg_one_number(struct pg_state *state, const char *sql, int64_t *ret, struct backend_error *err);
enum shmeta_status pg_one_text(struct pg_state *state, const char *sql, char *ret, size_t bytes,
                               struct backend_error *err);

/* COPY (query) TO STDOUT (FORMAT binary). pg_copy_read(): the next piece, borrowed until the next
 * call; *ret NULL: the end, and the connection is as before. Nothing may be in flight at the start,
 * and nothing is sent until the end. */
enum shmeta_status pg_copy_start(struct pg_state *state, struct pg_conn *conn, const char *sql,
                                 struct backend_error *err);
enum shmeta_status pg_copy_read(struct pg_state *state, struct pg_conn *conn, const char **ret, size_t *ret_bytes,
                                struct backend_error *err);

/* ---- waiting */

/* CLOCK_MONOTONIC, by which a call that begins now has to be answered. */
uint64_t pg_deadline_of(const struct pg_state *state, const struct pg_conn *conn);
/* Until the socket is ready for one of events, or the deadline. */
enum shmeta_status pg_wait_for(struct pg_state *state, struct pg_conn *conn, short events, uint64_t deadline_ns,
                               struct backend_error *err);

#endif
