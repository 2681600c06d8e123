/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: a batch of operations, one transaction.
 *
 *   order      operations that do not care about each other share a statement; those that do come
 *              one level after the other
 *   lock       the partitions they touch, in one order on every host, so that no two batches wait
 *              for each other
 *   send       all statements in one go, one round trip; each decides item by item
 *              (pg_write_kinds.c)
 *   commit     once every item has its result; the transaction's id is known by then
 *   resolve    a COMMIT without an answer: by that id, on a new connection
 *
 * A statement that fails takes its transaction with it. Plain adds fail where something is in their
 * way: then the batch is done again with careful ones. Whatever else fails for what one operation
 * is, or for a lock that one operation meets, is done again with each statement behind a savepoint
 * (pg_write_apart.c). Both are rare, and cost nothing until then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/op_errors.h"
#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_epochs.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_locked.h"
#include "backends/postgres/pg_replica.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_write.h"
#include "backends/postgres/pg_writing.h"

enum { IN_FLIGHT_MOST = PG_PENDING_MAX / 2 - 4 };

/* ---- collect ---- */

/* Adds are plain as long as nothing has been in their way for a while: where it happens all the
 * time, a seventeenth of the batches is done in vain at first, later one of thousands. */
enum { CAREFUL_LEAST = 16, CAREFUL_MOST = 4096 };

/* Without triggers the statement has more to do; without the index two segments could share a
 * place; and a trigger of the application's could write another row than it was told, which only
 * the careful statement notices. */
static bool can_be_plain(const struct pg_state *state)
{
	return state->shape.segment_place && state->dialect->triggers && !state->coverage.meddled;
}

static bool may_be_plain(struct pg_state *state)
{
	if (!can_be_plain(state))
		return false;
	if (state->careful_batches == 0)
		return true;
	state->careful_batches--;
	return false;
}

/* false: they were careful already. */
static bool be_careful(struct writing *w)
{
	struct pg_state *state = w->state;
	bool any = false;

	for (size_t i = 0; i < w->item_count; i++) {
		enum write_kind kind = (enum write_kind)w->items[i].kind;

		any = any || pg_write_careful(kind) != kind;
		w->items[i].kind = (uint8_t)pg_write_careful(kind);
	}
	if (any) {
		if (state->careful_next < CAREFUL_LEAST)
			state->careful_next = CAREFUL_LEAST;
		state->careful_batches = state->careful_next;
		if (state->careful_next < CAREFUL_MOST)
			state->careful_next *= 2;
	}
	return any;
}

/* What can be judged without the source; the others become items. */
static bool collect(struct writing *w)
{
	const struct shmeta_op *object = NULL;
	const bool plain = may_be_plain(w->state);

	w->items = calloc(w->count > 0 ? w->count : 1, sizeof *w->items);
	if (w->items == NULL)
		return false;
	for (size_t i = 0; i < w->count; i++) {
		const struct shmeta_op *op = w->ops[i].op;
		struct shmeta_result *r = &w->results[i];

		memset(r, 0, sizeof *r);
		r->partition_id = op->partition_id;
		if (op->type != SHMETA_OP_ADD_SLICE)
			object = op->type == SHMETA_OP_COMMIT_OBJECT ? op : NULL;
		if (!pg_tenant_possible(w->state, w->ops[i].tenant))
			refuse_tenant(&w->ops[i], r);
		else if (!w->state->shape.own &&
		         (pg_write_needs_own(pg_write_kind_of(op->type)) ||
		          (op->type == SHMETA_OP_REPLACE_SEGMENTS &&
		           (op->u.replace.compaction_epoch > 0 || !w->state->dialect->triggers))))
			refuse_unsupported(r);
		else if (op->type == SHMETA_OP_ADD_SLICE &&
		         refuse_slice(object != NULL ? &object->u.object.size_bytes : NULL, &op->u.segment, r))
			continue;
		else {
			enum write_kind kind = pg_write_kind_of(op->type);
			struct write_item *item = &w->items[w->item_count++];

			*item = (struct write_item){
				.op = &w->ops[i],
				.result = r,
				.object = op->type == SHMETA_OP_ADD_SLICE ? object : NULL,
				.index = (uint32_t)i,
				.kind = (uint8_t)(plain ? pg_write_plain(kind, pg_epoch_is_known(w->state, &w->ops[i]))
			                                : kind)};
			item->suspect = pg_write_is_suspect(w->state, item);
			w->apart |= item->suspect;
		}
	}
	w->apart |= pg_locked_lately(w->state);
	return true;
}

