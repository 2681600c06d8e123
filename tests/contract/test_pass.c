/* SPDX-License-Identifier: Apache-2.0
 * The pass over everything, on each engine and for each reason that there is for one: who writes
 * and who reads has a turn all the time, nothing is lost or taken back, nothing goes that is there,
 * and little is held. Turns are counted in rows that came in between, not in time. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/pass_faults.h"
#include "tests/support/source_world.h"
#include "tests/support/sync_fixture.h"
#include "writer/apply/apply.h"
#include "writer/engine/engine.h"
#include "writer/keys/queue.h"

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
	(void)tests;
	world_servers_start();
}
ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	world_servers_stop();
}

TestSuite(pass, .timeout = 120);

/* Why everything is to be compared. In all of them it has changed behind the writer's back, too. */
enum reason { LOST_POSITION, NO_FEED, NO_SECOND_CONNECTION, BREAKING_ROW, REASONS };
static const char *const reasons[REASONS] = {"lost position", "no feed", "no second connection", "breaking row"};

/* One partition has LARGE segments more: several pages of a pass by keys. FETCH_MOST: what the keys
 * of one fetch may show. */
enum {
	TOPICS = 10,
	PARTITIONS = 4,
	SEGMENTS = 2000,
	LARGE = 20000,
	ROWS = TOPICS * PARTITIONS * SEGMENTS + LARGE,
	GAP_MOST = ROWS / 4,
	FETCH_MOST = 8192 + 4096
};

static const uint64_t LARGE_BASE = UINT64_C(20000000000);

static struct fixture f;
static struct world w;

/* What happens while the pass is made. */
static struct {
	bool on;
	uint64_t passes;            /* that had ended before */
	uint64_t rows, asked_at;    /* of all loads and fetches; when who waits now asked */
	uint64_t gap_most, answers; /* rows between a question and its answers */
	bool waits, busy;
	uint64_t ticket, watermark, acknowledged, written;
	uint64_t base;
	size_t held_most;
} meanwhile;

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void same(const char *when)
{
	pass_faults.on_row = NULL;
	pass_faults.broken = pass_faults.no_second = false;
	const char *difference = fixture_difference(&f);

	cr_assert_null(difference, "%s: %s", when, difference);
}

/* t000 ... with partitions of `segments` segments of 1 000 offsets each. */
static void fill(void)
{
	char name[16];

	if (w.engine == WORLD_MEMORY) {
		cr_assert(memory_fill(w.memory, TOPICS, PARTITIONS, SEGMENTS, 7));
		for (uint64_t i = 0; i < LARGE; i++)
			world_segment(&w, NULL, "topic-00003", 0, LARGE_BASE + i * 10, LARGE_BASE + i * 10 + 9);
		return;
	}
	world_begin(&w);
	for (uint32_t t = 0; t < TOPICS; t++) {
		snprintf(name, sizeof name, "topic-%05u", t);
		world_topic(&w, NULL, name, PARTITIONS, -1, NULL);
		for (uint32_t p = 0; p < PARTITIONS; p++)
			world_watermark(&w, NULL, name, p, SEGMENTS * 1000);
	}
	world_sql(
		&w,
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) SELECT topic || '-' || partition_id || '-' || i, topic, partition_id, "
		"i * 1000, i * 1000 + 999, 1000, 5, 'b', 'k', 5 FROM partitions, n",
		SEGMENTS - 1);
	world_sql(
		&w,
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) SELECT 'large-' || i, 'topic-00003', 0, %llu + i * 10, %llu + i * 10 + 9, "
		"10, 5, 'b', 'k', 5 FROM n",
		LARGE - 1, (unsigned long long)LARGE_BASE, (unsigned long long)LARGE_BASE);
	world_commit(&w);
}

/* The clock moves with each look, so that turns are due. */
static void tick(struct fixture *fixture)
{
	fixture->now_ns += 200000;
}

static uint64_t shown_watermark(void)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta__txn *txn = NULL;
	struct shmeta_partition p = {.high_watermark = 0};
	struct shmeta_topic t;
	uint64_t last;
	bool any;

	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	if (apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str("topic-00000"), &t, NULL, &err) == SHMETA_OK)
		(void)apply_partition_get(txn, t.topic_id, 1, &p, &last, &any, &err);
	shmeta__txn_abort(txn);
	return p.high_watermark;
}

