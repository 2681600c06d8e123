/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the statements of load() and fetch(). */
#include <stdio.h>
#include <string.h>

#include "backends/postgres/pg_reading.h"

struct text {
	char text[400];
};

/* The rows that belong to keys k, by the tenant's condition (or "") and another. table ends with a space and its alias. Each key looks for
 * its own: joined to many that a plan was not made for, or to a table of which one key may want the most, the server would go through
 * the table and look for the keys. */
static struct text joined_rows(const struct pg_shape *shape, const char *table, const char *tenant,
                               const char *condition)
{
	struct text ret;

	if (shape->by_index)
		snprintf(ret.text, sizeof ret.text, " CROSS JOIN LATERAL (SELECT * FROM %s WHERE %s%s OFFSET 0) %s",
		         table, tenant, condition, strrchr(table, ' ') + 1);
	else
		snprintf(ret.text, sizeof ret.text, " JOIN %s ON %s%s", table, tenant, condition);
	return ret;
}

bool pg_read_texts(struct pg_state *state)
{
	const struct pg_shape *shape = &state->shape;
	bool o = shape->organization;
	const char *c = state->dialect->collate, *cast = shape->tenant_uuid ? "::uuid" : "";
	const char *t_org = o ? "t.organization_id::text" : "NULL::text",
		   *p_org = o ? "p.organization_id::text" : "NULL::text",
		   *s_org = o ? "s.organization_id::text" : "NULL::text";
	char topic[2000], partition[2000], position[400], segment[4000], times[1000],
		t_key[80] = "", p_key[80] = "", s_key[80] = "", r_key[80] = "", order[80] = "";
	char agent[1200], group[1000], offset[1600], lease[1800];
	struct text one_partition, some_segments;
	bool ok;

#define NUMBER(table, alias, column) pg_number(shape, table, alias, column).text
	snprintf(topic, sizeof topic, "%s, t.name::text, %s, %s, %s, %s, t.config::text, %s", t_org,
	         NUMBER("topics", "t", "partition_count"), NUMBER("topics", "t", "retention_ms"),
	         NUMBER("topics", "t", "created_at"), NUMBER("topics", "t", "updated_at"),
	         shape->cleanup_policy ? "t.cleanup_policy::text" : "NULL::text");
	snprintf(partition, sizeof partition, "%s, p.topic::text, %s, %s, %s, %s", p_org,
	         NUMBER("partitions", "p", "partition_id"), NUMBER("partitions", "p", "high_watermark"),
	         NUMBER("partitions", "p", "created_at"), NUMBER("partitions", "p", "updated_at"));
	/* Where a slice lies in its object is looked up only while there are slices: another host may write the first one. */
	snprintf(
		position, sizeof position,
		shape->own
			? "CASE WHEN EXISTS(SELECT 1 FROM shmeta_slices) THEN coalesce((SELECT l.position FROM shmeta_slices l WHERE l.tenant = %s AND l.topic = s.topic AND "
			  "l.partition_id = s.partition_id AND l.base_offset = s.base_offset), 0) ELSE 0 END::int8"
			: "0::int8%.0s",
		o ? "s.organization_id::text" : "'" SHMETA_DEFAULT_TENANT "'");
	snprintf(times, sizeof times, "0::int8, 0::int8");
	if (shape->timestamps)
		snprintf(times, sizeof times, "%s, %s", NUMBER("segments", "s", "min_timestamp"),
		         NUMBER("segments", "s", "max_timestamp"));
	snprintf(segment, sizeof segment,
	         "%s, s.topic::text, %s, %s, %s, %s, %s, %s, %s, s.id::text, s.s3_bucket::text, s.s3_key::text, %s",
	         s_org, NUMBER("segments", "s", "partition_id"), NUMBER("segments", "s", "base_offset"),
	         NUMBER("segments", "s", "end_offset"), NUMBER("segments", "s", "record_count"),
	         NUMBER("segments", "s", "size_bytes"), NUMBER("segments", "s", "created_at"), times, position);
	if (o || shape->leases_organization)
		snprintf(r_key, sizeof r_key, "r.organization_id = k.tenant%s AND ", cast);
	if (o) {
		snprintf(t_key, sizeof t_key, "t.organization_id = k.tenant%s AND ", cast);
		snprintf(p_key, sizeof p_key, "p.organization_id = k.tenant%s AND ", cast);
		snprintf(s_key, sizeof s_key, "s.organization_id = k.tenant%s AND ", cast);
		snprintf(order, sizeof order, "organization_id::text%s, ", c);
	}
	one_partition = joined_rows(shape, "partitions p", p_key, "p.topic = k.topic AND p.partition_id = k.id");
	some_segments =
		joined_rows(shape, "segments s", s_key,
	                    "s.topic = k.topic AND s.partition_id = k.id AND s.base_offset BETWEEN k.low AND k.high");
	/* A bare name behind ORDER BY would be the column that is given, with its cast: no index has that. */
	ok = pg_text_of(state, PG_LOAD_TOPIC_KEYS, "SELECT %s, t.name::text FROM topics t", t_org) &&
	     pg_text_of(state, PG_LOAD_OTHER_KEYS, "SELECT DISTINCT %s, p.topic::text FROM partitions p", p_org) &&
	     pg_text_of(state, PG_LOAD_TOPICS, "SELECT %s FROM topics t ORDER BY %st.name%s", topic, order, c) &&
	     pg_text_of(state, PG_LOAD_PARTITIONS, "SELECT %s FROM partitions p ORDER BY %sp.topic%s, p.partition_id",
	                partition, order, c) &&
	     pg_text_of(state, PG_LOAD_SEGMENTS,
	                "SELECT %s FROM segments s ORDER BY %ss.topic%s, s.partition_id, s.base_offset%s%s", segment,
	                order, c, shape->segment_place ? "" : ", s.id", shape->segment_place ? "" : c);
	snprintf(agent, sizeof agent,
	         "%s, r.agent_id::text, r.address::text, r.availability_zone::text, r.agent_group::text, %s, %s, "
	         "r.metadata::text",
	         shape->agents_organization ? "r.organization_id::text" : "NULL::text",
	         NUMBER("agents", "r", "last_heartbeat"), NUMBER("agents", "r", "started_at"));
	snprintf(group, sizeof group, "%s, r.group_id::text, %s, %s", o ? "r.organization_id::text" : "NULL::text",
	         NUMBER("consumer_groups", "r", "created_at"), NUMBER("consumer_groups", "r", "updated_at"));
	snprintf(offset, sizeof offset, "%s, r.group_id::text, r.topic::text, %s, %s, r.metadata::text, %s",
	         o ? "r.organization_id::text" : "NULL::text", NUMBER("consumer_offsets", "r", "partition_id"),
	         NUMBER("consumer_offsets", "r", "committed_offset"), NUMBER("consumer_offsets", "r", "committed_at"));
	snprintf(lease, sizeof lease, "%s, r.topic::text, %s, r.leader_agent_id::text, %s, %s, %s",
	         shape->leases_organization ? "r.organization_id::text" : "NULL::text",
	         NUMBER("partition_leases", "r", "partition_id"), NUMBER("partition_leases", "r", "lease_expires_at"),
	         NUMBER("partition_leases", "r", "acquired_at"), NUMBER("partition_leases", "r", "epoch"));
#undef NUMBER
	ok = ok && pg_text_of(state, PG_AGENTS, "SELECT %s FROM agents r", agent) &&
	     pg_text_of(state, PG_GROUPS, "SELECT %s FROM consumer_groups r", group) &&
	     pg_text_of(state, PG_OFFSETS, "SELECT %s FROM consumer_offsets r", offset) &&
	     pg_text_of(state, PG_LEASES, "SELECT %s FROM partition_leases r", lease);
	ok = ok &&
	     pg_text_of(state, PG_KEY_AGENTS,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[]) k(i, name)%s ORDER BY k.i", agent,
	                joined_rows(shape, "agents r", "", "r.agent_id = k.name").text) &&
	     pg_text_of(state, PG_KEY_GROUPS,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, name)%s "
	                "ORDER BY k.i",
	                group, joined_rows(shape, "consumer_groups r", r_key, "r.group_id = k.name").text) &&
	     pg_text_of(state, PG_KEY_OFFSETS,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int8[]) "
	                "k(i, tenant, name, topic, id)%s UNION ALL SELECT %s, k.i FROM "
	                "unnest($6::int8[], $7::text[], $8::text[]) k(i, tenant, name)%s ORDER BY 8",
	                offset,
	                joined_rows(shape, "consumer_offsets r", r_key,
	                            "r.group_id = k.name AND r.topic = k.topic AND r.partition_id = k.id")
	                        .text,
	                offset, joined_rows(shape, "consumer_offsets r", r_key, "r.group_id = k.name").text) &&
	     pg_text_of(state, PG_KEY_LEASES,
	                "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) "
	                "k(i, tenant, topic, id)%s ORDER BY k.i",
	                lease,
	                joined_rows(shape, "partition_leases r", shape->leases_organization ? r_key : "",
	                            "r.topic = k.topic AND r.partition_id = k.id")
	                        .text);
	/* Without an index, each key would read the table by itself. */
	ok = ok && pg_text_of(state, PG_KEY_BEGIN, "SELECT %s",
	                      shape->by_index ? PG_PLAN_ONCE : "set_config('jit', 'off', true)");
	/* Keys come as columns; i is a key's number, by which its rows are found again. */
	ok = ok &&
	     pg_text_of(
		     state, PG_KEY_TOPICS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, topic)%s ORDER BY k.i",
		     topic, joined_rows(shape, "topics t", t_key, "t.name = k.topic").text) &&
	     pg_text_of(
		     state, PG_KEY_PARTITIONS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) k(i, tenant, topic, id)%s "
		     "ORDER BY k.i",
		     partition, one_partition.text) &&
	     pg_text_of(
		     state, PG_KEY_SEGMENTS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[]) "
		     "k(i, tenant, topic, id, low, high)%s ORDER BY k.i, s.base_offset, s.id%s",
		     segment, some_segments.text, c) &&
	     pg_text_of(
		     state, PG_KEY_ALL_PARTITIONS,
		     "SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, topic)%s UNION ALL "
		     "SELECT %s, k.i FROM unnest($4::int8[], $5::text[], $6::text[], $7::int8[]) "
		     "k(i, tenant, topic, id)%s ORDER BY 7, 3",
		     partition, joined_rows(shape, "partitions p", p_key, "p.topic = k.topic").text, partition,
		     one_partition.text) &&
	     pg_text_of(
		     state, PG_KEY_ALL_SEGMENTS,
		     "SELECT * FROM (SELECT %s, k.i FROM unnest($1::int8[], $2::text[], $3::text[]) k(i, tenant, topic)%s "
		     "UNION ALL SELECT %s, k.i FROM unnest($4::int8[], $5::text[], $6::text[], $7::int8[], $8::int8[], "
		     "$9::int8[]) k(i, tenant, topic, id, low, high)%s) u(tenant, topic, partition_id, base, finish, "
		     "records, size, created, earliest, latest, id, bucket, object, place, i) ORDER BY i, partition_id, "
		     "base, id%s",
		     segment, joined_rows(shape, "segments s", s_key, "s.topic = k.topic").text, segment,
		     some_segments.text, c);
	return ok;
}
