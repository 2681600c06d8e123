/* SPDX-License-Identifier: Apache-2.0
 * What PostgreSQL's log of changes covers, and what the engine says where it does not: what no
 * trigger sees, triggers that were away, and sources that are not what they were. Each test has a
 * database of its own; those that set a server back have a server. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/rows.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/pg_world.h"

TestSuite(postgres_feed, .timeout = 120);

/* One topic with two partitions, loaded and followed. */
static void begin(struct world *w)
{
	pg_world_make(w);
	world_open(w);
	world_topic(w, NULL, "t", 2, -1, NULL);
	world_segment(w, NULL, "t", 0, 0, 9);
	pg_world_follow(w);
}

/* The next poll asks for a full pass, and from then on all is as it should be. */
static void expect_compared(struct world *w, const char *after)
{
	ok(world_changes(w));
	cr_expect(recorder_has(&w->recorder, "changed list"), "%s: %s", after, recorder_text(&w->recorder));
	cr_expect(world_has_feed(w), "%s: %s", after, w->ops->feed->trouble(w->state));
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0, "%s: %s", after, recorder_text(&w->recorder));
	world_watermark(w, NULL, "t", 1,
	                (uint64_t)world_sql_number(w, "SELECT max(high_watermark) + 1 FROM partitions"));
	ok(world_changes(w));
	cr_expect_str_eq(recorder_text(&w->recorder), "changed partition 00000000-0000-0000-0000-000000000000 t/1\n");
}

/* The next poll asks for a full pass, and there is no feed any more. */
static void expect_no_feed(struct world *w, const char *because)
{
	ok(world_changes(w));
	has("changed list");
	cr_expect_not(world_has_feed(w));
	cr_expect_not_null(strstr(w->ops->feed->trouble(w->state), because), "%s", w->ops->feed->trouble(w->state));
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
}

static void raise_watermark(struct world *w, uint64_t to)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .partition_id = 0, .name = rows_str("t"), .offset = to};

	pg_world_apply(w, &op);
}

/* ---- triggers that were away ---- */

Test(postgres_feed, a_trigger_that_was_away_between_two_polls_is_noticed_by_the_next)
{
	static const char *const ways[] = {
		"ALTER TABLE partitions DISABLE TRIGGER shmeta_partitions_update; %s; "
		"ALTER TABLE partitions ENABLE ALWAYS TRIGGER shmeta_partitions_update",
		"ALTER TABLE partitions ENABLE REPLICA TRIGGER shmeta_partitions_update; %s",
		"ALTER TABLE partitions ENABLE TRIGGER shmeta_partitions_update; SET session_replication_role = replica; %s; "
		"RESET session_replication_role",
		"DROP TRIGGER shmeta_partitions_update ON partitions; %s",
		"ALTER TABLE partitions DISABLE TRIGGER ALL; %s; ALTER TABLE partitions ENABLE TRIGGER ALL",
	};
	struct world world, *w = &world;
	char sql[600];

	begin(w);
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		char *percent;

		snprintf(sql, sizeof sql, "%s", ways[i]);
		percent = strstr(sql, "%s");
		snprintf(percent, sizeof sql - (size_t)(percent - sql), "%s%s",
		         "UPDATE partitions SET high_watermark = high_watermark + 7 WHERE partition_id = 0",
		         strstr(ways[i], "%s") + 2);
		world_sql(w, "%s", sql);
		expect_compared(w, ways[i]);
	}
	world_free(w);
}

