/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what became of a COMMIT that nobody answered, and which server the writing
 * connection leads to. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_login.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_values.h"
#include "backends/postgres/pg_writing.h"

enum { OUTCOME_NAP_MS = 20 };

/* The COMMIT was sent and nobody answered. The server knows what became of a transaction by its id,
 * as long as it is the server that gave the id: one that was restarted may have lost ids that never
 * reached its disk and have given them again. From such a one "aborted" can be believed, and
 * "committed" where the log has a row of that transaction with our mark. */
enum shmeta_status pg_write_resolve(struct writing *w, struct backend_error *err)
{
	const uint64_t give_up = pg_now_ns() + (uint64_t)pg_timeout_of(w->state) * 1000000;
	const struct timespec nap = {.tv_nsec = OUTCOME_NAP_MS * 1000000L};
	const struct backend_error unknown = *err;
	struct backend_error mine;

	while (w->transaction[0] != '\0' && pg_now_ns() < give_up) {
		enum shmeta_status status;
		PGresult *result = NULL;
		struct pg_params params;
		bool committed, aborted, ours;

		pg_params_clear(&params);
		pg_param_text(&params, rows_str(w->transaction));
		pg_param_text(&params, rows_str(w->server));
		pg_param_text(&params, rows_str(w->origin));
		status = pg_query(w->state, &w->state->primary, PG_W_OUTCOME, &params, &result, &mine);
		if (status == SHMETA_OK) {
			struct shmeta_str said = pg_text(result, 0, 0);

			ours = pg_int(result, 0, 1) != 0;
			committed = rows_compare(said, rows_str("committed")) == 0;
			aborted = rows_compare(said, rows_str("aborted")) == 0;
			PQclear(result);
			if (committed && ours)
				return SHMETA_OK;
			if (aborted)
				return backend_fail(err, SHMETA_ERR_SOURCE,
				                    "%s: the connection was lost in COMMIT; nothing was done",
				                    w->state->dialect->engine);
			if (committed || said.bytes == 0)
				break;
		} else if (pg_failed_with(&w->state->primary, "22")) {
			break; /* a server that never gave such an id */
		}
		(void)nanosleep(&nap, NULL);
	}
	*err = unknown;
	return SHMETA_ERR_OUTCOME_UNKNOWN;
}

/* Which database, and since when its server has been up. */
static enum shmeta_status place_of(struct pg_state *state, struct pg_conn *conn, char ret[96],
                                   struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_execute(
		state, conn,
		"SELECT pg_postmaster_start_time()::text || ' ' || (SELECT system_identifier::text FROM "
		"pg_control_system()) || ' ' || (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = "
		"current_database())",
		&result, err);

	if (status == SHMETA_OK)
		(void)snprintf(ret, 96, "%s", pg_value(result, 0, 0));
	PQclear(result);
	return status;
}

/* The session that reads, in a database that is known to be the one that was served. */
static enum shmeta_status place_of_reader(struct pg_state *state, char ret[96], struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	for (int tries = 0; tries < 2; tries++) {
		status = pg_ensure(state, err);
		if (status == SHMETA_OK)
			status = pg_feed_told(state, err);
		if (status != SHMETA_OK)
			return status;
		status = place_of(state, &state->primary, ret, err);
		/* It may have died while nobody used it. */
		if (status == SHMETA_OK || pg_connected(&state->primary))
			return status;
	}
	return status;
}

/* What is read back through one connection must show what was written through the other: both lead
 * to the very same server and database. */
enum shmeta_status pg_meet_writer(struct pg_state *state, struct backend_error *err)
{
	char reader[96], writer[96];
	enum shmeta_status status;

	if (state->alike.primary == state->primary.connects && state->alike.writer == state->writer.connects)
		return SHMETA_OK;
	status = place_of_reader(state, reader, err);
	if (status == SHMETA_OK)
		status = place_of(state, &state->writer, writer, err);
	if (status != SHMETA_OK)
		return status;
	if (strcmp(reader, writer) != 0) {
		(void)backend_fail(err, SHMETA_ERR_SOURCE, "%s: another server or database answered",
		                   state->dialect->engine);
		pg_shun(state, &state->writer, err);
		return SHMETA_ERR_SOURCE;
	}
	state->alike.primary = state->primary.connects;
	state->alike.writer = state->writer.connects;
	return SHMETA_OK;
}

static const struct pg_text texts[] = {
	{PG_W_OUTCOME,
         "{!s:SELECT '', false}{s:SELECT pg_xact_status($1::text::xid8), pg_postmaster_start_time()::text = "
         "$2::text {!f:AND $3::text <> ''}{f:OR EXISTS(SELECT 1 FROM shmeta_changes WHERE xid = "
         "$1::text::xid8 AND origin = $3::text)}}"},
};

bool pg_write_resolve_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
