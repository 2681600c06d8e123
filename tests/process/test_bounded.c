/* SPDX-License-Identifier: Apache-2.0
 * A daemon in bounded mode over SQLite, with budgets of a tenth of the data: what a reader is told
 * is what the source has, or unknown, and a FRESH read is never unknown; the store never has more
 * than the budgets. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/run_stats.h"
#include "tests/support/run_tool.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(bounded, .timeout = 300);

enum { TOPICS = 40, PARTITIONS = 10, SEGMENTS = 20, RECORDS = 100, WAIT_MS = 60000, MAX_BYTES = 1 << 20 };

static struct run_daemon d;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static unsigned segments[TOPICS][PARTITIONS];
static uint64_t chance_state = 1;

#define CONFIG                                                                                           \
	"store { mode = bounded }\n"                                                                     \
	"bounded { max_topics = 4\n max_partitions = 40\n max_segment_bytes = 128K\n max_bytes = 1M }\n" \
	"feed { poll_min_ms = 1\n poll_max_ms = 10ms\n reconcile_s = 2 }\n"

static unsigned chance(unsigned below)
{
	chance_state = chance_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(chance_state >> 33) % below;
}

static void attach(void)
{
	instance = run_daemon_open(&d, "bounded", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
}

static void detach(void)
{
	shmeta_reader_free(reader);
	shmeta_close(instance);
}

static void start(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_configure(&d, CONFIG, ""), 0);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode = wal;" STREAMHOUSE_V01
	                                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 39) "
	                                "INSERT INTO topics(name, partition_count, created_at, updated_at) "
	                                "SELECT 't' || i, 10, 1000 + i, 1 FROM n;"
	                                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9) "
	                                "INSERT INTO partitions SELECT name, i, 2000, created_at, 1 FROM topics, n;"
	                                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19) "
	                                "INSERT INTO segments SELECT topic || '-' || partition_id || '-' || i, topic, "
	                                "partition_id, i * 100, i * 100 + 99, 100, 1000, 'bucket', "
	                                "topic || '/' || partition_id || '/' || i, 1 FROM partitions, n;"),
	             0);
	for (int t = 0; t < TOPICS; t++)
		for (int p = 0; p < PARTITIONS; p++)
			segments[t][p] = SEGMENTS;
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	attach();
}

static void stop(void)
{
	detach();
	run_daemon_done(&d);
}

static void within_budgets(void)
{
	cr_assert_leq(run_stats_counter(&d, "topics"), 4);
	cr_assert_leq(run_stats_counter(&d, "partitions"), 40);
	cr_assert_leq(run_stats_counter(&d, "store_used"), MAX_BYTES);
}

struct answer {
	enum shmeta_status topic, partition, segment;
};

/* Look at a partition's last segment, and that what is found is right. current: the source has been
 * read since it changed last. */
