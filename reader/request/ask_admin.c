/* SPDX-License-Identifier: Apache-2.0
 * What operators and cleaners ask of the writer: the source's objects, batch by batch, that keys
 * are read again, consent to a source, that readers let go, the configuration, pauses. */
#include "reader/request/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/row_limits.h"
#include "shm/wire/op.h"

/* ---- objects ---- */

struct shmeta_objects {
	const uint64_t *fork_word;
	uint64_t fork_token;
	struct shmeta *instance;
	uint32_t flags, timeout_ms;
	int more;      /* there are batches behind this one */
	size_t at;     /* of the next object in the batch */
	uint32_t left; /* objects in the batch from there on */
	struct shmeta_object last;
	union {
		struct shmeta_frame_objects frame;
		char bytes[sizeof(struct shmeta_frame_objects) + SHMETA_TENANT_MAX + 2 * SHMETA_STRING_MAX];
	} request; /* holds the strings of last once a batch is asked for: the batch may be
                    * overwritten by what is no answer */
	union {
		struct shmeta_frame_object_list head;
		uint64_t align[SHMETA_FRAME_MAX / 8];
	} batch;
};

static enum shmeta_status next_batch(struct shmeta_objects *list)
{
	struct shmeta_frame_objects *frame = &list->request.frame;
	struct answer answer = {
		.body_type = SHMETA_FRAME_OBJECT_LIST, .body = &list->batch, .body_room = sizeof list->batch};
	struct shmeta *instance = list->instance;
	struct shmeta_str *after[] = {&list->last.s3_bucket, &list->last.s3_key};
	uint64_t deadline = shmeta__deadline_of(list->timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;
	size_t at = sizeof *frame;

	memcpy(list->request.bytes + at, instance->tenant, instance->tenant_bytes);
	at += instance->tenant_bytes;
	for (size_t i = 0; i < 2; i++) {
		/* When the same batch is asked for again, they are in place already. */
		if (after[i]->bytes > 0)
			memmove(list->request.bytes + at, after[i]->data, after[i]->bytes);
		after[i]->data = list->request.bytes + at;
		at += after[i]->bytes;
	}
	*frame = (struct shmeta_frame_objects){.head = {.bytes = (uint32_t)at, .type = SHMETA_FRAME_OBJECTS},
	                                       .flags = list->flags};
	frame->tenant_bytes = (uint32_t)instance->tenant_bytes;
	frame->bucket_bytes = (uint32_t)after[0]->bytes;
	frame->key_bytes = (uint32_t)after[1]->bytes;
	frame->timeout_ms = shmeta__left_ms(deadline);
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &frame->head, deadline, &answer, &err);
	if (status == SHMETA_OK && answer.body_bytes == 0)
		status = shmeta_fail(&err, SHMETA_ERR_PROTOCOL, "%s: the writer answered something else",
		                     core->directory);
	shmeta__core_unref(core, 0);
	if (status != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	list->at = sizeof list->batch.head;
	list->left = list->batch.head.object_count;
	/* An empty batch ends the list; otherwise we would ask for the same one for ever. */
	list->more = list->left > 0 && list->batch.head.more != 0;
	return SHMETA_OK;
}

enum shmeta_status shmeta_list_objects(struct shmeta *instance, uint32_t flags, uint32_t timeout_ms,
                                       struct shmeta_objects **ret)
{
	struct shmeta_objects *list;
	struct shmeta_err err = {0};
	enum shmeta_status status;

	if (instance == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	if ((flags & ~(uint32_t)SHMETA_OBJECTS_DELETABLE) != 0) {
		(void)shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "objects: flags %#x are none", flags);
		return shmeta__instance_fail(instance, &err);
	}
	if (shmeta__instance_tenant(instance, &err) != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	list = calloc(1, sizeof *list);
	if (list == NULL)
		return SHMETA_ERR_NO_MEMORY;
	shmeta__instance_ref(instance);
	list->fork_word = instance->fork_word;
	list->fork_token = instance->fork_token;
	list->instance = instance;
	list->flags = (flags & SHMETA_OBJECTS_DELETABLE) != 0 ? SHMETA_OBJECTS_ASK_DELETABLE : 0;
	list->timeout_ms = timeout_ms;
	status = next_batch(list);
	if (status != SHMETA_OK)
		shmeta_objects_free(list);
	else
		*ret = list;
	return status;
}

enum shmeta_status shmeta_next_object(struct shmeta_objects *list, struct shmeta_object_info *ret)
{
	struct shmeta_object_info info;
	struct shmeta_err err = {0};
	enum shmeta_status status;
	size_t used = 0;

