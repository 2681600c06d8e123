/* SPDX-License-Identifier: Apache-2.0
 * A source that is another one than before, or back in another state, is not believed when it lost
 * most of what the store shows. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/sync_fixture.h"

TestSuite(sync_accept, .timeout = 60);

static struct fixture f;
static uint64_t first_identity;

/* Ten topics of two partitions. */
static void open_ten(void)
{
	fixture_init(&f);
	f.options.retry_max_ms = 15000;
	f.options.reconcile_s = 300;
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		fixture_topic(&f, name, 2, 5, 1111);
	}
	fixture_open(&f);
	fixture_run(&f);
	fixture_pass(&f, 3000);
	cr_assert_eq(f.phase, SHMETA_PHASE_SERVING, "%s", f.log);
	cr_assert_null(fixture_difference(&f));
	first_identity = memory_identity(f.db);
}

static void delete_topics(int from, int to)
{
	for (int i = from; i < to; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		cr_assert(memory_delete_topic(f.db, NULL, name));
	}
}

/* Another source that lacks topics [from, to), noticed while it is followed. */
static void replace_without(int from, int to)
{
	memory_become(f.db, first_identity + 1);
	delete_topics(from, to);
	memory_drop_feed(f.db);
	fixture_pass(&f, 5000);
}

static struct sync_held held(void)
{
	struct sync_held ret;

	sync_read_held(f.sync, &ret);
	return ret;
}

static uint64_t loads(void)
{
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	return stats.calls[MEMORY_LOAD];
}

static size_t generations(void)
{
	DIR *dir = opendir(f.dir);
	size_t count = 0;

	cr_assert_not_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		count += strncmp(entry->d_name, "store.", 6) == 0;
	closedir(dir);
	return count;
}

static void expect_held(void)
{
	struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"new", 3}, .partition_count = 1}};
	struct sync_held now = held();
	char token[32];

	cr_assert(now.held, "%s", f.log);
	cr_expect_neq(now.fingerprint, 0);
	cr_expect_eq(f.phase, SHMETA_PHASE_DEGRADED);
	snprintf(token, sizeof(token), "%016llx", (unsigned long long)now.fingerprint);
	cr_expect_not_null(strstr(f.sentence, token), "%s", f.sentence);
	cr_expect_not_null(strstr(f.sentence, "shmetactl accept-source"), "%s", f.sentence);
	/* What the store showed is there, and gets older. */
	cr_expect_neq(fixture_topic_id(&f, "t9"), 0);
	uint64_t age = fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC);

	fixture_pass(&f, 1000);
	cr_expect_geq(fixture_stamp_age_ms(&f, SHMETA_CLASS_TOPIC), age + 1000);
	/* What needs the source is refused, at once. */
	f.answer_count = 0;
	f.writes_answered = 0;
	cr_assert_eq(fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t9", 0, 70), SHMETA_OK);
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_not_null(fixture_answer(&f, 70));
	cr_expect_eq(fixture_answer(&f, 70)->status, SHMETA_ERR_SOURCE);
	cr_assert_eq(f.writes_answered, 1);
	cr_expect_eq(f.write_status, SHMETA_ERR_SOURCE);
	cr_expect_not(memory_find_topic(f.db, NULL, "new"));
}

static void expect_published(void)
{
	fixture_pass(&f, 3000);
	cr_expect_eq(f.phase, SHMETA_PHASE_SERVING, "%s\n%s", f.sentence, f.log);
	cr_expect_not(held().held);
	cr_expect_eq(held().fingerprint, 0);
	cr_expect_null(fixture_difference(&f));
}

Test(sync_accept, another_source_that_lost_more_than_half_of_the_topics_is_not_published)
{
	open_ten();
	replace_without(0, 6);
	expect_held();
	cr_expect_leq(fixture_run(&f), 1000000000, "it would sleep and not see the old source come back");
	cr_expect_eq(held().topics, 10);
	cr_expect_eq(held().topics_lost, 6);
	cr_expect_eq(held().partitions, 20);
	cr_expect_eq(held().partitions_lost, 12);
	cr_expect_eq(f.board->generation, 1);
	fixture_done(&f);
}

