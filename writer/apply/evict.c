/* SPDX-License-Identifier: Apache-2.0
 * Records that leave a store which holds only some of what the source has. The source still has
 * them, so they do not count as changed or removed, and the store says in the same commit that it
 * lacks some of their class. */
#include "writer/apply/apply_private.h"

#include <assert.h>

enum {
	LACKS_PARTITIONS = 1 << SHMETA_CLASS_PARTITION | 1 << SHMETA_CLASS_SEGMENT,
	LACKS_TOPICS = LACKS_PARTITIONS | 1 << SHMETA_CLASS_TOPIC | 1 << SHMETA_CLASS_OFFSET | 1 << SHMETA_CLASS_LEASE
};

/* What a transaction did for the source. */
struct tally {
	uint64_t changed, removed, hung;
};

static struct tally tally_of(const struct apply *a)
{
	return (struct tally){a->changed, a->removed, a->hung};
}

static void restore(struct apply *a, const struct tally *t)
{
	a->changed = t->changed;
	a->removed = t->removed;
	a->hung = t->hung;
}

void apply_lacks(struct apply *a, uint64_t classes)
{
	shmeta__store_counters(a->store)->incomplete |= classes;
}

/* The name behind the number, in a->name. */
static enum shmeta_status find_name(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	uint64_t id = topic_id;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__get(a->txn, SHMETA_DB_TOPICS, &id, sizeof id, &value, &bytes, err);

	assert(!a->in_topic && a->edit == NULL);
	if (status != SHMETA_OK)
		return status;
	if (bytes < 5 || bytes > 4 + SHMETA_NAME_MAX)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "the stored name of topic number %u is damaged", topic_id);
	memcpy(a->name_text, (const char *)value + 4, bytes - 4);
	a->name_text[bytes - 4] = '\0';
	a->name = (struct shmeta_str){a->name_text, bytes - 4};
	return SHMETA_OK;
}

enum shmeta_status apply_evict_partition(struct apply *a, uint32_t topic_id, uint32_t partition_id,
                                         struct shmeta_err *err)
{
	const struct tally before = tally_of(a);
	enum shmeta_status status = find_name(a, topic_id, err);

	if (status == SHMETA_OK)
		status = apply_drop_segments(a, topic_id, partition_id, a->name.data, a->name.bytes, err);
	if (status == SHMETA_OK)
		apply_lacks(a, LACKS_PARTITIONS);
	restore(a, &before);
	return status;
}

enum shmeta_status apply_evict_partitions_of(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	const struct tally before = tally_of(a);
	enum shmeta_status status = find_name(a, topic_id, err);

	if (status == SHMETA_OK)
		status = apply_list_partitions(a, topic_id, err);
	for (size_t i = 0; i < a->old_count && status == SHMETA_OK; i++)
		status = apply_drop_segments(a, topic_id, a->old_ids[i], a->name.data, a->name.bytes, err);
	a->old_count = 0;
	if (status == SHMETA_OK)
		apply_lacks(a, LACKS_PARTITIONS);
	restore(a, &before);
	return status;
}

enum shmeta_status apply_evict_topic(struct apply *a, uint32_t topic_id, struct shmeta_err *err)
{
	const struct tally before = tally_of(a);
	enum shmeta_status status;

	/* first: leases of partitions that are not resident go, too */
	apply_lacks(a, LACKS_TOPICS);
	status = apply_topic_delete_id(a, topic_id, err);
	restore(a, &before);
	return status;
}
