/* SPDX-License-Identifier: Apache-2.0
 * C6, the stale-set race and the ambiguous commit, through the sync engine on the in-memory source:
 * what was read before a write was committed never takes that write back, and a commit of which
 * nobody knows what it did is found out. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/index/part.h"
#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"
#include "tests/support/sync_fixture.h"
#include "writer/apply/apply.h"
#include "writer/keys/refresh.h"

TestSuite(sync_race, .timeout = 1800); /* make faults runs it in full */

static struct fixture f;

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void same(const char *when)
{
	const char *difference = fixture_difference(&f);

	cr_assert_null(difference, "%s: %s", when, difference);
}

/* What the store shows of the partition. UINT64_MAX: it is not there. */
static uint64_t shown(uint32_t partition, uint64_t *ret_segments)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	struct shmeta__txn *txn = NULL;
	struct shmeta_partition p;
	struct shmeta_topic t;
	uint64_t last;
	bool any;
	enum shmeta_status status;

	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	status = apply_topic_get(txn, str(SHMETA_DEFAULT_TENANT), str("t"), &t, NULL, &err);
	if (status == SHMETA_OK)
		status = apply_partition_get(txn, t.topic_id, partition, &p, &last, &any, &err);
	shmeta__txn_abort(txn);
	*ret_segments = status == SHMETA_OK ? p.segment_count : 0;
	return status == SHMETA_OK ? p.high_watermark : UINT64_MAX;
}

static enum shmeta_status write_now(const struct shmeta_op *op)
{
	uint64_t before = f.writes_answered;

	cr_assert_eq(fixture_write(&f, op, 1), SHMETA_OK);
	for (int i = 0; i < 100 && f.writes_answered == before; i++) {
		(void)fixture_run(&f);
		f.now_ns += 1000;
	}
	cr_assert_eq(f.writes_answered, before + 1);
	return f.write_status != SHMETA_OK ? f.write_status : f.write_result[0].status;
}

static struct shmeta_op add(uint64_t base, char id[32])
{
	(void)snprintf(id, 32, "w-%llu", (unsigned long long)base);
	return (struct shmeta_op){.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK,
	                          .name = str("t"),
	                          .partition_id = 1,
	                          .u.segment = {.base_offset = base,
	                                        .end_offset = base,
	                                        .record_count = 1,
	                                        .id = str(id),
	                                        .s3_bucket = str("b"),
	                                        .s3_key = str(id)}};
}

/* ---- the stale-set race ---- */

static struct {
	bool armed;
	unsigned int seed;
	uint64_t watermark, segments, next; /* what the last acknowledged write says of partition
                                             * 1 */
	bool there;
	uint64_t writes;
} race;

/* One write of any kind that the refresh in flight has read too early to know. The store must show
 * it when it is answered. */
static void overtake(void *arg)
{
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("t"), .partition_id = 1};
	uint64_t segments;
	char id[32];

	(void)arg;
	/* Behind what the feed has named and is being read, it would wait for that. */
	if (!race.armed || refresh_pending_feed(f.sync))
		return;
	race.armed = false;
	f.now_ns += 1000000;
	switch (race.there ? rand_r(&race.seed) % 8 : 7) {
	case 0: /* backwards too */
	case 1:
		op.offset = (uint64_t)rand_r(&race.seed) % 1000000;
		cr_assert_eq(write_now(&op), SHMETA_OK, "%s%s", f.write_sentence, f.write_result[0].text);
		race.watermark = op.offset;
		break;
	case 2:
		op = (struct shmeta_op){.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE,
		                        .name = str("t"),
		                        .partition_id = 1,
		                        .offset = INT64_MAX};
		cr_assert_eq(write_now(&op), SHMETA_OK, "%s%s", f.write_sentence, f.write_result[0].text);
		cr_assert_eq(f.write_result[0].count, race.segments);
		race.segments = 0;
		break;
	case 3:
		op = (struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = str("t")};
		cr_assert_eq(write_now(&op), SHMETA_OK, "%s%s", f.write_sentence, f.write_result[0].text);
		race.there = false;
		break;
	case 7:
		if (!race.there) {
			op = (struct shmeta_op){.type = SHMETA_OP_CREATE_TOPIC,
			                        .u.topic = {.name = str("t"), .partition_count = 4}};
			cr_assert_eq(write_now(&op), SHMETA_OK, "%s%s", f.write_sentence, f.write_result[0].text);
			race.there = true;
			race.watermark = race.segments = 0;
			break;
		}
		__attribute__((fallthrough));
	default:
		op = add(race.next++, id);
		cr_assert_eq(write_now(&op), SHMETA_OK, "%s", f.write_result[0].text);
		if (race.watermark < race.next)
			race.watermark = race.next;
		race.segments++;
	}
	race.writes++;
	cr_assert_eq(shown(1, &segments), race.there ? race.watermark : UINT64_MAX, "at the answer");
	cr_assert_eq(segments, race.there ? race.segments : 0);
}

/* A source whose feed is silent, or not: then the round's feed brings the write once more. */
static void open_race(bool silent)
{
	memset(&race, 0, sizeof race);
	race.there = true;
	race.seed = 11;
	race.next = 1000000; /* beyond what the fixture made */
	fixture_init(&f);
	f.options.grace_ns = 1000000; /* of real time: what commits leave behind is used again */
	fixture_topic(&f, "t", 4, 0, 1111);
	fixture_topic(&f, "u", 2, 3, 1111);
	fixture_open(&f);
	fixture_run(&f);
	memory_silence(f.db, silent);
	f.now_ns += 1000000000;
}

