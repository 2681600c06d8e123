/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: a batch in which something fails, with each statement behind a savepoint.
 *
 * A statement that fails is taken back and done in halves, until the item that makes it fail is
 * alone and has the failure for its result; the other items are done, in the same transaction.
 * Constraints that would be checked at COMMIT are checked at the end of each statement, so that
 * they name their item too.
 *
 * A lock of another session is such a failure, and is answered ERR_BUSY. To wait for it with each
 * half would add up, so the server is asked first which tables are locked as a whole and which
 * partitions cannot be locked; no lock is waited for any more once the batch has waited as long as
 * a write may wait for one; and what was found locked is remembered, so that a client that tries
 * again and again makes nobody wait. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/op_errors.h"
#include "backends/postgres/pg_locked.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_values.h"
#include "backends/postgres/pg_write_kinds.h"

enum { REMEMBERED_MS = 10000, NAP_FIRST_MS = 2, NAP_MOST_MS = 32, CONFLICT_TRIES = 3 };

/* ---- what was locked lately ---- */

bool pg_write_is_suspect(const struct pg_state *state, const struct write_item *item)
{
	const struct pg_busy *busy = &state->busy;
	uint64_t hash = 0, now = 0;

	for (size_t i = 0; i < PG_BUSY_MOST; i++) {
		if (busy->resource[i].hash == 0)
			continue;
		if (hash == 0) {
			hash = pg_write_resource_hash(item);
			now = pg_now_ns();
		}
		if (busy->resource[i].hash == hash && busy->resource[i].until_ns > now)
			return true;
	}
	return false;
}

static void remember(struct pg_state *state, const struct write_item *item)
{
	uint64_t hash = pg_write_resource_hash(item);
	struct pg_busy_resource *at = &state->busy.resource[0];

	for (size_t i = 0; i < PG_BUSY_MOST; i++) {
		struct pg_busy_resource *other = &state->busy.resource[i];

		if (other->hash == hash) {
			at = other;
			break;
		}
		if (other->until_ns < at->until_ns)
			at = other;
	}
	*at = (struct pg_busy_resource){.hash = hash, .until_ns = pg_now_ns() + REMEMBERED_MS * UINT64_C(1000000)};
}

static void forget(struct pg_state *state, const struct write_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t hash = items[i].suspect ? pg_write_resource_hash(&items[i]) : 0;

		for (size_t k = 0; hash != 0 && k < PG_BUSY_MOST; k++)
			if (state->busy.resource[k].hash == hash)
				state->busy.resource[k] = (struct pg_busy_resource){.hash = 0};
	}
}

static void refuse_locked_partition(struct write_item *item)
{
	const struct shmeta_op *op = item->op->op;
	char name[ROWS_QUOTE_MAX];

	refuse(item->result, SHMETA_ERR_BUSY,
	       "the row of topic %s, partition %u is locked by another session: try again later",
	       rows_quote(name, op->name), op->partition_id);
}

/* ---- locks that are there before anything is done ---- */

/* Does an item of the kind need the table? Cascades are not in the statements' texts. */
static bool needs(const struct writing *w, enum write_kind kind, const char *table)
{
	if (kind == KIND_TOPIC_DELETE && strcmp(table, "consumer_groups") != 0 && strcmp(table, "agents") != 0)
		return true;
	if (kind == KIND_GROUP_DELETE && strcmp(table, "consumer_offsets") == 0)
		return true;
	if (kind == KIND_AGENT_DELETE && strcmp(table, "partition_leases") == 0)
		return true;
	if (w->state->shape.feed && strcmp(table, "shmeta_changes") == 0)
		return true;
	return strstr(w->state->sql[pg_write_statements[kind].statement], table) != NULL;
}

