/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: transactions, and queries outside of one, tried again where the server asks for
 * it or a connection had died. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/pg_link.h"
#include "backends/postgres/pg_login.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"

enum { HASTY_RETRIES = 4 };

/* Statements whose text or plan is no longer right leave the server, and are prepared again when
 * they are next needed. */
static enum shmeta_status drop_plans(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	enum shmeta_status status;

	if (!conn->stale_plan || !pg_connected(conn))
		return SHMETA_OK;
	memset(conn->prepared, 0, sizeof conn->prepared);
	conn->stale_plan = false;
	status = pg_execute(state, conn, "DEALLOCATE ALL", NULL, err);
	if (status != SHMETA_OK)
		pg_disconnect(state, conn);
	return status;
}

enum shmeta_status pg_query(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                            const struct pg_params *params, PGresult **ret, struct backend_error *err)
{
	bool alone = !conn->in_transaction && conn->pending_count == 0;
	enum shmeta_status status = SHMETA_OK;

	for (int tries = 0; tries < 2; tries++) {
		uint64_t connects = conn->connects;

		if (alone) {
			status = pg_connect(state, conn, err);
			if (status == SHMETA_OK)
				status = drop_plans(state, conn, err);
			if (status != SHMETA_OK)
				return status;
		}
		status = pg_send(state, conn, which, params, err);
		if (status == SHMETA_OK)
			status = pg_sync(state, conn, err);
		if (status == SHMETA_OK)
			status = pg_next(state, conn, ret, err);
		if (alone || status != SHMETA_OK)
			pg_drop_results(state, conn);
		if (status == SHMETA_OK || !alone)
			return status;
		if (!conn->stale_plan && (pg_connected(conn) || connects != conn->connects || conn->timed_out))
			/* the server's answer, or none: not a link that had died idle */
			return status;
	}
	return status;
}

/* The outcome of a COMMIT that has been sent. */
static enum shmeta_status take_commit(struct pg_state *state, struct pg_conn *conn, bool wrote,
                                      struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	char place[200];
	bool mine = false;

	/* A body that failed may have left results of its own in front of it. */
	while (!mine && (status == SHMETA_OK || pg_connected(conn))) {
		status = pg_next_is_commit(state, conn, &mine, err);
		if (status == SHMETA_OK)
			status = pg_next(state, conn, NULL, err);
		else if (pg_connected(conn))
			break;
	}
	if (conn->committed)
		return SHMETA_OK;
	/* What the server answers to COMMIT itself is an answer, unless it is on its way out or
	 * says that it does not know (40003, 08007); what it answers not at all may have
	 * happened. */
	if (wrote && status != SHMETA_OK &&
	    (!pg_connected(conn) || pg_failed_with(conn, "57P") || pg_failed_with(conn, "08") ||
	     pg_failed_with(conn, "40003")))
		return backend_fail(
			err, SHMETA_ERR_OUTCOME_UNKNOWN,
			"%s: the connection to %s ended during COMMIT: what was written may be there or not",
			state->dialect->engine, pg_place(conn, place, sizeof place));
	if (status == SHMETA_OK)
		return backend_fail(err, SHMETA_ERR_SOURCE, "%s: the transaction was rolled back by the server",
		                    state->dialect->engine);
	return status;
}

static void roll_back(struct pg_state *state, struct pg_conn *conn)
{
	pg_drop_results(state, conn);
	if (pg_connected(conn) && conn->in_transaction && PQtransactionStatus(conn->pg) != PQTRANS_IDLE) {
		if (pg_send(state, conn, PG_ROLLBACK, NULL, NULL) != SHMETA_OK ||
		    pg_sync(state, conn, NULL) != SHMETA_OK || pg_next(state, conn, NULL, NULL) != SHMETA_OK)
			pg_disconnect(state, conn);
		pg_drop_results(state, conn);
	}
	conn->in_transaction = false;
}

static void pause_before_retry(struct pg_state *state, uint32_t tries)
{
	uint64_t most = UINT64_C(2000000) << (tries < 7 ? tries : 7), some = most / 2 + pg_scatter(state) % (most / 2);
	struct timespec nap = {.tv_sec = (time_t)(some / 1000000000u), .tv_nsec = (long)(some % 1000000000u)};

	nanosleep(&nap, NULL);
}

