/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine: operations, written for plainness, since the contract suite measures the
 * other engines by it. Each operation is judged whole before it changes anything. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/leader_epochs.h"
#include "backends/memory/memory_own.h"
#include "backends/memory/memory_side.h"
#include "backends/op_errors.h"
#include "backends/renewed.h"
#include "backends/replace.h"
#include "backends/rows.h"
#include "base/str.h"

struct writing {
	struct memory_db *db;
	struct memory_side *side;
	int64_t now_ms;
	/* The operation's names, terminated. */
	char tenant[SHMETA_TENANT_MAX + 1], topic[SHMETA_NAME_MAX + 1], agent[SHMETA_STRING_MAX + 1];
	struct object *object; /* of the unit being written */
	struct shmeta_result object_result;
	bool in_object;
	struct renewed renewed;
};

static int64_t until(const struct writing *w, int64_t duration_ms)
{
	return duration_ms > INT64_MAX - w->now_ms ? INT64_MAX : w->now_ms + duration_ms;
}

static const char *text(char *out, size_t room, struct shmeta_str s)
{
	size_t n = s.bytes < room ? s.bytes : room - 1;

	if (n > 0)
		memcpy(out, s.data, n);
	out[n] = '\0';
	return out;
}

/* ---- refusals that several share ---- */

static bool has_partition(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_partition row;

	if (memory_find_partition(w->db, w->tenant, w->topic, op->partition_id, &row))
		return true;
	refuse_place(op, memory_find_topic(w->db, w->tenant, w->topic), r);
	return false;
}

static bool held_by(struct writing *w, uint32_t partition, struct shmeta_str agent, struct shmeta_lease *ret)
{
	return memory_find_lease(w->db, w->tenant, w->topic, partition, ret) && ret->lease_expires_at_ms > w->now_ms &&
	       str_equal(ret->leader_agent_id, agent);
}

static bool passes_fence(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_lease lease;

	if (op->fence.agent_id.bytes == 0 ||
	    (held_by(w, op->partition_id, op->fence.agent_id, &lease) && lease.epoch == op->fence.epoch))
		return true;
	refuse_fence(op, r);
	return false;
}

static bool has_agent(struct writing *w, struct shmeta_str agent, struct shmeta_result *r)
{
	char name[SHMETA_STRING_MAX + 1];
	struct shmeta_agent row;

	if (memory_find_agent(w->db, w->tenant, text(name, sizeof name, agent), NULL, &row))
		return true;
	refuse_agent(agent, r);
	return false;
}

/* ---- topics, partitions, segments ---- */

static void create_topic(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_topic topic = op->u.topic;
	bool ok;

	(void)text(w->topic, sizeof w->topic, topic.name);
	if (memory_find_topic(w->db, w->tenant, w->topic)) {
		refuse_topic_exists(op, r);
		return;
	}
	topic.created_at_ms = topic.updated_at_ms = w->now_ms;
	/* rows that were left under the name are not this topic's */
	(void)memory_delete_topic(w->db, w->tenant, w->topic);
	memory_epochs_forget(w->side, w->tenant, w->topic);
	ok = memory_create_topic(w->db, w->tenant, w->topic, topic.partition_count, w->now_ms) &&
	     memory_put_topic(w->db, w->tenant, &topic);
	if (!ok)
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
}

static void set_watermark(struct writing *w, uint32_t partition, uint64_t offset, bool only_up)
{
	struct shmeta_partition row;

	if (!memory_find_partition(w->db, w->tenant, w->topic, partition, &row) ||
	    (only_up && row.high_watermark >= offset))
		return;
	row.high_watermark = offset;
	row.updated_at_ms = w->now_ms;
	(void)memory_put_partition(w->db, w->tenant, w->topic, &row);
}

