/* SPDX-License-Identifier: Apache-2.0
 * CockroachDB's changefeed, played by a peer in front of a PostgreSQL: no CockroachDB is packaged
 * for Debian. The engine alone is told rows, times and failures one by one. With a whole daemon:
 * test_changefeed_daemon.c. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/backend.h"
#include "backends/rows.h"
#include "tests/support/cockroach.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/pgwire.h"
#include "tests/support/recorder.h"
#include "tests/support/run_daemon.h"

TestSuite(changefeed, .timeout = 600);

enum { PATIENCE_S = 40 };
#define TENANT SHMETA_DEFAULT_TENANT
#define SECOND UINT64_C(1000000000)

enum {
	NO_RANGEFEEDS,
	TOO_OLD,
	NO_FREQUENCY,
	NO_DIFF,
	NO_POLICY,
	NO_EXPERIMENTAL,
	CHANGEFEED,
	FOLLOWERS,
	FIRST_REFUSAL
};
#define OFF(what, code, words)                                                                                \
	{                                                                                                     \
		.pattern = what, .action = PGWIRE_ERROR, .sqlstate = code, .text = words, .times = PGWIRE_OFF \
	}
static const struct pgwire_rule rules[] = {
	[NO_RANGEFEEDS] = COCKROACH_NO_RANGEFEEDS,
	[TOO_OLD] =
		OFF("CHANGEFEED FOR", "XXUUU",
                    "batch timestamp 1541199412.324189000,0 must be after replica GC threshold 1740696773.366361000,0"),
	[NO_FREQUENCY] = OFF("min_checkpoint_frequency", "22023", "invalid option \"min_checkpoint_frequency\""),
	[NO_DIFF] = OFF("diff", "22023", "invalid option \"diff\""),
	[NO_POLICY] = OFF("schema_change_policy", "22023", "invalid option \"schema_change_policy\""),
	[NO_EXPERIMENTAL] = OFF("EXPERIMENTAL", "42601", "at or near \"changefeed\": syntax error"),
	[CHANGEFEED] = COCKROACH_CHANGEFEED,
	[FOLLOWERS] = {.pattern = "SET TRANSACTION AS OF SYSTEM TIME", .action = PGWIRE_COMMAND, .text = "SET"},
	[FIRST_REFUSAL] = COCKROACH_REFUSALS,
};
enum { RULES = sizeof rules / sizeof rules[0] };

static struct pg_cluster server;
static struct pgwire peer;
static PGconn *sql;

static void pause_ms(long ms)
{
	(void)usleep((useconds_t)ms * 1000);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* As the cluster's nodes have it. */
static uint64_t server_now(void)
{
	return clock_ns(CLOCK_REALTIME);
}

static void begin_peer(void)
{
	sql = cockroach_start(&server, &peer, rules, RULES);
}

static void end_peer(void)
{
	cockroach_stop(&server, &peer, sql);
}

static void peer_uri(char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "cockroachdb:host=%s port=%d user=shmeta dbname=meta", peer.host, peer.port);
}

/* ---- what the feed says ---- */

static void emit(const char *table, const char *after, const char *before)
{
	char row[1000];

	(void)snprintf(row, sizeof row, "%s|[]|{\"after\": %s%s%s}", table, after,
	               before != NULL ? ", \"before\": " : "", before != NULL ? before : "");
	pgwire_emit_at(&peer, server_now(), row);
}

static void resolve(uint64_t time_ns)
{
	char row[100];

	(void)snprintf(row, sizeof row, "\\N|\\N|{\"resolved\": \"%" PRIu64 ".0000000000\"}", time_ns);
	pgwire_emit_at(&peer, time_ns, row);
}

/* ---- the engine alone ---- */

static struct {
	const struct backend_engine *ops;
	void *state;
	struct backend_options options;
	struct recorder recorder;
	struct backend_error err;
	uint64_t lag_ns;
	int changed, ever_changed;
} alone;

static void open_alone(void)
{
	static char uri[200];

	peer_uri(uri, sizeof uri);
	alone.options.uri = uri;
	alone.ops = &backend_cockroachdb;
	alone.state = calloc(1, alone.ops->state_bytes);
	cr_assert_not_null(alone.state);
	cr_assert_eq(alone.ops->source->open(alone.state, &alone.options, &alone.err), SHMETA_OK, "%s", alone.err.text);
}

