/* SPDX-License-Identifier: Apache-2.0
 * Conformance, part A of the contract: what every operation does, row by row, through the public
 * API and a real writer, on each engine. Where the engines of the reference differ (1.9), the claim
 * is our one answer. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/conformance.h"

CONFORMANCE_SUITES

/* ---- 1.1 topics ---- */

CLAIM(a_1_1_a_topic_comes_with_its_partitions_at_watermark_0)
{
	static const char map[] = "\1\0\0\0\1\0\0\0kv";
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                       .u.topic = {.name = S("orders"),
	                                   .partition_count = 3,
	                                   .has_retention = 1,
	                                   .retention_ms = 77,
	                                   .config = {map, sizeof map - 1}}};
	struct shmeta_partition p;
	struct shmeta_topic t;
	struct shmeta_str value;

	cr_assert_eq(api_do(&op, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_topic("orders", &t), SHMETA_OK);
	cr_expect_eq(t.partition_count, 3);
	cr_expect(t.has_retention && t.retention_ms == 77);
	cr_expect_gt(t.created_at_ms, 0);
	cr_assert_eq(shmeta_map_get(&t.config, "k", &value), SHMETA_OK);
	cr_expect(value.bytes == 1 && value.data[0] == 'v');
	cr_expect_str_eq(api_partitions("orders"), "0 1 2");
	for (uint32_t i = 0; i < 3; i++) {
		cr_assert_eq(api_partition("orders", i, &p), SHMETA_OK);
		cr_expect_eq(p.high_watermark, 0);
		cr_expect_eq(p.created_at_ms, t.created_at_ms);
	}
}

CLAIM(a_1_1_a_name_that_is_taken_is_refused_and_nothing_changes)
{
	struct shmeta_topic before, after;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_topic("orders", &before), SHMETA_OK);
	cr_expect_eq(api_create("orders", 5), SHMETA_ERR_ALREADY_EXISTS);
	cr_expect_not_null(strstr(api.result[0].text, "orders"));
	cr_assert_eq(api_topic("orders", &after), SHMETA_OK);
	cr_expect_eq(after.topic_id, before.topic_id);
	cr_expect_eq(after.partition_count, 2);
	cr_expect_str_eq(api_partitions("orders"), "0 1");
}

CLAIM(a_1_1_a_topic_without_partitions_is_refused)
{
	struct shmeta_topic t;

	cr_expect_eq(api_create("none", 0), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_eq(api_topic("none", &t), SHMETA_ABSENT);
}

CLAIM(a_1_1_deleting_a_topic_takes_all_below_it_and_leaves_groups_and_agents)
{
	struct shmeta_topic t;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_create("other", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 1, 0, 9), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK);
	cr_assert_eq(api_commit("g", "other", 0, 6, NULL), SHMETA_OK);
	cr_expect_str_eq(api_offsets("g"), "orders/0=5 other/0=6");
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_expect_eq(api_topic("orders", &t), SHMETA_ABSENT);
	cr_expect_eq(api_watermark("orders", 1), UINT64_MAX);
	cr_expect_eq(api_base("orders", 1, 5), UINT64_MAX);
	cr_expect_str_eq(api_offsets("g"), "other/0=6");
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "");
	cr_expect_str_eq(api_groups(), "g");
	cr_expect_str_eq(api_agents(NULL, NULL, 1000000), "a");
}

CLAIM(a_1_1_deleting_an_unknown_topic_is_an_error)
{
	cr_expect_eq(api_drop("nothing"), SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_expect_not_null(strstr(api.result[0].text, "nothing"));
}

CLAIM(a_1_1_a_topic_made_again_starts_at_0_without_segments)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(api_watermark("orders", 0), 0);
	cr_expect_str_eq(api_segments("orders", 0), "");
	cr_expect_eq(api_append("orders", 0, 0, 9), SHMETA_OK, "the ids of the old one are free");
}

