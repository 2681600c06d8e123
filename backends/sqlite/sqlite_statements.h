/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: every statement that runs more than once per connection. Their texts depend on
 * the file's shape. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_STATEMENTS_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_STATEMENTS_H

struct sqlite_state;

#define SQLITE_STATEMENTS(X)  \
	X(BEGIN)              \
	X(BEGIN_IMMEDIATE)    \
	X(COMMIT)             \
	X(ROLLBACK)           \
	X(DATA_VERSION)       \
	X(SCHEMA_VERSION)     \
	X(SCHEMA_OBJECTS)     \
	X(TOTALS)             \
	X(LOAD_TOPICS)        \
	X(LOAD_TOPIC_KEYS)    \
	X(LOAD_OTHER_KEYS)    \
	X(LOAD_PARTITIONS)    \
	X(LOAD_SEGMENTS)      \
	X(AGENTS)             \
	X(GROUPS)             \
	X(OFFSETS)            \
	X(LEASES)             \
	X(KEYS_CLEAR)         \
	X(KEYS_ADD)           \
	X(KEY_TOPICS)         \
	X(TOPIC_PARTITIONS)   \
	X(TOPIC_SEGMENTS)     \
	X(KEY_PARTITIONS)     \
	X(KEY_SEGMENTS)       \
	X(KEY_AGENTS)         \
	X(KEY_GROUPS)         \
	X(KEY_OFFSETS)        \
	X(GROUP_OFFSETS)      \
	X(KEY_LEASES)         \
	X(ONE_PARTITION)      \
	X(ONE_SEGMENTS)       \
	X(W_TOPIC_INSERT)     \
	X(W_TOPIC_DELETE)     \
	X(W_TOPIC_EXISTS)     \
	X(W_TOPIC_SEGMENTS)   \
	X(W_TOPIC_OFFSETS)    \
	X(W_TOPIC_LEASES)     \
	X(W_TOPIC_PARTITIONS) \
	X(W_TOPIC_LEFT)       \
	X(W_PARTITIONS)       \
	X(W_PARTITION)        \
	X(W_WATERMARK)        \
	X(W_WATERMARK_MAX)    \
	X(W_WATERMARK_ODD)    \
	X(W_SEGMENT_INSERT)   \
	X(W_SEGMENT_AT)       \
	X(W_SEGMENT_ID)       \
	X(W_SEGMENTS_BEFORE)  \
	X(W_SEGMENTS_IN)      \
	X(W_SEGMENT_REACHING) \
	X(W_SEGMENT_DELETE)   \
	X(W_SEGMENT_UPDATE)   \
	X(W_COMPACTION_GET)   \
	X(W_COMPACTION_PUT)   \
	X(W_LED_BEFORE)       \
	X(W_LED_PUT)          \
	X(W_LED_BOUND)        \
	X(W_LED_TRIM)         \
	X(W_LED_DROPPED)      \
	X(W_LED_TOPIC)        \
	X(EPOCH_END)          \
	X(W_GROUP_EXISTS)     \
	X(W_GROUP_INSERT)     \
	X(W_GROUP_DELETE)     \
	X(W_OFFSET_PUT)       \
	X(W_AGENT_PUT)        \
	X(W_AGENT_DELETE)     \
	X(W_AGENT_BEAT)       \
	X(W_AGENT_EXISTS)     \
	X(W_AGENT_LEFT)       \
	X(W_AGENT_FOREIGN)    \
	X(W_AGENT_ADDRESS)    \
	X(W_LEASE_GET)        \
	X(W_LEASE_PUT)        \
	X(W_LEASE_DELETE)     \
	X(W_LEASES_RENEW)     \
	X(W_LEASES_SHORT)     \
	X(W_EPOCHS_PLACE)     \
	X(W_EPOCHS_TOPIC)     \
	X(W_EPOCHS_AGENT)     \
	X(W_EPOCH_GET)        \
	X(W_EPOCH_PUT)        \
	X(W_OFFER_PENDING)    \
	X(W_OFFER_PUT)        \
	X(W_OFFER_GET)        \
	X(W_OFFER_STATE)      \
	X(W_OBJECT_GET)       \
	X(W_OBJECT_PUT)       \
	X(W_OBJECT_DELETE)    \
	X(W_OBJECT_KEEP)      \
	X(W_SLICE_PUT)        \
	X(W_OBJECTS_MARK)     \
	X(W_OBJECTS)          \
	X(W_SLICES_TOPIC)     \
	X(W_SLICES_BEFORE)    \
	X(W_SLICE_DELETE)     \
	X(W_LOG)              \
	X(W_SAVE)             \
	X(W_RELEASE)          \
	X(W_UNDO)             \
	X(FEED_STATE)         \
	X(FEED_CHANGES)       \
	X(FEED_PRUNE)

enum sqlite_statement {
#define X(name) ST_##name,
	SQLITE_STATEMENTS(X)
#undef X
		ST_COUNT
};

/* The statements' texts, anew, for the shape that is known; looks whether shape.slices has changed.
 * They are prepared anew. */
int sqlite_rewrite(struct sqlite_state *state);

#endif
