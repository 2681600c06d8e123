/* SPDX-License-Identifier: Apache-2.0
 * Changing a partition's segment index.
 *
 * An edit holds the block entries in memory: those of a directory page loaded when they are first
 * needed, those of the head as the vector `blocks`. The tail is a builder, filled from the old head
 * when it is first needed; until then the old bytes are the tail. */
#include <stdlib.h>

#include "shm/index/edit.h"
#include "shm/record/record.h"

void shmeta__part_edit_free(struct shmeta__part_edit *edit)
{
	if (!edit)
		return;
	for (size_t i = 0; i < edit->dir_count; i++)
		free(edit->dirs[i].entries.at);
	free(edit->dirs);
	free(edit->blocks.at);
	free(edit->out);
	shmeta__builder_free(&edit->builders[0]);
	shmeta__builder_free(&edit->builders[1]);
	free(edit);
}

static enum shmeta_status decode(struct shmeta__part_edit *edit, const uint8_t *bytes, size_t size,
                                 struct shmeta_err *err)
{
	static const struct shmeta__pages no_pages = {.page_bytes = SHMETA_HEAD_PADDED + 16};
	struct shmeta__part part = {0};
	const uint8_t *entries;
	enum shmeta_status status = shmeta__part_open(&part, edit->key, bytes, size, &no_pages);

	shmeta__part_close(&part);
	if (status)
		return shmeta__edit_corrupt(edit, err, "its head is not what was written");
	memcpy(&edit->head, bytes, sizeof edit->head);
	if (edit->head.flags & SHMETA_PART_WINDOW)
		memcpy(&edit->window, bytes + EDIT_HEAD_BYTES, sizeof edit->window);
	entries = bytes + edit->head.entries_at;
	for (uint32_t i = 0; i < edit->head.dirs; i++, entries += EDIT_ENTRY_BYTES) {
		struct dir_page *page = shmeta__edit_push_dir(edit, edit->dir_count);

		if (!page)
			return shmeta__edit_no_memory(err);
		*page = (struct dir_page){0};
		memcpy(&page->entry, entries, sizeof page->entry);
	}
	for (uint32_t i = 0; i < edit->head.blocks; i++, entries += EDIT_ENTRY_BYTES) {
		struct shmeta_part_entry entry;

		memcpy(&entry, entries, sizeof entry);
		if (!entry.locator) {
			entries += EDIT_ENTRY_BYTES;
			if (i + 1 != edit->head.blocks)
				return shmeta__edit_corrupt(edit, err, "its tail is out of place");
			edit->tail_entry = entry;
			edit->tail_size = (size_t)shmeta__ld16(entries + offsetof(struct shmeta_block_head, pool_at)) +
			                  shmeta__ld16(entries + offsetof(struct shmeta_block_head, pool_bytes));
			if (edit->tail_size > size - (size_t)(entries - bytes) ||
			    edit->tail_size > SHMETA_BLOCK_BYTES || !entry.rows)
				return shmeta__edit_corrupt(edit, err, "its tail is out of bounds");
			memcpy(edit->tail_bytes, entries, edit->tail_size);
			break;
		}
		if (!shmeta__edit_push_entry(&edit->blocks, &entry))
			return shmeta__edit_no_memory(err);
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_edit_new(uint64_t key, const char *topic, size_t topic_bytes, const void *head,
                                         size_t head_bytes, const struct shmeta__pager *pager,
                                         struct shmeta__part_edit **ret, struct shmeta_err *err)
{
	struct shmeta__part_edit *edit;
	enum shmeta_status status;

	if (topic_bytes > SHMETA_NAME_MAX)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a topic's name has %zu bytes; the limit is %d",
		                   topic_bytes, SHMETA_NAME_MAX);
	edit = malloc(sizeof *edit);
	if (!edit)
		return shmeta__edit_no_memory(err);
	/* The builders' tables are large, and reset where they are used. */
	memset(edit, 0, offsetof(struct shmeta__part_edit, tail_bytes));
	for (int i = 0; i < 2; i++) {
		edit->builders[i].rows = NULL;
		edit->builders[i].capacity = 0;
		shmeta__builder_reset(&edit->builders[i]);
	}
	edit->key = key;
	edit->pager = *pager;
	edit->tail = &edit->builders[0];
	edit->work = &edit->builders[1];
	if (topic_bytes)
		memcpy(edit->topic, topic, topic_bytes);
	shmeta__values_part(&edit->values, key, edit->topic, topic_bytes);
	if (head) {
		status = decode(edit, head, head_bytes, err);
		if (status) {
			shmeta__part_edit_free(edit);
			return status;
		}
	}
	*ret = edit;
	return SHMETA_OK;
}

int shmeta__part_edit_record(struct shmeta__part_edit *edit, const struct shmeta_partition *record)
{
	struct shmeta_part_head *head = &edit->head;
	int differs = head->high_watermark != record->high_watermark || head->created_at_ms != record->created_at_ms ||
	              head->updated_at_ms != record->updated_at_ms;

	head->high_watermark = record->high_watermark;
	head->created_at_ms = record->created_at_ms;
	head->updated_at_ms = record->updated_at_ms;
	return differs;
}

void shmeta__part_edit_stamp(struct shmeta__part_edit *edit, uint64_t synced_at_ns, uint32_t ttl_ms)
{
	edit->head.synced_at_ns = synced_at_ns;
	edit->head.ttl_ms = ttl_ms;
}

enum shmeta_status shmeta__part_edit_window(struct shmeta__part_edit *edit, const struct shmeta_part_window *window,
                                            struct shmeta_err *err)
{
	uint64_t gone;

