/* SPDX-License-Identifier: Apache-2.0
 * What only the SQLite engine has: files, locks, triggers, its change log. The contract itself is
 * in tests/contract/test_backend.c. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backends/sqlite/sqlite_triggers.h"
#include "tests/support/sqlite_world.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(sqlite, .timeout = 60);

#define ok(call) cr_assert_eq((call), SHMETA_OK, "%s", w.err.text)
#define has(part)                                                                              \
	cr_expect(recorder_has(&w.recorder, (part)), "no line with '%s' in:\n%.3000s", (part), \
	          recorder_text(&w.recorder))
#define says(part) cr_expect_not_null(strstr(w.err.text, (part)), "no '%s' in: %s", (part), w.err.text)

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static struct backend_key segments_of(const char *topic, uint32_t id)
{
	return (struct backend_key){.cls = SHMETA_CLASS_SEGMENT,
	                            .tenant = str(SHMETA_DEFAULT_TENANT),
	                            .topic = str(topic),
	                            .partition_id = id,
	                            .to = INT64_MAX};
}

/* ---- files ---- */

Test(sqlite, makes_a_lean_schema_in_a_file_that_is_not_there)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	cr_assert_neq(access(w.path, F_OK), 0);
	world_open(&w);
	cr_expect_eq(world_sql_number(&w,
	                              "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('topics', "
	                              "'partitions', 'segments', 'consumer_groups', 'consumer_offsets', 'agents', "
	                              "'partition_leases')"),
	             7);
	cr_expect_eq(world_sql_number(
			     &w, "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND name "
				 "NOT LIKE 'shmeta%'"),
	             3);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM pragma_table_info('segments') WHERE name IN "
	                                  "('min_timestamp', 'max_timestamp')"),
	             2);
	cr_expect_eq(world_sql_number(&w, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
	/* No cascade looks through a whole table. */
	world_sql(&w, "PRAGMA foreign_keys=ON");
	static const char *const plans[] = {"SELECT 1 FROM consumer_offsets WHERE topic = 't' AND partition_id = 0",
	                                    "SELECT 1 FROM segments WHERE topic = 't' AND partition_id = 0",
	                                    "SELECT 1 FROM partition_leases WHERE leader_agent_id = 'a'",
	                                    "SELECT 1 FROM partition_leases WHERE topic = 't' AND partition_id = 0",
	                                    "SELECT 1 FROM partitions WHERE topic = 't'",
	                                    "SELECT 1 FROM consumer_offsets WHERE group_id = 'g'"};
	for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
		char *sql = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", plans[i]);
		sqlite3_stmt *plan;

		cr_assert_eq(sqlite3_prepare_v2(w.app, sql, -1, &plan, NULL), SQLITE_OK);
		cr_assert_eq(sqlite3_step(plan), SQLITE_ROW);
		cr_expect_not_null(strstr((const char *)sqlite3_column_text(plan, 3), "SEARCH"), "%s: %s", plans[i],
		                   sqlite3_column_text(plan, 3));
		sqlite3_finalize(plan);
		sqlite3_free(sql);
	}
	world_free(&w);
}

Test(sqlite, an_empty_file_and_one_without_tables_are_new_too)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	close(open(w.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	world_open(&w);
	world_free(&w);
	sqlite_world_bare(&w, "PRAGMA user_version = 7");
	world_open(&w);
	cr_expect_eq(world_sql_number(&w, "SELECT user_version FROM pragma_user_version"), 7);
	world_free(&w);
}

Test(sqlite, takes_an_existing_file_as_it_is)
{
	struct world w;

	for (int engine = WORLD_SQLITE_V01; engine <= WORLD_SQLITE_LATER; engine++) {
		world_make(&w, (enum world_engine)engine);
		int64_t wal = world_sql_number(&w, "SELECT journal_mode = 'wal' FROM pragma_journal_mode");
		int64_t objects = world_sql_number(&w, "SELECT count(*) FROM sqlite_master");

		world_open(&w);
		cr_expect_eq(world_sql_number(&w, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), wal);
		cr_expect_eq(
			world_sql_number(&w,
		                         "SELECT count(*) FROM sqlite_master WHERE substr(name, 1, 7) <> 'shmeta_' AND "
		                         "name NOT LIKE 'sqlite_%'"),
			world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE tbl_name NOT LIKE 'shmeta%' AND "
		                             "type <> 'trigger' AND name NOT LIKE 'sqlite_%'"));
		cr_expect_gt(objects, 20);
		world_free(&w);
	}
}

Test(sqlite, a_schema_that_is_not_managed_is_not_touched)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	w.options.manage_schema = 0;
	world_open(&w);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'shmeta%'"), 0);
	cr_expect_eq(backend_feed_kind(w.ops, w.state), BACKEND_FEED_HINT);
	ok(world_load(&w));
	ok(world_changes(&w));
	cr_expect_eq(w.changed, 0);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
	ok(world_changes(&w));
	cr_expect_eq(w.changed, 0);
	/* There is no position in a hint. */
	char position[128];
	size_t bytes;
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT);
	world_free(&w);
}

/* Who looks at status must see it, whoever wanted it so. */
Test(sqlite, says_that_changes_are_found_by_comparing_also_where_nobody_asked_for_a_feed)
{
	for (uint32_t read_only = 0; read_only < 2; read_only++) {
		struct world w;

		world_make(&w, WORLD_SQLITE_V01);
		world_open(&w);
		cr_expect_str_eq(w.ops->feed->trouble(w.state), "");
		ok(world_load(&w));
		world_sql(&w, "DROP TABLE shmeta_changes");
		w.options.manage_schema = 0;
		w.options.read_only = read_only;
		world_close(&w);
		world_open(&w);
		cr_expect_not_null(
			strstr(w.ops->feed->trouble(w.state), "no change feed: table shmeta_changes is missing"), "%s",
			w.ops->feed->trouble(w.state));
		cr_expect_not_null(strstr(w.ops->feed->trouble(w.state), "Changes are found by comparing everything"));
		cr_expect_not_null(strstr(w.ops->feed->trouble(w.state), "'shmetactl schema apply' does"));
		world_free(&w);
	}
}

Test(sqlite, says_what_a_file_lacks)
{
	static const struct {
		const char *sql, *says;
	} cases[] = {
		{"CREATE TABLE t(a)", "missing: table topics, table partitions, table segments"},
		{STREAMHOUSE_V01_TABLES "DROP TABLE segments", "missing: table segments"},
		{STREAMHOUSE_V01_TABLES "ALTER TABLE partitions DROP COLUMN high_watermark",
	         "missing: column partitions.high_watermark"},
		{STREAMHOUSE_V01_TABLES "ALTER TABLE segments DROP COLUMN s3_key", "missing: column segments.s3_key"},
		{STREAMHOUSE_V01_TABLES "ALTER TABLE topics ADD COLUMN organization_id TEXT",
	         "missing: column partitions.organization_id"},
		{"CREATE VIEW topics AS SELECT 1; CREATE TABLE x(a)", "missing: column topics.name"},
		{"PRAGMA encoding='UTF-16le';" STREAMHOUSE_V01_TABLES, "UTF-16"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		sqlite_world_bare(&w, cases[i].sql);
		cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG, "case %zu", i);
		says(cases[i].says);
		says("sqlite: ");
		says(w.path);
		world_free(&w);
	}
}

Test(sqlite, says_why_a_path_cannot_be_opened)
{
	struct world w;
	char deep[200];

	world_make(&w, WORLD_SQLITE_NEW);
	snprintf(deep, sizeof deep, "sqlite:%s/no/such/folder/x.db", w.dir);
	w.options.uri = deep;
	cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG);
	says("its folder");
	says("No such file or directory");
	world_close(&w);

	snprintf(deep, sizeof deep, "sqlite:%s", w.dir);
	cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG);
	says("it is a folder, not a file");
	world_close(&w);

	w.options.uri = w.uri;
	w.options.read_only = 1;
	cr_expect_eq(world_try_open(&w), SHMETA_ERR_SOURCE, "a file that is not there may come");
	says("a read-only source is not created");
	world_close(&w);

	close(open(w.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG);
	says("has no tables");
	world_close(&w);
	w.options.read_only = 0;

	FILE *file = fopen(w.path, "w");
	for (int i = 0; i < 1000; i++)
		fputs("this is no database, whatever its name says\n", file);
	fclose(file);
	cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG);
	says("file is not a database (SQLITE_NOTADB, 26)");
	world_close(&w);

	static const char *const no_paths[] = {"sqlite:", "sqlite::memory:", "sqlite:file:x.db"};
	for (size_t i = 0; i < 3; i++) {
		w.options.uri = no_paths[i];
		cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG);
		says("it is written sqlite:PATH");
		world_close(&w);
	}
	world_free(&w);
}

