/* SPDX-License-Identifier: Apache-2.0
 * Names of topics. Each reader remembers names that it has looked up: which topic they mean, and
 * where its record lies. The first holds as long as the name's touched word does not move (PAIR 2),
 * the second in the one commit it was found in. */
#include "reader/lookup/lookup.h"

#include <stdlib.h>

enum { NAMES_FIRST = 64, NAMES_LAST = 2048 };

/* Grow the cache after as many misses as it has entries; its contents are looked up again. */
static void names_grow(struct shmeta_reader *r)
{
	uint32_t have = r->names == NULL ? 0 : r->name_mask + 1, want = have == 0 ? NAMES_FIRST : have * 2;
	struct name_entry *names;

	r->name_misses = 0;
	if (want > NAMES_LAST || !shmeta__cache_grant(r->core, want * (uint32_t)sizeof *names))
		return;
	names = calloc(want, sizeof *names);
	if (names == NULL) {
		shmeta__cache_return(r->core, want * (uint32_t)sizeof *names);
		return;
	}
	if (have != 0)
		shmeta__cache_return(r->core, have * (uint32_t)sizeof *names);
	free(r->names);
	r->names = names;
	r->name_mask = want - 1;
}

static void names_add(struct shmeta_reader *r, uint64_t hash, const char *name, size_t bytes,
                      const struct found_topic *found)
{
	struct name_entry *e;
	uint32_t way = 0;

	if (bytes > sizeof e->name || !snapshot_holds(r))
		return;
	if (r->names == NULL || ++r->name_misses > r->name_mask)
		names_grow(r);
	if (r->names == NULL)
		return;
	do
		e = &r->names[(hash & r->name_mask) ^ way];
	while (e->name_bytes != 0 && !names_equal(e, hash, name, bytes) && ++way < NAME_WAYS);
	if (way == NAME_WAYS) /* in turn */
		e = &r->names[(hash & r->name_mask) ^ (r->name_misses & (NAME_WAYS - 1))];
	*e = (struct name_entry){.hash = hash,
	                         .known = r->snapshot,
	                         .record_txn = r->snapshot,
	                         .topic = found->topic,
	                         .stamps = found->stamps,
	                         .name_bytes = (uint32_t)bytes};
	memcpy(e->name, name, bytes);
}

enum shmeta_status shmeta__names_load(struct shmeta_reader *r, uint32_t tenant, const char *name, size_t bytes,
                                      uint64_t hash, struct found_topic *ret)
{
	uint8_t key[SHMETA_KEY_MAX];
	size_t key_bytes = shmeta__name_key(key, tenant, name, bytes), record_bytes;
	enum shmeta_status status;
	const void *record;

	status = shmeta__snapshot_get(r, SHMETA_DB_NAMES, key, key_bytes, &record, &record_bytes);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__topic_decode(record, record_bytes, key, key_bytes, 1, &ret->topic, &ret->stamps);
	if (status == SHMETA_OK)
		names_add(r, hash, name, bytes, ret);
	return status;
}

enum shmeta_status shmeta__topic_resolve(struct shmeta_reader *r, const char *name, size_t bytes, uint32_t *ret_id)
{
	struct name_entry *e;
	struct found_topic found;
	uint32_t tenant;
	uint64_t hash;
	enum shmeta_status status = shmeta__snapshot_tenant(r, &tenant);

	if (unlikely(status != SHMETA_OK))
		return status;
	hash = shmeta__name_hash(tenant, name, bytes);
	e = names_find(r, hash, name, bytes);
	if (likely(e != NULL)) {
		*ret_id = e->topic.topic_id;
		return SHMETA_OK;
	}
	status = shmeta__names_load(r, tenant, name, bytes, hash, &found);
	if (status == SHMETA_OK)
		*ret_id = found.topic.topic_id;
	return status;
}

enum shmeta_status shmeta__topic_record(struct shmeta_reader *r, const char *name, size_t bytes,
                                        struct shmeta_topic *ret)
{
	struct found_topic found;
	enum shmeta_status status = find_topic(r, name, bytes, &found);

	if (status == SHMETA_OK)
		*ret = found.topic;
	return status;
}

enum shmeta_status shmeta__topic_alone(struct shmeta_reader *r, const char *name, size_t bytes,
                                       uint64_t *ret_synced_at_ns)
{
	struct found_topic found;
	enum shmeta_status status = find_topic(r, name, bytes, &found);

	*ret_synced_at_ns = 0;
	if (status == SHMETA_OK && (found.stamps.synced_at_ns & SHMETA_SYNCED_ALONE) != 0)
		*ret_synced_at_ns = found.stamps.synced_at_ns;
	return status;
}

enum shmeta_status shmeta__topic_name(struct shmeta_reader *r, uint32_t topic_id, uint32_t *ret_tenant,
                                      struct shmeta_str *ret_name)
{
	uint64_t key = topic_id;
	enum shmeta_status status;
	const void *value;
	size_t bytes;

	if (key == SHMETA_SENTINEL_NUMBER)
		return SHMETA_ABSENT;
	status = shmeta__snapshot_get(r, SHMETA_DB_TOPICS, &key, sizeof key, &value, &bytes);
	if (status != SHMETA_OK)
		return status;
	if (bytes < 5 || bytes > 4 + SHMETA_NAME_MAX)
		return SHMETA_ERR_CORRUPT;
	*ret_tenant = shmeta__get_be32(value);
	*ret_name = (struct shmeta_str){(const char *)value + 4, bytes - 4};
	return SHMETA_OK;
}

void shmeta__name_fetch(const struct shmeta_reader *r, const struct shmeta_str *name)
{
	const struct name_entry *e;

	if (r->names == NULL || r->tenant == 0 || name->data == NULL || name->bytes - 1 >= SHMETA_NAME_MAX)
		return;
	e = &r->names[shmeta__name_hash(r->tenant, name->data, name->bytes) & r->name_mask];
	__builtin_prefetch(e);
	__builtin_prefetch(e->name);
	__builtin_prefetch(e->name + 64);
}

void shmeta__names_forget(struct shmeta_reader *r)
{
	if (r->names != NULL)
		shmeta__cache_return(r->core, (r->name_mask + 1) * (uint32_t)sizeof *r->names);
	free(r->names);
	r->names = NULL;
}
