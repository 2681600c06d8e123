/* SPDX-License-Identifier: Apache-2.0
 * Lookups in a store that says that it lacks some of what the source has: what is not in it is
 * unknown, not absent. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "reader/snapshot/snapshot.h"
#include "shm/record/key.h"
#include "shm/wire/wire.h"
#include "tests/support/fake_writer.h"

static const uint64_t ALL = 1u << SHMETA_CLASS_TOPIC | 1u << SHMETA_CLASS_PARTITION | 1u << SHMETA_CLASS_SEGMENT |
                            1u << SHMETA_CLASS_OFFSET | 1u << SHMETA_CLASS_LEASE;
static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;

/* Without its partitions. */
static uint32_t topic_row(void)
{
	return fake_topic(w, &(struct fake_topic){.name = "t", .partitions = 4, .created_at_ms = 42});
}

/* Topic "t" with partitions 0 (100 segments of 10 offsets) and 1 of 4; the store lacks something of
 * every class. */
static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	topic = topic_row();
	fake_even_partition(w, topic, 0, 100, 10);
	fake_even_partition(w, topic, 1, 100, 10);
	shmeta__store_counters(w->store)->incomplete = ALL;
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(reader_bounded, .init = set_up, .fini = tear_down, .timeout = 20);

static void begin(void)
{
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
}

