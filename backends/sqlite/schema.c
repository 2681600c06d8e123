/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: every CREATE and every SELECT, and what a file must have to be served.
 *
 * Three kinds of objects: the tables of semantics.md 1.8, created in an empty file and otherwise taken as they are; shmeta's own
 * (prefix shmeta_), created where that is allowed and removed again by sqlite_remove_managed(); statements, whose text depends on
 * which columns there are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/sqlite/sqlite.h"
#include "backends/tables.h"

/* ---- the tables of an empty file: the columns of 1.8, and of its indexes those that something uses ------------------------- */

static const char *const lean_schema[] = {
	"CREATE TABLE topics(name TEXT PRIMARY KEY NOT NULL, partition_count INTEGER NOT NULL CHECK(partition_count > 0), "
	"retention_ms INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, "
	"config TEXT NOT NULL DEFAULT '{}')",
	"CREATE TABLE partitions(topic TEXT NOT NULL REFERENCES topics(name) ON DELETE CASCADE, "
	"partition_id INTEGER NOT NULL, high_watermark INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, "
	"updated_at INTEGER NOT NULL, PRIMARY KEY(topic, partition_id)) WITHOUT ROWID",
	"CREATE TABLE segments(id TEXT PRIMARY KEY NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "
	"base_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL, record_count INTEGER NOT NULL, "
	"size_bytes INTEGER NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, created_at INTEGER NOT NULL, "
	"min_timestamp INTEGER NOT NULL DEFAULT 0, max_timestamp INTEGER NOT NULL DEFAULT 0, "
	"CHECK(end_offset >= base_offset), "
	"FOREIGN KEY(topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE)",
	/* one segment per place; load() and fetch() walk it; the cascade from partitions uses it */
	"CREATE UNIQUE INDEX idx_segments_location ON segments(topic, partition_id, base_offset)",
	"CREATE TABLE consumer_groups(group_id TEXT PRIMARY KEY NOT NULL, created_at INTEGER NOT NULL, "
	"updated_at INTEGER NOT NULL) WITHOUT ROWID",
	"CREATE TABLE consumer_offsets(group_id TEXT NOT NULL REFERENCES consumer_groups(group_id) ON DELETE CASCADE, "
	"topic TEXT NOT NULL, partition_id INTEGER NOT NULL, committed_offset INTEGER NOT NULL, metadata TEXT, "
	"committed_at INTEGER NOT NULL, PRIMARY KEY(group_id, topic, partition_id), "
	"FOREIGN KEY(topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE) WITHOUT ROWID",
	/* the cascade from partitions */
	"CREATE INDEX idx_consumer_offsets_topic ON consumer_offsets(topic, partition_id)",
	"CREATE TABLE agents(agent_id TEXT PRIMARY KEY NOT NULL, address TEXT NOT NULL UNIQUE, "
	"availability_zone TEXT NOT NULL, agent_group TEXT NOT NULL, last_heartbeat INTEGER NOT NULL, "
	"started_at INTEGER NOT NULL, metadata TEXT NOT NULL DEFAULT '{}')",
	"CREATE TABLE partition_leases(topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "
	"leader_agent_id TEXT NOT NULL REFERENCES agents(agent_id) ON DELETE CASCADE, "
	"lease_expires_at INTEGER NOT NULL, acquired_at INTEGER NOT NULL, epoch INTEGER NOT NULL DEFAULT 1, "
	"PRIMARY KEY(topic, partition_id), "
	"FOREIGN KEY(topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE) WITHOUT ROWID",
	/* the cascade from agents */
	"CREATE INDEX idx_partition_leases_agent ON partition_leases(leader_agent_id)",
};

/* ---- shmeta's own ------------------------------------------------------------------------------------------------------------ */

/* The log bounds itself, so that it cannot fill the disk while no daemon runs: every 1 024th row removes what is more than
 * 1 048 576 rows old. A daemon that was away for longer finds a gap and reconciles. While one runs it prunes far earlier, in
 * batches and off the application's path (feed.c). */
static const struct managed {
	const char *type, *name, *sql;
} managed_tables[] = {
	{"table", "shmeta_meta", "CREATE TABLE shmeta_meta(name TEXT PRIMARY KEY NOT NULL, value TEXT) WITHOUT ROWID"},
	/* No constraint but the key: a trigger must never fail the application's statement. AUTOINCREMENT: a number is never used
         * twice, also after the rows before it are gone. */
	{"table", "shmeta_changes",
         "CREATE TABLE shmeta_changes(seq INTEGER PRIMARY KEY AUTOINCREMENT, class INTEGER, op INTEGER, tenant TEXT, "
         "topic TEXT, partition_id INTEGER, base_offset INTEGER, name TEXT)"},
	/* Epochs of leases never go back: not through release, deregistration or recreation of the topic. So they go by name. */
	{"table", "shmeta_lease_epochs",
         "CREATE TABLE shmeta_lease_epochs(tenant TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "
         "epoch INTEGER NOT NULL, PRIMARY KEY(tenant, topic, partition_id)) WITHOUT ROWID"},
	{"table", "shmeta_transfers",
         "CREATE TABLE shmeta_transfers(transfer_id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, topic TEXT NOT NULL, "
         "partition_id INTEGER NOT NULL, from_agent TEXT NOT NULL, to_agent TEXT NOT NULL, state TEXT NOT NULL, "
         "created_at INTEGER NOT NULL, timeout_at INTEGER NOT NULL)"},
	{"index", "shmeta_transfers_place",
         "CREATE INDEX shmeta_transfers_place ON shmeta_transfers(tenant, topic, partition_id)"},
	{"table", "shmeta_objects",
         "CREATE TABLE shmeta_objects(object_id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, s3_bucket TEXT NOT NULL, "
         "s3_key TEXT NOT NULL, size_bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, unreferenced_at INTEGER, "
         "UNIQUE(tenant, s3_bucket, s3_key))"},
	{"table", "shmeta_slices",
         "CREATE TABLE shmeta_slices(tenant TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "
         "base_offset INTEGER NOT NULL, object_id INTEGER NOT NULL, position INTEGER NOT NULL, "
         "PRIMARY KEY(tenant, topic, partition_id, base_offset)) WITHOUT ROWID"},
	{"index", "shmeta_slices_object", "CREATE INDEX shmeta_slices_object ON shmeta_slices(object_id)"},
	{"trigger", "shmeta_changes_bound",
         "CREATE TRIGGER shmeta_changes_bound AFTER INSERT ON shmeta_changes WHEN (NEW.seq & 1023) = 0 "
         "BEGIN DELETE FROM shmeta_changes WHERE seq <= NEW.seq - 1048576; END"},
};