Test(sqlite, a_corrupt_page_is_an_error_and_not_an_empty_table)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_begin(&w);
	for (uint64_t i = 0; i < 2000; i++)
		world_segment(&w, NULL, "t", 0, i, i);
	world_commit(&w);
	int64_t root = world_sql_number(&w, "SELECT rootpage FROM sqlite_master WHERE name = 'segments'");
	sqlite3_close(w.app);
	w.app = NULL;
	int fd = open(w.path, O_WRONLY | O_CLOEXEC);
	char junk[100];
	memset(junk, 0xee, sizeof junk);
	cr_assert_eq(pwrite(fd, junk, sizeof junk, (root - 1) * 4096), (ssize_t)sizeof junk);
	close(fd);
	world_open(&w);
	cr_expect_eq(world_load(&w), SHMETA_ERR_SOURCE);
	says("SQLITE_CORRUPT");
	world_free(&w);
}

/* ---- read-only ---- */

Test(sqlite, read_only_never_writes)
{
	struct world w;
	struct stat before, after;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	cr_assert_eq(stat(w.path, &before), 0);
	w.options.read_only = 1;
	world_open(&w);
	cr_expect_eq(backend_feed_kind(w.ops, w.state), BACKEND_FEED_HINT);
	cr_expect_not(world_writable(&w));
	ok(world_load(&w));
	cr_expect_eq(w.recorder.topics, 1);
	struct backend_key key = segments_of("t", 0);
	ok(world_fetch(&w, &key, 1));
	ok(world_changes(&w));
	cr_assert_eq(stat(w.path, &after), 0);
	cr_expect_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'shmeta%'"), 0);
	world_watermark(&w, NULL, "t", 0, 5);
	ok(world_changes(&w));
	has("changed list");
	world_free(&w);
}

Test(sqlite, read_only_uses_a_feed_that_somebody_else_made)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_LATER);
	world_open(&w);
	world_close(&w);
	w.options.read_only = 1;
	world_open(&w);
	cr_expect(world_has_feed(&w) && !world_writable(&w));
	ok(world_load(&w));
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_changes(&w));
	has("t with_segments deleted");
	world_free(&w);
}

/* As somebody who may read the file but not write it. Exit status: 0 as expected, otherwise the
 * number of what failed. */
static int as_stranger(struct world *w, bool folder_writable, const char *expected)
{
	int status;

	chmod(w->path, 0644);
	chmod(w->dir, folder_writable ? 0777 : 0755);
	pid_t pid = fork();
	if (pid == 0) {
		int failed = 0;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
			_exit(100);
		if (expected == NULL) {
			if (world_try_open(w) != SHMETA_OK)
				failed = 1;
			else if (world_writable(w))
				failed = 2;
			else if (world_load(w) != SHMETA_OK || w->recorder.topics != 1)
				failed = 3;
		} else {
			if (world_try_open(w) != SHMETA_ERR_SOURCE)
				failed = 4;
			else if (strstr(w->err.text, expected) == NULL)
				failed = 5;
		}
		if (failed != 0)
			fprintf(stderr, "as_stranger: %d: %s\n", failed, w->err.text);
		_exit(failed);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(sqlite, a_file_that_may_not_be_written_is_read_only_by_itself)
{
	struct world w;

	if (geteuid() != 0)
		cr_skip_test("needs root to become somebody else");
	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	sqlite3_close(w.app);
	w.app = NULL;
	cr_expect_eq(as_stranger(&w, false, NULL), 0);
	world_free(&w);
}

Test(sqlite, a_wal_file_whose_shm_cannot_be_made_says_so)
{
	struct world w;

	if (geteuid() != 0)
		cr_skip_test("needs root to become somebody else");
	world_make(&w, WORLD_SQLITE_LATER);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	sqlite3_close(w.app); /* the last connection takes -wal and -shm away */
	w.app = NULL;
	cr_expect_eq(as_stranger(&w, false, "needs its -shm file"), 0);
	cr_expect_eq(as_stranger(&w, true, NULL), 0, "where it can be made, it is read");
	world_free(&w);
}

/* ---- replaced, moved, deleted ---- */

static void copy_with(struct world *w, const char *name, const char *extra)
{
	char to[200];
	sqlite3 *copy;

	snprintf(to, sizeof to, "%s/%s", w->dir, name);
	world_sql(w, "VACUUM INTO %Q", to);
	cr_assert_eq(sqlite3_open(to, &copy), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(copy, extra, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(copy));
	sqlite3_close(copy);
}

static void reopen_app(struct world *w)
{
	sqlite3_close(w->app);
	cr_assert_eq(sqlite3_open(w->path, &w->app), SQLITE_OK);
	sqlite3_busy_timeout(w->app, 10000);
	world_sql(w, "PRAGMA foreign_keys=ON");
}

Test(sqlite, a_file_put_in_its_place_is_noticed_at_once)
{
	struct world w;
	char copy[200], position[128];
	size_t bytes;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "old", 1, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	uint64_t fingerprint = w.ops->source->fingerprint(w.state);
	copy_with(&w, "copy.db", "DELETE FROM topics; INSERT INTO topics VALUES('new', 1, NULL, 1, 1, '{}')");
	snprintf(copy, sizeof copy, "%s/copy.db", w.dir);
	ok(world_changes(&w));
	cr_expect_eq(w.changed, 0);
	cr_assert_eq(rename(copy, w.path), 0);
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
	cr_expect_eq(w.ops->source->fingerprint(w.state), fingerprint, "a restored copy is the same source");
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT,
	             "vacuumed: it may lack what was logged");
	ok(world_load(&w));
	has("topic 00000000-0000-0000-0000-000000000000 new ");
	cr_expect_eq(w.recorder.topics, 1);
	cr_expect_eq(world_counters(&w).reconnects, 1);
	/* The new one is followed as the old one was. */
	reopen_app(&w);
	world_topic(&w, NULL, "later", 1, -1, NULL);
	ok(world_changes(&w));
	has("later with_segments");
	world_free(&w);
}

Test(sqlite, a_replaced_file_is_fetched_from_as_soon_as_it_was_told)
{
	struct world w;
	char copy[200];

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	copy_with(&w, "copy.db", "UPDATE partitions SET high_watermark = 42");
	snprintf(copy, sizeof copy, "%s/copy.db", w.dir);
	cr_assert_eq(rename(copy, w.path), 0);
	struct backend_key key = segments_of("t", 0);
	cr_expect_eq(world_fetch(&w, &key, 1), SHMETA_ERR_CONFLICT);
	ok(world_changes(&w));
	has("changed list");
	ok(world_fetch(&w, &key, 1));
	has("watermark=42");
	world_free(&w);
}

Test(sqlite, another_database_in_its_place_has_another_fingerprint)
{
	struct world w, other;

	world_make(&w, WORLD_SQLITE_V01);
	world_make(&other, WORLD_SQLITE_LATER);
	world_open(&w);
	ok(world_load(&w));
	uint64_t fingerprint = w.ops->source->fingerprint(w.state);
	sqlite3_close(other.app);
	other.app = NULL;
	cr_assert_eq(rename(other.path, w.path), 0);
	ok(world_changes(&w));
	has("changed list");
	cr_expect_neq(w.ops->source->fingerprint(w.state), fingerprint);
	cr_expect(((const struct sqlite_state *)w.state)->shape.timestamps, "its shape is looked at anew");
	world_free(&other);
	world_free(&w);
}

Test(sqlite, a_file_that_is_gone_is_an_error_until_it_is_back)
{
	struct world w;
	char aside[200];

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	snprintf(aside, sizeof aside, "%s/aside.db", w.dir);
	cr_assert_eq(rename(w.path, aside), 0);
	cr_expect_eq(world_changes(&w), SHMETA_ERR_SOURCE);
	says("No such file or directory");
	cr_expect_eq(world_load(&w), SHMETA_ERR_SOURCE);
	cr_expect_neq(access(w.path, F_OK), 0, "an empty database was made in its place");
	cr_assert_eq(rename(aside, w.path), 0);
	ok(world_changes(&w));
	has("changed list");
	ok(world_load(&w));
	cr_expect_eq(w.recorder.topics, 1);
	world_free(&w);
}

Test(sqlite, an_inode_that_is_used_again_is_not_taken_for_the_same_file)
{
	struct world w;

	/* Even when the file system gives the new file the old one's inode number, which it cannot
	 * while we hold the old one. */
	for (int i = 0; i < 20; i++) {
		world_make(&w, WORLD_SQLITE_V01);
		world_open(&w);
		ok(world_load(&w));
		sqlite3_close(w.app);
		w.app = NULL;
		unlink(w.path);
		cr_assert_eq(sqlite3_open(w.path, &w.app), SQLITE_OK);
		cr_assert_eq(sqlite3_exec(w.app, STREAMHOUSE_V01, NULL, NULL, NULL), SQLITE_OK);
		ok(world_changes(&w));
		has("changed list");
		world_free(&w);
	}
}

/* ---- schema changes ---- */

Test(sqlite, a_table_dropped_under_it_is_named)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_open(&w);
	ok(world_load(&w));
	world_sql(&w, "PRAGMA foreign_keys=OFF; DROP TABLE segments");
	cr_expect_eq(world_changes(&w), SHMETA_ERR_CONFIG);
	says("missing: table segments");
	world_sql(&w,
	          "CREATE TABLE segments(id TEXT PRIMARY KEY, topic TEXT, partition_id INTEGER, base_offset INTEGER, "
	          "end_offset INTEGER, record_count INTEGER, size_bytes INTEGER, s3_bucket TEXT, s3_key TEXT, "
	          "created_at INTEGER)");
	ok(world_changes(&w));
	has("changed list");
	world_free(&w);
}

Test(sqlite, triggers_that_were_dropped_are_made_again_and_everything_is_reported)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	world_sql(&w, "DROP TRIGGER shmeta_partitions_update; UPDATE partitions SET high_watermark = 9");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
	ok(world_load(&w));
	has("watermark=9");
	world_watermark(&w, NULL, "t", 0, 10);
	ok(world_changes(&w));
	has("changed partition");
	world_free(&w);
}

