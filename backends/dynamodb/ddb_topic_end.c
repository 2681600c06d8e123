/* SPDX-License-Identifier: Apache-2.0
 * The end of a topic, and the sweep: what a deleted topic leaves is noted, and taken away by
 * whoever meets the note (ddb_ops.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_apart.h"
#include "backends/dynamodb/ddb_epochs.h"
#include "backends/dynamodb/ddb_lease_ops.h"
#include "backends/dynamodb/ddb_segment.h"
#include "backends/op_errors.h"

/* A sweep: how many partitions are looked at at once, how many segments it takes away, how long it
 * goes on, how long its calls may take, and when the next one is due: after SWEEP_IN_VAIN_S where
 * it came to nothing. */
enum { SWEEP_AT_ONCE = 64, SWEEP_MOST = 2000, SWEEP_MS = 250, SWEEP_CALL_MS = 1000, SWEEP_S = 5, SWEEP_IN_VAIN_S = 60 };
#define MS UINT64_C(1000000)

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
	struct ddb_entry *e = ddb_apart_entry(w, DDB_META, a->item);
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
	struct ddb_entry *e = ddb_apart_entry(w, DDB_SEG, a->item);
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
	(void)ddb_apart_once(w, &l->whose, judge_note, l, &r, &ignored);
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
			ddb_apart_prime(w, DDB_META, mine);
			status = ddb_apart_each(w, &l->whose, l->whose.tenant, mine, judge_header_dies, &r, NULL, err);
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

		ddb_apart_prime(w, DDB_SEG, q[i].items);
		status =
			ddb_apart_each(w, &l->whose, l->whose.tenant, q[i].items, judge_sweep_segment, &r, &swept, err);
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
		status = ddb_apart_once(w, &l->whose, judge_topic_ends, (void *)l->inc, &r, err);
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

enum shmeta_status ddb_delete_topic(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
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
		status = ddb_apart_once(w, op, judge_topic_goes, NULL, r, err);
	if (status != SHMETA_OK || r->status != SHMETA_OK)
		return status;
	ddb_key_left(&key, inc);
	status = ddb_ledger_look(w->s, &ledger, &key, &note, err);
	if (status == SHMETA_OK && note != NULL)
		status = finish_topic(w, note, w->s->sweep_most, ddb_apart_half_time(w->s),
		                      ddb_now_ns() + SWEEP_MS * MS, err);
	ddb_ledger_free(&ledger);
	/* It is gone, and finished by whoever meets it; only its name is not free yet. */
	return SHMETA_OK;
}

/* ---- the sweep ---- */

void ddb_free_names(struct ddb_writing *w)
{
	struct ddb_query q = {.table = DDB_META, .pk = "Z"};
	struct backend_error err = {.code = SHMETA_OK};
	uint64_t until_ns = ddb_apart_half_time(w->s);
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
