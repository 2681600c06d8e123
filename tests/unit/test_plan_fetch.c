/* SPDX-License-Identifier: Apache-2.0
 * Fetch plans: equal to a walk with the list call, on partitions of every kind of row; where they
 * end, and which ranges they have. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/fake_writer.h"
#include "tests/support/random.h"

enum { ROOM = 64, ROWS = 4000 };

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;
static struct shmeta_segment segments[ROOM];
static struct shmeta_fetch_range ranges[ROOM];
static char strings[ROOM * 300];
static struct shmeta_fetch_plan plan;

static void set_up(void)
{
	w = fake_writer_with_topic(&topic);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
}

static void tear_down(void)
{
	fake_close_all(w, instance, reader);
}

TestSuite(plan_fetch, .init = set_up, .fini = tear_down, .timeout = 60);

static void put(uint64_t high_watermark, const struct shmeta_segment *rows, size_t count)
{
	fake_begin(w);
	fake_partition(w, topic, 0, high_watermark, rows, count, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
}

static struct shmeta_handle *begin(void)
{
	struct shmeta_handle *h;

	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(reader, "t", 1, 0, &h), SHMETA_OK);
	return h;
}

static void end(struct shmeta_handle *h)
{
	shmeta_partition_close(h);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static struct shmeta_fetch all_from(uint64_t from)
{
	return (struct shmeta_fetch){.size = sizeof(struct shmeta_fetch),
	                             .from = from,
	                             .max_segments = ROOM,
	                             .segments = segments,
	                             .max_ranges = ROOM,
	                             .ranges = ranges,
	                             .buffer = strings,
	                             .buffer_bytes = sizeof strings};
}

static enum shmeta_status make(struct shmeta_handle *h, const struct shmeta_fetch *fetch)
{
	plan = (struct shmeta_fetch_plan){.size = sizeof plan};
	return shmeta_plan_fetch(h, fetch, NULL, &plan, NULL);
}

/* ---- equal to a walk ---- */

static void expect_walk(struct shmeta_handle *h, const struct shmeta_fetch *fetch, uint64_t high_watermark)
{
	enum shmeta_status status = make(h, fetch), found;
	uint64_t bytes = 0, available = 0, next = fetch->from;
	struct shmeta_segment segment;
	struct shmeta_iter *iter;
	size_t count = 0;
	int full = 0;

	found = shmeta_find_segment(h, fetch->from, NULL, &segment, NULL);
	if (fetch->from >= high_watermark && (found == SHMETA_OK || found == SHMETA_ABSENT_GAP))
		found = SHMETA_ABSENT_AT_END; /* nobody reads what is not below the watermark */
	if (found != SHMETA_OK && found != SHMETA_ABSENT_GAP) {
		cr_assert_eq(status, found);
		return;
	}
	cr_assert_eq(shmeta_list_segments(h, fetch->from, high_watermark, NULL, &iter), SHMETA_OK);
	while (shmeta_next_segment(iter, &segment) == SHMETA_OK) {
		available += segment.size_bytes;
		full |= count == fetch->max_segments ||
		        (count > 0 && fetch->max_bytes != 0 && bytes + segment.size_bytes > fetch->max_bytes);
		if (full)
			continue;
		cr_assert_lt(count, plan.segments);
		cr_assert_eq(segments[count].base_offset, segment.base_offset);
		cr_assert_eq(segments[count].end_offset, segment.end_offset);
		bytes += segment.size_bytes;
		if (segment.end_offset >= next)
			next = segment.end_offset + 1;
		count++;
	}
	shmeta_iter_free(iter);
	if (count == 0) {
		cr_assert_eq(status, SHMETA_ABSENT_GAP);
		return;
	}
	cr_assert_eq(status, SHMETA_OK);
	cr_assert_eq(plan.segments, count);
	cr_assert_eq(plan.bytes, bytes);
	cr_assert_eq(plan.next_offset, next);
	cr_assert_eq(plan.available_bytes, available, "%llu of %llu from %llu",
	             (unsigned long long)plan.available_bytes, (unsigned long long)available,
	             (unsigned long long)fetch->from);
	cr_assert_eq(plan.enough, available >= fetch->min_bytes);
	cr_assert_eq(plan.high_watermark, high_watermark);
}