static void record_epoch(struct writing *w, const struct shmeta_op *op, uint64_t start, struct shmeta_result *r)
{
	struct epoch *e;

	if (!leader_epoch_writes(op))
		return;
	e = memory_epoch_of(w->side, w->tenant, w->topic, op->partition_id);
	if (e == NULL ||
	    !leader_epochs_record(&e->led, op->fence.epoch, start, op->type != SHMETA_OP_UPDATE_HIGH_WATERMARK))
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
}

static void add_segment(struct writing *w, const struct shmeta_op *op, const struct shmeta_segment *s,
                        struct shmeta_result *r)
{
	struct shmeta_segment row = *s, old;

	row.partition_id = op->partition_id;
	if (!has_partition(w, op, r) || !passes_fence(w, op, r))
		return;
	if (memory_find_segment(w->db, w->tenant, w->topic, op->partition_id, s->base_offset, &old)) {
		bool identical = old.end_offset == s->end_offset && old.record_count == s->record_count &&
		                 old.size_bytes == s->size_bytes && old.created_at_ms == s->created_at_ms &&
		                 old.min_timestamp_ms == s->min_timestamp_ms &&
		                 old.max_timestamp_ms == s->max_timestamp_ms && str_equal(old.id, s->id) &&
		                 str_equal(old.s3_bucket, s->s3_bucket) && str_equal(old.s3_key, s->s3_key);

		refuse_segment(op, identical, r);
		r->existing = old;
		r->existing.id = r->existing.s3_bucket = r->existing.s3_key = (struct shmeta_str){NULL, 0};
		return;
	}
	if (memory_has_segment_id(w->db, s->id))
		refuse_segment_id(op, r);
	else if (!memory_put_segment(w->db, w->tenant, w->topic, &row))
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
	else
		record_epoch(w, op, s->base_offset, r);
}

static void update_watermark(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_partition row;

	if (!has_partition(w, op, r) || !passes_fence(w, op, r))
		return;
	if (memory_find_partition(w->db, w->tenant, w->topic, op->partition_id, &row))
		record_epoch(w, op, row.high_watermark, r);
	if (r->status == SHMETA_OK)
		set_watermark(w, op->partition_id, op->offset, false);
}

static void delete_before(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_segment *left;
	struct epoch *e;
	struct shmeta_partition row;
	size_t count;
	bool reaching;

	r->count = memory_delete_segments_before(w->db, w->tenant, w->topic, op->partition_id, op->offset);
	e = r->count > 0 ? memory_epoch_of(w->side, w->tenant, w->topic, op->partition_id) : NULL;
	if (e == NULL || !memory_find_partition(w->db, w->tenant, w->topic, op->partition_id, &row))
		return;
	left = memory_segments_in(w->db, w->tenant, w->topic, op->partition_id, 0, UINT64_MAX, UINT64_MAX, &count,
	                          &reaching);
	if (left != NULL)
		(void)leader_epochs_trim(&e->led, count > 0 ? left[0].base_offset : row.high_watermark);
	free(left);
}

/* ---- groups and agents ---- */

static void ensure_group(struct writing *w, const char *group)
{
	struct shmeta_group row = {.group_id = rows_str(group), .created_at_ms = w->now_ms, .updated_at_ms = w->now_ms};

	if (!memory_find_group(w->db, w->tenant, group))
		(void)memory_put_group(w->db, w->tenant, &row);
}

static void commit_offset(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_committed_offset row = op->u.committed;
	char group[SHMETA_NAME_MAX + 1];

	if (!has_partition(w, op, r))
		return;
	ensure_group(w, text(group, sizeof group, row.group_id));
	row.partition_id = op->partition_id;
	row.committed_at_ms = w->now_ms;
	(void)memory_put_offset(w->db, w->tenant, w->topic, &row);
}

static void register_agent(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	char id[SHMETA_STRING_MAX + 1], address[SHMETA_STRING_MAX + 1];
	struct shmeta_agent row = op->u.agent, old;

	(void)text(id, sizeof id, row.agent_id);
	if (memory_find_agent(w->db, w->tenant, NULL, text(address, sizeof address, row.address), &old) &&
	    !str_equal(old.agent_id, row.agent_id)) {
		refuse_address(&row, r);
		return;
	}
	if (memory_find_agent(w->db, w->tenant, id, NULL, &old))
		row.started_at_ms = old.started_at_ms;
	(void)memory_put_agent(w->db, w->tenant, &row);
}

