/* SPDX-License-Identifier: Apache-2.0
 * Queries, page by page (ddb_state.h). */
#include <stdlib.h>
#include <string.h>

#include "backends/dynamodb/ddb_state.h"

/* So long others wait for what is throttled, at most half of their time. */
enum { PATIENCE_MAX_MS = 2000 };

static void set_deadlines(struct ddb_state *s)
{
	uint64_t now_ns = ddb_now_ns(), patience_ns = PATIENCE_MAX_MS * UINT64_C(1000000);

	s->link.budget.excused_ns = 0;
	s->deadline_ns = now_ns + s->options.timeout_ms * UINT64_C(750000);
	s->settle_ns = now_ns + s->options.timeout_ms * UINT64_C(1000000);
	if (patience_ns > (s->deadline_ns - now_ns) / 2)
		patience_ns = (s->deadline_ns - now_ns) / 2;
	s->patience_ns = now_ns + patience_ns;
}

void ddb_begin(struct ddb_state *s, enum ddb_purpose purpose)
{
	set_deadlines(s);
	s->link.budget.purpose = purpose;
	s->link.patience_ns = 0;
	s->link.in_haste = false;
	s->link.answered = s->link.late = 0;
}

void ddb_go_on(struct ddb_state *s)
{
	set_deadlines(s);
	if (s->link.patience_ns != 0 && !s->link.in_haste)
		s->link.patience_ns = s->patience_ns;
}

static json_t *query_body(const struct ddb_state *s, const struct ddb_query *q)
{
	json_t *body = json_pack("{s:s, s:b, s:s, s:s, s:{s:{s:s}}}", "TableName", s->link.uri.table[q->table],
	                         "ConsistentRead", 1, "ReturnConsumedCapacity", "TOTAL", "KeyConditionExpression",
	                         q->from != NULL ? "pk = :p AND sk BETWEEN :a AND :b" : "pk = :p",
	                         "ExpressionAttributeValues", ":p", "S", q->pk);
	json_t *values = json_object_get(body, "ExpressionAttributeValues");

	if (q->from != NULL) {
		ddb_put_t(values, ":a", q->from);
		ddb_put_t(values, ":b", q->to);
	}
	if (q->newest > 0)
		(void)json_object_set_new(body, "ScanIndexForward", json_false());
	if (q->newest > 0 || q->oldest > 0)
		(void)json_object_set_new(body, "Limit", json_integer(q->newest > 0 ? q->newest : q->oldest));
	return body;
}

/* Take a page in. Is there another one? */
static bool take_page(struct ddb_query *q, struct ddb_call *call)
{
	json_t *last = json_object_get(call->answer, "LastEvaluatedKey");

	(void)json_array_extend(q->items, json_object_get(call->answer, "Items"));
	uint32_t most = q->newest > 0 ? q->newest : q->oldest;

	if (!json_is_object(last) || (most > 0 && json_array_size(q->items) >= most))
		return false;
	return json_object_set(call->body, "ExclusiveStartKey", last) == 0;
}

void ddb_was_in_vain(struct ddb_state *s)
{
	uint64_t now_ns = ddb_now_ns();

	if (now_ns >= s->hot_ns)
		s->hot_ns = now_ns + s->options.timeout_ms * UINT64_C(1000000);
}

enum shmeta_status ddb_queries(struct ddb_state *s, struct ddb_query *queries, size_t count, const char *doing,
                               struct backend_error *err)
{
	enum { AT_ONCE = 64 };
	struct ddb_call calls[AT_ONCE];
	struct ddb_query *of[AT_ONCE];
	enum shmeta_status status = SHMETA_OK;
	size_t next = 0, open = 0;

	for (size_t i = 0; i < count; i++)
		queries[i].items = json_array();
	while (status == SHMETA_OK && (next < count || open > 0)) {
		size_t left = 0;

		for (; open < AT_ONCE && next < count; open++, next++) {
			of[open] = &queries[next];
			calls[open] = (struct ddb_call){.target = "Query", .body = query_body(s, of[open])};
		}
		/* A partition may have any number of pages. */
		if (s->link.budget.purpose == DDB_FOR_LOAD)
			ddb_go_on(s);
		ddb_link_run(&s->link, calls, open, s->deadline_ns);
		s->reads += open;
		for (size_t i = 0; i < open; i++) {
			bool more = false;

			of[i]->throttled = ddb_call_kept_back(&s->link, &calls[i]);
			if (of[i]->throttled && of[i]->tolerant)
				(void)ddb_call_fail(&s->link, &calls[i], doing, err);
			else if (calls[i].outcome != DDB_DONE && status == SHMETA_OK)
				status = ddb_call_fail(&s->link, &calls[i], doing, err);
			else if (calls[i].outcome == DDB_DONE)
				more = take_page(of[i], &calls[i]);
			ddb_call_free(&calls[i]);
			if (more) {
				of[left] = of[i];
				calls[left++] = (struct ddb_call){.target = "Query", .body = calls[i].body};
			} else {
				json_decref(calls[i].body);
			}
		}
		open = left;
	}
	for (size_t i = 0; i < open; i++)
		json_decref(calls[i].body);
	return status;
}

void ddb_queries_free(struct ddb_query *queries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		json_decref(queries[i].items);
		queries[i].items = NULL;
	}
}
