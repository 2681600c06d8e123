/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: moving rows between engines, as they are.
 *
 * A row is put by an INSERT that does nothing where any key of it is taken; then a SELECT with the
 * same parameters tells whether what is there is the same. Both are prepared for the length of one
 * call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/op_errors.h"
#include "backends/sql/log_keys.h"
#include "backends/sql/tables.h"
#include "backends/sqlite/sqlite_connection.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_feed.h"
#include "backends/sqlite/sqlite_files.h"
#include "backends/sqlite/sqlite_move.h"
#include "backends/sqlite/sqlite_write.h"

/* Of one kind: the texts, parameters numbered as bind_row() binds them. */
struct mover {
	char *insert, *same;
	sqlite3_stmt *put, *look;
};

struct moving {
	struct sqlite_state *state;
	struct mover movers[BACKEND_ROW_KINDS];
	struct mover slice, keep, highest;
	char *has_partition_sql, *object_sql;
	sqlite3_stmt *has_partition, *object;
	bool any_objects, made_slices;
	int failed;     /* SQLite's code when the transaction cannot go on */
	char said[120]; /* what the source said when it refused a row */
};

/* ---- texts ---- */

/* INSERT INTO table(organization_id, columns) VALUES(?1, ?2, ...) and SELECT extra FROM table WHERE
 * every column is its parameter: columns in the order of backend_tables, each with its number there
 * + 2. org: the organization column's value, NULL: there is none. */
static bool write_texts(struct mover *m, const struct sqlite_shape *shape, enum table_index table, const char *org,
                        const char *extra, const char *guard)
{
	sqlite3_str *insert = sqlite3_str_new(NULL), *values = sqlite3_str_new(NULL), *same = sqlite3_str_new(NULL);
	const struct table_column *column = backend_tables[table].columns;
	char *list;

	sqlite3_str_appendf(insert, "INSERT INTO %s(%s", backend_tables[table].name,
	                    org != NULL ? "organization_id, " : "");
	sqlite3_str_appendf(same, "SELECT %s FROM %s WHERE %s", extra, backend_tables[table].name,
	                    org != NULL ? "ifnull(organization_id, '" SHMETA_DEFAULT_TENANT "') = ?1 COLLATE BINARY"
	                                : "1");
	for (int i = 0; i < TABLE_COLUMNS_MAX && column[i].name != NULL; i++) {
		if ((column[i].flag == FLAG_CLEANUP_POLICY && !shape->cleanup_policy) ||
		    (column[i].flag == FLAG_TIMESTAMPS && !shape->timestamps))
			continue;
		sqlite3_str_appendf(insert, "%s%s", i > 0 ? ", " : "", column[i].name);
		sqlite3_str_appendf(values, "%s?%d", i > 0 ? ", " : "", i + 2);
		/* Maps are compared as maps, by the caller. */
		if (strcmp(column[i].name, "config") != 0 && strcmp(column[i].name, "metadata") != 0)
			sqlite3_str_appendf(same, " AND %s IS ?%d COLLATE BINARY", column[i].name, i + 2);
	}
	list = sqlite3_str_finish(values);
	sqlite3_str_appendf(insert, ") SELECT %s%s%s WHERE %s ON CONFLICT DO NOTHING", org != NULL ? org : "",
	                    org != NULL ? ", " : "", list, guard);
	m->insert = sqlite3_str_finish(insert);
	m->same = sqlite3_str_finish(same);
	sqlite3_free(list);
	return list != NULL && m->insert != NULL && m->same != NULL;
}

