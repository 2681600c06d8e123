/* SPDX-License-Identifier: Apache-2.0
 * The walker of LMDB's trees beside LMDB itself, and over damaged pages. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/record/entry.h"
#include "shm/store/store_private.h"
#include "shm/tree/tree.h"
#include "tests/support/random.h"
#include "tests/support/tree_rows.h"

enum { TOPICS = 1200, ENTRIES_MAX = 8192, ONE_PAGE = SHMETA_PAGE };

static struct fake_writer *w;
static uint8_t *file, *good;
static size_t file_bytes;
static struct shmeta__pages pages;
static struct shmeta__tree tree[SHMETA_DB_COUNT];

/* What LMDB shows of a database. */
struct entry {
	size_t key_bytes, bytes;
	const void *key, *value;
};
static struct entry entries[SHMETA_DB_COUNT][ENTRIES_MAX];
static size_t count[SHMETA_DB_COUNT];

static void fill(void)
{
	for (int part = 0; part < 8; part++) {
		fake_begin(w);
		for (int i = part; i < TOPICS; i += 8)
			tree_topic(w, i, i % 16 == 0 ? 700 : (size_t)i % 3, i % 4 == 0);
		(void)fake_commit(w);
	}
	/* Pages that were given back and taken again. */
	for (int i = 0; i < TOPICS; i += 40) {
		fake_begin(w);
		tree_delete_topic(w, i);
		(void)fake_commit(w);
	}
}

/* What a reader does when it begins. */
static enum shmeta_status open_trees(void)
{
	struct shmeta__tree_meta meta;
	enum shmeta_status status = shmeta__tree_read_meta(file, w->gen->committed, &meta, NULL, NULL);

	if (status != SHMETA_OK || meta.last_page >= file_bytes / ONE_PAGE)
		return SHMETA_ERR_CORRUPT;
	pages = (struct shmeta__pages){.base = file, .bytes = (meta.last_page + 1) * ONE_PAGE, .page_bytes = ONE_PAGE};
	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT && status == SHMETA_OK; db++)
		status = shmeta__tree_open(&pages, &meta.databases, db, &tree[db]);
	return status;
}

/* Not the sentinel: a cursor does not show it. */
static void ask_lmdb(void)
{
	struct shmeta__cursor *cursor;
	struct shmeta_err err;

	cr_assert_eq(shmeta__txn_read(w->store, &w->txn, &err), SHMETA_OK);
	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT; db++) {
		enum shmeta_status status;

		cr_assert_eq(shmeta__cursor_open(w->txn, db, NULL, 0, &cursor, &err), SHMETA_OK);
		for (;;) {
			struct entry *e = &entries[db][count[db]];

			status = shmeta__cursor_next(cursor, &e->key, &e->key_bytes, &e->value, &e->bytes, &err);
			if (status != SHMETA_OK)
				break;
			cr_assert_lt(++count[db], ENTRIES_MAX);
		}
		cr_assert_eq(status, SHMETA_END);
		shmeta__cursor_close(cursor);
	}
}

static void set_up(void)
{
	w = fake_writer_new();
	fill();
	file_bytes = tree_read_file(w, &file, &good);
	ask_lmdb();
	cr_assert_eq(open_trees(), SHMETA_OK);
	cr_assert_geq(tree[SHMETA_DB_NAMES].levels, 3, "a tree with branches below branches");
	cr_assert_geq(tree[SHMETA_DB_PARTS].levels, 2);
}

static void tear_down(void)
{
	shmeta__txn_abort(w->txn);
	w->txn = NULL;
	free(file);
	free(good);
	fake_writer_free(w);
}

TestSuite(tree, .init = set_up, .fini = tear_down, .timeout = 60);

static enum shmeta_status get(enum shmeta_db db, const void *key, size_t key_bytes, const void **ret, size_t *ret_bytes)
{
	return shmeta__tree_get(&pages, &tree[db], key, key_bytes, ret, ret_bytes);
}

Test(tree, every_entry_is_found_as_lmdb_shows_it)
{
	const void *value;
	size_t bytes;

	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT; db++)
		for (size_t i = 0; i < count[db]; i++) {
			const struct entry *e = &entries[db][i];

			cr_assert_eq(get(db, e->key, e->key_bytes, &value, &bytes), SHMETA_OK);
			cr_assert_eq(shmeta__entry_check(db, e->key, e->key_bytes, value, bytes), 1);
			cr_assert_eq(shmeta__unseal(db, e->key, e->key_bytes, value, &bytes), 1);
			cr_assert_eq(bytes, e->bytes);
			cr_assert_eq(memcmp(value, e->value, bytes), 0);
		}
}

