/* SPDX-License-Identifier: Apache-2.0
 * shmetactl on a large store: every list, dump and verify come to their end, beside a writer that
 * commits, one that does not let them register, and one that was killed. In make faults with 1 000
 * 000 topics and leases; prints what each took. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(large, .timeout = 7200);

enum { AGENTS = 100, GROUPS = 10 };

static struct run_daemon d;
static uint32_t topics;

static void start(void)
{
	char sql[16384];

	topics = run_rounds(20000, 1000000);
	cr_assert_eq(run_daemon_init(&d), 0);
	(void)snprintf(
		sql, sizeof(sql),
		"PRAGMA journal_mode = wal; PRAGMA synchronous = off;" STREAMHOUSE_V01 "BEGIN;"
		"INSERT INTO topics SELECT printf('topic-%%07d', i), 1, NULL, 1, 1, '{}' FROM "
		"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %" PRIu32
		" - 1) SELECT i FROM n);"
		"INSERT INTO partitions SELECT name, 0, 100, 1, 1 FROM topics;"
		"INSERT INTO segments SELECT 'segment-' || rowid, topic, 0, 0, 99, 100, 1, 'b', 'k' || rowid, 1 FROM "
		"partitions;"
		"INSERT INTO agents SELECT 'agent-' || i, '10.0.0.' || i, 'az', 'g', 1, 1, '{}' FROM "
		"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1) SELECT i FROM n);"
		"INSERT INTO partition_leases SELECT topic, 0, 'agent-' || (rowid %% %d), 9000000000000, 1, 7 FROM "
		"partitions;"
		"INSERT INTO consumer_groups SELECT 'group-' || i, 1, 1 FROM "
		"(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1) SELECT i FROM n);"
		"INSERT INTO consumer_offsets SELECT 'group-' || (rowid %% %d), topic, 0, 1, NULL, 1 FROM partitions "
		"WHERE rowid <= %" PRIu32 ";"
		"COMMIT;",
		topics, AGENTS, AGENTS, GROUPS, GROUPS, topics / 10);
	cr_assert_eq(run_daemon_sql(&d, sql), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void stop(void)
{
	run_daemon_done(&d);
}

static uint64_t lines_of(const char *path)
{
	FILE *f = fopen(path, "re");
	char part[65536];
	uint64_t lines = 0;
	size_t n;

	cr_assert(f != NULL);
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		for (size_t i = 0; i < n; i++)
			lines += part[i] == '\n';
	(void)fclose(f);
	return lines;
}

static void expect_lines(const char *when, const char *args, uint64_t lines)
{
	char path[160], name[160];
	struct run_tool t;
	uint64_t got;

	(void)snprintf(path, sizeof(path), "%s/out", d.dir);
	run_tool(&t, "shmetactl --dir %s --no-header %s >%s", d.instance, args, path);
	cr_assert_eq(t.code, 0, "%s, %s: exit %d after %.1f s: %s", when, args, t.code, t.seconds, t.err);
	got = lines_of(path);
	cr_assert_eq(got, lines, "%s, %s: %" PRIu64 " lines", when, args, got);
	(void)snprintf(name, sizeof(name), "shmetactl %s, beside %s", args, when);
	figure(name, lines, 0, "lines", "%.1f s", t.seconds);
	(void)unlink(path);
	run_tool_done(&t);
}

static void expect_all(const char *when)
{
	/* A dump has two lines more: its header and its end. */
	const uint64_t rows = 4 * (uint64_t)topics + AGENTS + GROUPS + topics / 10;

	expect_lines(when, "leases", topics);
	expect_lines(when, "agents", AGENTS);
	expect_lines(when, "groups", GROUPS);
	expect_lines(when, "ls topics", topics);
	expect_lines(when, "ls topics --glob '*zzzq*'", 0);
	expect_lines(when, "ls topics --limit 10", 10);
	expect_lines(when, "dump", rows + 2);
}

/* Commits, one after the other, until it is killed: a snapshot that nobody keeps is gone soon. */
static pid_t start_committing(void)
{
	pid_t pid = run_fork();

	if (pid != 0)
		return pid;
	for (unsigned i = 0;; i++) {
		char sql[128];

		(void)snprintf(sql, sizeof(sql), "UPDATE topics SET updated_at = %u WHERE name = 'topic-0000000'",
		               i + 2);
		if (run_daemon_sql(&d, sql) != 0)
			_exit(1);
		(void)usleep(20000);
	}
}

Test(large, every_list_comes_to_its_end_beside_a_writer_that_commits, .init = start, .fini = stop)
{
	pid_t pid = start_committing();

	expect_all("a writer that commits");
	(void)kill(pid, SIGKILL);
	cr_assert_eq(run_reap(pid), 128 + SIGKILL, "it committed to the end");
	expect_lines("a writer", "verify", 1);
}

Test(large, every_list_comes_to_its_end_without_a_registration, .init = start, .fini = stop)
{
	char socket[160], away[160];
	pid_t pid;

	(void)snprintf(socket, sizeof(socket), "%s/control.sock", d.instance);
	(void)snprintf(away, sizeof(away), "%s/away", d.instance);
	cr_assert_eq(rename(socket, away), 0);
	pid = start_committing();
	expect_lines("no registration", "leases", topics);
	expect_lines("no registration", "ls topics", topics);
	expect_lines("no registration", "ls topics --glob '*zzzq*'", 0);
	(void)kill(pid, SIGKILL);
	cr_assert_eq(run_reap(pid), 128 + SIGKILL, "it committed to the end");
}

Test(large, every_list_comes_to_its_end_when_the_writer_was_killed, .init = start, .fini = stop)
{
	(void)run_daemon_end(&d, SIGKILL);
	expect_all("no writer");
	expect_lines("no writer", "verify", 1);
}
