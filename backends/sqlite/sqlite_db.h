/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: statements on an open connection, and what a failure means. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_DB_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_DB_H

#include "backends/sqlite/sqlite_state.h"

/* The status and the sentence of a failed call: "sqlite: DOING PATH: what the engine said (name of
 * the code)". */
enum shmeta_status sqlite_fail(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err);
/* Could the files not be written, for want of room, a limit or a failing disk? That says nothing of
 * reading them. */
bool sqlite_unwritten(int rc);
/* The same of a call that writes: ERR_FULL where they could not. */
enum shmeta_status sqlite_fail_write(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err);
/* The same of objects() and epoch_end(), which read one thing: what is damaged is told of it alone,
 * and looked at by a connection made anew when it is asked for again. */
enum shmeta_status sqlite_fail_question(struct sqlite_state *state, int rc, const char *doing,
                                        struct backend_error *err);
const char *sqlite_code_name(int extended);
/* The statement, prepared. NULL: err is filled. */
sqlite3_stmt *sqlite_prepare(struct sqlite_state *state, enum sqlite_statement which, struct backend_error *err,
                             enum shmeta_status *ret_status);
/* Run one that returns no rows, and reset it. Returns SQLite's code, SQLITE_OK when done. */
int sqlite_run(struct sqlite_state *state, enum sqlite_statement which);
/* One that returns a single integer. */
int sqlite_number(struct sqlite_state *state, enum sqlite_statement which, int64_t *ret);
enum shmeta_status sqlite_begin(struct sqlite_state *state, const char *doing, struct backend_error *err);
/* Ends the transaction whatever has happened; statements must be reset. */
void sqlite_end(struct sqlite_state *state);
/* Statements that run once: their text, prepared, run, and one that returns a number. SQLite's
 * codes. */
int sqlite_query(struct sqlite_state *state, const char *sql, sqlite3_stmt **ret);
int sqlite_execute(struct sqlite_state *state, const char *sql);
int sqlite_one_number(struct sqlite_state *state, const char *sql, int64_t *ret);
/* How often SQLite itself has prepared a statement anew. */
uint64_t sqlite_reprepares(const struct sqlite_state *state);

/* Is it a page that is damaged, or that its disk cannot read? Then what needs others may be
 * done. */
static inline bool sqlite_is_damage(int rc)
{
	return (rc & 0xff) == SQLITE_CORRUPT || rc == SQLITE_IOERR_READ || rc == SQLITE_IOERR_CORRUPTFS;
}

/* Was this connection made because a page was damaged? Then one that is damaged for it is so in the
 * file. */
static inline bool sqlite_is_damage_known(const struct sqlite_state *state)
{
	return state->damaged_in == state->counters.reconnects + 1;
}

static inline void bind_str(sqlite3_stmt *statement, int at, struct shmeta_str text)
{
	sqlite3_bind_text(statement, at, text.data != NULL ? text.data : "", (int)text.bytes, SQLITE_STATIC);
}

static inline void bind_int(sqlite3_stmt *statement, int at, int64_t value)
{
	sqlite3_bind_int64(statement, at, value);
}

static inline struct shmeta_str column_str(sqlite3_stmt *q, int at)
{
	const char *text = (const char *)sqlite3_column_text(q, at);

	return (struct shmeta_str){text != NULL ? text : "", text != NULL ? (size_t)sqlite3_column_bytes(q, at) : 0};
}

#endif
