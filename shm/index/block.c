/* SPDX-License-Identifier: Apache-2.0
 * Judging blocks. What a lookup needs of a block is inline in block.h. */
#include "shm/index/block.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { HEAD_BYTES = sizeof(struct shmeta_block_head) };

const uint64_t shmeta__masks[16] = {
	0,
	UINT64_C(0xff),
	UINT64_C(0xffff),
	UINT64_C(0xffffff),
	UINT64_C(0xffffffff),
	UINT64_C(0xffffffffff),
	UINT64_C(0xffffffffffff),
	UINT64_C(0xffffffffffffff),
	UINT64_MAX,
	UINT64_MAX,
	UINT64_MAX,
	UINT64_MAX,
	UINT64_MAX,
	UINT64_MAX,
	UINT64_MAX,
	UINT64_MAX,
};

uint64_t shmeta__block_checksum(const uint8_t *bytes)
{
	return XXH3_64bits(bytes + 8, SHMETA_BLOCK_BYTES - 8);
}

uint64_t shmeta__head_checksum(const uint8_t *head, size_t bytes, uint64_t key)
{
	return XXH3_64bits_withSeed(head + 8, bytes - 8, key);
}

int shmeta__block_string(const uint8_t *bytes, size_t readable, const struct shmeta__block *block, const uint8_t *row,
                         unsigned field, struct shmeta_str *ret, int *ret_template)
{
	uint32_t widths = shmeta__once32(shmeta__ld32(bytes + offsetof(struct shmeta_block_head, string_width)));
	uint32_t at = (uint32_t)(block->offsets >> 56), k = field - SHMETA_NUMBERS, width = widths >> 8 * k & 0xff;
	uint32_t pool_at = shmeta__once32(shmeta__ld16(bytes + offsetof(struct shmeta_block_head, pool_at)));
	uint32_t pool_bytes = shmeta__once32(shmeta__ld16(bytes + offsetof(struct shmeta_block_head, pool_bytes)));
	uint64_t place;
	uint32_t head;

	if (pool_at + pool_bytes > readable)
		return 0;
	for (uint32_t i = 0; i < k; i++)
		at += widths >> 8 * i & 0xff;
	if (width > 2 || at + width > block->stride)
		return 0;
	place = shmeta__ld64(row + at) & shmeta__masks[width];
	place = shmeta__once64(place + shmeta__ld16(bytes + offsetof(struct shmeta_block_head, string_bias) + 2 * k));
	if (place + 2 > pool_bytes)
		return 0;
	head = shmeta__once32(shmeta__ld16(bytes + pool_at + place));
	ret->data = (const char *)bytes + pool_at + place + 2;
	ret->bytes = head & (SHMETA_STRING_TEMPLATE - 1);
	*ret_template = (head & SHMETA_STRING_TEMPLATE) != 0;
	return place + 2 + ret->bytes <= pool_bytes;
}

const char *shmeta__block_verify(const uint8_t *bytes, size_t readable, const struct shmeta_part_entry *entry,
                                 uint64_t key)
{
	struct shmeta_block_head head;
	struct shmeta__block block;
	struct shmeta_part_entry sum = {0};
	uint64_t previous = 0;
	int64_t previous_max = INT64_MIN;
	int sorted = 1;

	if (readable < HEAD_BYTES)
		return "it is too short";
	shmeta__copy_once(&head, bytes, sizeof head);
	if (head.key != key || head.id != entry->id)
		return "it belongs to another partition or id";
	if (head.rows != entry->rows || head.stride != entry->stride || head.width[0] != entry->base_width ||
	    head.bias[0] != entry->base)
		return "its shape is not what its directory entry says";
	if (!shmeta__block_view(bytes, readable, head.rows, head.stride, &block))
		return "its widths or sizes are impossible";
	for (int f = 0; f < SHMETA_NUMBERS; f++) {
		if (head.width[f] > 8)
			return "a width is impossible";
	}
	if (head.pool_at != HEAD_BYTES + (uint32_t)head.rows * head.stride || head.pool_bytes < SHMETA_BLOCK_SLACK ||
	    (uint32_t)head.pool_at + head.pool_bytes > readable)
		return "its pool of strings is out of bounds";
	if (head.width[SHMETA_NUMBERS] != head.string_width[0] + head.string_width[1] + head.string_width[2])
		return "its string widths do not add up";
	for (uint32_t i = 0; i < head.rows; i++) {
		const uint8_t *p = shmeta__block_at(&block, i);
		struct shmeta_segment s = {0};

		shmeta__block_row(&block, p, &s);
		if (i && s.base_offset <= previous)
			return "its rows are not in ascending order";
		if (s.end_offset < s.base_offset || s.end_offset > INT64_MAX)
			return "a row's end_offset is impossible";
		if (i && s.base_offset <= sum.max_end)
			sum.flags |= SHMETA_ENTRY_OVERLAPS;
		for (unsigned f = SHMETA_NUMBERS; f < SHMETA_FIELDS; f++) {
			struct shmeta_str string;
			int is_template;

			if (!shmeta__block_string(bytes, readable, &block, p, f, &string, &is_template) ||
			    string.bytes > SHMETA_STRING_MAX)
				return "a string is out of bounds";
		}
		previous = s.base_offset;
		sum.size_bytes += s.size_bytes;
		if (s.end_offset > sum.max_end)
			sum.max_end = s.end_offset;
		sorted &= s.max_timestamp_ms >= previous_max;
		previous_max = s.max_timestamp_ms;
		if (!i || s.max_timestamp_ms > sum.max_timestamp_ms)
			sum.max_timestamp_ms = s.max_timestamp_ms;
	}
	if (sorted)
		sum.flags |= SHMETA_ENTRY_TIME_SORTED;
	if (sum.size_bytes != entry->size_bytes || sum.max_end != entry->max_end || sum.flags != entry->flags ||
	    sum.max_timestamp_ms != entry->max_timestamp_ms)
		return "its sums are not what its directory entry says";
	return NULL;
}
