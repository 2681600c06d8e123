/* SPDX-License-Identifier: Apache-2.0
 * Databases of PostgreSQL whose own schema stands in the way of what shmeta writes: triggers that
 * raise, that keep a row out without a word, that fail for a table of their own, constraints that
 * are looked at only by COMMIT, rules, row-level security, collations for which different names are
 * one. The rule: an operation that the source did not do, or not whole, is not answered OK and
 * leaves nothing behind, and those around it are done. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/rows.h"
#include "tests/support/hostile.h"

TestSuite(hostile_postgres, .timeout = 120);

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	(void)set;
	world_servers_start();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	world_servers_stop();
}

static struct world world;

static void begin(enum world_engine engine)
{
	if (!world_possible(engine))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, engine);
	world_open(&world);
}

static void begin_usual(void)
{
	begin(WORLD_PG_NEW);
}

static void end(void)
{
	world_free(&world);
}

/* Each operation with its row hindered: refused, with a sentence that says how, and nothing has
 * changed. */
static void expect_refused(const struct hostile_op *op, uint64_t *mark, const char *before, const char *word)
{
	struct shmeta_result result;
	char *after;

	hostile_apply(&world, op, ++*mark, &result);
	cr_expect_neq(result.status, SHMETA_OK, "%s: answered OK", op->name);
	cr_expect_neq(result.status, SHMETA_ERR_ALREADY_EXISTS, "%s: taken for done: %s", op->name, result.text);
	cr_expect_not_null(strstr(result.text, word), "%s: %s", op->name, result.text);
	after = hostile_dump(&world);
	cr_expect_str_eq(after, before, "%s: something was left behind", op->name);
	free(after);
}

/* An object that goes before a slice stays, and is none of the rows that are compared. */
static void hinder_each(const char *create, const char *drop, const char *word)
{
	uint64_t mark = 0;
	char *before;

	hostile_rows(&world);
	before = hostile_dump(&world);
	for (size_t i = 0; i < hostile_op_count; i++) {
		const struct hostile_op *op = &hostile_ops[i];

		world_sql(&world, create, op->event, op->table, op->when);
		expect_refused(op, &mark, before, word);
		world_sql(&world, drop, op->table);
	}
	free(before);
}

static void function(const char *body)
{
	world_sql(&world, "CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s END $$", body);
}

#define DROP "DROP TRIGGER hinder ON %s"
#define BEFORE "CREATE TRIGGER hinder BEFORE %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION hinder()"
#define AFTER "CREATE TRIGGER hinder AFTER %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION hinder()"

Test(hostile_postgres, a_trigger_that_raises_is_answered_with_its_words, .init = begin_usual, .fini = end)
{
	function("RAISE EXCEPTION 'on legal hold';");
	hinder_each(BEFORE, DROP, "on legal hold");
}

Test(hostile_postgres, a_trigger_that_raises_behind_the_row_takes_it_back, .init = begin_usual, .fini = end)
{
	function("RAISE EXCEPTION 'on legal hold' USING ERRCODE = 'check_violation';");
	hinder_each(AFTER, DROP, "on legal hold");
}

Test(hostile_postgres, a_trigger_that_keeps_a_row_out_without_a_word_is_noticed, .init = begin_usual, .fini = end)
{
	function("RETURN NULL;");
	hinder_each(BEFORE, DROP, "the source ");
}

/* As after a migration that took the audit table and forgot the trigger. To us the source is as it
 * was. */
Test(hostile_postgres, a_trigger_whose_own_table_is_gone_is_not_taken_for_our_tables_being_gone, .init = begin_usual,
     .fini = end)
{
	function("INSERT INTO audit VALUES(1); RETURN COALESCE(NEW, OLD);");
	hinder_each(BEFORE, DROP, "audit");
}

Test(hostile_postgres, what_only_the_commit_would_refuse_is_refused_alone, .init = begin_usual, .fini = end)
{
	function("RAISE EXCEPTION 'not at the end either';");
	hinder_each(
		"CREATE CONSTRAINT TRIGGER hinder AFTER %s ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (%s) "
		"EXECUTE FUNCTION hinder()",
		DROP, "not at the end either");
}

