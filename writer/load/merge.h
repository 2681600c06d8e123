/* SPDX-License-Identifier: Apache-2.0
 * Rows that the source shows, into a new generation: the sink of a load(), and of a read of
 * everything by its keys (by_keys.h). */
#ifndef SHMETA_WRITER_LOAD_MERGE_H
#define SHMETA_WRITER_LOAD_MERGE_H

#include "writer/keys/queue.h"
#include "writer/load/pass_window.h"

struct by_keys;

/* A key that could not be read, or not be applied. Strings live as long as the merge. */
struct lost_key {
	struct lost_key *next;
	enum entry_kind kind; /* above ENTRY_PART: the whole class */
	uint32_t partition_id;
	enum shmeta_status status;
	struct shmeta_str tenant, topic, sentence; /* sentence ends with a NUL */
};

struct merge {
	struct sync *s;
	struct shmeta__store *store;
	struct apply_host host;
	struct quarantine quarantine; /* of the whole pass */
	uint64_t txn;
	uint64_t began_ns; /* the load: nothing that it shows is older */

	/* What the load says. */
	uint64_t topics, partitions, segments, since_check;
	bool classes_begun;

	bool in_topic, in_partition;
	struct pass_window window; /* of the partition */

	/* by_keys.h */
	struct by_keys *by_keys;
	/* Of whoever reads on behalf of the merge: before its last commit, and before it is freed.
	 * NULL: nothing. */
	enum shmeta_status (*before_end)(struct merge *m);
	void (*before_free)(struct merge *m);
	struct lost_key *lost; /* the last one first */
	size_t lost_count;

	/* Set when the store, not the source, ended the load. */
	enum shmeta_status failed;
	struct shmeta_err err;
};

/* NULL: no memory, and that has been told. */
struct merge *merge_new(struct sync *s, struct shmeta__store *store);
void merge_free(struct merge *m); /* what is not committed is forgotten */
struct apply *merge_applier(struct merge *m);
/* The status is handed through; a failure of this side is kept in m->failed. */
enum shmeta_status merge_fail(struct merge *m, enum shmeta_status status);
enum shmeta_status merge_begin(struct merge *m);  /* a transaction, where none is open */
enum shmeta_status merge_commit(struct merge *m); /* of the one that is open, if any */
struct backend_sink merge_sink(struct merge *m);
/* No more of the partition, or of the topic and its partition, comes. */
enum shmeta_status merge_end_partition(struct merge *m);
enum shmeta_status merge_end_topic(struct merge *m);
/* The small classes follow, whole. */
enum shmeta_status merge_enter_classes(struct merge *m);
/* Everything was shown. Commits. */
enum shmeta_status merge_finish(struct merge *m);

#endif
