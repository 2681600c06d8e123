/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: topics, partitions and segments. */
#include <stdlib.h>

#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_writing.h"

/* No row of a topic that is gone may show under another one of its name (C2). Rows are left where a
 * schema has lost its cascades, and where somebody deleted the topic with foreign keys off, which
 * is how SQLite's own program starts. */
static void clear_topic(struct writing *w, struct shmeta_str tenant, struct shmeta_str name)
{
	static const enum sqlite_statement rows[] = {ST_W_TOPIC_SEGMENTS, ST_W_TOPIC_OFFSETS, ST_W_TOPIC_LEASES,
	                                             ST_W_TOPIC_PARTITIONS};

	sqlite_write_keep_epochs(w, ST_W_EPOCHS_TOPIC, tenant, name, -1);
	for (size_t i = 0; w->failed == SQLITE_OK && i < sizeof rows / sizeof *rows; i++) {
		sqlite3_stmt *q = sqlite_write_take(w, rows[i]);

		if (q == NULL)
			return;
		bind_str(q, 1, tenant);
		bind_str(q, 2, name);
		(void)sqlite_write_run(w, q);
	}
	sqlite_write_drop_slices(w, ST_W_SLICES_TOPIC, tenant, name, 0, 0);
	sqlite_write_forget_epochs(w, tenant, name);
	if (w->state->shape.triggers && w->failed == SQLITE_OK && w->r->status == SHMETA_OK &&
	    sqlite_write_exists(w, ST_W_TOPIC_LEFT, tenant, name, -1))
		sqlite_write_unchanged(w);
}

void sqlite_write_create_topic(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	const struct shmeta_topic *topic = &op->op->u.topic;
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_TOPIC_INSERT), *p = sqlite_write_take(w, ST_W_PARTITIONS);
	char *config = rows_json(&topic->config);
	int rc;

	if (config == NULL)
		refuse(r, SHMETA_ERR_NO_MEMORY, "out of memory");
	if (config == NULL || q == NULL || p == NULL) {
		free(config);
		return;
	}
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, topic->name);
	bind_int(q, 3, topic->partition_count);
	if (topic->has_retention)
		bind_int(q, 4, topic->retention_ms);
	else
		sqlite3_bind_null(q, 4);
	bind_int(q, 5, w->now_ms);
	sqlite3_bind_text(q, 6, config, -1, SQLITE_TRANSIENT);
	if (w->state->shape.cleanup_policy) {
		if (topic->cleanup_policy.bytes > 0)
			bind_str(q, 7, topic->cleanup_policy);
		else
			sqlite3_bind_null(q, 7);
	}
	free(config);
	rc = sqlite_write_run(w, q);
	if (rc == SQLITE_DONE && sqlite3_changes(w->state->db) == 0)
		sqlite_write_unchanged(w);
	/* A key may take two names for one (NOCASE), and another key may be in the way: that is no
	 * success of a retry. */
	if (sqlite_write_is_duplicate(rc) && w->failed == SQLITE_OK &&
	    sqlite_write_exists(w, ST_W_TOPIC_EXISTS, op->tenant, topic->name, -1))
		refuse_topic_exists(op->op, r);
	else if (rc == SQLITE_CONSTRAINT_FOREIGNKEY && w->state->shape.organization)
		refuse_tenant(op, r);
	if (r->status == SHMETA_OK)
		clear_topic(w, op->tenant, topic->name);
	if (r->status != SHMETA_OK || w->failed != SQLITE_OK)
		return;
	bind_str(p, 1, op->tenant);
	bind_str(p, 2, topic->name);
	bind_int(p, 3, topic->partition_count);
	bind_int(p, 5, w->now_ms);
	if (sqlite_write_run(w, p) == SQLITE_DONE && sqlite3_changes(w->state->db) != (int)topic->partition_count)
		sqlite_write_unchanged(w);
}

void sqlite_write_delete_topic(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_TOPIC_DELETE);

	if (q == NULL)
		return;
	sqlite_write_keep_epochs(w, ST_W_EPOCHS_TOPIC, op->tenant, op->op->name, -1);
	if (w->failed != SQLITE_OK || r->status != SHMETA_OK)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	if (sqlite_write_run(w, q) != SQLITE_DONE)
		return;
	if (sqlite3_changes(w->state->db) > 0)
		clear_topic(w, op->tenant, op->op->name);
	else if (sqlite_write_exists(w, ST_W_TOPIC_EXISTS, op->tenant, op->op->name, -1))
		sqlite_write_unchanged(w);
	else if (w->failed == SQLITE_OK)
		refuse_place(op->op, false, r);
}

/* ---- partitions and segments ---- */

