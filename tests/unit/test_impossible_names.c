/* SPDX-License-Identifier: Apache-2.0
 * Names and tenants that cannot exist: every lookup answers ABSENT, fresh for ever, whether or not
 * anything was loaded, without asking the writer; every list is empty. Only what goes to the writer
 * is refused. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static char too_long[SHMETA_NAME_MAX + 2], long_tenant[SHMETA_TENANT_MAX + 2];
static char buffer[2000];
static const struct shmeta_read source = {sizeof source, SHMETA_SOURCE, 5000, 0, 0, buffer, sizeof buffer};
static const struct shmeta_read fresh_read = {sizeof fresh_read, SHMETA_FRESH, 5000, 0, 0, buffer, sizeof buffer};

static void set_up(void)
{
	memset(too_long, 'x', sizeof too_long - 1);
	memset(long_tenant, 'x', sizeof long_tenant - 1);
	w = fake_writer_new();
	fake_begin(w);
	fake_even_partition(w, fake_simple_topic(w, "t", 1), 0, 3, 10);
	(void)fake_commit(w);
	/* Nothing is stamped: every name that can exist is UNKNOWN. */
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
}

static void tear_down(void)
{
	cr_assert_eq(w->refreshes, 0, "nobody was asked");
	(void)shmeta_end(reader);
	fake_close_all(w, instance, reader);
}

TestSuite(impossible_names, .init = set_up, .fini = tear_down, .timeout = 30);

static struct shmeta_str name_of(int i)
{
	static const struct shmeta_str odd[] = {{"", 0},     {NULL, 0},           {"a\nb", 3},     {"a\0b", 3},
	                                        {"\xff", 1}, {"\xed\xa0\x80", 3}, {"\xc2\x85", 2}, {"\x7f", 1}};

	if (i < (int)(sizeof odd / sizeof *odd))
		return odd[i];
	return (struct shmeta_str){too_long, sizeof too_long - 1};
}
enum { NAMES = 9 };

static void expect_for_ever(enum shmeta_status status, struct shmeta_freshness *fresh, uint32_t hint, int i)
{
	cr_assert_eq(status, SHMETA_ABSENT, "name %d: %d", i, (int)status);
	cr_assert_eq(fresh->fresh, 1, "name %d", i);
	cr_assert_eq(fresh->age_ns, 0);
	cr_assert_eq(fresh->ttl_ns, UINT64_MAX);
	cr_assert_neq(fresh->txn, 0);
	cr_assert_eq(fresh->hint, hint);
	memset(fresh, 0, sizeof *fresh);
}

static void look_everywhere(struct shmeta_reader *r, struct shmeta_str n, int i)
{
	const struct shmeta_read *const reads[] = {NULL, &fresh_read, &source};
	struct shmeta_freshness f = {0};
	struct shmeta_topic_stats stats;
	struct shmeta_partition p;
	struct shmeta_handle *h;
	struct shmeta_segment s = {.partition_id = 0};
	struct shmeta_iter *iter;
	struct shmeta_topic t;
	struct shmeta_agent a;
	struct shmeta_lease l;
	enum shmeta_status status;
	char strings[64];

	for (int k = 0; k < 3; k++) {
		expect_for_ever(shmeta_get_topic(r, n.data, n.bytes, reads[k], &t, &f), &f, 0, i);
		expect_for_ever(shmeta_get_partition_named(r, n.data, n.bytes, 0, reads[k], &p, &f), &f, 0, i);
		expect_for_ever(shmeta_find_segment_named(r, n.data, n.bytes, 0, 5, reads[k], &s, &f), &f, 0, i);
	}
	expect_for_ever(shmeta_topic_stats(r, n.data, n.bytes, NULL, &stats, &f), &f, 0, i);
	expect_for_ever(shmeta_get_agent(r, n.data, n.bytes, NULL, &a, &f), &f, 1, i);
	expect_for_ever(shmeta_get_lease(r, n.data, n.bytes, 0, 0, NULL, &l, &f), &f, 1, i);
	cr_assert_eq(shmeta_get_topics(r, 1, &n, NULL, &status, &t), SHMETA_OK);
	cr_assert_eq(status, SHMETA_ABSENT);
	cr_assert_eq(shmeta_partition_open(r, n.data, n.bytes, 0, &h), SHMETA_ABSENT);
	cr_assert_eq(shmeta_list_partitions(r, n.data, n.bytes, NULL, &iter), SHMETA_ABSENT);
	cr_assert_eq(shmeta_segment_strings_named(r, n.data, n.bytes, &s, strings, sizeof strings), SHMETA_ABSENT);
}

