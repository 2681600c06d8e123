/* SPDX-License-Identifier: Apache-2.0
 * A database on the network fails in every way it can, and the cache goes on: with a real
 * PostgreSQL, a real shmetad, and a link between the two that can be held, cut and robbed. In each
 * test a process reads as fast as it can from the first moment to the last and none of its reads
 * may fail; `status` says what is wrong and since when; at the end cache and tables are equal. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/link.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_reads.h"
#include "tests/support/run_status.h"
#include "tests/support/run_tool.h"
#include "tests/support/run_topic.h"

TestSuite(postgres_faults, .timeout = 600);

enum { PATIENCE_S = RUN_READS_PATIENCE_S };

static struct pg_cluster server;
static struct link l;
static struct run_daemon d;
static PGconn *sql;
static struct run_reads reads;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static char direct[200]; /* the source's uri past the link */

/* ---- looking ---- */

static void pause_ms(long ms)
{
	(void)usleep((useconds_t)ms * 1000);
}

static void expect_reads(void)
{
	run_reads_expect(&reads);
}

/* It is away, status says since when and in these words why, the phase says so too, and it lets no
 * secret out. */
static void expect_away(const char *why)
{
	run_status_expect_away(&d, why);
	expect_reads();
}

static void await_connected(void)
{
	run_status_await_connected(&d);
	expect_reads();
}

static uint64_t watermark_of(struct shmeta_reader *with, const char *topic, uint32_t partition)
{
	struct shmeta_partition p = {.high_watermark = 0};
	enum shmeta_status status;

	cr_assert_eq(run_daemon_begin(with), SHMETA_OK);
	status = shmeta_get_partition_named(with, topic, strlen(topic), partition, NULL, &p, NULL);
	(void)shmeta_end(with);
	return status == SHMETA_OK ? p.high_watermark : 0;
}

static uint64_t watermark(const char *topic, uint32_t partition)
{
	return watermark_of(reader, topic, partition);
}

static void await_watermark(const char *topic, uint32_t partition, uint64_t value)
{
	for (double end = run_now_s() + PATIENCE_S; watermark(topic, partition) != value; pause_ms(2))
		cr_assert_lt(run_now_s(), end, "%s %u shows %lu, not %lu", topic, partition,
		             watermark(topic, partition), value);
}

static void set_watermark(const char *topic, uint32_t partition, uint64_t value)
{
	char text[160];

	(void)snprintf(text, sizeof text,
	               "UPDATE partitions SET high_watermark = %lu WHERE topic = '%s' AND partition_id = %u", value,
	               topic, partition);
	pg_cluster_sql(sql, text);
}

static void expect_equal(void)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s --timeout %us verify --source '%s'", d.instance, run_rounds(15, 60), direct);
	cr_expect_eq(t.code, 0, "verify: exit status %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	expect_reads();
}

static void reconnect_sql(void)
{
	PQfinish(sql);
	sql = pg_cluster_connect(&server, "meta");
}

/* ---- a place ---- */

#define CONFIG(reconcile)                                                             \
	"feed { poll_min_ms = 5ms poll_max_ms = 50ms reconcile_s = " reconcile " }\n" \
	"retry { min_ms = 50ms max_ms = 200ms }\n"
static const char *config_text = CONFIG("0");

/* more: of the section source. */
static void configure(const char *more)
{
	FILE *f = fopen(d.config, "we");

	cr_assert_not_null(f);
	(void)fprintf(f, "source { timeout_ms = 1s %s }\n%s", more, config_text);
	(void)fclose(f);
}

static void start_server(const char *const *settings)
{
	pg_cluster_start(&server, settings);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", direct, sizeof direct);
	sql = pg_cluster_connect(&server, "meta");
	cr_assert_eq(run_daemon_init(&d), 0);
}

