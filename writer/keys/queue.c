/* SPDX-License-Identifier: Apache-2.0
 * Keys that wait, and their tickets. */
#include "writer/keys/queue.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/row_limits.h"
#include "writer/serve/shares.h"

/* refresh_queue_max bounds the keys that readers asked for; this many times that bounds the tickets. */
enum { TICKETS_PER_KEY = 64 };

struct sync_ticket {
	struct sync_ticket *next;
	uint64_t ticket;
	queue_answered_fn *answered; /* who waits hears by this; NULL: a reader, by its ticket */
	void *arg;
};

uint64_t queue_name_hash(struct shmeta_str tenant, struct shmeta_str topic)
{
	return XXH3_64bits_withSeed(topic.data, topic.bytes, XXH3_64bits(tenant.data, tenant.bytes));
}

struct identity queue_identity(enum entry_kind kind, struct shmeta_str tenant, struct shmeta_str topic,
                               uint32_t partition_id)
{
	struct identity id = {kind, partition_id, tenant, topic, {"", 0}, 0};

	if (kind == ENTRY_TOPIC)
		id.partition_id = 0;
	id.hash = queue_name_hash(id.tenant, id.topic) * 31 + (uint64_t)kind * 0x9E3779B97F4A7C15u + id.partition_id;
	return id;
}

struct identity queue_identity_of_class(enum entry_kind kind)
{
	return queue_identity(kind, (struct shmeta_str){"", 0}, (struct shmeta_str){"", 0}, 0);
}

struct identity queue_identity_of_key(const struct backend_key *key)
{
	static const struct shmeta_str none = {"", 0};
	enum entry_kind kind = queue_kind(key->cls);
	struct identity id;

	if (kind > ENTRY_PART && backend_key_is_class(key))
		return queue_identity_of_class(kind);
	id = queue_identity(kind, key->tenant, kind == ENTRY_AGENT ? none : key->topic,
	                    kind == ENTRY_AGENT || (kind == ENTRY_OFFSET && key->topic.bytes == 0) ? 0
	                                                                                           : key->partition_id);
	if (kind == ENTRY_AGENT || kind == ENTRY_OFFSET) {
		id.name = key->name;
		id.hash += XXH3_64bits(id.name.data, id.name.bytes);
	}
	return id;
}

bool queue_is_class(const struct sync_entry *e)
{
	return e->kind > ENTRY_PART && e->name.bytes == 0 && e->topic.bytes == 0;
}

struct identity queue_identity_of(const struct sync_entry *e)
{
	return (struct identity){e->kind, e->partition_id, e->tenant, e->topic, e->name, e->hash};
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
		    str_equal(e->tenant, id->tenant) && str_equal(e->name, id->name))
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

static struct sync_list *list_of(struct sync_queue *q, const struct sync_entry *e)
{
	return e->want.feed ? &q->named : e->asker != NULL ? &e->asker->later : &q->asked;
}

static size_t entry_bytes(const struct sync_entry *e)
{
	return sizeof *e + e->tenant.bytes + e->topic.bytes + e->name.bytes + 1;
}

static void list_append(struct sync_queue *q, struct sync_entry *e)
{
	struct sync_list *list = list_of(q, e);

	e->prev = list->last;
	e->next = NULL;
	*(list->last != NULL ? &list->last->next : &list->first) = e;
	list->last = e;
	list->count++;
	list->bytes += entry_bytes(e);
}

static void list_take(struct sync_queue *q, struct sync_entry *e)
{
	struct sync_list *list = list_of(q, e);

	*(e->prev != NULL ? &e->prev->next : &list->first) = e->next;
	*(e->next != NULL ? &e->next->prev : &list->last) = e->prev;
	e->prev = e->next = NULL;
	list->count--;
	list->bytes -= entry_bytes(e);
}

static struct sync_entry *add(struct sync_queue *q, const struct identity *id)
{
	struct sync_entry *e = calloc(1, sizeof *e + id->tenant.bytes + id->topic.bytes + id->name.bytes + 1);

