/* SPDX-License-Identifier: Apache-2.0
 * Committed offsets by topic: eight bytes each, a group's number and a partition. */
#include "writer/apply/offset_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "shm/record/key.h"
#include "shm/record/record.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOTS_FIRST = 256, ADDED_LEAST = 4096, PLACE_BYTES = 8 };

struct offset_index_topic {
	uint32_t topic_id; /* 0: the slot is free */
	uint32_t capacity;
	size_t count;
	uint64_t *place; /* group number << 32 | partition */
};

struct offset_index_group {
	size_t bytes; /* of a key, up to the topic's number */
	uint8_t key[];
};

void offset_index_free(struct offset_index *index)
{
	for (size_t i = 0; i < index->topic_slots; i++)
		free(index->topic[i].place);
	for (size_t i = 0; i < index->groups; i++)
		free(index->group[i]);
	free(index->topic);
	free(index->group);
	free(index->group_slot);
	memset(index, 0, sizeof *index);
}

static struct offset_index_topic *topic_slot(struct offset_index_topic *topic, size_t slots, uint32_t topic_id)
{
	size_t i = (size_t)(topic_id * 0x9E3779B97F4A7C15u >> 20) & (slots - 1);

	while (topic[i].topic_id != 0 && topic[i].topic_id != topic_id)
		i = (i + 1) & (slots - 1);
	return &topic[i];
}

static struct offset_index_topic *topic_of(struct offset_index *index, uint32_t topic_id)
{
	if (2 * index->topics >= index->topic_slots) {
		size_t slots = index->topic_slots == 0 ? SLOTS_FIRST : 2 * index->topic_slots;
		struct offset_index_topic *bigger = calloc(slots, sizeof *bigger), *topic;

		if (bigger == NULL)
			return NULL;
		for (size_t i = 0; i < index->topic_slots; i++)
			if (index->topic[i].topic_id != 0)
				*topic_slot(bigger, slots, index->topic[i].topic_id) = index->topic[i];
		free(index->topic);
		index->topic = bigger;
		index->topic_slots = slots;
		topic = topic_slot(index->topic, slots, topic_id);
		if (topic->topic_id != 0)
			return topic;
	}
	struct offset_index_topic *topic = topic_slot(index->topic, index->topic_slots, topic_id);

	index->topics += topic->topic_id == 0;
	topic->topic_id = topic_id;
	return topic;
}

static uint32_t *group_slot(struct offset_index *index, const void *key, size_t bytes)
{
	size_t i = (size_t)XXH3_64bits_withSeed(key, bytes, shmeta__secret()) & (index->group_slots - 1);

	for (; index->group_slot[i] != 0; i = (i + 1) & (index->group_slots - 1)) {
		const struct offset_index_group *group = index->group[index->group_slot[i] - 1];

		if (group->bytes == bytes && memcmp(group->key, key, bytes) == 0)
			break;
	}
	return &index->group_slot[i];
}

static bool more_group_slots(struct offset_index *index)
{
	size_t slots = index->group_slots == 0 ? SLOTS_FIRST : 2 * index->group_slots;
	uint32_t *bigger = calloc(slots, sizeof *bigger);

	if (bigger == NULL)
		return false;
	free(index->group_slot);
	index->group_slot = bigger;
	index->group_slots = slots;
	for (size_t i = 0; i < index->groups; i++)
		*group_slot(index, index->group[i]->key, index->group[i]->bytes) = (uint32_t)i + 1;
	return true;
}

/* 1 + its number; 0: no memory. */
static uint32_t group_of(struct offset_index *index, const void *key, size_t bytes)
{
	if (2 * index->groups >= index->group_slots && !more_group_slots(index))
		return 0;
	uint32_t *slot = group_slot(index, key, bytes);

	if (*slot != 0)
		return *slot;
	if (index->groups == index->group_capacity) {
		size_t capacity = index->group_capacity == 0 ? SLOTS_FIRST : 2 * index->group_capacity;
		struct offset_index_group **bigger =
			capacity < UINT32_MAX ? reallocarray(index->group, capacity, sizeof(*bigger)) : NULL;

		if (bigger == NULL)
			return 0;
		index->group = bigger;
		index->group_capacity = capacity;
	}
	struct offset_index_group *group = malloc(sizeof *group + bytes);

	if (group == NULL)
		return 0;
	group->bytes = bytes;
	memcpy(group->key, key, bytes);
	index->group[index->groups] = group;
	return *slot = (uint32_t)++index->groups;
}

