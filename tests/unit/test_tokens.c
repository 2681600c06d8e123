/* SPDX-License-Identifier: Apache-2.0
 * The buckets of tokens that bound what a source is asked. */
#include <criterion/criterion.h>

#include "backends/tokens.h"
#include "tests/support/random.h"

TestSuite(tokens, .timeout = 30);

Test(tokens, no_span_of_time_grants_more_than_the_burst_and_the_rate)
{
	enum { N = 20000 };
	static uint64_t at[N], got[N];

	for (uint64_t trial = 0; trial < 5; trial++) {
		struct tokens t = {0};
		uint64_t now = 1000, total = 0, rate, burst;

		random_begin(trial);
		rate = 1 + random_below(1000);
		burst = 1 + random_below(100);
		tokens_configure(&t, (uint32_t)rate, (uint32_t)burst, now);
		for (int i = 0; i < N; i++) {
			uint32_t n = 1 + (uint32_t)random_below(burst);

			now += random_below(10000000);
			at[i] = now;
			got[i] = tokens_take(&t, n, now) ? n : 0;
			total += got[i];
		}
		cr_expect_eq(t.granted, total);
		cr_expect_gt(t.postponed, 0);
		cr_expect_gt((double)total, 0.5 * (double)rate * (double)now / 1e9, "nor much less");
		for (int from = 0; from < N; from += 97) {
			uint64_t sum = 0;

			for (int to = from; to < N && to < from + 2000; to++) {
				sum += got[to];
				cr_assert_leq((double)sum,
				              (double)burst + (double)rate * (double)(at[to] - at[from]) / 1e9 + 1e-6);
			}
		}
	}
}

Test(tokens, what_cannot_be_granted_can_be_at_the_time_that_is_told_and_not_before)
{
	struct tokens t = {0};
	uint64_t when;

	tokens_configure(&t, 7, 10, 500);
	cr_expect(tokens_take(&t, 10, 500));
	when = tokens_when(&t, 3, 500);
	cr_expect_eq(when, 500 + 428571429);
	cr_expect_not(tokens_take(&t, 3, when - 1));
	cr_expect(tokens_take(&t, 3, when));
	cr_expect_eq(tokens_when(&t, 0, when), when);
	cr_expect_eq(t.postponed, 1);
}

Test(tokens, what_was_dearer_than_its_estimate_is_paid_first)
{
	struct tokens t = {0};

	tokens_configure(&t, 10, 10, 0);
	cr_expect(tokens_take(&t, 5, 0));
	tokens_settle(&t, 5, 30); /* 20 owed */
	cr_expect_eq(t.granted, 30);
	cr_expect_not(tokens_take(&t, 1, UINT64_C(2099999999)));
	cr_expect(tokens_take(&t, 1, UINT64_C(2100000000)));
	tokens_settle(&t, 1, 0);
	cr_expect(tokens_take(&t, 1, UINT64_C(2100000000)), "what was cheaper is given back");
}

Test(tokens, a_request_beyond_the_burst_waits_for_a_full_bucket_and_is_owed)
{
	struct tokens t = {0};

	tokens_configure(&t, 10, 10, 0);
	cr_expect(tokens_take(&t, 1, 0));
	cr_expect_not(tokens_take(&t, 25, 0));
	cr_expect(tokens_take(&t, 25, UINT64_C(100000000)));
	cr_expect_eq(tokens_when(&t, 1, UINT64_C(100000000)), UINT64_C(1700000000));
}

Test(tokens, rates_change_without_a_gift_and_no_rate_is_no_limit)
{
	struct tokens t = {0};

	cr_expect(tokens_take(&t, UINT32_MAX, 0));
	tokens_configure(&t, 1, 10, 100);
	cr_expect(tokens_take(&t, 10, 100));
	tokens_configure(&t, 1000, 1000, 100);
	cr_expect_not(tokens_take(&t, 1, 100), "a larger bucket is not a fuller one");
	cr_expect(tokens_take(&t, 1000, UINT64_C(5000000000)));
	cr_expect_not(tokens_take(&t, 1, 400), "time that goes back gives nothing");
	tokens_configure(&t, 0, 1, UINT64_C(5000000000));
	cr_expect(tokens_take(&t, UINT32_MAX, UINT64_C(5000000000)));
	cr_expect_eq(tokens_when(&t, UINT32_MAX, 7), 7);
}

Test(tokens, the_largest_numbers_do_not_overflow)
{
	struct tokens t = {0};

	tokens_configure(&t, TOKENS_MAX, TOKENS_MAX, 0);
	cr_expect(tokens_take(&t, UINT32_MAX, UINT64_MAX / 2));
	tokens_settle(&t, 0, UINT32_MAX);
	cr_expect_not(tokens_take(&t, 1, UINT64_MAX / 2 + 1));
	cr_expect_gt(tokens_when(&t, UINT32_MAX, UINT64_MAX / 2 + 1), UINT64_MAX / 2 + 1);
	cr_expect(tokens_take(&t, 1, UINT64_MAX));
	tokens_settle(&t, UINT32_MAX, 0);
	cr_expect_eq(tokens_when(&t, TOKENS_MAX, UINT64_MAX), UINT64_MAX);
}
