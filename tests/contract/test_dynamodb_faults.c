/* SPDX-License-Identifier: Apache-2.0
 * DynamoDB behind a faulty network and under load: what holds under each fault that an emulator
 * does not show (support/ddb_proxy.h). In each test every request's signature is checked, and no
 * read is eventually consistent. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backends/dynamodb/ddb_state.h"
#include "backends/rows.h"
#include "tests/support/ddb_proxy.h"
#include "tests/support/ddb_server.h"
#include "tests/support/run_daemon.h"
#include "tests/support/scratch.h"
#include "tests/support/source_world.h"

static const char emulator_at[] = "SHMETA_TEST_DYNAMODB";
static struct ddb_server emulator;
static struct ddb_proxy proxy;
static struct world w;
static char direct[200];
static struct ddb_proxy_counts counts;
static bool keys_may_be_refused;

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	char port[8];

	(void)set;
	if (!ddb_server_installed())
		return;
	ddb_server_start(&emulator);
	(void)snprintf(port, sizeof port, "%u", emulator.port);
	setenv(emulator_at, port, 1);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	ddb_server_stop(&emulator);
}

static void begin(void)
{
	char port[8];
	uint16_t real;

	if (getenv(emulator_at) == NULL)
		cr_skip_test("no emulator of DynamoDB (tests/requirements.txt)");
	real = (uint16_t)strtoul(getenv(emulator_at), NULL, 10);
	ddb_proxy_start(&proxy, real);
	(void)snprintf(port, sizeof port, "%u", proxy.port);
	setenv(emulator_at, port, 1);
	world_make(&w, WORLD_DYNAMODB);
	world_open(&w);
	ddb_server_uri(real, strrchr(w.uri, '/') == NULL ? "" : w.uri + strlen("dynamodb://us-east-1/"), direct,
	               sizeof direct);
	*strchr(direct + strlen("dynamodb://"), '?') = '\0';
	(void)snprintf(direct + strlen(direct), sizeof direct - strlen(direct), "?endpoint=http://127.0.0.1:%u", real);
	/* from here on its feed tells */
	cr_assert_eq(world_changes(&w), SHMETA_OK, "%s", w.err.text);
}

static void end(void)
{
	if (proxy.pid == 0)
		return;
	ddb_proxy_counts(&proxy, &counts);
	cr_expect_eq(counts.stale, 0, "%llu reads were eventually consistent", (unsigned long long)counts.stale);
	cr_expect(keys_may_be_refused || counts.refused == 0, "a signature was refused: %s", ddb_proxy_why(&proxy));
	cr_expect_gt(counts.requests, 0);
	world_free(&w);
	ddb_proxy_stop(&proxy);
}

TestSuite(dynamodb_faults, .init = begin, .fini = end, .timeout = 180);

/* ---- what is done, and what is there ---- */

static struct shmeta_result result;

static enum shmeta_status do_op(const struct shmeta_op *op)
{
	struct backend_op one = {.op = op, .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	enum shmeta_status status;

	memset(&result, 0, sizeof result);
	recorder_clear(&w.recorder);
	status = w.ops->writer->apply(w.state, &one, 1, 1700000000000, &result, &w.recorder.sink, &w.err);
	return status != SHMETA_OK ? status : result.status;
}

static enum shmeta_status add_topic(const char *name, uint32_t partitions)
{
	return do_op(&(struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = rows_str(name), .partition_count = partitions}});
}

static enum shmeta_status add_segment(uint32_t partition, uint64_t base)
{
	char id[40];

	(void)snprintf(id, sizeof id, "t-%u-%llu", partition, (unsigned long long)base);
	return do_op(&(struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                                 .name = rows_str("t"),
	                                 .partition_id = partition,
	                                 .u.segment = {.base_offset = base,
	                                               .end_offset = base + 9,
	                                               .record_count = 10,
	                                               .size_bytes = 100,
	                                               .created_at_ms = 5,
	                                               .partition_id = partition,
	                                               .id = rows_str(id),
	                                               .s3_bucket = rows_str("bucket"),
	                                               .s3_key = rows_str(id)}});
}

static enum shmeta_status acquire(void)
{
	return do_op(&(struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
	                                 .name = rows_str("t"),
	                                 .agent_id = rows_str("agent-1"),
	                                 .duration_ms = 60000});
}

static void meet(enum ddb_fault fault, const char *target, uint32_t skip, uint32_t times)
{
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = fault, .target = target, .skip = skip, .times = times});
}

static uint64_t met(enum ddb_fault fault)
{
	ddb_proxy_counts(&proxy, &counts);
	return counts.faults[fault];
}

static void expect_ok(enum shmeta_status status)
{
	cr_expect_eq(status, SHMETA_OK, "%s: %s / %s", shmeta_strerror(status), result.text, w.err.text);
}

static void expect_line(const char *line, bool there)
{
	cr_expect_eq(recorder_has(&w.recorder, line), there, "'%s' is %sin:\n%s", line, there ? "not " : "",
	             recorder_text(&w.recorder));
}

/* Topic t of four partitions, an agent; then so many segments in partition 0 through the fault,
 * each done exactly once. */
static void fill(void)
{
	expect_ok(add_topic("t", 4));
	world_agent(&w, "agent-1", 1, NULL);
}

/* Everything that was acknowledged is there once, by a read that meets no fault. */
static void expect_segments(uint32_t count)
{
	char line[80];

	ddb_proxy_clear(&proxy);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, count, "%s", recorder_text(&w.recorder));
	(void)snprintf(line, sizeof line, "t/0 watermark=%u", count * 10);
	expect_line(line, true);
	cr_expect_str_empty(w.recorder.order_error);
}

/* Three writes, the second of which meets the fault twice, as every fence and epoch behind it. */
static void expect_done_once(enum ddb_fault fault)
{
	fill();
	expect_ok(add_segment(0, 0));
	meet(fault, "TransactWriteItems", 0, 2);
	expect_ok(add_segment(0, 10));
	cr_expect_eq(met(fault), fault == DDB_FAULT_SLOW ? 1 : 2);
	expect_ok(add_segment(0, 20));
	meet(fault, "TransactWriteItems", 0, 2);
	expect_ok(acquire());
	cr_expect_eq(result.lease.epoch, 1, "the epoch is %llu", (unsigned long long)result.lease.epoch);
	cr_expect_eq(add_segment(0, 10), SHMETA_ERR_ALREADY_EXISTS);
	expect_segments(3);
	expect_line("epoch=1", true);
}

/* ---- writes ---- */

Test(dynamodb_faults, a_write_that_meets_a_conflict_is_done_once)
{
	expect_done_once(DDB_FAULT_CONFLICT);
}

Test(dynamodb_faults, a_write_that_is_throttled_is_done_once)
{
	expect_done_once(DDB_FAULT_THROTTLED);
}

Test(dynamodb_faults, a_write_that_meets_an_internal_error_is_done_once)
{
	expect_done_once(DDB_FAULT_500);
}

Test(dynamodb_faults, a_write_that_meets_an_internal_error_when_it_was_done_is_done_once)
{
	expect_done_once(DDB_FAULT_500_DONE);
}

Test(dynamodb_faults, a_write_that_meets_a_page_of_html_is_done_once)
{
	expect_done_once(DDB_FAULT_503);
}

Test(dynamodb_faults, a_write_whose_connection_is_cut_before_it_is_done_once)
{
	expect_done_once(DDB_FAULT_CUT);
}

Test(dynamodb_faults, a_write_whose_connection_is_cut_behind_it_is_done_once)
{
	expect_done_once(DDB_FAULT_CUT_DONE);
}

Test(dynamodb_faults, a_write_whose_answer_has_a_wrong_checksum_is_done_once)
{
	expect_done_once(DDB_FAULT_CRC);
}

Test(dynamodb_faults, a_write_that_is_slow_is_waited_for)
{
	expect_done_once(DDB_FAULT_SLOW);
}

/* ---- writes of which nothing is heard ---- */

enum { SHORT_MS = 4000 };

/* How long the engine's calls may take from now on. */
static void give(uint32_t ms)
{
	((struct ddb_state *)w.state)->options.timeout_ms = ms;
}

/* Two in a row leave time for a third one; if the first took all of it, the second would find
 * none. */
