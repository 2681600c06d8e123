/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the statements of load() and fetch().
 *
 * Keys come as columns; k.i is a key's number, by which its rows are found again. A bare name
 * behind ORDER BY would be the column that is given, with its cast, and no index has that: names
 * are qualified there. */
#include "backends/postgres/pg_reading.h"

/* Behind the keys k: the rows of a table for which the condition holds. Each key looks for its own:
 * joined to many that a plan was not made for, or to a table of which one key may want the most,
 * the server would go through the table and look for the keys. */
#define ROWS(table, alias, condition)                                                                    \
	"{x: CROSS JOIN LATERAL (SELECT * FROM " table " " alias " WHERE " condition " OFFSET 0) " alias \
	"}{!x: JOIN " table " " alias " ON " condition "}"
#define OF(alias) "{o:" alias ".organization_id = k.tenant{u:::uuid} AND }"
#define OF_LEASES "{l:r.organization_id = k.tenant{u:::uuid} AND }"

#define TOPIC_ROWS ROWS("topics", "t", OF("t") "t.name = k.topic")
#define ALL_PARTITIONS ROWS("partitions", "p", OF("p") "p.topic = k.topic")
#define ONE_PARTITION ROWS("partitions", "p", OF("p") "p.topic = k.topic AND p.partition_id = k.id")
#define ALL_SEGMENTS ROWS("segments", "s", OF("s") "s.topic = k.topic")
#define IN_RANGE "s.topic = k.topic AND s.partition_id = k.id AND s.base_offset BETWEEN k.low AND k.high"
#define SOME_SEGMENTS ROWS("segments", "s", OF("s") IN_RANGE)
#define AGENT_ROWS ROWS("agents", "r", "r.agent_id = k.name")
#define GROUP_ROWS ROWS("consumer_groups", "r", OF("r") "r.group_id = k.name")
#define ONE_OFFSET "r.group_id = k.name AND r.topic = k.topic AND r.partition_id = k.id"
#define OFFSET_ROWS ROWS("consumer_offsets", "r", OF("r") ONE_OFFSET)
#define OFFSETS_OF_GROUP ROWS("consumer_offsets", "r", OF("r") "r.group_id = k.name")
#define LEASE_ROWS ROWS("partition_leases", "r", OF_LEASES "r.topic = k.topic AND r.partition_id = k.id")

/* The parameters: of names, topics, places, ranges of segments. */
#define NAMES " FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, name)"
#define TOPICS_OF " FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, topic)"
#define PLACES " FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) k(i, tenant, topic, id)"
#define MORE_PLACES " FROM unnest($4::int8[], $5::text[], $6::text[], $7::int8[]) k(i, tenant, topic, id)"
#define RANGE_COLUMNS " k(i, tenant, topic, id, low, high)"
#define RANGES " FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[])" RANGE_COLUMNS
#define MORE_RANGES " FROM unnest($4::int8[], $5::text[], $6::text[], $7::int8[], $8::int8[], $9::int8[])" RANGE_COLUMNS
#define OFFSET_KEYS \
	" FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int8[]) k(i, tenant, name, topic, id)"
#define MORE_GROUPS " FROM unnest($6::int8[], $7::text[], $8::text[]) k(i, tenant, name)"

/* Where a slice lies in its object is looked up only while there are slices: another host may write
 * the first one. */
#define TENANT_OF_SEGMENT "{o:s.organization_id::text}{!o:'" SHMETA_DEFAULT_TENANT "'}"
#define POSITION                                                                      \
	"(SELECT l.position FROM shmeta_slices l WHERE l.tenant = " TENANT_OF_SEGMENT \
	" AND l.topic = s.topic AND l.partition_id = s.partition_id AND l.base_offset = s.base_offset)"
#define SEGMENT                                                                                                  \
	"@segments, {w:CASE WHEN EXISTS(SELECT 1 FROM shmeta_slices) THEN coalesce(" POSITION ", 0) ELSE 0 END}" \
	"{!w:0}::int8"