static void end(void)
{
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

/* Segments of the partition below `from` leave. */
static void narrow(uint32_t partition_id, uint64_t from, uint64_t max_end)
{
	const struct shmeta_part_window window = {.from = from,
	                                          .max_end = max_end,
	                                          .segment_count = from / 10,
	                                          .size_bytes = from,
	                                          .max_timestamp_ms = 5};
	const struct shmeta__pager pager = shmeta__txn_pager(w->txn);
	uint64_t key = shmeta__part_key(topic, partition_id);
	struct shmeta__part_edit *edit;
	const void *head;
	size_t bytes;

	cr_assert_eq(shmeta__get(w->txn, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes, NULL), SHMETA_OK);
	cr_assert_eq(shmeta__part_edit_new(key, "t", 1, head, bytes, &pager, &edit, NULL), SHMETA_OK);
	cr_assert_eq(shmeta__part_edit_window(edit, &window, NULL), SHMETA_OK);
	cr_assert_eq(shmeta__part_edit_encode(edit, &head, &bytes, NULL), SHMETA_OK);
	cr_assert_eq(shmeta__put(w->txn, SHMETA_DB_PARTS, &key, sizeof key, head, bytes, NULL), SHMETA_OK);
	shmeta__part_edit_free(edit);
	shmeta__touch(w->txn, shmeta__touched_partition(topic, partition_id));
}

static void asked_in_vain(const char *name, uint32_t partition_id)
{
	uint8_t key[SHMETA_ABSENT_KEY_MAX];
	uint64_t now = fake_now_ns(w);
	size_t n = shmeta__absent_key(key, fake_tenant(w, SHMETA_DEFAULT_TENANT), name, strlen(name), partition_id);

	fake_raw(w, SHMETA_DB_META, key, n, &now, sizeof now);
}

static enum shmeta_status get_topic(const char *name)
{
	struct shmeta_topic ret;

	return shmeta_get_topic(reader, name, strlen(name), NULL, &ret, NULL);
}

static enum shmeta_status get_partition(const char *name, uint32_t id)
{
	struct shmeta_partition ret;

	return shmeta_get_partition_named(reader, name, strlen(name), id, NULL, &ret, NULL);
}

static enum shmeta_status find(uint32_t id, uint64_t offset)
{
	struct shmeta_segment ret;

	return shmeta_find_segment_named(reader, "t", 1, id, offset, NULL, &ret, NULL);
}

Test(reader_bounded, what_is_not_resident_is_unknown_by_every_key)
{
	struct shmeta_committed_offset offset;
	struct shmeta_lease lease;
	struct shmeta_agent agent;
	struct shmeta_topic by_id;
	struct shmeta_iter *iter;
	struct shmeta_topic_stats stats;

	for (int i = 0; i < 2; i++) { /* looked up, then remembered */
		begin();
		cr_assert_eq(get_topic("t"), SHMETA_OK);
		cr_assert_eq(get_topic("other"), SHMETA_UNKNOWN);
		cr_assert_eq(shmeta_get_topic_by_id(reader, topic + 1, NULL, &by_id, NULL), SHMETA_UNKNOWN);
		cr_assert_eq(get_partition("t", 1), SHMETA_OK);
		cr_assert_eq(get_partition("t", 2), SHMETA_UNKNOWN);
		cr_assert_eq(get_partition("other", 0), SHMETA_UNKNOWN);
		cr_assert_eq(find(0, 999), SHMETA_OK);
		cr_assert_eq(find(0, 1000), SHMETA_ABSENT_AT_END);
		cr_assert_eq(find(2, 0), SHMETA_UNKNOWN);
		cr_assert_eq(shmeta_list_partitions(reader, "other", 5, NULL, &iter), SHMETA_UNKNOWN);
		cr_assert_eq(shmeta_topic_stats(reader, "t", 1, NULL, &stats, NULL), SHMETA_UNKNOWN);
		cr_assert_eq(shmeta_get_lease(reader, "t", 1, 0, 1, NULL, &lease, NULL), SHMETA_UNKNOWN);
		cr_assert_eq(shmeta_get_committed_offset(reader, "g", 1, "t", 1, 0, NULL, &offset, NULL),
		             SHMETA_UNKNOWN);
		cr_assert_eq(shmeta_get_agent(reader, "a", 1, NULL, &agent, NULL), SHMETA_ABSENT);
		cr_assert_eq(get_topic("no\nname"), SHMETA_ABSENT);
		end();
	}
}

Test(reader_bounded, nobody_is_asked_for_a_topics_number_that_a_store_without_all_topics_does_not_have)
{
	const struct shmeta_read read = {
		.size = sizeof read, .consistency = SHMETA_SOURCE, .timeout_ms = 5000, .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_topic by_id;

	begin();
	cr_expect_eq(shmeta_get_topic_by_id(reader, topic + 1, &read, &by_id, NULL), SHMETA_UNKNOWN);
	cr_expect_eq(w->refreshes, 0);
	cr_expect_eq(shmeta_get_topic_by_id(reader, topic, &read, &by_id, NULL), SHMETA_OK);
	cr_expect_eq(w->refreshes, 1);
	end();
}

Test(reader_bounded, what_the_source_was_asked_for_in_vain_is_absent)
{
	fake_begin(w);
	asked_in_vain("gone", UINT32_MAX);
	asked_in_vain("t", 3);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(get_topic("gone"), SHMETA_ABSENT);
	cr_assert_eq(get_partition("gone", 7), SHMETA_ABSENT);
	cr_assert_eq(get_partition("t", 3), SHMETA_ABSENT);
	cr_assert_eq(find(3, 0), SHMETA_ABSENT);
	cr_assert_eq(get_topic("gon"), SHMETA_UNKNOWN);
	cr_assert_eq(get_topic("gone2"), SHMETA_UNKNOWN);
	cr_assert_eq(get_partition("t", 2), SHMETA_UNKNOWN);
	end();
}

Test(reader_bounded, lists_say_that_they_are_not_complete)
{
	struct shmeta_handle *handle;
	struct shmeta_iter *iter;

	fake_begin(w);
	narrow(1, 500, 499);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_iter_complete(iter), SHMETA_UNKNOWN);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_partitions(reader, "t", 1, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_iter_complete(iter), SHMETA_UNKNOWN);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_groups(reader, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_iter_complete(iter), SHMETA_OK);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_list_segments(handle, 500, 1000, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_iter_complete(iter), SHMETA_OK);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_list_segments(handle, 499, 1000, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_iter_complete(iter), SHMETA_UNKNOWN);
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	end();
}

Test(reader_bounded, below_the_resident_base_nothing_is_absent)
{
	struct shmeta_partition partition;
	struct shmeta_segment segment;
	struct shmeta_handle *handle;

	fake_begin(w);
	narrow(0, 500, 520); /* one that left reaches over the first that stayed */
	narrow(1, 1000, 999);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(find(0, 0), SHMETA_UNKNOWN);
	cr_assert_eq(find(0, 499), SHMETA_UNKNOWN);
	cr_assert_eq(find(0, 500), SHMETA_OK);
	cr_assert_eq(find(0, 999), SHMETA_OK);
	cr_assert_eq(find(0, 1000), SHMETA_ABSENT_AT_END);
	cr_assert_eq(find(1, 999), SHMETA_UNKNOWN); /* none of it is here */
	cr_assert_eq(find(1, 1000), SHMETA_ABSENT_AT_END);
	cr_assert_eq(shmeta_get_partition_named(reader, "t", 1, 0, NULL, &partition, NULL), SHMETA_OK);
	cr_assert_eq(partition.log_start_offset, 0);
	cr_assert_eq(partition.segment_count, 100);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 1, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_last_segment(handle, NULL, &segment, NULL), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_find_segment_for_timestamp(handle, 5, NULL, &segment, NULL), SHMETA_UNKNOWN);
	cr_assert_eq(shmeta_find_segment_for_timestamp(handle, 6, NULL, &segment, NULL), SHMETA_ABSENT_AT_END);
	shmeta_partition_close(handle);
	end();
}

