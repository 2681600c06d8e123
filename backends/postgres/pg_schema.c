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

#include "backends/postgres/pg_own.h"
#include "backends/postgres/pg_shape.h"
#include "base/hash.h"

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

enum { LOCK_KEY = 0x73686d65 /* "shme" */, MAKE_AGAIN_S = 300 };

/* ---- making ---------------------------------------------------------------------------------------------------------------------- */

/* all: otherwise only if something is still due once nobody else is at it. */
static enum shmeta_status run_script(struct pg_state *state, const struct pg_script *script, bool all,
                                     struct backend_error *err)
{
	struct pg_conn *conn = &state->primary;
	enum shmeta_status status;
	bool due = true;
	char lock[80];

	if (script->failed)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	status = pg_execute(state, conn, "BEGIN", NULL, err);
	/* Two daemons that start at once do not meet half of it. */
	if (status == SHMETA_OK && state->dialect->advisory_locks) {
		/* And tables that are written all the time are not free soon. */
		snprintf(lock, sizeof lock, "SET LOCAL lock_timeout = %u",
		         pg_timeout_of(state) - pg_timeout_of(state) / 5);
		status = pg_execute(state, conn, lock, NULL, err);
		snprintf(lock, sizeof lock, "SELECT pg_advisory_xact_lock(%d)", LOCK_KEY);
		if (status == SHMETA_OK)
			status = pg_execute(state, conn, lock, NULL, err);
	}
	if (status == SHMETA_OK && !all)
		status = pg_look_for_own(state, &due, err);
	for (size_t i = 0; status == SHMETA_OK && due && i < script->count; i++)
		status = pg_execute(state, conn, script->lines[i], NULL, err);
	if (status == SHMETA_OK)
		return pg_execute(state, conn, "COMMIT", NULL, err);
	if (pg_connected(conn))
		(void)pg_execute(state, conn, "ROLLBACK", NULL, NULL);
	return status;
}

static void say_tables(struct pg_script *script, const struct pg_state *state)
{
	const struct pg_token tokens[] = {{"c", state->dialect->column_collate}, {NULL, NULL}};

	for (size_t i = 0; i < sizeof lean_schema / sizeof lean_schema[0]; i++) {
		char *text = pg_fill(lean_schema[i], tokens);

		script->failed |= text == NULL;
		pg_say(script, "%s", text != NULL ? text : "");
		free(text);
	}
}

static enum shmeta_status make_tables(struct pg_state *state, struct backend_error *err)
{
	struct pg_script script = {.lines = NULL};
	enum shmeta_status status;

	say_tables(&script, state);
	status = run_script(state, &script, true, err);
	pg_script_free(&script);
	return status;
}

static enum shmeta_status make_notify(struct pg_state *state, struct backend_error *err)
{
	struct pg_script script = {.lines = NULL};
	int64_t there = 0;
	enum shmeta_status status;
	char sql[700];

	snprintf(sql, sizeof sql,
	         "SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = '%s.shmeta_changes'::regclass AND "
	         "tgname = 'shmeta_changes_notify' AND tgenabled IN ('A', 'O')",
	         state->schema_text);
	status = pg_one_number(state, sql, &there, err);
	if (status != SHMETA_OK || there > 0)
		return status;
	pg_say_notify(&script, state);
	status = run_script(state, &script, true, err);
	pg_script_free(&script);
	return status;
}

static enum shmeta_status make_own(struct pg_state *state, struct backend_error *err)
{
	struct pg_script script = {.lines = NULL};
	enum shmeta_status status;

	pg_say_own(&script, state);
	status = run_script(state, &script, false, err);
	pg_script_free(&script);
	return status;
}

/* Make what is due, where that may be done: of a source that was served before only where it was served, never in another schema that
 * search_path has come to lead to. Without it the source can be read all the same: what stands in the way (rights, a lock, an event
 * trigger of the application's) is told, and it is tried again later. */
static enum shmeta_status make_due(struct pg_state *state, bool due, struct backend_error *err)
{
	bool elsewhere = state->opened_before && strcmp(state->schema, state->served_schema) != 0;
	struct backend_error mine = {.code = SHMETA_OK};
	enum shmeta_status status;

