/* SPDX-License-Identifier: Apache-2.0
 * Which SQLite source it is, and what its feed proves: a set of files that is exchanged piece by
 * piece, a history that is rolled back, rows that go without a trigger, and what is never created
 * and never goes back. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/sqlite/sqlite_state.h"
#include "tests/support/sqlite_world.h"

TestSuite(sqlite_source, .timeout = 60);

#define ok(call) cr_assert_eq((call), SHMETA_OK, "%s", w.err.text)
#define has(part)                                                                              \
	cr_expect(recorder_has(&w.recorder, (part)), "no line with '%s' in:\n%.3000s", (part), \
	          recorder_text(&w.recorder))
#define says(part) cr_expect_not_null(strstr(w.err.text, (part)), "no '%s' in: %s", (part), w.err.text)

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

/* ---- a set of files, a history ---- */

static char history_told[400];

static void on_history(void *arg, const char *sentence)
{
	(void)arg;
	snprintf(history_told, sizeof history_told, "%s", sentence);
}

static void world_history(struct world *w)
{
	history_told[0] = '\0';
	w->recorder.sink.history = on_history;
}

static void beside(const struct world *w, const char *name, char *ret, size_t bytes)
{
	snprintf(ret, bytes, "%s/%s", w->dir, name);
}

static void remove_beside(const struct world *w, const char *name)
{
	char path[200];

	beside(w, name, path, sizeof path);
	cr_assert_eq(unlink(path), 0, "%s", path);
}

static bool is_beside(const struct world *w, const char *name)
{
	char path[200];

	beside(w, name, path, sizeof path);
	return access(path, F_OK) == 0;
}

/* A world in WAL mode whose -wal has our own commits, and which nobody else has open. */
static void with_wal(struct world *w)
{
	char id[40];
	struct shmeta_op op;

	world_make(w, WORLD_SQLITE_NEW);
	world_open(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	cr_assert_eq(world_load(w), SHMETA_OK);
	op = sqlite_world_add(0, 0, id);
	sqlite_world_apply(w, &op, 1);
	sqlite3_close(w->app);
	w->app = NULL;
	world_history(w);
}

static enum shmeta_status try_write(struct world *w)
{
	char id[40];
	struct shmeta_op add = sqlite_world_add(0, 50, id);
	struct backend_op op = {str(SHMETA_DEFAULT_TENANT), &add};
	struct shmeta_result result;
	size_t told = 0;
	const struct backend_sink sink = {.arg = &told, .changed = sqlite_world_own_changed};

	return world_applied(w->ops->writer->apply(w->state, &op, 1, 5000, &result, &sink, &w->err), &result, 1);
}

/* Behind the read, before the load has ended: the daemon writes in between. */
static struct world *writes_in_progress;
static enum shmeta_status written_in_progress;

static enum shmeta_status on_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	if (done == 0 || done != total || writes_in_progress == NULL)
		return SHMETA_OK;
	written_in_progress = try_write(writes_in_progress);
	writes_in_progress = NULL;
	return SHMETA_OK;
}

Test(sqlite_source, what_triggers_do_about_a_write_at_the_end_of_a_load_is_told)
{
	struct shmeta_op op;
	struct world w;
	char id[40];

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_sql(&w, "CREATE TRIGGER app AFTER INSERT ON segments BEGIN "
	              "UPDATE topics SET retention_ms = 77 WHERE name = NEW.topic; END");
	ok(world_load(&w));
	op = sqlite_world_add(0, 0, id);
	sqlite_world_apply(&w, &op, 1); /* learns of the trigger */
	ok(world_changes(&w));
	written_in_progress = SHMETA_UNKNOWN;
	writes_in_progress = &w;
	w.recorder.sink.progress = on_progress;
	ok(world_load(&w));
	ok(written_in_progress);
	ok(world_changes(&w));
	cr_expect_neq(w.changed, 0, "nothing was told");
	has("changed topic");
	world_free(&w);
}

Test(sqlite_source, a_database_moved_in_beside_the_old_wal_is_away_until_that_is_removed)
{
	char path[200], sql[300];
	struct world w;

	for (int mode = 0; mode < 2; mode++) {
		with_wal(&w);
		snprintf(sql, sizeof sql, "VACUUM INTO '%s/new.db'", w.dir);
		cr_assert_eq(sqlite_world_program(&w, sql), 0);
		beside(&w, "new.db", path, sizeof path);
		sqlite3 *db;
		cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
		cr_assert_eq(
			sqlite3_exec(db,
		                     mode ? "PRAGMA journal_mode=WAL; DELETE FROM segments" : "DELETE FROM segments",
		                     NULL, NULL, NULL),
			SQLITE_OK);
		sqlite3_close(db);
		cr_assert_eq(rename(path, w.path), 0);
		cr_expect_eq(world_changes(&w), SHMETA_ERR_SOURCE);
		says("its -wal and -shm beside it belong to the file before it");
		cr_expect_eq(try_write(&w), SHMETA_ERR_SOURCE);
		cr_expect_eq(world_load(&w), SHMETA_ERR_SOURCE);
		remove_beside(&w, "source.db-shm");
		cr_expect_eq(world_changes(&w), SHMETA_ERR_SOURCE);
		says("its -wal beside it belongs to the file before it");
		remove_beside(&w, "source.db-wal");
		ok(world_changes(&w));
		has("changed list");
		cr_expect_not_null(strstr(history_told, "another file"), "%s", history_told);
		ok(world_load(&w));
		cr_expect_eq(w.recorder.segments, 0, "the new file is followed");
		ok(try_write(&w));
		world_close(&w);
		cr_expect_eq(sqlite_world_program(
				     &w,
				     "SELECT CASE (SELECT group_concat(integrity_check) FROM pragma_integrity_check) "
				     "WHEN 'ok' THEN 1 ELSE json('{') END"),
		             0, "damaged");
		cr_assert_eq(sqlite3_open(w.path, &w.app), SQLITE_OK);
		cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM segments"), 1);
		world_free(&w);
	}
}

/* Between the exchange of the file and the next changes(), or load(), nobody knows yet that it is
 * another one. */