Test(dynamodb_faults, one_silent_connection_does_not_take_all_the_time_of_a_call)
{
	fill();
	meet(DDB_FAULT_SILENT, "TransactWriteItems", 0, 2);
	give(SHORT_MS * 2);
	expect_ok(add_segment(0, 0));
	meet(DDB_FAULT_SILENT_DONE, "TransactWriteItems", 0, 1);
	expect_ok(add_segment(0, 10));
	meet(DDB_FAULT_SILENT, "Query", 0, 1);
	expect_ok(world_load(&w));
	give(w.options.timeout_ms);
	expect_segments(2);
}

/* Every answer to the transaction is lost, until its time is over: its entry in the log says that
 * it was done. */
Test(dynamodb_faults, a_write_that_was_never_answered_is_known_by_its_entry_in_the_log)
{
	fill();
	meet(DDB_FAULT_CUT_DONE, "TransactWriteItems", 0, UINT32_MAX);
	give(SHORT_MS);
	expect_ok(add_segment(0, 0));
	give(w.options.timeout_ms);
	cr_expect_gt(met(DDB_FAULT_CUT_DONE), 1);
	expect_segments(1);
}

Test(dynamodb_faults, a_write_that_never_arrives_is_known_not_to_have_been_done)
{
	enum shmeta_status status;

	fill();
	meet(DDB_FAULT_CUT, "TransactWriteItems", 0, UINT32_MAX);
	give(SHORT_MS);
	status = add_segment(0, 0);
	give(w.options.timeout_ms);
	cr_expect_eq(status, SHMETA_ERR_SOURCE, "%s: %s", shmeta_strerror(status), w.err.text);
	ddb_proxy_clear(&proxy);
	expect_ok(add_segment(0, 0));
	expect_segments(1);
}

static enum shmeta_status commit_offset(uint32_t partition, uint64_t offset)
{
	return do_op(&(struct shmeta_op){.type = SHMETA_OP_COMMIT_OFFSET,
	                                 .name = rows_str("t"),
	                                 .partition_id = partition,
	                                 .group_id = rows_str("readers"),
	                                 .u.committed = {.group_id = rows_str("readers"),
	                                                 .partition_id = partition,
	                                                 .committed_offset = offset}});
}

/* Neither transactions with this text nor the question about them are answered. */
static void lose(enum ddb_fault fault, const char *part)
{
	fill();
	expect_ok(add_segment(0, 0));
	expect_ok(add_segment(0, 10)); /* its log is announced */
	expect_ok(commit_offset(0, 1));
	expect_ok(world_changes(&w)); /* the agent is another writer's */
	ddb_proxy_rule(
		&proxy,
		(struct ddb_rule){.fault = fault, .target = "TransactWriteItems", .part = part, .times = UINT32_MAX});
	meet(DDB_FAULT_THROTTLED, "PutItem", 0, UINT32_MAX);
	give(SHORT_MS);
}

static void expect_status(enum shmeta_status status, enum shmeta_status expected)
{
	cr_expect_eq(status, expected, "%s: %s / %s", shmeta_strerror(status), result.text, w.err.text);
}

/* While that is not known others write, also to the same partition; the feed tells what it knows,
 * and for how long it does not know all. */
static void lose_everything(enum ddb_fault fault, bool done)
{
	lose(fault, "t-0-20");
	expect_status(add_segment(0, 20), SHMETA_ERR_OUTCOME_UNKNOWN);
	give(w.options.timeout_ms);
	expect_ok(add_segment(1, 0));
	expect_ok(add_segment(0, 30));
	recorder_clear(&w.recorder);
	expect_ok(world_changes(&w));
	cr_expect_geq(w.lag_ns, SHORT_MS * UINT64_C(1000000), "it claims to know all");
	expect_line("segment", false);
	ddb_proxy_clear(&proxy);
	expect_ok(world_changes(&w));
	expect_line("segment", done);
	cr_expect_eq(w.changed, done);
	cr_expect_eq(w.lag_ns, 0);
	expect_status(add_segment(0, 20), done ? SHMETA_ERR_ALREADY_EXISTS : SHMETA_OK);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, 5, "%s", recorder_text(&w.recorder));
	cr_expect_str_empty(w.recorder.order_error);
}

Test(dynamodb_faults, an_unknown_outcome_that_was_done_is_told_by_the_feed)
{
	lose_everything(DDB_FAULT_CUT_DONE, true);
}

Test(dynamodb_faults, an_unknown_outcome_that_was_not_done_never_will_be)
{
	lose_everything(DDB_FAULT_CUT, false);
}

/* An offset is written whatever is there: one that comes late would go back behind a later one. */
Test(dynamodb_faults, what_an_unknown_outcome_may_yet_write_over_waits_alone)
{
	lose(DDB_FAULT_HOLD, "0000000001");
	expect_status(commit_offset(1, 5), SHMETA_ERR_OUTCOME_UNKNOWN);
	give(w.options.timeout_ms);
	expect_status(commit_offset(1, 6), SHMETA_ERR_BUSY);
	expect_ok(commit_offset(2, 7));
	expect_ok(add_segment(2, 0));
	ddb_proxy_clear(&proxy); /* it comes now */
	for (ddb_proxy_counts(&proxy, &counts); counts.held > 0; ddb_proxy_counts(&proxy, &counts))
		(void)usleep(1000);
	expect_ok(world_changes(&w));
	expect_ok(commit_offset(1, 6));
	expect_ok(world_load(&w));
	expect_line("committed=6", true);
	expect_line("committed=7", true);
}

/* Who begins to follow the log looks at its newest entries: one that may come late has to be among
 * them. */
Test(dynamodb_faults, behind_an_unknown_outcome_no_more_is_written_than_followers_look_at)
{
	enum shmeta_status status = SHMETA_OK;
	uint64_t written = 0;

	lose(DDB_FAULT_CUT, "t-0-20");
	expect_status(add_segment(0, 20), SHMETA_ERR_OUTCOME_UNKNOWN);
	for (; status == SHMETA_OK && written < 2 * DDB_WINDOW; written++)
		status = add_segment(1, written * 10);
	give(w.options.timeout_ms);
	expect_status(status, SHMETA_ERR_BUSY);
	cr_expect_leq(written, DDB_WINDOW - DDB_IN_FLIGHT_MAX);
	cr_expect_gt(written, DDB_IN_FLIGHT_MAX);
	ddb_proxy_clear(&proxy);
	expect_ok(add_segment(1, (written - 1) * 10));
}

/* The request arrives when its writer has given it up, and has said in the log that it never
 * happened. */
Test(dynamodb_faults, a_write_that_comes_late_is_not_done)
{
	enum shmeta_status status;

	fill();
	meet(DDB_FAULT_HOLD, "TransactWriteItems", 0, UINT32_MAX);
	give(SHORT_MS);
	status = add_segment(0, 0);
	give(w.options.timeout_ms);
	cr_expect_eq(status, SHMETA_ERR_SOURCE, "%s: %s", shmeta_strerror(status), w.err.text);
	cr_expect_gt(met(DDB_FAULT_HOLD), 0);
	ddb_proxy_clear(&proxy); /* it comes now */
	for (ddb_proxy_counts(&proxy, &counts); counts.held > 0; ddb_proxy_counts(&proxy, &counts))
		(void)usleep(1000);
	(void)usleep(200000);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, 0, "%s", recorder_text(&w.recorder));
	expect_ok(add_segment(0, 0));
	expect_segments(1);
}

