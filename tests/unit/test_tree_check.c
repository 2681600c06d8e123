/* SPDX-License-Identifier: Apache-2.0
 * A data.mdb judged page by page: whatever LMDB leaves behind passes; what was damaged is found, or
 * shows what was written. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "shm/tree/tree_check.h"
#include "tests/support/random.h"
#include "tests/support/tree_rows.h"

enum { TOPICS = 300, ENTRIES_MAX = 4096, PAGES_MAX = 8192, ONE_PAGE = SHMETA_PAGE };
enum { BRANCH = 1, LEAF = 2, OWN = 4 }; /* flags of a page */

static struct fake_writer *w;
static uint8_t *file, *good;
static size_t file_bytes, page_count;
static bool used[PAGES_MAX];
static struct shmeta__tree_checked checked;
static struct shmeta_err err;

static void read_file(void)
{
	file_bytes = tree_read_file(w, &file, &good);
	page_count = file_bytes / ONE_PAGE;
	cr_assert_leq(page_count, PAGES_MAX);
}

static enum shmeta_status judge(void)
{
	err.text[0] = '\0';
	return shmeta__tree_check(file, file_bytes, &checked, &err);
}

/* ---- what LMDB leaves behind ---- */

/* Whatever was there: values that grow, shrink, move to pages of their own and back, and trees that
 * lose their entries. */
static void change(int i)
{
	static bool there[TOPICS];
	bool goes = there[i] && random_below(4) == 0;

	if (goes)
		tree_delete_topic(w, i);
	else
		tree_topic(w, i, random_below(5) == 0 ? random_below(2000) : random_below(4), i % 3 == 0);
	there[i] = !goes;
}

static void fill(void)
{
	for (int part = 0; part < 8; part++) {
		fake_begin(w);
		for (int i = part; i < TOPICS; i += 8)
			change(i);
		(void)fake_commit(w);
	}
}

static void set_up(void)
{
	w = fake_writer_new();
	fill();
	read_file();
	cr_assert_eq(judge(), SHMETA_OK, "%s", err.text);
	/* Those that are missed. */
	for (size_t page = 2; page < page_count; page++) {
		memset(file + page * ONE_PAGE, 0, ONE_PAGE);
		used[page] = judge() != SHMETA_OK;
		memcpy(file + page * ONE_PAGE, good + page * ONE_PAGE, ONE_PAGE);
	}
}

static void tear_down(void)
{
	free(file);
	free(good);
	fake_writer_free(w);
}

TestSuite(tree_check, .init = set_up, .fini = tear_down, .timeout = 120);

Test(tree_check, whatever_a_writer_leaves_behind_passes_and_is_counted)
{
	struct shmeta__store_usage usage;
	size_t largest_free = 0;

	for (int round = 0; round < 250; round++) {
		fake_begin(w);
		for (uint64_t n = random_below(round % 10 == 0 ? 200 : 5) + 1; n > 0; n--)
			change((int)random_below(TOPICS));
		(void)fake_commit(w);
		/* Pages are given back, and taken again, once nobody can be in what they held. */
		if (round % 20 == 0)
			fake_advance(w, 3000000000);
		read_file();
		cr_assert_eq(judge(), SHMETA_OK, "commit %d: %s", round, err.text);
		cr_assert_eq(shmeta__store_usage(w->store, &usage, &err), SHMETA_OK);
		cr_assert_eq(checked.txn, w->gen->committed);
		cr_assert_eq(checked.free_pages * ONE_PAGE, usage.free_bytes);
		for (int db = 0; db < SHMETA_DB_COUNT; db++)
			cr_assert_eq(checked.entries[db], usage.entries[db] + 1);
		cr_assert_leq(checked.used_pages + checked.free_pages + 2, checked.last_page + 1);
		if (checked.free_pages > largest_free)
			largest_free = checked.free_pages;
	}
	cr_assert_gt(largest_free, 600, "a free list whose entries have pages of their own: %zu", largest_free);
}

/* ---- single damages, and what is said of them ---- */

static uint16_t word16(const uint8_t *page, size_t at)
{
	uint16_t v;

	memcpy(&v, page + at, sizeof v);
	return v;
}

static size_t some_used(uint16_t flags)
{
	for (;;) {
		size_t page = 2 + random_below(page_count - 2);

		if (used[page] && word16(good + page * ONE_PAGE, 10) == flags)
			return page;
	}
}

static void found(const char *what, const char *sentence)
{
	cr_assert_eq(judge(), SHMETA_ERR_CORRUPT, "%s: was not found", what);
	cr_assert(strstr(err.text, sentence) != NULL, "%s: %s", what, err.text);
	memcpy(file, good, file_bytes);
}

