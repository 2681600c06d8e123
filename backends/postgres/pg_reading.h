/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: rows on their way to a sink, for what loads and what fetches.
 *
 * Topics and partitions are few: each is one result, held in memory. Segments are many: they
 * stream, by COPY where they are all wanted, row by row where some are. Rows are handed on where
 * libpq holds them. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_READING_H
#define SHMETA_BACKENDS_POSTGRES_PG_READING_H

#include "backends/postgres/pg_state.h"
#include "backends/sql/merge_join.h"
#include "backends/sql/progress.h"
#include "backends/sql/row_decode.h"

enum { PG_COLUMNS_MAX = 16 };

struct pg_reading {
	struct walk walk; /* first: what the walk calls back with */
	struct emit emit;
	struct pg_state *state;
	struct pg_conn *conn;
	const struct backend_sink *sink;
	struct backend_error *err;
	enum pg_statement keys; /* sink->key: by which statement */
	bool follower;          /* topics, partitions and segments from the nearest replicas */
	struct progress progress;
};

struct pg_row {
	int columns;
	const char *data[PG_COLUMNS_MAX]; /* NULL: null */
	int bytes[PG_COLUMNS_MAX];
};

/* One ordered result, wherever its rows come from. */
struct pg_cursor {
	struct walk_cursor at; /* first */
	struct pg_row row;
	int key_columns;  /* tenant, topic, partition_id, base_offset: how many of them it is
                           * ordered by */
	int columns;      /* that a row must have */
	int index_column; /* of the key's number; -1: not in a fetch */
	PGresult *result; /* of all rows, or of the one row that streams */
	int next;         /* row of result */
	bool streams, copies;
	const char *copied, *copied_end; /* not yet taken of a piece of a COPY */
	bool copy_begun;
};

/* A reading is made before its transaction, and begun within it, which may be on a connection that
 * has just learned the shape anew. */
struct pg_reading pg_reading_of(struct pg_state *state, struct pg_conn *conn, const struct backend_sink *sink);
void pg_reading_begin(struct pg_reading *reading, struct backend_error *err);
/* The status of a read that has failed: INVALID_ARGUMENT where the server answers, but not for some
 * row. */
enum shmeta_status pg_reading_failed(const struct pg_conn *conn, enum shmeta_status status, struct backend_error *err);
/* The same of objects() and epoch_end(), which read one thing: what cannot be read is told of it
 * alone, and a lock is ERR_BUSY. */
enum shmeta_status pg_question_failed(const struct pg_conn *conn, enum shmeta_status status, struct backend_error *err);

struct pg_cursor pg_cursor_of(enum shmeta_class cls, int index_column);
void pg_cursor_end(struct pg_cursor *cursor);
/* To the next row whose key can be read. Rows whose key cannot are quarantined, whatever hangs
 * below them is an orphan. */
enum shmeta_status pg_advance(struct walk *walk, struct walk_cursor *at);

/* Agents, groups, offsets and leases. */
extern const struct pg_other {
	enum pg_statement statement, keyed; /* all of them; those of keys, with the key's number in
                                             * index_column */
	int index_column;                   /* behind all others */
	const char *loading;
} pg_others[EMIT_OTHERS];

/* A result of others, and how far it has been handed on. */
struct pg_list {
	PGresult *result;
	int next;
};

/* Those of the key with this number; -1: all. */
enum shmeta_status pg_emit_others(struct pg_reading *reading, enum emit_other other, struct pg_list *list,
                                  int64_t index);

bool pg_read_texts(struct pg_state *state);

#endif
