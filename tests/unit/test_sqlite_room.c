/* SPDX-License-Identifier: Apache-2.0
 * A SQLite source that cannot grow: what is written is refused, what is read is read as before, and
 * when there is room again both work. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "backends/rows.h"
#include "backends/sqlite/sqlite_db.h"
#include "tests/support/sqlite_world.h"

TestSuite(sqlite_room, .timeout = 60);

enum { BATCH = 200 };

#define ok(call) cr_assert_eq((call), SHMETA_OK, "%s", w.err.text)

static struct world w;
static struct shmeta_op op[BATCH];
static char id[BATCH][40];

static void open_with_rows(enum world_engine engine)
{
	world_make(&w, engine);
	world_open(&w);
	world_topic(&w, NULL, "t", 4, -1, NULL);
	ok(world_load(&w));
	ok(world_changes(&w));
}

static void limit_files(rlim_t bytes)
{
	struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};

	(void)signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* BATCH segments from base on. */
static enum shmeta_status add_segments(uint64_t base)
{
	static struct shmeta_result results[BATCH];
	static struct backend_op ops[BATCH];
	size_t told = 0;
	const struct backend_sink sink = {.arg = &told, .changed = sqlite_world_own_changed};

	for (uint32_t i = 0; i < BATCH; i++) {
		op[i] = sqlite_world_add(i % 4, base + i / 4 * 10, id[i]);
		ops[i] = (struct backend_op){rows_str(SHMETA_DEFAULT_TENANT), &op[i]};
	}
	return world_applied(w.ops->writer->apply(w.state, ops, BATCH, 5000, results, &sink, &w.err), results, BATCH);
}

/* Nothing of what was refused is there; what was there is read. */
static void expect_refused_and_read(enum shmeta_status status, const char *said)
{
	const struct backend_key key = {
		.cls = SHMETA_CLASS_TOPIC, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t")};

	cr_assert_eq(status, SHMETA_ERR_FULL, "%d: %s", status, w.err.text);
	cr_expect_eq(w.err.code, SHMETA_ERR_FULL);
	cr_expect_not_null(strstr(w.err.text, said), "no '%s' in: %s", said, w.err.text);
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM segments"), 0);
	ok(world_fetch(&w, &key, 1));
	cr_expect_eq(w.recorder.topics, 1);
	ok(world_changes(&w));
	cr_expect_eq(w.changed, 0);
}

Test(sqlite_room, a_database_that_is_full_refuses_what_is_written_and_is_read_on)
{
	uint64_t reconnects;

	open_with_rows(WORLD_SQLITE_NEW);
	reconnects = world_counters(&w).reconnects;
	/* as many as there are */
	cr_assert_eq(sqlite_execute(w.state, "PRAGMA max_page_count = 1"), SQLITE_OK);
	expect_refused_and_read(add_segments(0), "SQLITE_FULL");
	cr_expect_eq(world_counters(&w).reconnects, reconnects, "the connection is as good as it was");
	cr_assert_eq(sqlite_execute(w.state, "PRAGMA max_page_count = 100000"), SQLITE_OK);
	ok(add_segments(0));
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM segments"), BATCH);
	world_free(&w);
}

Test(sqlite_room, a_limit_on_file_sizes_is_no_room_too)
{
	enum shmeta_status status;

	open_with_rows(WORLD_SQLITE_NEW);
	limit_files(4096);
	status = add_segments(0);
	limit_files(RLIM_INFINITY);
	expect_refused_and_read(status, "limit on file sizes");
	ok(add_segments(0));
	cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM segments"), BATCH);
	world_free(&w);
}

Test(sqlite_room, without_room_for_a_change_log_rows_are_read_and_the_log_is_made_when_there_is)
{
	enum shmeta_status status;

	world_make(&w, WORLD_SQLITE_V01);
	world_topic(&w, NULL, "t", 4, -1, NULL);
	limit_files(4096);
	status = world_try_open(&w);
	limit_files(RLIM_INFINITY);
	ok(status);
	cr_expect_not(world_has_feed(&w));
	cr_expect_not_null(strstr(w.ops->feed->trouble(w.state), "could not be made"), "%s",
	                   w.ops->feed->trouble(w.state));
	ok(world_load(&w));
	cr_expect_eq(w.recorder.topics, 1);
	cr_expect(world_has_feed(&w), "a pass tries again");
	cr_expect_str_eq(w.ops->feed->trouble(w.state), "");
	world_free(&w);
}
