/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: shmeta's own tables and triggers, what they log, and what they cannot.
 *
 * Every row that is inserted, updated or deleted is logged by AFTER triggers. SQLite tells no
 * trigger of the rows that a REPLACE removes (unless the connection asks for recursive triggers),
 * so BEFORE triggers log, for each unique key of a table beside the key that its rows are known by,
 * the row that has the new row's value of it. What SQLite cannot show to a trigger is recognised
 * (sqlite_own_objects()): then there is no feed, and the reason is in state->why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/sql/tables.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_files.h"
#include "backends/sqlite/sqlite_triggers.h"

struct managed {
	const char *type, *name, *sql; /* sql "": it is not to be there */
};

/* The log bounds itself, so that it cannot fill the disk while no daemon runs: every 1 024th row
 * removes what is more than 1 048 576 rows old. A daemon that was away for longer finds a gap and
 * reconciles. While one runs it prunes far earlier, in batches and off the application's path
 * (sqlite_feed.c). */
static const struct managed managed_tables[] = {
	{"table", "shmeta_meta", "CREATE TABLE shmeta_meta(name TEXT PRIMARY KEY NOT NULL, value TEXT) WITHOUT ROWID"},
	/* No constraint but the key: a trigger must never fail the application's statement.
	 * AUTOINCREMENT: a number is never used twice, also after the rows before it are gone.
	 * token: a position in the log names the row and its token, and so proves that it was taken
	 * from this log and not from one that was rolled back and has grown again. */
	{"table", "shmeta_changes",
         "CREATE TABLE shmeta_changes(seq INTEGER PRIMARY KEY AUTOINCREMENT, class INTEGER, op INTEGER, tenant TEXT, "
         "topic TEXT, partition_id INTEGER, base_offset INTEGER, name TEXT, token INTEGER DEFAULT (random()))"},
	/* Epochs of leases never go back: not through release, deregistration or recreation of the
	 * topic. So they go by name. */
	{"table", "shmeta_lease_epochs",
         "CREATE TABLE shmeta_lease_epochs(tenant TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "
         "epoch INTEGER NOT NULL, PRIMARY KEY(tenant, topic, partition_id)) WITHOUT ROWID"},
	/* The highest epoch that was ever given with a compaction of a partition, by name as
	 * well. */
	{"table", "shmeta_compactions",
         "CREATE TABLE shmeta_compactions(tenant TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "
         "epoch INTEGER NOT NULL, PRIMARY KEY(tenant, topic, partition_id)) WITHOUT ROWID"},
	/* Under which epochs something was written, and from where on; a row of epoch 0 stands for
	 * those that are not kept any more. */
	{"table", "shmeta_leader_epochs",
         "CREATE TABLE shmeta_leader_epochs(tenant TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, "
         "epoch INTEGER NOT NULL, start INTEGER NOT NULL, created_at INTEGER NOT NULL, "
         "PRIMARY KEY(tenant, topic, partition_id, epoch)) WITHOUT ROWID"},
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
	/* A row that goes because its parent went is not logged: the parent's own row says it all,
	 * and a deleted topic must not write a million of them. By the time the cascade comes the
	 * parent is gone. */
	const char *delete_when;
} tracked[] = {
	{TOPICS, SHMETA_CLASS_TOPIC, "name", NULL, NULL, NULL, NULL},
	{PARTITIONS, SHMETA_CLASS_PARTITION, "topic", "partition_id", NULL, NULL,
         "EXISTS(SELECT 1 FROM topics WHERE name = OLD.topic%s)"},
	{SEGMENTS, SHMETA_CLASS_SEGMENT, "topic", "partition_id", "base_offset", NULL,
         "EXISTS(SELECT 1 FROM partitions WHERE topic = OLD.topic AND partition_id = OLD.partition_id%s)"},
	{GROUPS, SHMETA_CLASS_OFFSET, NULL, NULL, NULL, "group_id", NULL},
	{OFFSETS, SHMETA_CLASS_OFFSET, "topic", "partition_id", NULL, "group_id", NULL},
	{AGENTS, SHMETA_CLASS_AGENT, NULL, NULL, NULL, "agent_id", NULL},
	{LEASES, SHMETA_CLASS_LEASE, "topic", "partition_id", NULL, NULL, NULL},
};
enum { TRACKED = sizeof tracked / sizeof tracked[0], OWN_TABLES = sizeof managed_tables / sizeof managed_tables[0] };
static const char *const operations[] = {"insert", "update", "delete"}; /* enum feed_op - 1 */
enum { OPERATIONS = 3, EPOCH_TRIGGERS = 4, MANAGED_MAX = OWN_TABLES + TRACKED * (OPERATIONS + 2) + 1 + EPOCH_TRIGGERS };

