/* SPDX-License-Identifier: Apache-2.0
 * Operations and results as bytes.
 *
 * Each type has one row in a table that says which fields of struct shmeta_op go where. Decoding
 * turns the bytes into an operation and that operation back into a header: where the two headers
 * differ, a field was set that the type does not have. So an operation has exactly one spelling,
 * and no byte of it is without meaning. */
#include "shm/wire/op.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/escape.h"
#include "base/row_limits.h"
#include "base/string_map.h"
#include "shm/record/record.h"
#include "shm/wire/wire.h"

/* What a type carries; the columns are read by gather(), scatter() and shmeta__op_check(). */
enum {
	NAME = 1u << 0,      /* name                                             */
	PARTITION = 1u << 1, /* partition_id                                     */
	FENCED = 1u << 2,    /* may have a fence                                 */
	OFFSET = 1u << 3,    /* offset                                           */
	GROUP = 1u << 4,     /* group_id                                         */
	AGENT = 1u << 5,     /* agent_id                                         */
	OTHER = 1u << 6,     /* to_agent_id                                      */
	DURATION = 1u << 7,  /* duration_ms                                      */
	TRANSFER = 1u << 8,  /* transfer_id                                      */
	U_TOPIC = 1u << 9,   /* u.topic, but what the writer itself gives        */
	U_SEGMENT = 1u << 10,
	U_COMMITTED = 1u << 11,
	U_AGENT = 1u << 12,
	U_OBJECT = 1u << 13, /* bucket and key                                   */
	U_SIZED = 1u << 14,  /* and the object's size and time                   */
	R_COUNT = 1u << 15,  /* results: count                                   */
	R_LEASE = 1u << 16,  /* results: lease                                   */
};

static const struct {
	const char *name;
	uint32_t has;
} types[SHMETA_OP_TYPES] = {
	[SHMETA_OP_CREATE_TOPIC] = {"create_topic", U_TOPIC},
	[SHMETA_OP_DELETE_TOPIC] = {"delete_topic", NAME},
	[SHMETA_OP_UPDATE_HIGH_WATERMARK] = {"update_high_watermark", NAME | PARTITION | FENCED | OFFSET},
	[SHMETA_OP_ADD_SEGMENT] = {"add_segment", NAME | PARTITION | FENCED | U_SEGMENT},
	[SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK] = {"add_segment_and_update_watermark",
                                                        NAME | PARTITION | FENCED | U_SEGMENT},
	[SHMETA_OP_DELETE_SEGMENTS_BEFORE] = {"delete_segments_before", NAME | PARTITION | OFFSET | R_COUNT},
	[SHMETA_OP_ENSURE_GROUP] = {"ensure_consumer_group", GROUP},
	[SHMETA_OP_COMMIT_OFFSET] = {"commit_offset", NAME | PARTITION | U_COMMITTED},
	[SHMETA_OP_DELETE_GROUP] = {"delete_consumer_group", GROUP},
	[SHMETA_OP_REGISTER_AGENT] = {"register_agent", U_AGENT},
	[SHMETA_OP_DEREGISTER_AGENT] = {"deregister_agent", AGENT},
	[SHMETA_OP_ACQUIRE_LEASE] = {"acquire_partition_lease", NAME | PARTITION | AGENT | DURATION | R_LEASE},
	[SHMETA_OP_RELEASE_LEASE] = {"release_partition_lease", NAME | PARTITION | AGENT},
	[SHMETA_OP_OFFER_LEASE] = {"offer_partition_lease", NAME | PARTITION | AGENT | OTHER | DURATION},
	[SHMETA_OP_ACCEPT_LEASE] = {"accept_partition_lease", TRANSFER | AGENT},
	[SHMETA_OP_COMPLETE_LEASE] = {"complete_partition_lease", TRANSFER | AGENT | DURATION | R_LEASE},
	[SHMETA_OP_REJECT_LEASE] = {"reject_partition_lease", TRANSFER | AGENT},
	[SHMETA_OP_COMMIT_OBJECT] = {"commit_object", U_OBJECT | U_SIZED},
	[SHMETA_OP_ADD_SLICE] = {"add_slice", NAME | PARTITION | FENCED | U_SEGMENT},
	[SHMETA_OP_CONFIRM_OBJECT_DELETED] = {"confirm_object_deleted", U_OBJECT},
};

