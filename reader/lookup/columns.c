/* SPDX-License-Identifier: Apache-2.0
 * Batches of finds in columns of numbers, for callers that hold no pointers. */
#include "reader/lookup/lookup.h"

#include <stdlib.h>

enum { COLUMN_STEP = 8 };

static void put_columns(const struct shmeta_columns *to, size_t i, enum shmeta_status status,
                        const struct shmeta_segment *segment)
{
	static const struct shmeta_segment nothing = {0};
	const struct shmeta_segment *s = status == SHMETA_OK ? segment : &nothing;

	to->status[i] = (int32_t)status;
	if (to->base_offset != NULL)
		to->base_offset[i] = s->base_offset;
	if (to->end_offset != NULL)
		to->end_offset[i] = s->end_offset;
	if (to->size_bytes != NULL)
		to->size_bytes[i] = s->size_bytes;
	if (to->created_at_ms != NULL)
		to->created_at_ms[i] = s->created_at_ms;
	if (to->min_timestamp_ms != NULL)
		to->min_timestamp_ms[i] = s->min_timestamp_ms;
	if (to->max_timestamp_ms != NULL)
		to->max_timestamp_ms[i] = s->max_timestamp_ms;
	if (to->record_count != NULL)
		to->record_count[i] = s->record_count;
}

/* What is found goes into columns. */
struct column_finds {
	struct shmeta_handle *const *handles;
	const uint32_t *which;
	const uint64_t *offsets;
	const struct shmeta_read *read;
	const struct shmeta_columns *ret;
};

/* `count` of them from `at` on, in one batch. */
static enum shmeta_status find_some(const struct column_finds *c, size_t at, size_t count, struct shmeta_find *finds,
                                    enum shmeta_status *status, struct shmeta_segment *found)
{
	enum shmeta_status all;

	for (size_t i = 0; i < count; i++)
		finds[i] =
			(struct shmeta_find){c->handles[c->which != NULL ? c->which[at + i] : 0], c->offsets[at + i]};
	all = shmeta_find_segments(count, finds, c->read, status, found);
	for (size_t i = 0; i < count && all == SHMETA_OK; i++)
		put_columns(c->ret, at + i, status[i], &found[i]);
	return all;
}

static enum shmeta_status find_cached(const struct column_finds *c, size_t count)
{
	struct shmeta_find finds[COLUMN_STEP];
	struct shmeta_segment found[COLUMN_STEP];
	enum shmeta_status status[COLUMN_STEP], all = SHMETA_OK;

	for (size_t i = 0; i < count && all == SHMETA_OK; i += COLUMN_STEP)
		all = find_some(c, i, count - i < COLUMN_STEP ? count - i : COLUMN_STEP, finds, status, found);
	return all;
}

/* ---- those that may ask the writer: a partition is asked for once, however many of its offsets
 * are looked for ---- */

struct column_groups {
	const struct column_finds *finds;
	size_t *order;    /* the finds, by handle */
	size_t *end;      /* of each handle: behind its last one in `order` */
	uint32_t *handle; /* those that have finds */
	size_t count;     /* of these */
};

static void groups_make(struct column_groups *g, size_t find_count, size_t handle_count)
{
	const uint32_t *which = g->finds->which;
	size_t at = 0;

	for (size_t i = 0; i < find_count; i++)
		g->end[which != NULL ? which[i] : 0]++;
	for (size_t h = 0; h < handle_count; h++) {
		size_t finds = g->end[h];

		if (finds > 0)
			g->handle[g->count++] = (uint32_t)h;
		g->end[h] = at; /* its first one; moves behind its last one below */
		at += finds;
	}
	for (size_t i = 0; i < find_count; i++)
		g->order[g->end[which != NULL ? which[i] : 0]++] = i;
}

static size_t group_first(const struct column_groups *g, size_t group)
{
	return group == 0 ? 0 : g->end[g->handle[group - 1]];
}

static void groups_begin(void *unused)
{
	(void)unused;
}