#define ORGANIZATION(alias) "{o:" alias ".organization_id::text}{!o:NULL::text}"
#define BY_ORGANIZATION "{o:organization_id::text@binary, }"

static const struct pg_text texts[] = {
	{PG_LOAD_TOPIC_KEYS, "SELECT " ORGANIZATION("t") ", t.name::text FROM topics t"},
	{PG_LOAD_OTHER_KEYS, "SELECT DISTINCT " ORGANIZATION("p") ", p.topic::text FROM partitions p"},
	{PG_LOAD_TOPICS, "SELECT @topics FROM topics t ORDER BY " BY_ORGANIZATION "t.name@binary"},
	{PG_LOAD_PARTITIONS,
         "SELECT @partitions FROM partitions p ORDER BY " BY_ORGANIZATION "p.topic@binary, p.partition_id"},
	{PG_LOAD_SEGMENTS, "SELECT " SEGMENT " FROM segments s ORDER BY " BY_ORGANIZATION
                           "s.topic@binary, s.partition_id, s.base_offset{!p:, s.id@binary}"},
	{PG_AGENTS, "SELECT @agents FROM agents r"},
	{PG_GROUPS, "SELECT @consumer_groups FROM consumer_groups r"},
	{PG_OFFSETS, "SELECT @consumer_offsets FROM consumer_offsets r"},
	{PG_LEASES, "SELECT @partition_leases FROM partition_leases r"},
	/* Without an index, each key would read the table by itself. */
	{PG_KEY_BEGIN, "SELECT {x:" PG_PLAN_ONCE "}{!x:set_config('jit', 'off', true)}"},
	{PG_KEY_NAMES, "SELECT octet_length($1::text), octet_length($2::text), octet_length($3::text)"},
	{PG_KEY_TOPICS, "SELECT @topics, k.i" TOPICS_OF TOPIC_ROWS " ORDER BY k.i"},
	{PG_KEY_PARTITIONS, "SELECT @partitions, k.i" PLACES ONE_PARTITION " ORDER BY k.i"},
	{PG_KEY_ALL_PARTITIONS, "SELECT @partitions, k.i" TOPICS_OF ALL_PARTITIONS
                                " UNION ALL SELECT @partitions, k.i" MORE_PLACES ONE_PARTITION " ORDER BY 7, 3"},
	{PG_KEY_SEGMENTS, "SELECT " SEGMENT ", k.i" RANGES SOME_SEGMENTS " ORDER BY k.i, s.base_offset, s.id@binary"},
	{PG_KEY_ALL_SEGMENTS,
         "SELECT * FROM (SELECT " SEGMENT ", k.i" TOPICS_OF ALL_SEGMENTS " UNION ALL SELECT " SEGMENT
         ", k.i" MORE_RANGES SOME_SEGMENTS ") u(tenant, topic, partition_id, base, finish, records, size, created, "
         "earliest, latest, id, bucket, object, place, i) ORDER BY i, partition_id, base, id@binary"},
	{PG_KEY_AGENTS,
         "SELECT @agents, k.i FROM unnest($1::int8[], $2::text[]) k(i, name)" AGENT_ROWS " ORDER BY k.i"},
	{PG_KEY_GROUPS, "SELECT @consumer_groups, k.i" NAMES GROUP_ROWS " ORDER BY k.i"},
	{PG_KEY_OFFSETS, "SELECT @consumer_offsets, k.i" OFFSET_KEYS OFFSET_ROWS
                         " UNION ALL SELECT @consumer_offsets, k.i" MORE_GROUPS OFFSETS_OF_GROUP " ORDER BY 8"},
	{PG_KEY_LEASES, "SELECT @partition_leases, k.i" PLACES LEASE_ROWS " ORDER BY k.i"},
};

bool pg_read_texts(struct pg_state *state)
{
	return pg_texts_of(state, texts, sizeof texts / sizeof texts[0]);
}
