/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: statements of operations on their way: the lists that they are given, and which
 * item each row of an answer is about. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_write_kinds.h"
#include "backends/replace.h"

/* ---- lists ---- */

enum { TYPE_text = PG_ELEMENT_TEXT, TYPE_int8 = PG_ELEMENT_INT8 };
static const enum pg_element elements[] = {
#define F(name, type, column) [FIELD_##name] = (enum pg_element)TYPE_##type,
	WRITE_FIELDS(F)
#undef F
};

static void put_text_or_null(struct pg_array *array, bool there, struct shmeta_str text)
{
	if (there)
		pg_array_text(array, text);
	else
		pg_array_null(array);
}

/* s: the segment of the row. */
static void put(const struct writing *w, const struct write_item *item, const struct shmeta_segment *s,
                enum write_field field, struct pg_array *array)
{
	const struct shmeta_op *op = item->op->op;
	bool create = item->kind == KIND_TOPIC_CREATE, agent = item->kind == KIND_AGENT_PUT;
	bool object = item->kind == KIND_OBJECT || item->kind == KIND_CONFIRM;
	const struct shmeta_object *o = object ? &op->u.object : item->object != NULL ? &item->object->u.object : NULL;

	switch (field) {
	case FIELD_TENANT:
		pg_array_text(array, item->op->tenant);
		break;
	case FIELD_TOPIC:
		pg_array_text(array, create ? op->u.topic.name : op->name);
		break;
	case FIELD_PID:
		pg_array_int(array, op->partition_id);
		break;
	case FIELD_PARTS:
		pg_array_int(array, op->u.topic.partition_count);
		break;
	case FIELD_RETENTION:
		if (op->u.topic.has_retention)
			pg_array_int(array, op->u.topic.retention_ms);
		else
			pg_array_null(array);
		break;
	case FIELD_CONFIG:
		pg_array_map(array, &op->u.topic.config);
		break;
	case FIELD_POLICY:
		put_text_or_null(array, op->u.topic.cleanup_policy.bytes > 0, op->u.topic.cleanup_policy);
		break;
	case FIELD_OFFSET:
		pg_array_int(array, item->kind == KIND_OFFSET ? (int64_t)op->u.committed.committed_offset
		                                              : (int64_t)op->offset);
		break;
	case FIELD_ID:
		pg_array_text(array, s->id);
		break;
	case FIELD_BASE:
		pg_array_int(array, (int64_t)s->base_offset);
		break;
	case FIELD_LAST:
		pg_array_int(array, (int64_t)s->end_offset);
		break;
	case FIELD_RECORDS:
		pg_array_int(array, s->record_count);
		break;
	case FIELD_SIZE:
		pg_array_int(array, (int64_t)(object ? o->size_bytes : s->size_bytes));
		break;
	case FIELD_BUCKET:
		pg_array_text(array, o != NULL ? o->s3_bucket : s->s3_bucket);
		break;
	case FIELD_KEY:
		pg_array_text(array, o != NULL ? o->s3_key : s->s3_key);
		break;
	case FIELD_CREATED:
		pg_array_int(array, object ? o->created_at_ms : s->created_at_ms);
		break;
	case FIELD_OLDEST:
		pg_array_int(array, s->min_timestamp_ms);
		break;
	case FIELD_NEWEST:
		pg_array_int(array, s->max_timestamp_ms);
		break;
	case FIELD_FENCE:
		pg_array_text(array, op->fence.agent_id);
		break;
	case FIELD_EPOCH:
		pg_array_int(array, (int64_t)op->fence.epoch);
		break;
	case FIELD_GROUP:
		pg_array_text(array, item->kind == KIND_OFFSET ? op->u.committed.group_id : op->group_id);
		break;
	case FIELD_NOTE:
		put_text_or_null(array, op->u.committed.has_metadata, op->u.committed.metadata);
		break;
	case FIELD_AGENT:
		pg_array_text(array, agent ? op->u.agent.agent_id : op->agent_id);
		break;
	case FIELD_OTHER:
		pg_array_text(array, op->to_agent_id);
		break;
	case FIELD_ADDRESS:
		pg_array_text(array, op->u.agent.address);
		break;
	case FIELD_ZONE:
		pg_array_text(array, op->u.agent.availability_zone);
		break;
	case FIELD_AGENT_GROUP:
		pg_array_text(array, op->u.agent.agent_group);
		break;
	case FIELD_BEAT:
		pg_array_int(array, pg_clock_moved(op->u.agent.last_heartbeat_ms, w->distance_ms));
		break;
	case FIELD_STARTED:
		pg_array_int(array, op->u.agent.started_at_ms);
		break;
	case FIELD_ABOUT:
		pg_array_map(array, &op->u.agent.metadata);
		break;
	case FIELD_LASTS:
		pg_array_int(array, op->duration_ms);
		break;
	case FIELD_TRANSFER:
		pg_array_int(array, (int64_t)op->transfer_id);
		break;
	case FIELD_POSITION:
		pg_array_int(array, (int64_t)s->position);
		break;
	case FIELD_WHOLE:
		pg_array_int(array, o != NULL ? (int64_t)o->size_bytes : 0);
		break;
	case FIELD_RUN:
		pg_array_int(array, item->run);
		break;
	case FIELD_TOP:
		pg_array_int(array, item->top);
		break;
	case FIELD_FRESH:
		pg_array_int(array, s < op->u.replace.old_segments ||
		                            s >= op->u.replace.old_segments + op->u.replace.old_count);
		break;
	case FIELD_KEPT:
		pg_array_int(array, replace_keeps(&op->u.replace, s, w->state->shape.timestamps));
		break;
	case FIELD_COMPACTION:
		pg_array_int(array, (int64_t)op->u.replace.compaction_epoch);
		break;
	case FIELD_END:
		break;
	}
}

