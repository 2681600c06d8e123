/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: leases, their epochs, and their transfers. */
#include <stdio.h>

#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

struct lease {
	bool there;
	char leader[SHMETA_NAME_MAX * 4 + 1];
	size_t leader_bytes;
	int64_t expires_ms, acquired_ms, epoch;
};

static void get_lease(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                      struct lease *ret)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_LEASE_GET);

	memset(ret, 0, sizeof *ret);
	if (q == NULL)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	bind_int(q, 3, partition);
	if (sqlite_write_look(w, q)) {
		struct shmeta_str leader = column_str(q, 0);

		ret->there = true;
		ret->leader_bytes = leader.bytes < sizeof ret->leader ? leader.bytes : sizeof ret->leader - 1;
		memcpy(ret->leader, leader.data, ret->leader_bytes);
		ret->expires_ms = sqlite3_column_int64(q, 1);
		ret->acquired_ms = sqlite3_column_int64(q, 2);
		ret->epoch = sqlite3_column_int64(q, 3);
	}
	(void)sqlite3_reset(q);
}

static bool held_by(const struct lease *lease, struct shmeta_str agent, int64_t now_ms)
{
	return lease->there && lease->expires_ms > now_ms &&
	       str_equal((struct shmeta_str){lease->leader, lease->leader_bytes}, agent);
}

/* C7: a fence must be the current holder's, with the current epoch. At a place that is not there
 * the place is what is wrong. */
bool sqlite_write_passes_fence(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_fence *fence = &op->op->fence;
	struct lease lease;

	if (fence->agent_id.bytes == 0)
		return true;
	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (w->failed != SQLITE_OK)
		return false;
	if (held_by(&lease, fence->agent_id, w->now_ms) && (uint64_t)lease.epoch == fence->epoch)
		return true;
	if (sqlite_write_has_partition(w, op, r))
		refuse_fence(op->op, r);
	return false;
}

static int64_t highest_epoch(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_EPOCH_GET);
	int64_t epoch = 0;

	if (q == NULL)
		return 0;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	bind_int(q, 3, partition);
	if (sqlite_write_look(w, q))
		epoch = sqlite3_column_int64(q, 0);
	(void)sqlite3_reset(q);
	return epoch;
}

static int64_t later(int64_t now_ms, int64_t duration_ms)
{
	return duration_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + duration_ms;
}

/* The lease goes to the agent with an epoch beyond every former one. */
static void give_lease(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                       struct shmeta_str agent, int64_t duration_ms, const struct lease *former,
                       struct shmeta_result *r)
{
	sqlite3_stmt *put = sqlite_write_take(w, ST_W_LEASE_PUT), *note = sqlite_write_take(w, ST_W_EPOCH_PUT);
	int64_t highest = highest_epoch(w, tenant, topic, partition), epoch;
	struct lease stored;

	if (put == NULL || note == NULL || w->failed != SQLITE_OK)
		return;
	epoch = former->there && former->epoch > highest ? former->epoch : highest;
	if (epoch == INT64_MAX) {
		refuse_epoch_spent(epoch, r);
		return;
	}
	epoch++;
	stored = (struct lease){.acquired_ms = w->now_ms, .expires_ms = later(w->now_ms, duration_ms), .epoch = epoch};
	bind_str(put, 1, tenant);
	bind_str(put, 2, topic);
	bind_int(put, 3, partition);
	bind_str(put, 4, agent);
	bind_int(put, 5, stored.expires_ms);
	bind_int(put, 6, w->now_ms);
	bind_int(put, 7, epoch);
	if (!sqlite_write_run_change(w, put))
		return;
	if (w->state->shape.triggers) { /* they may have had their own idea of it */
		get_lease(w, tenant, topic, partition, &stored);
		if (w->failed != SQLITE_OK)
			return;
		if (!held_by(&stored, agent, w->now_ms) || stored.epoch < epoch) {
			sqlite_write_unchanged(w);
			return;
		}
	}
	epoch = stored.epoch;
	bind_str(note, 1, tenant);
	bind_str(note, 2, topic);
	bind_int(note, 3, partition);
	bind_int(note, 4, epoch);
	if (w->state->shape.own && !sqlite_write_run_change(w, note))
		return;
	r->lease.partition_id = partition;
	r->lease.epoch = (uint64_t)epoch;
	r->lease.acquired_at_ms = stored.acquired_ms;
	r->lease.lease_expires_at_ms = stored.expires_ms;
}

