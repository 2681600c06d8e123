/* SPDX-License-Identifier: Apache-2.0
 * Keys: what the feed names and what readers ask for, coalesced, fetched in bulk, applied in one commit, answered.
 *
 *   key named or asked for -> entry (waiting) -> batch: planned, fetched from one consistent read -> [hook] -> applied -> gone
 *                                ^------------- promoted, overtaken, or not applied: waits again ------'
 *
 * One entry stands for everything that is wanted of one topic, partition or class: later requests join it while it waits, and
 * also while it is being fetched when the read that is under way covers them (their answer says when that read began). What the
 * feed names never joins a read that is under way, because that read may have missed it.
 *
 * high_watermark and segments of a partition always come from the same read and go into the same commit: a partition's row is
 * never fetched without the segments beyond the last one that the store has. A topic's row brings the set of its partitions, not
 * their watermarks. */
#include <stdio.h>
#include <syslog.h>

#include "writer/engine.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
	RANGES_MAX = 4,
	TICKETS_PER_KEY = 64, /* refresh_queue_max bounds the keys; this many times that bounds the tickets */
	BATCHES_PER_ROUND = 64,
	FEED_KEYS_MIN = 100000, /* so many changed keys, or refresh_queue_max if that is more: a full pass is cheaper */
	ORPHAN_TRIES = 3
};

struct sync_ticket {
	struct sync_ticket *next;
	uint64_t ticket;
};

enum entry_kind { ENTRY_TOPIC, ENTRY_PART, ENTRY_AGENT, ENTRY_OFFSET, ENTRY_LEASE }; /* in the order of applying */

struct range {
	uint64_t from, to;
};

/* What is wanted of a key. */
struct want {
	bool feed;           /* the feed named it: it must be applied before stamps move */
	bool deleted;        /* TOPIC: what is there now is another incarnation */
	uint64_t born_since; /* deleted: topic numbers given out since the feed was asked before that */
	bool segments;       /* TOPIC: with all segments of all partitions */
	bool whole; /* PART: all segments; without it, the row, the segments beyond the last one, and the ranges */
	uint32_t range_count;
	struct range range[RANGES_MAX];
};

struct sync_entry {
	struct sync_entry *chain;       /* of the hash table */
	struct sync_entry *prev, *next; /* of the waiting list */
	uint64_t hash;
	enum entry_kind kind;
	bool flying; /* being fetched; a waiting entry of the same identity may exist beside it */
	uint32_t partition_id;
	struct want want;
	struct sync_ticket *tickets;
	struct shmeta_str tenant, topic; /* in text */
	char text[];
};

/* ---- the queue, under its lock -------------------------------------------------------------------------------------------- */

struct identity {
	enum entry_kind kind;
	uint32_t partition_id;
	struct shmeta_str tenant, topic;
	uint64_t hash;
};

static uint64_t name_hash(struct shmeta_str tenant, struct shmeta_str topic)
{
	return XXH3_64bits_withSeed(topic.data, topic.bytes, XXH3_64bits(tenant.data, tenant.bytes));
}

static struct identity identity(enum entry_kind kind, struct shmeta_str tenant, struct shmeta_str topic,
                                uint32_t partition_id)
{
	struct identity id = {kind, partition_id, tenant, topic, 0};

	if (kind != ENTRY_PART)
		id.partition_id = 0;
	if (kind > ENTRY_PART)
		id.tenant = id.topic = (struct shmeta_str){"", 0};
	id.hash = name_hash(id.tenant, id.topic) * 31 + (uint64_t)kind * 0x9E3779B97F4A7C15u + id.partition_id;
	return id;
}