Test(dynamodb_faults, a_batch_of_many_transactions_is_done_wholly_though_each_fault_meets_one)
{
	static const enum ddb_fault faults[] = {DDB_FAULT_CONFLICT, DDB_FAULT_THROTTLED, DDB_FAULT_500_DONE,
	                                        DDB_FAULT_CUT_DONE, DDB_FAULT_CRC,       DDB_FAULT_CUT};
	enum { MANY = 300 };
	struct shmeta_op *ops = calloc(MANY, sizeof *ops);
	struct backend_op *batch = calloc(MANY, sizeof *batch);
	struct shmeta_result *results = calloc(MANY, sizeof *results);
	char(*id)[40] = calloc(MANY, sizeof *id);

	cr_assert(ops != NULL && batch != NULL && results != NULL && id != NULL);
	fill();
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		meet(faults[i], "TransactWriteItems", 0, 1);
	for (uint32_t i = 0; i < MANY; i++) {
		uint64_t base = i / 4 * 10;

		(void)snprintf(id[i], sizeof *id, "t-%u-%llu", i % 4, (unsigned long long)base);
		ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		                            .name = rows_str("t"),
		                            .partition_id = i % 4,
		                            .u.segment = {.base_offset = base,
		                                          .end_offset = base + 9,
		                                          .record_count = 10,
		                                          .size_bytes = 100,
		                                          .created_at_ms = 5,
		                                          .partition_id = i % 4,
		                                          .id = rows_str(id[i]),
		                                          .s3_bucket = rows_str("bucket"),
		                                          .s3_key = rows_str(id[i])}};
		batch[i] = (struct backend_op){.op = &ops[i], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	}
	expect_ok(w.ops->writer->apply(w.state, batch, MANY, 1700000000000, results, &w.recorder.sink, &w.err));
	for (uint32_t i = 0; i < MANY; i++)
		cr_expect_eq(results[i].status, SHMETA_OK, "%u: %s", i, results[i].text);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		cr_expect_eq(met(faults[i]), 1);
	ddb_proxy_clear(&proxy);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, MANY);
	for (uint32_t p = 0; p < 4; p++) {
		char line[80];

		(void)snprintf(line, sizeof line, "t/%u watermark=750", p);
		expect_line(line, true);
	}
	free(ops);
	free(batch);
	free(results);
	free(id);
}

/* DynamoDB refuses a transaction for the sake of one item of it, or for the size of all of them. */
Test(dynamodb_faults, what_a_transaction_is_refused_for_is_one_operations_and_the_others_are_done)
{
	enum { MANY = 60, CULPRIT = 31 };
	struct shmeta_op ops[MANY];
	struct backend_op batch[MANY];
	struct shmeta_result results[MANY];
	char id[MANY][40];

	fill();
	for (uint32_t i = 0; i < MANY; i++) {
		(void)snprintf(id[i], sizeof id[i], "t-%u-%u", i % 4, i / 4 * 10);
		ops[i] = (struct shmeta_op){
			.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
			.name = rows_str("t"),
			.partition_id = i % 4,
			.u.segment = {.base_offset = i / 4 * 10,
		                      .end_offset = i / 4 * 10 + 9,
		                      .record_count = 10,
		                      .size_bytes = 100,
		                      .created_at_ms = 5,
		                      .partition_id = i % 4,
		                      .id = rows_str(id[i]),
		                      .s3_bucket = rows_str("bucket"),
		                      .s3_key = i == CULPRIT ? rows_str("the-large-one") : rows_str(id[i])}};
		batch[i] = (struct backend_op){.op = &ops[i], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	}
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_INVALID,
	                                         .target = "TransactWriteItems",
	                                         .part = "the-large-one",
	                                         .times = UINT32_MAX});
	expect_ok(w.ops->writer->apply(w.state, batch, MANY, 1700000000000, results, &w.recorder.sink, &w.err));
	for (uint32_t i = 0; i < MANY; i++)
		cr_expect_eq(results[i].status, i == CULPRIT ? SHMETA_ERR_INVALID_ARGUMENT : SHMETA_OK, "%u: %d %s", i,
		             (int)results[i].status, results[i].text);
	cr_expect_not_null(strstr(results[CULPRIT].text, "maximum allowed size"), "%s", results[CULPRIT].text);
	ddb_proxy_clear(&proxy);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, MANY - 1);
}

/* ---- reads ---- */

/* What a load shows, in order. */
static char *shown(void)
{
	expect_ok(world_load(&w));
	cr_expect_str_empty(w.recorder.order_error);
	return recorder_sorted(&w.recorder);
}

static void expect_same_load(enum ddb_fault fault, const char *target, uint32_t times)
{
	char *before, *after;

	fill();
	for (uint64_t i = 0; i < 12; i++)
		expect_ok(add_segment((uint32_t)(i % 3), i / 3 * 10));
	world_group(&w, NULL, "readers");
	world_offset(&w, NULL, "readers", "t", 1, 7, NULL);
	before = shown();
	meet(fault, target, 0, times);
	after = shown();
	cr_expect_str_eq(after, before);
	cr_expect_gt(met(fault), 0);
	free(before);
	free(after);
}

Test(dynamodb_faults, pages_of_one_item_are_put_together)
{
	expect_same_load(DDB_FAULT_ONE_A_PAGE, "Query", UINT32_MAX);
}

Test(dynamodb_faults, a_read_that_is_throttled_is_made_again)
{
	expect_same_load(DDB_FAULT_THROTTLED, "Query", 5);
}

Test(dynamodb_faults, a_read_whose_checksum_is_wrong_is_made_again)
{
	expect_same_load(DDB_FAULT_CRC, "Query", 5);
}

Test(dynamodb_faults, a_read_whose_connection_is_cut_is_made_again)
{
	expect_same_load(DDB_FAULT_CUT_DONE, "Query", 5);
}

Test(dynamodb_faults, keys_that_are_left_unprocessed_are_asked_for_again)
{
	static struct shmeta_op ops[60];
	static struct shmeta_result results[60];
	struct backend_op batch[60];
	struct backend_key keys[60];
	char name[60][8];

	for (uint32_t i = 0; i < 60; i++) {
		(void)snprintf(name[i], sizeof name[i], "k%u", i);
		ops[i] = (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
		                            .u.topic = {.name = rows_str(name[i]), .partition_count = 1}};
		batch[i] = (struct backend_op){.op = &ops[i], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
		keys[i] = (struct backend_key){.cls = SHMETA_CLASS_TOPIC,
		                               .tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                               .topic = rows_str(name[i]),
		                               .row_only = 1};
	}
	expect_ok(w.ops->writer->apply(w.state, batch, 60, 1700000000000, results, &w.recorder.sink, &w.err));
	meet(DDB_FAULT_UNPROCESSED, "BatchGetItem", 0, UINT32_MAX);
	expect_ok(world_fetch(&w, keys, 60));
	cr_expect_eq(w.recorder.topics, 60, "%s", recorder_text(&w.recorder));
	cr_expect_gt(met(DDB_FAULT_UNPROCESSED), 3);
	cr_expect_eq(w.recorder.keys_ended, 60);
}

/* So many of them show their segment; the others fail, each by itself. */
static void expect_keys(struct backend_key *keys, size_t count, uint64_t good)
{
	enum shmeta_status status = world_fetch(&w, keys, count);

	cr_expect_eq(status, good < count ? SHMETA_ERR_BUSY : SHMETA_OK, "%s", shmeta_strerror(status));
	cr_expect_eq(w.recorder.keys_ended, count, "%s", recorder_text(&w.recorder));
	cr_expect_eq(w.recorder.keys_failed, count - good, "%s", recorder_text(&w.recorder));
	cr_expect_eq(w.recorder.segments, good, "%s", recorder_text(&w.recorder));
	expect_line("ProvisionedThroughputExceeded", good < count);
}

/* The segments of one partition, or its item, are throttled until nobody waits any more; those who
 * ask for it again ask once. */
static void expect_one_hot_key(const char *target, const char *part, size_t beside)
{
	struct backend_key keys[4];
	uint64_t before;

	fill();
	for (uint32_t i = 0; i < 4; i++) {
		expect_ok(add_segment(i, 0));
		keys[i] = (struct backend_key){.cls = SHMETA_CLASS_SEGMENT,
		                               .tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                               .topic = rows_str("t"),
		                               .partition_id = i,
		                               .to = INT64_MAX};
	}
	expect_keys(keys, 4, 4);
	ddb_proxy_rule(
		&proxy,
		(struct ddb_rule){.fault = DDB_FAULT_THROTTLED, .target = target, .part = part, .times = UINT32_MAX});
	expect_keys(keys, 4, beside);
	((struct ddb_state *)w.state)->hot_ns = UINT64_MAX;
	before = met(DDB_FAULT_THROTTLED);
	expect_keys(keys + 2, 1, 0);
	expect_keys(keys, 4, beside);
	expect_keys(keys, 2, 2);
	cr_expect_eq(met(DDB_FAULT_THROTTLED), before + 2);
	ddb_proxy_clear(&proxy);
	expect_keys(keys, 4, 4);
}

Test(dynamodb_faults, segments_that_are_throttled_fail_for_their_key_alone)
{
	expect_one_hot_key("Query", "\\u001F2\"", 3);
}

/* All items of that call: they are told apart by asking for fewer. */
Test(dynamodb_faults, items_that_are_throttled_fail_for_their_keys_alone)
{
	expect_one_hot_key("BatchGetItem", "0000000002", 0);
}

/* The feed stands still, and the source is there. */
Test(dynamodb_faults, a_poll_that_is_throttled_is_no_failure_of_the_source)
{
	enum shmeta_status status;

	fill();
	meet(DDB_FAULT_THROTTLED, NULL, 0, UINT32_MAX);
	give(SHORT_MS);
	status = world_changes(&w);
	cr_expect_eq(status, SHMETA_ERR_BUSY, "%s: %s", shmeta_strerror(status), w.err.text);
	cr_expect_not_null(strstr(w.err.text, "ProvisionedThroughputExceeded"), "%s", w.err.text);
	give(w.options.timeout_ms);
	ddb_proxy_clear(&proxy);
	expect_ok(world_changes(&w));
}

/* ---- whole classes ---- */

enum { MANY_TOPICS = 150 };
static char many_names[MANY_TOPICS][8];
static struct shmeta_op many_ops[MANY_TOPICS];
static struct backend_op many_batch[MANY_TOPICS];
static struct shmeta_result many_results[MANY_TOPICS];

static void do_many(void)
{
	for (size_t i = 0; i < MANY_TOPICS; i++)
		many_batch[i] = (struct backend_op){.op = &many_ops[i], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	expect_ok(w.ops->writer->apply(w.state, many_batch, MANY_TOPICS, 1700000000000, many_results, &w.recorder.sink,
	                               &w.err));
	for (size_t i = 0; i < MANY_TOPICS; i++)
		cr_assert_eq(many_results[i].status, SHMETA_OK, "%s", many_results[i].text);
}

/* Topics of one partition, each with a lease, and as many groups, each with an offset. */
static void fill_many(void)
{
	fill();
	for (size_t i = 0; i < MANY_TOPICS; i++) {
		(void)snprintf(many_names[i], sizeof many_names[i], "m%zu", i);
		many_ops[i] = (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
		                                 .u.topic = {.name = rows_str(many_names[i]), .partition_count = 1}};
	}
	do_many();
	for (size_t i = 0; i < MANY_TOPICS; i++)
		many_ops[i] = (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
		                                 .name = rows_str(many_names[i]),
		                                 .agent_id = rows_str("agent-1"),
		                                 .duration_ms = 60000};
	do_many();
	for (size_t i = 0; i < MANY_TOPICS; i++)
		many_ops[i] =
			(struct shmeta_op){.type = SHMETA_OP_COMMIT_OFFSET,
		                           .name = rows_str(many_names[i]),
		                           .group_id = rows_str(many_names[i]),
		                           .u.committed = {.group_id = rows_str(many_names[i]), .committed_offset = i}};
	do_many();
}

/* The time of the call is over with the first row of each part. */
static enum shmeta_status late_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                     const struct shmeta_lease *lease)
{
	((struct ddb_state *)w.state)->deadline_ns = 1;
	return w.recorder.sink.lease(arg, tenant, topic, lease);
}

static enum shmeta_status late_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	((struct ddb_state *)w.state)->deadline_ns = 1;
	return w.recorder.sink.group(arg, tenant, group);
}

