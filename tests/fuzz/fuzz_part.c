/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a partition's head and the pages it refers to. Everything is read, changed and read
 * again: what was not refused must stay within its bytes (the sanitizers watch), and what verify
 * calls good must agree with itself.
 *
 * An input is a part file, as in tests/golden/: uint32_t bytes of the head, uint32_t number of
 * pages, a uint32_t locator for each page, the head, the pages (SHMETA_BLOCK_BYTES each). Checksums
 * are made right, or nothing would be reached, unless the highest bit of the first number is
 * set. */
#include "shm/index/block.h"
#include "shm/record/record.h"
#include "tests/fuzz/fuzz.h"

enum { PAGE = 4096, PAGES_MAX = 160, SPARE = 16 };
static const uint64_t KEY = (UINT64_C(77) << 32) | 12;
static const char TOPIC[] = "orders-7";

struct world {
	uint8_t *map;
	uint32_t pages, capacity;
	uint64_t next_id;
};

static enum shmeta_status world_alloc(void *arg, size_t bytes, uint64_t *ret_id, uint64_t *ret_locator,
                                      void **ret_block)
{
	struct world *world = arg;

	require(bytes == SHMETA_BLOCK_BYTES);
	if (world->pages == world->capacity)
		return SHMETA_ERR_FULL;
	*ret_id = world->next_id++;
	*ret_locator = world->pages;
	*ret_block = world->map + (size_t)world->pages++ * PAGE + 16;
	return SHMETA_OK;
}

static enum shmeta_status world_release(void *arg, uint64_t id)
{
	(void)arg;
	(void)id;
	return SHMETA_OK;
}

/* A block says its id at the same place as a directory page. */
static enum shmeta_status world_at(void *arg, uint64_t id, const void **ret_block, size_t *ret_bytes)
{
	struct world *world = arg;

	for (uint32_t i = world->pages; i-- > 2;) {
		const uint8_t *page = world->map + (size_t)i * PAGE + 16;

		if (shmeta__ld64(page + offsetof(struct shmeta_block_head, id)) == id) {
			*ret_block = page;
			*ret_bytes = SHMETA_BLOCK_BYTES;
			return SHMETA_OK;
		}
	}
	return SHMETA_ERR_CORRUPT;
}

static void count_block(void *arg, uint64_t id, uint64_t locator)
{
	(void)id;
	(void)locator;
	(*(uint64_t *)arg)++;
}

/* valid: verify has found nothing. */
static void read_everything(struct shmeta__part *part, int valid)
{
	struct shmeta_partition record;
	struct shmeta__part_cursor cursor;
	struct shmeta_segment got, found;
	struct shmeta_part_window window;
	char buffer[3 * (SHMETA_STRING_MAX * SHMETA_NAME_MAX + 1)];
	enum shmeta_status status;
	uint64_t rows = 0, blocks = 0, left = 0;

	shmeta__part_record(part, &record);
	if (shmeta__part_window(part, &window))
		left = window.segment_count;
	(void)shmeta__part_synced_at_ns(part);
	(void)shmeta__part_ttl_ms(part);
	status = shmeta__part_seek(part, 0, UINT64_MAX, &cursor);
	require(status == SHMETA_OK || (status == SHMETA_ERR_CORRUPT && !valid));
	/* A part that was not verified may list the same block many times. */
	while (status == SHMETA_OK && rows < 20000) {
		status = shmeta__part_next(part, &cursor, &got);
		if (status != SHMETA_OK)
			break;
		rows++;
		if (rows % 16 != 1)
			continue;
		status = shmeta__part_find(part, got.base_offset, &found);
		require(!valid || (status == SHMETA_OK && found.base_offset == got.base_offset));
		(void)shmeta__part_find(part, got.base_offset - 1, &found);
		(void)shmeta__part_find(part, got.end_offset, &found);
		status = shmeta__part_find(part, got.end_offset + 1, &found);
		require(status != SHMETA_OK || found.end_offset > got.end_offset || !valid);
		(void)shmeta__part_find_timestamp(part, got.max_timestamp_ms, &found);
		status = shmeta__part_strings(part, TOPIC, strlen(TOPIC), &got, buffer, sizeof buffer);
		require(!valid || status == SHMETA_OK);
		status = SHMETA_OK;
	}
	require(!valid || (status == SHMETA_END && rows + left == record.segment_count) || rows == 20000);
	for (int shift = 0; shift < 64; shift++)
		(void)shmeta__part_find(part, UINT64_C(1) << shift, &found);
	(void)shmeta__part_find(part, UINT64_MAX, &found);
	(void)shmeta__part_find_timestamp(part, INT64_MIN, &found);
	(void)shmeta__part_find_timestamp(part, INT64_MAX, &found);
	(void)shmeta__part_last(part, &found);
	(void)shmeta__part_blocks(part, count_block, &blocks);
}

