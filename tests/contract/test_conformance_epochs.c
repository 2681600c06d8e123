/* SPDX-License-Identifier: Apache-2.0
 * Conformance: leader epochs, C13 of the contract, through the public API and a real writer, on
 * each engine. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/conformance.h"

CONFORMANCE_SUITES

/* What is absent has not begun: the sentence and the epoch that is told agree about the highest. */
static bool says_highest(uint64_t asked, uint64_t found)
{
	char words[60], sentence[600];

	(void)snprintf(words, sizeof words, " is %llu", (unsigned long long)found);
	(void)shmeta_last_error(api.instance, sentence, sizeof sentence);
	return found < asked && strlen(sentence) > strlen(words) &&
	       strcmp(sentence + strlen(sentence) - strlen(words), words) == 0;
}

/* "EPOCH ends at OFFSET", or what else is answered. Dies with the fourth call behind it. */
static const char *end_in(const char *topic, uint32_t partition, uint64_t epoch)
{
	static char text[4][600];
	static int at;
	char *ret = text[at++ % 4];
	uint64_t found = UINT64_MAX, end = UINT64_MAX;
	enum shmeta_status status = shmeta_leader_epoch_end(api.instance, topic, strlen(topic), partition, epoch,
	                                                    API_WAIT_MS, &found, &end);

	if (status == SHMETA_OK)
		(void)snprintf(ret, sizeof text[0], "%llu ends at %llu", (unsigned long long)found,
		               (unsigned long long)end);
	else if (status == SHMETA_ABSENT)
		(void)snprintf(ret, sizeof text[0], "%s", says_highest(epoch, found) ? "absent" : "not as it says");
	else if (status > 0)
		(void)snprintf(ret, sizeof text[0], "before the start");
	else
		(void)shmeta_last_error(api.instance, ret, sizeof text[0]);
	return ret;
}

static const char *end_of(uint64_t epoch)
{
	return end_in("orders", 0, epoch);
}

/* The agent's, with the epoch of the lease that it took last. */
static uint64_t epoch;

static void lead(void)
{
	cr_assert_eq(api_acquire("orders", 0, "a", 600000), SHMETA_OK, "%s", api.result[0].text);
	epoch = api.result[0].lease.epoch;
}

static void begin(void)
{
	cr_assert_eq(api_create("orders", 2), SHMETA_OK);
	cr_assert_eq(api_register("a"), SHMETA_OK);
	lead();
}

static struct shmeta_op fenced(struct shmeta_op op)
{
	op.fence = (struct shmeta_fence){S("a"), epoch};
	return op;
}

static enum shmeta_status append(uint64_t base, uint64_t end)
{
	char id[64];
	struct shmeta_op op = fenced(api_segment("orders", 0, base, end, id));

	op.type = SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK;
	return api_do(&op, 1);
}

static enum shmeta_status watermark(uint64_t offset)
{
	const struct shmeta_op op = fenced(
		(struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = offset});

	return api_do(&op, 1);
}

