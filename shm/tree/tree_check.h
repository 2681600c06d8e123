/* SPDX-License-Identifier: Apache-2.0
 * A whole data.mdb judged before LMDB sees it: LMDB believes the pages it walks, and a page that
 * contradicts itself, or another one, ends the process, overwrites memory or is believed. What
 * passes here is what LMDB itself writes:
 *   both meta pages; every tree of the newest commit, LMDB's list of free pages included: page
 *   numbers, flags, levels, nodes that fill their page without gap or overlap, keys in order and
 *   between the separators above them, as many entries and pages as is said; no page twice: in one
 *   tree, in two, in a run of pages of its own, or in a tree and on the free list; every record's
 *   checksum (shm/record/entry.h).
 * It does not compare records with one another; shmeta__store_verify() does. */
#ifndef SHMETA_SHM_TREE_TREE_CHECK_H
#define SHMETA_SHM_TREE_TREE_CHECK_H

#include "shm/tree/tree.h"

struct shmeta__tree_checked {
	uint64_t txn, last_page;           /* of the newest commit */
	uint64_t used_pages, free_pages;   /* in trees, on the free list */
	uint64_t entries[SHMETA_DB_COUNT]; /* sentinels included */
};

/* Pure but for the bitmap it allocates, a bit a page. Reads every page that is in use, once, and
 * nothing outside file_bytes, whatever is in it; the file must not change meanwhile. OK;
 * ERR_CORRUPT with a sentence that says which page, and what is wrong with it; ERR_VERSION: another
 * layout of LMDB; ERR_NO_MEMORY. */
enum shmeta_status shmeta__tree_check(const uint8_t *base, uint64_t file_bytes, struct shmeta__tree_checked *ret,
                                      struct shmeta_err *err);

#endif
