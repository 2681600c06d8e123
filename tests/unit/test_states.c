/* SPDX-License-Identifier: Apache-2.0
 * The states of store, origin and feed: which may follow which, as docs/states.md says. */
#include <criterion/criterion.h>

#include "writer/engine/states.h"

TestSuite(states, .timeout = 10);

static enum state_moved expected(char c)
{
	return c == 'y' ? STATE_MOVED : c == '=' ? STATE_THERE : STATE_REFUSED;
}

/* Rows: from; columns: to; in the order of the states, and one that is none. */
Test(states, a_store_is_written_only_after_it_was_adopted_or_made_and_never_once_it_is_damaged)
{
	static const char may[STORE_STATES][STORE_STATES + 2] = {"=yy..", "y=yy.", "..=y.", "..y=."};

	for (unsigned from = 0; from < STORE_STATES; from++)
		for (unsigned to = 0; to <= STORE_STATES; to++)
			cr_expect_eq(store_state_may(from, to), expected(may[from][to]), "%s to %s",
			             store_state_name(from), store_state_name(to));
}

Test(states, a_source_is_held_only_after_it_has_changed)
{
	static const char may[ORIGIN_STATES][ORIGIN_STATES + 2] = {"=yy...", "y=yy..", "yy=.y.", "y..=y.", "y..y=."};

	for (unsigned from = 0; from < ORIGIN_STATES; from++)
		for (unsigned to = 0; to <= ORIGIN_STATES; to++)
			cr_expect_eq(origin_state_may(from, to), expected(may[from][to]), "%s to %s",
			             origin_state_name(from), origin_state_name(to));
}

Test(states, a_feed_that_is_behind_is_in_step_again_only_after_a_pass_or_a_resumption)
{
	static const char may[FEED_STATES][FEED_STATES + 2] = {"=y.y..", ".=yy..", ".y=yy.", "yyy=y.", "yyyy=."};

	for (unsigned from = 0; from < FEED_STATES; from++)
		for (unsigned to = 0; to <= FEED_STATES; to++)
			cr_expect_eq(feed_state_may(from, to), expected(may[from][to]), "%s to %s",
			             feed_state_name(from), feed_state_name(to));
}

Test(states, what_is_no_state_moves_nowhere)
{
	cr_expect_eq(store_state_may(STORE_STATES, STORE_NONE), STATE_REFUSED);
	cr_expect_eq(store_state_may(STORE_STATES, STORE_STATES), STATE_REFUSED);
	cr_expect_str_eq(origin_state_name(ORIGIN_STATES), "?");
}