Test(reader_bounded, a_gap_that_one_that_left_may_reach_into_is_unknown)
{
	static const struct shmeta_segment rows[] = {{.base_offset = 0, .end_offset = 9},
	                                             {.base_offset = 100, .end_offset = 109},
	                                             {.base_offset = 200, .end_offset = 209}};

	fake_begin(w);
	fake_partition(w, topic, 0, 300, rows, 3, 0, 0);
	narrow(0, 100, 120);
	(void)fake_commit(w);
	fake_stamp_all(w);
	begin();
	cr_assert_eq(find(0, 115), SHMETA_UNKNOWN);
	cr_assert_eq(find(0, 121), SHMETA_ABSENT_GAP);
	cr_assert_eq(find(0, 250), SHMETA_ABSENT_GAP);
	end();
}

Test(reader_bounded, a_handle_follows_a_topic_that_left_and_came_back)
{
	struct shmeta_partition partition;
	struct shmeta_handle *handle;

	begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
	end();
	fake_begin(w);
	fake_delete_topic(w, NULL, "t");
	(void)fake_commit(w);
	begin();
	cr_assert_eq(shmeta_get_partition(handle, NULL, &partition, NULL), SHMETA_UNKNOWN);
	end();
	fake_begin(w);
	topic = topic_row();
	(void)fake_commit(w);
	begin();
	cr_assert_eq(shmeta_get_partition(handle, NULL, &partition, NULL), SHMETA_UNKNOWN);
	end();
	fake_begin(w);
	fake_even_partition(w, topic, 0, 7, 10);
	(void)fake_commit(w);
	begin();
	cr_assert_eq(shmeta_get_partition(handle, NULL, &partition, NULL), SHMETA_OK);
	cr_assert_eq(partition.high_watermark, 70);
	cr_assert_eq(partition.topic_id, topic);
	shmeta_partition_close(handle);
	end();
}

/* ---- reads that leave no trace ---- */

static uint8_t touched[256];
static struct shmeta_miss misses[SHMETA_MISSES], taken[SHMETA_MISSES];

