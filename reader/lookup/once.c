/* SPDX-License-Identifier: Apache-2.0
 * One lookup with its snapshot around it and its strings in the caller's memory, for callers that
 * hold no snapshots. */
#include "reader/lookup/lookup.h"

#include <string.h>

enum { TRIES = 4 };

/* What is asked, and where the answer goes. */
struct once {
	struct shmeta_str topic, name;
	uint32_t topic_id;
	uint32_t partition_id;
	uint64_t offset;
	int64_t time_ms; /* of leases: now */
	const struct shmeta_fetch *fetch;
	char *buffer;
	size_t bytes;
	void *ret;
	struct shmeta_freshness *ret_fresh;
};
typedef enum shmeta_status once_fn(const struct once *o, struct shmeta_reader *r, const struct shmeta_read *read);

static enum shmeta_status copied(struct shmeta_reader *r, const struct once *o, enum shmeta_status status)
{
	return status != SHMETA_ERR_BUFFER
	               ? status
	               : shmeta__reader_fail(r, SHMETA_ERR_BUFFER,
	                                     "the answer's strings do not fit the buffer of %zu bytes", o->bytes);
}

static enum shmeta_status once(struct shmeta_reader *r, once_fn *look_up, const struct once *o,
                               const struct shmeta_read *read)
{
	struct shmeta_read moving;
	enum shmeta_status status = SHMETA_ERR_CONTENDED;
	uint64_t deadline = 0;

	if (r == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	/* The snapshot is this call's own, so it may move; what is wrong with the options is for
	 * the lookup to say. */
	if (read != NULL && read->size >= sizeof moving && read->consistency != SHMETA_CACHED) {
		moving = *read;
		moving.flags |= SHMETA_READ_MAY_MOVE;
		moving.buffer = NULL;
		moving.buffer_bytes = 0;
		read = &moving;
		deadline = shmeta__deadline_of(moving.timeout_ms);
	}
	for (int i = 0; i < TRIES && (status == SHMETA_ERR_CONTENDED || status == SHMETA_ERR_EXPIRED); i++) {
		/* The time is for all tries together. */
		if (i > 0 && deadline != 0)
			moving.timeout_ms = shmeta__monotonic_ns() < deadline ? shmeta__left_ms(deadline) : 0;
		status = shmeta_begin(r);
		if (status != SHMETA_OK)
			continue;
		status = look_up(o, r, read);
		/* What was read from a snapshot that was taken back does not count. */
		if (shmeta_end(r) == SHMETA_ERR_EXPIRED)
			status = SHMETA_ERR_EXPIRED;
	}
	return status;
}

/* ---- the lookups ---- */

static enum shmeta_status look_up_topic(const struct once *a, struct shmeta_reader *r, const struct shmeta_read *read)
{
	enum shmeta_status status = shmeta_get_topic(r, a->topic.data, a->topic.bytes, read, a->ret, a->ret_fresh);

	return status != SHMETA_OK ? status : copied(r, a, shmeta_copy_topic(a->ret, a->buffer, a->bytes, NULL));
}

enum shmeta_status shmeta_once_topic(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                     const struct shmeta_read *read, char *buffer, size_t bytes,
                                     struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh)
{
	const struct once o = {
		.topic = {name, name_bytes}, .buffer = buffer, .bytes = bytes, .ret = ret, .ret_fresh = ret_fresh};

	return once(reader, look_up_topic, &o, read);
}

static enum shmeta_status look_up_topic_by_id(const struct once *a, struct shmeta_reader *r,
                                              const struct shmeta_read *read)
{
	enum shmeta_status status = shmeta_get_topic_by_id(r, a->topic_id, read, a->ret, a->ret_fresh);

	return status != SHMETA_OK ? status : copied(r, a, shmeta_copy_topic(a->ret, a->buffer, a->bytes, NULL));
}

enum shmeta_status shmeta_once_topic_by_id(struct shmeta_reader *reader, uint32_t topic_id,
                                           const struct shmeta_read *read, char *buffer, size_t bytes,
                                           struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh)
{
	const struct once o = {
		.topic_id = topic_id, .buffer = buffer, .bytes = bytes, .ret = ret, .ret_fresh = ret_fresh};

	return once(reader, look_up_topic_by_id, &o, read);
}

static enum shmeta_status look_up_topic_stats(const struct once *a, struct shmeta_reader *r,
                                              const struct shmeta_read *read)
{
	return shmeta_topic_stats(r, a->topic.data, a->topic.bytes, read, a->ret, a->ret_fresh);
}

enum shmeta_status shmeta_once_topic_stats(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                           const struct shmeta_read *read, struct shmeta_topic_stats *ret,
                                           struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.topic = {name, name_bytes}, .ret = ret, .ret_fresh = ret_fresh};

	return once(reader, look_up_topic_stats, &o, read);
}

