/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the list of objects. */
#include <string.h>

#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_feed.h"
#include "backends/sqlite/sqlite_objects.h"
#include "backends/sqlite/sqlite_write.h"

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
			return sqlite_fail_question(state, rc, "marking the objects of", err);
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
		status = sqlite_fail_question(state, rc, "listing the objects of", err);
	(void)sqlite3_reset(q);
	return status;
}
