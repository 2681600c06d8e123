/* SPDX-License-Identifier: Apache-2.0
 * Calls of the DynamoDB API against a scripted server: what is repeated, what is not, and what is
 * known afterwards. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/dynamodb/ddb_call.h"
#include "tests/support/http_stub.h"

/* The connection's end is the body's. */
#define BAD "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n"
#define ERROR_400(type) BAD "{\"__type\":\"com.amazonaws.dynamodb.v20120810#" type "\"}"

static struct ddb_link at;
static struct http_stub stub;
static struct backend_error err;
static json_t *body;
static struct ddb_call call;

static char uri[200];
static uint32_t units_s; /* that may be read, and written */

static void begin(const struct http_line *lines, size_t count)
{
	struct backend_options options = {.uri = uri, .read_units_s = units_s, .write_units_s = units_s};

	setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "hush", 1);
	http_stub_start(&stub, lines, count);
	(void)snprintf(uri, sizeof uri, "dynamodb://eu-west-1/p?endpoint=%s", stub.url);
	cr_assert_eq(ddb_link_open(&at, &options, &err), SHMETA_OK, "%s", err.text);
	body = json_pack("{s:s}", "TableName", "p_meta");
	call = (struct ddb_call){.target = "GetItem", .body = body};
}

static void end(void)
{
	ddb_call_free(&call);
	json_decref(body);
	ddb_link_close(&at);
	http_stub_stop(&stub);
}

static void run(uint32_t ms)
{
	ddb_link_run(&at, &call, 1, ddb_now_ns() + ms * UINT64_C(1000000));
}

TestSuite(ddb_call, .fini = end, .timeout = 30);

Test(ddb_call, an_answer_is_taken_and_its_units_are_counted)
{
	static const struct http_line lines[] = {
		{"X-Amz-Target: DynamoDB_20120810.GetItem\r\n", "{\"ConsumedCapacity\":{\"CapacityUnits\":1.5}}"}};

	begin(lines, 1);
	at.budget.purpose = DDB_FOR_FEED;
	run(5000);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_eq(at.budget.read_units[DDB_FOR_FEED], 1.5);
	cr_expect_eq(at.budget.read_units[DDB_FOR_LOAD], 0);
	cr_expect_eq(at.budget.write_units[DDB_FOR_FEED], 0);
}

Test(ddb_call, an_answer_with_a_wrong_checksum_is_asked_for_again)
{
	static const struct http_line lines[] = {
		{NULL, "HTTP/1.1 200 OK\r\nx-amz-crc32: 1\r\nContent-Length: 2\r\n\r\n{}"},
		{NULL, "HTTP/1.1 200 OK\r\nx-amz-crc32: 2745614147\r\nContent-Length: 2\r\n\r\n{}"}};

	begin(lines, 2);
	run(5000);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_eq(at.calls, 2);
	cr_expect(call.doubted, "the first attempt may have done it");
}

Test(ddb_call, throttling_is_waited_for_and_nothing_is_in_doubt)
{
	static const struct http_line lines[] = {{NULL, ERROR_400("ThrottlingException")}, {NULL, "{}"}};

	begin(lines, 2);
	run(5000);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_eq(at.throttled, 1);
	cr_expect_not(call.doubted);
}

Test(ddb_call, throttling_without_end_is_given_up_at_the_deadline_as_not_done)
{
	static const struct http_line lines[] = {{NULL, ERROR_400("ThrottlingException")}};
	uint64_t begun = ddb_now_ns();

	begin(lines, 1);
	run(400);
	cr_expect_eq(call.outcome, DDB_AWAY);
	cr_expect_lt(ddb_now_ns() - begun, UINT64_C(5000000000));
	cr_expect_eq(ddb_call_fail(&at, &call, "reading", &err), SHMETA_ERR_BUSY);
	cr_expect_not_null(strstr(err.text, "ThrottlingException"), "%s", err.text);
	/* A load is all or nothing. */
	at.budget.purpose = DDB_FOR_LOAD;
	cr_expect_eq(ddb_call_fail(&at, &call, "reading", &err), SHMETA_ERR_SOURCE);
}

Test(ddb_call, credentials_that_were_refused_are_renewed_once)
{
	static const struct http_line lines[] = {{NULL, ERROR_400("ExpiredTokenException")}};

	begin(lines, 1);
	run(3000);
	cr_expect_eq(at.calls, 2);
	cr_expect_eq(call.outcome, DDB_AWAY);
	cr_expect_null(strstr(call.error, "hush"));
}