/* ---- the transaction ---- */

/* From *sent on, as many statements as may be in flight. */
static enum shmeta_status send_some(struct writing *w, struct write_item *items, size_t count, size_t *sent,
                                    struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	for (int n = 0; status == SHMETA_OK && *sent < count && n < IN_FLIGHT_MOST; n++) {
		size_t some = pg_write_statement_of(&items[*sent], count - *sent);

		status = pg_write_send(w, &items[*sent], some, err);
		*sent += some;
	}
	return status == SHMETA_OK ? pg_sync(w->state, w->conn, err) : status;
}

/* All of them, as many statements at a time as may be in flight; behind what was sent before with
 * its taker. */
static enum shmeta_status run(struct writing *w, struct write_item *items, size_t count, bool locks,
                              struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	size_t sent = 0, taken = 0;

	if (locks && w->sent == 0)
		status = pg_write_send_preludes(w, true, err);
	while (status == SHMETA_OK && (locks || taken < count)) {
		if (w->sent > 0)
			sent = w->sent;
		else if (status == SHMETA_OK)
			status = send_some(w, items, count, &sent, err);
		w->sent = 0;
		if (status == SHMETA_OK && locks)
			status = pg_write_take_preludes(w, true, err);
		locks = false;
		while (status == SHMETA_OK && taken < sent) {
			size_t some = pg_write_statement_of(&items[taken], sent - taken);

			status = pg_write_take_statement(w, &items[taken], some, err);
			taken += some;
		}
	}
	return status;
}

static enum shmeta_status run_more(struct writing *w, struct write_item *items, size_t count, struct backend_error *err)
{
	return run(w, items, count, false, err);
}

static void begin(struct writing *w)
{
	w->incomplete = false;
	w->transaction[0] = '\0';
	for (size_t i = 0; i < w->item_count; i++) {
		struct write_item *item = &w->items[i];

		memset(item->result, 0, sizeof *item->result);
		item->result->partition_id = item->op->op->partition_id;
		item->again = item->undone = false;
		/* The database that is connected to now may be of another shape. */
		if (w->apart || !can_be_plain(w->state))
			item->kind = (uint8_t)pg_write_careful((enum write_kind)item->kind);
	}
	pg_write_gather_locks(w, w->items, w->item_count);
}

static enum shmeta_status body(void *arg, struct backend_error *err)
{
	struct writing *w = arg;
	enum shmeta_status status;

	/* It has lost the session it began in, and what was spoken of meanwhile is not what it was
	 * meant for. */
	if (w->sent == 0 && w->courses != w->state->courses)
		return backend_fail(err, SHMETA_ERR_CONFLICT, "%s: it is another source, or on another course, by now",
		                    w->state->dialect->engine);
	if (w->sent == 0)
		begin(w);
	if (w->apart)
		return pg_write_apart(w, err);
	status = run(w, w->items, w->item_count, true, err);
	return status == SHMETA_OK ? pg_write_look_again(w, w->items, w->item_count, run_more, err) : status;
}

/* ---- apply ---- */

static void writing_free(struct writing *w)
{
	for (size_t i = 0; i < PG_PARAMS_MAX; i++)
		pg_array_free(&w->arrays[i]);
	pg_array_free(&w->lock_tenants);
	pg_array_free(&w->lock_topics);
	pg_array_free(&w->lock_partitions);
	pg_array_free(&w->lock_owners);
	pg_array_free(&w->lock_buckets);
	pg_array_free(&w->lock_keys);
	pg_array_free(&w->gone_tenants);
	pg_array_free(&w->gone_topics);
	renewed_forget(&w->renewed);
	free(w->items);
	free(w);
}

/* Does any of them change topics, partitions or segments? The others' rows are never read from the
 * past. */
static bool any_of_topics(const struct backend_op *ops, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (ops[i].op->type < SHMETA_OP_ENSURE_GROUP || ops[i].op->type > SHMETA_OP_REJECT_LEASE)
			return true;
	return false;
}

/* Also fails where it can never be done, or not now. */
static enum shmeta_status writing_new(struct pg_state *state, const struct backend_op *ops, size_t count,
                                      int64_t now_ms, struct shmeta_result *results, struct writing **ret,
                                      struct backend_error *err)
{
	enum shmeta_status status;
	struct writing *w;

