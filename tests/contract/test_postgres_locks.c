/* SPDX-License-Identifier: Apache-2.0
 * Locks that other sessions hold in PostgreSQL: the rule is that a lock keeps out the operations
 * that need it, which are answered ERR_BUSY, and nothing else; the same of an operation that takes
 * too long, and of one that always conflicts. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "backends/rows.h"
#include "tests/support/source_world.h"

TestSuite(postgres_locks, .timeout = 60);

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

enum { OPS_MAX = 512, PARTITIONS = 4 };

static struct world world;
static struct shmeta_op op[OPS_MAX];
static char id[OPS_MAX][32];
static struct shmeta_result result[OPS_MAX];
static size_t count;

static void begin(uint32_t timeout_ms)
{
	if (!world_possible(WORLD_PG_NEW))
		cr_skip_test("there is no PostgreSQL on this machine");
	world_make(&world, WORLD_PG_NEW);
	world.options.timeout_ms = timeout_ms;
	world_open(&world);
	world_topic(&world, NULL, "t", PARTITIONS, -1, NULL);
	world_agent(&world, "a", 1, NULL);
	count = 0;
}

static void begin_usual(void)
{
	begin(2000);
}

static void end(void)
{
	world_free(&world);
}

static struct shmeta_op *add(enum shmeta_op_type type, uint32_t partition)
{
	struct shmeta_op *one = &op[count++];

	*one = (struct shmeta_op){.type = type, .name = rows_str("t"), .partition_id = partition};
	return one;
}

static void add_segment(uint32_t partition, uint64_t base)
{
	char *name = id[count];

	(void)snprintf(name, sizeof id[0], "%u-%lu", partition, base);
	add(SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK, partition)->u.segment =
		(struct shmeta_segment){.base_offset = base,
	                                .end_offset = base + 9,
	                                .record_count = 10,
	                                .size_bytes = 100,
	                                .created_at_ms = 5,
	                                .id = rows_str(name),
	                                .s3_bucket = rows_str("b"),
	                                .s3_key = rows_str(name)};
}

static void add_group(const char *group)
{
	add(SHMETA_OP_ENSURE_GROUP, 0)->group_id = rows_str(group);
}

static void add_offset(const char *group, uint32_t partition)
{
	add(SHMETA_OP_COMMIT_OFFSET, partition)->u.committed =
		(struct shmeta_committed_offset){.group_id = rows_str(group), .committed_offset = 3};
}

static void add_lease(uint32_t partition)
{
	struct shmeta_op *one = add(SHMETA_OP_ACQUIRE_LEASE, partition);

	one->agent_id = rows_str("a");
	one->duration_ms = 1000;
}

static void add_topic(const char *name)
{
	add(SHMETA_OP_CREATE_TOPIC, 0)->u.topic = (struct shmeta_topic){.name = rows_str(name), .partition_count = 1};
}

static enum shmeta_status on_changed(void *arg, const struct backend_key *key)
{
	(void)arg, (void)key;
	return SHMETA_OK;
}

/* What was added, as one batch; halves: by start() and finish(). */
static void apply_as(bool halves)
{
	const struct backend_sink sink = {.changed = on_changed};
	struct backend_op batch[OPS_MAX];
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; i < count; i++)
		batch[i] = (struct backend_op){.tenant = rows_str(SHMETA_DEFAULT_TENANT), .op = &op[i]};
	memset(result, 0xff, sizeof result);
	if (halves) {
		cr_assert_eq(world.ops->writer->start(world.state, batch, count, 1000, result, &world.err), SHMETA_OK,
		             "%s", world.err.text);
		status = world.ops->writer->finish(world.state, &sink, &world.err);
	} else {
		status = world.ops->writer->apply(world.state, batch, count, 1000, result, &sink, &world.err);
	}
	cr_assert_eq(status, SHMETA_OK, "%s", world.err.text);
	count = 0;
}

static void apply(void)
{
	apply_as(false);
}

static void expect_done(size_t n)
{
	cr_expect_eq(result[n].status, SHMETA_OK, "operation %zu: %s", n, result[n].text);
}

static void expect_busy(size_t n, const char *word)
{
	cr_expect_eq(result[n].status, SHMETA_ERR_BUSY, "operation %zu: %d: %s", n, (int)result[n].status,
	             result[n].text);
	cr_expect_not_null(strstr(result[n].text, word), "operation %zu: %s", n, result[n].text);
}

