/* SPDX-License-Identifier: Apache-2.0
 * Times to live of records that stay as they are. */
#include <stdlib.h>

#include "writer/apply/apply_private.h"

static enum shmeta_status damaged(struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "a stored record that is to have another time to live is damaged");
}

static enum shmeta_status retime_topic(struct apply *a, const uint8_t *key, size_t key_bytes, uint32_t ttl_ms,
                                       struct shmeta_err *err)
{
	struct shmeta__stamps stamps;
	struct shmeta_topic topic;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_NAMES, key, key_bytes, &value, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (shmeta__topic_decode(value, bytes, key, key_bytes, 1, &topic, &stamps) != SHMETA_OK)
		return damaged(err);
	if (stamps.ttl_ms == ttl_ms)
		return SHMETA_OK;
	stamps.ttl_ms = ttl_ms;
	bytes = shmeta__topic_encode(&topic, &stamps, key, key_bytes, a->value, sizeof a->value);
	if (bytes == 0)
		return damaged(err);
	a->changed++;
	return apply_restamp(a, SHMETA_DB_NAMES, key, key_bytes, a->value, bytes, SHMETA_CLASS_TOPIC, err);
}

static enum shmeta_status retime_partition(struct apply *a, struct shmeta_str topic, uint32_t topic_id,
                                           uint32_t partition_id, uint32_t ttl_ms, struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	struct shmeta_part_head head;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_PARTS, &key, sizeof key, &value, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (bytes < sizeof head)
		return damaged(err);
	memcpy(&head, value, sizeof head);
	ttl_ms = apply_partition_ttl(a, ttl_ms, head.ttl_ms, APPLY_LEARNED_NOTHING);
	if (head.ttl_ms == ttl_ms)
		return SHMETA_OK;
	a->changed++;
	return apply_restamp_partition(a, key, topic, value, bytes, head.synced_at_ns, ttl_ms, err);
}

enum shmeta_status apply_topic_ttl(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	uint64_t id = topic_id;
	uint8_t key[SHMETA_KEY_MAX];
	const void *value;
	size_t key_bytes, count = 0, capacity = 0;
	uint32_t *ids = NULL, ttl_ms;
	struct shmeta_str name;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_TOPICS, &id, sizeof id, &value, &key_bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (key_bytes < 5 || key_bytes > sizeof key)
		return damaged(err);
	memcpy(key, value, key_bytes);
	name = (struct shmeta_str){(const char *)key + 4, key_bytes - 4};
	ttl_ms = a->host.ttl_ms(a->host.arg, name);
	status = retime_topic(a, key, key_bytes, ttl_ms, err);
	if (status == SHMETA_OK)
		status = apply_partition_ids(a->txn, topic_id, &ids, &count, &capacity, err);
	for (size_t i = 0; i < count && status == SHMETA_OK; i++)
		status = retime_partition(a, name, topic_id, ids[i], ttl_ms, err);
	free(ids);
	return status;
}
