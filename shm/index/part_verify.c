/* SPDX-License-Identifier: Apache-2.0
 * A partition's segment index: everything of it, for `shmetactl verify` and a writer that takes
 * over a store. */
#include "shm/index/part_read.h"

enum shmeta_status shmeta__part_blocks(struct shmeta__part *part,
                                       void (*each)(void *arg, uint64_t block_id, uint64_t locator), void *arg)
{
	struct place place = {0, 0};
	struct mark mark;
	uint32_t count;

	for (uint32_t i = 0; i < part->dir_count; i++) {
		const uint8_t *entry = part->dirs + PART_ENTRY_BYTES * (size_t)i;

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

/* Sums over the entries of one level. */
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
static enum shmeta_status verify_entry(struct shmeta__part *part, const uint8_t *bytes, struct sums *sums,
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
	if (!at || (entry.locator && !shmeta__part_block_verify(part, bytes, entry.id, at)))
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
	struct shmeta_part_window window;
	struct shmeta_part_head head;
	enum shmeta_status status;
	uint64_t last = 0;
	int any = 0;

	part->pages.verified = NULL; /* verify anew */
	memcpy(&head, part->head, sizeof head);
	if (head.checksum != shmeta__head_checksum(part->head, part->head_bytes, part->key))
		return part_fail(part, err, 0, "its bytes are not what was written");
	for (uint32_t d = 0; d < part->dir_count; d++) {
		const uint8_t *bytes = part->dirs + PART_ENTRY_BYTES * (size_t)d, *entries;
		struct shmeta_part_entry entry;
		struct sums page = {0};
		uint32_t first, count;
		const char *what;

		memcpy(&entry, bytes, sizeof entry);
		if (dir_mark(part, d, 0).word)
			*dir_mark(part, d, 0).word = 0; /* verify anew */
		entries = shmeta__part_dir_open(part, d, &first, &count);
		if (!entries)
			return part_fail(part, err, entry.id, "the directory page is not what was written");
		for (uint32_t i = 0; i < count; i++) {
			if (E16(entries + PART_ENTRY_BYTES * (size_t)i, flags) & SHMETA_ENTRY_DIR ||
			    !E32(entries + PART_ENTRY_BYTES * (size_t)i, locator))
				return part_fail(part, err, entry.id, "a directory page holds something but blocks");
			status = verify_entry(part, entries + PART_ENTRY_BYTES * (size_t)i, &page, &last, &any, err);
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
	for (uint32_t i = 0; i < part->block_count; i++) {
		const uint8_t *bytes = part->blocks + PART_ENTRY_BYTES * (size_t)i;

		if (E16(bytes, flags) & SHMETA_ENTRY_DIR || (!E32(bytes, locator) && i + 1 < part->block_count))
			return part_fail(part, err, E64(bytes, id), "a block entry is out of place");
		status = verify_entry(part, bytes, &top, &last, &any, err);
		if (status)
			return status;
	}
	if (head.segment_count != top.rows || head.size_bytes != top.size_bytes || head.max_end != top.max_end ||
	    (head.flags & SHMETA_PART_OVERLAPS) != (top.overlaps ? SHMETA_PART_OVERLAPS : 0))
		return part_fail(part, err, 0, "its sums are not what its entries say");
	if (shmeta__part_window(part, &window) && (window.from == 0 || (top.any && log_start(part) < window.from)))
		return part_fail(part, err, 0, "it has rows that its window says have left");
	return SHMETA_OK;
}
