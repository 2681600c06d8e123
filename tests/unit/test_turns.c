/* SPDX-License-Identifier: Apache-2.0
 * Whose call is next, and how much may wait. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "writer/serve/shares.h"
#include "writer/write/turns.h"

TestSuite(turns, .timeout = 30);

enum { GREEDY = 2001, OTHER = 2002, THIRD = 2003, MOST = 4096, MS = 1000000 };

static struct turns t;
static uint64_t now = 1;

static void begin(void)
{
	turns_init(&t);
	t.limits = (struct turns_limits){
		.ops = 1600, .bytes = 1 << 20, .connection_bytes = 1 << 19, .user_share = SHARE_PERCENT};
}

static void end(void)
{
	for (struct turn *c = turns_take(&t, 0, true, now), *next; c != NULL; c = next) {
		next = c->next;
		free(c);
	}
	turns_free(&t);
}

static bool add(uint32_t uid, uint64_t connection, size_t ops, size_t bytes, uint64_t work)
{
	struct turn *call = calloc(1, sizeof *call);

	*call = (struct turn){
		.uid = uid, .connection = connection, .ops = ops, .bytes = bytes, .work = work, .last = true};
	if (turns_add(&t, call, now))
		return true;
	free(call);
	return false;
}

/* What a round brings, which is freed: calls of a user; UINT32_MAX: of anybody. */
static size_t round_of(uint64_t most, uint32_t uid)
{
	size_t count = 0;

	for (struct turn *c = turns_take(&t, most, false, now), *next; c != NULL; c = next) {
		next = c->next;
		count += uid == UINT32_MAX || c->uid == uid;
		free(c);
	}
	return count;
}

Test(turns, who_comes_behind_a_thousand_calls_of_another_is_in_the_next_round, .init = begin, .fini = end)
{
	for (int i = 0; i < 700; i++)
		cr_assert(add(GREEDY, (uint64_t)i % 8, 1, 100, 1));
	cr_assert(add(THIRD, 100, 1, 100, 1));
	cr_expect_eq(round_of(200, THIRD), 1);
}

Test(turns, calls_of_a_connection_stay_in_order, .init = begin, .fini = end)
{
	uint64_t last[4] = {0}, at = 0;

	for (uint64_t i = 1; i <= 400; i++) {
		struct turn *call = calloc(1, sizeof *call);

		/* Their number is in bytes. */
		*call = (struct turn){.uid = GREEDY + (uint32_t)(i % 2),
		                      .connection = i % 4,
		                      .ops = 1,
		                      .bytes = i,
		                      .work = 1 + i % 50,
		                      .last = true};
		cr_assert(turns_add(&t, call, now));
	}
	while (at < 400) {
		struct turn *c = turns_take(&t, 300, false, now), *next;

		cr_assert_not_null(c);
		for (; c != NULL; c = next) {
			next = c->next;
			cr_assert_gt(c->bytes, last[c->connection]);
			last[c->connection] = c->bytes;
			at++;
			free(c);
		}
	}
}

Test(turns, users_and_their_connections_get_the_same_work_done, .init = begin, .fini = end)
{
	uint64_t done[3] = {0};

	t.limits.ops = 100000;
	/* One user's calls are ten times as large; another's come over four connections. */
	for (int i = 0; i < 400; i++) {
		cr_assert(add(GREEDY, 1, 1, 1, 40));
		cr_assert(add(OTHER, 2, 1, 1, 4));
		cr_assert(add(OTHER, 2, 1, 1, 4));
		cr_assert(add(THIRD, 10 + (uint64_t)i % 4, 1, 1, 4));
		cr_assert(add(THIRD, 10 + (uint64_t)i % 4, 1, 1, 4));
	}
	for (int i = 0; i < 6; i++)
		for (struct turn *c = turns_take(&t, 600, false, now), *next; c != NULL; c = next) {
			next = c->next;
			done[c->uid - GREEDY] += c->work;
			free(c);
		}
	for (int i = 0; i < 3; i++) {
		cr_expect_geq(done[i], 3600 / 3 * 7 / 10, "user %d: %lu", i, (unsigned long)done[i]);
		cr_expect_leq(done[i], 3600 / 3 * 13 / 10, "user %d: %lu", i, (unsigned long)done[i]);
	}
}

Test(turns, a_call_that_is_larger_than_a_round_does_not_keep_smaller_ones_out_of_it, .init = begin, .fini = end)
{
	cr_assert(add(OTHER, 1, 1, 100, 10));
	cr_assert(add(GREEDY, 2, 1, 100, 100000));
	cr_assert(add(THIRD, 3, 1, 100, 10));
	cr_expect_eq(round_of(1000, UINT32_MAX), 2);
	cr_expect_eq(round_of(1000, GREEDY), 1, "and comes by itself");
}

