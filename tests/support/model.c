/* SPDX-License-Identifier: Apache-2.0
 * The oracle of the differential test (model.h). */
#include "tests/support/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same(struct shmeta_str a, const char *b)
{
	return a.bytes == strlen(b) && (a.bytes == 0 || memcmp(a.data, b, a.bytes) == 0);
}

static void keep(char ret[MODEL_TEXT], struct shmeta_str text)
{
	(void)snprintf(ret, MODEL_TEXT, "%.*s", (int)text.bytes, text.bytes > 0 ? text.data : "");
}

int model_number(struct shmeta_str name, int most)
{
	int n = name.bytes == 2 ? name.data[1] - '0' : -1;

	return n >= 0 && n < most ? n : -1;
}

/* ---- the tables ---- */

struct model_segment *model_segment(struct model *m, int topic, uint32_t partition, uint64_t base)
{
	struct model_partition *p = &m->topic[topic].partition[partition];

	for (size_t i = 0; i < p->segments; i++)
		if (p->segment[i].base == base)
			return &p->segment[i];
	return NULL;
}

static bool has_segment_id(const struct model *m, const char *id)
{
	for (int t = 0; t < MODEL_TOPICS; t++)
		for (int k = 0; k < MODEL_PARTITIONS; k++)
			for (size_t i = 0; i < m->topic[t].partition[k].segments; i++)
				if (strcmp(m->topic[t].partition[k].segment[i].id, id) == 0)
					return true;
	return false;
}

bool model_put_segment(struct model *m, int topic, uint32_t partition, const struct model_segment *segment)
{
	struct model_topic *t = &m->topic[topic];
	struct model_partition *p = &t->partition[partition];
	size_t at = 0;

	if (p->segments == MODEL_SEGMENTS)
		return false;
	while (at < p->segments && p->segment[at].base < segment->base)
		at++;
	memmove(&p->segment[at + 1], &p->segment[at], (p->segments - at) * sizeof p->segment[0]);
	p->segment[at] = *segment;
	p->segments++;
	if (m->schema.adding_moves_retention) {
		t->retention_ms = (t->has_retention ? t->retention_ms : 0) + 1;
		t->has_retention = true;
	}
	return true;
}

void model_drop_segment(struct model *m, int topic, uint32_t partition, uint64_t base)
{
	struct model_partition *p = &m->topic[topic].partition[partition];
	struct model_segment *s = model_segment(m, topic, partition, base);

	if (s == NULL)
		return;
	p->segments--;
	memmove(s, s + 1, (size_t)(&p->segment[p->segments] - s) * sizeof *s);
}

void model_drop_topic(struct model *m, int topic)
{
	struct model_topic *t = &m->topic[topic];

	for (int i = 0; i < MODEL_PARTITIONS; i++) {
		struct model_partition *p = &t->partition[i];

		p->there = p->lease.there = false;
		p->watermark = 0;
		p->segments = 0;
		memset(p->committed, 0, sizeof p->committed);
	}
	t->there = t->has_retention = false;
	t->partitions = 0;
	t->retention_ms = 0;
	t->config = 0;
}

void model_drop_group(struct model *m, int group)
{
	m->group[group] = false;
	for (int t = 0; t < MODEL_TOPICS; t++)
		for (int p = 0; p < MODEL_PARTITIONS; p++)
			m->topic[t].partition[p].committed[group].there = false;
}

void model_drop_agent(struct model *m, int agent)
{
	m->agent[agent].there = false;
	for (int t = 0; t < MODEL_TOPICS; t++)
		for (int p = 0; p < MODEL_PARTITIONS; p++)
			if (m->topic[t].partition[p].lease.agent == agent)
				m->topic[t].partition[p].lease.there = false;
}

void model_set_lease(struct model *m, int topic, uint32_t partition, int agent, uint64_t epoch, bool expired)
{
	struct model_partition *p = &m->topic[topic].partition[partition];

	p->lease.there = true;
	p->lease.foreign = false;
	p->lease.agent = agent;
	p->lease.epoch = epoch;
	p->lease.expired = expired;
	if (epoch > p->highest_lease)
		p->highest_lease = epoch;
}

