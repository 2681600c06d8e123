/* SPDX-License-Identifier: Apache-2.0
 * The contract of backends/backend.h, sentence by sentence, over every engine: memory, SQLite and
 * PostgreSQL, each with shmeta's own schema and attached to a StreamHouse database of each shape;
 * and but for its feed over CockroachDB's dialect. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/rows.h"
#include "tests/support/memory_faults.h"
#include "tests/support/skeleton_engine.h"
#include "tests/support/source_world.h"

static const char *const other_tenant = WORLD_OTHER_TENANT;

/* The suite's alone: a test's own beside it makes Criterion's runner leak. */
TestSuite(memory, .timeout = 60);
TestSuite(memory_with_faults, .timeout = 60);
TestSuite(skeleton, .timeout = 60);
TestSuite(sqlite_own_schema, .timeout = 60);
TestSuite(sqlite_streamhouse_v01, .timeout = 60);
TestSuite(sqlite_streamhouse_later, .timeout = 60);
TestSuite(postgresql_own_schema, .timeout = 60);
TestSuite(postgresql_streamhouse_v01, .timeout = 60);
TestSuite(postgresql_streamhouse_later, .timeout = 60);
TestSuite(cockroachdb_dialect, .timeout = 60);
TestSuite(dynamodb, .timeout = 60);

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	(void)set;
	world_servers_start();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	world_servers_stop();
}

/* A claim is a function over a world; it becomes one test for each engine that has a feed. */
#define FEED_CLAIM(claim)                         \
	static void claim(struct world *w);       \
	Test(dynamodb, claim)                     \
	{                                         \
		prove(WORLD_DYNAMODB, claim);     \
	}                                         \
	Test(memory, claim)                       \
	{                                         \
		prove(WORLD_MEMORY, claim);       \
	}                                         \
	Test(memory_with_faults, claim)           \
	{                                         \
		prove(WORLD_FAULTS, claim);       \
	}                                         \
	Test(sqlite_own_schema, claim)            \
	{                                         \
		prove(WORLD_SQLITE_NEW, claim);   \
	}                                         \
	Test(sqlite_streamhouse_v01, claim)       \
	{                                         \
		prove(WORLD_SQLITE_V01, claim);   \
	}                                         \
	Test(sqlite_streamhouse_later, claim)     \
	{                                         \
		prove(WORLD_SQLITE_LATER, claim); \
	}                                         \
	Test(postgresql_own_schema, claim)        \
	{                                         \
		prove(WORLD_PG_NEW, claim);       \
	}                                         \
	Test(postgresql_streamhouse_v01, claim)   \
	{                                         \
		prove(WORLD_PG_V01, claim);       \
	}                                         \
	Test(postgresql_streamhouse_later, claim) \
	{                                         \
		prove(WORLD_PG_LATER, claim);     \
	}                                         \
	static void claim(struct world *w)

/* And for the one that has none: a PostgreSQL, asked as CockroachDB is. */
#define CLAIM(claim)                           \
	static void claim(struct world *w);    \
	Test(cockroachdb_dialect, claim)       \
	{                                      \
		prove(WORLD_COCKROACH, claim); \
	}                                      \
	FEED_CLAIM(claim)

/* And for one that is only read, and a topic at a time. */
#define READ_CLAIM(claim)                     \
	static void claim(struct world *w);   \
	Test(skeleton, claim)                 \
	{                                     \
		prove(WORLD_SKELETON, claim); \
	}                                     \
	CLAIM(claim)

static void prove(enum world_engine engine, void (*claim)(struct world *world))
{
	struct world world;

	if (!world_possible(engine))
		cr_skip_test("there is no PostgreSQL server on this machine");
	world_make(&world, engine);
	world_open(&world);
	claim(&world);
	cr_expect_str_empty(world.recorder.order_error, "%s", world.recorder.order_error);
	world_free(&world);
}

/* What an engine or its source says of itself; R2 and R5 are those of docs/backends.md. */
#define SKIP_WHERE(it_is, why)             \
	do {                               \
		if (it_is) {               \
			world_free(w);     \
			cr_skip_test(why); \
		}                          \
	} while (0)
#define BRACKETED (w->ops->limits.moment == BACKEND_BRACKETED)

#define ok(call) cr_assert_eq((call), SHMETA_OK, "%s", w->err.text)
#define has(part) \
	cr_expect(recorder_has(&w->recorder, (part)), "no line with '%s' in:\n%s", (part), recorder_text(&w->recorder))
#define has_not(part)                                                                         \
	cr_expect_not(recorder_has(&w->recorder, (part)), "a line with '%s' in:\n%s", (part), \
	              recorder_text(&w->recorder))

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static struct backend_key topic_key(const char *topic, bool with_segments)
{
	return (struct backend_key){.cls = SHMETA_CLASS_TOPIC,
	                            .tenant = str(SHMETA_DEFAULT_TENANT),
	                            .topic = str(topic),
	                            .with_segments = with_segments};
}

static struct backend_key partition_key(const char *topic, uint32_t id)
{
	return (struct backend_key){.cls = SHMETA_CLASS_PARTITION,
	                            .tenant = str(SHMETA_DEFAULT_TENANT),
	                            .topic = str(topic),
	                            .partition_id = id};
}

static struct backend_key segment_key(const char *topic, uint32_t id, uint64_t from, uint64_t to)
{
	struct backend_key key = partition_key(topic, id);

	key.cls = SHMETA_CLASS_SEGMENT;
	key.from = from;
	key.to = to;
	return key;
}

/* Two topics, three partitions, five segments, and one of each other thing. */
static void fill(struct world *w)
{
	static const char *const config[] = {"b", "2", "a", "1", "cleanup.policy", "compact", NULL};
	static const char *const metadata[] = {"version", "7", NULL};

	world_topic(w, NULL, "orders", 2, 86400000, config);
	world_topic(w, NULL, "B", 1, -1, NULL);
	for (uint64_t base = 0; base < 30; base += 10)
		world_segment(w, NULL, "orders", 0, base, base + 9);
	world_segment(w, NULL, "orders", 1, 0, 99);
	world_segment(w, NULL, "B", 0, 5, 5);
	world_watermark(w, NULL, "orders", 0, 30);
	world_watermark(w, NULL, "orders", 1, 100);
	world_agent(w, "agent-1", 5, metadata);
	world_group(w, NULL, "readers");
	world_offset(w, NULL, "readers", "orders", 0, 12, "note");
	world_offset(w, NULL, "readers", "orders", 1, 0, NULL);
	world_lease(w, NULL, "orders", 1, "agent-1", 3);
}

/* ---- load ---- */

READ_CLAIM(load_of_an_empty_source_is_empty)
{
	ok(world_load(w));
	cr_expect_str_empty(recorder_text(&w->recorder));
}

READ_CLAIM(load_gives_every_row_with_every_field_in_nested_order)
{
	char expected[4096], times[2][40], *at = expected;
	const char *t = SHMETA_DEFAULT_TENANT, *policy = w->policies ? "delete" : "";

	fill(w);
	ok(world_load(w));
	at += sprintf(
		at,
		"topic %s B partitions=1 retention=none:0 created=1700000000000 updated=1700000000000 policy=%s id=0\n",
		t, policy);
	at += sprintf(at, "partition %s B/0 watermark=0 created=1700000000000 updated=1700000000000\n", t);
	sprintf(times[0], w->timestamps ? "5..5" : "0..0");
	at += sprintf(
		at,
		"segment %s B/0 5..5 size=100 records=1 created=1700000000000 times=%s id=00000000-B-0-5 bucket=bucket "
		"key=data/B/0/00000000000000000005.seg\n",
		t, times[0]);
	at += sprintf(
		at,
		"topic %s orders partitions=2 retention=86400000 created=1700000000000 updated=1700000000000 policy=%s "
		"id=0\nconfig orders a=1\nconfig orders b=2\nconfig orders cleanup.policy=compact\n",
		t, policy);
	at += sprintf(at, "partition %s orders/0 watermark=30 created=1700000000000 updated=1700000000000\n", t);
	for (int base = 0; base < 30; base += 10) {
		sprintf(times[1], w->timestamps ? "%d..%d" : "0..0", base, base + 9);
		at += sprintf(at,
		              "segment %s orders/0 %d..%d size=1000 records=10 created=1700000000000 times=%s "
		              "id=00000000-orders-0-%d bucket=bucket key=data/orders/0/%020d.seg\n",
		              t, base, base + 9, times[1], base, base);
	}
	at += sprintf(at, "partition %s orders/1 watermark=100 created=1700000000000 updated=1700000000000\n", t);
	sprintf(times[1], w->timestamps ? "0..99" : "0..0");
	at += sprintf(
		at,
		"segment %s orders/1 0..99 size=10000 records=100 created=1700000000000 times=%s id=00000000-orders-1-0 "
		"bucket=bucket key=data/orders/1/00000000000000000000.seg\n",
		t, times[1]);
	at += sprintf(at,
	              "agent %s agent-1 address=agent-1:9092 zone=zone group=group heartbeat=5 started=1700000000000\n"
	              "metadata agent version=7\n",
	              t);
	at += sprintf(at, "group %s readers created=1700000000000 updated=1700000000000\n", t);
	at += sprintf(at, "offset %s readers orders/0 committed=12 at=1700000000000 metadata=note id=0\n", t);
	at += sprintf(at, "offset %s readers orders/1 committed=0 at=1700000000000 metadata=none id=0\n", t);
	sprintf(at, "lease %s orders/1 leader=agent-1 expires=1700000001000 acquired=1700000000000 epoch=3 id=0\n", t);
	cr_expect_str_eq(recorder_text(&w->recorder), expected);
	cr_expect_eq(w->recorder.quarantined, 0);
}

READ_CLAIM(names_are_ordered_by_their_bytes)
{
	static const char *const names[] = {"b", "a2", "\xc3\xa9", "a10", "B", "z_", "a1"};
	static const char *const sorted[] = {"B", "a1", "a10", "a2", "b", "z_", "\xc3\xa9"};
	const char *at;

	for (size_t i = 0; i < 7; i++)
		world_topic(w, NULL, names[i], 1, -1, NULL);
	ok(world_load(w));
	at = recorder_text(&w->recorder);
	for (size_t i = 0; i < 7; i++) {
		char line[100];

		snprintf(line, sizeof line, "topic %s %s ", SHMETA_DEFAULT_TENANT, sorted[i]);
		at = strstr(at, line);
		cr_assert_not_null(at, "%s is not in its place in:\n%s", sorted[i], recorder_text(&w->recorder));
	}
}

