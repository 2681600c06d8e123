/* SPDX-License-Identifier: Apache-2.0
 * Operations of as many steps as there are items (ddb_ops.h). Each begins with what makes its
 * outcome true for readers, or ends with it, and may be repeated: what a daemon that died left of
 * one is finished by whoever meets it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_apart.h"
#include "backends/dynamodb/ddb_epochs.h"
#include "backends/dynamodb/ddb_lease_ops.h"
#include "backends/dynamodb/ddb_replace.h"
#include "backends/dynamodb/ddb_segment.h"
#include "backends/op_errors.h"
#include "base/str.h"

bool ddb_is_apart(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_DELETE_TOPIC || op->type == SHMETA_OP_DELETE_SEGMENTS_BEFORE ||
	       op->type == SHMETA_OP_DELETE_GROUP || op->type == SHMETA_OP_DEREGISTER_AGENT ||
	       op->type == SHMETA_OP_RENEW_AGENT || op->type == SHMETA_OP_REPLACE_SEGMENTS;
}

/* ---- segments ---- */

static void judge_delete_segment(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	const struct shmeta_op *op = a->op->op;
	struct ddb_entry *header, *e = ddb_apart_entry(w, DDB_SEG, a->item);
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

/* How many segments are read to be deleted: first what one transaction can, so that there soon is
 * something done, then many. */
enum { OLD_FIRST = DDB_UNIT_ITEMS - 1, OLD_MORE = 500 };

/* The next ones from *from on. *ret_more: there may be more behind them, from *from on. */
static enum shmeta_status delete_some(struct ddb_writing *w, const struct backend_op *op, const char *inc,
                                      uint64_t *from, uint64_t *count, bool *ret_more, struct shmeta_result *r,
                                      struct backend_error *err)
{
	const struct shmeta_op *o = op->op;
	uint32_t most = *from == 0 ? OLD_FIRST : OLD_MORE;
	struct ddb_key first, last;
	struct ddb_query q;
	json_t *old = json_array(), *item;
	enum shmeta_status status;
	size_t i;

	ddb_key_segment(&first, op->tenant, inc, o->partition_id, *from);
	ddb_key_segment(&last, op->tenant, inc, o->partition_id, o->offset - 1);
	q = (struct ddb_query){.table = DDB_SEG, .pk = first.pk, .from = first.sk, .to = last.sk, .oldest = most};
	status = ddb_queries(w->s, &q, 1, "reading segments", err);
	json_array_foreach(q.items, i, item)
	{
		struct shmeta_segment s;

		ddb_segment_of(item, &s);
		*from = s.base_offset + 1;
		if ((uint64_t)ddb_number(item, "e") < o->offset)
			(void)json_array_append(old, item);
	}
	*ret_more = json_array_size(q.items) >= most && *from < o->offset;
	if (status == SHMETA_OK) {
		ddb_apart_prime(w, DDB_SEG, old);
		status = ddb_apart_each(w, op, op->tenant, old, judge_delete_segment, r, count, err);
	}
	ddb_queries_free(&q, 1);
	json_decref(old);
	return status;
}

/* Once some are gone there is half of the time for the others. What is left then is another
 * call's. */
static enum shmeta_status delete_old(struct ddb_writing *w, const struct backend_op *op, const char *inc,
                                     uint64_t *count, struct shmeta_result *r, struct backend_error *err)
{
	const uint64_t deadline_ns = w->s->deadline_ns, half_ns = ddb_apart_half_time(w->s);
	enum shmeta_status status = SHMETA_OK;
	uint64_t from = 0;
	bool more = true;

	while (status == SHMETA_OK && r->status == SHMETA_OK && more) {
		if (*count > 0 && ddb_now_ns() >= half_ns)
			break;
		if (*count > 0)
			w->s->deadline_ns = half_ns;
		status = delete_some(w, op, inc, &from, count, &more, r, err);
	}
	/* Time is up, or others were in the way again and again: neither is the source's
	 * failure. */
	if (*count > 0 && ((status == SHMETA_OK && r->status == SHMETA_OK && more) || r->status == SHMETA_ERR_BUSY ||
	                   status == SHMETA_ERR_BUSY ||
	                   (status == SHMETA_ERR_SOURCE && r->status != SHMETA_ERR_OUTCOME_UNKNOWN &&
	                    ddb_now_ns() >= w->s->deadline_ns))) {
		refuse(r, SHMETA_ERR_BUSY,
		       "%" PRIu64 " segments are deleted, and for the others there was no time: repeat the call",
		       *count);
		status = SHMETA_OK;
	}
	w->s->deadline_ns = deadline_ns;
	return status;
}

static enum shmeta_status delete_before(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                        struct backend_error *err)
{
	struct ddb_ledger ledger = {.count = 0};
	struct ddb_key key;
	const json_t *header;
	uint64_t count = 0;
	enum shmeta_status status;

	ddb_key_header(&key, op->tenant, op->op->name, op->op->partition_id);
	status = ddb_ledger_look(w->s, &ledger, &key, &header, err);
	if (status == SHMETA_OK && header != NULL && !ddb_has(header, "dead") && op->op->offset > 0)
		status = delete_old(w, op, ddb_text(header, "inc"), &count, r, err);
	r->count = r->status == SHMETA_OK ? count : 0;
	if (status == SHMETA_OK && count > 0 && ddb_has(header, "lo"))
		ddb_drop_ended_epochs(w, op);
	ddb_ledger_free(&ledger);
	return status;
}

/* ---- groups and agents ---- */

static void judge_remove_item(struct ddb_writing *w, struct ddb_step *step)
{
	struct apart *a = step->arg;
	struct ddb_entry *e = ddb_apart_entry(w, DDB_META, a->item);

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
	enum shmeta_status status = ddb_apart_once(w, op, judge_remove_group, NULL, r, err);

	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	/* Its offsets name the group that is gone: nobody shows them. What is left of them now
	 * costs room, no more. */
	for (unsigned int i = 0; i < DDB_OFFSET_SHARDS; i++) {
		ddb_pk_offsets(&key[i], op->tenant, op->op->group_id, i);
		q[i] = (struct ddb_query){.table = DDB_META, .pk = key[i].pk};
	}
	if (ddb_queries(w->s, q, DDB_OFFSET_SHARDS, "reading committed offsets", err) == SHMETA_OK)
		for (unsigned int i = 0; i < DDB_OFFSET_SHARDS; i++) {
			ddb_apart_prime(w, DDB_META, q[i].items);
			(void)ddb_apart_each(w, op, op->tenant, q[i].items, judge_remove_item, &ignored, NULL, err);
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
	struct ddb_entry *note = ddb_apart_entry(w, DDB_META, a->item), *header;
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
	enum shmeta_status status = ddb_apart_once(w, op, judge_remove_agent, NULL, r, err);

	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	/* The agent is gone: it takes no more leases. */
	ddb_key_held(&key, op->tenant, op->op->agent_id, rows_str("-"), 0);
	q.pk = key.pk;
	status = ddb_queries(w->s, &q, 1, "reading an agent's leases", err);
	if (status == SHMETA_OK) {
		ddb_apart_prime(w, DDB_META, q.items);
		status = ddb_apart_each(w, op, op->tenant, q.items, judge_drop_held, r, NULL, err);
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

/* Each lease by itself: where the source fails on the way, some are renewed and others are not, and
 * a repetition does the rest. */
static enum shmeta_status renew_agent(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                      struct backend_error *err)
{
	struct ddb_query q = {.table = DDB_META};
	struct ddb_key key;
	enum shmeta_status status = ddb_apart_once(w, op, judge_beat, NULL, r, err);

	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	ddb_key_held(&key, op->tenant, op->op->agent_id, rows_str("-"), 0);
	q.pk = key.pk;
	status = ddb_queries(w->s, &q, 1, "reading an agent's leases", err);
	if (status == SHMETA_OK)
		status = ddb_apart_each(w, op, op->tenant, q.items, judge_renew_held, r, &r->count, err);
	ddb_queries_free(&q, 1);
	if (r->status != SHMETA_OK)
		r->count = 0;
	return status;
}

enum shmeta_status ddb_do_apart(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                struct backend_error *err)
{
	memset(r, 0, sizeof *r);
	r->partition_id = op->op->partition_id;
	switch (op->op->type) {
	case SHMETA_OP_DELETE_TOPIC:
		return ddb_delete_topic(w, op, r, err);
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
