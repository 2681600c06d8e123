/* SPDX-License-Identifier: Apache-2.0
 * Moving between engines, below the tool: what load() and extras() show of one source and restore()
 * puts into another one is shown by that one the same; and what is there already is never
 * changed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"
#include "tests/support/source_world.h"

TestSuite(move, .timeout = 60);

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

/* Rows copied from what an engine shows, in an order in which they can be put. */
struct rows {
	struct backend_row row[256];
	size_t count;
	char tenant[80], topic[256];
};

static struct shmeta_str keep(struct shmeta_str text)
{
	char *copy = malloc(text.bytes + 1); /* as long as the test */

	cr_assert_not_null(copy);
	if (text.bytes > 0)
		memcpy(copy, text.data, text.bytes);
	copy[text.bytes] = '\0';
	return (struct shmeta_str){copy, text.bytes};
}

static struct shmeta_map keep_map(struct shmeta_map map)
{
	struct shmeta_str copy = keep((struct shmeta_str){map.data, map.bytes});

	return (struct shmeta_map){copy.data, copy.bytes};
}

static struct backend_row *next(struct rows *r, enum backend_row_kind kind, struct shmeta_str tenant)
{
	struct backend_row *row = &r->row[r->count++];

	cr_assert_lt(r->count, sizeof r->row / sizeof r->row[0]);
	*row = (struct backend_row){.kind = kind, .tenant = keep(tenant)};
	return row;
}

static enum shmeta_status on_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct rows *r = arg;
	struct backend_row *row = next(r, BACKEND_ROW_TOPIC, tenant);

	row->u.topic = *topic;
	row->u.topic.name = keep(topic->name);
	row->u.topic.config = keep_map(topic->config);
	row->u.topic.cleanup_policy = keep(topic->cleanup_policy);
	(void)snprintf(r->tenant, sizeof r->tenant, "%s", row->tenant.data);
	(void)snprintf(r->topic, sizeof r->topic, "%s", row->u.topic.name.data);
	return SHMETA_OK;
}

static enum shmeta_status on_partition(void *arg, const struct shmeta_partition *partition)
{
	struct rows *r = arg;
	struct backend_row *row = next(r, BACKEND_ROW_PARTITION, rows_str(r->tenant));

	row->topic = keep(rows_str(r->topic));
	row->u.partition = *partition;
	return SHMETA_OK;
}

static enum shmeta_status on_segment(void *arg, const struct shmeta_segment *segment)
{
	struct rows *r = arg;
	struct backend_row *row = next(r, BACKEND_ROW_SEGMENT, rows_str(r->tenant));

	row->topic = keep(rows_str(r->topic));
	row->u.segment = *segment;
	row->u.segment.id = keep(segment->id);
	row->u.segment.s3_bucket = keep(segment->s3_bucket);
	row->u.segment.s3_key = keep(segment->s3_key);
	return SHMETA_OK;
}

static enum shmeta_status on_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct backend_row *row = next(arg, BACKEND_ROW_AGENT, tenant);

	row->u.agent = *agent;
	row->u.agent.agent_id = keep(agent->agent_id);
	row->u.agent.address = keep(agent->address);
	row->u.agent.availability_zone = keep(agent->availability_zone);
	row->u.agent.agent_group = keep(agent->agent_group);
	row->u.agent.metadata = keep_map(agent->metadata);
	return SHMETA_OK;
}

static enum shmeta_status on_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct backend_row *row = next(arg, BACKEND_ROW_GROUP, tenant);

	row->u.group = *group;
	row->u.group.group_id = keep(group->group_id);
	return SHMETA_OK;
}

static enum shmeta_status on_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                    const struct shmeta_committed_offset *offset)
{
	struct backend_row *row = next(arg, BACKEND_ROW_OFFSET, tenant);

	row->topic = keep(topic);
	row->u.offset = *offset;
	row->u.offset.group_id = keep(offset->group_id);
	row->u.offset.metadata = keep(offset->metadata);
	return SHMETA_OK;
}

static enum shmeta_status on_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                   const struct shmeta_lease *lease)
{
	struct backend_row *row = next(arg, BACKEND_ROW_LEASE, tenant);

	row->topic = keep(topic);
	row->u.lease = *lease;
	row->u.lease.leader_agent_id = keep(lease->leader_agent_id);
	return SHMETA_OK;
}

