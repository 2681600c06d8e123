/* SPDX-License-Identifier: Apache-2.0
 * Judging a whole data.mdb. */
#include "shm/tree/tree_check.h"

#include <stdio.h>
#include <stdlib.h>

#include "shm/record/entry.h"
#include "shm/tree/tree_page.h"

enum {
	METAS = 2,
	FLAG_INTEGER = 0x08,  /* of a database: MDB_INTEGERKEY; no other flag is used */
	NODE_BYTES_MAX = 2038 /* LMDB puts what makes a larger node on pages of its own: two nodes
                               * fit a page */
};

enum kind { FREE_LIST, DATABASES, RECORDS };

struct check {
	struct shmeta__pages pages; /* those of the commit */
	uint64_t have;              /* how many they are */
	uint64_t txn;
	uint64_t *taken; /* a bit a page */
	struct database database[SHMETA_DB_COUNT];
	struct shmeta__tree_checked found;
	struct shmeta_err *err;
};

/* Of the tree that is being walked. */
struct walk {
	struct check *check;
	enum kind kind;
	struct shmeta__tree tree;
	const char *name;
	bool integer;
	uint64_t branch_pages, leaf_pages, own_pages, entries;
};

/* A level of the way down: its page, and what lies on both sides of all its keys. */
struct stage {
	struct shmeta__tree_level level;
	struct node low, high;
	bool has_low, has_high;
};

static bool complain(const struct walk *walk, uint64_t page, const char *what)
{
	(void)shmeta_fail(walk->check->err, SHMETA_ERR_CORRUPT, "data.mdb: page %llu, of %s: %s",
	                  (unsigned long long)page, walk->name, what);
	return false;
}

/* ---- which pages are in use ---- */

/* false: one of them is no page of this commit's, or taken already. */
static bool take(struct check *check, uint64_t first, uint64_t count)
{
	if (first < METAS || first >= check->have || count > check->have - first)
		return false;
	for (uint64_t page = first; page < first + count; page++) {
		uint64_t bit = UINT64_C(1) << page % 64;

		if ((check->taken[page / 64] & bit) != 0)
			return false;
		check->taken[page / 64] |= bit;
	}
	return true;
}

/* The value of an entry of the free list: how many, then their numbers, the largest first. */
static bool take_free(struct walk *walk, uint64_t page, const struct shmeta__tree_entry *entry)
{
	const uint8_t *value = entry->value;
	uint64_t txn, count, number, last = UINT64_MAX;

	memcpy(&txn, entry->key, sizeof txn);
	if (txn == 0 || txn > walk->check->txn)
		return complain(walk, page, "pages were freed by a commit that was not made");
	if (entry->bytes < sizeof count)
		return complain(walk, page, "an entry that is too short");
	memcpy(&count, value, sizeof count);
	if (count > entry->bytes / sizeof count - 1)
		return complain(walk, page, "more free pages than fit their entry");
	for (uint64_t i = 1; i <= count; i++) {
		memcpy(&number, value + i * sizeof number, sizeof number);
		if (number >= last)
			return complain(walk, page, "free pages are out of order");
		if (!take(walk->check, number, 1))
			return complain(walk, page, "a free page is in use, is free twice, or does not exist");
		last = number;
	}
	walk->check->found.free_pages += count;
	return true;
}

/* ---- nodes ---- */

/* Do the nodes fill their page from `upper` on, none of them over another? Nodes have even places
 * and lengths; when each begins at a place of its own, and ends at one of its own, at the beginning
 * of another or at the page's end, nothing is left between them. */
