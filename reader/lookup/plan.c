/* SPDX-License-Identifier: Apache-2.0
 * Fetch plans: what to read from an offset on, and where it lies. */
#include <string.h>

#include "reader/lookup/lookup.h"

/* A plan being made. */
struct planning {
	const struct shmeta_fetch *fetch;
	struct shmeta_fetch_plan *plan;
	size_t used; /* of the buffer */
};

static int same(struct shmeta_str a, struct shmeta_str b)
{
	return a.bytes == b.bytes && memcmp(a.data, b.data, a.bytes) == 0;
}

/* Does the segment lie right behind the range, in the same object? */
static int goes_on(const struct shmeta_fetch_range *range, const struct shmeta_segment *segment)
{
	return range->position + range->bytes == segment->position && same(range->s3_key, segment->s3_key) &&
	       same(range->s3_bucket, segment->s3_bucket);
}

/* Put it into the plan with its strings. END: there is no room. */
static enum shmeta_status take(struct planning *p, struct shmeta_handle *h, struct shmeta_segment *segment)
{
	const struct shmeta_fetch *f = p->fetch;
	struct shmeta_fetch_plan *plan = p->plan;
	struct shmeta_fetch_range *range = plan->ranges > 0 ? &f->ranges[plan->ranges - 1] : NULL;
	enum shmeta_status status;

	if (plan->segments == f->max_segments ||
	    (plan->segments > 0 && f->max_bytes != 0 &&
	     (plan->bytes >= f->max_bytes || segment->size_bytes > f->max_bytes - plan->bytes)))
		return SHMETA_END;
	status = shmeta__part_strings(&h->part, h->topic, h->topic_bytes, segment, f->buffer + p->used,
	                              f->buffer_bytes - p->used);
	if (status != SHMETA_OK)
		return status == SHMETA_ERR_BUFFER && plan->segments > 0 ? SHMETA_END : status;
	if (range != NULL && goes_on(range, segment)) {
		/* The id stays, the names are those of the range. */
		segment->s3_bucket = range->s3_bucket;
		segment->s3_key = range->s3_key;
		p->used += segment->id.bytes + 1;
	} else {
		if (plan->ranges == f->max_ranges)
			return SHMETA_END;
		range = &f->ranges[plan->ranges++];
		*range = (struct shmeta_fetch_range){.s3_bucket = segment->s3_bucket,
		                                     .s3_key = segment->s3_key,
		                                     .position = segment->position,
		                                     .first = (uint32_t)plan->segments};
		p->used += segment->id.bytes + segment->s3_bucket.bytes + segment->s3_key.bytes + 3;
	}
	range->bytes += segment->size_bytes;
	range->count++;
	f->segments[plan->segments++] = *segment;
	plan->bytes += segment->size_bytes;
	if (segment->end_offset >= plan->next_offset)
		plan->next_offset = segment->end_offset + 1;
	return SHMETA_OK;
}

/* Bytes of the first segment and all behind it that begin below the high watermark. The cursor
 * stands behind `walked` bytes of them. */
static enum shmeta_status available(struct shmeta_handle *h, uint64_t first_base, struct shmeta__part_cursor *cursor,
                                    uint64_t walked, uint64_t *ret)
{
	struct shmeta_segment segment;
	enum shmeta_status status;
	uint64_t before, all;

	if (!shmeta__part_overlaps(&h->part)) {
		status = shmeta__part_bytes_below(&h->part, first_base, &before);
		if (status == SHMETA_OK)
			status = shmeta__part_bytes_below(&h->part, cursor->to + 1, &all);
		if (status == SHMETA_OK)
			*ret = all - before;
		return status;
	}
	/* Some that begin behind the first one may end before `from`. */
	while ((status = shmeta__part_next(&h->part, cursor, &segment)) == SHMETA_OK)
		walked += segment.size_bytes;
	*ret = walked;
	return status == SHMETA_END ? SHMETA_OK : status;
}

/* The next one for the plan. UNKNOWN: before it lies a hole that may hold one that cannot be read,
 * or is not resident. */
static enum shmeta_status next(const struct shmeta_fetch_plan *plan, struct shmeta_handle *h,
                               struct shmeta__part_cursor *cursor, struct shmeta_segment *ret)
{
	enum shmeta_status status = shmeta__part_next(&h->part, cursor, ret);

	if (status != SHMETA_OK || ret->base_offset <= plan->next_offset)
		return status;
	status = shmeta__segment_hole(h, plan->next_offset, ret->base_offset - 1);
	return status == SHMETA_ABSENT_GAP ? SHMETA_OK : status;
}

static enum shmeta_status fill(struct planning *p, struct shmeta_handle *h)
{
	struct shmeta_fetch_plan *plan = p->plan;
	struct shmeta__part_cursor cursor;
	struct shmeta_segment segment;
	uint64_t first_base = 0, left = 0;
	enum shmeta_status status = shmeta__part_seek(&h->part, p->fetch->from, plan->high_watermark - 1, &cursor);

