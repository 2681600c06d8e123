/* SPDX-License-Identifier: Apache-2.0
 * What a batch's keys were answered, applied to the store in the transaction that is open. */
#include "writer/keys/batch.h"
#include "writer/keys/bounded.h"

bool batch_class_newer(const struct sync *s, enum shmeta_class cls, uint64_t than_ns)
{
	return shmeta_peek(&s->gen->stamp[cls].synced_at_ns) >= than_ns;
}

bool batch_restamp(struct sync *s, struct sync_entry *e, const struct batch *b)
{
	bool asked;

	if (e->kind == ENTRY_TOPIC ? batch_class_newer(s, SHMETA_CLASS_TOPIC, b->read_at_ns)
	                           : batch_class_newer(s, SHMETA_CLASS_PARTITION, b->read_at_ns) &&
	                                     batch_class_newer(s, SHMETA_CLASS_SEGMENT, b->read_at_ns))
		return false;
	pthread_mutex_lock(&s->queue->lock);
	asked = e->tickets != NULL || e->want.due;
	pthread_mutex_unlock(&s->queue->lock);
	return asked;
}

static enum shmeta_status apply_rows(struct batch *b, const struct fetched_part *part, uint64_t from, uint64_t to,
                                     struct shmeta_err *err)
{
	const struct shmeta_segment *rows = part->row_count > 0 ? b->row + part->row_at : NULL;

	return apply_segments(&b->s->apply, from, to, rows, part->row_count, err);
}

/* Judge a topic's answer before anything of it is applied: without segments it can only be applied
 * to an incarnation, and to partitions, that the store has. */
static enum shmeta_status topic_needs_more(struct batch *b, const struct fetched_key *g, bool *ret,
                                           struct shmeta_err *err)
{
	struct apply *a = &b->s->apply;
	struct shmeta_topic stored;

