/* SPDX-License-Identifier: Apache-2.0
 * A real shmetad follows a changefeed that is played from what really happens in the database
 * behind it (feed_player.h). */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/cockroach.h"
#include "tests/support/feed_player.h"
#include "tests/support/figure.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/pgwire.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/run_topic.h"

TestSuite(changefeed_daemon, .timeout = 600);

enum { PATIENCE_S = 40 };
#define SECOND UINT64_C(1000000000)

enum { NO_RANGEFEEDS, CHANGEFEED, FIRST_REFUSAL };
static const struct pgwire_rule rules[] = {
	[NO_RANGEFEEDS] = COCKROACH_NO_RANGEFEEDS,
	[CHANGEFEED] = COCKROACH_CHANGEFEED,
	[FIRST_REFUSAL] = COCKROACH_REFUSALS,
};
enum { RULES = sizeof rules / sizeof rules[0] };

static struct pg_cluster server;
static struct pgwire peer;
static struct feed_player player;
static struct run_daemon d;
static PGconn *sql;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct shmeta_client *client;
static char uri[200];

static void pause_ms(long ms)
{
	(void)usleep((useconds_t)ms * 1000);
}

static void start_daemon(void)
{
	cr_assert_eq(run_daemon_start(&d, uri), 0, "%s", pgwire_log(&peer));
	instance = run_daemon_open(&d, "test", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

static void end_daemon(void)
{
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	client = NULL;
	reader = NULL;
	instance = NULL;
	(void)run_daemon_end(&d, SIGTERM);
}

static void begin_with(const char *configuration, uint32_t lag_ms)
{
	struct run_tool t;

	sql = cockroach_start(&server, &peer, rules, RULES);
	(void)snprintf(uri, sizeof uri, "cockroachdb:host=%s port=%d user=shmeta dbname=meta", peer.host, peer.port);
	run_tool(&t, "shmetactl schema apply --source '%s'", uri);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	run_tool_done(&t);
	feed_player_install(sql);
	cr_assert_eq(feed_player_start(&player, &peer, &server, "meta", lag_ms), 0);
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_configure(&d, configuration, ""), 0);
}

static void begin(void)
{
	begin_with("feed { changefeed = on }\n", 500);
	start_daemon();
}

static void end(void)
{
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	run_daemon_done(&d);
	feed_player_end(&player);
	cockroach_stop(&server, &peer, sql);
}

/* A counter of status --json, as it was within the last second; what it says of the source, where
 * that is wanted. */
static uint64_t counter(const char *name, char *ret_source, size_t bytes)
{
	struct run_tool t;
	json_t *doc;
	uint64_t value;

	run_tool(&t, "shmetactl --dir %s status --json", d.instance);
	cr_assert(t.code == 0 || t.code == 1, "status: exit status %d, %s", t.code, t.err);
	doc = run_tool_json(&t);
	cr_assert(json_is_integer(json_object_get(json_object_get(doc, "counters"), name)), "%s: %s", name, t.out);
	value = (uint64_t)json_integer_value(json_object_get(json_object_get(doc, "counters"), name));
	if (ret_source != NULL)
		(void)snprintf(ret_source, bytes, "%s",
		               json_string_value(json_object_get(json_object_get(doc, "source"), "status")));
	json_decref(doc);
	run_tool_done(&t);
	return value;
}

static void await_counter(const char *name, uint64_t least)
{
	for (double last = run_now_s() + PATIENCE_S; counter(name, NULL, 0) < least; pause_ms(50))
		cr_assert_lt(run_now_s(), last, "%s is %lu", name, (unsigned long)counter(name, NULL, 0));
}

static void await_source(const char *part)
{
	char said[400];

	for (double last = run_now_s() + PATIENCE_S;; pause_ms(50)) {
		(void)counter("polls", said, sizeof said);
		if (strstr(said, part) != NULL)
			return;
		cr_assert_lt(run_now_s(), last, "status never says '%s' of the source, but '%s'", part, said);
	}
}

static void expect_equal(void)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s verify --source '%s'", d.instance, uri);
	cr_expect_eq(t.code, 0, "verify: %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	for (size_t i = FIRST_REFUSAL; i < RULES; i++)
		if (rules[i].action == PGWIRE_ERROR)
			cr_expect_eq(pgwire_hits(&peer, i), 0, "it was asked for %s:\n%s", rules[i].pattern,
			             pgwire_log(&peer));
}

static uint64_t watermark(const char *topic)
{
	struct shmeta_partition p = {.high_watermark = 0};
	enum shmeta_status status;

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	status = shmeta_get_partition_named(reader, topic, strlen(topic), 0, NULL, &p, NULL);
	(void)shmeta_end(reader);
	return status == SHMETA_OK ? p.high_watermark : 0;
}

static void await_watermark(const char *topic, uint64_t value)
{
	for (double last = run_now_s() + PATIENCE_S; watermark(topic) != value; (void)usleep(200))
		cr_assert_lt(run_now_s(), last, "%s shows %lu, not %lu", topic, (unsigned long)watermark(topic),
		             (unsigned long)value);
}

static void set_watermark(const char *topic, uint64_t value)
{
	char text[160];

	(void)snprintf(text, sizeof text, "UPDATE partitions SET high_watermark = %lu WHERE topic = '%s'",
	               (unsigned long)value, topic);
	pg_cluster_sql(sql, text);
}

static void insert_topic(const char *name)
{
	char text[400];

	(void)snprintf(
		text, sizeof text,
		"INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES ('%s', 1, 1, 1, "
		"'{}'); INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) VALUES "
		"('%s', 0, 5, 1, 1)",
		name, name);
	pg_cluster_sql(sql, text);
}

static uint32_t topic_id(const char *name)
{
	struct shmeta_topic topic = {.topic_id = 0};

	cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, name, strlen(name), NULL, &topic, NULL), SHMETA_OK);
	(void)shmeta_end(reader);
	return topic.topic_id;
}

