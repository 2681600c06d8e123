/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: moving rows between engines, as they are.
 *
 * A statement for each kind takes many rows as arrays: it inserts those whose parents are there and
 * whose keys are free, and tells of each whether it was put, whether what it hangs on is there, and
 * whether what is there already is the same. What it sees of the tables is of before it, so the
 * three answers agree. What the server will not take, or another session locks, fails its
 * statement; then the batch is done again, each statement behind a savepoint, and a failing one in
 * halves until the row stands alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/op_errors.h"
#include "backends/postgres/pg_feed.h"
#include "backends/postgres/pg_move.h"
#include "backends/postgres/pg_replica.h"
#include "backends/postgres/pg_session.h"
#include "backends/postgres/pg_transaction.h"
#include "backends/postgres/pg_writing.h"

enum { MOST = 4096 }; /* rows of a statement */

struct moving {
	struct pg_state *state;
	const struct backend_row **row; /* by kind */
	struct shmeta_result **result;
	size_t count;
	bool apart, row_failed;
	struct pg_array arrays[PG_PARAMS_MAX];
};

/* ---- texts ---- */

static const enum pg_statement statements[BACKEND_ROW_KINDS] = {
	[BACKEND_ROW_OBJECT] = PG_M_OBJECT,       [BACKEND_ROW_TOPIC] = PG_M_TOPIC,
	[BACKEND_ROW_PARTITION] = PG_M_PARTITION, [BACKEND_ROW_SEGMENT] = PG_M_SEGMENT,
	[BACKEND_ROW_AGENT] = PG_M_AGENT,         [BACKEND_ROW_GROUP] = PG_M_GROUP,
	[BACKEND_ROW_OFFSET] = PG_M_OFFSET,       [BACKEND_ROW_LEASE] = PG_M_LEASE,
	[BACKEND_ROW_EPOCH] = PG_M_EPOCH};

/* The columns of each kind's arrays behind i and tenant, and how a row fills them (fill_row()). */
static const struct {
	const char *names, *types; /* a letter a column: t text, n number */
} columns[BACKEND_ROW_KINDS] = {
	[BACKEND_ROW_OBJECT] = {"bucket, key, bytes, made, since", "ttnnn"},
	[BACKEND_ROW_TOPIC] = {"name, parts, keep, made, moved, config, policy", "tnnnntt"},
	[BACKEND_ROW_PARTITION] = {"topic, pid, mark, made, moved", "tnnnn"},
	[BACKEND_ROW_SEGMENT] = {"topic, pid, base, last, records, bytes, id, bucket, key, place, made, low, high",
                                 "tnnnnntttnnnn"},
	[BACKEND_ROW_AGENT] = {"agent, address, zone, grp, beat, started, about", "ttttnnt"},
	[BACKEND_ROW_GROUP] = {"grp, made, moved", "tnn"},
	[BACKEND_ROW_OFFSET] = {"grp, topic, pid, value, about, at", "ttnntn"},
	[BACKEND_ROW_LEASE] = {"topic, pid, agent, ends, since, epoch", "tntnnn"},
	[BACKEND_ROW_EPOCH] = {"topic, pid, epoch", "tnn"},
};

/* WITH v AS (the arrays as rows) */
static void say_rows(FILE *out, enum backend_row_kind kind)
{
	const char *types = columns[kind].types;

	(void)fputs("WITH v AS (SELECT * FROM unnest($1::int8[], $2::text[]", out);
	for (int i = 0; types[i] != '\0'; i++)
		(void)fprintf(out, ", $%d::%s[]", i + 3, types[i] == 't' ? "text" : "int8");
	(void)fprintf(out, ") AS v(i, tenant, %s)) ", columns[kind].names);
}

/* table(columns) SELECT values WHERE guard; found: the keys of the row that was put, as a join;
 * parent, same: conditions. */