Test(sqlite, a_log_that_was_dropped_or_emptied_is_noticed)
{
	struct world w;
	char position[128];
	size_t bytes;

	world_make(&w, WORLD_SQLITE_V01);
	world_open(&w);
	world_topic(&w, NULL, "a", 1, -1, NULL);
	ok(world_load(&w));
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	world_sql(&w, "DELETE FROM shmeta_changes");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
	world_sql(
		&w,
		"PRAGMA foreign_keys=OFF; DELETE FROM sqlite_sequence; INSERT INTO topics VALUES('b', 1, NULL, 1, 1, '{}')");
	ok(world_changes(&w));
	ok(world_load(&w));
	cr_expect_eq(w.recorder.topics, 2);
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ERR_CONFLICT);
	says("change log");
	/* Gone altogether, triggers and all: made again, with another identity. */
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	ok(sqlite_remove_managed(w.state, &w.err));
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'shmeta%'"), 0);
	world_sql(&w, "INSERT INTO topics VALUES('c', 1, NULL, 1, 1, '{}')");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
	cr_expect_gt(world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'shmeta%'"), 20);
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ERR_CONFLICT);
	world_free(&w);
}

/* Of several between two polls nobody can tell any more that no trigger was away meanwhile. */
Test(sqlite, schema_changes_that_do_not_concern_it_are_ignored)
{
	static const char *const one_by_one[] = {"CREATE TABLE notes(a)", "CREATE INDEX more ON notes(a)", "ANALYZE",
	                                         "ANALYZE", "DROP INDEX more"};
	struct world w;

	world_make(&w, WORLD_SQLITE_LATER);
	world_open(&w);
	ok(world_load(&w));
	for (size_t i = 0; i < sizeof one_by_one / sizeof *one_by_one; i++) {
		world_sql(&w, "%s", one_by_one[i]);
		ok(world_changes(&w));
		cr_expect_eq(w.changed, 0, "%s", one_by_one[i]);
		cr_expect_eq(w.recorder.changed, 0);
	}
	world_sql(&w, "ALTER TABLE topics ADD COLUMN colour TEXT");
	ok(world_changes(&w));
	has("changed list");
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_load(&w));
	cr_expect_eq(w.recorder.topics, 1);
	world_free(&w);
}

Test(sqlite, columns_that_come_later_are_used)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_segment(&w, NULL, "t", 0, 0, 9);
	world_open(&w);
	ok(world_load(&w));
	world_sql(&w, "ALTER TABLE segments ADD COLUMN min_timestamp INTEGER NOT NULL DEFAULT 0; "
	              "ALTER TABLE segments ADD COLUMN max_timestamp INTEGER NOT NULL DEFAULT 0; "
	              "UPDATE segments SET min_timestamp = 3, max_timestamp = 4");
	ok(world_changes(&w));
	has("changed list");
	ok(world_load(&w));
	has("times=3..4");
	world_free(&w);
}

/* ---- the log ---- */

Test(sqlite, insert_or_replace_is_a_refetch)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 2, -1, NULL);
	world_segment(&w, NULL, "t", 0, 0, 9);
	world_segment(&w, NULL, "t", 0, 10, 19);
	world_open(&w);
	ok(world_load(&w));
	/* A segment in the place of another: the old row's delete is not logged, whatever its id
	 * was. */
	world_sql(&w, "INSERT OR REPLACE INTO segments VALUES('other', 't', 0, 10, 14, 5, 5, 'b', 'k', 1)");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder),
	                 "changed segment 00000000-0000-0000-0000-000000000000 t/0 10..10\n");
	struct backend_key key = segments_of("t", 0);
	key.from = key.to = 10;
	ok(world_fetch(&w, &key, 1));
	has("10..14");
	cr_expect_eq(w.recorder.segments, 1);
	/* A segment taken to another place by its id: its former place is not named by the trigger,
	 * but by the reconcile. */
	/* A topic: with foreign keys on its partitions went with the old row. */
	world_sql(&w, "INSERT OR REPLACE INTO topics VALUES('t', 2, NULL, 5, 5, '{}')");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder),
	                 "changed topic 00000000-0000-0000-0000-000000000000 t with_segments deleted\n");
	/* A partition: its segments went with the old row. */
	world_sql(&w, "INSERT INTO partitions VALUES('t', 0, 1, 1, 1); "
	              "INSERT INTO segments VALUES('again', 't', 0, 10, 14, 5, 5, 'b', 'k', 1)");
	ok(world_changes(&w));
	world_sql(&w, "INSERT OR REPLACE INTO partitions VALUES('t', 0, 7, 1, 1)");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder),
	                 "changed segment 00000000-0000-0000-0000-000000000000 t/0 0..9223372036854775807\n");
	key = segments_of("t", 0);
	ok(world_fetch(&w, &key, 1));
	has("watermark=7");
	cr_expect_eq(w.recorder.segments, 0);
	world_free(&w);
}

Test(sqlite, a_moved_row_is_told_where_it_was_and_where_it_is)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_LATER);
	world_topic(&w, NULL, "a", 2, -1, NULL);
	world_segment(&w, NULL, "a", 0, 0, 9);
	world_open(&w);
	ok(world_load(&w));
	world_sql(&w, "UPDATE segments SET base_offset = 500, end_offset = 509");
	ok(world_changes(&w));
	has("a/0 0..0");
	has("a/0 500..500");
	world_sql(&w, "UPDATE segments SET partition_id = 1");
	ok(world_changes(&w));
	has("a/0 500..500");
	has("a/1 500..500");
	world_sql(&w, "UPDATE segments SET organization_id = '" WORLD_OTHER_TENANT "'");
	ok(world_changes(&w));
	has("changed segment 00000000-0000-0000-0000-000000000000 a/1 500..500");
	has("changed segment " WORLD_OTHER_TENANT " a/1 500..500");
	world_sql(&w, "PRAGMA foreign_keys=OFF; UPDATE partitions SET partition_id = 5 WHERE partition_id = 1");
	ok(world_changes(&w));
	has("a/1 0..9223372036854775807");
	has("a/5 0..9223372036854775807");
	world_sql(&w, "UPDATE topics SET name = 'b' WHERE name = 'a'");
	ok(world_changes(&w));
	has("a with_segments deleted");
	has("b with_segments deleted");
	world_free(&w);
}

Test(sqlite, deletes_without_where_are_logged_row_by_row)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	for (uint64_t i = 0; i < 50; i++)
		world_segment(&w, NULL, "t", 0, i, i);
	world_open(&w);
	ok(world_load(&w));
	world_sql(&w, "DELETE FROM segments");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder),
	                 "changed segment 00000000-0000-0000-0000-000000000000 t/0 0..49\n");
	world_free(&w);
}

