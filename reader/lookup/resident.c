/* SPDX-License-Identifier: Apache-2.0
 * Records that are not resident. A bounded store says of which classes it lacks some: there a
 * record that is not found may exist, unless the store says that the source was asked for it. */
#include "reader/lookup/lookup.h"

static enum shmeta_status asked_for(struct shmeta_reader *r, uint32_t tenant, const struct missing *m,
                                    uint32_t partition_id)
{
	uint8_t key[SHMETA_ABSENT_KEY_MAX];
	size_t bytes, n = shmeta__absent_key(key, tenant, m->name, m->name_bytes, partition_id);
	const void *value;

	return shmeta__snapshot_get(r, SHMETA_DB_META, key, n, &value, &bytes);
}

/* It is left for the writer to load, unless the lookup is to leave no trace. */
static void leave_key(struct shmeta_reader *r, const struct missing *m)
{
	const struct shmeta_str topic = {m->name, m->name_bytes},
				tenant = {r->instance->tenant, r->instance->tenant_bytes};

	if (r->touch.misses != NULL)
		shmeta__miss_leave(r->touch.misses, topic, tenant,
		                   m->cls == SHMETA_CLASS_TOPIC ? SHMETA_MISS_TOPIC : m->partition_id);
}

enum shmeta_status shmeta__lacking(struct shmeta_reader *r, const struct missing *m, enum shmeta_status absent)
{
	enum shmeta_status status = shmeta__missing(r, m, absent);
	uint32_t tenant;

	if (!is_absent(status) || (r->incomplete >> m->cls & 1) == 0)
		return status;
	if (m->cls > SHMETA_CLASS_SEGMENT)
		return SHMETA_UNKNOWN;
	status = shmeta__snapshot_tenant(r, &tenant);
	if (status == SHMETA_OK)
		status = asked_for(r, tenant, m, UINT32_MAX);
	if (status == SHMETA_ABSENT && m->cls != SHMETA_CLASS_TOPIC)
		status = asked_for(r, tenant, m, m->partition_id);
	if (status != SHMETA_ABSENT)
		return status == SHMETA_OK ? absent : status;
	leave_key(r, m);
	return SHMETA_UNKNOWN;
}

/* May the list lack some that the source has? */
static enum shmeta_status iter_lacks(const struct shmeta_iter *iter, int *ret)
{
	static const enum shmeta_class classes[] = {
		[ITER_TOPICS] = SHMETA_CLASS_TOPIC,     [ITER_PARTITIONS] = SHMETA_CLASS_PARTITION,
		[ITER_SEGMENTS] = SHMETA_CLASS_SEGMENT, [ITER_AGENTS] = SHMETA_CLASS_AGENT,
		[ITER_GROUPS] = SHMETA_CLASS_AGENT,     [ITER_LEASES] = SHMETA_CLASS_LEASE,
		[ITER_OFFSETS] = SHMETA_CLASS_OFFSET};
	struct shmeta_part_window window;
	enum shmeta_status status;

	/* Groups are here whether their offsets are or not. A range of segments is of a partition
	 * that is here. */
	status = shmeta__incomplete(iter->reader, classes[iter->kind], ret);
	if (status == SHMETA_OK && iter->kind == ITER_SEGMENTS)
		*ret = iter->part.head != NULL && shmeta__part_window(&iter->part, &window) &&
		       iter->cursor.from <= window.max_end;
	return status;
}

enum shmeta_status shmeta_iter_complete(const struct shmeta_iter *iter)
{
	enum shmeta_status status;
	int lacks;

	if (iter == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	status = shmeta__iter_ready(iter, iter->kind);
	if (status != SHMETA_OK || iter->never)
		return status;
	status = iter_lacks(iter, &lacks);
	if (status == SHMETA_OK)
		status = lacks ? SHMETA_UNKNOWN : shmeta__iter_quarantined(iter);
	return snapshot_holds(iter->reader) ? status : SHMETA_ERR_EXPIRED;
}
