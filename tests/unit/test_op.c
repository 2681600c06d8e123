/* SPDX-License-Identifier: Apache-2.0
 * Operations and results as bytes: what is spelled is read back, everything else is refused, and
 * what C9 forbids is refused with a sentence that names the field, the value and the limit. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/row_limits.h"
#include "shm/record/record.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"

TestSuite(op, .timeout = 60);
TestSuite(op_check, .timeout = 30);
TestSuite(result, .timeout = 60);

enum { ROUNDS = 300 };

/* ---- random operations ---- */

static uint64_t seed = 88172645463325252u;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* One in four is the largest value, one in four is 0. */
static uint64_t number(uint64_t most)
{
	switch (next() % 4) {
	case 0:
		return 0;
	case 1:
		return most;
	default:
		return most == UINT64_MAX ? next() : next() % (most + 1);
	}
}

static char pool[2 * SHMETA_FRAME_MAX];

static struct shmeta_str text(size_t least, size_t most)
{
	size_t bytes = least + number(next() % 8 == 0 ? most - least : (most - least) / 16);

	for (size_t i = 0; pool[0] == 0 && i < sizeof pool; i++)
		pool[sizeof pool - 1 - i] = (char)('a' + i % 26);
	return (struct shmeta_str){pool + next() % 26, bytes};
}

static unsigned char map_bytes[SHMETA_MAP_MAX];

static struct shmeta_map map(void)
{
	uint32_t pairs = (uint32_t)(next() % 5), at = 0;

	for (uint32_t i = 0; i < pairs; i++) {
		uint32_t sizes[2] = {2, (uint32_t)number(100)};

		memcpy(map_bytes + at, sizes, 8);
		map_bytes[at + 8] = 'k';
		map_bytes[at + 9] = (unsigned char)('0' + i);
		memset(map_bytes + at + 10, 'v', sizes[1]);
		at += 10 + sizes[1];
	}
	return (struct shmeta_map){map_bytes, at};
}

static struct shmeta_segment segment(int slice)
{
	struct shmeta_segment s = {.base_offset = number(INT64_MAX - 1),
	                           .size_bytes = number(INT64_MAX),
	                           .created_at_ms = (int64_t)next(),
	                           .min_timestamp_ms = (int64_t)next(),
	                           .max_timestamp_ms = (int64_t)next(),
	                           .record_count = (uint32_t)number(UINT32_MAX),
	                           .id = text(1, SHMETA_STRING_MAX)};

	s.end_offset = s.base_offset + number(INT64_MAX - 1 - s.base_offset);
	if (slice) {
		s.position = number(INT64_MAX - s.size_bytes);
	} else {
		s.s3_bucket = text(0, SHMETA_STRING_MAX);
		s.s3_key = text(0, SHMETA_STRING_MAX);
	}
	return s;
}

static struct shmeta_segment lists[2][8];

/* Old ones that touch, and new ones among them. */
static struct shmeta_replace replacement(void)
{
	struct shmeta_replace r = {.old_segments = lists[0],
	                           .new_segments = lists[1],
	                           .old_count = 1 + (uint32_t)number(7),
	                           .new_count = (uint32_t)number(8),
	                           .compaction_epoch = number(INT64_MAX)};
	uint64_t base = number(1000000);

	for (uint32_t i = 0; i < r.old_count; i++) {
		lists[0][i] = segment(0);
		lists[0][i].base_offset = base + 100 * i;
		lists[0][i].end_offset = base + 100 * i + 99;
	}
	for (uint32_t i = 0; i < r.new_count; i++) {
		lists[1][i] = segment(0);
		lists[1][i].base_offset = lists[1][i].end_offset = base + 10 * i;
	}
	return r;
}

/* An operation that C9 allows, with every field that its type reads. */
static struct shmeta_op random_op(enum shmeta_op_type type)
{
	struct shmeta_op op = {.type = type, .request_id = {number(UINT64_MAX), number(UINT64_MAX)}};

	if (next() % 2)
		memset(op.trace_id, 1 + (int)(next() % 255), sizeof op.trace_id);
	switch (type) {
	case SHMETA_OP_CREATE_TOPIC:
		op.u.topic.name = text(1, SHMETA_NAME_MAX);
		op.u.topic.config = map();
		op.u.topic.cleanup_policy = text(0, SHMETA_STRING_MAX);
		op.u.topic.partition_count = 1 + (uint32_t)number(SHMETA_PARTITIONS_MAX - 1);
		op.u.topic.has_retention = next() % 2;
		if (op.u.topic.has_retention)
			op.u.topic.retention_ms = (int64_t)next();
		return op;
	case SHMETA_OP_REGISTER_AGENT:
		op.u.agent = (struct shmeta_agent){.agent_id = text(1, SHMETA_NAME_MAX),
		                                   .address = text(0, SHMETA_STRING_MAX),
		                                   .availability_zone = text(0, SHMETA_STRING_MAX),
		                                   .agent_group = text(0, SHMETA_STRING_MAX),
		                                   .metadata = map(),
		                                   .last_heartbeat_ms = (int64_t)next(),
		                                   .started_at_ms = (int64_t)next()};
		return op;
	case SHMETA_OP_COMMIT_OBJECT:
		op.u.object.size_bytes = number(INT64_MAX);
		op.u.object.created_at_ms = (int64_t)next();
		/* fall through */
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		op.u.object.s3_bucket = text(0, SHMETA_STRING_MAX);
		op.u.object.s3_key = text(1, SHMETA_STRING_MAX);
		return op;
	case SHMETA_OP_ENSURE_GROUP:
	case SHMETA_OP_DELETE_GROUP:
		op.group_id = text(1, SHMETA_NAME_MAX);
		return op;
	case SHMETA_OP_DEREGISTER_AGENT:
		op.agent_id = text(1, SHMETA_NAME_MAX);
		return op;
	case SHMETA_OP_RENEW_AGENT:
		op.agent_id = text(1, SHMETA_NAME_MAX);
		op.u.agent.last_heartbeat_ms = (int64_t)next();
		op.duration_ms = 1 + (int64_t)number(1000000);
		return op;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE:
		op.agent_id = text(1, SHMETA_NAME_MAX);
		op.transfer_id = 1 + number(INT64_MAX - 1);
		if (type == SHMETA_OP_COMPLETE_LEASE)
			op.duration_ms = 1 + (int64_t)number(1000000);
		return op;
	default:
		break;
	}
	op.name = text(1, SHMETA_NAME_MAX);
	if (type == SHMETA_OP_DELETE_TOPIC)
		return op;
	op.partition_id = (uint32_t)number(SHMETA_PARTITIONS_MAX - 1);
	switch (type) {
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		op.offset = number(INT64_MAX);
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
	case SHMETA_OP_ADD_SLICE:
		op.u.segment = segment(type == SHMETA_OP_ADD_SLICE);
		op.u.segment.partition_id = op.partition_id;
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		op.u.replace = replacement();
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		op.u.committed.group_id = text(1, SHMETA_NAME_MAX);
		op.u.committed.committed_offset = number(INT64_MAX);
		op.u.committed.partition_id = op.partition_id;
		op.u.committed.has_metadata = next() % 2;
		if (op.u.committed.has_metadata)
			op.u.committed.metadata = text(0, SHMETA_MAP_MAX);
		break;
	default:
		op.agent_id = text(1, SHMETA_NAME_MAX);
		if (type == SHMETA_OP_OFFER_LEASE)
			op.to_agent_id = text(1, SHMETA_NAME_MAX);
		if (type != SHMETA_OP_RELEASE_LEASE)
			op.duration_ms = 1 + (int64_t)number(1000000);
		break;
	}
	if ((type == SHMETA_OP_UPDATE_HIGH_WATERMARK || type == SHMETA_OP_ADD_SEGMENT || type == SHMETA_OP_ADD_SLICE ||
	     type == SHMETA_OP_REPLACE_SEGMENTS || type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK) &&
	    next() % 2)
		op.fence = (struct shmeta_fence){text(1, SHMETA_NAME_MAX), 1 + number(INT64_MAX - 1)};
	return op;
}

