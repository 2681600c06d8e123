/* SPDX-License-Identifier: Apache-2.0
 * What of the source does not work, since when, and when it is tried again; and the phase that
 * follows from it. Everything here belongs to the engine's thread.
 *
 * The source is asked for several things (enum sync_job), and one may fail while the others work: a
 * poll of the change log says nothing about a damaged table. So each job has a trouble of its own
 * that only its own success ends, while any success reopens the gate, which keeps a source that
 * does not answer from being asked at once again. A job that fails again with the same words within
 * two minutes was not cured: its trouble goes on from its first beginning, is not logged again, and
 * ends only after it has worked for a while. */
#ifndef SHMETA_WRITER_ENGINE_SOURCE_HEALTH_H
#define SHMETA_WRITER_ENGINE_SOURCE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "shm/page/board.h"

struct sync;

/* Something does not work and is tried again: one try at a time, further apart, with full
 * jitter. */
struct sync_trouble {
	bool on;
	uint64_t since_ns, failed_ns, next_ns; /* failed_ns: last */
	int64_t since_s;                       /* of the wall clock */
	uint32_t attempts;
	char text[700]; /* the longest: that the store is full, with the error that says so */
	/* What fails again soon after it has worked, with the same words, has never been well: its
	 * end is believed after a while. */
	uint32_t returns;
	uint64_t works_since_ns, ended_ns; /* 0: not */
};

/* What the source is asked for. Each has a trouble of its own, which ends when the same thing works
 * again; any of them shows that the connection (OPEN) works. */
enum sync_job {
	SYNC_JOB_OPEN,  /* connecting, resuming the feed, writes, lists of objects */
	SYNC_JOB_FEED,  /* a poll of the change feed */
	SYNC_JOB_FETCH, /* keys */
	SYNC_JOB_PASS,  /* everything: shows that keys can be read, too */
	SYNC_JOBS
};

struct health {
	struct sync_trouble gate; /* on: the source is not asked before next_ns */
	struct sync_trouble job[SYNC_JOBS];
	char source_full[500]; /* the last write that the source had no room for; "": one was done
                                * since */
	int64_t source_full_s; /* when, by the wall clock */
	bool failing;          /* one of the jobs */
	uint64_t failing_since_ns;
	char phase_reason[512]; /* as the host was told */
};

/* ---- questions ---- */

static inline const struct sync_trouble *health_job(const struct health *h, enum sync_job job)
{
	return &h->job[job];
}
static inline bool health_job_on(const struct health *h, enum sync_job job)
{
	return h->job[job].on;
}
static inline uint64_t health_job_when(const struct health *h, enum sync_job job)
{
	return h->job[job].next_ns;
}
static inline const char *health_job_text(const struct health *h, enum sync_job job)
{
	return h->job[job].text;
}
static inline const char *health_source_text(const struct health *h)
{
	return h->gate.text;
}
static inline uint64_t health_source_when(const struct health *h)
{
	return h->gate.next_ns;
}
/* Of the last write that the source had no room for, and when, by the wall clock; "": one was done
 * since. */
static inline const char *health_source_full_text(const struct health *h)
{
	return h->source_full;
}
static inline int64_t health_source_full_s(const struct health *h)
{
	return h->source_full_s;
}
/* It is in trouble, and has not worked since. */
static inline bool health_job_fails(const struct health *h, enum sync_job job)
{
	return h->job[job].on && h->job[job].works_since_ns == 0;
}
/* The first job that is in trouble; NULL: none is. Connections are made for writes and polls: where
 * both are, the one that failed last knows why, because no write may be tried any more. */
static inline const struct sync_trouble *health_job_in_trouble(const struct health *h)
{
	const struct sync_trouble *open = &h->job[SYNC_JOB_OPEN], *feed = &h->job[SYNC_JOB_FEED];

	if (open->on && feed->on && feed->failed_ns > open->failed_ns)
		return feed;
	for (int job = 0; job < SYNC_JOBS; job++)
		if (h->job[job].on)
			return &h->job[job];
	return NULL;
}

/* The one that says since when. Polls and connections show the same, whether the source is there:
 * the one that failed first counts, so that a write that is tried later does not begin the outage
 * anew. */
static inline const struct sync_trouble *health_first_of(const struct health *h, const struct sync_trouble *shown)
{
	const struct sync_trouble *open = &h->job[SYNC_JOB_OPEN], *feed = &h->job[SYNC_JOB_FEED];

	if ((shown != open && shown != feed) || !open->on || !feed->on)
		return shown;
	return open->since_ns < feed->since_ns ? open : feed;
}

/* ---- troubles of the source ---- */

/* ERR_INVALID_ARGUMENT, ERR_BUSY: the source answers, but not this, or not now; any other status:
 * nothing is asked of it before a pause. */
void sync_source_failed(struct sync *s, enum sync_job job, enum shmeta_status status, const char *sentence);
/* A pass over a connection of its own failed, which says nothing about the engine's: only passes
 * pause. */
void sync_pass_failed(struct sync *s, enum shmeta_status status, const char *sentence);
void sync_source_works(struct sync *s, enum sync_job job);
/* May it be tried now? Otherwise sync_wake_at() was told. */
bool sync_job_due(struct sync *s, enum sync_job job);
/* The source is not asked, for the reason given, until health_unpaused(), which leaves it to the
 * caller to open it, and to say so. */
void health_paused(struct sync *s, const char *why);
void health_unpaused(struct sync *s);
/* The waits between retries were configured anew: none that is under way is longer. */
void health_retry_anew(struct sync *s);
/* Nobody will ask for it any more. */
void sync_job_forget(struct sync *s, enum sync_job job);
/* Troubles that have been away for long enough end. */
void health_run(struct sync *s);
void health_tell_writable(struct sync *s); /* in the log */
/* A write failed for want of room at the source, which reads as before; a write was done. */
void health_source_full(struct sync *s, const char *sentence);
void health_source_takes_writes(struct sync *s);

/* ---- phases ---- */

void sync_move(struct sync *s, enum shmeta_phase phase, const char *sentence);
/* SERVING or DEGRADED, as the troubles say, and why. */
void sync_settle_phase(struct sync *s);

/* ---- for store_health.c: the same of the store ---- */

/* Begins, or goes on: logged as `event` where the sentence is a new one; next_ns is set. */
void health_trouble(struct sync *s, struct sync_trouble *t, const char *event, const char *sentence);

#endif
