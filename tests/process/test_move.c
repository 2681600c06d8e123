/* SPDX-License-Identifier: Apache-2.0
 * shmetactl export and import as an operator runs them: what is wrong is told with its line before
 * anything is written, a target with rows is not touched unasked, one that ended early goes on, and
 * a daemon on the target shows what came. */
#include <criterion/criterion.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(move_tool, .timeout = 300);

static struct run_daemon d; /* its directory; the daemon only where a test starts it */
static char file[128], target[128];

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	(void)snprintf(file, sizeof file, "%s/export.jsonl", d.dir);
	(void)snprintf(target, sizeof target, "%s/target.db", d.dir);
}

static void end(void)
{
	run_daemon_done(&d);
}

static void expect(int code, const char *said, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Run; the exit status, and that its words have `said` in them. */
static void expect(int code, const char *said, const char *fmt, ...)
{
	struct run_tool t;
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	run_tool_slow(&t, "%s", line);
	cr_expect_eq(t.code, code, "%s: exit %d instead of %d\n%s%s", line, t.code, code, t.out, t.err);
	cr_expect(strstr(t.out, said) != NULL || strstr(t.err, said) != NULL, "%s: '%s' is not in:\n%s%s", line, said,
	          t.out, t.err);
	run_tool_done(&t);
}

static void export(unsigned int topics, unsigned int segments)
{
	expect(0, "exported", "shmetactl export %s --source 'memory:?topics=%u&partitions=4&segments=%u' --yes", file,
	       topics, segments);
}

/* The rows of an export in an order of their own; the caller frees. */
static char *rows_of(const char *uri)
{
	struct run_tool t;
	char *text;

	run_tool(&t, "/bin/sh -c \"'%s/bin/shmetactl' export - --source '%s' 2>/dev/null | sed 1d | sort\"",
	         places_build, uri);
	cr_assert_eq(t.code, 0, "%s", t.err);
	text = strdup(t.out);
	run_tool_done(&t);
	return text;
}

static void write_lines(const char *text)
{
	FILE *f = fopen(file, "we");

	cr_assert_not_null(f);
	(void)fputs(text, f);
	(void)fclose(f);
}

#define HEADER "{\"schema\":\"shmeta.export\",\"version\":1,\"time\":\"x\",\"kind\":\"header\"}\n"
#define TENANT "\"tenant\":\"00000000-0000-0000-0000-000000000000\""
#define GROUP(id) "{\"kind\":\"group\"," TENANT ",\"group_id\":" id ",\"created_at_ms\":1,\"updated_at_ms\":2}\n"

Test(move_tool, what_was_exported_and_imported_is_exported_the_same, .init = begin, .fini = end)
{
	char *there, *back, uri[160];

	export(20, 50);
	expect(0, "put 4 1", "shmetactl import %s --target sqlite:%s --yes", file, target);
	(void)snprintf(uri, sizeof uri, "sqlite:%s", target);
	there = rows_of("memory:?topics=20&partitions=4&segments=50");
	back = rows_of(uri);
	cr_expect_str_eq(back, there);
	cr_expect_gt(strlen(back), 100000);
	free(there);
	free(back);
}

Test(move_tool, a_dry_run_writes_nothing, .init = begin, .fini = end)
{
	export(2, 5);
	expect(0, "will be made", "shmetactl import %s --target sqlite:%s --dry-run", file, target);
	cr_expect_eq(access(target, F_OK), -1);
	expect(0, "would put 50 rows", "shmetactl import %s --target sqlite:%s --dry-run", file, target);
	expect(0, "put 50 rows", "shmetactl import %s --target sqlite:%s --yes", file, target);
	expect(2, "holds rows already", "shmetactl import %s --target sqlite:%s --dry-run", file, target);
	expect(0, "would put 50 rows", "shmetactl import %s --target sqlite:%s --dry-run --merge", file, target);
}

static void make_files(void)
{
	char path[160];
	sqlite3 *db;
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/text.db", d.dir);
	f = fopen(path, "we");
	cr_assert(f != NULL && fputs("text", f) >= 0 && fclose(f) == 0);
	(void)snprintf(path, sizeof path, "%s/other.db", d.dir);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, "CREATE TABLE others(a)", NULL, NULL, NULL), SQLITE_OK);
	(void)sqlite3_close(db);
	(void)snprintf(path, sizeof path, "%s/empty.db", d.dir);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, "VACUUM", NULL, NULL, NULL), SQLITE_OK);
	(void)sqlite3_close(db);
	(void)snprintf(path, sizeof path, "%s/link.db", d.dir);
	cr_assert_eq(symlink("nowhere", path), 0);
}