static enum shmeta_status on_extra(void *arg, const struct backend_row *extra)
{
	struct backend_row *row = next(arg, extra->kind, extra->tenant);

	row->partition_id = extra->partition_id;
	row->epoch = extra->epoch;
	row->since_ms = extra->since_ms;
	row->topic = keep(extra->topic);
	if (extra->kind == BACKEND_ROW_OBJECT) {
		row->u.object = extra->u.object;
		row->u.object.s3_bucket = keep(extra->u.object.s3_bucket);
		row->u.object.s3_key = keep(extra->u.object.s3_key);
	}
	return SHMETA_OK;
}

static void take_all(struct world *w, struct rows *r)
{
	const struct backend_sink sink = {.arg = r,
	                                  .topic = on_topic,
	                                  .partition = on_partition,
	                                  .segment = on_segment,
	                                  .agent = on_agent,
	                                  .group = on_group,
	                                  .offset = on_offset,
	                                  .lease = on_lease};

	memset(r, 0, sizeof *r);
	cr_assert_eq(w->ops->admin->extras(w->state, BACKEND_ROW_OBJECT, on_extra, r, &w->err), SHMETA_OK, "%s",
	             w->err.text);
	cr_assert_eq(w->ops->source->load(w->state, &sink, &w->err), SHMETA_OK, "%s", w->err.text);
	cr_assert_eq(w->ops->admin->extras(w->state, BACKEND_ROW_EPOCH, on_extra, r, &w->err), SHMETA_OK, "%s",
	             w->err.text);
}

static enum shmeta_status apply(struct world *w, const struct shmeta_op *ops, size_t count,
                                struct shmeta_result *results)
{
	struct backend_op own[8];

	for (size_t i = 0; i < count; i++)
		own[i] = (struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &ops[i]};
	return world_applied(w->ops->writer->apply(w->state, own, count, 5000, results, &w->recorder.sink, &w->err),
	                     results, count);
}

/* Everything that a source can have of the default tenant, and with other tenants a topic of
 * theirs. */
static void fill(struct world *w)
{
	static const char *const config[] = {"b", "2", "a", "\xc3\xa9 x", NULL};
	struct shmeta_result results[8];
	const struct shmeta_op ops[] = {
		{.type = SHMETA_OP_COMMIT_OBJECT,
	         .u.object = {.s3_bucket = rows_str("b"),
	                      .s3_key = rows_str("o/1"),
	                      .size_bytes = 900,
	                      .created_at_ms = 77}},
		{.type = SHMETA_OP_ADD_SLICE,
	         .name = rows_str("slices"),
	         .u.segment = {.base_offset = 0,
	                       .end_offset = 4,
	                       .record_count = 5,
	                       .size_bytes = 100,
	                       .position = 0,
	                       .id = rows_str("s-0")}},
		{.type = SHMETA_OP_ADD_SLICE,
	         .name = rows_str("slices"),
	         .partition_id = 1,
	         .u.segment = {.base_offset = 0,
	                       .end_offset = 4,
	                       .record_count = 5,
	                       .size_bytes = 100,
	                       .position = 100,
	                       .id = rows_str("s-1")}},
		{.type = SHMETA_OP_ACQUIRE_LEASE,
	         .name = rows_str("slices"),
	         .agent_id = rows_str("agent-1"),
	         .duration_ms = 1000},
		{.type = SHMETA_OP_ACQUIRE_LEASE,
	         .name = rows_str("slices"),
	         .agent_id = rows_str("agent-1"),
	         .duration_ms = 1000},
		{.type = SHMETA_OP_RELEASE_LEASE, .name = rows_str("slices"), .agent_id = rows_str("agent-1")}};

	world_topic(w, NULL, "orders", 3, 86400000, config);
	world_topic(w, NULL, "empty", 1, -1, NULL);
	world_topic(w, NULL, "slices", 2, -1, NULL);
	world_watermark(w, NULL, "orders", 1, 500);
	for (uint64_t base = 0; base < 300; base += 100)
		world_segment(w, NULL, "orders", 1, base, base + 99);
	world_agent(w, "agent-1", 123456, config);
	world_group(w, NULL, "g");
	world_offset(w, NULL, "g", "orders", 1, 250, "meta");
	world_offset(w, NULL, "g", "orders", 2, 0, NULL);
	world_lease(w, NULL, "orders", 1, "agent-1", 41);
	if (w->tenants) {
		world_topic(w, WORLD_OTHER_TENANT, "orders", 1, -1, config);
		world_segment(w, WORLD_OTHER_TENANT, "orders", 0, 0, 7);
		world_group(w, WORLD_OTHER_TENANT, "g");
		world_offset(w, WORLD_OTHER_TENANT, "g", "orders", 0, 3, NULL);
	}
	cr_assert_eq(apply(w, ops, sizeof ops / sizeof ops[0], results), SHMETA_OK, "%s", w->err.text);
	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
		cr_assert_eq(results[i].status, SHMETA_OK, "%zu: %s", i, results[i].text);
}

