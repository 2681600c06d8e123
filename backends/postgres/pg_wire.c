/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: statements on a connection that pg_login.c has made, and what a failure
 * means. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/postgres/pg_state.h"
#include "backends/postgres/pg_values.h"

enum pending_kind {
	SENT_PREPARE,
	SENT_QUIET, /* BEGIN: its result interests nobody unless it failed */
	SENT_STATEMENT,
	SENT_COMMIT,
	SENT_SYNC
};

enum { TICK_MS = 100, FLOW_PATIENCE = 4 /* times the timeout */ };

static const char *const names[PG_STATEMENTS] = {
#define X(name) [PG_##name] = "shmeta_" #name,
	PG_READ_STATEMENTS(X) PG_WRITE_STATEMENTS(X) PG_OBJECT_STATEMENTS(X) PG_MOVE_STATEMENTS(X)
#undef X
};

bool pg_connected(const struct pg_conn *conn)
{
	return conn->pg != NULL && PQstatus(conn->pg) == CONNECTION_OK;
}

const char *pg_place(const struct pg_conn *conn, char *buffer, size_t bytes)
{
	const char *host = conn->pg != NULL ? PQhost(conn->pg) : NULL;
	const char *port = conn->pg != NULL ? PQport(conn->pg) : NULL;
	const char *name = conn->pg != NULL ? PQdb(conn->pg) : NULL;
	bool file = host != NULL && (host[0] == '/' || host[0] == '@');

	if (host == NULL || host[0] == '\0')
		snprintf(buffer, bytes, "the %s", conn->role);
	else
		snprintf(buffer, bytes, "%s%s%s/%s", host, file ? "" : ":", file || port == NULL ? "" : port,
		         name != NULL ? name : "");
	return buffer;
}

/* ---- failures ---- */

bool pg_failed_with(const struct pg_conn *conn, const char *sqlstate)
{
	return conn->sqlstate[0] != '\0' && strncmp(conn->sqlstate, sqlstate, strlen(sqlstate)) == 0;
}

static const char attempt[] = "connection to server "; /* begins each host's line of a failed
                                                        * login */

/* The first line, without what libpq puts before and behind it, and with one space where there are
 * several; of a login the line of each host that was tried. Hints (they begin with a tab) are left
 * out. */
static void in_one_line(const char *text, char *out, size_t bytes)
{
	size_t used = 0;

	while (*text == ' ' || *text == '\n')
		text++;
	for (bool first = true; *text != '\0'; text += *text == '\n') {
		size_t n = strcspn(text, "\n");

		if (first || strncmp(text, attempt, strlen(attempt)) == 0) {
			if (!first) {
				text += strlen(attempt);
				n -= strlen(attempt);
			}
			for (const char *more = "; "; !first && *more != '\0' && used + 1 < bytes; more++)
				out[used++] = *more;
			for (size_t i = 0; i < n && used + 1 < bytes; i++)
				if (text[i] != ' ' || (used > 0 && out[used - 1] != ' '))
					out[used++] = text[i];
			while (used > 0 && out[used - 1] == ' ')
				used--;
		}
		first = false;
		text += n;
	}
	out[used] = '\0';
}

/* What a failure means to whoever asked. "": the connection itself. */
static enum shmeta_status judge(struct pg_state *state, struct pg_conn *conn)
{
	static const struct {
		const char *sqlstate;
		/* first: as long as the source was never open, it is misconfigured */
		enum shmeta_status status, first;
		/* the schema is not what it was: look at it again */
		bool look;
	} table[] = {
		{"3D000", SHMETA_ERR_SOURCE, SHMETA_ERR_CONFIG, false}, /* no such database */
		/* not permitted: may be granted */
		{"42501", SHMETA_ERR_SOURCE, SHMETA_ERR_CONFIG, true},
		{"42P01", SHMETA_ERR_SOURCE, SHMETA_ERR_CONFIG, true}, /* no such table */
		{"42703", SHMETA_ERR_SOURCE, SHMETA_ERR_CONFIG, true}, /* no such column */
		{"42", SHMETA_ERR_SOURCE, SHMETA_ERR_SOURCE, true},
		{"3F000", SHMETA_ERR_SOURCE, SHMETA_ERR_CONFIG, true},
		/* After a failover the server that took writes may be the one that does not:
		 * connect again, where it may be another. Passwords are rotated and servers
		 * restarted: 28xxx, 53xxx, 57xxx, 58xxx and the rest pass. */
		{"25006", SHMETA_ERR_SOURCE, SHMETA_ERR_SOURCE, true},
	};

	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (pg_failed_with(conn, table[i].sqlstate)) {
			if (table[i].look)
				state->attached = false;
			return state->opened_before ? table[i].status : table[i].first;
		}
	return SHMETA_ERR_SOURCE;
}

