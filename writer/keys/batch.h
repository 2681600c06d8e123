/* SPDX-License-Identifier: Apache-2.0
 * A batch on its way, between the files that bring it over: batch.c takes and fetches, batch_plan.c
 * says which keys, batch_apply.c applies, batch_commit.c commits and answers. */
#ifndef SHMETA_WRITER_KEYS_BATCH_H
#define SHMETA_WRITER_KEYS_BATCH_H

#include "writer/keys/fetch_result.h"
#include "writer/keys/reread.h"

/* Is it the store that is in trouble, and not what was to be put into it? */
bool batch_of_the_store(enum shmeta_status status);
/* Everything of the class is known to be newer. */
bool batch_class_newer(const struct sync *s, enum shmeta_class cls, uint64_t than_ns);
/* Readers asked for it, or it was due, and the class does not already say as much: the record's own
 * stamp moves. */
bool batch_restamp(struct sync *s, struct sync_entry *e, const struct batch *b);
/* What the apply clock knows an entry by. All that is neither topic nor partition is one thing to
 * it: such reads are short. */
uint64_t batch_clock_topic(const struct sync_entry *e);
int64_t batch_clock_partition(const struct sync_entry *e);
/* The entry is read again with its topic, or behind it. Under the queue's lock. */
void batch_reread_topic(struct batch *b, struct sync_entry *e);
/* Entries that cannot be applied from this read go back to the queue before anything is applied. */
enum shmeta_status batch_sift(struct batch *b, struct shmeta_err *err);
enum shmeta_status batch_apply(struct batch *b, struct shmeta_err *err);
/* What the read of b->fetched[at .. at + count), all of one entry, reported as quarantined replaces
 * what the store has. */
enum shmeta_status batch_apply_quarantined(struct batch *b, size_t at, size_t count, struct shmeta_err *err);

/* ---- batch_plan.c ---- */

/* In the order of applying. */
void batch_sort(struct sync_entry **entry, size_t count);
/* Drop NULLs: what has gone back to the queue. */
void batch_compact(struct batch *b);
/* What to ask of the source for each entry, by what the store has. Entries that are widened to
 * their topic leave the batch. */
enum shmeta_status batch_plan(struct batch *b, struct shmeta_err *err);

/* ---- batch_commit.c ---- */

/* It is done with: forget it, and answer who waits. */
void batch_end_entry(struct sync *s, struct sync_entry *e, enum shmeta_status status, const char *sentence,
                     uint64_t txn, uint64_t synced_at_ns);
/* Apply what was fetched, commit, answer. */
enum shmeta_status batch_commit(struct batch *b, struct shmeta_err *err);
/* The same in two steps, for what is applied as it comes: nothing is in the transaction yet; all of
 * it has been applied. */
enum shmeta_status batch_commit_begins(struct batch *b, struct shmeta_err *err);
enum shmeta_status batch_commit_ends(struct batch *b, uint64_t began_ns, struct shmeta_err *err);

#endif
