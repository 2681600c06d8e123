/* SPDX-License-Identifier: Apache-2.0
 * Walking LMDB's B+trees. */
#include <string.h>

#include "shm/record/entry.h"
#include "shm/tree/tree_page.h"

/* ---- pages ---- */

/* Does the page hold all that it held? Nodes lie without gaps: one that is hidden, shortened or
 * shown twice is missed in their sum. */
static bool whole(const struct shmeta__tree_level *level, bool leaf)
{
	struct page_header header;
	uint32_t sum = 0;
	struct node node;

	shmeta__copy_once(&header, level->page, sizeof header);
	for (uint32_t i = 0; i < level->count; i++) {
		if (!read_node(level, i, leaf, &node) || node.key < level->page + header.upper + NODE_HEADER)
			return false;
		sum += node.bytes;
	}
	return header.upper + sum == SHMETA_PAGE;
}

/* ---- places ---- */

enum edge { FIRST, LAST };

/* From the page `number` of the level on down to one end of a leaf. */
static bool descend(const struct shmeta__pages *pages, const struct shmeta__tree *tree, uint32_t l, uint64_t number,
                    enum edge edge, struct shmeta__tree_level *level)
{
	struct node node;

	for (;; l++) {
		bool leaf = l + 1 == tree->levels;

		if (!open_page(pages, number, leaf, &level[l]) || !whole(&level[l], leaf))
			return false;
		level[l].at = edge == FIRST ? 0 : level[l].count - 1;
		if (leaf)
			return true;
		if (!read_node(&level[l], level[l].at, false, &node))
			return false;
		number = node.size;
	}
}

/* One entry on, or back. OK, END, ERR_CORRUPT. Pages that are entered are whole. */
static enum shmeta_status move(const struct shmeta__pages *pages, const struct shmeta__tree *tree, enum edge towards,
                               struct shmeta__tree_level *level)
{
	uint32_t l = tree->levels - 1;
	struct node node;

	while (towards == LAST ? level[l].at + 1 >= level[l].count : level[l].at == 0) {
		if (l == 0)
			return SHMETA_END;
		l--;
	}
	level[l].at += towards == LAST ? 1 : -1u;
	if (l + 1 == tree->levels)
		return SHMETA_OK;
	if (!read_node(&level[l], level[l].at, false, &node) ||
	    !descend(pages, tree, l + 1, node.size, towards == LAST ? FIRST : LAST, level))
		return SHMETA_ERR_CORRUPT;
	return SHMETA_OK;
}

/* Where the key is (*ret_exact), or would be: the leaf's `at` may be its count. OK or
 * ERR_CORRUPT. */
static enum shmeta_status find(const struct shmeta__pages *pages, const struct shmeta__tree *tree, const void *key,
                               size_t key_bytes, struct shmeta__tree_level *level, bool *ret_exact)
{
	bool integer = db_integer[tree->db];
	uint64_t number = tree->root;
	struct node node = {0};

	for (uint32_t l = 0;; l++) {
		bool leaf = l + 1 == tree->levels;
		uint32_t low = leaf ? 0 : 1, high;

		if (unlikely(!open_page(pages, number, leaf, &level[l])))
			return SHMETA_ERR_CORRUPT;
		high = level[l].count;
		while (low < high) {
			uint32_t middle = low + (high - low) / 2;
			int order;

			if (unlikely(!read_node(&level[l], middle, leaf, &node) || !key_fits(integer, node.key_bytes)))
				return SHMETA_ERR_CORRUPT;
			order = compare(integer, node.key, node.key_bytes, key, key_bytes);
			if (order == 0) {
				low = middle;
				if (!leaf)
					low++;
				else
					*ret_exact = true;
				break;
			}
			if (order < 0)
				low = middle + 1;
			else
				high = middle;
		}
		if (leaf) {
			level[l].at = low;
			return SHMETA_OK;
		}
		level[l].at = low - 1;
		if (unlikely(!read_node(&level[l], low - 1, false, &node)))
			return SHMETA_ERR_CORRUPT;
		number = node.size;
	}
}

static enum shmeta_status entry_at(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                   const struct shmeta__tree_level *level, struct shmeta__tree_entry *ret)
{
	const struct shmeta__tree_level *leaf = &level[tree->levels - 1];
	struct node node;