CLAIM(c13_an_epoch_ends_where_the_next_one_that_wrote_begins)
{
	begin();
	cr_expect_str_eq(end_of(1), "0 ends at 0", "nothing was written yet");
	cr_assert_eq(append(0, 9), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(append(10, 19), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(1), "1 ends at 20");
	cr_expect_str_eq(end_of(0), "0 ends at 0");
	lead();
	lead();
	cr_assert_eq(epoch, 3);
	cr_expect_str_eq(end_of(1), "1 ends at 20");
	cr_expect_str_eq(end_of(3), "1 ends at 20", "nothing was written under 2 and 3");
	cr_assert_eq(append(20, 29), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(append(30, 39), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(1), "1 ends at 20");
	cr_expect_str_eq(end_of(2), "1 ends at 20");
	cr_expect_str_eq(end_of(3), "3 ends at 40");
	cr_expect_str_eq(end_in("orders", 1, 0), "0 ends at 0", "each partition has its own");
	lead();
	cr_assert_eq(api_append("orders", 0, 40, 49), SHMETA_OK);
	cr_expect_str_eq(end_of(4), "3 ends at 50", "what is not fenced begins nothing");
}

CLAIM(c13_only_an_epoch_above_the_lease_is_absent)
{
	uint64_t end;

	begin();
	cr_expect_str_eq(end_of(2), "absent");
	cr_expect_str_eq(end_of(UINT64_MAX), "absent");
	cr_expect_str_eq(end_in("orders", 1, 1), "absent", "its lease was never taken");
	cr_assert_eq(api_release("orders", 0, "a"), SHMETA_OK);
	cr_expect_str_eq(end_of(1), "0 ends at 0", "a lease that is released had its epoch");
	cr_expect_eq(shmeta_leader_epoch_end(api.instance, "orders", 6, 9, 1, API_WAIT_MS, NULL, &end),
	             SHMETA_ERR_PARTITION_NOT_FOUND);
	cr_expect_eq(shmeta_leader_epoch_end(api.instance, "other", 5, 0, 1, API_WAIT_MS, NULL, &end),
	             SHMETA_ERR_TOPIC_NOT_FOUND);
	cr_expect_eq(shmeta_leader_epoch_end(api.instance, "a\nb", 3, 0, 1, API_WAIT_MS, NULL, &end),
	             SHMETA_ERR_TOPIC_NOT_FOUND);
}

CLAIM(c13_a_watermark_begins_its_epoch_where_it_was_before)
{
	struct shmeta_op two[2];

	begin();
	cr_assert_eq(api_append("orders", 0, 0, 9), SHMETA_OK);
	cr_assert_eq(watermark(25), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(0), "0 ends at 10");
	cr_assert_eq(watermark(5), SHMETA_OK);
	cr_assert_eq(watermark(30), SHMETA_OK);
	cr_expect_str_eq(end_of(0), "0 ends at 10", "the first one counts");
	lead();
	two[0] = (struct shmeta_op){.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 40};
	two[1] = two[0];
	two[1].offset = 50;
	two[1] = fenced(two[1]);
	cr_assert_eq(api_do(two, 2), SHMETA_OK);
	cr_expect_eq(api.result[1].status, SHMETA_OK, "%s", api.result[1].text);
	cr_expect_str_eq(end_of(1), "1 ends at 40", "what the operation before it set");
	cr_expect_str_eq(end_of(2), "2 ends at 50");
}

CLAIM(c13_the_lowest_base_of_an_epoch_is_its_start)
{
	struct shmeta_op op[4] = {{.type = SHMETA_OP_COMMIT_OBJECT,
	                           .u.object = {.s3_bucket = S("bucket"), .s3_key = S("shared"), .size_bytes = 100}}};
	/* the lowest is neither the first nor the last */
	static const uint64_t bases[3] = {20, 10, 30};
	char id[4][64];

	begin();
	cr_assert_eq(api_set_watermark("orders", 0, 5), SHMETA_OK);
	for (uint32_t i = 0; i < 3; i++)
		op[1 + i] = fenced(api_segment("orders", 0, bases[i], bases[i] + 9, id[i]));
	cr_assert_eq(api_do(op + 1, 3), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(0), "0 ends at 10");
	lead();
	for (uint32_t i = 0; i < 3; i++) {
		op[1 + i] = fenced(api_segment("orders", 0, 30 + bases[i], 39 + bases[i], id[i]));
		op[1 + i].type = SHMETA_OP_ADD_SLICE;
		op[1 + i].u.segment.size_bytes = 30;
		op[1 + i].u.segment.position = 30 * i;
		op[1 + i].u.segment.s3_bucket = op[1 + i].u.segment.s3_key = (struct shmeta_str){NULL, 0};
	}
	cr_assert_eq(api_do(op, 4), SHMETA_OK, "%s", api.result[0].text);
	for (int i = 0; i < 4; i++)
		cr_expect_eq(api.result[i].status, SHMETA_OK, "%s", api.result[i].text);
	cr_expect_str_eq(end_of(1), "1 ends at 40");
	cr_expect_str_eq(end_of(2), "2 ends at 70");
}

CLAIM(c13_what_is_refused_begins_no_epoch)
{
	begin();
	cr_assert_eq(append(0, 9), SHMETA_OK, "%s", api.result[0].text);
	lead();
	cr_expect_eq(append(0, 9), SHMETA_ERR_ALREADY_EXISTS);
	epoch = 1;
	cr_expect_eq(append(10, 19), SHMETA_ERR_FENCED);
	cr_expect_eq(watermark(20), SHMETA_ERR_FENCED);
	cr_expect_str_eq(end_of(1), "1 ends at 10");
	cr_expect_str_eq(end_of(2), "1 ends at 10");
	epoch = 2;
	cr_assert_eq(append(10, 19), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(1), "1 ends at 10");
	cr_expect_str_eq(end_of(2), "2 ends at 20");
}

CLAIM(c13_deletion_drops_the_epochs_that_ended_but_the_newest_of_them)
{
	begin();
	for (uint64_t i = 0; i < 5; i++) {
		cr_assert_eq(append(10 * i, 10 * i + 9), SHMETA_OK, "%s", api.result[0].text);
		lead();
	}
	cr_assert_eq(api_delete_before("orders", 0, 30), SHMETA_OK);
	cr_assert_eq(api.result[0].count, 3);
	cr_expect_str_eq(end_of(0), "before the start");
	cr_expect_str_eq(end_of(2), "before the start");
	cr_expect_str_eq(end_of(3), "3 ends at 30");
	cr_expect_str_eq(end_of(4), "4 ends at 40");
	cr_expect_str_eq(end_of(5), "5 ends at 50");
	cr_assert_eq(api_delete_before("orders", 0, 50), SHMETA_OK);
	cr_assert_eq(api.result[0].count, 2);
	cr_expect_str_eq(end_of(3), "before the start");
	cr_expect_str_eq(end_of(4), "4 ends at 40", "without segments the watermark is the log start");
	cr_expect_str_eq(end_of(6), "5 ends at 50");
	cr_assert_eq(append(50, 59), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(5), "5 ends at 50");
}

CLAIM(c13_a_deleted_topic_takes_its_epochs_along)
{
	begin();
	cr_assert_eq(append(0, 9), SHMETA_OK, "%s", api.result[0].text);
	lead();
	cr_assert_eq(append(10, 19), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(api_drop("orders"), SHMETA_OK);
	cr_assert_eq(api_create("orders", 1), SHMETA_OK);
	cr_expect_str_eq(end_of(2), "0 ends at 0", "its lease's epochs go on, what was written did not");
	lead();
	cr_assert_eq(epoch, 3);
	cr_assert_eq(append(100, 109), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(2), "0 ends at 100");
	cr_expect_str_eq(end_of(3), "3 ends at 110");
}

enum { MOST = 4096 };

/* Epochs 2 to MOST, each from ten times its number on. */
static void fill(void)
{
	if (api.engine->sql != NULL) {
		cr_assert_eq(
			api_sql("WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 4096) INSERT INTO "
		                "shmeta_leader_epochs(tenant, topic, partition_id, epoch, start, created_at) SELECT "
		                "'" SHMETA_DEFAULT_TENANT "', 'orders', 0, i, 10 * i, 0 FROM n"),
			0);
		cr_assert_eq(api_sql("UPDATE partition_leases SET epoch = 4096"), 0);
		cr_assert_eq(api_sql("UPDATE shmeta_lease_epochs SET epoch = 4096"), 0);
		return;
	}
	for (uint64_t i = 2; i <= MOST; i += 16) {
		struct shmeta_op op[48];
		size_t count = 0;

		for (uint64_t n = i; n < i + 16 && n <= MOST; n++) {
			op[count++] = (struct shmeta_op){.type = SHMETA_OP_ACQUIRE_LEASE,
			                                 .name = S("orders"),
			                                 .agent_id = S("a"),
			                                 .duration_ms = 600000};
			op[count++] = (struct shmeta_op){
				.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = S("orders"), .offset = 10 * n};
			op[count] = op[count - 1];
			op[count].offset++;
			epoch = n;
			op[count] = fenced(op[count]);
			count++;
		}
		cr_assert_eq(api_do(op, count), SHMETA_OK);
		cr_assert_eq(api.result[count - 1].status, SHMETA_OK, "%s", api.result[count - 1].text);
	}
}

CLAIM(c13_the_newest_4096_epochs_are_kept)
{
	begin();
	cr_assert_eq(append(10, 19), SHMETA_OK, "%s", api.result[0].text);
	fill();
	cr_expect_str_eq(end_of(1), "1 ends at 20");
	cr_expect_str_eq(end_of(MOST - 1), "4095 ends at 40960");
	lead();
	cr_assert_eq(epoch, MOST + 1);
	cr_assert_eq(append(50000, 50009), SHMETA_OK, "%s", api.result[0].text);
	cr_assert_eq(append(50010, 50019), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(1), "before the start");
	cr_expect_str_eq(end_of(2), "2 ends at 30");
	cr_expect_str_eq(end_of(MOST), "4096 ends at 50000");
	cr_expect_str_eq(end_of(MOST + 1), "4097 ends at 50020");
	lead();
	cr_assert_eq(watermark(60000), SHMETA_OK, "%s", api.result[0].text);
	cr_expect_str_eq(end_of(2), "before the start");
	cr_expect_str_eq(end_of(3), "3 ends at 40");
}