static bool str_equal(struct shmeta_str a, struct shmeta_str b)
{
	return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

static struct sync_entry **slot_of(struct sync_queue *q, uint64_t hash)
{
	return &q->slot[(size_t)(hash * 0x9E3779B97F4A7C15u >> 20) & (q->slots - 1)];
}

static struct sync_entry *find(struct sync_queue *q, const struct identity *id, bool flying)
{
	for (struct sync_entry *e = *slot_of(q, id->hash); e != NULL; e = e->chain)
		if (e->hash == id->hash && e->flying == flying && e->kind == id->kind &&
		    e->partition_id == id->partition_id && str_equal(e->topic, id->topic) &&
		    str_equal(e->tenant, id->tenant))
			return e;
	return NULL;
}

static void grow(struct sync_queue *q)
{
	size_t slots = q->slots * 2;
	struct sync_entry **bigger = calloc(slots, sizeof *bigger), **old = q->slot;
	size_t old_slots = q->slots;

	if (bigger == NULL)
		return; /* longer chains, nothing worse */
	q->slot = bigger;
	q->slots = slots;
	for (size_t i = 0; i < old_slots; i++)
		for (struct sync_entry *e = old[i], *next; e != NULL; e = next) {
			struct sync_entry **slot = slot_of(q, e->hash);

			next = e->chain;
			e->chain = *slot;
			*slot = e;
		}
	free(old);
}

static void list_append(struct sync_queue *q, struct sync_entry *e)
{
	e->prev = q->last;
	e->next = NULL;
	*(q->last != NULL ? &q->last->next : &q->first) = e;
	q->last = e;
	q->waiting++;
}

static void list_take(struct sync_queue *q, struct sync_entry *e)
{
	*(e->prev != NULL ? &e->prev->next : &q->first) = e->next;
	*(e->next != NULL ? &e->next->prev : &q->last) = e->prev;
	e->prev = e->next = NULL;
	q->waiting--;
}

static struct sync_entry *add(struct sync_queue *q, const struct identity *id)
{
	struct sync_entry *e = calloc(1, sizeof *e + id->tenant.bytes + id->topic.bytes + 1);

	if (e == NULL)
		return NULL;
	if (q->used > q->slots)
		grow(q);
	if (id->tenant.bytes > 0)
		memcpy(e->text, id->tenant.data, id->tenant.bytes);
	if (id->topic.bytes > 0)
		memcpy(e->text + id->tenant.bytes, id->topic.data, id->topic.bytes);
	e->tenant = (struct shmeta_str){e->text, id->tenant.bytes};
	e->topic = (struct shmeta_str){e->text + id->tenant.bytes, id->topic.bytes};
	e->hash = id->hash;
	e->kind = id->kind;
	e->partition_id = id->partition_id;
	struct sync_entry **slot = slot_of(q, e->hash);

	e->chain = *slot;
	*slot = e;
	q->used++;
	list_append(q, e);
	return e;
}

/* Take it out of the table and free it; its tickets have been taken before. */
static void forget(struct sync_queue *q, struct sync_entry *e)
{
	struct sync_entry **p = slot_of(q, e->hash);

	while (*p != e)
		p = &(*p)->chain;
	*p = e->chain;
	q->used--;
	if (!e->flying)
		list_take(q, e);
	if (e->want.feed)
		q->feed_keys--;
	free(e);
}

static void add_range(struct want *w, uint64_t from, uint64_t to)
{
	/* Swallow what it overlaps or touches. */
	for (uint32_t i = 0; i < w->range_count;) {
		struct range *r = &w->range[i];

		if ((to == UINT64_MAX || r->from <= to + 1) && (r->to == UINT64_MAX || from <= r->to + 1)) {
			from = from < r->from ? from : r->from;
			to = to > r->to ? to : r->to;
			*r = w->range[--w->range_count];
			i = 0;
			continue;
		}
		i++;
	}
	if (w->range_count == RANGES_MAX) {
		/* No room: join the two that are nearest to each other. */
		uint32_t best = 0;
		uint64_t least = UINT64_MAX;

		for (uint32_t i = 0; i < RANGES_MAX; i++) {
			const struct range *r = &w->range[i];
			uint64_t gap = r->from > to ? r->from - to : from - r->to;

			if (gap < least) {
				least = gap;
				best = i;
			}
		}
		struct range r = w->range[best];

		w->range[best] = w->range[--w->range_count];
		add_range(w, from < r.from ? from : r.from, to > r.to ? to : r.to);
		return;
	}
	w->range[w->range_count++] = (struct range){from, to};
}

static void merge_want(struct want *into, const struct want *from)
{
	into->feed |= from->feed;
	into->deleted |= from->deleted;
	into->born_since = from->born_since > into->born_since ? from->born_since : into->born_since;
	into->segments |= from->segments;
	into->whole |= from->whole;
	for (uint32_t i = 0; i < from->range_count; i++)
		add_range(into, from->range[i].from, from->range[i].to);
}

/* A waiting entry of this identity that wants this, too. NULL: no memory. */
static struct sync_entry *want_key(struct sync_queue *q, const struct identity *id, const struct want *want)
{
	struct sync_entry *e = find(q, id, false);
	bool had_feed;

	if (e == NULL)
		e = add(q, id);
	if (e == NULL)
		return NULL;
	had_feed = e->want.feed;
	merge_want(&e->want, want);
	if (e->want.feed && !had_feed)
		q->feed_keys++;
	return e;
}

static void move_tickets(struct sync_ticket **to, struct sync_ticket **from)
{
	while (*to != NULL)
		to = &(*to)->next;
	*to = *from;
	*from = NULL;
}

static bool covers(const struct sync_entry *flying, const struct want *want)
{
	return flying->kind != ENTRY_PART || flying->want.whole || !want->whole;
}

static enum entry_kind kind_of(enum shmeta_class cls)
{
	switch (cls) {
	case SHMETA_CLASS_TOPIC:
		return ENTRY_TOPIC;
	case SHMETA_CLASS_AGENT:
		return ENTRY_AGENT;
	case SHMETA_CLASS_LEASE:
		return ENTRY_LEASE;
	case SHMETA_CLASS_OFFSET:
		return ENTRY_OFFSET;
	case SHMETA_CLASS_PARTITION:
	case SHMETA_CLASS_SEGMENT:
	case SHMETA_CLASS_LIST:
	case SHMETA_CLASS_COUNT:
		break;
	}
	return ENTRY_PART;
}

/* Called from the loop's thread. */
enum shmeta_status sync_refresh(struct sync *s, const struct backend_key *key, uint64_t ticket)
{
	struct sync_queue *q = &s->queue;
	struct sync_ticket *t = calloc(1, sizeof *t);
	enum shmeta_status status = SHMETA_OK;
	bool wake = false;

	if (t == NULL)
		return SHMETA_ERR_BUSY;
	t->ticket = ticket;
	pthread_mutex_lock(&q->lock);
	q->requests++;
	if (q->stopping || q->tickets >= (size_t)q->keys_max * TICKETS_PER_KEY) {
		free(t);
		status = SHMETA_ERR_BUSY;
	} else if ((unsigned)key->cls >= SHMETA_CLASS_COUNT ||
	           (kind_of(key->cls) <= ENTRY_PART && key->cls != SHMETA_CLASS_LIST &&
	            (shmeta__name_error(key->topic.data, key->topic.bytes, SHMETA_NAME_MAX) != NULL ||
	             shmeta__name_error(key->tenant.data, key->tenant.bytes, SHMETA_TENANT_MAX) != NULL))) {
		t->next = q->refused;
		q->refused = t;
		q->tickets++;
		wake = true;
	} else if (key->cls == SHMETA_CLASS_LIST) {
		if (q->list_tickets != NULL)
			q->coalesced++;
		t->next = q->list_tickets;
		q->list_tickets = t;
		q->tickets++;
		wake = true;
	} else {
		struct identity id = identity(kind_of(key->cls), key->tenant, key->topic, key->partition_id);
		/* A partition's stamp speaks of all of it, so all of it is read. */
		struct want want = {.whole = id.kind == ENTRY_PART, .segments = key->with_segments != 0};
		struct sync_entry *e = find(q, &id, false), *flying = find(q, &id, true);

		if (e == NULL && flying != NULL && covers(flying, &want))
			e = flying;
		if (e != NULL) {
			q->coalesced++;
			if (!e->flying)
				merge_want(&e->want, &want);
		} else if (q->waiting >= q->feed_keys + q->keys_max) {
			status = SHMETA_ERR_BUSY;
		} else {
			e = want_key(q, &id, &want);
			wake = true;
		}
		if (e != NULL) {
			t->next = e->tickets;
			e->tickets = t;
			q->tickets++;
		} else {
			free(t);
			status = SHMETA_ERR_BUSY;
		}
	}
	pthread_mutex_unlock(&q->lock);
	if (wake)
		sync_wake(s);
	return status;
}

enum shmeta_status refresh_init(struct sync *s, struct shmeta_err *err)
{
	s->queue.slots = 1024;
	s->queue.slot = calloc(s->queue.slots, sizeof *s->queue.slot);
	if (s->queue.slot == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the refresh queue");
	pthread_mutex_init(&s->queue.lock, NULL);
	return SHMETA_OK;
}

static void free_tickets(struct sync_ticket *t)
{
	for (struct sync_ticket *next; t != NULL; t = next) {
		next = t->next;
		free(t);
	}
}

void refresh_free(struct sync *s)
{
	struct sync_queue *q = &s->queue;

	if (q->slot == NULL)
		return;
	for (size_t i = 0; i < q->slots; i++)
		for (struct sync_entry *e = q->slot[i], *next; e != NULL; e = next) {
			next = e->chain;
			free_tickets(e->tickets);
			free(e);
		}
	free_tickets(q->list_tickets);
	free_tickets(q->refused);
	free(q->slot);
	q->slot = NULL;
	free(s->floor);
	pthread_mutex_destroy(&q->lock);
}

bool refresh_pending_feed(struct sync *s)
{
	pthread_mutex_lock(&s->queue.lock);
	bool pending = s->queue.feed_keys > 0;

	pthread_mutex_unlock(&s->queue.lock);
	return pending;
}

bool refresh_waiting(struct sync *s)
{
	pthread_mutex_lock(&s->queue.lock);
	bool waiting = s->queue.waiting > 0;

	pthread_mutex_unlock(&s->queue.lock);
	return waiting;
}

bool refresh_list_waiting(struct sync *s)
{
	pthread_mutex_lock(&s->queue.lock);
	bool waiting = s->queue.list_tickets != NULL;

	pthread_mutex_unlock(&s->queue.lock);
	return waiting;
}

/* Answer without the lock: the host may ask for more. Frees the tickets. */
static void answer(struct sync *s, struct sync_ticket *tickets, enum shmeta_status status, const char *sentence,
                   uint64_t txn, uint64_t synced_at_ns)
{
	size_t count = 0;

	for (struct sync_ticket *t = tickets; t != NULL; t = t->next, count++)
		s->host.answer(s->host.arg, t->ticket, status, sentence, txn, s->board->generation, synced_at_ns);
	free_tickets(tickets);
	pthread_mutex_lock(&s->queue.lock);
	s->queue.tickets -= count;
	pthread_mutex_unlock(&s->queue.lock);
}

void refresh_answer_refused(struct sync *s)
{
	pthread_mutex_lock(&s->queue.lock);
	struct sync_ticket *refused = s->queue.refused;

	s->queue.refused = NULL;
	pthread_mutex_unlock(&s->queue.lock);
	answer(s, refused, SHMETA_ERR_INVALID_ARGUMENT,
	       "a refresh names a topic of 1..249 bytes of UTF-8 without control characters, or a whole class", 0, 0);
}

struct sync_ticket *refresh_take_list(struct sync *s)
{
	pthread_mutex_lock(&s->queue.lock);
	struct sync_ticket *tickets = s->queue.list_tickets;

	s->queue.list_tickets = NULL;
	pthread_mutex_unlock(&s->queue.lock);
	return tickets;
}

void refresh_return_list(struct sync *s, struct sync_ticket *tickets)
{
	pthread_mutex_lock(&s->queue.lock);
	move_tickets(&s->queue.list_tickets, &tickets);
	pthread_mutex_unlock(&s->queue.lock);
}

void refresh_answer_list(struct sync *s, struct sync_ticket *tickets, enum shmeta_status status, const char *sentence,
                         uint64_t synced_at_ns)
{
	answer(s, tickets, status, sentence, status == SHMETA_OK ? sync_committed(s) : 0, synced_at_ns);
}

void refresh_answer_all(struct sync *s, enum shmeta_status status, const char *sentence)
{
	struct sync_queue *q = &s->queue;
	struct sync_ticket *tickets = NULL;

	pthread_mutex_lock(&q->lock);
	move_tickets(&tickets, &q->list_tickets);
	move_tickets(&tickets, &q->refused);
	for (struct sync_entry *e = q->first, *next; e != NULL; e = next) {
		next = e->next;
		while (e->tickets != NULL) {
			struct sync_ticket *t = e->tickets;

			e->tickets = t->next;
			t->next = tickets;
			tickets = t;
		}
		if (!e->want.feed)
			forget(q, e);
	}
	pthread_mutex_unlock(&q->lock);
	answer(s, tickets, status, sentence, 0, 0);
}

void refresh_forget_feed(struct sync *s)
{
	struct sync_queue *q = &s->queue;

	pthread_mutex_lock(&q->lock);
	for (struct sync_entry *e = q->first, *next; e != NULL; e = next) {
		next = e->next;
		if (!e->want.feed)
			continue;
		if (e->tickets == NULL) {
			forget(q, e);
			continue;
		}
		e->want.feed = false;
		q->feed_keys--;
	}
	pthread_mutex_unlock(&q->lock);
}

/* ---- the feed -------------------------------------------------------------------------------------------------------------- */

struct poll {
	struct sync *s;
	uint64_t born_since;
	bool list, no_memory;
};

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	struct poll *poll = arg;
	struct sync *s = poll->s;
	struct want want = {.feed = true};

	s->counters.changes++;
	if (key->cls == SHMETA_CLASS_LIST) {
		poll->list = true;
		return SHMETA_OK;
	}
	struct identity id = identity(kind_of(key->cls), key->tenant, key->topic, key->partition_id);

	if (id.kind <= ENTRY_PART &&
	    (key->topic.bytes == 0 || key->topic.bytes > SHMETA_NAME_MAX || key->tenant.bytes > SHMETA_TENANT_MAX)) {
		/* Such a topic is poison; the store does not have it. */
		sync_poisoned(s, key->cls, "the change feed names a topic whose name is not 1..249 bytes long");
		return SHMETA_OK;
	}
	want.deleted = key->cls == SHMETA_CLASS_TOPIC && key->deleted;
	/* A reader's refresh may have read this incarnation between the two polls: then the delete is old news. */
	want.born_since = want.deleted ? poll->born_since : 0;
	want.segments = want.deleted || (key->cls == SHMETA_CLASS_TOPIC && key->with_segments);
	if (key->cls == SHMETA_CLASS_SEGMENT)
		add_range(&want, key->from, key->to > SYNC_LAST_OFFSET ? SYNC_LAST_OFFSET : key->to);

	pthread_mutex_lock(&s->queue.lock);
	if (want_key(&s->queue, &id, &want) == NULL)
		poll->no_memory = true;
	pthread_mutex_unlock(&s->queue.lock);
	return SHMETA_OK;
}

bool refresh_note_own(struct sync *s, const struct backend_key *key)
{
	/* Every incarnation that has a number by now is older than the delete. */
	struct poll poll = {.s = s, .born_since = shmeta__store_counters(s->store)->next_topic_id};

	(void)on_changed(&poll, key);
	if (poll.list)
		s->list_dirty = s->reconcile_asked = true;
	return !poll.no_memory;
}

static void poll_poison(void *arg, enum shmeta_class cls, const char *sentence)
{
	sync_poisoned(((struct poll *)arg)->s, cls, sentence);
}

static void poll_again(struct sync *s, uint64_t now, bool changed)
{
	uint64_t least = s->options.poll_min_ms * SYNC_MS, most = s->options.poll_max_ms * SYNC_MS;

	if (changed) {
		/* Busy: stay quick for a while, so that the next change is seen as soon as this one. */
		s->poll_every_ns = least;
		s->poll_busy_until_ns = now + most;
	} else if (now >= s->poll_busy_until_ns) {
		s->poll_every_ns += s->poll_every_ns / 2 + 1;
	}
	if (s->poll_every_ns < least)
		s->poll_every_ns = least;
	if (s->poll_every_ns > most)
		s->poll_every_ns = most;
	s->poll_due_ns = now + s->poll_every_ns;
}

void refresh_poll(struct sync *s)
{
	struct poll poll = {.s = s, .born_since = s->born_since};
	const struct backend_sink sink = {.arg = &poll, .changed = on_changed, .poison = poll_poison};
	struct backend_error err = {0};
	uint64_t began = sync_now(s);
	int changed = 0;

	uint64_t next_topic_id = shmeta__store_counters(s->store)->next_topic_id;

	s->counters.polls++;
	enum shmeta_status status = s->ops->changes(s->backend, &sink, &changed, &err);

	if (status != SHMETA_OK) {
		sync_source_failed(s, status, err.text);
		return;
	}
	sync_source_works(s);
	s->born_since = next_topic_id;
	s->polled_at_ns = began;
	s->feed_at_ns = began;
	poll_again(s, began, changed != 0);
	if (poll.list || poll.no_memory) {
		s->list_dirty = s->reconcile_asked = true;
		/* What changed is not known by name, but the hint classes are small. */
		refresh_hints(s);
	}

	pthread_mutex_lock(&s->queue.lock);
	size_t keys = s->queue.feed_keys;

	pthread_mutex_unlock(&s->queue.lock);
	if (keys > (s->options.refresh_queue_max > FEED_KEYS_MIN ? s->options.refresh_queue_max : FEED_KEYS_MIN)) {
		sync_log(s, LOG_INFO, "feed_overflow", "%zu keys have changed: reading everything instead", keys);
		s->list_dirty = s->reconcile_asked = true;
		refresh_forget_feed(s);
	}
}

void refresh_hints(struct sync *s)
{
	static const enum entry_kind kinds[] = {ENTRY_AGENT, ENTRY_OFFSET, ENTRY_LEASE};
	const struct want want = {0};

	pthread_mutex_lock(&s->queue.lock);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct identity id = identity(kinds[i], (struct shmeta_str){"", 0}, (struct shmeta_str){"", 0}, 0);

		want_key(&s->queue, &id, &want);
	}
	pthread_mutex_unlock(&s->queue.lock);
}

