/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: a batch of operations, one transaction.
 *
 *   order      operations that do not care about each other share a statement; those that do come one level after the other
 *   lock       the partitions they touch, in one order on every host, so that no two batches wait for each other
 *   send       all statements in one go, one round trip; each decides item by item (pg_write_ops.c)
 *   commit     once every item has its result; the transaction's id is known by then
 *   resolve    a COMMIT without an answer: by that id, on a new connection
 *
 * A statement that fails takes its transaction with it. Plain adds fail where something is in their way: then the batch is done again
 * with careful ones. Whatever else fails for what one operation is, or for a lock that one operation meets, is done again with each
 * statement behind a savepoint (pg_write_apart.c). Both are rare, and cost nothing until then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/op_errors.h"
#include "backends/postgres/pg_write.h"

enum { IN_FLIGHT_MOST = PG_PENDING_MAX / 2 - 4, SIGHT_TRIES = 3, OUTCOME_NAP_MS = 20 };

/* ---- collect ----------------------------------------------------------------------------------------------------------------------- */

/* Adds are plain as long as nothing has been in their way for a while: where it happens all the time, a seventeenth of the batches is done
 * in vain at first, later one of thousands. */
enum { CAREFUL_LEAST = 16, CAREFUL_MOST = 4096 };

/* Without triggers the statement has more to do; without the index two segments could share a place; and a trigger of the
 * application's could write another row than it was told, which only the careful statement notices. */
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

		any = any || write_careful(kind) != kind;
		w->items[i].kind = (uint8_t)write_careful(kind);
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
		else if (write_needs_own(write_kind_of(op->type)) && !w->state->shape.own)
			refuse_unsupported(r);
		else if (op->type == SHMETA_OP_ADD_SLICE &&
		         refuse_slice(object != NULL ? &object->u.object.size_bytes : NULL, &op->u.segment, r))
			continue;
		else {
			enum write_kind kind = write_kind_of(op->type);
			struct write_item *item = &w->items[w->item_count++];

			*item = (struct write_item){.op = &w->ops[i],
			                            .result = r,
			                            .object = op->type == SHMETA_OP_ADD_SLICE ? object : NULL,
			                            .index = (uint32_t)i,
			                            .kind = (uint8_t)(plain ? write_plain(kind) : kind)};
			item->suspect = write_is_suspect(w->state, item);
			w->apart |= item->suspect;
		}
	}
	w->apart |= pg_locked_lately(w->state);
	return true;
}

/* ---- lock ------------------------------------------------------------------------------------------------------------------------- */

bool write_locks_partition(enum write_kind kind)
{
	return write_is_add(kind) || kind == KIND_WATERMARK || kind == KIND_SEGMENTS_DELETE ||
	       kind == KIND_RELEASE_LEASE || kind == KIND_ACQUIRE || kind == KIND_OFFER;
}

/* Each place once would be best, twice does no harm: neighbours are looked at. */
void write_gather_locks(struct writing *w, const struct write_item *items, size_t count)
{
	const struct backend_op *last = NULL;

	pg_array_start(&w->lock_tenants, PG_ELEMENT_TEXT);
	pg_array_start(&w->lock_topics, PG_ELEMENT_TEXT);
	pg_array_start(&w->lock_partitions, PG_ELEMENT_INT8);
	pg_array_start(&w->lock_owners, PG_ELEMENT_TEXT);
	pg_array_start(&w->lock_buckets, PG_ELEMENT_TEXT);
	pg_array_start(&w->lock_keys, PG_ELEMENT_TEXT);
	pg_array_start(&w->gone_tenants, PG_ELEMENT_TEXT);
	pg_array_start(&w->gone_topics, PG_ELEMENT_TEXT);
	for (size_t i = 0; i < count; i++) {
		const struct write_item *item = &items[i];

		if (write_locks_partition((enum write_kind)item->kind) &&
		    (last == NULL || !write_same_place(last, item->op))) {
			last = item->op;
			pg_array_text(&w->lock_tenants, last->tenant);
			pg_array_text(&w->lock_topics, last->op->name);
			pg_array_int(&w->lock_partitions, last->op->partition_id);
		}
		if (item->kind == KIND_TOPIC_DELETE) {
			pg_array_text(&w->gone_tenants, item->op->tenant);
			pg_array_text(&w->gone_topics, item->op->op->name);
		}
		if (item->kind == KIND_OBJECT || item->kind == KIND_CONFIRM) {
			pg_array_text(&w->lock_owners, item->op->tenant);
			pg_array_text(&w->lock_buckets, item->op->op->u.object.s3_bucket);
			pg_array_text(&w->lock_keys, item->op->op->u.object.s3_key);
		}
	}
}