bool model_watermark_allowed(const struct model *m, uint64_t watermark)
{
	return !m->schema.watermark_is_checked || watermark % 7 != 3;
}

static bool holds(const struct model *m, const struct model_segment *s)
{
	return m->schema.segments_are_held && s->base % 50 == 0;
}

/* ---- leader epochs ---- */

/* An operation wrote to the partition, under a fence or not, from `start` on. */
static void record_epoch(struct model_partition *p, const struct shmeta_op *op, uint64_t start)
{
	size_t at = 0;

	if (op->fence.agent_id.bytes == 0)
		return;
	while (at < p->epochs && p->epoch[at].epoch < op->fence.epoch)
		at++;
	if (at < p->epochs && p->epoch[at].epoch == op->fence.epoch) {
		if (op->type != SHMETA_OP_UPDATE_HIGH_WATERMARK && start < p->epoch[at].start)
			p->epoch[at].start = start;
		return;
	}
	if (p->epochs == MODEL_EPOCHS)
		abort();
	memmove(&p->epoch[at + 1], &p->epoch[at], (p->epochs - at) * sizeof p->epoch[0]);
	p->epoch[at] = (struct model_epoch){op->fence.epoch, start};
	p->epochs++;
}

/* A topic begins without any, and leaves none behind when it is deleted by an operation. */
static void forget_epochs(struct model_topic *t)
{
	for (int i = 0; i < MODEL_PARTITIONS; i++) {
		t->partition[i].epochs = 0;
		t->partition[i].epochs_dropped = false;
	}
}

/* Of those that end at or below the log start only the newest stays. */
static void drop_epochs(struct model_partition *p)
{
	const uint64_t log_start = p->segments > 0 ? p->segment[0].base : p->watermark;
	bool ended[MODEL_EPOCHS] = {false};
	size_t newest = 0, kept = 0, before = p->epochs;

	for (size_t i = 0; i + 1 < before; i++) {
		ended[i] = p->epoch[i + 1].start <= log_start;
		newest = ended[i] ? i : newest;
	}
	for (size_t i = 0; i < before; i++)
		if (!ended[i] || i == newest)
			p->epoch[kept++] = p->epoch[i];
	p->epochs = kept;
	p->epochs_dropped |= kept < before;
}

enum shmeta_status model_epoch_end(const struct model_partition *p, uint64_t epoch, uint64_t *ret_epoch,
                                   uint64_t *ret_end_offset)
{
	size_t at = 0;

	if (epoch > p->highest_lease) {
		*ret_epoch = p->highest_lease;
		return SHMETA_ABSENT;
	}
	while (at < p->epochs && p->epoch[at].epoch <= epoch)
		at++;
	if (at == 0 && p->epochs_dropped)
		return SHMETA_ABSENT_BEFORE_START;
	*ret_epoch = at > 0 ? p->epoch[at - 1].epoch : 0;
	*ret_end_offset = at < p->epochs ? p->epoch[at].start : p->watermark;
	return SHMETA_OK;
}

/* ---- operations ---- */

struct place {
	int topic;
	struct model_partition *partition; /* NULL: not there */
};

static struct place find(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct place at = {.topic = model_number(op->name, MODEL_TOPICS)};

	if (at.topic < 0 || !m->topic[at.topic].there)
		r->status = SHMETA_ERR_TOPIC_NOT_FOUND;
	else if (op->partition_id >= MODEL_PARTITIONS || !m->topic[at.topic].partition[op->partition_id].there)
		r->status = SHMETA_ERR_PARTITION_NOT_FOUND;
	else
		at.partition = &m->topic[at.topic].partition[op->partition_id];
	return at;
}

static bool held_by(const struct model_partition *p, int agent)
{
	return p->lease.there && !p->lease.expired && p->lease.agent == agent;
}

static bool fence_fails(const struct model_partition *p, const struct shmeta_op *op)
{
	return op->fence.agent_id.bytes > 0 &&
	       !(held_by(p, model_number(op->fence.agent_id, MODEL_AGENTS)) && p->lease.epoch == op->fence.epoch);
}

static bool agent_there(const struct model *m, struct shmeta_str name)
{
	int n = model_number(name, MODEL_AGENTS);

	return n >= 0 && m->agent[n].there;
}