static const struct backend_key all_leases = {.cls = SHMETA_CLASS_LEASE}, all_offsets = {.cls = SHMETA_CLASS_OFFSET};

Test(dynamodb_faults, each_part_of_a_whole_class_has_the_time_of_a_call)
{
	struct backend_sink sink;

	fill_many();
	sink = w.recorder.sink;
	sink.lease = late_lease;
	sink.group = late_group;
	recorder_clear(&w.recorder);
	expect_ok(w.ops->source->fetch(w.state, &all_leases, 1, &sink, &w.err));
	cr_expect_eq(w.recorder.keys_failed, 0, "%s", w.recorder.key_sentence);
	cr_expect_eq(w.recorder.leases, MANY_TOPICS);
	recorder_clear(&w.recorder);
	expect_ok(w.ops->source->fetch(w.state, &all_offsets, 1, &sink, &w.err));
	cr_expect_eq(w.recorder.keys_failed, 0, "%s", w.recorder.key_sentence);
	cr_expect_eq(w.recorder.groups, MANY_TOPICS);
	cr_expect_eq(w.recorder.offsets, MANY_TOPICS);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.leases, MANY_TOPICS);
	cr_expect_eq(w.recorder.groups, MANY_TOPICS);
	cr_expect_eq(w.recorder.offsets, MANY_TOPICS);
	cr_expect_str_empty(w.recorder.order_error);
}

static void *fetch_leases_in_thread(void *arg)
{
	*(enum shmeta_status *)arg = world_fetch(&w, &all_leases, 1);
	return NULL;
}

Test(dynamodb_faults, leases_of_many_topics_are_read_at_the_same_time)
{
	enum shmeta_status status = SHMETA_ERR_SYSTEM;
	pthread_t thread;

	fill_many();
	meet(DDB_FAULT_HOLD, "Query", 1, UINT32_MAX); /* the first one lists the topics */
	cr_assert_eq(pthread_create(&thread, NULL, fetch_leases_in_thread, &status), 0);
	for (double last = run_now_s() + 20; counts.held < 16; ddb_proxy_counts(&proxy, &counts)) {
		cr_assert_lt(run_now_s(), last, "%llu at a time", (unsigned long long)counts.held);
		(void)usleep(1000);
	}
	ddb_proxy_clear(&proxy);
	(void)pthread_join(thread, NULL);
	expect_ok(status);
	cr_expect_eq(w.recorder.leases, MANY_TOPICS);
}

static enum shmeta_status fifth_turn_ends_it(void *arg, uint64_t done, uint64_t total)
{
	(void)w.recorder.sink.progress(arg, done, total);
	return w.recorder.progressed < 5 ? SHMETA_OK : SHMETA_ERR_TIMEOUT;
}

/* It takes units of many seconds. */
Test(dynamodb_faults, a_load_gives_turns_while_it_waits_for_its_units)
{
	struct backend_sink sink;
	enum shmeta_status status;

	fill_many();
	world_close(&w);
	w.options.read_units_s = 1;
	world_open(&w);
	sink = w.recorder.sink;
	sink.progress = fifth_turn_ends_it;
	recorder_clear(&w.recorder);
	status = w.ops->source->load(w.state, &sink, &w.err);
	cr_expect_eq(status, SHMETA_ERR_TIMEOUT, "%s: %s", shmeta_strerror(status), w.err.text);
	cr_expect_eq(w.recorder.progressed, 5);
}

/* ---- writes that are kept back ---- */

enum { CALL = 4 };
static struct shmeta_op call_ops[CALL];
static struct shmeta_result call_results[CALL];

/* The segment at 0 of each partition of t, in one call. */
static enum shmeta_status add_to_each(void)
{
	static const char *const ids[CALL] = {"t-0-0", "t-1-0", "t-2-0", "t-3-0"};
	struct backend_op batch[CALL];

	for (uint32_t i = 0; i < CALL; i++) {
		call_ops[i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		                                 .name = rows_str("t"),
		                                 .partition_id = i,
		                                 .u.segment = {.end_offset = 9,
		                                               .record_count = 10,
		                                               .size_bytes = 100,
		                                               .created_at_ms = 5,
		                                               .partition_id = i,
		                                               .id = rows_str(ids[i]),
		                                               .s3_bucket = rows_str("bucket"),
		                                               .s3_key = rows_str(ids[i])}};
		batch[i] = (struct backend_op){.op = &call_ops[i], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	}
	recorder_clear(&w.recorder);
	return w.ops->writer->apply(w.state, batch, CALL, 1700000000000, call_results, &w.recorder.sink, &w.err);
}

/* Writes, or reads to judge them, of partition 2 are throttled without end. */
static void expect_one_hot_write(const char *target, bool alone)
{
	fill();
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_THROTTLED,
	                                         .target = target,
	                                         .part = "\"0000000002\"",
	                                         .times = UINT32_MAX});
	((struct ddb_state *)w.state)->hot_ns = UINT64_MAX; /* nobody waits for it any more */
	expect_ok(add_to_each());
	for (uint32_t i = 0; i < CALL; i++) {
		bool busy = i == 2 || !alone;

		cr_expect_eq(call_results[i].status, busy ? SHMETA_ERR_BUSY : SHMETA_OK, "%u: %s %s", i,
		             shmeta_strerror(call_results[i].status), call_results[i].text);
		if (busy)
			cr_expect_not_null(strstr(call_results[i].text, "Throughput"), "%s", call_results[i].text);
	}
	/* Whoever writes elsewhere does not notice. */
	expect_ok(add_segment(1, alone ? 10 : 0));
	ddb_proxy_clear(&proxy);
	expect_ok(add_segment(2, 0));
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, alone ? 5 : 2, "%s", recorder_text(&w.recorder));
}

