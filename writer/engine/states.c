/* SPDX-License-Identifier: Apache-2.0
 * The tables of moves, and the moves (states.h). */
#include "writer/engine/states.h"

#include <syslog.h>

#include "writer/engine/engine.h"

#define TO(state) (1u << (state))

static const uint32_t store_moves[STORE_STATES] = {
	[STORE_NONE] = TO(STORE_ADOPTED) | TO(STORE_WRITABLE),
	[STORE_ADOPTED] = TO(STORE_NONE) | TO(STORE_WRITABLE) | TO(STORE_DAMAGED),
	[STORE_WRITABLE] = TO(STORE_DAMAGED),
	[STORE_DAMAGED] = TO(STORE_WRITABLE),
};
static const char *const store_names[STORE_STATES] = {"none", "adopted", "writable", "damaged"};

static const uint32_t origin_moves[ORIGIN_STATES] = {
	[ORIGIN_SAME] = TO(ORIGIN_OTHER) | TO(ORIGIN_COURSE),
	[ORIGIN_OTHER] = TO(ORIGIN_SAME) | TO(ORIGIN_COURSE) | TO(ORIGIN_OTHER_HELD),
	[ORIGIN_COURSE] = TO(ORIGIN_SAME) | TO(ORIGIN_OTHER) | TO(ORIGIN_COURSE_HELD),
	[ORIGIN_OTHER_HELD] = TO(ORIGIN_SAME) | TO(ORIGIN_COURSE_HELD),
	[ORIGIN_COURSE_HELD] = TO(ORIGIN_SAME) | TO(ORIGIN_OTHER_HELD),
};
static const char *const origin_names[ORIGIN_STATES] = {"the same source", "another source", "another course",
                                                        "another source, held", "another course, held"};

static const uint32_t feed_moves[FEED_STATES] = {
	[FEED_UNTRIED] = TO(FEED_IN_STEP) | TO(FEED_NONE),
	[FEED_IN_STEP] = TO(FEED_BEHIND) | TO(FEED_NONE),
	[FEED_BEHIND] = TO(FEED_IN_STEP) | TO(FEED_NONE) | TO(FEED_NONE_BEHIND),
	[FEED_NONE] = TO(FEED_UNTRIED) | TO(FEED_BEHIND) | TO(FEED_NONE_BEHIND) | TO(FEED_IN_STEP),
	[FEED_NONE_BEHIND] = TO(FEED_UNTRIED) | TO(FEED_BEHIND) | TO(FEED_NONE) | TO(FEED_IN_STEP),
};
static const char *const feed_names[FEED_STATES] = {"untried", "in step", "behind", "none", "none, behind"};

static enum state_moved may(const uint32_t *moves, unsigned states, unsigned from, unsigned to)
{
	if (from == to && to < states)
		return STATE_THERE;
	return from < states && to < states && (moves[from] & 1u << to) != 0 ? STATE_MOVED : STATE_REFUSED;
}

enum state_moved store_state_may(enum store_state from, enum store_state to)
{
	return may(store_moves, STORE_STATES, from, to);
}
enum state_moved origin_state_may(enum origin_state from, enum origin_state to)
{
	return may(origin_moves, ORIGIN_STATES, from, to);
}
enum state_moved feed_state_may(enum feed_state from, enum feed_state to)
{
	return may(feed_moves, FEED_STATES, from, to);
}

const char *store_state_name(enum store_state state)
{
	return (unsigned)state < STORE_STATES ? store_names[state] : "?";
}
const char *origin_state_name(enum origin_state state)
{
	return (unsigned)state < ORIGIN_STATES ? origin_names[state] : "?";
}
const char *feed_state_name(enum feed_state state)
{
	return (unsigned)state < FEED_STATES ? feed_names[state] : "?";
}

static void refused(struct sync *s, const char *what, const char *from, const char *to)
{
	sync_log(s, LOG_ERR, "state", "a move of the %s from '%s' to '%s' is not foreseen and was not made", what, from,
	         to);
}

/* ---- the store ---- */

void store_move(struct sync *s, enum store_state to)
{
	if (store_state_may(s->store_state, to) == STATE_REFUSED)
		refused(s, "store", store_state_name(s->store_state), store_state_name(to));
	else
		s->store_state = to;
}

bool store_is_writable(const struct sync *s)
{
	return s->store_state == STORE_WRITABLE;
}

bool store_is_damaged(const struct sync *s)
{
	return s->store_state == STORE_DAMAGED;
}

/* ---- the origin ---- */

void origin_move(struct sync *s, enum origin_state to)
{
	if (origin_state_may(s->origin, to) == STATE_REFUSED)
		refused(s, "source", origin_state_name(s->origin), origin_state_name(to));
	else
		s->origin = to;
}

void origin_changed(struct sync *s, bool course)
{
	if (origin_is_held(s))
		origin_move(s, course ? ORIGIN_COURSE_HELD : ORIGIN_OTHER_HELD);
	else
		origin_move(s, course ? ORIGIN_COURSE : ORIGIN_OTHER);
}

void origin_held(struct sync *s)
{
	origin_move(s, origin_is_course(s) ? ORIGIN_COURSE_HELD : ORIGIN_OTHER_HELD);
}

bool origin_is_foreign(const struct sync *s)
{
	return s->origin != ORIGIN_SAME;
}

bool origin_is_held(const struct sync *s)
{
	return s->origin == ORIGIN_OTHER_HELD || s->origin == ORIGIN_COURSE_HELD;
}

bool origin_is_course(const struct sync *s)
{
	return s->origin == ORIGIN_COURSE || s->origin == ORIGIN_COURSE_HELD;
}

/* ---- the feed ---- */

void feed_move(struct sync *s, enum feed_state to)
{
	if (feed_state_may(s->feed, to) == STATE_REFUSED)
		refused(s, "feed", feed_state_name(s->feed), feed_state_name(to));
	else
		s->feed = to;
}

void feed_lost_names(struct sync *s)
{
	s->losses++;
	if (feed_is_tried(s))
		feed_move(s, feed_is_followed(s) ? FEED_BEHIND : FEED_NONE_BEHIND);
}

void feed_begins(struct sync *s)
{
	feed_move(s, FEED_BEHIND);
}

void feed_gone(struct sync *s)
{
	if (feed_is_followed(s))
		feed_move(s, feed_in_step(s) ? FEED_NONE : FEED_NONE_BEHIND);
}

void feed_all_read(struct sync *s, bool follow)
{
	feed_move(s, follow ? FEED_IN_STEP : FEED_NONE);
}

bool feed_is_tried(const struct sync *s)
{
	return s->feed != FEED_UNTRIED;
}

bool feed_is_followed(const struct sync *s)
{
	return s->feed == FEED_IN_STEP || s->feed == FEED_BEHIND;
}

bool feed_in_step(const struct sync *s)
{
	return s->feed == FEED_IN_STEP;
}

bool feed_is_behind(const struct sync *s)
{
	return s->feed == FEED_BEHIND || s->feed == FEED_NONE_BEHIND;
}
