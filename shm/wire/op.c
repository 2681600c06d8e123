/* SPDX-License-Identifier: Apache-2.0
 * Operations as bytes.
 *
 * Each type has one row in a table that says which fields of struct shmeta_op go where. Decoding
 * turns the bytes into an operation and that operation back into a header: where the two headers
 * differ, a field was set that the type does not have. So an operation has exactly one spelling,
 * and no byte of it is without meaning. */
#include "shm/wire/op.h"

#include <string.h>

#include "base/hex.h"
#include "shm/wire/op_fields.h"
#include "shm/wire/wire.h"

const struct shmeta__op_type shmeta__op_types[SHMETA_OP_TYPES] = {
	[SHMETA_OP_CREATE_TOPIC] = {"create_topic", OP_HAS_TOPIC},
	[SHMETA_OP_DELETE_TOPIC] = {"delete_topic", OP_HAS_NAME},
	[SHMETA_OP_UPDATE_HIGH_WATERMARK] = {"update_high_watermark",
                                             OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_FENCED | OP_HAS_OFFSET},
	[SHMETA_OP_ADD_SEGMENT] = {"add_segment", OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_FENCED | OP_HAS_SEGMENT},
	[SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK] = {"add_segment_and_update_watermark",
                                                        OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_FENCED |
                                                                OP_HAS_SEGMENT},
	[SHMETA_OP_DELETE_SEGMENTS_BEFORE] = {"delete_segments_before",
                                              OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_OFFSET | OP_HAS_COUNT},
	[SHMETA_OP_ENSURE_GROUP] = {"ensure_consumer_group", OP_HAS_GROUP},
	[SHMETA_OP_COMMIT_OFFSET] = {"commit_offset", OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_COMMITTED},
	[SHMETA_OP_DELETE_GROUP] = {"delete_consumer_group", OP_HAS_GROUP},
	[SHMETA_OP_REGISTER_AGENT] = {"register_agent", OP_HAS_AGENT_ROW},
	[SHMETA_OP_DEREGISTER_AGENT] = {"deregister_agent", OP_HAS_AGENT},
	[SHMETA_OP_ACQUIRE_LEASE] = {"acquire_partition_lease",
                                     OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_AGENT | OP_HAS_DURATION | OP_HAS_LEASE},
	[SHMETA_OP_RELEASE_LEASE] = {"release_partition_lease", OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_AGENT},
	[SHMETA_OP_OFFER_LEASE] = {"offer_partition_lease",
                                   OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_AGENT | OP_HAS_OTHER | OP_HAS_DURATION},
	[SHMETA_OP_ACCEPT_LEASE] = {"accept_partition_lease", OP_HAS_TRANSFER | OP_HAS_AGENT},
	[SHMETA_OP_COMPLETE_LEASE] = {"complete_partition_lease",
                                      OP_HAS_TRANSFER | OP_HAS_AGENT | OP_HAS_DURATION | OP_HAS_LEASE},
	[SHMETA_OP_REJECT_LEASE] = {"reject_partition_lease", OP_HAS_TRANSFER | OP_HAS_AGENT},
	[SHMETA_OP_COMMIT_OBJECT] = {"commit_object", OP_HAS_OBJECT | OP_HAS_SIZED},
	[SHMETA_OP_ADD_SLICE] = {"add_slice", OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_FENCED | OP_HAS_SEGMENT},
	[SHMETA_OP_CONFIRM_OBJECT_DELETED] = {"confirm_object_deleted", OP_HAS_OBJECT},
	[SHMETA_OP_REPLACE_SEGMENTS] = {"replace_segments",
                                        OP_HAS_NAME | OP_HAS_PARTITION | OP_HAS_FENCED | OP_HAS_REPLACE | OP_HAS_COUNT},
	[SHMETA_OP_RENEW_AGENT] = {"renew_agent", OP_HAS_AGENT | OP_HAS_BEAT | OP_HAS_DURATION | OP_HAS_COUNT},
};

const char *shmeta__op_name(enum shmeta_op_type type)
{
	return op_known((unsigned int)type) ? shmeta__op_types[type].name : "unknown";
}

bool shmeta__op_is_traced(const struct shmeta_op *op)
{
	static const uint8_t none[SHMETA_TRACE_BYTES];

	return memcmp(op->trace_id, none, sizeof none) != 0;
}

const char *shmeta__op_trace(const struct shmeta_op *op, char ret[SHMETA_TRACE_TEXT])
{
	shmeta__hex_write(ret, op->trace_id, shmeta__op_is_traced(op) ? SHMETA_TRACE_BYTES : 0);
	return ret;
}