	if (e == NULL)
		return NULL;
	if (q->used > q->slots)
		grow(q);
	if (id->tenant.bytes > 0)
		memcpy(e->text, id->tenant.data, id->tenant.bytes);
	if (id->topic.bytes > 0)
		memcpy(e->text + id->tenant.bytes, id->topic.data, id->topic.bytes);
	if (id->name.bytes > 0)
		memcpy(e->text + id->tenant.bytes + id->topic.bytes, id->name.data, id->name.bytes);
	e->tenant = (struct shmeta_str){e->text, id->tenant.bytes};
	e->topic = (struct shmeta_str){e->text + id->tenant.bytes, id->topic.bytes};
	e->name = (struct shmeta_str){e->text + id->tenant.bytes + id->topic.bytes, id->name.bytes};
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

void queue_forget(struct sync_queue *q, struct sync_entry *e)
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

void queue_add_range(struct want *w, uint64_t from, uint64_t to)
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
		queue_add_range(w, from < r.from ? from : r.from, to > r.to ? to : r.to);
		return;
	}
	w->range[w->range_count++] = (struct range){from, to};
}

void queue_merge_want(struct want *into, const struct want *from)
{
	into->feed |= from->feed;
	into->deleted |= from->deleted;
	into->born_since = from->born_since > into->born_since ? from->born_since : into->born_since;
	into->segments |= from->segments;
	into->whole |= from->whole;
	into->topic_asked |= from->topic_asked;
	for (uint32_t i = 0; i < from->range_count; i++)
		queue_add_range(into, from->range[i].from, from->range[i].to);
}

/* From the line of those that wait for a token to those that are read next, or back. */
static void move_entry(struct sync_queue *q, struct sync_entry *e, struct asker *to)
{
	list_take(q, e);
	e->asker = to;
	list_append(q, e);
}

struct sync_entry *queue_want(struct sync_queue *q, const struct identity *id, const struct want *want)
{
	struct sync_entry *e = find(q, id, false);

	bool is_new = e == NULL;

	if (is_new)
		e = add(q, id);
	if (e == NULL)
		return NULL;
	if (e->asker != NULL)
		move_entry(q, e, NULL); /* others want it too */
	e->want.repair = want->repair && (is_new || e->want.repair);
	if (want->feed && !e->want.feed) {
		/* It moves to the other list. */
		list_take(q, e);
		e->want.feed = true;
		list_append(q, e);
		q->feed_keys++;
	}
	queue_merge_want(&e->want, want);
	return e;
}

size_t queue_take(struct sync_queue *q, struct sync_entry **ret, size_t most)
{
	size_t waiting = q->named.count + q->asked.count, count = 0, asked = (most + 3) / 4;

	most = most < waiting ? most : waiting;
	asked = asked < q->asked.count ? asked : q->asked.count;
	while (count < most) {
		struct sync_entry *e = q->named.first;

		if (e == NULL || (count + asked >= most && q->asked.first != NULL))
			e = q->asked.first;
		list_take(q, e);
		e->flying = true;
		e->all = e->kind == ENTRY_PART ? e->want.whole : e->want.segments;
		ret[count++] = e;
	}
	return count;
}

void queue_move_tickets(struct sync_ticket **to, struct sync_ticket **from)
{
	while (*to != NULL)
		to = &(*to)->next;
	*to = *from;
	*from = NULL;
}

static bool covers(const struct sync_entry *flying, const struct want *want)
{
	return flying->kind > ENTRY_PART || flying->all || !(want->whole || want->segments);
}

enum entry_kind queue_kind(enum shmeta_class cls)
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

static void hang(struct sync_queue *q, struct sync_ticket **on, struct sync_ticket *t)
{
	t->next = *on;
	*on = t;
	q->tickets++;
}

/* Under lock. Does what was read a moment ago say that the source does not have it? */
static bool is_absent(struct sync_queue *q, const struct backend_key *key, uint64_t now_ns, struct absent_answer *ret)
{
	return key->cls <= SHMETA_CLASS_SEGMENT &&
	       absent_find(&q->absent, queue_name_hash(key->tenant, key->topic), key->tenant, key->topic,
	                   key->cls == SHMETA_CLASS_TOPIC ? ABSENT_TOPIC : (int64_t)key->partition_id, now_ns, ret);
}

static bool is_bad(struct shmeta_str text, size_t max)
{
	return shmeta__name_error(text.data, text.bytes, max) != NULL;
}

