/* SPDX-License-Identifier: Apache-2.0
 * Lists of the segments of a range of offsets. */
#include <stdlib.h>
#include <string.h>

#include "reader/lookup/lookup.h"

/* The iterator opens the partition for itself: it outlives the handle it was made from. */
static enum shmeta_status open_range(struct shmeta_iter *iter, const struct shmeta_handle *h, uint64_t from,
                                     uint64_t to)
{
	struct shmeta_reader *r = iter->reader;
	uint64_t key = h->part_key;
	enum shmeta_status status;
	const void *head;
	size_t bytes;

	iter->topic_id = (uint32_t)(key >> 32);
	iter->partition_id = (uint32_t)key;
	status = shmeta__snapshot_get(r, SHMETA_DB_PARTS, &key, sizeof key, &head, &bytes);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__part_open(&iter->part, key, head, bytes, &r->view.pages);
	if (status == SHMETA_OK)
		status = shmeta__part_seek(&iter->part, from, to - 1, &iter->cursor);
	if (status == SHMETA_END) {
		iter->done = 1;
		status = SHMETA_OK;
	}
	return status;
}

struct listed_segments {
	const struct want *want;
	uint64_t from, to;
};

static enum shmeta_status list_range(void *arg, struct shmeta_reader *r, struct shmeta_handle *h, uint64_t assured_ns,
                                     struct shmeta_freshness *ret_fresh, struct shmeta_iter **ret)
{
	const struct listed_segments *what = arg;
	const struct want *want = what->want;
	struct shmeta_iter *iter;
	enum shmeta_status status;

	if (h == NULL) {
		status = name_fits(r, "topic", want->topic, want->topic_bytes);
		if (status == SHMETA_ABSENT)
			return never_there(r, 0, ret_fresh);
		if (status == SHMETA_OK)
			status = shmeta__partition_named(r, want->topic, want->topic_bytes, want->partition_id,
			                                 SHMETA_CLASS_SEGMENT, assured_ns, ret_fresh, &h);
	} else {
		status = handle_right(h);
		if (status == SHMETA_ABSENT)
			return shmeta__handle_absent(h, SHMETA_CLASS_SEGMENT, assured_ns, ret_fresh);
	}
	if (status != SHMETA_OK)
		return status;
	lookup_touch(r, h->part_key);
	if (ret_fresh != NULL)
		segment_age(h, assured_ns, ret_fresh);
	status = shmeta__iter_new(r, ITER_SEGMENTS, SHMETA_DB_COUNT, &iter);
	if (status != SHMETA_OK)
		return status;
	iter->filter[0].bytes = want->topic_bytes;
	iter->filter[0].text = malloc(want->topic_bytes);
	if (iter->filter[0].text == NULL)
		status = SHMETA_ERR_NO_MEMORY;
	else
		memcpy(iter->filter[0].text, want->topic, want->topic_bytes);
	if (what->from == what->to)
		iter->done = 1;
	else if (status == SHMETA_OK)
		status = open_range(iter, h, what->from, what->to);
	if (status == SHMETA_OK)
		*ret = iter;
	else
		shmeta_iter_free(iter);
	return status;
}

static enum shmeta_status range_error(struct shmeta_reader *r, uint64_t from, uint64_t to)
{
	return shmeta__reader_fail(r, SHMETA_ERR_INVALID_ARGUMENT, "segments of [%llu, %llu): from is behind to",
	                           (unsigned long long)from, (unsigned long long)to);
}

enum shmeta_status shmeta_list_segments(struct shmeta_handle *h, uint64_t from, uint64_t to,
                                        const struct shmeta_read *read, struct shmeta_iter **ret)
{
	struct listed_segments what = {NULL, from, to};
	enum shmeta_status status;
	struct want want;

	if (h == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(h->fork_word) != h->fork_token)
		return shmeta__handle_unusable(h);
	status = lookup_ready(h->reader);
	if (status != SHMETA_OK)
		return status;
	if (from > to)
		return range_error(h->reader, from, to);
	want = want_of(h, SHMETA_CLASS_SEGMENT);
	what.want = &want;
	return shmeta__list(h->reader, h, &want, read, list_range, &what, ret);
}

enum shmeta_status shmeta_list_segments_named(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                              uint32_t partition_id, uint64_t from, uint64_t to,
                                              const struct shmeta_read *read, struct shmeta_iter **ret)
{
	const struct want want = {
		.cls = SHMETA_CLASS_SEGMENT, .topic = topic, .topic_bytes = topic_bytes, .partition_id = partition_id};
	struct listed_segments what = {&want, from, to};
	enum shmeta_status status;

	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status != SHMETA_OK)
		return status;
	if (from > to)
		return range_error(r, from, to);
	return shmeta__list(r, NULL, &want, read, list_range, &what, ret);
}

enum shmeta_status shmeta_next_segment(struct shmeta_iter *iter, struct shmeta_segment *ret)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_SEGMENTS);

	if (status != SHMETA_OK || ret == NULL)
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	if (iter->done)
		return list_done(iter->reader);
	status = shmeta__part_next(&iter->part, &iter->cursor, ret);
	if (status == SHMETA_END) {
		iter->done = 1;
		return list_done(iter->reader);
	}
	return lookup_done(iter->reader, status);
}

enum shmeta_status shmeta_iter_segment_strings(struct shmeta_iter *iter, struct shmeta_segment *segment, char *buffer,
                                               size_t bytes)
{
	enum shmeta_status status = shmeta__iter_ready(iter, ITER_SEGMENTS);

	if (status != SHMETA_OK || segment == NULL || (buffer == NULL && bytes != 0))
		return status != SHMETA_OK ? status : SHMETA_ERR_INVALID_ARGUMENT;
	status = iter->part.head == NULL ? SHMETA_ERR_INVALID_ARGUMENT
	                                 : shmeta__part_strings(&iter->part, iter->filter[0].text,
	                                                        iter->filter[0].bytes, segment, buffer, bytes);
	return lookup_done(iter->reader, status);
}
