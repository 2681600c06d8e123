/* SPDX-License-Identifier: Apache-2.0
 * Hosts whose wall clocks differ, on one PostgreSQL: who holds a lease and until when is for the
 * server's clock to say, and what a host brings by its own is moved to that. The epochs of leases
 * never go back, and end. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backends/rows.h"
#include "tests/support/source_world.h"

TestSuite(postgres_clock, .timeout = 60);

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

enum { HOUR_MS = 3600 * 1000, LEASE_MS = 60 * 1000 };

/* The server's, where the test has not put its own in that place. */
#define SERVER_MS "(extract(epoch FROM clock_timestamp()) * 1000)::int8"

static struct world world;
static struct shmeta_result result;

static void begin_with(const char *clock)
{
	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, WORLD_PG_NEW);
	world.options.clock = clock;
	world_open(&world);
	world_sql(&world, "CREATE TABLE now(ms BIGINT); INSERT INTO now VALUES(1000)");
	world_topic(&world, NULL, "t", 4, -1, NULL);
	world_agent(&world, "a", 1, NULL);
	world_agent(&world, "b", 1, NULL);
}

static void begin_own(void)
{
	begin_with(NULL);
}

static void begin_moved(void)
{
	begin_with("(SELECT ms FROM now)");
}

static void begin_callers(void)
{
	begin_with("@now");
}

static void end(void)
{
	world_free(&world);
}

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	(void)arg, (void)key;
	return SHMETA_OK;
}

static enum shmeta_status apply_of(const char *tenant, const struct shmeta_op *op, int64_t now_ms)
{
	const struct backend_op one = {.tenant = rows_str(tenant), .op = op};
	const struct backend_sink sink = {.changed = on_changed};

	cr_assert_eq(world.ops->writer->apply(world.state, &one, 1, now_ms, &result, &sink, &world.err), SHMETA_OK,
	             "%s", world.err.text);
	return result.status;
}

static enum shmeta_status apply(const struct shmeta_op *op, int64_t now_ms)
{
	return apply_of(SHMETA_DEFAULT_TENANT, op, now_ms);
}

static enum shmeta_status acquire(uint32_t partition, const char *agent, int64_t now_ms)
{
	const struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
	                             .name = rows_str("t"),
	                             .partition_id = partition,
	                             .agent_id = rows_str(agent),
	                             .duration_ms = LEASE_MS};

	return apply(&op, now_ms);
}

static int64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void set_clock(int64_t ms)
{
	world_sql(&world, "UPDATE now SET ms = %lld", (long long)ms);
}

Test(postgres_clock, a_lease_is_granted_and_kept_by_the_servers_clock, .init = begin_own, .fini = end)
{
	static const int64_t off[] = {HOUR_MS, -HOUR_MS, 0};
	char sql[400];

	for (uint32_t i = 0; i < 3; i++) {
		cr_assert_eq(acquire(i, "a", wall_ms() + off[i]), SHMETA_OK, "%s", result.text);
		(void)snprintf(
			sql, sizeof sql,
			"SELECT count(*) FROM partition_leases WHERE partition_id = %u AND lease_expires_at - acquired_at "
			"= %d AND acquired_at BETWEEN " SERVER_MS " - 600000 AND " SERVER_MS,
			i, LEASE_MS);
		cr_expect_eq(world_sql_number(&world, sql), 1, "a clock that is %lld ms ahead", (long long)off[i]);
		(void)snprintf(sql, sizeof sql, "SELECT lease_expires_at FROM partition_leases WHERE partition_id = %u",
		               i);
		cr_expect_eq(result.lease.lease_expires_at_ms, world_sql_number(&world, sql), "what was answered");
		/* Whatever the time is there, the other cannot have it yet. */
		for (size_t k = 0; k < 3; k++)
			cr_expect_eq(acquire(i, "b", wall_ms() + off[k]), SHMETA_ERR_CONFLICT, "taken");
	}
}

Test(postgres_clock, how_far_the_servers_clock_is_off_is_told_without_asking, .init = begin_own, .fini = end)
{
	int64_t (*ahead_ms)(void *state, int64_t now_ms) = world.ops->source->clock_ahead_ms;

	cr_assert_eq(acquire(0, "a", wall_ms()), SHMETA_OK, "%s", result.text);
	cr_expect_eq(ahead_ms(world.state, wall_ms()), 0);
	cr_expect_geq(ahead_ms(world.state, wall_ms() - HOUR_MS), HOUR_MS - 60000);
	cr_expect_leq(ahead_ms(world.state, wall_ms() + HOUR_MS), 60000 - HOUR_MS);
}