	*ret = false;
	if (g->entry->want.segments || (g->entry->row_only && b->s->bounded != NULL))
		return SHMETA_OK;
	if (!g->found || !g->has_topic) {
		/* quarantined: all that cannot be served without it is counted */
		*ret = g->bad_count > 0;
		return SHMETA_OK;
	}
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

static enum shmeta_status apply_one_topic(struct batch *b, const struct fetched_key *g, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	struct sync_entry *e = g->entry;
	enum shmeta_status status;

	if (!g->found || !g->has_topic) {
		/* found without a row: the row is quarantined, as it would be in a load. */
		status = apply_topic_delete(a, e->tenant, e->topic, err);
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	}
	const struct apply_topic_opts opts = {.synced_at_ns = b->read_at_ns,
	                                      .deleted = e->want.deleted,
	                                      .born_since = e->want.born_since,
	                                      .restamp = batch_restamp(s, e, b)};

	status = apply_topic(a, e->tenant, &g->topic, &opts, err);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? SHMETA_OK : status;
	if (e->row_only) {
		uint32_t topic_id = a->topic_id;

		apply_topic_leave(a);
		/* What of its partitions has changed is not known: whoever uses them has them read
		 * again. */
		return e->want.segments ? apply_evict_partitions_of(a, topic_id, err) : SHMETA_OK;
	}
	for (size_t i = 0; i < g->part_count; i++) {
		const struct fetched_part *part = &b->part[g->part_at + i];
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

/* All ranges of one partition: b->fetched[at .. at + count). */
static enum shmeta_status apply_one_part(struct batch *b, size_t at, size_t count, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	const struct fetched_key *g = &b->fetched[at];
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
		const struct fetched_key *range = &b->fetched[at + i];

		if (range->part_count > 0)
			status = apply_rows(b, &b->part[range->part_at], b->key[at + i].from, b->key[at + i].to, err);
	}
	return status == SHMETA_OK ? apply_partition_end(a, e->want.whole, e->want.whole && batch_restamp(s, e, b), err)
	                           : status;
}

/* A partition that was created at another time than the stored one belongs to another incarnation
 * of its topic. */
static enum shmeta_status part_needs_topic(struct batch *b, const struct fetched_key *g, uint32_t topic_id, bool *ret,
                                           struct shmeta_err *err)
{
	struct shmeta_partition stored;
	uint64_t last;
	bool any;

	*ret = false;
	if (!g->found || g->part_count == 0) {
		/* Its row is quarantined: only a whole read counts all that cannot be served
		 * without it. */
		for (size_t i = 0; i < g->bad_count && !g->entry->want.whole; i++)
			*ret |= b->bad[g->bad_at + i].row.cls == SHMETA_CLASS_PARTITION;
		return SHMETA_OK;
	}
	enum shmeta_status status =
		apply_partition_get(b->s->apply.txn, topic_id, g->entry->partition_id, &stored, &last, &any, err);

	if (status < 0)
		return status;
	*ret = status == SHMETA_OK && stored.created_at_ms != b->part[g->part_at].record.created_at_ms &&
	       !(g->entry->want.topic_asked && g->entry->want.whole);
	/* Gone from the store since the plan: only a whole read can bring it back. */
	if (status == SHMETA_ABSENT && !g->entry->want.whole)
		*ret = true;
	return SHMETA_OK;
}

/* Was the source asked for one offset or lease that it does not have? An offset's group comes with
 * it. */
static bool lacks_record(const struct batch *b, const struct fetched_key *g)
{
	for (size_t i = 0; i < g->small_count; i++)
		if (b->small[g->small_at + i].kind == FETCHED_OFFSET || b->small[g->small_at + i].kind == FETCHED_LEASE)
			return false;
	return g->entry->topic.bytes > 0 && g->bad_count == 0;
}

static enum shmeta_status apply_small(struct batch *b, const struct fetched_key *g, struct shmeta_err *err)
{
	struct apply *a = &b->s->apply;
	enum shmeta_class cls = b->key[g - b->fetched].cls;
	struct sync_entry *e = g->entry;
	enum shmeta_status status = SHMETA_OK;

	e->absent = lacks_record(b, g);
	if (queue_is_class(e))
		apply_class_begin(a, cls, b->read_at_ns);
	else
		apply_key_begin(a, b->read_at_ns);
	for (size_t i = 0; i < g->small_count && status == SHMETA_OK; i++) {
		const struct fetched_small *small = &b->small[g->small_at + i];

		switch (small->kind) {
		case FETCHED_AGENT:
			status = apply_agent(a, small->tenant, &small->agent, err);
			break;
		case FETCHED_GROUP:
			status = apply_group(a, small->tenant, &small->group, err);
			break;
		case FETCHED_OFFSET:
			status = apply_offset(a, small->tenant, small->topic, &small->offset, err);
			break;
		case FETCHED_LEASE:
			status = apply_lease(a, small->tenant, small->topic, &small->lease, err);
			break;
		}
	}
	if (status != SHMETA_OK)
		return status;
	if (queue_is_class(e))
		return apply_class_end(a, cls, err);
	return apply_key_end(a, &(struct apply_key){cls, e->tenant, e->topic, e->name, e->partition_id}, err);
}

static void forget_from_batch(struct batch *b, const struct sync_entry *e)
{
	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] == e)
			b->entry[i] = NULL;
	for (size_t i = 0; i < b->key_count; i++)
		if (b->fetched[i].entry == e)
			b->fetched[i].entry = NULL;
}

uint64_t batch_clock_topic(const struct sync_entry *e)
{
	return e->kind <= ENTRY_PART ? queue_name_hash(e->tenant, e->topic)
	                             : queue_name_hash((struct shmeta_str){"", 0}, (struct shmeta_str){"", 0});
}

int64_t batch_clock_partition(const struct sync_entry *e)
{
	return e->kind == ENTRY_PART ? (int64_t)e->partition_id : APPLY_CLOCK_TOPIC;
}