static bool say_kind(struct pg_state *state, enum backend_row_kind kind, const char *org, const char *org_value,
                     const char *table, const char *names, const char *values, const char *guard, const char *keys,
                     const char *found, const char *parent, const char *same)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);
	bool ok;

	if (out == NULL)
		return false;
	say_rows(out, kind);
	(void)fprintf(out,
	              ", put AS (INSERT INTO %s(%s%s) SELECT %s%s FROM v WHERE %s%s RETURNING %s%s) "
	              "SELECT v.i, u.found IS NOT NULL, %s, EXISTS(SELECT 1 FROM %s e WHERE %s) FROM v "
	              "LEFT JOIN (SELECT put.*, true AS found FROM put) u ON %s ORDER BY v.i",
	              table, org, names, org_value, values, guard,
	              kind == BACKEND_ROW_SEGMENT && state->shape.deferrable
	                      ? " AND NOT EXISTS(SELECT 1 FROM segments d WHERE d.id = v.id)"
	                      : " ON CONFLICT DO NOTHING",
	              org[0] != '\0' ? "organization_id, " : "", keys, parent, table, same, found);
	ok = fclose(out) == 0 && pg_text_of(state, statements[kind], "%s", text);
	free(text);
	return ok;
}

static bool say_own(struct pg_state *state)
{
	char *text = NULL;
	size_t bytes;
	FILE *out;
	/* Where leases have no tenant, neither have their epochs (pg_write_kinds.c). */
	const bool l = state->shape.leases_organization, named = state->shape.organization && !l;
	const char *owner = l ? "tenant" : "'" SHMETA_DEFAULT_TENANT "'";
	bool ok = true;

	if (!state->shape.own)
		return pg_text_of(state, PG_M_OBJECT, "SELECT 0") && pg_text_of(state, PG_M_EPOCH, "SELECT 0") &&
		       pg_text_of(state, PG_M_SLICES, "SELECT 0") &&
		       pg_text_of(state, PG_X_OBJECTS, "SELECT 0 WHERE false") &&
		       pg_text_of(state, PG_X_EPOCHS, "SELECT 0 WHERE false");
	for (int i = 0; ok && i < 3; i++) {
		out = open_memstream(&text, &bytes);
		if (out == NULL)
			return false;
		say_rows(out, i == 0 ? BACKEND_ROW_OBJECT : i == 1 ? BACKEND_ROW_EPOCH : BACKEND_ROW_SEGMENT);
		if (i == 0)
			(void)fputs(
				", put AS (INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at, "
				"unreferenced_at) SELECT tenant, bucket, key, bytes, made, nullif(since, 0) FROM v "
				"ON CONFLICT DO NOTHING RETURNING tenant, s3_bucket, s3_key) "
				"SELECT v.i, u.tenant IS NOT NULL, true, EXISTS(SELECT 1 FROM shmeta_objects e WHERE "
				"e.tenant = v.tenant AND e.s3_bucket = v.bucket AND e.s3_key = v.key AND e.size_bytes = v.bytes "
				"AND e.created_at = v.made) FROM v LEFT JOIN put u ON u.tenant = v.tenant AND "
				"u.s3_bucket = v.bucket AND u.s3_key = v.key ORDER BY v.i",
				out);
		else if (i == 1)
			(void)fprintf(
				out,
				", put AS (INSERT INTO shmeta_lease_epochs AS o (tenant, topic, partition_id, epoch) "
				"SELECT %s, topic, pid, max(epoch) FROM v GROUP BY 1, topic, pid "
				"ON CONFLICT (tenant, topic, partition_id) DO UPDATE SET epoch = EXCLUDED.epoch "
				"WHERE o.epoch < EXCLUDED.epoch RETURNING tenant, topic, partition_id) "
				"SELECT v.i, u.tenant IS NOT NULL, true, true FROM v LEFT JOIN put u ON %s"
				"u.topic = v.topic AND u.partition_id = v.pid ORDER BY v.i",
				owner, l ? "u.tenant = v.tenant AND " : "");
		else
			(void)fputs(
				", put AS (INSERT INTO shmeta_slices(tenant, topic, partition_id, base_offset, object_id, position) "
				"SELECT v.tenant, v.topic, v.pid, v.base, b.object_id, v.place FROM v JOIN shmeta_objects b ON "
				"b.tenant = v.tenant AND b.s3_bucket = v.bucket AND b.s3_key = v.key WHERE EXISTS("
				"SELECT 1 FROM segments s WHERE s.id = v.id AND s.topic = v.topic AND s.partition_id = v.pid AND "
				"s.base_offset = v.base) ON CONFLICT DO NOTHING RETURNING object_id) UPDATE shmeta_objects b SET "
				"unreferenced_at = NULL WHERE b.unreferenced_at IS NOT NULL AND b.object_id IN (SELECT object_id "
				"FROM put)",
				out);
		ok = fclose(out) == 0 && pg_text_of(state,
		                                    i == 0   ? PG_M_OBJECT
		                                    : i == 1 ? PG_M_EPOCH
		                                             : PG_M_SLICES,
		                                    "%s", text);
		free(text);
		text = NULL;
	}
	return ok &&
	       pg_text_of(state, PG_X_OBJECTS,
	                  "SELECT tenant, s3_bucket, s3_key, size_bytes, created_at, coalesce(unreferenced_at, 0) "
	                  "FROM shmeta_objects ORDER BY tenant, s3_bucket, s3_key") &&
	       pg_text_of(
		       state, PG_X_EPOCHS,
		       "SELECT %s, e.topic, e.partition_id, e.epoch FROM shmeta_lease_epochs e%s WHERE e.epoch > 0 ORDER BY 1, 2, 3",
		       named ? "coalesce(t.organization_id::text, e.tenant)" : "e.tenant",
		       named ? " LEFT JOIN topics t ON t.name = e.topic" : "");
}

