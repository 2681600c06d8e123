/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: rows on their way to a sink, for what loads and what fetches.
 *
 * Both walk ordered statements side by side: topics, partitions and segments, each by its key. What
 * the walk meets without its parent is an orphan. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_READING_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_READING_H

#include "backends/sql/merge_join.h"
#include "backends/sql/progress.h"
#include "backends/sql/row_decode.h"
#include "backends/sqlite/sqlite_state.h"

struct sqlite_reading {
	struct walk walk; /* first: what the walk calls back with */
	struct emit emit;
	struct sqlite_state *state;
	const struct backend_sink *sink;
	struct backend_error *err;
	bool of_row; /* it stopped at some row, not because of the source */
	struct progress progress;
};

/* One ordered statement, standing on a row whose key has been read. */
struct sqlite_cursor {
	struct walk_cursor at;   /* first */
	sqlite3_stmt *statement; /* NULL: at its end */
	int key_columns;         /* tenant, topic, partition_id, base_offset: how many of them it is
                                  * ordered by; 0: it is not */
	int index_column;        /* of the key's number; -1: not in a fetch */
};

/* After sqlite_ensure(), which learns the shape. */
struct sqlite_reading sqlite_reading_of(struct sqlite_state *state, const struct backend_sink *sink,
                                        struct backend_error *err);
/* The statement's rows; on the first one whose key can be read. */
enum shmeta_status sqlite_cursor_start(struct sqlite_reading *reading, struct sqlite_cursor *cursor,
                                       enum sqlite_statement which, enum shmeta_class cls, int index_column);
void sqlite_cursor_stop(struct sqlite_cursor *cursor);
/* To the next row whose key can be read. Rows whose key cannot are quarantined, whatever hangs
 * below them is an orphan. */
enum shmeta_status sqlite_advance(struct sqlite_reading *reading, struct sqlite_cursor *cursor);
/* All of a class; LIST: of every one. */
enum shmeta_status sqlite_read_others(struct sqlite_reading *reading, enum shmeta_class cls);

#endif