	status = pg_ensure_told(state, "writing to", err);
	if (status != SHMETA_OK)
		return status;
	if (state->read_only)
		return backend_fail(err, SHMETA_ERR_READ_ONLY, "%s: this process may not write to the database",
		                    state->dialect->engine);
	w = calloc(1, sizeof *w);
	if (w == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	w->state = state;
	w->conn = &state->primary;
	w->ops = ops;
	w->count = count;
	w->results = results;
	w->courses = state->courses;
	w->asked_ms = now_ms;
	w->distance_ms = pg_clock_distance(state, now_ms);
	w->now_ms = pg_clock_moved(now_ms, w->distance_ms);
	if (!collect(w) || !pg_write_order(w)) {
		writing_free(w);
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	}
	*ret = w;
	return SHMETA_OK;
}

static enum shmeta_status transact(struct writing *w, struct backend_error *err)
{
	return pg_transaction(w->state, w->conn, PG_BEGIN_WRITE, body, w, err);
}

static bool failed_for_items(const struct writing *w, enum shmeta_status status)
{
	return status != SHMETA_OK && status != SHMETA_ERR_OUTCOME_UNKNOWN && pg_write_failed_for_items(w);
}

static enum shmeta_status refuse_all(struct writing *w)
{
	for (size_t i = 0; i < w->item_count; i++)
		if (w->items[i].result->status == SHMETA_OK)
			pg_write_refused(w, &w->items[i], w->conn->sqlstate, w->conn->said);
	return SHMETA_OK;
}

/* Where a batch may be cut in two: an object and its slices are one operation. 0: nowhere. */
static size_t middle_of(const struct backend_op *ops, size_t count)
{
	size_t from = count / 2, to = from;

	while (from > 0 && ops[from].op->type == SHMETA_OP_ADD_SLICE)
		from--;
	while (to < count && ops[to].op->type == SHMETA_OP_ADD_SLICE)
		to++;
	return from > 0 ? from : to < count ? to : 0;
}

static enum shmeta_status apply_part(struct pg_state *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                     struct shmeta_result *results, const struct backend_sink *sink,
                                     struct backend_error *err);

/* Conflicts that end the whole transaction do not say whose they are: each half of the batch is
 * tried as one of its own, in order, until the operation that meets them is alone. */
static enum shmeta_status apply_halves(struct pg_state *state, const struct backend_op *ops, size_t count,
                                       int64_t now_ms, struct shmeta_result *results, const struct backend_sink *sink,
                                       struct backend_error *err)
{
	size_t middle = middle_of(ops, count);
	enum shmeta_status status = apply_part(state, ops, middle, now_ms, results, sink, err);

	if (status != SHMETA_OK)
		return backend_answer_all(ops + middle, count - middle, results + middle, status, err->text);
	return apply_part(state, ops + middle, count - middle, now_ms, results + middle, sink, err);
}

/* The transaction, or what is left of it, up to its outcome; then its changes are told. Frees w. */
static enum shmeta_status conclude(struct writing *w, const struct backend_sink *sink, struct backend_error *err)
{
	struct pg_state *state = w->state;
	enum shmeta_status status = SHMETA_OK;

