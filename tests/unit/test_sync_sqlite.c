/* SPDX-License-Identifier: Apache-2.0
 * The engine on SQLite: what other connections change shows, and a full comparison keeps nobody
 * waiting. */
#include <criterion/criterion.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/sync_fixture.h"
#include "tests/support/write_ops.h"

TestSuite(sync_sqlite, .timeout = 1800); /* make faults runs it in full */

static struct fixture f;
static char uri[128], path[112];
static sqlite3 *db;

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

__attribute__((format(printf, 1, 2))) static void sql(const char *fmt, ...)
{
	va_list args;
	char *error = NULL;

	va_start(args, fmt);
	char *text = sqlite3_vmprintf(fmt, args);

	va_end(args);
	cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &error), SQLITE_OK, "%s: %s", error, text);
	sqlite3_free(text);
}

/* A new file that the engine gives its schema, then rows from another connection: topics t000..,
 * partitions, segments of 1 000. */
static void start(unsigned topics, unsigned partitions, unsigned segments)
{
	fixture_init(&f);
	snprintf(path, sizeof path, "%s/source.db", f.dir);
	snprintf(uri, sizeof uri, "sqlite:%s", path);
	f.options.source.uri = uri;
	f.options.engine = NULL;
	f.options.reconcile_s = 60;
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
	sql("PRAGMA foreign_keys=ON; PRAGMA synchronous=OFF; BEGIN");
	for (unsigned t = 0; t < topics; t++) {
		sql("INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES('t%03u', %u, 5, 5)", t,
		    partitions);
		for (unsigned p = 0; p < partitions; p++) {
			sql("INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
			    "VALUES('t%03u', %u, %u, 5, 5)",
			    t, p, segments * 1000);
			for (unsigned i = 0; i < segments; i++)
				sql("INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, "
				    "record_count, size_bytes, s3_bucket, s3_key, created_at) VALUES('t%03u-%u-%u', "
				    "'t%03u', %u, %u, %u, 1000, 5, 'b', 'k', 5)",
				    t, p, i * 1000, t, p, i * 1000, i * 1000 + 999);
		}
	}
	sql("COMMIT");
	fixture_pass(&f, 3000);
	SAME();
}

static void done(void)
{
	f.on_clock = NULL;
	sqlite3_close(db);
	fixture_done(&f);
}

static void add_segment(const char *topic, unsigned base)
{
	sql("BEGIN; INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
	    "s3_bucket, s3_key, created_at) VALUES('%s-x-%u', '%s', 0, %u, %u, 1000, 5, 'b', 'k', 5); "
	    "UPDATE partitions SET high_watermark = %u WHERE topic = '%s' AND partition_id = 0; COMMIT",
	    topic, base, topic, base, base + 999, base + 1000, topic);
}

Test(sync_sqlite, changes_of_another_connection_show_after_a_poll)
{
	start(20, 2, 30);

	uint64_t reconciles = fixture_counters(&f).reconciles;

	add_segment("t001", 30000);
	sql("DELETE FROM topics WHERE name = 't002'");
	sql("DELETE FROM segments WHERE topic = 't003' AND end_offset < 10000");
	sql("INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES('new', 1, 6, 6)");
	sql("INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
	    "VALUES('new', 0, 0, 6, 6)");
	fixture_pass(&f, 1000);
	SAME();
	cr_assert_eq(fixture_counters(&f).reconciles, reconciles);
	done();
}

Test(sync_sqlite, a_restart_goes_on_from_the_change_log)
{
	start(20, 2, 30);
	fixture_crash(&f);
	add_segment("t001", 30000);
	f.now_ns += 1000000000;
	fixture_open(&f);
	fixture_pass(&f, 500);
	SAME();
	cr_assert_eq(fixture_counters(&f).loads, 0);
	cr_assert_eq(fixture_counters(&f).reconciles, 0);
	done();
}

static void die(void *arg)
{
	(void)arg;
	(void)kill(getpid(), SIGKILL);
}

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

/* A writer that dies when the source has committed what a client wrote, and the store has not. */
static void write_and_die(uint64_t watermark)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("t001"), .partition_id = 1, .offset = watermark};
	pid_t pid = run_fork();

	if (pid == 0) {
		fixture_open(&f);
		fixture_pass(&f, 500);
		sync_set_fetched_hook(f.sync, die, NULL);
		(void)fixture_write(&f, &op, 1);
		fixture_pass(&f, 500);
		_exit(1);
	}
	cr_assert_eq(run_reap(pid), 128 + SIGKILL);
}

