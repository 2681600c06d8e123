/* SPDX-License-Identifier: Apache-2.0
 * Who did what is on record, whatever else was written at the same time. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/sync_fixture.h"
#include "tests/support/write_ops.h"

TestSuite(sync_audit, .timeout = 60);

static struct fixture f;

static void begin(void)
{
	fixture_init(&f);
	f.options.audit = true;
	fixture_topic(&f, "orders", 2, 5, 1111);
	fixture_open(&f);
	fixture_run(&f);
}

static void end(void)
{
	fixture_done(&f);
}

static void write_as(const char *who, const struct shmeta_op *ops, size_t count)
{
	static uint64_t ticket = 100;

	cr_assert_eq(write_ops(f.sync, (struct shmeta_str){SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)}, ops,
	                       count, UINT64_MAX, 0, 1, who, ticket++),
	             SHMETA_OK);
	fixture_run(&f);
}

static struct shmeta_op watermark(uint64_t offset)
{
	return (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"orders", 6}, .offset = offset};
}

/* The sum of "N done, M refused" over all lines that begin so. */
static void sum(const char *beginning, uint64_t *ret_done, uint64_t *ret_refused)
{
	*ret_done = *ret_refused = 0;
	for (const char *at = f.log; (at = strstr(at, beginning)) != NULL;) {
		unsigned long long done, refused;

		at += strlen(beginning);
		if (sscanf(at, " %llu done, %llu refused", &done, &refused) == 2) {
			*ret_done += done;
			*ret_refused += refused;
		}
	}
}

Test(sync_audit, a_deletion_is_named_among_thousands_of_other_writes, .init = begin, .fini = end)
{
	const struct shmeta_op delete = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"orders", 6}};
	uint64_t done, refused;
	size_t lines = 0;

	for (uint64_t i = 1; i <= 3000; i++) {
		const struct shmeta_op op = watermark(i * 10);

		write_as(i % 2 ? "uid 7 pid 8" : "uid 7 pid 9", &op, 1);
	}
	write_as("uid 0 pid 229", &delete, 1);
	cr_expect_not_null(strstr(f.log, "audit: uid 0 pid 229: delete_topic: topic 'orders', tenant '"), "%s", f.log);
	cr_expect_not_null(strstr(f.log, "': done, commit "));
	/* One that was refused, too. */
	write_as("uid 9 pid 1", &delete, 1);
	cr_expect_not_null(strstr(f.log, "audit: uid 9 pid 1: delete_topic: topic 'orders', tenant '"), "%s", f.log);
	cr_expect_not_null(strstr(f.log, ": refused: "));
	fixture_pass(&f, 1100);
	sum("audit: uid 7: update_high_watermark:", &done, &refused);
	cr_expect_eq(done, 3000, "%s", f.log);
	cr_expect_eq(refused, 0);
	for (const char *at = f.log; (at = strstr(at, "audit: uid 7")) != NULL; at++)
		lines++;
	cr_expect_lt(lines, 100, "%s", f.log);
}

Test(sync_audit, what_is_added_up_is_told_at_the_end, .init = begin, .fini = end)
{
	const struct shmeta_op ops[] = {
		watermark(10), watermark(20), {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"none", 4}}};

	write_as("uid 7 pid 8", ops, 3);
	cr_expect_null(strstr(f.log, "audit"), "%s", f.log);
	fixture_close(&f);
	cr_expect_not_null(strstr(f.log, "audit: uid 7 pid 8: update_high_watermark: 2 done, 1 refused, commit "), "%s",
	                   f.log);
}

Test(sync_audit, a_deletion_of_unknown_outcome_is_on_record, .init = begin, .fini = end)
{
	const struct shmeta_op delete = {
		.type = SHMETA_OP_DELETE_SEGMENTS_BEFORE, .name = {"orders", 6}, .partition_id = 1, .offset = 3000};

	memory_fail(f.db, MEMORY_APPLY, 1, 1, SHMETA_ERR_OUTCOME_UNKNOWN, "the connection was lost at the commit");
	write_as("uid 7 pid 8", &delete, 1);
	cr_expect_not_null(strstr(f.log,
	                          "audit: uid 7 pid 8: delete_segments_before: topic 'orders' partition 1 before "
	                          "offset 3000, tenant '"),
	                   "%s", f.log);
	cr_expect_not_null(strstr(f.log, "': outcome unknown, commit "), "%s", f.log);
}

Test(sync_audit, a_deletion_that_failed_is_on_record_with_the_reason, .init = begin, .fini = end)
{
	const struct shmeta_op delete = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"orders", 6}};

	memory_fail(f.db, MEMORY_APPLY, 1, 0, SHMETA_ERR_SOURCE, "connection refused");
	write_as("uid 0 pid 229", &delete, 1);
	cr_expect_not_null(strstr(f.log, "audit: uid 0 pid 229: delete_topic: topic 'orders', tenant '"), "%s", f.log);
	cr_expect_not_null(strstr(f.log, ": connection refused, commit "), "%s", f.log);
	cr_expect_null(strstr(f.log, "': done"), "%s", f.log);
}

