/* SPDX-License-Identifier: Apache-2.0
 * Daemons on one PostgreSQL, and shmetactl schema, as an operator has them: two instances follow
 * what psql does and what either of them writes, a server that was away is followed on from where
 * it was, and schema apply, status and remove do what they say on PostgreSQL and on SQLite. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(postgres_daemon, .timeout = 1800); /* make faults takes its time */

static struct pg_cluster cluster;
static struct run_daemon one, two;
static char uri[200];
static PGconn *app;

static void begin(void)
{
	if (!pg_cluster_installed())
		cr_skip_test("there is no PostgreSQL server on this machine");
	pg_cluster_start(&cluster, NULL);
	pg_cluster_database(&cluster, "source");
	pg_cluster_uri(&cluster, "source", uri, sizeof uri);
	app = pg_cluster_connect(&cluster, "source");
	cr_assert_eq(run_daemon_init(&one), 0);
	cr_assert_eq(run_daemon_init(&two), 0);
}

static void end(void)
{
	if (cluster.supervisor <= 0)
		return;
	run_daemon_done(&one);
	run_daemon_done(&two);
	PQfinish(app);
	pg_cluster_stop(&cluster);
}

static void nap_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Run; the words that it printed have `said` in them. */
__attribute__((format(printf, 3, 4))) static void expect(int code, const char *said, const char *fmt, ...)
{
	struct run_tool t;
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	run_tool(&t, "%s", line);
	cr_expect_eq(t.code, code, "%s: exit %d instead of %d\n%s%s", line, t.code, code, t.out, t.err);
	cr_expect(strstr(t.out, said) != NULL || strstr(t.err, said) != NULL, "%s: '%s' is not in:\n%s%s", line, said,
	          t.out, t.err);
	run_tool_done(&t);
}

/* Until its output has the words, at most 30 s. */
static void await_words(const struct run_daemon *d, const char *verb, const char *said)
{
	struct run_tool t;
	bool there = false;

	for (int i = 0; i < 300 && !there; i++) {
		run_tool(&t, "shmetactl --dir %s %s", d->instance, verb);
		there = strstr(t.out, said) != NULL;
		if (!there && i == 299)
			cr_expect_fail("%s: '%s' never came:\n%s%s", verb, said, t.out, t.err);
		run_tool_done(&t);
		if (!there)
			nap_ms(100);
	}
}

static void await_equal(const struct run_daemon *d)
{
	char verb[300];

	(void)snprintf(verb, sizeof verb, "verify --source '%s'", uri);
	await_words(d, verb, ": 0 differences");
}

static void fill(const char *prefix)
{
	char sql[900];

	(void)snprintf(
		sql, sizeof sql,
		"BEGIN; INSERT INTO topics SELECT '%s' || i, 4, NULL, 1, 1, '{\"k\":\"v\"}' FROM generate_series(1, 20) i; "
		"INSERT INTO partitions SELECT name, p, 1000, 1, 1 FROM topics, generate_series(0, 3) p WHERE name LIKE "
		"'%s%%'; INSERT INTO segments SELECT topic || '-' || partition_id || '-' || b, topic, partition_id, "
		"b * 100, b * 100 + 99, 100, 1000, 'bucket', 'data/' || topic || b, 1, 0, 0 FROM partitions, "
		"generate_series(0, 9) b WHERE topic LIKE '%s%%'; COMMIT",
		prefix, prefix, prefix);
	pg_cluster_sql(app, sql);
}

Test(postgres_daemon, two_hosts_follow_psql_and_each_other, .init = begin, .fini = end)
{
	cr_assert_eq(run_daemon_start(&one, uri), 0);
	cr_assert_eq(run_daemon_start(&two, uri), 0);
	fill("a");
	await_words(&one, "ls partitions a20", "1000");
	await_words(&two, "ls partitions a20", "1000");
	pg_cluster_sql(
		app,
		"UPDATE partitions SET high_watermark = 2000 WHERE topic = 'a7' AND partition_id = 2; "
		"DELETE FROM segments WHERE topic = 'a7' AND base_offset < 500; DELETE FROM topics WHERE name = 'a8'");
	await_words(&two, "ls partitions a7", "2000");
	/* What one host's daemon writes the other one's shows. */
	expect(0, "", "shmetactl --dir %s topic create made-by-one 3", one.instance);
	expect(0, "made-by-one", "shmetactl --dir %s ls topics", one.instance);
	await_words(&two, "ls topics", "made-by-one");
	expect(0, "", "shmetactl --dir %s topic delete made-by-one --yes", two.instance);
	expect(5, "", "shmetactl --dir %s get topic made-by-one", two.instance);
	/* A TRUNCATE has no rows to tell of. */
	pg_cluster_sql(app, "TRUNCATE segments");
	await_equal(&one);
	await_equal(&two);
}