Test(ddb_call, a_wrong_clock_is_corrected_by_the_answers_date)
{
	static char skewed[400];
	time_t there = time(NULL) + 7200;
	char date[60];
	struct tm tm;
	struct http_line lines[] = {{NULL, skewed}, {NULL, "{}"}};

	cr_assert_not_null(gmtime_r(&there, &tm));
	(void)strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	(void)snprintf(
		skewed, sizeof skewed,
		"HTTP/1.1 400 Bad\r\nConnection: close\r\nDate: %s\r\n\r\n{\"__type\":\"InvalidSignatureException\"}",
		date);
	begin(lines, 2);
	run(5000);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_geq(at.skew_s, 7190);
	cr_expect_leq(at.skew_s, 7210);
	cr_expect_not_null(strstr(call.error, "behind that of DynamoDB"), "%s", call.error);
}

Test(ddb_call, a_connection_that_is_cut_leaves_doubt)
{
	static const struct http_line lines[] = {{NULL, ""}};

	begin(lines, 1);
	run(300);
	cr_expect_eq(call.outcome, DDB_UNKNOWN, "%s", call.error);
}

Test(ddb_call, a_server_that_never_answers_is_left_at_the_deadline)
{
	static const struct http_line lines[] = {{NULL, NULL}};
	uint64_t begun = ddb_now_ns();

	begin(lines, 1);
	run(300);
	cr_expect_eq(call.outcome, DDB_UNKNOWN);
	cr_expect_lt(ddb_now_ns() - begun, UINT64_C(5000000000));
}

/* What a fetch asks for beside what was answered is its own affair; what nobody answers is the
 * source's. */
Test(ddb_call, what_is_not_answered_is_busy_where_other_calls_were)
{
	static const struct http_line lines[] = {{NULL, "{}"}, {NULL, NULL}};

	begin(lines, 2);
	at.budget.purpose = DDB_FOR_FETCH;
	run(5000);
	cr_assert_eq(call.outcome, DDB_DONE, "%s", call.error);
	ddb_call_free(&call);
	run(300);
	cr_expect(ddb_call_kept_back(&at, &call));
	cr_expect_eq(ddb_call_fail(&at, &call, "reading", &err), SHMETA_ERR_BUSY);
	at.answered = 0; /* as a call of the core begins */
	cr_expect_not(ddb_call_kept_back(&at, &call));
	cr_expect_eq(ddb_call_fail(&at, &call, "reading", &err), SHMETA_ERR_SOURCE);
}

/* A write that has arrived, perhaps, is nobody's own affair; one for which there was no time is. */
Test(ddb_call, a_write_that_is_not_answered_is_not_busy)
{
	static const struct http_line lines[] = {{NULL, "{}"}, {NULL, NULL}};

	begin(lines, 2);
	at.budget.purpose = DDB_FOR_WRITE;
	call.target = "PutItem";
	run(5000);
	cr_assert_eq(call.outcome, DDB_DONE, "%s", call.error);
	ddb_call_free(&call);
	run(300);
	cr_expect_eq(call.outcome, DDB_UNKNOWN);
	cr_expect_eq(ddb_call_fail(&at, &call, "writing", &err), SHMETA_ERR_SOURCE);
	run(0);
	cr_expect_not(call.begun, "there was no time for it");
	cr_expect_not(call.doubted);
	cr_expect_eq(ddb_call_fail(&at, &call, "writing", &err), SHMETA_ERR_BUSY);
}

Test(ddb_call, a_redirect_is_not_followed)
{
	static const struct http_line lines[] = {
		{NULL, "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"}};

	begin(lines, 1);
	run(3000);
	cr_expect_eq(call.outcome, DDB_REFUSED, "%s", call.error);
	cr_expect_eq(at.calls, 1);
}

Test(ddb_call, a_cancelled_transaction_is_repeated_for_a_conflict_and_settled_by_a_condition)
{
	static const char conflict[] = BAD "{\"__type\":\"TransactionCanceledException\",\"CancellationReasons\":["
					   "{\"Code\":\"None\"},{\"Code\":\"TransactionConflict\",\"Message\":\"x\"}]}";
	static const char condition[] =
		BAD "{\"__type\":\"TransactionCanceledException\",\"CancellationReasons\":["
		    "{\"Code\":\"ConditionalCheckFailed\"},{\"Code\":\"TransactionConflict\",\"Message\":\"x\"}]}";
	static const struct http_line lines[] = {{NULL, conflict}, {NULL, condition}};

	begin(lines, 2);
	call.target = "TransactWriteItems";
	run(5000);
	cr_expect_eq(call.outcome, DDB_CONDITION, "%s", call.error);
	cr_expect_eq(at.calls, 2);
}