Test(changefeed_daemon, what_others_write_shows_though_nothing_is_ever_compared, .init = begin, .fini = end)
{
	enum { ROUNDS = 50 };
	double took[ROUNDS], slowest = 0, sum = 0;

	insert_topic("theirs");
	insert_topic("doomed");
	run_topic_await(reader, "theirs", 1);
	run_topic_await(reader, "doomed", 1);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		double before = run_now_s();

		set_watermark("theirs", 100 + i);
		await_watermark("theirs", 100 + i);
		took[i] = run_now_s() - before;
		sum += took[i];
		slowest = took[i] > slowest ? took[i] : slowest;
	}
	pg_cluster_sql(sql, "DELETE FROM topics WHERE name = 'doomed'");
	run_topic_await(reader, "doomed", 0);
	pg_cluster_sql(
		sql,
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) SELECT 's' || g, 'theirs', 0, g * 10, g * 10 + 9, 10, 1, 'b', 'k' || g, "
		"1 FROM generate_series(0, 19) g; UPDATE partitions SET high_watermark = 200 WHERE topic = 'theirs'");
	await_watermark("theirs", 200);
	pg_cluster_sql(sql,
	               "DELETE FROM segments WHERE base_offset < 50; INSERT INTO agents(agent_id, address, "
	               "availability_zone, agent_group, last_heartbeat, started_at, metadata) VALUES "
	               "('a', 'h:1', 'z', 'g', 1, 1, '{}'); UPDATE partitions SET high_watermark = 201 WHERE topic = "
	               "'theirs'");
	await_watermark("theirs", 201);
	expect_equal();
	await_counter("changes", ROUNDS + 20);
	cr_expect_eq(counter("reconciles", NULL, 0), 0, "it was a pass that found it");
	cr_expect_eq(counter("loads", NULL, 0), 1);
	figure("changes that a changefeed tells (played)", ROUNDS, 0, "changes",
	       "seen %.1f ms after the commit on average, %.1f ms at most", sum / ROUNDS * 1000, slowest * 1000);
}

Test(changefeed_daemon, its_own_writes_come_back_and_change_nothing, .init = begin, .fini = end)
{
	struct shmeta_result result;
	uint64_t changes;
	uint32_t id;

	cr_expect_eq(run_topic_create(client, "ours", 1, &result), SHMETA_OK, "%s", result.text);
	id = topic_id("ours");
	changes = counter("changes", NULL, 0);
	set_watermark("ours", 77);
	await_watermark("ours", 77);
	await_counter("changes", changes + 1);
	cr_expect_eq(topic_id("ours"), id, "it was taken for another one of the same name");
	/* Deleted and made again it is. */
	pg_cluster_sql(sql, "BEGIN; DELETE FROM topics WHERE name = 'ours'");
	insert_topic("ours");
	pg_cluster_sql(sql, "COMMIT");
	await_watermark("ours", 5);
	cr_expect_neq(topic_id("ours"), id);
	expect_equal();
}

static void begin_comparing(void)
{
	begin_with("feed { changefeed = on reconcile_s = 1s }\n", 500);
	start_daemon();
}

