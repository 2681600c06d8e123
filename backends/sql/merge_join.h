/* SPDX-License-Identifier: Apache-2.0
 * Topics, partitions and segments from ordered streams walked side by side, in the order that
 * backend.h promises. What the walk meets without its parent is an orphan. Shared by the engines
 * that read rows from a database. */
#ifndef SHMETA_BACKENDS_SQL_MERGE_JOIN_H
#define SHMETA_BACKENDS_SQL_MERGE_JOIN_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "backends/rows.h"

/* One ordered stream, standing on a row whose key has been read. First in the engine's own
 * cursor. */
struct walk_cursor {
	bool on; /* false: at its end */
	enum shmeta_class cls;
	int64_t index; /* of the key that the row belongs to, in a fetch */
	struct shmeta_str tenant, topic;
	int64_t partition, base;
	bool again; /* set by the walk: a row of this key came just before it, and that one
                     * counts */
	/* In a fetch: it stands on a row whose place cannot be read, of a key whose turn has not
	 * come. Who has asked for that key is to hear of it, not who asked for the one before. */
	bool unread;
};

/* The base of the partition's segment that was emitted last. */
struct walk_last {
	bool known;
	uint64_t base;
};

struct walk {
	int64_t index; /* in a fetch: of the key whose turn it is; -1: of none yet */
	/* To the next row whose key can be read; on = false at the end. Strings of a row live until
	 * then. */
	enum shmeta_status (*advance)(struct walk *walk, struct walk_cursor *cursor);
	/* The row to its function of the sink, or to quarantine. parent: there is a row that it
	 * belongs to. */
	enum shmeta_status (*topic)(struct walk *walk, struct walk_cursor *cursor, bool *ret_there);
	enum shmeta_status (*partition)(struct walk *walk, struct walk_cursor *cursor, bool parent, bool *ret_there);
	enum shmeta_status (*segment)(struct walk *walk, struct walk_cursor *cursor, bool parent,
	                              struct walk_last *last);
};

/* Everything, each stream ordered by tenant, topic, partition, base. */
enum shmeta_status walk_all(struct walk *walk, struct walk_cursor *topics, struct walk_cursor *partitions,
                            struct walk_cursor *segments);
/* The topic of one key of a fetch, where there is a row of it. */
enum shmeta_status walk_topic_of(struct walk *walk, struct walk_cursor *topics, int64_t index, bool *ret_there);
/* The partitions of one key of a fetch, each with its segments; the streams ordered by index
 * first. */
enum shmeta_status walk_partitions(struct walk *walk, struct walk_cursor *partitions, struct walk_cursor *segments,
                                   int64_t index, bool parent, bool *ret_found);

static inline bool walk_is_on(const struct walk_cursor *cursor, int64_t index)
{
	return cursor->on && cursor->index == index;
}

#endif
