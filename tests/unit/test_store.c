/* SPDX-License-Identifier: Apache-2.0
 * Generations of the store: what is made and opened and refused, what a transaction promises, in
 * which order a commit becomes visible, which snapshots survive, what is left when something
 * fails. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/store/store_inspect.h"
#include "shm/store/store_private.h"
#include "tests/support/instance_dir.h"

static const uint64_t second = 1000000000u;
enum { MAX_BYTES = 16 << 20 };

/* ---- fixture: an instance directory, a clock that stands still ---- */

static struct instance_dir dir;
static uint64_t now_ns = 1000000000000u;
static struct shmeta_err err;

static uint64_t clock_ns(void *arg)
{
	(void)arg;
	return now_ns;
}

static void setup(void)
{
	instance_dir_make(&dir);
}
static void teardown(void)
{
	instance_dir_remove(&dir);
}

TestSuite(store, .init = setup, .fini = teardown, .timeout = 60);
TestSuite(ladder, .init = setup, .fini = teardown, .timeout = 60);

#define OK(call)                                                                               \
	do {                                                                                   \
		enum shmeta_status status_ = (call);                                           \
		cr_assert_eq(status_, SHMETA_OK, "%s: %d: %s", #call, (int)status_, err.text); \
	} while (0)
#define FAILS(call, wanted, words)                                                                        \
	do {                                                                                              \
		err.text[0] = 0;                                                                          \
		cr_assert_eq(call, wanted, "%s: %s", #call, err.text);                                    \
		cr_assert_not_null(strstr(err.text, words), "'%s' in the sentence: %s", words, err.text); \
	} while (0)

static struct shmeta__store *create_sized(uint64_t number, uint64_t max_bytes)
{
	struct shmeta_store_format format = {.writer_version = 1, .fingerprint = 42, .source = "sqlite:/x.db"};
	struct shmeta__store *store = NULL;

	OK(shmeta__store_create(dir.fd, number, max_bytes, second, &format, &store, &err));
	shmeta__store_set_clock(store, clock_ns, NULL);
	store->proxy[0].taken_at_ns = now_ns;
	return store;
}
static struct shmeta__store *create(uint64_t number)
{
	return create_sized(number, MAX_BYTES);
}

static struct shmeta__txn *begin_pinned(struct shmeta__store *store, uint64_t pin)
{
	struct shmeta__txn *txn = NULL;

	OK(shmeta__txn_begin(store, pin, &txn, &err));
	return txn;
}
static struct shmeta__txn *begin(struct shmeta__store *store)
{
	return begin_pinned(store, UINT64_MAX);
}
static uint64_t commit(struct shmeta__txn *txn)
{
	uint64_t number = 0;

	OK(shmeta__txn_commit(txn, &number, &err));
	return number;
}
static void put(struct shmeta__txn *txn, uint64_t key, const void *value, size_t bytes)
{
	OK(shmeta__put(txn, SHMETA_DB_LEASES, &key, sizeof key, value, bytes, &err));
}
static bool has(struct shmeta__store *store, uint64_t key, const void *value, size_t bytes)
{
	struct shmeta__txn *txn;
	const void *v;
	size_t n;
	bool same;

	OK(shmeta__txn_read(store, &txn, &err));
	same = shmeta__get(txn, SHMETA_DB_LEASES, &key, sizeof key, &v, &n, &err) == SHMETA_OK && n == bytes &&
	       memcmp(v, value, n) == 0;
	shmeta__txn_abort(txn);
	return same;
}

static void path_of(char (*ret_path)[160], uint64_t number, const char *file)
{
	instance_dir_path(&dir, ret_path, number, file);
}

/* ---- faults: this program stands before libc and liblmdb for these functions ---- */

#define EXPORTED __attribute__((visibility("default"))) /* or liblmdb would not see them */

static int fail_meta_writes; /* how many writes of a meta page shall fail from now on */
static const char *claimed_version;

static ssize_t real_pwrite(int fd, const void *data, size_t bytes, off_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off_t);

	if (real == NULL)
		real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
	return real(fd, data, bytes, at);
}

static ssize_t write_or_fail(int fd, const void *data, size_t bytes, off_t at)
{
	/* LMDB writes a meta page without its first 40 bytes; the second write puts the old one
	 * back. */
	if (fail_meta_writes > 0 && at < 2 * SHMETA_PAGE && bytes < 200) {
		fail_meta_writes--;
		errno = ENOSPC;
		return -1;
	}
	return real_pwrite(fd, data, bytes, at);
}

EXPORTED ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
	return write_or_fail(fd, data, bytes, at);
}
EXPORTED ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at)
{
	return write_or_fail(fd, data, bytes, at);
}

char *mdb_version(int *major, int *minor, int *patch)
{
	static char *(*real)(int *, int *, int *);
	static char text[64];
	int v[3];

	if (real == NULL)
		real = (char *(*)(int *, int *, int *))dlsym(RTLD_NEXT, "mdb_version");
	if (claimed_version == NULL)
		return real(major, minor, patch);
	cr_assert_eq(sscanf(claimed_version, "%d.%d.%d", &v[0], &v[1], &v[2]), 3);
	(void)snprintf(text, sizeof text, "LMDB %s", claimed_version);
	if (major != NULL) {
		*major = v[0];
		*minor = v[1];
		*patch = v[2];
	}
	return text;
}

/* ---- create and open ---- */

static void check_mode(const char *file, mode_t mode, bool allocated)
{
	char path[160];
	struct stat st;

	path_of(&path, 1, file);
	cr_assert_eq(lstat(path, &st), 0, "%s", path);
	cr_assert_eq(st.st_mode & 07777, mode, "%s has mode %o", path, st.st_mode & 07777);
	if (allocated)
		cr_assert_geq(st.st_blocks * 512, st.st_size, "%s is sparse", path);
}

Test(store, a_new_generation_has_its_files_modes_and_allocation_whatever_the_umask)
{
	static const mode_t masks[] = {0, 022, 077, 0777};

	for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
		mode_t old = umask(masks[i] & ~(mode_t)0700);
		struct shmeta__store *store = create(1);

		(void)umask(old);
		check_mode("", 02750, false);
		check_mode("data.mdb", 0640, false);
		check_mode("lock.mdb", 0600, true);
		check_mode("generation", 0640, true);
		shmeta__store_close(store);
		OK(shmeta__store_remove(dir.fd, 1, &err));
	}
}

Test(store, a_new_generation_is_empty_signed_and_at_its_first_commit)
{
	struct shmeta__store *store = create(7);
	struct shmeta_generation *gen = shmeta__store_generation(store);
	struct shmeta__store_usage usage;
	uint64_t dev, ino;
	char path[160];
	struct stat st;

	OK(shmeta__generation_check(gen, SHMETA_GENERATION_BYTES, &err));
	cr_assert_eq(gen->generation, 7);
	cr_assert_eq(gen->max_bytes, MAX_BYTES);
	cr_assert_eq(gen->grace_ns, second);
	cr_assert(gen->committed == 1 && gen->committing == 1 && gen->commit_futex == 1 && gen->retired == 0);
	cr_assert_eq(shmeta__store_number(store), 7);
	cr_assert_eq(shmeta__store_counters(store)->next_topic_id, 1);
	cr_assert_eq(shmeta__store_counters(store)->next_block_id, 1);
	cr_assert_eq(shmeta__store_format(store)->fingerprint, 42);
	cr_assert_eq(shmeta__store_format(store)->format, SHMETA_STORE_FORMAT);
	OK(shmeta__store_usage(store, &usage, &err));
	for (int db = 1; db < SHMETA_DB_COUNT; db++)
		cr_assert_eq(usage.entries[db], 0);
	shmeta__store_inode(store, &dev, &ino);
	path_of(&path, 7, "data.mdb");
	cr_assert(stat(path, &st) == 0 && st.st_dev == dev && st.st_ino == ino);
	shmeta__store_close(store);
}