Test(postgres_daemon, a_server_that_was_away_is_followed_on_and_readers_have_not_noticed, .init = begin, .fini = end)
{
	cr_assert_eq(run_daemon_start(&one, uri), 0);
	fill("a");
	await_words(&one, "ls partitions a20", "1000");
	pg_cluster_down(&cluster, true);
	await_words(&one, "status", "degraded");
	await_words(&one, "status", "postgresql: ");
	expect(0, "1000", "shmetactl --dir %s ls partitions a20", one.instance);
	pg_cluster_up(&cluster);
	PQreset(app);
	fill("b");
	await_words(&one, "ls partitions b20", "1000");
	await_words(&one, "status", "serving");
	await_equal(&one);
	/* A writer that starts again goes on from its position: it need not load. */
	cr_expect_eq(run_daemon_end(&one, SIGTERM), 0);
	pg_cluster_sql(app, "UPDATE partitions SET high_watermark = 3000 WHERE topic = 'b1'");
	cr_assert_eq(run_daemon_start(&one, uri), 0);
	await_words(&one, "ls partitions b1", "3000");
	await_equal(&one);
}

/* ---- under load ---- */

/* Writers with so many calls in flight that the daemon's rounds overlap. */
enum { LOADERS = 4, LOAD_BATCH = 48, LOAD_FLIGHT = 6, LOAD_MAX = 400000 };

struct load {
	_Atomic int stop;
	struct loader {
		_Atomic uint32_t sent, acknowledged, refused;
		uint8_t done[LOAD_MAX]; /* by number: acknowledged */
	} loader[LOADERS];
};

struct load_call {
	struct loader *loader;
	uint32_t first;
	int *in_flight;
};

static void on_load_done(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                         const struct shmeta_token *token)
{
	struct load_call *c = arg;

	(void)token;
	for (size_t i = 0; status == SHMETA_OK && i < count; i++) {
		if (results[i].status == SHMETA_OK) {
			c->loader->done[c->first + i] = 1;
			atomic_fetch_add(&c->loader->acknowledged, 1);
		} else if (results[i].status != SHMETA_ERR_OUTCOME_UNKNOWN &&
		           results[i].status != SHMETA_ERR_WRITER_AWAY && results[i].status != SHMETA_ERR_SOURCE &&
		           results[i].status != SHMETA_ERR_NOT_CACHED) {
			atomic_fetch_add(&c->loader->refused, 1);
		}
	}
	--*c->in_flight;
	free(c);
}

static void wait_for_answers(struct shmeta_client *client, int *in_flight, int most)
{
	while (*in_flight > most) {
		struct pollfd fd = {.fd = shmeta_client_fd(client), .events = shmeta_client_events(client)};

		(void)poll(&fd, 1, 20);
		(void)!shmeta_client_process(client, NULL);
	}
}

/* In a child of its own: no Criterion. */
static int load_partition(struct load *load, uint32_t me)
{
	struct loader *l = &load->loader[me];
	struct shmeta_client *client;
	struct shmeta *instance = run_daemon_open(&one, "load", 0);
	int in_flight = 0;

	if (instance == NULL || shmeta_client_open(instance, NULL, &client) != SHMETA_OK)
		return 2;
	while (!atomic_load(&load->stop) && l->sent + LOAD_BATCH <= LOAD_MAX) {
		struct shmeta_op ops[LOAD_BATCH];
		struct load_call *c = malloc(sizeof *c);
		char id[LOAD_BATCH][40];
		enum shmeta_status status;

		if (c == NULL)
			return 3;
		*c = (struct load_call){l, l->sent, &in_flight};
		for (uint32_t i = 0; i < LOAD_BATCH; i++) {
			uint64_t n = l->sent + i;

			(void)snprintf(id[i], sizeof id[i], "s-%u-%llu", me, (unsigned long long)n);
			ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
			                            .name = {"load", 4},
			                            .partition_id = me,
			                            .u.segment = {.base_offset = n,
			                                          .end_offset = n,
			                                          .record_count = 1,
			                                          .size_bytes = 1,
			                                          .id = {id[i], strlen(id[i])},
			                                          .s3_bucket = {"b", 1},
			                                          .s3_key = {id[i], strlen(id[i])}}};
		}
		in_flight++;
		while ((status = shmeta_submit(client, ops, LOAD_BATCH, on_load_done, c)) == SHMETA_ERR_BUSY)
			wait_for_answers(client, &in_flight, in_flight - 1);
		if (status != SHMETA_OK)
			return 4;
		l->sent += LOAD_BATCH;
		wait_for_answers(client, &in_flight, LOAD_FLIGHT - 1);
	}
	wait_for_answers(client, &in_flight, 0);
	shmeta_client_close(client);
	shmeta_close(instance);
	return 0;
}