Test(postgres_feed, a_position_goes_on_only_on_what_it_rested_on)
{
	struct world world, *w = &world;
	char position[400];
	size_t bytes = 0;

	begin(w);
	ok(w->ops->feed->position(w->state, position, sizeof position, &bytes));
	world_close(w);
	world_open(w);
	ok(w->ops->feed->resume(w->state, position, bytes, &w->err));
	/* Missing when it is opened, and made anew then; away for a moment while nobody looked;
	 * made anew by somebody else. */
	world_close(w);
	world_sql(w, "DROP TRIGGER shmeta_topics_delete ON topics; UPDATE topics SET updated_at = 7");
	world_open(w);
	cr_expect(world_has_feed(w));
	cr_expect_eq(w->ops->feed->resume(w->state, position, bytes, &w->err), SHMETA_ABSENT);
	ok(world_load(w));
	ok(w->ops->feed->position(w->state, position, sizeof position, &bytes));
	world_close(w);
	world_sql(w, "ALTER TABLE topics DISABLE TRIGGER shmeta_topics_update; UPDATE topics SET updated_at = 8; "
	             "ALTER TABLE topics ENABLE ALWAYS TRIGGER shmeta_topics_update");
	world_open(w);
	cr_expect_eq(w->ops->feed->resume(w->state, position, bytes, &w->err), SHMETA_ABSENT);
	world_free(w);
}

Test(postgres_feed, rows_that_change_without_a_statement_on_them_are_noticed)
{
	static const char *const ways[] = {
		/* Swapped, as a migration does it. */
		"CREATE TABLE partitions_next (LIKE partitions INCLUDING ALL); INSERT INTO partitions_next SELECT topic, "
		"partition_id, high_watermark + 5, created_at, updated_at FROM partitions; BEGIN; ALTER TABLE partitions RENAME TO "
		"partitions_old; ALTER TABLE partitions_next RENAME TO partitions; COMMIT",
		/* Written anew by DDL. */
		"ALTER TABLE partitions ALTER COLUMN high_watermark TYPE BIGINT USING high_watermark + 100",
		/* The log itself. */
		"DELETE FROM shmeta_changes",
		"TRUNCATE shmeta_changes",
	};
	struct world world, *w = &world;

	begin(w);
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		world_sql(w, "%s", ways[i]);
		expect_compared(w, ways[i]);
	}
	world_free(w);
}

Test(postgres_feed, a_row_whose_place_cannot_be_read_is_read_with_its_topic_and_hides_none)
{
	static const char *const topic = "changed topic " SHMETA_DEFAULT_TENANT " t with_segments\n";
	struct world one, *w = &one;

	begin(w);
	world_sql(
		w,
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		"s3_key, created_at) SELECT 's' || v, 't', 0, v, v + 9, 1, 1, 'b', 'k' || v, 1 FROM unnest(ARRAY[100, 200, "
		"-5]) v");
	ok(world_changes(w));
	has(topic);
	has("t/0 0..9223372036854775807");
	recorder_clear(&w->recorder);
	world_sql(
		w,
		"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) VALUES('t', -1, 0, 1, 1)");
	ok(world_changes(w));
	has(topic);
	recorder_clear(&w->recorder);
	world_sql(w, "DELETE FROM segments WHERE base_offset < 0; DELETE FROM partitions WHERE partition_id < 0");
	ok(world_changes(w));
	has(topic);
	world_free(w);
}

