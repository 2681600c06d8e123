/* SPDX-License-Identifier: Apache-2.0
 * The life of rows that cannot be served, as an operator sees it: they come, are listed with the
 * reason, make lookups UNKNOWN, are counted alike by status, verify and the list, and leave when
 * they are mended. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(quarantine_process, .timeout = 60);

static struct run_daemon d;

#define UNCHECKED(sql) "PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on; " sql

static void start(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(
		run_daemon_sql(
			&d,
			"PRAGMA journal_mode = wal;" STREAMHOUSE_V01
			"INSERT INTO topics VALUES('ok', 2, NULL, 1, 1, '{}'), ('orders', 1, NULL, 1, 1, '{}');"
			"INSERT INTO partitions VALUES('ok', 0, 100, 1, 1), ('ok', 1, 100, 1, 1), ('orders', 0, 0, 1, 1);"
			"INSERT INTO segments VALUES('a', 'ok', 0, 0, 9, 10, 1, 'b', 'k', 1);"),
		0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void stop(void)
{
	run_daemon_done(&d);
}

static json_t *ask(const char *args, int code)
{
	struct run_tool t;
	json_t *doc;

	run_tool(&t, "shmetactl --dir %s --json %s", d.instance, args);
	cr_assert_eq(t.code, code, "shmetactl %s: exit %d instead of %d\n%s%s", args, t.code, code, t.out, t.err);
	doc = run_tool_json(&t);
	run_tool_done(&t);
	return doc;
}

static json_int_t number(const json_t *doc, const char *name)
{
	const json_t *value = json_object_get(doc, name);

	cr_assert(json_is_integer(value), "no number '%s'", name);
	return json_integer_value(value);
}

static const char *text(const json_t *doc, const char *name)
{
	const char *value = json_string_value(json_object_get(doc, name));

	cr_assert(value != NULL, "no text '%s'", name);
	return value;
}

static void expect_outcome(const char *args, const char *outcome, const char *reason)
{
	json_t *doc = ask(args, strcmp(outcome, "found") == 0 ? 0 : strcmp(outcome, "unknown") == 0 ? 1 : 5);
	const char *why = json_string_value(json_object_get(doc, "reason"));

	cr_expect_str_eq(text(doc, "outcome"), outcome, "%s", args);
	if (reason == NULL)
		cr_expect_null(why, "%s: %s", args, why);
	else
		cr_expect(why != NULL && strstr(why, reason) != NULL, "%s: %s", args, why);
	json_decref(doc);
}

static json_int_t quarantined(void)
{
	json_t *doc = ask("status", 0);
	json_int_t count = number(json_object_get(doc, "counters"), "quarantined");

	json_decref(doc);
	return count;
}

/* Until the daemon has seen what was done to the source. */
static void await(json_int_t count)
{
	double until = run_now_s() + 20;
	json_int_t now;

	while ((now = quarantined()) != count && run_now_s() < until)
		(void)usleep(20000);
	cr_assert_eq(now, count);
}

/* The list, status and verify say the same number. */
static void expect_counted(json_int_t count)
{
	json_t *doc = ask("quarantine", 0), *row;
	json_int_t rows = 0;
	size_t i;

	json_array_foreach(json_object_get(doc, "items"), i, row)
	{
		rows += number(row, "rows");
	}
	cr_expect_eq(rows, count);
	json_decref(doc);
	doc = ask("verify", 0);
	cr_expect_eq(number(doc, "quarantined_rows"), count);
	cr_expect_eq(number(doc, "differences"), 0);
	json_decref(doc);
	cr_expect_eq(quarantined(), count);
}

static size_t logged(const char *event)
{
	char *log = run_read_file(d.log);
	size_t count = 0;

	cr_assert_not_null(log);
	for (const char *p = log; (p = strstr(p, event)) != NULL; p += strlen(event))
		count++;
	free(log);
	return count;
}

Test(quarantine_process, a_bad_row_comes_is_listed_is_unknown_is_mended_and_leaves, .init = start, .fini = stop)
{
	struct run_tool t;
	json_t *doc, *row;

	expect_counted(0);
	expect_outcome("get partition ok 0", "found", NULL);
	cr_assert_eq(
		run_daemon_sql(&d, "UPDATE partitions SET high_watermark = -1 WHERE topic = 'ok' AND partition_id = 0"),
		0);
	await(2); /* the partition and its segment */
	expect_counted(2);
	expect_outcome("get partition ok 0", "unknown", "high_watermark is -1");
	expect_outcome("find ok 0 5", "unknown", "high_watermark is -1");
	expect_outcome("get partition ok 1", "found", NULL);
	expect_outcome("get partition ok 2", "absent", NULL);
	expect_outcome("get topic ok", "found", NULL);

	doc = ask("quarantine", 0);
	cr_assert_eq(json_array_size(json_object_get(doc, "items")), 1);
	row = json_array_get(json_object_get(doc, "items"), 0);
	cr_expect_str_eq(text(row, "class"), "partition");
	cr_expect_str_eq(text(row, "topic"), "ok");
	cr_expect_eq(number(row, "partition_id"), 0);
	cr_expect_eq(number(row, "rows"), 2);
	cr_expect_gt(number(row, "since_ms"), 1600000000000);
	json_decref(doc);
	run_tool(&t, "shmetactl --dir %s status", d.instance);
	cr_expect_not_null(strstr(t.out, "2 rows quarantined (shmetactl quarantine lists them)"), "%s", t.out);
	run_tool_done(&t);

	/* Passes neither count nor log it again. */
	for (int i = 0; i < 3; i++)
		json_decref(ask("invalidate --all --yes", 0));
	expect_counted(2);
	cr_expect_eq(logged("cannot be served: "), 1);

	cr_assert_eq(run_daemon_sql(
			     &d, "UPDATE partitions SET high_watermark = 100 WHERE topic = 'ok' AND partition_id = 0"),
	             0);
	await(0);
	expect_counted(0);
	expect_outcome("get partition ok 0", "found", NULL);
	expect_outcome("find ok 0 5", "found", NULL);
	cr_expect_eq(logged("can be served again"), 1);
}

