/* SPDX-License-Identifier: Apache-2.0
 * Invalidations among the jobs of admin_jobs.c. One becomes keys in the refresh queue, each with a
 * ticket of its own, and is answered when the last of them has been. One that names many topics
 * puts them in a few at a time, so that neither the rows of a batch nor those who wait behind it
 * feel how many there are. What is read begins after the request came: a read that is under way is
 * not joined. The engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_INVALIDATE_H
#define SHMETA_WRITER_ENGINE_INVALIDATE_H

#include "writer/engine/engine.h"

enum { ADMIN_SENTENCE = 480 };

enum admin_kind { ADMIN_INVALIDATE, ADMIN_OBJECTS, ADMIN_EPOCH_END };

struct admin_job {
	struct admin_job *next;
	enum admin_kind kind;
	uint32_t uid;
	uint64_t ticket, deadline_ns;
	char who[64];
	struct shmeta_str tenant;

	struct shmeta_str bucket, key; /* objects: those behind this one */
	bool deletable;
	size_t most;

	uint64_t epoch; /* where it ends, in topic and partition_id */

	enum shmeta_class cls; /* invalidation */
	struct shmeta_str topic;
	uint32_t partition_id;
	bool prefix, dry_run;
	bool begun, exhausted, answered;
	char after[SHMETA_NAME_MAX]; /* of topics by prefix: the last one that was asked for */
	size_t after_bytes;
	size_t outstanding; /* keys asked for and not answered */
	struct sync_invalidated count;
	enum shmeta_status status; /* the first failure */
	char sentence[ADMIN_SENTENCE];
	uint64_t txn;

	char text[]; /* what the views show */
};

/* Ask for the next keys, unless some are outstanding; answer, at the end or at the deadline. */
void invalidate_step(struct sync *s, struct admin_job *job);
/* Once. The job lives on until its last key has been answered. */
void invalidate_answer(struct sync *s, struct admin_job *job, enum shmeta_status status, const char *sentence);

#endif
