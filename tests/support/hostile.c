/* SPDX-License-Identifier: Apache-2.0
 * Operations for sources with a hostile schema (hostile.h). */
#include "tests/support/hostile.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* A constant, for the table below. */
#define S(text)                       \
	{                             \
		text, sizeof text - 1 \
	}
#define SEGMENT(id_text, from, to)                                                                                \
	{                                                                                                         \
		.base_offset = (from), .end_offset = (to), .record_count = 1, .size_bytes = 10, .id = S(id_text), \
		.created_at_ms = 1                                                                                \
	}

const struct hostile_op hostile_ops[] = {
	{"create_topic",
         "topics",
         "INSERT",
         "NEW.name = 'n'",
         {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = S("n"), .partition_count = 3}},
         false},
	{"create_topic, its partitions",
         "partitions",
         "INSERT",
         "NEW.topic = 'n' AND NEW.partition_id = 1",
         {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = S("n"), .partition_count = 3}},
         false},
	{"delete_topic", "topics", "DELETE", "OLD.name = 't'", {.type = SHMETA_OP_DELETE_TOPIC, .name = S("t")}, false},
	{"update_high_watermark",
         "partitions",
         "UPDATE",
         "NEW.topic = 't'",
         {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("t"), .offset = 500},
         false},
	{"add_segment",
         "segments",
         "INSERT",
         "NEW.topic = 't'",
         {.type = SHMETA_OP_ADD_SEGMENT, .name = S("t"), .u.segment = SEGMENT("added", 100, 199)},
         false},
	{"append",
         "segments",
         "INSERT",
         "NEW.topic = 't'",
         {.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK, .name = S("t"), .u.segment = SEGMENT("added", 100, 199)},
         false},
	{"append, its watermark",
         "partitions",
         "UPDATE",
         "NEW.topic = 't'",
         {.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK, .name = S("t"), .u.segment = SEGMENT("added", 100, 199)},
         false},
	{"add_slice",
         "segments",
         "INSERT",
         "NEW.topic = 't'",
         {.type = SHMETA_OP_ADD_SLICE, .name = S("t"), .u.segment = SEGMENT("sliced", 100, 199)},
         true},
	{"delete_segments_before",
         "segments",
         "DELETE",
         "OLD.topic = 't' AND OLD.base_offset = 10",
         {.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = S("t"), .offset = 20},
         false},
	{"ensure_group",
         "consumer_groups",
         "INSERT",
         "NEW.group_id = 'h'",
         {.type = SHMETA_OP_ENSURE_GROUP, .group_id = S("h")},
         false},
	{"commit_offset of a new group",
         "consumer_groups",
         "INSERT",
         "NEW.group_id = 'h'",
         {.type = SHMETA_OP_COMMIT_OFFSET, .name = S("t"), .u.committed = {.group_id = S("h"), .committed_offset = 3}},
         false},
	{"commit_offset, the first",
         "consumer_offsets",
         "INSERT",
         "NEW.group_id = 'h'",
         {.type = SHMETA_OP_COMMIT_OFFSET, .name = S("t"), .u.committed = {.group_id = S("h"), .committed_offset = 3}},
         false},
	{"commit_offset, a later one",
         "consumer_offsets",
         "UPDATE",
         "NEW.group_id = 'g'",
         {.type = SHMETA_OP_COMMIT_OFFSET, .name = S("t"), .u.committed = {.group_id = S("g"), .committed_offset = 3}},
         false},
	{"delete_consumer_group",
         "consumer_groups",
         "DELETE",
         "OLD.group_id = 'g'",
         {.type = SHMETA_OP_DELETE_GROUP, .group_id = S("g")},
         false},
	{"register_agent, a new one",
         "agents",
         "INSERT",
         "NEW.agent_id = 'c'",
         {.type = SHMETA_OP_REGISTER_AGENT,
          .u.agent = {.agent_id = S("c"),
                      .address = S("at-c"),
                      .availability_zone = S("z"),
                      .agent_group = S("x"),
                      .last_heartbeat_ms = 9}},
         false},
	{"register_agent, a known one",
         "agents",
         "UPDATE",
         "NEW.agent_id = 'a'",
         {.type = SHMETA_OP_REGISTER_AGENT,
          .u.agent = {.agent_id = S("a"),
                      .address = S("at-a"),
                      .availability_zone = S("z"),
                      .agent_group = S("x"),
                      .last_heartbeat_ms = 9}},
         false},
	{"deregister_agent",
         "agents",
         "DELETE",
         "OLD.agent_id = 'a'",
         {.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = S("a")},
         false},
	{"renew_agent, its heartbeat",
         "agents",
         "UPDATE",
         "NEW.agent_id = 'a'",
         {.type = SHMETA_OP_RENEW_AGENT, .agent_id = S("a"), .u.agent.last_heartbeat_ms = 9, .duration_ms = 1000},
         false},
	{"renew_agent, a lease of it",
         "partition_leases",
         "UPDATE",
         "NEW.topic = 't' AND NEW.partition_id = 0",
         {.type = SHMETA_OP_RENEW_AGENT, .agent_id = S("a"), .u.agent.last_heartbeat_ms = 9, .duration_ms = 1000000000},
         false},
	{"acquire_lease, the first",
         "partition_leases",
         "INSERT",
         "NEW.topic = 't' AND NEW.partition_id = 1",
         {.type = SHMETA_OP_ACQUIRE_LEASE, .name = S("t"), .partition_id = 1, .agent_id = S("b"), .duration_ms = 1000},
         false},
	{"acquire_lease, again",
         "partition_leases",
         "UPDATE",
         "NEW.topic = 't' AND NEW.partition_id = 0",
         {.type = SHMETA_OP_ACQUIRE_LEASE, .name = S("t"), .agent_id = S("a"), .duration_ms = 1000},
         false},
	{"release_lease",
         "partition_leases",
         "DELETE",
         "OLD.topic = 't'",
         {.type = SHMETA_OP_RELEASE_LEASE, .name = S("t"), .agent_id = S("a")},
         false},
};
const size_t hostile_op_count = sizeof hostile_ops / sizeof hostile_ops[0];

