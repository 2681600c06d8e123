/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine where the contract ends: concurrent writers, what no trigger tells, servers that
 * go away and come back, roles that may only read, secrets. Each test has a database of its own on
 * a server that this program starts; those that stop the server have one of their own. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backends/rows.h"
#include "tests/support/pg_cluster.h"
#include "tests/support/pg_world.h"
#include "tests/support/scratch.h"

TestSuite(postgres, .timeout = 120);

static void begin(struct world *w)
{
	pg_world_make(w);
	world_open(w);
}

static void nap_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static struct backend_key partition_key(const char *topic, uint32_t id)
{
	return (struct backend_key){.cls = SHMETA_CLASS_PARTITION,
	                            .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                            .topic = rows_str(topic),
	                            .partition_id = id};
}

/* Another connection to the world's database. */
static PGconn *another(const struct world *w)
{
	char conninfo[300];
	PGconn *conn;

	snprintf(conninfo, sizeof conninfo, "host=%s user=shmeta dbname=%s", PQhost(w->pg), PQdb(w->pg));
	conn = PQconnectdb(conninfo);
	if (PQstatus(conn) != CONNECTION_OK)
		abort();
	return conn;
}

/* ---- the feed ---- */

enum { WRITERS = 16, TRANSACTIONS = 60, PLACES = WRITERS * TRANSACTIONS };

static struct {
	struct world *world;
	_Atomic bool committed[PLACES];
	_Atomic int writing;
	uint32_t reported[PLACES];
	uint32_t strange;
} race;

static void *write_at_random(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg * 2654435761u + 1;
	PGconn *conn = another(race.world);
	char sql[400];

	for (int i = 0; i < TRANSACTIONS; i++) {
		int place = (int)(uintptr_t)arg * TRANSACTIONS + i;
		bool hold = rand_r(&seed) % 5 == 0, back = rand_r(&seed) % 10 == 0;

		snprintf(
			sql, sizeof sql,
			"BEGIN; INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
			"s3_bucket, s3_key, created_at) VALUES ('%d', 't', %d, 0, 9, 10, 1, 'b', 'k', 0)",
			place, place);
		pg_cluster_sql(conn, sql);
		if (hold)
			nap_ms(rand_r(&seed) % 20);
		pg_cluster_sql(conn, back ? "ROLLBACK" : "COMMIT");
		race.committed[place] = !back;
	}
	PQfinish(conn);
	race.writing--;
	return NULL;
}

static enum shmeta_status count_report(void *arg, const struct backend_key *key)
{
	(void)arg;
	if (key->cls == SHMETA_CLASS_SEGMENT && key->partition_id < PLACES && key->from == 0 && key->to == 0)
		race.reported[key->partition_id]++;
	else
		race.strange++;
	return SHMETA_OK;
}

Test(postgres, sixteen_writers_that_hold_and_roll_back_miss_nothing_and_double_nothing)
{
	pthread_t threads[WRITERS];
	struct world world, *w = &world;
	uint64_t committed = 0, missed = 0, doubled = 0, invented = 0, polls = 0;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_sql(w, "INSERT INTO partitions SELECT 't', p, 0, 0, 0 FROM generate_series(1, %d) p", PLACES - 1);
	ok(world_load(w));
	w->recorder.sink.changed = count_report;
	race.world = w;
	race.writing = WRITERS;
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, write_at_random, (void *)i);
	/* Once more after the last of them has ended. */
	for (bool more = true; more; polls++) {
		uint64_t lag_ns;
		int changed = 0;

		more = race.writing > 0;
		ok(w->ops->feed->changes(w->state, &w->recorder.sink, &changed, &lag_ns, &w->err));
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < PLACES; i++) {
		committed += race.committed[i];
		missed += race.committed[i] && race.reported[i] == 0;
		doubled += race.committed[i] && race.reported[i] > 1;
		invented += !race.committed[i] && race.reported[i] > 0;
	}
	cr_log_info("%" PRIu64 " commits seen in %" PRIu64 " polls", committed, polls);
	cr_expect_gt(committed, PLACES / 2);
	cr_expect_gt(polls, 10);
	cr_expect_eq(missed, 0);
	cr_expect_eq(doubled, 0);
	cr_expect_eq(invented, 0);
	cr_expect_eq(race.strange, 0);
	world_free(w);
}