static void add(struct model *m, const struct shmeta_op *op, const char *key, bool raises, struct shmeta_result *r)
{
	const struct shmeta_segment *s = &op->u.segment;
	struct place at = find(m, op, r);
	struct model_segment row = {.base = s->base_offset,
	                            .end = s->end_offset,
	                            .size = s->size_bytes,
	                            .position = s->position,
	                            .records = s->record_count,
	                            .created_ms = s->created_at_ms};

	/* Whatever else is wrong with it, nothing is put. */
	if (m->schema.segments_are_swallowed && row.base % 60 == 30)
		r->status = MODEL_REFUSED;
	else if (at.partition != NULL && fence_fails(at.partition, op))
		r->status = SHMETA_ERR_FENCED;
	if (r->status != SHMETA_OK)
		return;
	keep(row.id, s->id);
	(void)snprintf(row.key, sizeof row.key, "%s", key);
	const struct model_segment *old = model_segment(m, at.topic, op->partition_id, row.base);

	if (old != NULL) {
		bool identical = old->end == row.end && old->size == row.size && old->records == row.records &&
		                 old->created_ms == row.created_ms && strcmp(old->id, row.id) == 0 &&
		                 strcmp(old->key, row.key) == 0;

		r->status = identical ? SHMETA_ERR_ALREADY_EXISTS : SHMETA_ERR_CONFLICT;
		r->existing.base_offset = old->base;
		r->existing.end_offset = old->end;
		r->existing.size_bytes = old->size;
		return;
	}
	if (has_segment_id(m, row.id)) {
		r->status = SHMETA_ERR_CONFLICT;
		return;
	}
	uint64_t watermark = raises && at.partition->watermark < row.end + 1 ? row.end + 1 : at.partition->watermark;

	if ((watermark != at.partition->watermark && !model_watermark_allowed(m, watermark)) ||
	    !model_put_segment(m, at.topic, op->partition_id, &row)) {
		r->status = MODEL_REFUSED;
		return;
	}
	at.partition->watermark = watermark;
	record_epoch(at.partition, op, row.base);
}

static struct model_segment as_row(const struct shmeta_segment *s)
{
	struct model_segment row = {.base = s->base_offset,
	                            .end = s->end_offset,
	                            .size = s->size_bytes,
	                            .position = s->position,
	                            .records = s->record_count,
	                            .created_ms = s->created_at_ms};

	keep(row.id, s->id);
	keep(row.key, s->s3_key);
	return row;
}

static bool same_row(const struct model_segment *a, const struct model_segment *b)
{
	return a != NULL && b != NULL && a->base == b->base && a->end == b->end && a->size == b->size &&
	       a->position == b->position && a->records == b->records && a->created_ms == b->created_ms &&
	       strcmp(a->id, b->id) == 0 && strcmp(a->key, b->key) == 0;
}

enum { REPLACED_MOST = 8 };

/* The row of that base; NULL: there is none. */
static const struct model_segment *row_at(const struct model_segment *rows, uint32_t count, uint64_t base)
{
	for (uint32_t i = 0; i < count; i++)
		if (rows[i].base == base)
			return &rows[i];
	return NULL;
}

static void raise_compaction(struct model_partition *p, const struct shmeta_replace *given)
{
	if (given->compaction_epoch > p->highest_compaction)
		p->highest_compaction = given->compaction_epoch;
}

static void replace_conflicts(uint64_t base, struct shmeta_result *r)
{
	if (r->status == SHMETA_OK)
		r->value = base;
	r->status = SHMETA_ERR_CONFLICT;
	r->most = INT64_MAX;
}

