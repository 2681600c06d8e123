/* SPDX-License-Identifier: Apache-2.0
 * Differences into store transactions: the only code that changes records. A caller says what the
 * source has; apply compares it with what the store has and writes only what differs. What is said
 * between apply_begin() and apply_commit() is visible in one commit, or not at all.
 *
 * Identity (semantics.md C2): a topic whose created_at_ms differs from the stored one, or of which
 * the feed saw a delete, is another incarnation: it gets a topic_id that was never used before, and
 * the old one's partitions, segments, leases and offsets go in the same commit.
 *
 * Every function that returns a status other than OK and ABSENT has left the transaction unusable:
 * apply_abort() it. */
#ifndef SHMETA_WRITER_APPLY_APPLY_H
#define SHMETA_WRITER_APPLY_APPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"
#include "base/arena.h"
#include "base/keyset.h"
#include "include/shmeta.h"
#include "shm/record/key.h"
#include "shm/record/record.h"
#include "shm/store/store.h"
#include "writer/apply/changed_keys.h"
#include "writer/apply/offset_index.h"
#include "writer/apply/quarantine.h"

struct apply;

/* What a read of all of a partition has told of it. */
enum apply_learned {
	APPLY_LEARNED_NOTHING, /* it is new, or was not read for its own sake */
	APPLY_LEARNED_SAME,
	APPLY_LEARNED_CHANGE
};

/* Who keeps a store within budgets. */
struct apply_watch {
	/* The time to live of a partition: topic_ttl_ms of its topic, before_ms that it had; 0: its
	 * class's. */
	uint32_t (*ttl_ms)(void *arg, uint32_t topic_ttl_ms, uint32_t before_ms, enum apply_learned learned);
	/* A topic (db NAMES: its record, TOPICS: its number, deletions only) or a partition (PARTS)
	 * was changed; value NULL: it is gone. */
	void (*changed)(void *arg, struct apply *a, enum shmeta_db db, const void *key, const void *value,
	                size_t bytes);
	/* Before the commit, outside of topics: what does not fit is to leave in this transaction
	 * (apply_evict_...()). */
	enum shmeta_status (*fit)(void *arg, struct apply *a, struct shmeta_err *err);
	void (*ended)(void *arg, bool committed);
};

struct apply_host {
	void *arg;
	const struct apply_watch *watch; /* NULL: everything stays */
	/* TTL override of a topic, 0: the class's. */
	uint32_t (*ttl_ms)(void *arg, struct shmeta_str topic);
	/* After a commit: a row was quarantined, or (left) is quarantined no more. sentence NULL:
	 * so did count others. */
	void (*quarantined)(void *arg, bool left, enum shmeta_class cls, const char *sentence, uint64_t count);
	/* A commit is published that moved these touched words: a bit for each. May be NULL. */
	shmeta__committed_fn *committed;
	int64_t now_ms;                /* wall clock */
	struct quarantine *quarantine; /* of the read that is being applied: rows that apply itself
                                        * refuses go there */
};

/* What is told of quarantined rows when the transaction has been committed. */
struct apply_note {
	struct apply_note *next;
	enum shmeta_class cls;
	struct shmeta_str sentence;
};
struct apply_notes {
	struct apply_note *first, **last;
	uint64_t count;
};

struct apply {
	struct shmeta__store *store;
	struct shmeta__txn *txn;
	struct apply_host host;
	struct shmeta__pager pager;
	bool fresh; /* the generation was empty when loading began and nobody reads it: append,
                     * never compare */

	/* What this transaction did. */
	uint64_t changed;   /* rows added, altered or removed                                   */
	uint64_t unchanged; /* rows found equal                                                 */
	uint64_t removed;   /* topics, partitions and (net) segments that went without a
                             * successor */
	bool reborn;        /* a topic was replaced by another incarnation */
	uint64_t hung;      /* offsets and leases that went with what they hung on */
	uint64_t committed; /* the commit that apply_commit() gave                                */

	/* The topic being spoken of. */
	bool in_topic, topic_is_new;
	uint32_t topic_id, tenant, topic_ttl_ms;
	uint64_t synced_at_ns;
	struct shmeta_str name;         /* in name_text */
	struct shmeta_str topic_tenant; /* in topic_tenant_text */
	char topic_tenant_text[SHMETA_TENANT_MAX + 1];
	char name_text[SHMETA_NAME_MAX + 1];
	uint32_t *old_ids; /* partitions that the store has, ascending; those below old_at were seen
                            * or dropped */
	size_t old_count, old_at, old_capacity;
	int64_t last_partition; /* -1: none yet */

	/* The partition being spoken of. */
	struct shmeta__part_edit *edit;
	uint32_t partition_id;
	bool partition_is_new;
	uint64_t partition_changed, partition_rows;
	struct shmeta_partition before; /* as stored */
	uint64_t before_rows;           /* of it that are resident */
	uint64_t before_synced_at_ns;
	uint32_t before_ttl_ms;