CLAIM(tenants_are_told_apart)
{
	if (!w->tenants)
		return;
	world_topic(w, other_tenant, "orders", 1, -1, NULL);
	world_topic(w, NULL, "orders", 1, -1, NULL);
	world_segment(w, other_tenant, "orders", 0, 0, 7);
	ok(world_changes(w));
	ok(world_load(w));
	cr_expect_eq(w->recorder.topics, 2);
	has("segment 11111111-2222-4333-8444-555555555555 orders/0 0..7");
	has_not("segment 00000000-0000-0000-0000-000000000000");
	world_segment(w, other_tenant, "orders", 0, 8, 9);
	ok(world_changes(w));
	has("changed segment 11111111-2222-4333-8444-555555555555 orders/0 8..8");
	cr_expect_eq(w->recorder.changed, 1);
	struct backend_key keys[] = {segment_key("orders", 0, 0, 100), segment_key("orders", 0, 0, 100)};
	keys[1].tenant = str(other_tenant);
	ok(world_fetch(w, keys, 2));
	cr_expect_eq(w->recorder.segments, 2);
	has_not("segment 00000000-0000-0000-0000-000000000000 orders/0 0..7");
}

READ_CLAIM(a_tenant_that_a_source_cannot_have_is_absent)
{
	struct backend_key key = topic_key("orders", true);

	fill(w);
	key.tenant = str("nobody");
	ok(world_fetch(w, &key, 1));
	cr_expect_eq(w->recorder.topics, 0);
	has("end topic nobody orders with_segments absent");
}

READ_CLAIM(progress_ends_with_the_number_of_rows)
{
	fill(w);
	ok(world_load(w));
	cr_expect_geq(w->recorder.progressed, 1);
	cr_expect_eq(w->recorder.progress_done, 15, "%" PRIu64, w->recorder.progress_done);
	cr_expect_eq(w->recorder.progress_total, w->recorder.progress_done);
}

READ_CLAIM(progress_comes_at_least_every_100000_rows)
{
	enum { MANY = 130000 };

	SKIP_WHERE(w->slow, "so many segments take an emulator minutes");
	world_topic(w, NULL, "many", 1, -1, NULL);
	if (w->app != NULL)
		world_sql(
			w,
			"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
			"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
			"s3_bucket, s3_key, created_at) SELECT i, 'many', 0, i, i, 1, 1, 'b', i, 0 FROM n",
			MANY - 1);
	else if (w->pg != NULL)
		world_sql(
			w,
			"INSERT INTO segments(%sid, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
			"s3_bucket, s3_key, created_at) SELECT %si::text, 'many', 0, i, i, 1, 1, 'b', i::text, 0 FROM "
			"generate_series(0, %d) i",
			w->tenants ? "organization_id, " : "", w->tenants ? "'" SHMETA_DEFAULT_TENANT "', " : "",
			MANY - 1);
	for (uint64_t base = 0; w->memory != NULL && base < MANY; base++) {
		char name[24];

		snprintf(name, sizeof name, "%" PRIu64, base);
		world_segment_named(w, NULL, "many", 0, base, base, name);
	}
	w->recorder.quiet = 1;
	ok(world_load(w));
	cr_expect_eq(w->recorder.segments, MANY);
	cr_expect_geq(w->recorder.progressed, 2);
}

/* ---- what the sink answers ---- */

READ_CLAIM(a_sink_that_stops_ends_load_with_its_own_status)
{
	fill(w);
	for (uint64_t rows = 1; rows <= 14; rows++) {
		w->recorder.stop_after = rows;
		w->recorder.stop_status = SHMETA_ERR_FULL;
		cr_assert_eq(world_load(w), SHMETA_ERR_FULL, "after %" PRIu64 " rows", rows);
		cr_assert_eq(w->recorder.topics + w->recorder.partitions + w->recorder.segments + w->recorder.agents +
		                     w->recorder.groups + w->recorder.offsets + w->recorder.leases,
		             rows);
	}
	w->recorder.stop_after = 0;
	ok(world_load(w));
	cr_expect_eq(w->recorder.segments, 5);
}

READ_CLAIM(a_sink_that_stops_ends_fetch_with_its_own_status)
{
	struct backend_key keys[] = {topic_key("orders", true),
	                             segment_key("B", 0, 0, 9),
	                             partition_key("orders", 1),
	                             {.cls = SHMETA_CLASS_OFFSET}};

	fill(w);
	for (uint64_t rows = 1; rows <= 13; rows++) {
		w->recorder.stop_after = rows;
		cr_assert_eq(world_fetch(w, keys, 4), SHMETA_ERR_FULL, "after %" PRIu64 " rows", rows);
	}
	w->recorder.stop_after = 0;
	ok(world_fetch(w, keys, 4));
	cr_expect_eq(w->recorder.keys_ended, 4);
}

static enum shmeta_status stop_in_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)done;
	(void)total;
	return SHMETA_ERR_WRITER_AWAY;
}

READ_CLAIM(progress_that_stops_ends_load_with_its_own_status)
{
	fill(w);
	w->recorder.sink.progress = stop_in_progress;
	cr_expect_eq(world_load(w), SHMETA_ERR_WRITER_AWAY);
}

FEED_CLAIM(changes_that_the_sink_refused_are_told_again)
{
	ok(world_load(w));
	world_topic(w, NULL, "a", 1, -1, NULL);
	world_topic(w, NULL, "b", 1, -1, NULL);
	w->recorder.stop_after = 1;
	cr_expect_eq(world_changes(w), SHMETA_ERR_FULL);
	cr_expect_eq(w->changed, 0);
	w->recorder.stop_after = 0;
	ok(world_changes(w));
	cr_expect_eq(w->changed, 1);
	has(" a with_segments deleted");
	has(" b with_segments deleted");
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
	cr_expect_eq(w->recorder.changed, 0);
}

/* ---- quarantined rows ---- */

/* A row that only a hand with foreign keys off can write. */
static void unchecked(struct world *w, const char *sql)
{
	if (w->pg != NULL) {
		if (w->tenants)
			world_sql(w, "ALTER TABLE segments ALTER COLUMN organization_id SET DEFAULT %Q",
			          SHMETA_DEFAULT_TENANT);
		world_sql(w,
		          "SET session_replication_role = replica; ALTER TABLE segments DROP CONSTRAINT IF EXISTS "
		          "segments_check; %s; RESET session_replication_role",
		          sql);
		return;
	}
	world_sql(w,
	          "PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; %s; PRAGMA foreign_keys=ON; "
	          "PRAGMA ignore_check_constraints=OFF",
	          sql);
}

static void raw_segment(struct world *w, const char *topic, const char *id, int64_t base, int64_t end, const char *key)
{
	if (w->memory != NULL) {
		struct shmeta_segment segment = {.base_offset = (uint64_t)base,
		                                 .end_offset = (uint64_t)end,
		                                 .id = str(id),
		                                 .s3_bucket = str("bucket"),
		                                 .s3_key = str(key)};

		memory_put_segment(w->memory, NULL, topic, &segment);
	} else {
		char *sql = sqlite3_mprintf(
			"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
			"s3_bucket, s3_key, created_at) VALUES(%Q, %Q, 0, %lld, %lld, 1, 1, 'bucket', %Q, 0)",
			id, topic, (long long)base, (long long)end, key);

		unchecked(w, sql);
		sqlite3_free(sql);
	}
}

READ_CLAIM(rows_that_cannot_be_are_quarantined_and_the_others_are_served)
{
	static char long_key[1100];

	SKIP_WHERE(w->own_rows_only, "R5: rows come by shmeta's own operations, which let none of these in");
	memset(long_key, 'k', sizeof long_key - 1);
	fill(w);
	raw_segment(w, "nowhere", "orphan", 0, 9, "k");
	raw_segment(w, "B", "backwards", 100, 90, "k");
	raw_segment(w, "B", "negative", -5, 90, "k");
	if (w->pg == NULL) /* which lets nothing in that is not UTF-8 */
		raw_segment(w, "B", "not text", 200, 210, "\xff\xfe");
	raw_segment(w, "B", "too long", 300, 310, long_key);
	for (int pass = 0; pass < 2; pass++) {
		struct backend_key key = topic_key("B", true);

		ok(pass == 0 ? world_load(w) : world_fetch(w, &key, 1));
		cr_expect_eq(w->recorder.quarantined, (pass == 0 ? 5 : 4) - (w->pg != NULL), "%s",
		             recorder_text(&w->recorder));
		cr_expect_eq(w->recorder.segments, pass == 0 ? 5 : 1);
		has("base_offset 100: end_offset 90 is below base_offset 100");
		has("(-5 in the source)");
		if (w->pg == NULL)
			has("s3_key '\\xff\\xfe' is not UTF-8");
		has("has 1099 bytes; the limit is 1024");
		if (pass == 0)
			has("segment of topic 'nowhere', partition 0, base_offset 0: there is no such partition");
	}
}

READ_CLAIM(a_second_segment_at_a_base_is_quarantined_and_the_first_stays)
{
	SKIP_WHERE(w->own_rows_only, "R5: rows come by shmeta's own operations, which let none of these in");
	if (w->engine == WORLD_SQLITE_NEW || w->engine == WORLD_SQLITE_V01 || w->pg != NULL)
		return; /* their unique index does not let it in */
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_segment_named(w, NULL, "t", 0, 10, 19, "z-first");
	world_segment_named(w, NULL, "t", 0, 10, 15, "a-second");
	world_segment_named(w, NULL, "t", 0, 20, 29, "after");
	for (int pass = 0; pass < 3; pass++) {
		struct backend_key key = pass == 1 ? topic_key("t", true) : segment_key("t", 0, 10, 10);

		ok(pass == 0 ? world_load(w) : world_fetch(w, &key, 1));
		cr_expect_eq(w->recorder.quarantined, 1);
		has("t/0 10..19");
		has_not("t/0 10..15");
		has("it is there twice; left out: 'a-second'");
	}
}

