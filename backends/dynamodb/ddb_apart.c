/* SPDX-License-Identifier: Apache-2.0
 * Operations of as many steps as there are items (ddb_ops.h). Each begins with what makes its outcome true for readers, or ends with it, and
 * may be repeated: what a daemon that died left of one is finished by whoever meets it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_epochs.h"
#include "backends/dynamodb/ddb_lease_ops.h"
#include "backends/dynamodb/ddb_ops.h"
#include "backends/dynamodb/ddb_replace.h"
#include "backends/dynamodb/ddb_segment.h"
#include "backends/op_errors.h"
#include "base/str.h"

enum { SWEEP_AT_ONCE = 64, SWEEP_MOST = 2000, SWEEP_S = 5 };

/* What the steps of one operation have in common; a step's own is in its arg. */
struct apart {
	struct ddb_step step;
	struct shmeta_result result;
	const struct backend_op *op;
	json_t *item; /* borrowed */
	struct shmeta_str tenant;
	uint64_t count; /* of what the step did */
};

bool ddb_is_apart(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_DELETE_TOPIC || op->type == SHMETA_OP_DELETE_SEGMENTS_BEFORE ||
	       op->type == SHMETA_OP_DELETE_GROUP || op->type == SHMETA_OP_DEREGISTER_AGENT ||
	       op->type == SHMETA_OP_RENEW_AGENT || op->type == SHMETA_OP_REPLACE_SEGMENTS;
}

/* One step for each item of a query's answer. The worst of their results is *r's; *ret_count: the sum of their counts. */
static enum shmeta_status each(struct ddb_writing *w, const struct backend_op *op, struct shmeta_str tenant,
                               const json_t *items, void (*judge)(struct ddb_writing *, struct ddb_step *),
                               struct shmeta_result *r, uint64_t *ret_count, struct backend_error *err)
{
	size_t count = json_array_size(items);
	struct apart *of = calloc(count + 1, sizeof *of);
	struct ddb_step *steps = calloc(count + 1, sizeof *steps);
	enum shmeta_status status = SHMETA_OK;

	if (of == NULL || steps == NULL)
		status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		of[i].op = op;
		of[i].tenant = tenant;
		of[i].item = json_array_get(items, i);
		steps[i] = (struct ddb_step){.judge = judge, .arg = &of[i], .result = &of[i].result};
	}
	if (status == SHMETA_OK && count > 0)
		status = ddb_steps(w, steps, count, err);
	for (size_t i = 0; of != NULL && i < count; i++) {
		if (of[i].result.status != SHMETA_OK && r->status == SHMETA_OK) {
			r->status = of[i].result.status;
			memcpy(r->text, of[i].result.text, sizeof r->text);
		} else if (of[i].result.status == SHMETA_OK && ret_count != NULL) {
			*ret_count += of[i].count;
		}
	}
	free(of);
	free(steps);
	return status;
}

/* An operation's own step. */
static enum shmeta_status once(struct ddb_writing *w, const struct backend_op *op,
                               void (*judge)(struct ddb_writing *, struct ddb_step *), void *arg,
                               struct shmeta_result *r, struct backend_error *err)
{
	struct ddb_step step = {.judge = judge, .op = op, .arg = arg, .result = r};

	return ddb_steps(w, &step, 1, err);
}

static void prime_all(struct ddb_writing *w, enum ddb_table table, const json_t *items)
{
	struct ddb_key key = {.table = table};
	size_t i;
	json_t *item;

	json_array_foreach(items, i, item)
	{
		(void)snprintf(key.pk, sizeof key.pk, "%s", ddb_text(item, "pk"));
		(void)snprintf(key.sk, sizeof key.sk, "%s", ddb_text(item, "sk"));
		ddb_ledger_prime(&w->ledger, &key, item);
	}
}

static struct ddb_entry *entry_of(struct ddb_writing *w, enum ddb_table table, const json_t *item)
{
	struct ddb_key key = {.table = table};