Test(sqlite, a_cascade_writes_one_row_and_not_one_for_each_child)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 100, -1, NULL);
	world_begin(&w);
	for (uint64_t i = 0; i < 2000; i++)
		world_segment(&w, NULL, "t", (uint32_t)(i % 100), i, i);
	world_commit(&w);
	world_open(&w);
	ok(world_load(&w));
	int64_t before = world_sql_number(&w, "SELECT count(*) FROM shmeta_changes");
	world_delete_partition(&w, NULL, "t", 7);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_changes"), before + 1);
	world_delete_topic(&w, NULL, "t");
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_changes"), before + 2);
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder),
	                 "changed topic 00000000-0000-0000-0000-000000000000 t with_segments deleted\n");
	world_free(&w);
}

Test(sqlite, numbers_of_the_log_are_never_used_again)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_open(&w);
	world_topic(&w, NULL, "a", 1, -1, NULL);
	ok(world_load(&w));
	/* Whoever prunes to the very end: the next row is still a new one. */
	int64_t last = world_sql_number(&w, "SELECT max(seq) FROM shmeta_changes");
	world_sql(&w, "DELETE FROM shmeta_changes WHERE seq < (SELECT max(seq) FROM shmeta_changes)");
	ok(world_changes(&w));
	cr_expect_eq(w.changed, 0, "rows that were seen may go");
	world_sql(&w, "DELETE FROM shmeta_changes");
	world_topic(&w, NULL, "b", 1, -1, NULL);
	cr_expect_gt(world_sql_number(&w, "SELECT min(seq) FROM shmeta_changes"), last);
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n", "no row proves that this is where we were");
	world_free(&w);
}

static void stuff_log(struct world *w, int rows)
{
	world_sql(w,
	          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
	          "INSERT INTO shmeta_changes(class, op, topic, partition_id, base_offset) "
	          "SELECT 2, 1, 't', i %% 3, i FROM n",
	          rows);
}

Test(sqlite, the_log_is_pruned_in_batches_behind_us_and_its_end_stays)
{
	struct world w;
	int64_t first, last, before;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 3, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	stuff_log(&w, 150000);
	ok(world_changes(&w));
	cr_expect_eq(w.recorder.changed, 6, "windows of 100 000 rows, one range for each partition");
	first = world_sql_number(&w, "SELECT min(seq) FROM shmeta_changes");
	last = world_sql_number(&w, "SELECT max(seq) FROM shmeta_changes");
	cr_expect_gt(first, 10000);
	cr_expect_lt(first, 30000);
	for (int i = 0; i < 10; i++) {
		before = first;
		world_watermark(&w, NULL, "t", 0, (uint64_t)i);
		ok(world_changes(&w));
		cr_expect_eq(w.recorder.changed, 1);
		first = world_sql_number(&w, "SELECT min(seq) FROM shmeta_changes");
		cr_expect_geq(first, before);
	}
	cr_expect_geq(last - first, 100000 - 10, "the newest 100 000 stay for whoever else follows");
	cr_expect_leq(last - first, 120000);
	world_free(&w);
}

Test(sqlite, a_follower_that_the_log_no_longer_reaches_is_told_everything)
{
	struct world w;
	char position[128];
	size_t bytes;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 3, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	stuff_log(&w, 20);
	world_sql(&w, "DELETE FROM shmeta_changes WHERE seq <= 10");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT);
	world_free(&w);
}

Test(sqlite, the_log_bounds_itself_while_no_daemon_runs)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_open(&w);
	world_sql(&w, "INSERT INTO shmeta_changes(seq, class) VALUES(1, 0), (2, 0), (1048576 + 1000, 0)");
	stuff_log(&w, 3000);
	cr_expect_gt(world_sql_number(&w, "SELECT min(seq) FROM shmeta_changes"), 1000);
	cr_expect_gt(world_sql_number(&w, "SELECT count(*) FROM shmeta_changes"), 3000);
	world_free(&w);
}

Test(sqlite, rows_of_the_log_that_make_no_sense_do_no_harm)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	world_sql(&w,
	          "INSERT INTO shmeta_changes(class, op, topic, partition_id, base_offset) VALUES(99, 1, 't', 0, 0), "
	          "(-1, 1, 't', 0, 0), (NULL, NULL, NULL, NULL, NULL), (2, 1, NULL, 0, 0), "
	          "('x', 'y', x'ff00', 'z', 1.5), (2, 77, 't', 0, 5)");
	world_sql(
		&w, "INSERT INTO shmeta_changes(class, op, topic) VALUES(0, 1, %Q)",
		"a name that is far too long to be one, which is why it is not in any store: "
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	ok(world_changes(&w));
	has("t/0 5..5");
	cr_expect_leq(w.recorder.changed, 2);
	world_sql(&w,
	          "INSERT INTO shmeta_changes(class, op, topic, partition_id, base_offset) VALUES(2, 1, 't', -4, 0), "
	          "(2, 1, 't', 99999999999, 0), (2, 1, 't', 0, -9), (6, 1, 't', -4, 0)");
	recorder_clear(&w.recorder);
	ok(world_changes(&w));
	has("changed topic " SHMETA_DEFAULT_TENANT " t with_segments\n");
	has("changed offset\n");
	has("t/0 0..9223372036854775807");
	cr_expect_eq(w.recorder.changed, 3);
	world_free(&w);
}

Test(sqlite, two_followers_of_one_file_both_see_everything)
{
	struct world w, second;

	world_make(&w, WORLD_SQLITE_LATER);
	world_open(&w);
	second = w;
	second.app = NULL;
	second.state = NULL;
	recorder_init(&second.recorder);
	world_open(&second);
	ok(world_load(&w));
	ok(world_load(&second));
	cr_expect_eq(w.ops->source->fingerprint(w.state), second.ops->source->fingerprint(second.state));
	for (int i = 0; i < 20; i++) {
		char name[20];

		snprintf(name, sizeof name, "t%d", i);
		world_topic(&w, NULL, name, 1, -1, NULL);
		ok(world_changes(&w));
		has(name);
		if (i % 3 == 0) {
			cr_assert_eq(world_changes(&second), SHMETA_OK);
			cr_expect(recorder_has(&second.recorder, name));
		}
	}
	world_close(&second);
	recorder_free(&second.recorder);
	world_free(&w);
}

/* ---- what shmeta writes itself ---- */

static void two_daemons(struct world *a, struct world *b, enum world_engine engine)
{
	world_make(a, engine);
	world_open(a);
	world_topic(a, NULL, "t", 4, -1, NULL);
	*b = *a;
	b->app = NULL;
	b->state = NULL;
	recorder_init(&b->recorder);
	world_open(b);
	cr_assert_eq(world_load(a), SHMETA_OK);
	cr_assert_eq(world_load(b), SHMETA_OK);
}

static void end_two(struct world *a, struct world *b)
{
	world_close(b);
	sqlite3_close(b->app);
	recorder_free(&b->recorder);
	world_free(a);
}