/* Rows with gaps, or some that begin within an earlier one. */
static size_t random_rows(struct shmeta_segment *rows, size_t count, int overlaps)
{
	uint64_t next = random_below(50);

	for (size_t i = 0; i < count; i++) {
		uint64_t span = 1 + random_below(40);

		rows[i] = (struct shmeta_segment){
			.base_offset = next, .end_offset = next + span - 1, .size_bytes = random_below(5000)};
		next += overlaps && random_below(10) == 0 ? 1 + random_below(span) : span;
		if (random_below(20) == 0)
			next += random_below(30);
	}
	return count;
}

static void compare(size_t count, int overlaps, int plans)
{
	static struct shmeta_segment rows[ROWS];
	struct shmeta_handle *h;
	uint64_t last, high_watermark;

	count = random_rows(rows, count, overlaps);
	last = rows[count - 1].end_offset + 1;
	/* The watermark may lie behind the last segment, or before some that have been added
	 * already. */
	high_watermark = random_below(3) == 0 ? last + random_below(20) : last - random_below(last / 10 + 1);
	put(high_watermark, rows, count);
	h = begin();
	for (int i = 0; i < plans; i++) {
		struct shmeta_fetch fetch = all_from(random_below(last + 20));

		fetch.max_segments = 1 + random_below(ROOM);
		fetch.max_bytes = random_below(3) == 0 ? 0 : random_below(50000);
		fetch.min_bytes = random_below(1000000);
		expect_walk(h, &fetch, high_watermark);
	}
	end(h);
}

Test(plan_fetch, equals_a_walk_on_random_rows)
{
	random_begin(1);
	for (int round = 0; round < 30; round++) {
		compare(1 + random_below(20), 0, 200);
		compare(1 + random_below(300), 0, 100);
		compare(1 + random_below(300), 1, 100);
	}
	compare(ROWS, 0, 300);
	compare(ROWS, 1, 300);
}

/* ---- ranges ---- */

static int says(struct shmeta_str s, const char *text)
{
	return s.bytes == strlen(text) && memcmp(s.data, text, s.bytes) == 0;
}

static struct shmeta_segment slice(uint64_t base, const char *key, uint64_t position, uint64_t bytes)
{
	return (struct shmeta_segment){.base_offset = base,
	                               .end_offset = base + 9,
	                               .size_bytes = bytes,
	                               .s3_bucket = fake_str("b"),
	                               .s3_key = fake_str(key),
	                               .position = position};
}

Test(plan_fetch, slices_that_follow_each_other_in_an_object_are_one_range)
{
	const struct shmeta_segment rows[] = {slice(0, "x", 0, 100),  slice(10, "x", 100, 50), slice(20, "x", 150, 7),
	                                      slice(30, "x", 200, 9), slice(40, "y", 209, 9),  slice(50, "y", 218, 1)};
	struct shmeta_fetch fetch = all_from(0);
	struct shmeta_handle *h;

	put(60, rows, 6);
	h = begin();
	cr_assert_eq(make(h, &fetch), SHMETA_OK);
	cr_assert_eq(plan.segments, 6);
	cr_assert_eq(plan.ranges, 3);
	cr_expect(says(ranges[0].s3_bucket, "b") && says(ranges[0].s3_key, "x"));
	cr_expect(ranges[0].position == 0 && ranges[0].bytes == 157 && ranges[0].first == 0 && ranges[0].count == 3);
	cr_expect(ranges[1].position == 200 && ranges[1].bytes == 9 && ranges[1].first == 3 && ranges[1].count == 1);
	cr_expect(says(ranges[2].s3_key, "y"), "another object, although the positions go on");
	cr_expect(ranges[2].position == 209 && ranges[2].bytes == 10 && ranges[2].first == 4 && ranges[2].count == 2);
	cr_expect(says(segments[2].s3_key, "x") && segments[2].id.bytes > 0);
	cr_expect_eq(plan.bytes, 176);
	cr_expect_eq(plan.available_bytes, 176);
	cr_expect_eq(plan.next_offset, 60);
	fetch.max_ranges = 1;
	cr_assert_eq(make(h, &fetch), SHMETA_OK);
	cr_expect(plan.segments == 3 && plan.ranges == 1 && plan.next_offset == 30);
	cr_expect_eq(plan.available_bytes, 176);
	end(h);
}

