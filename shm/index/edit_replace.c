/* SPDX-License-Identifier: Apache-2.0
 * Replacing the rows of a range.
 *
 * The blocks that own a base in [from, to] are streamed through the builder `work`: a block that is
 * already what it should be stays; the others are released and their rows go on, with the new ones,
 * into blocks that are sealed when full. What is left when the stream meets an untouched block is
 * sealed too, or, when less than half a page, takes that block with it, so that blocks do not wear
 * down to crumbs. What is left at the end is the tail. */
#include "shm/index/edit.h"

#include <stdlib.h>

struct pass {
	struct shmeta__part_edit *edit;
	uint64_t from, to;
	const struct shmeta_segment *rows;
	size_t count;
	uint64_t changed;
	int emitted; /* an entry has gone out or a row into work: what is released from now on is
                      * not the front */
	struct shmeta_err *err;
};

static int row_is(struct pass *pass, const uint8_t *bytes, size_t readable, const struct shmeta__block *block,
                  uint32_t i, const struct shmeta_segment *row, enum shmeta_status *ret_status)
{
	const uint8_t *p = shmeta__block_at(block, i);
	char scratch[SHMETA_KEY_TEXT];
	struct shmeta_str strings[SHMETA_STRINGS] = {row->id, row->s3_bucket, shmeta__key_text(row, scratch)};
	struct shmeta_segment s = {0};

	shmeta__block_row(block, p, &s);
	if (s.base_offset != row->base_offset || s.end_offset != row->end_offset || s.size_bytes != row->size_bytes ||
	    s.created_at_ms != row->created_at_ms || s.min_timestamp_ms != row->min_timestamp_ms ||
	    s.max_timestamp_ms != row->max_timestamp_ms || s.record_count != row->record_count)
		return 0;
	shmeta__values_row(&pass->edit->values, s.base_offset, s.end_offset);
	for (unsigned f = 0; f < SHMETA_STRINGS; f++) {
		struct shmeta_str string;
		int is_template;

		if (!shmeta__block_string(bytes, readable, block, p, SHMETA_NUMBERS + f, &string, &is_template)) {
			*ret_status =
				shmeta__edit_corrupt(pass->edit, pass->err, "a block's strings are out of bounds");
			return 0;
		}
		if (!shmeta__spells(string, is_template, &pass->edit->values, strings[f]))
			return 0;
	}
	return 1;
}

