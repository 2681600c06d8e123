/* SPDX-License-Identifier: Apache-2.0
 * Every lookup of the reader, at its boundaries, against a store that the test filled. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/record/record.h"
#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	(void)fake_commit(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

/* Handles are their owner's, also after the reader is gone. */
static struct shmeta_handle *kept_handles[16];
static size_t kept_count;

static struct shmeta_handle *keep(struct shmeta_handle *h)
{
	cr_assert_lt(kept_count, sizeof kept_handles / sizeof *kept_handles);
	return kept_handles[kept_count++] = h;
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
	for (size_t i = 0; i < kept_count; i++)
		shmeta_partition_close(kept_handles[i]);
}

TestSuite(reader_lookups, .init = set_up, .fini = tear_down, .timeout = 20);

static void begin(void)
{
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
}

static void end(void)
{
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static int same(struct shmeta_str s, const char *text)
{
	return s.bytes == strlen(text) && memcmp(s.data, text, s.bytes) == 0;
}

static enum shmeta_status get(const char *name, struct shmeta_topic *ret)
{
	return shmeta_get_topic(reader, name, strlen(name), NULL, ret, NULL);
}

/* ---- topics ---- */

Test(reader_lookups, get_topic_gives_every_field_of_the_record)
{
	const struct fake_topic row = {.name = "orders",
	                               .partitions = 3,
	                               .policy = "compact",
	                               .config = fake_map("a", "1", "b", "", NULL),
	                               .created_at_ms = 42};
	struct shmeta_topic topic;
	struct shmeta_str value;
	uint32_t id;

	fake_begin(w);
	id = fake_topic(w, &row);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	for (int i = 0; i < 3; i++) { /* looked up, then remembered */
		cr_assert_eq(get("orders", &topic), SHMETA_OK);
		cr_assert(same(topic.name, "orders"));
		cr_assert(same(topic.cleanup_policy, "compact"));
		cr_assert_eq(topic.created_at_ms, 42);
		cr_assert_eq(topic.updated_at_ms, 43);
		cr_assert_eq(topic.retention_ms, 604800000);
		cr_assert_eq(topic.has_retention, 1);
		cr_assert_eq(topic.partition_count, 3);
		cr_assert_eq(topic.topic_id, id);
		cr_assert_eq(shmeta_map_get(&topic.config, "a", &value), SHMETA_OK);
		cr_assert(same(value, "1"));
		cr_assert_eq(shmeta_map_get(&topic.config, "c", &value), SHMETA_ABSENT);
	}
	end();
	free((void *)(uintptr_t)row.config.data);
}

Test(reader_lookups, get_topic_is_unknown_before_the_list_was_loaded_and_absent_after)
{
	struct shmeta_topic topic;
	struct shmeta_freshness fresh;

	begin();
	cr_assert_eq(get("nobody", &topic), SHMETA_UNKNOWN);
	end();
	fake_begin(w);
	(void)fake_simple_topic(w, "somebody", 1);
	(void)fake_commit(w);
	begin();
	cr_assert_eq(get("nobody", &topic), SHMETA_UNKNOWN, "a topic alone does not make the list complete");
	cr_assert_eq(get("somebody", &topic), SHMETA_OK);
	fake_stamp_all(w);
	cr_assert_eq(shmeta_get_topic(reader, "nobody", 6, NULL, &topic, &fresh), SHMETA_ABSENT);
	cr_assert_eq(fresh.fresh, 1);
	cr_assert_eq(fresh.ttl_ns, UINT64_C(30000000000), "absence is a matter of the list");
	end();
}

Test(reader_lookups, a_stamp_of_a_later_commit_does_not_make_an_older_snapshot_complete)
{
	struct shmeta_topic topic;

	begin();
	fake_begin(w);
	(void)fake_simple_topic(w, "late", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(get("late", &topic), SHMETA_UNKNOWN, "the snapshot is older than what the stamp speaks of");
	end();
	begin();
	cr_assert_eq(get("late", &topic), SHMETA_OK);
	cr_assert_eq(get("never", &topic), SHMETA_ABSENT);
	end();
}

Test(reader_lookups, a_snapshot_stays_complete_when_the_class_is_stamped_at_later_commits)
{
	struct shmeta_topic topic;
	struct shmeta_freshness fresh;

	fake_begin(w);
	(void)fake_simple_topic(w, "one", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	fake_advance(w, UINT64_C(7000000000));
	fake_begin(w);
	(void)fake_simple_topic(w, "two", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(shmeta_get_topic(reader, "two", 3, NULL, &topic, &fresh), SHMETA_ABSENT);
	cr_assert_geq(fresh.age_ns, UINT64_C(6990000000), "its age is that of the stamp it began with");
	cr_assert_eq(shmeta_get_topic(reader, "one", 3, NULL, &topic, &fresh), SHMETA_OK);
	cr_assert_geq(fresh.age_ns, UINT64_C(6990000000));
	end();
}

Test(reader_lookups, names_at_their_limits_are_found_and_beyond_them_absent)
{
	char longest[SHMETA_NAME_MAX + 2];
	struct shmeta_topic topic;

	memset(longest, 'x', sizeof longest);
	longest[SHMETA_NAME_MAX] = 0;
	fake_begin(w);
	(void)fake_simple_topic(w, longest, 1);
	(void)fake_simple_topic(w, "y", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(get(longest, &topic), SHMETA_OK);
	cr_assert_eq(topic.name.bytes, SHMETA_NAME_MAX);
	cr_assert_eq(get("y", &topic), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, longest, SHMETA_NAME_MAX + 1, NULL, &topic, NULL), SHMETA_ABSENT);
	cr_assert_eq(get("", &topic), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_topic(reader, NULL, 3, NULL, &topic, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(get("tab\there", &topic), SHMETA_ABSENT);
	cr_assert_eq(get("Y", &topic), SHMETA_ABSENT, "names are compared as bytes");
	end();
}

Test(reader_lookups, get_topic_by_id_leads_to_the_name_and_unknown_ids_are_absent)
{
	struct shmeta_topic topic;
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_get_topic_by_id(reader, id, NULL, &topic, NULL), SHMETA_OK);
	cr_assert(same(topic.name, "t"));
	cr_assert_eq(shmeta_get_topic_by_id(reader, id + 1, NULL, &topic, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_topic_by_id(reader, 0, NULL, &topic, NULL), SHMETA_ABSENT);
	end();
}

static size_t list(const char *pattern, int glob, char *out)
{
	struct shmeta_iter *iter;
	struct shmeta_topic topic;
	enum shmeta_status status;
	size_t n = 0;

	out[0] = 0;
	cr_assert_eq(shmeta_list_topics(reader, pattern, pattern == NULL ? 0 : strlen(pattern), glob, NULL, &iter),
	             SHMETA_OK);
	while ((status = shmeta_next_topic(iter, &topic, NULL)) == SHMETA_OK) {
		strncat(out, topic.name.data, topic.name.bytes);
		strcat(out, " ");
		n++;
	}
	cr_assert_eq(status, SHMETA_END);
	cr_assert_eq(shmeta_next_topic(iter, &topic, NULL), SHMETA_END, "it stays at its end");
	shmeta_iter_free(iter);
	return n;
}

Test(reader_lookups, list_topics_is_in_order_of_bytes_whatever_the_order_of_creation)
{
	static const char *const names[] = {"z_", "b", "a10", "\xc3\xa9", "a1", "B", "a2"};
	char out[256];

	fake_begin(w);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		(void)fake_simple_topic(w, names[i], 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(list(NULL, 0, out), 7);
	cr_assert_str_eq(out, "B a1 a10 a2 b z_ \xc3\xa9 ");
	cr_assert_eq(list("", 0, out), 7, "an empty prefix is every name's");
	(void)list("a1", 0, out);
	cr_assert_str_eq(out, "a1 a10 ");
	(void)list("a1", 1, out);
	cr_assert_str_eq(out, "a1 ", "a glob without a star is the name itself");
	(void)list("a*", 1, out);
	cr_assert_str_eq(out, "a1 a10 a2 ");
	(void)list("*0", 1, out);
	cr_assert_str_eq(out, "a10 ");
	(void)list("a*0", 1, out);
	cr_assert_str_eq(out, "a10 ");
	(void)list("*", 1, out);
	cr_assert_str_eq(out, "B a1 a10 a2 b z_ \xc3\xa9 ");
	(void)list("**1**", 1, out);
	cr_assert_str_eq(out, "a1 a10 ");
	(void)list("?", 1, out);
	cr_assert_str_eq(out, "", "only the star is special");
	(void)list("zz", 0, out);
	cr_assert_str_eq(out, "");
	end();
}

Test(reader_lookups, an_empty_list_of_topics_is_unknown_before_it_was_loaded)
{
	struct shmeta_iter *iter;
	char out[16];

	begin();
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter), SHMETA_UNKNOWN);
	end();
	fake_stamp_all(w);
	begin();
	cr_assert_eq(list(NULL, 0, out), 0);
	end();
}

Test(reader_lookups, topic_stats_sum_over_the_partitions)
{
	struct shmeta_topic_stats stats;
	uint32_t id, other;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 3);
	other = fake_simple_topic(w, "u", 1);
	fake_even_partition(w, id, 0, 10, 100);
	fake_even_partition(w, id, 2, 2, 100);
	fake_even_partition(w, other, 0, 5, 100);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_topic_stats(reader, "t", 1, NULL, &stats, NULL), SHMETA_OK);
	cr_assert_eq(stats.partition_count, 3);
	cr_assert_eq(stats.segment_count, 12);
	cr_assert_eq(stats.size_bytes, 10 * 1000 + 45 + 2 * 1000 + 1);
	cr_assert_eq(shmeta_topic_stats(reader, "v", 1, NULL, &stats, NULL), SHMETA_ABSENT);
	end();
}

Test(reader_lookups, a_batch_answers_in_input_order_with_the_absent_marked)
{
	const struct shmeta_str names[] = {fake_str("b"), fake_str("gone"), fake_str("a"), fake_str("")};
	enum shmeta_status status[4];
	struct shmeta_topic topics[4];

	fake_begin(w);
	(void)fake_simple_topic(w, "a", 1);
	(void)fake_simple_topic(w, "b", 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_get_topics(reader, 4, names, NULL, status, topics), SHMETA_OK);
	cr_assert_eq(status[0], SHMETA_OK);
	cr_assert(same(topics[0].name, "b"));
	cr_assert_eq(status[1], SHMETA_ABSENT);
	cr_assert_eq(status[2], SHMETA_OK);
	cr_assert(same(topics[2].name, "a"));
	cr_assert_eq(status[3], SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_topics(reader, 0, NULL, NULL, NULL, NULL), SHMETA_OK);
	end();
}

Test(reader_lookups, tenants_do_not_see_each_other)
{
	const struct fake_topic mine = {.name = "same", .partitions = 1, .created_at_ms = 1};
	const struct fake_topic theirs = {.name = "same", .tenant = "other", .partitions = 2, .created_at_ms = 2};
	struct shmeta *other_instance, *nobody_instance;
	struct shmeta_reader *other, *nobody;
	struct shmeta_topic topic;
	struct shmeta_iter *iter;
	uint32_t my_id, their_id;

	fake_begin(w);
	my_id = fake_topic(w, &mine);
	their_id = fake_topic(w, &theirs);
	(void)fake_commit(w);
	fake_stamp_all(w);
	other_instance = fake_open(w, "other", 0, 0);
	nobody_instance = fake_open(w, "nobody", 0, 0);
	cr_assert_eq(shmeta_reader_new(other_instance, &other), SHMETA_OK);
	cr_assert_eq(shmeta_reader_new(nobody_instance, &nobody), SHMETA_OK);
	begin();
	cr_assert_eq(shmeta_begin(other), SHMETA_OK);
	cr_assert_eq(shmeta_begin(nobody), SHMETA_OK);
	cr_assert_eq(get("same", &topic), SHMETA_OK);
	cr_assert_eq(topic.topic_id, my_id);
	cr_assert_eq(shmeta_get_topic(other, "same", 4, NULL, &topic, NULL), SHMETA_OK);
	cr_assert_eq(topic.topic_id, their_id);
	cr_assert_eq(shmeta_get_topic_by_id(other, my_id, NULL, &topic, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_topic_by_id(reader, their_id, NULL, &topic, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_topic(nobody, "same", 4, NULL, &topic, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_list_topics(other, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &topic, NULL), SHMETA_OK);
	cr_assert_eq(topic.partition_count, 2);
	cr_assert_eq(shmeta_next_topic(iter, &topic, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_topics(nobody, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_topic(iter, &topic, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_end(nobody), SHMETA_OK);
	cr_assert_eq(shmeta_end(other), SHMETA_OK);
	end();
	shmeta_reader_free(nobody); /* with an iterator still open */
	shmeta_reader_free(other);
	shmeta_close(nobody_instance);
	shmeta_close(other_instance);
}

Test(reader_lookups, many_names_are_found_beyond_what_the_cache_holds)
{
	char name[16];
	struct shmeta_topic topic;

	fake_begin(w);
	for (int i = 0; i < 3000; i++) {
		const struct fake_topic t = {.name = name, .partitions = 1, .created_at_ms = i};

		(void)snprintf(name, sizeof name, "topic-%d", i);
		(void)fake_topic(w, &t);
	}
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 3000; i++) {
			(void)snprintf(name, sizeof name, "topic-%d", i);
			cr_assert_eq(get(name, &topic), SHMETA_OK);
			cr_assert_eq(topic.created_at_ms, i);
		}
	end();
}

Test(reader_lookups, a_record_whose_checksum_is_wrong_is_corrupt_and_counted)
{
	struct shmeta_topic topic = {.name = fake_str("bad"), .partition_count = 1, .topic_id = 77};
	const struct shmeta__stamps stamps = {0};
	uint8_t key[SHMETA_KEY_MAX], value[1024];
	size_t key_bytes, bytes;

	fake_begin(w);
	key_bytes = shmeta__name_key(key, fake_tenant(w, NULL), "bad", 3);
	bytes = shmeta__topic_encode(&topic, &stamps, key, key_bytes, value, sizeof value);
	/* of created_at_ms: nothing but the checksum can tell */
	value[sizeof(struct shmeta_record_head)] ^= 1;
	fake_raw(w, SHMETA_DB_NAMES, key, key_bytes, value, bytes);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(get("bad", &topic), SHMETA_ERR_CORRUPT);
	end();
	cr_assert_eq(fake_slot(w, 0)->counters.corrupt, 1);
	cr_assert_eq(fake_slot(w, 0)->counters.errors, 1);
}

/* ---- partitions ---- */

static struct shmeta_handle *open_partition(const char *topic, uint32_t partition)
{
	struct shmeta_handle *h = NULL;

	cr_assert_eq(shmeta_partition_open(reader, topic, strlen(topic), partition, &h), SHMETA_OK);
	return keep(h);
}

Test(reader_lookups, partitions_are_found_by_handle_and_by_name)
{
	struct shmeta_partition p;
	struct shmeta_handle *h = NULL;
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, id, 1, 10, 100);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &h), SHMETA_ERR_NO_SNAPSHOT);
	begin();
	h = open_partition("t", 1);
	for (int i = 0; i < 3; i++) {
		memset(&p, 0xff, sizeof p);
		cr_assert_eq(i == 0 ? shmeta_get_partition(h, NULL, &p, NULL)
		                    : shmeta_get_partition_named(reader, "t", 1, 1, NULL, &p, NULL),
		             SHMETA_OK);
		cr_assert_eq(p.topic_id, id);
		cr_assert_eq(p.partition_id, 1);
		cr_assert_eq(p.high_watermark, 1000);
		cr_assert_eq(p.log_start_offset, 0);
		cr_assert_eq(p.segment_count, 10);
		cr_assert_eq(p.size_bytes, 10045);
		cr_assert_eq(p.created_at_ms, 1000);
		cr_assert_eq(p.updated_at_ms, 2000);
	}
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 2, NULL, &p, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_partition_named(reader, "u", 1, 0, NULL, &p, NULL), SHMETA_ABSENT);
	h = NULL;
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 2, &h), SHMETA_ABSENT);
	cr_assert_eq(h, NULL, "no handle");
	cr_assert_eq(shmeta_partition_open(reader, "u", 1, 0, &h), SHMETA_ABSENT);
	end();
}

Test(reader_lookups, partitions_are_unknown_before_they_were_loaded)
{
	const struct fake_topic t = {.name = "t", .partitions = 1};
	struct shmeta_partition p;
	struct shmeta_handle *h;

	fake_begin(w);
	(void)fake_topic(w, &t);
	(void)fake_commit(w);
	fake_stamp(w, SHMETA_CLASS_LIST, 0);
	fake_stamp(w, SHMETA_CLASS_TOPIC, 0);
	begin();
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &h), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_get_partition_named(reader, "u", 1, 0, NULL, &p, NULL), SHMETA_ABSENT);
	end();
}