Test(postgres, a_transaction_that_stays_open_does_not_stall_the_feed_and_is_told_when_it_ends)
{
	struct world world, *w = &world;
	PGconn *slow;

	begin(w);
	world_topic(w, NULL, "t", 2, -1, NULL);
	ok(world_load(w));
	slow = another(w);
	pg_cluster_sql(slow, "BEGIN; UPDATE partitions SET high_watermark = 5 WHERE partition_id = 0");
	for (uint64_t i = 1; i <= 3; i++) {
		world_watermark(w, NULL, "t", 1, i);
		ok(world_changes(w));
		cr_expect_str_eq(recorder_text(&w->recorder),
		                 "changed partition 00000000-0000-0000-0000-000000000000 t/1\n");
	}
	pg_cluster_sql(slow, "COMMIT");
	ok(world_changes(w));
	cr_expect_str_eq(recorder_text(&w->recorder), "changed partition 00000000-0000-0000-0000-000000000000 t/0\n");
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
	PQfinish(slow);
	world_free(w);
}

Test(postgres, truncate_is_told_and_so_is_what_a_replica_session_does)
{
	struct world world, *w = &world;

	begin(w);
	world_topic(w, NULL, "t", 2, -1, NULL);
	world_segment(w, NULL, "t", 0, 0, 9);
	ok(world_load(w));
	world_sql(w, "TRUNCATE segments");
	ok(world_changes(w));
	has("changed list");
	ok(world_load(w));
	cr_expect_eq(w->recorder.segments, 0);
	world_sql(
		w,
		"SET session_replication_role = replica; UPDATE partitions SET high_watermark = 3 WHERE partition_id = 1; "
		"RESET session_replication_role");
	ok(world_changes(w));
	has("changed partition 00000000-0000-0000-0000-000000000000 t/1");
	world_free(w);
}

static void disable_trigger(struct world *w)
{
	world_sql(w, "ALTER TABLE partitions DISABLE TRIGGER shmeta_partitions_update");
}

Test(postgres, a_disabled_trigger_is_noticed_and_mended_where_that_is_allowed)
{
	struct world world, *w = &world;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	disable_trigger(w);
	world_watermark(w, NULL, "t", 0, 7);
	ok(world_changes(w));
	has("changed list");
	ok(world_load(w));
	has("t/0 watermark=7");
	world_watermark(w, NULL, "t", 0, 8);
	ok(world_changes(w));
	cr_expect_str_eq(recorder_text(&w->recorder), "changed partition 00000000-0000-0000-0000-000000000000 t/0\n");
	world_close(w);
	/* Not allowed: there is no feed, and that is what it says. A reconcile finds what was
	 * changed. */
	disable_trigger(w);
	w->options.manage_schema = 0;
	world_open(w);
	cr_expect_not(world_has_feed(w));
	world_watermark(w, NULL, "t", 0, 9);
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
	ok(world_load(w));
	has("t/0 watermark=9");
	world_free(w);
}

/* Put the mark of pruning so far back that what is below it goes with the next call; all
 * transactions on the log have ended. */
/* The mark as a daemon sets it, an hour ago: below the oldest transaction that runs. That is above
 * all rows once the server's own transactions (it vacuums and analyses) that began before them have
 * ended. */
static void age_mark(struct world *w)
{
	for (int i = 0; i < 1000 && world_sql_number(w, "SELECT (pg_snapshot_xmin(s) < pg_snapshot_xmax(s))::int "
	                                                "FROM pg_current_snapshot() s") != 0;
	     i++)
		usleep(10000);
	world_sql(w, "INSERT INTO shmeta_meta VALUES ('mark', pg_snapshot_xmin(pg_current_snapshot())::text || ' 0') "
	             "ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value");
}

Test(postgres, a_mark_of_a_time_that_cannot_be_does_not_keep_the_log_for_ever)
{
	static const char *const times[] = {"-9223372036854775808", "9223372036854775807", "99999999999999999999"};
	struct world world, *w = &world;

	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		begin(w);
		world_topic(w, NULL, "t", 1, -1, NULL);
		ok(world_load(w));
		for (uint64_t n = 1; n <= 20; n++)
			world_watermark(w, NULL, "t", 0, n);
		age_mark(w);
		world_sql(w, "UPDATE shmeta_meta SET value = split_part(value, ' ', 1) || ' %s' WHERE name = 'mark'",
		          times[i]);
		world_close(w);
		world_open(w);
		ok(world_load(w));
		ok(world_changes(w));
		cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM shmeta_changes"), 1, "%s", times[i]);
		world_free(w);
	}
}