Test(sqlite_source, nothing_is_done_in_a_file_before_it_was_said_that_it_is_another_one)
{
	const struct backend_key key = {
		.cls = SHMETA_CLASS_TOPIC, .tenant = str(SHMETA_DEFAULT_TENANT), .topic = str("t")};
	const struct backend_object_list list = {.tenant = str(SHMETA_DEFAULT_TENANT), .most = 1};
	char path[200], sql[300];
	struct world w;

	for (int mode = 0; mode < 2; mode++) {
		with_wal(&w);
		ok(world_changes(&w));
		snprintf(sql, sizeof sql, "VACUUM INTO '%s/new.db'", w.dir);
		cr_assert_eq(sqlite_world_program(&w, sql), 0);
		beside(&w, "new.db", path, sizeof path);
		remove_beside(&w, "source.db-wal");
		remove_beside(&w, "source.db-shm");
		cr_assert_eq(rename(path, w.path), 0);
		for (int again = 0; again < 2; again++) {
			cr_expect_eq(try_write(&w), SHMETA_ERR_CONFLICT);
			says("another file is at");
			cr_expect_eq(world_fetch(&w, &key, 1), SHMETA_ERR_CONFLICT);
			says("it is looked at before anything is done in it");
			cr_expect_eq(w.ops->admin->objects(w.state, &list, NULL, NULL, &w.err), SHMETA_ERR_CONFLICT);
		}
		cr_assert_eq(sqlite3_open(w.path, &w.app), SQLITE_OK);
		cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM segments"), 1, "it was written to");
		if (mode == 0)
			ok(world_changes(&w));
		else
			ok(world_load(&w));
		ok(try_write(&w));
		ok(world_fetch(&w, &key, 1));
		cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM segments"), 2);
		ok(world_changes(&w));
		cr_expect_not_null(strstr(history_told, "another file"), "%s", history_told);
		world_free(&w);
	}
}

static void closing_writes_nothing(struct world *w)
{
	struct stat before, after;

	cr_assert_eq(stat(w->path, &before), 0);
	world_close(w);
	cr_assert_eq(stat(w->path, &after), 0);
	cr_expect(before.st_mtim.tv_sec == after.st_mtim.tv_sec && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec &&
	          before.st_size == after.st_size);
}

Test(sqlite_source, nothing_is_written_into_a_mixture_by_closing)
{
	char path[200], sql[300];
	struct world w;

	with_wal(&w);
	snprintf(sql, sizeof sql, "VACUUM INTO '%s/new.db'", w.dir);
	cr_assert_eq(sqlite_world_program(&w, sql), 0);
	beside(&w, "new.db", path, sizeof path);
	cr_assert_eq(rename(path, w.path), 0);
	cr_expect_eq(world_changes(&w), SHMETA_ERR_SOURCE);
	closing_writes_nothing(&w);
	cr_expect(is_beside(&w, "source.db-wal"), "it is the operator's to remove");
	world_free(&w);
	/* The last connection would copy the -wal that it still has open: others may have begun
	 * another one. */
	with_wal(&w);
	remove_beside(&w, "source.db-wal");
	remove_beside(&w, "source.db-shm");
	closing_writes_nothing(&w);
	world_free(&w);
}

/* The connection of an online comparison, which has never seen the old set itself. */
Test(sqlite_source, a_second_connection_does_not_open_a_mixture_either)
{
	char path[200], old[200], sql[300];
	struct world w, second;

	for (int kept = 0; kept < 2; kept++) {
		with_wal(&w);
		snprintf(sql, sizeof sql, "VACUUM INTO '%s/new.db'", w.dir);
		cr_assert_eq(sqlite_world_program(&w, sql), 0);
		beside(&w, "new.db", path, sizeof path);
		beside(&w, "old.db", old, sizeof old);
		if (kept)
			cr_assert_eq(rename(w.path, old), 0);
		cr_assert_eq(rename(path, w.path), 0);
		second = w;
		second.state = NULL;
		cr_expect_eq(world_try_open(&second), SHMETA_ERR_SOURCE);
		cr_expect_not_null(strstr(second.err.text, "another connection of this process"), "%s",
		                   second.err.text);
		world_close(&second);
		world_free(&w);
	}
}

Test(sqlite_source, side_files_that_were_removed_lead_to_a_new_connection)
{
	struct world w;

	with_wal(&w);
	ok(world_changes(&w));
	cr_assert_eq(sqlite_world_program(&w, "PRAGMA wal_checkpoint(TRUNCATE)"), 0);
	remove_beside(&w, "source.db-wal");
	cr_expect_eq(try_write(&w), SHMETA_ERR_SOURCE, "nobody else would see it");
	says("its -wal was removed or replaced, and its -shm was not");
	remove_beside(&w, "source.db-shm");
	cr_assert_eq(sqlite_world_program(&w, "INSERT INTO topics VALUES('by-other', 1, NULL, 1, 1, '{}')"), 0);
	ok(world_changes(&w));
	has("changed list");
	ok(world_load(&w));
	has("by-other");
	ok(try_write(&w));
	cr_assert_eq(sqlite_world_program(&w, "SELECT CASE count(*) WHEN 2 THEN 1 ELSE json('{') END FROM segments"), 0,
	             "what was acknowledged is not seen by others");
	world_free(&w);
}

/* Commits that were in a -wal which somebody removed are gone: the log ends before the position. */
Test(sqlite_source, commits_that_were_lost_with_a_wal_are_told_as_another_course)
{
	struct world w;

	with_wal(&w);
	ok(world_changes(&w));
	remove_beside(&w, "source.db-wal");
	remove_beside(&w, "source.db-shm");
	enum shmeta_status status = world_changes(&w);
	if (status == SHMETA_OK) {
		has("changed list");
		cr_expect_neq(history_told[0], '\0');
	} else {
		cr_expect_eq(status, SHMETA_ERR_SOURCE, "an empty database in its place: %s", w.err.text);
	}
	world_free(&w);
}

Test(sqlite_source, a_corrupt_connection_is_given_up_for_a_new_one)
{
	struct world w;
	int fd;
	char page[4096];

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_open(&w);
	ok(world_load(&w));
	sqlite3_close(w.app);
	w.app = NULL;
	fd = open(w.path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(pread(fd, page, sizeof page, 0), (ssize_t)sizeof page);
	cr_assert_eq(pwrite(fd, "no database at all, whatever it was", 35, 0), 35);
	cr_expect_eq(world_load(&w), SHMETA_ERR_SOURCE, "%s", w.err.text);
	cr_assert_eq(pwrite(fd, page, sizeof page, 0), (ssize_t)sizeof page);
	close(fd);
	ok(world_changes(&w));
	has("changed list");
	ok(world_load(&w));
	cr_expect_eq(w.recorder.topics, 1);
	world_free(&w);
}

/* Restored in place, and written to until the log is longer than it was. */
Test(sqlite_source, a_log_that_was_rolled_back_and_has_grown_again_is_not_followed)
{
	struct world w;
	char position[128], copy[200];
	size_t bytes;
	sqlite3 *backup, *to;

	for (int live = 0; live < 2; live++) {
		world_make(&w, WORLD_SQLITE_NEW);
		world_open(&w);
		world_topic(&w, NULL, "kept", 1, -1, NULL);
		ok(world_load(&w));
		beside(&w, "backup.db", copy, sizeof copy);
		world_sql(&w, "VACUUM INTO '%s'", copy);
		world_topic(&w, NULL, "lost", 1, -1, NULL);
		ok(world_changes(&w));
		ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
		if (!live)
			world_close(&w);
		cr_assert_eq(sqlite3_open(copy, &backup), SQLITE_OK);
		for (int i = 0; i < 20; i++) {
			char sql[120];

			snprintf(sql, sizeof sql, "INSERT INTO topics VALUES('new%d', 1, NULL, 1, 1, '{}')", i);
			cr_assert_eq(sqlite3_exec(backup, sql, NULL, NULL, NULL), SQLITE_OK);
		}
		cr_assert_eq(sqlite3_open(w.path, &to), SQLITE_OK);
		sqlite3_backup *b = sqlite3_backup_init(to, "main", backup, "main");
		cr_assert_not_null(b);
		cr_assert_eq(sqlite3_backup_step(b, -1), SQLITE_DONE);
		sqlite3_backup_finish(b);
		sqlite3_close(to);
		sqlite3_close(backup);
		world_history(&w);
		if (live) {
			ok(world_changes(&w));
			cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
			cr_expect_not_null(strstr(history_told, "an earlier state was restored"), "%s", history_told);
			ok(world_changes(&w));
			cr_expect_eq(w.changed, 0, "once");
		} else {
			world_open(&w);
			cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ERR_CONFLICT);
			says("an earlier state was restored");
		}
		world_free(&w);
	}
}