static void put64(size_t at, uint64_t v)
{
	memcpy(file + at, &v, sizeof v);
}

/* Where the fields lie that LMDB goes by: docs/LAYOUT.md has no table of them,
 * shm/tree/tree_layout.h has. */
enum {
	META_FREE = 40,
	META_MAIN = 88,
	META_LAST_PAGE = 136,
	META_TXN = 144,
	DB_LEVELS = 6,
	DB_ENTRIES = 32,
	DB_ROOT = 40
};

static size_t newest(void)
{
	return checked.txn % 2 * ONE_PAGE;
}

Test(tree_check, a_meta_page_that_cannot_be_is_refused)
{
	size_t meta = newest();

	file[meta + 10] ^= 1;
	found("flags", "is no meta page");
	put64(meta + META_TXN, checked.txn + 1);
	found("the number of another page", "is not on its meta page");
	put64(meta + META_LAST_PAGE, page_count);
	found("more pages than there are", "cut off");
	put64(meta + META_LAST_PAGE, UINT64_MAX);
	found("as many pages as there can be", "cut off");
	put64(meta + META_MAIN + DB_ROOT, 0);
	found("a root that is a meta page", "in use twice");
	file[meta + META_MAIN + DB_LEVELS] ^= 64;
	found("levels", "levels");
	put64(meta + META_MAIN + DB_ENTRIES, 11);
	found("entries", "says it has 11");
	file[meta + META_FREE + 4] ^= 4;
	found("flags of the free list", "flags");
	put64(meta + META_FREE + DB_ROOT, some_used(LEAF));
	found("a free list that is another tree", "in use twice");
	file_bytes = ONE_PAGE;
	cr_assert_eq(judge(), SHMETA_ERR_CORRUPT);
	file_bytes = 0;
	cr_assert_eq(judge(), SHMETA_ERR_CORRUPT);
}

/* Where node i of a page of a tree begins. */
static size_t node(size_t page, size_t i)
{
	return page * ONE_PAGE + word16(good + page * ONE_PAGE, 16 + 2 * i);
}

static size_t nodes(size_t page)
{
	return (word16(good + page * ONE_PAGE, 12) - 16u) / 2;
}

Test(tree_check, no_page_is_used_twice)
{
	size_t branch = some_used(BRANCH);
	uint64_t own = UINT64_MAX;

	memcpy(file + node(branch, 1), file + node(branch, 0), 6);
	found("two ways to one page", "in use twice");
	put64(node(branch, 0), page_count);
	found("a way to no page", "does not exist");
	put64(node(branch, 0), branch | (uint64_t)word16(file + node(branch, 0), 6) << 48);
	found("a way to itself", "in use twice");
	/* A run that reaches into the next one is given back with it. */
	for (size_t i = 0; i < page_count && own == UINT64_MAX; i++) {
		size_t next = some_used(OWN);

		if (next + 1 < page_count && used[next + 1])
			own = next;
	}
	cr_assert_neq(own, UINT64_MAX);
	file[own * ONE_PAGE + 12]++;
	found("a run that reaches into another page", "");
	memset(file + own * ONE_PAGE + 12, 0xff, 4);
	found("a run that never ends", "own pages");
	memset(file + own * ONE_PAGE + 12, 0, 4);
	found("a run of nothing", "own pages");
}

/* The first page of the free list that holds its entries themselves. */
static size_t free_leaf(void)
{
	uint64_t root;

	memcpy(&root, good + newest() + META_FREE + DB_ROOT, sizeof root);
	cr_assert_eq(word16(good + root * ONE_PAGE, 10), LEAF);
	return root;
}

static uint64_t free_page(size_t value_at, uint64_t i)
{
	uint64_t page;

	memcpy(&page, good + value_at + 8 * i, sizeof page);
	return page;
}

Test(tree_check, the_free_list_gives_away_no_page_that_is_in_use)
{
	size_t leaf = free_leaf(), at = 0;
	uint64_t count, last;

	for (size_t i = 0; i < nodes(leaf) && at == 0; i++)
		if (word16(good, node(leaf, i) + 4) == 0)
			at = node(leaf, i) + 8 + 8; /* the value: a count, then pages */
	cr_assert_neq(at, 0);
	memcpy(&count, good + at, sizeof count);
	cr_assert_geq(count, 2);
	last = free_page(at, count);
	put64(at, count + 1);
	found("a count beyond the entry", "than fit their entry");
	put64(at, UINT64_MAX);
	found("a count beyond all", "than fit their entry");
	put64(at + 8, page_count);
	found("a page that does not exist", "does not exist");
	put64(at + 8, UINT64_MAX - 1);
	found("a page that cannot exist", "does not exist");
	put64(at + 8 * count, 1);
	found("a meta page", "is in use");
	put64(at + 8, last);
	found("pages out of order", "out of order");
	put64(node(leaf, nodes(leaf) - 1) + 8, checked.txn + 1);
	found("pages of a later commit", "by a commit that was not made");
	/* One of them becomes one that is in use, in its order. */
	for (uint64_t i = 1, before = checked.last_page + 1; i <= count; before = free_page(at, i++))
		for (uint64_t page = i < count ? free_page(at, i + 1) + 1 : 2; page < before; page++)
			if (used[page]) {
				put64(at + 8 * i, page);
				found("a page of a tree", "is in use");
				return;
			}
	cr_assert_fail("no page in use between the free ones");
}