/* Without anything in the way each of them is done: what the other tests see is the hindrance. */
Test(hostile_postgres, without_hindrance_each_operation_is_done)
{
	for (size_t i = 0; i < hostile_op_count; i++) {
		struct shmeta_result result;
		char *before, *after;

		begin(WORLD_PG_NEW);
		hostile_rows(&world);
		before = hostile_dump(&world);
		hostile_apply(&world, &hostile_ops[i], 1, &result);
		cr_expect_eq(result.status, SHMETA_OK, "%s: %s", hostile_ops[i].name, result.text);
		after = hostile_dump(&world);
		cr_expect_str_neq(after, before, "%s: nothing was done", hostile_ops[i].name);
		free(before);
		free(after);
		end();
	}
}

/* A rule cannot be told from a trigger by who is answered; PostgreSQL refuses them to statements
 * that answer with what they wrote. */
Test(hostile_postgres, a_rule_that_does_something_else_instead_is_refused, .init = begin_usual, .fini = end)
{
	uint64_t mark = 0;
	char *before;

	hostile_rows(&world);
	before = hostile_dump(&world);
	for (size_t i = 0; i < hostile_op_count; i++) {
		const struct hostile_op *op = &hostile_ops[i];

		/* The neighbours write partitions. */
		if (strcmp(op->table, "partitions") == 0)
			continue;
		world_sql(&world, "CREATE RULE hinder AS ON %s TO %s DO INSTEAD NOTHING", op->event, op->table);
		expect_refused(op, &mark, before, "the source refuses it");
		world_sql(&world, "DROP RULE hinder ON %s", op->table);
	}
	free(before);
}

/* Values are the source's to change; what names a row is not. */
Test(hostile_postgres, a_trigger_that_writes_another_row_than_it_was_told_is_noticed, .init = begin_usual, .fini = end)
{
	static const struct hostile_op add = {
		.name = "add_segment",
		.op = {.type = SHMETA_OP_ADD_SEGMENT,
	               .name = {"t", 1},
	               .u.segment = {.base_offset = 100, .end_offset = 199, .record_count = 1, .id = {"added", 5}}}};
	struct hostile_op there = add;
	static const char *const changes[] = {"NEW.base_offset := 150", "NEW.id := 'another'", "NEW.partition_id := 1"};
	struct shmeta_result result;
	uint64_t mark = 0;
	char *before, *after;

	there.op.u.segment.base_offset = 0;
	hostile_rows(&world);
	/* From a conflict on adds look before they write. */
	hostile_apply(&world, &there, ++mark, &result);
	cr_assert_eq(result.status, SHMETA_ERR_CONFLICT);
	before = hostile_dump(&world);
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		world_sql(
			&world,
			"CREATE OR REPLACE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; RETURN NEW; END $$",
			changes[i]);
		world_sql(
			&world,
			"CREATE OR REPLACE TRIGGER hinder BEFORE INSERT ON segments FOR EACH ROW EXECUTE FUNCTION hinder()");
		hostile_apply(&world, &add, ++mark, &result);
		cr_expect_neq(result.status, SHMETA_OK, "%s", changes[i]);
		cr_expect_not_null(strstr(result.text, "the source "), "%s", result.text);
	}
	after = hostile_dump(&world);
	cr_expect_str_eq(after, before);
	free(after);
	free(before);
}