/* Of objects of their own, whose keys and ids nothing else has. */
static void replace(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	const struct shmeta_replace *given = &op->u.replace;
	struct model_segment old[REPLACED_MOST], new[REPLACED_MOST];
	const uint32_t olds = given->old_count, news = given->new_count;
	struct place at = find(m, op, r);
	bool there = true, gone = true;

	if (at.partition != NULL && fence_fails(at.partition, op))
		r->status = SHMETA_ERR_FENCED;
	if (r->status != SHMETA_OK)
		return;
	if (given->compaction_epoch > 0 && given->compaction_epoch < at.partition->highest_compaction) {
		*r = (struct shmeta_result){.status = SHMETA_ERR_FENCED,
		                            .epoch = given->compaction_epoch,
		                            .value = given->compaction_epoch,
		                            .least = at.partition->highest_compaction,
		                            .most = INT64_MAX};
		return;
	}
	for (uint32_t i = 0; i < news; i++) {
		new[i] = as_row(&given->new_segments[i]);
		there &= same_row(&new[i], model_segment(m, at.topic, op->partition_id, new[i].base));
	}
	for (uint32_t i = 0; i < olds; i++) {
		old[i] = as_row(&given->old_segments[i]);
		gone &= same_row(&old[i], row_at(new, news, old[i].base)) ||
		        !same_row(&old[i], model_segment(m, at.topic, op->partition_id, old[i].base));
	}
	if (there && gone) {
		raise_compaction(at.partition, given);
		return;
	}
	for (uint32_t i = 0; i < olds; i++)
		if (!same_row(&old[i], model_segment(m, at.topic, op->partition_id, old[i].base)))
			replace_conflicts(old[i].base, r);
	for (size_t i = 0; i < at.partition->segments; i++) {
		const struct model_segment *s = &at.partition->segment[i];
		uint64_t first = old[0].base, last = old[olds - 1].base;

		if (row_at(old, olds, s->base) != NULL || s->base < first)
			continue;
		if (s->base < last || (news > 0 && s->base <= new[news - 1].end))
			replace_conflicts(s->base, r);
	}
	for (size_t i = 0; news > 0 && i < at.partition->segments; i++)
		if (at.partition->segment[i].base < old[0].base && at.partition->segment[i].end >= new[0].base)
			replace_conflicts(new[0].base, r);
	if (r->status != SHMETA_OK)
		return;
	for (uint32_t i = 0; i < olds; i++)
		if (row_at(new, news, old[i].base) == NULL && holds(m, &old[i]))
			r->status = MODEL_REFUSED;
	for (uint32_t i = 0; i < news; i++)
		if (row_at(old, olds, new[i].base) == NULL && m->schema.segments_are_swallowed &&
		    new[i].base % 60 == 30)
			r->status = MODEL_REFUSED;
	if (r->status != SHMETA_OK)
		return;
	raise_compaction(at.partition, given);
	for (uint32_t i = 0; i < olds; i++) {
		const struct model_segment *next = row_at(new, news, old[i].base);

		r->count += !same_row(&old[i], next);
		if (next == NULL)
			model_drop_segment(m, at.topic, op->partition_id, old[i].base);
		else
			*model_segment(m, at.topic, op->partition_id, old[i].base) = *next;
	}
	for (uint32_t i = 0; i < news; i++)
		if (row_at(old, olds, new[i].base) == NULL &&
		    !model_put_segment(m, at.topic, op->partition_id, &new[i]))
			r->status = MODEL_REFUSED;
}

static void delete_before(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct place at = find(m, op, r);
	struct model_partition *p = at.partition;

	r->status = SHMETA_OK; /* also where there is no such partition */
	for (size_t i = 0; p != NULL && i < p->segments; i++)
		if (p->segment[i].end < op->offset && holds(m, &p->segment[i])) {
			r->status = MODEL_REFUSED;
			return;
		}
	for (size_t i = 0; p != NULL && i < p->segments;) {
		if (p->segment[i].end >= op->offset) {
			i++;
			continue;
		}
		model_drop_segment(m, at.topic, op->partition_id, p->segment[i].base);
		r->count++;
	}
	if (r->count > 0)
		drop_epochs(p);
}

static void delete_topic(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	int t = model_number(op->name, MODEL_TOPICS);

	if (t < 0 || !m->topic[t].there) {
		r->status = SHMETA_ERR_TOPIC_NOT_FOUND;
		return;
	}
	for (int k = 0; k < MODEL_PARTITIONS; k++)
		for (size_t i = 0; i < m->topic[t].partition[k].segments; i++)
			if (holds(m, &m->topic[t].partition[k].segment[i])) {
				r->status = MODEL_REFUSED;
				return;
			}
	model_drop_topic(m, t);
	forget_epochs(&m->topic[t]);
}

