/* SPDX-License-Identifier: Apache-2.0
 * The pages of a partition that is changed: block entries, directory pages, sealing a builder's
 * rows into a block. */
#include "shm/index/edit.h"

#include <stdlib.h>

enum shmeta_status shmeta__edit_no_memory(struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory while changing a partition's segment index");
}

enum shmeta_status shmeta__edit_corrupt(const struct shmeta__part_edit *edit, struct shmeta_err *err, const char *what)
{
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "partition %u of topic id %u: %s", (uint32_t)edit->key,
	                   (uint32_t)(edit->key >> 32), what);
}

static enum shmeta_status pager_failed(const struct shmeta__part_edit *edit, enum shmeta_status status,
                                       struct shmeta_err *err, const char *what)
{
	return shmeta_fail(err, status, "partition %u of topic id %u: a block could not be %s: %s (%d)",
	                   (uint32_t)edit->key, (uint32_t)(edit->key >> 32), what,
	                   status == SHMETA_ERR_FULL ? "the store is full" : "the store failed", status);
}

int shmeta__edit_push_entry(struct entries *entries, const struct shmeta_part_entry *entry)
{
	if (entries->count == entries->capacity) {
		size_t capacity = entries->capacity ? 2 * entries->capacity : 8;
		void *at = realloc(entries->at, capacity * sizeof *entries->at);

		if (!at)
			return 0;
		entries->at = at;
		entries->capacity = capacity;
	}
	entries->at[entries->count++] = *entry;
	return 1;
}

static void drop_front(struct entries *entries, size_t count)
{
	entries->count -= count;
	memmove(entries->at, entries->at + count, entries->count * sizeof *entries->at);
}

struct dir_page *shmeta__edit_push_dir(struct shmeta__part_edit *edit, size_t at)
{
	if (edit->dir_count == edit->dir_capacity) {
		size_t capacity = edit->dir_capacity ? 2 * edit->dir_capacity : 8;
		void *groups = realloc(edit->dirs, capacity * sizeof *edit->dirs);

		if (!groups)
			return NULL;
		edit->dirs = groups;
		edit->dir_capacity = capacity;
	}
	memmove(edit->dirs + at + 1, edit->dirs + at, (edit->dir_count - at) * sizeof *edit->dirs);
	edit->dir_count++;
	edit->dirs[at] = (struct dir_page){.loaded = 1, .dirty = 1};
	return &edit->dirs[at];
}

enum shmeta_status shmeta__edit_release(struct shmeta__part_edit *edit, uint64_t id, struct shmeta_err *err)
{
	enum shmeta_status status = edit->pager.release(edit->pager.arg, id);

	return status ? pager_failed(edit, status, err, "released") : SHMETA_OK;
}

static enum shmeta_status alloc(struct shmeta__part_edit *edit, uint64_t *ret_id, uint32_t *ret_locator,
                                uint8_t **ret_block, struct shmeta_err *err)
{
	uint64_t locator;
	void *block;
	enum shmeta_status status = edit->pager.alloc(edit->pager.arg, SHMETA_BLOCK_BYTES, ret_id, &locator, &block);

	if (status)
		return pager_failed(edit, status, err, "allocated");
	if (!locator || locator > UINT32_MAX)
		return shmeta_fail(err, SHMETA_ERR_FULL, "the store has more pages than a locator can name");
	*ret_locator = (uint32_t)locator;
	*ret_block = block;
	return SHMETA_OK;
}

/* Copy a block or directory page to scratch, its checksum verified. */
static enum shmeta_status fetch(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entry,
                                struct shmeta_err *err)
{
	const void *bytes;
	size_t size;
	enum shmeta_status status = edit->pager.at(edit->pager.arg, entry->id, &bytes, &size);

	if (status)
		return pager_failed(edit, status, err, "read");
	if (size < SHMETA_BLOCK_BYTES)
		return shmeta__edit_corrupt(edit, err, "a block is too short");
	memcpy(edit->scratch, bytes, SHMETA_BLOCK_BYTES);
	if (shmeta__ld64(edit->scratch) != shmeta__block_checksum(edit->scratch) ||
	    shmeta__ld64(edit->scratch + 8) != edit->key || shmeta__ld64(edit->scratch + 16) != entry->id)
		return shmeta__edit_corrupt(edit, err, "a block's bytes are not what was written");
	return SHMETA_OK;
}

enum shmeta_status shmeta__edit_fetch_block(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entry,
                                            struct shmeta__block *ret, struct shmeta_err *err)
{
	enum shmeta_status status = fetch(edit, entry, err);

	if (status)
		return status;
	if (!shmeta__block_view(edit->scratch, SHMETA_BLOCK_BYTES, entry->rows, entry->stride, ret))
		return shmeta__edit_corrupt(edit, err, "a block's widths are impossible");
	return SHMETA_OK;
}