static void put(struct world *w, const struct rows *r, enum shmeta_status expected)
{
	static struct shmeta_result results[256];

	cr_assert_eq(w->ops->admin->restore(w->state, r->row, r->count, results, &w->err), SHMETA_OK, "%s",
	             w->err.text);
	for (size_t i = 0; i < r->count; i++)
		cr_assert_eq(results[i].status, expected, "row %zu of kind %d: %d %s", i, r->row[i].kind,
		             results[i].status, results[i].text);
}

static char *shown(struct world *w)
{
	char *text;

	cr_assert_eq(world_load(w), SHMETA_OK, "%s", w->err.text);
	text = recorder_sorted(&w->recorder);
	cr_assert_not_null(text);
	return text;
}

static void moves(enum world_engine from, enum world_engine to)
{
	static struct rows rows, again;
	struct shmeta_op acquire = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                            .name = rows_str("slices"),
	                            .agent_id = rows_str("agent-1"),
	                            .duration_ms = 1000};
	struct shmeta_op confirm = {.type = SHMETA_OP_CONFIRM_OBJECT_DELETED,
	                            .u.object = {.s3_bucket = rows_str("b"), .s3_key = rows_str("o/1")}};
	struct shmeta_result result;
	struct world source, target;
	char *before, *after;

	world_make(&source, from);
	world_open(&source);
	fill(&source);
	take_all(&source, &rows);
	before = shown(&source);
	world_make(&target, to);
	world_open(&target);
	put(&target, &rows, SHMETA_OK);
	after = shown(&target);
	cr_expect_str_eq(after, before);
	/* What load() does not show: epochs go on, slices hold their object. */
	cr_assert_eq(apply(&target, &acquire, 1, &result), SHMETA_OK);
	cr_expect_eq(result.status, SHMETA_OK, "%s", result.text);
	cr_expect_eq(result.lease.epoch, 3, "two were given before the move, and released");
	cr_assert_eq(apply(&target, &confirm, 1, &result), SHMETA_OK);
	cr_expect_eq(result.status, SHMETA_ERR_CONFLICT, "two slices");
	take_all(&source, &again);
	cr_expect_eq(again.count, rows.count);
	world_free(&source);
	world_free(&target);
	free(before);
	free(after);
}

/* Each shape to itself, and between engines; tenants go where there are tenants. */
#define MOVES(name, from, to)                                                          \
	Test(move, name)                                                               \
	{                                                                              \
		if (!world_possible(from) || !world_possible(to))                      \
			cr_skip_test("there is no PostgreSQL server on this machine"); \
		moves(from, to);                                                       \
	}
MOVES(own_schema_to_own_schema, WORLD_SQLITE_NEW, WORLD_SQLITE_NEW)
MOVES(streamhouse_v01_to_own_schema, WORLD_SQLITE_V01, WORLD_SQLITE_NEW)
MOVES(streamhouse_v01_to_itself, WORLD_SQLITE_V01, WORLD_SQLITE_V01)
MOVES(later_to_later_with_its_tenants, WORLD_SQLITE_LATER, WORLD_SQLITE_LATER)
MOVES(sqlite_to_postgresql, WORLD_SQLITE_NEW, WORLD_PG_NEW)
MOVES(postgresql_to_sqlite, WORLD_PG_NEW, WORLD_SQLITE_NEW)
MOVES(postgresql_v01_to_itself, WORLD_PG_V01, WORLD_PG_V01)
MOVES(postgresql_later_to_itself_with_its_tenants, WORLD_PG_LATER, WORLD_PG_LATER)
MOVES(sqlite_later_to_postgresql_later_with_its_tenants, WORLD_SQLITE_LATER, WORLD_PG_LATER)
MOVES(postgresql_later_to_sqlite_later_with_its_tenants, WORLD_PG_LATER, WORLD_SQLITE_LATER)
MOVES(sqlite_to_cockroachdb, WORLD_SQLITE_NEW, WORLD_COCKROACH)
MOVES(cockroachdb_to_postgresql, WORLD_COCKROACH, WORLD_PG_NEW)

