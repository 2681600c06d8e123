/* SPDX-License-Identifier: Apache-2.0
 * The checksum of any entry. */
#include "shm/record/entry.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "shm/index/block.h"
#include "shm/record/record.h"

uint64_t shmeta__seal(const void *key, size_t key_bytes, const void *value, size_t bytes)
{
	return XXH3_64bits_withSeed(value, bytes, XXH3_64bits(key, key_bytes));
}

int shmeta__is_sentinel(enum shmeta_db db, const void *key, size_t key_bytes)
{
	static const uint64_t number = SHMETA_SENTINEL_NUMBER;

	switch (db) {
	case SHMETA_DB_TOPICS:
	case SHMETA_DB_PARTS:
	case SHMETA_DB_BLOCKS:
	case SHMETA_DB_LEASES:
		return key_bytes == sizeof number && memcmp(key, &number, sizeof number) == 0;
	default:
		return key_bytes == SHMETA_SENTINEL_BYTES &&
		       memcmp(key, SHMETA_SENTINEL_KEY, SHMETA_SENTINEL_BYTES) == 0;
	}
}

int shmeta__unseal(enum shmeta_db db, const void *key, size_t key_bytes, const void *value, size_t *bytes)
{
	if (!shmeta__is_sealed(db) || shmeta__is_sentinel(db, key, key_bytes))
		return 1;
	if (*bytes < SHMETA_SEAL_BYTES)
		return 0;
	*bytes -= SHMETA_SEAL_BYTES;
	return shmeta__ld64((const uint8_t *)value + *bytes) == shmeta__seal(key, key_bytes, value, *bytes);
}

int shmeta__entry_check(enum shmeta_db db, const void *key, size_t key_bytes, const void *value, size_t bytes)
{
	uint64_t number;

	if (shmeta__is_sentinel(db, key, key_bytes))
		return bytes >= SHMETA_SENTINEL_VALUE_BYTES &&
		       memcmp(value, SHMETA_SENTINEL_VALUE, SHMETA_SENTINEL_VALUE_BYTES) == 0;
	switch (db) {
	case SHMETA_DB_PARTS:
		if (key_bytes != sizeof number || bytes < sizeof(struct shmeta_part_head))
			return 0;
		memcpy(&number, key, sizeof number);
		return shmeta__ld64(value) == shmeta__head_checksum(value, bytes, number);
	case SHMETA_DB_BLOCKS: /* a directory page begins as a block does */
		return key_bytes == sizeof number && bytes == SHMETA_BLOCK_BYTES &&
		       memcmp((const uint8_t *)value + offsetof(struct shmeta_block_head, id), key, key_bytes) == 0 &&
		       shmeta__ld64(value) == shmeta__block_checksum(value);
	case SHMETA_DB_META:
	case SHMETA_DB_TOPICS:
		return shmeta__unseal(db, key, key_bytes, value, &bytes);
	case SHMETA_DB_COUNT:
		return 1;
	case SHMETA_DB_NAMES:
	case SHMETA_DB_AGENTS:
	case SHMETA_DB_GROUPS:
	case SHMETA_DB_OFFSETS:
	case SHMETA_DB_LEASES:
	case SHMETA_DB_QUARANTINE:
		return shmeta__record_check(value, bytes, key, key_bytes);
	}
	return 0;
}
