/* SPDX-License-Identifier: Apache-2.0
 * A pause (pause.h): the store stays as it is, the source is not looked at and has no connection of
 * ours, as while it is restored. It counts as away, for the reason that was given, so everything
 * that would ask it is refused with that reason. The end is like a start: the session is opened
 * anew and judged, and the feed goes on where the store's ended. */
#include <stdio.h>
#include <syslog.h>

#include "writer/engine/engine.h"

void pause_init(struct sync *s)
{
	pthread_mutex_init(&s->pause.lock, NULL);
}

void pause_free(struct sync *s)
{
	pthread_mutex_destroy(&s->pause.lock);
}

enum shmeta_status sync_pause(struct sync *s, const char *why, uint64_t ticket)
{
	enum shmeta_status status = SHMETA_OK;

	pthread_mutex_lock(&s->pause.lock);
	if (s->pause.asked)
		status = SHMETA_ERR_BUSY;
	else if (why == NULL && !s->pause.seen)
		status = SHMETA_ERR_NOT_FOUND;
	if (status == SHMETA_OK) {
		s->pause.asked = true;
		s->pause.resume = why == NULL;
		s->pause.seen = why != NULL;
		s->pause.ticket = ticket;
		snprintf(s->pause.why, sizeof s->pause.why, "%s", why != NULL ? why : "");
	}
	pthread_mutex_unlock(&s->pause.lock);
	if (status == SHMETA_OK)
		sync_wake(s);
	return status;
}

bool pause_asked(struct sync *s)
{
	bool asked;

	pthread_mutex_lock(&s->pause.lock);
	asked = s->pause.asked;
	pthread_mutex_unlock(&s->pause.lock);
	return asked;
}

bool sync_pause_is_due(struct sync *s)
{
	return pause_asked(s);
}

void pause_begin(struct sync *s)
{
	s->pause.on = s->pause.seen = true;
	sync_log(s, LOG_NOTICE, "paused", "%s", s->options.paused);
	health_paused(s, s->options.paused);
	s->options.paused = NULL; /* the caller's */
}

void pause_take(struct sync *s)
{
	char why[sizeof s->pause.why];
	uint64_t ticket;
	bool resume;

	if (!pause_asked(s))
		return;
	pthread_mutex_lock(&s->pause.lock);
	resume = s->pause.resume;
	ticket = s->pause.ticket;
	snprintf(why, sizeof why, "%s", s->pause.why);
	s->pause.asked = false;
	pthread_mutex_unlock(&s->pause.lock);
	if (resume) {
		s->pause.on = false;
		sync_log(s, LOG_NOTICE, "resumed", "the source is looked at again");
		health_unpaused(s);
		/* Whoever asked, and looks then, finds it connected, or the reason why it is
		 * not. */
		(void)session_ready(s);
		sync_show(s);
		sync_settle_phase(s);
	} else {
		/* What was taken to the source is read back first. */
		if (s->store != NULL)
			write_drain(s);
		s->pause.on = true;
		session_close(s);
		sync_log(s, LOG_NOTICE, "paused", "%s", why);
		health_paused(s, why);
	}
	s->host.answer(s->host.arg, ticket, SHMETA_OK, resume ? "resumed" : why, 0, 0, 0);
}
