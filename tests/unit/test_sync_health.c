/* SPDX-License-Identifier: Apache-2.0
 * What the engine says of itself: a failure is over when the same thing works again, and not
 * before. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_health, .timeout = 60);

static struct fixture f;

static int64_t wall_of_the_fixture(void *arg)
{
	(void)arg;
	return (int64_t)(f.now_ns / 1000000);
}

static void open_serving(void)
{
	fixture_init(&f);
	f.options.reconcile_s = 300;
	f.options.wall_ms = wall_of_the_fixture;
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING);
	fixture_pass(&f, 2000);
}

static size_t logged(const char *line)
{
	size_t count = 0;

	for (const char *at = f.log; (at = strstr(at, line)) != NULL; at++)
		count++;
	return count;
}

static const char *source_status(void)
{
	static char text[640];

	sync_source_status(f.sync, text, sizeof(text));
	return text;
}

static uint64_t loads(void)
{
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	return stats.calls[MEMORY_LOAD];
}

Test(sync_health, a_poll_of_the_log_does_not_end_the_trouble_of_a_full_pass)
{
	uint64_t before;

	open_serving();
	memory_fail(f.db, MEMORY_LOAD, 1000000, 3, SHMETA_ERR_SOURCE, "the table 'segments' is malformed");
	before = loads();
	fixture_pass(&f, 400000); /* the period of full passes is behind that */
	cr_assert_gt(loads(), before + 3);
	cr_expect_eq(f.phase, SHMETA_PHASE_DEGRADED);
	cr_expect_not_null(strstr(f.sentence, "the table 'segments' is malformed"), "%s", f.sentence);
	for (int i = 0; i < 500; i++) {
		fixture_pass(&f, 100);
		cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED, "after %d00 ms: %s", i, f.log);
	}
	cr_expect_eq(logged("source_away: "), 1, "%s", f.log);
	cr_expect_eq(logged("source_back: "), 0, "%s", f.log);
	cr_expect_not_null(strstr(source_status(), "the table 'segments' is malformed"), "%s", source_status());
	cr_expect_null(strstr(source_status(), "away"), "polls work: %s", source_status());

	/* It is tried again, further and further apart, while everything else goes on. */
	before = loads();
	fixture_pass(&f, 60000);
	cr_expect_gt(loads(), before);
	cr_expect_lt(loads(), before + 40);
	memory_fail(f.db, MEMORY_LOAD, 0, 0, SHMETA_OK, "");
	fixture_pass(&f, 120000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_expect_eq(logged("source_back: "), 1, "%s", f.log);
	cr_expect_str_eq(source_status(), "connected");
	fixture_done(&f);
}

Test(sync_health, while_a_full_pass_fails_writes_are_done)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"new", 3}, .partition_count = 1}};

	open_serving();
	memory_fail(f.db, MEMORY_LOAD, 1000000, 3, SHMETA_ERR_SOURCE, "the table 'segments' is malformed");
	fixture_pass(&f, 400000);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	for (int i = 0; i < 100 && f.writes_answered == 0; i++)
		fixture_pass(&f, 10);
	cr_assert_eq(f.writes_answered, 1);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect(memory_find_topic(f.db, NULL, "new"));
	fixture_done(&f);
}

Test(sync_health, a_pass_whose_connection_breaks_refuses_no_write)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"new", 3}, .partition_count = 1}};

	open_serving();
	memory_fail(f.db, MEMORY_LOAD, 1, 3, SHMETA_ERR_SOURCE, "the connection was cut");
	for (int i = 0; i < 400000 && logged("source_away: ") == 0; i++)
		fixture_pass(&f, 1);
	cr_assert_eq(logged("source_away: "), 1, "%s", f.log);
	/* Before anything else was asked of the source. */
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_pass(&f, 1);
	cr_assert_eq(f.writes_answered, 1);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect(memory_find_topic(f.db, NULL, "new"));
	fixture_done(&f);
}

