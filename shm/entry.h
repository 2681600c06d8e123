/* SPDX-License-Identifier: Apache-2.0
 * Is an entry of a database the one that the writer put there? Checksums cover the key as well as the value. */
#ifndef SHMETA_SHM_ENTRY_H
#define SHMETA_SHM_ENTRY_H

#include <stddef.h>

#include "shm/key.h"

/* 1: the checksum of the entry's value is right for its key. Pure; safe for any bytes. */
int shmeta__entry_check(enum shmeta_db db, const void *key, size_t key_bytes, const void *value, size_t bytes);

#endif