static void same_str(struct shmeta_str a, struct shmeta_str b, const char *what)
{
	cr_assert(a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0), "%s differs", what);
}

static struct shmeta_str str_of(struct shmeta_map m)
{
	return (struct shmeta_str){m.data, m.bytes};
}

static void same_list(const struct shmeta_segment *a, const struct shmeta_segment *b, uint32_t count,
                      uint32_t partition_id)
{
	for (uint32_t i = 0; i < count; i++) {
		same_str(a[i].id, b[i].id, "id");
		same_str(a[i].s3_bucket, b[i].s3_bucket, "s3_bucket");
		same_str(a[i].s3_key, b[i].s3_key, "s3_key");
		cr_assert(a[i].base_offset == b[i].base_offset && a[i].end_offset == b[i].end_offset &&
		          a[i].size_bytes == b[i].size_bytes && a[i].created_at_ms == b[i].created_at_ms &&
		          a[i].min_timestamp_ms == b[i].min_timestamp_ms &&
		          a[i].max_timestamp_ms == b[i].max_timestamp_ms && a[i].record_count == b[i].record_count &&
		          a[i].position == b[i].position && b[i].partition_id == partition_id);
	}
}

/* Every string compared by content, everything else as memory. */
static void same_op(struct shmeta_op a, struct shmeta_op b)
{
#define SAME(field)                                  \
	do {                                         \
		same_str(a.field, b.field, #field);  \
		memset(&a.field, 0, sizeof a.field); \
		memset(&b.field, 0, sizeof b.field); \
	} while (0)
#define SAME_MAP(field)                                             \
	do {                                                        \
		same_str(str_of(a.field), str_of(b.field), #field); \
		memset(&a.field, 0, sizeof a.field);                \
		memset(&b.field, 0, sizeof b.field);                \
	} while (0)
	SAME(name);
	SAME(group_id);
	SAME(agent_id);
	SAME(to_agent_id);
	SAME(fence.agent_id);
	switch (a.type) {
	case SHMETA_OP_CREATE_TOPIC:
		SAME(u.topic.name);
		SAME(u.topic.cleanup_policy);
		SAME_MAP(u.topic.config);
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
	case SHMETA_OP_ADD_SLICE:
		SAME(u.segment.id);
		SAME(u.segment.s3_bucket);
		SAME(u.segment.s3_key);
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		SAME(u.committed.group_id);
		SAME(u.committed.metadata);
		break;
	case SHMETA_OP_REGISTER_AGENT:
		SAME(u.agent.agent_id);
		SAME(u.agent.address);
		SAME(u.agent.availability_zone);
		SAME(u.agent.agent_group);
		SAME_MAP(u.agent.metadata);
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		cr_assert(a.u.replace.old_count == b.u.replace.old_count &&
		          a.u.replace.new_count == b.u.replace.new_count);
		same_list(a.u.replace.old_segments, b.u.replace.old_segments, a.u.replace.old_count, a.partition_id);
		same_list(a.u.replace.new_segments, b.u.replace.new_segments, a.u.replace.new_count, a.partition_id);
		a.u.replace.old_segments = b.u.replace.old_segments = NULL;
		a.u.replace.new_segments = b.u.replace.new_segments = NULL;
		break;
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		SAME(u.object.s3_bucket);
		SAME(u.object.s3_key);
		break;
	default:
		break;
	}
	/* Padding takes part: random_op() and the decoder both begin with zeroes, and a struct of
	 * this size is passed as memory. */
	cr_assert_eq(memcmp((const void *)&a, (const void *)&b, sizeof a), 0, "%s: a number differs",
	             shmeta__op_name(a.type));
#undef SAME
#undef SAME_MAP
}

/* Encoded into a block of exactly its size, so that a sanitizer sees a byte too far. */
static uint8_t *spell(const struct shmeta_op *op, size_t *ret_bytes)
{
	size_t bytes = shmeta__op_bytes(op);
	uint8_t *block = malloc(bytes);

	cr_assert_not_null(block);
	memset(block, 0xee, bytes);
	cr_assert_eq(shmeta__op_encode(op, block, bytes - 1), 0, "one byte too few is not enough");
	cr_assert_eq(shmeta__op_encode(op, block, bytes), bytes);
	cr_assert_eq(bytes % 8, 0);
	*ret_bytes = bytes;
	return block;
}

static void unpack(const uint8_t *block, struct shmeta_op *op)
{
	static struct shmeta_segment rows[64];

	cr_assert_leq(shmeta__op_rows(op), 64);
	shmeta__op_unpack(block, rows, op);
}

Test(op, without_its_trace_id_an_operation_is_spelled_as_if_it_never_had_one)
{
	for (int type = 1; type < SHMETA_OP_TYPES; type++)
		for (int i = 0; i < 20; i++) {
			struct shmeta_op op = random_op((enum shmeta_op_type)type);
			size_t bytes, plain_bytes;
			uint8_t *traced, *plain;
			char text[SHMETA_TRACE_TEXT];

			memset(op.trace_id, 0xa7, sizeof op.trace_id);
			op.trace_id[15] = 0x0c;
			cr_assert_str_eq(shmeta__op_trace(&op, text), "a7a7a7a7a7a7a7a7a7a7a7a7a7a7a70c");
			traced = spell(&op, &bytes);
			memset(op.trace_id, 0, sizeof op.trace_id);
			cr_assert_str_eq(shmeta__op_trace(&op, text), "");
			plain = spell(&op, &plain_bytes);
			cr_assert_eq(plain_bytes + SHMETA_TRACE_BYTES, bytes);
			cr_assert_eq(shmeta__op_untrace(traced, traced), plain_bytes);
			cr_assert_eq(memcmp(traced, plain, plain_bytes), 0);
			cr_assert_eq(shmeta__op_untrace(traced, traced), plain_bytes, "which has none to leave out");
			cr_assert_eq(memcmp(traced, plain, plain_bytes), 0);
			free(traced);
			free(plain);
		}
}

Test(op, a_trace_id_of_zeros_and_one_without_its_flag_are_no_operation)
{
	struct shmeta_op op = random_op(SHMETA_OP_DELETE_TOPIC), read;
	struct shmeta_wire_op w;
	size_t bytes, used;
	uint8_t *block;

	memset(op.trace_id, 1, sizeof op.trace_id);
	block = spell(&op, &bytes);
	cr_assert_eq(shmeta__op_decode(block, bytes, &read, &used), SHMETA_OK);
	memcpy(&w, block, sizeof w);
	w.flags = 0;
	memcpy(block, &w, sizeof w);
	cr_expect_eq(shmeta__op_decode(block, bytes, &read, &used), SHMETA_ERR_PROTOCOL);
	w.flags = SHMETA_WIRE_HAS_TRACE;
	memcpy(block, &w, sizeof w);
	memset(block + bytes - SHMETA_TRACE_BYTES, 0, SHMETA_TRACE_BYTES);
	cr_expect_eq(shmeta__op_decode(block, bytes, &read, &used), SHMETA_ERR_PROTOCOL);
	free(block);
}

Test(op, every_type_reads_back_what_was_spelled)
{
	for (int type = 1; type < SHMETA_OP_TYPES; type++) {
		for (int round = 0; round < ROUNDS; round++) {
			struct shmeta_op op = random_op((enum shmeta_op_type)type), back;
			struct shmeta_err err = {0};
			size_t bytes, used = 0;
			uint8_t *block = spell(&op, &bytes);

			cr_assert_eq(shmeta__op_check(&op, &err), SHMETA_OK, "%s: %s", shmeta__op_name(op.type),
			             err.text);
			cr_assert_eq(shmeta__op_decode(block, bytes, &back, &used), SHMETA_OK);
			cr_assert_eq(used, bytes);
			unpack(block, &back);
			same_op(op, back);
			free(block);
		}
	}
}

Test(op, an_operation_cut_at_any_byte_is_refused_and_never_read_beyond)
{
	for (int type = 1; type < SHMETA_OP_TYPES; type++) {
		struct shmeta_op op = random_op((enum shmeta_op_type)type), back;
		size_t bytes, used;
		uint8_t *block = spell(&op, &bytes);

		for (size_t cut = 0; cut < bytes; cut += cut < 300 ? 1 : 97) {
			uint8_t *part = malloc(cut + 1);

			memcpy(part, block, cut);
			part = realloc(part, cut == 0 ? 1 : cut);
			cr_assert_eq(shmeta__op_decode(part, cut, &back, &used), SHMETA_ERR_PROTOCOL, "%s cut at %zu",
			             shmeta__op_name(op.type), cut);
			free(part);
		}
		free(block);
	}
}

/* No byte is without meaning: with any one of them changed it is refused, or it is another
 * operation. */
Test(op, a_changed_byte_is_refused_or_changes_the_operation)
{
	static uint8_t again[2 * SHMETA_FRAME_MAX];

	for (int type = 1; type < SHMETA_OP_TYPES; type++) {
		struct shmeta_op op = random_op((enum shmeta_op_type)type), back;
		size_t bytes, used;
		uint8_t *block = spell(&op, &bytes);

		for (size_t i = 0; i < bytes; i += i < 400 ? 1 : 61) {
			uint8_t kept = block[i];

			block[i] ^= (uint8_t)(1 + next() % 255);
			if (shmeta__op_decode(block, bytes, &back, &used) == SHMETA_OK) {
				cr_assert_leq(used, bytes);
				unpack(block, &back);
				cr_assert_eq(shmeta__op_encode(&back, again, sizeof again), used);
				cr_assert_eq(memcmp(again, block, used), 0, "%s: byte %zu has no meaning",
				             shmeta__op_name(op.type), i);
			}
			block[i] = kept;
		}
		free(block);
	}
}

Test(op, random_bytes_are_refused_or_read_back_the_same)
{
	static uint8_t again[2 * SHMETA_FRAME_MAX];
	struct shmeta_op op;
	unsigned int taken = 0;
	size_t used;

	for (int round = 0; round < 200000; round++) {
		uint32_t bytes = 128 + 8 * (uint32_t)(next() % 9), left = bytes - 128;
		struct shmeta_wire_op w = {.type = (uint16_t)(next() % 24), .bytes = bytes};
		uint64_t block[24];

		for (int i = 0; i < SHMETA_WIRE_STRINGS; i++) {
			w.string_bytes[i] = next() % 4 == 0 ? (uint32_t)(next() % (left + 1)) : 0;
			left -= w.string_bytes[i];
		}
		memset(block, 'x', sizeof block);
		if (left < 8)
			memset((uint8_t *)block + bytes - left, 0, left);
		if (next() % 3 == 0)
			((uint8_t *)&w)[next() % sizeof w] = (uint8_t)next();
		memcpy(block, &w, sizeof w);
		if (shmeta__op_decode(block, sizeof block, &op, &used) != SHMETA_OK)
			continue;
		taken++;
		unpack((const uint8_t *)block, &op);
		cr_assert_eq(shmeta__op_encode(&op, again, sizeof again), used);
		cr_assert_eq(memcmp(again, block, used), 0);
		(void)shmeta__op_check(&op, &(struct shmeta_err){0});
	}
	cr_assert_gt(taken, 1000, "only %u of them were operations: this test proves little", taken);
}

Test(op, what_a_type_does_not_read_is_not_sent_except_for_a_fence)
{
	struct shmeta_op op, back;
	struct shmeta_err err = {0};
	uint64_t block[64];
	size_t used;

	memset(&op, 0x11, sizeof op);
	op.type = SHMETA_OP_ENSURE_GROUP;
	op.group_id = (struct shmeta_str){"g", 1};
	op.fence = (struct shmeta_fence){{"a", 1}, 7};
	cr_assert_neq(shmeta__op_encode(&op, block, sizeof block), 0);
	cr_assert_eq(shmeta__op_decode(block, sizeof block, &back, &used), SHMETA_OK);
	cr_assert_eq(back.offset, 0);
	cr_assert_eq(back.transfer_id, 0);
	cr_assert_eq(back.name.bytes, 0);
	cr_assert_eq(back.fence.epoch, 7);
	cr_assert_eq(shmeta__op_check(&back, &err), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert(strstr(err.text, "ensure_consumer_group cannot be fenced") != NULL, "%s", err.text);
}

Test(op, what_cannot_be_spelled_says_so)
{
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {pool, SHMETA_FRAME_MAX + 1}};
	uint64_t block[64];

	cr_assert_eq(shmeta__op_bytes(&op), SIZE_MAX);
	cr_assert_eq(shmeta__op_encode(&op, pool, sizeof pool), 0);
	op.name = (struct shmeta_str){NULL, 4};
	cr_assert_eq(shmeta__op_bytes(&op), SIZE_MAX);
	cr_assert_eq(shmeta__op_encode(&op, block, sizeof block), 0);
	op = (struct shmeta_op){.type = SHMETA_OP_TYPES};
	cr_assert_eq(shmeta__op_bytes(&op), SIZE_MAX);
	cr_assert_eq(shmeta__op_encode(&op, block, sizeof block), 0);
	cr_assert_str_eq(shmeta__op_name(SHMETA_OP_TYPES), "unknown");
	cr_assert_str_eq(shmeta__op_name((enum shmeta_op_type)0), "unknown");
}

Test(op, every_type_has_the_name_that_the_header_gives_it)
{
#define X(name, number, text) cr_assert_str_eq(shmeta__op_name(SHMETA_OP_##name), text);
	SHMETA_OP_LIST(X)
#undef X
}

/* ---- C9 ---- */

/* Refused, and the sentence has all of these words; it fits the text of a result. */
static void refused(const struct shmeta_op *op, const char *field, const char *value, const char *limit)
{
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta__op_check(op, &err), SHMETA_ERR_INVALID_ARGUMENT, "%s: a bad %s is accepted",
	             shmeta__op_name(op->type), field);
	cr_assert(strstr(err.text, field) != NULL && strstr(err.text, value) != NULL && strstr(err.text, limit) != NULL,
	          "'%s' should name %s, %s and %s", err.text, field, value, limit);
	cr_assert_lt(strlen(err.text), sizeof((struct shmeta_result *)NULL)->text);
	cr_assert_eq(shmeta__op_check(op, NULL), SHMETA_ERR_INVALID_ARGUMENT);
}

static void out_of_range(const struct shmeta_op *op, uint64_t value, uint64_t least, uint64_t most)
{
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta__op_check(op, &err), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect(err.value == value && err.least == least && err.most == most, "%s: %llu of %llu to %llu", err.text,
	          (unsigned long long)err.value, (unsigned long long)err.least, (unsigned long long)err.most);
}

static void accepted(const struct shmeta_op *op)
{
	struct shmeta_err err = {0};

	cr_assert_eq(shmeta__op_check(op, &err), SHMETA_OK, "%s: %s", shmeta__op_name(op->type), err.text);
}

static struct shmeta_op good(enum shmeta_op_type type)
{
	struct shmeta_op op = random_op(type);

	op.fence = (struct shmeta_fence){{NULL, 0}, 0};
	return op;
}

/* A name field of any operation at its limits. */
static void name_limits(struct shmeta_op *op, struct shmeta_str *field, const char *word)
{
	static char longest[SHMETA_NAME_MAX + 2];

	memset(longest, 'n', sizeof longest);
	*field = (struct shmeta_str){longest, SHMETA_NAME_MAX};
	accepted(op);
	*field = (struct shmeta_str){longest, SHMETA_NAME_MAX + 1};
	refused(op, word, "nnnn", "249");
	*field = (struct shmeta_str){longest, 1};
	accepted(op);
	*field = (struct shmeta_str){longest, 0};
	refused(op, word, "''", "1 to 249");
	*field = (struct shmeta_str){"a\tb", 3};
	refused(op, word, "a\\x09b", "control");
	*field = (struct shmeta_str){"a\xc2\x85", 3};
	refused(op, word, "control", "249");
	*field = (struct shmeta_str){"a\xff", 2};
	refused(op, word, "a\\xff", "UTF-8");
	*field = (struct shmeta_str){"\xed\xa0\x80", 3};
	refused(op, word, "UTF-8", "249");
	*field = (struct shmeta_str){NULL, 3};
	refused(op, word, "no bytes", "249");
	*field = (struct shmeta_str){"\xc3\xa9-\xf0\x9f\x9a\x80", 7};
	accepted(op);
}

static void number_limits(struct shmeta_op *op, uint64_t *field, const char *word, uint64_t least, uint64_t most)
{
	char limit[24], over[24];

	(void)snprintf(limit, sizeof limit, "%llu", (unsigned long long)most);
	*field = most;
	accepted(op);
	(void)snprintf(over, sizeof over, "%llu", (unsigned long long)most + 1);
	*field = most + 1;
	refused(op, word, over, limit);
	*field = UINT64_MAX;
	refused(op, word, "18446744073709551615", limit);
	*field = least;
	accepted(op);
	if (least > 0) {
		*field = least - 1;
		refused(op, word, "out of range", limit);
	}
	*field = least;
}

static void text_limits(struct shmeta_op *op, struct shmeta_str *field, const char *word, size_t least)
{
	static char longest[SHMETA_STRING_MAX + 1];

	memset(longest, 't', sizeof longest);
	*field = (struct shmeta_str){longest, SHMETA_STRING_MAX};
	accepted(op);
	*field = (struct shmeta_str){longest, SHMETA_STRING_MAX + 1};
	refused(op, word, "tttt", "1024");
	*field = (struct shmeta_str){"a\0b", 3};
	refused(op, word, "a\\x00b", "1024");
	*field = (struct shmeta_str){"\x80", 1};
	refused(op, word, "\\x80", "UTF-8");
	*field = (struct shmeta_str){"", 0};
	if (least > 0)
		refused(op, word, "''", "1 to 1024");
	else
		accepted(op);
	*field = (struct shmeta_str){longest, 10};
}

Test(op_check, every_name_has_1_to_249_bytes_of_text)
{
	static const enum shmeta_op_type with_name[] = {
		SHMETA_OP_DELETE_TOPIC,
		SHMETA_OP_UPDATE_HIGH_WATERMARK,
		SHMETA_OP_ADD_SEGMENT,
		SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		SHMETA_OP_DELETE_SEGMENTS_BEFORE,
		SHMETA_OP_COMMIT_OFFSET,
		SHMETA_OP_ACQUIRE_LEASE,
		SHMETA_OP_RELEASE_LEASE,
		SHMETA_OP_OFFER_LEASE,
		SHMETA_OP_ADD_SLICE,
		SHMETA_OP_REPLACE_SEGMENTS,
	};
	static const enum shmeta_op_type with_agent[] = {
		SHMETA_OP_DEREGISTER_AGENT, SHMETA_OP_ACQUIRE_LEASE,  SHMETA_OP_RELEASE_LEASE, SHMETA_OP_OFFER_LEASE,
		SHMETA_OP_ACCEPT_LEASE,     SHMETA_OP_COMPLETE_LEASE, SHMETA_OP_REJECT_LEASE,  SHMETA_OP_RENEW_AGENT,
	};
	struct shmeta_op op;

	for (size_t i = 0; i < sizeof with_name / sizeof with_name[0]; i++) {
		op = good(with_name[i]);
		name_limits(&op, &op.name, "topic name");
	}
	for (size_t i = 0; i < sizeof with_agent / sizeof with_agent[0]; i++) {
		op = good(with_agent[i]);
		name_limits(&op, &op.agent_id, "agent_id");
	}
	op = good(SHMETA_OP_CREATE_TOPIC);
	name_limits(&op, &op.u.topic.name, "topic name");
	op = good(SHMETA_OP_ENSURE_GROUP);
	name_limits(&op, &op.group_id, "group_id");
	op = good(SHMETA_OP_DELETE_GROUP);
	name_limits(&op, &op.group_id, "group_id");
	op = good(SHMETA_OP_COMMIT_OFFSET);
	name_limits(&op, &op.u.committed.group_id, "group_id");
	op = good(SHMETA_OP_REGISTER_AGENT);
	name_limits(&op, &op.u.agent.agent_id, "agent_id");
	op = good(SHMETA_OP_OFFER_LEASE);
	name_limits(&op, &op.to_agent_id, "to_agent_id");
	op = good(SHMETA_OP_ADD_SEGMENT);
	op.fence.epoch = 1;
	name_limits(&op, &op.fence.agent_id, "fence.agent_id");
}

static void partition_limits(enum shmeta_op_type type)
{
	struct shmeta_op op = good(type);

	op.partition_id = SHMETA_PARTITIONS_MAX - 1;
	accepted(&op);
	op.partition_id = SHMETA_PARTITIONS_MAX;
	refused(&op, "partition_id", "100000", "99999");
	op.partition_id = UINT32_MAX;
	refused(&op, "partition_id", "4294967295", "99999");
}

Test(op_check, partitions_are_0_to_99999_and_a_topic_has_1_to_100000)
{
	struct shmeta_op op = good(SHMETA_OP_CREATE_TOPIC);

	op.u.topic.partition_count = SHMETA_PARTITIONS_MAX;
	accepted(&op);
	op.u.topic.partition_count = SHMETA_PARTITIONS_MAX + 1;
	refused(&op, "partition_count", "100001", "100000");
	op.u.topic.partition_count = 0;
	refused(&op, "partition_count", "0", "1 to 100000");
	partition_limits(SHMETA_OP_UPDATE_HIGH_WATERMARK);
	partition_limits(SHMETA_OP_ADD_SEGMENT);
	partition_limits(SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK);
	partition_limits(SHMETA_OP_DELETE_SEGMENTS_BEFORE);
	partition_limits(SHMETA_OP_COMMIT_OFFSET);
	partition_limits(SHMETA_OP_ACQUIRE_LEASE);
	partition_limits(SHMETA_OP_RELEASE_LEASE);
	partition_limits(SHMETA_OP_OFFER_LEASE);
	partition_limits(SHMETA_OP_ADD_SLICE);
	partition_limits(SHMETA_OP_REPLACE_SEGMENTS);
}

Test(op_check, lists_of_segments_are_in_order_and_the_new_ones_lie_within_the_old)
{
	struct shmeta_segment of[2] = {{.base_offset = 10, .end_offset = 19, .id = {"a", 1}},
	                               {.base_offset = 20, .end_offset = 29, .id = {"b", 1}}},
			      by[2] = {{.base_offset = 10, .end_offset = 14, .id = {"c", 1}},
	                               {.base_offset = 20, .end_offset = 29, .id = {"d", 1}}};
	struct shmeta_op op = {.type = SHMETA_OP_REPLACE_SEGMENTS,
	                       .name = {"t", 1},
	                       .u.replace = {.old_segments = of, .new_segments = by, .old_count = 2, .new_count = 2}};

	accepted(&op);
	by[1].base_offset = 14;
	refused(&op, "new segment 1", "14 to 29", "15 to 29");
	by[1].base_offset = 15;
	accepted(&op);
	by[1].end_offset = 30;
	refused(&op, "new segment 1", "15 to 30", "15 to 29");
	by[1].end_offset = 14;
	refused(&op, "new segment 1", "15 to 14", "15 to 29");
	op.u.replace.new_count = 1;
	by[0].base_offset = 9;
	refused(&op, "new segment 0", "9 to 14", "10 to 29");
	op.u.replace.new_count = 0;
	accepted(&op);
	of[1].base_offset = 10;
	refused(&op, "old segment 1", "10 to 29", "11 to");
	of[1].base_offset = 11;
	accepted(&op);
	number_limits(&op, &op.u.replace.compaction_epoch, "compaction_epoch", 0, INT64_MAX);
	op.u.replace.old_count = 0;
	refused(&op, "old_count", "0", "1 to");
	op.u.replace = (struct shmeta_replace){.old_count = 1};
	refused(&op, "a list", "length", "no segments");
	cr_assert_eq(shmeta__op_bytes(&op), SIZE_MAX, "nor is it spelled");
}

Test(op_check, offsets_sizes_and_numbers_given_by_the_writer_are_63_bit)
{
	struct shmeta_op op = good(SHMETA_OP_UPDATE_HIGH_WATERMARK);

	number_limits(&op, &op.offset, "offset", 0, INT64_MAX);
	op = good(SHMETA_OP_DELETE_SEGMENTS_BEFORE);
	number_limits(&op, &op.offset, "offset", 0, INT64_MAX);
	op = good(SHMETA_OP_COMMIT_OFFSET);
	number_limits(&op, &op.u.committed.committed_offset, "committed_offset", 0, INT64_MAX);
	op = good(SHMETA_OP_ADD_SEGMENT);
	op.u.segment.base_offset = 5;
	number_limits(&op, &op.u.segment.end_offset, "end_offset", 5, INT64_MAX);
	number_limits(&op, &op.u.segment.size_bytes, "size_bytes", 0, INT64_MAX);
	op.u.segment.end_offset = INT64_MAX;
	number_limits(&op, &op.u.segment.base_offset, "base_offset", 0, INT64_MAX);
	op = good(SHMETA_OP_COMMIT_OBJECT);
	number_limits(&op, &op.u.object.size_bytes, "size_bytes", 0, INT64_MAX);
	op = good(SHMETA_OP_ACCEPT_LEASE);
	number_limits(&op, &op.transfer_id, "transfer_id", 1, INT64_MAX);
	op = good(SHMETA_OP_ADD_SEGMENT);
	op.fence.agent_id = (struct shmeta_str){"a", 1};
	number_limits(&op, &op.fence.epoch, "fence.epoch", 1, INT64_MAX);
}

Test(op_check, a_watermark_behind_the_last_offset_must_be_an_offset)
{
	struct shmeta_op op = good(SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK);

	op.u.segment.base_offset = 5;
	number_limits(&op, &op.u.segment.end_offset, "end_offset", 5, INT64_MAX - 1);
}

Test(op_check, texts_have_up_to_1024_bytes)
{
	struct shmeta_op op = good(SHMETA_OP_ADD_SEGMENT);

	text_limits(&op, &op.u.segment.id, "segment id", 1);
	text_limits(&op, &op.u.segment.s3_bucket, "s3_bucket", 0);
	text_limits(&op, &op.u.segment.s3_key, "s3_key", 0);
	op = good(SHMETA_OP_CREATE_TOPIC);
	text_limits(&op, &op.u.topic.cleanup_policy, "cleanup_policy", 0);
	op = good(SHMETA_OP_REGISTER_AGENT);
	text_limits(&op, &op.u.agent.address, "address", 0);
	text_limits(&op, &op.u.agent.availability_zone, "availability_zone", 0);
	text_limits(&op, &op.u.agent.agent_group, "agent_group", 0);
	op = good(SHMETA_OP_COMMIT_OBJECT);
	text_limits(&op, &op.u.object.s3_bucket, "s3_bucket", 0);
	text_limits(&op, &op.u.object.s3_key, "s3_key", 1);
	op = good(SHMETA_OP_CONFIRM_OBJECT_DELETED);
	text_limits(&op, &op.u.object.s3_key, "s3_key", 1);
}

Test(op_check, metadata_of_an_offset_has_up_to_64_kib_and_may_be_missing)
{
	static char most[SHMETA_MAP_MAX + 1];
	struct shmeta_op op = good(SHMETA_OP_COMMIT_OFFSET);

	memset(most, 'm', sizeof most);
	op.u.committed.has_metadata = 1;
	op.u.committed.metadata = (struct shmeta_str){most, SHMETA_MAP_MAX};
	accepted(&op);
	op.u.committed.metadata.bytes++;
	refused(&op, "metadata", "mmm", "65536");
	op.u.committed.has_metadata = 0;
	accepted(&op);
}

static size_t pack(unsigned char *out, size_t at, const char *key, size_t key_bytes, size_t value_bytes)
{
	uint32_t sizes[2] = {(uint32_t)key_bytes, (uint32_t)value_bytes};

	memcpy(out + at, sizes, 8);
	memcpy(out + at + 8, key, key_bytes);
	memset(out + at + 8 + key_bytes, 'v', value_bytes);
	return at + 8 + key_bytes + value_bytes;
}

static void map_limits(struct shmeta_op *op, struct shmeta_map *field, const char *word)
{
	static unsigned char bytes[SHMETA_MAP_MAX + 64];

	*field = (struct shmeta_map){bytes, pack(bytes, 0, "k", 1, SHMETA_MAP_MAX - 9)};
	accepted(op);
	*field = (struct shmeta_map){bytes, pack(bytes, 0, "k", 1, SHMETA_MAP_MAX - 8)};
	refused(op, word, "65537", "65536");
	*field = (struct shmeta_map){bytes, pack(bytes, pack(bytes, 0, "b", 1, 2), "a", 1, 2)};
	refused(op, word, "out of order", "65536");
	*field = (struct shmeta_map){bytes, pack(bytes, pack(bytes, 0, "b", 1, 2), "b", 1, 2)};
	refused(op, word, "twice", "65536");
	*field = (struct shmeta_map){bytes, pack(bytes, 0, "k", 1, 10) - 1};
	refused(op, word, "cut off", "65536");
	*field = (struct shmeta_map){bytes, pack(bytes, 0, "k\xff", 2, 3)};
	refused(op, word, "k\\xff", "65536");
	*field = (struct shmeta_map){bytes, pack(bytes, 0, "k", 1, 3)};
	bytes[10] = 0;
	refused(op, word, "'k'", "NUL");
	*field = (struct shmeta_map){NULL, 8};
	refused(op, word, "no bytes", "65536");
	*field = (struct shmeta_map){NULL, 0};
	accepted(op);
	*field = (struct shmeta_map){bytes, pack(bytes, 0, "", 0, 0)};
	accepted(op);
}

Test(op_check, maps_are_packed_text_of_up_to_64_kib)
{
	struct shmeta_op op = good(SHMETA_OP_CREATE_TOPIC);

	map_limits(&op, &op.u.topic.config, "config");
	op = good(SHMETA_OP_REGISTER_AGENT);
	map_limits(&op, &op.u.agent.metadata, "metadata");
}

static void duration_limits(enum shmeta_op_type type)
{
	struct shmeta_op op = good(type);

	op.duration_ms = 1;
	accepted(&op);
	op.duration_ms = 0;
	refused(&op, "duration_ms", "0", "1 to");
	op.duration_ms = -1;
	refused(&op, "duration_ms", "-1", "1 to");
	op.duration_ms = INT64_MAX;
	refused(&op, "duration_ms", "9223372036854775807", "31556952000000");
	op.duration_ms = INT64_C(31556952000000);
	accepted(&op);
}

Test(op_check, a_duration_is_positive)
{
	duration_limits(SHMETA_OP_ACQUIRE_LEASE);
	duration_limits(SHMETA_OP_OFFER_LEASE);
	duration_limits(SHMETA_OP_COMPLETE_LEASE);
}

Test(op_check, only_a_slice_has_a_position_and_only_what_is_none_has_a_key)
{
	struct shmeta_op op = good(SHMETA_OP_ADD_SEGMENT);

	op.u.segment.position = 1;
	refused(&op, "position", "1", "0 to 0");
	op = good(SHMETA_OP_ADD_SLICE);
	op.u.segment.size_bytes = 10;
	number_limits(&op, &op.u.segment.position, "position", 0, INT64_MAX - 10);
	op.u.segment.s3_key = (struct shmeta_str){"k", 1};
	refused(&op, "s3_key", "add_slice", "empty");
	op.u.segment.s3_key.bytes = 0;
	op.u.segment.s3_bucket = (struct shmeta_str){"b", 1};
	refused(&op, "s3_bucket", "add_slice", "empty");
}

Test(op_check, a_fence_is_whole_and_only_where_it_means_something)
{
	for (int type = 1; type < SHMETA_OP_TYPES; type++) {
		struct shmeta_op op = good((enum shmeta_op_type)type);
		int may = type == SHMETA_OP_UPDATE_HIGH_WATERMARK || type == SHMETA_OP_ADD_SEGMENT ||
		          type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK || type == SHMETA_OP_ADD_SLICE ||
		          type == SHMETA_OP_REPLACE_SEGMENTS;

		op.fence = (struct shmeta_fence){{"agent", 5}, 3};
		if (may)
			accepted(&op);
		else
			refused(&op, "fence", shmeta__op_name(op.type), "cannot be fenced");
		op.fence.agent_id.bytes = 0;
		if (may)
			refused(&op, "fence.agent_id", "''", "1 to 249");
	}
}

/* What the sentence names, a result has as numbers; where no number is wrong it has none. */
Test(op_check, a_number_or_a_length_out_of_range_is_told_with_its_limits)
{
	static char bytes[SHMETA_MAP_MAX + 8];
	struct shmeta_segment old_one = {.base_offset = 10, .end_offset = 19, .id = {"o", 1}},
			      new_one = {.base_offset = 10, .end_offset = 19, .id = {"n", 1}};
	const struct shmeta_op replace = {
		.type = SHMETA_OP_REPLACE_SEGMENTS,
		.name = {"t", 1},
		.u.replace = {.old_segments = &old_one, .new_segments = &new_one, .old_count = 1, .new_count = 1}};
	const struct shmeta_op acquire = {
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = {"t", 1}, .agent_id = {"a", 1}, .duration_ms = 1};
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = {"t", 1}, .partition_count = 1}};
	const struct shmeta_op add = {.type = SHMETA_OP_ADD_SEGMENT, .name = {"t", 1}, .u.segment = {.id = {"i", 1}}};
	struct shmeta_op op;

	memset(bytes, 'n', sizeof bytes);
	op = acquire;
	op.duration_ms = -7;
	out_of_range(&op, (uint64_t)-7, 1, UINT64_C(31556952000000));
	op.duration_ms = INT64_MAX;
	out_of_range(&op, INT64_MAX, 1, UINT64_C(31556952000000));
	op = acquire;
	op.name = (struct shmeta_str){bytes, SHMETA_NAME_MAX + 1};
	out_of_range(&op, SHMETA_NAME_MAX + 1, 1, SHMETA_NAME_MAX);
	op.name.bytes = 0;
	out_of_range(&op, 0, 1, SHMETA_NAME_MAX);
	op.name = (struct shmeta_str){"\n", 1};
	out_of_range(&op, 0, 0, 0);
	op = create;
	op.u.topic.cleanup_policy = (struct shmeta_str){bytes, SHMETA_STRING_MAX + 1};
	out_of_range(&op, SHMETA_STRING_MAX + 1, 0, SHMETA_STRING_MAX);
	op = create;
	op.u.topic.config = (struct shmeta_map){bytes, SHMETA_MAP_MAX + 1};
	out_of_range(&op, SHMETA_MAP_MAX + 1, 0, SHMETA_MAP_MAX);
	op.u.topic.config.bytes = 3; /* no map */
	out_of_range(&op, 0, 0, 0);
	op = add;
	op.u.segment.id.bytes = 0;
	out_of_range(&op, 0, 1, SHMETA_STRING_MAX);
	new_one.base_offset = 9;
	out_of_range(&replace, 9, 10, 19);
	new_one = (struct shmeta_segment){.base_offset = 10, .end_offset = 20, .id = {"n", 1}};
	out_of_range(&replace, 20, 10, 19);
	new_one = (struct shmeta_segment){.base_offset = 15, .end_offset = 14, .id = {"n", 1}};
	out_of_range(&replace, 14, 15, 19);
}