Test(postgres_feed, rows_deleted_by_who_does_not_see_their_parents_are_told)
{
	struct world world, *w = &world;
	PGconn *other;

	begin(w);
	world_sql(w, "ALTER TABLE segments DROP CONSTRAINT segments_topic_partition_id_fkey; "
	             "ALTER TABLE partitions DROP CONSTRAINT partitions_topic_fkey");
	world_sql(
		w,
		"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) VALUES ('late', 5, 0, 1, 1)");
	world_sql(
		w,
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		"s3_key, created_at) VALUES ('early', 'late', 0, 0, 9, 10, 1, 'b', 'k', 0)");
	other = PQconnectdb(w->options.uri);
	PQclear(PQexec(other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM topics"));
	world_topic(w, NULL, "late", 1, -1, NULL);
	for (int i = 0; i < 2; i++)
		ok(world_changes(w));
	PQclear(PQexec(
		other,
		"DELETE FROM segments WHERE topic = 'late'; DELETE FROM partitions WHERE partition_id = 5; COMMIT"));
	cr_expect_eq(PQtransactionStatus(other), PQTRANS_IDLE, "%s", PQerrorMessage(other));
	PQfinish(other);
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM segments WHERE topic = 'late'"), 0);
	ok(world_changes(w));
	has("changed segment 00000000-0000-0000-0000-000000000000 late/0");
	has("changed segment 00000000-0000-0000-0000-000000000000 late/5");
	world_free(w);
}

Test(postgres_feed, vacuum_analyze_and_an_index_are_no_reason_to_compare)
{
	struct world world, *w = &world;

	begin(w);
	world_sql(w, "ANALYZE");
	world_sql(w, "VACUUM");
	world_sql(w, "VACUUM FREEZE topics, partitions, segments");
	world_sql(w, "CREATE INDEX ON segments(s3_key)");
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
	world_free(w);
}

Test(postgres_feed, an_unlogged_table_is_compared_after_each_connection)
{
	struct world world, *w = &world;
	char position[400];
	size_t bytes = 0;

	begin(w);
	world_sql(w, "ALTER TABLE partition_leases SET UNLOGGED");
	expect_compared(w, "unlogged");
	/* It may have been a crash. */
	pg_world_end_sessions(w);
	expect_compared(w, "connected anew");
	ok(w->ops->feed->position(w->state, position, sizeof position, &bytes));
	cr_expect_eq(w->ops->feed->resume(w->state, position, bytes, &w->err), SHMETA_ABSENT);
	world_free(w);
}

/* ---- what no trigger sees ---- */

Test(postgres_feed, a_table_that_becomes_a_part_or_gets_one_ends_the_feed_until_it_is_none)
{
	struct world world, *w = &world;

	begin(w);
	world_sql(w, "CREATE TABLE all_segments (LIKE segments); ALTER TABLE segments INHERIT all_segments");
	world_sql(w, "UPDATE all_segments SET size_bytes = 77");
	expect_no_feed(w, "segments: partitioned, or with inheritance");
	world_sql(w, "ALTER TABLE segments NO INHERIT all_segments");
	ok(world_load(w));
	cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
	cr_expect_str_eq(w->ops->feed->trouble(w->state), "");
	world_sql(w, "CREATE TABLE more_segments () INHERITS (segments)");
	expect_no_feed(w, "segments: partitioned, or with inheritance");
	world_free(w);
}

Test(postgres_feed, a_partitioned_table_is_served_by_full_passes)
{
	struct world world, *w = &world;

	begin(w);
	world_close(w);
	world_sql(
		w,
		"DROP TABLE segments; CREATE TABLE segments(id TEXT COLLATE \"C\", topic TEXT COLLATE \"C\" NOT NULL, "
		"partition_id INTEGER NOT NULL, base_offset BIGINT NOT NULL, end_offset BIGINT NOT NULL, record_count BIGINT "
		"NOT NULL, size_bytes BIGINT NOT NULL, s3_bucket TEXT NOT NULL, s3_key TEXT NOT NULL, created_at BIGINT NOT "
		"NULL, min_timestamp BIGINT NOT NULL DEFAULT 0, max_timestamp BIGINT NOT NULL DEFAULT 0, "
		"PRIMARY KEY(id, created_at)) PARTITION BY RANGE (created_at); "
		"CREATE TABLE segments_old PARTITION OF segments FOR VALUES FROM (0) TO (9999999999999)");
	world_segment(w, NULL, "t", 0, 0, 9);
	world_open(w);
	cr_expect_not(world_has_feed(w));
	cr_expect_not_null(strstr(w->ops->feed->trouble(w->state), "segments: partitioned"));
	ok(world_load(w));
	cr_expect_eq(w->recorder.segments, 1);
	raise_watermark(w, 5);
	cr_expect_eq(world_sql_number(w, "SELECT high_watermark FROM partitions WHERE partition_id = 0"), 5);
	world_free(w);
}

Test(postgres_feed, a_subscription_that_writes_a_table_ends_the_feed)
{
	struct world world, *w = &world;

	begin(w);
	/* As the server has it once a subscription has looked at what is published. */
	world_sql(
		w,
		"INSERT INTO pg_subscription_rel(srsubid, srrelid, srsubstate) VALUES (1, 'segments'::regclass, 'r')");
	expect_no_feed(w, "segments: written by a subscription");
	world_sql(w, "DELETE FROM pg_subscription_rel");
	ok(world_load(w));
	cr_expect(world_has_feed(w));
	world_free(w);
}

Test(postgres_feed, row_security_that_concerns_this_role_ends_the_feed)
{
	struct world world, *w = &world;
	char uri[200];

	begin(w);
	world_close(w);
	world_sql(w, "CREATE ROLE feed_tenant LOGIN");
	world_sql(w, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO feed_tenant");
	snprintf(uri, sizeof uri, "postgresql:///%s?host=%s&user=feed_tenant", PQdb(w->pg), PQhost(w->pg));
	w->options.uri = uri;
	world_open(w);
	ok(world_load(w));
	cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
	world_sql(w, "ALTER TABLE topics ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON topics USING (name = 't')");
	expect_no_feed(w, "topics: row-level security");
	world_close(w);
	world_sql(w, "DROP OWNED BY feed_tenant; DROP ROLE feed_tenant");
	world_free(w);
}

Test(postgres_feed, a_view_is_read_and_written_where_it_can_be_and_not_followed)
{
	struct world world, *w = &world;

	begin(w);
	world_close(w);
	world_agent(w, "a", 5, NULL);
	world_sql(w, "ALTER TABLE agents RENAME TO agents_kept; CREATE VIEW agents AS SELECT * FROM agents_kept");
	world_open(w);
	cr_expect_not(world_has_feed(w));
	cr_expect_not_null(strstr(w->ops->feed->trouble(w->state), "agents: a view"));
	cr_expect(world_writable(w));
	ok(world_load(w));
	cr_expect_eq(w->recorder.agents, 1);
	raise_watermark(w, 6);
	world_close(w);
	world_sql(w, "DROP VIEW agents; CREATE MATERIALIZED VIEW agents AS SELECT DISTINCT * FROM agents_kept");
	world_open(w);
	cr_expect(!world_writable(w) && !world_has_feed(w));
	ok(world_load(w));
	cr_expect_eq(w->recorder.agents, 1);
	world_free(w);
}

/* What apply() has told of need not come again; but what the application's own trigger did in its
 * transaction must. */
Test(postgres_feed, what_the_applications_triggers_do_within_our_transactions_is_told)
{
	struct world world, *w = &world;

	begin(w);
	raise_watermark(w, 3);
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
	world_sql(
		w,
		"CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.partition_id = 0 THEN UPDATE "
		"partitions SET high_watermark = 99 WHERE partition_id = 1; END IF; RETURN NULL; END'; "
		"CREATE TRIGGER follow AFTER UPDATE ON partitions FOR EACH ROW EXECUTE FUNCTION follow()");
	ok(world_changes(w));
	has("changed list");
	raise_watermark(w, 4);
	ok(world_changes(w));
	has("changed partition 00000000-0000-0000-0000-000000000000 t/1");
	/* By a foreign key of its own, too. */
	world_sql(
		w,
		"DROP TRIGGER follow ON partitions; ALTER TABLE agents ADD COLUMN home TEXT COLLATE \"C\" REFERENCES topics "
		"ON DELETE CASCADE");
	world_agent(w, "a", 5, NULL);
	world_sql(w, "UPDATE agents SET home = 't'");
	ok(world_changes(w));
	ok(world_changes(w));
	pg_world_apply(w, &(struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = rows_str("t")});
	ok(world_changes(w));
	has("changed agent");
	world_free(w);
}

/* ---- sources that are not what they were ---- */

static char told[400];

static void note_history(void *arg, const char *sentence)
{
	(void)arg;
	snprintf(told, sizeof told, "%s", sentence);
}

/* Keep the server's files as they are, or put them back. */
static void keep_data(const struct pg_cluster *server, bool back)
{
	char command[300];

	if (back)
		snprintf(command, sizeof command, "rm -r %s/data && mv %s/kept %s/data", server->dir, server->dir,
		         server->dir);
	else
		snprintf(command, sizeof command, "cp -a %s/data %s/kept", server->dir, server->dir);
	cr_assert_eq(system(command), 0, "%s", command);
}

static void await_changes(struct world *w)
{
	enum shmeta_status status = SHMETA_ERR_SOURCE;

	for (int i = 0; i < 1000 && status == SHMETA_ERR_SOURCE; i++) {
		status = world_changes(w);
		if (status == SHMETA_ERR_SOURCE)
			nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	ok(status);
}

Test(postgres_feed, a_server_that_was_set_back_and_has_grown_again_is_told_from_itself)
{
	struct pg_cluster server;
	struct world world, *w = &world;
	char uri[200], position[400];
	size_t bytes = 0;

	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL server on this machine");
	pg_cluster_start(&server, NULL);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", uri, sizeof uri);
	world_make(w, WORLD_PG_NEW);
	PQfinish(w->pg);
	w->pg = pg_cluster_connect(&server, "meta");
	w->options.uri = uri;
	world_open(w);
	world_topic(w, NULL, "t", 2, -1, NULL);
	for (int live = 0; live < 2; live++) {
		ok(world_load(w));
		PQfinish(w->pg);
		pg_cluster_down(&server, false);
		keep_data(&server, false);
		pg_cluster_up(&server);
		w->pg = pg_cluster_connect(&server, "meta");
		for (uint64_t i = 1; i <= 10; i++)
			world_watermark(w, NULL, "t", 0, 100 + i);
		await_changes(w);
		cr_expect_eq(w->changed, 1);
		ok(w->ops->feed->position(w->state, position, sizeof position, &bytes));
		if (!live)
			world_close(w);
		PQfinish(w->pg);
		pg_cluster_down(&server, false);
		keep_data(&server, true);
		pg_cluster_up(&server);
		w->pg = pg_cluster_connect(&server, "meta");
		/* The same statements, of as many transactions and more. */
		for (uint64_t i = 1; i <= 25; i++)
			world_watermark(w, NULL, "t", 0, 100 + i);
		if (live) {
			told[0] = '\0';
			w->recorder.sink.history = note_history;
			await_changes(w);
			has("changed list");
			cr_expect_not_null(strstr(told, "the last change that was seen is no longer in the log"), "%s",
			                   told);
		} else {
			world_open(w);
			cr_expect_eq(w->ops->feed->resume(w->state, position, bytes, &w->err), SHMETA_ERR_CONFLICT);
			cr_expect_not_null(strstr(w->err.text, "set back"), "%s", w->err.text);
		}
	}
	world_free(w);
	pg_cluster_stop(&server);
}

Test(postgres_feed, a_database_that_was_made_anew_from_a_copy_is_another_history)
{
	struct world world, *w = &world;
	char position[400], name[64];
	PGconn *app;
	size_t bytes = 0;

	begin(w);
	snprintf(name, sizeof name, "%s", PQdb(w->pg));
	app = w->pg;
	w->pg = PQsetdbLogin(PQhost(app), NULL, NULL, NULL, "postgres", "shmeta", NULL);
	ok(w->ops->feed->position(w->state, position, sizeof position, &bytes));
	world_close(w);
	PQfinish(app);
	world_sql(w, "CREATE DATABASE %s_copy TEMPLATE %s", name, name);
	world_sql(w, "DROP DATABASE %s", name);
	world_sql(w, "ALTER DATABASE %s_copy RENAME TO %s", name, name);
	world_open(w);
	cr_expect_eq(w->ops->feed->resume(w->state, position, bytes, &w->err), SHMETA_ERR_CONFLICT);
	cr_expect_not_null(strstr(w->err.text, "another database"), "%s", w->err.text);
	world_free(w);
}

static enum shmeta_status try_write(struct world *w, const char *topic)
{
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = rows_str(topic), .partition_count = 1}};
	const struct backend_op op = {rows_str(SHMETA_DEFAULT_TENANT), &create};
	struct shmeta_result result = {.status = SHMETA_OK};

	return w->ops->writer->apply(w->state, &op, 1, 5000, &result, &w->recorder.sink, &w->err);
}

/* Between the exchange and the next changes(), or load(), nobody knows yet that it is another
 * one. */
Test(postgres_feed, nothing_is_done_in_a_database_before_it_was_said_that_it_is_another_one)
{
	const struct backend_key key = {
		.cls = SHMETA_CLASS_TOPIC, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t")};
	const struct backend_object_list list = {.tenant = rows_str(SHMETA_DEFAULT_TENANT), .most = 1};
	struct world world, *w = &world;
	char name[64], host[200];

	for (int mode = 0; mode < 2; mode++) {
		begin(w);
		ok(try_write(w, "first"));
		ok(world_changes(w));
		snprintf(name, sizeof name, "%s", PQdb(w->pg));
		snprintf(host, sizeof host, "%s", PQhost(w->pg));
		PQfinish(w->pg);
		w->pg = PQsetdbLogin(host, NULL, NULL, NULL, "postgres", "shmeta", NULL);
		world_sql(w, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'", name);
		world_sql(w, "CREATE DATABASE %s_copy TEMPLATE %s", name, name);
		world_sql(w, "DROP DATABASE %s WITH (FORCE)", name);
		world_sql(w, "ALTER DATABASE %s_copy RENAME TO %s", name, name);
		PQfinish(w->pg);
		w->pg = PQsetdbLogin(host, NULL, NULL, NULL, name, "shmeta", NULL);
		for (int again = 0; again < 2; again++) {
			cr_expect_eq(try_write(w, "lost"), SHMETA_ERR_CONFLICT);
			cr_expect_not_null(strstr(w->err.text, "it is looked at before anything is done in it"), "%s",
			                   w->err.text);
			cr_expect_eq(world_fetch(w, &key, 1), SHMETA_ERR_CONFLICT);
			cr_expect_eq(w->ops->admin->objects(w->state, &list, NULL, NULL, &w->err), SHMETA_ERR_CONFLICT);
		}
		cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM topics WHERE name = 'lost'"), 0);
		ok(mode == 0 ? world_changes(w) : world_load(w));
		ok(try_write(w, "second"));
		ok(world_fetch(w, &key, 1));
		cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM topics WHERE name = 'second'"), 1);
		world_free(w);
	}
}

/* Two sessions write and read: the exchange may come while the one has begun a batch, and to the
 * one alone. */
Test(postgres_feed, what_was_begun_is_not_done_in_another_database)
{
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = rows_str("lost"), .partition_count = 1}};
	const struct backend_op op = {rows_str(SHMETA_DEFAULT_TENANT), &create};
	struct shmeta_result result = {.status = SHMETA_OK};
	struct world world, *w = &world;
	char name[64], host[200];
	PGconn *app;

	for (int begun = 0; begun < 3; begun++) {
		begin(w);
		ok(try_write(w, "first"));
		ok(world_changes(w));
		snprintf(name, sizeof name, "%s", PQdb(w->pg));
		snprintf(host, sizeof host, "%s", PQhost(w->pg));
		/* Its statements wait, so that what it loses is more than the COMMIT. */
		app = PQsetdbLogin(host, NULL, NULL, NULL, name, "shmeta", NULL);
		if (begun == 2)
			PQclear(PQexec(app, "BEGIN; LOCK TABLE topics IN ACCESS EXCLUSIVE MODE"));
		ok(w->ops->writer->start(w->state, &op, 1, 5000, &result, &w->err));
		if (begun == 0) {
			ok(w->ops->writer->finish(w->state, &w->recorder.sink, &w->err));
			world_sql(w, "DELETE FROM topics WHERE name = 'lost'");
			ok(world_changes(w));
		}
		PQfinish(w->pg);
		w->pg = PQsetdbLogin(host, NULL, NULL, NULL, "postgres", "shmeta", NULL);
		world_sql(
			w,
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s' AND (%s OR state = "
			"'idle in transaction')",
			name, begun == 0 ? "true" : "false");
		if (begun > 0) {
			/* The one that reads stays where it was. */
			world_sql(w, "ALTER DATABASE %s ALLOW_CONNECTIONS false", name);
			for (int i = 0; i < 200 && world_sql_number(w, "SELECT count(*) FROM pg_stat_activity WHERE "
			                                               "application_name = 'shmetad' AND state = "
			                                               "'idle in transaction'") > 0;
			     i++)
				(void)usleep(10000);
			world_sql(w, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'",
			          name);
			world_sql(w, "ALTER DATABASE %s ALLOW_CONNECTIONS true", name);
		}
		world_sql(w, "CREATE DATABASE %s_copy TEMPLATE %s", name, name);
		world_sql(w, "DROP DATABASE %s WITH (FORCE)", name);
		world_sql(w, "ALTER DATABASE %s_copy RENAME TO %s", name, name);
		PQfinish(app);
		PQfinish(w->pg);
		w->pg = PQsetdbLogin(host, NULL, NULL, NULL, name, "shmeta", NULL);
		/* It may also have been spoken of by then, for those who begin something now. */
		if (begun == 2)
			ok(world_changes(w));
		for (int again = 0; again < (begun == 2 ? 1 : 2); again++) {
			enum shmeta_status status =
				begun > 0 && again == 0
					? SHMETA_OK
					: w->ops->writer->start(w->state, &op, 1, 5000, &result, &w->err);

			if (status == SHMETA_OK)
				status = w->ops->writer->finish(w->state, &w->recorder.sink, &w->err);
			cr_expect(status == SHMETA_ERR_SOURCE || status == SHMETA_ERR_CONFLICT, "%d %d: %d %s", begun,
			          again, status, w->err.text);
			cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM topics WHERE name = 'lost'"), 0, "%d %d",
			             begun, again);
		}
		world_free(w);
	}
}

Test(postgres_feed, nothing_is_made_where_the_role_is_led_to_later)
{
	struct world world, *w = &world;

	begin(w);
	world_sql(w, "CREATE SCHEMA elsewhere; ALTER DATABASE %s SET search_path = elsewhere", PQdb(w->pg));
	pg_world_end_sessions(w);
	cr_expect_eq(world_changes(w), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(w->err.text,
	                          "no tables where search_path leads (schema elsewhere); those that were served "
	                          "lay in schema public"),
	                   "%s", w->err.text);
	cr_expect_eq(world_load(w), SHMETA_ERR_SOURCE);
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM pg_tables WHERE schemaname = 'elsewhere'"), 0);
	/* Nor shmeta's own, where there are tables. */
	world_sql(
		w,
		"SET search_path = elsewhere; CREATE TABLE topics (LIKE public.topics INCLUDING ALL); CREATE TABLE partitions "
		"(LIKE public.partitions INCLUDING ALL); CREATE TABLE segments (LIKE public.segments INCLUDING ALL); CREATE "
		"TABLE consumer_groups (LIKE public.consumer_groups INCLUDING ALL); CREATE TABLE consumer_offsets (LIKE "
		"public.consumer_offsets INCLUDING ALL); CREATE TABLE agents (LIKE public.agents INCLUDING ALL); CREATE TABLE "
		"partition_leases (LIKE public.partition_leases INCLUDING ALL); SET search_path = public");
	expect_no_feed(w, "no longer those of schema public, and nothing is made in another one");
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM pg_tables WHERE schemaname = 'elsewhere'"), 7);
	world_sql(w, "ALTER DATABASE %s RESET search_path", PQdb(w->pg));
	pg_world_end_sessions(w);
	ok(world_load(w));
	cr_expect(world_has_feed(w));
	cr_expect_eq(w->recorder.topics, 1);
	world_free(w);
}

Test(postgres_feed, tables_are_made_only_where_that_is_asked_for)
{
	struct world world, *w = &world;

	pg_world_make(w);
	w->options.create = 0;
	cr_expect_eq(world_try_open(w), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(w->err.text, "has no tables in schema public"), "%s", w->err.text);
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0);
	world_close(w);
	/* A schema that is not there is not an empty one. */
	world_sql(w, "ALTER DATABASE %s SET search_path = nowhere", PQdb(w->pg));
	cr_expect_eq(world_try_open(w), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(w->err.text, "has no schema that its search_path names"), "%s", w->err.text);
	world_sql(w, "ALTER DATABASE %s RESET search_path", PQdb(w->pg));
	world_close(w);
	/* And shmeta's own by the other option, which says nothing of these. */
	w->options.create = 1;
	w->options.manage_schema = 0;
	world_open(w);
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 7);
	cr_expect_not(world_has_feed(w));
	world_free(w);
}