static void close_alone(void)
{
	if (alone.state != NULL)
		alone.ops->source->close(alone.state);
	free(alone.state);
	alone.state = NULL;
}

static int runs(void)
{
	return backend_feed_kind(alone.ops, alone.state) == BACKEND_FEED_KEYS;
}

static const char *trouble(void)
{
	return alone.ops->feed->trouble(alone.state);
}

static void load_alone(void)
{
	recorder_clear(&alone.recorder);
	cr_assert_eq(alone.ops->source->load(alone.state, &alone.recorder.sink, &alone.err), SHMETA_OK, "%s",
	             alone.err.text);
	recorder_clear(&alone.recorder);
}

static void changes(void)
{
	cr_assert_eq(
		alone.ops->feed->changes(alone.state, &alone.recorder.sink, &alone.changed, &alone.lag_ns, &alone.err),
		SHMETA_OK, "%s", alone.err.text);
	alone.ever_changed |= alone.changed;
}

/* Until a line with this was told; all that was told since recorder_clear() stays. */
static void await(const char *part)
{
	for (double last = run_now_s() + PATIENCE_S; !recorder_has(&alone.recorder, part); pause_ms(2)) {
		cr_assert_lt(run_now_s(), last, "'%s' was never told, but:\n%s%s", part, recorder_text(&alone.recorder),
		             trouble());
		changes();
	}
}

static void await_streams(uint64_t count)
{
	for (double last = run_now_s() + PATIENCE_S; pgwire_streams(&peer) != count; pause_ms(2)) {
		cr_assert_lt(run_now_s(), last, "%s", pgwire_log(&peer));
		changes();
	}
}

/* Until it would go on from there: then it was told that. */
static void await_resolved(uint64_t time_ns)
{
	char position[200], cursor[32];
	size_t bytes;

	(void)snprintf(cursor, sizeof cursor, "%" PRIu64 ".", time_ns);
	for (double last = run_now_s() + PATIENCE_S;; pause_ms(2)) {
		changes();
		cr_assert_eq(alone.ops->feed->position(alone.state, position, sizeof position, &bytes), SHMETA_OK);
		if (memmem(position, bytes, cursor, strlen(cursor)) != NULL)
			return;
		cr_assert_lt(run_now_s(), last, "it stays at %" PRIu64 " ns: %s", alone.lag_ns, trouble());
	}
}

static uint64_t resolve_now(void)
{
	uint64_t now = server_now();

	resolve(now);
	await_resolved(now);
	return now;
}

/* One more row, told: then all that was emitted before it was told, too. */
static void await_all(void)
{
	static int mark;
	char row[80], line[80];

	(void)snprintf(row, sizeof row, "{\"agent_id\": \"mark-%d\"}", ++mark);
	(void)snprintf(line, sizeof line, "mark-%d", mark);
	emit("agents", row, "null");
	await(line);
}

static void begin_unopened(void)
{
	begin_peer();
	recorder_init(&alone.recorder);
	alone.options = (struct backend_options){.timeout_ms = 1000, .manage_schema = 1, .create = 1, .changefeed = 1};
}

static void begin_alone(void)
{
	begin_unopened();
	open_alone();
	load_alone();
	cr_assert(runs(), "%s", trouble());
	await_streams(1);
}

static void end_alone(void)
{
	close_alone();
	recorder_free(&alone.recorder);
	end_peer();
}

static void expect_nothing_refused(void)
{
	for (size_t i = FIRST_REFUSAL; i < RULES; i++)
		if (rules[i].action == PGWIRE_ERROR)
			cr_expect_eq(pgwire_hits(&peer, i), 0, "it was asked for %s:\n%s", rules[i].pattern,
			             pgwire_log(&peer));
}

/* The text of the last changefeed that was asked for. */
static const char *asked_last(void)
{
	const char *at = pgwire_log(&peer), *last = "";

	while ((at = strstr(at, "CHANGEFEED FOR")) != NULL)
		last = at++;
	return last;
}