Test(op_check, an_unknown_type_is_refused)
{
	struct shmeta_op op = {.type = (enum shmeta_op_type)0};

	refused(&op, "type", "0", "1 to 22");
	op.type = (enum shmeta_op_type)SHMETA_OP_TYPES;
	refused(&op, "type", "23", "1 to 22");
}

/* ---- results ---- */

static struct shmeta_result random_result(enum shmeta_op_type type)
{
	struct shmeta_result r = {.status = next() % 2 ? SHMETA_OK : SHMETA_ERR_ALREADY_EXISTS,
	                          .partition_id = (uint32_t)number(UINT32_MAX)};
	size_t bytes = number(sizeof r.text - 1);

	memset(r.text, 'r', bytes);
	switch (type) {
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
	case SHMETA_OP_RENEW_AGENT:
	case SHMETA_OP_REPLACE_SEGMENTS:
		r.count = next();
		break;
	case SHMETA_OP_OFFER_LEASE:
		r.transfer_id = next();
		break;
	case SHMETA_OP_ACQUIRE_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
		r.lease = (struct shmeta_lease){.lease_expires_at_ms = (int64_t)next(),
		                                .acquired_at_ms = (int64_t)next(),
		                                .epoch = next(),
		                                .partition_id = r.partition_id};
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
	case SHMETA_OP_ADD_SLICE:
		r.existing = (struct shmeta_segment){.base_offset = next(),
		                                     .end_offset = next(),
		                                     .size_bytes = next(),
		                                     .created_at_ms = (int64_t)next(),
		                                     .min_timestamp_ms = (int64_t)next(),
		                                     .max_timestamp_ms = (int64_t)next(),
		                                     .record_count = (uint32_t)next(),
		                                     .partition_id = r.partition_id};
		break;
	default:
		break;
	}
	return r;
}