static void conflicts(enum world_engine engine)
{
	static struct rows rows;
	struct shmeta_result results[256];
	struct world source, target;
	char *before, *after;

	world_make(&source, engine);
	world_open(&source);
	fill(&source);
	take_all(&source, &rows);
	world_make(&target, engine);
	world_open(&target);
	put(&target, &rows, SHMETA_OK);
	put(&target, &rows, SHMETA_ERR_ALREADY_EXISTS);
	world_sql(&target, "UPDATE topics SET retention_ms = 5, config = '{\"a\": \"other\"}'");
	world_sql(&target, "UPDATE partitions SET high_watermark = high_watermark + 1");
	world_sql(&target, "UPDATE segments SET size_bytes = size_bytes + 1");
	world_sql(&target, "UPDATE agents SET metadata = '{}'");
	world_sql(&target, "UPDATE consumer_groups SET updated_at = 7");
	world_sql(&target, "UPDATE consumer_offsets SET metadata = 'x'");
	world_sql(&target, "UPDATE partition_leases SET epoch = 40");
	before = shown(&target);
	cr_assert_eq(target.ops->admin->restore(target.state, rows.row, rows.count, results, &target.err), SHMETA_OK);
	for (size_t i = 0; i < rows.count; i++)
		cr_expect_eq(results[i].status,
		             rows.row[i].kind == BACKEND_ROW_OBJECT || rows.row[i].kind == BACKEND_ROW_EPOCH
		                     ? SHMETA_ERR_ALREADY_EXISTS
		                     : SHMETA_ERR_CONFLICT,
		             "row %zu of kind %d: %s", i, rows.row[i].kind, results[i].text);
	after = shown(&target);
	cr_expect_str_eq(after, before);
	free(before);
	free(after);
	world_free(&source);
	world_free(&target);
}

#define CONFLICTS(name, engine)                                                        \
	Test(move, name)                                                               \
	{                                                                              \
		if (!world_possible(engine))                                           \
			cr_skip_test("there is no PostgreSQL server on this machine"); \
		conflicts(engine);                                                     \
	}
CONFLICTS(what_is_there_the_same_is_told_and_what_is_there_otherwise_stays_on_sqlite, WORLD_SQLITE_NEW)
CONFLICTS(what_is_there_the_same_is_told_and_what_is_there_otherwise_stays_on_postgresql, WORLD_PG_NEW)

static void epochs(enum world_engine engine)
{
	struct backend_row row = {.kind = BACKEND_ROW_EPOCH,
	                          .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                          .topic = rows_str("gone"),
	                          .partition_id = 3};
	static const struct {
		uint64_t epoch, after;
		enum shmeta_status status;
	} steps[] = {{7, 7, SHMETA_OK},
	             {6, 7, SHMETA_ERR_ALREADY_EXISTS},
	             {7, 7, SHMETA_ERR_ALREADY_EXISTS},
	             {9, 9, SHMETA_OK}};
	struct shmeta_result result;
	struct world w;

	world_make(&w, engine);
	world_open(&w);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		row.epoch = steps[i].epoch;
		cr_assert_eq(w.ops->admin->restore(w.state, &row, 1, &result, &w.err), SHMETA_OK, "%s", w.err.text);
		cr_expect_eq(result.status, steps[i].status, "step %zu", i);
		cr_expect_eq(world_sql_number(&w, "SELECT epoch FROM shmeta_lease_epochs WHERE topic = 'gone'"),
		             (int64_t)steps[i].after);
	}
	world_free(&w);
}

Test(move, an_epoch_only_goes_up)
{
	epochs(WORLD_SQLITE_NEW);
	if (world_possible(WORLD_PG_NEW))
		epochs(WORLD_PG_NEW);
}

/* A lease that comes in behind an epoch that was given here: its holder would pass as the one that
 * it was before others held it. */
