/* SPDX-License-Identifier: Apache-2.0
 * A call of many operations is done a few at a time while others write, too, and answered once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"
#include "tests/support/write_ops.h"

TestSuite(call_parts, .timeout = 60);

enum { GREEDY = 7, OTHER = 8, OP_NS = 100000, MANY = 300 };

static struct fixture f;
static struct {
	size_t ops, most; /* in all, and of one call of the engine */
	size_t before;    /* operations that were done before the one of OTHER */
	bool other;       /* it has come */
	bool cut;         /* the connection breaks, behind so many operations */
	size_t until;
} done;
static struct backend_writer writer;
static struct backend_engine slow;

/* An operation takes its time. */
static enum shmeta_status take(const struct backend_op *ops, size_t count, struct backend_error *err)
{
	if (done.cut && done.ops >= done.until)
		return backend_fail(err, SHMETA_ERR_SOURCE, "the connection was cut");
	for (size_t i = 0; i < count; i++)
		if (!done.other && ops[i].op->name.bytes == 5) {
			done.other = true;
			done.before = done.ops + i;
		}
	done.ops += count;
	done.most = count > done.most ? count : done.most;
	f.now_ns += count * OP_NS;
	return SHMETA_OK;
}

static enum shmeta_status apply(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err)
{
	enum shmeta_status status = take(ops, count, err);

	if (status != SHMETA_OK)
		return backend_answer_all(ops, count, results, status, err->text);
	return memory_with_faults.writer->apply(state, ops, count, now_ms, results, sink, err);
}

static enum shmeta_status start(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, struct backend_error *err)
{
	enum shmeta_status status = take(ops, count, err);

	return status != SHMETA_OK ? status : memory_with_faults.writer->start(state, ops, count, now_ms, results, err);
}

static void write_as(uint32_t uid, const char *topic, size_t count, uint64_t patience_ns)
{
	struct shmeta_op ops[MANY];

	for (size_t i = 0; i < count; i++)
		ops[i] = (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK,
		                            .name = {topic, strlen(topic)},
		                            .offset = done.ops + i + 1};
	cr_assert_eq(write_ops(f.sync, (struct shmeta_str){SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)}, ops,
	                       count, patience_ns == 0 ? UINT64_MAX : f.now_ns + patience_ns, uid, uid, "test", uid),
	             SHMETA_OK);
}

/* Both write, and how long an operation takes is known. */
static void begin(void)
{
	writer = *memory_with_faults.writer;
	writer.apply = apply;
	writer.start = start;
	slow = memory_with_faults;
	slow.writer = &writer;
	fixture_init(&f);
	f.options.engine = &slow;
	fixture_topic(&f, "large", 1, 0, 1111);
	fixture_topic(&f, "other", 1, 0, 1112);
	fixture_open(&f);
	fixture_pass(&f, 2000);
	for (int i = 0; i < 4; i++) {
		write_as(GREEDY, "large", 64, 0);
		fixture_pass(&f, 10);
	}
	write_as(OTHER, "other", 1, 0);
	fixture_pass(&f, 10);
	cr_assert_eq(f.writes_answered, 5);
	f.writes_answered = 0;
	memset(&done, 0, sizeof done);
}

static void end(void)
{
	fixture_done(&f);
}

Test(call_parts, another_user_is_served_between_the_operations_of_a_large_call, .init = begin, .fini = end)
{
	write_as(GREEDY, "large", MANY, 0);
	write_as(OTHER, "other", 1, 0);
	fixture_pass(&f, 200);
	cr_assert_eq(f.writes_answered, 2, "each once");
	cr_assert_eq(f.write_status, SHMETA_OK);
	cr_expect(done.other);
	cr_expect_leq(done.before, 48);
	cr_expect_leq(done.most, 48);
	cr_expect_eq(done.ops, MANY + 1);
}

Test(call_parts, nobody_pays_for_it_who_writes_alone, .init = begin, .fini = end)
{
	fixture_pass(&f, 2000); /* the other one has not written for long */
	write_as(GREEDY, "large", MANY, 0);
	fixture_pass(&f, 200);
	cr_assert_eq(f.writes_answered, 1);
	cr_expect_eq(done.most, MANY, "one round, one commit of the source");
}

/* The first part is with the source when the last ones are given up. */
Test(call_parts, what_came_too_late_is_told_by_operation_and_what_was_done_too, .init = begin, .fini = end)
{
	write_as(GREEDY, "large", 60, 2 * 16 * OP_NS - 1);
	fixture_pass(&f, 200);
	cr_assert_eq(f.writes_answered, 1);
	cr_assert_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_assert_geq(done.ops, 16);
	cr_assert_lt(done.ops, 60);
	for (size_t i = 0; i < 60; i++)
		cr_assert_eq(f.write_result[i].status, i < done.ops ? SHMETA_OK : SHMETA_ERR_BUSY, "operation %zu: %s",
		             i, f.write_result[i].text);
}

Test(call_parts, what_was_not_begun_in_time_has_one_answer, .init = begin, .fini = end)
{
	write_as(GREEDY, "large", MANY, 1);
	f.now_ns += 2;
	fixture_pass(&f, 200);
	cr_assert_eq(f.writes_answered, 1);
	cr_expect_eq(f.write_status, SHMETA_ERR_TIMEOUT);
	cr_expect_eq(done.ops, 0);
}

Test(call_parts, a_call_that_the_source_did_not_take_has_one_answer, .init = begin, .fini = end)
{
	done.cut = true;
	write_as(GREEDY, "large", MANY, 0);
	fixture_pass(&f, 200);
	cr_assert_eq(f.writes_answered, 1);
	cr_expect_eq(f.write_status, SHMETA_ERR_SOURCE);
	cr_expect_str_eq(f.write_sentence, "the connection was cut");
}

Test(call_parts, a_source_that_goes_away_in_between_leaves_what_was_done_done, .init = begin, .fini = end)
{
	done.cut = true;
	done.until = 16;
	write_as(GREEDY, "large", 60, 0);
	fixture_pass(&f, 200);
	cr_assert_eq(f.writes_answered, 1);
	cr_assert(f.write_status == SHMETA_OK || f.write_status == SHMETA_ERR_NOT_CACHED, "%s", f.write_sentence);
	cr_assert_geq(done.ops, 16);
	cr_assert_lt(done.ops, 60);
	for (size_t i = 0; i < 60; i++)
		cr_assert_eq(f.write_result[i].status, i < done.ops ? SHMETA_OK : SHMETA_ERR_SOURCE,
		             "operation %zu: %s", i, f.write_result[i].text);
}
