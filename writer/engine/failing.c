/* SPDX-License-Identifier: Apache-2.0
 * Keys that fail by themselves. */
#include "writer/engine/failing.h"

#include <stdio.h>
#include <stdlib.h>

#include "writer/apply/alone.h"

enum { FAILING_MAX = 1000 };

static bool is_of(const struct failing_key *key, const struct identity *id)
{
	return key->id.hash == id->hash && key->id.kind == id->kind && key->id.partition_id == id->partition_id &&
	       str_equal(key->id.topic, id->topic) && str_equal(key->id.tenant, id->tenant) &&
	       str_equal(key->id.name, id->name);
}

static struct failing_key **bucket_of(struct sync *s, uint64_t hash)
{
	return &s->failing.bucket[hash % SYNC_FAILING_BUCKETS];
}

/* The first of all from this bucket on. */
static struct failing_key *first_from(struct sync *s, size_t bucket)
{
	while (bucket < SYNC_FAILING_BUCKETS && s->failing.bucket[bucket] == NULL)
		bucket++;
	return bucket < SYNC_FAILING_BUCKETS ? s->failing.bucket[bucket] : NULL;
}

static struct failing_key *first(struct sync *s)
{
	return s->failing.count > 0 ? first_from(s, 0) : NULL;
}

static struct failing_key *next(struct sync *s, const struct failing_key *key)
{
	return key->next != NULL ? key->next : first_from(s, key->id.hash % SYNC_FAILING_BUCKETS + 1);
}

struct failing_key *failing_find(struct sync *s, const struct identity *id)
{
	for (struct failing_key *key = *bucket_of(s, id->hash); key != NULL; key = key->next)
		if (is_of(key, id))
			return key;
	return NULL;
}

struct look {
	struct sync *s;
	const struct failing_key *found;
};

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	struct look *look = arg;
	struct identity id = queue_identity_of_key(key);

	if (look->found == NULL)
		look->found = failing_find(look->s, &id);
	/* A topic that cannot be read has no partition or segment to show. */
	if (look->found == NULL && id.kind == ENTRY_PART) {
		id = queue_identity(ENTRY_TOPIC, key->tenant, key->topic, 0);
		look->found = failing_find(look->s, &id);
	}
	return SHMETA_OK;
}

const struct failing_key *failing_of_op(struct sync *s, struct shmeta_str tenant, const struct shmeta_op *op)
{
	struct look look = {s, NULL};

	if (s->failing.count > 0)
		(void)backend_tell(&(struct backend_op){.op = op, .tenant = tenant},
		                   &(struct backend_sink){.arg = &look, .changed = on_changed});
	return look.found;
}

static struct failing_key *add(struct sync *s, const struct identity *id)
{
	struct failing_key *key, **bucket = bucket_of(s, id->hash);
	size_t at = 0;

	key = calloc(1, sizeof *key + id->tenant.bytes + id->topic.bytes + id->name.bytes + 1);
	if (key == NULL)
		return NULL;
	const struct shmeta_str from[] = {id->tenant, id->topic, id->name};
	struct shmeta_str *const to[] = {&key->id.tenant, &key->id.topic, &key->id.name};

	key->id = *id;
	for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
		if (from[i].bytes > 0)
			memcpy(key->text + at, from[i].data, from[i].bytes);
		*to[i] = (struct shmeta_str){key->text + at, from[i].bytes};
		at += from[i].bytes;
	}
	key->next = *bucket;
	*bucket = key;
	s->failing.count++;
	return key;
}

static void remove_at(struct sync *s, struct failing_key **at)
{
	struct failing_key *key = *at;

	*at = key->next;
	s->failing.count--;
	s->failing.holding -= key->holds;
	free(key);
}

/* Twice as long as the last time, from the least wait on. */
static uint64_t pause(struct sync *s, const struct failing_key *key)
{
	uint64_t wait = s->options.retry_min_ms * SYNC_MS, most = s->options.retry_max_ms * SYNC_MS;

	for (uint32_t i = 1; i < key->attempts && wait < most; i++)
		wait *= 2;
	return sync_jitter(s, wait < most ? wait : most, 750, 1000);
}