static bool write_all(struct moving *m)
{
	const struct sqlite_shape *shape = &m->state->shape;
	const char *org = shape->organization ? "?1" : NULL;
	const char *and_org = shape->organization ? " AND organization_id = ?1" : "";
	/* One that belongs to nobody is shown under the default tenant; back it goes to nobody. */
	const char *agent_org = shape->agents_organization ? "nullif(?1, '" SHMETA_DEFAULT_TENANT "')" : NULL;
	struct mover *of = m->movers;
	char *place = sqlite3_mprintf(
		"NOT EXISTS(SELECT 1 FROM segments WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3 AND "
		"base_offset = ?4%s) AND EXISTS(SELECT 1 FROM partitions WHERE topic = ?2 COLLATE BINARY AND "
		"partition_id = ?3%s)",
		and_org, and_org);
	/* The later StreamHouse shape has lost the keys to partitions. */
	char *of_offset = sqlite3_mprintf(
		"EXISTS(SELECT 1 FROM partitions WHERE topic = ?3 COLLATE BINARY AND partition_id = ?4%s)", and_org);
	/* What was given here since is not taken back. */
	char *of_lease = sqlite3_mprintf(
		"EXISTS(SELECT 1 FROM partitions WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s)%s", and_org,
		shape->own ? " AND NOT EXISTS(SELECT 1 FROM shmeta_lease_epochs WHERE tenant = ?1 AND topic = ?2 AND "
			     "partition_id = ?3 AND epoch > ?7)"
			   : "");
	bool ok = place != NULL && of_offset != NULL && of_lease != NULL;

	ok = ok && write_texts(&of[BACKEND_ROW_TOPIC], shape, TOPICS, org, "config", "1") &&
	     write_texts(&of[BACKEND_ROW_PARTITION], shape, PARTITIONS, org, "1", "1") &&
	     write_texts(&of[BACKEND_ROW_SEGMENT], shape, SEGMENTS, org, "1", place) &&
	     write_texts(&of[BACKEND_ROW_AGENT], shape, AGENTS, agent_org, "metadata", "1") &&
	     write_texts(&of[BACKEND_ROW_GROUP], shape, GROUPS, org, "1", "1") &&
	     write_texts(&of[BACKEND_ROW_OFFSET], shape, OFFSETS, org, "metadata", of_offset) &&
	     write_texts(&of[BACKEND_ROW_LEASE], shape, LEASES, shape->leases_organization ? "?1" : NULL, "1",
	                 of_lease);
	of[BACKEND_ROW_OBJECT].insert = sqlite3_mprintf(
		"INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at, unreferenced_at) "
		"VALUES(?1, ?2, ?3, ?4, ?5, nullif(?6, 0)) ON CONFLICT DO NOTHING");
	of[BACKEND_ROW_OBJECT].same =
		sqlite3_mprintf("SELECT 1 FROM shmeta_objects WHERE tenant = ?1 AND s3_bucket = ?2 AND "
	                        "s3_key = ?3 AND size_bytes = ?4 AND created_at = ?5");
	m->highest.insert = sqlite3_mprintf(
		"INSERT INTO shmeta_lease_epochs(tenant, topic, partition_id, epoch) VALUES(?1, ?2, ?3, ?4) "
		"ON CONFLICT(tenant, topic, partition_id) DO UPDATE SET epoch = excluded.epoch WHERE excluded.epoch > epoch");
	m->keep.insert = sqlite3_mprintf("UPDATE shmeta_objects SET unreferenced_at = NULL WHERE object_id = ?1");
	m->slice.insert = sqlite3_mprintf("INSERT OR REPLACE INTO shmeta_slices VALUES(?1, ?2, ?3, ?4, ?5, ?6)");
	m->has_partition_sql = sqlite3_mprintf(
		"SELECT 1 FROM partitions WHERE topic = ?2 COLLATE BINARY AND partition_id = ?3%s", and_org);
	m->object_sql = sqlite3_mprintf(
		"SELECT object_id FROM shmeta_objects WHERE tenant = ?1 AND s3_bucket = ?2 AND s3_key = ?3");
	sqlite3_free(place);
	sqlite3_free(of_offset);
	sqlite3_free(of_lease);
	return ok && of[BACKEND_ROW_OBJECT].insert != NULL && of[BACKEND_ROW_OBJECT].same != NULL &&
	       m->highest.insert != NULL && m->slice.insert != NULL && m->keep.insert != NULL &&
	       m->has_partition_sql != NULL && m->object_sql != NULL;
}

static void drop_all(struct moving *m)
{
	struct mover *own[] = {&m->slice, &m->keep, &m->highest};

	for (int i = 0; i < BACKEND_ROW_KINDS + (int)(sizeof own / sizeof *own); i++) {
		struct mover *of = i < BACKEND_ROW_KINDS ? &m->movers[i] : own[i - BACKEND_ROW_KINDS];

		(void)sqlite3_finalize(of->put);
		(void)sqlite3_finalize(of->look);
		sqlite3_free(of->insert);
		sqlite3_free(of->same);
	}
	(void)sqlite3_finalize(m->has_partition);
	(void)sqlite3_finalize(m->object);
	sqlite3_free(m->has_partition_sql);
	sqlite3_free(m->object_sql);
}

