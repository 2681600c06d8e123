/* SPDX-License-Identifier: Apache-2.0
 * The last offset there is: a row there is a row like any other. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_ends, .timeout = 60);

static struct fixture f;

static const uint64_t last_offset = INT64_MAX;

#define SAME()                                                    \
	do {                                                      \
		const char *difference_ = fixture_difference(&f); \
                                                                  \
		cr_assert_null(difference_, "%s", difference_);   \
	} while (0)

static void put(uint64_t base)
{
	struct shmeta_segment segment = fixture_segment(0, base, 1);
	char id[40];
	int n = snprintf(id, sizeof id, "at-%llu", (unsigned long long)base);

	segment.created_at_ms = 1;
	segment.id = (struct shmeta_str){id, (size_t)n};
	cr_assert(memory_put_segment(f.db, NULL, "t", &segment));
}

static void open_with(uint32_t segments)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 2, segments, 1111);
	put(last_offset);
	fixture_open(&f);
	fixture_run(&f);
	SAME();
}

Test(sync_ends, what_changes_beside_a_segment_at_the_last_offset_is_followed)
{
	open_with(3);
	memory_set_watermark(f.db, NULL, "t", 0, 7);
	fixture_pass(&f, 1000);
	SAME();
	fixture_topic(&f, "later", 1, 1, 2222);
	fixture_pass(&f, 1000);
	SAME();
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	fixture_done(&f);
}

Test(sync_ends, a_segment_at_the_last_offset_that_changes_comes_with_its_partition)
{
	struct shmeta_segment segment = fixture_segment(0, last_offset, 1);

	open_with(3);
	segment.id = (struct shmeta_str){"another", 7};
	cr_assert(memory_delete_segment(f.db, NULL, "t", 0, last_offset));
	cr_assert(memory_put_segment(f.db, NULL, "t", &segment));
	fixture_pass(&f, 1000);
	SAME();
	cr_assert(memory_delete_segment(f.db, NULL, "t", 0, last_offset));
	fixture_pass(&f, 1000);
	SAME();
	put(last_offset - 1);
	fixture_pass(&f, 1000);
	put(last_offset);
	fixture_pass(&f, 1000);
	SAME();
	fixture_done(&f);
}

/* However many rows are handed over at a time, for one of these numbers the last one of them is the
 * last one there can be. */
Test(sync_ends, a_full_pass_ends_at_the_last_offset_however_its_rows_are_cut)
{
	for (uint32_t segments = 510; segments <= 512; segments++) {
		open_with(segments);
		memory_silence(f.db, true);
		memory_set_watermark(f.db, NULL, "t", 0, 9);
		cr_assert_eq(fixture_compare_all(&f, 1), SHMETA_OK);
		fixture_pass(&f, 5000);
		cr_assert_eq(fixture_answer(&f, 1)->status, SHMETA_OK, "%s", fixture_answer(&f, 1)->sentence);
		cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
		SAME();
		fixture_done(&f);
	}
}
