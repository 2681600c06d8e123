/* SPDX-License-Identifier: Apache-2.0
 * Rows that are moved (ddb_move.h). */
#include "backends/dynamodb/ddb_move.h"

#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_ops.h"
#include "backends/dynamodb/ddb_place.h"
#include "backends/dynamodb/ddb_segment.h"
#include "backends/op_errors.h"
#include "base/str.h"

enum { BATCH = 64 }; /* rows that are put at a time */

/* ---- out: what load() does not show ---- */

static enum shmeta_status emit_extra(enum backend_row_kind kind, const json_t *item, backend_row_fn *emit, void *arg)
{
	struct backend_row row = {.kind = kind};
	struct shmeta_str text, part[4];
	uint64_t partition = 0;

	if (!ddb_get_s(item, "pk", &text) || ddb_split(text, part, 4) < 3)
		return SHMETA_OK;
	row.tenant = part[1];
	if (kind == BACKEND_ROW_OBJECT) {
		(void)ddb_get_s(item, "b", &row.u.object.s3_bucket);
		(void)ddb_get_s(item, "k", &row.u.object.s3_key);
		row.u.object.size_bytes = (uint64_t)ddb_number(item, "z");
		row.u.object.created_at_ms = ddb_number(item, "cat");
		row.since_ms = ddb_number(item, "since");
		return emit(arg, &row);
	}
	row.topic = part[2];
	(void)ddb_get_s(item, "sk", &text);
	(void)ddb_u64(text, &partition);
	row.partition_id = (uint32_t)partition;
	row.epoch = (uint64_t)ddb_number(item, "ep");
	return row.epoch > 0 ? emit(arg, &row) : SHMETA_OK;
}

enum shmeta_status ddb_extras(void *state, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                              struct backend_error *err)
{
	struct ddb_state *s = state;
	enum shmeta_status status = SHMETA_OK;
	json_t *body;

	if (kind != BACKEND_ROW_OBJECT && kind != BACKEND_ROW_EPOCH)
		return SHMETA_OK;
	/* Their tenants are not known: all of the table is read. */
	body = json_pack("{s:s, s:b, s:s, s:s, s:{s:{s:s}}}", "TableName", s->link.uri.table[DDB_META],
	                 "ConsistentRead", 1, "ReturnConsumedCapacity", "TOTAL", "FilterExpression",
	                 "begins_with(pk, :p)", "ExpressionAttributeValues", ":p", "S",
	                 kind == BACKEND_ROW_OBJECT ? "B" DDB_US : "P" DDB_US);
	for (bool more = true; status == SHMETA_OK && more;) {
		struct ddb_call call = {.target = "Scan", .body = body};
		json_t *last, *item;
		size_t i;

		ddb_begin(s, DDB_FOR_LOAD);
		ddb_link_run(&s->link, &call, 1, s->deadline_ns);
		s->reads++;
		if (call.outcome != DDB_DONE)
			status = ddb_call_fail(&s->link, &call, "reading everything", err);
		json_array_foreach(json_object_get(call.answer, "Items"), i, item) if (status == SHMETA_OK) status =
			emit_extra(kind, item, emit, arg);
		last = json_object_get(call.answer, "LastEvaluatedKey");
		more = json_is_object(last) && json_object_set(body, "ExclusiveStartKey", last) == 0;
		ddb_call_free(&call);
	}
	json_decref(body);
	return status;
}

/* ---- in ---- */

/* The same content; what is ours alone is not compared. */
static bool same_item(const json_t *there, const json_t *item)
{
	static const char *const own[] = {"v",  "inc", "gi",  "refs", "ob",  "ns",
	                                  "ag", "exp", "acq", "ep",   "xid", "xexp"};
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)item, name, value)
	{
		bool skip = false;

		for (size_t i = 0; i < sizeof own / sizeof *own; i++)
			skip |= strcmp(name, own[i]) == 0;
		if (!skip && !json_equal(value, json_object_get(there, name)))
			return false;
	}
	return true;
}

/* It is there already: with the same content, or with other. item is released. */
static void there_already(const json_t *there, json_t *item, struct shmeta_result *r)
{
	if (same_item(there, item))
		refuse(r, SHMETA_ERR_ALREADY_EXISTS, "it is there already");
	else
		refuse(r, SHMETA_ERR_CONFLICT, "it is there already, with other content");
	json_decref(item);
}