	(void)snprintf(key.pk, sizeof key.pk, "%s", ddb_text(item, "pk"));
	(void)snprintf(key.sk, sizeof key.sk, "%s", ddb_text(item, "sk"));
	return ddb_ledger_get(&w->ledger, &key);
}

/* ---- segments ---- */

static void judge_delete_segment(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	const struct shmeta_op *op = a->op->op;
	struct ddb_entry *header, *e = entry_of(w, DDB_SEG, a->item);
	struct ddb_key key;
	json_t *item;

	a->count = 0;
	ddb_key_header(&key, a->op->tenant, op->name, op->partition_id);
	header = ddb_ledger_get(&w->ledger, &key);
	if (header == NULL || e == NULL || header->item == NULL || e->item == NULL || ddb_has(header->item, "dead") ||
	    !ddb_segment_remove(w, a->op->tenant, op->name, op->partition_id, e))
		return;
	item = json_copy(header->item);
	ddb_header_take(item);
	ddb_write(w, header, item);
	a->count = 1;
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_SEGMENT,
	                                  .tenant = a->op->tenant,
	                                  .topic = op->name,
	                                  .partition_id = op->partition_id,
	                                  .to = op->offset});
}

static enum shmeta_status delete_before(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                        struct backend_error *err)
{
	const struct shmeta_op *o = op->op;
	struct ddb_ledger ledger = {.count = 0};
	struct ddb_key key, from, to;
	const json_t *header;
	struct ddb_query q;
	json_t *old = json_array(), *item;
	uint64_t count = 0;
	size_t i;
	enum shmeta_status status;

	ddb_key_header(&key, op->tenant, o->name, o->partition_id);
	status = ddb_ledger_look(w->s, &ledger, &key, &header, err);
	if (status == SHMETA_OK && header != NULL && !ddb_has(header, "dead") && o->offset > 0) {
		const char *inc = ddb_text(header, "inc");

		ddb_key_segment(&from, op->tenant, inc, o->partition_id, 0);
		ddb_key_segment(&to, op->tenant, inc, o->partition_id, o->offset - 1);
		q = (struct ddb_query){.table = DDB_SEG, .pk = from.pk, .from = from.sk, .to = to.sk};
		status = ddb_queries(w->s, &q, 1, "reading segments", err);
		json_array_foreach(q.items, i, item) if ((uint64_t)ddb_number(item, "e") < o->offset)(void)
			json_array_append(old, item);
		if (status == SHMETA_OK) {
			prime_all(w, DDB_SEG, old);
			status = each(w, op, op->tenant, old, judge_delete_segment, r, &count, err);
		}
		ddb_queries_free(&q, 1);
	}
	r->count = r->status == SHMETA_OK ? count : 0;
	if (status == SHMETA_OK && count > 0 && ddb_has(header, "lo"))
		ddb_drop_ended_epochs(w, op);
	json_decref(old);
	ddb_ledger_free(&ledger);
	return status;
}

/* ---- groups and agents ---- */

static void judge_remove_item(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	struct ddb_entry *e = entry_of(w, DDB_META, a->item);

	if (e != NULL && e->item != NULL)
		ddb_remove(w, e);
}

static void judge_remove_group(struct ddb_writing *w, struct ddb_step *step)
{
	struct ddb_entry *e;
	struct ddb_key key;

	ddb_key_group(&key, step->op->tenant, step->op->op->group_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || e->item == NULL)
		return;
	ddb_remove(w, e);
	ddb_tell(w, &(struct backend_key){
			    .cls = SHMETA_CLASS_OFFSET, .tenant = step->op->tenant, .name = step->op->op->group_id});
}

