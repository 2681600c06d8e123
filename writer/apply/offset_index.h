/* SPDX-License-Identifier: Apache-2.0
 * Which committed offsets hang on a topic. The store has them by group; when a topic or a partition
 * dies, its offsets are found here instead of by walking all of them.
 *
 * Made by one walk when it is first needed, and kept up by every offset that is put afterwards. It
 * may name offsets that have gone: whoever deletes them finds nothing. */
#ifndef SHMETA_WRITER_APPLY_OFFSET_INDEX_H
#define SHMETA_WRITER_APPLY_OFFSET_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/store/store.h"

struct offset_index_topic;
struct offset_index_group;

struct offset_index {
	uint64_t store; /* number of the generation that it speaks of; 0: of none */
	size_t walked, added;
	struct offset_index_topic *topic; /* hash table by topic number */
	size_t topics, topic_slots;
	struct offset_index_group **group; /* by number */
	uint32_t *group_slot;              /* hash table: 1 + number */
	size_t groups, group_capacity, group_slots;
};

/* An offset with this key was put for the first time. */
void offset_index_add(struct offset_index *index, uint64_t store, const void *key, size_t key_bytes);
/* Does it speak of this generation? Otherwise it is made anew from what the transaction sees. */
enum shmeta_status offset_index_ready(struct offset_index *index, uint64_t store, struct shmeta__txn *txn,
                                      struct shmeta_err *err);
/* The keys of a topic's offsets, of one partition or of all (partition_id UINT32_MAX), forgotten as
 * they are named. Not OK of each() ends it. */
enum shmeta_status offset_index_take(struct offset_index *index, uint32_t topic_id, uint32_t partition_id,
                                     enum shmeta_status (*each)(void *arg, const void *key, size_t key_bytes),
                                     void *arg);
void offset_index_free(struct offset_index *index);

#endif
