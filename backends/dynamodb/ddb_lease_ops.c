/* SPDX-License-Identifier: Apache-2.0
 * Leases and offers (ddb_lease_ops.h). */
#include "backends/dynamodb/ddb_lease_ops.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_place.h"
#include "backends/op_errors.h"
#include "base/str.h"

/* Behind its end, so that whoever answers it late is told that. */
enum { OFFER_KEPT_S = 86400 };

static int64_t until(int64_t now_ms, int64_t duration_ms)
{
	return duration_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + duration_ms;
}

/* false: refused, or it has to be read. */
static bool has_agent(struct ddb_writing *w, struct shmeta_str tenant, struct shmeta_str agent, struct ddb_entry **ret,
                      struct shmeta_result *r)
{
	struct ddb_key key;

	ddb_key_agent(&key, tenant, agent);
	*ret = ddb_ledger_get(&w->ledger, &key);
	if (*ret == NULL)
		return false;
	if ((*ret)->item != NULL)
		return true;
	refuse_agent(agent, r);
	return false;
}

static void tell_lease(struct ddb_writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition)
{
	ddb_tell(w, &(struct backend_key){
			    .cls = SHMETA_CLASS_LEASE, .tenant = tenant, .topic = topic, .partition_id = partition});
}

static bool held_by(const struct ddb_writing *w, const json_t *header, struct shmeta_str agent)
{
	struct shmeta_str holder;

	return header != NULL && ddb_get_s(header, "ag", &holder) && str_equal(holder, agent) &&
	       ddb_number(header, "exp") > w->now_ms;
}

void ddb_drop_lease(struct ddb_writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                    json_t *header)
{
	struct shmeta_str holder;
	struct ddb_entry *note;
	struct ddb_key key;

	if (ddb_get_s(header, "ag", &holder)) {
		ddb_key_held(&key, tenant, holder, topic, partition);
		note = ddb_ledger_blind(&w->ledger, &key);
		if (note != NULL)
			ddb_remove(w, note);
	}
	(void)json_object_del(header, "ag");
	(void)json_object_del(header, "exp");
	(void)json_object_del(header, "acq");
}

/* header: to be changed. agent: it must be there still when the lease becomes its. */
static bool give_lease(struct ddb_writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                       struct shmeta_str agent, struct ddb_entry *agent_entry, int64_t duration_ms, json_t *header,
                       struct shmeta_result *r)
{
	int64_t epoch = ddb_number(header, "ep");
	struct shmeta_str holder;

	if (epoch == INT64_MAX) {
		refuse_epoch_spent(epoch, r);
		return false;
	}
	if (!ddb_get_s(header, "ag", &holder) || !str_equal(holder, agent)) {
		struct ddb_entry *note;
		struct ddb_key key;

		ddb_key_held(&key, tenant, agent, topic, partition);
		note = ddb_ledger_blind(&w->ledger, &key);
		if (note == NULL)
			return false;
		ddb_drop_lease(w, tenant, topic, partition, header);
		ddb_write(w, note, ddb_item_of(&key));
		ddb_put_s(header, "ag", agent);
		ddb_check(w, agent_entry, DDB_EXISTS);
	}
	ddb_put_n(header, "ep", epoch + 1);
	ddb_put_n(header, "acq", w->now_ms);
	ddb_put_n(header, "exp", until(w->now_ms, duration_ms));
	r->lease = (struct shmeta_lease){.lease_expires_at_ms = until(w->now_ms, duration_ms),
	                                 .acquired_at_ms = w->now_ms,
	                                 .epoch = (uint64_t)epoch + 1,
	                                 .partition_id = partition};
	tell_lease(w, tenant, topic, partition);
	return true;
}

bool ddb_renew_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_str topic, uint32_t partition)
{
	const int64_t until_ms = until(w->now_ms, op->op->duration_ms);
	struct ddb_entry *header;
	struct ddb_key key;
	json_t *item;

	ddb_key_header(&key, op->tenant, topic, partition);
	header = ddb_ledger_get(&w->ledger, &key);
	if (header == NULL || header->item == NULL || ddb_has(header->item, "dead") ||
	    !held_by(w, header->item, op->op->agent_id))
		return false;
	if (ddb_number(header->item, "exp") >= until_ms)
		return true;
	item = json_copy(header->item);
	ddb_put_n(item, "exp", until_ms);
	ddb_write(w, header, item);
	tell_lease(w, op->tenant, topic, partition);
	return true;
}

void ddb_acquire_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_op *o = op->op;
	struct ddb_place place;
	struct ddb_entry *agent;
	struct shmeta_str holder;

	if (!ddb_place_of(w, op, &place, r))
		return;
	if (has_agent(w, op->tenant, o->agent_id, &agent, r)) {
		int64_t left_ms = ddb_number(place.item, "exp") - w->now_ms;

		if (ddb_get_s(place.item, "ag", &holder) && left_ms > 0 && !str_equal(holder, o->agent_id))
			refuse_leased(o, left_ms, r);
		else if (give_lease(w, op->tenant, o->name, o->partition_id, o->agent_id, agent, o->duration_ms,
		                    place.item, r))
			ddb_place_write(w, &place);
	}
	json_decref(place.item);
}

