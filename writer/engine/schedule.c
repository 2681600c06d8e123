/* SPDX-License-Identifier: Apache-2.0
 * What is due when (schedule.h). */
#include <stdio.h>

#include "writer/engine/engine.h"
#include "writer/keys/refresh.h"

/* When the oldest of some classes is as old as the time to live lets it be while a pass is made. */
static uint64_t oldest_due(const struct sync *s, enum shmeta_class from, enum shmeta_class to, uint64_t ttl_ns)
{
	uint64_t oldest = UINT64_MAX;

	for (int cls = (int)from; s->gen != NULL && cls <= (int)to; cls++) {
		uint64_t at = shmeta_peek(&s->gen->stamp[cls].synced_at_ns);

		if (shmeta__stamp_is_unproved(at))
			at = 0;
		oldest = at < oldest ? at : oldest;
	}
	return oldest == UINT64_MAX ? SYNC_NEVER : oldest + ttl_ns / 10 * 8;
}

bool schedule_feed_tells_at_once(const struct sync *s)
{
	return feed_in_step(s) && stamps_lag(&s->stamps) == 0 && !health_job_on(&s->health, SYNC_JOB_FEED);
}

/* When a pass is due because the feed lags behind; SYNC_NEVER where it does not. A feed that lags
 * behind, or cannot be asked, must not let answers go stale that a pass would keep fresh. */
static uint64_t schedule_lag_when(const struct sync *s)
{
	uint64_t when,
		/* at most a quarter of the time */
		least = s->schedule.pass_began_ns + 4 * s->schedule.pass_took_ns;

	if (!feed_in_step(s) || schedule_feed_tells_at_once(s))
		return SYNC_NEVER;
	when = oldest_due(s, SHMETA_CLASS_TOPIC, SHMETA_CLASS_LIST, sync_main_ttl_ns(s));
	return when > least ? when : least;
}

uint64_t schedule_advisory_when(const struct sync *s)
{
	uint64_t when;

	if (!feed_in_step(s) || s->orphans.state == ORPHANS_DUE)
		return s->schedule.advisory_due_ns;
	if (schedule_feed_tells_at_once(s))
		return SYNC_NEVER;
	when = oldest_due(s, SHMETA_CLASS_AGENT, SHMETA_CLASS_OFFSET, sync_advisory_ttl_ns(s));
	return when > s->schedule.advisory_due_ns ? when : s->schedule.advisory_due_ns;
}

void schedule_reconcile(struct sync *s)
{
	uint64_t period;

	if (session_has_feed(&s->session)) {
		period = s->options.reconcile_s * SYNC_S;
	} else {
		/* The only way to learn anything: before the TTL passes, but at most a quarter of
		 * the time. */
		period = sync_main_ttl_ns(s) / 10 * 8;
		if (period > s->schedule.pass_lag_ns)
			period -= s->schedule.pass_lag_ns;
		if (period < 3 * s->schedule.pass_took_ns)
			period = 3 * s->schedule.pass_took_ns;
		if (oldest_due(s, SHMETA_CLASS_TOPIC, SHMETA_CLASS_LIST, 0) == 0)
			period = 1; /* nothing is known of what is served */
	}
	s->schedule.pass_due_ns = period == 0 ? SYNC_NEVER : sync_now(s) + sync_jitter(s, period, 850, 1000);
}

/* Does somebody wait for a full pass? */
static bool schedule_pass_wanted(struct sync *s)
{
	return refresh_pass_waiting(s) || (!schedule_feed_tells_at_once(s) && refresh_list_waiting(s));
}

uint64_t schedule_reconcile_when(struct sync *s)
{
	uint64_t ended = s->schedule.pass_began_ns + s->schedule.pass_took_ns, when = s->schedule.pass_due_ns, rest;
	uint64_t lags = schedule_lag_when(s);

	when = lags < when ? lags : when;
	if (schedule_pass_is_asked(&s->schedule)) {
		/* A source that names no keys would have us read everything for every change: a
		 * tenth of the time. */
		rest = 9 * s->schedule.pass_took_ns;
		if (rest < s->options.poll_max_ms * SYNC_MS)
			rest = s->options.poll_max_ms * SYNC_MS;
		when = ended + rest < when ? ended + rest : when;
		if (when < s->schedule.pass_not_before_ns)
			when = s->schedule.pass_not_before_ns;
	}
	if (schedule_pass_wanted(s) && ended + s->schedule.pass_took_ns < when)
		when = ended + s->schedule.pass_took_ns;
	if (health_job_on(&s->health, SYNC_JOB_PASS) && when < health_job_when(&s->health, SYNC_JOB_PASS))
		when = health_job_when(&s->health, SYNC_JOB_PASS);
	return when;
}