static bool reads_topic(const struct batch *b, struct shmeta_str tenant, struct shmeta_str topic)
{
	for (size_t i = 0; i < b->entry_count; i++)
		if (b->entry[i] != NULL && b->entry[i]->kind == ENTRY_TOPIC && str_equal(b->entry[i]->topic, topic) &&
		    str_equal(b->entry[i]->tenant, tenant))
			return true;
	return false;
}

/* An offset or a lease of a topic that the feed has not named yet can only be shown together with
 * it: have the topic read, once. *ret: the row that names such a topic, NULL: none. */
static enum shmeta_status small_needs_topic(const struct batch *b, const struct fetched_key *g,
                                            const struct fetched_small **ret, struct shmeta_err *err)
{
	const struct fetched_small *known = NULL;

	*ret = NULL;
	if (g->entry->want.topic_asked || queue_is_class(g->entry))
		return SHMETA_OK;
	/* Where topics may be missing, all offsets of a group do not bring theirs in. */
	if (b->s->bounded != NULL && g->entry->topic.bytes == 0 && bounded_lacks(b->s, SHMETA_CLASS_TOPIC))
		return SHMETA_OK;
	for (size_t i = 0; i < g->small_count && *ret == NULL; i++) {
		const struct fetched_small *small = &b->small[g->small_at + i];
		struct shmeta_topic stored;

		if ((small->kind != FETCHED_OFFSET && small->kind != FETCHED_LEASE) || small->topic.bytes == 0 ||
		    small->topic.bytes > SHMETA_NAME_MAX || small->tenant.bytes > SHMETA_TENANT_MAX)
			continue;
		if (known != NULL && str_equal(known->topic, small->topic) && str_equal(known->tenant, small->tenant))
			continue;
		enum shmeta_status status =
			apply_topic_get(b->s->apply.txn, small->tenant, small->topic, &stored, NULL, err);

		if (status < 0)
			return status;
		known = small;
		if (status == SHMETA_ABSENT && !reads_topic(b, small->tenant, small->topic))
			*ret = small;
	}
	return SHMETA_OK;
}

static void wait_for_topic(struct batch *b, struct sync_entry *e, const struct fetched_small *small)
{
	struct sync *s = b->s;
	struct identity id = queue_identity_of(e);
	struct identity topic = queue_identity(ENTRY_TOPIC, small->tenant, small->topic, 0);
	const struct want wanted = {.feed = e->want.feed, .segments = true};
	struct want again = e->want;

	again.topic_asked = true;
	forget_from_batch(b, e);
	pthread_mutex_lock(&s->queue->lock);
	if (s->bounded != NULL) {
		reread_behind_topic(s, e, small->tenant, small->topic);
		pthread_mutex_unlock(&s->queue->lock);
		return;
	}
	/* In front of it in the queue. */
	if (queue_want(s->queue, &topic, &wanted) == NULL)
		schedule_ask_pass(s, true, "there was no memory for a key");
	reread_key(s, e, &id, &again);
	pthread_mutex_unlock(&s->queue->lock);
}

void batch_reread_topic(struct batch *b, struct sync_entry *e)
{
	if (b->s->bounded != NULL && e->kind == ENTRY_PART)
		reread_behind_topic(b->s, e, e->tenant, e->topic);
	else
		reread_topic(b->s, e, false);
}

