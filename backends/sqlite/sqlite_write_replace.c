/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: segments in place of others. */
#include <stdlib.h>

#include "backends/replace.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

/* Rows that are there; each one's strings are one allocation, at its id. */
struct there {
	struct shmeta_segment *rows;
	size_t count, capacity;
};

static void there_free(struct there *there)
{
	for (size_t i = 0; i < there->count; i++)
		free((char *)there->rows[i].id.data);
	free(there->rows);
}

static bool keep_row(struct there *there, sqlite3_stmt *q)
{
	const struct shmeta_str id = column_str(q, 7), bucket = column_str(q, 8), key = column_str(q, 9);
	struct shmeta_segment row = {.base_offset = (uint64_t)sqlite3_column_int64(q, 0),
	                             .end_offset = (uint64_t)sqlite3_column_int64(q, 1),
	                             .record_count = (uint32_t)sqlite3_column_int64(q, 2),
	                             .size_bytes = (uint64_t)sqlite3_column_int64(q, 3),
	                             .created_at_ms = sqlite3_column_int64(q, 4),
	                             .min_timestamp_ms = sqlite3_column_int64(q, 5),
	                             .max_timestamp_ms = sqlite3_column_int64(q, 6),
	                             .position = (uint64_t)sqlite3_column_int64(q, 10)};
	char *text;

	if (there->count > 0 && there->rows[there->count - 1].base_offset == row.base_offset)
		return true;
	if (there->count == there->capacity) {
		size_t capacity = there->capacity > 0 ? 2 * there->capacity : 64;
		struct shmeta_segment *grown = reallocarray(there->rows, capacity, sizeof *grown);

		if (grown == NULL)
			return false;
		there->rows = grown;
		there->capacity = capacity;
	}
	text = malloc(id.bytes + bucket.bytes + key.bytes + 1);
	if (text == NULL)
		return false;
	if (id.bytes > 0)
		memcpy(text, id.data, id.bytes);
	if (bucket.bytes > 0)
		memcpy(text + id.bytes, bucket.data, bucket.bytes);
	if (key.bytes > 0)
		memcpy(text + id.bytes + bucket.bytes, key.data, key.bytes);
	row.id = (struct shmeta_str){text, id.bytes};
	row.s3_bucket = (struct shmeta_str){text + id.bytes, bucket.bytes};
	row.s3_key = (struct shmeta_str){text + id.bytes + bucket.bytes, key.bytes};
	there->rows[there->count++] = row;
	return true;
}

static void bind_place(sqlite3_stmt *q, const struct backend_op *op)
{
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
}

/* What is there now, judged. */
static enum replace_verdict judge(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_replace *p = &op->op->u.replace;
	sqlite3_stmt *in = sqlite_write_take(w, ST_W_SEGMENTS_IN), *over = sqlite_write_take(w, ST_W_SEGMENT_REACHING);
	enum replace_verdict verdict = REPLACE_REFUSED;
	struct there there = {.rows = NULL};
	bool reaching = false;
	int rc;

	if (in == NULL || over == NULL)
		return REPLACE_REFUSED;
	bind_place(in, op);
	bind_int(in, 4, (int64_t)p->old_segments[0].base_offset);
	bind_int(in, 5, (int64_t)replace_end(p));
	w->state->counters.queries++;
	while ((rc = sqlite3_step(in)) == SQLITE_ROW && keep_row(&there, in))
		;
	(void)sqlite3_reset(in);
	if (rc == SQLITE_ROW)
		rc = SQLITE_NOMEM;
	if (rc == SQLITE_DONE && p->new_count > 0) {
		bind_place(over, op);
		bind_int(over, 4, (int64_t)p->old_segments[0].base_offset);
		bind_int(over, 5, (int64_t)p->new_segments[0].base_offset);
		bind_int(over, 6, REPLACE_BEFORE);
		reaching = sqlite_write_look(w, over);
		(void)sqlite3_reset(over);
	}
	if (rc != SQLITE_DONE)
		sqlite_write_fail(w, rc);
	else if (w->failed == SQLITE_OK)
		verdict = replace_judge(op->op, there.rows, there.count, reaching, w->state->shape.timestamps, r);
	there_free(&there);
	return verdict;
}

/* false: an epoch of a former compaction is beyond this one's. */
static bool passes_epoch(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const uint64_t given = op->op->u.replace.compaction_epoch;
	sqlite3_stmt *get, *put;
	uint64_t highest = 0;

	if (given == 0)
		return true;
	get = sqlite_write_take(w, ST_W_COMPACTION_GET);
	put = sqlite_write_take(w, ST_W_COMPACTION_PUT);
	if (get == NULL || put == NULL || !sqlite_write_has_own(w, r))
		return false;
	bind_place(get, op);
	if (sqlite_write_look(w, get))
		highest = (uint64_t)sqlite3_column_int64(get, 0);
	(void)sqlite3_reset(get);
	if (given < highest) {
		replace_refuse_epoch(given, highest, r);
		return false;
	}
	/* Taken back with the operation when that is refused. */
	bind_place(put, op);
	bind_int(put, 4, (int64_t)given);
	return w->failed == SQLITE_OK && sqlite_write_run_change(w, put);
}

