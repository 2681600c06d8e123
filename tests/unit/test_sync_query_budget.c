/* SPDX-License-Identifier: Apache-2.0
 * What reads for readers may cost the source a second: refresh.queries_s and refresh.rows_s. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_query_budget, .timeout = 60);

static struct fixture f;

enum { RATE = 10, FETCH = 2 /* statements of the memory engine's fetch */, TICK_MS = 10, SECONDS = 20 };

/* Without polls and passes of its own, so that all statements are of reads that somebody asks
 * for. */
static void start(void)
{
	fixture_init(&f);
	f.options.refresh_queries_s = RATE;
	f.options.poll_min_ms = f.options.poll_max_ms = 100000000;
	f.options.reconcile_s = 0;
	fixture_topic(&f, "known", 4, 3, 1);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 5000);
}

static void stop(void)
{
	fixture_done(&f);
}

static uint64_t queries(void)
{
	return fixture_counters(&f).source_queries;
}

static void ask(int number, uint64_t ticket)
{
	char name[32];
	const struct backend_key key = {.cls = SHMETA_CLASS_TOPIC,
	                                .tenant = {SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)},
	                                .topic = {name, (size_t)snprintf(name, sizeof name, "unknown-%d", number)},
	                                .to = UINT64_MAX};

	cr_assert_eq(sync_refresh(f.sync, &key, 0, f.uid, UINT64_MAX, ticket), SHMETA_OK);
}

/* Ask at every turn, until there is no token left. */
static void exhaust(void)
{
	uint64_t before = f.answer_count;

	for (int i = 0; f.answer_count == before + (size_t)i; i++) {
		ask(1000000 + i, 1000000 + (uint64_t)i);
		fixture_run(&f);
		cr_assert_lt(i, 10 * RATE);
	}
}

Test(sync_query_budget, no_span_of_time_has_more_statements_than_the_budget, .init = start, .fini = stop)
{
	static uint64_t at[SECONDS * 1000 / TICK_MS + 1];
	const int ticks = SECONDS * 1000 / TICK_MS;

	at[0] = queries();
	for (int i = 1; i <= ticks; i++) {
		ask(i, (uint64_t)i);
		fixture_pass(&f, TICK_MS);
		at[i] = queries();
	}
	/* A read begins with one token: what it takes beyond that is paid before the next. */
	for (int from = 0; from < ticks; from += 7)
		for (int to = from; to <= ticks; to++)
			cr_assert_leq((at[to] - at[from]) * 1000,
			              (uint64_t)((RATE + FETCH - 1) * 1000 + (to - from) * TICK_MS * RATE),
			              "from %d to %d", from, to);
	cr_expect_geq(at[ticks] - at[0], SECONDS * RATE, "nor much less");
	fixture_pass(&f, 1000);
	cr_expect_eq(f.answer_count, (size_t)ticks, "each is answered in the end, many by one read");
}

Test(sync_query_budget, the_engine_sleeps_until_the_next_token_and_tells_what_waited, .init = start, .fini = stop)
{
	uint64_t wait, waited, now;

	exhaust();
	waited = fixture_counters(&f).postponed_ns;
	now = f.now_ns;
	wait = fixture_run(&f);
	/* A read that began with the last token owes one, and needs another. */
	cr_expect_geq(wait, UINT64_C(50000000));
	cr_expect_leq(wait, UINT64_C(200000000));
	f.now_ns += wait / 2;
	cr_expect_leq(fixture_run(&f), wait - wait / 2);
	cr_expect_gt(fixture_counters(&f).postponed_ns, waited, "what waits now counts already");
	f.now_ns = now + wait;
	cr_expect_eq(f.answers[f.answer_count - 1].status, SHMETA_OK);
	waited = f.answer_count;
	fixture_run(&f);
	cr_expect_eq(f.answer_count, waited + 1);
	cr_expect_eq(fixture_counters(&f).postponed_ns, wait);
	fixture_pass(&f, 60000);
	cr_expect_eq(fixture_counters(&f).postponed_ns, wait, "nothing waits any more");
}