/* ---- a batch: entries taken from the queue, and what the source answered ----------------------------------------------------- */

struct got_part {
	struct shmeta_partition record;
	size_t row_at, row_count;
};

struct got_small {
	enum { GOT_AGENT, GOT_GROUP, GOT_OFFSET, GOT_LEASE } kind;
	struct shmeta_str tenant, topic;
	union {
		struct shmeta_agent agent;
		struct shmeta_group group;
		struct shmeta_committed_offset offset;
		struct shmeta_lease lease;
	};
};

struct got { /* one key */
	struct sync_entry *entry;
	bool found, has_topic;
	struct shmeta_topic topic;
	size_t part_at, part_count, small_at, small_count;
};

struct batch {
	struct sync *s;
	struct sync_entry **entry; /* in the order of applying */
	size_t entry_count;
	struct backend_key *key;
	struct got *got;
	size_t key_count, key_capacity;
	struct got_part *part;
	size_t part_count, part_capacity;
	struct shmeta_segment *row;
	size_t row_count, row_capacity;
	struct got_small *small;
	size_t small_count, small_capacity;
	struct arena arena;
	size_t at; /* key being answered */
	bool in_key;
	enum shmeta_status failed;
	uint64_t read_at_ns, sequence;
};

static bool room(void **array, size_t *capacity, size_t count, size_t bytes)
{
	if (count < *capacity)
		return true;
	size_t more = *capacity == 0 ? 64 : *capacity * 2;
	void *bigger = reallocarray(*array, more, bytes);

	if (bigger == NULL)
		return false;
	*array = bigger;
	*capacity = more;
	return true;
}

