/* SPDX-License-Identifier: Apache-2.0
 * The snapshot file of a daemon that is killed at any moment: it is the old one or the new one, and
 * what is served from it becomes what the source has. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(snapshot_file, .timeout = 3600);

static struct run_daemon d;
static char file[128];

static void write_config(void)
{
	FILE *config = fopen(d.config, "w");

	cr_assert_not_null(config);
	(void)fprintf(config, "warm {\n\tfile = \"%s\"\n\tinterval = 1s\n}\n", file);
	cr_assert_eq(fclose(config), 0);
}

static void begin(void)
{
	char sql[700];

	cr_assert_eq(run_daemon_init(&d), 0);
	(void)snprintf(file, sizeof file, "%s/snapshot", d.dir);
	write_config();
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	(void)snprintf(sql, sizeof sql,
	               "BEGIN; WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
	               "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	               "SELECT 'topic-' || i, 1, 1, 1, '{}' FROM n;"
	               "INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	               "SELECT name, 0, 100, 1, 1 FROM topics; COMMIT",
	               run_rounds(2000, 20000));
	cr_assert_eq(run_daemon_sql(&d, sql), 0);
	for (double last = run_now_s() + 60; access(file, F_OK) != 0 && run_now_s() < last;)
		usleep(10000);
	cr_assert_eq(access(file, F_OK), 0, "no file was written");
}

static void end(void)
{
	run_daemon_done(&d);
}

static bool logged(const char *what)
{
	char *text = run_read_file(d.log);
	bool found = text != NULL && strstr(text, what) != NULL;

	free(text);
	return found;
}

/* For some time the source changes, so that there is something to write. */
static void change_for(uint32_t round, uint32_t ms)
{
	double last = run_now_s() + ms / 1000.0;
	char sql[160];

	do {
		(void)snprintf(
			sql, sizeof sql,
			"UPDATE partitions SET high_watermark = high_watermark + 1 WHERE topic LIKE 'topic-%u%%'",
			round % 10);
		cr_assert_eq(run_daemon_sql(&d, sql), 0);
		usleep(20000);
	} while (run_now_s() < last);
}

Test(snapshot_file, a_writer_that_is_killed_leaves_a_whole_file_or_none_and_the_next_one_shows_what_the_source_has,
     .init = begin, .fini = end)
{
	const uint32_t kills = run_rounds(8, 200);
	uint32_t from_file = 0;
	struct run_tool t;

	srandom(4711);
	for (uint32_t i = 0; i < kills; i++) {
		change_for(i, 100 + (uint32_t)random() % 1500);
		(void)run_daemon_end(&d, SIGKILL);
		run_daemon_forget(&d); /* as a reboot does */
		cr_assert_eq(truncate(d.log, 0), 0);
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
		/* Lines come a little after what they tell. */
		for (double last = run_now_s() + 20; !logged("loaded: ") && run_now_s() < last;)
			usleep(10000);
		cr_assert(!logged("warm_refused") && !logged("cannot be used"), "after kill %u: the file was refused",
		          i);
		from_file += logged("from the snapshot file");
		run_tool(&t, "shmetactl --dir %s --timeout 60s refresh list", d.instance);
		cr_assert_eq(t.code, 0, "after kill %u: %d: %s%s", i, t.code, t.out, t.err);
		run_tool_done(&t);
		run_tool(&t, "shmetactl --dir %s --timeout 60s verify", d.instance);
		cr_assert_eq(t.code, 0, "after kill %u: %s%s", i, t.out, t.err);
		run_tool_done(&t);
	}
	cr_expect_eq(from_file, kills, "the file was used %u times only", from_file);
	figure("kill -9 of a writer that writes its snapshot file now and then", kills, 200, "kills",
	       "0 files refused, %u starts from the file; stores equal to the source", from_file);
}