static struct answer look(int t, int p, enum shmeta_consistency consistency, bool current)
{
	const struct shmeta_read read = {
		.size = sizeof read, .consistency = consistency, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	uint64_t last = (uint64_t)segments[t][p] - 1;
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_topic topic;
	struct answer a;
	char name[32];

	int n = snprintf(name, sizeof name, "t%d", t);

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	a.topic = shmeta_get_topic(reader, name, (size_t)n, &read, &topic, NULL);
	if (a.topic == SHMETA_OK)
		cr_assert(topic.partition_count == PARTITIONS && topic.created_at_ms == 1000 + t);
	a.partition = shmeta_get_partition_named(reader, name, (size_t)n, (uint32_t)p, &read, &partition, NULL);
	if (a.partition == SHMETA_OK && current)
		cr_assert_eq(partition.segment_count, segments[t][p], "%s/%d: %llu", name, p,
		             (unsigned long long)partition.segment_count);
	a.segment = shmeta_find_segment_named(reader, name, (size_t)n, (uint32_t)p, last * RECORDS + 7, &read, &segment,
	                                      NULL);
	if (a.segment == SHMETA_OK)
		cr_assert(segment.base_offset == last * RECORDS && segment.record_count == RECORDS);
	(void)shmeta_end(reader);
	return a;
}

static bool is_known(enum shmeta_status status)
{
	return status == SHMETA_OK || status == SHMETA_UNKNOWN;
}

/* Everything is looked at, first as the store has it, then as the source has it. */
static void look_at_all(bool current)
{
	for (int t = 0; t < TOPICS; t++)
		for (int p = 0; p < PARTITIONS; p++) {
			struct answer a = look(t, p, SHMETA_CACHED, current);

			cr_assert(is_known(a.topic) && is_known(a.partition) && (is_known(a.segment) || !current),
			          "t%d/%d: %d %d %d", t, p, (int)a.topic, (int)a.partition, (int)a.segment);
			a = look(t, p, SHMETA_SOURCE, true);
			cr_assert(a.topic == SHMETA_OK && a.partition == SHMETA_OK && a.segment == SHMETA_OK,
			          "t%d/%d: %d %d %d", t, p, (int)a.topic, (int)a.partition, (int)a.segment);
			within_budgets();
		}
}

static enum shmeta_status partition_of(const char *topic, uint32_t id, enum shmeta_consistency consistency)
{
	const struct shmeta_read read = {
		.size = sizeof read, .consistency = consistency, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_partition partition;

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	enum shmeta_status status =
		shmeta_get_partition_named(reader, topic, strlen(topic), id, &read, &partition, NULL);

	(void)shmeta_end(reader);
	return status;
}

Test(bounded, each_key_is_right_or_unknown_and_fresh_reads_are_right, .init = start, .fini = stop)
{
	cr_assert_eq(run_stats_counter(&d, "partitions"), 0, "the first load brings names and counts");
	look_at_all(true);
	run_stats_settle(&d);
	cr_expect_gt(run_stats_counter(&d, "evicted_partitions"), TOPICS * PARTITIONS / 2);
	cr_expect_gt(run_stats_counter(&d, "evicted_topics"), 0);
	cr_expect_eq(partition_of("none", 0, SHMETA_CACHED), SHMETA_UNKNOWN);
	cr_expect_eq(partition_of("none", 0, SHMETA_FRESH), SHMETA_ABSENT);
	cr_expect_eq(partition_of("t7", PARTITIONS, SHMETA_FRESH), SHMETA_ABSENT);
	cr_expect_eq(partition_of("t7", PARTITIONS, SHMETA_CACHED), SHMETA_ABSENT, "and that is remembered");
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO partitions VALUES('t7', 10, 0, 1, 1);"), 0);
	for (int i = 0; partition_of("t7", PARTITIONS, SHMETA_CACHED) == SHMETA_ABSENT; i++) {
		cr_assert_lt(i, 1000, "the feed names what was absent");
		(void)usleep(10000);
	}
	cr_expect_eq(partition_of("t7", PARTITIONS, SHMETA_FRESH), SHMETA_OK);
}

static enum shmeta_status offset_of(const char *topic, uint32_t id, enum shmeta_consistency consistency)
{
	const struct shmeta_read read = {
		.size = sizeof read, .consistency = consistency, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_committed_offset offset;

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	enum shmeta_status status =
		shmeta_get_committed_offset(reader, "g", 1, topic, strlen(topic), id, &read, &offset, NULL);

	(void)shmeta_end(reader);
	return status;
}

static enum shmeta_status lease_of(const char *topic, uint32_t id, enum shmeta_consistency consistency)
{
	const struct shmeta_read read = {
		.size = sizeof read, .consistency = consistency, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_lease lease;

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	enum shmeta_status status = shmeta_get_lease(reader, topic, strlen(topic), id, INT64_MIN, &read, &lease, NULL);

	(void)shmeta_end(reader);
	return status;
}

static void expect_no_offset_or_lease(void)
{
	static const char *const topics[] = {"t0", "t20", "t39", "none"};

	for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
		cr_expect_eq(offset_of(topics[i], 0, SHMETA_FRESH), SHMETA_ABSENT, "%s", topics[i]);
		cr_expect_eq(lease_of(topics[i], 0, SHMETA_FRESH), SHMETA_ABSENT, "%s", topics[i]);
		cr_expect_eq(offset_of(topics[i], 0, SHMETA_SOURCE), SHMETA_ABSENT, "%s", topics[i]);
		cr_expect_eq(lease_of(topics[i], 0, SHMETA_SOURCE), SHMETA_ABSENT, "%s", topics[i]);
	}
}

Test(bounded, an_offset_or_a_lease_that_the_source_does_not_have_is_absent_also_without_its_topic, .init = start,
     .fini = stop)
{
	cr_expect_eq(offset_of("t39", 0, SHMETA_CACHED), SHMETA_UNKNOWN);
	cr_expect_eq(lease_of("t39", 0, SHMETA_CACHED), SHMETA_UNKNOWN);
	expect_no_offset_or_lease(); /* nor the group */
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO consumer_groups VALUES('g', 1, 1);"
	                                "INSERT INTO consumer_offsets VALUES('g', 't39', 1, 7, NULL, 1), "
	                                "('g', 't39', 2, -7, NULL, 1);"
	                                "INSERT INTO agents VALUES('a', 'a', 'z', 'g', 1, 1, '{}');"
	                                "INSERT INTO partition_leases VALUES('t39', 1, 'a', 9, 1, 1), "
	                                "('t39', 2, 'a', 9, 1, -1);"),
	             0);
	expect_no_offset_or_lease();
	cr_expect_eq(offset_of("t39", 1, SHMETA_SOURCE), SHMETA_OK);
	cr_expect_eq(lease_of("t39", 1, SHMETA_SOURCE), SHMETA_OK);
	cr_expect_eq(offset_of("t39", 2, SHMETA_SOURCE), SHMETA_UNKNOWN, "it cannot be served");
	cr_expect_eq(lease_of("t39", 2, SHMETA_SOURCE), SHMETA_UNKNOWN, "it cannot be served");
	/* Without room for any topic. */
	cr_assert_eq(run_daemon_sql(&d,
	                            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) "
	                            "INSERT INTO agents SELECT 'a' || i, 'a' || i, 'z', 'g', 1, 1, '{}' FROM n;"),
	             0);
	for (int i = 0; run_stats_counter(&d, "topics") > 0; i++) {
		cr_assert_lt(i, 1000, "the agents alone take more than the budget");
		(void)usleep(10000);
	}
	expect_no_offset_or_lease();
}