Test(sync_accept, another_source_that_lost_half_is_published)
{
	open_ten();
	replace_without(0, 5);
	expect_published();
	cr_expect_eq(f.board->generation, 2);
	fixture_done(&f);
}

Test(sync_accept, names_are_compared_and_not_numbers_of_rows)
{
	open_ten();
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "other%d", i);
		fixture_topic(&f, name, 2, 5, 1111);
	}
	fixture_pass(&f, 3000);
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "other%d", i);
		memory_delete_topic(f.db, NULL, name);
		snprintf(name, sizeof(name), "new%d", i);
		fixture_topic(&f, name, 2, 5, 1111);
	}
	memory_become(f.db, first_identity + 1);
	memory_drop_feed(f.db);
	fixture_pass(&f, 5000);
	expect_held();
	cr_expect_eq(held().topics, 30);
	cr_expect_eq(held().topics_lost, 20);
	fixture_done(&f);
}

Test(sync_accept, lost_partitions_count_and_lost_segments_do_not)
{
	open_ten();
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		memory_delete_segments_before(f.db, NULL, name, 0, UINT64_MAX);
		memory_delete_segments_before(f.db, NULL, name, 1, UINT64_MAX);
	}
	memory_become(f.db, first_identity + 1);
	memory_drop_feed(f.db);
	expect_published();
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		memory_delete_partition(f.db, NULL, name, 0);
		if (i == 0)
			memory_delete_partition(f.db, NULL, name, 1);
	}
	memory_become(f.db, first_identity + 2);
	memory_drop_feed(f.db);
	fixture_pass(&f, 5000);
	expect_held();
	cr_expect_eq(held().topics_lost, 0);
	cr_expect_eq(held().partitions_lost, 11);
	fixture_done(&f);
}

Test(sync_accept, an_empty_source_is_held_over_kills_and_restarts)
{
	open_ten();
	fixture_crash(&f);
	memory_become(f.db, first_identity + 1);
	delete_topics(0, 10);
	memory_drop_feed(f.db);
	for (int i = 0; i < 3; i++) {
		f.now_ns += 1000000000;
		fixture_open(&f);
		cr_expect_neq(f.phase, SHMETA_PHASE_SERVING, "before it was read");
		fixture_run(&f);
		expect_held();
		fixture_pass(&f, 20000);
		expect_held();
		if (i == 1)
			fixture_close(&f);
		else
			fixture_crash(&f);
	}
	fixture_open(&f);
	fixture_run(&f);
	expect_held();
	fixture_done(&f);
}

Test(sync_accept, what_is_held_takes_no_memory_and_is_not_read_all_the_time)
{
	uint64_t before;

	open_ten();
	replace_without(0, 10);
	expect_held();
	before = loads();
	fixture_pass(&f, 120000);
	cr_expect_leq(loads(), before + 1);
	cr_expect_eq(generations(), 1);
	fixture_done(&f);
}

Test(sync_accept, consent_publishes_it_once)
{
	uint64_t fingerprint;

	open_ten();
	cr_expect_eq(sync_accept(f.sync, 1), SHMETA_ERR_NOT_FOUND);
	replace_without(0, 10);
	expect_held();
	fingerprint = held().fingerprint;
	cr_expect_eq(sync_accept(f.sync, fingerprint + 1), SHMETA_ERR_CONFLICT);
	fixture_pass(&f, 3000);
	cr_assert(held().held);
	cr_expect_eq(sync_accept(f.sync, fingerprint), SHMETA_OK);
	expect_published();
	cr_expect_eq(fixture_topic_id(&f, "t9"), 0);
	/* And back, and there again: another change, another consent. */
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		fixture_topic(&f, name, 2, 5, 1111);
	}
	memory_become(f.db, first_identity);
	memory_drop_feed(f.db);
	expect_published();
	f.options.accept = fingerprint;
	sync_reconfigure(f.sync, &f.options);
	replace_without(0, 10);
	expect_held();
	cr_expect_neq(held().fingerprint, fingerprint);
	fixture_done(&f);
}