CLAIM(a_1_1_names_are_compared_byte_by_byte)
{
	struct shmeta_topic t;

	cr_assert_eq(api_create("Orders", 1), SHMETA_OK);
	cr_expect_eq(api_topic("orders", &t), SHMETA_ABSENT);
	cr_expect_eq(api_topic("Orders", &t), SHMETA_OK);
	cr_expect_eq(api_create("orders", 2), SHMETA_OK);
	cr_expect_eq(api_create("it's \"quoted\"; DROP TABLE topics", 1), SHMETA_OK);
	cr_expect_eq(api_topic("it's \"quoted\"; DROP TABLE topics", &t), SHMETA_OK);
}

CLAIM(a_1_1_without_topics_the_list_is_empty)
{
	cr_expect_str_eq(api_topics(NULL, 0), "");
}

CLAIM(a_1_9_topics_are_listed_by_the_bytes_of_their_names)
{
	static const char *const names[] = {"z_", "a2", "\xc3\xa9", "b", "a10", "B", "a1"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		cr_assert_eq(api_create(names[i], 1), SHMETA_OK);
	cr_expect_str_eq(api_topics(NULL, 0), "B a1 a10 a2 b z_ \xc3\xa9");
}

/* ---- 1.2 partitions ---- */

CLAIM(a_1_2_an_unknown_partition_or_topic_is_absent)
{
	struct shmeta_partition p;

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_expect_eq(api_partition("orders", 1, &p), SHMETA_OK);
	cr_expect_eq(api_partition("orders", 2, &p), SHMETA_ABSENT);
	cr_expect_eq(api_partition("nothing", 0, &p), SHMETA_ABSENT);
	cr_expect_str_eq(api_partitions("nothing"), shmeta_strerror(SHMETA_ABSENT));
}

CLAIM(a_1_2_the_watermark_is_overwritten_also_backwards)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_set_watermark("orders", 0, 100), SHMETA_OK);
	cr_expect_eq(api_watermark("orders", 0), 100);
	cr_assert_eq(api_set_watermark("orders", 0, 40), SHMETA_OK);
	cr_expect_eq(api_watermark("orders", 0), 40);
	cr_assert_eq(api_set_watermark("orders", 0, INT64_MAX), SHMETA_OK);
	cr_expect_eq(api_watermark("orders", 0), INT64_MAX);
}

CLAIM(a_1_9_the_watermark_of_a_missing_partition_is_an_error)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(api_set_watermark("orders", 1, 5), SHMETA_ERR_PARTITION_NOT_FOUND);
	cr_expect_eq(api_set_watermark("nothing", 0, 5), SHMETA_ERR_TOPIC_NOT_FOUND);
}

CLAIM(a_1_2_partitions_are_listed_by_number)
{
	cr_assert_eq(api_create("orders", 12), SHMETA_OK);
	cr_expect_str_eq(api_partitions("orders"), "0 1 2 3 4 5 6 7 8 9 10 11");
}

/* ---- 1.3 segments ---- */

CLAIM(a_1_3_adding_a_segment_leaves_the_watermark_alone)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_add("orders", 0, 0, 9), SHMETA_OK);
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
	cr_expect_eq(api_watermark("orders", 0), 0);
}

CLAIM(a_1_3_a_segment_is_returned_as_it_was_added)
{
	char id[64], text[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_op op = api_segment("orders", 0, 7, 9, id);
	struct shmeta_segment s;

	op.u.segment.record_count = 1000; /* not compared with the range */
	op.u.segment.s3_key = S("data/orders/0/7.seg");
	op.u.segment.created_at_ms = 123;
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_assert_eq(api_set_watermark("orders", 0, 10), SHMETA_OK);
	cr_assert_eq(api_find("orders", 0, 8, &s), SHMETA_OK);
	cr_expect(s.base_offset == 7 && s.end_offset == 9 && s.record_count == 1000 && s.size_bytes == 100 &&
	          s.created_at_ms == 123);
	cr_assert_eq(shmeta_segment_strings_named(api.reader, "orders", 6, &s, text, sizeof text), SHMETA_OK);
	cr_expect_eq(s.position, 0);
	cr_expect_str_eq(s.id.data, "orders-0-7");
	cr_expect_str_eq(s.s3_bucket.data, "bucket");
	cr_expect_str_eq(s.s3_key.data, "data/orders/0/7.seg");
}

CLAIM(a_1_9_large_record_counts_are_kept)
{
	char id[64];
	struct shmeta_op op = api_segment("orders", 0, 0, 9, id);
	struct shmeta_segment s;

	op.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	op.u.segment.record_count = 3000000000u;
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	if (api.engine->narrow) { /* refused, not wrapped as the reference does */
		cr_expect_eq(api_do(&op, 1), SHMETA_ERR_INVALID_ARGUMENT);
		cr_expect_eq(api_find("orders", 0, 0, &s), SHMETA_ABSENT_AT_END);
		return;
	}
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_assert_eq(api_find("orders", 0, 0, &s), SHMETA_OK);
	cr_expect_eq(s.record_count, 3000000000u);
}

CLAIM(a_1_3_a_segment_of_one_record_is_legal_and_one_that_ends_before_it_begins_is_not)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(api_add("orders", 0, 5, 5), SHMETA_OK);
	cr_expect_eq(api_add("orders", 0, 10, 9), SHMETA_ERR_INVALID_ARGUMENT);
	cr_expect_str_eq(api_segments("orders", 0), "5-5");
}