Test(tree_check, nodes_fill_their_page_and_keys_are_in_order)
{
	for (int trial = 0; trial < 50; trial++) {
		size_t page = some_used(trial % 2 == 0 ? LEAF : BRANCH), at = page * ONE_PAGE;
		uint16_t a = word16(good + at, 16), b = word16(good + at, 18);

		if (nodes(page) < 3)
			continue;
		memcpy(file + at + 18, &a, sizeof a);
		found("one node twice", "fill it, or overlap");
		/* A branch's first key is never looked at, so two others. */
		a = word16(good + at, 20);
		memcpy(file + at + 18, &a, sizeof a);
		memcpy(file + at + 20, &b, sizeof b);
		found("two nodes in each other's place", "");
		file[at + 12] = (uint8_t)(file[at + 12] - 2);
		found("a node that is hidden", "fill it, or overlap");
		file[at + 8 + 6] ^= 2;
		found("an upper end that is not", "");
	}
}

static uint64_t word64(size_t at)
{
	uint64_t v;

	memcpy(&v, good + at, sizeof v);
	return v;
}

static uint64_t key(size_t page, size_t i)
{
	return word64(node(page, i) + 8);
}

/* A page of a database whose keys are numbers. */
static bool has_numbers(size_t page, uint16_t flags)
{
	if (!used[page] || word16(good + page * ONE_PAGE, 10) != flags || nodes(page) < 2)
		return false;
	for (size_t i = flags == BRANCH; i < nodes(page); i++)
		if (word16(good, node(page, i) + 6) != sizeof(uint64_t))
			return false;
	return true;
}

Test(tree_check, keys_lie_between_the_separators_above_them)
{
	size_t tried = 0;

	for (size_t page = 2; page < page_count; page++) {
		uint64_t left, right;

		if (!has_numbers(page, BRANCH))
			continue;
		left = word64(node(page, 0)) & 0xffffffff;
		right = word64(node(page, 1)) & 0xffffffff;
		if (!has_numbers(left, LEAF) || !has_numbers(right, LEAF))
			continue;
		tried++;
		put64(node(page, 1) + 8, key(left, nodes(left) - 1));
		found("a key behind its separator", "belong elsewhere");
		put64(node(page, 1) + 8, key(right, 0) + 1);
		found("a key before its separator", "belong elsewhere");
	}
	cr_assert_gt(tried, 0);
}

Test(tree_check, a_sentinel_is_missed)
{
	size_t tried = 0;

	for (size_t page = 2; page < page_count; page++) {
		if (!has_numbers(page, LEAF) || key(page, 0) != SHMETA_SENTINEL_NUMBER ||
		    key(page, 1) <= SHMETA_SENTINEL_NUMBER + 1)
			continue;
		tried++;
		put64(node(page, 0) + 8, SHMETA_SENTINEL_NUMBER + 1);
		found("another first key", "the sentinel is lost");
	}
	cr_assert_geq(tried, 2, "of partitions and of leases");
}

/* LMDB ends the process over it. */
Test(tree_check, a_branch_leads_to_two_pages_at_least)
{
	size_t page = some_used(BRANCH), bytes = (8u + word16(good, node(page, 0) + 6) + 1) & ~1u;
	uint16_t lower = 16 + 2, upper = (uint16_t)(ONE_PAGE - bytes);

	memcpy(file + page * ONE_PAGE + upper, good + node(page, 0), bytes);
	memcpy(file + page * ONE_PAGE + 12, &lower, sizeof lower);
	memcpy(file + page * ONE_PAGE + 14, &upper, sizeof upper);
	memcpy(file + page * ONE_PAGE + 16, &upper, sizeof upper);
	found("a branch to one page", "single page");
}