static void create_topic(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	int n = model_number(op->u.topic.name, MODEL_TOPICS);
	struct model_topic *t = &m->topic[n];

	if (t->there) {
		r->status = SHMETA_ERR_ALREADY_EXISTS;
		return;
	}
	forget_epochs(t);
	t->there = true;
	t->partitions = op->u.topic.partition_count;
	t->has_retention = op->u.topic.has_retention;
	t->retention_ms = t->has_retention ? op->u.topic.retention_ms : 0;
	for (uint32_t i = 0; i < t->partitions; i++)
		t->partition[i].there = true;
}

static void commit_offset(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct place at = find(m, op, r);
	int g = model_number(op->u.committed.group_id, MODEL_GROUPS);

	if (at.partition == NULL)
		return;
	m->group[g] = true;
	at.partition->committed[g].there = true;
	at.partition->committed[g].offset = op->u.committed.committed_offset;
	at.partition->committed[g].has_metadata = op->u.committed.has_metadata;
}

static void register_agent(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	const struct shmeta_agent *row = &op->u.agent;
	int n = model_number(row->agent_id, MODEL_AGENTS);

	for (int i = 0; i < MODEL_AGENTS; i++)
		if (i != n && m->agent[i].there && same(row->address, m->agent[i].address)) {
			r->status = SHMETA_ERR_CONFLICT;
			return;
		}
	if (!m->agent[n].there)
		m->agent[n].started_ms = row->started_at_ms;
	m->agent[n].there = true;
	m->agent[n].heartbeat_ms = row->last_heartbeat_ms;
	keep(m->agent[n].address, row->address);
}

static void give_lease(struct model *m, int topic, uint32_t partition, int agent, struct shmeta_result *r)
{
	struct model_partition *p = &m->topic[topic].partition[partition];

	r->lease.epoch = p->highest_lease + 1;
	model_set_lease(m, topic, partition, agent, p->highest_lease + 1, false);
}

static void renew_agent(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	int n = model_number(op->agent_id, MODEL_AGENTS);

	if (!agent_there(m, op->agent_id)) {
		r->status = SHMETA_ERR_NOT_FOUND;
		return;
	}
	m->agent[n].heartbeat_ms = op->u.agent.last_heartbeat_ms;
	for (int t = 0; t < MODEL_TOPICS; t++)
		for (int p = 0; p < MODEL_PARTITIONS; p++)
			r->count += held_by(&m->topic[t].partition[p], n);
}

static void acquire(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct place at = find(m, op, r);
	int agent = model_number(op->agent_id, MODEL_AGENTS);

	if (at.partition == NULL)
		return;
	if (!agent_there(m, op->agent_id))
		r->status = SHMETA_ERR_NOT_FOUND;
	else if (at.partition->lease.there && !at.partition->lease.expired && at.partition->lease.agent != agent)
		r->status = SHMETA_ERR_CONFLICT;
	else
		give_lease(m, at.topic, op->partition_id, agent, r);
}

static void release(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct place at = find(m, op, r);

	r->status = SHMETA_OK;
	if (at.partition == NULL || !at.partition->lease.there ||
	    at.partition->lease.agent != model_number(op->agent_id, MODEL_AGENTS))
		r->status = SHMETA_ERR_NOT_FOUND;
	else
		at.partition->lease.there = false;
}

static void offer(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct place at = find(m, op, r);
	int from = model_number(op->agent_id, MODEL_AGENTS);

	if (at.partition == NULL)
		return;
	if (!agent_there(m, op->to_agent_id)) {
		r->status = SHMETA_ERR_NOT_FOUND;
		return;
	}
	bool on_offer = false;

	for (size_t i = 0; i < m->offers; i++)
		on_offer |= m->offer[i].state <= MODEL_ACCEPTED && m->offer[i].topic == at.topic &&
		            m->offer[i].partition == op->partition_id;
	if (!held_by(at.partition, from) || on_offer) {
		r->status = SHMETA_ERR_CONFLICT;
		return;
	}
	m->offer[m->offers++] = (struct model_offer){.topic = at.topic,
	                                             .from = from,
	                                             .to = model_number(op->to_agent_id, MODEL_AGENTS),
	                                             .partition = op->partition_id};
	r->transfer_id = m->offers;
}