/* ---- versions ---- */

Test(postgres_feed, a_later_version_keeps_what_it_has_made_and_an_earlier_one_is_renewed)
{
	struct world world, *w = &world;
	int64_t before;

	begin(w);
	world_close(w);
	before = world_sql_number(w, "SELECT sum(oid::int8) FROM pg_trigger WHERE tgname LIKE 'shmeta_%'");
	world_sql(w, "UPDATE shmeta_meta SET value = 'v99 0123456789abcdef' WHERE name = 'schema'");
	world_open(w);
	cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
	ok(world_load(w));
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
	cr_expect_eq(world_sql_number(w, "SELECT sum(oid::int8) FROM pg_trigger WHERE tgname LIKE 'shmeta_%'"), before);
	/* Even when something is away: that is for the later one to mend. */
	world_sql(w, "DROP TRIGGER shmeta_topics_insert ON topics");
	expect_no_feed(w, "shmeta_topics_insert");
	world_sql(w, "UPDATE shmeta_meta SET value = '0123456789abcdef' WHERE name = 'schema'");
	ok(world_load(w));
	cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
	cr_expect_eq(
		world_sql_number(w, "SELECT count(*) FROM shmeta_meta WHERE name = 'schema' AND value LIKE 'v3 %'"), 1);
	world_free(w);
}