Test(sync_query_budget, a_write_is_shown_without_a_token, .init = start, .fini = stop)
{
	const struct shmeta_op op = {
		.type = SHMETA_OP_CREATE_TOPIC,
		.u.topic = {.name = {"written", 7}, .partition_count = 1},
	};
	uint64_t before;

	exhaust();
	before = f.answer_count;
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(f.writes_answered, 1);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_neq(fixture_topic_id(&f, "written"), 0);
	cr_expect_eq(f.answer_count, before, "and the readers go on waiting");
}

Test(sync_query_budget, a_pass_reads_what_readers_wait_for_without_a_token, .init = start, .fini = stop)
{
	exhaust();
	memory_silence(f.db, true);
	cr_assert(fixture_add_segment(&f, "known", 1, 3000, 1000));
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_PARTITION, "known", 1, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_null(fixture_answer(&f, 1));
	cr_assert_eq(fixture_compare_all(&f, 2), SHMETA_OK);
	for (int i = 0; i < 10 && fixture_answer(&f, 2) == NULL; i++)
		fixture_run(&f);
	cr_assert_not_null(fixture_answer(&f, 2), "the pass does not wait for the readers' token");
	cr_expect_not_null(fixture_answer(&f, 1));
	cr_expect_null(fixture_difference(&f));
}

Test(sync_query_budget, rows_are_bound_too_and_a_large_read_is_paid_off, .init = start, .fini = stop)
{
	uint64_t rows, when;

	fixture_topic(&f, "large", 1, 500, 2);
	f.options.refresh_queries_s = 0;
	f.options.refresh_rows_s = 100;
	sync_reconfigure(f.sync, &f.options);
	fixture_run(&f);
	rows = fixture_counters(&f).source_rows;
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_SEGMENT, "large", 0, 1), SHMETA_OK);
	fixture_run(&f);
	fixture_run(&f);
	cr_assert_not_null(fixture_answer(&f, 1));
	rows = fixture_counters(&f).source_rows - rows;
	cr_assert_geq(rows, 500);
	ask(1, 2);
	when = fixture_run(&f);
	cr_expect_geq(when, (rows - 100) * UINT64_C(10000000));
	cr_expect_leq(when, (rows - 98) * UINT64_C(10000000));
	f.options.refresh_rows_s = 0;
	sync_reconfigure(f.sync, &f.options);
	fixture_run(&f);
	cr_expect_not_null(fixture_answer(&f, 2), "a reload frees what waits");
}

Test(sync_query_budget, a_source_in_trouble_is_tried_at_its_retries_not_at_tokens, .fini = stop)
{
	const struct shmeta_op op = {
		.type = SHMETA_OP_CREATE_TOPIC,
		.u.topic = {.name = {"written", 7}, .partition_count = 1},
	};
	char status[1024];

	fixture_init(&f);
	f.options.refresh_rows_s = 1;
	f.options.reconcile_s = 0;
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		f.options.ttl_ms[cls] = 100000000;
	memory_set_feed_kind(f.db, BACKEND_FEED_NONE);
	fixture_topic(&f, "large", 1, 500, 2);
	fixture_open(&f);
	fixture_pass(&f, 100);
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_SEGMENT, "large", 0, 1), SHMETA_OK);
	fixture_pass(&f, 100);
	cr_assert_not_null(fixture_answer(&f, 1));
	memory_fail(f.db, MEMORY_APPLY, 1, 0, SHMETA_ERR_SOURCE, "gone");
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.writes_answered, 1);
	sync_source_status(f.sync, status, sizeof status);
	cr_assert_not_null(strstr(status, "away"), "%s", status);
	fixture_pass(&f, 30000);
	sync_source_status(f.sync, status, sizeof status);
	cr_expect_str_eq(status, "connected", "though there is no token for another eight minutes");
}