Test(reader_lookups, list_partitions_is_in_order_of_number_and_of_one_topic)
{
	struct shmeta_partition p;
	struct shmeta_freshness fresh;
	struct shmeta_iter *iter;
	uint32_t id;

	fake_begin(w);
	(void)fake_simple_topic(w, "s", 2);
	id = fake_simple_topic(w, "t", 0);
	for (uint32_t i = 0; i < 12; i++)
		fake_partition(w, id, (i * 7 + 3) % 12, i, NULL, 0, 0, 0);
	(void)fake_simple_topic(w, "u", 2);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_list_partitions(reader, "t", 1, NULL, &iter), SHMETA_OK);
	for (uint32_t i = 0; i < 12; i++) {
		cr_assert_eq(shmeta_next_partition(iter, &p, &fresh), SHMETA_OK);
		cr_assert_eq(p.partition_id, i);
		cr_assert_eq(p.topic_id, id);
		cr_assert_eq(fresh.fresh, 1);
	}
	cr_assert_eq(shmeta_next_partition(iter, &p, NULL), SHMETA_END);
	cr_assert_eq(shmeta_next_partition(iter, &p, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_partitions(reader, "v", 1, NULL, &iter), SHMETA_ABSENT);
	end();
}

Test(reader_lookups, partition_batches_answer_in_input_order)
{
	struct shmeta_handle *h[3];
	enum shmeta_status status[3];
	struct shmeta_partition p[3];
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 3);
	for (uint32_t i = 0; i < 3; i++)
		fake_even_partition(w, id, i, i + 1, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	for (uint32_t i = 0; i < 3; i++)
		h[i] = open_partition("t", 2 - i);
	cr_assert_eq(shmeta_get_partitions(3, h, NULL, status, p), SHMETA_OK);
	for (uint32_t i = 0; i < 3; i++) {
		cr_assert_eq(status[i], SHMETA_OK);
		cr_assert_eq(p[i].partition_id, 2 - i);
		cr_assert_eq(p[i].segment_count, 3 - i);
	}
	end();
	cr_assert_eq(shmeta_get_partitions(3, h, NULL, status, p), SHMETA_ERR_NO_SNAPSHOT);
	h[1] = NULL;
	cr_assert_eq(shmeta_get_partitions(3, h, NULL, status, p), SHMETA_ERR_INVALID_ARGUMENT);
}

