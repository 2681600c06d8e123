/* SPDX-License-Identifier: Apache-2.0
 * Rows that cannot be served, from the source to a reader's answer: they are kept by their keys,
 * make UNKNOWN of what would be ABSENT, are counted once, and leave when they are good again or
 * gone. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shm/record/record.h"
#include "tests/support/fixture_reader.h"

TestSuite(quarantine, .timeout = 60);

static struct fixture f;
static struct shmeta *instance;
static struct shmeta_reader *reader;

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void begin(void)
{
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	fixture_open_reader(&f, &instance, &reader);
}

static void end(void)
{
	fixture_end_reading(&f, instance, reader);
}

/* The feed tells; the engine applies. */
static void follow(void)
{
	fixture_pass(&f, 1500);
}

static void compare_all(void)
{
	static uint64_t ticket = 1000;

	cr_assert_eq(fixture_compare_all(&f, ++ticket), SHMETA_OK);
	fixture_pass(&f, 3000);
}

static enum shmeta_status topic(const char *name)
{
	struct shmeta_topic ret;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	status = shmeta_get_topic(reader, name, strlen(name), NULL, &ret, NULL);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status partition(const char *name, uint32_t id)
{
	struct shmeta_partition ret;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	status = shmeta_get_partition_named(reader, name, strlen(name), id, NULL, &ret, NULL);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status topic_of_number(uint32_t number)
{
	struct shmeta_topic ret;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	status = shmeta_get_topic_by_id(reader, number, NULL, &ret, NULL);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status segment(const char *name, uint32_t id, uint64_t offset)
{
	const struct shmeta_read no_fill = {.size = sizeof no_fill, .flags = SHMETA_READ_NO_FILL};
	struct shmeta_handle *handle;
	struct shmeta_segment ret;
	enum shmeta_status status, by_handle;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	status = shmeta_find_segment_named(reader, name, strlen(name), id, offset, NULL, &ret, NULL);
	cr_expect_eq(shmeta_find_segment_named(reader, name, strlen(name), id, offset, &no_fill, &ret, NULL), status,
	             "with options another answer than %d", status);
	if (shmeta_partition_open(reader, name, strlen(name), id, &handle) == SHMETA_OK) {
		by_handle = shmeta_find_segment(handle, offset, NULL, &ret, NULL);
		cr_expect_eq(by_handle, status, "by name %d, by handle %d", status, by_handle);
		shmeta_partition_close(handle);
	}
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status agent(const char *id)
{
	struct shmeta_agent ret;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	status = shmeta_get_agent(reader, id, strlen(id), NULL, &ret, NULL);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status offset(const char *group, const char *name, uint32_t id)
{
	struct shmeta_committed_offset ret;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	status = shmeta_get_committed_offset(reader, group, strlen(group), name, strlen(name), id, NULL, &ret, NULL);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status lease(const char *name, uint32_t id)
{
	struct shmeta_lease ret;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	status = shmeta_get_lease(reader, name, strlen(name), id, 0, NULL, &ret, NULL);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status topics_complete(void)
{
	struct shmeta_iter *iter;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_list_topics(reader, NULL, 0, 0, NULL, &iter), SHMETA_OK);
	status = shmeta_iter_complete(iter);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status partitions_complete(const char *name)
{
	struct shmeta_iter *iter;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_list_partitions(reader, name, strlen(name), NULL, &iter), SHMETA_OK);
	status = shmeta_iter_complete(iter);
	shmeta_iter_free(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status segments_complete(const char *name, uint32_t id)
{
	struct shmeta_handle *handle;
	struct shmeta_iter *iter;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, name, strlen(name), id, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_list_segments(handle, 0, INT64_MAX, NULL, &iter), SHMETA_OK);
	status = shmeta_iter_complete(iter);
	shmeta_iter_free(iter);
	shmeta_partition_close(handle);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status closed_complete(struct shmeta_iter *iter)
{
	enum shmeta_status status = shmeta_iter_complete(iter);

	shmeta_iter_free(iter);
	return status;
}

static enum shmeta_status leases_complete(const char *name)
{
	struct shmeta_iter *iter;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_list_leases(reader, name, name != NULL ? strlen(name) : 0, NULL, 0, 0, NULL, &iter),
	             SHMETA_OK);
	status = closed_complete(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

static enum shmeta_status offsets_complete(const char *group)
{
	struct shmeta_iter *iter;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_list_committed_offsets(reader, group, strlen(group), NULL, &iter), SHMETA_OK);
	status = closed_complete(iter);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	return status;
}

/* How many rows are quarantined, by the daemon; the store is verified on the way. */
static uint64_t rows(void)
{
	const char *difference = fixture_difference(&f);

	cr_expect_null(difference, "%s", difference);
	return fixture_counters(&f).quarantined;
}

static size_t logged(const char *event)
{
	char what[64];
	size_t count = 0;

	snprintf(what, sizeof what, " %s: ", event);
	for (const char *p = f.log; (p = strstr(p, what)) != NULL; p++)
		count++;
	return count;
}

static void put_topic(const char *name, uint32_t partition_count)
{
	const struct shmeta_topic row = {
		.name = str(name), .partition_count = partition_count, .created_at_ms = 1111, .updated_at_ms = 1111};

	cr_assert(memory_put_topic(f.db, NULL, &row));
}

static void put_segment_of(const char *name, uint64_t base, uint64_t last, uint64_t bytes, int64_t max_timestamp_ms)
{
	struct shmeta_segment row = fixture_segment(0, base, 1);
	char id[32];

	row.size_bytes = bytes;
	row.max_timestamp_ms = max_timestamp_ms;

	snprintf(id, sizeof id, "s%llu", (unsigned long long)base);
	row.id = str(id);
	row.s3_bucket = str("bucket");
	row.s3_key = str("key");
	row.end_offset = last;
	cr_assert(memory_put_segment(f.db, NULL, name, &row));
}

static void put_segment(const char *name, uint64_t base, uint64_t last)
{
	put_segment_of(name, base, last, 100, 0);
}

Test(quarantine, a_topic_that_cannot_be_served_is_unknown_with_all_below_it_until_it_is_mended)
{
	fixture_init(&f);
	fixture_topic(&f, "bad", 3, 2, 1111);
	fixture_topic(&f, "good", 1, 1, 1111);
	put_topic("bad", 0);
	begin();
	/* The topic, three partitions, two segments in each. */
	cr_expect_eq(rows(), 1 + 3 + 6);
	cr_expect_eq(topic("bad"), SHMETA_UNKNOWN);
	cr_expect_eq(partition("bad", 0), SHMETA_UNKNOWN);
	cr_expect_eq(partition("bad", 77), SHMETA_UNKNOWN);
	cr_expect_eq(segment("bad", 0, 5), SHMETA_UNKNOWN);
	cr_expect_eq(topics_complete(), SHMETA_UNKNOWN);
	/* Others are what they were. */
	cr_expect_eq(topic("good"), SHMETA_OK);
	cr_expect_eq(topic("goo"), SHMETA_ABSENT);
	cr_expect_eq(topic("bad2"), SHMETA_ABSENT);
	cr_expect_eq(partition("good", 1), SHMETA_ABSENT);
	cr_expect_eq(segment("good", 0, 999999), SHMETA_ABSENT_AT_END);
	cr_expect_eq(partitions_complete("good"), SHMETA_OK);
	cr_expect_eq(logged("quarantined"), 1);

	compare_all();
	cr_expect_eq(rows(), 10, "a pass counted again");
	cr_expect_eq(logged("quarantined"), 1, "a pass logged again");

	put_topic("bad", 3);
	follow();
	cr_expect_eq(rows(), 0);
	cr_expect_eq(topic("bad"), SHMETA_OK);
	cr_expect_eq(partition("bad", 2), SHMETA_OK);
	cr_expect_eq(partition("bad", 77), SHMETA_ABSENT);
	cr_expect_eq(topics_complete(), SHMETA_OK);
	cr_expect_eq(logged("quarantine_left"), 1);
	end();
}

Test(quarantine, a_topic_that_turns_bad_is_unknown_and_one_that_is_deleted_then_is_absent)
{
	struct shmeta_topic row;
	uint32_t number;

	fixture_init(&f);
	fixture_topic(&f, "t", 2, 2, 1111);
	begin();
	cr_expect_eq(rows(), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_get_topic(reader, "t", 1, NULL, &row, NULL), SHMETA_OK);
	number = row.topic_id;
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	put_topic("t", 0);
	follow();
	cr_expect_eq(rows(), 1 + 2 + 4, "%s", f.log);
	cr_expect_eq(topic("t"), SHMETA_UNKNOWN);
	cr_expect_eq(topic_of_number(number), SHMETA_UNKNOWN);
	cr_expect_eq(partition("t", 1), SHMETA_UNKNOWN);
	cr_assert(memory_delete_topic(f.db, NULL, "t"));
	follow();
	cr_expect_eq(rows(), 0);
	cr_expect_eq(topic("t"), SHMETA_ABSENT);
	cr_expect_eq(topic_of_number(number), SHMETA_ABSENT);
	cr_expect_eq(partition("t", 1), SHMETA_ABSENT);
	end();
}

Test(quarantine, a_partition_that_cannot_be_served_is_unknown_alone)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 3, 4, 1111);
	begin();
	cr_assert(memory_set_watermark(f.db, NULL, "t", 1, UINT64_MAX));
	follow();
	cr_expect_eq(rows(), 1 + 4, "%s", f.log);
	cr_expect_eq(topic("t"), SHMETA_OK);
	cr_expect_eq(partition("t", 0), SHMETA_OK);
	cr_expect_eq(partition("t", 1), SHMETA_UNKNOWN);
	cr_expect_eq(segment("t", 1, 10), SHMETA_UNKNOWN);
	cr_expect_eq(partition("t", 3), SHMETA_ABSENT);
	cr_expect_eq(partitions_complete("t"), SHMETA_UNKNOWN);

	/* Who asks the source hears the same: it was read, and the answer is what the store
	 * says. */
	cr_expect_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(fixture_answer(&f, 1)->status, SHMETA_OK);
	cr_expect_eq(partition("t", 1), SHMETA_UNKNOWN);

	/* The topic's row alone is read: what lies below the partition is still counted. */
	put_topic("t", 4);
	follow();
	cr_expect_eq(rows(), 1 + 4);

	cr_assert(memory_set_watermark(f.db, NULL, "t", 1, 5000));
	follow();
	cr_expect_eq(rows(), 0);
	cr_expect_eq(partition("t", 1), SHMETA_OK);
	cr_expect_eq(partitions_complete("t"), SHMETA_OK);
	end();
}

Test(quarantine, an_offset_is_unknown_where_a_segment_that_cannot_be_served_may_hold_it)
{
	fixture_init(&f);
	cr_assert(memory_create_topic(f.db, NULL, "t", 2, 1111));
	put_segment("t", 100, 199);
	put_segment("t", 300, 399);
	put_segment("t", 200, 150); /* ends before it begins: nobody knows where it ends */
	cr_assert(memory_set_watermark(f.db, NULL, "t", 0, 1000));
	begin();
	cr_expect_eq(rows(), 1);
	cr_expect_eq(segment("t", 0, 150), SHMETA_OK);
	cr_expect_eq(segment("t", 0, 350), SHMETA_OK);
	cr_expect_eq(segment("t", 0, 250), SHMETA_UNKNOWN);
	cr_expect_eq(segment("t", 0, 450), SHMETA_UNKNOWN);
	cr_expect_eq(segment("t", 0, 50), SHMETA_ABSENT_BEFORE_START);
	cr_expect_eq(segment("t", 0, 1000), SHMETA_ABSENT_AT_END);
	cr_expect_eq(segment("t", 1, 0), SHMETA_ABSENT_AT_END);
	cr_expect_eq(segments_complete("t", 0), SHMETA_UNKNOWN);
	cr_expect_eq(segments_complete("t", 1), SHMETA_OK);

	/* A change elsewhere in the partition reads a range without it. */
	put_segment("t", 400, 499);
	follow();
	cr_expect_eq(rows(), 1);
	cr_expect_eq(segment("t", 0, 450), SHMETA_OK);
	cr_expect_eq(segment("t", 0, 250), SHMETA_UNKNOWN);

	put_segment("t", 200, 249);
	follow();
	cr_expect_eq(rows(), 0);
	cr_expect_eq(segment("t", 0, 249), SHMETA_OK);
	cr_expect_eq(segment("t", 0, 250), SHMETA_ABSENT_GAP);
	cr_expect_eq(segments_complete("t", 0), SHMETA_OK);
	end();
}

/* A fetch plan from the offset: how many segments, and where the next one begins. */
static enum shmeta_status planned(uint64_t from, size_t *ret_segments, uint64_t *ret_next)
{
	static struct shmeta_segment segments[8];
	static struct shmeta_fetch_range ranges[8];
	static char strings[8 * 300];
	const struct shmeta_fetch fetch = {.size = sizeof fetch,
	                                   .from = from,
	                                   .max_segments = 8,
	                                   .segments = segments,
	                                   .max_ranges = 8,
	                                   .ranges = ranges,
	                                   .buffer = strings,
	                                   .buffer_bytes = sizeof strings};
	struct shmeta_fetch_plan plan = {.size = sizeof plan};
	struct shmeta_handle *handle;
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
	status = shmeta_plan_fetch(handle, &fetch, NULL, &plan, NULL);
	shmeta_partition_close(handle);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	*ret_segments = plan.segments;
	*ret_next = plan.next_offset;
	return status;
}

static void expect_plan(uint64_t from, enum shmeta_status status, size_t segments, uint64_t next)
{
	uint64_t went_to;
	size_t count;
	enum shmeta_status answer = planned(from, &count, &went_to);

	cr_expect_eq(answer, status, "from %llu: %d", (unsigned long long)from, (int)answer);
	if (status == SHMETA_OK)
		cr_expect(count == segments && went_to == next, "from %llu: %zu segments, then %llu",
		          (unsigned long long)from, count, (unsigned long long)went_to);
}

Test(quarantine, a_fetch_plan_ends_before_what_cannot_be_read_and_does_not_begin_in_it)
{
	fixture_init(&f);
	cr_assert(memory_create_topic(f.db, NULL, "t", 1, 1111));
	put_segment_of("t", 10, 14, UINT64_MAX, 0);
	put_segment("t", 20, 29);
	put_segment("t", 35, 39); /* behind a gap */
	put_segment_of("t", 43, 45, UINT64_MAX, 0);
	put_segment("t", 50, 59);
	put_segment_of("t", 70, 79, UINT64_MAX, 0);
	cr_assert(memory_set_watermark(f.db, NULL, "t", 0, 100));
	begin();
	cr_expect_eq(rows(), 3, "%s", f.log);
	/* Nobody goes from the log start, 20, on, who asked for less. */
	expect_plan(0, SHMETA_UNKNOWN, 0, 0);
	expect_plan(12, SHMETA_UNKNOWN, 0, 0);
	expect_plan(15, SHMETA_ABSENT_BEFORE_START, 0, 0);
	expect_plan(20, SHMETA_OK, 2, 40);
	expect_plan(30, SHMETA_OK, 1, 40);
	/* Nothing holds 40, but the plan would have gone over 43. */
	expect_plan(40, SHMETA_UNKNOWN, 0, 0);
	expect_plan(44, SHMETA_UNKNOWN, 0, 0);
	expect_plan(46, SHMETA_OK, 1, 60);
	expect_plan(60, SHMETA_UNKNOWN, 0, 0);
	expect_plan(75, SHMETA_UNKNOWN, 0, 0);
	expect_plan(80, SHMETA_ABSENT_GAP, 0, 0);
	expect_plan(100, SHMETA_ABSENT_AT_END, 0, 0);

	put_segment("t", 43, 45);
	follow();
	expect_plan(20, SHMETA_OK, 4, 60);
	put_segment("t", 70, 79);
	put_segment("t", 10, 14);
	follow();
	cr_expect_eq(rows(), 0);
	expect_plan(0, SHMETA_ABSENT_BEFORE_START, 0, 0);
	expect_plan(10, SHMETA_OK, 6, 80);
	end();
}

static enum shmeta_status at_time(int64_t timestamp_ms, uint64_t *ret_base)
{
	struct shmeta_handle *handle;
	struct shmeta_segment found = {0};
	enum shmeta_status status;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &handle), SHMETA_OK);
	status = timestamp_ms == INT64_MAX
	                 ? shmeta_last_segment(handle, NULL, &found, NULL)
	                 : shmeta_find_segment_for_timestamp(handle, timestamp_ms, NULL, &found, NULL);
	shmeta_partition_close(handle);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	*ret_base = found.base_offset;
	return status;
}

Test(quarantine, a_segment_that_cannot_be_read_may_be_the_first_at_a_time_and_the_last_of_all)
{
	uint64_t base;

	fixture_init(&f);
	cr_assert(memory_create_topic(f.db, NULL, "t", 1, 1111));
	put_segment_of("t", 0, 9, 100, 1000);
	put_segment_of("t", 10, 19, UINT64_MAX, 2000);
	put_segment_of("t", 20, 29, 100, 3000);
	put_segment_of("t", 30, 39, 100, 4000);
	cr_assert(memory_set_watermark(f.db, NULL, "t", 0, 100));
	begin();
	cr_expect_eq(rows(), 1, "%s", f.log);
	cr_expect(at_time(900, &base) == SHMETA_OK && base == 0);
	cr_expect_eq(at_time(1001, &base), SHMETA_UNKNOWN);
	cr_expect_eq(at_time(2500, &base), SHMETA_UNKNOWN);
	cr_expect(at_time(3500, &base) == SHMETA_OK && base == 30);
	cr_expect_eq(at_time(4500, &base), SHMETA_UNKNOWN);
	cr_expect(at_time(INT64_MAX, &base) == SHMETA_OK && base == 30, "the last one is behind what cannot be read");

	put_segment_of("t", 40, 49, UINT64_MAX, 5000);
	follow();
	cr_expect_eq(at_time(INT64_MAX, &base), SHMETA_UNKNOWN);
	put_segment_of("t", 10, 19, 100, 2000);
	put_segment_of("t", 40, 49, 100, 5000);
	follow();
	cr_expect(at_time(1001, &base) == SHMETA_OK && base == 10);
	cr_expect(at_time(INT64_MAX, &base) == SHMETA_OK && base == 40);
	end();
}

static void put_agent(const char *id, size_t address_bytes)
{
	static char address[2000];
	const struct shmeta_agent row = {.agent_id = str(id),
	                                 .address = {address, address_bytes},
	                                 .availability_zone = str("z"),
	                                 .agent_group = str("g")};

	memset(address, 'a', sizeof address);
	cr_assert(memory_put_agent(f.db, NULL, &row));
}

static void put_offset(const char *group, const char *name, uint32_t id, uint64_t committed)
{
	const struct shmeta_committed_offset row = {
		.group_id = str(group), .partition_id = id, .committed_offset = committed, .committed_at_ms = 1};

	cr_assert(memory_put_offset(f.db, NULL, name, &row));
}

static void put_lease(const char *name, uint32_t id, uint64_t epoch)
{
	const struct shmeta_lease row = {
		.leader_agent_id = str("a"), .partition_id = id, .epoch = epoch, .lease_expires_at_ms = INT64_MAX};

	cr_assert(memory_put_lease(f.db, NULL, name, &row));
}

Test(quarantine, agents_offsets_and_leases_are_unknown_by_their_keys)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 2, 0, 1111);
	put_agent("a", 10);
	put_agent("long", 1999);
	put_offset("g", "t", 0, 5);
	put_offset("g", "t", 1, UINT64_MAX);
	put_lease("t", 0, 1);
	put_lease("t", 1, UINT64_MAX);
	begin();
	cr_expect_eq(rows(), 3, "%s", f.log);
	cr_expect_eq(agent("a"), SHMETA_OK);
	cr_expect_eq(agent("long"), SHMETA_UNKNOWN);
	cr_expect_eq(agent("lon"), SHMETA_ABSENT);
	cr_expect_eq(offset("g", "t", 0), SHMETA_OK);
	cr_expect_eq(offset("g", "t", 1), SHMETA_UNKNOWN);
	cr_expect_eq(offset("g", "t", 2), SHMETA_ABSENT);
	cr_expect_eq(offset("h", "t", 1), SHMETA_ABSENT);
	cr_expect_eq(lease("t", 0), SHMETA_OK);
	cr_expect_eq(lease("t", 1), SHMETA_UNKNOWN);
	cr_expect_eq(lease("t", 2), SHMETA_ABSENT);
	cr_expect_eq(leases_complete(NULL), SHMETA_UNKNOWN);
	cr_expect_eq(leases_complete("t"), SHMETA_UNKNOWN);
	cr_expect_eq(leases_complete("u"), SHMETA_OK, "a list of one topic tells of its rows alone");
	cr_expect_eq(offsets_complete("g"), SHMETA_UNKNOWN);
	cr_expect_eq(offsets_complete("h"), SHMETA_OK);