void ddb_release_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_op *o = op->op;
	struct ddb_entry *e;
	struct shmeta_str holder;
	struct ddb_key key;
	json_t *item;

	ddb_key_header(&key, op->tenant, o->name, o->partition_id);
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL)
		return;
	if (e->item == NULL || ddb_has(e->item, "dead") || !ddb_get_s(e->item, "ag", &holder) ||
	    !str_equal(holder, o->agent_id)) {
		refuse_release(o, r);
		return;
	}
	item = json_copy(e->item);
	ddb_drop_lease(w, op->tenant, o->name, o->partition_id, item);
	ddb_write(w, e, item);
	tell_lease(w, op->tenant, o->name, o->partition_id);
}

void ddb_offer_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_op *o = op->op;
	struct ddb_place place;
	struct ddb_entry *to, *offer;
	char random[DDB_RANDOM_BYTES];
	struct ddb_key key;
	uint64_t id;
	json_t *item;

	if (!ddb_place_of(w, op, &place, r))
		return;
	if (!has_agent(w, op->tenant, o->to_agent_id, &to, r))
		goto out;
	if (!held_by(w, place.item, o->agent_id)) {
		refuse_offer(o, false, r);
		goto out;
	}
	if (ddb_has(place.item, "xid") && ddb_number(place.item, "xexp") > w->now_ms) {
		refuse_offer(o, true, r);
		goto out;
	}
	ddb_random(random);
	id = strtoull(random, NULL, 16) >> 11 | 1;
	ddb_key_offer(&key, op->tenant, id);
	offer = ddb_ledger_blind(&w->ledger, &key);
	if (offer == NULL)
		goto out;
	item = ddb_item_of(&key);
	ddb_put_s(item, "t", o->name);
	ddb_put_n(item, "p", o->partition_id);
	ddb_put_s(item, "from", o->agent_id);
	ddb_put_s(item, "to", o->to_agent_id);
	ddb_put_n(item, "exp", until(w->now_ms, o->duration_ms));
	ddb_put_n(item, "ttl", until(w->now_ms, o->duration_ms) / 1000 + OFFER_KEPT_S);
	ddb_put_t(item, "st", "pending");
	ddb_write(w, offer, item);
	ddb_check(w, to, DDB_EXISTS);
	ddb_put_n(place.item, "xid", (int64_t)id);
	ddb_put_n(place.item, "xexp", until(w->now_ms, o->duration_ms));
	ddb_place_write(w, &place);
	r->transfer_id = id;
out:
	json_decref(place.item);
}

void ddb_answer_offer(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_op *o = op->op;
	bool by_holder = o->type == SHMETA_OP_COMPLETE_LEASE;
	struct transfer_state state = {.found = false};
	struct shmeta_str from = {"", 0}, to = {"", 0}, topic = {"", 0};
	struct ddb_entry *offer, *header = NULL, *agent;
	struct ddb_key key;
	json_t *changed, *item = NULL;
	uint32_t partition = 0;

	ddb_key_offer(&key, op->tenant, o->transfer_id);
	offer = ddb_ledger_get(&w->ledger, &key);
	if (offer == NULL)
		return;
	state.found = offer->item != NULL;
	if (state.found) {
		(void)ddb_get_s(offer->item, "from", &from);
		(void)ddb_get_s(offer->item, "to", &to);
		(void)ddb_get_s(offer->item, "t", &topic);
		(void)ddb_get_s(offer->item, "st", &state.state);
		partition = (uint32_t)ddb_number(offer->item, "p");
		ddb_key_header(&key, op->tenant, topic, partition);
		header = ddb_ledger_get(&w->ledger, &key);
		if (header == NULL)
			return;
		state.addressed = str_equal(by_holder ? from : to, o->agent_id);
		state.expected = str_is(state.state, by_holder ? "accepted" : "pending");
		state.in_time = ddb_number(offer->item, "exp") > w->now_ms;
		state.held =
			header->item != NULL && !ddb_has(header->item, "dead") && held_by(w, header->item, o->agent_id);
	}
	if (refuse_transfer(o, &state, r))
		return;
	if (by_holder) {
		if (!has_agent(w, op->tenant, to, &agent, r))
			return;
		item = json_copy(header->item);
		if (!give_lease(w, op->tenant, topic, partition, to, agent, o->duration_ms, item, r)) {
			json_decref(item);
			return;
		}
	} else if (o->type == SHMETA_OP_REJECT_LEASE && header->item != NULL) {
		item = json_copy(header->item);
	}
	if (item != NULL) {
		if ((uint64_t)ddb_number(item, "xid") == o->transfer_id) {
			(void)json_object_del(item, "xid");
			(void)json_object_del(item, "xexp");
		}
		ddb_write(w, header, item);
	}
	changed = json_copy(offer->item);
	ddb_put_t(changed, "st", by_holder ? "completed" : o->type == SHMETA_OP_ACCEPT_LEASE ? "accepted" : "rejected");
	ddb_write(w, offer, changed);
}
