/* SPDX-License-Identifier: Apache-2.0
 * Readers that hold a snapshot for too long, honestly or not: they alone are cut off, and writing
 * goes on. With a real shmetad and a single-op writer. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "shm/page/stats_page.h"
#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_stats.h"
#include "tests/support/run_tool.h"

TestSuite(pins, .timeout = 3600); /* make faults takes its time */

enum { WAIT_MS = 20000, TOPIC_PARTITIONS = 4, TIMES_MAX = 1 << 17 };

static struct run_daemon d;

/* The writer that goes on. */
static struct {
	struct shmeta *instance;
	struct shmeta_client *client;
	struct shmeta_reader *reader;
	uint64_t offset;
	unsigned not_cached;
	double took_ms[TIMES_MAX]; /* of the writes since start() */
} w;

static double patience_until(void)
{
	return run_now_s() + run_rounds(30, 1200);
}

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static enum shmeta_status do_one(const struct shmeta_op *op)
{
	struct shmeta_result result = {.status = SHMETA_OK};
	enum shmeta_status status = shmeta_write(w.client, op, 1, WAIT_MS, &result, NULL);

	return status != SHMETA_OK ? status : result.status;
}

static void start(const char *config)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = str("t"), .partition_count = TOPIC_PARTITIONS}};

	memset(&w, 0, sizeof(w));
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_configure(&d, config, ""), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	w.instance = run_daemon_open(&d, "writer", 0);
	cr_assert_not_null(w.instance);
	cr_assert_eq(shmeta_client_open(w.instance, NULL, &w.client), SHMETA_OK);
	w.reader = run_daemon_reader(w.instance);
	cr_assert_not_null(w.reader);
	cr_assert_eq(do_one(&op), SHMETA_OK);
}

static void end(void)
{
	shmeta_reader_free(w.reader);
	shmeta_client_close(w.client);
	shmeta_close(w.instance);
	run_daemon_done(&d);
}

/* One commit. It reaches the source whatever the store says. */
static void write_one(void)
{
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                       .name = str("t"),
	                       .partition_id = (uint32_t)(w.offset % TOPIC_PARTITIONS),
	                       .offset = w.offset + 1};
	double begun = run_now_s();
	enum shmeta_status status = do_one(&op);

	if (w.offset < TIMES_MAX)
		w.took_ms[w.offset] = (run_now_s() - begun) * 1e3;
	w.offset++;
	w.not_cached += status == SHMETA_ERR_NOT_CACHED;
	cr_assert(status == SHMETA_OK || status == SHMETA_ERR_NOT_CACHED, "write %llu: %s",
	          (unsigned long long)w.offset, shmeta_strerror(status));
}

/* The answer to a write that is tried until the store shows it. */
static enum shmeta_status last_write(void)
{
	double until = patience_until();
	enum shmeta_status status;
	unsigned before;

	do {
		before = w.not_cached;
		write_one();
		status = w.not_cached == before ? SHMETA_OK : SHMETA_ERR_NOT_CACHED;
	} while (status != SHMETA_OK && run_now_s() < until);
	return status;
}

static void *map_file(const char *name, size_t bytes)
{
	char path[160];
	void *map = NULL;
	struct shmeta_err err;

	(void)snprintf(path, sizeof(path), "%s/%s", d.instance, name);
	cr_assert_eq(shmeta__map_file(-1, path, bytes, 0, &map, &err), SHMETA_OK, "%s", err.text);
	return map;
}

/* ---- victims: children that use the library ---- */

/* What became of one that was stopped in a snapshot, as its exit status. */
enum { AS_PROMISED, NOT_OPENED, NOT_BEGUN, LOOKUP_ANSWERED, END_WAS_OK, NEXT_FAILED };

