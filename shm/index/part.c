/* SPDX-License-Identifier: Apache-2.0
 * Reading a partition's segment index. Blocks are judged each time they are used as far as memory safety needs it (a snapshot
 * without a registration may see a page recycled under it), and their checksums once. */
#include <stdlib.h>

#include "shm/index/block.h"
#include "shm/record/record.h"

enum {
	HEAD_BYTES = sizeof(struct shmeta_part_head),
	ENTRY_BYTES = sizeof(struct shmeta_part_entry),
	DIR_BYTES = sizeof(struct shmeta_part_dir),
	LEAVES_MAX = 128,
	DIR_BIT = 63,       /* of a word: the directory page itself */
	NO_LEAVES = 1 << 30 /* in part->flags: the head has no block entry */
};

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define E64(entry, field) shmeta__ld64((entry) + offsetof(struct shmeta_part_entry, field))
#define E32(entry, field) shmeta__ld32((entry) + offsetof(struct shmeta_part_entry, field))
#define E16(entry, field) shmeta__ld16((entry) + offsetof(struct shmeta_part_entry, field))
#define E8(entry, field) (entry)[offsetof(struct shmeta_part_entry, field)]

/* ---- opening ---------------------------------------------------------------------------------------------------------- */

void shmeta__part_close(struct shmeta__part *part)
{
	if (!part)
		return;
	free(part->dir_heap);
	memset(part, 0, sizeof *part);
}

static uint64_t *dir_words(struct shmeta__part *part)
{
	return part->dir_heap ? part->dir_heap : part->dir_inline;
}