/* Was this key left, and nothing else? */
static bool was_left(const char *name, uint32_t partition_id)
{
	return shmeta__miss_take(misses, taken) == 1 && taken[0].partition_id == partition_id &&
	       taken[0].name_bytes == strlen(name) && memcmp(taken[0].text, name, strlen(name)) == 0 &&
	       taken[0].tenant_bytes == strlen(SHMETA_DEFAULT_TENANT) &&
	       memcmp(taken[0].text + strlen(name), SHMETA_DEFAULT_TENANT, taken[0].tenant_bytes) == 0;
}

static bool any_touched(void)
{
	bool any = false;

	for (size_t i = 0; i < sizeof touched; i++)
		any |= touched[i] != 0;
	memset(touched, 0, sizeof touched);
	return any;
}

static bool any_sampled(void)
{
	bool any = false;

	for (int i = 0; i < SHMETA_SAMPLES; i++)
		any |= reader->slot->sample[i] != 0;
	return any;
}

enum { KINDS = 17 };

/* One lookup of each kind; each finds what it looks for. */
static void look_by(int kind, struct shmeta_handle *h, const struct shmeta_read *read)
{
	const struct shmeta_find_named named = {.topic = {"t", 1}, .offset = 5};
	struct shmeta_fetch_range ranges[2];
	struct shmeta_segment segment, segments[2];
	char buffer[4096];
	const struct shmeta_fetch fetch = {.size = sizeof fetch,
	                                   .from = 5,
	                                   .segments = segments,
	                                   .max_segments = 2,
	                                   .ranges = ranges,
	                                   .max_ranges = 2,
	                                   .buffer = buffer,
	                                   .buffer_bytes = sizeof buffer};
	struct shmeta_fetch_plan plan = {.size = sizeof plan};
	int32_t found = SHMETA_OK;
	const struct shmeta_columns columns = {.size = sizeof columns, .status = &found};
	const struct shmeta_find find = {h, 5};
	const struct shmeta_str name = {"t", 1};
	struct shmeta_partition partition;
	enum shmeta_status status, each = SHMETA_OK;
	struct shmeta_iter *iter = NULL;
	struct shmeta_topic row;

	switch (kind) {
	case 0:
		status = shmeta_get_topic(reader, "t", 1, read, &row, NULL);
		break;
	case 1:
		status = shmeta_get_topics(reader, 1, &name, read, &each, &row);
		break;
	case 2:
		status = shmeta_get_partition(h, read, &partition, NULL);
		break;
	case 3:
		status = shmeta_get_partition_named(reader, "t", 1, 0, read, &partition, NULL);
		break;
	case 4:
		status = shmeta_get_partitions(1, &h, read, &each, &partition);
		break;
	case 5:
		status = shmeta_find_segment(h, 5, read, &segment, NULL);
		break;
	case 6:
		status = shmeta_find_segment_named(reader, "t", 1, 0, 5, read, &segment, NULL);
		break;
	case 7:
		status = shmeta_find_segments(1, &find, read, &each, &segment);
		break;
	case 8:
		status = shmeta_find_segments_named(reader, 1, &named, read, &each, &segment);
		break;
	case 9:
		status = shmeta_find_segment_for_timestamp(h, 0, read, &segment, NULL);
		break;
	case 10:
		status = shmeta_last_segment(h, read, &segment, NULL);
		break;
	case 11:
		status = shmeta_plan_fetch(h, &fetch, read, &plan, NULL);
		break;
	case 12:
		status = shmeta_list_segments(h, 0, 50, read, &iter);
		break;
	case 13:
		status = shmeta_list_topics(reader, NULL, 0, 0, read, &iter);
		break;
	case 14:
		status = shmeta_list_partitions(reader, "t", 1, read, &iter);
		break;
	case 15:
		status = shmeta_get_topic_by_id(reader, topic, read, &row, NULL);
		break;
	default:
		status = shmeta_find_columns(&h, 1, NULL, &find.offset, 1, read, &columns);
		each = (enum shmeta_status)found;
		break;
	}
	shmeta_iter_free(iter);
	cr_assert(status == SHMETA_OK && each == SHMETA_OK, "kind %d: %d %d", kind, (int)status, (int)each);
}