static bool known(unsigned int type)
{
	return type > 0 && type < SHMETA_OP_TYPES;
}

const char *shmeta__op_name(enum shmeta_op_type type)
{
	return known((unsigned int)type) ? types[type].name : "unknown";
}

static size_t padded(size_t bytes)
{
	return (bytes + 7) / 8 * 8;
}

/* ---- operations ---- */

static struct shmeta_str of_map(struct shmeta_map map)
{
	return (struct shmeta_str){map.data, map.bytes};
}

static void gather_segment(const struct shmeta_segment *segment, struct shmeta_wire_op *w, struct shmeta_str *s)
{
	s[SHMETA_WIRE_A] = segment->id;
	s[SHMETA_WIRE_B] = segment->s3_bucket;
	s[SHMETA_WIRE_C] = segment->s3_key;
	w->offset = segment->base_offset;
	w->end_offset = segment->end_offset;
	w->size_bytes = segment->size_bytes;
	w->position = segment->position;
	w->count = segment->record_count;
	w->time_ms[0] = segment->created_at_ms;
	w->time_ms[1] = segment->min_timestamp_ms;
	w->time_ms[2] = segment->max_timestamp_ms;
}

static void gather_union(const struct shmeta_op *op, uint32_t has, struct shmeta_wire_op *w, struct shmeta_str *s)
{
	if ((has & U_TOPIC) != 0) {
		s[SHMETA_WIRE_NAME] = op->u.topic.name;
		s[SHMETA_WIRE_A] = op->u.topic.cleanup_policy;
		s[SHMETA_WIRE_MAP] = of_map(op->u.topic.config);
		w->count = op->u.topic.partition_count;
		if (op->u.topic.has_retention) {
			w->flags |= SHMETA_WIRE_HAS_RETENTION;
			w->time_ms[0] = op->u.topic.retention_ms;
		}
	}
	if ((has & U_SEGMENT) != 0)
		gather_segment(&op->u.segment, w, s);
	if ((has & U_COMMITTED) != 0) {
		s[SHMETA_WIRE_ACTOR] = op->u.committed.group_id;
		w->offset = op->u.committed.committed_offset;
		if (op->u.committed.has_metadata) {
			w->flags |= SHMETA_WIRE_HAS_METADATA;
			s[SHMETA_WIRE_MAP] = op->u.committed.metadata;
		}
	}
	if ((has & U_AGENT) != 0) {
		s[SHMETA_WIRE_ACTOR] = op->u.agent.agent_id;
		s[SHMETA_WIRE_A] = op->u.agent.address;
		s[SHMETA_WIRE_B] = op->u.agent.availability_zone;
		s[SHMETA_WIRE_C] = op->u.agent.agent_group;
		s[SHMETA_WIRE_MAP] = of_map(op->u.agent.metadata);
		w->time_ms[0] = op->u.agent.last_heartbeat_ms;
		w->time_ms[1] = op->u.agent.started_at_ms;
	}
	if ((has & U_OBJECT) != 0) {
		s[SHMETA_WIRE_B] = op->u.object.s3_bucket;
		s[SHMETA_WIRE_C] = op->u.object.s3_key;
	}
	if ((has & U_SIZED) != 0) {
		w->size_bytes = op->u.object.size_bytes;
		w->time_ms[0] = op->u.object.created_at_ms;
	}
}

/* The header without its sizes, and the strings. A fence always travels: whether the type may have
 * one is for shmeta__op_check() to say, as a write whose fence is overlooked is worse than one that
 * is refused. */
