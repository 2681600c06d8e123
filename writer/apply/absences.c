/* SPDX-License-Identifier: Apache-2.0
 * Records of META that say what the source did not have when it was asked: where a store lacks
 * records they are what makes a key absent instead of unknown. */
#include "writer/apply/apply_private.h"

/* Every topic and partition asked for may be of a tenant of its own, and tenants are never
 * forgotten. */
enum { TENANTS_MAX = 65536 };

/* OK, or ABSENT where there can be no record. */
static enum shmeta_status absence_key(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str topic,
                                      uint32_t partition_id, bool create, uint8_t *ret, size_t *ret_bytes,
                                      struct shmeta_err *err)
{
	uint32_t number;

	if (apply_tenant_error(tenant) != NULL || topic.bytes == 0 || topic.bytes > SHMETA_NAME_MAX)
		return SHMETA_ABSENT;
	enum shmeta_status status = shmeta__tenant(txn, tenant.data, tenant.bytes, create, &number, err);

	if (status == SHMETA_OK)
		*ret_bytes = shmeta__absent_key(ret, number, topic.data, topic.bytes, partition_id);
	return status;
}

enum shmeta_status apply_absence_get(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str topic,
                                     uint32_t partition_id, struct shmeta_err *err)
{
	uint8_t key[SHMETA_ABSENT_KEY_MAX];
	const void *value;
	size_t bytes, length;
	enum shmeta_status status = absence_key(txn, tenant, topic, partition_id, false, key, &bytes, err);

	return status == SHMETA_OK ? shmeta__get(txn, SHMETA_DB_META, key, bytes, &value, &length, err) : status;
}

enum shmeta_status apply_absence_note(struct apply *a, struct shmeta_str tenant, struct shmeta_str topic,
                                      uint32_t partition_id, uint64_t read_at_ns, uint8_t *ret_key, size_t *ret_bytes,
                                      struct shmeta_err *err)
{
	bool create = shmeta__store_counters(a->store)->next_tenant < TENANTS_MAX;
	const void *value;
	size_t length;
	enum shmeta_status status = absence_key(a->txn, tenant, topic, partition_id, create, ret_key, ret_bytes, err);

	if (status == SHMETA_OK)
		status = shmeta__get(a->txn, SHMETA_DB_META, ret_key, *ret_bytes, &value, &length, err);
	else if (status == SHMETA_ABSENT)
		status = SHMETA_OK;
	if (status == SHMETA_OK)
		*ret_bytes = 0;
	if (status != SHMETA_ABSENT)
		return status;
	return shmeta__put(a->txn, SHMETA_DB_META, ret_key, *ret_bytes, &read_at_ns, sizeof read_at_ns, err);
}

enum shmeta_status apply_absence_drop(struct apply *a, const void *key, size_t bytes, struct shmeta_err *err)
{
	enum shmeta_status status = shmeta__delete(a->txn, SHMETA_DB_META, key, bytes, err);

	return status == SHMETA_ABSENT ? SHMETA_OK : status;
}

/* The first key that begins with the prefix. OK or ABSENT. ret: SHMETA_ABSENT_KEY_MAX bytes. */
static enum shmeta_status first_of(struct shmeta__txn *txn, const uint8_t *prefix, size_t prefix_bytes, uint8_t *ret,
                                   size_t *ret_bytes, struct shmeta_err *err)
{
	const void *key, *value;
	struct shmeta__cursor *cursor;
	size_t bytes, length;
	enum shmeta_status status = shmeta__cursor_open(txn, SHMETA_DB_META, prefix, prefix_bytes, &cursor, err);

	if (status != SHMETA_OK)
		return status;
	status = shmeta__cursor_next(cursor, &key, &bytes, &value, &length, err);
	if (status == SHMETA_OK &&
	    (bytes < prefix_bytes || bytes > SHMETA_ABSENT_KEY_MAX || memcmp(key, prefix, prefix_bytes) != 0))
		status = SHMETA_ABSENT;
	if (status == SHMETA_OK) {
		memcpy(ret, key, bytes);
		*ret_bytes = bytes;
	}
	shmeta__cursor_close(cursor);
	return status == SHMETA_END ? SHMETA_ABSENT : status;
}

static enum shmeta_status prefix_of(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str topic,
                                    uint8_t *ret, size_t *ret_bytes, struct shmeta_err *err)
{
	enum shmeta_status status = absence_key(txn, tenant, topic, APPLY_ABSENT_TOPIC, false, ret, ret_bytes, err);

	*ret_bytes -= status == SHMETA_OK ? sizeof(uint32_t) : 0;
	return status;
}

enum shmeta_status apply_absence_any(struct shmeta__txn *txn, struct shmeta_str tenant, struct shmeta_str topic,
                                     struct shmeta_err *err)
{
	uint8_t prefix[SHMETA_ABSENT_KEY_MAX], found[SHMETA_ABSENT_KEY_MAX];
	size_t prefix_bytes = 0, bytes;
	enum shmeta_status status = prefix_of(txn, tenant, topic, prefix, &prefix_bytes, err);

	return status == SHMETA_OK ? first_of(txn, prefix, prefix_bytes, found, &bytes, err) : status;
}

enum shmeta_status apply_absences_forget(struct apply *a, const struct shmeta_str *tenant, struct shmeta_str topic,
                                         struct shmeta_err *err)
{
	uint8_t prefix[SHMETA_ABSENT_KEY_MAX], found[SHMETA_ABSENT_KEY_MAX];
	size_t prefix_bytes = strlen(SHMETA_META_ABSENT), bytes;
	enum shmeta_status status = SHMETA_OK;

	memcpy(prefix, SHMETA_META_ABSENT, prefix_bytes);
	if (tenant != NULL)
		status = prefix_of(a->txn, *tenant, topic, prefix, &prefix_bytes, err);
	while (status == SHMETA_OK) {
		status = first_of(a->txn, prefix, prefix_bytes, found, &bytes, err);
		if (status == SHMETA_OK)
			status = apply_absence_drop(a, found, bytes, err);
	}
	return status == SHMETA_ABSENT ? SHMETA_OK : status;
}
