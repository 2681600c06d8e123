/* SPDX-License-Identifier: Apache-2.0
 * The entries of the queue: what they are known by, what is wanted of them, and the states that
 * they go through. */
#include <assert.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/secret.h"
#include "writer/keys/queue_private.h"

/* ---- identities ---- */

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

uint64_t queue_name_hash(struct shmeta_str tenant, struct shmeta_str topic)
{
	return XXH3_64bits_withSeed(topic.data, topic.bytes,
	                            XXH3_64bits_withSeed(tenant.data, tenant.bytes, shmeta__secret()));
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

/* ---- wants ---- */

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
	into->pass |= from->pass;
	into->missed |= from->missed;
	into->due |= from->due;
	into->no_fill |= from->no_fill;
	into->fill |= from->fill;
	into->row_only &= from->row_only;
	for (uint32_t i = 0; i < from->range_count; i++)
		queue_add_range(into, from->range[i].from, from->range[i].to);
}

/* ---- the table and the lists ---- */

static struct sync_entry **slot_of(const struct sync_queue *q, uint64_t hash)
{
	return &q->slot[(size_t)shmeta__secret_hash(hash) & (q->slots - 1)];
}

static struct sync_entry *find(const struct sync_queue *q, const struct identity *id, bool fetched)
{
	for (struct sync_entry *e = *slot_of(q, id->hash); e != NULL; e = e->chain)
		if (e->hash == id->hash && (e->state == ENTRY_FETCHED) == fetched && e->kind == id->kind &&
		    e->partition_id == id->partition_id && str_equal(e->topic, id->topic) &&
		    str_equal(e->tenant, id->tenant) && str_equal(e->name, id->name))
			return e;
	return NULL;
}

struct sync_entry *entry_waiting(const struct sync_queue *q, const struct identity *id)
{
	return find(q, id, false);
}

struct sync_entry *entry_fetched(const struct sync_queue *q, const struct identity *id)
{
	return find(q, id, true);
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

static size_t entry_bytes(const struct sync_entry *e)
{
	return sizeof *e + e->tenant.bytes + e->topic.bytes + e->name.bytes + 1;
}

static void list_append(struct sync_list *list, struct sync_entry *e)
{
	e->prev = list->last;
	e->next = NULL;
	*(list->last != NULL ? &list->last->next : &list->first) = e;
	list->last = e;
	list->count++;
	list->bytes += entry_bytes(e);
}

static void list_take(struct sync_list *list, struct sync_entry *e)
{
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
	e->since_ns = shmeta__boottime_ns();
	e->kind = id->kind;
	e->partition_id = id->partition_id;
	struct sync_entry **slot = slot_of(q, e->hash);

	e->chain = *slot;
	*slot = e;
	q->used++;
	return e;
}

/* ---- states ---- */

#define TO(state) (1u << (state))
static const uint32_t may_follow[] = {
	[ENTRY_NEW] = TO(ENTRY_ASKED) | TO(ENTRY_NAMED) | TO(ENTRY_PASS),
	[ENTRY_ASKED] = TO(ENTRY_THROTTLED) | TO(ENTRY_NAMED) | TO(ENTRY_FETCHED) | TO(ENTRY_GONE),
	[ENTRY_THROTTLED] = TO(ENTRY_ASKED) | TO(ENTRY_NAMED),
	[ENTRY_NAMED] = TO(ENTRY_ASKED) | TO(ENTRY_PASS) | TO(ENTRY_FETCHED) | TO(ENTRY_GONE),
	[ENTRY_PASS] = TO(ENTRY_ASKED) | TO(ENTRY_NAMED) | TO(ENTRY_FETCHED),
	[ENTRY_FETCHED] = TO(ENTRY_GONE),
	[ENTRY_GONE] = 0,
};

bool entry_may_move(enum entry_state from, enum entry_state to)
{
	return (unsigned)from <= ENTRY_GONE && (unsigned)to <= ENTRY_GONE && (may_follow[from] & TO(to)) != 0;
}

/* NULL: such an entry is in none. */
static struct sync_list *list_of(struct sync_queue *q, enum entry_state state, struct asker *asker)
{
	switch (state) {
	case ENTRY_NAMED:
		return &q->named;
	case ENTRY_ASKED:
		return &q->asked;
	case ENTRY_PASS:
		return &q->pass;
	case ENTRY_THROTTLED:
		return &asker->throttled;
	case ENTRY_NEW:
	case ENTRY_FETCHED:
	case ENTRY_GONE:
		break;
	}
	return NULL;
}

void entry_move(struct sync_queue *q, struct sync_entry *e, enum entry_state to, struct asker *asker)
{
	struct sync_list *from_list = list_of(q, e->state, e->asker), *to_list = list_of(q, to, asker);

	assert(entry_may_move(e->state, to) && (to == ENTRY_THROTTLED) == (asker != NULL));
	if (from_list != NULL)
		list_take(from_list, e);
	/* What the feed named counts until it is applied, or is nobody's but the readers' any
	 * more. */
	q->feed_keys += to == ENTRY_NAMED;
	q->feed_keys -= e->want.feed && (to == ENTRY_ASKED || to == ENTRY_PASS || to == ENTRY_GONE);
	q->pass_keys -= e->want.pass && to == ENTRY_GONE;
	e->want.feed = to == ENTRY_NAMED || (to == ENTRY_FETCHED && e->want.feed);
	e->state = to;
	e->asker = asker;
	if (to_list != NULL)
		list_append(to_list, e);
}

void queue_forget(struct sync_queue *q, struct sync_entry *e)
{
	struct sync_entry **p = slot_of(q, e->hash);

	while (*p != e)
		p = &(*p)->chain;
	*p = e->chain;
	q->used--;
	entry_move(q, e, ENTRY_GONE, NULL);
	free(e);
}

struct sync_entry *queue_want(struct sync_queue *q, const struct identity *id, const struct want *want)
{
	struct sync_entry *e = find(q, id, false);
	bool is_new = e == NULL;