static void changed(struct ddb_writing *w)
{
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_LIST, .name = rows_str("rows were moved here")});
}

/* A row that is one item and hangs on nothing. item: of that key. */
static void put_row(struct ddb_writing *w, struct ddb_entry *e, json_t *item, struct shmeta_result *r)
{
	if (e->item != NULL) {
		there_already(e->item, item, r);
		return;
	}
	ddb_write(w, e, item);
	changed(w);
}

static void put_topic(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	char inc[DDB_RANDOM_BYTES];
	struct ddb_entry *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_topic(&key, row->tenant, row->u.topic.name);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	item = ddb_item_of(&key);
	ddb_stable(w, &key, inc);
	ddb_topic_fill(item, &row->u.topic, inc);
	put_row(w, e, item, r);
}

/* What the row hangs on. */
static bool place(struct ddb_writing *w, const struct backend_row *row, uint32_t partition, struct ddb_place *ret,
                  struct shmeta_result *r)
{
	struct shmeta_op op = {.name = row->topic, .partition_id = partition};
	bool there = ddb_place_of(w, &(struct backend_op){row->tenant, &op}, ret, r);

	if (r->status == SHMETA_ERR_PARTITION_NOT_FOUND && row->kind == BACKEND_ROW_PARTITION)
		r->status = SHMETA_ERR_UNSUPPORTED;
	else if (r->status != SHMETA_OK)
		r->status = SHMETA_ERR_NOT_FOUND;
	return there;
}

static void put_partition(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	const struct shmeta_partition *p = &row->u.partition;
	struct ddb_place at;
	json_t *before;

	if (!place(w, row, p->partition_id, &at, r))
		return;
	before = json_copy(at.item);
	ddb_put_n(at.item, "hw", (int64_t)p->high_watermark);
	ddb_put_n(at.item, "cat", p->created_at_ms);
	ddb_put_n(at.item, "uat", p->updated_at_ms);
	if (at.topic == NULL && json_equal(before, at.item)) {
		refuse(r, SHMETA_ERR_ALREADY_EXISTS, "it is there already");
	} else if (at.topic == NULL) {
		refuse(r, SHMETA_ERR_CONFLICT, "it is there already, with other content");
	} else if (!json_equal(before, at.item)) {
		/* otherwise it is as it is without an item of its own */
		ddb_place_write(w, &at);
		changed(w);
	}
	json_decref(before);
	json_decref(at.item);
}

static void put_segment(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	const struct shmeta_segment *s = &row->u.segment;
	struct ddb_entry *e, *id = NULL, *object;
	struct ddb_place at;
	struct ddb_key key;
	json_t *item;

	if (!place(w, row, s->partition_id, &at, r))
		return;
	ddb_key_segment(&key, row->tenant, ddb_text(at.item, "inc"), s->partition_id, s->base_offset);
	e = ddb_ledger_get(&w->ledger, &key);
	item = ddb_segment_item(&key, s);
	if (!ddb_id_is_of_place(s->id, row->topic, s->partition_id, s->base_offset)) {
		ddb_key_id(&key, s->id);
		id = ddb_ledger_get(&w->ledger, &key);
	}
	ddb_key_object(&key, row->tenant, s->s3_bucket, s->s3_key);
	object = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || object == NULL || w->ledger.missing) {
		json_decref(item);
	} else if (e->item != NULL) {
		there_already(e->item, item, r);
	} else if (id != NULL && id->item != NULL) {
		refuse(r, SHMETA_ERR_CONFLICT, "its id is another segment's");
		json_decref(item);
	} else {
		if (object->item != NULL) {
			ddb_object_add(w, object);
			ddb_put_n(item, "ob", 1);
		}
		ddb_write(w, e, item);
		if (id != NULL)
			ddb_write(w, id, ddb_item_of(&id->key));
		ddb_header_add(at.item, s);
		ddb_place_write(w, &at);
		changed(w);
	}
	json_decref(at.item);
}