Test(store, what_was_committed_is_there_after_opening_again)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store);
	uint64_t number;

	put(txn, 5, "five", 4);
	shmeta__store_counters(store)->next_topic_id = 77;
	shmeta__store_counters(store)->topics = 3;
	number = commit(txn);
	shmeta__store_close(store);
	OK(shmeta__store_open(dir.fd, 1, &store, &err));
	cr_assert(has(store, 5, "five", 4));
	cr_assert_eq(shmeta__store_counters(store)->next_topic_id, 77);
	cr_assert_eq(shmeta__store_counters(store)->topics, 3);
	cr_assert_str_eq(shmeta__store_format(store)->source, "sqlite:/x.db");
	cr_assert(store->gen->committed == number && store->gen->committing == number);
	cr_assert_eq(store->max_bytes, MAX_BYTES);
	txn = begin(store);
	cr_assert_eq(shmeta__txn_number(txn), number + 1);
	shmeta__txn_abort(txn);
	shmeta__store_close(store);
}

Test(store, creating_over_something_is_refused_and_leaves_it_alone)
{
	struct shmeta__store *store = create(1), *other = NULL;
	struct shmeta_store_format format = {0};
	struct shmeta__txn *txn = begin(store);

	put(txn, 1, "x", 1);
	(void)commit(txn);
	FAILS(shmeta__store_create(dir.fd, 1, MAX_BYTES, second, &format, &other, &err), SHMETA_ERR_SYSTEM, "store.1");
	cr_assert(has(store, 1, "x", 1));
	shmeta__store_close(store);
	OK(shmeta__store_open(dir.fd, 1, &store, &err));
	cr_assert(has(store, 1, "x", 1));
	shmeta__store_close(store);
}

Test(store, impossible_sizes_and_numbers_are_refused_with_a_sentence)
{
	struct shmeta_store_format format = {0};
	struct shmeta__store *store = NULL;

	FAILS(shmeta__store_create(dir.fd, 0, MAX_BYTES, second, &format, &store, &err), SHMETA_ERR_INVALID_ARGUMENT,
	      "from 1");
	FAILS(shmeta__store_create(dir.fd, 1, 4096, second, &format, &store, &err), SHMETA_ERR_INVALID_ARGUMENT,
	      "max_bytes");
	FAILS(shmeta__store_create(dir.fd, 1, UINT64_MAX, second, &format, &store, &err), SHMETA_ERR_INVALID_ARGUMENT,
	      "max_bytes");
	cr_assert_null(store);
}

Test(store, liblmdb_versions_that_lose_their_locks_or_lay_out_files_otherwise_are_refused)
{
	static const struct {
		const char *version;
		bool good;
	} versions[] = {{"0.9.24", true}, {"0.9.25", true}, {"0.9.26", false}, {"0.9.29", false}, {"0.9.31", false},
	                {"0.9.32", true}, {"0.9.33", true}, {"0.9.70", false}, {"0.9.90", false}, {"1.0.0", false}};
	struct shmeta_store_format format = {0};

	for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
		struct shmeta__store *store = NULL;
		enum shmeta_status status;
		char path[160];

		claimed_version = versions[i].version;
		status = shmeta__store_create(dir.fd, 1, MAX_BYTES, second, &format, &store, &err);
		cr_assert_eq(status, versions[i].good ? SHMETA_OK : SHMETA_ERR_VERSION, "%s: %s", versions[i].version,
		             err.text);
		if (!versions[i].good)
			cr_assert_not_null(strstr(err.text, versions[i].version), "%s", err.text);
		shmeta__store_close(store);
		OK(shmeta__store_remove(dir.fd, 1, &err));
		path_of(&path, 1, "");
		cr_assert(access(path, F_OK) < 0);
	}
}

/* A database of the closed generation 1, behind the store's back. */
static MDB_txn *open_behind(enum shmeta_db db, MDB_env **ret_env, MDB_dbi *ret_dbi)
{
	MDB_txn *txn;
	char path[160];

	path_of(&path, 1, "");
	cr_assert_eq(mdb_env_create(ret_env), 0);
	cr_assert_eq(mdb_env_set_maxdbs(*ret_env, SHMETA_DB_COUNT), 0);
	cr_assert_eq(mdb_env_open(*ret_env, path, MDB_NOSYNC, 0600), 0);
	cr_assert_eq(mdb_txn_begin(*ret_env, NULL, 0, &txn), 0);
	cr_assert_eq(mdb_dbi_open(txn, store_db_name(db), store_db_integer(db) ? MDB_INTEGERKEY : 0, ret_dbi), 0);
	return txn;
}

static void drop(enum shmeta_db db)
{
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn = open_behind(db, &env, &dbi);

	cr_assert_eq(mdb_drop(txn, dbi, 1), 0);
	cr_assert_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

/* Change a record. value NULL: delete it. */
static void tamper(enum shmeta_db db, const void *key, size_t key_bytes, const void *value, size_t bytes)
{
	MDB_val k = {key_bytes, (void *)(uintptr_t)key}, v = {bytes, (void *)(uintptr_t)value};
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn = open_behind(db, &env, &dbi);

	cr_assert_eq(value == NULL ? mdb_del(txn, dbi, &k, NULL) : mdb_put(txn, dbi, &k, &v, 0), 0);
	cr_assert_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

Test(store, another_format_is_refused_naming_both_and_what_to_do)
{
	struct shmeta__store *store = create(1);
	struct shmeta_store_format format = store->format;
	uint8_t longer[2 * sizeof(struct shmeta_store_format)] = {0};

	shmeta__store_close(store);
	format.format = SHMETA_STORE_FORMAT + 1;
	tamper(SHMETA_DB_META, "format", 6, &format, sizeof format);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_VERSION, "format 5");
	cr_assert_not_null(strstr(err.text, "writes format 4"), "%s", err.text);
	cr_assert_not_null(strstr(err.text, "remove"), "%s", err.text);
	/* A future format may have another size; its number still comes first. */
	memcpy(longer, &format, sizeof format);
	tamper(SHMETA_DB_META, "format", 6, longer, sizeof longer);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_VERSION, "format 5");
	format.format = SHMETA_STORE_FORMAT;
	memcpy(longer, &format, sizeof format);
	tamper(SHMETA_DB_META, "format", 6, longer, sizeof longer);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "format record");
}

Test(store, a_format_with_other_databases_is_another_format_and_not_a_broken_store)
{
	struct shmeta__store *store = create(1);
	struct shmeta_store_format format = store->format;

	shmeta__store_close(store);
	format.format = SHMETA_STORE_FORMAT - 1;
	tamper(SHMETA_DB_META, "format", 6, &format, sizeof format);
	drop(SHMETA_DB_QUARANTINE);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_VERSION, "format 3");
	format.format = SHMETA_STORE_FORMAT;
	tamper(SHMETA_DB_META, "format", 6, &format, sizeof format);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "quarantine");
}

Test(store, a_missing_sentinel_in_any_database_is_broken_not_empty)
{
	for (int db = 0; db < SHMETA_DB_COUNT; db++) {
		struct shmeta__store *store = create(1);
		MDB_val sentinel = store_sentinel((enum shmeta_db)db);

		shmeta__store_close(store);
		tamper((enum shmeta_db)db, sentinel.mv_data, sentinel.mv_size, NULL, 0);
		FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "sentinel");
		cr_assert_not_null(strstr(err.text, store_db_name((enum shmeta_db)db)), "%s", err.text);
		OK(shmeta__store_remove(dir.fd, 1, &err));
	}
}

