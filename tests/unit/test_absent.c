/* SPDX-License-Identifier: Apache-2.0
 * Absences that are remembered: how long, how many, and that whatever may be there now is
 * forgotten. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/cpu_time.h"
#include "tests/support/sync_fixture.h"
#include "writer/keys/absent.h"

TestSuite(absent, .timeout = 60);

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

/* All names share a hash, so that only the names tell them apart. */
enum { HASH = 77 };

static void note(struct absent *a, const char *topic, int64_t partition, uint64_t read_at_ns)
{
	const struct absent_answer answer = {read_at_ns, read_at_ns + 1, 3};

	absent_note(a, HASH, str("tenant"), str(topic), partition, &answer);
}

static bool knows(const struct absent *a, const char *topic, int64_t partition, uint64_t now_ns)
{
	struct absent_answer answer;

	return absent_find(a, HASH, str("tenant"), str(topic), partition, now_ns, &answer);
}

Test(absent, what_is_noted_is_found_until_its_time_is_over)
{
	struct absent a = {.slots = 0};
	struct absent_answer answer = {0};

	absent_set_limits(&a, 10, 100);
	cr_expect_not(knows(&a, "t", ABSENT_TOPIC, 0), "nothing yet");
	note(&a, "t", ABSENT_TOPIC, 1000);
	cr_assert(absent_find(&a, HASH, str("tenant"), str("t"), ABSENT_TOPIC, 1099, &answer));
	cr_expect(answer.read_at_ns == 1000 && answer.txn == 1001 && answer.generation == 3);
	cr_expect_not(knows(&a, "t", ABSENT_TOPIC, 1100));
	cr_expect(knows(&a, "t", 5, 1050), "a partition of a topic that is absent");
	cr_expect_not(knows(&a, "T", ABSENT_TOPIC, 1050));
	cr_expect_not(absent_find(&a, HASH, str("other"), str("t"), ABSENT_TOPIC, 1050, &answer));
	note(&a, "t", ABSENT_TOPIC, 1090);
	cr_expect(knows(&a, "t", ABSENT_TOPIC, 1189), "found absent again");
	cr_expect_eq(a.count, 1);
	absent_free(&a);
}

Test(absent, a_partition_says_nothing_of_its_topic_nor_of_another)
{
	struct absent a = {.slots = 0};

	absent_set_limits(&a, 10, 100);
	note(&a, "t", 3, 1000);
	cr_expect(knows(&a, "t", 3, 1000));
	cr_expect_not(knows(&a, "t", 4, 1000));
	cr_expect_not(knows(&a, "t", ABSENT_TOPIC, 1000));
	absent_free(&a);
}

Test(absent, a_topic_that_may_be_there_is_forgotten_with_its_partitions_and_no_other)
{
	struct absent a = {.slots = 0};

	absent_set_limits(&a, 10, 100);
	note(&a, "t", ABSENT_TOPIC, 1000);
	note(&a, "u", 1, 1000);
	note(&a, "t", 1, 1000);
	note(&a, "t", 2, 1000);
	absent_forget(&a, HASH, str("tenant"), str("t"));
	cr_expect(!knows(&a, "t", ABSENT_TOPIC, 1000) && !knows(&a, "t", 1, 1000) && !knows(&a, "t", 2, 1000));
	cr_expect(knows(&a, "u", 1, 1000));
	cr_expect_eq(a.count, 1);
	absent_forget_all(&a);
	cr_expect_not(knows(&a, "u", 1, 1000));
	absent_free(&a);
}