	while (status == SHMETA_OK) {
		status = next(plan, h, &cursor, &segment);
		if (status == SHMETA_OK || status == SHMETA_UNKNOWN)
			left = segment.size_bytes; /* of the one that is left out */
		if (status != SHMETA_OK)
			break;
		if (plan->segments == 0)
			first_base = segment.base_offset;
		status = take(p, h, &segment);
		if (status == SHMETA_OK)
			left = 0;
	}
	if (plan->segments > 0 && (status == SHMETA_END || status == SHMETA_UNKNOWN))
		status = available(h, first_base, &cursor, plan->bytes + left, &plan->available_bytes);
	else if (status == SHMETA_END)
		status = shmeta__segment_hole(h, p->fetch->from, plan->high_watermark - 1);
	plan->enough = plan->available_bytes >= p->fetch->min_bytes;
	return status;
}

/* ---- the lookup ---- */

static enum shmeta_status answer(void *arg, struct shmeta_reader *unused, struct shmeta_handle *h, uint64_t assured_ns,
                                 struct shmeta_freshness *ret_fresh)
{
	struct planning *p = arg;
	struct shmeta_partition partition;
	struct shmeta_segment found;
	enum shmeta_status status;

	(void)unused;
	p->used = 0;
	*p->plan = (struct shmeta_fetch_plan){.size = p->plan->size, .next_offset = p->fetch->from};
	/* Which absence it is, and whether a row that cannot be read, or is not resident, lies
	 * there. */
	status = shmeta__segment_find(h, p->fetch->from, assured_ns, &found, ret_fresh);
	if (status != SHMETA_OK && status != SHMETA_ABSENT_GAP && status != SHMETA_ABSENT_BEFORE_START)
		return status;
	shmeta__part_record(&h->part, &partition);
	if (status == SHMETA_ABSENT_BEFORE_START) { /* who is told so goes on from the log start */
		status = shmeta__segment_hole(h, p->fetch->from, partition.log_start_offset - 1);
		return status == SHMETA_ABSENT_GAP ? SHMETA_ABSENT_BEFORE_START : status;
	}
	p->plan->high_watermark = partition.high_watermark;
	/* A segment may have been added before the watermark was moved. */
	if (p->fetch->from >= partition.high_watermark)
		return SHMETA_ABSENT_AT_END;
	status = fill(p, h);
	return status != SHMETA_ERR_BUFFER
	               ? status
	               : shmeta__reader_fail(
				 h->reader, SHMETA_ERR_BUFFER,
				 "fetch plan: the first segment's strings do not fit the buffer of %zu bytes",
				 p->fetch->buffer_bytes);
}

static enum shmeta_status check(struct shmeta_reader *r, const struct shmeta_fetch *f,
                                const struct shmeta_fetch_plan *plan)
{
	if (f->size < sizeof *f)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT,
		                           "fetch: size is %zu, this library's struct shmeta_fetch has %zu bytes",
		                           f->size, sizeof *f);
	if (plan->size < sizeof *plan)
		return shmeta__reader_fail(
			r, SHMETA_ERR_INVALID_ARGUMENT,
			"fetch plan: size is %zu, this library's struct shmeta_fetch_plan has %zu bytes", plan->size,
			sizeof *plan);
	if (f->segments == NULL || f->max_segments == 0 || f->ranges == NULL || f->max_ranges == 0 || f->buffer == NULL)
		return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT,
		                           "fetch: segments, ranges and buffer need room for one segment");
	return SHMETA_OK;
}

enum shmeta_status shmeta_plan_fetch(struct shmeta_handle *h, const struct shmeta_fetch *fetch,
                                     const struct shmeta_read *read, struct shmeta_fetch_plan *ret,
                                     struct shmeta_freshness *ret_fresh)
{
	struct planning planning = {.fetch = fetch, .plan = ret};
	struct want want;
	enum shmeta_status status;
	int asks;

	if (h == NULL || fetch == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(h->fork_word) != h->fork_token)
		return shmeta__handle_unusable(h);
	status = lookup_ready(h->reader);
	if (status == SHMETA_OK)
		status = lookup_options(h->reader, read, &asks);
	if (status == SHMETA_OK)
		status = check(h->reader, fetch, ret);
	if (status != SHMETA_OK)
		return status;
	if (!asks)
		return lookup_done(h->reader, answer(&planning, h->reader, h, 0, ret_fresh));
	want = want_of(h, SHMETA_CLASS_SEGMENT);
	return shmeta__fresh_lookup(h->reader, h, &want, read, answer, &planning, ret_fresh);
}

enum shmeta_status shmeta__plan_fetch_named(struct shmeta_reader *r, const struct want *want,
                                            const struct shmeta_fetch *fetch, const struct shmeta_read *read,
                                            struct shmeta_fetch_plan *ret, struct shmeta_freshness *ret_fresh)
{
	struct planning planning = {.fetch = fetch, .plan = ret};
	enum shmeta_status status = check(r, fetch, ret);

	return status == SHMETA_OK ? shmeta__lookup_named(r, want, read, answer, &planning, ret_fresh) : status;
}