Test(reader_bounded, a_read_without_fill_leaves_no_trace_whatever_it_looks_up)
{
	const struct shmeta_read cached = {.size = sizeof cached},
				 fresh = {.size = sizeof fresh,
	                                  .consistency = SHMETA_FRESH,
	                                  .flags = SHMETA_READ_MAY_MOVE},
				 no_fill = {.size = sizeof no_fill, .flags = SHMETA_READ_NO_FILL};
	const bool is_list_of_names[KINDS] = {[13] = true, [14] = true};
	struct shmeta_handle *h;

	begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &h), SHMETA_OK);
	reader->touch = (struct touch_view){touched, sizeof touched, misses};
	for (int kind = 0; kind < KINDS; kind++) {
		for (int i = 0; i < 3 * 1024; i++)
			look_by(kind, h, &no_fill);
		cr_assert_not(any_touched(), "kind %d", kind);
		cr_assert_not(any_sampled(), "kind %d", kind);
	}
	for (int kind = 0; kind < KINDS; kind++) {
		look_by(kind, h, &cached);
		cr_assert_eq(any_touched(), !is_list_of_names[kind], "kind %d", kind);
		look_by(kind, h, &fresh);
		cr_assert_eq(any_touched(), !is_list_of_names[kind], "FRESH, kind %d", kind);
	}
	cr_expect_eq(w->refreshes, 0);
	end();
	shmeta_partition_close(h);
}

/* A registered reader of another instance, in place of the one in use. */
static void replace_reader(struct shmeta *other)
{
	shmeta_reader_free(reader);
	reader = fake_reader(other);
	cr_assert_not_null(reader);
	cr_assert_eq(fake_until_registered(reader, 1), 0);
}

/* It joins when its page has a touch map. */
static struct shmeta *other_reader(uint32_t flags)
{
	struct shmeta *other = fake_open(w, NULL, flags, 0);

	cr_assert_not_null(other);
	replace_reader(other);
	reader->membership->touch = (struct touch_view){touched, sizeof touched, misses};
	replace_reader(other);
	return other;
}

Test(reader_bounded, an_instance_without_fill_leaves_no_trace_whatever_is_looked_up)
{
	const uint32_t flags[2] = {SHMETA_OPEN_NO_FILL, 0};

	for (int i = 0; i < 2; i++) {
		struct shmeta *other = other_reader(flags[i]);
		char buffer[70000];
		const struct shmeta_read source = {.size = sizeof source,
		                                   .consistency = SHMETA_SOURCE,
		                                   .timeout_ms = 5000,
		                                   .buffer = buffer,
		                                   .buffer_bytes = sizeof buffer};
		struct shmeta_partition partition;
		struct shmeta_handle *h;

		memset(reader->slot->sample, 0, sizeof reader->slot->sample);
		begin();
		cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &h), SHMETA_OK);
		for (int kind = 0; kind < KINDS; kind++)
			for (int n = 0; n < 1024; n++)
				look_by(kind, h, NULL);
		cr_expect_eq(any_touched(), i == 1);
		cr_expect_eq(any_sampled(), i == 1);
		cr_expect_eq(shmeta_get_partition_named(reader, "t", 1, 3, NULL, &partition, NULL), SHMETA_UNKNOWN);
		cr_expect_eq(was_left("t", 3), i == 1);
		for (int kind = 0; kind < KINDS; kind++) {
			w->last_refresh.flags = 0;
			look_by(kind, h, &source);
			cr_expect_eq((w->last_refresh.flags & SHMETA_REFRESH_ASK_NO_FILL) != 0, i == 0, "kind %d",
			             kind);
		}
		end();
		shmeta_partition_close(h);
		shmeta_close(other);
	}
}