static void expect_all_is_done_while_polls_fail(enum shmeta_status why, const char *sentence)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
	struct memory_stats stats;
	uint64_t polls;

	open_serving();
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, why, sentence);
	fixture_pass(&f, 20000);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	memory_read_stats(f.db, &stats);
	polls = stats.calls[MEMORY_CHANGES];
	for (unsigned i = 0; i < 8; i++) {
		struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
		                       .u.topic = {.name = {names[i], 1}, .partition_count = 1}};
		uint64_t before = f.writes_answered;

		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
		cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 100 + i), SHMETA_OK);
		fixture_pass(&f, 700);
		cr_assert_eq(f.writes_answered, before + 1);
		cr_expect_eq(f.write_status, SHMETA_OK, "%u: %s", i, f.write_sentence);
		cr_assert_not_null(fixture_answer(&f, 100 + i));
		cr_expect_eq(fixture_answer(&f, 100 + i)->status, SHMETA_OK, "%u: %s", i,
		             fixture_answer(&f, 100 + i)->sentence);
		cr_expect_neq(fixture_topic_id(&f, names[i]), 0, "the store does not show %s", names[i]);
		cr_expect_eq(f.phase, SHMETA_PHASE_DEGRADED, "the polls still fail");
	}
	/* Writes do not hasten the polls. */
	memory_read_stats(f.db, &stats);
	cr_expect_leq(stats.calls[MEMORY_CHANGES], polls + 8);
	cr_expect_eq(logged("source_away: "), 1, "%s", f.log);
	memory_fail(f.db, MEMORY_CHANGES, 0, 0, SHMETA_OK, "");
	fixture_pass(&f, 120000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_expect_null(fixture_difference(&f));
	fixture_done(&f);
}

/* As where the rights to the change log alone were withdrawn. */
Test(sync_health, while_polls_fail_alone_every_write_and_every_refresh_is_done)
{
	expect_all_is_done_while_polls_fail(SHMETA_ERR_SOURCE, "permission denied for table shmeta_changes");
}

Test(sync_health, while_polls_are_kept_back_every_write_and_every_refresh_is_done)
{
	expect_all_is_done_while_polls_fail(SHMETA_ERR_BUSY, "postponed: source.read_units_s allows no more now");
}

static void expect_passes_while_polls_fail(enum shmeta_status why, const char *sentence)
{
	struct memory_stats stats;
	uint64_t before, polls;

	open_serving();
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, why, sentence);
	fixture_pass(&f, 5000);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	before = loads();
	memory_read_stats(f.db, &stats);
	polls = stats.calls[MEMORY_CHANGES];
	cr_assert(memory_create_topic(f.db, NULL, "by_others", 1, 2222));
	for (int i = 0; i < 3000; i++) {
		fixture_pass(&f, 100);
		for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
			cr_assert_leq(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), f.options.ttl_ms[cls],
			              "class %d after %d00 ms", cls, i);
		cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED, "the polls still fail, after %d00 ms: %s", i, f.log);
	}
	cr_expect_neq(fixture_topic_id(&f, "by_others"), 0);
	cr_expect_gt(loads(), before);
	cr_expect_leq(loads(), before + 20);
	memory_read_stats(f.db, &stats);
	cr_expect_gt(stats.calls[MEMORY_CHANGES], polls, "it is still tried");
	cr_expect_eq(logged("source_away: "), 1, "%s", f.log);
	cr_expect_eq(logged("source_back: "), 0, "%s", f.log);
	/* Nothing is younger than what was read. */
	memory_fail(f.db, MEMORY_LOAD, 1000000, 0, SHMETA_ERR_SOURCE, "permission denied for table topics");
	memory_fail(f.db, MEMORY_FETCH, 1000000, 0, SHMETA_ERR_SOURCE, "permission denied for table topics");
	fixture_pass(&f, 600000);
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		cr_expect_geq(fixture_stamp_age_ms(&f, (enum shmeta_class)cls), 600000, "class %d", cls);
	memory_fail(f.db, MEMORY_LOAD, 0, 0, SHMETA_OK, "");
	memory_fail(f.db, MEMORY_FETCH, 0, 0, SHMETA_OK, "");
	memory_fail(f.db, MEMORY_CHANGES, 0, 0, SHMETA_OK, "");
	fixture_pass(&f, 300000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_expect_null(fixture_difference(&f));
	fixture_done(&f);
}