Test(postgres_clock, a_lease_ends_when_the_servers_clock_says_so, .init = begin_moved, .fini = end)
{
	struct shmeta_op fenced = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
	                           .name = rows_str("t"),
	                           .offset = 7,
	                           .fence = {rows_str("a"), 1}};

	cr_assert_eq(acquire(0, "a", HOUR_MS), SHMETA_OK, "%s", result.text);
	cr_expect_eq(result.lease.acquired_at_ms, 1000);
	cr_expect_eq(result.lease.lease_expires_at_ms, 1000 + LEASE_MS);
	set_clock(1000 + LEASE_MS - 1);
	cr_expect_eq(acquire(0, "b", HOUR_MS), SHMETA_ERR_CONFLICT);
	cr_expect_not_null(strstr(result.text, "for 1 ms"), "%s", result.text);
	cr_expect_eq(apply(&fenced, HOUR_MS), SHMETA_OK, "%s", result.text);
	set_clock(1000 + LEASE_MS);
	cr_expect_eq(apply(&fenced, 1), SHMETA_ERR_FENCED, "%s", result.text);
	cr_expect_eq(acquire(0, "b", 1), SHMETA_OK, "%s", result.text);
	cr_expect_eq(result.lease.epoch, 2);
}

Test(postgres_clock, an_offer_stands_by_the_servers_clock, .init = begin_moved, .fini = end)
{
	struct shmeta_op offer = {.type = SHMETA_OP_OFFER_LEASE,
	                          .name = rows_str("t"),
	                          .agent_id = rows_str("a"),
	                          .to_agent_id = rows_str("b"),
	                          .duration_ms = 500};
	struct shmeta_op accept = {.type = SHMETA_OP_ACCEPT_LEASE, .agent_id = rows_str("b")};
	struct shmeta_op complete = {
		.type = SHMETA_OP_COMPLETE_LEASE, .agent_id = rows_str("a"), .duration_ms = LEASE_MS};

	cr_assert_eq(acquire(0, "a", HOUR_MS), SHMETA_OK, "%s", result.text);
	cr_assert_eq(apply(&offer, HOUR_MS), SHMETA_OK, "%s", result.text);
	accept.transfer_id = result.transfer_id;
	set_clock(1500);
	cr_expect_eq(apply(&accept, 1), SHMETA_ERR_CONFLICT);
	cr_assert_eq(apply(&offer, HOUR_MS), SHMETA_OK, "%s", result.text);
	accept.transfer_id = complete.transfer_id = result.transfer_id;
	set_clock(1999);
	cr_expect_eq(apply(&accept, HOUR_MS), SHMETA_OK, "%s", result.text);
	cr_expect_eq(apply(&complete, HOUR_MS), SHMETA_OK, "%s", result.text);
	cr_expect_eq(result.lease.lease_expires_at_ms, 1999 + LEASE_MS);
}

/* An agent says when it lived by its host's clock; whoever looks from another host does so by the
 * server's, which all share. */
Test(postgres_clock, a_heartbeat_is_moved_to_the_servers_clock, .init = begin_own, .fini = end)
{
	static const int64_t off[] = {HOUR_MS, -HOUR_MS};
	struct shmeta_op agent = {.type = SHMETA_OP_REGISTER_AGENT,
	                          .u.agent = {.agent_id = rows_str("c"),
	                                      .address = rows_str("c"),
	                                      .availability_zone = rows_str("z"),
	                                      .agent_group = rows_str("g")}};

	for (size_t i = 0; i < 2; i++) {
		int64_t now_ms = wall_ms() + off[i];

		agent.u.agent.last_heartbeat_ms = now_ms - 1000;
		cr_assert_eq(apply(&agent, now_ms), SHMETA_OK, "%s", result.text);
		cr_expect_eq(world_sql_number(&world,
		                              "SELECT count(*) FROM agents WHERE agent_id = 'c' AND last_heartbeat "
		                              "BETWEEN " SERVER_MS " - 600000 AND " SERVER_MS " - 500"),
		             1);
		cr_expect_lt(llabs(world_sql_number(&world, "SELECT " SERVER_MS " - last_heartbeat FROM agents WHERE "
		                                            "agent_id = 'c'")),
		             600000, "a host that is %lld ms ahead", (long long)off[i]);
	}
	/* Where the clocks agree it is stored as it was given; the ends of the range stay what they
	 * are. */
	agent.u.agent.last_heartbeat_ms = 12345;
	cr_assert_eq(apply(&agent, wall_ms()), SHMETA_OK);
	cr_expect_eq(world_sql_number(&world, "SELECT last_heartbeat FROM agents WHERE agent_id = 'c'"), 12345);
	agent.u.agent.last_heartbeat_ms = INT64_MAX;
	cr_assert_eq(apply(&agent, wall_ms() - HOUR_MS), SHMETA_OK);
	cr_expect_eq(world_sql_number(&world, "SELECT last_heartbeat FROM agents WHERE agent_id = 'c'"), INT64_MAX);
}

