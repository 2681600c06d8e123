/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what a database must have to be served, and every CREATE.
 *
 * Two kinds of objects: the tables of semantics.md 1.8, created in an empty schema and otherwise taken as they are; shmeta's own
 * (prefix shmeta_, in the schema in which topics lies), created where that is allowed and removed again without a trace. All DDL
 * is idempotent, and runs in one transaction under an advisory lock. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/postgres.h"
#include "backends/tables.h"

/* ---- the tables of an empty schema: the columns of 1.8, and of its indexes those that something uses ------------------------ */

/* {c}: the collation of a text column, so that the order of an index is the order of bytes. */
static const char *const lean_schema[] = {
	"CREATE TABLE topics(name TEXT{c} PRIMARY KEY, partition_count INTEGER NOT NULL CHECK (partition_count > 0), "
	"retention_ms BIGINT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, config JSONB NOT NULL DEFAULT '{}')",
	"CREATE TABLE partitions(topic TEXT{c} NOT NULL REFERENCES topics(name) ON DELETE CASCADE, "
	"partition_id INTEGER NOT NULL, high_watermark BIGINT NOT NULL DEFAULT 0, created_at BIGINT NOT NULL, "
	"updated_at BIGINT NOT NULL, PRIMARY KEY (topic, partition_id))",
	"CREATE TABLE segments(id TEXT{c} PRIMARY KEY, topic TEXT{c} NOT NULL, partition_id INTEGER NOT NULL, "
	"base_offset BIGINT NOT NULL, end_offset BIGINT NOT NULL, record_count BIGINT NOT NULL, "
	"size_bytes BIGINT NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, created_at BIGINT NOT NULL, "
	"min_timestamp BIGINT NOT NULL DEFAULT 0, max_timestamp BIGINT NOT NULL DEFAULT 0, "
	"CHECK (end_offset >= base_offset), "
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE)",
	/* one segment per place; load() and fetch() walk it; the cascade from partitions uses it */
	"CREATE UNIQUE INDEX idx_segments_location ON segments(topic, partition_id, base_offset)",
	"CREATE TABLE consumer_groups(group_id TEXT{c} PRIMARY KEY, created_at BIGINT NOT NULL, "
	"updated_at BIGINT NOT NULL)",
	"CREATE TABLE consumer_offsets(group_id TEXT{c} NOT NULL REFERENCES consumer_groups(group_id) ON DELETE CASCADE, "
	"topic TEXT{c} NOT NULL, partition_id INTEGER NOT NULL, committed_offset BIGINT NOT NULL, metadata TEXT, "
	"committed_at BIGINT NOT NULL, PRIMARY KEY (group_id, topic, partition_id), "
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE)",
	/* the cascade from partitions */
	"CREATE INDEX idx_consumer_offsets_topic ON consumer_offsets(topic, partition_id)",
	"CREATE TABLE agents(agent_id TEXT{c} PRIMARY KEY, address TEXT NOT NULL UNIQUE, "
	"availability_zone TEXT NOT NULL, agent_group TEXT NOT NULL, last_heartbeat BIGINT NOT NULL, "
	"started_at BIGINT NOT NULL, metadata JSONB NOT NULL DEFAULT '{}')",
	"CREATE TABLE partition_leases(topic TEXT{c} NOT NULL, partition_id INTEGER NOT NULL, "
	"leader_agent_id TEXT{c} NOT NULL REFERENCES agents(agent_id) ON DELETE CASCADE, "
	"lease_expires_at BIGINT NOT NULL, acquired_at BIGINT NOT NULL, epoch BIGINT NOT NULL DEFAULT 1, "
	"PRIMARY KEY (topic, partition_id), "
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE)",
	/* the cascade from agents */
	"CREATE INDEX idx_partition_leases_agent ON partition_leases(leader_agent_id)",
};

enum { LOCK_KEY = 0x73686d65 /* "shme" */ };

/* ---- shmeta's own -------------------------------------------------------------------------------------------------------------- */

/* All of it as text, a statement each. */
struct script {
	char **lines;
	size_t count, capacity;
	bool failed;
};

static void script_free(struct script *script)
{
	for (size_t i = 0; i < script->count; i++)
		free(script->lines[i]);
	free(script->lines);
	memset(script, 0, sizeof *script);
}

__attribute__((format(printf, 2, 3))) static void say(struct script *script, const char *fmt, ...)
{
	char *line = NULL;
	va_list args;

	if (script->count == script->capacity) {
		size_t capacity = 2 * script->capacity + 32;
		char **grown = realloc(script->lines, capacity * sizeof *grown);

		if (grown == NULL) {
			script->failed = true;
			return;
		}
		script->lines = grown;
		script->capacity = capacity;
	}
	va_start(args, fmt);
	if (vasprintf(&line, fmt, args) < 0)
		line = NULL;
	va_end(args);
	if (line == NULL)
		script->failed = true;
	else
		script->lines[script->count++] = line;
}

/* The trigger functions. It is the owner of the log who writes it, whoever changes the table; they raise nothing that the table's
 * own row would not. A statement that changes many segments of a partition logs one row, from the first base to the last.
 *
 * A row that goes because its parent went is not logged: the parent's own row says it all, and by the time the cascade comes the
 * parent is gone. Transition tables do not say which old row became which new one: a key that is in both was altered, one only
 * among the old ones has gone, one only among the new ones is new.
 *
 * {schema}; {n.tenant}, {o.tenant}, {tenant}: of the new row, of the old one, of whichever there is; {same}: and of the same tenant;
 * {,n} {,o}: for GROUP BY; {parent}: and the parent is of the row's tenant; {origin}: whose change it is. */