static void put_segments(const struct writing *w, const struct write_item *item, enum write_field field,
                         struct pg_array *array)
{
	const struct shmeta_replace *r = &item->op->op->u.replace;

	for (uint32_t i = 0; i < r->old_count; i++)
		put(w, item, &r->old_segments[i], field, array);
	for (uint32_t i = 0; i < r->new_count; i++)
		put(w, item, &r->new_segments[i], field, array);
}

/* ---- sending and taking ---- */

/* Neighbours of one place under one fence are a run; its first item knows how far it goes. */
static void count_runs(struct write_item *items, size_t count)
{
	struct write_item *first = items;
	uint32_t run = 1;

	for (size_t i = 0; i < count; i++) {
		const struct shmeta_op *op = items[i].op->op, *former = first->op->op;
		int64_t last = (int64_t)op->u.segment.end_offset, top = last < INT64_MAX ? last + 1 : last;

		if (!pg_write_same_place(first->op, items[i].op) || op->fence.epoch != former->fence.epoch ||
		    rows_compare(op->fence.agent_id, former->fence.agent_id) != 0) {
			first = &items[i];
			run++;
		}
		items[i].run = run;
		items[i].top = 0;
		if (first->top < top)
			first->top = top;
	}
}

static void fill(struct writing *w, const struct write_item *items, size_t count, const enum write_field *list,
                 bool by_run, struct pg_array *arrays, struct pg_params *params)
{
	for (size_t at = 0; list[at] != FIELD_END; at++) {
		pg_array_start(&arrays[at], elements[list[at]]);
		for (size_t i = 0; i < count; i++)
			if (pg_write_kinds[items[i].kind].segments)
				put_segments(w, &items[i], list[at], &arrays[at]);
			else if (!by_run || i == 0 || items[i].run != items[i - 1].run)
				put(w, &items[i], &items[i].op->op->u.segment, list[at], &arrays[at]);
		pg_param_array(params, &arrays[at]);
	}
}

enum shmeta_status pg_write_send(struct writing *w, struct write_item *items, size_t count, struct backend_error *err)
{
	const struct write_kind_info *kind = &pg_write_kinds[items->kind];
	const enum pg_statement look = pg_write_looks_back(w, (enum write_kind)items->kind);
	enum shmeta_status status;
	struct pg_params params;

	pg_params_clear(&params);
	if (kind->runs[0] != FIELD_END)
		count_runs(items, count);
	fill(w, items, count, kind->fields, false, w->arrays, &params);
	fill(w, items, count, kind->runs, true, &w->arrays[params.count], &params);
	if (strstr(kind->sql, "@now") != NULL ||
	    (strstr(kind->sql, "@clock") != NULL && strstr(pg_clock(w->state), "@now") != NULL))
		pg_param_int(&params, w->now_ms);
	status = pg_write_send_beside(w, items, count, WRITE_BEFORE, &params, err);
	if (status == SHMETA_OK)
		status = pg_send(w->state, w->conn, pg_write_statements[items->kind].statement, &params, err);
	if (status == SHMETA_OK && look != PG_STATEMENTS)
		status = pg_send(w->state, w->conn, look, &params, err);
	return status == SHMETA_OK ? pg_write_send_beside(w, items, count, WRITE_BEHIND, &params, err) : status;
}

/* The first item of a run, or where it would be. */
static size_t run_at(const struct write_item *items, size_t count, int64_t run)
{
	size_t low = 0;

	while (low < count) {
		size_t middle = low + (count - low) / 2;

		if (items[middle].run < run)
			low = middle + 1;
		else
			count = middle;
	}
	return low;
}

static bool answer_runs(struct writing *w, struct write_item *items, size_t count, const PGresult *result)
{
	size_t refused = 0;
	uint64_t written = 0;

	for (int row = 0; row < PQntuples(result); row++) {
		int64_t run = pg_int(result, row, 0);

		if (run == 0)
			written = (uint64_t)pg_int(result, row, 4);
		for (size_t i = run_at(items, count, run); run > 0 && i < count && items[i].run == run; i++, refused++)
			pg_write_answer_row(w, &items[i], result, row);
	}
	return written + refused == count;
}

bool pg_write_answer(struct writing *w, struct write_item *items, size_t count, const PGresult *result)
{
	const struct write_kind_info *kind = &pg_write_kinds[items->kind];

	if (kind->runs[0] != FIELD_END)
		return answer_runs(w, items, count, result);
	for (int row = 0; row < PQntuples(result); row++) {
		int64_t n = pg_int(result, row, 0);

		if (n >= 1 && (uint64_t)n <= count)
			pg_write_answer_row(w, &items[n - 1], result, row);
	}
	return true;
}