Test(result, every_type_reads_back_what_was_spelled)
{
	for (int type = 1; type < SHMETA_OP_TYPES; type++) {
		for (int round = 0; round < ROUNDS; round++) {
			enum shmeta_op_type t = (enum shmeta_op_type)type;
			struct shmeta_result r = random_result(t), back;
			size_t bytes = shmeta__result_bytes(&r), used = 0;
			uint8_t *block = malloc(bytes);

			memset(block, 0xee, bytes);
			cr_assert_eq(shmeta__result_encode(t, &r, block, bytes - 1), 0);
			cr_assert_eq(shmeta__result_encode(t, &r, block, bytes), bytes);
			cr_assert_eq(shmeta__result_decode(t, block, bytes, &back, &used), SHMETA_OK);
			cr_assert_eq(used, bytes);
			cr_assert_eq(memcmp(&r, &back, sizeof r), 0, "%s", shmeta__op_name(t));
			for (size_t cut = 0; cut < bytes; cut++) {
				uint8_t *part = malloc(cut == 0 ? 1 : cut);

				memcpy(part, block, cut);
				cr_assert_eq(shmeta__result_decode(t, part, cut, &back, &used), SHMETA_ERR_PROTOCOL);
				free(part);
			}
			free(block);
		}
	}
}