static bool has_organization(const struct sqlite_shape *shape, enum table_index table)
{
	return table == AGENTS   ? shape->agents_organization
	       : table == LEASES ? shape->leases_organization
	                         : shape->organization;
}

static const char log_into[] = "INSERT INTO shmeta_changes(class, op, tenant, topic, partition_id, base_offset, name)";

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

/* "A.column IS B.column COLLATE BINARY AND ..." of the key's. */
static char *same_sql(const struct tracked *t, bool organization, const char *a, const char *b)
{
	const char *const columns[] = {organization ? "organization_id" : NULL, t->topic, t->partition, t->base,
	                               t->name};
	sqlite3_str *text = sqlite3_str_new(NULL);

	for (int i = 0; i < 5; i++)
		if (columns[i] != NULL)
			sqlite3_str_appendf(text, "%s%s%s IS %s%s COLLATE BINARY",
			                    sqlite3_str_length(text) > 0 ? " AND " : "", a, columns[i], b, columns[i]);
	return sqlite3_str_finish(text);
}

/* The slice that a segment at a place is. row: "OLD." or "NEW." */
static char *slice_sql(const struct sqlite_shape *shape, const char *row)
{
	return sqlite3_mprintf("tenant = %s%s AND topic = %stopic AND partition_id = %spartition_id AND base_offset = "
	                       "%sbase_offset",
	                       shape->organization ? row : "",
	                       shape->organization ? "organization_id" : "'" SHMETA_DEFAULT_TENANT "'", row, row, row);
}

static char *trigger_sql(const struct sqlite_shape *shape, const struct tracked *t, int op, const char *name)
{
	const char *table = backend_tables[t->table].name;
	bool organization = has_organization(shape, t->table);
	char *before = key_sql(t, organization, "OLD."), *after = key_sql(t, organization, "NEW."),
	     *same = same_sql(t, organization, "OLD.", "NEW."), *guard = NULL, *slice = NULL, *sql;

	if (t->delete_when != NULL)
		guard = sqlite3_mprintf(t->delete_when,
		                        organization ? " AND organization_id = OLD.organization_id" : "");
	/* The row that a REPLACE put a new one in the place of was a slice, perhaps, and went
	 * without a word. */
	if (op == 0 && t->table == SEGMENTS)
		slice = slice_sql(shape, "NEW.");
	if (op == 0)
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER INSERT ON %s BEGIN %s VALUES(%d, 1, %s);%s%s%s END",
		                      name, table, log_into, t->cls, after,
		                      slice != NULL ? " DELETE FROM shmeta_slices WHERE " : "",
		                      slice != NULL ? slice : "", slice != NULL ? ";" : "");
	else if (op == 1) /* a moved row: gone from where it was, new where it is */
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER UPDATE ON %s BEGIN "
		                      "%s SELECT %d, 3, %s WHERE NOT (%s); "
		                      "%s SELECT %d, CASE WHEN %s THEN 2 ELSE 1 END, %s; END",
		                      name, table, log_into, t->cls, before, same, log_into, t->cls, same, after);
	else
		sql = sqlite3_mprintf("CREATE TRIGGER %s AFTER DELETE ON %s%s%s BEGIN %s VALUES(%d, 3, %s); END", name,
		                      table, guard != NULL ? " WHEN " : "", guard != NULL ? guard : "", log_into,
		                      t->cls, before);
	if (before == NULL || after == NULL || same == NULL || (op == 0 && t->table == SEGMENTS && slice == NULL)) {
		sqlite3_free(sql);
		sql = NULL;
	}
	sqlite3_free(before);
	sqlite3_free(after);
	sqlite3_free(same);
	sqlite3_free(guard);
	sqlite3_free(slice);
	return sql;
}

