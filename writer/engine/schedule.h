/* SPDX-License-Identifier: Apache-2.0
 * What is due when: polls of the feed, reads of the advisory classes, full passes, and why a pass
 * is made. All times are CLOCK_BOOTTIME, ns. Everything here belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_SCHEDULE_H
#define SHMETA_WRITER_ENGINE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sync;

enum { SCHEDULE_WHY = 200 };

/* docs/states.md */
enum pass_request {
	PASS_AT_ITS_TIME, /* nobody asks for one */
	PASS_ASKED        /* wanted as soon as the rate allows */
};

struct schedule {
	/* Polls of the feed. */
	uint64_t poll_due_ns, poll_every_ns, poll_busy_until_ns;
	bool woken;         /* the source sent a wake-up: it may come a little before what it
                             * announces */
	uint64_t looked_ns; /* in a long pass: when the feed and the readers had their turn */
	uint64_t advisory_due_ns;
	/* Full passes. */
	enum pass_request pass;
	char asked_why[SCHEDULE_WHY]; /* by what */
	uint64_t pass_due_ns, pass_not_before_ns, pass_began_ns, pass_took_ns;
	uint64_t pass_lag_ns; /* how much older than the last one its topics were already */
};

void schedule_init(struct sync *s);

/* ---- polls ---- */

static inline bool schedule_poll_due(const struct schedule *schedule, uint64_t now_ns)
{
	return now_ns >= schedule->poll_due_ns;
}
static inline uint64_t schedule_poll_when(const struct schedule *schedule)
{
	return schedule->poll_due_ns;
}
void schedule_poll_now(struct sync *s);
void schedule_poll_by(struct sync *s, uint64_t due_ns); /* at the latest */
/* The source sent a wake-up, or what it would announce hides behind our own commit: a poll is due
 * by then. */
void schedule_woken(struct sync *s, uint64_t poll_by_ns);
/* The feed was asked at asked_ns. changed: it told something; lag_ns: as it said. Sooner while it
 * is busy, later while it is not. */
void schedule_polled(struct sync *s, uint64_t asked_ns, bool changed, uint64_t lag_ns);
/* The pace of polls was configured anew. */
void schedule_poll_anew(struct sync *s);
/* In a long pass: is it time for the feed and the readers to have their turn? */
bool schedule_look(struct sync *s);
/* Does the feed tell at once of all that changes? Then it is asked whether the list is in step. */
bool schedule_feed_tells_at_once(const struct sync *s);

/* ---- advisory classes ---- */

/* When they are to be read whole: without a feed that tells of them in time. */
uint64_t schedule_advisory_when(const struct sync *s);
void schedule_advisory(struct sync *s); /* once more, from now on */
void schedule_advisory_at(struct sync *s, uint64_t due_ns);

/* ---- full passes ---- */

static inline bool schedule_pass_is_asked(const struct schedule *schedule)
{
	return schedule->pass == PASS_ASKED;
}
/* A full pass is wanted as soon as the rate allows; the first reason stays. list_dirty: until then
 * the list is not known to be in step. */
void schedule_ask_pass(struct sync *s, bool list_dirty, const char *why);
/* What was asked for has been read. */
void schedule_pass_answered(struct sync *s);
/* Why a pass that is due now is made: the text outlives the question, which the pass answers. */
void schedule_why_pass(struct sync *s, char *ret, size_t bytes);
/* When the next full pass may begin. */
uint64_t schedule_reconcile_when(struct sync *s);
/* When the next full pass is due if nothing asks for one. */
void schedule_reconcile(struct sync *s);
/* A pass began at that time; it has ended, well or not. Its length bounds how often they are
 * made. */
void schedule_pass_began(struct sync *s, uint64_t at_ns);
void schedule_pass_ended(struct sync *s);
/* How much older than the pass itself what it read may be. */
void schedule_pass_lagged(struct sync *s, uint64_t lag_ns);
/* What is asked for is not to begin again at once: within the shortest, or the longest, wait
 * between retries. */
void schedule_pass_again(struct sync *s);
void schedule_postpone_pass(struct sync *s);

#endif
