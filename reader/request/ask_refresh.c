/* SPDX-License-Identifier: Apache-2.0
 * Asking the writer to read keys of the source again. */
#include <string.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "reader/request/request.h"

enum { ASK_TRIES = 3 };

static enum shmeta_status ask_refresh(struct shmeta *instance, struct core *core, const struct want *want,
                                      uint32_t flags, uint64_t deadline_ns, struct answer *ret, struct shmeta_err *err)
{
	union {
		struct shmeta_frame_refresh frame;
		char bytes[sizeof(struct shmeta_frame_refresh) + SHMETA_NAME_MAX + SHMETA_TENANT_MAX];
	} packet;
	struct shmeta_frame_refresh *f = &packet.frame;
	size_t name = want->topic == NULL ? 0 : want->topic_bytes;

	memset(&packet, 0, sizeof packet);
	f->head.type = SHMETA_FRAME_REFRESH;
	f->head.bytes = (uint32_t)(sizeof *f + name + instance->tenant_bytes);
	f->cls = want->cls;
	f->partition_id = want->partition_id;
	f->name_bytes = (uint32_t)name;
	f->tenant_bytes = (uint32_t)instance->tenant_bytes;
	f->timeout_ms = shmeta__left_ms(deadline_ns);
	f->flags = flags;
	if (name != 0)
		memcpy(packet.bytes + sizeof *f, want->topic, name);
	memcpy(packet.bytes + sizeof *f + name, instance->tenant, instance->tenant_bytes);
	return shmeta__ask(core, &f->head, deadline_ns, ret, err);
}

enum shmeta_status shmeta__ask_since(struct shmeta *instance, struct core *core, const struct want *want,
                                     uint64_t since_ns, uint64_t deadline_ns, struct answer *ret,
                                     struct shmeta_err *err)
{
	for (int i = 0; i < ASK_TRIES; i++) {
		enum shmeta_status status = ask_refresh(
			instance, core, want, since_ns == 0 ? SHMETA_REFRESH_ASK_RECENT : 0, deadline_ns, ret, err);

		if (status != SHMETA_OK || ret->frame.synced_at_ns >= since_ns)
			return status;
	}
	return shmeta_fail(err, SHMETA_ERR_SOURCE, "%s: the writer answers with what it read before it was asked",
	                   core->directory);
}

static int class_needs(enum shmeta_class cls)
{
	return cls == SHMETA_CLASS_TOPIC || cls == SHMETA_CLASS_PARTITION || cls == SHMETA_CLASS_SEGMENT;
}

enum shmeta_status shmeta_refresh(struct shmeta *instance, enum shmeta_class cls, const char *topic, size_t topic_bytes,
                                  uint32_t partition_id, uint32_t timeout_ms, uint64_t *ret_txn)
{
	struct want want = {cls, topic, topic_bytes, partition_id};
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