static void gather(const struct shmeta_op *op, struct shmeta_wire_op *w, struct shmeta_str s[SHMETA_WIRE_STRINGS])
{
	uint32_t has = types[op->type].has;

	memset(w, 0, sizeof *w);
	memset(s, 0, SHMETA_WIRE_STRINGS * sizeof *s);
	w->type = (uint16_t)op->type;
	w->request_id[0] = op->request_id[0];
	w->request_id[1] = op->request_id[1];
	s[SHMETA_WIRE_FENCE] = op->fence.agent_id;
	w->fence_epoch = op->fence.epoch;
	if ((has & NAME) != 0)
		s[SHMETA_WIRE_NAME] = op->name;
	if ((has & PARTITION) != 0)
		w->partition_id = op->partition_id;
	if ((has & OFFSET) != 0)
		w->offset = op->offset;
	if ((has & GROUP) != 0)
		s[SHMETA_WIRE_ACTOR] = op->group_id;
	if ((has & AGENT) != 0)
		s[SHMETA_WIRE_ACTOR] = op->agent_id;
	if ((has & OTHER) != 0)
		s[SHMETA_WIRE_OTHER] = op->to_agent_id;
	if ((has & DURATION) != 0)
		w->time_ms[0] = op->duration_ms;
	if ((has & TRANSFER) != 0)
		w->position = op->transfer_id;
	gather_union(op, has, w, s);
}

static void scatter_segment(const struct shmeta_wire_op *w, const struct shmeta_str *s, struct shmeta_segment *ret)
{
	ret->id = s[SHMETA_WIRE_A];
	ret->s3_bucket = s[SHMETA_WIRE_B];
	ret->s3_key = s[SHMETA_WIRE_C];
	ret->base_offset = w->offset;
	ret->end_offset = w->end_offset;
	ret->size_bytes = w->size_bytes;
	ret->position = w->position;
	ret->record_count = w->count;
	ret->partition_id = w->partition_id;
	ret->created_at_ms = w->time_ms[0];
	ret->min_timestamp_ms = w->time_ms[1];
	ret->max_timestamp_ms = w->time_ms[2];
}

static void scatter_union(const struct shmeta_wire_op *w, uint32_t has, const struct shmeta_str *s,
                          struct shmeta_op *op)
{
	if ((has & U_TOPIC) != 0) {
		op->u.topic.name = s[SHMETA_WIRE_NAME];
		op->u.topic.cleanup_policy = s[SHMETA_WIRE_A];
		op->u.topic.config = (struct shmeta_map){s[SHMETA_WIRE_MAP].data, s[SHMETA_WIRE_MAP].bytes};
		op->u.topic.partition_count = w->count;
		op->u.topic.has_retention = (w->flags & SHMETA_WIRE_HAS_RETENTION) != 0;
		op->u.topic.retention_ms = w->time_ms[0];
	}
	if ((has & U_SEGMENT) != 0)
		scatter_segment(w, s, &op->u.segment);
	if ((has & U_COMMITTED) != 0) {
		op->u.committed.group_id = s[SHMETA_WIRE_ACTOR];
		op->u.committed.committed_offset = w->offset;
		op->u.committed.partition_id = w->partition_id;
		op->u.committed.has_metadata = (w->flags & SHMETA_WIRE_HAS_METADATA) != 0;
		op->u.committed.metadata = s[SHMETA_WIRE_MAP];
	}
	if ((has & U_AGENT) != 0) {
		op->u.agent.agent_id = s[SHMETA_WIRE_ACTOR];
		op->u.agent.address = s[SHMETA_WIRE_A];
		op->u.agent.availability_zone = s[SHMETA_WIRE_B];
		op->u.agent.agent_group = s[SHMETA_WIRE_C];
		op->u.agent.metadata = (struct shmeta_map){s[SHMETA_WIRE_MAP].data, s[SHMETA_WIRE_MAP].bytes};
		op->u.agent.last_heartbeat_ms = w->time_ms[0];
		op->u.agent.started_at_ms = w->time_ms[1];
	}
	if ((has & U_OBJECT) != 0) {
		op->u.object.s3_bucket = s[SHMETA_WIRE_B];
		op->u.object.s3_key = s[SHMETA_WIRE_C];
	}
	if ((has & U_SIZED) != 0) {
		op->u.object.size_bytes = w->size_bytes;
		op->u.object.created_at_ms = w->time_ms[0];
	}
}