/* ---- the transaction ---------------------------------------------------------------------------------------------------------------- */

/* What goes out before the first operation's statement, in this order on every host. transaction: at its beginning. */
static size_t preludes(const struct writing *w, bool transaction, enum pg_statement ret[5])
{
	const struct pg_dialect *dialect = w->state->dialect;
	size_t count = 0;

	if (transaction && (dialect->triggers || dialect->snapshots))
		ret[count++] = PG_W_BEGIN;
	/* A topic that is to go takes all of its partitions: first the topics, then these among all partitions. */
	if (w->gone_topics.count > 0) {
		ret[count++] = PG_W_LOCK_TOPICS;
		ret[count++] = PG_W_LOCK_WHOLE;
	} else if (w->lock_topics.count > 0) {
		ret[count++] = PG_W_LOCK;
	}
	if (w->lock_owners.count > 0)
		ret[count++] = PG_W_LOCK_OBJECTS;
	return count;
}

enum shmeta_status write_send_preludes(struct writing *w, bool transaction, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	enum pg_statement step[5];
	size_t count = preludes(w, transaction, step);
	char wait_ms[16];

	(void)snprintf(wait_ms, sizeof wait_ms, "%u", pg_lock_wait_of(w->state));

	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		struct pg_params params;

		pg_params_clear(&params);
		if (step[i] == PG_W_BEGIN) {
			w->begun_ns = pg_now_ns();
			pg_param_text(&params, rows_str(w->state->origin));
		}
		if (step[i] == PG_W_BEGIN && w->state->dialect->triggers)
			pg_param_text(&params, rows_str(wait_ms));
		if (step[i] == PG_W_LOCK_TOPICS || step[i] == PG_W_LOCK_WHOLE) {
			pg_param_array(&params, &w->gone_tenants);
			pg_param_array(&params, &w->gone_topics);
		}
		if (step[i] == PG_W_LOCK || step[i] == PG_W_LOCK_WHOLE) {
			pg_param_array(&params, &w->lock_tenants);
			pg_param_array(&params, &w->lock_topics);
			pg_param_array(&params, &w->lock_partitions);
		}
		if (step[i] == PG_W_LOCK_OBJECTS) {
			pg_param_array(&params, &w->lock_owners);
			pg_param_array(&params, &w->lock_buckets);
			pg_param_array(&params, &w->lock_keys);
		}
		status = pg_send(w->state, w->conn, step[i], &params, err);
	}
	return status;
}

enum shmeta_status write_take_preludes(struct writing *w, bool transaction, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	enum pg_statement step[5];
	size_t count = preludes(w, transaction, step);

	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		PGresult *result = NULL;

		status = pg_next(w->state, w->conn, &result, err);
		if (status == SHMETA_OK && step[i] == PG_W_BEGIN && w->state->dialect->snapshots) {
			(void)snprintf(w->transaction, sizeof w->transaction, "%s", pg_text(result, 0, 1).data);
			(void)snprintf(w->server, sizeof w->server, "%s", pg_text(result, 0, 2).data);
			(void)snprintf(w->origin, sizeof w->origin, "%s", w->state->origin);
			pg_clock_seen(w->state, pg_int(result, 0, 3), w->begun_ns, pg_now_ns());
		}
		PQclear(result);
	}
	return status;
}

/* Items of one kind and level that go into one statement. */
size_t write_statement_of(const struct write_item *items, size_t count)
{
	size_t most = write_most((enum write_kind)items->kind), n = 1;

	while (n < count && n < most && items[n].kind == items->kind && items[n].level == items->level &&
	       items[n].suspect == items->suspect)
		n++;
	return n;
}