static void put_agent(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	const struct shmeta_agent *a = &row->u.agent;
	struct ddb_entry *e, *address;
	struct shmeta_str id;
	struct ddb_key key;
	json_t *item, *where;
	char *metadata;

	ddb_key_address(&key, row->tenant, a->address);
	address = ddb_ledger_get(&w->ledger, &key);
	ddb_key_agent(&key, row->tenant, a->agent_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || address == NULL)
		return;
	if (address->item != NULL && ddb_get_s(address->item, "id", &id) && !str_equal(id, a->agent_id)) {
		refuse_address(a, r);
		return;
	}
	item = ddb_item_of(&key);
	ddb_put_s(item, "ad", a->address);
	ddb_put_s(item, "az", a->availability_zone);
	ddb_put_s(item, "gr", a->agent_group);
	ddb_put_n(item, "hb", a->last_heartbeat_ms);
	ddb_put_n(item, "st", a->started_at_ms);
	metadata = a->metadata.bytes > 0 ? rows_json(&a->metadata) : NULL;
	if (metadata != NULL)
		ddb_put_t(item, "md", metadata);
	free(metadata);
	put_row(w, e, item, r);
	if (r->status != SHMETA_OK || address->item != NULL)
		return;
	where = ddb_item_of(&address->key);
	ddb_put_s(where, "id", a->agent_id);
	ddb_write(w, address, where);
}

