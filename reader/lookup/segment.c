/* SPDX-License-Identifier: Apache-2.0
 * Segments: which one holds an offset, which one a time, the last one; many at once. */
#include "reader/lookup/lookup.h"

/* ---- one segment ---- */

/* No segment of the store holds any of these offsets: a quarantined row of the source may. */
static enum shmeta_status segment_absent(struct shmeta_handle *h, const char *topic, size_t topic_bytes,
                                         const struct span *span, enum shmeta_status status)
{
	const struct missing missing = {SHMETA_CLASS_SEGMENT, .name = topic, .name_bytes = topic_bytes,
	                                .partition_id = (uint32_t)h->part_key, .span = span};

	return unless_quarantined(h->reader, &missing, status);
}

/* By value: a lookup that finds its segment has nothing on the stack whose address is taken. */
static __attribute__((noinline)) enum shmeta_status offset_absent(struct shmeta_handle *h, const char *topic,
                                                                  size_t topic_bytes, uint64_t offset,
                                                                  enum shmeta_status status)
{
	const struct span span = {offset, offset, 0};

	/* No segment holds offsets at or beyond the high watermark. */
	return status == SHMETA_ABSENT_AT_END ? status : segment_absent(h, topic, topic_bytes, &span, status);
}

enum shmeta_status shmeta__segment_hole(struct shmeta_handle *h, uint64_t first, uint64_t last)
{
	const struct span span = {first, last, 0};
	struct shmeta_part_window window;

	/* One that is not resident may reach beyond the first that is. */
	if (shmeta__part_window(&h->part, &window) && first <= window.max_end)
		return SHMETA_UNKNOWN;
	return segment_absent(h, h->topic, h->topic_bytes, &span, SHMETA_ABSENT_GAP);
}

static inline __attribute__((always_inline)) enum shmeta_status find(struct shmeta_handle *h, const char *topic,
                                                                     size_t topic_bytes, uint64_t offset,
                                                                     uint64_t assured_ns, struct shmeta_segment *ret,
                                                                     struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = handle_right(h);

	if (unlikely(status == SHMETA_ABSENT))
		return shmeta__handle_absent(h, SHMETA_CLASS_SEGMENT, assured_ns, ret_fresh);
	if (unlikely(status != SHMETA_OK))
		return status;
	status = shmeta__part_find(&h->part, offset, ret);
	if (ret_fresh != NULL)
		segment_age(h, assured_ns, ret_fresh);
	return likely(!is_absent(status)) ? status : offset_absent(h, topic, topic_bytes, offset, status);
}

enum shmeta_status shmeta__segment_find(struct shmeta_handle *h, uint64_t offset, uint64_t assured_ns,
                                        struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	return find(h, h->topic, h->topic_bytes, offset, assured_ns, ret, ret_fresh);
}

/* Copy the strings into the caller's buffer, if there is one, because a later lookup may not find
 * the segment again. */
static enum shmeta_status give_strings(struct shmeta_handle *h, const char *topic, size_t topic_bytes,
                                       const struct shmeta_read *read, struct shmeta_segment *segment)
{
	enum shmeta_status status;

	if (read == NULL || read->buffer == NULL || !is_copied(read))
		return SHMETA_OK;
	status = shmeta__part_strings(&h->part, topic, topic_bytes, segment, read->buffer, read->buffer_bytes);
	return status != SHMETA_ERR_BUFFER ? status : buffer_too_small(h->reader, read, "the segment's strings");
}

static enum shmeta_status find_with_strings(struct shmeta_handle *h, uint64_t offset, const struct shmeta_read *read,
                                            uint64_t assured_ns, struct shmeta_segment *ret,
                                            struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = find(h, h->topic, h->topic_bytes, offset, assured_ns, ret, ret_fresh);

	return status != SHMETA_OK ? status : give_strings(h, h->topic, h->topic_bytes, read, ret);
}

struct segment_lookup {
	const struct want *want;
	uint64_t offset;
	const struct shmeta_read *read;
	struct shmeta_segment segment;
};