static uint64_t cursor_asked_last(void)
{
	const char *at = strstr(asked_last(), "cursor = '");

	return at != NULL ? strtoull(at + strlen("cursor = '"), NULL, 10) : 0;
}

#define SEGMENT_ROW "{\"id\": \"x\", \"topic\": \"t\", \"partition_id\": 3, \"base_offset\": 700, \"end_offset\": 799}"

Test(changefeed, a_changed_row_is_told_as_its_key_before_anything_is_resolved, .init = begin_alone, .fini = end_alone)
{
	static const struct {
		const char *table, *after, *before, *line;
	} events[] = {
		{"topics", "{\"name\": \"new\"}", "null", "changed topic " TENANT " new\n"},
		{"topics", "{\"name\": \"t\"}", "{\"name\": \"t\"}", "changed topic " TENANT " t\n"},
		{"topics", "null", "{\"name\": \"t\"}", "changed topic " TENANT " t with_segments\n"},
		{"topics", "{\"name\": \"u\", \"organization_id\": \"o\"}", "null", "changed topic o u\n"},
		{"partitions", "{\"topic\": \"t\", \"partition_id\": 3}", "{\"topic\": \"t\", \"partition_id\": 3}",
	         "changed partition " TENANT " t/3\n"},
		{"partitions", "null", "{\"topic\": \"t\", \"partition_id\": 4}",
	         "changed segment " TENANT " t/4 0..9223372036854775807\n"},
		{"segments", SEGMENT_ROW, "null", "changed segment " TENANT " t/3 700..700\n"},
		{"segments", "null", SEGMENT_ROW, "changed segment " TENANT " t/3 700..700\n"},
		{"consumer_groups", "{\"group_id\": \"g\"}", "null", "changed offset " TENANT " g\n"},
		{"consumer_offsets", "{\"group_id\": \"g\", \"topic\": \"t\", \"partition_id\": 1}", "null",
	         "changed offset " TENANT " g t/1\n"},
		{"agents", "null", "{\"agent_id\": \"a\"}", "changed agent " TENANT " a\n"},
		{"partition_leases", "{\"topic\": \"t\", \"partition_id\": 1}", "null",
	         "changed lease " TENANT "  t/1\n"},
		{"agents", "{\"agent_id\": \"shared\", \"organization_id\": null}", "null",
	         "changed agent " TENANT " shared\n"},
		{"partition_leases", "null", "{\"topic\": \"t\", \"partition_id\": 1, \"organization_id\": \"o\"}",
	         "changed lease o  t/1\n"},
		{"db.public.topics", "{\"name\": \"\\u00e4|b\"}", "null", "changed topic " TENANT " \xc3\xa4|b\n"},
	};

	for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
		recorder_clear(&alone.recorder);
		emit(events[i].table, events[i].after, events[i].before);
		await(events[i].line);
		cr_expect_eq(alone.recorder.changed, 1, "%s", recorder_text(&alone.recorder));
		cr_expect_eq(alone.recorder.topics + alone.recorder.partitions + alone.recorder.segments, 0);
	}
	expect_nothing_refused();
}

Test(changefeed, a_row_that_moves_is_told_where_it_was_and_where_it_is, .init = begin_alone, .fini = end_alone)
{
	emit("segments", "{\"topic\": \"t\", \"partition_id\": 3, \"base_offset\": 7}",
	     "{\"topic\": \"t\", \"partition_id\": 2, \"base_offset\": 5}");
	await_all();
	cr_expect(recorder_has(&alone.recorder, "changed segment " TENANT " t/3 7..7\n"));
	cr_expect(recorder_has(&alone.recorder, "changed segment " TENANT " t/2 5..5\n"));
}