/* ---- statements ---- */

static sqlite3_stmt *take(struct moving *m, sqlite3_stmt **statement, const char *sql)
{
	if (*statement == NULL && m->failed == SQLITE_OK) {
		m->state->counters.prepares++;
		m->failed = sqlite3_prepare_v2(m->state->db, sql, -1, statement, NULL);
	}
	return m->failed == SQLITE_OK ? *statement : NULL;
}

static void bind_ints(sqlite3_stmt *q, int at, const int64_t *values, int count)
{
	for (int i = 0; i < count; i++)
		(void)sqlite3_bind_int64(q, at + i, values[i]);
}

/* true: a row is there to be looked at; the caller resets. */
static bool step(struct moving *m, sqlite3_stmt *q, int *ret_rc)
{
	m->state->counters.queries++;
	*ret_rc = sqlite3_step(q);
	if ((*ret_rc & 0xff) == SQLITE_CONSTRAINT) {
		char quoted[ROWS_QUOTE_MAX];

		(void)snprintf(m->said, sizeof m->said, "%s",
		               rows_quote(quoted, rows_str(sqlite3_errmsg(m->state->db))));
		/* it took everything back, and not only itself */
		if (sqlite3_get_autocommit(m->state->db) != 0)
			m->failed = SQLITE_ABORT_ROLLBACK;
	} else if (*ret_rc != SQLITE_ROW && *ret_rc != SQLITE_DONE) {
		m->failed = *ret_rc;
	}
	return *ret_rc == SQLITE_ROW;
}

#define STR(s) bind_str(q, at++, (s))
#define INT(v) (void)sqlite3_bind_int64(q, at++, (int64_t)(v))

/* The row's columns from ?2 on, in the order of backend_tables. map: its JSON, where it has one. */
static void bind_row(sqlite3_stmt *q, const struct sqlite_shape *shape, const struct backend_row *row, const char *map)
{
	int at = 2;

	bind_str(q, 1, row->tenant);
	switch (row->kind) {
	case BACKEND_ROW_OBJECT:
		STR(row->u.object.s3_bucket);
		STR(row->u.object.s3_key);
		INT(row->u.object.size_bytes);
		INT(row->u.object.created_at_ms);
		INT(row->since_ms);
		break;
	case BACKEND_ROW_TOPIC:
		STR(row->u.topic.name);
		INT(row->u.topic.partition_count);
		if (row->u.topic.has_retention)
			(void)sqlite3_bind_int64(q, at, row->u.topic.retention_ms);
		else
			(void)sqlite3_bind_null(q, at);
		at++;
		INT(row->u.topic.created_at_ms);
		INT(row->u.topic.updated_at_ms);
		(void)sqlite3_bind_text(q, at++, map, -1, SQLITE_STATIC);
		if (shape->cleanup_policy)
			STR(row->u.topic.cleanup_policy.bytes > 0 ? row->u.topic.cleanup_policy : rows_str("delete"));
		break;
	case BACKEND_ROW_PARTITION:
		STR(row->topic);
		INT(row->u.partition.partition_id);
		INT(row->u.partition.high_watermark);
		INT(row->u.partition.created_at_ms);
		INT(row->u.partition.updated_at_ms);
		break;
	case BACKEND_ROW_SEGMENT:
		STR(row->topic);
		INT(row->u.segment.partition_id);
		INT(row->u.segment.base_offset);
		INT(row->u.segment.end_offset);
		INT(row->u.segment.record_count);
		INT(row->u.segment.size_bytes);
		INT(row->u.segment.created_at_ms);
		INT(row->u.segment.min_timestamp_ms);
		INT(row->u.segment.max_timestamp_ms);
		STR(row->u.segment.id);
		STR(row->u.segment.s3_bucket);
		STR(row->u.segment.s3_key);
		break;
	case BACKEND_ROW_AGENT:
		STR(row->u.agent.agent_id);
		STR(row->u.agent.address);
		STR(row->u.agent.availability_zone);
		STR(row->u.agent.agent_group);
		INT(row->u.agent.last_heartbeat_ms);
		INT(row->u.agent.started_at_ms);
		(void)sqlite3_bind_text(q, at, map, -1, SQLITE_STATIC);
		break;
	case BACKEND_ROW_GROUP:
		STR(row->u.group.group_id);
		INT(row->u.group.created_at_ms);
		INT(row->u.group.updated_at_ms);
		break;
	case BACKEND_ROW_OFFSET:
		STR(row->u.offset.group_id);
		STR(row->topic);
		INT(row->u.offset.partition_id);
		INT(row->u.offset.committed_offset);
		if (row->u.offset.has_metadata)
			bind_str(q, at, row->u.offset.metadata);
		else
			(void)sqlite3_bind_null(q, at);
		at++;
		INT(row->u.offset.committed_at_ms);
		break;
	case BACKEND_ROW_LEASE:
		STR(row->topic);
		INT(row->u.lease.partition_id);
		STR(row->u.lease.leader_agent_id);
		INT(row->u.lease.lease_expires_at_ms);
		INT(row->u.lease.acquired_at_ms);
		INT(row->u.lease.epoch);
		break;
	case BACKEND_ROW_EPOCH:
	case BACKEND_ROW_KINDS:
		break;
	}
}