Test(absent, there_are_never_more_than_the_limit_and_the_oldest_go)
{
	struct absent a = {.slots = 0};

	absent_set_limits(&a, 1000, 1000000);
	for (int i = 0; i < 5000; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "topic-%d", i);
		absent_note(&a, (uint64_t)i * 31, str("tenant"), str(name), ABSENT_TOPIC,
		            &(struct absent_answer){.read_at_ns = (uint64_t)i});
		cr_assert_leq(a.count, 1000);
	}
	for (int i = 0; i < 5000; i++) {
		struct absent_answer answer;
		char name[32];

		(void)snprintf(name, sizeof name, "topic-%d", i);
		cr_assert_eq(absent_find(&a, (uint64_t)i * 31, str("tenant"), str(name), ABSENT_TOPIC, 5000, &answer),
		             i >= 4000, "%d", i);
	}
	absent_set_limits(&a, 10, 1000000);
	cr_expect_eq(a.count, 10, "a smaller limit");
	absent_set_limits(&a, 10, 0);
	cr_expect_eq(a.count, 0, "no time at all");
	note(&a, "t", ABSENT_TOPIC, 1);
	cr_expect_eq(a.count, 0);
	absent_free(&a);
}

Test(absent, what_has_passed_its_time_makes_room_first)
{
	struct absent a = {.slots = 0};

	absent_set_limits(&a, 1000, 100);
	for (uint64_t i = 0; i < 50; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "topic-%d", (int)i);
		note(&a, name, ABSENT_TOPIC, 1000 + i);
	}
	note(&a, "t", ABSENT_TOPIC, 1120);
	cr_expect_eq(a.count, 30, "%zu", a.count);
	absent_free(&a);
}

/* ---- in the engine ---- */

static struct fixture f;
static uint64_t ticket;

static void open_silent(void)
{
	fixture_init(&f);
	f.options.absent_ttl_ms = 1000;
	f.options.absent_max = 100;
	f.options.write_queue_max = 1000;
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_run(&f);
	memory_silence(f.db, true);
	f.now_ns += 1000000000;
}

static void done(void)
{
	fixture_done(&f);
}

static uint64_t fetches(void)
{
	struct memory_stats stats;

	memory_read_stats(f.db, &stats);
	return stats.calls[MEMORY_FETCH];
}

/* Asks, waits for the answer; how often the source was asked for it. */
static uint64_t asked(enum shmeta_class cls, const char *topic, uint32_t partition, bool recent)
{
	uint64_t before = fetches(), mine = ++ticket;
	enum shmeta_status status = recent ? fixture_refresh_recent(&f, cls, topic, partition, mine)
	                                   : fixture_refresh(&f, cls, topic, partition, mine);

	cr_assert_eq(status, SHMETA_OK);
	if (fixture_answer(&f, mine) == NULL)
		fixture_run(&f);
	cr_assert_not_null(fixture_answer(&f, mine));
	cr_assert_eq(fixture_answer(&f, mine)->status, SHMETA_OK, "%s", fixture_answer(&f, mine)->sentence);
	cr_assert_leq(fixture_answer(&f, mine)->txn, fixture_committed(&f));
	return fetches() - before;
}

#define TOPIC(name) asked(SHMETA_CLASS_TOPIC, (name), 0, true)

Test(absent, a_name_that_does_not_exist_reaches_the_source_once_in_its_time, .init = open_silent, .fini = done)
{
	uint64_t read_at = f.now_ns;

	cr_expect_eq(TOPIC("none"), 1);
	f.now_ns += 999999999;
	for (int i = 0; i < 100; i++)
		cr_expect_eq(TOPIC("none"), 0);
	cr_expect_eq(fixture_answer(&f, ticket)->synced_at_ns, read_at, "the answer does not look younger than it is");
	cr_expect_eq(asked(SHMETA_CLASS_PARTITION, "none", 7, true), 0, "nor a partition of it");
	cr_expect_eq(asked(SHMETA_CLASS_TOPIC, "none", 0, false), 1, "who wants the source's word gets it");
	f.now_ns += 1000000000;
	cr_expect_eq(TOPIC("none"), 1);
	fixture_run(&f);
	cr_expect_eq(fixture_counters(&f).absent_answers, 101);
	cr_expect_eq(fixture_counters(&f).absent_known, 1);
}

