/* SPDX-License-Identifier: Apache-2.0
 * The privileges that docs/backends.md names are enough: for a daemon that writes rows but may not
 * make tables, and for one that only reads and still follows the change log. The GRANTs here are
 * those of the document. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "backends/rows.h"
#include "tests/support/source_world.h"

TestSuite(privileges, .timeout = 60);

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
	(void)set;
	world_servers_start();
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
	(void)stats;
	world_servers_stop();
}

#define ok(call) cr_assert_eq((call), SHMETA_OK, "%s", w->err.text)

#define TABLES "topics, partitions, segments, consumer_groups, consumer_offsets, agents, partition_leases"
#define FORMER "shmeta_meta, shmeta_changes, shmeta_lease_epochs, shmeta_transfers, shmeta_objects, shmeta_slices"
#define OWN FORMER ", shmeta_leader_epochs"

/* The schema as its owner made it, then opened as a role of six letters. */
static void open_as(struct world *w, const char *role, const char *grants)
{
	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL server on this machine");
	world_make(w, WORLD_PG_NEW);
	world_open(w);
	world_topic(w, NULL, "orders", 2, -1, NULL);
	world_agent(w, "agent", 5, NULL);
	world_close(w);
	world_sql(w, "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
	world_sql(w, "CREATE ROLE %s LOGIN", role);
	world_sql(w, "%s", grants);
	memcpy(strstr(w->uri, "user=shmeta"), "user=", 5);
	memcpy(strstr(w->uri, "user=") + 5, role, 6);
	world_open(w);
}

static void close_as(struct world *w, const char *role)
{
	world_close(w);
	world_sql(w, "DROP OWNED BY %s", role);
	world_sql(w, "DROP ROLE %s", role);
	world_free(w);
}

Test(privileges, a_role_that_may_write_rows_and_make_nothing_can_do_every_operation)
{
	const struct shmeta_str topic = rows_str("orders"), agent = rows_str("agent");
	/* The slice, cut shorter. */
	const struct shmeta_segment old = {.end_offset = 1,
	                                   .record_count = 1,
	                                   .size_bytes = 9,
	                                   .id = rows_str("s"),
	                                   .s3_bucket = rows_str("b"),
	                                   .s3_key = rows_str("o")},
				    new = {.record_count = 1,
	                                   .size_bytes = 4,
	                                   .id = rows_str("s"),
	                                   .s3_bucket = rows_str("b"),
	                                   .s3_key = rows_str("o"),
	                                   .position = 5};
	const struct shmeta_op ops[] = {
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = rows_str("more"), .partition_count = 2}},
		{.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	         .name = topic,
	         .u.segment = {.end_offset = 9,
	                       .record_count = 1,
	                       .id = rows_str("a"),
	                       .s3_bucket = rows_str("b"),
	                       .s3_key = rows_str("k")}},
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = topic, .offset = 20},
		{.type = SHMETA_OP_COMMIT_OFFSET,
	         .name = topic,
	         .u.committed = {.group_id = rows_str("g"), .committed_offset = 3}},
		{.type = SHMETA_OP_ACQUIRE_LEASE, .name = topic, .agent_id = agent, .duration_ms = 1000},
		{.type = SHMETA_OP_REGISTER_AGENT,
	         .u.agent = {.agent_id = rows_str("b"),
	                     .address = rows_str("x"),
	                     .availability_zone = rows_str("z"),
	                     .agent_group = rows_str("g")}},
		{.type = SHMETA_OP_OFFER_LEASE,
	         .name = topic,
	         .agent_id = agent,
	         .to_agent_id = rows_str("b"),
	         .duration_ms = 1000},
		{.type = SHMETA_OP_RENEW_AGENT, .agent_id = agent, .duration_ms = 1000},
		{.type = SHMETA_OP_RELEASE_LEASE, .name = topic, .agent_id = agent},
		{.type = SHMETA_OP_COMMIT_OBJECT,
	         .u.object = {.s3_bucket = rows_str("b"), .s3_key = rows_str("o"), .size_bytes = 90}},
		{.type = SHMETA_OP_ADD_SLICE,
	         .name = topic,
	         .partition_id = 1,
	         .u.segment = {.end_offset = 1, .record_count = 1, .size_bytes = 9, .id = rows_str("s")}},
		{.type = SHMETA_OP_REPLACE_SEGMENTS,
	         .name = topic,
	         .partition_id = 1,
	         .u.replace = {.old_segments = &old,
	                       .new_segments = &new,
	                       .old_count = 1,
	                       .new_count = 1,
	                       .compaction_epoch = 1}},
		{.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = topic, .partition_id = 1, .offset = 100},
		{.type = SHMETA_OP_CONFIRM_OBJECT_DELETED,
	         .u.object = {.s3_bucket = rows_str("b"), .s3_key = rows_str("o")}},
		{.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = rows_str("b")},
		{.type = SHMETA_OP_DELETE_GROUP, .group_id = rows_str("g")},
		{.type = SHMETA_OP_DELETE_TOPIC, .name = rows_str("more")},
	};
	enum { OPS = sizeof ops / sizeof ops[0] };
	struct shmeta_result results[OPS];
	struct backend_op batch[OPS];
	struct backend_row epoch = {
		.kind = BACKEND_ROW_EPOCH, .tenant = rows_str(SHMETA_DEFAULT_TENANT), .topic = topic, .epoch = 50};
	struct world world, *w = &world;

	open_as(w, "writer",
	        "GRANT USAGE ON SCHEMA public TO writer; "
	        "GRANT SELECT, INSERT, UPDATE, DELETE ON " TABLES ", " OWN " TO writer");
	cr_expect(world_has_feed(w) && world_writable(w));
	ok(world_load(w));
	for (size_t i = 0; i < OPS; i++)
		batch[i] = (struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &ops[i]};
	ok(w->ops->writer->apply(w->state, batch, OPS, 1000, results, &w->recorder.sink, &w->err));
	for (size_t i = 0; i < OPS; i++)
		cr_expect_eq(results[i].status, SHMETA_OK, "operation %zu: %s", i, results[i].text);
	/* What somebody else does is logged by the owner's function, and read. */
	world_watermark(w, NULL, "orders", 1, 77);
	ok(world_changes(w));
	cr_expect_eq(w->changed, 1);
	ok(w->ops->admin->restore(w->state, &epoch, 1, results, &w->err));
	cr_expect_eq(results[0].status, SHMETA_OK, "%s", results[0].text);
	close_as(w, "writer");
}

