/* SPDX-License-Identifier: Apache-2.0
 * Reading and checking string maps. They may lie in a page of the store, so their lengths are read
 * once. */
#include "base/string_map.h"

#include <stdlib.h>
#include <string.h>

#include "base/once.h"

/* Cut `bytes` off the front of what is left; 0 when there are not so many. */
static int take(const char **at, size_t *left, size_t bytes, const char **ret)
{
	if (bytes > *left)
		return 0;
	*ret = *at;
	*at += bytes;
	*left -= bytes;
	return 1;
}

enum shmeta_status shmeta_map_next(const struct shmeta_map *map, size_t *cursor, struct shmeta_str *ret_key,
                                   struct shmeta_str *ret_value)
{
	const char *at, *sizes, *key, *value;
	uint32_t key_bytes, value_bytes;
	size_t left;

	if (map == NULL || cursor == NULL || ret_key == NULL || ret_value == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (*cursor == map->bytes)
		return SHMETA_END;
	if (*cursor > map->bytes)
		return SHMETA_ERR_INVALID_ARGUMENT;
	at = (const char *)map->data + *cursor;
	left = map->bytes - *cursor;
	if (!take(&at, &left, 8, &sizes))
		return SHMETA_ERR_CORRUPT;
	shmeta__copy_once(&key_bytes, sizes, 4);
	shmeta__copy_once(&value_bytes, sizes + 4, 4);
	if (!take(&at, &left, key_bytes, &key) || !take(&at, &left, value_bytes, &value))
		return SHMETA_ERR_CORRUPT;
	*ret_key = (struct shmeta_str){key, key_bytes};
	*ret_value = (struct shmeta_str){value, value_bytes};
	*cursor = map->bytes - left;
	return SHMETA_OK;
}

enum shmeta_status shmeta_map_get(const struct shmeta_map *map, const char *key, struct shmeta_str *ret_value)
{
	struct shmeta_str k, v;
	enum shmeta_status status;
	size_t cursor = 0, bytes;

	if (map == NULL || key == NULL || ret_value == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	bytes = strlen(key);
	while ((status = shmeta_map_next(map, &cursor, &k, &v)) == SHMETA_OK) {
		if (k.bytes == bytes && memcmp(k.data, key, bytes) == 0) {
			*ret_value = v;
			return SHMETA_OK;
		}
	}
	return status == SHMETA_END ? SHMETA_ABSENT : status;
}

static int by_key(const void *a, const void *b)
{
	const struct shmeta_str *x = &((const struct shmeta_pair *)a)->key, *y = &((const struct shmeta_pair *)b)->key;
	size_t least = x->bytes < y->bytes ? x->bytes : y->bytes;
	int order = least == 0 ? 0 : memcmp(x->data, y->data, least);

	return order != 0 ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static char *put(char *at, const void *data, size_t bytes)
{
	if (bytes != 0)
		memcpy(at, data, bytes);
	return at + bytes;
}

static char *put_pair(char *at, const struct shmeta_pair *pair)
{
	uint32_t key_bytes = (uint32_t)pair->key.bytes, value_bytes = (uint32_t)pair->value.bytes;

	at = put(at, &key_bytes, 4);
	at = put(at, &value_bytes, 4);
	at = put(at, pair->key.data, pair->key.bytes);
	return put(at, pair->value.data, pair->value.bytes);
}

enum shmeta_status shmeta_map_pack(struct shmeta_pair *pairs, size_t count, char *buffer, size_t bytes,
                                   struct shmeta_map *ret, size_t *ret_bytes)
{
	size_t need = 0;
	char *at = buffer;

	if ((pairs == NULL && count != 0) || (buffer == NULL && bytes != 0) || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	for (size_t i = 0; i < count; i++) {
		const struct shmeta_pair *p = &pairs[i];

		if ((p->key.data == NULL && p->key.bytes != 0) || (p->value.data == NULL && p->value.bytes != 0) ||
		    p->key.bytes > SHMETA_MAP_MAX || p->value.bytes > SHMETA_MAP_MAX)
			return SHMETA_ERR_INVALID_ARGUMENT;
		need += 8 + p->key.bytes + p->value.bytes;
		if (need > SHMETA_MAP_MAX)
			return SHMETA_ERR_INVALID_ARGUMENT;
	}
	if (count > 1)
		qsort(pairs, count, sizeof *pairs, by_key);
	for (size_t i = 1; i < count; i++)
		if (by_key(&pairs[i - 1], &pairs[i]) == 0)
			return SHMETA_ERR_INVALID_ARGUMENT;
	if (ret_bytes != NULL)
		*ret_bytes = need;
	if (need > bytes)
		return SHMETA_ERR_BUFFER;
	for (size_t i = 0; i < count; i++)
		at = put_pair(at, &pairs[i]);
	*ret = (struct shmeta_map){buffer, need};
	return SHMETA_OK;
}

const char *shmeta__map_error(const struct shmeta_map *map)
{
	const uint8_t *p = map->data, *last = NULL;
	size_t left = map->bytes;
	uint32_t last_bytes = 0;

	if (left > SHMETA_MAP_MAX)
		return "is too long";
	while (left > 0) {
		uint32_t key_bytes, value_bytes;
		int order;

		if (left < 8)
			return "is cut off";
		shmeta__copy_once(&key_bytes, p, 4);
		shmeta__copy_once(&value_bytes, p + 4, 4);
		p += 8;
		left -= 8;
		if (key_bytes > left || value_bytes > left - key_bytes)
			return "is cut off";
		if (last != NULL) {
			order = memcmp(last, p, last_bytes < key_bytes ? last_bytes : key_bytes);
			if (order > 0 || (order == 0 && last_bytes > key_bytes))
				return "has keys out of order";
			if (order == 0 && last_bytes == key_bytes)
				return "has a key twice";
		}
		last = p;
		last_bytes = key_bytes;
		p += key_bytes + value_bytes;
		left -= key_bytes + value_bytes;
	}
	return NULL;
}
