/* SPDX-License-Identifier: Apache-2.0 */
#include "writer/load/shrink.h"

#include <syslog.h>

#include "writer/engine/engine.h"

static bool half_is_there(uint64_t had, uint64_t shown)
{
	return shown >= had / 2 + had % 2;
}

/* The one way from one state to the other. */
static void become(struct sync *s, enum shrink_state state, struct shrink_rows shown)
{
	s->shrink = (struct shrink){state, shown};
}

void shrink_over(struct sync *s)
{
	become(s, SHRINK_NONE, (struct shrink_rows){0, 0});
}

bool shrink_judge(struct sync *s, struct shrink_rows had, struct shrink_rows shown)
{
	const struct shrink_rows before = s->shrink.shown;

	if (half_is_there(had.topics, shown.topics) && half_is_there(had.segments, shown.segments)) {
		shrink_over(s);
		return true;
	}
	if (s->shrink.state == SHRINK_SUSPECTED && shown.topics >= before.topics && shown.segments >= before.segments) {
		sync_log(s, LOG_NOTICE, "shrink_confirmed",
		         "a second read confirms %llu topics and %llu segments where the store has %llu and %llu",
		         (unsigned long long)shown.topics, (unsigned long long)shown.segments,
		         (unsigned long long)had.topics, (unsigned long long)had.segments);
		return true;
	}
	become(s, SHRINK_SUSPECTED, shown);
	sync_log(s, LOG_WARNING, "shrink_suspected",
	         "the source shows %llu topics and %llu segments where the store has %llu and %llu: nothing is deleted "
	         "until a second read says the same",
	         (unsigned long long)shown.topics, (unsigned long long)shown.segments, (unsigned long long)had.topics,
	         (unsigned long long)had.segments);
	return false;
}