Test(ddb_call, a_cancelled_transaction_counts_as_throttled_where_one_of_its_items_was)
{
#define CANCELLED(code)                                                              \
	BAD "{\"__type\":\"TransactionCanceledException\",\"CancellationReasons\":[" \
	    "{\"Code\":\"None\"},{\"Code\":\"" code "\",\"Message\":\"x\"}]}"
	static const struct http_line lines[] = {{NULL, CANCELLED("ThrottlingError")},
	                                         {NULL, CANCELLED("ProvisionedThroughputExceeded")},
	                                         {NULL, CANCELLED("TransactionConflict")},
	                                         {NULL, "{}"}};

	begin(lines, 4);
	call.target = "TransactWriteItems";
	run(5000);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_eq(at.calls, 4);
	cr_expect_eq(at.throttled, 2);
	cr_expect_not(call.throttled);
}

/* A write that its condition refuses is billed like one that was done; one that was throttled is
 * not. */
Test(ddb_call, refused_conditions_are_counted_as_they_are_billed)
{
	static const struct http_line lines[] = {{NULL, ERROR_400("ThrottlingException")},
	                                         {NULL, ERROR_400("ConditionalCheckFailedException")},
	                                         {NULL, CANCELLED("TransactionConflict")},
	                                         {NULL, CANCELLED("ConditionalCheckFailed")}};

	begin(lines, 4);
	at.budget.purpose = DDB_FOR_WRITE;
	call.target = "PutItem";
	run(5000);
	cr_expect_eq(call.outcome, DDB_CONDITION, "%s", call.error);
	cr_expect_eq(at.budget.write_units[DDB_FOR_WRITE], 1);
	ddb_call_free(&call);
	call.target = "TransactWriteItems";
	(void)json_object_set_new(body, "TransactItems", json_pack("[{}, {}, {}]"));
	run(5000);
	cr_expect_eq(call.outcome, DDB_CONDITION, "%s", call.error);
	cr_expect_eq(at.calls, 4);
	cr_expect_eq(at.budget.write_units[DDB_FOR_WRITE], 1 + 2 * 3);
}

/* ---- units a second ---- */

/* Ten a second, 50 at once; the first call took 90 of them, so that there is none for four
 * seconds. */
static void spend(const char *target)
{
	static const struct http_line lines[] = {{NULL, "{\"ConsumedCapacity\":{\"CapacityUnits\":90}}"}, {NULL, "{}"}};

	units_s = 10;
	begin(lines, 2);
	call.target = target;
	run(5000);
	cr_assert_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_eq(at.budget.postponed_ns, 0);
	ddb_call_free(&call);
}

Test(ddb_call, what_was_consumed_beyond_the_units_of_a_second_is_waited_for)
{
	spend("PutItem");
	run(20000);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_gt(at.budget.postponed_ns, UINT64_C(100000000));
	ddb_call_free(&call);
	/* Reads have units of their own. */
	call.target = "Query";
	at.budget.postponed_ns = 0;
	run(5000);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_eq(at.budget.postponed_ns, 0);
}

Test(ddb_call, what_has_no_units_before_its_deadline_is_not_sent_and_says_why)
{
	spend("PutItem");
	run(200);
	cr_expect_eq(call.outcome, DDB_AWAY);
	cr_expect_not(call.doubted);
	cr_expect_eq(at.calls, 1);
	cr_expect_not_null(strstr(call.error, "postponed: source.write_units_s"), "%s", call.error);
	cr_expect_eq(ddb_call_fail(&at, &call, "writing", &err), SHMETA_ERR_BUSY);
}

Test(ddb_call, a_load_waits_for_its_units_beyond_its_deadline)
{
	spend("Query");
	at.budget.purpose = DDB_FOR_LOAD;
	run(1500);
	cr_expect_eq(call.outcome, DDB_DONE, "%s", call.error);
	cr_expect_gt(at.budget.postponed_ns, UINT64_C(100000000));
}

static unsigned int turns;

static enum shmeta_status third_turn_ends_it(void *arg)
{
	(void)arg;
	return ++turns < 3 ? SHMETA_OK : SHMETA_ERR_TIMEOUT;
}

/* There are no units for four seconds: by then it would have been sent. */
Test(ddb_call, a_load_that_waits_for_its_units_gives_turns_and_ends_by_them)
{
	spend("Query");
	at.budget.purpose = DDB_FOR_LOAD;
	ddb_link_turns(&at, third_turn_ends_it, NULL);
	run(20000);
	cr_expect_eq(turns, 3);
	cr_expect_eq(at.calls, 1);
	cr_expect_eq(ddb_call_fail(&at, &call, "reading", &err), SHMETA_ERR_TIMEOUT);
	ddb_link_turns(&at, NULL, NULL);
}

/* The server keeps silent. */
Test(ddb_call, a_load_that_waits_for_an_answer_gives_turns)
{
	static const struct http_line lines[] = {{NULL, NULL}};

	begin(lines, 1);
	at.budget.purpose = DDB_FOR_LOAD;
	ddb_link_turns(&at, third_turn_ends_it, NULL);
	run(1500);
	cr_expect_eq(turns, 3);
	ddb_link_turns(&at, NULL, NULL);
}