	if (unlikely(!read_node(leaf, leaf->at, true, &node) || !key_fits(db_integer[tree->db], node.key_bytes) ||
	             !read_value(pages, &node, &ret->value)))
		return SHMETA_ERR_CORRUPT;
	ret->key = node.key;
	ret->key_bytes = node.key_bytes;
	ret->bytes = node.size;
	return SHMETA_OK;
}

/* ---- proof ---- */

/* Is the entry at that place the writer's, and on the right side of the key? */
static bool witnesses(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                      const struct shmeta__tree_level *level, const void *key, size_t key_bytes, enum edge side)
{
	struct shmeta__tree_entry entry;
	int order;

	if (entry_at(pages, tree, level, &entry) != SHMETA_OK)
		return false;
	order = compare(db_integer[tree->db], entry.key, entry.key_bytes, key, key_bytes);
	return (side == FIRST ? order < 0 : order > 0) &&
	       shmeta__entry_check(tree->db, entry.key, entry.key_bytes, entry.value, entry.bytes);
}

/* Do all keys of each page lie between the separators above it? */
static bool between(const struct shmeta__tree *tree, const struct shmeta__tree_level *level)
{
	bool integer = db_integer[tree->db], has_low = false, has_high = false;
	struct node low = {0}, high = {0}, first, last;

	for (uint32_t l = 0; l < tree->levels; l++) {
		bool leaf = l + 1 == tree->levels;
		uint32_t from = leaf ? 0 : 1;

		if (from < level[l].count) {
			if (!read_node(&level[l], from, leaf, &first) ||
			    !read_node(&level[l], level[l].count - 1, leaf, &last) ||
			    !key_fits(integer, first.key_bytes) || !key_fits(integer, last.key_bytes))
				return false;
			if (has_low && compare(integer, first.key, first.key_bytes, low.key, low.key_bytes) < 0)
				return false;
			if (has_high && compare(integer, last.key, last.key_bytes, high.key, high.key_bytes) >= 0)
				return false;
		}
		if (leaf)
			break;
		if (level[l].at > 0) {
			has_low = true;
			if (!read_node(&level[l], level[l].at, false, &low) || !key_fits(integer, low.key_bytes))
				return false;
		}
		if (level[l].at + 1 < level[l].count) {
			has_high = true;
			if (!read_node(&level[l], level[l].at + 1, false, &high) || !key_fits(integer, high.key_bytes))
				return false;
		}
	}
	return true;
}

/* The key would be at this place, and is not: OK when that is proved. Where a key would be there is
 * always an entry before it: the sentinel. */
static __attribute__((noinline)) enum shmeta_status prove(const struct shmeta__pages *pages,
                                                          const struct shmeta__tree *tree, const void *key,
                                                          size_t key_bytes, const struct shmeta__tree_level *level)
{
	struct shmeta__tree_level aside[SHMETA_TREE_LEVELS];
	const struct shmeta__tree_level *leaf = &level[tree->levels - 1];
	size_t bytes = tree->levels * sizeof *aside;
	enum shmeta_status status;

	for (uint32_t l = 0; l < tree->levels; l++)
		if (!whole(&level[l], l + 1 == tree->levels))
			return SHMETA_ERR_CORRUPT;
	if (!between(tree, level))
		return SHMETA_ERR_CORRUPT;
	memcpy(aside, level, bytes);
	if (move(pages, tree, FIRST, aside) != SHMETA_OK || !between(tree, aside) ||
	    !witnesses(pages, tree, aside, key, key_bytes, FIRST))
		return SHMETA_ERR_CORRUPT;
	if (leaf->at < leaf->count)
		return witnesses(pages, tree, level, key, key_bytes, LAST) ? SHMETA_OK : SHMETA_ERR_CORRUPT;
	memcpy(aside, level, bytes);
	status = move(pages, tree, LAST, aside);
	if (status == SHMETA_END)
		return SHMETA_OK;
	return status == SHMETA_OK && between(tree, aside) && witnesses(pages, tree, aside, key, key_bytes, LAST)
	               ? SHMETA_OK
	               : SHMETA_ERR_CORRUPT;
}

/* ---- databases ---- */