/* The row's own: ALIAS.organization_id = v.tenant, with AND in front. */
static const char *of_tenant(const struct pg_state *state, bool there, char alias, char out[64])
{
	(void)snprintf(out, 64, " AND %c.organization_id = v.tenant%s", alias,
	               state->shape.tenant_uuid ? "::uuid" : "");
	if (!there)
		out[0] = '\0';
	return out;
}

bool pg_move_texts(struct pg_state *state)
{
	const struct pg_shape *shape = &state->shape;
	const char *uuid = shape->tenant_uuid ? "::uuid" : "", *json = shape->config_json ? "::jsonb" : "";
	const char *org = shape->organization ? "organization_id, " : "";
	bool o = shape->organization;
	char of_e[64], of_u[64], of_t[64], of_p[64], of_g[64], of_le[64], of_lu[64], value[64], about[96], agent[160];
	char values[400], guard[1200], found[200], parent[700], same[900];
	const char *objects = shape->own ? " OR EXISTS(SELECT 1 FROM shmeta_objects b WHERE b.tenant = v.tenant AND "
	                                   "b.s3_bucket = v.bucket AND b.s3_key = v.key)"
	                                 : "";
	bool ok;

	(void)of_tenant(state, o, 'e', of_e);
	(void)of_tenant(state, o, 'u', of_u);
	(void)of_tenant(state, o, 't', of_t);
	(void)of_tenant(state, o, 'p', of_p);
	(void)of_tenant(state, o, 'g', of_g);
	(void)of_tenant(state, shape->leases_organization, 'e', of_le);
	(void)of_tenant(state, shape->leases_organization, 'u', of_lu);
	value[0] = agent[0] = '\0';
	if (o)
		(void)snprintf(value, sizeof value, "tenant%s, ", uuid);
	/* One that belongs to nobody is shown under the default tenant; back it goes to nobody. */
	if (shape->agents_organization)
		(void)snprintf(agent, sizeof agent, "nullif(tenant, '" SHMETA_DEFAULT_TENANT "')%s, ", uuid);
	(void)snprintf(about, sizeof about, "about%s", json);

	(void)snprintf(values, sizeof values, "name, parts, keep, made, moved, config%s%s", json,
	               shape->cleanup_policy ? ", policy" : "");
	(void)snprintf(found, sizeof found, "u.name = v.name%s", of_u);
	(void)snprintf(
		same, sizeof same,
		"e.name = v.name%s AND e.partition_count = v.parts AND e.retention_ms IS NOT DISTINCT FROM v.keep AND "
		"e.created_at = v.made AND e.updated_at = v.moved AND e.config = v.config%s%s",
		of_e, json, shape->cleanup_policy ? " AND e.cleanup_policy = v.policy" : "");
	ok = say_kind(state, BACKEND_ROW_TOPIC, org, value, "topics",
	              shape->cleanup_policy
	                      ? "name, partition_count, retention_ms, created_at, updated_at, config, cleanup_policy"
	                      : "name, partition_count, retention_ms, created_at, updated_at, config",
	              values, "true", "name", found, "true", same);

	(void)snprintf(guard, sizeof guard, "EXISTS(SELECT 1 FROM topics t WHERE t.name = v.topic%s)", of_t);
	(void)snprintf(found, sizeof found, "u.topic = v.topic AND u.partition_id = v.pid%s", of_u);
	(void)snprintf(same, sizeof same,
	               "e.topic = v.topic AND e.partition_id = v.pid%s AND e.high_watermark = v.mark AND "
	               "e.created_at = v.made AND e.updated_at = v.moved",
	               of_e);
	ok = ok && say_kind(state, BACKEND_ROW_PARTITION, org, value, "partitions",
	                    "topic, partition_id, high_watermark, created_at, updated_at",
	                    "topic, pid, mark, made, moved", guard, "topic, partition_id", found, guard, same);

	(void)snprintf(parent, sizeof parent,
	               "(EXISTS(SELECT 1 FROM partitions p WHERE p.topic = v.topic AND p.partition_id = v.pid%s) AND "
	               "(v.place = 0%s))",
	               of_p, objects);
	(void)snprintf(
		guard, sizeof guard,
		"%s AND NOT EXISTS(SELECT 1 FROM segments e WHERE e.topic = v.topic AND e.partition_id = v.pid AND "
		"e.base_offset = v.base%s)",
		parent, of_e);
	(void)snprintf(same, sizeof same,
	               "e.topic = v.topic AND e.partition_id = v.pid AND e.base_offset = v.base%s AND e.id = v.id AND "
	               "e.end_offset = v.last AND e.record_count = v.records AND e.size_bytes = v.bytes AND "
	               "e.s3_bucket = v.bucket AND e.s3_key = v.key AND e.created_at = v.made%s",
	               of_e, shape->timestamps ? " AND e.min_timestamp = v.low AND e.max_timestamp = v.high" : "");
	ok = ok &&
	     say_kind(state, BACKEND_ROW_SEGMENT, org, value, "segments",
	              shape->timestamps ? "topic, partition_id, base_offset, end_offset, record_count, size_bytes, id, "
	                                  "s3_bucket, s3_key, created_at, min_timestamp, max_timestamp"
	                                : "topic, partition_id, base_offset, end_offset, record_count, size_bytes, id, "
	                                  "s3_bucket, s3_key, created_at",
	              shape->timestamps ? "topic, pid, base, last, records, bytes, id, bucket, key, made, low, high"
	                                : "topic, pid, base, last, records, bytes, id, bucket, key, made",
	              guard, "id", "u.id = v.id", parent, same);

	(void)snprintf(values, sizeof values, "agent, address, zone, grp, beat, started, %s", about);
	(void)snprintf(
		same, sizeof same,
		"e.agent_id = v.agent%s AND e.address = v.address AND e.availability_zone = v.zone AND "
		"e.agent_group = v.grp AND e.last_heartbeat = v.beat AND e.started_at = v.started AND e.metadata = v.%s",
		shape->agents_organization ? " AND coalesce(e.organization_id::text, '" SHMETA_DEFAULT_TENANT
					     "') = v.tenant"
					   : "",
		about);
	ok = ok &&
	     say_kind(state, BACKEND_ROW_AGENT, shape->agents_organization ? "organization_id, " : "", agent, "agents",
	              "agent_id, address, availability_zone, agent_group, last_heartbeat, started_at, metadata", values,
	              "true", "agent_id", "u.agent_id = v.agent", "true", same);

	(void)snprintf(found, sizeof found, "u.group_id = v.grp%s", of_u);
	(void)snprintf(same, sizeof same, "e.group_id = v.grp%s AND e.created_at = v.made AND e.updated_at = v.moved",
	               of_e);
	ok = ok && say_kind(state, BACKEND_ROW_GROUP, org, value, "consumer_groups", "group_id, created_at, updated_at",
	                    "grp, made, moved", "true", "group_id", found, "true", same);

	(void)snprintf(guard, sizeof guard,
	               "(EXISTS(SELECT 1 FROM partitions p WHERE p.topic = v.topic AND p.partition_id = v.pid%s) AND "
	               "EXISTS(SELECT 1 FROM consumer_groups g WHERE g.group_id = v.grp%s))",
	               of_p, of_g);
	(void)snprintf(found, sizeof found, "u.group_id = v.grp AND u.topic = v.topic AND u.partition_id = v.pid%s",
	               of_u);
	(void)snprintf(
		same, sizeof same,
		"e.group_id = v.grp AND e.topic = v.topic AND e.partition_id = v.pid%s AND e.committed_offset = v.value "
		"AND e.metadata IS NOT DISTINCT FROM v.about AND e.committed_at = v.at",
		of_e);
	ok = ok &&
	     say_kind(state, BACKEND_ROW_OFFSET, org, value, "consumer_offsets",
	              "group_id, topic, partition_id, committed_offset, metadata, committed_at",
	              "grp, topic, pid, value, about, at", guard, "group_id, topic, partition_id", found, guard, same);

	(void)snprintf(parent, sizeof parent,
	               "(EXISTS(SELECT 1 FROM partitions p WHERE p.topic = v.topic AND p.partition_id = v.pid%s) AND "
	               "EXISTS(SELECT 1 FROM agents a WHERE a.agent_id = v.agent))",
	               of_p);
	/* What was given here since is not taken back. */
	(void)snprintf(guard, sizeof guard, "%s%s%s%s", parent,
	               shape->own ? " AND NOT EXISTS(SELECT 1 FROM shmeta_lease_epochs f WHERE f.tenant = " : "",
	               !shape->own                  ? ""
	               : shape->leases_organization ? "v.tenant"
	                                            : "'" SHMETA_DEFAULT_TENANT "'",
	               shape->own ? " AND f.topic = v.topic AND f.partition_id = v.pid AND f.epoch > v.epoch)" : "");
	(void)snprintf(found, sizeof found, "u.topic = v.topic AND u.partition_id = v.pid%s", of_lu);
	(void)snprintf(same, sizeof same,
	               "e.topic = v.topic AND e.partition_id = v.pid%s AND e.leader_agent_id = v.agent AND "
	               "e.lease_expires_at = v.ends AND e.acquired_at = v.since AND e.epoch = v.epoch",
	               of_le);
	value[0] = '\0';
	if (shape->leases_organization)
		(void)snprintf(value, sizeof value, "tenant%s, ", uuid);
	ok = ok &&
	     say_kind(state, BACKEND_ROW_LEASE, shape->leases_organization ? "organization_id, " : "", value,
	              "partition_leases", "topic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch",
	              "topic, pid, agent, ends, since, epoch", guard, "topic, partition_id", found, parent, same);
	return ok && say_own(state);
}

