/* SPDX-License-Identifier: Apache-2.0
 * The only place where the applier changes a record of the store. Whatever is to hear of each
 * change hooks in here. */
#include "writer/apply/apply_private.h"

/* Readers look again at what the record is about. */
static void touch(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes, enum shmeta_class cls)
{
	const uint8_t *name = key;
	uint64_t place;

	switch (db) {
	case SHMETA_DB_TOPICS: /* its name, which changes with it, is what readers look at */
		return;
	case SHMETA_DB_NAMES:
		if (!a->fresh)
			shmeta__touch(a->txn, shmeta__touched_name(shmeta__name_hash(
						      shmeta__get_be32(name), (const char *)name + 4, key_bytes - 4)));
		break;
	case SHMETA_DB_PARTS:
		memcpy(&place, key, sizeof place);
		if (!a->fresh)
			shmeta__touch(a->txn, shmeta__touched_partition((uint32_t)(place >> 32), (uint32_t)place));
		shmeta__touch_class(a->txn, SHMETA_CLASS_SEGMENT);
		break;
	default:
		break;
	}
	shmeta__touch_class(a->txn, cls);
}

static enum shmeta_status put(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes, const void *value,
                              size_t bytes, enum shmeta_class cls, struct shmeta_err *err)
{
	enum shmeta_status status = shmeta__put(a->txn, db, key, key_bytes, value, bytes, err);

	if (status != SHMETA_OK)
		return status;
	touch(a, db, key, key_bytes, cls);
	if (a->host.watch != NULL && (db == SHMETA_DB_NAMES || db == SHMETA_DB_PARTS))
		a->host.watch->changed(a->host.arg, a, db, key, value, bytes);
	return SHMETA_OK;
}

enum shmeta_status apply_put(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes, const void *value,
                             size_t bytes, enum shmeta_class cls, struct shmeta_err *err)
{
	enum shmeta_status status = put(a, db, key, key_bytes, value, bytes, cls, err);

	if (status == SHMETA_OK && !a->fresh)
		changed_keys_note(&a->keys, a->txn, db, key, key_bytes, false);
	return status;
}

enum shmeta_status apply_restamp(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes,
                                 const void *value, size_t bytes, enum shmeta_class cls, struct shmeta_err *err)
{
	return put(a, db, key, key_bytes, value, bytes, cls, err);
}

enum shmeta_status apply_restamp_partition(struct apply *a, uint64_t key, struct shmeta_str topic, const void *head,
                                           size_t bytes, uint64_t synced_at_ns, uint32_t ttl_ms, struct shmeta_err *err)
{
	struct shmeta__part_edit *edit;
	enum shmeta_status status =
		shmeta__part_edit_new(key, topic.data, topic.bytes, head, bytes, &a->pager, &edit, err);

	if (status != SHMETA_OK)
		return status;
	shmeta__part_edit_stamp(edit, synced_at_ns, ttl_ms);
	status = shmeta__part_edit_encode(edit, &head, &bytes, err);
	if (status == SHMETA_OK)
		status = apply_restamp(a, SHMETA_DB_PARTS, &key, sizeof key, head, bytes, SHMETA_CLASS_PARTITION, err);
	shmeta__part_edit_free(edit);
	return status;
}

enum shmeta_status apply_delete(struct apply *a, enum shmeta_db db, const void *key, size_t key_bytes,
                                enum shmeta_class cls, struct shmeta_err *err)
{
	enum shmeta_status status;

	if (db == SHMETA_DB_TOPICS && !a->fresh)
		changed_keys_topic(&a->keys, a->txn, key);
	status = shmeta__delete(a->txn, db, key, key_bytes, err);
	if (status != SHMETA_OK)
		return status;
	if (!a->fresh)
		changed_keys_note(&a->keys, a->txn, db, key, key_bytes, true);
	touch(a, db, key, key_bytes, cls);
	if (a->host.watch != NULL && (db == SHMETA_DB_TOPICS || db == SHMETA_DB_PARTS))
		a->host.watch->changed(a->host.arg, a, db, key, NULL, 0);
	return SHMETA_OK;
}
