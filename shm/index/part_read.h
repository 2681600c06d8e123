/* SPDX-License-Identifier: Apache-2.0
 * Finding a row: from a partition's head over its block entries to a block, and in it. Private to
 * part*.c; inline, because a lookup is these few loads. Every number that bounds an access is read
 * once and judged here. */
#ifndef SHMETA_SHM_INDEX_PART_READ_H
#define SHMETA_SHM_INDEX_PART_READ_H

#include "shm/index/block.h"
#include "shm/index/verified.h"

enum {
	PART_HEAD_BYTES = sizeof(struct shmeta_part_head),
	PART_ENTRY_BYTES = sizeof(struct shmeta_part_entry),
	PART_DIR_BYTES = sizeof(struct shmeta_part_dir),
	PART_BLOCKS_MAX = 128,
	PART_DIR_BIT = 63,       /* of a word: the directory page itself */
	PART_NO_BLOCKS = 1 << 30 /* in part->flags: the head has no block entry */
};

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define E64(entry, field) shmeta__ld64((entry) + offsetof(struct shmeta_part_entry, field))
#define E32(entry, field) shmeta__ld32((entry) + offsetof(struct shmeta_part_entry, field))
#define E16(entry, field) shmeta__ld16((entry) + offsetof(struct shmeta_part_entry, field))
#define E8(entry, field) (entry)[offsetof(struct shmeta_part_entry, field)]

static inline uint64_t *dir_words(struct shmeta__part *part)
{
	return part->dir_heap ? part->dir_heap : part->dir_inline;
}

static inline uint64_t log_start(const struct shmeta__part *part)
{
	if (part->dir_count)
		return part->dir_base;
	return part->block_count ? part->block_base
	                         : shmeta__ld64(part->head + offsetof(struct shmeta_part_head, high_watermark));
}

/* NULL: it names no page that is there. */
static inline const uint8_t *page_at(const struct shmeta__part *part, uint32_t locator)
{
	locator = shmeta__once32(locator);
	if (unlikely(!locator || locator > part->last_page))
		return NULL;
	return part->pages.base + (uint64_t)locator * part->pages.page_bytes + 16;
}

/* The bit that says that a block was verified. */
struct mark {
	uint64_t *word;
	unsigned bit;
};

static inline struct mark block_mark(struct shmeta__part *part, uint32_t block)
{
	uint32_t ordinal = part->first_block + block;

	return (struct mark){&part->checked[ordinal / 64 % 2], ordinal % 64};
}

/* physical: the entry's place in the page, entries that were dropped counted. PART_DIR_BIT: the
 * page itself. */
static inline struct mark dir_mark(struct shmeta__part *part, uint32_t dir, unsigned physical)
{
	uint32_t ordinal = part->first_dir + dir;

	if (unlikely(part->dir_count > part->dir_words))
		return (struct mark){NULL, 0};
	return (struct mark){&dir_words(part)[ordinal & (part->dir_words - 1)], physical};
}

static inline int is_marked(struct mark mark)
{
	return mark.word && (*mark.word >> mark.bit & 1);
}

static inline void set_mark(struct mark mark)
{
	if (mark.word)
		*mark.word |= UINT64_C(1) << mark.bit;
}

/* Judge a block's checksum, and that it is the one of its entry, which says this id. */
int shmeta__part_block_verify(const struct shmeta__part *part, const uint8_t *entry, uint64_t id, const uint8_t *bytes);

/* Is the tail there, and still this partition's? The head was verified when it was opened; a page
 * that has come in its place since is, mostly, another partition's. The same question of a block
 * would cost each lookup in one a cache line. */
static inline int has_tail(const struct shmeta__part *part)
{
	return part->tail_bytes > 0 && shmeta__ld64(part->tail + offsetof(struct shmeta_block_head, key)) == part->key;
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
			uint64_t id = shmeta__once64(E64(entry, id));

			if (!shmeta__verified_has(part->pages.verified, id)) {
				if (!shmeta__part_block_verify(part, entry, id, bytes))
					return 0;
				shmeta__verified_add(part->pages.verified, id);
			}
			set_mark(mark);
		}
	} else {
		/* Only the last entry is the tail's; open has checked that its head is readable. */
		bytes = part->tail;
		readable = part->tail_bytes;
		if (unlikely(!has_tail(part)))
			return 0;
	}
	return shmeta__block_view(bytes, readable, shmeta__once32(E32(entry, rows)), shmeta__once32(E8(entry, stride)),
	                          ret);
}

