/* SPDX-License-Identifier: Apache-2.0
 * A topic or partition of more rows than the writer collects: it is applied as its rows come, whole
 * or not at all. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"
#include "writer/keys/fetch_result.h"

TestSuite(sync_large, .timeout = 120);

static struct fixture f;

enum { LARGE = FETCHED_ROWS_MAX + 3000 };

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static void start(void)
{
	fixture_init(&f);
	fixture_topic(&f, "small", 4, 20, 1111);
	fixture_open(&f);
	fixture_pass(&f, 2000);
}

static void stop(void)
{
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	fixture_done(&f);
}

static void make_large(const char *topic)
{
	fixture_topic(&f, topic, 3, 5, 2222);
	for (uint64_t i = 5; i < LARGE; i++)
		cr_assert(fixture_add_segment(&f, topic, 1, i * 1000, 1000));
}

Test(sync_large, a_large_topic_that_appears_is_shown_whole_and_keeps_nothing_else_waiting, .init = start, .fini = stop)
{
	make_large("large");
	fixture_topic(&f, "other", 2, 3, 3333);
	fixture_add_segment(&f, "small", 1, 20000, 1000);
	fixture_pass(&f, 1500);
	SAME();
}

Test(sync_large, a_large_topic_that_was_replaced_is_shown_whole, .init = start, .fini = stop)
{
	make_large("large");
	fixture_pass(&f, 1500);
	memory_delete_topic(f.db, NULL, "large");
	make_large("large");
	memory_delete_partition(f.db, NULL, "large", 0);
	fixture_pass(&f, 1500);
	SAME();
	memory_delete_topic(f.db, NULL, "large");
	fixture_pass(&f, 1500);
	SAME();
}

Test(sync_large, a_large_partition_that_is_read_again_shows_what_no_feed_told, .init = start, .fini = stop)
{
	make_large("large");
	fixture_pass(&f, 1500);
	memory_silence(f.db, true);
	memory_delete_segment(f.db, NULL, "large", 1, 700000);
	memory_delete_segment(f.db, NULL, "large", 1, 0);
	memory_delete_segment(f.db, NULL, "large", 1, (LARGE - 1) * 1000ull);
	memory_set_watermark(f.db, NULL, "large", 1, 5);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "large", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK, "%s", fixture_answer(&f, 1)->sentence);
	SAME();
	/* Gone by the time it is asked for. */
	memory_delete_partition(f.db, NULL, "large", 1);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "large", 1, 2), SHMETA_OK);
	fixture_run(&f);
	SAME();
}

Test(sync_large, what_breaks_off_in_the_middle_leaves_nothing_and_is_tried_again, .init = start, .fini = stop)
{
	uint64_t committed = fixture_committed(&f);

	make_large("large");
	memory_fail(f.db, MEMORY_FETCH, 3, FETCHED_ROWS_MAX + 500, SHMETA_ERR_SOURCE, "the connection was lost");
	f.now_ns += 1000000000;
	fixture_run(&f);
	cr_assert_eq(fixture_topic_id(&f, "large"), 0);
	cr_assert_eq(fixture_committed(&f), committed);
	fixture_pass(&f, 20000);
	SAME();
}

Test(sync_large, a_large_partition_with_a_bad_row_is_quarantined_alone, .init = start, .fini = stop)
{
	make_large("large");
	fixture_pass(&f, 1500);
	cr_assert(memory_break_partition(f.db, "large", 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	memory_set_watermark(f.db, NULL, "large", 1, 5);
	fixture_add_segment(&f, "small", 1, 20000, 1000);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "large", 1, 1), SHMETA_OK);
	fixture_pass(&f, 1500);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_ERR_INVALID_ARGUMENT);
	memory_mend_partition(f.db, "large", 1);
	fixture_pass(&f, 20000);
	SAME();
}

Test(sync_large, a_partition_of_another_incarnation_is_brought_over_with_its_topic, .init = start, .fini = stop)
{
	make_large("large");
	fixture_pass(&f, 1500);
	memory_silence(f.db, true);
	memory_delete_topic(f.db, NULL, "large");
	make_large("large");
	cr_assert(memory_put_partition(
		f.db, NULL, "large",
		&(struct shmeta_partition){.partition_id = 1, .high_watermark = 9, .created_at_ms = 9999}));
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "large", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK, "%s", fixture_answer(&f, 1)->sentence);
	SAME();
}
