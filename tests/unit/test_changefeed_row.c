/* SPDX-License-Identifier: Apache-2.0
 * What a changefeed's row may hold is the server's business: whatever comes is a key, a class,
 * everything, or nothing that could be in the store; never a crash, and never a key that says more
 * than its row. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "backends/postgres/pg_changefeed_row.h"
#include "tests/support/recorder.h"

TestSuite(changefeed_row, .timeout = 60);

static struct recorder recorder;

static bool told(const char *table, const char *value, size_t bytes)
{
	bool list = false;

	recorder_clear(&recorder);
	cr_assert_eq(pg_changefeed_row(rows_str(table), (struct shmeta_str){value, bytes}, &recorder.sink, &list),
	             SHMETA_OK);
	return list;
}

Test(changefeed_row, what_cannot_be_read_is_everything)
{
	static const char *const values[] = {
		"",
		"null",
		"[]",
		"{",
		"{}",
		"7",
		"{\"after\": 7}",
		"{\"after\": []}",
		"{\"after\": {}}",
		"{\"after\": null, \"before\": {}}",
		"{\"after\": {\"topic\": 5, \"partition_id\": 1, \"base_offset\": 1}}",
		"{\"after\": {\"topic\": \"t\", \"partition_id\": \"1\", \"base_offset\": 1}}",
		"{\"after\": {\"topic\": \"t\", \"partition_id\": 1, \"base_offset\": 1.5}}",
		"{\"after\": {\"topic\": \"t\", \"partition_id\": 1, \"base_offset\": 99999999999999999999}}",
		"{\"after\": {\"topic\": \"\xff\", \"partition_id\": 1, \"base_offset\": 1}}",
		"{\"after\": {\"topic\": \"t\", \"partition_id\": 1, \"base_offset\": 1}, \"before\": {\"topic\": \"t\"}}",
	};
	char deep[8192];

	recorder_init(&recorder);
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
		cr_expect(told("segments", values[i], strlen(values[i])), "%s", values[i]);
		cr_expect_eq(recorder.changed, 0, "%s: %s", values[i], recorder_text(&recorder));
	}
	memset(deep, '[', sizeof deep);
	cr_expect(told("topics", deep, sizeof deep));
	recorder_free(&recorder);
}

static char name[9];

static enum shmeta_status keep_name(void *arg, const struct backend_key *key)
{
	(void)arg;
	cr_assert_eq(key->topic.bytes, sizeof name);
	memcpy(name, key->topic.data, sizeof name);
	return SHMETA_OK;
}

Test(changefeed_row, a_name_with_anything_in_it_stays_itself)
{
	static const char value[] =
		"{\"after\": {\"name\": \"a\\u0000b\\n\\\"\\ud83d\\ude00\", \"config\": {\"deep\": [1e3]}}}";

	recorder_init(&recorder);
	recorder.sink.changed = keep_name;
	cr_expect_not(told("topics", value, sizeof value - 1));
	cr_expect_arr_eq(name, "a\0b\n\"\xf0\x9f\x98\x80", sizeof name);
	recorder_free(&recorder);
}

/* For the sanitizers, too. */
Test(changefeed_row, damage_is_everything_or_the_key_of_each_image)
{
	static const char good[] =
		"{\"after\": {\"id\": \"x\", \"topic\": \"t\", \"partition_id\": 3, \"base_offset\": 700}, \"before\": null}";
	static const char *const tables[] = {
		"topics",           "partitions",       "segments", "agents", "consumer_groups",
		"consumer_offsets", "partition_leases", "",         "x.y"};
	char row[sizeof good], cursor[48];
	uint64_t state = 88172645463325252u;

	recorder_init(&recorder);
	for (int i = 0; i < 200000; i++) {
		size_t bytes = sizeof good - 1;

		memcpy(row, good, sizeof good);
		for (int j = 0; j < 3; j++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			row[state % bytes] = (char)(state >> 32);
			if (state % 5 == 0)
				bytes -= state >> 8 & 15;
		}
		if (told(tables[i % 9], row, bytes))
			cr_assert_eq(recorder.changed, 0, "%s", recorder_text(&recorder));
		else
			cr_assert_leq(recorder.changed, 2, "%s", recorder_text(&recorder));
		(void)pg_changefeed_resolved((struct shmeta_str){row, bytes}, cursor, sizeof cursor);
	}
	recorder_free(&recorder);
}

Test(changefeed_row, resolved_is_a_time_or_nothing)
{
	static const struct {
		const char *value, *cursor; /* NULL: it is none */
	} rows[] = {
		{"{\"resolved\": \"1536242855577149065.0000000000\"}", "1536242855577149065.0000000000"},
		{"{\"resolved\": \"1536242855577149065.0000000007\", \"more\": 1}", "1536242855577149065.0000000007"},
		{"{\"resolved\": \"1\"}", "1"},
		{"{\"resolved\": \"\"}", NULL},
		{"{\"resolved\": \".5\"}", NULL},
		{"{\"resolved\": \"5.\"}", NULL},
		{"{\"resolved\": \"5.5.5\"}", NULL},
		{"{\"resolved\": \"-5.0\"}", NULL},
		{"{\"resolved\": \"5'; DROP TABLE topics; --\"}", NULL},
		{"{\"resolved\": 5}", NULL},
		{"{\"resolved\": \"15362428555771490651.0\"}", NULL},
		{"{\"resolved\": \"1536242855577149065.00000000000000000000000000000000000\"}", NULL},
		{"{}", NULL},
		{"what", NULL},
	};
	char cursor[48];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bool is = pg_changefeed_resolved(rows_str(rows[i].value), cursor, sizeof cursor);

		cr_expect_eq(is, rows[i].cursor != NULL, "%s", rows[i].value);
		if (is && rows[i].cursor != NULL)
			cr_expect_str_eq(cursor, rows[i].cursor);
	}
}