/* What is read instead of the feed has its true age, and nothing is too old as long as it can be
 * read. */
Test(sync_health, while_polls_fail_alone_full_passes_find_what_changes_before_it_is_too_old)
{
	expect_passes_while_polls_fail(SHMETA_ERR_SOURCE, "permission denied for table shmeta_changes");
}

Test(sync_health, while_polls_are_kept_back_full_passes_find_what_changes_before_it_is_too_old)
{
	expect_passes_while_polls_fail(SHMETA_ERR_BUSY, "postponed: source.read_units_s allows no more now");
}

/* A source that is away as a whole is not read whole when it is back: its feed tells what was
 * missed. */
Test(sync_health, a_source_that_was_away_for_long_is_followed_on_without_a_full_pass)
{
	uint64_t before;

	open_serving();
	before = loads();
	for (int call = MEMORY_LOAD; call <= MEMORY_CHANGES; call++)
		memory_fail(f.db, (enum memory_call)call, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 200000);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED);
	cr_assert(memory_create_topic(f.db, NULL, "by_others", 1, 2222));
	for (int call = MEMORY_LOAD; call <= MEMORY_CHANGES; call++)
		memory_fail(f.db, (enum memory_call)call, 0, 0, SHMETA_OK, "");
	fixture_pass(&f, 31000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_expect_neq(fixture_topic_id(&f, "by_others"), 0);
	cr_expect_eq(loads(), before);
	fixture_done(&f);
}

/* Each kind is tried at its own pace: what fails with the polls is refused in between, and what
 * comes back first is done first. */
Test(sync_health, writes_that_fail_with_the_polls_are_tried_now_and_then_and_done_when_they_work)
{
	unsigned refused = 0;
	bool done = false;

	open_serving();
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	memory_fail(f.db, MEMORY_APPLY, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 20000);
	for (unsigned i = 0; i < 500 && !done; i++) {
		struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t", 1}, .offset = 100000 + i};

		if (i == 50)
			memory_fail(f.db, MEMORY_APPLY, 0, 0, SHMETA_OK, "");
		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
		fixture_pass(&f, 200);
		refused += f.write_status == SHMETA_ERR_SOURCE;
		done = f.write_status == SHMETA_OK;
		cr_assert(i >= 50 || !done);
	}
	cr_expect_geq(refused, 50);
	cr_expect(done, "%s", f.write_sentence);
	fixture_done(&f);
}

Test(sync_health, a_poll_does_not_end_the_trouble_of_keys_that_cannot_be_read)
{
	open_serving();
	memory_fail(f.db, MEMORY_FETCH, 1000000, 0, SHMETA_ERR_SOURCE, "permission denied for table segments");
	fixture_add_segment(&f, "t", 0, 10000, 1000);
	fixture_pass(&f, 3000);
	for (int i = 0; i < 200; i++) {
		fixture_pass(&f, 100);
		cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED, "after %d00 ms: %s", i, f.log);
	}
	cr_expect_eq(logged("source_away: "), 1, "%s", f.log);
	cr_expect_eq(logged("source_back: "), 0, "%s", f.log);
	memory_fail(f.db, MEMORY_FETCH, 0, 0, SHMETA_OK, "");
	fixture_pass(&f, 60000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_expect_null(fixture_difference(&f));
	fixture_done(&f);
}

Test(sync_health, a_failure_that_returns_is_one_trouble_and_not_many)
{
	open_serving();
	for (int i = 0; i < 6; i++) {
		memory_fail(f.db, MEMORY_CHANGES, 1, 0, SHMETA_ERR_SOURCE, "the connection was reset");
		fixture_pass(&f, 10000);
	}
	/* The first two ends were believed; from then on it had to work for as long as it had
	 * not. */
	cr_expect_eq(logged("source_away: "), 1, "%s", f.log);
	cr_expect_leq(logged("source_back: "), 4, "%s", f.log);
	memory_fail(f.db, MEMORY_CHANGES, 1, 0, SHMETA_ERR_SOURCE, "the connection was reset");
	fixture_pass(&f, 5000);
	cr_expect_eq(f.phase, SHMETA_PHASE_DEGRADED, "5 s after its seventh failure: %s", f.log);
	fixture_pass(&f, 120000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING);
	fixture_done(&f);
}

