/* SPDX-License-Identifier: Apache-2.0
 * What one user may hold, whatever the others do. */
#include <criterion/criterion.h>

#include "writer/serve/shares.h"

TestSuite(shares, .timeout = 30);

enum { USERS = 3, CAPACITY = 1008 };

/* Each takes what it may, one by one, and then the next does. */
static uint64_t take_all(uint64_t capacity, uint32_t percent, uint64_t held[], int users)
{
	uint64_t all = 0;

	for (int i = 0; i < users; i++) {
		held[i] = 0;
		while (share_left(capacity, percent, held[i], all) > 0) {
			held[i]++;
			all++;
		}
		cr_assert_leq(all, capacity);
	}
	return all;
}

Test(shares, two_greedy_users_leave_room_for_a_third_to_hold_many)
{
	uint64_t held[USERS];

	(void)take_all(CAPACITY, SHARE_PERCENT, held, USERS);
	cr_expect_eq(held[0], CAPACITY / 2);
	cr_expect_eq(held[1], CAPACITY / 4);
	cr_expect_eq(held[2], CAPACITY / 8);
}

Test(shares, who_holds_nothing_gets_something_behind_any_number_of_greedy_users)
{
	enum { MANY = 40 };
	uint64_t held[MANY];

	(void)take_all(CAPACITY, SHARE_PERCENT, held, MANY);
	for (int i = 0; i < MANY; i++)
		cr_expect_gt(held[i], 0, "user %d", i);
}

Test(shares, one_newcomer_cannot_take_the_reserve_at_once)
{
	const uint64_t full = CAPACITY - CAPACITY / SHARE_RESERVE_PART;
	uint64_t left = share_left(CAPACITY, SHARE_PERCENT, 0, full);

	cr_expect_gt(left, 0);
	cr_expect_lt(left, (CAPACITY - full) / 4);
}

Test(shares, the_last_part_is_nobodys_who_holds_something)
{
	uint64_t held[1], all = take_all(CAPACITY, 100, held, 1);

	cr_expect_eq(all, CAPACITY - CAPACITY / SHARE_RESERVE_PART);
	cr_expect_eq(share_left(CAPACITY, 100, held[0], all), 0);
	cr_expect_gt(share_left(CAPACITY, 100, 0, all), 0);
}

Test(shares, nothing_is_given_beyond_the_capacity)
{
	for (uint64_t capacity = 0; capacity < 40; capacity++)
		for (uint64_t all = 0; all < 50; all++)
			for (uint64_t mine = 0; mine <= all; mine++) {
				uint64_t left = share_left(capacity, SHARE_PERCENT, mine, all);

				cr_assert(left == 0 || all + left <= capacity);
			}
	cr_expect_eq(share_left(4, SHARE_PERCENT, 0, 3), 1, "the last one of few");
	cr_expect_gt(share_left(UINT64_MAX, 100, 0, 0), UINT64_MAX / 2, "no overflow");
}