/* Technical advisory 104309: `resolved` came before rows that belong to it. */
Test(changefeed_daemon, what_the_feed_leaves_out_is_found_by_the_reconcile, .init = begin_comparing, .fini = end)
{
	insert_topic("told");
	run_topic_await(reader, "told", 1);
	feed_player_mode(&player, FEED_FORGETS);
	insert_topic("untold");
	pg_cluster_sql(sql, "DELETE FROM topics WHERE name = 'told'");
	run_topic_await(reader, "untold", 1);
	run_topic_await(reader, "told", 0);
	await_counter("reconcile_repairs", 2);
	feed_player_mode(&player, FEED_PLAYS);
	expect_equal();
}

static void begin_lagging(void)
{
	begin_with("feed { changefeed = on }\n", 3000);
	start_daemon();
}

Test(changefeed_daemon, no_answer_is_younger_than_the_feed_tells, .init = begin_lagging, .fini = end)
{
	struct shmeta_freshness fresh = {.age_ns = 0};
	struct shmeta_topic topic;
	double enough;

	insert_topic("theirs");
	run_topic_await(reader, "theirs", 1);
	/* Until the feed, not the load, says how old it is. */
	for (enough = run_now_s() + 5; run_now_s() < enough; pause_ms(5)) {
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_expect_eq(shmeta_get_topic(reader, "theirs", 6, NULL, &topic, &fresh), SHMETA_OK);
		(void)shmeta_end(reader);
		cr_expect_eq(fresh.fresh, 1);
	}
	cr_expect_geq(fresh.age_ns, 4 * SECOND - SECOND / 100, "%lu", (unsigned long)fresh.age_ns);
	cr_expect_eq(counter("reconciles", NULL, 0), 0);
}

static void begin_briefly(void)
{
	begin_with("source { timeout_ms = 1s }\nfeed { changefeed = on }\n"
	           "ttl { topic_ms = 6s partition_ms = 6s segment_ms = 6s list_ms = 6s }\n",
	           100);
}

Test(changefeed_daemon, where_the_feed_stands_still_passes_find_what_changes, .init = begin_briefly, .fini = end)
{
	start_daemon();
	insert_topic("first");
	run_topic_await(reader, "first", 1);
	feed_player_mode(&player, FEED_STANDS);
	insert_topic("second");
	run_topic_await(reader, "second", 1);
	await_counter("reconciles", 1);
	await_source("until when it tells");
	feed_player_mode(&player, FEED_PLAYS);
	await_source("connected");
	insert_topic("third");
	run_topic_await(reader, "third", 1);
	expect_equal();
}

Test(changefeed_daemon, a_cluster_without_rangefeeds_is_followed_by_passes_and_status_says_what_to_do,
     .init = begin_briefly, .fini = end)
{
	char said[400] = "";

	pgwire_arm(&peer, NO_RANGEFEEDS, PGWIRE_ALWAYS);
	start_daemon();
	insert_topic("first");
	run_topic_await(reader, "first", 1);
	await_source("SET CLUSTER SETTING kv.rangefeed.enabled = true");
	await_counter("reconciles", 1);
	expect_equal();
	pgwire_arm(&peer, NO_RANGEFEEDS, PGWIRE_OFF);
	for (double last = run_now_s() + PATIENCE_S; strcmp(said, "connected") != 0; pause_ms(50)) {
		cr_assert_lt(run_now_s(), last, "%s", said);
		(void)counter("polls", said, sizeof said);
	}
	cr_expect_eq(pgwire_streams(&peer), 1);
}

Test(changefeed_daemon, a_connection_that_is_cut_loses_nothing, .init = begin, .fini = end)
{
	insert_topic("t");
	run_topic_await(reader, "t", 1);
	for (uint64_t i = 0; i < 20; i++) {
		set_watermark("t", 1000 + i);
		if (i % 5 == 0)
			pgwire_end_streams(&peer, NULL, NULL);
	}
	await_watermark("t", 1019);
	expect_equal();
	await_counter("changes", 20);
	cr_expect_eq(counter("reconciles", NULL, 0), 0, "it was a pass that found it");
}

Test(changefeed_daemon, after_a_restart_it_goes_on_where_it_was_and_reads_nothing_again, .init = begin_briefly,
     .fini = end)
{
	uint64_t loads;

	start_daemon();
	insert_topic("before");
	run_topic_await(reader, "before", 1);
	/* What was resolved since then. */
	await_counter("polls", counter("polls", NULL, 0) + 5);
	end_daemon();
	insert_topic("meanwhile");
	loads = pgwire_asked(&peer, "FROM segments s ORDER BY");
	start_daemon();
	run_topic_await(reader, "meanwhile", 1);
	/* Also beyond the time after which it would, without a feed. */
	for (double last = run_now_s() + 7; run_now_s() < last; pause_ms(20))
		cr_assert_eq(run_topic_cached(reader, "before"), 1);
	cr_expect_eq(pgwire_asked(&peer, "FROM segments s ORDER BY"), loads);
	expect_equal();
}