CLAIM(a_1_3_a_segment_of_an_unknown_topic_or_partition_is_refused)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(api_add("nothing", 0, 0, 9), SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_expect_eq(api_add("orders", 1, 0, 9), SHMETA_ERR_PARTITION_NOT_FOUND);
}

CLAIM(a_1_3_a_base_or_an_id_that_is_taken_is_refused)
{
	char id[64], other[64];
	struct shmeta_op op = api_segment("orders", 0, 0, 9, id);

	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	op.u.segment.end_offset = 19;
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_CONFLICT, "the base");
	op = api_segment("orders", 1, 0, 9, other);
	op.u.segment.id = S("orders-0-0");
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_CONFLICT, "the id");
	cr_expect_str_eq(api_segments("orders", 0), "0-9");
	cr_expect_str_eq(api_segments("orders", 1), "");
}

CLAIM(a_1_3_overlaps_and_gaps_are_accepted_and_listed_by_base)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_add("orders", 0, 500, 599), SHMETA_OK);
	cr_assert_eq(api_add("orders", 0, 50, 150), SHMETA_OK);
	cr_assert_eq(api_add("orders", 0, 0, 99), SHMETA_OK);
	cr_expect_str_eq(api_segments("orders", 0), "0-99 50-150 500-599");
	cr_expect_str_eq(api_segments("orders", 1), shmeta_strerror(SHMETA_ABSENT));
}

CLAIM(a_1_3_find_is_inclusive_of_the_end)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 10, 19), SHMETA_OK);
	cr_expect_eq(api_base("orders", 0, 0), 0);
	cr_expect_eq(api_base("orders", 0, 9), 0);
	cr_expect_eq(api_base("orders", 0, 10), 10);
	cr_expect_eq(api_base("orders", 0, 19), 10);
	cr_expect_eq(api_base("orders", 0, 20), UINT64_MAX);
	cr_expect_eq(api_base("nothing", 0, 0), UINT64_MAX);
}

CLAIM(a_1_9_on_overlap_the_largest_base_that_holds_the_offset_wins)
{
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 99), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 50, 150), SHMETA_OK);
	cr_expect_eq(api_base("orders", 0, 75), 50);
	cr_expect_eq(api_base("orders", 0, 49), 0);
	cr_assert_eq(api_append("orders", 1, 0, 99), SHMETA_OK);
	cr_assert_eq(api_append("orders", 1, 50, 60), SHMETA_OK);
	cr_expect_eq(api_base("orders", 1, 55), 50);
	cr_expect_eq(api_base("orders", 1, 75), 0, "behind the shorter one");
}