Test(store, an_lmdb_environment_of_somebody_else_is_refused)
{
	struct shmeta__store *store = create(1);
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	char path[160];

	shmeta__store_close(store);
	path_of(&path, 1, "data.mdb");
	cr_assert_eq(unlink(path), 0);
	path_of(&path, 1, "");
	cr_assert_eq(mdb_env_create(&env), 0);
	cr_assert_eq(mdb_env_set_maxdbs(env, 4), 0);
	cr_assert_eq(mdb_env_open(env, path, MDB_NOSYNC, 0600), 0);
	cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
	cr_assert_eq(mdb_dbi_open(txn, "theirs", MDB_CREATE, &dbi), 0);
	cr_assert_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "not a shmeta store");
}

static void overwrite(const char *file, int64_t at, const void *bytes, size_t count)
{
	instance_dir_overwrite(&dir, 1, file, at, bytes, count);
}

Test(store, garbage_where_the_data_or_the_page_should_be_is_refused)
{
	struct shmeta__store *store = create(1);
	char path[160], garbage[2 * SHMETA_PAGE];
	uint64_t number = 2;

	shmeta__store_close(store);
	overwrite("generation", offsetof(struct shmeta_generation, generation), &number, sizeof number);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "generation 2");
	number = 1;
	overwrite("generation", offsetof(struct shmeta_generation, generation), &number, sizeof number);
	overwrite("generation", 0, "\0\0\0\0\0\0\0\0", 8); /* making it was cut off */
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "");
	overwrite("generation", 0, "SHMGENER", 8);
	OK(shmeta__store_open(dir.fd, 1, &store, &err));
	shmeta__store_close(store);
	number = 99; /* the page is ahead of the data */
	overwrite("generation", offsetof(struct shmeta_generation, committed), &number, sizeof number);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "rolled back");
	path_of(&path, 1, "generation");
	cr_assert_eq(truncate(path, 4096), 0);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "4096");
	cr_assert_eq(unlink(path), 0);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "generation page");
	OK(shmeta__store_remove(dir.fd, 1, &err));
	store = create(1);
	shmeta__store_close(store);
	memset(garbage, 0xa5, sizeof garbage);
	overwrite("data.mdb", 0, garbage, sizeof garbage);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "data.mdb");
	path_of(&path, 1, "data.mdb");
	cr_assert_eq(unlink(path), 0);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_NOT_RUNNING, "data.mdb");
	FAILS(shmeta__store_open(dir.fd, 5, &store, &err), SHMETA_ERR_NOT_RUNNING, "store.5");
}

Test(store, links_in_the_place_of_directory_or_data_are_not_followed)
{
	struct shmeta__store *store = create(1);
	char path[160], target[200];

	shmeta__store_close(store);
	path_of(&path, 2, "");
	cr_assert_eq(symlink("store.1", path), 0);
	cr_assert_eq(shmeta__store_open(dir.fd, 2, &store, &err), SHMETA_ERR_SYSTEM);
	cr_assert_eq(shmeta__store_remove(dir.fd, 2, &err), SHMETA_ERR_SYSTEM);
	path_of(&path, 1, "data.mdb");
	(void)snprintf(target, sizeof target, "%s/elsewhere", dir.path);
	cr_assert_eq(rename(path, target), 0);
	cr_assert_eq(symlink(target, path), 0);
	FAILS(shmeta__store_open(dir.fd, 1, &store, &err), SHMETA_ERR_CORRUPT, "regular file");
}

Test(store, removing_takes_all_files_and_leaves_open_maps_whole)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store);
	char path[160];

	put(txn, 1, "still here", 10);
	(void)commit(txn);
	OK(shmeta__store_remove(dir.fd, 1, &err));
	path_of(&path, 1, "");
	cr_assert(access(path, F_OK) < 0);
	cr_assert(has(store, 1, "still here", 10));
	shmeta__store_close(store);
	OK(shmeta__store_remove(dir.fd, 1, &err)); /* nothing there is fine */
}

/* ---- transactions ---- */

Test(store, an_aborted_transaction_leaves_rows_counters_and_words_as_they_were)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store);
	struct shmeta__pager pager;
	uint64_t id, locator, first;
	void *block;

	put(txn, 1, "old", 3);
	first = commit(txn);
	txn = begin(store);
	put(txn, 1, "new", 3);
	put(txn, 2, "two", 3);
	shmeta__touch(txn, 9);
	shmeta__touch_class(txn, SHMETA_CLASS_LEASE);
	shmeta__store_counters(store)->next_topic_id = 1000;
	pager = shmeta__txn_pager(txn);
	OK(pager.alloc(pager.arg, SHMETA_BLOCK_BYTES, &id, &locator, &block));
	shmeta__txn_abort(txn);
	cr_assert(has(store, 1, "old", 3));
	cr_assert(!has(store, 2, "two", 3));
	cr_assert_eq(shmeta__store_counters(store)->next_topic_id, 1);
	cr_assert_eq(shmeta__store_counters(store)->next_block_id, 1);
	cr_assert_eq(store->touched[9], 0);
	cr_assert(store->gen->committed == first && store->gen->committing == first);
	/* What it announced does not stick to the next one. */
	txn = begin(store);
	put(txn, 3, "three", 5);
	(void)commit(txn);
	cr_assert_eq(store->touched[9], 0);
	cr_assert_eq(store->gen->stamp[SHMETA_CLASS_LEASE].changed_txn, 0);
	shmeta__txn_abort(NULL);
	shmeta__store_close(store);
}

Test(store, a_transaction_without_changes_answers_the_last_commit_and_publishes_nothing)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store);
	uint64_t key = 8, number;

	put(txn, 1, "x", 1);
	number = commit(txn);
	txn = begin(store);
	shmeta__touch(txn, 4);
	shmeta__touch_class(txn, SHMETA_CLASS_TOPIC);
	cr_assert_eq(shmeta__delete(txn, SHMETA_DB_LEASES, &key, sizeof key, &err), SHMETA_ABSENT);
	cr_assert_eq(commit(txn), number);
	cr_assert(store->gen->committed == number && store->gen->committing == number);
	cr_assert_eq(store->touched[4], 0);
	txn = begin(store);
	cr_assert_eq(shmeta__txn_number(txn), number + 1);
	shmeta__store_counters(store)->topics = 5; /* counters alone are a change */
	cr_assert_eq(commit(txn), number + 1);
	shmeta__store_close(store);
}

struct seen {
	struct shmeta__store *store;
	int steps;
	bool good;
};

/* At each step of a commit: what may be visible, and what must not be yet. */
static void look(void *arg, const char *where)
{
	static const char *const order[] = {"touched", "committing", "written", "committed"};
	struct seen *seen = arg;
	struct shmeta_generation *gen = seen->store->gen;
	MDB_envinfo info;
	uint64_t n;

	(void)mdb_env_info(seen->store->env, &info);
	n = seen->steps < 2 ? info.me_last_txnid + 1 : info.me_last_txnid;
	seen->good =
		seen->good && seen->steps < 4 && strcmp(where, order[seen->steps]) == 0 &&
		seen->store->touched[3] == n && seen->store->touched[131071] == n && seen->store->touched[4] == 0 &&
		gen->stamp[SHMETA_CLASS_PARTITION].changed_txn == n &&
		gen->committing == (seen->steps >= 1 ? n : n - 1) && gen->committed == (seen->steps >= 3 ? n : n - 1) &&
		gen->commit_futex == (uint32_t)(seen->steps >= 3 ? n : n - 1) && gen->committed <= info.me_last_txnid;
	seen->steps++;
}

