/* SPDX-License-Identifier: Apache-2.0
 * What other threads see of the engine (show.h). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "writer/keys/queue.h"
#include "writer/load/warm.h"

enum { SHOW_EVERY_MS = 100, WAITS_EVERY_MS = 5000, CLOCK_SET_S = 2 };

void show_init(struct sync *s)
{
	pthread_mutex_init(&s->show.lock, NULL);
}

void show_free(struct sync *s)
{
	pthread_mutex_destroy(&s->show.lock);
}

void sync_count_commit(struct sync *s, const struct apply *a, uint64_t began_ns)
{
	s->counters.rows_applied += a->changed;
	s->counters.rows_unchanged += a->unchanged;
	if (a->committed != s->show.last_commit) {
		s->counters.commits++;
		s->show.last_commit = a->committed;
	}
	s->counters.apply_ns += sync_now(s) - began_ns;
	if (a->changed > 0) {
		sync_measured(s, SHMETA_TIMED_COMMIT, sync_now(s) - began_ns);
		sync_tell(s, SHMETA_EVENT_COMMIT, false, a->changed, sync_now(s) - began_ns, a->committed,
		          "generation %llu, %llu rows were equal",
		          (unsigned long long)shmeta_peek(&s->board->generation), (unsigned long long)a->unchanged);
	}
}

static const char *spell_time(int64_t at_s, char ret[32])
{
	time_t at = (time_t)at_s;
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL || strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(ret, 32, "?");
	return ret;
}

/* Under the lock. Whoever compares it with the clock is to find how long it was, also when the
 * clock was set meanwhile; by less than that it is as good as the rounding. */
static void follow_the_clock(struct sync *s)
{
	int64_t since_s = sync_wall_ms(s) / 1000 - (int64_t)((sync_now(s) - s->show.away_since_ns) / SYNC_S);

	if (since_s < s->show.away_since_s - CLOCK_SET_S || since_s > s->show.away_since_s + CLOCK_SET_S)
		s->show.away_since_s = since_s;
}

static void away_since(struct sync *s, const struct sync_trouble *first)
{
	if (s->show.away_since_ns != first->since_ns)
		s->show.away_since_s = first->since_s;
	s->show.away_since_ns = first->since_ns;
}

/* The source's state in words an operator can act on. */
static void describe(struct sync *s, char *ret, size_t bytes)
{
	const struct sync_trouble *t = health_job_in_trouble(&s->health), *first;
	char when[32];

	if (t == NULL || pause_is_on(&s->pause))
		s->show.away_since_ns = 0;
	if (t == NULL) {
		const char *but = origin_is_held(s) ? accept_sentence(&s->accept) : session_feed_trouble(&s->session);
		char full[600] = "";

		if (health_source_full_text(&s->health)[0] != '\0')
			snprintf(full, sizeof full, "; it did not take the last write (%s): %s",
			         spell_time(health_source_full_s(&s->health), when),
			         health_source_full_text(&s->health));
		shmeta__say(ret, bytes, "%s%s%s%s%s", session_is_open(&s->session) ? "connected" : "not connected yet",
		            session_unwritable(&s->session, &s->options.source) ? "; it cannot be written" : "", full,
		            but[0] != '\0' ? "; " : "", but);
		return;
	}
	if (pause_is_on(&s->pause)) {
		shmeta__say(ret, bytes, "%s", t->text);
		return;
	}
	first = health_first_of(&s->health, t);
	if (t == health_job(&s->health, SYNC_JOB_OPEN) || t == health_job(&s->health, SYNC_JOB_FEED) ||
	    source_is_away(s) || !session_is_open(&s->session)) {
		shmeta__say(ret, bytes, "%s", t->text);
		away_since(s, first);
	} else {
		s->show.away_since_ns = 0;
		shmeta__say(ret, bytes, "connected, but %s since %s: %s",
		            t == health_job(&s->health, SYNC_JOB_PASS) ? "it cannot be read as a whole"
		                                                       : "not all of it can be read",
		            spell_time(first->since_s, when), t->text);
	}
}