	/* The tenant last looked up. */
	struct shmeta_str tenant_name;
	char tenant_text[SHMETA_TENANT_MAX + 1];

	/* Whole classes: what was seen. */
	struct keyset seen_agents, seen_groups, seen_offsets, seen_leases;
	/* One key in place of a class: what was seen of it. */
	bool keyed;
	struct keyset seen_key;
	uint64_t orphans; /* offsets and leases of topics that the store does not have */
	bool new_topics;
	struct apply_notes entered, left;
	/* The topic that the last offset or lease named. */
	struct shmeta_str ref_name;
	char ref_text[SHMETA_NAME_MAX + 1];
	uint32_t ref_tenant, ref_topic_id;
	bool ref_valid;

	/* Partitions (topic_id << 32 | id) and topics (topic_id << 32 | UINT32_MAX) whose offsets
	 * must go. */
	uint64_t *dead;
	size_t dead_count, dead_capacity;
	struct offset_index offsets;

	struct changed_keys keys; /* for the journal; none are noted while `fresh` */

	struct arena arena;
	uint8_t value[SHMETA_TOPIC_MAX > SHMETA_AGENT_MAX ? SHMETA_TOPIC_MAX : SHMETA_AGENT_MAX];
};

enum shmeta_status apply_begin(struct apply *a, struct shmeta__store *store, const struct apply_host *host,
                               uint64_t oldest_pin, bool fresh, struct shmeta_err *err);
/* ret_txn: the commit that shows it; the newest one when nothing differed. Ends the transaction in
 * every case. */
enum shmeta_status apply_commit(struct apply *a, uint64_t *ret_txn, struct shmeta_err *err);
void apply_abort(struct apply *a); /* also when none is open */
void apply_free(struct apply *a);  /* gives back what is kept between transactions */

/* ---- topics ---- */

struct apply_topic_opts {
	uint64_t synced_at_ns; /* when the read that says so began                          */
	bool deleted;          /* the feed saw a delete: this is another incarnation ...     */
	uint64_t born_since;   /* ... of every topic_id below this one; from it on, only when
                             * created_at_ms differs, because that incarnation may have been read
                             * after the delete already (0: no such doubt) */
	bool restamp;          /* move the stored stamp even when nothing else differs      */
};
/* The source has this topic: begin to speak of it. Its partitions follow in ascending order, then
 * apply_topic_end(). A topic that violates C9 is quarantined and answers ABSENT: nothing of it may
 * follow. */
enum shmeta_status apply_topic(struct apply *a, struct shmeta_str tenant, const struct shmeta_topic *topic,
                               const struct apply_topic_opts *opts, struct shmeta_err *err);
/* Partitions of the topic that were not spoken of do not exist: drop them. */
enum shmeta_status apply_topic_end(struct apply *a, struct shmeta_err *err);
/* Speak of single partitions of a topic that the store has; apply_topic_leave() ends it and drops
 * nothing. */
enum shmeta_status apply_topic_enter(struct apply *a, struct shmeta_str tenant, struct shmeta_str name,
                                     struct shmeta_err *err); /* OK or ABSENT */
void apply_topic_leave(struct apply *a);
enum shmeta_status apply_topic_delete(struct apply *a, struct shmeta_str tenant, struct shmeta_str name,
                                      struct shmeta_err *err); /* OK or ABSENT */
enum shmeta_status apply_topic_delete_id(struct apply *a, uint32_t topic_id, struct shmeta_err *err);
/* The topic's record and those of its partitions get the time to live that is configured; each
 * keeps the time when it was read. OK or ABSENT. */
enum shmeta_status apply_topic_ttl(struct apply *a, uint32_t topic_id, struct shmeta_err *err);

/* What the store has. The views of ret die with the next change. OK or ABSENT. */
enum shmeta_status apply_topic_get(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str name,
                                   struct shmeta_topic *ret, struct shmeta__stamps *ret_stamps, struct shmeta_err *err);

/* The names behind a topic's number; they die with the next change. OK or ABSENT. */
enum shmeta_status apply_topic_name(struct shmeta__txn *txn, uint32_t topic_id, struct shmeta_str *ret_tenant,
                                    struct shmeta_str *ret_topic, struct shmeta_err *err);

/* ---- partitions of the topic that is spoken of ---- */

/* The partition exists. ABSENT: it violates C9 or the order and is quarantined; nothing of it may
 * follow. */
enum shmeta_status apply_partition(struct apply *a, const struct shmeta_partition *partition, struct shmeta_err *err);
/* Seen, and left as it is. *ret_known: the store has it. */
enum shmeta_status apply_partition_keep(struct apply *a, uint32_t partition_id, bool *ret_known,
                                        struct shmeta_err *err);
/* Its segments with from <= base <= to are exactly these. In a new generation: the next rows. */
enum shmeta_status apply_segments(struct apply *a, uint64_t from, uint64_t to, const struct shmeta_segment *rows,
                                  size_t count, struct shmeta_err *err);