	edit->window = window != NULL ? *window : (struct shmeta_part_window){0};
	return edit->window.from == 0 ? SHMETA_OK
	                              : shmeta__part_edit_replace(edit, 0, edit->window.from - 1, NULL, 0, &gone, err);
}

/* ---- encoding ---- */

/* Write the directory pages that have changed: each is replaced by as many as its entries need. */
static enum shmeta_status flush(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	for (size_t g = 0; g < edit->dir_count; g++) {
		struct entries entries = edit->dirs[g].entries;
		size_t pages = (entries.count + SHMETA_DIR_FANOUT - 1) / SHMETA_DIR_FANOUT, done = 0;
		enum shmeta_status status;

		if (!edit->dirs[g].dirty)
			continue;
		if (edit->dirs[g].entry.id) {
			status = shmeta__edit_release(edit, edit->dirs[g].entry.id, err);
			if (status)
				return status;
		}
		edit->dirs[g] = (struct dir_page){0};
		for (size_t i = 0; i < pages; i++) {
			size_t count = (entries.count - done) / (pages - i);
			struct shmeta_part_entry dir;

			status = shmeta__edit_write_dir(edit, entries.at + done, count, &dir, err);
			if (!status && i && !shmeta__edit_push_dir(edit, g + i))
				status = shmeta__edit_no_memory(err);
			if (status) {
				free(entries.at);
				return status;
			}
			edit->dirs[g + i] = (struct dir_page){.entry = dir};
			done += count;
		}
		/* NOLINT(clang-analyzer-unix.Malloc): the page was emptied above */
		free(entries.at);
		g += pages - 1;
	}
	return SHMETA_OK;
}

static size_t padded(size_t bytes, size_t sealed)
{
	if (bytes < SHMETA_HEAD_PINNED && sealed == 0)
		return bytes;
	return (bytes + 16 + 4095) / 4096 * 4096 - 16;
}

enum shmeta_status shmeta__part_edit_encode(struct shmeta__part_edit *edit, const void **ret_head, size_t *ret_bytes,
                                            struct shmeta_err *err)
{
	struct shmeta_part_head *head = &edit->head;
	struct shmeta_part_entry tail = edit->tail_entry, sum;
	int has_tail = edit->tail_built ? edit->tail->count != 0 : tail.rows != 0;
	size_t window_bytes = edit->window.from != 0 ? sizeof edit->window : 0;
	size_t tail_bytes = 0, bytes, whole, blocks;
	enum shmeta_status status = flush(edit, err);
	uint8_t *p;