Test(postgres, old_changes_are_pruned_and_who_has_not_read_them_reconciles)
{
	struct world world, *w = &world;
	char position[400];
	size_t bytes = 0;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	ok(w->ops->feed->position(w->state, position, sizeof position, &bytes));
	for (uint64_t i = 1; i <= 20; i++)
		world_watermark(w, NULL, "t", 0, i);
	cr_expect_geq(world_sql_number(w, "SELECT count(*) FROM shmeta_changes"), 20);
	age_mark(w);
	world_close(w); /* whoever opens it next cleans up at once */
	world_open(w);
	ok(world_load(w));
	ok(world_changes(w));
	/* But for the last one, by which the log is known again. */
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM shmeta_changes"), 1);
	cr_expect_eq(w->ops->feed->resume(w->state, position, bytes, &w->err), SHMETA_ABSENT);
	ok(w->ops->feed->position(w->state, position, sizeof position, &bytes));
	world_watermark(w, NULL, "t", 0, 30);
	ok(w->ops->feed->resume(w->state, position, bytes, &w->err));
	ok(world_changes(w));
	has("changed partition 00000000-0000-0000-0000-000000000000 t/0");
	world_free(w);
}

Test(postgres, what_is_said_to_be_pruned_never_gets_less)
{
	struct world world, *w = &world;
	int64_t pruned;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	age_mark(w);
	/* As a writer has pruned, beyond the mark. */
	world_sql(w, "SELECT pg_current_xact_id()");
	world_sql(w, "INSERT INTO shmeta_meta VALUES ('pruned', pg_snapshot_xmax(pg_current_snapshot())::text)");
	pruned = world_sql_number(w, "SELECT value::int8 FROM shmeta_meta WHERE name = 'pruned'");
	ok(world_changes(w));
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM shmeta_changes"), 1);
	cr_expect_eq(world_sql_number(w, "SELECT value::int8 FROM shmeta_meta WHERE name = 'pruned'"), pruned);
	world_free(w);
}

/* As pg_dump brings it into another cluster. */
static void copy_foreign_log(struct world *w)
{
	world_sql(
		w,
		"INSERT INTO shmeta_changes(xid, class, op, topic, partition_id) VALUES ('99999999999', 1, 2, 't', 0); "
		"INSERT INTO shmeta_meta VALUES ('pruned', '99999999998'), ('mark', '99999999998 0') ON CONFLICT (name) DO "
		"UPDATE SET value = EXCLUDED.value");
}

Test(postgres, a_log_that_was_copied_from_another_cluster_says_nothing_of_this_one)
{
	struct world world, *w = &world;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	ok(world_changes(w));
	/* Nor where it cannot be cleaned. */
	for (int may_write = 0; may_write < 2; may_write++) {
		copy_foreign_log(w);
		world_close(w);
		w->options.read_only = !may_write;
		world_open(w);
		ok(world_load(w));
		for (int i = 0; i < 3; i++) {
			ok(world_changes(w));
			cr_expect_eq(w->changed, 0, "%s", recorder_text(&w->recorder));
		}
		world_watermark(w, NULL, "t", 0, 70 + (uint64_t)may_write);
		ok(world_changes(w));
		cr_expect_str_eq(recorder_text(&w->recorder),
		                 "changed partition 00000000-0000-0000-0000-000000000000 t/0\n");
		cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM shmeta_changes WHERE xid >= '99999999999'"),
		             may_write ? 0 : 1);
	}
	cr_expect_eq(world_sql_number(w, "SELECT count(*) FROM shmeta_meta WHERE value LIKE '9999999999%%'"), 0);
	world_free(w);
}

Test(postgres, an_idle_poll_is_one_statement_also_when_it_looks_at_the_log)
{
	struct world world, *w = &world;
	uint64_t before;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	ok(world_changes(w)); /* nobody had set a mark yet */
	world_close(w);
	world_open(w);
	ok(world_load(w));
	before = world_counters(w).queries;
	ok(world_changes(w)); /* looks */
	cr_expect_eq(world_counters(w).queries, before + 1, "%lu", world_counters(w).queries - before);
	for (int i = 0; i < 10; i++)
		ok(world_changes(w));
	cr_expect_eq(world_counters(w).queries, before + 11, "%lu", world_counters(w).queries - before);
	world_free(w);
}

/* ---- connections ---- */

