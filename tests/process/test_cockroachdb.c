/* SPDX-License-Identifier: Apache-2.0
 * CockroachDB's dialect against a peer that plays CockroachDB: its version, storms of 40001,
 * ambiguous commits, and refusal of all that it does not have. What is left of the protocol and of
 * SQL is a PostgreSQL at SERIALIZABLE behind it: no CockroachDB is packaged for Debian. The whole
 * daemon works on it. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/backend.h"
#include "backends/rows.h"
#include "tests/support/cockroach.h"
#include "tests/support/figure.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/pgwire.h"
#include "tests/support/recorder.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/run_topic.h"

TestSuite(cockroachdb, .timeout = 600);

enum { PATIENCE_S = 40 };

enum { STORM, AMBIGUOUS_DONE, AMBIGUOUS_NOT_DONE, AMBIGUOUS_OPEN, BODY_STORM, NO_FOLLOWERS, FOLLOWERS, FIRST_REFUSAL };
#define AMBIGUOUS(what)                                                                                 \
	{                                                                                               \
		.pattern = "commit", .action = what, .sqlstate = "40003",                               \
		.text = "result is ambiguous: error=unable to determine whether the commit took place", \
		.times = PGWIRE_OFF, .behind = "READ WRITE"                                             \
	}
static const struct pgwire_rule rules[] = {
	/* A COMMIT that fails ends CockroachDB's transaction. */
	[STORM] =
		{.pattern = "commit",
                 .action = PGWIRE_UNDO_THEN_ERROR,
                 .sqlstate = "40001",
                 .text = "restart transaction: TransactionRetryWithProtoRefreshError: TransactionRetryError: retry txn "
                         "(RETRY_SERIALIZABLE)",
                 .times = PGWIRE_OFF,
                 .behind = "READ WRITE"},
	[AMBIGUOUS_DONE] = AMBIGUOUS(PGWIRE_DO_THEN_ERROR),
	[AMBIGUOUS_NOT_DONE] = AMBIGUOUS(PGWIRE_UNDO_THEN_ERROR),
	/* No server does that: the transaction is left aborted, not over. */
	[AMBIGUOUS_OPEN] = AMBIGUOUS(PGWIRE_ERROR),
	[BODY_STORM] = {.pattern = "INSERT INTO topics",
                        .action = PGWIRE_ERROR,
                        .sqlstate = "40001",
                        .text = "restart transaction: WriteTooOldError",
                        .times = PGWIRE_OFF},
	[NO_FOLLOWERS] = {.pattern = "AS OF SYSTEM TIME",
                          .action = PGWIRE_ERROR,
                          .sqlstate = "XXC02",
                          .text = "use of AS OF SYSTEM TIME requires an enterprise license",
                          .times = PGWIRE_OFF},
	/* PostgreSQL has no past to read: what was asked is what can be looked at. */
	[FOLLOWERS] = {.pattern = "SET TRANSACTION AS OF SYSTEM TIME", .action = PGWIRE_COMMAND, .text = "SET"},
	[FIRST_REFUSAL] = COCKROACH_REFUSALS,
};
enum { RULES = sizeof rules / sizeof rules[0] };

static struct pg_cluster server;
static struct pgwire peer;
static struct run_daemon d;
static PGconn *sql;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static struct shmeta_client *client;

static void pause_ms(long ms)
{
	(void)usleep((useconds_t)ms * 1000);
}

static void begin_peer(void)
{
	sql = cockroach_start(&server, &peer, rules, RULES);
}

static void begin_configured(const char *scheme, const char *configuration)
{
	char uri[200];

	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_configure(&d, configuration, ""), 0);
	(void)snprintf(uri, sizeof uri, "%s:host=%s port=%d user=shmeta dbname=meta", scheme, peer.host, peer.port);
	cr_assert_eq(run_daemon_start(&d, uri), 0, "%s", pgwire_log(&peer));
	instance = run_daemon_open(&d, "test", 0);
	cr_assert_not_null(instance);
	reader = run_daemon_reader(instance);
	cr_assert_not_null(reader);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
}

static void begin_with(const char *scheme)
{
	begin_peer();
	/* There is no feed: what others write is found by comparing, well within the time to
	 * live. */
	begin_configured(scheme, "source { timeout_ms = 1s }\nretry { min_ms = 50ms max_ms = 200ms }\n"
	                         "ttl { topic_ms = 1s partition_ms = 1s segment_ms = 1s list_ms = 1s }\n");
}