Test(store, a_commit_shows_touched_words_then_committing_then_the_data_then_committed)
{
	struct shmeta__store *store = create(1);
	struct seen seen = {.store = store, .good = true};

	for (int i = 0; i < 5; i++) {
		struct shmeta__txn *txn = begin(store);

		put(txn, 1, &i, sizeof i);
		shmeta__touch(txn, 3);
		shmeta__touch(txn, 131071);
		shmeta__touch(txn, 3);
		shmeta__touch_class(txn, SHMETA_CLASS_PARTITION);
		seen.steps = 0;
		store->step = look;
		store->step_arg = &seen;
		(void)commit(txn);
		cr_assert(seen.good && seen.steps == 4, "commit %d, step %d", i, seen.steps);
	}
	store->step = NULL;
	shmeta__store_close(store);
}

static void die_at(void *arg, const char *where)
{
	if (strcmp(where, arg) == 0)
		(void)kill(getpid(), SIGKILL);
}

Test(store, a_writer_killed_at_any_step_of_a_commit_leaves_the_old_state_or_the_new_one)
{
	static const struct {
		const char *step;
		bool kept;
	} deaths[] = {{"touched", false}, {"committing", false}, {"written", true}, {"committed", true}};

	for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
		struct shmeta__store *store = create(1);
		struct shmeta__txn *txn = begin(store);
		uint64_t before;
		pid_t pid;
		int status;

		put(txn, 1, "old", 3);
		before = commit(txn);
		shmeta__store_close(store);
		pid = fork();
		if (pid == 0) {
			uint64_t key = 1, number;

			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (shmeta__store_open(dir.fd, 1, &store, NULL) != SHMETA_OK ||
			    shmeta__txn_begin(store, UINT64_MAX, &txn, NULL) != SHMETA_OK ||
			    shmeta__put(txn, SHMETA_DB_LEASES, &key, sizeof key, "new", 3, NULL) != SHMETA_OK)
				_exit(1);
			store->step = die_at;
			store->step_arg = (void *)(uintptr_t)deaths[i].step;
			(void)shmeta__txn_commit(txn, &number, NULL);
			_exit(2);
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s: status %x", deaths[i].step, status);
		OK(shmeta__store_open(dir.fd, 1, &store, &err));
		cr_assert(has(store, 1, deaths[i].kept ? "new" : "old", 3), "%s", deaths[i].step);
		cr_assert_eq(store->gen->committed, before + deaths[i].kept, "%s", deaths[i].step);
		cr_assert_geq(store->gen->committing, store->gen->committed);
		txn = begin(store);
		put(txn, 2, "on", 2);
		cr_assert_eq(commit(txn), before + deaths[i].kept + 1);
		shmeta__store_close(store);
		OK(shmeta__store_remove(dir.fd, 1, &err));
	}
}

Test(store, only_one_write_transaction_at_a_time_and_none_of_the_wrong_kind)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store), *other = NULL;
	uint64_t key = 1, number;

	FAILS(shmeta__txn_begin(store, UINT64_MAX, &other, &err), SHMETA_ERR_BUSY, "open already");
	FAILS(shmeta__store_copy(store, dir.fd, 2, 0, NULL, &err), SHMETA_ERR_BUSY, "open");
	put(txn, 1, "x", 1);
	FAILS(shmeta__put(txn, SHMETA_DB_LEASES, "four", 4, "x", 1, &err), SHMETA_ERR_INVALID_ARGUMENT, "4 bytes");
	FAILS(shmeta__put(txn, SHMETA_DB_NAMES, "", 0, "x", 1, &err), SHMETA_ERR_INVALID_ARGUMENT, "0 bytes");
	(void)commit(txn); /* a refused argument changes nothing and breaks nothing */
	OK(shmeta__txn_read(store, &txn, &err));
	FAILS(shmeta__put(txn, SHMETA_DB_LEASES, &key, 8, "y", 1, &err), SHMETA_ERR_INVALID_ARGUMENT, "read");
	FAILS(shmeta__txn_commit(txn, &number, &err), SHMETA_ERR_INVALID_ARGUMENT, "read");
	shmeta__store_close(store);
}

Test(store, cursors_walk_in_key_order_from_any_key_and_never_show_the_sentinel)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store);
	struct shmeta__cursor *cursor;
	const void *key, *value;
	size_t key_bytes, bytes;
	uint64_t from = 40, seen = 0, n = 0;

	for (uint64_t k = 1; k <= 100; k++)
		/* 1..100 in some order */
		put(txn, k * 7919 % 101, &k, sizeof k);
	/* within the transaction that wrote */
	OK(shmeta__cursor_open(txn, SHMETA_DB_LEASES, NULL, 0, &cursor, &err));
	while (shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &err) == SHMETA_OK) {
		uint64_t k;

		cr_assert_eq(key_bytes, sizeof k);
		memcpy(&k, key, sizeof k);
		cr_assert_eq(k, ++seen);
	}
	cr_assert_eq(seen, 100);
	cr_assert_eq(shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &err), SHMETA_END);
	shmeta__cursor_close(cursor);
	(void)commit(txn);
	OK(shmeta__txn_read(store, &txn, &err));
	OK(shmeta__cursor_open(txn, SHMETA_DB_LEASES, &from, sizeof from, &cursor, &err));
	while (shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &err) == SHMETA_OK) {
		uint64_t k;

		memcpy(&k, key, sizeof k);
		cr_assert_eq(k, from + n++);
	}
	cr_assert_eq(n, 61);
	shmeta__cursor_close(cursor);
	for (int db = 1; db < SHMETA_DB_COUNT; db++) {
		if (db == SHMETA_DB_LEASES)
			continue;
		OK(shmeta__cursor_open(txn, (enum shmeta_db)db, NULL, 0, &cursor, &err));
		cr_assert_eq(shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, &err), SHMETA_END);
		shmeta__cursor_close(cursor);
	}
	shmeta__txn_abort(txn);
	shmeta__store_close(store);
}

Test(store, tenants_get_numbers_from_1_that_stay)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store);
	char most[SHMETA_TENANT_MAX + 1];
	uint32_t a = 0, b = 0, c = 0;

	memset(most, 't', sizeof most);
	cr_assert_eq(shmeta__tenant(txn, "a", 1, 0, &a, &err), SHMETA_ABSENT);
	OK(shmeta__tenant(txn, "a", 1, 1, &a, &err));
	OK(shmeta__tenant(txn, most, SHMETA_TENANT_MAX, 1, &b, &err));
	cr_assert(a == 1 && b == 2);
	FAILS(shmeta__tenant(txn, most, sizeof most, 1, &c, &err), SHMETA_ERR_INVALID_ARGUMENT, "long");
	FAILS(shmeta__tenant(txn, "", 0, 1, &c, &err), SHMETA_ERR_INVALID_ARGUMENT, "empty");
	(void)commit(txn);
	shmeta__store_close(store);
	OK(shmeta__store_open(dir.fd, 1, &store, &err));
	txn = begin(store);
	OK(shmeta__tenant(txn, "a", 1, 1, &c, &err));
	cr_assert_eq(c, 1);
	OK(shmeta__tenant(txn, "third", 5, 1, &c, &err));
	cr_assert_eq(c, 3);
	shmeta__txn_abort(txn);
	txn = begin(store);
	/* the aborted one never had its number */
	OK(shmeta__tenant(txn, "fourth", 6, 1, &c, &err));
	cr_assert_eq(c, 3);
	shmeta__txn_abort(txn);
	shmeta__store_close(store);
}

/* ---- blocks and locators ---- */