/* Until it is OK: a server that comes back takes its time, and after a refusal we wait. */
static void until_ok(struct world *w, enum shmeta_status (*call)(struct world *world))
{
	enum shmeta_status status = SHMETA_ERR_SOURCE;

	for (int i = 0; i < 1000 && status == SHMETA_ERR_SOURCE; i++) {
		status = call(w);
		if (status == SHMETA_ERR_SOURCE)
			nap_ms(20);
	}
	ok(status);
}

Test(postgres, a_terminated_connection_is_made_anew_by_the_next_call_and_nothing_is_missed)
{
	struct world world, *w = &world;

	begin(w);
	world_topic(w, NULL, "t", 2, -1, NULL);
	ok(world_load(w));
	world_watermark(w, NULL, "t", 0, 1);
	pg_world_end_sessions(w);
	world_watermark(w, NULL, "t", 1, 2);
	ok(world_changes(w));
	has("changed partition 00000000-0000-0000-0000-000000000000 t/0");
	has("changed partition 00000000-0000-0000-0000-000000000000 t/1");
	pg_world_end_sessions(w);
	struct backend_key key = partition_key("t", 1);
	ok(world_fetch(w, &key, 1));
	has("t/1 watermark=2");
	cr_expect_geq(world_counters(w).reconnects, 2);
	world_free(w);
}

Test(postgres, a_plan_of_an_older_schema_is_made_anew)
{
	struct world world, *w = &world;
	struct backend_key key = partition_key("t", 0);

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	ok(world_fetch(w, &key, 1));
	/* "cached plan must not change result type" needs a column whose type shows in the
	 * result. */
	world_sql(
		w,
		"DEALLOCATE ALL; ALTER TABLE partitions ALTER COLUMN high_watermark TYPE NUMERIC; "
		"ALTER TABLE partitions ALTER COLUMN high_watermark TYPE BIGINT; ALTER TABLE topics ADD COLUMN x INTEGER");
	world_watermark(w, NULL, "t", 0, 4);
	ok(world_fetch(w, &key, 1));
	has("t/0 watermark=4");
	world_free(w);
}

/* Every column that is asked for is cast, but its collation shows in the result all the same; and
 * an owner may alter our own tables. */
Test(postgres, a_plan_whose_result_would_be_of_another_type_is_made_anew)
{
	static const char *const alterations[] = {
		"ALTER TABLE segments ALTER COLUMN s3_key TYPE TEXT COLLATE \"POSIX\"",
		"ALTER TABLE segments ALTER COLUMN s3_key TYPE VARCHAR(1000) COLLATE \"C\"",
		"ALTER TABLE shmeta_changes ALTER COLUMN topic TYPE VARCHAR(1000)"};
	struct world world, *w = &world;
	struct backend_key key = partition_key("t", 0);

	begin(w);
	key.cls = SHMETA_CLASS_SEGMENT;
	key.to = UINT64_MAX;
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_segment(w, NULL, "t", 0, 0, 9);
	ok(world_load(w));
	for (size_t i = 0; i < sizeof alterations / sizeof alterations[0]; i++) {
		uint64_t before;

		/* What is prepared from here on stays prepared. */
		ok(world_fetch(w, &key, 1));
		ok(world_changes(w));
		ok(world_changes(w));
		before = world_counters(w).prepares;
		world_sql(w, "%s", alterations[i]);
		world_watermark(w, NULL, "t", 0, 4 + i);
		ok(world_changes(w));
		has("changed partition 00000000-0000-0000-0000-000000000000 t/0");
		ok(world_fetch(w, &key, 1));
		cr_expect_eq(w->recorder.segments, 1);
		cr_expect_gt(world_counters(w).prepares, before, "%s: no plan was touched", alterations[i]);
		cr_expect_eq(world_counters(w).reconnects, 0);
	}
	world_free(w);
}