enum shmeta_status pg_fail(struct pg_state *state, struct pg_conn *conn, const PGresult *result,
                           struct backend_error *err)
{
	const char *code = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
	const char *said = result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *routine = result != NULL ? PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION) : NULL;
	const char *engine = state->dialect->engine;
	char place[200], line[300];
	enum shmeta_status status;

	snprintf(conn->sqlstate, sizeof conn->sqlstate, "%s", code != NULL ? code : "");
	if (said == NULL)
		said = result != NULL && PQresultErrorMessage(result)[0] != '\0' ? PQresultErrorMessage(result)
		       : conn->pg != NULL                                        ? PQerrorMessage(conn->pg)
		                                                                 : "not connected";
	in_one_line(said, line, sizeof line);
	snprintf(conn->said, sizeof conn->said, "%.*s", (int)sizeof conn->said - 1, line);
	/* libpq does not tell why; these are all that there are. */
	if (result == NULL && strstr(line, "certificate verify failed") != NULL)
		snprintf(line + strlen(line), sizeof line - strlen(line),
		         " (expired, not yet valid, or its CA is not in sslrootcert)");
	/* Then the line says which server, and status has room for the reason. */
	if (result == NULL && conn->pg != NULL && strncmp(line, attempt, strlen(attempt)) == 0)
		snprintf(place, sizeof place, "%s", PQdb(conn->pg) != NULL ? PQdb(conn->pg) : conn->role);
	else
		(void)pg_place(conn, place, sizeof place);
	status = judge(state, conn);
	if (conn->pooled && (pg_failed_with(conn, "26000") || pg_failed_with(conn, "42P05")))
		conn->strange = true;
	else if (pg_failed_with(conn, "26000") ||
	         (pg_failed_with(conn, "0A000") && routine != NULL && strcmp(routine, "RevalidateCachedQuery") == 0))
		conn->stale_plan = true;
	status =
		backend_fail(err, status, "%s: %s %s: %s%s%s%s", engine, state->doing != NULL ? state->doing : "asking",
	                     place, line[0] != '\0' ? line : "the connection was lost", code != NULL ? " (" : "",
	                     code != NULL ? code : "", code != NULL ? ")" : "");
	return pg_failed_with(conn, "42501") ? backend_denied(err, status) : status;
}

/* The connection is of no use any more; what is in flight on it gets this failure. */
static enum shmeta_status broken(struct pg_state *state, struct pg_conn *conn, enum shmeta_status status,
                                 struct backend_error *err)
{
	if (err != NULL && !conn->failing)
		conn->failure = *err;
	else if (!conn->failing)
		backend_fail(&conn->failure, status, "%s: the connection to the %s was lost", state->dialect->engine,
		             conn->role);
	conn->failing = true;
	PQfinish(conn->pg);
	conn->pg = NULL;
	return status;
}

static enum shmeta_status lost(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	struct backend_error mine = {0};
	enum shmeta_status status = pg_fail(state, conn, NULL, &mine);

	if (err != NULL)
		*err = mine;
	return broken(state, conn, status, &mine);
}

void pg_disconnect(struct pg_state *state, struct pg_conn *conn)
{
	(void)state;
	if (conn->copied != NULL)
		PQfreemem(conn->copied);
	conn->copied = NULL;
	PQfinish(conn->pg);
	conn->pg = NULL;
	conn->pending_count = 0;
	conn->failing = conn->copying = conn->streaming = conn->flowing = false;
	conn->in_transaction = conn->begun = conn->committing = conn->committed = conn->timed_out = false;
	memset(conn->prepared, 0, sizeof conn->prepared);
	conn->stale_plan = conn->strange = false;
}

/* ---- waiting ---- */

/* A statement may take long until its first row comes; from then on rows come, or there is nobody
 * there any more. */
static uint32_t patience_of(const struct pg_state *state, const struct pg_conn *conn)
{
	if (conn->patience_ms > 0 && !conn->flowing)
		return conn->patience_ms;
	return conn->patience_ms > 0 ? FLOW_PATIENCE * pg_timeout_of(state) : pg_timeout_of(state);
}

