/* SPDX-License-Identifier: Apache-2.0
 * What is resident, by key: the budgets hold, what is used stays, and what just came is not the
 * next to leave. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "writer/resident/resident_set.h"

TestSuite(resident_set, .timeout = 60);

enum { BYTES = 1000 };

static uint64_t key_of(uint32_t topic, uint32_t partition)
{
	return (uint64_t)topic << 32 | partition;
}

static struct resident_set *make(uint32_t topics, uint32_t partitions, uint64_t segment_bytes, uint64_t bytes)
{
	const struct resident_budget budget = {.max_topics = topics,
	                                       .max_partitions = partitions,
	                                       .max_segment_bytes = segment_bytes,
	                                       .max_bytes = bytes,
	                                       .batch_percent = 2,
	                                       .hot_touches = 1};
	struct resident_set *r = resident_new(&budget, 64);

	cr_assert_not_null(r);
	return r;
}

/* All that has to leave does; how many they are. gone: may be NULL. */
static size_t evict(struct resident_set *r, uint64_t content, void (*gone)(uint64_t key))
{
	uint64_t victim[16];
	size_t all = 0, n;

	while ((n = resident_victims(r, content, false, victim, 16)) > 0) {
		for (size_t i = 0; i < n; i++) {
			if (gone != NULL)
				gone(victim[i]);
			resident_drop(r, victim[i]);
		}
		all += n;
	}
	return all;
}

Test(resident_set, each_budget_holds)
{
	struct resident_set *r = make(10, 100, 50 * BYTES, 1000 * BYTES);

	for (uint32_t i = 0; i < 20; i++)
		cr_assert(resident_put(r, key_of(i, RESIDENT_TOPIC), 100));
	for (uint32_t i = 0; i < 60; i++)
		cr_assert(resident_put(r, key_of(1, i), BYTES));
	cr_expect(resident_exceeds(r, 0));
	evict(r, 0, NULL);
	cr_expect_not(resident_exceeds(r, 0));
	cr_expect_leq(resident_topics(r), 10);
	cr_expect_leq(resident_segment_bytes(r), 50 * BYTES);
	cr_expect_geq(resident_partitions(r), 45, "and no more leave than a batch");
	resident_free(r);
}

Test(resident_set, what_the_store_takes_beside_the_records_counts)
{
	struct resident_set *r = make(10, 100, 1000 * BYTES, 100 * BYTES);

	for (uint32_t i = 0; i < 50; i++)
		cr_assert(resident_put(r, key_of(1, i), BYTES));
	/* A 64th is kept for records that pass. */
	cr_expect_eq(evict(r, 98 * BYTES, NULL), 0);
	cr_expect_not(resident_exceeds(r, 98 * BYTES));
	cr_expect(resident_exceeds(r, 99 * BYTES));
	/* Half of the content is the records'. */
	cr_expect_gt(evict(r, 150 * BYTES, NULL), 45);
	resident_free(r);
}

Test(resident_set, a_record_keeps_its_place_when_it_changes_and_gives_it_back_when_it_goes)
{
	struct resident_set *r = make(10, 10, 1000 * BYTES, 10000 * BYTES);

	for (int round = 0; round < 1000; round++) {
		cr_assert(resident_put(r, key_of(1, 7), (uint64_t)round));
		cr_assert_eq(resident_partitions(r), 1);
		if (round % 3 == 0)
			resident_drop(r, key_of(1, 7));
	}
	resident_drop(r, key_of(1, 7));
	resident_drop(r, key_of(1, 7));
	cr_expect_eq(resident_partitions(r), 0);
	cr_expect_eq(resident_segment_bytes(r), 0);
	resident_free(r);
}

static uint32_t left_at;
static uint32_t newest;

static void not_the_newest(uint64_t key)
{
	cr_assert_neq((uint32_t)key, newest, "after %u", left_at);
}

Test(resident_set, what_just_came_does_not_leave)
{
	struct resident_set *r = make(10, 100, 1000 * BYTES, 10000 * BYTES);

	for (left_at = 0; left_at < 10000; left_at++) {
		newest = left_at;
		cr_assert(resident_put(r, key_of(1, newest), BYTES));
		evict(r, 0, not_the_newest);
		cr_assert_leq(resident_partitions(r), 100);
	}
	resident_free(r);
}

