/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: statements of a batch, and whose failure a failure is. */
#include <stdio.h>

#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

/* Errors that say something about the row, the trigger or the constraint at hand. All others are
 * about the file. */
static bool is_about_row(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_TOOBIG:
	case SQLITE_RANGE:
	case SQLITE_ERROR: /* a trigger that cannot be compiled, or whose expression fails */
		return true;
	default:
		return false;
	}
}

/* A page that is damaged also for a connection that was made because of it: then it is not the
 * connection. What the operation needs lies there, and what others need may not. */
static void fail_damaged(struct writing *w, int rc)
{
	char said[ROWS_QUOTE_MAX];

	(void)rows_quote(said, rows_str(sqlite3_errmsg(w->state->db)));
	w->failed = rc;
	w->blame = w->r != NULL ? WRITING_ROLLED_BACK : WRITING_DEFERRED;
	if (w->r != NULL)
		refuse(w->r, SHMETA_ERR_SOURCE, "the source cannot do it: %s", said);
	else
		(void)snprintf(w->said, sizeof w->said, "the source cannot do it: %s", said);
}

void sqlite_write_fail(struct writing *w, int rc)
{
	char said[ROWS_QUOTE_MAX];

	if (w->failed != SQLITE_OK)
		return;
	if (sqlite_is_damage(rc) && sqlite_is_damage_known(w->state)) {
		fail_damaged(w, rc);
		return;
	}
	if (!is_about_row(rc)) {
		w->failed = rc;
		w->blame = WRITING_SOURCE;
		return;
	}
	(void)rows_quote(said, rows_str(sqlite3_errmsg(w->state->db)));
	if (w->r != NULL)
		refuse(w->r, sqlite_write_is_duplicate(rc) ? SHMETA_ERR_CONFLICT : SHMETA_ERR_INVALID_ARGUMENT,
		       "the source refuses it: %s", said);
	else
		(void)snprintf(w->said, sizeof w->said, "the source refuses it: %s", said);
	if (sqlite3_get_autocommit(w->state->db) != 0) {
		w->failed = SQLITE_ABORT_ROLLBACK;
		w->blame = w->r != NULL ? WRITING_ROLLED_BACK : WRITING_DEFERRED;
	} else if (w->r == NULL) {
		w->failed = rc;
		w->blame = WRITING_DEFERRED;
	}
}

sqlite3_stmt *sqlite_write_take(struct writing *w, enum sqlite_statement which)
{
	enum shmeta_status status;
	sqlite3_stmt *statement = sqlite_prepare(w->state, which, NULL, &status);

	if (statement == NULL)
		sqlite_write_fail(w, sqlite3_extended_errcode(w->state->db));
	return statement;
}

int sqlite_write_run(struct writing *w, sqlite3_stmt *statement)
{
	int rc;

	w->state->counters.queries++;
	rc = sqlite3_step(statement);
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		sqlite_write_fail(w, rc);
	(void)sqlite3_reset(statement);
	return rc;
}

void sqlite_write_not_done(struct writing *w, const char *sentence)
{
	if (w->r != NULL) {
		refuse(w->r, SHMETA_ERR_INVALID_ARGUMENT, "%s", sentence);
		return;
	}
	if (w->failed != SQLITE_OK)
		return;
	(void)snprintf(w->said, sizeof w->said, "%s", sentence);
	w->failed = SQLITE_CONSTRAINT;
	w->blame = WRITING_DEFERRED;
}

void sqlite_write_unchanged(struct writing *w)
{
	sqlite_write_not_done(w, "the source left the row as it was: a trigger ignores the change, "
	                         "or a key takes another row for the same");
}

bool sqlite_write_run_change(struct writing *w, sqlite3_stmt *statement)
{
	if (sqlite_write_run(w, statement) != SQLITE_DONE)
		return false;
	if (sqlite3_changes(w->state->db) > 0)
		return true;
	sqlite_write_unchanged(w);
	return false;
}

bool sqlite_write_look(struct writing *w, sqlite3_stmt *statement)
{
	int rc;

	w->state->counters.queries++;
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		return true;
	if (rc != SQLITE_DONE && w->failed == SQLITE_OK && sqlite_is_damage(rc)) {
		sqlite_write_fail(w, rc);
	} else if (rc != SQLITE_DONE && w->failed == SQLITE_OK) {
		w->failed = rc;
		w->blame = WRITING_SOURCE;
	}
	(void)sqlite3_reset(statement);
	return false;
}

bool sqlite_write_exists(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                         struct shmeta_str name, int64_t number)
{
	sqlite3_stmt *q = sqlite_write_take(w, which);
	bool found;

	if (q == NULL)
		return false;
	bind_str(q, 1, tenant);
	bind_str(q, 2, name);
	if (number >= 0)
		bind_int(q, 3, number);
	found = sqlite_write_look(w, q);
	(void)sqlite3_reset(q);
	return found;
}

static void no_place(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	refuse_place(op->op, sqlite_write_exists(w, ST_W_TOPIC_EXISTS, op->tenant, op->op->name, -1), r);
}

bool sqlite_write_has_partition(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	if (sqlite_write_exists(w, ST_W_PARTITION, op->tenant, op->op->name, op->op->partition_id))
		return true;
	if (w->failed == SQLITE_OK)
		no_place(w, op, r);
	return false;
}

bool sqlite_write_has_own(struct writing *w, struct shmeta_result *r)
{
	if (w->state->shape.own)
		return true;
	refuse_unsupported(r);
	return false;
}
