/* SPDX-License-Identifier: Apache-2.0
 * A partition's segment index: opening a head, and the lookup of an offset. Blocks are judged each
 * time they are used as far as memory safety needs it (a snapshot without a registration may see a
 * page recycled under it), and their checksums once. */
#include <stdlib.h>

#include "shm/index/part_read.h"
#include "shm/record/record.h"

/* ---- opening ---- */

void shmeta__part_close(struct shmeta__part *part)
{
	if (!part)
		return;
	free(part->dir_heap);
	memset(part, 0, sizeof *part);
}

/* Which blocks' checksums need not be computed again, after the head went from what *part says to
 * what *head says. */
static void carry_checked(struct shmeta__part *part, const struct shmeta_part_head *head, int same)
{
	uint32_t words = (uint32_t)(sizeof part->dir_inline / sizeof *part->dir_inline), gone;

	if (!same) {
		memset(part->checked, 0, sizeof part->checked);
		if (part->dir_words)
			memset(dir_words(part), 0, part->dir_words * sizeof(uint64_t));
	} else {
		gone = head->first_block - part->first_block;
		if (gone >= PART_BLOCKS_MAX) {
			memset(part->checked, 0, sizeof part->checked);
		} else {
			for (uint32_t i = part->first_block; i != head->first_block; i++)
				part->checked[i / 64 % 2] &= ~(UINT64_C(1) << i % 64);
		}
		gone = head->first_dir - part->first_dir;
		for (uint32_t i = 0; i < gone && i < part->dir_words; i++)
			dir_words(part)[(part->first_dir + i) & (part->dir_words - 1)] = 0;
	}
	if (!part->dir_words)
		part->dir_words = words;
	if (head->dirs <= part->dir_words)
		return;
	for (words = part->dir_words; words < head->dirs; words *= 2)
		;
	free(part->dir_heap);
	part->dir_heap = calloc(words, sizeof *part->dir_heap);
	if (part->dir_heap) {
		part->dir_words = words;
	} else {
		memset(part->dir_inline, 0, sizeof part->dir_inline);
		part->dir_words = sizeof part->dir_inline / sizeof *part->dir_inline;
	}
}

/* The last page of the map that is there as a whole; 0, which is never a block's, when none is. */
static uint32_t last_page(const struct shmeta__pages *pages)
{
	uint64_t count = pages->page_bytes >= SHMETA_HEAD_PADDED + 16 ? pages->bytes / pages->page_bytes : 0;

	return !count ? 0 : count - 1 < UINT32_MAX ? (uint32_t)(count - 1) : UINT32_MAX;
}