Test(quarantine_process, every_kind_of_bad_row_is_counted_once_by_all, .init = start, .fini = stop)
{
	struct run_tool t;

	cr_assert_eq(
		run_daemon_sql(&d,
	                       UNCHECKED("INSERT INTO topics VALUES('zero', 0, NULL, 1, 1, '{}');"
	                                 "INSERT INTO topics VALUES('', 1, NULL, 1, 1, '{}');"
	                                 "INSERT INTO partitions VALUES('', 0, 0, 1, 1);"
	                                 "INSERT INTO partitions VALUES('nowhere', 0, 0, 1, 1);"
	                                 "INSERT INTO segments VALUES('back', 'ok', 1, 50, 40, 1, 1, 'b', 'k', 1);"
	                                 "INSERT INTO agents VALUES('bad', '', 'z', 'g', 'now', 1, '{}');"
	                                 "INSERT INTO consumer_groups VALUES('g', 1, 1);"
	                                 "INSERT INTO consumer_offsets VALUES('g', 'ok', 0, -3, NULL, 1);"
	                                 "INSERT INTO consumer_offsets VALUES('g', 'gone', 0, 3, NULL, 1);"
	                                 "INSERT INTO partition_leases VALUES('gone', 0, 'a', 9000000000000, 1, 7);")),
		0);
	json_decref(ask("invalidate --all --yes", 0));
	await(9);
	expect_counted(9);
	expect_outcome("get topic zero", "unknown", "partition_count is 0");
	expect_outcome("get topic nowhere", "absent", NULL);
	run_tool(&t, "shmetactl --dir %s ls partitions zero", d.instance);
	cr_expect(t.code == 1 && strstr(t.err, "partition_count is 0") != NULL, "%d %s", t.code, t.err);
	run_tool_done(&t);
	expect_outcome("get partition nowhere 0", "unknown", "there is no such topic");
	expect_outcome("find ok 1 60", "unknown", "end_offset 40 is below base_offset 50");
	expect_outcome("find ok 1 10", "absent_before_start", NULL);

	/* Also when the daemon is dead. */
	(void)run_daemon_end(&d, SIGKILL);
	run_tool(&t, "shmetactl --dir %s quarantine", d.instance);
	cr_expect(t.code == 0 && strstr(t.out, "9 rows of the source cannot be served") != NULL, "%d %s%s", t.code,
	          t.out, t.err);
	run_tool_done(&t);
}

Test(quarantine_process, what_hangs_on_a_quarantined_topic_is_counted_with_it_and_no_time_is_a_difference,
     .init = start, .fini = stop)
{
	struct run_tool t;

	cr_assert_eq(
		run_daemon_sql(
			&d,
			UNCHECKED("INSERT INTO topics VALUES('zero', 0, NULL, 1, 1, '{}');"
	                          "INSERT INTO consumer_groups VALUES('g', 1, 1);"
	                          "INSERT INTO consumer_offsets VALUES('g', 'zero', 0, 3, NULL, 1);"
	                          "INSERT INTO partition_leases VALUES('zero', 0, 'a', 9000000000000, 1, 7);"
	                          /* The first and the last moment that there are. */
	                          "INSERT INTO agents VALUES('first', 'x', 'z', 'g', -9223372036854775808, 1, '{}');"
	                          "INSERT INTO agents VALUES('last', 'y', 'z', 'g', 9223372036854775807, 1, '{}');"
	                          "INSERT INTO consumer_offsets VALUES('g', 'ok', 0, 3, NULL, -9223372036854775808);"
	                          "INSERT INTO partition_leases VALUES('ok', 0, 'a', -9223372036854775808, 1, 7);"
	                          "INSERT INTO partition_leases VALUES('ok', 1, 'a', 9223372036854775807, "
	                          "-9223372036854775808, 7);")),
		0);
	json_decref(ask("invalidate --all --yes", 0));
	await(3);
	expect_counted(3);
	run_tool(&t, "shmetactl --dir %s dump", d.instance);
	cr_expect_eq(t.code, 0);
	cr_expect_not_null(strstr(t.out, "\"lease_expires_at_ms\":\"-9223372036854775808\""), "%s", t.out);
	run_tool_done(&t);
}