READ_CLAIM(bad_topics_and_watermarks_are_quarantined_with_all_that_hangs_below)
{
	static char long_name[260];

	SKIP_WHERE(w->own_rows_only, "R5: rows come by shmeta's own operations, which let none of these in");
	memset(long_name, 'n', 250);
	fill(w);
	if (w->memory != NULL) {
		world_topic(w, NULL, long_name, 1, -1, NULL);
		world_topic(w, NULL, "tab\there", 1, -1, NULL);
		world_topic(w, NULL, "", 1, -1, NULL);
		world_topic(w, NULL, "\xff", 1, -1, NULL);
	} else {
		world_topic(w, NULL, long_name, 1, -1, NULL);
		world_topic(w, NULL, "tab\there", 1, -1, NULL);
		world_topic(w, NULL, "", 1, -1, NULL);
		if (w->pg == NULL)
			world_topic(w, NULL, "\xff", 1, -1, NULL);
	}
	world_segment(w, NULL, "tab\there", 0, 0, 9);
	world_watermark(w, NULL, "B", 0, (uint64_t)-1);
	ok(world_load(w));
	cr_expect_eq(w->recorder.topics, 2);
	cr_expect_eq(w->recorder.partitions, 2);
	cr_expect_eq(w->recorder.segments, 4);
	/* four topics, their four partitions, the segment below one of them; the partition of B and
	 * its segment */
	cr_expect_eq(w->recorder.quarantined, w->pg == NULL ? 11 : 9, "%s", recorder_text(&w->recorder));
	has("has 250 bytes; the limit is 249");
	has("name 'tab\\x09here' has a control character");
	has("name is empty");
	if (w->pg == NULL)
		has("name '\\xff' is not UTF-8");
	has("high_watermark is");
	struct backend_key keys[] = {topic_key("tab\there", true), partition_key("B", 0)};
	ok(world_fetch(w, keys, 2));
	cr_expect_eq(w->recorder.topics + w->recorder.partitions + w->recorder.segments, 0);
	has("here with_segments absent");
	has("B/0 absent");
}

/* By load() and by fetch(): class, tenant, topic, name, partition, base and end offset, and what
 * could not be read. */
READ_CLAIM(every_kind_of_bad_row_is_reported_with_its_key)
{
	static const char of[] = SHMETA_DEFAULT_TENANT " ";
	char line[200];

	SKIP_WHERE(w->own_rows_only, "R5: rows come by shmeta's own operations, which let none of these in");
	fill(w);
	world_topic(w, NULL, "tab\there", 1, -1, NULL);
	world_watermark(w, NULL, "orders", 1, (uint64_t)-1);
	raw_segment(w, "B", "backwards", 100, 90, "k");
	raw_segment(w, "B", "negative", -5, 90, "k");
	world_agent(w, "bad\tagent", 1, NULL);
	world_group(w, NULL, "bad\tgroup");
	world_offset(w, NULL, "readers", "B", 0, (uint64_t)-3, NULL);
	world_lease(w, NULL, "B", 0, "agent-1", (uint64_t)-1);

	const struct backend_key keys[] = {
		topic_key("tab\there", true),
		segment_key("orders", 1, 0, INT64_MAX),
		topic_key("B", true),
		{.cls = SHMETA_CLASS_AGENT, .tenant = str(SHMETA_DEFAULT_TENANT), .name = str("bad\tagent")},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = str(SHMETA_DEFAULT_TENANT), .name = str("bad\tgroup")},
		{.cls = SHMETA_CLASS_OFFSET,
	         .tenant = str(SHMETA_DEFAULT_TENANT),
	         .name = str("readers"),
	         .topic = str("B")},
		{.cls = SHMETA_CLASS_LEASE, .tenant = str(SHMETA_DEFAULT_TENANT), .topic = str("B")},
	};
	static const struct {
		enum shmeta_class cls;
		const char *rest;
	} rows[] = {
		{SHMETA_CLASS_TOPIC, "topic=tab\there name=/0 0..0 unread=0: topic 'tab\\x09here': name"},
		{SHMETA_CLASS_PARTITION, "topic=tab\there name=/0 0..0 unread=0: "},
		{SHMETA_CLASS_PARTITION, "topic=orders name=/1 0..0 unread=0: row of topic 'orders', partition 1: "},
		{SHMETA_CLASS_SEGMENT, "topic=orders name=/1 0.."}, /* below a bad partition */
		{SHMETA_CLASS_SEGMENT, "topic=B name=/0 100.."},
		{SHMETA_CLASS_SEGMENT, "topic=B name=/0 0.."}, /* a base below 0 is none */
		{SHMETA_CLASS_AGENT, "topic= name=bad\tagent/0 0..0 unread=0: agent 'bad\\x09agent': "},
		{SHMETA_CLASS_OFFSET, "topic= name=bad\tgroup/0 0..0 unread=0: consumer group 'bad\\x09group': "},
		{SHMETA_CLASS_OFFSET,
	         "topic=B name=readers/0 0..0 unread=0: committed offset of group 'readers', topic 'B', partition 0: "},
		{SHMETA_CLASS_LEASE, "topic=B name=/0 0..0 unread=0: lease of topic 'B', partition 0: "},
	};

	for (int pass = 0; pass < 2; pass++) {
		ok(pass == 0 ? world_load(w) : world_fetch(w, keys, sizeof keys / sizeof keys[0]));
		cr_expect_eq(w->recorder.quarantined, sizeof rows / sizeof rows[0], "%s", recorder_text(&w->recorder));
		for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
			(void)snprintf(line, sizeof line, "quarantined %d %s%s", (int)rows[i].cls, of, rows[i].rest);
			has(line);
		}
		has("..9223372036854775807 unread=16: segment of topic 'B', partition 0: ");
	}
}

READ_CLAIM(a_map_that_is_none_is_empty)
{
	SKIP_WHERE(w->own_rows_only, "R5: rows come by shmeta's own operations, which let none of these in");
	if (w->memory != NULL)
		return; /* maps come packed */
	world_topic(w, NULL, "t", 1, -1, NULL);
	static const char *const bad[] = {"",
	                                  "{",
	                                  "[]",
	                                  "\"a\"",
	                                  "{\"a\":1}",
	                                  "{\"a\":\"b\",\"c\":null}",
	                                  "{\"a\":\"b\"} x",
	                                  "null",
	                                  "{\"a\":\"\\u0000\"}",
	                                  "{\"a\":{\"b\":\"c\"}}"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (w->pg != NULL && (i < 2 || strstr(bad[i], " x") != NULL || strstr(bad[i], "u0000") != NULL))
			continue; /* JSONB takes no such thing */
		world_sql(w, "UPDATE topics SET config = %Q", bad[i]);
		ok(world_load(w));
		cr_expect_eq(w->recorder.topics, 1, "%s", bad[i]);
		has_not("config t");
	}
	world_sql(w, "UPDATE topics SET config = '{\"z\":\"1\",\"\":\"empty\",\"z\":\"2\",\"\\u00e9\":\"\"}'");
	ok(world_load(w));
	has("config t =empty\nconfig t z=2\nconfig t \xc3\xa9=\n");
}

READ_CLAIM(a_map_of_more_than_64_kib_is_quarantined)
{
	SKIP_WHERE(w->own_rows_only, "R5: rows come by shmeta's own operations, which let none of these in");
	char *big = malloc(70000);

	cr_assert_not_null(big);
	if (w->memory == NULL) {
		world_topic(w, NULL, "t", 1, -1, NULL);
		memset(big, 'x', 65536 - 8 - 1);
		big[65536 - 8 - 1] = '\0';
		world_sql(w, "UPDATE topics SET config = '{\"k\":\"%s\"}'", big);
		ok(world_load(w));
		cr_expect_eq(w->recorder.topics, 1, "exactly 64 KiB fit");
		world_sql(w, "UPDATE topics SET config = '{\"k\":\"%sy\"}'", big);
		ok(world_load(w));
		cr_expect_eq(w->recorder.topics, 0);
		has("the map has more than 65536 bytes");
	}
	free(big);
}

/* ---- fetch ---- */

READ_CLAIM(fetch_answers_every_key_in_its_order_and_says_what_is_absent)
{
	struct backend_key keys[] = {
		partition_key("orders", 1),
		segment_key("orders", 0, 10, 19),
		topic_key("gone", true),
		topic_key("B", false),
		partition_key("orders", 9),
		segment_key("gone", 0, 0, UINT64_MAX),
		{.cls = SHMETA_CLASS_LEASE},
		topic_key("orders", true),
		segment_key("orders", 1, 1, 50),
		segment_key("orders", 0, 10, 19),
		{.cls = SHMETA_CLASS_AGENT},
		{.cls = SHMETA_CLASS_OFFSET},
		segment_key("orders", 0, 20, UINT64_MAX),
	};
	size_t count = sizeof keys / sizeof keys[0];
	const char *t = SHMETA_DEFAULT_TENANT;
	char expected[600];

	fill(w);
	ok(world_fetch(w, keys, count));
	cr_expect_eq(w->recorder.keys_begun, count);
	cr_expect_eq(w->recorder.keys_ended, count);
	snprintf(expected, sizeof expected,
	         "begin partition %s orders/1\n"
	         "partition %s orders/1 watermark=100 created=1700000000000 updated=1700000000000\n"
	         "end partition %s orders/1 found\n"
	         "begin segment %s orders/0 10..19\n"
	         "partition %s orders/0 watermark=30 created=1700000000000 updated=1700000000000\n"
	         "segment %s orders/0 10..19 ",
	         t, t, t, t, t, t);
	cr_expect_eq(strncmp(recorder_text(&w->recorder), expected, strlen(expected)), 0, "%s",
	             recorder_text(&w->recorder));
	has("end topic 00000000-0000-0000-0000-000000000000 gone with_segments absent");
	has("end topic 00000000-0000-0000-0000-000000000000 B found");
	has("end partition 00000000-0000-0000-0000-000000000000 orders/9 absent");
	has("gone/0 0..18446744073709551615 absent");
	has("end lease found");
	has("end agent found");
	has("end offset found");
	/* topics: B, orders; segments: 1, all 4 of orders, none, 1, 1 */
	cr_expect_eq(w->recorder.topics, 2);
	cr_expect_eq(w->recorder.segments, 7);
	cr_expect_eq(w->recorder.groups, 1);
	cr_expect_eq(w->recorder.offsets, 2);
	cr_expect_eq(w->recorder.quarantined, 0);
}