static void scatter(const struct shmeta_wire_op *w, const struct shmeta_str *s, struct shmeta_op *op)
{
	uint32_t has = types[w->type].has;

	memset(op, 0, sizeof *op);
	op->type = (enum shmeta_op_type)w->type;
	op->request_id[0] = w->request_id[0];
	op->request_id[1] = w->request_id[1];
	op->fence.agent_id = s[SHMETA_WIRE_FENCE];
	op->fence.epoch = w->fence_epoch;
	if ((has & NAME) != 0)
		op->name = s[SHMETA_WIRE_NAME];
	if ((has & PARTITION) != 0)
		op->partition_id = w->partition_id;
	if ((has & OFFSET) != 0)
		op->offset = w->offset;
	if ((has & GROUP) != 0)
		op->group_id = s[SHMETA_WIRE_ACTOR];
	if ((has & AGENT) != 0)
		op->agent_id = s[SHMETA_WIRE_ACTOR];
	if ((has & OTHER) != 0)
		op->to_agent_id = s[SHMETA_WIRE_OTHER];
	if ((has & DURATION) != 0)
		op->duration_ms = w->time_ms[0];
	if ((has & TRANSFER) != 0)
		op->transfer_id = w->position;
	scatter_union(w, has, s, op);
}

/* The sizes; 0 when no frame could hold it. */
static size_t measure(struct shmeta_wire_op *w, const struct shmeta_str s[SHMETA_WIRE_STRINGS])
{
	size_t bytes = sizeof *w;

	for (int i = 0; i < SHMETA_WIRE_STRINGS; i++) {
		if (s[i].bytes > SHMETA_FRAME_MAX || (s[i].bytes > 0 && s[i].data == NULL))
			return 0;
		w->string_bytes[i] = (uint32_t)s[i].bytes;
		bytes += s[i].bytes;
	}
	bytes = padded(bytes);
	w->bytes = (uint32_t)bytes;
	return bytes;
}

size_t shmeta__op_bytes(const struct shmeta_op *op)
{
	struct shmeta_str s[SHMETA_WIRE_STRINGS];
	struct shmeta_wire_op w;
	size_t bytes;

	if (!known((unsigned int)op->type))
		return SIZE_MAX;
	gather(op, &w, s);
	bytes = measure(&w, s);
	return bytes == 0 ? SIZE_MAX : bytes;
}

size_t shmeta__op_encode(const struct shmeta_op *op, void *out, size_t capacity)
{
	struct shmeta_str s[SHMETA_WIRE_STRINGS];
	struct shmeta_wire_op w;
	uint8_t *p = out;
	size_t bytes, at = sizeof w;

	if (!known((unsigned int)op->type))
		return 0;
	gather(op, &w, s);
	bytes = measure(&w, s);
	if (bytes == 0 || bytes > capacity)
		return 0;
	memcpy(p, &w, sizeof w);
	for (int i = 0; i < SHMETA_WIRE_STRINGS; i++) {
		if (s[i].bytes > 0)
			memcpy(p + at, s[i].data, s[i].bytes);
		at += s[i].bytes;
	}
	memset(p + at, 0, bytes - at);
	return bytes;
}

static bool all_zero(const uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (p[i] != 0)
			return false;
	return true;
}

enum shmeta_status shmeta__op_decode(const void *bytes, size_t size, struct shmeta_op *ret, size_t *ret_used)
{
	struct shmeta_str s[SHMETA_WIRE_STRINGS], s_again[SHMETA_WIRE_STRINGS];
	struct shmeta_wire_op w, again;
	const uint8_t *p = bytes;
	struct shmeta_op op;
	uint64_t at = sizeof w;

	if (size < sizeof w)
		return SHMETA_ERR_PROTOCOL;
	memcpy(&w, p, sizeof w);
	if (!known(w.type) || w.bytes > size || w.bytes > SHMETA_FRAME_MAX)
		return SHMETA_ERR_PROTOCOL;
	for (int i = 0; i < SHMETA_WIRE_STRINGS; i++) {
		if (w.string_bytes[i] > w.bytes || at + w.string_bytes[i] > w.bytes)
			return SHMETA_ERR_PROTOCOL;
		s[i] = (struct shmeta_str){(const char *)p + at, w.string_bytes[i]};
		at += w.string_bytes[i];
	}
	if (padded(at) != w.bytes || !all_zero(p + at, w.bytes - at))
		return SHMETA_ERR_PROTOCOL;
	scatter(&w, s, &op);
	gather(&op, &again, s_again);
	(void)measure(&again, s_again);
	if (memcmp(&w, &again, sizeof w) != 0)
		return SHMETA_ERR_PROTOCOL;
	*ret = op;
	*ret_used = w.bytes;
	return SHMETA_OK;
}