	if (list == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(list->fork_word) != list->fork_token)
		return SHMETA_ERR_FORKED;
	if (list->left == 0) {
		status = list->more ? next_batch(list) : SHMETA_END;
		if (status != SHMETA_OK)
			return status;
		if (list->left == 0)
			return SHMETA_END;
	}
	status = shmeta__object_decode((const char *)&list->batch + list->at, list->batch.head.head.bytes - list->at,
	                               &info, &used);
	if (status != SHMETA_OK) {
		(void)shmeta_fail(&err, status, "objects: the writer's answer cannot be parsed");
		return shmeta__instance_fail(list->instance, &err);
	}
	list->at += used;
	list->left--;
	list->last = info.object;
	*ret = info;
	return SHMETA_OK;
}

void shmeta_objects_free(struct shmeta_objects *list)
{
	if (list == NULL)
		return;
	shmeta__instance_unref(list->instance);
	free(list);
}

/* ---- invalidation ---- */

/* What is wrong with the arguments, as a text; NULL: nothing. */
static const char *nonsense(enum shmeta_class cls, const char *topic, size_t topic_bytes, uint32_t flags)
{
	if ((unsigned)cls >= SHMETA_CLASS_COUNT)
		return "there is no such class";
	if ((flags & ~(uint32_t)(SHMETA_INVALIDATE_PREFIX | SHMETA_INVALIDATE_DRY_RUN)) != 0)
		return "there are no such flags";
	if (cls >= SHMETA_CLASS_LIST)
		return topic != NULL ? "this class is read again as a whole: topic must be NULL" : NULL;
	if ((flags & SHMETA_INVALIDATE_PREFIX) != 0) {
		if (cls != SHMETA_CLASS_TOPIC)
			return "only topics are named by a prefix";
		return topic == NULL || topic_bytes > SHMETA_NAME_MAX ? "a prefix has 0 to 249 bytes" : NULL;
	}
	return topic == NULL ? "this class needs a topic" : NULL;
}

enum shmeta_status shmeta_invalidate(struct shmeta *instance, enum shmeta_class cls, const char *topic,
                                     size_t topic_bytes, uint32_t partition_id, uint32_t flags, uint32_t timeout_ms,
                                     struct shmeta_invalidated *ret)
{
	union {
		struct shmeta_frame_invalidate frame;
		char bytes[sizeof(struct shmeta_frame_invalidate) + SHMETA_NAME_MAX + SHMETA_TENANT_MAX];
	} packet = {.frame = {.head = {.type = SHMETA_FRAME_INVALIDATE}, .cls = cls, .partition_id = partition_id}};
	struct shmeta_frame_invalidated done = {.topics = 0};
	struct answer answer = {.body_type = SHMETA_FRAME_INVALIDATED, .body = &done, .body_room = sizeof done};
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	const char *wrong = nonsense(cls, topic, topic_bytes, flags);
	size_t name = topic != NULL ? topic_bytes : 0;
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	if (wrong == NULL && topic != NULL && (flags & SHMETA_INVALIDATE_PREFIX) == 0)
		wrong = shmeta__name_error(topic, topic_bytes, SHMETA_NAME_MAX);
	if (wrong != NULL) {
		(void)shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "invalidate: %s", wrong);
		return shmeta__instance_fail(instance, &err);
	}
	if (shmeta__instance_tenant(instance, &err) != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	packet.frame.flags = ((flags & SHMETA_INVALIDATE_PREFIX) != 0 ? SHMETA_INVALIDATE_ASK_PREFIX : 0u) |
	                     ((flags & SHMETA_INVALIDATE_DRY_RUN) != 0 ? SHMETA_INVALIDATE_ASK_DRY_RUN : 0u);
	packet.frame.name_bytes = (uint32_t)name;
	packet.frame.tenant_bytes = (uint32_t)instance->tenant_bytes;
	packet.frame.timeout_ms = shmeta__left_ms(deadline);
	packet.frame.head.bytes = (uint32_t)(sizeof packet.frame + name + instance->tenant_bytes);
	if (name > 0)
		memcpy(packet.bytes + sizeof packet.frame, topic, name);
	memcpy(packet.bytes + sizeof packet.frame + name, instance->tenant, instance->tenant_bytes);
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &packet.frame.head, deadline, &answer, &err);
	if (status == SHMETA_OK && answer.body_bytes == 0)
		status = shmeta_fail(&err, SHMETA_ERR_PROTOCOL, "%s: the writer answered something else",
		                     core->directory);
	if (status == SHMETA_OK)
		status = shmeta__instance_answered(instance, &core, &err);
	if (status == SHMETA_OK)
		status = shmeta__wait_shown(core, done.generation, done.txn, deadline, &err);
	if (core != NULL)
		shmeta__core_unref(core, 0);
	if (status != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	if (ret != NULL)
		*ret = (struct shmeta_invalidated){
			.topics = done.topics, .partitions = done.partitions, .records = done.records, .txn = done.txn};
	return SHMETA_OK;
}

/* ---- consent ---- */

enum shmeta_status shmeta_accept_source(struct shmeta *instance, uint64_t fingerprint, uint32_t timeout_ms,
                                        uint64_t *ret_fingerprint, char *text, size_t text_bytes)
{
	struct shmeta_frame_accept frame = {.head = {.bytes = sizeof frame, .type = SHMETA_FRAME_ACCEPT},
	                                    .fingerprint = fingerprint};
	struct answer answer = {.body_type = 0};
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &frame.head, shmeta__deadline_of(timeout_ms), &answer, &err);
	shmeta__core_unref(core, 0);
	if (ret_fingerprint != NULL)
		*ret_fingerprint = answer.frame.txn;
	if (text != NULL && text_bytes != 0)
		(void)snprintf(text, text_bytes, "%s", answer.text);
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}

/* ---- readers ---- */

enum shmeta_status shmeta_revoke_reader(struct shmeta *instance, uint64_t reader, uint32_t timeout_ms,
                                        uint64_t *ret_count)
{
	struct shmeta_frame_revoke frame = {.head = {.bytes = sizeof frame, .type = SHMETA_FRAME_REVOKE},
	                                    .reader = reader};
	struct answer answer = {.body_type = 0};
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &frame.head, shmeta__deadline_of(timeout_ms), &answer, &err);
	shmeta__core_unref(core, 0);
	if (status == SHMETA_OK && ret_count != NULL)
		*ret_count = answer.frame.txn;
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}