static void put_group(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	char id[DDB_RANDOM_BYTES];
	struct ddb_entry *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_group(&key, row->tenant, row->u.group.group_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	ddb_random(id);
	item = ddb_item_of(&key);
	ddb_put_t(item, "gi", id);
	ddb_put_n(item, "cat", row->u.group.created_at_ms);
	ddb_put_n(item, "uat", row->u.group.updated_at_ms);
	put_row(w, e, item, r);
}

static void put_offset(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	const struct shmeta_committed_offset *o = &row->u.offset;
	struct ddb_entry *e, *group;
	struct ddb_place at;
	struct ddb_key key;
	json_t *item;

	if (!place(w, row, o->partition_id, &at, r))
		return;
	ddb_key_group(&key, row->tenant, o->group_id);
	group = ddb_ledger_get(&w->ledger, &key);
	ddb_key_offset(&key, row->tenant, o->group_id, row->topic, o->partition_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (group != NULL && group->item == NULL) {
		refuse(r, SHMETA_ERR_NOT_FOUND, "its group is not there");
	} else if (group != NULL && e != NULL) {
		bool there = e->item != NULL && strcmp(ddb_text(e->item, "gi"), ddb_text(group->item, "gi")) == 0 &&
		             strcmp(ddb_text(e->item, "inc"), ddb_text(at.item, "inc")) == 0;

		item = ddb_item_of(&key);
		ddb_put_t(item, "inc", ddb_text(at.item, "inc"));
		ddb_put_t(item, "gi", ddb_text(group->item, "gi"));
		ddb_put_n(item, "off", (int64_t)o->committed_offset);
		ddb_put_n(item, "at", o->committed_at_ms);
		if (o->has_metadata)
			ddb_put_s(item, "m", o->metadata);
		if (there) {
			there_already(e->item, item, r);
		} else {
			ddb_write(w, e, item);
			changed(w);
		}
	}
	json_decref(at.item);
}

static void put_lease(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	const struct shmeta_lease *l = &row->u.lease;
	struct ddb_entry *agent, *note;
	struct shmeta_str holder;
	struct ddb_place at;
	struct ddb_key key;

	if (!place(w, row, l->partition_id, &at, r))
		return;
	ddb_key_agent(&key, row->tenant, l->leader_agent_id);
	agent = ddb_ledger_get(&w->ledger, &key);
	ddb_key_held(&key, row->tenant, l->leader_agent_id, row->topic, l->partition_id);
	note = ddb_ledger_blind(&w->ledger, &key);
	if (agent != NULL && agent->item == NULL) {
		refuse_agent(l->leader_agent_id, r);
	} else if (agent != NULL && note != NULL && ddb_get_s(at.item, "ag", &holder)) {
		bool same = str_equal(holder, l->leader_agent_id) &&
		            ddb_number(at.item, "exp") == l->lease_expires_at_ms &&
		            ddb_number(at.item, "acq") == l->acquired_at_ms &&
		            (uint64_t)ddb_number(at.item, "ep") == l->epoch;

		refuse(r, same ? SHMETA_ERR_ALREADY_EXISTS : SHMETA_ERR_CONFLICT, "it is there already%s",
		       same ? "" : ", with other content");
	} else if (agent != NULL && note != NULL && (uint64_t)ddb_number(at.item, "ep") > l->epoch) {
		/* it is not taken back */
		refuse(r, SHMETA_ERR_CONFLICT, "a later epoch was given here");
	} else if (agent != NULL && note != NULL) {
		ddb_put_s(at.item, "ag", l->leader_agent_id);
		ddb_put_n(at.item, "exp", l->lease_expires_at_ms);
		ddb_put_n(at.item, "acq", l->acquired_at_ms);
		ddb_put_n(at.item, "ep", (int64_t)l->epoch);
		ddb_write(w, note, ddb_item_of(&note->key));
		ddb_check(w, agent, DDB_EXISTS);
		ddb_place_write(w, &at);
		changed(w);
	}
	json_decref(at.item);
}

static void put_object(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	const struct shmeta_object *o = &row->u.object;
	struct ddb_entry *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_object(&key, row->tenant, o->s3_bucket, o->s3_key);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	if (key.impossible) {
		refuse(r, SHMETA_ERR_UNSUPPORTED, "bucket and key have more than %d bytes", DDB_SK_MAX - 1);
		return;
	}
	item = ddb_item_of(&key);
	ddb_put_s(item, "b", o->s3_bucket);
	ddb_put_s(item, "k", o->s3_key);
	ddb_put_n(item, "z", (int64_t)o->size_bytes);
	ddb_put_n(item, "cat", o->created_at_ms);
	ddb_put_n(item, "refs", 0);
	if (row->since_ms != 0)
		ddb_put_n(item, "since", row->since_ms);
	put_row(w, e, item, r);
}

static void put_epoch(struct ddb_writing *w, const struct backend_row *row, struct shmeta_result *r)
{
	struct ddb_entry *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_header(&key, row->tenant, row->topic, row->partition_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	if (e->item != NULL && (uint64_t)ddb_number(e->item, "ep") >= row->epoch) {
		refuse(r, SHMETA_ERR_ALREADY_EXISTS, "it is there already, or one beyond it");
		return;
	}
	item = e->item != NULL ? json_copy(e->item) : ddb_item_of(&key);
	if (e->item == NULL)
		ddb_put_n(item, "dead", 1); /* no partition's, until something is written to one */
	ddb_put_n(item, "ep", (int64_t)row->epoch);
	ddb_write(w, e, item);
	changed(w);
}

void ddb_judge_row(struct ddb_writing *w, struct ddb_step *step)
{
	static void (*const put[BACKEND_ROW_KINDS])(struct ddb_writing *, const struct backend_row *,
	                                            struct shmeta_result *) = {
		[BACKEND_ROW_OBJECT] = put_object,       [BACKEND_ROW_TOPIC] = put_topic,
		[BACKEND_ROW_PARTITION] = put_partition, [BACKEND_ROW_SEGMENT] = put_segment,
		[BACKEND_ROW_AGENT] = put_agent,         [BACKEND_ROW_GROUP] = put_group,
		[BACKEND_ROW_OFFSET] = put_offset,       [BACKEND_ROW_LEASE] = put_lease,
		[BACKEND_ROW_EPOCH] = put_epoch};

	put[step->row->kind](w, step->row, step->result);
}

enum shmeta_status ddb_restore(void *state, const struct backend_row *rows, size_t count, struct shmeta_result *results,
                               struct backend_error *err)
{
	struct ddb_step *steps = calloc(count + 1, sizeof *steps);
	struct ddb_writing *w = calloc(1, sizeof *w);
	enum shmeta_status status = steps != NULL && w != NULL
	                                    ? SHMETA_OK
	                                    : backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");

	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		steps[i] = (struct ddb_step){.judge = ddb_judge_row, .row = &rows[i], .result = &results[i]};
	/* Each batch has the time of a call: how many rows come is the caller's choice. */
	for (size_t from = 0; status == SHMETA_OK && from < count; from += BATCH) {
		w->s = state;
		ddb_begin(w->s, DDB_FOR_WRITE);
		status = ddb_steps(w, steps + from, count - from < BATCH ? count - from : BATCH, err);
		for (size_t i = from; status == SHMETA_OK && i < count && i < from + BATCH; i++)
			if (results[i].status == SHMETA_ERR_BUSY)
				status = backend_fail(err, SHMETA_ERR_BUSY, "%s", results[i].text);
	}
	if (w != NULL && w->s != NULL) {
		ddb_log_close_gaps(w->s);
		ddb_writing_free(w);
	}
	free(w);
	free(steps);
	return status;
}