static enum shmeta_status look_up_partition(const struct once *a, struct shmeta_reader *r,
                                            const struct shmeta_read *read)
{
	return shmeta_get_partition_named(r, a->topic.data, a->topic.bytes, a->partition_id, read, a->ret,
	                                  a->ret_fresh);
}

enum shmeta_status shmeta_once_partition(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                         uint32_t partition_id, const struct shmeta_read *read,
                                         struct shmeta_partition *ret, struct shmeta_freshness *ret_fresh)
{
	const struct once o = {
		.topic = {topic, topic_bytes}, .partition_id = partition_id, .ret = ret, .ret_fresh = ret_fresh};

	return once(reader, look_up_partition, &o, read);
}

/* The strings of a segment that was found. */
static enum shmeta_status spelled(struct shmeta_reader *r, const struct once *a, enum shmeta_status status)
{
	if (status != SHMETA_OK)
		return status;
	return copied(r, a,
	              shmeta_segment_strings_named(r, a->topic.data, a->topic.bytes, a->ret, a->buffer, a->bytes));
}

static enum shmeta_status look_up_segment(const struct once *a, struct shmeta_reader *r, const struct shmeta_read *read)
{
	return spelled(r, a,
	               shmeta_find_segment_named(r, a->topic.data, a->topic.bytes, a->partition_id, a->offset, read,
	                                         a->ret, a->ret_fresh));
}

enum shmeta_status shmeta_once_segment(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                       uint32_t partition_id, uint64_t offset, const struct shmeta_read *read,
                                       char *buffer, size_t bytes, struct shmeta_segment *ret,
                                       struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.topic = {topic, topic_bytes},
	                       .partition_id = partition_id,
	                       .offset = offset,
	                       .buffer = buffer,
	                       .bytes = bytes,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_segment, &o, read);
}

static struct want want_segment(const struct once *a)
{
	return (struct want){.cls = SHMETA_CLASS_SEGMENT,
	                     .topic = a->topic.data,
	                     .topic_bytes = a->topic.bytes,
	                     .partition_id = a->partition_id};
}

static enum shmeta_status look_up_segment_for_timestamp(const struct once *a, struct shmeta_reader *r,
                                                        const struct shmeta_read *read)
{
	const struct want want = want_segment(a);

	if (a->ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	return spelled(r, a, shmeta__other_segment_named(r, &want, &a->time_ms, read, a->ret, a->ret_fresh));
}

enum shmeta_status shmeta_once_segment_for_timestamp(struct shmeta_reader *reader, const char *topic,
                                                     size_t topic_bytes, uint32_t partition_id, int64_t timestamp_ms,
                                                     const struct shmeta_read *read, char *buffer, size_t bytes,
                                                     struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.topic = {topic, topic_bytes},
	                       .partition_id = partition_id,
	                       .time_ms = timestamp_ms,
	                       .buffer = buffer,
	                       .bytes = bytes,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_segment_for_timestamp, &o, read);
}

static enum shmeta_status look_up_last_segment(const struct once *a, struct shmeta_reader *r,
                                               const struct shmeta_read *read)
{
	const struct want want = want_segment(a);

	if (a->ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	return spelled(r, a, shmeta__other_segment_named(r, &want, NULL, read, a->ret, a->ret_fresh));
}

enum shmeta_status shmeta_once_last_segment(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                            uint32_t partition_id, const struct shmeta_read *read, char *buffer,
                                            size_t bytes, struct shmeta_segment *ret,
                                            struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.topic = {topic, topic_bytes},
	                       .partition_id = partition_id,
	                       .buffer = buffer,
	                       .bytes = bytes,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_last_segment, &o, read);
}