static void batch_free(struct batch *b)
{
	arena_free(&b->arena);
	free(b->entry);
	free(b->key);
	free(b->got);
	free(b->part);
	free(b->row);
	free(b->small);
}

static enum shmeta_status batch_fail(struct batch *b, enum shmeta_status status)
{
	b->failed = status;
	return status;
}

static enum shmeta_status got_key_begin(void *arg, const struct backend_key *key)
{
	struct batch *b = arg;

	(void)key;
	if (b->in_key || b->at >= b->key_count)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	b->in_key = true;
	b->got[b->at].part_at = b->part_count;
	b->got[b->at].small_at = b->small_count;
	return SHMETA_OK;
}

static enum shmeta_status got_key_end(void *arg, const struct backend_key *key, int found)
{
	struct batch *b = arg;

	(void)key;
	if (!b->in_key)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	b->in_key = false;
	b->got[b->at].found = found != 0;
	b->got[b->at].part_count = b->part_count - b->got[b->at].part_at;
	b->got[b->at].small_count = b->small_count - b->got[b->at].small_at;
	b->at++;
	return SHMETA_OK;
}

static bool copy_bytes(struct arena *arena, const void *data, size_t bytes, const void **ret)
{
	struct shmeta_str copy;

	if (arena_str(arena, (struct shmeta_str){data, bytes}, &copy) != 0)
		return false;
	*ret = copy.data;
	return true;
}

static enum shmeta_status got_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct batch *b = arg;
	struct got *g = &b->got[b->at];

	(void)tenant;
	if (!b->in_key)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	g->topic = *topic;
	g->has_topic = true;
	if (arena_str(&b->arena, topic->name, &g->topic.name) != 0 ||
	    arena_str(&b->arena, topic->cleanup_policy, &g->topic.cleanup_policy) != 0 ||
	    !copy_bytes(&b->arena, topic->config.data, topic->config.bytes, &g->topic.config.data))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status got_partition(void *arg, const struct shmeta_partition *partition)
{
	struct batch *b = arg;

	if (!b->in_key)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	if (!room((void **)&b->part, &b->part_capacity, b->part_count, sizeof *b->part))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	b->part[b->part_count++] = (struct got_part){.record = *partition, .row_at = b->row_count};
	return SHMETA_OK;
}

static enum shmeta_status got_segment(void *arg, const struct shmeta_segment *segment)
{
	struct batch *b = arg;
	char text[512];
	const char *wrong = shmeta__segment_error(segment, text, sizeof text);

	if (!b->in_key || b->part_count == b->got[b->at].part_at)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	if (wrong != NULL) {
		sync_poisoned(b->s, SHMETA_CLASS_SEGMENT, wrong);
		return SHMETA_OK;
	}
	struct got_part *part = &b->part[b->part_count - 1];

	if (part->row_count > 0 && segment->base_offset <= b->row[b->row_count - 1].base_offset) {
		snprintf(text, sizeof text, "segment %llu of partition %u comes after segment %llu",
		         (unsigned long long)segment->base_offset, part->record.partition_id,
		         (unsigned long long)b->row[b->row_count - 1].base_offset);
		sync_poisoned(b->s, SHMETA_CLASS_SEGMENT, text);
		return SHMETA_OK;
	}
	if (!room((void **)&b->row, &b->row_capacity, b->row_count, sizeof *b->row))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	struct shmeta_segment *row = &b->row[b->row_count];