CLAIM(a_1_3_delete_before_keeps_the_segment_that_holds_the_offset)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	for (uint64_t base = 0; base < 40; base += 10)
		cr_assert_eq(api_append("orders", 0, base, base + 9), SHMETA_OK);
	cr_expect_eq(api_delete_before("orders", 0, 9), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 0);
	cr_expect_eq(api_delete_before("orders", 0, 10), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 1, "before == end + 1");
	cr_expect_eq(api_delete_before("orders", 0, 35), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 2);
	cr_expect_str_eq(api_segments("orders", 0), "30-39");
	cr_expect_eq(api_delete_before("orders", 0, 35), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 0, "idempotent");
	cr_expect_eq(api_watermark("orders", 0), 40);
	cr_expect_eq(api_delete_before("nothing", 3, 35), SHMETA_OK);
	cr_expect_eq(api.result[0].count, 0);
}

/* ---- 1.4 consumer groups ---- */

CLAIM(a_1_4_a_group_is_made_once_and_its_times_stay)
{
	struct shmeta_op op = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = S("g")};
	struct shmeta_iter *iter = NULL;
	struct shmeta_group before, after;

	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_assert_eq(shmeta_list_groups(api.reader, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_group(iter, &before, NULL), SHMETA_OK);
	shmeta_iter_free(iter);
	cr_expect_gt(before.created_at_ms, 0);
	cr_expect_eq(before.created_at_ms, before.updated_at_ms);
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_assert_eq(shmeta_list_groups(api.reader, NULL, &iter), SHMETA_OK);
	cr_assert_eq(shmeta_next_group(iter, &after, NULL), SHMETA_OK);
	shmeta_iter_free(iter);
	cr_expect_eq(after.created_at_ms, before.created_at_ms);
	cr_expect_eq(after.updated_at_ms, before.updated_at_ms);
	cr_expect_str_eq(api_groups(), "g");
}

CLAIM(a_1_4_committing_makes_the_group_and_overwrites_offset_and_metadata)
{
	struct shmeta_committed_offset o;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, NULL, &o, NULL), SHMETA_ABSENT);
	cr_assert_eq(api_commit("g", "orders", 0, 1000000, "m"), SHMETA_OK, "not compared with the watermark");
	cr_expect_str_eq(api_groups(), "g");
	cr_assert_eq(shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, NULL, &o, NULL), SHMETA_OK);
	cr_expect_eq(o.committed_offset, 1000000);
	cr_expect(o.has_metadata && o.metadata.bytes == 1 && o.metadata.data[0] == 'm');
	cr_assert_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK);
	cr_assert_eq(shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, NULL, &o, NULL), SHMETA_OK);
	cr_expect_eq(o.committed_offset, 5, "backwards");
	cr_expect_eq(o.has_metadata, 0, "erased");
}

CLAIM(a_1_4_committing_to_an_unknown_partition_writes_nothing)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_eq(api_commit("g", "nothing", 0, 5, NULL), SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_expect_eq(api_commit("g", "orders", 1, 5, NULL), SHMETA_ERR_PARTITION_NOT_FOUND);
	cr_expect_str_eq(api_groups(), "");
}

CLAIM(a_1_4_offsets_of_a_group_are_listed_by_topic_and_partition)
{
	cr_assert_eq(api_create("b", 11), SHMETA_OK);
	cr_assert_eq(api_create("B", 1), SHMETA_OK);
	cr_assert_eq(api_create("a", 1), SHMETA_OK);
	cr_assert_eq(api_commit("g", "b", 10, 1, NULL), SHMETA_OK);
	cr_assert_eq(api_commit("g", "b", 2, 2, NULL), SHMETA_OK);
	cr_assert_eq(api_commit("g", "a", 0, 3, NULL), SHMETA_OK);
	cr_assert_eq(api_commit("g", "B", 0, 4, NULL), SHMETA_OK);
	cr_assert_eq(api_commit("other", "a", 0, 5, NULL), SHMETA_OK);
	cr_expect_str_eq(api_offsets("g"), "B/0=4 a/0=3 b/2=2 b/10=1");
	cr_expect_str_eq(api_offsets("nobody"), "");
}

CLAIM(a_1_4_deleting_a_group_takes_its_offsets_and_is_idempotent)
{
	struct shmeta_op op = {.type = SHMETA_OP_DELETE_GROUP, .group_id = S("g")};

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 5, NULL), SHMETA_OK);
	cr_assert_eq(api_commit("h", "orders", 0, 6, NULL), SHMETA_OK);
	cr_expect_eq(api_do(&op, 1), SHMETA_OK);
	cr_expect_str_eq(api_groups(), "h");
	cr_expect_str_eq(api_offsets("g"), "");
	cr_expect_str_eq(api_offsets("h"), "orders/0=6");
	cr_expect_eq(api_do(&op, 1), SHMETA_OK);
}

