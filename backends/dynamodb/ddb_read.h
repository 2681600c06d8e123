/* SPDX-License-Identifier: Apache-2.0
 * Items to rows. A partition and its segments are of one moment: its header has the same v before
 * and after its segments were read. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_READ_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_READ_H

#include "backends/dynamodb/ddb_state.h"

struct ddb_reading {
	struct ddb_state *s;
	const struct backend_sink *sink;
	bool loading;
	uint64_t rows;
	uint64_t told_ns; /* when progress was last told */
	struct backend_error *err;
};

/* The topic of an item of class T, and, as asked for, its partitions and their segments. */
enum shmeta_status ddb_emit_topic(struct ddb_reading *r, const json_t *item, bool partitions, bool segments);
/* Whole classes. topics: the items of all topics, where the caller has them. */
enum shmeta_status ddb_emit_agents(struct ddb_reading *r);
enum shmeta_status ddb_emit_groups(struct ddb_reading *r);
enum shmeta_status ddb_emit_leases(struct ddb_reading *r);
/* A group's row and all its offsets. */
enum shmeta_status ddb_emit_group(struct ddb_reading *r, const json_t *item);
/* Single rows. The place is the caller's. */
enum shmeta_status ddb_emit_agent(struct ddb_reading *r, const json_t *item);
enum shmeta_status ddb_emit_group_row(struct ddb_reading *r, const json_t *item);
enum shmeta_status ddb_emit_partition(struct ddb_reading *r, const struct backend_key *where, const json_t *header,
                                      const json_t *topic);
enum shmeta_status ddb_emit_segments(struct ddb_reading *r, const struct backend_key *where, const json_t *items,
                                     uint64_t from, uint64_t to);
enum shmeta_status ddb_emit_lease(struct ddb_reading *r, const struct backend_key *where, const json_t *header);
enum shmeta_status ddb_emit_offset(struct ddb_reading *r, struct shmeta_str tenant, struct shmeta_str topic,
                                   struct shmeta_str group, const json_t *item);

/* Is the header the partition's, of this topic? */
bool ddb_header_is_of(const json_t *header, const json_t *topic);
/* Every topic: OK or a failure; ddb_queries_free(ret, 1). */
enum shmeta_status ddb_all_topics(struct ddb_reading *r, struct ddb_query *ret);

enum shmeta_status ddb_load(void *state, const struct backend_sink *sink, struct backend_error *err);
enum shmeta_status ddb_fetch(void *state, const struct backend_key *keys, size_t count, const struct backend_sink *sink,
                             struct backend_error *err);

#endif
