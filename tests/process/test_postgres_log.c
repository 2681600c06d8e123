/* SPDX-License-Identifier: Apache-2.0
 * The log of changes on PostgreSQL is bounded by those who write it, whether a daemon runs or not:
 * nobody waits or fails for it, and who has not read what is gone reads everything. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/pg_cluster.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_reads.h"
#include "tests/support/run_tool.h"

TestSuite(postgres_log, .timeout = 180);

/* As in backends/postgres/pg_own.c. */
enum { LOG_MOST = 1048576, PRUNE_STEP = 1024, PRUNE_BATCH = 2048, PATIENCE_S = 40 };

static struct pg_cluster server;
static struct run_daemon d;
static char uri[200];
static PGconn *sql;

static void schema(const char *verb)
{
	struct run_tool t;

	run_tool(&t, "shmetactl schema %s --source '%s'", verb, uri);
	cr_assert_eq(t.code, 0, "%s: exit status %d: %s%s", verb, t.code, t.out, t.err);
	run_tool_done(&t);
}

static void begin(void)
{
	pg_cluster_start(&server, NULL);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", uri, sizeof uri);
	sql = pg_cluster_connect(&server, "meta");
	schema("apply");
	pg_cluster_sql(sql, run_reads_seed);
	cr_assert_eq(run_daemon_init(&d), 0);
	/* No comparison helps the feed. */
	cr_assert_eq(run_daemon_configure(&d, "feed { poll_min_ms = 5ms poll_max_ms = 50ms reconcile_s = 0 }\n", ""),
	             0);
}

static void end(void)
{
	run_daemon_done(&d);
	PQfinish(sql);
	pg_cluster_stop(&server);
}

static int64_t number(const char *text)
{
	PGresult *result = PQexec(sql, text);
	int64_t value;

	cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", text, PQerrorMessage(sql));
	value = PQntuples(result) > 0 ? atoll(PQgetvalue(result, 0, 0)) : -1;
	PQclear(result);
	return value;
}

static int64_t logged(void)
{
	return number("SELECT count(*) FROM shmeta_changes");
}

static int64_t pruned(void)
{
	return number("SELECT value FROM shmeta_meta WHERE name = 'pruned'");
}

/* So many transactions of so many changes each, as the log has them. */
static void log_changes(PGconn *with, int transactions, int changes)
{
	char text[300];

	(void)snprintf(
		text, sizeof text,
		"DO $$ BEGIN FOR j IN 1..%d LOOP INSERT INTO shmeta_changes(class, op, topic, partition_id) SELECT 1, "
		"2, 'filler', i FROM generate_series(1, %d) i; COMMIT; END LOOP; END $$",
		transactions, changes);
	pg_cluster_sql(with, text);
}

/* What is logged from here on is so far behind the rows that are there as if the log were full. */
static void as_if_full(void)
{
	pg_cluster_sql(sql, "SELECT setval(pg_get_serial_sequence('shmeta_changes', 'seq'), 3 * 1048576)");
}

static void set_watermark(uint64_t value)
{
	char text[160];

	(void)snprintf(text, sizeof text,
	               "UPDATE partitions SET high_watermark = %lu WHERE topic = 'topic-1' AND partition_id = 1",
	               value);
	pg_cluster_sql(sql, text);
}

