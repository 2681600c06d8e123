/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what a file must have to be served, and the tables of semantics.md 1.8, which
 * are created in an empty file where that is asked for, and otherwise taken as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/sql/tables.h"
#include "backends/sqlite/sqlite_db.h"
#include "backends/sqlite/sqlite_files.h"
#include "backends/sqlite/sqlite_schema.h"
#include "backends/sqlite/sqlite_triggers.h"
#include "base/hash.h"

static size_t type_word(FILE *out, const struct sql_words *words, const char *text)
{
	static const struct {
		const char *word, *type;
	} types[] = {{"@key", "TEXT"}, {"@bigint", "INTEGER"}, {"@map", "TEXT"}, {"@clustered", " WITHOUT ROWID"}};

	(void)words;
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (sql_is(text, types[i].word) > 0) {
			fputs(types[i].type, out);
			return strlen(types[i].word);
		}
	return 0;
}

/* One of table_statements, for SQLite. The caller frees it; NULL: out of memory. */
static char *table_statement(int which)
{
	return sql_expand(table_statements[which], &(struct sql_words){.word = type_word});
}

/* ---- looking */

/* Which tables and columns there are. missing: empty, or what is not there. */
static int look(struct sqlite_state *state, char *missing, size_t bytes)
{
	struct table_sight sight = {.exists = {false}};
	struct sqlite_shape *shape = &state->shape;
	sqlite3_stmt *statement = NULL;
	int64_t rowid_columns = 0, loose = 0;
	int rc;

	memset(shape, 0, sizeof *shape);
	state->obstacle[0] = '\0';
	rc = sqlite_query(
		state,
		"SELECT m.name, c.name, l.type FROM sqlite_master m, pragma_table_xinfo(m.name) c, "
		"pragma_table_list l WHERE m.type IN ('table', 'view') AND l.name = m.name AND l.schema = 'main' AND "
		"c.hidden <> 1",
		&statement);
	while (rc == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
		const char *table = (const char *)sqlite3_column_text(statement, 0);
		const char *column = (const char *)sqlite3_column_text(statement, 1);
		const char *type = (const char *)sqlite3_column_text(statement, 2);
		int at = table_find(table, sqlite3_stricmp);

		if (at < 0)
			continue;
		table_see(&sight, (enum table_index)at, column, sqlite3_stricmp);
		if (strcmp(type, "table") != 0 && state->obstacle[0] == '\0')
			(void)snprintf(state->obstacle, sizeof state->obstacle,
			               "%s is a %s%s, which cannot have the triggers of a change feed", table, type,
			               strcmp(type, "virtual") == 0 ? " table" : "");
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_reset(statement);
	sqlite3_finalize(statement);
	if (rc != SQLITE_OK)
		return rc;
	table_list_missing(&sight, missing, bytes);
	shape->organization = sight.organization[TOPICS];
	shape->agents_organization = sight.organization[AGENTS];
	shape->leases_organization = sight.organization[LEASES];
	shape->cleanup_policy = table_has(&sight, TOPICS, FLAG_CLEANUP_POLICY);
	shape->timestamps = table_has(&sight, SEGMENTS, FLAG_TIMESTAMPS);
	if (sight.exists[SEGMENTS]) {
		/* A WITHOUT ROWID table shows its primary key's index in index_list, and no rowid
		 * can be selected. */
		rc = sqlite_one_number(
			state,
			"SELECT count(*) FROM pragma_table_list WHERE name = 'segments' AND type = 'table' AND wr = 0",
			&rowid_columns);
		shape->segments_rowid = rowid_columns > 0;
	}
	if (rc == SQLITE_OK)
		rc = sqlite_one_number(
			state,
			"SELECT NOT EXISTS(SELECT 1 FROM pragma_foreign_key_list('segments') WHERE lower(\"table\") = 'partitions') "
			"OR NOT EXISTS(SELECT 1 FROM pragma_index_list('segments') il WHERE il.\"unique\" = 1 AND il.partial = 0 AND "
			"(SELECT group_concat(lower(c), ' ') FROM (SELECT name AS c FROM pragma_index_xinfo(il.name) WHERE key = 1 "
			"ORDER BY name)) = 'base_offset partition_id topic') OR EXISTS(SELECT 1 FROM sqlite_master WHERE type = "
			"'table' AND name IN ('segments', 'partitions') AND sql LIKE '%deferrable%')",
			&loose);
	shape->loose = loose != 0;
	return rc;
}

/* ---- making ---- */

int sqlite_objects(struct sqlite_state *state, uint64_t *ret, int64_t *ret_version)
{
	enum shmeta_status status;
	sqlite3_stmt *statement = sqlite_prepare(state, ST_SCHEMA_OBJECTS, NULL, &status);
	uint64_t hash = HASH_FIRST;
	int rc;

	if (statement == NULL)
		return sqlite3_errcode(state->db);
	state->counters.queries++;
	while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
		*ret_version = sqlite3_column_int64(statement, 5);
		for (int i = 0; i < 5; i++) {
			/* an index of a key has no sql */
			const unsigned char *text = sqlite3_column_text(statement, i);

			hash = hash_bytes(hash, text != NULL ? text : (const unsigned char *)"",
			                  (size_t)sqlite3_column_bytes(statement, i) + 1);
		}
	}
	sqlite3_reset(statement);
	*ret = hash | 1; /* 0 means: not known */
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int make_schema(struct sqlite_state *state)
{
	int rc = SQLITE_OK;

	for (int i = 0; rc == SQLITE_OK && i < TABLE_STATEMENTS; i++) {
		char *sql = table_statement(i);

		rc = sql != NULL ? sqlite_execute(state, sql) : SQLITE_NOMEM;
		free(sql);
	}
	return rc;
}

static int identify(struct sqlite_state *state)
{
	sqlite3_stmt *statement = NULL;
	int rc = SQLITE_OK;

	state->feed_id = 0;
	state->source = 0;
	if (state->shape.own) {
		rc = sqlite_query(state, "SELECT name, value FROM shmeta_meta WHERE name IN ('feed', 'source')",
		                  &statement);
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
	if (state->source == 0) /* nothing of ours in it: then it is the file that lies there */
		state->source = sqlite_place(state);
	return rc;
}

static int text_encoding(void *arg, int count, char **values, char **columns)
{
	(void)columns;
	*(bool *)arg = count > 0 && values[0] != NULL && strcmp(values[0], "UTF-8") == 0;
	return 0;
}

/* Everything that may write, in one transaction, so that two daemons that start at once do not meet
 * half of it. */
static int make_all(struct sqlite_state *state, bool own)
{
	int64_t tables_there = 0;
	char missing[8] = "";
	int rc = sqlite_execute(state, "BEGIN IMMEDIATE");

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite_one_number(state,
	                       "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' "
	                       "ESCAPE '\\'",
	                       &tables_there);
	if (rc == SQLITE_OK && tables_there == 0)
		rc = make_schema(state);
	if (rc == SQLITE_OK)
		rc = look(state, missing, sizeof missing);
	if (rc == SQLITE_OK && own && missing[0] == '\0' && state->obstacle[0] == '\0')
		rc = sqlite_own_objects(state, true, &state->made);
	if (rc == SQLITE_OK)
		rc = sqlite_execute(state, "COMMIT");
	if (rc != SQLITE_OK)
		sqlite3_exec(state->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

static enum shmeta_status has_no_tables(const struct sqlite_state *state, struct backend_error *err)
{
	return backend_fail(
		err, SHMETA_ERR_CONFIG,
		"sqlite: %s has no tables, and none were asked for: 'shmetactl schema apply --source sqlite:%s' "
		"makes them",
		state->path, state->path);
}

/* Why there is no feed: also where nobody asked for one, because what follows from it is the
 * same. */
static void say_trouble(struct sqlite_state *state)
{
	const char *why = state->obstacle[0] != '\0' ? state->obstacle : state->why;
	bool unmanaged = state->obstacle[0] == '\0' && !state->options.manage_schema && !sqlite_is_newer(state);

	state->trouble[0] = '\0';
	if (!state->shape.feed && why[0] != '\0')
		(void)snprintf(state->trouble, sizeof state->trouble,
		               "sqlite: no change feed: %.240s%s. Changes are found by comparing everything", why,
		               unmanaged ? ", and this daemon may not make it ('shmetactl schema apply' does)" : "");
}

enum shmeta_status sqlite_attach(struct sqlite_state *state, struct backend_error *err)
{
	char missing[300] = "";
	bool utf8 = true, empty, ignored = false;
	int64_t tables_there = 0, foreign = 0;
	int rc;

	rc = sqlite3_exec(state->db, "PRAGMA encoding", text_encoding, &utf8, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite_one_number(
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
	if (empty && state->opened_before)
		return backend_fail(err, SHMETA_ERR_SOURCE,
		                    "sqlite: %s has no tables any more: nothing is made in the place of what was there",
		                    state->path);
	if (empty && !state->read_only && !state->options.create)
		return has_no_tables(state, err);
	if (empty && state->read_only)
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"sqlite: %s has no tables, and this process may not write to it: create the schema first, "
			"or allow shmeta to",
			state->path);
	if (empty) {
		/* A file of our own: readers beside the writer, and a commit that costs no fsync of
		 * the database. */
		rc = sqlite_execute(state, "PRAGMA journal_mode=WAL");
		if (rc != SQLITE_OK)
			return sqlite_fail(state, rc, "creating", err);
		state->wal = true;
		rc = make_all(state, state->options.manage_schema != 0);
		if (rc != SQLITE_OK)
			return sqlite_fail(state, rc, "creating the schema of", err);
	}
	rc = look(state, missing, sizeof missing);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "reading the schema of", err);
	if (missing[0] != '\0')
		return backend_fail(err, SHMETA_ERR_CONFIG,
		                    "sqlite: %s is not a StreamHouse database of a known shape: missing: %s",
		                    state->path, missing);
	if (state->obstacle[0] == '\0')
		rc = sqlite_own_objects(state, false, &ignored);
	if (rc == SQLITE_OK && !state->shape.feed && state->obstacle[0] == '\0' && state->options.manage_schema &&
	    !state->read_only) {
		rc = make_all(state, state->options.manage_schema != 0);
		state->cramped = sqlite_unwritten(rc);
		if ((rc & 0xff) == SQLITE_ERROR || state->cramped) { /* to read does not need it */
			(void)snprintf(state->obstacle, sizeof state->obstacle, "they could not be made: %s",
			               sqlite3_errstr(rc));
			state->shape.feed = state->shape.own = false;
			rc = SQLITE_OK;
		} else if ((rc & 0xff) == SQLITE_READONLY) {
			/* of its side files' rights, or a disk that became read-only */
			state->read_only = true;
			state->shape.feed = state->shape.own = false;
			rc = SQLITE_OK;
		}
	}
	say_trouble(state);
	if (rc == SQLITE_OK)
		rc = identify(state);
	/* Whose triggers run for what we write: the application's; and any, where the log is not
	 * ours to write. */
	if (rc == SQLITE_OK)
		rc = sqlite_one_number(state,
		                       "SELECT EXISTS(SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND "
		                       "substr(name, 1, 7) <> 'shmeta_')",
		                       &foreign);
	state->shape.foreign = foreign != 0;
	state->shape.triggers = foreign != 0 || !state->shape.feed;
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(state->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, (int)state->shape.triggers, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite_rewrite(state);
	if (rc == SQLITE_OK)
		rc = sqlite_execute(
			state, "CREATE TEMP TABLE IF NOT EXISTS shmeta_keys(i INTEGER PRIMARY KEY, kind INTEGER, "
			       "tenant TEXT, topic TEXT, partition_id INTEGER, low INTEGER, high INTEGER, name TEXT)");
	if (rc == SQLITE_OK)
		rc = sqlite_objects(state, &state->objects, &state->schema_version);
	if (rc != SQLITE_OK)
		return sqlite_fail(state, rc, "preparing", err);
	return SHMETA_OK;
}

/* ---- the verbs of `shmetactl schema` ---- */

static enum shmeta_status tell_status(struct sqlite_state *state, bool empty, const char *missing,
                                      backend_schema_fn *say, void *arg, struct backend_error *err)
{
	int64_t rows = 0;
	int there, count;
	enum shmeta_status status;
	bool ignored = false;
	char line[400];

	if (empty)
		return say(arg, "tables", "none: the file is empty");
	if (missing[0] != '\0')
		return say(arg, "missing", missing);
	snprintf(line, sizeof line, "%s, segments %s timestamps",
	         state->shape.organization ? "with organizations" : "without organizations",
	         state->shape.timestamps ? "with" : "without");
	status = say(arg, "tables", line);
	if (status == SHMETA_OK)
		status = sqlite_tell_objects(state, BACKEND_SCHEMA_STATUS, say, arg, &there, &count, err);
	if (status != SHMETA_OK)
		return status;
	snprintf(line, sizeof line, "%d of %d", there, count);
	status = say(arg, "own tables and triggers", line);
	if (status == SHMETA_OK && there == count) {
		if (sqlite_one_number(state, "SELECT count(*) FROM shmeta_changes", &rows) != SQLITE_OK)
			return sqlite_fail(state, sqlite3_errcode(state->db), "reading the schema of", err);
		snprintf(line, sizeof line, "%lld", (long long)rows);
		status = say(arg, "logged changes", line);
	}
	if (status != SHMETA_OK)
		return status;
	if (state->obstacle[0] == '\0' && sqlite_own_objects(state, false, &ignored) != SQLITE_OK)
		return sqlite_fail(state, sqlite3_errcode(state->db), "reading the schema of", err);
	if (state->obstacle[0] == '\0' && state->shape.feed)
		return say(arg, "change feed", "complete");
	snprintf(line, sizeof line, "none: %s%s", state->obstacle[0] != '\0' ? state->obstacle : state->why,
	         state->obstacle[0] == '\0' && there < count && !sqlite_is_newer(state)
	                 ? ". 'shmetactl schema apply' makes it"
	                 : "");
	return say(arg, "change feed", line);
}

enum shmeta_status sqlite_schema(struct sqlite_state *state, enum backend_schema_verb verb, int dry_run,
                                 backend_schema_fn *say, void *arg, struct backend_error *err)
{
	char missing[300] = "";
	int64_t tables_there = 0;
	enum shmeta_status status = SHMETA_OK;
	int there = 0, count = 0, rc;
	bool empty;

	rc = sqlite_one_number(
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
		               : backend_fail(err, SHMETA_ERR_CONFIG,
		                              "sqlite: %s is not a StreamHouse database of a known shape: missing: %s",
		                              state->path, missing);
	if (verb == BACKEND_SCHEMA_APPLY && state->obstacle[0] != '\0')
		return backend_fail(err, SHMETA_ERR_CONFIG, "sqlite: %s: %s", state->path, state->obstacle);
	if (verb == BACKEND_SCHEMA_APPLY && sqlite_is_newer(state))
		return backend_fail(
			err, SHMETA_ERR_CONFIG,
			"sqlite: %s: its tables and triggers were made by a newer shmeta, which alone may change them",
			state->path);
	if (empty && verb == BACKEND_SCHEMA_APPLY && !state->options.create)
		return has_no_tables(state, err);
	if (empty && verb == BACKEND_SCHEMA_APPLY) {
		state->shape = (struct sqlite_shape){.timestamps = true, .segments_rowid = true};
		for (int i = 0; status == SHMETA_OK && i < TABLE_STATEMENTS; i++) {
			char *sql = table_statement(i);

			status = sql != NULL ? say(arg, "sql", sql)
			                     : backend_fail(err, SHMETA_ERR_NO_MEMORY, "sqlite: %s: out of memory",
			                                    state->path);
			free(sql);
		}
	}
	if (status == SHMETA_OK)
		status = sqlite_tell_objects(state, verb, say, arg, &there, &count, err);
	if (status != SHMETA_OK || dry_run || (verb == BACKEND_SCHEMA_REMOVE ? there == 0 : there == count))
		return status;
	if (verb == BACKEND_SCHEMA_REMOVE)
		return sqlite_remove_managed(state, err);
	if (empty && (rc = sqlite_execute(state, "PRAGMA journal_mode=WAL")) != SQLITE_OK)
		return sqlite_fail(state, rc, "creating", err);
	rc = make_all(state, true);
	return rc == SQLITE_OK ? SHMETA_OK : sqlite_fail(state, rc, "creating the schema of", err);
}
