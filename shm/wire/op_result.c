/* SPDX-License-Identifier: Apache-2.0
 * Results of operations, and listed objects, as bytes. */
#include <stdbool.h>
#include <string.h>

#include "shm/wire/op.h"
#include "shm/wire/op_fields.h"
#include "shm/wire/wire.h"

/* ---- results ---- */

enum { TEXT_MAX = sizeof((struct shmeta_result *)NULL)->text - 1 };

int shmeta__status_known(int32_t status)
{
	switch (status) {
#define SHMETA_X(name, number, text) case number:
		SHMETA_STATUS_LIST(SHMETA_X)
#undef SHMETA_X
		return 1;
	default:
		return 0;
	}
}

/* What a refusal is about beside its sentence. It travels where a success has its count, or the end
 * of its lease: earlier versions take any number there, and none anywhere else.
 *   REPLACE_SEGMENTS FENCED by its compaction epoch: the highest that was given; CONFLICT: the
 *   segment's base, and 1
 *   ACQUIRE_LEASE     CONFLICT: for how many ms another agent holds it */
static void gather_refusal(uint32_t has, const struct shmeta_result *result, struct shmeta_wire_result *w)
{
	if ((has & OP_HAS_REPLACE) != 0)
		w->count = result->most == 0                     ? 0
		           : result->status == SHMETA_ERR_FENCED ? result->least
		                                                 : result->value + 1;
	if ((has & OP_HAS_LEASE) != 0 && result->most > 0)
		w->time_ms[0] = (int64_t)result->value;
}

static void scatter_refusal(uint32_t has, const struct shmeta_wire_result *w, struct shmeta_result *result)
{
	if ((has & OP_HAS_REPLACE) != 0 && w->count > 0) {
		result->count = 0;
		if (w->status == SHMETA_ERR_FENCED)
			result->least = w->count;
		else
			result->value = w->count - 1;
		result->most = INT64_MAX;
	} else if ((has & OP_HAS_LEASE) != 0 && w->time_ms[0] != 0) {
		result->lease.lease_expires_at_ms = 0;
		result->value = (uint64_t)w->time_ms[0];
		result->least = 1;
		result->most = INT64_MAX;
	}
}

static bool is_refusal(int32_t status)
{
	return status == SHMETA_ERR_FENCED || status == SHMETA_ERR_CONFLICT;
}

static void gather_result(uint32_t has, const struct shmeta_result *result, struct shmeta_wire_result *w)
{
	size_t text = strnlen(result->text, TEXT_MAX);

	memset(w, 0, sizeof *w);
	w->bytes = (uint32_t)op_padded(sizeof *w + text);
	w->status = result->status;
	w->partition_id = result->partition_id;
	w->text_bytes = (uint32_t)text;
	if ((has & OP_HAS_COUNT) != 0)
		w->count = result->count;
	if ((has & OP_HAS_OTHER) != 0)
		w->count = result->transfer_id;
	if ((has & OP_HAS_LEASE) != 0) {
		w->epoch = result->lease.epoch;
		w->time_ms[0] = result->lease.lease_expires_at_ms;
		w->time_ms[1] = result->lease.acquired_at_ms;
	}
	if ((has & OP_HAS_SEGMENT) != 0) {
		w->base_offset = result->existing.base_offset;
		w->end_offset = result->existing.end_offset;
		w->size_bytes = result->existing.size_bytes;
		w->record_count = result->existing.record_count;
		w->time_ms[0] = result->existing.created_at_ms;
		w->time_ms[1] = result->existing.min_timestamp_ms;
		w->time_ms[2] = result->existing.max_timestamp_ms;
	}
	if (is_refusal(result->status))
		gather_refusal(has, result, w);
}

static void scatter_result(uint32_t has, const struct shmeta_wire_result *w, const char *text,
                           struct shmeta_result *result)
{
	memset(result, 0, sizeof *result);
	result->status = (enum shmeta_status)w->status;
	result->partition_id = w->partition_id;
	memcpy(result->text, text, w->text_bytes);
	if ((has & OP_HAS_COUNT) != 0)
		result->count = w->count;
	if ((has & OP_HAS_OTHER) != 0)
		result->transfer_id = w->count;
	if ((has & OP_HAS_LEASE) != 0) {
		result->lease.partition_id = w->partition_id;
		result->lease.epoch = w->epoch;
		result->lease.lease_expires_at_ms = w->time_ms[0];
		result->lease.acquired_at_ms = w->time_ms[1];
	}
	if ((has & OP_HAS_SEGMENT) != 0) {
		result->existing.partition_id = w->partition_id;
		result->existing.base_offset = w->base_offset;
		result->existing.end_offset = w->end_offset;
		result->existing.size_bytes = w->size_bytes;
		result->existing.record_count = w->record_count;
		result->existing.created_at_ms = w->time_ms[0];
		result->existing.min_timestamp_ms = w->time_ms[1];
		result->existing.max_timestamp_ms = w->time_ms[2];
	}
	if (is_refusal(w->status))
		scatter_refusal(has, w, result);
}

