/* SPDX-License-Identifier: Apache-2.0
 * Rounds of writes that overlap: while one is read back and answered the next is at work in the
 * source. Through the sync engine on the in-memory source, a step at a time. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "shm/index/part.h"
#include "tests/support/sync_fixture.h"
#include "writer/apply/apply.h"

TestSuite(sync_overlap, .timeout = 60);

/* A round takes one call, and after it enough wait for another one to be worth it. */
enum { CALL = 64, CALLS = 6 };

static struct fixture f;
static struct shmeta_op op[CALLS][CALL];
static char id[CALLS][CALL][40];

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void open_overlap(void)
{
	fixture_init(&f);
	fixture_topic(&f, "t", 2, 0, 1);
	f.options.write_batch_max = CALL;
	fixture_open(&f);
	(void)fixture_run(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
}

static void fill(int call)
{
	for (uint64_t i = 0; i < CALL; i++) {
		uint64_t base = ((uint64_t)call * CALL + i) * 10;

		(void)snprintf(id[call][i], sizeof id[call][i], "w-%llu", (unsigned long long)base);
		op[call][i] = (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
		                                 .name = str("t"),
		                                 .partition_id = 1,
		                                 .u.segment = {.base_offset = base,
		                                               .end_offset = base + 9,
		                                               .record_count = 10,
		                                               .id = str(id[call][i]),
		                                               .s3_bucket = str("b"),
		                                               .s3_key = str(id[call][i])}};
	}
}

static void submit(int call)
{
	fill(call);
	cr_assert_eq(fixture_write(&f, op[call], CALL), SHMETA_OK);
}

static uint64_t calls_of(enum memory_call call)
{
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	return stats.calls[call];
}

/* Segments of the partition, at the source and in the store. */
static uint64_t at_source(void)
{
	struct shmeta_partition p;
	uint64_t found = 0;

	cr_assert(memory_find_partition(f.db, SHMETA_DEFAULT_TENANT, "t", 1, &p));
	for (uint64_t base = 0; base < (uint64_t)CALLS * CALL * 10; base += 10) {
		struct shmeta_segment s;

		found += memory_find_segment(f.db, SHMETA_DEFAULT_TENANT, "t", 1, base, &s);
	}
	return found;
}

static uint64_t in_store(void)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta__txn *txn = NULL;
	struct shmeta_partition p;
	struct shmeta_topic t;
	uint64_t last;
	bool any;

	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	cr_assert_eq(apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str("t"), &t, NULL, &err), SHMETA_OK);
	cr_assert_eq(apply_partition_get(txn, t.topic_id, 1, &p, &last, &any, &err), SHMETA_OK);
	shmeta__txn_abort(txn);
	return p.segment_count;
}

static void same(void)
{
	const char *difference = fixture_difference(&f);

	cr_expect_null(difference, "%s", difference);
}

Test(sync_overlap, while_a_round_is_answered_the_next_is_at_work_and_not_yet_committed)
{
	open_overlap();
	for (int i = 0; i < 3; i++)
		submit(i);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 1);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_eq(calls_of(MEMORY_START), 1, "the second round was not started");
	cr_expect_eq(at_source(), CALL);
	cr_expect_eq(in_store(), CALL, "an answer came before what it answers for was shown");
	cr_expect_eq(fixture_run(&f), 0, "with a round at work the engine went to sleep");
	cr_expect_eq(f.writes_answered, 2);
	cr_expect_eq(in_store(), 2 * CALL);
	cr_expect_eq(calls_of(MEMORY_START), 2);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 3);
	cr_expect_eq(f.write_status, SHMETA_OK);
	cr_expect_eq(calls_of(MEMORY_START), 2, "nothing waited any more, and something was started");
	cr_expect_eq(in_store(), 3 * CALL);
	same();
	fixture_done(&f);
}

/* A client that lost its connection sends the same again, while its first attempt is still on its
 * way. */
Test(sync_overlap, a_request_that_comes_again_right_behind_itself_gets_the_first_answer)
{
	open_overlap();
	fill(0);
	fill(1);
	op[0][5].request_id[0] = 77;
	op[1][9] = op[0][5];
	cr_assert_eq(fixture_write(&f, op[0], CALL), SHMETA_OK);
	cr_assert_eq(fixture_write(&f, op[1], CALL), SHMETA_OK);
	(void)fixture_run(&f);
	cr_expect_eq(calls_of(MEMORY_START), 1);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 2);
	cr_expect_eq(f.write_result[9].status, SHMETA_OK, "it was done again: %s", f.write_result[9].text);
	same();
	fixture_done(&f);
}

