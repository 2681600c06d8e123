/* SPDX-License-Identifier: Apache-2.0
 * A pause: the daemon lets go of its source, keeps serving what it has, refuses writes with the
 * reason, and stays so over a restart. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(pause, .timeout = 60);

static struct run_daemon d;

#define CTL(t, fmt, ...) run_tool((t), "shmetactl --dir %s " fmt, d.instance, ##__VA_ARGS__)

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_sql(
			     &d,
			     "PRAGMA journal_mode = wal;" STREAMHOUSE_V01
			     "INSERT INTO topics(name, partition_count, retention_ms, created_at, updated_at, config) "
			     "VALUES('one', 1, NULL, 1700000000000, 1700000000000, '{}');"
			     "INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
			     "VALUES('one', 0, 0, 1700000000000, 1700000000000);"),
	             0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void end(void)
{
	run_daemon_done(&d);
}

static void expect(const char *args, int code, const char *says)
{
	struct run_tool t;

	CTL(&t, "%s", args);
	cr_assert_eq(t.code, code, "shmetactl %s: exit %d instead of %d\n%s%s", args, t.code, code, t.out, t.err);
	cr_assert(strstr(code == 0 ? t.out : t.err, says) != NULL, "shmetactl %s: no '%s' in\n%s%s", args, says, t.out,
	          t.err);
	run_tool_done(&t);
}

/* Descriptors of the daemon that lead to a file whose path has this in it. */
static int open_files(const char *part)
{
	char path[64], link[PATH_MAX];
	const struct dirent *entry;
	DIR *dir;
	int n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)d.pid);
	dir = opendir(path);
	cr_assert(dir != NULL);
	while ((entry = readdir(dir)) != NULL) {
		ssize_t bytes = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		link[bytes > 0 ? bytes : 0] = '\0';
		n += strstr(link, part) != NULL;
	}
	(void)closedir(dir);
	return n;
}

static json_int_t counter(const char *name)
{
	struct run_tool t;
	json_t *doc;
	json_int_t value;

	(void)usleep(1500000); /* the stats page is a second old */
	CTL(&t, "--json status");
	doc = run_tool_json(&t);
	value = json_integer_value(json_object_get(json_object_get(doc, "counters"), name));
	json_decref(doc);
	run_tool_done(&t);
	return value;
}

static void await(const char *args, const char *says)
{
	double until = run_now_s() + 10;
	struct run_tool t;

	for (;;) {
		CTL(&t, "%s", args);
		if (strstr(t.out, says) != NULL)
			break;
		cr_assert_lt(run_now_s(), until, "shmetactl %s never says '%s': %s%s", args, says, t.out, t.err);
		run_tool_done(&t);
		(void)usleep(50000);
	}
	run_tool_done(&t);
}

Test(pause, the_source_is_let_go_of_and_what_is_known_is_served, .init = begin, .fini = end)
{
	char file[PATH_MAX];

	expect("resume", 5, "the source is not paused");
	cr_assert_gt(open_files("source.db"), 0);
	expect("pause moving the database", 0, "by uid ");
	cr_assert_eq(open_files("source.db"), 0, "a file of the source is still open");
	expect("get topic one", 0, "partition_count");
	expect("topic create two 1", 1, "moving the database");
	expect("refresh list", 1, "moving the database");
	expect("status", 0, "moving the database");
	expect("health", 1, "");
	/* The source can go away, and another file of it come back, without anybody noticing. */
	cr_assert_eq(
		run_daemon_sql(&d, "UPDATE topics SET config = '{\"k\":\"moved\"}'; PRAGMA wal_checkpoint(TRUNCATE);"),
		0);
	(void)snprintf(file, sizeof(file), "%s.away", d.db);
	cr_assert_eq(rename(d.db, file), 0);
	(void)usleep(700000);
	expect("get topic one", 0, "partition_count");
	cr_assert_neq(access(d.db, F_OK), 0, "the daemon made a source");
	cr_assert_eq(rename(file, d.db), 0);
	expect("resume", 0, "resumed");
	await("get topic one", "moved");
	await("status", ": connected");
	expect("topic create two 1", 0, "two");
	expect("health", 0, "");
}