size_t shmeta__result_bytes(const struct shmeta_result *result)
{
	return op_padded(sizeof(struct shmeta_wire_result) + strnlen(result->text, TEXT_MAX));
}

size_t shmeta__result_encode(enum shmeta_op_type type, const struct shmeta_result *result, void *out, size_t capacity)
{
	struct shmeta_wire_result w;
	uint8_t *p = out;

	if (!op_known((unsigned int)type))
		return 0;
	gather_result(shmeta__op_types[type].has, result, &w);
	if (w.bytes > capacity)
		return 0;
	memcpy(p, &w, sizeof w);
	memcpy(p + sizeof w, result->text, w.text_bytes);
	memset(p + sizeof w + w.text_bytes, 0, w.bytes - sizeof w - w.text_bytes);
	return w.bytes;
}

enum shmeta_status shmeta__result_decode(enum shmeta_op_type type, const void *bytes, size_t size,
                                         struct shmeta_result *ret, size_t *ret_used)
{
	struct shmeta_wire_result w, again;
	struct shmeta_result result;
	const uint8_t *p = bytes;
	size_t end;

	if (!op_known((unsigned int)type) || size < sizeof w)
		return SHMETA_ERR_PROTOCOL;
	memcpy(&w, p, sizeof w);
	if (w.bytes > size || w.text_bytes > TEXT_MAX || !shmeta__status_known(w.status))
		return SHMETA_ERR_PROTOCOL;
	end = sizeof w + w.text_bytes;
	if (w.bytes != op_padded(end) || !op_all_zero(p + end, w.bytes - end))
		return SHMETA_ERR_PROTOCOL;
	scatter_result(shmeta__op_types[type].has, &w, (const char *)p + sizeof w, &result);
	gather_result(shmeta__op_types[type].has, &result, &again);
	if (memcmp(&w, &again, sizeof w) != 0)
		return SHMETA_ERR_PROTOCOL;
	*ret = result;
	*ret_used = w.bytes;
	return SHMETA_OK;
}

/* ---- objects ---- */

size_t shmeta__object_bytes(const struct shmeta_object_info *object)
{
	return op_padded(sizeof(struct shmeta_wire_object) + object->object.s3_bucket.bytes +
	                 object->object.s3_key.bytes);
}

size_t shmeta__object_encode(const struct shmeta_object_info *object, void *out, size_t capacity)
{
	const struct shmeta_str bucket = object->object.s3_bucket, key = object->object.s3_key;
	struct shmeta_wire_object w = {.bucket_bytes = (uint32_t)bucket.bytes,
	                               .key_bytes = (uint32_t)key.bytes,
	                               .size_bytes = object->object.size_bytes,
	                               .created_at_ms = object->object.created_at_ms,
	                               .slices = object->slices,
	                               .unreferenced_since_ms = object->unreferenced_since_ms};
	uint8_t *p = out;
	size_t end;

	if (bucket.bytes > SHMETA_STRING_MAX || key.bytes > SHMETA_STRING_MAX ||
	    shmeta__object_bytes(object) > capacity)
		return 0;
	w.bytes = (uint32_t)shmeta__object_bytes(object);
	end = sizeof w + bucket.bytes + key.bytes;
	memcpy(p, &w, sizeof w);
	if (bucket.bytes > 0)
		memcpy(p + sizeof w, bucket.data, bucket.bytes);
	if (key.bytes > 0)
		memcpy(p + sizeof w + bucket.bytes, key.data, key.bytes);
	memset(p + end, 0, w.bytes - end);
	return w.bytes;
}

enum shmeta_status shmeta__object_decode(const void *bytes, size_t size, struct shmeta_object_info *ret,
                                         size_t *ret_used)
{
	struct shmeta_wire_object w;
	const uint8_t *p = bytes;
	const char *text = (const char *)p + sizeof w;
	size_t end;

	if (size < sizeof w)
		return SHMETA_ERR_PROTOCOL;
	memcpy(&w, p, sizeof w);
	if (w.bytes > size || w.bucket_bytes > SHMETA_STRING_MAX || w.key_bytes > SHMETA_STRING_MAX || w.reserved != 0)
		return SHMETA_ERR_PROTOCOL;
	end = sizeof w + w.bucket_bytes + w.key_bytes;
	if (w.bytes != op_padded(end) || !op_all_zero(p + end, w.bytes - end))
		return SHMETA_ERR_PROTOCOL;
	*ret = (struct shmeta_object_info){.object = {.s3_bucket = {text, w.bucket_bytes},
	                                              .s3_key = {text + w.bucket_bytes, w.key_bytes},
	                                              .size_bytes = w.size_bytes,
	                                              .created_at_ms = w.created_at_ms},
	                                   .slices = w.slices,
	                                   .unreferenced_since_ms = w.unreferenced_since_ms};
	*ret_used = w.bytes;
	return SHMETA_OK;
}