static enum shmeta_status look_up_fetch_plan(const struct once *a, struct shmeta_reader *r,
                                             const struct shmeta_read *read)
{
	const struct want want = want_segment(a);

	if (a->fetch == NULL || a->ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	return shmeta__plan_fetch_named(r, &want, a->fetch, read, a->ret, a->ret_fresh);
}

enum shmeta_status shmeta_once_fetch_plan(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                          uint32_t partition_id, const struct shmeta_fetch *fetch,
                                          const struct shmeta_read *read, struct shmeta_fetch_plan *ret,
                                          struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.topic = {topic, topic_bytes},
	                       .partition_id = partition_id,
	                       .fetch = fetch,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_fetch_plan, &o, read);
}

static enum shmeta_status look_up_agent(const struct once *a, struct shmeta_reader *r, const struct shmeta_read *read)
{
	enum shmeta_status status = shmeta_get_agent(r, a->name.data, a->name.bytes, read, a->ret, a->ret_fresh);

	return status != SHMETA_OK ? status : copied(r, a, shmeta_copy_agent(a->ret, a->buffer, a->bytes, NULL));
}

enum shmeta_status shmeta_once_agent(struct shmeta_reader *reader, const char *agent_id, size_t agent_id_bytes,
                                     const struct shmeta_read *read, char *buffer, size_t bytes,
                                     struct shmeta_agent *ret, struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.name = {agent_id, agent_id_bytes},
	                       .buffer = buffer,
	                       .bytes = bytes,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_agent, &o, read);
}

static enum shmeta_status look_up_lease(const struct once *a, struct shmeta_reader *r, const struct shmeta_read *read)
{
	enum shmeta_status status = shmeta_get_lease(r, a->topic.data, a->topic.bytes, a->partition_id, a->time_ms,
	                                             read, a->ret, a->ret_fresh);

	return status != SHMETA_OK ? status : copied(r, a, shmeta_copy_lease(a->ret, a->buffer, a->bytes, NULL));
}

enum shmeta_status shmeta_once_lease(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                     uint32_t partition_id, int64_t now_ms, const struct shmeta_read *read,
                                     char *buffer, size_t bytes, struct shmeta_lease *ret,
                                     struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.topic = {topic, topic_bytes},
	                       .partition_id = partition_id,
	                       .time_ms = now_ms,
	                       .buffer = buffer,
	                       .bytes = bytes,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_lease, &o, read);
}

static enum shmeta_status look_up_offset(const struct once *a, struct shmeta_reader *r, const struct shmeta_read *read)
{
	enum shmeta_status status =
		shmeta_get_committed_offset(r, a->name.data, a->name.bytes, a->topic.data, a->topic.bytes,
	                                    a->partition_id, read, a->ret, a->ret_fresh);

	return status != SHMETA_OK ? status
	                           : copied(r, a, shmeta_copy_committed_offset(a->ret, a->buffer, a->bytes, NULL));
}

enum shmeta_status shmeta_once_committed_offset(struct shmeta_reader *reader, const char *group, size_t group_bytes,
                                                const char *topic, size_t topic_bytes, uint32_t partition_id,
                                                const struct shmeta_read *read, char *buffer, size_t bytes,
                                                struct shmeta_committed_offset *ret, struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.topic = {topic, topic_bytes},
	                       .name = {group, group_bytes},
	                       .partition_id = partition_id,
	                       .buffer = buffer,
	                       .bytes = bytes,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_offset, &o, read);
}

static enum shmeta_status look_up_group(const struct once *a, struct shmeta_reader *r, const struct shmeta_read *read)
{
	enum shmeta_status status = shmeta_get_group(r, a->name.data, a->name.bytes, read, a->ret, a->ret_fresh);

	return status != SHMETA_OK ? status : copied(r, a, shmeta_copy_group(a->ret, a->buffer, a->bytes, NULL));
}

enum shmeta_status shmeta_once_group(struct shmeta_reader *reader, const char *group_id, size_t group_id_bytes,
                                     const struct shmeta_read *read, char *buffer, size_t bytes,
                                     struct shmeta_group *ret, struct shmeta_freshness *ret_fresh)
{
	const struct once o = {.name = {group_id, group_id_bytes},
	                       .buffer = buffer,
	                       .bytes = bytes,
	                       .ret = ret,
	                       .ret_fresh = ret_fresh};

	return once(reader, look_up_group, &o, read);
}
