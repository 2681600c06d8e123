/* SPDX-License-Identifier: Apache-2.0
 * What others may have the writer hold in memory is bounded in bytes, not in numbers alone. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/wire/op.h"
#include "tests/support/sync_fixture.h"

TestSuite(sync_bounds, .timeout = 60);

static struct fixture f;

static void start(void)
{
	fixture_init(&f);
	f.options.write_queue_bytes = 1 << 20;
	f.options.refresh_queue_bytes = 1 << 16;
	f.options.write_queue_max = f.options.refresh_queue_max = 1000000;
	fixture_topic(&f, "t", 1, 0, 1);
	fixture_open(&f);
	fixture_run(&f);
}

static void stop(void)
{
	fixture_done(&f);
}

Test(sync_bounds, writes_that_wait_are_bounded_in_bytes_and_have_room_again_when_they_are_done, .init = start,
     .fini = stop)
{
	enum { METADATA = 60000 };
	char *metadata = malloc(METADATA);
	struct shmeta_op op = {.type = SHMETA_OP_COMMIT_OFFSET,
	                       .name = {"t", 1},
	                       .u.committed = {.group_id = {"g", 1}, .has_metadata = 1}};

	memset(metadata, 'x', METADATA);
	op.u.committed.metadata = (struct shmeta_str){metadata, METADATA};
	for (int round = 0; round < 3; round++) {
		uint64_t answered = f.writes_answered, taken = 0;

		while (fixture_write(&f, &op, 1) == SHMETA_OK)
			cr_assert_lt(++taken, 1000);
		cr_expect_leq(taken, (1 << 20) / METADATA);
		cr_expect_geq(taken, (1 << 20) / METADATA - 2);
		cr_expect_eq(fixture_write(&f, &op, 1), SHMETA_ERR_BUSY);
		fixture_pass(&f, 100);
		cr_expect_eq(f.writes_answered, answered + taken);
	}
	free(metadata);
}

Test(sync_bounds, the_segments_of_lists_that_wait_are_counted_as_they_are_held, .init = start, .fini = stop)
{
	enum { ROWS = 500, BOUND = 1 << 20 };
	struct shmeta_segment *rows = calloc(2 * ROWS, sizeof *rows);
	struct shmeta_op op = {.type = SHMETA_OP_REPLACE_SEGMENTS,
	                       .name = {"t", 1},
	                       .u.replace = {.old_segments = rows, .old_count = ROWS, .new_segments = rows + ROWS}};
	size_t taken = 0;

	op.u.replace.new_count = ROWS;
	for (uint32_t i = 0; i < 2 * ROWS; i++) {
		rows[i] = fixture_segment(0, 1 + i % ROWS, 1);
		rows[i].id = i < ROWS ? (struct shmeta_str){"old", 3} : (struct shmeta_str){"new", 3};
		rows[i].s3_bucket = rows[i].s3_key = (struct shmeta_str){"k", 1};
	}
	while (fixture_write(&f, &op, 1) == SHMETA_OK)
		cr_assert_lt(++taken, 100);
	cr_expect_gt(taken, 0);
	cr_expect_leq(taken * 2 * ROWS * (sizeof *rows + sizeof(struct shmeta_wire_segment)), BOUND);
	fixture_pass(&f, 100);
	cr_expect_eq(f.writes_answered, taken);
	free(rows);
}

Test(sync_bounds, one_call_that_is_larger_than_the_bound_is_taken_when_nothing_waits, .init = start, .fini = stop)
{
	enum { OPS = 4096 };
	struct shmeta_op *ops = calloc(OPS, sizeof *ops);

	for (int i = 0; i < OPS; i++)
		ops[i] = (struct shmeta_op){
			.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t", 1}, .offset = (uint64_t)i};
	cr_expect_eq(fixture_write(&f, ops, OPS), SHMETA_OK);
	cr_expect_eq(fixture_write(&f, ops, 1), SHMETA_ERR_BUSY);
	fixture_pass(&f, 100);
	cr_expect_eq(fixture_write(&f, ops, 1), SHMETA_OK);
	fixture_pass(&f, 100);
	free(ops);
}

Test(sync_bounds, requests_of_readers_are_bounded_in_bytes, .init = start, .fini = stop)
{
	char name[250];
	uint64_t taken = 0, ticket = 0;

	memset(name, 'n', sizeof name);
	for (;; taken++) {
		snprintf(name, sizeof name, "%0249llu", (unsigned long long)taken);
		if (fixture_refresh(&f, SHMETA_CLASS_TOPIC, name, 0, ticket++) != SHMETA_OK)
			break;
		cr_assert_lt(taken, 10000);
	}
	cr_expect_leq(taken, (1 << 16) / 400);
	cr_expect_geq(taken, 50);
	fixture_pass(&f, 100);
	cr_expect_eq(f.answer_count, taken);
	cr_expect_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, name, 0, ticket), SHMETA_OK);
	/* Many requests for one key cost memory, too. */
	for (taken = 0; fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 0) == SHMETA_OK; taken++)
		cr_assert_lt(taken, 1 << 16);
	cr_expect_gt(taken, 100);
}

static uint64_t asked_until_refused(bool same, uint64_t from)
{
	char name[250];
	uint64_t taken = 0;

	for (;; taken++) {
		snprintf(name, sizeof name, "%0249llu", (unsigned long long)(same ? 0 : from + taken));
		if (fixture_refresh(&f, SHMETA_CLASS_TOPIC, name, 0, from + taken) != SHMETA_OK)
			return taken;
		cr_assert_lt(taken, 10000);
	}
}

Test(sync_bounds, one_users_requests_leave_memory_for_those_of_others, .init = start, .fini = stop)
{
	for (int same = 0; same < 2; same++) {
		f.uid = 4001;
		cr_expect_geq(asked_until_refused(same, 1000), 30);
		f.uid = 4002;
		cr_expect_geq(asked_until_refused(same, 2000), 10, "a second user has half of the rest");
		f.uid = 4003;
		cr_expect_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 3000), SHMETA_OK);
		f.uid = 0;
		cr_expect_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 3001), SHMETA_OK);
		fixture_pass(&f, 100);
		cr_expect_eq(fixture_answer(&f, 3000)->status, SHMETA_OK);
		f.answer_count = 0;
	}
	/* What was answered is held no longer. */
	f.uid = 4001;
	cr_expect_geq(asked_until_refused(false, 1000), 30);
	fixture_pass(&f, 100);
}
