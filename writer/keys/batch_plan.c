/* SPDX-License-Identifier: Apache-2.0
 * Which keys a batch asks of the source.
 *
 * high_watermark and segments of a partition always come from the same read and go into the same
 * commit: a partition's row is never fetched without the segments beyond the last one that the
 * store has. A topic's row brings the set of its partitions, not their watermarks. */
#include <stdlib.h>

#include "writer/apply/alone.h"
#include "writer/engine/failing.h"
#include "writer/keys/batch.h"
#include "writer/keys/bounded.h"

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
	if (order == 0)
		order = compare_str(x->name, y->name);
	if (order != 0)
		return order;
	return x->partition_id < y->partition_id ? -1 : x->partition_id > y->partition_id;
}

void batch_compact(struct batch *b)
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
		struct fetched_key *fetched = reallocarray(b->fetched, more, sizeof *fetched);

		if (fetched == NULL)
			return false;
		b->fetched = fetched;
		b->key_capacity = more;
	}
	b->key[b->key_count] = (struct backend_key){.cls = cls,
	                                            .tenant = e->tenant,
	                                            .topic = e->topic,
	                                            .name = e->name,
	                                            .partition_id = e->partition_id,
	                                            .with_segments = e->want.segments && !e->row_only,
	                                            .row_only = e->row_only,
	                                            .from = from,
	                                            .to = to};
	b->fetched[b->key_count] = (struct fetched_key){.entry = e};
	b->key_count++;
	return true;
}

/* In bounded mode: is the entry to be read now? Otherwise it is gone, or waits again. */
static enum shmeta_status plan_bounded(struct batch *b, struct shmeta__txn *txn, size_t i, bool *ret_read,
                                       struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct sync_entry *e = b->entry[i];
	struct want want = e->want;
	struct identity topic = queue_identity(ENTRY_TOPIC, e->tenant, e->topic, 0);
	enum bounded_plan how;
	enum shmeta_status status = bounded_plan(s, txn, e, &how, err);

	/* Somebody may have asked for it in between. */
	if (status == SHMETA_OK && how == BOUNDED_SKIP && !bounded_skip(s, e))
		status = bounded_plan(s, txn, e, &how, err);
	if (status != SHMETA_OK)
		return status;
	*ret_read = how == BOUNDED_READ || how == BOUNDED_ROW || how == BOUNDED_WHOLE;
	if (*ret_read) {
		e->row_only = how == BOUNDED_ROW;
		e->want.whole |= how == BOUNDED_WHOLE;
		return SHMETA_OK;
	}
	b->entry[i] = NULL;
	if (how == BOUNDED_TOO_LARGE)
		bounded_refuse(s, e);
	if (how == BOUNDED_SKIP || how == BOUNDED_TOO_LARGE)
		return SHMETA_OK;
	pthread_mutex_lock(&s->queue->lock);
	want.topic_asked = true;
	want.segments = want.whole = false;
	want.range_count = 0;
	if (how == BOUNDED_AS_TOPIC)
		reread_key(s, e, &topic, &want);
	else
		reread_behind_topic(s, e, e->tenant, e->topic);
	pthread_mutex_unlock(&s->queue->lock);
	return SHMETA_OK;
}

enum shmeta_status batch_plan(struct batch *b, struct shmeta_err *err)
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
		bool any = false, now = true;

		if (s->bounded != NULL)
			status = plan_bounded(b, txn, i, &now, err);
		if (status < 0 || !now)
			continue;
		switch (e->kind) {
		case ENTRY_TOPIC:
			status = apply_topic_get(txn, e->tenant, e->topic, &topic, NULL, err);
			if (status == SHMETA_ABSENT && !e->row_only)
				e->want.segments = true;
			e->row_only |= status == SHMETA_OK && e->want.row_only && !e->want.segments;
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
		if (status == SHMETA_ABSENT && s->bounded == NULL) {
			pthread_mutex_lock(&s->queue->lock);
			reread_topic(s, e, false);
			pthread_mutex_unlock(&s->queue->lock);
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
		/* A former writer could not read it: how much of it has changed is not known any
		 * more. */
		if (!e->want.whole && status == SHMETA_OK) {
			struct identity id = queue_identity_of(e);
			bool alone;

			status = alone_partition(txn, topic.topic_id, e->partition_id, &alone, err);
			if (status < 0)
				break;
			e->want.whole = alone && failing_find(s, &id) == NULL;
		}
		if (!e->want.whole) {
			/* The row comes with everything beyond the last segment that the store has,
			 * and with that one where nothing can lie beyond it. */
			tail = !any ? 0 : last < SYNC_LAST_OFFSET ? last + 1 : last;
			queue_add_range(&e->want, tail, SYNC_LAST_OFFSET);
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

void batch_sort(struct sync_entry **entry, size_t count)
{
	qsort(entry, count, sizeof(struct sync_entry *), compare_entry);
}