/* A reader of ours, all that was seeded, and the process that reads. */
static void attach(void)
{
	instance = run_daemon_open(&d, "test", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	for (double end = run_now_s() + PATIENCE_S; run_reads_one(reader, (uint64_t)RUN_READS_SEGMENTS * 10 - 1) != 0;
	     pause_ms(2))
		cr_assert_lt(run_now_s(), end, "what was seeded does not come");
	run_reads_start(&reads, &d);
}

/* uri NULL: through the link. */
static void start_daemon(const char *uri)
{
	char through[200];

	(void)snprintf(through, sizeof through, "postgresql:host=%s port=%d user=shmeta dbname=meta", l.host, l.port);
	cr_assert_eq(run_daemon_start(&d, uri != NULL ? uri : through), 0);
	pg_cluster_sql(sql, run_reads_seed);
	attach();
}

static void begin(void)
{
	start_server(NULL);
	cr_assert_eq(link_start(&l, LINK_UNIX, server.dir, 5432), 0);
	configure("");
	start_daemon(NULL);
}

/* Without the link: its socket would be there when the server's is not. */
static void begin_direct(void)
{
	start_server(NULL);
	configure("");
	start_daemon(direct);
}

static void end(void)
{
	run_reads_end(&reads);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	run_daemon_done(&d);
	link_end(&l);
	PQfinish(sql);
	pg_cluster_stop(&server);
}

static int64_t age_ms(void)
{
	struct run_status said;

	run_status_ask(&d, &said);
	return said.age_ms;
}

/* ---- the server ---- */

Test(postgres_faults, while_the_server_is_stopped_reads_go_on_ages_grow_and_status_says_why, .init = begin_direct,
     .fini = end)
{
	int64_t before;
	uint64_t done;
	double began;
	struct run_status said;

	pg_cluster_down(&server, false);
	expect_away("connection to server on socket");
	before = age_ms();
	done = atomic_load(&reads.told->done);
	began = run_now_s();
	pause_ms(run_rounds(1500, 60000));
	done = atomic_load(&reads.told->done) - done;
	began = run_now_s() - began;
	cr_expect_gt(age_ms(), before + 1000);
	expect_away("connection to server on socket");
	run_status_ask(&d, &said);
	figure("PostgreSQL stopped", (uint64_t)began, 3600, "seconds", "%lu lookups by one process, %lu failed", done,
	       atomic_load(&reads.told->failed));
	pg_cluster_up(&server);
	reconnect_sql();
	set_watermark("topic-1", 1, 4711);
	await_connected();
	await_watermark("topic-1", 1, 4711);
	expect_equal();
}

Test(postgres_faults, a_daemon_started_while_the_server_is_away_serves_what_it_had, .init = begin_direct, .fini = end)
{
	pg_cluster_down(&server, true);
	expect_away("connection to server on socket");
	cr_expect_eq(run_daemon_end(&d, SIGTERM), 0);
	expect_reads();
	cr_assert_eq(run_daemon_spawn(&d, direct), 0);
	expect_away("connection to server on socket");
	pg_cluster_up(&server);
	reconnect_sql();
	set_watermark("topic-0", 1, 616);
	await_watermark("topic-0", 1, 616);
	await_connected();
	expect_equal();
}

Test(postgres_faults, a_daemon_started_for_the_first_time_while_the_server_is_away_loads_when_it_comes)
{
	struct run_tool t;

	start_server(NULL);
	configure("");
	PQfinish(sql);
	pg_cluster_down(&server, false);
	cr_assert_eq(run_daemon_spawn(&d, direct), 0);
	for (double last = run_now_s() + PATIENCE_S;; pause_ms(20)) {
		int told;

		run_tool(&t, "shmetactl --dir %s status", d.instance);
		told = strstr(t.out, "away since ") != NULL && strstr(t.out, "connection to server on socket") != NULL;
		run_tool_done(&t);
		if (told)
			break;
		cr_assert_lt(run_now_s(), last, "status never says why nothing is there");
	}
	pg_cluster_up(&server);
	sql = pg_cluster_connect(&server, "meta");
	cr_assert_eq(run_daemon_wait(&d, 0), 0);
	pg_cluster_sql(sql, run_reads_seed);
	attach();
	expect_equal();
	end();
}

/* Writes beside all restarts, by a process that takes each failure as it comes. */
static int write_through_restarts(const _Atomic int *stop, _Atomic uint64_t *committed)
{
	char conninfo[160], text[160];
	PGconn *conn = NULL;

	(void)snprintf(conninfo, sizeof conninfo, "host=%s user=shmeta dbname=meta", server.dir);
	for (uint64_t i = 1; !atomic_load(stop); i++) {
		PGresult *result;

		if (conn == NULL || PQstatus(conn) != CONNECTION_OK) {
			PQfinish(conn);
			conn = PQconnectdb(conninfo);
			pause_ms(5);
			continue;
		}
		(void)snprintf(text, sizeof text,
		               "UPDATE partitions SET high_watermark = high_watermark + 1 WHERE topic = 'topic-%d' AND "
		               "partition_id = %d",
		               (int)(i % RUN_READS_TOPICS), (int)(i / RUN_READS_TOPICS % RUN_READS_PARTITIONS));
		result = PQexec(conn, text);
		if (PQresultStatus(result) == PGRES_COMMAND_OK)
			atomic_fetch_add(committed, 1);
		PQclear(result);
	}
	PQfinish(conn);
	return 0;
}

Test(postgres_faults, restarts_under_load_lose_no_change, .init = begin, .fini = end)
{
	_Atomic uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	_Atomic int *stop = (_Atomic int *)(shared + 1);
	pid_t writing;

	cr_assert_neq(shared, MAP_FAILED);
	writing = run_fork();
	if (writing == 0)
		_exit(write_through_restarts(stop, shared));
	for (int i = 0; i < (int)run_rounds(3, 20); i++) {
		uint64_t before = atomic_load(shared);

		for (double last = run_now_s() + PATIENCE_S; atomic_load(shared) < before + 100; pause_ms(2))
			cr_assert_lt(run_now_s(), last, "nothing is written");
		pg_cluster_down(&server, i % 2 == 0);
		pause_ms(100);
		pg_cluster_up(&server);
		expect_reads();
	}
	atomic_store(stop, 1);
	cr_expect_eq(run_reap(writing), 0);
	reconnect_sql();
	set_watermark("topic-0", 0, 999999);
	await_watermark("topic-0", 0, 999999);
	await_connected();
	expect_equal();
	(void)munmap((void *)shared, 4096);
}

/* Process ids of the daemon's sessions, at most `most`. */
static int sessions(pid_t *ret, int most)
{
	PGresult *result = PQexec(sql, "SELECT pid FROM pg_stat_activity WHERE application_name = 'shmetad'");
	int count = PQntuples(result) < most ? PQntuples(result) : most;

	for (int i = 0; i < count; i++)
		ret[i] = atoi(PQgetvalue(result, i, 0));
	PQclear(result);
	return count;
}

Test(postgres_faults, a_frozen_backend_is_left_by_our_own_deadline, .init = begin, .fini = end)
{
	pid_t frozen[8];
	int count = sessions(frozen, 8);

	if (geteuid() != 0 && count > 0 && kill(frozen[0], 0) != 0)
		cr_assert(0, "not allowed to stop what we started");
	cr_assert_gt(count, 0);
	for (int i = 0; i < count; i++)
		cr_assert_eq(kill(frozen[i], SIGSTOP), 0);
	/* The session is given up and another is made, while the frozen one stays frozen. */
	set_watermark("topic-2", 0, 31337);
	await_watermark("topic-2", 0, 31337);
	await_connected();
	for (int i = 0; i < count; i++)
		(void)kill(frozen[i], SIGCONT);
	expect_equal();
}

static pid_t postmaster(void)
{
	char path[96], *text;
	pid_t pid;

	(void)snprintf(path, sizeof path, "%s/data/postmaster.pid", server.dir);
	text = run_read_file(path);
	cr_assert_not_null(text);
	pid = atoi(text);
	free(text);
	return pid;
}

Test(postgres_faults, a_frozen_server_is_asked_by_one_attempt_at_a_time, .init = begin, .fini = end)
{
	pid_t frozen[9];
	int count = sessions(frozen, 8);
	struct link_counts before, after;
	double last;

	frozen[count++] = postmaster();
	link_counts(&l, &before);
	for (int i = count - 1; i >= 0; i--)
		cr_assert_eq(kill(frozen[i], SIGSTOP), 0);
	expect_away("no answer within");
	/* Three attempts more, none beside another. */
	link_counts(&l, &before);
	last = run_now_s() + PATIENCE_S;
	do {
		pause_ms(100);
		expect_reads();
		link_counts(&l, &after);
		cr_assert_lt(run_now_s(), last, "it is never tried again");
	} while (after.accepted < before.accepted + 3);
	cr_expect_eq(after.most_at_once, 1);
	expect_away("no answer within");
	for (int i = count - 1; i >= 0; i--)
		(void)kill(frozen[i], SIGCONT);
	set_watermark("topic-3", 1, 777);
	await_watermark("topic-3", 1, 777);
	await_connected();
	expect_equal();
}

Test(postgres_faults, terminated_sessions_are_made_anew_and_nothing_between_is_missed, .init = begin, .fini = end)
{
	for (uint64_t i = 1; i <= run_rounds(5, 100); i++) {
		pg_cluster_sql(
			sql,
			"BEGIN; UPDATE partitions SET high_watermark = high_watermark + 1; "
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shmetad'; "
			"COMMIT");
		set_watermark("topic-0", 1, 5000 + i);
		await_watermark("topic-0", 1, 5000 + i);
	}
	await_connected();
	expect_equal();
}

/* ---- the link ---- */

Test(postgres_faults, a_dead_link_is_noticed_and_left, .init = begin, .fini = end)
{
	cr_assert_eq(link_mode(&l, LINK_HOLD), 0);
	set_watermark("topic-2", 1, 888);
	expect_away("no answer within");
	cr_expect_neq(watermark("topic-2", 1), 888);
	cr_assert_eq(link_cut(&l), 0);
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	await_watermark("topic-2", 1, 888);
	await_connected();
	expect_equal();
}

Test(postgres_faults, a_link_cut_again_and_again_under_load_loses_no_change, .init = begin, .fini = end)
{
	for (uint64_t i = 1; i <= run_rounds(20, 300); i++) {
		set_watermark("topic-1", 0, 10000 + i);
		pause_ms((long)(i % 7));
		cr_assert_eq(link_cut(&l), 0);
	}
	await_watermark("topic-1", 0, 10000 + run_rounds(20, 300));
	await_connected();
	expect_equal();
}

Test(postgres_faults, a_poll_whose_answer_is_lost_is_done_again, .init = begin, .fini = end)
{
	static const char *const patterns[] = {"shmeta_FEED_CHANGES", "shmeta_KEY_PARTITIONS", "shmeta_COMMIT",
	                                       "shmeta_BEGIN_READ"};
	struct link_counts c;

	for (uint64_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
		for (int loss = LINK_LOSE_REQUEST; loss <= LINK_STALL_ANSWER; loss++) {
			link_counts(&l, &c);
			cr_assert_eq(link_trap(&l, (enum link_loss)loss, patterns[i], strlen(patterns[i]), 1), 0);
			set_watermark("topic-3", 0, 20000 + i * 10 + (uint64_t)loss);
			await_watermark("topic-3", 0, 20000 + i * 10 + (uint64_t)loss);
			cr_expect_eq(link_wait_caught(&l, c.caught + 1, PATIENCE_S * 1000), 0, "%s was never sent",
			             patterns[i]);
			cr_assert_eq(link_trap(&l, (enum link_loss)loss, NULL, 0, 0), 0);
			cr_assert_eq(link_cut(&l), 0);
		}
	}
	await_connected();
	expect_equal();
}

/* ---- who is let in ---- */

static void let_in_role(const char *how)
{
	char path[96], line[200];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/data/pg_hba.conf", server.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)snprintf(line, sizeof line, "local all shmeta trust\n%s\n", how);
	(void)fputs(line, f);
	(void)fclose(f);
	pg_cluster_sql(sql, "SELECT pg_reload_conf()");
}

static void write_password(const char *password)
{
	char path[96];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/password", d.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fprintf(f, "%s\n", password);
	(void)fclose(f);
}

/* A role of its own that owns the database, with a password. */
static void begin_with_password(void)
{
	char more[160], uri[200];

	start_server(NULL);
	pg_cluster_sql(sql, "CREATE ROLE app LOGIN PASSWORD 'first-secret'; ALTER DATABASE meta OWNER TO app; "
	                    "ALTER SCHEMA public OWNER TO app");
	let_in_role("local all app scram-sha-256");
	cr_assert_eq(link_start(&l, LINK_UNIX, server.dir, 5432), 0);
	write_password("first-secret");
	(void)snprintf(more, sizeof more, "password_file = \"%s/password\"", d.dir);
	configure(more);
	(void)snprintf(uri, sizeof uri, "postgresql:host=%s port=%d user=app dbname=meta", l.host, l.port);
	start_daemon(uri);
}

static void terminate_sessions(void)
{
	pg_cluster_sql(sql,
	               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shmetad'");
}

static void expect_no_secret_in_the_log(void)
{
	char *log = run_read_file(d.log);

	cr_assert_not_null(log);
	cr_expect_null(strstr(log, "secret"), "%s", log);
	free(log);
}

Test(postgres_faults, a_rotated_password_is_told_tried_rarely_and_read_anew, .init = begin_with_password, .fini = end)
{
	struct link_counts before, after;

	/* The server first, then the file: the order in which it hurts. */
	pg_cluster_sql(sql, "ALTER ROLE app PASSWORD 'second-secret'");
	terminate_sessions();
	expect_away("password authentication failed");
	link_counts(&l, &before);
	pause_ms(2000);
	link_counts(&l, &after);
	/* The retry timer of 200 ms would have made ten. */
	cr_expect_leq(after.accepted, before.accepted + 1);
	write_password("second-secret");
	set_watermark("topic-0", 0, 1234);
	await_watermark("topic-0", 0, 1234);
	await_connected();
	expect_equal();
	expect_no_secret_in_the_log();
}

Test(postgres_faults, too_many_connections_are_waited_out, .init = begin_with_password, .fini = end)
{
	pg_cluster_sql(sql, "ALTER ROLE app CONNECTION LIMIT 0");
	terminate_sessions();
	expect_away("too many connections");
	pg_cluster_sql(sql, "ALTER ROLE app CONNECTION LIMIT -1");
	set_watermark("topic-0", 0, 4321);
	await_watermark("topic-0", 0, 4321);
	await_connected();
	expect_equal();
}

/* ---- writing through it ---- */

static struct shmeta_client *client;

static void open_client(void)
{
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

static void begin_writing(void)
{
	begin();
	open_client();
}

static void begin_writing_direct(void)
{
	begin_direct();
	open_client();
}

static void end_writing(void)
{
	shmeta_client_close(client);
	end();
}

/* The server knows what became of a transaction, and is asked by the transaction's id. */
Test(postgres_faults, a_commit_whose_answer_is_lost_is_looked_up_and_done_once, .init = begin_writing,
     .fini = end_writing)
{
	static const enum link_loss losses[] = {LINK_LOSE_ANSWER, LINK_STALL_ANSWER, LINK_LOSE_REQUEST};

	for (int i = 0; i < 3; i++) {
		int committed = losses[i] != LINK_LOSE_REQUEST;
		struct shmeta_result result;
		struct link_counts c;
		enum shmeta_status status;
		char name[24];

		(void)snprintf(name, sizeof name, "lost-%d", i);
		await_connected();
		link_counts(&l, &c);
		cr_assert_eq(link_trap_behind(&l, losses[i], "shmeta_W_BEGIN", "shmeta_COMMIT", 1), 0);
		status = run_topic_create(client, name, 1, &result);
		cr_assert_eq(link_wait_caught(&l, c.caught + 1, 0), 0, "the trap caught nothing");
		cr_expect_eq(status, committed ? SHMETA_OK : SHMETA_ERR_SOURCE, "%d: %s: %s", i,
		             shmeta_strerror(status), result.text);
		cr_expect_eq(run_topic_stored(sql, name), committed);
		run_topic_await(reader, name, committed);
	}
	await_connected();
	expect_equal();
}

/* Nobody can be asked: so nobody is told that it was done, nor that it was not; the cache shows
 * which, later. */
Test(postgres_faults, an_outcome_that_cannot_be_looked_up_is_told_as_unknown, .init = begin_writing,
     .fini = end_writing)
{
	struct shmeta_result result;
	struct link_counts c;
	enum shmeta_status status;
	pid_t cutter;

	link_counts(&l, &c);
	cr_assert_eq(link_trap_behind(&l, LINK_STALL_ANSWER, "shmeta_W_BEGIN", "shmeta_COMMIT", 1), 0);
	cutter = run_fork();
	if (cutter == 0)
		_exit(link_wait_caught(&l, c.caught + 1, PATIENCE_S * 1000) != 0 || link_mode(&l, LINK_REFUSE) != 0);
	status = run_topic_create(client, "unknown", 1, &result);
	cr_assert_eq(run_reap(cutter), 0);
	cr_expect_eq(status, SHMETA_ERR_OUTCOME_UNKNOWN, "%s: %s", shmeta_strerror(status), result.text);
	cr_expect_eq(run_topic_stored(sql, "unknown"), 1);
	expect_away("Connection refused");
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	run_topic_await(reader, "unknown", 1);
	status = run_topic_create(client, "unknown", 1, &result);
	cr_expect_eq(status, SHMETA_ERR_ALREADY_EXISTS, "%s", shmeta_strerror(status));
	await_connected();
	expect_equal();
}

/* Rolled back, a sequence does not go back: so a trigger can fail so many times. */
static void storm(const char *sqlstate, int times)
{
	char text[700];

	(void)snprintf(
		text, sizeof text,
		"DROP SEQUENCE IF EXISTS storm; CREATE SEQUENCE storm; "
		"CREATE OR REPLACE FUNCTION storm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
		"IF nextval('storm') <= %d THEN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = 'storm'; END IF; "
		"RETURN NEW; END $$; "
		"CREATE OR REPLACE TRIGGER storm BEFORE INSERT ON topics FOR EACH ROW EXECUTE FUNCTION storm()",
		times, sqlstate);
	pg_cluster_sql(sql, text);
}

static int64_t storm_tries(void)
{
	PGresult *result = PQexec(sql, "SELECT last_value FROM storm");
	int64_t tries = atoll(PQgetvalue(result, 0, 0));

	PQclear(result);
	return tries;
}

Test(postgres_faults, conflicts_are_tried_again_a_bounded_number_of_times, .init = begin_writing, .fini = end_writing)
{
	static const char *const codes[] = {"40001", "40P01"};
	struct shmeta_result result;

	for (int i = 0; i < 2; i++) {
		char name[16];

		(void)snprintf(name, sizeof name, "stormy-%d", i);
		storm(codes[i], 3);
		cr_expect_eq(run_topic_create(client, name, 1, &result), SHMETA_OK, "%s", result.text);
		cr_expect_eq(storm_tries(), 4);
		run_topic_await(reader, name, 1);
	}
	storm("40001", 1000000);
	cr_expect_neq(run_topic_create(client, "never", 1, &result), SHMETA_OK);
	cr_expect_lt(storm_tries(), 60);
	cr_expect_eq(run_topic_stored(sql, "never"), 0);
	pg_cluster_sql(sql, "DROP TRIGGER storm ON topics");
	await_connected();
	cr_expect_eq(run_topic_create(client, "at-last", 1, &result), SHMETA_OK);
	run_topic_await(reader, "at-last", 1);
	expect_equal();
}

enum { OTHERS = 10, THEIR_WRITES = 30 };

/* Its own partition again and again; the number of writes that were not done. */
static int write_to(uint32_t number, const _Atomic int *stop)
{
	struct shmeta *its = run_daemon_open(&d, "test", 0);
	struct shmeta_client *with = NULL;
	char topic[16];
	int failed = 0;

	if (its == NULL || shmeta_client_open(its, NULL, &with) != SHMETA_OK)
		return 100;
	(void)snprintf(topic, sizeof topic, "own-%u", number);
	for (uint64_t i = 1; stop != NULL ? !atomic_load(stop) : i <= THEIR_WRITES; i++) {
		struct shmeta_op op = {
			.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {topic, strlen(topic)}, .offset = i};
		struct shmeta_result result = {.status = SHMETA_OK};
		enum shmeta_status status = shmeta_write(with, &op, 1, PATIENCE_S * 1000, &result, NULL);

		/* Whoever meets the lock is told so, each time. */
		if (status != SHMETA_OK || result.status != (stop != NULL ? SHMETA_ERR_BUSY : SHMETA_OK))
			failed++;
	}
	shmeta_client_close(with);
	shmeta_close(its);
	return failed;
}

/* A lock that another session holds harms the operations that need what it locks: they are told
 * BUSY, whoever else writes or reads goes on, and the source is not called away. */
Test(postgres_faults, a_row_locked_by_another_session_harms_nobody_who_does_not_need_it, .init = begin_writing,
     .fini = end_writing)
{
	_Atomic int *stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"own-0", 5}};
	const struct shmeta_read fresh = {
		.size = sizeof fresh, .consistency = SHMETA_FRESH, .timeout_ms = PATIENCE_S * 1000};
	PGconn *other = pg_cluster_connect(&server, "meta");
	struct shmeta_result result = {.status = SHMETA_OK};
	struct shmeta_partition p;
	pid_t writers[OTHERS + 1];
	char *log;

	cr_assert_neq(stop, MAP_FAILED);
	cr_assert_eq(shmeta_request_id(op.request_id), SHMETA_OK);
	for (uint32_t i = 0; i <= OTHERS; i++) {
		char name[16];

		(void)snprintf(name, sizeof name, "own-%u", i);
		cr_assert_eq(run_topic_create(client, name, 1, &result), SHMETA_OK, "%s", result.text);
	}
	pg_cluster_sql(other, "BEGIN; SELECT 1 FROM partitions WHERE topic = 'own-0' FOR UPDATE");
	for (uint32_t i = 0; i <= OTHERS; i++) {
		writers[i] = run_fork();
		if (writers[i] == 0)
			_exit(write_to(i, i == 0 ? stop : NULL));
	}
	for (uint32_t i = 1; i <= OTHERS; i++)
		cr_expect_eq(run_reap(writers[i]), 0, "writer %u", i);
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	cr_expect_eq(shmeta_get_partition_named(reader, "own-0", 5, 0, &fresh, &p, NULL), SHMETA_OK);
	(void)shmeta_end(reader);
	cr_expect_eq(shmeta_write(client, &op, 1, PATIENCE_S * 1000, &result, NULL), SHMETA_OK);
	cr_expect_eq(result.status, SHMETA_ERR_BUSY);
	cr_expect_not_null(strstr(result.text, "topic 'own-0', partition 0 is locked"), "%s", result.text);
	atomic_store(stop, 1);
	cr_expect_eq(run_reap(writers[0]), 0);
	await_connected();
	/* The same request: it was not done, so it is done now. */
	pg_cluster_sql(other, "COMMIT");
	PQfinish(other);
	cr_expect_eq(shmeta_write(client, &op, 1, PATIENCE_S * 1000, &result, NULL), SHMETA_OK);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	log = run_read_file(d.log);
	cr_assert_not_null(log);
	cr_expect_null(strstr(log, "source_away"), "%s", log);
	free(log);
	expect_equal();
	(void)munmap((void *)stop, 4096);
}

/* A migration that takes its time: what needs the table waits for it, whatever does not goes on,
 * and the source is not called away. */
Test(postgres_faults, a_table_locked_by_a_migration_holds_up_what_needs_it_alone, .init = begin_writing,
     .fini = end_writing)
{
	struct shmeta_op add = {.type = SHMETA_OP_ADD_SEGMENT,
	                        .name = {"topic-1", 7},
	                        .u.segment = {.base_offset = 700000,
	                                      .end_offset = 700009,
	                                      .record_count = 10,
	                                      .id = {"late", 4},
	                                      .s3_bucket = {"b", 1},
	                                      .s3_key = {"k", 1}}};
	struct shmeta_op group = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = {"g", 1}};
	PGconn *other = pg_cluster_connect(&server, "meta");
	struct shmeta_result result = {.status = SHMETA_OK};
	char *log;

	pg_cluster_sql(other, "BEGIN; LOCK TABLE segments IN ACCESS EXCLUSIVE MODE");
	cr_expect_eq(shmeta_write(client, &add, 1, PATIENCE_S * 1000, &result, NULL), SHMETA_OK);
	cr_expect_eq(result.status, SHMETA_ERR_BUSY, "%s", result.text);
	cr_expect_not_null(strstr(result.text, "the table segments is locked"), "%s", result.text);
	cr_expect_eq(shmeta_write(client, &group, 1, PATIENCE_S * 1000, &result, NULL), SHMETA_OK);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	expect_reads();
	await_connected();
	pg_cluster_sql(other, "COMMIT");
	PQfinish(other);
	cr_expect_eq(shmeta_write(client, &add, 1, PATIENCE_S * 1000, &result, NULL), SHMETA_OK);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	set_watermark("topic-0", 1, 4242);
	await_watermark("topic-0", 1, 4242);
	log = run_read_file(d.log);
	cr_assert_not_null(log);
	cr_expect_null(strstr(log, "source_away"), "%s", log);
	free(log);
	expect_equal();
}

