/* SPDX-License-Identifier: Apache-2.0
 * shmetactl objects audit as an operator runs it: what it reports is certain, whatever is in doubt
 * is counted and not reported, and a source or listing that cannot be read whole is judged not at
 * all. */
#include <criterion/criterion.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(audit, .timeout = 120);

static struct run_daemon d;
static char listing[128];
static struct run_tool t;

/* Topic orders has segments 0 (old), 1000 (old, its object is gone), 2000 (now, its object is gone)
 * in bucket b, and one in bucket c. An object with a slice and one without are in b, too. */
static void begin(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	(void)snprintf(listing, sizeof listing, "%s/listing", d.dir);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(
		run_daemon_sql(
			&d,
			"INSERT INTO topics(name, partition_count, created_at, updated_at) VALUES('orders', 2, 1, 1);"
			"INSERT INTO partitions(topic, partition_id, created_at, updated_at) VALUES('orders', 0, 1, "
			"1), ('orders', 1, 1, 1);"),
		0);
	char sql[1600];

	(void)snprintf(
		sql, sizeof sql,
		"INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, "
		"s3_bucket, s3_key, created_at) VALUES"
		"('s0', 'orders', 0, 0, 999, 1000, 5, 'b', 'here', 1000),"
		"('s1', 'orders', 1, 1000, 1999, 1000, 5, 'b', 'gone', 1000),"
		"('s2', 'orders', 0, 2000, 2999, 1000, 5, 'b', 'gone just now', %lld),"
		"('s3', 'orders', 0, 3000, 3999, 1000, 5, 'c', 'of another bucket', 1000);"
		"INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) VALUES"
		"('00000000-0000-0000-0000-000000000000', 'b', 'object', 9, 1000);",
		(long long)time(NULL) * 1000);
	cr_assert_eq(run_daemon_sql(&d, sql), 0);
}

static void end(void)
{
	run_tool_done(&t);
	run_daemon_done(&d);
}

static void list(const char *text)
{
	FILE *f = fopen(listing, "we");

	cr_assert_not_null(f);
	(void)fputs(text, f);
	(void)fclose(f);
}

static void audit(int code, const char *more)
{
	run_tool_done(&t);
	run_tool(&t, "shmetactl objects audit b %s --source sqlite:%s %s", listing, d.db, more);
	cr_assert_eq(t.code, code, "exit %d instead of %d\n%s%s", t.code, code, t.out, t.err);
}

static bool says(const char *text)
{
	return strstr(t.out, text) != NULL || strstr(t.err, text) != NULL;
}

#define LINES                                        \
	"here\t5\t1990-01-01T00:00:00Z\n"            \
	"object\t9\t1990-01-01T00:00:00.123+02:00\n" \
	"nobody's\t7\t1990-01-01T00:00:00Z\n"        \
	"nobody knows when\t7\t-\n"                  \
	"of the future\t7\t2999-01-01T00:00:00Z\n"

Test(audit, tells_old_objects_that_nothing_names_and_old_metadata_without_its_object_and_no_other, .init = begin,
     .fini = end)
{
	list(LINES);
	audit(1, "");
	cr_expect(says("nobody's") && says("orphan") && says("1990-01-01"));
	cr_expect(says("gone") && says("missing") && says("orders"));
	for (size_t i = 0; i < 6; i++) {
		static const char *const names[] = {"here",          "object ",       "nobody knows",
		                                    "of the future", "gone just now", "of another bucket"};

		cr_expect_null(strstr(t.out, names[i]), "%s:\n%s", names[i], t.out);
	}
	cr_expect(says("5 objects listed: 1 named by nothing, 1 missing; not judged: 1 younger"), "%s", t.err);
	cr_expect(says("1 without a time"), "%s", t.err);

	audit(1, "--json");
	cr_expect(says("\"finding\": \"orphan\"") || says("\"finding\":\"orphan\""), "%s", t.out);
	cr_expect(says("\"partition\": 1") || says("\"partition\":1"), "%s", t.out);
}

Test(audit, reads_what_list_objects_v2_prints_in_pages_and_refuses_a_list_that_goes_on, .init = begin, .fini = end)
{
	list("{\"Contents\": [{\"Key\": \"here\", \"Size\": 5, \"LastModified\": \"1990-01-01T00:00:00+00:00\"},\n"
	     "{\"Key\": \"gone\", \"Size\": 5, \"LastModified\": \"1990-01-01T00:00:00+00:00\"}], \"IsTruncated\": true}\n"
	     "{\"Contents\": [{\"Key\": \"object\", \"LastModified\": \"1990-01-01T00:00:00.000Z\"}]}\n");
	audit(0, "");
	cr_expect(says("3 objects listed: 0 named by nothing, 0 missing"), "%s", t.err);
	list("{\"Contents\": [{\"Key\": \"here\", \"Size\": 5}], \"NextToken\": \"x\"}");
	audit(2, "");
	cr_expect(says("it goes on"), "%s", t.err);
}