Test(pause, it_holds_after_a_restart_and_its_end_needs_no_pass, .init = begin, .fini = end)
{
	json_int_t passes;

	expect("pause restoring", 0, "restoring");
	(void)run_daemon_end(&d, SIGKILL);
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	await("status", "writer     alive");
	await("status", "restoring");
	expect("topic create two 1", 1, "restoring");
	cr_assert_eq(open_files("source.db"), 0);
	expect("get topic one", 0, "partition_count");
	expect("resume", 0, "resumed");
	await("status", ": connected");

	/* In one process the feed goes on where it was: what changed meanwhile is read by name, and
	 * nothing else. */
	passes = counter("reconciles");
	expect("pause", 0, "no reason was given");
	cr_assert_eq(run_daemon_sql(&d, "UPDATE topics SET config = '{\"k\":\"named\"}';"), 0);
	expect("resume", 0, "resumed");
	await("get topic one", "named");
	cr_assert_eq(counter("reconciles"), passes);
	(void)run_daemon_end(&d, SIGTERM);
	cr_assert_eq(run_daemon_start(&d, NULL), 0, "a pause that ended is over for the next daemon, too");
	expect("topic create three 1", 0, "three");
}

Test(pause, writes_that_came_before_it_are_done_and_those_behind_it_refused, .init = begin, .fini = end)
{
	struct run_tool t;
	int done = 0, refused = 0;

	/* Twenty clients, and a pause in the middle of them: each hears what became of its
	 * write. */
	run_tool(
		&t,
		"sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (if $0 --dir %s topic create "
		"t$i 1 >/dev/null 2>%s/err.$i; then echo done; elif grep -q maintenance %s/err.$i; then echo refused; else cat "
		"%s/err.$i; fi) & [ $i != 10 ] || $0 --dir %s pause maintenance >/dev/null; done; wait' %s/bin/shmetactl",
		d.instance, d.dir, d.dir, d.dir, d.instance, places_build);
	for (const char *line = t.out; *line != '\0'; line += strcspn(line, "\n") + 1) {
		if (strncmp(line, "done\n", 5) == 0)
			done++;
		else if (strncmp(line, "refused\n", 8) == 0)
			refused++;
		else
			cr_assert_fail("%s", line);
	}
	cr_assert_eq(done + refused, 20, "%s", t.out);
	cr_assert_geq(refused, 10);
	run_tool_done(&t);
	expect("resume", 0, "resumed");
	await("status", ": connected");
	CTL(&t, "ls topics --prefix t --no-header");
	for (const char *line = t.out; *line != '\0'; line += strcspn(line, "\n") + 1)
		done--;
	cr_assert_eq(done, 0, "what was answered as done is there, and nothing else: %s", t.out);
	run_tool_done(&t);
}

/* The engine waits for somebody else's lock, for as long as the file's time limit allows. */
static sqlite3 *hang(void)
{
	FILE *config = fopen(d.config, "w");
	json_int_t polls;
	sqlite3 *db;

	cr_assert(config != NULL);
	(void)fputs("source { timeout_ms = 60s }\n", config);
	(void)fclose(config);
	(void)run_daemon_end(&d, SIGTERM);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode = delete"), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(sqlite3_open(d.db, &db), SQLITE_OK);
	(void)sqlite3_busy_timeout(db, 10000);
	cr_assert_eq(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
	do
		polls = counter("polls");
	while (counter("polls") != polls);
	return db;
}

Test(pause, one_that_is_refused_leaves_nothing_for_the_next_start, .init = begin, .fini = end)
{
	double until = run_now_s() + 30;
	struct run_tool t, first;
	sqlite3 *db = hang();

	run_tool(&first, "sh -c '$0 --dir %s --timeout 50s pause first >%s/first 2>&1 &' %s/bin/shmetactl", d.instance,
	         d.dir, places_build);
	run_tool_done(&first);
	for (;;) {
		CTL(&t, "resume");
		if (strstr(t.err, "a pause or its end is being done") != NULL)
			break;
		cr_assert_lt(run_now_s(), until, "%s%s", t.out, t.err);
		run_tool_done(&t);
		(void)usleep(50000);
	}
	run_tool_done(&t);
	expect("pause second", 1, "a pause or its end is being done; try again in a moment");
	(void)sqlite3_close(db);
	await("status", ": first; 'shmetactl resume' ends it");
	(void)run_daemon_end(&d, SIGTERM);
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	await("status", "writer     alive");
	await("status", ": first; 'shmetactl resume' ends it");
	expect("resume", 0, "resumed");
}

Test(pause, the_level_of_the_log_changes_and_comes_back, .init = begin, .fini = end)
{
	struct run_tool t;
	char *log;

	expect("log-level loud", 2, "'loud' is no level; expected debug, info, notice, warning or err");
	expect("log-level --for 5s", 2, "--for needs a level");
	expect("log-level err --for 1s", 0, "the log has level err now");
	run_tool(&t, "sh -c 'sleep 2.5'");
	run_tool_done(&t);
	log = run_read_file(d.log);
	cr_assert(strstr(log, "configured level again") != NULL, "%s", log);
	free(log);
	expect("log-level", 0, "as configured");
}