Test(result, every_status_travels_and_no_other_number_does)
{
	uint64_t block[40];
	struct shmeta_result r, back;
	size_t used;

	for (int status = -100; status < 100; status++) {
		int known = 0;

#define X(name, number, text) known |= status == (number);
		SHMETA_STATUS_LIST(X)
#undef X
		r = (struct shmeta_result){.status = (enum shmeta_status)status};
		cr_assert_gt(shmeta__result_encode(SHMETA_OP_DELETE_TOPIC, &r, block, sizeof block), 0);
		cr_assert_eq(shmeta__result_decode(SHMETA_OP_DELETE_TOPIC, block, sizeof block, &back, &used),
		             known ? SHMETA_OK : SHMETA_ERR_PROTOCOL, "%d", status);
	}
}

Test(result, a_changed_byte_is_refused_or_changes_the_result)
{
	for (int type = 1; type < SHMETA_OP_TYPES; type++) {
		enum shmeta_op_type t = (enum shmeta_op_type)type;
		struct shmeta_result r = random_result(t), back;
		uint64_t block[40], again[40];
		size_t bytes, used;

		memset(r.text, 0, sizeof r.text);
		(void)strcpy(r.text, "a sentence");
		bytes = shmeta__result_encode(t, &r, block, sizeof block);
		for (size_t i = 0; i < bytes; i++) {
			((uint8_t *)block)[i] ^= 0x21;
			if (shmeta__result_decode(t, block, bytes, &back, &used) == SHMETA_OK) {
				cr_assert_eq(shmeta__result_encode(t, &back, again, sizeof again), used);
				cr_assert_eq(memcmp(block, again, used), 0, "%s: byte %zu", shmeta__op_name(t), i);
			}
			((uint8_t *)block)[i] ^= 0x21;
		}
	}
}