struct shmeta_part_entry shmeta__edit_sum_of(const struct shmeta_part_entry *entries, size_t count)
{
	struct shmeta_part_entry sum = {.flags = SHMETA_ENTRY_DIR};

	for (size_t i = 0; i < count; i++) {
		const struct shmeta_part_entry *e = &entries[i];

		if (!i) {
			sum.base = e->base;
			sum.max_timestamp_ms = e->max_timestamp_ms;
		} else if (e->base <= sum.max_end) {
			sum.flags |= SHMETA_ENTRY_OVERLAPS;
		}
		sum.flags |= e->flags & SHMETA_ENTRY_OVERLAPS;
		if (e->max_end > sum.max_end)
			sum.max_end = e->max_end;
		if (e->max_timestamp_ms > sum.max_timestamp_ms)
			sum.max_timestamp_ms = e->max_timestamp_ms;
		sum.size_bytes += e->size_bytes;
		sum.rows += e->rows;
	}
	sum.count = (uint8_t)count;
	if (count)
		sum.slope = shmeta__slope(count - 1, entries[count - 1].base - entries[0].base);
	return sum;
}

enum shmeta_status shmeta__edit_load_dir(struct shmeta__part_edit *edit, struct dir_page *page, struct shmeta_err *err)
{
	enum shmeta_status status;

	if (page->loaded)
		return SHMETA_OK;
	status = fetch(edit, &page->entry, err);
	if (status)
		return status;
	if (!page->entry.count || page->entry.first + page->entry.count > SHMETA_DIR_FANOUT)
		return shmeta__edit_corrupt(edit, err, "a directory page's entry is impossible");
	page->entries.count = 0;
	for (unsigned i = 0; i < page->entry.count; i++) {
		struct shmeta_part_entry entry;

		memcpy(&entry, edit->scratch + EDIT_DIR_BYTES + EDIT_ENTRY_BYTES * (page->entry.first + i),
		       sizeof entry);
		if (!shmeta__edit_push_entry(&page->entries, &entry))
			return shmeta__edit_no_memory(err);
	}
	page->loaded = 1;
	return SHMETA_OK;
}

enum shmeta_status shmeta__edit_write_dir(struct shmeta__part_edit *edit, const struct shmeta_part_entry *entries,
                                          size_t count, struct shmeta_part_entry *ret, struct shmeta_err *err)
{
	struct shmeta_part_entry sum = shmeta__edit_sum_of(entries, count);
	struct shmeta_part_dir head = {.key = edit->key, .entries = (uint32_t)count};
	enum shmeta_status status;
	uint8_t *page;

	status = alloc(edit, &sum.id, &sum.locator, &page, err);
	if (status)
		return status;
	head.id = sum.id;
	memcpy(page, &head, sizeof head);
	memcpy(page + EDIT_DIR_BYTES, entries, count * EDIT_ENTRY_BYTES);
	memset(page + EDIT_DIR_BYTES + count * EDIT_ENTRY_BYTES, 0, (SHMETA_DIR_FANOUT - count) * EDIT_ENTRY_BYTES);
	head.checksum = shmeta__block_checksum(page);
	memcpy(page, &head.checksum, 8);
	*ret = sum;
	return SHMETA_OK;
}

enum shmeta_status shmeta__edit_fold(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	size_t done = 0;

	while (edit->blocks.count - done > SHMETA_DIR_FANOUT) {
		struct shmeta_part_entry dir;
		struct dir_page *page;
		enum shmeta_status status =
			shmeta__edit_write_dir(edit, edit->blocks.at + done, SHMETA_DIR_FANOUT, &dir, err);

		if (status)
			return status;
		page = shmeta__edit_push_dir(edit, edit->dir_count);
		if (!page)
			return shmeta__edit_no_memory(err);
		*page = (struct dir_page){.entry = dir};
		done += SHMETA_DIR_FANOUT;
	}
	if (done) {
		drop_front(&edit->blocks, done);
		edit->head.first_block += (uint32_t)done;
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta__edit_seal(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                     struct entries *out, struct shmeta_err *err)
{
	struct shmeta_part_entry entry;
	size_t bytes = shmeta__builder_bytes(builder);
	enum shmeta_status status;
	uint64_t id, checksum;
	uint32_t locator;
	uint8_t *block;

	status = alloc(edit, &id, &locator, &block, err);
	if (status)
		return status;
	shmeta__builder_encode(builder, edit->key, id, block, &entry);
	memset(block + bytes, 0, SHMETA_BLOCK_BYTES - bytes);
	checksum = shmeta__block_checksum(block);
	memcpy(block, &checksum, 8);
	entry.locator = locator;
	shmeta__builder_reset(builder);
	return shmeta__edit_push_entry(out, &entry) ? SHMETA_OK : shmeta__edit_no_memory(err);
}
