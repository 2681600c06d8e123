/* SPDX-License-Identifier: Apache-2.0
 * Records that keep a time of their own (alone.h). */
#include "writer/apply/alone.h"

#include <stdlib.h>
#include <string.h>

#include "shm/index/part.h"
#include "writer/apply/apply_private.h"

static uint64_t class_ns(const struct shmeta_generation *gen, enum shmeta_class cls)
{
	return shmeta_peek(&gen->stamp[cls].synced_at_ns);
}

/* A time that counts alone already does not move. */
static uint64_t alone_since(uint64_t record_ns, uint64_t class_synced_ns)
{
	return (record_ns > class_synced_ns ? record_ns : class_synced_ns) | SHMETA_SYNCED_ALONE;
}

static enum shmeta_status damaged(struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "a stored record of a key that cannot be read is damaged");
}

static enum shmeta_status mark_record(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes,
                                      enum shmeta_class cls, uint64_t class_synced_ns, struct shmeta_err *err)
{
	struct shmeta_record_head head;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(a->txn, db, key, key_bytes, &value, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (bytes < sizeof head || bytes > sizeof a->value)
		return damaged(err);
	memcpy(&head, value, sizeof head);
	if ((head.synced_at_ns & SHMETA_SYNCED_ALONE) != 0)
		return SHMETA_OK;
	memcpy(a->value, value, bytes);
	if (!shmeta__record_restamp(a->value, bytes, key, key_bytes, alone_since(head.synced_at_ns, class_synced_ns)))
		return damaged(err);
	return apply_restamp(a, db, key, key_bytes, a->value, bytes, cls, err);
}

static enum shmeta_status mark_partition(struct apply *a, struct shmeta_str topic, uint32_t topic_id,
                                         uint32_t partition_id, const struct shmeta_generation *gen,
                                         struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id), partitions = class_ns(gen, SHMETA_CLASS_PARTITION),
		 segments = class_ns(gen, SHMETA_CLASS_SEGMENT), synced_at_ns;
	struct shmeta_part_head head;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_PARTS, &key, sizeof key, &value, &bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (bytes < sizeof head)
		return damaged(err);
	memcpy(&head, value, sizeof head);
	if ((head.synced_at_ns & SHMETA_SYNCED_ALONE) != 0)
		return SHMETA_OK;
	synced_at_ns = alone_since(head.synced_at_ns, partitions < segments ? partitions : segments);
	return apply_restamp_partition(a, key, topic, value, bytes, synced_at_ns, head.ttl_ms, err);
}

static enum shmeta_status mark_topic(struct apply *a, const struct backend_key *key, uint32_t tenant, uint32_t topic_id,
                                     const struct shmeta_generation *gen, struct shmeta_err *err)
{
	uint8_t name[SHMETA_KEY_MAX];
	size_t bytes = shmeta__name_key(name, tenant, key->topic.data, key->topic.bytes), count = 0, capacity = 0;
	uint32_t *ids = NULL;
	enum shmeta_status status = mark_record(a, SHMETA_DB_NAMES, name, bytes, SHMETA_CLASS_TOPIC,
	                                        class_ns(gen, SHMETA_CLASS_TOPIC), err);

	if (status == SHMETA_OK && key->with_segments)
		status = apply_partition_ids(a->txn, topic_id, &ids, &count, &capacity, err);
	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		status = mark_partition(a, key->topic, topic_id, ids[i], gen, err);
	free(ids);
	return status;
}

enum shmeta_status alone_partition(struct shmeta__txn *txn, uint32_t topic_id, uint32_t partition_id, bool *ret,
                                   struct shmeta_err *err)
{
	uint64_t key = shmeta__part_key(topic_id, partition_id);
	struct shmeta_part_head head;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(txn, SHMETA_DB_PARTS, &key, sizeof key, &value, &bytes, err);

	*ret = false;
	if (status == SHMETA_OK && bytes >= sizeof head) {
		memcpy(&head, value, sizeof head);
		*ret = (head.synced_at_ns & SHMETA_SYNCED_ALONE) != 0;
	}
	return status;
}

enum shmeta_status alone_mark(struct apply *a, const struct backend_key *key, const struct shmeta_generation *gen,
                              struct shmeta_err *err)
{
	uint8_t text[SHMETA_KEY_MAX];
	uint32_t tenant, topic_id = 0;
	size_t bytes;
	enum shmeta_status status;

	if (key->cls > SHMETA_CLASS_SEGMENT &&
	    (backend_key_is_class(key) || (key->cls == SHMETA_CLASS_OFFSET && key->topic.bytes == 0)))
		return SHMETA_ERR_UNSUPPORTED;
	status = shmeta__tenant(a->txn, key->tenant.data, key->tenant.bytes, 0, &tenant, err);
	if (status == SHMETA_OK && key->cls != SHMETA_CLASS_AGENT) {
		struct shmeta_topic record;

		status = apply_topic_get(a->txn, key->tenant, key->topic, &record, NULL, err);
		topic_id = status == SHMETA_OK ? record.topic_id : 0;
	}
	if (status != SHMETA_OK)
		return status;
	uint64_t place = shmeta__part_key(topic_id, key->partition_id), synced_ns = class_ns(gen, key->cls);

	switch (key->cls) {
	case SHMETA_CLASS_TOPIC:
		return mark_topic(a, key, tenant, topic_id, gen, err);
	case SHMETA_CLASS_PARTITION:
		return mark_partition(a, key->topic, topic_id, key->partition_id, gen, err);
	case SHMETA_CLASS_AGENT:
		bytes = shmeta__name_key(text, tenant, key->name.data, key->name.bytes);
		return mark_record(a, SHMETA_DB_AGENTS, text, bytes, key->cls, synced_ns, err);
	case SHMETA_CLASS_LEASE:
		return mark_record(a, SHMETA_DB_LEASES, &place, sizeof place, key->cls, synced_ns, err);
	case SHMETA_CLASS_OFFSET:
		bytes = shmeta__offset_key(text, tenant, key->name.data, key->name.bytes, topic_id, key->partition_id);
		return mark_record(a, SHMETA_DB_OFFSETS, text, bytes, key->cls, synced_ns, err);
	default:
		return SHMETA_ERR_UNSUPPORTED;
	}
}