void sqlite_write_update_watermark(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_WATERMARK);
	uint64_t before = 0;
	bool first;

	if (q == NULL || !sqlite_write_passes_fence(w, op, r))
		return;
	first = sqlite_write_before_epoch(w, op, &before);
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_int(q, 4, (int64_t)op->op->offset);
	bind_int(q, 5, w->now_ms);
	if (sqlite_write_run(w, q) == SQLITE_DONE && sqlite3_changes(w->state->db) == 0 &&
	    sqlite_write_has_partition(w, op, r))
		sqlite_write_unchanged(w);
	if (first && r->status == SHMETA_OK)
		sqlite_write_record_epoch(w, op->tenant, op->op->name, op->op->partition_id, op->op->fence.epoch,
		                          before, false);
}

/* What stands where the segment should go: fill r. false: nothing does. */
static bool segment_there(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                          struct shmeta_result *r)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_SEGMENT_AT);
	struct shmeta_segment *e = &r->existing;
	bool identical;

	if (q == NULL)
		return false;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_int(q, 4, (int64_t)s->base_offset);
	if (!sqlite_write_look(w, q))
		return false;
	e->partition_id = op->op->partition_id;
	e->base_offset = s->base_offset;
	e->end_offset = (uint64_t)sqlite3_column_int64(q, 1);
	e->record_count = (uint32_t)sqlite3_column_int64(q, 2);
	e->size_bytes = (uint64_t)sqlite3_column_int64(q, 3);
	e->created_at_ms = sqlite3_column_int64(q, 6);
	e->min_timestamp_ms = sqlite3_column_int64(q, 7);
	e->max_timestamp_ms = sqlite3_column_int64(q, 8);
	identical = str_equal(column_str(q, 0), s->id) && str_equal(column_str(q, 4), s->s3_bucket) &&
	            str_equal(column_str(q, 5), s->s3_key) && e->end_offset == s->end_offset &&
	            e->record_count == s->record_count && e->size_bytes == s->size_bytes &&
	            e->created_at_ms == s->created_at_ms &&
	            (!w->state->shape.timestamps ||
	             (e->min_timestamp_ms == s->min_timestamp_ms && e->max_timestamp_ms == s->max_timestamp_ms));
	(void)sqlite3_reset(q);
	refuse_segment(op->op, identical, r);
	return true;
}

void sqlite_write_bind_segment(struct writing *w, sqlite3_stmt *q, const struct backend_op *op,
                               const struct shmeta_segment *s)
{
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_str(q, 4, s->id);
	bind_int(q, 5, (int64_t)s->base_offset);
	bind_int(q, 6, (int64_t)s->end_offset);
	bind_int(q, 7, s->record_count);
	bind_int(q, 8, (int64_t)s->size_bytes);
	bind_str(q, 9, s->s3_bucket);
	bind_str(q, 10, s->s3_key);
	bind_int(q, 11, s->created_at_ms);
	if (w->state->shape.timestamps) {
		bind_int(q, 12, s->min_timestamp_ms);
		bind_int(q, 13, s->max_timestamp_ms);
	}
}

void sqlite_write_add_segment(struct writing *w, const struct backend_op *op, const struct shmeta_segment *s,
                              struct shmeta_result *r)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_SEGMENT_INSERT);
	int rc;

	if (q == NULL || !sqlite_write_passes_fence(w, op, r))
		return;
	/* The later StreamHouse shape has lost the constraints that say this. */
	if (w->state->shape.loose && (!sqlite_write_has_partition(w, op, r) || segment_there(w, op, s, r)))
		return;
	sqlite_write_bind_segment(w, q, op, s);
	rc = sqlite_write_run(w, q);
	if (rc == SQLITE_DONE && sqlite3_changes(w->state->db) == 0 && !segment_there(w, op, s, r))
		sqlite_write_unchanged(w);
	if (rc == SQLITE_DONE || w->failed != SQLITE_OK)
		return;
	/* What else is in the way keeps the source's own words. */
	if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
		(void)sqlite_write_has_partition(w, op, r);
	else if (sqlite_write_is_duplicate(rc) && !segment_there(w, op, s, r) && sqlite_write_has_partition(w, op, r) &&
	         sqlite_write_exists(w, ST_W_SEGMENT_ID, op->tenant, s->id, -1))
		refuse_segment_id(op->op, r);
}

void sqlite_write_delete_before(struct writing *w, const struct backend_op *op, struct shmeta_result *r)
{
	sqlite3_stmt *q = sqlite_write_take(w, ST_W_SEGMENTS_BEFORE);

	if (q == NULL)
		return;
	bind_str(q, 1, op->tenant);
	bind_str(q, 2, op->op->name);
	bind_int(q, 3, op->op->partition_id);
	bind_int(q, 4, (int64_t)op->op->offset);
	if (sqlite_write_run(w, q) == SQLITE_DONE)
		r->count = (uint64_t)sqlite3_changes(w->state->db);
	if (r->count == 0)
		return;
	sqlite_write_drop_slices(w, ST_W_SLICES_BEFORE, op->tenant, op->op->name, op->op->partition_id, op->op->offset);
	sqlite_write_trim_epochs(w, op);
}