Test(bounded, while_the_source_changes_answers_stay_right, .init = start, .fini = stop)
{
	char sql[400];

	for (int round = 0; round < 200; round++) {
		int t = (int)chance(TOPICS), p = (int)chance(PARTITIONS);
		unsigned n = segments[t][p];

		(void)snprintf(
			sql, sizeof sql,
			"BEGIN; INSERT INTO segments VALUES('t%d-%d-%u', 't%d', %d, %u, %u, 100, 1000, 'bucket', "
			"'t%d/%d/%u', 1); UPDATE partitions SET high_watermark = %u WHERE topic = 't%d' AND "
			"partition_id = %d; COMMIT;",
			t, p, n, t, p, n * 100, n * 100 + 99, t, p, n, (n + 1) * 100, t, p);
		cr_assert_eq(run_daemon_sql(&d, sql), 0);
		segments[t][p]++;
		if (chance(2) == 0) {
			struct answer a = look(t, p, SHMETA_SOURCE, true);

			cr_assert(a.topic == SHMETA_OK && a.partition == SHMETA_OK && a.segment == SHMETA_OK);
		}
		within_budgets();
	}
	look_at_all(false);
	run_stats_settle(&d);
	cr_expect_gt(run_stats_counter(&d, "feed_skipped"), 0);
}

Test(bounded, a_killed_writer_leaves_a_store_within_its_budgets, .init = start, .fini = stop)
{
	const uint32_t rounds = run_rounds(5, 200);

	for (uint32_t round = 0; round < rounds; round++) {
		for (int i = 0; i < 100; i++)
			(void)look((int)chance(TOPICS), (int)chance(PARTITIONS), SHMETA_FRESH, true);
		detach();
		(void)run_daemon_end(&d, SIGKILL);
		cr_assert_eq(run_daemon_start(&d, NULL), 0);
		attach();
		within_budgets();
		struct answer a = look((int)chance(TOPICS), (int)chance(PARTITIONS), SHMETA_SOURCE, true);

		cr_assert(a.topic == SHMETA_OK && a.partition == SHMETA_OK && a.segment == SHMETA_OK);
	}
	look_at_all(true);
}

Test(bounded, a_scan_does_not_push_out_what_is_used, .init = start, .fini = stop)
{
	enum { HOT = 4 }; /* a hundredth */
	unsigned hits = 0, looks = 0;

	for (int p = 0; p < HOT; p++)
		(void)look(0, p, SHMETA_FRESH, true);
	for (int round = 0; round < 3; round++)
		for (int t = 1; t < TOPICS; t++)
			for (int p = 0; p < PARTITIONS; p++) {
				for (int hot = 0; hot < HOT; hot++, looks++)
					hits += look(0, hot, SHMETA_CACHED, true).segment == SHMETA_OK;
				cr_assert_eq(look(t, p, SHMETA_FRESH, true).segment, SHMETA_OK);
				within_budgets();
			}
	cr_expect_gt(hits * 1000ull, looks * 990ull, "%u of %u", hits, looks);
}

