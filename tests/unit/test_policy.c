/* SPDX-License-Identifier: Apache-2.0
 * Which resident records leave. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/random.h"
#include "writer/resident/policy.h"

TestSuite(policy, .timeout = 60);

enum { SLOTS = 1000, RECORD = 100 };

static struct policy_config config_of(uint32_t slots, uint64_t max_bytes)
{
	struct policy_config c = policy_defaults;

	c.slots = slots;
	c.max_bytes = max_bytes;
	c.passing_part = 0;
	memset(c.class_bytes, 0, sizeof c.class_bytes);
	memset(c.class_records, 0, sizeof c.class_records);
	return c;
}

static struct policy *policy_of(const struct policy_config *c)
{
	struct policy *p = policy_new(c);

	cr_assert_not_null(p);
	return p;
}

static void touch(struct policy *p, uint32_t slot, int times)
{
	uint8_t map[SLOTS] = {0};

	for (int i = 0; i < times; i++) {
		map[slot] = 0xff;
		policy_touch_map(p, map, SLOTS);
		cr_expect_eq(map[slot], 0);
	}
}

/* What a store does: choose, remove, forget. Returns how many left; *ret_free, when wanted, is one
 * of them. */
static uint32_t evict(struct policy *p, uint64_t want, const uint64_t *hash, uint32_t *ret_slots, uint32_t n)
{
	uint32_t slots[SLOTS], count = policy_victims(p, POLICY_NORMAL, want, slots, n);

	for (uint32_t i = 0; i < count; i++)
		policy_evicted(p, slots[i], hash != NULL ? hash[slots[i]] : slots[i]);
	if (ret_slots != NULL)
		memcpy(ret_slots, slots, count * sizeof *slots);
	return count;
}

Test(policy, a_scan_of_100000_keys_evicts_none_of_100_hot_records)
{
	struct policy_config c = config_of(SLOTS, (uint64_t)SLOTS * RECORD);
	struct policy *p = policy_of(&c);
	uint64_t hash[SLOTS];
	uint8_t map[SLOTS] = {0};
	uint32_t free_slots[SLOTS], free_count = 0, left = 0;

	for (uint32_t i = 0; i < SLOTS; i++) {
		hash[i] = i;
		cr_assert(policy_add(p, i, POLICY_PARTITION, RECORD, i));
	}
	for (int i = 0; i < 3; i++) {
		memset(map, 1, 100);
		policy_touch_map(p, map, SLOTS);
	}
	for (uint64_t key = SLOTS; key < SLOTS + 100000; key++) {
		if (free_count == 0) {
			memset(map, 1, 100);
			policy_touch_map(p, map, SLOTS);
			free_count = evict(p, RECORD, hash, free_slots, SLOTS);
			cr_assert_gt(free_count, 0);
			left += free_count;
		}
		hash[free_slots[--free_count]] = key;
		cr_assert(policy_add(p, free_slots[free_count], POLICY_PARTITION, RECORD, key));
		cr_assert_leq(policy_bytes(p), c.max_bytes);
	}
	cr_expect_geq(left, 100000);
	for (uint32_t i = 0; i < 100; i++)
		cr_expect_eq(hash[i], i, "hot record %u left", i);
	policy_free(p);
}

Test(policy, a_call_ends_when_all_records_are_hot)
{
	struct policy_config c = config_of(SLOTS, (uint64_t)SLOTS * RECORD);
	struct policy *p = policy_of(&c);
	uint8_t map[SLOTS];

	for (uint32_t passes = 1; passes <= 8; passes++) {
		c.passes = passes;
		cr_assert(policy_configure(p, &c));
		for (uint32_t i = 0; i < SLOTS; i++)
			(void)policy_add(p, i, POLICY_TOPIC, RECORD, i);
		for (int i = 0; i < 8; i++) {
			memset(map, 1, sizeof map);
			policy_touch_map(p, map, SLOTS);
		}
		cr_expect_eq(evict(p, RECORD, NULL, NULL, SLOTS), 51, "5 percent, and the one that is wanted");
	}
	policy_free(p);
}

