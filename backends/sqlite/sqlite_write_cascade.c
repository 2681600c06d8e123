/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what a deletion takes along, and what outlives it. */
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

void sqlite_write_keep_epochs(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                              struct shmeta_str name, int64_t partition)
{
	sqlite3_stmt *q = w->failed == SQLITE_OK ? sqlite_write_take(w, which) : NULL;

	if (q == NULL)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, name);
	if (partition >= 0)
		bind_int(q, 3, partition);
	(void)sqlite_write_run(w, q);
}

/* A slice whose segment is gone holds its object no longer. */
void sqlite_write_drop_slices(struct writing *w, enum sqlite_statement which, struct shmeta_str tenant,
                              struct shmeta_str topic, uint32_t partition, uint64_t before)
{
	sqlite3_stmt *q = w->state->shape.own && !w->state->shape.triggers ? sqlite_write_take(w, which) : NULL;

	if (q == NULL || w->failed != SQLITE_OK)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, topic);
	bind_int(q, 3, partition);
	bind_int(q, 4, (int64_t)before);
	(void)sqlite_write_run(w, q);
}