static void daemons_follow_each_other(enum world_engine engine)
{
	struct world a, b;
	struct shmeta_op op[40];
	char id[40][40];
	size_t lines;

	two_daemons(&a, &b, engine);
	for (uint32_t i = 0; i < 40; i++)
		op[i] = sqlite_world_add(i % 2, i / 2 * 10, id[i]);
	sqlite_world_apply(&a, op, 40);
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_expect_not(recorder_has(&b.recorder, "list"), "by key, not by reading everything");
	cr_expect(recorder_has(&b.recorder, "t/0 0..190"), "%s", recorder_text(&b.recorder));
	cr_expect(recorder_has(&b.recorder, "t/1 0..190"), "%s", recorder_text(&b.recorder));
	lines = b.recorder.changed;
	cr_expect_eq(lines, 2, "%s", recorder_text(&b.recorder));
	cr_assert_eq(world_changes(&a), SHMETA_OK);
	cr_expect_eq(a.recorder.changed, 0, "what it did itself it knows: %s", recorder_text(&a.recorder));

	/* In turn, without a look at the log in between: each sees the other's, and not its own. */
	for (uint64_t i = 20; i < 30; i++) {
		op[0] = sqlite_world_add(2, i * 10, id[0]);
		sqlite_world_apply(&a, op, 1);
		op[0] = sqlite_world_add(3, i * 10, id[0]);
		sqlite_world_apply(&b, op, 1);
	}
	cr_assert_eq(world_changes(&a), SHMETA_OK);
	cr_expect(recorder_has(&a.recorder, "t/3 200..") && recorder_has(&a.recorder, "..290"), "%s",
	          recorder_text(&a.recorder));
	cr_expect_not(recorder_has(&a.recorder, "t/2"), "%s", recorder_text(&a.recorder));
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_expect(recorder_has(&b.recorder, "t/2 200..") && recorder_has(&b.recorder, "..290"), "%s",
	          recorder_text(&b.recorder));
	cr_expect_not(recorder_has(&b.recorder, "t/3"), "%s", recorder_text(&b.recorder));

	/* More of one's own behind another's than are kept apart: some are read again, none of the
	 * other's is missed. */
	for (uint64_t i = 30; i < 130; i++) {
		op[0] = sqlite_world_add(2, i * 10, id[0]);
		sqlite_world_apply(&a, op, 1);
		op[0] = sqlite_world_add(3, i * 10, id[0]);
		sqlite_world_apply(&b, op, 1);
	}
	cr_assert_eq(world_changes(&a), SHMETA_OK);
	cr_expect(recorder_has(&a.recorder, "t/3 300"), "%s", recorder_text(&a.recorder));
	cr_expect(recorder_has(&a.recorder, "..1290"), "%s", recorder_text(&a.recorder));
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_expect(recorder_has(&b.recorder, "t/2 300"), "%s", recorder_text(&b.recorder));

	op[0] = (struct shmeta_op){.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = str("t"), .offset = 100};
	op[1] = (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("t"), .partition_id = 1};
	op[2] = (struct shmeta_op){.type = SHMETA_OP_COMMIT_OFFSET,
	                           .name = str("t"),
	                           .u.committed = {.group_id = str("g"), .committed_offset = 3}};
	op[3] = (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
	                           .u.topic = {.name = str("new"), .partition_count = 2}};
	sqlite_world_apply(&a, op, 4);
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_expect(recorder_has(&b.recorder, "t/0 0.."), "%s", recorder_text(&b.recorder));
	cr_expect(recorder_has(&b.recorder, "t/1"), "%s", recorder_text(&b.recorder));
	cr_expect(recorder_has(&b.recorder, "changed offset"), "%s", recorder_text(&b.recorder));
	cr_expect(recorder_has(&b.recorder, "new with_segments"), "%s", recorder_text(&b.recorder));
	op[0] = (struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = str("new")};
	sqlite_world_apply(&b, op, 1);
	cr_assert_eq(world_changes(&a), SHMETA_OK);
	cr_expect(recorder_has(&a.recorder, "new with_segments deleted"), "%s", recorder_text(&a.recorder));
	cr_expect_eq(a.recorder.changed, 1, "%s", recorder_text(&a.recorder));
	end_two(&a, &b);
}

Test(sqlite, two_daemons_that_write_to_one_file_follow_each_other_key_by_key)
{
	daemons_follow_each_other(WORLD_SQLITE_NEW);
}

Test(sqlite, two_daemons_follow_each_other_in_the_later_schema_too)
{
	daemons_follow_each_other(WORLD_SQLITE_LATER);
}

/* What lives for seconds is written most often: a heartbeat must not make others read all
 * agents. */
static void others_learn_which(enum world_engine engine)
{
	struct world a, b;
	struct shmeta_op op[100];
	char name[100][16];

	two_daemons(&a, &b, engine);
	op[0] = (struct shmeta_op){.type = SHMETA_OP_REGISTER_AGENT,
	                           .u.agent = {.agent_id = str("agent-7"),
	                                       .address = str("seven:9092"),
	                                       .availability_zone = str("zone"),
	                                       .agent_group = str("group"),
	                                       .started_at_ms = 1}};
	op[1] = (struct shmeta_op){.type = SHMETA_OP_COMMIT_OFFSET,
	                           .name = str("t"),
	                           .partition_id = 1,
	                           .u.committed = {.group_id = str("g"), .committed_offset = 3}};
	op[2] = (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = str("h")};
	op[3] = (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
	                           .name = str("t"),
	                           .partition_id = 2,
	                           .agent_id = str("agent-7"),
	                           .duration_ms = 60000};
	sqlite_world_apply(&a, op, 4);
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_expect(recorder_has(&b.recorder, "changed agent " SHMETA_DEFAULT_TENANT " agent-7"), "%s",
	          recorder_text(&b.recorder));
	cr_expect(recorder_has(&b.recorder, "changed offset " SHMETA_DEFAULT_TENANT " g t/1"), "%s",
	          recorder_text(&b.recorder));
	cr_expect(recorder_has(&b.recorder, "changed offset " SHMETA_DEFAULT_TENANT " h"), "%s",
	          recorder_text(&b.recorder));
	cr_expect(recorder_has(&b.recorder, "changed lease " SHMETA_DEFAULT_TENANT "  t/2"), "%s",
	          recorder_text(&b.recorder));
	cr_expect_eq(b.recorder.changed, 4, "%s", recorder_text(&b.recorder));
	/* Of very many in one batch the class is enough. */
	for (int i = 0; i < 100; i++) {
		snprintf(name[i], sizeof name[i], "group-%d", i);
		op[i] = (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = str(name[i])};
	}
	sqlite_world_apply(&a, op, 100);
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_expect(recorder_has(&b.recorder, "changed offset\n"), "%s", recorder_text(&b.recorder));
	cr_expect_lt(b.recorder.changed, 70, "%s", recorder_text(&b.recorder));
	end_two(&a, &b);
}

Test(sqlite, a_heartbeat_at_one_daemon_makes_another_one_read_that_agent)
{
	others_learn_which(WORLD_SQLITE_NEW);
}

Test(sqlite, a_heartbeat_at_one_daemon_makes_another_one_read_that_agent_in_the_later_schema_too)
{
	others_learn_which(WORLD_SQLITE_LATER);
}

/* REPLACE takes a row away without telling anybody: who gets an address may have got another
 * one's. */
Test(sqlite, an_agent_that_replaces_another_one_is_told_with_it)
{
	static const char put[] = "INSERT OR REPLACE INTO agents(agent_id, address, availability_zone, agent_group, "
				  "last_heartbeat, started_at) VALUES('%s', '%s', 'z', 'g', 1, 1)";
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_sql(&w, put, "a", "one");
	world_sql(&w, put, "b", "two");
	ok(world_load(&w));
	world_sql(&w, "UPDATE agents SET last_heartbeat = 5 WHERE agent_id = 'a'");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed agent " SHMETA_DEFAULT_TENANT " a\n");
	world_sql(&w, put, "c", "one");
	ok(world_changes(&w));
	has("changed agent " SHMETA_DEFAULT_TENANT " a\n");
	has("changed agent " SHMETA_DEFAULT_TENANT " c\n");
	cr_expect_eq(w.recorder.changed, 2);
	world_sql(&w, "UPDATE OR REPLACE agents SET address = 'two' WHERE agent_id = 'c'");
	ok(world_changes(&w));
	has("changed agent " SHMETA_DEFAULT_TENANT " b\n");
	has("changed agent " SHMETA_DEFAULT_TENANT " c\n");
	cr_expect_eq(w.recorder.changed, 2);
	world_sql(&w, "DELETE FROM agents WHERE agent_id = 'c'");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed agent " SHMETA_DEFAULT_TENANT " c\n");
	/* And of more than are read at one go. */
	world_sql(&w, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) INSERT INTO "
	              "consumer_groups SELECT 'group-' || i, 1, 1 FROM n");
	ok(world_changes(&w));
	cr_expect(recorder_has(&w.recorder, "changed offset\n"));
	cr_expect_leq(w.recorder.changed, 2001);
	world_free(&w);
}

/* A log of an earlier version had no names: it is made anew, and who follows it reads
 * everything. */
Test(sqlite, a_log_without_names_is_made_anew)
{
	struct world w;
	char position[128];
	size_t bytes;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_load(&w));
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	world_close(&w);
	world_sql(&w,
	          "DROP TABLE shmeta_changes; CREATE TABLE shmeta_changes(seq INTEGER PRIMARY KEY AUTOINCREMENT, class "
	          "INTEGER, op INTEGER, tenant TEXT, topic TEXT, partition_id INTEGER, base_offset INTEGER); "
	          "INSERT INTO shmeta_changes(seq) VALUES(1000)");
	world_open(&w);
	cr_expect_eq(
		world_sql_number(&w, "SELECT count(*) FROM pragma_table_info('shmeta_changes') WHERE name = 'name'"),
		1);
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT);
	ok(world_load(&w));
	world_group(&w, NULL, "g");
	ok(world_changes(&w));
	cr_expect_str_eq(recorder_text(&w.recorder), "changed offset " SHMETA_DEFAULT_TENANT " g\n");
	world_free(&w);
}

