/* SPDX-License-Identifier: Apache-2.0
 * shmetactl compare and support-bundle: a canary that finds what differs and nothing else, and a
 * bundle that has no secret. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(compare, .timeout = 120);

static struct run_daemon d;

#define CTL(t, fmt, ...) run_tool((t), "shmetactl --dir %s " fmt, d.instance, ##__VA_ARGS__)

/* 8 topics of 4 partitions with 30 segments each. */
#define ROWS                                                                                                                            \
	"INSERT INTO topics(name, partition_count, retention_ms, created_at, updated_at, config) SELECT 'topic-' || value, 4, NULL, "   \
	"1700000000000, 1700000000000, '{}' FROM json_each('[0,1,2,3,4,5,6,7]');"                                                       \
	"INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) SELECT name, value, 3000, 1700000000000, " \
	"1700000000000 FROM topics, json_each('[0,1,2,3]');"                                                                            \
	"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "          \
	"created_at) SELECT topic || '-' || partition_id || '-' || i, topic, partition_id, i * 100, i * 100 + 99, 100, 1000, 'b', "     \
	"'k/' || topic || '/' || partition_id || '/' || i, 1700000000000 FROM partitions, "                                             \
	"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 29) SELECT i FROM n);"

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode = wal;" STREAMHOUSE_V01 ROWS), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void end(void)
{
	run_daemon_done(&d);
}

static json_t *compared(const char *args, int code)
{
	struct run_tool t;
	json_t *doc;

	CTL(&t, "--json compare %s", args);
	cr_assert_eq(t.code, code, "compare %s: exit %d instead of %d\n%s%s", args, t.code, code, t.out, t.err);
	doc = run_tool_json(&t);
	run_tool_done(&t);
	return doc;
}

static json_int_t number(const json_t *doc, const char *name)
{
	cr_assert(json_is_integer(json_object_get(doc, name)), "no number '%s'", name);
	return json_integer_value(json_object_get(doc, name));
}

Test(compare, what_agrees_is_no_mismatch_and_the_rate_is_kept, .init = begin, .fini = end)
{
	double began = run_now_s(), took;
	json_t *doc = compared("--count 60 --rate 40/s", 0);

	took = run_now_s() - began;
	cr_assert_eq(number(doc, "keys_compared"), 60);
	cr_assert_gt(number(doc, "segments_compared"), 60);
	cr_assert_eq(number(doc, "mismatches"), 0);
	cr_assert_geq(took, 1.3, "60 keys at 40 a second took %.2f s", took);
	json_decref(doc);
	doc = compared("--for 1s --rate 1000", 0);
	cr_assert_gt(number(doc, "keys_compared"), 50);
	json_decref(doc);
}

/* The daemon does not look; what was changed behind its back differs, and stays. */
Test(compare, a_difference_that_stays_is_counted_and_listed, .init = begin, .fini = end)
{
	struct run_tool t;
	json_t *doc;
	const char *item;

	CTL(&t, "pause test");
	cr_assert_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
	cr_assert_eq(run_daemon_sql(&d, "UPDATE segments SET size_bytes = 1001 WHERE base_offset = 1200;"
	                                "DELETE FROM segments WHERE topic = 'topic-3' AND base_offset = 0;"),
	             0);
	doc = compared("--count 12 --rate 1000/s --timeout 600ms", 1);
	cr_assert_gt(number(doc, "mismatches"), 0);
	cr_assert_leq(number(doc, "mismatches"), 12);
	item = json_string_value(json_array_get(json_object_get(doc, "items"), 0));
	cr_assert(item != NULL && (strstr(item, "size_bytes is 1001 in the source, 1000 in the store") != NULL ||
	                           strstr(item, "the store has it, the source does not") != NULL),
	          "%s", item);
	json_decref(doc);
	CTL(&t, "resume");
	run_tool_done(&t);
	run_tool(&t, "sh -c 'sleep 1.5'");
	run_tool_done(&t);
	json_decref(compared("--count 100 --rate 1000/s", 0));
}