Test(tree, a_walk_from_anywhere_shows_what_lmdb_shows_and_then_the_end)
{
	struct shmeta__tree_place place;
	struct shmeta__tree_entry entry;
	enum shmeta_status status;

	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT; db++)
		for (size_t from = 0; from < count[db]; from += 1 + count[db] / 7) {
			size_t i = from;

			status = shmeta__tree_seek(&pages, &tree[db], entries[db][i].key, entries[db][i].key_bytes,
			                           &place, &entry);
			for (; status == SHMETA_OK; i++) {
				cr_assert_lt(i, count[db]);
				cr_assert_eq(entry.key_bytes, entries[db][i].key_bytes);
				cr_assert_eq(memcmp(entry.key, entries[db][i].key, entry.key_bytes), 0);
				cr_assert_eq(shmeta__unseal(db, entry.key, entry.key_bytes, entry.value, &entry.bytes),
				             1);
				cr_assert_eq(entry.bytes, entries[db][i].bytes);
				status = shmeta__tree_next(&pages, &tree[db], &place, &entry);
			}
			cr_assert_eq(status, SHMETA_END);
			cr_assert_eq(i, count[db]);
		}
}

/* Names between, before and behind those that are there; also where a walk would begin. */
Test(tree, what_lmdb_does_not_find_is_absent)
{
	struct shmeta__tree_place place;
	struct shmeta__tree_entry entry;
	const void *value, *theirs;
	uint8_t key[SHMETA_KEY_MAX];
	size_t bytes, absent = 0;

	for (int i = 0; i < 20000; i++) {
		const struct entry *e = &entries[SHMETA_DB_NAMES][random_below(count[SHMETA_DB_NAMES])];
		size_t key_bytes = e->key_bytes;
		enum shmeta_status want, got;

		memcpy(key, e->key, key_bytes);
		if (random_below(3) == 0)
			key_bytes = 5 + random_below(key_bytes - 4);
		key[4 + random_below(key_bytes - 4)] = (uint8_t)random_below(256);
		want = shmeta__get(w->txn, SHMETA_DB_NAMES, key, key_bytes, &theirs, &bytes, NULL);
		got = get(SHMETA_DB_NAMES, key, key_bytes, &value, &bytes);
		cr_assert_eq(got, want);
		absent += got == SHMETA_ABSENT;
		got = shmeta__tree_seek(&pages, &tree[SHMETA_DB_NAMES], key, key_bytes, &place, &entry);
		cr_assert(got == SHMETA_OK || got == SHMETA_END);
		cr_assert(got == SHMETA_END ||
		          memcmp(entry.key, key, entry.key_bytes < key_bytes ? entry.key_bytes : key_bytes) >= 0);
	}
	cr_assert_gt(absent, 10000);
	for (uint64_t number = 0; number < 3 * TOPICS; number++) {
		uint64_t part = number << 32 | random_below(2);

		cr_assert_eq(get(SHMETA_DB_PARTS, &part, sizeof part, &value, &bytes),
		             shmeta__get(w->txn, SHMETA_DB_PARTS, &part, sizeof part, &theirs, &bytes, NULL));
	}
}

/* ---- damage ---- */

static int is_of_a_tree(size_t page)
{
	uint16_t flags;

	memcpy(&flags, good + page * ONE_PAGE + 10, sizeof flags);
	return flags == 1 || flags == 2;
}

static uint8_t *some_tree_page(void)
{
	size_t page;

	do
		page = 2 + random_below(file_bytes / ONE_PAGE - 2);
	while (!is_of_a_tree(page));
	return file + page * ONE_PAGE;
}

static uint8_t *some_page(void)
{
	return file + random_below(file_bytes / ONE_PAGE) * ONE_PAGE;
}

enum kind { BIT, BYTES, NOISE, SWAPPED, ZERO, META, HEADER, OFFSETS, NODE, KINDS };