Test(sync_sqlite, what_was_committed_when_the_writer_was_killed_before_it_showed_it_shows_after_its_restart)
{
	const uint32_t kills = run_rounds(20, 1000);
	char written[16];

	start(4, 2, 3);
	for (uint32_t i = 0; i < kills; i++) {
		char *before = fixture_store_text(&f), *after;

		fixture_crash(&f);
		write_and_die(100000 + i);
		f.now_ns += 1000000000;
		fixture_open(&f);
		after = fixture_store_text(&f);
		cr_assert_str_eq(before, after, "the store has it already: nothing was killed between the two");
		free(before);
		free(after);
		fixture_pass(&f, 5000);
		SAME();
		(void)snprintf(written, sizeof written, "%u", 100000 + i);
		after = fixture_store_text(&f);
		cr_assert_not_null(strstr(after, written), "the source never had it");
		free(after);
	}
	figure("kill -9 of the writer between the source's commit and its own", kills, 1000, "kills",
	       "0 writes that the source has and the restarted writer did not show");
	done();
}

Test(sync_sqlite, the_periodic_comparison_repairs_what_no_trigger_saw)
{
	int enabled;

	start(20, 2, 30);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, &enabled);
	add_segment("t001", 30000);
	sql("DELETE FROM topics WHERE name = 't002'");
	sql("DELETE FROM segments WHERE topic = 't003' AND end_offset < 10000");
	sql("INSERT INTO agents(agent_id, address, availability_zone, agent_group, last_heartbeat, started_at, metadata) "
	    "VALUES('a', 'x', 'z', 'g', 1, 1, '{}')");
	sql("INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES('new', 1, 6, 6)");
	fixture_pass(&f, 5000);
	cr_assert_not_null(fixture_difference(&f), "a trigger saw it");
	fixture_pass(&f, 60000);
	SAME();
	cr_assert_geq(fixture_counters(&f).reconciles, 1);
	cr_assert_gt(fixture_counters(&f).reconcile_repairs, 0);
	done();
}

/* While triggers are away: rows that no log has. */
static void change_unlogged(const char *name)
{
	sqlite3_stmt *triggers;
	char *drops = sqlite3_mprintf("");

	cr_assert_eq(sqlite3_prepare_v2(db,
	                                "SELECT name FROM main.sqlite_master WHERE type = 'trigger' AND tbl_name = "
	                                "'topics'",
	                                -1, &triggers, NULL),
	             SQLITE_OK);
	while (sqlite3_step(triggers) == SQLITE_ROW)
		drops = sqlite3_mprintf("%z DROP TRIGGER \"%w\";", drops, sqlite3_column_text(triggers, 0));
	sqlite3_finalize(triggers);
	sql("BEGIN; %s INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES('%s', 1, 5, 5); "
	    "COMMIT",
	    drops, name);
	sqlite3_free(drops);
}

static void expect_reason(const char *why)
{
	char line[300];

	snprintf(line, sizeof line, "it was made because %s", why);
	cr_expect_not_null(strstr(f.log, line), "no '%s' in: %s", line, f.log);
	f.log[f.log_bytes = 0] = '\0';
}

Test(sync_sqlite, a_comparison_that_changed_something_says_why_it_was_made)
{
	start(3, 2, 2);
	f.log[f.log_bytes = 0] = '\0';
	change_unlogged("while-serving");
	fixture_pass(&f, 5000);
	SAME();
	expect_reason("triggers or tables of the change log were missing");
	fixture_close(&f);
	change_unlogged("while-nobody-served");
	fixture_open(&f);
	fixture_pass(&f, 5000);
	SAME();
	expect_reason(
		"the change feed could not go on where the former writer left it (triggers or tables of the change "
		"log were missing)");
	done();
}

Test(sync_sqlite, a_comparison_that_finds_half_of_it_gone_deletes_nothing_before_a_second_look)
{
	int enabled;

	start(20, 2, 30);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, &enabled);
	sql("DELETE FROM topics WHERE name >= 't005'");

	uint64_t before = fixture_counters(&f).topics;

	while (!fixture_logged(&f, "shrink_suspected")) {
		cr_assert_eq(fixture_counters(&f).topics, before);
		fixture_run(&f);
		f.now_ns += 100000000;
	}
	cr_assert_eq(fixture_counters(&f).topics, before);
	fixture_pass(&f, 5000);
	cr_assert(fixture_logged(&f, "shrink_confirmed"), "%s", f.log);
	SAME();
	done();
}