/* All of them in the main queue and touched as often as it counts: no pass but the last finds a
 * victim. */
Test(policy, where_every_record_was_touched_more_often_than_there_are_passes_the_oldest_leave)
{
	struct policy_config c = config_of(SLOTS, 20 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t gone[SLOTS];

	for (uint32_t i = 0; i < 20; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	cr_assert_geq(evict(p, 9 * RECORD, NULL, gone, SLOTS), 9);
	for (uint32_t i = 0; i < 9; i++) /* their ghosts live */
		(void)policy_add(p, gone[i], POLICY_PARTITION, RECORD, gone[i]);
	for (uint32_t i = 0; i < 20; i++) {
		if (policy_place(p, i).resident && !policy_place(p, i).in_main)
			policy_remove(p, i);
		touch(p, i, POLICY_COUNT_MAX);
	}
	cr_assert_eq(policy_bytes(p), 9 * RECORD);
	c.passes = 1;
	c.max_bytes = 9 * RECORD;
	cr_assert(policy_configure(p, &c));
	cr_expect_gt(evict(p, RECORD, NULL, gone, SLOTS), 0);
	policy_free(p);
}

Test(policy, a_record_that_came_in_the_last_ticks_leaves_after_those_that_were_touched)
{
	struct policy_config c = config_of(SLOTS, 10 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t gone[SLOTS];

	policy_tick(p);
	for (uint32_t i = 0; i < 5; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	for (int i = 0; i < POLICY_YOUNG_TICKS; i++)
		policy_tick(p);
	for (uint32_t i = 0; i < 5; i++)
		touch(p, i, POLICY_COUNT_MAX);
	for (uint32_t i = 5; i < 10; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	cr_assert_geq(evict(p, 3 * RECORD, NULL, gone, SLOTS), 3);
	for (uint32_t i = 0; i < 3; i++)
		cr_expect_lt(gone[i], 5, "%u came just now", gone[i]);
	policy_free(p);
}

/* Ticks are counted modulo something: a cycle that records live to see makes old ones of the small
 * queue look young. */
Test(policy, a_record_that_came_once_leaves_before_one_that_came_back_however_many_ticks_ago)
{
	uint32_t gone[SLOTS];

	for (int ticks = POLICY_YOUNG_TICKS; ticks < 100000; ticks = ticks < 1000 ? ticks + 1 : ticks * 2) {
		struct policy_config c = config_of(SLOTS, 2 * RECORD);
		struct policy *p = policy_of(&c);

		(void)policy_add(p, 0, POLICY_PARTITION, RECORD, 0);
		(void)policy_add(p, 2, POLICY_PARTITION, RECORD, 2);
		cr_assert_eq(evict(p, RECORD, NULL, gone, 1), 1);
		(void)policy_add(p, 0, POLICY_PARTITION, RECORD, 0); /* its ghost lives */
		cr_assert(policy_place(p, 0).in_main);
		policy_remove(p, 2);
		policy_tick(p);
		(void)policy_add(p, 1, POLICY_PARTITION, RECORD, 1);
		for (int i = 0; i < ticks; i++)
			policy_tick(p);
		cr_assert_eq(evict(p, RECORD, NULL, gone, 1), 1);
		cr_assert_eq(gone[0], 1, "after %d ticks one left that had come back", ticks);
		policy_free(p);
	}
}

Test(policy, hot_records_outlive_touched_ones_by_as_many_passes_as_they_were_touched)
{
	struct policy_config c = config_of(SLOTS, 10 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t gone[SLOTS];

	for (uint32_t i = 0; i < 10; i++) {
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
		touch(p, i, 1);
	}
	c.batch_percent = 50;
	cr_assert(policy_configure(p, &c));
	/* all have moved to the main queue; the oldest six left */
	cr_assert_eq(evict(p, RECORD, NULL, gone, 6), 6);
	for (uint32_t i = 0; i < 6; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, UINT64_C(1000) + i);
	touch(p, 6, 3);
	touch(p, 7, 1);
	cr_assert_eq(evict(p, 5 * RECORD, NULL, gone, 9), 9);
	cr_expect_neq(gone[8], 6);
	cr_expect(policy_place(p, 6).resident, "the hottest is the one that stays");
	policy_free(p);
}

Test(policy, a_touched_record_of_the_small_queue_moves_to_the_main_queue_and_an_untouched_one_leaves)
{
	struct policy_config c = config_of(SLOTS, 10 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t gone[SLOTS];

	for (uint32_t i = 0; i < 10; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	touch(p, 0, 1);
	cr_assert_eq(evict(p, RECORD, NULL, gone, 1), 1);
	cr_expect_eq(gone[0], 1);
	cr_expect(policy_place(p, 0).in_main);
	c.hot_touches = 2;
	cr_assert(policy_configure(p, &c));
	touch(p, 2, 1);
	touch(p, 3, 2);
	cr_assert_eq(evict(p, 2 * RECORD, NULL, gone, 2), 2);
	cr_expect_eq(gone[0], 2, "one touch is not enough");
	cr_expect_eq(gone[1], 4);
	cr_expect(policy_place(p, 3).in_main);
	policy_free(p);
}

Test(policy, a_key_that_comes_back_enters_the_main_queue_once)
{
	struct policy_config c = config_of(SLOTS, 10 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t gone[SLOTS];

	for (uint32_t i = 0; i < 10; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, UINT64_C(777000) + i);
	cr_assert_eq(policy_victims(p, POLICY_NORMAL, RECORD, gone, 1), 1);
	cr_assert_eq(gone[0], 0);
	policy_evicted(p, 0, 777000);
	cr_expect_not(policy_place(p, 0).resident);
	(void)policy_add(p, 20, POLICY_PARTITION, RECORD, 777000);
	cr_expect(policy_place(p, 20).in_main);
	(void)policy_add(p, 21, POLICY_PARTITION, RECORD, 777000);
	cr_expect_not(policy_place(p, 21).in_main);
	(void)policy_add(p, 22, POLICY_PARTITION, RECORD, 888000);
	cr_expect_not(policy_place(p, 22).in_main, "a key that was never here");
	policy_free(p);
}

Test(policy, a_key_that_left_before_as_many_others_as_there_are_records_is_forgotten)
{
	struct policy_config c = config_of(SLOTS, 10 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t slot;

	for (uint32_t i = 0; i < 10; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	for (uint64_t key = 10; key < 30; key++) {
		cr_assert_eq(policy_victims(p, POLICY_NORMAL, RECORD, &slot, 1), 1);
		policy_evicted(p, slot, key - 10);
		(void)policy_add(p, slot, POLICY_PARTITION, RECORD, key);
	}
	/* Keys 0 to 19 left. */
	(void)policy_add(p, 500, POLICY_PARTITION, RECORD, 19);
	cr_expect(policy_place(p, 500).in_main);
	(void)policy_add(p, 501, POLICY_PARTITION, RECORD, 3);
	cr_expect_not(policy_place(p, 501).in_main);
	policy_free(p);
}

Test(policy, bytes_are_never_counted_twice)
{
	struct policy_config c = config_of(SLOTS, 10 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t first[SLOTS], second[SLOTS], n;

	for (uint32_t i = 0; i < 20; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	(void)policy_add(p, 5, POLICY_PARTITION, RECORD, 5);
	cr_expect_eq(policy_bytes(p), 20 * RECORD, "a slot that is added again counts once");
	n = policy_victims(p, POLICY_NORMAL, 0, first, SLOTS);
	cr_assert_eq(n, 11); /* ten too many, and the batch of 5 percent is a part of one */
	cr_expect_eq(policy_bytes(p), 20 * RECORD, "victims are still in the store");
	cr_expect_eq(policy_victims(p, POLICY_NORMAL, 0, second, SLOTS), 0,
	             "what leaves already is not asked to leave again");
	(void)policy_add(p, first[0], POLICY_PARTITION, 3 * RECORD, first[0]);
	cr_expect_eq(policy_bytes(p), 22 * RECORD, "a victim may change its size");
	policy_keep(p, first[0]);
	policy_remove(p, first[1]);
	policy_evicted(p, first[1], 1);
	cr_expect_eq(policy_bytes(p), 21 * RECORD);
	for (uint32_t i = 2; i < n; i++) {
		policy_evicted(p, first[i], first[i]);
		policy_evicted(p, first[i], first[i]);
	}
	cr_expect_eq(policy_bytes(p), 12 * RECORD);
	cr_expect_eq(policy_class_records(p, POLICY_PARTITION), 10);
	cr_assert_eq(policy_victims(p, POLICY_NORMAL, 0, second, SLOTS), 3);
	for (uint32_t i = 0; i < 3; i++)
		cr_expect_neq(second[i], first[0], "what was kept has come back as the newest");
	for (uint32_t i = 0; i < 20; i++)
		policy_remove(p, i);
	cr_expect_eq(policy_bytes(p), 0);
	policy_free(p);
}

Test(policy, a_large_record_makes_as_much_room_as_many_small_ones)
{
	struct policy_config c = config_of(SLOTS, 1000 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t gone[SLOTS];

	(void)policy_add(p, 0, POLICY_PARTITION, 500 * RECORD, 0);
	for (uint32_t i = 1; i <= 500; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	cr_assert_eq(evict(p, 10 * RECORD, NULL, gone, SLOTS), 1);
	cr_expect_eq(gone[0], 0);
	for (uint32_t i = 501; i < SLOTS; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	(void)policy_add(p, 0, POLICY_PARTITION, RECORD, 0);
	cr_expect_eq(evict(p, 10 * RECORD, NULL, NULL, SLOTS), 60);
	policy_free(p);
}

Test(policy, blocks_leave_before_partitions_and_those_before_topics)
{
	struct policy_config c = config_of(SLOTS, 9 * RECORD);
	struct policy *p = policy_of(&c);
	uint32_t gone[SLOTS];

	for (uint32_t i = 0; i < 3; i++) {
		(void)policy_add(p, i, POLICY_TOPIC, RECORD, i);
		(void)policy_add(p, 10 + i, POLICY_PARTITION, RECORD, 10 + i);
		(void)policy_add(p, 20 + i, POLICY_BLOCK, RECORD, 20 + i);
	}
	touch(p, 21, 1);
	cr_assert_eq(evict(p, 6 * RECORD, NULL, gone, 6), 6);
	cr_expect_eq(gone[0], 20);
	cr_expect_eq(gone[1], 22);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(gone[2 + i], 10u + (uint32_t)i,
		             "partitions that nobody uses leave before a block that is used");
	cr_expect_eq(gone[5], 0);
	policy_free(p);
}

Test(policy, a_batch_is_the_configured_part_of_the_budget)
{
	static const uint32_t percents[] = {1, 5, 20, 50};

	for (size_t k = 0; k < sizeof percents / sizeof *percents; k++) {
		struct policy_config c = config_of(SLOTS, (uint64_t)SLOTS * RECORD);
		struct policy *p;

		c.batch_percent = percents[k];
		p = policy_of(&c);
		for (uint32_t i = 0; i < SLOTS; i++)
			(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
		cr_expect_eq(evict(p, 0, NULL, NULL, SLOTS), 0, "the budget holds");
		cr_expect_eq(evict(p, 1, NULL, NULL, SLOTS), SLOTS * percents[k] / 100 + 1);
		policy_free(p);
	}
}

Test(policy, each_class_has_a_budget_of_its_own)
{
	struct policy_config c = config_of(SLOTS, 0);
	struct policy *p;
	uint32_t gone[SLOTS];

	c.class_records[POLICY_TOPIC] = 10;
	c.class_bytes[POLICY_BLOCK] = 20 * RECORD;
	p = policy_of(&c);
	for (uint32_t i = 0; i < 12; i++)
		(void)policy_add(p, i, POLICY_TOPIC, RECORD, i);
	for (uint32_t i = 100; i < 200; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	for (uint32_t i = 200; i < 221; i++)
		(void)policy_add(p, i, POLICY_BLOCK, RECORD, i);
	cr_assert_eq(evict(p, 0, NULL, gone, SLOTS), 4);
	cr_expect_eq(gone[0], 200);
	cr_expect_eq(gone[1], 201);
	cr_expect_eq(gone[2], 0);
	cr_expect_eq(gone[3], 1);
	cr_expect_eq(policy_class_records(p, POLICY_TOPIC), 10);
	cr_expect_eq(policy_class_bytes(p, POLICY_BLOCK), 19 * RECORD);
	policy_free(p);
}

Test(policy, pressure_makes_records_leave_also_within_the_budgets)
{
	struct policy_config c = config_of(SLOTS, 0);
	struct policy *p = policy_of(&c);
	uint32_t slots[SLOTS];
	static const struct {
		uint64_t used;
		enum policy_level level;
	} cases[] = {{0, POLICY_NORMAL}, {699, POLICY_NORMAL}, {700, POLICY_ELEVATED}, {849, POLICY_ELEVATED},
	             {850, POLICY_HIGH}, {949, POLICY_HIGH},   {950, POLICY_CRITICAL}, {5000, POLICY_CRITICAL}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		cr_expect_eq(policy_level(p, cases[i].used, 1000), cases[i].level, "%d", (int)cases[i].used);
	cr_expect_eq(policy_level(p, 0, 0), POLICY_CRITICAL);
	for (uint32_t i = 0; i < SLOTS; i++)
		(void)policy_add(p, i, POLICY_PARTITION, RECORD, i);
	cr_expect_eq(policy_victims(p, POLICY_ELEVATED, 0, slots, SLOTS), 0);
	cr_expect_eq(policy_victims(p, POLICY_HIGH, 0, slots, SLOTS), 50);
	cr_expect_eq(policy_victims(p, POLICY_CRITICAL, 0, slots, SLOTS), 190);
	policy_free(p);
}

/* ---- records that pass ---- */

/* 64 partitions, one of them for those that pass. */
static struct policy *with_passing(struct policy_config *c)
{
	*c = config_of(SLOTS, 0);
	c->class_records[POLICY_PARTITION] = 64;
	c->passing_part = 64;
	return policy_of(c);
}

Test(policy, records_that_pass_displace_each_other_and_nothing_else)
{
	struct policy_config c;
	struct policy *p = with_passing(&c);
	uint32_t gone[SLOTS], n;

	for (uint32_t i = 0; i < 63; i++)
		cr_assert(policy_add(p, i, POLICY_PARTITION, RECORD, i));
	cr_expect_not(policy_exceeds(p, 0));
	for (uint32_t i = 100; i < 500; i++) {
		cr_assert(policy_pass(p, i, POLICY_PARTITION, RECORD));
		n = evict(p, 0, NULL, gone, SLOTS);
		cr_assert_eq(n, i > 100, "at %u", i);
		cr_assert(n == 0 || gone[0] == i - 1);
		cr_assert_not(policy_exceeds(p, 0));
	}
	for (uint32_t i = 0; i < 63; i++)
		cr_assert(policy_place(p, i).resident);
	/* Any other record comes in their place, and at the end of its budget in that of the
	 * others. */
	cr_assert(policy_add(p, 63, POLICY_PARTITION, RECORD, 63));
	cr_assert(policy_exceeds(p, 0));
	n = evict(p, 0, NULL, gone, SLOTS);
	cr_expect_eq(gone[0], 499);
	cr_expect_eq(n, 1 + 1 + 64 * 5 / 100);
	cr_expect_eq(policy_class_records(p, POLICY_PARTITION), 64 - 1 - 64 * 5 / 100);
	policy_free(p);
}

Test(policy, a_record_that_passes_outlives_the_commit_that_brought_it)
{
	struct policy_config c;
	struct policy *p = with_passing(&c);
	uint32_t gone[SLOTS], n;

	for (uint32_t i = 0; i < 63; i++)
		cr_assert(policy_add(p, i, POLICY_PARTITION, RECORD, i));
	for (uint32_t i = 0; i < 4; i++)
		policy_tick(p);
	for (uint32_t i = 100; i < 110; i++) {
		cr_assert(policy_pass(p, i, POLICY_PARTITION, RECORD));
		policy_tick(p);
		n = evict(p, 0, NULL, gone, SLOTS);
		cr_assert(policy_place(p, i).resident, "somebody waits for %u", i);
		cr_assert_leq(n, 1);
	}
	cr_expect(policy_place(p, 109).passing);
	cr_expect_geq(policy_class_records(p, POLICY_PARTITION), 63);
	n = 0;
	for (uint32_t i = 0; i < 63; i++)
		n += policy_place(p, i).resident;
	cr_expect_geq(n, 62, "and that costs no more than the one that is young with it");
	policy_free(p);
}

Test(policy, a_record_that_passes_leaves_no_trace_but_one_that_is_touched_stays)
{
	struct policy_config c;
	struct policy *p = with_passing(&c);

	for (uint32_t i = 0; i < 63; i++)
		cr_assert(policy_add(p, i, POLICY_PARTITION, RECORD, i));
	cr_assert(policy_pass(p, 100, POLICY_PARTITION, RECORD));
	cr_assert(policy_pass(p, 101, POLICY_PARTITION, RECORD));
	cr_expect_eq(evict(p, 0, NULL, NULL, SLOTS), 1);
	cr_expect_not(policy_place(p, 100).resident);
	cr_assert(policy_add(p, 100, POLICY_PARTITION, RECORD, 100));
	cr_expect_not(policy_place(p, 100).in_main, "it has no ghost");
	policy_remove(p, 100);
	touch(p, 101, 1);
	cr_assert(policy_pass(p, 102, POLICY_PARTITION, RECORD));
	cr_expect_eq(evict(p, 0, NULL, NULL, SLOTS), 1 + 1 + 64 * 5 / 100, "as for any other that comes");
	cr_expect(policy_place(p, 101).resident && !policy_place(p, 101).passing);
	cr_expect_not(policy_place(p, 102).resident);
	policy_free(p);
}

Test(policy, numbers_that_cannot_be_are_refused)
{
	struct policy_config c = config_of(10, 1000), bad;
	struct policy *p = policy_of(&c);
	uint8_t map[SLOTS];
	uint32_t slot;

	cr_expect_not(policy_add(p, 10, POLICY_TOPIC, 1, 1));
	cr_expect_not(policy_add(p, 1, POLICY_CLASSES, 1, 1));
	cr_expect(policy_add(p, 1, POLICY_TOPIC, 1, 1));
	cr_expect_not(policy_add(p, 1, POLICY_BLOCK, 1, 1));
	policy_remove(p, 10);
	policy_evicted(p, 10, 1);
	policy_keep(p, UINT32_MAX);
	policy_evicted(p, 1, 1);
	policy_keep(p, 1);
	cr_expect_eq(policy_bytes(p), 1);
	cr_expect_not(policy_place(p, 10).resident);
	memset(map, 1, sizeof map);
	policy_touch_map(p, map, SLOTS);
	cr_expect_eq(map[9], 0);
	cr_expect_eq(map[10], 1);
	cr_expect_eq(policy_victims(p, POLICY_NORMAL, UINT64_C(1) << 40, &slot, 0), 0);
#define BAD(change)                                            \
	do {                                                   \
		bad = c;                                       \
		change;                                        \
		cr_expect_not_null(policy_config_error(&bad)); \
		cr_expect_null(policy_new(&bad));              \
		cr_expect_not(policy_configure(p, &bad));      \
	} while (0)
	BAD(bad.slots = 0);
	BAD(bad.slots = UINT32_MAX);
	BAD(bad.batch_percent = 0);
	BAD(bad.batch_percent = 51);
	BAD(bad.hot_touches = 0);
	BAD(bad.hot_touches = 4);
	BAD(bad.passes = 0);
	BAD(bad.passes = 9);
	BAD(bad.level_percent[0] = 90);
	BAD(bad.level_percent[2] = 101);
	bad = c;
	bad.slots = 11;
	cr_expect_not(policy_configure(p, &bad), "the ceiling stays");
	cr_expect_null(policy_config_error(&policy_defaults));
	policy_free(p);
	policy_free(NULL);
}

Test(policy, memory_is_at_most_32_bytes_per_slot)
{
	struct policy *p = policy_of(&policy_defaults);

	cr_expect_leq(policy_memory_bytes(p), (uint64_t)policy_defaults.slots * 32 + 1024);
	policy_free(p);
}

/* ---- against a plain model: queues are arrays, ghosts a list of keys ---- */

enum { MODEL_SLOTS = 200 };

struct model {
	struct {
		uint32_t slot[MODEL_SLOTS]; /* oldest first */
		uint32_t n;
	} queue[POLICY_CLASSES][2];
	struct {
		bool resident, victim;
		int class, queue, count;
		uint32_t bytes;
		uint64_t key;
	} at[MODEL_SLOTS];
	uint64_t ghost[1 << 20];
	uint32_t ghosts;
};

static uint64_t model_bytes(const struct model *m, int class, int queue)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->queue[class][queue].n; i++)
		sum += m->at[m->queue[class][queue].slot[i]].bytes;
	return sum;
}

static uint32_t model_records(const struct model *m)
{
	uint32_t sum = 0;

	for (int c = 0; c < POLICY_CLASSES; c++)
		sum += m->queue[c][0].n + m->queue[c][1].n;
	return sum;
}

static void model_push(struct model *m, uint32_t slot)
{
	int c = m->at[slot].class, q = m->at[slot].queue;

	m->queue[c][q].slot[m->queue[c][q].n++] = slot;
}

static void model_take(struct model *m, uint32_t slot)
{
	int c = m->at[slot].class, q = m->at[slot].queue;
	uint32_t i = 0;

	while (m->queue[c][q].slot[i] != slot)
		i++;
	m->queue[c][q].n--;
	memmove(&m->queue[c][q].slot[i], &m->queue[c][q].slot[i + 1], (m->queue[c][q].n - i) * sizeof(uint32_t));
}

static bool model_knows(const struct model *m, uint64_t key)
{
	uint32_t records = model_records(m);

	for (uint32_t i = m->ghosts; i > 0 && m->ghosts - (i - 1) <= records; i--)
		if (m->ghost[i - 1] == key)
			return true;
	return false;
}

static uint32_t model_choose(struct model *m, unsigned classes, uint64_t due, const struct policy_config *c,
                             uint32_t *out)
{
	uint32_t n = 0;

	for (uint32_t pass = 0; pass <= c->passes; pass++)
		for (int class = 0; class < POLICY_CLASSES; class ++) {
			uint32_t looks = m->queue[class][0].n + m->queue[class][1].n;

			if ((classes >> class & 1) == 0)
				continue;
			for (; looks > 0 && due > 0; looks--) {
				uint64_t small = model_bytes(m, class, 0), all = small + model_bytes(m, class, 1);
				int q = m->queue[class][1].n == 0 || (m->queue[class][0].n > 0 && small * 10 > all) ? 0
				                                                                                    : 1;
				uint32_t slot = m->queue[class][q].slot[0];

				model_take(m, slot);
				if (pass == c->passes || m->at[slot].count < (q == 0 ? (int)c->hot_touches : 1)) {
					m->at[slot].victim = true;
					due -= m->at[slot].bytes < due ? m->at[slot].bytes : due;
					out[n++] = slot;
				} else {
					m->at[slot].count = q == 0 ? 0 : m->at[slot].count - 1;
					m->at[slot].queue = 1;
					model_push(m, slot);
				}
			}
		}
	return n;
}

static uint64_t over(uint64_t have, uint64_t limit, uint32_t percent)
{
	return have > limit ? have - limit + limit * percent / 100 : 0;
}

Test(policy, ten_thousand_random_steps_do_what_a_plain_model_does, .timeout = 300)
{
	struct model *m = calloc(1, sizeof *m);
	uint32_t known = 0, lost = 0;

	cr_assert_not_null(m);
	for (uint64_t trial = 0; trial < 20; trial++) {
		struct policy_config c = config_of(MODEL_SLOTS, 5000);
		struct policy *p;

		random_begin(trial);
		memset(m, 0, sizeof *m);
		c.class_bytes[POLICY_BLOCK] = 2000;
		c.batch_percent = 1 + (uint32_t)random_below(30);
		c.hot_touches = 1 + (uint32_t)random_below(3);
		c.passes = 1 + (uint32_t)random_below(4);
		p = policy_of(&c);
		for (int step = 0; step < 10000; step++) {
			uint32_t slot = (uint32_t)random_below(MODEL_SLOTS);
			uint64_t key = random_below(400), what = random_below(10);

			if (what < 6 && !m->at[slot].resident) {
				int class = (int)(key % POLICY_CLASSES);
				bool ghost = model_knows(m, key);

				m->at[slot].class = class;
				m->at[slot].bytes = 1 + (uint32_t)random_below(100);
				m->at[slot].count = 0;
				m->at[slot].key = key;
				m->at[slot].resident = true;
				cr_assert(policy_add(p, slot, (enum policy_class) class, m->at[slot].bytes, key));
				m->at[slot].queue = policy_place(p, slot).in_main;
				cr_assert(!m->at[slot].queue || ghost, "trial %d step %d: no ghost", (int)trial, step);
				known += ghost;
				lost += ghost && !m->at[slot].queue;
				for (uint32_t i = 0; i < m->ghosts; i++)
					m->ghost[i] = m->ghost[i] == key ? UINT64_MAX : m->ghost[i];
				model_push(m, slot);
			} else if (what < 8) {
				uint8_t map[MODEL_SLOTS];

				for (int i = 0; i < MODEL_SLOTS; i++) {
					map[i] = random_below(4) == 0 ? (uint8_t)random_below(256) : 0;
					if (m->at[i].resident && map[i] != 0 && m->at[i].count < POLICY_COUNT_MAX)
						m->at[i].count++;
				}
				policy_touch_map(p, map, MODEL_SLOTS);
			} else if (what == 8) {
				if (m->at[slot].resident && random_below(4) == 0) {
					model_take(m, slot);
					m->at[slot].resident = false;
					policy_remove(p, slot);
				}
			} else {
				uint32_t mine[MODEL_SLOTS], theirs[MODEL_SLOTS], n, total;
				uint64_t want = random_below(200), bytes = 0;

				n = model_choose(
					m, 1, over(model_bytes(m, 0, 0) + model_bytes(m, 0, 1), 2000, c.batch_percent),
					&c, mine);
				for (int class = 0; class < POLICY_CLASSES; class ++)
					bytes += model_bytes(m, class, 0) + model_bytes(m, class, 1);
				n += model_choose(m, 7, over(bytes + want, 5000, c.batch_percent), &c, mine + n);
				total = policy_victims(p, POLICY_NORMAL, want, theirs, MODEL_SLOTS);
				cr_assert_eq(total, n, "trial %d step %d: %u victims, not %u", (int)trial, step, total,
				             n);
				for (uint32_t i = 0; i < n; i++) {
					uint32_t s = theirs[i];

					cr_assert_eq(s, mine[i], "trial %d step %d", (int)trial, step);
					m->at[s].victim = false;
					if (random_below(10) == 0) {
						policy_keep(p, s);
						model_push(m, s);
						continue;
					}
					m->at[s].resident = false;
					if (m->at[s].queue == 0)
						m->ghost[m->ghosts++] = m->at[s].key;
					policy_evicted(p, s, m->at[s].key);
				}
			}
			for (int class = 0; class < POLICY_CLASSES; class ++)
				cr_assert_eq(policy_class_bytes(p, (enum policy_class) class),
				             model_bytes(m, class, 0) + model_bytes(m, class, 1));
		}
		policy_free(p);
	}
	cr_expect_gt(known, 1000);
	cr_expect_lt(lost * 20, known, "%u of %u ghosts were lost", lost, known);
	free(m);
}