Test(turns, large_calls_of_all_users_together_get_a_fifth_of_the_time_while_several_write, .init = begin, .fini = end)
{
	const struct turn large = {.uid = GREEDY, .work = 100000};

	cr_assert(add(THIRD, 1, 1, 100, 1));
	cr_assert(add(GREEDY, 2, 1, 100, 100000));
	cr_assert(add(OTHER, 3, 1, 100, 100000));
	cr_expect_eq(round_of(MOST, UINT32_MAX), 1);
	cr_expect_eq(round_of(MOST, GREEDY), 1);
	turns_took(&t, large.work, &large, 500 * MS, now);
	cr_assert(add(GREEDY, 2, 1, 100, 1));
	cr_assert(add(THIRD, 1, 1, 100, 1));
	cr_expect_eq(turns_when(&t, now), now);
	cr_expect_eq(round_of(MOST, UINT32_MAX), 2, "small ones go on, whoever's they are");
	cr_expect_eq(round_of(MOST, UINT32_MAX), 0);
	cr_expect_eq(turns_when(&t, now), now + 4 * 500 * MS);
	now += 500 * MS;
	cr_assert(add(THIRD, 1, 1, 100, 1));
	cr_assert(add(GREEDY, 2, 1, 100, 1));
	cr_expect_eq(round_of(MOST, OTHER), 0);
	now += 500 * MS;
	cr_assert(add(GREEDY, 2, 1, 100, 1));
	cr_expect_eq(round_of(MOST, GREEDY), 1);
	now += 1000 * MS;
	cr_expect_eq(round_of(MOST, OTHER), 1);
	/* The others have not written for long. */
	turns_took(&t, large.work, &large, 1000 * MS, now);
	now += 2 * TURNS_MEMORY_NS;
	cr_assert(add(GREEDY, 2, 1, 100, 100000));
	cr_expect_eq(round_of(MOST, GREEDY), 1);
}

Test(turns, a_call_of_unknown_work_is_a_round_by_itself_while_several_write, .init = begin, .fini = end)
{
	struct turn *call = calloc(1, sizeof *call);

	*call = (struct turn){
		.uid = GREEDY, .connection = 2, .ops = 1, .bytes = 100, .work = 1, .open_ended = true, .last = true};
	for (int i = 0; i < 50; i++)
		cr_assert(add(GREEDY, 1, 1, 100, 1));
	cr_assert(turns_add(&t, call, now));
	cr_assert(add(THIRD, 3, 1, 100, 1));
	cr_expect_eq(round_of(MOST, UINT32_MAX), 51);
	cr_expect_eq(round_of(MOST, UINT32_MAX), 1);
}

Test(turns, a_large_call_comes_to_its_turn_however_many_small_ones_come, .init = begin, .fini = end)
{
	size_t rounds = 0;

	cr_assert(add(GREEDY, 1, 1, 100, 1));
	cr_assert(add(OTHER, 2, 1, 100, 100000));
	cr_assert(add(THIRD, 3, 1, 100, 1));
	for (; rounds < 10 && round_of(MOST, OTHER) == 0; rounds++) {
		cr_assert(add(GREEDY, 1, 1, 100, 1));
		cr_assert(add(THIRD, 3, 1, 100, 1));
	}
	cr_expect_leq(rounds, 1);
}

Test(turns, rounds_are_short_while_several_write_and_as_long_as_asked_for_alone, .init = begin, .fini = end)
{
	for (int i = 0; i < 600; i++)
		cr_assert(add(GREEDY, 1, 1, 100, 1));
	turns_took(&t, 100, &(struct turn){.uid = GREEDY, .work = 1}, MS, now); /* 10 us each */
	cr_expect_eq(round_of(200, GREEDY), 200);
	cr_assert(add(THIRD, 2, 1, 100, 1));
	cr_expect_eq(round_of(200, UINT32_MAX), TURNS_ROUND_NS / 10000);
}

Test(turns, rounds_are_no_shorter_than_what_a_round_takes_anyway, .init = begin, .fini = end)
{
	const struct turn small = {.uid = THIRD, .work = 1};

	for (int i = 0; i < 600; i++)
		cr_assert(add(GREEDY, 1, 1, 100, 1));
	cr_assert(add(THIRD, 2, 1, 100, 1));
	turns_took(&t, 1, &small, 2 * MS, now);
	turns_took(&t, 100, &small, 3 * MS, now); /* 10 us each, and the 2 ms */
	cr_expect_geq(round_of(400, UINT32_MAX), 195);
}

Test(turns, two_greedy_users_leave_room_for_a_third_one_in_operations_and_bytes, .init = begin, .fini = end)
{
	size_t first = 0, second = 0, third = 0;

	while (add(GREEDY, first / 100, 1, 1, 1))
		first++;
	while (add(OTHER, 1000 + second / 100, 1, 1, 1))
		second++;
	while (add(THIRD, 2000, 1, 1, 1))
		third++;
	cr_expect_eq(first, t.limits.ops / 2);
	cr_expect_eq(second, t.limits.ops / 4);
	cr_expect_geq(third, t.limits.ops / 10);
	end();
	begin();
	for (first = 0; add(GREEDY, first, 1, 4096, 1);)
		first++;
	for (second = 0; add(OTHER, 1000 + second, 1, 4096, 1);)
		second++;
	cr_expect_eq(first * 4096, t.limits.bytes / 2);
	cr_expect_eq(second * 4096, t.limits.bytes / 4);
	cr_expect(add(THIRD, 2000, 1, 65536, 1));
}

Test(turns, one_connection_is_bound_in_bytes_and_root_only_by_the_whole, .init = begin, .fini = end)
{
	size_t count = 0;

	t.limits.user_share = 100;
	while (add(GREEDY, 1, 1, 4096, 1))
		count++;
	cr_expect_eq(count * 4096, t.limits.connection_bytes);
	end();
	begin();
	for (count = 0; add(0, count, 1, 4096, 1);)
		count++;
	cr_expect_eq(count * 4096, t.limits.bytes);
}

Test(turns, one_call_that_is_larger_than_all_bounds_is_taken_when_nothing_waits, .init = begin, .fini = end)
{
	cr_expect(add(GREEDY, 1, 5000, 2 << 20, 1));
	cr_expect_not(add(GREEDY, 1, 1, 1, 1));
	cr_expect_eq(round_of(MOST, GREEDY), 1);
	cr_expect(add(GREEDY, 1, 1, 1, 1));
}