/* ---- rows ---- */

#define TEXT(value) pg_array_text(a++, (value))
#define NUMBER(value) pg_array_int(a++, (int64_t)(value))

/* In the order of columns[]. kind: how it is to be filled; a lease can be an epoch, too. */
static void fill_row(struct pg_array *a, const struct backend_row *row, enum backend_row_kind kind)
{
	TEXT(row->tenant);
	switch (kind) {
	case BACKEND_ROW_OBJECT:
		TEXT(row->u.object.s3_bucket);
		TEXT(row->u.object.s3_key);
		NUMBER(row->u.object.size_bytes);
		NUMBER(row->u.object.created_at_ms);
		NUMBER(row->since_ms);
		break;
	case BACKEND_ROW_TOPIC:
		TEXT(row->u.topic.name);
		NUMBER(row->u.topic.partition_count);
		if (row->u.topic.has_retention)
			pg_array_int(a, row->u.topic.retention_ms);
		else
			pg_array_null(a);
		a++;
		NUMBER(row->u.topic.created_at_ms);
		NUMBER(row->u.topic.updated_at_ms);
		pg_array_map(a++, &row->u.topic.config);
		TEXT(row->u.topic.cleanup_policy.bytes > 0 ? row->u.topic.cleanup_policy : rows_str("delete"));
		break;
	case BACKEND_ROW_PARTITION:
		TEXT(row->topic);
		NUMBER(row->u.partition.partition_id);
		NUMBER(row->u.partition.high_watermark);
		NUMBER(row->u.partition.created_at_ms);
		NUMBER(row->u.partition.updated_at_ms);
		break;
	case BACKEND_ROW_SEGMENT:
		TEXT(row->topic);
		NUMBER(row->u.segment.partition_id);
		NUMBER(row->u.segment.base_offset);
		NUMBER(row->u.segment.end_offset);
		NUMBER(row->u.segment.record_count);
		NUMBER(row->u.segment.size_bytes);
		TEXT(row->u.segment.id);
		TEXT(row->u.segment.s3_bucket);
		TEXT(row->u.segment.s3_key);
		NUMBER(row->u.segment.position);
		NUMBER(row->u.segment.created_at_ms);
		NUMBER(row->u.segment.min_timestamp_ms);
		NUMBER(row->u.segment.max_timestamp_ms);
		break;
	case BACKEND_ROW_AGENT:
		TEXT(row->u.agent.agent_id);
		TEXT(row->u.agent.address);
		TEXT(row->u.agent.availability_zone);
		TEXT(row->u.agent.agent_group);
		NUMBER(row->u.agent.last_heartbeat_ms);
		NUMBER(row->u.agent.started_at_ms);
		pg_array_map(a, &row->u.agent.metadata);
		break;
	case BACKEND_ROW_GROUP:
		TEXT(row->u.group.group_id);
		NUMBER(row->u.group.created_at_ms);
		NUMBER(row->u.group.updated_at_ms);
		break;
	case BACKEND_ROW_OFFSET:
		TEXT(row->u.offset.group_id);
		TEXT(row->topic);
		NUMBER(row->u.offset.partition_id);
		NUMBER(row->u.offset.committed_offset);
		if (row->u.offset.has_metadata)
			pg_array_text(a, row->u.offset.metadata);
		else
			pg_array_null(a);
		a++;
		NUMBER(row->u.offset.committed_at_ms);
		break;
	case BACKEND_ROW_LEASE:
		TEXT(row->topic);
		NUMBER(row->u.lease.partition_id);
		TEXT(row->u.lease.leader_agent_id);
		NUMBER(row->u.lease.lease_expires_at_ms);
		NUMBER(row->u.lease.acquired_at_ms);
		NUMBER(row->u.lease.epoch);
		break;
	case BACKEND_ROW_EPOCH:
		TEXT(row->topic);
		NUMBER(row->kind == BACKEND_ROW_LEASE ? row->u.lease.partition_id : row->partition_id);
		NUMBER(row->kind == BACKEND_ROW_LEASE ? row->u.lease.epoch : row->epoch);
		break;
	case BACKEND_ROW_KINDS:
		break;
	}
}