static enum shmeta_status answer_handle(void *arg, struct shmeta_reader *unused, struct shmeta_handle *h,
                                        uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct segment_lookup *l = arg;

	(void)unused;
	return find_with_strings(h, l->offset, l->read, assured_ns, &l->segment, ret_fresh);
}

static enum shmeta_status find_asking(struct shmeta_reader *r, struct shmeta_handle *h, const struct want *want,
                                      uint64_t offset, const struct shmeta_read *read, shmeta__answer_fn *answer,
                                      struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	struct segment_lookup lookup = {.want = want, .offset = offset, .read = read};
	enum shmeta_status status = shmeta__fresh_lookup(r, h, want, read, answer, &lookup, ret_fresh);

	if (status == SHMETA_OK)
		*ret = lookup.segment;
	return status;
}

static enum shmeta_status find_fresh(struct shmeta_handle *h, uint64_t offset, const struct shmeta_read *read,
                                     struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	const struct want want = want_of(h, SHMETA_CLASS_SEGMENT);

	return find_asking(h->reader, h, &want, offset, read, answer_handle, ret, ret_fresh);
}

static __attribute__((noinline)) enum shmeta_status find_rarely(struct shmeta_handle *h, uint64_t offset,
                                                                const struct shmeta_read *read,
                                                                struct shmeta_segment *ret,
                                                                struct shmeta_freshness *ret_fresh)
{
	struct shmeta_reader *r = h->reader;
	uint64_t begun_ns = shmeta__monotonic_ns();
	enum shmeta_status status;
	int asks;

	status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status;
	if (asks)
		return find_fresh(h, offset, read, ret, ret_fresh);
	status = find(h, h->topic, h->topic_bytes, offset, 0, ret, ret_fresh);
	sample_lookup(r, begun_ns, h->part_key);
	return lookup_done(r, status);
}

static __attribute__((noinline)) enum shmeta_status find_elsewhere(struct shmeta_handle *h, uint64_t offset,
                                                                   struct shmeta_segment *ret,
                                                                   struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = find(h, h->topic, h->topic_bytes, offset, 0, ret, ret_fresh);

	if (likely(status == SHMETA_OK))
		shmeta__part_keep(&h->part, ret);
	return lookup_done(h->reader, status);
}