	put_agent("long", 20);
	put_offset("g", "t", 1, 7);
	put_lease("t", 1, 7);
	fixture_pass(&f, 10000);
	cr_expect_eq(rows(), 0, "%s", f.log);
	cr_expect_eq(agent("long"), SHMETA_OK);
	cr_expect_eq(offset("g", "t", 1), SHMETA_OK);
	cr_expect_eq(lease("t", 1), SHMETA_OK);
	end();
}

Test(quarantine, a_list_of_what_cannot_exist_is_complete_whatever_is_quarantined)
{
	static char too_long[SHMETA_NAME_MAX + 2];
	struct shmeta_iter *iter;

	memset(too_long, 'x', sizeof too_long - 1);
	fixture_init(&f);
	fixture_topic(&f, "t", 1, 0, 1111);
	fixture_topic(&f, "bad", 1, 0, 1111);
	put_topic("bad", 0);
	put_offset("g", "t", 0, UINT64_MAX);
	put_lease("t", 0, UINT64_MAX);
	begin();
	cr_expect_eq(offsets_complete(""), SHMETA_OK);
	cr_expect_eq(offsets_complete(too_long), SHMETA_OK);
	cr_expect_eq(leases_complete("a\nb"), SHMETA_OK);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_list_topics(reader, too_long, sizeof too_long - 1, 0, NULL, &iter), SHMETA_OK);
	cr_expect_eq(closed_complete(iter), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	end();
}

Test(quarantine, an_offset_and_a_lease_without_their_topic_wait_in_quarantine_for_it)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 1, 0, 1111);
	put_topic("later", 0); /* cannot be served: what refers to it has no topic */
	put_offset("g", "later", 0, 5);
	put_lease("later", 0, 1);
	begin();
	/* The engine takes the offset and the lease for good rows: the sources's content is not the
	 * store's. */
	cr_expect_eq(fixture_counters(&f).quarantined, 3, "%s", f.log);
	cr_expect_eq(offset("g", "later", 0), SHMETA_UNKNOWN);
	cr_expect_eq(lease("later", 0), SHMETA_UNKNOWN);
	put_topic("later", 1);
	follow();
	fixture_pass(&f, 10000);
	cr_expect_eq(rows(), 0, "%s", f.log);
	cr_expect_eq(offset("g", "later", 0), SHMETA_OK);
	cr_expect_eq(lease("later", 0), SHMETA_OK);
	end();
}

