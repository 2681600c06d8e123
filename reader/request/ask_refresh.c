/* SPDX-License-Identifier: Apache-2.0
 * Asking the writer to read keys of the source again. */
#include <string.h>

#include "base/escape.h"
#include "reader/request/request.h"

enum { ASK_TRIES = 3 };

void shmeta__refresh_packet(const struct shmeta *instance, const struct want *want, uint32_t flags,
                            union refresh_packet *ret)
{
	struct shmeta_frame_refresh *f = &ret->frame;
	size_t topic = want->topic == NULL ? 0 : want->topic_bytes, name = want->name == NULL ? 0 : want->name_bytes;
	char *at = ret->bytes + sizeof *f;

	memset(f, 0, sizeof *f);
	f->head.version = SHMETA_WIRE_VERSION;
	f->head.type = SHMETA_FRAME_REFRESH;
	f->head.bytes = (uint32_t)(sizeof *f + topic + instance->tenant_bytes + name);
	f->cls = want->cls;
	f->partition_id = want->partition_id;
	f->name_bytes = (uint32_t)topic;
	f->tenant_bytes = (uint32_t)instance->tenant_bytes;
	f->flags = flags | (want->with_segments ? SHMETA_REFRESH_ASK_SEGMENTS : 0) |
	           (want->no_fill ? SHMETA_REFRESH_ASK_NO_FILL : 0);
	if (topic != 0)
		memcpy(at, want->topic, topic);
	memcpy(at + topic, instance->tenant, instance->tenant_bytes);
	if (name != 0)
		memcpy(at + topic + instance->tenant_bytes, want->name, name);
}

enum shmeta_status shmeta__ask_since(struct shmeta *instance, struct core *core, const struct want *want,
                                     uint64_t since_ns, uint64_t deadline_ns, struct answer *ret,
                                     struct shmeta_err *err)
{
	for (int i = 0; i < ASK_TRIES; i++) {
		union refresh_packet packet;
		enum shmeta_status status;

		shmeta__refresh_packet(instance, want, since_ns == 0 ? SHMETA_REFRESH_ASK_RECENT : 0, &packet);
		packet.frame.timeout_ms = shmeta__left_ms(deadline_ns);
		ret->frame.head.type = 0;
		status = shmeta__ask(core, &packet.frame.head, deadline_ns, ret, err);
		if (status != SHMETA_OK || ret->frame.synced_at_ns >= since_ns)
			return status;
	}
	return shmeta_fail(err, SHMETA_ERR_SOURCE, "%s: the writer answers with what it read before it was asked",
	                   core->directory);
}

static void take_newer(struct shmeta_frame_answer *newest, const struct shmeta_frame_answer *answer)
{
	if (answer->generation > newest->generation ||
	    (answer->generation == newest->generation && answer->txn > newest->txn))
		*newest = *answer;
}

static void take_answer(struct asked_key *key, enum shmeta_status status, const struct answer *answer,
                        struct shmeta_frame_answer *newest)
{
	key->status = status;
	key->synced_at_ns = answer->frame.synced_at_ns;
	key->absent = status == SHMETA_OK && strcmp(answer->text, SHMETA_ANSWER_ABSENT) == 0;
	if (status == SHMETA_OK)
		take_newer(newest, &answer->frame);
}

/* Keys that are asked for side by side. */
struct asking {
	const struct shmeta *instance;
	struct asked_key *keys;
	uint64_t deadline_ns;
	uint32_t flags;
	struct shmeta_frame_answer *newest;
	union refresh_packet packet;
};

static struct shmeta_frame *frame_of(void *arg, size_t i)
{
	struct asking *a = arg;

	if (a->keys[i].answered)
		return NULL;
	shmeta__refresh_packet(a->instance, &a->keys[i].want, a->flags, &a->packet);
	a->packet.frame.timeout_ms = shmeta__left_ms(a->deadline_ns);
	return &a->packet.frame.head;
}