/* Until the socket is ready for one of events, or the deadline. */
enum shmeta_status pg_wait_for(struct pg_state *state, struct pg_conn *conn, short events, uint64_t deadline_ns,
                               struct backend_error *err)
{
	struct pollfd fd = {.fd = PQsocket(conn->pg), .events = events};
	char place[200];

	for (;;) {
		uint64_t now = pg_now_ns();
		int64_t left = now < deadline_ns ? (int64_t)((deadline_ns - now + 999999) / 1000000) : 0;
		int rc = poll(&fd, 1, left > TICK_MS && conn->tick != NULL ? TICK_MS : (int)left);
		enum shmeta_status status;

		if (rc > 0)
			return SHMETA_OK;
		if (rc < 0 && errno != EINTR)
			return backend_fail(err, SHMETA_ERR_SOURCE, "%s: waiting for %s: %s", state->dialect->engine,
			                    pg_place(conn, place, sizeof place), strerror(errno));
		if (rc == 0 && conn->tick != NULL) {
			status = conn->tick(conn->tick_arg);
			if (status != SHMETA_OK)
				return status;
		}
		if (pg_now_ns() >= deadline_ns) {
			conn->sqlstate[0] = '\0';
			conn->timed_out = true;
			return backend_fail(err, SHMETA_ERR_SOURCE, "%s: %s %s: no answer within %u ms",
			                    state->dialect->engine, state->doing != NULL ? state->doing : "asking",
			                    pg_place(conn, place, sizeof place), patience_of(state, conn));
		}
	}
}

uint64_t pg_deadline_of(const struct pg_state *state, const struct pg_conn *conn)
{
	return pg_now_ns() + (uint64_t)patience_of(state, conn) * 1000000u;
}

/* Until a result can be taken without blocking. */
static enum shmeta_status wait_result(struct pg_state *state, struct pg_conn *conn, uint64_t deadline_ns,
                                      struct backend_error *err)
{
	enum shmeta_status status;
	int flushed;

	for (;;) {
		flushed = PQflush(conn->pg);
		if (flushed < 0)
			return lost(state, conn, err);
		if (!PQisBusy(conn->pg))
			return SHMETA_OK;
		status = pg_wait_for(state, conn, (short)(POLLIN | (flushed > 0 ? POLLOUT : 0)), deadline_ns, err);
		if (status != SHMETA_OK)
			return broken(state, conn, status, err);
		if (!PQconsumeInput(conn->pg))
			return lost(state, conn, err);
	}
}

enum shmeta_status pg_flush(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	uint64_t deadline = pg_deadline_of(state, conn);
	enum shmeta_status status;
	int flushed;

	if (!pg_connected(conn))
		return pg_fail(state, conn, NULL, err);
	while ((flushed = PQflush(conn->pg)) > 0) {
		status = pg_wait_for(state, conn, POLLIN | POLLOUT, deadline, err);
		if (status != SHMETA_OK)
			return broken(state, conn, status, err);
		/* The server may wait for us to read before it reads on. */
		if (!PQconsumeInput(conn->pg))
			return lost(state, conn, err);
	}
	return flushed < 0 ? lost(state, conn, err) : SHMETA_OK;
}

/* ---- sending ---- */

static enum shmeta_status note(struct pg_state *state, struct pg_conn *conn, enum pending_kind kind,
                               enum pg_statement which, int sent, struct backend_error *err)
{
	if (!sent)
		return lost(state, conn, err);
	conn->pending[(conn->pending_first + conn->pending_count++) % PG_PENDING_MAX] =
		(struct pg_pending){.kind = (uint8_t)kind, .statement = (uint8_t)which};
	return SHMETA_OK;
}