static void begin(void)
{
	begin_with("cockroachdb");
}

static void begin_unnamed(void)
{
	begin_with("postgresql");
}

static void end(void)
{
	shmeta_client_close(client);
	shmeta_reader_free(reader);
	shmeta_close(instance);
	run_daemon_done(&d);
	cockroach_stop(&server, &peer, sql);
}

static void expect_nothing_refused(void)
{
	cr_expect_eq(pgwire_asked(&peer, "CHANGEFEED"), 0, "nobody wanted one");
	for (size_t i = FIRST_REFUSAL; i < RULES; i++)
		if (rules[i].action == PGWIRE_ERROR)
			cr_expect_eq(pgwire_hits(&peer, i), 0, "it was asked for %s:\n%s", rules[i].pattern,
			             pgwire_log(&peer));
}

/* Read, written, changed by others, restarted: and nothing was asked that CockroachDB does not
 * have. */
static void work_on_it(void)
{
	struct shmeta_result result;
	struct run_tool t;

	cr_expect_eq(run_topic_create(client, "ours", 1, &result), SHMETA_OK, "%s", result.text);
	cr_expect_eq(run_topic_stored(sql, "ours"), 1);
	run_topic_await(reader, "ours", 1);
	pg_cluster_sql(
		sql,
		"INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES "
		"('theirs', 1, 1, 1, '{}'); INSERT INTO partitions(topic, partition_id, high_watermark, created_at, "
		"updated_at) VALUES ('theirs', 0, 5, 1, 1)");
	run_topic_await(reader, "theirs", 1);
	pg_cluster_sql(sql, "DELETE FROM topics WHERE name = 'ours'");
	run_topic_await(reader, "ours", 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	expect_nothing_refused();
	run_tool(&t, "shmetactl --dir %s verify --source 'cockroachdb:host=%s port=%d user=shmeta dbname=meta'",
	         d.instance, peer.host, peer.port);
	cr_expect_eq(t.code, 0, "verify: %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
	expect_nothing_refused();
}

Test(cockroachdb, nothing_is_asked_that_it_does_not_have, .init = begin, .fini = end)
{
	work_on_it();
}

Test(cockroachdb, it_is_recognised_where_the_configuration_says_postgresql, .init = begin_unnamed, .fini = end)
{
	work_on_it();
}

Test(cockroachdb, a_storm_of_conflicts_is_tried_again_with_pauses_that_differ, .init = begin, .fini = end)
{
	static const size_t storms[] = {STORM, BODY_STORM};
	struct shmeta_result result;

	for (int i = 0; i < 2; i++) {
		char name[16];

		(void)snprintf(name, sizeof name, "stormy-%d", i);
		pgwire_arm(&peer, storms[i], 5);
		cr_expect_eq(run_topic_create(client, name, 1, &result), SHMETA_OK, "%s", result.text);
		cr_expect_eq(pgwire_hits(&peer, storms[i]), 5);
		cr_expect_eq(run_topic_stored(sql, name), 1);
		run_topic_await(reader, name, 1);
	}
	expect_nothing_refused();
}

Test(cockroachdb, a_storm_without_end_is_given_up_and_nothing_was_done, .init = begin, .fini = end)
{
	struct shmeta_result result;
	enum shmeta_status status;

	pgwire_arm(&peer, BODY_STORM, PGWIRE_ALWAYS);
	status = run_topic_create(client, "never", 1, &result);
	cr_expect_eq(status, SHMETA_ERR_BUSY, "%s", shmeta_strerror(status));
	cr_expect_geq(pgwire_hits(&peer, BODY_STORM), 3);
	cr_expect_leq(pgwire_hits(&peer, BODY_STORM), 1000);
	cr_expect_eq(run_topic_stored(sql, "never"), 0);
	pgwire_arm(&peer, BODY_STORM, PGWIRE_OFF);
	for (double last = run_now_s() + PATIENCE_S; run_topic_create(client, "never", 1, &result) != SHMETA_OK;
	     pause_ms(50))
		cr_assert_lt(run_now_s(), last, "%s", result.text);
	run_topic_await(reader, "never", 1);
}

/* A conflict ends the whole transaction here, and no savepoint survives it. */
Test(cockroachdb, a_storm_without_end_refuses_the_operation_that_meets_it_and_no_other, .init = begin, .fini = end)
{
	enum { COUNT = 9, CULPRIT = 6 };
	struct shmeta_op op[COUNT];
	struct shmeta_result result[COUNT];
	char group[COUNT][16];

	memset(op, 0, sizeof op);
	for (int i = 0; i < COUNT; i++) {
		(void)snprintf(group[i], sizeof group[i], "g%d", i);
		op[i] = (struct shmeta_op){.type = SHMETA_OP_ENSURE_GROUP, .group_id = {group[i], strlen(group[i])}};
	}
	op[CULPRIT] = (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = {"never", 5}, .partition_count = 1}};
	pgwire_arm(&peer, BODY_STORM, PGWIRE_ALWAYS);
	cr_assert_eq(shmeta_write(client, op, COUNT, PATIENCE_S * 1000, result, NULL), SHMETA_OK);
	for (int i = 0; i < COUNT; i++)
		cr_expect_eq(result[i].status, i == CULPRIT ? SHMETA_ERR_BUSY : SHMETA_OK, "%d: %s", i, result[i].text);
	cr_expect_eq(run_topic_stored(sql, "never"), 0);
	for (int i = 0; i < COUNT; i++) {
		const char *values[] = {group[i]};
		PGresult *stored = PQexecParams(sql, "SELECT 1 FROM consumer_groups WHERE group_id = $1", 1, NULL,
		                                values, NULL, NULL, 0);

		cr_expect_eq(PQntuples(stored), i != CULPRIT, "%s", group[i]);
		PQclear(stored);
	}
	pgwire_arm(&peer, BODY_STORM, PGWIRE_OFF);
}

Test(cockroachdb, an_ambiguous_commit_is_unknown_is_not_done_twice_and_the_cache_shows_what_became_of_it, .init = begin,
     .fini = end)
{
	static const size_t kinds[] = {AMBIGUOUS_DONE, AMBIGUOUS_NOT_DONE, AMBIGUOUS_OPEN};

	for (int i = 0; i < 3; i++) {
		int done = kinds[i] == AMBIGUOUS_DONE;
		struct shmeta_result result;
		enum shmeta_status status;
		char name[20], before[20];
		uint64_t asked;

		(void)snprintf(name, sizeof name, "ambiguous-%d", i);
		(void)snprintf(before, sizeof before, "before-%d", i);
		cr_expect_eq(run_topic_create(client, before, 1, &result), SHMETA_OK, "%s", result.text);
		asked = pgwire_asked(&peer, "INSERT INTO topics");
		pgwire_arm(&peer, kinds[i], 1);
		status = run_topic_create(client, name, 1, &result);
		cr_expect_eq(pgwire_hits(&peer, kinds[i]), 1);
		cr_expect_eq(status, SHMETA_ERR_OUTCOME_UNKNOWN, "%d: %s: %s", i, shmeta_strerror(status), result.text);
		cr_expect_eq(pgwire_asked(&peer, "INSERT INTO topics"), asked + 1);
		cr_expect_eq(run_topic_stored(sql, name), done);
		run_topic_await(reader, name, done);
		/* Told again: it is there already, or it is made now. */
		status = run_topic_create(client, name, 1, &result);
		cr_expect_eq(status, done ? SHMETA_ERR_ALREADY_EXISTS : SHMETA_OK, "%d: %s", i,
		             shmeta_strerror(status));
		run_topic_await(reader, name, 1);
	}
	expect_nothing_refused();
}

/* Two writers through the daemon, and somebody beside it, at SERIALIZABLE on the same rows: real
 * conflicts. What is given up after many tries is told as the source's trouble, and done by the
 * next call. */
static int write_some(int which, uint32_t rounds, _Atomic uint32_t *given_up)
{
	struct shmeta *mine = run_daemon_open(&d, "writer", 0);
	struct shmeta_client *with = NULL;
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"busy", 4}};
	struct shmeta_result result;

	if (mine == NULL || shmeta_client_open(mine, NULL, &with) != SHMETA_OK)
		return 2;
	op.partition_id = (uint32_t)which % 2;
	for (op.offset = 1; op.offset <= rounds;) {
		enum shmeta_status status;

		memset(&result, 0, sizeof result);
		status = shmeta_write(with, &op, 1, PATIENCE_S * 1000, &result, NULL);
		status = status != SHMETA_OK ? status : result.status;
		if (status == SHMETA_OK)
			op.offset++;
		else if (status != SHMETA_ERR_SOURCE || atomic_fetch_add(given_up, 1) > rounds)
			return status == SHMETA_ERR_SOURCE ? 3 : 4;
		else
			pause_ms(20);
	}
	shmeta_client_close(with);
	shmeta_close(mine);
	return 0;
}