Test(hostile_postgres, a_watermark_that_a_trigger_changes_is_shown_as_the_source_has_it, .init = begin_usual,
     .fini = end)
{
	const struct backend_key key = {
		.cls = SHMETA_CLASS_PARTITION, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t")};
	struct shmeta_result result;
	struct hostile_op op = hostile_ops[3];

	cr_assert_eq(op.op.type, SHMETA_OP_UPDATE_HIGH_WATERMARK);
	hostile_rows(&world);
	function("NEW.high_watermark := greatest(OLD.high_watermark, NEW.high_watermark); RETURN NEW;");
	world_sql(&world, BEFORE, "UPDATE", "partitions", "NEW.topic = 't'");
	hostile_apply(&world, &op, 1, &result);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	op.op.offset = 3;
	hostile_apply(&world, &op, 2, &result);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	cr_assert_eq(world_fetch(&world, &key, 1), SHMETA_OK);
	cr_expect(recorder_has(&world.recorder, "watermark=500"), "%s", recorder_text(&world.recorder));
}

/* Columns of the application's that have no default, and one that the database computes by
 * itself. */
Test(hostile_postgres, columns_that_nobody_fills_are_refused_by_name, .init = begin_usual, .fini = end)
{
	uint64_t mark = 0;
	char *before;

	hostile_rows(&world);
	world_sql(&world, "ALTER TABLE segments ADD COLUMN owner TEXT NOT NULL DEFAULT 'x'; "
	                  "ALTER TABLE segments ALTER COLUMN owner DROP DEFAULT");
	before = hostile_dump(&world);
	for (size_t i = 0; i < hostile_op_count; i++)
		if (strcmp(hostile_ops[i].table, "segments") == 0 && strcmp(hostile_ops[i].event, "INSERT") == 0)
			expect_refused(&hostile_ops[i], &mark, before, "owner");
	free(before);
}

/* ---- row-level security ---- */

/* The condition of a policy: a row has no NEW and OLD. */
static const char *condition(const char *when)
{
	static char text[200];
	size_t used = 0;

	for (const char *at = when; *at != '\0'; at++) {
		if (strncmp(at, "NEW.", 4) == 0 || strncmp(at, "OLD.", 4) == 0)
			at += 4;
		text[used++] = *at;
	}
	text[used] = '\0';
	return text;
}

Test(hostile_postgres, what_a_policy_forbids_or_hides_is_refused, .init = begin_usual, .fini = end)
{
	static const char tables[] =
		"topics, partitions, segments, consumer_groups, consumer_offsets, agents, partition_leases";
	uint64_t mark = 0;
	char *before;

	hostile_rows(&world);
	world_close(&world);
	world_sql(&world,
	          "CREATE ROLE policy LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO policy; "
	          "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO policy; GRANT USAGE ON SCHEMA public TO policy");
	world_sql(
		&world,
		"DO $$ DECLARE t TEXT; c TEXT; BEGIN FOREACH t IN ARRAY string_to_array('%s', ', ') LOOP EXECUTE "
		"format('ALTER TABLE %%I ENABLE ROW LEVEL SECURITY; CREATE POLICY anything ON %%I USING (true)', t, t); END LOOP; END $$",
		tables);
	memcpy(strstr(world.uri, "user=shmeta"), "user=policy", 11);
	world.options.manage_schema = 0;
	world_open(&world);
	before = hostile_dump(&world);
	for (size_t i = 0; i < hostile_op_count; i++) {
		const struct hostile_op *op = &hostile_ops[i];

		world_sql(&world, "CREATE POLICY hinder ON %s AS RESTRICTIVE FOR %s %s (NOT (%s))", op->table,
		          op->event,
		          strcmp(op->event, "INSERT") == 0   ? "WITH CHECK"
		          : strcmp(op->event, "UPDATE") == 0 ? "USING (true) WITH CHECK"
		                                             : "USING",
		          condition(op->when));
		expect_refused(op, &mark, before, "");
		world_sql(&world, "DROP POLICY hinder ON %s", op->table);
	}
	free(before);
	world_close(&world);
	world_sql(&world, "DROP OWNED BY policy; DROP ROLE policy");
}

/* ---- collations ---- */

/* A database in which 'T' and 't' are one name. Those that differ by it are strangers to us all the
 * same. */
Test(hostile_postgres, names_that_a_collation_takes_for_equal_are_not_confused, .init = begin_usual, .fini = end)
{
	static const struct hostile_op ops[] = {
		{.name = "delete_topic", .op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"T", 1}}},
		{.name = "create_topic",
	         .op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"T", 1}, .partition_count = 1}}},
		{.name = "watermark", .op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"T", 1}, .offset = 77}},
		{.name = "delete_before",
	         .op = {.type = SHMETA_OP_ADD_SEGMENT,
	                .name = {"T", 1},
	                .u.segment = {.base_offset = 50, .end_offset = 59, .record_count = 1, .id = {"x", 1}}}},
		{.name = "commit_offset",
	         .op = {.type = SHMETA_OP_COMMIT_OFFSET,
	                .name = {"t", 1},
	                .u.committed = {.group_id = {"G", 1}, .committed_offset = 9}}},
		{.name = "register",
	         .op = {.type = SHMETA_OP_REGISTER_AGENT,
	                .u.agent = {.agent_id = {"A", 1},
	                            .address = {"elsewhere", 9},
	                            .availability_zone = {"z", 1},
	                            .agent_group = {"x", 1}}}},
		{.name = "release", .op = {.type = SHMETA_OP_RELEASE_LEASE, .name = {"t", 1}, .agent_id = {"A", 1}}},
		{.name = "acquire",
	         .op = {.type = SHMETA_OP_ACQUIRE_LEASE, .name = {"t", 1}, .agent_id = {"A", 1}, .duration_ms = 1000}},
	};
	struct shmeta_result result;
	uint64_t mark = 0;
	char *before;

	if (world_sql_number(&world, "SELECT count(*) FROM pg_collation WHERE collprovider = 'i'") == 0)
		cr_skip_test("this PostgreSQL was built without ICU");
	hostile_rows(&world);
	world_close(&world);
	world_sql(&world, "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)");
	world_sql(
		&world,
		"DO $$ DECLARE r RECORD; BEGIN FOR r IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE "
		"contype = 'f' LOOP EXECUTE format('ALTER TABLE %%s DROP CONSTRAINT %%I', r.t, r.conname); END LOOP; "
		"FOR r IN SELECT attrelid::regclass AS t, attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid "
		"WHERE c.relname IN ('topics', 'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', "
		"'partition_leases') AND c.relnamespace = 'public'::regnamespace AND attnum > 0 AND attname IN ('name', 'topic', "
		"'group_id', 'agent_id', 'leader_agent_id', 'id') LOOP EXECUTE format('ALTER TABLE %%s ALTER %%I TYPE TEXT "
		"COLLATE loose', r.t, r.attname); END LOOP; END $$");
	world_open(&world);
	before = hostile_dump(&world);
	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
		char *after;

		hostile_apply(&world, &ops[i], ++mark, &result);
		cr_expect_neq(result.status, SHMETA_OK, "%s: done to another name", ops[i].name);
		cr_expect_neq(result.status, SHMETA_ERR_ALREADY_EXISTS, "%s: %s", ops[i].name, result.text);
		after = hostile_dump(&world);
		cr_expect_str_eq(after, before, "%s", ops[i].name);
		free(after);
	}
	free(before);
	/* And the names as they are work. */
	for (size_t i = 0; i < hostile_op_count; i++)
		if (hostile_ops[i].op.type == SHMETA_OP_UPDATE_HIGH_WATERMARK ||
		    hostile_ops[i].op.type == SHMETA_OP_ADD_SEGMENT ||
		    hostile_ops[i].op.type == SHMETA_OP_COMMIT_OFFSET) {
			hostile_apply(&world, &hostile_ops[i], ++mark, &result);
			cr_expect_eq(result.status, SHMETA_OK, "%s: %s", hostile_ops[i].name, result.text);
		}
}

