/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: whether what a deletion takes along is gone. A cascade's rows go when the
 * statement has ended; a trigger of the application's may keep them, without a word, and the row
 * that they hang on is gone all the same. */
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
#define LEFT(child, parent, column, tenant)                                                                          \
	"(EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = '" child                                 \
	"'::regclass AND k.confrelid = '" parent                                                                     \
	"'::regclass AND k.contype = 'f' AND k.confdeltype = 'c') AND (SELECT true FROM " child " r WHERE r." column \
	" = i.name AND r." column " COLLATE \"C\" = i.name" tenant " LIMIT 1) IS NOT NULL)"
#define OF_TENANT "{o: AND r.organization_id = i.tenant{u:::uuid}}"
#define OF_LEASES_TENANT "{l: AND r.organization_id = i.tenant{u:::uuid}}"
#define NONE_LEFT(of) "SELECT {!g:0}{g:count(*) FROM unnest($1::text[], $2::text[]) AS i(tenant, name) WHERE " of "}"

static const struct pg_text texts[] = {
	{PG_W_LEFT_OF_TOPICS, NONE_LEFT(LEFT("partitions", "topics", "topic", OF_TENANT) " OR " LEFT(
				      "segments", "partitions", "topic",
				      OF_TENANT) " OR " LEFT("consumer_offsets", "partitions", "topic",
                                                             OF_TENANT) " OR " LEFT("partition_leases", "partitions",
                                                                                    "topic", OF_LEASES_TENANT))},
	{PG_W_LEFT_OF_GROUPS, NONE_LEFT(LEFT("consumer_offsets", "consumer_groups", "group_id", OF_TENANT))},
	{PG_W_LEFT_OF_AGENTS, NONE_LEFT(LEFT("partition_leases", "agents", "leader_agent_id", ""))},
};

bool pg_write_look_back_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
