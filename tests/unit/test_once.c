/* SPDX-License-Identifier: Apache-2.0
 * For callers that hold no snapshots and no pointers: one lookup with its snapshot around it, and
 * finds in columns of numbers. And what a reader, and the header, say of themselves. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/fake_writer.h"

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;
static char buffer[8192];
static const struct shmeta_read source = {.size = sizeof source, .consistency = SHMETA_SOURCE, .timeout_ms = 5000};

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", 2);
	fake_even_partition(w, topic, 0, 1000, 10);
	fake_even_partition(w, topic, 1, 10, 5);
	fake_lease(w, topic, 1, "leader", 1000, 7);
	fake_group(w, NULL, "g");
	fake_offset(w, NULL, "g", topic, 1, 5, "why");
	fake_agent(w, NULL, &(struct shmeta_agent){.agent_id = fake_str("a"), .address = fake_str("here")}, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(once, .init = set_up, .fini = tear_down, .timeout = 60);

/* The bytes lie in the caller's buffer, so nothing that the writer does can reach them. */
static bool is_here(struct shmeta_str s, const char *text)
{
	return s.bytes == strlen(text) && memcmp(s.data, text, s.bytes) == 0 && s.data >= buffer &&
	       s.data + s.bytes <= buffer + sizeof buffer;
}

Test(once, each_lookup_gives_the_record_with_strings_of_the_callers_and_leaves_no_snapshot)
{
	struct shmeta_committed_offset offset;
	struct shmeta_partition partition;
	struct shmeta_topic_stats stats;
	struct shmeta_freshness fresh;
	struct shmeta_segment segment;
	struct shmeta_group group;
	struct shmeta_agent agent;
	struct shmeta_lease lease;
	struct shmeta_topic t;

	cr_assert_eq(shmeta_once_topic(reader, "t", 1, NULL, buffer, sizeof buffer, &t, &fresh), SHMETA_OK);
	cr_expect(is_here(t.name, "t") && t.topic_id == topic && fresh.fresh == 1);
	cr_assert_eq(shmeta_once_partition(reader, "t", 1, 1, NULL, &partition, NULL), SHMETA_OK);
	cr_expect(partition.high_watermark == 50 && partition.segment_count == 10);
	cr_assert_eq(shmeta_once_segment(reader, "t", 1, 0, 155, NULL, buffer, sizeof buffer, &segment, &fresh),
	             SHMETA_OK);
	cr_expect(segment.base_offset == 150 && segment.id.bytes > 0 && segment.s3_key.bytes > 0);
	cr_expect(segment.id.data >= buffer && segment.id.data < buffer + sizeof buffer);
	cr_assert_eq(shmeta_once_last_segment(reader, "t", 1, 0, NULL, buffer, sizeof buffer, &segment, &fresh),
	             SHMETA_OK);
	cr_expect(segment.base_offset == 9990 && fresh.fresh == 1);
	cr_expect(segment.s3_key.data >= buffer && segment.s3_key.data < buffer + sizeof buffer);
	cr_assert_eq(shmeta_once_segment_for_timestamp(reader, "t", 1, 0, INT64_MIN, NULL, buffer, sizeof buffer,
	                                               &segment, NULL),
	             SHMETA_OK);
	cr_expect(segment.base_offset == 0 && segment.s3_key.bytes > 0);
	cr_assert_eq(shmeta_once_topic_by_id(reader, topic, NULL, buffer, sizeof buffer, &t, &fresh), SHMETA_OK);
	cr_expect(is_here(t.name, "t") && fresh.fresh == 1);
	cr_assert_eq(shmeta_once_topic_stats(reader, "t", 1, NULL, &stats, NULL), SHMETA_OK);
	cr_expect(stats.partition_count == 2 && stats.segment_count == 1010);
	cr_assert_eq(shmeta_once_group(reader, "g", 1, NULL, buffer, sizeof buffer, &group, NULL), SHMETA_OK);
	cr_expect(is_here(group.group_id, "g"));
	cr_assert_eq(shmeta_once_agent(reader, "a", 1, NULL, buffer, sizeof buffer, &agent, NULL), SHMETA_OK);
	cr_expect(is_here(agent.agent_id, "a") && is_here(agent.address, "here"));
	cr_assert_eq(shmeta_once_lease(reader, "t", 1, 1, 500, NULL, buffer, sizeof buffer, &lease, NULL), SHMETA_OK);
	cr_expect(is_here(lease.leader_agent_id, "leader") && lease.epoch == 7);
	cr_assert_eq(
		shmeta_once_committed_offset(reader, "g", 1, "t", 1, 1, NULL, buffer, sizeof buffer, &offset, NULL),
		SHMETA_OK);
	cr_expect(is_here(offset.group_id, "g") && is_here(offset.metadata, "why") && offset.committed_offset == 5);
	cr_expect_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT);
}