	*row = *segment;
	if (arena_str(&b->arena, segment->id, &row->id) != 0 ||
	    arena_str(&b->arena, segment->s3_bucket, &row->s3_bucket) != 0 ||
	    arena_str(&b->arena, segment->s3_key, &row->s3_key) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	b->row_count++;
	part->row_count++;
	return SHMETA_OK;
}

static struct got_small *got_small(struct batch *b, int kind, struct shmeta_str tenant, struct shmeta_str topic)
{
	if (!b->in_key || !room((void **)&b->small, &b->small_capacity, b->small_count, sizeof *b->small))
		return NULL;
	struct got_small *small = &b->small[b->small_count];

	memset(small, 0, sizeof *small);
	small->kind = kind;
	if (arena_str(&b->arena, tenant, &small->tenant) != 0 || arena_str(&b->arena, topic, &small->topic) != 0)
		return NULL;
	b->small_count++;
	return small;
}

static enum shmeta_status got_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct batch *b = arg;
	struct got_small *small = got_small(b, GOT_AGENT, tenant, (struct shmeta_str){"", 0});

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->agent = *agent;
	if (arena_str(&b->arena, agent->agent_id, &small->agent.agent_id) != 0 ||
	    arena_str(&b->arena, agent->address, &small->agent.address) != 0 ||
	    arena_str(&b->arena, agent->availability_zone, &small->agent.availability_zone) != 0 ||
	    arena_str(&b->arena, agent->agent_group, &small->agent.agent_group) != 0 ||
	    !copy_bytes(&b->arena, agent->metadata.data, agent->metadata.bytes, &small->agent.metadata.data))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status got_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct batch *b = arg;
	struct got_small *small = got_small(b, GOT_GROUP, tenant, (struct shmeta_str){"", 0});

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->group = *group;
	if (arena_str(&b->arena, group->group_id, &small->group.group_id) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status got_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                     const struct shmeta_committed_offset *offset)
{
	struct batch *b = arg;
	struct got_small *small = got_small(b, GOT_OFFSET, tenant, topic);

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->offset = *offset;
	if (arena_str(&b->arena, offset->group_id, &small->offset.group_id) != 0 ||
	    arena_str(&b->arena, offset->metadata, &small->offset.metadata) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status got_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_lease *lease)
{
	struct batch *b = arg;
	struct got_small *small = got_small(b, GOT_LEASE, tenant, topic);

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->lease = *lease;
	if (arena_str(&b->arena, lease->leader_agent_id, &small->lease.leader_agent_id) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static void got_poison(void *arg, enum shmeta_class cls, const char *sentence)
{
	sync_poisoned(((struct batch *)arg)->s, cls, sentence);
}

static int compare_str(struct shmeta_str a, struct shmeta_str b)
{
	size_t least = a.bytes < b.bytes ? a.bytes : b.bytes;
	int order = least == 0 ? 0 : memcmp(a.data, b.data, least);

	return order != 0 ? order : a.bytes < b.bytes ? -1 : a.bytes > b.bytes;
}

static int compare_entry(const void *a, const void *b)
{
	const struct sync_entry *x = *(struct sync_entry *const *)a, *y = *(struct sync_entry *const *)b;
	int order;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	order = compare_str(x->tenant, y->tenant);
	if (order == 0)
		order = compare_str(x->topic, y->topic);
	if (order != 0)
		return order;
	return x->partition_id < y->partition_id ? -1 : x->partition_id > y->partition_id;
}

/* Give a flying entry back to the waiting ones; what was asked for meanwhile joins it. Under lock. */
static void wait_again(struct sync *s, struct sync_entry *e, const struct identity *as, const struct want *want)
{
	struct sync_queue *q = &s->queue;
	struct sync_entry *w = want_key(q, as, want);

	if (w == NULL)
		s->list_dirty = s->reconcile_asked = true; /* no memory for one entry: read everything when there is */
	else
		move_tickets(&w->tickets, &e->tickets);
	forget(q, e);
}

static struct identity same_identity(const struct sync_entry *e)
{
	return (struct identity){e->kind, e->partition_id, e->tenant, e->topic, e->hash};
}

/* The topic itself must be read, with everything in it: it is new, or another incarnation. Under lock. */
static void promote(struct sync *s, struct sync_entry *e, bool deleted)
{
	struct want want = {.feed = e->want.feed,
	                    .deleted = deleted || e->want.deleted,
	                    .born_since = e->want.born_since,
	                    .segments = true};
	struct identity id = identity(ENTRY_TOPIC, e->tenant, e->topic, 0);

	wait_again(s, e, &id, &want);
}

/* Drop NULLs that promote() left. */
static void batch_compact(struct batch *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] != NULL)
			b->entry[n++] = b->entry[i];
	b->entry_count = n;
}

static bool add_key(struct batch *b, struct sync_entry *e, enum shmeta_class cls, uint64_t from, uint64_t to)
{
	if (b->key_count == b->key_capacity) {
		size_t more = b->key_capacity == 0 ? 64 : b->key_capacity * 2;
		struct backend_key *key = reallocarray(b->key, more, sizeof *key);

		if (key == NULL)
			return false;
		b->key = key;
		struct got *got = reallocarray(b->got, more, sizeof *got);

		if (got == NULL)
			return false;
		b->got = got;
		b->key_capacity = more;
	}
	b->key[b->key_count] = (struct backend_key){.cls = cls,
	                                            .tenant = e->tenant,
	                                            .topic = e->topic,
	                                            .partition_id = e->partition_id,
	                                            .with_segments = e->want.segments,
	                                            .from = from,
	                                            .to = to};
	b->got[b->key_count] = (struct got){.entry = e};
	b->key_count++;
	return true;
}

/* What to ask of the source for each entry, by what the store has. */
static enum shmeta_status plan(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct shmeta__txn *txn;
	enum shmeta_status status = shmeta__txn_read(s->store, &txn, err);
	bool memory = true;

	if (status != SHMETA_OK)
		return status;
	for (size_t i = 0; i < b->entry_count && status >= 0 && memory; i++) {
		struct sync_entry *e = b->entry[i];
		struct shmeta_topic topic;
		struct shmeta_partition partition;
		uint64_t last = 0, tail = 0;
		bool any = false;

		switch (e->kind) {
		case ENTRY_TOPIC:
			status = apply_topic_get(txn, e->tenant, e->topic, &topic, NULL, err);
			if (status == SHMETA_ABSENT)
				e->want.segments = true;
			memory = add_key(b, e, SHMETA_CLASS_TOPIC, 0, SYNC_LAST_OFFSET);
			continue;
		case ENTRY_AGENT:
			memory = add_key(b, e, SHMETA_CLASS_AGENT, 0, 0);
			continue;
		case ENTRY_OFFSET:
			memory = add_key(b, e, SHMETA_CLASS_OFFSET, 0, 0);
			continue;
		case ENTRY_LEASE:
			memory = add_key(b, e, SHMETA_CLASS_LEASE, 0, 0);
			continue;
		case ENTRY_PART:
			break;
		}
		status = apply_topic_get(txn, e->tenant, e->topic, &topic, NULL, err);
		if (status == SHMETA_ABSENT) {
			pthread_mutex_lock(&s->queue.lock);
			promote(s, e, false);
			pthread_mutex_unlock(&s->queue.lock);
			b->entry[i] = NULL;
			continue;
		}
		if (status == SHMETA_OK)
			status =
				apply_partition_get(txn, topic.topic_id, e->partition_id, &partition, &last, &any, err);
		if (status < 0)
			break;
		if (status == SHMETA_ABSENT)
			e->want.whole = true;
		if (!e->want.whole) {
			/* The row comes with everything beyond the last segment that the store has. */
			tail = any ? last + 1 : 0;
			add_range(&e->want, tail, SYNC_LAST_OFFSET);
			if (e->want.range_count == 1 && e->want.range[0].from == 0)
				e->want.whole = true;
		}
		if (e->want.whole)
			memory = add_key(b, e, SHMETA_CLASS_SEGMENT, 0, SYNC_LAST_OFFSET);
		for (uint32_t r = 0; !e->want.whole && r < e->want.range_count && memory; r++)
			memory = add_key(b, e, SHMETA_CLASS_SEGMENT, e->want.range[r].from, e->want.range[r].to);
	}
	shmeta__txn_abort(txn);
	batch_compact(b);
	if (!memory)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the keys of a refresh");
	return status < 0 ? status : SHMETA_OK;
}

/* Take what waits, up to a batch. */
static size_t take(struct batch *b)
{
	struct sync *s = b->s;
	struct sync_queue *q = &s->queue;
	size_t most = s->options.refresh_batch_keys;

	pthread_mutex_lock(&q->lock);
	if (most > q->waiting)
		most = q->waiting;
	b->entry = most == 0 ? NULL : malloc(most * sizeof *b->entry);
	while (b->entry != NULL && b->entry_count < most) {
		struct sync_entry *e = q->first;

		list_take(q, e);
		e->flying = true;
		b->entry[b->entry_count++] = e;
	}
	pthread_mutex_unlock(&q->lock);
	if (b->entry_count > 0)
		qsort(b->entry, b->entry_count, sizeof *b->entry, compare_entry);
	return b->entry_count;
}

/* ---- the floor (C6) ------------------------------------------------------------------------------------------------------------ */

static void floor_note(struct sync *s, const struct sync_entry *e)
{
	struct sync_floor note = {name_hash(e->tenant, e->topic), s->sequence,
	                          e->kind == ENTRY_PART ? (int64_t)e->partition_id : -1};

	if (s->reads_under_way == 0)
		return;
	if (!room((void **)&s->floor, &s->floor_capacity, s->floor_count, sizeof *s->floor)) {
		/* Cannot remember what is newer: then everything is, as far as the reads under way can know. */
		s->floor_all = s->sequence;
		return;
	}
	s->floor[s->floor_count++] = note;
}

/* Was something of this key applied after the read with this number began? */
static bool overtaken(const struct sync *s, const struct sync_entry *e, uint64_t sequence)
{
	uint64_t topic = name_hash(e->tenant, e->topic);

	if (s->floor_all > sequence)
		return true;
	for (size_t i = s->floor_count; i-- > 0;) {
		const struct sync_floor *f = &s->floor[i];

		if (f->sequence <= sequence)
			break;
		if (f->topic == topic &&
		    (e->kind != ENTRY_PART || f->partition == -1 || f->partition == (int64_t)e->partition_id))
			return true;
	}
	return false;
}

static void read_begins(struct sync *s, struct batch *b)
{
	s->reads_under_way++;
	b->sequence = s->sequence;
	b->read_at_ns = sync_now(s);
}

static void read_ends(struct sync *s)
{
	if (--s->reads_under_way == 0) {
		s->floor_count = 0;
		s->floor_all = 0;
	}
}

/* ---- applying --------------------------------------------------------------------------------------------------------------------- */

static bool class_newer(const struct sync *s, enum shmeta_class cls, uint64_t than_ns)
{
	return shmeta_peek(&s->gen->stamp[cls].synced_at_ns) >= than_ns;
}

/* Readers asked for it, and the class does not already say as much: the record's own stamp moves. */
static bool restamp(struct sync *s, struct sync_entry *e, const struct batch *b)
{
	bool asked;

	if (e->kind == ENTRY_TOPIC ? class_newer(s, SHMETA_CLASS_TOPIC, b->read_at_ns)
	                           : class_newer(s, SHMETA_CLASS_PARTITION, b->read_at_ns) &&
	                                     class_newer(s, SHMETA_CLASS_SEGMENT, b->read_at_ns))
		return false;
	pthread_mutex_lock(&s->queue.lock);
	asked = e->tickets != NULL;
	pthread_mutex_unlock(&s->queue.lock);
	return asked;
}

static enum shmeta_status apply_rows(struct batch *b, const struct got_part *part, uint64_t from, uint64_t to,
                                     struct shmeta_err *err)
{
	return apply_segments(&b->s->apply, from, to, b->row + part->row_at, part->row_count, err);
}

/* Judge a topic's answer before anything of it is applied: without segments it can only be applied to an incarnation, and to
 * partitions, that the store has. */
static enum shmeta_status topic_needs_more(struct batch *b, const struct got *g, bool *ret, struct shmeta_err *err)
{
	struct apply *a = &b->s->apply;
	struct shmeta_topic stored;

	*ret = false;
	if (!g->found || !g->has_topic || g->entry->want.segments)
		return SHMETA_OK;
	enum shmeta_status status = apply_topic_get(a->txn, g->entry->tenant, g->entry->topic, &stored, NULL, err);

	if (status < 0)
		return status;
	*ret = status == SHMETA_ABSENT || stored.created_at_ms != g->topic.created_at_ms;
	for (size_t i = 0; !*ret && i < g->part_count; i++) {
		uint64_t key = shmeta__part_key(stored.topic_id, b->part[g->part_at + i].record.partition_id);
		const void *value;
		size_t bytes;

		status = shmeta__get(a->txn, SHMETA_DB_PARTS, &key, sizeof key, &value, &bytes, err);
		if (status < 0)
			return status;
		*ret = status == SHMETA_ABSENT;
	}
	return SHMETA_OK;
}

static enum shmeta_status apply_one_topic(struct batch *b, const struct got *g, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	struct sync_entry *e = g->entry;
	enum shmeta_status status;

	if (!g->found || !g->has_topic) {
		/* found without a row: the row is poison, as it would be in a load. */
		status = apply_topic_delete(a, e->tenant, e->topic, err);
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	}
	const struct apply_topic_opts opts = {.synced_at_ns = b->read_at_ns,
	                                      .deleted = e->want.deleted,
	                                      .born_since = e->want.born_since,
	                                      .restamp = restamp(s, e, b)};

	status = apply_topic(a, e->tenant, &g->topic, &opts, err);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	for (size_t i = 0; i < g->part_count; i++) {
		const struct got_part *part = &b->part[g->part_at + i];
		bool known;

		if (!e->want.segments) {
			status = apply_partition_keep(a, part->record.partition_id, &known, err);
			if (status != SHMETA_OK)
				return status;
			continue;
		}
		status = apply_partition(a, &part->record, err);
		if (status == SHMETA_ABSENT)
			continue;
		if (status == SHMETA_OK)
			status = apply_rows(b, part, 0, SYNC_LAST_OFFSET, err);
		if (status == SHMETA_OK)
			status = apply_partition_end(a, true, opts.restamp, err);
		if (status != SHMETA_OK)
			return status;
	}
	return apply_topic_end(a, err);
}

/* All ranges of one partition: b->got[at .. at + count). */
static enum shmeta_status apply_one_part(struct batch *b, size_t at, size_t count, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	const struct got *g = &b->got[at];
	struct sync_entry *e = g->entry;
	enum shmeta_status status;

	if (!g->found || g->part_count == 0) {
		status = apply_partition_delete(a, e->partition_id, err);
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	}
	status = apply_partition(a, &b->part[g->part_at].record, err);
	if (status == SHMETA_ABSENT)
		return SHMETA_OK;
	for (size_t i = 0; i < count && status == SHMETA_OK; i++) {
		const struct got *range = &b->got[at + i];

		if (range->part_count > 0)
			status = apply_rows(b, &b->part[range->part_at], b->key[at + i].from, b->key[at + i].to, err);
	}
	return status == SHMETA_OK ? apply_partition_end(a, e->want.whole, e->want.whole && restamp(s, e, b), err)
	                           : status;
}

/* A partition that was created at another time than the stored one belongs to another incarnation of its topic. */
static enum shmeta_status part_needs_topic(struct batch *b, const struct got *g, uint32_t topic_id, bool *ret,
                                           struct shmeta_err *err)
{
	struct shmeta_partition stored;
	uint64_t last;
	bool any;

	*ret = false;
	if (!g->found || g->part_count == 0)
		return SHMETA_OK;
	enum shmeta_status status =
		apply_partition_get(b->s->apply.txn, topic_id, g->entry->partition_id, &stored, &last, &any, err);

	if (status < 0)
		return status;
	*ret = status == SHMETA_OK && stored.created_at_ms != b->part[g->part_at].record.created_at_ms;
	/* Gone from the store since the plan: only a whole read can bring it back. */
	if (status == SHMETA_ABSENT && !g->entry->want.whole)
		*ret = true;
	return SHMETA_OK;
}

static enum shmeta_status apply_small(struct batch *b, const struct got *g, struct shmeta_err *err)
{
	struct apply *a = &b->s->apply;
	enum shmeta_class cls = b->key[g - b->got].cls;
	enum shmeta_status status = SHMETA_OK;

	apply_class_begin(a, cls, b->read_at_ns);
	for (size_t i = 0; i < g->small_count && status == SHMETA_OK; i++) {
		const struct got_small *small = &b->small[g->small_at + i];

		switch (small->kind) {
		case GOT_AGENT:
			status = apply_agent(a, small->tenant, &small->agent, err);
			break;
		case GOT_GROUP:
			status = apply_group(a, small->tenant, &small->group, err);
			break;
		case GOT_OFFSET:
			status = apply_offset(a, small->tenant, small->topic, &small->offset, err);
			break;
		case GOT_LEASE:
			status = apply_lease(a, small->tenant, small->topic, &small->lease, err);
			break;
		}
	}
	return status == SHMETA_OK ? apply_class_end(a, cls, err) : status;
}

static void forget_from_batch(struct batch *b, const struct sync_entry *e)
{
	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] == e)
			b->entry[i] = NULL;
	for (size_t i = 0; i < b->key_count; i++)
		if (b->got[i].entry == e)
			b->got[i].entry = NULL;
}

