/* SPDX-License-Identifier: Apache-2.0
 * A batch on its way, between the files that bring it over: batch.c plans, fetches, commits and answers, batch_apply.c applies. */
#ifndef SHMETA_WRITER_KEYS_BATCH_H
#define SHMETA_WRITER_KEYS_BATCH_H

#include "writer/keys/fetch_result.h"
#include "writer/keys/reread.h"

/* Is it the store that is in trouble, and not what was to be put into it? */
bool batch_of_the_store(enum shmeta_status status);
/* Everything of the class is known to be newer. */
bool batch_class_newer(const struct sync *s, enum shmeta_class cls, uint64_t than_ns);
/* Readers asked for it, and the class does not already say as much: the record's own stamp moves. */
bool batch_restamp(struct sync *s, struct sync_entry *e, const struct batch *b);
/* What the floor knows an entry by. All that is neither topic nor partition is one thing to it: such reads are short. */
uint64_t batch_floor_topic(const struct sync_entry *e);
int64_t batch_floor_partition(const struct sync_entry *e);
/* The entry is read again with its topic, or behind it. Under the queue's lock. */
void batch_reread_topic(struct batch *b, struct sync_entry *e);
/* Entries that cannot be applied from this read go back to the queue before anything is applied. */
enum shmeta_status batch_sift(struct batch *b, struct shmeta_err *err);
enum shmeta_status batch_apply(struct batch *b, struct shmeta_err *err);
/* What the read of b->got[at .. at + count), all of one entry, reported as quarantined replaces what the store has. */
enum shmeta_status batch_apply_quarantined(struct batch *b, size_t at, size_t count, struct shmeta_err *err);

#endif
