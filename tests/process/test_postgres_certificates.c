/* SPDX-License-Identifier: Apache-2.0
 * Who answers has to prove that it is the server: a real PostgreSQL with certificates of a CA of
 * the test's, good and bad ones, that change while a real shmetad runs with sslmode=verify-full.
 * Reads go on all along, and status says what to do. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/pg_cluster.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_reads.h"
#include "tests/support/run_status.h"
#include "tests/support/run_tool.h"
#include "tests/support/run_topic.h"

TestSuite(postgres_certificates, .timeout = 120);

static const char not_verified[] =
	"certificate verify failed (expired, not yet valid, or its CA is not in sslrootcert)";

static struct pg_cluster server;
static struct run_daemon d;
static struct run_reads reads;
static PGconn *sql;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static char address[20], direct[200], uri[400];

/* What openssl ca wants to know. */
static const char ca_config[] = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\n"
				"default_md = sha256\npolicy = any\nunique_subject = no\ncopy_extensions = copy\n"
				"[any]\ncommonName = supplied\n";

__attribute__((format(printf, 1, 2))) static void in_server_dir(const char *fmt, ...)
{
	char line[900];
	struct run_tool t;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	run_tool(&t, "/bin/sh -e -c 'cd %s; %s'", server.dir, line);
	cr_assert_eq(t.code, 0, "%s: %s", line, t.err);
	run_tool_done(&t);
}

static void make_ca(const char *name)
{
	in_server_dir("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=%s "
	              "-keyout %s.key -out %s.crt",
	              name, name, name);
}

/* Signed by that CA, for that host, valid between these times (YYYYMMDDHHMMSSZ). */
static void make_certificate(const char *name, const char *ca, const char *host, const char *from, const char *to)
{
	in_server_dir(
		"openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=%s -addext "
		"subjectAltName=DNS:%s -keyout %s.key -out %s.csr; openssl ca -batch -notext -config ca.conf -cert "
		"%s.crt -keyfile %s.key -startdate %s -enddate %s -in %s.csr -out %s.crt; chmod 600 %s.key; "
		"if [ $(id -u) = 0 ]; then chown postgres %s.key; fi",
		name, host, name, name, ca, ca, from, to, name, name, name, name);
}

/* From the next login on: a server reads its certificates when it is told to. */
static void present(const char *name)
{
	char text[200], expected[40];

	(void)snprintf(text, sizeof text, "ALTER SYSTEM SET ssl_cert_file = '%s/%s.crt'", server.dir, name);
	pg_cluster_sql(sql, text);
	(void)snprintf(text, sizeof text, "ALTER SYSTEM SET ssl_key_file = '%s/%s.key'", server.dir, name);
	pg_cluster_sql(sql, text);
	pg_cluster_sql(sql, "ALTER SYSTEM SET ssl = on");
	pg_cluster_sql(sql, "SELECT pg_reload_conf()");
	(void)snprintf(expected, sizeof expected, "CN = %s", name);
	for (double last = run_now_s() + RUN_READS_PATIENCE_S;; (void)usleep(10000)) {
		struct run_tool t;
		int there;

		run_tool(&t,
		         "/bin/sh -c 'openssl s_client -starttls postgres -connect %s:5432 </dev/null | openssl x509 "
		         "-noout -subject'",
		         address);
		there = strstr(t.out, expected) != NULL;
		run_tool_done(&t);
		if (there)
			return;
		cr_assert_lt(run_now_s(), last, "the server does not present %s", name);
	}
}

static int sessions(void)
{
	PGresult *result = PQexec(sql, "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
	                               "WHERE ssl AND application_name = 'shmetad'");
	int count = atoi(PQgetvalue(result, 0, 0));

	PQclear(result);
	return count;
}

