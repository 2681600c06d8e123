/* SPDX-License-Identifier: Apache-2.0
 * Where a key stands in a bounded store, and what it left for (explain.h). */
#include "writer/keys/explain.h"

#include <stdio.h>
#include <string.h>

#include "writer/engine/engine.h"
#include "writer/keys/bounded.h"
#include "writer/resident/evictions.h"

enum { ANSWER_BYTES = 800 };

struct question {
	char tenant_text[SHMETA_TENANT_MAX], topic_text[SHMETA_NAME_MAX];
	struct shmeta_str tenant, topic;
	uint64_t partition, ticket;
};

void explain_init(struct sync *s)
{
	pthread_mutex_init(&s->explain.lock, NULL);
}

void explain_free(struct sync *s)
{
	pthread_mutex_destroy(&s->explain.lock);
}

enum shmeta_status sync_explain(struct sync *s, struct shmeta_str tenant, struct shmeta_str topic, uint64_t partition,
                                uint64_t ticket)
{
	struct explain *e = &s->explain;
	enum shmeta_status status = SHMETA_OK;

	if (tenant.bytes > sizeof e->tenant || topic.bytes > sizeof e->topic || topic.bytes == 0 ||
	    (partition >= RESIDENT_TOPIC && partition != UINT64_MAX))
		return SHMETA_ERR_INVALID_ARGUMENT;
	pthread_mutex_lock(&e->lock);
	if (e->asked) {
		status = SHMETA_ERR_BUSY;
	} else {
		memcpy(e->tenant, tenant.data, tenant.bytes);
		memcpy(e->topic, topic.data, topic.bytes);
		e->tenant_bytes = tenant.bytes;
		e->topic_bytes = topic.bytes;
		e->partition = partition;
		e->ticket = ticket;
		e->asked = true;
	}
	pthread_mutex_unlock(&e->lock);
	if (status == SHMETA_OK)
		sync_wake(s);
	return status;
}

/* Whoever takes it answers it. false: nothing was asked. */
static bool take(struct explain *e, struct question *ret)
{
	bool asked;

	pthread_mutex_lock(&e->lock);
	asked = e->asked;
	if (asked) {
		memcpy(ret->tenant_text, e->tenant, e->tenant_bytes);
		memcpy(ret->topic_text, e->topic, e->topic_bytes);
		ret->tenant = (struct shmeta_str){ret->tenant_text, e->tenant_bytes};
		ret->topic = (struct shmeta_str){ret->topic_text, e->topic_bytes};
		ret->partition = e->partition;
		ret->ticket = e->ticket;
	}
	e->asked = false;
	pthread_mutex_unlock(&e->lock);
	return asked;
}

/* ---- the answer ---- */

static const char *eviction_reason(enum policy_why why, bool is_topic)
{
	switch (why) {
	case POLICY_OVER_RECORDS:
		return is_topic ? "bounded.max_topics was exceeded" : "bounded.max_partitions was exceeded";
	case POLICY_OVER_CLASS_BYTES:
		return "bounded.max_segment_bytes was exceeded";
	case POLICY_OVER_BYTES:
		return "bounded.max_bytes was exceeded";
	case POLICY_UNDER_PRESSURE:
		return "the store was running out of room";
	case POLICY_TOO_LARGE:
		return "it alone exceeds bounded.max_segment_bytes";
	case POLICY_STAYS:
	case POLICY_WHYS:
		break;
	}
	return "another record needed its place";
}

/* When the next batch has to leave. */
static const char *next_eviction(const struct policy_place *p, uint32_t hot_touches)
{
	if (p->passing)
		return "among the first: it came for a reader without fill, and nobody else has looked it up";
	if (!p->in_main)
		return p->touches >= hot_touches ? "not from this queue: it was in use and will move to the main queue"
		                                 : "at the end of its queue, unless it is looked up before";
	return p->touches > 0 ? "at the end of its queue, after one more round for each touch that it has"
	                      : "at the end of its queue, unless it is looked up before";
}