/* ---- one row ---- */

/* What the file's shape cannot hold. true: refused. */
static bool refused(struct moving *m, const struct backend_row *row, struct shmeta_result *r)
{
	const struct sqlite_shape *shape = &m->state->shape;
	const struct refuse_room room = {.tenant = shape->organization ||
	                                           rows_compare(row->tenant, rows_str(SHMETA_DEFAULT_TENANT)) == 0,
	                                 .cleanup_policy = shape->cleanup_policy,
	                                 .timestamps = shape->timestamps,
	                                 .own = shape->own};

	return refuse_row(row, &room, r);
}

static struct shmeta_map *map_of(struct backend_row *row)
{
	return row->kind == BACKEND_ROW_TOPIC   ? &row->u.topic.config
	       : row->kind == BACKEND_ROW_AGENT ? &row->u.agent.metadata
	                                        : NULL;
}

/* Is the row that is there the same? The maps as maps: a StreamHouse writes its JSON in another
 * order. */
static bool is_same(struct moving *m, const struct backend_row *row, const char *map)
{
	struct mover *of = &m->movers[row->kind];
	sqlite3_stmt *q = take(m, &of->look, of->same);
	struct backend_row copy = *row;
	struct shmeta_map there, *mine = map_of(&copy);
	struct rows_fault fault;
	bool same;
	int rc;

	if (q == NULL)
		return false;
	bind_row(q, &m->state->shape, row, map);
	same = step(m, q, &rc);
	if (same && mine != NULL) {
		struct shmeta_str json = {(const char *)sqlite3_column_text(q, 0), (size_t)sqlite3_column_bytes(q, 0)};

		rows_faultless(&fault);
		same = rows_map(&m->state->scratch, json, &there, &fault) && there.bytes == mine->bytes &&
		       (there.bytes == 0 || memcmp(there.data, mine->data, there.bytes) == 0);
	} else if (same && row->kind == BACKEND_ROW_OFFSET) {
		const char *text = (const char *)sqlite3_column_text(q, 0);
		struct shmeta_str metadata = {text, text != NULL ? (size_t)sqlite3_column_bytes(q, 0) : 0};

		same = (text != NULL) == (row->u.offset.has_metadata != 0) &&
		       (text == NULL || rows_compare(metadata, row->u.offset.metadata) == 0);
	}
	(void)sqlite3_reset(q);
	return same;
}

static bool has_partition(struct moving *m, const struct backend_row *row, uint32_t partition)
{
	sqlite3_stmt *q = take(m, &m->has_partition, m->has_partition_sql);
	bool found;
	int rc;

	if (q == NULL)
		return false;
	bind_str(q, 1, row->tenant);
	bind_str(q, 2, row->topic);
	(void)sqlite3_bind_int64(q, 3, partition);
	found = step(m, q, &rc);
	(void)sqlite3_reset(q);
	return found;
}

static bool raise_epoch(struct moving *m, const struct backend_row *row, uint32_t partition, uint64_t epoch)
{
	sqlite3_stmt *q = take(m, &m->highest.put, m->highest.insert);
	int rc;

	if (q == NULL)
		return false;
	bind_str(q, 1, row->tenant);
	bind_str(q, 2, row->topic);
	bind_ints(q, 3, (const int64_t[]){partition, (int64_t)epoch}, 2);
	(void)step(m, q, &rc);
	(void)sqlite3_reset(q);
	return sqlite3_changes(m->state->db) > 0;
}