static uint64_t transactions(void)
{
	return world_counters(&world).transactions;
}

/* One of each kind that needs a partition, on each partition. */
static size_t add_all_kinds(uint64_t base)
{
	size_t before = count;

	for (uint32_t p = 0; p < PARTITIONS; p++) {
		add_segment(p, base);
		add_offset("g", p);
		add_lease(p);
		add(SHMETA_OP_DELETE_SEGMENTS_BEFORE, p)->offset = 0;
		add(SHMETA_OP_UPDATE_HIGH_WATERMARK, p)->offset = base + 10;
	}
	return count - before;
}

static void lock_a_row(bool halves)
{
	const size_t each = 5, all = add_all_kinds(0);

	world_sql(&world, "BEGIN");
	world_sql(&world, "SELECT 1 FROM partitions WHERE partition_id = 1 FOR UPDATE");
	apply_as(halves);
	for (size_t i = 0; i < all; i++)
		if (i / each != 1)
			expect_done(i);
		else
			expect_busy(i, i % each == 1 ? "is locked by another session" : "topic 't', partition 1");
	world_sql(&world, "COMMIT");
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM segments"), PARTITIONS - 1);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM partition_leases"), PARTITIONS - 1);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM consumer_offsets"), PARTITIONS - 1);
	(void)add_all_kinds(100);
	apply();
	for (size_t i = 0; i < all; i++)
		expect_done(i);
}

Test(postgres_locks, a_locked_row_keeps_out_the_operations_that_need_it_alone, .init = begin_usual, .fini = end)
{
	lock_a_row(false);
}

Test(postgres_locks, a_locked_row_keeps_out_the_same_of_a_batch_that_was_started, .init = begin_usual, .fini = end)
{
	lock_a_row(true);
}

/* The first meeting with a lock costs an attempt; whoever comes again while it is held costs the
 * others none. */
Test(postgres_locks, a_client_that_tries_again_and_again_makes_nobody_else_wait, .init = begin_usual, .fini = end)
{
	uint64_t before;

	world_sql(&world, "BEGIN");
	world_sql(&world, "SELECT 1 FROM partitions WHERE partition_id = 1 FOR UPDATE");
	add(SHMETA_OP_UPDATE_HIGH_WATERMARK, 1)->offset = 1;
	apply();
	expect_busy(0, "partition 1");
	before = transactions();
	for (uint64_t i = 0; i < 20; i++) {
		add(SHMETA_OP_UPDATE_HIGH_WATERMARK, 1)->offset = i;
		add(SHMETA_OP_UPDATE_HIGH_WATERMARK, 2)->offset = i;
		apply();
		expect_busy(0, "partition 1");
		expect_done(1);
	}
	cr_expect_eq(transactions() - before, 20, "a batch was begun in vain");
	world_sql(&world, "COMMIT");
}

Test(postgres_locks, a_locked_table_is_named_and_the_others_are_written, .init = begin_usual, .fini = end)
{
	for (int again = 0; again < 2; again++) {
		if (again == 0) {
			world_sql(&world, "BEGIN");
			world_sql(&world, "LOCK TABLE segments IN ACCESS EXCLUSIVE MODE");
		}
		add_segment(0, 0);
		add_group("g");
		add_offset("g", 1);
		add_lease(2);
		add(SHMETA_OP_UPDATE_HIGH_WATERMARK, 3)->offset = 7;
		apply();
		expect_busy(0, "the table segments is locked by another session (AccessExclusiveLock");
		for (size_t i = 1; i < 5; i++)
			expect_done(i);
	}
	world_sql(&world, "COMMIT");
	add_segment(0, 0);
	apply();
	expect_done(0);
}

Test(postgres_locks, a_topic_that_cannot_go_yet_stays_and_holds_up_no_other, .init = begin_usual, .fini = end)
{
	world_topic(&world, NULL, "u", 1, -1, NULL);
	world_sql(&world, "BEGIN");
	world_sql(&world, "SELECT 1 FROM partitions WHERE topic = 't' AND partition_id = 3 FOR UPDATE");
	add(SHMETA_OP_DELETE_TOPIC, 0);
	add(SHMETA_OP_DELETE_TOPIC, 0)->name = rows_str("u");
	add_topic("v");
	apply();
	expect_busy(0, "is locked by another session");
	expect_done(1);
	expect_done(2);
	world_sql(&world, "COMMIT");
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM partitions WHERE topic = 't'"), PARTITIONS);
	add(SHMETA_OP_DELETE_TOPIC, 0);
	apply();
	expect_done(0);
}

