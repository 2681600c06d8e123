/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: which tables and columns a database has, of which types, and how its rows are
 * found. */
#include "backends/postgres/pg_shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_state.h"
#include "backends/postgres/pg_values.h"
#include "backends/sql/tables.h"

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool is_one_of(const char *column, const char *const *names)
{
	for (; *names != NULL; names++)
		if (is(column, *names))
			return true;
	return false;
}

/* Is the column of a type that what it holds can be read from, whatever that is? What is compared
 * with our texts and ordered by its bytes has to be a text; all other texts, and JSON, may be
 * anything that has a spelling. *ret_what: what it has to be. */
static bool fits(const char *column, const char *type, char category, bool *ret_inexact, const char **ret_what)
{
	static const char *const texts[] = {"name", "topic", "id", "group_id", "agent_id", "leader_agent_id", NULL},
				 *const any[] = {"config",      "metadata",       "address",
	                                         "s3_bucket",   "s3_key",         "availability_zone",
	                                         "agent_group", "cleanup_policy", NULL},
				 *const exact[] = {"bigint", "integer", "smallint", NULL},
				 *const inexact[] = {"numeric", "real", "double precision", NULL};

	*ret_inexact = false;
	if (is_one_of(column, any))
		return true;
	if (is(column, "organization_id")) {
		*ret_what = "a uuid or a text";
		return category == 'S' || is(type, "uuid");
	}
	if (is_one_of(column, texts)) {
		*ret_what = "a text";
		return category == 'S';
	}
	*ret_what = "an integer";
	*ret_inexact = is_one_of(type, inexact);
	return *ret_inexact || is_one_of(type, exact);
}

/* What is found of one column. */
static void see_column(struct pg_shape *shape, enum table_index at, const char *column, const char *type, char category,
                       bool readable, struct pg_obstacles *ret)
{
	int index = table_find_column(at, column, strcmp);
	bool inexact;
	const char *what = "";
	char text[160];

	if (index < 0 && !is(column, "organization_id"))
		return;
	if (!readable)
		table_list(ret->forbidden, sizeof ret->forbidden, "column", backend_tables[at].name, column);
	if (!fits(column, type, category, &inexact, &what)) {
		snprintf(text, sizeof text, "%.60s, which is %.40s and must be %s", column, type, what);
		table_list(ret->unfit, sizeof ret->unfit, "column", backend_tables[at].name, text);
	}
	if (inexact && index >= 0)
		shape->inexact[at] |= 1u << index;
	if (at == TOPICS) {
		shape->tenant_uuid |= is(column, "organization_id") && is(type, "uuid");
		shape->config_json |= is(column, "config") && is(type, "jsonb");
	}
}

void pg_set_schema(struct pg_state *state, const char *name)
{
	size_t used = 0;

	snprintf(state->schema, sizeof state->schema, "%s", name);
	for (const char *p = state->schema; *p != '\0'; p++) {
		state->schema_text[used++] = *p;
		if (*p == '\'')
			state->schema_text[used++] = *p;
	}
	state->schema_text[used] = '\0';
}

enum shmeta_status pg_look_at_tables(struct pg_state *state, struct pg_obstacles *ret, struct backend_error *err)
{
	struct table_sight sight = {.exists = {false}};
	struct pg_shape *shape = &state->shape;
	PGresult *result = NULL;
	enum shmeta_status status;
	char sql[1400];

