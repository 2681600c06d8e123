/* SPDX-License-Identifier: Apache-2.0
 * The server's clock says what it likes: what is computed with its times stays in its range. */
#include <criterion/criterion.h>

#include "backends/postgres/pg_clock.h"

TestSuite(pg_clock, .timeout = 10);

static const int64_t ends[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
enum { ENDS = sizeof ends / sizeof ends[0] };

Test(pg_clock, a_time_without_nanoseconds_is_the_last_on_its_side)
{
	cr_assert_eq(pg_clock_ns(-7), -7000);
	cr_assert_eq(pg_clock_ns(INT64_MAX / 1000), INT64_MAX / 1000 * 1000);
	cr_assert_eq(pg_clock_ns(INT64_MAX / 1000 + 1), INT64_MAX);
	cr_assert_eq(pg_clock_ns(INT64_MIN), INT64_MIN);
}

Test(pg_clock, a_local_time_is_never_one_that_wrapped)
{
	cr_assert_eq(pg_clock_local(1500, 1000, 20), 520);
	cr_assert_eq(pg_clock_local(1000, 1500, 20), 0);
	cr_assert_eq(pg_clock_local(INT64_MAX, INT64_MIN, UINT64_MAX), UINT64_MAX);
	for (int later = 1; later < ENDS; later++)
		for (int there = 0; there < ENDS; there++)
			cr_assert_geq(pg_clock_local(ends[later], ends[there], 5),
			              pg_clock_local(ends[later - 1], ends[there], 5));
}

Test(pg_clock, a_clock_at_the_end_of_time_moves_nothing_out_of_it)
{
	struct pg_state state = {.source = 0};

	for (int told = 0; told < ENDS; told++)
		for (int callers = 0; callers < ENDS; callers++) {
			int64_t distance;

			pg_clock_seen(&state, ends[told], 0, UINT64_MAX);
			distance = pg_clock_distance(&state, ends[callers]);
			/* Near one end no time can move beyond it. */
			cr_assert(distance >= 0 || pg_clock_moved(ends[callers], distance) <= ends[callers]);
			cr_assert(distance <= 0 || pg_clock_moved(ends[callers], distance) >= ends[callers]);
		}
}
