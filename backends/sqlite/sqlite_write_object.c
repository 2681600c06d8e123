/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: objects and their slices. */
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

int64_t sqlite_write_find_object(struct writing *w, struct shmeta_str tenant, const struct shmeta_object *object,
                                 int64_t *ret_size, int64_t *ret_slices)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_OBJECT_GET);
	int64_t id = -1;

	if (q == NULL)
		return -1;
	bind_str(q, 1, tenant);
	bind_str(q, 2, object->s3_bucket);
	bind_str(q, 3, object->s3_key);
	if (sqlite_write_look(w, q)) {
		id = sqlite3_column_int64(q, 0);
		*ret_size = sqlite3_column_int64(q, 1);
		*ret_slices = sqlite3_column_int64(q, 2);
	}
	(void)sqlite3_reset(q);
	return id;
}

void sqlite_write_keep_object(struct writing *w, int64_t object)
{
	sqlite3_stmt *keep = sqlite_write_take(w, ST_W_OBJECT_KEEP);

	if (keep == NULL)
		return;
	bind_int(keep, 1, object);
	(void)sqlite_write_run(w, keep);
}

bool sqlite_write_put_slice(struct writing *w, const struct backend_op *op, int64_t object,
                            const struct shmeta_segment *s)
{
	sqlite3_stmt *put = sqlite_write_take(w, ST_W_SLICE_PUT);

	if (put == NULL)
		return false;
	bind_str(put, 1, op->tenant);
	bind_str(put, 2, op->op->name);
	bind_int(put, 3, op->op->partition_id);
	bind_int(put, 4, (int64_t)s->base_offset);
	bind_int(put, 5, object);
	bind_int(put, 6, (int64_t)s->position);
	if (!sqlite_write_run_change(w, put))
		return false;
	w->made_slices = true;
	return true;
}

void sqlite_write_commit_object(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_object *object = &op->op->u.object;
	sqlite3_stmt *put = sqlite_write_take(w, ST_W_OBJECT_PUT);
	int64_t size = 0, slices = 0;

	w->object = -1;
	w->object_op = op->op;
	memset(&w->object_refused, 0, sizeof w->object_refused);
	if (put != NULL && sqlite_write_has_own(w, r)) {
		w->object = sqlite_write_find_object(w, op->tenant, object, &size, &slices);
		if (w->failed != SQLITE_OK)
			return;
		/* A retry: its slices say for themselves whether they are there. */
		if (w->object >= 0 && size == (int64_t)object->size_bytes) {
			sqlite_write_keep_object(w, w->object); /* slices may follow */
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
			if (sqlite_write_run_change(w, put))
				w->object = sqlite3_last_insert_rowid(w->state->db);
		}
	}
	if (r->status != SHMETA_OK)
		w->object_refused = *r;
}

void sqlite_write_add_slice(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	struct shmeta_segment slice = op->op->u.segment;

	if (w->object_op != NULL && w->object < 0) {
		*r = w->object_refused;
		return;
	}
	if (refuse_slice(w->object_op != NULL ? &w->object_op->u.object.size_bytes : NULL, &slice, r))
		return;
	slice.s3_bucket = w->object_op->u.object.s3_bucket;
	slice.s3_key = w->object_op->u.object.s3_key;
	sqlite_write_add_segment(w, op, &slice, r);
	if (r->status != SHMETA_OK || w->failed != SQLITE_OK || !sqlite_write_put_slice(w, op, w->object, &slice))
		return;
	sqlite_write_gather_watermark(w, op, (int64_t)slice.end_offset + 1);
}

void sqlite_write_confirm_deleted(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_OBJECT_DELETE);
	int64_t size = 0, slices = 0, id;

	if (q == NULL || !sqlite_write_has_own(w, r))
		return;
	id = sqlite_write_find_object(w, op->tenant, &op->op->u.object, &size, &slices);
	if (id < 0 || w->failed != SQLITE_OK)
		return; /* gone already: confirmed */
	if (slices > 0) {
		refuse_object_used((uint64_t)slices, r);
		return;
	}
	bind_int(q, 2, id);
	(void)sqlite_write_run(w, q);
}