Test(changefeed, a_deletion_without_the_row_before_is_told_by_what_it_may_be_in, .init = begin_alone, .fini = end_alone)
{
	static const struct {
		const char *table, *after, *before, *line;
	} events[] = {
		{"segments", "null", NULL, "changed list\n"},
		{"segments", "null", "null", "changed list\n"},
		{"topics", "null", "null", "changed list\n"},
		{"partitions", "null", NULL, "changed list\n"},
		{"agents", "null", NULL, "changed agent\n"},
		{"consumer_offsets", "null", NULL, "changed offset\n"},
		{"consumer_groups", "null", NULL, "changed offset\n"},
		{"partition_leases", "null", NULL, "changed lease\n"},
		{"segments", "{\"id\": \"x\"}", "null", "changed list\n"},
		{"segments", "what", NULL, "changed list\n"},
		{"unknown", "{\"a\": 1}", "null", "changed list\n"},
	};

	for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
		recorder_clear(&alone.recorder);
		emit(events[i].table, events[i].after, events[i].before);
		await(events[i].line);
		cr_expect_eq(alone.recorder.changed, 1, "%zu: %s", i, recorder_text(&alone.recorder));
	}
	cr_expect(runs());
}

Test(changefeed, a_key_that_no_good_row_has_is_nothing_to_fetch, .init = begin_alone, .fini = end_alone)
{
	emit("partitions", "{\"topic\": \"t\", \"partition_id\": -1}", "null");
	emit("segments", "{\"topic\": \"t\", \"partition_id\": 1, \"base_offset\": -5}", "null");
	emit("agents", "{\"agent_id\": \"\"}", "null");
	emit("topics", "{\"name\": \"\"}", "null");
	await_all();
	cr_expect_eq(alone.recorder.changed, 1, "%s", recorder_text(&alone.recorder));
}

Test(changefeed, what_is_told_twice_is_the_same_key_twice, .init = begin_alone, .fini = end_alone)
{
	for (int i = 0; i < 3; i++)
		emit("segments", SEGMENT_ROW, "null");
	await_all();
	cr_expect_eq(alone.recorder.changed, 4, "%s", recorder_text(&alone.recorder));
}

/* Technical advisory 104309, where the row comes in the end. */
Test(changefeed, a_row_that_comes_behind_its_resolved_is_told_all_the_same, .init = begin_alone, .fini = end_alone)
{
	uint64_t earlier = server_now();

	(void)resolve_now();
	pgwire_emit_at(&peer, earlier, "topics|[]|{\"after\": {\"name\": \"late\"}, \"before\": null}");
	await("changed topic " TENANT " late\n");
}

Test(changefeed, resolved_says_until_when_it_tells_and_never_too_late, .init = begin_alone, .fini = end_alone)
{
	uint64_t at, asked;

	/* Before anything is resolved: until the load began, and a second for the clocks of the
	 * nodes. */
	changes();
	cr_expect_geq(alone.lag_ns, SECOND);
	for (int i = 0; i < 20; i++) {
		at = resolve_now();
		pause_ms(20);
		asked = server_now();
		changes();
		/* Our reading of the server's clock errs on the side of the older, but for its
		 * microseconds. */
		cr_expect_leq(asked - alone.lag_ns, at - SECOND + 2000, "%d", i);
		cr_expect_geq(asked - alone.lag_ns, at - SECOND - SECOND, "%d", i);
	}
	cr_expect_not(alone.ever_changed, "that is no change: polls need not hurry");
	cr_expect_str_eq(trouble(), "");
}

Test(changefeed, a_resolved_time_of_the_future_is_not_believed, .init = begin_alone, .fini = end_alone)
{
	uint64_t before;
	char position[200], later[200];
	size_t bytes, later_bytes;

	(void)resolve_now();
	cr_assert_eq(alone.ops->feed->position(alone.state, position, sizeof position, &bytes), SHMETA_OK);
	before = server_now() - alone.lag_ns;
	resolve(server_now() + 10 * SECOND);
	await_all();
	changes();
	cr_expect_leq(server_now() - alone.lag_ns, before + SECOND / 2);
	cr_expect_not_null(strstr(trouble(), "clocks"), "%s", trouble());
	cr_assert_eq(alone.ops->feed->position(alone.state, later, sizeof later, &later_bytes), SHMETA_OK);
	cr_expect(bytes == later_bytes && memcmp(position, later, bytes) == 0, "it would go on in the future");
	cr_expect(runs(), "it still tells keys");
	/* And is over when it is over. */
	(void)resolve_now();
	cr_expect_str_eq(trouble(), "");
}