/* ---- C9 ---- */

/* A thousand years: a lease of so many milliseconds does not overflow any clock. */
static const int64_t DURATION_MAX_MS = INT64_C(31556952000000);

static enum shmeta_status bad(struct shmeta_err *err, const char *field, struct shmeta_str value, const char *wrong,
                              size_t least, size_t most, const char *kind)
{
	char shown[40];

	return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "%s '%s' %s: %zu to %zu bytes of %s", field,
	                   shmeta__escape(shown, sizeof shown, value.data, value.data == NULL ? 0 : value.bytes), wrong,
	                   least, most, kind);
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
	return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "%s %llu is out of range: it may be %llu to %llu", field,
	                   (unsigned long long)value, (unsigned long long)least, (unsigned long long)most);
}

/* Sources keep maps as JSON: keys and values must be text. */
static enum shmeta_status check_map(const char *field, const struct shmeta_map *map, struct shmeta_err *err)
{
	const char *wrong = map->data == NULL && map->bytes > 0 ? "has a length but no bytes" : shmeta__map_error(map);
	struct shmeta_str key, value;
	char shown[40];
	size_t cursor = 0;

	if (wrong != NULL)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                   "%s %s: it has %zu bytes packed, at most %d may be", field, wrong, map->bytes,
		                   SHMETA_MAP_MAX);
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
	if ((types[op->type].has & FENCED) == 0)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "fence: %s cannot be fenced: leave fence zero",
		                   types[op->type].name);
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

static enum shmeta_status check_union(const struct shmeta_op *op, struct shmeta_err *err)
{
	uint32_t has = types[op->type].has;

	if ((has & U_TOPIC) != 0)
		return check_topic(&op->u.topic, err);
	if ((has & U_SEGMENT) != 0)
		return check_segment(op, err);
	if ((has & U_COMMITTED) != 0)
		return check_committed(&op->u.committed, err);
	if ((has & U_AGENT) != 0)
		return check_agent(&op->u.agent, err);
	if ((has & U_OBJECT) != 0)
		return check_object(&op->u.object, err);
	return SHMETA_OK;
}

enum shmeta_status shmeta__op_check(const struct shmeta_op *op, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	uint32_t has;

	if (!known((unsigned int)op->type))
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "type %u is not an operation: they are 1 to %d",
		                   (unsigned int)op->type, SHMETA_OP_TYPES - 1);
	has = types[op->type].has;
	if ((has & NAME) != 0)
		status = check_name("topic name", op->name, err);
	if (status == SHMETA_OK && (has & PARTITION) != 0)
		status = check_number("partition_id", op->partition_id, 0, SHMETA_PARTITIONS_MAX - 1, err);
	if (status == SHMETA_OK && (has & OFFSET) != 0)
		status = check_number("offset", op->offset, 0, INT64_MAX, err);
	if (status == SHMETA_OK && (has & GROUP) != 0)
		status = check_name("group_id", op->group_id, err);
	if (status == SHMETA_OK && (has & AGENT) != 0)
		status = check_name("agent_id", op->agent_id, err);
	if (status == SHMETA_OK && (has & OTHER) != 0)
		status = check_name("to_agent_id", op->to_agent_id, err);
	if (status == SHMETA_OK && (has & TRANSFER) != 0)
		status = check_number("transfer_id", op->transfer_id, 1, INT64_MAX, err);
	if (status == SHMETA_OK && (has & DURATION) != 0 && (op->duration_ms < 1 || op->duration_ms > DURATION_MAX_MS))
		status = shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                     "duration_ms %lld is out of range: it may be 1 to %lld",
		                     (long long)op->duration_ms, (long long)DURATION_MAX_MS);
	if (status == SHMETA_OK)
		status = check_union(op, err);
	return status == SHMETA_OK ? check_fence(op, err) : status;
}

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

