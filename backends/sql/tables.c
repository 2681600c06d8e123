/* SPDX-License-Identifier: Apache-2.0
 * StreamHouse's tables (tables.h). */
#include "backends/sql/tables.h"

#include <string.h>

#define T(name)                      \
	{                            \
		name, COLUMN_TEXT, 0 \
	}
#define I(name)                         \
	{                               \
		name, COLUMN_INTEGER, 0 \
	}
const struct table backend_tables[TABLE_COUNT] = {
	[TOPICS] = {"topics",
                    FLAG_ORGANIZATION,
                    {T("name"),
                     I("partition_count"),
                     I("retention_ms"),
                     I("created_at"),
                     I("updated_at"),
                     T("config"),
                     {"cleanup_policy", COLUMN_TEXT, FLAG_CLEANUP_POLICY}}},
	[PARTITIONS] = {"partitions",
                        FLAG_ORGANIZATION,
                        {T("topic"), I("partition_id"), I("high_watermark"), I("created_at"), I("updated_at")}},
	[SEGMENTS] = {"segments",
                      FLAG_ORGANIZATION,
                      {T("topic"),
                       I("partition_id"),
                       I("base_offset"),
                       I("end_offset"),
                       I("record_count"),
                       I("size_bytes"),
                       I("created_at"),
                       {"min_timestamp", COLUMN_INTEGER, FLAG_TIMESTAMPS},
                       {"max_timestamp", COLUMN_INTEGER, FLAG_TIMESTAMPS},
                       T("id"),
                       T("s3_bucket"),
                       T("s3_key")}},
	[GROUPS] = {"consumer_groups", FLAG_ORGANIZATION, {T("group_id"), I("created_at"), I("updated_at")}},
	[OFFSETS] = {"consumer_offsets",
                     FLAG_ORGANIZATION,
                     {T("group_id"), T("topic"), I("partition_id"), I("committed_offset"), T("metadata"),
                      I("committed_at")}},
	[AGENTS] = {"agents",
                    FLAG_AGENTS_ORGANIZATION,
                    {T("agent_id"), T("address"), T("availability_zone"), T("agent_group"), I("last_heartbeat"),
                     I("started_at"), T("metadata")}},
	[LEASES] = {"partition_leases",
                    FLAG_LEASES_ORGANIZATION,
                    {T("topic"), I("partition_id"), T("leader_agent_id"), I("lease_expires_at"), I("acquired_at"),
                     I("epoch")}},
};
#undef T
#undef I

const char *const table_statements[TABLE_STATEMENTS] = {
	"CREATE TABLE topics(name @key PRIMARY KEY NOT NULL, partition_count INTEGER NOT NULL CHECK (partition_count > 0), "
	"retention_ms @bigint, created_at @bigint NOT NULL, updated_at @bigint NOT NULL, config @map NOT NULL DEFAULT '{}')",
	"CREATE TABLE partitions(topic @key NOT NULL REFERENCES topics(name) ON DELETE CASCADE, "
	"partition_id INTEGER NOT NULL, high_watermark @bigint NOT NULL DEFAULT 0, created_at @bigint NOT NULL, "
	"updated_at @bigint NOT NULL, PRIMARY KEY (topic, partition_id))@clustered",
	"CREATE TABLE segments(id @key PRIMARY KEY NOT NULL, topic @key NOT NULL, partition_id INTEGER NOT NULL, "
	"base_offset @bigint NOT NULL, end_offset @bigint NOT NULL, record_count @bigint NOT NULL, "
	"size_bytes @bigint NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, created_at @bigint NOT NULL, "
	"min_timestamp @bigint NOT NULL DEFAULT 0, max_timestamp @bigint NOT NULL DEFAULT 0, "
	"CHECK (end_offset >= base_offset), "
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE)",
	/* one segment per place; load() and fetch() walk it; the cascade from partitions uses it */
	"CREATE UNIQUE INDEX idx_segments_location ON segments(topic, partition_id, base_offset)",
	"CREATE TABLE consumer_groups(group_id @key PRIMARY KEY NOT NULL, created_at @bigint NOT NULL, "
	"updated_at @bigint NOT NULL)@clustered",
	"CREATE TABLE consumer_offsets(group_id @key NOT NULL REFERENCES consumer_groups(group_id) ON DELETE CASCADE, "
	"topic @key NOT NULL, partition_id INTEGER NOT NULL, committed_offset @bigint NOT NULL, metadata TEXT, "
	"committed_at @bigint NOT NULL, PRIMARY KEY (group_id, topic, partition_id), "
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE)@clustered",
	/* the cascade from partitions */
	"CREATE INDEX idx_consumer_offsets_topic ON consumer_offsets(topic, partition_id)",
	"CREATE TABLE agents(agent_id @key PRIMARY KEY NOT NULL, address TEXT NOT NULL UNIQUE, "
	"availability_zone TEXT NOT NULL, agent_group TEXT NOT NULL, last_heartbeat @bigint NOT NULL, "
	"started_at @bigint NOT NULL, metadata @map NOT NULL DEFAULT '{}')",
	"CREATE TABLE partition_leases(topic @key NOT NULL, partition_id INTEGER NOT NULL, "
	"leader_agent_id @key NOT NULL REFERENCES agents(agent_id) ON DELETE CASCADE, "
	"lease_expires_at @bigint NOT NULL, acquired_at @bigint NOT NULL, epoch @bigint NOT NULL DEFAULT 1, "
	"PRIMARY KEY (topic, partition_id), "
	"FOREIGN KEY (topic, partition_id) REFERENCES partitions(topic, partition_id) ON DELETE CASCADE)@clustered",
	/* the cascade from agents */
	"CREATE INDEX idx_partition_leases_agent ON partition_leases(leader_agent_id)",
};