/* What the database's shape cannot hold. true: refused. */
static bool refused(const struct pg_state *state, const struct backend_row *row, struct shmeta_result *r)
{
	const struct refuse_room room = {.tenant = pg_tenant_possible(state, row->tenant),
	                                 .cleanup_policy = state->shape.cleanup_policy,
	                                 .timestamps = state->shape.timestamps,
	                                 .own = state->shape.own};

	return refuse_row(row, &room, r);
}

/* ---- statements ---- */

static enum shmeta_status send_rows(struct moving *m, enum pg_statement which, enum backend_row_kind kind, size_t from,
                                    size_t count, PGresult **ret, struct backend_error *err)
{
	const char *types = columns[kind].types;
	struct pg_params params;
	enum shmeta_status status;

	pg_array_start(&m->arrays[0], PG_ELEMENT_INT8);
	pg_array_start(&m->arrays[1], PG_ELEMENT_TEXT);
	for (size_t i = 0; types[i] != '\0'; i++)
		pg_array_start(&m->arrays[i + 2], types[i] == 't' ? PG_ELEMENT_TEXT : PG_ELEMENT_INT8);
	for (size_t i = from; i < from + count; i++) {
		pg_array_int(&m->arrays[0], (int64_t)i);
		fill_row(&m->arrays[1], m->row[i], kind);
	}
	pg_params_clear(&params);
	for (size_t i = 0; i < strlen(types) + 2; i++)
		pg_param_array(&params, &m->arrays[i]);
	status = pg_query(m->state, &m->state->primary, which, &params, ret, err);
	if (status != SHMETA_OK)
		m->row_failed = pg_write_failed_for_rows(&m->state->primary);
	return status;
}