static int contend(uint32_t rounds)
{
	PGconn *conn = pg_cluster_connect(&server, "meta");
	int conflicts = 0;

	for (uint32_t i = 0; i < rounds; i++) {
		PGresult *result;

		pg_cluster_sql(conn, "BEGIN ISOLATION LEVEL SERIALIZABLE");
		result = PQexec(conn, "UPDATE partitions SET updated_at = updated_at + 1 WHERE topic = 'busy'");
		conflicts += PQresultStatus(result) != PGRES_COMMAND_OK;
		PQclear(result);
		PQclear(PQexec(conn, "COMMIT"));
		(void)usleep(500);
	}
	PQfinish(conn);
	return conflicts < 200 ? conflicts : 200;
}

Test(cockroachdb, real_conflicts_of_a_serializable_server_are_outlived, .init = begin, .fini = end)
{
	_Atomic uint32_t *given_up = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t rounds = run_rounds(100, 5000);
	struct shmeta_result result;
	PGresult *stored;
	pid_t writers[2], other;

	cr_assert_neq(given_up, MAP_FAILED);
	cr_assert_eq(run_topic_create(client, "busy", 2, &result), SHMETA_OK, "%s", result.text);
	other = run_fork();
	if (other == 0)
		_exit(contend(rounds) > 200);
	for (int i = 0; i < 2; i++) {
		writers[i] = run_fork();
		if (writers[i] == 0)
			_exit(write_some(i, rounds, given_up));
	}
	for (int i = 0; i < 2; i++)
		cr_expect_eq(run_reap(writers[i]), 0, "3: given up too often, 4: another failure");
	(void)run_reap(other);
	stored = PQexec(sql, "SELECT min(high_watermark) FROM partitions WHERE topic = 'busy'");
	cr_expect_eq((uint32_t)atoi(PQgetvalue(stored, 0, 0)), rounds);
	PQclear(stored);
	figure("two writers beside a third at SERIALIZABLE", 2 * (uint64_t)rounds, 0, "writes",
	       "0 lost, %u given up and repeated", atomic_load(given_up));
	expect_nothing_refused();
	(void)munmap((void *)given_up, 4096);
}