static bool is_hot(void *arg, uint64_t key)
{
	(void)arg;
	return (uint32_t)key < 10;
}

static uint32_t hot_gone;

static void count_hot(uint64_t key)
{
	hot_gone += is_hot(NULL, key) || (uint32_t)key == RESIDENT_TOPIC;
}

Test(resident_set, a_scan_does_not_push_out_what_is_used)
{
	struct resident_set *r = make(1, 1000, 10000 * BYTES, 10000 * BYTES);

	hot_gone = 0;
	cr_assert(resident_put(r, key_of(1, RESIDENT_TOPIC), 100));
	for (uint32_t i = 0; i < 10; i++)
		cr_assert(resident_put(r, key_of(1, i), BYTES));
	for (uint32_t i = 10; i < 100000; i++) {
		cr_assert(resident_put(r, key_of(1, i), BYTES));
		if (resident_exceeds(r, 0))
			resident_touch(r, is_hot, NULL);
		evict(r, 0, count_hot);
	}
	cr_expect_eq(hot_gone, 0);
	resident_free(r);
}

static bool is_the_first_partition(void *arg, uint64_t key)
{
	(void)arg;
	return key == key_of(0, 0);
}

Test(resident_set, a_topic_of_which_a_partition_is_used_stays)
{
	struct resident_set *r = make(10, 1000, 1000 * BYTES, 10000 * BYTES);

	cr_assert(resident_put(r, key_of(0, RESIDENT_TOPIC), 100));
	cr_assert(resident_put(r, key_of(0, 0), BYTES));
	for (uint32_t i = 1; i < 200; i++) {
		cr_assert(resident_put(r, key_of(i, RESIDENT_TOPIC), 100));
		for (int n = 0; n < 4; n++)
			resident_touch(r, is_the_first_partition, NULL);
		evict(r, 0, NULL);
		cr_assert_leq(resident_topics(r), 10);
	}
	cr_expect(resident_has(r, key_of(0, RESIDENT_TOPIC)));
	resident_free(r);
}

Test(resident_set, where_all_is_used_the_oldest_leave)
{
	struct resident_set *r = make(10, 20, 1000 * BYTES, 10000 * BYTES);

	for (uint32_t i = 0; i < 200; i++) {
		cr_assert(resident_put(r, key_of(1, i % 10), BYTES));
		cr_assert(resident_put(r, key_of(2, i), BYTES));
		for (int n = 0; n < 4; n++)
			resident_touch(r, is_hot, NULL);
		evict(r, 0, NULL);
		cr_assert_leq(resident_partitions(r), 20);
	}
	resident_free(r);
}

Test(resident_set, without_a_place_something_leaves_for_the_next)
{
	const struct resident_budget budget = {.max_topics = 1,
	                                       .max_partitions = 1000,
	                                       .max_segment_bytes = UINT32_MAX,
	                                       .max_bytes = UINT32_MAX,
	                                       .batch_percent = 2,
	                                       .hot_touches = 1};
	struct resident_set *r = resident_new(&budget, 0);
	uint64_t victim[16];

	for (uint32_t i = 0; i < 1001; i++)
		cr_assert(resident_put(r, key_of(1, i), BYTES));
	cr_assert_not(resident_put(r, key_of(1, 1001), BYTES));
	cr_assert_gt(resident_victims(r, 0, true, victim, 16), 0);
	resident_drop(r, victim[0]);
	cr_expect(resident_put(r, key_of(1, 1001), BYTES));
	resident_free(r);
}

Test(resident_set, where_all_is_used_what_just_came_stays_for_a_while)
{
	struct resident_set *r = make(4, 20, 1000 * BYTES, 10000 * BYTES);

	for (uint32_t i = 0; i < 9; i++)
		cr_assert(resident_put(r, key_of(1, i), BYTES));
	for (uint32_t i = 0; i < 1000; i++) {
		newest = left_at = 100 + i;
		resident_tick(r);
		cr_assert(resident_put(r, key_of(1, newest), BYTES));
		for (int n = 0; n < 4; n++)
			resident_touch(r, is_hot, NULL);
		evict(r, 0, not_the_newest);
		cr_assert_leq(resident_partitions(r), 20);
	}
	for (uint32_t i = 0; i < 100; i++) {
		newest = left_at = 10000 + i;
		cr_assert(resident_put(r, key_of(1, newest), BYTES));
		evict(r, 0, not_the_newest);
		cr_assert_leq(resident_partitions(r), 20, "many within a tick");
	}
	resident_free(r);
}

