/* SPDX-License-Identifier: Apache-2.0
 * LMDB's B+trees (file layout of 0.9), read by code of ours. LMDB believes the pages it walks: it
 * ends the process, or reads beyond the map, when one contradicts itself, and a page that leads
 * astray looks to it like a key that is not there. Here every number from a page is bounded where
 * it is used, and that a key is absent is proved before it is said.
 *
 * Pure: it takes a map and never reads outside it, whatever is in it and however that changes
 * meanwhile (base/once.h); it allocates nothing and fails only by SHMETA_ERR_CORRUPT. Views point
 * into the map.
 *
 * What is proved. A key lies where it was looked for only if its neighbours, one below and one
 * above it, are next to one another in the tree: both are judged by their own checksums
 * (shm/record/entry.h), which cover their keys, and the pages between which they lie hold all that
 * they held (whole() in tree.c). A key, a separator or a page number that was damaged moves the
 * search away from its place, and is then itself a neighbour, or leads to a page whose keys lie
 * outside its separators. */
#ifndef SHMETA_SHM_TREE_TREE_H
#define SHMETA_SHM_TREE_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "include/shmeta.h"
#include "shm/index/part.h"
#include "shm/record/key.h"

enum { SHMETA_TREE_LEVELS = 32 }; /* LMDB's own limit */

/* One database as one commit shows it. */
struct shmeta__tree {
	uint64_t root;
	uint32_t levels;
	enum shmeta_db db;       /* SHMETA_DB_COUNT: the databases themselves, by name;
                                  * SHMETA_TREE_FREE */
	uint64_t entries, pages; /* as is said, sentinels included */
};
#define SHMETA_TREE_FREE ((enum shmeta_db)(SHMETA_DB_COUNT + 1))

/* A meta page. */
struct shmeta__tree_meta {
	uint64_t txn, last_page, map_bytes;
	struct shmeta__tree databases;
	struct shmeta__tree free; /* transaction -> how many pages it freed (8 bytes), their
                                   * numbers. levels 0: nothing is free */
};

/* The meta page of commit `txn` in the map that begins at base: OK, ABSENT (both speak of others),
 * ERR_CORRUPT, ERR_VERSION (another layout than LMDB 0.9's with pages of SHMETA_PAGE bytes; err,
 * which may be NULL, says which). *ret_newest, which may be NULL: the newest commit that any meta
 * page speaks of. */
enum shmeta_status shmeta__tree_read_meta(const uint8_t *base, uint64_t txn, struct shmeta__tree_meta *ret,
                                          uint64_t *ret_newest, struct shmeta_err *err);

/* The database `db` in that commit. pages->bytes: what the commit has in use. OK, ERR_CORRUPT. */
enum shmeta_status shmeta__tree_open(const struct shmeta__pages *pages, const struct shmeta__tree *databases,
                                     enum shmeta_db db, struct shmeta__tree *ret);

/* OK, ABSENT (proved), ERR_CORRUPT. */
enum shmeta_status shmeta__tree_get(const struct shmeta__pages *pages, const struct shmeta__tree *tree, const void *key,
                                    size_t key_bytes, const void **ret_value, size_t *ret_bytes);

/* A place in a tree. Belongs to one commit. */
struct shmeta__tree_place {
	struct shmeta__tree_level {
		const uint8_t *page;
		uint32_t count, at;
	} level[SHMETA_TREE_LEVELS];
	const uint8_t *key; /* of the entry that was shown last */
	uint32_t key_bytes;
	uint32_t begun; /* 0: nothing was shown */
};

struct shmeta__tree_entry {
	const uint8_t *key;
	size_t key_bytes;
	const void *value;
	size_t bytes;
};

/* The first entry at or behind the key, then the next one, and so on: OK, END (proved),
 * ERR_CORRUPT. Nothing between two entries that were shown was left out. Sentinels are shown. */
enum shmeta_status shmeta__tree_seek(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                     const void *key, size_t key_bytes, struct shmeta__tree_place *ret_place,
                                     struct shmeta__tree_entry *ret);
/* The same from the first entry of all, without its proof. A tree that has no entry: END. */
enum shmeta_status shmeta__tree_first(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                      struct shmeta__tree_place *ret_place, struct shmeta__tree_entry *ret);
enum shmeta_status shmeta__tree_next(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                     struct shmeta__tree_place *place, struct shmeta__tree_entry *ret);

#endif