static void late_lease(enum world_engine engine)
{
	static const struct {
		uint64_t epoch;
		enum shmeta_status status;
	} steps[] = {
		{6, SHMETA_ERR_CONFLICT}, {1, SHMETA_ERR_CONFLICT}, {7, SHMETA_OK}, {7, SHMETA_ERR_ALREADY_EXISTS}};
	struct backend_row highest = {.kind = BACKEND_ROW_EPOCH,
	                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                              .topic = rows_str("t"),
	                              .epoch = 7};
	struct backend_row lease = {.kind = BACKEND_ROW_LEASE,
	                            .tenant = rows_str(SHMETA_DEFAULT_TENANT),
	                            .topic = rows_str("t"),
	                            .u.lease = {.leader_agent_id = rows_str("a"),
	                                        .lease_expires_at_ms = INT64_C(9000000000000),
	                                        .acquired_at_ms = 1}};
	struct shmeta_result result;
	struct world w;

	world_make(&w, engine);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	world_agent(&w, "a", 1, NULL);
	cr_assert_eq(w.ops->admin->restore(w.state, &highest, 1, &result, &w.err), SHMETA_OK, "%s", w.err.text);
	cr_assert_eq(result.status, SHMETA_OK);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		lease.u.lease.epoch = steps[i].epoch;
		cr_assert_eq(w.ops->admin->restore(w.state, &lease, 1, &result, &w.err), SHMETA_OK, "%s", w.err.text);
		cr_expect_eq(result.status, steps[i].status, "%s, step %zu: %d %s", world_names[engine], i,
		             (int)result.status, result.text);
		if (result.status == SHMETA_ERR_CONFLICT)
			cr_expect_not_null(strstr(result.text, "a later epoch was given here"), "%s", result.text);
	}
	cr_expect_eq(world_sql_number(&w, "SELECT epoch FROM partition_leases"), 7);
	world_free(&w);
}

Test(move, a_lease_behind_an_epoch_that_was_given_is_refused)
{
	late_lease(WORLD_SQLITE_NEW);
	late_lease(WORLD_SQLITE_LATER);
	if (world_possible(WORLD_PG_NEW)) {
		late_lease(WORLD_PG_NEW);
		late_lease(WORLD_PG_LATER);
	}
}

static enum shmeta_status ignore_change(void *arg, const struct backend_key *key)
{
	(void)arg, (void)key;
	return SHMETA_OK;
}

static enum shmeta_status count_object(void *arg, const struct shmeta_object_info *info)
{
	(void)info;
	++*(size_t *)arg;
	return SHMETA_OK;
}

/* A slice that comes in refers to its object, which may have been one that nothing refers to. */
static void grace_ends(enum world_engine engine)
{
	const struct shmeta_str tenant = rows_str(SHMETA_DEFAULT_TENANT);
	const struct backend_row row[] = {{.kind = BACKEND_ROW_OBJECT,
	                                   .tenant = tenant,
	                                   .since_ms = 5,
	                                   .u.object = {.s3_bucket = rows_str("b"),
	                                                .s3_key = rows_str("k"),
	                                                .size_bytes = 100,
	                                                .created_at_ms = 1}},
	                                  {.kind = BACKEND_ROW_SEGMENT,
	                                   .tenant = tenant,
	                                   .topic = rows_str("t"),
	                                   .u.segment = {.id = rows_str("i"),
	                                                 .base_offset = 100,
	                                                 .end_offset = 109,
	                                                 .record_count = 1,
	                                                 .size_bytes = 10,
	                                                 .s3_bucket = rows_str("b"),
	                                                 .s3_key = rows_str("k")}}};
	const struct shmeta_op delete = {
		.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = rows_str("t"), .offset = 1000};
	const struct backend_op op = {tenant, &delete};
	const struct backend_object_list list = {.tenant = tenant, .now_ms = 1000000, .grace_ms = 1000, .most = 10};
	const struct backend_sink sink = {.changed = ignore_change};
	struct shmeta_result results[2];
	size_t listed = 0;
	struct world w;

	world_make(&w, engine);
	world_open(&w);
	world_topic(&w, NULL, "t", 1, -1, NULL);
	cr_assert_eq(w.ops->admin->restore(w.state, row, 2, results, &w.err), SHMETA_OK, "%s", w.err.text);
	cr_assert_eq(results[0].status, SHMETA_OK, "%s", results[0].text);
	cr_assert_eq(results[1].status, SHMETA_OK, "%s", results[1].text);
	cr_assert_eq(w.ops->writer->apply(w.state, &op, 1, 1000000, results, &sink, &w.err), SHMETA_OK, "%s",
	             w.err.text);
	cr_assert_eq(results[0].count, 1, "%s", results[0].text);
	cr_assert_eq(w.ops->admin->objects(w.state, &list, count_object, &listed, &w.err), SHMETA_OK, "%s", w.err.text);
	cr_expect_eq(listed, 0, "%s: deletable at once", world_names[engine]);
	world_free(&w);
}