enum shmeta_status write_take_statement(struct writing *w, struct write_item *items, size_t count,
                                        struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_next(w->state, w->conn, &result, err);
	bool complete = true;

	if (status == SHMETA_OK) {
		complete = write_answer(w, items, count, result);
		for (size_t i = 0; complete && i < count; i++)
			complete = !items[i].undone;
	}
	if (status == SHMETA_OK && write_looks_back(w, (enum write_kind)items->kind) != PG_STATEMENTS) {
		PQclear(result);
		result = NULL;
		status = pg_next(w->state, w->conn, &result, err);
		complete = complete && (status != SHMETA_OK || pg_int(result, 0, 0) == 0);
	}
	if (!complete) {
		w->incomplete = true;
		status = backend_fail(err, SHMETA_ERR_SOURCE, "%s: rows that were written are not there",
		                      w->state->dialect->engine);
	}
	PQclear(result);
	return status;
}

/* From *sent on, as many statements as may be in flight. */
static enum shmeta_status send_some(struct writing *w, struct write_item *items, size_t count, size_t *sent,
                                    struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	for (int n = 0; status == SHMETA_OK && *sent < count && n < IN_FLIGHT_MOST; n++) {
		size_t some = write_statement_of(&items[*sent], count - *sent);

		status = write_send(w, &items[*sent], some, err);
		*sent += some;
	}
	return status == SHMETA_OK ? pg_sync(w->state, w->conn, err) : status;
}

/* All of them, as many statements at a time as may be in flight; behind what was sent before with its taker. */
static enum shmeta_status run(struct writing *w, struct write_item *items, size_t count, bool locks,
                              struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	size_t sent = 0, taken = 0;

	if (locks && w->sent == 0)
		status = write_send_preludes(w, true, err);
	while (status == SHMETA_OK && (locks || taken < count)) {
		if (w->sent > 0)
			sent = w->sent;
		else if (status == SHMETA_OK)
			status = send_some(w, items, count, &sent, err);
		w->sent = 0;
		if (status == SHMETA_OK && locks)
			status = write_take_preludes(w, true, err);
		locks = false;
		while (status == SHMETA_OK && taken < sent) {
			size_t some = write_statement_of(&items[taken], sent - taken);

			status = write_take_statement(w, &items[taken], some, err);
			taken += some;
		}
	}
	return status;
}

static enum shmeta_status run_more(struct writing *w, struct write_item *items, size_t count, struct backend_error *err)
{
	return run(w, items, count, false, err);
}

/* A slice shares its object's refusal, whatever else is wrong with it. */
static void refuse_with_object(struct writing *w)
{
	const struct shmeta_result *object = NULL;

	for (size_t i = 0; i < w->count; i++) {
		if (w->ops[i].op->type == SHMETA_OP_COMMIT_OBJECT)
			object = &w->results[i];
		else if (w->ops[i].op->type != SHMETA_OP_ADD_SLICE)
			object = NULL;
		else if (object != NULL && object->status != SHMETA_OK && object->status != SHMETA_ERR_ALREADY_EXISTS)
			w->results[i] = *object;
	}
}

/* Those whose refusal could not be explained: what was in their way was committed after the statement had begun to look. */
static size_t take_unseen(const struct write_item *from, size_t count, struct write_item *to)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (from[i].again && from[i].result->status == SHMETA_OK) {
			to[n] = from[i];
			to[n++].again = false;
		}
	return n;
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
			item->kind = (uint8_t)write_careful((enum write_kind)item->kind);
	}
	write_gather_locks(w, w->items, w->item_count);
}