static void take_answers(struct moving *m, const PGresult *result)
{
	for (int n = 0; n < PQntuples(result); n++) {
		size_t i = (size_t)pg_int(result, n, 0);
		bool parent = pg_int(result, n, 2) != 0, same = pg_int(result, n, 3) != 0;
		struct shmeta_result *r;

		if (pg_int(result, n, 1) != 0 || i >= m->count)
			continue;
		r = m->result[i];
		if (!parent)
			refuse(r, SHMETA_ERR_NOT_FOUND, "what it hangs on is not there");
		else if (same)
			r->status = SHMETA_ERR_ALREADY_EXISTS;
		else
			refuse(r, SHMETA_ERR_CONFLICT, "it is there already, with other content%s",
			       m->row[i]->kind == BACKEND_ROW_LEASE ? ", or a later epoch was given here" : "");
	}
}

/* Rows [from, from + count), all of one kind. */
static enum shmeta_status run(struct moving *m, size_t from, size_t count, struct backend_error *err)
{
	const enum backend_row_kind kind = m->row[from]->kind;
	PGresult *result = NULL;
	enum shmeta_status status = send_rows(m, statements[kind], kind, from, count, &result, err);

	if (status == SHMETA_OK)
		take_answers(m, result);
	PQclear(result);
	result = NULL;
	if (status == SHMETA_OK && kind == BACKEND_ROW_SEGMENT && m->state->shape.own)
		status = send_rows(m, PG_M_SLICES, kind, from, count, &result, err);
	else if (status == SHMETA_OK && kind == BACKEND_ROW_LEASE && m->state->shape.own)
		/* Whoever holds it here: what the lease had there was given once and may not be
		 * given again. */
		status = send_rows(m, PG_M_EPOCH, BACKEND_ROW_EPOCH, from, count, &result, err);
	PQclear(result);
	return status;
}