static enum shmeta_status delete_group(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                       struct backend_error *err)
{
	struct ddb_query q[DDB_OFFSET_SHARDS];
	struct ddb_key key[DDB_OFFSET_SHARDS];
	struct shmeta_result ignored = {.status = SHMETA_OK};
	enum shmeta_status status = once(w, op, judge_remove_group, NULL, r, err);

	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	/* Its offsets name the group that is gone: nobody shows them. What is left of them now costs room, no more. */
	for (unsigned int i = 0; i < DDB_OFFSET_SHARDS; i++) {
		ddb_pk_offsets(&key[i], op->tenant, op->op->group_id, i);
		q[i] = (struct ddb_query){.table = DDB_META, .pk = key[i].pk};
	}
	if (ddb_queries(w->s, q, DDB_OFFSET_SHARDS, "reading committed offsets", err) == SHMETA_OK)
		for (unsigned int i = 0; i < DDB_OFFSET_SHARDS; i++) {
			prime_all(w, DDB_META, q[i].items);
			(void)each(w, op, op->tenant, q[i].items, judge_remove_item, &ignored, NULL, err);
		}
	ddb_queries_free(q, DDB_OFFSET_SHARDS);
	return SHMETA_OK;
}

static void judge_remove_agent(struct ddb_writing *w, struct ddb_step *step)
{
	struct ddb_entry *e, *address = NULL;
	struct shmeta_str text;
	struct ddb_key key;

	ddb_key_agent(&key, step->op->tenant, step->op->op->agent_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || e->item == NULL)
		return;
	if (ddb_get_s(e->item, "ad", &text)) {
		ddb_key_address(&key, step->op->tenant, text);
		address = ddb_ledger_get(&w->ledger, &key);
		if (address == NULL)
			return;
	}
	ddb_remove(w, e);
	if (address != NULL && address->item != NULL)
		ddb_remove(w, address);
	ddb_tell(w, &(struct backend_key){
			    .cls = SHMETA_CLASS_AGENT, .tenant = step->op->tenant, .name = step->op->op->agent_id});
}

/* item: the note of a lease that the agent took once. */
static void judge_drop_held(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	struct ddb_entry *note = entry_of(w, DDB_META, a->item), *header;
	struct shmeta_str sk, part[2], holder;
	struct ddb_key key;
	uint64_t partition;
	json_t *item;

	if (!ddb_get_s(a->item, "sk", &sk) || ddb_split(sk, part, 2) != 2 || !ddb_u64(part[1], &partition))
		return;
	ddb_key_header(&key, a->op->tenant, part[0], (uint32_t)partition);
	header = ddb_ledger_get(&w->ledger, &key);
	if (note == NULL || header == NULL || note->item == NULL)
		return;
	if (header->item != NULL && ddb_get_s(header->item, "ag", &holder) && str_equal(holder, a->op->op->agent_id)) {
		item = json_copy(header->item);
		(void)json_object_del(item, "ag");
		(void)json_object_del(item, "exp");
		(void)json_object_del(item, "acq");
		ddb_write(w, header, item);
		ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_LEASE,
		                                  .tenant = a->op->tenant,
		                                  .topic = part[0],
		                                  .partition_id = (uint32_t)partition});
	}
	ddb_remove(w, note);
}

static enum shmeta_status deregister_agent(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                           struct backend_error *err)
{
	struct ddb_query q = {.table = DDB_META};
	struct ddb_key key;
	enum shmeta_status status = once(w, op, judge_remove_agent, NULL, r, err);

	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	/* The agent is gone: it takes no more leases. */
	ddb_key_held(&key, op->tenant, op->op->agent_id, rows_str("-"), 0);
	q.pk = key.pk;
	status = ddb_queries(w->s, &q, 1, "reading an agent's leases", err);
	if (status == SHMETA_OK) {
		prime_all(w, DDB_META, q.items);
		status = each(w, op, op->tenant, q.items, judge_drop_held, r, NULL, err);
	}
	ddb_queries_free(&q, 1);
	return status;
}