static void end_sessions(void)
{
	pg_cluster_sql(sql,
	               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'shmetad'");
}

/* On an address of its own in 127/8, reached as "localhost", with the certificate "right". */
static void begin(void)
{
	static char listen[48];
	static const char *const settings[] = {listen, NULL};
	char path[96];
	FILE *f;

	(void)snprintf(address, sizeof address, "127.84.%d.%d", getpid() / 250 % 250, getpid() % 250 + 1);
	(void)snprintf(listen, sizeof listen, "listen_addresses=%s", address);
	pg_cluster_start(&server, settings);
	pg_cluster_database(&server, "meta");
	pg_cluster_uri(&server, "meta", direct, sizeof direct);
	sql = pg_cluster_connect(&server, "meta");
	(void)snprintf(path, sizeof path, "%s/ca.conf", server.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs(ca_config, f);
	(void)fclose(f);
	in_server_dir("touch index");
	make_ca("ca");
	in_server_dir("cp ca.crt roots.crt");
	make_certificate("right", "ca", "localhost", "20200101000000Z", "20990101000000Z");
	(void)snprintf(path, sizeof path, "%s/data/pg_hba.conf", server.dir);
	f = fopen(path, "we");
	cr_assert_not_null(f);
	(void)fputs("local all shmeta trust\nhostssl all shmeta 127.0.0.0/8 trust\n", f);
	(void)fclose(f);
	present("right");
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(
		run_daemon_configure(
			&d,
			"source { timeout_ms = 2s }\nfeed { poll_min_ms = 5ms poll_max_ms = 50ms reconcile_s = 0 }\n"
			"retry { min_ms = 50ms max_ms = 200ms }\n",
			""),
		0);
	(void)snprintf(uri, sizeof uri,
	               "postgresql:host=localhost hostaddr=%s user=shmeta dbname=meta sslmode=verify-full "
	               "sslrootcert=%s/roots.crt",
	               address, server.dir);
	cr_assert_eq(run_daemon_start(&d, uri), 0);
	pg_cluster_sql(sql, run_reads_seed);
	instance = run_daemon_open(&d, "test", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	run_topic_await(reader, "topic-0", 1);
	for (double last = run_now_s() + RUN_READS_PATIENCE_S; run_reads_one(reader, 7) != 0; (void)usleep(2000))
		cr_assert_lt(run_now_s(), last, "what was seeded does not come");
	run_reads_start(&reads, &d);
	cr_expect_gt(sessions(), 0, "the session is not encrypted");
}

static void end(void)
{
	run_reads_end(&reads);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	run_daemon_done(&d);
	PQfinish(sql);
	pg_cluster_stop(&server);
}

static void expect_followed(const char *name)
{
	run_topic_insert(sql, name);
	run_topic_await(reader, name, 1);
	run_status_await_connected(&d);
	cr_expect_gt(sessions(), 0);
	run_reads_expect(&reads);
}

/* Its next login meets this certificate: refused in these words, and nothing read; then the right
 * one. */
static void expect_refused(const char *name, const char *why)
{
	char topic[40];

	present(name);
	end_sessions();
	(void)snprintf(topic, sizeof topic, "during-%s", name);
	run_topic_insert(sql, topic);
	run_status_expect_away(&d, why);
	cr_expect_eq(run_topic_cached(reader, topic), 0, "%s was believed", name);
	cr_expect_eq(sessions(), 0);
	run_reads_expect(&reads);
	present("right");
	run_topic_await(reader, topic, 1);
	run_status_await_connected(&d);
}

Test(postgres_certificates, who_cannot_prove_to_be_the_server_is_refused_in_words_that_say_what_to_look_at,
     .init = begin, .fini = end)
{
	make_ca("stranger");
	make_certificate("foreign", "stranger", "localhost", "20200101000000Z", "20990101000000Z");
	make_certificate("expired", "ca", "localhost", "20200101000000Z", "20210101000000Z");
	make_certificate("early", "ca", "localhost", "20900101000000Z", "20990101000000Z");
	make_certificate("other", "ca", "elsewhere", "20200101000000Z", "20990101000000Z");
	expect_refused("foreign", not_verified);
	expect_refused("expired", not_verified);
	expect_refused("early", not_verified);
	expect_refused("other", "server certificate for \"elsewhere\" does not match host name \"localhost\"");
}

Test(postgres_certificates, a_certificate_that_is_rotated_needs_nobody, .init = begin, .fini = end)
{
	make_certificate("next", "ca", "localhost", "20200101000000Z", "20990101000000Z");
	present("next");
	/* The session that is there stays. */
	expect_followed("the-same-session");
	end_sessions();
	expect_followed("the-next-session");
}

Test(postgres_certificates, a_ca_that_is_rotated_is_said_and_needs_its_file_and_no_restart, .init = begin, .fini = end)
{
	pid_t pid = d.pid;

	make_ca("new-ca");
	make_certificate("next", "new-ca", "localhost", "20200101000000Z", "20990101000000Z");
	present("next");
	expect_followed("the-same-session");
	end_sessions();
	run_status_expect_away(&d, not_verified);
	run_reads_expect(&reads);
	/* Both, as long as both are in use. */
	in_server_dir("cat ca.crt new-ca.crt >both; mv both roots.crt");
	expect_followed("the-next-session");
	present("right");
	end_sessions();
	expect_followed("and-back");
	cr_expect_eq(d.pid, pid);
	cr_expect_eq(kill(pid, 0), 0);
}