enum shmeta_status write_look_again(struct writing *w, const struct write_item *items, size_t count,
                                    write_runner *run_all, struct backend_error *err)
{
	struct write_item *unseen = calloc(count > 0 ? count : 1, sizeof *unseen);
	enum shmeta_status status = SHMETA_OK;

	if (unseen == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", w->state->dialect->engine);
	refuse_with_object(w);
	count = take_unseen(items, count, unseen);
	for (int tries = 0; status == SHMETA_OK && count > 0 && tries < SIGHT_TRIES; tries++) {
		status = run_all(w, unseen, count, err);
		count = take_unseen(unseen, count, unseen);
	}
	for (size_t i = 0; i < count; i++)
		refuse_undone(unseen[i].result);
	free(unseen);
	return status;
}

static enum shmeta_status body(void *arg, struct backend_error *err)
{
	struct writing *w = arg;
	enum shmeta_status status;

	if (w->sent == 0)
		begin(w);
	if (w->apart)
		return write_apart(w, err);
	status = run(w, w->items, w->item_count, true, err);
	return status == SHMETA_OK ? write_look_again(w, w->items, w->item_count, run_more, err) : status;
}

/* ---- an unknown outcome ---------------------------------------------------------------------------------------------------------------- */

/* The COMMIT was sent and nobody answered. The server knows what became of a transaction by its id, as long as it is the server that
 * gave the id: one that was restarted may have lost ids that never reached its disk and have given them again. From such a one
 * "aborted" can be believed, and "committed" where the log has a row of that transaction with our mark. */
static enum shmeta_status resolve(struct writing *w, struct backend_error *err)
{
	const uint64_t give_up = pg_now_ns() + (uint64_t)pg_timeout_of(w->state) * 1000000;
	const struct timespec nap = {.tv_nsec = OUTCOME_NAP_MS * 1000000L};
	const struct backend_error unknown = *err;
	struct backend_error mine;

	while (w->transaction[0] != '\0' && pg_now_ns() < give_up) {
		enum shmeta_status status;
		PGresult *result = NULL;
		struct pg_params params;
		bool committed, aborted, ours;

		pg_params_clear(&params);
		pg_param_text(&params, rows_str(w->transaction));
		pg_param_text(&params, rows_str(w->server));
		pg_param_text(&params, rows_str(w->origin));
		status = pg_query(w->state, &w->state->primary, PG_W_OUTCOME, &params, &result, &mine);
		if (status == SHMETA_OK) {
			struct shmeta_str said = pg_text(result, 0, 0);

			ours = pg_int(result, 0, 1) != 0;
			committed = rows_compare(said, rows_str("committed")) == 0;
			aborted = rows_compare(said, rows_str("aborted")) == 0;
			PQclear(result);
			if (committed && ours)
				return SHMETA_OK;
			if (aborted)
				return backend_fail(err, SHMETA_ERR_SOURCE,
				                    "%s: the connection was lost in COMMIT; nothing was done",
				                    w->state->dialect->engine);
			if (committed || said.bytes == 0)
				break;
		} else if (pg_failed_with(&w->state->primary, "22")) {
			break; /* a server that never gave such an id */
		}
		(void)nanosleep(&nap, NULL);
	}
	*err = unknown;
	return SHMETA_ERR_OUTCOME_UNKNOWN;
}

/* ---- apply ------------------------------------------------------------------------------------------------------------------------------ */

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
	free(w->items);
	free(w);
}

/* Does any of them change topics, partitions or segments? The others' rows are never read from the past. */
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

	state->doing = "writing to";
	state->careful = true;
	status = pg_ensure(state, err);
	if (status == SHMETA_OK)
		status = pg_feed_told(state, err);
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
	w->asked_ms = now_ms;
	w->distance_ms = pg_clock_distance(state, now_ms);
	w->now_ms = pg_clock_moved(now_ms, w->distance_ms);
	if (!collect(w) || !write_order(w)) {
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
	return status != SHMETA_OK && status != SHMETA_ERR_OUTCOME_UNKNOWN && write_failed_for_items(w);
}

static enum shmeta_status refuse_all(struct writing *w)
{
	for (size_t i = 0; i < w->item_count; i++)
		if (w->items[i].result->status == SHMETA_OK)
			write_refused(w, &w->items[i], w->conn->sqlstate, w->conn->said);
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

/* Conflicts that end the whole transaction do not say whose they are: each half of the batch is tried as one of its own, in order, until
 * the operation that meets them is alone. */
static enum shmeta_status apply_halves(struct pg_state *state, const struct backend_op *ops, size_t count,
                                       int64_t now_ms, struct shmeta_result *results, const struct backend_sink *sink,
                                       struct backend_error *err)
{
	size_t middle = middle_of(ops, count);
	enum shmeta_status status = apply_part(state, ops, middle, now_ms, results, sink, err);