Test(sqlite, what_was_written_and_not_shown_before_the_end_is_read_by_key_at_the_next_start)
{
	struct world w;
	char position[128], id[40];
	size_t bytes;
	struct shmeta_op op;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_load(&w));
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	op = sqlite_world_add(0, 0, id);
	sqlite_world_apply(&w, &op, 1);
	world_close(&w);
	world_open(&w);
	ok(w.ops->feed->resume(w.state, position, bytes, &w.err));
	ok(world_changes(&w));
	cr_expect_eq(w.recorder.changed, 1, "%s", recorder_text(&w.recorder));
	has("t/0 0..0");
	world_free(&w);
}

Test(sqlite, the_applications_triggers_run_for_what_shmeta_writes_and_nothing_is_logged_twice)
{
	struct world a, b;
	struct shmeta_op op;
	char id[40];

	two_daemons(&a, &b, WORLD_SQLITE_NEW);
	op = sqlite_world_add(0, 0, id);
	sqlite_world_apply(&a, &op, 1);
	/* Made under a daemon that has looked at the schema before. */
	world_sql(&a, "CREATE TABLE seen(base INTEGER); CREATE TRIGGER app AFTER INSERT ON segments BEGIN "
	              "INSERT INTO seen VALUES(NEW.base_offset); END");
	op = sqlite_world_add(0, 10, id);
	sqlite_world_apply(&a, &op, 1);
	cr_expect_eq(world_sql_number(&a, "SELECT count(*) FROM seen WHERE base = 10"), 1);
	cr_expect_eq(world_sql_number(&a, "SELECT count(*) FROM shmeta_changes WHERE base_offset = 10"), 1);
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_assert_eq(world_load(&b), SHMETA_OK);
	cr_assert_eq(world_load(&a), SHMETA_OK);
	op = sqlite_world_add(0, 20, id);
	sqlite_world_apply(&a, &op, 1);
	cr_assert_eq(world_changes(&b), SHMETA_OK);
	cr_expect(recorder_has(&b.recorder, "t/0 20..20"), "%s", recorder_text(&b.recorder));
	/* What the application's triggers do in our own transaction is not told apart from what we
	 * did: it is all read. */
	cr_assert_eq(world_changes(&a), SHMETA_OK);
	cr_expect(recorder_has(&a.recorder, "t/0 20..20"), "%s", recorder_text(&a.recorder));
	world_sql(&a, "DROP TRIGGER app");
	op = sqlite_world_add(0, 30, id);
	sqlite_world_apply(&a, &op, 1);
	cr_expect_eq(world_sql_number(&a, "SELECT count(*) FROM shmeta_changes WHERE base_offset = 30"), 1);
	end_two(&a, &b);
}

Test(sqlite, slices_go_with_their_segments_whoever_deletes_them)
{
	struct world w;
	struct shmeta_op op[3];

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 2, -1, NULL);
	for (uint32_t round = 0; round < 3; round++) {
		op[0] = (struct shmeta_op){
			.type = SHMETA_OP_COMMIT_OBJECT,
			.u.object = {.s3_bucket = str("b"), .s3_key = str("o"), .size_bytes = 100, .created_at_ms = 1}};
		for (uint32_t i = 0; i < 2; i++)
			op[1 + i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SLICE,
			                               .name = str("t"),
			                               .partition_id = i,
			                               .u.segment = {.id = str(i ? "s1" : "s0"),
			                                             .base_offset = 10,
			                                             .end_offset = 19,
			                                             .record_count = 10,
			                                             .size_bytes = 50,
			                                             .created_at_ms = 1,
			                                             .position = i * 50}};
		sqlite_world_apply(&w, op, 3);
		cr_assert_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), 2);
		if (round == 0) {
			op[0] = (struct shmeta_op){
				.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = str("t"), .offset = 20};
			sqlite_world_apply(&w, op, 1);
			cr_expect_eq(world_sql_number(&w, "SELECT partition_id FROM shmeta_slices"), 1);
			op[0].partition_id = 1;
			op[0].offset = 15; /* the segment reaches beyond */
			sqlite_world_apply(&w, op, 1);
			cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), 1);
			op[0].offset = 20;
			sqlite_world_apply(&w, op, 1);
		} else if (round == 1) {
			world_sql(&w, "DELETE FROM segments");
		} else {
			op[0] = (struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = str("t")};
			sqlite_world_apply(&w, op, 1);
		}
		cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), 0, "round %u", round);
		world_sql(&w, "DELETE FROM shmeta_objects");
	}
	world_free(&w);
}

Test(sqlite, slices_whose_segments_went_while_their_trigger_was_missing_go_when_it_is_made_again)
{
	const struct shmeta_op op[2] = {
		{.type = SHMETA_OP_COMMIT_OBJECT, .u.object = {str("b"), str("o"), 100, 1}},
		{.type = SHMETA_OP_ADD_SLICE,
	         .name = str("t"),
	         .u.segment = {
			 .id = str("s0"), .end_offset = 9, .record_count = 10, .size_bytes = 50, .created_at_ms = 1}}};
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	sqlite_world_apply(&w, op, 2);
	world_sql(&w, "DROP TRIGGER shmeta_segments_slice; DELETE FROM segments");
	cr_assert_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), 1);
	cr_assert_eq(world_changes(&w), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), 0);
	world_free(&w);
}

Test(sqlite, the_log_of_ones_own_writes_is_pruned_too)
{
	enum { PARTITIONS = 4000, ROUNDS = 32 };
	struct world w;
	struct shmeta_op *op = calloc(PARTITIONS, sizeof *op);

	cr_assert_not_null(op);
	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", PARTITIONS, -1, NULL);
	ok(world_load(&w));
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < PARTITIONS; i++)
			op[i] = (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
			                           .name = str("t"),
			                           .partition_id = i,
			                           .offset = round};
		sqlite_world_apply(&w, op, PARTITIONS);
		ok(world_changes(&w));
		cr_assert_eq(w.recorder.changed, 0);
	}
	cr_expect_leq(world_sql_number(&w, "SELECT count(*) FROM shmeta_changes"), 120000);
	cr_expect_geq(world_sql_number(&w, "SELECT count(*) FROM shmeta_changes"), 100000);
	world_free(&w);
	free(op);
}

/* How often SQLite has begun its log anew: it does when all of it has been copied into the file. */
static uint32_t log_begun(const struct world *w)
{
	char path[128];
	unsigned char head[16] = {0};
	int fd;

	snprintf(path, sizeof path, "%s-wal", w->path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(read(fd, head, sizeof head), (ssize_t)sizeof head);
	close(fd);
	return (uint32_t)head[12] << 24 | (uint32_t)head[13] << 16 | (uint32_t)head[14] << 8 | head[15];
}

Test(sqlite, the_log_of_sqlite_is_copied_back_when_the_feed_is_asked_and_not_in_a_commit)
{
	enum { BATCH = 1000, BATCHES = 120 };
	struct world w;
	struct shmeta_op *op = calloc(BATCH, sizeof *op);
	char(*id)[40] = calloc(BATCH, sizeof *id);
	uint32_t begun;

	cr_assert(op != NULL && id != NULL);
	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_load(&w));
	begun = log_begun(&w);
	for (uint64_t batch = 0; batch < BATCHES; batch++) {
		for (uint64_t i = 0; i < BATCH; i++)
			op[i] = sqlite_world_add(0, (batch * BATCH + i) * 10, id[i]);
		sqlite_world_apply(&w, op, BATCH);
	}
	cr_expect_eq(log_begun(&w), begun);
	ok(world_changes(&w));
	sqlite_world_apply(&w, &(struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("t")}, 1);
	cr_expect_eq(log_begun(&w), begun + 1);
	world_free(&w);
	free(op);
	free(id);
}

/* ---- locks ---- */