static void refuse_value(struct shmeta_result *r, bool for_now, const char *sqlstate, const char *said)
{
	if (for_now)
		refuse(r, SHMETA_ERR_BUSY, "another session was in its way: %s (%s): try again later", said, sqlstate);
	else if (strcmp(sqlstate, "23503") == 0)
		refuse(r, SHMETA_ERR_NOT_TENANT, "its organization is not there");
	else if (pg_write_cannot(sqlstate))
		refuse(r, SHMETA_ERR_SOURCE, "the source cannot do it: %s (%s)", said, sqlstate);
	else
		refuse(r, SHMETA_ERR_INVALID_ARGUMENT, "the source refuses it: %s (%s)", said, sqlstate);
}

static enum shmeta_status simple(struct moving *m, enum pg_statement which, struct backend_error *err)
{
	return pg_query(m->state, &m->state->primary, which, NULL, NULL, err);
}

static enum shmeta_status run_apart(struct moving *m, size_t from, size_t count, struct backend_error *err)
{
	enum shmeta_status status = simple(m, PG_W_SAVE, err);
	char sqlstate[6], said[sizeof m->state->primary.said];
	const bool attached = m->state->attached;
	bool for_now;

	if (status != SHMETA_OK)
		return status;
	m->row_failed = false;
	status = run(m, from, count, err);
	if (status == SHMETA_OK)
		return simple(m, PG_W_RELEASE, err);
	if (!m->row_failed)
		return status;
	m->row_failed = false;
	(void)snprintf(sqlstate, sizeof sqlstate, "%s", m->state->primary.sqlstate);
	(void)snprintf(said, sizeof said, "%s", m->state->primary.said);
	/* Whatever a trigger misses, the tables that we know were there when the batch began. */
	m->state->attached = attached;
	for_now = pg_write_failed_for_now(&m->state->primary);
	/* Where a conflict ends the whole transaction, it is begun anew. */
	if (pg_failed_with(&m->state->primary, "40") && !m->state->dialect->snapshots)
		return status;
	pg_drop_results(m->state, &m->state->primary);
	status = simple(m, PG_W_UNDO, err);
	if (status == SHMETA_OK)
		status = simple(m, PG_W_RELEASE, err);
	for (size_t i = from; i < from + count; i++)
		memset(m->result[i], 0, sizeof *m->result[i]);
	if (status != SHMETA_OK)
		return status;
	if (count == 1) {
		refuse_value(m->result[from], for_now, sqlstate, said);
		return SHMETA_OK;
	}
	status = run_apart(m, from, count / 2, err);
	return status == SHMETA_OK ? run_apart(m, from + count / 2, count - count / 2, err) : status;
}

/* What is checked at the end of the transaction is checked with each statement, and each of these,
 * of which there may be many, waits for a lock no longer than a part of what a write may. */
static enum shmeta_status begin_apart(struct moving *m, struct backend_error *err)
{
	const uint32_t timeout = pg_timeout_of(m->state);
	char lock_ms[16], run_ms[16];
	struct pg_params params;
	enum shmeta_status status = simple(m, PG_W_IMMEDIATE, err);

	(void)snprintf(lock_ms, sizeof lock_ms, "%u", pg_lock_wait_of(m->state) / 8 + 1);
	(void)snprintf(run_ms, sizeof run_ms, "%u", timeout - timeout / 10);
	pg_params_clear(&params);
	pg_param_text(&params, rows_str(lock_ms));
	pg_param_text(&params, rows_str(run_ms));
	return status == SHMETA_OK ? pg_query(m->state, &m->state->primary, PG_W_PATIENCE, &params, NULL, err) : status;
}