/* How much later than a fetch of one item it may be made, in ms. */
static int64_t later(struct ddb_budget *b, enum ddb_purpose purpose, const char *target, const json_t *of)
{
	struct ddb_units units;
	uint64_t item, when;

	b->purpose = DDB_FOR_FETCH;
	cr_assert_not(ddb_budget_take(b, "GetItem", of, &units, &item));
	b->purpose = purpose;
	cr_assert_not(ddb_budget_take(b, target, of, &units, &when));
	cr_expect_eq(units.least, 1);
	return ((int64_t)(when - item) + 500000) / 1000000;
}

/* 20 a second. */
Test(ddb_budget, a_load_takes_a_page_and_leaves_a_reserve_to_others, .timeout = 30)
{
	struct ddb_units units;
	uint64_t when;
	struct ddb_budget b;
	json_t *answer = json_pack("{s:{s:i}}", "ConsumedCapacity", "CapacityUnits", 100000);
	json_t *first = json_object(), *next = json_pack("{s:{}}", "ExclusiveStartKey"),
	       *few = json_pack("{s:i}", "Limit", 1);

	cr_assert(ddb_budget_open(&b, "reserve", 20, 0));
	cr_assert(ddb_budget_take(&b, "GetItem", first, &units, &when));
	ddb_budget_settle(&b, "GetItem", &units, answer, true);
	cr_expect_eq(later(&b, DDB_FOR_FETCH, "Query", first), 0);
	cr_expect_eq(later(&b, DDB_FOR_LOAD, "GetItem", first), 1000, "a second's units are left to others");
	cr_expect_eq(later(&b, DDB_FOR_LOAD, "Query", first), 1000 + 39 * 50, "two seconds' units of a page");
	cr_expect_eq(later(&b, DDB_FOR_LOAD, "Query", few), 1000);
	cr_expect_eq(later(&b, DDB_FOR_FETCH, "Query", next), 39 * 50);
	ddb_budget_close(&b);
	json_decref(answer);
	json_decref(first);
	json_decref(next);
	json_decref(few);
}

Test(ddb_call, connections_of_one_process_to_the_same_tables_share_their_units)
{
	struct backend_options options = {.uri = uri, .write_units_s = 10};
	struct ddb_link other = {.calls = 0};

	spend("PutItem");
	cr_assert_eq(ddb_link_open(&other, &options, &err), SHMETA_OK, "%s", err.text);
	ddb_link_run(&other, &call, 1, ddb_now_ns() + 200000000);
	cr_expect_eq(other.calls, 0);
	cr_expect_eq(call.outcome, DDB_AWAY);
	ddb_link_close(&other);
}

static void refused(const char *text, const char *why)
{
	struct backend_options options = {.uri = text};
	struct ddb_uri parsed;

	cr_expect_eq(ddb_uri_parse(&options, &parsed, &err), SHMETA_ERR_CONFIG, "%s", text);
	cr_expect_not_null(strstr(err.text, why), "%s: %s", text, err.text);
}

Test(ddb_uri, a_region_and_a_prefix_name_the_tables)
{
	struct backend_options options = {.uri = "dynamodb://eu-west-1/prod.a"};
	struct ddb_uri parsed;

	cr_assert_eq(ddb_uri_parse(&options, &parsed, &err), SHMETA_OK, "%s", err.text);
	cr_expect_str_eq(parsed.endpoint, "https://dynamodb.eu-west-1.amazonaws.com/");
	cr_expect_str_eq(parsed.host, "dynamodb.eu-west-1.amazonaws.com");
	cr_expect_str_eq(parsed.table[DDB_META], "prod.a_meta");
	cr_expect_str_eq(parsed.table[DDB_WRITERS], "prod.a_writers");
}

Test(ddb_uri, what_it_cannot_be_is_said)
{
	refused("dynamodb:eu-west-1/p", "dynamodb://REGION/PREFIX");
	refused("dynamodb://eu-west-1", "dynamodb://REGION/PREFIX");
	refused("dynamodb://EU/p", "small letters");
	refused("dynamodb://e/", "the prefix");
	refused("dynamodb://e/a b", "the prefix");
	refused("dynamodb://e/p?region=x", "endpoint=URL");
	refused("dynamodb://e/p?endpoint=127.0.0.1", "http://HOST:PORT");
	refused("dynamodb://e/p?endpoint=http://127.0.0.1:1/path", "without a path");
	refused("dynamodb://e/p?endpoint=http://u:p@127.0.0.1:1", "or a user");
	refused("dynamodb://e/p?endpoint=http://192.0.2.1:8000", "needs https");
	refused("dynamodb://e/p?endpoint=http://127.0.0.1.example:8000", "needs https");
}