/* Which blocks' checksums need not be computed again, after the head went from what *part says to what *head says. */
static void carry_checked(struct shmeta__part *part, const struct shmeta_part_head *head, int same)
{
	uint32_t words = (uint32_t)(sizeof part->dir_inline / sizeof *part->dir_inline), gone;

	if (!same) {
		memset(part->checked, 0, sizeof part->checked);
		if (part->dir_words)
			memset(dir_words(part), 0, part->dir_words * sizeof(uint64_t));
	} else {
		gone = head->first_leaf - part->first_leaf;
		if (gone >= LEAVES_MAX) {
			memset(part->checked, 0, sizeof part->checked);
		} else {
			for (uint32_t i = part->first_leaf; i != head->first_leaf; i++)
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

enum shmeta_status shmeta__part_open(struct shmeta__part *part, uint64_t key, const void *bytes, size_t head_bytes,
                                     const struct shmeta__pages *pages)
{
	struct shmeta_part_head head;
	uint64_t entries_end, tail_at;
	int has_tail = 0;

	if (head_bytes < HEAD_BYTES || head_bytes > UINT32_MAX)
		return SHMETA_ERR_CORRUPT;
	shmeta__copy_once(&head, bytes, sizeof head);
	entries_end = head.entries_at + ENTRY_BYTES * ((uint64_t)head.dirs + head.leaves);
	if (head.kind != SHMETA_RECORD_PARTITION || head.leaves > LEAVES_MAX || head.entries_at < HEAD_BYTES ||
	    entries_end > head_bytes || head.checksum != shmeta__head_checksum(bytes, head_bytes, key))
		return SHMETA_ERR_CORRUPT;
	tail_at = entries_end;
	if (head.leaves) {
		const uint8_t *last = (const uint8_t *)bytes + entries_end - ENTRY_BYTES;

		has_tail = !E32(last, locator);
		if (has_tail && head_bytes - tail_at < sizeof(struct shmeta_block_head) + SHMETA_BLOCK_SLACK)
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
	part->flags = head.flags | (head.leaves ? 0 : NO_LEAVES);
	part->rewrites = head.rewrites;
	part->first_leaf = head.first_leaf;
	part->first_dir = head.first_dir;
	part->dirs = part->head + head.entries_at;
	part->dir_count = head.dirs;
	part->dir_slope = head.dir_slope;
	part->dir_base = head.dirs ? E64(part->dirs, base) : UINT64_MAX;
	part->leaves = part->dirs + ENTRY_BYTES * (size_t)head.dirs;
	part->leaf_count = head.leaves;
	part->leaf_slope = head.leaf_slope;
	part->leaf_base = head.leaves ? E64(part->leaves, base) : UINT64_MAX;
	part->tail = part->head + tail_at;
	part->tail_bytes = has_tail ? (uint32_t)(head_bytes - tail_at) : 0;
	part->synced_at_ns = head.synced_at_ns;
	part->ttl_ms = head.ttl_ms;
	return SHMETA_OK;
}

static uint64_t log_start(const struct shmeta__part *part)
{
	if (part->dir_count)
		return part->dir_base;
	return part->leaf_count ? part->leaf_base
	                        : shmeta__ld64(part->head + offsetof(struct shmeta_part_head, high_watermark));
}

void shmeta__part_record(const struct shmeta__part *part, struct shmeta_partition *ret)
{
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
}

uint64_t shmeta__part_synced_at_ns(const struct shmeta__part *part)
{
	return part->synced_at_ns;
}

uint32_t shmeta__part_ttl_ms(const struct shmeta__part *part)
{
	return part->ttl_ms;
}

/* ---- pages and blocks ------------------------------------------------------------------------------------------------- */

/* NULL: it names no page that is there. */
static const uint8_t *page_at(const struct shmeta__part *part, uint32_t locator)
{
	locator = shmeta__once32(locator);
	if (unlikely(!locator || locator > part->last_page))
		return NULL;
	return part->pages.base + (uint64_t)locator * part->pages.page_bytes + 16;
}

/* Where it is remembered that a block was verified. */
struct mark {
	uint64_t *word;
	unsigned bit;
};

static struct mark leaf_mark(struct shmeta__part *part, uint32_t leaf)
{
	uint32_t ordinal = part->first_leaf + leaf;

	return (struct mark){&part->checked[ordinal / 64 % 2], ordinal % 64};
}

/* physical: the entry's place in the page, entries that were dropped counted. DIR_BIT: the page itself. */
static struct mark dir_mark(struct shmeta__part *part, uint32_t dir, unsigned physical)
{
	uint32_t ordinal = part->first_dir + dir;

	if (unlikely(part->dir_count > part->dir_words))
		return (struct mark){NULL, 0};
	return (struct mark){&dir_words(part)[ordinal & (part->dir_words - 1)], physical};
}

static int is_marked(struct mark mark)
{
	return mark.word && (*mark.word >> mark.bit & 1);
}

static void set_mark(struct mark mark)
{
	if (mark.word)
		*mark.word |= UINT64_C(1) << mark.bit;
}

__attribute__((noinline, cold)) static int verify_block(const struct shmeta__part *part, const uint8_t *entry,
                                                        const uint8_t *bytes)
{
	struct shmeta_block_head head;

	memcpy(&head, bytes, sizeof head);
	return head.checksum == shmeta__block_checksum(bytes) && head.key == part->key && head.id == E64(entry, id) &&
	       head.rows == E32(entry, rows) && head.stride == E8(entry, stride) &&
	       head.bias[SHMETA_FIELD_BASE] == E64(entry, base) &&
	       head.width[SHMETA_FIELD_BASE] == E8(entry, base_width);
}

/* The rows of a block entry (not of a directory page). 0: corrupt. */
static inline int open_block(const struct shmeta__part *part, const uint8_t *entry, struct mark mark,
                             struct shmeta__block *ret)
{
	uint32_t locator = shmeta__once32(E32(entry, locator));
	const uint8_t *bytes;
	size_t readable;

	if (likely(locator)) {
		bytes = page_at(part, locator);
		readable = SHMETA_BLOCK_BYTES;
		if (unlikely(!bytes))
			return 0;
		if (unlikely(!is_marked(mark))) {
			if (!verify_block(part, entry, bytes))
				return 0;
			set_mark(mark);
		}
	} else {
		/* Only the last entry is the tail's; open has checked that its head is readable. */
		bytes = part->tail;
		readable = part->tail_bytes;
		if (unlikely(!readable))
			return 0;
	}
	return shmeta__block_view(bytes, readable, shmeta__once32(E32(entry, rows)), shmeta__once32(E8(entry, stride)),
	                          ret);
}

/* The entries of a directory page that are in use. NULL: corrupt. */
static const uint8_t *open_dir(struct shmeta__part *part, uint32_t dir, uint32_t *ret_first, uint32_t *ret_count)
{
	const uint8_t *entry = part->dirs + ENTRY_BYTES * (size_t)dir, *bytes;
	struct mark mark = dir_mark(part, dir, DIR_BIT);
	struct shmeta_part_dir head;
	uint32_t first = shmeta__once32(E8(entry, first)), count = shmeta__once32(E8(entry, count));

	bytes = page_at(part, E32(entry, locator));
	if (!bytes || !(E16(entry, flags) & SHMETA_ENTRY_DIR) || !count || first + count > SHMETA_DIR_FANOUT)
		return NULL;
	*ret_first = first;
	*ret_count = count;
	if (!is_marked(mark)) {
		memcpy(&head, bytes, sizeof head);
		if (head.checksum != shmeta__block_checksum(bytes) || head.key != part->key ||
		    head.id != E64(entry, id) || head.entries != first + count)
			return NULL;
		set_mark(mark);
	}
	return bytes + DIR_BYTES + ENTRY_BYTES * (size_t)first;
}

/* ---- searching -------------------------------------------------------------------------------------------------------- */

/* The largest i < count whose number, at p + i * stride under mask, is <= target; 0 when there is none. Begins at a guess and
 * widens its steps, so that a good guess costs two probes and a bad one no more than twice a binary search. */
static inline uint32_t floor_of(const uint8_t *p, uint32_t stride, uint64_t mask, uint32_t count, uint64_t target,
                                uint64_t guess)
{
	uint32_t low, high, step = 1;

	low = guess < count ? (uint32_t)guess : count - 1;
	if ((shmeta__ld64(p + (size_t)low * stride) & mask) <= target) {
		for (;;) {
			high = low + step;
			if (high >= count) {
				high = count;
				break;
			}
			if ((shmeta__ld64(p + (size_t)high * stride) & mask) > target)
				break;
			low = high;
			step *= 2;
		}
	} else {
		for (;;) {
			high = low;
			if (step >= high) {
				low = 0;
				break;
			}
			low = high - step;
			if ((shmeta__ld64(p + (size_t)low * stride) & mask) <= target)
				break;
			step *= 2;
		}
	}
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if ((shmeta__ld64(p + (size_t)middle * stride) & mask) <= target)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static inline uint32_t floor_entry(const uint8_t *entries, uint32_t count, uint64_t slope, uint64_t offset)
{
	return floor_of(entries, ENTRY_BYTES, UINT64_MAX, count, offset,
	                shmeta__scale(offset - E64(entries, base), slope));
}

__attribute__((noinline)) static uint32_t floor_from(const uint8_t *p, uint32_t stride, uint64_t mask, uint32_t count,
                                                     uint64_t target, uint64_t guess)
{
	return floor_of(p, stride, mask, count, target, guess);
}

/* The last row whose base is <= offset, which the entry's base is. The common case has no branch that depends on the data and
 * the shortest chain of loads: interpolate, correct by what the row found there says, choose in a window of four; sizes that vary
 * by chance end there nine times in ten. */
static inline __attribute__((always_inline)) const uint8_t *floor_row(const struct shmeta__block *block,
                                                                      const uint8_t *entry, uint64_t offset)
{
	const uint8_t *p = block->bytes + sizeof(struct shmeta_block_head), *row;
	uint64_t distance = offset - E64(entry, base), slope = E64(entry, slope), stride = block->stride;
	uint64_t mask = shmeta__masks[E8(entry, base_width) & 15];
	uint64_t last = block->rows - 1, guess = shmeta__scale(distance, slope), error, low, second, third;

	if (unlikely(guess > last || last < 3))
		goto search;
	row = p + guess * stride;
	__builtin_prefetch(row + 64);
	__builtin_prefetch(row - 64);
	/* Signed error times unsigned slope, rounded down. Impossible numbers give an impossible place, found out below. */
	error = distance - (shmeta__ld64(row) & mask);
	low = guess + shmeta__scale(error, slope) - (slope & (0 - (error >> 63))) - 1;
	if (unlikely(low > last - 3))
		goto search;
	row = p + low * stride;
	second = 0 - (uint64_t)((shmeta__ld64(row + stride) & mask) <= distance);
	third = 0 - (uint64_t)((shmeta__ld64(row + 2 * stride) & mask) <= distance);
	if (likely((shmeta__ld64(row) & mask) <= distance && (shmeta__ld64(row + 3 * stride) & mask) > distance))
		return row + (stride & second) + (stride & third);
search:
	return p + stride * floor_from(p, block->stride, mask, block->rows, distance, guess);
}

static uint32_t row_number(const struct shmeta__block *block, const uint8_t *row)
{
	return block->stride ? (uint32_t)(row - shmeta__block_at(block, 0)) / block->stride : 0;
}

/* A place among all block entries: `top` counts directory entries, then the head's block entries. */
struct place {
	uint32_t top, sub; /* sub: among the entries in use of a directory page */
};

static uint32_t top_count(const struct shmeta__part *part)
{
	return part->dir_count + part->leaf_count;
}

/* The block entry there; *ret_count: how many entries share its top. NULL: corrupt. */
static const uint8_t *entry_at(struct shmeta__part *part, struct place place, struct mark *ret_mark,
                               uint32_t *ret_count)
{
	const uint8_t *entries;
	uint32_t first;

	if (place.top >= part->dir_count) {
		*ret_mark = leaf_mark(part, place.top - part->dir_count);
		*ret_count = 1;
		return part->leaves + ENTRY_BYTES * (size_t)(place.top - part->dir_count);
	}
	entries = open_dir(part, place.top, &first, ret_count);
	if (!entries || place.sub >= *ret_count)
		return NULL;
	*ret_mark = dir_mark(part, place.top, first + place.sub);
	return entries + ENTRY_BYTES * (size_t)place.sub;
}

/* The entry with the largest base <= offset, which is at or above the log start. NULL: corrupt. */
static const uint8_t *locate(struct shmeta__part *part, uint64_t offset, struct mark *ret_mark, struct place *ret)
{
	const uint8_t *entries;
	uint32_t first, count;

	if (part->leaf_count && offset >= part->leaf_base) {
		ret->top = part->dir_count + floor_entry(part->leaves, part->leaf_count, part->leaf_slope, offset);
		ret->sub = 0;
		return entry_at(part, *ret, ret_mark, &count);
	}
	ret->top = floor_entry(part->dirs, part->dir_count, part->dir_slope, offset);
	entries = open_dir(part, ret->top, &first, &count);
	if (!entries || offset < E64(entries, base))
		return NULL;
	ret->sub = floor_entry(entries, count, E64(part->dirs + ENTRY_BYTES * (size_t)ret->top, slope), offset);
	*ret_mark = dir_mark(part, ret->top, first + ret->sub);
	return entries + ENTRY_BYTES * (size_t)ret->sub;
}

static inline void give_row(const struct shmeta__part *part, const uint8_t *entry, const struct shmeta__block *block,
                            const uint8_t *row, struct shmeta_segment *ret)
{
	shmeta__block_row(block, row, ret);
	ret->partition_id = (uint32_t)part->key;
	/* Separately: chained, gcc copies the first through a 16-byte load that must wait for its two 8-byte stores. */
	ret->id = (struct shmeta_str){NULL, 0};
	ret->s3_bucket = (struct shmeta_str){NULL, 0};
	ret->s3_key = (struct shmeta_str){NULL, 0};
	ret->position = 0;
	ret->locator[0] = E32(entry, locator);
	ret->locator[1] = (uint64_t)(row - block->bytes);
}

static inline uint64_t end_of(const struct shmeta__block *block, const uint8_t *row)
{
	return shmeta__block_number(block, row, SHMETA_FIELD_BASE) +
	       shmeta__block_number(block, row, SHMETA_FIELD_SPAN);
}

/* Nothing contains the offset. */
__attribute__((noinline)) static enum shmeta_status absent(const struct shmeta__part *part, uint64_t offset)
{
	if (offset < log_start(part))
		return SHMETA_ABSENT_BEFORE_START;
	if (offset >= shmeta__ld64(part->head + offsetof(struct shmeta_part_head, high_watermark)))
		return SHMETA_ABSENT_AT_END;
	return SHMETA_ABSENT_GAP;
}

/* The row with the largest base <= offset ends before it, and rows overlap somewhere: go back to the first that contains it. */
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
			           E64(part->dirs + ENTRY_BYTES * (size_t)place.top, max_end) < offset;
		} while (skip_dir);
		place.sub = 0;
		if (place.top < part->dir_count) {
			uint32_t ignored;

			if (!open_dir(part, place.top, &ignored, &count))
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

/* The common case in one go: a block of the head, verified before, in which the row is found. Everything else, and everything
 * that is wrong, is find_anywhere()'s. */
enum shmeta_status shmeta__part_find(struct shmeta__part *part, uint64_t offset, struct shmeta_segment *ret)
{
	uint64_t guess = shmeta__scale(offset - part->leaf_base, part->leaf_slope);
	const uint8_t *entry, *bytes, *row;
	struct shmeta__block block;
	uint32_t leaf, ordinal, locator;
	size_t readable;

	if (unlikely(offset < part->leaf_base || part->flags & NO_LEAVES))
		return find_anywhere(part, offset, ret);
	leaf = guess < part->leaf_count ? (uint32_t)guess : part->leaf_count - 1;
	entry = part->leaves + ENTRY_BYTES * (size_t)leaf;
	/* Where nothing overlaps, an entry that reaches the offset is the one. */
	if (offset < E64(entry, base) || offset > E64(entry, max_end) || part->flags) {
		leaf = floor_of(part->leaves, ENTRY_BYTES, UINT64_MAX, part->leaf_count, offset, leaf);
		entry = part->leaves + ENTRY_BYTES * (size_t)leaf;
	}
	locator = shmeta__once32(E32(entry, locator));
	ordinal = part->first_leaf + leaf;
	if (likely(locator)) {
		bytes = part->pages.base + (uint64_t)locator * part->pages.page_bytes + 16;
		readable = SHMETA_BLOCK_BYTES;
		if (unlikely(!(part->checked[ordinal / 64 % 2] >> ordinal % 64 & 1) || locator > part->last_page))
			return find_anywhere(part, offset, ret);
	} else {
		bytes = part->tail;
		readable = part->tail_bytes;
		if (unlikely(!readable))
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

enum shmeta_status shmeta__part_last(struct shmeta__part *part, struct shmeta_segment *ret)
{
	const uint8_t *entry;
	struct shmeta__block block;
	struct place place;
	struct mark mark;

	if (!top_count(part))
		return SHMETA_ABSENT_AT_END;
	entry = locate(part, UINT64_MAX, &mark, &place);
	if (!entry || !open_block(part, entry, mark, &block))
		return SHMETA_ERR_CORRUPT;
	give_row(part, entry, &block, shmeta__block_at(&block, block.rows - 1), ret);
	return SHMETA_OK;
}

/* ---- walking ---------------------------------------------------------------------------------------------------------- */

/* Move to the next block entry. 0: there is none. count: of the entries that share its top. */
static int advance(const struct shmeta__part *part, struct place *place, uint32_t count)
{
	if (place->top < part->dir_count && place->sub + 1 < count) {
		place->sub++;
		return 1;
	}
	place->top++;
	place->sub = 0;
	return place->top < top_count(part);
}

static int64_t max_timestamp(const struct shmeta__block *block, uint32_t row)
{
	const uint8_t *p = shmeta__block_at(block, row);

	return (int64_t)(shmeta__block_number(block, p, SHMETA_FIELD_MIN_TS) +
	                 shmeta__block_number(block, p, SHMETA_FIELD_TS_SPAN));
}

enum shmeta_status shmeta__part_find_timestamp(struct shmeta__part *part, int64_t timestamp_ms,
                                               struct shmeta_segment *ret)
{
	struct place place = {0, 0};
	struct shmeta__block block;
	struct mark mark;
	uint32_t count = 0;

	while (place.top < top_count(part)) {
		const uint8_t *entry = part->dirs + ENTRY_BYTES * (size_t)place.top;

		if (!place.sub && (int64_t)E64(entry, max_timestamp_ms) < timestamp_ms) {
			place.top++;
			continue;
		}
		entry = entry_at(part, place, &mark, &count);
		if (!entry)
			return SHMETA_ERR_CORRUPT;
		if ((int64_t)E64(entry, max_timestamp_ms) >= timestamp_ms) {
			uint32_t row = 0, high;

			if (!open_block(part, entry, mark, &block))
				return SHMETA_ERR_CORRUPT;
			if (E16(entry, flags) & SHMETA_ENTRY_TIME_SORTED) {
				for (high = block.rows; row < high;) {
					uint32_t middle = row + (high - row) / 2;

					if (max_timestamp(&block, middle) < timestamp_ms)
						row = middle + 1;
					else
						high = middle;
				}
			} else {
				while (row < block.rows && max_timestamp(&block, row) < timestamp_ms)
					row++;
			}
			if (row == block.rows)
				return SHMETA_ERR_CORRUPT;
			give_row(part, entry, &block, shmeta__block_at(&block, row), ret);
			return SHMETA_OK;
		}
		if (!advance(part, &place, count))
			break;
	}
	return SHMETA_ABSENT_AT_END;
}

enum shmeta_status shmeta__part_seek(struct shmeta__part *part, uint64_t from, uint64_t to,
                                     struct shmeta__part_cursor *ret)
{
	struct place place = {0, 0};
	struct shmeta__block block;
	const uint8_t *entry;
	struct mark mark;
	uint32_t row = 0;

	/* Where rows overlap the first that reaches `from` may be any; next() skips blocks and pages that do not. */
	if (top_count(part) && from >= log_start(part) && !(part->flags & SHMETA_PART_OVERLAPS)) {
		entry = locate(part, from, &mark, &place);
		if (!entry || !open_block(part, entry, mark, &block))
			return SHMETA_ERR_CORRUPT;
		row = row_number(&block, floor_row(&block, entry, from));
	}
	*ret = (struct shmeta__part_cursor){.from = from, .to = to, .entry = place.top, .sub = place.sub, .row = row};
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_next(struct shmeta__part *part, struct shmeta__part_cursor *cursor,
                                     struct shmeta_segment *ret)
{
	struct place place = {(uint32_t)cursor->entry, cursor->sub};
	uint32_t row = cursor->row, count;
	struct shmeta__block block;
	struct mark mark;

	if (cursor->entry >= top_count(part))
		return SHMETA_END;
	do {
		const uint8_t *entry;

		if (!row && !place.sub && E64(part->dirs + ENTRY_BYTES * (size_t)place.top, max_end) < cursor->from) {
			count = 1;
			continue;
		}
		entry = entry_at(part, place, &mark, &count);
		if (!entry)
			return SHMETA_ERR_CORRUPT;
		if (E64(entry, base) > cursor->to)
			break;
		if (E64(entry, max_end) < cursor->from)
			continue;
		if (!open_block(part, entry, mark, &block))
			return SHMETA_ERR_CORRUPT;
		while (row < block.rows && end_of(&block, shmeta__block_at(&block, row)) < cursor->from)
			row++;
		/* Beyond the rows when the block has become a shorter one since the cursor stood there. */
		if (row >= block.rows)
			continue;
		if (shmeta__block_base(&block, row) > cursor->to)
			break;
		give_row(part, entry, &block, shmeta__block_at(&block, row++), ret);
		if (row == block.rows) {
			advance(part, &place, count);
			row = 0;
		}
		cursor->entry = place.top;
		cursor->sub = place.sub;
		cursor->row = row;
		return SHMETA_OK;
	} while (row = 0, advance(part, &place, count));
	cursor->entry = UINT64_MAX;
	return SHMETA_END;
}

/* ---- strings ---------------------------------------------------------------------------------------------------------- */

enum shmeta_status shmeta__part_strings(struct shmeta__part *part, const char *topic, size_t topic_bytes,
                                        struct shmeta_segment *segment, char *buffer, size_t bytes)
{
	uint64_t base = segment->base_offset, position = 0;
	struct shmeta_str spelled[SHMETA_STRINGS];
	char *end = buffer + bytes, *behind;
	struct shmeta__values values;
	struct shmeta__block block;
	const uint8_t *entry;
	struct place place;
	struct mark mark;
	const uint8_t *row;

	if (!top_count(part) || base < log_start(part))
		return SHMETA_ERR_INVALID_ARGUMENT;
	entry = locate(part, base, &mark, &place);
	if (!entry || !open_block(part, entry, mark, &block))
		return SHMETA_ERR_CORRUPT;
	row = floor_row(&block, entry, base);
	if (shmeta__block_number(&block, row, SHMETA_FIELD_BASE) != base)
		return SHMETA_ERR_INVALID_ARGUMENT;
	shmeta__values_part(&values, part->key, topic, topic_bytes);
	shmeta__values_row(&values, base, end_of(&block, row));
	for (unsigned f = 0; f < SHMETA_STRINGS; f++) {
		struct shmeta_str string;
		int is_template;

		if (!shmeta__block_string(block.bytes, block.readable, &block, row, SHMETA_NUMBERS + f, &string,
		                          &is_template))
			return SHMETA_ERR_CORRUPT;
		if (f == SHMETA_STRINGS - 1)
			position = shmeta__key_position(&string, is_template, &values);
		behind = buffer == end ? NULL : shmeta__spell(buffer, end - 1, string, is_template, &values);
		if (behind == NULL)
			return SHMETA_ERR_BUFFER;
		*behind = '\0';
		spelled[f] = (struct shmeta_str){buffer, (size_t)(behind - buffer)};
		buffer = behind + 1;
	}
	segment->id = spelled[0];
	segment->s3_bucket = spelled[1];
	segment->s3_key = spelled[2];
	segment->position = position;
	return SHMETA_OK;
}

/* ---- judging ---------------------------------------------------------------------------------------------------------- */

enum shmeta_status shmeta__part_blocks(struct shmeta__part *part,
                                       void (*each)(void *arg, uint64_t block_id, uint64_t locator), void *arg)
{
	struct place place = {0, 0};
	struct mark mark;
	uint32_t count;

	for (uint32_t i = 0; i < part->dir_count; i++) {
		const uint8_t *entry = part->dirs + ENTRY_BYTES * (size_t)i;

		each(arg, E64(entry, id), E32(entry, locator));
	}
	if (!top_count(part))
		return SHMETA_OK;
	do {
		const uint8_t *entry = entry_at(part, place, &mark, &count);

		if (!entry)
			return SHMETA_ERR_CORRUPT;
		if (E32(entry, locator))
			each(arg, E64(entry, id), E32(entry, locator));
	} while (advance(part, &place, count));
	return SHMETA_OK;
}

/* Running sums over entries of one level. */
struct sums {
	uint64_t rows, size_bytes, max_end, last_base;
	int64_t max_timestamp_ms;
	int any, overlaps;
};

static const char *add_entry(struct sums *sums, const struct shmeta_part_entry *entry)
{
	if (sums->any && entry->base <= sums->last_base)
		return "entries are not in ascending order";
	if (entry->flags & SHMETA_ENTRY_OVERLAPS || (sums->any && entry->base <= sums->max_end))
		sums->overlaps = 1;
	if (!sums->any || entry->max_end > sums->max_end)
		sums->max_end = entry->max_end;
	if (!sums->any || entry->max_timestamp_ms > sums->max_timestamp_ms)
		sums->max_timestamp_ms = entry->max_timestamp_ms;
	sums->rows += entry->rows;
	sums->size_bytes += entry->size_bytes;
	sums->last_base = entry->base;
	sums->any = 1;
	return NULL;
}

static enum shmeta_status part_fail(const struct shmeta__part *part, struct shmeta_err *err, uint64_t id,
                                    const char *what)
{
	if (!id)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "partition %u of topic id %u: head: %s",
		                   (uint32_t)part->key, (uint32_t)(part->key >> 32), what);
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "partition %u of topic id %u: block %llu: %s", (uint32_t)part->key,
	                   (uint32_t)(part->key >> 32), (unsigned long long)id, what);
}

/* One block entry and its block. *last: the largest base so far, of any row. */
static enum shmeta_status verify_leaf(struct shmeta__part *part, const uint8_t *bytes, struct sums *sums,
                                      uint64_t *last, int *any, struct shmeta_err *err)
{
	struct shmeta_part_entry entry;
	struct shmeta__block block;
	const uint8_t *at;
	const char *what;

	shmeta__copy_once(&entry, bytes, sizeof entry);
	what = add_entry(sums, &entry);
	if (what)
		return part_fail(part, err, entry.id, what);
	at = entry.locator ? page_at(part, entry.locator) : part->tail;
	if (!at || (entry.locator && !verify_block(part, bytes, at)))
		return part_fail(part, err, entry.id, "its bytes are not what was written");
	what = shmeta__block_verify(at, entry.locator ? SHMETA_BLOCK_BYTES : part->tail_bytes, &entry, part->key);
	if (what)
		return part_fail(part, err, entry.id, what);
	if (*any && entry.base <= *last)
		return part_fail(part, err, entry.id, "its rows begin before the last ones end");
	if (!open_block(part, bytes, (struct mark){NULL, 0}, &block))
		return part_fail(part, err, entry.id, "it cannot be opened");
	*last = shmeta__block_base(&block, block.rows - 1);
	*any = 1;
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_verify(struct shmeta__part *part, struct shmeta_err *err)
{
	struct sums top = {0};
	struct shmeta_part_head head;
	enum shmeta_status status;
	uint64_t last = 0;
	int any = 0;

	memcpy(&head, part->head, sizeof head);
	if (head.checksum != shmeta__head_checksum(part->head, part->head_bytes, part->key))
		return part_fail(part, err, 0, "its bytes are not what was written");
	for (uint32_t d = 0; d < part->dir_count; d++) {
		const uint8_t *bytes = part->dirs + ENTRY_BYTES * (size_t)d, *entries;
		struct shmeta_part_entry entry;
		struct sums page = {0};
		uint32_t first, count;
		const char *what;

		memcpy(&entry, bytes, sizeof entry);
		if (dir_mark(part, d, 0).word)
			*dir_mark(part, d, 0).word = 0; /* verify anew */
		entries = open_dir(part, d, &first, &count);
		if (!entries)
			return part_fail(part, err, entry.id, "the directory page is not what was written");
		for (uint32_t i = 0; i < count; i++) {
			if (E16(entries + ENTRY_BYTES * (size_t)i, flags) & SHMETA_ENTRY_DIR ||
			    !E32(entries + ENTRY_BYTES * (size_t)i, locator))
				return part_fail(part, err, entry.id, "a directory page holds something but blocks");
			status = verify_leaf(part, entries + ENTRY_BYTES * (size_t)i, &page, &last, &any, err);
			if (status)
				return status;
		}
		if (entry.base != E64(entries, base) || entry.rows != page.rows ||
		    entry.size_bytes != page.size_bytes || entry.max_end != page.max_end ||
		    entry.max_timestamp_ms != page.max_timestamp_ms ||
		    (entry.flags & SHMETA_ENTRY_OVERLAPS) != (page.overlaps ? SHMETA_ENTRY_OVERLAPS : 0))
			return part_fail(part, err, entry.id, "the directory page's sums are not what its entry says");
		what = add_entry(&top, &entry);
		if (what)
			return part_fail(part, err, entry.id, what);
	}
	for (uint32_t i = 0; i < part->leaf_count; i++) {
		const uint8_t *bytes = part->leaves + ENTRY_BYTES * (size_t)i;

		if (E16(bytes, flags) & SHMETA_ENTRY_DIR || (!E32(bytes, locator) && i + 1 < part->leaf_count))
			return part_fail(part, err, E64(bytes, id), "a block entry is out of place");
		status = verify_leaf(part, bytes, &top, &last, &any, err);
		if (status)
			return status;
	}
	if (head.segment_count != top.rows || head.size_bytes != top.size_bytes || head.max_end != top.max_end ||
	    (head.flags & SHMETA_PART_OVERLAPS) != (top.overlaps ? SHMETA_PART_OVERLAPS : 0))
		return part_fail(part, err, 0, "its sums are not what its entries say");
	return SHMETA_OK;
}