Test(postgres_faults, writes_while_the_server_is_away_fail_with_its_words_and_do_nothing, .init = begin_writing_direct,
     .fini = end_writing)
{
	struct shmeta_result result;
	enum shmeta_status status;

	pg_cluster_down(&server, true);
	expect_away("connection to server on socket");
	status = run_topic_create(client, "nowhere", 1, &result);
	cr_expect_eq(status, SHMETA_ERR_SOURCE, "%s", shmeta_strerror(status));
	pg_cluster_up(&server);
	reconnect_sql();
	await_connected();
	cr_expect_eq(run_topic_stored(sql, "nowhere"), 0);
	cr_expect_eq(run_topic_create(client, "nowhere", 1, &result), SHMETA_OK);
	expect_equal();
}

/* ---- the feed ---- */

Test(postgres_faults, a_long_transaction_of_somebody_else_does_not_hold_up_the_feed, .init = begin, .fini = end)
{
	PGconn *other = pg_cluster_connect(&server, "meta");

	pg_cluster_sql(other,
	               "BEGIN; UPDATE partitions SET high_watermark = 66 WHERE topic = 'topic-3' AND partition_id = 0");
	for (uint64_t i = 1; i <= 20; i++) {
		set_watermark("topic-0", 0, 30000 + i);
		await_watermark("topic-0", 0, 30000 + i);
	}
	cr_expect_neq(watermark("topic-3", 0), 66);
	pg_cluster_sql(other, "COMMIT");
	await_watermark("topic-3", 0, 66);
	PQfinish(other);
	expect_equal();
}

