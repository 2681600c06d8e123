/* SPDX-License-Identifier: Apache-2.0
 * Conformance after a move: what `shmetactl export` and `import` carry from each engine to each
 * other one gives the same answers there, through the public API and a real writer. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/conformance.h"
#include "tests/support/run_tool.h"

CONFORMANCE_SUITES

enum { TEXT = 2048 };

/* What a reader can ask, as one text. */
static void answers(char text[TEXT])
{
	static const uint64_t offsets[] = {0, 9, 10, 25, 75, 999};
	struct shmeta_topic t;
	struct shmeta_committed_offset o;
	struct shmeta_agent a;
	size_t n = 0;

#define SAY(...) n += (size_t)snprintf(text + n, n < TEXT ? TEXT - n : 0, __VA_ARGS__)
	SAY("topics %s\n", api_topics(NULL, 0));
	if (api_topic("orders", &t) == SHMETA_OK)
		SAY("orders %u %u %lld %lld %zu\n", t.partition_count, t.has_retention, (long long)t.retention_ms,
		    (long long)t.created_at_ms, t.config.bytes);
	SAY("partitions %s\n", api_partitions("orders"));
	for (uint32_t p = 0; p < 3; p++) {
		SAY("%u: watermark %lld, segments %s, find", p, (long long)api_watermark("orders", p),
		    api_segments("orders", p));
		for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
			SAY(" %lld", (long long)api_base("orders", p, offsets[i]));
		SAY("\n");
	}
	SAY("groups %s offsets %s\n", api_groups(), api_offsets("g"));
	if (shmeta_get_committed_offset(api.reader, "g", 1, "orders", 6, 0, NULL, &o, NULL) == SHMETA_OK)
		SAY("committed %llu %.*s at %lld\n", (unsigned long long)o.committed_offset, (int)o.metadata.bytes,
		    o.metadata.data, (long long)o.committed_at_ms);
	SAY("agents %s leases %s\n", api_agents(NULL, NULL, 1000000), api_leases(NULL, NULL, 0));
	if (shmeta_get_agent(api.reader, "a", 1, NULL, &a, NULL) == SHMETA_OK)
		SAY("agent %.*s %lld %lld\n", (int)a.address.bytes, a.address.data, (long long)a.last_heartbeat_ms,
		    (long long)a.started_at_ms);
#undef SAY
	cr_assert_lt(n, TEXT);
}

static void furnish(void)
{
	static const char map[] = "\1\0\0\0\1\0\0\0kv";
	char id[64];
	struct shmeta_op topic = {.type = SHMETA_OP_CREATE_TOPIC,
	                          .u.topic = {.name = S("orders"),
	                                      .partition_count = 3,
	                                      .has_retention = 1,
	                                      .retention_ms = 77,
	                                      .config = {map, sizeof map - 1}}};
	struct shmeta_op object[2] = {
		{.type = SHMETA_OP_COMMIT_OBJECT,
	         .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/1"), .size_bytes = 500, .created_at_ms = 9}},
		api_segment("orders", 2, 0, 9, id)};

	cr_assert_eq(api_do(&topic, 1), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_create("z \xc3\xa9\"\\", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 20, 29), SHMETA_OK);
	cr_assert_eq(api_append("orders", 1, 0, 99), SHMETA_OK);
	cr_assert_eq(api_append("orders", 1, 50, 60), SHMETA_OK);
	object[1].type = SHMETA_OP_ADD_SLICE;
	object[1].u.segment.position = 100;
	object[1].u.segment.s3_bucket = object[1].u.segment.s3_key = S("");
	cr_assert_eq(api_do(object, 2), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api.result[1].status, SHMETA_OK, "%s", api.result[1].text);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	cr_assert_eq(api_register("b"), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 0, 25, "m"), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 1, 0, NULL), SHMETA_OK);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(api_acquire("orders", 0, "a", 1000000), SHMETA_OK);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(api_acquire("orders", 1, "b", 1000000), SHMETA_OK);
	cr_assert_eq(api_release("orders", 1, "b"), SHMETA_OK);
}

/* Export, import into an empty source of that engine, and go there. false: this machine has
 * none. */
static bool move_to(const struct conformance_engine *engine)
{
	struct run_daemon other;
	struct run_tool t;
	char uri[200], file[128];
	int made;

	cr_assert_eq(run_daemon_init(&other), 0);
	made = engine->make(&other, uri, sizeof uri);
	if (made == 1) {
		run_daemon_done(&other);
		return false;
	}
	cr_assert_eq(made, 0);
	(void)snprintf(file, sizeof file, "%s/export.jsonl", other.dir);
	run_tool(&t, "shmetactl --timeout 20s export %s --source '%s'", file, api.source);
	cr_assert_eq(t.code, 0, "%s%s", t.out, t.err);
	run_tool_done(&t);
	run_tool(&t, "shmetactl --timeout 20s import %s --target '%s' --yes", file, uri);
	cr_assert_eq(t.code, 0, "to %s: %s%s", engine->name, t.out, t.err);
	run_tool_done(&t);
	cr_assert_eq(run_daemon_start(&other, uri), 0);
	api_move_to(&other, engine, uri);
	return true;
}

