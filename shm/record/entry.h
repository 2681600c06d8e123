/* SPDX-License-Identifier: Apache-2.0
 * Is an entry of a database the one that the writer put there? Checksums cover the key as well as
 * the value. */
#ifndef SHMETA_SHM_RECORD_ENTRY_H
#define SHMETA_SHM_RECORD_ENTRY_H

#include <stddef.h>
#include <stdint.h>

#include "shm/record/key.h"

/* What the writer puts before everything else of a database. */
int shmeta__is_sentinel(enum shmeta_db db, const void *key, size_t key_bytes);

/* Values without a checksum of their own have one behind them: their seal. Not those of
 * sentinels. */
enum { SHMETA_SEAL_BYTES = 8 };
static inline int shmeta__is_sealed(enum shmeta_db db)
{
	return db == SHMETA_DB_META || db == SHMETA_DB_TOPICS;
}
/* The seal of a value: XXH3 of it, seeded with XXH3 of its key. */
uint64_t shmeta__seal(const void *key, size_t key_bytes, const void *value, size_t bytes);
/* Of a value that may be sealed: *bytes without its seal. 0: the seal is wrong. */
int shmeta__unseal(enum shmeta_db db, const void *key, size_t key_bytes, const void *value, size_t *bytes);

/* 1: the checksum of the entry's value is right for its key. Pure; safe for any bytes. */
int shmeta__entry_check(enum shmeta_db db, const void *key, size_t key_bytes, const void *value, size_t bytes);

#endif