Test(reader_bounded, a_read_without_fill_says_so_to_the_writer)
{
	char buffer[70000];
	struct shmeta_read read = {.size = sizeof read,
	                           .consistency = SHMETA_SOURCE,
	                           .timeout_ms = 5000,
	                           .flags = SHMETA_READ_NO_FILL,
	                           .buffer = buffer,
	                           .buffer_bytes = sizeof buffer};
	struct shmeta_handle *h;

	begin();
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &h), SHMETA_OK);
	for (int kind = 0; kind < KINDS; kind++) {
		w->last_refresh.flags = 0;
		read.flags = SHMETA_READ_NO_FILL;
		look_by(kind, h, &read);
		cr_expect_neq(w->last_refresh.flags & SHMETA_REFRESH_ASK_NO_FILL, 0, "kind %d", kind);
		read.flags = 0;
		look_by(kind, h, &read);
		cr_expect_eq(w->last_refresh.flags & SHMETA_REFRESH_ASK_NO_FILL, 0, "kind %d", kind);
	}
	end();
	shmeta_partition_close(h);
}

Test(reader_bounded, a_key_that_is_not_resident_is_left_for_the_writer)
{
	const struct shmeta_read no_fill = {.size = sizeof no_fill, .flags = SHMETA_READ_NO_FILL},
				 asks = {.size = sizeof asks,
	                                 .consistency = SHMETA_FRESH,
	                                 .timeout_ms = 5000,
	                                 .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_partition partition;
	const struct shmeta_str names[2] = {{"t", 1}, {"other", 5}};
	struct shmeta_topic row, rows[2];
	enum shmeta_status each[2];
	struct shmeta_iter *iter;

	fake_begin(w);
	asked_in_vain("gone", UINT32_MAX);
	(void)fake_commit(w);
	begin();
	reader->touch = (struct touch_view){touched, sizeof touched, misses};
	cr_expect_eq(get_topic("other"), SHMETA_UNKNOWN);
	cr_expect(was_left("other", SHMETA_MISS_TOPIC));
	cr_expect_eq(get_partition("other", 3), SHMETA_UNKNOWN);
	cr_expect(was_left("other", 3));
	cr_expect_eq(find(2, 7), SHMETA_UNKNOWN);
	cr_expect(was_left("t", 2));
	cr_expect_eq(find(2, 7), SHMETA_UNKNOWN);
	cr_expect_eq(find(2, 8), SHMETA_UNKNOWN);
	cr_expect(was_left("t", 2), "once");
	cr_expect_eq(shmeta_get_topic(reader, "other", 5, &no_fill, &row, NULL), SHMETA_UNKNOWN);
	cr_expect_eq(shmeta_get_partition_named(reader, "t", 1, 2, &no_fill, &partition, NULL), SHMETA_UNKNOWN);
	cr_expect_eq(get_topic("t"), SHMETA_OK);
	cr_expect_eq(get_topic("gone"), SHMETA_ABSENT);
	cr_expect_eq(get_topic("no\nname"), SHMETA_ABSENT);
	cr_expect_eq(find(0, 1000), SHMETA_ABSENT_AT_END);
	cr_expect_eq(shmeta__miss_take(misses, taken), 0, "nothing is left of what is known, or by reads without fill");
	cr_expect_eq(shmeta_get_topic(reader, "other", 5, &asks, &row, NULL), SHMETA_UNKNOWN);
	cr_expect_eq(shmeta_list_partitions(reader, "other", 5, &asks, &iter), SHMETA_UNKNOWN);
	cr_expect_eq(shmeta__miss_take(misses, taken), 0, "nor of what the writer was asked for");
	cr_expect_eq(w->refreshes, 6, "three times each: it may have left again");
	cr_expect_eq(shmeta_get_topics(reader, 2, names, &asks, each, rows), SHMETA_OK);
	cr_expect(each[0] == SHMETA_OK && each[1] == SHMETA_UNKNOWN, "%d %d", (int)each[0], (int)each[1]);
	cr_expect_eq(w->refreshes, 9, "of many only what may have left");
	end();
}