static void check_locators(struct shmeta__store *store, const uint64_t *id, const uint64_t *locator, size_t count)
{
	struct shmeta__txn *txn;
	struct shmeta__pages pages;
	const void *block;
	size_t bytes;

	OK(shmeta__txn_read(store, &txn, &err));
	pages = shmeta__txn_pages(txn);
	cr_assert_eq(pages.page_bytes, SHMETA_PAGE);
	for (size_t i = 0; i < count; i++) {
		OK(shmeta__get(txn, SHMETA_DB_BLOCKS, &id[i], sizeof id[i], &block, &bytes, &err));
		cr_assert_eq(pages.base + locator[i] * SHMETA_PAGE + 16, (const uint8_t *)block, "block %zu", i);
		cr_assert_leq(locator[i] * SHMETA_PAGE + 16 + bytes, pages.bytes);
		for (size_t b = 0; b < bytes; b++)
			cr_assert_eq(((const uint8_t *)block)[b], (uint8_t)id[i]);
	}
	shmeta__txn_abort(txn);
}

Test(store, locators_lead_to_the_address_that_a_get_gives_also_in_a_copy_and_after_reopening)
{
	enum { BLOCKS = 300 };
	struct shmeta__store *store = create(1), *copy;
	struct shmeta__txn *txn = begin(store);
	struct shmeta__pager pager = shmeta__txn_pager(txn);
	uint64_t id[BLOCKS], locator[BLOCKS];
	const void *same;
	size_t bytes;
	void *block;

	for (size_t i = 0; i < BLOCKS; i++) {
		size_t pages = i % 50 == 49 ? 3 : 1;

		OK(pager.alloc(pager.arg, pages * SHMETA_PAGE - 16, &id[i], &locator[i], &block));
		cr_assert_eq(id[i], i + 1);
		for (size_t b = 0; b < pages * SHMETA_PAGE - 16; b++)
			cr_assert_eq(((uint8_t *)block)[b], 0); /* nobody's old bytes */
		memset(block, (uint8_t)id[i], pages * SHMETA_PAGE - 16);
		OK(pager.at(pager.arg, id[i], &same, &bytes));
		cr_assert(same == block && bytes == pages * SHMETA_PAGE - 16);
	}
	cr_assert_eq(pager.alloc(pager.arg, 100, &id[0], &locator[0], &block), SHMETA_ERR_INVALID_ARGUMENT);
	(void)commit(txn);
	check_locators(store, id, locator, BLOCKS);
	/* Other rows come and go; blocks stay where they are. */
	for (int i = 0; i < 50; i++) {
		char value[3000] = {0};

		now_ns += second;
		txn = begin(store);
		for (uint64_t k = 0; k < 20; k++)
			put(txn, k + 1, value, (size_t)(i * 50) + k);
		(void)commit(txn);
	}
	check_locators(store, id, locator, BLOCKS);
	OK(shmeta__store_copy(store, dir.fd, 2, 0, &copy, &err));
	check_locators(copy, id, locator, BLOCKS);
	shmeta__store_close(copy);
	shmeta__store_close(store);
	OK(shmeta__store_open(dir.fd, 2, &store, &err));
	check_locators(store, id, locator, BLOCKS);
	txn = begin(store);
	pager = shmeta__txn_pager(txn);
	OK(pager.release(pager.arg, id[7]));
	cr_assert_eq(pager.release(pager.arg, id[7]), SHMETA_ERR_CORRUPT);
	cr_assert_eq(pager.at(pager.arg, id[7], &same, &bytes), SHMETA_ERR_CORRUPT);
	OK(pager.alloc(pager.arg, SHMETA_BLOCK_BYTES, &id[7], &locator[7], &block));
	cr_assert_eq(id[7], BLOCKS + 1, "an id is never used again");
	memset(block, (uint8_t)id[7], SHMETA_BLOCK_BYTES);
	(void)commit(txn);
	check_locators(store, id, locator, BLOCKS);
	shmeta__store_close(store);
}

/* ---- copies ---- */

Test(store, a_copy_holds_everything_goes_on_with_the_numbers_and_is_independent)
{
	struct shmeta__store *store = create(1), *copy;
	struct shmeta__txn *txn = begin(store);
	uint64_t number, wait_ns;

	put(txn, 1, "one", 3);
	shmeta__touch(txn, 77);
	shmeta__store_counters(store)->next_topic_id = 9;
	number = commit(txn);
	store->gen->stamp[SHMETA_CLASS_TOPIC] = (struct shmeta_stamp){2, 333, 444, 2};
	OK(shmeta__store_copy(store, dir.fd, 2, 2 * MAX_BYTES, &copy, &err));
	cr_assert(has(copy, 1, "one", 3));
	cr_assert(copy->gen->committed == number && copy->gen->committing == number);
	cr_assert_eq(copy->gen->generation, 2);
	cr_assert_eq(copy->gen->max_bytes, 2 * MAX_BYTES);
	cr_assert_eq(copy->gen->grace_ns, second);
	cr_assert_eq(copy->gen->stamp[SHMETA_CLASS_TOPIC].synced_at_ns, 333);
	cr_assert_eq(copy->touched[77], 0);
	cr_assert_eq(shmeta__store_counters(copy)->next_topic_id, 9);
	cr_assert_eq(shmeta__store_format(copy)->fingerprint, 42);
	OK(shmeta__generation_check(copy->gen, SHMETA_GENERATION_BYTES, &err));
	OK(shmeta__store_may_write(copy, 1, &wait_ns, &err)); /* nobody is in it yet */
	txn = begin(copy);
	cr_assert_eq(shmeta__txn_number(txn), number + 1);
	put(txn, 1, "two", 3);
	(void)commit(txn);
	cr_assert(has(store, 1, "one", 3));
	cr_assert(has(copy, 1, "two", 3));
	shmeta__store_close(copy);
	FAILS(shmeta__store_copy(store, dir.fd, 2, 0, &copy, &err), SHMETA_ERR_SYSTEM, "store.2");
	OK(shmeta__store_open(dir.fd, 2, &copy, &err)); /* and is still there */
	cr_assert_eq(copy->max_bytes, 2 * MAX_BYTES);
	shmeta__store_close(copy);
	shmeta__store_close(store);
}

Test(store, a_copy_that_cannot_fit_is_refused_and_leaves_nothing)
{
	struct shmeta__store *store = create(1), *copy;
	struct shmeta__txn *txn = begin(store);
	static char value[2 << 20];
	char path[160];

	put(txn, 1, value, sizeof value);
	(void)commit(txn);
	FAILS(shmeta__store_copy(store, dir.fd, 2, 1 << 20, &copy, &err), SHMETA_ERR_FULL, "cannot be copied");
	path_of(&path, 2, "");
	cr_assert(access(path, F_OK) < 0);
	shmeta__store_close(store);
}

/* ---- full ---- */

Test(store, a_full_map_fails_that_transaction_alone)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store);
	static char value[100000];
	struct shmeta__pager pager;
	uint64_t key, number, id, locator;
	enum shmeta_status status;
	struct shmeta_err first;
	void *block;

	put(txn, 1, "kept", 4);
	number = commit(txn);
	txn = begin(store);
	shmeta__store_counters(store)->topics = 5;
	for (key = 10, status = SHMETA_OK; status == SHMETA_OK; key++)
		status = shmeta__put(txn, SHMETA_DB_LEASES, &key, sizeof key, value, sizeof value, &err);
	cr_assert_eq(status, SHMETA_ERR_FULL, "%s", err.text);
	cr_assert_gt(key, 100);
	first = err; /* whatever is tried afterwards is told why the first one failed */
	FAILS(shmeta__delete(txn, SHMETA_DB_LEASES, &key, sizeof key, &err), SHMETA_ERR_FULL, first.text);
	pager = shmeta__txn_pager(txn);
	cr_assert_eq(pager.alloc(pager.arg, SHMETA_BLOCK_BYTES, &id, &locator, &block), SHMETA_ERR_FULL);
	FAILS(shmeta__txn_commit(txn, &number, &err), SHMETA_ERR_FULL, first.text);
	cr_assert(has(store, 1, "kept", 4));
	cr_assert_eq(shmeta__store_counters(store)->topics, 0);
	cr_assert_eq(store->gen->committed, number);
	txn = begin(store);
	put(txn, 1, "goes on", 7);
	cr_assert_eq(commit(txn), number + 1);
	cr_assert(has(store, 1, "goes on", 7));
	shmeta__store_close(store);
}