/* Entries that cannot be applied from this read go back to the queue before anything is applied. */
static enum shmeta_status sift(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;

	for (size_t i = 0; i < b->key_count; i++) {
		struct sync_entry *e = b->got[i].entry;
		bool more = false;
		enum shmeta_status status = SHMETA_OK;

		if (e == NULL)
			continue;
		if (overtaken(s, e, b->sequence)) {
			struct identity id = same_identity(e);
			struct want want = e->want;

			forget_from_batch(b, e);
			pthread_mutex_lock(&s->queue.lock);
			wait_again(s, e, &id, &want);
			pthread_mutex_unlock(&s->queue.lock);
			continue;
		}
		if (e->kind == ENTRY_TOPIC) {
			status = topic_needs_more(b, &b->got[i], &more, err);
		} else if (e->kind == ENTRY_PART) {
			struct shmeta_topic topic;

			status = apply_topic_get(s->apply.txn, e->tenant, e->topic, &topic, NULL, err);
			if (status == SHMETA_OK)
				status = part_needs_topic(b, &b->got[i], topic.topic_id, &more, err);
		}
		if (status < 0)
			return status;
		if (more) {
			forget_from_batch(b, e);
			pthread_mutex_lock(&s->queue.lock);
			promote(s, e, false);
			pthread_mutex_unlock(&s->queue.lock);
		}
	}
	return SHMETA_OK;
}