Test(plan_fetch, it_ends_where_the_buffer_does_and_says_when_not_even_one_fits)
{
	struct shmeta_fetch fetch = all_from(0);
	struct shmeta_handle *h;
	char error[300];

	fake_begin(w);
	fake_even_partition(w, topic, 0, 10, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	h = begin();
	cr_assert_eq(make(h, &fetch), SHMETA_OK);
	cr_assert_eq(plan.segments, 10);
	cr_assert_eq(plan.ranges, 10);
	fetch.buffer_bytes = (size_t)(segments[3].id.data - strings);
	cr_assert_eq(make(h, &fetch), SHMETA_OK);
	cr_expect(plan.segments == 3 && plan.ranges == 3 && plan.next_offset == 30);
	fetch.buffer_bytes = 3;
	cr_assert_eq(make(h, &fetch), SHMETA_ERR_BUFFER);
	cr_expect(strstr(shmeta_last_error(instance, error, sizeof error), "3 bytes") != NULL, "%s", error);
	fetch = all_from(5);
	fetch.max_bytes = 1;
	cr_assert_eq(make(h, &fetch), SHMETA_OK);
	cr_expect(plan.segments == 1 && segments[0].base_offset == 0, "one comes whatever its size");
	end(h);
}

Test(plan_fetch, absences_are_those_of_a_find_and_arguments_are_judged)
{
	static const struct shmeta_segment rows[] = {{.base_offset = 10, .end_offset = 19, .size_bytes = 1},
	                                             {.base_offset = 30, .end_offset = 39, .size_bytes = 2}};
	struct shmeta_fetch fetch = all_from(9);
	struct shmeta_freshness fresh;
	struct shmeta_handle *h;

	put(50, rows, 2);
	h = begin();
	cr_expect_eq(make(h, &fetch), SHMETA_ABSENT_BEFORE_START);
	fetch.from = 25;
	cr_assert_eq(make(h, &fetch), SHMETA_OK);
	cr_expect(plan.segments == 1 && segments[0].base_offset == 30, "behind the gap");
	fetch.from = 40;
	cr_expect_eq(make(h, &fetch), SHMETA_ABSENT_GAP, "nothing is behind it");
	fetch.from = 50;
	cr_expect_eq(make(h, &fetch), SHMETA_ABSENT_AT_END);
	fetch.from = 10;
	cr_assert_eq(shmeta_plan_fetch(h, &fetch, NULL, &plan, &fresh), SHMETA_OK);
	cr_expect(fresh.fresh);
	plan.size = 8;
	cr_expect_eq(shmeta_plan_fetch(h, &fetch, NULL, &plan, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	fetch.size = 8;
	cr_expect_eq(make(h, &fetch), SHMETA_ERR_INVALID_ARGUMENT);
	fetch = all_from(10);
	fetch.max_ranges = 0;
	cr_expect_eq(make(h, &fetch), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(shmeta_plan_fetch(NULL, &fetch, NULL, &plan, NULL), SHMETA_ERR_INVALID_ARGUMENT);
	end(h);
}

static void source_moved(struct fake_writer *f, void *arg)
{
	(void)arg;
	fake_begin(f);
	fake_even_partition(f, topic, 0, 12, 10);
	(void)fake_commit(f);
}

Test(plan_fetch, source_plans_on_what_the_source_says_and_leaves_the_snapshot)
{
	const struct shmeta_read source = {.size = sizeof source, .consistency = SHMETA_SOURCE, .timeout_ms = 5000};
	struct shmeta_fetch fetch = all_from(95);
	struct shmeta_handle *h;

	fake_begin(w);
	fake_even_partition(w, topic, 0, 10, 10);
	(void)fake_commit(w);
	fake_stamp_all(w);
	w->on_refresh = source_moved;
	h = begin();
	plan.size = sizeof plan;
	cr_assert_eq(shmeta_plan_fetch(h, &fetch, &source, &plan, NULL), SHMETA_OK);
	cr_expect_eq(plan.segments, 3);
	cr_expect_eq(plan.next_offset, 120);
	cr_assert_eq(make(h, &fetch), SHMETA_OK);
	cr_expect_eq(plan.segments, 1);
	end(h);
}