Test(changefeed, it_begins_before_the_load_and_tells_what_the_load_may_not_have_seen, .init = begin_unopened,
     .fini = end_alone)
{
	uint64_t before;

	open_alone();
	cr_expect_not(runs(), "nothing was loaded");
	before = server_now();
	load_alone();
	cr_expect(runs());
	await_streams(1);
	cr_expect_lt(cursor_asked_last(), before);
	cr_expect_gt(cursor_asked_last(), before - 2 * SECOND, "%s", asked_last());
	expect_nothing_refused();
}

static int agree(void *arg, uint64_t lag_ns)
{
	(void)arg;
	(void)lag_ns;
	return 1;
}

Test(changefeed, behind_a_load_from_followers_it_begins_where_they_were, .init = begin_unopened, .fini = end_alone)
{
	PGresult *result;
	uint64_t read_ns;

	alone.options.follower_reads = 1;
	alone.recorder.sink.may_lag = agree;
	pg_cluster_sql(sql,
	               "CREATE SCHEMA played; CREATE TABLE played.follower_time AS SELECT clock_timestamp() AS at");
	open_alone();
	pause_ms(4500);
	pg_cluster_sql(sql, "UPDATE played.follower_time SET at = clock_timestamp() - interval '3 s'");
	result = PQexec(sql, "SELECT (extract(epoch FROM at) * 1000000)::int8 FROM played.follower_time");
	read_ns = strtoull(PQgetvalue(result, 0, 0), NULL, 10) * 1000;
	PQclear(result);
	load_alone();
	cr_assert_eq(pgwire_hits(&peer, FOLLOWERS), 1, "%s", pgwire_log(&peer));
	await_streams(1);
	cr_expect_eq(cursor_asked_last(), read_ns - SECOND, "%s", asked_last());
	changes();
	cr_expect_geq(alone.lag_ns, 3 * SECOND + SECOND);
}

Test(changefeed, what_a_server_does_not_know_is_left_out, .init = begin_unopened, .fini = end_alone)
{
	static const size_t unknown[] = {NO_FREQUENCY, NO_DIFF, NO_POLICY, NO_EXPERIMENTAL};

	for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
		pgwire_arm(&peer, unknown[i], PGWIRE_ALWAYS);
	open_alone();
	load_alone();
	await_streams(1);
	for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
		cr_expect_eq(pgwire_hits(&peer, unknown[i]), 1, "%s", rules[unknown[i]].pattern);
	cr_expect(strncmp(asked_last() - strlen("CREATE "), "CREATE ", 7) == 0);
	cr_expect_str_eq(trouble(), "");
	/* Without the row before, a deletion is so much to look at. */
	emit("segments", "null", NULL);
	await("changed list\n");
}

Test(changefeed, a_server_that_knows_everything_is_asked_for_it, .init = begin_alone, .fini = end_alone)
{
	static const char *const parts[] = {
		"diff",
		"resolved = '1s'",
		"min_checkpoint_frequency = '1s'",
		"envelope = 'wrapped'",
		"FOR topics, partitions, segments, consumer_groups, consumer_offsets, agents, partition_leases ",
	};

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		cr_expect_not_null(strstr(asked_last(), parts[i]), "%s: %s", parts[i], asked_last());
	cr_expect_eq(pgwire_asked(&peer, "set_config('statement_timeout', '0'"), 1, "it would be cancelled");
}

static void await_refusal(void)
{
	for (double last = run_now_s() + PATIENCE_S; runs(); pause_ms(1)) {
		cr_assert_lt(run_now_s(), last);
		changes();
	}
}

