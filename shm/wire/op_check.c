/* SPDX-License-Identifier: Apache-2.0
 * What a client may ask for: the limits of operations (semantics C9), field by field. */
#include <stdio.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "base/string_map.h"
#include "shm/wire/op.h"
#include "shm/wire/op_fields.h"

/* A thousand years: a lease of so many milliseconds does not overflow any clock. */
static const int64_t DURATION_MAX_MS = INT64_C(31556952000000);

/* The number that err's sentence names, where it is what is wrong. */
static enum shmeta_status out_of(uint64_t value, uint64_t least, uint64_t most, struct shmeta_err *err)
{
	if (err != NULL) {
		err->value = value;
		err->least = least;
		err->most = most;
	}
	return SHMETA_ERR_INVALID_ARGUMENT;
}

static enum shmeta_status bad(struct shmeta_err *err, const char *field, struct shmeta_str value, const char *wrong,
                              size_t least, size_t most, const char *kind)
{
	char shown[40];

	(void)shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "%s '%s' %s: %zu to %zu bytes of %s", field,
	                  shmeta__escape(shown, sizeof shown, value.data, value.data == NULL ? 0 : value.bytes), wrong,
	                  least, most, kind);
	return value.bytes < least || value.bytes > most ? out_of(value.bytes, least, most, err)
	                                                 : SHMETA_ERR_INVALID_ARGUMENT;
}

static enum shmeta_status check_name(const char *field, struct shmeta_str value, struct shmeta_err *err)
{
	const char *wrong = value.data == NULL && value.bytes > 0
	                            ? "has a length but no bytes"
	                            : shmeta__name_error(value.data, value.bytes, SHMETA_NAME_MAX);

	if (wrong == NULL)
		return SHMETA_OK;
	return bad(err, field, value, wrong, 1, SHMETA_NAME_MAX, "UTF-8 without control characters");
}

/* controls: whether it may hold them. */
static enum shmeta_status check_text(const char *field, struct shmeta_str value, size_t least, size_t most,
                                     int controls, struct shmeta_err *err)
{
	const char *wrong = value.data == NULL && value.bytes > 0
	                            ? "has a length but no bytes"
	                            : shmeta__text_error(value.data, value.bytes, most, controls);

	if (wrong == NULL && value.bytes < least)
		wrong = "is empty";
	if (wrong == NULL)
		return SHMETA_OK;
	return bad(err, field, value, wrong, least, most,
	           controls ? "UTF-8 without NUL" : "UTF-8 without control characters");
}

static enum shmeta_status check_number(const char *field, uint64_t value, uint64_t least, uint64_t most,
                                       struct shmeta_err *err)
{
	if (value >= least && value <= most)
		return SHMETA_OK;
	(void)shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "%s %llu is out of range: it may be %llu to %llu", field,
	                  (unsigned long long)value, (unsigned long long)least, (unsigned long long)most);
	return out_of(value, least, most, err);
}

/* Sources keep maps as JSON: keys and values must be text. */
static enum shmeta_status check_map(const char *field, const struct shmeta_map *map, struct shmeta_err *err)
{
	const char *wrong = map->data == NULL && map->bytes > 0 ? "has a length but no bytes" : shmeta__map_error(map);
	struct shmeta_str key, value;
	char shown[40];
	size_t cursor = 0;

	if (wrong != NULL) {
		(void)shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "%s %s: it has %zu bytes packed, at most %d may be",
		                  field, wrong, map->bytes, SHMETA_MAP_MAX);
		return map->bytes > SHMETA_MAP_MAX ? out_of(map->bytes, 0, SHMETA_MAP_MAX, err)
		                                   : SHMETA_ERR_INVALID_ARGUMENT;
	}
	while (cursor < map->bytes) {
		uint32_t sizes[2];

		memcpy(sizes, (const char *)map->data + cursor, sizeof sizes);
		key = (struct shmeta_str){(const char *)map->data + cursor + 8, sizes[0]};
		value = (struct shmeta_str){key.data + key.bytes, sizes[1]};
		cursor += 8 + key.bytes + value.bytes;
		wrong = shmeta__text_error(key.data, key.bytes, SHMETA_MAP_MAX, 1);
		if (wrong == NULL)
			wrong = shmeta__text_error(value.data, value.bytes, SHMETA_MAP_MAX, 1);
		if (wrong != NULL)
			return shmeta_fail(
				err, SHMETA_ERR_INVALID_ARGUMENT,
				"%s: key '%s' or its value %s: both are UTF-8 without NUL, in %d bytes at most", field,
				shmeta__escape(shown, sizeof shown, key.data, key.bytes), wrong, SHMETA_MAP_MAX);
	}
	return SHMETA_OK;
}

static enum shmeta_status check_fence(const struct shmeta_op *op, struct shmeta_err *err)
{
	const struct shmeta_fence *fence = &op->fence;
	enum shmeta_status status;

