/* SPDX-License-Identifier: Apache-2.0
 * What the source answered, copied out of its hands. */
#include "writer/keys/fetch_result.h"

#include <stdio.h>

#include "base/row_limits.h"

/* Room for one more element. false: no memory. */
static bool grow_array(void **array, size_t *capacity, size_t count, size_t bytes)
{
	if (count < *capacity)
		return true;
	size_t more = *capacity == 0 ? 64 : *capacity * 2;
	void *bigger = reallocarray(*array, more, bytes);

	if (bigger == NULL)
		return false;
	*array = bigger;
	*capacity = more;
	return true;
}

void fetched_free(struct batch *b)
{
	arena_free(&b->arena);
	free(b->key);
	free(b->fetched);
	free(b->part);
	free(b->row);
	free(b->small);
	free(b->bad);
	quarantine_free(&b->quarantine);
}

static enum shmeta_status batch_fail(struct batch *b, enum shmeta_status status)
{
	b->failed = status;
	return status;
}

static enum shmeta_status fetched_key_begin(void *arg, const struct backend_key *key)
{
	struct batch *b = arg;

	(void)key;
	if (b->in_key || b->at >= b->key_count)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	b->in_key = true;
	b->fetched[b->at].part_at = b->part_count;
	b->fetched[b->at].small_at = b->small_count;
	b->fetched[b->at].bad_at = b->bad_count;
	b->row_mark = b->row_count;
	b->text_mark = b->text_bytes;
	return SHMETA_OK;
}

void fetched_unread(struct batch *b, enum shmeta_status status, const char *sentence)
{
	b->fetched[b->at].failed = status;
	if (b->unread != SHMETA_OK)
		return;
	b->unread = status;
	(void)snprintf(b->unread_sentence, sizeof b->unread_sentence, "%s", sentence);
}

static enum shmeta_status fetched_key_end(void *arg, const struct backend_key *key, enum shmeta_status status,
                                          const char *sentence)
{
	struct batch *b = arg;

	(void)key;
	if (!b->in_key)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	b->in_key = false;
	if (status < 0) {
		b->part_count = b->fetched[b->at].part_at;
		b->small_count = b->fetched[b->at].small_at;
		b->bad_count = b->fetched[b->at].bad_at;
		b->row_count = b->row_mark;
		b->text_bytes = b->text_mark;
		b->fetched[b->at].has_topic = false;
		fetched_unread(b, status, sentence);
	}
	b->fetched[b->at].found = status == SHMETA_OK;
	b->fetched[b->at].part_count = b->part_count - b->fetched[b->at].part_at;
	b->fetched[b->at].small_count = b->small_count - b->fetched[b->at].small_at;
	b->fetched[b->at].bad_count = b->bad_count - b->fetched[b->at].bad_at;
	b->at++;
	return SHMETA_OK;
}

static bool copy_bytes(struct arena *arena, const void *data, size_t bytes, const void **ret)
{
	struct shmeta_str copy;

	if (arena_str(arena, (struct shmeta_str){data, bytes}, &copy) != 0)
		return false;
	*ret = copy.data;
	return true;
}

static enum shmeta_status fetched_topic(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic)
{
	struct batch *b = arg;
	struct fetched_key *g = &b->fetched[b->at];

	(void)tenant;
	if (!b->in_key)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	g->topic = *topic;
	g->has_topic = true;
	if (arena_str(&b->arena, topic->name, &g->topic.name) != 0 ||
	    arena_str(&b->arena, topic->cleanup_policy, &g->topic.cleanup_policy) != 0 ||
	    !copy_bytes(&b->arena, topic->config.data, topic->config.bytes, &g->topic.config.data))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status fetched_partition(void *arg, const struct shmeta_partition *partition)
{
	struct batch *b = arg;

	if (!b->in_key)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	if (!grow_array((void **)&b->part, &b->part_capacity, b->part_count, sizeof *b->part))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	b->part[b->part_count++] = (struct fetched_part){.record = *partition, .row_at = b->row_count};
	return SHMETA_OK;
}

enum shmeta_status fetched_bad(struct batch *b, const struct backend_key *row, const char *sentence)
{
	struct fetched_bad *last = b->bad_count > b->fetched[b->at].bad_at ? &b->bad[b->bad_count - 1] : NULL;
	struct shmeta_str copy;

	if (last != NULL && quarantine_covers(&last->row, row)) {
		last->rows++;
		return SHMETA_OK;
	}
	if (!grow_array((void **)&b->bad, &b->bad_capacity, b->bad_count, sizeof *b->bad) ||
	    arena_str(&b->arena, (struct shmeta_str){sentence, strlen(sentence)}, &copy) != 0)
		return SHMETA_ERR_NO_MEMORY;
	struct fetched_bad *bad = &b->bad[b->bad_count];

	*bad = (struct fetched_bad){.row = *row, .rows = 1, .sentence = copy.data};
	if (arena_str(&b->arena, row->tenant, &bad->row.tenant) != 0 ||
	    arena_str(&b->arena, row->topic, &bad->row.topic) != 0 ||
	    arena_str(&b->arena, row->name, &bad->row.name) != 0)
		return SHMETA_ERR_NO_MEMORY;
	b->bad_count++;
	return SHMETA_OK;
}

/* A segment that the engine let pass and the store cannot take. */
static enum shmeta_status fetched_bad_segment(struct batch *b, const struct shmeta_segment *segment,
                                              const char *sentence)
{
	const struct backend_key *key = &b->key[b->at];
	const struct backend_key row = {.cls = SHMETA_CLASS_SEGMENT,
	                                .tenant = key->tenant,
	                                .topic = key->topic,
	                                .partition_id = b->part[b->part_count - 1].record.partition_id,
	                                .from = segment->base_offset,
	                                .to = SYNC_LAST_OFFSET};

	return fetched_bad(b, &row, sentence) == SHMETA_OK ? SHMETA_OK : batch_fail(b, SHMETA_ERR_NO_MEMORY);
}

static enum shmeta_status fetched_segment(void *arg, const struct shmeta_segment *segment)
{
	struct batch *b = arg;
	char text[512];
	const char *wrong = shmeta__segment_error(segment, text, sizeof text);

