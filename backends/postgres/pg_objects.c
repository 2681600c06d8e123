/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the list of objects. */
#include "backends/postgres/pg_objects.h"
#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_reading.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"

enum shmeta_status pg_list_objects(void *data, const struct backend_object_list *list, backend_object_fn *emit,
                                   void *arg, struct backend_error *err)
{
	struct pg_state *state = data;
	bool first = list->after_bucket.bytes == 0 && list->after_key.bytes == 0;
	struct pg_params params;
	PGresult *result = NULL;
	enum shmeta_status status;
	int64_t now_ms;

	status = pg_ensure_told(state, "listing the objects of", err);
	if (status != SHMETA_OK)
		return status;
	if (!state->shape.own)
		return backend_fail(err, SHMETA_ERR_UNSUPPORTED,
		                    "%s: the database has none of shmeta's own tables, so it keeps no objects",
		                    state->dialect->engine);
	/* One host marks, another may list: by one clock. */
	now_ms = pg_clock_moved(list->now_ms, pg_clock_distance(state, list->now_ms));
	if (first && !state->read_only) {
		pg_params_clear(&params);
		pg_param_text(&params, list->tenant);
		pg_param_int(&params, now_ms);
		status = pg_query(state, &state->primary, PG_OBJECTS_MARK, &params, NULL, err);
		/* It waited for whoever added a slice at that time, and did not see it. */
		if (status == SHMETA_OK)
			pg_params_clear(&params);
		if (status == SHMETA_OK)
			pg_param_text(&params, list->tenant);
		if (status == SHMETA_OK)
			status = pg_query(state, &state->primary, PG_OBJECTS_UNMARK, &params, NULL, err);
	}
	if (status == SHMETA_OK) {
		pg_params_clear(&params);
		pg_param_text(&params, list->tenant);
		pg_param_text(&params, list->after_bucket);
		pg_param_text(&params, list->after_key);
		pg_param_bool(&params, list->all != 0);
		pg_param_int(&params, now_ms - list->grace_ms);
		pg_param_int(&params, list->most < INT32_MAX ? (int64_t)list->most : INT32_MAX);
		status = pg_query(state, &state->primary, PG_OBJECTS, &params, &result, err);
	}
	status = pg_question_failed(&state->primary, status, err);
	for (int row = 0; status == SHMETA_OK && row < PQntuples(result); row++) {
		struct shmeta_object_info info = {.object = {.s3_bucket = pg_text(result, row, 0),
		                                             .s3_key = pg_text(result, row, 1),
		                                             .size_bytes = (uint64_t)pg_int(result, row, 2),
		                                             .created_at_ms = pg_int(result, row, 3)},
		                                  .slices = (uint64_t)pg_int(result, row, 4),
		                                  .unreferenced_since_ms = pg_int(result, row, 5)};

		state->counters.rows++;
		status = emit(arg, &info);
	}
	PQclear(result);
	return status;
}

static const struct pg_text texts[] = {
	{PG_OBJECTS_MARK,
         "{!w:SELECT 0}{w:UPDATE shmeta_objects b SET unreferenced_at = $2::int8 WHERE b.tenant = $1::text AND "
         "b.unreferenced_at IS NULL AND NOT EXISTS(SELECT 1 FROM shmeta_slices x WHERE x.object_id = b.object_id)}"},
	{PG_OBJECTS_UNMARK,
         "{!w:SELECT 0}{w:UPDATE shmeta_objects b SET unreferenced_at = NULL WHERE b.tenant = $1::text AND "
         "b.unreferenced_at IS NOT NULL AND EXISTS(SELECT 1 FROM shmeta_slices x WHERE x.object_id = b.object_id)}"},
	{PG_OBJECTS, "SELECT {!w:0}{w:b.s3_bucket, b.s3_key, b.size_bytes, b.created_at, b.slices, "
                     "CASE WHEN b.slices = 0 THEN coalesce(b.unreferenced_at, 0) ELSE 0 END FROM (SELECT b.*, "
                     "(SELECT count(*) FROM shmeta_slices x WHERE x.object_id = b.object_id) AS slices "
                     "FROM shmeta_objects b WHERE b.tenant = $1::text AND (b.s3_bucket@binary > $2::text OR "
                     "(b.s3_bucket = $2::text AND b.s3_key@binary > $3::text))) b "
                     "WHERE $4::bool OR (b.slices = 0 AND b.unreferenced_at <= $5::int8) "
                     "ORDER BY b.s3_bucket@binary, b.s3_key@binary LIMIT $6::int8}"},
};

bool pg_object_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