Test(resident_set, with_room_for_a_few_alone_the_newest_stays)
{
	struct resident_set *r = make(4, 20, 1000 * BYTES, 10000 * BYTES);
	uint64_t victim[4];

	for (uint32_t i = 0; i < 1000; i++) {
		resident_tick(r);
		cr_assert(resident_put(r, key_of(i, RESIDENT_TOPIC), BYTES));
		for (size_t n; (n = resident_victims(r, 0, false, victim, 4)) > 0;)
			for (size_t k = 0; k < n; k++) {
				cr_assert_neq(victim[k] >> 32, i);
				resident_drop(r, victim[k]);
			}
		cr_assert_leq(resident_topics(r), 4);
	}
	resident_free(r);
}

Test(resident_set, what_is_used_stays_beside_what_just_came)
{
	struct resident_set *r = make(4, 100, 1000 * BYTES, 10000 * BYTES);
	uint64_t victim[4];

	for (uint32_t i = 0; i < 1000; i++) {
		resident_tick(r);
		cr_assert(resident_put(r, key_of(i, RESIDENT_TOPIC), BYTES));
		cr_assert(resident_put(r, key_of(0, i % 10), BYTES));
		resident_touch(r, is_hot, NULL);
		for (size_t n; (n = resident_victims(r, 0, false, victim, 4)) > 0;)
			for (size_t k = 0; k < n; k++) {
				cr_assert(victim[k] >> 32 != i && victim[k] >> 32 != 0, "%u", i);
				resident_drop(r, victim[k]);
			}
		cr_assert_leq(resident_topics(r), 4);
	}
	resident_free(r);
}

static bool uses_even(void *arg, uint64_t key)
{
	(void)arg;
	return (uint32_t)key % 2 == 0;
}

Test(resident_set, what_is_due_is_named_when_it_was_used_since_it_came)
{
	struct resident_set *r = make(10, 100, 1000 * BYTES, 1000 * BYTES);
	uint64_t key[10];

	for (uint32_t i = 0; i < 10; i++) {
		cr_assert(resident_put(r, key_of(1, i), BYTES));
		resident_expires(r, key_of(1, i), i < 4 ? 1000 + i : i == 4 ? 0 : 5000);
	}
	cr_expect_eq(resident_due(r, 9000, 9999, key, 10), 0, "nothing was used");
	resident_touch(r, uses_even, NULL);
	cr_expect_eq(resident_due(r, 999, 9999, key, 10), 0);
	cr_expect_eq(resident_due(r, 1001, 2000, key, 10), 1);
	cr_expect_eq(key[0], key_of(1, 0));
	cr_expect_eq(resident_due(r, 1999, 3000, key, 1), 0 + 1);
	cr_expect_eq(key[0], key_of(1, 2));
	cr_expect_eq(resident_due(r, 2000, 3000, key, 10), 1, "it is named again as long as it was not read");
	cr_expect_eq(key[0], key_of(1, 0));
	/* It was read. */
	resident_expires(r, key_of(1, 0), 2500);
	cr_expect_eq(resident_due(r, 2999, 9000, key, 10), 0);
	resident_touch(r, uses_even, NULL);
	cr_expect_eq(resident_due(r, 2999, 9000, key, 10), 1);
	cr_expect_eq(resident_due(r, 5000, 9000, key, 1), 1, "no more than there is room for");
	cr_expect_eq(resident_due(r, 5000, 9000, key, 10), 2);
	/* Another record takes the place of one that left. */
	resident_drop(r, key_of(1, 6));
	cr_assert(resident_put(r, key_of(2, 6), BYTES));
	resident_touch(r, uses_even, NULL);
	cr_expect_eq(resident_due(r, UINT64_MAX - 1, UINT64_MAX, key, 10), 3);
	for (int i = 0; i < 3; i++)
		cr_expect(key[i] == key_of(1, 0) || key[i] == key_of(1, 2) || key[i] == key_of(1, 8));
	resident_free(r);
}