static void limit_or_skip(const char *size)
{
	int error = instance_dir_limit(&dir, size);

	if (error == 0)
		return;
	teardown(); /* a skipped test has no .fini */
	cr_skip_test("no tmpfs can be mounted here: %s", strerror(error));
}

Test(store, a_full_tmpfs_fails_that_commit_alone_and_readers_stay_whole)
{
	struct shmeta__store *store, *copy;
	struct shmeta__txn *txn;
	static char value[4096 * 16];
	uint64_t key, number = 0, last;
	enum shmeta_status status = SHMETA_OK;

	limit_or_skip("5m");
	store = create(1);
	last = store->gen->committed;
	for (key = 1; status == SHMETA_OK && key < 1000; key++) {
		txn = begin(store);
		memset(value, (int)key, sizeof value);
		put(txn, key, value, sizeof value);
		status = shmeta__txn_commit(txn, &number, &err);
		if (status == SHMETA_OK)
			last = number;
	}
	cr_assert_eq(status, SHMETA_ERR_FULL, "%s", err.text);
	cr_assert_gt(key, 20);
	cr_assert_eq(store->gen->committed, last);
	cr_assert(!store->broken);
	memset(value, 20, sizeof value);
	/* lock.mdb and the page were allocated: nothing faults */
	cr_assert(has(store, 20, value, sizeof value));
	cr_assert_eq(shmeta__store_copy(store, dir.fd, 2, 0, &copy, &err), SHMETA_ERR_FULL, "%s", err.text);
	cr_assert_eq(openat(dir.fd, "store.2", O_RDONLY | O_CLOEXEC), -1);
	/* Deleting needs a few pages of its own, which LMDB finds among those that grace has let
	 * go. */
	for (int i = 0; i < 4; i++) {
		now_ns += 2 * second;
		txn = begin(store);
		key = (uint64_t)i + 1;
		cr_assert_eq(shmeta__delete(txn, SHMETA_DB_LEASES, &key, sizeof key, &err), SHMETA_OK);
		status = shmeta__txn_commit(txn, &number, &err);
		if (status == SHMETA_OK)
			break;
	}
	cr_assert_eq(status, SHMETA_OK, "%s", err.text);
	shmeta__store_close(store);
	OK(shmeta__store_remove(dir.fd, 1, &err));
}

Test(store, creating_on_a_full_tmpfs_says_full_and_leaves_nothing)
{
	static const char *const sizes[] = {"8k", "64k", "900k", "1032k", "1068k", "1076k"};
	struct shmeta_store_format format = {0};
	int full = 0;

	limit_or_skip(sizes[0]);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct shmeta__store *store = NULL;
		char options[64];
		enum shmeta_status status;

		(void)snprintf(options, sizeof options, "size=%s", sizes[i]);
		cr_assert_eq(mount(NULL, dir.path, NULL, MS_REMOUNT, options), 0);
		status = shmeta__store_create(dir.fd, 1, MAX_BYTES, second, &format, &store, &err);
		if (status == SHMETA_OK) {
			shmeta__store_close(store);
			OK(shmeta__store_remove(dir.fd, 1, &err));
			continue;
		}
		full++;
		cr_assert_eq(status, SHMETA_ERR_FULL, "%s: %s", sizes[i], err.text);
		cr_assert_eq(openat(dir.fd, "store.1", O_RDONLY | O_CLOEXEC), -1, "%s", sizes[i]);
	}
	cr_assert_geq(full, 4);
}

/* ---- a failed write of the meta page ---- */

Test(store, after_a_failed_meta_write_the_store_reopens_and_holds_writers_for_grace_and_pins)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn = begin(store), *other;
	uint64_t number, last;

	put(txn, 1, "old", 3);
	last = commit(txn);
	txn = begin(store);
	put(txn, 1, "new", 3);
	shmeta__store_counters(store)->topics = 1;
	fail_meta_writes = 1;
	cr_assert_eq(shmeta__txn_commit(txn, &number, &err), SHMETA_ERR_FULL, "%s", err.text);
	cr_assert_eq(fail_meta_writes, 0, "the fault was not reached");
	cr_assert(store->broken, "LMDB did not panic: the test tests nothing");
	cr_assert_eq(store->gen->committed, last);
	cr_assert_eq(shmeta__store_counters(store)->topics, 0);
	cr_assert(has(store, 1, "old", 3)); /* reopened for reading at once */
	now_ns += second - 1;
	FAILS(shmeta__txn_begin(store, UINT64_MAX, &txn, &err), SHMETA_ERR_BUSY, "ms");
	now_ns += 1;
	FAILS(shmeta__txn_begin(store, last - 1, &txn, &err), SHMETA_ERR_BUSY, "pins commit");
	txn = begin_pinned(store, last);
	cr_assert_eq(shmeta__txn_number(txn), last + 1);
	put(txn, 1, "new", 3);
	cr_assert_eq(commit(txn), last + 1);
	cr_assert(has(store, 1, "new", 3));
	/* With a read transaction open it cannot be reopened, and says so. */
	txn = begin(store);
	put(txn, 1, "newer", 5);
	OK(shmeta__txn_read(store, &other, &err));
	fail_meta_writes = 1;
	cr_assert_eq(shmeta__txn_commit(txn, &number, &err), SHMETA_ERR_FULL);
	FAILS(shmeta__txn_begin(store, UINT64_MAX, &txn, &err), SHMETA_ERR_BUSY, "read transactions");
	shmeta__txn_abort(other);
	now_ns += 10 * second;
	FAILS(shmeta__txn_begin(store, UINT64_MAX, &txn, &err), SHMETA_ERR_BUSY, "ms");
	now_ns += second;
	txn = begin(store);
	shmeta__txn_abort(txn);
	shmeta__store_close(store);
}

Test(store, a_store_that_was_found_tells_how_long_its_former_readers_need)
{
	struct shmeta__store *store = create(1);
	struct shmeta__txn *txn;
	uint64_t wait_ns = 0, last;

	for (int i = 0; i < 5; i++) {
		txn = begin(store);
		put(txn, 1, &i, sizeof i);
		last = commit(txn);
	}
	/* made here: its proxies are alive */
	OK(shmeta__store_may_write(store, 1, &wait_ns, &err));
	shmeta__store_close(store);
	OK(shmeta__store_open(dir.fd, 1, &store, &err));
	now_ns = store->found_at_ns;
	shmeta__store_set_clock(store, clock_ns, NULL);
	FAILS(shmeta__store_may_write(store, UINT64_MAX, &wait_ns, &err), SHMETA_ERR_BUSY, "1000 ms");
	cr_assert_eq(wait_ns, second);
	now_ns += second;
	FAILS(shmeta__store_may_write(store, last - 1, &wait_ns, &err), SHMETA_ERR_BUSY, "pins commit");
	cr_assert_eq(wait_ns, 0);
	OK(shmeta__store_may_write(store, last, &wait_ns, &err));
	OK(shmeta__store_may_write(store, 1, &wait_ns, &err)); /* decided once */
	shmeta__store_close(store);
}