static void note_renewed(void *arg, struct shmeta_str topic, uint32_t partition_id)
{
	struct writing *w = arg;

	renewed_add(&w->renewed, rows_str(w->tenant), topic, partition_id);
}

static void renew_agent(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_agent row;

	if (!memory_find_agent(w->db, w->tenant, w->agent, NULL, &row)) {
		refuse_agent(op->agent_id, r);
		return;
	}
	row.last_heartbeat_ms = op->u.agent.last_heartbeat_ms;
	if (!memory_put_agent(w->db, w->tenant, &row)) {
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
		return;
	}
	r->count =
		memory_renew_leases(w->db, w->tenant, w->agent, w->now_ms, until(w, op->duration_ms), note_renewed, w);
}

/* ---- leases ---- */

static void give_lease(struct writing *w, uint32_t partition, struct shmeta_str agent, int64_t duration_ms,
                       struct shmeta_result *r)
{
	struct epoch *e = memory_epoch_of(w->side, w->tenant, w->topic, partition);
	struct shmeta_lease row = {.leader_agent_id = agent, .acquired_at_ms = w->now_ms, .partition_id = partition};

	if (e == NULL) {
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
		return;
	}
	if (e->epoch >= INT64_MAX) {
		refuse_epoch_spent((int64_t)e->epoch, r);
		return;
	}
	row.epoch = e->epoch + 1;
	row.lease_expires_at_ms = until(w, duration_ms);
	(void)memory_put_lease(w->db, w->tenant, w->topic, &row);
	r->lease = row;
	r->lease.leader_agent_id = (struct shmeta_str){NULL, 0};
}

static void acquire_lease(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_lease lease;

	if (!has_partition(w, op, r) || !has_agent(w, op->agent_id, r))
		return;
	if (memory_find_lease(w->db, w->tenant, w->topic, op->partition_id, &lease) &&
	    lease.lease_expires_at_ms > w->now_ms && !str_equal(lease.leader_agent_id, op->agent_id))
		refuse_leased(op, lease.lease_expires_at_ms - w->now_ms, r);
	else
		give_lease(w, op->partition_id, op->agent_id, op->duration_ms, r);
}

static void release_lease(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_lease lease;

	if (memory_find_lease(w->db, w->tenant, w->topic, op->partition_id, &lease) &&
	    str_equal(lease.leader_agent_id, op->agent_id))
		(void)memory_delete_lease(w->db, w->tenant, w->topic, op->partition_id);
	else
		refuse_release(op, r);
}

static void offer_lease(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct memory_side *m = w->side;
	struct shmeta_lease lease;
	struct offer *offer;

	if (!has_partition(w, op, r) || !has_agent(w, op->to_agent_id, r))
		return;
	if (!held_by(w, op->partition_id, op->agent_id, &lease)) {
		refuse_offer(op, false, r);
		return;
	}
	for (size_t i = 0; i < m->offer_count; i++)
		if (m->offers[i].state <= OFFER_ACCEPTED && m->offers[i].timeout_ms > w->now_ms &&
		    m->offers[i].partition_id == op->partition_id && strcmp(m->offers[i].tenant, w->tenant) == 0 &&
		    strcmp(m->offers[i].topic, w->topic) == 0) {
			refuse_offer(op, true, r);
			return;
		}
	offer = memory_grow((void **)&m->offers, &m->offer_count, sizeof *offer);
	if (offer == NULL) {
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
		return;
	}
	offer->tenant = strdup(w->tenant);
	offer->topic = strdup(w->topic);
	offer->from = strndup(op->agent_id.data, op->agent_id.bytes);
	offer->to = strndup(op->to_agent_id.data, op->to_agent_id.bytes);
	offer->partition_id = op->partition_id;
	offer->timeout_ms = until(w, op->duration_ms);
	r->transfer_id = m->offer_count;
}

