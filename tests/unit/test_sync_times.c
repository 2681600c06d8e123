/* SPDX-License-Identifier: Apache-2.0
 * What the engine measures of itself: each read, commit, write and change once, with the time that
 * it took. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/sync_fixture.h"
#include "tests/support/write_ops.h"

TestSuite(sync_times, .timeout = 60);

static struct fixture f;

static void begin(void)
{
	fixture_init(&f);
	fixture_topic(&f, "orders", 2, 5, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
}

static void end(void)
{
	fixture_done(&f);
}

static struct shmeta_times times_of(enum shmeta_timed what)
{
	struct shmeta_times times[SHMETA_TIMED_COUNT];

	fixture_pass(&f, 1000); /* other threads see it some time later */
	sync_read_times(f.sync, times);
	return times[what];
}

static uint64_t count_of(const struct shmeta_times *times)
{
	uint64_t all = 0;

	for (int i = 0; i < SHMETA_TIMES_BUCKETS; i++)
		all += times->count[i];
	return all;
}

/* So many more since then, of which each took a time that its bucket holds. */
static void expect_more(enum shmeta_timed what, const struct shmeta_times *before, uint64_t more)
{
	struct shmeta_times now = times_of(what);
	double least = 0, most = 0;

	cr_expect_eq(count_of(&now) - count_of(before), more, "%d: %d", what, (int)(count_of(&now) - count_of(before)));
	for (uint32_t i = 0; i < SHMETA_TIMES_BUCKETS; i++) {
		least += (double)(now.count[i] - before->count[i]) * (double)shmeta__times_floor(i);
		most += (double)(now.count[i] - before->count[i]) * (double)shmeta__times_floor(i + 1);
	}
	cr_expect_geq((double)(now.sum_ns - before->sum_ns), least, "%d", what);
	cr_expect_leq((double)(now.sum_ns - before->sum_ns), most, "%d", what);
}

Test(sync_times, a_change_is_one_read_one_commit_and_one_that_became_visible, .init = begin, .fini = end)
{
	struct shmeta_times source = times_of(SHMETA_TIMED_SOURCE), commit = times_of(SHMETA_TIMED_COMMIT),
			    visible = times_of(SHMETA_TIMED_VISIBLE);

	/* Polls that find nothing are none of it. */
	fixture_pass(&f, 3000);
	expect_more(SHMETA_TIMED_VISIBLE, &visible, 0);
	fixture_add_segment(&f, "orders", 1, 900000, 1000);
	expect_more(SHMETA_TIMED_SOURCE, &source, 1);
	expect_more(SHMETA_TIMED_COMMIT, &commit, 1);
	expect_more(SHMETA_TIMED_VISIBLE, &visible, 1);
}

Test(sync_times, a_write_is_measured_from_its_arrival_to_its_answer, .init = begin, .fini = end)
{
	const struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"orders", 6}, .offset = 1000000};
	struct shmeta_times before = times_of(SHMETA_TIMED_WRITE), after;

	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	f.now_ns += 3000000000u; /* it waits */
	expect_more(SHMETA_TIMED_WRITE, &before, 1);
	after = times_of(SHMETA_TIMED_WRITE);
	cr_expect_geq(after.sum_ns - before.sum_ns, 3000000000u);
}

Test(sync_times, buckets_cover_every_time_in_order)
{
	cr_expect_eq(shmeta__times_bucket(0), 0u);
	cr_expect_eq(shmeta__times_bucket(UINT64_MAX), SHMETA_TIMES_BUCKETS - 1u);
	for (uint32_t i = 1; i < SHMETA_TIMES_BUCKETS; i++) {
		cr_expect_gt(shmeta__times_floor(i), shmeta__times_floor(i - 1));
		cr_expect_eq(shmeta__times_bucket(shmeta__times_floor(i)), i);
		cr_expect_eq(shmeta__times_bucket(shmeta__times_floor(i) - 1), i - 1);
	}
}

Test(sync_times, the_oldest_waiting_key_has_an_age_until_it_is_read, .init = begin, .fini = end)
{
	cr_expect_eq(fixture_counters(&f).queue_age_ns, 0u);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "orders", 0, 7), SHMETA_OK);
	(void)usleep(20000);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "orders", 1, 8), SHMETA_OK);
	cr_expect_geq(fixture_counters(&f).queue_age_ns, 20000000u);
	fixture_run(&f);
	cr_expect_eq(fixture_counters(&f).queue_age_ns, 0u);
}