static bool tiled(const struct shmeta__tree_level *level, bool leaf)
{
	uint64_t begins[SHMETA_PAGE / 128 + 1] = {0}, ends[SHMETA_PAGE / 128 + 1] = {0};
	struct page_header header;
	struct node node;

	shmeta__copy_once(&header, level->page, sizeof header);
	for (uint32_t i = 0; i < level->count; i++) {
		uint32_t begin, end;

		if (!read_node(level, i, leaf, &node) || node.bytes > NODE_BYTES_MAX)
			return false;
		begin = (uint32_t)(node.key - NODE_HEADER - level->page);
		end = begin + node.bytes;
		if (begin % 2 != 0 || begin < header.upper || end > SHMETA_PAGE ||
		    (begins[begin / 128] >> begin / 2 % 64 & 1) != 0 || (ends[end / 128] >> end / 2 % 64 & 1) != 0)
			return false;
		begins[begin / 128] |= UINT64_C(1) << begin / 2 % 64;
		ends[end / 128] |= UINT64_C(1) << end / 2 % 64;
	}
	begins[SHMETA_PAGE / 128] |= 1;
	ends[header.upper / 128] |= UINT64_C(1) << header.upper / 2 % 64;
	return memcmp(begins, ends, sizeof begins) == 0;
}

static bool key_can_be(const struct walk *walk, const struct node *node)
{
	return walk->integer ? node->key_bytes == sizeof(uint64_t)
	                     : node->key_bytes >= 1 && node->key_bytes <= TREE_KEY_MAX;
}

/* The first key of a branch is never looked at. */
static bool ordered(const struct walk *walk, const struct stage *stage, bool leaf)
{
	struct node node, last = stage->low;
	bool has_last = stage->has_low;

	for (uint32_t i = leaf ? 0 : 1; i < stage->level.count; i++) {
		int order;

		if (!read_node(&stage->level, i, leaf, &node) || !key_can_be(walk, &node))
			return false;
		if (has_last) {
			order = compare(walk->integer, last.key, last.key_bytes, node.key, node.key_bytes);
			/* A separator is the key of the first entry behind it, or was. */
			if (order > 0 || (order == 0 && i > (leaf ? 0 : 1)))
				return false;
		}
		last = node;
		has_last = true;
	}
	return !stage->has_high || !has_last ||
	       compare(walk->integer, last.key, last.key_bytes, stage->high.key, stage->high.key_bytes) < 0;
}

/* ---- entries ---- */

static bool note_database(struct walk *walk, uint64_t page, const struct shmeta__tree_entry *entry)
{
	struct check *check = walk->check;

	for (int db = 0; db < SHMETA_DB_COUNT; db++) {
		if (entry->key_bytes != strlen(db_name[db]) || memcmp(entry->key, db_name[db], entry->key_bytes) != 0)
			continue;
		memcpy(&check->database[db], entry->value, sizeof check->database[db]);
		return true;
	}
	return complain(walk, page, "a database that no store has");
}

/* A value that has pages of its own takes all of them: LMDB gives them back together. */
static bool take_value(struct walk *walk, const struct node *node, const void **ret_value)
{
	struct page_header header;
	uint64_t number;

	if (!read_value(&walk->check->pages, node, ret_value))
		return false;
	if ((node->flags & NODE_OWN_PAGES) == 0)
		return true;
	memcpy(&number, node->key + node->key_bytes, sizeof number);
	memcpy(&header, walk->check->pages.base + number * SHMETA_PAGE, sizeof header);
	walk->own_pages += header.pages;
	return take(walk->check, number, header.pages);
}

/* It is the first entry of each database, and its key is that of no other. */
static bool has_sentinel(const struct walk *walk, const struct shmeta__tree_level *level)
{
	static const uint64_t number = SHMETA_SENTINEL_NUMBER;
	struct node node;

	if (!read_node(level, 0, true, &node))
		return false;
	return walk->integer ? memcmp(node.key, &number, sizeof number) == 0
	                     : node.key_bytes == SHMETA_SENTINEL_BYTES &&
	                               memcmp(node.key, SHMETA_SENTINEL_KEY, SHMETA_SENTINEL_BYTES) == 0;
}

