/* SPDX-License-Identifier: Apache-2.0
 * Following the source: the feed is asked, and what it and readers name is brought over batch by
 * batch (batch.c). */
#include <stdio.h>
#include <syslog.h>

#include "writer/engine/failing.h"
#include "writer/keys/queue.h"
#include "writer/keys/reread.h"

enum {
	FEED_KEYS_MIN = 100000
}; /* so many changed keys, or refresh_queue_max if that is more: a full pass is cheaper */

/* ---- the feed ---- */

struct poll {
	struct sync *s;
	uint64_t born_since;
	bool list, no_memory;
	char why[200]; /* list */
};

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	struct poll *poll = arg;
	struct sync *s = poll->s;
	struct want want = {.feed = true};

	s->counters.changes++;
	if (key->cls == SHMETA_CLASS_LIST) {
		if (!poll->list)
			(void)snprintf(
				poll->why, sizeof poll->why, "%.*s",
				(int)(key->name.bytes < sizeof poll->why ? key->name.bytes : sizeof poll->why - 1),
				key->name.bytes > 0 ? (const char *)key->name.data : "");
		poll->list = true;
		return SHMETA_OK;
	}
	struct identity id = queue_identity_of_key(key);

	if ((id.kind <= ENTRY_PART && id.topic.bytes == 0) || id.topic.bytes > SHMETA_NAME_MAX ||
	    id.tenant.bytes > SHMETA_TENANT_MAX || id.name.bytes > SHMETA_NAME_MAX) {
		/* such a row is quarantined by the next read of all of its class */
		return SHMETA_OK;
	}
	want.deleted = key->cls == SHMETA_CLASS_TOPIC && key->deleted;
	/* A reader's refresh may have read this incarnation between the two polls: then the delete
	 * is old news. */
	want.born_since = want.deleted ? poll->born_since : 0;
	want.segments = want.deleted || (key->cls == SHMETA_CLASS_TOPIC && key->with_segments);
	if (key->cls == SHMETA_CLASS_SEGMENT)
		queue_add_range(&want, key->from, key->to > SYNC_LAST_OFFSET ? SYNC_LAST_OFFSET : key->to);

	pthread_mutex_lock(&s->queue->lock);
	if (id.kind <= ENTRY_PART)
		absent_forget(&s->queue->absent, queue_name_hash(id.tenant, id.topic), id.tenant, id.topic);
	if (queue_want(s->queue, &id, &want) == NULL)
		poll->no_memory = true;
	pthread_mutex_unlock(&s->queue->lock);
	return SHMETA_OK;
}

bool refresh_note_own(struct sync *s, const struct backend_key *key)
{
	/* Every incarnation that has a number by now is older than the delete. */
	struct poll poll = {.s = s, .born_since = shmeta__store_counters(s->store)->next_topic_id};

	(void)on_changed(&poll, key);
	if (poll.list)
		schedule_ask_pass(s, true, "a write changed what is not known by keys");
	else
		failing_unlocked(s, key);
	return !poll.no_memory;
}

static void poll_history(void *arg, const char *sentence)
{
	struct sync *s = ((struct poll *)arg)->s;

	/* Another source has another fingerprint, which says so by itself. */
	accept_changed(s, shmeta__store_format(s->store)->fingerprint == s->engine->source->fingerprint(s->backend),
	               sentence);
}

void refresh_bound_feed(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	size_t keys = s->queue->feed_keys;

	pthread_mutex_unlock(&s->queue->lock);
	if (keys > (s->options.refresh_queue_max > FEED_KEYS_MIN ? s->options.refresh_queue_max : FEED_KEYS_MIN)) {
		sync_log(s, LOG_INFO, "feed_overflow", "%zu keys have changed: reading everything instead", keys);
		schedule_ask_pass(s, true, "so many keys had changed");
		refresh_forget_feed(s);
	}
}

bool refresh_poll(struct sync *s)
{
	struct poll poll = {.s = s, .born_since = stamps_born_since(&s->stamps)};
	const struct backend_sink sink = {.arg = &poll, .changed = on_changed, .history = poll_history};
	struct backend_error err = {0};
	uint64_t began = sync_now(s), named = s->counters.changes;
	uint64_t lag_ns = 0;
	int changed = 0;

	uint64_t next_topic_id = shmeta__store_counters(s->store)->next_topic_id;

	s->counters.polls++;
	enum shmeta_status status = s->engine->feed->changes(s->backend, &sink, &changed, &lag_ns, &err);

	if (status != SHMETA_OK || changed != 0)
		sync_tell(s, SHMETA_EVENT_FEED, status != SHMETA_OK, s->counters.changes - named, sync_now(s) - began,
		          0, "%s", status != SHMETA_OK ? err.text : "it was asked what has changed");
	if (status != SHMETA_OK) {
		sync_source_failed(s, SYNC_JOB_FEED, status, err.text);
		return false;
	}
	sync_source_works(s, SYNC_JOB_FEED);
	stamps_feed_told(s, began, lag_ns, next_topic_id, s->counters.changes > named);
	schedule_polled(s, began, changed != 0, lag_ns);
	(void)session_look_for_feed(s);
	if (poll.list || poll.no_memory) {
		bool passing = s->in_pass && !feed_in_step(s); /* it reads them, too */

		schedule_ask_pass(s, true,
		                  poll.no_memory        ? "there was no memory for the keys that had changed"
		                  : poll.why[0] != '\0' ? poll.why
		                                        : "the source told that anything may have changed");
		/* What changed is not known by name, but the advisory classes are small. */
		if (!passing)
			reread_advisory(s, false);
	}
	refresh_bound_feed(s);
	return true;
}

bool refresh_meet(struct sync *s)
{
	bool told = refresh_poll(s);

	generation_judge(s);
	return told && !source_is_away(s) && !origin_is_foreign(s);
}