static int stop_in_snapshot(void)
{
	struct shmeta *instance = run_daemon_open(&d, "stopped", 0);
	struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
	struct shmeta_topic topic;

	if (reader == NULL)
		return NOT_OPENED;
	if (run_daemon_begin(reader) != SHMETA_OK || shmeta_get_topic(reader, "t", 1, NULL, &topic, NULL) != SHMETA_OK)
		return NOT_BEGUN;
	(void)raise(SIGSTOP);
	if (shmeta_get_topic(reader, "t", 1, NULL, &topic, NULL) != SHMETA_ERR_EXPIRED)
		return LOOKUP_ANSWERED;
	if (shmeta_end(reader) != SHMETA_ERR_EXPIRED)
		return END_WAS_OK;
	for (int i = 0; i < 100; i++)
		if (run_daemon_begin(reader) != SHMETA_OK ||
		    shmeta_get_topic(reader, "t", 1, NULL, &topic, NULL) != SHMETA_OK ||
		    shmeta_end(reader) != SHMETA_OK)
			return NEXT_FAILED;
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return AS_PROMISED;
}

static pid_t stopped_victim(void)
{
	pid_t pid = run_fork();
	int status;

	if (pid == 0)
		_exit(stop_in_snapshot());
	cr_assert_eq(waitpid(pid, &status, WUNTRACED), pid);
	cr_assert(WIFSTOPPED(status), "it ended with %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	return pid;
}

static void expect_as_promised(pid_t pid)
{
	cr_assert_eq(kill(pid, SIGCONT), 0);
	cr_expect_eq(run_reap(pid), AS_PROMISED);
}

static void write_until(const char *name, uint64_t value)
{
	double until = patience_until();

	while (run_stats_counter(&d, name) < value) {
		write_one();
		cr_assert_lt(run_now_s(), until, "%s stays at %llu", name,
		             (unsigned long long)run_stats_counter(&d, name));
	}
}

static void expect_watermarks(const uint64_t expected[TOPIC_PARTITIONS])
{
	struct shmeta_partition p;

	for (uint32_t id = 0; id < TOPIC_PARTITIONS; id++) {
		cr_assert_eq(shmeta_get_partition_named(w.reader, "t", 1, id, NULL, &p, NULL), SHMETA_OK);
		cr_assert_eq(p.high_watermark, expected[id], "partition %u at %llu", id,
		             (unsigned long long)p.high_watermark);
	}
}

/* Long after its grace period: the daemon looks at the pins of those who are registered. */
Test(pins, what_a_snapshot_shows_stays_however_much_is_written_behind_it, .fini = end)
{
	enum { WRITES = 400, GRACE_NS = 50000000 };
	uint64_t before[TOPIC_PARTITIONS], begun;
	struct shmeta_partition p;

	start("snapshot { max_age = 0 }\nstore { grace_ms = 50ms }\n");
	cr_assert_eq(run_daemon_begin(w.reader), SHMETA_OK);
	for (uint32_t id = 0; id < TOPIC_PARTITIONS; id++) {
		cr_assert_eq(shmeta_get_partition_named(w.reader, "t", 1, id, NULL, &p, NULL), SHMETA_OK);
		before[id] = p.high_watermark;
	}
	begun = shmeta__boottime_ns();
	while (shmeta__boottime_ns() - begun < 3 * (uint64_t)GRACE_NS)
		write_one();
	for (int i = 0; i < WRITES; i++)
		write_one();
	expect_watermarks(before);
	cr_assert_eq(shmeta_end(w.reader), SHMETA_OK);
}

Test(pins, a_reader_that_is_stopped_in_a_snapshot_is_cut_off_at_its_age_and_harms_nobody, .fini = end)
{
	pid_t pid;

	start("snapshot { max_age = 1s }\nstore { grace_ms = 100ms }\n");
	pid = stopped_victim();
	write_until("snapshots_revoked", 1);
	/* The bystander's snapshots are its own. */
	cr_assert_eq(run_daemon_begin(w.reader), SHMETA_OK);
	cr_assert_eq(shmeta_end(w.reader), SHMETA_OK);
	expect_as_promised(pid);
	cr_expect_eq(run_stats_counter(&d, "snapshots_revoked"), 1);
	cr_expect_eq(w.not_cached, 0);
}

/* As a server forks its workers: they have all descriptors of the process that registered. */
Test(pins, a_process_that_ended_in_a_snapshot_is_let_go_of_whatever_its_children_keep, .fini = end)
{
	const struct shmeta_board *board;
	double until = patience_until();
	int held[2];
	char byte;
	pid_t pid;

	start("snapshot { max_age = 0 }\nstore { grace_ms = 100ms }\n");
	board = map_file("board", SHMETA_PAGE);
	cr_assert_eq(shmeta_peek(&board->registrations), 1);
	cr_assert_eq(pipe(held), 0);
	pid = run_fork();
	if (pid == 0) {
		struct shmeta *instance = run_daemon_open(&d, "server", 0);
		struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;

		if (reader == NULL || run_daemon_begin(reader) != SHMETA_OK)
			_exit(1);
		(void)close(held[1]);
		if (fork() == 0)
			_exit(read(held[0], &byte, 1) == 0 ? 0 : 1);
		(void)raise(SIGKILL);
	}
	cr_assert_eq(run_reap(pid), 128 + SIGKILL);
	while (shmeta_peek(&board->registrations) != 1)
		cr_assert_lt(run_now_s(), until, "its child keeps it registered");
	(void)close(held[1]);
	(void)close(held[0]);
	(void)munmap((void *)(uintptr_t)board, SHMETA_PAGE);
}

static void tell_writes(const char *what)
{
	uint32_t count = w.offset < TIMES_MAX ? (uint32_t)w.offset : TIMES_MAX;
	char text[100];

	figure(what, w.offset, 100000, "commits", "0 refused, %u shown later than answered; %s", w.not_cached,
	       figure_times(w.took_ms, count, text, sizeof text));
}

/* The store is filled several times over while readers are stopped in it. */
Test(pins, whoever_holds_the_stores_room_is_asked_for_it_and_writing_goes_on, .timeout = 3600, .fini = end)
{
	const unsigned mib = run_rounds(16, 1024), writes = run_rounds(6000, 80000);
	char config[96], what[64];
	pid_t pid[2];

	(void)snprintf(config, sizeof(config),
	               "snapshot { max_age = 0 }\nstore {\n grace_ms = 50ms\n max_bytes = %uM\n}\n", mib);
	start(config);
	for (int round = 0; round < 2; round++) {
		pid[round] = stopped_victim();
		write_until("snapshots_revoked", (uint64_t)round + 1);
	}
	while (w.offset < writes)
		write_one();
	for (int round = 0; round < 2; round++)
		expect_as_promised(pid[round]);
	cr_expect_eq(run_stats_counter(&d, "snapshots_revoked"), 2, "a bystander was cut off, too");
	(void)snprintf(what, sizeof(what), "a store of %u MiB, a reader stopped in it", mib);
	tell_writes(what);
	/* What could not be shown at once, at a rate that fills the store within a grace period, is
	 * shown by now. */
	cr_expect_eq(last_write(), SHMETA_OK);
}

static int tool(const char *arguments, const char *part)
{
	struct run_tool t = {.code = 0};
	int code;

	run_tool(&t, "shmetactl --dir %s %s", d.instance, arguments);
	code = t.code;
	cr_expect(strstr(t.out, part) != NULL || strstr(t.err, part) != NULL, "%s: %s%s", arguments, t.out, t.err);
	run_tool_done(&t);
	return code;
}

Test(pins, an_administrator_takes_back_the_snapshots_of_a_process, .fini = end)
{
	char arguments[64], *log;
	pid_t pid;

	start("snapshot { max_age = 0 }\nstore { grace_ms = 100ms }\n");
	pid = stopped_victim();
	write_one();
	cr_expect_eq(tool("revoke 4194304 --yes", "no registered process"), 5);
	cr_expect_eq(tool("revoke me --yes", "neither a process id nor a registration"), 2);
	(void)snprintf(arguments, sizeof(arguments), "revoke %d </dev/null", (int)pid);
	cr_expect_eq(tool(arguments, "--yes"), 2);
	(void)snprintf(arguments, sizeof(arguments), "revoke %d --yes --json", (int)pid);
	cr_expect_eq(tool(arguments, "\"revoked\": 1"), 0);
	write_until("snapshots_revoked", 1);
	expect_as_promised(pid);
	log = run_read_file(d.log);
	cr_assert_not_null(log);
	(void)snprintf(arguments, sizeof(arguments), ": revoke %d: done", (int)pid);
	cr_expect_not_null(strstr(log, arguments), "it is not audited: %s", log);
	free(log);
}

/* ---- a store that is full of content ---- */

static enum shmeta_status create_topic(const char *name, uint32_t partitions, struct shmeta_result *ret)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = str(name), .partition_count = partitions}};
	enum shmeta_status status;

	*ret = (struct shmeta_result){.status = SHMETA_OK};
	status = shmeta_write(w.client, &op, 1, WAIT_MS, ret, NULL);
	return status != SHMETA_OK ? status : ret->status;
}

