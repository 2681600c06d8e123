/* SPDX-License-Identifier: Apache-2.0
 * Conformance at the ends of every range (C9): each number of each operation at 0, at its limit,
 * beyond it, and where its type ends, through the public API on each engine. It is refused with a
 * sentence that names the value, and nothing has changed; or it is done. Whatever was answered, the
 * daemon goes on: it shows the next write, and in the end the store is what the source is. */
#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "shm/wire/op.h"
#include "tests/support/conformance.h"
#include "tests/support/run_tool.h"

CONFORMANCE_SUITES

static const uint64_t ends64[] = {0, 1, INT64_MAX - 1, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
static const int64_t ends_signed[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
static const uint32_t ends32[] = {0, 99999, 100000, INT32_MAX, (uint32_t)INT32_MAX + 1, UINT32_MAX};

enum width { U32, U64, I64 };

#define TYPE(type) (1u << SHMETA_OP_##type)
#define SEGMENTS (TYPE(ADD_SEGMENT) | TYPE(ADD_SEGMENT_AND_UPDATE_WATERMARK))
#define LEASES (TYPE(ACQUIRE_LEASE) | TYPE(OFFER_LEASE))
#define IN_PARTITION                                                                                            \
	(SEGMENTS | LEASES | TYPE(UPDATE_HIGH_WATERMARK) | TYPE(DELETE_SEGMENTS_BEFORE) | TYPE(COMMIT_OFFSET) | \
	 TYPE(RELEASE_LEASE))

static const struct number {
	const char *name; /* as a sentence spells it */
	enum width width;
	size_t at;
	uint32_t types;
} numbers[] = {
	{"partition_id", U32, offsetof(struct shmeta_op, partition_id), IN_PARTITION},
	{"offset", U64, offsetof(struct shmeta_op, offset), TYPE(UPDATE_HIGH_WATERMARK) | TYPE(DELETE_SEGMENTS_BEFORE)},
	{"fence.epoch", U64, offsetof(struct shmeta_op, fence.epoch), SEGMENTS | TYPE(UPDATE_HIGH_WATERMARK)},
	{"transfer_id", U64, offsetof(struct shmeta_op, transfer_id),
         TYPE(ACCEPT_LEASE) | TYPE(COMPLETE_LEASE) | TYPE(REJECT_LEASE)},
	{"duration_ms", I64, offsetof(struct shmeta_op, duration_ms),
         LEASES | TYPE(COMPLETE_LEASE) | TYPE(RENEW_AGENT)},
	{"retention_ms", I64, offsetof(struct shmeta_op, u.topic.retention_ms), TYPE(CREATE_TOPIC)},
	{"base_offset", U64, offsetof(struct shmeta_op, u.segment.base_offset), SEGMENTS},
	{"end_offset", U64, offsetof(struct shmeta_op, u.segment.end_offset), SEGMENTS},
	{"size_bytes", U64, offsetof(struct shmeta_op, u.segment.size_bytes), SEGMENTS},
	{"record_count", U32, offsetof(struct shmeta_op, u.segment.record_count), SEGMENTS},
	{"created_at_ms", I64, offsetof(struct shmeta_op, u.segment.created_at_ms), SEGMENTS},
	{"min_timestamp_ms", I64, offsetof(struct shmeta_op, u.segment.min_timestamp_ms), SEGMENTS},
	{"max_timestamp_ms", I64, offsetof(struct shmeta_op, u.segment.max_timestamp_ms), SEGMENTS},
	{"committed_offset", U64, offsetof(struct shmeta_op, u.committed.committed_offset), TYPE(COMMIT_OFFSET)},
	{"last_heartbeat_ms", I64, offsetof(struct shmeta_op, u.agent.last_heartbeat_ms),
         TYPE(REGISTER_AGENT) | TYPE(RENEW_AGENT)},
	{"started_at_ms", I64, offsetof(struct shmeta_op, u.agent.started_at_ms), TYPE(REGISTER_AGENT)},
	{"object size_bytes", U64, offsetof(struct shmeta_op, u.object.size_bytes), TYPE(COMMIT_OBJECT)},
	{"created_at_ms", I64, offsetof(struct shmeta_op, u.object.created_at_ms), TYPE(COMMIT_OBJECT)},
};

/* One that would be done as it is; unique, so that the last one is not in its way. */
static struct shmeta_op good(enum shmeta_op_type type, char name[2][64])
{
	static uint64_t serial;
	struct shmeta_op op = {.type = type, .name = S("t"), .partition_id = 1};
	uint64_t n = ++serial;

	(void)snprintf(name[0], 64, "n%llu", (unsigned long long)n);
	(void)snprintf(name[1], 64, "%llu:9092", (unsigned long long)n);
	op.group_id = op.agent_id = op.to_agent_id = S(name[0]);
	switch (type) {
	case SHMETA_OP_CREATE_TOPIC:
		op.u.topic = (struct shmeta_topic){.name = S(name[0]), .partition_count = 1, .has_retention = 1};
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
		op.u.segment = (struct shmeta_segment){.base_offset = 1000 + n * 10,
		                                       .end_offset = 1009 + n * 10,
		                                       .record_count = 10,
		                                       .size_bytes = 5,
		                                       .created_at_ms = 7,
		                                       .id = S(name[0]),
		                                       .s3_bucket = S("b"),
		                                       .s3_key = S(name[0])};
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		op.u.committed = (struct shmeta_committed_offset){.group_id = S("g"), .committed_offset = n};
		break;
	case SHMETA_OP_REGISTER_AGENT:
		op.u.agent = (struct shmeta_agent){.agent_id = S(name[0]),
		                                   .address = S(name[1]),
		                                   .availability_zone = S("z"),
		                                   .agent_group = S("g")};
		break;
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
		op.u.object = (struct shmeta_object){.s3_bucket = S("b"), .s3_key = S(name[0]), .size_bytes = 10};
		break;
	case SHMETA_OP_RENEW_AGENT:
	case SHMETA_OP_ACQUIRE_LEASE:
	case SHMETA_OP_RELEASE_LEASE:
	case SHMETA_OP_OFFER_LEASE:
		op.agent_id = S("holder");
		op.to_agent_id = S("other");
		op.duration_ms = 1000000;
		break;
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_COMPLETE_LEASE:
	case SHMETA_OP_REJECT_LEASE:
		op.agent_id = S("other");
		op.duration_ms = 1000000;
		op.transfer_id = 1;
		break;
	default:
		break;
	}
	return op;
}

/* What the store shows of all that these operations can touch, as one number. */
static uint64_t shown(void)
{
	const char *const texts[] = {api_topics("*", 1), api_segments("t", 1), api_offsets("g"),
	                             api_leases(NULL, NULL, 0)};
	struct shmeta_partition p = {0};
	uint64_t sum = 14695981039346656037u;

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		for (const char *c = texts[i]; *c != '\0'; c++)
			sum = (sum ^ (uint8_t)*c) * 1099511628211u;
	if (api_partition("t", 1, &p) == SHMETA_OK)
		sum = (sum ^ p.high_watermark ^ p.segment_count) * 1099511628211u;
	return sum;
}

static void goes_on(const char *after)
{
	static uint64_t offset;

	cr_assert_eq(api_set_watermark("probe", 0, ++offset), SHMETA_OK, "%s: then a write to another topic: %s", after,
	             api.result[0].text);
	cr_assert_eq(api_watermark("probe", 0), offset, "%s: then another topic stood still", after);
}

/* Do it, and judge the answer: value as text, as a sentence would spell it. */
static void judge(const struct shmeta_op *op, const char *field, const char *value)
{
	uint64_t before = shown();
	enum shmeta_status status = api_do(op, 1);
	char what[200];

	(void)snprintf(what, sizeof what, "%s with %s %s -> %d %s", shmeta__op_name(op->type), field, value, status,
	               api.result[0].text);
	switch (status) {
	case SHMETA_OK:
	case SHMETA_ERR_NOT_FOUND:
	case SHMETA_ERR_TOPIC_NOT_FOUND:
	case SHMETA_ERR_PARTITION_NOT_FOUND:
	case SHMETA_ERR_ALREADY_EXISTS:
	case SHMETA_ERR_CONFLICT:
	case SHMETA_ERR_FENCED:
	case SHMETA_ERR_UNSUPPORTED:
		break;
	case SHMETA_ERR_INVALID_ARGUMENT:
		cr_expect_not_null(strstr(api.result[0].text, field), "%s", what);
		cr_expect_not_null(strstr(api.result[0].text, value), "%s", what);
		break;
	default:
		cr_assert_fail("%s", what);
	}
	if (status != SHMETA_OK)
		cr_expect_eq(shown(), before, "%s: and something has changed", what);
	goes_on(what);
}

static void at_its_ends(enum shmeta_op_type type, const struct number *number)
{
	size_t count = number->width == U32   ? sizeof ends32 / sizeof *ends32
	               : number->width == I64 ? sizeof ends_signed / sizeof *ends_signed
	                                      : sizeof ends64 / sizeof *ends64;

	for (size_t i = 0; i < count; i++) {
		char name[2][64], value[32];
		struct shmeta_op op = good(type, name);
		char *at = (char *)&op + number->at;

		if (number->width == U32) {
			memcpy(at, &ends32[i], sizeof ends32[i]);
			(void)snprintf(value, sizeof value, "%u", ends32[i]);
		} else if (number->width == I64) {
			memcpy(at, &ends_signed[i], sizeof ends_signed[i]);
			(void)snprintf(value, sizeof value, "%lld", (long long)ends_signed[i]);
		} else {
			memcpy(at, &ends64[i], sizeof ends64[i]);
			(void)snprintf(value, sizeof value, "%llu", (unsigned long long)ends64[i]);
		}
		/* A segment of one offset there; one that ends before it begins is a fault of its
		 * end. */
		if (number->at == offsetof(struct shmeta_op, u.segment.base_offset) && ends64[i] <= INT64_MAX)
			op.u.segment.end_offset = op.u.segment.base_offset;
		if (number->at == offsetof(struct shmeta_op, u.segment.end_offset) && ends64[i] < INT64_MAX / 2)
			op.u.segment.base_offset = 0;
		if (number->at == offsetof(struct shmeta_op, fence.epoch))
			op.fence.agent_id = S("holder");
		judge(&op, number->name, value);
	}
}

static void begin(void)
{
	cr_assert_eq(api_create("t", 4), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_create("probe", 1), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_register("holder"), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_register("other"), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_acquire("t", 1, "holder", 1000000), SHMETA_OK, "%s", api.result[0].text);
}

/* The store is what the source is, as far as somebody else can look at it. */
static void store_is_the_source(void)
{
	struct run_tool t;

	if (api.engine->sql == NULL)
		return;
	run_tool(&t, "shmetactl --dir %s --timeout 10s verify --source '%s'", api.d.instance, api.source);
	cr_expect_eq(t.code, 0, "verify: %d: %s%s", t.code, t.out, t.err);
	run_tool_done(&t);
}

CLAIM(c9_every_number_of_every_operation_is_done_or_refused_at_its_ends_and_nothing_stands_still)
{
	begin();
	for (int type = 1; type < SHMETA_OP_TYPES; type++)
		for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
			if ((numbers[i].types & 1u << type) != 0)
				at_its_ends((enum shmeta_op_type)type, &numbers[i]);
	store_is_the_source();
}

CLAIM(c8_slices_are_done_or_refused_at_their_ends)
{
	static const struct number fields[] = {
		{"base_offset", U64, offsetof(struct shmeta_op, u.segment.base_offset), 0},
		{"end_offset", U64, offsetof(struct shmeta_op, u.segment.end_offset), 0},
		{"size_bytes", U64, offsetof(struct shmeta_op, u.segment.size_bytes), 0},
		{"position", U64, offsetof(struct shmeta_op, u.segment.position), 0},
	};

	begin();
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		for (size_t k = 0; k < sizeof ends64 / sizeof *ends64; k++) {
			char name[2][64], id[64], what[200];
			struct shmeta_op ops[2] = {good(SHMETA_OP_COMMIT_OBJECT, name), api_segment("t", 3, 0, 9, id)};
			struct shmeta_partition p = {0};

			(void)snprintf(id, sizeof id, "slice-%.40s-%zu", name[0], k);
			ops[0].u.object.size_bytes = INT64_MAX;
			ops[1].type = SHMETA_OP_ADD_SLICE;
			ops[1].u.segment.id = S(id);
			ops[1].u.segment.s3_bucket = ops[1].u.segment.s3_key = S("");
			memcpy((char *)&ops[1] + fields[i].at, &ends64[k], sizeof ends64[k]);
			if (i == 0 && ends64[k] <= INT64_MAX)
				ops[1].u.segment.end_offset = ends64[k];
			(void)api_do(ops, 2);
			(void)snprintf(what, sizeof what, "a slice with %s %llu -> %d %s", fields[i].name,
			               (unsigned long long)ends64[k], api.result[1].status, api.result[1].text);
			cr_expect(api.result[1].status == SHMETA_OK ||
			                  api.result[1].status == SHMETA_ERR_INVALID_ARGUMENT ||
			                  api.result[1].status == SHMETA_ERR_ALREADY_EXISTS ||
			                  api.result[1].status == SHMETA_ERR_CONFLICT ||
			                  api.result[1].status == SHMETA_ERR_UNSUPPORTED,
			          "%s", what);
			cr_expect_eq(api_partition("t", 3, &p), SHMETA_OK, "%s: and its partition is gone", what);
			cr_expect_leq(p.high_watermark, INT64_MAX, "%s", what);
			goes_on(what);
		}
	store_is_the_source();
}

CLAIM(c9_names_are_done_or_refused_at_their_ends_in_every_operation)
{
	static const size_t lengths[] = {0, 1, 249, 250};
	static const size_t places[] = {offsetof(struct shmeta_op, name), offsetof(struct shmeta_op, group_id),
	                                offsetof(struct shmeta_op, agent_id), offsetof(struct shmeta_op, to_agent_id),
	                                offsetof(struct shmeta_op, u.topic.name)};
	char text[250];

	begin();
	memset(text, 'n', sizeof text);
	for (int type = 1; type < SHMETA_OP_TYPES; type++)
		for (size_t place = 0; place < sizeof places / sizeof *places; place++)
			for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
				char name[2][64];
				struct shmeta_op op = good((enum shmeta_op_type)type, name);

				if (places[place] == offsetof(struct shmeta_op, u.topic.name) &&
				    type != SHMETA_OP_CREATE_TOPIC)
					continue;
				if (api.engine->slow && lengths[i] == 1)
					continue; /* as any other name */
				if (type == SHMETA_OP_ADD_SLICE || type == SHMETA_OP_DELETE_TOPIC)
					/* the one has units of its own, the other would take the
					 * topic away */
					continue;
				memcpy((char *)&op + places[place], &(struct shmeta_str){text, lengths[i]},
				       sizeof(struct shmeta_str));
				judge(&op, "", "");
			}
	cr_expect_eq(api_topic("t", &(struct shmeta_topic){0}), SHMETA_OK);
	store_is_the_source();
}

CLAIM(c9_the_counts_of_a_topic_are_done_or_refused_at_their_ends)
{
	static const uint32_t counts[] = {0, 1, 100001, INT32_MAX, (uint32_t)INT32_MAX + 1, UINT32_MAX};

	begin();
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		char name[2][64], value[32];
		struct shmeta_op op = good(SHMETA_OP_CREATE_TOPIC, name);

		op.u.topic.partition_count = counts[i];
		(void)snprintf(value, sizeof value, "%u", counts[i]);
		judge(&op, "partition_count", value);
	}
	store_is_the_source();
}