static void change(struct world *world, const uint8_t *head, size_t head_bytes, int valid, uint64_t choice)
{
	struct shmeta__pager pager = {world, world_alloc, world_release, world_at};
	struct shmeta__pages pages = {
		.base = world->map, .bytes = (uint64_t)world->capacity * PAGE, .page_bytes = PAGE};
	struct shmeta_segment rows[3] = {0};
	struct shmeta__part part = {0};
	struct shmeta__part_edit *edit = NULL;
	struct shmeta_err err;
	uint64_t changed = 0, from = choice >> 1, to = from + (choice >> 40);
	const void *out;
	size_t out_bytes;

	for (size_t i = 0; i < 3; i++) {
		rows[i].base_offset = from + i;
		rows[i].end_offset = from + 2 * i;
		rows[i].s3_key = (struct shmeta_str){TOPIC, strlen(TOPIC)};
	}
	if (shmeta__part_edit_new(KEY, TOPIC, strlen(TOPIC), head, head_bytes, &pager, &edit, &err) != SHMETA_OK)
		return;
	if (shmeta__part_edit_replace(edit, from, to < from ? UINT64_MAX : to, rows, choice % 4 < 3 ? choice % 4 : 0,
	                              &changed, &err) == SHMETA_OK &&
	    shmeta__part_edit_encode(edit, &out, &out_bytes, &err) == SHMETA_OK) {
		require(shmeta__part_open(&part, KEY, out, out_bytes, &pages) == SHMETA_OK);
		/* Good stays good. */
		if (valid)
			require(shmeta__part_verify(&part, &err) == SHMETA_OK);
		read_everything(&part, valid);
		shmeta__part_close(&part);
	}
	shmeta__part_edit_free(edit);
}

/* The i-th page's place in the map: its locator, where that is a possible one. */
static uint32_t page_of(const uint8_t *data, uint32_t i)
{
	uint32_t locator = shmeta__ld32(data + 8 + 4 * (size_t)i);

	return locator < 2 || locator >= PAGES_MAX ? 2 + i % (PAGES_MAX - 2) : locator;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct world world = {NULL, 2, 0, UINT64_C(1) << 50};
	struct shmeta__pages pages = {.page_bytes = PAGE};
	struct shmeta__part part = {0};
	struct shmeta_err err;
	uint32_t head_bytes, count, keep;
	uint64_t checksum;
	uint8_t *head;
	int valid;

	if (bytes < 8)
		return 0;
	head_bytes = shmeta__ld32(data);
	count = shmeta__ld32(data + 4);
	keep = head_bytes >> 31;
	head_bytes &= 0x7fffffff;
	bytes -= 8;
	if (count > PAGES_MAX || bytes < 4 * (size_t)count || bytes - 4 * (size_t)count < head_bytes ||
	    head_bytes < sizeof(struct shmeta_part_head))
		return 0;
	bytes -= 4 * (size_t)count + head_bytes;
	head = malloc(head_bytes);
	for (uint32_t i = 0; i < count; i++) {
		if (page_of(data, i) >= world.pages)
			world.pages = page_of(data, i) + 1;
	}
	world.capacity = world.pages + SPARE;
	world.map = calloc(world.capacity, PAGE);
	require(head && world.map);
	memcpy(head, data + 8 + 4 * (size_t)count, head_bytes);
	for (uint32_t i = 0; i < count; i++) {
		size_t at = (size_t)i * SHMETA_BLOCK_BYTES, size = at < bytes ? bytes - at : 0;
		uint8_t *page;

		page = world.map + (size_t)page_of(data, i) * PAGE + 16;
		if (size)
			memcpy(page, data + 8 + 4 * (size_t)count + head_bytes + at,
			       size < SHMETA_BLOCK_BYTES ? size : (size_t)SHMETA_BLOCK_BYTES);
		checksum = shmeta__block_checksum(page);
		if (!keep)
			memcpy(page, &checksum, 8);
	}
	if (!keep) {
		uint16_t kind = SHMETA_RECORD_PARTITION;

		memcpy(head + offsetof(struct shmeta_part_head, kind), &kind, sizeof kind);
		checksum = shmeta__head_checksum(head, head_bytes, KEY);
		memcpy(head, &checksum, 8);
	}
	/* Exactly the pages that are there, so that a step beyond them is seen. */
	pages.bytes = (uint64_t)world.pages * PAGE;
	pages.base = malloc(pages.bytes);
	require(pages.base);
	memcpy((uint8_t *)(uintptr_t)pages.base, world.map, pages.bytes);
	if (shmeta__part_open(&part, KEY, head, head_bytes, &pages) == SHMETA_OK) {
		valid = shmeta__part_verify(&part, &err) == SHMETA_OK;
		read_everything(&part, valid);
		shmeta__part_close(&part);
		change(&world, head, head_bytes, valid,
		       shmeta__ld64(head + offsetof(struct shmeta_part_head, synced_at_ns)));
	}
	free((uint8_t *)(uintptr_t)pages.base);
	free(world.map);
	free(head);
	return 0;
}
