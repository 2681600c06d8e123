/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: a batch of operations, one transaction.
 *
 *   order      operations that do not care about each other share a statement; those that do come one level after the other
 *   lock       the partitions they touch, in one order on every host, so that no two batches wait for each other
 *   send       all statements in one go, one round trip; each decides item by item (write_ops.c)
 *   commit     once every item has its result; the transaction's id is known by then
 *   resolve    a COMMIT without an answer: by that id, on a new connection
 *
 * A statement that fails takes its transaction with it. Plain adds fail where something is in their way: then the batch is done again
 * with careful ones. A value that the server will not take fails any: then it is done again, each statement behind a savepoint, and a
 * failing one in halves until the item stands alone. Both are rare, and cost nothing until then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "backends/postgres/write.h"
#include "backends/refuse.h"

enum { IN_FLIGHT_MOST = PG_PENDING_MAX / 2 - 4, SIGHT_TRIES = 3, OUTCOME_NAP_MS = 20 };

/* ---- order ------------------------------------------------------------------------------------------------------------------------ */

/* A resource as it was used last: by that use, at levels from first on, at most at last. */
struct usage {
	uint64_t hash; /* 0: free. Two resources of one hash only wait for each other in vain */
	uint32_t first, last;
	uint8_t use;
};

struct usages {
	struct usage *table;
	size_t mask;
};

static uint64_t mix(uint64_t hash, struct shmeta_str text)
{
	return XXH3_64bits_withSeed(text.data != NULL ? text.data : "", text.bytes, hash);
}

static uint64_t mix_number(uint64_t hash, uint64_t number)
{
	return XXH3_64bits_withSeed(&number, sizeof number, hash);
}

static uint64_t hash_of(const struct write_item *item, enum write_resource resource)
{
	const struct shmeta_op *op = item->op->op, *object = item->object != NULL ? item->object : op;
	struct shmeta_str topic = item->kind == KIND_TOPIC_CREATE ? op->u.topic.name : op->name;
	struct shmeta_str agent = item->kind == KIND_AGENT_PUT ? op->u.agent.agent_id : op->agent_id;
	uint64_t hash = mix_number(0, resource);

	switch (resource) {
	case RES_TOPIC:
		hash = mix(mix(hash, item->op->tenant), topic);
		break;
	case RES_DATA:
	case RES_LEASE:
	case RES_BASE: /* one tenant's place may be another's in a database that does not keep them apart */
		hash = mix_number(mix(hash, topic), op->partition_id);
		if (resource == RES_BASE)
			hash = mix_number(hash, op->u.segment.base_offset);
		break;
	case RES_ID:
		hash = mix(hash, op->u.segment.id);
		break;
	case RES_GROUP:
		hash = mix(hash, item->kind == KIND_OFFSET ? op->u.committed.group_id : op->group_id);
		break;
	case RES_AGENT:
		hash = mix(hash, agent);
		break;
	case RES_TO_AGENT:
		hash = mix(mix_number(0, RES_AGENT), op->to_agent_id);
		break;
	case RES_ADDRESS:
		hash = mix(hash, op->u.agent.address);
		break;
	case RES_TRANSFER:
		hash = mix_number(hash, op->transfer_id);
		break;
	case RES_OBJECT:
		hash = mix(mix(mix(hash, item->op->tenant), object->u.object.s3_bucket), object->u.object.s3_key);
		break;
	case RES_LEASES:
	case RES_AGENTS:
	case RES_TRANSFERS:
	case RES_SLICES:
	case RES_NONE:
		break;
	}
	return hash | 1;
}

static struct usage *usage_of(struct usages *usages, uint64_t hash)
{
	size_t at = (size_t)hash & usages->mask;

	while (usages->table[at].hash != 0 && usages->table[at].hash != hash)
		at = (at + 1) & usages->mask;
	return &usages->table[at];
}

/* Below which level it may not be. */
static uint32_t bound(const struct usage *usage, uint8_t use)
{
	if (usage->hash == 0)
		return 0;
	if (usage->use != use || use == USE_EXCLUSIVE)
		return usage->last + 1;
	return use == USE_SHARED ? usage->first : usage->last;
}

