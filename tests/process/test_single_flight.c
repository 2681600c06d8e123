/* SPDX-License-Identifier: Apache-2.0
 * Five hundred processes that want the same thing at once are one query of the source. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/run_stats.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(single_flight, .timeout = 300);

enum { PROCESSES = 500, WAIT_MS = 120000, DESCRIPTORS = 3 * PROCESSES };

static struct run_daemon d;

/* Everything is stale after a millisecond, and nobody but readers asks for anything: no poll, no
 * comparison. Absences are not remembered unless the test says so: what joins must join by
 * itself. */
#define CONFIG                                                                                                             \
	"ttl { topic_ms = 1\n partition_ms = 1\n segment_ms = 1\n list_ms = 1 }\n"                                         \
	"feed { poll_min_ms = 60s\n poll_max_ms = 10m\n reconcile_s = 0 }\n"                                               \
	"source { timeout_ms = 120s }\n"                                                                                   \
	"control { connections_max = 4096\n connections_per_user = 4096\n registrations_per_user = 4096\n idle_s = 10m\n " \
	"first_frame_ms = 60s }\n"

static void start(const char *more)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < DESCRIPTORS) {
		limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
		if (limit.rlim_cur < DESCRIPTORS || setrlimit(RLIMIT_NOFILE, &limit) < 0)
			cr_skip_test("needs %d file descriptors in a process", DESCRIPTORS);
	}
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_configure(&d, CONFIG, more), 0);
	/* A rollback journal: whoever locks the file keeps readers out. */
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode = delete;" STREAMHOUSE_V01
	                                "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "VALUES('known', 1, 1, 1, '{}');"
	                                "INSERT INTO partitions VALUES('known', 0, 0, 1, 1);"),
	             0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void start_plain(void)
{
	start("refresh { absent_ttl_ms = 0 }\n");
}

static void stop(void)
{
	run_daemon_done(&d);
}

/* In a child: be ready, wait for the sign, ask. 0: the answer is the right one, and was read after
 * the sign. */