size_t tables_word(FILE *out, const struct sql_words *words, const char *text, table_spell_fn *spell)
{
	static const char *const aliases[TABLE_COUNT] = {
		[TOPICS] = "t",  [PARTITIONS] = "p", [SEGMENTS] = "s", [GROUPS] = "r",
		[OFFSETS] = "r", [AGENTS] = "r",     [LEASES] = "r"};
	int at = 0;

	while (at < TABLE_COUNT && sql_is(text + 1, backend_tables[at].name) == 0)
		at++;
	if (at == TABLE_COUNT)
		return 0;
	for (int i = -1; i < TABLE_COLUMNS_MAX && (i < 0 || backend_tables[at].columns[i].name != NULL); i++) {
		const struct table_column organization = {"organization_id", COLUMN_TEXT,
		                                          backend_tables[at].organization};
		const struct table_column *column = i < 0 ? &organization : &backend_tables[at].columns[i];
		bool there = column->flag == 0 || words->holds(words->arg, column->flag);

		fputs(i < 0 ? "" : ", ", out);
		spell(out, words->arg, (enum table_index)at, column, there ? aliases[at] : NULL);
	}
	return 1 + strlen(backend_tables[at].name);
}

int table_find(const char *name, int (*compare)(const char *, const char *))
{
	for (int at = 0; at < TABLE_COUNT; at++)
		if (compare(name, backend_tables[at].name) == 0)
			return at;
	return -1;
}

int table_find_column(enum table_index table, const char *name, int (*compare)(const char *, const char *))
{
	const struct table_column *columns = backend_tables[table].columns;

	for (int i = 0; i < TABLE_COLUMNS_MAX && columns[i].name != NULL; i++)
		if (compare(name, columns[i].name) == 0)
			return i;
	return -1;
}

void table_see(struct table_sight *sight, enum table_index table, const char *column,
               int (*compare)(const char *, const char *))
{
	int index = table_find_column(table, column, compare);

	sight->exists[table] = true;
	sight->organization[table] |= compare(column, "organization_id") == 0;
	if (index >= 0)
		sight->columns[table] |= 1u << index;
}

bool table_has(const struct table_sight *sight, enum table_index table, char flag)
{
	const struct table_column *columns = backend_tables[table].columns;

	for (uint32_t i = 0; i < TABLE_COLUMNS_MAX && columns[i].name != NULL; i++)
		if (columns[i].flag == flag && (sight->columns[table] & 1u << i) == 0)
			return false;
	return true;
}

void table_list(char *list, size_t bytes, const char *what, const char *table, const char *column)
{
	size_t used = strlen(list);

	if (used < bytes)
		(void)snprintf(list + used, bytes - used, "%s%s %s%s%s", used > 0 ? ", " : "", what, table,
		               column[0] != '\0' ? "." : "", column);
}

void table_list_missing(const struct table_sight *sight, char *ret, size_t bytes)
{
	for (int at = 0; at < TABLE_COUNT; at++) {
		const struct table *table = &backend_tables[at];

		if (!sight->exists[at])
			table_list(ret, bytes, "table", table->name, "");
		for (uint32_t i = 0; sight->exists[at] && i < TABLE_COLUMNS_MAX && table->columns[i].name != NULL; i++)
			if (table->columns[i].flag == 0 && (sight->columns[at] & 1u << i) == 0)
				table_list(ret, bytes, "column", table->name, table->columns[i].name);
		/* One tenant column for all that hangs together, or none. */
		if (table->organization == FLAG_ORGANIZATION && sight->exists[at] &&
		    sight->organization[TOPICS] != sight->organization[at])
			table_list(ret, bytes, "column", backend_tables[sight->organization[at] ? TOPICS : at].name,
			           "organization_id");
	}
}