/* Of the last ten seconds, which begin anew every five. */
static void show_postponed(struct sync *s, uint64_t now)
{
	struct sync_counters *c = &s->counters;
	struct show_waits *last = s->show.waits;

	if (last[1].at_ns == 0 || now - last[1].at_ns >= WAITS_EVERY_MS * SYNC_MS) {
		last[0] = last[1];
		last[1] = (struct show_waits){now, c->postponed_ns};
	}
	c->postponed = last[0].at_ns == 0 || now == last[0].at_ns
	                       ? 0
	                       : (c->postponed_ns - last[0].postponed_ns) * 100 / (now - last[0].at_ns);
}

/* 0: by less than a second, or that is not known. */
static int64_t clock_ahead_ms(struct sync *s)
{
	const struct backend_source *source = s->engine->source;

	return session_is_open(&s->session) && source->clock_ahead_ms != NULL
	               ? source->clock_ahead_ms(s->backend, sync_wall_ms(s))
	               : 0;
}

void sync_show_clock(struct sync *s)
{
	/* While the source is away its clock goes on as it was. */
	if (s->gen != NULL && session_is_open(&s->session))
		shmeta_poke(&s->gen->source_ahead_ms, clock_ahead_ms(s));
}

static uint64_t clock_off_ns(struct sync *s)
{
	int64_t ms = clock_ahead_ms(s);
	uint64_t off = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;

	return off < UINT64_MAX / SYNC_MS ? off * SYNC_MS : UINT64_MAX;
}

void sync_show(struct sync *s)
{
	struct sync_counters *c = &s->counters;
	struct backend_counters source;
	uint64_t now = sync_now(s);

	session_counters(&s->session, s->engine, s->backend, &source);
	c->source_queries = source.queries;
	c->source_rows = source.rows;
	c->read_units_load = source.read_units_load;
	c->read_units_fetch = source.read_units_fetch;
	c->read_units_feed = source.read_units_feed;
	c->read_units_write = source.read_units_write;
	c->write_units = source.write_units;
	c->throttled = source.throttled;
	c->postponed_ns = source.postponed_ns + query_budget_waited_ns(&s->query_budget, now);
	show_postponed(s, now);
	c->source_clock_off_ns = clock_off_ns(s);
	sync_show_clock(s);
	warm_count(s, c);
	c->store_limit = s->gen != NULL ? s->gen->max_bytes : s->options.store_max_bytes;
	if (s->store != NULL && s->apply.txn == NULL) {
		const struct shmeta_store_counters *stored = shmeta__store_counters(s->store);

		c->topics = stored->topics;
		c->partitions = stored->partitions;
		c->segments = stored->segments;
		c->quarantined = stored->quarantined;
	}
	s->show.shown_ns = now;
	pthread_mutex_lock(&s->show.lock);
	s->show.counters = *c;
	measured_read(&s->measured, s->show.times);
	s->show.feed_at_ns = stamps_told_until(&s->stamps);
	describe(s, s->show.source, sizeof s->show.source);
	pthread_mutex_unlock(&s->show.lock);
}

void sync_show_now_and_then(struct sync *s)
{
	if (sync_now(s) >= s->show.shown_ns + SHOW_EVERY_MS * SYNC_MS)
		sync_show(s);
}

void sync_read_counters(struct sync *s, struct sync_counters *ret)
{
	pthread_mutex_lock(&s->show.lock);
	*ret = s->show.counters;
	uint64_t feed_at = s->show.feed_at_ns;

	pthread_mutex_unlock(&s->show.lock);
	/* The queue's move between the engine's rounds, too. */
	queue_count(s, ret);
	uint64_t now = sync_now(s);

	ret->lag_ns = feed_at == 0 || now < feed_at ? 0 : now - feed_at;
}

void sync_read_times(struct sync *s, struct shmeta_times ret[SHMETA_TIMED_COUNT])
{
	pthread_mutex_lock(&s->show.lock);
	memcpy(ret, s->show.times, sizeof s->show.times);
	pthread_mutex_unlock(&s->show.lock);
}

void sync_source_status(struct sync *s, char *ret, size_t bytes)
{
	char when[32];

	if (bytes == 0)
		return;
	pthread_mutex_lock(&s->show.lock);
	if (s->show.away_since_ns != 0) {
		follow_the_clock(s);
		shmeta__say(ret, bytes, "away since %s: %s", spell_time(s->show.away_since_s, when), s->show.source);
	} else {
		snprintf(ret, bytes, "%s", s->show.source);
	}
	pthread_mutex_unlock(&s->show.lock);
}