Test(quarantine, rows_whose_key_cannot_be_read_are_counted_once_and_leave_with_the_next_pass)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 1, 1, 1111);
	put_topic("", 1);
	put_agent("", 10);
	put_agent("a\x01", 10);
	begin();
	cr_expect_eq(rows(), 3, "%s", f.log);
	compare_all();
	cr_expect_eq(rows(), 3);
	/* No lookup can name such a row. */
	cr_expect_eq(topic("u"), SHMETA_ABSENT);
	cr_expect_eq(agent("b"), SHMETA_ABSENT);
	cr_assert(memory_delete_topic(f.db, NULL, ""));
	cr_assert(memory_delete_agent(f.db, NULL, ""));
	cr_assert(memory_delete_agent(f.db, NULL, "a\x01"));
	compare_all();
	fixture_pass(&f, 10000);
	cr_expect_eq(rows(), 0, "%s", f.log);
	end();
}

Test(quarantine, more_rows_than_are_listed_are_counted_and_nothing_of_their_class_is_called_absent)
{
	enum { MANY = 10300 };

	fixture_init(&f);
	cr_assert(memory_create_topic(f.db, NULL, "t", 1, 1111));
	cr_assert(memory_create_topic(f.db, NULL, "other", 1, 1111));
	for (uint64_t i = 1; i <= MANY; i++)
		put_segment("t", i * 10, i * 10 - 1);
	put_segment("other", 100, 109);
	cr_assert(memory_set_watermark(f.db, NULL, "other", 0, 1000));
	begin();
	cr_expect_eq(rows(), MANY);
	cr_expect_eq(segment("other", 0, 105), SHMETA_OK);
	cr_expect_eq(segment("other", 0, 50), SHMETA_UNKNOWN);
	cr_expect_eq(topic("x"), SHMETA_ABSENT);
	compare_all();
	cr_expect_eq(rows(), MANY);
	cr_assert_gt(memory_delete_segments_before(f.db, NULL, "t", 0, UINT64_MAX), 0);
	compare_all();
	cr_expect_eq(rows(), 0, "%s", f.log + (f.log_bytes > 2000 ? f.log_bytes - 2000 : 0));
	cr_expect_eq(segment("other", 0, 50), SHMETA_ABSENT_BEFORE_START);
	end();
}

