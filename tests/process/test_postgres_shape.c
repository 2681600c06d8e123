/* SPDX-License-Identifier: Apache-2.0
 * Databases that are not as shmeta would have made them: types, names, indexes, rights and settings
 * of the role. Nothing of them is taken for a source that is away, and one value costs no more than
 * its row. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/pg_world.h"

TestSuite(postgres_shape, .timeout = 120);

/* The tables of shmeta's own, without what it keeps beside them, and nobody at work. */
static void begin(struct world *w)
{
	pg_world_make(w);
	world_open(w);
	world_topic(w, NULL, "t", 2, -1, NULL);
	world_close(w);
}

static void add_segment(struct world *w, uint64_t base)
{
	struct shmeta_op op = {.type = SHMETA_OP_ADD_SEGMENT, .partition_id = 0, .name = rows_str("t")};
	char id[20];

	snprintf(id, sizeof id, "s%d", (int)base);
	op.u.segment = (struct shmeta_segment){.base_offset = base,
	                                       .end_offset = base + 9,
	                                       .record_count = 10,
	                                       .id = rows_str(id),
	                                       .s3_bucket = rows_str("b"),
	                                       .s3_key = rows_str("k")};
	pg_world_apply(w, &op);
}

static struct backend_key partition_key(uint32_t id)
{
	return (struct backend_key){.cls = SHMETA_CLASS_PARTITION,
	                            .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                            .topic = rows_str("t"),
	                            .partition_id = id};
}

/* ---- types ---- */

Test(postgres_shape, a_number_that_is_no_integer_costs_its_row_and_no_other)
{
	static const char *const values[] = {"'NaN'", "9223372036854775808", "-1e30", "1.5", "'Infinity'", "NULL"};
	static const char *const types[] = {"NUMERIC", "DOUBLE PRECISION"};
	struct backend_key keys[] = {partition_key(0), partition_key(1)};
	struct world world, *w = &world;

	begin(w);
	world_sql(w, "ALTER TABLE partitions ALTER high_watermark DROP NOT NULL");
	for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
		world_sql(w, "UPDATE partitions SET high_watermark = 3");
		world_sql(w, "ALTER TABLE partitions ALTER high_watermark TYPE %s", types[t]);
		world_open(w);
		cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
		ok(world_load(w));
		cr_expect_eq(w->recorder.partitions, 2);
		for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
			world_sql(w, "UPDATE partitions SET high_watermark = %s WHERE partition_id = 0", values[i]);
			ok(world_changes(w));
			has("changed partition 00000000-0000-0000-0000-000000000000 t/0");
			ok(world_fetch(w, keys, 2));
			cr_expect_eq(w->recorder.partitions, 1, "%s: %s", values[i], recorder_text(&w->recorder));
			cr_expect_eq(w->recorder.quarantined, 1, "%s", values[i]);
			ok(world_load(w));
			cr_expect_eq(w->recorder.partitions, 1);
			cr_expect_eq(w->recorder.quarantined, 1);
			has("high_watermark is NULL, or a number that no integer of 64 bits is");
		}
		world_sql(w, "UPDATE partitions SET high_watermark = 7");
		ok(world_fetch(w, keys, 2));
		cr_expect_eq(w->recorder.partitions, 2);
		world_close(w);
	}
	world_free(w);
}

