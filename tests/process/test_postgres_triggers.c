/* SPDX-License-Identifier: Apache-2.0
 * shmeta's triggers on PostgreSQL never fail what the application does, whatever has become of the
 * tables, of shmeta's own and of the rights on them; and what they could not log is not taken for
 * logged. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/postgres/pg_own.h"
#include "backends/rows.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/pg_world.h"

TestSuite(postgres_triggers, .timeout = 120);

/* A topic of its own for each kind of statement, so that none depends on what another one did. */
static void begin(struct world *w)
{
	pg_world_make(w);
	world_open(w);
	world_topic(w, NULL, "t", 4, -1, NULL);
	world_segment(w, NULL, "t", 0, 0, 9);
	world_sql(w, "INSERT INTO agents VALUES ('a', 'a:1', 'z', 'g', 0, 0, '{}')");
	pg_world_follow(w);
}

/* Every kind of change to every table, all of which must be done. n: a number of its own. */
static void change_everything(struct world *w, int n)
{
	world_sql(
		w,
		"INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES ('n%d', 1, 1, 1); "
		"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) VALUES ('n%d', 0, 0, 1, 1); "
		"UPDATE topics SET updated_at = %d WHERE name = 't'; "
		"UPDATE partitions SET high_watermark = %d WHERE topic = 't'; "
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, "
		"s3_key, created_at) VALUES ('s%d', 't', 0, %d0, %d9, 1, 1, 'b', 'k', 1), ('u%d', 'n%d', 0, 0, 9, 1, 1, 'b', 'k', 1); "
		"UPDATE segments SET size_bytes = %d WHERE topic = 't'; DELETE FROM segments WHERE id = 's%d'",
		n, n, n, n, n, n, n, n, n, n, n);
	world_sql(
		w,
		"INSERT INTO agents VALUES ('a%d', 'b:%d', 'z', 'g', 0, 0, '{}'); UPDATE agents SET last_heartbeat = %d; "
		"INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch) VALUES "
		"('n%d', 0, 'a%d', 1, 1, 5); UPDATE partition_leases SET epoch = 7; UPDATE partition_leases SET epoch = 6; "
		"INSERT INTO consumer_groups VALUES ('g%d', 1, 1); "
		"INSERT INTO consumer_offsets(group_id, topic, partition_id, committed_offset, committed_at) VALUES "
		"('g%d', 't', 1, 5, 1); UPDATE consumer_offsets SET committed_offset = 6; DELETE FROM consumer_groups WHERE group_id = 'g%d'; "
		"DELETE FROM agents WHERE agent_id = 'a%d'; TRUNCATE partition_leases; DELETE FROM topics WHERE name = 'n%d'",
		n, n, n, n, n, n, n, n, n, n);
	cr_expect_eq(
		world_sql_number(w, "SELECT high_watermark FROM partitions WHERE topic = 't' AND partition_id = 3"), n);
}

/* Either there is no feed, which is said, or the next poll asks for a full pass. */
static void expect_no_claim(struct world *w, const char *after)
{
	enum shmeta_status status = world_changes(w);

	if (status == SHMETA_OK)
		cr_expect(!world_has_feed(w) || recorder_has(&w->recorder, "changed list"), "%s: %s", after,
		          recorder_text(&w->recorder));
}