/* Every key changes all the time, and the daemon follows: reading again tells that from a
 * mismatch. */
Test(compare, what_moves_is_read_again_and_is_no_mismatch, .init = begin, .fini = end)
{
	json_t *doc;
	pid_t writer = run_fork();

	if (writer == 0) {
		for (int i = 0; i < 200; i++) {
			char sql[256];

			(void)snprintf(sql, sizeof(sql),
			               "UPDATE partitions SET high_watermark = 3000 + %d, updated_at = %d;", i, i);
			if (run_daemon_sql(&d, sql) != 0)
				_exit(1);
			(void)usleep(25000);
		}
		_exit(0);
	}
	doc = compared("--count 200 --rate 100/s", 0);
	cr_assert_eq(number(doc, "mismatches"), 0);
	json_decref(doc);
	(void)kill(writer, SIGKILL);
	(void)run_reap(writer);
}

Test(compare, with_the_writer_dead_the_first_look_decides, .init = begin, .fini = end)
{
	json_t *doc;

	(void)run_daemon_end(&d, SIGKILL);
	cr_assert_eq(run_daemon_sql(&d, "UPDATE partitions SET high_watermark = 5000;"), 0);
	(void)usleep(1200000);
	doc = compared("--count 20 --rate 1000/s", 1);
	cr_assert_gt(number(doc, "mismatches"), 5);
	json_decref(doc);
}

Test(compare, bad_options_and_sources_are_told, .init = begin, .fini = end)
{
	static const struct {
		const char *args, *says;
		int code;
	} cases[] = {{"--rate 0", "--rate: '0' is not a rate", 2},
	             {"--rate fast", "--rate: 'fast' is not a rate: write 100/s", 2},
	             {"--rate 10001/s", "from 1 to 10000", 2},
	             {"--source nothing:x", "there is no engine 'nothing'", 2},
	             {"--source sqlite:/nonexistent/x.db", "opening the source", 2},
	             {"--tenant 11111111-1111-1111-1111-111111111111", "", 5}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct run_tool t;

		CTL(&t, "compare %s", cases[i].args);
		cr_assert_eq(t.code, cases[i].code, "compare %s: exit %d; %s", cases[i].args, t.code, t.err);
		cr_assert(strstr(t.err, cases[i].says) != NULL, "compare %s: %s", cases[i].args, t.err);
		run_tool_done(&t);
	}
}

/* What status shows of a source is no address with which one can log in. */
Test(compare, a_way_to_connect_that_there_is_not_exits_2_before_anything_is_asked, .init = begin, .fini = end)
{
	static const char *const verbs[] = {"export -", "schema status", "schema apply --dry-run", "compare", "verify"};
	struct run_tool t;

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		CTL(&t, "%s --source 'postgresql://u@127.0.0.1:1/x?sslmode=nonsense'", verbs[i]);
		cr_expect(t.code == 2 &&
		                  strstr(t.err, "sslmode=nonsense of the source's uri is none of disable, allow") !=
		                          NULL,
		          "%s: %d %s", verbs[i], t.code, t.err);
		run_tool_done(&t);
	}
}

Test(compare, a_verb_that_lacks_the_password_of_a_source_says_so, .init = begin, .fini = end)
{
	static const char *const verbs[] = {"compare",       "verify",       "export -",
	                                    "schema status", "schema apply", "objects audit b /dev/null"};
	static const char *const uris[] = {"postgresql://app:***@127.0.0.1:1/x",
	                                   "postgresql://127.0.0.1:1/x?password=***",
	                                   "postgresql://127.0.0.1:1/x?sslpassword=***"};
	struct run_tool t;

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		for (size_t k = 0; k < sizeof(uris) / sizeof(uris[0]); k++) {
			CTL(&t, "%s --source '%s'", verbs[i], uris[k]);
			cr_expect_eq(t.code, 2, "%s %s: exit %d; %s", verbs[i], uris[k], t.code, t.err);
			cr_expect(strstr(t.err, "the password is not known here") != NULL, "%s %s: %s", verbs[i],
			          uris[k], t.err);
			run_tool_done(&t);
			CTL(&t, "%s --source '%s' --password-file /dev/null", verbs[i], uris[k]);
			cr_expect_eq(strstr(t.err, "the password is not known here") != NULL, k == 2, "%s %s: %s",
			             verbs[i], uris[k], t.err);
			run_tool_done(&t);
		}
}

