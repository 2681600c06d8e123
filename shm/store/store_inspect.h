/* SPDX-License-Identifier: Apache-2.0
 * A generation as a tool looks at it, its writer alive, dead or unknown: by code of ours
 * (shm/tree/tree.h), which believes nothing, never by LMDB, which a damaged page ends. Nothing is
 * written, locked or registered. One commit is looked at, the newest when it was opened; the caller
 * keeps the rules of grace, and is ended by SIGBUS when somebody makes the file shorter meanwhile.
 *
 * Errors, with a sentence: ERR_NOT_RUNNING (no such directory or file), ERR_CORRUPT, ERR_VERSION,
 * ERR_PERMISSION, ERR_NO_MEMORY, ERR_SYSTEM. */
#ifndef SHMETA_SHM_STORE_STORE_INSPECT_H
#define SHMETA_SHM_STORE_STORE_INSPECT_H

#include "shm/store/store.h"
#include "shm/tree/tree.h"

struct shmeta__inspected {
	uint64_t number;    /* of the generation; 0: a copy of data.mdb without its page */
	uint64_t max_bytes; /* of that page; of LMDB's map for such a copy */
	uint64_t committed; /* as the page had it; 0 for such a copy */
	uint64_t txn;       /* the commit that is looked at */
	struct shmeta_store_format format;
	struct shmeta_store_counters counters;
	/* The rest belongs to store_inspect.c and store_verify.c. */
	struct shmeta__pages pages; /* of the commit */
	struct shmeta__tree tree[SHMETA_DB_COUNT], free;
	const uint8_t *map;
	uint64_t map_bytes;
};

/* path: the generation's directory. Its page may be missing, data.mdb not. *ret is to be closed,
 * and left as it was after an error. */
enum shmeta_status shmeta__inspect_open(const char *path, struct shmeta__inspected **ret, struct shmeta_err *err);
void shmeta__inspect_close(struct shmeta__inspected *of); /* accepts NULL */

/* OK, ABSENT (proved), ERR_CORRUPT. The view lives until the close. err may be NULL. */
enum shmeta_status shmeta__inspect_get(const struct shmeta__inspected *of, enum shmeta_db db, const void *key,
                                       size_t key_bytes, const void **ret_value, size_t *ret_bytes,
                                       struct shmeta_err *err);

/* The first entry at or behind the key (NULL: of all), then the next one, and so on; sentinels are
 * not shown. OK, END, ERR_CORRUPT. */
struct shmeta__inspect_walk {
	const struct shmeta__inspected *of;
	enum shmeta_db db;
	struct shmeta__tree_place place;
};
enum shmeta_status shmeta__inspect_first(struct shmeta__inspect_walk *walk, const struct shmeta__inspected *of,
                                         enum shmeta_db db, const void *key, size_t key_bytes,
                                         struct shmeta__tree_entry *ret, struct shmeta_err *err);
enum shmeta_status shmeta__inspect_next(struct shmeta__inspect_walk *walk, struct shmeta__tree_entry *ret,
                                        struct shmeta_err *err);

/* What it says that it holds; the list of free pages is walked. No proxies. */
enum shmeta_status shmeta__inspect_usage(const struct shmeta__inspected *of, struct shmeta__store_usage *ret,
                                         struct shmeta_err *err);

/* Verify the whole store as that commit shows it: every record's checksum and bounds, every
 * reference both ways (names <-> topics,
 * parts -> topics, blocks <-> parts, locators), counters. Each problem is reported; returns OK when
 * there was none, ERR_CORRUPT
 * when there was one, other errors when it could not look. */
struct shmeta__verify_report {
	uint64_t topics, partitions, segments, blocks, agents, groups, offsets, leases, quarantined, problems;
	uint64_t incomplete; /* 1 << class: the store says that it lacks some of it */
};
enum shmeta_status shmeta__store_verify(const struct shmeta__inspected *of,
                                        void (*problem)(void *arg, const char *sentence), void *arg,
                                        struct shmeta__verify_report *ret, struct shmeta_err *err);

#endif
