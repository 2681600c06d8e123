/* SPDX-License-Identifier: Apache-2.0
 * The share of one user. */
#include "writer/serve/shares.h"

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t share_left(uint64_t capacity, uint32_t percent, uint64_t mine, uint64_t all)
{
	uint64_t reserve = capacity / SHARE_RESERVE_PART, unheld, unshared, most, left = 0;

	if (all >= capacity)
		return 0;
	unheld = capacity - all;
	unshared = capacity - (all - mine); /* by the others */
	most = unshared / 100 * percent + unshared % 100 * percent / 100;
	if (mine < most && unheld > reserve)
		left = lesser(most - mine, unheld - reserve);
	/* Of the reserve, too, each newcomer gets a part only. */
	if (mine == 0 && left < reserve / SHARE_RESERVE_PART + 1)
		left = lesser(reserve / SHARE_RESERVE_PART + 1, unheld);
	return left;
}