static void judge_beat(struct ddb_writing *w, struct ddb_step *step)
{
	const struct shmeta_op *op = step->op->op;
	struct ddb_entry *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_agent(&key, step->op->tenant, op->agent_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	if (e->item == NULL) {
		refuse_agent(op->agent_id, step->result);
		return;
	}
	item = json_copy(e->item);
	ddb_put_n(item, "hb", op->u.agent.last_heartbeat_ms);
	ddb_write(w, e, item);
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_AGENT, .tenant = step->op->tenant, .name = op->agent_id});
}

/* item: as above. */
static void judge_renew_held(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	struct shmeta_str sk, part[2];
	uint64_t partition;

	a->count = ddb_get_s(a->item, "sk", &sk) && ddb_split(sk, part, 2) == 2 && ddb_u64(part[1], &partition) &&
	           ddb_renew_lease(w, a->op, part[0], (uint32_t)partition);
}

/* Each lease by itself: where the source fails on the way, some are renewed and others are not, and a repetition does the rest. */
static enum shmeta_status renew_agent(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                      struct backend_error *err)
{
	struct ddb_query q = {.table = DDB_META};
	struct ddb_key key;
	enum shmeta_status status = once(w, op, judge_beat, NULL, r, err);

	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	ddb_key_held(&key, op->tenant, op->op->agent_id, rows_str("-"), 0);
	q.pk = key.pk;
	status = ddb_queries(w->s, &q, 1, "reading an agent's leases", err);
	if (status == SHMETA_OK)
		status = each(w, op, op->tenant, q.items, judge_renew_held, r, &r->count, err);
	ddb_queries_free(&q, 1);
	if (r->status != SHMETA_OK)
		r->count = 0;
	return status;
}

/* ---- topics ---- */

/* First: the topic is gone for everybody, and what it leaves is noted. */
static void judge_topic_goes(struct ddb_writing *w, struct ddb_step *step)
{
	const struct backend_op *op = step->op;
	struct ddb_entry *e, *left;
	struct ddb_key key;
	json_t *item;

	ddb_key_topic(&key, op->tenant, op->op->name);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	if (e->item == NULL || ddb_has(e->item, "gone")) {
		refuse_place(op->op, false, step->result);
		return;
	}
	ddb_key_left(&key, ddb_text(e->item, "inc"));
	left = ddb_ledger_blind(&w->ledger, &key);
	if (left == NULL)
		return;
	item = ddb_item_of(&key);
	ddb_put_s(item, "t", op->tenant);
	ddb_put_s(item, "name", op->op->name);
	ddb_put_n(item, "n", ddb_number(e->item, "n"));
	ddb_put_n(item, "from", 0);
	ddb_write(w, left, item);
	item = json_copy(e->item);
	ddb_put_n(item, "gone", 1);
	ddb_write(w, e, item);
	ddb_tell(w, &(struct backend_key){.cls = SHMETA_CLASS_TOPIC,
	                                  .tenant = op->tenant,
	                                  .topic = op->op->name,
	                                  .with_segments = 1,
	                                  .deleted = 1});
}

/* A header of the topic: nothing is written under it any more, and its lease is nobody's. The epoch stays. */
static void judge_header_dies(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	struct ddb_entry *e = entry_of(w, DDB_META, a->item);
	struct shmeta_str sk, name;
	uint64_t partition = 0;
	json_t *item;

	if (e == NULL || e->item == NULL || ddb_has(e->item, "dead"))
		return;
	(void)ddb_get_s(e->item, "sk", &sk);
	(void)ddb_u64(sk, &partition);
	if (strcmp(ddb_text(e->item, "inc"), ddb_text(a->item, "inc")) != 0)
		return;
	name = a->op->op->name;
	item = json_copy(e->item);
	ddb_drop_lease(w, a->tenant, name, (uint32_t)partition, item);
	ddb_epochs_drop(w, a->tenant, (uint32_t)partition, item);
	ddb_put_n(item, "dead", 1);
	ddb_write(w, e, item);
}

