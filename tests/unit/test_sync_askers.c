/* SPDX-License-Identifier: Apache-2.0
 * What each user may have read from the source. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/bare_engine.h"
#include "tests/support/cpu_time.h"
#include "tests/support/sync_fixture.h"

TestSuite(sync_askers, .timeout = 60);

static struct fixture f;

enum { RATE = 50, BURST = 100, GREEDY = 4001, OTHER = 4002 };

static void start_shared(void)
{
	fixture_init(&f);
	f.options.refresh_user_rate = RATE;
	f.options.refresh_user_burst = BURST;
	f.options.poll_min_ms = f.options.poll_max_ms = 1000000;
	fixture_topic(&f, "known", 1, 1, 1);
	fixture_open(&f);
	fixture_run(&f);
	f.uid = GREEDY;
}

static void stop(void)
{
	fixture_done(&f);
}

static enum shmeta_status ask_number(int number, uint64_t timeout_ms, uint64_t ticket)
{
	char name[32];
	const struct backend_key key = {.cls = SHMETA_CLASS_TOPIC,
	                                .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
	                                .topic = {name, (size_t)snprintf(name, sizeof name, "unknown-%d", number)},
	                                .to = UINT64_MAX};

	return sync_refresh(f.sync, &key, false, f.uid, f.now_ns + timeout_ms * 1000000, ticket);
}

Test(sync_askers, a_user_has_a_burst_of_keys_read_and_then_so_many_a_second, .init = start_shared, .fini = stop)
{
	uint64_t before = fixture_counters(&f).refresh_keys;

	for (int i = 0; i < BURST + 3 * RATE; i++)
		cr_assert_eq(ask_number(i, 60000, (uint64_t)i), SHMETA_OK);
	fixture_pass(&f, 0);
	cr_expect_eq(fixture_counters(&f).refresh_keys - before, BURST);
	cr_expect_eq(f.answer_count, BURST);
	fixture_pass(&f, 2000);
	cr_expect_eq(fixture_counters(&f).refresh_keys - before, BURST + 2 * RATE);
	fixture_pass(&f, 2000);
	cr_expect_eq(f.answer_count, BURST + 3 * RATE, "each is answered");
	for (size_t i = 0; i < f.answer_count; i++)
		cr_expect_eq(f.answers[i].status, SHMETA_OK);
}

Test(sync_askers, what_would_come_after_its_deadline_is_refused_at_once, .init = start_shared, .fini = stop)
{
	int taken = 0;

	while (ask_number(taken, 1000, (uint64_t)taken) == SHMETA_OK)
		cr_assert_lt(++taken, 10 * BURST);
	cr_expect_eq(taken, BURST + RATE);
	fixture_pass(&f, 1000);
	cr_expect_eq(f.answer_count, (size_t)taken, "and what was taken is answered in time");
}

Test(sync_askers, who_joins_a_read_costs_no_token, .init = start_shared, .fini = stop)
{
	uint64_t before = fixture_counters(&f).refresh_keys;

	for (int i = 0; i < 10 * BURST; i++)
		cr_assert_eq(ask_number(1, 0, (uint64_t)i), SHMETA_OK);
	fixture_pass(&f, 0);
	cr_expect_eq(f.answer_count, 10 * BURST);
	cr_expect_eq(fixture_counters(&f).refresh_keys - before, 1);
	/* 99 are left. */
	for (int i = 2; i <= BURST; i++)
		cr_expect_eq(ask_number(i, 0, (uint64_t)i), SHMETA_OK);
	cr_expect_eq(ask_number(0, 0, 0), SHMETA_ERR_BUSY);
	/* Nor does one that waits for a token. */
	cr_expect_eq(ask_number(5000, 1000, 0), SHMETA_OK);
	cr_expect_eq(ask_number(5000, 0, 0), SHMETA_OK);
}