/* The entries of a directory page that are in use. NULL: corrupt. */
const uint8_t *shmeta__part_dir_open(struct shmeta__part *part, uint32_t dir, uint32_t *ret_first, uint32_t *ret_count);

/* The largest i < count whose number, at p + i * stride under mask, is <= target; 0 when there is
 * none. Begins at a guess and widens its steps, so that a good guess costs two probes and a bad one
 * no more than twice a binary search. */
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
	return floor_of(entries, PART_ENTRY_BYTES, UINT64_MAX, count, offset,
	                shmeta__scale(offset - E64(entries, base), slope));
}

uint32_t shmeta__part_floor(const uint8_t *p, uint32_t stride, uint64_t mask, uint32_t count, uint64_t target,
                            uint64_t guess);

/* The last row whose base is <= offset, which the entry's base is. The common case has no branch
 * that depends on the data and the shortest chain of loads: interpolate, correct by what the row
 * found there says, choose in a window of four; sizes that vary by chance end there nine times in
 * ten. */
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
	/* Signed error times unsigned slope, rounded down. Impossible numbers give an impossible
	 * place, found out below. */
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
	return p + stride * shmeta__part_floor(p, block->stride, mask, block->rows, distance, guess);
}

static inline uint32_t row_number(const struct shmeta__block *block, const uint8_t *row)
{
	return block->stride ? (uint32_t)(row - shmeta__block_at(block, 0)) / block->stride : 0;
}

/* A place among all block entries: `top` counts directory entries, then the head's block
 * entries. */
struct place {
	uint32_t top, sub; /* sub: among the entries in use of a directory page */
};

static inline uint32_t top_count(const struct shmeta__part *part)
{
	return part->dir_count + part->block_count;
}

/* The block entry there; *ret_count: how many entries share its top. NULL: corrupt. */
static inline const uint8_t *entry_at(struct shmeta__part *part, struct place place, struct mark *ret_mark,
                                      uint32_t *ret_count)
{
	const uint8_t *entries;
	uint32_t first;

	if (place.top >= part->dir_count) {
		*ret_mark = block_mark(part, place.top - part->dir_count);
		*ret_count = 1;
		return part->blocks + PART_ENTRY_BYTES * (size_t)(place.top - part->dir_count);
	}
	entries = shmeta__part_dir_open(part, place.top, &first, ret_count);
	if (!entries || place.sub >= *ret_count)
		return NULL;
	*ret_mark = dir_mark(part, place.top, first + place.sub);
	return entries + PART_ENTRY_BYTES * (size_t)place.sub;
}

/* The entry with the largest base <= offset, which is at or above the log start. NULL: corrupt. */
static inline const uint8_t *locate(struct shmeta__part *part, uint64_t offset, struct mark *ret_mark,
                                    struct place *ret)
{
	const uint8_t *entries;
	uint32_t first, count;

	if (part->block_count && offset >= part->block_base) {
		ret->top = part->dir_count + floor_entry(part->blocks, part->block_count, part->block_slope, offset);
		ret->sub = 0;
		return entry_at(part, *ret, ret_mark, &count);
	}
	ret->top = floor_entry(part->dirs, part->dir_count, part->dir_slope, offset);
	entries = shmeta__part_dir_open(part, ret->top, &first, &count);
	if (!entries || offset < E64(entries, base))
		return NULL;
	ret->sub = floor_entry(entries, count, E64(part->dirs + PART_ENTRY_BYTES * (size_t)ret->top, slope), offset);
	*ret_mark = dir_mark(part, ret->top, first + ret->sub);
	return entries + PART_ENTRY_BYTES * (size_t)ret->sub;
}

static inline void give_row(const struct shmeta__part *part, const uint8_t *entry, const struct shmeta__block *block,
                            const uint8_t *row, struct shmeta_segment *ret)
{
	shmeta__block_row(block, row, ret);
	ret->partition_id = (uint32_t)part->key;
	/* Separately: chained, gcc copies the first through a 16-byte load that must wait for its
	 * two 8-byte stores. */
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

/* Move to the next block entry. 0: there is none. count: of the entries that share its top. */
static inline int advance(const struct shmeta__part *part, struct place *place, uint32_t count)
{
	if (place->top < part->dir_count && place->sub + 1 < count) {
		place->sub++;
		return 1;
	}
	place->top++;
	place->sub = 0;
	return place->top < top_count(part);
}

#endif