Test(changefeed, where_it_is_refused_it_says_why_and_is_not_asked_for_all_the_time, .init = begin_unopened,
     .fini = end_alone)
{
	int claimed = 0;

	pgwire_arm(&peer, NO_RANGEFEEDS, PGWIRE_ALWAYS);
	open_alone();
	load_alone();
	await_refusal();
	cr_expect_eq(alone.recorder.changed, 0, "a pass is due anyway: %s", recorder_text(&alone.recorder));
	cr_expect_not_null(strstr(trouble(), "kv.rangefeed.enabled = true"), "%s", trouble());
	cr_expect_not_null(strstr(trouble(), "full passes"), "%s", trouble());
	for (int i = 0; i < 100; i++) {
		load_alone();
		claimed += runs();
		await_refusal();
	}
	cr_expect_leq(pgwire_hits(&peer, NO_RANGEFEEDS), 8);
	cr_expect_leq(claimed, 8, "nobody should follow it");
	cr_expect_not_null(strstr(trouble(), "kv.rangefeed.enabled = true"), "%s", trouble());
	/* Somebody has done it. */
	pgwire_arm(&peer, NO_RANGEFEEDS, PGWIRE_OFF);
	for (double last = run_now_s() + PATIENCE_S; pgwire_streams(&peer) == 0; pause_ms(20)) {
		cr_assert_lt(run_now_s(), last, "%s", trouble());
		load_alone();
		changes();
	}
	cr_expect_not_null(strstr(trouble(), "refuses"), "it has not said anything yet");
	resolve(server_now());
	await_all();
	cr_expect_str_eq(trouble(), "");
	cr_expect(runs());
}

Test(changefeed, a_connection_that_is_cut_goes_on_from_what_was_resolved_last, .init = begin_alone, .fini = end_alone)
{
	uint64_t at;

	emit("topics", "{\"name\": \"early\"}", "null");
	at = resolve_now();
	emit("topics", "{\"name\": \"late\"}", "null");
	await("late");
	recorder_clear(&alone.recorder);
	pgwire_end_streams(&peer, NULL, NULL);
	await("late");
	cr_expect_eq(cursor_asked_last(), at, "%s", asked_last());
	cr_expect_not(recorder_has(&alone.recorder, "early"), "%s", recorder_text(&alone.recorder));
	cr_expect_not(recorder_has(&alone.recorder, "list"), "%s", recorder_text(&alone.recorder));
	cr_expect(runs());
	emit("topics", "{\"name\": \"later\"}", "null");
	await("later");
}

Test(changefeed, what_the_sink_does_not_take_is_told_again, .init = begin_alone, .fini = end_alone)
{
	alone.recorder.stop_after = 1;
	emit("topics", "{\"name\": \"t\"}", "null");
	for (double last = run_now_s() + PATIENCE_S;; pause_ms(2)) {
		enum shmeta_status status = alone.ops->feed->changes(alone.state, &alone.recorder.sink, &alone.changed,
		                                                     &alone.lag_ns, &alone.err);

		if (status == SHMETA_ERR_FULL)
			break;
		cr_assert_eq(status, SHMETA_OK, "%s", alone.err.text);
		cr_assert_lt(run_now_s(), last);
	}
	alone.recorder.stop_after = 0;
	recorder_clear(&alone.recorder);
	await("changed topic " TENANT " t\n");
	cr_expect_str_eq(trouble(), "", "it was silence that told it");
}

Test(changefeed, one_that_says_nothing_is_opened_again_and_ages_meanwhile, .init = begin_alone, .fini = end_alone)
{
	uint64_t at = resolve_now(), connections = pgwire_connections(&peer), least = 0;

	for (double last = run_now_s() + PATIENCE_S; pgwire_connections(&peer) == connections; pause_ms(20)) {
		cr_assert_lt(run_now_s(), last);
		/* A row is not enough: it does not say until when. */
		emit("topics", "{\"name\": \"t\"}", "null");
		changes();
		cr_expect_geq(alone.lag_ns, least);
		least = alone.lag_ns;
	}
	cr_expect_geq(alone.lag_ns, 4 * SECOND, "so long is silence");
	await_streams(1);
	cr_expect_eq(cursor_asked_last(), at, "%s", asked_last());
	cr_expect_not_null(strstr(trouble(), "full passes"), "%s", trouble());
	cr_expect(runs(), "it may go on");
}

Test(changefeed, one_that_the_server_ends_is_looked_behind_and_begins_anew, .init = begin_alone, .fini = end_alone)
{
	uint64_t at = resolve_now();

	recorder_clear(&alone.recorder);
	pgwire_end_streams(&peer, "XXUUU", "\"topics\" was truncated");
	await("changed list\n");
	cr_expect_not(runs());
	cr_expect_not_null(strstr(trouble(), "has ended the changefeed: \"topics\" was truncated"), "%s", trouble());
	load_alone();
	cr_expect(runs(), "%s", trouble());
	await_streams(1);
	cr_expect_neq(cursor_asked_last(), at, "it would be ended there again");
}