/* No row can have such a name. */
static bool names_nothing(const struct backend_key *key)
{
	if (queue_kind(key->cls) > ENTRY_PART && backend_key_is_class(key))
		return false;
	return is_bad(key->tenant, SHMETA_TENANT_MAX) ||
	       ((queue_kind(key->cls) <= ENTRY_PART || key->topic.bytes > 0) && is_bad(key->topic, SHMETA_NAME_MAX)) ||
	       (key->name.bytes > 0 && is_bad(key->name, SHMETA_NAME_MAX));
}

/* Has another user a token for what waits for one of the first who asked? */
static bool pay_for(struct sync_queue *q, struct sync_entry *e, struct asker *asker, uint64_t now_ns)
{
	if (e->asker == NULL || asker == e->asker || asker_when(&q->askers, asker, asker->later.count, now_ns) > now_ns)
		return false;
	asker_pay(&q->askers, asker, now_ns);
	move_entry(q, e, NULL);
	return true;
}

static size_t later_bytes(const struct sync_queue *q)
{
	size_t bytes = 0;

	for (const struct asker *a = q->askers.first; a != NULL; a = a->next)
		bytes += a->later.bytes;
	return bytes;
}

static size_t all_later(const struct sync_queue *q)
{
	size_t count = 0;

	for (const struct asker *a = q->askers.first; a != NULL; a = a->next)
		count += a->later.count;
	return count;
}

/* A key that nobody has asked for yet. NULL: there is no room for it, no memory, or no token before the deadline. */
static struct sync_entry *ask_anew(struct sync *s, const struct identity *id, const struct want *want,
                                   struct asker *asker, uint64_t deadline_ns, uint64_t now_ns)
{
	struct sync_queue *q = &s->queue;
	uint64_t when = asker_when(&q->askers, asker, asker->later.count, now_ns);
	size_t later = all_later(q);
	struct sync_entry *e;

	if (when > deadline_ns || q->asked.count + later >= q->keys_max ||
	    (when > now_ns && share_left(q->keys_max, q->user_share, asker->later.count, later) == 0))
		return NULL;
	e = queue_want(q, id, want);
	if (e == NULL)
		return NULL;
	if (when > now_ns)
		move_entry(q, e, asker);
	else
		asker_pay(&q->askers, asker, now_ns);
	return e;
}

/* Under lock. What has a token by now is read next; when there is one again for the others (UINT64_MAX: there are none). */
static uint64_t give_tokens(struct sync_queue *q, uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;

	for (struct asker *a = q->askers.first; a != NULL; a = a->next) {
		uint64_t when = 0;

		while (a->later.count > 0 && (when = asker_when(&q->askers, a, 0, now_ns)) <= now_ns) {
			asker_pay(&q->askers, a, now_ns);
			move_entry(q, a->later.first, NULL);
		}
		if (a->later.count > 0 && when < next)
			next = when;
	}
	return next;
}

