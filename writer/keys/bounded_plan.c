/* SPDX-License-Identifier: Apache-2.0
 * What is read of the keys that wait, in a store that need not have all of them (bounded.h).
 *
 * A key that is not resident is read when somebody asks for it, and when the store would otherwise
 * say something of it that need not be true any more: that it is absent. It says so of a class that
 * lacks nothing, and where it has a record of that absence. */
#include <stdio.h>

#include "base/size_text.h"
#include "writer/engine/engine.h"
#include "writer/engine/failing.h"
#include "writer/keys/bounded.h"

static bool is_asked(struct sync *s, const struct sync_entry *e)
{
	pthread_mutex_lock(&s->queue->lock);
	bool asked = e->tickets != NULL;

	pthread_mutex_unlock(&s->queue->lock);
	return asked || e->want.topic_asked || e->want.missed;
}

/* Nobody but a lookup that met it unknown would have it read: it has come since. */
static bool only_missed(struct sync *s, const struct sync_entry *e)
{
	pthread_mutex_lock(&s->queue->lock);
	bool waited_for = e->tickets != NULL;

	pthread_mutex_unlock(&s->queue->lock);
	return e->want.missed && !waited_for && !e->want.due && !e->want.feed && !e->want.pass && !e->want.topic_asked;
}

/* Does the store say that it, or what its key may stand for, is absent? OK or ABSENT. */
static enum shmeta_status noted(struct shmeta__txn *txn, const struct sync_entry *e, struct shmeta_err *err)
{
	/* A topic's key may stand for all of its partitions. */
	enum shmeta_status status = e->kind == ENTRY_TOPIC
	                                    ? apply_absence_any(txn, e->tenant, e->topic, err)
	                                    : apply_absence_get(txn, e->tenant, e->topic, APPLY_ABSENT_TOPIC, err);

	return status == SHMETA_ABSENT && e->kind == ENTRY_PART
	               ? apply_absence_get(txn, e->tenant, e->topic, e->partition_id, err)
	               : status;
}

static enum shmeta_status plan_topic(struct sync *s, struct shmeta__txn *txn, struct sync_entry *e,
                                     const struct shmeta_topic *topic, enum bounded_plan *ret, struct shmeta_err *err)
{
	/* The sum of a topic's partitions needs them all; a topic that large is not brought in for
	 * it. */
	enum { PART_OF_BUDGET = 4 };
	enum shmeta_status status;

	*ret = BOUNDED_ROW;
	if (topic != NULL) {
		if (only_missed(s, e))
			*ret = BOUNDED_SKIP;
		else if (e->want.segments && is_asked(s, e) &&
		         topic->partition_count <= s->options.max_partitions / PART_OF_BUDGET)
			*ret = BOUNDED_READ;
		return SHMETA_OK;
	}
	if (is_asked(s, e) || !bounded_lacks(s, SHMETA_CLASS_TOPIC) ||
	    bounded_has_room(s, shmeta__store_counters(s->store)->topics))
		return SHMETA_OK;
	status = noted(txn, e, err);
	if (status == SHMETA_ABSENT)
		*ret = BOUNDED_SKIP;
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status plan_partition(struct sync *s, struct shmeta__txn *txn, struct sync_entry *e,
                                         const struct shmeta_topic *topic, enum bounded_plan *ret,
                                         struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_ABSENT;
	struct shmeta_partition partition;
	uint64_t last;
	bool any;

	if (topic != NULL)
		status = apply_partition_get(txn, topic->topic_id, e->partition_id, &partition, &last, &any, err);
	if (status != SHMETA_ABSENT) {
		*ret = only_missed(s, e) ? BOUNDED_SKIP : BOUNDED_READ;
		return status < 0 ? status : SHMETA_OK;
	}
	if (topic == NULL && is_asked(s, e) && !e->want.topic_asked) {
		*ret = BOUNDED_BEHIND_TOPIC;
		return SHMETA_OK;
	}
	*ret = BOUNDED_WHOLE;
	if (is_asked(s, e)) {
		if (topic != NULL && bounded_too_large(s, shmeta__part_key(topic->topic_id, e->partition_id)) != 0)
			*ret = BOUNDED_TOO_LARGE;
		return SHMETA_OK;
	}
	if (topic == NULL)
		*ret = BOUNDED_AS_TOPIC;
	if (!bounded_lacks(s, topic == NULL ? SHMETA_CLASS_TOPIC : SHMETA_CLASS_PARTITION))
		return SHMETA_OK;
	status = noted(txn, e, err);
	if (status == SHMETA_ABSENT)
		*ret = BOUNDED_SKIP;
	return status < 0 ? status : SHMETA_OK;
}

enum shmeta_status bounded_plan(struct sync *s, struct shmeta__txn *txn, struct sync_entry *e, enum bounded_plan *ret,
                                struct shmeta_err *err)
{
	struct shmeta_topic topic;
	enum shmeta_status status;

	*ret = BOUNDED_READ;
	if (e->kind == ENTRY_AGENT || e->topic.bytes == 0)
		return SHMETA_OK;
	status = apply_topic_get(txn, e->tenant, e->topic, &topic, NULL, err);
	if (status < 0)
		return status;
	if (e->kind == ENTRY_TOPIC)
		return plan_topic(s, txn, e, status == SHMETA_OK ? &topic : NULL, ret, err);
	if (e->kind == ENTRY_PART)
		return plan_partition(s, txn, e, status == SHMETA_OK ? &topic : NULL, ret, err);
	/* Offsets and leases hang on their topic. */
	if (status == SHMETA_ABSENT && !is_asked(s, e) && bounded_lacks(s, SHMETA_CLASS_TOPIC))
		*ret = BOUNDED_SKIP;
	return SHMETA_OK;
}

bool bounded_skip(struct sync *s, struct sync_entry *e)
{
	struct identity id = queue_identity_of(e);

	failing_works(s, &id);
	pthread_mutex_lock(&s->queue->lock);
	bool skipped = e->tickets == NULL, of_feed = e->want.feed;

	if (skipped)
		queue_forget(s->queue, e);
	pthread_mutex_unlock(&s->queue->lock);
	s->counters.feed_skipped += skipped && of_feed;
	return skipped;
}

void bounded_refuse(struct sync *s, struct sync_entry *e)
{
	char text[SHMETA_NAME_MAX + 200], takes[SIZE_TEXT_BYTES], limit[SIZE_TEXT_BYTES];
	struct identity id = queue_identity_of(e);

	(void)snprintf(
		text, sizeof text,
		"%.*s/%u takes %s with its segment index, more than bounded.max_segment_bytes (%s), so the store "
		"does not keep it: raise that and reload",
		(int)e->topic.bytes, e->topic.data, e->partition_id, size_text(bounded_refused_bytes(s), takes),
		size_text(s->options.max_segment_bytes, limit));
	failing_works(s, &id);
	pthread_mutex_lock(&s->queue->lock);
	struct sync_ticket *tickets = e->tickets;

	e->tickets = NULL;
	queue_forget(s->queue, e);
	pthread_mutex_unlock(&s->queue->lock);
	queue_answer(s, tickets, SHMETA_ERR_FULL, text, 0, 0);
}