Test(sync_accept, the_configuration_consents_to_a_fingerprint)
{
	open_ten();
	replace_without(0, 10);
	expect_held();
	f.options.accept = held().fingerprint;
	sync_reconfigure(f.sync, &f.options);
	expect_published();
	cr_expect_eq(fixture_topic_id(&f, "t9"), 0);
	fixture_done(&f);
}

Test(sync_accept, the_configuration_consents_at_the_start)
{
	open_ten();
	replace_without(0, 10);
	expect_held();
	f.options.accept = held().fingerprint;
	fixture_crash(&f);
	fixture_open(&f);
	fixture_run(&f);
	expect_published();
	fixture_done(&f);
}

Test(sync_accept, a_source_that_fills_up_again_is_published_by_itself)
{
	open_ten();
	replace_without(0, 10);
	expect_held();
	for (int i = 0; i < 10; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		fixture_topic(&f, name, 2, 5, 1111);
	}
	fixture_pass(&f, 20000);
	expect_published();
	fixture_done(&f);
}

Test(sync_accept, when_the_old_source_is_back_it_goes_on)
{
	uint64_t before;

	open_ten();
	memory_become(f.db, first_identity + 1);
	memory_lie_empty(f.db, 1000);
	fixture_add_segment(&f, "t3", 1, 5000, 1000);
	fixture_pass(&f, 5000);
	expect_held();
	memory_lie_empty(f.db, 0);
	memory_become(f.db, first_identity);
	before = loads();
	fixture_pass(&f, 3000);
	cr_expect_eq(loads(), before, "the feed does not go on where it was: %s", f.log);
	expect_published();
	cr_expect_eq(f.board->generation, 1);
	cr_expect(fixture_logged(&f, "source_returned"), "%s", f.log);
	fixture_done(&f);
}

Test(sync_accept, an_earlier_state_that_lacks_most_is_held_until_it_is_the_later_one_again)
{
	open_ten();
	memory_set_course(f.db, 1);
	memory_lie_empty(f.db, 1000);
	fixture_pass(&f, 5000);
	expect_held();
	cr_expect_not_null(strstr(f.log, "source_changed: memory: an earlier state was restored"), "%s", f.log);
	fixture_crash(&f);
	fixture_open(&f);
	fixture_run(&f);
	expect_held();
	memory_lie_empty(f.db, 0);
	memory_set_course(f.db, 0);
	fixture_pass(&f, 30000);
	expect_published();
	fixture_done(&f);
}

Test(sync_accept, an_earlier_state_that_lacks_little_is_shown)
{
	open_ten();
	memory_set_course(f.db, 1);
	delete_topics(0, 2);
	memory_drop_feed(f.db);
	expect_published();
	cr_expect_eq(fixture_topic_id(&f, "t1"), 0);
	fixture_done(&f);
}

Test(sync_accept, what_the_feed_names_is_never_held)
{
	open_ten();
	delete_topics(0, 9);
	expect_published();
	cr_expect_eq(f.board->generation, 1);
	cr_expect_eq(fixture_topic_id(&f, "t8"), 0);
	fixture_done(&f);
}

/* One bad row is no way round the judgement. */
Test(sync_accept, a_source_that_is_read_by_its_keys_is_judged_too)
{
	open_ten();
	cr_assert(memory_break_partition(f.db, "t0", 1, SHMETA_ERR_INVALID_ARGUMENT, "cannot be converted"));
	replace_without(2, 10);
	cr_assert(fixture_logged(&f, "read_by_keys"), "%s", f.log);
	cr_assert(held().held, "%s", f.log);
	cr_assert_eq(held().topics_lost, 8);
	cr_assert_eq(sync_accept(f.sync, held().fingerprint), SHMETA_OK);
	fixture_pass(&f, 5000);
	cr_assert(!held().held, "%s", f.log);
	cr_assert_eq(fixture_counters(&f).quarantined, 1);
	memory_mend_partition(f.db, "t0", 1);
	fixture_pass(&f, 60000);
	cr_assert_null(fixture_difference(&f));
	fixture_done(&f);
}
