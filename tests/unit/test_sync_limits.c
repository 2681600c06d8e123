/* SPDX-License-Identifier: Apache-2.0
 * An engine that takes little in one call: the writer asks for no more, and what it does is the
 * same. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "shm/wire/op.h"
#include "tests/support/sync_fixture.h"

TestSuite(sync_limits, .timeout = 60);

enum { KEYS = 8, OPS = 3, UNIT_OPS = 3, SEGMENTS = 20 };

static struct fixture f;
static struct {
	size_t fetches, applies;
} seen;
static struct backend_source source;
static struct backend_writer writer;
static struct backend_engine tiny;

static enum shmeta_status fetch(void *state, const struct backend_key *keys, size_t count,
                                const struct backend_sink *sink, struct backend_error *err)
{
	seen.fetches++;
	cr_expect_leq(count, KEYS);
	return memory_with_faults.source->fetch(state, keys, count, sink, err);
}

static void within_limits(const struct backend_op *ops, size_t count)
{
	size_t unit = 0, bytes = 0;

	seen.applies++;
	cr_expect_leq(count, OPS);
	cr_expect_neq(ops[0].op->type, SHMETA_OP_ADD_SLICE, "no unit is cut");
	for (size_t i = 0; i < count; i++) {
		unit = ops[i].op->type == SHMETA_OP_ADD_SLICE ? unit + 1 : 1;
		bytes += shmeta__op_bytes(ops[i].op);
		cr_expect_leq(unit, UNIT_OPS);
	}
	cr_expect(tiny.limits.bytes == 0 || bytes <= tiny.limits.bytes || count == 1);
}

static enum shmeta_status apply(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err)
{
	within_limits(ops, count);
	return memory_with_faults.writer->apply(state, ops, count, now_ms, results, sink, err);
}

static enum shmeta_status start(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, struct backend_error *err)
{
	within_limits(ops, count);
	return memory_with_faults.writer->start(state, ops, count, now_ms, results, err);
}

static void begin(uint64_t bytes)
{
	source = *memory_with_faults.source;
	source.fetch = fetch;
	writer = *memory_with_faults.writer;
	writer.apply = apply;
	writer.start = start;
	tiny = memory_with_faults;
	tiny.source = &source;
	tiny.writer = &writer;
	tiny.limits = (struct backend_limits){.keys = KEYS, .ops = OPS, .unit_ops = UNIT_OPS, .bytes = bytes};
	fixture_init(&f);
	f.options.engine = &tiny;
	cr_assert(memory_fill(f.db, 30, 4, 30, 1));
	fixture_topic(&f, "t", 8, 10, 1111);
}

static void same(void)
{
	const char *difference = fixture_difference(&f);

	cr_expect_null(difference, "%s", difference);
}

static struct shmeta_op add(size_t i)
{
	static char id[SEGMENTS][16];
	struct shmeta_op op = {.type = SHMETA_OP_ADD_SEGMENT, .name = {"t", 1}, .partition_id = (uint32_t)(i % 8)};

	(void)snprintf(id[i], sizeof id[i], "id-%zu", i);
	op.u.segment = fixture_segment(op.partition_id, 100000 + 1000 * i, 1000);
	op.u.segment.id = (struct shmeta_str){id[i], strlen(id[i])};
	op.u.segment.s3_bucket = op.u.segment.s3_key = (struct shmeta_str){"b", 1};
	return op;
}

/* All of them in one call, until it is answered. */
static void write_all(const struct shmeta_op *ops, size_t count)
{
	uint64_t before = f.writes_answered;

	cr_assert_eq(fixture_write(&f, ops, count), SHMETA_OK);
	fixture_pass(&f, 100);
	cr_assert_eq(f.writes_answered, before + 1, "answered exactly once");
}

