/* SPDX-License-Identifier: Apache-2.0
 * Rows into the builders of a partition that is changed: judging them, appending. */
#include "shm/index/edit.h"

static enum shmeta_status built(struct shmeta__part_edit *edit, enum shmeta__build result, int is_corrupt,
                                struct shmeta_err *err)
{
	if (result == SHMETA_BUILD_ADDED)
		return SHMETA_OK;
	if (is_corrupt)
		return shmeta__edit_corrupt(edit, err, "a block's strings are out of bounds");
	if (result == SHMETA_BUILD_NO_MEMORY)
		return shmeta__edit_no_memory(err);
	return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a segment does not fit into a block");
}

enum shmeta_status shmeta__edit_add_row(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                        const struct shmeta_segment *row, struct entries *out, struct shmeta_err *err)
{
	enum shmeta__build result = shmeta__builder_add(builder, row, &edit->values);
	enum shmeta_status status;

	if (result == SHMETA_BUILD_NO_ROOM && builder->count) {
		status = shmeta__edit_seal(edit, builder, out, err);
		if (status)
			return status;
		result = shmeta__builder_add(builder, row, &edit->values);
	}
	return result == SHMETA_BUILD_ADDED ? SHMETA_OK : built(edit, result, 0, err);
}

enum shmeta_status shmeta__edit_copy_row(struct shmeta__part_edit *edit, struct shmeta__builder *builder,
                                         const uint8_t *bytes, size_t readable, const struct shmeta__block *block,
                                         uint32_t row, struct entries *out, struct shmeta_err *err)
{
	int is_corrupt;
	enum shmeta__build result = shmeta__builder_copy(builder, bytes, readable, block, row, &is_corrupt);
	enum shmeta_status status;

	if (result == SHMETA_BUILD_NO_ROOM && builder->count) {
		status = shmeta__edit_seal(edit, builder, out, err);
		if (status)
			return status;
		result = shmeta__builder_copy(builder, bytes, readable, block, row, &is_corrupt);
	}
	return result == SHMETA_BUILD_ADDED ? SHMETA_OK : built(edit, result, is_corrupt, err);
}

static enum shmeta_status build_tail(struct shmeta__part_edit *edit, struct shmeta_err *err)
{
	struct shmeta__block block;

	if (edit->tail_built)
		return SHMETA_OK;
	if (edit->tail_entry.rows) {
		if (!shmeta__block_view(edit->tail_bytes, edit->tail_size, edit->tail_entry.rows,
		                        edit->tail_entry.stride, &block))
			return shmeta__edit_corrupt(edit, err, "its tail's widths are impossible");
		for (uint32_t i = 0; i < block.rows; i++) {
			/* The rows came from one tail, so they fit into one. */
			enum shmeta_status status = shmeta__edit_copy_row(
				edit, edit->tail, edit->tail_bytes, edit->tail_size, &block, i, &edit->blocks, err);

			if (status)
				return status;
		}
	}
	edit->tail_built = 1;
	return SHMETA_OK;
}

static enum shmeta_status check_row(const struct shmeta_segment *row, struct shmeta_err *err)
{
	if (row->end_offset < row->base_offset || row->end_offset > INT64_MAX)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                   "end_offset %llu of the segment at base_offset %llu is not in [base_offset, 2^63-1]",
		                   (unsigned long long)row->end_offset, (unsigned long long)row->base_offset);
	if (row->id.bytes > SHMETA_STRING_MAX || row->s3_bucket.bytes > SHMETA_STRING_MAX ||
	    row->s3_key.bytes > SHMETA_STRING_MAX)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                   "a string of the segment at base_offset %llu is longer than %d bytes",
		                   (unsigned long long)row->base_offset, SHMETA_STRING_MAX);
	return SHMETA_OK;
}

enum shmeta_status shmeta__edit_check_rows(uint64_t from, uint64_t to, const struct shmeta_segment *rows, size_t count,
                                           struct shmeta_err *err)
{
	for (size_t i = 0; i < count; i++) {
		enum shmeta_status status = check_row(&rows[i], err);

		if (status)
			return status;
		if (rows[i].base_offset < from || rows[i].base_offset > to ||
		    (i && rows[i].base_offset <= rows[i - 1].base_offset))
			return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                   "the segment at base_offset %llu is out of range or order",
			                   (unsigned long long)rows[i].base_offset);
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta__edit_last_base(struct shmeta__part_edit *edit, int *ret_any, uint64_t *ret,
                                          struct shmeta_err *err)
{
	const struct shmeta_part_entry *entry;
	struct shmeta__block block;
	enum shmeta_status status;

	*ret_any = 1;
	if (edit->tail_built ? edit->tail->count : edit->tail_entry.rows) {
		if (edit->tail_built) {
			*ret = edit->tail->rows[edit->tail->count - 1][SHMETA_FIELD_BASE];
			return SHMETA_OK;
		}
		if (!shmeta__block_view(edit->tail_bytes, edit->tail_size, edit->tail_entry.rows,
		                        edit->tail_entry.stride, &block))
			return shmeta__edit_corrupt(edit, err, "its tail's widths are impossible");
		*ret = shmeta__block_base(&block, block.rows - 1);
		return SHMETA_OK;
	}
	if (edit->blocks.count) {
		entry = &edit->blocks.at[edit->blocks.count - 1];
	} else if (edit->dir_count) {
		struct dir_page *page = &edit->dirs[edit->dir_count - 1];

		status = shmeta__edit_load_dir(edit, page, err);
		if (status)
			return status;
		entry = &page->entries.at[page->entries.count - 1];
	} else {
		*ret_any = 0;
		*ret = 0;
		return SHMETA_OK;
	}
	status = shmeta__edit_fetch_block(edit, entry, &block, err);
	if (status)
		return status;
	*ret = shmeta__block_base(&block, block.rows - 1);
	return SHMETA_OK;
}

enum shmeta_status shmeta__edit_append(struct shmeta__part_edit *edit, const struct shmeta_segment *rows, size_t count,
                                       struct shmeta_err *err)
{
	enum shmeta_status status;

	while (count && !edit->tail_built && edit->tail_entry.rows &&
	       shmeta__block_append(edit->tail_bytes, &edit->tail_size, &edit->tail_entry, rows, &edit->values)) {
		rows++;
		count--;
	}
	status = count ? build_tail(edit, err) : SHMETA_OK;
	for (size_t i = 0; !status && i < count; i++) {
		status = shmeta__edit_add_row(edit, edit->tail, &rows[i], &edit->blocks, err);
		if (!status && edit->blocks.count > SHMETA_DIR_FANOUT)
			status = shmeta__edit_fold(edit, err);
	}
	return status;
}

enum shmeta_status shmeta__part_edit_append(struct shmeta__part_edit *edit, const struct shmeta_segment *rows,
                                            size_t count, struct shmeta_err *err)
{
	enum shmeta_status status;
	uint64_t last;
	int any;

	if (!count)
		return SHMETA_OK;
	status = shmeta__edit_last_base(edit, &any, &last, err);
	if (status)
		return status;
	if (any && last == UINT64_MAX)
		return shmeta__edit_corrupt(edit, err, "its last base is impossible");
	status = shmeta__edit_check_rows(any ? last + 1 : 0, UINT64_MAX, rows, count, err);
	return status ? status : shmeta__edit_append(edit, rows, count, err);
}