Test(audit, refuses_pages_between_which_one_is_missing, .init = begin, .fini = end)
{
	static const char first[] = "{\"Contents\": [{\"Key\": \"here\", \"Size\": 5}], \"IsTruncated\": true, "
				    "\"NextContinuationToken\": \"a\"}\n",
			  second[] = "{\"Contents\": [{\"Key\": \"gone\", \"Size\": 5}], \"IsTruncated\": true, "
				     "\"ContinuationToken\": \"a\", \"NextContinuationToken\": \"b\"}\n",
			  third[] = "{\"Contents\": [{\"Key\": \"object\", \"Size\": 5}], \"IsTruncated\": false, "
				    "\"ContinuationToken\": \"b\"}\n";
	char text[1000];

	(void)snprintf(text, sizeof text, "%s%s%s", first, second, third);
	list(text);
	audit(0, "");
	cr_expect(says("3 objects listed"), "%s", t.err);
	(void)snprintf(text, sizeof text, "%s%s", first, third);
	list(text);
	audit(2, "");
	cr_expect(says("document 2 does not go on where the one before ended"), "%s", t.err);
	(void)snprintf(text, sizeof text, "%s%s", second, third);
	list(text);
	audit(2, "");
	cr_expect(says("document 1 begins in the middle of the bucket"), "%s", t.err);
	(void)snprintf(text, sizeof text, "%s%s", first, second);
	list(text);
	audit(2, "");
	cr_expect(says("it goes on"), "%s", t.err);
}

Test(audit, a_row_that_cannot_be_read_may_name_any_object, .init = begin, .fini = end)
{
	list(LINES);
	cr_assert_eq(run_daemon_sql(&d, "UPDATE segments SET end_offset = 'x' WHERE id = 's3'"), 0);
	audit(1, "");
	cr_expect(says("nothing is judged"), "%s", t.err);
	cr_expect_not(says("nobody's"), "%s", t.out);
}

Test(audit, the_age_is_the_operators, .init = begin, .fini = end)
{
	char text[200];
	time_t then = time(NULL) - 7200;
	struct tm tm;

	(void)gmtime_r(&then, &tm);
	(void)strftime(text, sizeof text, "here\t5\t-\ngone\t5\t-\nobject\t5\t-\nyoung\t1\t%FT%TZ\n", &tm);
	list(text);
	audit(0, "");
	audit(1, "--min-age 90m");
	cr_expect(says("young"));
	audit(0, "--min-age 3h");
	audit(2, "--min-age 31d");
	audit(2, "--min-age 5");
}

Test(audit, says_which_line_of_a_listing_it_does_not_understand, .init = begin, .fini = end)
{
	static const struct {
		const char *text, *fault;
	} bad[] = {{"", "it lists no object"},
	           {"here 5\n", "line 1 is not a key"},
	           {"here\t5\t-\nthere\tx\t-\n", "line 2: the size"},
	           {"here\t5\tyesterday\n", "line 1: the time"},
	           {"here\t5\t2026-13-01T00:00:00Z\n", "line 1: the time"},
	           {"here\t5\t2026-+1-01T00:00:00Z\n", "line 1: the time"},
	           {"\t5\t-\n", "line 1 is not a key"},
	           {"{\"Contents\": 5}", "document 1 is not what list-objects-v2 prints"},
	           {"{\"Contents\": [{\"Size\": 5}]}", "object 1 has no Key"},
	           {"{\"Contents\": [{\"Key\": \"a\", \"LastModified\": \"x\"}]}", "object 1: its LastModified"},
	           {"{\"Contents\": [", "document 1 is no JSON"},
	           {"{\"Contents\": [{\"Key\": \"a/b\"}], \"Prefix\": \"a/\"}", "of one prefix only"},
	           {"{\"Contents\": [{\"Key\": \"b\"}], \"StartAfter\": \"a\"}", "begins in the middle"},
	           {"{\"Contents\": [{\"Key\": \"b\"}], \"CommonPrefixes\": [{\"Prefix\": \"a/\"}]}", "by a delimiter"},
	           {"{\"Contents\": [{\"Key\": \"b\"}], \"Name\": \"c\"}", "is of the bucket 'c', and not of 'b'"}};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		list(bad[i].text);
		audit(2, "");
		cr_expect(says(bad[i].fault), "%s: %s", bad[i].text, t.err);
	}
	run_tool_done(&t);
	run_tool(&t, "shmetactl objects audit b %s/no-such-file --source sqlite:%s", d.dir, d.db);
	cr_expect_eq(t.code, 2);
}

/* All of it would be orphans, and be deleted. */
Test(audit, a_bucket_that_no_metadata_names_is_not_judged, .init = begin, .fini = end)
{
	list(LINES);
	run_tool(&t, "shmetactl objects audit misspelt %s --source sqlite:%s", listing, d.db);
	cr_expect_eq(t.code, 2, "exit %d\n%s%s", t.code, t.out, t.err);
	cr_expect(says("no row of the source names an object of bucket 'misspelt'"), "%s", t.err);
	cr_expect_not(says("orphan"), "%s", t.out);
}

