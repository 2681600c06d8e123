/* SPDX-License-Identifier: Apache-2.0
 * What other threads see of the engine: counters, and the state of the source in words. */
#include <stdio.h>
#include <time.h>

#include "writer/keys/queue.h"

enum { SHOW_EVERY_MS = 100 };

void sync_count_commit(struct sync *s, const struct apply *a, uint64_t began_ns)
{
	s->counters.rows_applied += a->changed;
	s->counters.rows_unchanged += a->unchanged;
	if (a->committed != s->last_commit) {
		s->counters.commits++;
		s->last_commit = a->committed;
	}
	s->counters.apply_ns += sync_now(s) - began_ns;
}

static const char *spell_time(int64_t at_s, char ret[32])
{
	time_t at = (time_t)at_s;
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL || strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(ret, 32, "?");
	return ret;
}

/* The source's state in words an operator can act on. */
static void describe(struct sync *s, char *ret, size_t bytes)
{
	const struct sync_trouble *t = state_job_in_trouble(s);
	char when[32];

	if (t == NULL) {
		const char *but = origin_is_held(s) ? s->accept.sentence : s->feed_trouble;
		char full[600] = "";

		if (s->source_full[0] != '\0')
			snprintf(full, sizeof full, "; it did not take the last write (%s): %s",
			         spell_time(s->source_full_s, when), s->source_full);
		shmeta__say(ret, bytes, "%s%s%s%s%s", s->source_open ? "connected" : "not connected yet",
		            state_unwritable(s) ? "; it cannot be written" : "", full, but[0] != '\0' ? "; " : "", but);
		return;
	}
	if (s->pause.on) {
		shmeta__say(ret, bytes, "%s", t->text);
		return;
	}
	spell_time(t->since_s, when);
	if (t == &s->job[SYNC_JOB_OPEN] || t == &s->job[SYNC_JOB_FEED] || s->source.on || !s->source_open)
		shmeta__say(ret, bytes, "away since %s: %s", when, t->text);
	else
		shmeta__say(ret, bytes, "connected, but %s since %s: %s",
		            t == &s->job[SYNC_JOB_PASS] ? "it cannot be read as a whole" : "not all of it can be read",
		            when, t->text);
}

void sync_show(struct sync *s)
{
	struct sync_counters *c = &s->counters;
	struct backend_counters source = s->counted;
	uint64_t now = sync_now(s);

	if (s->source_open) {
		struct backend_counters now_open = {0};

		s->engine->source->counters(s->backend, &now_open);
		source.queries += now_open.queries;
		source.rows += now_open.rows;
	}
	c->source_queries = source.queries;
	c->source_rows = source.rows;
	c->store_limit = s->gen != NULL ? s->gen->max_bytes : s->options.store_max_bytes;
	if (s->store != NULL && s->apply.txn == NULL) {
		const struct shmeta_store_counters *stored = shmeta__store_counters(s->store);

		c->topics = stored->topics;
		c->partitions = stored->partitions;
		c->segments = stored->segments;
		c->quarantined = stored->quarantined;
	}
	s->shown_ns = now;
	pthread_mutex_lock(&s->seen_lock);
	s->seen_counters = *c;
	s->seen_feed_at_ns = s->feed_at_ns;
	describe(s, s->seen_source, sizeof s->seen_source);
	pthread_mutex_unlock(&s->seen_lock);
}

void sync_show_now_and_then(struct sync *s)
{
	if (sync_now(s) >= s->shown_ns + SHOW_EVERY_MS * SYNC_MS)
		sync_show(s);
}

void sync_read_counters(struct sync *s, struct sync_counters *ret)
{
	pthread_mutex_lock(&s->seen_lock);
	*ret = s->seen_counters;
	uint64_t feed_at = s->seen_feed_at_ns;

	pthread_mutex_unlock(&s->seen_lock);
	/* The queue's move between the engine's rounds, too. */
	queue_count(s, ret);
	uint64_t now = sync_now(s);

	ret->lag_ns = feed_at == 0 || now < feed_at ? 0 : now - feed_at;
}

void sync_source_status(struct sync *s, char *ret, size_t bytes)
{
	if (bytes == 0)
		return;
	pthread_mutex_lock(&s->seen_lock);
	snprintf(ret, bytes, "%s", s->seen_source);
	pthread_mutex_unlock(&s->seen_lock);
}