Test(sqlite, a_busy_database_is_waited_for_and_then_an_error)
{
	struct world w;
	struct timespec begun, ended;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	w.options.timeout_ms = 100;
	world_open(&w);
	ok(world_load(&w));
	world_sql(&w, "BEGIN EXCLUSIVE");
	clock_gettime(CLOCK_MONOTONIC, &begun);
	cr_expect_eq(world_load(&w), SHMETA_ERR_SOURCE);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	says("database is locked (SQLITE_BUSY, 5)");
	cr_expect_geq((ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000, 90);
	struct backend_key key = segments_of("t", 0);
	cr_expect_eq(world_fetch(&w, &key, 1), SHMETA_ERR_SOURCE);
	cr_expect_eq(world_changes(&w), SHMETA_ERR_SOURCE);
	world_sql(&w, "COMMIT");
	ok(world_load(&w));
	ok(world_fetch(&w, &key, 1));
	ok(world_changes(&w));
	world_free(&w);
}

static enum shmeta_status program_meanwhile(void *arg, const struct shmeta_partition *partition)
{
	struct recorder *recorder = arg;
	struct world *w = (struct world *)((char *)recorder - offsetof(struct world, recorder));

	(void)partition;
	cr_expect_neq(sqlite_world_program(w, "UPDATE partitions SET high_watermark = 1"), 0,
	              "another process wrote into what was being read: the lock is gone");
	return SHMETA_OK;
}

Test(sqlite, its_locks_hold_against_other_processes_whatever_it_looks_at)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_V01);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_load(&w));
	for (int i = 0; i < 3; i++)
		ok(world_changes(&w));
	w.recorder.sink.partition = program_meanwhile;
	ok(world_load(&w));
	world_free(&w);
}

Test(sqlite, what_the_sqlite3_program_does_shows_up)
{
	struct world w;

	for (int engine = WORLD_SQLITE_NEW; engine <= WORLD_SQLITE_V01; engine++) {
		world_make(&w, (enum world_engine)engine);
		world_open(&w);
		world_topic(&w, NULL, "t", 1, -1, NULL);
		ok(world_load(&w));
		cr_assert_eq(sqlite_world_program(
				     &w, "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, "
					 "record_count, size_bytes, s3_bucket, s3_key, created_at) "
					 "VALUES('x', 't', 0, 3, 4, 2, 5, 'b', 'k', 1)"),
		             0);
		ok(world_changes(&w));
		cr_expect_str_eq(recorder_text(&w.recorder),
		                 "changed segment 00000000-0000-0000-0000-000000000000 t/0 3..3\n");
		/* Its foreign keys are off: what it deletes leaves orphans, and the topic's row
		 * says that it went. */
		cr_assert_eq(sqlite_world_program(&w, "DELETE FROM topics"), 0);
		ok(world_changes(&w));
		cr_expect_str_eq(recorder_text(&w.recorder),
		                 "changed topic 00000000-0000-0000-0000-000000000000 t with_segments deleted\n");
		ok(world_load(&w));
		cr_expect_eq(w.recorder.topics + w.recorder.partitions + w.recorder.segments, 0);
		cr_expect_eq(w.recorder.quarantined, 2);
		world_free(&w);
	}
}

static atomic_bool written;

static void *write_much(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < 40; i++) {
		world_begin(w);
		for (uint64_t n = 0; n < 25; n++)
			world_segment(w, NULL, "t", (uint32_t)(n % 4), (uint64_t)i * 100 + n, (uint64_t)i * 100 + n);
		world_watermark(w, NULL, "t", 0, (uint64_t)i);
		world_commit(w);
	}
	atomic_store(&written, true);
	return NULL;
}

/* Every segment is either in the load or named by the changes, whenever it was committed. */
Test(sqlite, nothing_is_missed_between_load_and_changes_while_others_write)
{
	struct world w;
	uint64_t seen;
	pthread_t writer;

	for (int engine = WORLD_SQLITE_NEW; engine <= WORLD_SQLITE_V01; engine++) {
		world_make(&w, (enum world_engine)engine);
		world_open(&w);
		world_topic(&w, NULL, "t", 4, -1, NULL);
		ok(world_changes(&w));
		atomic_store(&written, false);
		pthread_create(&writer, NULL, write_much, &w);
		ok(world_load(&w));
		seen = w.recorder.segments;
		/* The last look is one that began when all had been written. */
		for (bool all = false; !all;) {
			all = atomic_load(&written);
			ok(world_changes(&w));
			for (const char *at = recorder_text(&w.recorder); (at = strstr(at, "changed segment")) != NULL;
			     at++) {
				struct backend_key key = segments_of("t", 0);
				struct recorder fetched;

				cr_assert_eq(sscanf(strchr(at, '/'), "/%" SCNu32 " %" SCNu64 "..%" SCNu64,
				                    &key.partition_id, &key.from, &key.to),
				             3);
				recorder_init(&fetched);
				fetched.quiet = 1;
				ok(w.ops->source->fetch(w.state, &key, 1, &fetched.sink, &w.err));
				seen += fetched.segments;
				recorder_free(&fetched);
			}
		}
		pthread_join(writer, NULL);
		cr_expect_eq(seen, 1000, "%" PRIu64, seen);
		world_free(&w);
	}
}

/* ---- cost ---- */

Test(sqlite, no_statement_sorts_or_scans)
{
	struct world w;

	for (int engine = WORLD_SQLITE_NEW; engine <= WORLD_SQLITE_LATER; engine++) {
		world_make(&w, (enum world_engine)engine);
		world_open(&w);
		ok(world_load(&w));
		struct sqlite_state *state = w.state;
		static const enum sqlite_statement loads[] = {ST_LOAD_TOPICS, ST_LOAD_PARTITIONS, ST_LOAD_SEGMENTS};
		static const enum sqlite_statement keyed[] = {ST_KEY_TOPICS, ST_TOPIC_PARTITIONS, ST_TOPIC_SEGMENTS,
		                                              ST_KEY_PARTITIONS, ST_KEY_SEGMENTS};

		for (size_t i = 0; i < 8; i++) {
			const char *sql = state->sql[i < 3 ? loads[i] : keyed[i - 3]];
			char *explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
			sqlite3_stmt *plan;
			int scans = 0;

			cr_assert_eq(sqlite3_prepare_v2(state->db, explain, -1, &plan, NULL), SQLITE_OK);
			while (sqlite3_step(plan) == SQLITE_ROW) {
				const char *step = (const char *)sqlite3_column_text(plan, 3);

				cr_expect_null(strstr(step, "TEMP B-TREE"), "%s: %s: %s", world_names[engine], step,
				               sql);
				cr_expect_null(strstr(step, "AUTOMATIC"), "%s: %s: %s", world_names[engine], step, sql);
				scans += strstr(step, "SCAN") != NULL;
			}
			/* the table itself; the keys */
			cr_expect_eq(scans, 1, "%s: %s", world_names[engine], sql);
			sqlite3_finalize(plan);
			sqlite3_free(explain);
		}
		world_free(&w);
	}
}

Test(sqlite, a_hundred_thousand_partitions_are_fetched_in_few_statements)
{
	enum { PARTITIONS = 100000 };
	struct world w;
	struct backend_counters before, after;
	struct backend_key *keys = calloc(PARTITIONS, sizeof *keys);

	cr_assert_not_null(keys);
	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_sql(&w,
	          "BEGIN; INSERT INTO topics VALUES('t', %d, NULL, 1, 1, '{}'); "
	          "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
	          "INSERT INTO partitions SELECT 't', i, i, 1, 1 FROM n; COMMIT",
	          PARTITIONS, PARTITIONS - 1);
	for (uint32_t i = 0; i < PARTITIONS; i++) {
		keys[i] = segments_of("t", (i * 7919u) % PARTITIONS);
		keys[i].cls = i % 2 ? SHMETA_CLASS_PARTITION : SHMETA_CLASS_SEGMENT;
	}
	w.recorder.quiet = 1;
	before = world_counters(&w);
	ok(world_fetch(&w, keys, PARTITIONS));
	after = world_counters(&w);
	cr_expect_eq(w.recorder.partitions, PARTITIONS);
	cr_expect_leq(after.queries - before.queries, 100, "%" PRIu64, after.queries - before.queries);
	cr_expect_leq(after.prepares - before.prepares, 8);
	free(keys);
	world_free(&w);
}

