/* SPDX-License-Identifier: Apache-2.0
 * Rows that the source shows, into a new generation or merged with the current one: the sink of a load(), and of a read of everything
 * by its keys (by_keys.h). */
#ifndef SHMETA_WRITER_LOAD_MERGE_H
#define SHMETA_WRITER_LOAD_MERGE_H

#include "writer/keys/queue.h"
#include "writer/load/pass.h"

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
	bool first;                   /* into a new generation */
	bool count_only;              /* apply nothing */
	bool hold;                    /* removals wait for the end */
	uint64_t synced_at_ns, txn;   /* synced_at_ns: of topics, partitions and segments */
	uint64_t began_ns;            /* the load: the other classes are no older */

	/* What the load says. */
	uint64_t topics, partitions, segments, since_check;
	enum shmeta_class class_begun; /* SHMETA_CLASS_COUNT: none yet */
	bool classes_begun;

	struct pass_known known;
	bool in_topic, in_partition;
	struct pass_window window; /* of the partition */

	/* merge_by_keys() */
	struct by_keys *by_keys;
	/* Of whoever reads on behalf of the merge: before its last commit, and before it is freed. NULL: nothing. */
	enum shmeta_status (*before_end)(struct merge *m);
	void (*before_free)(struct merge *m);
	struct lost_key *lost; /* the last one first */
	size_t lost_count;
	bool listed;      /* the feed's position has moved to that of the list of keys */
	bool disbelieved; /* so many topics are missing that a second look is to confirm it: nothing was applied */

	/* Set when the store, not the source, ended the load. */
	enum shmeta_status failed;
	struct shmeta_err err;
	uint64_t changed;
};

/* NULL: no memory, and that has been told. */
struct merge *merge_new(struct sync *s, struct shmeta__store *store, bool first);
void merge_free(struct merge *m); /* what is not committed is forgotten */
struct apply *merge_applier(struct merge *m);
/* The status is handed through; a failure of this side is kept in m->failed. */
enum shmeta_status merge_fail(struct merge *m, enum shmeta_status status);
enum shmeta_status merge_begin(struct merge *m);  /* a transaction, where none is open */
enum shmeta_status merge_commit(struct merge *m); /* of the one that is open, if any */
struct backend_sink merge_sink(struct merge *m, bool may_lag);
/* No more of the partition, or of the topic and its partition, comes. */
enum shmeta_status merge_end_partition(struct merge *m);
enum shmeta_status merge_end_topic(struct merge *m);
/* The small classes follow, whole. */
enum shmeta_status merge_enter_classes(struct merge *m);
/* Everything was shown: what was not goes. Commits. */
enum shmeta_status merge_finish(struct merge *m);

#endif