/* Writers that commit in another order than they began, and roll back one time in five; no
 * comparison helps the feed. */
static int write_at_random(unsigned seed, uint32_t rounds)
{
	PGconn *conn = pg_cluster_connect(&server, "meta");
	char text[200];

	for (uint32_t i = 0; i < rounds; i++) {
		pg_cluster_sql(conn, "BEGIN");
		(void)snprintf(text, sizeof text,
		               "INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES "
		               "('random-%u-%u', 1, 1, 1, '{}')",
		               seed, i);
		pg_cluster_sql(conn, text);
		if (rand_r(&seed) % 5 == 0)
			(void)usleep((useconds_t)(rand_r(&seed) % 20000));
		pg_cluster_sql(conn, rand_r(&seed) % 10 == 0 ? "ROLLBACK" : "COMMIT");
	}
	PQfinish(conn);
	return 0;
}

Test(postgres_faults, no_change_is_missed_however_transactions_overlap, .init = begin, .fini = end)
{
	pid_t writers[16];
	PGresult *result;

	for (unsigned i = 0; i < 16; i++) {
		writers[i] = run_fork();
		if (writers[i] == 0)
			_exit(write_at_random(i * 1000003 + 1, run_rounds(30, 2000)));
	}
	for (int i = 0; i < 16; i++)
		cr_expect_eq(run_reap(writers[i]), 0);
	pg_cluster_sql(sql, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES "
	                    "('the-last', 1, 1, 1, '{}')");
	run_topic_await(reader, "the-last", 1);
	result = PQexec(sql, "SELECT count(*) FROM topics");
	figure("commits of 16 writers that overlap, wait and roll back", strtoull(PQgetvalue(result, 0, 0), NULL, 10),
	       1000000, "topics", "0 missed by the feed");
	PQclear(result);
	expect_equal();
}