	if (!due || !state->options.manage_schema || state->read_only || pg_now_ns() < state->make_again_ns)
		return SHMETA_OK;
	if (elsewhere) {
		snprintf(state->make_failure, sizeof state->make_failure,
		         "the tables are no longer those of schema %.100s, and nothing is made in another one",
		         state->served_schema);
		return pg_look_for_own(state, &due, err);
	}
	status = make_own(state, &mine);
	if (status != SHMETA_OK && (!pg_connected(&state->primary) || status == SHMETA_ERR_NO_MEMORY)) {
		if (err != NULL)
			*err = mine;
		return status;
	}
	state->make_again_ns = status == SHMETA_OK ? 0 : pg_now_ns() + (uint64_t)MAKE_AGAIN_S * 1000000000u;
	snprintf(state->make_failure, sizeof state->make_failure, "%.*s", (int)sizeof state->make_failure - 1,
	         status == SHMETA_OK ? "" : mine.text);
	return pg_look_for_own(state, &due, err);
}

/* What the source is, wherever it is reached. */
static enum shmeta_status identify(struct pg_state *state, struct backend_error *err)
{
	char id[200] = "", sql[300];
	enum shmeta_status status = SHMETA_OK;

	if (state->shape.own) {
		snprintf(sql, sizeof sql, "SELECT value FROM %s.shmeta_meta WHERE name = 'source'", state->schema);
		status = pg_one_text(state, sql, id, sizeof id, err);
	} else if (pg_one_text(state, state->dialect->identity, id, sizeof id, NULL) != SHMETA_OK &&
	           !pg_connected(&state->primary)) {
		return pg_fail(state, &state->primary, NULL, err);
	}
	if (status == SHMETA_OK && id[0] == '\0')
		pg_place(&state->primary, id, sizeof id);
	state->source = hash_bytes(HASH_FIRST, id, strlen(id)) | 1;
	return status;
}

static enum shmeta_status count_tables(struct pg_state *state, int64_t *ret, struct backend_error *err)
{
	return pg_one_number(
		state,
		"SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
		"c.relnamespace WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
		ret, err);
}

/* A source that cannot be served as it is: misconfigured, or, where it was served before, away until it is as it was. */
__attribute__((format(printf, 3, 4))) static enum shmeta_status refuse(struct pg_state *state,
                                                                       struct backend_error *err, const char *fmt, ...)
{
	char place[200], why[600];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(why, sizeof why, fmt, args);
	va_end(args);
	return backend_fail(err, state->opened_before ? SHMETA_ERR_SOURCE : SHMETA_ERR_CONFIG, "%s: %s %s",
	                    state->dialect->engine, pg_place(&state->primary, place, sizeof place), why);
}

static enum shmeta_status is_foreign(struct pg_state *state, const char *missing, struct backend_error *err)
{
	return refuse(state, err, "is not a StreamHouse database of a known shape: missing: %s", missing);
}

static enum shmeta_status judge_tables(struct pg_state *state, const struct pg_obstacles *obstacles,
                                       struct backend_error *err)
{
	if (obstacles->missing[0] != '\0')
		return is_foreign(state, obstacles->missing, err);
	if (obstacles->unfit[0] != '\0')
		return refuse(state, err, "has columns of types that shmeta cannot read: %s", obstacles->unfit);
	if (obstacles->forbidden[0] != '\0')
		return refuse(state, err, "has what this role may not read (GRANT SELECT): %s", obstacles->forbidden);
	return SHMETA_OK;
}

/* None of the tables is there. Only who opens a source for the first time makes them, and was told that it may. */
static enum shmeta_status have_tables(struct pg_state *state, struct pg_obstacles *obstacles, struct backend_error *err)
{
	char schema[200] = "";
	enum shmeta_status status;

	if (!state->opened_before && state->options.create && !state->read_only) {
		status = make_tables(state, err);
		return status == SHMETA_OK ? pg_look_at_tables(state, obstacles, err) : status;
	}
	status = pg_one_text(state, "SELECT current_schema()", schema, sizeof schema, err);
	if (status != SHMETA_OK)
		return status;
	if (state->opened_before)
		return refuse(
			state, err,
			"has no tables where search_path leads (schema %.63s); those that were served lay in schema %.100s",
			schema[0] != '\0' ? schema : "none", state->served_schema);
	return refuse(state, err,
	              "has no tables in schema %.63s: run 'shmetactl schema apply', or allow the source to be created",
	              schema[0] != '\0' ? schema : "none");
}

/* May this role write all of the tables, and can they be written at all? */
static enum shmeta_status look_for_rights(struct pg_state *state, struct backend_error *err)
{
	int64_t number = 0;
	enum shmeta_status status;
	char sql[900];