static bool add(struct offset_index *index, const uint8_t *key, size_t key_bytes)
{
	const uint8_t *place = key + key_bytes - PLACE_BYTES;
	uint32_t group = group_of(index, key, key_bytes - PLACE_BYTES);
	struct offset_index_topic *topic = group != 0 ? topic_of(index, shmeta__get_be32(place)) : NULL;

	if (topic == NULL)
		return false;
	if (topic->count == topic->capacity) {
		uint32_t capacity = topic->capacity == 0 ? 4 : 2 * topic->capacity;
		uint64_t *bigger = reallocarray(topic->place, capacity, sizeof *bigger);

		if (bigger == NULL)
			return false;
		topic->place = bigger;
		topic->capacity = capacity;
	}
	topic->place[topic->count++] = (uint64_t)(group - 1) << 32 | shmeta__get_be32(place + 4);
	return true;
}

void offset_index_add(struct offset_index *index, uint64_t store, const void *key, size_t key_bytes)
{
	if (index->store != store || index->store == 0 || key_bytes <= PLACE_BYTES)
		return;
	/* What came and went again and again is walked once rather than kept for ever. */
	if (++index->added > 2 * index->walked + ADDED_LEAST || !add(index, key, key_bytes))
		offset_index_free(index);
}

enum shmeta_status offset_index_ready(struct offset_index *index, uint64_t store, struct shmeta__txn *txn,
                                      struct shmeta_err *err)
{
	struct shmeta__cursor *cursor;
	enum shmeta_status status;

	if (index->store == store && store != 0)
		return SHMETA_OK;
	offset_index_free(index);
	status = shmeta__cursor_open(txn, SHMETA_DB_OFFSETS, NULL, 0, &cursor, err);
	if (status != SHMETA_OK)
		return status;
	for (;;) {
		const void *key, *value;
		size_t key_bytes, bytes;

		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status != SHMETA_OK)
			break;
		if (key_bytes > PLACE_BYTES && !add(index, key, key_bytes)) {
			status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the offsets of topics");
			break;
		}
		index->walked++;
	}
	shmeta__cursor_close(cursor);
	if (status != SHMETA_END) {
		offset_index_free(index);
		return status;
	}
	index->store = store;
	return SHMETA_OK;
}

enum shmeta_status offset_index_take(struct offset_index *index, uint32_t topic_id, uint32_t partition_id,
                                     enum shmeta_status (*each)(void *arg, const void *key, size_t key_bytes),
                                     void *arg)
{
	uint8_t key[SHMETA_KEY_MAX];
	struct offset_index_topic *topic =
		index->topic_slots > 0 ? topic_slot(index->topic, index->topic_slots, topic_id) : NULL;
	enum shmeta_status status = SHMETA_OK;
	size_t kept = 0;

	if (topic == NULL || topic->topic_id == 0)
		return SHMETA_OK;
	for (size_t i = 0; i < topic->count; i++) {
		uint64_t place = topic->place[i];
		const struct offset_index_group *group = index->group[place >> 32];

		if (status != SHMETA_OK || (partition_id != UINT32_MAX && (uint32_t)place != partition_id)) {
			topic->place[kept++] = place;
			continue;
		}
		memcpy(key, group->key, group->bytes);
		shmeta__put_be32(key + group->bytes, topic_id);
		shmeta__put_be32(key + group->bytes + 4, (uint32_t)place);
		status = each(arg, key, group->bytes + PLACE_BYTES);
	}
	topic->count = kept;
	return status;
}