	/* A domain is of the type that it is made of; one of one of one is as far as anybody
	 * goes. */
	snprintf(
		sql, sizeof sql,
		"SELECT c.relname, a.attname, %s, quote_ident(n.nspname), t.typcategory, c.relkind, %s "
		"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
		"JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
		"JOIN pg_catalog.pg_type t ON t.oid = a.atttypid %s"
		"WHERE c.relname IN ('topics', 'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', "
		"'partition_leases') AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.pg_table_is_visible(c.oid)",
		state->dialect->triggers
			? "format_type(coalesce(nullif(b.typbasetype, 0), nullif(t.typbasetype, 0), t.oid), NULL)"
			: "format_type(a.atttypid, NULL)",
		state->dialect->triggers ? "has_column_privilege(c.oid, a.attnum, 'SELECT')::int" : "1",
		state->dialect->triggers ? "LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype " : "");
	memset(ret, 0, sizeof *ret);
	status = pg_execute(state, &state->primary, sql, &result, err);
	if (status != SHMETA_OK)
		return status;
	memset(shape, 0, sizeof *shape);
	for (int row = 0; row < PQntuples(result); row++) {
		const char *table = pg_value(result, row, 0), *column = pg_value(result, row, 1);
		int at = table_find(table, strcmp);

		if (at < 0)
			continue;
		table_see(&sight, (enum table_index)at, column, strcmp);
		shape->kinds[at] = pg_value(result, row, 5)[0];
		if (at == TOPICS)
			pg_set_schema(state, pg_value(result, row, 3));
		see_column(shape, (enum table_index)at, column, pg_value(result, row, 2), pg_value(result, row, 4)[0],
		           pg_value(result, row, 6)[0] == '1', ret);
	}
	PQclear(result);
	table_list_missing(&sight, ret->missing, sizeof ret->missing);
	shape->organization = sight.organization[TOPICS];
	shape->agents_organization = sight.organization[AGENTS];
	shape->leases_organization = sight.organization[LEASES];
	shape->cleanup_policy = table_has(&sight, TOPICS, FLAG_CLEANUP_POLICY);
	shape->timestamps = table_has(&sight, SEGMENTS, FLAG_TIMESTAMPS);
	return SHMETA_OK;
}

/* A number that is none, as NUMERIC's NaN, or that int8 does not hold, must not fail the statement
 * that reads it: it comes as NULL, which no column of ours may be but one; of that it comes as the
 * lowest number there is. */
void pg_write_number(FILE *out, const struct pg_shape *shape, enum table_index table, const char *alias,
                     const char *column)
{
	int index = table_find_column(table, column, strcmp);

	if (index < 0 || (shape->inexact[table] & 1u << index) == 0)
		fprintf(out, "%s.%s::int8", alias, column);
	else
		fprintf(out,
		        "CASE WHEN %s.%s IS NULL THEN NULL WHEN %s.%s >= "
		        "-9223372036854775808 AND %s.%s < 9223372036854775808 "
		        "AND %s.%s = trunc(%s.%s) THEN %s.%s::int8 ELSE %s END",
		        alias, column, alias, column, alias, column, alias, column, alias, column, alias, column,
		        is(column, "retention_ms") ? "(-9223372036854775808)::int8" : "NULL");
}

/* ---- indexes ---- */

/* Columns of an index's key, in its order: of a B-tree that is whole, without a condition and
 * without an expression. */
#define KEY_COLUMNS                                                                                                 \
	"SELECT a.attname::text AS name, k.at FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, at) JOIN " \
	"pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.at <= i.indnkeyatts"
#define PLAIN_INDEX                                                                                           \
	"i.indisvalid AND i.indisready AND i.indpred IS NULL AND i.indexprs IS NULL AND EXISTS (SELECT FROM " \
	"pg_catalog.pg_class x JOIN pg_catalog.pg_am m ON m.oid = x.relam WHERE x.oid = i.indexrelid AND m.amname = 'btree')"

/* What ON CONFLICT names, where one statement gives new leases and those that are there. */
static enum shmeta_status look_for_lease_key(struct pg_state *state, struct backend_error *err)
{
	enum shmeta_status status;
	int64_t number = 0;
	char sql[800];

	snprintf(
		sql, sizeof sql,
		"SELECT count(*) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND "
		"a.attnum = ANY(i.indkey) WHERE i.indrelid = '%s.partition_leases'::regclass AND i.indisprimary AND "
		"a.attname = 'organization_id'",
		state->schema_text);
	status = pg_one_number(state, sql, &number, err);
	state->shape.tenant_in_key = number > 0;
	return status;
}

enum shmeta_status pg_look_for_place(struct pg_state *state, struct backend_error *err)
{
	int64_t number = 0;
	enum shmeta_status status;
	char sql[1400];