	snprintf(
		sql, sizeof sql,
		"SELECT (has_table_privilege('%s.segments', 'INSERT') AND has_table_privilege('%s.topics', 'INSERT'))::int",
		state->schema_text, state->schema_text);
	/* 28: rows can be put in, changed and deleted. */
	if (state->dialect->triggers && strspn(state->shape.kinds, "rp") != strlen(state->shape.kinds))
		snprintf(
			sql, sizeof sql,
			"SELECT (has_table_privilege('segments', 'INSERT') AND has_table_privilege('topics', 'INSERT') AND "
			"(SELECT bool_and(pg_relation_is_updatable(to_regclass(n), true) & 28 = 28) FROM unnest(ARRAY['topics', "
			"'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', 'partition_leases']) n))::int");
	status = pg_one_number(state, sql, &number, err);
	if (status == SHMETA_OK)
		state->read_only = state->read_only || number == 0;
	return status;
}

static enum shmeta_status attach(struct pg_state *state, struct backend_error *err)
{
	struct pg_conn *conn = &state->primary;
	struct pg_obstacles obstacles;
	enum shmeta_status status = pg_look_at_tables(state, &obstacles, err);
	int64_t number = 0;
	bool due = false;

	state->read_only = state->options.read_only || conn->in_recovery || conn->server_read_only;
	if (status == SHMETA_OK && obstacles.missing[0] != '\0') {
		status = count_tables(state, &number, err);
		if (status == SHMETA_OK && number == 0)
			status = have_tables(state, &obstacles, err);
	}
	if (status == SHMETA_OK)
		status = judge_tables(state, &obstacles, err);
	if (status == SHMETA_OK)
		status = look_for_rights(state, err);
	if (status == SHMETA_OK)
		status = pg_look_for_place(state, err);
	if (status == SHMETA_OK)
		status = pg_look_for_indexes(state, err);
	if (status == SHMETA_OK)
		status = pg_look_for_collations(state, err);
	if (status == SHMETA_OK)
		status = pg_look_for_own(state, &due, err);
	if (status == SHMETA_OK)
		status = make_due(state, due, err);
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
	if (!state->opened_before)
		state->told = state->source;
	state->opened_before = true;
	memcpy(state->served_schema, state->schema, sizeof state->served_schema);
	return SHMETA_OK;
}

enum shmeta_status pg_ensure(struct pg_state *state, struct backend_error *err)
{
	struct pg_conn *conn = &state->primary;
	bool idle = pg_connected(conn);
	enum shmeta_status status = pg_connect(state, conn, err);

	if (status == SHMETA_OK && !state->attached)
		status = pg_attach(state, err);
	/* It had died while nobody used it. */
	if (status == SHMETA_ERR_SOURCE && idle && !pg_connected(conn) && !conn->timed_out) {
		status = pg_connect(state, conn, err);
		if (status == SHMETA_OK && !state->attached)
			status = pg_attach(state, err);
	}
	return status;
}

/* ---- the verbs of `shmetactl schema` ------------------------------------------------------------------------------------------------ */