/* The object whose slice the segment is. 0: none. */
static int64_t object_of(struct moving *m, const struct backend_row *row)
{
	sqlite3_stmt *q = m->any_objects ? take(m, &m->object, m->object_sql) : NULL;
	int64_t id = 0;
	int rc;

	if (q == NULL)
		return 0;
	bind_str(q, 1, row->tenant);
	bind_str(q, 2, row->u.segment.s3_bucket);
	bind_str(q, 3, row->u.segment.s3_key);
	if (step(m, q, &rc))
		id = sqlite3_column_int64(q, 0);
	(void)sqlite3_reset(q);
	return id;
}

static void put_slice(struct moving *m, const struct backend_row *row, int64_t object)
{
	sqlite3_stmt *q = take(m, &m->slice.put, m->slice.insert);
	int rc;

	if (q == NULL)
		return;
	bind_str(q, 1, row->tenant);
	bind_str(q, 2, row->topic);
	bind_ints(q, 3,
	          (const int64_t[]){row->u.segment.partition_id, (int64_t)row->u.segment.base_offset, object,
	                            (int64_t)row->u.segment.position},
	          4);
	(void)step(m, q, &rc);
	(void)sqlite3_reset(q);
	m->made_slices = true;
	/* It may have been one that nothing refers to. */
	q = take(m, &m->keep.put, m->keep.insert);
	if (q == NULL)
		return;
	bind_ints(q, 1, &object, 1);
	(void)step(m, q, &rc);
	(void)sqlite3_reset(q);
}

/* Why nothing was put. */
static void explain(struct moving *m, const struct backend_row *row, const char *map, int rc, struct shmeta_result *r)
{
	static const char *const hangs_on[BACKEND_ROW_KINDS] = {
		[BACKEND_ROW_OBJECT] = "",
		[BACKEND_ROW_TOPIC] = "its organization",
		[BACKEND_ROW_PARTITION] = "its topic",
		[BACKEND_ROW_SEGMENT] = "its partition",
		[BACKEND_ROW_AGENT] = "its organization",
		[BACKEND_ROW_GROUP] = "its organization",
		[BACKEND_ROW_OFFSET] = "its group or its partition",
		[BACKEND_ROW_LEASE] = "its partition or its agent",
		[BACKEND_ROW_EPOCH] = "",
	};
	const bool of_tenant =
		row->kind == BACKEND_ROW_TOPIC || row->kind == BACKEND_ROW_AGENT || row->kind == BACKEND_ROW_GROUP;
	uint32_t partition = row->kind == BACKEND_ROW_SEGMENT  ? row->u.segment.partition_id
	                     : row->kind == BACKEND_ROW_OFFSET ? row->u.offset.partition_id
	                                                       : row->u.lease.partition_id;
	const bool in_partition =
		row->kind == BACKEND_ROW_SEGMENT || row->kind == BACKEND_ROW_OFFSET || row->kind == BACKEND_ROW_LEASE;

	if (rc == SQLITE_CONSTRAINT_FOREIGNKEY ||
	    (rc == SQLITE_DONE && in_partition && !has_partition(m, row, partition)))
		refuse(r, of_tenant ? SHMETA_ERR_NOT_TENANT : SHMETA_ERR_NOT_FOUND, "%s is not there",
		       hangs_on[row->kind]);
	else if (rc != SQLITE_DONE)
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "the source refuses it: %s", m->said);
	else if (is_same(m, row, map))
		r->status = SHMETA_ERR_ALREADY_EXISTS;
	else if (m->failed == SQLITE_OK)
		refuse(r, SHMETA_ERR_CONFLICT, "it is there already, with other content, %sor a trigger keeps it out",
		       row->kind == BACKEND_ROW_LEASE ? "or a later epoch was given here, " : "");
}