/* ---- follower reads: the engine alone ---- */

static struct {
	const struct backend_engine *ops;
	void *state;
	struct recorder recorder;
	struct backend_error err;
	uint64_t lag_ns;
	int agree, asked;
} alone;

static int on_may_lag(void *arg, uint64_t lag_ns)
{
	(void)arg;
	alone.asked++;
	alone.lag_ns = lag_ns;
	return alone.agree;
}

static enum shmeta_status open_alone(const char *scheme, uint32_t follower_reads)
{
	char uri[200];
	struct backend_options wanted = {
		.uri = uri, .timeout_ms = 5000, .manage_schema = 1, .create = 1, .follower_reads = follower_reads};

	(void)snprintf(uri, sizeof uri, "%s:host=%s port=%d user=shmeta dbname=meta", scheme, peer.host, peer.port);
	alone.ops = backend_find(uri, &alone.err);
	cr_assert_not_null(alone.ops, "%s", alone.err.text);
	alone.state = calloc(1, alone.ops->state_bytes);
	cr_assert_not_null(alone.state);
	return alone.ops->source->open(alone.state, &wanted, &alone.err);
}

static void close_alone(void)
{
	if (alone.state != NULL)
		alone.ops->source->close(alone.state);
	free(alone.state);
	alone.state = NULL;
}

static void begin_alone(void)
{
	begin_peer();
	recorder_init(&alone.recorder);
	alone.recorder.sink.may_lag = on_may_lag;
	alone.agree = 1;
	pg_cluster_sql(sql,
	               "CREATE SCHEMA played; CREATE TABLE played.follower_time AS SELECT clock_timestamp() AS at");
	cr_assert_eq(open_alone("cockroachdb", 1), SHMETA_OK, "%s", alone.err.text);
}

static void end_alone(void)
{
	close_alone();
	recorder_free(&alone.recorder);
	cockroach_stop(&server, &peer, sql);
}