static void begin_with_reconcile(void)
{
	start_server(NULL);
	cr_assert_eq(link_start(&l, LINK_UNIX, server.dir, 5432), 0);
	config_text = CONFIG("1s");
	configure("");
	start_daemon(NULL);
}

Test(postgres_faults, what_no_trigger_tells_is_found_by_the_reconcile, .init = begin_with_reconcile, .fini = end)
{
	pg_cluster_sql(
		sql,
		"BEGIN; SET LOCAL session_replication_role = replica; "
		"UPDATE partitions SET high_watermark = 70001 WHERE topic = 'topic-0' AND partition_id = 0; COMMIT");
	await_watermark("topic-0", 0, 70001);
	pg_cluster_sql(sql,
	               "BEGIN; ALTER TABLE partitions DISABLE TRIGGER USER; "
	               "UPDATE partitions SET high_watermark = 70002 WHERE topic = 'topic-0' AND partition_id = 0; "
	               "ALTER TABLE partitions ENABLE TRIGGER USER; COMMIT");
	await_watermark("topic-0", 0, 70002);
	expect_equal();
	/* The reads of this process end here: what it reads goes away. */
	run_reads_end(&reads);
	pg_cluster_sql(sql, "TRUNCATE topics CASCADE");
	run_topic_await(reader, "topic-0", 0);
}