static enum shmeta_status body(void *arg, struct backend_error *err)
{
	struct moving *m = arg;
	enum shmeta_status status = SHMETA_OK;
	size_t at = 0;

	m->row_failed = false;
	for (size_t i = 0; i < m->count; i++)
		memset(m->result[i], 0, sizeof *m->result[i]);
	if (m->apart && m->state->dialect->triggers)
		status = begin_apart(m, err);
	while (status == SHMETA_OK && at < m->count) {
		size_t n = 1;

		while (at + n < m->count && n < MOST && m->row[at + n]->kind == m->row[at]->kind)
			n++;
		status = m->apart ? run_apart(m, at, n, err) : run(m, at, n, err);
		at += n;
	}
	return status;
}

/* ---- the two calls ---- */

enum shmeta_status pg_restore(void *data, const struct backend_row *rows, size_t count, struct shmeta_result *results,
                              struct backend_error *err)
{
	struct pg_state *state = data;
	struct moving m = {.state = state};
	enum shmeta_status status;

	state->doing = "putting rows into";
	status = pg_ensure(state, err);
	if (status != SHMETA_OK)
		return status;
	if (state->read_only)
		return backend_fail(err, SHMETA_ERR_READ_ONLY, "%s: this process may not write to the database",
		                    state->dialect->engine);
	m.row = calloc(count + 1, sizeof(const struct backend_row *));
	m.result = calloc(count + 1, sizeof(struct shmeta_result *));
	if (m.row == NULL || m.result == NULL)
		status = backend_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", state->dialect->engine);
	/* By kind, each in the order given: so parents are there before their children. */
	for (int kind = 0; status == SHMETA_OK && kind < BACKEND_ROW_KINDS; kind++)
		for (size_t i = 0; i < count; i++) {
			if (rows[i].kind != (enum backend_row_kind)kind)
				continue;
			memset(&results[i], 0, sizeof results[i]);
			if (refused(state, &rows[i], &results[i]))
				continue;
			m.row[m.count] = &rows[i];
			m.result[m.count++] = &results[i];
		}
	if (status == SHMETA_OK && m.count > 0) {
		status = pg_transaction(state, &state->primary, PG_BEGIN_WRITE, body, &m, err);
		/* What is deferred fails in the COMMIT. */
		if (status != SHMETA_OK && status != SHMETA_ERR_OUTCOME_UNKNOWN &&
		    (m.row_failed || pg_write_failed_for_rows(&state->primary))) {
			m.apart = true;
			status = pg_transaction(state, &state->primary, PG_BEGIN_WRITE, body, &m, err);
		}
		if (status == SHMETA_OK || status == SHMETA_ERR_OUTCOME_UNKNOWN)
			pg_wrote(state);
		pg_follower_passed(state);
	}
	for (size_t i = 0; i < PG_PARAMS_MAX; i++)
		pg_array_free(&m.arrays[i]);
	free(m.row);
	free(m.result);
	return status;
}

enum shmeta_status pg_extras(void *data, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                             struct backend_error *err)
{
	struct pg_state *state = data;
	PGresult *result = NULL;
	enum shmeta_status status;

	state->doing = "reading for a move from";
	status = pg_ensure(state, err);
	if (status != SHMETA_OK || !state->shape.own || (kind != BACKEND_ROW_OBJECT && kind != BACKEND_ROW_EPOCH))
		return status;
	status = pg_query(state, &state->primary, kind == BACKEND_ROW_OBJECT ? PG_X_OBJECTS : PG_X_EPOCHS, NULL,
	                  &result, err);
	for (int n = 0; status == SHMETA_OK && n < PQntuples(result); n++) {
		struct backend_row row = {.kind = kind, .tenant = pg_text(result, n, 0)};

		if (kind == BACKEND_ROW_OBJECT) {
			row.u.object = (struct shmeta_object){.s3_bucket = pg_text(result, n, 1),
			                                      .s3_key = pg_text(result, n, 2),
			                                      .size_bytes = (uint64_t)pg_int(result, n, 3),
			                                      .created_at_ms = pg_int(result, n, 4)};
			row.since_ms = pg_int(result, n, 5);
		} else {
			row.topic = pg_text(result, n, 1);
			row.partition_id = (uint32_t)pg_int(result, n, 2);
			row.epoch = (uint64_t)pg_int(result, n, 3);
		}
		state->counters.rows++;
		status = emit(arg, &row);
	}
	PQclear(result);
	return status;
}
