/* SPDX-License-Identifier: Apache-2.0
 * What an operator is told right after a start, after a start that failed, and while the source is
 * away. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(status, .timeout = 120);

static struct run_daemon d;

static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "SELECT 'orders.' || value, 1, 1, 1, '{}' FROM json_each('[0,1,2,3,4]');"
	                                "INSERT INTO partitions SELECT name, 0, 0, 1, 1 FROM topics;"),
	             0);
}

static void end(void)
{
	run_daemon_done(&d);
}

/* What status says, once it says this; fails the test after 20 s. */
static const char *status_with(const char *words)
{
	static char out[8192];
	double last = run_now_s() + 20;

	for (;;) {
		struct run_tool t;

		run_tool(&t, "shmetactl --dir %s status", d.instance);
		snprintf(out, sizeof(out), "exit %d\n%s", t.code, t.out);
		run_tool_done(&t);
		if (strstr(out, words) != NULL)
			return out;
		cr_assert(run_now_s() < last, "status does not say '%s': %s", words, out);
		usleep(20000);
	}
}

static void write_config(const char *text)
{
	FILE *f = fopen(d.config, "we");

	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

Test(status, content_is_there_from_the_first_moment, .init = begin, .fini = end)
{
	const char *out;

	(void)status_with("5 topics, 5 partitions");
	run_daemon_end(&d, SIGKILL);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	out = status_with("serving for");
	cr_expect_not_null(strstr(out, "5 topics, 5 partitions"), "%s", out);
}

Test(status, a_start_that_failed_says_why_and_what_is_still_served, .init = begin, .fini = end)
{
	const char *out;

	(void)status_with("5 topics, 5 partitions");
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	write_config("this is no database, however long it may be");
	d.existing = 1;
	{
		char uri[128], *config = d.config;

		snprintf(uri, sizeof(uri), "sqlite:%s", config);
		/* The file is no configuration either: an empty one for the daemon. */
		snprintf(d.config, sizeof(d.config), "%s/empty.conf", d.dir);
		write_config("");
		snprintf(d.db, sizeof(d.db), "%s/shmeta.conf", d.dir);
		cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	}
	cr_expect_eq(run_reap(d.pid), 2);
	d.pid = 0;
	out = status_with("stopped");
	cr_expect_not_null(strstr(out, "exit 1\n"), "%s", out);
	cr_expect_not_null(strstr(out, ": the last start failed at 20"), "%s", out);
	cr_expect_not_null(strstr(out, "Z: sqlite: "), "%s", out);
	cr_expect_null(strstr(out, "cannot start"), "it is said twice: %s", out);
	cr_expect_not_null(strstr(out, "5 topics, 5 partitions"), "%s", out);
}

/* One start that was refused, whatever runs there. */
static void start_refused(const char *config)
{
	struct run_daemon other = d;

	write_config(config);
	other.pid = 0;
	cr_assert_eq(run_daemon_spawn(&other, NULL), 0);
	cr_expect_eq(run_reap(other.pid), 2);
}

Test(status, a_configuration_that_was_refused_is_told_until_a_start_succeeds, .init = begin, .fini = end)
{
	const char *out;

	(void)status_with("5 topics, 5 partitions");
	/* Beside a writer that serves it is none of its business. */
	start_refused("ttl { topic_ms = never }");
	out = status_with("serving for");
	cr_expect_null(strstr(out, "never"), "%s", out);
	write_config("");
	run_daemon_end(&d, SIGKILL);
	out = status_with("when the writer went away");
	cr_expect_not_null(strstr(out, "'journalctl -u UNIT' says why"), "%s", out);
	start_refused("ttl { topic_ms = soon }\n");
	start_refused("\nttl { topic_ms = never }\nfoo = 1\n");
	out = status_with("the last start failed at 20");
	cr_expect_not_null(strstr(out, "exit 1\n"), "%s", out);
	cr_expect_not_null(strstr(out, "shmeta.conf:2: ttl.topic_ms: 'never' is not a duration"), "%s", out);
	cr_expect_not_null(strstr(out, "(and 1 more)"), "%s", out);
	cr_expect_null(strstr(out, "soon"), "only the newest: %s", out);
	cr_expect_null(strstr(out, "journalctl"), "%s", out);
	write_config("");
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	run_daemon_end(&d, SIGKILL);
	out = status_with("when the writer went away");
	cr_expect_null(strstr(out, "last start"), "%s", out);
}

Test(status, where_no_writer_ever_started_the_reason_is_told, .init = begin, .fini = end)
{
	struct run_tool t;

	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	run_daemon_forget(&d);
	run_tool(&t, "shmetactl --dir %s status", d.instance);
	cr_expect_eq(t.code, 3);
	cr_expect_not_null(strstr(t.err, "'journalctl -u UNIT' says why it ended"), "%s", t.err);
	run_tool_done(&t);
	start_refused("ttl { topic_ms = never }");
	run_tool(&t, "shmetactl --dir %s readers", d.instance);
	cr_expect_eq(t.code, 3);
	cr_expect_not_null(strstr(t.err, "the last start of shmetad failed at 20"), "%s", t.err);
	cr_expect_not_null(strstr(t.err, "ttl.topic_ms: 'never'"), "%s", t.err);
	run_tool_done(&t);
}

/* As on a full file system: the board was made, and then there was no room for what comes behind
 * it. */
Test(status, a_start_that_failed_behind_the_making_of_the_board_is_told, .init = begin, .fini = end)
{
	char path[160], said[300];
	struct run_tool t;

	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	run_daemon_forget(&d);
	(void)snprintf(path, sizeof(path), "%s/stats", d.instance);
	(void)mkdir(d.instance, 0750);
	cr_assert_eq(mkdir(path, 0750), 0);
	cr_assert_eq(run_daemon_spawn(&d, NULL), 0);
	cr_expect_eq(run_reap(d.pid), 1);
	d.pid = 0;
	run_tool(&t, "shmetactl --dir %s status", d.instance);
	cr_expect_eq(t.code, 3, "%d", t.code);
	cr_expect_not_null(strstr(t.err, "the last start of shmetad failed at 20"), "%s", t.err);
	(void)snprintf(said, sizeof(said), "%s: stats: opening: Is a directory", d.instance);
	cr_expect_not_null(strstr(t.err, said), "%s", t.err);
	run_tool_done(&t);
}

/* Opening one waits for somebody who writes it. */
Test(status, a_fifo_in_the_place_of_the_board_is_not_waited_for, .init = begin, .fini = end)
{
	char path[160];
	struct run_tool t;

	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	(void)snprintf(path, sizeof(path), "%s/board", d.instance);
	cr_assert(unlink(path) == 0 && mkfifo(path, 0640) == 0);
	run_tool(&t, "timeout 20 %s --dir %s status", places_shmetactl, d.instance);
	cr_expect_eq(t.code, 6, "%d", t.code);
	cr_expect_not_null(strstr(t.err, "board: is not a regular file"), "%s", t.err);
	run_tool_done(&t);
}

/* The end of a sentence is where the reason is, and of a path where the file is. */
Test(status, a_long_path_and_what_is_said_behind_it_are_shown_whole, .init = begin, .fini = end)
{
	char long_dir[700], away[720], uri[900], *end = long_dir;
	struct run_tool t;
	const char *out;

	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	run_daemon_forget(&d);
	end += snprintf(end, sizeof(long_dir), "%s", d.dir);
	for (int i = 0; i < 2; i++) {
		*end++ = '/';
		memset(end, 'a' + i, 160);
		end += 160;
		*end = '\0';
		cr_assert_eq(mkdir(long_dir, 0755), 0);
	}
	snprintf(uri, sizeof(uri), "sqlite:%s/end.db", long_dir);
	cr_assert_eq(run_daemon_start(&d, uri), 0);
	out = status_with("/end.db: connected\n");
	cr_expect_not_null(strstr(out, uri), "%s", out);
	run_tool(&t, "shmetactl --dir %s store", d.instance);
	cr_expect_not_null(strstr(t.out, "/end.db (without organizations, WAL, change feed)\n"), "%s", t.out);
	run_tool_done(&t);
	snprintf(away, sizeof(away), "%s-away", long_dir);
	cr_assert_eq(rename(long_dir, away), 0);
	out = status_with("away since ");
	cr_expect_not_null(strstr(strstr(out, "away since "), "/end.db"), "%s", out);
	cr_expect_not_null(strstr(out, "No such file or directory"), "%s", out);
	cr_assert_eq(rename(away, long_dir), 0);
}

Test(status, a_reload_that_was_refused_shows, .init = begin, .fini = end)
{
	const char *out;

	(void)status_with("5 topics");
	write_config("ttl { topic_ms = never }");
	kill(d.pid, SIGHUP);
	out = status_with("the last reload was refused: ");
	cr_expect_not_null(strstr(out, "exit 0\n"), "what runs is well: %s", out);
	write_config("");
	kill(d.pid, SIGHUP);
	(void)status_with("serving for");
}

Test(status, while_another_source_is_away_what_is_served_is_counted, .init = begin, .fini = end)
{
	const char *out;

	(void)status_with("5 topics, 5 partitions");
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_spawn(&d, "postgresql://nobody@/none?host=/nonexistent"), 0);
	out = status_with("degraded for");
	cr_expect_not_null(strstr(out, "5 topics, 5 partitions"), "%s", out);
	cr_expect_null(strstr(out, "degraded for 0 ns\n"), "%s", out);
	(void)status_with("away since ");
	run_daemon_end(&d, SIGKILL);
	out = status_with("nobody asks it");
	cr_expect_not_null(strstr(out, "5 topics, 5 partitions"), "%s", out);
}