Test(tree_check, a_page_in_place_of_another_is_found)
{
	for (int trial = 0; trial < 300; trial++) {
		size_t to = 2 + random_below(page_count - 2), from = random_below(page_count);

		if (!used[to] || memcmp(good + to * ONE_PAGE, good + from * ONE_PAGE, ONE_PAGE) == 0)
			continue;
		memcpy(file + to * ONE_PAGE, good + from * ONE_PAGE, ONE_PAGE);
		found("a page in place of another", "");
	}
}

/* ---- many damages: found, or without effect ---- */

static struct {
	uint8_t *bytes;
	size_t size, room;
} shown, shown_good;

static void append(const void *bytes, size_t n)
{
	if (shown.size + n > shown.room) {
		shown.room = 2 * (shown.room + n);
		shown.bytes = realloc(shown.bytes, shown.room);
		cr_assert_not_null(shown.bytes);
	}
	memcpy(shown.bytes + shown.size, bytes, n);
	shown.size += n;
}

/* All that a walk shows of the databases whose records carry checksums. */
static void show(void)
{
	static const struct {
		enum shmeta_db db;
		bool integer;
	} all[] = {{SHMETA_DB_NAMES, false}, {SHMETA_DB_PARTS, true},   {SHMETA_DB_BLOCKS, true},
	           {SHMETA_DB_LEASES, true}, {SHMETA_DB_GROUPS, false}, {SHMETA_DB_OFFSETS, false}};
	static const uint64_t number = SHMETA_SENTINEL_NUMBER;
	struct shmeta__tree_place place;
	struct shmeta__tree_entry entry;
	struct shmeta__tree_meta meta;
	struct shmeta__pages pages;
	struct shmeta__tree tree;

	shown.size = 0;
	cr_assert_eq(shmeta__tree_read_meta(file, checked.txn, &meta, NULL, &err), SHMETA_OK);
	pages = (struct shmeta__pages){.base = file, .bytes = (meta.last_page + 1) * ONE_PAGE, .page_bytes = ONE_PAGE};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		enum shmeta_status status;

		cr_assert_eq(shmeta__tree_open(&pages, &meta.databases, all[i].db, &tree), SHMETA_OK);
		status = all[i].integer ? shmeta__tree_seek(&pages, &tree, &number, sizeof number, &place, &entry)
		                        : shmeta__tree_seek(&pages, &tree, SHMETA_SENTINEL_KEY, SHMETA_SENTINEL_BYTES,
		                                            &place, &entry);
		/* Of a sentinel only the beginning counts. */
		if (status == SHMETA_OK)
			status = shmeta__tree_next(&pages, &tree, &place, &entry);
		for (; status == SHMETA_OK; status = shmeta__tree_next(&pages, &tree, &place, &entry)) {
			append(entry.key, entry.key_bytes);
			append(entry.value, entry.bytes);
		}
		cr_assert_eq(status, SHMETA_END);
	}
}

enum how { BIT, BYTE, SIXTEEN, NOISE, ZERO, META, HOWS };

static void damage(enum how how)
{
	uint8_t *at = file + random_below(file_bytes - 16);
	size_t bytes = 16;

	if (how == BIT) {
		*at ^= (uint8_t)(1u << random_below(8));
		return;
	}
	if (how == NOISE || how == ZERO) {
		at = file + random_below(page_count) * ONE_PAGE;
		bytes = ONE_PAGE;
	} else if (how == META) {
		at = file + newest() + random_below(152);
		bytes = 1;
	} else if (how == BYTE) {
		bytes = 1;
	}
	for (size_t i = 0; i < bytes; i++)
		at[i] = how == ZERO ? 0 : (uint8_t)random_below(256);
}

Test(tree_check, what_passes_shows_what_was_written)
{
	enum { TRIALS = 250 };
	size_t passed[HOWS] = {0};

	show();
	shown_good.bytes = malloc(shown.size);
	shown_good.size = shown.size;
	cr_assert_not_null(shown_good.bytes);
	memcpy(shown_good.bytes, shown.bytes, shown.size);
	for (int trial = 0; trial < HOWS * TRIALS; trial++) {
		enum how how = (enum how)(trial % HOWS);

		random_begin((uint64_t)trial);
		damage(how);
		if (judge() == SHMETA_OK) {
			passed[how]++;
			show();
			cr_assert(shown.size == shown_good.size &&
			                  memcmp(shown.bytes, shown_good.bytes, shown.size) == 0,
			          "trial %d passed and shows something else", trial);
		}
		memcpy(file, good, file_bytes);
	}
	/* Damage that has no effect: pages that are free, gaps within pages. */
	for (int how = 0; how < HOWS; how++)
		cr_assert(passed[how] > 0 && passed[how] < TRIALS, "of %d damages of kind %d %zu passed", TRIALS, how,
		          passed[how]);
	free(shown.bytes);
	free(shown_good.bytes);
}