static const struct tracked {
	enum table_index table;
	enum shmeta_class cls;
	const char *topic, *partition, *base, *name; /* columns of the key; NULL: it has none */
	/* A row that goes because its parent went is not logged: the parent's own row says it all, and a deleted topic must not
         * write a million of them. By the time the cascade comes the parent is gone. */
	const char *delete_when;
	/* Unique beside the key: who gets another value of it may have taken the place of a row that REPLACE removes without a trace. Then
	 * the class is logged as a whole. */
	const char *unique;
} tracked[] = {
	{TOPICS, SHMETA_CLASS_TOPIC, "name", NULL, NULL, NULL, NULL, NULL},
	{PARTITIONS, SHMETA_CLASS_PARTITION, "topic", "partition_id", NULL, NULL,
         "EXISTS(SELECT 1 FROM topics WHERE name = OLD.topic%s)", NULL},
	{SEGMENTS, SHMETA_CLASS_SEGMENT, "topic", "partition_id", "base_offset", NULL,
         "EXISTS(SELECT 1 FROM partitions WHERE topic = OLD.topic AND partition_id = OLD.partition_id%s)", NULL},
	{GROUPS, SHMETA_CLASS_OFFSET, NULL, NULL, NULL, "group_id", NULL, NULL},
	{OFFSETS, SHMETA_CLASS_OFFSET, "topic", "partition_id", NULL, "group_id", NULL, NULL},
	{AGENTS, SHMETA_CLASS_AGENT, NULL, NULL, NULL, "agent_id", NULL, "address"},
	{LEASES, SHMETA_CLASS_LEASE, "topic", "partition_id", NULL, NULL, NULL, NULL},
};
enum { TRACKED = sizeof tracked / sizeof tracked[0], OWN_TABLES = sizeof managed_tables / sizeof managed_tables[0] };
static const char *const operations[] = {"insert", "update", "delete"}; /* enum feed_op - 1 */
enum { OPERATIONS = 3, MANAGED_MAX = OWN_TABLES + TRACKED * OPERATIONS + 1 };

/* ", OLD.column" for each of the key's, NULL where it has none. */
static char *key_sql(const struct tracked *t, bool organization, const char *which)
{
	const char *const columns[] = {t->topic, t->partition, t->base, t->name};
	sqlite3_str *text = sqlite3_str_new(NULL);

	sqlite3_str_appendf(text, "%s%s", organization ? which : "", organization ? "organization_id" : "NULL");
	for (int i = 0; i < 4; i++)
		sqlite3_str_appendf(text, ", %s%s", columns[i] != NULL ? which : "",
		                    columns[i] != NULL ? columns[i] : "NULL");
	return sqlite3_str_finish(text);
}

/* "OLD.column IS NEW.column AND ..." of the key's, and of what is unique beside it. */
static char *same_sql(const struct tracked *t, bool organization)
{
	const char *const columns[] = {
		organization ? "organization_id" : NULL, t->topic, t->partition, t->base, t->name, t->unique};
	sqlite3_str *text = sqlite3_str_new(NULL);

	for (int i = 0; i < 6; i++)
		if (columns[i] != NULL)
			sqlite3_str_appendf(text, "%sOLD.%s IS NEW.%s", sqlite3_str_length(text) > 0 ? " AND " : "",
			                    columns[i], columns[i]);
	return sqlite3_str_finish(text);
}

static char *trigger_sql(const struct tracked *t, int op, bool organization, const char *name)
{
	const char *table = backend_tables[t->table].name;
	const char *into = "INSERT INTO shmeta_changes(class, op, tenant, topic, partition_id, base_offset, name)";
	const char *whole = "INSERT INTO shmeta_changes(class, op)";
	char *before = key_sql(t, organization, "OLD."), *after = key_sql(t, organization, "NEW."),
	     *same = same_sql(t, organization), *guard = NULL, *sql;

	if (t->delete_when != NULL)
		guard = sqlite3_mprintf(t->delete_when,
		                        organization ? " AND organization_id = OLD.organization_id" : "");
	if (op == 0 && t->unique != NULL)
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER INSERT ON %s BEGIN %s VALUES(%d, 1); END", name, table,
		                      whole, t->cls);
	else if (op == 0)
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER INSERT ON %s BEGIN %s VALUES(%d, 1, %s); END", name,
		                      table, into, t->cls, after);
	else if (op == 1 && t->unique != NULL)
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER UPDATE ON %s BEGIN %s SELECT %d, 2 WHERE NOT (%s); "
		                      "%s SELECT %d, 2, %s WHERE %s; END",
		                      name, table, whole, t->cls, same, into, t->cls, after, same);
	else if (op == 1) /* a moved row: gone from where it was, new where it is */
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER UPDATE ON %s BEGIN "
		                      "%s SELECT %d, 3, %s WHERE NOT (%s); "
		                      "%s SELECT %d, CASE WHEN %s THEN 2 ELSE 1 END, %s; END",
		                      name, table, into, t->cls, before, same, into, t->cls, same, after);
	else
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER DELETE ON %s%s%s BEGIN %s VALUES(%d, 3, %s); END", name,
		                      table, guard != NULL ? " WHEN " : "", guard != NULL ? guard : "", into, t->cls,
		                      before);
	if (before == NULL || after == NULL || same == NULL) {
		sqlite3_free(sql);
		sql = NULL;
	}
	sqlite3_free(before);
	sqlite3_free(after);
	sqlite3_free(same);
	sqlite3_free(guard);
	return sql;
}

static bool has_organization(const struct sqlite_shape *shape, enum table_index table)
{
	return table == AGENTS   ? shape->agents_organization
	       : table == LEASES ? shape->leases_organization
	                         : shape->organization;
}

/* All own objects in the order in which they are made. The caller frees each sql and name with sqlite3_free(). */
static int managed_objects(const struct sqlite_shape *shape, struct managed out[MANAGED_MAX])
{
	int count = 0;

	for (int i = 0; i < OWN_TABLES; i++, count++)
		out[count] = (struct managed){managed_tables[i].type, sqlite3_mprintf("%s", managed_tables[i].name),
		                              sqlite3_mprintf("%s", managed_tables[i].sql)};
	for (int i = 0; i < TRACKED; i++)
		for (int op = 0; op < OPERATIONS; op++, count++) {
			char *name =
				sqlite3_mprintf("shmeta_%s_%s", backend_tables[tracked[i].table].name, operations[op]);

			out[count] = (struct managed){
				"trigger", name,
				name != NULL
					? trigger_sql(&tracked[i], op, has_organization(shape, tracked[i].table), name)
					: NULL};
		}
	/* A slice whose segment is gone, by whomever, holds its object no longer. */
	{
		char *place = sqlite3_mprintf(
			"tenant = %s AND topic = OLD.topic AND partition_id = OLD.partition_id AND base_offset = "
			"OLD.base_offset",
			shape->organization ? "OLD.organization_id" : "'" SHMETA_DEFAULT_TENANT "'");

		out[count++] = (struct managed){
			"trigger", sqlite3_mprintf("shmeta_segments_slice"),
			place != NULL
				? sqlite3_mprintf(
					  "CREATE TRIGGER shmeta_segments_slice AFTER DELETE ON segments WHEN EXISTS(SELECT 1 "
					  "FROM shmeta_slices WHERE %s) BEGIN DELETE FROM shmeta_slices WHERE %s; END",
					  place, place)
				: NULL};
		sqlite3_free(place);
	}
	return count;
}

static void managed_free(struct managed *objects, int count)
{
	for (int i = 0; i < count; i++) {
		sqlite3_free((char *)objects[i].name);
		sqlite3_free((char *)objects[i].sql);
	}
}

/* ---- looking ------------------------------------------------------------------------------------------------------------------ */