static bool check_entries(struct walk *walk, uint64_t page, const struct shmeta__tree_level *level)
{
	struct shmeta__tree_entry entry;
	struct node node;

	for (uint32_t i = 0; i < level->count; i++) {
		if (!read_node(level, i, true, &node) ||
		    (walk->kind == DATABASES ? node.flags != NODE_DATABASE || node.size != sizeof(struct database)
		                             : (node.flags & ~(uint32_t)NODE_OWN_PAGES) != 0))
			return complain(walk, page, "a node of an unknown kind");
		entry.key = node.key;
		entry.key_bytes = node.key_bytes;
		entry.bytes = node.size;
		if (!take_value(walk, &node, &entry.value))
			return complain(walk, page, "a value's own pages do not exist, are not its own, or say so");
		walk->entries++;
		if (walk->kind == FREE_LIST && !take_free(walk, page, &entry))
			return false;
		if (walk->kind == DATABASES && !note_database(walk, page, &entry))
			return false;
		if (walk->kind == RECORDS &&
		    !shmeta__entry_check(walk->tree.db, entry.key, entry.key_bytes, entry.value, entry.bytes))
			return complain(walk, page, "a record's checksum is wrong");
	}
	return true;
}

/* ---- trees ---- */

static bool enter(struct walk *walk, uint64_t number, bool leaf, struct stage *stage)
{
	if (!take(walk->check, number, 1))
		return complain(walk, number, "does not exist, or is in use twice");
	if (!open_page(&walk->check->pages, number, leaf, &stage->level))
		return complain(walk, number, leaf ? "is no leaf of a tree" : "is no branch of a tree");
	if (!tiled(&stage->level, leaf))
		return complain(walk, number, "its nodes do not fill it, or overlap");
	/* LMDB ends the process where a branch leads to one page, but for its free list's. */
	if (!leaf && stage->level.count < 2 && walk->kind != FREE_LIST)
		return complain(walk, number, "is a branch to a single page");
	if (!ordered(walk, stage, leaf))
		return complain(walk, number, "its keys are out of order, or belong elsewhere");
	if (!leaf) {
		walk->branch_pages++;
		return true;
	}
	walk->leaf_pages++;
	if (walk->kind == RECORDS && walk->leaf_pages == 1 && !has_sentinel(walk, &stage->level))
		return complain(walk, number, "the sentinel is lost: broken, not empty");
	return check_entries(walk, number, &stage->level);
}

/* From the child that the upper stage is at. */
static bool step_down(const struct stage *upper, struct stage *lower, uint64_t *ret_number)
{
	struct node node;

	if (!read_node(&upper->level, upper->level.at, false, &node))
		return false;
	*ret_number = node.size;
	lower->low = upper->low;
	lower->has_low = upper->has_low;
	lower->high = upper->high;
	lower->has_high = upper->has_high;
	if (upper->level.at > 0) {
		lower->low = node;
		lower->has_low = true;
	}
	if (upper->level.at + 1 < upper->level.count) {
		lower->has_high = true;
		if (!read_node(&upper->level, upper->level.at + 1, false, &lower->high))
			return false;
	}
	return true;
}

static bool walk_pages(struct walk *walk)
{
	struct stage stage[SHMETA_TREE_LEVELS];
	uint32_t l = 0, leaf = walk->tree.levels - 1;
	uint64_t number = walk->tree.root;

	stage[0] = (struct stage){.has_low = false};
	for (;;) {
		if (!enter(walk, number, l == leaf, &stage[l]))
			return false;
		if (l == leaf) {
			while (l > 0 && (l == leaf || stage[l].level.at + 1 == stage[l].level.count))
				l--;
			if (l == leaf || stage[l].level.at + 1 == stage[l].level.count)
				return true;
			stage[l].level.at++;
		}
		if (!step_down(&stage[l], &stage[l + 1], &number))
			return false;
		l++;
	}
}