/* ---- the ladder ---- */

enum { KEYS = 200 };

/* Every commit gives every key the commit's own number: a snapshot that lost a page cannot hide
 * it. */
static uint64_t rewrite(struct shmeta__store *store, uint64_t pin)
{
	struct shmeta__txn *txn = begin_pinned(store, pin);
	uint64_t number = shmeta__txn_number(txn);
	uint64_t value[32];

	for (size_t i = 0; i < sizeof value / sizeof value[0]; i++)
		value[i] = number;
	for (uint64_t k = 1; k <= KEYS; k++)
		put(txn, k, value, sizeof value);
	return commit(txn);
}

/* A reader as agents are: no lock file. */
struct reader {
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn;
	uint64_t snapshot;
};

static void reader_open(struct reader *reader)
{
	MDB_txn *txn;
	char path[160];

	path_of(&path, 1, "");
	cr_assert_eq(mdb_env_create(&reader->env), 0);
	cr_assert_eq(mdb_env_set_maxdbs(reader->env, SHMETA_DB_COUNT), 0);
	cr_assert_eq(mdb_env_open(reader->env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0), 0);
	cr_assert_eq(mdb_txn_begin(reader->env, NULL, MDB_RDONLY, &txn), 0);
	cr_assert_eq(mdb_dbi_open(txn, "leases", MDB_INTEGERKEY, &reader->dbi), 0);
	cr_assert_eq(mdb_txn_commit(txn), 0);
}
static void reader_begin(struct reader *reader)
{
	cr_assert_eq(mdb_txn_begin(reader->env, NULL, MDB_RDONLY, &reader->txn), 0);
	reader->snapshot = mdb_txn_id(reader->txn);
}
/* Does the snapshot still show exactly its commit? Done in a child: a broken one may crash LMDB. */
static bool whole(struct reader *reader)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (uint64_t k = 1; k <= KEYS; k++) {
			MDB_val key = {sizeof k, &k}, value;
			uint64_t words[32];

			if (mdb_get(reader->txn, reader->dbi, &key, &value) != 0 || value.mv_size != sizeof words)
				_exit(1);
			memcpy(words, value.mv_data, sizeof words);
			for (int i = 0; i < 32; i++)
				if (words[i] != reader->snapshot)
					_exit(1);
		}
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
static void reader_close(struct reader *reader)
{
	mdb_txn_abort(reader->txn);
	mdb_env_close(reader->env);
}

Test(ladder, an_unregistered_snapshot_is_whole_for_grace_from_its_begin_at_any_commit_rate_and_not_for_ever)
{
	static const uint64_t gaps[] = {1, 1000000, 20000000, 62500000, 100000000, 333000000, 999999999};

	for (size_t i = 0; i < sizeof gaps / sizeof gaps[0]; i++)
		for (uint64_t idle = 0; idle < 2; idle++) {
			struct shmeta__store *store = create_sized(1, 16 * MAX_BYTES);
			struct reader reader;
			uint64_t begun, checks = 0;

			/* A history at that rate, then perhaps a long silence, then the reader
			 * begins. */
			for (int n = 0; n < 60; n++) {
				now_ns += gaps[i];
				(void)rewrite(store, UINT64_MAX);
			}
			now_ns += idle * 100 * second;
			reader_open(&reader);
			reader_begin(&reader);
			begun = now_ns;
			/* 1 ns apart would never end: then a burst, and the last commit just within
			 * grace. */
			for (int n = 0; now_ns + gaps[i] < begun + second && n < 200; n++) {
				now_ns += gaps[i];
				(void)rewrite(store, UINT64_MAX);
				if (n % 20 == 0 || now_ns + gaps[i] >= begun + second) {
					checks++;
					cr_assert(whole(&reader), "gap %llu, %llu ns after begin",
					          (unsigned long long)gaps[i], (unsigned long long)(now_ns - begun));
				}
			}
			now_ns = begun + second - 1;
			(void)rewrite(store, UINT64_MAX);
			(void)rewrite(store, UINT64_MAX);
			(void)rewrite(store, UINT64_MAX);
			cr_assert(whole(&reader), "gap %llu", (unsigned long long)gaps[i]);
			cr_assert(checks > 0 || gaps[i] > second / 2);
			/* The check can fail: after grace the pages are used again, in LMDB's
			 * order. */
			for (int n = 0; n < 600 && (n % 10 != 0 || whole(&reader)); n++) {
				now_ns += second;
				(void)rewrite(store, UINT64_MAX);
			}
			cr_assert(!whole(&reader), "gap %llu: kept for ever", (unsigned long long)gaps[i]);
			reader_close(&reader);
			shmeta__store_close(store);
			OK(shmeta__store_remove(dir.fd, 1, &err));
		}
}

Test(ladder, a_pinned_snapshot_is_whole_as_long_as_the_pin_stands_and_the_growth_is_reported)
{
	struct shmeta__store *store = create(1);
	struct shmeta__store_usage before, stuck, after;
	struct reader reader;

	for (int n = 0; n < 30; n++) {
		now_ns += second;
		(void)rewrite(store, UINT64_MAX);
	}
	OK(shmeta__store_usage(store, &before, &err));
	reader_open(&reader);
	reader_begin(&reader);
	for (int n = 0; n < 100; n++) {
		now_ns += second;
		(void)rewrite(store, reader.snapshot);
		if (n % 10 == 0)
			cr_assert(whole(&reader), "after %d commits", n);
	}
	OK(shmeta__store_usage(store, &stuck, &err));
	cr_assert_leq(stuck.oldest_proxy_txn, reader.snapshot);
	cr_assert_gt(stuck.file_bytes, before.file_bytes + 90 * KEYS * 256 / 2);
	cr_assert_gt(stuck.free_bytes, before.free_bytes + 90 * KEYS * 256 / 2);
	/* what grew is not in use, only not yet free */
	cr_assert_lt(stuck.used_bytes, 2 * before.used_bytes);
	cr_assert_leq(stuck.proxies, STORE_PROXIES_MAX);
	/* The pin goes: the pages come back, and the file stays as long as it was. */
	for (int n = 0; n < 100; n++) {
		now_ns += second;
		(void)rewrite(store, UINT64_MAX);
	}
	OK(shmeta__store_usage(store, &after, &err));
	cr_assert_leq(after.file_bytes, stuck.file_bytes + before.file_bytes);
	cr_assert_eq(after.max_bytes, MAX_BYTES);
	cr_assert(!whole(&reader));
	reader_close(&reader);
	shmeta__store_close(store);
}

/* What of the ladder and of the room a writer uses: `ms` between its commits. Returns how many
 * there were until the pin was asked back, which is never before it held back half of what the
 * content leaves. */
static int commits_until_pressed(struct shmeta__store *store, uint64_t pin, uint64_t ms, int most)
{
	struct shmeta__store_room room;

	for (int n = 1; n <= most; n++) {
		now_ns += ms * (second / 1000);
		(void)rewrite(store, pin);
		OK(shmeta__store_room(store, pin, &room, &err));
		cr_assert_leq(room.used_bytes + room.pinned_bytes, room.file_bytes);
		if (shmeta__room_pressed(&room)) {
			cr_assert_gt(room.half_txn, pin);
			return n;
		}
		cr_assert(room.pinned_bytes < (room.max_bytes - room.used_bytes) / 2 ||
		          room.used_bytes + room.pinned_bytes < room.max_bytes / 100 * 85);
	}
	return 0;
}

