/* SPDX-License-Identifier: Apache-2.0
 * How long the loop works for one user. */
#include <criterion/criterion.h>

#include "writer/serve/budget.h"

TestSuite(budget, .timeout = 30);

enum { GREEDY = 1, THIRD = 2 };

static const uint64_t start = UINT64_C(10000000000);

Test(budget, who_has_spent_his_part_waits_for_the_next_window_while_others_ask)
{
	struct budget b = {.user = NULL};
	uint64_t now = start;

	cr_expect(budget_left(&b, THIRD, now));
	budget_spend(&b, THIRD, 1000, now);
	for (uint64_t spent = 0; spent < BUDGET_USER_NS; spent += 500000) {
		cr_expect(budget_left(&b, GREEDY, now));
		now += 500000;
		budget_spend(&b, GREEDY, 500000, now);
	}
	cr_expect_not(budget_left(&b, GREEDY, now));
	cr_expect(budget_left(&b, THIRD, now));
	cr_expect_lt(budget_renewed_ns(&b), now + BUDGET_WINDOW_NS);
	now = budget_renewed_ns(&b);
	cr_expect(budget_left(&b, GREEDY, now));
	budget_free(&b);
}

Test(budget, who_has_had_much_comes_after_others_until_the_next_window)
{
	struct budget b = {.user = NULL};
	uint64_t now = start;

	cr_expect_not(budget_yields(&b, GREEDY, now));
	budget_spend(&b, GREEDY, BUDGET_FIRST_NS, now);
	cr_expect_not(budget_yields(&b, GREEDY, now), "nobody else asks");
	budget_spend(&b, THIRD, BUDGET_FIRST_NS - 1, now);
	cr_expect(budget_yields(&b, GREEDY, now));
	cr_expect(budget_left(&b, GREEDY, now));
	cr_expect_not(budget_yields(&b, THIRD, now));
	now = budget_renewed_ns(&b);
	cr_expect_not(budget_yields(&b, GREEDY, now));
	budget_free(&b);
}

Test(budget, who_asks_alone_is_always_served)
{
	struct budget b = {.user = NULL};

	cr_expect(budget_left(&b, THIRD, start)); /* the window begins */
	budget_spend(&b, THIRD, 1000, start);
	budget_spend(&b, GREEDY, 10 * BUDGET_USER_NS, start + 1);
	cr_expect_not(budget_left(&b, GREEDY, start + 1));
	/* The other one has not asked for long. */
	cr_expect(budget_left(&b, GREEDY, start + BUDGET_MEMORY_NS)); /* another window begins */
	budget_spend(&b, GREEDY, 10 * BUDGET_USER_NS, start + BUDGET_MEMORY_NS);
	cr_expect(budget_left(&b, GREEDY, start + BUDGET_MEMORY_NS));
	budget_free(&b);
}

Test(budget, users_that_no_longer_ask_take_no_memory)
{
	struct budget b = {.user = NULL};

	for (uint32_t i = 0; i < 10000; i++)
		budget_spend(&b, i, 1, start + i * BUDGET_MEMORY_NS / 8);
	cr_expect_leq(b.room, 16);
	budget_free(&b);
}