/* A row that another session has written and not committed: whether it is in the way is not known
 * yet. */
Test(postgres_locks, a_key_that_another_session_is_about_to_commit_keeps_out_its_own, .init = begin_usual, .fini = end)
{
	world_sql(&world, "BEGIN");
	world_sql(&world, "INSERT INTO consumer_groups VALUES('g', 1, 1)");
	world_sql(&world, "INSERT INTO topics VALUES('new', 1, NULL, 1, 1, '{}')");
	for (int i = 0; i < 100; i++) {
		(void)snprintf(id[count], sizeof id[0], "g-%d", i);
		add_group(i == 50 ? "g" : id[count]);
	}
	add_topic("new");
	add_topic("newer");
	apply();
	for (size_t i = 0; i < 102; i++)
		if (i == 50 || i == 100)
			expect_busy(i, "is locked by another session");
		else
			expect_done(i);
	world_sql(&world, "COMMIT");
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM consumer_groups"), 100);
}

/* A trigger of the application on one group alone. */
static void hinder(const char *how)
{
	world_sql(&world,
	          "CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF new.group_id = ''slow'' THEN "
	          "%s END IF; RETURN new; END'",
	          how);
	world_sql(&world,
	          "CREATE TRIGGER hinder BEFORE INSERT ON consumer_groups FOR EACH ROW EXECUTE FUNCTION hinder()");
	add_group("one");
	add_group("slow");
	add_group("two");
	add(SHMETA_OP_UPDATE_HIGH_WATERMARK, 0)->offset = 4;
	apply();
	for (size_t i = 0; i < 4; i++)
		if (i != 1)
			expect_done(i);
	cr_expect_eq(world_sql_number(&world, "SELECT count(*) FROM consumer_groups"), 2);
}

static void begin_short(void)
{
	begin(500);
}

Test(postgres_locks, an_operation_that_takes_too_long_fails_alone, .init = begin_short, .fini = end)
{
	hinder("PERFORM pg_sleep(100);");
	expect_busy(1, "within 450 ms");
}

Test(postgres_locks, an_operation_that_conflicts_each_time_fails_alone, .init = begin_usual, .fini = end)
{
	hinder("RAISE EXCEPTION USING ERRCODE = ''40001'';");
	expect_busy(1, "40001");
}

/* ---- reading ---- */

static enum shmeta_status fetch(enum shmeta_class first, enum shmeta_class second)
{
	struct backend_key keys[2];

	for (int i = 0; i < 2; i++)
		keys[i] = (struct backend_key){.cls = i == 0 ? first : second,
		                               .tenant = rows_str(SHMETA_DEFAULT_TENANT),
		                               .topic = rows_str("t"),
		                               .to = UINT64_MAX};
	return world_fetch(&world, keys, 2);
}

Test(postgres_locks, keys_that_a_locked_table_keeps_from_being_read_are_refused_by_its_name_alone, .init = begin_usual,
     .fini = end)
{
	world_sql(&world, "BEGIN");
	world_sql(&world, "LOCK TABLE segments IN ACCESS EXCLUSIVE MODE");
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(fetch(SHMETA_CLASS_PARTITION, SHMETA_CLASS_SEGMENT), SHMETA_ERR_BUSY);
		cr_expect_not_null(strstr(world.err.text, "the table segments cannot be read now"), "%s",
		                   world.err.text);
		cr_expect_eq(fetch(SHMETA_CLASS_PARTITION, SHMETA_CLASS_LEASE), SHMETA_OK, "%s", world.err.text);
	}
	cr_expect_eq(world_load(&world), SHMETA_ERR_SOURCE);
	cr_expect_not_null(strstr(world.err.text, "the table segments cannot be read now"), "%s", world.err.text);
	world_sql(&world, "COMMIT");
	cr_expect_eq(fetch(SHMETA_CLASS_PARTITION, SHMETA_CLASS_SEGMENT), SHMETA_OK, "%s", world.err.text);
	cr_expect_eq(world_load(&world), SHMETA_OK, "%s", world.err.text);
}
