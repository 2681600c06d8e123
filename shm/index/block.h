/* SPDX-License-Identifier: Apache-2.0
 * A block of segment rows: its layout, and reading it. Private to shm/index; row_template.h spells
 * its strings, builder.h makes it.
 *
 *   block: head (112 bytes) | rows, row-major, each `stride` bytes | pool of strings | zeros up to
 *   SHMETA_BLOCK_BYTES
 *
 * A row is ten unsigned little-endian numbers of 0..8 bytes each, one after the other; a field's
 * width and bias belong to the block: value = bias + number, modulo 2^64. The last three are the
 * places of the row's strings in the pool.
 *   base | end - base | record_count - (end - base + 1) | size | created | min timestamp | max -
 *   min timestamp | id | bucket | key
 * A string in the pool: uint16_t (bytes, SHMETA_STRING_TEMPLATE or'ed in), the bytes. In a template
 * the bytes 1..5 stand for topic, partition, base, base as %020 and end; a string that itself holds
 * such a byte is stored as it is.
 *
 * A field is loaded as eight bytes and masked, so eight readable bytes must follow every row: the
 * pool has at least that many. */
#ifndef SHMETA_SHM_INDEX_BLOCK_H
#define SHMETA_SHM_INDEX_BLOCK_H

#include <string.h>

#include "base/once.h"
#include "shm/index/part.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blocks are little endian"
#endif

enum shmeta_block_field {
	SHMETA_FIELD_BASE,
	SHMETA_FIELD_SPAN,
	SHMETA_FIELD_COUNT,
	SHMETA_FIELD_SIZE,
	SHMETA_FIELD_CREATED,
	SHMETA_FIELD_MIN_TS,
	SHMETA_FIELD_TS_SPAN,
	SHMETA_FIELD_ID,
	SHMETA_FIELD_BUCKET,
	SHMETA_FIELD_KEY,
	SHMETA_FIELDS,
	SHMETA_NUMBERS = SHMETA_FIELD_ID,
	SHMETA_STRINGS = SHMETA_FIELDS - SHMETA_NUMBERS
};

enum {
	SHMETA_STRING_TEMPLATE = 0x8000,
	SHMETA_BLOCK_SLACK = 8,      /* readable bytes after the last row */
	SHMETA_BLOCK_ROWS_MAX = 4096 /* more than any block can hold */
};

/* The second half is what decoding a row needs: one cache line of a block that begins 16 bytes into
 * its page. */
struct shmeta_block_head {
	uint64_t checksum;       /*   0  XXH3 over the block's bytes from 8 on; 0 in a tail (the head's covers it) */
	uint64_t key;            /*   8  of the partition */
	uint64_t id;             /*  16  its own key in BLOCKS; 0 in a tail */
	uint16_t rows;           /*  24  how many */
	uint16_t pool_at;        /*  26  where the pool begins */
	uint16_t pool_bytes;     /*  28  at least SHMETA_BLOCK_SLACK */
	uint16_t stride;         /*  30  bytes of a row: the sum of all widths */
	uint16_t string_bias[3]; /*  32  id, bucket, key */
	uint8_t string_width[3]; /*  38  0..2 */
	uint8_t reserved0;       /*  41 */
	uint16_t reserved[3];    /*  42 */
	uint64_t bias[7];        /*  48  of the seven numbers */
	uint8_t width[8];        /* 104  0..8 of the seven numbers, then the sum of the string widths */
};
SHMETA_FROZEN(shmeta_block_head, checksum, 0);
SHMETA_FROZEN(shmeta_block_head, key, 8);
SHMETA_FROZEN(shmeta_block_head, id, 16);
SHMETA_FROZEN(shmeta_block_head, rows, 24);
SHMETA_FROZEN(shmeta_block_head, pool_at, 26);
SHMETA_FROZEN(shmeta_block_head, pool_bytes, 28);
SHMETA_FROZEN(shmeta_block_head, stride, 30);
SHMETA_FROZEN(shmeta_block_head, string_bias, 32);
SHMETA_FROZEN(shmeta_block_head, string_width, 38);
SHMETA_FROZEN(shmeta_block_head, reserved0, 41);
SHMETA_FROZEN(shmeta_block_head, reserved, 42);
SHMETA_FROZEN(shmeta_block_head, bias, 48);
SHMETA_FROZEN(shmeta_block_head, width, 104);
SHMETA_FROZEN_SIZE(shmeta_block_head, 112);

static inline uint64_t shmeta__ld64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}
static inline uint32_t shmeta__ld32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}
static inline uint16_t shmeta__ld16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* shmeta__masks[w]: the low w bytes; every index below 16 is valid. */
extern const uint64_t shmeta__masks[16];

/* High half of the product: with a slope, the position that an even distribution would give a
 * distance. */
static inline uint64_t shmeta__scale(uint64_t distance, uint64_t slope)
{
	return (uint64_t)(((unsigned __int128)distance * slope) >> 64);
}

/* The slope that maps the distances 0..span evenly to the positions 0..last, each at or just above
 * its place. */