/* ---- what the feed cannot tell ---- */

Test(sqlite_source, a_feed_that_had_to_be_mended_is_not_gone_on_with)
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
	world_sql(&w, "DROP TRIGGER shmeta_topics_delete; DELETE FROM topics");
	world_open(&w);
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT);
	/* Another daemon, which finds everything in its place again. */
	world_close(&w);
	world_open(&w);
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT);
	ok(world_load(&w));
	ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
	cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_OK);
	world_free(&w);
}

/* A migration that saves the triggers' text and makes them again, word for word. */
Test(sqlite_source, triggers_that_were_missing_for_a_while_are_noticed_although_they_are_back)
{
	struct world w;
	char position[128];
	size_t bytes;
	sqlite3_stmt *q;
	char *text;

	for (int live = 0; live < 2; live++) {
		world_make(&w, WORLD_SQLITE_NEW);
		world_open(&w);
		world_topic(&w, NULL, "t", 1, -1, NULL);
		ok(world_load(&w));
		ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
		if (!live)
			world_close(&w);
		cr_assert_eq(sqlite3_prepare_v2(w.app,
		                                "SELECT sql FROM sqlite_master WHERE name = 'shmeta_topics_delete'", -1,
		                                &q, NULL),
		             SQLITE_OK);
		cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
		text = sqlite3_mprintf("%s", sqlite3_column_text(q, 0));
		sqlite3_finalize(q);
		world_sql(&w, "BEGIN; DROP TRIGGER shmeta_topics_delete; DELETE FROM topics; %s; COMMIT", text);
		sqlite3_free(text);
		if (live) {
			ok(world_changes(&w));
			cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
		} else {
			world_open(&w);
			cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT);
		}
		world_free(&w);
	}
}

enum { BAD_MOST = 4096 };
static bool bad_page[BAD_MOST];
static struct sqlite3_vfs bad_vfs;
static const struct sqlite3_vfs *good_vfs;
static struct sqlite3_io_methods bad_methods;
static int (*good_read)(sqlite3_file *, void *, int, sqlite3_int64);

static int bad_read(sqlite3_file *file, void *to, int bytes, sqlite3_int64 at)
{
	return at / 4096 < BAD_MOST && bad_page[at / 4096] ? SQLITE_IOERR_READ : good_read(file, to, bytes, at);
}

static int bad_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *ret_flags)
{
	int rc = good_vfs->xOpen(vfs, name, file, flags, ret_flags);

	if (rc != SQLITE_OK || (flags & SQLITE_OPEN_MAIN_DB) == 0 || file->pMethods == &bad_methods)
		return rc;
	bad_methods = *file->pMethods;
	bad_methods.iVersion = 2; /* without its map of the file */
	good_read = bad_methods.xRead;
	bad_methods.xRead = bad_read;
	file->pMethods = &bad_methods;
	return rc;
}

/* From now on who opens a file meets its bad pages, as on a disk that fails. */
static void fail_reads(void)
{
	good_vfs = sqlite3_vfs_find(NULL);
	bad_vfs = *good_vfs;
	bad_vfs.zName = "bad";
	bad_vfs.xOpen = bad_open;
	cr_assert_eq(sqlite3_vfs_register(&bad_vfs, 1), SQLITE_OK);
}

/* Zero the pages of indexes that have nothing but what names the topic: *ret_pages of them; or have
 * them fail to be read. */
static void damage_topic(struct world *w, const char *topic, const char *other, bool unreadable, int *ret_pages)
{
	enum { PAGE = 4096, INDEX_LEAF = 0x0a, ENTRIES = 20 };
	int fd = open(w->path, O_RDWR | O_CLOEXEC);
	char page[PAGE];

	*ret_pages = 0;
	cr_assert_geq(fd, 0);
	for (off_t at = PAGE; pread(fd, page, PAGE, at) == PAGE; at += PAGE) {
		int found = 0;

		for (const char *p = page; (p = memmem(p, (size_t)(page + PAGE - p), topic, strlen(topic))) != NULL;
		     p++)
			found++;
		if (page[0] != INDEX_LEAF || found < ENTRIES || memmem(page, PAGE, other, strlen(other)) != NULL)
			continue;
		memset(page, 0, PAGE);
		if (unreadable)
			bad_page[at / PAGE % BAD_MOST] = true;
		else
			cr_assert_eq(pwrite(fd, page, PAGE, at), PAGE);
		++*ret_pages;
	}
	close(fd);
}

static void needs_a_bad_page(bool unreadable, const char *word)
{
	char ids[4][40];
	const struct backend_sink sink = {.arg = &(size_t){0}, .changed = sqlite_world_own_changed};
	struct shmeta_result results[5];
	struct backend_op ops[5];
	struct shmeta_op op[5];
	struct world w;
	int pages;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_topic(&w, NULL, "damaged-topic", 1, -1, NULL);
	world_begin(&w);
	for (uint64_t i = 0; i < 4000; i++) {
		world_segment(&w, NULL, "damaged-topic", 0, i * 20, i * 20 + 9);
		if (i < 1000)
			world_segment(&w, NULL, "t", 0, i * 20, i * 20 + 9);
	}
	world_commit(&w);
	world_open(&w); /* its tables and triggers are there by then */
	world_close(&w);
	sqlite3_close(w.app);
	w.app = NULL;
	damage_topic(&w, "damaged-topic", "t-0-", unreadable, &pages);
	cr_assert_gt(pages, 20);
	if (unreadable)
		fail_reads();
	world_open(&w);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < 4; i++) {
			op[i] = sqlite_world_add(0, 100000 + i * 1000 + (uint64_t)round * 100, ids[i]);
			/* behind those of the damaged pages in its index, too */
			op[i].u.segment.s3_bucket = str("other");
		}
		op[1].name = str("damaged-topic");
		op[1].u.segment.base_offset = 40010;
		op[1].u.segment.end_offset = 40019;
		op[2].type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
		op[4] = (struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = str("damaged-topic")};
		for (int i = 0; i < 5; i++)
			ops[i] = (struct backend_op){rows_str(SHMETA_DEFAULT_TENANT), &op[i]};
		ok(w.ops->writer->apply(w.state, ops, 5, 5000, results, &sink, &w.err));
		for (int i = 0; i < 5; i++)
			cr_expect_eq(results[i].status, i == 1 || i == 4 ? SHMETA_ERR_SOURCE : SHMETA_OK, "%d: %d %s",
			             i, (int)results[i].status, results[i].text);
		cr_expect_not_null(strstr(results[1].text, word), "%s", results[1].text);
	}
	for (int i = 0; i < 2; i++) {
		const struct backend_key key = {.cls = SHMETA_CLASS_SEGMENT,
		                                .tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                                .topic = str(i == 0 ? "damaged-topic" : "t"),
		                                .from = 15000, /* away from the neighbour's pages */
		                                .to = INT64_MAX};

		cr_expect_eq(world_fetch(&w, &key, 1), i == 0 ? SHMETA_ERR_INVALID_ARGUMENT : SHMETA_OK, "%d: %s", i,
		             w.err.text);
	}
	world_free(&w);
}