static int query(struct sqlite_state *state, const char *sql, sqlite3_stmt **ret)
{
	state->counters.prepares++;
	state->counters.queries++;
	return sqlite3_prepare_v2(state->db, sql, -1, ret, NULL);
}

static int execute(struct sqlite_state *state, const char *sql)
{
	state->counters.prepares++;
	state->counters.queries++;
	return sqlite3_exec(state->db, sql, NULL, NULL, NULL);
}

static int one_number(struct sqlite_state *state, const char *sql, int64_t *ret)
{
	sqlite3_stmt *statement = NULL;
	int rc = query(state, sql, &statement);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(statement);
		*ret = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
		rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
	}
	sqlite3_finalize(statement);
	return rc;
}

static void add_missing(char *list, size_t bytes, const char *what, const char *table, const char *column)
{
	size_t used = strlen(list);

	if (used < bytes)
		snprintf(list + used, bytes - used, "%s%s %s%s%s", used > 0 ? ", " : "", what, table,
		         column[0] != '\0' ? "." : "", column);
}

/* Which tables and columns there are. missing: empty, or what is not there. */
static int look(struct sqlite_state *state, char *missing, size_t bytes)
{
	uint32_t seen[TABLE_COUNT] = {0};
	bool organization[TABLE_COUNT] = {false}, exists[TABLE_COUNT] = {false}, from = false, to = false;
	struct sqlite_shape *shape = &state->shape;
	sqlite3_stmt *statement = NULL;
	int64_t rowid_columns = 0;
	int rc;

	memset(shape, 0, sizeof *shape);
	rc = query(state,
	           "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'",
	           &statement);
	while (rc == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
		const char *table = (const char *)sqlite3_column_text(statement, 0);
		const char *column = (const char *)sqlite3_column_text(statement, 1);
		int at = 0;

		while (at < TABLE_COUNT && sqlite3_stricmp(table, backend_tables[at].name) != 0)
			at++;
		if (at == TABLE_COUNT)
			continue;
		exists[at] = true;
		for (uint32_t i = 0; i < TABLE_COLUMNS_MAX && backend_tables[at].columns[i] != NULL; i++)
			if (sqlite3_stricmp(column, backend_tables[at].columns[i]) == 0)
				seen[at] |= 1u << i;
		if (sqlite3_stricmp(column, "organization_id") == 0)
			organization[at] = true;
		shape->cleanup_policy |= at == TOPICS && sqlite3_stricmp(column, "cleanup_policy") == 0;
		from |= at == SEGMENTS && sqlite3_stricmp(column, "min_timestamp") == 0;
		to |= at == SEGMENTS && sqlite3_stricmp(column, "max_timestamp") == 0;
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_reset(statement);
	sqlite3_finalize(statement);
	if (rc != SQLITE_OK)
		return rc;
	for (int at = 0; at < TABLE_COUNT; at++) {
		if (!exists[at])
			add_missing(missing, bytes, "table", backend_tables[at].name, "");
		for (uint32_t i = 0; exists[at] && i < TABLE_COLUMNS_MAX && backend_tables[at].columns[i] != NULL; i++)
			if ((seen[at] & 1u << i) == 0)
				add_missing(missing, bytes, "column", backend_tables[at].name,
				            backend_tables[at].columns[i]);
		/* One tenant column for all that hangs together, or none. */
		if (at <= OFFSETS && exists[at] && organization[TOPICS] != organization[at])
			add_missing(missing, bytes, "column", backend_tables[organization[at] ? TOPICS : at].name,
			            "organization_id");
	}
	shape->organization = organization[TOPICS];
	shape->agents_organization = organization[AGENTS];
	shape->leases_organization = organization[LEASES];
	shape->timestamps = from && to;
	if (exists[SEGMENTS]) {
		/* A WITHOUT ROWID table shows its primary key's index in index_list, and no rowid can be selected. */
		rc = one_number(state, "SELECT count(*) FROM pragma_table_list WHERE name = 'segments' AND wr = 0",
		                &rowid_columns);
		shape->segments_rowid = rowid_columns > 0;
	}
	return rc;
}

/* ---- making -------------------------------------------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < bytes; i++) /* FNV-1a */
		hash = (hash ^ p[i]) * 0x100000001b3u;
	return hash;
}