	if (status)
		return status;
	if (has_tail)
		tail_bytes = edit->tail_built ? shmeta__builder_bytes(edit->tail) : edit->tail_size;
	blocks = edit->blocks.count + (has_tail ? 1 : 0);
	bytes = EDIT_HEAD_BYTES + window_bytes + EDIT_ENTRY_BYTES * (edit->dir_count + blocks) + tail_bytes;
	whole = padded(bytes, edit->dir_count + edit->blocks.count);
	if (whole > UINT32_MAX || edit->dir_count > UINT32_MAX)
		return shmeta_fail(err, SHMETA_ERR_FULL, "partition %u of topic id %u has too many segments",
		                   (uint32_t)edit->key, (uint32_t)(edit->key >> 32));
	if (edit->out_capacity < whole) {
		free(edit->out);
		edit->out_capacity = whole;
		edit->out = malloc(edit->out_capacity);
		if (!edit->out) {
			edit->out_capacity = 0;
			return shmeta__edit_no_memory(err);
		}
	}
	p = edit->out + EDIT_HEAD_BYTES;
	memcpy(p, &edit->window, window_bytes);
	p += window_bytes;
	for (size_t g = 0; g < edit->dir_count; g++, p += EDIT_ENTRY_BYTES)
		memcpy(p, &edit->dirs[g].entry, EDIT_ENTRY_BYTES);
	if (edit->blocks.count) /* there may be no array at all */
		memcpy(p, edit->blocks.at, EDIT_ENTRY_BYTES * edit->blocks.count);
	p += EDIT_ENTRY_BYTES * edit->blocks.count;
	if (has_tail) {
		if (edit->tail_built)
			shmeta__builder_encode(edit->tail, edit->key, 0, p + EDIT_ENTRY_BYTES, &tail);
		else
			memcpy(p + EDIT_ENTRY_BYTES, edit->tail_bytes, edit->tail_size);
		memcpy(p, &tail, EDIT_ENTRY_BYTES);
	}
	memset(edit->out + bytes, 0, whole - bytes);

	p = edit->out + EDIT_HEAD_BYTES + window_bytes;
	head->segment_count = head->size_bytes = head->max_end = head->block_slope = head->dir_slope = 0;
	head->flags = window_bytes != 0 ? SHMETA_PART_WINDOW : 0;
	for (size_t i = 0; i < edit->dir_count + blocks; i++) {
		memcpy(&sum, p + EDIT_ENTRY_BYTES * i, sizeof sum);
		head->segment_count += sum.rows;
		head->size_bytes += sum.size_bytes;
		if (sum.flags & SHMETA_ENTRY_OVERLAPS || (i && sum.base <= head->max_end))
			head->flags |= SHMETA_PART_OVERLAPS;
		if (sum.max_end > head->max_end)
			head->max_end = sum.max_end;
	}
	head->dirs = (uint32_t)edit->dir_count;
	head->blocks = (uint16_t)blocks;
	head->entries_at = (uint16_t)(EDIT_HEAD_BYTES + window_bytes);
	if (head->dirs)
		head->dir_slope =
			shmeta__slope(head->dirs - 1, edit->dirs[head->dirs - 1].entry.base - edit->dirs[0].entry.base);
	if (blocks) {
		uint64_t first = shmeta__ld64(p + EDIT_ENTRY_BYTES * edit->dir_count);
		uint64_t last = shmeta__ld64(p + EDIT_ENTRY_BYTES * (edit->dir_count + blocks - 1));

		head->block_slope = shmeta__slope(blocks - 1, last - first);
	}
	if (edit->rewritten) {
		head->rewrites++;
		edit->rewritten = 0;
	}
	head->kind = SHMETA_RECORD_PARTITION;
	memcpy(edit->out, head, EDIT_HEAD_BYTES);
	head->checksum = shmeta__head_checksum(edit->out, whole, edit->key);
	memcpy(edit->out, &head->checksum, sizeof head->checksum);
	*ret_head = edit->out;
	*ret_bytes = whole;
	return SHMETA_OK;
}

enum shmeta_status shmeta__part_edit_drop(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	enum shmeta_status status;

	for (size_t g = 0; g < edit->dir_count; g++) {
		struct dir_page *page = &edit->dirs[g];

		status = shmeta__edit_load_dir(edit, page, err);
		for (size_t i = 0; !status && i < page->entries.count; i++)
			status = shmeta__edit_release(edit, page->entries.at[i].id, err);
		if (!status && page->entry.id)
			status = shmeta__edit_release(edit, page->entry.id, err);
		free(page->entries.at);
		*page = (struct dir_page){.loaded = 1};
		if (status)
			return status;
	}
	edit->dir_count = 0;
	for (size_t i = 0; i < edit->blocks.count; i++) {
		status = shmeta__edit_release(edit, edit->blocks.at[i].id, err);
		if (status)
			return status;
	}
	edit->blocks.count = 0;
	edit->tail_entry.rows = 0;
	edit->tail_built = 1;
	shmeta__builder_reset(edit->tail);
	return SHMETA_OK;
}