static enum shmeta_status open_head(struct shmeta__part *part, uint64_t key, const void *bytes, size_t head_bytes,
                                    const struct shmeta__pages *pages, int verified)
{
	struct shmeta_part_head head;
	uint64_t entries_end, tail_at, least = PART_HEAD_BYTES;
	int tail = 0;

	if (head_bytes < PART_HEAD_BYTES || head_bytes > UINT32_MAX)
		return SHMETA_ERR_CORRUPT;
	shmeta__copy_once(&head, bytes, sizeof head);
	if (head.flags & SHMETA_PART_WINDOW)
		least += sizeof(struct shmeta_part_window);
	entries_end = head.entries_at + PART_ENTRY_BYTES * ((uint64_t)head.dirs + head.blocks);
	if (head.kind != SHMETA_RECORD_PARTITION || head.blocks > PART_BLOCKS_MAX || head.entries_at < least ||
	    entries_end > head_bytes || (!verified && head.checksum != shmeta__head_checksum(bytes, head_bytes, key)))
		return SHMETA_ERR_CORRUPT;
	tail_at = entries_end;
	if (head.blocks) {
		const uint8_t *last = (const uint8_t *)bytes + entries_end - PART_ENTRY_BYTES;

		tail = !E32(last, locator);
		if (tail && head_bytes - tail_at < sizeof(struct shmeta_block_head) + SHMETA_BLOCK_SLACK)
			return SHMETA_ERR_CORRUPT;
	}
	carry_checked(part, &head,
	              part->head && part->key == key && part->rewrites == head.rewrites &&
	                      part->pages.base == pages->base);
	part->key = key;
	part->head = bytes;
	part->head_bytes = (uint32_t)head_bytes;
	part->pages = *pages;
	part->last_page = last_page(pages);
	part->flags = (head.flags & SHMETA_PART_OVERLAPS) | (head.blocks ? 0 : PART_NO_BLOCKS);
	part->rewrites = head.rewrites;
	part->first_block = head.first_block;
	part->first_dir = head.first_dir;
	part->dirs = part->head + head.entries_at;
	part->dir_count = head.dirs;
	part->dir_slope = head.dir_slope;
	part->dir_base = head.dirs ? E64(part->dirs, base) : UINT64_MAX;
	part->blocks = part->dirs + PART_ENTRY_BYTES * (size_t)head.dirs;
	part->block_count = head.blocks;
	part->block_slope = head.block_slope;
	part->block_base = head.blocks ? E64(part->blocks, base) : UINT64_MAX;
	part->tail = part->head + tail_at;
	part->tail_bytes = tail ? (uint32_t)(head_bytes - tail_at) : 0;
	part->synced_at_ns = head.synced_at_ns;
	part->ttl_ms = head.ttl_ms;
	part->last.base = 1;
	part->last.end = 0;
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_open(struct shmeta__part *part, uint64_t key, const void *head, size_t head_bytes,
                                     const struct shmeta__pages *pages)
{
	return open_head(part, key, head, head_bytes, pages, 0);
}

enum shmeta_status shmeta__part_reopen(struct shmeta__part *part, uint64_t key, const void *head, size_t head_bytes,
                                       const struct shmeta__pages *pages)
{
	return open_head(part, key, head, head_bytes, pages, 1);
}

void shmeta__part_record(const struct shmeta__part *part, struct shmeta_partition *ret)
{
	struct shmeta_part_window window;
	struct shmeta_part_head head;

	memcpy(&head, part->head, sizeof head);
	*ret = (struct shmeta_partition){
		.topic_id = (uint32_t)(part->key >> 32),
		.partition_id = (uint32_t)part->key,
		.high_watermark = head.high_watermark,
		.log_start_offset = log_start(part),
		.segment_count = head.segment_count,
		.size_bytes = head.size_bytes,
		.created_at_ms = head.created_at_ms,
		.updated_at_ms = head.updated_at_ms,
	};
	if (!shmeta__part_window(part, &window))
		return;
	ret->log_start_offset = window.log_start;
	ret->segment_count += window.segment_count;
	ret->size_bytes += window.size_bytes;
}

uint64_t shmeta__part_rows(const struct shmeta__part *part)
{
	return shmeta__ld64(part->head + offsetof(struct shmeta_part_head, segment_count));
}

int shmeta__part_window(const struct shmeta__part *part, struct shmeta_part_window *ret)
{
	if (!(shmeta__ld32(part->head + offsetof(struct shmeta_part_head, flags)) & SHMETA_PART_WINDOW))
		return 0;
	memcpy(ret, part->head + PART_HEAD_BYTES, sizeof *ret);
	return 1;
}

uint64_t shmeta__part_synced_at_ns(const struct shmeta__part *part)
{
	return part->synced_at_ns;
}

uint32_t shmeta__part_ttl_ms(const struct shmeta__part *part)
{
	return part->ttl_ms;
}

__attribute__((noinline, cold)) int shmeta__part_block_verify(const struct shmeta__part *part, const uint8_t *entry,
                                                              uint64_t id, const uint8_t *bytes)
{
	struct shmeta_block_head head;

	shmeta__copy_once(&head, bytes, sizeof head);
	return head.checksum == shmeta__block_checksum(bytes) && head.key == part->key && head.id == id &&
	       head.rows == E32(entry, rows) && head.stride == E8(entry, stride) &&
	       head.bias[SHMETA_FIELD_BASE] == E64(entry, base) &&
	       head.width[SHMETA_FIELD_BASE] == E8(entry, base_width);
}

const uint8_t *shmeta__part_dir_open(struct shmeta__part *part, uint32_t dir, uint32_t *ret_first, uint32_t *ret_count)
{
	const uint8_t *entry = part->dirs + PART_ENTRY_BYTES * (size_t)dir, *bytes;
	struct mark mark = dir_mark(part, dir, PART_DIR_BIT);
	struct shmeta_part_dir head;
	uint32_t first = shmeta__once32(E8(entry, first)), count = shmeta__once32(E8(entry, count));

	bytes = page_at(part, E32(entry, locator));
	if (!bytes || !(E16(entry, flags) & SHMETA_ENTRY_DIR) || !count || first + count > SHMETA_DIR_FANOUT)
		return NULL;
	*ret_first = first;
	*ret_count = count;
	if (!is_marked(mark) && !shmeta__verified_has(part->pages.verified, E64(entry, id))) {
		shmeta__copy_once(&head, bytes, sizeof head);
		if (head.checksum != shmeta__block_checksum(bytes) || head.key != part->key ||
		    head.id != E64(entry, id) || head.entries != first + count)
			return NULL;
		shmeta__verified_add(part->pages.verified, head.id);
	}
	set_mark(mark);
	return bytes + PART_DIR_BYTES + PART_ENTRY_BYTES * (size_t)first;
}

/* ---- lookup ---- */

__attribute__((noinline)) uint32_t shmeta__part_floor(const uint8_t *p, uint32_t stride, uint64_t mask, uint32_t count,
                                                      uint64_t target, uint64_t guess)
{
	return floor_of(p, stride, mask, count, target, guess);
}

/* Nothing contains the offset. */
__attribute__((noinline)) static enum shmeta_status absent(const struct shmeta__part *part, uint64_t offset)
{
	struct shmeta_part_window window;

	if (shmeta__part_window(part, &window)) {
		if (offset < window.from || offset <= window.max_end)
			return SHMETA_UNKNOWN;
	} else if (offset < log_start(part)) {
		return SHMETA_ABSENT_BEFORE_START;
	}
	if (offset >= shmeta__ld64(part->head + offsetof(struct shmeta_part_head, high_watermark)))
		return SHMETA_ABSENT_AT_END;
	return SHMETA_ABSENT_GAP;
}

/* The row with the largest base <= offset ends before it, and rows overlap somewhere: go back to
 * the first that contains it. */
__attribute__((noinline)) static enum shmeta_status look_back(struct shmeta__part *part, struct place place,
                                                              uint64_t offset, struct shmeta_segment *ret)
{
	const uint8_t *entry;
	struct shmeta__block block;
	struct mark mark;
	uint32_t count;

	for (;;) {
		int skip_dir = 0;

		entry = entry_at(part, place, &mark, &count);
		if (!entry)
			return SHMETA_ERR_CORRUPT;
		if (E64(entry, max_end) >= offset) {
			if (!open_block(part, entry, mark, &block))
				return SHMETA_ERR_CORRUPT;
			for (uint32_t i = block.rows; i-- > 0;) {
				const uint8_t *row = shmeta__block_at(&block, i);

				if (end_of(&block, row) >= offset &&
				    shmeta__block_number(&block, row, SHMETA_FIELD_BASE) <= offset) {
					give_row(part, entry, &block, row, ret);
					return SHMETA_OK;
				}
			}
		}
		if (place.top < part->dir_count && place.sub) {
			place.sub--;
			continue;
		}
		do {
			if (!place.top)
				return absent(part, offset);
			place.top--;
			skip_dir = place.top < part->dir_count &&
			           E64(part->dirs + PART_ENTRY_BYTES * (size_t)place.top, max_end) < offset;
		} while (skip_dir);
		place.sub = 0;
		if (place.top < part->dir_count) {
			uint32_t ignored;

			if (!shmeta__part_dir_open(part, place.top, &ignored, &count))
				return SHMETA_ERR_CORRUPT;
			place.sub = count - 1;
		}
	}
}

__attribute__((noinline)) static enum shmeta_status find_anywhere(struct shmeta__part *part, uint64_t offset,
                                                                  struct shmeta_segment *ret)
{
	const uint8_t *entry;
	struct shmeta__block block;
	struct place place;
	struct mark mark;
	const uint8_t *row;

	if (unlikely(!top_count(part) || offset < log_start(part)))
		return absent(part, offset);
	entry = locate(part, offset, &mark, &place);
	if (unlikely(!entry || !open_block(part, entry, mark, &block)))
		return SHMETA_ERR_CORRUPT;
	row = floor_row(&block, entry, offset);
	if (unlikely(end_of(&block, row) < offset)) {
		if (part->flags & SHMETA_PART_OVERLAPS)
			return look_back(part, place, offset, ret);
		return absent(part, offset);
	}
	give_row(part, entry, &block, row, ret);
	return SHMETA_OK;
}

/* Has this process verified the block, by another handle? */
static int knows_block(struct shmeta__part *part, const uint8_t *entry, uint32_t ordinal)
{
	if (!shmeta__verified_has(part->pages.verified, E64(entry, id)))
		return 0;
	part->checked[ordinal / 64 % 2] |= UINT64_C(1) << ordinal % 64;
	return 1;
}

/* The common case in one go: a block of the head, verified before, in which the row is found.
 * find_anywhere() handles the remaining layouts and reports corruption. Aligned: a lookup's time
 * must not depend on the length of what stands before it. */
__attribute__((aligned(64))) enum shmeta_status shmeta__part_find(struct shmeta__part *part, uint64_t offset,
                                                                  struct shmeta_segment *ret)
{
	uint64_t guess = shmeta__scale(offset - part->block_base, part->block_slope);
	const uint8_t *entry, *bytes, *row;
	struct shmeta__block block;
	uint32_t at, ordinal, locator;
	size_t readable;

	if (unlikely(offset < part->block_base || part->flags & PART_NO_BLOCKS))
		return find_anywhere(part, offset, ret);
	at = guess < part->block_count ? (uint32_t)guess : part->block_count - 1;
	entry = part->blocks + PART_ENTRY_BYTES * (size_t)at;
	/* Where nothing overlaps, an entry that reaches the offset is the one. */
	if (offset < E64(entry, base) || offset > E64(entry, max_end) || part->flags) {
		at = floor_of(part->blocks, PART_ENTRY_BYTES, UINT64_MAX, part->block_count, offset, at);
		entry = part->blocks + PART_ENTRY_BYTES * (size_t)at;
	}
	locator = shmeta__once32(E32(entry, locator));
	ordinal = part->first_block + at;
	if (likely(locator)) {
		bytes = part->pages.base + (uint64_t)locator * part->pages.page_bytes + 16;
		readable = SHMETA_BLOCK_BYTES;
		if (unlikely(locator > part->last_page))
			return SHMETA_ERR_CORRUPT;
		if (unlikely(!(part->checked[ordinal / 64 % 2] >> ordinal % 64 & 1)) &&
		    !knows_block(part, entry, ordinal))
			return find_anywhere(part, offset, ret);
	} else {
		bytes = part->tail;
		readable = part->tail_bytes;
		if (unlikely(!has_tail(part)))
			return SHMETA_ERR_CORRUPT;
	}
	if (unlikely(!shmeta__block_view(bytes, readable, shmeta__once32(E32(entry, rows)),
	                                 shmeta__once32(E8(entry, stride)), &block)))
		return SHMETA_ERR_CORRUPT;
	row = floor_row(&block, entry, offset);
	if (unlikely(end_of(&block, row) < offset))
		return part->flags ? find_anywhere(part, offset, ret) : absent(part, offset);
	give_row(part, entry, &block, row, ret);
	return SHMETA_OK;
}

/* The entry that interpolation leads to; NULL: not among the head's blocks. */
static inline const uint8_t *guess_entry(const struct shmeta__part *part, uint64_t offset)
{
	uint64_t guess;

	if (offset < part->block_base || part->flags & PART_NO_BLOCKS)
		return NULL;
	guess = shmeta__scale(offset - part->block_base, part->block_slope);
	return part->blocks + PART_ENTRY_BYTES * (size_t)(guess < part->block_count ? guess : part->block_count - 1);
}

void shmeta__part_fetch_entry(const struct shmeta__part *part, uint64_t offset)
{
	const uint8_t *entry = guess_entry(part, offset);

	if (likely(entry != NULL))
		__builtin_prefetch(entry);
}

void shmeta__part_fetch_row(const struct shmeta__part *part, uint64_t offset)
{
	const uint8_t *entry = guess_entry(part, offset), *bytes, *row;
	uint64_t guess, rows;
	uint32_t locator;

	if (unlikely(entry == NULL || offset < E64(entry, base)))
		return;
	locator = shmeta__once32(E32(entry, locator));
	if (unlikely(locator > part->last_page))
		return;
	bytes = locator ? part->pages.base + (uint64_t)locator * part->pages.page_bytes + 16 : part->tail;
	guess = shmeta__scale(offset - E64(entry, base), E64(entry, slope));
	rows = E32(entry, rows);
	row = bytes + sizeof(struct shmeta_block_head) +
	      (guess < rows ? guess : 0) % SHMETA_BLOCK_BYTES * E8(entry, stride);
	__builtin_prefetch(bytes + offsetof(struct shmeta_block_head, bias));
	__builtin_prefetch(row - 64);
	__builtin_prefetch(row);
	__builtin_prefetch(row + 64);
}

void shmeta__part_fetch_record(const struct shmeta__part *part)
{
	__builtin_prefetch(part->head);
	__builtin_prefetch(part->head + 64);
}

enum shmeta_status shmeta__part_last(struct shmeta__part *part, struct shmeta_segment *ret)
{
	struct shmeta_part_window window;
	const uint8_t *entry;
	struct shmeta__block block;
	struct place place;
	struct mark mark;

	if (!top_count(part))
		return shmeta__part_window(part, &window) ? SHMETA_UNKNOWN : SHMETA_ABSENT_AT_END;
	entry = locate(part, UINT64_MAX, &mark, &place);
	if (!entry || !open_block(part, entry, mark, &block))
		return SHMETA_ERR_CORRUPT;
	give_row(part, entry, &block, shmeta__block_at(&block, block.rows - 1), ret);
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_before(struct shmeta__part *part, uint64_t base, struct shmeta_segment *ret)
{
	const uint8_t *entry;
	struct shmeta__block block;
	struct place place;
	struct mark mark;

	if (!top_count(part) || base <= log_start(part))
		return SHMETA_ABSENT;
	entry = locate(part, base - 1, &mark, &place);
	if (!entry || !open_block(part, entry, mark, &block))
		return SHMETA_ERR_CORRUPT;
	give_row(part, entry, &block, floor_row(&block, entry, base - 1), ret);
	return SHMETA_OK;
}
