/* SPDX-License-Identifier: Apache-2.0
 * The source is no longer the one, or no longer on the course, that the store was filled from: what
 * it shows now is read into a generation of its own and compared with the current one by key,
 * before anybody sees it. When more than half of the topics or of the partitions is missing, the
 * generation is thrown away and the source is held: the old content is served with its age, and
 * what needs the source is refused, until an operator consents to the fingerprint, or the source is
 * the old one again.
 *
 * Nothing of this is kept on its own: after a restart the store's format and feed position tell
 * again what it was filled from. */
#include <inttypes.h>
#include <stdio.h>
#include <syslog.h>

#include "base/escape.h"
#include "writer/engine/engine.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { LOAD_SHARE = 10, RELOAD_S = 300 };

void accept_init(struct sync *s)
{
	pthread_mutex_init(&s->accept.lock, NULL);
}

void accept_free(struct sync *s)
{
	pthread_mutex_destroy(&s->accept.lock);
}

/* What consent is given to: this source in place of the one of this generation, once. 0: never. */
static uint64_t fingerprint_of(struct sync *s)
{
	const struct {
		uint64_t now, before, generation, course;
	} what = {s->engine->source->fingerprint(s->backend), shmeta__store_format(s->store)->fingerprint,
	          shmeta__store_number(s->store), origin_is_course(s)};
	uint64_t hash = XXH3_64bits(&what, sizeof what);

	return hash != 0 ? hash : 1;
}

static bool consented(struct sync *s)
{
	uint64_t fingerprint = fingerprint_of(s);

	pthread_mutex_lock(&s->accept.lock);
	bool yes = s->accept.consent == fingerprint || s->options.accept == fingerprint;

	pthread_mutex_unlock(&s->accept.lock);
	return yes;
}

static void show(struct sync *s)
{
	const struct accept *a = &s->accept;

	pthread_mutex_lock(&s->accept.lock);
	s->accept.seen = (struct sync_held){.held = origin_is_held(s),
	                                    .fingerprint = origin_is_foreign(s) && s->store != NULL &&
	                                                                   session_is_open(&s->session)
	                                                           ? fingerprint_of(s)
	                                                           : 0,
	                                    .topics = a->topics,
	                                    .topics_lost = a->topics_lost,
	                                    .partitions = a->partitions,
	                                    .partitions_lost = a->partitions_lost};
	snprintf(s->accept.seen.sentence, sizeof s->accept.seen.sentence, "%s", a->sentence);
	pthread_mutex_unlock(&s->accept.lock);
}

void accept_changed(struct sync *s, bool course, const char *sentence)
{
	if (origin_is_foreign(s) && origin_is_course(s) == course)
		return;
	sync_log(s, LOG_NOTICE, "source_changed", "%s: reading all of it before any of it is published", sentence);
	origin_changed(s, course);
	feed_gone(s);
	snprintf(s->accept.sentence, sizeof s->accept.sentence, "%s; what is there now is being read", sentence);
	show(s);
	sync_wake_at(s, sync_now(s));
}

static void ends(struct sync *s)
{
	origin_move(s, ORIGIN_SAME);
	s->accept.sentence[0] = '\0';
	s->accept.topics = s->accept.topics_lost = s->accept.partitions = s->accept.partitions_lost = 0;
	pthread_mutex_lock(&s->accept.lock);
	s->accept.consent = 0;
	pthread_mutex_unlock(&s->accept.lock);
	show(s);
}

void accept_published(struct sync *s)
{
	ends(s);
}

/* ---- comparing ---- */

/* The number in `next` of the topic that has number id in `old`. */
static enum shmeta_status number_in(struct shmeta__txn *old, struct shmeta__txn *next, uint32_t id, uint32_t *ret,
                                    struct shmeta_err *err)
{
	struct shmeta_str tenant, name;
	struct shmeta_topic topic;
	enum shmeta_status status = apply_topic_name(old, id, &tenant, &name, err);

	if (status == SHMETA_OK)
		status = apply_topic_get(next, tenant, name, &topic, NULL, err);
	if (status == SHMETA_OK)
		*ret = topic.topic_id;
	return status;
}

static enum shmeta_status compare_topics(struct accept *a, struct shmeta__txn *old, struct shmeta__txn *next,
                                         struct shmeta_err *err)
{
	struct shmeta__cursor *cursor;
	const void *key, *value;
	size_t key_bytes, bytes;
	enum shmeta_status status = shmeta__cursor_open(old, SHMETA_DB_TOPICS, NULL, 0, &cursor, err);

