/* SPDX-License-Identifier: Apache-2.0
 * Bounded mode: the store holds what this host uses, within budgets. It knows which topics and
 * partitions are resident, has those leave that do not fit before each commit, lets the feed's keys
 * of what is not resident go unread, and keeps records of absences. It owns s->bounded, which is
 * NULL in mirror mode; the engine's thread uses it alone. */
#ifndef SHMETA_WRITER_KEYS_BOUNDED_H
#define SHMETA_WRITER_KEYS_BOUNDED_H

#include "writer/apply/apply.h"
#include "writer/keys/fetch_result.h"
#include "writer/resident/resident_set.h"

/* What the store lacks from the first load on, and when topics are left out. */
#define BOUNDED_PARTITIONS (1u << SHMETA_CLASS_PARTITION | 1u << SHMETA_CLASS_SEGMENT)
#define BOUNDED_TOPICS (1u << SHMETA_CLASS_TOPIC | 1u << SHMETA_CLASS_OFFSET | 1u << SHMETA_CLASS_LEASE)

/* The budgets of the options are in force from the next commit on. false: no memory. */
bool bounded_configure(struct sync *s);
void bounded_free(struct sync *s);
/* Once a round: learn what readers use, have a batch leave where the store runs out of room, and
 * have loaded what readers met unknown. ERR_*: of the store, which no batch could leave. */
enum shmeta_status bounded_run(struct sync *s, const struct apply_host *host, struct shmeta_err *err);
/* How much of what the store may take is taken by content and by what readers pin? From 70 percent
 * on nothing is read ahead of its expiry; from 85 on a batch leaves once in a grace period, though
 * the budgets hold, and from 95 on four; but none where readers pin more than the content takes:
 * then it would be pinned, too, and they are cut off instead (store_health.h). */
void bounded_pressed(struct sync *s, const struct shmeta__store_room *room);
/* Up to n partitions that have been used since they were last read, and whose times to live are
 * nearly over: their keys as in resident_set.h. They are due again at again_ns, unless they are
 * read before. */
size_t bounded_due(struct sync *s, uint64_t now_ns, uint64_t again_ns, uint64_t *ret_keys, size_t n);
/* NULL: not known yet. Valid until the engine's next commit. */
const struct resident_set *bounded_residency(const struct sync *s);
const struct evictions *bounded_evictions(const struct sync *s);
/* What is known of resident records is read from the store again before the next commit. */
void bounded_look_again(struct sync *s);
/* Of the engine's transactions; its argument is s. */
extern const struct apply_watch bounded_watch;

/* What is applied next is of this entry, in the open transaction: does it stay, or only pass? */
void bounded_apply(struct sync *s, const struct sync_entry *e);

/* Is there room for one more topic, of which the store has so many? */
bool bounded_has_room(const struct sync *s, uint64_t topics);
/* May a record of the class be missing from the store? */
bool bounded_lacks(const struct sync *s, enum shmeta_class cls);
/* Most entries of one batch: what was just loaded for a reader is not to leave before it has
 * looked. */
size_t bounded_batch(const struct sync *s, size_t most);

/* How an entry of a batch is read. */
enum bounded_plan {
	BOUNDED_READ,        /* as in mirror mode                                       */
	BOUNDED_ROW,         /* the topic's row alone                                   */
	BOUNDED_WHOLE,       /* all of the partition                                    */
	BOUNDED_SKIP,        /* not at all: it is not resident, and nobody asks for it  */
	BOUNDED_TOO_LARGE,   /* not at all: it was read a moment ago and did not fit    */
	BOUNDED_AS_TOPIC,    /* the row of its topic in its place                       */
	BOUNDED_BEHIND_TOPIC /* again, behind the row of its topic                      */
};
/* ERR_*: *ret is not set. */
enum shmeta_status bounded_plan(struct sync *s, struct shmeta__txn *txn, struct sync_entry *e, enum bounded_plan *ret,
                                struct shmeta_err *err);
/* Forget the entry unless somebody waits for it. */
bool bounded_skip(struct sync *s, struct sync_entry *e);
/* How many bytes the partition had when it was read a moment ago and did not fit; 0: not known. Its
 * key is as in resident_set.h. */
uint64_t bounded_too_large(struct sync *s, uint64_t key);
uint64_t bounded_refused_bytes(const struct sync *s); /* what it has answered last */
/* Forget the entry, of which bounded_plan() has just said that it is too large, and tell whoever
 * waits for it. */
void bounded_refuse(struct sync *s, struct sync_entry *e);

/* Behind what was applied, in the open transaction: what readers asked for in vain is noted, and
 * what is there is not absent. */
enum shmeta_status bounded_note_absences(struct batch *b, struct shmeta_err *err);
/* Everything is about to be read: nothing is known to be absent. In the open transaction of a. */
enum shmeta_status bounded_forget_absences(struct sync *s, struct apply *a, struct shmeta_err *err);

#endif
