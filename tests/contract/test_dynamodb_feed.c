/* SPDX-License-Identifier: Apache-2.0
 * The feed of DynamoDB where entries have ended, or are many: what a follower cannot be told by
 * name is never passed over in silence. The emulator ends no entries; the tests take them away. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/dynamodb/ddb_state.h"
#include "backends/rows.h"
#include "tests/support/run_daemon.h"
#include "tests/support/source_world.h"

enum { DAY_S = 86400, HOUR_S = 3600 };
static struct ddb_server emulator;
static struct world w;         /* follows; it would keep its own entries for a day */
static struct ddb_state other; /* another host's daemon, which writes, and keeps them for an hour */
static struct recorder ignored;

static struct ddb_state *mine(void)
{
	return w.state;
}

static void begin(void)
{
	struct backend_options options;

	if (!world_open_alone(&w, &emulator))
		cr_skip_test("no emulator of DynamoDB (tests/requirements.txt)");
	recorder_init(&ignored);
	options = w.options;
	cr_assert_eq(w.ops->source->open(&other, &options, &w.err), SHMETA_OK, "%s", w.err.text);
	mine()->options.feed_keep_s = DAY_S;
	other.options.feed_keep_s = HOUR_S;
}

static void end(void)
{
	if (emulator.pid == 0)
		return;
	w.ops->source->close(&other);
	recorder_free(&ignored);
	world_free_alone(&w, &emulator);
}

TestSuite(dynamodb_feed, .init = begin, .fini = end, .timeout = 180);