Test(sqlite_source, what_needs_a_damaged_page_is_refused_alone_and_the_rest_of_its_batch_is_done)
{
	needs_a_bad_page(false, "malformed");
}

Test(sqlite_source, what_needs_a_page_that_cannot_be_read_is_refused_alone_and_the_rest_of_its_batch_is_done)
{
	needs_a_bad_page(true, "disk I/O error");
}

/* A question for what lies there is answered alone, too, however often it comes. */
Test(sqlite_source, a_question_that_needs_a_damaged_page_fails_alone)
{
	struct backend_epoch ask = {.tenant = rows_str(SHMETA_DEFAULT_TENANT), .epoch = 1};
	struct backend_epoch_end found;
	struct world w;
	int pages;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "whole-topic", 1, -1, NULL);
	world_topic(&w, NULL, "damaged-topic", 1, -1, NULL);
	world_sql(&w, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) INSERT INTO "
	              "shmeta_leader_epochs SELECT '" SHMETA_DEFAULT_TENANT
	              "', 'damaged-topic', 0, i, i, 1 FROM n UNION ALL SELECT '" SHMETA_DEFAULT_TENANT
	              "', 'whole-topic', 0, i, i, 1 FROM n");
	world_close(&w);
	sqlite3_close(w.app);
	w.app = NULL;
	damage_topic(&w, "damaged-topic", "whole-topic", false, &pages);
	cr_assert_gt(pages, 20);
	world_open(&w);
	for (int round = 0; round < 3; round++) {
		ask.topic = str("damaged-topic");
		cr_expect_eq(w.ops->admin->epoch_end(w.state, &ask, &found, &w.err), SHMETA_ERR_SOURCE);
		cr_expect(w.err.alone && strstr(w.err.text, "malformed") != NULL, "%s", w.err.text);
		ask.topic = str("whole-topic");
		cr_expect_eq(w.ops->admin->epoch_end(w.state, &ask, &found, &w.err), SHMETA_ABSENT, "%s", w.err.text);
	}
	world_free(&w);
}

/* What alters a table drops all triggers and makes them again in their order: then they also stand
 * where they stood. */
Test(sqlite_source, triggers_that_were_all_missing_for_a_while_are_noticed_although_nothing_shows_it)
{
	struct world w;
	char position[128];
	size_t bytes;

	for (int live = 0; live < 2; live++) {
		char *drop = NULL, *again = NULL;
		int64_t last;
		sqlite3_stmt *q;

		world_make(&w, WORLD_SQLITE_NEW);
		world_open(&w);
		world_topic(&w, NULL, "t", 1, -1, NULL);
		ok(world_load(&w));
		ok(w.ops->feed->position(w.state, position, sizeof position, &bytes));
		if (!live)
			world_close(&w);
		cr_assert_eq(sqlite3_prepare_v2(
				     w.app, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid",
				     -1, &q, NULL),
		             SQLITE_OK);
		while (sqlite3_step(q) == SQLITE_ROW) {
			char *more = sqlite3_mprintf("%zDROP TRIGGER %s;", drop, sqlite3_column_text(q, 0));

			drop = more;
			again = sqlite3_mprintf("%z%s;", again, sqlite3_column_text(q, 1));
		}
		sqlite3_finalize(q);
		last = world_sql_number(&w, "SELECT max(rowid) FROM sqlite_master");
		world_sql(&w, "BEGIN; %s UPDATE partitions SET high_watermark = 7; %s COMMIT", drop, again);
		sqlite3_free(drop);
		sqlite3_free(again);
		cr_assert_eq(world_sql_number(&w, "SELECT max(rowid) FROM sqlite_master"), last);
		if (live) {
			ok(world_changes(&w));
			cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
			recorder_clear(&w.recorder);
			world_sql(&w, "UPDATE partitions SET high_watermark = 8");
			ok(world_changes(&w));
			cr_expect_not(recorder_has(&w.recorder, "changed list"), "it is in step again");
		} else {
			world_open(&w);
			cr_expect_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_ABSENT);
		}
		world_free(&w);
	}
}

/* Text is behind every number in SQLite's order, and a floating-point number between two of
 * them. */