static enum shmeta_status refuse_by_tables(struct writing *w, struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_next(w->state, w->conn, &result, err);

	if (status == SHMETA_OK)
		pg_locked_seen(w->state, PQntuples(result) > 0);
	for (int row = 0; status == SHMETA_OK && row < PQntuples(result); row++) {
		const char *table = pg_value(result, row, 0);

		for (size_t i = 0; i < w->item_count; i++)
			if (w->items[i].result->status == SHMETA_OK &&
			    needs(w, (enum write_kind)w->items[i].kind, table))
				refuse(w->items[i].result, SHMETA_ERR_BUSY,
				       "the table %s is locked by another session (%s, process %s): try again later",
				       table, pg_value(result, row, 1), pg_value(result, row, 2));
	}
	PQclear(result);
	return status;
}

/* The items' partitions, those that nobody else holds. Ones that were not found locked before get a
 * moment: other hosts hold them for as long as a batch takes. */
static enum shmeta_status lock_free_partitions(struct writing *w, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct write_item **of = calloc(w->item_count, sizeof(struct write_item *));
	long nap_ms = NAP_FIRST_MS;

	if (of == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", w->state->dialect->engine);
	for (;;) {
		const struct timespec nap = {.tv_nsec = nap_ms * 1000000L};
		struct pg_params params;
		PGresult *result = NULL;
		size_t count = 0;
		bool waits = false, patient = pg_now_ns() < w->patient_until_ns && nap_ms <= NAP_MOST_MS;

		pg_array_start(&w->lock_tenants, PG_ELEMENT_TEXT);
		pg_array_start(&w->lock_topics, PG_ELEMENT_TEXT);
		pg_array_start(&w->lock_partitions, PG_ELEMENT_INT8);
		for (size_t i = 0; i < w->item_count; i++) {
			struct write_item *item = &w->items[i];

			if (item->result->status != SHMETA_OK || !pg_write_locks_partition((enum write_kind)item->kind))
				continue;
			of[count++] = item;
			pg_array_text(&w->lock_tenants, item->op->tenant);
			pg_array_text(&w->lock_topics, item->op->op->name);
			pg_array_int(&w->lock_partitions, item->op->op->partition_id);
		}
		if (count == 0)
			break;
		pg_params_clear(&params);
		pg_param_array(&params, &w->lock_tenants);
		pg_param_array(&params, &w->lock_topics);
		pg_param_array(&params, &w->lock_partitions);
		status = pg_query(w->state, w->conn, PG_W_LOCK_FREE, &params, &result, err);
		for (int row = 0; status == SHMETA_OK && row < PQntuples(result); row++) {
			int64_t n = pg_int(result, row, 0);
			struct write_item *item = n >= 1 && (uint64_t)n <= count ? of[n - 1] : NULL;

			if (item != NULL && !item->suspect && patient) {
				waits = true;
			} else if (item != NULL) {
				refuse_locked_partition(item);
				remember(w->state, item);
			}
		}
		PQclear(result);
		if (status != SHMETA_OK || !waits)
			break;
		(void)nanosleep(&nap, NULL);
		nap_ms *= 2;
	}
	free(of);
	return status;
}

/* ---- statements behind savepoints ---- */

static enum shmeta_status simple(struct writing *w, enum pg_statement which, struct backend_error *err)
{
	return pg_query(w->state, w->conn, which, NULL, NULL, err);
}

/* How long its statement may wait for a lock, and run: a list gives up soon, because its parts
 * follow. */
static enum shmeta_status send_patience(struct writing *w, const struct write_item *items, size_t count,
                                        struct backend_error *err)
{
	const uint32_t timeout = pg_timeout_of(w->state);
	const bool waits = !items->suspect && pg_now_ns() < w->patient_until_ns;
	char lock_ms[16], run_ms[16];
	struct pg_params params;

	(void)snprintf(lock_ms, sizeof lock_ms, "%u", waits ? pg_lock_wait_of(w->state) / 8 + 1 : 1);
	(void)snprintf(run_ms, sizeof run_ms, "%u", count > 1 ? timeout / 5 + 1 : timeout - timeout / 10);
	pg_params_clear(&params);
	pg_param_text(&params, rows_str(lock_ms));
	pg_param_text(&params, rows_str(run_ms));
	return pg_send(w->state, w->conn, PG_W_PATIENCE, &params, err);
}

/* Topics that go and objects lock what hangs on them before they do anything, as in any batch;
 * partitions are locked already where that could be known before. */
static bool locks_first(const struct writing *w, const struct write_item *items)
{
	return items->kind == KIND_TOPIC_DELETE || items->kind == KIND_OBJECT || items->kind == KIND_CONFIRM ||
	       !w->state->dialect->triggers;
}

static enum shmeta_status send_behind_savepoint(struct writing *w, struct write_item *items, size_t count,
                                                struct backend_error *err)
{
	enum shmeta_status status = pg_send(w->state, w->conn, PG_W_SAVE, NULL, err);

	if (status == SHMETA_OK && w->state->dialect->triggers)
		status = send_patience(w, items, count, err);
	if (status == SHMETA_OK && locks_first(w, items)) {
		pg_write_gather_locks(w, items, count);
		status = pg_write_send_preludes(w, false, err);
	}
	if (status == SHMETA_OK)
		status = pg_write_send(w, items, count, err);
	return status == SHMETA_OK ? pg_sync(w->state, w->conn, err) : status;
}

static enum shmeta_status take_behind_savepoint(struct writing *w, struct write_item *items, size_t count,
                                                struct backend_error *err)
{
	enum shmeta_status status = pg_next(w->state, w->conn, NULL, err);

	if (status == SHMETA_OK && w->state->dialect->triggers)
		status = pg_next(w->state, w->conn, NULL, err);
	if (status == SHMETA_OK && locks_first(w, items))
		status = pg_write_take_preludes(w, false, err);
	return status == SHMETA_OK ? pg_write_take_statement(w, items, count, err) : status;
}

/* The statement did not happen: its items as before it. */
static enum shmeta_status take_back(struct writing *w, struct write_item *items, size_t count,
                                    struct backend_error *err)
{
	enum shmeta_status status;

	w->incomplete = false;
	w->conn->sqlstate[0] = '\0';
	pg_drop_results(w->state, w->conn);
	status = simple(w, PG_W_UNDO, err);
	if (status == SHMETA_OK)
		status = simple(w, PG_W_RELEASE, err);
	for (size_t i = 0; i < count && count > 1; i++) {
		memset(items[i].result, 0, sizeof *items[i].result);
		items[i].result->partition_id = items[i].op->op->partition_id;
		items[i].again = items[i].undone = false;
	}
	return status;
}

static enum shmeta_status run_one(struct writing *w, struct write_item *item, enum shmeta_status status,
                                  const char *sqlstate, const char *said)
{
	if (status != SHMETA_OK)
		return status;
	/* One of which a part was written has its refusal already. */
	if (item->result->status == SHMETA_OK)
		pg_write_refused(w, item, sqlstate, said);
	item->again = item->undone = false;
	if (strcmp(sqlstate, "55P03") == 0)
		remember(w->state, item);
	return SHMETA_OK;
}

static enum shmeta_status run_apart(struct writing *w, struct write_item *items, size_t count,
                                    struct backend_error *err)
{
	const bool attached = w->state->attached;
	char sqlstate[6], said[sizeof w->conn->said];
	enum shmeta_status status = SHMETA_OK;

	for (int tries = 0;; tries++) {
		bool conflict;

		w->incomplete = false;
		status = send_behind_savepoint(w, items, count, err);
		if (status == SHMETA_OK)
			status = take_behind_savepoint(w, items, count, err);
		if (status == SHMETA_OK) {
			forget(w->state, items, count);
			return simple(w, PG_W_RELEASE, err);
		}
		/* A dialect whose conflicts end the whole transaction has it begun anew. */
		conflict = pg_failed_with(w->conn, "40");
		if (!pg_write_failed_for_items(w) || (conflict && !w->state->dialect->snapshots))
			return status;
		(void)snprintf(sqlstate, sizeof sqlstate, "%s", w->incomplete ? "" : w->conn->sqlstate);
		(void)snprintf(said, sizeof said, "%s", w->conn->said);
		/* Whatever a trigger misses, the tables that we know were there when the batch
		 * began. */
		w->state->attached = attached;
		status = take_back(w, items, count, err);
		if (status != SHMETA_OK || !conflict || tries >= CONFLICT_TRIES || count > 1)
			break;
	}
	if (count == 1)
		return run_one(w, items, status, sqlstate, said);
	/* With one of a resource the others of it are locked as well: they follow each other, and
	 * are not waited for. */
	for (size_t at = 0, some = count / 2; status == SHMETA_OK && at < count; at += some, some = count - at)
		status = run_apart(w, items + at, some, err);
	return status;
}

static enum shmeta_status run_list(struct writing *w, struct write_item *items, size_t count, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;

	for (size_t at = 0; status == SHMETA_OK && at < count;) {
		size_t some = pg_write_statement_of(&items[at], count - at);

		status = run_apart(w, &items[at], some, err);
		at += some;
	}
	return status;
}

/* ---- the batch ---- */

/* The transaction's first statements: what is checked at its end is checked at once, and which
 * tables are locked. */
static enum shmeta_status begin(struct writing *w, struct backend_error *err)
{
	const bool known = w->state->dialect->triggers;
	enum shmeta_status status;

	pg_write_gather_locks(w, w->items, 0);
	status = pg_write_send_preludes(w, true, err);
	if (status == SHMETA_OK && known)
		status = pg_send(w->state, w->conn, PG_W_IMMEDIATE, NULL, err);
	if (status == SHMETA_OK && known)
		status = pg_send(w->state, w->conn, PG_W_LOCKED_TABLES, NULL, err);
	if (status == SHMETA_OK)
		status = pg_sync(w->state, w->conn, err);
	if (status == SHMETA_OK)
		status = pg_write_take_preludes(w, true, err);
	if (status == SHMETA_OK && known)
		status = pg_next(w->state, w->conn, NULL, err);
	if (status == SHMETA_OK && known)
		status = refuse_by_tables(w, err);
	if (status == SHMETA_OK && known)
		status = simple(w, PG_W_SAVE, err);
	if (status != SHMETA_OK || !known)
		return status;
	status = lock_free_partitions(w, err);
	if (status == SHMETA_OK)
		return simple(w, PG_W_RELEASE, err);
	/* Without them each statement finds out by itself. */
	return pg_write_failed_for_items(w) ? take_back(w, NULL, 0, err) : status;
}

enum shmeta_status pg_write_apart(struct writing *w, struct backend_error *err)
{
	struct write_item *left = calloc(w->item_count, sizeof *left);
	enum shmeta_status status;
	size_t count = 0;

	if (left == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", w->state->dialect->engine);
	w->patient_until_ns = pg_now_ns() + (uint64_t)pg_lock_wait_of(w->state) * 1000000;
	status = begin(w, err);
	for (size_t i = 0; i < w->item_count; i++)
		if (w->items[i].result->status == SHMETA_OK)
			left[count++] = w->items[i];
	if (status == SHMETA_OK)
		status = run_list(w, left, count, err);
	if (status == SHMETA_OK)
		status = pg_write_look_again(w, left, count, run_list, err);
	free(left);
	return status;
}

#define OF_ITEM "p.topic = i.topic AND p.partition_id = i.pid{o: AND p.organization_id = i.tenant{u:::uuid}}"
static const struct pg_text texts[] = {
	{PG_W_LOCK_FREE,
         "WITH i AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::int8[]) WITH ORDINALITY "
         "AS i(tenant, topic, pid, n)), k AS MATERIALIZED (SELECT i.n FROM i JOIN partitions p ON " OF_ITEM
         " ORDER BY p.topic, p.partition_id FOR NO KEY UPDATE OF p SKIP LOCKED) SELECT i.n FROM i JOIN partitions p ON " OF_ITEM
         " WHERE i.n NOT IN (SELECT n FROM k)"},
	{PG_W_IMMEDIATE, "SET CONSTRAINTS ALL IMMEDIATE"},
	{PG_W_PATIENCE,
         "SELECT set_config('lock_timeout', $1::text, true), set_config('statement_timeout', $2::text, true)"},
};

bool pg_write_apart_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