static uint32_t acknowledged(struct load *load)
{
	uint32_t sum = 0;

	for (int i = 0; i < LOADERS; i++)
		sum += atomic_load(&load->loader[i].acknowledged);
	return sum;
}

static void await_acknowledged(struct load *load, uint32_t more)
{
	uint32_t goal = acknowledged(load) + more;

	for (int i = 0; i < 3000 && acknowledged(load) < goal; i++)
		nap_ms(10);
	cr_expect_geq(acknowledged(load), goal, "nothing is acknowledged any more");
}

/* Of those that were acknowledged, the ones that the database does not have. */
static uint32_t missing(struct load *load, uint32_t loader, uint32_t *ret_found)
{
	PGresult *rows;
	uint8_t *there = calloc(LOAD_MAX, 1);
	char sql[100];
	uint32_t lost = 0;

	cr_assert_not_null(there);
	(void)snprintf(sql, sizeof sql, "SELECT base_offset FROM segments WHERE partition_id = %u", loader);
	rows = PQexec(app, sql);
	for (int i = 0; i < PQntuples(rows); i++)
		there[strtoul(PQgetvalue(rows, i, 0), NULL, 10)]++;
	*ret_found += (uint32_t)PQntuples(rows);
	PQclear(rows);
	for (uint32_t i = 0; i < LOAD_MAX; i++)
		lost += load->loader[loader].done[i] && there[i] != 1;
	free(there);
	return lost;
}