Test(ladder, a_stuck_pin_is_asked_back_before_the_store_is_full_and_never_breaks_the_reader)
{
	struct shmeta__store *store = create(1);
	struct shmeta__store_room room;
	struct reader reader;
	int commits;

	for (int n = 0; n < 5; n++)
		(void)rewrite(store, UINT64_MAX);
	for (int round = 0; round < 3; round++) {
		reader_open(&reader);
		reader_begin(&reader);
		commits = commits_until_pressed(store, reader.snapshot, 100, 5000);
		cr_assert_gt(commits, 0, "nobody asked it back");
		/* Nothing was refused, and the reader has lost nothing. For a grace period more its
		 * pin is honoured. */
		for (int n = 0; n < 10; n++) {
			now_ns += second / 10;
			(void)rewrite(store, reader.snapshot);
		}
		cr_assert(whole(&reader));
		/* Its pin gone, all of it is there again, and no commit is needed for that. */
		now_ns += 2 * second;
		OK(shmeta__store_room(store, UINT64_MAX, &room, &err));
		cr_assert_lt(room.pinned_bytes, room.max_bytes / 20);
		reader_close(&reader);
	}
	shmeta__store_close(store);
}

Test(ladder, what_the_newest_commit_freed_can_be_used_behind_a_step)
{
	struct shmeta__store *store = create(1);
	struct shmeta__store_room room;

	(void)rewrite(store, UINT64_MAX);
	(void)rewrite(store, UINT64_MAX);
	now_ns += 2 * second;
	OK(shmeta__store_room(store, UINT64_MAX, &room, &err));
	cr_assert_geq(room.half_txn, store->gen->committed);
	cr_assert_gt(room.pinned_bytes, 8 * SHMETA_PAGE);
	OK(shmeta__store_step(store, UINT64_MAX, &err));
	now_ns += 2 * second;
	OK(shmeta__store_room(store, UINT64_MAX, &room, &err));
	cr_assert_leq(room.pinned_bytes, 8 * SHMETA_PAGE);
	shmeta__store_close(store);
}

Test(ladder, without_a_pin_nobody_is_asked_for_room)
{
	struct shmeta__store *store = create(1);

	cr_assert_eq(commits_until_pressed(store, UINT64_MAX, 100, 1000), 0);
	shmeta__store_close(store);
}

Test(ladder, thinning_bounds_the_proxies_at_any_commit_rate_and_keeps_their_order)
{
	static const uint64_t gaps[] = {1, 100000, 10000000, 70000000, 500000000, 2000000000};
	struct shmeta__store *store = create_sized(1, 16 * MAX_BYTES);
	uint32_t most = 0;

	for (size_t i = 0; i < sizeof gaps / sizeof gaps[0]; i++) {
		for (int pinned = 0; pinned < 2; pinned++) {
			uint64_t pin = pinned ? store->gen->committed : UINT64_MAX, first = 0;

			for (int n = 0; n < 400; n++) {
				struct shmeta__txn *txn;

				now_ns += gaps[i];
				txn = begin_pinned(store, pin);
				put(txn, 1, &n, sizeof n);
				(void)commit(txn);
				cr_assert_leq(store->proxies, pinned ? (uint32_t)STORE_PROXIES_MAX : 20u, "gap %llu",
				              (unsigned long long)gaps[i]);
				most = store->proxies > most ? store->proxies : most;
				for (uint32_t p = 1; p < store->proxies; p++) {
					cr_assert_lt(store->proxy[p - 1].txn, store->proxy[p].txn);
					cr_assert_leq(store->proxy[p - 1].taken_at_ns, store->proxy[p].taken_at_ns);
				}
				cr_assert_eq(store->proxy[store->proxies - 1].txn, store->gen->committed);
				if (pinned)
					cr_assert_leq(store->proxy[0].txn, pin);
				if (n == 0)
					first = store->proxy[0].txn;
			}
			/* Without a pin the old end moves on, as soon as grace allows. */
			if (!pinned && gaps[i] >= 10000000)
				cr_assert_gt(store->proxy[0].txn, first);
		}
	}
	cr_assert_gt(most, 16, "the test never saw a long ladder");
	/* One commit after grace lets all of them go but what is needed. */
	now_ns += 2 * second;
	shmeta__txn_abort(begin(store));
	cr_assert_eq(store->proxies, 1);
	shmeta__store_close(store);
}

Test(ladder, a_pin_that_moves_lets_go_of_what_lies_before_it)
{
	struct shmeta__store *store = create(1);
	uint64_t numbers[40];

	for (int n = 0; n < 40; n++) {
		now_ns += second;
		numbers[n] = rewrite(store, n < 10 ? UINT64_MAX : numbers[9]);
	}
	cr_assert_leq(store->proxy[0].txn, numbers[9]);
	cr_assert_gt(store->proxies, 10);
	for (int n = 10; n < 38; n++) {
		now_ns += second;
		shmeta__txn_abort(begin_pinned(store, numbers[n]));
		cr_assert_leq(store->proxy[0].txn, numbers[n]);
		cr_assert(store->proxies == 1 || store->proxy[1].txn > numbers[n]);
	}
	/* A pin older than every proxy, forged or left over, drops nothing. */
	shmeta__txn_abort(begin_pinned(store, 1));
	cr_assert_leq(store->proxy[0].txn, numbers[37]);
	shmeta__store_close(store);
}

/* ---- looking ---- */

static bool shows(const struct shmeta__inspected *of, uint64_t key, const void *value, size_t bytes)
{
	const void *v;
	size_t n;

	return shmeta__inspect_get(of, SHMETA_DB_LEASES, &key, sizeof key, &v, &n, &err) == SHMETA_OK && n == bytes &&
	       memcmp(v, value, n) == 0;
}

Test(store, inspecting_reads_a_live_generation_a_dead_one_and_a_bare_copy_and_writes_nothing)
{
	struct shmeta__store *store = create(3);
	struct shmeta__txn *txn = begin(store);
	struct shmeta__inspected *of;
	struct shmeta__store_usage usage, theirs;
	char path[160], page[160];

	put(txn, 1, "x", 1);
	(void)commit(txn);
	path_of(&path, 3, "");
	OK(shmeta__inspect_open(path, &of, &err));
	cr_assert(shows(of, 1, "x", 1));
	cr_assert_eq(of->number, 3);
	cr_assert_eq(of->committed, store->gen->committed);
	cr_assert_eq(of->txn, of->committed);
	OK(shmeta__inspect_usage(of, &usage, &err));
	OK(shmeta__store_usage(store, &theirs, &err));
	cr_assert_eq(usage.entries[SHMETA_DB_LEASES], 1);
	cr_assert_eq(usage.max_bytes, MAX_BYTES);
	cr_assert_gt(usage.free_bytes, 0);
	usage.proxies = theirs.proxies;
	usage.oldest_proxy_txn = theirs.oldest_proxy_txn;
	cr_assert_eq(memcmp(&usage, &theirs, sizeof usage), 0, "it says what LMDB says");
	/* What is committed meanwhile is another commit's. */
	txn = begin(store);
	put(txn, 1, "y", 1);
	(void)commit(txn);
	cr_assert(shows(of, 1, "x", 1));
	shmeta__inspect_close(of);
	shmeta__store_close(store);
	path_of(&page, 3, "generation");
	cr_assert_eq(unlink(page), 0);
	path_of(&page, 3, "lock.mdb");
	cr_assert_eq(unlink(page), 0);
	OK(shmeta__inspect_open(path, &of, &err));
	cr_assert(shows(of, 1, "y", 1));
	cr_assert_eq(of->number, 0);
	cr_assert_eq(of->max_bytes, MAX_BYTES);
	shmeta__inspect_close(of);
	cr_assert(access(page, F_OK) < 0, "looking left a lock file");
	path_of(&path, 4, "");
	FAILS(shmeta__inspect_open(path, &of, &err), SHMETA_ERR_NOT_RUNNING, "store.4");
}