Test(postgres_shape, every_column_of_numbers_may_hold_what_is_none)
{
	static const struct {
		const char *table, *column;
		bool key;
	} columns[] = {
		{"topics", "partition_count", false},
		{"topics", "retention_ms", false},
		{"topics", "created_at", false},
		{"topics", "updated_at", false},
		{"partitions", "partition_id", true},
		{"partitions", "high_watermark", false},
		{"partitions", "created_at", false},
		{"partitions", "updated_at", false},
		{"segments", "partition_id", true},
		{"segments", "base_offset", true},
		{"segments", "end_offset", false},
		{"segments", "record_count", false},
		{"segments", "size_bytes", false},
		{"segments", "created_at", false},
		{"segments", "min_timestamp", false},
		{"segments", "max_timestamp", false},
		{"consumer_groups", "created_at", false},
		{"consumer_groups", "updated_at", false},
		{"consumer_offsets", "partition_id", true},
		{"consumer_offsets", "committed_offset", false},
		{"consumer_offsets", "committed_at", false},
		{"agents", "last_heartbeat", false},
		{"agents", "started_at", false},
		{"partition_leases", "partition_id", true},
		{"partition_leases", "lease_expires_at", false},
		{"partition_leases", "acquired_at", false},
		{"partition_leases", "epoch", false},
	};
	struct world world, *w = &world;

	begin(w);
	world_delete_partition(w, NULL, "t", 1);
	world_segment(w, NULL, "t", 0, 0, 9);
	world_agent(w, "a", 5, NULL);
	world_group(w, NULL, "g");
	world_offset(w, NULL, "g", "t", 0, 5, "");
	world_lease(w, NULL, "t", 0, "a", 1);
	world_sql(
		w,
		"ALTER TABLE segments DROP CONSTRAINT segments_topic_partition_id_fkey, DROP CONSTRAINT segments_check; ALTER TABLE consumer_offsets DROP "
		"CONSTRAINT consumer_offsets_topic_partition_id_fkey; ALTER TABLE partition_leases DROP CONSTRAINT "
		"partition_leases_topic_partition_id_fkey");
	for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
		const char *table = columns[i].table, *column = columns[i].column;

		world_sql(w, "ALTER TABLE %s ALTER %s TYPE NUMERIC", table, column);
		/* A log that cannot hold a key must not be in its way. The session is a new one:
		 * PL/pgSQL fails in one that has run a function with a column of the former
		 * type. */
		world_open(w);
		world_close(w);
		PQreset(w->pg);
		world_sql(w, "UPDATE %s SET %s = 'NaN'", table, column);
		world_open(w);
		cr_expect_eq(world_has_feed(w), !columns[i].key, "%s.%s: %s", table, column,
		             w->ops->feed->trouble(w->state));
		ok(world_load(w));
		cr_expect_geq(w->recorder.quarantined, 1, "%s.%s: %s", table, column, recorder_text(&w->recorder));
		world_close(w);
		world_sql(w, "UPDATE %s SET %s = 1", table, column);
		world_sql(w, "ALTER TABLE %s ALTER %s TYPE BIGINT", table, column);
	}
	world_free(w);
}