/* As one that was granted what there was before. */
Test(privileges, a_role_without_a_right_to_leader_epochs_does_all_but_keep_them)
{
	const struct shmeta_str topic = rows_str("orders"), agent = rows_str("agent"),
				tenant = rows_str(SHMETA_DEFAULT_TENANT);
	const struct shmeta_op ops[] = {
		{.type = SHMETA_OP_ACQUIRE_LEASE, .name = topic, .agent_id = agent, .duration_ms = 1000000},
		{.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	         .name = topic,
	         .fence = {agent, 1},
	         .u.segment =
	                 {.base_offset = 5, .end_offset = 9, .record_count = 5, .size_bytes = 1, .id = rows_str("x")}},
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = topic, .fence = {agent, 1}, .offset = 20},
		{.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = topic, .offset = 100},
	};
	enum { OPS = sizeof ops / sizeof ops[0] };
	const struct backend_epoch ask = {.tenant = tenant, .topic = topic, .epoch = 0};
	struct backend_epoch_end end = {.epoch = 9};
	struct shmeta_result results[OPS];
	struct backend_op batch[OPS];
	struct world world, *w = &world;

	open_as(w, "former",
	        "GRANT USAGE ON SCHEMA public TO former; "
	        "GRANT SELECT, INSERT, UPDATE, DELETE ON " TABLES ", " FORMER " TO former");
	cr_expect(world_has_feed(w) && world_writable(w));
	ok(world_load(w));
	for (size_t i = 0; i < OPS; i++)
		batch[i] = (struct backend_op){.tenant = tenant, .op = &ops[i]};
	ok(w->ops->writer->apply(w->state, batch, OPS, 1000, results, &w->recorder.sink, &w->err));
	for (size_t i = 0; i < OPS; i++)
		cr_expect_eq(results[i].status, SHMETA_OK, "operation %zu: %s", i, results[i].text);
	cr_expect_eq(w->ops->admin->epoch_end(w->state, &ask, &end, &w->err), SHMETA_ERR_UNSUPPORTED);
	world_close(w);
	world_sql(w, "GRANT SELECT, INSERT, UPDATE, DELETE ON shmeta_leader_epochs TO former");
	world_open(w);
	ok(world_load(w));
	ok(w->ops->writer->apply(w->state, &batch[1], 1, 1000, results, &w->recorder.sink, &w->err));
	cr_expect_eq(results[0].status, SHMETA_OK, "%s", results[0].text);
	ok(w->ops->admin->epoch_end(w->state, &ask, &end, &w->err));
	cr_expect(end.epoch == 0 && end.end_offset == 5);
	/* A database of before there was that table, which this role cannot make. */
	world_close(w);
	world_sql(w, "DROP TABLE shmeta_leader_epochs");
	world_open(w);
	cr_expect(world_has_feed(w) && world_writable(w));
	ok(world_load(w));
	ok(w->ops->writer->apply(w->state, &batch[2], 2, 1000, results, &w->recorder.sink, &w->err));
	cr_expect(results[0].status == SHMETA_OK && results[1].status == SHMETA_OK, "%s%s", results[0].text,
	          results[1].text);
	cr_expect_eq(w->ops->admin->epoch_end(w->state, &ask, &end, &w->err), SHMETA_ERR_UNSUPPORTED);
	close_as(w, "former");
}