static int ask(const char *topic, enum shmeta_status right, int ready, int go)
{
	struct shmeta_read read_options = {.size = sizeof read_options,
	                                   .consistency = SHMETA_FRESH,
	                                   .timeout_ms = WAIT_MS,
	                                   .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta *instance = run_daemon_open(&d, "flock", 0);
	struct shmeta_reader *reader = instance != NULL ? run_daemon_reader(instance) : NULL;
	struct shmeta_freshness fresh;
	struct shmeta_topic record;
	enum shmeta_status status;
	char byte = 0;

	byte = reader == NULL || run_daemon_begin(reader) != SHMETA_OK;
	if (write(ready, &byte, 1) != 1 || byte != 0 || read(go, &byte, 1) != 0)
		return 10;
	status = shmeta_get_topic(reader, topic, strlen(topic), &read_options, &record, &fresh);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	return status == right ? 0 : status == SHMETA_ERR_TIMEOUT ? 11 : 12;
}

struct cost {
	uint64_t fetches, keys, queries;
};

static struct cost cost_now(void)
{
	run_stats_settle(&d);
	return (struct cost){run_stats_counter(&d, "fetches"), run_stats_counter(&d, "refresh_keys"),
	                     run_stats_counter(&d, "source_queries")};
}

/* So many processes ask at once while the source is locked; it is let go when all requests have
 * arrived. What it cost; *now: before and after. */
static struct cost flock_of(int processes, const char *topic, enum shmeta_status right, struct cost *now)
{
	static pid_t pid[PROCESSES];
	struct cost before = *now;
	uint64_t frames;
	int ready[2], go[2], wrong = 0;
	sqlite3 *db = NULL;
	char byte;

	cr_assert(pipe2(ready, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
	for (int i = 0; i < processes; i++) {
		pid[i] = run_fork();
		if (pid[i] == 0) {
			(void)close(go[1]);
			_exit(ask(topic, right, ready[1], go[0]));
		}
		cr_assert_gt(pid[i], 0);
	}
	(void)close(ready[1]);
	(void)close(go[0]);
	for (int i = 0; i < processes; i++)
		cr_assert(read(ready[0], &byte, 1) == 1 && byte == 0, "number %d of %d cannot register", i, processes);
	run_stats_settle(&d);
	frames = run_stats_counter(&d, "frames");
	cr_assert_eq(sqlite3_open(d.db, &db), SQLITE_OK);
	(void)sqlite3_busy_timeout(db, 10000);
	cr_assert_eq(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
	(void)close(go[1]);
	while (run_stats_counter(&d, "frames") < frames + (uint64_t)processes)
		(void)usleep(20000); /* the suite's time is the limit */
	cr_assert_eq(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	(void)sqlite3_close(db);
	for (int i = 0; i < processes; i++)
		wrong += run_reap(pid[i]) != 0;
	cr_expect_eq(wrong, 0, "%d of %d were not answered as they should", wrong, processes);
	(void)close(ready[0]);
	*now = cost_now();
	return (struct cost){now->fetches - before.fetches, now->keys - before.keys, now->queries - before.queries};
}

static void same_as_one(const char *topic, const char *of_one, enum shmeta_status right)
{
	struct cost now = cost_now(), one = flock_of(1, of_one, right, &now),
		    all = flock_of(PROCESSES, topic, right, &now);

	cr_expect(one.fetches == 1 && one.keys == 1, "%d fetches", (int)one.fetches);
	cr_expect_eq(all.fetches, 1, "%d calls of the source for %d processes", (int)all.fetches, PROCESSES);
	cr_expect_eq(all.keys, 1);
	cr_expect_eq(all.queries, one.queries, "%d statements instead of %d", (int)all.queries, (int)one.queries);
	cr_expect_geq(run_stats_counter(&d, "refresh_coalesced"), PROCESSES - 1);
}

Test(single_flight, five_hundred_processes_asking_for_an_unknown_topic_are_one_query, .init = start_plain, .fini = stop)
{
	same_as_one("unknown", "unknown-to-one", SHMETA_ABSENT);
}

Test(single_flight, five_hundred_processes_asking_for_a_stale_topic_are_one_query, .init = start_plain, .fini = stop)
{
	same_as_one("known", "known", SHMETA_OK);
}

/* ---- one after the other ---- */

static void start_remembering(void)
{
	start("refresh { absent_ttl_ms = 5s }\n");
}

Test(single_flight, who_asks_after_the_answer_came_is_spared_too_until_the_topic_is_made, .init = start_remembering,
     .fini = stop)
{
	struct shmeta_read how = {
		.size = sizeof how, .consistency = SHMETA_FRESH, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	const struct shmeta_op make = {.type = SHMETA_OP_CREATE_TOPIC,
	                               .u.topic = {.name = {"late", 4}, .partition_count = 1}};
	struct shmeta *instance = run_daemon_open(&d, "one", 0);
	struct shmeta_reader *reader = run_daemon_reader(instance);
	struct shmeta_client *client;
	struct shmeta_result result;
	struct shmeta_freshness fresh;
	struct shmeta_topic topic;
	struct cost before = cost_now(), after;
	uint64_t spared = run_stats_counter(&d, "absent_answers");

	cr_assert_not_null(reader);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_assert_eq(shmeta_get_topic(reader, "late", 4, &how, &topic, &fresh), SHMETA_ABSENT);
		cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	}
	after = cost_now();
	/* The list is stale after a millisecond: all but the first, and one in five seconds, were
	 * asked within it or spared. */
	spared = run_stats_counter(&d, "absent_answers") - spared;
	cr_expect_geq(spared, 1, "none was remembered");
	cr_expect_leq(after.fetches - before.fetches + spared, 100);
	cr_expect_lt(after.fetches - before.fetches, 50, "%d fetches", (int)(after.fetches - before.fetches));

	how.consistency = SHMETA_SOURCE;
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "late", 4, &how, &topic, &fresh), SHMETA_ABSENT);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_expect_eq(cost_now().fetches, after.fetches + 1, "who wants the source's word gets it");

	cr_assert_eq(shmeta_write(client, &make, 1, WAIT_MS, &result, NULL), SHMETA_OK);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
	how.consistency = SHMETA_FRESH;
	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "late", 4, &how, &topic, &fresh), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
}