/* ---- what helps and is never needed ---- */

static void begin_with_notify(void)
{
	start_server(NULL);
	cr_assert_eq(link_start(&l, LINK_UNIX, server.dir, 5432), 0);
	/* So slow a poll that what is seen soon was told by the hint. */
	config_text = "feed { notify = on poll_min_ms = 2s poll_max_ms = 3s reconcile_s = 0 }\n"
		      "retry { min_ms = 50ms max_ms = 200ms }\n";
	configure("");
	start_daemon(NULL);
}

Test(postgres_faults, a_hint_that_is_lost_costs_time_and_no_change, .init = begin_with_notify, .fini = end)
{
	struct link_counts c;

	for (uint64_t i = 1; i <= 3; i++) {
		pg_cluster_sql(
			sql,
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shmetad' "
			"AND query LIKE 'LISTEN%'");
		set_watermark("topic-0", 0, 50000 + i);
		await_watermark("topic-0", 0, 50000 + i);
	}
	/* Its connection cannot be made: nobody answers to LISTEN. */
	link_counts(&l, &c);
	cr_assert_eq(link_trap(&l, LINK_STALL_ANSWER, "LISTEN", 6, 1), 0);
	pg_cluster_sql(sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shmetad' "
	                    "AND query LIKE 'LISTEN%'");
	set_watermark("topic-0", 0, 50010);
	cr_expect_eq(link_wait_caught(&l, c.caught + 1, PATIENCE_S * 1000), 0);
	await_watermark("topic-0", 0, 50010);
	cr_assert_eq(link_cut(&l), 0);
	set_watermark("topic-0", 0, 50011);
	await_watermark("topic-0", 0, 50011);
	await_connected();
	/* Whatever an application writes is none of the trigger's business: a name of 2000 bytes is
	 * our trouble alone. */
	pg_cluster_sql(sql, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES "
	                    "(repeat('n', 2000), 1, 1, 1, '{}'); DELETE FROM topics WHERE length(name) = 2000");
	set_watermark("topic-0", 0, 50012);
	await_watermark("topic-0", 0, 50012);
	expect_equal();
}

