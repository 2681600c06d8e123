/* SPDX-License-Identifier: Apache-2.0
 * Operations of as many steps as there are items (ddb_ops.h). Each begins with what makes its
 * outcome true for readers, or ends with it, and may be repeated: what a daemon that died left of
 * one is finished by whoever meets it. */
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

/* A sweep: how many partitions are looked at at once, how many segments it takes away, how long it
 * goes on, how long its calls may take, and when the next one is due: after SWEEP_IN_VAIN_S where
 * it came to nothing. */
enum { SWEEP_AT_ONCE = 64, SWEEP_MOST = 2000, SWEEP_MS = 250, SWEEP_CALL_MS = 1000, SWEEP_S = 5, SWEEP_IN_VAIN_S = 60 };
#define MS UINT64_C(1000000)

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

/* One step for each item of a query's answer. The worst of their results is *r's; *ret_count: the
 * sum of their counts. */
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

/* Half of the time that a call still has: what stands behind a deletion in it needs some, too. */
static uint64_t half_time(const struct ddb_state *s)
{
	uint64_t now_ns = ddb_now_ns();

	return s->deadline_ns > now_ns ? now_ns + (s->deadline_ns - now_ns) / 2 : now_ns;
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
		prime_all(w, DDB_SEG, old);
		status = each(w, op, op->tenant, old, judge_delete_segment, r, count, err);
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
	const uint64_t deadline_ns = w->s->deadline_ns, half_ns = half_time(w->s);
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
	/* Its offsets name the group that is gone: nobody shows them. What is left of them now
	 * costs room, no more. */
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

/* Each lease by itself: where the source fails on the way, some are renewed and others are not, and
 * a repetition does the rest. */
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

/* A header of the topic: nothing is written under it any more, and its lease is nobody's. The epoch
 * stays. */
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
	a->count = ddb_segment_remove(w, a->tenant, a->op->op->name, (uint32_t)partition, e);
}

/* A topic that is being deleted, from what was noted of it. */
struct leaving {
	struct shmeta_op op;
	struct backend_op whose;
	const char *inc;
	uint32_t count, headers, from; /* partitions: all; the header is dead; no segment is left */
	bool ended, moved;             /* its item is gone; something of it was done that the note
                                        * does not say */
	struct ddb_key key[SWEEP_AT_ONCE];
};

/* So that the next sweep goes on from there, whoever makes it. */
static void judge_note(struct ddb_writing *w, struct ddb_step *step)
{
	const struct leaving *l = step->arg;
	struct ddb_entry *left;
	struct ddb_key key;
	json_t *item;

	ddb_key_left(&key, l->inc);
	left = ddb_ledger_get(&w->ledger, &key);
	if (left == NULL || left->item == NULL)
		return;
	item = json_copy(left->item);
	if (ddb_number(item, "hd") < (int64_t)l->headers)
		ddb_put_n(item, "hd", l->headers);
	if (ddb_number(item, "from") < (int64_t)l->from)
		ddb_put_n(item, "from", l->from);
	ddb_write(w, left, item);
}

/* Also where the deadline has passed: there is a while behind it. */
static void note_progress(struct ddb_writing *w, struct leaving *l)
{
	struct backend_error ignored = {.code = SHMETA_OK};
	struct shmeta_result r = {.status = SHMETA_OK};
	uint64_t deadline_ns = w->s->deadline_ns;

	w->s->deadline_ns = w->s->settle_ns;
	(void)once(w, &l->whose, judge_note, l, &r, &ignored);
	w->s->deadline_ns = deadline_ns;
}

/* until_ns: no more is begun then, but the first ones are done at any time. */
static enum shmeta_status kill_headers(struct ddb_writing *w, struct leaving *l, uint64_t until_ns,
                                       struct backend_error *err)
{
	struct shmeta_result r = {.status = SHMETA_OK};
	enum shmeta_status status = SHMETA_OK;