static size_t trace_bytes(const struct shmeta_wire_op *w)
{
	return (w->flags & SHMETA_WIRE_HAS_TRACE) != 0 ? SHMETA_TRACE_BYTES : 0;
}

size_t shmeta__op_untrace(void *to, const void *from)
{
	struct shmeta_wire_op w;

	memcpy(&w, from, sizeof w);
	w.bytes -= (uint32_t)trace_bytes(&w);
	w.flags &= (uint16_t)~SHMETA_WIRE_HAS_TRACE;
	memmove(to, from, w.bytes);
	memcpy(to, &w, sizeof w);
	return w.bytes;
}

static struct shmeta_str of_map(struct shmeta_map map)
{
	return (struct shmeta_str){map.data, map.bytes};
}

/* ---- lists of segments ---- */

static const struct shmeta_segment *listed(const struct shmeta_replace *r, uint64_t at)
{
	return at < r->old_count ? &r->old_segments[at] : &r->new_segments[at - r->old_count];
}

static size_t segment_bytes(const struct shmeta_segment *s)
{
	return op_padded(sizeof(struct shmeta_wire_segment) + s->id.bytes + s->s3_bucket.bytes + s->s3_key.bytes);
}

/* 0: it cannot be spelled, or the lists are not there. */
static size_t list_bytes(const struct shmeta_replace *r)
{
	size_t bytes = 0;

	if ((r->old_count > 0 && r->old_segments == NULL) || (r->new_count > 0 && r->new_segments == NULL))
		return 0;
	for (uint64_t i = 0; i < (uint64_t)r->old_count + r->new_count; i++) {
		const struct shmeta_segment *s = listed(r, i);

		if (s->id.bytes > SHMETA_FRAME_MAX || s->s3_bucket.bytes > SHMETA_FRAME_MAX ||
		    s->s3_key.bytes > SHMETA_FRAME_MAX || bytes > SHMETA_FRAME_MAX)
			return 0;
		bytes += segment_bytes(s);
	}
	return bytes;
}

static void pack(const struct shmeta_replace *r, uint8_t *out)
{
	for (uint64_t i = 0; i < (uint64_t)r->old_count + r->new_count; i++) {
		const struct shmeta_segment *s = listed(r, i);
		const struct shmeta_str strings[3] = {s->id, s->s3_bucket, s->s3_key};
		const struct shmeta_wire_segment w = {
			.base_offset = s->base_offset,
			.end_offset = s->end_offset,
			.size_bytes = s->size_bytes,
			.position = s->position,
			.time_ms = {s->created_at_ms, s->min_timestamp_ms, s->max_timestamp_ms},
			.record_count = s->record_count,
			.string_bytes = {(uint32_t)s->id.bytes, (uint32_t)s->s3_bucket.bytes,
		                         (uint32_t)s->s3_key.bytes}};
		size_t at = sizeof w;

		memset(out, 0, segment_bytes(s));
		memcpy(out, &w, sizeof w);
		for (int k = 0; k < 3; k++) {
			if (strings[k].bytes > 0)
				memcpy(out + at, strings[k].data, strings[k].bytes);
			at += strings[k].bytes;
		}
		out += segment_bytes(s);
	}
}

/* The segment that begins at `at`; where it ends, 0: there is none. */
static size_t unpack_one(struct shmeta_str packed, size_t at, uint32_t partition_id, struct shmeta_segment *ret)
{
	struct shmeta_wire_segment w;
	const char *text;
	size_t end;

	if (packed.bytes - at < sizeof w)
		return 0;
	memcpy(&w, packed.data + at, sizeof w);
	end = at + sizeof w;
	for (int i = 0; i < 3; i++) {
		if (w.string_bytes[i] > packed.bytes - end)
			return 0;
		end += w.string_bytes[i];
	}
	text = packed.data + at + sizeof w;
	*ret = (struct shmeta_segment){.base_offset = w.base_offset,
	                               .end_offset = w.end_offset,
	                               .size_bytes = w.size_bytes,
	                               .position = w.position,
	                               .created_at_ms = w.time_ms[0],
	                               .min_timestamp_ms = w.time_ms[1],
	                               .max_timestamp_ms = w.time_ms[2],
	                               .record_count = w.record_count,
	                               .partition_id = partition_id,
	                               .id = {text, w.string_bytes[0]},
	                               .s3_bucket = {text + w.string_bytes[0], w.string_bytes[1]},
	                               .s3_key = {text + w.string_bytes[0] + w.string_bytes[1], w.string_bytes[2]}};
	at += op_padded(end - at);
	if (at > packed.bytes || !op_all_zero((const uint8_t *)packed.data + end, at - end))
		return 0;
	return at;
}