/* ---- orphans ---- */

/* Rows that a deletion without cascades left behind make no name unusable. */
Test(hostile_postgres, a_topic_can_be_made_where_another_left_its_partitions, .init = begin_usual, .fini = end)
{
	const struct hostile_op create = {
		.name = "create_topic",
		.op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = rows_str("t"), .partition_count = 1}}};
	struct shmeta_result result;

	hostile_rows(&world);
	world_sql(&world,
	          "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM topics WHERE name = 't'; COMMIT");
	hostile_apply(&world, &create, 1, &result);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM partitions WHERE topic = 't'"), 1);
	cr_expect_eq(world_sql_number(&world, "SELECT high_watermark FROM partitions WHERE topic = 't'"), 0);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments WHERE topic = 't'"), 0);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM consumer_offsets WHERE topic = 't'"), 0);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM partition_leases WHERE topic = 't'"), 0);
}

/* What the parent's row takes along goes when the statement has ended. */
Test(hostile_postgres, a_cascade_that_a_trigger_keeps_back_is_a_deletion_that_was_not_done, .init = begin_usual,
     .fini = end)
{
	static const struct {
		const char *table;
		struct shmeta_op op;
	} ways[] = {
		{"partitions", {.type = SHMETA_OP_DELETE_TOPIC, .name = {"c", 1}}},
		{"segments", {.type = SHMETA_OP_DELETE_TOPIC, .name = {"c", 1}}},
		{"consumer_offsets", {.type = SHMETA_OP_DELETE_TOPIC, .name = {"c", 1}}},
		{"partition_leases", {.type = SHMETA_OP_DELETE_TOPIC, .name = {"c", 1}}},
		{"consumer_offsets", {.type = SHMETA_OP_DELETE_GROUP, .group_id = {"c", 1}}},
		{"partition_leases", {.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = {"c", 1}}},
	};
	uint64_t mark = 0;
	char *before;

	hostile_rows(&world);
	world_topic(&world, NULL, "c", 2, -1, NULL);
	world_segment(&world, NULL, "c", 0, 0, 9);
	world_agent(&world, "c", 1, NULL);
	world_group(&world, NULL, "c");
	world_offset(&world, NULL, "c", "c", 0, 5, NULL);
	world_lease(&world, NULL, "c", 1, "c", 5);
	function("RETURN NULL;");
	before = hostile_dump(&world);
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		const struct hostile_op op = {.name = ways[i].table, .op = ways[i].op};

		world_sql(&world, "CREATE TRIGGER hinder BEFORE DELETE ON %s FOR EACH ROW EXECUTE FUNCTION hinder()",
		          ways[i].table);
		expect_refused(&op, &mark, before, "the source ");
		world_sql(&world, DROP, ways[i].table);
	}
	free(before);
	/* And without it all of them are done. */
	for (size_t i = sizeof ways / sizeof ways[0]; i-- > 3;) {
		const struct hostile_op op = {.name = ways[i].table, .op = ways[i].op};
		struct shmeta_result result;

		hostile_apply(&world, &op, ++mark, &result);
		cr_expect_eq(result.status, SHMETA_OK, "%s: %s", op.name, result.text);
	}
}