static struct backend_key row_of(const struct failing_key *key)
{
	static const enum shmeta_class classes[] = {[ENTRY_TOPIC] = SHMETA_CLASS_TOPIC,
	                                            [ENTRY_PART] = SHMETA_CLASS_PARTITION,
	                                            [ENTRY_AGENT] = SHMETA_CLASS_AGENT,
	                                            [ENTRY_OFFSET] = SHMETA_CLASS_OFFSET,
	                                            [ENTRY_LEASE] = SHMETA_CLASS_LEASE};

	return (struct backend_key){.cls = classes[key->id.kind],
	                            .tenant = key->id.tenant,
	                            .topic = key->id.topic,
	                            .name = key->id.name,
	                            .partition_id = key->id.partition_id,
	                            .with_segments = key->want.segments};
}

/* What the store has of it keeps its age, and what readers do not find is UNKNOWN: as a record of
 * the store, which the operator's list shows, and which leaves when the key is applied. A key that
 * is only busy needs none where the store has something of it. */
static enum shmeta_status keep(struct sync *s, struct failing_key *key, bool again, struct shmeta_err *err)
{
	const struct backend_key row = row_of(key);
	struct quarantine q = {.partial = true};
	struct apply *a = &s->apply;
	enum shmeta_status status = alone_mark(a, &row, s->gen, err);
	bool there = status == SHMETA_OK, whole_class = status == SHMETA_ERR_UNSUPPORTED;

	if (status != SHMETA_ABSENT && !there && !whole_class)
		return status;
	key->marked = !whole_class;
	if (again || (key->status == SHMETA_ERR_BUSY && (there || whole_class)))
		return SHMETA_OK;
	a->synced_at_ns = sync_now(s);
	status = quarantine_row(a, &q, &row, 1, key->sentence, err);
	if (status == SHMETA_OK)
		status = quarantine_read_end(a, &q, err);
	quarantine_free(&q);
	return status;
}

/* again: only the age is at stake. A store that does not take it is in trouble, and says so with
 * the next batch; until it does, the stamps of the classes stand still. */
static void keep_age(struct sync *s, struct failing_key *key, bool again)
{
	struct apply_host host = sync_apply_host(s);
	struct shmeta_err err;
	uint64_t txn;
	bool held = key->holds;
	enum shmeta_status status = apply_begin(&s->apply, s->store, &host, sync_oldest_pin(s), false, &err);

	key->marked = false;
	if (status == SHMETA_OK)
		status = keep(s, key, again, &err);
	if (status == SHMETA_OK)
		status = apply_commit(&s->apply, &txn, &err);
	if (status != SHMETA_OK)
		apply_abort(&s->apply);
	key->noted = status == SHMETA_OK && (key->noted || !again);
	key->holds = status != SHMETA_OK || !key->marked;
	s->failing.holding += (size_t)key->holds - (size_t)held;
}

bool failing_note(struct sync *s, const struct identity *id, const struct want *want, enum shmeta_status status,
                  const char *sentence)
{
	struct failing_key *key = failing_find(s, id);

	/* Locks go as they came, however many wait for them. */
	if (key == NULL && (status == SHMETA_ERR_BUSY || s->failing.count < FAILING_MAX))
		key = add(s, id);
	if (key == NULL)
		return false;
	bool again = key->noted && key->status == status && strcmp(key->sentence, sentence) == 0;

	if (!again)
		(void)snprintf(key->sentence, sizeof key->sentence, "%s",
		               sentence[0] != '\0' ? sentence : shmeta_strerror(status));
	key->status = status;
	queue_merge_want(&key->want, want);
	key->want.feed = true; /* whoever asked for it at first: it is to be brought over */
	key->want.pass = false;
	key->trying = false;
	keep_age(s, key, again);
	key->attempts++;
	key->tried_ns = sync_now(s);
	key->next_ns = key->tried_ns + pause(s, key);
	sync_wake_at(s, key->next_ns);
	return true;
}