/* Another host registers this agent: one transaction, one entry. */
static void write_one(unsigned int number)
{
	char id[24], address[24];
	struct shmeta_op op = {.type = SHMETA_OP_REGISTER_AGENT};
	struct backend_op one = {.op = &op, .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	struct shmeta_result result;

	(void)snprintf(id, sizeof id, "agent-%06u", number);
	(void)snprintf(address, sizeof address, "host-%06u:1", number);
	op.agent_id = rows_str(id);
	op.u.agent = (struct shmeta_agent){.agent_id = rows_str(id),
	                                   .address = rows_str(address),
	                                   .availability_zone = rows_str("a"),
	                                   .agent_group = rows_str("g"),
	                                   .last_heartbeat_ms = 1,
	                                   .started_at_ms = 1};
	other.swept_ns = ddb_now_ns();
	cr_assert_eq(w.ops->writer->apply(&other, &one, 1, 1700000000000, &result, &ignored.sink, &w.err), SHMETA_OK,
	             "%s", w.err.text);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
}

static void write_some(unsigned int from, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		write_one(from + i);
}

static void changes(void)
{
	enum shmeta_status status = world_changes(&w);

	cr_assert_eq(status, SHMETA_OK, "%s: %s", shmeta_strerror(status), w.err.text);
}

/* The follower is told all that was written, and goes on from there. */
static void follow(void)
{
	changes();
	for (double last = run_now_s() + 20; w.changed || w.lag_ns > 0; changes())
		cr_assert_lt(run_now_s(), last, "the feed does not come to rest");
}

static void expect_everything_is_read(void)
{
	changes();
	cr_expect_eq(w.changed, 1, "nothing was told");
	cr_expect(recorder_has(&w.recorder, "list"), "a comparison is due, and was not asked for:\n%s",
	          recorder_text(&w.recorder));
}

static void expect_names(bool named, unsigned int number)
{
	char id[24];

	(void)snprintf(id, sizeof id, "agent-%06u", number);
	cr_expect_eq(recorder_has(&w.recorder, id), named, "%s:\n%s", id, recorder_text(&w.recorder));
}

/* It was away for so long. */
static void be_away(int64_t seconds)
{
	mine()->log.synced_ms -= seconds * 1000;
}

static void run(struct ddb_call *call)
{
	ddb_begin(&other, DDB_FOR_WRITE);
	ddb_link_run(&other.link, call, 1, other.deadline_ns);
	cr_assert_eq(call->outcome, DDB_DONE, "%s", call->error);
	json_decref(call->body);
	ddb_call_free(call);
}

/* As its time to live does. */
static void take_away(const struct ddb_key *key)
{
	struct ddb_call call = {.target = "DeleteItem",
	                        .body = json_pack("{s:s, s:o}", "TableName", other.link.uri.table[key->table], "Key",
	                                          ddb_item_of(key))};

	run(&call);
}

static void end_entries(uint64_t from, uint64_t count)
{
	struct ddb_key key;

	for (uint64_t seq = from; seq < from + count; seq++) {
		ddb_key_log(&key, other.log.writer, seq);
		take_away(&key);
	}
}

static void end_writer(void)
{
	struct ddb_key key;

	ddb_key_writer(&key, other.log.writer);
	take_away(&key);
}

/* *ret: its item, to be freed; NULL: there is none. */
static json_t *item_at(enum ddb_table table, const char *pk, const char *sk)
{
	struct ddb_query q = {.table = table, .pk = pk, .from = sk, .to = sk};
	json_t *ret;

	ddb_begin(&other, DDB_FOR_FEED);
	cr_assert_eq(ddb_queries(&other, &q, 1, "looking", &w.err), SHMETA_OK, "%s", w.err.text);
	ret = json_incref(json_array_get(q.items, 0));
	ddb_queries_free(&q, 1);
	return ret;
}

static bool is_void(uint64_t seq)
{
	struct ddb_key key;
	json_t *item;
	bool ret;

	ddb_key_log(&key, other.log.writer, seq);
	item = item_at(DDB_LOG, key.pk, key.sk);
	ret = ddb_has(item, "void");
	json_decref(item);
	return ret;
}

/* ---- entries that ended ---- */

Test(dynamodb_feed, entries_that_ended_by_their_writers_time_are_not_declared_void)
{
	write_some(0, 3);
	follow();
	write_some(3, 3);
	end_entries(3, 2);
	be_away((int64_t)2 * HOUR_S);
	expect_everything_is_read();
	cr_expect_not(is_void(3), "what ended was declared void");
	follow();
	write_one(6);
	changes();
	expect_names(true, 6);
}

/* The same through a position that a daemon left when it was stopped. */
Test(dynamodb_feed, a_position_is_judged_by_what_the_writers_keep)
{
	char position[400];
	size_t bytes;

	write_some(0, 3);
	follow();
	be_away((int64_t)2 * HOUR_S);
	cr_assert_eq(w.ops->feed->position(w.state, position, sizeof position, &bytes), SHMETA_OK);
	write_some(3, 3);
	end_entries(3, 3);
	world_close(&w);
	world_open(&w);
	mine()->options.feed_keep_s = DAY_S;
	cr_assert_eq(w.ops->feed->resume(w.state, position, bytes, &w.err), SHMETA_OK, "%s", w.err.text);
	expect_everything_is_read();
}

Test(dynamodb_feed, a_writer_that_keeps_its_entries_long_enough_is_followed_on)
{
	other.options.feed_keep_s = DAY_S;
	write_some(0, 3);
	follow();
	write_some(3, 3);
	be_away((int64_t)2 * HOUR_S);
	changes();
	cr_expect_not(recorder_has(&w.recorder, "list"), "%s", recorder_text(&w.recorder));
	expect_names(true, 3);
	expect_names(true, 5);
}

Test(dynamodb_feed, a_gap_that_nothing_under_way_can_leave_is_not_closed)
{
	write_one(0);
	follow();
	write_some(1, 12);
	end_entries(1, 10);
	changes(); /* it is waited for, as any gap is */
	cr_expect_gt(w.lag_ns, 0);
	mine()->log.followed[0].gap_ns = 1;
	expect_everything_is_read();
	cr_expect_not(is_void(1), "what ended was declared void");
}

Test(dynamodb_feed, a_log_that_ended_wholly_is_noticed)
{
	write_some(0, 3);
	follow();
	write_some(3, 3);
	end_entries(0, 6);
	be_away((int64_t)2 * HOUR_S);
	expect_everything_is_read();
}

Test(dynamodb_feed, a_writer_whose_item_ended_meanwhile_is_noticed)
{
	write_some(0, 3);
	follow();
	write_some(3, 3);
	end_entries(0, 6);
	end_writer();
	be_away((int64_t)2 * HOUR_S);
	expect_everything_is_read();
	follow(); /* nobody writes any more */
	changes();
	cr_expect_eq(w.changed, 0);
}

/* Entries end in no order. Where the newest look like that a follower begins behind them, and is
 * not told to begin anew for ever. */
Test(dynamodb_feed, a_log_with_holes_is_followed_from_behind_them)
{
	write_some(0, 40);
	end_entries(0, 2);
	end_entries(10, 20);
	follow();
	for (size_t i = 0; i < mine()->log.followed_count; i++)
		cr_expect_geq(mine()->log.followed[i].seq, 39);
	write_one(40);
	changes();
	cr_expect_not(recorder_has(&w.recorder, "list"), "%s", recorder_text(&w.recorder));
	expect_names(true, 40);
}

/* ---- many entries ---- */

/* As many transactions would leave them, each naming one agent. */
static void put_entries(uint64_t count)
{
	struct ddb_call *calls = calloc(count, sizeof *calls);

	cr_assert_not_null(calls);
	cr_assert_eq(ddb_log_register(&other, &w.err), SHMETA_OK);
	ddb_begin(&other, DDB_FOR_WRITE);
	cr_assert_eq(ddb_log_announce(&other, count, &w.err), SHMETA_OK, "%s", w.err.text);
	for (uint64_t i = 0; i < count; i++) {
		char id[24];
		json_t *keys = json_array();

		(void)snprintf(id, sizeof id, "agent-%06u", (unsigned int)i);
		(void)json_array_append_new(keys,
		                            ddb_log_key(&(struct backend_key){.cls = SHMETA_CLASS_AGENT,
		                                                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                                                              .name = rows_str(id)}));
		calls[i] =
			(struct ddb_call){.target = "PutItem",
		                          .body = json_pack("{s:s, s:o}", "TableName", other.link.uri.table[DDB_LOG],
		                                            "Item", ddb_log_entry(&other, ddb_log_take(&other), keys))};
		json_decref(keys);
	}
	ddb_link_run(&other.link, calls, count, ddb_now_ns() + UINT64_C(60000000000));
	for (uint64_t i = 0; i < count; i++) {
		cr_assert_eq(calls[i].outcome, DDB_DONE, "%s", calls[i].error);
		json_decref(calls[i].body);
		ddb_call_free(&calls[i]);
	}
	free(calls);
}

Test(dynamodb_feed, a_long_backlog_is_told_in_parts_in_order_and_wholly)
{
	enum { MANY = 2300 };
	unsigned int told = 0, looks = 0;

	follow();
	put_entries(MANY);
	be_away(600);
	for (bool more = true; more; looks++) {
		const char *text;

		changes();
		more = w.lag_ns > 0;
		text = recorder_text(&w.recorder);
		cr_expect_leq(w.recorder.changed, 1000);
		cr_expect(!more || w.lag_ns >= UINT64_C(600000000000), "what is untold is older than %llu ns",
		          (unsigned long long)w.lag_ns);
		for (const char *at = text; (at = strstr(at, "agent-")) != NULL; told++, at++)
			cr_assert_eq(strtoul(at + 6, NULL, 10), told, "agent %.6s is told in place of %u", at + 6,
			             told);
	}
	cr_expect_eq(told, MANY);
	cr_expect_eq(looks, 3);
	changes();
	cr_expect_eq(w.changed, 0);
	cr_expect_eq(w.lag_ns, 0);
}

/* ---- the writer's item ---- */

static int64_t now_s(void)
{
	return (int64_t)time(NULL);
}

Test(dynamodb_feed, a_writers_item_outlives_every_position_and_says_how_long_it_keeps)
{
	json_t *item;

	write_one(0);
	item = item_at(DDB_WRITERS, "W", other.log.writer);
	cr_assert_not_null(item);
	cr_expect_eq(ddb_number(item, "keep"), HOUR_S);
	cr_expect_gt(ddb_number(item, "ttl"), now_s() + 7 * DAY_S);
	json_decref(item);
}

Test(dynamodb_feed, a_writer_that_was_paused_for_long_announces_itself_before_it_writes)
{
	json_t *item;

	write_some(0, 2);
	follow();
	end_writer();
	write_one(2); /* its item was there a moment ago */
	other.log.said_ms -= (int64_t)DAY_S * 1000;
	write_one(3);
	item = item_at(DDB_WRITERS, "W", other.log.writer);
	cr_expect_not_null(item, "nobody follows it");
	json_decref(item);
	changes();
	expect_names(true, 2);
	expect_names(true, 3);
}

/* This host's clock is two days behind; DynamoDB refused a signature, so that is known. */
Test(dynamodb_feed, entries_end_by_the_sources_clock)
{
	struct ddb_key key;
	json_t *item;

	other.link.skew_s = (int64_t)2 * DAY_S;
	ddb_key_log(&key, "0123456789abcdef", 5);
	item = ddb_log_entry(&other, 5, NULL);
	cr_expect_geq(ddb_number(item, "at"), (now_s() + 2 * DAY_S - 5) * 1000);
	cr_expect_gt(ddb_number(item, "ttl"), now_s() + 2 * DAY_S);
	json_decref(item);
	mine()->link.skew_s = (int64_t)2 * DAY_S;
	cr_expect_eq(ddb_log_baseline(mine(), &w.err), SHMETA_OK, "%s", w.err.text);
	mine()->link.skew_s = 0;
	cr_expect_geq(mine()->log.synced_ms, (now_s() + 2 * DAY_S - 60) * 1000);
}