/* ---- 1.5 agents ---- */

CLAIM(a_1_5_registering_again_overwrites_all_but_the_start)
{
	char address[64];
	struct shmeta_op op = api_agent("a", address);
	struct shmeta_agent a;

	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	op.u.agent.started_at_ms = 2000;
	op.u.agent.last_heartbeat_ms = 7;
	op.u.agent.availability_zone = S("y");
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_assert_eq(shmeta_get_agent(api.reader, "a", 1, NULL, &a, NULL), SHMETA_OK, "dead or alive");
	cr_expect_eq(a.started_at_ms, 1000);
	cr_expect_eq(a.last_heartbeat_ms, 7);
	cr_expect(a.availability_zone.bytes == 1 && a.availability_zone.data[0] == 'y');
	cr_expect_eq(shmeta_get_agent(api.reader, "b", 1, NULL, &a, NULL), SHMETA_ABSENT);
}

CLAIM(a_1_5_an_address_is_one_agents)
{
	char address[64];
	struct shmeta_op op = api_agent("b", address);
	struct shmeta_agent a;

	cr_assert_eq(api_register("a"), SHMETA_OK);
	op.u.agent.address = S("a:9000");
	cr_expect_eq(api_do(&op, 1), SHMETA_ERR_CONFLICT);
	cr_expect_eq(shmeta_get_agent(api.reader, "b", 1, NULL, &a, NULL), SHMETA_ABSENT);
	cr_assert_eq(api_deregister("a"), SHMETA_OK);
	cr_expect_eq(api_do(&op, 1), SHMETA_OK);
}

CLAIM(a_1_5_agents_are_alive_for_less_than_60_s_and_listed_by_id)
{
	char address[64];
	struct shmeta_op op = api_agent("c", address);

	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	op.u.agent.last_heartbeat_ms = 1000001;
	op.u.agent.agent_group = S("h");
	op.u.agent.availability_zone = S("y");
	cr_assert_eq(api_do(&op, 1), SHMETA_OK);
	cr_expect_str_eq(api_agents(NULL, NULL, 0), "a b c", "the future is alive");
	cr_expect_str_eq(api_agents(NULL, NULL, 1059999), "a b c");
	cr_expect_str_eq(api_agents(NULL, NULL, 1060000), "c", "60 s is dead");
	cr_expect_str_eq(api_agents(NULL, NULL, 1060001), "");
	cr_expect_str_eq(api_agents("g", NULL, 1000000), "a b");
	cr_expect_str_eq(api_agents("g", "y", 1000000), "");
	cr_expect_str_eq(api_agents("h", "y", 1000000), "c");
}

CLAIM(a_1_5_deregistering_takes_the_leases_and_is_idempotent)
{
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 1, "b", 100000), SHMETA_OK);
	cr_expect_eq(api_deregister("a"), SHMETA_OK);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/1:b@1");
	cr_expect_eq(api_deregister("a"), SHMETA_OK);
}

/* ---- 1.6 leases ---- */

CLAIM(a_1_6_a_renewal_takes_the_next_epoch)
{
	struct shmeta_lease first;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	first = api.result[0].lease;
	cr_expect_eq(first.epoch, 1);
	cr_expect_eq(first.lease_expires_at_ms, first.acquired_at_ms + 100000);
	cr_assert_eq(api_acquire("orders", 0, "a", 200000), SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 2);
	cr_expect_geq(api.result[0].lease.acquired_at_ms, first.acquired_at_ms);
	cr_expect_str_eq(api_leases("orders", "a", first.acquired_at_ms), "orders/0:a@2");
}

