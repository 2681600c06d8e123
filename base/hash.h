/* SPDX-License-Identifier: Apache-2.0
 * FNV-1a, for fingerprints that are kept and compared later: its values do not change. Chained: the
 * last result is the next call's hash. (Tables in memory and checksums use XXH3, where the bytes
 * are many.) */
#ifndef SHMETA_BASE_HASH_H
#define SHMETA_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_FIRST UINT64_C(0xcbf29ce484222325)

static inline uint64_t hash_byte(uint64_t hash, uint8_t byte)
{
	return (hash ^ byte) * UINT64_C(0x100000001b3);
}

static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < bytes; i++)
		hash = hash_byte(hash, p[i]);
	return hash;
}

#endif
