/* SPDX-License-Identifier: Apache-2.0
 * Quarantined rows: rows of the source that cannot be served. A lookup looks at them only before it
 * answers that something is absent. */
#include "reader/lookup/lookup.h"

#include <string.h>

#include "shm/store/store.h"

/* The number of quarantined rows in this snapshot, remembered for it, as is which classes are
 * incomplete. */
static enum shmeta_status count(struct shmeta_reader *r, uint64_t *ret)
{
	struct shmeta_store_counters counters;
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__snapshot_get(r, SHMETA_DB_META, SHMETA_META_COUNTERS,
	                                                 sizeof SHMETA_META_COUNTERS - 1, &value, &bytes);

	if (status != SHMETA_OK || bytes != sizeof counters)
		return status < 0 ? status : SHMETA_ERR_CORRUPT;
	memcpy(&counters, value, sizeof counters);
	*ret = counters.quarantined;
	if (!snapshot_holds(r))
		return SHMETA_ERR_EXPIRED;
	r->quarantined = counters.quarantined;
	r->incomplete = counters.incomplete;
	r->quarantined_txn = r->snapshot;
	return SHMETA_OK;
}

/* OK: rows of the class are counted but not listed, so any of them may be the wanted one; ABSENT:
 * all are listed. */
static enum shmeta_status unlisted(struct shmeta_reader *r, enum shmeta_class cls)
{
	uint64_t numbers[8];
	const void *value;
	size_t bytes;
	enum shmeta_status status = shmeta__snapshot_get(r, SHMETA_DB_META, SHMETA_META_UNLISTED,
	                                                 sizeof SHMETA_META_UNLISTED - 1, &value, &bytes);

	if (status != SHMETA_OK)
		return status;
	if (bytes != sizeof numbers)
		return SHMETA_ERR_CORRUPT;
	memcpy(numbers, value, sizeof numbers);
	return numbers[cls] > 0 ? SHMETA_OK : SHMETA_ABSENT;
}

static int may_hold(const struct shmeta__quarantined *row, const struct span *span)
{
	if ((row->unread & SHMETA_UNREAD_BASE) != 0)
		return 1;
	if (row->base > span->last)
		return 0;
	return span->begins ? row->base >= span->first : row->end >= span->first || row->end < row->base;
}

/* OK: there is a quarantined row whose key has the prefix and which, where span is not NULL, may
 * hold some of it; otherwise ABSENT. */
static enum shmeta_status look(struct shmeta_reader *r, const uint8_t *prefix, size_t prefix_bytes,
                               const struct span *span)
{
	struct shmeta__quarantined row;
	enum shmeta_status status;
	const uint8_t *key;
	const void *value;
	struct walk walk;
	size_t key_bytes, bytes;

	shmeta__walk_open(SHMETA_DB_QUARANTINE, &walk);
	for (const uint8_t *from = prefix;; from = NULL) {
		status = shmeta__walk_next(r, &walk, from, prefix_bytes, &key, &key_bytes, &value, &bytes);
		if (status != SHMETA_OK)
			break;
		if (key_bytes < prefix_bytes || memcmp(key, prefix, prefix_bytes) != 0) {
			status = shmeta__walk_ends(&walk, key, key_bytes, value, bytes);
			break;
		}
		if (span == NULL)
			break;
		status = shmeta__quarantined_decode(value, bytes, key, key_bytes, 1, &row, NULL);
		if (status != SHMETA_OK || may_hold(&row, span))
			break;
		/* In order of base; rows whose base cannot be read come last. */
	}
	return status == SHMETA_END ? SHMETA_ABSENT : status;
}

/* Rows of a name (NULL: of any); of one partition where partition_id is not NULL. */
static enum shmeta_status look_named(struct shmeta_reader *r, enum shmeta_class cls, const char *name, size_t bytes,
                                     const uint32_t *partition_id, uint64_t topic, const struct span *span)
{
	uint8_t key[SHMETA_QUARANTINE_KEY_MAX];
	enum shmeta_status status;
	uint32_t tenant;
	size_t n;

	status = unlisted(r, cls);
	if (status == SHMETA_ABSENT)
		status = shmeta__snapshot_tenant(r, &tenant); /* ABSENT: no row has it */
	else
		return status;
	if (status != SHMETA_OK)
		return status;
	n = shmeta__quarantine_prefix(key, cls, tenant, name, bytes);
	if (name == NULL)
		n = 5; /* class and tenant */
	if (partition_id != NULL) {
		shmeta__put_be64(key + n, topic);
		shmeta__put_be32(key + n + 8, *partition_id);
		n += 12;
	}
	return look(r, key, n, span);
}

/* Look for the row itself, and for the topic or partition without which it cannot be served. */
static enum shmeta_status look_for(struct shmeta_reader *r, const struct missing *m)
{
	uint64_t topic = m->cls == SHMETA_CLASS_OFFSET && m->topic_bytes > 0
	                         ? shmeta__name_hash(0, m->topic, m->topic_bytes)
	                         : 0;
	enum shmeta_status status;