/* ---- rows that a REPLACE removes ---- */

struct replace {
	const struct tracked *t;
	bool organization;
	char *place, *not_same;
	sqlite3_str *body, *unchanged;
	/* The key that is being read. */
	sqlite3_str *where, *kept;
	uint32_t seen; /* a bit for each column of the place that it has, compared byte by byte */
};

/* One unique key is complete: unless rows that are equal in it are equal in their place. */
static void end_key(struct replace *r)
{
	const char *const columns[] = {r->organization && r->t->table != AGENTS ? "" : NULL, r->t->topic,
	                               r->t->partition, r->t->base, r->t->name};
	char *where = sqlite3_str_finish(r->where), *kept = sqlite3_str_finish(r->kept);
	uint32_t needed = 0;

	for (int i = 0; i < 5; i++)
		needed |= columns[i] != NULL ? 1u << i : 0;
	if (where != NULL && kept != NULL && (r->seen & needed) != needed) {
		sqlite3_str_appendf(r->body, " %s SELECT %d, 3, %s FROM %s r WHERE %s AND NOT (%s);", log_into,
		                    r->t->cls, r->place, backend_tables[r->t->table].name, where, r->not_same);
		sqlite3_str_appendf(r->unchanged, "%s%s", sqlite3_str_length(r->unchanged) > 0 ? " AND " : "", kept);
	}
	sqlite3_free(where);
	sqlite3_free(kept);
	r->where = sqlite3_str_new(NULL);
	r->kept = sqlite3_str_new(NULL);
	r->seen = 0;
}

static void add_column(struct replace *r, const char *column, const char *collation)
{
	const char *const columns[] = {"organization_id", r->t->topic, r->t->partition, r->t->base, r->t->name};
	const char *and = sqlite3_str_length(r->where) > 0 ? " AND " : "";

	sqlite3_str_appendf(r->where, "%sr.\"%w\" = NEW.\"%w\" COLLATE \"%w\"", and, column, column, collation);
	sqlite3_str_appendf(r->kept, "%sOLD.\"%w\" IS NEW.\"%w\" COLLATE BINARY", and, column, column);
	for (int i = 0; i < 5; i++)
		if (columns[i] != NULL && sqlite3_stricmp(columns[i], column) == 0 &&
		    (sqlite3_stricmp(collation, "BINARY") == 0 || i == 2 || i == 3))
			r->seen |= 1u << i;
}

/* The bodies of a table's two triggers for REPLACE; both "" where it needs none. obstacle: a unique
 * key that no trigger can look up. */