static enum shmeta_status apply_all(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	enum shmeta_status status = SHMETA_OK;
	const struct sync_entry *entered = NULL;
	bool present = false;

	for (size_t i = 0; i < b->key_count && status >= 0;) {
		struct sync_entry *e = b->got[i].entry;
		size_t count = 1;

		if (e == NULL) {
			i++;
			continue;
		}
		while (i + count < b->key_count && b->got[i + count].entry == e)
			count++;
		if (e->kind == ENTRY_TOPIC) {
			status = apply_one_topic(b, &b->got[i], err);
		} else if (e->kind == ENTRY_PART) {
			if (entered == NULL || !str_equal(entered->topic, e->topic) ||
			    !str_equal(entered->tenant, e->tenant)) {
				if (present)
					apply_topic_leave(a);
				status = apply_topic_enter(a, e->tenant, e->topic, err);
				present = status == SHMETA_OK;
				entered = e;
				a->synced_at_ns = b->read_at_ns;
			}
			if (status >= 0 && present)
				status = apply_one_part(b, i, count, err);
		} else {
			if (present)
				apply_topic_leave(a);
			present = false;
			status = apply_small(b, &b->got[i], err);
		}
		i += count;
	}
	if (status < 0)
		return status;
	if (present)
		apply_topic_leave(a);
	return SHMETA_OK;
}

/* The batch could not be applied: what the feed named waits, what readers asked for is answered. */
static void give_up(struct batch *b, enum shmeta_status status, const char *sentence)
{
	struct sync *s = b->s;
	struct sync_ticket *tickets = NULL;

	pthread_mutex_lock(&s->queue.lock);
	for (size_t i = 0; i < b->entry_count; i++) {
		struct sync_entry *e = b->entry[i];

		if (e == NULL)
			continue;
		move_tickets(&tickets, &e->tickets);
		if (e->want.feed) {
			struct identity id = same_identity(e);
			struct want want = e->want;

			wait_again(s, e, &id, &want);
		} else {
			forget(&s->queue, e);
		}
		b->entry[i] = NULL;
	}
	pthread_mutex_unlock(&s->queue.lock);
	answer(s, tickets, status, sentence, 0, 0);
}