Test(once, what_is_not_there_and_what_does_not_fit_is_said_and_leaves_no_snapshot)
{
	struct shmeta_error error = {.size = sizeof error};
	struct shmeta_segment segment;
	struct shmeta_topic t;

	cr_expect_eq(shmeta_once_topic(reader, "no", 2, NULL, buffer, sizeof buffer, &t, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_once_segment(reader, "t", 1, 0, 10000, NULL, buffer, sizeof buffer, &segment, NULL),
	             SHMETA_ABSENT_AT_END);
	cr_expect_eq(shmeta_once_topic(reader, "t", 1, NULL, buffer, 0, &t, NULL), SHMETA_ERR_BUFFER);
	cr_expect_eq(shmeta_once_topic_by_id(reader, topic, NULL, buffer, 0, &t, NULL), SHMETA_ERR_BUFFER);
	cr_expect_eq(shmeta_once_topic_by_id(reader, topic + 1, NULL, buffer, 0, &t, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_once_last_segment(reader, "t", 1, 0, NULL, buffer, 3, &segment, NULL), SHMETA_ERR_BUFFER);
	cr_expect_eq(shmeta_once_segment_for_timestamp(reader, "t", 1, 0, INT64_MAX, NULL, buffer, sizeof buffer,
	                                               &segment, NULL),
	             SHMETA_ABSENT_AT_END);
	cr_expect_eq(shmeta_once_segment(reader, "t", 1, 0, 5, NULL, buffer, 3, &segment, NULL), SHMETA_ERR_BUFFER);
	cr_expect_eq(shmeta_reader_error(reader, &error), SHMETA_OK);
	cr_expect(error.status == SHMETA_ERR_BUFFER && strstr(error.text, "3 bytes") != NULL, "%s", error.text);
	cr_expect_eq(shmeta_once_topic(NULL, "t", 1, NULL, buffer, sizeof buffer, &t, NULL),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_expect_eq(shmeta_once_topic(reader, "t", 1, NULL, buffer, sizeof buffer, &t, NULL),
	             SHMETA_ERR_BUSY_SNAPSHOT);
	cr_expect_eq(shmeta_end(reader), SHMETA_OK, "the one that was open is as it was");
}

static struct shmeta_segment planned[4];
static struct shmeta_fetch_range ranges[4];

static struct shmeta_fetch fetch_from(uint64_t from)
{
	return (struct shmeta_fetch){.size = sizeof(struct shmeta_fetch),
	                             .from = from,
	                             .max_segments = 4,
	                             .segments = planned,
	                             .max_ranges = 4,
	                             .ranges = ranges,
	                             .buffer = buffer,
	                             .buffer_bytes = sizeof buffer};
}

Test(once, a_plan_by_name_is_that_by_handle_with_its_strings_in_the_callers_buffer)
{
	const struct shmeta_fetch fetch = fetch_from(15);
	struct shmeta_fetch_plan plan = {.size = sizeof plan}, other = plan;
	struct shmeta_handle *handle;

	cr_assert_eq(shmeta_once_fetch_plan(reader, "t", 1, 0, &fetch, NULL, &plan, NULL), SHMETA_OK);
	cr_expect(plan.segments == 4 && planned[0].base_offset == 10 && plan.next_offset == 50);
	cr_expect(ranges[0].s3_key.data >= buffer && ranges[0].s3_key.data < buffer + sizeof buffer);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_plan_fetch(handle, &fetch, NULL, &other, NULL), SHMETA_OK);
	cr_expect_arr_eq(&plan, &other, sizeof plan);
	shmeta_partition_close(handle);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void partition_came(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_even_partition(f, topic, 2, 3, 10);
	(void)fake_commit(f);
}

Test(once, what_the_store_does_not_have_yet_is_asked_for_by_the_partition_that_is_named)
{
	const struct shmeta_fetch fetch = fetch_from(0);
	struct shmeta_fetch_plan plan = {.size = sizeof plan};
	struct shmeta_segment segment;

	cr_expect_eq(shmeta_once_fetch_plan(reader, "t", 1, 2, &fetch, NULL, &plan, NULL), SHMETA_ABSENT);
	cr_expect_eq(shmeta_once_last_segment(reader, "", 0, 2, &source, buffer, sizeof buffer, &segment, NULL),
	             SHMETA_ABSENT, "a name that cannot exist");
	cr_expect_eq(w->refreshes, 0);
	w->on_refresh = partition_came;
	cr_assert_eq(shmeta_once_last_segment(reader, "t", 1, 2, &source, buffer, sizeof buffer, &segment, NULL),
	             SHMETA_OK);
	cr_expect(segment.base_offset == 20 && segment.s3_key.bytes > 0);
	cr_expect(w->refreshes == 1 && w->last_refresh.cls == SHMETA_CLASS_SEGMENT &&
	          w->last_refresh.partition_id == 2);
	w->on_refresh = NULL;
	cr_assert_eq(shmeta_once_segment_for_timestamp(reader, "t", 1, 2, INT64_MIN, &source, buffer, sizeof buffer,
	                                               &segment, NULL),
	             SHMETA_OK);
	cr_expect_eq(segment.base_offset, 0);
	cr_assert_eq(shmeta_once_fetch_plan(reader, "t", 1, 2, &fetch, &source, &plan, NULL), SHMETA_OK);
	cr_expect(w->refreshes == 3 && plan.segments == 3);
	cr_expect_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT);
}

static void epoch_moved(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_lease(f, topic, 1, "another", 1000, 8);
	(void)fake_commit(f);
}

Test(once, source_answers_what_the_writer_has_just_read)
{
	struct shmeta_lease lease;

	w->on_refresh = epoch_moved;
	cr_assert_eq(shmeta_once_lease(reader, "t", 1, 1, 500, &source, buffer, sizeof buffer, &lease, NULL),
	             SHMETA_OK);
	cr_expect(is_here(lease.leader_agent_id, "another") && lease.epoch == 8);
	cr_expect_eq(w->refreshes, 1);
	cr_expect_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT);
}

/* ---- columns ---- */

Test(once, columns_hold_what_single_finds_answer)
{
	enum { COUNT = 1003 };
	static uint64_t offsets[COUNT], base[COUNT], end[COUNT], size[COUNT];
	static uint32_t which[COUNT], records[COUNT];
	static int32_t status[COUNT];
	static int64_t created[COUNT];
	const struct shmeta_columns columns = {.size = sizeof columns,
	                                       .status = status,
	                                       .base_offset = base,
	                                       .end_offset = end,
	                                       .size_bytes = size,
	                                       .created_at_ms = created,
	                                       .record_count = records};
	struct shmeta_handle *handles[2];
	struct shmeta_segment one;
	uint32_t found = 0;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	for (uint32_t p = 0; p < 2; p++)
		cr_assert_eq(shmeta_partition_open(reader, "t", 1, p, &handles[p]), SHMETA_OK);
	for (uint32_t i = 0; i < COUNT; i++) {
		offsets[i] = (uint64_t)i * 37 % 10100;
		which[i] = i % 3 == 0;
	}
	cr_assert_eq(shmeta_find_columns(handles, 2, which, offsets, COUNT, NULL, &columns), SHMETA_OK);
	for (uint32_t i = 0; i < COUNT; i++) {
		one = (struct shmeta_segment){0};
		cr_assert_eq(status[i], shmeta_find_segment(handles[which[i]], offsets[i], NULL, &one, NULL));
		if (status[i] != SHMETA_OK)
			one = (struct shmeta_segment){0};
		cr_assert(base[i] == one.base_offset && end[i] == one.end_offset && size[i] == one.size_bytes &&
		          created[i] == one.created_at_ms && records[i] == one.record_count);
		found += status[i] == SHMETA_OK;
	}
	cr_expect(found > 100 && found < COUNT);
	cr_assert_eq(shmeta_find_columns(handles, 2, NULL, offsets, COUNT, NULL, &columns), SHMETA_OK);
	cr_expect_eq(status[3], shmeta_find_segment(handles[0], offsets[3], NULL, &one, NULL),
	             "all of the first handle");
	which[7] = 2;
	cr_expect_eq(shmeta_find_columns(handles, 2, which, offsets, COUNT, NULL, &columns),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_find_columns(handles, 2, NULL, offsets, COUNT, NULL, &(struct shmeta_columns){.size = 8}),
	             SHMETA_ERR_INVALID_ARGUMENT);
	for (uint32_t p = 0; p < 2; p++)
		shmeta_partition_close(handles[p]);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(once, columns_are_of_one_reader_wherever_another_ones_handle_stands)
{
	enum { COUNT = 20 };
	const uint64_t offsets[COUNT] = {0};
	uint32_t which[COUNT] = {0};
	int32_t status[COUNT];
	const struct shmeta_columns columns = {.size = sizeof columns, .status = status};
	struct shmeta_reader *other = fake_reader(instance);
	struct shmeta_handle *handles[2];

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_begin(other), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handles[0]), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(other, "t", 1, 0, &handles[1]), SHMETA_OK);
	cr_expect_eq(shmeta_find_columns(handles, 2, which, offsets, COUNT, NULL, &columns), SHMETA_OK);
	/* Two snapshots would be in one answer. */
	for (int i = 8; i < COUNT; i++)
		which[i] = 1;
	cr_expect_eq(shmeta_find_columns(handles, 2, which, offsets, COUNT, NULL, &columns),
	             SHMETA_ERR_INVALID_ARGUMENT);
	for (int p = 0; p < 2; p++)
		shmeta_partition_close(handles[p]);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_assert_eq(shmeta_end(other), SHMETA_OK);
	shmeta_reader_free(other);
}