Test(postgres, a_schema_that_becomes_the_later_one_is_noticed)
{
	struct world world, *w = &world;
	struct backend_key key = {
		.cls = SHMETA_CLASS_TOPIC, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t")};

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	world_sql(w, "ALTER TABLE topics RENAME TO gone");
	cr_expect_eq(world_fetch(w, &key, 1), SHMETA_ERR_SOURCE);
	cr_expect(strstr(w->err.text, "topics") != NULL, "%s", w->err.text);
	cr_expect_eq(world_fetch(w, &key, 1), SHMETA_ERR_SOURCE);
	world_sql(w, "ALTER TABLE gone RENAME TO topics");
	ok(world_fetch(w, &key, 1));
	cr_expect_eq(w->recorder.topics, 1);
	world_free(w);
}

/* A server that is this test's own. */
static void begin_alone(struct world *w, struct pg_cluster *cluster)
{
	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL server on this machine");
	pg_cluster_start(cluster, NULL);
	setenv("SHMETA_TEST_POSTGRES", cluster->dir, 1);
	world_make(w, WORLD_PG_NEW);
	w->options.timeout_ms = 2000;
	world_open(w);
}

static void connect_again(struct world *w)
{
	PQreset(w->pg);
	if (PQstatus(w->pg) != CONNECTION_OK)
		abort();
}

Test(postgres, a_server_that_restarts_is_followed_from_where_it_was)
{
	struct pg_cluster cluster;
	struct world world, *w = &world;

	begin_alone(w, &cluster);
	world_topic(w, NULL, "t", 2, -1, NULL);
	ok(world_load(w));
	for (int round = 0; round < 2; round++) {
		struct backend_key key = partition_key("t", 0);

		world_watermark(w, NULL, "t", 0, 10 + (uint64_t)round);
		pg_cluster_down(&cluster, round == 1);
		cr_expect_eq(world_changes(w), SHMETA_ERR_SOURCE);
		cr_expect_eq(world_fetch(w, &key, 1), SHMETA_ERR_SOURCE);
		cr_expect(strstr(w->err.text, "postgresql: ") == w->err.text, "%s", w->err.text);
		cr_expect_eq(world_load(w), SHMETA_ERR_SOURCE);
		pg_cluster_up(&cluster);
		connect_again(w);
		world_watermark(w, NULL, "t", 1, 20 + (uint64_t)round);
		until_ok(w, world_changes);
		has("changed partition 00000000-0000-0000-0000-000000000000 t/0");
		has("changed partition 00000000-0000-0000-0000-000000000000 t/1");
		ok(world_fetch(w, &key, 1));
	}
	world_free(w);
	pg_cluster_stop(&cluster);
}

Test(postgres, while_the_server_is_away_there_is_one_attempt_at_a_time_and_its_answer_for_everyone)
{
	struct pg_cluster cluster;
	struct world world, *w = &world;
	uint64_t before;

	begin_alone(w, &cluster);
	ok(world_load(w));
	pg_cluster_down(&cluster, false);
	cr_expect_eq(world_load(w), SHMETA_ERR_SOURCE);
	cr_expect_eq(world_load(w), SHMETA_ERR_SOURCE);
	before = world_counters(w).reconnects;
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(world_changes(w), SHMETA_ERR_SOURCE);
	/* A thousand calls take milliseconds; the pause after a refusal is not shorter than
	 * that. */
	cr_expect_leq(world_counters(w).reconnects - before, 20);
	cr_expect(strstr(w->err.text, cluster.dir) != NULL, "%s", w->err.text);
	world_free(w);
	pg_cluster_stop(&cluster);
}

static pid_t our_backend(struct world *w)
{
	return (pid_t)world_sql_number(
		w, "SELECT pid FROM pg_stat_activity WHERE application_name = 'shmetad' AND datname = "
		   "current_database()");
}

Test(postgres, a_backend_that_is_frozen_ends_in_our_own_deadline)
{
	struct world world, *w = &world;
	struct backend_key key = partition_key("t", 0);
	struct timespec from, to;
	long took_ms;
	pid_t pid;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_close(w);
	w->options.timeout_ms = 300;
	world_open(w);
	ok(world_load(w));
	pid = our_backend(w);
	cr_assert_eq(kill(pid, SIGSTOP), 0);
	clock_gettime(CLOCK_MONOTONIC, &from);
	cr_expect_eq(world_fetch(w, &key, 1), SHMETA_ERR_SOURCE);
	clock_gettime(CLOCK_MONOTONIC, &to);
	took_ms = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
	kill(pid, SIGCONT);
	cr_expect_geq(took_ms, 290);
	cr_expect(strstr(w->err.text, "no answer within 300 ms") != NULL, "%s", w->err.text);
	until_ok(w, world_load);
	world_free(w);
}

Test(postgres, too_many_connections_is_the_sources_trouble_and_passes)
{
	struct world world, *w = &world;

	begin(w);
	ok(world_load(w));
	world_sql(w, "CREATE ROLE poor LOGIN CONNECTION LIMIT 0; GRANT SELECT ON ALL TABLES IN SCHEMA public TO poor");
	world_close(w);
	memcpy(strstr(w->uri, "user=shmeta"), "user=poor\0\0", 11);
	w->options.uri = w->uri;
	cr_expect_eq(world_try_open(w), SHMETA_ERR_SOURCE);
	cr_expect(strstr(w->err.text, "too many connections") != NULL, "%s", w->err.text);
	world_sql(w, "ALTER ROLE poor CONNECTION LIMIT 5");
	until_ok(w, world_load);
	world_sql(w, "DROP OWNED BY poor");
	world_free(w);
}

/* ---- rights and secrets ---- */

Test(postgres, a_role_that_may_only_select_reads_and_says_so)
{
	struct world world, *w = &world;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_close(w);
	world_sql(w, "DROP TABLE shmeta_slices, shmeta_objects, shmeta_transfers, shmeta_lease_epochs CASCADE; "
	             "CREATE ROLE reader LOGIN; GRANT SELECT ON topics, partitions, segments, consumer_groups, "
	             "consumer_offsets, agents, partition_leases TO reader");
	memcpy(strstr(w->uri, "user=shmeta"), "user=reader", 11);
	world_open(w);
	cr_expect(!world_writable(w) && !world_has_feed(w));
	ok(world_load(w));
	cr_expect_eq(w->recorder.topics, 1);
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
	world_sql(w, "DROP OWNED BY reader");
	world_sql(w, "DROP ROLE reader");
	world_free(w);
}

static enum shmeta_status open_uri(const char *uri, struct backend_options options, struct backend_error *err)
{
	const struct backend_engine *ops = backend_find(uri, err);
	enum shmeta_status status = err->code;
	void *state;

	if (ops == NULL)
		return status;
	options.uri = uri;
	state = calloc(1, ops->state_bytes);
	status = ops->source->open(state, &options, err);
	ops->source->close(state);
	free(state);
	return status;
}

Test(postgres, no_failure_shows_a_password)
{
	static const char *const uris[] = {
		"postgresql://user:sesame@127.0.0.1:1/db",
		"postgresql://user:sesame%zz@127.0.0.1:1/db",
		"postgresql://user:sesame@127.0.0.1:1/db?nonsense=1",
		"postgresql://user@127.0.0.1:1/db?password=sesame&x",
		"postgresql://user@127.0.0.1:1/db?pass%77ord=sesame&x",
		"postgresql:/user:sesame@127.0.0.1:1/db",
		"postgresql:host=127.0.0.1 port=1 password=sesame nonsense=1",
		"postgresql:host=127.0.0.1 port=1 password='sesame",
		"nosuchengine://user:sesame@127.0.0.1:1/db",
		"user:sesame@127.0.0.1",
		"sesame",
	};

	for (size_t i = 0; i < sizeof uris / sizeof uris[0] - 1; i++) {
		struct backend_error err = {.code = SHMETA_OK};

		cr_expect_neq(open_uri(uris[i], (struct backend_options){.timeout_ms = 500}, &err), SHMETA_OK);
		cr_expect(err.text[0] != '\0');
		cr_expect(strstr(err.text, "sesame") == NULL, "%s", err.text);
	}
}

Test(postgres, off_this_machine_a_server_must_prove_who_it_is)
{
	static const char *const refused[] = {
		"postgresql://db.example.invalid/db", "postgresql://192.0.2.1/db",
		"postgresql://192.0.2.1/db?sslmode=require", "postgresql:host=localhost,192.0.2.1 dbname=db",
		"postgresql:hostaddr=192.0.2.1 host=localhost dbname=db sslmode=verify-ca"};

	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		struct backend_error err = {.code = SHMETA_OK};
		enum shmeta_status status = open_uri(refused[i], (struct backend_options){.timeout_ms = 300}, &err);

		/* A name that leads nowhere is told first. */
		cr_expect(status == SHMETA_ERR_CONFIG || i == 0, "%s: %s", refused[i], err.text);
		cr_expect(strstr(err.text, "verify-full") != NULL || i == 0, "%s: %s", refused[i], err.text);
	}
	struct backend_error err = {.code = SHMETA_OK};
	cr_expect_eq(open_uri("postgresql://192.0.2.1/db",
	                      (struct backend_options){.timeout_ms = 200, .allow_insecure = 1}, &err),
	             SHMETA_ERR_SOURCE);
	cr_expect(strstr(err.text, "verify-full") == NULL, "%s", err.text);
}