Test(sync_race, a_read_that_a_write_superseded_does_not_take_the_write_back)
{
	struct shmeta_op op = {
		.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = str("t"), .partition_id = 1, .offset = 1000000};
	uint64_t segments;

	open_race(true);
	cr_assert_eq(write_now(&op), SHMETA_OK, "%s%s", f.write_sentence, f.write_result[0].text);
	race.watermark = 1000000;
	for (unsigned int seed = 0; seed < 64; seed++) {
		race.seed = seed;
		sync_set_fetched_hook(f.sync, overtake, NULL);
		f.answer_count = 0;
		race.armed = true;
		cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "t", 1, 1), SHMETA_OK);
		fixture_run(&f);
		sync_set_fetched_hook(f.sync, NULL, NULL);
		cr_assert_eq(race.writes, seed + 1u, "the write lay between the read and its store commit");
		cr_assert_eq(shown(1, &segments), race.there ? race.watermark : UINT64_MAX, "round %u", seed);
		cr_assert_eq(segments, race.there ? race.segments : 0, "round %u", seed);
		same("after the round");
	}
	fixture_done(&f);
}

Test(sync_race, rounds_of_racing_reads_and_writes_never_bring_an_older_state_back)
{
	static const enum shmeta_class classes[] = {SHMETA_CLASS_PARTITION, SHMETA_CLASS_SEGMENT, SHMETA_CLASS_TOPIC,
	                                            SHMETA_CLASS_LIST};
	const uint32_t rounds = run_rounds(20000, 100000);
	unsigned int seed = 20;
	uint64_t segments;

	open_race(false);
	for (uint32_t i = 0; i < rounds; i++) {
		unsigned int kind = (unsigned int)rand_r(&seed) % 64;
		enum shmeta_class cls = classes[kind < 61 ? kind % 3 : 3];

		memory_silence(f.db, rand_r(&seed) % 2 == 0);
		f.answer_count = 0;
		race.armed = true;
		sync_set_fetched_hook(f.sync, overtake, NULL);
		cr_assert_eq(cls == SHMETA_CLASS_LIST ? fixture_compare_all(&f, 1)
		                                      : fixture_refresh(&f, cls, "t", 1, 1),
		             SHMETA_OK);
		f.now_ns += 1000;
		fixture_run(&f);
		sync_set_fetched_hook(f.sync, NULL, NULL);
		for (int k = rand_r(&seed) % 3; k > 0; k--) {
			f.now_ns += 5000000;
			fixture_run(&f);
		}
		cr_assert_eq(shown(1, &segments), race.there ? race.watermark : UINT64_MAX, "round %u", i);
		cr_assert_eq(segments, race.there ? race.segments : 0, "round %u", i);
		if (i % 1000 == 0)
			same("now and then");
	}
	same("at the end");
	figure("a read of the source that a write supersedes", race.writes, 100000, "writes",
	       "0 older states brought back");
	cr_expect_geq(race.writes, rounds / 2, "%llu writes lay within a read", (unsigned long long)race.writes);
	fixture_done(&f);
}

/* ---- the ambiguous commit ---- */

/* done: the source committed before it lost the connection. */
static void ambiguous(bool done)
{
	struct shmeta_op op;
	uint64_t segments;
	char id[32];

	open_race(true);
	op = add(1000000, id);
	op.request_id[0] = 77;
	memory_fail(f.db, MEMORY_APPLY, 1, done, SHMETA_ERR_OUTCOME_UNKNOWN, "the connection was lost in COMMIT");
	cr_assert_eq(write_now(&op), SHMETA_ERR_OUTCOME_UNKNOWN, "never \"failed\"");
	cr_expect_not_null(strstr(f.write_sentence, "lost in COMMIT"), "%s", f.write_sentence);
	/* Nothing tells the writer what was done, not even the feed: it looks by itself. */
	fixture_pass(&f, 5000);
	cr_expect_eq(shown(1, &segments), done ? 1000001 : 0);
	cr_expect_eq(segments, done ? 1 : 0);
	same("after looking");
	/* And a retry learns it: the id was not remembered for something that nobody knows. */
	cr_expect_eq(write_now(&op), done ? SHMETA_ERR_ALREADY_EXISTS : SHMETA_OK, "%s", f.write_result[0].text);
	cr_expect_eq(shown(1, &segments), 1000001);
	cr_expect_eq(segments, 1);
	same("after the retry");
	fixture_done(&f);
}

Test(sync_race, a_commit_that_was_done_and_not_confirmed_is_found_by_itself)
{
	ambiguous(true);
}

Test(sync_race, a_commit_that_was_not_done_and_not_confirmed_is_found_by_itself)
{
	ambiguous(false);
}

Test(sync_race, a_commit_that_failed_for_certain_says_so_and_leaves_nothing)
{
	struct shmeta_op op;
	uint64_t segments;
	char id[32];

	open_race(true);
	op = add(1000000, id);
	memory_fail(f.db, MEMORY_APPLY, 1, 0, SHMETA_ERR_SOURCE, "connection refused");
	cr_assert_eq(write_now(&op), SHMETA_ERR_SOURCE);
	fixture_pass(&f, 5000);
	cr_expect_eq(shown(1, &segments), 0);
	cr_expect_eq(write_now(&op), SHMETA_OK);
	same("after the retry");
	fixture_done(&f);
}