	if (fence->agent_id.bytes == 0 && fence->epoch == 0)
		return SHMETA_OK;
	if ((shmeta__op_types[op->type].has & OP_HAS_FENCED) == 0)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "fence: %s cannot be fenced: leave fence zero",
		                   shmeta__op_types[op->type].name);
	status = check_name("fence.agent_id", fence->agent_id, err);
	return status == SHMETA_OK ? check_number("fence.epoch", fence->epoch, 1, INT64_MAX, err) : status;
}

static enum shmeta_status check_topic(const struct shmeta_topic *topic, struct shmeta_err *err)
{
	enum shmeta_status status = check_name("topic name", topic->name, err);

	if (status == SHMETA_OK)
		status = check_number("partition_count", topic->partition_count, 1, SHMETA_PARTITIONS_MAX, err);
	if (status == SHMETA_OK)
		status = check_text("cleanup_policy", topic->cleanup_policy, 0, SHMETA_STRING_MAX, 0, err);
	return status == SHMETA_OK ? check_map("config", &topic->config, err) : status;
}

static enum shmeta_status check_segment(const struct shmeta_op *op, struct shmeta_err *err)
{
	const struct shmeta_segment *segment = &op->u.segment;
	int slice = op->type == SHMETA_OP_ADD_SLICE;
	/* The watermark behind the last offset must be an offset too. */
	uint64_t end_max = slice || op->type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK ? INT64_MAX - 1 : INT64_MAX;
	enum shmeta_status status = check_text("segment id", segment->id, 1, SHMETA_STRING_MAX, 1, err);

	if (status == SHMETA_OK && slice && (segment->s3_bucket.bytes > 0 || segment->s3_key.bytes > 0))
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                   "add_slice: s3_bucket and s3_key are the object's: leave them empty");
	if (status == SHMETA_OK)
		status = check_text("s3_bucket", segment->s3_bucket, 0, SHMETA_STRING_MAX, 1, err);
	if (status == SHMETA_OK)
		status = check_text("s3_key", segment->s3_key, 0, SHMETA_STRING_MAX, 1, err);
	if (status == SHMETA_OK)
		status = check_number("base_offset", segment->base_offset, 0, end_max, err);
	if (status == SHMETA_OK)
		status = check_number("end_offset", segment->end_offset, segment->base_offset, end_max, err);
	if (status == SHMETA_OK)
		status = check_number("size_bytes", segment->size_bytes, 0, INT64_MAX, err);
	if (status == SHMETA_OK)
		status = check_number(slice ? "position" : "position (of what is not a slice)", segment->position, 0,
		                      slice ? INT64_MAX - segment->size_bytes : 0, err);
	return status;
}

static enum shmeta_status check_committed(const struct shmeta_committed_offset *committed, struct shmeta_err *err)
{
	enum shmeta_status status = check_name("group_id", committed->group_id, err);

	if (status == SHMETA_OK)
		status = check_number("committed_offset", committed->committed_offset, 0, INT64_MAX, err);
	if (status == SHMETA_OK && committed->has_metadata)
		status = check_text("metadata", committed->metadata, 0, SHMETA_MAP_MAX, 1, err);
	return status;
}

static enum shmeta_status check_agent(const struct shmeta_agent *agent, struct shmeta_err *err)
{
	enum shmeta_status status = check_name("agent_id", agent->agent_id, err);

	if (status == SHMETA_OK)
		status = check_text("address", agent->address, 0, SHMETA_STRING_MAX, 0, err);
	if (status == SHMETA_OK)
		status = check_text("availability_zone", agent->availability_zone, 0, SHMETA_STRING_MAX, 0, err);
	if (status == SHMETA_OK)
		status = check_text("agent_group", agent->agent_group, 0, SHMETA_STRING_MAX, 0, err);
	return status == SHMETA_OK ? check_map("metadata", &agent->metadata, err) : status;
}

static enum shmeta_status check_object(const struct shmeta_object *object, struct shmeta_err *err)
{
	enum shmeta_status status = check_text("object s3_bucket", object->s3_bucket, 0, SHMETA_STRING_MAX, 1, err);

	if (status == SHMETA_OK)
		status = check_text("object s3_key", object->s3_key, 1, SHMETA_STRING_MAX, 1, err);
	return status == SHMETA_OK ? check_number("object size_bytes", object->size_bytes, 0, INT64_MAX, err) : status;
}