Test(bounded, a_scan_without_fill_pushes_nothing_out_and_is_answered, .init = start, .fini = stop)
{
	const struct shmeta_read read = {.size = sizeof read,
	                                 .consistency = SHMETA_FRESH,
	                                 .timeout_ms = WAIT_MS,
	                                 .flags = SHMETA_READ_MAY_MOVE | SHMETA_READ_NO_FILL};
	enum { KEPT = 30 };
	struct shmeta_segment segment;
	unsigned kept = 0;

	for (int i = 0; i < KEPT; i++)
		cr_assert_eq(look(i / PARTITIONS, i % PARTITIONS, SHMETA_FRESH, true).segment, SHMETA_OK);
	for (int t = 3; t < TOPICS; t++)
		for (int p = 0; p < PARTITIONS; p++) {
			char name[32];
			int n = snprintf(name, sizeof name, "t%d", t);

			cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
			cr_assert_eq(shmeta_find_segment_named(reader, name, (size_t)n, (uint32_t)p, 1907, &read,
			                                       &segment, NULL),
			             SHMETA_OK, "%s/%d", name, p);
			(void)shmeta_end(reader);
			within_budgets();
		}
	for (int i = 0; i < KEPT; i++)
		kept += look(i / PARTITIONS, i % PARTITIONS, SHMETA_CACHED, true).segment == SHMETA_OK;
	cr_expect_eq(kept, KEPT);
}

Test(bounded, what_cached_lookups_met_unknown_is_loaded_for_them, .init = start, .fini = stop)
{
	uint64_t fresh = run_stats_counter(&d, "refresh_requests");

	cr_assert_eq(look(7, 3, SHMETA_CACHED, true).segment, SHMETA_UNKNOWN);
	for (int i = 0; look(7, 3, SHMETA_CACHED, true).segment != SHMETA_OK; i++) {
		cr_assert_lt(i, 1000, "nobody loads it");
		(void)usleep(10000);
	}
	/* A topic that is not in the store, and one that is nowhere. */
	for (int i = 0; look(30, 2, SHMETA_CACHED, true).segment != SHMETA_OK; i++) {
		cr_assert_lt(i, 1000);
		(void)usleep(10000);
	}
	for (int i = 0; partition_of("none", 1, SHMETA_CACHED) != SHMETA_ABSENT; i++) {
		cr_assert_lt(i, 1000, "that it is not there is learnt, too");
		(void)usleep(10000);
	}
	run_stats_settle(&d);
	cr_expect_geq(run_stats_counter(&d, "missed"), 3);
	cr_expect_eq(run_stats_counter(&d, "refresh_requests"), fresh, "no reader asked the writer for anything");
	within_budgets();
}

Test(bounded, a_reader_is_told_which_limit_a_partition_exceeds, .init = start, .fini = stop)
{
	const struct shmeta_read read = {
		.size = sizeof read, .consistency = SHMETA_FRESH, .timeout_ms = WAIT_MS, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_segment segment;
	struct shmeta_error error = {.size = sizeof error};
	uint64_t times;

	cr_assert_eq(
		run_daemon_sql(&d,
	                       "UPDATE partitions SET high_watermark = 6000000 WHERE topic = 't1' AND partition_id = 1;"
	                       "WITH RECURSIVE n(i) AS (SELECT 20 UNION ALL SELECT i + 1 FROM n WHERE i < 59999) "
	                       "INSERT INTO segments SELECT 't1-1-' || i, 't1', 1, i * 100, i * 100 + 99, 100, 1000, "
	                       "'bucket', 't1/1/' || i, 1 FROM n;"),
		0);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_expect_eq(shmeta_find_segment_named(reader, "t1", 2, 1, 107, &read, &segment, NULL),
		             SHMETA_ERR_FULL);
		cr_assert_eq(shmeta_reader_error(reader, &error), SHMETA_OK);
		cr_expect_not_null(strstr(error.text, "bounded.max_segment_bytes"), "%s", error.text);
		(void)shmeta_end(reader);
		cr_expect_eq(look(1, 1, SHMETA_CACHED, false).segment, SHMETA_UNKNOWN);
	}
	run_stats_settle(&d);
	times = run_stats_counter(&d, "too_large");
	cr_expect_eq(times, 1, "read %llu times", (unsigned long long)times);
	within_budgets();
}