READ_CLAIM(agents_offsets_and_leases_are_fetched_one_by_one)
{
	const struct shmeta_str t = str(SHMETA_DEFAULT_TENANT);
	struct backend_key keys[] = {
		{.cls = SHMETA_CLASS_AGENT, .tenant = t, .name = str("agent-2")},
		{.cls = SHMETA_CLASS_AGENT, .tenant = t, .name = str("agent")},
		{.cls = SHMETA_CLASS_OFFSET,
	         .tenant = t,
	         .name = str("readers"),
	         .topic = str("orders"),
	         .partition_id = 1},
		{.cls = SHMETA_CLASS_OFFSET,
	         .tenant = t,
	         .name = str("others"),
	         .topic = str("orders"),
	         .partition_id = 0},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = t, .name = str("readers")},
		{.cls = SHMETA_CLASS_LEASE, .tenant = t, .topic = str("orders"), .partition_id = 0},
		{.cls = SHMETA_CLASS_LEASE, .tenant = t, .topic = str("orders"), .partition_id = 1},
		partition_key("orders", 1),
		{.cls = SHMETA_CLASS_LEASE, .tenant = t, .topic = str("B"), .partition_id = 1},
		{.cls = SHMETA_CLASS_OFFSET, .tenant = t, .name = str("nobody")},
	};
	size_t count = sizeof keys / sizeof keys[0], agents = 1, groups = 3, offsets = 3, leases = 1;
	static const char *const parts[] = {"agent", "group", "offset", "lease"};
	size_t rows[4] = {0};

	fill(w);
	world_agent(w, "agent-2", 6, NULL);
	world_agent(w, "agent-3", 7, NULL);
	world_group(w, NULL, "others");
	world_offset(w, NULL, "others", "B", 0, 3, NULL);
	world_lease(w, NULL, "B", 0, "agent-2", 1);
	ok(world_fetch(w, keys, count));
	cr_expect_eq(w->recorder.keys_begun, count);
	cr_expect_eq(w->recorder.keys_ended, count);
	cr_expect_eq(w->recorder.agents, agents);
	cr_expect_eq(w->recorder.groups, groups, "%s", recorder_text(&w->recorder));
	cr_expect_eq(w->recorder.offsets, offsets, "%s", recorder_text(&w->recorder));
	cr_expect_eq(w->recorder.leases, leases);
	cr_expect_eq(w->recorder.quarantined, 0);
	/* Each row stands between its key's begin and end. */
	for (char *text = strdup(recorder_text(&w->recorder)), *save = NULL, *line = strtok_r(text, "\n", &save),
	          in[200] = "";
	     text != NULL; line = strtok_r(NULL, "\n", &save)) {
		if (line == NULL) {
			free(text);
			break;
		}
		if (strncmp(line, "begin ", 6) == 0)
			snprintf(in, sizeof in, "%s", line + 6);
		for (int i = 0; i < 4; i++)
			if (strncmp(line, parts[i], strlen(parts[i])) == 0 && line[strlen(parts[i])] == ' ') {
				rows[i]++;
				cr_expect_eq(
					strncmp(in, i == 1 ? "offset" : parts[i], strlen(i == 1 ? "offset" : parts[i])),
					0, "'%s' in key '%s'", line, in);
			}
	}
	cr_expect_eq(rows[0] + rows[1] + rows[2] + rows[3], agents + groups + offsets + leases);
	has("end agent 00000000-0000-0000-0000-000000000000 agent-2 found");
	has("agent-2");
	has_not("agent-3");
}

READ_CLAIM(fetch_of_no_keys_does_nothing)
{
	ok(world_fetch(w, NULL, 0));
	cr_expect_str_empty(recorder_text(&w->recorder));
}

