/* SPDX-License-Identifier: Apache-2.0
 * Operations that are one step (ddb_ops.h): topics, segments, groups, agents. Each is judged whole
 * before it touches anything. */
#include "backends/dynamodb/ddb_ops.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_epochs.h"
#include "backends/dynamodb/ddb_lease_ops.h"
#include "backends/dynamodb/ddb_place.h"
#include "backends/dynamodb/ddb_segment.h"
#include "backends/op_errors.h"
#include "base/str.h"

static void tell_place(struct ddb_writing *w, const struct backend_op *op, enum shmeta_class cls, uint64_t from,
                       uint64_t to)
{
	ddb_tell(w, &(struct backend_key){.cls = cls,
	                                  .tenant = op->tenant,
	                                  .topic = op->op->name,
	                                  .partition_id = op->op->partition_id,
	                                  .from = from,
	                                  .to = to});
}

/* ---- topics ---- */

void ddb_topic_fill(json_t *item, const struct shmeta_topic *topic, const char *inc)
{
	char *config = topic->config.bytes > 0 ? rows_json(&topic->config) : NULL;

	ddb_put_t(item, "inc", inc);
	ddb_put_n(item, "n", topic->partition_count);
	ddb_put_n(item, "cat", topic->created_at_ms);
	ddb_put_n(item, "uat", topic->updated_at_ms);
	if (topic->has_retention)
		ddb_put_n(item, "ret", topic->retention_ms);
	if (topic->cleanup_policy.bytes > 0)
		ddb_put_s(item, "cp", topic->cleanup_policy);
	if (config != NULL)
		ddb_put_t(item, "cfg", config);
	free(config);
}

static void create_topic(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct shmeta_topic topic = op->op->u.topic;
	char inc[DDB_RANDOM_BYTES];
	struct ddb_entry *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_topic(&key, op->tenant, topic.name);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	if (e->item != NULL && ddb_has(e->item, "gone")) {
		refuse(r, SHMETA_ERR_BUSY, "a topic of that name is being deleted");
		return;
	}
	if (e->item != NULL) {
		refuse_topic_exists(op->op, r);
		return;
	}
	topic.created_at_ms = topic.updated_at_ms = w->now_ms;
	item = ddb_item_of(&key);
	ddb_stable(w, &key, inc);
	ddb_topic_fill(item, &topic, inc);
	ddb_write(w, e, item);
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_TOPIC,
	                                  .tenant = op->tenant,
	                                  .topic = topic.name,
	                                  .with_segments = 1,
	                                  .deleted = 1});
}

/* ---- segments ---- */

static void raise_watermark(struct ddb_writing *w, json_t *header, uint64_t to)
{
	if ((uint64_t)ddb_number(header, "hw") >= to)
		return;
	ddb_put_n(header, "hw", (int64_t)to);
	ddb_put_n(header, "uat", w->now_ms);
}

/* slice: of the unit's object. watermark: moved with it. */
static void add_segment(struct ddb_writing *w, const struct backend_op *op, const struct shmeta_segment *s, bool slice,
                        bool watermark, struct shmeta_result *r)
{
	struct ddb_place place;
	struct ddb_entry *e, *id;
	struct ddb_key key;
	json_t *item;

	if (!ddb_place_of(w, op, &place, r))
		return;
	if (!ddb_passes_fence(w, op->op, place.item, r))
		goto out;
	ddb_key_segment(&key, op->tenant, ddb_text(place.item, "inc"), op->op->partition_id, s->base_offset);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		goto out;
	if (e->item != NULL) {
		struct shmeta_segment old;
		bool same;

		ddb_segment_of(e->item, &old);
		old.partition_id = op->op->partition_id;
		same = old.end_offset == s->end_offset && old.record_count == s->record_count &&
		       old.size_bytes == s->size_bytes && old.created_at_ms == s->created_at_ms &&
		       old.min_timestamp_ms == s->min_timestamp_ms && old.max_timestamp_ms == s->max_timestamp_ms &&
		       str_equal(old.id, s->id) && str_equal(old.s3_bucket, s->s3_bucket) &&
		       str_equal(old.s3_key, s->s3_key);
		refuse_segment(op->op, same, r);
		old.id = old.s3_bucket = old.s3_key = (struct shmeta_str){NULL, 0};
		r->existing = old;
		goto out;
	}
	if (ddb_segment_id_is_taken(w, op, s, &id)) {
		refuse_segment_id(op->op, r);
		goto out;
	}
	if (w->ledger.missing)
		goto out;
	item = ddb_segment_item(&key, s);
	if (slice)
		ddb_put_n(item, "ob", 1);
	ddb_write(w, e, item);
	if (id != NULL)
		ddb_write(w, id, ddb_item_of(&id->key));
	ddb_header_add(place.item, s);
	ddb_epoch_record(w, op, place.item, s->base_offset);
	if (watermark)
		raise_watermark(w, place.item, s->end_offset + 1);
	ddb_place_write(w, &place);
	tell_place(w, op, SHMETA_CLASS_SEGMENT, s->base_offset, s->base_offset);
out:
	json_decref(place.item);
}

