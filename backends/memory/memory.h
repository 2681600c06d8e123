/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine: the reference that the contract suite compares the others with, the source of tests, and of a demo
 * without a database.
 *
 *   memory:                                         an empty database of this connection alone
 *   memory:?topics=10&partitions=4&segments=100     the same, filled: that many topics, partitions a topic, segments a partition
 *                                                   (each may be left out: 10, 4, 100); seed=N varies sizes
 *   memory:NAME                                     the database of that name, made by memory_db_new(): it outlives connections
 *
 * A database may be changed from any thread at any time; a load() or fetch() sees it as it was at one moment, and changes wait
 * until it has ended. */
#ifndef SHMETA_BACKENDS_MEMORY_MEMORY_H
#define SHMETA_BACKENDS_MEMORY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"

struct memory_db;

/* NULL: out of memory, or the name is taken. memory_db_free(): connections that are open go on with an empty database. */
struct memory_db *memory_db_new(const char *name);
void memory_db_free(struct memory_db *db);
/* The database of an open connection (the state that the core owns), without its own hold on it. */
struct memory_db *memory_db_of(void *state);

/* ---- rows. tenant NULL: SHMETA_DEFAULT_TENANT. Nothing is validated, so that a test can put what a backend must refuse: a row
 * is there when it was put, whether or not its parent is. false: out of memory. ---------------------------------------------- */

/* Insert, or replace the row of that key (cascades nothing). topic->name; config as packed map. */
bool memory_put_topic(struct memory_db *db, const char *tenant, const struct shmeta_topic *topic);
/* With partitions 0..count-1, watermark 0, as create_topic (semantics.md 1.1) does. */
bool memory_create_topic(struct memory_db *db, const char *tenant, const char *name, uint32_t partitions,
                         int64_t now_ms);
/* Cascades to partitions, segments, offsets and leases. false: was not there. */
bool memory_delete_topic(struct memory_db *db, const char *tenant, const char *name);
bool memory_put_partition(struct memory_db *db, const char *tenant, const char *topic,
                          const struct shmeta_partition *partition);
bool memory_delete_partition(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id);
bool memory_set_watermark(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                          uint64_t high_watermark);
/* The segment of that id is replaced, wherever it was within the partition; another one of the same base stays beside it. */
bool memory_put_segment(struct memory_db *db, const char *tenant, const char *topic,
                        const struct shmeta_segment *segment);
/* Those with end_offset < before. Returns how many. */
uint64_t memory_delete_segments_before(struct memory_db *db, const char *tenant, const char *topic,
                                       uint32_t partition_id, uint64_t before);
bool memory_delete_segment(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                           uint64_t base_offset);
bool memory_put_agent(struct memory_db *db, const char *tenant, const struct shmeta_agent *agent);
bool memory_delete_agent(struct memory_db *db, const char *tenant, const char *agent_id); /* with its leases */
bool memory_put_group(struct memory_db *db, const char *tenant, const struct shmeta_group *group);
bool memory_put_offset(struct memory_db *db, const char *tenant, const char *topic,
                       const struct shmeta_committed_offset *offset);
bool memory_delete_group(struct memory_db *db, const char *tenant, const char *group_id); /* with its offsets */
bool memory_put_lease(struct memory_db *db, const char *tenant, const char *topic, const struct shmeta_lease *lease);
bool memory_delete_lease(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id);
/* Fill as memory:?... does. */
bool memory_fill(struct memory_db *db, uint32_t topics, uint32_t partitions, uint32_t segments, uint64_t seed);

/* ---- looking. Views live until the next change. --------------------------------------------------------------------------- */

bool memory_find_topic(struct memory_db *db, const char *tenant, const char *name);
bool memory_find_partition(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                           struct shmeta_partition *ret);
bool memory_find_segment(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                         uint64_t base, struct shmeta_segment *ret);
/* Any segment of any partition and tenant with that id. */
bool memory_has_segment_id(struct memory_db *db, struct shmeta_str id);
/* By agent_id, or, when that is NULL, by address. */
bool memory_find_agent(struct memory_db *db, const char *tenant, const char *agent_id, const char *address,
                       struct shmeta_agent *ret);
bool memory_find_group(struct memory_db *db, const char *tenant, const char *group_id);
bool memory_find_lease(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                       struct shmeta_lease *ret);

/* ---- operations (memory_write.c) ------------------------------------------------------------------------------------------- */

struct memory_writes; /* epochs, transfers, objects */
struct memory_writes **memory_writes_of(struct memory_db *db);
/* The highest epoch that the partition's leases ever had is at least this, whatever becomes of the lease. With the database's lock held.
 * false: no memory. */