Test(sync_askers, a_user_without_tokens_keeps_no_key_from_others, .init = start_shared, .fini = stop)
{
	for (int i = 0; i < BURST + RATE; i++)
		cr_assert_eq(ask_number(i, 60000, (uint64_t)i), SHMETA_OK);
	fixture_pass(&f, 0);
	f.uid = OTHER;
	cr_assert_eq(ask_number(9000, 0, 1000), SHMETA_OK);
	cr_assert_eq(ask_number(BURST + RATE - 1, 0, 1001), SHMETA_OK, "the last one in the other's line");
	fixture_pass(&f, 0);
	cr_expect_not_null(fixture_answer(&f, 1000));
	cr_expect_not_null(fixture_answer(&f, 1001));
	cr_expect_not_null(fixture_answer(&f, BURST + RATE - 1));
	cr_expect_null(fixture_answer(&f, BURST));
	/* Root is not bound. */
	f.uid = 0;
	for (int i = 0; i < 3 * BURST; i++)
		cr_assert_eq(ask_number(10000 + i, 0, 2000), SHMETA_OK);
}

Test(sync_askers, a_source_that_goes_away_is_told_to_those_who_wait_for_a_token, .init = start_shared, .fini = stop)
{
	for (int i = 0; i < BURST + RATE; i++)
		cr_assert_eq(ask_number(i, 60000, (uint64_t)i), SHMETA_OK);
	fixture_close(&f);
	cr_expect_eq(f.answer_count, BURST + RATE);
}

/* ---- keys that somebody has chosen ---- */

enum { CHOSEN = 30000, SLOT_BITS = 35 };

/* To ask for so many partitions of a topic, and to refuse them all, in ns of this thread. */
static uint64_t cost_of(const uint32_t *partition, size_t count)
{
	struct shmeta_err err = {.code = SHMETA_OK};
	struct bare_engine e;
	uint64_t began;

	bare_engine_init(&e);
	e.options.refresh_queue_max = 2 * CHOSEN;
	e.options.refresh_queue_bytes = 1 << 30;
	cr_assert_eq(bare_engine_open(&e, &err), SHMETA_OK, "%s", err.text);
	began = cpu_time_ns();
	for (size_t i = 0; i < count; i++) {
		const struct backend_key key = {.cls = SHMETA_CLASS_PARTITION,
		                                .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
		                                .topic = {"t", 1},
		                                .partition_id = partition[i],
		                                .to = UINT64_MAX};

		cr_assert_eq(sync_refresh(e.sync, &key, 0, GREEDY, UINT64_MAX, i), SHMETA_OK);
	}
	bare_engine_close(&e);
	began = cpu_time_ns() - began;
	bare_engine_done(&e);
	return began;
}

/* Multiplied by the golden ratio they have the same high bits, wherever the numbering begins. */
static size_t choose(uint32_t *ret)
{
	const uint64_t factor = 0x9E3779B97F4A7C15u;
	uint64_t inverse = factor;
	size_t count = 0;

	for (int i = 0; i < 6; i++)
		inverse *= 2 - factor * inverse;
	cr_assert_eq(inverse * factor, 1);
	for (uint64_t low = 0; count < CHOSEN && low < 1 << 20; low++) {
		uint64_t number = low * inverse & ((UINT64_C(1) << SLOT_BITS) - 1);

		if (number < UINT32_MAX)
			ret[count++] = (uint32_t)number;
	}
	return count;
}

Test(sync_askers, no_choice_of_keys_makes_others_wait_for_a_long_chain)
{
	static uint32_t chosen[CHOSEN], plain[CHOSEN];
	const size_t count = choose(chosen);
	uint64_t usual, took;

	cr_assert_eq(count, CHOSEN);
	for (uint32_t i = 0; i < CHOSEN; i++)
		plain[i] = i;
	usual = cost_of(plain, count);
	took = cost_of(chosen, count);
	cr_expect_lt(took, 5 * usual + 500000000, "%llu ms, and %llu ms for keys in order",
	             (unsigned long long)took / 1000000, (unsigned long long)usual / 1000000);
}