Test(changefeed, a_node_that_is_shut_down_is_no_end, .init = begin_alone, .fini = end_alone)
{
	uint64_t at = resolve_now();

	pgwire_end_streams(&peer, "57P01", "server is shutting down");
	for (double last = run_now_s() + PATIENCE_S; pgwire_hits(&peer, CHANGEFEED) < 2; pause_ms(2)) {
		cr_assert_lt(run_now_s(), last);
		changes();
	}
	cr_expect(runs());
	cr_expect_eq(cursor_asked_last(), at);
	cr_expect_eq(alone.recorder.changed, 0, "%s", recorder_text(&alone.recorder));
}

Test(changefeed, a_later_process_goes_on_where_a_former_one_ended, .init = begin_alone, .fini = end_alone)
{
	uint64_t at = resolve_now();
	char position[200];
	size_t bytes;

	cr_assert_eq(alone.ops->feed->position(alone.state, position, sizeof position, &bytes), SHMETA_OK);
	close_alone();
	emit("topics", "{\"name\": \"meanwhile\"}", "null");
	open_alone();
	cr_assert_eq(alone.ops->feed->resume(alone.state, position, bytes, &alone.err), SHMETA_OK, "%s",
	             alone.err.text);
	cr_expect(runs());
	await("meanwhile");
	cr_expect_eq(cursor_asked_last(), at);
	/* What is no position of it is none. */
	cr_expect_eq(alone.ops->feed->resume(alone.state, position, bytes - 1, &alone.err), SHMETA_ABSENT);
	position[8] ^= 1; /* of the source's fingerprint */
	cr_expect_eq(alone.ops->feed->resume(alone.state, position, bytes, &alone.err), SHMETA_ERR_CONFLICT);
	position[8] ^= 1;
	position[bytes - 1] = 'x';
	cr_expect_eq(alone.ops->feed->resume(alone.state, position, bytes, &alone.err), SHMETA_ABSENT);
	position[0] = 77;
	cr_expect_eq(alone.ops->feed->resume(alone.state, position, bytes, &alone.err), SHMETA_ABSENT);
}

Test(changefeed, where_the_server_keeps_no_history_that_far_everything_is_compared, .init = begin_alone,
     .fini = end_alone)
{
	uint64_t at = resolve_now();
	char position[200];
	size_t bytes;

	cr_assert_eq(alone.ops->feed->position(alone.state, position, sizeof position, &bytes), SHMETA_OK);
	close_alone();
	open_alone();
	pgwire_arm(&peer, TOO_OLD, 1);
	cr_assert_eq(alone.ops->feed->resume(alone.state, position, bytes, &alone.err), SHMETA_OK, "%s",
	             alone.err.text);
	recorder_clear(&alone.recorder);
	await("changed list\n");
	cr_expect_eq(alone.recorder.changed, 1);
	cr_expect_not(runs());
	load_alone();
	await_streams(1);
	cr_expect(runs());
	cr_expect_neq(cursor_asked_last(), at, "it would be refused again");
}

Test(changefeed, it_is_refused_by_postgresql_with_what_there_is_instead, .init = begin_unopened, .fini = end_alone)
{
	char uri[200];

	(void)snprintf(uri, sizeof uri, "postgresql:host=%s user=shmeta dbname=meta", server.dir);
	alone.options.uri = uri;
	alone.ops = &backend_postgresql;
	alone.state = calloc(1, alone.ops->state_bytes);
	cr_assert_not_null(alone.state);
	cr_expect_eq(alone.ops->source->open(alone.state, &alone.options, &alone.err), SHMETA_ERR_CONFIG);
	cr_expect_not_null(strstr(alone.err.text, "feed.changefeed"), "%s", alone.err.text);
	cr_expect_not_null(strstr(alone.err.text, "change log"), "%s", alone.err.text);
}
