/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: its statements. Each that runs more than once per connection has a number, a
 * name at the server, under which a connection prepares it when it first needs it, and a text that
 * depends on the database's shape (pg_state.sql). */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_STATEMENTS_H
#define SHMETA_BACKENDS_POSTGRES_PG_STATEMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/sql/statement_template.h"

struct pg_state;

#define PG_READ_STATEMENTS(X) \
	X(BEGIN_READ)         \
	X(BEGIN_WRITE)        \
	X(COMMIT)             \
	X(ROLLBACK)           \
	X(LOAD_STATE)         \
	X(LOAD_TOPICS)        \
	X(LOAD_TOPIC_KEYS)    \
	X(LOAD_OTHER_KEYS)    \
	X(LOAD_PARTITIONS)    \
	X(LOAD_SEGMENTS)      \
	X(AGENTS)             \
	X(GROUPS)             \
	X(OFFSETS)            \
	X(LEASES)             \
	X(KEY_BEGIN)          \
	X(KEY_NAMES)          \
	X(KEY_TOPICS)         \
	X(KEY_PARTITIONS)     \
	X(KEY_SEGMENTS)       \
	X(KEY_ALL_PARTITIONS) \
	X(KEY_ALL_SEGMENTS)   \
	X(KEY_AGENTS)         \
	X(KEY_GROUPS)         \
	X(KEY_OFFSETS)        \
	X(KEY_LEASES)         \
	X(FEED_CHANGES)       \
	X(FEED_LOOK)          \
	X(FEED_STATE)         \
	X(REPLAYED)
/* X(name): the enumerator is PG_name. */
#define PG_WRITE_STATEMENTS(X) \
	X(W_BEGIN)             \
	X(W_LOCK)              \
	X(W_LOCK_TOPICS)       \
	X(W_LOCK_WHOLE)        \
	X(W_LOCK_OBJECTS)      \
	X(W_LOCK_FREE)         \
	X(W_LOCKED_TABLES)     \
	X(W_PATIENCE)          \
	X(W_IMMEDIATE)         \
	X(W_OUTCOME)           \
	X(W_LEFT_OF_TOPICS)    \
	X(W_LEFT_OF_GROUPS)    \
	X(W_LEFT_OF_AGENTS)    \
	X(W_CLEAR_TOPICS)      \
	X(W_KEEP_OBJECTS)      \
	X(W_REPLACE_DELETE)    \
	X(W_REPLACE_CHANGE)    \
	X(W_REPLACE_ADD)       \
	X(W_REPLACE_END)       \
	X(W_LED_TRIM_MARK)     \
	X(W_LED_TRIM)          \
	X(W_LED_CAP_MARK)      \
	X(W_LED_CAP)           \
	X(W_SAVE)              \
	X(W_UNDO)              \
	X(W_RELEASE)           \
	X(W_TOPIC_DELETE)      \
	X(W_TOPIC_CREATE)      \
	X(W_WATERMARK)         \
	X(W_SEGMENTS_DELETE)   \
	X(W_REPLACE)           \
	X(W_ADD)               \
	X(W_ADD_RAISE)         \
	X(W_ADD_PLAIN)         \
	X(W_ADD_RAISE_PLAIN)   \
	X(W_ADD_KNOWN)         \
	X(W_ADD_RAISE_KNOWN)   \
	X(W_GROUP_DELETE)      \
	X(W_GROUP_ENSURE)      \
	X(W_OFFSET)            \
	X(W_AGENT_DELETE)      \
	X(W_AGENT_PUT)         \
	X(W_RENEW)             \
	X(W_RELEASE_LEASE)     \
	X(W_ACQUIRE)           \
	X(W_OFFER)             \
	X(W_ACCEPT)            \
	X(W_REJECT)            \
	X(W_COMPLETE)          \
	X(W_OBJECT)            \
	X(W_SLICE)             \
	X(W_CONFIRM)
#define PG_OBJECT_STATEMENTS(X) \
	X(OBJECTS_MARK)         \
	X(OBJECTS_UNMARK)       \
	X(OBJECTS)              \
	X(EPOCH_END)

#define PG_MOVE_STATEMENTS(X) \
	X(M_OBJECT)           \
	X(M_TOPIC)            \
	X(M_PARTITION)        \
	X(M_SEGMENT)          \
	X(M_AGENT)            \
	X(M_GROUP)            \
	X(M_OFFSET)           \
	X(M_LEASE)            \
	X(M_EPOCH)            \
	X(M_SLICES)           \
	X(X_OBJECTS)          \
	X(X_EPOCHS)

enum pg_statement {
#define X(name) PG_##name,
	PG_READ_STATEMENTS(X) PG_WRITE_STATEMENTS(X) PG_OBJECT_STATEMENTS(X) PG_MOVE_STATEMENTS(X)
#undef X
		PG_STATEMENTS
};

/* Give a statement its text, which is freed later; NULL: there was no memory. false: out of
 * memory. */
bool pg_set_text(struct pg_state *state, enum pg_statement which, char *text);
__attribute__((format(printf, 3, 4))) bool pg_text_of(struct pg_state *state, enum pg_statement which, const char *fmt,
                                                      ...);

/* A statement's text as a template (backends/sql/statement_template.h). Words: @topics,
 * @partitions, .. (backends/sql/tables.h), @server_time, @binary (texts by their bytes). Flags:
 *   o tenants   a agents have one   l leases have one   u a tenant is a uuid
 *   j maps are jsonb   c cleanup_policy   t timestamps
 *   p at most one segment at a place   d a unique constraint of segments is deferrable
 *   x places have an index
 *   k the primary key of leases has the tenant in it
 *   n some column's collation takes different texts for equal
 *   w shmeta's own tables   e and that of leader epochs, which may be written
 *   f and the log of changes   g triggers   s snapshots */
struct pg_text {
	enum pg_statement which;
	const char *template;
};
bool pg_texts_of(struct pg_state *state, const struct pg_text *texts, size_t count);
struct sql_words pg_words(const struct pg_state *state);
/* What gives all statements their texts, a part each (pg_engine.c); the last one is NULL. */
extern bool (*const pg_all_texts[])(struct pg_state *state);

#endif