static int replace_sql(struct sqlite_state *state, const struct tracked *t, char *ret[2], char *obstacle, size_t bytes)
{
	const char *table = backend_tables[t->table].name;
	struct replace r = {.t = t,
	                    .organization = has_organization(&state->shape, t->table),
	                    .body = sqlite3_str_new(NULL),
	                    .unchanged = sqlite3_str_new(NULL),
	                    .where = sqlite3_str_new(NULL),
	                    .kept = sqlite3_str_new(NULL)};
	char *sql = sqlite3_mprintf(
		"SELECT il.seq, il.name, il.partial, xi.name, xi.coll FROM pragma_index_list('%s') il, "
		"pragma_index_xinfo(il.name) xi WHERE il.\"unique\" = 1 AND xi.key = 1 "
		/* a rowid that has a name of its own */
		"UNION ALL SELECT 1000000, c.name, 0, c.name, 'BINARY' FROM pragma_table_info('%s') c WHERE c.pk = 1 AND "
		"upper(c.type) = 'INTEGER' AND NOT EXISTS(SELECT 1 FROM pragma_index_list('%s') WHERE origin = 'pk') AND "
		"(SELECT count(*) FROM pragma_table_info('%s') WHERE pk > 0) = 1 ORDER BY 1",
		table, table, table, table);
	char *body, *unchanged;
	sqlite3_stmt *q = NULL;
	int64_t key = -1;
	int rc;

	r.place = key_sql(t, r.organization, "r.");
	r.not_same = same_sql(t, r.organization, "r.", "NEW.");
	rc = sql != NULL && r.place != NULL && r.not_same != NULL ? sqlite_query(state, sql, &q) : SQLITE_NOMEM;
	while (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
		const char *column = (const char *)sqlite3_column_text(q, 3);

		rc = SQLITE_OK;
		if (key >= 0 && key != sqlite3_column_int64(q, 0))
			end_key(&r);
		key = sqlite3_column_int64(q, 0);
		if (column != NULL && sqlite3_column_int(q, 2) == 0)
			add_column(&r, column, (const char *)sqlite3_column_text(q, 4));
		else if (obstacle[0] == '\0')
			(void)snprintf(
				obstacle, bytes,
				"the unique index %s of table %s is %s, so that rows which a REPLACE removes cannot be "
				"logged",
				(const char *)sqlite3_column_text(q, 1), table,
				column == NULL ? "over an expression" : "partial");
	}
	if (key >= 0 && sqlite3_str_length(r.where) > 0)
		end_key(&r);
	(void)sqlite3_finalize(q);
	sqlite3_free(sql);
	sqlite3_free(sqlite3_str_finish(r.where));
	sqlite3_free(sqlite3_str_finish(r.kept));
	body = sqlite3_str_finish(r.body);
	unchanged = sqlite3_str_finish(r.unchanged);
	ret[0] = body != NULL
	                 ? sqlite3_mprintf("CREATE TRIGGER shmeta_%s_replace_insert BEFORE INSERT ON %s BEGIN%s END",
	                                   table, table, body)
	                 : sqlite3_mprintf("");
	ret[1] = body != NULL
	                 ? sqlite3_mprintf("CREATE TRIGGER shmeta_%s_replace_update BEFORE UPDATE ON %s WHEN NOT (%s) "
	                                   "BEGIN%s END",
	                                   table, table, unchanged, body)
	                 : sqlite3_mprintf("");
	sqlite3_free(body);
	sqlite3_free(unchanged);
	sqlite3_free(r.place);
	sqlite3_free(r.not_same);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ---- epochs of leases that others take away ---- */

/* Two statements, for the lease `row` ("OLD" or "r"), selected by from. Neither can meet a
 * conflict: the policy of the statement that fired a trigger (OR REPLACE) would overrule its
 * own. */
static char *keep_sql(const struct sqlite_shape *shape, const char *row, const char *from)
{
	char *tenant = shape->leases_organization ? sqlite3_mprintf("%s.organization_id", row)
	                                          : sqlite3_mprintf("'" SHMETA_DEFAULT_TENANT "'");
	char *good = sqlite3_mprintf("typeof(%s) = 'text' AND typeof(%s.topic) = 'text' AND typeof(%s.partition_id) = "
	                             "'integer' AND typeof(%s.epoch) = 'integer'",
	                             tenant, row, row, row);
	char *place = sqlite3_mprintf(
		"shmeta_lease_epochs.tenant = %s AND shmeta_lease_epochs.topic = %s.topic AND shmeta_lease_epochs.partition_id = %s.partition_id",
		tenant, row, row);
	char *sql = NULL;

	if (tenant != NULL && good != NULL && place != NULL)
		sql = sqlite3_mprintf(
			"INSERT INTO shmeta_lease_epochs(tenant, topic, partition_id, epoch) SELECT %s, %s.topic, "
			"%s.partition_id, %s.epoch %s%s AND NOT EXISTS(SELECT 1 FROM shmeta_lease_epochs WHERE %s); "
			"UPDATE shmeta_lease_epochs SET epoch = (SELECT %s.epoch %s%s AND %s) WHERE EXISTS(SELECT 1 "
			"%s%s AND %s AND %s.epoch > shmeta_lease_epochs.epoch);",
			tenant, row, row, row, from, good, place, row, from, good, place, from, good, place, row);
	sqlite3_free(tenant);
	sqlite3_free(good);
	sqlite3_free(place);
	return sql;
}

static int epoch_triggers(const struct sqlite_shape *shape, struct managed *out)
{
	const char *org = shape->leases_organization ? " AND r.organization_id = NEW.organization_id" : "";
	const char *moved_org = shape->leases_organization ? "OLD.organization_id IS NOT NEW.organization_id OR " : "";
	char *from = sqlite3_mprintf("FROM partition_leases r WHERE r.topic = NEW.topic AND r.partition_id = "
	                             "NEW.partition_id%s AND ",
	                             org);
	char *moved = sqlite3_mprintf("(%sOLD.topic IS NOT NEW.topic OR OLD.partition_id IS NOT NEW.partition_id)",
	                              moved_org);
	char *old = keep_sql(shape, "OLD", "WHERE "), *there = from != NULL ? keep_sql(shape, "r", from) : NULL;
	bool possible = shape->leases_organization == shape->organization,
	     ok = old != NULL && there != NULL && moved != NULL;
	const struct managed all[EPOCH_TRIGGERS] = {
		{"trigger", "shmeta_leases_epoch_delete",
	         ok ? sqlite3_mprintf(
			      "CREATE TRIGGER shmeta_leases_epoch_delete AFTER DELETE ON partition_leases BEGIN %s END",
			      old)
	            : NULL},
		{"trigger", "shmeta_leases_epoch_update",
	         ok ? sqlite3_mprintf(
			      "CREATE TRIGGER shmeta_leases_epoch_update AFTER UPDATE ON partition_leases WHEN %s OR "
			      "NEW.epoch IS NOT max(OLD.epoch, NEW.epoch) BEGIN %s END",
			      moved, old)
	            : NULL},
		{"trigger", "shmeta_leases_epoch_insert",
	         ok ? sqlite3_mprintf(
			      "CREATE TRIGGER shmeta_leases_epoch_insert BEFORE INSERT ON partition_leases BEGIN %s END",
			      there)
	            : NULL},
		{"trigger", "shmeta_leases_epoch_move",
	         ok ? sqlite3_mprintf(
			      "CREATE TRIGGER shmeta_leases_epoch_move BEFORE UPDATE ON partition_leases WHEN %s "
			      "BEGIN %s END",
			      moved, there)
	            : NULL}};

	for (int i = 0; i < EPOCH_TRIGGERS; i++) {
		out[i] = (struct managed){all[i].type, sqlite3_mprintf("%s", all[i].name), all[i].sql};
		if (!possible) { /* a lease does not say whose it is */
			sqlite3_free((char *)out[i].sql);
			out[i].sql = sqlite3_mprintf("");
		}
	}
	sqlite3_free(from);
	sqlite3_free(moved);
	sqlite3_free(old);
	sqlite3_free(there);
	return EPOCH_TRIGGERS;
}

/* ---- all of them ---- */

/* All own objects in the order in which they are made. The caller frees them with
 * managed_free(). */
static int managed_objects(struct sqlite_state *state, struct managed out[MANAGED_MAX], int *ret_rc)
{
	int count = 0;

	*ret_rc = SQLITE_OK;
	state->why[0] = '\0';
	for (int i = 0; i < OWN_TABLES; i++, count++)
		out[count] = (struct managed){managed_tables[i].type, sqlite3_mprintf("%s", managed_tables[i].name),
		                              sqlite3_mprintf("%s", managed_tables[i].sql)};
	for (int i = 0; i < TRACKED; i++) {
		const char *table = backend_tables[tracked[i].table].name;
		char *replace[2] = {NULL, NULL};

		for (int op = 0; op < OPERATIONS; op++, count++) {
			char *name = sqlite3_mprintf("shmeta_%s_%s", table, operations[op]);

			out[count] = (struct managed){"trigger", name,
			                              name != NULL ? trigger_sql(&state->shape, &tracked[i], op, name)
			                                           : NULL};
		}
		if (*ret_rc == SQLITE_OK)
			*ret_rc = replace_sql(state, &tracked[i], replace, state->why, sizeof state->why);
		for (int op = 0; op < 2; op++)
			out[count++] = (struct managed){
				"trigger", sqlite3_mprintf("shmeta_%s_replace_%s", table, operations[op]), replace[op]};
	}
	/* A slice whose segment is gone, by whomever, holds its object no longer. */
	{
		char *place = slice_sql(&state->shape, "OLD.");

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
	count += epoch_triggers(&state->shape, out + count);
	for (int i = 0; i < count; i++)
		if (*ret_rc == SQLITE_OK && (out[i].name == NULL || out[i].sql == NULL))
			*ret_rc = SQLITE_NOMEM;
	return count;
}

static void managed_free(struct managed *objects, int count)
{
	for (int i = 0; i < count; i++) {
		sqlite3_free((char *)objects[i].name);
		sqlite3_free((char *)objects[i].sql);
	}
}

/* The text under which an object is known to the file. NULL: it is not there. Freed with
 * sqlite3_free(). */
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

/* The version of the shmeta that made what is there. 0: nothing is, or one that did not say. */
static int made_by(struct sqlite_state *state, int64_t *ret)
{
	int64_t there = 0;
	int rc = sqlite_one_number(state, "SELECT count(*) FROM sqlite_master WHERE name = 'shmeta_meta'", &there);

	*ret = 0;
	if (rc == SQLITE_OK && there > 0)
		rc = sqlite_one_number(state, "SELECT CAST(value AS INTEGER) FROM shmeta_meta WHERE name = 'version'",
		                       ret);
	return rc;
}

bool sqlite_is_newer(struct sqlite_state *state)
{
	int64_t version = 0;

	return made_by(state, &version) == SQLITE_OK && version > SQLITE_OWN_VERSION;
}

/* Rows are never dropped but for those of the log. */
static bool may_be_made_anew(const struct managed *o)
{
	return strcmp(o->type, "table") != 0 || strcmp(o->name, "shmeta_changes") == 0;
}

/* Segments that went while their trigger was missing left their slices behind. */
static int drop_dead_slices(struct sqlite_state *state)
{
	const char *tenant = state->shape.organization ? "s.organization_id" : "'" SHMETA_DEFAULT_TENANT "'";
	char *sql =
		sqlite3_mprintf("DELETE FROM shmeta_slices WHERE NOT EXISTS(SELECT 1 FROM segments s, shmeta_objects b "
	                        "WHERE shmeta_slices.tenant = %s AND shmeta_slices.topic = s.topic AND "
	                        "shmeta_slices.partition_id = s.partition_id AND shmeta_slices.base_offset = "
	                        "s.base_offset AND shmeta_slices.object_id = b.object_id AND s.s3_bucket = b.s3_bucket "
	                        "AND s.s3_key = b.s3_key)",
	                        tenant);
	int rc = sql != NULL ? sqlite_execute(state, sql) : SQLITE_NOMEM;

	sqlite3_free(sql);
	return rc;
}

int sqlite_own_objects(struct sqlite_state *state, bool make, bool *ret_made)
{
	struct sqlite_shape *shape = &state->shape;
	struct managed objects[MANAGED_MAX];
	sqlite3_stmt *find = NULL;
	int64_t version = 0;
	int rc, count = managed_objects(state, objects, &rc);

	shape->own = shape->feed = true;
	if (rc == SQLITE_OK)
		rc = made_by(state, &version);
	if (version > SQLITE_OWN_VERSION)
		make = false;
	if (rc == SQLITE_OK)
		rc = sqlite_query(state, "SELECT sql FROM sqlite_master WHERE name = ?", &find);
	for (int i = 0; rc == SQLITE_OK && i < count; i++) {
		const struct managed *o = &objects[i];
		bool same, wanted = o->sql[0] != '\0';
		char *sql = NULL, *drop = NULL;

		rc = object_sql(find, o->name, &sql);
		same = sql != NULL ? strcmp(sql, o->sql) == 0 : !wanted;
		if (rc == SQLITE_OK && !same && make && (sql == NULL || may_be_made_anew(o))) {
			/* of another version of shmeta, or of another shape of the table */
			if (sql != NULL) {
				drop = sqlite3_mprintf("DROP %s %s", o->type, o->name);
				rc = drop != NULL ? sqlite_execute(state, drop) : SQLITE_NOMEM;
			}
			if (rc == SQLITE_OK && wanted)
				rc = sqlite_execute(state, o->sql);
			same = rc == SQLITE_OK;
			*ret_made = true;
		}
		if (!same) {
			shape->feed = false;
			shape->own &= strcmp(o->type, "trigger") == 0;
			if (state->why[0] == '\0' && version > SQLITE_OWN_VERSION)
				(void)snprintf(
					state->why, sizeof state->why,
					"its tables and triggers were made by a newer shmeta (version %lld, this one's is %d)",
					(long long)version, SQLITE_OWN_VERSION);
			else if (state->why[0] == '\0')
				(void)snprintf(state->why, sizeof state->why, "%s %s is %s", o->type, o->name,
				               sql == NULL ? "missing" : "not as this shmeta makes it");
		}
		sqlite3_free(drop);
		sqlite3_free(sql);
	}
	sqlite3_finalize(find);
	managed_free(objects, count);
	if (rc == SQLITE_OK && make && *ret_made && shape->own)
		rc = drop_dead_slices(state);
	/* What was written while something was missing is not in the log: positions in it prove
	 * nothing any more. */
	if (rc == SQLITE_OK && make && *ret_made)
		rc = sqlite_execute(state,
		                    "INSERT OR REPLACE INTO shmeta_meta SELECT 'feed_before', value FROM shmeta_meta "
		                    "WHERE name = 'feed'");
	if (rc == SQLITE_OK && make && *ret_made)
		rc = sqlite_execute(state,
		                    "INSERT OR REPLACE INTO shmeta_meta VALUES('feed', lower(hex(randomblob(8))))");
	if (rc == SQLITE_OK && make && *ret_made) {
		char *sql = sqlite3_mprintf("INSERT OR REPLACE INTO shmeta_meta VALUES('version', '%d')",
		                            SQLITE_OWN_VERSION);

		rc = sql != NULL ? sqlite_execute(state, sql) : SQLITE_NOMEM;
		sqlite3_free(sql);
	}
	/* As it was called while it could only be read, so that it is no other source now; where a
	 * later file may get the same inode and no time of birth tells them apart, a name that
	 * nobody else has. */
	if (rc == SQLITE_OK && make) {
		char *sql = state->files[0].born != 0
		                    ? sqlite3_mprintf("INSERT OR IGNORE INTO shmeta_meta VALUES('source', '%016llx')",
		                                      (unsigned long long)sqlite_place(state))
		                    : sqlite3_mprintf("INSERT OR IGNORE INTO shmeta_meta VALUES('source', "
		                                      "lower(hex(randomblob(8))))");

		rc = sql != NULL ? sqlite_execute(state, sql) : SQLITE_NOMEM;
		sqlite3_free(sql);
	}
	if (state->why[0] != '\0')
		shape->feed = false;
	return rc;
}

static int drop_triggers(struct sqlite_state *state)
{
	sqlite3_str *drops = sqlite3_str_new(NULL);
	sqlite3_stmt *q = NULL;
	int rc = sqlite_query(
		state, "SELECT name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 7) = 'shmeta_'", &q);
	char *sql;

	while (rc == SQLITE_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
		sqlite3_str_appendf(drops, "DROP TRIGGER \"%w\";", (const char *)sqlite3_column_text(q, 0));
		rc = SQLITE_OK;
	}
	(void)sqlite3_finalize(q);
	sql = sqlite3_str_finish(drops);
	if (rc == SQLITE_DONE)
		rc = sql != NULL ? sqlite_execute(state, sql) : SQLITE_OK;
	sqlite3_free(sql);
	return rc;
}

enum shmeta_status sqlite_remove_managed(struct sqlite_state *state, struct backend_error *err)
{
	struct managed objects[MANAGED_MAX];
	int rc, count = managed_objects(state, objects, &rc);

	if (rc == SQLITE_OK)
		rc = sqlite_execute(state, "BEGIN IMMEDIATE");
	/* Triggers first, those of other versions, too: one without its table would fail the
	 * application's statements. */
	if (rc == SQLITE_OK)
		rc = drop_triggers(state);
	for (int i = count; rc == SQLITE_OK && i-- > 0;) {
		char *drop = sqlite3_mprintf("DROP %s IF EXISTS %s", objects[i].type, objects[i].name);

		rc = drop != NULL ? sqlite_execute(state, drop) : SQLITE_NOMEM;
		sqlite3_free(drop);
	}
	if (rc == SQLITE_OK)
		rc = sqlite_execute(state, "COMMIT");
	if (rc != SQLITE_OK && sqlite3_get_autocommit(state->db) == 0)
		sqlite3_exec(state->db, "ROLLBACK", NULL, NULL, NULL);
	managed_free(objects, count);
	state->objects = 0;
	return rc == SQLITE_OK ? SHMETA_OK : sqlite_fail(state, rc, "removing shmeta's tables from", err);
}

enum shmeta_status sqlite_tell_objects(struct sqlite_state *state, enum backend_schema_verb verb,
                                       backend_schema_fn *say, void *arg, int *ret_there, int *ret_count,
                                       struct backend_error *err)
{
	struct managed objects[MANAGED_MAX];
	int rc, count = managed_objects(state, objects, &rc);
	enum shmeta_status status = SHMETA_OK;
	sqlite3_stmt *find = NULL;

	*ret_there = *ret_count = 0;
	if (rc == SQLITE_OK)
		rc = sqlite_query(state, "SELECT sql FROM sqlite_master WHERE name = ?", &find);
	for (int i = 0; rc == SQLITE_OK && status == SHMETA_OK && i < count; i++) {
		const struct managed *o = &objects[verb == BACKEND_SCHEMA_REMOVE ? count - 1 - i : i];
		char *sql = NULL, drop[120];
		bool same;

		rc = object_sql(find, o->name, &sql);
		if (rc != SQLITE_OK || (o->sql[0] == '\0' && sql == NULL)) {
			sqlite3_free(sql);
			continue;
		}
		++*ret_count;
		same = sql != NULL && strcmp(sql, o->sql) == 0;
		*ret_there += verb == BACKEND_SCHEMA_REMOVE ? sql != NULL : same;
		snprintf(drop, sizeof drop, "DROP %s %s", o->type, o->name);
		if (sql != NULL && (verb == BACKEND_SCHEMA_REMOVE || (verb == BACKEND_SCHEMA_APPLY && !same)))
			status = say(arg, "sql", drop);
		if (status == SHMETA_OK && verb == BACKEND_SCHEMA_APPLY && !same && o->sql[0] != '\0')
			status = say(arg, "sql", o->sql);
		sqlite3_free(sql);
	}
	sqlite3_finalize(find);
	managed_free(objects, count);
	return rc == SQLITE_OK ? status : sqlite_fail(state, rc, "reading the schema of", err);
}