static void update_watermark(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct ddb_place place;

	if (!ddb_place_of(w, op, &place, r))
		return;
	if (ddb_passes_fence(w, op->op, place.item, r)) {
		ddb_epoch_record(w, op, place.item, (uint64_t)ddb_number(place.item, "hw"));
		ddb_put_n(place.item, "hw", (int64_t)op->op->offset);
		ddb_put_n(place.item, "uat", w->now_ms);
		ddb_place_write(w, &place);
		tell_place(w, op, SHMETA_CLASS_PARTITION, 0, 0);
	}
	json_decref(place.item);
}

/* ---- groups ---- */

/* The entry of the group, which is made where there is none. NULL: it has to be read. */
static struct ddb_entry *have_group(struct ddb_writing *w, const struct backend_op *op, struct shmeta_str group)
{
	char id[DDB_RANDOM_BYTES];
	struct ddb_entry *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_group(&key, op->tenant, group);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || e->item != NULL || w->ledger.missing)
		return e;
	ddb_random(id);
	item = ddb_item_of(&key);
	ddb_put_t(item, "gi", id);
	ddb_put_n(item, "cat", w->now_ms);
	ddb_put_n(item, "uat", w->now_ms);
	ddb_write(w, e, item);
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_OFFSET, .tenant = op->tenant, .name = group});
	return e;
}

static void commit_offset(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_committed_offset *o = &op->op->u.committed;
	struct ddb_place place;
	struct ddb_entry *group, *e;
	struct ddb_key key;
	json_t *item;

	if (!ddb_place_of(w, op, &place, r))
		return;
	ddb_key_offset(&key, op->tenant, o->group_id, op->op->name, op->op->partition_id);
	e = ddb_ledger_blind(&w->ledger, &key);
	group = have_group(w, op, o->group_id);
	if (group != NULL && e != NULL && !w->ledger.missing) {
		item = ddb_item_of(&key);
		ddb_put_t(item, "inc", ddb_text(place.item, "inc"));
		ddb_put_t(item, "gi", ddb_text(group->item, "gi"));
		ddb_put_n(item, "off", (int64_t)o->committed_offset);
		ddb_put_n(item, "at", w->now_ms);
		if (o->has_metadata)
			ddb_put_s(item, "m", o->metadata);
		ddb_write(w, e, item);
		ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_OFFSET,
		                                  .tenant = op->tenant,
		                                  .name = o->group_id,
		                                  .topic = op->op->name,
		                                  .partition_id = op->op->partition_id});
	}
	json_decref(place.item);
}

/* ---- agents ---- */

static void register_agent(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_agent *a = &op->op->u.agent;
	struct ddb_entry *e, *address, *former = NULL;
	struct shmeta_str text;
	struct ddb_key key;
	json_t *item;
	char *metadata;

	ddb_key_agent(&key, op->tenant, a->agent_id);
	e = ddb_ledger_get(&w->ledger, &key);
	ddb_key_address(&key, op->tenant, a->address);
	address = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || address == NULL)
		return;
	if (address->item != NULL && ddb_get_s(address->item, "id", &text) && !str_equal(text, a->agent_id)) {
		refuse_address(a, r);
		return;
	}
	if (e->item != NULL && ddb_get_s(e->item, "ad", &text) && !str_equal(text, a->address)) {
		ddb_key_address(&key, op->tenant, text);
		former = ddb_ledger_get(&w->ledger, &key);
		if (former == NULL)
			return;
	}
	item = ddb_item_of(&e->key);
	ddb_put_s(item, "ad", a->address);
	ddb_put_s(item, "az", a->availability_zone);
	ddb_put_s(item, "gr", a->agent_group);
	ddb_put_n(item, "hb", a->last_heartbeat_ms);
	ddb_put_n(item, "st", e->item != NULL ? ddb_number(e->item, "st") : a->started_at_ms);
	metadata = a->metadata.bytes > 0 ? rows_json(&a->metadata) : NULL;
	if (metadata != NULL)
		ddb_put_t(item, "md", metadata);
	free(metadata);
	ddb_write(w, e, item);
	if (former != NULL)
		ddb_remove(w, former);
	if (address->item == NULL) {
		item = ddb_item_of(&address->key);
		ddb_put_s(item, "id", a->agent_id);
		ddb_write(w, address, item);
	}
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_AGENT, .tenant = op->tenant, .name = a->agent_id});
}