	if (status != SHMETA_OK)
		return status;
	while (status >= 0 &&
	       (status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err)) == SHMETA_OK) {
		uint64_t id;
		uint32_t number;

		memcpy(&id, key, sizeof id);
		status = number_in(old, next, (uint32_t)id, &number, err);
		a->topics++;
		a->topics_lost += status == SHMETA_ABSENT;
	}
	shmeta__cursor_close(cursor);
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status compare_partitions(struct accept *a, struct shmeta__txn *old, struct shmeta__txn *next,
                                             struct shmeta_err *err)
{
	struct shmeta__cursor *cursor;
	const void *key, *value;
	size_t key_bytes, bytes;
	uint32_t topic = 0, number = 0;
	bool there = false;
	enum shmeta_status status = shmeta__cursor_open(old, SHMETA_DB_PARTS, NULL, 0, &cursor, err);

	if (status != SHMETA_OK)
		return status;
	while (status >= 0 &&
	       (status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err)) == SHMETA_OK) {
		uint64_t part;

		memcpy(&part, key, sizeof part);
		if ((uint32_t)(part >> 32) != topic) {
			topic = (uint32_t)(part >> 32);
			status = number_in(old, next, topic, &number, err);
			there = status == SHMETA_OK;
		}
		part = shmeta__part_key(number, (uint32_t)part);
		if (there)
			status = shmeta__get(next, SHMETA_DB_PARTS, &part, sizeof part, &value, &bytes, err);
		a->partitions++;
		a->partitions_lost += !there || status == SHMETA_ABSENT;
	}
	shmeta__cursor_close(cursor);
	return status < 0 ? status : SHMETA_OK;
}

static enum shmeta_status compare(struct accept *a, struct shmeta__store *old, struct shmeta__store *next,
                                  struct shmeta_err *err)
{
	struct shmeta__txn *before = NULL, *after = NULL;
	enum shmeta_status status = shmeta__txn_read(old, &before, err);

	a->topics = a->topics_lost = a->partitions = a->partitions_lost = 0;
	if (status == SHMETA_OK)
		status = shmeta__txn_read(next, &after, err);
	if (status == SHMETA_OK)
		status = compare_topics(a, before, after, err);
	/* A bounded store has few of the partitions that the source has. */
	if (status == SHMETA_OK && (shmeta__store_counters(next)->incomplete >> SHMETA_CLASS_PARTITION & 1) == 0)
		status = compare_partitions(a, before, after, err);
	shmeta__txn_abort(after);
	shmeta__txn_abort(before);
	return status;
}

/* ---- judging ---- */

static void hold(struct sync *s, const char *lacks)
{
	struct accept *a = &s->accept;
	const struct shmeta_store_format *format = shmeta__store_format(s->store);
	char sentence[sizeof a->sentence], now[120], before[120], whole[4400];

	s->engine->source->describe(s->backend, whole, sizeof whole);
	shmeta__say(now, sizeof now, "%s", whole);
	shmeta__escape(whole, sizeof whole, format->source, strnlen(format->source, sizeof format->source));
	shmeta__say(before, sizeof before, "%s", whole);
	shmeta__say(sentence, sizeof sentence,
	            "not accepted: %s, and %s; consent with 'shmetactl accept-source', or source.accept = %016" PRIx64
	            " (now %s; before %s)",
	            origin_is_course(s) ? "the source went back to another state" : "the source is another one", lacks,
	            fingerprint_of(s), now, before);
	if (!origin_is_held(s) || strcmp(sentence, a->sentence) != 0)
		sync_log(s, LOG_ERR, "source_held", "%s", sentence);
	snprintf(a->sentence, sizeof a->sentence, "%s", sentence);
	origin_held(s);
	a->changed = false;
}