Test(postgres, a_password_that_is_rotated_is_read_anew)
{
	struct pg_cluster cluster;
	struct world world, *w = &world;
	char file[SCRATCH_PATH_MAX], line[300];
	FILE *out;

	begin_alone(w, &cluster);
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_close(w);
	scratch_file("password", file);
	out = fopen(file, "we");
	fputs("first\n", out);
	fclose(out);
	world_sql(w, "CREATE ROLE keyed LOGIN SUPERUSER PASSWORD 'first'");
	snprintf(line, sizeof line,
	         "COPY (SELECT 'local all keyed scram-sha-256' UNION ALL SELECT 'local all all trust') "
	         "TO '%s/data/pg_hba.conf'",
	         cluster.dir);
	pg_cluster_sql(w->pg, line);
	world_sql(w, "SELECT pg_reload_conf()");
	nap_ms(300);
	memcpy(strstr(w->uri, "user=shmeta"), "user=keyed\0", 11);
	w->options.password_file = file;
	world_open(w);
	ok(world_load(w));
	world_sql(w, "ALTER ROLE keyed PASSWORD 'second'");
	world_sql(w, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keyed'");
	nap_ms(100);
	cr_expect_eq(world_load(w), SHMETA_ERR_SOURCE);
	cr_expect_eq(world_load(w), SHMETA_ERR_SOURCE);
	cr_expect(strstr(w->err.text, "password authentication failed") != NULL, "%s", w->err.text);
	cr_expect(strstr(w->err.text, "first") == NULL, "%s", w->err.text);
	world_close(w); /* whose pause after a refused password is long */
	out = fopen(file, "we");
	fputs("second", out);
	fclose(out);
	world_open(w);
	ok(world_load(w));
	cr_expect_eq(w->recorder.topics, 1);
	unlink(file);
	world_free(w);
	pg_cluster_stop(&cluster);
}

/* ---- a replica, and the hint ---- */

static void await_number(PGconn *conn, const char *sql, int64_t wanted)
{
	for (int i = 0; i < 1000; i++) {
		PGresult *result = PQexec(conn, sql);
		int64_t number = PQntuples(result) == 1 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : -1;

		PQclear(result);
		if (number >= wanted)
			return;
		nap_ms(10);
	}
	cr_assert_fail("%s never reached %" PRId64, sql, wanted);
}

Test(postgres, a_replica_is_read_and_never_shows_less_than_was_told)
{
	static char read_uri[200];
	struct pg_cluster cluster, standby;
	struct backend_key keys[] = {partition_key("t", 0), partition_key("t", 1)};
	struct world world, *w = &world;
	PGconn *there;

	begin_alone(w, &cluster);
	world_topic(w, NULL, "t", 2, -1, NULL);
	pg_cluster_start_standby(&standby, &cluster);
	there = pg_cluster_connect(&standby, PQdb(w->pg));
	pg_cluster_uri(&standby, PQdb(w->pg), read_uri, sizeof read_uri);
	world_close(w);
	w->options.read_uri = read_uri;
	world_open(w);
	ok(world_load(w));
	cr_expect_eq(w->recorder.partitions, 2);
	await_number(there, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shmetad'", 1);
	/* Behind: what the feed told of is read from the primary. */
	pg_cluster_sql(there, "SELECT pg_wal_replay_pause()");
	for (uint64_t i = 1; i <= 3; i++) {
		world_watermark(w, NULL, "t", 0, i);
		ok(world_changes(w));
		cr_expect_eq(w->changed, 1);
		ok(world_fetch(w, keys, 2));
		cr_expect(recorder_has(&w->recorder, "t/0 watermark=") &&
		                  strstr(recorder_text(&w->recorder), "t/0 watermark=0") == NULL,
		          "%s", recorder_text(&w->recorder));
	}
	has("t/0 watermark=3");
	/* A load does not wait for it for ever either. */
	ok(world_load(w));
	has("t/0 watermark=3");
	pg_cluster_sql(there, "SELECT pg_wal_replay_resume()");
	await_number(there, "SELECT high_watermark FROM partitions WHERE topic = 't' AND partition_id = 0", 3);
	ok(world_changes(w));
	ok(world_fetch(w, keys, 2));
	has("t/0 watermark=3");
	/* Gone: nobody notices. */
	PQfinish(there);
	pg_cluster_stop(&standby);
	world_watermark(w, NULL, "t", 1, 9);
	ok(world_changes(w));
	ok(world_fetch(w, keys, 2));
	has("t/1 watermark=9");
	ok(world_load(w));
	world_free(w);
	pg_cluster_stop(&cluster);
}

/* Planned while the log is empty, asked again when it is long: a poll looks at what came since the
 * one before. */
Test(postgres, a_poll_reads_what_is_new_however_long_the_log_has_become)
{
	enum { ROWS = 3000, POLLS = 20 };
	struct world world, *w = &world;
	int64_t read;

	begin(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	for (int i = 0; i < POLLS; i++)
		ok(world_changes(w));
	for (int i = 0; i < ROWS / 100; i++) {
		world_sql(
			w,
			"DO 'BEGIN FOR i IN 1..100 LOOP UPDATE partitions SET high_watermark = high_watermark + 1; END LOOP; "
			"END'");
		ok(world_changes(w));
	}
	for (int i = 0; i < POLLS; i++)
		ok(world_changes(w));
	world_close(w);
	await_number(w->pg,
	             "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
	             "pid <> pg_backend_pid() AND backend_type = 'client backend'",
	             0);
	read = world_sql_number(
		w, "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'shmeta_changes') + "
		   "(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'shmeta_changes')");
	cr_expect_geq(read, ROWS);
	cr_expect_lt(read, 4 * ROWS, "%" PRId64 " rows were read for %d", read, ROWS);
	world_free(w);
}

Test(postgres, what_is_fetched_is_found_by_index_whatever_the_tables_were_when_it_was_planned)
{
	enum { ROWS = 20000, FETCHES = 12 };
	struct world world, *w = &world;
	struct backend_key keys[] = {partition_key("t", 0), partition_key("u", 0), partition_key("t", 0)};
	int64_t read;

	begin(w);
	keys[0].cls = SHMETA_CLASS_SEGMENT;
	keys[0].from = 10 * (ROWS - 1);
	keys[0].to = INT64_MAX;
	keys[1].cls = SHMETA_CLASS_TOPIC;
	keys[1].with_segments = true;
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_topic(w, NULL, "u", 1, -1, NULL);
	/* Planned while there is nothing, asked again when there is much, and planned again when
	 * the server knows that t has it all. */
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < FETCHES; i++) {
			ok(world_fetch(w, keys, 1));
			ok(world_fetch(w, keys, 3));
		}
		if (round == 0)
			world_sql(w,
			          "INSERT INTO segments SELECT b::text, 't', 0, 10 * b, 10 * b + 9, 10, 1, 'b', 'k', 0 "
			          "FROM generate_series(0, %d) b",
			          ROWS - 1);
		else if (round == 1)
			world_sql(w, "ANALYZE");
	}
	/* What a session has read is counted by the time it has gone. */
	world_close(w);
	await_number(w->pg,
	             "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
	             "pid <> pg_backend_pid() AND backend_type = 'client backend'",
	             0);
	read = world_sql_number(w, "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'segments') + "
	                           "(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'segments')");
	cr_expect_lt(read, 10 * FETCHES, "%" PRId64 " rows were read for %d", read, 4 * FETCHES);
	world_free(w);
}

Test(postgres, where_it_is_asked_for_a_commit_wakes_us)
{
	struct world world, *w = &world;
	struct pollfd poller = {.events = POLLIN};

	begin(w);
	cr_expect_eq(w->ops->feed->wake_fd(w->state), -1);
	world_close(w);
	w->options.notify = 1;
	world_open(w);
	world_topic(w, NULL, "t", 1, -1, NULL);
	ok(world_load(w));
	ok(world_changes(w));
	for (uint64_t i = 1; i <= 3; i++) {
		poller.fd = w->ops->feed->wake_fd(w->state);
		cr_assert_geq(poller.fd, 0);
		world_watermark(w, NULL, "t", 0, i);
		cr_assert_eq(poll(&poller, 1, 10000), 1, "nothing came");
		ok(world_changes(w));
		cr_expect_eq(w->changed, 1);
		cr_expect_eq(poll(&poller, 1, 0), 0, "still readable after changes()");
	}
	pg_world_end_sessions(w);
	world_watermark(w, NULL, "t", 0, 7);
	until_ok(w, world_changes);
	cr_expect_eq(w->changed, 1);
	world_free(w);
}