/* Does hot list the key as the one that is used most? partition < 0: the topic itself. */
static bool is_hottest(const char *topic, int partition)
{
	struct run_tool t;
	json_t *doc, *item, *id;
	bool is;

	run_tool(&t, "shmetactl --dir %s hot --json", d.instance);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	doc = run_tool_json(&t);
	item = json_array_get(json_object_get(doc, "items"), 0);
	id = json_object_get(item, "partition_id");
	is = item != NULL && json_is_string(json_object_get(item, "topic")) &&
	     strcmp(json_string_value(json_object_get(item, "topic")), topic) == 0 &&
	     (partition < 0 ? json_is_null(id) : json_integer_value(id) == partition);
	json_decref(doc);
	run_tool_done(&t);
	return is;
}

Test(bounded, hot_lists_what_is_looked_up_most_by_name, .init = start, .fini = stop)
{
	enum { EACH = 1024 }; /* a sample */
	struct shmeta_segment segment;
	struct shmeta_topic topic;

	cr_assert_eq(look(3, 7, SHMETA_FRESH, true).segment, SHMETA_OK);
	for (int tries = 0; !is_hottest("t3", 7); tries++) {
		cr_assert_lt(tries, 1000, "t3/7 is not listed");
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		for (int i = 0; i < 2 * EACH; i++)
			cr_assert_eq(shmeta_find_segment_named(reader, "t3", 2, 7, 107, NULL, &segment, NULL),
			             SHMETA_OK);
		(void)shmeta_end(reader);
		(void)usleep(10000);
	}
	for (int tries = 0; !is_hottest("t3", -1); tries++) {
		cr_assert_lt(tries, 1000, "the topic t3 is not listed");
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		for (int i = 0; i < 16 * EACH; i++)
			cr_assert_eq(shmeta_get_topic(reader, "t3", 2, NULL, &topic, NULL), SHMETA_OK);
		(void)shmeta_end(reader);
		(void)usleep(10000);
	}
}

static void shows(const char *args, const char *part)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s %s", d.instance, args);
	cr_expect_not_null(strstr(t.out, part), "%s: no %s in %s%s", args, part, t.out, t.err);
	run_tool_done(&t);
}

Test(bounded, explain_says_since_when_a_key_is_resident_and_why_another_one_left, .init = start, .fini = stop)
{
	shows("explain partition t1 1", "it was never resident, or left before what the writer remembers");
	for (int t = 0; t < 4; t++)
		for (int p = 0; p < PARTITIONS; p++)
			cr_assert_eq(look(t, p, SHMETA_FRESH, true).segment, SHMETA_OK);
	shows("explain partition t3 9 --json", "\"resident_for_ms\":");
	shows("explain segment t3 9 107", "next_eviction");
	for (int t = 4; t < TOPICS; t++)
		cr_assert_eq(look(t, 0, SHMETA_FRESH, true).segment, SHMETA_OK);
	shows("explain topic t1", "bounded.max_topics was exceeded");
	shows("explain partition t1 1 --json", "\"evicted_ms_ago\":");
}

static void tool_says(int code, const char *args, const char *part)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s %s", d.instance, args);
	cr_expect_eq(t.code, code, "%s: %d %s%s", args, t.code, t.out, t.err);
	cr_expect(strstr(t.out, part) != NULL || strstr(t.err, part) != NULL, "%s: no %s in %s%s", args, part, t.out,
	          t.err);
	run_tool_done(&t);
}