static void damage(enum kind kind)
{
	uint8_t *at = file + random_below(file_bytes - 16);
	size_t bytes = 16;

	switch (kind) {
	case BIT:
		*at ^= (uint8_t)(1u << random_below(8));
		return;
	case SWAPPED:
		memcpy(some_page(), good + random_below(file_bytes / ONE_PAGE) * ONE_PAGE, ONE_PAGE);
		return;
	case ZERO:
		memset(some_page(), 0, ONE_PAGE);
		return;
	case NOISE:
		at = some_page();
		bytes = ONE_PAGE;
		break;
	case META:
		at = file + random_below(2) * ONE_PAGE + random_below(160);
		bytes = 1;
		break;
	case HEADER:
		at = some_tree_page() + random_below(16);
		bytes = 1;
		break;
	case OFFSETS:
		at = some_tree_page() + 16 + 2 * random_below(60);
		bytes = 2;
		break;
	case NODE:
		at = some_tree_page() + 16 + random_below(ONE_PAGE - 18);
		bytes = 2;
		break;
	default:
		break;
	}
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)random_below(256);
}

/* Databases whose entries carry checksums. Wrong: a key that is there is absent, or a walk ends
 * early or leaves something out. A value that is wrong is its checksum's affair, and that of the
 * page it lies on. */
static size_t wrong_answers(enum shmeta_db db)
{
	struct shmeta__tree_place place;
	struct shmeta__tree_entry entry;
	enum shmeta_status status;
	const void *value;
	size_t bytes, wrong = 0, i = 0;

	for (size_t k = random_below(7); k < count[db]; k += 7)
		wrong += get(db, entries[db][k].key, entries[db][k].key_bytes, &value, &bytes) == SHMETA_ABSENT;
	status = shmeta__tree_seek(&pages, &tree[db], entries[db][0].key, entries[db][0].key_bytes, &place, &entry);
	for (; status == SHMETA_OK; i++) {
		if (!shmeta__entry_check(db, entry.key, entry.key_bytes, entry.value, entry.bytes))
			return wrong;
		if (i >= count[db] || entry.key_bytes != entries[db][i].key_bytes ||
		    memcmp(entry.key, entries[db][i].key, entry.key_bytes) != 0)
			return wrong + 1;
		status = shmeta__tree_next(&pages, &tree[db], &place, &entry);
	}
	return wrong + (status == SHMETA_END && i != count[db]);
}

static const enum shmeta_db looked_at[] = {SHMETA_DB_META,   SHMETA_DB_NAMES,   SHMETA_DB_TOPICS, SHMETA_DB_PARTS,
                                           SHMETA_DB_LEASES, SHMETA_DB_OFFSETS, SHMETA_DB_GROUPS};

Test(tree, damaged_pages_are_found_or_do_not_matter_and_never_lead_outside)
{
	static const char *const names[KINDS] = {"bit",    "16 bytes", "noise",   "swapped pages", "zeroed page",
	                                         "a meta", "a header", "offsets", "nodes"};
	enum { TRIALS = 120 };
	size_t wrong = 0;

	for (enum kind kind = 0; kind < KINDS; kind++)
		for (int trial = 0; trial < TRIALS; trial++) {
			size_t bad = 0;

			random_begin(kind * TRIALS + (unsigned)trial);
			damage(kind);
			if (open_trees() == SHMETA_OK)
				for (size_t i = 0; i < sizeof looked_at / sizeof *looked_at; i++)
					bad += wrong_answers(looked_at[i]);
			if (bad > 0)
				(void)printf("%s, trial %d: %zu wrong answers\n", names[kind], trial, bad);
			wrong += bad > 0;
			memcpy(file, good, file_bytes);
		}
	/* A page number that was damaged into that of an older state of the same page cannot be
	 * told from the right one. */
	cr_assert_leq(wrong, KINDS * TRIALS / 1000, "%zu of %d damages led to wrong answers", wrong, KINDS * TRIALS);
}

/* Each entry of a database in turn: fn with the place of its leaf and of its key in the file. */
static void each_entry(enum shmeta_db db, void (*fn)(enum shmeta_db db, size_t i, uint8_t *leaf, uint8_t *key))
{
	struct shmeta__tree_place place;
	struct shmeta__tree_entry entry;
	enum shmeta_status status =
		shmeta__tree_seek(&pages, &tree[db], entries[db][0].key, entries[db][0].key_bytes, &place, &entry);

	for (size_t i = 0; status == SHMETA_OK; i++) {
		fn(db, i, (uint8_t *)(uintptr_t)place.level[tree[db].levels - 1].page, (uint8_t *)(uintptr_t)entry.key);
		status = shmeta__tree_next(&pages, &tree[db], &place, &entry);
	}
	cr_assert_eq(status, SHMETA_END);
}

