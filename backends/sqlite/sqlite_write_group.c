/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: consumer groups, committed offsets and agents. */
#include <stdlib.h>

#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

void sqlite_write_ensure_group(struct writing *w, const struct backend_op *op, struct shmeta_str group,
                               struct shmeta_result *r)
{
	sqlite3_stmt *q;
	int rc;

	/* An INSERT that ignores conflicts would also ignore what a CHECK says. */
	if (sqlite_write_exists(w, ST_W_GROUP_EXISTS, op->tenant, group, -1) || w->failed != SQLITE_OK)
		return;
	q = sqlite_write_take(w, ST_W_GROUP_INSERT);
	if (q == NULL)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, group);
	bind_int(q, 3, w->now_ms);
	rc = sqlite_write_run(w, q);
	if (rc == SQLITE_CONSTRAINT_FOREIGNKEY && w->state->shape.organization)
		refuse_tenant(op, r);
	else if (rc == SQLITE_DONE && sqlite3_changes(w->state->db) == 0)
		sqlite_write_unchanged(w);
}

void sqlite_write_commit_offset(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_committed_offset *c = &op->op->u.committed;
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_OFFSET_PUT);

	/* Our answer to an unknown place leaves no group row behind. */
	if (q == NULL || !sqlite_write_has_partition(w, op, r))
		return;
	sqlite_write_ensure_group(w, op, c->group_id, r);
	if (w->failed != SQLITE_OK || r->status != SHMETA_OK)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_str(q, 4, c->group_id);
	bind_int(q, 5, (int64_t)c->committed_offset);
	if (c->has_metadata)
		bind_str(q, 6, c->metadata);
	else
		sqlite3_bind_null(q, 6);
	bind_int(q, 7, w->now_ms);
	(void)sqlite_write_run_change(w, q);
}

/* Idempotent deletes by name. left: is there a row that should be gone? */
static void delete_by(struct writing *w, enum sqlite_statement which, enum sqlite_statement left,
                      struct shmeta_str tenant, struct shmeta_str name)
{
	sqlite3_stmt *q = w->failed == SQLITE_OK ? sqlite_write_take(w, which) : NULL;

	if (q == NULL)
		return;
	bind_str(q, 1, tenant);
	bind_str(q, 2, name);
	if (sqlite_write_run(w, q) == SQLITE_DONE && sqlite3_changes(w->state->db) == 0 &&
	    sqlite_write_exists(w, left, tenant, name, -1))
		sqlite_write_unchanged(w);
}

void sqlite_write_delete_group(struct writing *w, const struct backend_op *op)
{
	delete_by(w, ST_W_GROUP_DELETE, ST_W_GROUP_EXISTS, op->tenant, op->op->group_id);
}

void sqlite_write_deregister_agent(struct writing *w, const struct backend_op *op)
{
	sqlite_write_keep_epochs(w, ST_W_EPOCHS_AGENT, op->tenant, op->op->agent_id, -1);
	delete_by(w, ST_W_AGENT_DELETE, ST_W_AGENT_LEFT, op->tenant, op->op->agent_id);
}

static bool address_taken(struct writing *w, const struct shmeta_agent *a)
{
	return sqlite_write_exists(w, ST_W_AGENT_ADDRESS, a->agent_id, a->address, -1);
}

void sqlite_write_register_agent(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_agent *a = &op->op->u.agent;
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_AGENT_PUT);
	char *metadata = rows_json(&a->metadata);
	int rc;

	if (metadata == NULL)
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
	if (metadata == NULL || q == NULL) {
		free(metadata);
		return;
	}
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, a->agent_id);
	bind_str(q, 3, a->address);
	bind_str(q, 4, a->availability_zone);
	bind_str(q, 5, a->agent_group);
	bind_int(q, 6, a->last_heartbeat_ms);
	bind_int(q, 7, a->started_at_ms);
	sqlite3_bind_text(q, 8, metadata, -1, SQLITE_TRANSIENT);
	free(metadata);
	rc = sqlite_write_run(w, q);
	if (rc == SQLITE_DONE && sqlite3_changes(w->state->db) > 0)
		return;
	if (rc == SQLITE_DONE)
		sqlite_write_unchanged(w);
	if (w->failed != SQLITE_OK)
		return;
	/* Whose id or address it is. */
	if (rc == SQLITE_CONSTRAINT_FOREIGNKEY && w->state->shape.agents_organization)
		refuse_tenant(op, r);
	else if (rc != SQLITE_DONE && !sqlite_write_is_duplicate(rc))
		return;
	else if (sqlite_write_exists(w, ST_W_AGENT_FOREIGN, op->tenant, a->agent_id, -1))
		refuse_agent_id(a, r);
	else if (address_taken(w, a))
		refuse_address(a, r);
}