READ_CLAIM(fetch_refuses_what_is_no_key)
{
	struct backend_key key = {.cls = SHMETA_CLASS_LIST};

	cr_expect_eq(world_fetch(w, &key, 1), SHMETA_ERR_INVALID_ARGUMENT);
	key.cls = (enum shmeta_class)99;
	cr_expect_eq(world_fetch(w, &key, 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect(strncmp(w->err.text, w->ops->name, strlen(w->ops->name)) == 0, "%s", w->err.text);
}

CLAIM(statements_grow_with_chunks_not_with_keys)
{
	enum { KEYS = 20000 };
	struct backend_key *keys = malloc(KEYS * sizeof *keys);
	struct backend_counters before, after;
	char(*names)[8] = malloc(KEYS * sizeof *names);

	SKIP_WHERE(BRACKETED, "R2: each range of segments is a query of its own");
	cr_assert(keys != NULL && names != NULL);
	fill(w);
	for (uint32_t i = 0; i < KEYS; i++) {
		snprintf(names[i], sizeof names[i], "%u", i);
		keys[i] = i % 3 == 0   ? topic_key(names[i], false)
		          : i % 3 == 1 ? partition_key("orders", i % 2)
		                       : segment_key("orders", 0, i % 30, i % 30);
	}
	w->recorder.quiet = 1;
	before = world_counters(w);
	ok(world_fetch(w, keys, KEYS));
	after = world_counters(w);
	cr_expect_eq(w->recorder.keys_ended, KEYS);
	cr_expect_leq(after.queries - before.queries, 60, "%" PRIu64, after.queries - before.queries);
	cr_expect_eq(after.transactions - before.transactions, 1);
	before = after;
	ok(world_fetch(w, keys, KEYS));
	after = world_counters(w);
	cr_expect_eq(after.prepares, before.prepares, "statements are prepared once");
	free(keys);
	free(names);
}

/* ---- one moment ---- */

struct meanwhile {
	struct world *world;
	pthread_t thread;
	bool started;
	enum shmeta_status (*partition)(void *arg, const struct shmeta_partition *partition);
};
static struct meanwhile meanwhile;

static void *move_everything(void *arg)
{
	struct world *w = arg;

	world_begin(w);
	world_segment(w, NULL, "orders", 1, 100, 199);
	world_watermark(w, NULL, "orders", 1, 200);
	world_delete_topic(w, NULL, "B");
	world_agent(w, "agent-1", 777, NULL);
	world_commit(w);
	return NULL;
}

static bool waits_for_readers(const struct world *w)
{
	return w->memory != NULL || w->engine == WORLD_SQLITE_V01;
}

/* With the first partition, in the middle of the call, the application commits, or tries to: a
 * rollback journal makes it wait. */
static enum shmeta_status partition_meanwhile(void *arg, const struct shmeta_partition *partition)
{
	if (!meanwhile.started) {
		meanwhile.started = true;
		pthread_create(&meanwhile.thread, NULL, move_everything, meanwhile.world);
		if (!waits_for_readers(meanwhile.world))
			pthread_join(meanwhile.thread, NULL); /* the commit is done while we read */
	}
	return meanwhile.partition(arg, partition);
}

static void begin_meanwhile(struct world *w)
{
	meanwhile = (struct meanwhile){.world = w, .partition = w->recorder.sink.partition};
	w->recorder.sink.partition = partition_meanwhile;
}

static void end_meanwhile(struct world *w)
{
	if (waits_for_readers(w))
		pthread_join(meanwhile.thread, NULL);
	w->recorder.sink.partition = meanwhile.partition;
}

CLAIM(load_shows_one_moment_and_changes_show_what_came_after_it)
{
	SKIP_WHERE(BRACKETED, "R2: of one moment are a partition and its segments, and a topic's row");
	fill(w);
	begin_meanwhile(w);
	ok(world_load(w));
	end_meanwhile(w);
	cr_expect_eq(w->recorder.topics, 2);
	cr_expect_eq(w->recorder.segments, 5);
	has("orders/1 watermark=100");
	has_not("heartbeat=777");
	ok(world_changes(w));
	if (w->engine == WORLD_COCKROACH) /* what came after it shows with the next load */
		return;
	cr_expect_eq(w->changed, 1);
	has("changed topic 00000000-0000-0000-0000-000000000000 B with_segments deleted");
	has("changed partition 00000000-0000-0000-0000-000000000000 orders/1");
	has("changed segment 00000000-0000-0000-0000-000000000000 orders/1 100..100");
}

CLAIM(fetch_shows_one_moment)
{
	enum { MANY = 5000 }; /* more than an engine takes at once */
	struct backend_key last[] = {partition_key("orders", 0),
	                             topic_key("orders", true),
	                             topic_key("B", true),
	                             segment_key("orders", 1, 0, UINT64_MAX),
	                             {.cls = SHMETA_CLASS_AGENT}};
	struct backend_key *keys = malloc((MANY + 5) * sizeof *keys);

	SKIP_WHERE(BRACKETED, "R2: of one moment are a partition and its segments, and a topic's row");
	cr_assert_not_null(keys);
	for (size_t i = 0; i < MANY; i++)
		keys[i] = partition_key("orders", 0);
	memcpy(keys + MANY, last, sizeof last);
	fill(w);
	begin_meanwhile(w);
	ok(world_fetch(w, keys, MANY + 5));
	end_meanwhile(w);
	has_not("watermark=200");
	has_not("100..199");
	has_not("heartbeat=777");
	has("B with_segments found");
	ok(world_fetch(w, keys, MANY + 5));
	has("100..199");
	has("heartbeat=777");
	has("B with_segments absent");
	free(keys);
}

/* ---- changes ---- */

/* ---- a status for each ---- */

Test(memory_with_faults, a_key_that_cannot_be_read_fails_alone)
{
	struct backend_key keys[] = {segment_key("orders", 0, 0, 100), segment_key("orders", 1, 0, 100),
	                             topic_key("orders", true), topic_key("B", true)};
	struct world world, *w = &world;

	world_make(w, WORLD_FAULTS);
	world_open(w);
	fill(w);
	cr_assert(memory_break_partition(w->memory, "orders", 1, SHMETA_ERR_INVALID_ARGUMENT, "no number"));
	cr_expect_eq(world_fetch(w, keys, 4), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(w->recorder.keys_begun, 4);
	cr_expect_eq(w->recorder.keys_ended, 4);
	cr_expect_eq(w->recorder.keys_failed, 2);
	has("orders/1 0..100 failed");
	has("orders with_segments failed");
	has("B with_segments found");
	cr_expect_str_empty(w->recorder.order_error, "%s", w->recorder.order_error);
	world_free(w);
}

Test(memory_with_faults, keys_that_fail_together_are_all_ended)
{
	struct backend_key keys[] = {segment_key("orders", 0, 0, 100), segment_key("orders", 1, 0, 100),
	                             topic_key("B", true)};
	struct world world, *w = &world;

	world_make(w, WORLD_FAULTS);
	world_open(w);
	fill(w);
	for (uint64_t rows = 0; rows < 6; rows++) {
		memory_fail(w->memory, MEMORY_FETCH, 1, rows, SHMETA_ERR_BUSY, "locked");
		cr_expect_eq(world_fetch(w, keys, 3), SHMETA_ERR_BUSY);
		cr_expect_eq(w->recorder.keys_ended, 3);
		cr_expect_eq(w->recorder.keys_failed, rows < 4 ? 3 : 2, "%d: %d", (int)rows,
		             (int)w->recorder.keys_failed);
		cr_expect_str_empty(w->recorder.order_error, "%s", w->recorder.order_error);
	}
	/* It is the connection that fails: no key is answered for it. */
	memory_fail(w->memory, MEMORY_FETCH, 1, 0, SHMETA_ERR_SOURCE, "gone");
	cr_expect_eq(world_fetch(w, keys, 3), SHMETA_ERR_SOURCE);
	cr_expect_eq(w->recorder.keys_ended, 0);
	world_free(w);
}

Test(memory_with_faults, every_operation_has_a_result_whatever_the_call_answers)
{
	static const struct {
		enum shmeta_status result, call;
	} cases[] = {{SHMETA_ERR_OUTCOME_UNKNOWN, SHMETA_OK},
	             {SHMETA_ERR_FULL, SHMETA_OK},
	             {SHMETA_ERR_READ_ONLY, SHMETA_OK},
	             {SHMETA_ERR_SOURCE, SHMETA_ERR_SOURCE}};
	const struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("orders"), .partition_id = 1, .offset = 900};
	const struct backend_op ops[] = {{str(SHMETA_DEFAULT_TENANT), &op}, {str(SHMETA_DEFAULT_TENANT), &op}};
	struct shmeta_result results[2];
	struct world world, *w = &world;

	world_make(w, WORLD_FAULTS);
	world_open(w);
	fill(w);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		recorder_clear(&w->recorder);
		memory_fail(w->memory, MEMORY_APPLY, 1, 0, cases[i].result, "it is so");
		memset(results, 0x55, sizeof results);
		cr_expect_eq(w->ops->writer->apply(w->state, ops, 2, 1, results, &w->recorder.sink, &w->err),
		             cases[i].call);
		for (size_t k = 0; k < 2; k++) {
			cr_expect_eq(results[k].status, cases[i].result);
			cr_expect_eq(results[k].partition_id, 1);
			cr_expect_str_eq(results[k].text, "it is so");
		}
		cr_expect_eq(w->recorder.changed, 0);
		cr_expect_not_null(strstr(w->err.text, "it is so"));
	}
	world_free(w);
}

/* A topic that changes while others are read is shown as it is when its turn comes, and whole. */
static enum shmeta_status change_the_last(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct recorder *r = arg;
	struct world *w = (struct world *)((char *)r - offsetof(struct world, recorder));
	struct recorder plain;

	if (topic->name.bytes == 1 && topic->name.data[0] == 'B') {
		world_segment(w, NULL, "orders", 1, 100, 199);
		world_watermark(w, NULL, "orders", 1, 200);
	}
	recorder_init(&plain);
	return plain.sink.topic(r, tenant, topic);
}

Test(skeleton, a_load_shows_each_topic_at_one_moment)
{
	struct world world, *w = &world;

	world_make(w, WORLD_SKELETON);
	world_open(w);
	fill(w);
	w->recorder.sink.topic = change_the_last;
	ok(world_load(w));
	has("orders/1 watermark=200");
	has("orders/1 100..199");
	cr_expect_str_empty(w->recorder.order_error, "%s", w->recorder.order_error);
	world_free(w);
}

Test(skeleton, what_is_not_there_is_not_supported)
{
	cr_expect_null(backend_skeleton.feed);
	cr_expect_null(backend_skeleton.writer);
	cr_expect_null(backend_skeleton.admin);
}

FEED_CLAIM(without_a_load_the_first_changes_are_everything)
{
	fill(w);
	ok(world_changes(w));
	cr_expect_eq(w->changed, 1);
	cr_expect_str_eq(recorder_text(&w->recorder), "changed list\n");
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
}

CLAIM(nothing_that_load_showed_is_told_again)
{
	fill(w);
	ok(world_load(w));
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
	cr_expect_str_empty(recorder_text(&w->recorder));
}

CLAIM(no_change_costs_at_most_one_statement)
{
	struct backend_counters before, after;

	fill(w);
	ok(world_load(w));
	ok(world_changes(w)); /* the first may look at more than changes */
	ok(world_changes(w));
	before = world_counters(w);
	for (int i = 0; i < 100; i++)
		ok(world_changes(w));
	after = world_counters(w);
	/* DynamoDB: who writes, and the log of the one that wrote lately. */
	cr_expect_leq(after.queries - before.queries, w->engine == WORLD_DYNAMODB ? 200 : 100);
	cr_expect_eq(after.transactions, before.transactions);
	cr_expect_eq(after.prepares, before.prepares);
}

FEED_CLAIM(every_change_becomes_its_key)
{
	SKIP_WHERE(w->own_rows_only, "R5: nothing alters a topic, and nobody deletes a single segment or partition");
	bool names = w->memory == NULL;
	static const char *const pairs[] = {"k", "v", NULL};
	const char *t = SHMETA_DEFAULT_TENANT;
	char expected[200];

	fill(w);
	ok(world_load(w));
#define EXPECT(fmt, ...)                                                                 \
	do {                                                                             \
		ok(world_changes(w));                                                    \
		snprintf(expected, sizeof expected, "changed " fmt "\n", ##__VA_ARGS__); \
		cr_expect_str_eq(recorder_text(&w->recorder), expected);                 \
		cr_expect_eq(w->changed, 1);                                             \
	} while (0)
	world_topic(w, NULL, "new", 3, -1, pairs);
	EXPECT("topic %s new with_segments deleted", t);
	world_alter_topic(w, NULL, "B", pairs);
	EXPECT("topic %s B", t);
	world_watermark(w, NULL, "orders", 1, 55);
	EXPECT("partition %s orders/1", t);
	world_partition(w, NULL, "orders", 2, 7);
	EXPECT("segment %s orders/2 0..9223372036854775807", t);
	world_segment(w, NULL, "orders", 0, 30, 39);
	EXPECT("segment %s orders/0 30..30", t);
	world_begin(w);
	world_segment(w, NULL, "orders", 0, 40, 49);
	world_segment(w, NULL, "orders", 0, 50, 59);
	world_segment(w, NULL, "orders", 0, 60, 69);
	world_commit(w);
	EXPECT("segment %s orders/0 40..60", t);
	world_delete_before(w, NULL, "orders", 0, 30);
	EXPECT("segment %s orders/0 0..20", t);
	world_delete_partition(w, NULL, "orders", 2);
	EXPECT("segment %s orders/2 0..9223372036854775807", t);
	world_delete_topic(w, NULL, "new");
	EXPECT("topic %s new with_segments deleted", t);
	/* An engine whose log names these tells which; the others say that the class has
	 * changed. */
	world_agent(w, "agent-1", 99, NULL);
	if (names)
		EXPECT("agent %s agent-1", t);
	else
		EXPECT("agent");
	world_lease(w, NULL, "orders", 0, "agent-1", 1);
	if (names)
		EXPECT("lease %s  orders/0", t); /* no name */
	else
		EXPECT("lease");
	world_delete_lease(w, NULL, "orders", 0);
	if (names)
		EXPECT("lease %s  orders/0", t); /* no name */
	else
		EXPECT("lease");
	world_group(w, NULL, "more");
	if (names)
		EXPECT("offset %s more", t);
	else
		EXPECT("offset");
	world_offset(w, NULL, "more", "orders", 0, 5, NULL);
	if (names)
		EXPECT("offset %s more orders/0", t);
	else
		EXPECT("offset");
	world_delete_group(w, NULL, "more");
	ok(world_changes(w));
	if (names) {
		snprintf(expected, sizeof expected, "changed offset %s more\n", t);
		has(expected);
		snprintf(expected, sizeof expected, "changed offset %s more orders/0\n", t);
		has(expected);
	} else {
		cr_expect_str_eq(recorder_text(&w->recorder), "changed offset\n");
	}
#undef EXPECT
}

FEED_CLAIM(front_deletes_and_appends_stay_two_ranges)
{
	SKIP_WHERE(w->slow, "its thousand transactions take an emulator a minute");
	world_topic(w, NULL, "t", 1, -1, NULL);
	world_begin(w);
	for (uint64_t i = 0; i < 1000; i++)
		world_segment(w, NULL, "t", 0, i * 10, i * 10 + 9);
	world_commit(w);
	ok(world_load(w));
	world_delete_before(w, NULL, "t", 0, 50);
	world_segment(w, NULL, "t", 0, 10000, 10009);
	ok(world_changes(w));
	has("t/0 0..40");
	has("t/0 10000..10000");
	cr_expect_eq(w->recorder.changed, 2);
}

FEED_CLAIM(a_topic_deleted_and_made_again_is_another_one)
{
	fill(w);
	ok(world_load(w));
	world_delete_topic(w, NULL, "orders");
	world_topic(w, NULL, "orders", 1, -1, NULL);
	world_segment(w, NULL, "orders", 0, 0, 4);
	ok(world_changes(w));
	has("changed topic 00000000-0000-0000-0000-000000000000 orders with_segments deleted");
	/* which tells keys as they were logged, also those that another one covers */
	if (w->engine != WORLD_DYNAMODB) {
		has_not("changed segment");
		has_not("changed partition");
	}
	struct backend_key key = topic_key("orders", true);
	ok(world_fetch(w, &key, 1));
	cr_expect_eq(w->recorder.partitions, 1);
	cr_expect_eq(w->recorder.segments, 1);
}

CLAIM(wake_fd_becomes_readable_with_a_change_and_changes_drain_it)
{
	struct pollfd poller = {.events = POLLIN};

	fill(w);
	ok(world_load(w));
	ok(world_changes(w));
	if (w->ops->feed->wake_fd == NULL)
		return;
	poller.fd = w->ops->feed->wake_fd(w->state);
	if (w->pg != NULL && poller.fd < 0)
		return; /* nothing wakes us there but the clock, unless NOTIFY is asked for */
	cr_assert_geq(poller.fd, 0);
	/* what opening it has stirred up settles */
	for (int i = 0; poll(&poller, 1, 200) > 0; i++) {
		cr_assert_lt(i, 20, "readable for ever though nothing happens");
		ok(world_changes(w));
		cr_assert_eq(w->changed, 0);
	}
	for (int i = 0; i < 3; i++) {
		world_watermark(w, NULL, "orders", 0, 31 + (uint64_t)i);
		cr_assert_eq(poll(&poller, 1, 10000), 1, "not readable after a change");
		ok(world_changes(w));
		cr_expect_eq(w->changed, 1);
		cr_assert_eq(poll(&poller, 1, 0), 0, "still readable after changes()");
	}
}

/* ---- positions ---- */

static size_t keep_position(struct world *w, char position[128])
{
	size_t bytes = 0;

	ok(w->ops->feed->position(w->state, position, 128, &bytes));
	cr_assert(bytes > 0 && bytes <= 128);
	return bytes;
}

FEED_CLAIM(a_kept_position_goes_on_where_it_was)
{
	SKIP_WHERE(w->own_rows_only, "R5: nothing alters a topic");
	char position[128];
	size_t bytes;

	fill(w);
	ok(world_load(w));
	world_watermark(w, NULL, "B", 0, 1);
	ok(world_changes(w));
	bytes = keep_position(w, position);
	world_close(w);
	world_watermark(w, NULL, "orders", 1, 77);
	world_open(w);
	ok(w->ops->feed->resume(w->state, position, bytes, &w->err));
	ok(world_changes(w));
	cr_expect_str_eq(recorder_text(&w->recorder),
	                 "changed partition 00000000-0000-0000-0000-000000000000 orders/1\n");
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
}

/* As many partitions as it takes keys, and half of the keys name one that is not there. */
CLAIM(an_engine_fetches_as_many_keys_in_one_call_as_it_states)
{
	const struct backend_limits *limits = &w->ops->limits;
	const size_t count = limits->keys != 0 ? limits->keys : 4096;
	struct backend_key *keys = calloc(count, sizeof *keys);

	cr_assert_not_null(keys);
	cr_assert(limits->keys == 0 || limits->keys >= 8);
	world_topic(w, NULL, "wide", (uint32_t)count / 2, -1, NULL);
	ok(world_load(w));
	for (size_t i = 0; i < count; i++)
		keys[i] = (struct backend_key){.cls = SHMETA_CLASS_PARTITION,
		                               .tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                               .topic = rows_str(i % 2 == 0 ? "wide" : "no-such-topic"),
		                               .partition_id = (uint32_t)i / 2};
	ok(world_fetch(w, keys, count));
	cr_expect_eq(w->recorder.keys_ended, count);
	cr_expect_eq(w->recorder.partitions, count / 2);
	free(keys);
}

/* One unit of the most operations that an engine takes as one: an object with all its slices, which
 * all show, or none. */
CLAIM(an_engine_takes_as_many_operations_in_one_unit_as_it_states)
{
	enum { ID = 24 };
	const struct backend_limits *limits = &w->ops->limits;
	const size_t count = limits->unit_ops != 0 ? limits->unit_ops : 4096;
	struct shmeta_op *op = calloc(count, sizeof *op);
	struct backend_op *ops = calloc(count, sizeof *ops);
	struct shmeta_result *results = calloc(count, sizeof *results);
	char(*ids)[ID] = calloc(count, sizeof *ids);
	const struct backend_key key = {.cls = SHMETA_CLASS_TOPIC,
	                                .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                                .topic = rows_str("orders"),
	                                .with_segments = 1};

	cr_assert(op != NULL && ops != NULL && results != NULL && ids != NULL);
	cr_assert(limits->unit_ops == 0 || limits->unit_ops >= 2);
	cr_assert(limits->ops == 0 || (limits->unit_ops != 0 && limits->ops >= limits->unit_ops));
	w->recorder.quiet = 1;
	world_topic(w, NULL, "orders", 1, -1, NULL);
	ok(world_load(w));
	op[0] = (struct shmeta_op){
		.type = SHMETA_OP_COMMIT_OBJECT,
		.u.object = {
			.s3_bucket = rows_str("b"), .s3_key = rows_str("o"), .size_bytes = count, .created_at_ms = 7}};
	for (size_t i = 1; i < count; i++) {
		const uint64_t base = i - 1;

		(void)snprintf(ids[i], ID, "s%zu", i);
		op[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SLICE,
		                           .name = rows_str("orders"),
		                           .u.segment = {.base_offset = base,
		                                         .end_offset = base,
		                                         .record_count = 1,
		                                         .position = base,
		                                         .size_bytes = 1,
		                                         .created_at_ms = 7,
		                                         .id = rows_str(ids[i])}};
	}
	for (size_t i = 0; i < count; i++)
		ops[i] = (struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &op[i]};
	ok(w->ops->writer->apply(w->state, ops, count, 1, results, &w->recorder.sink, &w->err));
	for (size_t i = 0; i < count; i++)
		cr_assert_eq(results[i].status, SHMETA_OK, "%zu: %s", i, results[i].text);
	ok(world_fetch(w, &key, 1));
	cr_expect_eq(w->recorder.segments, count - 1);
	free(ids);
	free(results);
	free(ops);
	free(op);
}

CLAIM(an_operation_finds_what_the_one_before_it_in_its_batch_made)
{
	struct shmeta_op ops[] = {
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = str("made"), .partition_count = 1}},
		{.type = SHMETA_OP_ADD_SEGMENT,
	         .name = str("made"),
	         .u.segment = {.end_offset = 9, .id = str("made-0-0"), .s3_bucket = str("b"), .s3_key = str("k")}}};
	const struct backend_op batch[] = {{str(SHMETA_DEFAULT_TENANT), &ops[0]},
	                                   {str(SHMETA_DEFAULT_TENANT), &ops[1]}};
	struct shmeta_result results[2];

	ok(w->ops->writer->apply(w->state, batch, 2, 1000, results, &w->recorder.sink, &w->err));
	cr_expect_eq(results[0].status, SHMETA_OK, "%s", results[0].text);
	cr_expect_eq(results[1].status, SHMETA_OK, "%s", results[1].text);
}