bool memory_keep_epoch(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition, uint64_t epoch);
void memory_writes_free(struct memory_writes *writes);
enum shmeta_status memory_apply(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err);
/* What memory_start() was given: nothing is done with it before memory_finish(). */
struct memory_started {
	const struct backend_op *ops;
	size_t count;
	int64_t now_ms;
	struct shmeta_result *results;
};
struct memory_started *memory_started_of(void *state);
enum shmeta_status memory_start(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, struct backend_error *err);
enum shmeta_status memory_finish(void *state, const struct backend_sink *sink, struct backend_error *err);
enum shmeta_status memory_objects(void *state, const struct backend_object_list *list, backend_object_fn *emit,
                                  void *arg, struct backend_error *err);

enum shmeta_status memory_extras(void *state, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                                 struct backend_error *err);

/* ---- faults of rows (memory_faults.c) --------------------------------------------------------------------------------------- */

struct memory_row_fault {
	struct memory_row_fault *next;
	uint32_t partition_id;
	enum shmeta_status status; /* OK: it strays */
	bool stray;
	char topic[SHMETA_NAME_MAX + 1];
	char sentence[160];
};
/* NULL: none. */
const struct memory_row_fault *memory_row_fault(const struct memory_row_fault *first, struct shmeta_str topic,
                                                uint32_t partition_id);
void memory_row_faults_free(struct memory_row_fault *first);
/* Of a database, with its lock held until it is given back. */
struct memory_row_fault **memory_lock_row_faults(struct memory_db *db);
void memory_unlock_row_faults(struct memory_db *db);

/* ---- faults ------------------------------------------------------------------------------------------------------------ */

enum memory_call { MEMORY_OPEN, MEMORY_LOAD, MEMORY_FETCH, MEMORY_CHANGES, MEMORY_START, MEMORY_APPLY, MEMORY_CALLS };

/* The fault of a call of that kind, if one is due: its status, its sentence, and whether it fails only after it has done what it was
 * asked. For calls outside memory.c. */
bool memory_take_fault(struct memory_db *db, enum memory_call call, enum shmeta_status *ret, bool *ret_done,
                       char *sentence, size_t bytes);

/* The next `times` calls of that kind fail with status and sentence after they have handed over `after_rows` rows. MEMORY_APPLY, also of what
 * was started: after they have committed, when after_rows is not 0, telling nobody; before they have done anything, when it is. */
void memory_fail(struct memory_db *db, enum memory_call call, uint32_t times, uint64_t after_rows,
                 enum shmeta_status status, const char *sentence);
/* From now on a fetch() or load() that comes to this partition fails with status and sentence, whatever else it was to read. */
bool memory_break_partition(struct memory_db *db, const char *topic, uint32_t partition_id, enum shmeta_status status,
                            const char *sentence);
/* From now on a fetch() of a range of this partition's segments shows all of them, as no engine may. */
bool memory_stray_partition(struct memory_db *db, const char *topic, uint32_t partition_id);
/* Neither from now on. */
void memory_mend_partition(struct memory_db *db, const char *topic, uint32_t partition_id);
/* The next `times` load() calls find no rows at all, and answer OK. */
void memory_lie_empty(struct memory_db *db, uint32_t times);
/* Changes from now on escape the feed (a disabled trigger, TRUNCATE): only load() shows them. */
void memory_silence(struct memory_db *db, bool silent);
/* load() asks sink->may_lag() for this much from now on (what it shows is of now all the same); 0: it does not ask. */
void memory_set_lag(struct memory_db *db, uint64_t lag_ns);
/* changes() says from now on that it tells until so long ago (it tells all the same), and feed_trouble() this; NULL: nothing. */
void memory_set_feed(struct memory_db *db, uint64_t lag_ns, const char *trouble);
/* Throw the feed's log away: a position in it cannot be resumed, changes() reports LIST. */
void memory_drop_feed(struct memory_db *db);
/* At first BACKEND_FEED_KEYS. */
void memory_set_feed_kind(struct memory_db *db, enum backend_feed_kind kind);
/* What writable() says from now on. */
void memory_set_read_only(struct memory_db *db, bool read_only);
/* Another source of the same name: fingerprint() and the feed's identity change. */
void memory_replace(struct memory_db *db);
/* What fingerprint() answers, and will answer: the database is replaced, or put back, without a change of its rows. */
uint64_t memory_identity(struct memory_db *db);
void memory_become(struct memory_db *db, uint64_t identity);
/* At first 0. Another number: an earlier state was restored, and positions of the old course cannot be resumed. */
void memory_set_course(struct memory_db *db, uint64_t course);
/* Called without locks: at the start of a call (end 0) and before it returns (end 1). It may change rows, or sleep. */
void memory_set_hook(struct memory_db *db, void (*hook)(void *arg, enum memory_call call, int end), void *arg);

struct memory_stats {
	uint64_t calls[MEMORY_CALLS];
	uint64_t keys_fetched;
	uint64_t queries; /* what an SQL engine would have run: one a class and chunk of 1 000 keys */
	uint64_t rows;
};
void memory_read_stats(struct memory_db *db, struct memory_stats *ret);

#endif
