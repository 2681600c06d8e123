/* SPDX-License-Identifier: Apache-2.0
 * A real shmetad on a real PostgreSQL behind a real pgbouncer. In session mode everything works,
 * and whatever an operator does to the pool costs time and nothing else: a process reads all along,
 * another one writes and keeps account of what it was told. In the modes that share sessions the
 * daemon refuses to work, and leaves nothing of its own in them. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/pg_bouncer.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_reads.h"
#include "tests/support/run_status.h"
#include "tests/support/run_tool.h"
#include "tests/support/run_topic.h"

TestSuite(pgbouncer, .timeout = 300);

enum { PATIENCE_S = RUN_READS_PATIENCE_S, WRITES_MAX = 100000, OPEN = 7 };

static const char refusal[] =
	"is a pool that shares its sessions: shmeta needs one of its own: set pgbouncer's pool_mode to "
	"session for it, or connect to the server itself";

static struct pg_cluster server;
static struct pg_bouncer bouncer;
static struct run_daemon d;
static struct run_reads reads;
static PGconn *sql; /* past the pool */
static char uri[200], direct[200];
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct shmeta_client *client;

/* What the writing process was told of the topic "w-<i>". */
struct account {
	_Atomic int stop;
	_Atomic uint32_t count;
	_Atomic int told[WRITES_MAX];
};
static struct account *account;
static pid_t writing;

static void pause_ms(long ms)
{
	(void)usleep((useconds_t)ms * 1000);
}

static void configure(void)
{
	cr_assert_eq(run_daemon_configure(&d,
	                                  "source { timeout_ms = 1s }\n"
	                                  "feed { poll_min_ms = 5ms poll_max_ms = 50ms reconcile_s = 0 }\n"
	                                  "retry { min_ms = 50ms max_ms = 200ms }\n",
	                                  ""),
	             0);
}

/* The server, the pool, and a place for a daemon. */
static void begin_pool(const char *mode, const char *more)
{
	if (!pg_bouncer_installed())
		cr_skip_test("there is no pgbouncer on this machine");
	pg_cluster_start(&server, NULL);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", direct, sizeof direct);
	sql = pg_cluster_connect(&server, "meta");
	pg_bouncer_start(&bouncer, &server, mode, more);
	pg_bouncer_uri(&bouncer, "meta", uri, sizeof uri);
	cr_assert_eq(run_daemon_init(&d), 0);
	configure();
}