static void put_row(struct moving *m, const struct backend_row *row, struct shmeta_result *r)
{
	struct mover *of = &m->movers[row->kind];
	struct backend_row copy = *row;
	const struct shmeta_map *map = map_of(&copy);
	int64_t object = 0;
	char *json = NULL;
	sqlite3_stmt *q;
	int rc;

	if (refused(m, row, r))
		return;
	if (row->kind == BACKEND_ROW_EPOCH) {
		if (!raise_epoch(m, row, row->partition_id, row->epoch))
			r->status = SHMETA_ERR_ALREADY_EXISTS;
		return;
	}
	if (row->kind == BACKEND_ROW_SEGMENT) {
		object = object_of(m, row);
		if (object == 0 && row->u.segment.position != 0) {
			refuse(r, SHMETA_ERR_NOT_FOUND, "the object that it is a slice of is not there");
			return;
		}
	}
	if (map != NULL && (json = rows_json(map)) == NULL) {
		m->failed = SQLITE_NOMEM;
		return;
	}
	q = take(m, &of->put, of->insert);
	if (q != NULL) {
		bind_row(q, &m->state->shape, row, json);
		(void)step(m, q, &rc);
		(void)sqlite3_reset(q);
		if (m->failed == SQLITE_OK && (rc != SQLITE_DONE || sqlite3_changes(m->state->db) == 0))
			explain(m, row, json, rc, r);
		else if (m->failed == SQLITE_OK && object != 0)
			put_slice(m, row, object);
	}
	free(json);
	m->any_objects |= row->kind == BACKEND_ROW_OBJECT;
	/* Whoever holds it here: what the lease had there was given once and may not be given
	 * again. */
	if (row->kind == BACKEND_ROW_LEASE && m->failed == SQLITE_OK && m->state->shape.own)
		(void)raise_epoch(m, row, row->u.lease.partition_id, row->u.lease.epoch);
}

/* ---- the two calls ---- */

static int number(struct sqlite_state *state, const char *sql, int64_t *ret)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(state->db, sql, -1, &q, NULL);

	state->counters.queries++;
	if (rc == SQLITE_OK) {
		rc = sqlite3_step(q);
		*ret = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
		rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
	}
	(void)sqlite3_finalize(q);
	return rc;
}