/* Are these bytes so many segments, and nothing else? */
static bool is_list(struct shmeta_str packed, uint64_t count)
{
	struct shmeta_segment s;
	size_t at = 0;

	for (uint64_t i = 0; i < count; i++) {
		at = unpack_one(packed, at, 0, &s);
		if (at == 0)
			return false;
	}
	return at == packed.bytes;
}

size_t shmeta__op_rows(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_REPLACE_SEGMENTS ? (size_t)op->u.replace.old_count + op->u.replace.new_count : 0;
}

void shmeta__op_unpack(const void *bytes, struct shmeta_segment *rows, struct shmeta_op *op)
{
	const size_t count = shmeta__op_rows(op);
	struct shmeta_str packed = {.data = bytes, .bytes = 0};
	struct shmeta_wire_op w;
	size_t at = 0;

	if (op->type != SHMETA_OP_REPLACE_SEGMENTS)
		return;
	memcpy(&w, bytes, sizeof w);
	packed.data += sizeof w;
	for (int i = 0; i < SHMETA_WIRE_MAP; i++)
		packed.data += w.string_bytes[i];
	packed.bytes = w.string_bytes[SHMETA_WIRE_MAP];
	for (size_t i = 0; i < count; i++)
		at = unpack_one(packed, at, w.partition_id, &rows[i]);
	op->u.replace.old_segments = op->u.replace.old_count > 0 ? rows : NULL;
	op->u.replace.new_segments = op->u.replace.new_count > 0 ? rows + op->u.replace.old_count : NULL;
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
	if ((has & OP_HAS_TOPIC) != 0) {
		s[SHMETA_WIRE_NAME] = op->u.topic.name;
		s[SHMETA_WIRE_A] = op->u.topic.cleanup_policy;
		s[SHMETA_WIRE_MAP] = of_map(op->u.topic.config);
		w->count = op->u.topic.partition_count;
		if (op->u.topic.has_retention) {
			w->flags |= SHMETA_WIRE_HAS_RETENTION;
			w->time_ms[0] = op->u.topic.retention_ms;
		}
	}
	if ((has & OP_HAS_SEGMENT) != 0)
		gather_segment(&op->u.segment, w, s);
	if ((has & OP_HAS_COMMITTED) != 0) {
		s[SHMETA_WIRE_ACTOR] = op->u.committed.group_id;
		w->offset = op->u.committed.committed_offset;
		if (op->u.committed.has_metadata) {
			w->flags |= SHMETA_WIRE_HAS_METADATA;
			s[SHMETA_WIRE_MAP] = op->u.committed.metadata;
		}
	}
	if ((has & OP_HAS_AGENT_ROW) != 0) {
		s[SHMETA_WIRE_ACTOR] = op->u.agent.agent_id;
		s[SHMETA_WIRE_A] = op->u.agent.address;
		s[SHMETA_WIRE_B] = op->u.agent.availability_zone;
		s[SHMETA_WIRE_C] = op->u.agent.agent_group;
		s[SHMETA_WIRE_MAP] = of_map(op->u.agent.metadata);
		w->time_ms[0] = op->u.agent.last_heartbeat_ms;
		w->time_ms[1] = op->u.agent.started_at_ms;
	}
	if ((has & OP_HAS_BEAT) != 0)
		w->time_ms[1] = op->u.agent.last_heartbeat_ms;
	if ((has & OP_HAS_OBJECT) != 0) {
		s[SHMETA_WIRE_B] = op->u.object.s3_bucket;
		s[SHMETA_WIRE_C] = op->u.object.s3_key;
	}
	if ((has & OP_HAS_SIZED) != 0) {
		w->size_bytes = op->u.object.size_bytes;
		w->time_ms[0] = op->u.object.created_at_ms;
	}
	if ((has & OP_HAS_REPLACE) != 0) {
		w->count = op->u.replace.old_count;
		w->size_bytes = op->u.replace.new_count;
		w->position = op->u.replace.compaction_epoch;
		/* Packed when it is written; without a pointer it cannot be. */
		s[SHMETA_WIRE_MAP] = (struct shmeta_str){"", list_bytes(&op->u.replace)};
		if (s[SHMETA_WIRE_MAP].bytes == 0 && (op->u.replace.old_count > 0 || op->u.replace.new_count > 0))
			s[SHMETA_WIRE_MAP] = (struct shmeta_str){NULL, 1};
	}
}