/* ---- segments ---- */

static enum shmeta_status find(struct shmeta_handle *h, uint64_t offset, struct shmeta_segment *ret)
{
	return shmeta_find_segment(h, offset, NULL, ret, NULL);
}

Test(reader_lookups, find_segment_tells_the_three_absences_apart)
{
	const struct shmeta_segment rows[] = {{.base_offset = 100, .end_offset = 199, .record_count = 100},
	                                      {.base_offset = 300, .end_offset = 399, .record_count = 100}};
	struct shmeta_handle *h;
	struct shmeta_segment s;
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	fake_partition(w, id, 0, 500, rows, 2, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	h = open_partition("t", 0);
	cr_assert_eq(find(h, 0, &s), SHMETA_ABSENT_BEFORE_START);
	cr_assert_eq(find(h, 99, &s), SHMETA_ABSENT_BEFORE_START);
	cr_assert_eq(find(h, 100, &s), SHMETA_OK);
	cr_assert_eq(s.base_offset, 100);
	cr_assert_eq(s.end_offset, 199);
	cr_assert_eq(find(h, 199, &s), SHMETA_OK);
	cr_assert_eq(find(h, 200, &s), SHMETA_ABSENT_GAP);
	cr_assert_eq(find(h, 299, &s), SHMETA_ABSENT_GAP);
	cr_assert_eq(find(h, 300, &s), SHMETA_OK);
	cr_assert_eq(s.base_offset, 300);
	cr_assert_eq(find(h, 399, &s), SHMETA_OK);
	cr_assert_eq(find(h, 400, &s), SHMETA_ABSENT_GAP, "below the watermark");
	cr_assert_eq(find(h, 500, &s), SHMETA_ABSENT_AT_END);
	cr_assert_eq(find(h, UINT64_MAX, &s), SHMETA_ABSENT_AT_END);
	for (uint64_t offset = 0; offset < 600; offset++) {
		struct shmeta_segment named = {0};
		enum shmeta_status by_handle = find(h, offset, &s);

		cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 0, offset, NULL, &named, NULL), by_handle);
		cr_assert(by_handle != SHMETA_OK || named.base_offset == s.base_offset);
	}
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 1, 5, NULL, &s, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_find_segment_named(reader, "u", 1, 0, 5, NULL, &s, NULL), SHMETA_ABSENT);
	end();
	cr_assert_eq(find(h, 1, &s), SHMETA_ERR_NO_SNAPSHOT);
}