enum shmeta_status shmeta_find_segment(struct shmeta_handle *h, uint64_t offset, const struct shmeta_read *read,
                                       struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	struct shmeta_reader *r;

	if (unlikely(h == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (unlikely(shmeta_peek(h->fork_word) != h->fork_token))
		return shmeta__handle_unusable(h);
	r = h->reader;
	if (unlikely(r->snapshot == 0))
		return SHMETA_ERR_NO_SNAPSHOT;
	if (unlikely((++r->tick & (SHMETA_SAMPLE_EVERY - 1)) == 0 || read != NULL))
		return find_rarely(h, offset, read, ret, ret_fresh);
	if (h->ready != r->snapshot || !shmeta__part_find_again(&h->part, offset, ret))
		return find_elsewhere(h, offset, ret, ret_fresh);
	if (ret_fresh != NULL)
		segment_age(h, 0, ret_fresh);
	return lookup_done(r, SHMETA_OK);
}

static inline enum shmeta_status find_named(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                            uint32_t partition_id, uint64_t offset, uint64_t assured_ns,
                                            struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	struct shmeta_handle *h;
	enum shmeta_status status = shmeta__partition_named(r, topic, topic_bytes, partition_id, SHMETA_CLASS_SEGMENT,
	                                                    assured_ns, ret_fresh, &h);

	if (unlikely(status != SHMETA_OK))
		return status;
	if (shmeta__part_find_again(&h->part, offset, ret)) {
		lookup_touch(r, h->part_key);
		if (ret_fresh != NULL)
			segment_age(h, assured_ns, ret_fresh);
		return SHMETA_OK;
	}
	status = find(h, topic, topic_bytes, offset, assured_ns, ret, ret_fresh);
	if (likely(status == SHMETA_OK))
		shmeta__part_keep(&h->part, ret);
	return status;
}

static enum shmeta_status find_named_with_strings(struct shmeta_reader *r, const struct want *want, uint64_t offset,
                                                  const struct shmeta_read *read, uint64_t assured_ns,
                                                  struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	struct shmeta_handle *h;
	enum shmeta_status status = shmeta__partition_named(r, want->topic, want->topic_bytes, want->partition_id,
	                                                    SHMETA_CLASS_SEGMENT, assured_ns, ret_fresh, &h);

	if (status == SHMETA_OK) /* a cached handle does not know its topic's name */
		status = find(h, want->topic, want->topic_bytes, offset, assured_ns, ret, ret_fresh);
	return status != SHMETA_OK ? status : give_strings(h, want->topic, want->topic_bytes, read, ret);
}

static enum shmeta_status answer_named(void *arg, struct shmeta_reader *r, struct shmeta_handle *unused,
                                       uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct segment_lookup *l = arg;

	(void)unused;
	return find_named_with_strings(r, l->want, l->offset, l->read, assured_ns, &l->segment, ret_fresh);
}

/* Of a partition that was just looked up; 0: it is not there. */
static uint64_t key_of_name(struct shmeta_reader *r, const char *topic, size_t topic_bytes, uint32_t partition_id)
{
	struct shmeta_handle *h;

	return shmeta__partition_named(r, topic, topic_bytes, partition_id, SHMETA_CLASS_SEGMENT, 0, NULL, &h) ==
	                       SHMETA_OK
	               ? h->part_key
	               : 0;
}

enum shmeta_status shmeta_find_segment_named(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                             uint32_t partition_id, uint64_t offset, const struct shmeta_read *read,
                                             struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status;
	uint64_t begun_ns = 0;
	int asks;

	if (unlikely(r == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (unlikely(status != SHMETA_OK))
		return status;
	status = name_fits(r, "topic", topic, topic_bytes);
	if (likely(status == SHMETA_OK))
		status = lookup_options(r, read, &asks);
	if (unlikely(status != SHMETA_OK))
		return status == SHMETA_ABSENT ? lookup_done(r, never_there(r, 0, ret_fresh)) : status;
	if (unlikely(asks)) {
		const struct want want = {.cls = SHMETA_CLASS_SEGMENT,
		                          .topic = topic,
		                          .topic_bytes = topic_bytes,
		                          .partition_id = partition_id};

		return find_asking(r, NULL, &want, offset, read, answer_named, ret, ret_fresh);
	}
	if (unlikely((++r->tick & (SHMETA_SAMPLE_EVERY - 1)) == 0))
		begun_ns = shmeta__monotonic_ns();
	status = find_named(r, topic, topic_bytes, partition_id, offset, 0, ret, ret_fresh);
	if (unlikely(begun_ns != 0))
		sample_lookup(r, begun_ns, key_of_name(r, topic, topic_bytes, partition_id));
	return lookup_done(r, status);
}

/* ---- by time, and the last one ---- */

/* *ret_span: where the rows begin of which one that is not here would be the answer. */
typedef enum shmeta_status part_lookup(struct shmeta__part *part, int64_t argument, struct shmeta_segment *ret,
                                       struct span *ret_span);

struct other_lookup {
	part_lookup *find;
	int64_t argument;
	const struct shmeta_read *read;
	struct shmeta_segment segment;
};

/* The row before the one that was found is older than the time: so are those before that one, as
 * far as times grow with offsets. */
static enum shmeta_status by_timestamp(struct shmeta__part *part, int64_t timestamp_ms, struct shmeta_segment *ret,
                                       struct span *ret_span)
{
	enum shmeta_status status = shmeta__part_find_timestamp(part, timestamp_ms, ret), before;
	struct shmeta_segment former;

	if (status != SHMETA_OK || ret->base_offset == 0)
		return status;
	before = shmeta__part_before(part, ret->base_offset, &former);
	*ret_span = (struct span){before == SHMETA_OK ? former.base_offset + 1 : 0, ret->base_offset - 1, 1};
	return before < 0 ? before : status;
}

static enum shmeta_status by_position(struct shmeta__part *part, int64_t unused, struct shmeta_segment *ret,
                                      struct span *ret_span)
{
	enum shmeta_status status = shmeta__part_last(part, ret);

	(void)unused;
	if (status == SHMETA_OK)
		*ret_span = (struct span){ret->base_offset + 1, INT64_MAX, 1};
	return status;
}

static enum shmeta_status find_other(struct shmeta_handle *h, part_lookup *by, int64_t argument, uint64_t assured_ns,
                                     struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status = handle_right(h), other;
	struct span span = {1, 0, 1}; /* none */

	if (status == SHMETA_ABSENT)
		return shmeta__handle_absent(h, SHMETA_CLASS_SEGMENT, assured_ns, ret_fresh);
	if (status != SHMETA_OK)
		return status;
	status = by(&h->part, argument, ret, &span);
	if (ret_fresh != NULL)
		segment_age(h, assured_ns, ret_fresh);
	if (is_absent(status))
		return segment_absent(h, h->topic, h->topic_bytes, NULL, status);
	if (status != SHMETA_OK || span.first > span.last)
		return status;
	other = segment_absent(h, h->topic, h->topic_bytes, &span, SHMETA_ABSENT);
	return other == SHMETA_ABSENT ? status : other;
}

static enum shmeta_status answer_other(void *arg, struct shmeta_reader *unused, struct shmeta_handle *h,
                                       uint64_t assured_ns, struct shmeta_freshness *ret_fresh)
{
	struct other_lookup *l = arg;
	enum shmeta_status status = find_other(h, l->find, l->argument, assured_ns, &l->segment, ret_fresh);

	(void)unused;
	return status != SHMETA_OK ? status : give_strings(h, h->topic, h->topic_bytes, l->read, &l->segment);
}

static enum shmeta_status find_other_fresh(struct shmeta_handle *h, part_lookup *by, int64_t argument,
                                           const struct shmeta_read *read, struct shmeta_segment *ret,
                                           struct shmeta_freshness *ret_fresh)
{
	const struct want want = want_of(h, SHMETA_CLASS_SEGMENT);
	struct other_lookup lookup = {.find = by, .argument = argument, .read = read};
	enum shmeta_status status = shmeta__fresh_lookup(h->reader, h, &want, read, answer_other, &lookup, ret_fresh);

	if (status == SHMETA_OK)
		*ret = lookup.segment;
	return status;
}

static enum shmeta_status find_by(struct shmeta_handle *h, part_lookup *by, int64_t argument,
                                  const struct shmeta_read *read, struct shmeta_segment *ret,
                                  struct shmeta_freshness *ret_fresh)
{
	enum shmeta_status status;
	int asks;

	if (h == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(h->fork_word) != h->fork_token)
		return shmeta__handle_unusable(h);
	status = lookup_ready(h->reader);
	if (status == SHMETA_OK)
		status = lookup_options(h->reader, read, &asks);
	if (status != SHMETA_OK)
		return status;
	return asks ? find_other_fresh(h, by, argument, read, ret, ret_fresh)
	            : lookup_done(h->reader, find_other(h, by, argument, 0, ret, ret_fresh));
}

enum shmeta_status shmeta_find_segment_for_timestamp(struct shmeta_handle *h, int64_t timestamp_ms,
                                                     const struct shmeta_read *read, struct shmeta_segment *ret,
                                                     struct shmeta_freshness *ret_fresh)
{
	return find_by(h, by_timestamp, timestamp_ms, read, ret, ret_fresh);
}

enum shmeta_status shmeta_last_segment(struct shmeta_handle *h, const struct shmeta_read *read,
                                       struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	return find_by(h, by_position, 0, read, ret, ret_fresh);
}

enum shmeta_status shmeta__other_segment_named(struct shmeta_reader *r, const struct want *want,
                                               const int64_t *timestamp_ms, const struct shmeta_read *read,
                                               struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	struct other_lookup lookup = {.find = timestamp_ms != NULL ? by_timestamp : by_position,
	                              .argument = timestamp_ms != NULL ? *timestamp_ms : 0,
	                              .read = read};
	enum shmeta_status status = shmeta__lookup_named(r, want, read, answer_other, &lookup, ret_fresh);

	if (status == SHMETA_OK)
		*ret = lookup.segment;
	return status;
}

/* ---- many ---- */

/* Where data is not in the processor's cache a find waits several times, one after the other. Here
 * the waits of the first AT_A_TIME finds run side by side, and those behind them begin. */
static void fetch(const struct shmeta_find *finds, size_t count, uint64_t snapshot)
{
	size_t now = count < AT_A_TIME ? count : AT_A_TIME;

	for (size_t i = 0; i < now; i++)
		if (finds[i].handle->ready == snapshot)
			shmeta__part_fetch_entry(&finds[i].handle->part, finds[i].offset);
	for (size_t i = now; i < count && i < 2 * AT_A_TIME; i++)
		handle_fetch(finds[i].handle);
	for (size_t i = 0; i < now; i++)
		if (finds[i].handle->ready == snapshot)
			shmeta__part_fetch_row(&finds[i].handle->part, finds[i].offset);
}

/* A batch that may ask the writer: by handle or by name. */
struct segments {
	const struct shmeta_find *finds;
	const struct shmeta_find_named *named;
	const struct shmeta_read *read;
	size_t used; /* of the buffer */
	struct shmeta_segment *ret;
};

static void segments_begin(void *arg)
{
	struct segments *s = arg;

	s->used = 0;
}

static void segments_want(const void *arg, size_t i, struct want *ret)
{
	const struct segments *s = arg;

	if (s->finds != NULL)
		*ret = want_of(s->finds[i].handle, SHMETA_CLASS_SEGMENT);
	else
		*ret = (struct want){.cls = SHMETA_CLASS_SEGMENT,
		                     .topic = s->named[i].topic.data,
		                     .topic_bytes = s->named[i].topic.bytes,
		                     .partition_id = s->named[i].partition_id};
}

static enum shmeta_status by_handle(struct shmeta_reader *r, const struct shmeta_find *f,
                                    const struct shmeta_read *read, uint64_t assured_ns, struct shmeta_segment *ret,
                                    struct shmeta_freshness *ret_fresh)
{
	struct shmeta_handle *h = f->handle->reader == r ? f->handle : shmeta__handle_for(f->handle, r);
	enum shmeta_status status;

	if (h == NULL)
		return SHMETA_ERR_NO_MEMORY;
	status = find_with_strings(h, f->offset, read, assured_ns, ret, ret_fresh);
	if (h != f->handle)
		shmeta__handle_free(h);
	return status;
}

/* Each has what the others left of the buffer. */
static enum shmeta_status segments_answer(void *arg, struct shmeta_reader *r, size_t i, uint64_t assured_ns,
                                          struct shmeta_freshness *ret_fresh)
{
	struct segments *s = arg;
	struct shmeta_read rest = *s->read;
	struct shmeta_segment *ret = &s->ret[i];
	enum shmeta_status status;
	struct want want;

	if (rest.buffer != NULL) {
		rest.buffer += s->used;
		rest.buffer_bytes -= s->used;
	}
	if (s->finds != NULL) {
		status = by_handle(r, &s->finds[i], &rest, assured_ns, ret, ret_fresh);
	} else {
		segments_want(s, i, &want);
		status = name_fits(r, "topic", want.topic, want.topic_bytes);
		if (status == SHMETA_ABSENT)
			return never_there(r, 0, ret_fresh);
		if (status == SHMETA_OK)
			status = find_named_with_strings(r, &want, s->named[i].offset, &rest, assured_ns, ret,
			                                 ret_fresh);
	}
	if (status == SHMETA_OK && rest.buffer != NULL && is_copied(&rest))
		s->used += ret->id.bytes + ret->s3_bucket.bytes + ret->s3_key.bytes + 3;
	return status;
}

static enum shmeta_status find_asking_many(struct shmeta_reader *r, struct segments *segments, size_t count,
                                           enum shmeta_status *ret_status)
{
	const struct shmeta__many many = {count, segments, segments_begin, segments_want, segments_answer};

	return shmeta__fresh_many(r, &many, segments->read, ret_status);
}

enum shmeta_status shmeta_find_segments(size_t count, const struct shmeta_find *finds, const struct shmeta_read *read,
                                        enum shmeta_status *ret_status, struct shmeta_segment *ret)
{
	struct segments segments = {.finds = finds, .read = read, .ret = ret};
	enum shmeta_status status;
	struct shmeta_handle *h;
	struct shmeta_reader *r;
	int asks;

	if (count != 0 && (finds == NULL || ret_status == NULL || ret == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	for (size_t i = 0; i < count; i++)
		if (finds[i].handle == NULL || finds[i].handle->reader == NULL ||
		    finds[i].handle->reader != finds[0].handle->reader)
			return SHMETA_ERR_INVALID_ARGUMENT;
	if (count == 0)
		return SHMETA_OK;
	if (shmeta_peek(finds[0].handle->fork_word) != finds[0].handle->fork_token)
		return shmeta__handle_unusable(finds[0].handle);
	r = finds[0].handle->reader;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status;
	if (asks)
		return find_asking_many(r, &segments, count, ret_status);
	for (size_t i = 0; i < count; i++) {
		if (i % AT_A_TIME == 0)
			fetch(finds + i, count - i, r->snapshot);
		h = finds[i].handle;
		if (++r->tick % SHMETA_SAMPLE_EVERY == 0)
			ret_status[i] = find_rarely(h, finds[i].offset, NULL, &ret[i], NULL);
		else
			ret_status[i] =
				lookup_done(r, find(h, h->topic, h->topic_bytes, finds[i].offset, 0, &ret[i], NULL));
		if (ret_status[i] == SHMETA_ERR_EXPIRED)
			return SHMETA_ERR_EXPIRED;
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta_find_segments_named(struct shmeta_reader *r, size_t count,
                                              const struct shmeta_find_named *finds, const struct shmeta_read *read,
                                              enum shmeta_status *ret_status, struct shmeta_segment *ret)
{
	struct segments segments = {.named = finds, .read = read, .ret = ret};
	enum shmeta_status status;
	int asks;

	if (r == NULL || (count != 0 && (finds == NULL || ret_status == NULL || ret == NULL)))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = lookup_options(r, read, &asks);
	if (status != SHMETA_OK)
		return status;
	if (asks)
		return find_asking_many(r, &segments, count, ret_status);
	for (size_t i = 0; i < count; i++) {
		if (i % AT_A_TIME == 0)
			shmeta__partitions_fetch(r, finds + i, count - i < AT_A_TIME ? count - i : AT_A_TIME);
		ret_status[i] = shmeta_find_segment_named(r, finds[i].topic.data, finds[i].topic.bytes,
		                                          finds[i].partition_id, finds[i].offset, NULL, &ret[i], NULL);
		if (ret_status[i] == SHMETA_ERR_EXPIRED)
			return SHMETA_ERR_EXPIRED;
	}
	return SHMETA_OK;
}

/* ---- strings ---- */

enum shmeta_status shmeta_segment_strings(struct shmeta_handle *h, struct shmeta_segment *segment, char *buffer,
                                          size_t bytes)
{
	enum shmeta_status status;

	if (h == NULL || segment == NULL || (buffer == NULL && bytes != 0))
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(h->fork_word) != h->fork_token)
		return shmeta__handle_unusable(h);
	status = lookup_ready(h->reader);
	if (status != SHMETA_OK)
		return status;
	status = handle_right(h);
	if (status == SHMETA_OK)
		status = shmeta__part_strings(&h->part, h->topic, h->topic_bytes, segment, buffer, bytes);
	return lookup_done(h->reader, status);
}

enum shmeta_status shmeta_segment_strings_named(struct shmeta_reader *r, const char *topic, size_t topic_bytes,
                                                struct shmeta_segment *segment, char *buffer, size_t bytes)
{
	enum shmeta_status status;
	struct shmeta_handle *h;

	if (r == NULL || segment == NULL || (buffer == NULL && bytes != 0))
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = lookup_ready(r);
	if (status == SHMETA_OK)
		status = name_fits(r, "topic", topic, topic_bytes);
	if (status != SHMETA_OK)
		return status == SHMETA_ABSENT ? lookup_done(r, status) : status;
	status = shmeta__partition_named(r, topic, topic_bytes, segment->partition_id, SHMETA_CLASS_SEGMENT, 0, NULL,
	                                 &h);
	if (status == SHMETA_OK)
		status = shmeta__part_strings(&h->part, topic, topic_bytes, segment, buffer, bytes);
	return lookup_done(r, status);
}
