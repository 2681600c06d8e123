/* SPDX-License-Identifier: Apache-2.0
 * What was left behind in a source and what is at the end of its range, on every engine: rows of a
 * topic that somebody deleted without its cascades do not keep its name, and no epoch comes after
 * the last one. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/support/source_world.h"

TestSuite(left_over, .timeout = 120);

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

#define S(text) ((struct shmeta_str){(text), sizeof(text) - 1})

static enum shmeta_status no_change(void *arg, const struct backend_key *key)
{
	(void)arg;
	(void)key;
	return SHMETA_OK;
}

static struct shmeta_result apply(struct world *w, const struct shmeta_op *op)
{
	const struct backend_sink sink = {.changed = no_change};
	struct backend_op one = {S(SHMETA_DEFAULT_TENANT), op};
	struct shmeta_result result;

	cr_assert_eq(w->ops->writer->apply(w->state, &one, 1, 5000, &result, &sink, &w->err), SHMETA_OK, "%s: %s",
	             world_names[w->engine], w->err.text);
	return result;
}

/* The topic's row goes, the rest stays. */
static void orphan(struct world *w)
{
	if (w->engine == WORLD_MEMORY) {
		world_delete_topic(w, NULL, "t");
		world_partition(w, NULL, "t", 0, 77);
		world_segment(w, NULL, "t", 0, 0, 9);
	} else if (w->app != NULL) {
		world_sql(w, "PRAGMA foreign_keys=OFF; DELETE FROM topics; PRAGMA foreign_keys=ON");
	} else {
		world_sql(
			w,
			"SET session_replication_role = replica; DELETE FROM topics; SET session_replication_role = origin");
	}
}

Test(left_over, rows_of_a_topic_that_is_gone_do_not_keep_its_name)
{
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = S("t"), .partition_count = 2}};
	struct world w;

	for (int engine = 0; engine < WORLD_COCKROACH; engine++) {
		if (!world_possible((enum world_engine)engine))
			continue;
		world_make(&w, (enum world_engine)engine);
		world_open(&w);
		world_topic(&w, NULL, "t", 3, -1, NULL);
		world_segment(&w, NULL, "t", 0, 0, 9);
		orphan(&w);
		cr_expect_eq(apply(&w, &create).status, SHMETA_OK, "%s", world_names[engine]);
		cr_expect_eq(apply(&w, &create).status, SHMETA_ERR_ALREADY_EXISTS, "%s", world_names[engine]);
		cr_assert_eq(world_load(&w), SHMETA_OK, "%s", w.err.text);
		cr_expect_eq(w.recorder.topics, 1, "%s", world_names[engine]);
		cr_expect_eq(w.recorder.partitions, 2, "%s", world_names[engine]);
		cr_expect_eq(w.recorder.segments, 0, "%s", world_names[engine]);
		cr_expect_not(recorder_has(&w.recorder, "watermark=77"), "%s", world_names[engine]);
		world_free(&w);
	}
}

Test(left_over, no_epoch_comes_after_the_last_one)
{
	struct shmeta_op lease = {.type = SHMETA_OP_ACQUIRE_LEASE, .name = S("t"), .agent_id = S("a")};
	struct shmeta_result result;
	struct world w;

	for (int engine = 0; engine < WORLD_COCKROACH; engine++) {
		if (!world_possible((enum world_engine)engine))
			continue;
		world_make(&w, (enum world_engine)engine);
		world_open(&w);
		world_topic(&w, NULL, "t", 1, -1, NULL);
		world_agent(&w, "a", 1, NULL);
		world_lease(&w, NULL, "t", 0, "a", INT64_MAX - 1);
		lease.duration_ms = engine < WORLD_PG_NEW ? INT64_MAX : 1000;
		result = apply(&w, &lease);
		cr_expect_eq(result.status, SHMETA_OK, "%s: %s", world_names[engine], result.text);
		cr_expect_eq(result.lease.epoch, INT64_MAX, "%s", world_names[engine]);
		cr_expect_gt(result.lease.lease_expires_at_ms, 5000, "%s: it turned over", world_names[engine]);
		result = apply(&w, &lease);
		cr_expect_eq(result.status, SHMETA_ERR_CONFLICT, "%s: %s", world_names[engine], result.text);
		cr_expect_not_null(strstr(result.text, "9223372036854775807"), "%s", result.text);
		cr_assert_eq(world_load(&w), SHMETA_OK, "%s", w.err.text);
		cr_expect(recorder_has(&w.recorder, "epoch=9223372036854775807"), "%s: %s", world_names[engine],
		          recorder_text(&w.recorder));
		world_free(&w);
	}
}

/* Whoever gave the lease, and whatever takes it away. */
Test(left_over, no_epoch_comes_again_of_a_lease_that_somebody_else_gave)
{
	static const struct shmeta_op
		register_agent = {.type = SHMETA_OP_REGISTER_AGENT, .u.agent = {.agent_id = S("a"), .address = S("x")}},
		create = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = S("t"), .partition_count = 1}},
		acquire = {.type = SHMETA_OP_ACQUIRE_LEASE, .name = S("t"), .agent_id = S("a"), .duration_ms = 1000},
		takes[] = {
			{.type = SHMETA_OP_RELEASE_LEASE, .name = S("t"), .agent_id = S("a")},
			{.type = SHMETA_OP_DEREGISTER_AGENT, .agent_id = S("a")},
			{.type = SHMETA_OP_DELETE_TOPIC, .name = S("t")},
		};
	struct shmeta_result result;
	struct world w;

	/* On DynamoDB nobody else gives leases. */
	for (int engine = 0; engine < WORLD_DYNAMODB; engine++) {
		if (!world_possible((enum world_engine)engine))
			continue;
		world_make(&w, (enum world_engine)engine);
		world_open(&w);
		for (size_t i = 0; i < sizeof takes / sizeof *takes; i++) {
			uint64_t epoch = 100 * (i + 1);

			(void)apply(&w, &create); /* where it is not there */
			(void)apply(&w, &register_agent);
			world_lease(&w, NULL, "t", 0, "a", epoch);
			result = apply(&w, &takes[i]);
			cr_expect_eq(result.status, SHMETA_OK, "%s: %s", world_names[engine], result.text);
			(void)apply(&w, &create);
			(void)apply(&w, &register_agent);
			result = apply(&w, &acquire);
			cr_expect_eq(result.status, SHMETA_OK, "%s: %s", world_names[engine], result.text);
			cr_expect_eq(result.lease.epoch, epoch + 1, "%s, %zu: %llu", world_names[engine], i,
			             (unsigned long long)result.lease.epoch);
		}
		world_free(&w);
	}
}
