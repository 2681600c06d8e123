/* SPDX-License-Identifier: Apache-2.0
 * A topic that dies takes its committed offsets along, and nobody walks those of others for it:
 * random lives of groups and topics against the source, over restarts and transactions that were
 * given up. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shm/record/key.h"
#include "tests/support/cpu_time.h"
#include "tests/support/sync_fixture.h"
#include "writer/apply/offset_index.h"

TestSuite(offset_index, .timeout = 60);

static struct fixture f;

static struct shmeta_str str(const char *text)
{
	return (struct shmeta_str){text, strlen(text)};
}

static void same(int step)
{
	const char *difference = fixture_difference(&f);

	cr_assert_null(difference, "step %d: %s", step, difference);
}

Test(offset_index, offsets_die_with_their_topics_and_partitions_whatever_came_before)
{
	unsigned seed = 7;
	char topic[16], group[16];

	fixture_init(&f);
	for (int i = 0; i < 8; i++) {
		snprintf(topic, sizeof topic, "t%d", i);
		fixture_topic(&f, topic, 4, 1, 100 + i);
	}
	fixture_open(&f);
	fixture_run(&f);
	for (int step = 0; step < 3000; step++) {
		snprintf(topic, sizeof topic, "t%d", rand_r(&seed) % 8);
		snprintf(group, sizeof group, "g%d", rand_r(&seed) % 12);
		switch (rand_r(&seed) % 12) {
		case 0:
			memory_delete_topic(f.db, NULL, topic);
			break;
		case 1:
			memory_create_topic(f.db, NULL, topic, 4, 1000 + step);
			break;
		case 2:
			memory_delete_partition(f.db, NULL, topic, (uint32_t)rand_r(&seed) % 4);
			break;
		case 3:
			memory_delete_group(f.db, NULL, group);
			break;
		case 4:
			if (rand_r(&seed) % 20 == 0) {
				if (rand_r(&seed) % 2 == 0)
					fixture_crash(&f);
				else
					fixture_close(&f);
				f.now_ns += 2000000000;
				fixture_open(&f);
			}
			break;
		default:
			if (memory_find_partition(f.db, SHMETA_DEFAULT_TENANT, topic, (uint32_t)step % 4,
			                          &(struct shmeta_partition){0})) {
				cr_assert(memory_put_group(f.db, NULL, &(struct shmeta_group){.group_id = str(group)}));
				cr_assert(memory_put_offset(
					f.db, NULL, topic,
					&(struct shmeta_committed_offset){.group_id = str(group),
				                                          .partition_id = (uint32_t)step % 4,
				                                          .committed_offset = (uint64_t)step}));
			}
			break;
		}
		if (rand_r(&seed) % 4 == 0) {
			fixture_pass(&f, 50);
		}
		if (step % 100 == 0) {
			fixture_pass(&f, 2000);
			same(step);
		}
	}
	fixture_pass(&f, 2000);
	same(-1);
	fixture_done(&f);
}

/* ---- the index by itself ---- */

struct taken {
	size_t count;
	uint32_t last_partition;
};

static enum shmeta_status count(void *arg, const void *key, size_t key_bytes)
{
	struct taken *taken = arg;

	taken->count++;
	taken->last_partition = shmeta__get_be32((const uint8_t *)key + key_bytes - 4);
	return SHMETA_OK;
}