CLAIM(c1_answers_are_the_same_after_a_move_to_any_engine)
{
	char before[TEXT], after[TEXT];
	const struct conformance_engine *from = api.engine;

	if (api.engine->dies)
		NOT_HERE("its rows are in another process");
	furnish();
	answers(before);
	for (size_t i = 0; conformance_engines[i] != NULL; i++) {
		if (conformance_engines[i]->dies)
			continue;
		if (!move_to(conformance_engines[i]))
			continue;
		answers(after);
		cr_expect_str_eq(after, before, "from %s to %s", from->name, api.engine->name);
	}
}

CLAIM(c7_epochs_do_not_go_back_through_a_move)
{
	if (api.engine->dies)
		NOT_HERE("its rows are in another process");
	furnish();
	for (size_t i = 0; conformance_engines[i] != NULL; i++) {
		uint64_t held, released;

		if (conformance_engines[i]->dies)
			continue;
		cr_assert_eq(api_acquire("orders", 0, "a", 1000000), SHMETA_OK, "%s", api.result[0].text);
		held = api.result[0].lease.epoch;
		cr_assert_eq(api_acquire("orders", 1, "b", 1000000), SHMETA_OK);
		released = api.result[0].lease.epoch;
		cr_assert_eq(api_release("orders", 1, "b"), SHMETA_OK);
		if (!move_to(conformance_engines[i]))
			continue;
		cr_assert_eq(api_acquire("orders", 0, "a", 1000000), SHMETA_OK, "%s", api.result[0].text);
		cr_expect_eq(api.result[0].lease.epoch, held + 1, "%s", api.engine->name);
		cr_assert_eq(api_acquire("orders", 1, "a", 1000000), SHMETA_OK);
		cr_expect_eq(api.result[0].lease.epoch, released + 1, "%s", api.engine->name);
		cr_assert_eq(api_release("orders", 1, "a"), SHMETA_OK);
	}
}

CLAIM(c8_a_slice_holds_its_object_after_a_move)
{
	char text[3 * (SHMETA_STRING_MAX + 1)];
	struct shmeta_op confirm = {.type = SHMETA_OP_CONFIRM_OBJECT_DELETED,
	                            .u.object = {.s3_bucket = S("b"), .s3_key = S("obj/1")}};
	struct shmeta_segment s;

	if (api.engine->dies)
		NOT_HERE("its rows are in another process");
	furnish();
	for (size_t i = 0; conformance_engines[i] != NULL; i++) {
		if (conformance_engines[i]->dies)
			continue;
		if (!move_to(conformance_engines[i]))
			continue;
		cr_assert_eq(api_find("orders", 2, 5, &s), SHMETA_OK);
		cr_assert_eq(shmeta_segment_strings_named(api.reader, "orders", 6, &s, text, sizeof text), SHMETA_OK);
		cr_expect_str_eq(s.s3_key.data, "obj/1");
		cr_expect_eq(s.position, 100, "%s", api.engine->name);
		cr_expect_eq(api_do(&confirm, 1), SHMETA_ERR_CONFLICT, "%s: it has a slice", api.engine->name);
	}
	cr_assert_eq(api_delete_before("orders", 2, 100), SHMETA_OK);
	cr_expect_eq(api_do(&confirm, 1), SHMETA_OK, "%s", api.result[0].text);
}

CLAIM(c2_tenants_move_together_and_stay_apart)
{
	if (!api.engine->tenants || api.engine->dies)
		NOT_HERE("it has one tenant, or its rows are in another process");
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	api_as(OTHER_TENANT);
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_set_watermark("orders", 1, 55), SHMETA_OK);
	cr_assert_eq(api_commit("g", "orders", 1, 5, NULL), SHMETA_OK);
	for (size_t i = 0; conformance_engines[i] != NULL; i++) {
		if (conformance_engines[i]->dies || !conformance_engines[i]->tenants)
			continue;
		if (!move_to(conformance_engines[i]))
			continue;
		cr_expect_eq(api_watermark("orders", 0), 10);
		cr_expect_eq(api_watermark("orders", 1), UINT64_MAX);
		cr_expect_str_eq(api_groups(), "");
		api_as(OTHER_TENANT);
		cr_expect_eq(api_watermark("orders", 0), 0);
		cr_expect_eq(api_watermark("orders", 1), 55);
		cr_expect_str_eq(api_offsets("g"), "orders/1=5");
	}
}