Test(move, a_slice_that_comes_in_ends_the_grace_of_its_object)
{
	grace_ends(WORLD_SQLITE_NEW);
	if (world_possible(WORLD_PG_NEW))
		grace_ends(WORLD_PG_NEW);
	if (world_possible(WORLD_DYNAMODB))
		grace_ends(WORLD_DYNAMODB);
}

/* One row of each kind whose parent is not there, and what the shape cannot hold. */
static void refusals(enum world_engine engine)
{
	const struct shmeta_str tenant = rows_str(SHMETA_DEFAULT_TENANT), topic = rows_str("nothing");
	struct backend_row row[] = {
		{.kind = BACKEND_ROW_TOPIC,
	         .tenant = tenant,
	         .u.topic = {.name = rows_str("policy"), .partition_count = 1, .cleanup_policy = rows_str("compact")}},
		{.kind = BACKEND_ROW_PARTITION, .tenant = tenant, .topic = topic},
		{.kind = BACKEND_ROW_SEGMENT,
	         .tenant = tenant,
	         .topic = topic,
	         .u.segment = {.id = rows_str("i"), .s3_bucket = rows_str("b"), .s3_key = rows_str("k")}},
		{.kind = BACKEND_ROW_SEGMENT,
	         .tenant = tenant,
	         .topic = topic,
	         .u.segment =
	                 {.id = rows_str("i"), .s3_bucket = rows_str("b"), .s3_key = rows_str("k"), .position = 9}},
		{.kind = BACKEND_ROW_OFFSET, .tenant = tenant, .topic = topic, .u.offset = {.group_id = rows_str("g")}},
		{.kind = BACKEND_ROW_LEASE,
	         .tenant = tenant,
	         .topic = topic,
	         .u.lease = {.leader_agent_id = rows_str("a"), .epoch = 4}},
		{.kind = BACKEND_ROW_GROUP,
	         .tenant = rows_str(WORLD_OTHER_TENANT),
	         .u.group = {.group_id = rows_str("g")}},
		{.kind = BACKEND_ROW_GROUP, .tenant = tenant, .u.group = {.group_id = rows_str("g")}},
	};
	static const enum shmeta_status expected[] = {
		SHMETA_ERR_UNSUPPORTED, SHMETA_ERR_NOT_FOUND, SHMETA_ERR_NOT_FOUND,  SHMETA_ERR_NOT_FOUND,
		SHMETA_ERR_NOT_FOUND,   SHMETA_ERR_NOT_FOUND, SHMETA_ERR_NOT_TENANT, SHMETA_OK};
	enum { ROWS = sizeof row / sizeof row[0] };
	struct shmeta_result results[ROWS];
	struct world w;

	world_make(&w, engine);
	world_open(&w);
	cr_assert_eq(w.ops->admin->restore(w.state, row, ROWS, results, &w.err), SHMETA_OK, "%s", w.err.text);
	for (size_t i = 0; i < ROWS; i++) {
		cr_expect_eq(results[i].status, expected[i], "row %zu: %d %s", i, results[i].status, results[i].text);
		cr_expect(expected[i] == SHMETA_OK || results[i].text[0] != '\0', "row %zu has no sentence", i);
	}
	cr_assert_eq(world_load(&w), SHMETA_OK);
	cr_expect_eq(w.recorder.groups, 1);
	cr_expect_eq(w.recorder.topics, 0);
	world_free(&w);
}

Test(move, what_cannot_be_put_is_refused_with_a_sentence_and_the_others_are_put)
{
	refusals(WORLD_SQLITE_NEW);
	if (world_possible(WORLD_PG_NEW))
		refusals(WORLD_PG_NEW);
}

/* A value that the server will not take fails its whole statement: the others of it are put all the
 * same. */