/* Called from the loop's thread. */
enum shmeta_status sync_refresh(struct sync *s, const struct backend_key *key, bool recent, uint32_t uid,
                                uint64_t deadline_ns, uint64_t ticket)
{
	struct sync_queue *q = &s->queue;
	struct absent_answer absent;
	uint64_t now = sync_now(s);
	struct sync_ticket *t = calloc(1, sizeof *t);
	enum shmeta_status status = SHMETA_OK;
	struct asker *asker;
	bool wake = false;

	if (t == NULL)
		return SHMETA_ERR_BUSY;
	t->ticket = ticket;
	pthread_mutex_lock(&q->lock);
	q->requests++;
	asker = asker_of(&q->askers, uid, now);
	if (asker == NULL || q->stopping || q->tickets >= (size_t)q->keys_max * TICKETS_PER_KEY ||
	    q->asked.bytes + later_bytes(q) + q->tickets * sizeof *t >= q->bytes_max) {
		free(t);
		status = SHMETA_ERR_BUSY;
	} else if ((unsigned)key->cls >= SHMETA_CLASS_COUNT || (key->cls != SHMETA_CLASS_LIST && names_nothing(key))) {
		hang(q, &q->refused, t);
		wake = true;
	} else if (recent && is_absent(q, key, now, &absent)) {
		q->absent_answers++;
		pthread_mutex_unlock(&q->lock);
		free(t);
		s->host.answer(s->host.arg, ticket, SHMETA_OK, "", absent.txn, absent.generation, absent.read_at_ns);
		return SHMETA_OK;
	} else if (key->cls == SHMETA_CLASS_LIST) {
		if (q->list_tickets == NULL && asker_when(&q->askers, asker, asker->later.count, now) > now) {
			free(t);
			status = SHMETA_ERR_BUSY;
		} else {
			if (q->list_tickets != NULL)
				q->coalesced++;
			else
				asker_pay(&q->askers, asker, now);
			hang(q, &q->list_tickets, t);
			wake = true;
		}
	} else {
		/* Where one agent, offset or lease is named, it alone is read. */
		struct identity id = queue_identity_of_key(key);
		/* A partition's stamp speaks of all of it, so all of it is read. */
		struct want want = {.whole = id.kind == ENTRY_PART, .segments = key->with_segments != 0};
		struct sync_entry *e = find(q, &id, false), *flying = find(q, &id, true);

		if (e == NULL && flying != NULL && covers(flying, &want))
			e = flying;
		if (e != NULL) {
			q->coalesced++;
			if (!e->flying) {
				queue_merge_want(&e->want, &want);
				wake = pay_for(q, e, asker, now);
			}
		} else {
			e = ask_anew(s, &id, &want, asker, deadline_ns, now);
			wake = e != NULL;
		}
		if (e != NULL) {
			hang(q, &e->tickets, t);
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

bool queue_ask(struct sync *s, const struct identity *id, const struct want *want, queue_answered_fn *answered,
               void *arg)
{
	struct sync_ticket *t = calloc(1, sizeof *t);
	struct sync_entry *e = NULL;

	if (t == NULL)
		return false;
	t->answered = answered;
	t->arg = arg;
	pthread_mutex_lock(&s->queue.lock);
	e = queue_want(&s->queue, id, want);
	if (e != NULL)
		hang(&s->queue, &e->tickets, t);
	pthread_mutex_unlock(&s->queue.lock);
	if (e == NULL)
		free(t);
	return e != NULL;
}

void queue_forget_absences(struct sync *s)
{
	pthread_mutex_lock(&s->queue.lock);
	absent_forget_all(&s->queue.absent);
	pthread_mutex_unlock(&s->queue.lock);
}

bool queue_ask_list(struct sync *s, queue_answered_fn *answered, void *arg)
{
	struct sync_ticket *t = calloc(1, sizeof *t);

	if (t == NULL)
		return false;
	t->answered = answered;
	t->arg = arg;
	pthread_mutex_lock(&s->queue.lock);
	hang(&s->queue, &s->queue.pass_tickets, t);
	pthread_mutex_unlock(&s->queue.lock);
	return true;
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

void refresh_set_limits(struct sync *s, const struct sync_options *options)
{
	struct sync_queue *q = &s->queue;

	q->keys_max = options->refresh_queue_max;
	q->bytes_max = options->refresh_queue_bytes;
	q->user_share = options->user_share;
	q->askers.rate = options->refresh_user_rate;
	q->askers.burst = options->refresh_user_burst;
	absent_set_limits(&q->absent, options->absent_max, options->absent_ttl_ms * SYNC_MS);
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
	free_tickets(q->pass_tickets);
	free_tickets(q->refused);
	free(q->slot);
	q->slot = NULL;
	askers_free(&q->askers);
	absent_free(&q->absent);
	floor_free(&s->floor);
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
	uint64_t next = give_tokens(&s->queue, sync_now(s));
	bool waiting = s->queue.named.count + s->queue.asked.count > 0;

	pthread_mutex_unlock(&s->queue.lock);
	if (next != UINT64_MAX)
		sync_wake_at(s, next);
	return waiting;
}

bool refresh_class_waiting(struct sync *s, enum shmeta_class cls)
{
	if (cls != SHMETA_CLASS_AGENT && cls != SHMETA_CLASS_OFFSET && cls != SHMETA_CLASS_LEASE)
		return false;
	if (cls != SHMETA_CLASS_AGENT && (s->orphans_wait || s->orphans_due))
		return true;
	struct identity id = queue_identity_of_class(queue_kind(cls));

	pthread_mutex_lock(&s->queue.lock);
	bool waiting = find(&s->queue, &id, false) != NULL;

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

bool refresh_pass_waiting(struct sync *s)
{
	pthread_mutex_lock(&s->queue.lock);
	bool waiting = s->queue.pass_tickets != NULL;

	pthread_mutex_unlock(&s->queue.lock);
	return waiting;
}

void queue_answer(struct sync *s, struct sync_ticket *tickets, enum shmeta_status status, const char *sentence,
                  uint64_t txn, uint64_t synced_at_ns)
{
	size_t count = 0;

	for (struct sync_ticket *t = tickets; t != NULL; t = t->next, count++) {
		if (t->answered != NULL)
			t->answered(s, t->arg, status, sentence, txn);
		else
			s->host.answer(s->host.arg, t->ticket, status, sentence, txn, s->board->generation,
			               synced_at_ns);
	}
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
	queue_answer(s, refused, SHMETA_ERR_INVALID_ARGUMENT,
	             "a refresh names a topic of 1..249 bytes of UTF-8 without control characters, or a whole class", 0,
	             0);
}

struct sync_list_tickets refresh_take_list(struct sync *s, bool pass)
{
	struct sync_list_tickets tickets = {0};

	pthread_mutex_lock(&s->queue.lock);
	queue_move_tickets(&tickets.list, &s->queue.list_tickets);
	if (pass)
		queue_move_tickets(&tickets.pass, &s->queue.pass_tickets);
	pthread_mutex_unlock(&s->queue.lock);
	return tickets;
}

void refresh_return_list(struct sync *s, struct sync_list_tickets tickets)
{
	pthread_mutex_lock(&s->queue.lock);
	queue_move_tickets(&s->queue.list_tickets, &tickets.list);
	queue_move_tickets(&s->queue.pass_tickets, &tickets.pass);
	pthread_mutex_unlock(&s->queue.lock);
}

void refresh_answer_list(struct sync *s, struct sync_list_tickets tickets, enum shmeta_status status,
                         const char *sentence, uint64_t synced_at_ns)
{
	queue_move_tickets(&tickets.list, &tickets.pass);
	queue_answer(s, tickets.list, status, sentence, status == SHMETA_OK ? sync_committed(s) : 0, synced_at_ns);
}

static void take_tickets(struct sync_ticket **to, struct sync_entry *e)
{
	while (e->tickets != NULL) {
		struct sync_ticket *t = e->tickets;

		e->tickets = t->next;
		t->next = *to;
		*to = t;
	}
}

void refresh_answer_all(struct sync *s, enum shmeta_status status, const char *sentence)
{
	struct sync_queue *q = &s->queue;
	struct sync_ticket *tickets = NULL;

	pthread_mutex_lock(&q->lock);
	queue_move_tickets(&tickets, &q->list_tickets);
	queue_move_tickets(&tickets, &q->pass_tickets);
	queue_move_tickets(&tickets, &q->refused);
	for (struct sync_entry *e = q->named.first; e != NULL; e = e->next)
		take_tickets(&tickets, e);
	for (struct asker *a = q->askers.first; a != NULL; a = a->next)
		while (a->later.first != NULL)
			move_entry(q, a->later.first, NULL);
	for (struct sync_entry *e = q->asked.first, *next; e != NULL; e = next) {
		next = e->next;
		take_tickets(&tickets, e);
		queue_forget(q, e);
	}
	pthread_mutex_unlock(&q->lock);
	queue_answer(s, tickets, status, sentence, 0, 0);
}

void refresh_forget_feed(struct sync *s)
{
	struct sync_queue *q = &s->queue;

	pthread_mutex_lock(&q->lock);
	absent_forget_all(&q->absent);
	for (struct sync_entry *e = q->named.first, *next; e != NULL; e = next) {
		next = e->next;
		if (e->tickets == NULL) {
			queue_forget(q, e);
			continue;
		}
		list_take(q, e);
		e->want.feed = false;
		list_append(q, e);
		q->feed_keys--;
	}
	pthread_mutex_unlock(&q->lock);
}