static void answer_offer(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct model_offer *o =
		op->transfer_id >= 1 && op->transfer_id <= m->offers ? &m->offer[op->transfer_id - 1] : NULL;
	bool completes = op->type == SHMETA_OP_COMPLETE_LEASE;
	int agent = model_number(op->agent_id, MODEL_AGENTS);

	if (o == NULL || o->state == MODEL_FORGOTTEN) {
		r->status = SHMETA_ERR_NOT_FOUND;
		return;
	}
	struct model_partition *p = &m->topic[o->topic].partition[o->partition];

	if ((completes ? o->from : o->to) != agent || o->state != (completes ? MODEL_ACCEPTED : MODEL_PENDING)) {
		r->status = SHMETA_ERR_CONFLICT;
	} else if (!completes) {
		o->state = op->type == SHMETA_OP_ACCEPT_LEASE ? MODEL_ACCEPTED : MODEL_REJECTED;
	} else if (!p->there || !held_by(p, agent)) {
		r->status = SHMETA_ERR_FENCED;
	} else if (!m->agent[o->to].there) {
		r->status = SHMETA_ERR_NOT_FOUND;
	} else {
		give_lease(m, o->topic, o->partition, o->to, r);
		o->state = MODEL_COMPLETED;
	}
}

/* ---- objects ---- */

static void object_key(int n, char ret[MODEL_TEXT])
{
	(void)snprintf(ret, MODEL_TEXT, "o%d", n);
}

static uint64_t live_slices(struct model *m, int n)
{
	const struct model_object *o = &m->object[n];
	char key[MODEL_TEXT];
	uint64_t live = 0;

	object_key(n, key);
	for (size_t i = 0; i < o->slices; i++) {
		const struct model_segment *s =
			model_segment(m, o->slice[i].topic, o->slice[i].partition, o->slice[i].base);

		live += s != NULL && strcmp(s->key, key) == 0;
	}
	return live;
}

/* An object and the slices behind it: until the next operation that is no slice. */
struct unit {
	int object; /* -1: none */
	struct shmeta_result refused;
};

static void commit_object(struct model *m, const struct shmeta_op *op, struct unit *u, struct shmeta_result *r)
{
	int n = model_number(op->u.object.s3_key, MODEL_OBJECTS);
	struct model_object *o = &m->object[n];

	*u = (struct unit){.object = n};
	if (!o->there) {
		*o = (struct model_object){.there = true, .size = op->u.object.size_bytes};
	} else if (o->size == op->u.object.size_bytes) {
		r->status = SHMETA_ERR_ALREADY_EXISTS;
	} else {
		r->status = SHMETA_ERR_CONFLICT;
		u->refused = *r;
	}
}

static void add_slice(struct model *m, const struct shmeta_op *op, const struct unit *u, struct shmeta_result *r)
{
	struct model_object *o = &m->object[u->object];
	const struct shmeta_segment *s = &op->u.segment;
	char key[MODEL_TEXT];
	bool known = false;

	if (u->refused.status != SHMETA_OK) {
		*r = u->refused;
		return;
	}
	if (s->position > o->size || s->size_bytes > o->size - s->position) {
		r->status = SHMETA_ERR_INVALID_ARGUMENT;
		return;
	}
	object_key(u->object, key);
	add(m, op, key, true, r);
	if (r->status != SHMETA_OK)
		return;
	int topic = model_number(op->name, MODEL_TOPICS);

	for (size_t i = 0; i < o->slices; i++)
		known |= o->slice[i].topic == topic && o->slice[i].partition == op->partition_id &&
		         o->slice[i].base == s->base_offset;
	if (!known && o->slices < MODEL_SEGMENTS)
		o->slice[o->slices++] = (struct model_slice){topic, op->partition_id, s->base_offset};
}

static void confirm_deleted(struct model *m, const struct shmeta_op *op, struct shmeta_result *r)
{
	int n = model_number(op->u.object.s3_key, MODEL_OBJECTS);

	if (!m->object[n].there)
		return;
	if (live_slices(m, n) > 0)
		r->status = SHMETA_ERR_CONFLICT;
	else
		m->object[n].there = false;
}