static enum shmeta_status tell_status(struct pg_state *state, const struct pg_obstacles *obstacles, bool empty,
                                      backend_schema_fn *tell, void *arg, struct backend_error *err)
{
	const struct pg_shape *shape = &state->shape;
	enum shmeta_status status = SHMETA_OK;
	char line[400], sql[300];
	bool readable, due;
	int64_t rows = 0;
	struct pg_own own;

	if (empty)
		return tell(arg, "tables", "none: the schema is empty");
	if (obstacles->missing[0] != '\0')
		return tell(arg, "missing", obstacles->missing);
	snprintf(line, sizeof line, "%s, segments %s timestamps",
	         shape->organization ? "with organizations" : "without organizations",
	         shape->timestamps ? "with" : "without");
	status = tell(arg, "tables", line);
	if (status == SHMETA_OK && obstacles->unfit[0] != '\0')
		return tell(arg, "unfit", obstacles->unfit);
	if (status == SHMETA_OK)
		status = pg_count_own(state, &own, err);
	if (status != SHMETA_OK)
		return status;
	readable = own.readable == own.wanted_tables;
	snprintf(line, sizeof line, "%" PRId64 " of %" PRId64 "%s", own.tables, own.wanted_tables,
	         !readable || own.version == PG_VERSION_SAME ? ""
	         : own.version == PG_VERSION_LATER           ? ", of a later version of shmeta"
	                                                     : ", of another version of shmeta");
	status = tell(arg, "own tables", line);
	snprintf(line, sizeof line, "%" PRId64 " of %" PRId64 " fire", own.triggers, own.wanted_triggers);
	if (status == SHMETA_OK && state->dialect->triggers)
		status = tell(arg, "triggers", line);
	if (status == SHMETA_OK && state->dialect->triggers && readable) {
		snprintf(sql, sizeof sql, "SELECT count(*) FROM %s.shmeta_changes WHERE class <> %d", state->schema,
		         PG_CLASS_NONE);
		status = pg_one_number(state, sql, &rows, err);
		snprintf(line, sizeof line, "%" PRId64, rows);
		if (status == SHMETA_OK)
			status = tell(arg, "logged changes", line);
	}
	if (status == SHMETA_OK)
		status = pg_look_for_own(state, &due, err);
	if (!state->dialect->triggers)
		snprintf(state->coverage.why, sizeof state->coverage.why, "this engine has no triggers for it");
	snprintf(line, sizeof line, "none: %s", state->coverage.why);
	if (status == SHMETA_OK)
		status = tell(arg, "change feed", state->coverage.why[0] != '\0' ? line : "complete");
	return status;
}

/* What a schema is like that has nothing yet. */
static enum shmeta_status imagine_tables(struct pg_state *state, struct backend_error *err)
{
	char name[200] = "";
	enum shmeta_status status = pg_one_text(state, "SELECT quote_ident(current_schema())", name, sizeof name, err);

	state->shape =
		(struct pg_shape){.config_json = true, .timestamps = true, .segment_place = true, .kinds = "rrrrrrr"};
	if (status == SHMETA_OK)
		pg_set_schema(state, name);
	return status;
}

enum shmeta_status pg_schema(struct pg_state *state, enum backend_schema_verb verb, int dry_run,
                             backend_schema_fn *tell, void *arg, struct backend_error *err)
{
	struct pg_script script = {.lines = NULL};
	struct pg_obstacles obstacles;
	enum shmeta_status status;
	int64_t tables_there = 0;
	struct pg_own own = {.tables = 0};
	bool empty;

	state->doing = "looking at the schema of";
	status = pg_connect(state, &state->primary, err);
	if (status == SHMETA_OK)
		status = pg_look_at_tables(state, &obstacles, err);
	if (status == SHMETA_OK)
		status = count_tables(state, &tables_there, err);
	if (status != SHMETA_OK)
		return status;
	empty = obstacles.missing[0] != '\0' && tables_there == 0;
	if (obstacles.missing[0] == '\0')
		status = pg_look_for_place(state, err);
	else if (verb == BACKEND_SCHEMA_APPLY && !empty)
		return is_foreign(state, obstacles.missing, err);
	if (status == SHMETA_OK && verb == BACKEND_SCHEMA_APPLY && obstacles.unfit[0] != '\0')
		return judge_tables(state, &obstacles, err);
	if (status != SHMETA_OK)
		return status;
	if (verb == BACKEND_SCHEMA_STATUS)
		return tell_status(state, &obstacles, empty, tell, arg, err);
	if (empty)
		status = imagine_tables(state, err);
	else if (obstacles.missing[0] == '\0')
		status = pg_count_own(state, &own, err);
	if (status != SHMETA_OK)
		return status;
	if (verb == BACKEND_SCHEMA_APPLY && empty)
		say_tables(&script, state);
	if (verb == BACKEND_SCHEMA_APPLY && (empty || pg_own_is_due(state, &own))) {
		struct pg_script version = {.lines = NULL};

		pg_say_own(&version, state);
		for (size_t i = 0; i < version.count; i++)
			pg_say(&script, "%s", version.lines[i]);
		script.failed |= version.failed;
		pg_script_free(&version);
	} else if (verb == BACKEND_SCHEMA_REMOVE && obstacles.missing[0] == '\0' && own.tables > 0) {
		pg_say_removal(&script, state);
	}
	for (size_t i = 0; status == SHMETA_OK && i < script.count; i++)
		status = tell(arg, "sql", script.lines[i]);
	state->doing = "changing the schema of";
	if (status == SHMETA_OK && !dry_run && script.count > 0)
		status = run_script(state, &script, true, err);
	pg_script_free(&script);
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