	if (m->cls > SHMETA_CLASS_SEGMENT)
		return look_named(r, m->cls, m->name, m->name_bytes,
		                  m->cls == SHMETA_CLASS_AGENT ? NULL : &m->partition_id, topic, NULL);
	status = look_named(r, SHMETA_CLASS_TOPIC, m->name, m->name_bytes, NULL, 0, NULL);
	if (status == SHMETA_ABSENT && m->cls != SHMETA_CLASS_TOPIC)
		status = look_named(r, SHMETA_CLASS_PARTITION, m->name, m->name_bytes, &m->partition_id, 0, NULL);
	if (status == SHMETA_ABSENT && m->cls == SHMETA_CLASS_SEGMENT)
		status = look_named(r, SHMETA_CLASS_SEGMENT, m->name, m->name_bytes, &m->partition_id, 0, m->span);
	return status;
}

enum shmeta_status shmeta__missing(struct shmeta_reader *r, const struct missing *m, enum shmeta_status absent)
{
	uint64_t rows = r->quarantined;
	enum shmeta_status status = r->quarantined_txn == r->snapshot ? SHMETA_OK : count(r, &rows);

	if (status == SHMETA_OK && rows > 0)
		status = look_for(r, m);
	else if (status == SHMETA_OK)
		status = SHMETA_ABSENT;
	return status == SHMETA_ABSENT ? absent : status == SHMETA_OK ? SHMETA_UNKNOWN : status;
}

enum shmeta_status shmeta__incomplete(struct shmeta_reader *r, enum shmeta_class cls, int *ret)
{
	uint64_t rows;
	enum shmeta_status status = r->quarantined_txn == r->snapshot ? SHMETA_OK : count(r, &rows);

	*ret = status == SHMETA_OK && (r->incomplete >> cls & 1) != 0;
	return status;
}

/* The key prefix of quarantined rows that may be missing from the list. */
static enum shmeta_status list_prefix(const struct shmeta_iter *iter, uint8_t *key, size_t *ret_bytes)
{
	static const enum shmeta_class classes[] = {
		[ITER_TOPICS] = SHMETA_CLASS_TOPIC,     [ITER_PARTITIONS] = SHMETA_CLASS_PARTITION,
		[ITER_SEGMENTS] = SHMETA_CLASS_SEGMENT, [ITER_AGENTS] = SHMETA_CLASS_AGENT,
		[ITER_GROUPS] = SHMETA_CLASS_OFFSET,    [ITER_OFFSETS] = SHMETA_CLASS_OFFSET,
		[ITER_LEASES] = SHMETA_CLASS_LEASE};
	enum shmeta_class cls = classes[iter->kind];
	struct shmeta_str topic;
	uint32_t tenant;
	enum shmeta_status status;

	key[0] = (uint8_t)(cls + 1);
	shmeta__put_be32(key + 1, iter->tenant);
	*ret_bytes = 5;
	if (iter->kind == ITER_LEASES && iter->filter[0].text != NULL)
		*ret_bytes =
			shmeta__quarantine_prefix(key, cls, iter->tenant, iter->filter[0].text, iter->filter[0].bytes);
	if (iter->kind == ITER_OFFSETS) { /* of one group */
		memcpy(key + 5, iter->prefix + 4, iter->prefix_bytes - 4);
		*ret_bytes += iter->prefix_bytes - 4;
	}
	if (iter->kind != ITER_PARTITIONS && iter->kind != ITER_SEGMENTS)
		return SHMETA_OK;
	status = shmeta__topic_name(iter->reader, iter->topic_id, &tenant, &topic);
	if (status != SHMETA_OK)
		return status < 0 ? status : SHMETA_ERR_CORRUPT;
	*ret_bytes = shmeta__quarantine_prefix(key, cls, tenant, topic.data, topic.bytes);
	if (iter->kind == ITER_SEGMENTS) {
		shmeta__put_be64(key + *ret_bytes, 0);
		shmeta__put_be32(key + *ret_bytes + 8, iter->partition_id);
		*ret_bytes += 12;
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta__iter_quarantined(const struct shmeta_iter *iter)
{
	uint8_t key[SHMETA_QUARANTINE_KEY_MAX];
	struct shmeta_reader *r = iter->reader;
	enum shmeta_status status = SHMETA_OK;
	uint64_t rows = r->quarantined;
	size_t bytes;

	if (r->quarantined_txn != r->snapshot)
		status = count(r, &rows);
	if (status == SHMETA_OK && rows > 0) {
		status = list_prefix(iter, key, &bytes);
		if (status == SHMETA_OK)
			status = unlisted(r, (enum shmeta_class)(key[0] - 1));
		if (status == SHMETA_ABSENT)
			status = look(r, key, bytes, NULL);
		status = status == SHMETA_OK ? SHMETA_UNKNOWN : status == SHMETA_ABSENT ? SHMETA_OK : status;
	}
	return status;
}