static const struct {
	const char *what, *back;
} harms[] = {
	{"DROP TABLE shmeta_changes CASCADE", ""},
	{"DROP TABLE shmeta_changes, shmeta_lease_epochs, shmeta_slices, shmeta_objects, shmeta_meta, shmeta_transfers CASCADE; "
         "DROP SEQUENCE shmeta_missed",
         ""},
	{"ALTER TABLE shmeta_changes RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO shmeta_changes"},
	{"ALTER TABLE shmeta_changes ALTER partition_id TYPE SMALLINT, ADD CONSTRAINT app_check CHECK (class = 99) NOT VALID",
         "ALTER TABLE shmeta_changes DROP CONSTRAINT app_check"},
	{"ALTER TABLE shmeta_changes DROP COLUMN topic", "ALTER TABLE shmeta_changes ADD COLUMN topic TEXT"},
	{"ALTER TABLE shmeta_changes ADD COLUMN more INT NOT NULL DEFAULT 1; ALTER TABLE shmeta_changes ALTER more DROP DEFAULT",
         "ALTER TABLE shmeta_changes DROP COLUMN more"},
	{"CREATE FUNCTION app_no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$; CREATE TRIGGER "
         "app_no BEFORE INSERT ON shmeta_changes FOR EACH ROW EXECUTE FUNCTION app_no()",
         "DROP FUNCTION app_no() CASCADE"},
	{"CREATE FUNCTION app_eat() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$; CREATE TRIGGER "
         "app_eat BEFORE INSERT ON shmeta_changes FOR EACH ROW EXECUTE FUNCTION app_eat()",
         "DROP FUNCTION app_eat() CASCADE"},
	{"CREATE RULE app_rule AS ON INSERT TO shmeta_changes DO INSTEAD NOTHING",
         "DROP RULE app_rule ON shmeta_changes"},
	{"DO $$BEGIN PERFORM setval(pg_get_serial_sequence('shmeta_changes', 'seq'), 9223372036854775807); END$$",
         "DO $$BEGIN PERFORM setval(pg_get_serial_sequence('shmeta_changes', 'seq'), 1000000); END$$"},
	{"UPDATE shmeta_meta SET value = 'x' WHERE name = 'pruned'; INSERT INTO shmeta_meta VALUES ('pruned', 'x') ON CONFLICT DO NOTHING",
         "DELETE FROM shmeta_meta WHERE name = 'pruned'"},
	{"DROP TABLE shmeta_slices", "CREATE TABLE shmeta_slices(tenant TEXT)"},
	{"DROP TABLE shmeta_lease_epochs", ""},
	{"ALTER TABLE partition_leases ALTER epoch TYPE NUMERIC, ALTER partition_id TYPE BIGINT, ALTER topic TYPE VARCHAR(300)",
         ""},
	{"UPDATE partition_leases SET epoch = 0; INSERT INTO shmeta_lease_epochs VALUES "
         "('00000000-0000-0000-0000-000000000000', 't', 1, 9223372036854775807)",
         ""},
	{"ALTER TABLE segments ALTER base_offset TYPE NUMERIC, ALTER topic TYPE VARCHAR(200)", ""},
	{"ALTER TABLE partitions RENAME created_at TO made; ALTER TABLE partitions RENAME made TO created_at", ""},
	{"ALTER TABLE consumer_groups ALTER group_id TYPE VARCHAR(90)", ""},
	{"ALTER TABLE agents ADD twice TEXT GENERATED ALWAYS AS (agent_id || agent_id) STORED", ""},
};

/* By the session that has run all of them before, and has its plans. */
Test(postgres_triggers, never_fail_a_statement_of_the_applications_and_miss_none_in_silence)
{
	for (size_t i = 0; i < sizeof harms / sizeof *harms; i++) {
		struct world w0, *w = &w0;

		begin(w);
		change_everything(w, 1);
		ok(world_changes(w));
		ok(world_changes(w));
		world_sql(w, "%s", harms[i].what);
		change_everything(w, 2);
		if (harms[i].back[0] != '\0')
			world_sql(w, "%s", harms[i].back);
		expect_no_claim(w, harms[i].what);
		world_free(w);
	}
}

Test(postgres_triggers, that_may_not_write_the_log_or_not_all_of_it_are_no_feed)
{
	static const char *const ways[][2] = {
		{"CREATE RULE app_rule AS ON INSERT TO shmeta_changes DO INSTEAD NOTHING", "may keep rows out"},
		{"CREATE FUNCTION app_eat() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$; CREATE TRIGGER "
	         "app_eat BEFORE INSERT ON shmeta_changes FOR EACH ROW EXECUTE FUNCTION app_eat()",
	         "may keep rows out"},
		{"CREATE ROLE app_owner; ALTER FUNCTION shmeta_log_segments() OWNER TO app_owner",
	         "may not write the log"},
	};

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct world w0, *w = &w0;

		begin(w);
		change_everything(w, 1);
		world_sql(w, "%s", ways[i][0]);
		change_everything(w, 2);
		ok(world_changes(w));
		cr_expect(recorder_has(&w->recorder, "changed list"), "%s", ways[i][0]);
		cr_expect_not(world_has_feed(w), "%s", ways[i][0]);
		cr_expect_not_null(strstr(w->ops->feed->trouble(w->state), ways[i][1]), "%s: %s", ways[i][0],
		                   w->ops->feed->trouble(w->state));
		world_free(w);
	}
}

/* No catalog shows it: the log's own numbers are used up. What is missed in a transaction that is
 * still open counts when it ends. */
Test(postgres_triggers, miss_a_statement_of_an_open_transaction_until_it_has_ended)
{
	struct world w0, *w = &w0;

	begin(w);
	world_sql(w, "SELECT setval(pg_get_serial_sequence('shmeta_changes', 'seq'), 9223372036854775807)");
	world_begin(w);
	world_sql(w, "UPDATE partitions SET high_watermark = 77");
	for (int i = 0; i < 4; i++) {
		ok(world_changes(w));
		cr_expect(recorder_has(&w->recorder, "changed list"), "poll %d", i);
	}
	world_sql(w, "COMMIT");
	ok(world_changes(w));
	cr_expect(recorder_has(&w->recorder, "changed list"));
	/* Any transaction of the server's may be the one, autovacuum's too: until it has ended
	 * everything is looked at again. */
	for (int i = 0; i < 1000; i++) {
		ok(world_changes(w));
		if (w->changed == 0)
			break;
		(void)poll(NULL, 0, 5);
	}
	cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
	world_free(w);
}