/* ---- errors of a reader ---- */

Test(once, a_reader_keeps_its_own_last_error_with_the_place_that_it_is_about)
{
	struct shmeta_error error = {.size = sizeof error};
	struct shmeta_reader *other = fake_reader(instance);
	struct shmeta_partition partition;

	cr_assert_eq(shmeta_reader_error(reader, &error), SHMETA_OK);
	cr_expect(error.status == SHMETA_OK && error.text[0] == '\0' && error.size == sizeof error);
	w->answer = SHMETA_ERR_SOURCE;
	w->answer_text = "the source is on fire";
	cr_assert_eq(shmeta_once_partition(reader, "t", 1, 1, &source, &partition, NULL), SHMETA_ERR_SOURCE);
	/* Another reader's error does not replace it. */
	cr_assert_eq(shmeta_once_partition(
			     other, "t", 1, 1,
			     &(struct shmeta_read){.size = sizeof source, .consistency = (enum shmeta_consistency)9},
			     &partition, NULL),
	             SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_reader_error(reader, &error), SHMETA_OK);
	cr_expect(error.status == SHMETA_ERR_SOURCE && strstr(error.text, "on fire") != NULL, "%s", error.text);
	cr_expect(error.has_place == 1 && strcmp(error.topic, "t") == 0 && error.partition_id == 1);
	cr_assert_eq(shmeta_reader_error(other, &error), SHMETA_OK);
	cr_expect(error.status == SHMETA_ERR_INVALID_ARGUMENT && error.has_place == 0 &&
	                  strstr(error.text, "consistency 9") != NULL,
	          "%s", error.text);
	error.size = 3;
	cr_expect_eq(shmeta_reader_error(other, &error), SHMETA_ERR_INVALID_ARGUMENT);
	shmeta_reader_free(other);
}

Test(once, the_library_says_the_sizes_that_the_header_has)
{
	cr_expect_eq(shmeta_abi_matches(), 1);
	cr_expect_eq(shmeta_sizeof("shmeta_op"), sizeof(struct shmeta_op));
	cr_expect_eq(shmeta_sizeof("shmeta_nothing"), 0);
	cr_expect_eq(shmeta_sizeof(NULL), 0);
}
