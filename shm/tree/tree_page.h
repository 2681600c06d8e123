/* SPDX-License-Identifier: Apache-2.0
 * Pages, nodes and keys of LMDB's trees, each number bounded where it is used. Private to
 * tree*.c. */
#ifndef SHMETA_SHM_TREE_TREE_PAGE_H
#define SHMETA_SHM_TREE_TREE_PAGE_H

#include <string.h>

#include "base/once.h"
#include "shm/page/board.h"
#include "shm/tree/tree_layout.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static const bool db_integer[SHMETA_DB_COUNT + 2] = {
#define X(name, text, integer, what) [SHMETA_DB_##name] = integer,
	SHMETA_DB_LIST(X)
#undef X
		[SHMETA_TREE_FREE] = true,
};
static const char *const db_name[SHMETA_DB_COUNT] = {
#define X(name, text, integer, what) [SHMETA_DB_##name] = text,
	SHMETA_DB_LIST(X)
#undef X
};

static inline uint32_t offset_of(const uint8_t *page, uint32_t i)
{
	uint16_t v;

	memcpy(&v, page + PAGE_HEADER + 2 * (size_t)i, sizeof v);
	return shmeta__once32(v);
}

/* ---- pages and nodes ---- */

/* NULL: no run of so many pages begins there. */
static inline const uint8_t *page_at(const struct shmeta__pages *pages, uint64_t number, uint64_t count)
{
	uint64_t have = pages->bytes / SHMETA_PAGE;

	return number < have && count <= have - number ? pages->base + number * SHMETA_PAGE : NULL;
}

/* false: no such page. A page of a tree that is in use is never empty. */
static inline bool open_page(const struct shmeta__pages *pages, uint64_t number, bool leaf,
                             struct shmeta__tree_level *ret)
{
	const uint8_t *page = page_at(pages, number, 1);
	struct page_header header;

	if (unlikely(page == NULL))
		return false;
	shmeta__copy_once(&header, page, sizeof header);
	if (unlikely(header.number != number || header.flags != (leaf ? PAGE_LEAF : PAGE_BRANCH) ||
	             header.lower <= PAGE_HEADER || header.lower % 2 != 0 || header.lower > header.upper ||
	             header.upper > SHMETA_PAGE))
		return false;
	ret->page = page;
	ret->count = (header.lower - PAGE_HEADER) / 2u;
	ret->at = 0;
	return true;
}

struct node {
	const uint8_t *key;
	uint32_t key_bytes;
	uint32_t flags; /* of a leaf's */
	uint64_t size;  /* a leaf's: of the value; a branch's: the page below */
	uint32_t bytes; /* of the whole node */
};

static inline bool read_node(const struct shmeta__tree_level *level, uint32_t i, bool leaf, struct node *ret)
{
	uint32_t at = offset_of(level->page, i), here;
	struct node_header header;

	if (unlikely(at < PAGE_HEADER || at > SHMETA_PAGE - NODE_HEADER))
		return false;
	shmeta__copy_once(&header, level->page + at, sizeof header);
	ret->key = level->page + at + NODE_HEADER;
	ret->key_bytes = header.key_bytes;
	ret->flags = header.flags;
	ret->size = header.lo | (uint32_t)header.hi << 16;
	here = 0;
	if (leaf)
		here = (header.flags & NODE_OWN_PAGES) != 0 ? VALUE_NUMBER : (uint32_t)ret->size;
	else
		ret->size |= (uint64_t)header.flags << 32;
	if (unlikely(here > SHMETA_PAGE || at + NODE_HEADER + ret->key_bytes + here > SHMETA_PAGE))
		return false;
	ret->bytes = (NODE_HEADER + ret->key_bytes + here + 1) & ~1u;
	return true;
}

static inline bool read_value(const struct shmeta__pages *pages, const struct node *node, const void **ret)
{
	const uint8_t *here = node->key + node->key_bytes;
	struct page_header header;
	const uint8_t *page;
	uint64_t number, count;

	if (likely((node->flags & NODE_OWN_PAGES) == 0)) {
		*ret = here;
		return true;
	}
	shmeta__copy_once(&number, here, sizeof number);
	count = (PAGE_HEADER + node->size + SHMETA_PAGE - 1) / SHMETA_PAGE;
	page = page_at(pages, number, count);
	if (unlikely(page == NULL))
		return false;
	shmeta__copy_once(&header, page, sizeof header);
	*ret = page + PAGE_HEADER;
	return header.number == number && header.flags == PAGE_OWN && header.pages >= count;
}

/* ---- keys ---- */

/* < 0, 0, > 0. Integer keys have 8 bytes; judged before. */
static inline int compare(bool integer, const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
	uint64_t x, y;
	int order;

	if (integer) {
		memcpy(&x, a, sizeof x);
		memcpy(&y, b, sizeof y);
		return (x > y) - (x < y);
	}
	order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
	return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static inline bool key_fits(bool integer, size_t key_bytes)
{
	return !integer || key_bytes == sizeof(uint64_t);
}

#endif