/* How many of the pass's next rows have a base <= limit. */
static size_t rows_up_to(const struct pass *pass, uint64_t limit)
{
	size_t low = 0, high = pass->count;

	if (!high || pass->rows[high - 1].base_offset <= limit)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (pass->rows[middle].base_offset <= limit)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Compare a block with the rows it should hold in [from, to]: rows added, removed and altered are
 * counted. */
static enum shmeta_status compare(struct pass *pass, const uint8_t *bytes, size_t readable,
                                  const struct shmeta__block *block, size_t count, uint64_t *ret_changed)
{
	enum shmeta_status status = SHMETA_OK;
	uint64_t changed = 0;
	size_t k = 0;

	for (uint32_t i = 0; i < block->rows; i++) {
		uint64_t base = shmeta__block_base(block, i);

		if (base < pass->from || base > pass->to)
			continue;
		while (k < count && pass->rows[k].base_offset < base) {
			changed++;
			k++;
		}
		if (k == count || pass->rows[k].base_offset > base)
			changed++;
		else if (!row_is(pass, bytes, readable, block, i, &pass->rows[k++], &status))
			changed++;
		if (status)
			return status;
	}
	*ret_changed = changed + (count - k);
	return SHMETA_OK;
}

/* Send a block's rows, with [from, to] replaced by the pass's next `count` rows, into work; seal
 * work when it reaches `split` bytes, once. */
static enum shmeta_status stream(struct pass *pass, const uint8_t *bytes, size_t readable,
                                 const struct shmeta__block *block, size_t count, size_t split, struct entries *out)
{
	struct shmeta__part_edit *edit = pass->edit;
	enum shmeta_status status = SHMETA_OK;
	size_t k = 0;

	for (uint32_t i = 0; !status && i < (block ? block->rows : 0); i++) {
		uint64_t base = shmeta__block_base(block, i);
		int replaced = base >= pass->from && base <= pass->to;

		while (!status && k < count && (pass->rows[k].base_offset < base))
			status = shmeta__edit_add_row(edit, edit->work, &pass->rows[k++], out, pass->err);
		if (!status && !replaced)
			status = shmeta__edit_copy_row(edit, edit->work, bytes, readable, block, i, out, pass->err);
		if (!status && shmeta__builder_bytes(edit->work) >= split) {
			status = shmeta__edit_seal(edit, edit->work, out, pass->err);
			split = SIZE_MAX;
		}
	}
	while (!status && k < count)
		status = shmeta__edit_add_row(edit, edit->work, &pass->rows[k++], out, pass->err);
	pass->rows += count;
	pass->count -= count;
	if (edit->work->count)
		pass->emitted = 1;
	return status;
}

/* One block entry that owns the bases [low, high]. */
static enum shmeta_status pass_entry(struct pass *pass, const struct shmeta_part_entry *entry, uint64_t low,
                                     uint64_t high, struct entries *out, int *ret_changed)
{
	struct shmeta__part_edit *edit = pass->edit;
	enum shmeta_status status;
	struct shmeta__block block;
	int affected = low <= pass->to && high >= pass->from;
	uint64_t changed = 0;
	size_t count = 0, split = SIZE_MAX;

	if (affected) {
		count = rows_up_to(pass, high);
		status = shmeta__edit_fetch_block(edit, entry, &block, pass->err);
		if (!status)
			status = compare(pass, edit->scratch, SHMETA_BLOCK_BYTES, &block, count, &changed);
		if (status)
			return status;
		pass->changed += changed;
	}
	if (!changed && (!edit->work->count || shmeta__builder_bytes(edit->work) >= SHMETA_BLOCK_BYTES / 2)) {
		if (edit->work->count) {
			status = shmeta__edit_seal(edit, edit->work, out, pass->err);
			if (status)
				return status;
			*ret_changed = 1;
		}
		pass->rows += count;
		pass->count -= count;
		pass->emitted = 1;
		return shmeta__edit_push_entry(out, entry) ? SHMETA_OK : shmeta__edit_no_memory(pass->err);
	}
	if (!affected) {
		status = shmeta__edit_fetch_block(edit, entry, &block, pass->err);
		if (status)
			return status;
	}
	if (!changed) {
		/* What work holds is too little for a block of its own. Both halves of what the two
		 * make together are enough, so that the next block can stay. */
		size_t both = shmeta__builder_bytes(edit->work) +
		              shmeta__ld16(edit->scratch + offsetof(struct shmeta_block_head, pool_at)) +
		              shmeta__ld16(edit->scratch + offsetof(struct shmeta_block_head, pool_bytes));

		if (both > SHMETA_BLOCK_BYTES)
			split = both / 2;
	}
	*ret_changed = 1;
	status = stream(pass, edit->scratch, SHMETA_BLOCK_BYTES, &block, count, split, out);
	if (!status)
		status = shmeta__edit_release(edit, entry->id, pass->err);
	if (pass->emitted)
		edit->rewritten = 1;
	return status;
}

/* A run of entries, the first of which owns the bases from low on; high: the last base the last of
 * them owns. *ret_front: how many went from the front while nothing else in the run was changed. */
static enum shmeta_status pass_entries(struct pass *pass, struct entries *entries, uint64_t low, uint64_t high,
                                       size_t *ret_front, int *ret_changed)
{
	struct entries out = {0};
	enum shmeta_status status = SHMETA_OK;
	size_t front = 0;
	int changed = 0, other = 0;

	for (size_t i = 0; !status && i < entries->count; i++) {
		uint64_t next = i + 1 < entries->count ? entries->at[i + 1].base - 1 : high;
		int one = 0;

		status = pass_entry(pass, &entries->at[i], i ? entries->at[i].base : low, next, &out, &one);
		changed |= one;
		if (one && !pass->emitted)
			front++;
		else if (one)
			other = 1;
	}
	if (!status && changed) {
		free(entries->at);
		*entries = out;
	} else {
		free(out.at);
	}
	*ret_front = front;
	*ret_changed = other;
	return status;
}

static enum shmeta_status pass_tail(struct pass *pass, uint64_t low)
{
	struct shmeta__part_edit *edit = pass->edit;
	const uint8_t *bytes = edit->tail_bytes;
	size_t readable = edit->tail_size;
	struct shmeta_part_entry entry = edit->tail_entry;
	struct shmeta__block block;
	enum shmeta_status status;
	uint64_t changed = 0;
	int any;

	if (edit->tail_built && edit->tail->count) {
		shmeta__builder_encode(edit->tail, edit->key, 0, edit->scratch, &entry);
		bytes = edit->scratch;
		readable = shmeta__builder_bytes(edit->tail);
	}
	any = edit->tail_built ? edit->tail->count != 0 : entry.rows != 0;
	if (!any)
		low = 0;
	if (any && !shmeta__block_view(bytes, readable, entry.rows, entry.stride, &block))
		return shmeta__edit_corrupt(edit, pass->err, "its tail's widths are impossible");
	if (!any) {
		changed = pass->count;
	} else if (low <= pass->to) {
		status = compare(pass, bytes, readable, &block, pass->count, &changed);
		if (status)
			return status;
	}
	pass->changed += changed;
	if (!changed) {
		if (!edit->work->count)
			return SHMETA_OK;
		if (any && shmeta__builder_bytes(edit->work) >= SHMETA_BLOCK_BYTES / 2)
			return shmeta__edit_seal(edit, edit->work, &edit->blocks, pass->err);
	}
	status = stream(pass, bytes, readable, any ? &block : NULL, pass->count, SIZE_MAX, &edit->blocks);
	if (!status) {
		struct shmeta__builder *tail = edit->work;

		edit->work = edit->tail;
		edit->tail = tail;
		edit->tail_built = 1;
	}
	shmeta__builder_reset(edit->work);
	return status;
}

/* The base at which the entries behind directory page g begin. */
static uint64_t next_base(const struct shmeta__part_edit *edit, size_t g)
{
	if (g < edit->dir_count)
		return edit->dirs[g].entry.base;
	if (edit->blocks.count)
		return edit->blocks.at[0].base;
	if (edit->tail_built)
		return edit->tail->count ? edit->tail->rows[0][SHMETA_FIELD_BASE] : 0;
	return edit->tail_entry.rows ? edit->tail_entry.base : 0;
}

static void keep_dir(struct shmeta__part_edit *edit, size_t from, size_t to)
{
	if (from == to)
		return;
	edit->dirs[to] = edit->dirs[from];
	edit->dirs[from] = (struct dir_page){0};
}

static enum shmeta_status replace(struct pass *pass)
{
	struct shmeta__part_edit *edit = pass->edit;
	enum shmeta_status status;
	uint64_t low = 0, high;
	size_t front, kept = 0;
	int changed;

	for (size_t g = 0; g < edit->dir_count; g++, low = high + 1) {
		struct dir_page *page = &edit->dirs[g];
		struct shmeta_part_entry dir = page->entry;

		high = next_base(edit, g + 1) - 1; /* 0 - 1: nothing behind it */
		if (!edit->work->count && (low > pass->to || high < pass->from)) {
			pass->emitted = 1;
			keep_dir(edit, g, kept++);
			continue;
		}
		status = shmeta__edit_load_dir(edit, page, pass->err);
		if (!status)
			status = pass_entries(pass, &page->entries, low, high, &front, &changed);
		if (status)
			return status;
		if (!page->entries.count) {
			status = dir.id ? shmeta__edit_release(edit, dir.id, pass->err) : SHMETA_OK;
			if (status)
				return status;
			if (!pass->emitted)
				edit->head.first_dir++;
			free(page->entries.at);
			*page = (struct dir_page){0};
			continue;
		}
		if (front || changed) {
			page->dirty |= changed;
			page->entry = shmeta__edit_sum_of(page->entries.at, page->entries.count < SHMETA_DIR_FANOUT
			                                                            ? page->entries.count
			                                                            : (size_t)SHMETA_DIR_FANOUT);
			page->entry.id = dir.id;
			page->entry.locator = dir.locator;
			page->entry.first = (uint8_t)(dir.first + front);
			page->entry.base = page->entries.at[0].base;
		}
		keep_dir(edit, g, kept++);
	}
	edit->dir_count = kept;
	high = (edit->tail_built ? edit->tail->count != 0 : edit->tail_entry.rows != 0)
	               ? (edit->tail_built ? edit->tail->rows[0][SHMETA_FIELD_BASE] : edit->tail_entry.base) - 1
	               : UINT64_MAX;
	if (edit->blocks.count) {
		status = pass_entries(pass, &edit->blocks, low, high, &front, &changed);
		if (status)
			return status;
		edit->head.first_block += (uint32_t)front;
		low = high + 1;
	}
	status = pass_tail(pass, low);
	return status ? status : shmeta__edit_fold(edit, pass->err);
}

enum shmeta_status shmeta__part_edit_replace(struct shmeta__part_edit *edit, uint64_t from, uint64_t to,
                                             const struct shmeta_segment *rows, size_t count, uint64_t *ret_changed,
                                             struct shmeta_err *err)
{
	struct pass pass = {edit, from, to, rows, count, 0, 0, err};
	enum shmeta_status status;
	uint64_t last;
	int any;

	if (from > to)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "the range [%llu, %llu] is empty",
		                   (unsigned long long)from, (unsigned long long)to);
	status = shmeta__edit_check_rows(from, to, rows, count, err);
	if (!status)
		status = shmeta__edit_last_base(edit, &any, &last, err);
	if (status)
		return status;
	if (!any || from > last) {
		status = shmeta__edit_append(edit, rows, count, err);
		pass.changed = count;
	} else {
		status = replace(&pass);
	}
	if (!status)
		*ret_changed = pass.changed;
	return status;
}