int sqlite_objects(struct sqlite_state *state, uint64_t *ret)
{
	enum shmeta_status status;
	sqlite3_stmt *statement = sqlite_prepare(state, ST_SCHEMA_OBJECTS, NULL, &status);
	uint64_t hash = 0xcbf29ce484222325u;
	int rc;

	if (statement == NULL)
		return sqlite3_errcode(state->db);
	state->counters.queries++;
	while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
		for (int i = 0; i < 4; i++)
			hash = hash_bytes(hash, sqlite3_column_text(statement, i),
			                  (size_t)sqlite3_column_bytes(statement, i) + 1);
	sqlite3_reset(statement);
	*ret = hash | 1; /* 0 means: not known */
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The text under which an object is known to the file. NULL: it is not there. Freed with sqlite3_free(). */
static int object_sql(sqlite3_stmt *find, const char *name, char **ret)
{
	int rc;

	*ret = NULL;
	sqlite3_bind_text(find, 1, name, -1, SQLITE_STATIC);
	rc = sqlite3_step(find);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_mprintf("%s", sqlite3_column_text(find, 0));
	sqlite3_reset(find);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Are all own objects there, word for word? make: create those that are not. */
static int own_objects(struct sqlite_state *state, bool make, bool *ret_complete)
{
	struct managed objects[MANAGED_MAX];
	int count = managed_objects(&state->shape, objects), rc;
	sqlite3_stmt *find = NULL;

	*ret_complete = true;
	rc = query(state, "SELECT sql FROM sqlite_master WHERE name = ?", &find);
	for (int i = 0; rc == SQLITE_OK && i < count; i++) {
		char *sql = NULL, *drop = NULL;

		rc = objects[i].sql != NULL ? object_sql(find, objects[i].name, &sql) : SQLITE_NOMEM;
		if (rc == SQLITE_OK && sql != NULL && strcmp(sql, objects[i].sql) == 0) {
			sqlite3_free(sql);
			continue;
		}
		*ret_complete = false;
		if (rc == SQLITE_OK && make && sql != NULL) { /* of another version of shmeta */
			drop = sqlite3_mprintf("DROP %s %s", objects[i].type, objects[i].name);
			rc = drop != NULL ? execute(state, drop) : SQLITE_NOMEM;
		}
		if (rc == SQLITE_OK && make)
			rc = execute(state, objects[i].sql);
		if (rc == SQLITE_OK && make && strcmp(objects[i].name, "shmeta_changes") == 0)
			rc = execute(state,
			             "INSERT OR REPLACE INTO shmeta_meta VALUES('feed', lower(hex(randomblob(8))))");
		sqlite3_free(drop);
		sqlite3_free(sql);
	}
	sqlite3_finalize(find);
	managed_free(objects, count);
	if (rc == SQLITE_OK && make) {
		rc = execute(state, "INSERT OR IGNORE INTO shmeta_meta VALUES('source', lower(hex(randomblob(8))))");
		*ret_complete = rc == SQLITE_OK;
	}
	return rc;
}

static int make_schema(struct sqlite_state *state)
{
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < sizeof lean_schema / sizeof lean_schema[0]; i++)
		rc = execute(state, lean_schema[i]);
	return rc;
}

/* The file's identity, and its log's. */
static int identify(struct sqlite_state *state)
{
	char resolved[4200];
	sqlite3_stmt *statement = NULL;
	int rc = SQLITE_OK;

	state->feed_id = 0;
	state->source = 0;
	if (state->shape.feed) {
		rc = query(state, "SELECT name, value FROM shmeta_meta WHERE name IN ('feed', 'source')", &statement);
		while (rc == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
			const char *value = (const char *)sqlite3_column_text(statement, 1);
			uint64_t id = value != NULL ? strtoull(value, NULL, 16) : 0;

			if (strcmp((const char *)sqlite3_column_text(statement, 0), "feed") == 0)
				state->feed_id = id;
			else
				state->source = id;
		}
		if (rc == SQLITE_OK)
			rc = sqlite3_reset(statement);
		sqlite3_finalize(statement);
	}
	if (state->source == 0) { /* nothing of ours in it: then it is the file that lies there */
		uint64_t place[2] = {(uint64_t)state->device, (uint64_t)state->inode};
		const char *full = sqlite3_db_filename(state->db, "main");

		snprintf(resolved, sizeof resolved, "%s", full != NULL ? full : state->path);
		state->source =
			hash_bytes(hash_bytes(0xcbf29ce484222325u, resolved, strlen(resolved)), place, sizeof place) |
			1;
	}
	return rc;
}

/* ---- statements ---------------------------------------------------------------------------------------------------------------- */

/* The statements of write.c. T: " AND organization_id = ?1" of tables that have tenants; ?1 is bound in every one of them. */
static void write_path_statements(struct sqlite_state *state)
{
	const struct sqlite_shape *shape = &state->shape;
	bool o = shape->organization, a = shape->agents_organization, l = shape->leases_organization;
	const char *t = o ? " AND organization_id = ?1" : "", *tl = l ? " AND organization_id = ?1" : "",
		   *ta = a ? " AND (organization_id = ?1 OR organization_id IS NULL)" : "";
	/* An agent of nobody's serves every tenant and is changed by the default one alone, which sees it. */
	const char *own_agent =
		" (organization_id = ?1 OR (organization_id IS NULL AND ?1 = '" SHMETA_DEFAULT_TENANT "'))";
	const char *column = o ? "organization_id, " : "", *value = o ? "?1, " : "";
	const char *slices_of = o ? "?1" : "'" SHMETA_DEFAULT_TENANT "'";
	char **sql = state->sql;

	sql[ST_W_TOPIC_INSERT] = sqlite3_mprintf(
		"INSERT INTO topics(%sname, partition_count, retention_ms, created_at, updated_at, config%s) "
		"VALUES(%s?2, ?3, ?4, ?5, ?5, ?6%s)",
		column, shape->cleanup_policy ? ", cleanup_policy" : "", value,
		shape->cleanup_policy ? ", ifnull(?7, 'delete')" : "");
	sql[ST_W_TOPIC_DELETE] = sqlite3_mprintf("DELETE FROM topics WHERE name = ?2%s", t);
	sql[ST_W_TOPIC_EXISTS] = sqlite3_mprintf("SELECT 1 FROM topics WHERE name = ?2%s", t);
	sql[ST_W_TOPIC_SEGMENTS] = sqlite3_mprintf("DELETE FROM segments WHERE topic = ?2%s", t);
	sql[ST_W_TOPIC_OFFSETS] = sqlite3_mprintf("DELETE FROM consumer_offsets WHERE topic = ?2%s", t);
	sql[ST_W_TOPIC_LEASES] = sqlite3_mprintf("DELETE FROM partition_leases WHERE topic = ?2%s", tl);
	sql[ST_W_PARTITIONS] =
		sqlite3_mprintf("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?3 - 1) "
	                        "INSERT INTO partitions(%stopic, partition_id, high_watermark, created_at, updated_at) "
	                        "SELECT %s?2, i, 0, ?5, ?5 FROM n",
	                        column, value);
	sql[ST_W_PARTITION] =
		sqlite3_mprintf("SELECT high_watermark FROM partitions WHERE topic = ?2 AND partition_id = ?3%s", t);
	sql[ST_W_WATERMARK] = sqlite3_mprintf(
		"UPDATE partitions SET high_watermark = ?4, updated_at = ?5 WHERE topic = ?2 AND partition_id = ?3%s",
		t);
	sql[ST_W_WATERMARK_MAX] =
		sqlite3_mprintf("UPDATE partitions SET high_watermark = max(high_watermark, ?4), updated_at = ?5 "
	                        "WHERE topic = ?2 AND partition_id = ?3%s",
	                        t);
	sql[ST_W_SEGMENT_INSERT] = sqlite3_mprintf(
		"INSERT INTO segments(%sid, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		"s3_key, created_at%s) VALUES(%s?4, ?2, ?3, ?5, ?6, ?7, ?8, ?9, ?10, ?11%s)",
		column, shape->timestamps ? ", min_timestamp, max_timestamp" : "", value,
		shape->timestamps ? ", ?12, ?13" : "");
	sql[ST_W_SEGMENT_AT] = sqlite3_mprintf(
		"SELECT id, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at, %s FROM segments "
		"WHERE topic = ?2 AND partition_id = ?3 AND base_offset = ?4%s",
		shape->timestamps ? "min_timestamp, max_timestamp" : "0, 0", t);
	sql[ST_W_SEGMENT_ID] = sqlite3_mprintf("SELECT topic, partition_id, base_offset FROM segments WHERE id = ?2");
	sql[ST_W_SEGMENTS_BEFORE] = sqlite3_mprintf(
		"DELETE FROM segments WHERE topic = ?2 AND partition_id = ?3 AND base_offset < ?4 AND end_offset < ?4%s",
		t);
	sql[ST_W_GROUP_ENSURE] = sqlite3_mprintf(
		"INSERT OR IGNORE INTO consumer_groups(%sgroup_id, created_at, updated_at) VALUES(%s?2, ?3, ?3)",
		column, value);
	sql[ST_W_GROUP_DELETE] = sqlite3_mprintf("DELETE FROM consumer_groups WHERE group_id = ?2%s", t);
	sql[ST_W_OFFSET_PUT] = sqlite3_mprintf(
		"INSERT OR REPLACE INTO consumer_offsets(%sgroup_id, topic, partition_id, committed_offset, metadata, committed_at) "
		"VALUES(%s?4, ?2, ?3, ?5, ?6, ?7)",
		column, value);
	sql[ST_W_AGENT_PUT] = sqlite3_mprintf(
		"INSERT INTO agents(%sagent_id, address, availability_zone, agent_group, last_heartbeat, started_at, metadata) "
		"VALUES(%s?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(agent_id) DO UPDATE SET address = excluded.address, "
		"availability_zone = excluded.availability_zone, agent_group = excluded.agent_group, "
		"last_heartbeat = excluded.last_heartbeat, metadata = excluded.metadata%s%s",
		a ? "organization_id, " : "", a ? "?1, " : "", a ? " WHERE" : "", a ? own_agent : "");
	sql[ST_W_AGENT_DELETE] =
		sqlite3_mprintf("DELETE FROM agents WHERE agent_id = ?2%s%s", a ? " AND" : "", a ? own_agent : "");
	sql[ST_W_AGENT_EXISTS] = sqlite3_mprintf("SELECT 1 FROM agents WHERE agent_id = ?2%s", ta);
	sql[ST_W_LEASE_GET] =
		sqlite3_mprintf("SELECT leader_agent_id, lease_expires_at, acquired_at, epoch FROM partition_leases "
	                        "WHERE topic = ?2 AND partition_id = ?3%s",
	                        tl);
	sql[ST_W_LEASE_PUT] = sqlite3_mprintf(
		"INSERT OR REPLACE INTO partition_leases(%stopic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch) "
		"VALUES(%s?2, ?3, ?4, ?5, ?6, ?7)",
		l ? "organization_id, " : "", l ? "?1, " : "");
	sql[ST_W_LEASE_DELETE] =
		sqlite3_mprintf("DELETE FROM partition_leases WHERE topic = ?2 AND partition_id = ?3%s", tl);
	/* What the triggers would do (see struct sqlite_shape). */
	sql[ST_W_SLICES_TOPIC] = sqlite3_mprintf(
		shape->feed ? "DELETE FROM shmeta_slices WHERE tenant = %s AND topic = ?2" : "SELECT 1", slices_of);
	sql[ST_W_SLICES_BEFORE] = sqlite3_mprintf(
		shape->feed ? "DELETE FROM shmeta_slices WHERE tenant = %s AND topic = ?2 AND partition_id = ?3 AND "
			      "base_offset < ?4 AND NOT EXISTS(SELECT 1 FROM segments s WHERE s.topic = ?2 AND "
			      "s.partition_id = ?3 AND s.base_offset = shmeta_slices.base_offset%s)"
			    : "SELECT 1",
		slices_of, t);
	sql[ST_W_LOG] = sqlite3_mprintf(
		shape->feed ? "INSERT INTO shmeta_changes(class, op, tenant, topic, partition_id, base_offset, name) "
			      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"
			    : "SELECT 1");
	sql[ST_W_LOG_END] =
		sqlite3_mprintf(shape->feed ? "SELECT ifnull(max(seq), 0) FROM shmeta_changes" : "SELECT 0");
	sql[ST_W_SAVE] = sqlite3_mprintf("SAVEPOINT item");
	sql[ST_W_RELEASE] = sqlite3_mprintf("RELEASE item");
	sql[ST_W_UNDO] = sqlite3_mprintf("ROLLBACK TO item");
	/* What a file without shmeta's own tables cannot have answers as if it had none of it. */
	sql[ST_W_EPOCH_GET] = sqlite3_mprintf(
		shape->feed
			? "SELECT epoch FROM shmeta_lease_epochs WHERE tenant = ?1 AND topic = ?2 AND partition_id = ?3"
			: "SELECT 0 WHERE 0");
	sql[ST_W_EPOCH_PUT] = sqlite3_mprintf(
		shape->feed ? "INSERT OR REPLACE INTO shmeta_lease_epochs VALUES(?1, ?2, ?3, ?4)" : "SELECT 1");
	sql[ST_W_OFFER_PENDING] = sqlite3_mprintf(
		shape->feed
			? "SELECT transfer_id FROM shmeta_transfers WHERE tenant = ?1 AND topic = ?2 AND partition_id = ?3 AND "
			  "state IN ('pending', 'accepted') AND timeout_at > ?4"
			: "SELECT 1");
	sql[ST_W_OFFER_PUT] =
		sqlite3_mprintf(shape->feed ? "INSERT INTO shmeta_transfers(tenant, topic, partition_id, from_agent, "
	                                      "to_agent, state, created_at, timeout_at) "
	                                      "VALUES(?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7)"
	                                    : "SELECT 1");
	sql[ST_W_OFFER_GET] = sqlite3_mprintf(
		shape->feed
			? "SELECT topic, partition_id, from_agent, to_agent, state, timeout_at FROM shmeta_transfers "
			  "WHERE tenant = ?1 AND transfer_id = ?2"
			: "SELECT 1 WHERE 0");
	sql[ST_W_OFFER_STATE] = sqlite3_mprintf(
		shape->feed ? "UPDATE shmeta_transfers SET state = ?3 WHERE transfer_id = ?2" : "SELECT 1");
	sql[ST_W_OBJECT_GET] = sqlite3_mprintf(
		shape->feed
			? "SELECT object_id, size_bytes, (SELECT count(*) FROM shmeta_slices s WHERE s.object_id = o.object_id) "
			  "FROM shmeta_objects o WHERE tenant = ?1 AND s3_bucket = ?2 AND s3_key = ?3"
			: "SELECT 1 WHERE 0");
	sql[ST_W_OBJECT_PUT] = sqlite3_mprintf(
		shape->feed ? "INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) "
			      "VALUES(?1, ?2, ?3, ?4, ?5)"
			    : "SELECT 1");
	sql[ST_W_OBJECT_DELETE] =
		sqlite3_mprintf(shape->feed ? "DELETE FROM shmeta_objects WHERE object_id = ?2" : "SELECT 1");
	sql[ST_W_SLICE_PUT] = sqlite3_mprintf(
		shape->feed ? "INSERT OR REPLACE INTO shmeta_slices VALUES(?1, ?2, ?3, ?4, ?5, ?6)" : "SELECT 1");
	sql[ST_W_OBJECT_KEEP] = sqlite3_mprintf(
		shape->feed ? "UPDATE shmeta_objects SET unreferenced_at = NULL WHERE object_id = ?1" : "SELECT 1");
	sql[ST_W_OBJECTS_MARK] = sqlite3_mprintf(
		shape->feed
			? "UPDATE shmeta_objects SET unreferenced_at = ?2 WHERE tenant = ?1 AND unreferenced_at IS NULL "
			  "AND NOT EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = shmeta_objects.object_id)"
			: "SELECT 1");
	sql[ST_W_OBJECTS] = sqlite3_mprintf(
		shape->feed
			? "SELECT s3_bucket, s3_key, size_bytes, created_at, "
			  "(SELECT count(*) FROM shmeta_slices l WHERE l.object_id = o.object_id), "
			  "iif(EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = o.object_id), 0, unreferenced_at) "
			  "FROM shmeta_objects o WHERE tenant = ?1 AND (s3_bucket, s3_key) > (?2, ?3) "
			  "AND (?4 OR (unreferenced_at <= ?5 "
			  "AND NOT EXISTS(SELECT 1 FROM shmeta_slices l WHERE l.object_id = o.object_id))) "
			  "ORDER BY s3_bucket, s3_key LIMIT ?6"
			: "SELECT 1 WHERE 0 AND ?1 AND ?2 AND ?3 AND ?4 AND ?5 AND ?6");
}