Test(quarantine, what_is_quarantined_survives_a_restart_and_is_not_logged_again)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 1, 1, 1111);
	put_topic("bad", 0);
	begin();
	cr_expect_eq(logged("quarantined"), 1);
	fixture_close(&f);
	fixture_open(&f);
	fixture_pass(&f, 5000);
	cr_expect_eq(rows(), 1);
	cr_expect_eq(topic("bad"), SHMETA_UNKNOWN);
	cr_expect_eq(logged("quarantined"), 1, "%s", f.log);
	end();
}

/* What no feed told, the periodic comparison finds; it changes nothing by itself, and has the rows
 * read again. */
Test(quarantine, the_online_comparison_finds_what_turned_bad_and_what_is_good_again)
{
	fixture_init(&f);
	f.options.reconcile_s = 60;
	fixture_topic(&f, "t", 3, 2, 1111);
	fixture_topic(&f, "u", 1, 2, 1111);
	begin();
	memory_silence(f.db, true);
	put_topic("u", 0);
	cr_assert(memory_set_watermark(f.db, NULL, "t", 1, UINT64_MAX));
	put_segment("t", 900000, 5);
	fixture_pass(&f, 130000);
	cr_expect_eq(rows(), (1 + 1 + 2) + (1 + 2) + 1, "%s", f.log);
	cr_expect_eq(topic("u"), SHMETA_UNKNOWN);
	cr_expect_eq(partition("t", 1), SHMETA_UNKNOWN);
	cr_expect_eq(partition("t", 0), SHMETA_OK);

	uint64_t fetches = fixture_counters(&f).fetches, times = logged("quarantined");

	fixture_pass(&f, 130000);
	cr_expect_eq(rows(), 8);
	cr_expect_eq(logged("quarantined"), times);
	cr_expect_leq(fixture_counters(&f).fetches - fetches, 60, "what is known to be bad is read again by each pass");

	put_topic("u", 1);
	cr_assert(memory_set_watermark(f.db, NULL, "t", 1, 5000));
	cr_assert(memory_delete_segment(f.db, NULL, "t", 0, 900000));
	fixture_pass(&f, 130000);
	cr_expect_eq(rows(), 0, "%s", f.log);
	cr_expect_eq(topic("u"), SHMETA_OK);
	cr_expect_eq(partition("t", 1), SHMETA_OK);
	end();
}

