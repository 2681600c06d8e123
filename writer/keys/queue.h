/* SPDX-License-Identifier: Apache-2.0
 * Keys that wait: what the feed names and what readers ask for, coalesced.
 *
 * One entry stands for everything that is wanted of one topic, partition or class: later requests
 * join it while it waits, and also while it is being fetched when the read that is under way covers
 * them (their answer says when that read began). What the feed names never joins a read that is
 * under way, because that read may have missed it.
 *
 * Everything here is called with the queue's lock held, unless its comment says otherwise. */
#ifndef SHMETA_WRITER_KEYS_QUEUE_H
#define SHMETA_WRITER_KEYS_QUEUE_H

#include "base/str.h"
#include "writer/keys/absent.h"
#include "writer/keys/askers.h"
#include "writer/keys/refresh.h"

enum { RANGES_MAX = 4 };

/* in the order of applying */
enum entry_kind { ENTRY_TOPIC, ENTRY_PART, ENTRY_AGENT, ENTRY_OFFSET, ENTRY_LEASE };

struct range {
	uint64_t from, to;
};

/* What is wanted of a key. */
struct want {
	bool feed;           /* the feed named it: it must be applied before stamps move */
	bool deleted;        /* TOPIC: what is there now is another incarnation */
	uint64_t born_since; /* deleted: topic numbers given out since the feed was asked before
                              * that */
	bool repair;         /* nothing but a comparison wants it: what differs is a repair */
	bool pass;           /* a pass does not end before it is done with */
	bool row_only;       /* TOPIC: its row, not its partitions, is enough for all who want it */
	bool segments;       /* TOPIC: with all segments of all partitions */
	bool topic_asked;    /* the topic that it names is read with it or before it. TOPIC: for
                              * another key's sake */
	bool missed;         /* a lookup met it unknown, and nobody waits for it */
	bool due;            /* it is used, and its time to live is nearly over */
	bool no_fill, fill;  /* readers asked with SHMETA_READ_NO_FILL; without it: what has to be
                              * loaded is kept as any other */
	bool whole;          /* PART: all segments; without it, the row, the segments beyond the
                              * last one, and the ranges */
	uint32_t range_count;
	struct range range[RANGES_MAX];
};

/* docs/states.md has the moves; entry_move() makes them. */
enum entry_state {
	ENTRY_NEW,
	ENTRY_ASKED,     /* it waits, and readers or the engine want it */
	ENTRY_THROTTLED, /* it waits for a token of the one user who wants it */
	ENTRY_NAMED,     /* it waits, and the feed named it; others may want it, too */
	ENTRY_PASS,      /* it waits, and only a pass wants it, which takes it when others have had
                          * their turn */
	ENTRY_FETCHED,   /* it is being fetched; another one of the same identity may wait beside
                          * it */
	ENTRY_GONE
};

struct sync_entry {
	struct sync_entry *chain;       /* of the hash table */
	struct sync_entry *prev, *next; /* of the list that its state says */
	uint64_t hash;
	uint64_t since_ns; /* when it was made */
	enum entry_kind kind;
	enum entry_state state;
	bool row_only; /* FETCHED, TOPIC: the topic's row is read without its partitions */
	bool absent;   /* FETCHED, one OFFSET or LEASE: the source does not have it */
	bool all;      /* FETCHED: everything below it is being read; the rest of want is then the
                   * engine's thread's alone */
	uint32_t partition_id;
	struct want want;
	struct asker *asker; /* THROTTLED: it waits for a token of this user */
	struct sync_ticket *tickets;
	struct shmeta_str tenant, topic, name; /* in text */
	char text[];
};