/* ---- the last moment ---- */

Test(postgres_clock, what_lasts_for_ever_ends_at_the_last_moment_on_every_engine)
{
	static const enum world_engine engines[] = {WORLD_MEMORY, WORLD_SQLITE_NEW, WORLD_PG_NEW, WORLD_COCKROACH};

	for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
		struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
		                       .name = rows_str("t"),
		                       .agent_id = rows_str("a"),
		                       .to_agent_id = rows_str("b"),
		                       .duration_ms = INT64_MAX};

		if (!world_possible(engines[i]))
			continue;
		world_make(&world, engines[i]);
		world.options.clock = "@now";
		world_open(&world);
		world_topic(&world, NULL, "t", 4, -1, NULL);
		world_agent(&world, "a", 1, NULL);
		world_agent(&world, "b", 1, NULL);
		for (int again = 0; again < 2; again++) {
			cr_expect_eq(apply(&op, 1000), SHMETA_OK, "%s: %s", world_names[engines[i]], result.text);
			cr_expect_eq(result.lease.lease_expires_at_ms, INT64_MAX, "%s: %ld", world_names[engines[i]],
			             result.lease.lease_expires_at_ms);
		}
		op.type = SHMETA_OP_OFFER_LEASE;
		cr_expect_eq(apply(&op, 1000), SHMETA_OK, "%s: %s", world_names[engines[i]], result.text);
		cr_expect_eq(acquire(0, "b", 1000), SHMETA_ERR_CONFLICT);
		cr_expect_not_null(strstr(result.text, "for 9223372036854774807 ms"), "%s: %s", world_names[engines[i]],
		                   result.text);
		world_free(&world);
	}
}

/* One that another program wrote. */
Test(postgres_clock, a_lease_that_ended_before_all_time_is_free, .init = begin_callers, .fini = end)
{
	world_sql(&world, "INSERT INTO partition_leases VALUES('t', 0, 'a', (-9223372036854775807) - 1, 1, 5)");
	cr_expect_eq(acquire(0, "b", 1000), SHMETA_OK, "%s", result.text);
	cr_expect_eq(result.lease.epoch, 6);
}

/* ---- epochs ---- */

Test(postgres_clock, no_epoch_is_beyond_the_last, .init = begin_callers, .fini = end)
{
	cr_assert_eq(acquire(0, "a", 1000), SHMETA_OK);
	world_sql(&world, "UPDATE partition_leases SET epoch = 9223372036854775806");
	cr_expect_eq(acquire(0, "a", 1000), SHMETA_OK, "%s", result.text);
	cr_expect_eq(result.lease.epoch, INT64_MAX);
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(acquire(0, "a", 1000), SHMETA_ERR_CONFLICT);
		cr_expect_not_null(strstr(result.text, "epoch 9223372036854775807: there is none beyond it"), "%s",
		                   result.text);
		/* Not even when the lease itself is gone. */
		world_sql(&world, "DELETE FROM partition_leases");
	}
}

/* Each way in which the row of a lease can go, or say less than it said. The lease had epoch 50
 * from another program. */