/* Once the comparison's own connection has begun to read: a change behind what it has shown, and
 * one ahead of it. */
static unsigned looks;
static bool changed;

static void while_it_compares(struct fixture *fixture)
{
	fixture->now_ns += 6000000;
	if (++looks < 150 || changed)
		return;
	changed = true;
	add_segment("t000", 5000);
	add_segment("t199", 5000);
	sql("DELETE FROM topics WHERE name = 't198'");
	sql("DELETE FROM topics WHERE name = 't001'");
	sql("DELETE FROM topics WHERE name = 't197'; "
	    "INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES('t197', 1, 99, 99)");
}

Test(sync_sqlite, while_everything_is_compared_the_feed_is_followed_and_nothing_newer_is_overwritten)
{
	start(200, 1, 5);
	/* To the edge of the pass. */
	while (fixture_counters(&f).reconciles == 0 && fixture_run(&f) < 1000000000 && f.now_ns < 2000000000000)
		f.now_ns += 100000000;
	fixture_pass(&f, 65000);
	cr_assert_geq(fixture_counters(&f).reconciles, 1);

	uint64_t reconciles = fixture_counters(&f).reconciles, polls, fetches, commits;

	/* Quiet until the next one is due; then every look at the clock takes 6 ms, and at the
	 * 150th the source changes. */
	for (;;) {
		polls = fixture_counters(&f).polls;
		fetches = fixture_counters(&f).fetches;
		commits = fixture_counters(&f).commits;
		looks = 0;
		changed = false;
		f.on_clock = while_it_compares;
		fixture_run(&f);
		f.on_clock = NULL;
		if (fixture_counters(&f).reconciles > reconciles)
			break;
		cr_assert_not(changed, "the source changed outside of a comparison");
		f.now_ns += 200000000;
	}
	cr_assert(changed, "the comparison looked at the clock %u times only", looks);
	cr_assert_gt(fixture_counters(&f).polls, polls + 5, "the feed stood still");
	cr_assert_gt(fixture_counters(&f).commits, commits);
	cr_assert_gt(fixture_counters(&f).fetches, fetches);
	/* No further round: the feed was followed while the comparison ran, and the comparison left
	 * alone what was newer. */
	SAME();
	fixture_pass(&f, 2000);
	SAME();
	done();
}

/* Run rounds until a comparison has been made, with every look at the clock taking 6 ms once one
 * may be due. */
static void compare_with(void (*on_clock)(struct fixture *fixture))
{
	uint64_t reconciles;

	while (fixture_counters(&f).reconciles == 0)
		fixture_pass(&f, 1000);
	reconciles = fixture_counters(&f).reconciles;
	looks = 0;
	changed = false;
	while (fixture_counters(&f).reconciles == reconciles) {
		looks = 0;
		f.on_clock = on_clock;
		fixture_run(&f);
		f.on_clock = NULL;
		f.now_ns += 200000000;
	}
}

static uint64_t polls_at_first;

static void write_to_the_busy_one(struct fixture *fixture)
{
	fixture->now_ns += 6000000;
	if (++looks == 1)
		polls_at_first = fixture_counters(&f).polls;
	if (looks == 40 && !changed) {
		changed = true;
		add_segment("t000", 30000000);
	}
}

Test(sync_sqlite, within_one_partition_of_many_rows_the_feed_is_followed)
{
	start(1, 1, 20000);
	compare_with(write_to_the_busy_one);
	cr_assert(changed, "the comparison looked at the clock %u times only", looks);
	/* A window of rows is compared at a time, and each is followed by a look at what else is to
	 * be done. */
	cr_assert_gt(fixture_counters(&f).polls, polls_at_first + 10, "%llu polls",
	             (unsigned long long)(fixture_counters(&f).polls - polls_at_first));
	fixture_pass(&f, 1000);
	SAME();
	done();
}

Test(sync_sqlite, what_changes_while_it_is_compared_is_no_repair)
{
	start(200, 1, 5);
	compare_with(while_it_compares);
	cr_assert(changed);
	fixture_pass(&f, 2000);
	SAME();
	cr_assert_eq(fixture_counters(&f).reconcile_repairs, 0, "%s", f.log);
	cr_assert_not(fixture_logged(&f, "reconciled"));
	done();
}