	if (status != SHMETA_OK)
		return status;
	status = apply_part(state, ops + middle, count - middle, now_ms, results + middle, sink, err);
	if (status == SHMETA_OK || status == SHMETA_ERR_OUTCOME_UNKNOWN)
		return status;
	/* There is one answer for all of them. */
	for (size_t i = 0; i < middle; i++)
		if (results[i].status == SHMETA_OK)
			return SHMETA_ERR_OUTCOME_UNKNOWN;
	return status;
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
		if (failed_for_items(w, status) && !w->apart && !write_failed_for_now(w->conn) && be_careful(w))
			status = transact(w, err);
		/* Where a conflict ends the whole transaction, no savepoint tells whose it is. */
		if (failed_for_items(w, status) && !w->apart &&
		    (state->dialect->snapshots || !pg_failed_with(w->conn, "40"))) {
			w->apart = true;
			status = transact(w, err);
		}
		/* Not even so: it was the COMMIT that failed, or one of all conflicts. Then nothing was done. */
		if (failed_for_items(w, status) && !state->dialect->snapshots && pg_failed_with(w->conn, "40") &&
		    middle_of(w->ops, w->count) > 0) {
			const struct writing whole = *w;

			writing_free(w);
			return apply_halves(state, whole.ops, whole.count, whole.asked_ms, whole.results, sink, err);
		}
		if (failed_for_items(w, status))
			status = refuse_all(w);
		/* With a new session comes a new origin, so that the feed tells of what nobody heard of. And a writer that had to
		 * connect anew may have met another server than the one that reads. */
		if (status == SHMETA_ERR_OUTCOME_UNKNOWN ||
		    (w->conn == &state->writer && state->alike.writer != state->writer.connects))
			pg_disconnect(state, &state->primary);
		if (status == SHMETA_ERR_OUTCOME_UNKNOWN)
			status = resolve(w, err);
		if (status == SHMETA_OK || status == SHMETA_ERR_OUTCOME_UNKNOWN)
			pg_wrote(state);
		if (any_of_topics(w->ops, w->count))
			pg_follower_passed(state);
		/* disk_full: the transaction is rolled back, the connection and what it reads are well. */
		if (status == SHMETA_ERR_SOURCE && pg_failed_with(w->conn, "53100")) {
			status = SHMETA_ERR_FULL;
			if (err != NULL)
				err->code = status;
		}
	}
	refuse_with_object(w);
	for (size_t i = 0; status == SHMETA_OK && i < w->count; i++)
		if (w->results[i].status == SHMETA_OK)
			status = backend_tell(&w->ops[i], sink);
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
		return status;
	/* The whole batch has had its patience. */
	state->hasty = true;
	status = conclude(w, sink, err);
	state->hasty = hasty;
	return status;
}

enum shmeta_status pg_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, const struct backend_sink *sink, struct backend_error *err)
{
	struct writing *w;
	enum shmeta_status status = writing_new(data, ops, count, now_ms, results, &w, err);

	return status == SHMETA_OK ? conclude(w, sink, err) : status;
}

/* ---- in two halves ------------------------------------------------------------------------------------------------------------------------ */