	for (bool first = true; status == SHMETA_OK && l->headers < l->count; first = false) {
		struct ddb_query q[SWEEP_AT_ONCE];
		size_t n = 0;

		if (!first && ddb_now_ns() >= until_ns)
			break;
		for (uint64_t p = l->headers; n < SWEEP_AT_ONCE && p < l->count; n++, p += DDB_PARTITIONS_PER_SHARD) {
			ddb_key_header(&l->key[n], l->whose.tenant, l->op.name, (uint32_t)p);
			q[n] = (struct ddb_query){.table = DDB_META, .pk = l->key[n].pk};
		}
		status = ddb_queries(w->s, q, n, "reading the partitions of a topic", err);
		for (size_t i = 0; status == SHMETA_OK && i < n && (i == 0 || ddb_now_ns() < until_ns); i++) {
			json_t *mine = json_array(), *item;
			size_t k;

			json_array_foreach(q[i].items, k, item) if (strcmp(ddb_text(item, "inc"), l->inc) == 0 &&
			                                            !ddb_has(item, "dead"))(void)
				json_array_append(mine, item);
			prime_all(w, DDB_META, mine);
			status = each(w, &l->whose, l->whose.tenant, mine, judge_header_dies, &r, NULL, err);
			json_decref(mine);
			if (status == SHMETA_OK && r.status != SHMETA_OK)
				status = backend_fail(err, r.status, "%s", r.text);
			if (status == SHMETA_OK) {
				l->headers = l->count - l->headers > DDB_PARTITIONS_PER_SHARD
				                     ? l->headers + DDB_PARTITIONS_PER_SHARD
				                     : l->count;
				l->moved = true;
			}
		}
		ddb_queries_free(q, n);
	}
	return status;
}

/* Some of the segments of some partitions. *most: so many; how many are left of it. */
static enum shmeta_status sweep_some(struct ddb_writing *w, struct leaving *l, uint32_t *most,
                                     struct backend_error *err)
{
	struct shmeta_result r = {.status = SHMETA_OK};
	struct ddb_query q[SWEEP_AT_ONCE];
	uint32_t n = l->count - l->from < SWEEP_AT_ONCE ? l->count - l->from : SWEEP_AT_ONCE, each_most, empty = 0;
	enum shmeta_status status;
	uint64_t swept = 0;

	if (n > *most)
		n = *most;
	each_most = *most / n;
	for (uint32_t i = 0; i < n; i++) {
		ddb_key_segment(&l->key[i], l->whose.tenant, l->inc, l->from + i, 0);
		q[i] = (struct ddb_query){.table = DDB_SEG, .pk = l->key[i].pk, .oldest = each_most};
	}
	status = ddb_queries(w->s, q, n, "sweeping", err);
	for (uint32_t i = 0; status == SHMETA_OK && i < n; i++) {
		uint32_t found = (uint32_t)json_array_size(q[i].items);

		prime_all(w, DDB_SEG, q[i].items);
		status = each(w, &l->whose, l->whose.tenant, q[i].items, judge_sweep_segment, &r, &swept, err);
		if (status == SHMETA_OK && r.status != SHMETA_OK)
			status = backend_fail(err, r.status, "%s", r.text);
		if (status == SHMETA_OK)
			empty += empty == i && found < each_most;
	}
	ddb_queries_free(q, n);
	l->from += empty;
	l->moved |= empty > 0;
	*most -= swept < *most ? (uint32_t)swept : *most;
	return status;
}

static enum shmeta_status forget_note(struct ddb_writing *w, const struct leaving *l, struct backend_error *err)
{
	struct ddb_call call = {.target = "DeleteItem"};
	enum shmeta_status status = SHMETA_OK;
	struct ddb_key key;

	ddb_key_left(&key, l->inc);
	call.body = json_pack("{s:s, s:o, s:s}", "TableName", w->s->link.uri.table[DDB_META], "Key", ddb_item_of(&key),
	                      "ReturnConsumedCapacity", "TOTAL");
	ddb_link_run(&w->s->link, &call, 1, w->s->deadline_ns);
	if (call.outcome != DDB_DONE)
		status = ddb_call_fail(&w->s->link, &call, "sweeping", err);
	json_decref(call.body);
	ddb_call_free(&call);
	return status;
}

/* Go on with the deletion of a topic. most: segments. name_ns, until_ns: so long its name is worked
 * at, and what comes after that. OK: as far as that went. */
