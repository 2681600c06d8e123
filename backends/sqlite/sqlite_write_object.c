/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: objects and their slices. */
#include "backends/sqlite/sqlite_write.h"

/* A slice whose segment is gone holds its object no longer. */
void writing_drop_slices(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                         struct shmeta_str topic, uint32_t partition, uint64_t before)
{
	sqlite3_stmt *q = w->state->shape.own && !w->state->shape.triggers ? writing_take(w, which) : NULL;

	if (q == NULL || w->failed != SQLITE_OK)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	bind_int(q, 3, partition);
	bind_int(q, 4, (int64_t)before);
	(void)writing_run(w, q);
}

/* The object's row: its id, size and slices. -1: there is none. */
static int64_t find_object(struct writing *w, struct shmeta_str tenant, const struct shmeta_object *object,
                           int64_t *ret_size, int64_t *ret_slices)
{
	sqlite3_stmt *q = writing_take(w, ST_W_OBJECT_GET);
	int64_t id = -1;

	if (q == NULL)
		return -1;
	bind_str(q, 1, tenant);
	bind_str(q, 2, object->s3_bucket);
	bind_str(q, 3, object->s3_key);
	if (writing_look(w, q)) {
		id = sqlite3_column_int64(q, 0);
		*ret_size = sqlite3_column_int64(q, 1);
		*ret_slices = sqlite3_column_int64(q, 2);
	}
	(void)sqlite3_reset(q);
	return id;
}

void writing_commit_object(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_object *object = &op->op->u.object;
	sqlite3_stmt *put = writing_take(w, ST_W_OBJECT_PUT);
	int64_t size = 0, slices = 0;

	w->object = -1;
	w->object_op = op->op;
	memset(&w->object_refused, 0, sizeof w->object_refused);
	if (put != NULL && writing_has_own(w, r)) {
		w->object = find_object(w, op->tenant, object, &size, &slices);
		if (w->failed != SQLITE_OK)
			return;
		/* A retry: its slices say for themselves whether they are there. */
		if (w->object >= 0 && size == (int64_t)object->size_bytes) {
			sqlite3_stmt *keep = writing_take(w, ST_W_OBJECT_KEEP);

			/* Slices may follow: whoever listed it as deletable must see it without them anew. */
			if (keep != NULL) {
				bind_int(keep, 1, w->object);
				(void)writing_run(w, keep);
			}
			refuse_object(object, (uint64_t)size, (uint64_t)slices, r);
			return;
		}
		if (w->object >= 0) {
			refuse_object(object, (uint64_t)size, (uint64_t)slices, r);
			w->object = -1;
		} else {
			bind_str(put, 1, op->tenant);
			bind_str(put, 2, object->s3_bucket);
			bind_str(put, 3, object->s3_key);
			bind_int(put, 4, (int64_t)object->size_bytes);
			bind_int(put, 5, object->created_at_ms);
			if (writing_run_change(w, put))
				w->object = sqlite3_last_insert_rowid(w->state->db);
		}
	}
	if (r->status != SHMETA_OK)
		w->object_refused = *r;
}

void writing_add_slice(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct shmeta_segment slice = op->op->u.segment;
	sqlite3_stmt *put = writing_take(w, ST_W_SLICE_PUT);

	if (w->object_op != NULL && w->object < 0) {
		*r = w->object_refused;
		return;
	}
	if (refuse_slice(w->object_op != NULL ? &w->object_op->u.object.size_bytes : NULL, &slice, r))
		return;
	slice.s3_bucket = w->object_op->u.object.s3_bucket;
	slice.s3_key = w->object_op->u.object.s3_key;
	writing_add_segment(w, op, &slice, r);
	if (put == NULL || r->status != SHMETA_OK || w->failed != SQLITE_OK)
		return;
	bind_str(put, 1, op->tenant);
	bind_str(put, 2, op->op->name);
	bind_int(put, 3, op->op->partition_id);
	bind_int(put, 4, (int64_t)slice.base_offset);
	bind_int(put, 5, w->object);
	bind_int(put, 6, (int64_t)slice.position);
	if (!writing_run_change(w, put))
		return;
	w->made_slices = true;
	writing_gather_watermark(w, op, (int64_t)slice.end_offset + 1);
}

void writing_confirm_deleted(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = writing_take(w, ST_W_OBJECT_DELETE);
	int64_t size = 0, slices = 0, id;

	if (q == NULL || !writing_has_own(w, r))
		return;
	id = find_object(w, op->tenant, &op->op->u.object, &size, &slices);
	if (id < 0 || w->failed != SQLITE_OK)
		return; /* gone already: confirmed */
	if (slices > 0) {
		refuse_object_used((uint64_t)slices, r);
		return;
	}
	bind_int(q, 2, id);
	(void)writing_run(w, q);
}

enum shmeta_status sqlite_list_objects(void *data, const struct backend_object_list *list, backend_object_fn *emit,
                                       void *arg, struct backend_error *err)
{
	struct sqlite_state *state = data;
	enum shmeta_status status = sqlite_ensure_told(state, err);
	sqlite3_stmt *q;
	int rc;

	if (status != SHMETA_OK)
		return status;
	if (!state->shape.own)
		return backend_fail(err, SHMETA_ERR_UNSUPPORTED,
		                    "sqlite: %s has none of shmeta's own tables, so it keeps no objects", state->path);
	if (!state->read_only && list->after_bucket.bytes == 0 && list->after_key.bytes == 0) {
		q = sqlite_prepare(state, ST_W_OBJECTS_MARK, err, &status);
		if (q == NULL)
			return status;
		bind_str(q, 1, list->tenant);
		bind_int(q, 2, list->now_ms);
		state->counters.queries++;
		rc = sqlite3_step(q);
		(void)sqlite3_reset(q);
		if (rc != SQLITE_DONE)
			return sqlite_fail_write(state, rc, "marking the objects of", err);
	}
	q = sqlite_prepare(state, ST_W_OBJECTS, err, &status);
	if (q == NULL)
		return status;
	bind_str(q, 1, list->tenant);
	bind_str(q, 2, list->after_bucket);
	bind_str(q, 3, list->after_key);
	bind_int(q, 4, list->all != 0);
	bind_int(q, 5, list->now_ms - list->grace_ms);
	bind_int(q, 6, list->most > INT64_MAX ? INT64_MAX : (int64_t)list->most);
	state->counters.queries++;
	while (status == SHMETA_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
		const struct shmeta_object_info info = {.object = {.s3_bucket = column_str(q, 0),
		                                                   .s3_key = column_str(q, 1),
		                                                   .size_bytes = (uint64_t)sqlite3_column_int64(q, 2),
		                                                   .created_at_ms = sqlite3_column_int64(q, 3)},
		                                        .slices = (uint64_t)sqlite3_column_int64(q, 4),
		                                        .unreferenced_since_ms = sqlite3_column_int64(q, 5)};

		state->counters.rows++;
		status = emit(arg, &info);
	}
	if (status == SHMETA_OK && rc != SQLITE_DONE)
		status = sqlite_fail(state, rc, "listing the objects of", err);
	(void)sqlite3_reset(q);
	return status;
}