	if (!b->in_key || b->part_count == b->fetched[b->at].part_at)
		return batch_fail(b, SHMETA_ERR_PROTOCOL);
	if (wrong != NULL)
		return fetched_bad_segment(b, segment, wrong);
	struct fetched_part *part = &b->part[b->part_count - 1];

	if (part->row_count > 0 && segment->base_offset <= b->row[b->row_count - 1].base_offset) {
		snprintf(text, sizeof text, "segment %llu of partition %u comes after segment %llu",
		         (unsigned long long)segment->base_offset, part->record.partition_id,
		         (unsigned long long)b->row[b->row_count - 1].base_offset);
		return fetched_bad_segment(b, segment, text);
	}
	b->text_bytes += segment->id.bytes + segment->s3_bucket.bytes + segment->s3_key.bytes;
	if (b->row_count >= FETCHED_ROWS_MAX || b->text_bytes > FETCHED_TEXT_MAX)
		return batch_fail(b, SHMETA_ERR_BUFFER);
	if (!grow_array((void **)&b->row, &b->row_capacity, b->row_count, sizeof *b->row))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	struct shmeta_segment *row = &b->row[b->row_count];

	*row = *segment;
	if (arena_str(&b->arena, segment->id, &row->id) != 0 ||
	    arena_str(&b->arena, segment->s3_bucket, &row->s3_bucket) != 0 ||
	    arena_str(&b->arena, segment->s3_key, &row->s3_key) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	b->row_count++;
	part->row_count++;
	return SHMETA_OK;
}

static struct fetched_small *fetched_small(struct batch *b, enum fetched_kind kind, struct shmeta_str tenant,
                                           struct shmeta_str topic)
{
	if (!b->in_key || !grow_array((void **)&b->small, &b->small_capacity, b->small_count, sizeof *b->small))
		return NULL;
	struct fetched_small *small = &b->small[b->small_count];

	memset(small, 0, sizeof *small);
	small->kind = kind;
	if (arena_str(&b->arena, tenant, &small->tenant) != 0 || arena_str(&b->arena, topic, &small->topic) != 0)
		return NULL;
	b->small_count++;
	return small;
}

static enum shmeta_status fetched_agent(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent)
{
	struct batch *b = arg;
	struct fetched_small *small = fetched_small(b, FETCHED_AGENT, tenant, (struct shmeta_str){"", 0});

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->agent = *agent;
	if (arena_str(&b->arena, agent->agent_id, &small->agent.agent_id) != 0 ||
	    arena_str(&b->arena, agent->address, &small->agent.address) != 0 ||
	    arena_str(&b->arena, agent->availability_zone, &small->agent.availability_zone) != 0 ||
	    arena_str(&b->arena, agent->agent_group, &small->agent.agent_group) != 0 ||
	    !copy_bytes(&b->arena, agent->metadata.data, agent->metadata.bytes, &small->agent.metadata.data))
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status fetched_group(void *arg, struct shmeta_str tenant, const struct shmeta_group *group)
{
	struct batch *b = arg;
	struct fetched_small *small = fetched_small(b, FETCHED_GROUP, tenant, (struct shmeta_str){"", 0});

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->group = *group;
	if (arena_str(&b->arena, group->group_id, &small->group.group_id) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status fetched_offset(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                         const struct shmeta_committed_offset *offset)
{
	struct batch *b = arg;
	struct fetched_small *small = fetched_small(b, FETCHED_OFFSET, tenant, topic);

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->offset = *offset;
	if (arena_str(&b->arena, offset->group_id, &small->offset.group_id) != 0 ||
	    arena_str(&b->arena, offset->metadata, &small->offset.metadata) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static enum shmeta_status fetched_lease(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
                                        const struct shmeta_lease *lease)
{
	struct batch *b = arg;
	struct fetched_small *small = fetched_small(b, FETCHED_LEASE, tenant, topic);

	if (small == NULL)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	small->lease = *lease;
	if (arena_str(&b->arena, lease->leader_agent_id, &small->lease.leader_agent_id) != 0)
		return batch_fail(b, SHMETA_ERR_NO_MEMORY);
	return SHMETA_OK;
}

static void fetched_quarantine(void *arg, const struct backend_key *row, const char *sentence)
{
	struct batch *b = arg;

	/* The call goes on; it is looked at when it has ended. */
	if (b->in_key && fetched_bad(b, row, sentence) != SHMETA_OK)
		(void)batch_fail(b, SHMETA_ERR_NO_MEMORY);
}

struct backend_sink fetched_sink(struct batch *b)
{
	return (struct backend_sink){.arg = b,
	                             .topic = fetched_topic,
	                             .partition = fetched_partition,
	                             .segment = fetched_segment,
	                             .agent = fetched_agent,
	                             .group = fetched_group,
	                             .offset = fetched_offset,
	                             .lease = fetched_lease,
	                             .quarantine = fetched_quarantine,
	                             .key_begin = fetched_key_begin,
	                             .key_end = fetched_key_end};
}