/* Which database, and since when its server has been up. */
static enum shmeta_status place_of(struct pg_state *state, struct pg_conn *conn, char ret[96],
                                   struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_execute(
		state, conn,
		"SELECT pg_postmaster_start_time()::text || ' ' || (SELECT system_identifier::text FROM "
		"pg_control_system()) || ' ' || (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = "
		"current_database())",
		&result, err);

	if (status == SHMETA_OK)
		(void)snprintf(ret, 96, "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	return status;
}

/* The session that reads, in a database that is known to be the one that was served. */
static enum shmeta_status place_of_reader(struct pg_state *state, char ret[96], struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	for (int tries = 0; tries < 2; tries++) {
		status = pg_ensure(state, err);
		if (status == SHMETA_OK)
			status = pg_feed_told(state, err);
		if (status != SHMETA_OK)
			return status;
		status = place_of(state, &state->primary, ret, err);
		/* It may have died while nobody used it. */
		if (status == SHMETA_OK || pg_connected(&state->primary))
			return status;
	}
	return status;
}

/* What is read back through one connection must show what was written through the other: both lead to the very same server and database. */
enum shmeta_status pg_meet_writer(struct pg_state *state, struct backend_error *err)
{
	char reader[96], writer[96];
	enum shmeta_status status;

	if (state->alike.primary == state->primary.connects && state->alike.writer == state->writer.connects)
		return SHMETA_OK;
	status = place_of_reader(state, reader, err);
	if (status == SHMETA_OK)
		status = place_of(state, &state->writer, writer, err);
	if (status != SHMETA_OK)
		return status;
	if (strcmp(reader, writer) != 0) {
		(void)backend_fail(err, SHMETA_ERR_SOURCE, "%s: another server or database answered",
		                   state->dialect->engine);
		pg_shun(state, &state->writer, err);
		return SHMETA_ERR_SOURCE;
	}
	state->alike.primary = state->primary.connects;
	state->alike.writer = state->writer.connects;
	return SHMETA_OK;
}

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
			status = write_send_preludes(w, true, err);
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
	struct writing *w = state->started;

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

/* ---- statements -------------------------------------------------------------------------------------------------------------------------- */

bool pg_write_statements(struct pg_state *state)
{
	const struct pg_dialect *d = state->dialect;
	bool o = state->shape.organization;
	const char *uuid = o && state->shape.tenant_uuid ? "::uuid" : "", *org = o ? ", p.organization_id" : "";

	return write_kind_statements(state) && write_look_back_statements(state) &&
	       pg_text_of(state, PG_W_BEGIN, "SELECT set_config('shmeta.origin', $1::text, true)%s%s%s",
	                  d->snapshots ? ", pg_current_xact_id()::text, pg_postmaster_start_time()::text, " : "",
	                  d->snapshots ? d->clock : "",
	                  d->triggers ? ", set_config('lock_timeout', $2::text, true), " PG_PLAN_ONCE : "") &&
	       pg_text_of(
		       state, PG_W_LOCK,
		       "SELECT count(*) FROM (SELECT 1 FROM unnest($1::text[], $2::text[], $3::int8[]) "
		       "AS i(tenant, topic, pid) JOIN partitions p ON p.topic = i.topic AND p.partition_id = i.pid%s%s "
		       "ORDER BY p.topic, p.partition_id FOR NO KEY UPDATE OF p) k",
		       o ? " AND p.organization_id = i.tenant" : "", uuid) &&
	       pg_text_of(state, PG_W_LOCK_TOPICS,
	                  "SELECT count(*) FROM (SELECT 1 FROM unnest($1::text[], $2::text[]) AS i(tenant, topic) JOIN "
	                  "topics t ON t.name = i.topic%s%s ORDER BY t.name FOR UPDATE OF t) k",
	                  o ? " AND t.organization_id = i.tenant" : "", uuid) &&
	       pg_text_of(
		       state, PG_W_LOCK_WHOLE,
		       "SELECT count(*) FROM (SELECT 1 FROM partitions p WHERE (p.topic%s) IN (SELECT topic%s%s FROM "
		       "unnest($1::text[], $2::text[]) AS i(tenant, topic)) OR (p.topic, p.partition_id%s) IN "
		       "(SELECT topic, pid%s%s FROM unnest($3::text[], $4::text[], $5::int8[]) "
		       "AS i(tenant, topic, pid)) ORDER BY p.topic, p.partition_id FOR NO KEY UPDATE) k",
		       org, o ? ", tenant" : "", uuid, org, o ? ", tenant" : "", uuid) &&
	       pg_text_of(state, PG_W_LOCK_OBJECTS, "%s",
	                  state->shape.own
	                          ? "SELECT count(*) FROM (SELECT 1 FROM unnest($1::text[], $2::text[], $3::text[]) "
	                            "AS i(tenant, bucket, key) JOIN shmeta_objects b ON b.tenant = i.tenant AND "
	                            "b.s3_bucket = i.bucket AND b.s3_key = i.key ORDER BY b.tenant, b.s3_bucket, "
	                            "b.s3_key FOR UPDATE OF b) k"
	                          : "SELECT 0") &&
	       pg_text_of(state, PG_W_OUTCOME, "%s",
	                  !d->snapshots        ? "SELECT '', false"
	                  : !state->shape.feed ? "SELECT pg_xact_status($1::text::xid8), "
	                                         "pg_postmaster_start_time()::text = $2::text AND $3::text <> ''"
	                                       : "SELECT pg_xact_status($1::text::xid8), "
	                                         "pg_postmaster_start_time()::text = $2::text OR EXISTS(SELECT 1 FROM "
	                                         "shmeta_changes WHERE xid = $1::text::xid8 AND origin = $3::text)") &&
	       write_apart_statements(state) && pg_text_of(state, PG_W_SAVE, "SAVEPOINT shmeta_item") &&
	       pg_text_of(state, PG_W_UNDO, "ROLLBACK TO SAVEPOINT shmeta_item") &&
	       pg_text_of(state, PG_W_RELEASE, "RELEASE SAVEPOINT shmeta_item");
}