	/* One that is checked only at the end of a transaction is none that ON CONFLICT could
	 * name. */
	if (state->dialect->triggers)
		snprintf(sql, sizeof sql,
		         "SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = '%s.segments'::regclass AND "
		         "i.indisunique AND i.indimmediate AND " PLAIN_INDEX
		         " AND (SELECT array_agg(c.name ORDER BY c.name) "
		         "FROM (" KEY_COLUMNS ") c) = ARRAY['base_offset', 'partition_id', 'topic']",
		         state->schema_text);
	else
		snprintf(
			sql, sizeof sql,
			"SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = '%s.segments'::regclass AND "
			"i.indisunique AND i.indpred IS NULL AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM "
			"pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) = "
			"ARRAY['base_offset', 'partition_id', 'topic']",
			state->schema_text);
	status = pg_one_number(state, sql, &number, err);
	state->shape.segment_place = number > 0;
	if (status == SHMETA_OK && !state->dialect->triggers)
		return look_for_lease_key(state, err);
	if (status != SHMETA_OK)
		return status;
	snprintf(sql, sizeof sql,
	         "SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = '%s.segments'::regclass AND "
	         "(i.indisunique OR i.indisexclusion) AND NOT i.indimmediate",
	         state->schema_text);
	status = pg_one_number(state, sql, &number, err);
	state->shape.deferrable = number > 0;
	/* Then a place is looked at before it is taken, as where nothing makes it unique. */
	state->shape.segment_place = state->shape.segment_place && number == 0;
	return status;
}

enum shmeta_status pg_look_for_indexes(struct pg_state *state, struct backend_error *err)
{
	static const char there[] =
		"EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = '%s.%s'::regclass AND " PLAIN_INDEX
		" AND (SELECT "
		"replace(string_agg(c.name || ',', '' ORDER BY c.at), 'organization_id,', '') FROM (" KEY_COLUMNS
		") c) "
		"LIKE 'topic,partition_id,%%')";
	enum shmeta_status status = SHMETA_OK;
	char sql[2400];
	int64_t number = 0;
	size_t used;

	if (state->dialect->triggers) {
		used = (size_t)snprintf(sql, sizeof sql, "SELECT (");
		used += (size_t)snprintf(sql + used, sizeof sql - used, there, state->schema_text, "segments");
		used += (size_t)snprintf(sql + used, sizeof sql - used, " AND ");
		used += (size_t)snprintf(sql + used, sizeof sql - used, there, state->schema_text, "partitions");
		(void)snprintf(sql + used, sizeof sql - used, ")::int");
		status = pg_one_number(state, sql, &number, err);
	}
	state->shape.by_index = number > 0;
	return status;
}

/* A nondeterministic collation: case-insensitive ones are such. */
enum shmeta_status pg_look_for_collations(struct pg_state *state, struct backend_error *err)
{
	int64_t number = 0;
	enum shmeta_status status = SHMETA_OK;

	if (state->dialect->triggers)
		status = pg_one_number(
			state,
			"SELECT count(*) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation "
			"JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE NOT k.collisdeterministic AND NOT a.attisdropped "
			"AND c.relname IN ('topics', 'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', "
			"'partition_leases') AND c.relkind IN ('r', 'p', 'v') AND pg_catalog.pg_table_is_visible(c.oid)",
			&number, err);
	state->shape.loose_texts = number > 0;
	return status;
}

/* ---- what follows from it */

bool pg_tenant_possible(const struct pg_state *state, struct shmeta_str tenant)
{
	if (!state->shape.organization)
		return rows_compare(tenant, rows_str(SHMETA_DEFAULT_TENANT)) == 0;
	if (!state->shape.tenant_uuid)
		return true;
	/* As the server spells it, and as rows give it: other spellings of the same are another
	 * tenant's name. */
	if (tenant.bytes != 36)
		return false;
	for (size_t i = 0; i < 36; i++) {
		char c = tenant.data[i];
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
	}
	return true;
}

/* The first key of the log that a column of this table does not fit into; NULL: none. */
const char *pg_inexact_key(const struct pg_shape *shape)
{
	static const struct {
		enum table_index table;
		const char *column;
	} keys[] = {{PARTITIONS, "partition_id"},
	            {SEGMENTS, "partition_id"},
	            {SEGMENTS, "base_offset"},
	            {OFFSETS, "partition_id"},
	            {LEASES, "partition_id"}};

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if ((shape->inexact[keys[i].table] & 1u << table_find_column(keys[i].table, keys[i].column, strcmp)) !=
		    0)
			return backend_tables[keys[i].table].name;
	return NULL;
}

bool pg_log_is_possible(const struct pg_shape *shape)
{
	return strspn(shape->kinds, "r") == TABLE_COUNT && pg_inexact_key(shape) == NULL;
}