Test(postgres_shape, a_type_that_cannot_be_read_as_what_it_is_is_refused_in_a_sentence)
{
	static const struct {
		const char *ddl, *says;
	} cases[] = {
		{"ALTER TABLE topics ALTER created_at TYPE TIMESTAMPTZ USING now()",
	         "topics.created_at, which is timestamp with time zone and must be an integer"},
		{"ALTER TABLE topics ALTER created_at TYPE TEXT USING '0'",
	         "topics.created_at, which is text and must be an integer"},
		{"ALTER TABLE segments ALTER id TYPE UUID USING gen_random_uuid()",
	         "segments.id, which is uuid and must be a text"},
		{"ALTER TABLE agents ALTER started_at TYPE MONEY USING 1",
	         "agents.started_at, which is money and must be an integer"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct world world, *w = &world;

		begin(w);
		world_sql(w, "%s", cases[i].ddl);
		cr_expect_eq(world_try_open(w), SHMETA_ERR_CONFIG);
		cr_expect_not_null(strstr(w->err.text, cases[i].says), "%s", w->err.text);
		world_free(w);
	}
}

Test(postgres_shape, domains_and_other_spellings_of_texts_and_integers_are_read)
{
	struct world world, *w = &world;

	begin(w);
	world_sql(
		w,
		"CREATE DOMAIN count AS BIGINT CHECK (VALUE >= 0); CREATE DOMAIN high AS count; ALTER TABLE partitions ALTER "
		"high_watermark TYPE high; ALTER TABLE segments ALTER id TYPE VARCHAR(80); ALTER TABLE agents ALTER metadata TYPE "
		"JSON USING '{}'; ALTER TABLE segments ALTER partition_id TYPE BIGINT");
	world_open(w);
	cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
	ok(world_load(w));
	cr_expect_eq(w->recorder.partitions, 2);
	add_segment(w, 0);
	/* What the column holds and the log did not: the statement must not fail for us. */
	world_sql(w, "ALTER TABLE segments DROP CONSTRAINT segments_topic_partition_id_fkey");
	world_sql(
		w,
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		"s3_key, created_at) VALUES ('far', 't', 5000000000, 0, 1, 1, 1, 'b', 'k', 0)");
	ok(world_changes(w));
	world_free(w);
}

/* In a database of that encoding; uri is the world's. */
static void begin_encoded(struct world *w, const char *encoding, char *uri, size_t bytes)
{
	pg_world_make(w);
	snprintf(uri, bytes, "postgresql:///%s_encoded?host=%s&user=shmeta", PQdb(w->pg), PQhost(w->pg));
	world_sql(w, "CREATE DATABASE %s_encoded TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C'",
	          PQdb(w->pg), encoding);
	PQfinish(w->pg);
	w->pg = PQconnectdb(uri);
	cr_assert_eq(PQsetClientEncoding(w->pg, "UTF8"), 0);
	w->options.uri = uri;
	world_open(w);
}

Test(postgres_shape, a_text_that_is_no_utf8_costs_its_row_where_the_server_knows_no_encoding)
{
	struct world world, *w = &world;
	char uri[200];

	begin_encoded(w, "SQL_ASCII", uri, sizeof uri);
	world_topic(w, NULL, "k\xc3\xa4se", 1, -1, NULL);
	world_sql(w, "INSERT INTO topics SELECT E'\\377', 1, NULL, 1, 1, '{}'");
	ok(world_load(w));
	has("k\xc3\xa4se");
	cr_expect_eq(w->recorder.topics, 1);
	cr_expect_eq(w->recorder.quarantined, 1, "%s", recorder_text(&w->recorder));
	ok(world_changes(w));
	world_free(w);
}

/* Else any reader could fill the list of keys that fail. */
Test(postgres_shape, a_name_that_the_databases_encoding_lacks_is_absent)
{
	struct backend_key keys[] = {{.cls = SHMETA_CLASS_TOPIC,
	                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                              .topic = rows_str("k\xc3\xa4se")},
	                             {.cls = SHMETA_CLASS_TOPIC,
	                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                              .topic = rows_str("\xe4\xb8\xad")},
	                             {.cls = SHMETA_CLASS_PARTITION,
	                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                              .topic = rows_str("\xe4\xb8\xad")},
	                             {.cls = SHMETA_CLASS_AGENT,
	                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                              .name = rows_str("\xe4\xb8\xad")},
	                             {.cls = SHMETA_CLASS_LEASE,
	                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                              .topic = rows_str("\xe4\xb8\xad")}};
	struct world world, *w = &world;
	char uri[200];

	begin_encoded(w, "LATIN1", uri, sizeof uri);
	world_topic(w, NULL, "k\xc3\xa4se", 1, -1, NULL);
	ok(world_load(w));
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		ok(world_fetch(w, &keys[i], 1));
		cr_expect_eq(w->recorder.topics, i == 0 ? 1 : 0, "%zu: %s", i, recorder_text(&w->recorder));
		cr_expect_eq(w->recorder.quarantined, 0, "%s", recorder_text(&w->recorder));
	}
	cr_expect_eq(world_fetch(w, keys, 2), SHMETA_ERR_INVALID_ARGUMENT, "to be asked for one by one");
	world_free(w);
}