/* The header without its sizes, and the strings. A fence always travels: whether the type may have
 * one is for shmeta__op_check() to say, as a write whose fence is overlooked is worse than one that
 * is refused. */
static void gather(const struct shmeta_op *op, struct shmeta_wire_op *w, struct shmeta_str s[SHMETA_WIRE_STRINGS])
{
	uint32_t has = shmeta__op_types[op->type].has;

	memset(w, 0, sizeof *w);
	memset(s, 0, SHMETA_WIRE_STRINGS * sizeof *s);
	w->type = (uint16_t)op->type;
	w->request_id[0] = op->request_id[0];
	w->request_id[1] = op->request_id[1];
	if (shmeta__op_is_traced(op))
		w->flags |= SHMETA_WIRE_HAS_TRACE;
	s[SHMETA_WIRE_FENCE] = op->fence.agent_id;
	w->fence_epoch = op->fence.epoch;
	if ((has & OP_HAS_NAME) != 0)
		s[SHMETA_WIRE_NAME] = op->name;
	if ((has & OP_HAS_PARTITION) != 0)
		w->partition_id = op->partition_id;
	if ((has & OP_HAS_OFFSET) != 0)
		w->offset = op->offset;
	if ((has & OP_HAS_GROUP) != 0)
		s[SHMETA_WIRE_ACTOR] = op->group_id;
	if ((has & OP_HAS_AGENT) != 0)
		s[SHMETA_WIRE_ACTOR] = op->agent_id;
	if ((has & OP_HAS_OTHER) != 0)
		s[SHMETA_WIRE_OTHER] = op->to_agent_id;
	if ((has & OP_HAS_DURATION) != 0)
		w->time_ms[0] = op->duration_ms;
	if ((has & OP_HAS_TRANSFER) != 0)
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
	if ((has & OP_HAS_TOPIC) != 0) {
		op->u.topic.name = s[SHMETA_WIRE_NAME];
		op->u.topic.cleanup_policy = s[SHMETA_WIRE_A];
		op->u.topic.config = (struct shmeta_map){s[SHMETA_WIRE_MAP].data, s[SHMETA_WIRE_MAP].bytes};
		op->u.topic.partition_count = w->count;
		op->u.topic.has_retention = (w->flags & SHMETA_WIRE_HAS_RETENTION) != 0;
		op->u.topic.retention_ms = w->time_ms[0];
	}
	if ((has & OP_HAS_SEGMENT) != 0)
		scatter_segment(w, s, &op->u.segment);
	if ((has & OP_HAS_COMMITTED) != 0) {
		op->u.committed.group_id = s[SHMETA_WIRE_ACTOR];
		op->u.committed.committed_offset = w->offset;
		op->u.committed.partition_id = w->partition_id;
		op->u.committed.has_metadata = (w->flags & SHMETA_WIRE_HAS_METADATA) != 0;
		op->u.committed.metadata = s[SHMETA_WIRE_MAP];
	}
	if ((has & OP_HAS_AGENT_ROW) != 0) {
		op->u.agent.agent_id = s[SHMETA_WIRE_ACTOR];
		op->u.agent.address = s[SHMETA_WIRE_A];
		op->u.agent.availability_zone = s[SHMETA_WIRE_B];
		op->u.agent.agent_group = s[SHMETA_WIRE_C];
		op->u.agent.metadata = (struct shmeta_map){s[SHMETA_WIRE_MAP].data, s[SHMETA_WIRE_MAP].bytes};
		op->u.agent.last_heartbeat_ms = w->time_ms[0];
		op->u.agent.started_at_ms = w->time_ms[1];
	}
	if ((has & OP_HAS_BEAT) != 0)
		op->u.agent.last_heartbeat_ms = w->time_ms[1];
	if ((has & OP_HAS_OBJECT) != 0) {
		op->u.object.s3_bucket = s[SHMETA_WIRE_B];
		op->u.object.s3_key = s[SHMETA_WIRE_C];
	}
	if ((has & OP_HAS_SIZED) != 0) {
		op->u.object.size_bytes = w->size_bytes;
		op->u.object.created_at_ms = w->time_ms[0];
	}
	if ((has & OP_HAS_REPLACE) != 0)
		op->u.replace = (struct shmeta_replace){
			.old_count = w->count, .new_count = (uint32_t)w->size_bytes, .compaction_epoch = w->position};
}