/* ---- configuration ---- */

enum shmeta_status shmeta_reload(struct shmeta *instance, uint32_t timeout_ms, char *sentence, size_t sentence_bytes)
{
	struct shmeta_frame frame = {.bytes = sizeof frame, .type = SHMETA_FRAME_RELOAD};
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct answer answer = {.body_type = 0};
	struct core *core;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &frame, shmeta__deadline_of(timeout_ms), &answer, &err);
	shmeta__core_unref(core, 0);
	if (sentence != NULL && sentence_bytes != 0)
		(void)snprintf(sentence, sentence_bytes, "%s", status == SHMETA_OK ? answer.text : err.text);
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}

/* Ask, and give the text of the answer alone, in the caller's memory; ret may be NULL. */
static enum shmeta_status ask_for_text(struct shmeta *instance, struct shmeta_frame *frame, uint64_t deadline,
                                       char **ret)
{
	struct answer answer = {.body_type = SHMETA_FRAME_ANSWER, .body_room = SHMETA_FRAME_MAX};
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;
	size_t bytes;

	answer.body = malloc(answer.body_room + 1);
	if (answer.body == NULL)
		return SHMETA_ERR_NO_MEMORY;
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, frame, deadline, &answer, &err);
	shmeta__core_unref(core, 0);
	if (status != SHMETA_OK || ret == NULL) {
		free(answer.body);
		return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
	}
	bytes = answer.body_bytes - sizeof answer.frame;
	memmove(answer.body, (char *)answer.body + sizeof answer.frame, bytes);
	((char *)answer.body)[bytes] = '\0';
	*ret = answer.body;
	return SHMETA_OK;
}

enum shmeta_status shmeta_get_config(struct shmeta *instance, uint32_t timeout_ms, char **ret)
{
	struct shmeta_frame frame = {.bytes = sizeof frame, .type = SHMETA_FRAME_CONFIG};

	if (instance == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	return ask_for_text(instance, &frame, shmeta__deadline_of(timeout_ms), ret);
}

/* ---- what an operator asks ---- */

enum shmeta_status shmeta_operate(struct shmeta *instance, enum shmeta_operation operation, const char *text,
                                  uint64_t number, uint32_t timeout_ms, char **ret_text)
{
	union {
		struct shmeta_frame_operate frame;
		char bytes[sizeof(struct shmeta_frame_operate) + SHMETA_OPERATE_TEXT + SHMETA_TENANT_MAX];
	} packet = {.frame = {.head = {.type = SHMETA_FRAME_OPERATE},
	                      .operation = (uint32_t)operation,
	                      .number = number,
	                      .timeout_ms = timeout_ms}};
	size_t bytes = text != NULL ? strlen(text) : 0;
	struct shmeta_err err = {0};

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	if (bytes > SHMETA_OPERATE_TEXT) {
		(void)shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "the text has %zu bytes; at most %d are taken",
		                  bytes, (int)SHMETA_OPERATE_TEXT);
		return shmeta__instance_fail(instance, &err);
	}
	if (bytes > 0)
		memcpy(packet.bytes + sizeof packet.frame, text, bytes);
	packet.frame.text_bytes = (uint32_t)bytes;
	if (operation == SHMETA_OPERATE_EXPLAIN) {
		if (shmeta__instance_tenant(instance, &err) != SHMETA_OK)
			return shmeta__instance_fail(instance, &err);
		packet.frame.tenant_bytes = (uint32_t)instance->tenant_bytes;
		memcpy(packet.bytes + sizeof packet.frame + bytes, instance->tenant, instance->tenant_bytes);
	}
	packet.frame.head.bytes = (uint32_t)(sizeof packet.frame + bytes + packet.frame.tenant_bytes);
	return ask_for_text(instance, &packet.frame.head, shmeta__deadline_of(timeout_ms), ret_text);
}