static void answer_offer(struct writing *w, const struct shmeta_op *op, enum offer_state from, enum offer_state to,
                         bool by_holder, struct shmeta_result *r)
{
	struct memory_side *m = w->side;
	struct offer *offer =
		op->transfer_id >= 1 && op->transfer_id <= m->offer_count ? &m->offers[op->transfer_id - 1] : NULL;
	static const char *const states[] = {"pending", "accepted", "completed", "rejected"};
	struct transfer_state transfer = {.found = offer != NULL && strcmp(offer->tenant, w->tenant) == 0};
	struct shmeta_lease lease;

	if (transfer.found) {
		(void)snprintf(w->topic, sizeof w->topic, "%s", offer->topic);
		transfer.addressed = str_equal(rows_str(by_holder ? offer->from : offer->to), op->agent_id);
		transfer.expected = offer->state == from;
		transfer.in_time = offer->timeout_ms > w->now_ms;
		transfer.held = held_by(w, offer->partition_id, op->agent_id, &lease);
		transfer.state = rows_str(states[offer->state]);
	}
	if (refuse_transfer(op, &transfer, r))
		return;
	if (by_holder && has_agent(w, rows_str(offer->to), r))
		give_lease(w, offer->partition_id, rows_str(offer->to), op->duration_ms, r);
	if (r->status == SHMETA_OK)
		offer->state = to;
}

/* ---- objects ---- */

static void commit_object(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	const struct shmeta_object *object = &op->u.object;
	struct object *o = memory_find_object(w->db, w->tenant, object);

	w->in_object = true;
	w->object = o;
	memset(&w->object_result, 0, sizeof w->object_result);
	if (o != NULL)
		refuse_object(object, o->size_bytes, memory_slices_of(w->db, o), r);
	if (o != NULL && o->size_bytes == object->size_bytes) {
		o->unreferenced_ms = -1; /* slices may follow */
		return;
	}
	if (o != NULL) {
		w->object = NULL;
		w->object_result = *r;
		return;
	}
	o = memory_grow((void **)&w->side->objects, &w->side->object_count, sizeof *o);
	if (o == NULL) {
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
		w->object_result = *r;
		return;
	}
	o->tenant = strdup(w->tenant);
	o->bucket = strndup(object->s3_bucket.data, object->s3_bucket.bytes);
	o->key = strndup(object->s3_key.data, object->s3_key.bytes);
	o->size_bytes = object->size_bytes;
	o->created_at_ms = object->created_at_ms;
	o->unreferenced_ms = -1;
	w->object = o;
}

/* One that was there before and whose segment went since is this one. */
static void put_slice(struct writing *w, struct object *o, uint32_t partition, uint64_t base)
{
	struct slice *slice;

	for (size_t i = 0; i < o->slice_count; i++)
		if (o->slices[i].partition_id == partition && o->slices[i].base == base &&
		    strcmp(o->slices[i].topic, w->topic) == 0)
			return;
	slice = memory_grow((void **)&o->slices, &o->slice_count, sizeof *slice);
	if (slice != NULL) {
		slice->topic = strdup(w->topic);
		slice->partition_id = partition;
		slice->base = base;
	}
}

static void add_slice(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct shmeta_segment row = op->u.segment;

	if (w->in_object && w->object == NULL) {
		*r = w->object_result;
		return;
	}
	if (refuse_slice(w->in_object ? &w->object->size_bytes : NULL, &row, r))
		return;
	row.s3_bucket = rows_str(w->object->bucket);
	row.s3_key = rows_str(w->object->key);
	add_segment(w, op, &row, r);
	if (r->status != SHMETA_OK)
		return;
	set_watermark(w, op->partition_id, row.end_offset + 1, true);
	put_slice(w, w->object, op->partition_id, row.base_offset);
}

static struct object *object_of(struct writing *w, const struct shmeta_segment *s)
{
	const struct shmeta_object named = {.s3_bucket = s->s3_bucket, .s3_key = s->s3_key};