/* A text without its NUL is cut, not read beyond. */
/* Versions before this one take a number in these places, and refuse one anywhere else. */
Test(result, what_a_refusal_is_about_travels_where_a_success_has_its_count_or_its_end)
{
	static const struct {
		enum shmeta_op_type type;
		struct shmeta_result r;
		uint64_t count;
		int64_t time_ms;
		uint64_t value; /* that is told */
	} cases[] = {
		{SHMETA_OP_REPLACE_SEGMENTS,
	         {.status = SHMETA_ERR_FENCED, .value = 4, .least = 5, .most = INT64_MAX},
	         5,
	         0,
	         0},
		{SHMETA_OP_REPLACE_SEGMENTS, {.status = SHMETA_ERR_FENCED}, 0, 0, 0},
		{SHMETA_OP_REPLACE_SEGMENTS, {.status = SHMETA_ERR_CONFLICT, .most = INT64_MAX}, 1, 0, 0},
		{SHMETA_OP_REPLACE_SEGMENTS,
	         {.status = SHMETA_ERR_CONFLICT, .value = INT64_MAX, .most = INT64_MAX},
	         UINT64_C(1) << 63,
	         0,
	         INT64_MAX},
		{SHMETA_OP_REPLACE_SEGMENTS, {.status = SHMETA_ERR_CONFLICT}, 0, 0, 0},
		{SHMETA_OP_ACQUIRE_LEASE,
	         {.status = SHMETA_ERR_CONFLICT, .value = 77, .least = 1, .most = INT64_MAX},
	         0,
	         77,
	         77},
		{SHMETA_OP_ACQUIRE_LEASE, {.status = SHMETA_ERR_CONFLICT}, 0, 0, 0},
		{SHMETA_OP_ADD_SEGMENT, {.status = SHMETA_ERR_CONFLICT, .value = 7, .most = 9}, 0, 0, 0},
		{SHMETA_OP_DELETE_TOPIC, {.status = SHMETA_ERR_CONFLICT, .value = 7, .most = 9}, 0, 0, 0},
	};
	_Alignas(8) uint8_t block[256];
	struct shmeta_wire_result w;
	struct shmeta_result back;
	size_t used;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool told = cases[i].count > 0 || cases[i].time_ms > 0;

		cr_assert_eq(shmeta__result_encode(cases[i].type, &cases[i].r, block, sizeof block), sizeof w);
		memcpy(&w, block, sizeof w);
		cr_expect(w.count == cases[i].count && w.time_ms[0] == cases[i].time_ms, "%zu", i);
		cr_assert_eq(shmeta__result_decode(cases[i].type, block, sizeof w, &back, &used), SHMETA_OK, "%zu", i);
		cr_expect(back.count == 0 && back.lease.lease_expires_at_ms == 0, "%zu: it is of no success", i);
		cr_expect_eq(back.most, told ? INT64_MAX : 0, "%zu", i);
		cr_expect_eq(back.least, told ? cases[i].r.least : 0, "%zu", i);
		cr_expect_eq(back.value, cases[i].value, "%zu", i);
	}
}