static enum shmeta_status send_statement(struct pg_state *state, struct pg_conn *conn, enum pending_kind kind,
                                         enum pg_statement which, const struct pg_params *params,
                                         struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	_Static_assert(PG_STATEMENTS < 256, "a statement's number fits its byte");
	if (!pg_connected(conn))
		return conn->failing ? (err != NULL ? (void)(*err = conn->failure) : (void)0, conn->failure.code)
		                     : pg_fail(state, conn, NULL, err);
	if (conn->pending_count + 2 > PG_PENDING_MAX)
		return backend_fail(err, SHMETA_ERR_SOURCE, "%s: more than %d statements in flight",
		                    state->dialect->engine, PG_PENDING_MAX);
	for (int i = 0; params != NULL && i < params->count; i++)
		if (params->values[i] == NULL && params->lengths[i] != 0)
			return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory for a list of values",
			                    state->dialect->engine);
	if (!conn->prepared[which]) {
		state->counters.prepares++;
		status = note(state, conn, SENT_PREPARE, which,
		              PQsendPrepare(conn->pg, names[which], state->sql[which], 0, NULL), err);
		conn->prepared[which] = true;
	}
	state->counters.queries++;
	if (status == SHMETA_OK)
		status = note(state, conn, kind, which,
		              PQsendQueryPrepared(conn->pg, names[which], params != NULL ? params->count : 0,
		                                  params != NULL ? params->values : NULL,
		                                  params != NULL ? params->lengths : NULL,
		                                  params != NULL ? params->formats : NULL, 1),
		              err);
	return status;
}

enum shmeta_status pg_send(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                           const struct pg_params *params, struct backend_error *err)
{
	return send_statement(state, conn, SENT_STATEMENT, which, params, err);
}

enum shmeta_status pg_send_quiet(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                                 struct backend_error *err)
{
	return send_statement(state, conn, SENT_QUIET, which, NULL, err);
}

enum shmeta_status pg_sync(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	if (!pg_connected(conn))
		return conn->failing ? (err != NULL ? (void)(*err = conn->failure) : (void)0, conn->failure.code)
		                     : pg_fail(state, conn, NULL, err);
	return note(state, conn, SENT_SYNC, 0, PQpipelineSync(conn->pg), err);
}

enum shmeta_status pg_send_commit(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	enum shmeta_status status = send_statement(state, conn, SENT_COMMIT, PG_COMMIT, NULL, err);

	/* From here on parts of it may be with the server. */
	conn->committing = true;
	return status == SHMETA_OK ? pg_sync(state, conn, err) : status;
}

/* ---- receiving ---- */

static void pop(struct pg_conn *conn)
{
	conn->pending_first = (conn->pending_first + 1) % PG_PENDING_MAX;
	conn->pending_count--;
}

static enum shmeta_status again(const struct pg_conn *conn, struct backend_error *err)
{
	if (err != NULL)
		*err = conn->failure;
	return conn->failure.code;
}

/* One result of libpq; NULL ends those of a statement. Not OK: the connection is gone. */
static enum shmeta_status take(struct pg_state *state, struct pg_conn *conn, PGresult **ret, struct backend_error *err)
{
	enum shmeta_status status = wait_result(state, conn, pg_deadline_of(state, conn), err);

	*ret = NULL;
	if (status == SHMETA_OK)
		*ret = PQgetResult(conn->pg);
	return status;
}

/* The end of a statement's results. */
static enum shmeta_status take_end(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	PGresult *result;
	enum shmeta_status status;

	do {
		status = take(state, conn, &result, err);
		PQclear(result);
	} while (status == SHMETA_OK && result != NULL);
	return status;
}

/* The result of the oldest statement in flight, judged. */
static enum shmeta_status receive(struct pg_state *state, struct pg_conn *conn, bool row, PGresult **ret,
                                  struct backend_error *err)
{
	const struct pg_pending pending = conn->pending[conn->pending_first];
	enum shmeta_status status = SHMETA_OK;
	PGresult *result = NULL;
	const char *severity;
	ExecStatusType kind;
	bool fatal;