static bool has_agent(struct writing *w, struct shmeta_str tenant, struct shmeta_str agent, struct shmeta_result *r)
{
	if (sqlite_write_exists(w, ST_W_AGENT_EXISTS, tenant, agent, -1))
		return true;
	if (w->failed == SQLITE_OK)
		refuse_agent(agent, r);
	return false;
}

void sqlite_write_acquire_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct lease lease;

	if (!sqlite_write_has_partition(w, op, r) || !has_agent(w, op->tenant, op->op->agent_id, r))
		return;
	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (w->failed != SQLITE_OK)
		return;
	if (lease.there && lease.expires_ms > w->now_ms && !held_by(&lease, op->op->agent_id, w->now_ms)) {
		refuse_leased(op->op, lease.expires_ms - w->now_ms, r);
		return;
	}
	give_lease(w, op->tenant, op->op->name, op->op->partition_id, op->op->agent_id, op->op->duration_ms, &lease, r);
}

void sqlite_write_renew_agent(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *beat = sqlite_write_take(w, ST_W_AGENT_BEAT), *renew = sqlite_write_take(w, ST_W_LEASES_RENEW);
	const int64_t until_ms = later(w->now_ms, op->op->duration_ms);
	int rc;

	if (beat == NULL || renew == NULL)
		return;
	if (!sqlite_write_exists(w, ST_W_AGENT_LEFT, op->tenant, op->op->agent_id, -1)) {
		if (w->failed == SQLITE_OK)
			refuse_agent(op->op->agent_id, r);
		return;
	}
	bind_str(beat, 1, op->tenant);
	bind_str(beat, 2, op->op->agent_id);
	bind_int(beat, 3, op->op->u.agent.last_heartbeat_ms);
	if (!sqlite_write_run_change(w, beat))
		return;
	bind_str(renew, 1, op->tenant);
	bind_str(renew, 2, op->op->agent_id);
	bind_int(renew, 3, w->now_ms);
	bind_int(renew, 4, until_ms);
	w->state->counters.queries++;
	while ((rc = sqlite3_step(renew)) == SQLITE_ROW) {
		renewed_add(&w->renewed, op->tenant, column_str(renew, 0), (uint32_t)sqlite3_column_int64(renew, 1));
		r->count++;
	}
	if (rc != SQLITE_DONE)
		sqlite_write_fail(w, rc);
	(void)sqlite3_reset(renew);
	/* A trigger of the application's may have kept one as it was. */
	if (w->state->shape.triggers && w->failed == SQLITE_OK && r->status == SHMETA_OK) {
		sqlite3_stmt *look = sqlite_write_take(w, ST_W_LEASES_SHORT);

		if (look == NULL)
			return;
		bind_str(look, 1, op->tenant);
		bind_str(look, 2, op->op->agent_id);
		bind_int(look, 3, w->now_ms);
		bind_int(look, 4, until_ms);
		if (sqlite_write_look(w, look))
			sqlite_write_unchanged(w);
		(void)sqlite3_reset(look);
	}
}

void sqlite_write_release_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_LEASE_DELETE);
	struct lease lease;

	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (q == NULL || w->failed != SQLITE_OK)
		return;
	if (!lease.there || !str_equal((struct shmeta_str){lease.leader, lease.leader_bytes}, op->op->agent_id)) {
		refuse_release(op->op, r);
		return;
	}
	sqlite_write_keep_epochs(w, ST_W_EPOCHS_PLACE, op->tenant, op->op->name, op->op->partition_id);
	if (w->failed != SQLITE_OK || r->status != SHMETA_OK)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	(void)sqlite_write_run_change(w, q);
}

