/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: statements on an open connection, and what a failure means. */
#include <stdio.h>
#include <string.h>

#include "backends/sqlite/sqlite_db.h"

const char *sqlite_code_name(int extended)
{
	switch (extended & 0xff) {
	case SQLITE_BUSY:
		return extended == SQLITE_BUSY_SNAPSHOT ? "SQLITE_BUSY_SNAPSHOT" : "SQLITE_BUSY";
	case SQLITE_LOCKED:
		return "SQLITE_LOCKED";
	case SQLITE_CORRUPT:
		return "SQLITE_CORRUPT";
	case SQLITE_NOTADB:
		return "SQLITE_NOTADB";
	case SQLITE_CANTOPEN:
		return "SQLITE_CANTOPEN";
	case SQLITE_READONLY:
		return "SQLITE_READONLY";
	case SQLITE_IOERR:
		return "SQLITE_IOERR";
	case SQLITE_FULL:
		return "SQLITE_FULL";
	case SQLITE_SCHEMA:
		return "SQLITE_SCHEMA";
	case SQLITE_NOMEM:
		return "SQLITE_NOMEM";
	case SQLITE_PERM:
		return "SQLITE_PERM";
	default:
		return "SQLITE_ERROR";
	}
}

bool sqlite_unwritten(int rc)
{
	/* ENOSPC has a code of its own; EDQUOT and EFBIG are errors of the write. */
	return (rc & 0xff) == SQLITE_FULL || rc == SQLITE_IOERR_WRITE || rc == SQLITE_IOERR_TRUNCATE ||
	       rc == SQLITE_IOERR_FSYNC;
}

enum shmeta_status sqlite_fail(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err)
{
	int extended = state->db != NULL ? sqlite3_extended_errcode(state->db) : rc;
	const char *said = state->db != NULL ? sqlite3_errmsg(state->db) : sqlite3_errstr(rc);
	enum shmeta_status status = SHMETA_ERR_SOURCE;

	if ((extended & 0xff) != (rc & 0xff)) { /* something else has failed since */
		extended = rc;
		said = sqlite3_errstr(rc);
	}
	if ((rc & 0xff) == SQLITE_NOMEM)
		status = SHMETA_ERR_NO_MEMORY;
	else if ((rc & 0xff) == SQLITE_NOTADB && !state->opened_before)
		status = SHMETA_ERR_CONFIG;
	switch (rc & 0xff) {
	case SQLITE_ERROR:
		/* the schema is not what it was: the next call looks at it again */
		state->objects = 0;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
		/* what is wrong may be this connection's files */
		state->renew |= !sqlite_unwritten(rc);
		break;
	default:
		break;
	}
	status = backend_fail(err, status, "sqlite: %s %s: %s (%s, %d)", doing, state->path, said,
	                      sqlite_code_name(extended), extended);
	return (rc & 0xff) == SQLITE_READONLY || (rc & 0xff) == SQLITE_PERM ? backend_denied(err, status) : status;
}

enum shmeta_status sqlite_fail_write(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err)
{
	enum shmeta_status status = sqlite_fail(state, rc, doing, err);

	if (!sqlite_unwritten(rc))
		return status;
	if (err != NULL)
		err->code = SHMETA_ERR_FULL;
	if (err != NULL && rc == SQLITE_IOERR_WRITE)
		(void)snprintf(err->text + strlen(err->text), sizeof err->text - strlen(err->text),
		               ": is there a quota, or a limit on file sizes (LimitFSIZE=)?");
	return SHMETA_ERR_FULL;
}

enum shmeta_status sqlite_fail_question(struct sqlite_state *state, int rc, const char *doing,
                                        struct backend_error *err)
{
	bool known = sqlite_is_damage_known(state);
	enum shmeta_status status = sqlite_fail_write(state, rc, doing, err);

	if (!sqlite_is_damage(rc))
		return status;
	state->damaged_in = state->counters.reconnects + (known ? 1 : 2);
	state->renew = !known;
	return backend_alone(err, status);
}

sqlite3_stmt *sqlite_prepare(struct sqlite_state *state, enum sqlite_statement which, struct backend_error *err,
                             enum shmeta_status *ret_status)
{
	int rc;

	if (state->statements[which] != NULL)
		return state->statements[which];
	state->counters.prepares++;
	rc = sqlite3_prepare_v3(state->db, state->sql[which], -1, SQLITE_PREPARE_PERSISTENT, &state->statements[which],
	                        NULL);
	if (rc == SQLITE_OK)
		return state->statements[which];
	*ret_status = sqlite_fail(state, rc, "preparing a statement on", err);
	return NULL;
}

int sqlite_number(struct sqlite_state *state, enum sqlite_statement which, int64_t *ret)
{
	enum shmeta_status status;
	sqlite3_stmt *statement = sqlite_prepare(state, which, NULL, &status);
	int rc, reset;

	if (statement == NULL)
		return sqlite3_errcode(state->db);
	state->counters.queries++;
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW && ret != NULL)
		*ret = sqlite3_column_int64(statement, 0);
	reset = sqlite3_reset(statement);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : reset != SQLITE_OK ? reset : rc;
}

int sqlite_run(struct sqlite_state *state, enum sqlite_statement which)
{
	return sqlite_number(state, which, NULL);
}

enum shmeta_status sqlite_begin(struct sqlite_state *state, const char *doing, struct backend_error *err)
{
	int rc;

	if (sqlite3_get_autocommit(state->db) == 0)
		sqlite_end(state);
	rc = sqlite_run(state, ST_BEGIN);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, doing, err);
	state->counters.transactions++;
	return SHMETA_OK;
}

void sqlite_end(struct sqlite_state *state)
{
	if (sqlite3_get_autocommit(state->db) == 0 && sqlite_run(state, ST_COMMIT) != SQLITE_OK)
		sqlite_run(state, ST_ROLLBACK);
}

int sqlite_query(struct sqlite_state *state, const char *sql, sqlite3_stmt **ret)
{
	state->counters.prepares++;
	state->counters.queries++;
	return sqlite3_prepare_v2(state->db, sql, -1, ret, NULL);
}

int sqlite_execute(struct sqlite_state *state, const char *sql)
{
	state->counters.prepares++;
	state->counters.queries++;
	return sqlite3_exec(state->db, sql, NULL, NULL, NULL);
}

int sqlite_one_number(struct sqlite_state *state, const char *sql, int64_t *ret)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite_query(state, sql, &statement);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
		*ret = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
		rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
	}
	sqlite3_finalize(statement);
	return rc;
}

uint64_t sqlite_reprepares(const struct sqlite_state *state)
{
	uint64_t count = 0;

	for (int i = 0; i < ST_COUNT; i++)
		if (state->statements[i] != NULL)
			count += (uint64_t)sqlite3_stmt_status(state->statements[i], SQLITE_STMTSTATUS_REPREPARE, 0);
	return count;
}
