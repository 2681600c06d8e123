/* SPDX-License-Identifier: Apache-2.0
 * A COMMIT whose answer is lost, by a server that crashes and recovers before anybody can ask what
 * became of it. What had reached its log is there afterwards, under the id that it had; what had
 * not is gone, and its id is given to somebody else's transaction. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/link.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_status.h"
#include "tests/support/run_tool.h"
#include "tests/support/run_topic.h"

TestSuite(postgres_crash, .timeout = 180);

enum { PATIENCE_S = 40, TRIES = 5 };

static struct pg_cluster server;
static struct link l;
static struct run_daemon d;
static PGconn *sql;
static char direct[200];
static struct shmeta *instance;
static struct shmeta_reader *reader;

/* late: what is committed reaches the log when somebody else's does, or after ten seconds. */
static void begin_with(bool late)
{
	static const char *const settings[] = {"synchronous_commit=off", "wal_writer_delay=10s", "autovacuum=off",
	                                       NULL};
	char through[200];

	pg_cluster_start(&server, late ? settings : NULL);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", direct, sizeof direct);
	sql = pg_cluster_connect(&server, "meta");
	cr_assert_eq(link_start(&l, LINK_UNIX, server.dir, 5432), 0);
	cr_assert_eq(run_daemon_init(&d), 0);
	/* So long is an answer waited for, and then the outcome looked for. */
	cr_assert_eq(
		run_daemon_configure(
			&d,
			"source { timeout_ms = 20s }\nfeed { poll_min_ms = 5ms poll_max_ms = 50ms reconcile_s = 0 }\n"
			"retry { min_ms = 50ms max_ms = 200ms }\n",
			""),
		0);
	(void)snprintf(through, sizeof through, "postgresql:host=%s port=%d user=shmeta dbname=meta", l.host, l.port);
	cr_assert_eq(run_daemon_start(&d, through), 0);
	instance = run_daemon_open(&d, "test", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
}

static void begin(void)
{
	begin_with(false);
}

static void begin_late(void)
{
	begin_with(true);
}

static void end(void)
{
	shmeta_reader_free(reader);
	shmeta_close(instance);
	run_daemon_done(&d);
	link_end(&l);
	PQfinish(sql);
	pg_cluster_stop(&server);
}

static void text_of(char *ret, size_t bytes, const char *text)
{
	PGresult *result = PQexec(sql, text);

	cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", text, PQerrorMessage(sql));
	(void)snprintf(ret, bytes, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
}

/* In a process of its own, which ends with minus the status. */
static pid_t write_aside(const char *name)
{
	pid_t pid = run_fork();

	if (pid == 0) {
		struct shmeta *mine = run_daemon_open(&d, "writing", 0);
		struct shmeta_client *client = NULL;
		struct shmeta_result result;

		if (mine == NULL || shmeta_client_open(mine, NULL, &client) != SHMETA_OK)
			_exit(100);
		_exit(-run_topic_create(client, name, 1, &result));
	}
	return pid;
}

/* A topic whose COMMIT is done and not answered; then the server crashes, and is there again. Its
 * writer, who still waits, and the transaction's id. The trap is for a transaction of operations:
 * the daemon's housekeeping of the change log begins like one. theirs: a topic of somebody else's
 * (or NULL) that may be lost with it, and that the store shows by then. */
static pid_t crash_behind_commit(const char *name, const char *theirs, char id[24])
{
	struct link_counts c;
	pid_t writer;
	char text[100];

	pg_cluster_sql(sql, "CHECKPOINT");
	if (theirs != NULL) {
		run_topic_insert(sql, theirs);
		run_topic_await(reader, theirs, 1);
	}
	link_counts(&l, &c);
	cr_assert_eq(link_trap_behind(&l, LINK_STALL_ANSWER, "shmeta_W_BEGIN", "shmeta_COMMIT", 1), 0);
	writer = write_aside(name);
	cr_assert_eq(link_wait_caught(&l, c.caught + 1, PATIENCE_S * 1000), 0, "the trap caught nothing");
	for (double last = run_now_s() + PATIENCE_S; !run_topic_stored(sql, name); (void)usleep(1000))
		cr_assert_lt(run_now_s(), last, "%s is never committed", name);
	(void)snprintf(text, sizeof text, "SELECT max(xid::text::bigint) FROM shmeta_changes WHERE topic = '%s'", name);
	text_of(id, 24, text);
	pg_cluster_down(&server, true);
	pg_cluster_up(&server);
	PQfinish(sql);
	sql = pg_cluster_connect(&server, "meta");
	return writer;
}

/* The writer hears nothing more from the former connection, and can ask on a new one. */
static int outcome_of(pid_t writer)
{
	cr_assert_eq(link_cut(&l), 0);
	return -run_reap(writer);
}

static void expect_equal(void)
{
	struct run_tool t;

	run_status_await_connected(&d);
	run_tool(&t, "shmetactl --dir %s --timeout 10s verify --source '%s'", d.instance, direct);
	cr_expect_eq(t.code, 0, "verify: exit status %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
}

Test(postgres_crash, what_was_in_the_servers_log_is_told_as_done, .init = begin, .fini = end)
{
	char id[24];
	pid_t writer = crash_behind_commit("kept", NULL, id);
	int status;

	cr_assert_eq(run_topic_stored(sql, "kept"), 1);
	status = outcome_of(writer);
	cr_expect_eq(status, SHMETA_OK, "%s", shmeta_strerror((enum shmeta_status)status));
	run_topic_await(reader, "kept", 1);
	expect_equal();
}

/* Its id is another's by now, who has committed: that is not taken for an answer. */
static void lose(bool again, bool theirs, int want)
{
	char id[24], text[200], name[16], other[16];
	pid_t writer = 0;
	int status, retried;

	for (int i = 0; i < TRIES && writer == 0; i++) {
		(void)snprintf(name, sizeof name, "lost-%d", i);
		(void)snprintf(other, sizeof other, "theirs-%d", i);
		writer = crash_behind_commit(name, theirs ? other : NULL, id);
		if (run_topic_stored(sql, name)) { /* the ten seconds were over just then */
			cr_expect_eq(outcome_of(writer), SHMETA_OK);
			writer = 0;
		}
	}
	cr_assert_neq(writer, 0, "nothing is ever lost");
	if (again) {
		(void)snprintf(
			text, sizeof text,
			"DO $$ BEGIN WHILE pg_current_xact_id()::text::bigint <= %s LOOP COMMIT; END LOOP; END $$", id);
		pg_cluster_sql(sql, text);
		(void)snprintf(text, sizeof text, "SELECT pg_xact_status('%s'::xid8)", id);
		text_of(text, sizeof text, text);
		cr_assert_str_eq(text, "committed");
	}
	status = outcome_of(writer);
	cr_expect_eq(status, want, "%s", shmeta_strerror((enum shmeta_status)status));
	cr_expect_eq(run_topic_stored(sql, name), 0);
	/* A retry does it. */
	retried = -run_reap(write_aside(name));
	cr_expect_eq(retried, SHMETA_OK, "%s", shmeta_strerror((enum shmeta_status)retried));
	run_topic_await(reader, name, 1);
	cr_expect_eq(run_topic_stored(sql, name), 1);
	if (theirs)
		run_topic_await(reader, other, 0);
	expect_equal();
}

Test(postgres_crash, what_was_lost_and_whose_id_is_given_again_is_told_as_unknown, .init = begin_late, .fini = end)
{
	lose(true, false, SHMETA_ERR_OUTCOME_UNKNOWN);
}

Test(postgres_crash, what_was_lost_and_whose_id_nobody_has_is_told_as_unknown, .init = begin_late, .fini = end)
{
	lose(false, false, SHMETA_ERR_OUTCOME_UNKNOWN);
}

/* The server is found to be at an earlier state than the store: the retry, which may be the first
 * to meet it, is done when that was looked at. Half of the topics are left, so nobody is asked for
 * consent. */
Test(postgres_crash, a_retry_at_a_server_that_lost_what_the_store_shows_is_done, .init = begin_late, .fini = end)
{
	run_topic_insert(sql, "stays");
	run_topic_await(reader, "stays", 1);
	lose(false, true, SHMETA_ERR_OUTCOME_UNKNOWN);
}