	*ret = NULL;
	/* A NULL that ends a former statement may still be there. */
	for (int tries = 0; status == SHMETA_OK && result == NULL && tries < 3; tries++)
		status = take(state, conn, &result, err);
	if (status != SHMETA_OK)
		return status;
	kind = result != NULL ? PQresultStatus(result) : PGRES_FATAL_ERROR;
	if (pending.kind == SENT_SYNC) {
		pop(conn);
		PQclear(result);
		if (kind != PGRES_PIPELINE_SYNC)
			return lost(state, conn, err);
		conn->failing = false;
		return SHMETA_OK;
	}
	if (kind == PGRES_SINGLE_TUPLE && row) {
		*ret = result;
		return SHMETA_OK;
	}
	pop(conn);
	conn->streaming = false;
	if (kind == PGRES_PIPELINE_ABORTED) {
		PQclear(result);
		if (pending.kind == SENT_PREPARE)
			conn->prepared[pending.statement] = false;
		status = take_end(state, conn, err);
		return status != SHMETA_OK ? status : again(conn, err);
	}
	if (kind == PGRES_TUPLES_OK || kind == PGRES_COMMAND_OK) {
		if (kind == PGRES_TUPLES_OK)
			state->counters.rows += (uint64_t)PQntuples(result);
		/* A COMMIT that found its transaction failed is answered, without an error, by
		 * ROLLBACK. */
		if (pending.statement == PG_COMMIT && pending.kind != SENT_SYNC) {
			conn->in_transaction = false;
			conn->committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
		} else if (pending.statement == PG_ROLLBACK) {
			conn->in_transaction = false;
		}
		status = take_end(state, conn, err);
		if (status != SHMETA_OK || row) {
			PQclear(result);
			return status;
		}
		*ret = result;
		return SHMETA_OK;
	}
	status = pg_fail(state, conn, result, &conn->failure);
	severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	/* With these words the server has closed the connection, whether we have noticed it yet or
	 * not. */
	fatal = severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
	PQclear(result);
	if (pending.kind == SENT_PREPARE)
		conn->prepared[pending.statement] = false;
	conn->failing = true;
	if (err != NULL)
		*err = conn->failure;
	if (fatal || PQstatus(conn->pg) != CONNECTION_OK)
		return broken(state, conn, status, NULL);
	(void)take_end(state, conn, NULL);
	return status;
}

/* Past what interests nobody. */
static enum shmeta_status to_statement(struct pg_state *state, struct pg_conn *conn, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	PGresult *result = NULL;

	for (;;) {
		uint8_t kind;

		if (!pg_connected(conn))
			return conn->failing ? again(conn, err) : pg_fail(state, conn, NULL, err);
		if (conn->pending_count == 0)
			return backend_fail(err, SHMETA_ERR_SOURCE, "%s: nothing was asked", state->dialect->engine);
		kind = conn->pending[conn->pending_first].kind;
		if (kind == SENT_STATEMENT || kind == SENT_COMMIT)
			return SHMETA_OK;
		status = receive(state, conn, false, &result, err);
		PQclear(result);
		/* A failed PREPARE or BEGIN fails what is behind it, which says so itself. */
		if (!pg_connected(conn))
			return status != SHMETA_OK ? status : again(conn, err);
	}
}

enum shmeta_status pg_next(struct pg_state *state, struct pg_conn *conn, PGresult **ret, struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = to_statement(state, conn, err);

	if (ret != NULL)
		*ret = NULL;
	if (status == SHMETA_OK)
		status = receive(state, conn, false, &result, err);
	if (ret != NULL && status == SHMETA_OK)
		*ret = result;
	else
		PQclear(result);
	return status;
}

enum shmeta_status pg_next_is_commit(struct pg_state *state, struct pg_conn *conn, bool *ret, struct backend_error *err)
{
	enum shmeta_status status = to_statement(state, conn, err);

	*ret = status == SHMETA_OK && conn->pending[conn->pending_first].kind == SENT_COMMIT;
	return status;
}

enum shmeta_status pg_next_row(struct pg_state *state, struct pg_conn *conn, PGresult **ret, struct backend_error *err)
{
	enum shmeta_status status;

	*ret = NULL;
	if (!conn->streaming) {
		status = to_statement(state, conn, err);
		if (status != SHMETA_OK)
			return status;
		/* What is skipped behind a failure, its own PREPARE's for example, has no rows. */
		if (conn->failing)
			return receive(state, conn, false, ret, err);
		/* libpq lets us say so only while it stands at this very statement, with nothing of
		 * it taken. */
		if (!PQsetSingleRowMode(conn->pg)) {
			PGresult *none = PQgetResult(conn->pg);

			PQclear(none);
			if (none != NULL || !PQsetSingleRowMode(conn->pg))
				return lost(state, conn, err);
		}
		conn->streaming = true;
		conn->flowing = false;
	}
	status = receive(state, conn, true, ret, err);
	conn->flowing = *ret != NULL;
	state->counters.rows += *ret != NULL;
	return status;
}