static int write_statements(struct sqlite_state *state)
{
	const struct sqlite_shape *shape = &state->shape;
	bool o = shape->organization;
	const char *t_org = o ? "t.organization_id" : "NULL", *p_org = o ? "p.organization_id" : "NULL",
		   *s_org = o ? "s.organization_id" : "NULL";
	const char *order_org = o ? "organization_id COLLATE BINARY, " : "";
	const char *tie = shape->segments_rowid ? "s.rowid" : "s.id COLLATE BINARY";
	char *topic =
		sqlite3_mprintf("%s, t.name, t.partition_count, t.retention_ms, t.created_at, t.updated_at, t.config, "
	                        "%s",
	                        t_org, shape->cleanup_policy ? "t.cleanup_policy" : "NULL");
	char *partition =
		sqlite3_mprintf("%s, p.topic, p.partition_id, p.high_watermark, p.created_at, p.updated_at", p_org);
	/* Where a slice lies in its object is looked up only in a file that has ever had slices. */
	char *position = sqlite3_mprintf(
		shape->slices
			? "ifnull((SELECT l.position FROM shmeta_slices l WHERE l.tenant = %s AND l.topic = s.topic "
			  "AND l.partition_id = s.partition_id AND l.base_offset = s.base_offset), 0)"
			: "0",
		o ? "s.organization_id" : "'" SHMETA_DEFAULT_TENANT "'");
	char *segment = sqlite3_mprintf("%s, s.topic, s.partition_id, s.base_offset, s.end_offset, s.record_count, "
	                                "s.size_bytes, s.created_at, %s, s.id, s.s3_bucket, s.s3_key, %s",
	                                s_org, shape->timestamps ? "s.min_timestamp, s.max_timestamp" : "0, 0",
	                                position != NULL ? position : "0");
	char *agent =
		sqlite3_mprintf("%s, r.agent_id, r.address, r.availability_zone, r.agent_group, r.last_heartbeat, "
	                        "r.started_at, r.metadata",
	                        shape->agents_organization ? "r.organization_id" : "NULL");
	char *group = sqlite3_mprintf("%s, r.group_id, r.created_at, r.updated_at", o ? "r.organization_id" : "NULL");
	char *offset = sqlite3_mprintf("%s, r.group_id, r.topic, r.partition_id, r.committed_offset, r.metadata, "
	                               "r.committed_at",
	                               o ? "r.organization_id" : "NULL");
	char *lease =
		sqlite3_mprintf("%s, r.topic, r.partition_id, r.leader_agent_id, r.lease_expires_at, r.acquired_at, "
	                        "r.epoch",
	                        shape->leases_organization ? "r.organization_id" : "NULL");
	char **sql = state->sql;
	int missing = topic == NULL || partition == NULL || segment == NULL || position == NULL || agent == NULL ||
	              group == NULL || offset == NULL || lease == NULL;

	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_free(sql[i]);
		sql[i] = NULL;
	}
	sql[ST_BEGIN] = sqlite3_mprintf("BEGIN");
	sql[ST_BEGIN_IMMEDIATE] = sqlite3_mprintf("BEGIN IMMEDIATE");
	sql[ST_COMMIT] = sqlite3_mprintf("COMMIT");
	sql[ST_ROLLBACK] = sqlite3_mprintf("ROLLBACK");
	sql[ST_DATA_VERSION] = sqlite3_mprintf("PRAGMA main.data_version");
	sql[ST_SCHEMA_VERSION] = sqlite3_mprintf("PRAGMA main.schema_version");
	sql[ST_SCHEMA_OBJECTS] = sqlite3_mprintf(
		"SELECT type, name, rootpage, sql FROM sqlite_master WHERE (type = 'table' AND name IN ('topics', "
		"'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', 'partition_leases')) OR "
		"(type = 'table' AND substr(name, 1, 7) = 'shmeta_') OR type = 'trigger' ORDER BY type, name");
	/* Cheap, and near the truth also where old segments have been deleted for years. */
	sql[ST_TOTALS] = sqlite3_mprintf(
		shape->segments_rowid
			? "SELECT (SELECT count(*) FROM topics) + (SELECT count(*) FROM partitions) + "
			  "ifnull((SELECT max(rowid) FROM segments) - (SELECT min(rowid) FROM segments) + 1, 0)"
			: "SELECT 0");
	sql[ST_LOAD_TOPICS] =
		sqlite3_mprintf("SELECT %s FROM topics t ORDER BY %sname COLLATE BINARY", topic, order_org);
	sql[ST_LOAD_PARTITIONS] = sqlite3_mprintf(
		"SELECT %s FROM partitions p ORDER BY %stopic COLLATE BINARY, partition_id", partition, order_org);
	sql[ST_LOAD_SEGMENTS] =
		sqlite3_mprintf("SELECT %s FROM segments s ORDER BY %stopic COLLATE BINARY, partition_id, "
	                        "base_offset, %s",
	                        segment, order_org, tie);
	sql[ST_AGENTS] = sqlite3_mprintf("SELECT %s, 0 FROM agents r", agent);
	sql[ST_GROUPS] = sqlite3_mprintf("SELECT %s, 0 FROM consumer_groups r", group);
	sql[ST_OFFSETS] = sqlite3_mprintf("SELECT %s, 0 FROM consumer_offsets r", offset);
	sql[ST_LEASES] = sqlite3_mprintf("SELECT %s, 0 FROM partition_leases r", lease);
	/* The keys of a fetch lie in a table of our own, in memory, so that statements do not grow with them. kind: as in read.c. CROSS JOIN: keys outside, always. The order needs no sorting: i is the
	 * keys' rowid, the rest comes from the index. */
	sql[ST_KEYS_CLEAR] = sqlite3_mprintf("DELETE FROM temp.shmeta_keys");
	sql[ST_KEYS_ADD] =
		sqlite3_mprintf("INSERT INTO temp.shmeta_keys(i, kind, tenant, topic, partition_id, low, high, name) "
	                        "VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
	sql[ST_KEY_TOPICS] = sqlite3_mprintf("SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN topics t ON %st.name = "
	                                     "k.topic COLLATE BINARY WHERE k.kind <= 1 ORDER BY k.i",
	                                     topic, o ? "t.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_TOPIC_PARTITIONS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN partitions p ON %sp.topic = k.topic COLLATE "
		"BINARY WHERE k.kind <= 1 ORDER BY k.i, p.partition_id",
		partition, o ? "p.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_TOPIC_SEGMENTS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN segments s ON %ss.topic = k.topic COLLATE BINARY "
		"WHERE k.kind = 1 ORDER BY k.i, s.partition_id, s.base_offset, %s",
		segment, o ? "s.organization_id = k.tenant COLLATE BINARY AND " : "", tie);
	sql[ST_KEY_PARTITIONS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN partitions p ON %sp.topic = k.topic COLLATE BINARY AND "
		"p.partition_id = k.partition_id WHERE k.kind IN (2, 3) ORDER BY k.i",
		partition, o ? "p.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_KEY_SEGMENTS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN segments s ON %ss.topic = k.topic COLLATE BINARY AND "
		"s.partition_id = k.partition_id AND s.base_offset BETWEEN k.low AND k.high WHERE k.kind = 3 "
		"ORDER BY k.i, s.base_offset, %s",
		segment, o ? "s.organization_id = k.tenant COLLATE BINARY AND " : "", tie);
	/* The same for one key: ?1 tenant, ?2 topic, ?3 partition, ?4 and ?5 bases. */
	sql[ST_ONE_PARTITION] = sqlite3_mprintf(
		"SELECT %s FROM partitions p WHERE %sp.topic = ?2 COLLATE BINARY AND p.partition_id = ?3", partition,
		o ? "p.organization_id = ?1 COLLATE BINARY AND " : "");
	sql[ST_ONE_SEGMENTS] = sqlite3_mprintf(
		"SELECT %s FROM segments s WHERE %ss.topic = ?2 COLLATE BINARY AND s.partition_id = ?3 AND "
		"s.base_offset BETWEEN ?4 AND ?5 ORDER BY s.base_offset, %s",
		segment, o ? "s.organization_id = ?1 COLLATE BINARY AND " : "", tie);
	/* Ids of agents are one namespace for all tenants. */
	sql[ST_KEY_AGENTS] =
		sqlite3_mprintf("SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN agents r ON r.agent_id = "
	                        "k.name COLLATE BINARY WHERE k.kind = 4 ORDER BY k.i",
	                        agent);
	sql[ST_KEY_GROUPS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN consumer_groups r ON %sr.group_id = k.name COLLATE BINARY "
		"WHERE k.kind IN (5, 6) ORDER BY k.i",
		group, o ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_KEY_OFFSETS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN consumer_offsets r ON %sr.group_id = k.name COLLATE BINARY "
		"AND r.topic = k.topic COLLATE BINARY AND r.partition_id = k.partition_id WHERE k.kind = 5 ORDER BY k.i",
		offset, o ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_GROUP_OFFSETS] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN consumer_offsets r ON %sr.group_id = k.name COLLATE BINARY "
		"WHERE k.kind = 6 ORDER BY k.i",
		offset, o ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_KEY_LEASES] = sqlite3_mprintf(
		"SELECT %s, k.i FROM temp.shmeta_keys k CROSS JOIN partition_leases r ON %sr.topic = k.topic COLLATE BINARY "
		"AND r.partition_id = k.partition_id WHERE k.kind = 7 ORDER BY k.i",
		lease, shape->leases_organization ? "r.organization_id = k.tenant COLLATE BINARY AND " : "");
	sql[ST_FEED_STATE] = sqlite3_mprintf("SELECT (SELECT min(seq) FROM shmeta_changes), (SELECT max(seq) FROM "
	                                     "shmeta_changes), (SELECT value FROM shmeta_meta WHERE name = 'feed')");
	sql[ST_FEED_CHANGES] = sqlite3_mprintf(
		"SELECT class, op, tenant, topic, partition_id, min(base_offset), max(base_offset), name FROM shmeta_changes "
		"WHERE seq > ? AND seq <= ? GROUP BY tenant, topic, partition_id, class, op, name "
		"ORDER BY tenant, topic, partition_id, class, op");
	sql[ST_FEED_PRUNE] = sqlite3_mprintf("DELETE FROM shmeta_changes WHERE seq <= ?");
	write_path_statements(state);
	for (int i = 0; i < ST_COUNT; i++)
		missing |= sql[i] == NULL;
	sqlite3_free(position);
	sqlite3_free(topic);
	sqlite3_free(partition);
	sqlite3_free(segment);
	sqlite3_free(agent);
	sqlite3_free(group);
	sqlite3_free(offset);
	sqlite3_free(lease);
	return missing ? SQLITE_NOMEM : SQLITE_OK;
}