Test(bounded, a_budget_that_is_set_holds_until_the_next_start, .init = start, .fini = stop)
{
	char *log;

	for (int p = 0; p < PARTITIONS; p++)
		cr_assert_eq(look(1, p, SHMETA_FRESH, true).segment, SHMETA_OK);
	tool_says(0, "set bounded.max_partitions 3", "bounded.max_partitions is 3 until the daemon is started again");
	tool_says(0, "config show --running --changed", "set by uid ");
	tool_says(0, "reload", "reloaded");
	cr_assert_eq(look(2, 0, SHMETA_FRESH, true).segment, SHMETA_OK);
	run_stats_settle(&d);
	cr_expect_leq(run_stats_counter(&d, "partitions"), 3);
	tool_says(2, "set bounded.max_partitions none", "bounded.max_partitions: ");
	tool_says(2, "set bounded.max_bytes 900M", "store.max_bytes");
	tool_says(2, "set bounded.max_partition 5", "'bounded.max_partition' is no option");
	tool_says(2, "set control.write_users 0", "control.write_users is changed in the file alone");
	tool_says(2, "set source.uri memory:", "source.uri takes effect at a restart");
	tool_says(0, "set bounded.freshness write-heavy", "bounded.freshness is write-heavy");
	tool_says(0, "config show --running --json", "\"effective\": \"125\"");
	tool_says(0, "set bounded.freshness", "bounded.freshness is fixed, as configured");
	tool_says(0, "set bounded.max_partitions", "bounded.max_partitions is 40, as configured");
	cr_assert_eq(look(2, 1, SHMETA_FRESH, true).segment, SHMETA_OK);
	cr_assert_eq(look(2, 2, SHMETA_FRESH, true).segment, SHMETA_OK);
	cr_assert_eq(look(2, 3, SHMETA_FRESH, true).segment, SHMETA_OK);
	run_stats_settle(&d);
	cr_expect_gt(run_stats_counter(&d, "partitions"), 3);
	log = run_read_file(d.log);
	cr_expect(log != NULL && strstr(log, "set bounded.max_partitions 3: ") != NULL, "the audit names it: %s", log);
	free(log);
}

Test(bounded, advise_prints_the_curve_of_what_was_looked_up, .init = start, .fini = stop)
{
	enum { EACH = 1024 }; /* a sample */
	struct shmeta_segment segment;
	struct run_tool t;
	bool there = false;

	tool_says(0, "advise", "nothing to change");
	cr_assert_eq(look(3, 7, SHMETA_FRESH, true).segment, SHMETA_OK);
	for (int tries = 0; !there; tries++) {
		cr_assert_lt(tries, 1000, "no curve");
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		for (int i = 0; i < 2 * EACH; i++)
			cr_assert_eq(shmeta_find_segment_named(reader, "t3", 2, 7, 107, NULL, &segment, NULL),
			             SHMETA_OK);
		(void)shmeta_end(reader);
		(void)usleep(10000);
		run_tool(&t, "shmetactl --dir %s advise --json", d.instance);
		there = strstr(t.out, "\"partitions\": 16") != NULL;
		run_tool_done(&t);
	}
	tool_says(0, "advise", "too few to go by");
}

Test(bounded, verify_takes_what_is_not_resident_for_no_difference, .init = start, .fini = stop)
{
	struct run_tool t;

	for (int p = 0; p < PARTITIONS; p++)
		cr_assert_eq(look(30, p, SHMETA_FRESH, true).segment, SHMETA_OK);
	run_tool(&t, "shmetactl --dir %s verify", d.instance);
	cr_expect_eq(t.code, 0, "%s%s", t.out, t.err);
	cr_expect_not_null(strstr(t.out, "verified 4 topics, 10 partitions, 200 segments"), "%s", t.out);
	run_tool_done(&t);
}

Test(bounded, what_shmetactl_looks_at_leaves_no_trace, .init = start, .fini = stop)
{
	/* Of some of it nothing is resident: a lookup of an agent has it loaded. */
	static const char *const verbs[] = {"ls topics",
	                                    "ls partitions t1",
	                                    "ls segments t1 1",
	                                    "ls segments t35 2",
	                                    "get topic t1",
	                                    "get topic t35",
	                                    "get partition t1 1",
	                                    "get partition t35 2",
	                                    "find t1 1 107",
	                                    "find t35 2 107",
	                                    "explain topic t35",
	                                    "explain partition t35 2",
	                                    "explain segment t35 2 107",
	                                    "biggest",
	                                    "hot",
	                                    "dump",
	                                    "groups",
	                                    "agents",
	                                    "leases",
	                                    "verify",
	                                    "compare --count 100 --rate 1000/s"};
	uint64_t asked = run_stats_counter(&d, "refresh_requests");

	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		struct run_tool t;

		run_tool(&t, "shmetactl --dir %s %s", d.instance, verbs[i]);
		cr_expect(t.code == 0 || t.code == 1 || t.code == 5, "%s: %d %s%s", verbs[i], t.code, t.out, t.err);
		run_tool_done(&t);
		cr_assert_eq(run_stats_counter(&d, "partitions"), 0, "up to %s", verbs[i]);
	}
	run_stats_settle(&d);
	cr_expect_eq(run_stats_counter(&d, "partitions"), 0);
	cr_expect_eq(run_stats_counter(&d, "missed"), 0);
	cr_expect_eq(run_stats_counter(&d, "refresh_requests"), asked);
}