static void groups_want(const void *arg, size_t group, struct want *ret)
{
	const struct column_groups *g = arg;

	*ret = want_of(g->finds->handles[g->handle[group]], SHMETA_CLASS_SEGMENT);
}

/* UNKNOWN where one of its finds is. */
static enum shmeta_status groups_answer(void *arg, struct shmeta_reader *r, size_t group, uint64_t assured_ns,
                                        struct shmeta_freshness *ret_fresh)
{
	const struct column_groups *g = arg;
	const struct column_finds *c = g->finds;
	struct shmeta_handle *mine = c->handles[g->handle[group]], *h = mine;
	enum shmeta_status status, all = SHMETA_OK;
	struct shmeta_segment found;

	if (mine->reader != r)
		h = shmeta__handle_for(mine, r);
	if (h == NULL)
		return SHMETA_ERR_NO_MEMORY;
	for (size_t i = group_first(g, group); i < g->end[g->handle[group]]; i++) {
		status = shmeta__segment_find(h, c->offsets[g->order[i]], assured_ns, &found, ret_fresh);
		put_columns(c->ret, g->order[i], status, &found);
		all = status == SHMETA_UNKNOWN ? status : all;
	}
	if (h != mine)
		shmeta__handle_free(h);
	return all;
}

static enum shmeta_status find_asking(const struct column_finds *c, struct shmeta_reader *r, size_t find_count,
                                      size_t handle_count)
{
	struct column_groups g = {c, reallocarray(NULL, find_count, sizeof *g.order),
	                          calloc(handle_count, sizeof *g.end),
	                          reallocarray(NULL, handle_count, sizeof *g.handle), 0};
	enum shmeta_status *status = reallocarray(NULL, handle_count, sizeof *status), all = SHMETA_ERR_NO_MEMORY;

	if (g.order != NULL && g.end != NULL && g.handle != NULL && status != NULL) {
		groups_make(&g, find_count, handle_count);
		all = shmeta__fresh_many(r,
		                         &(struct shmeta__many){g.count, &g, groups_begin, groups_want, groups_answer},
		                         c->read, status);
	}
	/* Where the writer was asked in vain, what was found before does not count. */
	for (size_t group = 0; all == SHMETA_OK && group < g.count; group++)
		for (size_t i = group_first(&g, group); status[group] < 0 && i < g.end[g.handle[group]]; i++)
			put_columns(c->ret, g.order[i], status[group], NULL);
	free(g.order);
	free(g.end);
	free(g.handle);
	free(status);
	return all;
}

enum shmeta_status shmeta_find_columns(struct shmeta_handle *const *handles, size_t handle_count, const uint32_t *which,
                                       const uint64_t *offsets, size_t count, const struct shmeta_read *read,
                                       const struct shmeta_columns *ret)
{
	const struct column_finds finds = {handles, which, offsets, read, ret};
	struct shmeta_reader *reader = NULL;
	enum shmeta_status status;
	int asks;

	if (handles == NULL || handle_count == 0 || offsets == NULL || ret == NULL || ret->size < sizeof *ret ||
	    ret->status == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	for (size_t i = 0; i < count; i++) {
		uint32_t at = which != NULL ? which[i] : 0;

		if (at >= handle_count || handles[at] == NULL || handles[at]->reader == NULL)
			return SHMETA_ERR_INVALID_ARGUMENT;
		if (i == 0)
			reader = handles[at]->reader;
		if (handles[at]->reader != reader)
			return SHMETA_ERR_INVALID_ARGUMENT;
	}
	if (count == 0 || read == NULL || read->size < sizeof *read || read->consistency == SHMETA_CACHED)
		return find_cached(&finds, count); /* which says what is wrong with the options */
	status = lookup_ready(reader);
	if (status == SHMETA_OK)
		status = lookup_options(reader, read, &asks);
	return status == SHMETA_OK ? find_asking(&finds, reader, count, handle_count) : status;
}
