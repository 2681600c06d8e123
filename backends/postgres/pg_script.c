/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: DDL, gathered before it is told or run; the tables of semantics.md 1.8, for an empty schema. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_script.h"
#include "backends/postgres/pg_state.h"

void pg_script_free(struct pg_script *script)
{
	for (size_t i = 0; i < script->count; i++)
		free(script->lines[i]);
	free(script->lines);
	memset(script, 0, sizeof *script);
}

void pg_say(struct pg_script *script, const char *fmt, ...)
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

char *pg_fill(const char *template, const struct pg_token *tokens)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	if (out == NULL)
		return NULL;
	while (*template != '\0') {
		const char *close = *template == '{' ? strchr(template, '}') : NULL;
		const struct pg_token *t = tokens;

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

/* The columns of 1.8, and of its indexes those that something uses. */
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

void pg_say_tables(struct pg_script *script, const struct pg_state *state)
{
	const struct pg_token tokens[] = {{"c", state->dialect->column_collate}, {NULL, NULL}};

	for (size_t i = 0; i < sizeof lean_schema / sizeof lean_schema[0]; i++) {
		char *text = pg_fill(lean_schema[i], tokens);

		script->failed |= text == NULL;
		pg_say(script, "%s", text != NULL ? text : "");
		free(text);
	}
}