	return memory_find_object(w->db, w->tenant, &named);
}

static bool may_come(struct writing *w, const struct shmeta_replace *p, uint32_t at, struct shmeta_result *r)
{
	const struct shmeta_segment *s = &p->new_segments[at];
	const struct object *o = object_of(w, s);

	if (replace_keeps(p, s, true))
		return true;
	if (replace_refuse_new(p, s, o != NULL ? &o->size_bytes : NULL, r))
		return false;
	if (!replace_id_is_free(p, at, memory_has_segment_id(w->db, s->id), true)) {
		replace_refuse_id(s->id, r);
		return false;
	}
	return true;
}

static void replace_all(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	const struct shmeta_replace *p = &op->u.replace;

	for (uint32_t i = 0; i < p->old_count; i++)
		if (!replace_keeps(p, &p->old_segments[i], true))
			(void)memory_delete_segment(w->db, w->tenant, w->topic, op->partition_id,
			                            p->old_segments[i].base_offset);
	for (uint32_t i = 0; i < p->new_count; i++) {
		struct shmeta_segment row = p->new_segments[i];
		struct object *o = object_of(w, &row);

		row.partition_id = op->partition_id;
		if (replace_keeps(p, &row, true))
			continue;
		if (!memory_put_segment(w->db, w->tenant, w->topic, &row))
			refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
		if (o != NULL) {
			o->unreferenced_ms = -1;
			put_slice(w, o, op->partition_id, row.base_offset);
		}
	}
	r->count = replace_leaving(p, true);
}

static void replace_segments(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	const struct shmeta_replace *p = &op->u.replace;
	struct epoch *e =
		p->compaction_epoch > 0 ? memory_epoch_of(w->side, w->tenant, w->topic, op->partition_id) : NULL;
	enum replace_verdict verdict = REPLACE_REFUSED;
	struct shmeta_segment *rows;
	bool reaching;
	size_t count;

	if (!has_partition(w, op, r) || !passes_fence(w, op, r))
		return;
	if (e != NULL && p->compaction_epoch < e->compaction) {
		replace_refuse_epoch(p->compaction_epoch, e->compaction, r);
		return;
	}
	rows = memory_segments_in(w->db, w->tenant, w->topic, op->partition_id, p->old_segments[0].base_offset,
	                          replace_end(p), p->new_count > 0 ? p->new_segments[0].base_offset : UINT64_MAX,
	                          &count, &reaching);
	if (rows == NULL)
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
	else
		verdict = replace_judge(op, rows, count, reaching, true, r);
	free(rows);
	for (uint32_t i = 0; verdict == REPLACE_GOES && i < p->new_count; i++)
		if (!may_come(w, p, i, r))
			verdict = REPLACE_REFUSED;
	if (verdict == REPLACE_GOES)
		replace_all(w, op, r);
	if (e != NULL && verdict != REPLACE_REFUSED)
		e->compaction = p->compaction_epoch;
}

static void confirm_deleted(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	struct object *o = memory_find_object(w->db, w->tenant, &op->u.object);

	if (o == NULL)
		return;
	if (memory_slices_of(w->db, o) > 0)
		refuse_object_used(memory_slices_of(w->db, o), r);
	else
		o->gone = true;
}

/* ---- one operation ---- */

