/* SPDX-License-Identifier: Apache-2.0
 * Rows of a database to the sink, or to quarantine: which column holds what, and what may be in it.
 * Shared by the engines that read rows from a database; each says how a column is read. Segments
 * are so many that each engine reads their columns in place. */
#ifndef SHMETA_BACKENDS_SQL_ROW_DECODE_H
#define SHMETA_BACKENDS_SQL_ROW_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "backends/rows.h"
#include "backends/sql/merge_join.h"

/* A column of the engine's own row. What is read lives until the row moves on. false: fault is
 * filled. */
struct emit_columns {
	bool (*is_null)(void *row, int column);
	bool (*integer)(void *row, int column, const char *field, int64_t *ret, struct rows_fault *fault);
	bool (*text)(void *row, int column, const char *field, struct shmeta_str *ret, struct rows_fault *fault);
};

struct emit {
	const struct emit_columns *columns;
	const struct backend_sink *sink;
	struct rows_scratch *scratch;
	/* Column 0 is the organization: of every row, of agents, of leases. Where it is not, it is
	 * NULL. */
	bool organization, agents_organization, leases_organization;
};

/* Columns: -, -, partition_count, retention_ms, created_at, updated_at, config, cleanup_policy; the
 * last two may be NULL. */
enum shmeta_status emit_topic(const struct emit *emit, const struct walk_cursor *at, void *row, bool *ret_there);
/* -, -, partition_id, high_watermark, created_at, updated_at. parent: its topic is there. */
enum shmeta_status emit_partition(const struct emit *emit, const struct walk_cursor *at, void *row, bool parent,
                                  bool *ret_there);

/* The segment that was read, NULL where it could not be, to the sink, or to quarantine. parent: its
 * partition is there. last: the one of the same partition before it. */
enum shmeta_status emit_bad_segment(const struct backend_sink *sink, const struct walk_cursor *at, bool parent,
                                    const struct shmeta_segment *segment, struct rows_fault *fault);
static inline enum shmeta_status emit_segment(const struct backend_sink *sink, const struct walk_cursor *at,
                                              bool parent, const struct shmeta_segment *segment, struct walk_last *last,
                                              struct rows_fault *fault)
{
	if (__builtin_expect(segment == NULL || (last->known && last->base == segment->base_offset), 0))
		return emit_bad_segment(sink, at, parent, segment, fault);
	*last = (struct walk_last){true, segment->base_offset};
	return sink->segment(sink->arg, segment);
}

/* A topic, partition or segment whose key columns (organization, topic, partition_id, base_offset)
 * cannot all be read. */
void emit_unread(const struct emit *emit, enum shmeta_class cls, void *row, const struct rows_fault *fault);

/* The rows that stand for themselves:
 * organization, agent_id, address, availability_zone, agent_group, last_heartbeat, started_at,
 * metadata (may be NULL) organization, group_id, created_at, updated_at organization, group_id,
 * topic, partition_id, committed_offset, metadata (may be NULL), committed_at organization, topic,
 * partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch */
enum emit_other { EMIT_AGENT, EMIT_GROUP, EMIT_OFFSET, EMIT_LEASE, EMIT_OTHERS };

enum shmeta_class emit_class(enum emit_other other);
enum shmeta_status emit_other(const struct emit *emit, enum emit_other other, void *row);

#endif