Test(reader_lookups, the_containing_segment_with_the_largest_base_wins)
{
	const struct shmeta_segment rows[] = {{.base_offset = 0, .end_offset = 99},
	                                      {.base_offset = 50, .end_offset = 60}};
	struct shmeta_handle *h;
	struct shmeta_segment s;

	fake_begin(w);
	fake_partition(w, fake_simple_topic(w, "t", 1), 0, 100, rows, 2, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	h = open_partition("t", 0);
	cr_assert_eq(find(h, 55, &s), SHMETA_OK);
	cr_assert_eq(s.base_offset, 50);
	cr_assert_eq(find(h, 75, &s), SHMETA_OK);
	cr_assert_eq(s.base_offset, 0);
	end();
}

/* By handle and by name: what was found last is remembered by both. */
static void find_both(struct shmeta_handle *h, uint64_t offset, uint64_t base, uint64_t size)
{
	char buffer[3 * (SHMETA_STRING_MAX + 1)], key[64];
	struct shmeta_segment s, named;

	(void)snprintf(key, sizeof key, "data/t/0/%020llu.seg", (unsigned long long)base);
	memset(&s, 0xff, sizeof s);
	memset(&named, 0xff, sizeof named);
	for (int again = 0; again < 3; again++) {
		cr_assert_eq(find(h, offset, &s), SHMETA_OK);
		cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 0, offset, NULL, &named, NULL), SHMETA_OK);
		cr_assert_eq(memcmp(&s, &named, sizeof s), 0);
		cr_assert_eq(s.base_offset, base);
		cr_assert_eq(s.size_bytes, size);
		cr_assert_eq(s.record_count, 7);
		cr_assert_eq(s.created_at_ms, 11);
		cr_assert_eq(s.min_timestamp_ms, 12);
		cr_assert_eq(s.max_timestamp_ms, 13);
		cr_assert_eq(s.partition_id, 0);
		cr_assert_eq(s.s3_key.bytes, 0);
	}
	cr_assert_eq(shmeta_segment_strings(h, &s, buffer, sizeof buffer), SHMETA_OK);
	cr_assert(same(s.s3_key, key));
}

