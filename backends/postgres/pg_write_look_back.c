/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: whether what a deletion takes along is gone. A cascade's rows go when the statement has ended; a trigger of the
 * application's may keep them, without a word, and the row that they hang on is gone all the same. */
#include <stdio.h>
#include <stdlib.h>

#include "backends/postgres/pg_writing.h"

enum pg_statement pg_write_looks_back(const struct writing *w, enum write_kind kind)
{
	if (!w->state->dialect->triggers)
		return PG_STATEMENTS;
	return kind == KIND_TOPIC_DELETE   ? PG_W_LEFT_OF_TOPICS
	       : kind == KIND_GROUP_DELETE ? PG_W_LEFT_OF_GROUPS
	       : kind == KIND_AGENT_DELETE ? PG_W_LEFT_OF_AGENTS
	                                   : PG_STATEMENTS;
}

/* Rows of a schema without the cascade stay, and are nobody's fault. */
static void say_left(FILE *out, const char *child, const char *parent, const char *column, const char *org)
{
	(void)fprintf(
		out,
		"(EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = '%s'::regclass AND k.confrelid = "
		"'%s'::regclass AND k.contype = 'f' AND k.confdeltype = 'c') AND (SELECT true FROM %s r WHERE "
		"r.%s = i.name AND r.%s COLLATE \"C\" = i.name%s LIMIT 1) IS NOT NULL)",
		child, parent, child, column, column, org);
}

static bool say_statement(struct pg_state *state, enum pg_statement which)
{
	const struct pg_shape *shape = &state->shape;
	char *text = NULL, of_tenant[64];
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);
	bool ok;

	if (out == NULL)
		return false;
	(void)snprintf(of_tenant, sizeof of_tenant, " AND r.organization_id = i.tenant%s",
	               shape->tenant_uuid ? "::uuid" : "");
	(void)fputs("SELECT count(*) FROM unnest($1::text[], $2::text[]) AS i(tenant, name) WHERE ", out);
	if (which == PG_W_LEFT_OF_TOPICS) {
		say_left(out, "partitions", "topics", "topic", shape->organization ? of_tenant : "");
		(void)fputs(" OR ", out);
		say_left(out, "segments", "partitions", "topic", shape->organization ? of_tenant : "");
		(void)fputs(" OR ", out);
		say_left(out, "consumer_offsets", "partitions", "topic", shape->organization ? of_tenant : "");
		(void)fputs(" OR ", out);
		say_left(out, "partition_leases", "partitions", "topic", shape->leases_organization ? of_tenant : "");
	} else if (which == PG_W_LEFT_OF_GROUPS) {
		say_left(out, "consumer_offsets", "consumer_groups", "group_id", shape->organization ? of_tenant : "");
	} else {
		say_left(out, "partition_leases", "agents", "leader_agent_id", "");
	}
	ok = fclose(out) == 0 && pg_text_of(state, which, "%s", state->dialect->triggers ? text : "SELECT 0");
	free(text);
	return ok;
}

bool pg_write_look_back_texts(struct pg_state *state)
{
	return say_statement(state, PG_W_LEFT_OF_TOPICS) && say_statement(state, PG_W_LEFT_OF_GROUPS) &&
	       say_statement(state, PG_W_LEFT_OF_AGENTS);
}