Test(compare, a_source_that_this_user_may_not_read_exits_4, .init = begin, .fini = end)
{
	static const char *const verbs[] = {"export -", "schema status", "schema apply", "compare", "verify"};
	struct run_tool t;
	char file[160];

	if (geteuid() != 0)
		cr_skip_test("only root can become another user");
	(void)snprintf(file, sizeof(file), "%s/closed.db", d.dir);
	run_tool(&t,
	         "sh -c 'sqlite3 %s \"CREATE TABLE topics(name TEXT)\" && chmod 600 %s && chmod 711 %s && "
	         "install -m 755 %s %s/ctl'",
	         file, file, d.dir, places_shmetactl, d.dir);
	cr_assert_eq(t.code, 0, "%s", t.err);
	run_tool_done(&t);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		run_tool(&t, "setpriv --reuid 65534 --regid %u --clear-groups %s/ctl --dir %s %s --source sqlite:%s",
		         (unsigned)getegid(), d.dir, d.instance, verbs[i], file);
		cr_expect_eq(t.code, 4, "%s: exit %d; %s%s", verbs[i], t.code, t.out, t.err);
		cr_expect(strstr(t.err, "ermission denied") != NULL, "%s: %s", verbs[i], t.err);
		run_tool_done(&t);
	}
}