static enum shmeta_status finish_topic(struct ddb_writing *w, const json_t *note, uint32_t most, uint64_t name_ns,
                                       uint64_t until_ns, struct backend_error *err)
{
	struct leaving *l = calloc(1, sizeof *l);
	struct shmeta_result r = {.status = SHMETA_OK};
	enum shmeta_status status = SHMETA_OK;

	if (l == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	l->op.type = SHMETA_OP_DELETE_TOPIC;
	l->whose.op = &l->op;
	l->inc = ddb_text(note, "sk");
	l->count = (uint32_t)ddb_number(note, "n");
	l->headers = (uint32_t)ddb_number(note, "hd");
	l->from = (uint32_t)ddb_number(note, "from");
	l->ended = ddb_has(note, "ended");
	(void)ddb_get_s(note, "t", &l->whose.tenant);
	(void)ddb_get_s(note, "name", &l->op.name);
	if (!l->ended)
		status = kill_headers(w, l, name_ns, err);
	if (status == SHMETA_OK && !l->ended && l->headers >= l->count) {
		status = once(w, &l->whose, judge_topic_ends, (void *)l->inc, &r, err);
		if (status == SHMETA_OK && r.status != SHMETA_OK)
			status = backend_fail(err, r.status, "%s", r.text);
		l->ended = status == SHMETA_OK;
		w->s->sweep_moved |= l->ended;
	}
	/* From here on nobody sees anything of it. */
	while (status == SHMETA_OK && l->ended && l->from < l->count && most > 0 && ddb_now_ns() < until_ns) {
		uint32_t before = most;

		status = sweep_some(w, l, &most, err);
		w->s->sweep_moved |= most < before;
	}
	w->s->sweep_moved |= l->moved;
	if (status == SHMETA_OK && l->ended && l->from >= l->count) {
		status = forget_note(w, l, err);
	} else if (l->moved) {
		note_progress(w, l);
	}
	free(l);
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
		status = finish_topic(w, note, w->s->sweep_most, half_time(w->s), ddb_now_ns() + SWEEP_MS * MS, err);
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

void ddb_free_names(struct ddb_writing *w)
{
	struct ddb_query q = {.table = DDB_META, .pk = "Z"};
	struct backend_error err = {.code = SHMETA_OK};
	uint64_t until_ns = half_time(w->s);
	enum shmeta_status status = ddb_queries(w->s, &q, 1, "looking for what is to be swept", &err);

	for (size_t i = 0; status == SHMETA_OK && i < json_array_size(q.items) && ddb_now_ns() < until_ns; i++) {
		const json_t *note = json_array_get(q.items, i);

		if (!ddb_has(note, "ended"))
			status = finish_topic(w, note, 0, until_ns, until_ns, &err);
	}
	ddb_queries_free(&q, 1);
}

/* Each time another one of them is the first: one that cannot be finished keeps nobody else's. */
static void sweep_notes(struct ddb_writing *w, uint64_t until_ns)
{
	struct ddb_state *s = w->s;
	struct ddb_query q = {.table = DDB_META, .pk = "Z"};
	struct backend_error err = {.code = SHMETA_OK};
	enum shmeta_status status = ddb_queries(s, &q, 1, "looking for what is to be swept", &err);
	size_t count = json_array_size(q.items);

	if (status == SHMETA_OK && count == 0)
		s->sweep_due = false;
	for (size_t i = 0; status == SHMETA_OK && i < count && ddb_now_ns() < until_ns; i++)
		status = finish_topic(w, json_array_get(q.items, (s->sweep_turn + i) % count), s->sweep_most, until_ns,
		                      until_ns, &err);
	s->sweep_turn++;
	ddb_queries_free(&q, 1);
}

void ddb_sweep(struct ddb_state *s)
{
	uint64_t now_ns = ddb_now_ns();
	struct ddb_writing *w;

	if (!s->sweep_due || s->options.read_only ||
	    (s->swept_ns != 0 && now_ns - s->swept_ns < s->sweep_wait_s * 1000 * MS))
		return;
	w = calloc(1, sizeof *w);
	if (w == NULL)
		return;
	w->s = s;
	w->now_ms = ddb_log_now_ms(s);
	ddb_begin(s, DDB_FOR_WRITE);
	if (s->deadline_ns > now_ns + SWEEP_CALL_MS * MS) {
		s->deadline_ns = now_ns + SWEEP_CALL_MS * MS;
		s->settle_ns = now_ns + 2 * SWEEP_CALL_MS * MS;
	}
	s->sweep_moved = false;
	sweep_notes(w, now_ns + SWEEP_MS * MS);
	s->sweep_wait_s = s->sweep_moved ? SWEEP_S : SWEEP_IN_VAIN_S;
	ddb_log_close_gaps(s);
	ddb_writing_free(w);
	free(w);
	s->swept_ns = ddb_now_ns();
}

void ddb_sweep_begin(struct ddb_state *s)
{
	s->sweep_most = SWEEP_MOST;
	s->sweep_wait_s = SWEEP_S;
}
