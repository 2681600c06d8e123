/* SPDX-License-Identifier: Apache-2.0
 * A partition's segment index: sums over a range, by the sums that its entries keep. */
#include "shm/index/part_read.h"

static uint64_t sum_entries(const uint8_t *entries, uint32_t from, uint32_t to)
{
	uint64_t sum = 0;

	for (uint32_t i = from; i < to; i++)
		sum += E64(entries + PART_ENTRY_BYTES * (size_t)i, size_bytes);
	return sum;
}

static uint64_t sum_rows(const struct shmeta__block *block, uint32_t from, uint32_t to)
{
	uint64_t sum = 0;

	for (uint32_t row = from; row < to; row++)
		sum += shmeta__block_number(block, shmeta__block_at(block, row), SHMETA_FIELD_SIZE);
	return sum;
}

enum shmeta_status shmeta__part_bytes_below(struct shmeta__part *part, uint64_t offset, uint64_t *ret)
{
	uint64_t sum, total = shmeta__ld64(part->head + offsetof(struct shmeta_part_head, size_bytes));
	uint32_t first, count, row, tops = top_count(part);
	const uint8_t *entry, *entries;
	struct shmeta__block block;
	struct place place;
	struct mark mark;

	*ret = 0;
	if (!tops || offset <= log_start(part))
		return SHMETA_OK;
	entry = locate(part, offset - 1, &mark, &place);
	if (!entry || !open_block(part, entry, mark, &block))
		return SHMETA_ERR_CORRUPT;
	/* What lies before, or all without what lies behind: whichever is shorter. The head's block
	 * entries follow its directory entries. */
	sum = place.top < tops / 2 ? sum_entries(part->dirs, 0, place.top)
	                           : total - sum_entries(part->dirs, place.top, tops);
	if (place.top < part->dir_count) {
		entries = shmeta__part_dir_open(part, place.top, &first, &count);
		if (!entries || place.sub >= count)
			return SHMETA_ERR_CORRUPT;
		sum += sum_entries(entries, 0, place.sub);
	}
	row = row_number(&block, floor_row(&block, entry, offset - 1)) + 1;
	if (row > block.rows)
		return SHMETA_ERR_CORRUPT;
	if (row <= block.rows / 2)
		sum += sum_rows(&block, 0, row);
	else
		sum += E64(entry, size_bytes) - sum_rows(&block, row, block.rows);
	*ret = sum;
	return SHMETA_OK;
}

int shmeta__part_overlaps(const struct shmeta__part *part)
{
	return (part->flags & SHMETA_PART_OVERLAPS) != 0;
}