Test(sync_limits, keys_are_fetched_so_many_at_a_time)
{
	begin(0);
	fixture_open(&f);
	fixture_pass(&f, 1000);
	seen.fetches = 0;
	for (uint32_t i = 0; i < 8; i++)
		fixture_add_segment(&f, "t", i, 10000, 1000);
	memory_delete_topic(f.db, NULL, "topic-00003");
	fixture_topic(&f, "born", 9, 30, 7);
	fixture_pass(&f, 1000);
	cr_expect_geq(seen.fetches, 10 / (KEYS / 4));
	same();
	fixture_done(&f);
}

Test(sync_limits, a_source_that_is_read_by_its_keys_is_too)
{
	begin(0);
	cr_assert(memory_break_partition(f.db, "t", 3, SHMETA_ERR_INVALID_ARGUMENT, "broken"));
	fixture_open(&f);
	fixture_pass(&f, 2000);
	cr_expect_geq(seen.fetches, 30 / KEYS);
	memory_mend_partition(f.db, "t", 3);
	fixture_pass(&f, 200000);
	same();
	fixture_done(&f);
}

Test(sync_limits, operations_of_one_call_go_to_the_source_in_pieces)
{
	struct shmeta_op ops[SEGMENTS];

	begin(0);
	fixture_open(&f);
	fixture_pass(&f, 1000);
	for (size_t i = 0; i < SEGMENTS; i++)
		ops[i] = add(i);
	write_all(ops, SEGMENTS);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	for (size_t i = 0; i < SEGMENTS; i++)
		cr_expect_eq(f.write_result[i].status, SHMETA_OK, "%zu: %s", i, f.write_result[i].text);
	cr_expect_eq(seen.applies, (SEGMENTS + OPS - 1) / OPS);
	same();
	fixture_done(&f);
}

Test(sync_limits, bytes_of_one_call_are_bounded_as_well)
{
	struct shmeta_op ops[SEGMENTS];

	begin(1);
	fixture_open(&f);
	fixture_pass(&f, 1000);
	for (size_t i = 0; i < SEGMENTS; i++)
		ops[i] = add(i);
	write_all(ops, SEGMENTS);
	cr_expect_eq(seen.applies, SEGMENTS);
	same();
	fixture_done(&f);
}

Test(sync_limits, what_comes_behind_a_piece_that_failed_is_not_done)
{
	struct shmeta_op ops[SEGMENTS];

	begin(0);
	fixture_open(&f);
	fixture_pass(&f, 1000);
	for (size_t i = 0; i < SEGMENTS; i++)
		ops[i] = add(i);
	memory_fail(f.db, MEMORY_APPLY, 1, 0, SHMETA_ERR_SOURCE, "away");
	write_all(ops, SEGMENTS);
	cr_expect_eq(f.write_status, SHMETA_ERR_SOURCE);
	cr_expect_eq(seen.applies, 1);
	fixture_pass(&f, 20000);
	same();
	fixture_done(&f);
}

Test(sync_limits, an_object_with_more_slices_than_a_unit_is_committed_in_units)
{
	struct shmeta_op ops[9] = {{.type = SHMETA_OP_COMMIT_OBJECT}};

	begin(0);
	fixture_open(&f);
	fixture_pass(&f, 1000);
	ops[0].u.object = (struct shmeta_object){.s3_bucket = {"b", 1}, .s3_key = {"o", 1}, .size_bytes = 8 * 100000};
	for (size_t i = 1; i < 9; i++) {
		ops[i] = add(i);
		ops[i].type = SHMETA_OP_ADD_SLICE;
		ops[i].u.segment.position = 100000 * (i - 1);
		ops[i].u.segment.s3_bucket = ops[i].u.segment.s3_key = (struct shmeta_str){"", 0};
	}
	write_all(ops, 9);
	for (size_t i = 0; i < 9; i++)
		cr_expect_eq(f.write_result[i].status, SHMETA_OK, "%zu: %s", i, f.write_result[i].text);
	cr_expect_eq(seen.applies, 8 / (UNIT_OPS - 1));
	same();
	fixture_done(&f);
}
