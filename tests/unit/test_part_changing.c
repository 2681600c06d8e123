/* SPDX-License-Identifier: Apache-2.0
 * Pages that change while they are read, or between two reads of a cursor: answers may be wrong
 * (the snapshot is discarded), but no access leaves the block or the caller's buffer. Heads are
 * copied to the heap, so that AddressSanitizer sees their ends. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/index/builder.h"
#include "tests/support/heap_pager.h"

enum { ROWS = 150, TOPIC_BYTES = 200, PARTITION = 7, KEY_BYTES = 400 };
static const uint64_t KEY = UINT64_C(1) << 32 | PARTITION;

static struct heap_pager heap;
static struct shmeta__part part;
static uint8_t *head;
static char topic[TOPIC_BYTES], key[KEY_BYTES];

static void open_rows(const struct shmeta_segment *rows, size_t count)
{
	struct shmeta__part_edit *edit;
	struct shmeta_err err;
	const void *encoded;
	size_t bytes;

	heap_pager_init(&heap);
	memset(topic, 'x', sizeof topic);
	cr_assert_eq(shmeta__part_edit_new(KEY, topic, sizeof topic, NULL, 0, &heap.pager, &edit, &err), SHMETA_OK);
	cr_assert_eq(shmeta__part_edit_append(edit, rows, count, &err), SHMETA_OK);
	cr_assert_eq(shmeta__part_edit_encode(edit, &encoded, &bytes, &err), SHMETA_OK);
	head = malloc(bytes);
	cr_assert_neq(head, NULL);
	memcpy(head, encoded, bytes);
	shmeta__part_edit_free(edit);
	cr_assert_eq(shmeta__part_open(&part, KEY, head, bytes, &heap.pages), SHMETA_OK);
}

/* One row whose key is a template: "data/" topic "/" partition ".seg", and in `position` what
 * follows a NUL in the pool. */
static void open_one(uint64_t position)
{
	struct shmeta_segment row = {.end_offset = 9, .record_count = 10, .position = position};

	memset(topic, 'x', sizeof topic);
	row.s3_key =
		(struct shmeta_str){key, (size_t)snprintf(key, sizeof key, "data/%.200s/%d.seg", topic, PARTITION)};
	open_rows(&row, 1);
}

static void tear_down(void)
{
	shmeta__part_close(&part);
	free(head);
	heap_pager_free(&heap);
}

TestSuite(part_changing, .fini = tear_down, .timeout = 60);

Test(part_changing, a_cursor_beyond_the_rows_of_a_block_that_became_shorter_goes_on_behind_it)
{
	struct shmeta_segment rows[ROWS] = {{0}}, s;
	const uint8_t widths[8] = {8, 8, 8, 8, 8, 8, 8, 14};
	struct shmeta__part_cursor cursor;
	const uint32_t fewer = 2;
	uint8_t *entry, *block;

	for (uint64_t i = 0; i < ROWS; i++)
		rows[i] = (struct shmeta_segment){.base_offset = i * 10,
		                                  .end_offset = i * 10 + 9,
		                                  .record_count = 10,
		                                  .size_bytes = 1000 + i * 7};
	open_rows(rows, ROWS);
	cr_assert_neq(part.tail_bytes, 0, "all rows are in the tail");
	cr_assert_eq(shmeta__part_seek(&part, 0, INT64_MAX, &cursor), SHMETA_OK);
	for (int i = 0; i < 120; i++)
		cr_assert_eq(shmeta__part_next(&part, &cursor, &s), SHMETA_OK);
	/* The page is another partition's by now: fewer and wider rows, which all the same fit
	 * it. */
	entry = (uint8_t *)(uintptr_t)part.blocks;
	block = (uint8_t *)(uintptr_t)part.tail;
	memcpy(entry + offsetof(struct shmeta_part_entry, rows), &fewer, sizeof fewer);
	entry[offsetof(struct shmeta_part_entry, stride)] = 70;
	memcpy(block + offsetof(struct shmeta_block_head, width), widths, sizeof widths);
	cr_assert_eq(shmeta__part_next(&part, &cursor, &s), SHMETA_END, "row 120 of a block of 2 is nowhere");
}

Test(part_changing, spelling_ends_where_the_buffer_does)
{
	const struct shmeta_str template = {"a\1b\2c", 5}, literal = {"a\1b\2c", 5};
	struct shmeta__values values;
	char buffer[64];

	open_one(0);
	shmeta__values_part(&values, KEY, "topic", 5);
	for (size_t room = 0; room <= 9; room++) {
		char *end;

		memset(buffer, '#', sizeof buffer);
		end = shmeta__spell(buffer, buffer + room, template, 1, &values);
		if (room < 9) {
			cr_assert_eq(end, NULL, "%zu bytes do not hold atopicb7c", room);
		} else {
			cr_assert_eq(end, buffer + 9);
			cr_assert_eq(memcmp(buffer, "atopicb7c", 9), 0);
		}
		for (size_t i = room; i < sizeof buffer; i++)
			cr_assert_eq(buffer[i], '#', "byte %zu of %zu was written", i, room);
	}
	cr_assert_eq(shmeta__spell(buffer, buffer + 4, literal, 0, &values), NULL);
	cr_assert_eq(shmeta__spell(buffer, buffer + 5, literal, 0, &values), buffer + 5);
}

/* ---- a page that is overwritten all the time ---- */

static volatile char *target;
static char first, second;
static int stop;

static void *flip(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		*target = first;
		for (volatile int i = 0; i < 20; i++)
			;
		*target = second;
		for (volatile int i = 0; i < 20; i++)
			;
	}
	return NULL;
}

static void spell_while_flipping(size_t room)
{
	struct shmeta_segment s;
	char *buffer = malloc(room + 64);
	pthread_t thread;

	cr_assert_neq(buffer, NULL);
	cr_assert_eq(shmeta__part_find(&part, 5, &s), SHMETA_OK);
	cr_assert_eq(pthread_create(&thread, NULL, flip, NULL), 0);
	for (int i = 0; i < 300000; i++) {
		enum shmeta_status status;

		memset(buffer + room, '#', 64);
		status = shmeta__part_strings(&part, topic, sizeof topic, &s, buffer, room);
		cr_assert(status == SHMETA_OK || status == SHMETA_ERR_BUFFER || status == SHMETA_ERR_CORRUPT);
		for (int k = 0; k < 64; k++)
			cr_assert_eq(buffer[room + (size_t)k], '#', "byte %d behind the buffer was written", k);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	(void)pthread_join(thread, NULL);
	free(buffer);
}

Test(part_changing, a_template_that_changes_while_it_is_spelled_stays_in_the_callers_buffer)
{
	open_one(0);
	target = memmem(head, part.head_bytes, "data/", 5);
	cr_assert_neq((const void *)(uintptr_t)target, NULL);
	first = 'd';
	second = 1; /* the topic, 200 bytes */
	spell_while_flipping(strlen(key) + 3);
}

Test(part_changing, a_position_that_changes_while_it_is_read_stays_within_its_digits)
{
	const char *nul;

	open_one(12345);
	nul = memmem(head, part.head_bytes,
	             "\0"
	             "12345",
	             6);
	cr_assert_neq(nul, NULL);
	target = (char *)head + (nul - (const char *)head) + 1;
	first = '1';
	second = 1; /* the topic, 200 bytes, where 20 digits fit */
	spell_while_flipping(strlen(key) + 3);
}