static void place(struct usages *usages, struct write_item *item)
{
	static const struct write_touch fence[] = {{RES_LEASE, USE_SHARED}, {RES_LEASES, USE_SHARED}};
	const struct write_touch *touches = write_touches((enum write_kind)item->kind);
	struct write_touch all[TOUCHES_MAX + 2];
	uint64_t hashes[TOUCHES_MAX + 2];
	size_t count = 0;

	for (size_t i = 0; i < TOUCHES_MAX && touches[i].resource != RES_NONE; i++)
		all[count++] = touches[i];
	if (item->op->op->fence.agent_id.bytes > 0) {
		all[count++] = fence[0];
		all[count++] = fence[1];
	}
	item->level = 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t least;

		hashes[i] = hash_of(item, (enum write_resource)all[i].resource);
		least = bound(usage_of(usages, hashes[i]), all[i].use);
		if (item->level < least)
			item->level = least;
	}
	for (size_t i = 0; i < count; i++) {
		struct usage *usage = usage_of(usages, hashes[i]);

		if (usage->hash == 0)
			*usage = (struct usage){.hash = hashes[i], .use = all[i].use};
		else if (usage->use != all[i].use || all[i].use == USE_EXCLUSIVE)
			*usage = (struct usage){.hash = hashes[i], .use = all[i].use, .first = usage->last + 1};
		if (usage->last < item->level)
			usage->last = item->level;
	}
}

static bool is_add(enum write_kind kind)
{
	kind = write_careful(kind);
	return kind == KIND_ADD || kind == KIND_ADD_RAISE || kind == KIND_SLICE;
}

static int compare_items(const void *a, const void *b)
{
	const struct write_item *x = a, *y = b;

	if (x->level != y->level)
		return x->level < y->level ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	/* Those that wrote the same segments' keys in another order would wait for each other; as they are sent they are written. */
	if (is_add((enum write_kind)x->kind)) {
		const struct shmeta_op *a_op = x->op->op, *b_op = y->op->op;
		int by_topic = rows_compare(a_op->name, b_op->name);

		if (by_topic != 0)
			return by_topic;
		if (a_op->partition_id != b_op->partition_id)
			return a_op->partition_id < b_op->partition_id ? -1 : 1;
		if (a_op->u.segment.base_offset != b_op->u.segment.base_offset)
			return a_op->u.segment.base_offset < b_op->u.segment.base_offset ? -1 : 1;
	}
	return x->index < y->index ? -1 : x->index > y->index;
}

static bool order(struct writing *w)
{
	struct usages usages = {.mask = 1};

	if (w->item_count <= 1)
		return true;
	while (usages.mask < w->item_count * 2 * (TOUCHES_MAX + 2))
		usages.mask *= 2;
	usages.table = calloc(usages.mask--, sizeof *usages.table);
	if (usages.table == NULL)
		return false;
	for (size_t i = 0; i < w->item_count; i++)
		place(&usages, &w->items[i]);
	free(usages.table);
	qsort(w->items, w->item_count, sizeof *w->items, compare_items);
	return true;
}

/* Adds are plain as long as nothing has been in their way for a while: where it happens all the time, a seventeenth of the batches is done
 * in vain at first, later one of thousands. */
enum { CAREFUL_LEAST = 16, CAREFUL_MOST = 4096 };

static bool may_be_plain(struct pg_state *state)
{
	/* Without triggers the statement has more to do; without the index two segments could share a place. */
	if (!state->shape.segment_place || !state->dialect->triggers)
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

			w->items[w->item_count++] =
				(struct write_item){.op = &w->ops[i],
			                            .result = r,
			                            .object = op->type == SHMETA_OP_ADD_SLICE ? object : NULL,
			                            .index = (uint32_t)i,
			                            .kind = (uint8_t)(plain ? write_plain(kind) : kind)};
		}
	}
	return true;
}

/* ---- lock ------------------------------------------------------------------------------------------------------------------------- */

