/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: DDL, gathered before it is told or run; the tables of semantics.md 1.8, for an
 * empty schema. */
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

static size_t type_word(FILE *out, const struct sql_words *words, const char *text)
{
	if (sql_is(text, "@key") > 0)
		fprintf(out, "TEXT%s", ((const struct pg_state *)words->arg)->dialect->column_collate);
	else if (sql_is(text, "@bigint") > 0)
		fputs("BIGINT", out);
	else if (sql_is(text, "@map") > 0)
		fputs("JSONB", out);
	return 1 + strspn(text + 1, "abcdefghijklmnopqrstuvwxyz");
}

void pg_say_tables(struct pg_script *script, const struct pg_state *state)
{
	for (int i = 0; i < TABLE_STATEMENTS; i++) {
		char *text = sql_expand(table_statements[i], &(struct sql_words){.arg = state, .word = type_word});

		script->failed |= text == NULL;
		pg_say(script, "%s", text != NULL ? text : "");
		free(text);
	}
}