static void await_watermark(uint64_t value)
{
	struct shmeta *instance = run_daemon_open(&d, "test", 0);
	struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
	struct shmeta_partition p = {.high_watermark = 0};

	cr_assert_not_null(reader);
	for (double last = run_now_s() + PATIENCE_S; p.high_watermark != value; (void)usleep(5000)) {
		cr_assert_lt(run_now_s(), last, "it shows %lu, not %lu", p.high_watermark, value);
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		if (shmeta_get_partition_named(reader, "topic-1", 7, 1, NULL, &p, NULL) != SHMETA_OK)
			p.high_watermark = 0;
		(void)shmeta_end(reader);
	}
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

static void expect_equal(void)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s --timeout %us verify --source '%s'", d.instance, run_rounds(15, 60), uri);
	cr_expect_eq(t.code, 0, "verify: exit status %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
}

Test(postgres_log, stays_bounded_while_no_daemon_runs_and_who_was_away_reads_everything, .init = begin, .fini = end)
{
	uint64_t epoch;

	cr_assert_eq(run_daemon_start(&d, uri), 0);
	await_watermark(2000);
	epoch = run_daemon_epoch(&d);
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	set_watermark(4711);
	log_changes(sql, 104, 10000);
	cr_expect_eq(pruned(), -1, "there was room for them");
	cr_expect_eq(number("SELECT count(*) FROM shmeta_changes WHERE topic = 'topic-1'") > 0, 1);
	for (int i = 0; i < 3; i++) {
		log_changes(sql, 40, 1000);
		cr_expect_leq(logged(), LOG_MOST + PRUNE_BATCH, "%ld rows", (long)logged());
	}
	cr_expect_geq(logged(), LOG_MOST - PRUNE_BATCH, "%ld rows", (long)logged());
	cr_expect_eq(number("SELECT count(*) FROM shmeta_changes WHERE topic = 'topic-1'"), 0);
	cr_assert_eq(run_daemon_spawn(&d, uri), 0);
	cr_assert_eq(run_daemon_wait(&d, epoch), 0);
	await_watermark(4711);
	expect_equal();
}

/* Between two polls: a transaction that stays open keeps what it may want. */
static void stop_idle(void)
{
	for (;;) {
		cr_assert_eq(kill(d.pid, SIGSTOP), 0);
		(void)usleep(20000);
		if (number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shmetad' AND state <> 'idle'") ==
		    0)
			return;
		cr_assert_eq(kill(d.pid, SIGCONT), 0);
	}
}

Test(postgres_log, a_daemon_that_stood_still_notices_what_is_gone, .init = begin, .fini = end)
{
	cr_assert_eq(run_daemon_start(&d, uri), 0);
	await_watermark(2000);
	stop_idle();
	set_watermark(815);
	as_if_full();
	log_changes(sql, 4, PRUNE_STEP);
	cr_expect_gt(pruned(), 0);
	cr_expect_eq(number("SELECT count(*) FROM shmeta_changes WHERE topic = 'topic-1'"), 0);
	cr_assert_eq(kill(d.pid, SIGCONT), 0);
	await_watermark(815);
	/* And goes on key by key. */
	set_watermark(816);
	await_watermark(816);
	expect_equal();
}

Test(postgres_log, a_daemon_that_was_away_notices_what_is_gone, .init = begin, .fini = end)
{
	uint64_t epoch;

	cr_assert_eq(run_daemon_start(&d, uri), 0);
	await_watermark(2000);
	epoch = run_daemon_epoch(&d);
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	set_watermark(816);
	as_if_full();
	log_changes(sql, 4, PRUNE_STEP);
	cr_expect_eq(number("SELECT count(*) FROM shmeta_changes WHERE topic = 'topic-1'"), 0);
	cr_assert_eq(run_daemon_spawn(&d, uri), 0);
	cr_assert_eq(run_daemon_wait(&d, epoch), 0);
	await_watermark(816);
	expect_equal();
}

/* A transaction as large as a log is taken in pieces, and none of it is forgotten. */
Test(postgres_log, many_changes_of_one_transaction_are_taken_to_the_last, .init = begin, .fini = end)
{
	log_changes(sql, 1, 10 * PRUNE_BATCH);
	as_if_full();
	log_changes(sql, 1, 1);
	log_changes(sql, 30, PRUNE_STEP);
	cr_expect_eq(number("SELECT count(*) FROM shmeta_changes WHERE seq < 3 * 1048576"), 0);
	/* Those that are not old enough stay, but for those that the last batch has met. */
	cr_expect_geq(logged(), 30 * PRUNE_STEP + 1 - PRUNE_BATCH);
}

Test(postgres_log, a_mark_of_another_cluster_does_not_stand_in_the_way, .init = begin, .fini = end)
{
	pg_cluster_sql(sql, "INSERT INTO shmeta_meta VALUES ('pruned', '99999999999')");
	log_changes(sql, 4, PRUNE_STEP);
	as_if_full();
	log_changes(sql, 4, PRUNE_STEP);
	cr_expect_leq(pruned(), number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"));
	cr_expect_eq(number("SELECT count(*) FROM shmeta_changes WHERE topic = 'topic-1'"), 0);
}

Test(postgres_log, who_prunes_holds_up_nobody_and_whatever_transaction_prunes_does_not_fail, .init = begin, .fini = end)
{
	PGconn *one = pg_cluster_connect(&server, "meta"), *two = pg_cluster_connect(&server, "meta"),
	       *three = pg_cluster_connect(&server, "meta");
	char step[200];
	int64_t first;

	(void)snprintf(step, sizeof step,
	               "INSERT INTO shmeta_changes(class, op) SELECT 1, 2 FROM generate_series(1, %d)", PRUNE_STEP);
	log_changes(sql, 30, PRUNE_STEP);
	as_if_full();
	pg_cluster_sql(one, "SET statement_timeout = '5s'");
	pg_cluster_sql(two, "SET statement_timeout = '5s'");
	pg_cluster_sql(three, "SET statement_timeout = '5s'");
	/* Its snapshot is from before what follows, and what it prunes with it is pruned by another
	 * one meanwhile. */
	pg_cluster_sql(three, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM topics");
	pg_cluster_sql(one, "BEGIN");
	pg_cluster_sql(one, step);
	pg_cluster_sql(two, step); /* the first one is still at it */
	cr_expect_eq(pruned(), -1);
	pg_cluster_sql(one, "COMMIT");
	first = pruned();
	cr_expect_gt(first, 0);
	pg_cluster_sql(three, step);
	pg_cluster_sql(three, "COMMIT");
	cr_expect_eq(pruned(), first, "it saw what was there before");
	pg_cluster_sql(two, "BEGIN ISOLATION LEVEL SERIALIZABLE");
	pg_cluster_sql(two, step);
	pg_cluster_sql(two, "COMMIT");
	cr_expect_eq(pruned(), first, "a serializable one prunes");
	pg_cluster_sql(two, step);
	cr_expect_gt(pruned(), first, "nobody went on");
	/* What an open transaction may still want stays: its own changes come when it ends. */
	pg_cluster_sql(one, "BEGIN; SELECT pg_current_xact_id()");
	for (int i = 0; i < 30; i++)
		pg_cluster_sql(two, step);
	cr_expect_leq(pruned(), number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"));
	pg_cluster_sql(one, "COMMIT");
	PQfinish(one);
	PQfinish(two);
	PQfinish(three);
}

static void make_older(void)
{
	pg_cluster_sql(sql, "DROP TRIGGER shmeta_changes_prune ON shmeta_changes; DROP FUNCTION shmeta_prune(); "
	                    "UPDATE shmeta_meta SET value = 'older' WHERE name = 'schema'");
}

static int64_t pruners(void)
{
	return number("SELECT count(*) FROM pg_trigger WHERE tgname = 'shmeta_changes_prune' AND tgenabled = 'A'");
}

Test(postgres_log, of_an_older_installation_gets_its_bound_from_schema_apply_or_a_daemon, .init = begin, .fini = end)
{
	struct run_tool t;

	cr_expect_eq(pruners(), 1);
	make_older();
	run_tool(&t, "shmetactl schema status --source '%s'", uri);
	cr_expect_eq(t.code, 1);
	cr_expect_not_null(strstr(t.out, "of another version of shmeta"), "%s", t.out);
	run_tool_done(&t);
	schema("apply");
	cr_expect_eq(pruners(), 1);
	make_older();
	cr_assert_eq(run_daemon_start(&d, uri), 0);
	cr_expect_eq(pruners(), 1);
	set_watermark(17);
	await_watermark(17);
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	schema("remove --yes");
	cr_expect_eq(number("SELECT count(*) FROM pg_proc WHERE proname LIKE 'shmeta%'"), 0);
}