CLAIM(a_position_that_means_nothing_is_absent_and_one_of_another_source_is_told)
{
	char position[128], wrong[128] = {0};
	size_t bytes, needs = 0;

	fill(w);
	ok(world_load(w));
	bytes = keep_position(w, position);
	cr_expect_eq(w->ops->feed->resume(w->state, position, bytes - 1, &w->err), SHMETA_ABSENT);
	cr_expect_eq(w->ops->feed->resume(w->state, wrong, bytes, &w->err), SHMETA_ABSENT);
	cr_expect_eq(w->ops->feed->position(w->state, wrong, bytes - 1, &needs), SHMETA_ERR_BUFFER);
	cr_expect_eq(needs, bytes);
	struct world other;
	world_make(&other, w->engine);
	world_open(&other);
	cr_expect_eq(other.ops->feed->resume(other.state, position, bytes, &other.err), SHMETA_ERR_CONFLICT);
	cr_expect_neq(other.err.text[0], '\0', "with a sentence");
	world_free(&other);
}

READ_CLAIM(the_fingerprint_is_the_sources_own)
{
	uint64_t first = w->ops->source->fingerprint(w->state);
	struct world other;

	cr_expect_neq(first, 0);
	world_close(w);
	world_open(w);
	cr_expect_eq(w->ops->source->fingerprint(w->state), first);
	world_make(&other, w->engine);
	world_open(&other);
	cr_expect_neq(other.ops->source->fingerprint(other.state), first);
	world_free(&other);
}

READ_CLAIM(a_state_that_was_never_opened_can_be_closed)
{
	void *state = calloc(1, w->ops->state_bytes);

	cr_assert_not_null(state);
	w->ops->source->close(state);
	free(state);
}

READ_CLAIM(it_says_what_it_is)
{
	char text[200] = "", small[10];

	w->ops->source->describe(w->state, text, sizeof text);
	cr_expect(strncmp(text, w->ops->name, strlen(w->ops->name)) == 0, "%s", text);
	w->ops->source->describe(w->state, small, sizeof small);
	cr_expect_eq(strlen(small), 9);
	cr_expect_eq(world_has_feed(w), w->engine != WORLD_COCKROACH && w->engine != WORLD_SKELETON);
	cr_expect_eq(world_writable(w), w->engine != WORLD_SKELETON);
}

/* ---- objects ---- */

static enum shmeta_status no_change(void *arg, const struct backend_key *key)
{
	(void)arg;
	(void)key;
	return SHMETA_OK;
}

/* One unit of operations; the first result's status. */
static enum shmeta_status apply(struct world *w, const char *tenant, const struct shmeta_op *ops, size_t count)
{
	const struct backend_sink sink = {.changed = no_change};
	struct backend_op op[8];
	struct shmeta_result result[8];
	enum shmeta_status status;

	for (size_t i = 0; i < count; i++)
		op[i] = (struct backend_op){str(tenant), &ops[i]};
	status = w->ops->writer->apply(w->state, op, count, 1, result, &sink, &w->err);
	for (size_t i = 1; status == SHMETA_OK && i < count; i++)
		cr_expect_eq(result[i].status, SHMETA_OK, "%zu: %s", i, result[i].text);
	return status == SHMETA_OK ? result[0].status : status;
}

static struct shmeta_op object_op(enum shmeta_op_type type, const char *key)
{
	return (struct shmeta_op){
		.type = type,
		.u.object = {.s3_bucket = str("b"), .s3_key = str(key), .size_bytes = 100, .created_at_ms = 7}};
}

/* The object, and a slice of it in partition 0 of orders. */
static enum shmeta_status put_object(struct world *w, const char *key, uint64_t base)
{
	char id[64];
	const size_t id_bytes = (size_t)snprintf(id, sizeof id, "slice-%" PRIu64, base);
	const struct shmeta_op ops[2] = {object_op(SHMETA_OP_COMMIT_OBJECT, key),
	                                 {.type = SHMETA_OP_ADD_SLICE,
	                                  .name = str("orders"),
	                                  .u.segment = {.base_offset = base,
	                                                .end_offset = base,
	                                                .record_count = 1,
	                                                .size_bytes = 10,
	                                                .created_at_ms = 7,
	                                                .id = {id, id_bytes}}}};

	return apply(w, SHMETA_DEFAULT_TENANT, ops, 2);
}

static void drop_slices_before(struct world *w, uint64_t offset)
{
	const struct shmeta_op op = {.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = str("orders"), .offset = offset};

	cr_assert_eq(apply(w, SHMETA_DEFAULT_TENANT, &op, 1), SHMETA_OK);
}