static const char log_topics[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    {log} SELECT {origin}, 0, 1, {n.tenant}, n.name FROM new_rows n;\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    {log} SELECT {origin}, 0, CASE WHEN o.name IS NULL THEN 1 WHEN n.name IS NULL THEN 3 ELSE 2 END, {tenant}, "
	"coalesce(n.name, o.name) FROM old_rows o FULL JOIN new_rows n ON o.name = n.name{same};\n"
	"  ELSE\n"
	"    {log} SELECT {origin}, 0, 3, {o.tenant}, o.name FROM old_rows o;\n"
	"  END IF;\n";
static const char log_partitions[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    {log} SELECT {origin}, 1, 1, {n.tenant}, n.topic, n.partition_id FROM new_rows n;\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    {log} SELECT {origin}, 1, CASE WHEN o.topic IS NULL THEN 1 WHEN n.topic IS NULL THEN 3 ELSE 2 END, {tenant}, "
	"coalesce(n.topic, o.topic), coalesce(n.partition_id, o.partition_id) FROM old_rows o FULL JOIN new_rows n "
	"ON o.topic = n.topic AND o.partition_id = n.partition_id{same};\n"
	"  ELSE\n"
	"    {log} SELECT {origin}, 1, 3, {o.tenant}, o.topic, o.partition_id FROM old_rows o "
	"WHERE EXISTS (SELECT FROM {schema}.topics u WHERE u.name = o.topic{parent});\n"
	"  END IF;\n";
static const char log_segments[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    {log} SELECT {origin}, 2, 1, {n.tenant}, n.topic, n.partition_id, min(n.base_offset), max(n.base_offset) "
	"FROM new_rows n GROUP BY n.topic, n.partition_id{,n};\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    {log} SELECT {origin}, 2, op, tenant, topic, partition_id, min(base), max(base) FROM ("
	"SELECT CASE WHEN o.topic IS NULL THEN 1 WHEN n.topic IS NULL THEN 3 ELSE 2 END AS op, {tenant} AS tenant, "
	"coalesce(n.topic, o.topic) AS topic, coalesce(n.partition_id, o.partition_id) AS partition_id, "
	"coalesce(n.base_offset, o.base_offset) AS base FROM old_rows o FULL JOIN new_rows n ON o.topic = n.topic AND "
	"o.partition_id = n.partition_id AND o.base_offset = n.base_offset{same}) c GROUP BY op, tenant, topic, partition_id;\n"
	"  ELSE\n"
	"    {log} SELECT {origin}, 2, 3, {o.tenant}, o.topic, o.partition_id, min(o.base_offset), max(o.base_offset) "
	"FROM old_rows o WHERE EXISTS (SELECT FROM {schema}.partitions u WHERE u.topic = o.topic AND "
	"u.partition_id = o.partition_id{parent}) GROUP BY o.topic, o.partition_id{,o};\n"
	"  END IF;\n";
/* Of the others it is enough which keys are concerned. */
static const char log_keys[] =
	"  IF TG_OP = 'INSERT' THEN\n"
	"    {log} SELECT {origin}, {class}, 1, {n.keys} FROM new_rows n;\n"
	"  ELSIF TG_OP = 'UPDATE' THEN\n"
	"    {log} SELECT {origin}, {class}, 2, k.* FROM (SELECT {n.keys} FROM new_rows n UNION SELECT {o.keys} FROM old_rows o) k;\n"
	"  ELSE\n"
	"    {log} SELECT {origin}, {class}, 3, {o.keys} FROM old_rows o;\n"
	"  END IF;\n";
/* Nothing says which rows a TRUNCATE has taken: everything is looked at. */
static const char log_truncate[] = "  {log} SELECT {origin}, 3, 3;\n";
/* A slice whose segment is gone, by whomever, holds its object no longer. */
static const char drop_slices[] =
	"  IF TG_OP = 'TRUNCATE' THEN\n"
	"    DELETE FROM {schema}.shmeta_slices;\n"
	"  ELSIF EXISTS (SELECT FROM {schema}.shmeta_slices) THEN\n"
	"    DELETE FROM {schema}.shmeta_slices l USING old_rows o WHERE l.tenant = {slice} AND l.topic = o.topic AND "
	"l.partition_id = o.partition_id AND l.base_offset = o.base_offset;\n"
	"  END IF;\n";
_Static_assert(SHMETA_CLASS_TOPIC == 0 && SHMETA_CLASS_PARTITION == 1 && SHMETA_CLASS_SEGMENT == 2 &&
                       SHMETA_CLASS_LIST == 3,
               "the functions above name classes by number");

/* The bound of the log where no daemon prunes it: each PRUNE_STEP-th row takes the oldest PRUNE_BATCH of its predecessors along once there
 * are LOG_MOST of them. Until then it looks at two rows. Nobody waits and nothing fails for it: one writer at a time, and not
 * one that is SERIALIZABLE, whose own work it could make fail. What a transaction that is still open may not have seen stays, as
 * every later snapshot sees what goes: then no reader reconciles twice for it. Plans are of indexes alone, whatever the log was
 * like when a session made them. Of the last transaction of a batch some rows may be left: there the next one begins. A mark of a transaction
 * that is still to come was copied here from another cluster. */
enum { LOG_MOST = 1048576, PRUNE_STEP = 1024, PRUNE_BATCH = 2048 };
static const char log_prune[] =
	"CREATE OR REPLACE FUNCTION %s.shmeta_prune() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
	"SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off "
	"AS $shmeta$\nDECLARE\n  gone xid8;\n  settled xid8;\n  oldest BIGINT;\n  last BIGINT;\n  next BIGINT;\nBEGIN\n"
	"  IF current_setting('transaction_isolation') = 'serializable' THEN\n    RETURN NULL;\n  END IF;\n"
	"  settled := pg_snapshot_xmin(pg_current_snapshot());\n"
	"  next := pg_snapshot_xmax(pg_current_snapshot())::text::BIGINT;\n"
	"  gone := coalesce((SELECT value::BIGINT - 1 FROM %s.shmeta_meta WHERE name = 'pruned' AND value::BIGINT <= next), 0)::text::xid8;\n"
	"  SELECT seq INTO oldest FROM %s.shmeta_changes WHERE xid >= gone AND xid < settled ORDER BY xid, seq LIMIT 1;\n"
	"  IF oldest IS NULL OR oldest > NEW.seq - %d OR NOT pg_try_advisory_xact_lock(%d) THEN\n    RETURN NULL;\n  END IF;\n"
	"  BEGIN\n"
	"    WITH aged AS (SELECT xid, seq FROM %s.shmeta_changes WHERE xid >= gone AND xid < settled ORDER BY xid, seq LIMIT %d),\n"
	"      pruned AS (DELETE FROM %s.shmeta_changes c USING aged a WHERE c.xid = a.xid AND c.seq = a.seq RETURNING c.xid)\n"
	"    SELECT max(xid::text::BIGINT) INTO last FROM pruned;\n"
	"    IF last IS NOT NULL THEN\n"
	"      INSERT INTO %s.shmeta_meta AS m(name, value) VALUES ('pruned', (last + 1)::text)\n"
	"        ON CONFLICT (name) DO UPDATE SET value = CASE WHEN m.value::BIGINT > EXCLUDED.value::BIGINT AND m.value::BIGINT <= next THEN m.value ELSE EXCLUDED.value END;\n"
	"    END IF;\n"
	"  EXCEPTION WHEN others THEN\n    NULL; /* whoever comes next does it */\n  END;\n"
	"  RETURN NULL;\nEND $shmeta$";

static const struct tracked {
	enum table_index table;
	const char *body;
	/* Of log_keys: the class, and what its rows are named by. */
	const char *class, *new_keys, *old_keys;
	const char *logged; /* columns of the log that the body fills, beside origin, class and op */
} tracked[] = {
	{TOPICS, log_topics, "", "", "", ", tenant, topic"},
	{PARTITIONS, log_partitions, "", "", "", ", tenant, topic, partition_id"},
	{SEGMENTS, log_segments, "", "", "", ", tenant, topic, partition_id, base_offset, base_last"},
	{GROUPS, log_keys, "6", "{n.tenant}, n.group_id", "{o.tenant}, o.group_id", ", tenant, name"},
	{OFFSETS, log_keys, "6", "{n.tenant}, n.group_id, n.topic, n.partition_id",
         "{o.tenant}, o.group_id, o.topic, o.partition_id", ", tenant, name, topic, partition_id"},
	{AGENTS, log_keys, "4", "{n.agents}, n.agent_id", "{o.agents}, o.agent_id", ", tenant, name"},
	{LEASES, log_keys, "5", "{n.leases}, n.topic, n.partition_id", "{o.leases}, o.topic, o.partition_id",
         ", tenant, topic, partition_id"},
};
_Static_assert(SHMETA_CLASS_AGENT == 4 && SHMETA_CLASS_LEASE == 5 && SHMETA_CLASS_OFFSET == 6, "the table names them");
enum { TRACKED = sizeof tracked / sizeof tracked[0], OPERATIONS = 4 };
static const char *const operations[OPERATIONS] = {"insert", "update", "delete", "truncate"};
static const char *const transitions[OPERATIONS] = {"REFERENCING NEW TABLE AS new_rows ",
                                                    "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ",
                                                    "REFERENCING OLD TABLE AS old_rows ", ""};

struct token {
	const char *name, *text; /* the last one has no name */
};

/* The template with each {name} replaced. The caller frees it; NULL: no memory. */
static char *fill(const char *template, const struct token *tokens)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	if (out == NULL)
		return NULL;
	while (*template != '\0') {
		const char *close = *template == '{' ? strchr(template, '}') : NULL;
		const struct token *t = tokens;

		while (close != NULL && t->name != NULL &&
		       (strncmp(template + 1, t->name, strlen(t->name)) != 0 ||
		        template + 1 + strlen(t->name) != close))
			t++;
		if (close != NULL && t->name != NULL) {
			fputs(t->text, out);
			template = close + 1;
		} else {
			fputc(*template ++, out);
		}
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* t: what is logged of which table; NULL: body alone. */
static void say_function(struct script *script, const struct pg_state *state, const char *name, const struct tracked *t,
                         const char *body)
{
	const struct pg_shape *shape = &state->shape;
	bool o = shape->organization;
	char log[300];
	const struct token outer[] = {{"log", log},
	                              {"class", t != NULL ? t->class : ""},
	                              {"n.keys", t != NULL ? t->new_keys : ""},
	                              {"o.keys", t != NULL ? t->old_keys : ""},
	                              {NULL, NULL}};
	const struct token tokens[] = {
		{"origin", "current_setting('shmeta.origin', true)"},
		{"schema", state->schema},
		{"n.tenant", o ? "n.organization_id::text" : "NULL"},
		{"o.tenant", o ? "o.organization_id::text" : "NULL"},
		{"n.agents", shape->agents_organization ? "n.organization_id::text" : "NULL"},
		{"o.agents", shape->agents_organization ? "o.organization_id::text" : "NULL"},
		{"n.leases", shape->leases_organization ? "n.organization_id::text" : "NULL"},
		{"o.leases", shape->leases_organization ? "o.organization_id::text" : "NULL"},
		{"tenant", o ? "coalesce(n.organization_id, o.organization_id)::text" : "NULL"},
		{"same", o ? " AND o.organization_id = n.organization_id" : ""},
		{"parent", o ? " AND u.organization_id = o.organization_id" : ""},
		{",n", o ? ", n.organization_id" : ""},
		{",o", o ? ", o.organization_id" : ""},
		{"slice", o ? "o.organization_id::text" : "'" SHMETA_DEFAULT_TENANT "'"},
		{NULL, NULL},
	};
	char *template, *text;

	snprintf(log, sizeof log, "INSERT INTO %s.shmeta_changes(origin, class, op%s)", state->schema,
	         t != NULL ? t->logged : "");
	template = fill(body, outer);
	text = template != NULL ? fill(template, tokens) : NULL;
	if (text == NULL)
		script->failed = true;
	else
		say(script,
		    "CREATE OR REPLACE FUNCTION %s.%s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
		    "SET search_path = pg_catalog, pg_temp AS $shmeta$\nBEGIN\n%s  RETURN NULL;\nEND $shmeta$",
		    state->schema, name, text);
	free(template);
	free(text);
}

static void say_trigger(struct script *script, const struct pg_state *state, const char *name, const char *event,
                        const char *table, const char *references, const char *function)
{
	const char *schema = state->schema;

	say(script, "DROP TRIGGER IF EXISTS %s ON %s.%s", name, schema, table);
	say(script, "CREATE TRIGGER %s AFTER %s ON %s.%s %sFOR EACH STATEMENT EXECUTE FUNCTION %s.%s()", name, event,
	    schema, table, references, schema, function);
	/* Also where the session says that it is a replica: what comes by replication is new to us all the same. */
	say(script, "ALTER TABLE %s.%s ENABLE ALWAYS TRIGGER %s", schema, table, name);
}

static void say_log(struct script *script, const struct pg_state *state)
{
	const char *schema = state->schema;
	static const char *const events[] = {"INSERT", "UPDATE", "DELETE"};
	char name[80], function[80];

	/* No constraint but the key: a trigger must not fail the application's statement. The key begins with the transaction, by
	 * which the log is read and pruned; that there is one lets the table be published. */
	say(script,
	    "CREATE TABLE IF NOT EXISTS %s.shmeta_changes(xid xid8 NOT NULL DEFAULT pg_current_xact_id(), "
	    "seq BIGINT GENERATED ALWAYS AS IDENTITY, class SMALLINT, op SMALLINT, tenant TEXT, topic TEXT, partition_id INTEGER, "
	    "base_offset BIGINT, base_last BIGINT, name TEXT, origin TEXT, PRIMARY KEY (xid, seq)) WITH "
	    "(autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000)",
	    schema);
	/* One of an earlier version had no names. */
	say(script, "ALTER TABLE %s.shmeta_changes ADD COLUMN IF NOT EXISTS name TEXT", schema);
	say(script, log_prune, schema, schema, schema, LOG_MOST, PG_PRUNE_LOCK, schema, PRUNE_BATCH, schema, schema);
	say(script, "DROP TRIGGER IF EXISTS shmeta_changes_prune ON %s.shmeta_changes", schema);
	say(script,
	    "CREATE TRIGGER shmeta_changes_prune AFTER INSERT ON %s.shmeta_changes FOR EACH ROW WHEN (NEW.seq %% %d = 0) "
	    "EXECUTE FUNCTION %s.shmeta_prune()",
	    schema, PRUNE_STEP, schema);
	say(script, "ALTER TABLE %s.shmeta_changes ENABLE ALWAYS TRIGGER shmeta_changes_prune", schema);
	for (int i = 0; i < TRACKED; i++) {
		const char *table = backend_tables[tracked[i].table].name;

		snprintf(function, sizeof function, "shmeta_log_%s", table);
		say_function(script, state, function, &tracked[i], tracked[i].body);
		for (int op = 0; op < OPERATIONS - 1; op++) {
			snprintf(name, sizeof name, "shmeta_%s_%s", table, operations[op]);
			say_trigger(script, state, name, events[op], table, transitions[op], function);
		}
	}
	say_function(script, state, "shmeta_log_truncate", NULL, log_truncate);
	for (int i = 0; i < TRACKED; i++) {
		snprintf(name, sizeof name, "shmeta_%s_truncate", backend_tables[tracked[i].table].name);
		say_trigger(script, state, name, "TRUNCATE", backend_tables[tracked[i].table].name, "",
		            "shmeta_log_truncate");
	}
	say_function(script, state, "shmeta_drop_slices", NULL, drop_slices);
	say_trigger(script, state, "shmeta_slices_delete", "DELETE", "segments", transitions[2], "shmeta_drop_slices");
	say_trigger(script, state, "shmeta_slices_truncate", "TRUNCATE", "segments", "", "shmeta_drop_slices");
}

/* Where the operator wants it: it is not of the version, so that hosts that differ in this do not undo each other's work. */
static void say_notify(struct script *script, const struct pg_state *state)
{
	const char *schema = state->schema;

	say(script,
	    "CREATE OR REPLACE FUNCTION %s.shmeta_notify() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp "
	    "AS $shmeta$\nBEGIN\n  IF EXISTS (SELECT FROM new_rows) THEN\n    NOTIFY " PG_CHANNEL ";\n  END IF;\n"
	    "  RETURN NULL;\nEND $shmeta$",
	    schema);
	say_trigger(script, state, "shmeta_changes_notify", "INSERT", "shmeta_changes", transitions[0],
	            "shmeta_notify");
}

static void say_own(struct script *script, const struct pg_state *state)
{
	const char *schema = state->schema, *c = state->dialect->column_collate;

	say(script, "CREATE TABLE IF NOT EXISTS %s.shmeta_meta(name TEXT PRIMARY KEY, value TEXT)", schema);
	/* Epochs of leases never go back: not through release, deregistration or recreation of the topic. So they go by name. */
	say(script,
	    "CREATE TABLE IF NOT EXISTS %s.shmeta_lease_epochs(tenant TEXT%s NOT NULL, topic TEXT%s NOT NULL, "
	    "partition_id INTEGER NOT NULL, epoch BIGINT NOT NULL, PRIMARY KEY (tenant, topic, partition_id))",
	    schema, c, c);
	say(script,
	    "CREATE TABLE IF NOT EXISTS %s.shmeta_transfers(transfer_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
	    "tenant TEXT NOT NULL, topic TEXT NOT NULL, partition_id INTEGER NOT NULL, from_agent TEXT NOT NULL, "
	    "to_agent TEXT NOT NULL, state TEXT NOT NULL, created_at BIGINT NOT NULL, timeout_at BIGINT NOT NULL)",
	    schema);
	say(script,
	    "CREATE INDEX IF NOT EXISTS shmeta_transfers_place ON %s.shmeta_transfers(tenant, topic, partition_id)",
	    schema);
	say(script,
	    "CREATE TABLE IF NOT EXISTS %s.shmeta_objects(object_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
	    "tenant TEXT NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, size_bytes BIGINT NOT NULL, "
	    "created_at BIGINT NOT NULL, unreferenced_at BIGINT, UNIQUE (tenant, s3_bucket, s3_key))",
	    schema);
	say(script,
	    "CREATE TABLE IF NOT EXISTS %s.shmeta_slices(tenant TEXT%s NOT NULL, topic TEXT%s NOT NULL, "
	    "partition_id INTEGER NOT NULL, base_offset BIGINT NOT NULL, object_id BIGINT NOT NULL, position BIGINT NOT NULL, "
	    "PRIMARY KEY (tenant, topic, partition_id, base_offset)%s)",
	    schema, c, c,
	    /* Where no trigger can, a foreign key takes the slices of segments that go. */
	    !state->dialect->triggers && state->shape.segment_place
	            ? ", FOREIGN KEY (topic, partition_id, base_offset) REFERENCES segments(topic, partition_id, base_offset) "
	              "ON DELETE CASCADE"
	            : "");
	say(script, "CREATE INDEX IF NOT EXISTS shmeta_slices_object ON %s.shmeta_slices(object_id)", schema);
	if (state->dialect->triggers)
		say_log(script, state);
}

/* Version of all this: a hash of its texts. */
static uint64_t script_hash(const struct script *script)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < script->count; i++)
		for (const char *p = script->lines[i]; *p != '\0'; p++) /* FNV-1a */
			hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
	return hash | 1;
}

static void say_version(struct script *script, const struct pg_state *state)
{
	uint64_t version = script_hash(script);

	say(script,
	    "INSERT INTO %s.shmeta_meta(name, value) VALUES ('schema', '%016" PRIx64 "') "
	    "ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
	    state->schema, version);
	say(script,
	    "INSERT INTO %s.shmeta_meta(name, value) VALUES ('source', "
	    "md5(random()::text || clock_timestamp()::text || current_database())) ON CONFLICT (name) DO NOTHING",
	    state->schema);
}

/* ---- looking -------------------------------------------------------------------------------------------------------------------- */

static void add_missing(char *list, size_t bytes, const char *what, const char *table, const char *column)
{
	size_t used = strlen(list);

	if (used < bytes)
		snprintf(list + used, bytes - used, "%s%s %s%s%s", used > 0 ? ", " : "", what, table,
		         column[0] != '\0' ? "." : "", column);
}

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Which tables and columns there are. missing: empty, or what is not there. */
static enum shmeta_status look(struct pg_state *state, char *missing, size_t bytes, struct backend_error *err)
{
	uint32_t seen[TABLE_COUNT] = {0};
	bool organization[TABLE_COUNT] = {false}, exists[TABLE_COUNT] = {false}, from = false, to = false;
	struct pg_shape *shape = &state->shape;
	PGresult *result = NULL;
	enum shmeta_status status = pg_execute(
		state, &state->primary,
		"SELECT c.relname, a.attname, format_type(a.atttypid, NULL), quote_ident(n.nspname) "
		"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
		"JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
		"WHERE c.relname IN ('topics', 'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', "
		"'partition_leases') AND c.relkind IN ('r', 'p', 'v') AND pg_catalog.pg_table_is_visible(c.oid)",
		&result, err);

	if (status != SHMETA_OK)
		return status;
	memset(shape, 0, sizeof *shape);
	missing[0] = '\0';
	for (int row = 0; row < PQntuples(result); row++) {
		const char *table = PQgetvalue(result, row, 0), *column = PQgetvalue(result, row, 1),
			   *type = PQgetvalue(result, row, 2);
		int at = 0;

		while (at < TABLE_COUNT && !is(table, backend_tables[at].name))
			at++;
		if (at == TABLE_COUNT)
			continue;
		exists[at] = true;
		for (uint32_t i = 0; i < TABLE_COLUMNS_MAX && backend_tables[at].columns[i] != NULL; i++)
			if (is(column, backend_tables[at].columns[i]))
				seen[at] |= 1u << i;
		organization[at] |= is(column, "organization_id");
		if (at == TOPICS) {
			snprintf(state->schema, sizeof state->schema, "%s", PQgetvalue(result, row, 3));
			shape->tenant_uuid |= is(column, "organization_id") && is(type, "uuid");
			shape->config_json |= is(column, "config") && is(type, "jsonb");
			shape->cleanup_policy |= is(column, "cleanup_policy");
		}
		from |= at == SEGMENTS && is(column, "min_timestamp");
		to |= at == SEGMENTS && is(column, "max_timestamp");
	}
	PQclear(result);
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
	return SHMETA_OK;
}

static enum shmeta_status one_number(struct pg_state *state, const char *sql, int64_t *ret, struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_execute(state, &state->primary, sql, &result, err);

	if (status != SHMETA_OK)
		return status;
	*ret = PQntuples(result) > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
	PQclear(result);
	return SHMETA_OK;
}

static enum shmeta_status one_text(struct pg_state *state, const char *sql, char *ret, size_t bytes,
                                   struct backend_error *err)
{
	PGresult *result = NULL;
	enum shmeta_status status = pg_execute(state, &state->primary, sql, &result, err);

	ret[0] = '\0';
	if (status != SHMETA_OK)
		return status;
	if (PQntuples(result) > 0)
		snprintf(ret, bytes, "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	return SHMETA_OK;
}

enum { COUNT_SQL = 900 };
/* What of shmeta's own there is. */
struct own {
	int64_t tables, triggers;
	char version[40], wanted[40]; /* of its definitions; "": unknown */
};

static int64_t own_tables(const struct pg_state *state)
{
	return state->dialect->triggers ? 6 : 5;
}

static int64_t own_triggers(const struct pg_state *state)
{
	return state->dialect->triggers ? (int64_t)TRACKED * OPERATIONS : 0;
}

/* Selects how many of our tables there are, and how many of our triggers are where they belong, and fire. */
static void count_sql(const struct pg_state *state, char tables[COUNT_SQL], char triggers[COUNT_SQL])
{
	snprintf(tables, COUNT_SQL,
	         "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
	         "WHERE quote_ident(n.nspname) = '%s' AND c.relname IN ('shmeta_meta', 'shmeta_lease_epochs', "
	         "'shmeta_transfers', 'shmeta_objects', 'shmeta_slices'%s) AND has_table_privilege(c.oid, 'SELECT')",
	         state->schema, state->dialect->triggers ? ", 'shmeta_changes'" : "");
	snprintf(
		triggers, COUNT_SQL,
		"SELECT count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid "
		"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE quote_ident(n.nspname) = '%s' AND "
		"NOT t.tgisinternal AND t.tgname IN (SELECT 'shmeta_' || c.relname || '_' || op FROM (VALUES ('insert'), "
		"('update'), ('delete'), ('truncate')) o(op)) AND t.tgenabled IN ('A', 'O')",
		state->schema);
}

static enum shmeta_status count_own(struct pg_state *state, struct own *ret, struct backend_error *err)
{
	struct script script = {.lines = NULL};
	enum shmeta_status status;
	char sql[300], tables[COUNT_SQL], triggers[COUNT_SQL];

	memset(ret, 0, sizeof *ret);
	say_own(&script, state);
	snprintf(ret->wanted, sizeof ret->wanted, "%016" PRIx64, script_hash(&script));
	if (script.failed) {
		script_free(&script);
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	}
	script_free(&script);
	count_sql(state, tables, triggers);
	status = one_number(state, tables, &ret->tables, err);
	if (status != SHMETA_OK || ret->tables == 0)
		return status;
	if (ret->tables == own_tables(state)) {
		snprintf(sql, sizeof sql, "SELECT value FROM %s.shmeta_meta WHERE name = 'schema'", state->schema);
		status = one_text(state, sql, ret->version, sizeof ret->version, err);
	}
	if (status != SHMETA_OK || !state->dialect->triggers)
		return status;
	return one_number(state, triggers, &ret->triggers, err);
}

static bool is_whole(const struct pg_state *state, const struct own *own)
{
	return own->tables == own_tables(state) && is(own->version, own->wanted) &&
	       own->triggers == own_triggers(state);
}

static enum shmeta_status look_for_own(struct pg_state *state, struct backend_error *err)
{
	struct own own;
	enum shmeta_status status = count_own(state, &own, err);

	state->shape.own = status == SHMETA_OK && own.tables == own_tables(state) && is(own.version, own.wanted);
	/* The log is read on the server that writes it: a standby knows the snapshots of others only roughly. */
	state->shape.feed =
		state->shape.own && state->dialect->triggers && is_whole(state, &own) && !state->primary.in_recovery;
	return status;
}

bool pg_own_expression(const struct pg_state *state, char *ret, size_t bytes)
{
	char tables[COUNT_SQL], triggers[COUNT_SQL];

	count_sql(state, tables, triggers);
	return (size_t)snprintf(
		       ret, bytes,
		       "(%s)::text || ' ' || (%s)::text || ' ' || (SELECT value FROM %s.shmeta_meta WHERE name = 'schema')",
		       tables, triggers, state->schema) < bytes;
}

bool pg_own_is_whole(const struct pg_state *state, const char *text)
{
	struct script script = {.lines = NULL};
	struct own own = {.tables = 0};
	char *rest;
	bool whole;

	say_own(&script, state);
	snprintf(own.wanted, sizeof own.wanted, "%016" PRIx64, script_hash(&script));
	own.tables = strtoll(text, &rest, 10);
	own.triggers = strtoll(rest, &rest, 10);
	snprintf(own.version, sizeof own.version, "%s", rest + (*rest == ' '));
	own.version[strcspn(own.version, " ")] = '\0';
	whole = !script.failed && is_whole(state, &own);
	script_free(&script);
	return whole;
}

/* ---- making ---------------------------------------------------------------------------------------------------------------------- */

static enum shmeta_status run_script(struct pg_state *state, const struct script *script, struct backend_error *err)
{
	struct pg_conn *conn = &state->primary;
	enum shmeta_status status;
	char lock[80];

	if (script->failed)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	status = pg_execute(state, conn, "BEGIN", NULL, err);
	/* Two daemons that start at once do not meet half of it. */
	if (status == SHMETA_OK && state->dialect->advisory_locks) {
		snprintf(lock, sizeof lock, "SELECT pg_advisory_xact_lock(%d)", LOCK_KEY);
		status = pg_execute(state, conn, lock, NULL, err);
	}
	for (size_t i = 0; status == SHMETA_OK && i < script->count; i++)
		status = pg_execute(state, conn, script->lines[i], NULL, err);
	if (status == SHMETA_OK)
		return pg_execute(state, conn, "COMMIT", NULL, err);
	if (pg_connected(conn))
		(void)pg_execute(state, conn, "ROLLBACK", NULL, NULL);
	return status;
}

static void say_tables(struct script *script, const struct pg_state *state)
{
	const struct token tokens[] = {{"c", state->dialect->column_collate}, {NULL, NULL}};

	for (size_t i = 0; i < sizeof lean_schema / sizeof lean_schema[0]; i++) {
		char *text = fill(lean_schema[i], tokens);

		script->failed |= text == NULL;
		say(script, "%s", text != NULL ? text : "");
		free(text);
	}
}

static enum shmeta_status make_tables(struct pg_state *state, struct backend_error *err)
{
	struct script script = {.lines = NULL};
	enum shmeta_status status;

	say_tables(&script, state);
	status = run_script(state, &script, err);
	script_free(&script);
	return status;
}

static enum shmeta_status make_notify(struct pg_state *state, struct backend_error *err)
{
	struct script script = {.lines = NULL};
	int64_t there = 0;
	enum shmeta_status status;
	char sql[500];

	snprintf(sql, sizeof sql,
	         "SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = '%s.shmeta_changes'::regclass AND "
	         "tgname = 'shmeta_changes_notify' AND tgenabled IN ('A', 'O')",
	         state->schema);
	status = one_number(state, sql, &there, err);
	if (status != SHMETA_OK || there > 0)
		return status;
	say_notify(&script, state);
	status = run_script(state, &script, err);
	script_free(&script);
	return status;
}

static enum shmeta_status make_own(struct pg_state *state, struct backend_error *err)
{
	struct script script = {.lines = NULL};
	enum shmeta_status status;

	say_own(&script, state);
	say_version(&script, state);
	status = run_script(state, &script, err);
	script_free(&script);
	return status;
}

static uint64_t hash_text(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	return hash | 1;
}

/* What the source is, wherever it is reached. */
static enum shmeta_status identify(struct pg_state *state, struct backend_error *err)
{
	char id[200] = "", sql[300];
	enum shmeta_status status = SHMETA_OK;

	if (state->shape.own) {
		snprintf(sql, sizeof sql, "SELECT value FROM %s.shmeta_meta WHERE name = 'source'", state->schema);
		status = one_text(state, sql, id, sizeof id, err);
	} else if (one_text(state, state->dialect->identity, id, sizeof id, NULL) != SHMETA_OK &&
	           !pg_connected(&state->primary)) {
		return pg_fail(state, &state->primary, NULL, err);
	}
	if (status == SHMETA_OK && id[0] == '\0')
		pg_place(&state->primary, id, sizeof id);
	state->source = hash_text(id);
	return status;
}

static enum shmeta_status count_tables(struct pg_state *state, int64_t *ret, struct backend_error *err)
{
	return one_number(
		state,
		"SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
		"c.relnamespace WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
		ret, err);
}

static enum shmeta_status is_foreign(struct pg_state *state, const char *missing, struct backend_error *err)
{
	char place[200];

	return backend_fail(err, state->opened_before ? SHMETA_ERR_SOURCE : SHMETA_ERR_CONFIG,
	                    "%s: %s is no StreamHouse database of a shape that shmeta knows: missing: %s",
	                    state->dialect->engine, pg_place(&state->primary, place, sizeof place), missing);
}

static enum shmeta_status look_for_place(struct pg_state *state, struct backend_error *err)
{
	int64_t number = 0;
	enum shmeta_status status;
	char sql[700];

	snprintf(
		sql, sizeof sql,
		"SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = '%s.segments'::regclass AND i.indisunique AND "
		"i.indpred IS NULL AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_catalog.pg_attribute a "
		"WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) = ARRAY['base_offset', 'partition_id', 'topic']",
		state->schema);
	status = one_number(state, sql, &number, err);
	state->shape.segment_place = number > 0;
	return status;
}

static enum shmeta_status look_for_indexes(struct pg_state *state, struct backend_error *err)
{
	static const char there[] =
		"EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = '%s.%s'::regclass AND i.indisvalid AND "
		"i.indpred IS NULL AND (SELECT replace(string_agg(a.attname || ',', '' ORDER BY k.at), 'organization_id,', '') "
		"FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, at) JOIN pg_catalog.pg_attribute a ON "
		"a.attrelid = i.indrelid AND a.attnum = k.number) LIKE 'topic,partition_id,%%')";
	enum shmeta_status status = SHMETA_OK;
	char sql[1400];
	int64_t number = 0;
	size_t used;

	if (state->dialect->triggers) {
		used = (size_t)snprintf(sql, sizeof sql, "SELECT (");
		used += (size_t)snprintf(sql + used, sizeof sql - used, there, state->schema, "segments");
		used += (size_t)snprintf(sql + used, sizeof sql - used, " AND ");
		used += (size_t)snprintf(sql + used, sizeof sql - used, there, state->schema, "partitions");
		(void)snprintf(sql + used, sizeof sql - used, ")::int");
		status = one_number(state, sql, &number, err);
	}
	state->shape.by_index = number > 0;
	return status;
}

/* A nondeterministic collation: case-insensitive ones are such. */
static enum shmeta_status look_for_collations(struct pg_state *state, struct backend_error *err)
{
	int64_t number = 0;
	enum shmeta_status status = SHMETA_OK;

	if (state->dialect->triggers)
		status = one_number(
			state,
			"SELECT count(*) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation "
			"JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE NOT k.collisdeterministic AND NOT a.attisdropped "
			"AND c.relname IN ('topics', 'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', "
			"'partition_leases') AND c.relkind IN ('r', 'p', 'v') AND pg_catalog.pg_table_is_visible(c.oid)",
			&number, err);
	state->shape.loose_texts = number > 0;
	return status;
}

static enum shmeta_status attach(struct pg_state *state, struct backend_error *err)
{
	struct pg_conn *conn = &state->primary;
	char missing[300] = "", place[200], sql[600];
	enum shmeta_status status = look(state, missing, sizeof missing, err);
	int64_t number = 0;

	state->read_only = state->options.read_only || conn->in_recovery || conn->server_read_only;
	if (status == SHMETA_OK && missing[0] != '\0') {
		status = count_tables(state, &number, err);
		if (status == SHMETA_OK && number == 0 && state->options.manage_schema && !state->read_only) {
			status = make_tables(state, err);
			if (status == SHMETA_OK)
				status = look(state, missing, sizeof missing, err);
		} else if (status == SHMETA_OK && number == 0) {
			return backend_fail(
				err, state->opened_before ? SHMETA_ERR_SOURCE : SHMETA_ERR_CONFIG,
				"%s: %s has no tables: run 'shmetactl schema apply', or allow shmeta to manage the schema",
				state->dialect->engine, pg_place(conn, place, sizeof place));
		}
	}
	if (status != SHMETA_OK)
		return status;
	if (missing[0] != '\0')
		return is_foreign(state, missing, err);
	snprintf(
		sql, sizeof sql,
		"SELECT (has_table_privilege('%s.segments', 'INSERT') AND has_table_privilege('%s.topics', 'INSERT'))::int",
		state->schema, state->schema);
	status = one_number(state, sql, &number, err);
	if (status == SHMETA_OK)
		state->read_only = state->read_only || number == 0;
	if (status == SHMETA_OK)
		status = look_for_place(state, err);
	if (status == SHMETA_OK)
		status = look_for_indexes(state, err);
	if (status == SHMETA_OK)
		status = look_for_collations(state, err);
	if (status == SHMETA_OK)
		status = look_for_own(state, err);
	if (status == SHMETA_OK && state->options.manage_schema && !state->read_only &&
	    (!state->shape.own || (state->dialect->triggers && !state->shape.feed))) {
		status = make_own(state, err);
		/* Who may write rows need not be who may make tables: then it is the operator's to do. */
		if (status != SHMETA_OK && pg_failed_with(conn, "42501") && pg_connected(conn))
			status = SHMETA_OK;
		if (status == SHMETA_OK)
			status = look_for_own(state, err);
	}
	if (status == SHMETA_OK && state->shape.feed && state->options.notify && state->options.manage_schema &&
	    !state->read_only)
		status = make_notify(state, err);
	if (status == SHMETA_OK)
		status = identify(state, err);
	return status;
}

enum shmeta_status pg_rewrite(struct pg_state *state, struct backend_error *err)
{
	bool ok = pg_text_of(state, PG_BEGIN_READ, "%s", state->dialect->begin_read) &&
	          pg_text_of(state, PG_BEGIN_WRITE, "%s", state->dialect->begin_write) &&
	          pg_text_of(state, PG_COMMIT, "COMMIT") && pg_text_of(state, PG_ROLLBACK, "ROLLBACK") &&
	          pg_read_statements(state) && pg_feed_statements(state) && pg_write_statements(state) &&
	          pg_object_statements(state) && pg_move_statements(state);

	return ok ? SHMETA_OK : backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
}

enum shmeta_status pg_attach(struct pg_state *state, struct backend_error *err)
{
	struct pg_shape before = state->shape;
	enum shmeta_status status;

	state->attaching = true;
	status = attach(state, err);
	state->attaching = false;
	if (status == SHMETA_OK)
		status = pg_rewrite(state, err);
	if (status != SHMETA_OK)
		return status;
	if (state->opened_before && memcmp(&before, &state->shape, sizeof before) != 0)
		pg_replan(state);
	state->attached = true;
	state->opened_before = true;
	return SHMETA_OK;
}

enum shmeta_status pg_ensure(struct pg_state *state, struct backend_error *err)
{
	enum shmeta_status status = pg_connect(state, &state->primary, err);

	if (status == SHMETA_OK && !state->attached)
		status = pg_attach(state, err);
	return status;
}

/* ---- the verbs of `shmetactl schema` ------------------------------------------------------------------------------------------------ */

/* Triggers first: one without its table would fail the application's statements. */
static void say_removal(struct script *script, const struct pg_state *state)
{
	static const char *const own[] = {"shmeta_changes",   "shmeta_slices",       "shmeta_objects",
	                                  "shmeta_transfers", "shmeta_lease_epochs", "shmeta_meta"};
	const char *schema = state->schema;

	for (int i = 0; state->dialect->triggers && i < TRACKED; i++)
		for (int op = 0; op < OPERATIONS; op++)
			say(script, "DROP TRIGGER IF EXISTS shmeta_%s_%s ON %s.%s",
			    backend_tables[tracked[i].table].name, operations[op], schema,
			    backend_tables[tracked[i].table].name);
	if (state->dialect->triggers) {
		say(script, "DROP TRIGGER IF EXISTS shmeta_slices_delete ON %s.segments", schema);
		say(script, "DROP TRIGGER IF EXISTS shmeta_slices_truncate ON %s.segments", schema);
		for (int i = 0; i < TRACKED; i++)
			say(script, "DROP FUNCTION IF EXISTS %s.shmeta_log_%s()", schema,
			    backend_tables[tracked[i].table].name);
		say(script, "DROP FUNCTION IF EXISTS %s.shmeta_log_truncate()", schema);
		say(script, "DROP FUNCTION IF EXISTS %s.shmeta_drop_slices()", schema);
	}
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		say(script, "DROP TABLE IF EXISTS %s.%s", schema, own[i]);
	if (state->dialect->triggers)
		say(script, "DROP FUNCTION IF EXISTS %s.shmeta_notify()", schema);
	if (state->dialect->triggers)
		say(script, "DROP FUNCTION IF EXISTS %s.shmeta_prune()", schema);
}

static enum shmeta_status tell_status(struct pg_state *state, const char *missing, bool empty, backend_schema_fn *tell,
                                      void *arg, struct backend_error *err)
{
	const struct pg_shape *shape = &state->shape;
	enum shmeta_status status = SHMETA_OK;
	char line[200], sql[300];
	int64_t rows = 0;
	struct own own;

	if (empty)
		return tell(arg, "tables", "none: the schema is empty");
	if (missing[0] != '\0')
		return tell(arg, "missing", missing);
	snprintf(line, sizeof line, "%s, segments %s timestamps",
	         shape->organization ? "with organizations" : "without organizations",
	         shape->timestamps ? "with" : "without");
	status = tell(arg, "tables", line);
	if (status == SHMETA_OK)
		status = count_own(state, &own, err);
	if (status != SHMETA_OK)
		return status;
	snprintf(line, sizeof line, "%" PRId64 " of %" PRId64 "%s", own.tables, own_tables(state),
	         own.tables == own_tables(state) && !is(own.version, own.wanted) ? ", of another version of shmeta"
	                                                                         : "");
	status = tell(arg, "own tables", line);
	snprintf(line, sizeof line, "%" PRId64 " of %" PRId64 " fire", own.triggers, own_triggers(state));
	if (status == SHMETA_OK && state->dialect->triggers)
		status = tell(arg, "triggers", line);
	if (status == SHMETA_OK && state->dialect->triggers && own.tables == own_tables(state)) {
		snprintf(sql, sizeof sql, "SELECT count(*) FROM %s.shmeta_changes", state->schema);
		status = one_number(state, sql, &rows, err);
		snprintf(line, sizeof line, "%" PRId64, rows);
		if (status == SHMETA_OK)
			status = tell(arg, "logged changes", line);
	}
	if (status == SHMETA_OK)
		status = tell(arg, "change feed",
		              !state->dialect->triggers ? "none: this engine has no triggers for it"
		              : is_whole(state, &own)   ? "complete"
		                                        : "none: 'shmetactl schema apply' makes it");
	return status;
}

enum shmeta_status pg_schema(struct pg_state *state, enum backend_schema_verb verb, int dry_run,
                             backend_schema_fn *tell, void *arg, struct backend_error *err)
{
	struct script script = {.lines = NULL};
	enum shmeta_status status;
	char missing[300] = "";
	int64_t tables_there = 0;
	struct own own;
	bool empty;

	state->doing = "looking at the schema of";
	status = pg_connect(state, &state->primary, err);
	if (status == SHMETA_OK)
		status = look(state, missing, sizeof missing, err);
	if (status == SHMETA_OK)
		status = count_tables(state, &tables_there, err);
	if (status != SHMETA_OK)
		return status;
	empty = missing[0] != '\0' && tables_there == 0;
	if (missing[0] == '\0')
		status = look_for_place(state, err);
	else if (verb == BACKEND_SCHEMA_APPLY && !empty)
		return is_foreign(state, missing, err);
	if (status != SHMETA_OK)
		return status;
	if (verb == BACKEND_SCHEMA_STATUS)
		return tell_status(state, missing, empty, tell, arg, err);
	if (empty) {
		/* What they will be like. */
		status = one_text(state, "SELECT quote_ident(current_schema())", state->schema, sizeof state->schema,
		                  err);
		state->shape = (struct pg_shape){.config_json = true, .timestamps = true, .segment_place = true};
	}
	if (status == SHMETA_OK)
		status = empty ? SHMETA_OK : count_own(state, &own, err);
	if (status != SHMETA_OK)
		return status;
	if (verb == BACKEND_SCHEMA_APPLY && empty)
		say_tables(&script, state);
	if (verb == BACKEND_SCHEMA_APPLY && (empty || !is_whole(state, &own))) {
		struct script version = {.lines = NULL};

		say_own(&version, state);
		say_version(&version, state);
		for (size_t i = 0; i < version.count; i++)
			say(&script, "%s", version.lines[i]);
		script.failed |= version.failed;
		script_free(&version);
	} else if (verb == BACKEND_SCHEMA_REMOVE && missing[0] == '\0' && own.tables > 0) {
		say_removal(&script, state);
	}
	for (size_t i = 0; status == SHMETA_OK && i < script.count; i++)
		status = tell(arg, "sql", script.lines[i]);
	state->doing = "changing the schema of";
	if (status == SHMETA_OK && !dry_run && script.count > 0)
		status = run_script(state, &script, err);
	script_free(&script);
	return status;
}

bool pg_text_of(struct pg_state *state, enum pg_statement which, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	free(state->sql[which]);
	state->sql[which] = text;
	return text != NULL;
}

bool pg_tenant_possible(const struct pg_state *state, struct shmeta_str tenant)
{
	if (!state->shape.organization)
		return rows_compare(tenant, rows_str(SHMETA_DEFAULT_TENANT)) == 0;
	if (!state->shape.tenant_uuid)
		return true;
	/* As the server spells it, and as rows give it: other spellings of the same are another tenant's name. */
	if (tenant.bytes != 36)
		return false;
	for (size_t i = 0; i < 36; i++) {
		char c = tenant.data[i];
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
	}
	return true;
}
