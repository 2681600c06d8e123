/* SPDX-License-Identifier: Apache-2.0
 * The file layout of LMDB 0.9 on little-endian machines with 64-bit words. Private to tree*.c.
 *
 *   page:      number (8) | pad (2) | flags (2) | lower (2) | upper (2) | offsets of the nodes, 2
 *              bytes each, in order of their keys | a gap
 *              from lower to upper | the nodes, without gaps between them, to the page's end
 *   node:      lo (2) | hi (2) | flags (2) | bytes of the key (2) | key | value
 *              of a leaf: lo and hi are the value's size; flags say whether it is there, or on
 *              pages of its own whose number is there of a branch: lo, hi and flags are the number
 *              of the page below, which has the keys from this node's key on to that of the next
 *              one; the first node's key counts as lower than any
 *   own pages: number (8) | pad (2) | flags (2) | how many pages (4) | the value */
#ifndef SHMETA_SHM_TREE_TREE_LAYOUT_H
#define SHMETA_SHM_TREE_TREE_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/tree/tree.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(void *) == 8,
               "LMDB's file layout is that of the machine");

enum { PAGE_HEADER = 16, NODE_HEADER = 8, VALUE_NUMBER = 8, TREE_KEY_MAX = 511 };
enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OWN = 0x04, PAGE_META = 0x08 };
enum { NODE_OWN_PAGES = 0x01, NODE_DATABASE = 0x02 };

struct page_header {
	uint64_t number;
	uint16_t pad, flags;
	union {
		struct {
			uint16_t lower, upper;
		};
		uint32_t pages;
	};
};
_Static_assert(sizeof(struct page_header) == PAGE_HEADER, "LMDB's page header");

struct node_header {
	uint16_t lo, hi, flags, key_bytes;
};
_Static_assert(sizeof(struct node_header) == NODE_HEADER, "LMDB's node header");

/* What LMDB keeps of a database. */
struct database {
	uint32_t page_bytes; /* of the first of a meta page; otherwise unused */
	uint16_t flags, levels;
	uint64_t branch_pages, leaf_pages, own_pages, entries, root;
};
_Static_assert(sizeof(struct database) == 48, "LMDB's MDB_db");

struct meta {
	struct page_header page;
	uint32_t magic, version;
	uint64_t address, map_bytes;
	struct database free, databases;
	uint64_t last_page, txn;
};
_Static_assert(sizeof(struct meta) == 152, "LMDB's meta page");

/* OK, ERR_CORRUPT, ERR_VERSION, as shmeta__tree_read_meta() has them: of one page, copied. err may
 * be NULL. */
enum shmeta_status shmeta__tree_judge_meta(const struct meta *meta, uint64_t number, struct shmeta_err *err);

/* false: it cannot be. */
static inline bool tree_of_database(const struct database *database, enum shmeta_db db, struct shmeta__tree *ret)
{
	ret->root = database->root;
	ret->levels = database->levels;
	ret->db = db;
	ret->entries = database->entries;
	ret->pages = database->branch_pages + database->leaf_pages + database->own_pages;
	return database->levels >= 1 && database->levels <= SHMETA_TREE_LEVELS;
}

#endif