Test(sync_health, the_phase_has_the_newest_reason)
{
	open_serving();
	memory_fail(f.db, MEMORY_CHANGES, 3, 0, SHMETA_ERR_SOURCE, "shutting down");
	fixture_pass(&f, 1100);
	cr_expect_not_null(strstr(f.sentence, "shutting down"), "%s", f.sentence);
	memory_fail(f.db, MEMORY_CHANGES, 1000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 5000);
	cr_expect_eq(f.phase, SHMETA_PHASE_DEGRADED);
	cr_expect_not_null(strstr(f.sentence, "connection refused"), "%s", f.sentence);
	fixture_done(&f);
}

Test(sync_health, away_since_does_not_move)
{
	char first[640];

	open_serving();
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 2000);
	snprintf(first, sizeof(first), "%s", source_status());
	cr_expect_eq(strncmp(first, "away since ", 11), 0, "%s", first);
	for (int i = 0; i < 50; i++) {
		fixture_pass(&f, 333);
		cr_assert_str_eq(source_status(), first);
	}
	fixture_done(&f);
}

Test(sync_health, a_write_during_an_outage_does_not_begin_it_anew)
{
	const struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"t", 1}};
	const size_t when = strlen("away since 1970-01-01T00:00:00Z: ");
	char first[640];

	fixture_init(&f);
	f.options.wall_ms = wall_of_the_fixture;
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	memory_fail(f.db, MEMORY_APPLY, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 2000);
	snprintf(first, sizeof(first), "%s", source_status());
	cr_assert_eq(strncmp(first, "away since ", 11), 0, "%s", first);
	for (int i = 0; i < 5; i++) {
		fixture_pass(&f, 10000);
		(void)fixture_write(&f, &op, 1);
		fixture_pass(&f, 1000);
		cr_expect_eq(strncmp(source_status(), first, when), 0, "%s and not %s", source_status(), first);
	}
	fixture_done(&f);
}

static int64_t wall_step_ms;

static int64_t wall_that_is_set(void *arg)
{
	return wall_of_the_fixture(arg) + wall_step_ms;
}

/* As whoever compares it with the clock takes it. */
static double away_s(void)
{
	struct tm tm = {0};

	cr_assert_not_null(strptime(source_status(), "away since %Y-%m-%dT%H:%M:%S", &tm), "%s", source_status());
	return difftime((time_t)(wall_that_is_set(NULL) / 1000), timegm(&tm));
}

Test(sync_health, setting_the_clock_changes_nothing_in_how_long_the_source_is_away)
{
	double before;

	fixture_init(&f);
	f.now_ns += 86400000000000;
	f.options.wall_ms = wall_that_is_set;
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_pass(&f, 2000);
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 5000);
	before = away_s();
	wall_step_ms = -3600000;
	cr_expect_float_eq(away_s(), before, 2);
	fixture_pass(&f, 10000);
	cr_expect_float_eq(away_s(), before + 10, 2);
	wall_step_ms = 3600000;
	cr_expect_float_eq(away_s(), before + 10, 2);
	fixture_done(&f);
}

Test(sync_health, a_write_that_failed_does_not_keep_its_reason_before_later_ones)
{
	const struct shmeta_op op = {.type = SHMETA_OP_DELETE_TOPIC, .name = {"t", 1}};

	fixture_init(&f);
	f.options.wall_ms = wall_of_the_fixture;
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "password authentication failed");
	memory_fail(f.db, MEMORY_APPLY, 1000000, 0, SHMETA_ERR_SOURCE, "password authentication failed");
	fixture_pass(&f, 2000);
	(void)fixture_write(&f, &op, 1);
	fixture_pass(&f, 2000);
	cr_expect_not_null(strstr(source_status(), "password authentication failed"), "%s", source_status());
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "permission denied");
	fixture_pass(&f, 60000);
	cr_expect_not_null(strstr(source_status(), "permission denied"), "%s", source_status());
	cr_expect_not_null(strstr(f.sentence, "permission denied"), "%s", f.sentence);
	fixture_done(&f);
}

