/* SPDX-License-Identifier: Apache-2.0
 * Conformance, C2: tenants. What two of them call by the same name are two things, and neither
 * reads or changes what is the other's, through the public API and a real writer, on each
 * engine. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/conformance.h"

CONFORMANCE_SUITES

/* Ids of segments and agents are keys of whole tables in the shapes that have tenants: so these
 * differ by tenant. */
static enum shmeta_status append(const char *prefix, uint32_t partition, uint64_t base, uint64_t end)
{
	char id[64], named[80];
	struct shmeta_op op = api_segment("orders", partition, base, end, id);

	(void)snprintf(named, sizeof named, "%s-%s", prefix, id);
	op.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	op.u.segment.id = op.u.segment.s3_key = S(named);
	return api_do(&op, 1);
}

/* One tenant's share: a topic of two partitions with `partitions`' watermarks, a group, an agent
 * with a lease. */
static void furnish(const char *prefix, uint64_t records)
{
	char agent[16];

	(void)snprintf(agent, sizeof agent, "%s-agent", prefix);
	cr_assert_eq(api_create("orders", 2), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(append(prefix, 0, 0, records - 1), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(append(prefix, 0, records, 2 * records - 1), SHMETA_OK);
	cr_assert_eq(append(prefix, 1, 0, records - 1), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, records, prefix), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_register(agent), SHMETA_OK, "%s", api.result[0].text);
	for (uint64_t i = 0; i < records / 10; i++)
		cr_assert_eq(api_acquire("orders", 1, agent, 1000000), SHMETA_OK, "%s", api.result[0].text);
}

/* All of it, and nothing else. */
static void furnished(const char *prefix, uint64_t records)
{
	char text[64], agent[16], strings[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_committed_offset o;
	struct shmeta_segment s;
	struct shmeta_lease l;
	struct shmeta_topic t;
	struct shmeta_topic_stats stats;

	(void)snprintf(agent, sizeof agent, "%s-agent", prefix);
	cr_assert_eq(api_topic("orders", &t), SHMETA_OK, "%s", prefix);
	cr_expect_str_eq(api_topics(NULL, 0), "orders", "%s", prefix);
	cr_expect_str_eq(api_partitions("orders"), "0 1", "%s", prefix);
	cr_expect_eq(api_watermark("orders", 0), 2 * records, "%s", prefix);
	cr_expect_eq(api_watermark("orders", 1), records, "%s", prefix);
	(void)snprintf(text, sizeof text, "0-%llu %llu-%llu", (unsigned long long)records - 1,
	               (unsigned long long)records, (unsigned long long)(2 * records - 1));
	cr_expect_str_eq(api_segments("orders", 0), text, "%s", prefix);
	cr_assert_eq(api_find("orders", 1, 0, &s), SHMETA_OK, "%s", prefix);
	cr_assert_eq(shmeta_segment_strings_named(api.reader, "orders", 6, &s, strings, sizeof strings), SHMETA_OK);
	cr_expect_eq(strncmp(s.id.data, prefix, strlen(prefix)), 0, "%s has %s", prefix, s.id.data);
	cr_assert_eq(shmeta_topic_stats(api.reader, "orders", 6, NULL, &stats, NULL), SHMETA_OK);
	cr_expect_eq(stats.segment_count, 3, "%s", prefix);
	cr_assert_eq(shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, NULL, &o, NULL), SHMETA_OK, "%s",
	             prefix);
	cr_expect_eq(o.committed_offset, records, "%s", prefix);
	cr_expect_eq(memcmp(o.metadata.data, prefix, strlen(prefix)), 0, "%s", prefix);
	cr_expect_str_eq(api_groups(), "g", "%s", prefix);
	(void)snprintf(text, sizeof text, "orders/0=%llu", (unsigned long long)records);
	cr_expect_str_eq(api_offsets("g"), text, "%s", prefix);
	cr_expect_str_eq(api_agents(NULL, NULL, 1000000), agent, "%s", prefix);
	cr_assert_eq(shmeta_get_lease(api.reader, "orders", 6, 1, 0, NULL, &l, NULL), SHMETA_OK, "%s", prefix);
	cr_expect_eq(l.epoch, records / 10, "%s", prefix);
	(void)snprintf(text, sizeof text, "orders/1:%s@%llu", agent, (unsigned long long)records / 10);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), text, "%s", prefix);
}