static void expect_found_out(enum shmeta_db db, size_t i, const char *what)
{
	const void *value;
	size_t bytes;

	cr_assert_eq(get(db, entries[db][i].key, entries[db][i].key_bytes, &value, &bytes), SHMETA_ERR_CORRUPT,
	             "%s: entry %zu of database %d", what, i, (int)db);
}

/* Still in its order, below or above what it was. */
static void damage_key(enum shmeta_db db, size_t i, uint8_t *leaf, uint8_t *key)
{
	size_t last = db == SHMETA_DB_NAMES ? entries[db][i].key_bytes - 1 : 0;

	(void)leaf;
	key[last] ^= 1;
	expect_found_out(db, i, "another key");
	key[last] ^= 1;
}

Test(tree, a_key_that_is_damaged_is_not_absent)
{
	each_entry(SHMETA_DB_NAMES, damage_key);
	each_entry(SHMETA_DB_PARTS, damage_key);
}

static uint8_t *leaves[ENTRIES_MAX];
static size_t first_of_leaf[ENTRIES_MAX + 1], leaf_count;

static void note_leaf(enum shmeta_db db, size_t i, uint8_t *leaf, uint8_t *key)
{
	(void)db;
	(void)key;
	if (leaf_count == 0 || leaves[leaf_count - 1] != leaf) {
		first_of_leaf[leaf_count] = i;
		leaves[leaf_count++] = leaf;
	}
	first_of_leaf[leaf_count] = i + 1;
}

/* Under its number: a page that was written in another's place. */
Test(tree, a_leaf_with_the_entries_of_another_makes_nothing_absent)
{
	static const enum shmeta_db dbs[] = {SHMETA_DB_NAMES, SHMETA_DB_PARTS};

	for (size_t d = 0; d < sizeof dbs / sizeof *dbs; d++) {
		leaf_count = 0;
		each_entry(dbs[d], note_leaf);
		cr_assert_geq(leaf_count, 5);
		for (size_t to = 1; to + 1 < leaf_count; to++)
			for (size_t from = 0; from < leaf_count; from += 1 + leaf_count / 9) {
				if (from == to)
					continue;
				memcpy(leaves[to] + 8, good + (leaves[from] - file) + 8, ONE_PAGE - 8);
				for (size_t i = first_of_leaf[to]; i < first_of_leaf[to + 1]; i++)
					expect_found_out(dbs[d], i, "another leaf");
				memcpy(leaves[to] + 8, good + (leaves[to] - file) + 8, ONE_PAGE - 8);
			}
	}
}

/* 0: a separator, 1: the number of a child, 2: one that is hidden. */
static void damage_branch(uint8_t *page, uint32_t i, unsigned int what, size_t bit)
{
	uint16_t at;

	memcpy(&at, page + 16 + 2 * i, sizeof at);
	if (what == 0)
		page[at + 12u + bit % 8] ^= 0x15;
	else if (what == 1)
		page[at] ^= (uint8_t)(1u << bit % 6);
	else
		page[12] = (uint8_t)(page[12] - 2);
}

Test(tree, a_separator_a_child_or_a_count_that_is_wrong_is_found_wherever_it_is)
{
	size_t wrong[3] = {0}, tried = 0;

	for (size_t page = 2; page < file_bytes / ONE_PAGE; page++) {
		uint8_t *p = file + page * ONE_PAGE;
		uint16_t flags, lower;

		memcpy(&flags, p + 10, sizeof flags);
		if (flags != 1)
			continue;
		memcpy(&lower, p + 12, sizeof lower);
		for (uint32_t i = 1; i < (lower - 16u) / 2; i += 40) {
			size_t bad = 0;

			damage_branch(p, i, (unsigned int)(tried % 3), tried / 3);
			seed = tried + 1;
			if (open_trees() == SHMETA_OK)
				for (size_t k = 0; k < sizeof looked_at / sizeof *looked_at; k++)
					bad += wrong_answers(looked_at[k]);
			wrong[tried % 3] += bad > 0;
			tried++;
			memcpy(p, good + page * ONE_PAGE, ONE_PAGE);
		}
	}
	cr_assert_gt(tried, 300);
	cr_assert_eq(wrong[0], 0);
	cr_assert_eq(wrong[2], 0);
	/* One bit away from the number of a page may be the same page as an earlier commit left it:
	 * it is whole, and fits. */
	cr_assert_leq(wrong[1], tried / 3 / 20, "%zu of %zu", wrong[1], tried / 3);
}