/* ---- the bundle ---- */

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	cr_assert(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* A secret in each place where one may be. */
Test(compare, a_bundle_has_no_secret_from_wherever_it_came, .init = begin, .fini = end)
{
	static const char *const secrets[] = {
		"s3cretUri",     "p@ss/w0rd",   "s3cretQuery",    "s3cretFile",    "s3cretEnv",       "s3cretTok",
		"s3cretKey",     "s3cretPem",   "s3cretComment",  "s3cretJson",    "s3cretDropIn",    "s3cretBare",
		"s3cretPercent", "s3cret,list", "list;end",       "s3cretService", "s3cretPass",      "s3cretSql",
		"s3cret \\\"q",  "%73%33cret",  "s3cretVariable", "s3cretOption",  "s3cret\\\"Quoted"};
	char file[160], password[160], config[160], pipe[160], text[4096], dropins[200], name[240];
	int reading;
	struct run_tool t;
	struct stat st;

	(void)snprintf(password, sizeof(password), "%s/password", d.dir);
	(void)snprintf(config, sizeof(config), "%s/named.conf", d.dir);
	(void)snprintf(file, sizeof(file), "%s/bundle.tar", d.dir);
	put(password, "s3cretFile\nsecond line\n");
	(void)snprintf(
		text, sizeof(text),
		"source {\n\turi = \"postgresql://app:s3cretUri@db.example:5432/streams?application_name=x&password=s3cretQuery\"\n"
		"\tread_uri = \"postgresql://app:p@ss/w0rd@db2/streams\"\n\tpassword_file = \"%s\"\n}\n"
		"# password = s3cretComment, the old one; and s3cretFile elsewhere\n"
		"# aws_secret_access_key: \"s3cretKey\"\n"
		"# {\"clientSecret\": \"s3cretJson\", \"port\": 1}\n"
		"# -----BEGIN RSA PRIVATE KEY-----\n# s3cretPem\n# -----END RSA PRIVATE KEY-----\n"
		"# postgresql://db/x?pass%%77ord=s3cretPercent&sslmode=disable\n"
		"# host=db password=s3cret,list;end user=app\n"
		"# ALTER ROLE app PASSWORD 's3cretSql'\n"
		"# password=\"s3cret \\\"q\"\n"
		"# psql --password s3cretOption\n"
		"# the end\n",
		password);
	put(config, text);
	/* And what a drop-in, a file without quotes, a service, a password file of libpq and a
	 * variable have. */
	(void)snprintf(dropins, sizeof(dropins), "%s.d", config);
	cr_assert_eq(mkdir(dropins, 0700), 0);
	(void)snprintf(name, sizeof(name), "%s/dropin", d.dir);
	put(name, "s3cretDropIn\n");
	(void)snprintf(name, sizeof(name), "%s/bare", d.dir);
	put(name, "s3cretBare\n");
	(void)snprintf(name, sizeof(name), "%s/services", d.dir);
	put(name, "[streams]\nhost=db\npassword=s3cretService\n");
	(void)snprintf(name, sizeof(name), "%s/pgpass", d.dir);
	put(name, "db:5432:*:app:s3cretPass\n");
	(void)snprintf(name, sizeof(name), "%s/10-a.conf", dropins);
	(void)snprintf(text, sizeof(text), "source { password_file = \"%s/dropin\" }\n", d.dir);
	put(name, text);
	(void)snprintf(name, sizeof(name), "%s/20-b.conf", dropins);
	(void)snprintf(
		text, sizeof(text),
		"source {\n\tpassword_file = %s/bare\n\turi = \"postgresql://a:${SHMETA_TEST_PART}@db/x?"
		"servicefile=%s/services&passfile=%s/pgpass\"\n\tread_uri = \"postgresql://a:${SHMETA_TEST_QUOTED}@db/x\"\n}\n",
		d.dir, d.dir, d.dir);
	put(name, text);
	(void)setenv("SHMETA_TEST_PART", "s3cretVariable", 1);
	(void)setenv("SHMETA_TEST_QUOTED", "s3cret\"Quoted", 1);
	cr_assert_eq(
		run_daemon_sql(
			&d,
			"INSERT INTO agents VALUES('agent-2', 's3cretDropIn', 's3cretBare', 's3cretService', 1700000000000, "
			"1700000000000, '{\"zone\":\"s3cretPass\",\"b\":\"s3cretVariable\",\"c\":\"%73%33cretEnv\",\"d\":\"s3cret\\\\\"Quoted\"}');"),
		0);
	cr_assert_eq(
		run_daemon_sql(
			&d,
			"INSERT INTO agents VALUES('agent-1', '10.0.0.1:1', 'az-1', 'g', 1700000000000, 1700000000000, "
			"'{\"token\":\"s3cretTok\",\"zone\":\"s3cretEnv\"}');"),
		0);
	(void)setenv("PGPASSWORD", "s3cretEnv", 1);
	CTL(&t, "refresh agent");
	run_tool_done(&t);
	CTL(&t, "--json support-bundle %s --config %s", file, config);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	cr_assert(strstr(t.out, "configuration/file.conf") != NULL, "%s", t.out);
	run_tool_done(&t);
	cr_assert(stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
	run_tool(&t, "sh -c 'mkdir %s/x && tar -C %s/x -xf %s && cat $(find %s/x -type f)'", d.dir, d.dir, file, d.dir);
	cr_assert_eq(t.code, 0, "%s", t.err);
	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
		const char *at = memmem(t.out, t.out_bytes, secrets[i], strlen(secrets[i]));

		cr_expect(at == NULL, "%s is in the bundle: %.60s", secrets[i], at != NULL ? at - 20 : "");
	}
	/* And what is no secret is there. */
	cr_assert(strstr(t.out, "db.example:5432/streams") != NULL && strstr(t.out, "application_name=x") != NULL, "%s",
	          t.out);
	cr_assert(strstr(t.out, "second line") == NULL && strstr(t.out, "# the end") != NULL &&
	          strstr(t.out, "agent-1") != NULL);
	cr_assert(strstr(t.out, "\"schema\": \"shmeta.status\"") != NULL && strstr(t.out, "MemTotal") != NULL);
	run_tool_done(&t);
	CTL(&t, "support-bundle %s", file);
	cr_assert(t.code == 2 && strstr(t.err, "is there already; say --yes to replace it") != NULL, "%d %s", t.code,
	          t.err);
	run_tool_done(&t);
	/* What root can write to is not root's to change. */
	(void)snprintf(pipe, sizeof(pipe), "%s/pipe", d.dir);
	cr_assert_eq(mkfifo(pipe, 0644), 0);
	CTL(&t, "support-bundle %s --yes", pipe);
	cr_assert(t.code == 2, "%d %s", t.code, t.err);
	run_tool_done(&t);
	cr_assert(stat(pipe, &st) == 0 && (st.st_mode & 07777) == 0644, "%o", st.st_mode);
	cr_assert((reading = open(pipe, O_RDONLY | O_NONBLOCK)) >= 0);
	CTL(&t, "support-bundle %s --yes", pipe);
	cr_assert(t.code == 2 && strstr(t.err, "to a regular file only") != NULL, "%d %s", t.code, t.err);
	run_tool_done(&t);
	(void)close(reading);
	cr_assert(stat(pipe, &st) == 0 && (st.st_mode & 07777) == 0644, "%o", st.st_mode);
	/* Also of an instance whose daemon is gone. */
	(void)run_daemon_end(&d, SIGKILL);
	CTL(&t, "support-bundle %s --yes", file);
	cr_assert(t.code == 0 && strstr(t.out, "Read it before you send it") != NULL, "%d %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
}

/* A limit on the length of files does what a full file system does. */
Test(compare, a_bundle_that_cannot_be_written_leaves_nothing_and_replaces_nothing, .init = begin, .fini = end)
{
	char file[160], part[170];
	struct run_tool t;
	struct stat st;

	(void)snprintf(file, sizeof(file), "%s/bundle.tar", d.dir);
	(void)snprintf(part, sizeof(part), "%s.part", file);
	run_tool(&t, "/bin/sh -c \"ulimit -f 8; '%s' --dir %s support-bundle %s\"", places_shmetactl, d.instance, file);
	cr_expect(t.code == 1 && strstr(t.err, "it could not be written: File too large") != NULL, "%d %s", t.code,
	          t.err);
	run_tool_done(&t);
	cr_expect(access(file, F_OK) != 0 && access(part, F_OK) != 0, "a part of a bundle is left");
	put(file, "the former one");
	run_tool(&t, "/bin/sh -c \"ulimit -f 8; '%s' --dir %s support-bundle %s --yes\"", places_shmetactl, d.instance,
	         file);
	cr_expect_eq(t.code, 1, "%d %s", t.code, t.err);
	run_tool_done(&t);
	cr_expect(stat(file, &st) == 0 && st.st_size == 14 && access(part, F_OK) != 0, "the former one is gone");
	(void)unlink(file);
}

Test(compare, what_bears_the_name_of_a_bundle_is_whole, .init = begin, .fini = end)
{
	char file[128], script[128], path[4096];
	struct stat st;
	struct run_tool t;

	(void)snprintf(file, sizeof(file), "%s/bundle.tar", d.dir);
	(void)snprintf(script, sizeof(script), "%s/journalctl", d.dir);
	(void)snprintf(path, sizeof(path), "%s:%s", d.dir, getenv("PATH"));
	put(file, "of before");
	/* It ends who asks it: in the middle of the bundle. */
	put(script, "#!/bin/sh\nkill -TERM $PPID\n");
	cr_assert_eq(chmod(script, 0700), 0);
	(void)setenv("PATH", path, 1);
	CTL(&t, "support-bundle %s --yes", file);
	cr_assert_eq(t.code, 128 + SIGTERM, "%d %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	run_tool(&t, "cat %s", file);
	cr_expect_str_eq(t.out, "of before");
	run_tool_done(&t);
	cr_assert_eq(unlink(file), 0);
	CTL(&t, "support-bundle %s", file);
	run_tool_done(&t);
	cr_expect(stat(file, &st) != 0, "a part of a bundle bears its name");
	(void)strncat(file, ".part", sizeof(file) - strlen(file) - 1);
	cr_expect(stat(file, &st) != 0, "what is unfinished is left");
}