static void gather_result(uint32_t has, const struct shmeta_result *result, struct shmeta_wire_result *w)
{
	size_t text = strnlen(result->text, TEXT_MAX);

	memset(w, 0, sizeof *w);
	w->bytes = (uint32_t)padded(sizeof *w + text);
	w->status = result->status;
	w->partition_id = result->partition_id;
	w->text_bytes = (uint32_t)text;
	if ((has & R_COUNT) != 0)
		w->count = result->count;
	if ((has & OTHER) != 0)
		w->count = result->transfer_id;
	if ((has & R_LEASE) != 0) {
		w->epoch = result->lease.epoch;
		w->time_ms[0] = result->lease.lease_expires_at_ms;
		w->time_ms[1] = result->lease.acquired_at_ms;
	}
	if ((has & U_SEGMENT) != 0) {
		w->base_offset = result->existing.base_offset;
		w->end_offset = result->existing.end_offset;
		w->size_bytes = result->existing.size_bytes;
		w->record_count = result->existing.record_count;
		w->time_ms[0] = result->existing.created_at_ms;
		w->time_ms[1] = result->existing.min_timestamp_ms;
		w->time_ms[2] = result->existing.max_timestamp_ms;
	}
}

static void scatter_result(uint32_t has, const struct shmeta_wire_result *w, const char *text,
                           struct shmeta_result *result)
{
	memset(result, 0, sizeof *result);
	result->status = (enum shmeta_status)w->status;
	result->partition_id = w->partition_id;
	memcpy(result->text, text, w->text_bytes);
	if ((has & R_COUNT) != 0)
		result->count = w->count;
	if ((has & OTHER) != 0)
		result->transfer_id = w->count;
	if ((has & R_LEASE) != 0) {
		result->lease.partition_id = w->partition_id;
		result->lease.epoch = w->epoch;
		result->lease.lease_expires_at_ms = w->time_ms[0];
		result->lease.acquired_at_ms = w->time_ms[1];
	}
	if ((has & U_SEGMENT) != 0) {
		result->existing.partition_id = w->partition_id;
		result->existing.base_offset = w->base_offset;
		result->existing.end_offset = w->end_offset;
		result->existing.size_bytes = w->size_bytes;
		result->existing.record_count = w->record_count;
		result->existing.created_at_ms = w->time_ms[0];
		result->existing.min_timestamp_ms = w->time_ms[1];
		result->existing.max_timestamp_ms = w->time_ms[2];
	}
}

size_t shmeta__result_bytes(const struct shmeta_result *result)
{
	return padded(sizeof(struct shmeta_wire_result) + strnlen(result->text, TEXT_MAX));
}

size_t shmeta__result_encode(enum shmeta_op_type type, const struct shmeta_result *result, void *out, size_t capacity)
{
	struct shmeta_wire_result w;
	uint8_t *p = out;

	if (!known((unsigned int)type))
		return 0;
	gather_result(types[type].has, result, &w);
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

	if (!known((unsigned int)type) || size < sizeof w)
		return SHMETA_ERR_PROTOCOL;
	memcpy(&w, p, sizeof w);
	if (w.bytes > size || w.text_bytes > TEXT_MAX || !shmeta__status_known(w.status))
		return SHMETA_ERR_PROTOCOL;
	end = sizeof w + w.text_bytes;
	if (w.bytes != padded(end) || !all_zero(p + end, w.bytes - end))
		return SHMETA_ERR_PROTOCOL;
	scatter_result(types[type].has, &w, (const char *)p + sizeof w, &result);
	gather_result(types[type].has, &result, &again);
	if (memcmp(&w, &again, sizeof w) != 0)
		return SHMETA_ERR_PROTOCOL;
	*ret = result;
	*ret_used = w.bytes;
	return SHMETA_OK;
}

/* ---- objects ---- */

size_t shmeta__object_bytes(const struct shmeta_object_info *object)
{
	return padded(sizeof(struct shmeta_wire_object) + object->object.s3_bucket.bytes + object->object.s3_key.bytes);
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
	if (w.bytes != padded(end) || !all_zero(p + end, w.bytes - end))
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