static void one(struct writing *w, const struct shmeta_op *op, struct shmeta_result *r)
{
	char name[SHMETA_NAME_MAX + 1];

	(void)text(w->topic, sizeof w->topic, op->name);
	(void)text(w->agent, sizeof w->agent, op->agent_id);
	switch (op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		create_topic(w, op, r);
		break;
	case SHMETA_OP_DELETE_TOPIC:
		if (memory_delete_topic(w->db, w->tenant, w->topic))
			memory_epochs_forget(w->side, w->tenant, w->topic);
		else
			refuse_place(op, false, r);
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		update_watermark(w, op, r);
		break;
	case SHMETA_OP_ADD_SEGMENT:
		add_segment(w, op, &op->u.segment, r);
		break;
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		add_segment(w, op, &op->u.segment, r);
		if (r->status == SHMETA_OK)
			set_watermark(w, op->partition_id, op->u.segment.end_offset + 1, true);
		break;
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		delete_before(w, op, r);
		break;
	case SHMETA_OP_ENSURE_GROUP:
		ensure_group(w, text(name, sizeof name, op->group_id));
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		commit_offset(w, op, r);
		break;
	case SHMETA_OP_DELETE_GROUP:
		(void)memory_delete_group(w->db, w->tenant, text(name, sizeof name, op->group_id));
		break;
	case SHMETA_OP_REGISTER_AGENT:
		register_agent(w, op, r);
		break;
	case SHMETA_OP_DEREGISTER_AGENT:
		(void)memory_delete_agent(w->db, w->tenant, w->agent);
		break;
	case SHMETA_OP_ACQUIRE_LEASE:
		acquire_lease(w, op, r);
		break;
	case SHMETA_OP_RELEASE_LEASE:
		release_lease(w, op, r);
		break;
	case SHMETA_OP_OFFER_LEASE:
		offer_lease(w, op, r);
		break;
	case SHMETA_OP_ACCEPT_LEASE:
		answer_offer(w, op, OFFER_PENDING, OFFER_ACCEPTED, false, r);
		break;
	case SHMETA_OP_COMPLETE_LEASE:
		answer_offer(w, op, OFFER_ACCEPTED, OFFER_COMPLETED, true, r);
		break;
	case SHMETA_OP_REJECT_LEASE:
		answer_offer(w, op, OFFER_PENDING, OFFER_REJECTED, false, r);
		break;
	case SHMETA_OP_COMMIT_OBJECT:
		commit_object(w, op, r);
		break;
	case SHMETA_OP_ADD_SLICE:
		add_slice(w, op, r);
		break;
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		confirm_deleted(w, op, r);
		break;
	case SHMETA_OP_RENEW_AGENT:
		renew_agent(w, op, r);
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		replace_segments(w, op, r);
		break;
	case SHMETA_OP_TYPES:
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "no such operation");
		break;
	}
	if (op->type != SHMETA_OP_COMMIT_OBJECT && op->type != SHMETA_OP_ADD_SLICE)
		w->in_object = false;
}

enum shmeta_status memory_apply(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err)
{
	struct memory_db *db = memory_db_of(state);
	enum shmeta_status status;
	struct writing *w;

	if (memory_is_started(state, err))
		return backend_answer_all(ops, count, results, SHMETA_ERR_SOURCE, "a batch was started");
	w = calloc(1, sizeof *w);
	if (w == NULL || !memory_side_of(db)) {
		free(w);
		return backend_answer_all(ops, count, results, SHMETA_ERR_NO_MEMORY, "memory: out of memory");
	}
	w->db = db;
	w->side = db->side;
	w->now_ms = now_ms;
	for (size_t i = 0; i < count; i++) {
		memset(&results[i], 0, sizeof results[i]);
		results[i].partition_id = ops[i].op->partition_id;
		(void)text(w->tenant, sizeof w->tenant, ops[i].tenant);
		one(w, ops[i].op, &results[i]);
	}
	status = renewed_tell(&w->renewed, backend_tell_done(ops, count, results, sink), sink);
	free(w);
	return status;
}

enum shmeta_status memory_start(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, struct backend_error *err)
{
	if (memory_is_started(state, err))
		return SHMETA_ERR_SOURCE;
	*memory_started_of(state) = (struct memory_started){ops, count, now_ms, results};
	return SHMETA_OK;
}

enum shmeta_status memory_finish(void *state, const struct backend_sink *sink, struct backend_error *err)
{
	const struct memory_started s = *memory_started_of(state);

	memory_started_of(state)->ops = NULL;
	return memory_apply(state, s.ops, s.count, s.now_ms, s.results, sink, err);
}