static void tell_resident(const struct sync *s, const struct resident_place *place, uint64_t now_ns, char *ret,
                          size_t bytes)
{
	const struct policy_place *p = &place->policy;
	char since[32] = "null";

	if (place->came_ns != 0)
		snprintf(since, sizeof since, "%llu", (unsigned long long)((now_ns - place->came_ns) / SYNC_MS));
	snprintf(ret, bytes,
	         "{\"mode\":\"bounded\",\"resident_for_ms\":%s,\"queue\":\"%s\",\"queue_before\":%u,"
	         "\"queue_records\":%u,\"touches\":%u,\"bytes\":%u,\"next_eviction\":\"%s\"}",
	         since,
	         p->passing   ? "passing"
	         : p->in_main ? "main"
	                      : "small",
	         place->before, place->of, p->touches, p->bytes, next_eviction(p, s->options.hot_touches));
}

static void tell_absent(const struct eviction *left, bool is_topic, uint64_t now_ns, char *ret, size_t bytes)
{
	if (left == NULL)
		snprintf(ret, bytes, "{\"mode\":\"bounded\",\"evicted_ms_ago\":null,\"evicted_because\":null}");
	else
		snprintf(ret, bytes, "{\"mode\":\"bounded\",\"evicted_ms_ago\":%llu,\"evicted_because\":\"%s\"}",
		         (unsigned long long)((now_ns - left->at_ns) / SYNC_MS), eviction_reason(left->why, is_topic));
}

static enum shmeta_status find_topic(struct sync *s, const struct question *q, uint32_t *ret_id, struct shmeta_err *err)
{
	struct shmeta_topic topic;
	struct shmeta__txn *txn;
	enum shmeta_status status;

	if (s->store == NULL)
		return shmeta_fail(err, SHMETA_ERR_WRITER_AWAY, "there is no store yet");
	status = shmeta__txn_read(s->store, &txn, err);
	if (status != SHMETA_OK)
		return status;
	status = apply_topic_get(txn, q->tenant, q->topic, &topic, NULL, err);
	if (status == SHMETA_OK)
		*ret_id = topic.topic_id;
	shmeta__txn_abort(txn);
	return status;
}

/* Of a partition whose topic is not resident, what is known of the topic. */
static enum shmeta_status tell(struct sync *s, const struct question *q, char *ret, size_t bytes,
                               struct shmeta_err *err)
{
	bool is_topic = q->partition == UINT64_MAX;
	struct resident_place place = {.before = 0};
	uint64_t key = 0, now = sync_now(s);
	uint32_t topic_id = 0;
	enum shmeta_status status;

	if (s->bounded == NULL) {
		snprintf(ret, bytes, "{\"mode\":\"mirror\"}");
		return SHMETA_OK;
	}
	status = find_topic(s, q, &topic_id, err);
	if (status < SHMETA_OK)
		return status;
	if (status == SHMETA_OK) {
		key = (uint64_t)topic_id << 32 | (is_topic ? RESIDENT_TOPIC : (uint32_t)q->partition);
		if (bounded_residency(s) != NULL)
			place = resident_place(bounded_residency(s), key);
	}
	if (place.policy.resident)
		tell_resident(s, &place, now, ret, bytes);
	else
		tell_absent(evictions_find(bounded_evictions(s), status == SHMETA_OK && !is_topic
		                                                         ? key
		                                                         : evictions_topic(q->tenant, q->topic)),
		            status != SHMETA_OK || is_topic, now, ret, bytes);
	return SHMETA_OK;
}

void explain_take(struct sync *s)
{
	char answer[ANSWER_BYTES];
	struct shmeta_err err;
	enum shmeta_status status;
	struct question q;

	if (!take(&s->explain, &q))
		return;
	status = tell(s, &q, answer, sizeof answer, &err);
	s->host.answer(s->host.arg, q.ticket, status, status == SHMETA_OK ? answer : err.text, 0, 0, 0);
}

void explain_refuse(struct sync *s, enum shmeta_status status, const char *sentence)
{
	struct question q;

	if (take(&s->explain, &q))
		s->host.answer(s->host.arg, q.ticket, status, sentence, 0, 0, 0);
}
