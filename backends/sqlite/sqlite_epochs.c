/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the end of an epoch. What is kept for it is written by
 * sqlite_write_epochs.c. */
#include "backends/sqlite/sqlite_epochs.h"

#include "backends/leader_epochs.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_feed.h"
#include "base/str.h"

enum shmeta_status sqlite_epoch_end(void *data, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                    struct backend_error *err)
{
	struct sqlite_state *state = data;
	struct leader_epoch_facts facts = {.topic = false};
	enum shmeta_status status = sqlite_ensure_told(state, err);
	sqlite3_stmt *q;
	int rc;

	if (status != SHMETA_OK)
		return status;
	if (!state->shape.own)
		return backend_fail(err, SHMETA_ERR_UNSUPPORTED,
		                    "sqlite: %s has none of shmeta's own tables, so it keeps no leader epochs",
		                    state->path);
	if (!state->shape.organization && !str_equal(ask->tenant, rows_str(SHMETA_DEFAULT_TENANT)))
		return backend_fail(err, SHMETA_ERR_NOT_TENANT, "sqlite: %s knows no tenants", state->path);
	q = sqlite_prepare(state, ST_EPOCH_END, err, &status);
	if (q == NULL)
		return status;
	bind_str(q, 1, ask->tenant);
	bind_str(q, 2, ask->topic);
	bind_int(q, 3, ask->partition_id);
	bind_int(q, 4, ask->epoch < INT64_MAX ? (int64_t)ask->epoch : INT64_MAX);
	state->counters.queries++;
	rc = sqlite3_step(q);
	if (rc == SQLITE_ROW) {
		facts = (struct leader_epoch_facts){
			.topic = sqlite3_column_int(q, 0) != 0,
			.partition = sqlite3_column_type(q, 1) != SQLITE_NULL,
			.high_watermark = (uint64_t)sqlite3_column_int64(q, 1),
			.current = (uint64_t)sqlite3_column_int64(q, 2),
			.recorded = sqlite3_column_type(q, 3) != SQLITE_NULL,
			.epoch = (uint64_t)sqlite3_column_int64(q, 3),
			.followed = sqlite3_column_type(q, 4) != SQLITE_NULL,
			.next_start = (uint64_t)sqlite3_column_int64(q, 4),
		};
		state->counters.rows++;
		status = leader_epoch_judge(ask, &facts, ret, err);
	} else {
		status = sqlite_fail_question(state, rc, "reading the epochs of", err);
	}
	(void)sqlite3_reset(q);
	return status;
}