Test(postgres_shape, a_row_that_cannot_be_read_is_not_a_source_that_is_away)
{
	struct backend_key keys[] = {
		{.cls = SHMETA_CLASS_AGENT, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .name = rows_str("good")},
		{.cls = SHMETA_CLASS_AGENT, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .name = rows_str("bad")}};
	struct world world, *w = &world;

	begin(w);
	world_agent(w, "good", 5, NULL);
	world_sql(
		w,
		"ALTER TABLE agents RENAME TO kept; CREATE VIEW agents AS SELECT agent_id, address, availability_zone, agent_group, "
		"last_heartbeat, 10 / started_at AS started_at, metadata FROM kept");
	world_open(w);
	ok(world_load(w));
	world_sql(
		w,
		"INSERT INTO kept SELECT 'bad', 'elsewhere', availability_zone, agent_group, last_heartbeat, 0, metadata FROM kept");
	cr_expect_eq(world_load(w), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_not_null(strstr(w->err.text, "division by zero (22012)"), "%s", w->err.text);
	cr_expect_not_null(strstr(w->err.text, "loading the agents of"), "which table: %s", w->err.text);
	cr_expect_eq(world_fetch(w, keys, 2), SHMETA_ERR_INVALID_ARGUMENT);
	ok(world_fetch(w, keys, 1));
	cr_expect_eq(w->recorder.agents, 1);
	/* Whatever its view has to say of it. */
	world_sql(
		w,
		"CREATE FUNCTION judge(bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN IF $1 = 0 THEN RAISE EXCEPTION ''not this "
		"one''; END IF; RETURN $1; END'; CREATE OR REPLACE VIEW agents AS SELECT agent_id, address, availability_zone, "
		"agent_group, last_heartbeat, judge(started_at) AS started_at, metadata FROM kept");
	cr_expect_eq(world_load(w), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_not_null(strstr(w->err.text, "not this one"), "%s", w->err.text);
	cr_expect_eq(world_fetch(w, keys, 2), SHMETA_ERR_INVALID_ARGUMENT);
	ok(world_fetch(w, keys, 1));
	world_free(w);
}

/* ---- names ---- */

Test(postgres_shape, a_schema_may_be_called_anything)
{
	static const char *const names[] = {"o'brien", "say \"\"hi\"\"", "Back\\slash", "100%% of it; --"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct world world, *w = &world;
		char name[100];

		pg_world_make(w);
		snprintf(name, sizeof name, "%s", names[i]);
		world_sql(w,
		          "CREATE SCHEMA \"%s\"; SET search_path = \"%s\"; ALTER DATABASE %s SET search_path = \"%s\"",
		          name, name, PQdb(w->pg), name);
		w->options.notify = 1;
		world_open(w);
		cr_expect(world_has_feed(w), "%s: %s", name, w->ops->feed->trouble(w->state));
		world_topic(w, NULL, "t", 1, -1, NULL);
		ok(world_load(w));
		add_segment(w, 0);
		ok(world_changes(w));
		cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
		world_watermark(w, NULL, "t", 0, 4);
		ok(world_changes(w));
		has("changed partition 00000000-0000-0000-0000-000000000000 t/0");
		world_close(w);
		world_open(w);
		cr_expect(world_has_feed(w), "%s: %s", name, w->ops->feed->trouble(w->state));
		world_free(w);
	}
}

/* ---- indexes ---- */

Test(postgres_shape, an_index_that_does_not_make_a_place_unique_is_not_taken_for_one)
{
	static const char *const indexes[] = {
		"CREATE UNIQUE INDEX ON segments(topic, partition_id, base_offset, lower(id))",
		"CREATE UNIQUE INDEX ON segments(topic, partition_id, base_offset) WHERE size_bytes > 0",
		"CREATE UNIQUE INDEX ON segments(topic, partition_id) INCLUDE (base_offset)",
		("CREATE UNIQUE INDEX at ON segments(topic, partition_id, base_offset); UPDATE pg_index SET indisvalid = false WHERE "
	         "indexrelid = 'at'::regclass"),
	};
	struct world world, *w = &world;

	for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
		begin(w);
		world_sql(w, "DROP INDEX idx_segments_location");
		world_sql(w, "%s", indexes[i]);
		world_open(w);
		ok(world_load(w));
		add_segment(w, 0);
		cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM segments"), 1);
		world_free(w);
	}
}

static enum shmeta_status put_segment(struct world *w, const char *id, uint64_t base, uint64_t size)
{
	struct shmeta_op op = {.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK, .name = rows_str("t")};
	struct backend_op one = {.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &op};
	struct shmeta_result result = {.status = SHMETA_OK};

	op.u.segment = (struct shmeta_segment){.base_offset = base,
	                                       .end_offset = base + 9,
	                                       .record_count = 10,
	                                       .size_bytes = size,
	                                       .id = rows_str(id),
	                                       .s3_bucket = rows_str("b"),
	                                       .s3_key = rows_str("k")};
	cr_assert_eq(w->ops->writer->apply(w->state, &one, 1, 1000, &result, &w->recorder.sink, &w->err), SHMETA_OK,
	             "%s", w->err.text);
	return result.status;
}

/* ON CONFLICT cannot be used where such a constraint is. */
Test(postgres_shape, segments_are_added_where_a_unique_constraint_is_deferrable)
{
	static const char *const ways[] = {
		"DROP INDEX idx_segments_location; ALTER TABLE segments ADD UNIQUE (topic, partition_id, base_offset) DEFERRABLE",
		("DROP INDEX idx_segments_location; ALTER TABLE segments ADD UNIQUE (topic, partition_id, base_offset) DEFERRABLE "
	         "INITIALLY DEFERRED"),
		"ALTER TABLE segments DROP CONSTRAINT segments_pkey, ADD PRIMARY KEY (id) DEFERRABLE",
		"ALTER TABLE segments DROP CONSTRAINT segments_pkey, ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED",
	};
	struct world world, *w = &world;

	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		begin(w);
		world_sql(w, "%s", ways[i]);
		world_open(w);
		cr_expect_eq(put_segment(w, "a", 0, 1), SHMETA_OK, "%s", ways[i]);
		cr_expect_eq(put_segment(w, "a", 0, 1), SHMETA_ERR_ALREADY_EXISTS, "%s", ways[i]);
		cr_expect_eq(put_segment(w, "a", 0, 2), SHMETA_ERR_CONFLICT, "%s", ways[i]);
		cr_expect_eq(put_segment(w, "b", 0, 1), SHMETA_ERR_CONFLICT, "%s", ways[i]);
		cr_expect_eq(put_segment(w, "a", 10, 1), SHMETA_ERR_CONFLICT, "%s", ways[i]);
		cr_expect_eq(put_segment(w, "b", 10, 1), SHMETA_OK, "%s", ways[i]);
		cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM segments"), 2);
		world_free(w);
	}
}