Test(privileges, a_role_that_may_only_select_also_follows_the_log_where_it_may_read_that)
{
	const struct shmeta_op op = {.type = SHMETA_OP_ENSURE_GROUP, .group_id = rows_str("g")};
	const struct backend_op batch = {.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &op};
	struct shmeta_result result;
	struct world world, *w = &world;

	open_as(w, "reader", "GRANT USAGE ON SCHEMA public TO reader; GRANT SELECT ON " TABLES ", " OWN " TO reader");
	cr_expect(world_has_feed(w) && !world_writable(w));
	ok(world_load(w));
	cr_expect_eq(w->recorder.partitions, 2);
	ok(world_changes(w));
	cr_expect_eq(w->changed, 0);
	world_watermark(w, NULL, "orders", 1, 77);
	ok(world_changes(w));
	cr_expect_eq(w->changed, 1);
	ok(w->ops->writer->apply(w->state, &batch, 1, 1000, &result, &w->recorder.sink, &w->err));
	cr_expect_eq(result.status, SHMETA_ERR_READ_ONLY);
	close_as(w, "reader");
}

/* It is named by a row of shmeta's own; a right that another of its tables lacks for a while makes
 * it no other source. */
Test(privileges, a_source_stays_the_same_when_the_role_may_not_read_its_log)
{
	struct world world, *w = &world;
	uint64_t source;

	open_as(w, "viewer", "GRANT USAGE ON SCHEMA public TO viewer; GRANT SELECT ON " TABLES ", " OWN " TO viewer");
	cr_expect(world_has_feed(w));
	source = w->ops->source->fingerprint(w->state);
	world_close(w);
	world_sql(w, "REVOKE SELECT ON shmeta_changes, shmeta_objects FROM viewer");
	world_open(w);
	cr_expect(!world_has_feed(w));
	cr_expect_eq(w->ops->source->fingerprint(w->state), source);
	close_as(w, "viewer");
}