Test(dynamodb_faults, a_write_that_is_throttled_without_end_fails_alone)
{
	expect_one_hot_write("TransactWriteItems", true);
}

/* What is read to judge a call is read in one. */
Test(dynamodb_faults, operations_whose_items_are_throttled_are_busy)
{
	expect_one_hot_write("BatchGetItem", false);
}

Test(dynamodb_faults, a_write_that_meets_a_conflict_without_end_is_busy)
{
	enum shmeta_status status;

	fill();
	meet(DDB_FAULT_CONFLICT, "TransactWriteItems", 0, UINT32_MAX);
	give(SHORT_MS / 4);
	status = add_segment(0, 0);
	give(w.options.timeout_ms);
	cr_expect_eq(status, SHMETA_ERR_BUSY, "%s: %s", shmeta_strerror(status), result.text);
	cr_expect_neq(w.err.code, SHMETA_ERR_SOURCE, "%s", w.err.text);
	ddb_proxy_clear(&proxy);
	expect_ok(add_segment(0, 0));
	expect_segments(1);
}

/* Rows that are moved are there, or the call says that they are not. */
Test(dynamodb_faults, rows_whose_writes_are_throttled_are_not_put_and_the_call_says_so)
{
	const struct backend_row row = {.kind = BACKEND_ROW_TOPIC,
	                                .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                                .topic = rows_str("moved"),
	                                .u.topic = {.name = rows_str("moved"), .partition_count = 1}};
	enum shmeta_status status;

	meet(DDB_FAULT_THROTTLED, "TransactWriteItems", 0, UINT32_MAX);
	give(SHORT_MS / 4);
	memset(&result, 0, sizeof result);
	status = w.ops->admin->restore(w.state, &row, 1, &result, &w.err);
	cr_expect_eq(status, SHMETA_ERR_BUSY, "%s: %s", shmeta_strerror(status), w.err.text);
	cr_expect_not_null(strstr(w.err.text, "Throughput"), "%s", w.err.text);
	give(w.options.timeout_ms);
	ddb_proxy_clear(&proxy);
	expect_ok(w.ops->admin->restore(w.state, &row, 1, &result, &w.err));
	expect_ok(result.status);
}

Test(dynamodb_faults, a_write_beyond_the_units_of_a_second_is_busy_and_names_the_option)
{
	enum shmeta_status status = SHMETA_OK;

	fill();
	world_close(&w);
	w.options.write_units_s = 1;
	world_open(&w);
	give(SHORT_MS / 4);
	for (uint64_t base = 0; status == SHMETA_OK && base < 300; base += 10) {
		status = add_segment(0, base); /* six of them a time */
		cr_expect(w.err.code != SHMETA_ERR_SOURCE, "%s", w.err.text);
	}
	cr_expect_eq(status, SHMETA_ERR_BUSY, "%s: %s", shmeta_strerror(status), w.err.text);
	cr_expect_not_null(strstr(result.text, "postponed: source.write_units_s"), "%s", result.text);
	/* Reads have units of their own. */
	give(w.options.timeout_ms);
	expect_ok(world_load(&w));
}

/* ---- read committed ---- */

static void *load_in_thread(void *arg)
{
	*(enum shmeta_status *)arg = world_load(&w);
	return NULL;
}

/* The halves of a transaction in two pages: while a page of segments is held another host moves two
 * of them, one of them before the page's end, and the watermark. */
Test(dynamodb_faults, a_load_shows_a_partition_and_its_segments_of_one_moment)
{
	struct backend_options options;
	struct ddb_world *other;
	enum shmeta_status status = SHMETA_ERR_SYSTEM;
	pthread_t thread;

	fill();
	for (uint64_t i = 0; i < 4; i++)
		expect_ok(add_segment(0, i * 10));
	options = w.options;
	options.uri = direct;
	other = ddb_world_open(&options);
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_HOLD,
	                                         .target = "Query",
	                                         .part = "ExclusiveStartKey\":{\"pk\":{\"S\":\"" SHMETA_DEFAULT_TENANT,
	                                         .skip = 1,
	                                         .times = 1});
	meet(DDB_FAULT_ONE_A_PAGE, "Query", 0, UINT32_MAX);
	cr_assert_eq(pthread_create(&thread, NULL, load_in_thread, &status), 0);
	for (double last = run_now_s() + 20; counts.held == 0; ddb_proxy_counts(&proxy, &counts)) {
		cr_assert_lt(run_now_s(), last, "no page of segments was asked for");
		(void)usleep(1000);
	}
	/* The first ten are deleted, and a fifth is added: a page that was handed out shows what is
	 * no more. */
	ddb_world_do(other, NULL,
	             &(struct shmeta_op){.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = rows_str("t"), .offset = 10},
	             1700000000000);
	ddb_world_do(other, NULL,
	             &(struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                                 .name = rows_str("t"),
	                                 .u.segment = {.base_offset = 40,
	                                               .end_offset = 49,
	                                               .record_count = 10,
	                                               .size_bytes = 1,
	                                               .created_at_ms = 5,
	                                               .id = rows_str("t-0-40"),
	                                               .s3_bucket = rows_str("b"),
	                                               .s3_key = rows_str("k")}},
	             1700000000000);
	ddb_proxy_release(&proxy);
	(void)pthread_join(thread, NULL);
	expect_ok(status);
	cr_expect_eq(w.recorder.segments, 4, "%s", recorder_text(&w.recorder));
	expect_line("t/0 watermark=50", true);
	expect_line("40..49", true);
	expect_line("0..9", false);
	ddb_world_close(other);
}

/* ---- the feed ---- */

static void throttle_after(uint32_t pages)
{
	ddb_proxy_clear(&proxy);
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_THROTTLED,
	                                         .target = "Query",
	                                         .part = "_log\"",
	                                         .skip = pages,
	                                         .times = UINT32_MAX});
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_ONE_A_PAGE,
	                                         .target = "Query",
	                                         .part = "_log\"",
	                                         .times = UINT32_MAX});
}

/* The source gives three pages, and then nothing more until time is up: what came is told, and the
 * next look goes on behind it. */
Test(dynamodb_faults, what_came_of_a_backlog_is_told_though_the_rest_did_not)
{
	char id[16];

	world_agent(&w, "agent-1", 1, NULL);
	expect_ok(world_changes(&w));
	for (unsigned int i = 0; i < 6; i++) {
		(void)snprintf(id, sizeof id, "late-%u", i);
		world_agent(&w, id, 1, NULL);
	}
	give(SHORT_MS);
	throttle_after(3);
	expect_ok(world_changes(&w));
	cr_expect_gt(w.lag_ns, 0, "that not all is told is not said");
	cr_expect_eq(w.recorder.changed, 3, "%s", recorder_text(&w.recorder));
	expect_line("late-2", true);
	throttle_after(0);
	cr_expect_eq(world_changes(&w), SHMETA_ERR_BUSY);
	give(w.options.timeout_ms);
	ddb_proxy_clear(&proxy);
	expect_ok(world_changes(&w));
	cr_expect_eq(w.lag_ns, 0);
	cr_expect_eq(w.recorder.changed, 3, "%s", recorder_text(&w.recorder));
	expect_line("late-3", true);
	expect_line("late-5", true);
}

/* ---- what a deleted topic leaves ---- */

static struct ddb_state *state(void)
{
	return w.state;
}

static size_t items_at(enum ddb_table table, const char *pk, json_t **ret_first)
{
	struct ddb_query q = {.table = table, .pk = pk};
	size_t count;

	ddb_begin(state(), DDB_FOR_FETCH);
	expect_ok(ddb_queries(state(), &q, 1, "looking", &w.err));
	count = json_array_size(q.items);
	if (ret_first != NULL)
		*ret_first = json_incref(json_array_get(q.items, 0));
	ddb_queries_free(&q, 1);
	return count;
}