/* Last: its item goes, and a topic of that name may be made again. */
static void judge_topic_ends(struct ddb_writing *w, struct ddb_step *step)
{
	const struct backend_op *op = step->op;
	struct ddb_entry *left, *e;
	struct ddb_key key;
	json_t *item;

	ddb_key_left(&key, step->arg);
	left = ddb_ledger_get(&w->ledger, &key);
	ddb_key_topic(&key, op->tenant, op->op->name);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || left == NULL)
		return;
	if (e->item != NULL && strcmp(ddb_text(e->item, "inc"), step->arg) == 0)
		ddb_remove(w, e);
	if (left->item == NULL)
		return;
	item = json_copy(left->item);
	ddb_put_n(item, "ended", 1);
	ddb_write(w, left, item);
}

static void judge_sweep_segment(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	struct ddb_entry *e = entry_of(w, DDB_SEG, a->item);
	struct shmeta_str pk, part[3];
	uint64_t partition = 0;

	if (e == NULL || e->item == NULL || !ddb_get_s(a->item, "pk", &pk) || ddb_split(pk, part, 3) != 3 ||
	    !ddb_u64(part[2], &partition))
		return;
	(void)ddb_segment_remove(w, a->tenant, a->op->op->name, (uint32_t)partition, e);
}

/* Go on with the deletion of a topic, from what was noted of it. most: segments. */
static enum shmeta_status finish_topic(struct ddb_writing *w, const json_t *note, size_t most,
                                       struct backend_error *err)
{
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC};
	struct backend_op whose = {.op = &op};
	struct shmeta_result r = {.status = SHMETA_OK};
	uint32_t count = (uint32_t)ddb_number(note, "n"), from = (uint32_t)ddb_number(note, "from");
	const char *inc = ddb_text(note, "sk");
	struct ddb_query q[SWEEP_AT_ONCE];
	struct ddb_key *key = calloc(SWEEP_AT_ONCE, sizeof *key);
	enum shmeta_status status = key != NULL ? SHMETA_OK : SHMETA_ERR_NO_MEMORY;

	(void)ddb_get_s(note, "t", &whose.tenant);
	(void)ddb_get_s(note, "name", &op.name);
	for (uint32_t p = 0; status == SHMETA_OK && !ddb_has(note, "ended") && p < count;) {
		size_t n = 0;

		for (; n < SWEEP_AT_ONCE && p < count; n++, p += DDB_PARTITIONS_PER_SHARD) {
			ddb_key_header(&key[n], whose.tenant, op.name, p);
			q[n] = (struct ddb_query){.table = DDB_META, .pk = key[n].pk};
		}
		status = ddb_queries(w->s, q, n, "reading the partitions of a topic", err);
		for (size_t i = 0; status == SHMETA_OK && i < n; i++) {
			json_t *mine = json_array(), *item;
			size_t k;

			json_array_foreach(q[i].items, k, item) if (strcmp(ddb_text(item, "inc"), inc) == 0 &&
			                                            !ddb_has(item, "dead"))(void)
				json_array_append(mine, item);
			prime_all(w, DDB_META, mine);
			status = each(w, &whose, whose.tenant, mine, judge_header_dies, &r, NULL, err);
			json_decref(mine);
		}
		ddb_queries_free(q, n);
	}
	if (status == SHMETA_OK && r.status == SHMETA_OK && !ddb_has(note, "ended"))
		status = once(w, &whose, judge_topic_ends, (void *)inc, &r, err);
	if (status == SHMETA_OK && r.status != SHMETA_OK)
		status = backend_fail(err, r.status, "%s", r.text);
	/* From here on nobody sees anything of it. */
	while (status == SHMETA_OK && from < count && most > 0) {
		size_t n = 0, swept = 0;
		bool good;

		for (; n < SWEEP_AT_ONCE && from + n < count; n++) {
			ddb_key_segment(&key[n], whose.tenant, inc, from + (uint32_t)n, 0);
			q[n] = (struct ddb_query){.table = DDB_SEG, .pk = key[n].pk};
		}
		good = ddb_queries(w->s, q, n, "sweeping", err) == SHMETA_OK;
		for (size_t i = 0; good && i < n; i++) {
			swept += json_array_size(q[i].items);
			prime_all(w, DDB_SEG, q[i].items);
			good = each(w, &whose, whose.tenant, q[i].items, judge_sweep_segment, &r, NULL, err) ==
			               SHMETA_OK &&
			       r.status == SHMETA_OK;
		}
		ddb_queries_free(q, n);
		if (!good)
			break; /* the sweep goes on with it later */
		from += (uint32_t)n;
		most -= swept < most ? swept : most;
	}
	if (status == SHMETA_OK && from >= count) {
		struct ddb_call call = {.target = "DeleteItem"};
		struct ddb_key z;

		ddb_key_left(&z, inc);
		call.body = json_pack("{s:s, s:o, s:s}", "TableName", w->s->link.uri.table[DDB_META], "Key",
		                      ddb_item_of(&z), "ReturnConsumedCapacity", "TOTAL");
		ddb_link_run(&w->s->link, &call, 1, w->s->deadline_ns);
		json_decref(call.body);
		ddb_call_free(&call);
	}
	free(key);
	return status;
}