/* Whatever the import itself would not be able to do. */
Test(move_tool, a_dry_run_refuses_what_the_import_would_refuse, .init = begin, .fini = end)
{
	static const struct {
		const char *name, *said;
	} cases[] = {
		{"text.db", "file is not a database"},
		{"other.db", "not a StreamHouse database"},
		{"link.db", "a symbolic link that leads to no file"},
		{"missing/x.db", "its folder: No such file"},
	};

	export(2, 5);
	make_files();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		expect(2, cases[i].said, "shmetactl import %s --target sqlite:%s/%s --dry-run", file, d.dir,
		       cases[i].name);
		expect(2, cases[i].said, "shmetactl import %s --target sqlite:%s/%s --yes", file, d.dir, cases[i].name);
	}
	expect(2, "there is no engine", "shmetactl import %s --target none:x --dry-run", file);
	/* An empty database is a target. */
	expect(0, "has no tables yet", "shmetactl import %s --target sqlite:%s/empty.db --dry-run", file, d.dir);
	expect(0, "put 50 rows", "shmetactl import %s --target sqlite:%s/empty.db --yes", file, d.dir);
}

Test(move_tool, what_comes_through_a_pipe_is_imported, .init = begin, .fini = end)
{
	export(2, 5);
	expect(0, "put 50 rows",
	       "/bin/sh -c \"cat %s | '%s/bin/shmetactl' import /dev/stdin --target sqlite:%s --yes\"", file,
	       places_build, target);
	expect(0, "50 were there already",
	       "/bin/sh -c \"cat %s | '%s/bin/shmetactl' import - --target sqlite:%s --yes --merge\"", file,
	       places_build, target);
}

/* Root may name a device: a file in its place would be the end of it for the whole host. */
Test(move_tool, an_export_takes_the_place_of_no_device_and_no_pipe, .init = begin, .fini = end)
{
	char pipe_name[160];
	struct stat st;

	(void)snprintf(pipe_name, sizeof pipe_name, "%s/pipe", d.dir);
	cr_assert_eq(mkfifo(pipe_name, 0600), 0);
	expect(2, "regular file only", "shmetactl export %s --source memory: --yes", pipe_name);
	cr_expect(stat(pipe_name, &st) == 0 && S_ISFIFO(st.st_mode), "the pipe is gone");
	expect(2, "regular file only", "shmetactl export %s --source memory: --yes", d.dir);
}

/* A limit on the length of files does what a full file system does. */
Test(move_tool, an_export_that_cannot_be_written_says_why_and_leaves_nothing, .init = begin, .fini = end)
{
	char part[200];

	(void)snprintf(part, sizeof part, "%s.part", file);
	expect(1, "writing the export: File too large",
	       "/bin/sh -c \"ulimit -f 8; '%s' export %s --source 'memory:?topics=400&partitions=4&segments=20'\"",
	       places_shmetactl, file);
	cr_expect(access(file, F_OK) != 0 && access(part, F_OK) != 0, "a part of an export is left");
	expect(1, "standard output: writing the export: No space left on device",
	       "/bin/sh -c \"'%s' export - --source 'memory:?topics=400&partitions=4&segments=20' >/dev/full\"",
	       places_shmetactl);
}

/* What is written meanwhile is nobody else's, and nothing of it stays. */
Test(move_tool, an_export_writes_no_file_of_another_and_leaves_none_when_it_is_ended, .init = begin, .fini = end)
{
	char part[200], other[200], command[900];
	struct run_tool t;
	struct stat st;

	(void)snprintf(part, sizeof part, "%s.part", file);
	(void)snprintf(other, sizeof other, "%s/other", d.dir);
	(void)snprintf(command, sizeof command, "flock %s %s export %s --source memory:", part, places_shmetactl, file);
	expect(1, "another export is writing it", "%s", command);
	cr_assert(unlink(part) == 0 && access(file, F_OK) != 0);
	cr_assert_eq(symlink(other, part), 0);
	expect(2, "cannot create", "shmetactl export %s --source memory:", file);
	cr_expect(access(other, F_OK) != 0, "what a link named was written");
	cr_assert(unlink(part) == 0);
	run_tool(&t, "timeout -s TERM 1 %s export %s --source 'memory:?topics=400&partitions=4&segments=2000'",
	         places_shmetactl, file);
	cr_expect_eq(t.code, 124, "exit %d: %s", t.code, t.err);
	run_tool_done(&t);
	cr_expect(stat(part, &st) != 0 && stat(file, &st) != 0, "something was left of it");
}