static enum shmeta_status make_ready(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	enum shmeta_status status = pg_connect(state, conn, err);

	if (status == SHMETA_OK && conn == &state->primary && !state->attached && !state->attaching)
		status = pg_ensure(state, err);
	if (status == SHMETA_OK) {
		pg_drop_results(state, conn);
		status = state->ready(state, conn, err);
	}
	if (status == SHMETA_OK)
		status = drop_plans(state, conn, err);
	return status;
}

static enum shmeta_status send_begin(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                                     struct backend_error *err)
{
	conn->committing = conn->committed = conn->given_out = false;
	conn->sqlstate[0] = '\0';
	conn->in_transaction = true;
	state->counters.transactions++;
	return pg_send_quiet(state, conn, begin, err);
}

enum shmeta_status pg_begin(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                            struct backend_error *err)
{
	enum shmeta_status status = make_ready(state, conn, err);

	if (status == SHMETA_OK)
		status = send_begin(state, conn, begin, err);
	conn->begun = status == SHMETA_OK;
	return status;
}

enum shmeta_status pg_transaction(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                                  enum shmeta_status (*body)(void *arg, struct backend_error *err), void *arg,
                                  struct backend_error *err)
{
	uint32_t conflicts = 0;
	bool wrote = begin != PG_BEGIN_READ, fresh = !pg_connected(conn), restarted = false, replanned = false;
	const uint64_t patience = pg_deadline_of(state, conn);
	enum shmeta_status status;

	for (;;) {
		status = SHMETA_OK;
		if (!conn->begun) {
			status = make_ready(state, conn, err);
			if (status != SHMETA_OK)
				return status;
			status = send_begin(state, conn, begin, err);
		}
		conn->begun = false;
		if (status == SHMETA_OK)
			status = body(arg, err);
		if (status == SHMETA_OK && !conn->committing)
			status = pg_send_commit(state, conn, err);
		if (status != SHMETA_OK && (conn->streaming || conn->copying))
			pg_disconnect(state, conn); /* only reads stream */
		if (conn->committing && (wrote || status == SHMETA_OK)) {
			enum shmeta_status outcome = take_commit(state, conn, wrote, err);

			/* The body's failure, where the COMMIT behind it was skipped for it, is the
			 * better sentence; but only an answer to the COMMIT says that it was
			 * skipped. */
			if (status == SHMETA_OK || outcome == SHMETA_ERR_OUTCOME_UNKNOWN)
				status = outcome;
			else if (conn->committed)
				status = SHMETA_ERR_OUTCOME_UNKNOWN;
		}
		if (status == SHMETA_ERR_OUTCOME_UNKNOWN) {
			/* A session that does not know what it did is not gone on with: its
			 * transaction may still be there, and a new one has another origin, so that
			 * the feed tells what became of it. */
			pg_disconnect(state, conn);
			return status;
		}
		if (status == SHMETA_OK) {
			pg_drop_results(state, conn);
			conn->in_transaction = false;
			return status;
		}
		if (conn->given_out) {
			roll_back(state, conn);
			return status;
		}
		/* So often, and where every meeting of two writers is a conflict for as long as one
		 * call may take: under a storm the count alone is gone within a second. */
		if ((pg_failed_with(conn, "40001") || pg_failed_with(conn, "40P01")) &&
		    (conflicts < (state->hasty ? HASTY_RETRIES : state->dialect->retries) ||
		     (!state->dialect->snapshots && !state->hasty && pg_now_ns() < patience))) {
			roll_back(state, conn);
			pause_before_retry(state, conflicts++);
			continue;
		}
		if (conn->stale_plan && pg_connected(conn) && !replanned) {
			roll_back(state, conn);
			replanned = true;
			continue;
		}
		if (!pg_connected(conn) && !(wrote && conn->committing) && !fresh && !restarted && !conn->timed_out) {
			restarted = true;
			pg_disconnect(state, conn);
			continue;
		}
		if (pg_failed_with(conn, "25006"))
			pg_disconnect(state, conn);
		roll_back(state, conn);
		return status;
	}
}