/* Is there a new one at the base, in the place of the old one? */
static const struct shmeta_segment *successor(const struct shmeta_replace *p, uint64_t base)
{
	for (uint32_t i = 0; i < p->new_count && p->new_segments[i].base_offset <= base; i++)
		if (p->new_segments[i].base_offset == base)
			return &p->new_segments[i];
	return NULL;
}

static void drop_slice(struct writing *w, const struct backend_op *op, uint64_t base)
{
	sqlite3_stmt *q = w->state->shape.own ? sqlite_write_take(w, ST_W_SLICE_DELETE) : NULL;

	if (q == NULL)
		return;
	bind_place(q, op);
	bind_int(q, 4, (int64_t)base);
	(void)sqlite_write_run(w, q);
}

static void remove_one(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_SEGMENT_DELETE);

	if (q == NULL)
		return;
	bind_place(q, op);
	bind_int(q, 4, (int64_t)s->base_offset);
	bind_str(q, 5, s->id);
	(void)sqlite_write_run_change(w, q);
}

/* In the place of the old one at its base, or of none. */
static void put_one(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s, bool in_place,
                    struct shmeta_result *r)
{
	struct shmeta_op add = *op->op;
	const struct backend_op one = {.tenant = op->tenant, .op = &add};
	sqlite3_stmt *q;

	if (in_place) {
		q = sqlite_write_take(w, ST_W_SEGMENT_UPDATE);
		if (q == NULL)
			return;
		sqlite_write_bind_segment(w, q, op, s);
		(void)sqlite_write_run_change(w, q);
		return;
	}
	add.type = SHMETA_OP_ADD_SEGMENT;
	add.u.segment = *s;
	sqlite_write_add_segment(w, &one, s, r);
}

/* A new segment, after the old ones are gone. */
static void add_one(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                    struct shmeta_result *r)
{
	const struct shmeta_replace *p = &op->op->u.replace;
	const struct shmeta_object named = {.s3_bucket = s->s3_bucket, .s3_key = s->s3_key};
	bool in_place = false;
	int64_t size = 0, slices = 0, object = -1;
	uint64_t bytes;

	for (uint32_t i = 0; !in_place && i < p->old_count && p->old_segments[i].base_offset <= s->base_offset; i++)
		in_place = p->old_segments[i].base_offset == s->base_offset;
	if (w->state->shape.own)
		object = sqlite_write_find_object(w, op->tenant, &named, &size, &slices);
	bytes = (uint64_t)size;
	if (w->failed != SQLITE_OK || replace_refuse_new(p, s, object >= 0 ? &bytes : NULL, r))
		return;
	put_one(w, op, s, in_place, r);
	/* Nothing but its id can be another's. */
	if (r->status == SHMETA_ERR_CONFLICT || r->status == SHMETA_ERR_ALREADY_EXISTS)
		replace_refuse_id(s->id, r);
	if (object < 0 || r->status != SHMETA_OK || w->failed != SQLITE_OK)
		return;
	sqlite_write_keep_object(w, object);
	(void)sqlite_write_put_slice(w, op, object, s);
}

void sqlite_write_replace(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_replace *p = &op->op->u.replace;
	const bool timestamps = w->state->shape.timestamps;

	if (!sqlite_write_has_partition(w, op, r) || !sqlite_write_passes_fence(w, op, r) || !passes_epoch(w, op, r) ||
	    judge(w, op, r) != REPLACE_GOES)
		return;
	for (uint32_t i = 0; i < p->old_count && r->status == SHMETA_OK && w->failed == SQLITE_OK; i++) {
		const struct shmeta_segment *s = &p->old_segments[i];

		if (replace_keeps(p, s, timestamps))
			continue;
		if (successor(p, s->base_offset) == NULL)
			remove_one(w, op, s);
		drop_slice(w, op, s->base_offset);
	}
	for (uint32_t i = 0; i < p->new_count && r->status == SHMETA_OK && w->failed == SQLITE_OK; i++)
		if (!replace_keeps(p, &p->new_segments[i], timestamps))
			add_one(w, op, &p->new_segments[i], r);
	if (r->status == SHMETA_OK)
		r->count = replace_leaving(p, timestamps);
	memset(&r->existing, 0, sizeof r->existing);
}