Test(sqlite_source, a_row_whose_place_cannot_be_read_hides_none_that_was_written_beside_it)
{
	static const struct {
		const char *table, *place;
	} cases[] = {
		{"segments", "'t', 0, 'text'"}, {"segments", "'t', 0, x'00'"},     {"segments", "'t', 0, -5"},
		{"segments", "'t', 0, 1e300"},  {"partitions", "'t', 'text'"},     {"partitions", "'t', -1"},
		{"partitions", "'t', 0.5"},     {"partitions", "'t', 4294967296"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bool segment = strcmp(cases[i].table, "segments") == 0;

		world_make(&w, WORLD_SQLITE_NEW);
		world_open(&w);
		world_topic(&w, NULL, "t", 2, -1, NULL);
		ok(world_load(&w));
		for (int back = 0; back < 2; back++) {
			if (back)
				world_sql(&w, "DELETE FROM %s WHERE %s", cases[i].table,
				          segment ? "id = 'bad'" : "partition_id NOT IN (0, 1)");
			else if (segment)
				world_sql(
					&w,
					"INSERT INTO segments SELECT 's' || v, 't', 0, v, v + 9, 1, 1, 'b', 'k', 1, 0, 0 "
					"FROM (SELECT 100 AS v UNION SELECT 200 UNION SELECT 300); INSERT INTO segments(topic, "
					"partition_id, base_offset, id, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
					"created_at) VALUES(%s, 'bad', x'ff', 1, 1, 'b', 'k', 1)",
					cases[i].place);
			else
				world_sql(&w, "INSERT INTO partitions VALUES(%s, 0, 1, 1)", cases[i].place);
			ok(world_changes(&w));
			cr_expect(
				recorder_has(&w.recorder, "changed topic " SHMETA_DEFAULT_TENANT " t with_segments\n"),
				"%s, %s: %s", cases[i].place, back ? "gone" : "there", recorder_text(&w.recorder));
			cr_expect(!segment || recorder_has(&w.recorder, "t/0 0..9223372036854775807"), "%s, %s: %s",
			          cases[i].place, back ? "gone" : "there", recorder_text(&w.recorder));
			recorder_clear(&w.recorder);
		}
		world_free(&w);
	}
}

/* The rows of a call's keys come in one stream: the first row of a key must not be read as one of
 * the key before, or of none. */
Test(sqlite_source, a_row_whose_place_cannot_be_read_is_told_of_with_its_own_key)
{
	static const char *const topics[] = {"t", "u", "v", "w"};
	struct backend_key keys[4];
	struct world w;
	int key = -1;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_sql(
		&w,
		"INSERT INTO topics SELECT v, 1, NULL, 1, 1, '{}' FROM (SELECT 't' AS v UNION SELECT 'u' UNION SELECT "
		"'v' UNION SELECT 'w'); INSERT INTO partitions VALUES('t', 'x', 0, 1, 1), ('u', 'x', 0, 1, 1), "
		"('v', 0, 0, 1, 1), ('w', 0, 0, 1, 1)");
	world_sql(
		&w,
		"INSERT INTO segments SELECT 's' || topic, topic, 0, 'x', 'y', 1, 1, 'b', 'k', 1, 0, 0 FROM partitions "
		"WHERE partition_id = 0");
	for (int i = 0; i < 4; i++)
		keys[i] = (struct backend_key){.cls = SHMETA_CLASS_TOPIC,
		                               .tenant = str(SHMETA_DEFAULT_TENANT),
		                               .topic = str(topics[i]),
		                               .with_segments = 1};
	ok(world_fetch(&w, keys, 4));
	cr_expect_eq(w.recorder.quarantined, 4);
	for (const char *line = recorder_text(&w.recorder), *end; *line != '\0'; line = end) {
		char topic[20];

		end = strchr(line, '\n') + 1;
		if (strncmp(line, "begin ", 6) == 0)
			key++;
		if (strncmp(line, "quarantined ", 12) != 0)
			continue;
		cr_assert(key >= 0, "before the first key: %s", recorder_text(&w.recorder));
		snprintf(topic, sizeof topic, " topic=%s ", topics[key]);
		cr_expect(strstr(line, topic) != NULL && strstr(line, topic) < end, "with the key of %s: %.200s",
		          topics[key], line);
	}
	world_free(&w);
}

/* A row that REPLACE removes somewhere else is named, whichever unique key it went for. */
Test(sqlite_source, every_row_that_a_replace_removes_is_named)
{
	static const struct {
		const char *index, *rows, *replace, *gone;
	} cases[] = {
		{"SELECT 1", "INSERT INTO segments VALUES('a', 't', 0, 0, 9, 1, 1, 'b', 'k', 1, 0, 0)",
	         "INSERT OR REPLACE INTO segments VALUES('a', 't', 1, 0, 9, 1, 1, 'b', 'k', 1, 0, 0)", "t/0 0..0"},
		{"CREATE UNIQUE INDEX app ON segments(s3_key)",
	         "INSERT INTO segments VALUES('a', 't', 0, 0, 9, 1, 1, 'b', 'k', 1, 0, 0)",
	         "INSERT OR REPLACE INTO segments VALUES('b', 't', 1, 0, 9, 1, 1, 'b', 'k', 1, 0, 0)", "t/0 0..0"},
		{"CREATE UNIQUE INDEX app ON segments(s3_key COLLATE NOCASE)",
	         "INSERT INTO segments VALUES('a', 't', 0, 0, 9, 1, 1, 'b', 'k', 1, 0, 0), ('c', 't', 0, 20, 29, 1, 1, 'b', "
	         "'m', 1, 0, 0)",
	         "UPDATE OR REPLACE segments SET s3_key = 'K' WHERE id = 'c'", "t/0 0..0"},
		{"CREATE UNIQUE INDEX app ON topics(config)", "UPDATE topics SET config = '{\"a\":\"' || name || '\"}'",
	         "INSERT OR REPLACE INTO topics VALUES('n', 1, NULL, 1, 1, '{\"a\":\"u\"}')",
	         "u with_segments deleted"},
		{"CREATE UNIQUE INDEX app ON partitions(high_watermark)",
	         "UPDATE partitions SET high_watermark = 100 + rowid_of",
	         "UPDATE OR REPLACE partitions SET high_watermark = 101 WHERE topic = 't' AND partition_id = 1",
	         "u/0 0..922"},
		{"CREATE UNIQUE INDEX app ON consumer_offsets(committed_offset)",
	         "INSERT INTO consumer_offsets VALUES('g', 't', 0, 7, NULL, 1)",
	         "INSERT OR REPLACE INTO consumer_offsets VALUES('g', 't', 1, 7, NULL, 1)",
	         "changed offset " SHMETA_DEFAULT_TENANT " g t/0"},
		{"CREATE UNIQUE INDEX app ON partition_leases(epoch)",
	         "INSERT INTO partition_leases VALUES('t', 0, 'a', 1, 1, 5)",
	         "INSERT OR REPLACE INTO partition_leases VALUES('t', 1, 'a', 1, 1, 5)",
	         "changed lease " SHMETA_DEFAULT_TENANT "  t/0"},
		{"CREATE UNIQUE INDEX app ON consumer_groups(created_at)", "UPDATE consumer_groups SET created_at = 4",
	         "INSERT OR REPLACE INTO consumer_groups VALUES('h', 4, 4)",
	         "changed offset " SHMETA_DEFAULT_TENANT " g"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		world_make(&w, WORLD_SQLITE_NEW);
		world_open(&w);
		world_topic(&w, NULL, "t", 2, -1, NULL);
		world_topic(&w, NULL, "u", 1, -1, NULL);
		world_agent(&w, "a", 1, NULL);
		world_group(&w, NULL, "g");
		world_sql(&w, "UPDATE topics SET config = '{\"x\":\"' || name || '\"}'");
		world_sql(&w, "UPDATE partitions SET high_watermark = partition_id + 10 * (topic = 'u')");
		if (strstr(cases[i].rows, "rowid_of") == NULL)
			world_sql(&w, "%s", cases[i].rows);
		else
			world_sql(&w, "UPDATE partitions SET high_watermark = 101 WHERE topic = 'u'");
		world_sql(&w, "%s", cases[i].index);
		ok(world_changes(&w));
		ok(world_load(&w));
		cr_expect(world_has_feed(&w), "%s", w.ops->feed->trouble(w.state));
		world_sql(&w, "%s", cases[i].replace);
		ok(world_changes(&w));
		cr_expect_not(recorder_has(&w.recorder, "changed list"), "case %zu", i);
		cr_expect(recorder_has(&w.recorder, cases[i].gone), "case %zu: no '%s' in:\n%s", i, cases[i].gone,
		          recorder_text(&w.recorder));
		world_free(&w);
	}
}

Test(sqlite_source, a_segment_that_replaces_a_slice_is_none)
{
	struct world w;
	struct shmeta_op op[2];

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	op[0] = (struct shmeta_op){
		.type = SHMETA_OP_COMMIT_OBJECT,
		.u.object = {.s3_bucket = str("b"), .s3_key = str("o"), .size_bytes = 100, .created_at_ms = 1}};
	op[1] = (struct shmeta_op){.type = SHMETA_OP_ADD_SLICE,
	                           .name = str("t"),
	                           .u.segment = {.id = str("s"),
	                                         .base_offset = 10,
	                                         .end_offset = 19,
	                                         .record_count = 10,
	                                         .size_bytes = 50,
	                                         .created_at_ms = 1,
	                                         .position = 50}};
	sqlite_world_apply(&w, op, 2);
	world_sql(&w, "INSERT OR IGNORE INTO segments VALUES('s', 't', 0, 10, 19, 1, 1, 'b', 'k', 1, 0, 0)");
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), 1, "nothing was inserted");
	world_sql(&w, "INSERT OR REPLACE INTO segments VALUES('s', 't', 0, 10, 19, 1, 1, 'b', 'k', 1, 0, 0)");
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_slices"), 0);
	world_free(&w);
}