static int key_answered(void *arg, size_t i, const struct answer *answer)
{
	struct asking *a = arg;

	if (a->keys[i].answered)
		return 0;
	a->keys[i].answered = 1;
	take_answer(&a->keys[i], shmeta__answer_status(answer), answer, a->newest);
	return 1;
}

enum shmeta_status shmeta__ask_all(struct shmeta *instance, struct core *core, struct asked_key *keys, size_t count,
                                   int each, uint64_t since_ns, uint64_t deadline_ns,
                                   struct shmeta_frame_answer *ret_newest, struct shmeta_err *err)
{
	struct asking asking = {.instance = instance,
	                        .keys = keys,
	                        .deadline_ns = deadline_ns,
	                        .newest = ret_newest,
	                        .flags = since_ns == 0 ? SHMETA_REFRESH_ASK_RECENT : 0};
	const struct requests requests = {count, &asking, frame_of, key_answered};
	enum shmeta_status status, failed = SHMETA_OK;

	if (count > 1) {
		status = shmeta__ask_side_by_side(core, &requests, deadline_ns, err);
		if (status != SHMETA_OK)
			return status;
	}
	/* Alone, or read before it was asked for: again. */
	for (size_t i = 0; i < count; i++) {
		struct answer answer = {.body_type = 0};

		if (count > 1 && (keys[i].status != SHMETA_OK || keys[i].synced_at_ns >= since_ns))
			continue;
		status = shmeta__ask_since(instance, core, &keys[i].want, since_ns, deadline_ns, &answer, err);
		if (status != SHMETA_OK && (!each || answer.frame.head.type == 0))
			return status;
		failed = status != SHMETA_OK ? status : failed;
		take_answer(&keys[i], status, &answer, ret_newest);
	}
	err->code = failed; /* a connection that was tried in vain on the way is no error */
	return SHMETA_OK;
}

static int class_needs(enum shmeta_class cls)
{
	return cls == SHMETA_CLASS_TOPIC || cls == SHMETA_CLASS_PARTITION || cls == SHMETA_CLASS_SEGMENT;
}

enum shmeta_status shmeta_refresh(struct shmeta *instance, enum shmeta_class cls, const char *topic, size_t topic_bytes,
                                  uint32_t partition_id, uint32_t timeout_ms, uint64_t *ret_txn)
{
	const struct want want = {.cls = cls, .topic = topic, .topic_bytes = topic_bytes, .partition_id = partition_id};
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct answer answer = {.body_type = 0};
	struct core *core;
	const char *wrong = NULL;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	if ((unsigned)cls >= SHMETA_CLASS_COUNT)
		wrong = "there is no such class";
	else if (!class_needs(cls) && topic != NULL)
		wrong = "this class is refreshed as a whole: topic must be NULL";
	else if (topic != NULL)
		wrong = shmeta__name_error(topic, topic_bytes, SHMETA_NAME_MAX);
	if (topic != NULL && wrong != NULL && class_needs(cls)) {
		char shown[80];

		(void)shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "refresh: topic '%s' %s",
		                  shmeta__escape(shown, sizeof shown, topic, topic_bytes), wrong);
		return shmeta__instance_fail(instance, &err);
	}
	if (wrong != NULL) {
		(void)shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "refresh: %s", wrong);
		return shmeta__instance_fail(instance, &err);
	}
	if (shmeta__instance_tenant(instance, &err) != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	core = shmeta__instance_core(instance);
	status = shmeta__ask_since(instance, core, &want, shmeta__writer_now_ns(core), deadline, &answer, &err);
	if (status == SHMETA_OK)
		status = shmeta__instance_answered(instance, &core, &err);
	if (status == SHMETA_OK)
		status = shmeta__wait_shown(core, answer.frame.generation, answer.frame.txn, deadline, &err);
	if (core != NULL)
		shmeta__core_unref(core, 0);
	if (status != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	if (ret_txn != NULL)
		*ret_txn = answer.frame.txn;
	return SHMETA_OK;
}