static void both(void)
{
	furnish("one", 10);
	api_as(OTHER_TENANT);
	furnish("two", 30);
}

CLAIM(c2_what_two_tenants_call_the_same_are_two_things)
{
	struct shmeta_handle *handle = NULL;
	struct shmeta_partition p;
	struct shmeta_topic mine, other;

	if (!api.engine->tenants)
		NOT_HERE("it has one tenant");
	furnish("one", 10);
	cr_assert_eq(api_topic("orders", &mine), SHMETA_OK);
	api_as(OTHER_TENANT);
	cr_expect_eq(api_topic("orders", &other), SHMETA_ABSENT, "not made yet");
	cr_expect_str_eq(api_topics(NULL, 0), "");
	cr_expect_str_eq(api_groups(), "");
	cr_expect_str_eq(api_agents(NULL, NULL, 1000000), "");
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "");
	furnish("two", 30);
	furnished("two", 30);
	cr_assert_eq(api_topic("orders", &other), SHMETA_OK);
	cr_expect_neq(mine.topic_id, other.topic_id);
	cr_expect_eq(shmeta_get_topic_by_id(api.reader, mine.topic_id, NULL, &other, NULL), SHMETA_ABSENT,
	             "a number of another tenant's");
	cr_assert_eq(shmeta_partition_open(api.reader, "orders", 6, 0, &handle), SHMETA_OK);
	cr_assert_eq(shmeta_get_partition(handle, NULL, &p, NULL), SHMETA_OK);
	cr_expect_eq(p.high_watermark, 60);
	shmeta_partition_close(handle);
	api_as(NULL);
	furnished("one", 10);
}

CLAIM(c2_what_one_tenant_writes_leaves_the_others_as_it_was)
{
	struct shmeta_op delete_group = {.type = SHMETA_OP_DELETE_GROUP, .group_id = S("g")};
	struct shmeta_op fenced = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                           .name = S("orders"),
	                           .partition_id = 1,
	                           .offset = 99,
	                           .fence = {S("one-agent"), 1}};

	if (!api.engine->tenants)
		NOT_HERE("it has one tenant");
	both();
	cr_expect_eq(api_do(&fenced, 1), SHMETA_ERR_FENCED, "the other's holder and epoch");
	cr_expect_eq(api_acquire("orders", 1, "one-agent", 1000), SHMETA_ERR_NOT_FOUND, "the other's agent");
	cr_expect_neq(api_release("orders", 1, "one-agent"), SHMETA_OK);
	furnished("two", 30);
	cr_assert_eq(api_delete_before("orders", 0, 60), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 2);
	cr_assert_eq(api_set_watermark("orders", 1, 1000), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 999, NULL), SHMETA_OK);
	cr_assert_eq(api_release("orders", 1, "two-agent"), SHMETA_OK);
	api_as(NULL);
	furnished("one", 10);
	api_as(OTHER_TENANT);
	cr_assert_eq(api_do(&delete_group, 1), SHMETA_OK);
	cr_assert_eq(api_deregister("two-agent"), SHMETA_OK);
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_expect_str_eq(api_topics(NULL, 0), "");
	cr_expect_str_eq(api_groups(), "");
	api_as(NULL);
	furnished("one", 10);
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 1, "one-agent", 1000), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 2, "epochs go on by tenant");
}

CLAIM(c2_an_agent_of_another_tenant_cannot_be_taken_over_or_removed)
{
	char address[64];
	struct shmeta_op op = api_agent("one-agent", address);
	struct shmeta_agent a;

	if (!api.engine->tenants)
		NOT_HERE("it has one tenant");
	cr_assert_eq(api_register("one-agent"), SHMETA_OK);
	api_as(OTHER_TENANT);
	op.u.agent.address = S("elsewhere:1");
	op.u.agent.availability_zone = S("y");
	/* Where agents are kept by id alone, the name is taken. */
	if (api_do(&op, 1) != SHMETA_OK)
		cr_expect_eq(api.result[0].status, SHMETA_ERR_CONFLICT, "%s", api.result[0].text);
	cr_expect_eq(api_deregister("one-agent"), SHMETA_OK, "idempotent");
	cr_expect_eq(shmeta_get_agent(api.reader, "one-agent", 9, NULL, &a, NULL), SHMETA_ABSENT);
	api_as(NULL);
	cr_assert_eq(shmeta_get_agent(api.reader, "one-agent", 9, NULL, &a, NULL), SHMETA_OK);
	cr_expect(a.availability_zone.bytes == 1 && a.availability_zone.data[0] == 'z', "%.*s",
	          (int)a.availability_zone.bytes, a.availability_zone.data);
}

