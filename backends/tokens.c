/* SPDX-License-Identifier: Apache-2.0
 * A bucket of tokens. */
#include "backends/tokens.h"

#define TOKEN INT64_C(1000000000) /* in billionths: a rate of 1 gives one of them a nanosecond */

static void fill(struct tokens *t, uint64_t now_ns)
{
	int64_t full = t->burst * TOKEN;
	uint64_t lack = (uint64_t)(full - t->level), span;

	if (now_ns <= t->at_ns)
		return;
	span = now_ns - t->at_ns;
	t->level = span > lack / t->rate ? full : t->level + (int64_t)(span * t->rate);
	t->at_ns = now_ns;
}

void tokens_configure(struct tokens *t, uint32_t rate, uint32_t burst, uint64_t now_ns)
{
	bool was_unlimited = t->rate == 0;

	if (!was_unlimited)
		fill(t, now_ns);
	t->rate = rate;
	t->burst = burst;
	t->at_ns = now_ns;
	if (was_unlimited || t->level > burst * TOKEN)
		t->level = burst * TOKEN;
}

static int64_t needed(const struct tokens *t, uint32_t n)
{
	return (n < t->burst ? n : t->burst) * TOKEN;
}

bool tokens_take(struct tokens *t, uint32_t n, uint64_t now_ns)
{
	if (t->rate > 0) {
		fill(t, now_ns);
		if (t->level < needed(t, n)) {
			t->postponed++;
			return false;
		}
		t->level -= n * TOKEN;
	}
	t->granted += n;
	return true;
}

void tokens_settle(struct tokens *t, uint32_t estimate, uint32_t cost)
{
	t->granted = t->granted - estimate + cost;
	if (t->rate == 0)
		return;
	t->level += ((int64_t)estimate - (int64_t)cost) * TOKEN;
	if (t->level > t->burst * TOKEN)
		t->level = t->burst * TOKEN;
	else if (t->level < -TOKENS_MAX * TOKEN)
		t->level = -TOKENS_MAX * TOKEN;
}

uint64_t tokens_when(struct tokens *t, uint32_t n, uint64_t now_ns)
{
	int64_t lack;

	if (t->rate == 0)
		return now_ns;
	fill(t, now_ns);
	lack = needed(t, n) - t->level;
	return lack <= 0 ? now_ns : t->at_ns + ((uint64_t)lack + t->rate - 1) / t->rate;
}