/* The first version had no epochs of compactions. */
Test(postgres_feed, tables_of_the_first_version_get_what_they_lack_and_keep_their_rows)
{
	struct world world, *w = &world;

	begin(w);
	world_close(w);
	world_sql(w,
	          "ALTER TABLE shmeta_lease_epochs DROP COLUMN compaction; "
	          "INSERT INTO shmeta_lease_epochs(tenant, topic, partition_id, epoch) VALUES('" SHMETA_DEFAULT_TENANT
	          "', 'gone', 3, 42); "
	          "UPDATE shmeta_meta SET value = 'v1 0123456789abcdef' WHERE name = 'schema'");
	world_open(w);
	cr_expect(world_has_feed(w), "%s", w->ops->feed->trouble(w->state));
	cr_expect_eq(
		world_sql_number(w, "SELECT count(*) FROM shmeta_meta WHERE name = 'schema' AND value LIKE 'v3 %'"), 1);
	cr_expect_eq(world_sql_number(
			     w, "SELECT epoch FROM shmeta_lease_epochs WHERE topic = 'gone' AND compaction IS NULL"),
	             42);
	world_free(w);
}

Test(postgres_feed, what_stands_in_the_way_of_making_it_does_not_stand_in_the_way_of_reading)
{
	struct world world, *w = &world;

	begin(w);
	world_close(w);
	world_sql(
		w,
		"DROP TRIGGER shmeta_topics_insert ON topics; CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS "
		"'BEGIN RAISE EXCEPTION ''not today''; END'; CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION "
		"no_ddl()");
	world_open(w);
	cr_expect_not(world_has_feed(w));
	cr_expect_not_null(strstr(w->ops->feed->trouble(w->state), "not today"), "%s", w->ops->feed->trouble(w->state));
	ok(world_load(w));
	cr_expect_eq(w->recorder.topics, 1);
	world_free(w);
}