static void has_no_feed(struct world *w, const char *why)
{
	cr_expect_eq(backend_feed_kind(w->ops, w->state), BACKEND_FEED_HINT, "%s", why);
	cr_expect_not_null(strstr(w->ops->feed->trouble(w->state), why), "no '%s' in: %s", why,
	                   w->ops->feed->trouble(w->state));
}

Test(sqlite_source, what_a_feed_cannot_cover_is_said_and_everything_is_compared)
{
	static const struct {
		const char *sql, *why, *change;
	} cases[] = {
		{"CREATE UNIQUE INDEX app ON segments(s3_key) WHERE size_bytes > 0",
	         "unique index app of table segments is partial", "UPDATE topics SET updated_at = 77"},
		{"CREATE UNIQUE INDEX app ON segments(lower(s3_key))",
	         "unique index app of table segments is over an expression", "UPDATE topics SET updated_at = 77"},
		{"PRAGMA foreign_keys=OFF; ALTER TABLE consumer_groups RENAME TO groups_2; CREATE VIEW consumer_groups AS SELECT * "
	         "FROM groups_2",
	         "consumer_groups is a view", "INSERT INTO groups_2 VALUES('g', 1, 1)"},
		{"UPDATE shmeta_meta SET value = '99' WHERE name = 'version'; DROP TRIGGER shmeta_topics_insert",
	         "made by a newer shmeta (version 99", "UPDATE topics SET updated_at = 77"},
	};
	struct world w;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (int live = 0; live < 2; live++) {
			world_make(&w, WORLD_SQLITE_NEW);
			world_open(&w);
			world_topic(&w, NULL, "t", 1, -1, NULL);
			ok(world_load(&w));
			cr_expect_str_eq(w.ops->feed->trouble(w.state), "");
			if (!live)
				world_close(&w);
			world_sql(&w, "%s", cases[i].sql);
			if (live) {
				ok(world_changes(&w));
				has("changed list");
			} else {
				world_open(&w);
			}
			has_no_feed(&w, cases[i].why);
			ok(world_load(&w));
			cr_expect_eq(w.recorder.topics, 1);
			ok(world_changes(&w));
			cr_expect_eq(w.changed, 0);
			world_sql(&w, "%s", cases[i].change);
			ok(world_changes(&w));
			cr_expect_str_eq(recorder_text(&w.recorder), "changed list\n");
			world_free(&w);
		}
}

/* Two versions on one file: the older one leaves the newer one's triggers alone, and what it writes
 * is logged by them. */
Test(sqlite_source, the_triggers_of_a_newer_version_are_left_alone_and_run)
{
	struct world w;
	struct shmeta_op op;
	char id[40];

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_close(&w);
	world_sql(
		&w,
		"UPDATE shmeta_meta SET value = '99' WHERE name = 'version'; DROP TRIGGER shmeta_segments_insert; "
		"CREATE TRIGGER shmeta_segments_insert AFTER INSERT ON segments BEGIN INSERT INTO shmeta_changes(class, op) "
		"VALUES(2, 9); END");
	world_open(&w);
	op = sqlite_world_add(0, 0, id);
	sqlite_world_apply(&w, &op, 1);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM shmeta_changes WHERE op = 9"), 1);
	cr_expect_eq(world_sql_number(&w, "SELECT value FROM shmeta_meta WHERE name = 'version'"), 99);
	world_free(&w);
}

struct told {
	char text[4000];
};

static enum shmeta_status on_line(void *arg, const char *about, const char *text)
{
	struct told *told = arg;
	size_t used = strlen(told->text);

	(void)snprintf(told->text + used, sizeof told->text - used, "%s: %s\n", about, text);
	return SHMETA_OK;
}

static enum shmeta_status schema(struct world *w, enum backend_schema_verb verb, struct told *told)
{
	void *state = calloc(1, w->ops->state_bytes);
	enum shmeta_status status;

	cr_assert_not_null(state);
	told->text[0] = '\0';
	status = w->ops->admin->schema(state, &w->options, verb, 0, on_line, told, &w->err);
	w->ops->source->close(state);
	free(state);
	return status;
}

Test(sqlite_source, the_schema_verbs_say_what_keeps_the_feed_from_being_complete)
{
	static struct told told;
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	ok(schema(&w, BACKEND_SCHEMA_STATUS, &told));
	cr_expect_not_null(strstr(told.text, "change feed: complete\n"), "%s", told.text);
	world_sql(&w, "DROP TRIGGER shmeta_topics_update");
	ok(schema(&w, BACKEND_SCHEMA_STATUS, &told));
	cr_expect_not_null(strstr(told.text, "change feed: none: trigger shmeta_topics_update is missing. 'shmetactl"),
	                   "%s", told.text);
	ok(schema(&w, BACKEND_SCHEMA_APPLY, &told));
	world_sql(&w, "CREATE UNIQUE INDEX app ON segments(s3_key) WHERE size_bytes > 0");
	ok(schema(&w, BACKEND_SCHEMA_STATUS, &told));
	cr_expect_not_null(strstr(told.text, "change feed: none: the unique index app"), "%s", told.text);
	world_sql(
		&w,
		"DROP INDEX app; UPDATE shmeta_meta SET value = '99' WHERE name = 'version'; CREATE TRIGGER shmeta_new AFTER "
		"INSERT ON topics BEGIN INSERT INTO shmeta_changes(class) VALUES(0); END; DROP TRIGGER shmeta_topics_update");
	cr_expect_eq(schema(&w, BACKEND_SCHEMA_APPLY, &told), SHMETA_ERR_CONFIG);
	says("newer shmeta");
	/* Removing takes what other versions made, too: a trigger without its table would refuse
	 * the application's statements. */
	ok(schema(&w, BACKEND_SCHEMA_REMOVE, &told));
	world_topic(&w, NULL, "t", 1, -1, NULL);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'shmeta%'"), 0);
	world_sql(&w, "ALTER TABLE consumer_groups RENAME TO g2; CREATE VIEW consumer_groups AS SELECT * FROM g2");
	cr_expect_eq(schema(&w, BACKEND_SCHEMA_APPLY, &told), SHMETA_ERR_CONFIG);
	says("consumer_groups is a view");
	world_free(&w);
}