/* ---- what the source cannot do ---- */

/* Such a partition is quarantined; what an append would raise is not there. */
Test(hostile_postgres, a_watermark_that_is_no_integer_is_not_answered_as_raised)
{
	static const char *const values[] = {"'NaN'", "1e30", "250.5"};
	struct shmeta_result result;

	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, WORLD_PG_NEW);
	world_open(&world);
	world_close(&world);
	world_sql(&world, "ALTER TABLE partitions ALTER COLUMN high_watermark TYPE numeric");
	world_open(&world);
	hostile_rows(&world);
	for (size_t v = 0; v < sizeof values / sizeof *values; v++)
		for (size_t i = 0; i < hostile_op_count; i++) {
			const struct hostile_op *op = &hostile_ops[i];

			if (strcmp(op->name, "append") != 0 && strcmp(op->name, "add_slice") != 0)
				continue;
			world_sql(&world,
			          "UPDATE partitions SET high_watermark = %s WHERE topic = 't' AND partition_id = 0",
			          values[v]);
			hostile_apply(&world, op, 100 + v * 100 + i, &result);
			cr_expect(result.status < 0, "%s, %s: %d", op->name, values[v], (int)result.status);
			cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments WHERE base_offset = 100"),
			             0);
		}
	world_sql(&world,
	          "UPDATE partitions SET high_watermark = 9223372036854775807 WHERE topic = 't' AND partition_id = 0");
	for (size_t i = 0; i < hostile_op_count; i++)
		if (strcmp(hostile_ops[i].name, "append") == 0) {
			hostile_apply(&world, &hostile_ops[i], 900, &result);
			cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
		}
	end();
}

/* A page or a file that cannot be read or written, memory, a server that a trigger asks: the
 * operation says nothing wrong, and those around it are done. */
Test(hostile_postgres, what_the_source_cannot_do_is_not_told_as_the_operations_fault, .init = begin_usual, .fini = end)
{
	static const char *const states[] = {"XX001", "XX000", "58030", "58P01", "57000",
	                                     "08001", "HV000", "28P01", "3D000", "53200"};
	struct shmeta_result result;
	char *before, *after;
	uint64_t mark = 0;

	hostile_rows(&world);
	before = hostile_dump(&world);
	for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
		world_sql(
			&world,
			"CREATE OR REPLACE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
			"'could not read block 7' USING ERRCODE = '%s'; END $$",
			states[s]);
		for (size_t i = 0; i < hostile_op_count; i++) {
			const struct hostile_op *op = &hostile_ops[i];

			/* Each operation and each state, and one operation in all of them. */
			if (i % (sizeof states / sizeof *states) != s && strcmp(op->name, "append") != 0)
				continue;
			world_sql(&world, BEFORE, op->event, op->table, op->when);
			hostile_apply(&world, op, ++mark, &result);
			cr_expect_eq(result.status, SHMETA_ERR_SOURCE, "%s, %s: %d %s", states[s], op->name,
			             (int)result.status, result.text);
			cr_expect_not_null(strstr(result.text, "could not read block 7"), "%s", result.text);
			after = hostile_dump(&world);
			cr_expect_str_eq(after, before, "%s: something was left behind", op->name);
			free(after);
			world_sql(&world, DROP, op->table);
		}
	}
	free(before);
}