static enum shmeta_status delete_topic(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                       struct backend_error *err)
{
	struct ddb_ledger ledger = {.count = 0};
	struct ddb_key key;
	const json_t *topic, *note = NULL;
	char inc[DDB_RANDOM_BYTES] = "";
	enum shmeta_status status;

	ddb_key_topic(&key, op->tenant, op->op->name);
	status = ddb_ledger_look(w->s, &ledger, &key, &topic, err);
	if (status == SHMETA_OK && topic != NULL)
		(void)snprintf(inc, sizeof inc, "%s", ddb_text(topic, "inc"));
	ddb_ledger_free(&ledger);
	if (status == SHMETA_OK)
		status = once(w, op, judge_topic_goes, NULL, r, err);
	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	ddb_key_left(&key, inc);
	status = ddb_ledger_look(w->s, &ledger, &key, &note, err);
	if (status == SHMETA_OK && note != NULL)
		status = finish_topic(w, note, SWEEP_MOST, err);
	ddb_ledger_free(&ledger);
	/* It is gone, and finished by whoever meets it; only its name is not free yet. */
	return SHMETA_OK;
}

enum shmeta_status ddb_do_apart(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                struct backend_error *err)
{
	memset(r, 0, sizeof *r);
	r->partition_id = op->op->partition_id;
	switch (op->op->type) {
	case SHMETA_OP_DELETE_TOPIC:
		return delete_topic(w, op, r, err);
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		return delete_before(w, op, r, err);
	case SHMETA_OP_REPLACE_SEGMENTS:
		return ddb_replace_segments(w, op, r, err);
	case SHMETA_OP_DELETE_GROUP:
		return delete_group(w, op, r, err);
	case SHMETA_OP_RENEW_AGENT:
		return renew_agent(w, op, r, err);
	default:
		return deregister_agent(w, op, r, err);
	}
}

void ddb_sweep(struct ddb_writing *w, bool now)
{
	struct ddb_query q = {.table = DDB_META, .pk = "Z"};
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status;

	if (!now && w->s->swept_ns != 0 && ddb_now_ns() - w->s->swept_ns < SWEEP_S * UINT64_C(1000000000))
		return;
	w->s->swept_ns = ddb_now_ns();
	status = ddb_queries(w->s, &q, 1, "looking for what is to be swept", &err);
	for (size_t i = 0; status == SHMETA_OK && i < json_array_size(q.items); i++) {
		const json_t *note = json_array_get(q.items, i);

		/* A name that somebody waits for comes first, its segments later. */
		if (!now || !ddb_has(note, "ended"))
			status = finish_topic(w, note, now ? 0 : SWEEP_MOST, &err);
	}
	ddb_queries_free(&q, 1);
}