enum shmeta_status batch_sift(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;

	for (size_t i = 0; i < b->key_count; i++) {
		struct sync_entry *e = b->fetched[i].entry;
		bool more = false;
		enum shmeta_status status = SHMETA_OK;

		if (e == NULL)
			continue;
		if (apply_clock_superseded(&s->apply_clock, batch_clock_topic(e), batch_clock_partition(e),
		                           b->sequence)) {
			struct identity id = queue_identity_of(e);
			struct want want = e->want;

			forget_from_batch(b, e);
			pthread_mutex_lock(&s->queue->lock);
			reread_key(s, e, &id, &want);
			pthread_mutex_unlock(&s->queue->lock);
			continue;
		}
		if (e->kind == ENTRY_TOPIC) {
			status = topic_needs_more(b, &b->fetched[i], &more, err);
		} else if (e->kind == ENTRY_PART) {
			struct shmeta_topic topic;

			status = apply_topic_get(s->apply.txn, e->tenant, e->topic, &topic, NULL, err);
			if (status == SHMETA_OK)
				status = part_needs_topic(b, &b->fetched[i], topic.topic_id, &more, err);
		} else if (e->kind == ENTRY_OFFSET || e->kind == ENTRY_LEASE) {
			const struct fetched_small *small;

			status = small_needs_topic(b, &b->fetched[i], &small, err);
			if (status == SHMETA_OK && small != NULL)
				wait_for_topic(b, e, small);
		}
		if (status < 0)
			return status;
		if (more) {
			forget_from_batch(b, e);
			pthread_mutex_lock(&s->queue->lock);
			batch_reread_topic(b, e);
			pthread_mutex_unlock(&s->queue->lock);
		}
	}
	return SHMETA_OK;
}

enum shmeta_status batch_apply_quarantined(struct batch *b, size_t at, size_t count, struct shmeta_err *err)
{
	struct apply *a = &b->s->apply;
	enum shmeta_status status = SHMETA_OK;

	for (size_t k = at; k < at + count; k++) {
		const struct fetched_key *g = &b->fetched[k];

		for (size_t i = 0; i < g->bad_count && status == SHMETA_OK; i++) {
			const struct fetched_bad *bad = &b->bad[g->bad_at + i];

			/* Each range of a partition comes with its row. */
			if (k == at || bad->row.cls != SHMETA_CLASS_PARTITION)
				status = quarantine_row(a, &b->quarantine, &bad->row, bad->rows, bad->sentence, err);
		}
	}
	for (size_t k = at; k < at + count && status == SHMETA_OK; k++)
		status = quarantine_key_end(a, &b->quarantine, &b->key[k], err);
	return status;
}

enum shmeta_status batch_apply(struct batch *b, struct shmeta_err *err)
{
	struct sync *s = b->s;
	struct apply *a = &s->apply;
	enum shmeta_status status = SHMETA_OK;
	const struct sync_entry *entered = NULL;
	bool present = false;

	a->synced_at_ns = b->read_at_ns;
	for (size_t i = 0; i < b->key_count && status >= 0;) {
		struct sync_entry *e = b->fetched[i].entry;
		size_t count = 1;

		if (e == NULL) {
			i++;
			continue;
		}
		while (i + count < b->key_count && b->fetched[i + count].entry == e)
			count++;
		uint64_t before = a->changed;

		bounded_apply(s, e);
		quarantine_begin(&b->quarantine, e->kind == ENTRY_TOPIC && (!e->want.segments || e->row_only));
		if (e->kind == ENTRY_TOPIC) {
			status = apply_one_topic(b, &b->fetched[i], err);
		} else if (e->kind == ENTRY_PART) {
			if (entered == NULL || !str_equal(entered->topic, e->topic) ||
			    !str_equal(entered->tenant, e->tenant)) {
				if (present)
					apply_topic_leave(a);
				status = apply_topic_enter(a, e->tenant, e->topic, err);
				present = status == SHMETA_OK;
				entered = e;
			}
			if (status >= 0 && present)
				status = apply_one_part(b, i, count, err);
		} else {
			if (present)
				apply_topic_leave(a);
			present = false;
			status = apply_small(b, &b->fetched[i], err);
		}
		if (e->want.repair)
			b->repaired += a->changed - before;
		if (status >= 0)
			status = batch_apply_quarantined(b, i, count, err);
		i += count;
	}
	if (status < 0)
		return status;
	if (present)
		apply_topic_leave(a);
	return SHMETA_OK;
}