Test(sync_overlap, what_cannot_be_started_is_done_at_one_go)
{
	open_overlap();
	memory_fail(f.db, MEMORY_START, 1, 0, SHMETA_ERR_SOURCE, "too many connections");
	submit(0);
	submit(1);
	(void)fixture_run(&f);
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 2);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_not(fixture_logged(&f, "source-failed"), "%s", f.log);
	cr_expect_eq(in_store(), 2 * CALL);
	same();
	fixture_done(&f);
}

/* done: the source committed the second round before it lost the connection. */
static void lose_the_second(uint32_t done, enum shmeta_status status)
{
	open_overlap();
	submit(0);
	submit(1);
	(void)fixture_run(&f);
	cr_assert_eq(f.writes_answered, 1);
	memory_fail(f.db, MEMORY_APPLY, 1, done, status, "the connection was lost");
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 2);
	cr_expect_eq(f.write_status, status);
	cr_expect_str_eq(f.write_sentence, "memory: the connection was lost");
	fixture_pass(&f, 5000);
	cr_expect_eq(in_store(), (done ? 2 : 1) * CALL);
	same();
	fixture_done(&f);
}

Test(sync_overlap, a_round_that_fails_at_its_end_was_not_done_and_says_so)
{
	lose_the_second(0, SHMETA_ERR_SOURCE);
}

Test(sync_overlap, a_round_of_unknown_outcome_is_found_when_it_was_done)
{
	lose_the_second(1, SHMETA_ERR_OUTCOME_UNKNOWN);
}

/* Its locks at the source must not wait for an hour of trouble, nor its callers. */
Test(sync_overlap, a_round_at_work_ends_though_the_source_cannot_be_read_any_more)
{
	open_overlap();
	submit(0);
	submit(1);
	(void)fixture_run(&f);
	cr_assert_eq(f.writes_answered, 1);
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "cannot read");
	memory_fail(f.db, MEMORY_FETCH, 1000000, 0, SHMETA_ERR_SOURCE, "cannot read");
	f.now_ns += 50000000;
	cr_expect_eq(fixture_run(&f), 0, "the engine went to sleep with a round at work");
	(void)fixture_run(&f);
	cr_expect_eq(f.writes_answered, 2);
	cr_expect_eq(f.write_status, SHMETA_ERR_NOT_CACHED, "%d: %s", f.write_status, f.write_sentence);
	cr_expect_eq(f.write_result[0].status, SHMETA_OK);
	cr_expect_eq(at_source(), 2 * CALL);
	memory_fail(f.db, MEMORY_CHANGES, 0, 0, SHMETA_ERR_SOURCE, "");
	memory_fail(f.db, MEMORY_FETCH, 0, 0, SHMETA_ERR_SOURCE, "");
	fixture_pass(&f, 20000);
	cr_expect_eq(in_store(), 2 * CALL);
	same();
	fixture_done(&f);
}

Test(sync_overlap, a_stop_ends_the_round_at_work_and_those_that_wait)
{
	open_overlap();
	for (int i = 0; i < 4; i++)
		submit(i);
	(void)fixture_run(&f);
	cr_assert_eq(f.writes_answered, 1);
	fixture_close(&f);
	cr_expect_eq(f.writes_answered, 4);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_eq(at_source(), 4 * CALL);
	fixture_done(&f);
}

/* An outage of the writer itself: nothing was committed, nobody has an answer. */
Test(sync_overlap, a_crash_takes_the_round_at_work_with_it)
{
	open_overlap();
	submit(0);
	submit(1);
	(void)fixture_run(&f);
	fixture_crash(&f);
	cr_expect_eq(at_source(), CALL);
	fixture_open(&f);
	fixture_pass(&f, 100);
	cr_expect_eq(in_store(), CALL);
	same();
	fixture_done(&f);
}

/* A list of objects writes marks where a round at work may hold locks: they must not wait for each
 * other within one thread. */
Test(sync_overlap, a_list_of_objects_is_made_when_no_round_is_at_work)
{
	struct sync_object_list list = {.tenant = str(SHMETA_DEFAULT_TENANT), .most = 10};
	const struct fixture_answer *a;

	open_overlap();
	for (int i = 0; i < 3; i++)
		submit(i);
	(void)fixture_run(&f);
	cr_assert_eq(calls_of(MEMORY_START), 1);
	cr_assert_eq(sync_list_objects(f.sync, &list, UINT64_MAX, 99), SHMETA_OK);
	(void)fixture_run(&f);
	cr_assert_eq(calls_of(MEMORY_START), 2);
	a = fixture_answer(&f, 99);
	cr_assert_not_null(a);
	cr_expect_eq(a->status, SHMETA_OK, "%s", a->sentence);
	cr_expect_eq(f.writes_answered, 3);
	fixture_done(&f);
}