static struct shmeta_segment row(uint64_t base, uint64_t end, uint64_t size)
{
	return (struct shmeta_segment){.base_offset = base,
	                               .end_offset = end,
	                               .size_bytes = size,
	                               .record_count = 7,
	                               .created_at_ms = 11,
	                               .min_timestamp_ms = 12,
	                               .max_timestamp_ms = 13};
}

Test(reader_lookups, a_segment_that_was_found_before_is_answered_as_each_snapshot_shows_it)
{
	struct shmeta_segment rows[2] = {row(0, 9, 100), row(10, 19, 200)}, s;
	struct shmeta_handle *h;
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	fake_partition(w, id, 0, 20, rows, 2, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	h = open_partition("t", 0);
	find_both(h, 9, 0, 100);
	find_both(h, 0, 0, 100);
	find_both(h, 10, 10, 200);
	find_both(h, 5, 0, 100);
	end();
	rows[0].size_bytes = 300;
	fake_begin(w);
	fake_partition(w, id, 0, 20, rows, 2, 0, 0);
	(void)fake_commit(w);
	begin();
	find_both(h, 5, 0, 300);
	end();
	rows[0].end_offset = 6;
	fake_begin(w);
	fake_partition(w, id, 0, 20, rows, 2, 0, 0);
	(void)fake_commit(w);
	begin();
	find_both(h, 5, 0, 300);
	cr_assert_eq(find(h, 7, &s), SHMETA_ABSENT_GAP);
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 0, 7, NULL, &s, NULL), SHMETA_ABSENT_GAP);
	end();
}

Test(reader_lookups, overlapping_segments_are_answered_alike_whatever_was_found_before)
{
	const struct shmeta_segment rows[] = {row(0, 99, 1), row(50, 149, 2), row(150, 199, 3)};
	struct shmeta_handle *h;

	fake_begin(w);
	fake_partition(w, fake_simple_topic(w, "t", 1), 0, 200, rows, 3, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	h = open_partition("t", 0);
	find_both(h, 40, 0, 1);
	find_both(h, 60, 50, 2);
	find_both(h, 99, 50, 2);
	find_both(h, 49, 0, 1);
	find_both(h, 120, 50, 2);
	find_both(h, 160, 150, 3);
	end();
}

Test(reader_lookups, last_segment_and_timestamps_answer_at_their_boundaries)
{
	struct shmeta_handle *h, *empty;
	struct shmeta_freshness fresh;
	struct shmeta_segment s;
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, id, 0, 1000, 10); /* row i: times i * 10 .. i * 10 + 9 */
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	h = open_partition("t", 0);
	empty = open_partition("t", 1);
	cr_assert_eq(shmeta_last_segment(h, NULL, &s, &fresh), SHMETA_OK);
	cr_assert_eq(s.base_offset, 9990);
	cr_assert_eq(fresh.fresh, 1);
	cr_assert_eq(shmeta_last_segment(empty, NULL, &s, NULL), SHMETA_ABSENT_AT_END);
	cr_assert_eq(find(empty, 0, &s), SHMETA_ABSENT_AT_END);
	cr_assert_eq(shmeta_find_segment_for_timestamp(h, INT64_MIN, NULL, &s, NULL), SHMETA_OK);
	cr_assert_eq(s.base_offset, 0);
	cr_assert_eq(shmeta_find_segment_for_timestamp(h, 9, NULL, &s, NULL), SHMETA_OK);
	cr_assert_eq(s.base_offset, 0);
	cr_assert_eq(shmeta_find_segment_for_timestamp(h, 10, NULL, &s, NULL), SHMETA_OK);
	cr_assert_eq(s.base_offset, 10);
	cr_assert_eq(shmeta_find_segment_for_timestamp(h, 9999, NULL, &s, NULL), SHMETA_OK);
	cr_assert_eq(s.base_offset, 9990);
	cr_assert_eq(shmeta_find_segment_for_timestamp(h, 10000, NULL, &s, NULL), SHMETA_ABSENT_AT_END);
	cr_assert_eq(shmeta_find_segment_for_timestamp(empty, 0, NULL, &s, NULL), SHMETA_ABSENT_AT_END);
	end();
}

static size_t count_segments(struct shmeta_handle *h, uint64_t from, uint64_t to, uint64_t *ret_first,
                             uint64_t *ret_last)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_segment s;
	size_t n = 0;

	cr_assert_eq(shmeta_list_segments(h, from, to, NULL, &iter), SHMETA_OK);
	while (shmeta_next_segment(iter, &s) == SHMETA_OK) {
		if (n++ == 0)
			*ret_first = s.base_offset;
		*ret_last = s.base_offset;
	}
	cr_assert_eq(shmeta_next_segment(iter, &s), SHMETA_END);
	shmeta_iter_free(iter);
	return n;
}

Test(reader_lookups, list_segments_gives_what_overlaps_the_half_open_range)
{
	struct shmeta_handle *h;
	struct shmeta_iter *iter;
	uint64_t first, last;
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 1);
	fake_even_partition(w, id, 0, 5000, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &h), SHMETA_OK);
	cr_assert_eq(count_segments(h, 0, UINT64_MAX, &first, &last), 5000);
	cr_assert_eq(first, 0);
	cr_assert_eq(last, 49990);
	cr_assert_eq(count_segments(h, 10, 20, &first, &last), 1);
	cr_assert_eq(first, 10);
	cr_assert_eq(count_segments(h, 19, 21, &first, &last), 2);
	cr_assert_eq(count_segments(h, 9, 10, &first, &last), 1);
	cr_assert_eq(first, 0);
	cr_assert_eq(count_segments(h, 7, 7, &first, &last), 0, "an empty range overlaps nothing");
	cr_assert_eq(count_segments(h, 0, 0, &first, &last), 0);
	cr_assert_eq(count_segments(h, 49999, 50000, &first, &last), 1);
	cr_assert_eq(count_segments(h, 50000, 60000, &first, &last), 0);
	cr_assert_eq(shmeta_list_segments(h, 8, 7, NULL, &iter), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_list_segments(h, 0, 100, NULL, &iter), SHMETA_OK);
	shmeta_partition_close(h);
	cr_assert_eq(shmeta_next_segment(iter, &(struct shmeta_segment){0}), SHMETA_OK,
	             "an iterator outlives the handle it came from");
	end();
	cr_assert_eq(shmeta_next_segment(iter, &(struct shmeta_segment){0}), SHMETA_ERR_NO_SNAPSHOT);
	begin();
	cr_assert_eq(shmeta_next_segment(iter, &(struct shmeta_segment){0}), SHMETA_ERR_NO_SNAPSHOT,
	             "nor does it come back to life");
	end();
	shmeta_iter_free(iter);
}