/* Until the daemon says this of the source. */
static void await_source(const char *words)
{
	char line[200];

	snprintf(line, sizeof(line), ": %s\n", words);
	(void)status_with(line);
}

static int make_topic(const char *name)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s topic create %s 1", d.instance, name);
	int code = t.code;

	run_tool_done(&t);
	return code;
}

Test(status, a_source_that_cannot_be_written_says_so_until_it_can, .init = begin, .fini = end)
{
	if (geteuid() != 0) {
		end(); /* a skipped test has no .fini */
		cr_skip_test("needs root, to run a daemon as somebody else");
	}
	(void)status_with("5 topics, 5 partitions");
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	run_daemon_forget(&d);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode=DELETE"), 0);
	cr_assert_eq(chown(d.instance, 65534, 65534) | chmod(d.dir, 0777) | chmod(d.db, 0644), 0);
	d.user = 65534;
	d.existing = 1;
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	await_source("connected; it cannot be written");
	(void)status_with("5 topics, 5 partitions");
	cr_expect_neq(make_topic("refused"), 0);
	/* It is given the file: nothing is started again. */
	cr_assert_eq(chown(d.db, 65534, 65534), 0);
	await_source("connected");
	cr_expect_eq(make_topic("made"), 0);
	/* And it is taken away: reads go on. */
	cr_assert_eq(chown(d.db, 0, 0), 0);
	await_source("connected; it cannot be written");
	(void)status_with("6 topics, 6 partitions");
	cr_expect_neq(make_topic("refused"), 0);
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "VALUES('another', 1, 1, 1, '{}')"),
	             0);
	(void)status_with("7 topics, 6 partitions");
}
