/* SPDX-License-Identifier: Apache-2.0
 * The inside of the in-memory engine: a database and a connection to it. From the bottom to the
 * top: memory_side.c keeps the side tables, memory_db.c makes and finds, memory_rows.c changes and
 * looks, memory_objects.c lists objects, memory_epochs.c keeps leader epochs, memory_write.c does
 * operations, memory_engine.c is what the core calls. */
#ifndef SHMETA_BACKENDS_MEMORY_MEMORY_OWN_H
#define SHMETA_BACKENDS_MEMORY_MEMORY_OWN_H

#include <pthread.h>

#include "backends/memory/memory.h"
#include "backends/rows.h"
#include "backends/sql/log_keys.h"

struct memory_side; /* memory_side.h */
struct object;
struct epoch;

struct array {
	void *items;
	size_t count, capacity;
};

struct segment {
	struct shmeta_segment row; /* its strings are one allocation, text */
	char *text;
};

struct partition {
	struct shmeta_partition row;
	bool present;
	struct array segments; /* of struct segment, by base; equal bases in the order they came */
};

struct topic {
	char *tenant;
	struct shmeta_topic row; /* strings in text */
	char *text;
	bool present;
	struct array partitions; /* of struct partition *, by id */
};

/* agents, groups, offsets, leases: few, so one unsorted array each */
struct other {
	char *tenant, *topic;
	void *text;
	union {
		struct shmeta_agent agent;
		struct shmeta_group group;
		struct shmeta_committed_offset offset;
		struct shmeta_lease lease;
	} row;
};

struct change {
	enum shmeta_class cls;
	enum feed_op op;
	char *tenant;
	struct shmeta_str topic; /* points behind tenant */
	uint32_t partition_id;
	uint64_t base;
};

struct memory_db {
	struct memory_db *next;
	char *name; /* NULL: of one connection alone */
	uint32_t holds;
	pthread_mutex_t lock;
	struct array topics; /* of struct topic *, by tenant, name */
	struct array agents, groups, offsets, leases;
	struct array log;   /* of struct change */
	uint64_t log_first; /* sequence number of log[0]; they start at 1 */
	uint64_t feed_id;   /* changes when the log is thrown away */
	uint64_t version;   /* moves with every change that is not silent */
	uint64_t fingerprint;
	uint64_t course; /* another one: an earlier state was restored */
	bool silent;
	struct memory_side *side; /* NULL: nothing yet */
	int wake;                 /* eventfd; -1: none yet */
};

/* What memory_start() was given: nothing is done with it before memory_finish(). */
struct memory_started {
	const struct backend_op *ops;
	size_t count;
	int64_t now_ms;
	struct shmeta_result *results;
};

struct memory_state {
	struct memory_db *db;
	struct rows_scratch scratch;
	struct backend_counters counters;
	uint64_t seq, feed_id, version, course; /* what was reported last */
	bool baseline;                          /* load() or resume() has said where to go on */
	struct memory_started started;
};

static inline struct topic **memory_topics_of(struct memory_db *db)
{
	return db->topics.items;
}

static inline struct partition **memory_partitions_of(struct topic *topic)
{
	return topic->partitions.items;
}

static inline struct segment *memory_segments_of(struct partition *partition)
{
	return partition->segments.items;
}

/* At an index, zeroed; NULL: no memory. */
void *memory_array_insert(struct array *array, size_t at, size_t size);
void memory_array_remove(struct array *array, size_t at, size_t size);
bool memory_keep(char **ret_text, struct shmeta_str **views, size_t count, struct shmeta_map *map);
void memory_note(struct memory_db *db, enum shmeta_class cls, enum feed_op op, const char *tenant,
                 struct shmeta_str topic, uint32_t partition_id, uint64_t base);
size_t memory_topic_at(struct memory_db *db, struct shmeta_str tenant, struct shmeta_str name, bool *ret_found);
struct topic *memory_topic_find(struct memory_db *db, struct shmeta_str tenant, struct shmeta_str name);
struct topic *memory_topic_get(struct memory_db *db, const char *tenant, struct shmeta_str name);
size_t memory_partition_at(struct topic *topic, uint32_t id, bool *ret_found);
struct partition *memory_partition_find(struct topic *topic, uint32_t id);
struct partition *memory_partition_get(struct topic *topic, uint32_t id);
size_t memory_segment_at(struct partition *partition, uint64_t base, bool above);
void memory_partition_clear(struct partition *partition);
void memory_topic_clear(struct topic *topic);
struct memory_db *memory_db_make(const char *name);
void memory_db_release(struct memory_db *db);
/* The database of that name, held once more; NULL: there is none. */
struct memory_db *memory_db_hold(const char *name);

/* ---- side tables (memory_side.h) ---- */

/* Made when there is none. With the database's lock held. false: no memory. */
bool memory_side_of(struct memory_db *db);

/* ---- connections ---- */

static inline struct memory_started *memory_started_of(void *state)
{
	return &((struct memory_state *)state)->started;
}

/* The contract of start(): these calls may not come behind it. */
bool memory_is_started(void *state, struct backend_error *err);

/* ---- operations (memory_write.c) ---- */

enum shmeta_status memory_apply(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err);
enum shmeta_status memory_start(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, struct backend_error *err);
enum shmeta_status memory_finish(void *state, const struct backend_sink *sink, struct backend_error *err);

/* ---- leader epochs (memory_epochs.c) ---- */

/* All of a topic are forgotten, how many epochs its leases had is not. */
void memory_epochs_forget(struct memory_side *m, const char *tenant, const char *topic);
enum shmeta_status memory_epoch_end(void *state, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                    struct backend_error *err);

/* ---- objects (memory_objects.c) ---- */

struct object *memory_find_object(struct memory_db *db, const char *tenant, const struct shmeta_object *object);
/* Slices whose segment is still there. */
size_t memory_slices_of(struct memory_db *db, const struct object *o);
enum shmeta_status memory_objects(void *state, const struct backend_object_list *list, backend_object_fn *emit,
                                  void *arg, struct backend_error *err);
enum shmeta_status memory_extras(void *state, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                                 struct backend_error *err);

#endif