/* One page of a disk that fails is not the source that is away: who needs nothing of it is
 * answered. */
Test(hostile_postgres, a_row_that_cannot_be_read_from_its_disk_keeps_no_other_from_being_read)
{
	static const char *const states[] = {"58030", "58P01", "XX000", "XX001"};
	const struct backend_key keys[] = {
		{.cls = SHMETA_CLASS_SEGMENT,
	         .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	         .topic = rows_str("t"),
	         .to = 1000},
		{.cls = SHMETA_CLASS_PARTITION, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t")}};

	if (!world_possible(WORLD_PG_V01))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, WORLD_PG_V01);
	world_topic(&world, NULL, "t", 2, -1, NULL);
	world_segment(&world, NULL, "t", 0, 0, 9);
	world_segment(&world, NULL, "t", 1, 10, 19);
	world_sql(&world, "ALTER TABLE segments RENAME TO stored");
	for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
		world_sql(
			&world,
			"CREATE OR REPLACE FUNCTION read_from_disk(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN "
			"IF n = 0 THEN RAISE EXCEPTION 'could not read block 7' USING ERRCODE = '%s'; END IF; RETURN n; END $$",
			states[i]);
		if (i == 0) {
			world_sql(
				&world,
				"CREATE VIEW segments AS SELECT id, topic, partition_id, read_from_disk(base_offset) AS "
				"base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at FROM stored");
			world_open(&world);
		}
		cr_expect_eq(world_fetch(&world, keys, 1), SHMETA_ERR_INVALID_ARGUMENT, "%s: %s", states[i],
		             world.err.text);
		cr_expect_eq(world_fetch(&world, keys + 1, 1), SHMETA_OK, "%s: %s", states[i], world.err.text);
	}
	end();
}

/* Its epoch is nobody's to keep. */
Test(hostile_postgres, an_agent_goes_although_a_lease_of_its_says_no_tenant)
{
	static const struct hostile_op op = {.name = "deregister_agent",
	                                     .op = {.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = {"a", 1}}};
	struct shmeta_result result;

	if (!world_possible(WORLD_PG_LATER))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, WORLD_PG_LATER);
	world_sql(&world, "ALTER TABLE partition_leases ALTER COLUMN organization_id DROP NOT NULL");
	world_open(&world);
	hostile_rows(&world);
	world_sql(&world, "UPDATE partition_leases SET organization_id = NULL");
	hostile_apply(&world, &op, 1, &result);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM agents WHERE agent_id = 'a'"), 0);
	end();
}

/* Nor is one that no integer of 64 bits is. */
Test(hostile_postgres, a_lease_goes_although_its_epoch_is_no_number)
{
	static const char *const values[] = {"'NaN'", "1e30"};
	static const struct hostile_op ops[] = {
		{.name = "release_lease",
	         .op = {.type = SHMETA_OP_RELEASE_LEASE, .name = {"t", 1}, .agent_id = {"a", 1}}},
		{.name = "deregister_agent", .op = {.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = {"a", 1}}},
		{.name = "delete_topic", .op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"t", 1}}}};

	if (!world_possible(WORLD_PG_V01))
		cr_skip_test("there is no PostgreSQL on this machine");
	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
		const char *value = values[i % 2];
		struct shmeta_result result;

		world_make(&world, WORLD_PG_V01);
		world_sql(&world, "ALTER TABLE partition_leases ALTER COLUMN epoch TYPE numeric");
		world_open(&world);
		hostile_rows(&world);
		world_sql(&world, "UPDATE partition_leases SET epoch = %s", value);
		hostile_apply(&world, &ops[i], 1, &result);
		cr_expect_eq(result.status, SHMETA_OK, "%s, %s: %s", ops[i].name, value, result.text);
		cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM partition_leases"), 0);
		cr_expect_eq(world_sql_number(&world, "SELECT max(epoch) FROM shmeta_lease_epochs"), 1,
		             "what it was before stays");
		end();
	}
}