static enum shmeta_status no_change(void *arg, const struct backend_key *key)
{
	(void)arg;
	(void)key;
	return SHMETA_OK;
}

static void apply(struct world *world, const struct shmeta_op *ops, size_t count, struct shmeta_result *results)
{
	const struct backend_sink sink = {.changed = no_change};
	struct backend_op op[8];
	enum shmeta_status status;

	cr_assert_leq(count, sizeof op / sizeof op[0]);
	for (size_t i = 0; i < count; i++)
		op[i] = (struct backend_op){{SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)}, &ops[i]};
	status = world->ops->writer->apply(world->state, op, count, HOSTILE_NOW_MS, results, &sink, &world->err);
	cr_assert_eq(status, SHMETA_OK, "%s: %s", world_names[world->engine], world->err.text);
}

void hostile_rows(struct world *world)
{
	const struct shmeta_op lease = {
		.type = SHMETA_OP_ACQUIRE_LEASE, .name = S("t"), .agent_id = S("a"), .duration_ms = 60000};
	struct shmeta_result result;

	world_topic(world, NULL, "t", 2, -1, NULL);
	world_topic(world, NULL, "u", 2, -1, NULL);
	world_segment(world, NULL, "t", 0, 0, 9);
	world_segment(world, NULL, "t", 0, 10, 19);
	world_agent(world, "a", 1, NULL);
	world_agent(world, "b", 1, NULL);
	world_group(world, NULL, "g");
	world_offset(world, NULL, "g", "t", 0, 1, NULL);
	apply(world, &lease, 1, &result);
	cr_assert_eq(result.status, SHMETA_OK, "%s", result.text);
}

void hostile_apply(struct world *world, const struct hostile_op *op, uint64_t mark, struct shmeta_result *ret)
{
	struct shmeta_op ops[4];
	struct shmeta_result results[4];
	size_t count = 0, own;

	ops[count++] = (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("u"), .offset = mark};
	if (op->slice)
		ops[count++] =
			(struct shmeta_op){.type = SHMETA_OP_COMMIT_OBJECT,
		                           .u.object = {.s3_bucket = S("b"), .s3_key = S("o"), .size_bytes = 100}};
	own = count;
	ops[count++] = op->op;
	ops[count++] = (struct shmeta_op){
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("u"), .partition_id = 1, .offset = mark};
	apply(world, ops, count, results);
	cr_expect_eq(results[0].status, SHMETA_OK, "%s: the one before it: %s", op->name, results[0].text);
	cr_expect_eq(results[count - 1].status, SHMETA_OK, "%s: the one behind it: %s", op->name,
	             results[count - 1].text);
	for (uint32_t i = 0; i < 2; i++) {
		struct backend_key key = {.cls = SHMETA_CLASS_PARTITION,
		                          .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
		                          .topic = S("u"),
		                          .partition_id = i};
		char watermark[40];

		cr_assert_eq(world_fetch(world, &key, 1), SHMETA_OK, "%s", world->err.text);
		(void)snprintf(watermark, sizeof watermark, "watermark=%llu", (unsigned long long)mark);
		cr_expect(recorder_has(&world->recorder, watermark), "%s: u/%u: %s", op->name, i,
		          recorder_text(&world->recorder));
	}
	*ret = results[own];
}

char *hostile_dump(struct world *world)
{
	char *all, *out;

	cr_assert_eq(world_load(world), SHMETA_OK, "%s", world->err.text);
	all = recorder_sorted(&world->recorder);
	cr_assert_not_null(all);
	out = all;
	for (char *line = all, *next; *line != '\0'; line = next) {
		size_t bytes = strcspn(line, "\n");

		bytes += line[bytes] == '\n';
		next = line + bytes;
		if (strncmp(line, "partition", 9) == 0 && memmem(line, bytes, " u/", 3) != NULL)
			continue;
		memmove(out, line, bytes);
		out += bytes;
	}
	*out = '\0';
	return all;
}