Test(offset_index, what_is_taken_is_what_was_added_and_nothing_else_is_looked_at)
{
	enum { TOPICS = 500, GROUPS = 40 };
	struct shmeta_err err = {.code = SHMETA_OK};
	struct offset_index index = {0};
	struct taken taken = {0};
	struct shmeta__txn *txn;
	uint64_t store;
	size_t walked;

	fixture_init(&f);
	fixture_open(&f);
	fixture_run(&f);
	store = shmeta__store_number(sync_store(f.sync));
	cr_assert_eq(shmeta__txn_read(sync_store(f.sync), &txn, &err), SHMETA_OK);
	cr_assert_eq(offset_index_ready(&index, store, txn, &err), SHMETA_OK);
	walked = index.walked;
	cr_expect_eq(walked, 0);
	index.walked = TOPICS * GROUPS; /* as if so many had been there */
	for (uint32_t topic = 1; topic <= TOPICS; topic++)
		for (uint32_t g = 0; g < GROUPS; g++) {
			uint8_t key[SHMETA_KEY_MAX];
			char group[16];
			int n = snprintf(group, sizeof group, "group-%u", g);

			offset_index_add(&index, store, key,
			                 shmeta__offset_key(key, 1, group, (size_t)n, topic, g % 4));
		}
	cr_assert_eq(index.store, store);
	cr_assert_eq(offset_index_take(&index, 77, 3, count, &taken), SHMETA_OK);
	cr_expect_eq(taken.count, GROUPS / 4);
	cr_expect_eq(taken.last_partition, 3);
	taken.count = 0;
	cr_assert_eq(offset_index_take(&index, 77, UINT32_MAX, count, &taken), SHMETA_OK);
	cr_expect_eq(taken.count, GROUPS - GROUPS / 4);
	taken.count = 0;
	cr_assert_eq(offset_index_take(&index, 77, UINT32_MAX, count, &taken), SHMETA_OK);
	cr_assert_eq(offset_index_take(&index, 9999, UINT32_MAX, count, &taken), SHMETA_OK);
	cr_expect_eq(taken.count, 0);
	/* It stays ready: no second walk for this generation, and one for another. */
	cr_assert_eq(offset_index_ready(&index, store, txn, &err), SHMETA_OK);
	cr_expect_eq(index.walked, TOPICS * GROUPS);
	cr_assert_eq(offset_index_ready(&index, store + 1, txn, &err), SHMETA_OK);
	cr_expect_eq(index.walked, 0);
	shmeta__txn_abort(txn);
	offset_index_free(&index);
	fixture_done(&f);
}

/* Whoever may write chooses the names of groups. */
enum { CHOSEN = 8000, KEY_BYTES = 4 + 16 + 1 + 8 };

/* To add so many groups, in ns. */
static uint64_t cost_of(uint8_t (*keys)[KEY_BYTES])
{
	struct offset_index index = {.store = 1, .walked = CHOSEN};
	uint64_t began = cpu_time_ns();

	for (int i = 0; i < CHOSEN; i++)
		offset_index_add(&index, 1, keys[i], KEY_BYTES);
	began = cpu_time_ns() - began;
	cr_expect_eq(index.groups, CHOSEN);
	offset_index_free(&index);
	return began;
}

/* Names that share the bits by which a table of so many slots finds them, were the hash one that
 * everybody can compute. */
Test(offset_index, no_choice_of_groups_makes_one_long_chain)
{
	enum { SLOTS = 4096 };
	static uint8_t chosen[CHOSEN][KEY_BYTES], others[CHOSEN][KEY_BYTES];
	uint64_t n = 0, least = UINT64_MAX, most = 0;

	for (int i = 0; i < CHOSEN; i++) {
		do {
			n++;
			memcpy(chosen[i] + 4, &n, sizeof n);
		} while ((XXH3_64bits(chosen[i], KEY_BYTES - 8) & (SLOTS - 1)) != 0);
		shmeta__put_be32(chosen[i] + KEY_BYTES - 8, 1);
		memcpy(others[i] + 4, &(uint64_t){(uint64_t)i}, sizeof(uint64_t));
		shmeta__put_be32(others[i] + KEY_BYTES - 8, 1);
	}
	for (int round = 0; round < 3; round++) {
		uint64_t cost = cost_of(others);

		most = cost > most ? cost : most;
		cost = cost_of(chosen);
		least = cost < least ? cost : least;
	}
	cr_expect_leq(least, 4 * most, "%llu ns, others %llu", (unsigned long long)least, (unsigned long long)most);
}