static struct pg_cluster standby;

/* The primary without a link, the replica behind it. */
static void begin_with_replica(void)
{
	char more[200];

	start_server(NULL);
	pg_cluster_start_standby(&standby, &server);
	cr_assert_eq(link_start(&l, LINK_UNIX, standby.dir, 5432), 0);
	(void)snprintf(more, sizeof more, "read_uri = \"postgresql:host=%s port=%d user=shmeta dbname=meta\"", l.host,
	               l.port);
	configure(more);
	start_daemon(direct);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

static void end_with_replica(void)
{
	shmeta_client_close(client);
	pg_cluster_stop(&standby);
	end();
}

/* What is written is there when the write has been answered, and what others write comes. */
static void expect_followed(uint64_t value)
{
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"topic-1", 7}, .offset = value};
	struct shmeta_result result = {.status = SHMETA_OK};
	struct run_status said;

	cr_assert_eq(shmeta_write(client, &op, 1, PATIENCE_S * 1000, &result, NULL), SHMETA_OK);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
	cr_expect_eq(watermark("topic-1", 0), value);
	set_watermark("topic-1", 1, value);
	await_watermark("topic-1", 1, value);
	run_status_ask(&d, &said);
	cr_expect_str_eq(said.source, "connected");
	expect_reads();
}

Test(postgres_faults, a_replica_is_never_needed_whatever_becomes_of_it, .init = begin_with_replica,
     .fini = end_with_replica)
{
	PGconn *there = pg_cluster_connect(&standby, "meta");
	struct link_counts c;

	for (uint64_t value = 100000; value < 100010; value++)
		expect_followed(value);
	link_counts(&l, &c);
	cr_expect_gt(c.accepted, 0, "it is not read from at all");
	pg_cluster_sql(there, "SELECT pg_wal_replay_pause()");
	expect_followed(200001);
	pg_cluster_sql(there, "SELECT pg_wal_replay_resume()");
	expect_followed(200002);
	cr_assert_eq(link_mode(&l, LINK_HOLD), 0);
	expect_followed(200003);
	expect_followed(200004);
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	cr_assert_eq(link_cut(&l), 0);
	expect_followed(200005);
	PQfinish(there);
	pg_cluster_stop(&standby);
	expect_followed(200006);
	expect_followed(200007);
	expect_equal();
}

/* The standby is the source itself: nothing can be written there, so there is no feed, and
 * everything is read again and again. */
static void begin_on_standby(void)
{
	char uri[200];

	start_server(NULL);
	configure("");
	cr_assert_eq(run_daemon_start(&d, direct), 0); /* makes the tables */
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	pg_cluster_sql(sql, run_reads_seed);
	pg_cluster_start_standby(&standby, &server);
	cr_assert_eq(link_start(&l, LINK_UNIX, standby.dir, 5432), 0);
	config_text = "retry { min_ms = 50ms max_ms = 200ms }\n"
		      "ttl { topic_ms = 2s partition_ms = 2s segment_ms = 2s list_ms = 2s }\n";
	configure("");
	(void)snprintf(uri, sizeof uri, "postgresql:host=%s port=%d user=shmeta dbname=meta", l.host, l.port);
	cr_assert_eq(run_daemon_start(&d, uri), 0);
	attach();
}

static void end_on_standby(void)
{
	pg_cluster_stop(&standby);
	end();
}