/* A write, and a FRESH read of another partition. */
static void ask(void)
{
	const struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                             .name = str("topic-00000"),
	                             .partition_id = 1,
	                             .offset = ++meanwhile.watermark};

	f.answer_count = 0;
	meanwhile.written = f.writes_answered;
	meanwhile.asked_at = meanwhile.rows;
	meanwhile.waits = true;
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "topic-00001", 2, ++meanwhile.ticket), SHMETA_OK);
}

static void look_for_answers(void)
{
	const struct fixture_answer *answer = fixture_answer(&f, meanwhile.ticket);

	if (f.writes_answered == meanwhile.written || answer == NULL)
		return;
	cr_assert_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_assert_eq(f.write_result[0].status, SHMETA_OK, "%s", f.write_result[0].text);
	cr_assert_eq(answer->status, SHMETA_OK, "%s", answer->sentence);
	meanwhile.acknowledged = meanwhile.watermark;
	if (meanwhile.rows - meanwhile.asked_at > meanwhile.gap_most)
		meanwhile.gap_most = meanwhile.rows - meanwhile.asked_at;
	meanwhile.answers++;
	meanwhile.waits = false;
}

/* The application changes something, too; memory has no snapshot that a row could be taken out
 * of. */
static void change(void)
{
	world_segment(&w, NULL, "topic-00002", 1, meanwhile.base, meanwhile.base + 9);
	meanwhile.base += 10;
	if (w.engine == WORLD_MEMORY)
		return;
	if (meanwhile.base % 100 == 0)
		world_delete_before(&w, NULL, "topic-00003", 2, meanwhile.base);
	if (meanwhile.base % 400 == 0)
		world_delete_topic(&w, NULL, "later");
	else if (meanwhile.base % 200 == 0)
		world_topic(&w, NULL, "later", 1, -1, NULL);
}

static void on_row(void)
{
	size_t held = f.sync->queue->pass.count;

	if (!meanwhile.on || !f.sync->in_pass || meanwhile.busy)
		return;
	meanwhile.busy = true;
	meanwhile.rows++;
	if (held > meanwhile.held_most)
		meanwhile.held_most = held;
	if (meanwhile.waits && (meanwhile.rows & 63) == 0)
		look_for_answers();
	if (meanwhile.rows % 500 == 0) {
		cr_assert_geq(shown_watermark(), meanwhile.acknowledged, "a write was taken back");
		if (!meanwhile.waits)
			ask();
	}
	if (meanwhile.rows % 2000 == 0)
		change();
	meanwhile.busy = false;
}

static void begin(enum world_engine engine, bool feed)
{
	memset(&meanwhile, 0, sizeof meanwhile);
	fixture_init(&f);
	world_make(&w, engine);
	f.options.source = w.options;
	f.options.engine = pass_faults_around(w.ops, feed);
	f.options.store_max_bytes = 512 << 20;
	world_open(&w); /* it makes the tables */
	world_close(&w);
}

static void end(void)
{
	f.on_clock = NULL;
	pass_faults.on_row = NULL;
	fixture_done(&f);
	world_free(&w);
}

/* Behind the writer's back. */
static void change_much(void)
{
	world_begin(&w);
	world_delete_topic(&w, NULL, "topic-00009");
	world_topic(&w, NULL, "new", 2, -1, NULL);
	world_watermark(&w, NULL, "new", 1, 5);
	world_segment(&w, NULL, "new", 1, 0, 4);
	world_watermark(&w, NULL, "topic-00004", 3, 77);
	world_delete_before(&w, NULL, "topic-00005", 0, 700000);
	world_delete_segment(&w, NULL, "topic-00006", 1, 1000000);
	world_delete_partition(&w, NULL, "topic-00007", 3);
	world_commit(&w);
}