struct listed {
	char text[400]; /* "b/key=slices@since " ... */
	size_t used;
};

static enum shmeta_status on_object(void *arg, const struct shmeta_object_info *info)
{
	struct listed *l = arg;

	cr_expect(info->object.size_bytes == 100 && info->object.created_at_ms == 7);
	l->used += (size_t)snprintf(l->text + l->used, sizeof l->text - l->used, "%.*s=%" PRIu64 "@%" PRId64 " ",
	                            (int)info->object.s3_key.bytes, info->object.s3_key.data, info->slices,
	                            info->unreferenced_since_ms);
	return SHMETA_OK;
}

static const char *objects(struct world *w, int all, int64_t now_ms, const char *after, size_t most)
{
	static struct listed listed;
	const struct backend_object_list list = {.tenant = str(SHMETA_DEFAULT_TENANT),
	                                         .all = all,
	                                         .now_ms = now_ms,
	                                         .grace_ms = 1000,
	                                         .after_bucket = str(after != NULL ? "b" : ""),
	                                         .after_key = str(after != NULL ? after : ""),
	                                         .most = most};

	listed = (struct listed){.used = 0};
	ok(w->ops->admin->objects(w->state, &list, on_object, &listed, &w->err));
	return listed.text;
}

CLAIM(an_object_is_deletable_a_grace_after_it_was_first_seen_without_slices)
{
	const struct shmeta_op gone = object_op(SHMETA_OP_CONFIRM_OBJECT_DELETED, "o1");

	fill(w);
	ok(world_load(w));
	cr_expect_str_eq(objects(w, 1, 5000, NULL, 10), "");
	cr_assert_eq(put_object(w, "o1", 1000), SHMETA_OK);
	cr_assert_eq(put_object(w, "o2", 2000), SHMETA_OK);
	cr_expect_str_eq(objects(w, 1, 5000, NULL, 10), "o1=1@0 o2=1@0 ");
	cr_expect_str_eq(objects(w, 0, 1000000, NULL, 10), "", "referred to");
	drop_slices_before(w, 1500);
	cr_expect_str_eq(objects(w, 0, 1000000, NULL, 10), "", "seen without slices for the first time");
	cr_expect_str_eq(objects(w, 0, 1000999, NULL, 10), "", "within the grace");
	cr_expect_str_eq(objects(w, 1, 1000999, NULL, 10), "o1=0@1000000 o2=1@0 ");
	cr_expect_str_eq(objects(w, 0, 1001000, NULL, 10), "o1=0@1000000 ");
	cr_assert_eq(apply(w, SHMETA_DEFAULT_TENANT, &gone, 1), SHMETA_OK);
	cr_assert_eq(apply(w, SHMETA_DEFAULT_TENANT, &gone, 1), SHMETA_OK, "confirmed twice");
	cr_expect_str_eq(objects(w, 1, 1001000, NULL, 10), "o2=1@0 ");
}

CLAIM(a_slice_that_comes_back_makes_its_object_undeletable_and_the_grace_begins_anew)
{
	fill(w);
	ok(world_load(w));
	cr_assert_eq(put_object(w, "o1", 1000), SHMETA_OK);
	drop_slices_before(w, 5000);
	cr_expect_str_eq(objects(w, 0, 10000, NULL, 10), "");
	cr_expect_str_eq(objects(w, 0, 11000, NULL, 10), "o1=0@10000 ");
	cr_assert_eq(put_object(w, "o1", 6000), SHMETA_ERR_ALREADY_EXISTS, "the object; its slice is new");
	cr_expect_str_eq(objects(w, 0, 20000, NULL, 10), "");
	cr_expect_str_eq(objects(w, 1, 20000, NULL, 10), "o1=1@0 ");
	drop_slices_before(w, 9000);
	cr_expect_str_eq(objects(w, 0, 30000, NULL, 10), "", "not what it was before the slice came back");
	cr_expect_str_eq(objects(w, 0, 31000, NULL, 10), "o1=0@30000 ");
}

CLAIM(the_pages_of_the_objects_are_in_order_of_their_keys_and_know_the_tenant)
{
	static const char *const keys[] = {"o/10", "o/1", "O", "o/2", "p"};
	const struct backend_object_list others = {
		.tenant = str(other_tenant), .all = 1, .now_ms = 1, .grace_ms = 1000, .most = 10};
	struct listed listed = {.used = 0};

	fill(w);
	ok(world_load(w));
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		cr_assert_eq(put_object(w, keys[i], 1000 + i), SHMETA_OK, "%s", keys[i]);
	cr_expect_str_eq(objects(w, 1, 5, NULL, 2), "O=1@0 o/1=1@0 ");
	cr_expect_str_eq(objects(w, 1, 5, "o/1", 2), "o/10=1@0 o/2=1@0 ");
	cr_expect_str_eq(objects(w, 1, 5, "o/2", 2), "p=1@0 ");
	cr_expect_str_eq(objects(w, 1, 5, "p", 2), "");
	cr_expect_str_eq(objects(w, 1, 5, "o/15", 1), "o/2=1@0 ", "behind a key that is not there");
	/* Only a first page looks for what has lost its slices. */
	drop_slices_before(w, 9000);
	cr_expect_str_eq(objects(w, 1, 50, "o/2", 9), "p=0@0 ");
	cr_expect_str_eq(objects(w, 1, 60, NULL, 1), "O=0@60 ");
	cr_expect_str_eq(objects(w, 1, 70, "o/2", 9), "p=0@60 ");
	ok(w->ops->admin->objects(w->state, &others, on_object, &listed, &w->err));
	cr_expect_str_eq(listed.text, "", "of another tenant");
}

/* ---- all of it, at random ---- */

/* A store kept up by nothing but changes() and fetch(): the keys of a round are applied to it, and
 * then it must hold what a load of the source shows. It is a database of the memory engine, which
 * makes it easy to compare. */
struct follower {
	struct memory_db *store;
	struct world *world;
	struct backend_key keys[512];
	char names[512][3][80];
	size_t count;
	bool list;
	/* while a key is fetched */
	const struct backend_key *key;
	char tenant[80], topic[80];
	uint32_t partition;
	bool seen[64]; /* partitions of the topic, or agents */
};

static enum shmeta_status follow_changed(void *arg, const struct backend_key *key)
{
	struct follower *f = arg;
	struct backend_key *kept = &f->keys[f->count];

	cr_assert_lt(f->count, 512);
	if (key->cls == SHMETA_CLASS_LIST) {
		f->list = true;
		return SHMETA_OK;
	}
	*kept = *key;
	snprintf(f->names[f->count][0], 80, "%.*s", (int)key->tenant.bytes,
	         key->tenant.bytes > 0 ? key->tenant.data : "");
	snprintf(f->names[f->count][1], 80, "%.*s", (int)key->topic.bytes, key->topic.bytes > 0 ? key->topic.data : "");
	snprintf(f->names[f->count][2], 80, "%.*s", (int)key->name.bytes, key->name.bytes > 0 ? key->name.data : "");
	kept->tenant = str(f->names[f->count][0]);
	kept->topic = str(f->names[f->count][1]);
	kept->name = str(f->names[f->count][2]);
	/* A store of the memory engine forgets no single offset: with one of them the group is
	 * read. */
	if (key->cls == SHMETA_CLASS_OFFSET)
		kept->topic.bytes = 0;
	f->count++;
	return SHMETA_OK;
}

/* Names are those of the random application, see below. */
static void clear_class(struct follower *f, enum shmeta_class cls)
{
	char name[40];

	for (int i = 0; i < 4; i++)
		for (int tenant = 0; tenant < 2; tenant++) {
			const char *t = tenant ? other_tenant : SHMETA_DEFAULT_TENANT;

			snprintf(name, sizeof name, "group-%d", i);
			if (cls == SHMETA_CLASS_OFFSET)
				memory_delete_group(f->store, t, name);
			for (int topic = 0; cls == SHMETA_CLASS_LEASE && topic < 6; topic++) {
				snprintf(name, sizeof name, "topic-%d", topic);
				memory_delete_lease(f->store, t, name, (uint32_t)i);
			}
		}
}

static enum shmeta_status follow_begin(void *arg, const struct backend_key *key)
{
	struct follower *f = arg;

	f->key = key;
	snprintf(f->tenant, sizeof f->tenant, "%s", key->tenant.data != NULL ? key->tenant.data : "");
	snprintf(f->topic, sizeof f->topic, "%s", key->topic.data != NULL ? key->topic.data : "");
	memset(f->seen, 0, sizeof f->seen);
	if (key->cls > SHMETA_CLASS_SEGMENT && backend_key_is_class(key))
		clear_class(f, key->cls);
	else if (key->cls == SHMETA_CLASS_OFFSET)
		memory_delete_group(f->store, f->tenant, key->name.data);
	else if (key->cls == SHMETA_CLASS_LEASE)
		memory_delete_lease(f->store, f->tenant, f->topic, key->partition_id);
	else if (key->cls == SHMETA_CLASS_TOPIC && key->with_segments)
		memory_delete_topic(f->store, f->tenant, f->topic);
	else if (key->cls == SHMETA_CLASS_SEGMENT && key->from == 0 && key->to >= INT64_MAX)
		memory_delete_partition(f->store, f->tenant, f->topic, key->partition_id);
	else if (key->cls == SHMETA_CLASS_SEGMENT)
		for (uint64_t base = key->from; base <= key->to; base++)
			memory_delete_segment(f->store, f->tenant, f->topic, key->partition_id, base);
	return SHMETA_OK;
}

static enum shmeta_status follow_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                     const char *sentence)
{
	struct follower *f = arg;
	bool found = status == SHMETA_OK;

	cr_assert_geq(status, 0, "%s", sentence);

	if (key->cls == SHMETA_CLASS_TOPIC && !found)
		memory_delete_topic(f->store, f->tenant, f->topic);
	for (uint32_t i = 0; key->cls == SHMETA_CLASS_TOPIC && found && i < 64; i++)
		if (!f->seen[i])
			memory_delete_partition(f->store, f->tenant, f->topic, i);
	for (int i = 0; key->cls == SHMETA_CLASS_AGENT && i < 4; i++) {
		char name[40];

		snprintf(name, sizeof name, "agent-%d", i);
		if (!f->seen[i] && (backend_key_is_class(key) || strcmp(key->name.data, name) == 0))
			memory_delete_agent(f->store, NULL, name);
	}
	if ((key->cls == SHMETA_CLASS_PARTITION || key->cls == SHMETA_CLASS_SEGMENT) && !found)
		memory_delete_partition(f->store, f->tenant, f->topic, key->partition_id);
	return SHMETA_OK;
}