	if (is_new)
		e = add(q, id);
	if (e == NULL)
		return NULL;
	if (want->feed && e->state != ENTRY_NAMED)
		entry_move(q, e, ENTRY_NAMED, NULL);
	else if (is_new && want->pass)
		entry_move(q, e, ENTRY_PASS, NULL);
	else if (is_new || e->state == ENTRY_THROTTLED || (e->state == ENTRY_PASS && !want->pass))
		entry_move(q, e, ENTRY_ASKED, NULL); /* others want it too */
	e->want.row_only |= is_new;
	e->want.repair = want->repair && (is_new || e->want.repair);
	q->pass_keys += want->pass && !e->want.pass;
	queue_merge_want(&e->want, want);
	return e;
}

bool queue_want_now(struct sync *s, const struct identity *id, const struct want *want)
{
	pthread_mutex_lock(&s->queue->lock);
	bool wanted = queue_want(s->queue, id, want) != NULL;

	pthread_mutex_unlock(&s->queue->lock);
	return wanted;
}

size_t queue_pass_keys(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	size_t keys = s->queue->pass_keys;

	pthread_mutex_unlock(&s->queue->lock);
	return keys;
}

static void take_one(struct sync_queue *q, struct sync_entry *e)
{
	entry_move(q, e, ENTRY_FETCHED, NULL);
	e->all = e->kind == ENTRY_PART ? e->want.whole : e->want.segments;
}

size_t queue_take(struct sync_queue *q, struct sync_entry **ret, size_t most, bool with_asked)
{
	size_t may = with_asked ? q->asked.count : 0, waiting = q->named.count + may, count = 0, asked = (most + 3) / 4;

	most = most < waiting ? most : waiting;
	asked = asked < may ? asked : may;
	while (count < most) {
		struct sync_entry *e = q->named.first;

		if (e == NULL || (may > 0 && count + asked >= most && q->asked.first != NULL))
			e = q->asked.first;
		take_one(q, e);
		ret[count++] = e;
	}
	return count;
}

size_t queue_take_pass(struct sync_queue *q, struct sync_entry **ret, size_t most)
{
	size_t count = 0;

	for (; count < most && q->pass.first != NULL; count++) {
		ret[count] = q->pass.first;
		take_one(q, ret[count]);
	}
	for (struct sync_entry *e = q->asked.first, *next; count < most && q->pass_keys > count && e != NULL;
	     e = next) {
		next = e->next;
		if (!e->want.pass)
			continue;
		ret[count++] = e;
		take_one(q, e);
	}
	return count;
}