Test(reader_lookups, strings_are_spelt_on_demand_and_survive_the_snapshot)
{
	const struct shmeta_segment rows[] = {{.base_offset = 0, .end_offset = 9},
	                                      {.base_offset = 10,
	                                       .end_offset = 19,
	                                       .id = fake_str("odd one"),
	                                       .s3_bucket = fake_str("other"),
	                                       .s3_key = fake_str("elsewhere/17.bin")}};
	char buffer[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_segment s, named;
	struct shmeta_handle *h;

	fake_begin(w);
	fake_partition(w, fake_simple_topic(w, "t", 1), 0, 20, rows, 2, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	h = open_partition("t", 0);
	cr_assert_eq(find(h, 5, &s), SHMETA_OK);
	cr_assert_eq(s.id.bytes, 0, "not before it is asked for");
	cr_assert_eq(shmeta_segment_strings(h, &s, buffer, sizeof buffer), SHMETA_OK);
	cr_assert_str_eq(s.id.data, "t-0-0");
	cr_assert_str_eq(s.s3_bucket.data, "bucket");
	cr_assert_str_eq(s.s3_key.data, "data/t/0/00000000000000000000.seg");
	cr_assert_eq(shmeta_find_segment_named(reader, "t", 1, 0, 12, NULL, &named, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_segment_strings_named(reader, "t", 1, &named, buffer, 10), SHMETA_ERR_BUFFER);
	cr_assert_eq(shmeta_segment_strings_named(reader, "t", 1, &named, buffer, sizeof buffer), SHMETA_OK);
	end();
	cr_assert(same(named.id, "odd one"));
	cr_assert(same(named.s3_bucket, "other"));
	cr_assert(same(named.s3_key, "elsewhere/17.bin"));
}

Test(reader_lookups, find_batches_answer_in_input_order)
{
	struct shmeta_find finds[4];
	enum shmeta_status status[4];
	struct shmeta_segment s[4];
	uint32_t id;

	fake_begin(w);
	id = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, id, 0, 10, 10);
	fake_even_partition(w, id, 1, 20, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	finds[0] = (struct shmeta_find){open_partition("t", 1), 155};
	finds[1] = (struct shmeta_find){open_partition("t", 0), 155};
	finds[2] = (struct shmeta_find){finds[1].handle, 0};
	finds[3] = (struct shmeta_find){finds[0].handle, 11};
	cr_assert_eq(shmeta_find_segments(4, finds, NULL, status, s), SHMETA_OK);
	cr_assert_eq(status[0], SHMETA_OK);
	cr_assert_eq(s[0].base_offset, 150);
	cr_assert_eq(s[0].partition_id, 1);
	cr_assert_eq(status[1], SHMETA_ABSENT_AT_END);
	cr_assert_eq(s[2].base_offset, 0);
	cr_assert_eq(s[3].base_offset, 10);
	end();
}

/* ---- hints ---- */

static void add_agent(const char *id, const char *group, const char *zone, int64_t heartbeat)
{
	const struct shmeta_agent a = {.agent_id = fake_str(id),
	                               .address = fake_str("host:1"),
	                               .availability_zone = fake_str(zone),
	                               .agent_group = fake_str(group),
	                               .last_heartbeat_ms = heartbeat,
	                               .started_at_ms = 7};

	fake_agent(w, NULL, &a, 0);
}

static size_t agents(const char *group, const char *zone, int64_t now, char *out)
{
	struct shmeta_iter *iter;
	struct shmeta_agent a;
	size_t n = 0;

	out[0] = 0;
	cr_assert_eq(shmeta_list_agents(reader, group, group == NULL ? 0 : strlen(group), zone,
	                                zone == NULL ? 0 : strlen(zone), now, NULL, &iter),
	             SHMETA_OK);
	while (shmeta_next_agent(iter, &a, NULL) == SHMETA_OK) {
		strncat(out, a.agent_id.data, a.agent_id.bytes);
		strcat(out, " ");
		n++;
	}
	shmeta_iter_free(iter);
	return n;
}

Test(reader_lookups, agents_are_listed_by_id_while_their_heartbeat_is_younger_than_60_s)
{
	struct shmeta_freshness fresh;
	struct shmeta_agent a;
	struct shmeta_iter *iter;
	char out[128];

	begin();
	cr_assert_eq(shmeta_list_agents(reader, NULL, 0, NULL, 0, 0, NULL, &iter), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_get_agent(reader, "a1", 2, NULL, &a, NULL), SHMETA_UNKNOWN);
	end();
	fake_begin(w);
	add_agent("b", "blue", "z1", 100000);
	add_agent("a1", "blue", "z2", 100000);
	add_agent("a10", "red", "z1", 40000);
	add_agent("c", "", "z1", 40001);
	add_agent("d", "red", "z1", 9000000);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	(void)agents(NULL, NULL, 100000, out);
	cr_assert_str_eq(out, "a1 b c d ", "40000 is exactly 60 s old and dead, 9000000 is in the future and alive");
	(void)agents("blue", NULL, 100000, out);
	cr_assert_str_eq(out, "a1 b ");
	(void)agents("blue", "z1", 100000, out);
	cr_assert_str_eq(out, "b ");
	(void)agents("", NULL, 100000, out);
	cr_assert_str_eq(out, "c ", "an empty group is a group");
	(void)agents(NULL, "z1", 100000, out);
	cr_assert_str_eq(out, "b c d ");
	cr_assert_eq(agents(NULL, NULL, INT64_MIN, out), 5, "no overflow");
	cr_assert_eq(agents(NULL, NULL, INT64_MAX, out), 0);
	cr_assert_eq(shmeta_get_agent(reader, "a10", 3, NULL, &a, &fresh), SHMETA_OK,
	             "one agent is given dead or alive");
	cr_assert(same(a.agent_group, "red"));
	cr_assert_eq(a.started_at_ms, 7);
	cr_assert_eq(fresh.hint, 1);
	cr_assert_eq(fresh.ttl_ns, UINT64_C(5000000000));
	cr_assert_eq(shmeta_get_agent(reader, "x", 1, NULL, &a, &fresh), SHMETA_ABSENT);
	cr_assert_eq(fresh.hint, 1);
	end();
}

static void leases(const char *topic, const char *agent, int64_t now, char *out)
{
	struct shmeta_iter *iter;
	struct shmeta_lease lease;
	struct shmeta_str name;

	out[0] = 0;
	cr_assert_eq(shmeta_list_leases(reader, topic, topic == NULL ? 0 : strlen(topic), agent,
	                                agent == NULL ? 0 : strlen(agent), now, NULL, &iter),
	             SHMETA_OK);
	while (shmeta_next_lease(iter, &name, &lease, NULL) == SHMETA_OK)
		(void)sprintf(out + strlen(out), "%.*s/%u=%.*s ", (int)name.bytes, name.data, lease.partition_id,
		              (int)lease.leader_agent_id.bytes, lease.leader_agent_id.data);
	cr_assert_eq(shmeta_next_lease(iter, &name, &lease, NULL), SHMETA_END);
	shmeta_iter_free(iter);
}

Test(reader_lookups, leases_are_in_order_of_topic_name_and_partition_and_expire_at_their_time)
{
	const struct fake_topic theirs = {.name = "aaa", .tenant = "other", .partitions = 1};
	struct shmeta_lease lease;
	struct shmeta_freshness fresh;
	uint32_t z, a, gone;
	char out[256];

	fake_begin(w);
	z = fake_simple_topic(w, "z", 12);
	gone = fake_simple_topic(w, "gone", 1);
	a = fake_simple_topic(w, "a", 2);
	fake_lease(w, z, 10, "ag1", 1000, 1);
	fake_lease(w, z, 9, "ag2", 2000, 4);
	fake_lease(w, z, 11, "ag3", INT64_MIN, 1);
	fake_lease(w, a, 1, "ag1", 2000, 5);
	fake_lease(w, a, 0, "ag2", 1001, 6);
	fake_lease(w, fake_topic(w, &theirs), 0, "ag1", 9000, 6);
	fake_delete_topic(w, NULL, "gone");
	fake_lease(w, gone, 0, "ag1", 9000, 1); /* a leftover */
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	leases(NULL, NULL, 999, out);
	cr_assert_str_eq(out, "a/0=ag2 a/1=ag1 z/9=ag2 z/10=ag1 ");
	leases(NULL, NULL, 1000, out);
	cr_assert_str_eq(out, "a/0=ag2 a/1=ag1 z/9=ag2 ", "at its time it is expired");
	leases(NULL, "ag1", 0, out);
	cr_assert_str_eq(out, "a/1=ag1 z/10=ag1 ");
	leases("z", NULL, 0, out);
	cr_assert_str_eq(out, "z/9=ag2 z/10=ag1 ");
	leases("gone", NULL, 0, out);
	cr_assert_str_eq(out, "");
	leases("nothing", "ag1", 0, out);
	cr_assert_str_eq(out, "");
	cr_assert_eq(shmeta_get_lease(reader, "z", 1, 9, 1999, NULL, &lease, &fresh), SHMETA_OK);
	cr_assert_eq(lease.epoch, 4);
	cr_assert(same(lease.leader_agent_id, "ag2"));
	cr_assert_eq(fresh.hint, 1);
	cr_assert_eq(shmeta_get_lease(reader, "z", 1, 9, 2000, NULL, &lease, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_lease(reader, "z", 1, 8, 0, NULL, &lease, NULL), SHMETA_ABSENT);
	/* At the beginning of time nothing has. */
	leases("z", NULL, INT64_MIN, out);
	cr_assert_str_eq(out, "z/9=ag2 z/10=ag1 z/11=ag3 ");
	cr_assert_eq(shmeta_get_lease(reader, "z", 1, 11, INT64_MIN, NULL, &lease, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_get_lease(reader, "z", 1, 11, INT64_MIN + 1, NULL, &lease, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_lease(reader, "gone", 4, 0, 0, NULL, &lease, NULL), SHMETA_ABSENT);
	end();
}

Test(reader_lookups, committed_offsets_of_a_group_are_in_order_of_topic_name_and_partition)
{
	struct shmeta_committed_offset o;
	struct shmeta_freshness fresh;
	struct shmeta_group group;
	struct shmeta_iter *iter;
	struct shmeta_str name;
	char out[256] = "";
	uint32_t z, a;

	fake_begin(w);
	z = fake_simple_topic(w, "z", 2);
	a = fake_simple_topic(w, "a", 300);
	fake_group(w, NULL, "g");
	fake_group(w, NULL, "gg");
	fake_group(w, "other", "g");
	fake_offset(w, NULL, "g", z, 1, 5, NULL);
	fake_offset(w, NULL, "g", a, 256, 6, "m");
	fake_offset(w, NULL, "g", a, 1, 7, "");
	fake_offset(w, NULL, "gg", a, 0, 8, NULL);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_list_committed_offsets(reader, "g", 1, NULL, &iter), SHMETA_OK);
	while (shmeta_next_committed_offset(iter, &name, &o, &fresh) == SHMETA_OK) {
		(void)sprintf(out + strlen(out), "%.*s/%u=%llu ", (int)name.bytes, name.data, o.partition_id,
		              (unsigned long long)o.committed_offset);
		cr_assert(same(o.group_id, "g"));
		cr_assert_eq(fresh.hint, 1);
	}
	shmeta_iter_free(iter);
	cr_assert_str_eq(out, "a/1=7 a/256=6 z/1=5 ");
	cr_assert_eq(shmeta_list_committed_offsets(reader, "nobody", 6, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_committed_offset(iter, &name, &o, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, "a", 1, 256, NULL, &o, NULL), SHMETA_OK);
	cr_assert_eq(o.committed_offset, 6);
	cr_assert_eq(o.has_metadata, 1);
	cr_assert(same(o.metadata, "m"));
	cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, "z", 1, 1, NULL, &o, NULL), SHMETA_OK);
	cr_assert_eq(o.has_metadata, 0);
	cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, "z", 1, 0, NULL, &o, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_committed_offset(reader, "h", 1, "z", 1, 1, NULL, &o, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, "y", 1, 1, NULL, &o, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_committed_offset(reader, "", 0, "y", 1, 1, NULL, &o, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, NULL, 0, 1, NULL, &o, NULL), SHMETA_ABSENT);
	cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, NULL, 1, 1, NULL, &o, NULL),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_list_groups(reader, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_group(iter, &group, NULL), SHMETA_OK);
	cr_assert(same(group.group_id, "g"));
	cr_assert_eq(group.created_at_ms, 5);
	cr_assert_eq(shmeta_next_group(iter, &group, NULL), SHMETA_OK);
	cr_assert(same(group.group_id, "gg"));
	cr_assert_eq(shmeta_next_group(iter, &group, NULL), SHMETA_END);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_groups(reader, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_skip_agents(iter, "g", 1), SHMETA_ERR_INVALID_ARGUMENT, "a list of another kind");
	cr_assert_eq(shmeta_skip_groups(iter, NULL, 1), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_skip_groups(iter, "g", 1), SHMETA_OK);
	cr_assert_eq(shmeta_next_group(iter, &group, NULL), SHMETA_OK);
	cr_assert(same(group.group_id, "gg"), "behind the name that was given");
	shmeta_iter_free(iter);
	end();
}

/* Enough topics that the list of them is grown several times. */
Test(reader_lookups, leases_of_many_topics_are_in_order)
{
	struct shmeta_iter *iter;
	struct shmeta_lease lease;
	struct shmeta_str name;
	char text[16], last[16] = "";
	int n = 0;

	fake_begin(w);
	for (int i = 0; i < 100; i++) {
		(void)snprintf(text, sizeof text, "t%d", i * 37 % 100);
		fake_lease(w, fake_simple_topic(w, text, 1), 0, "a", 10, 1);
	}
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_list_leases(reader, NULL, 0, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	while (shmeta_next_lease(iter, &name, &lease, NULL) == SHMETA_OK) {
		(void)snprintf(text, sizeof text, "%.*s", (int)name.bytes, name.data);
		cr_assert_gt(strcmp(text, last), 0);
		strcpy(last, text);
		n++;
	}
	cr_assert_eq(n, 100);
	shmeta_iter_free(iter);
	end();
}

/* ---- copies ---- */

Test(reader_lookups, a_copied_topic_outlives_its_snapshot)
{
	const struct fake_topic row = {
		.name = "orders", .partitions = 3, .policy = "delete", .config = fake_map("k", "v", NULL)};
	struct shmeta_topic topic;
	struct shmeta_str value;
	char buffer[64];
	size_t bytes = 0;

	fake_begin(w);
	(void)fake_topic(w, &row);
	(void)fake_commit(w);
	begin();
	cr_assert_eq(get("orders", &topic), SHMETA_OK);
	cr_assert_eq(shmeta_copy_topic(&topic, buffer, 5, &bytes), SHMETA_ERR_BUFFER);
	cr_assert_eq(bytes, 6 + 6 + 10);
	cr_assert_eq(shmeta_copy_topic(&topic, NULL, 0, &bytes), SHMETA_ERR_BUFFER);
	cr_assert_eq(shmeta_copy_topic(&topic, buffer, bytes, NULL), SHMETA_OK);
	end();
	shmeta_reader_free(reader);
	reader = NULL;
	cr_assert(topic.name.data >= buffer && topic.name.data < buffer + sizeof buffer);
	cr_assert(same(topic.name, "orders"));
	cr_assert(same(topic.cleanup_policy, "delete"));
	cr_assert_eq(shmeta_map_get(&topic.config, "k", &value), SHMETA_OK);
	cr_assert(same(value, "v"));
	free((void *)(uintptr_t)row.config.data);
}

Test(reader_lookups, the_other_records_are_copied_whole)
{
	struct shmeta_agent a = {.agent_id = fake_str("i"),
	                         .address = fake_str("ad"),
	                         .availability_zone = fake_str("zon"),
	                         .agent_group = fake_str("grou"),
	                         .metadata = {"12345", 5}};
	struct shmeta_lease l = {.leader_agent_id = fake_str("leader")};
	struct shmeta_committed_offset o = {.group_id = fake_str("g"), .metadata = fake_str("meta")};
	char buffer[32];
	size_t bytes;

	cr_assert_eq(shmeta_copy_agent(&a, buffer, sizeof buffer, &bytes), SHMETA_OK);
	cr_assert_eq(bytes, 15);
	cr_assert_eq(memcmp(buffer, "iadzongrou12345", 15), 0);
	cr_assert(same(a.agent_group, "grou"));
	cr_assert_eq(shmeta_copy_lease(&l, buffer, 5, &bytes), SHMETA_ERR_BUFFER);
	cr_assert_eq(shmeta_copy_lease(&l, buffer, 6, &bytes), SHMETA_OK);
	cr_assert(same(l.leader_agent_id, "leader"));
	cr_assert_eq(shmeta_copy_committed_offset(&o, buffer, 5, &bytes), SHMETA_OK);
	cr_assert(same(o.metadata, "meta"));
}