static void hint_stamps(struct batch *b, uint64_t txn)
{
	for (size_t i = 0; i < b->key_count; i++) {
		if (b->got[i].entry == NULL || b->got[i].entry->kind <= ENTRY_PART)
			continue;
		enum shmeta_class cls = b->key[i].cls;

		if (!class_newer(b->s, cls, b->read_at_ns))
			sync_stamp(b->s, b->s->gen, cls, txn, b->read_at_ns);
	}
}

static void done(struct batch *b, uint64_t txn)
{
	struct sync *s = b->s;

	s->sequence++;
	hint_stamps(b, txn);
	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] != NULL)
			floor_note(s, b->entry[i]);
	for (size_t i = 0; i < b->entry_count; i++) {
		struct sync_entry *e = b->entry[i];

		if (e == NULL)
			continue;
		pthread_mutex_lock(&s->queue.lock);
		struct sync_ticket *tickets = e->tickets;

		e->tickets = NULL;
		forget(&s->queue, e);
		pthread_mutex_unlock(&s->queue.lock);
		b->entry[i] = NULL;
		answer(s, tickets, SHMETA_OK, "", txn, b->read_at_ns);
	}
}

/* Is everything that the feed has named so far in this batch or in the store? */
static bool completes_feed(struct batch *b)
{
	struct sync *s = b->s;
	size_t mine = 0;

	for (size_t i = 0; i < b->entry_count; i++)
		mine += b->entry[i] != NULL && b->entry[i]->want.feed;
	pthread_mutex_lock(&s->queue.lock);
	bool all = s->queue.feed_keys == mine;

	pthread_mutex_unlock(&s->queue.lock);
	return all && s->following && !s->list_dirty;
}

/* Offsets and leases that came before their topic: the feed will name the topic, so look again then, but not for ever. */
static void judge_orphans(struct sync *s, uint64_t orphans)
{
	if (orphans == 0) {
		s->orphan_tries = 0;
		return;
	}
	if (s->following && s->orphan_tries < ORPHAN_TRIES) {
		s->orphan_tries++;
		s->orphans_wait = true;
		return;
	}
	s->orphan_tries = 0;
	sync_orphans(s, orphans);
}

static enum shmeta_status apply_batch(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	struct apply_host host = sync_apply_host(s);
	uint64_t txn, began = sync_now(s);
	uint8_t feed[SYNC_FEED_MAX];
	bool classes = false;
	enum shmeta_status status = apply_begin(a, s->store, &host, sync_oldest_pin(s), false, err);

	if (status != SHMETA_OK)
		return status;
	status = sift(b, err);
	if (status == SHMETA_OK)
		status = apply_all(b, err);
	if (status == SHMETA_OK && a->changed > 0 && completes_feed(b))
		status = apply_feed(a, feed, generation_feed_value(s, feed), err);
	uint64_t orphans = a->orphans;

	if (status == SHMETA_OK)
		status = apply_commit(a, &txn, err);
	if (status != SHMETA_OK) {
		apply_abort(a);
		return status;
	}
	sync_count_commit(s, a, began);
	for (size_t i = 0; i < b->entry_count; i++)
		classes |= b->entry[i] != NULL && b->entry[i]->kind > ENTRY_AGENT;
	done(b, txn);
	if (classes)
		judge_orphans(s, orphans);
	return SHMETA_OK;
}

/* One batch. false: nothing waits, or it failed. */
static bool run_batch(struct sync *s)
{
	struct batch b = {.s = s};
	struct backend_error source_err = {0};
	struct shmeta_err err = {0};
	const struct backend_sink sink = {.arg = &b,
	                                  .topic = got_topic,
	                                  .partition = got_partition,
	                                  .segment = got_segment,
	                                  .agent = got_agent,
	                                  .group = got_group,
	                                  .offset = got_offset,
	                                  .lease = got_lease,
	                                  .poison = got_poison,
	                                  .key_begin = got_key_begin,
	                                  .key_end = got_key_end};

	if (take(&b) == 0) {
		batch_free(&b);
		return false;
	}
	enum shmeta_status status = plan(&b, &err);

	if (status != SHMETA_OK) {
		give_up(&b, status, err.text);
		sync_room_failed(s, status, err.text);
		batch_free(&b);
		return false;
	}
	if (b.key_count == 0) {
		batch_free(&b);
		return true; /* all of it was promoted */
	}
	sync_poison_pass_begin(s);
	read_begins(s, &b);
	s->counters.fetches++;
	s->counters.refresh_keys += b.key_count;
	status = s->ops->fetch(s->backend, b.key, b.key_count, &sink, &source_err);
	s->counters.fetch_ns += sync_now(s) - b.read_at_ns;
	sync_poison_pass_end(s, "refresh");
	if (status == SHMETA_OK && b.at != b.key_count)
		status = backend_fail(&source_err, SHMETA_ERR_SOURCE, "%s answered %zu of %zu keys", s->ops->name, b.at,
		                      b.key_count);
	if (status == SHMETA_OK && s->fetched_hook != NULL)
		s->fetched_hook(s->fetched_hook_arg);

	if (status == SHMETA_OK) {
		generation_judge(s);
		if (s->foreign)
			status = backend_fail(&source_err, SHMETA_ERR_SOURCE,
			                      "the source was replaced by another one while it was read");
	}

	bool ok = status == SHMETA_OK;

	if (b.failed == SHMETA_ERR_NO_MEMORY) {
		give_up(&b, SHMETA_ERR_NO_MEMORY, "out of memory while reading from the source");
		sync_room_failed(s, SHMETA_ERR_NO_MEMORY, "out of memory while reading from the source");
	} else if (!ok) {
		give_up(&b, SHMETA_ERR_SOURCE, source_err.text);
		if (!s->foreign)
			sync_source_failed(s, status, source_err.text);
	} else {
		sync_source_works(s);
		status = apply_batch(&b, &err);
		ok = status == SHMETA_OK;
		if (ok) {
			sync_room_works(s);
		} else {
			give_up(&b, status, err.text);
			sync_room_failed(s, status, err.text);
		}
	}
	read_ends(s);
	batch_free(&b);
	return ok;
}

void refresh_drain_feed(struct sync *s)
{
	while (refresh_pending_feed(s) && run_batch(s))
		;
}

void refresh_drain(struct sync *s)
{
	for (int i = 0; i < BATCHES_PER_ROUND && run_batch(s) && !sync_stopping(s); i++)
		;
	if (s->orphans_wait && !refresh_pending_feed(s)) {
		s->orphans_wait = false;
		s->orphans_due = true;
		s->hints_due_ns = sync_now(s) + s->options.poll_min_ms * SYNC_MS;
	}
	if (refresh_waiting(s) && !s->source.on && !s->room.on)
		sync_wake_at(s, sync_now(s));
}