static void turns(enum world_engine engine, enum reason reason)
{
	if (!world_possible(engine))
		cr_skip_test("no such server here");
	begin(engine, reason != NO_FEED);
	fill();
	fixture_open(&f);
	f.on_clock = tick;
	for (int i = 0; i < 1000 && sync_store(f.sync) == NULL; i++)
		fixture_run(&f);
	same("loaded");
	fixture_pass(&f, 100);
	meanwhile.base = 100000000;
	meanwhile.watermark = meanwhile.acknowledged = 900000000;
	/* A writer that starts anew, and cannot go on from where the last one ended. */
	fixture_crash(&f);
	change_much();
	pass_faults.no_resume = true;
	pass_faults.no_second = reason == NO_SECOND_CONNECTION;
	pass_faults.broken = reason == BREAKING_ROW;
	f.now_ns += 2000000000;
	fixture_open(&f);
	meanwhile.on = true;
	pass_faults.fetch_keys_most = pass_faults.fetch_rows_most = 0;
	pass_faults.on_row = on_row;
	{
		/* The watermark is to be there before anything asks whether it is. */
		const struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
		                             .name = str("topic-00000"),
		                             .partition_id = 1,
		                             .offset = meanwhile.watermark};

		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
		for (int i = 0; i < 100 && f.writes_answered == 0; i++)
			fixture_run(&f);
	}
	for (int i = 0; i < 4000 && fixture_counters(&f).reconciles == 0; i++) {
		fixture_run(&f);
		f.now_ns += 5000000;
	}
	cr_assert_geq(fixture_counters(&f).reconciles, 1, "%s: %s", reasons[reason], f.log);
	cr_log_info("%s: %llu rows, %llu answers, at most %llu rows between question and answer, %zu keys held, "
	            "%llu keys and %llu rows in one fetch",
	            reasons[reason], (unsigned long long)meanwhile.rows, (unsigned long long)meanwhile.answers,
	            (unsigned long long)meanwhile.gap_most, meanwhile.held_most,
	            (unsigned long long)pass_faults.fetch_keys_most, (unsigned long long)pass_faults.fetch_rows_most);
	cr_expect_geq(meanwhile.rows, (uint64_t)ROWS / 10 * 8, "the pass was to be long");
	cr_expect_geq(meanwhile.answers, 5, "%s: %llu answers in %llu rows", reasons[reason],
	              (unsigned long long)meanwhile.answers, (unsigned long long)meanwhile.rows);
	cr_expect_leq(meanwhile.gap_most, GAP_MOST);
	cr_expect_leq(meanwhile.held_most, 512);
	cr_expect_leq(pass_faults.fetch_rows_most, FETCH_MOST + 16, "%llu rows",
	              (unsigned long long)pass_faults.fetch_rows_most);
	cr_expect(reason == BREAKING_ROW || !fixture_logged(&f, "read_by_keys"));
	cr_expect(reason == NO_SECOND_CONNECTION || !fixture_logged(&f, "second_connection"));
	cr_expect_eq(pass_faults.lists > 0, reason == NO_SECOND_CONNECTION || reason == BREAKING_ROW);
	meanwhile.on = false;
	pass_faults.broken = pass_faults.no_second = false;
	fixture_pass(&f, reason == NO_FEED ? 60000 : 3000);
	cr_expect_geq(shown_watermark(), meanwhile.acknowledged);
	same("at the end");
	/* In step again, without another pass. */
	if (reason != NO_FEED) {
		uint64_t loads = pass_faults.loads + pass_faults.lists;

		world_watermark(&w, NULL, "topic-00001", 1, 123456);
		fixture_pass(&f, 3000);
		cr_expect_eq(pass_faults.loads + pass_faults.lists, loads, "the feed was to tell it");
		cr_expect_lt(fixture_stamp_age_ms(&f, SHMETA_CLASS_SEGMENT), 2000);
		same("followed");
	}
	end();
}

#define TURNS(name, engine)                                    \
	Test(pass, name##_turns_with_a_lost_position)          \
	{                                                      \
		turns(engine, LOST_POSITION);                  \
	}                                                      \
	Test(pass, name##_turns_without_a_feed)                \
	{                                                      \
		turns(engine, NO_FEED);                        \
	}                                                      \
	Test(pass, name##_turns_without_a_second_connection)   \
	{                                                      \
		turns(engine, NO_SECOND_CONNECTION);           \
	}                                                      \
	Test(pass, name##_turns_with_a_row_that_breaks_a_load) \
	{                                                      \
		turns(engine, BREAKING_ROW);                   \
	}
TURNS(memory, WORLD_MEMORY)
TURNS(sqlite, WORLD_SQLITE_NEW)
TURNS(postgres, WORLD_PG_NEW)