Test(audit, a_source_that_the_daemon_does_not_accept_is_not_judged, .init = begin, .fini = end)
{
	char other[160];
	double deadline = run_now_s() + 40;
	sqlite3 *db;

	list(LINES);
	/* The store has what is about to be lost. */
	run_tool(&t, "shmetactl --dir %s verify --timeout 20s", d.instance);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	run_tool_done(&t);
	(void)snprintf(other, sizeof other, "%s/other.db", d.dir);
	run_tool(&t, "shmetactl schema apply --source sqlite:%s", other);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	cr_assert_eq(sqlite3_open(other, &db), SQLITE_OK);
	cr_assert_eq(
		sqlite3_exec(db,
	                     "PRAGMA journal_mode = delete; INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, "
	                     "size_bytes, created_at) VALUES('00000000-0000-0000-0000-000000000000', 'b', 'object', "
	                     "9, 1000)",
	                     NULL, NULL, NULL),
		SQLITE_OK);
	(void)sqlite3_close(db);
	for (int i = 0; i < 2; i++) {
		char side[160];

		(void)snprintf(side, sizeof side, "%s-%s", d.db, i == 0 ? "wal" : "shm");
		(void)unlink(side);
	}
	cr_assert_eq(rename(other, d.db), 0);
	do {
		run_tool_done(&t);
		(void)usleep(100000);
		run_tool(&t, "shmetactl --dir %s objects audit b %s", d.instance, listing);
	} while (!says("does not publish this source") && run_now_s() < deadline);
	cr_expect_eq(t.code, 1, "exit %d\n%s%s", t.code, t.out, t.err);
	cr_expect(says("nothing is judged"), "%s%s", t.out, t.err);
	cr_expect_not(says("orphan"), "%s", t.out);
}

/* `--encoding-type url` does not say in its answer whether the keys were decoded since: a key that
 * can be both is judged as both. */
Test(audit, reports_nothing_that_either_spelling_of_a_key_explains, .init = begin, .fini = end)
{
	list("here\t5\t1990-01-01T00:00:00Z\ngone\t5\t1990-01-01T00:00:00Z\nobject\t9\t1990-01-01T00:00:00Z\n"
	     "gone+just%20now\t5\t1990-01-01T00:00:00Z\nbut+this\t5\t1990-01-01T00:00:00Z\n");
	audit(1, "");
	cr_expect(says("but+this") && strstr(t.out, "gone") == NULL, "%s", t.out);
	cr_expect(says("5 objects listed: 1 named by nothing, 0 missing"), "%s", t.err);
	/* The blank of one key tells that no key was encoded. */
	list("here\t5\t1990-01-01T00:00:00Z\ngone\t5\t1990-01-01T00:00:00Z\nobject\t9\t1990-01-01T00:00:00Z\n"
	     "gone+just%20now\t5\t1990-01-01T00:00:00Z\nbut this\t5\t1990-01-01T00:00:00Z\n");
	audit(1, "");
	cr_expect(says("but this") && says("gone+just%20now"), "%s", t.out);
	cr_expect(says("5 objects listed: 2 named by nothing, 0 missing"), "%s", t.err);
}

/* A list that was cut says with what it goes on, and does. */
Test(audit, a_list_of_objects_goes_on_behind_what_it_ended_with, .init = begin, .fini = end)
{
	char after[64] = "", seen[200] = "";
	const char *next = after;

	cr_assert_eq(
		run_daemon_sql(
			&d,
			"INSERT INTO shmeta_objects(tenant, s3_bucket, s3_key, size_bytes, created_at) SELECT "
			"'00000000-0000-0000-0000-000000000000', b, k, 1, 1 FROM (SELECT 'a' b, 'z' k UNION ALL SELECT 'b', 'a/b' "
			"UNION ALL SELECT 'b', 'obj' UNION ALL SELECT 'b.c', 'a');"),
		0);
	for (int pages = 0; next != NULL && pages < 20; pages++) {
		json_t *doc, *items, *item;
		size_t i;

		run_tool_done(&t);
		run_tool(&t, "shmetactl --dir %s objects --json --limit 1 --after '%s'", d.instance, after);
		cr_assert_eq(t.code, 0, "%s", t.err);
		doc = run_tool_json(&t);
		items = json_object_get(doc, "items");
		json_array_foreach(items, i, item) snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s:%s ",
		                                            json_string_value(json_object_get(item, "bucket")),
		                                            json_string_value(json_object_get(item, "key")));
		next = json_string_value(json_object_get(doc, "next_after"));
		(void)snprintf(after, sizeof after, "%s", next != NULL ? next : "");
		cr_expect_eq(json_is_true(json_object_get(doc, "complete")), next == NULL);
		json_decref(doc);
	}
	cr_expect_str_eq(seen, "a:z b:a/b b:obj b:object b.c:a ");
}