Test(postgres_daemon, what_was_acknowledged_is_there_though_the_writer_and_its_sessions_were_killed, .init = begin,
     .fini = end)
{
	const uint32_t rounds = run_rounds(16, 200);
	struct load *load = mmap(NULL, sizeof *load, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t lost = 0, found = 0, sessions, overlapped = 0;
	pid_t loaders[LOADERS];

	cr_assert_neq(load, MAP_FAILED);
	cr_assert_eq(run_daemon_start(&one, uri), 0);
	cr_assert_eq(run_daemon_start(&two, uri), 0);
	pg_cluster_sql(app,
	               "INSERT INTO topics VALUES('load', 4, NULL, 1, 1, '{}'); INSERT INTO partitions SELECT 'load', "
	               "p, 0, 1, 1 FROM generate_series(0, 3) p");
	await_words(&one, "ls topics", "load");
	for (uint32_t i = 0; i < LOADERS; i++) {
		loaders[i] = run_fork();
		if (loaders[i] == 0)
			_exit(load_partition(load, i));
	}
	for (uint32_t i = 0; i < rounds; i++) {
		PGresult *state;

		await_acknowledged(load, 2000);
		state = PQexec(app, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shmetad'");
		sessions = (uint32_t)strtoul(PQgetvalue(state, 0, 0), NULL, 10);
		/* more than one for each daemon: the one writes in a session of its own */
		overlapped += sessions > 2;
		PQclear(state);
		if (i % 2 == 0) {
			pg_cluster_sql(app, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
			                    "application_name = 'shmetad'");
		} else {
			cr_assert_eq(run_daemon_end(&one, SIGKILL), SIGKILL + 128);
			cr_assert_eq(run_daemon_start(&one, uri), 0);
		}
	}
	await_acknowledged(load, 2000);
	atomic_store(&load->stop, 1);
	for (int i = 0; i < LOADERS; i++)
		cr_assert_eq(run_reap(loaders[i]), 0);
	await_equal(&one);
	await_equal(&two);
	for (uint32_t i = 0; i < LOADERS; i++) {
		lost += missing(load, i, &found);
		cr_expect_eq(load->loader[i].refused, 0);
	}
	cr_expect_eq(lost, 0);
	figure("kill -9 of the writer, or of its sessions, under load over PostgreSQL", rounds, 1000, "kills",
	       "%u segments acknowledged, %u lost; rounds overlapped in %u", acknowledged(load), lost, overlapped);
	(void)munmap(load, sizeof *load);
}

static void prove_schema_verbs(const char *source)
{
	expect(0, "CREATE TABLE topics(", "shmetactl schema apply --dry-run --source '%s'", source);
	expect(0, "statements", "shmetactl schema apply --source '%s'", source);
	expect(0, "nothing to do", "shmetactl schema apply --source '%s'", source);
	expect(0, "change feed               complete", "shmetactl schema status --source '%s'", source);
	expect(0, "\"change feed\": \"complete\"", "shmetactl schema status --json --source '%s'", source);
	expect(0, "shmeta_meta;", "shmetactl schema remove --dry-run --source '%s'", source);
	expect(0, "complete", "shmetactl schema status --source '%s'", source);
	expect(2, "", "shmetactl schema remove --source '%s' </dev/null", source);
	expect(0, "done", "shmetactl schema remove --yes --source '%s'", source);
	expect(0, "nothing to do", "shmetactl schema remove --yes --source '%s'", source);
	expect(1, "none", "shmetactl schema status --source '%s'", source);
}

static int64_t number_of(const char *sql)
{
	PGresult *got = PQexec(app, sql);
	int64_t number = PQresultStatus(got) == PGRES_TUPLES_OK ? strtoll(PQgetvalue(got, 0, 0), NULL, 10) : -1;

	PQclear(got);
	return number;
}

static size_t lines_with(const char *path, const char *words)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t bytes = 0, count = 0;

	while (f != NULL && getline(&line, &bytes, f) > 0)
		count += strstr(line, words) != NULL;
	free(line);
	if (f != NULL)
		(void)fclose(f);
	return count;
}

/* What a reload frees is not what the next connection is opened with: the comparisons go on over
 * connections of their own. */
static void compare_after_reloads(const char *source_options)
{
	enum { RELOADS = 20 };
	int64_t before, now = 0;
	FILE *f;

	cr_assert_eq(run_daemon_start(&one, uri), 0);
	fill("a");
	await_words(&one, "ls partitions a20", "1000");
	for (int i = 0; i < RELOADS; i++) {
		f = fopen(one.config, "we");
		cr_assert_not_null(f);
		(void)fprintf(f, "%s\nfeed { reconcile_s = 2s }\nttl { topic_ms = %ds }\n", source_options, 30 + i);
		(void)fclose(f);
		cr_assert_eq(kill(one.pid, SIGHUP), 0);
		for (int k = 0; k < 300 && lines_with(one.log, "reload: ") <= (size_t)i; k++)
			nap_ms(20);
		cr_assert_eq(lines_with(one.log, "reload: "), (size_t)i + 1);
	}
	/* Each comparison is a session of its own that ends. */
	before = number_of("SELECT sessions FROM pg_stat_database WHERE datname = 'source'");
	cr_assert_geq(before, 0);
	for (int k = 0; k < 300 && now < before + 3; k++) {
		now = number_of("SELECT sessions FROM pg_stat_database WHERE datname = 'source'");
		nap_ms(100);
	}
	cr_expect_geq(now, before + 3);
	cr_expect_eq(lines_with(one.log, "holds up reads and writes"), 0);
	cr_expect_eq(lines_with(one.log, "away"), 0);
	await_equal(&one);
	cr_expect_eq(run_daemon_end(&one, SIGTERM), 0);
}

Test(postgres_daemon, comparisons_go_on_beside_the_feed_after_reloads, .init = begin, .fini = end)
{
	compare_after_reloads("");
}

Test(postgres_daemon, comparisons_go_on_after_reloads_with_a_replica_and_a_password_file_too, .init = begin,
     .fini = end)
{
	char options[400], path[120];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/password", one.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs("a-secret\n", f);
	(void)fclose(f);
	(void)snprintf(options, sizeof options, "source { read_uri = \"%s\" password_file = \"%s\" }", uri, path);
	f = fopen(one.config, "we");
	cr_assert_not_null(f);
	(void)fputs(options, f);
	(void)fclose(f);
	compare_after_reloads(options);
}

Test(postgres_daemon, schema_verbs_make_show_and_remove_on_postgresql, .init = begin, .fini = end)
{
	PGresult *left;

	expect(1, "none: the schema is empty", "shmetactl schema status --source '%s'", uri);
	prove_schema_verbs(uri);
	left = PQexec(
		app,
		"SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'shmeta%') + (SELECT count(*) FROM pg_trigger "
		"WHERE tgname LIKE 'shmeta%') + (SELECT count(*) FROM pg_proc WHERE proname LIKE 'shmeta%')");
	cr_assert_eq(PQresultStatus(left), PGRES_TUPLES_OK);
	cr_expect_str_eq(PQgetvalue(left, 0, 0), "0");
	PQclear(left);
	/* Not StreamHouse's: left alone, with a sentence. */
	pg_cluster_sql(app, "DROP TABLE partition_leases");
	expect(2, "missing: table partition_leases", "shmetactl schema apply --source '%s'", uri);
}

Test(postgres_daemon, schema_verbs_make_show_and_remove_on_sqlite)
{
	char source[160];

	cr_assert_eq(run_daemon_init(&one), 0);
	(void)snprintf(source, sizeof source, "sqlite:%s", one.db);
	cr_assert_eq(run_daemon_sql(&one, "VACUUM"), 0); /* the file is there, and empty */
	prove_schema_verbs(source);
	expect(2, "keeps nothing", "shmetactl schema status --source memory:x");
	run_daemon_done(&one);
}

/* A role of its own that owns everything, has a password, and is asked for it. */
static void ask_for_password(char *as_app, size_t bytes)
{
	char path[96], text[200];
	FILE *f;

	pg_cluster_sql(app, "CREATE ROLE app LOGIN PASSWORD 'first-secret'; ALTER DATABASE source OWNER TO app; "
	                    "ALTER SCHEMA public OWNER TO app");
	(void)snprintf(path, sizeof path, "%s/data/pg_hba.conf", cluster.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs("local all shmeta trust\nlocal all app scram-sha-256\n", f);
	(void)fclose(f);
	pg_cluster_sql(app, "SELECT pg_reload_conf()");
	(void)snprintf(path, sizeof path, "%s/password", one.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs("first-secret\n", f);
	(void)fclose(f);
	(void)snprintf(path, sizeof path, "%s/wrong", one.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs("other-secret\n", f);
	(void)fclose(f);
	f = fopen(one.config, "we");
	cr_assert_not_null(f);
	(void)fprintf(f, "source { password_file = \"%s/password\" }\n", one.dir);
	(void)fclose(f);
	(void)snprintf(text, sizeof text, "postgresql:///source?host=%s&user=app", cluster.dir);
	(void)snprintf(as_app, bytes, "%s", text);
}

Test(postgres_daemon, verbs_that_connect_take_the_password_from_a_file_and_show_it_nowhere, .init = begin, .fini = end)
{
	static const char *const verbs[] = {"schema status --source",
	                                    "schema apply --dry-run --source",
	                                    "schema remove --yes --dry-run --source",
	                                    "verify --source",
	                                    "export - --source",
	                                    "import - --dry-run --target"};
	char as_app[200];

	ask_for_password(as_app, sizeof as_app);
	cr_assert_eq(run_daemon_start(&one, as_app), 0);
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
		/* --password-file behind the URI; the words of a file that import can read in
		 * front. */
		static const char *const cases[][2] = {{"password", ""}, {"wrong", "password authentication failed"}};

		for (size_t k = 0; k < 2; k++) {
			struct run_tool t;

			run_tool(
				&t,
				"/bin/sh -c '%s/bin/shmetactl export - --source \"postgresql:///source?host=%s&user=shmeta\" | "
				"%s/bin/shmetactl --dir %s %s \"%s\" --password-file %s/%s'",
				places_build, cluster.dir, places_build, one.instance, verbs[i], as_app, one.dir,
				cases[k][0]);
			cr_expect_eq(t.code == 0, k == 0, "%s, %s: exit status %d: %s%s", verbs[i], cases[k][0], t.code,
			             t.out, t.err);
			cr_expect(k == 0 || strstr(t.err, cases[k][1]) != NULL, "%s: %s", verbs[i], t.err);
			cr_expect(strstr(t.out, "secret") == NULL && strstr(t.err, "secret") == NULL, "%s: %s%s",
			          verbs[i], t.out, t.err);
			run_tool_done(&t);
		}
	}
	expect(1, "no password supplied", "shmetactl schema status --source '%s'", as_app);
	expect(2, "--password-file: /nowhere/at/all: No such file",
	       "shmetactl schema status --source '%s' "
	       "--password-file /nowhere/at/all",
	       as_app);
	expect(2, "password", "shmetactl status --password-file %s/password", one.dir);
}
