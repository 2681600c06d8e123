/* SPDX-License-Identifier: Apache-2.0
 * Windows of rows (pass_window.h). */
#include "writer/load/pass_window.h"

#include <stdio.h>

#include "base/row_limits.h"

void pass_window_begin(struct pass_window *w, uint64_t from)
{
	w->from = from;
	w->any_base = false;
	w->count = 0;
	arena_reset(&w->strings);
}

enum shmeta_status pass_window_add(struct pass_window *w, const struct shmeta_segment *segment,
                                   char wrong[WINDOW_WRONG])
{
	struct shmeta_segment *row = &w->row[w->count];

	if (shmeta__segment_error(segment, wrong, WINDOW_WRONG) != NULL)
		return SHMETA_ABSENT;
	if (w->any_base && segment->base_offset <= w->last_base) {
		(void)snprintf(wrong, WINDOW_WRONG, "segment %llu of partition %u comes after segment %llu",
		               (unsigned long long)segment->base_offset, segment->partition_id,
		               (unsigned long long)w->last_base);
		return SHMETA_ABSENT;
	}
	*row = *segment;
	if (arena_str(&w->strings, segment->id, &row->id) != 0 ||
	    arena_str(&w->strings, segment->s3_bucket, &row->s3_bucket) != 0 ||
	    arena_str(&w->strings, segment->s3_key, &row->s3_key) != 0)
		return SHMETA_ERR_NO_MEMORY;
	w->any_base = true;
	w->last_base = segment->base_offset;
	w->count++;
	return SHMETA_OK;
}

bool pass_window_full(const struct pass_window *w)
{
	return w->count == WINDOW_ROWS;
}

void pass_window_next(struct pass_window *w, uint64_t to)
{
	w->from = to < UINT64_MAX ? to + 1 : UINT64_MAX;
	w->count = 0;
	arena_reset(&w->strings);
}

void pass_window_free(struct pass_window *w)
{
	arena_free(&w->strings);
}