bool accept_judge(struct sync *s, struct shmeta__store *next, uint64_t took_ns)
{
	struct accept *a = &s->accept;
	uint64_t now = sync_now(s), rest = s->options.retry_max_ms * SYNC_MS;
	struct shmeta_err err = {.code = SHMETA_OK};
	char lacks[200];

	if (s->store == NULL || !origin_is_foreign(s))
		return true;
	enum shmeta_status status = compare(a, s->store, next, &err);

	if (consented(s)) {
		sync_log(s, LOG_NOTICE, "source_accepted",
		         "accepted the source by consent to %016" PRIx64 "; it lacks %" PRIu64 " of %" PRIu64
		         " topics and %" PRIu64 " of %" PRIu64 " partitions",
		         fingerprint_of(s), a->topics_lost, a->topics, a->partitions_lost, a->partitions);
		return true;
	}
	if (status == SHMETA_OK && 2 * a->topics_lost <= a->topics && 2 * a->partitions_lost <= a->partitions)
		return true;
	if (status == SHMETA_OK)
		snprintf(lacks, sizeof lacks,
		         "it lacks %" PRIu64 " of %" PRIu64 " topics and %" PRIu64 " of %" PRIu64 " partitions",
		         a->topics_lost, a->topics, a->partitions_lost, a->partitions);
	else
		snprintf(lacks, sizeof lacks, "it cannot be compared with the store: %.120s", err.text);
	hold(s, lacks);
	if (rest < LOAD_SHARE * took_ns)
		rest = LOAD_SHARE * took_ns;
	a->load_due_ns = now + rest;
	a->reload_ns = now + (rest > RELOAD_S * SYNC_S ? rest : RELOAD_S * SYNC_S);
	a->look_due_ns = now + s->options.poll_max_ms * SYNC_MS;
	sync_wake_at(s, a->look_due_ns);
	show(s);
	sync_settle_phase(s);
	return false;
}

/* ---- while it is held ---- */

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	struct sync *s = arg;

	(void)key;
	s->accept.changed = true;
	return SHMETA_OK;
}

static void on_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	(void)arg;
	(void)row;
	(void)sentence;
}

/* Is the source the one again that the store was filled from? */
static bool came_back(struct sync *s)
{
	struct backend_error err = {0};
	size_t bytes;
	const uint8_t *position;

	if (!session_is_open(&s->session) || s->store == NULL ||
	    shmeta__store_format(s->store)->fingerprint != s->engine->source->fingerprint(s->backend))
		return false;
	saved_feed_read(s);
	position = saved_feed_position(s, &bytes);
	/* Of an identity the fingerprint is proof; of a course only the position is. */
	if (origin_is_course(s) && (bytes == 0 || s->engine->feed == NULL ||
	                            s->engine->feed->resume(s->backend, position, bytes, &err) != SHMETA_OK))
		return false;
	sync_log(s, LOG_NOTICE, "source_returned", "the source is the one again that the store was filled from");
	ends(s);
	feed_move(s, FEED_UNTRIED);
	sync_settle_phase(s);
	sync_wake_at(s, sync_now(s));
	return true;
}

static bool look(struct sync *s)
{
	const struct backend_sink sink = {.arg = s, .changed = on_changed, .quarantine = on_quarantine};
	struct backend_error err = {0};
	uint64_t lag_ns = 0;
	int changed = 0;

	enum shmeta_status status = SHMETA_OK;

	if (s->engine->feed != NULL) {
		s->counters.polls++;
		status = s->engine->feed->changes(s->backend, &sink, &changed, &lag_ns, &err);
	}
	if (status != SHMETA_OK) {
		sync_source_failed(s, SYNC_JOB_FEED, status, err.text);
		return false;
	}
	sync_source_works(s, SYNC_JOB_FEED);
	s->accept.look_due_ns = sync_now(s) + s->options.poll_max_ms * SYNC_MS;
	return true;
}

bool accept_load_due(struct sync *s)
{
	struct accept *a = &s->accept;
	uint64_t now = sync_now(s), due;

	if (!origin_is_held(s))
		return !(origin_is_foreign(s) && !origin_is_course(s) && came_back(s));
	if (consented(s))
		return true;
	if (now >= a->look_due_ns && !look(s))
		return false;
	due = a->changed ? a->load_due_ns : a->reload_ns;
	if ((!origin_is_course(s) || now >= due) && came_back(s))
		return false;
	/* It may have been another one in the meantime, or a third one now. */
	show(s);
	if (now >= due)
		return true;
	sync_wake_at(s, due < a->look_due_ns ? due : a->look_due_ns);
	return false;
}

/* ---- any thread ---- */

void sync_read_held(struct sync *s, struct sync_held *ret)
{
	pthread_mutex_lock(&s->accept.lock);
	*ret = s->accept.seen;
	pthread_mutex_unlock(&s->accept.lock);
}

enum shmeta_status sync_accept(struct sync *s, uint64_t fingerprint)
{
	enum shmeta_status status = SHMETA_OK;

	pthread_mutex_lock(&s->accept.lock);
	if (s->accept.seen.fingerprint == 0)
		status = SHMETA_ERR_NOT_FOUND;
	else if (s->accept.seen.fingerprint != fingerprint)
		status = SHMETA_ERR_CONFLICT;
	else
		s->accept.consent = fingerprint;
	pthread_mutex_unlock(&s->accept.lock);
	if (status == SHMETA_OK)
		sync_wake(s);
	return status;
}
