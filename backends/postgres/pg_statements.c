/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the texts of its statements. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/postgres/pg_state.h"
#include "backends/sql/tables.h"

bool pg_set_text(struct pg_state *state, enum pg_statement which, char *text)
{
	free(state->sql[which]);
	state->sql[which] = text;
	return text != NULL;
}

bool pg_text_of(struct pg_state *state, enum pg_statement which, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	return pg_set_text(state, which, text);
}

static bool flag_holds(const void *arg, char flag)
{
	const struct pg_state *state = arg;
	const struct pg_shape *shape = &state->shape;

	switch (flag) {
	case FLAG_ORGANIZATION:
		return shape->organization;
	case FLAG_AGENTS_ORGANIZATION:
		return shape->agents_organization;
	case FLAG_LEASES_ORGANIZATION:
		return shape->leases_organization;
	case FLAG_CLEANUP_POLICY:
		return shape->cleanup_policy;
	case FLAG_TIMESTAMPS:
		return shape->timestamps;
	case 'u':
		return shape->tenant_uuid;
	case 'j':
		return shape->config_json;
	case 'p':
		return shape->segment_place;
	case 'd':
		return shape->deferrable;
	case 'x':
		return shape->by_index;
	case 'k':
		return shape->tenant_in_key;
	case 'n':
		return shape->loose_texts;
	case 'w':
		return shape->own;
	case 'e':
		return shape->epochs;
	case 'f':
		return shape->feed;
	case 's':
		return state->dialect->snapshots;
	default: /* 'g' */
		return state->dialect->triggers;
	}
}

static void spell(FILE *out, const void *arg, enum table_index table, const struct table_column *column,
                  const char *alias)
{
	const struct pg_state *state = arg;

	if (column->type == COLUMN_INTEGER && alias != NULL)
		pg_write_number(out, &state->shape, table, alias, column->name);
	else if (alias != NULL)
		fprintf(out, "%s.%s::text", alias, column->name);
	else
		fputs(column->type == COLUMN_INTEGER ? "0::int8" : "NULL::text", out);
}

static size_t word(FILE *out, const struct sql_words *words, const char *text)
{
	const struct pg_dialect *dialect = ((const struct pg_state *)words->arg)->dialect;

	if (sql_is(text, "@server_time") > 0) {
		fputs(dialect->clock, out);
		return sql_is(text, "@server_time");
	}
	if (sql_is(text, "@binary") > 0) {
		fputs(dialect->column_collate, out);
		return sql_is(text, "@binary");
	}
	return tables_word(out, words, text, spell);
}

struct sql_words pg_words(const struct pg_state *state)
{
	return (struct sql_words){.arg = state, .holds = flag_holds, .word = word};
}

bool pg_texts_of(struct pg_state *state, const struct pg_text *texts, size_t count)
{
	const struct sql_words words = pg_words(state);
	bool ok = true;

	for (size_t i = 0; ok && i < count; i++)
		ok = pg_set_text(state, texts[i].which, sql_expand(texts[i].template, &words));
	return ok;
}