Test(move_tool, an_import_that_fails_prints_one_document_of_json, .init = begin, .fini = end)
{
	struct run_tool t;
	sqlite3 *db;
	json_t *doc;

	export(2, 5);
	expect(0, "put 50 rows", "shmetactl import %s --target sqlite:%s --yes", file, target);
	export(3, 5);
	cr_assert_eq(sqlite3_open(target, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	run_tool(&t, "shmetactl --json --timeout 500ms import %s --target sqlite:%s --yes --merge", file, target);
	cr_expect_eq(t.code, 1, "%s%s", t.out, t.err);
	doc = run_tool_json(&t);
	cr_expect_not_null(strstr(json_string_value(json_object_get(doc, "error")), "database is locked"));
	cr_expect_eq(json_integer_value(json_object_get(doc, "exit")), 1);
	cr_expect(json_is_false(json_object_get(doc, "complete")));
	json_decref(doc);
	run_tool_done(&t);
	(void)sqlite3_close(db);
}

Test(move_tool, a_target_with_rows_is_not_touched_unless_told_to_merge, .init = begin, .fini = end)
{
	char *before, *after, uri[160];

	(void)snprintf(uri, sizeof uri, "sqlite:%s", target);
	export(3, 5);
	expect(0, "put 75 rows", "shmetactl import %s --target %s --yes", file, uri);
	before = rows_of(uri);
	export(4, 7);
	expect(2, "holds rows already", "shmetactl import %s --target %s --yes", file, uri);
	after = rows_of(uri);
	cr_expect_str_eq(after, before);
	/* What is there with other content is told and stays; what is missing comes. */
	expect(1, "other content", "shmetactl import %s --target %s --yes --merge", file, uri);
	free(before);
	free(after);
}

Test(move_tool, without_yes_nothing_is_written_where_nobody_can_be_asked, .init = begin, .fini = end)
{
	export(2, 5);
	expect(2, "say --yes", "shmetactl import %s --target sqlite:%s", file, target);
	cr_expect_eq(access(target, F_OK), -1);
	expect(2, "--target", "shmetactl import %s --yes", file);
	expect(2, "gone when", "shmetactl import %s --target memory: --yes", file);
	expect(2, "is there already", "shmetactl export %s --source memory:", file);
}

Test(move_tool, every_wrong_line_is_told_with_its_number_and_nothing_is_written, .init = begin, .fini = end)
{
	static const struct {
		const char *line, *said;
	} wrong[] = {
		{"junk\n", "line 2: not JSON"},
		{"[1]\n", "line 2: no object"},
		{"{\"kind\":\"cat\"," TENANT "}\n", "line 2: \"kind\""},
		{"{\"kind\":\"group\"}\n", "line 2: \"tenant\""},
		{GROUP("7"), "line 2: \"group_id\" of a group is not text"},
		{GROUP("\"a\\u0001b\""), "line 2: group_id"},
		{"{\"kind\":\"group\"," TENANT ",\"group_id\":\"g\",\"created_at_ms\":1}\n",
	         "without \"updated_at_ms\""},
		{"{\"kind\":\"group\"," TENANT
	         ",\"group_id\":\"g\",\"created_at_ms\":1,\"updated_at_ms\":2,\"colour\":\"red\"}\n",
	         "fields that this version does not know"},
		{"{\"kind\":\"partition\"," TENANT ",\"topic\":\"t\",\"partition_id\":0,\"high_watermark\":0,"
	         "\"created_at_ms\":1,\"updated_at_ms\":2}\n",
	         "line 2: a partition of another topic"},
		{"{\"kind\":\"epoch\"," TENANT ",\"topic\":\"t\",\"partition_id\":0,\"epoch\":1}\n" GROUP("\"g\""),
	         "line 3: a group behind rows"},
		{"{\"kind\":\"epoch\"," TENANT
	         ",\"topic\":\"t\",\"partition_id\":0,\"epoch\":\"9223372036854775808\"}\n",
	         "line 2: \"epoch\""},
	};
	char text[2048];

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		(void)snprintf(text, sizeof text, HEADER "%s{\"kind\":\"end\",\"rows\":%d}\n", wrong[i].line,
		               strchr(wrong[i].line, '\n')[1] != '\0' ? 2 : 1);
		write_lines(text);
		expect(2, wrong[i].said, "shmetactl import %s --target sqlite:%s --yes", file, target);
		expect(2, "nothing was written", "shmetactl import %s --target sqlite:%s --yes", file, target);
	}
	write_lines(HEADER GROUP("\"g\""));
	expect(2, "not complete", "shmetactl import %s --target sqlite:%s --yes", file, target);
	write_lines(HEADER GROUP("\"g\"") "{\"kind\":\"end\",\"rows\":2}\n");
	expect(2, "the end says 2 rows", "shmetactl import %s --target sqlite:%s --yes", file, target);
	write_lines(HEADER "{\"kind\":\"end\",\"rows\":0}\n" GROUP("\"g\""));
	expect(2, "behind the end", "shmetactl import %s --target sqlite:%s --yes", file, target);
	write_lines("{\"schema\":\"shmeta.export\",\"version\":2,\"kind\":\"header\"}\n");
	expect(6, "version 2", "shmetactl import %s --target sqlite:%s --yes", file, target);
	write_lines("");
	expect(2, "not an export", "shmetactl import %s --target sqlite:%s --yes", file, target);
	cr_expect_eq(access(target, F_OK), -1, "not even the file");
}

Test(move_tool, a_row_that_the_target_refuses_is_told_with_its_line_and_the_others_are_put, .init = begin, .fini = end)
{
	write_lines(HEADER GROUP("\"g\"") "{\"kind\":\"offset\"," TENANT
	                                  ",\"group_id\":\"g\",\"topic\":\"nothing\",\"partition_id\":0,"
	                                  "\"committed_offset\":5,\"metadata\":null,\"committed_at_ms\":1}\n"
	                                  "{\"kind\":\"end\",\"rows\":2}\n");
	expect(1, "line 3: this offset was refused", "shmetactl import %s --target sqlite:%s --yes", file, target);
	expect(1, "1 were there already; 1 were refused", "shmetactl import %s --target sqlite:%s --yes --merge", file,
	       target);
}

/* Killed again and again while it writes; each time it goes on. */
Test(move_tool, an_import_that_was_killed_goes_on_where_it_ended, .init = begin, .fini = end)
{
	char uri[160], *there, *back;
	unsigned int seed = 4;
	int killed = 0;

	export(25, 400); /* 40 125 rows: several batches */
	(void)snprintf(uri, sizeof uri, "sqlite:%s", target);
	for (int i = 0; i < 12; i++) {
		pid_t pid = run_fork();
		int status = 0;

		if (pid == 0) {
			if (freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL)
				_exit(126);
			execl(places_shmetactl, "shmetactl", "import", file, "--target", uri, "--yes", "--merge",
			      (char *)NULL);
			_exit(127);
		}
		(void)usleep(200000 + (useconds_t)rand_r(&seed) % 600000);
		(void)kill(pid, SIGKILL);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		killed += WIFSIGNALED(status);
	}
	cr_expect_geq(killed, 1);
	expect(0, "rows", "shmetactl import %s --target %s --yes --merge", file, uri);
	there = rows_of("memory:?topics=25&partitions=4&segments=400");
	back = rows_of(uri);
	cr_expect_str_eq(back, there);
	free(there);
	free(back);
}

Test(move_tool, a_daemon_on_the_target_shows_what_came_and_verifies, .init = begin, .fini = end)
{
	enum shmeta_status status = SHMETA_ABSENT;
	struct shmeta_reader *reader;
	struct shmeta *instance;
	struct shmeta_topic t;
	double deadline = run_now_s() + 20;

	export(10, 20);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	instance = run_daemon_open(&d, "judge", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	expect(0, "put 850 rows", "shmetactl import %s --target sqlite:%s --yes", file, d.db);
	/* By itself: nobody asks the source. */
	while (status != SHMETA_OK && run_now_s() < deadline) {
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		status = shmeta_get_topic(reader, "topic-00009", 11, NULL, &t, NULL);
		(void)shmeta_end(reader);
		(void)usleep(1000);
	}
	cr_expect_eq(status, SHMETA_OK);
	expect(0, "", "shmetactl --dir %s verify --timeout 20s", d.instance);
	expect(0, "exported 850 rows", "shmetactl --dir %s export %s.again", d.instance, file);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}