void sqlite_write_offer_lease(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *pending = sqlite_write_take(w, ST_W_OFFER_PENDING), *put = sqlite_write_take(w, ST_W_OFFER_PUT);
	struct lease lease;
	bool open;

	if (pending == NULL || put == NULL || !sqlite_write_has_own(w, r) || !sqlite_write_has_partition(w, op, r) ||
	    !has_agent(w, op->tenant, op->op->to_agent_id, r))
		return;
	get_lease(w, op->tenant, op->op->name, op->op->partition_id, &lease);
	if (w->failed != SQLITE_OK)
		return;
	if (!held_by(&lease, op->op->agent_id, w->now_ms)) {
		refuse_offer(op->op, false, r);
		return;
	}
	bind_str(pending, 1, op->tenant);
	bind_str(pending, 2, op->op->name);
	bind_int(pending, 3, op->op->partition_id);
	bind_int(pending, 4, w->now_ms);
	open = sqlite_write_look(w, pending);
	(void)sqlite3_reset(pending);
	if (open) {
		refuse_offer(op->op, true, r);
		return;
	}
	bind_str(put, 1, op->tenant);
	bind_str(put, 2, op->op->name);
	bind_int(put, 3, op->op->partition_id);
	bind_str(put, 4, op->op->agent_id);
	bind_str(put, 5, op->op->to_agent_id);
	bind_int(put, 6, w->now_ms);
	bind_int(put, 7, later(w->now_ms, op->op->duration_ms));
	if (sqlite_write_run(w, put) == SQLITE_DONE)
		r->transfer_id = (uint64_t)sqlite3_last_insert_rowid(w->state->db);
}

/* Accept, complete, reject: each from one state to another, by one of the two parties. */
void sqlite_write_answer_offer(struct writing *w, const struct backend_op *op, const char *from, const char *to,
                               bool by_holder, struct shmeta_result *r)
{
	sqlite3_stmt *get = sqlite_write_take(w, ST_W_OFFER_GET), *put = sqlite_write_take(w, ST_W_OFFER_STATE);
	struct lease lease = {.there = false};
	char *topic = NULL, *holder = NULL, *other = NULL, state[16] = "";
	struct transfer_state transfer = {.found = false};
	int64_t partition = 0;
	bool copied;

	if (get == NULL || put == NULL || !sqlite_write_has_own(w, r))
		return;
	bind_str(get, 1, op->tenant);
	bind_int(get, 2, (int64_t)op->op->transfer_id);
	transfer.found = sqlite_write_look(w, get);
	if (transfer.found) {
		topic = sqlite3_mprintf("%s", sqlite3_column_text(get, 0));
		partition = sqlite3_column_int64(get, 1);
		holder = sqlite3_mprintf("%s", sqlite3_column_text(get, 2));
		other = sqlite3_mprintf("%s", sqlite3_column_text(get, 3));
		(void)snprintf(state, sizeof state, "%s", sqlite3_column_text(get, 4));
		transfer.in_time = sqlite3_column_int64(get, 5) > w->now_ms;
	}
	(void)sqlite3_reset(get);
	copied = topic != NULL && holder != NULL && other != NULL;
	if (transfer.found && !copied)
		w->failed = SQLITE_NOMEM;
	if (copied) {
		transfer.addressed = str_equal(rows_str(by_holder ? holder : other), op->op->agent_id);
		transfer.expected = strcmp(state, from) == 0;
		transfer.state = rows_str(state);
		if (by_holder)
			get_lease(w, op->tenant, rows_str(topic), (uint32_t)partition, &lease);
		transfer.held = by_holder && held_by(&lease, op->op->agent_id, w->now_ms);
	}
	if (w->failed == SQLITE_OK && !refuse_transfer(op->op, &transfer, r) && copied) {
		if (by_holder && has_agent(w, op->tenant, rows_str(other), r))
			give_lease(w, op->tenant, rows_str(topic), (uint32_t)partition, rows_str(other),
			           op->op->duration_ms, &lease, r);
		if (w->failed == SQLITE_OK && r->status == SHMETA_OK) {
			bind_int(put, 2, (int64_t)op->op->transfer_id);
			bind_str(put, 3, rows_str(to));
			(void)sqlite_write_run(w, put);
		}
	}
	sqlite3_free(topic);
	sqlite3_free(holder);
	sqlite3_free(other);
}
