/* SPDX-License-Identifier: Apache-2.0
 * Troubles of the source, back-off, and the phase (source_health.h). */
#include <stdio.h>
#include <syslog.h>
#include <time.h>

#include "writer/engine/engine.h"
#include "writer/engine/phase.h"
#include "writer/keys/refresh.h"

enum { RETURN_S = 120, WATCH_MAX_S = 60 };

/* ---- phases ---- */

static void tell_phase(struct sync *s, enum shmeta_phase phase, const char *reason)
{
	snprintf(s->health.phase_reason, sizeof s->health.phase_reason, "%s", reason);
	s->host.phase(s->host.arg, phase, reason);
}

void sync_move(struct sync *s, enum shmeta_phase phase, const char *reason)
{
	enum shmeta_phase from = phase_of(s->board);

	switch (phase_move(s->board, phase, sync_now(s))) {
	case PHASE_MOVED:
		tell_phase(s, phase, reason);
		break;
	case PHASE_THERE:
		if (strcmp(s->health.phase_reason, reason) != 0)
			tell_phase(s, phase, reason);
		break;
	case PHASE_REFUSED:
		/* The loop has been told to stop in the meantime. */
		if (phase_of(s->board) < SHMETA_PHASE_DRAINING)
			sync_log(s, LOG_ERR, "phase", "a move from %s to %s is not foreseen and was not made",
			         phase_name(from), phase_name(phase));
		break;
	}
}

void sync_settle_phase(struct sync *s)
{
	const struct sync_trouble *job = health_job_in_trouble(&s->health);

	if (job != NULL)
		sync_move(s, SHMETA_PHASE_DEGRADED, job->text);
	else if (!store_takes(s))
		sync_move(s, SHMETA_PHASE_DEGRADED, store_health_text(&s->store_health));
	else if (origin_is_foreign(s) && s->store != NULL)
		sync_move(s, SHMETA_PHASE_DEGRADED, accept_sentence(&s->accept));
	else if (s->store != NULL)
		sync_move(s, SHMETA_PHASE_SERVING, "serving");
}

/* ---- troubles ---- */

/* Full jitter: anywhere between the least wait and a limit that doubles. */
static void back_off(struct sync *s, struct sync_trouble *t)
{
	uint64_t least = s->options.retry_min_ms * SYNC_MS, most = s->options.retry_max_ms * SYNC_MS;
	/* the least is a minute at most: 36 bits */
	uint64_t limit = t->attempts < 27 ? least << t->attempts : most;

	if (limit > most || limit < least)
		limit = most;
	t->attempts++;
	t->next_ns = sync_now(s) + least + sync_jitter(s, limit - least, 0, 1000);
	sync_wake_at(s, t->next_ns);
}

static void retry_within(struct sync *s, struct sync_trouble *t)
{
	uint64_t least = s->options.retry_min_ms * SYNC_MS, most = s->options.retry_max_ms * SYNC_MS;

	/* A pause ends when it is told to. */
	if (t->on && t->next_ns != SYNC_NEVER && t->next_ns > sync_now(s) + most)
		t->next_ns = sync_now(s) + least + sync_jitter(s, most - least, 0, 1000);
}

void health_retry_anew(struct sync *s)
{
	retry_within(s, &s->health.gate);
	for (int job = 0; job < SYNC_JOBS; job++)
		retry_within(s, &s->health.job[job]);
}

static void is_on(struct sync *s, struct sync_trouble *t)
{
	t->on = true;
	t->since_ns = sync_now(s);
	t->since_s = sync_wall_ms(s) / 1000;
}

static void begins(struct sync *s, struct sync_trouble *t)
{
	is_on(s, t);
	t->attempts = t->returns = 0;
	t->text[0] = '\0';
}

void health_trouble(struct sync *s, struct sync_trouble *t, const char *event, const char *sentence)
{
	uint64_t now = sync_now(s);
	bool same = strcmp(t->text, sentence) == 0;

	if (!t->on && t->ended_ns > 0 && now < t->ended_ns + RETURN_S * SYNC_S && same) {
		/* its end was told: this is another outage, though not one to trust the end of */
		is_on(s, t);
		t->returns++;
	} else if (!t->on) {
		begins(s, t);
		same = false;
	} else if (t->works_since_ns > 0) {
		t->returns++;
	}
	t->works_since_ns = 0;
	t->failed_ns = now;
	if (!same)
		sync_log(s, LOG_WARNING, event, "%s", sentence);
	shmeta__say(t->text, sizeof t->text, "%s", sentence);
	back_off(s, t);
}

/* How long what came back has to stay away until its end is believed. */
static uint64_t watch_ns(const struct sync_trouble *t)
{
	uint64_t s = t->returns == 0 ? 0 : t->returns < 6 ? 1ull << t->returns : WATCH_MAX_S;

	return (s < WATCH_MAX_S ? s : WATCH_MAX_S) * SYNC_S;
}

static void works(struct sync *s, struct sync_trouble *t)
{
	uint64_t now = sync_now(s);

	if (!t->on)
		return;
	if (t->works_since_ns == 0)
		t->works_since_ns = now;
	if (now < t->works_since_ns + watch_ns(t)) {
		t->next_ns = now;
		sync_wake_at(s, t->works_since_ns + watch_ns(t));
		return;
	}
	t->on = false;
	t->attempts = 0;
	t->works_since_ns = 0;
	t->ended_ns = now;
}