static enum shmeta_status check_listed(const struct shmeta_segment *s, const char *which, uint64_t at, uint64_t least,
                                       uint64_t most, struct shmeta_err *err)
{
	enum shmeta_status status = check_text("segment id", s->id, 1, SHMETA_STRING_MAX, 1, err);

	if (status == SHMETA_OK)
		status = check_text("s3_bucket", s->s3_bucket, 0, SHMETA_STRING_MAX, 1, err);
	if (status == SHMETA_OK)
		status = check_text("s3_key", s->s3_key, 0, SHMETA_STRING_MAX, 1, err);
	if (status == SHMETA_OK && (s->base_offset < least || s->end_offset > most || s->end_offset < s->base_offset)) {
		(void)shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                  "%s segment %llu, %llu to %llu, is out of order: here it may lie in %llu to %llu",
		                  which, (unsigned long long)at, (unsigned long long)s->base_offset,
		                  (unsigned long long)s->end_offset, (unsigned long long)least,
		                  (unsigned long long)most);
		if (s->base_offset < least)
			return out_of(s->base_offset, least, most, err);
		return out_of(s->end_offset, s->end_offset < s->base_offset ? s->base_offset : least, most, err);
	}
	if (status == SHMETA_OK)
		status = check_number("size_bytes", s->size_bytes, 0, INT64_MAX, err);
	if (status == SHMETA_OK)
		status = check_number("position", s->position, 0, INT64_MAX - s->size_bytes, err);
	return status;
}

/* Old ones may overlap each other, as they are there; new ones may not. */
static enum shmeta_status check_replace(const struct shmeta_replace *r, struct shmeta_err *err)
{
	enum shmeta_status status = check_number("old_count", r->old_count, 1, UINT32_MAX, err);
	uint64_t least = 0, end = 0;

	if (status == SHMETA_OK && (r->old_segments == NULL || (r->new_count > 0 && r->new_segments == NULL)))
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a list of segments has a length but no segments");
	for (uint64_t i = 0; status == SHMETA_OK && i < r->old_count; i++) {
		const struct shmeta_segment *s = &r->old_segments[i];

		status = check_listed(s, "old", i, least, INT64_MAX, err);
		least = s->base_offset + 1;
		end = s->end_offset > end ? s->end_offset : end;
	}
	least = status == SHMETA_OK ? r->old_segments[0].base_offset : 0;
	for (uint64_t i = 0; status == SHMETA_OK && i < r->new_count; i++) {
		status = check_listed(&r->new_segments[i], "new", i, least, end, err);
		least = r->new_segments[i].end_offset + 1;
	}
	return status == SHMETA_OK ? check_number("compaction_epoch", r->compaction_epoch, 0, INT64_MAX, err) : status;
}

static enum shmeta_status check_union(const struct shmeta_op *op, struct shmeta_err *err)
{
	uint32_t has = shmeta__op_types[op->type].has;

	if ((has & OP_HAS_TOPIC) != 0)
		return check_topic(&op->u.topic, err);
	if ((has & OP_HAS_SEGMENT) != 0)
		return check_segment(op, err);
	if ((has & OP_HAS_COMMITTED) != 0)
		return check_committed(&op->u.committed, err);
	if ((has & OP_HAS_AGENT_ROW) != 0)
		return check_agent(&op->u.agent, err);
	if ((has & OP_HAS_OBJECT) != 0)
		return check_object(&op->u.object, err);
	if ((has & OP_HAS_REPLACE) != 0)
		return check_replace(&op->u.replace, err);
	return SHMETA_OK;
}

static enum shmeta_status bad_duration(int64_t duration_ms, struct shmeta_err *err)
{
	(void)shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "duration_ms %lld is out of range: it may be 1 to %lld",
	                  (long long)duration_ms, (long long)DURATION_MAX_MS);
	return out_of((uint64_t)duration_ms, 1, (uint64_t)DURATION_MAX_MS, err);
}

enum shmeta_status shmeta__op_check(const struct shmeta_op *op, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	uint32_t has;

	if (!op_known((unsigned int)op->type))
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "type %u is not an operation: they are 1 to %d",
		                   (unsigned int)op->type, SHMETA_OP_TYPES - 1);
	has = shmeta__op_types[op->type].has;
	if ((has & OP_HAS_NAME) != 0)
		status = check_name("topic name", op->name, err);
	if (status == SHMETA_OK && (has & OP_HAS_PARTITION) != 0)
		status = check_number("partition_id", op->partition_id, 0, SHMETA_PARTITIONS_MAX - 1, err);
	if (status == SHMETA_OK && (has & OP_HAS_OFFSET) != 0)
		status = check_number("offset", op->offset, 0, INT64_MAX, err);
	if (status == SHMETA_OK && (has & OP_HAS_GROUP) != 0)
		status = check_name("group_id", op->group_id, err);
	if (status == SHMETA_OK && (has & OP_HAS_AGENT) != 0)
		status = check_name("agent_id", op->agent_id, err);
	if (status == SHMETA_OK && (has & OP_HAS_OTHER) != 0)
		status = check_name("to_agent_id", op->to_agent_id, err);
	if (status == SHMETA_OK && (has & OP_HAS_TRANSFER) != 0)
		status = check_number("transfer_id", op->transfer_id, 1, INT64_MAX, err);
	if (status == SHMETA_OK && (has & OP_HAS_DURATION) != 0 &&
	    (op->duration_ms < 1 || op->duration_ms > DURATION_MAX_MS))
		status = bad_duration(op->duration_ms, err);
	if (status == SHMETA_OK)
		status = check_union(op, err);
	return status == SHMETA_OK ? check_fence(op, err) : status;
}