static void damage_and_write(struct fixture *fixture)
{
	fixture->now_ns += 6000000;
	if (++looks == 20)
		add_segment("t000", 30000000);
}

Test(sync_sqlite, a_topic_that_is_written_to_all_the_time_is_compared_all_the_same)
{
	int enabled;

	start(3, 3, 2000);
	while (fixture_counters(&f).reconciles == 0)
		fixture_pass(&f, 1000);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, &enabled);
	sql("DELETE FROM segments WHERE topic = 't000' AND partition_id = 1 AND base_offset = 700000");
	sql("UPDATE segments SET size_bytes = 77 WHERE topic = 't000' AND partition_id = 2 AND base_offset = 1500000");
	sql("UPDATE segments SET s3_key = 'moved' WHERE topic = 't001' AND partition_id = 0 AND base_offset = 0");
	sql("UPDATE topics SET retention_ms = 5 WHERE name = 't001'");
	sql("DELETE FROM segments WHERE topic = 't002' AND partition_id = 2");
	sql("DELETE FROM partitions WHERE topic = 't002' AND partition_id = 2");
	sql("INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) VALUES('t002', 9, 4, 5, 5)");
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 1, &enabled);
	compare_with(damage_and_write);
	fixture_pass(&f, 2000);
	SAME();
	/* One row gone, two changed, a topic's row, a partition with its 2 000 segments, and a new
	 * one (it is there, and has a watermark). */
	cr_assert_eq(fixture_counters(&f).reconcile_repairs, 1 + 2 + 1 + 2001 + 2, "%llu: %s",
	             (unsigned long long)fixture_counters(&f).reconcile_repairs, f.log);
	done();
}

/* The file that db has open, in the source's stead. */
static void put_in_place(const char *other)
{
	char beside[128];

	sqlite3_close(db);
	cr_assert_eq(rename(other, path), 0);
	snprintf(beside, sizeof beside, "%s-wal", path);
	remove(beside);
	snprintf(beside, sizeof beside, "%s-shm", path);
	remove(beside);
	cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
}

Test(sync_sqlite, a_file_that_is_replaced_is_another_source)
{
	start(20, 2, 30);
	sqlite3_close(db);

	char other[128];

	snprintf(other, sizeof other, "%s.new", path);
	cr_assert_eq(sqlite3_open(other, &db), SQLITE_OK);
	sql("CREATE TABLE x(y)");
	put_in_place(other);
	fixture_pass(&f, 10000);
	/* It has no tables of ours: the store goes on with what it has, and says so. */
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED, "%s", f.log);
	cr_assert_eq(fixture_counters(&f).topics, 20);
	done();
}

/* Another file, without the first topics, takes the source's place, and no poll is due: who meets
 * it first is somebody who wants something. */
static void exchange(unsigned topics, unsigned gone)
{
	char other[128];

	start(topics, 1, 1);
	fixture_run(&f);
	snprintf(other, sizeof other, "%s.new", path);
	sql("VACUUM INTO '%s'", other);
	sqlite3_close(db);
	cr_assert_eq(sqlite3_open(other, &db), SQLITE_OK);
	sql("PRAGMA foreign_keys=ON; DELETE FROM topics WHERE name < 't%03u'", gone);
	put_in_place(other);
	f.answer_count = 0;
}

static void write_new(void)
{
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = str("new"), .partition_count = 1}};

	cr_assert_eq(fixture_write(&f, &create, 1), SHMETA_OK);
}

static void expect_written(uint64_t before)
{
	cr_assert_eq(f.writes_answered, before + 1, "%s", f.log);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_eq(f.write_result[0].status, SHMETA_OK, "%s", f.write_result[0].text);
}

Test(sync_sqlite, a_write_that_meets_another_file_is_done_when_that_was_looked_at)
{
	for (int polled = 0; polled < 2; polled++) {
		exchange(4, 1);

		uint64_t before = f.writes_answered;

		f.now_ns += polled ? 10000000000 : 0;
		write_new();
		fixture_pass(&f, 1000);
		expect_written(before);
		cr_expect_neq(fixture_topic_id(&f, "new"), 0);
		cr_expect_eq(fixture_topic_id(&f, "t000"), 0, "the former file is still shown");
		cr_expect_eq(fixture_counters(&f).source_errors, 0, "%s", f.log);
		SAME();
		/* Those behind it are not kept waiting. */
		before = f.writes_answered;
		write_new();
		fixture_run(&f);
		cr_expect_eq(f.writes_answered, before + 1);
		done();
	}
}