Test(impossible_names, lookups_answer_absent_for_ever)
{
	struct shmeta_topic t;

	cr_assert_eq(shmeta_get_topic(reader, "no", 2, NULL, &t, NULL), SHMETA_UNKNOWN, "one that can exist");
	for (int i = 0; i < NAMES; i++)
		look_everywhere(reader, name_of(i), i);
	cr_assert_eq(shmeta_get_topic(reader, NULL, 3, NULL, &t, NULL), SHMETA_ERR_INVALID_ARGUMENT,
	             "no bytes at all are a mistake of the program");
	cr_assert_gt(fake_slot(w, 0)->counters.absent, 9 * NAMES);
}

Test(impossible_names, those_with_a_terminator_too)
{
	static const char *const odd[] = {"", "a\nb", "\xff", too_long};
	struct shmeta_committed_offset o;
	struct shmeta_freshness f = {0};
	struct shmeta_str name;
	struct shmeta_iter *iter;
	struct shmeta_lease l;

	for (int i = 0; i < 4; i++) {
		expect_for_ever(shmeta_get_committed_offset(reader, odd[i], strlen(odd[i]), "t", 1, 0, NULL, &o, &f),
		                &f, 1, i);
		expect_for_ever(shmeta_get_committed_offset(reader, "g", 1, odd[i], strlen(odd[i]), 0, NULL, &o, &f),
		                &f, 1, i);
		cr_assert_eq(shmeta_list_committed_offsets(reader, odd[i], strlen(odd[i]), NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_committed_offset(iter, &name, &o, NULL), SHMETA_END);
		shmeta_iter_free(iter);
		cr_assert_eq(shmeta_list_leases(reader, odd[i], strlen(odd[i]), NULL, 0, 0, NULL, &iter), SHMETA_OK);
		cr_assert_eq(shmeta_next_lease(iter, &name, &l, NULL), SHMETA_END);
		shmeta_iter_free(iter);
	}
	cr_assert_eq(shmeta_list_leases(reader, "t", 1, NULL, 0, 0, NULL, &iter), SHMETA_UNKNOWN, "one that can exist");
}

Test(impossible_names, a_list_by_a_pattern_that_no_name_fits_is_empty)
{
	struct shmeta_iter *iter;
	struct shmeta_topic t;
	char stars[400];

	fake_stamp_all(w);
	memset(stars, '*', sizeof stars);
	cr_assert_eq(shmeta_list_topics(reader, too_long, sizeof too_long - 1, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_topics(reader, too_long, sizeof too_long - 1, 1, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_topics(reader, stars, sizeof stars, 1, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_OK, "long, and fits every name");
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_skip_topics(iter, "", 0), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_OK);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_skip_topics(iter, too_long, sizeof too_long - 1), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &t, NULL), SHMETA_END, "t is before xxx");
	shmeta_iter_free(iter);
}

Test(impossible_names, a_tenant_that_cannot_exist_has_nothing_and_writes_nothing)
{
	const char *const tenants[] = {long_tenant, "", "a\tb", "\xff"};
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"t", 1}};
	char error[256];

	for (int i = 0; i < 4; i++) {
		struct shmeta *other = fake_open(w, tenants[i], 0, 1);
		struct shmeta_reader *r = fake_reader(other);
		struct shmeta_freshness f = {0};
		struct shmeta_client *client;
		struct shmeta_result result;
		struct shmeta_objects *objects;
		struct shmeta_iter *iter;
		struct shmeta_topic t;

		cr_assert_neq(r, NULL);
		cr_assert_eq(shmeta_begin(r), SHMETA_OK);
		look_everywhere(r, (struct shmeta_str){"t", 1}, i);
		expect_for_ever(shmeta_get_topic_by_id(r, 1, NULL, &t, &f), &f, 0, i);
		cr_assert_eq(shmeta_list_topics(r, NULL, 0, 0, NULL, &iter), SHMETA_OK);
		expect_for_ever(shmeta_next_topic(iter, &t, &f) == SHMETA_END ? SHMETA_ABSENT : SHMETA_OK, &f, 0, i);
		shmeta_iter_free(iter);
		cr_assert_eq(shmeta_end(r), SHMETA_OK);
		cr_assert_eq(shmeta_client_open(other, NULL, &client), SHMETA_OK);
		cr_assert_eq(shmeta_write(client, &op, 1, 5000, &result, NULL), SHMETA_ERR_INVALID_ARGUMENT);
		cr_assert_neq(strstr(result.text, "tenant"), NULL, "%s", result.text);
		cr_assert_eq(shmeta_refresh(other, SHMETA_CLASS_LIST, NULL, 0, 0, 5000, NULL),
		             SHMETA_ERR_INVALID_ARGUMENT);
		cr_assert_neq(strstr(shmeta_last_error(other, error, sizeof error), "tenant"), NULL, "%s", error);
		cr_assert_eq(shmeta_list_objects(other, 0, 5000, &objects), SHMETA_ERR_INVALID_ARGUMENT);
		shmeta_client_close(client);
		shmeta_reader_free(r);
		shmeta_close(other);
	}
}