/* How many times that load read from the past. */
static uint64_t load_alone(void)
{
	uint64_t before = pgwire_asked(&peer, "SET TRANSACTION AS OF SYSTEM TIME");

	recorder_clear(&alone.recorder);
	alone.asked = 0;
	cr_assert_eq(alone.ops->source->load(alone.state, &alone.recorder.sink, &alone.err), SHMETA_OK, "%s",
	             alone.err.text);
	cr_expect_eq(alone.recorder.order_error[0], 0, "%s", alone.recorder.order_error);
	return pgwire_asked(&peer, "SET TRANSACTION AS OF SYSTEM TIME") - before;
}

/* The followers have come beyond everything until now, and as far as the clocks of nodes may
 * differ. */
static void followers_catch_up(void)
{
	pause_ms(1100);
	pg_cluster_sql(sql, "UPDATE played.follower_time SET at = clock_timestamp()");
}

static void fetch_alone(struct backend_key key)
{
	key.tenant = rows_str(SHMETA_DEFAULT_TENANT);
	recorder_clear(&alone.recorder);
	cr_assert_eq(alone.ops->source->fetch(alone.state, &key, 1, &alone.recorder.sink, &alone.err), SHMETA_OK, "%s",
	             alone.err.text);
}

static void apply_alone(const struct shmeta_op *op)
{
	struct backend_op wanted = {.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = op};
	struct shmeta_result result = {.status = SHMETA_OK};

	cr_assert_eq(alone.ops->writer->apply(alone.state, &wanted, 1, 1, &result, &alone.recorder.sink, &alone.err),
	             SHMETA_OK, "%s", alone.err.text);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
}

Test(cockroachdb, a_load_reads_from_followers_only_what_is_beyond_all_that_was_shown_and_written, .init = begin_alone,
     .fini = end_alone)
{
	struct shmeta_op topic = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"t", 1}, .partition_count = 1}};
	struct shmeta_op agent = {.type = SHMETA_OP_REGISTER_AGENT,
	                          .u.agent = {.agent_id = {"a", 1},
	                                      .address = {"h:1", 3},
	                                      .availability_zone = {"z", 1},
	                                      .agent_group = {"g", 1}}};

	/* It has shown nothing yet. */
	cr_expect_eq(load_alone(), 1);
	followers_catch_up();
	cr_expect_eq(load_alone(), 1);
	cr_expect_eq(alone.asked, 1);
	cr_expect_leq(alone.lag_ns, 20000000000u);
	/* Nothing has come between: the same moment again. */
	cr_expect_eq(load_alone(), 1);
	apply_alone(&topic);
	cr_expect_eq(load_alone(), 0, "it was read as it was before our own write");
	cr_expect(recorder_has(&alone.recorder, "t/0"));
	followers_catch_up();
	cr_expect_eq(load_alone(), 1);
	/* Never read from followers, so they take nothing back. */
	apply_alone(&agent);
	fetch_alone((struct backend_key){.cls = SHMETA_CLASS_AGENT});
	cr_expect_eq(load_alone(), 1);
	cr_expect_eq(alone.recorder.agents, 1);
	/* What somebody has asked for, as it is now, was shown. */
	fetch_alone((struct backend_key){.cls = SHMETA_CLASS_TOPIC, .topic = rows_str("t")});
	cr_expect_eq(pgwire_asked(&peer, "SET TRANSACTION AS OF SYSTEM TIME"), 5, "a fetch is of now");
	cr_expect_eq(load_alone(), 0);
	followers_catch_up();
	cr_expect_eq(load_alone(), 1);
	/* Another node's clock, whose past is earlier. */
	pg_cluster_sql(sql, "UPDATE played.follower_time SET at = at - interval '1 ms'");
	cr_expect_eq(load_alone(), 0);
	followers_catch_up();
	/* Only where the caller agrees. */
	alone.agree = 0;
	cr_expect_eq(load_alone(), 0);
	cr_expect_eq(alone.asked, 1);
	followers_catch_up();
	alone.recorder.sink.may_lag = NULL;
	cr_expect_eq(load_alone(), 0);
	expect_nothing_refused();
}