Test(sqlite_source, a_writer_that_attached_the_file_is_followed)
{
	struct world w;
	sqlite3 *other;
	char *sql;

	world_make(&w, WORLD_SQLITE_NEW);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	ok(world_load(&w));
	cr_assert_eq(sqlite3_open(":memory:", &other), SQLITE_OK);
	sql = sqlite3_mprintf("CREATE TABLE topics(name); CREATE TABLE shmeta_changes(a); ATTACH '%q' AS away; "
	                      "UPDATE away.partitions SET high_watermark = 8",
	                      w.path);
	cr_assert_eq(sqlite3_exec(other, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(other));
	sqlite3_free(sql);
	sqlite3_close(other);
	ok(world_changes(&w));
	has("changed partition");
	world_free(&w);
}

/* ---- epochs, creation, orphans ---- */

static int64_t next_epoch(struct world *w)
{
	const struct shmeta_op lease = {
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = str("t"), .agent_id = str("a"), .duration_ms = 1000};
	struct backend_op op = {str(SHMETA_DEFAULT_TENANT), &lease};
	struct shmeta_result result;
	size_t told = 0;
	const struct backend_sink sink = {.arg = &told, .changed = sqlite_world_own_changed};

	cr_assert_eq(w->ops->writer->apply(w->state, &op, 1, 5000, &result, &sink, &w->err), SHMETA_OK, "%s",
	             w->err.text);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
	return (int64_t)result.lease.epoch;
}

/* A lease that somebody else granted, and every way by which it can vanish. */
Test(sqlite_source, epochs_never_go_back_however_a_lease_vanishes)
{
	static const struct {
		enum shmeta_op_type own;
		const char *sql;
	} ways[] = {
		{SHMETA_OP_RELEASE_LEASE, NULL},
		{SHMETA_OP_DEREGISTER_AGENT, NULL},
		{SHMETA_OP_DELETE_TOPIC, NULL},
		{0, "DELETE FROM partition_leases"},
		{0, "DELETE FROM agents"},
		{0, "DELETE FROM topics"},
		{0, "DELETE FROM partitions"},
		{0,
	         "INSERT OR REPLACE INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, acquired_at, "
	         "epoch) VALUES('t', 0, 'a', 1, 1, 3)"},
		{0, "UPDATE partition_leases SET epoch = 3"},
		{0, "UPDATE partition_leases SET partition_id = 1"},
		{0,
	         "INSERT OR REPLACE INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at) "
	         "VALUES('a', 'x', 'z', 'g', 1, 1)"},
		{0,
	         "INSERT INTO partition_leases(topic, partition_id, leader_agent_id, lease_expires_at, acquired_at, epoch) "
	         "VALUES('t', 1, 'a', 1, 1, 7); UPDATE OR REPLACE partition_leases SET partition_id = 0 WHERE partition_id = 1"},
	};
	struct world w;

	for (int engine = WORLD_SQLITE_NEW; engine <= WORLD_SQLITE_LATER; engine++)
		for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
			struct shmeta_op op = {.type = ways[i].own, .name = str("t"), .agent_id = str("a")};

			world_make(&w, (enum world_engine)engine);
			world_open(&w);
			world_topic(&w, NULL, "t", 2, -1, NULL);
			world_agent(&w, "a", 1, NULL);
			world_lease(&w, NULL, "t", 0, "a", 50);
			if (ways[i].sql == NULL)
				sqlite_world_apply(&w, &op, 1);
			else
				world_sql(&w, "%s", ways[i].sql);
			world_sql(
				&w,
				"DELETE FROM partition_leases; DELETE FROM partitions; DELETE FROM topics; DELETE FROM agents");
			world_topic(&w, NULL, "t", 2, -1, NULL);
			world_agent(&w, "a", 1, NULL);
			cr_expect_eq(next_epoch(&w), 51, "%s, way %zu", world_names[engine], i);
			world_free(&w);
		}
}

Test(sqlite_source, nothing_is_created_unless_it_was_asked_for)
{
	char link[200];
	struct world w;

	world_make(&w, WORLD_SQLITE_NEW);
	w.options.create = 0;
	cr_expect_lt(world_try_open(&w), 0);
	says("No such file");
	cr_expect_not(is_beside(&w, "source.db"));
	world_free(&w);
	sqlite_world_bare(&w, "PRAGMA user_version = 7");
	w.options.create = 0;
	cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG);
	says("schema apply");
	world_free(&w);
	/* Behind a link that leads nowhere. */
	world_make(&w, WORLD_SQLITE_NEW);
	beside(&w, "elsewhere.db", link, sizeof link);
	cr_assert_eq(symlink(link, w.path), 0);
	cr_expect_eq(world_try_open(&w), SHMETA_ERR_CONFIG);
	says("symbolic link");
	cr_expect_not(is_beside(&w, "elsewhere.db"));
	world_free(&w);
	/* The seven tables without shmeta's own. */
	world_make(&w, WORLD_SQLITE_NEW);
	w.options.manage_schema = 0;
	world_open(&w);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'shmeta%'"), 0);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM sqlite_master WHERE name = 'topics'"), 1);
	world_free(&w);
}