static enum shmeta_status follow_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct follower *f = arg;

	snprintf(f->tenant, sizeof f->tenant, "%.*s", (int)tenant.bytes, tenant.data);
	snprintf(f->topic, sizeof f->topic, "%.*s", (int)topic->name.bytes, topic->name.data);
	memory_put_topic(f->store, f->tenant, topic);
	return SHMETA_OK;
}

static enum shmeta_status follow_partition(void *arg, const struct shmeta_partition *partition)
{
	struct follower *f = arg;

	f->partition = partition->partition_id;
	f->seen[partition->partition_id] = true;
	memory_put_partition(f->store, f->tenant, f->topic, partition);
	return SHMETA_OK;
}

static enum shmeta_status follow_segment(void *arg, const struct shmeta_segment *segment)
{
	struct follower *f = arg;

	memory_put_segment(f->store, f->tenant, f->topic, segment);
	return SHMETA_OK;
}

static enum shmeta_status follow_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct follower *f = arg;
	char t[80];

	snprintf(t, sizeof t, "%.*s", (int)tenant.bytes, tenant.data);
	f->seen[agent->agent_id.data[6] - '0'] = true; /* agent-N */
	memory_put_agent(f->store, t, agent);
	return SHMETA_OK;
}

static enum shmeta_status follow_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct follower *f = arg;
	char t[80];

	snprintf(t, sizeof t, "%.*s", (int)tenant.bytes, tenant.data);
	memory_put_group(f->store, t, group);
	return SHMETA_OK;
}

static enum shmeta_status follow_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                        const struct shmeta_committed_offset *offset)
{
	struct follower *f = arg;
	char t[80], name[80];

	snprintf(t, sizeof t, "%.*s", (int)tenant.bytes, tenant.data);
	snprintf(name, sizeof name, "%.*s", (int)topic.bytes, topic.data);
	memory_put_offset(f->store, t, name, offset);
	return SHMETA_OK;
}

static enum shmeta_status follow_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                       const struct shmeta_lease *lease)
{
	struct follower *f = arg;
	char t[80], name[80];

	snprintf(t, sizeof t, "%.*s", (int)tenant.bytes, tenant.data);
	snprintf(name, sizeof name, "%.*s", (int)topic.bytes, topic.data);
	memory_put_lease(f->store, t, name, lease);
	return SHMETA_OK;
}

static void follow_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	(void)arg;
	(void)row;
	cr_assert_fail("quarantined: %s", sentence);
}

static uint64_t dice(uint64_t *seed, uint64_t sides)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (*seed >> 33) % sides;
}

/* One thing that an application may do. What the source would refuse is not tried: `there` knows
 * what there is. */
struct there {
	bool topic[2][6], partition[2][6][4], agent[4], group[2][4];
	uint64_t first[2][6][4], next[2][6][4]; /* offsets of the segments */
};

static void act(struct world *w, struct there *s, uint64_t *seed)
{
	static const char *const pairs[] = {"k", "v", "j", "w", NULL};
	int t = w->tenants ? (int)dice(seed, 2) : 0, n = (int)dice(seed, 6), p = (int)dice(seed, 4),
	    a = (int)dice(seed, 4);
	const char *tenant = t ? other_tenant : NULL;
	char topic[16], agent[16], group[16];

	snprintf(topic, sizeof topic, "topic-%d", n);
	snprintf(agent, sizeof agent, "agent-%d", a);
	snprintf(group, sizeof group, "group-%d", a);
	switch (dice(seed, 18)) {
	case 0:
		if (s->topic[t][n])
			return;
		world_topic(w, tenant, topic, 2, dice(seed, 2) ? -1 : 7, pairs + 2 * dice(seed, 2));
		s->topic[t][n] = true;
		for (int i = 0; i < 4; i++) {
			s->partition[t][n][i] = i < 2;
			s->first[t][n][i] = s->next[t][n][i] = 0;
		}
		return;
	case 1:
		if (!s->topic[t][n] || dice(seed, 3) > 0)
			return;
		world_delete_topic(w, tenant, topic);
		s->topic[t][n] = false;
		memset(s->partition[t][n], 0, sizeof s->partition[t][n]);
		return;
	case 2:
		if (s->topic[t][n])
			world_alter_topic(w, tenant, topic, dice(seed, 2) ? pairs : NULL);
		return;
	case 3:
		if (!s->topic[t][n] || s->partition[t][n][p])
			return;
		world_partition(w, tenant, topic, (uint32_t)p, dice(seed, 100));
		s->partition[t][n][p] = true;
		s->first[t][n][p] = s->next[t][n][p] = dice(seed, 50);
		return;
	case 4:
		if (!s->partition[t][n][p])
			return;
		world_delete_partition(w, tenant, topic, (uint32_t)p);
		s->partition[t][n][p] = false;
		return;
	case 5:
	case 6:
		if (s->partition[t][n][p])
			world_watermark(w, tenant, topic, (uint32_t)p, dice(seed, 1000));
		return;
	case 7:
	case 8:
	case 9:
	case 10:
		if (!s->partition[t][n][p])
			return;
		for (uint64_t i = dice(seed, 4) + 1; i-- > 0;) {
			uint64_t records = 1 + dice(seed, 5);

			world_segment(w, tenant, topic, (uint32_t)p, s->next[t][n][p], s->next[t][n][p] + records - 1);
			s->next[t][n][p] += records + dice(seed, 2);
		}
		return;
	case 11:
		if (!s->partition[t][n][p])
			return;
		s->first[t][n][p] += dice(seed, 8);
		world_delete_before(w, tenant, topic, (uint32_t)p, s->first[t][n][p]);
		return;
	case 12:
		if (s->partition[t][n][p] && s->next[t][n][p] > 0)
			world_delete_segment(w, tenant, topic, (uint32_t)p, dice(seed, s->next[t][n][p]));
		return;
	case 13:
		world_agent(w, agent, (int64_t)dice(seed, 1000), pairs);
		s->agent[a] = true;
		return;
	case 14:
		if (dice(seed, 2) == 0) {
			world_delete_agent(w, agent);
			s->agent[a] = false;
		} else {
			world_delete_group(w, tenant, group);
			s->group[t][a] = false;
		}
		return;
	case 15:
		world_group(w, tenant, group);
		s->group[t][a] = true;
		return;
	case 16:
		if (s->group[t][a] && s->partition[t][n][p])
			world_offset(w, tenant, group, topic, (uint32_t)p, dice(seed, 99), dice(seed, 2) ? "m" : NULL);
		return;
	default:
		if (!s->agent[a] || !s->partition[t][n][p])
			return;
		if (dice(seed, 3) == 0)
			world_delete_lease(w, tenant, topic, (uint32_t)p);
		else
			world_lease(w, tenant, topic, (uint32_t)p, agent, dice(seed, 9));
		return;
	}
}

static void compare(struct world *w, struct follower *f, uint64_t seed, int round)
{
	void *state = calloc(1, backend_memory.state_bytes);
	struct backend_options options = {.uri = "memory:follower"};
	struct backend_error err;
	struct recorder mine;
	char *left, *right;

	cr_assert_not_null(state);
	recorder_init(&mine);
	cr_assert_eq(backend_memory.source->open(state, &options, &err), SHMETA_OK);
	cr_assert_eq(backend_memory.source->load(state, &mine.sink, &err), SHMETA_OK);
	backend_memory.source->close(state);
	free(state);
	ok(world_load(w));
	left = recorder_sorted(&mine);
	right = recorder_sorted(&w->recorder);
	if (strcmp(left, right) != 0) {
		size_t at = 0;

		while (left[at] == right[at])
			at++;
		while (at > 0 && left[at - 1] != '\n')
			at--;
		cr_assert_fail("seed %" PRIu64 ", round %d: followed:\n%.300s\nthere:\n%.300s", seed, round, left + at,
		               right + at);
	}
	free(left);
	free(right);
	recorder_free(&mine);
	(void)f;
}

static int topics_first(const void *a, const void *b)
{
	const struct backend_key *x = a, *y = b;

	int left = x->cls > SHMETA_CLASS_SEGMENT ? (int)x->cls : 0,
	    right = y->cls > SHMETA_CLASS_SEGMENT ? (int)y->cls : 0;

	return left - right;
}

FEED_CLAIM(following_the_changes_shows_what_a_load_shows)
{
	SKIP_WHERE(w->own_rows_only, "R5: nothing alters a topic, and nobody deletes a single segment or partition");
	const char *asked = getenv("SEED");
	uint64_t seed = asked != NULL ? strtoull(asked, NULL, 10) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
	struct follower *f = calloc(1, sizeof *f);
	struct backend_sink sink = {.arg = f,
	                            .topic = follow_topic,
	                            .partition = follow_partition,
	                            .segment = follow_segment,
	                            .agent = follow_agent,
	                            .group = follow_group,
	                            .offset = follow_offset,
	                            .lease = follow_lease,
	                            .quarantine = follow_quarantine,
	                            .key_begin = follow_begin,
	                            .key_end = follow_end,
	                            .changed = follow_changed};
	uint64_t state = seed;
	struct there there;

	cr_assert_not_null(f);
	memset(&there, 0, sizeof there);
	f->world = w;
	f->store = memory_db_new("follower");
	cr_assert_not_null(f->store);
	ok(world_load(w));
	for (int round = 0; round < 60; round++) {
		uint64_t lag_ns;
		int changed;

		world_begin(w);
		for (uint64_t i = dice(&state, 25); i-- > 0;)
			act(w, &there, &state);
		world_commit(w);
		f->count = 0;
		ok(w->ops->feed->changes(w->state, &sink, &changed, &lag_ns, &w->err));
		cr_assert_not(f->list, "seed %" PRIu64 ": the feed gave up", seed);
		cr_assert_eq(changed, f->count > 0);
		cr_assert_eq(lag_ns, 0);
		/* Classes last, in their order: in the follower a topic or an agent that goes takes
		 * its leases along. */
		qsort(f->keys, f->count, sizeof f->keys[0], topics_first);
		ok(w->ops->source->fetch(w->state, f->keys, f->count, &sink, &w->err));
		compare(w, f, seed, round);
	}
	memory_db_free(f->store);
	free(f);
}