/* ---- rights ---- */

Test(postgres_shape, a_right_that_is_taken_away_is_told_until_it_is_given_back)
{
	struct world world, *w = &world;
	char uri[200];

	begin(w);
	world_sql(w, "CREATE ROLE shape_reader LOGIN");
	world_sql(w, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO shape_reader");
	snprintf(uri, sizeof uri, "postgresql:///%s?host=%s&user=shape_reader", PQdb(w->pg), PQhost(w->pg));
	w->options.uri = uri;
	world_open(w);
	ok(world_load(w));
	world_sql(w, "REVOKE SELECT ON segments FROM shape_reader");
	/* The log can still be read; but nothing works again that did not. */
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(world_changes(w), SHMETA_ERR_SOURCE);
		cr_expect_not_null(strstr(w->err.text, "may not read (GRANT SELECT): column segments.id"), "%s",
		                   w->err.text);
		cr_expect_eq(world_load(w), SHMETA_ERR_SOURCE);
	}
	world_sql(w, "GRANT SELECT ON segments TO shape_reader");
	ok(world_changes(w));
	has("changed list");
	ok(world_load(w));
	world_close(w);
	world_sql(w, "DROP OWNED BY shape_reader; DROP ROLE shape_reader");
	world_free(w);
}

/* ---- settings ---- */

Test(postgres_shape, nothing_depends_on_what_a_role_or_a_database_sets)
{
	static const char *const settings[] = {
		"statement_timeout = 150",
		"lock_timeout = 150",
		"idle_in_transaction_session_timeout = 150",
		"idle_session_timeout = 150",
		"default_transaction_isolation = 'serializable'",
		"default_transaction_deferrable = on",
		"DateStyle = 'German, DMY'",
		"IntervalStyle = 'sql_standard'",
		"TimeZone = 'Pacific/Kiritimati'",
		"client_encoding = 'LATIN1'",
		"bytea_output = 'escape'",
		"extra_float_digits = -15",
		"standard_conforming_strings = off",
		"quote_all_identifiers = on",
		"array_nulls = off",
		"transform_null_equals = on",
		"row_security = off",
		"search_path = public, pg_catalog",
		"plan_cache_mode = force_custom_plan",
		"enable_indexscan = off",
		"work_mem = 64",
		"jit_above_cost = 0",
	};
	struct world world, *w = &world;
	struct backend_key key = partition_key(0);

	pg_world_make(w);
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
		world_sql(w, "ALTER DATABASE %s SET %s", PQdb(w->pg), settings[i]);
	world_open(w);
	cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
	/* As long as an idle session would live. */
	world_sql(w, "RESET ALL; SET statement_timeout = 0");
	world_sql(w, "SELECT pg_sleep(0.3)");
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
	                                 "application_name = 'shmetad'"),
	             1);
	world_topic(w, NULL, "t", 2, 5000, (const char *const[]){"k\xc3\xa4se", "a'c", NULL});
	ok(world_load(w));
	has("k\xc3\xa4se=a'c");
	for (uint64_t i = 0; i < 5; i++) {
		add_segment(w, i * 10);
		ok(world_changes(w));
		cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
		world_watermark(w, NULL, "t", 0, i + 1);
		ok(world_changes(w));
		has("changed partition 00000000-0000-0000-0000-000000000000 t/0");
		ok(world_fetch(w, &key, 1));
	}
	world_close(w);
	/* Others, whose sessions are not set so, make the same of it. */
	for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
		world_sql(w, "ALTER DATABASE %s RESET %.*s", PQdb(w->pg), (int)strcspn(settings[i], " "), settings[i]);
	int64_t before = world_sql_number(w, "SELECT sum(oid::int8) FROM pg_trigger WHERE tgname LIKE 'shmeta_%'");

	world_open(w);
	ok(world_load(w));
	cr_expect_eq(world_sql_number(w, "SELECT sum(oid::int8) FROM pg_trigger WHERE tgname LIKE 'shmeta_%'"), before);
	world_free(w);
}