Test(sqlite_source, nothing_is_created_where_something_was)
{
	struct world w;
	char path[200];
	sqlite3 *db;

	world_make(&w, WORLD_SQLITE_V01);
	world_open(&w);
	ok(world_load(&w));
	sqlite3_close(w.app);
	w.app = NULL;
	beside(&w, "empty.db", path, sizeof path);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(db, "PRAGMA user_version = 1", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	cr_assert_eq(rename(path, w.path), 0);
	cr_expect_eq(world_changes(&w), SHMETA_ERR_SOURCE);
	says("has no tables any more");
	cr_expect_eq(world_load(&w), SHMETA_ERR_SOURCE);
	cr_assert_eq(sqlite3_open(w.path, &w.app), SQLITE_OK);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM sqlite_master"), 0);
	world_free(&w);
}

Test(sqlite_source, a_database_behind_a_link_is_followed_with_its_side_files)
{
	struct world w;
	char real[200];

	world_make(&w, WORLD_SQLITE_V01);
	world_sql(&w, "PRAGMA journal_mode=WAL");
	world_topic(&w, NULL, "t", 1, -1, NULL);
	beside(&w, "real.db", real, sizeof real);
	sqlite3_close(w.app);
	cr_assert_eq(rename(w.path, real), 0);
	cr_assert_eq(symlink(real, w.path), 0);
	cr_assert_eq(sqlite3_open(w.path, &w.app), SQLITE_OK);
	sqlite3_busy_timeout(w.app, 10000);
	world_open(&w);
	ok(world_load(&w));
	cr_expect_eq(((struct sqlite_state *)w.state)->files[1].there, true);
	world_watermark(&w, NULL, "t", 0, 5);
	ok(world_changes(&w));
	has("changed partition");
	world_free(&w);
}

/* Somebody deleted the topic with foreign keys off. */
Test(sqlite_source, rows_that_were_left_of_a_topic_do_not_keep_its_name)
{
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = str("t"), .partition_count = 3}};
	struct world w;

	for (int engine = WORLD_SQLITE_NEW; engine <= WORLD_SQLITE_LATER; engine++) {
		world_make(&w, (enum world_engine)engine);
		world_open(&w);
		world_topic(&w, NULL, "t", 2, -1, NULL);
		world_segment(&w, NULL, "t", 0, 0, 9);
		world_agent(&w, "a", 1, NULL);
		world_lease(&w, NULL, "t", 0, "a", 50);
		cr_assert_eq(sqlite_world_program(&w, "DELETE FROM topics"), 0);
		sqlite_world_apply(&w, &create, 1);
		ok(world_load(&w));
		cr_expect_eq(w.recorder.topics, 1, "%s", world_names[engine]);
		cr_expect_eq(w.recorder.partitions, 3, "%s", world_names[engine]);
		cr_expect_eq(w.recorder.segments + w.recorder.leases + w.recorder.quarantined, 0, "%s",
		             world_names[engine]);
		cr_expect_eq(next_epoch(&w), 51);
		world_free(&w);
	}
}

/* ---- rights that come and go ---- */

/* In a child that is nobody: open, and at each step of the parent's say what it is. Exit status:
 * which line failed. */
static int follow_rights(struct world *w, bool side_files, int steps, int told)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"n", 1}, .partition_count = 1}};
	struct backend_op ops = {.op = &op, .tenant = str(SHMETA_DEFAULT_TENANT)};
	size_t count = 0;
	struct backend_sink sink = {.arg = &count, .changed = sqlite_world_own_changed};
	struct shmeta_result result;
	uint64_t fingerprint;
	char step;

#define MUST(condition)                                                                     \
	do {                                                                                \
		if (!(condition)) {                                                         \
			fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, w->err.text); \
			return 1;                                                           \
		}                                                                           \
	} while (0)
#define NEXT() MUST(write(told, "", 1) == 1 && read(steps, &step, 1) == 1)
#define READ_ONLY() (!world_writable(w))
	MUST(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
	MUST(world_try_open(w) == SHMETA_OK);
	MUST(READ_ONLY() && !world_has_feed(w));
	MUST(world_load(w) == SHMETA_OK && w->recorder.topics == 1);
	fingerprint = w->ops->source->fingerprint(w->state);
	MUST(w->ops->writer->apply(w->state, &ops, 1, 1, &result, &sink, &w->err) == SHMETA_OK &&
	     result.status == SHMETA_ERR_READ_ONLY);
	NEXT(); /* it is given the file, and not those beside it */
	if (side_files) {
		MUST(world_changes(w) == SHMETA_OK && READ_ONLY());
		MUST(world_load(w) == SHMETA_OK && w->recorder.topics == 1);
		NEXT(); /* and those, too */
	}
	MUST(world_changes(w) == SHMETA_OK && !READ_ONLY());
	MUST(world_has_feed(w));
	MUST(recorder_has(&w->recorder, "list"));
	MUST(w->ops->source->fingerprint(w->state) == fingerprint);
	MUST(w->ops->writer->apply(w->state, &ops, 1, 1, &result, &sink, &w->err) == SHMETA_OK &&
	     result.status == SHMETA_OK);
	MUST(world_load(w) == SHMETA_OK && w->recorder.topics == 2);
	uint64_t reconnects = world_counters(w).reconnects;

	MUST(world_changes(w) == SHMETA_OK && world_counters(w).reconnects == reconnects);
	NEXT(); /* it is taken away again */
	MUST(world_changes(w) == SHMETA_OK && READ_ONLY());
	MUST(world_load(w) == SHMETA_OK && w->recorder.topics == 2);
	MUST(w->ops->writer->apply(w->state, &ops, 1, 1, &result, &sink, &w->err) == SHMETA_OK &&
	     result.status == SHMETA_ERR_READ_ONLY);
	reconnects = world_counters(w).reconnects;
	MUST(world_changes(w) == SHMETA_OK && world_counters(w).reconnects == reconnects);
	NEXT(); /* and given back */
	op.u.topic.name = str("m");
	MUST(w->ops->writer->apply(w->state, &ops, 1, 1, &result, &sink, &w->err) == SHMETA_OK &&
	     result.status == SHMETA_OK);
	MUST(w->ops->source->fingerprint(w->state) == fingerprint);
	world_close(w);
	return 0;
}

static void rights_come_and_go(enum world_engine engine, bool side_files)
{
	struct world w;
	char path[120];
	int steps[2], told[2], status;
	char at;

	if (geteuid() != 0)
		cr_skip_test("needs root to become somebody else");
	world_make(&w, engine);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	cr_assert_eq(chmod(w.dir, 0777) | chmod(w.path, 0444), 0);
	cr_assert_eq(pipe(steps) | pipe(told), 0);
	sqlite3_close(w.app);
	w.app = NULL;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(steps[1]);
		close(told[0]);
		_exit(follow_rights(&w, side_files, steps[0], told[1]));
	}
	close(steps[0]);
	close(told[1]);
	for (int i = side_files ? 0 : 1; i < 4 && read(told[0], &at, 1) == 1; i++) {
		cr_assert_eq(chmod(w.path, i == 2 ? 0444 : 0666), 0);
		for (int file = 0; file < 2 && i > 0; file++) {
			snprintf(path, sizeof path, "%s%s", w.path, file == 0 ? "-wal" : "-shm");
			cr_assert(chmod(path, i == 2 ? 0444 : 0666) == 0 || errno == ENOENT);
		}
		cr_assert_eq(write(steps[1], "", 1), 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(steps[1]);
	close(told[0]);
	world_free(&w);
}

Test(sqlite_source, rights_to_write_that_come_and_go_are_noticed_without_a_restart)
{
	rights_come_and_go(WORLD_SQLITE_V01, false);
}

Test(sqlite_source, rights_to_write_a_file_with_a_wal_come_and_go_too)
{
	rights_come_and_go(WORLD_SQLITE_LATER, true);
}