int sqlite_rewrite(struct sqlite_state *state)
{
	int64_t slices = 0;
	int rc;

	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_finalize(state->statements[i]);
		state->statements[i] = NULL;
	}
	rc = state->shape.feed ? one_number(state, "SELECT EXISTS(SELECT 1 FROM shmeta_slices)", &slices) : SQLITE_OK;
	state->shape.slices = slices != 0;
	return rc == SQLITE_OK ? write_statements(state) : rc;
}

static int text_encoding(void *arg, int count, char **values, char **columns)
{
	(void)columns;
	*(bool *)arg = count > 0 && values[0] != NULL && strcmp(values[0], "UTF-8") == 0;
	return 0;
}

/* Everything that may write, in one transaction, so that two daemons that start at once do not meet half of it. */
static int make_all(struct sqlite_state *state, bool *ret_made_schema)
{
	int64_t tables_there = 0;
	char missing[8] = "";
	int rc = execute(state, "BEGIN IMMEDIATE");

	if (rc != SQLITE_OK)
		return rc;
	rc = one_number(state,
	                "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' "
	                "ESCAPE '\\'",
	                &tables_there);
	*ret_made_schema = rc == SQLITE_OK && tables_there == 0;
	if (*ret_made_schema)
		rc = make_schema(state);
	if (rc == SQLITE_OK)
		rc = look(state, missing, sizeof missing);
	if (rc == SQLITE_OK && missing[0] == '\0')
		rc = own_objects(state, true, &state->shape.feed);
	if (rc == SQLITE_OK)
		rc = execute(state, "COMMIT");
	if (rc != SQLITE_OK)
		sqlite3_exec(state->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

enum shmeta_status sqlite_attach(struct sqlite_state *state, struct backend_error *err)
{
	char missing[300] = "";
	bool utf8 = true, empty, made;
	int64_t tables_there = 0, triggers = 0;
	int rc;

	rc = sqlite3_exec(state->db, "PRAGMA encoding", text_encoding, &utf8, NULL);
	if (rc == SQLITE_OK)
		rc = one_number(
			state,
			"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' "
			"ESCAPE '\\'",
			&tables_there);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "reading the schema of", err);
	if (!utf8)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"sqlite: %s keeps its text in UTF-16; shmeta serves databases whose encoding is UTF-8",
			state->path);
	empty = tables_there == 0;
	if (empty && state->read_only)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"sqlite: %s has no tables, and this process may not write to it: create the schema first, "
			"or allow shmeta to",
			state->path);
	if (empty) {
		/* A file of our own: readers beside the writer, and a commit that costs no fsync of the database. */
		rc = execute(state, "PRAGMA journal_mode=WAL");
		if (rc != SQLITE_OK)
			return sqlite_fail(state, rc, "creating", err);
		state->wal = true;
		rc = make_all(state, &made);
		if (rc != SQLITE_OK)
			return sqlite_fail(state, rc, "creating the schema of", err);
	}
	rc = look(state, missing, sizeof missing);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "reading the schema of", err);
	if (missing[0] != '\0')
		return backend_fail(err, SHMETA_ERR_CONFIG,
		                    "sqlite: %s is no StreamHouse database of a shape that shmeta knows: missing: %s",
		                    state->path, missing);
	rc = own_objects(state, false, &state->shape.feed);
	if (rc == SQLITE_OK && !state->shape.feed && state->options.manage_schema && !state->read_only)
		rc = make_all(state, &made);
	if (rc == SQLITE_OK)
		rc = identify(state);
	if (rc == SQLITE_OK)
		rc = one_number(state,
		                "SELECT EXISTS(SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND "
		                "substr(name, 1, 7) <> 'shmeta_')",
		                &triggers);
	state->shape.triggers = triggers != 0;
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(state->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, (int)state->shape.triggers, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite_rewrite(state);
	if (rc == SQLITE_OK)
		rc = execute(state,
		             "CREATE TEMP TABLE IF NOT EXISTS shmeta_keys(i INTEGER PRIMARY KEY, kind INTEGER, "
		             "tenant TEXT, topic TEXT, partition_id INTEGER, low INTEGER, high INTEGER, name TEXT)");
	if (rc == SQLITE_OK)
		rc = sqlite_number(state, ST_SCHEMA_VERSION, &state->schema_version);
	if (rc == SQLITE_OK)
		rc = sqlite_objects(state, &state->objects);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "preparing", err);
	return SHMETA_OK;
}