/* What is noted of the topic that was deleted: how far it was swept; -1: nothing any more. */
static int64_t swept_to(char inc[DDB_RANDOM_BYTES])
{
	json_t *note = NULL;
	int64_t ret = -1;

	if (items_at(DDB_META, "Z", &note) > 0) {
		(void)snprintf(inc, DDB_RANDOM_BYTES, "%s", ddb_text(note, "sk"));
		ret = ddb_number(note, "from");
	}
	json_decref(note);
	return ret;
}

/* Topic t with so many segments in partition 0, and as many in 2, is deleted, and nothing of them
 * swept. */
static void delete_unswept(uint64_t count)
{
	fill();
	for (uint64_t i = 0; i < count * 2; i++)
		expect_ok(add_segment((uint32_t)(i % 2 * 2), i / 2 * 10));
	/* the deletion itself needs one: the headers' */
	meet(DDB_FAULT_INVALID, "Query", 0, UINT32_MAX);
	expect_ok(do_op(&(struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = rows_str("t")}));
	ddb_proxy_clear(&proxy);
	expect_ok(add_topic("another", 2));
}

static uint64_t left_of(const char *inc)
{
	struct ddb_key key;
	uint64_t count = 0;

	for (uint32_t p = 0; p < 4; p++) {
		ddb_key_segment(&key, rows_str(SHMETA_DEFAULT_TENANT), inc, p, 0);
		count += items_at(DDB_SEG, key.pk, NULL);
	}
	return count;
}

static enum shmeta_status write_another(uint64_t to)
{
	return do_op(&(struct shmeta_op){
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = rows_str("another"), .offset = to});
}

Test(dynamodb_faults, a_topic_that_is_larger_than_a_sweep_is_swept_by_several)
{
	char inc[DDB_RANDOM_BYTES] = "";
	uint64_t left, before;
	int64_t at = 0;
	unsigned int sweeps = 0;

	delete_unswept(12);
	cr_assert_eq(swept_to(inc), 0);
	left = left_of(inc);
	cr_assert_eq(left, 24);
	state()->sweep_most = 5;
	for (; at >= 0 && sweeps < 30; sweeps++) {
		int64_t from = at;

		state()->swept_ns = 0; /* it is due */
		expect_ok(world_changes(&w));
		before = left;
		left = left_of(inc);
		cr_expect_leq(before - left, 5, "%llu segments in one sweep", (unsigned long long)(before - left));
		expect_ok(write_another(sweeps + 1));
		at = swept_to(inc);
		cr_expect(at < 0 || at >= from, "from %lld back to %lld", (long long)from, (long long)at);
	}
	cr_expect_lt(at, 0, "it is noted still, at %lld", (long long)at);
	cr_expect_eq(left_of(inc), 0);
	cr_expect_geq(sweeps, 5);
}

/* Another daemon goes on where one has stopped: it asks for nothing that is swept. */
Test(dynamodb_faults, a_sweep_goes_on_where_the_one_before_it_ended)
{
	char inc[DDB_RANDOM_BYTES] = "";

	delete_unswept(3);
	cr_assert_eq(swept_to(inc), 0);
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_THROTTLED,
	                                         .target = "TransactWriteItems",
	                                         .part = "\\u001F2\"",
	                                         .times = UINT32_MAX});
	state()->swept_ns = 0;
	expect_ok(world_changes(&w));
	ddb_proxy_clear(&proxy);
	cr_expect_eq(swept_to(inc), 2, "partitions 0 and 1 are swept, and that is noted");
	world_close(&w);
	world_open(&w);
	expect_ok(world_changes(&w));
	expect_ok(write_another(1));
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_THROTTLED,
	                                         .target = "Query",
	                                         .part = "\\u001F0\"",
	                                         .times = UINT32_MAX});
	state()->swept_ns = 0;
	expect_ok(world_changes(&w));
	ddb_proxy_clear(&proxy);
	cr_expect_eq(swept_to(inc), -1);
	cr_expect_eq(left_of(inc), 0);
}

/* What cannot be swept holds nobody up: no write asks for it. */
Test(dynamodb_faults, no_write_waits_for_a_sweep)
{
	char inc[DDB_RANDOM_BYTES] = "";

	delete_unswept(3);
	ddb_proxy_rule(&proxy,
	               (struct ddb_rule){
			       .fault = DDB_FAULT_THROTTLED, .target = "Query", .part = "_seg\"", .times = UINT32_MAX});
	for (uint64_t i = 1; i < 4; i++) {
		state()->swept_ns = 0;
		expect_ok(write_another(i));
	}
	cr_expect_eq(met(DDB_FAULT_THROTTLED), 0, "a write swept");
	state()->swept_ns = 0;
	expect_ok(world_changes(&w));
	cr_expect_gt(met(DDB_FAULT_THROTTLED), 0, "nobody swept");
	ddb_proxy_clear(&proxy);
	state()->swept_ns = 0;
	expect_ok(world_changes(&w));
	cr_expect_eq(swept_to(inc), -1);
}

/* ---- segments in place of others ---- */

enum { OLD_MAX = 120 };
static struct shmeta_segment olds[OLD_MAX], merged;
static char old_ids[OLD_MAX][40];

/* Segments of ten offsets each in partition 0, in calls of 40, and one that may come in place of
 * all of them. */
static void add_olds(uint32_t count)
{
	for (uint32_t from = 0; from < count; from += 40) {
		struct shmeta_op ops[40];
		struct backend_op batch[40];
		struct shmeta_result results[40];
		uint32_t n = 0;

		for (; n < 40 && from + n < count; n++) {
			uint32_t i = from + n;

			(void)snprintf(old_ids[i], sizeof old_ids[i], "t-0-%u", i * 10);
			olds[i] = (struct shmeta_segment){.base_offset = i * 10,
			                                  .end_offset = i * 10 + 9,
			                                  .record_count = 10,
			                                  .size_bytes = 100,
			                                  .created_at_ms = 5,
			                                  .id = rows_str(old_ids[i]),
			                                  .s3_bucket = rows_str("bucket"),
			                                  .s3_key = rows_str(old_ids[i])};
			ops[n] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
			                            .name = rows_str("t"),
			                            .u.segment = olds[i]};
			batch[n] = (struct backend_op){.op = &ops[n], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
		}
		expect_ok(w.ops->writer->apply(w.state, batch, n, 1700000000000, results, &w.recorder.sink, &w.err));
		for (uint32_t i = 0; i < n; i++)
			cr_assert_eq(results[i].status, SHMETA_OK, "%s", results[i].text);
	}
	merged = olds[0];
	merged.end_offset = count * 10 - 1;
	merged.s3_key = rows_str("merged");
}

static enum shmeta_status replace(uint32_t count)
{
	return do_op(&(struct shmeta_op){
		.type = SHMETA_OP_REPLACE_SEGMENTS,
		.name = rows_str("t"),
		.u.replace = {.old_segments = olds, .new_segments = &merged, .old_count = count, .new_count = 1}});
}

Test(dynamodb_faults, segments_are_replaced_once_through_each_fault)
{
	static const enum ddb_fault faults[] = {DDB_FAULT_CONFLICT, DDB_FAULT_THROTTLED, DDB_FAULT_500_DONE,
	                                        DDB_FAULT_CUT_DONE, DDB_FAULT_CRC,       DDB_FAULT_CUT};

	fill();
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		add_olds(4);
		meet(faults[i], "TransactWriteItems", 0, 1);
		expect_ok(replace(4));
		cr_expect_eq(result.count, 4, "fault %zu", i);
		cr_expect_eq(met(faults[i]), 1);
		ddb_proxy_clear(&proxy);
		expect_ok(world_load(&w));
		cr_expect_eq(w.recorder.segments, 1, "%s", recorder_text(&w.recorder));
		expect_line("0..39", true);
		expect_ok(do_op(&(struct shmeta_op){
			.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = rows_str("t"), .offset = 40}));
	}
}