Test(sync_health, an_outage_with_the_same_words_as_the_one_before_is_away_since_its_own_time)
{
	const size_t when = strlen("away since 1970-01-01T00:00:00Z");
	char first[640];

	fixture_init(&f);
	f.options.wall_ms = wall_of_the_fixture;
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 2000);
	memory_fail(f.db, MEMORY_CHANGES, 1, 0, SHMETA_ERR_SOURCE, "connection refused");
	for (int i = 0; i < 100 && strncmp(source_status(), "away since ", 11) != 0; i++)
		fixture_pass(&f, 100);
	snprintf(first, sizeof(first), "%s", source_status());
	cr_assert_eq(strncmp(first, "away since ", 11), 0, "%s", first);
	fixture_pass(&f, 60000);
	cr_assert_str_eq(source_status(), "connected");
	memory_fail(f.db, MEMORY_CHANGES, 1000000, 0, SHMETA_ERR_SOURCE, "connection refused");
	fixture_pass(&f, 5000);
	cr_assert_eq(strncmp(source_status(), "away since ", 11), 0, "%s", source_status());
	cr_expect_gt(strncmp(source_status(), first, when), 0, "%s, as the first: %s", source_status(), first);
	fixture_done(&f);
}

Test(sync_health, a_store_that_is_too_small_names_the_option_and_is_not_filled_again_and_again)
{
	uint64_t before;

	fixture_init(&f);
	f.options.store_max_bytes = 1 << 20;
	f.options.retry_max_ms = 15000;
	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		fixture_topic(&f, name, 8, 100, 1111);
	}
	fixture_open(&f);
	fixture_run(&f);
	cr_assert_eq(f.phase, SHMETA_PHASE_DEGRADED, "%s", f.log);
	cr_expect_not_null(strstr(f.sentence, "store.max_bytes = 1M"), "%s", f.sentence);
	before = loads();
	fixture_pass(&f, 14000);
	cr_expect_eq(loads(), before);
	fixture_pass(&f, 2000);
	cr_expect_eq(loads(), before + 1);
	fixture_done(&f);
}

Test(sync_health, a_source_that_cannot_be_written_says_so)
{
	fixture_init(&f);
	memory_set_read_only(f.db, true);
	fixture_open(&f);
	fixture_run(&f);
	cr_expect(fixture_logged(&f, "source_read_only"), "%s", f.log);
	cr_expect_str_eq(source_status(), "connected; it cannot be written");
	memory_set_read_only(f.db, false);
	fixture_pass(&f, 3000);
	cr_expect_str_eq(source_status(), "connected", "it looks at it again at each poll");
	fixture_done(&f);
}

Test(sync_health, a_source_without_room_refuses_what_is_written_and_is_not_away)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"new", 3}, .partition_count = 1}};

	open_serving();
	memory_fail(f.db, MEMORY_APPLY, 3, 0, SHMETA_ERR_FULL, "database or disk is full");
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
		fixture_run(&f);
		cr_assert_eq(f.writes_answered, i + 1, "a write is tried when it comes");
		cr_expect_eq(f.write_status, SHMETA_ERR_SOURCE);
		cr_expect_not_null(strstr(f.write_sentence, "database or disk is full"), "%s", f.write_sentence);
		cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 100 + i), SHMETA_OK);
		fixture_run(&f);
		cr_assert_not_null(fixture_answer(&f, 100 + i));
		cr_expect_eq(fixture_answer(&f, 100 + i)->status, SHMETA_OK, "%s",
		             fixture_answer(&f, 100 + i)->sentence);
		cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.sentence);
	}
	cr_expect_eq(logged("source_full: "), 1, "%s", f.log);
	cr_expect_eq(logged("source_away: "), 0, "%s", f.log);
	cr_expect_not_null(strstr(source_status(), "connected; it did not take the last write ("), "%s",
	                   source_status());
	/* There is room again, and the next write finds it. */
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_eq(f.writes_answered, 4);
	cr_expect_eq(f.write_status, SHMETA_OK, "%s", f.write_sentence);
	cr_expect_eq(logged("source_room: "), 1, "%s", f.log);
	cr_expect_str_eq(source_status(), "connected");
	fixture_done(&f);
}