Test(sqlite, statements_are_prepared_once_for_the_life_of_the_connection)
{
	struct world w;
	struct backend_key keys[] = {segments_of("t", 0),
	                             {.cls = SHMETA_CLASS_TOPIC,
	                              .tenant = str(SHMETA_DEFAULT_TENANT),
	                              .topic = str("t"),
	                              .with_segments = 1}};
	struct backend_counters before, after;

	world_make(&w, WORLD_SQLITE_LATER);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	/* the first round prepares, the second shows what that took */
	for (int i = 0; i < 2; i++) {
		ok(world_load(&w));
		ok(world_fetch(&w, keys, 2));
		world_watermark(&w, NULL, "t", 0, (uint64_t)i);
		ok(world_changes(&w));
	}
	before = world_counters(&w);
	for (int i = 0; i < 50; i++) {
		world_watermark(&w, NULL, "t", 0, 100 + (uint64_t)i);
		ok(world_changes(&w));
		cr_expect_eq(w.changed, 1);
		ok(world_fetch(&w, keys, 2));
		ok(world_load(&w));
	}
	after = world_counters(&w);
	cr_expect_eq(after.prepares, before.prepares);
	cr_expect_gt(after.queries, before.queries);
	cr_expect_gt(after.rows, before.rows);
	/* The schema moves: what was prepared is prepared again by itself, and counted. */
	world_sql(&w, "CREATE TABLE unrelated(a)");
	ok(world_load(&w));
	cr_expect_gt(world_counters(&w).prepares, after.prepares);
	world_free(&w);
}

Test(sqlite, a_commit_that_is_seen_late_wakes_again)
{
	struct world w;
	struct pollfd poller = {.events = POLLIN};
	char wal[120];

	world_make(&w, WORLD_SQLITE_LATER);
	world_open(&w);
	ok(world_load(&w));
	ok(world_changes(&w));
	poller.fd = w.ops->feed->wake_fd(w.state);
	while (poll(&poller, 1, 200) > 0)
		ok(world_changes(&w));
	/* Bytes in the -wal that are no commit yet, as between the write and its publication. */
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_changes(&w));
	snprintf(wal, sizeof wal, "%s-wal", w.path);
	int fd = open(wal, O_WRONLY | O_CLOEXEC);
	struct stat st;
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(pwrite(fd, "x", 1, st.st_size), 1);
	close(fd);
	cr_assert_eq(poll(&poller, 1, 5000), 1);
	ok(world_changes(&w));
	cr_expect_eq(w.changed, 0);
	cr_assert_eq(poll(&poller, 1, 5000), 1, "it does not look again");
	/* And it gives up after a while. */
	int looks = 0;
	while (poll(&poller, 1, 1000) > 0 && looks++ < 50)
		ok(world_changes(&w));
	cr_expect_geq(looks, 3);
	cr_expect_lt(looks, 50);
	world_free(&w);
}

/* ---- quarantined rows ---- */

Test(sqlite, values_of_the_wrong_type_are_quarantined_and_named)
{
	static const struct {
		const char *sql, *says;
	} cases[] = {
		{"UPDATE segments SET end_offset = 'many'", "base_offset 0: end_offset is text, not an integer"},
		{"UPDATE segments SET size_bytes = 1.5", "size_bytes is a floating-point number, not an integer"},
		{"UPDATE segments SET record_count = -1", "record_count is -1; it must be 0 to 4294967295"},
		{"UPDATE segments SET record_count = 4294967296",
	         "record_count is 4294967296; it must be 0 to 4294967295"},
		{"UPDATE segments SET size_bytes = -9223372036854775808",
	         "size_bytes is -9223372036854775808; it must be 0 to"},
		{"UPDATE segments SET s3_key = x'00ff'", "s3_key is a blob, not text"},
		{"UPDATE segments SET id = NULL", "id is NULL, not text"},
		{"UPDATE segments SET base_offset = 'x', end_offset = 'x'", "base_offset is text, not an integer"},
		{"UPDATE segments SET partition_id = 'x'", "partition_id is text, not an integer"},
		{"UPDATE segments SET topic = x'74'", "topic is a blob, not text"},
		{"UPDATE segments SET base_offset = -9223372036854775808", "(-9223372036854775808 in the source)"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		world_make(&w, WORLD_SQLITE_V01);
		world_topic(&w, NULL, "t", 1, -1, NULL);
		world_segment(&w, NULL, "t", 0, 0, 9);
		world_sql(&w, "PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; %s", cases[i].sql);
		world_open(&w);
		ok(world_load(&w));
		cr_expect_eq(w.recorder.quarantined, 1, "%s", cases[i].sql);
		cr_expect_eq(w.recorder.segments, 0, "%s", cases[i].sql);
		cr_expect_eq(w.recorder.partitions, 1);
		has(cases[i].says);
		world_free(&w);
	}
}

Test(sqlite, wrong_rows_of_every_other_table_are_quarantined_too)
{
	static const struct {
		const char *sql, *says;
	} cases[] = {
		{"UPDATE topics SET partition_count = 0", "topic 't': partition_count is 0; it must be 1 to 100000"},
		{"UPDATE topics SET partition_count = 100001", "partition_count is 100001"},
		{"UPDATE topics SET retention_ms = 'long'", "retention_ms is text"},
		{"UPDATE topics SET name = x'74'", "name is a blob"},
		{"UPDATE partitions SET high_watermark = -1", "row of topic 't', partition 0: high_watermark is -1"},
		{"UPDATE partitions SET partition_id = 100000",
	         "partition_id is 100000; a topic has at most 100000 partitions"},
		{"UPDATE partitions SET partition_id = -1", "partition_id is -1"},
		{"UPDATE agents SET agent_id = ''", "agent: agent_id is empty"},
		{"UPDATE agents SET last_heartbeat = 'now'", "agent 'a': last_heartbeat is text"},
		{"UPDATE consumer_groups SET group_id = char(10)",
	         "consumer group '\\x0a': group_id '\\x0a' has a control character"},
		{"UPDATE consumer_offsets SET committed_offset = -3",
	         "committed offset of group 'g', topic 't', partition 0: committed_offset is -3"},
		{"UPDATE partition_leases SET epoch = -1", "lease of topic 't', partition 0: epoch is -1"},
		{"UPDATE partition_leases SET leader_agent_id = CAST(x'ff' AS TEXT)",
	         "leader_agent_id '\\xff' is not UTF-8"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		world_make(&w, WORLD_SQLITE_V01);
		world_topic(&w, NULL, "t", 1, -1, NULL);
		world_agent(&w, "a", 1, NULL);
		world_group(&w, NULL, "g");
		world_offset(&w, NULL, "g", "t", 0, 1, NULL);
		world_lease(&w, NULL, "t", 0, "a", 1);
		world_sql(&w, "PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; %s", cases[i].sql);
		world_open(&w);
		ok(world_load(&w));
		cr_expect_geq(w.recorder.quarantined, 1, "%s", cases[i].sql);
		has(cases[i].says);
		/* Every row is either served or in quarantine. */
		cr_expect_eq(w.recorder.topics + w.recorder.partitions + w.recorder.agents + w.recorder.groups +
		                     w.recorder.offsets + w.recorder.leases + w.recorder.quarantined,
		             6, "%s", recorder_text(&w.recorder));
		world_free(&w);
	}
}

Test(sqlite, a_shared_agent_belongs_to_the_default_tenant)
{
	struct world w;

	world_make(&w, WORLD_SQLITE_LATER);
	world_agent(&w, "shared", 1, NULL);
	world_agent(&w, "owned", 1, NULL);
	world_sql(&w, "UPDATE agents SET organization_id = '" WORLD_OTHER_TENANT "' WHERE agent_id = 'owned'");
	world_open(&w);
	ok(world_load(&w));
	has("agent " SHMETA_DEFAULT_TENANT " shared");
	has("agent " WORLD_OTHER_TENANT " owned");
	world_free(&w);
}

/* ---- the lists of engines ---- */

Test(sqlite, an_engine_that_is_not_there_is_named_with_those_that_are)
{
	struct backend_error err = {0};

	cr_expect_null(backend_find("mysql://host/db", &err));
	cr_expect_eq(err.code, SHMETA_ERR_CONFIG);
	cr_expect_not_null(
		strstr(err.text,
	               "there is no engine 'mysql'; there are sqlite:, postgresql:, cockroachdb:, dynamodb:, memory:"),
		"%s", err.text);
	cr_expect_null(backend_find("/var/lib/x.db", &err));
	cr_expect_not_null(strstr(err.text, "names no engine"), "%s", err.text);
	cr_expect_null(backend_find("", &err));
	cr_expect_null(backend_find(NULL, &err));
	cr_expect_null(backend_find("sqlit:x", &err));
	cr_expect_not_null(backend_find("sqlite:x", &err));
	cr_expect_not_null(backend_find("memory:", &err));
}