/* stamp: all of it was read at synced_at_ns; written when something differs or restamp is set. */
enum shmeta_status apply_partition_end(struct apply *a, bool whole, bool restamp, struct shmeta_err *err);
/* OK or ABSENT. */
enum shmeta_status apply_partition_delete(struct apply *a, uint32_t partition_id, struct shmeta_err *err);
/* The partitions that the store has of a topic, ascending. The array is malloc'ed, used again, and
 * the caller's. */
enum shmeta_status apply_partition_ids(struct shmeta__txn *txn, uint32_t topic_id, uint32_t **ids, size_t *ret_count,
                                       size_t *capacity, struct shmeta_err *err);
/* What the store has: OK, ABSENT. ret_last_base: of the last segment; ret_any: there is one. */
enum shmeta_status apply_partition_get(struct shmeta__txn *txn, uint32_t topic_id, uint32_t partition_id,
                                       struct shmeta_partition *ret, uint64_t *ret_last_base, bool *ret_any,
                                       struct shmeta_err *err);

/* ---- whole classes: say every row, then end; what was not said goes ---- */

void apply_class_begin(struct apply *a, enum shmeta_class cls, uint64_t synced_at_ns);
enum shmeta_status apply_agent(struct apply *a, struct shmeta_str tenant, const struct shmeta_agent *agent,
                               struct shmeta_err *err);
enum shmeta_status apply_group(struct apply *a, struct shmeta_str tenant, const struct shmeta_group *group,
                               struct shmeta_err *err);
enum shmeta_status apply_offset(struct apply *a, struct shmeta_str tenant, struct shmeta_str topic,
                                const struct shmeta_committed_offset *offset, struct shmeta_err *err);
enum shmeta_status apply_lease(struct apply *a, struct shmeta_str tenant, struct shmeta_str topic,
                               const struct shmeta_lease *lease, struct shmeta_err *err);
enum shmeta_status apply_class_end(struct apply *a, enum shmeta_class cls, struct shmeta_err *err);

/* One key of such a class, as struct backend_key has them. Between begin and end apply_agent() and
 * the like say what there is of it; what was not said goes. */
struct apply_key {
	enum shmeta_class cls;
	struct shmeta_str tenant, topic, name;
	uint32_t partition_id;
};
void apply_key_begin(struct apply *a, uint64_t synced_at_ns);
enum shmeta_status apply_key_end(struct apply *a, const struct apply_key *key, struct shmeta_err *err);

/* For quarantine.c: told after the commit. The sentence is copied. */
void apply_note_quarantine(struct apply *a, bool left, enum shmeta_class cls, struct shmeta_str sentence);
/* All that was noted, to the host. */
void apply_tell_notes(struct apply *a, bool left);

/* ---- what is not resident (evict.c, absences.c): used where a store holds only some of what the
 * source has ------------------- */

/* Records of these classes (1 << class) are missing from now on. */
void apply_lacks(struct apply *a, uint64_t classes);
/* The partition leaves the store with its segments; the lease and the offsets of it stay. OK or
 * ABSENT. */
enum shmeta_status apply_evict_partition(struct apply *a, uint32_t topic_id, uint32_t partition_id,
                                         struct shmeta_err *err);
/* The topic leaves the store with everything that hangs on it. OK or ABSENT. */
enum shmeta_status apply_evict_topic(struct apply *a, uint32_t topic_id, struct shmeta_err *err);
/* The partitions that the store has of a topic leave it. OK or ABSENT. */
enum shmeta_status apply_evict_partitions_of(struct apply *a, uint32_t topic_id, struct shmeta_err *err);

/* As a partition: the topic itself. */
#define APPLY_ABSENT_TOPIC UINT32_MAX
/* The source was asked for this topic or partition and did not have it. *ret_key, *ret_bytes: how
 * apply_absence_drop() finds it; 0 bytes: it was noted before. ret_key: SHMETA_ABSENT_KEY_MAX
 * bytes. */
enum shmeta_status apply_absence_note(struct apply *a, struct shmeta_str tenant, struct shmeta_str topic,
                                      uint32_t partition_id, uint64_t read_at_ns, uint8_t *ret_key, size_t *ret_bytes,
                                      struct shmeta_err *err);
enum shmeta_status apply_absence_drop(struct apply *a, const void *key, size_t bytes, struct shmeta_err *err);
/* The topic is there, or may be: what is noted of it and its partitions goes. tenant NULL: of all
 * topics. */
enum shmeta_status apply_absences_forget(struct apply *a, const struct shmeta_str *tenant, struct shmeta_str topic,
                                         struct shmeta_err *err);
/* Is this very topic or partition noted? OK or ABSENT. */
enum shmeta_status apply_absence_get(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str topic,
                                     uint32_t partition_id, struct shmeta_err *err);
/* Is the topic or any partition of it noted? OK or ABSENT. */
enum shmeta_status apply_absence_any(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str topic,
                                     struct shmeta_err *err);

/* META_FEED. */
enum shmeta_status apply_feed(struct apply *a, const void *position, size_t bytes, struct shmeta_err *err);

#endif
