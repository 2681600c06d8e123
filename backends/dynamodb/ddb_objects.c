/* SPDX-License-Identifier: Apache-2.0
 * Lists of objects (ddb_move.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_move.h"
#include "backends/dynamodb/ddb_ops.h"
#include "backends/rows.h"

static int by_name(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	struct shmeta_str p, q;
	int order;

	(void)ddb_get_s(x, "b", &p);
	(void)ddb_get_s(y, "b", &q);
	order = rows_compare(p, q);
	if (order != 0)
		return order;
	(void)ddb_get_s(x, "k", &p);
	(void)ddb_get_s(y, "k", &q);
	return rows_compare(p, q);
}

static bool is_behind(const json_t *item, const struct backend_object_list *list)
{
	struct shmeta_str text;
	int order;

	(void)ddb_get_s(item, "b", &text);
	order = rows_compare(text, list->after_bucket);
	if (order != 0)
		return order > 0;
	(void)ddb_get_s(item, "k", &text);
	return rows_compare(text, list->after_key) > 0;
}

static void judge_mark(struct ddb_writing *w, struct ddb_step *step)
{
	struct ddb_key key = {.table = DDB_META};
	struct ddb_entry *e;
	json_t *item = step->arg;

	(void)snprintf(key.pk, sizeof key.pk, "%s", ddb_text(item, "pk"));
	(void)snprintf(key.sk, sizeof key.sk, "%s", ddb_text(item, "sk"));
	e = ddb_ledger_get(&w->ledger, &key);
	if (e == NULL || e->item == NULL || ddb_number(e->item, "refs") > 0 || ddb_has(e->item, "since"))
		return;
	item = json_copy(e->item);
	ddb_put_n(item, "since", w->now_ms);
	ddb_write(w, e, item);
}

/* Those that are seen without slices for the first time. */
static enum shmeta_status mark(struct ddb_state *s, json_t **items, size_t count, int64_t now_ms,
                               struct backend_error *err)
{
	struct ddb_writing *w = calloc(1, sizeof *w);
	struct ddb_step *steps = calloc(count + 1, sizeof *steps);
	struct shmeta_result *results = calloc(count + 1, sizeof *results);
	enum shmeta_status status = w != NULL && steps != NULL && results != NULL
	                                    ? SHMETA_OK
	                                    : backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	size_t n = 0;

	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		if (ddb_number(items[i], "refs") == 0 && !ddb_has(items[i], "since")) {
			steps[n] = (struct ddb_step){.judge = judge_mark, .arg = items[i], .result = &results[n]};
			n++;
		}
	if (status == SHMETA_OK && n > 0) {
		w->s = s;
		w->now_ms = now_ms;
		status = ddb_steps(w, steps, n, err);
		ddb_log_close_gaps(s);
		for (size_t i = 0; i < n; i++) {
			json_t *item = steps[i].arg;

			if (results[i].status == SHMETA_OK)
				ddb_put_n(item, "since", now_ms);
		}
		ddb_writing_free(w);
	}
	free(w);
	free(steps);
	free(results);
	return status;
}

enum shmeta_status ddb_objects(void *state, const struct backend_object_list *list, backend_object_fn *emit, void *arg,
                               struct backend_error *err)
{
	struct ddb_state *s = state;
	struct ddb_query q[DDB_OBJECT_SHARDS];
	struct ddb_key *key = calloc(DDB_OBJECT_SHARDS, sizeof *key);
	bool first = list->after_bucket.bytes == 0 && list->after_key.bytes == 0;
	json_t **items = NULL, *item;
	size_t count = 0, k, most = list->most;
	enum shmeta_status status;

	if (key == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	ddb_begin(s, DDB_FOR_FETCH);
	for (unsigned int i = 0; i < DDB_OBJECT_SHARDS; i++) {
		ddb_pk_objects(&key[i], list->tenant, i);
		q[i] = (struct ddb_query){.table = DDB_META, .pk = key[i].pk};
	}
	status = ddb_queries(s, q, DDB_OBJECT_SHARDS, "reading objects", err);
	for (unsigned int i = 0; i < DDB_OBJECT_SHARDS; i++)
		count += json_array_size(q[i].items);
	if (status == SHMETA_OK) {
		items = calloc(count + 1, sizeof(json_t *));
		if (items == NULL)
			status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	}
	count = 0;
	for (unsigned int i = 0; status == SHMETA_OK && i < DDB_OBJECT_SHARDS; i++)
		json_array_foreach(q[i].items, k, item) items[count++] = item;
	if (status == SHMETA_OK && first)
		status = mark(s, items, count, list->now_ms, err);
	if (status == SHMETA_OK && count > 0)
		qsort(items, count, sizeof *items, by_name);
	for (size_t i = 0; status == SHMETA_OK && i < count && most > 0; i++) {
		struct shmeta_object_info info = {.slices = (uint64_t)ddb_number(items[i], "refs")};
		int64_t since = info.slices == 0 ? ddb_number(items[i], "since") : 0;
		bool marked = info.slices == 0 && ddb_has(items[i], "since");

		if (!is_behind(items[i], list) || (!list->all && (!marked || since > list->now_ms - list->grace_ms)))
			continue;
		(void)ddb_get_s(items[i], "b", &info.object.s3_bucket);
		(void)ddb_get_s(items[i], "k", &info.object.s3_key);
		info.object.size_bytes = (uint64_t)ddb_number(items[i], "z");
		info.object.created_at_ms = ddb_number(items[i], "cat");
		info.unreferenced_since_ms = since;
		status = emit(arg, &info);
		most--;
	}
	free(items);
	ddb_queries_free(q, DDB_OBJECT_SHARDS);
	free(key);
	return status;
}