static enum shmeta_status delete_topic(const char *name)
{
	const struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = str(name)};

	return do_one(&op);
}

static enum shmeta_status look_up(const char *name)
{
	struct shmeta_topic topic;
	enum shmeta_status status = run_daemon_begin(w.reader);

	cr_assert_eq(status, SHMETA_OK);
	status = shmeta_get_topic(w.reader, name, strlen(name), NULL, &topic, NULL);
	cr_assert_eq(shmeta_end(w.reader), SHMETA_OK);
	return status;
}

static void await_topic(const char *name, enum shmeta_status status)
{
	double until = patience_until();

	while (look_up(name) != status)
		cr_assert_lt(run_now_s(), until, "%s is not %s", name, shmeta_strerror(status));
}

Test(pins, a_topic_that_does_not_fit_is_refused_before_the_source_has_it, .fini = end)
{
	struct shmeta_result result;
	char name[8];
	int created = 0;

	start("store {\n grace_ms = 50ms\n max_bytes = 4M\n}\n");
	cr_expect_eq(create_topic("huge", 100000, &result), SHMETA_ERR_FULL);
	cr_expect_not_null(strstr(result.text, "100000 partitions take 13.2 MiB"), "%s", result.text);
	cr_expect_null(strstr(result.text, " 0.0 "), "a size is told in a unit that says something: %s", result.text);
	cr_expect_not_null(strstr(result.text, "raise store.max_bytes"), "%s", result.text);
	for (; created < 20; created++) {
		enum shmeta_status status;

		(void)snprintf(name, sizeof(name), "t%d", created);
		status = create_topic(name, 5000, &result);
		if (status == SHMETA_ERR_FULL)
			break;
		cr_assert_eq(status, SHMETA_OK, "%s: %s %s", name, shmeta_strerror(status), result.text);
	}
	cr_assert(created > 2 && created < 20);
	cr_expect_eq(look_up(name), SHMETA_ABSENT);
	cr_expect_eq(delete_topic("t0"), SHMETA_OK);
	/* The pages of the deleted one may be a reader's for a grace period yet. */
	cr_expect_neq(create_topic(name, 5000, &result), SHMETA_ERR_FULL, "%s", result.text);
	await_topic(name, SHMETA_OK);
}

Test(pins, a_full_store_takes_what_removes_and_then_what_had_to_wait, .fini = end)
{
	struct shmeta_result result;

	start("store {\n grace_ms = 50ms\n max_bytes = 4M\n}\nretry {\n min_ms = 10ms\n max_ms = 200ms\n}\n");
	cr_assert_eq(create_topic("a", 9000, &result), SHMETA_OK);
	cr_assert_eq(create_topic("b", 9000, &result), SHMETA_OK);
	/* Others write to the source as well, and nobody asks us what fits. */
	cr_assert_eq(run_daemon_sql(
			     &d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
				 "VALUES('c', 20000, 1, 1, '{}');"
				 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19999) "
				 "INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) "
				 "SELECT 'c', i, 0, 1, 1 FROM n;"),
	             0);
	write_until("store_full", 1);
	cr_expect_neq(look_up("a"), SHMETA_ABSENT);
	(void)delete_topic("a");
	await_topic("a", SHMETA_ABSENT);
	(void)delete_topic("b");
	await_topic("c", SHMETA_OK);
	cr_expect_eq(last_write(), SHMETA_OK);
}