void pg_drop_results(struct pg_state *state, struct pg_conn *conn)
{
	PGresult *result;

	/* The rest of a large result is not worth its transfer. */
	if (conn->streaming || conn->copying) {
		pg_disconnect(state, conn);
		return;
	}
	if (pg_connected(conn) && conn->pending_count > 0 &&
	    conn->pending[(conn->pending_first + conn->pending_count - 1) % PG_PENDING_MAX].kind != SENT_SYNC)
		(void)pg_sync(state, conn, NULL);
	while (pg_connected(conn) && conn->pending_count > 0) {
		(void)receive(state, conn, false, &result, NULL);
		PQclear(result);
	}
	conn->pending_count = 0;
	conn->failing = false;
}

enum shmeta_status pg_execute(struct pg_state *state, struct pg_conn *conn, const char *sql, PGresult **ret,
                              struct backend_error *err)
{
	enum shmeta_status status;

	if (ret != NULL)
		*ret = NULL;
	if (!pg_connected(conn))
		return pg_fail(state, conn, NULL, err);
	state->counters.queries++;
	status = note(state, conn, SENT_STATEMENT, PG_STATEMENTS,
	              PQsendQueryParams(conn->pg, sql, 0, NULL, NULL, NULL, NULL, 0), err);
	if (status == SHMETA_OK)
		status = pg_sync(state, conn, err);
	if (status == SHMETA_OK)
		status = pg_next(state, conn, ret, err);
	pg_drop_results(state, conn);
	return status;
}

enum shmeta_status pg_one_number(struct pg_state *state, const char *sql, int64_t *ret, struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_execute(state, &state->primary, sql, &result, err);

	if (status != SHMETA_OK)
		return status;
	*ret = PQntuples(result) > 0 ? strtoll(pg_value(result, 0, 0), NULL, 10) : 0;
	PQclear(result);
	return SHMETA_OK;
}

enum shmeta_status pg_one_text(struct pg_state *state, const char *sql, char *ret, size_t bytes,
                               struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_execute(state, &state->primary, sql, &result, err);

	ret[0] = '\0';
	if (status != SHMETA_OK)
		return status;
	if (PQntuples(result) > 0)
		snprintf(ret, bytes, "%s", pg_value(result, 0, 0));
	PQclear(result);
	return SHMETA_OK;
}

/* ---- COPY ---- */

enum shmeta_status pg_copy_start(struct pg_state *state, struct pg_conn *conn, const char *sql,
                                 struct backend_error *err)
{
	enum shmeta_status status;
	PGresult *result;

	pg_drop_results(state, conn);
	if (!pg_connected(conn) || !PQexitPipelineMode(conn->pg) || !PQsendQuery(conn->pg, sql))
		return lost(state, conn, err);
	state->counters.queries++;
	conn->copying = true;
	conn->flowing = false;
	status = take(state, conn, &result, err);
	if (status != SHMETA_OK)
		return status;
	if (PQresultStatus(result) == PGRES_COPY_OUT) {
		PQclear(result);
		return SHMETA_OK;
	}
	status = pg_fail(state, conn, result, err);
	PQclear(result);
	conn->copying = false;
	if (take_end(state, conn, NULL) == SHMETA_OK)
		(void)PQenterPipelineMode(conn->pg);
	return status;
}

enum shmeta_status pg_copy_read(struct pg_state *state, struct pg_conn *conn, const char **ret, size_t *ret_bytes,
                                struct backend_error *err)
{
	uint64_t deadline = pg_deadline_of(state, conn);
	enum shmeta_status status;
	PGresult *result;
	int got;

	*ret = NULL;
	if (conn->copied != NULL)
		PQfreemem(conn->copied);
	conn->copied = NULL;
	while ((got = PQgetCopyData(conn->pg, &conn->copied, 1)) == 0) {
		status = pg_wait_for(state, conn, POLLIN, deadline, err);
		if (status != SHMETA_OK)
			return broken(state, conn, status, err);
		if (!PQconsumeInput(conn->pg))
			return lost(state, conn, err);
	}
	conn->flowing = got > 0;
	if (got > 0) {
		*ret = conn->copied;
		*ret_bytes = (size_t)got;
		return SHMETA_OK;
	}
	conn->copied = NULL;
	conn->copying = false;
	status = take(state, conn, &result, err);
	if (status != SHMETA_OK)
		return status;
	if (result == NULL || PQresultStatus(result) != PGRES_COMMAND_OK)
		status = pg_fail(state, conn, result, err);
	PQclear(result);
	if (pg_connected(conn) && (take_end(state, conn, NULL) != SHMETA_OK || !PQenterPipelineMode(conn->pg)))
		return status != SHMETA_OK ? status : lost(state, conn, err);
	return status;
}