CLAIM(c2_a_tenant_that_the_source_does_not_have_is_refused_and_nothing_is_written)
{
	struct shmeta_op group = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = S("g")};

	if (api.engine->sql == NULL)
		NOT_HERE("it has every tenant");
	api_as("99999999-8888-4777-8666-555555555555");
	cr_expect_eq(api_create("orders", 1), SHMETA_ERR_NOT_TENANT, "%s", api.result[0].text);
	cr_expect_not_null(strstr(api.result[0].text, "99999999"), "%s", api.result[0].text);
	cr_expect_eq(api_do(&group, 1), SHMETA_ERR_NOT_TENANT, "%s", api.result[0].text);
	cr_expect_eq(api_register("a"), SHMETA_ERR_NOT_TENANT, "%s", api.result[0].text);
	cr_expect_str_eq(api_topics(NULL, 0), "");
	api_as(NULL);
	cr_expect_str_eq(api_topics(NULL, 0), "");
	cr_expect_str_eq(api_groups(), "");
	cr_expect_str_eq(api_agents(NULL, NULL, 1000000), "");
}

CLAIM(c2_a_request_id_is_its_tenants)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = S("orders"), .partition_count = 1},
	                       .request_id = {4, 5}};
	struct shmeta_topic t;

	if (!api.engine->tenants)
		NOT_HERE("it has one tenant");
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	api_as(OTHER_TENANT);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_expect_eq(api_topic("orders", &t), SHMETA_OK, "done, not recalled from the other tenant's");
}

CLAIM(c2_fresh_and_source_ask_for_the_callers_tenant)
{
	struct shmeta_read read = {.size = sizeof read,
	                           .consistency = SHMETA_SOURCE,
	                           .timeout_ms = API_WAIT_MS,
	                           .flags = SHMETA_READ_MAY_MOVE};
	struct shmeta_partition p;
	struct shmeta_topic t;

	if (!api.engine->tenants)
		NOT_HERE("it has one tenant");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_set_watermark("orders", 0, 7), SHMETA_OK);
	api_as(OTHER_TENANT);
	cr_expect_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), SHMETA_ABSENT);
	read.consistency = SHMETA_FRESH;
	cr_expect_eq(shmeta_get_topic(api.reader, "orders", 6, &read, &t, NULL), SHMETA_ABSENT);
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	read.consistency = SHMETA_SOURCE;
	cr_assert_eq(shmeta_get_partition_named(api.reader, "orders", 6, 0, &read, &p, NULL), SHMETA_OK);
	cr_expect_eq(p.high_watermark, 0);
}

CLAIM(c2_objects_of_the_same_key_are_their_tenants)
{
	char id[64];
	struct shmeta_op ops[2] = {{.type = SHMETA_OP_COMMIT_OBJECT,
	                            .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/1"), .size_bytes = 500}},
	                           api_segment("orders", 0, 0, 9, id)};
	struct shmeta_op confirm = {.type = SHMETA_OP_CONFIRM_OBJECT_DELETED,
	                            .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/1")}};

	if (!api.engine->tenants)
		NOT_HERE("it has one tenant");
	ops[1].type = SHMETA_OP_ADD_SLICE;
	ops[1].u.segment.s3_bucket = ops[1].u.segment.s3_key = S("");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_do(ops, 2), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api.result[1].status, SHMETA_OK, "%s", api.result[1].text);
	api_as(OTHER_TENANT);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_OK, "it has no such object: confirmed");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	ops[1].u.segment.id = S("two-0");
	cr_assert_eq(api_do(ops, 2), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_delete_before("orders", 0, 100), SHMETA_OK);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_OK, "%s", api.result[0].text);
	api_as(NULL);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_ERR_CONFLICT, "this one has its slice");
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
}
