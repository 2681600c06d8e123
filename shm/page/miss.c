/* SPDX-License-Identifier: Apache-2.0
 * Both sides of misses (miss.h). */
#include "shm/page/miss.h"

#include <string.h>

#include "base/once.h"

static uint32_t place_of(struct shmeta_str topic, uint32_t partition_id)
{
	uint32_t hash = partition_id;

	for (size_t i = 0; i < topic.bytes; i++)
		hash = hash * 31 + (uint8_t)topic.data[i];
	return (hash ^ hash >> 16) % SHMETA_MISSES;
}

void shmeta__miss_leave(struct shmeta_miss *misses, struct shmeta_str topic, struct shmeta_str tenant,
                        uint32_t partition_id)
{
	struct shmeta_miss *miss = &misses[place_of(topic, partition_id)];
	uint32_t state = SHMETA_MISS_FREE;

	if (shmeta_peek(&miss->state) != SHMETA_MISS_FREE ||
	    !shmeta_replace(&miss->state, &state, (uint32_t)SHMETA_MISS_BEING_LEFT))
		return;
	miss->partition_id = partition_id;
	miss->name_bytes = (uint32_t)topic.bytes;
	miss->tenant_bytes = (uint32_t)tenant.bytes;
	memcpy(miss->text, topic.data, topic.bytes);
	memcpy(miss->text + topic.bytes, tenant.data, tenant.bytes);
	shmeta_publish(&miss->state, (uint32_t)SHMETA_MISS_LEFT); /* PAIR 10: a key before its state */
}

size_t shmeta__miss_take(struct shmeta_miss *misses, struct shmeta_miss *ret)
{
	size_t count = 0;

	for (int i = 0; i < SHMETA_MISSES; i++) {
		uint32_t state = shmeta_observe(&misses[i].state); /* PAIR 10: a key before its state */

		if (state == SHMETA_MISS_FREE || state == SHMETA_MISS_BEING_LEFT)
			continue;
		shmeta__copy_once(&ret[count], &misses[i], sizeof ret[count]);
		shmeta_publish(&misses[i].state, (uint32_t)SHMETA_MISS_FREE); /* PAIR 10: a key before its state */
		count += state == SHMETA_MISS_LEFT && ret[count].name_bytes <= SHMETA_NAME_MAX &&
		         ret[count].tenant_bytes <= SHMETA_TENANT_MAX;
	}
	return count;
}