/* It serves, and what was seeded is there. */
static void serve(void)
{
	cr_assert_eq(run_daemon_start(&d, uri), 0);
	pg_cluster_sql(sql, run_reads_seed);
	instance = run_daemon_open(&d, "test", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	for (double end = run_now_s() + PATIENCE_S; run_reads_one(reader, (uint64_t)RUN_READS_SEGMENTS * 10 - 1) != 0;
	     pause_ms(2))
		cr_assert_lt(run_now_s(), end, "what was seeded does not come");
	run_reads_start(&reads, &d);
}

static void begin(void)
{
	begin_pool("session", "");
	serve();
}

static void end(void)
{
	if (server.supervisor <= 0)
		return;
	run_reads_end(&reads);
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	run_daemon_done(&d);
	pg_bouncer_stop(&bouncer);
	PQfinish(sql);
	pg_cluster_stop(&server);
}

static void console(const char *command)
{
	PGconn *with = pg_bouncer_console(&bouncer);

	pg_cluster_sql(with, command);
	PQfinish(with);
}

/* One that is answered when it has come to its end: PAUSE in session mode waits for sessions to
 * end. */
static PGconn *console_begin(const char *command)
{
	PGconn *with = pg_bouncer_console(&bouncer);

	cr_assert_eq(PQsendQuery(with, command), 1);
	cr_assert_eq(PQflush(with), 0);
	return with;
}

/* Sessions at the server that the daemon does not have directly. */
static void terminate_pooled(void)
{
	pg_cluster_sql(sql,
	               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shmetad'");
}

static void expect_equal(void)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s --timeout %us verify --source '%s'", d.instance, run_rounds(15, 60), direct);
	cr_expect_eq(t.code, 0, "verify: exit status %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	run_reads_expect(&reads);
}

/* What others commit comes by the feed. */
static void expect_followed(const char *name)
{
	run_topic_insert(sql, name);
	run_topic_await(reader, name, 1);
}

/* ---- writing all along ---- */

static int write_until_told(void)
{
	struct shmeta *mine = run_daemon_open(&d, "writing", 0);
	struct shmeta_client *with = NULL;

	if (mine == NULL || shmeta_client_open(mine, NULL, &with) != SHMETA_OK)
		return 1;
	for (uint32_t i = 0; i < WRITES_MAX && !atomic_load(&account->stop); i++) {
		struct shmeta_result result;
		char name[24];

		(void)snprintf(name, sizeof name, "w-%u", i);
		atomic_store(&account->told[i], OPEN);
		atomic_store(&account->count, i + 1);
		atomic_store(&account->told[i], run_topic_create(with, name, 1, &result));
		if (atomic_load(&account->told[i]) != SHMETA_OK)
			pause_ms(10);
	}
	shmeta_client_close(with);
	shmeta_close(mine);
	return 0;
}

static void start_writing(void)
{
	account = mmap(NULL, sizeof *account, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(account, MAP_FAILED);
	writing = run_fork();
	if (writing == 0)
		_exit(write_until_told());
}

/* So many more writes have been answered by done. */
static void await_writes(uint32_t more)
{
	uint32_t from = atomic_load(&account->count), done = 0;

	for (double last = run_now_s() + PATIENCE_S; done < more; pause_ms(5)) {
		done = 0;
		for (uint32_t i = from; i < atomic_load(&account->count); i++)
			done += atomic_load(&account->told[i]) == SHMETA_OK;
		cr_assert_lt(run_now_s(), last, "%u of %u writes are done", done, more);
	}
}

/* Done is stored, not done is not; what nobody knows may be either. */
static void settle_account(void)
{
	uint32_t done = 0, failed = 0, unknown = 0, lost = 0, undead = 0;

	atomic_store(&account->stop, 1);
	cr_expect_eq(run_reap(writing), 0);
	for (uint32_t i = 0; i < atomic_load(&account->count); i++) {
		int told = atomic_load(&account->told[i]), stored;
		char name[24];

		(void)snprintf(name, sizeof name, "w-%u", i);
		stored = run_topic_stored(sql, name);
		if (told == SHMETA_OK || told == SHMETA_ERR_NOT_CACHED) {
			done++;
			lost += !stored;
		} else if (told == SHMETA_ERR_OUTCOME_UNKNOWN || told == SHMETA_ERR_TIMEOUT) {
			unknown++;
		} else {
			failed++;
			undead += stored != 0;
		}
	}
	figure("writes through a pool that is made to fail", done, 0, "writes done",
	       "%u failed, %u of unknown outcome; %u lost, %u done though failed", failed, unknown, lost, undead);
	cr_expect_eq(lost, 0);
	cr_expect_eq(undead, 0);
	cr_expect_gt(done, 0);
	(void)munmap(account, sizeof *account);
}

/* ---- session mode ---- */

Test(pgbouncer, in_session_mode_a_daemon_loads_follows_and_writes, .init = begin, .fini = end)
{
	struct shmeta_result result;

	expect_followed("by-others");
	cr_expect_eq(run_topic_create(client, "by-us", 3, &result), SHMETA_OK, "%s", result.text);
	cr_expect_eq(run_topic_cached(reader, "by-us"), 1, "what was acknowledged is not to be read");
	cr_expect_eq(run_topic_stored(sql, "by-us"), 1);
	expect_equal();
}

/* The pool as an operator treats it, for some seconds, under reads and writes. */
static void expect_survived(const char *command, const char *resume)
{
	const char *why = "no answer within";
	struct run_status said = {.queued = -1};
	PGconn *held;

	start_writing();
	await_writes(20);
	held = console_begin(command);
	/* In session mode a pause lets sessions be until they end. */
	if (strcmp(command, "PAUSE") == 0)
		terminate_pooled();
	run_status_expect_away(&d, why);
	pg_cluster_sql(sql, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES "
	                    "('meanwhile', 1, 1, 1, '{}')");
	pause_ms(5000);
	run_status_expect_away(&d, why);
	run_reads_expect(&reads);
	cr_expect_eq(run_topic_cached(reader, "meanwhile"), 0, "who told the cache?");
	cr_expect_eq(run_reads_one(reader, 7), 0);
	/* On the same connection: a suspended pool takes no other. */
	PQclear(PQgetResult(held));
	cr_expect_null(PQgetResult(held));
	pg_cluster_sql(held, resume);
	PQfinish(held);
	await_writes(20);
	run_status_await_connected(&d);
	run_topic_await(reader, "meanwhile", 1);
	settle_account();
	expect_followed("the-last");
	for (double last = run_now_s() + PATIENCE_S; said.queued != 0; run_status_ask(&d, &said))
		cr_assert_lt(run_now_s(), last, "%ld keys are still to be fetched", (long)said.queued);
	expect_equal();
}

Test(pgbouncer, a_pool_that_is_paused_costs_no_read_and_no_acknowledged_write, .init = begin, .fini = end)
{
	expect_survived("PAUSE", "RESUME");
}

Test(pgbouncer, a_pool_that_is_suspended_costs_no_read_and_no_acknowledged_write, .init = begin, .fini = end)
{
	expect_survived("SUSPEND", "RESUME");
}

Test(pgbouncer, a_pool_that_is_killed_costs_no_read_and_no_acknowledged_write, .init = begin, .fini = end)
{
	expect_survived("KILL meta", "RESUME meta");
}

Test(pgbouncer, a_pool_that_is_disabled_says_so_in_the_status_and_is_gone_on_with, .init = begin, .fini = end)
{
	console("DISABLE meta");
	terminate_pooled();
	run_status_expect_away(&d, "database \"meta\" is disabled");
	run_reads_expect(&reads);
	console("ENABLE meta");
	expect_followed("afterwards");
	run_status_await_connected(&d);
	expect_equal();
}

Test(pgbouncer, connections_made_anew_again_and_again_lose_no_change_and_no_acknowledged_write, .init = begin,
     .fini = end)
{
	PGconn *with = pg_bouncer_console(&bouncer);

	start_writing();
	for (int i = 0; i < (int)run_rounds(8, 100); i++) {
		char name[24];

		await_writes(5);
		(void)snprintf(name, sizeof name, "round-%d", i);
		/* marks server connections to be closed when they are given back */
		if (i % 4 == 0) {
			pg_cluster_sql(with, "RECONNECT");
			terminate_pooled();
		} else if (i % 4 == 1) {
			terminate_pooled();
		} else if (i % 4 == 2) {
			pg_cluster_sql(with, "KILL meta");
			pg_cluster_sql(with, "RESUME meta");
		} else {
			PQfinish(with);
			pg_bouncer_stop(&bouncer);
			pg_bouncer_start(&bouncer, &server, "session", "");
			with = pg_bouncer_console(&bouncer);
		}
		expect_followed(name);
		run_reads_expect(&reads);
	}
	await_writes(5);
	PQfinish(with);
	settle_account();
	run_status_await_connected(&d);
	expect_followed("the-last");
	expect_equal();
}

/* A pool that does not clean a session before it gives it to the next one. */
Test(pgbouncer, what_a_former_daemon_left_in_a_session_does_not_disturb_the_next_one)
{
	begin_pool("session", "server_reset_query =\ndefault_pool_size = 2");
	serve();
	for (int i = 0; i < 3; i++) {
		uint64_t epoch = run_daemon_epoch(&d);
		char name[24];

		cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
		cr_assert_eq(run_daemon_spawn(&d, uri), 0);
		cr_assert_eq(run_daemon_wait(&d, epoch), 0);
		(void)snprintf(name, sizeof name, "after-%d", i);
		expect_followed(name);
	}
	run_status_await_connected(&d);
	expect_equal();
	end();
}

/* ---- the other modes ---- */

static void expect_refused(void)
{
	siginfo_t dead = {.si_pid = 0};
	struct run_tool t;
	char *log;

	(void)unlink(d.log);
	cr_assert_eq(run_daemon_spawn(&d, uri), 0);
	for (double last = run_now_s() + PATIENCE_S; dead.si_pid == 0 && run_now_s() < last; pause_ms(2))
		(void)waitid(P_PID, (id_t)d.pid, &dead, WEXITED | WNOHANG | WNOWAIT);
	cr_expect_eq(dead.si_code, CLD_EXITED, "it works");
	cr_expect_neq(run_daemon_end(&d, SIGKILL), 0);
	log = run_read_file(d.log);
	cr_assert_not_null(log);
	cr_expect_not_null(strstr(log, refusal), "%s", log);
	free(log);
	run_tool(&t, "shmetactl schema apply --source '%s'", uri);
	cr_expect_eq(t.code, 2, "exit status %d", t.code);
	cr_expect_not_null(strstr(t.err, refusal), "%s", t.err);
	run_tool_done(&t);
}

/* So many server connections, idle. */
static void fill_pool(int count)
{
	PGconn *held[8];

	for (int i = 0; i < count; i++) {
		held[i] = PQconnectdb(uri + strlen("postgresql:"));
		pg_cluster_sql(held[i], "BEGIN; SELECT 1");
	}
	for (int i = 0; i < count; i++) {
		pg_cluster_sql(held[i], "COMMIT");
		PQfinish(held[i]);
	}
}

/* Of all sessions of the pool: an application gets them next. */
static void expect_nothing_left(int count)
{
	PGconn *held[8];

	for (int i = 0; i < count; i++) {
		PGresult *result;

		held[i] = PQconnectdb(uri + strlen("postgresql:"));
		pg_cluster_sql(held[i], "BEGIN");
		result = PQexec(
			held[i],
			"SELECT current_setting('statement_timeout') || ' ' || current_setting('lock_timeout') || ' ' "
			"|| coalesce(current_setting('shmeta.origin', true), '') || (SELECT count(*) FROM "
			"pg_prepared_statements)");
		cr_expect_str_eq(PQgetvalue(result, 0, 0), "0 0 0", "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
	}
	for (int i = 0; i < count; i++)
		PQfinish(held[i]);
}

Test(pgbouncer, modes_that_share_sessions_are_refused_and_nothing_is_left_in_them, .fini = end)
{
	begin_pool("transaction", "");
	expect_refused();
	for (int idle = 1; idle <= 4; idle++) {
		fill_pool(idle);
		expect_refused();
		expect_nothing_left(idle);
	}
	pg_bouncer_reload(&bouncer, "statement", "");
	expect_refused();
}

Test(pgbouncer, they_are_refused_also_where_the_pool_goes_round, .fini = end)
{
	begin_pool("transaction", "server_round_robin = 1");
	for (int idle = 1; idle <= 4; idle++) {
		fill_pool(idle);
		expect_refused();
		expect_nothing_left(idle);
	}
}

Test(pgbouncer, a_mode_that_is_changed_under_a_daemon_is_told_and_gone_on_after, .init = begin, .fini = end)
{
	pg_bouncer_reload(&bouncer, "transaction", "");
	/* Its session is another's now and then. */
	for (double last = run_now_s() + PATIENCE_S;;) {
		struct run_status said;

		fill_pool(3);
		run_status_ask(&d, &said);
		if (strstr(said.source, "is a pool that shares its sessions") != NULL)
			break;
		cr_assert_lt(run_now_s(), last, "status never says it, but '%s'", said.source);
	}
	run_status_expect_away(&d, "set pgbouncer's pool_mode to session");
	run_reads_expect(&reads);
	pg_bouncer_reload(&bouncer, "session", "");
	expect_followed("afterwards");
	run_status_await_connected(&d);
	expect_equal();
}