Test(absent, a_partition_beyond_the_last_one_is_remembered_too, .init = open_silent, .fini = done)
{
	cr_expect_eq(asked(SHMETA_CLASS_PARTITION, "t", 4, true), 1);
	cr_expect_eq(asked(SHMETA_CLASS_SEGMENT, "t", 4, true), 0);
	cr_expect_eq(asked(SHMETA_CLASS_PARTITION, "t", 5, true), 1);
	cr_expect_eq(TOPIC("t"), 1, "there: asked every time");
	cr_expect_eq(TOPIC("t"), 1);
}

Test(absent, a_partition_of_no_topic_is_remembered_as_the_topic, .init = open_silent, .fini = done)
{
	cr_expect_eq(asked(SHMETA_CLASS_PARTITION, "none", 1, true), 1);
	cr_expect_eq(asked(SHMETA_CLASS_PARTITION, "none", 2, true), 0);
	cr_expect_eq(TOPIC("none"), 0);
}

Test(absent, a_topic_that_the_feed_names_is_asked_for_at_once, .init = open_silent, .fini = done)
{
	cr_expect_eq(TOPIC("none"), 1);
	memory_silence(f.db, false);
	fixture_topic(&f, "none", 1, 1, 2222);
	fixture_pass(&f, 100);
	cr_assert_neq(fixture_topic_id(&f, "none"), 0, "the feed brought it");
	cr_expect_eq(TOPIC("none"), 1, "no longer absent");
}

Test(absent, a_topic_that_was_written_here_is_asked_for_at_once, .init = open_silent, .fini = done)
{
	const struct shmeta_op op = {.type = SHMETA_OP_CREATE_TOPIC,
	                             .u.topic = {.name = str("none"), .partition_count = 1}};

	cr_expect_eq(TOPIC("none"), 1);
	cr_expect_eq(asked(SHMETA_CLASS_PARTITION, "t", 9, true), 1);
	cr_assert_eq(fixture_write(&f, &op, 1), SHMETA_OK);
	fixture_run(&f);
	cr_assert_neq(fixture_topic_id(&f, "none"), 0);
	cr_expect_eq(TOPIC("none"), 1, "no longer absent");
	cr_expect_eq(asked(SHMETA_CLASS_PARTITION, "t", 9, true), 0, "another topic's");
}

Test(absent, a_full_comparison_forgets_all_absences, .init = open_silent, .fini = done)
{
	cr_expect_eq(TOPIC("none"), 1);
	fixture_topic(&f, "none", 1, 1, 2222); /* in silence */
	cr_assert_eq(fixture_compare_all(&f, ++ticket), SHMETA_OK);
	fixture_pass(&f, 10);
	cr_assert_not_null(fixture_answer(&f, ticket));
	cr_assert_neq(fixture_topic_id(&f, "none"), 0);
	cr_expect_eq(TOPIC("none"), 1);
}

Test(absent, a_topic_that_a_refresh_finds_is_no_longer_absent, .init = open_silent, .fini = done)
{
	cr_expect_eq(TOPIC("none"), 1);
	fixture_topic(&f, "none", 1, 1, 2222); /* in silence */
	cr_expect_eq(TOPIC("none"), 0, "still");
	cr_expect_eq(asked(SHMETA_CLASS_TOPIC, "none", 0, false), 1);
	cr_assert_neq(fixture_topic_id(&f, "none"), 0);
	cr_expect_eq(TOPIC("none"), 1);
}

Test(absent, a_prefix_that_is_invalidated_is_no_longer_known_to_be_absent, .init = open_silent, .fini = done)
{
	const struct sync_invalidation what = {
		.cls = SHMETA_CLASS_TOPIC, .tenant = str(SHMETA_DEFAULT_TENANT), .topic = str("no"), .prefix = true};

	cr_expect_eq(TOPIC("none"), 1);
	cr_assert_eq(sync_invalidate(f.sync, &what, UINT64_MAX, "test", ++ticket), SHMETA_OK);
	fixture_run(&f);
	cr_assert_not_null(fixture_answer(&f, ticket));
	cr_expect_eq(TOPIC("none"), 1);
}