	if (w->item_count > 0) {
		status = transact(w, err);
		if (status == SHMETA_OK && state->careful_next > CAREFUL_LEAST && state->careful_batches == 0)
			state->careful_next--;
		if (failed_for_items(w, status) && !w->apart && !pg_write_failed_for_now(w->conn) && be_careful(w))
			status = transact(w, err);
		/* Where a conflict ends the whole transaction, no savepoint tells whose it is. */
		if (failed_for_items(w, status) && !w->apart &&
		    (state->dialect->snapshots || !pg_failed_with(w->conn, "40"))) {
			w->apart = true;
			status = transact(w, err);
		}
		/* Not even so: it was the COMMIT that failed, or one of all conflicts. Then nothing
		 * was done. */
		if (failed_for_items(w, status) && !state->dialect->snapshots && pg_failed_with(w->conn, "40") &&
		    middle_of(w->ops, w->count) > 0) {
			const struct writing whole = *w;

			writing_free(w);
			return apply_halves(state, whole.ops, whole.count, whole.asked_ms, whole.results, sink, err);
		}
		if (failed_for_items(w, status))
			status = refuse_all(w);
		/* With a new session comes a new origin, so that the feed tells of what nobody
		 * heard of. And a writer that had to connect anew may have met another server than
		 * the one that reads. */
		if (status == SHMETA_ERR_OUTCOME_UNKNOWN ||
		    (w->conn == &state->writer && state->alike.writer != state->writer.connects))
			pg_disconnect(state, &state->primary);
		if (status == SHMETA_ERR_OUTCOME_UNKNOWN)
			status = pg_write_resolve(w, err);
		if (status == SHMETA_OK || status == SHMETA_ERR_OUTCOME_UNKNOWN)
			pg_wrote(state);
		for (size_t i = 0; status == SHMETA_OK && i < w->item_count; i++)
			if (pg_write_is_add((enum write_kind)w->items[i].kind) &&
			    w->items[i].result->status == SHMETA_OK)
				pg_epoch_know(state, w->items[i].op);
		if (any_of_topics(w->ops, w->count))
			pg_follower_passed(state);
		/* disk_full: the transaction is rolled back, the connection and what it reads are
		 * well. */
		if (status == SHMETA_ERR_SOURCE && pg_failed_with(w->conn, "53100")) {
			status = err->code = SHMETA_ERR_FULL;
		}
	}
	pg_write_refuse_with_object(w);
	if (status != SHMETA_OK)
		status = backend_answer_all(w->ops, w->count, w->results, status, err->text);
	else
		status = renewed_tell(&w->renewed, backend_tell_done(w->ops, w->count, w->results, sink), sink);
	writing_free(w);
	return status;
}

static enum shmeta_status apply_part(struct pg_state *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                     struct shmeta_result *results, const struct backend_sink *sink,
                                     struct backend_error *err)
{
	const bool hasty = state->hasty;
	struct writing *w;
	enum shmeta_status status = writing_new(state, ops, count, now_ms, results, &w, err);

	if (status != SHMETA_OK)
		return backend_answer_all(ops, count, results, status, err->text);
	/* The whole batch has had its patience. */
	state->hasty = true;
	status = conclude(w, sink, err);
	state->hasty = hasty;
	return status;
}

enum shmeta_status pg_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, const struct backend_sink *sink, struct backend_error *err)
{
	struct backend_error own = {.code = SHMETA_OK};
	struct writing *w;
	enum shmeta_status status;

	if (err == NULL)
		err = &own;
	status = writing_new(data, ops, count, now_ms, results, &w, err);
	return status == SHMETA_OK ? conclude(w, sink, err)
	                           : backend_answer_all(ops, count, results, status, err->text);
}

/* ---- in two halves ---- */

enum shmeta_status pg_start(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, struct backend_error *err)
{
	struct pg_state *state = data;
	enum shmeta_status status;
	struct writing *w;

	/* Without a server's own time and ids there is no telling two servers apart. */
	if (!state->dialect->snapshots)
		return backend_fail(err, SHMETA_ERR_UNSUPPORTED, "%s: batches do not overlap", state->dialect->engine);
	status = writing_new(state, ops, count, now_ms, results, &w, err);
	if (status != SHMETA_OK)
		return status;
	w->conn = &state->writer;
	/* What is kept out by locks is done by one who waits for nothing, answers and all. */
	if (w->apart) {
		writing_free(w);
		return backend_fail(err, SHMETA_ERR_UNSUPPORTED, "%s: another session's locks are in the way",
		                    state->dialect->engine);
	}
	if (w->item_count > 0) {
		status = pg_begin(state, w->conn, PG_BEGIN_WRITE, err);
		if (status == SHMETA_OK) {
			begin(w);
			status = pg_write_send_preludes(w, true, err);
		}
		if (status == SHMETA_OK)
			status = send_some(w, w->items, w->item_count, &w->sent, err);
		if (status == SHMETA_OK)
			status = pg_flush(state, w->conn, err);
	}
	if (status != SHMETA_OK) {
		pg_disconnect(state, &state->writer);
		writing_free(w);
		return status;
	}
	state->started = w;
	return SHMETA_OK;
}

enum shmeta_status pg_finish(void *data, const struct backend_sink *sink, struct backend_error *err)
{
	struct pg_state *state = data;
	struct backend_error own = {.code = SHMETA_OK};
	struct writing *w = state->started;

	if (err == NULL)
		err = &own;
	state->doing = "writing to";
	state->careful = true;
	state->started = NULL;
	/* Without the session it began in it is done from its start. */
	if (!w->conn->begun)
		w->sent = 0;
	return conclude(w, sink, err);
}

void pg_forget_started(struct pg_state *state)
{
	if (state->started != NULL)
		writing_free(state->started);
	state->started = NULL;
}