/* One row of the log for all that was put: whoever follows it looks at everything. */
static int log_all(struct sqlite_state *state)
{
	enum shmeta_status status;
	sqlite3_stmt *q = sqlite_prepare(state, ST_W_LOG, NULL, &status);
	int rc;

	if (q == NULL)
		return sqlite3_errcode(state->db);
	(void)sqlite3_clear_bindings(q);
	bind_ints(q, 1, (const int64_t[]){SHMETA_CLASS_LIST, FEED_INSERT}, 2);
	state->counters.queries++;
	rc = sqlite3_step(q);
	(void)sqlite3_reset(q);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* All of them, in one transaction. *ret_refused: it was not the source's fault but some row's, and
 * nothing is there; said: what the source said. */
static enum shmeta_status put_rows(struct sqlite_state *state, const struct backend_row *rows, size_t count,
                                   struct shmeta_result *results, bool *ret_refused, char *said, size_t bytes,
                                   struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct moving m = {.state = state};
	int64_t objects = 0;
	bool any = false;
	int rc = write_all(&m) ? sqlite_begin_write(state, &status, err) : SQLITE_NOMEM;

	*ret_refused = false;
	if (status != SHMETA_OK) {
		drop_all(&m);
		return status;
	}
	if (rc == SQLITE_OK && state->shape.own)
		rc = number(state, "SELECT EXISTS(SELECT 1 FROM shmeta_objects)", &objects);
	m.any_objects = objects != 0;
	for (size_t i = 0; rc == SQLITE_OK && i < count; i++) {
		memset(&results[i], 0, sizeof results[i]);
		put_row(&m, &rows[i], &results[i]);
		any |= results[i].status == SHMETA_OK;
		rc = m.failed;
	}
	if (rc == SQLITE_OK && any && state->shape.own)
		rc = log_all(state);
	if (rc == SQLITE_OK)
		status = sqlite_files_check(state, err);
	/* An epoch may have been raised by a lease that was refused: that is to stay, too. */
	if (rc == SQLITE_OK && status == SHMETA_OK)
		rc = sqlite_run(state, ST_COMMIT);
	*ret_refused = (rc & 0xff) == SQLITE_CONSTRAINT || rc == SQLITE_ABORT_ROLLBACK;
	if (*ret_refused) {
		char quoted[ROWS_QUOTE_MAX];

		(void)snprintf(said, bytes, "the source refuses it: %s",
		               m.said[0] != '\0' ? m.said : rows_quote(quoted, rows_str(sqlite3_errmsg(state->db))));
	} else if (rc != SQLITE_OK) {
		status = sqlite_fail(state, rc, "putting rows into", err);
	}
	if (sqlite3_get_autocommit(state->db) == 0)
		(void)sqlite_run(state, ST_ROLLBACK);
	drop_all(&m);
	if (status == SHMETA_OK && !*ret_refused && m.made_slices && !state->shape.slices &&
	    sqlite_rewrite(state) != SQLITE_OK)
		state->objects = 0; /* looked at anew before the next call */
	return status;
}

enum shmeta_status sqlite_restore(void *data, const struct backend_row *rows, size_t count,
                                  struct shmeta_result *results, struct backend_error *err)
{
	struct sqlite_state *state = data;
	enum shmeta_status status = sqlite_ensure(state, err);
	size_t at = 0, size = count;

	if (status != SHMETA_OK)
		return status;
	if (state->read_only)
		return backend_fail(err, SHMETA_ERR_READ_ONLY, "sqlite: %s may not be written by this process",
		                    state->path);
	/* Where a trigger, or COMMIT, took all of them back: in halves, until the culprit is
	 * alone. */
	while (at < count && status == SHMETA_OK) {
		bool refused = false;
		char said[160];

		size = size < count - at ? size : count - at;
		status = put_rows(state, rows + at, size, results + at, &refused, said, sizeof said, err);
		if (status != SHMETA_OK)
			break;
		if (refused && size > 1) {
			size /= 2;
			continue;
		}
		if (refused) {
			memset(&results[at], 0, sizeof results[at]);
			refuse(&results[at], SHMETA_ERR_INVALID_ARGUMENT, "%s", said);
		}
		at += size;
		size *= 2;
	}
	if (status == SHMETA_OK || at == 0)
		return status;
	for (size_t i = at; i < count; i++) { /* those before it are there */
		memset(&results[i], 0, sizeof results[i]);
		refuse(&results[i], status, "%s", err->text);
	}
	return SHMETA_OK;
}

enum shmeta_status sqlite_extras(void *data, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                                 struct backend_error *err)
{
	struct sqlite_state *state = data;
	enum shmeta_status status = sqlite_ensure(state, err);
	sqlite3_stmt *q = NULL;
	int rc;

	if (status != SHMETA_OK || !state->shape.own || (kind != BACKEND_ROW_OBJECT && kind != BACKEND_ROW_EPOCH))
		return status;
	state->counters.prepares++;
	state->counters.queries++;
	rc = sqlite3_prepare_v2(
		state->db,
		kind == BACKEND_ROW_OBJECT
			? "SELECT tenant, s3_bucket, s3_key, size_bytes, created_at, ifnull(unreferenced_at, 0) "
			  "FROM shmeta_objects ORDER BY tenant, s3_bucket, s3_key"
			: "SELECT tenant, topic, partition_id, epoch FROM shmeta_lease_epochs "
			  "ORDER BY tenant, topic, partition_id",
		-1, &q, NULL);
	while (rc == SQLITE_OK && status == SHMETA_OK) {
		struct backend_row row = {.kind = kind};

		rc = sqlite3_step(q);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		row.tenant = column_str(q, 0);
		if (kind == BACKEND_ROW_OBJECT) {
			row.u.object = (struct shmeta_object){.s3_bucket = column_str(q, 1),
			                                      .s3_key = column_str(q, 2),
			                                      .size_bytes = (uint64_t)sqlite3_column_int64(q, 3),
			                                      .created_at_ms = sqlite3_column_int64(q, 4)};
			row.since_ms = sqlite3_column_int64(q, 5);
		} else {
			row.topic = column_str(q, 1);
			row.partition_id = (uint32_t)sqlite3_column_int64(q, 2);
			row.epoch = (uint64_t)sqlite3_column_int64(q, 3);
		}
		state->counters.rows++;
		status = emit(arg, &row);
	}
	if (status == SHMETA_OK && rc != SQLITE_DONE)
		status = sqlite_fail(state, rc, "reading for a move from", err);
	(void)sqlite3_finalize(q);
	return status;
}