/* ---- objects ---- */

static void commit_object(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_object *o = &op->op->u.object;
	struct ddb_key key;
	json_t *item;

	w->in_object = true;
	memset(&w->object_result, 0, sizeof w->object_result);
	ddb_key_object(&key, op->tenant, o->s3_bucket, o->s3_key);
	w->object = ddb_ledger_get(&w->ledger, &key);
	if (w->object == NULL)
		return;
	if (key.impossible) {
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "bucket and key of an object have more than %d bytes here",
		       DDB_SK_MAX - 1);
		w->object_result = *r;
		w->object = NULL;
		return;
	}
	item = w->object->item;
	if (item != NULL) {
		uint64_t size = (uint64_t)ddb_number(item, "z");

		refuse_object(o, size, (uint64_t)ddb_number(item, "refs"), r);
		if (size != o->size_bytes) {
			w->object_result = *r;
			w->object = NULL;
		} else if (ddb_has(item, "since")) { /* slices may follow */
			item = json_copy(item);
			(void)json_object_del(item, "since");
			ddb_write(w, w->object, item);
		}
		return;
	}
	item = ddb_item_of(&key);
	ddb_put_s(item, "b", o->s3_bucket);
	ddb_put_s(item, "k", o->s3_key);
	ddb_put_n(item, "z", (int64_t)o->size_bytes);
	ddb_put_n(item, "cat", o->created_at_ms);
	ddb_put_n(item, "refs", 0);
	ddb_write(w, w->object, item);
}

static void add_slice(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct shmeta_segment s = op->op->u.segment;
	uint64_t size = 0;

	if (w->in_object && w->object == NULL) {
		if (!w->ledger.missing)
			*r = w->object_result;
		return;
	}
	if (w->in_object)
		size = (uint64_t)ddb_number(w->object->item, "z");
	if (refuse_slice(w->in_object ? &size : NULL, &s, r))
		return;
	(void)ddb_get_s(w->object->item, "b", &s.s3_bucket);
	(void)ddb_get_s(w->object->item, "k", &s.s3_key);
	add_segment(w, op, &s, true, true, r);
	if (r->status != SHMETA_OK || w->ledger.missing)
		return;
	ddb_object_add(w, w->object);
}

static void confirm_deleted(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct ddb_entry *e;
	struct ddb_key key;
	int64_t refs;

	ddb_key_object(&key, op->tenant, op->op->u.object.s3_bucket, op->op->u.object.s3_key);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || e->item == NULL)
		return;
	refs = ddb_number(e->item, "refs");
	if (refs > 0)
		refuse_object_used((uint64_t)refs, r);
	else
		ddb_remove(w, e);
}

/* ---- one operation ---- */

void ddb_judge_op(struct ddb_writing *w, struct ddb_step *step)
{
	const struct backend_op *op = step->op;
	struct shmeta_result *r = step->result;

	switch (op->op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		create_topic(w, op, r);
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		update_watermark(w, op, r);
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		add_segment(w, op, &op->op->u.segment, false, op->op->type != SHMETA_OP_ADD_SEGMENT, r);
		break;
	case SHMETA_OP_ENSURE_GROUP:
		(void)have_group(w, op, op->op->group_id);
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		commit_offset(w, op, r);
		break;
	case SHMETA_OP_REGISTER_AGENT:
		register_agent(w, op, r);
		break;
	case SHMETA_OP_ACQUIRE_LEASE:
		ddb_acquire_lease(w, op, r);
		break;
	case SHMETA_OP_RELEASE_LEASE:
		ddb_release_lease(w, op, r);
		break;
	case SHMETA_OP_OFFER_LEASE:
		ddb_offer_lease(w, op, r);
		break;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE:
		ddb_answer_offer(w, op, r);
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
	default:
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "no such operation");
		break;
	}
	if (op->op->type != SHMETA_OP_COMMIT_OBJECT && op->op->type != SHMETA_OP_ADD_SLICE)
		w->in_object = false;
}