static void settle_source(struct sync *s)
{
	bool failing = health_job_in_trouble(&s->health) != NULL;
	uint64_t now = sync_now(s);

	if (failing && !s->health.failing)
		s->health.failing_since_ns = now;
	if (!failing && s->health.failing)
		sync_log(s, LOG_NOTICE, "source_back", "the source answers again after %llu s",
		         (unsigned long long)((now - s->health.failing_since_ns) / SYNC_S));
	s->health.failing = failing;
	sync_settle_phase(s);
	sync_show(s);
}

static void job_failed(struct sync *s, enum sync_job job, const char *sentence)
{
	s->counters.source_errors++;
	health_trouble(s, &s->health.job[job], "source_away", sentence);
}

void sync_pass_failed(struct sync *s, enum shmeta_status status, const char *sentence)
{
	job_failed(s, SYNC_JOB_PASS, sentence[0] != '\0' ? sentence : shmeta_strerror(status));
	settle_source(s);
}

void sync_source_failed(struct sync *s, enum sync_job job, enum shmeta_status status, const char *sentence)
{
	struct sync_trouble *gate = &s->health.gate;

	if (sentence[0] == '\0')
		sentence = shmeta_strerror(status);
	job_failed(s, job, sentence);
	if (status != SHMETA_ERR_INVALID_ARGUMENT && status != SHMETA_ERR_BUSY) {
		if (!gate->on)
			begins(s, gate);
		shmeta__say(gate->text, sizeof gate->text, "%s", sentence);
		back_off(s, gate);
		if (job != SYNC_JOB_FEED) /* otherwise they are still tried */
			refresh_answer_all(s, SHMETA_ERR_SOURCE, gate->text);
	}
	settle_source(s);
}

void sync_source_works(struct sync *s, enum sync_job job)
{
	bool was_closed = source_is_away(s);

	s->health.gate.on = false;
	if (!was_closed && !s->health.failing)
		return;
	/* What has failed with the polls is tried again with them. */
	if (job == SYNC_JOB_FEED && health_job_on(&s->health, job) && s->health.job[job].works_since_ns == 0)
		s->health.job[SYNC_JOB_FETCH].next_ns = sync_now(s);
	works(s, &s->health.job[SYNC_JOB_OPEN]);
	works(s, &s->health.job[job]);
	if (job == SYNC_JOB_PASS) {
		works(s, &s->health.job[SYNC_JOB_FETCH]);
		/* The feed was not asked. */
		s->health.job[SYNC_JOB_FEED].next_ns = sync_now(s);
	}
	settle_source(s);
}

void health_paused(struct sync *s, const char *why)
{
	struct sync_trouble *both[] = {&s->health.gate, &s->health.job[SYNC_JOB_OPEN]};

	for (size_t i = 0; i < 2; i++) {
		begins(s, both[i]);
		both[i]->next_ns = SYNC_NEVER;
		both[i]->works_since_ns = 0;
		both[i]->failed_ns = UINT64_MAX; /* what fails beside it is of no interest */
		shmeta__say(both[i]->text, sizeof both[i]->text, "%s", why);
	}
	s->health.failing = false; /* its end is not told as that of an outage */
	sync_show(s);              /* the phase is shown with the reason of it */
	sync_settle_phase(s);
}

void health_unpaused(struct sync *s)
{
	s->health.gate.on = s->health.job[SYNC_JOB_OPEN].on = false;
	sync_wake_at(s, sync_now(s));
}

bool sync_job_due(struct sync *s, enum sync_job job)
{
	const struct sync_trouble *t = &s->health.job[job];

	if (!t->on || sync_now(s) >= t->next_ns)
		return true;
	sync_wake_at(s, t->next_ns);
	return false;
}

void sync_job_forget(struct sync *s, enum sync_job job)
{
	if (!s->health.job[job].on)
		return;
	s->health.job[job].on = false;
	settle_source(s);
}

void health_run(struct sync *s)
{
	bool ended = false;

	for (int job = 0; job < SYNC_JOBS; job++)
		if (s->health.job[job].on && s->health.job[job].works_since_ns > 0) {
			works(s, &s->health.job[job]);
			ended |= !s->health.job[job].on;
		}
	if (ended)
		settle_source(s);
}

/* ---- in words ---- */

void health_tell_writable(struct sync *s)
{
	if (session_unwritable(&s->session, &s->options.source))
		sync_log(s, LOG_WARNING, "source_read_only",
		         "the source cannot be written, although source.read_only is off: writes fail");
	else
		sync_log(s, LOG_NOTICE, "source_writable", "the source can be written again");
}

void health_source_full(struct sync *s, const char *sentence)
{
	bool known = s->health.source_full[0] != '\0';

	s->counters.source_errors++;
	s->health.source_full_s = sync_wall_ms(s) / 1000;
	shmeta__say(s->health.source_full, sizeof s->health.source_full, "%s", sentence);
	if (!known)
		sync_log(s, LOG_WARNING, "source_full",
		         "the source does not take what is written: %s; writes are refused until it does, reads go on",
		         sentence);
	sync_show(s);
}

void health_source_takes_writes(struct sync *s)
{
	if (s->health.source_full[0] == '\0')
		return;
	s->health.source_full[0] = '\0';
	sync_log(s, LOG_NOTICE, "source_room", "the source takes writes again");
	sync_show(s);
}