enum shmeta_status shmeta__tree_open(const struct shmeta__pages *pages, const struct shmeta__tree *databases,
                                     enum shmeta_db db, struct shmeta__tree *ret)
{
	struct shmeta__tree_level level[SHMETA_TREE_LEVELS];
	const char *name = db_name[db];
	struct database database;
	bool exact = false;
	struct node node;
	const void *value;

	if (find(pages, databases, name, strlen(name), level, &exact) != SHMETA_OK || !exact ||
	    !read_node(&level[databases->levels - 1], level[databases->levels - 1].at, true, &node) ||
	    node.flags != NODE_DATABASE || node.size != sizeof database || !read_value(pages, &node, &value))
		return SHMETA_ERR_CORRUPT;
	shmeta__copy_once(&database, value, sizeof database);
	return tree_of_database(&database, db, ret) ? SHMETA_OK : SHMETA_ERR_CORRUPT;
}

/* ---- looking up and walking ---- */

enum shmeta_status shmeta__tree_get(const struct shmeta__pages *pages, const struct shmeta__tree *tree, const void *key,
                                    size_t key_bytes, const void **ret_value, size_t *ret_bytes)
{
	struct shmeta__tree_level level[SHMETA_TREE_LEVELS];
	struct shmeta__tree_entry entry;
	enum shmeta_status status;
	bool exact = false;

	status = find(pages, tree, key, key_bytes, level, &exact);
	if (status == SHMETA_OK && !exact) {
		status = prove(pages, tree, key, key_bytes, level);
		return status == SHMETA_OK ? SHMETA_ABSENT : status;
	}
	if (status == SHMETA_OK)
		status = entry_at(pages, tree, level, &entry);
	if (status != SHMETA_OK)
		return status;
	*ret_value = entry.value;
	*ret_bytes = entry.bytes;
	return SHMETA_OK;
}

static enum shmeta_status show(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                               struct shmeta__tree_place *place, struct shmeta__tree_entry *ret)
{
	enum shmeta_status status = entry_at(pages, tree, place->level, ret);

	if (status != SHMETA_OK)
		return status;
	if (place->begun && compare(db_integer[tree->db], place->key, place->key_bytes, ret->key, ret->key_bytes) >= 0)
		return SHMETA_ERR_CORRUPT;
	place->key = ret->key;
	place->key_bytes = (uint32_t)ret->key_bytes;
	place->begun = 1;
	return SHMETA_OK;
}

enum shmeta_status shmeta__tree_seek(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                     const void *key, size_t key_bytes, struct shmeta__tree_place *place,
                                     struct shmeta__tree_entry *ret)
{
	struct shmeta__tree_level *leaf = &place->level[tree->levels - 1];
	enum shmeta_status status;
	bool exact = false;

	place->begun = 0;
	status = find(pages, tree, key, key_bytes, place->level, &exact);
	if (status == SHMETA_OK && !exact)
		status = prove(pages, tree, key, key_bytes, place->level);
	for (uint32_t l = 0; l < tree->levels && status == SHMETA_OK && exact; l++)
		if (!whole(&place->level[l], l + 1 == tree->levels))
			status = SHMETA_ERR_CORRUPT;
	if (status == SHMETA_OK && exact && !between(tree, place->level))
		status = SHMETA_ERR_CORRUPT;
	if (status == SHMETA_OK && leaf->at == leaf->count) {
		leaf->at--;
		status = move(pages, tree, LAST, place->level);
	}
	return status == SHMETA_OK ? show(pages, tree, place, ret) : status;
}

enum shmeta_status shmeta__tree_first(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                      struct shmeta__tree_place *place, struct shmeta__tree_entry *ret)
{
	if (tree->levels == 0)
		return SHMETA_END;
	place->begun = 0;
	return tree->levels <= SHMETA_TREE_LEVELS && descend(pages, tree, 0, tree->root, FIRST, place->level)
	               ? show(pages, tree, place, ret)
	               : SHMETA_ERR_CORRUPT;
}

enum shmeta_status shmeta__tree_next(const struct shmeta__pages *pages, const struct shmeta__tree *tree,
                                     struct shmeta__tree_place *place, struct shmeta__tree_entry *ret)
{
	enum shmeta_status status = move(pages, tree, LAST, place->level);

	return status == SHMETA_OK ? show(pages, tree, place, ret) : status;
}
