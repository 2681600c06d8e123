/* SPDX-License-Identifier: Apache-2.0
 * Keys that fail by themselves. They are few: a list will do. */
#include "writer/failing.h"

#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

enum { FAILING_MAX = 1000 };

static bool is_of(const struct failing_key *key, const struct identity *id)
{
	return key->id.hash == id->hash && key->id.kind == id->kind && key->id.partition_id == id->partition_id &&
	       queue_same(key->id.topic, id->topic) && queue_same(key->id.tenant, id->tenant) &&
	       queue_same(key->id.name, id->name);
}

struct failing_key *failing_find(struct sync *s, const struct identity *id)
{
	for (struct failing_key *key = s->failing.first; key != NULL; key = key->next)
		if (is_of(key, id))
			return key;
	return NULL;
}

static bool writes_to(const struct shmeta_op *op, const struct identity *id)
{
	bool whole = op->type == SHMETA_OP_CREATE_TOPIC || op->type == SHMETA_OP_DELETE_TOPIC;

	if (id->topic.bytes > 0)
		return queue_same(id->topic, op->type == SHMETA_OP_CREATE_TOPIC ? op->u.topic.name : op->name) &&
		       (id->kind == ENTRY_TOPIC || (!whole && id->partition_id == op->partition_id));
	switch (op->type) {
	case SHMETA_OP_REGISTER_AGENT:
		return queue_same(id->name, op->u.agent.agent_id);
	case SHMETA_OP_COMMIT_OFFSET:
		return queue_same(id->name, op->u.committed.group_id);
	default:
		return id->name.bytes > 0 && (queue_same(id->name, op->agent_id) || queue_same(id->name, op->group_id));
	}
}

const struct failing_key *failing_of_op(struct sync *s, struct shmeta_str tenant, const struct shmeta_op *op)
{
	for (const struct failing_key *key = s->failing.first; key != NULL; key = key->next)
		if (queue_same(key->id.tenant, tenant) && writes_to(op, &key->id))
			return key;
	return NULL;
}

static struct failing_key *add(struct sync *s, const struct identity *id)
{
	struct failing_key *key;
	size_t at = 0;

	if (s->failing.count >= FAILING_MAX)
		return NULL;
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
	key->next = s->failing.first;
	s->failing.first = key;
	s->failing.count++;
	return key;
}

static void remove_at(struct sync *s, struct failing_key **at)
{
	struct failing_key *key = *at;

	*at = key->next;
	s->failing.count--;
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

/* As a record of the store: lookups answer UNKNOWN, and the operator's list shows it. It leaves when the key is applied. A store
 * that does not take it is in trouble, and says so with the next batch. */
static void quarantine(struct sync *s, const struct backend_key *row, const char *sentence)
{
	struct quarantine q = {.partial = true};
	struct apply_host host = sync_apply_host(s);
	struct apply *a = &s->apply;
	struct shmeta_err err;
	uint64_t txn;
	enum shmeta_status status = apply_begin(a, s->store, &host, sync_oldest_pin(s), false, &err);

	if (status == SHMETA_OK) {
		a->synced_at_ns = sync_now(s);
		status = quarantine_row(a, &q, row, 1, sentence, &err);
	}
	if (status == SHMETA_OK)
		status = quarantine_read_end(a, &q, &err);
	if (status == SHMETA_OK)
		status = apply_commit(a, &txn, &err);
	if (status != SHMETA_OK)
		apply_abort(a);
	quarantine_free(&q);
}

bool failing_note(struct sync *s, const struct identity *id, const struct want *want, enum shmeta_status status,
                  const char *sentence)
{
	static const enum shmeta_class classes[] = {[ENTRY_TOPIC] = SHMETA_CLASS_TOPIC,
	                                            [ENTRY_PART] = SHMETA_CLASS_PARTITION,
	                                            [ENTRY_AGENT] = SHMETA_CLASS_AGENT,
	                                            [ENTRY_OFFSET] = SHMETA_CLASS_OFFSET,
	                                            [ENTRY_LEASE] = SHMETA_CLASS_LEASE};
	struct failing_key *key = failing_find(s, id);

	if (key == NULL)
		key = add(s, id);
	if (key == NULL)
		return false;
	if (key->status != status || strcmp(key->sentence, sentence) != 0) {
		const struct backend_key row = {.cls = classes[id->kind],
		                                .tenant = id->tenant,
		                                .topic = id->topic,
		                                .name = id->name,
		                                .partition_id = id->partition_id};

		(void)snprintf(key->sentence, sizeof key->sentence, "%s",
		               sentence[0] != '\0' ? sentence : shmeta_strerror(status));
		quarantine(s, &row, key->sentence);
	}
	key->status = status;
	queue_merge_want(&key->want, want);
	key->want.feed = true; /* whoever asked for it at first: it is to be brought over */
	key->trying = false;
	key->attempts++;
	key->tried_ns = sync_now(s);
	key->next_ns = key->tried_ns + pause(s, key);
	sync_wake_at(s, key->next_ns);
	return true;
}

void failing_wanted(struct sync *s, struct failing_key *key, const struct want *want)
{
	uint64_t soon = key->tried_ns + SYNC_S;

	queue_merge_want(&key->want, want);
	key->want.feed = true;
	/* The feed names what has changed: it may be good now. */
	if (want->feed && soon < key->next_ns) {
		key->next_ns = soon;
		sync_wake_at(s, soon);
	}
}

void failing_works(struct sync *s, const struct identity *id)
{
	for (struct failing_key **at = &s->failing.first; *at != NULL; at = &(*at)->next)
		if (is_of(*at, id)) {
			remove_at(s, at);
			return;
		}
}

void failing_forget_all(struct sync *s)
{
	while (s->failing.first != NULL)
		remove_at(s, &s->failing.first);
}

void failing_retry(struct sync *s)
{
	uint64_t now = s->failing.count > 0 ? sync_now(s) : 0;

	for (struct failing_key *key = s->failing.first; key != NULL; key = key->next) {
		if (key->trying)
			continue;
		if (now < key->next_ns) {
			sync_wake_at(s, key->next_ns);
			continue;
		}
		pthread_mutex_lock(&s->queue.lock);
		key->trying = queue_want(&s->queue, &key->id, &key->want) != NULL;
		pthread_mutex_unlock(&s->queue.lock);
	}
}