Test(postgres_clock, an_epoch_outlives_its_lease_however_that_went, .init = begin_callers, .fini = end)
{
	static const char *const ways[] = {
		"DELETE FROM partition_leases",
		"DELETE FROM agents WHERE agent_id = 'a'",
		"DELETE FROM topics WHERE name = 't'",
		"DELETE FROM partitions WHERE topic = 't' AND partition_id = 0",
		"TRUNCATE partition_leases",
		"TRUNCATE agents CASCADE",
		"UPDATE partition_leases SET epoch = 1",
		"UPDATE partition_leases SET partition_id = 3",
		"BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM partition_leases; COMMIT",
	};
	char sql[200];

	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		int64_t epoch = 50 + 100 * (int64_t)i;

		world_sql(
			&world,
			"DELETE FROM topics; DELETE FROM agents; DELETE FROM partition_leases; DELETE FROM shmeta_lease_epochs");
		world_topic(&world, NULL, "t", 4, -1, NULL);
		world_agent(&world, "a", 1, NULL);
		(void)snprintf(sql, sizeof sql, "INSERT INTO partition_leases VALUES('t', 0, 'a', 1, 1, %ld)", epoch);
		world_sql(&world, sql);
		world_sql(&world, ways[i]);
		/* What went with it is made again. */
		world_sql(&world, "INSERT INTO topics VALUES('t', 4, NULL, 1, 1, '{}') ON CONFLICT DO NOTHING; "
		                  "INSERT INTO partitions VALUES('t', 0, 0, 1, 1) ON CONFLICT DO NOTHING; "
		                  "INSERT INTO agents VALUES('a', 'a', 'z', 'g', 1, 1, '{}') ON CONFLICT DO NOTHING");
		cr_expect_eq(acquire(0, "a", 1000), SHMETA_OK, "%s: %s", ways[i], result.text);
		cr_expect_eq(result.lease.epoch, (uint64_t)epoch + 1, "%s: %lu", ways[i], result.lease.epoch);
	}
	/* A value that is no epoch is none of the trigger's business. */
	world_sql(&world,
	          "ALTER TABLE partition_leases ALTER epoch TYPE NUMERIC; UPDATE partition_leases SET epoch = 'NaN'; "
	          "DELETE FROM partition_leases");
}

/* Leases that know no tenant, of topics that do: the epoch is kept where whoever acquires it looks,
 * also the other tenant. */
Test(postgres_clock, an_epoch_outlives_a_lease_that_names_no_tenant)
{
	static const struct shmeta_op ways[] = {
		{.type = SHMETA_OP_RELEASE_LEASE},
		{.type = SHMETA_OP_DEREGISTER_AGENT},
		{.type = SHMETA_OP_DELETE_TOPIC},
		{.type = 0}, /* the application's own DELETE */
	};

	if (!world_possible(WORLD_PG_LATER))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, WORLD_PG_LATER);
	world_sql(&world, "ALTER TABLE partition_leases DROP COLUMN organization_id CASCADE");
	world.options.clock = "@now";
	world_open(&world);
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		struct shmeta_op op = {.type = SHMETA_OP_ACQUIRE_LEASE,
		                       .name = rows_str("t"),
		                       .agent_id = rows_str("a"),
		                       .duration_ms = LEASE_MS};
		uint64_t epoch = 50 + 100 * i;

		if (i == 0 || ways[i - 1].type == SHMETA_OP_DELETE_TOPIC)
			world_topic(&world, WORLD_OTHER_TENANT, "t", 1, -1, NULL);
		if (i == 0 || ways[i - 1].type == SHMETA_OP_DEREGISTER_AGENT)
			world_sql(
				&world,
				"INSERT INTO agents(organization_id, agent_id, address, availability_zone, agent_group, "
				"last_heartbeat, started_at, metadata) VALUES ('%s', 'a', 'a', 'z', 'g', 1, 1, '{}')",
				WORLD_OTHER_TENANT);
		cr_assert_eq(apply_of(WORLD_OTHER_TENANT, &op, 1000), SHMETA_OK, "%zu: %s", i, result.text);
		world_sql(&world, "UPDATE partition_leases SET epoch = %llu", (unsigned long long)epoch);
		if (ways[i].type == 0) {
			world_sql(&world, "DELETE FROM partition_leases");
		} else {
			op.type = ways[i].type;
			cr_assert_eq(apply_of(WORLD_OTHER_TENANT, &op, 1000), SHMETA_OK, "%zu: %s", i, result.text);
			world_sql(&world, "DELETE FROM partition_leases");
		}
		cr_expect_eq(world_sql_number(&world, "SELECT max(epoch) FROM shmeta_lease_epochs WHERE tenant = "
		                                      "'00000000-0000-0000-0000-000000000000'"),
		             (int64_t)epoch, "%zu", i);
		if (ways[i].type == 0 || ways[i].type == SHMETA_OP_RELEASE_LEASE) {
			op.type = SHMETA_OP_ACQUIRE_LEASE;
			cr_assert_eq(apply_of(WORLD_OTHER_TENANT, &op, 1000), SHMETA_OK, "%zu: %s", i, result.text);
			cr_expect_eq(result.lease.epoch, epoch + 1, "%zu: %lu", i, result.lease.epoch);
		}
	}
	world_free(&world);
}