static void one(struct model *m, const struct shmeta_op *op, struct unit *u, struct shmeta_result *r)
{
	struct place at;
	char key[MODEL_TEXT];

	switch (op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		create_topic(m, op, r);
		break;
	case SHMETA_OP_DELETE_TOPIC:
		delete_topic(m, op, r);
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		at = find(m, op, r);
		if (at.partition == NULL)
			break;
		if (fence_fails(at.partition, op))
			r->status = SHMETA_ERR_FENCED;
		else if (!model_watermark_allowed(m, op->offset))
			r->status = MODEL_REFUSED;
		if (r->status != SHMETA_OK)
			break;
		record_epoch(at.partition, op, at.partition->watermark);
		at.partition->watermark = op->offset;
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		keep(key, op->u.segment.s3_key);
		add(m, op, key, op->type != SHMETA_OP_ADD_SEGMENT, r);
		break;
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		delete_before(m, op, r);
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		replace(m, op, r);
		break;
	case SHMETA_OP_ENSURE_GROUP:
		m->group[model_number(op->group_id, MODEL_GROUPS)] = true;
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		commit_offset(m, op, r);
		break;
	case SHMETA_OP_DELETE_GROUP:
		model_drop_group(m, model_number(op->group_id, MODEL_GROUPS));
		break;
	case SHMETA_OP_REGISTER_AGENT:
		register_agent(m, op, r);
		break;
	case SHMETA_OP_DEREGISTER_AGENT:
		model_drop_agent(m, model_number(op->agent_id, MODEL_AGENTS));
		break;
	case SHMETA_OP_RENEW_AGENT:
		renew_agent(m, op, r);
		break;
	case SHMETA_OP_ACQUIRE_LEASE:
		acquire(m, op, r);
		break;
	case SHMETA_OP_RELEASE_LEASE:
		release(m, op, r);
		break;
	case SHMETA_OP_OFFER_LEASE:
		offer(m, op, r);
		break;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE:
		answer_offer(m, op, r);
		break;
	case SHMETA_OP_COMMIT_OBJECT:
		commit_object(m, op, u, r);
		break;
	case SHMETA_OP_ADD_SLICE:
		add_slice(m, op, u, r);
		break;
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		confirm_deleted(m, op, r);
		break;
	case SHMETA_OP_TYPES:
		break;
	}
}

void model_do(struct model *m, const struct shmeta_op *ops, size_t count, struct shmeta_result *ret_results)
{
	struct unit u = {.object = -1};

	for (size_t i = 0; i < count; i++) {
		memset(&ret_results[i], 0, sizeof ret_results[i]);
		one(m, &ops[i], &u, &ret_results[i]);
	}
}

/* ---- text ---- */

void model_line(struct model_lines *lines, const char *fmt, ...)
{
	va_list args;
	char *line = NULL;

	if (lines->count == lines->capacity) {
		lines->capacity = lines->capacity == 0 ? 64 : lines->capacity * 2;
		char **grown = reallocarray(lines->line, lines->capacity, sizeof *grown);

		if (grown == NULL)
			abort();
		lines->line = grown;
	}
	va_start(args, fmt);
	if (vasprintf(&line, fmt, args) < 0)
		abort();
	va_end(args);
	lines->line[lines->count++] = line;
}

void model_line_topic(struct model_lines *lines, const char *name, uint64_t partitions, bool has_retention,
                      int64_t retention_ms, int config)
{
	model_line(lines, "topic %s partitions=%llu retention=%lld k=%d", name, (unsigned long long)partitions,
	           has_retention ? (long long)retention_ms : -1LL, config);
}

void model_line_partition(struct model_lines *lines, const char *topic, uint64_t partition, uint64_t watermark)
{
	model_line(lines, "partition %s/%llu high_watermark=%llu", topic, (unsigned long long)partition,
	           (unsigned long long)watermark);
}

