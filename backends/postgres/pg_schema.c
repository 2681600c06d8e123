/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the verbs of `shmetactl schema`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backends/postgres/pg_coverage.h"
#include "backends/postgres/pg_link.h"
#include "backends/postgres/pg_schema.h"
#include "backends/postgres/pg_session.h"

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
	char schema[PG_PLACE];
	bool empty;

	state->doing = "looking at the schema of";
	status = pg_connect(state, &state->primary, err);
	if (status == SHMETA_OK)
		status = pg_look_at_tables(state, &obstacles, err);
	if (status == SHMETA_OK)
		status = pg_count_tables(state, &tables_there, err);
	if (status != SHMETA_OK)
		return status;
	empty = obstacles.missing[0] != '\0' && tables_there == 0;
	if (empty && verb != BACKEND_SCHEMA_REMOVE && (status = pg_judge_place(state, schema, err)) != SHMETA_OK)
		return status;
	if (obstacles.missing[0] == '\0')
		status = pg_look_for_place(state, err);
	else if (verb == BACKEND_SCHEMA_APPLY && !empty)
		return pg_judge_tables(state, &obstacles, err);
	if (status == SHMETA_OK && verb == BACKEND_SCHEMA_APPLY && obstacles.unfit[0] != '\0')
		return pg_judge_tables(state, &obstacles, err);
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
		pg_say_tables(&script, state);
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
		status = pg_run_script(state, &script, true, err);
	pg_script_free(&script);
	return status;
}