static void scatter(const struct shmeta_wire_op *w, const struct shmeta_str *s, struct shmeta_op *op)
{
	uint32_t has = shmeta__op_types[w->type].has;

	memset(op, 0, sizeof *op);
	op->type = (enum shmeta_op_type)w->type;
	op->request_id[0] = w->request_id[0];
	op->request_id[1] = w->request_id[1];
	op->fence.agent_id = s[SHMETA_WIRE_FENCE];
	op->fence.epoch = w->fence_epoch;
	if ((has & OP_HAS_NAME) != 0)
		op->name = s[SHMETA_WIRE_NAME];
	if ((has & OP_HAS_PARTITION) != 0)
		op->partition_id = w->partition_id;
	if ((has & OP_HAS_OFFSET) != 0)
		op->offset = w->offset;
	if ((has & OP_HAS_GROUP) != 0)
		op->group_id = s[SHMETA_WIRE_ACTOR];
	if ((has & OP_HAS_AGENT) != 0)
		op->agent_id = s[SHMETA_WIRE_ACTOR];
	if ((has & OP_HAS_OTHER) != 0)
		op->to_agent_id = s[SHMETA_WIRE_OTHER];
	if ((has & OP_HAS_DURATION) != 0)
		op->duration_ms = w->time_ms[0];
	if ((has & OP_HAS_TRANSFER) != 0)
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
	bytes = op_padded(bytes) + trace_bytes(w);
	w->bytes = (uint32_t)bytes;
	return bytes;
}

size_t shmeta__op_bytes(const struct shmeta_op *op)
{
	struct shmeta_str s[SHMETA_WIRE_STRINGS];
	struct shmeta_wire_op w;
	size_t bytes;

	if (!op_known((unsigned int)op->type))
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

	if (!op_known((unsigned int)op->type))
		return 0;
	gather(op, &w, s);
	bytes = measure(&w, s);
	if (bytes == 0 || bytes > capacity)
		return 0;
	memcpy(p, &w, sizeof w);
	for (int i = 0; i < SHMETA_WIRE_STRINGS; i++) {
		if (i == SHMETA_WIRE_MAP && op->type == SHMETA_OP_REPLACE_SEGMENTS)
			pack(&op->u.replace, p + at);
		else if (s[i].bytes > 0)
			memcpy(p + at, s[i].data, s[i].bytes);
		at += s[i].bytes;
	}
	memset(p + at, 0, op_padded(at) - at);
	if (trace_bytes(&w) != 0)
		memcpy(p + op_padded(at), op->trace_id, SHMETA_TRACE_BYTES);
	return bytes;
}

enum shmeta_status shmeta__op_decode(const void *bytes, size_t size, struct shmeta_op *ret, size_t *ret_used)
{
	struct shmeta_str s[SHMETA_WIRE_STRINGS], s_again[SHMETA_WIRE_STRINGS];
	struct shmeta_wire_op w, again;
	const uint8_t *p = bytes;
	struct shmeta_op op;
	uint64_t at = sizeof w, end;

	if (size < sizeof w)
		return SHMETA_ERR_PROTOCOL;
	memcpy(&w, p, sizeof w);
	if (!op_known(w.type) || w.bytes > size || w.bytes > SHMETA_FRAME_MAX)
		return SHMETA_ERR_PROTOCOL;
	for (int i = 0; i < SHMETA_WIRE_STRINGS; i++) {
		if (w.string_bytes[i] > w.bytes || at + w.string_bytes[i] > w.bytes)
			return SHMETA_ERR_PROTOCOL;
		s[i] = (struct shmeta_str){(const char *)p + at, w.string_bytes[i]};
		at += w.string_bytes[i];
	}
	end = op_padded(at) + trace_bytes(&w);
	if (end != w.bytes || !op_all_zero(p + at, op_padded(at) - at))
		return SHMETA_ERR_PROTOCOL;
	scatter(&w, s, &op);
	if (trace_bytes(&w) != 0)
		memcpy(op.trace_id, p + op_padded(at), SHMETA_TRACE_BYTES);
	gather(&op, &again, s_again);
	if (op.type == SHMETA_OP_REPLACE_SEGMENTS) {
		if (!is_list(s[SHMETA_WIRE_MAP], w.count + w.size_bytes))
			return SHMETA_ERR_PROTOCOL;
		s_again[SHMETA_WIRE_MAP] = s[SHMETA_WIRE_MAP];
	}
	(void)measure(&again, s_again);
	if (memcmp(&w, &again, sizeof w) != 0)
		return SHMETA_ERR_PROTOCOL;
	*ret = op;
	*ret_used = w.bytes;
	return SHMETA_OK;
}
