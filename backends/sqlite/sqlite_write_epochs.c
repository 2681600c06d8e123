/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the epochs of a partition under which something was written
 * (backends/leader_epochs.h). A file without shmeta's own tables keeps none. */
#include "backends/leader_epochs.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

/* NULL: nothing is to be done. */
static sqlite3_stmt *take(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                          struct shmeta_str topic, int64_t partition)
{
	sqlite3_stmt *q = w->state->shape.own && w->failed == SQLITE_OK ? sqlite_write_take(w, which) : NULL;

	if (q == NULL)
		return NULL;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	if (partition >= 0)
		bind_int(q, 3, partition);
	return q;
}

/* Run what drops epochs, and mark the partition where it did. */
static void drop(struct writing *w, sqlite3_stmt *q, struct shmeta_str tenant, struct shmeta_str topic,
                 uint32_t partition)
{
	if (q == NULL || sqlite_write_run(w, q) != SQLITE_DONE || sqlite3_changes(w->state->db) == 0)
		return;
	q = take(w, ST_W_LED_DROPPED, tenant, topic, partition);
	if (q != NULL)
		(void)sqlite_write_run(w, q);
}

void sqlite_write_record_epoch(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                               uint64_t epoch, uint64_t start, bool added)
{
	sqlite3_stmt *q = take(w, ST_W_LED_PUT, tenant, topic, partition);

	if (q == NULL)
		return;
	bind_int(q, 4, (int64_t)epoch);
	bind_int(q, 5, (int64_t)start);
	bind_int(q, 6, added);
	bind_int(q, 7, w->now_ms);
	if (sqlite_write_run(w, q) != SQLITE_DONE || sqlite3_changes(w->state->db) == 0)
		return;
	q = take(w, ST_W_LED_BOUND, tenant, topic, partition);
	if (q != NULL)
		bind_int(q, 4, LEADER_EPOCHS_MOST);
	drop(w, q, tenant, topic, partition);
}

bool sqlite_write_before_epoch(struct writing *w, const struct backend_op *op, uint64_t *ret)
{
	sqlite3_stmt *q = leader_epoch_writes(op->op)
	                          ? take(w, ST_W_LED_BEFORE, op->tenant, op->op->name, op->op->partition_id)
	                          : NULL;
	bool found;

	if (q == NULL)
		return false;
	bind_int(q, 4, (int64_t)op->op->fence.epoch);
	found = sqlite_write_look(w, q);
	if (found)
		*ret = (uint64_t)sqlite3_column_int64(q, 0);
	(void)sqlite3_reset(q);
	return found;
}

void sqlite_write_trim_epochs(struct writing *w, const struct backend_op *op)
{
	drop(w, take(w, ST_W_LED_TRIM, op->tenant, op->op->name, op->op->partition_id), op->tenant, op->op->name,
	     op->op->partition_id);
}

void sqlite_write_forget_epochs(struct writing *w, struct shmeta_str tenant, struct shmeta_str topic)
{
	sqlite3_stmt *q = take(w, ST_W_LED_TOPIC, tenant, topic, -1);

	if (q != NULL)
		(void)sqlite_write_run(w, q);
}