/* Whoever is told that its epoch ends at 0 drops all that it has. */
Test(hostile_postgres, an_epoch_ends_nowhere_where_the_watermark_cannot_be_read)
{
	static const char *const values[] = {"'NaN'", "1e30", "250.5", "-5"};
	const struct backend_epoch ask = {
		.tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t"), .epoch = 1};
	struct backend_epoch_end found;

	if (!world_possible(WORLD_PG_V01))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, WORLD_PG_V01);
	world_sql(&world, "ALTER TABLE partitions ALTER COLUMN high_watermark TYPE numeric");
	world_open(&world);
	hostile_rows(&world);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		world_sql(&world, "UPDATE partitions SET high_watermark = %s WHERE topic = 't'", values[i]);
		cr_expect_eq(world.ops->admin->epoch_end(world.state, &ask, &found, &world.err), SHMETA_ERR_SOURCE,
		             "%s", values[i]);
	}
	world_sql(&world, "UPDATE partitions SET high_watermark = 20 WHERE topic = 't'");
	cr_expect_eq(world.ops->admin->epoch_end(world.state, &ask, &found, &world.err), SHMETA_OK, "%s",
	             world.err.text);
	cr_expect_eq(found.end_offset, 20);
	end();
}

/* ---- objects ---- */

struct listing {
	pthread_t thread;
	enum shmeta_status status;
};

static enum shmeta_status ignore_object(void *arg, const struct shmeta_object_info *info)
{
	(void)arg, (void)info;
	return SHMETA_OK;
}

static void *list_objects(void *arg)
{
	const struct backend_object_list list = {
		.tenant = rows_str(SHMETA_DEFAULT_TENANT), .all = 1, .now_ms = HOSTILE_NOW_MS, .most = 10};
	struct listing *l = arg;

	l->status = world.ops->admin->objects(world.state, &list, ignore_object, NULL, &world.err);
	return NULL;
}

/* One question that cannot be answered is not the source's being away. */
Test(hostile_postgres, a_lock_on_what_is_asked_for_is_told_of_it_alone, .init = begin_usual, .fini = end)
{
	const struct backend_epoch ask = {
		.tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t"), .epoch = 1};
	struct listing l = {.status = SHMETA_OK};
	struct backend_epoch_end found;

	hostile_rows(&world);
	world_begin(&world);
	world_sql(&world, "LOCK TABLE shmeta_leader_epochs, shmeta_objects IN ACCESS EXCLUSIVE MODE");
	cr_expect_eq(world.ops->admin->epoch_end(world.state, &ask, &found, &world.err), SHMETA_ERR_BUSY, "%s",
	             world.err.text);
	(void)list_objects(&l);
	cr_expect_eq(l.status, SHMETA_ERR_BUSY, "%s", world.err.text);
	world_commit(&world);
	cr_expect_eq(world.ops->admin->epoch_end(world.state, &ask, &found, &world.err), SHMETA_OK, "%s",
	             world.err.text);
}

/* The list waits for whoever adds the slice, and then knows of it. */
Test(hostile_postgres, the_grace_of_an_object_does_not_begin_while_a_slice_is_being_added, .init = begin_usual,
     .fini = end)
{
	struct listing l = {.status = SHMETA_ERR_SOURCE};

	hostile_rows(&world);
	world_sql(&world, "INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) "
	                  "VALUES('" SHMETA_DEFAULT_TENANT "', 'b', 'o', 100, 1)");
	world_begin(&world);
	world_sql(&world, "SELECT 1 FROM shmeta_objects FOR UPDATE");
	world_sql(&world, "INSERT INTO shmeta_slices(tenant, topic, partition_id, base_offset, object_id, position) "
	                  "SELECT tenant, 't', 0, 0, object_id, 0 FROM shmeta_objects");
	cr_assert_eq(pthread_create(&l.thread, NULL, list_objects, &l), 0);
	for (int i = 0; i < 2000 && world_sql_number(&world, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 0;
	     i++)
		(void)usleep(10000);
	world_commit(&world);
	(void)pthread_join(l.thread, NULL);
	cr_assert_eq(l.status, SHMETA_OK, "%s", world.err.text);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM shmeta_objects WHERE unreferenced_at IS NOT NULL"),
	             0);
}