CLAIM(a_1_6_a_held_lease_is_nobody_elses)
{
	char words[40];

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect(api.result[0].topic.bytes == 6 && memcmp(api.result[0].topic.data, "orders", 6) == 0);
	cr_expect(api.result[0].lease.leader_agent_id.bytes == 1 && api.result[0].lease.leader_agent_id.data[0] == 'a');
	cr_expect_eq(api_acquire("orders", 0, "b", 100000), SHMETA_ERR_CONFLICT);
	cr_expect_eq(api.result[0].lease.leader_agent_id.bytes, 0);
	(void)snprintf(words, sizeof words, "for %llu ms", (unsigned long long)api.result[0].value);
	cr_expect_not_null(strstr(api.result[0].text, words), "%s: not %s", api.result[0].text, words);
	cr_expect(api.result[0].least == 1 && api.result[0].most > 0);
	cr_expect_eq(api.result[0].lease.lease_expires_at_ms, 0);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:a@1");
}

CLAIM(a_1_6_an_expired_lease_is_taken_over_with_the_next_epoch)
{
	double end = run_now_s() + 10;
	enum shmeta_status status;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 1), SHMETA_OK);
	while ((status = api_acquire("orders", 0, "b", 100000)) == SHMETA_ERR_CONFLICT && run_now_s() < end)
		;
	cr_assert_eq(status, SHMETA_OK);
	cr_expect_eq(api.result[0].lease.epoch, 2);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:b@2");
}

CLAIM(a_1_6_unknown_agents_and_partitions_get_no_lease)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_expect_eq(api_acquire("orders", 0, "nobody", 1000), SHMETA_ERR_NOT_FOUND);
	cr_expect_eq(api_acquire("orders", 1, "a", 1000), SHMETA_ERR_PARTITION_NOT_FOUND);
	cr_expect_eq(api_acquire("nothing", 0, "a", 1000), SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "");
}

CLAIM(a_1_6_at_the_moment_of_its_end_a_lease_is_gone)
{
	struct shmeta_lease granted, l;

	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	granted = api.result[0].lease;
	cr_expect_eq(shmeta_get_lease(api.reader, "orders", 6, 0, granted.lease_expires_at_ms - 1, NULL, &l, NULL),
	             SHMETA_OK);
	cr_expect_eq(l.epoch, 1);
	cr_expect_eq(shmeta_get_lease(api.reader, "orders", 6, 0, granted.lease_expires_at_ms, NULL, &l, NULL),
	             SHMETA_ABSENT);
	cr_expect_str_eq(api_leases(NULL, NULL, granted.lease_expires_at_ms - 1), "orders/0:a@1");
	cr_expect_str_eq(api_leases(NULL, NULL, granted.lease_expires_at_ms), "");
}

CLAIM(a_1_6_only_the_holder_releases_and_only_once)
{
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_acquire("orders", 0, "a", 100000), SHMETA_OK);
	cr_expect_eq(api_release("orders", 0, "b"), SHMETA_ERR_NOT_FOUND);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "orders/0:a@1");
	cr_expect_eq(api_release("orders", 0, "a"), SHMETA_OK);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "");
	cr_expect_eq(api_release("orders", 0, "a"), SHMETA_ERR_NOT_FOUND);
	cr_expect_eq(api_acquire("orders", 0, "b", 100000), SHMETA_OK);
}

CLAIM(a_1_6_leases_are_listed_by_topic_and_partition)
{
	cr_assert_eq(api_create("b", 11), SHMETA_OK);
	cr_assert_eq(api_create("B", 1), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("c"), SHMETA_OK);
	cr_assert_eq(api_acquire("b", 10, "a", 100000), SHMETA_OK);
	cr_assert_eq(api_acquire("b", 2, "c", 100000), SHMETA_OK);
	cr_assert_eq(api_acquire("B", 0, "a", 100000), SHMETA_OK);
	cr_expect_str_eq(api_leases(NULL, NULL, 0), "B/0:a@1 b/2:c@1 b/10:a@1");
	cr_expect_str_eq(api_leases("b", NULL, 0), "b/2:c@1 b/10:a@1");
	cr_expect_str_eq(api_leases(NULL, "a", 0), "B/0:a@1 b/10:a@1");
	cr_expect_str_eq(api_leases("b", "a", 0), "b/10:a@1");
}