/* The one way from one state to the other. */
static void move_pass(struct sync *s, enum pass_request to)
{
	s->schedule.pass = to;
}

void schedule_pass_answered(struct sync *s)
{
	move_pass(s, PASS_AT_ITS_TIME);
}

void schedule_ask_pass(struct sync *s, bool list_dirty, const char *why)
{
	if (!schedule_pass_is_asked(&s->schedule))
		snprintf(s->schedule.asked_why, sizeof s->schedule.asked_why, "%s", why);
	move_pass(s, PASS_ASKED);
	if (list_dirty)
		feed_lost_names(s);
}

void schedule_why_pass(struct sync *s, char *ret, size_t bytes)
{
	snprintf(ret, bytes, "%s",
	         schedule_pass_is_asked(&s->schedule)       ? s->schedule.asked_why
	         : schedule_pass_wanted(s)                  ? "somebody asked for it"
	         : !session_has_feed(&s->session)           ? "there is no change feed"
	         : sync_now(s) < schedule_lag_when(s)       ? "its time had come (feed.reconcile_s)"
	         : health_job_on(&s->health, SYNC_JOB_FEED) ? "the change feed cannot be read"
	                                                    : "the change feed lags behind");
}

void schedule_advisory(struct sync *s)
{
	s->schedule.advisory_due_ns = sync_now(s) + sync_jitter(s, sync_advisory_ttl_ns(s) / 10 * 8, 850, 1000);
}

void schedule_advisory_at(struct sync *s, uint64_t due_ns)
{
	s->schedule.advisory_due_ns = due_ns;
}

void schedule_pass_began(struct sync *s, uint64_t at_ns)
{
	s->schedule.pass_began_ns = at_ns;
}

void schedule_pass_ended(struct sync *s)
{
	s->schedule.pass_took_ns = sync_now(s) - s->schedule.pass_began_ns;
}

void schedule_pass_lagged(struct sync *s, uint64_t lag_ns)
{
	s->schedule.pass_lag_ns = lag_ns;
}

static void pass_not_before(struct sync *s, uint32_t wait_ms)
{
	s->schedule.pass_not_before_ns = sync_now(s) + sync_jitter(s, wait_ms * SYNC_MS, 500, 1000);
}

void schedule_pass_again(struct sync *s)
{
	pass_not_before(s, s->options.retry_min_ms);
}

void schedule_postpone_pass(struct sync *s)
{
	pass_not_before(s, s->options.retry_max_ms);
}

/* ---- polls ---- */

void schedule_init(struct sync *s)
{
	s->schedule.poll_every_ns = s->options.poll_min_ms * SYNC_MS;
	s->schedule.pass_due_ns = s->schedule.advisory_due_ns = SYNC_NEVER;
}

void schedule_poll_now(struct sync *s)
{
	s->schedule.poll_due_ns = sync_now(s);
}

void schedule_poll_by(struct sync *s, uint64_t due_ns)
{
	if (s->schedule.poll_due_ns > due_ns)
		s->schedule.poll_due_ns = due_ns;
}

void schedule_woken(struct sync *s, uint64_t poll_by_ns)
{
	schedule_poll_by(s, poll_by_ns);
	s->schedule.woken = true;
}

void schedule_polled(struct sync *s, uint64_t asked_ns, bool changed, uint64_t lag_ns)
{
	struct schedule *schedule = &s->schedule;
	uint64_t least = s->options.poll_min_ms * SYNC_MS, most = s->options.poll_max_ms * SYNC_MS;

	/* The wake-up of a feed that says until when it tells is what it tells, not what comes
	 * before it. */
	if (changed || (schedule->woken && lag_ns == 0)) {
		/* Busy: stay quick for a while, so that the next change is seen as soon as this
		 * one. */
		schedule->poll_every_ns = least;
		schedule->poll_busy_until_ns = asked_ns + most;
	} else if (asked_ns >= schedule->poll_busy_until_ns) {
		schedule->poll_every_ns += schedule->poll_every_ns / 2 + 1;
	}
	if (schedule->poll_every_ns < least)
		schedule->poll_every_ns = least;
	if (schedule->poll_every_ns > most)
		schedule->poll_every_ns = most;
	schedule->poll_due_ns = asked_ns + schedule->poll_every_ns;
	schedule->woken = false;
}

void schedule_poll_anew(struct sync *s)
{
	s->schedule.poll_every_ns = s->options.poll_min_ms * SYNC_MS;
	schedule_poll_now(s);
}

bool schedule_look(struct sync *s)
{
	uint64_t now = sync_now(s);

	if (now < s->schedule.looked_ns + s->options.poll_min_ms * SYNC_MS)
		return false;
	s->schedule.looked_ns = now;
	return true;
}