CLAIM(c9_lookups_at_the_last_offsets_answer_what_is_there)
{
	const uint64_t last = INT64_MAX;
	struct shmeta_segment s;
	char id[64];
	struct shmeta_op op = api_segment("t", 2, last, last, id);

	begin();
	cr_assert_eq(api_add("t", 2, 0, 9), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_find("t", 2, last, &s), SHMETA_OK);
	cr_expect_eq(s.base_offset, last);
	cr_expect_eq(s.end_offset, last);
	cr_expect_eq(api_base("t", 2, last - 1), UINT64_MAX);
	cr_expect_eq(api_base("t", 2, last + 1), UINT64_MAX);
	cr_expect_eq(api_base("t", 2, UINT64_MAX), UINT64_MAX);
	cr_expect_eq(api_base("t", 2, 9), 0);
	cr_expect_str_eq(api_segments("t", 2), "0-9 9223372036854775807-9223372036854775807");
	cr_assert_eq(api_set_watermark("t", 2, last), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api_watermark("t", 2), last);
	cr_expect_eq(api_find("t", 2, last, &s), SHMETA_OK, "a segment is found wherever the watermark is");
	goes_on("a segment at the last offset");
	cr_assert_eq(api_delete_before("t", 2, last), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_eq(api.result[0].count, 1);
	cr_expect_str_eq(api_segments("t", 2), "9223372036854775807-9223372036854775807");
	goes_on("deleting before the last offset");
	store_is_the_source();
}