Test(move, a_value_that_postgresql_does_not_take_harms_no_other_row)
{
	struct backend_row row[64];
	struct shmeta_result results[64];
	char name[64][16];
	struct world w;

	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL server on this machine");
	world_make(&w, WORLD_PG_NEW);
	world_open(&w);
	for (size_t i = 0; i < 64; i++) {
		(void)snprintf(name[i], sizeof name[i], "t%zu", i);
		row[i] = (struct backend_row){
			.kind = BACKEND_ROW_TOPIC,
			.tenant = rows_str(SHMETA_DEFAULT_TENANT),
			.u.topic = {.name = rows_str(name[i]), .partition_count = i % 20 == 7 ? 3000000000u : 1}};
	}
	cr_assert_eq(w.ops->admin->restore(w.state, row, 64, results, &w.err), SHMETA_OK, "%s", w.err.text);
	for (size_t i = 0; i < 64; i++)
		cr_expect_eq(results[i].status, i % 20 == 7 ? SHMETA_ERR_INVALID_ARGUMENT : SHMETA_OK, "row %zu: %s", i,
		             results[i].text);
	cr_assert_eq(world_load(&w), SHMETA_OK);
	cr_expect_eq(w.recorder.topics, 61);
	world_free(&w);
}

/* Whatever class of failure it is, by the application's trigger, at the end of the transaction or
 * by another session's lock: it is the row's that met it. */
Test(move, what_postgresql_refuses_for_one_row_harms_no_other_row)
{
	static const struct {
		const char *raise, *trigger; /* NULL: another session holds the row */
		enum shmeta_status status;
	} ways[] = {
		{"INSERT INTO audit VALUES (1)", "TRIGGER hinder BEFORE INSERT ON topics", SHMETA_ERR_INVALID_ARGUMENT},
		{"RAISE EXCEPTION 'no' USING ERRCODE = '42501'", "TRIGGER hinder AFTER INSERT ON topics",
	         SHMETA_ERR_INVALID_ARGUMENT},
		{"RAISE EXCEPTION 'no' USING ERRCODE = '55000'", "TRIGGER hinder BEFORE INSERT ON topics",
	         SHMETA_ERR_INVALID_ARGUMENT},
		{"RAISE EXCEPTION 'no' USING ERRCODE = 'XX123'",
	         "CONSTRAINT TRIGGER hinder AFTER INSERT ON topics DEFERRABLE INITIALLY DEFERRED", SHMETA_ERR_SOURCE},
		{NULL, NULL, SHMETA_ERR_BUSY},
	};

	for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
		struct backend_row row[16];
		struct shmeta_result results[16];
		char name[16][16];
		struct world w;

		if (!world_possible(WORLD_PG_NEW))
			cr_skip_test("there is no PostgreSQL server on this machine");
		world_make(&w, WORLD_PG_NEW);
		w.options.timeout_ms = 3000;
		world_open(&w);
		if (ways[way].raise != NULL)
			world_sql(
				&w,
				"CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN %s; RETURN NEW; "
				"END$$; CREATE %s FOR EACH ROW WHEN (NEW.name = 't7') EXECUTE FUNCTION hinder()",
				ways[way].raise, ways[way].trigger);
		else
			world_sql(&w, "BEGIN; INSERT INTO topics VALUES ('t7', 1, NULL, 1, 1, '{}')");
		for (size_t i = 0; i < 16; i++) {
			(void)snprintf(name[i], sizeof name[i], "t%zu", i);
			row[i] = (struct backend_row){.kind = BACKEND_ROW_TOPIC,
			                              .tenant = rows_str(SHMETA_DEFAULT_TENANT),
			                              .u.topic = {.name = rows_str(name[i]), .partition_count = 1}};
		}
		cr_assert_eq(w.ops->admin->restore(w.state, row, 16, results, &w.err), SHMETA_OK, "%zu: %s", way,
		             w.err.text);
		for (size_t i = 0; i < 16; i++)
			cr_expect_eq(results[i].status, i == 7 ? ways[way].status : SHMETA_OK, "%zu, row %zu: %d %s",
			             way, i, results[i].status, results[i].text);
		if (ways[way].raise == NULL)
			world_sql(&w, "ROLLBACK");
		cr_expect_eq(world_sql_number(&w, "SELECT count(*) FROM topics"), 15);
		world_free(&w);
	}
}