bool failing_holds(struct sync *s, enum shmeta_class cls)
{
	for (struct failing_key *key = s->failing.holding > 0 ? first(s) : NULL; key != NULL; key = next(s, key)) {
		enum shmeta_class of = row_of(key).cls;

		if (key->holds &&
		    (of == cls ||
		     (of == SHMETA_CLASS_TOPIC && (cls <= SHMETA_CLASS_SEGMENT || cls == SHMETA_CLASS_LIST)) ||
		     (of == SHMETA_CLASS_PARTITION && cls == SHMETA_CLASS_SEGMENT)))
			return true;
	}
	return false;
}

void failing_wanted(struct sync *s, struct failing_key *key, const struct want *want)
{
	uint64_t soon = key->tried_ns + SYNC_S;

	queue_merge_want(&key->want, want);
	key->want.feed = true;
	key->want.pass = false;
	/* A read of its class may have found it as it was before. */
	if (want->feed)
		keep_age(s, key, true);
	/* The feed names what has changed: it may be good now. */
	if (want->feed && soon < key->next_ns) {
		key->next_ns = soon;
		sync_wake_at(s, soon);
	}
}

void failing_postponed(struct failing_key *key, const struct want *want)
{
	queue_merge_want(&key->want, want);
	key->want.pass = false;
	key->trying = false;
}

static void try_busy(struct sync *s, const struct identity *id)
{
	struct failing_key *key = failing_find(s, id);

	if (key != NULL && key->status == SHMETA_ERR_BUSY && !key->trying)
		key->trying = queue_want_now(s, &key->id, &key->want);
}

void failing_unlocked(struct sync *s, const struct backend_key *key)
{
	struct identity id = queue_identity_of_key(key);

	if (s->failing.count == 0)
		return;
	try_busy(s, &id);
	if (id.kind == ENTRY_PART) {
		id = queue_identity(ENTRY_TOPIC, key->tenant, key->topic, 0);
		try_busy(s, &id);
	}
}

void failing_works(struct sync *s, const struct identity *id)
{
	for (struct failing_key **at = bucket_of(s, id->hash); *at != NULL; at = &(*at)->next)
		if (is_of(*at, id)) {
			remove_at(s, at);
			return;
		}
}

void failing_forget_all(struct sync *s)
{
	for (size_t i = 0; i < SYNC_FAILING_BUCKETS && s->failing.count > 0; i++)
		while (s->failing.bucket[i] != NULL)
			remove_at(s, &s->failing.bucket[i]);
}

void failing_retry(struct sync *s)
{
	uint64_t now = s->failing.count > 0 ? sync_now(s) : 0;

	for (struct failing_key *key = first(s); key != NULL; key = next(s, key)) {
		if (key->trying)
			continue;
		if (now < key->next_ns) {
			sync_wake_at(s, key->next_ns);
			continue;
		}
		key->trying = queue_want_now(s, &key->id, &key->want);
	}
}

void failing_retry_anew(struct sync *s)
{
	uint64_t most = s->failing.count > 0 ? sync_now(s) + s->options.retry_max_ms * SYNC_MS : 0;

	for (struct failing_key *key = first(s); key != NULL; key = next(s, key))
		if (key->next_ns > most)
			key->next_ns = most;
}

void failing_try_now(struct sync *s)
{
	for (struct failing_key *key = first(s); key != NULL; key = next(s, key)) {
		struct want want = key->want;

		want.pass = true;
		key->next_ns = 0; /* so many at once have to wait for the next round */
		key->trying = queue_want_now(s, &key->id, &want);
	}
}

const struct failing_key *failing_since(struct sync *s, uint64_t since_ns, size_t *ret_count)
{
	const struct failing_key *last = NULL;

	*ret_count = 0;
	for (const struct failing_key *key = first(s); key != NULL; key = next(s, key))
		if (key->tried_ns >= since_ns) {
			(*ret_count)++;
			last = key;
		}
	return last;
}
