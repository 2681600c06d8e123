/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine: the reference that the contract suite compares the others with, the source
 * of tests, and of a demo without a database.
 *
 *   memory:                                         an empty database of this connection alone
 *   memory:?topics=10&partitions=4&segments=100     the same, filled: that many topics, partitions
 *                                                   a topic, segments a partition
 *                                                   (each may be left out: 10, 4, 100); seed=N
 *                                                   varies sizes
 *   memory:NAME                                     the database of that name, made by
 *                                                   memory_db_new(): it outlives connections
 *
 * A database may be changed from any thread at any time; a load() or fetch() sees it as it was at
 * one moment, and changes wait until it has ended. */
#ifndef SHMETA_BACKENDS_MEMORY_MEMORY_H
#define SHMETA_BACKENDS_MEMORY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"

struct memory_db;

/* NULL: out of memory, or the name is taken. memory_db_free(): connections that are open go on with
 * an empty database. */
struct memory_db *memory_db_new(const char *name);
void memory_db_free(struct memory_db *db);
/* The database of an open connection (the state that the core owns), without its own hold on it. */
struct memory_db *memory_db_of(void *state);

/* ---- rows. tenant NULL: SHMETA_DEFAULT_TENANT. Nothing is validated, so that a test can put what
 * a backend must refuse: a row is there when it was put, whether or not its parent is. false: out
 * of memory. ---------------------------------------------- */

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
/* The segment of that id is replaced, wherever it was within the partition; another one of the same
 * base stays beside it. */
bool memory_put_segment(struct memory_db *db, const char *tenant, const char *topic,
                        const struct shmeta_segment *segment);
/* Those with end_offset < before. Returns how many. */
uint64_t memory_delete_segments_before(struct memory_db *db, const char *tenant, const char *topic,
                                       uint32_t partition_id, uint64_t before);
bool memory_delete_segment(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                           uint64_t base_offset);
bool memory_put_agent(struct memory_db *db, const char *tenant, const struct shmeta_agent *agent);
/* with its leases */
bool memory_delete_agent(struct memory_db *db, const char *tenant, const char *agent_id);
bool memory_put_group(struct memory_db *db, const char *tenant, const struct shmeta_group *group);
bool memory_put_offset(struct memory_db *db, const char *tenant, const char *topic,
                       const struct shmeta_committed_offset *offset);
/* with its offsets */
bool memory_delete_group(struct memory_db *db, const char *tenant, const char *group_id);
bool memory_put_lease(struct memory_db *db, const char *tenant, const char *topic, const struct shmeta_lease *lease);
bool memory_delete_lease(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id);
/* Each lease of the agent that ends after now_ms ends no earlier than until_ms; found() is called
 * for each, whether or not it moved. Returns how many. */
uint64_t memory_renew_leases(struct memory_db *db, const char *tenant, const char *agent_id, int64_t now_ms,
                             int64_t until_ms, void (*found)(void *arg, struct shmeta_str topic, uint32_t partition_id),
                             void *arg);
/* Fill as memory:?... does. */
bool memory_fill(struct memory_db *db, uint32_t topics, uint32_t partitions, uint32_t segments, uint64_t seed);

/* ---- looking. Views live until the next change. ---- */

bool memory_find_topic(struct memory_db *db, const char *tenant, const char *name);
bool memory_find_partition(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                           struct shmeta_partition *ret);
bool memory_find_segment(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                         uint64_t base, struct shmeta_segment *ret);
/* Copies of the rows whose bases lie from..to, ascending, of each base the first; *ret_reaching:
 * does one of the REPLACE_BEFORE before them (backends/replace.h) end at `reach` or behind it? The
 * caller frees the array; NULL: no memory. */
struct shmeta_segment *memory_segments_in(struct memory_db *db, const char *tenant, const char *topic,
                                          uint32_t partition_id, uint64_t from, uint64_t to, uint64_t reach,
                                          size_t *ret_count, bool *ret_reaching);
/* Any segment of any partition and tenant with that id. */
bool memory_has_segment_id(struct memory_db *db, struct shmeta_str id);
/* By agent_id, or, when that is NULL, by address. */
bool memory_find_agent(struct memory_db *db, const char *tenant, const char *agent_id, const char *address,
                       struct shmeta_agent *ret);
bool memory_find_group(struct memory_db *db, const char *tenant, const char *group_id);
bool memory_find_lease(struct memory_db *db, const char *tenant, const char *topic, uint32_t partition_id,
                       struct shmeta_lease *ret);

/* ---- what may happen to a source ---- */

/* Changes from now on escape the feed (a disabled trigger, TRUNCATE): only load() shows them. */
void memory_silence(struct memory_db *db, bool silent);
/* Throw the feed's log away: a position in it cannot be resumed, changes() reports LIST. */
void memory_drop_feed(struct memory_db *db);
/* Another source of the same name: fingerprint() and the feed's identity change. */
void memory_replace(struct memory_db *db);
/* What fingerprint() answers, and will answer: the database is replaced, or put back, without a
 * change of its rows. */
uint64_t memory_identity(struct memory_db *db);
void memory_become(struct memory_db *db, uint64_t identity);
/* At first 0. Another number: an earlier state was restored, and positions of the old course cannot
 * be resumed. */
void memory_set_course(struct memory_db *db, uint64_t course);

#endif