/* Another session's row of ours is waited for no longer than the application says, and its
 * statement is done. */
Test(postgres_triggers, do_not_fail_a_statement_for_a_lock)
{
	struct world w0, *w = &w0;
	PGconn *other;

	begin(w);
	world_sql(w,
	          "INSERT INTO partition_leases VALUES ('t', 1, 'a', 1, 1, 5); INSERT INTO shmeta_lease_epochs VALUES "
	          "('00000000-0000-0000-0000-000000000000', 't', 1, 3)");
	other = PQconnectdb(w->uri);
	cr_assert_eq(PQstatus(other), CONNECTION_OK, "%s", PQerrorMessage(other));
	pg_cluster_sql(other, "BEGIN; UPDATE shmeta_lease_epochs SET epoch = 4");
	world_sql(w, "SET lock_timeout = 20; DELETE FROM partition_leases; RESET lock_timeout");
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM partition_leases"), 0);
	PQfinish(other);
	world_free(w);
}

/* A transaction that is prepared first may not notify anybody. */
Test(postgres_triggers, do_not_stand_in_the_way_of_prepared_transactions)
{
	static const char *const settings[] = {"max_prepared_transactions=4", NULL};
	struct pg_cluster server;
	struct world w0, *w = &w0;
	char uri[200];

	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL server on this machine");
	pg_cluster_start(&server, settings);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", uri, sizeof uri);
	world_make(w, WORLD_PG_NEW);
	PQfinish(w->pg);
	w->pg = pg_cluster_connect(&server, "meta");
	w->options.uri = uri;
	w->options.notify = true;
	world_open(w);
	world_topic(w, NULL, "t", 2, -1, NULL);
	ok(world_load(w));
	world_begin(w);
	world_watermark(w, NULL, "t", 1, 5);
	world_sql(w, "PREPARE TRANSACTION 'x'");
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
	world_watermark(w, NULL, "t", 0, 5);
	ok(world_changes(w));
	cr_expect_str_eq(recorder_text(&w->recorder), "changed partition 00000000-0000-0000-0000-000000000000 t/0\n");
	world_sql(w, "COMMIT PREPARED 'x'");
	ok(world_changes(w));
	cr_expect_str_eq(recorder_text(&w->recorder), "changed partition 00000000-0000-0000-0000-000000000000 t/1\n");
	world_free(w);
	pg_cluster_stop(&server);
}

/* A listener that never reads its notifications holds up the queue of the whole cluster, and where
 * that is full a COMMIT that notifies fails. Nobody can fill 8 GiB here, so the server is made to
 * say that it is half full. */
Test(postgres_triggers, notify_nobody_where_the_queue_of_notifications_fills_up)
{
	static const char *const usages[] = {"0.1", "0.5", "1"};
	struct pg_cluster server;
	struct world w0, *w = &w0;
	PGconn *listener;
	char uri[200];

	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL server on this machine");
	pg_cluster_start(&server, NULL);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", uri, sizeof uri);
	world_make(w, WORLD_PG_NEW);
	PQfinish(w->pg);
	w->pg = pg_cluster_connect(&server, "meta");
	w->options.uri = uri;
	w->options.notify = true;
	world_open(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	listener = pg_cluster_connect(&server, "meta");
	pg_cluster_sql(listener, "LISTEN " PG_CHANNEL);
	for (uint64_t i = 0; i < sizeof usages / sizeof *usages; i++) {
		PGnotify *word;

		world_sql(w,
		          "CREATE OR REPLACE FUNCTION pg_catalog.pg_notification_queue_usage() RETURNS float8 LANGUAGE "
		          "sql AS 'SELECT %s::float8'",
		          usages[i]);
		/* The plans of a session believe that a function of the server's never changes. */
		PQfinish(w->pg);
		w->pg = pg_cluster_connect(&server, "meta");
		world_watermark(w, NULL, "t", 0, i + 1);
		/* What was sent before comes with the answer of any statement. */
		pg_cluster_sql(listener, "SELECT 1");
		word = PQnotifies(listener);
		cr_expect_eq(word != NULL, i == 0, "used to %s", usages[i]);
		PQfreemem(word);
		ok(world_changes(w));
		cr_expect_eq(w->changed, 1, "used to %s: %s", usages[i], recorder_text(&w->recorder));
	}
	PQfinish(listener);
	world_free(w);
	pg_cluster_stop(&server);
}
