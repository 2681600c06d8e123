/* SPDX-License-Identifier: Apache-2.0
 * What is due when: the full pass, the advisory classes, and why a pass is made. */
#include <stdio.h>

#include "writer/engine/engine.h"
#include "writer/keys/refresh.h"

/* When the oldest of some classes is as old as the time to live lets it be while a pass is made. */
static uint64_t oldest_due(const struct sync *s, enum shmeta_class from, enum shmeta_class to, uint64_t ttl_ns)
{
	uint64_t oldest = UINT64_MAX;

	for (int cls = (int)from; s->gen != NULL && cls <= (int)to; cls++) {
		uint64_t at = shmeta_peek(&s->gen->stamp[cls].synced_at_ns);

		oldest = at < oldest ? at : oldest;
	}
	return oldest == UINT64_MAX ? SYNC_NEVER : oldest + ttl_ns / 10 * 8;
}

/* Does the feed tell at once of all that changes? Then it is asked whether the list is in step. */
bool schedule_feed_tells_at_once(const struct sync *s)
{
	return feed_in_step(s) && s->feed_lag_ns == 0 && !s->job[SYNC_JOB_FEED].on;
}

/* A feed that lags behind, or cannot be asked, must not let answers go stale that a pass would keep fresh. */
uint64_t schedule_lag_when(const struct sync *s)
{
	uint64_t when, least = s->reconcile_began_ns + 4 * s->reconcile_took_ns; /* at most a quarter of the time */

	if (!feed_in_step(s) || schedule_feed_tells_at_once(s))
		return SYNC_NEVER;
	when = oldest_due(s, SHMETA_CLASS_TOPIC, SHMETA_CLASS_LIST, sync_main_ttl_ns(s));
	return when > least ? when : least;
}

/* When the hint classes are to be read whole: without a feed that tells of them in time. */
uint64_t schedule_hints_when(const struct sync *s)
{
	uint64_t when;

	if (!feed_in_step(s) || s->orphans.state == ORPHANS_DUE)
		return s->hints_due_ns;
	if (schedule_feed_tells_at_once(s))
		return SYNC_NEVER;
	when = oldest_due(s, SHMETA_CLASS_AGENT, SHMETA_CLASS_OFFSET, sync_hint_ttl_ns(s));
	return when > s->hints_due_ns ? when : s->hints_due_ns;
}

/* The next full pass when nothing asks for one. */
void schedule_reconcile(struct sync *s)
{
	uint64_t period;

	if (s->feed_kind != BACKEND_FEED_NONE) {
		period = s->options.reconcile_s * SYNC_S;
	} else {
		/* The only way to learn anything: before the TTL passes, but at most a quarter of the time. */
		period = sync_main_ttl_ns(s) / 10 * 8;
		if (period > s->load_lag_ns)
			period -= s->load_lag_ns;
		if (period < 3 * s->reconcile_took_ns)
			period = 3 * s->reconcile_took_ns;
	}
	s->reconcile_due_ns = period == 0 ? SYNC_NEVER : sync_now(s) + sync_jitter(s, period, 850, 1000);
}

bool schedule_pass_wanted(struct sync *s)
{
	return refresh_pass_waiting(s) || (!schedule_feed_tells_at_once(s) && refresh_list_waiting(s));
}

/* When the next full pass may begin. */
uint64_t schedule_reconcile_when(struct sync *s)
{
	uint64_t ended = s->reconcile_began_ns + s->reconcile_took_ns, when = s->reconcile_due_ns, rest;
	uint64_t lags = schedule_lag_when(s);

	when = lags < when ? lags : when;
	if (s->reconcile_asked) {
		/* A source that names no keys would have us read everything for every change: a tenth of the time. */
		rest = 9 * s->reconcile_took_ns;
		if (rest < s->options.poll_max_ms * SYNC_MS)
			rest = s->options.poll_max_ms * SYNC_MS;
		when = ended + rest < when ? ended + rest : when;
		if (when < s->reconcile_not_before_ns)
			when = s->reconcile_not_before_ns;
	}
	if (schedule_pass_wanted(s) && ended + s->reconcile_took_ns < when)
		when = ended + s->reconcile_took_ns;
	if (s->job[SYNC_JOB_PASS].on && when < s->job[SYNC_JOB_PASS].next_ns)
		when = s->job[SYNC_JOB_PASS].next_ns;
	return when;
}

void schedule_ask_pass(struct sync *s, bool list_dirty, const char *why)
{
	if (!s->reconcile_asked || s->asked_why[0] == '\0')
		snprintf(s->asked_why, sizeof s->asked_why, "%s", why);
	s->reconcile_asked = true;
	if (list_dirty)
		feed_lost_names(s);
}

/* Why a pass that is due now is made: it outlives the question, which is answered by the pass. */
void schedule_why_pass(struct sync *s, char *ret, size_t bytes)
{
	snprintf(ret, bytes, "%s",
	         s->reconcile_asked                   ? s->asked_why
	         : schedule_pass_wanted(s)            ? "somebody asked for it"
	         : s->feed_kind == BACKEND_FEED_NONE  ? "there is no change feed"
	         : sync_now(s) < schedule_lag_when(s) ? "its time had come (feed.reconcile_s)"
	         : s->job[SYNC_JOB_FEED].on           ? "the change feed cannot be read"
	                                              : "the change feed lags behind");
}

void schedule_hints(struct sync *s)
{
	s->hints_due_ns = sync_now(s) + sync_jitter(s, sync_hint_ttl_ns(s) / 10 * 8, 850, 1000);
}