enum shmeta_status sqlite_remove_managed(struct sqlite_state *state, struct backend_error *err)
{
	struct managed objects[MANAGED_MAX];
	int count = managed_objects(&state->shape, objects), rc = execute(state, "BEGIN IMMEDIATE");

	/* Triggers first: one without its table would fail the application's statements. */
	for (int i = count; rc == SQLITE_OK && i-- > 0;) {
		char *drop = sqlite3_mprintf("DROP %s IF EXISTS %s", objects[i].type, objects[i].name);

		rc = drop != NULL ? execute(state, drop) : SQLITE_NOMEM;
		sqlite3_free(drop);
	}
	if (rc == SQLITE_OK)
		rc = execute(state, "COMMIT");
	if (rc != SQLITE_OK && sqlite3_get_autocommit(state->db) == 0)
		sqlite3_exec(state->db, "ROLLBACK", NULL, NULL, NULL);
	managed_free(objects, count);
	state->objects = 0;
	return rc == SQLITE_OK ? SHMETA_OK : sqlite_fail(state, rc, "removing shmeta's tables from", err);
}

/* ---- the verbs of `shmetactl schema` ------------------------------------------------------------------------------------------- */

/* What making, or removing, all own objects takes. *ret_whole: nothing is missing; *ret_there: how many there are. */
static enum shmeta_status tell_objects(struct sqlite_state *state, enum backend_schema_verb verb,
                                       backend_schema_fn *say, void *arg, int *ret_there, int *ret_count,
                                       struct backend_error *err)
{
	struct managed objects[MANAGED_MAX];
	int count = managed_objects(&state->shape, objects), rc;
	enum shmeta_status status = SHMETA_OK;
	sqlite3_stmt *find = NULL;

