/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the texts of the statements of operations for the database's shape. */
#include <stdio.h>

#include "backends/postgres/pg_clock.h"
#include "backends/postgres/pg_write_kinds.h"

static const struct {
	const char *type, *column;
} fields[] = {
#define F(name, type, column) [FIELD_##name] = {#type, #column},
	WRITE_FIELDS(F)
#undef F
};

static int length(const enum write_field *list)
{
	int count = 0;

	while (list[count] != FIELD_END)
		count++;
	return count;
}

/* The list that parameters from `first` on are, a row each. */
static void write_list(FILE *out, const struct pg_state *state, const enum write_field *list, int first, bool numbered)
{
	/* Statements name org also where there is no such column, in lists of a list's columns. */
	fprintf(out, "(SELECT i.*, i.tenant%s AS org FROM unnest(", state->shape.tenant_uuid ? "::uuid" : "");
	for (int i = 0; list[i] != FIELD_END; i++)
		fprintf(out, "%s$%d::%s[]", i > 0 ? ", " : "", first + i, fields[list[i]].type);
	fprintf(out, ")%s AS i(", numbered ? " WITH ORDINALITY" : "");
	for (int i = 0; list[i] != FIELD_END; i++)
		fprintf(out, "%s%s", i > 0 ? ", " : "", fields[list[i]].column);
	fprintf(out, "%s))", numbered ? ", n" : "");
}

struct kind_words {
	struct sql_words words; /* first */
	const struct write_kind_info *kind;
};

static size_t kind_word(FILE *out, const struct sql_words *words, const char *text)
{
	const struct kind_words *mine = (const struct kind_words *)words;
	const struct write_kind_info *kind = mine->kind;
	const struct pg_state *state = words->arg;
	const int items = length(kind->fields), runs = length(kind->runs);

	if (sql_is(text, "@items") > 0) {
		fputs("WITH i AS MATERIALIZED ", out);
		write_list(out, state, kind->fields, 1, true);
		return sql_is(text, "@items");
	}
	if (sql_is(text, "@rows") > 0) {
		write_list(out, state, kind->fields, 1, false);
		return sql_is(text, "@rows");
	}
	if (sql_is(text, "@runs") > 0) {
		write_list(out, state, kind->runs, items + 1, true);
		return sql_is(text, "@runs");
	}
	if (sql_is(text, "@clock") > 0) {
		sql_write(out, pg_clock(state), words);
		return sql_is(text, "@clock");
	}
	if (sql_is(text, "@now") > 0)
		fprintf(out, "$%d::int8", items + runs + 1);
	return sql_is(text, "@now");
}

char *pg_write_expand(const struct pg_state *state, enum write_kind kind, const char *text)
{
	struct kind_words words = {.words = pg_words(state), .kind = &pg_write_kinds[kind]};

	words.words.word = kind_word;
	return sql_expand(text, &words.words);
}

bool pg_write_kind_texts(struct pg_state *state)
{
	bool ok = true;

	for (int i = 0; ok && i < KIND_COUNT; i++)
		ok = pg_set_text(state, pg_write_statements[i].statement,
		                 pg_write_expand(state, (enum write_kind)i, pg_write_kinds[i].sql));
	return ok;
}