Test(sync_audit, users_and_kinds_are_told_apart, .init = begin, .fini = end)
{
	uint64_t done, refused;

	for (uint64_t i = 1; i <= 100; i++) {
		const struct shmeta_op op = watermark(i * 10);
		char who[32];

		snprintf(who, sizeof(who), "uid %d pid 5", (int)(i % 70));
		write_as(who, &op, 1);
	}
	fixture_close(&f);
	sum("audit: uid 3 pid 5: update_high_watermark:", &done, &refused);
	cr_expect_eq(done, 2, "%s", f.log);
	sum("audit: uid 69 pid 5: update_high_watermark:", &done, &refused);
	cr_expect_eq(done, 1);
}

/* A refusal costs its user nothing, so it may cost the log little. */
Test(sync_audit, refusals_by_the_hundred_are_added_up_and_hide_no_deletion, .init = begin, .fini = end)
{
	const struct shmeta_op none = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"none", 4}},
			       delete = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"orders", 6}};
	uint64_t done, refused, lines = 0;

	for (int i = 0; i < 500; i++)
		write_as("uid 7 pid 8", &none, 1);
	write_as("uid 7 pid 8", &delete, 1);
	write_as("uid 9 pid 1", &none, 1);
	cr_expect_not_null(strstr(f.log, "audit: uid 7 pid 8: delete_topic: topic 'orders', tenant '"), "%s", f.log);
	cr_expect_not_null(strstr(f.log, "audit: uid 9 pid 1: delete_topic: topic 'none', tenant '"), "%s", f.log);
	fixture_close(&f);
	for (const char *at = f.log; (at = strstr(at, "audit: uid 7 pid 8: delete_topic: topic 'none'")) != NULL; at++)
		lines++;
	sum("audit: uid 7 pid 8: delete_topic: beyond those above:", &done, &refused);
	cr_expect_eq(lines + refused, 500, "%s", f.log);
	cr_expect_leq(lines, 20, "%s", f.log);
	cr_expect_eq(done, 0);
	cr_expect_null(strstr(f.log, "audit: uid 9 pid 1: delete_topic: beyond"), "nothing is left to be told of it");
}

Test(sync_audit, what_is_answered_from_memory_is_not_told_as_done, .init = begin, .fini = end)
{
	struct shmeta_op delete = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"orders", 6}}, move = watermark(10);
	size_t done = 0;

	cr_assert_eq(shmeta_request_id(delete.request_id), SHMETA_OK);
	cr_assert_eq(shmeta_request_id(move.request_id), SHMETA_OK);
	for (int i = 0; i < 3; i++)
		write_as("uid 7 pid 8", &move, 1);
	for (int i = 0; i < 2; i++)
		write_as("uid 7 pid 8", &delete, 1);
	for (const char *at = f.log; (at = strstr(at, "': done, commit ")) != NULL; at++)
		done++;
	cr_expect_eq(done, 1, "%s", f.log);
	cr_expect_not_null(strstr(f.log, "': repeated, not done again; the first one was done, commit "), "%s", f.log);
	fixture_close(&f);
	cr_expect_not_null(
		strstr(f.log, "audit: uid 7 pid 8: update_high_watermark: 1 done, 0 refused, 2 repeated, commit "),
		"%s", f.log);
}

/* Lines of the log that have these words. */
static size_t lines_with(const char *words)
{
	size_t lines = 0;

	for (const char *at = f.log; (at = strstr(at, words)) != NULL; at++)
		lines++;
	return lines;
}

Test(sync_audit, an_operation_with_a_trace_id_has_a_line_with_it, .init = begin, .fini = end)
{
	struct shmeta_op op = watermark(10);
	uint64_t done, refused;

	memset(op.trace_id, 0x5c, sizeof op.trace_id);
	write_as("uid 7 pid 8", &op, 1);
	cr_expect_not_null(
		strstr(f.log, "audit: uid 7 pid 8: update_high_watermark: topic 'orders' partition 0, tenant '"), "%s",
		f.log);
	cr_expect_eq(lines_with(", trace 5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c\n"), 1, "%s", f.log);
	/* Of many in a second the first ten, and the others are counted. */
	for (uint64_t i = 2; i <= 50; i++) {
		op = watermark(10 * i);
		memset(op.trace_id, (int)i, sizeof op.trace_id);
		write_as("uid 7 pid 8", &op, 1);
	}
	fixture_pass(&f, 1100);
	cr_expect_eq(lines_with(", trace "), 10, "%s", f.log);
	sum("audit: uid 7 pid 8: update_high_watermark: beyond those above:", &done, &refused);
	cr_expect_eq(done, 40, "%s", f.log);
	/* What has a line anyway has it with the id. */
	op = (struct shmeta_op){.type = SHMETA_OP_DELETE_TOPIC, .name = {"orders", 6}};
	memset(op.trace_id, 0xee, sizeof op.trace_id);
	write_as("uid 7 pid 8", &op, 1);
	cr_expect_eq(lines_with(", trace eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\n"), 1, "%s", f.log);
}