Test(quarantine, who_asks_again_for_what_cannot_be_served_is_answered_without_the_source)
{
	fixture_init(&f);
	f.options.absent_max = 1000;
	f.options.absent_ttl_ms = 1000;
	fixture_topic(&f, "t", 2, 1, 1111);
	begin();
	cr_assert(memory_set_watermark(f.db, NULL, "t", 1, UINT64_MAX));
	follow();
	memory_silence(f.db, true);
	f.now_ns += 1000000000;
	cr_expect_eq(fixture_refresh_recent(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(fixture_answer(&f, 1)->status, SHMETA_OK);

	uint64_t fetches = fixture_counters(&f).fetches;

	cr_expect_eq(fixture_refresh_recent(&f, SHMETA_CLASS_PARTITION, "t", 1, 2), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(fixture_answer(&f, 2)->status, SHMETA_OK);
	cr_expect_eq(fixture_counters(&f).fetches, fetches);
	cr_expect_eq(partition("t", 1), SHMETA_UNKNOWN, "it is remembered, and not as absent");
	end();
}

Test(quarantine, a_row_that_is_listed_when_there_is_room_again_is_not_counted_twice)
{
	enum { MANY = 10010 };

	fixture_init(&f);
	cr_assert(memory_create_topic(f.db, NULL, "a", 1, 1111));
	cr_assert(memory_create_topic(f.db, NULL, "z", 1, 1111));
	for (uint64_t i = 1; i <= MANY; i++)
		put_segment(i <= 20 ? "a" : "z", i * 10, i * 10 - 1);
	begin();
	cr_expect_eq(rows(), MANY);
	cr_assert(memory_delete_topic(f.db, NULL, "a"));
	follow();
	cr_expect_eq(rows(), MANY - 20);
	/* one that was not listed is read, and still bad */
	put_segment("z", (uint64_t)MANY * 10, 0);
	follow();
	cr_expect_eq(rows(), MANY - 20, "%s", f.log + (f.log_bytes > 2000 ? f.log_bytes - 2000 : 0));
	compare_all();
	cr_expect_eq(rows(), MANY - 20);
	end();
}