Test(result, a_text_that_is_not_terminated_is_cut)
{
	struct shmeta_result r = {.status = SHMETA_ERR_CONFLICT}, back;
	uint64_t block[40];
	size_t used;

	memset(r.text, 'x', sizeof r.text);
	cr_assert_eq(shmeta__result_encode(SHMETA_OP_DELETE_TOPIC, &r, block, sizeof block), shmeta__result_bytes(&r));
	cr_assert_eq(shmeta__result_decode(SHMETA_OP_DELETE_TOPIC, block, sizeof block, &back, &used), SHMETA_OK);
	cr_assert_eq(strlen(back.text), sizeof back.text - 1);
}

/* ---- objects ---- */

Test(op, an_object_reads_back_as_it_was_and_nothing_else_does)
{
	static uint64_t buffer[512], again[512];
	uint8_t *bytes = (uint8_t *)buffer;
	char key[SHMETA_STRING_MAX + 1];
	struct shmeta_object_info in = {.object = {.s3_bucket = {"bucket", 6},
	                                           .s3_key = {key, SHMETA_STRING_MAX},
	                                           .size_bytes = UINT64_MAX,
	                                           .created_at_ms = INT64_MIN},
	                                .slices = 7,
	                                .unreferenced_since_ms = -1},
				  out;
	size_t used = 0, size;

	memset(key, 'k', sizeof key);
	size = shmeta__object_encode(&in, bytes, sizeof buffer);
	cr_assert_eq(size, shmeta__object_bytes(&in));
	cr_assert(size % 8 == 0 && size > SHMETA_STRING_MAX);
	cr_assert_eq(shmeta__object_decode(bytes, size, &out, &used), SHMETA_OK);
	cr_assert_eq(used, size);
	cr_expect(out.object.s3_bucket.bytes == 6 && memcmp(out.object.s3_bucket.data, "bucket", 6) == 0);
	cr_expect(out.object.s3_key.bytes == SHMETA_STRING_MAX &&
	          memcmp(out.object.s3_key.data, key, SHMETA_STRING_MAX) == 0);
	cr_expect(out.object.size_bytes == UINT64_MAX && out.object.created_at_ms == INT64_MIN);
	cr_expect(out.slices == 7 && out.unreferenced_since_ms == -1);

	for (size_t n = 0; n < size; n++)
		cr_expect_eq(shmeta__object_decode(bytes, n, &out, &used), SHMETA_ERR_PROTOCOL, "cut to %zu", n);
	cr_expect_eq(shmeta__object_encode(&in, again, size - 1), 0, "no room");
	in.object.s3_key.bytes++;
	cr_expect_eq(shmeta__object_encode(&in, again, sizeof again), 0, "a key of 1025 bytes");
	/* Every byte of the head says something, and the padding is zero: whatever is flipped is
	 * told, by refusal or by value. */
	for (size_t at = 0; at < size; at++) {
		bytes[at] ^= 1;
		if (shmeta__object_decode(bytes, size, &out, &used) == SHMETA_OK)
			cr_expect(used <= size && shmeta__object_encode(&out, again, sizeof again) == used &&
			                  memcmp(again, bytes, used) == 0,
			          "byte %zu", at);
		bytes[at] ^= 1;
	}
}