struct sync_queue {
	pthread_mutex_t lock;
	struct sync_entry **slot; /* hash table by identity */
	size_t slots, used;
	struct sync_list named, asked, pass; /* by their states; those THROTTLED are in their
                                              * askers' lists */
	size_t tickets;                      /* of all entries */
	size_t feed_keys;                    /* entries that the feed named, waiting or being
                                              * fetched */
	size_t pass_keys;                    /* entries that a pass waits for */
	struct sync_ticket *list_tickets;    /* they want the list in step: where a feed tells in
                                              * time, it is asked */
	struct sync_ticket *pass_tickets;    /* they want everything compared */
	struct sync_ticket *refused;
	uint64_t requests, coalesced; /* counters; the thread collects them */
	uint32_t keys_max;            /* refresh_queue_max */
	uint64_t bytes_max;           /* refresh_queue_bytes */
	struct askers askers;         /* and what waits for a token of theirs */
	uint32_t user_share;
	struct absent absent;
	uint64_t absent_answers; /* counter */
};

struct identity { /* of an entry; strings are borrowed */
	enum entry_kind kind;
	uint32_t partition_id;
	struct shmeta_str tenant, topic, name;
	uint64_t hash;
};

/* Pure. */
bool entry_may_move(enum entry_state from, enum entry_state to);
enum entry_kind queue_kind(enum shmeta_class cls);
struct identity queue_identity(enum entry_kind kind, struct shmeta_str tenant, struct shmeta_str topic,
                               uint32_t partition_id);
struct identity queue_identity_of_class(enum entry_kind kind);
/* Of what the feed or a write names: kinds above ENTRY_PART may be one key or the whole class. */
struct identity queue_identity_of_key(const struct backend_key *key);
bool queue_is_class(const struct sync_entry *e);
struct identity queue_identity_of(const struct sync_entry *e);
uint64_t queue_name_hash(struct shmeta_str tenant, struct shmeta_str topic);
void queue_add_range(struct want *w, uint64_t from, uint64_t to);
void queue_merge_want(struct want *into, const struct want *from);
void queue_move_tickets(struct sync_ticket **to, struct sync_ticket **from);

/* A waiting entry of this identity that wants this, too. NULL: no memory. */
struct sync_entry *queue_want(struct sync_queue *q, const struct identity *id, const struct want *want);
/* The same, with the lock taken here. false: no memory. */
bool queue_want_now(struct sync *s, const struct identity *id, const struct want *want);
/* How many of the keys that a pass wants are not done with. Takes the lock. */
size_t queue_pass_keys(struct sync *s);
/* Take up to `most` entries out of the lists, to be fetched. What the feed named goes first, but a
 * quarter is left to what was asked, or, without asked, nothing. */
size_t queue_take(struct sync_queue *q, struct sync_entry **ret, size_t most, bool asked);
/* The same of those that only a pass wants, and then of those that it wants, too: they may wait for
 * a token. */
size_t queue_take_pass(struct sync_queue *q, struct sync_entry **ret, size_t most);
/* Take it out of the table and free it; its tickets have been taken before. */
void queue_forget(struct sync_queue *q, struct sync_entry *e);

/* How somebody within the engine hears that a key was read. The engine's thread, without the
 * queue's lock. */
typedef void queue_answered_fn(struct sync *s, void *arg, enum shmeta_status status, const char *sentence,
                               uint64_t txn);
/* Have it read, by a read that begins after this call, and call answered(). Takes the lock. false:
 * no memory. */
bool queue_ask(struct sync *s, const struct identity *id, const struct want *want, queue_answered_fn *answered,
               void *arg);
bool queue_ask_list(struct sync *s, queue_answered_fn *answered,
                    void *arg); /* the same for everything, by a full pass */

/* Have it read because a lookup of this user met it unknown: nobody waits for it. Takes the lock.
 * false: there is no room for it, or the user has no token now. */
bool queue_missed(struct sync *s, const struct backend_key *key, uint32_t uid);

/* Have it read because it is used, and its time to live is nearly over; all of it. Takes the lock.
 * Nothing happens where there is no room for it. */
void queue_due(struct sync *s, const struct identity *id);

/* What was found absent is asked for again. Takes the lock. */
void queue_forget_absences(struct sync *s);

/* The queue's counters as they are now. Takes the lock; any thread. */
void queue_count(struct sync *s, struct sync_counters *ret);

/* Answer and free tickets. Without the lock: the host may ask for more. */
void queue_answer(struct sync *s, struct sync_ticket *tickets, enum shmeta_status status, const char *sentence,
                  uint64_t txn, uint64_t synced_at_ns);

#endif