Test(dynamodb_faults, what_does_not_fit_one_transaction_is_refused_and_nothing_is_replaced)
{
	fill();
	add_olds(99); /* and the header */
	cr_expect_eq(replace(99), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(result.count, 0);
	cr_expect_not_null(strstr(result.text, "more than the 99 items"), "%s", result.text);
	expect_segments(99);
	merged.end_offset = 979;
	expect_ok(replace(98));
	cr_expect_eq(result.count, 98);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, 2);
}

static void *replace_aside(void *arg)
{
	*(enum shmeta_status *)arg = replace(2);
	return NULL;
}

/* While the transaction is under way, another host adds a segment: what the query found is no
 * longer so. */
static enum shmeta_status replace_beside_an_add(uint64_t base)
{
	struct backend_options options;
	struct ddb_world *other;
	enum shmeta_status status = SHMETA_ERR_SYSTEM;
	pthread_t thread;

	fill();
	add_olds(2);
	options = w.options;
	options.uri = direct;
	other = ddb_world_open(&options);
	meet(DDB_FAULT_HOLD, "TransactWriteItems", 0, 1);
	cr_assert_eq(pthread_create(&thread, NULL, replace_aside, &status), 0);
	for (double last = run_now_s() + 20; counts.held == 0; ddb_proxy_counts(&proxy, &counts)) {
		cr_assert_lt(run_now_s(), last, "no transaction came");
		(void)usleep(1000);
	}
	ddb_world_do(other, NULL,
	             &(struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT,
	                                 .name = rows_str("t"),
	                                 .u.segment = {.base_offset = base,
	                                               .end_offset = base + 9,
	                                               .record_count = 10,
	                                               .size_bytes = 1,
	                                               .created_at_ms = 5,
	                                               .id = rows_str("beside"),
	                                               .s3_bucket = rows_str("b"),
	                                               .s3_key = rows_str("k")}},
	             1700000000000);
	ddb_proxy_release(&proxy);
	(void)pthread_join(thread, NULL);
	ddb_world_close(other);
	ddb_proxy_clear(&proxy);
	expect_ok(world_load(&w));
	return status;
}

Test(dynamodb_faults, a_replacement_sees_the_segment_that_another_host_adds_between_the_old_ones)
{
	cr_expect_eq(replace_beside_an_add(5), SHMETA_ERR_CONFLICT, "%s", result.text);
	cr_expect_not_null(strstr(result.text, "offset 5 lies between"), "%s", result.text);
	cr_expect_eq(w.recorder.segments, 3, "%s", recorder_text(&w.recorder));
}

Test(dynamodb_faults, a_replacement_is_done_once_though_another_host_adds_a_segment_behind_it)
{
	expect_ok(replace_beside_an_add(20));
	cr_expect_eq(result.count, 2);
	cr_expect_eq(w.recorder.segments, 2, "%s", recorder_text(&w.recorder));
	expect_line("0..19", true);
	expect_line("20..29", true);
}

/* ---- many segments that are deleted ---- */

/* Time is up behind the first transactions. */
Test(dynamodb_faults, a_deletion_that_has_no_time_for_all_says_so_alone_and_goes_on_where_it_is_repeated)
{
	struct shmeta_op ops[2] = {
		{.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = rows_str("t"), .offset = 1200},
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = rows_str("t"), .partition_id = 1, .offset = 7}};
	struct backend_op batch[2];
	struct shmeta_result results[2];

	fill();
	add_olds(120);
	for (size_t i = 0; i < 2; i++)
		batch[i] = (struct backend_op){.op = &ops[i], .tenant = rows_str(SHMETA_DEFAULT_TENANT)};
	ddb_proxy_rule(&proxy, (struct ddb_rule){.fault = DDB_FAULT_THROTTLED,
	                                         .target = "TransactWriteItems",
	                                         .part = "_seg\"",
	                                         .skip = 1,
	                                         .times = UINT32_MAX});
	give(SHORT_MS);
	recorder_clear(&w.recorder);
	expect_ok(w.ops->writer->apply(w.state, batch, 2, 1700000000000, results, &w.recorder.sink, &w.err));
	cr_expect_eq(results[0].status, SHMETA_ERR_BUSY, "%s: %s", shmeta_strerror(results[0].status), results[0].text);
	cr_expect_not_null(strstr(results[0].text, "98 segments are deleted"), "%s", results[0].text);
	cr_expect_eq(results[0].count, 0);
	cr_expect_eq(results[1].status, SHMETA_OK, "%s", results[1].text);
	expect_line("segment", true); /* those that are gone */
	give(w.options.timeout_ms);
	ddb_proxy_clear(&proxy);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, 22);
	expect_ok(do_op(&ops[0]));
	cr_expect_eq(result.count, 22);
	expect_ok(world_load(&w));
	cr_expect_eq(w.recorder.segments, 0);
}

/* ---- leader epochs ---- */

static enum shmeta_status append_as_leader(uint64_t base)
{
	char id[40];

	expect_ok(acquire());
	(void)snprintf(id, sizeof id, "t-0-%llu", (unsigned long long)base);
	return do_op(&(struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                                 .name = rows_str("t"),
	                                 .fence = {rows_str("agent-1"), result.lease.epoch},
	                                 .u.segment = {.base_offset = base,
	                                               .end_offset = base + 9,
	                                               .record_count = 10,
	                                               .size_bytes = 100,
	                                               .created_at_ms = 5,
	                                               .id = rows_str(id),
	                                               .s3_bucket = rows_str("bucket"),
	                                               .s3_key = rows_str(id)}});
}

static struct backend_epoch_end end_of(uint64_t epoch)
{
	const struct backend_epoch ask = {
		.tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = rows_str("t"), .epoch = epoch};
	struct backend_epoch_end ret = {.epoch = UINT64_MAX};

	expect_ok(w.ops->admin->epoch_end(w.state, &ask, &ret, &w.err));
	return ret;
}

Test(dynamodb_faults, an_epoch_is_kept_once_through_each_fault)
{
	static const enum ddb_fault faults[] = {DDB_FAULT_CONFLICT, DDB_FAULT_500_DONE, DDB_FAULT_CUT_DONE,
	                                        DDB_FAULT_CUT};
	const size_t count = sizeof faults / sizeof *faults;

	fill();
	expect_ok(append_as_leader(0));
	for (size_t i = 0; i < count; i++) {
		meet(faults[i], "TransactWriteItems", 1, 1); /* the first one takes the lease */
		expect_ok(append_as_leader(10 + i * 10));
		cr_expect_eq(met(faults[i]), 1);
		ddb_proxy_clear(&proxy);
	}
	for (uint64_t epoch = 1; epoch <= count + 1; epoch++) {
		cr_expect_eq(end_of(epoch).epoch, epoch);
		cr_expect_eq(end_of(epoch).end_offset, epoch * 10);
	}
}

/* The item of the former epochs of partition 0. */
static size_t former_items(const char *inc)
{
	struct ddb_query q = {.table = DDB_META};
	struct ddb_key key;
	size_t count;

	ddb_key_epochs(&key, rows_str(SHMETA_DEFAULT_TENANT), inc, 0);
	q.pk = key.pk;
	ddb_begin(w.state, DDB_FOR_FETCH);
	expect_ok(ddb_queries(w.state, &q, 1, "looking", &w.err));
	count = json_array_size(q.items);
	ddb_queries_free(&q, 1);
	return count;
}

Test(dynamodb_faults, former_epochs_go_with_their_topic)
{
	struct ddb_query q = {.table = DDB_META};
	char inc[DDB_RANDOM_BYTES];
	struct ddb_key key;

	fill();
	expect_ok(append_as_leader(0));
	expect_ok(append_as_leader(10));
	ddb_key_header(&key, rows_str(SHMETA_DEFAULT_TENANT), rows_str("t"), 0);
	q.pk = key.pk;
	ddb_begin(w.state, DDB_FOR_FETCH);
	expect_ok(ddb_queries(w.state, &q, 1, "looking", &w.err));
	(void)snprintf(inc, sizeof inc, "%s", ddb_text(json_array_get(q.items, 0), "inc"));
	ddb_queries_free(&q, 1);
	cr_expect_eq(former_items(inc), 1);
	expect_ok(do_op(&(struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = rows_str("t")}));
	cr_expect_eq(former_items(inc), 0, "it would be kept for ever");
}

/* ---- offers of leases ---- */