static inline uint64_t shmeta__slope(uint64_t last, uint64_t span)
{
	if (!last || last >= span)
		return last ? UINT64_MAX : 0;
	return (uint64_t)(((unsigned __int128)last << 64) / span) + 1;
}

/* ---- reading ---- */

/* What lets rows be decoded without leaving the block, as loaded and judged once. */
struct shmeta__block {
	const uint8_t *bytes;
	uint32_t readable; /* from bytes on */
	uint32_t rows;
	uint32_t stride;
	uint64_t widths;  /* byte k: of number k */
	uint64_t offsets; /* byte k: where number k begins in a row; byte 7: the first string
                           * field */
};

/* Judge everything that shmeta__block_row() relies on, in a block of which `bytes` are readable. 1:
 * good. Costs a few cycles, so that nobody has to trust a block that may be recycled while it is
 * read. */
static inline int shmeta__block_view(const uint8_t *bytes, size_t readable, uint32_t rows, uint32_t stride,
                                     struct shmeta__block *ret)
{
	uint64_t widths = shmeta__once64(shmeta__ld64(bytes + offsetof(struct shmeta_block_head, width)));
	uint64_t sums = widths * UINT64_C(0x0101010101010101);
	/* Where the compiler knows the two to be equal it takes the sum for the stride from there
	 * on, and the address of a row waits for the block's head to arrive. */
	uint32_t expected = shmeta__once32(stride);

	/* With every width below 32 no sum carries; with the last sum equal to the stride every
	 * field lies in its row. */
	if (__builtin_expect((widths & UINT64_C(0xe0f0f0f0f0f0f0f0)) != 0 || sums >> 56 != expected ||
	                             rows - 1 >= SHMETA_BLOCK_ROWS_MAX ||
	                             (uint64_t)rows * stride + sizeof(struct shmeta_block_head) + SHMETA_BLOCK_SLACK >
	                                     readable,
	                     0))
		return 0;
	ret->bytes = bytes;
	ret->readable = (uint32_t)readable;
	ret->rows = rows;
	ret->stride = stride;
	ret->widths = widths;
	ret->offsets = sums << 8;
	return 1;
}

static inline const uint8_t *shmeta__block_at(const struct shmeta__block *block, uint32_t row)
{
	return block->bytes + sizeof(struct shmeta_block_head) + (size_t)row * block->stride;
}

/* The widths are those that shmeta__block_view() has judged: below 16, also when the block is
 * overwritten meanwhile. */
static inline uint64_t shmeta__block_number(const struct shmeta__block *block, const uint8_t *row, unsigned field)
{
	uint64_t mask = shmeta__masks[block->widths >> 8 * field & 0xff];

	return shmeta__ld64(block->bytes + offsetof(struct shmeta_block_head, bias) + 8 * field) +
	       (shmeta__ld64(row + (block->offsets >> 8 * field & 0xff)) & mask);
}

static inline uint64_t shmeta__block_base(const struct shmeta__block *block, uint32_t row)
{
	return shmeta__block_number(block, shmeta__block_at(block, row), SHMETA_FIELD_BASE);
}

/* All but strings, partition_id and locator. */
static inline void shmeta__block_row(const struct shmeta__block *block, const uint8_t *row, struct shmeta_segment *ret)
{
	uint64_t span = shmeta__block_number(block, row, SHMETA_FIELD_SPAN);
	int64_t min = (int64_t)shmeta__block_number(block, row, SHMETA_FIELD_MIN_TS);

	ret->base_offset = shmeta__block_number(block, row, SHMETA_FIELD_BASE);
	ret->end_offset = ret->base_offset + span;
	ret->size_bytes = shmeta__block_number(block, row, SHMETA_FIELD_SIZE);
	ret->created_at_ms = (int64_t)shmeta__block_number(block, row, SHMETA_FIELD_CREATED);
	ret->min_timestamp_ms = min;
	ret->max_timestamp_ms = (int64_t)((uint64_t)min + shmeta__block_number(block, row, SHMETA_FIELD_TS_SPAN));
	ret->record_count = (uint32_t)(shmeta__block_number(block, row, SHMETA_FIELD_COUNT) + span + 1);
}

/* A string of the pool: its bytes and whether it is a template. 1: good; 0: the block is corrupt.
 * readable: of the block. */
int shmeta__block_string(const uint8_t *bytes, size_t readable, const struct shmeta__block *block, const uint8_t *row,
                         unsigned field, struct shmeta_str *ret, int *ret_template);
/* Everything that the checksum cannot say: bounds and sums, strings, order. NULL, or what is
 * wrong. */
const char *shmeta__block_verify(const uint8_t *bytes, size_t readable, const struct shmeta_part_entry *entry,
                                 uint64_t key);

uint64_t shmeta__block_checksum(const uint8_t *bytes); /* of SHMETA_BLOCK_BYTES, a block's or a
                                                        * directory page's */
uint64_t shmeta__head_checksum(const uint8_t *head, size_t bytes, uint64_t key);

#endif