Test(cockroachdb, where_followers_refuse_a_load_reads_what_is_there_now, .init = begin_alone, .fini = end_alone)
{
	struct shmeta_op topic = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"t", 1}, .partition_count = 1}};
	char about[300];

	apply_alone(&topic);
	followers_catch_up();
	pgwire_arm(&peer, NO_FOLLOWERS, PGWIRE_ALWAYS);
	(void)load_alone();
	cr_expect_eq(pgwire_hits(&peer, NO_FOLLOWERS), 1);
	cr_expect_eq(alone.recorder.topics, 1);
	alone.ops->source->describe(alone.state, about, sizeof about);
	cr_expect_not_null(strstr(about, "follower reads refused"), "%s", about);
	pgwire_arm(&peer, NO_FOLLOWERS, PGWIRE_OFF);
	followers_catch_up();
	cr_expect_eq(load_alone(), 1);
	alone.ops->source->describe(alone.state, about, sizeof about);
	cr_expect_null(strstr(about, "refused"), "%s", about);
	/* Nor where it cannot say when that would be. */
	pg_cluster_sql(sql, "DROP TABLE played.follower_time");
	cr_expect_eq(load_alone(), 0);
	cr_expect_eq(alone.recorder.topics, 1);
}

Test(cockroachdb, a_load_does_not_read_from_followers_unless_it_is_told_to, .init = begin_alone, .fini = end_alone)
{
	close_alone();
	cr_assert_eq(open_alone("cockroachdb", 0), SHMETA_OK, "%s", alone.err.text);
	followers_catch_up();
	cr_expect_eq(load_alone(), 0);
	cr_expect_eq(alone.asked, 0);
}

Test(cockroachdb, follower_reads_are_refused_by_postgresql_with_what_to_do_instead, .init = begin_alone,
     .fini = end_alone)
{
	struct backend_options wanted = {.timeout_ms = 5000, .manage_schema = 1, .create = 1, .follower_reads = 1};
	char uri[200];

	close_alone();
	(void)snprintf(uri, sizeof uri, "postgresql:host=%s user=shmeta dbname=meta", server.dir);
	wanted.uri = uri;
	alone.ops = &backend_postgresql;
	alone.state = calloc(1, alone.ops->state_bytes);
	cr_assert_not_null(alone.state);
	cr_expect_eq(alone.ops->source->open(alone.state, &wanted, &alone.err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(alone.err.text, "source.read_uri"), "%s", alone.err.text);
}

/* ---- follower reads: the daemon ---- */

enum { FOLLOWER_LAG_MS = 1200 };

static void begin_following(void)
{
	char view[160];

	begin_peer();
	(void)snprintf(
		view, sizeof view,
		"CREATE SCHEMA played; CREATE VIEW played.follower_time AS SELECT clock_timestamp() - interval '%d ms' AS at",
		FOLLOWER_LAG_MS);
	pg_cluster_sql(sql, view);
	begin_configured("cockroachdb", "source { timeout_ms = 1s follower_reads = on }\n"
	                                "ttl { topic_ms = 4s partition_ms = 4s segment_ms = 4s list_ms = 4s }\n");
}

Test(cockroachdb, a_pass_over_followers_says_how_old_what_it_shows_is, .init = begin_following, .fini = end)
{
	struct shmeta_result result;
	struct shmeta_freshness fresh = {.age_ns = 0};
	struct shmeta_topic topic;
	uint64_t asked;

	cr_expect_eq(run_topic_create(client, "ours", 1, &result), SHMETA_OK, "%s", result.text);
	run_topic_await(reader, "ours", 1);
	asked = pgwire_asked(&peer, "SET TRANSACTION AS OF SYSTEM TIME");
	pg_cluster_sql(
		sql,
		"INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES "
		"('theirs', 1, 1, 1, '{}'); INSERT INTO partitions(topic, partition_id, high_watermark, created_at, "
		"updated_at) VALUES ('theirs', 0, 5, 1, 1)");
	for (double last = run_now_s() + PATIENCE_S;
	     pgwire_asked(&peer, "SET TRANSACTION AS OF SYSTEM TIME") < asked + 2; pause_ms(5))
		cr_assert_lt(run_now_s(), last, "no pass reads from followers:\n%s", pgwire_log(&peer));
	run_topic_await(reader, "theirs", 1);
	for (int i = 0; i < 50; i++, pause_ms(10)) {
		cr_assert_eq(run_daemon_begin(reader), SHMETA_OK);
		cr_expect_eq(shmeta_get_topic(reader, "theirs", 6, NULL, &topic, &fresh), SHMETA_OK);
		(void)shmeta_end(reader);
		/* Their time is asked within a statement, and a little after it began. */
		cr_expect_geq(fresh.age_ns, (FOLLOWER_LAG_MS - 100) * UINT64_C(1000000), "%llu ns",
		              (unsigned long long)fresh.age_ns);
	}
	expect_nothing_refused();
}
