/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: statements of a batch: locks before them, which items one does, what came of
 * it, and those that are done again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/op_errors.h"
#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_writing.h"

enum { SIGHT_TRIES = 3 };

/* Each place once would be best, twice does no harm: neighbours are looked at. */
void pg_write_gather_locks(struct writing *w, const struct write_item *items, size_t count)
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

		if (pg_write_locks_partition((enum write_kind)item->kind) &&
		    (last == NULL || !pg_write_same_place(last, item->op))) {
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

/* What goes out before the first operation's statement, in this order on every host. transaction:
 * at its beginning. */
static size_t preludes(const struct writing *w, bool transaction, enum pg_statement ret[5])
{
	const struct pg_dialect *dialect = w->state->dialect;
	size_t count = 0;

	if (transaction && (dialect->triggers || dialect->snapshots))
		ret[count++] = PG_W_BEGIN;
	/* A topic that is to go takes all of its partitions: first the topics, then these among all
	 * partitions. */
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

enum shmeta_status pg_write_send_preludes(struct writing *w, bool transaction, struct backend_error *err)
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

enum shmeta_status pg_write_take_preludes(struct writing *w, bool transaction, struct backend_error *err)
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
size_t pg_write_statement_of(const struct write_item *items, size_t count)
{
	size_t most = pg_write_most((enum write_kind)items->kind), n = 1;

	while (n < count && n < most && items[n].kind == items->kind && items[n].level == items->level &&
	       items[n].suspect == items->suspect)
		n++;
	return n;
}

enum shmeta_status pg_write_take_statement(struct writing *w, struct write_item *items, size_t count,
                                           struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_write_take_beside(w, items, count, WRITE_BEFORE, err);
	bool complete = true;

	if (status == SHMETA_OK)
		status = pg_next(w->state, w->conn, &result, err);
	if (status == SHMETA_OK) {
		complete = pg_write_answer(w, items, count, result);
		for (size_t i = 0; complete && i < count; i++)
			complete = !items[i].undone;
	}
	if (status == SHMETA_OK && pg_write_looks_back(w, (enum write_kind)items->kind) != PG_STATEMENTS) {
		PQclear(result);
		result = NULL;
		status = pg_next(w->state, w->conn, &result, err);
		complete = complete && (status != SHMETA_OK || pg_int(result, 0, 0) == 0);
	}
	if (status == SHMETA_OK)
		status = pg_write_take_beside(w, items, count, WRITE_BEHIND, err);
	if (!complete) {
		w->incomplete = true;
		status = backend_fail(err, SHMETA_ERR_SOURCE, "%s: rows that were written are not there",
		                      w->state->dialect->engine);
	}
	PQclear(result);
	return status;
}

/* A slice shares its object's refusal, whatever else is wrong with it. */
void pg_write_refuse_with_object(struct writing *w)
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

/* Those whose refusal could not be explained: what was in their way was committed after the
 * statement had begun to look. */
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

enum shmeta_status pg_write_look_again(struct writing *w, const struct write_item *items, size_t count,
                                       write_runner *run_all, struct backend_error *err)
{
	struct write_item *unseen = calloc(count > 0 ? count : 1, sizeof *unseen);
	enum shmeta_status status = SHMETA_OK;

	if (unseen == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", w->state->dialect->engine);
	pg_write_refuse_with_object(w);
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

static const struct pg_text texts[] = {
	{PG_W_BEGIN, "SELECT set_config('shmeta.origin', $1::text, true)"
                     "{s:, pg_current_xact_id()::text, pg_postmaster_start_time()::text, @server_time}"
                     "{g:, set_config('lock_timeout', $2::text, true), " PG_PLAN_ONCE "}"},
	{PG_W_LOCK,
         "SELECT count(*) FROM (SELECT 1 FROM unnest($1::text[], $2::text[], $3::int8[]) AS i(tenant, topic, pid) "
         "JOIN partitions p ON p.topic = i.topic AND p.partition_id = i.pid{o: AND p.organization_id = "
         "i.tenant{u:::uuid}} ORDER BY p.topic, p.partition_id FOR NO KEY UPDATE OF p) k"},
	{PG_W_LOCK_TOPICS,
         "SELECT count(*) FROM (SELECT 1 FROM unnest($1::text[], $2::text[]) AS i(tenant, topic) JOIN topics t ON t.name = "
         "i.topic{o: AND t.organization_id = i.tenant{u:::uuid}} ORDER BY t.name FOR UPDATE OF t) k"},
	{PG_W_LOCK_WHOLE,
         "SELECT count(*) FROM (SELECT 1 FROM partitions p WHERE (p.topic{o:, p.organization_id}) IN (SELECT "
         "topic{o:, tenant{u:::uuid}} FROM unnest($1::text[], $2::text[]) AS i(tenant, topic)) OR (p.topic, "
         "p.partition_id{o:, p.organization_id}) IN (SELECT topic, pid{o:, tenant{u:::uuid}} FROM unnest($3::text[], "
         "$4::text[], $5::int8[]) AS i(tenant, topic, pid)) ORDER BY p.topic, p.partition_id FOR NO KEY UPDATE) k"},
	{PG_W_LOCK_OBJECTS,
         "SELECT {!w:0}{w:count(*) FROM (SELECT 1 FROM unnest($1::text[], $2::text[], $3::text[]) AS i(tenant, bucket, key) "
         "JOIN shmeta_objects b ON b.tenant = i.tenant AND b.s3_bucket = i.bucket AND b.s3_key = i.key ORDER BY b.tenant, "
         "b.s3_bucket, b.s3_key FOR UPDATE OF b) k}"},
	{PG_W_SAVE, "SAVEPOINT shmeta_item"},
	{PG_W_UNDO, "ROLLBACK TO SAVEPOINT shmeta_item"},
	{PG_W_RELEASE, "RELEASE SAVEPOINT shmeta_item"},
};

bool pg_write_run_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