void model_line_segment(struct model_lines *lines, const char *topic, uint64_t partition, uint64_t base, uint64_t end,
                        uint64_t records, uint64_t size, int64_t created_ms, const char *id, const char *key)
{
	model_line(lines, "segment %s/%llu %llu-%llu records=%llu size=%llu created=%lld id=%s key=%s", topic,
	           (unsigned long long)partition, (unsigned long long)base, (unsigned long long)end,
	           (unsigned long long)records, (unsigned long long)size, (long long)created_ms, id, key);
}

void model_line_group(struct model_lines *lines, const char *group)
{
	model_line(lines, "group %s", group);
}

void model_line_offset(struct model_lines *lines, const char *group, const char *topic, uint64_t partition,
                       uint64_t offset, bool has_metadata)
{
	model_line(lines, "offset %s %s/%llu=%llu%s", group, topic, (unsigned long long)partition,
	           (unsigned long long)offset, has_metadata ? " note" : "");
}

void model_line_agent(struct model_lines *lines, const char *agent, const char *address, int64_t heartbeat_ms,
                      int64_t started_ms)
{
	model_line(lines, "agent %s address=%s heartbeat=%lld started=%lld", agent, address, (long long)heartbeat_ms,
	           (long long)started_ms);
}

void model_line_lease(struct model_lines *lines, const char *topic, uint64_t partition, const char *agent,
                      uint64_t epoch, bool expired)
{
	model_line(lines, "lease %s/%llu %s@%llu%s", topic, (unsigned long long)partition, agent,
	           (unsigned long long)epoch, expired ? " expired" : "");
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *model_lines_text(struct model_lines *lines)
{
	size_t bytes = 1;
	char *text, *at;

	if (lines->count > 0)
		qsort(lines->line, lines->count, sizeof *lines->line, compare_lines);
	for (size_t i = 0; i < lines->count; i++)
		bytes += strlen(lines->line[i]) + 1;
	text = at = malloc(bytes);
	if (text == NULL)
		abort();
	for (size_t i = 0; i < lines->count; i++) {
		at = stpcpy(stpcpy(at, lines->line[i]), "\n");
		free(lines->line[i]);
	}
	*at = '\0';
	free(lines->line);
	*lines = (struct model_lines){.line = NULL};
	return text;
}

static void partition_lines(const struct model_partition *p, const char *topic, uint32_t id, struct model_lines *lines)
{
	char name[4];

	model_line_partition(lines, topic, id, p->watermark);
	for (size_t i = 0; i < p->segments; i++) {
		const struct model_segment *s = &p->segment[i];

		model_line_segment(lines, topic, id, s->base, s->end, s->records, s->size, s->created_ms, s->id,
		                   s->key);
	}
	for (int g = 0; g < MODEL_GROUPS; g++) {
		(void)snprintf(name, sizeof name, "g%d", g);
		if (p->committed[g].there)
			model_line_offset(lines, name, topic, id, p->committed[g].offset, p->committed[g].has_metadata);
	}
	(void)snprintf(name, sizeof name, "a%d", p->lease.agent % 10);
	if (p->lease.there)
		model_line_lease(lines, topic, id, name, p->lease.epoch, p->lease.expired);
}

char *model_text(const struct model *m)
{
	struct model_lines lines = {.line = NULL};
	char name[4];

	for (int t = 0; t < MODEL_TOPICS; t++) {
		const struct model_topic *topic = &m->topic[t];

		if (!topic->there)
			continue;
		(void)snprintf(name, sizeof name, "t%d", t);
		model_line_topic(&lines, name, topic->partitions, topic->has_retention, topic->retention_ms,
		                 topic->config);
		for (uint32_t p = 0; p < MODEL_PARTITIONS; p++)
			if (topic->partition[p].there)
				partition_lines(&topic->partition[p], name, p, &lines);
	}
	for (int g = 0; g < MODEL_GROUPS; g++) {
		(void)snprintf(name, sizeof name, "g%d", g);
		if (m->group[g])
			model_line_group(&lines, name);
	}
	for (int a = 0; a < MODEL_AGENTS; a++) {
		(void)snprintf(name, sizeof name, "a%d", a);
		if (m->agent[a].there)
			model_line_agent(&lines, name, m->agent[a].address, m->agent[a].heartbeat_ms,
			                 m->agent[a].started_ms);
	}
	return model_lines_text(&lines);
}
