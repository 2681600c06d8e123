/* SPDX-License-Identifier: Apache-2.0
 * Touch maps: what a process marks is what the writer collects, and neither believes the other. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/page/touch.h"
#include "tests/support/random.h"

TestSuite(touch, .timeout = 30);

/* A mapping with a page after it that nobody may touch. */
static void *map_of(uint32_t ceiling, uint64_t generation)
{
	size_t bytes = touch_file_bytes(ceiling);
	char *map = mmap(NULL, bytes + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(map, MAP_FAILED);
	cr_assert_eq(mprotect(map, bytes, PROT_READ | PROT_WRITE), 0);
	touch_init(map, ceiling, generation);
	return map;
}

static void unmap(void *map, uint32_t ceiling)
{
	cr_assert_eq(munmap(map, touch_file_bytes(ceiling) + 4096), 0);
}

Test(touch, every_mark_is_collected_once_for_every_ceiling)
{
	for (uint32_t ceiling = 0; ceiling < 300; ceiling++) {
		uint8_t seen[300] = {0};
		void *map = map_of(ceiling, 7);
		struct touch_view view = touch_view(map, touch_file_bytes(ceiling), 7);

		cr_assert_eq(view.ceiling, ceiling);
		for (uint32_t slot = 0; slot < ceiling; slot += 3)
			touch_mark(view, slot);
		cr_expect_eq(touch_collect(map, ceiling, seen), (ceiling + 2) / 3);
		for (uint32_t slot = 0; slot < 300; slot++)
			cr_expect_eq(seen[slot], slot < ceiling && slot % 3 == 0, "slot %u of %u", slot, ceiling);
		cr_expect_eq(touch_collect(map, ceiling, seen), 0, "it was cleared");
		unmap(map, ceiling);
	}
}

Test(touch, maps_of_several_processes_are_ored)
{
	enum { N = 1000 };
	uint8_t seen[N] = {0};
	void *a = map_of(N, 1), *b = map_of(N, 1);

	touch_mark(touch_view(a, touch_file_bytes(N), 1), 10);
	touch_mark(touch_view(a, touch_file_bytes(N), 1), 11);
	touch_mark(touch_view(b, touch_file_bytes(N), 1), 11);
	touch_mark(touch_view(b, touch_file_bytes(N), 1), 999);
	cr_expect_eq(touch_collect(a, N, seen), 2);
	cr_expect_eq(touch_collect(b, N, seen), 2);
	for (uint32_t i = 0; i < N; i++)
		cr_expect_eq(seen[i], i == 10 || i == 11 || i == 999);
	unmap(a, N);
	unmap(b, N);
}

Test(touch, a_slot_beyond_the_ceiling_marks_nothing)
{
	enum { N = 100 };
	uint8_t seen[N] = {0};
	uint8_t *map = map_of(N, 1);
	struct touch_view view = touch_view(map, touch_file_bytes(N), 1), none = {.slots = NULL};

	touch_mark(view, N);
	touch_mark(view, N + 1);
	touch_mark(view, UINT32_MAX);
	touch_mark(none, 0);
	for (size_t i = SHMETA_TOUCH_HEADER; i < touch_file_bytes(N); i++)
		cr_expect_eq(map[i], 0);
	cr_expect_eq(touch_collect(map, N, seen), 0);
	unmap(map, N);
}

Test(touch, a_process_views_no_map_of_another_form_generation_or_size)
{
	enum { N = 5000 };
	const size_t bytes = touch_file_bytes(N);
	char *map = map_of(N, 3);
	struct shmeta_touch *head = (struct shmeta_touch *)map, good = *head;

	cr_expect_eq(touch_view(map, bytes, 3).ceiling, N);
	cr_expect_eq(touch_view(map, bytes, 4).ceiling, 0);
	cr_expect_eq(touch_view(map, 0, 3).ceiling, 0);
	cr_expect_eq(touch_view(map, SHMETA_TOUCH_HEADER - 1, 3).ceiling, 0);
	cr_expect_eq(touch_view(map, SHMETA_TOUCH_HEADER + N - 1, 3).ceiling, 0);
	cr_expect_eq(touch_view(map, SHMETA_TOUCH_HEADER + N, 3).ceiling, N);
	for (size_t i = 0; i < 24; i++) { /* every byte of every field that says something */
		uint32_t ceiling;

		*head = good;
		((uint8_t *)head)[i] ^= 0x80;
		ceiling = touch_view(map, bytes, 3).ceiling;
		if (i == 12) /* another ceiling that the mapping can hold harms nobody */
			cr_expect_leq(ceiling, bytes - SHMETA_TOUCH_HEADER);
		else
			cr_expect_eq(ceiling, 0, "byte %zu", i);
	}
	head->ceiling = UINT32_MAX;
	cr_expect_eq(touch_view(map, bytes, 3).ceiling, 0);
	unmap(map, N);
}

Test(touch, the_writer_believes_neither_header_nor_bytes_of_a_process)
{
	enum { N = 1001 };
	uint8_t *seen = malloc(N); /* exactly: the sanitizer sees what is written beyond */
	uint8_t *map = map_of(N, 1);
	uint32_t expected = 0;

	cr_assert_not_null(seen);
	memset(seen, 0, N);
	random_begin(12);
	for (size_t i = 0; i < touch_file_bytes(N); i++)
		map[i] = random_below(2) == 0 ? (uint8_t)random_below(256) : 0;
	for (size_t i = 0; i < N; i++)
		expected += map[SHMETA_TOUCH_HEADER + i] != 0;
	cr_expect_eq(touch_collect(map, N, seen), expected);
	for (size_t i = 0; i < N; i++)
		cr_expect_leq(seen[i], 1);
	memset(map, 0xff, touch_file_bytes(N));
	cr_expect_eq(touch_collect(map, N, seen), N);
	for (size_t i = 0; i < N; i++) {
		cr_expect_eq(seen[i], 1);
		cr_expect_eq(map[SHMETA_TOUCH_HEADER + i], 0);
	}
	free(seen);
	unmap(map, N);
}

Test(touch, collecting_writes_only_lines_that_hold_a_touch)
{
	enum { N = 8192 };
	uint8_t seen[N] = {0};
	char *map = map_of(N, 1);

	touch_mark(touch_view(map, touch_file_bytes(N), 1), 5000);
	/* The first page of slots holds none: a write to it would end the test. */
	cr_assert_eq(mprotect(map + SHMETA_TOUCH_HEADER, 4096, PROT_READ), 0);
	cr_expect_eq(touch_collect(map, N, seen), 1);
	cr_expect_eq(seen[5000], 1);
	unmap(map, N);
}

Test(touch, keys_are_spread_over_all_slots)
{
	enum { N = 4096 };
	unsigned used[N] = {0}, most = 0, empty = 0;

	for (uint64_t topic = 1; topic <= 16; topic++)
		for (uint64_t partition = 0; partition < N / 16; partition++) {
			uint32_t slot = touch_slot(topic << 32 | partition, N);

			cr_assert_lt(slot, N);
			most = ++used[slot] > most ? used[slot] : most;
		}
	for (int i = 0; i < N; i++)
		empty += used[i] == 0;
	/* By chance e^-1 of the slots stay empty, and no slot gets many. */
	cr_expect_lt(empty, N * 40 / 100, "%u", empty);
	cr_expect_lt(most, 10, "%u", most);
}

Test(touch, misses_are_taken_once_and_what_a_process_writes_is_not_believed)
{
	const struct shmeta_str topic = {"orders", 6}, tenant = {"tenant", 6};
	struct shmeta_miss taken[SHMETA_MISSES], *misses;
	void *map = map_of(64, 7);
	size_t left = 0;

	misses = touch_view(map, touch_file_bytes(64), 7).misses;
	cr_assert_eq((void *)misses, (void *)((char *)map + SHMETA_MISSES_AT));
	shmeta__miss_leave(misses, topic, tenant, 5);
	shmeta__miss_leave(misses, topic, tenant, 5);
	cr_assert_eq(shmeta__miss_take(misses, taken), 1);
	cr_expect(taken[0].partition_id == 5 && taken[0].name_bytes == 6 && taken[0].tenant_bytes == 6);
	cr_expect_eq(memcmp(taken[0].text, "orderstenant", 12), 0);
	cr_expect_eq(shmeta__miss_take(misses, taken), 0);
	for (uint32_t i = 0; i < 1000; i++)
		shmeta__miss_leave(misses, topic, tenant, i);
	for (int i = 0; i < SHMETA_MISSES; i++)
		left += misses[i].state == SHMETA_MISS_LEFT;
	cr_expect_eq(left, SHMETA_MISSES, "all places are used");
	misses[0].name_bytes = SHMETA_NAME_MAX + 1;
	misses[1].tenant_bytes = UINT32_MAX;
	misses[2].state = 77;
	misses[3].state = SHMETA_MISS_BEING_LEFT;
	cr_expect_eq(shmeta__miss_take(misses, taken), SHMETA_MISSES - 4);
	for (int i = 0; i < SHMETA_MISSES; i++)
		cr_expect_eq(misses[i].state, i == 3 ? SHMETA_MISS_BEING_LEFT : SHMETA_MISS_FREE);
	unmap(map, 64);
}
