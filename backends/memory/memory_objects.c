/* SPDX-License-Identifier: Apache-2.0
 * The in-memory engine: objects and what refers to them, listed for whoever deletes or exports
 * them. */
#include <stdlib.h>
#include <string.h>

#include "backends/memory/memory_own.h"
#include "backends/memory/memory_side.h"
#include "backends/rows.h"
#include "base/str.h"

size_t memory_slices_of(struct memory_db *db, const struct object *o)
{
	size_t alive = 0;

	for (size_t i = 0; i < o->slice_count; i++) {
		struct shmeta_segment s;

		alive += memory_find_segment(db, o->tenant, o->slices[i].topic, o->slices[i].partition_id,
		                             o->slices[i].base, &s) &&
		         str_equal(s.s3_key, rows_str(o->key));
	}
	return alive;
}

struct object *memory_find_object(struct memory_db *db, const char *tenant, const struct shmeta_object *object)
{
	for (size_t i = 0; db->side != NULL && i < db->side->object_count; i++) {
		struct object *o = &db->side->objects[i];

		if (!o->gone && strcmp(o->tenant, tenant) == 0 && str_equal(rows_str(o->bucket), object->s3_bucket) &&
		    str_equal(rows_str(o->key), object->s3_key))
			return o;
	}
	return NULL;
}

static int compare_objects(const void *a, const void *b)
{
	const struct object *x = *(struct object *const *)a, *y = *(struct object *const *)b;
	int order = strcmp(x->bucket, y->bucket);

	return order != 0 ? order : strcmp(x->key, y->key);
}

static bool is_behind(const struct object *o, const struct backend_object_list *list)
{
	int order = rows_compare(rows_str(o->bucket), list->after_bucket);

	return order > 0 || (order == 0 && rows_compare(rows_str(o->key), list->after_key) > 0);
}

enum shmeta_status memory_objects(void *state, const struct backend_object_list *list, backend_object_fn *emit,
                                  void *arg, struct backend_error *err)
{
	struct memory_db *db = memory_db_of(state);
	const struct memory_side *m = db->side;
	size_t count = m != NULL ? m->object_count : 0, here = 0, most = list->most;
	struct object **row = calloc(count + 1, sizeof(struct object *));
	bool first = list->after_bucket.bytes == 0 && list->after_key.bytes == 0;
	enum shmeta_status status = SHMETA_OK;

	if (memory_is_started(state, err)) {
		free(row);
		return SHMETA_ERR_SOURCE;
	}
	if (row == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "memory: out of memory");
	for (size_t i = 0; i < count; i++) {
		struct object *o = &m->objects[i];

		if (o->gone || !str_equal(rows_str(o->tenant), list->tenant))
			continue;
		if (first && o->unreferenced_ms < 0 && memory_slices_of(db, o) == 0)
			o->unreferenced_ms = list->now_ms;
		if (is_behind(o, list))
			row[here++] = o;
	}
	qsort(row, here, sizeof *row, compare_objects);
	for (size_t i = 0; status == SHMETA_OK && i < here && most > 0; i++) {
		const struct object *o = row[i];
		struct shmeta_object_info shown = {
			.object = {.s3_bucket = rows_str(o->bucket),
		                   .s3_key = rows_str(o->key),
		                   .size_bytes = o->size_bytes,
		                   .created_at_ms = o->created_at_ms},
			.slices = memory_slices_of(db, row[i]),
		};

		if (shown.slices == 0 && o->unreferenced_ms >= 0)
			shown.unreferenced_since_ms = o->unreferenced_ms;
		if (!list->all &&
		    (shown.slices > 0 || o->unreferenced_ms < 0 || o->unreferenced_ms > list->now_ms - list->grace_ms))
			continue;
		status = emit(arg, &shown);
		most--;
	}
	free(row);
	return status;
}

enum shmeta_status memory_extras(void *state, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                                 struct backend_error *err)
{
	struct memory_db *db = memory_db_of(state);
	const struct memory_side *m = db->side;
	enum shmeta_status status = SHMETA_OK;

	(void)err;
	for (size_t i = 0; status == SHMETA_OK && kind == BACKEND_ROW_OBJECT && m != NULL && i < m->object_count; i++) {
		const struct object *o = &m->objects[i];
		struct backend_row row = {.kind = kind,
		                          .tenant = rows_str(o->tenant),
		                          .since_ms = o->unreferenced_ms < 0 ? 0 : o->unreferenced_ms,
		                          .u.object = {.s3_bucket = rows_str(o->bucket),
		                                       .s3_key = rows_str(o->key),
		                                       .size_bytes = o->size_bytes,
		                                       .created_at_ms = o->created_at_ms}};

		if (!o->gone)
			status = emit(arg, &row);
	}
	for (size_t i = 0; status == SHMETA_OK && kind == BACKEND_ROW_EPOCH && m != NULL && i < m->epoch_count; i++) {
		const struct epoch *e = &m->epochs[i];
		struct backend_row row = {.kind = kind,
		                          .tenant = rows_str(e->tenant),
		                          .topic = rows_str(e->topic),
		                          .partition_id = e->partition_id,
		                          .epoch = e->epoch};

		if (e->epoch > 0)
			status = emit(arg, &row);
	}
	return status;
}