	*ret_there = 0;
	*ret_count = count;
	rc = query(state, "SELECT sql FROM sqlite_master WHERE name = ?", &find);
	for (int i = 0; rc == SQLITE_OK && status == SHMETA_OK && i < count; i++) {
		const struct managed *o = &objects[verb == BACKEND_SCHEMA_REMOVE ? count - 1 - i : i];
		char *sql = NULL, drop[120];
		bool same;

		rc = o->sql != NULL ? object_sql(find, o->name, &sql) : SQLITE_NOMEM;
		same = sql != NULL && strcmp(sql, o->sql) == 0;
		*ret_there += verb == BACKEND_SCHEMA_REMOVE ? sql != NULL : same;
		snprintf(drop, sizeof drop, "DROP %s %s", o->type, o->name);
		if (rc == SQLITE_OK && sql != NULL &&
		    (verb == BACKEND_SCHEMA_REMOVE || (verb == BACKEND_SCHEMA_APPLY && !same)))
			status = say(arg, "sql", drop);
		if (rc == SQLITE_OK && status == SHMETA_OK && verb == BACKEND_SCHEMA_APPLY && !same)
			status = say(arg, "sql", o->sql);
		sqlite3_free(sql);
	}
	sqlite3_finalize(find);
	managed_free(objects, count);
	return rc == SQLITE_OK ? status : sqlite_fail(state, rc, "reading the schema of", err);
}

static enum shmeta_status tell_status(struct sqlite_state *state, bool empty, const char *missing,
                                      backend_schema_fn *say, void *arg, struct backend_error *err)
{
	int64_t rows = 0;
	int there, count;
	enum shmeta_status status;
	char line[200];

	if (empty)
		return say(arg, "tables", "none: the file is empty");
	if (missing[0] != '\0')
		return say(arg, "missing", missing);
	snprintf(line, sizeof line, "%s, segments %s timestamps",
	         state->shape.organization ? "with organizations" : "without organizations",
	         state->shape.timestamps ? "with" : "without");
	status = say(arg, "tables", line);
	if (status == SHMETA_OK)
		status = tell_objects(state, BACKEND_SCHEMA_STATUS, say, arg, &there, &count, err);
	if (status != SHMETA_OK)
		return status;
	snprintf(line, sizeof line, "%d of %d", there, count);
	status = say(arg, "own tables and triggers", line);
	if (status == SHMETA_OK && there == count) {
		if (one_number(state, "SELECT count(*) FROM shmeta_changes", &rows) != SQLITE_OK)
			return sqlite_fail(state, sqlite3_errcode(state->db), "reading the schema of", err);
		snprintf(line, sizeof line, "%lld", (long long)rows);
		status = say(arg, "logged changes", line);
	}
	return status != SHMETA_OK ? status
	                           : say(arg, "change feed",
	                                 there == count ? "complete" : "none: 'shmetactl schema apply' makes it");
}

enum shmeta_status sqlite_schema(struct sqlite_state *state, enum backend_schema_verb verb, int dry_run,
                                 backend_schema_fn *say, void *arg, struct backend_error *err)
{
	char missing[300] = "";
	int64_t tables_there = 0;
	enum shmeta_status status = SHMETA_OK;
	int there = 0, count = 0, rc;
	bool empty, made;

	rc = one_number(
		state,
		"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
		&tables_there);
	if (rc == SQLITE_OK)
		rc = look(state, missing, sizeof missing);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "reading the schema of", err);
	empty = tables_there == 0;
	if (verb == BACKEND_SCHEMA_STATUS)
		return tell_status(state, empty, missing, say, arg, err);
	if (missing[0] != '\0' && !empty)
		return verb == BACKEND_SCHEMA_REMOVE
		               ? SHMETA_OK
		               : backend_fail(
					 err, SHMETA_ERR_CONFIG,
					 "sqlite: %s is no StreamHouse database of a shape that shmeta knows: missing: %s",
					 state->path, missing);
	if (empty && verb == BACKEND_SCHEMA_APPLY) {
		state->shape = (struct sqlite_shape){.timestamps = true, .segments_rowid = true};
		for (size_t i = 0; status == SHMETA_OK && i < sizeof lean_schema / sizeof lean_schema[0]; i++)
			status = say(arg, "sql", lean_schema[i]);
	}
	if (status == SHMETA_OK)
		status = tell_objects(state, verb, say, arg, &there, &count, err);
	if (status != SHMETA_OK || dry_run || (verb == BACKEND_SCHEMA_REMOVE ? there == 0 : there == count))
		return status;
	if (verb == BACKEND_SCHEMA_REMOVE)
		return sqlite_remove_managed(state, err);
	if (empty && (rc = execute(state, "PRAGMA journal_mode=WAL")) != SQLITE_OK)
		return sqlite_fail(state, rc, "creating", err);
	rc = make_all(state, &made);
	return rc == SQLITE_OK ? SHMETA_OK : sqlite_fail(state, rc, "creating the schema of", err);
}
