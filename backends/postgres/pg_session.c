/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what a database must have to be served, and every CREATE.
 *
 * Two kinds of objects: the tables of semantics.md 1.8, created in an empty schema and otherwise
 * taken as they are; shmeta's own (prefix shmeta_, in the schema in which topics lies), created
 * where that is allowed and removed again without a trace. All DDL is idempotent, and runs in one
 * transaction under an advisory lock. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_coverage.h"
#include "backends/postgres/pg_link.h"
#include "backends/postgres/pg_session.h"
#include "base/hash.h"

enum { LOCK_KEY = 0x73686d65 /* "shme" */, MAKE_AGAIN_S = 300 };

/* ---- making ---- */

enum shmeta_status pg_run_script(struct pg_state *state, const struct pg_script *script, bool all,
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

static enum shmeta_status make_tables(struct pg_state *state, struct backend_error *err)
{
	struct pg_script script = {.lines = NULL};
	enum shmeta_status status;

	pg_say_tables(&script, state);
	status = pg_run_script(state, &script, true, err);
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
	status = pg_run_script(state, &script, true, err);
	pg_script_free(&script);
	return status;
}

static enum shmeta_status make_own(struct pg_state *state, struct backend_error *err)
{
	struct pg_script script = {.lines = NULL};
	enum shmeta_status status;

	pg_say_own(&script, state);
	status = pg_run_script(state, &script, false, err);
	pg_script_free(&script);
	return status;
}

/* Make what is due, where that may be done: of a source that was served before only where it was
 * served, never in another schema that search_path has come to lead to. Without it the source can
 * be read all the same: what stands in the way (rights, a lock, an event trigger of the
 * application's) is told, and it is tried again later. */
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

/* May the table that names the source be read, where the others may not? */
static enum shmeta_status look_for_name(struct pg_state *state, bool *ret, struct backend_error *err)
{
	char sql[800];
	int64_t count = 0;
	enum shmeta_status status;

	snprintf(
		sql, sizeof sql,
		"SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE "
		"quote_ident(n.nspname) = '%s' AND c.relname = 'shmeta_meta' AND c.relkind = 'r' AND "
		"has_table_privilege(c.oid, 'SELECT')",
		state->schema_text);
	status = pg_one_number(state, sql, &count, err);
	*ret = count > 0;
	return status;
}

/* What the source is, wherever it is reached. */
static enum shmeta_status identify(struct pg_state *state, struct backend_error *err)
{
	char id[200] = "", sql[300];
	bool named = state->shape.own;
	enum shmeta_status status = named ? SHMETA_OK : look_for_name(state, &named, err);

	if (status != SHMETA_OK)
		return status;
	if (named) {
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

enum shmeta_status pg_count_tables(struct pg_state *state, int64_t *ret, struct backend_error *err)
{
	return pg_one_number(
		state,
		"SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "
		"c.relnamespace WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
		ret, err);
}

/* A source that cannot be served as it is: misconfigured, or, where it was served before, away
 * until it is as it was. */
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

enum shmeta_status pg_judge_tables(struct pg_state *state, const struct pg_obstacles *obstacles,
                                   struct backend_error *err)
{
	if (obstacles->missing[0] != '\0')
		return is_foreign(state, obstacles->missing, err);
	if (obstacles->unfit[0] != '\0')
		return refuse(state, err, "has columns of types that shmeta cannot read: %s", obstacles->unfit);
	if (obstacles->forbidden[0] != '\0')
		return backend_denied(err, refuse(state, err, "has what this role may not read (GRANT SELECT): %s",
		                                  obstacles->forbidden));
	return SHMETA_OK;
}

enum shmeta_status pg_judge_place(struct pg_state *state, char schema[PG_PLACE], struct backend_error *err)
{
	enum shmeta_status status = pg_one_text(state, "SELECT current_schema()", schema, PG_PLACE, err);

	if (status != SHMETA_OK || schema[0] != '\0')
		return status;
	return refuse(state, err,
	              "has no schema that its search_path names, or this role may not use it (GRANT USAGE)");
}

/* None of the tables is there. Only who opens a source for the first time makes them, and was told
 * that it may. */
static enum shmeta_status have_tables(struct pg_state *state, struct pg_obstacles *obstacles, struct backend_error *err)
{
	char schema[PG_PLACE] = "";
	enum shmeta_status status;

	if (!state->opened_before && state->options.create && !state->read_only) {
		status = make_tables(state, err);
		return status == SHMETA_OK ? pg_look_at_tables(state, obstacles, err) : status;
	}
	status = state->opened_before ? pg_one_text(state, "SELECT current_schema()", schema, sizeof schema, err)
	                              : pg_judge_place(state, schema, err);
	if (status != SHMETA_OK)
		return status;
	if (state->opened_before)
		return refuse(
			state, err,
			"has no tables where search_path leads (schema %.63s); those that were served lay in schema %.100s",
			schema[0] != '\0' ? schema : "none", state->served_schema);
	return refuse(state, err,
	              "has no tables in schema %.63s: run 'shmetactl schema apply', or allow the source to be created",
	              schema);
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
		status = pg_count_tables(state, &number, err);
		if (status == SHMETA_OK && number == 0)
			status = have_tables(state, &obstacles, err);
	}
	if (status == SHMETA_OK)
		status = pg_judge_tables(state, &obstacles, err);
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

static enum shmeta_status rewrite(struct pg_state *state, struct backend_error *err)
{
	bool ok = pg_text_of(state, PG_BEGIN_READ, "%s", state->dialect->begin_read) &&
	          pg_text_of(state, PG_BEGIN_WRITE, "%s", state->dialect->begin_write) &&
	          pg_text_of(state, PG_COMMIT, "COMMIT") && pg_text_of(state, PG_ROLLBACK, "ROLLBACK");

	for (size_t i = 0; ok && state->texts[i] != NULL; i++)
		ok = state->texts[i](state);
	return ok ? SHMETA_OK : backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
}

/* The statements' texts are others: forget what was prepared from the former ones. */
static void replan(struct pg_state *state)
{
	state->primary.stale_plan = pg_connected(&state->primary);
	state->writer.stale_plan = pg_connected(&state->writer);
	state->replica.stale_plan = pg_connected(&state->replica);
}

static enum shmeta_status attach_primary(struct pg_state *state, struct backend_error *err)
{
	struct pg_shape before = state->shape;
	enum shmeta_status status;

	state->attaching = true;
	status = attach(state, err);
	state->attaching = false;
	if (status == SHMETA_OK)
		status = rewrite(state, err);
	if (status != SHMETA_OK)
		return status;
	if (state->opened_before && memcmp(&before, &state->shape, sizeof before) != 0)
		replan(state);
	bool elsewhere = state->opened_before && strcmp(state->schema, state->served_schema) != 0;

	state->attached = true;
	if (!state->opened_before)
		state->told = state->source;
	state->opened_before = true;
	/* Where search_path has led elsewhere, and nothing of shmeta's is there, nothing is to be
	 * made the next time either. */
	if (!elsewhere || state->shape.own)
		memcpy(state->served_schema, state->schema, sizeof state->served_schema);
	return SHMETA_OK;
}

enum shmeta_status pg_ensure(struct pg_state *state, struct backend_error *err)
{
	struct pg_conn *conn = &state->primary;
	bool idle = pg_connected(conn);
	enum shmeta_status status = pg_connect(state, conn, err);

	if (status == SHMETA_OK && !state->attached)
		status = attach_primary(state, err);
	/* It had died while nobody used it. */
	if (status == SHMETA_ERR_SOURCE && idle && !pg_connected(conn) && !conn->timed_out) {
		status = pg_connect(state, conn, err);
		if (status == SHMETA_OK && !state->attached)
			status = attach_primary(state, err);
	}
	return status;
}