static enum shmeta_status check_tree(struct check *check, enum kind kind, enum shmeta_db db, const char *name,
                                     const struct database *database, uint64_t *ret_entries)
{
	struct walk walk = {.check = check, .kind = kind, .name = name, .integer = kind == FREE_LIST};

	if (kind == RECORDS)
		walk.integer = db_integer[db];
	if (database->flags != (walk.integer ? FLAG_INTEGER : 0))
		return shmeta_fail(check->err, SHMETA_ERR_CORRUPT, "data.mdb: %s has flags 0x%x, which cannot be", name,
		                   database->flags);
	if (kind == FREE_LIST && database->levels == 0 && database->root == UINT64_MAX && database->entries == 0)
		return SHMETA_OK;
	if (!tree_of_database(database, db, &walk.tree))
		return shmeta_fail(check->err, SHMETA_ERR_CORRUPT, "data.mdb: %s has %u levels", name,
		                   database->levels);
	if (!walk_pages(&walk))
		return SHMETA_ERR_CORRUPT;
	if (walk.entries != database->entries || walk.branch_pages != database->branch_pages ||
	    walk.leaf_pages != database->leaf_pages || walk.own_pages != database->own_pages)
		return shmeta_fail(
			check->err, SHMETA_ERR_CORRUPT,
			"data.mdb: %s has %llu entries on %llu pages, and says it has %llu on %llu", name,
			(unsigned long long)walk.entries,
			(unsigned long long)(walk.branch_pages + walk.leaf_pages + walk.own_pages),
			(unsigned long long)database->entries,
			(unsigned long long)(database->branch_pages + database->leaf_pages + database->own_pages));
	check->found.used_pages += walk.branch_pages + walk.leaf_pages + walk.own_pages;
	if (ret_entries != NULL)
		*ret_entries = walk.entries;
	return SHMETA_OK;
}

static enum shmeta_status check_trees(struct check *check, const struct meta *meta)
{
	enum shmeta_status status;
	char name[48];

	/* First, so that a page that is in use and free is told of where the harm would be done. */
	status = check_tree(check, DATABASES, SHMETA_DB_COUNT, "the tree of databases", &meta->databases, NULL);
	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT && status == SHMETA_OK; db++) {
		(void)snprintf(name, sizeof name, "database '%s'", db_name[db]);
		status =
			check->database[db].levels == 0
				? shmeta_fail(check->err, SHMETA_ERR_CORRUPT, "data.mdb: there is no %s", name)
				: check_tree(check, RECORDS, db, name, &check->database[db], &check->found.entries[db]);
	}
	if (status == SHMETA_OK)
		status = check_tree(check, FREE_LIST, SHMETA_DB_COUNT, "the free list", &meta->free, NULL);
	return status;
}

/* LMDB judges both meta pages, and goes on from the one with the larger number. */
static enum shmeta_status newest_meta(const uint8_t *base, uint64_t file_bytes, struct meta *ret,
                                      struct shmeta_err *err)
{
	enum shmeta_status status;
	struct meta meta[METAS];
	unsigned int newest;

	if (file_bytes < METAS * SHMETA_PAGE)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                   "data.mdb: has %llu bytes, a store has %d pages of %d at least: it was cut off",
		                   (unsigned long long)file_bytes, METAS, SHMETA_PAGE);
	for (uint64_t number = 0; number < METAS; number++) {
		shmeta__copy_once(&meta[number], base + number * SHMETA_PAGE, sizeof meta[number]);
		status = shmeta__tree_judge_meta(&meta[number], number, err);
		if (status != SHMETA_OK)
			return status;
	}
	newest = meta[1].txn > meta[0].txn;
	*ret = meta[newest];
	if (ret->txn % METAS != newest)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: commit %llu is not on its meta page",
		                   (unsigned long long)ret->txn);
	return shmeta__data_check(file_bytes, ret->last_page, SHMETA_PAGE, err);
}

enum shmeta_status shmeta__tree_check(const uint8_t *base, uint64_t file_bytes, struct shmeta__tree_checked *ret,
                                      struct shmeta_err *err)
{
	struct shmeta_err scrap;
	struct check check = {.err = err != NULL ? err : &scrap};
	enum shmeta_status status;
	struct meta meta;

	status = newest_meta(base, file_bytes, &meta, check.err);
	if (status != SHMETA_OK)
		return status;
	check.have = meta.last_page + 1;
	check.txn = check.found.txn = meta.txn;
	check.found.last_page = meta.last_page;
	check.pages =
		(struct shmeta__pages){.base = base, .bytes = check.have * SHMETA_PAGE, .page_bytes = SHMETA_PAGE};
	check.taken = calloc(check.have / 64 + 1, sizeof *check.taken);
	if (check.taken == NULL)
		return shmeta_fail(check.err, SHMETA_ERR_NO_MEMORY, "out of memory for a bit for each of %llu pages",
		                   (unsigned long long)check.have);
	status = check_trees(&check, &meta);
	free(check.taken);
	*ret = check.found;
	return status;
}