Test(postgres_faults, a_link_that_dies_in_the_middle_of_a_full_pass_is_noticed, .init = begin_on_standby,
     .fini = end_on_standby)
{
	struct link_counts before, now;
	double last;

	/* Each pass becomes long enough to be met in its middle. */
	pg_cluster_sql(
		sql, "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		     "s3_bucket, s3_key, created_at) SELECT 'long-' || i, 'topic-0', 0, i * 10, i * 10 + 9, 10, 1000, "
		     "'bucket', 'key/long/' || i, 1 FROM generate_series(200, 60000) i");
	set_watermark("topic-3", 1, 60001);
	await_watermark("topic-3", 1, 60001);
	cr_assert_eq(link_delay(&l, 30), 0);
	last = run_now_s() + PATIENCE_S * 3 / 2; /* they rest nine times as long as they take */
	/* Half a megabyte without a pause is in the middle of the segments' rows. */
	link_counts(&l, &before);
	do {
		uint64_t down;

		link_counts(&l, &now);
		down = now.down;
		pause_ms(100);
		link_counts(&l, &now);
		if (now.down - down < 50000)
			before.down = now.down;
		cr_assert_lt(run_now_s(), last, "no full pass is made");
	} while (now.down - before.down < 500000);
	cr_assert_eq(link_mode(&l, LINK_HOLD), 0);
	set_watermark("topic-2", 1, 31313);
	expect_away("no answer within");
	cr_assert_eq(link_delay(&l, 0), 0);
	cr_assert_eq(link_cut(&l), 0);
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	await_watermark("topic-2", 1, 31313);
	await_connected();
	expect_equal();
}

Test(postgres_faults, a_source_without_a_feed_is_found_again_too, .init = begin_on_standby, .fini = end_on_standby)
{
	set_watermark("topic-3", 1, 60001);
	await_watermark("topic-3", 1, 60001);
	cr_assert_eq(link_mode(&l, LINK_HOLD), 0);
	set_watermark("topic-3", 1, 60002);
	expect_away("no answer within");
	cr_assert_eq(link_cut(&l), 0);
	cr_assert_eq(link_mode(&l, LINK_PASS), 0);
	await_watermark("topic-3", 1, 60002);
	await_connected();
	pg_cluster_down(&standby, true);
	expect_away("away since");
	pg_cluster_up(&standby);
	set_watermark("topic-3", 1, 60003);
	await_watermark("topic-3", 1, 60003);
	await_connected();
	expect_equal();
}

/* ---- another network ---- */

static pid_t keeper; /* holds the server's network namespace by its process id */

static int shell(const char *line)
{
	struct run_tool t;
	int code;

	run_tool(&t, "/bin/sh -c '%s'", line);
	code = t.code;
	if (code != 0)
		(void)fprintf(stderr, "%s: %s\n", line, t.err);
	run_tool_done(&t);
	return code;
}

static int enter(int fd)
{
	return setns(fd, CLONE_NEWNET);
}

/* A daemon on the server's own host beside the one across the network. */
static void check_two_hosts(int there, int here)
{
	struct run_daemon other;
	struct shmeta *its;
	struct shmeta_reader *with;
	struct run_tool t;

	cr_assert_eq(run_daemon_init(&other), 0);
	(void)snprintf(other.config, sizeof other.config, "%s", d.config);
	cr_assert_eq(enter(there), 0);
	cr_assert_eq(run_daemon_start(&other, "postgresql:host=10.77.0.1 user=shmeta dbname=meta"), 0);
	its = run_daemon_open(&other, "other", 0);
	with = its != NULL ? run_daemon_reader(its) : NULL;
	cr_assert_not_null(with);
	for (uint64_t i = 1; i <= 3; i++) {
		double began = run_now_s();

		cr_assert_eq(shell("ip link set server down"), 0);
		set_watermark("topic-2", 0, 90000 + i);
		for (double last = began + PATIENCE_S; watermark_of(with, "topic-2", 0) != 90000 + i; pause_ms(2))
			cr_assert_lt(run_now_s(), last, "the server's own host does not follow");
		expect_away("away since");
		figure("network cut in the middle of a query", 1, 0, "cut", "told by status after %.1f s",
		       run_now_s() - began);
		cr_expect_neq(watermark("topic-2", 0), 90000 + i);
		cr_assert_eq(shell("ip link set server up"), 0);
		await_watermark("topic-2", 0, 90000 + i);
		await_connected();
	}
	expect_equal();
	run_tool(&t, "shmetactl --dir %s verify --source '%s'", other.instance, direct);
	cr_expect_eq(t.code, 0, "verify of the other host: %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	shmeta_reader_free(with);
	shmeta_close(its);
	run_daemon_done(&other);
	cr_assert_eq(enter(here), 0);
}

Test(postgres_faults, a_network_that_goes_away_in_the_middle_of_a_query_is_noticed_by_the_one_host_and_not_the_other)
{
	static const char *const settings[] = {"listen_addresses=10.77.0.1", NULL};
	int there, here;
	char line[200];

	if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0)
		cr_skip_test("needs the right to make a network namespace");
	there = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	keeper = run_fork();
	if (keeper == 0) {
		pause();
		_exit(0);
	}
	cr_assert_eq(unshare(CLONE_NEWNET), 0);
	here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	(void)snprintf(line, sizeof line,
	               "ip link add client type veth peer name server && ip link set server netns %d && "
	               "ip address add 10.77.0.2/24 dev client && ip link set client up && ip link set lo up",
	               (int)keeper);
	if (shell(line) != 0) {
		(void)kill(keeper, SIGKILL);
		(void)run_reap(keeper);
		cr_skip_test("no veth here");
	}
	cr_assert_eq(enter(there), 0);
	cr_assert_eq(shell("ip address add 10.77.0.1/24 dev server && ip link set server up && ip link set lo up"), 0);
	start_server(settings);
	let_in_role("host all shmeta 10.77.0.0/24 trust");
	cr_assert_eq(enter(here), 0);
	configure("allow_insecure = on");
	start_daemon("postgresql:host=10.77.0.1 user=shmeta dbname=meta");
	check_two_hosts(there, here);
	end();
	(void)kill(keeper, SIGKILL);
	(void)run_reap(keeper);
}