Test(dynamodb_faults, an_offer_of_a_lease_ends_a_day_after_it_has_timed_out)
{
	const int64_t day_s = 86400, now_s = 1700000000;
	struct ddb_key key;
	json_t *offer = NULL;
	uint64_t id;

	fill();
	world_agent(&w, "agent-2", 1, NULL);
	expect_ok(acquire());
	expect_ok(do_op(&(struct shmeta_op){.type = SHMETA_OP_OFFER_LEASE,
	                                    .name = rows_str("t"),
	                                    .agent_id = rows_str("agent-1"),
	                                    .to_agent_id = rows_str("agent-2"),
	                                    .duration_ms = 30000}));
	id = result.transfer_id;
	expect_ok(do_op(&(struct shmeta_op){
		.type = SHMETA_OP_ACCEPT_LEASE, .agent_id = rows_str("agent-2"), .transfer_id = id}));
	ddb_key_offer(&key, rows_str(SHMETA_DEFAULT_TENANT), id);
	cr_expect_eq(items_at(DDB_META, key.pk, &offer), 1);
	cr_expect_str_eq(ddb_text(offer, "st"), "accepted");
	cr_expect_eq(ddb_number(offer, "ttl"), now_s + 30 + day_s);
	json_decref(offer);
}

/* ---- the tables ---- */

static char told[4000];

static enum shmeta_status keep_line(void *arg, const char *about, const char *text)
{
	size_t used = strlen(told);

	(void)arg;
	(void)snprintf(told + used, sizeof told - used, "%s %s\n", about, text);
	return SHMETA_OK;
}

/* As shmetactl does, of tables of these names. */
static enum shmeta_status schema(enum backend_schema_verb verb, const char *prefix, int dry_run)
{
	struct backend_options options = w.options;
	struct ddb_state *own = calloc(1, sizeof *own);
	enum shmeta_status status;
	char uri[160];

	cr_assert_not_null(own);
	ddb_server_uri(proxy.port, prefix, uri, sizeof uri);
	options.uri = uri;
	told[0] = '\0';
	status = w.ops->admin->schema(own, &options, verb, dry_run, keep_line, NULL, &w.err);
	w.ops->source->close(own);
	free(own);
	return status;
}

static void expect_told(const char *part, bool there)
{
	cr_expect_eq(strstr(told, part) != NULL, there, "'%s' is %sthere:\n%s", part, there ? "not " : "", told);
}

static void expect_all_is_set(const char *prefix)
{
	static const char *const lines[] = {"meta: point-in-time recovery on",
	                                    "seg: point-in-time recovery on",
	                                    "log: time to live on",
	                                    "meta: time to live on",
	                                    "writers: time to live on",
	                                    "meta: deletion protection on",
	                                    "seg: deletion protection on",
	                                    "log: deletion protection on",
	                                    "writers: deletion protection on",
	                                    "change feed complete"};

	expect_ok(schema(BACKEND_SCHEMA_STATUS, prefix, 0));
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		expect_told(lines[i], true);
	expect_ok(schema(BACKEND_SCHEMA_APPLY, prefix, 0));
	cr_expect_str_empty(told, "there was something to do: %s", told);
}

/* Wherever it ends, the next run does what is missing. */
Test(dynamodb_faults, tables_of_a_run_that_was_interrupted_are_set_up_by_the_next_one)
{
	static const char *const ends[] = {"CreateTable", "UpdateTimeToLive", "UpdateContinuousBackups"};
	char prefix[16];

	for (size_t i = 0; i < 3; i++) {
		(void)snprintf(prefix, sizeof prefix, "cut%zu", i);
		meet(DDB_FAULT_INVALID, ends[i], i == 0, 1);
		cr_expect_eq(schema(BACKEND_SCHEMA_APPLY, prefix, 0), SHMETA_ERR_CONFIG);
		ddb_proxy_clear(&proxy);
		expect_ok(schema(BACKEND_SCHEMA_STATUS, prefix, 0));
		expect_told("change feed complete", false);
		if (i == 1)
			expect_told("time to live off", true);
		if (i == 2)
			expect_told("point-in-time recovery off", true);
		expect_ok(schema(BACKEND_SCHEMA_APPLY, prefix, 1));
		expect_told(ends[i], true);
		expect_ok(schema(BACKEND_SCHEMA_APPLY, prefix, 0));
		expect_told(ends[i], true);
		expect_all_is_set(prefix);
	}
}

/* AWS makes backups of a table that is active already possible a while later. */
Test(dynamodb_faults, recovery_is_asked_for_until_the_table_has_it)
{
	meet(DDB_FAULT_NO_BACKUPS, "UpdateContinuousBackups", 0, 2);
	expect_ok(schema(BACKEND_SCHEMA_APPLY, "early", 0));
	cr_expect_eq(met(DDB_FAULT_NO_BACKUPS), 2);
	expect_all_is_set("early");
}

Test(dynamodb_faults, a_protection_that_was_taken_away_is_told_and_given_again)
{
	struct ddb_call call = {.target = "UpdateTable",
	                        .body = json_pack("{s:s, s:b}", "TableName", state()->link.uri.table[DDB_SEG],
	                                          "DeletionProtectionEnabled", 0)};
	char prefix[80];

	(void)snprintf(prefix, sizeof prefix, "%.*s", (int)(strlen(state()->link.uri.table[DDB_SEG]) - strlen("_seg")),
	               state()->link.uri.table[DDB_SEG]);
	ddb_begin(state(), DDB_FOR_WRITE);
	ddb_link_run(&state()->link, &call, 1, state()->deadline_ns);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	json_decref(call.body);
	ddb_call_free(&call);
	expect_ok(schema(BACKEND_SCHEMA_STATUS, prefix, 0));
	expect_told("seg: deletion protection off", true);
	expect_ok(schema(BACKEND_SCHEMA_APPLY, prefix, 0));
	expect_all_is_set(prefix);
}

/* ---- credentials ---- */

static void write_profile(const char *path, const char *access, const char *secret)
{
	FILE *f = fopen(path, "we");

	cr_assert_not_null(f);
	(void)fprintf(f, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", access, secret);
	(void)fclose(f);
}

Test(dynamodb_faults, keys_that_expired_are_read_anew_and_the_write_is_done_once)
{
	char path[SCRATCH_PATH_MAX];
	enum shmeta_status status;

	keys_may_be_refused = true;
	scratch_file("credentials", path);
	write_profile(path, "AKIDFIRST", "first-secret");
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	ddb_proxy_login(&proxy, "AKIDFIRST", "first-secret", "", 0);
	world_close(&w);
	world_open(&w);
	expect_ok(world_changes(&w));
	fill();
	expect_ok(add_segment(0, 0));
	ddb_proxy_login(&proxy, "AKIDFIRST", "first-secret", "", 1);
	ddb_proxy_login(&proxy, "AKIDSECOND", "second-secret", "", 0);
	write_profile(path, "AKIDSECOND", "second-secret");
	expect_ok(add_segment(0, 10));
	ddb_proxy_counts(&proxy, &counts);
	cr_expect_gt(counts.refused, 0);
	/* None that are good: it is said, and no key is. */
	ddb_proxy_login(&proxy, "AKIDSECOND", "second-secret", "", 1);
	status = add_segment(0, 20);
	cr_expect_eq(status, SHMETA_ERR_SOURCE, "%s", shmeta_strerror(status));
	cr_expect_not_null(strstr(w.err.text, "ExpiredToken"), "%s", w.err.text);
	cr_expect_null(strstr(w.err.text, "SECOND"), "%s", w.err.text);
	cr_expect_null(strstr(w.err.text, "second-secret"), "%s", w.err.text);
	ddb_proxy_login(&proxy, "AKIDSECOND", "second-secret", "", 0);
	expect_ok(add_segment(0, 20));
	expect_segments(3);
	(void)unlink(path);
}

Test(dynamodb_faults, keys_whose_secret_is_wrong_are_refused)
{
	enum shmeta_status status;

	keys_may_be_refused = true;
	world_close(&w);
	setenv("AWS_SECRET_ACCESS_KEY", "test-secret-of-another", 1);
	status = world_try_open(&w);
	cr_expect_eq(status, SHMETA_ERR_CONFIG, "%s", shmeta_strerror(status));
	cr_expect_not_null(strstr(w.err.text, "InvalidSignature"), "%s", w.err.text);
	cr_expect_null(strstr(w.err.text, "test-secret"), "%s", w.err.text);
}