static bool locks_partition(enum write_kind kind)
{
	return is_add(kind) || kind == KIND_WATERMARK || kind == KIND_SEGMENTS_DELETE || kind == KIND_RELEASE_LEASE ||
	       kind == KIND_ACQUIRE || kind == KIND_OFFER;
}

bool write_same_place(const struct backend_op *a, const struct backend_op *b)
{
	return a->op->partition_id == b->op->partition_id && rows_compare(a->op->name, b->op->name) == 0 &&
	       rows_compare(a->tenant, b->tenant) == 0;
}

/* Each place once would be best, twice does no harm: neighbours are looked at. */
static void gather_locks(struct writing *w)
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
	for (size_t i = 0; i < w->item_count; i++) {
		const struct write_item *item = &w->items[i];

		if (locks_partition((enum write_kind)item->kind) &&
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

/* Failures that are an item's: data (22, 23, 44), a limit (54), two rows of one key where there may be one (21), what a trigger of
 * the application says (P0). */
static bool is_poison(const struct pg_conn *conn)
{
	static const char *const classes[] = {"22", "23", "44", "54", "21", "P0"};

	for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
		if (pg_failed_with(conn, classes[i]))
			return true;
	return false;
}

/* What goes out before the first operation's statement, in this order on every host. */
static size_t preludes(const struct writing *w, enum pg_statement ret[5])
{
	const struct pg_dialect *dialect = w->state->dialect;
	size_t count = 0;

	if (dialect->triggers || dialect->snapshots)
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

static enum shmeta_status send_locks(struct writing *w, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	enum pg_statement step[5];
	size_t count = preludes(w, step);

	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		struct pg_params params;

		pg_params_clear(&params);
		if (step[i] == PG_W_BEGIN)
			pg_param_text(&params, rows_str(w->state->origin));
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
		status = pg_send(w->state, &w->state->primary, step[i], &params, err);
	}
	return status;
}

static enum shmeta_status take_locks(struct writing *w, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	enum pg_statement step[5];
	size_t count = preludes(w, step);

	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		PGresult *result = NULL;

		status = pg_next(w->state, &w->state->primary, &result, err);
		if (status == SHMETA_OK && step[i] == PG_W_BEGIN && w->state->dialect->snapshots) {
			(void)snprintf(w->transaction, sizeof w->transaction, "%s", pg_text(result, 0, 1).data);
			(void)snprintf(w->server, sizeof w->server, "%s", pg_text(result, 0, 2).data);
			(void)snprintf(w->origin, sizeof w->origin, "%s", w->state->origin);
		}
		PQclear(result);
	}
	return status;
}

/* Items of one kind and level that go into one statement. */
static size_t statement_of(const struct write_item *items, size_t count)
{
	size_t most = write_most((enum write_kind)items->kind), n = 1;

	while (n < count && n < most && items[n].kind == items->kind && items[n].level == items->level)
		n++;
	return n;
}

static enum shmeta_status take_statement(struct writing *w, struct write_item *items, size_t count,
                                         struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_next(w->state, &w->state->primary, &result, err);

	if (status == SHMETA_OK && !write_answer(w, items, count, result)) {
		w->poisoned = true;
		status = backend_fail(err, SHMETA_ERR_SOURCE, "%s: rows that were added are not there",
		                      w->state->dialect->engine);
	} else if (status != SHMETA_OK && is_poison(&w->state->primary)) {
		w->poisoned = true;
	}
	PQclear(result);
	return status;
}

/* All of them, as many statements at a time as may be in flight; behind what was sent before with its taker. */
static enum shmeta_status run(struct writing *w, struct write_item *items, size_t count, bool locks,
                              struct backend_error *err)
{
	struct pg_conn *conn = &w->state->primary;
	enum shmeta_status status = SHMETA_OK;
	size_t sent = 0, taken = 0;

	if (locks)
		status = send_locks(w, err);
	while (status == SHMETA_OK && (locks || taken < count)) {
		for (int n = 0; status == SHMETA_OK && sent < count && n < IN_FLIGHT_MOST; n++) {
			size_t some = statement_of(&items[sent], count - sent);

			status = write_send(w, &items[sent], some, err);
			sent += some;
		}
		if (status == SHMETA_OK)
			status = pg_sync(w->state, conn, err);
		if (status == SHMETA_OK && locks)
			status = take_locks(w, err);
		locks = false;
		while (status == SHMETA_OK && taken < sent) {
			size_t some = statement_of(&items[taken], sent - taken);

			status = take_statement(w, &items[taken], some, err);
			taken += some;
		}
	}
	return status;
}

static enum shmeta_status simple(struct writing *w, enum pg_statement which, struct backend_error *err)
{
	return pg_query(w->state, &w->state->primary, which, NULL, NULL, err);
}

/* The statement of these items, behind a savepoint; when it fails for what one of them is, each half by itself. */
static enum shmeta_status run_apart(struct writing *w, struct write_item *items, size_t count,
                                    struct backend_error *err)
{
	enum shmeta_status status = simple(w, PG_W_SAVE, err);
	char sqlstate[6];

	if (status != SHMETA_OK)
		return status;
	w->poisoned = false;
	status = run(w, items, count, false, err);
	if (status == SHMETA_OK)
		return simple(w, PG_W_RELEASE, err);
	if (!w->poisoned)
		return status;
	w->poisoned = false;
	(void)snprintf(sqlstate, sizeof sqlstate, "%s", w->state->primary.sqlstate);
	pg_drop_results(w->state, &w->state->primary);
	status = simple(w, PG_W_UNDO, err);
	if (status == SHMETA_OK)
		status = simple(w, PG_W_RELEASE, err);
	if (status == SHMETA_OK && count == 1)
		write_refused(w, items, sqlstate);
	else if (status == SHMETA_OK) {
		for (size_t i = 0; i < count; i++)
			items[i].again = false;
		status = run_apart(w, items, count / 2, err);
		if (status == SHMETA_OK)
			status = run_apart(w, items + count / 2, count - count / 2, err);
	}
	return status;
}

static enum shmeta_status run_one_by_one(struct writing *w, struct write_item *items, size_t count, bool locks,
                                         struct backend_error *err)
{
	enum shmeta_status status = locks ? run(w, items, 0, true, err) : SHMETA_OK;

	for (size_t at = 0; status == SHMETA_OK && at < count;) {
		size_t some = statement_of(&items[at], count - at);

		status = run_apart(w, &items[at], some, err);
		at += some;
	}
	return status;
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
static size_t take_unseen(struct write_item *from, size_t count, struct write_item *to)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (from[i].again && from[i].result->status == SHMETA_OK) {
			to[n] = from[i];
			to[n++].again = false;
		}
	return n;
}

static enum shmeta_status body(void *arg, struct backend_error *err)
{
	struct writing *w = arg;
	enum shmeta_status (*run_all)(struct writing *, struct write_item *, size_t, bool, struct backend_error *) =
		w->one_by_one ? run_one_by_one : run;
	enum shmeta_status status;
	struct write_item *unseen;
	size_t count;

	w->poisoned = false;
	w->transaction[0] = '\0';
	for (size_t i = 0; i < w->item_count; i++) {
		struct write_item *item = &w->items[i];

		memset(item->result, 0, sizeof *item->result);
		item->result->partition_id = item->op->op->partition_id;
		item->again = false;
	}
	gather_locks(w);
	status = run_all(w, w->items, w->item_count, true, err);
	if (status != SHMETA_OK)
		return status;
	unseen = calloc(w->item_count, sizeof *unseen);
	if (unseen == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", w->state->dialect->engine);
	refuse_with_object(w);
	count = take_unseen(w->items, w->item_count, unseen);
	for (int tries = 0; status == SHMETA_OK && count > 0 && tries < SIGHT_TRIES; tries++) {
		status = run_all(w, unseen, count, false, err);
		count = take_unseen(unseen, count, unseen);
	}
	for (size_t i = 0; i < count; i++)
		refuse(unseen[i].result, SHMETA_ERR_CONFLICT,
		       "the source has that key already: another organization's, or somebody else's of this moment");
	free(unseen);
	return status;
}

/* ---- an unknown outcome ---------------------------------------------------------------------------------------------------------------- */

static uint64_t clock_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The COMMIT was sent and nobody answered. The server knows what became of a transaction by its id, as long as it is the server that
 * gave the id: one that was restarted may have lost ids that never reached its disk and have given them again. From such a one
 * "aborted" can be believed, and "committed" where the log has a row of that transaction with our mark. */
static enum shmeta_status resolve(struct writing *w, struct backend_error *err)
{
	uint64_t give_up = clock_ms() + (w->state->options.timeout_ms > 0 ? w->state->options.timeout_ms : 5000);
	const struct timespec nap = {.tv_nsec = OUTCOME_NAP_MS * 1000000L};
	const struct backend_error unknown = *err;
	struct backend_error mine;

	while (w->transaction[0] != '\0' && clock_ms() < give_up) {
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

static bool is_to_be_done_again(const struct writing *w, enum shmeta_status status)
{
	return status != SHMETA_OK && status != SHMETA_ERR_OUTCOME_UNKNOWN && w->poisoned;
}

enum shmeta_status pg_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, const struct backend_sink *sink, struct backend_error *err)
{
	struct pg_state *state = data;
	enum shmeta_status status;
	struct writing *w;

	state->doing = "writing to";
	status = pg_ensure(state, err);
	if (status != SHMETA_OK)
		return status;
	if (state->read_only)
		return backend_fail(err, SHMETA_ERR_READ_ONLY, "%s: this process may not write to the database",
		                    state->dialect->engine);
	w = calloc(1, sizeof *w);
	if (w == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	w->state = state;
	w->ops = ops;
	w->count = count;
	w->results = results;
	w->now_ms = now_ms;
	if (!collect(w) || !order(w))
		status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	else if (w->item_count > 0) {
		status = pg_transaction(state, &state->primary, PG_BEGIN_WRITE, body, w, err);
		if (status == SHMETA_OK && state->careful_next > CAREFUL_LEAST && state->careful_batches == 0)
			state->careful_next--;
		if (is_to_be_done_again(w, status) && be_careful(w))
			status = pg_transaction(state, &state->primary, PG_BEGIN_WRITE, body, w, err);
		if (is_to_be_done_again(w, status)) {
			w->one_by_one = true;
			status = pg_transaction(state, &state->primary, PG_BEGIN_WRITE, body, w, err);
		}
		if (status == SHMETA_ERR_OUTCOME_UNKNOWN)
			status = resolve(w, err);
		if (status == SHMETA_OK || status == SHMETA_ERR_OUTCOME_UNKNOWN)
			pg_wrote(state);
		if (any_of_topics(ops, count))
			pg_follower_passed(state);
	}
	refuse_with_object(w);
	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		if (results[i].status == SHMETA_OK)
			status = backend_tell(&ops[i], sink);
	writing_free(w);
	return status;
}

/* ---- statements -------------------------------------------------------------------------------------------------------------------------- */

bool pg_write_statements(struct pg_state *state)
{
	const struct pg_dialect *d = state->dialect;
	bool o = state->shape.organization;
	const char *uuid = o && state->shape.tenant_uuid ? "::uuid" : "", *org = o ? ", p.organization_id" : "";

	return write_kind_statements(state) &&
	       pg_text_of(state, PG_W_BEGIN, "SELECT set_config('shmeta.origin', $1::text, true)%s%s",
	                  d->snapshots ? ", pg_current_xact_id()::text, pg_postmaster_start_time()::text" : "",
	                  d->triggers ? ", " PG_PLAN_ONCE : "") &&
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
	       pg_text_of(state, PG_W_SAVE, "SAVEPOINT shmeta_item") &&
	       pg_text_of(state, PG_W_UNDO, "ROLLBACK TO SAVEPOINT shmeta_item") &&
	       pg_text_of(state, PG_W_RELEASE, "RELEASE SAVEPOINT shmeta_item");
}
