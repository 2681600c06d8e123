/* SPDX-License-Identifier: Apache-2.0
 * Where an epoch of a partition ends, as the source has it. */
#include <string.h>

#include "base/row_limits.h"
#include "reader/request/request.h"

enum shmeta_status shmeta_leader_epoch_end(struct shmeta *instance, const char *topic, size_t topic_bytes,
                                           uint32_t partition_id, uint64_t epoch, uint32_t timeout_ms,
                                           uint64_t *ret_epoch, uint64_t *ret_end_offset)
{
	union {
		struct shmeta_frame_epoch_end frame;
		char bytes[sizeof(struct shmeta_frame_epoch_end) + SHMETA_NAME_MAX + SHMETA_TENANT_MAX];
	} packet = {.frame = {.head = {.type = SHMETA_FRAME_EPOCH_END}, .epoch = epoch, .partition_id = partition_id}};
	struct answer answer = {.body_type = 0};
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	const char *wrong;
	struct core *core;

	if (instance == NULL || topic == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	wrong = shmeta__name_error(topic, topic_bytes, SHMETA_NAME_MAX);
	if (wrong != NULL) {
		(void)shmeta_fail(&err, SHMETA_ERR_TOPIC_NOT_FOUND, "no topic can have this name: %s", wrong);
		return shmeta__instance_fail(instance, &err);
	}
	if (shmeta__instance_tenant(instance, &err) != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	packet.frame.name_bytes = (uint32_t)topic_bytes;
	packet.frame.tenant_bytes = (uint32_t)instance->tenant_bytes;
	packet.frame.timeout_ms = shmeta__left_ms(deadline);
	packet.frame.head.bytes = (uint32_t)(sizeof packet.frame + topic_bytes + instance->tenant_bytes);
	memcpy(packet.bytes + sizeof packet.frame, topic, topic_bytes);
	memcpy(packet.bytes + sizeof packet.frame + topic_bytes, instance->tenant, instance->tenant_bytes);
	core = shmeta__instance_core(instance);
	status = shmeta__ask(core, &packet.frame.head, deadline, &answer, &err);
	shmeta__core_unref(core, 0);
	if ((status == SHMETA_OK || status == SHMETA_ABSENT) && ret_epoch != NULL)
		*ret_epoch = answer.frame.generation;
	if (status == SHMETA_OK && ret_end_offset != NULL)
		*ret_end_offset = answer.frame.txn;
	/* That it is absent has a sentence, too. */
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}