Test(absent, a_source_that_fails_has_not_said_that_anything_is_absent, .init = open_silent, .fini = done)
{
	memory_fail(f.db, MEMORY_FETCH, 1, 0, SHMETA_ERR_SOURCE, "pulled out");
	cr_assert_eq(fixture_refresh_recent(&f, SHMETA_CLASS_TOPIC, "none", 0, ++ticket), SHMETA_OK);
	fixture_run(&f);
	cr_expect_eq(fixture_answer(&f, ticket)->status, SHMETA_ERR_SOURCE);
	fixture_pass(&f, 60000);
	cr_expect_eq(TOPIC("none"), 1);
}

Test(absent, names_without_end_take_no_more_than_their_share, .init = open_silent, .fini = done)
{
	for (int i = 0; i < 1000; i++) {
		char name[32];

		(void)snprintf(name, sizeof name, "none-%d", i);
		cr_assert_eq(TOPIC(name), 1);
	}
	fixture_run(&f);
	cr_expect_eq(fixture_counters(&f).absent_known, 100);
	cr_expect_eq(TOPIC("none-999"), 0);
	cr_expect_eq(TOPIC("none-0"), 1);
}

Test(absent, a_topic_that_was_named_but_not_read_yet_is_not_called_absent, .init = open_silent, .fini = done)
{
	cr_expect_eq(TOPIC("none"), 1);
	memory_silence(f.db, false);
	fixture_topic(&f, "none", 1, 1, 2222);
	memory_fail(f.db, MEMORY_FETCH, 1, 0, SHMETA_ERR_SOURCE, "pulled out");
	for (int i = 0; i < 100 && !fixture_logged(&f, "source_away"); i++) {
		f.now_ns += 5000000;
		fixture_run(&f);
	}
	cr_assert(fixture_logged(&f, "source_away"));
	cr_assert_eq(fixture_topic_id(&f, "none"), 0);
	cr_assert_eq(fixture_refresh_recent(&f, SHMETA_CLASS_TOPIC, "none", 0, ++ticket), SHMETA_OK);
	cr_expect_null(fixture_answer(&f, ticket), "answered from memory");
	fixture_pass(&f, 60000);
	cr_assert_not_null(fixture_answer(&f, ticket));
	cr_expect_neq(fixture_topic_id(&f, "none"), 0);
}

/* To note, find and forget so many partitions, each of a topic of its own or all of one, in ns. */
static uint64_t cost_of_partitions(bool of_one_topic)
{
	enum { PARTITIONS = 50000 };
	const struct absent_answer answer = {1000, 1001, 3};
	struct absent a = {.slots = 0};
	struct absent_answer found;
	uint64_t began = cpu_time_ns();

	absent_set_limits(&a, PARTITIONS, 100);
	for (uint64_t i = 0; i < PARTITIONS; i++)
		absent_note(&a, of_one_topic ? HASH : i * 0x9E3779B97F4A7C15u, str("tenant"), str("t"), (int64_t)i,
		            &answer);
	for (uint64_t i = 0; i < PARTITIONS; i++)
		cr_assert(absent_find(&a, of_one_topic ? HASH : i * 0x9E3779B97F4A7C15u, str("tenant"), str("t"),
		                      (int64_t)i, 1000, &found));
	for (uint64_t i = 0; i < (of_one_topic ? 1 : PARTITIONS); i++)
		absent_forget(&a, of_one_topic ? HASH : i * 0x9E3779B97F4A7C15u, str("tenant"), str("t"));
	cr_expect_eq(a.count, 0);
	absent_free(&a);
	return cpu_time_ns() - began;
}

Test(absent, partitions_of_one_topic_are_found_as_fast_as_topics)
{
	uint64_t topics = cost_of_partitions(false), partitions = cost_of_partitions(true);

	cr_expect_lt(partitions, 50 * topics, "%llu ns, %llu for topics", (unsigned long long)partitions,
	             (unsigned long long)topics);
}