Test(sync_sqlite, a_read_that_meets_another_file_is_answered_when_that_was_looked_at)
{
	const struct sync_object_list list = {.tenant = str(SHMETA_DEFAULT_TENANT)};

	for (int i = 0; i < 4; i++) {
		bool lists = i / 2 != 0, polled = i % 2 != 0;

		exchange(4, 1);
		f.now_ns += polled ? 10000000000 : 0;
		cr_assert_eq(lists ? sync_list_objects(f.sync, &list, UINT64_MAX, 7)
		                   : fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t000", 0, 7),
		             SHMETA_OK);
		fixture_pass(&f, 1000);
		cr_assert_not_null(fixture_answer(&f, 7), "%s", f.log);
		cr_expect_eq(fixture_answer(&f, 7)->status, SHMETA_OK, "%s", fixture_answer(&f, 7)->sentence);
		cr_expect_eq(fixture_topic_id(&f, "t000"), 0, "the former file is still shown");
		cr_expect_eq(fixture_counters(&f).source_errors, 0, "%s", f.log);
		SAME();
		done();
	}
}

static int written_to(void)
{
	sqlite3_stmt *count;
	int ret;

	cr_assert_eq(sqlite3_prepare_v2(db, "SELECT count(*) FROM topics WHERE name = 'new'", -1, &count, NULL),
	             SQLITE_OK);
	cr_assert_eq(sqlite3_step(count), SQLITE_ROW);
	ret = sqlite3_column_int(count, 0);
	sqlite3_finalize(count);
	return ret;
}

/* Whether the write meets it, or the poll in front of the write. */
Test(sync_sqlite, nothing_is_written_to_a_file_that_is_not_accepted)
{
	for (int polled = 0; polled < 2; polled++) {
		exchange(4, 3);

		uint64_t before = f.writes_answered;

		f.now_ns += polled ? 10000000000 : 0;
		write_new();
		cr_expect_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t000", 0, 7), SHMETA_OK);
		fixture_pass(&f, 1000);
		cr_assert_eq(f.writes_answered, before + 1, "%s", f.log);
		cr_expect_eq(f.write_status, SHMETA_ERR_SOURCE);
		cr_expect_not_null(strstr(f.write_sentence, "not accepted"), "%s", f.write_sentence);
		cr_assert_not_null(fixture_answer(&f, 7));
		cr_expect_eq(fixture_answer(&f, 7)->status, SHMETA_ERR_SOURCE);
		cr_expect_not_null(strstr(fixture_answer(&f, 7)->sentence, "not accepted"), "%s",
		                   fixture_answer(&f, 7)->sentence);
		cr_expect_eq(written_to(), 0);
		done();
	}
}

/* Its caller does not wait for longer than he said, however long the look takes, and what he was
 * told is true. */
Test(sync_sqlite, a_write_that_waits_for_a_look_still_meets_its_deadline)
{
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = str("new"), .partition_count = 1}};

	exchange(4, 1);

	uint64_t before = f.writes_answered;

	cr_assert_eq(write_ops(f.sync, str(SHMETA_DEFAULT_TENANT), &create, 1, f.now_ns, 0, 1, "test", 9), SHMETA_OK);
	fixture_run(&f); /* it meets it */
	cr_expect_eq(f.writes_answered, before);
	f.now_ns += 1000000;
	fixture_pass(&f, 1000);
	cr_assert_eq(f.writes_answered, before + 1, "%s", f.log);
	cr_expect_eq(f.write_status, SHMETA_ERR_TIMEOUT, "%s", f.write_sentence);
	cr_expect_eq(fixture_topic_id(&f, "new"), 0);
	SAME();
	done();
}

Test(sync_sqlite, a_write_that_waits_for_a_look_is_not_done_when_the_engine_stops)
{
	exchange(4, 1);

	uint64_t before = f.writes_answered;

	write_new();
	fixture_run(&f);
	cr_assert_eq(f.writes_answered, before);
	fixture_close(&f);
	cr_assert_eq(f.writes_answered, before + 1);
	cr_expect_eq(f.write_status, SHMETA_ERR_WRITER_AWAY, "%s", f.write_sentence);
	cr_expect_eq(written_to(), 0);
	done();
}
