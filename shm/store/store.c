/* SPDX-License-Identifier: Apache-2.0
 * Generations: create, open, copy, remove, look. Transactions are in store_txn.c, the ladder of proxies in store_proxy.c.
 *
 * LMDB takes a path where we have a directory: it gets /proc/self/fd/<directory>, so that a rename above us cannot lead it
 * elsewhere. data.mdb and lock.mdb are made by us before LMDB opens them, with their modes whatever the umask, without following
 * links, and lock.mdb allocated in full: a sparse one kills whoever touches it when the tmpfs is full. */
#include "shm/store/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/record/entry.h"

enum {
	STORE_MIN_BYTES = 1 << 20,
	LENGTH_TRIES = 100,
	/* struct MDB_txninfo and MDB_reader of LMDB 0.9 are cache lines; a few pages more do not matter. */
	STORE_LOCK_BYTES = ((STORE_LOCK_READERS + 16) * 64 + SHMETA_PAGE - 1) / SHMETA_PAGE * SHMETA_PAGE
};

static const char beacon_text[8] = "SHMBEACN";
static const char generation_signature[8] = "SHMGENER";

enum shmeta_status store_fail(struct shmeta_err *err, int code, const char *fmt, ...)
{
	enum shmeta_status status;
	struct shmeta_err scrap;
	size_t n;
	va_list ap;

	switch (code) {
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case EIO: /* a full tmpfs: LMDB's write came back short */
		status = SHMETA_ERR_FULL;
		break;
	case ENOMEM:
		status = SHMETA_ERR_NO_MEMORY;
		break;
	case EACCES:
	case EPERM:
		status = SHMETA_ERR_PERMISSION;
		break;
	case MDB_VERSION_MISMATCH:
		status = SHMETA_ERR_VERSION;
		break;
	case MDB_INVALID:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_NOTFOUND:
	case MDB_INCOMPATIBLE:
		status = SHMETA_ERR_CORRUPT;
		break;
	case MDB_BAD_VALSIZE:
	case EINVAL:
		status = SHMETA_ERR_INVALID_ARGUMENT;
		break;
	default:
		status = SHMETA_ERR_SYSTEM;
	}
	if (err == NULL)
		err = &scrap;
	err->code = status;
	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	(void)snprintf(err->text + n, sizeof err->text - n, ": %s%s", mdb_strerror(code),
	               code == EIO ? " (LMDB says so when the file system is full)" : "");
	return status;
}

static void name_of(char (*ret_name)[32], uint64_t number)
{
	(void)snprintf(*ret_name, sizeof *ret_name, "store.%llu", (unsigned long long)number);
}

/* ---- LMDB's library and layout ---------------------------------------------------------------------------------------- */

/* LMDB 0.9.26 to 0.9.31 destroy their mutexes under another process that opens at the same moment (ITS#10095). */
static enum shmeta_status check_library(struct shmeta_err *err)
{
	int major, minor, patch;
	const char *text = mdb_version(&major, &minor, &patch);

	if (major != 0 || minor != 9 || patch >= 70)
		return shmeta_fail(
			err, SHMETA_ERR_VERSION,
			"%s: shmeta needs LMDB 0.9 (its file layout); install liblmdb 0.9.24, 0.9.25 or 0.9.32+", text);
	if (patch >= 26 && patch <= 31)
		return shmeta_fail(
			err, SHMETA_ERR_VERSION,
			"%s: 0.9.26 to 0.9.31 lose their locks when two processes open a store (ITS#10095); install "
			"0.9.24, 0.9.25 or 0.9.32+",
			text);
	return SHMETA_OK;
}

/* Page header of a one-page overflow value, or NULL when it is none. */
static const struct store_page *page_of(const MDB_val *value)
{
	const struct store_page *page = (const void *)((const uint8_t *)value->mv_data - sizeof(struct store_page));

	if (value->mv_size != SHMETA_BLOCK_BYTES || (uintptr_t)page % SHMETA_PAGE != 0 ||
	    (page->flags & STORE_PAGE_OVERFLOW) == 0 || page->pages != 1)
		return NULL;
	return page;
}

/* Locators are LMDB page numbers. Prove with two values of this very file that a page number leads to the address that
 * mdb_get() gives, and derive the address of the map. */
static enum shmeta_status prove(struct shmeta__store *store, MDB_txn *txn, struct shmeta_err *err)
{
	MDB_val key = {strlen(SHMETA_META_BEACON), (void *)SHMETA_META_BEACON}, beacon, block;
	MDB_val sentinel = store_sentinel(SHMETA_DB_BLOCKS);
	const struct store_page *page, *other;
	int rc = mdb_get(txn, store->dbi[SHMETA_DB_META], &key, &beacon);

	if (rc == 0)
		rc = mdb_get(txn, store->dbi[SHMETA_DB_BLOCKS], &sentinel, &block);
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: its beacon", (unsigned long long)store->number);
	page = page_of(&beacon);
	other = page_of(&block);
	if (page == NULL || other == NULL || memcmp(beacon.mv_data, beacon_text, sizeof beacon_text) != 0 ||
	    page->number == other->number || page->number >= store->max_bytes / SHMETA_PAGE ||
	    other->number >= store->max_bytes / SHMETA_PAGE ||
	    (const uint8_t *)page - page->number * SHMETA_PAGE != (const uint8_t *)other - other->number * SHMETA_PAGE)
		return shmeta_fail(
			err, SHMETA_ERR_VERSION,
			"store.%llu: this liblmdb (%s) lays out its pages differently than shmeta's locators "
			"expect; use liblmdb 0.9 with 4096-byte pages",
			(unsigned long long)store->number, mdb_version(NULL, NULL, NULL));
	store->base = (const uint8_t *)page - page->number * SHMETA_PAGE;
	return SHMETA_OK;
}

/* ---- environment ------------------------------------------------------------------------------------------------------ */

/* lock.mdb is made anew: nobody but the one writer uses it, and it says nothing that outlives a process. */
static enum shmeta_status make_lock(int dir_fd, struct shmeta_err *err)
{
	int fd, rc;

	if (unlinkat(dir_fd, "lock.mdb", 0) < 0 && errno != ENOENT)
		return shmeta_fail_errno(err, errno, "lock.mdb: removing the former writer's");
	fd = openat(dir_fd, "lock.mdb", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return shmeta_fail_errno(err, errno, "lock.mdb: creating");
	/* Closed again before LMDB locks the file: a close() would drop LMDB's locks. */
	rc = posix_fallocate(fd, 0, STORE_LOCK_BYTES);
	(void)close(fd);
	if (rc != 0)
		return shmeta_fail_errno(err, rc, "lock.mdb: allocating %d bytes", STORE_LOCK_BYTES);
	return SHMETA_OK;
}

static enum shmeta_status check_data_file(struct shmeta__store *store, struct shmeta_err *err)
{
	struct stat st;

	if (fstatat(store->dir_fd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "store.%llu/data.mdb: does not exist",
		                                     (unsigned long long)store->number)
		                       : shmeta_fail_errno(err, errno, "store.%llu/data.mdb",
		                                           (unsigned long long)store->number);
	if (!S_ISREG(st.st_mode))
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu/data.mdb: not a regular file",
		                   (unsigned long long)store->number);
	store->dev = st.st_dev;
	store->ino = st.st_ino;
	return SHMETA_OK;
}

/* Judged before the other databases are opened: another format may have others. */
static enum shmeta_status check_format(const struct shmeta__store *store, MDB_txn *txn, struct shmeta_err *err)
{
	MDB_val key = {strlen(SHMETA_META_FORMAT), (void *)SHMETA_META_FORMAT}, value = {0, NULL};

	(void)mdb_get(txn, store->dbi[SHMETA_DB_META], &key, &value);
	return store_judge_format(store->number, value.mv_data, value.mv_size, err);
}

/* All databases in one transaction; create: make them, their sentinels and the beacon. */
static enum shmeta_status open_databases(struct shmeta__store *store, bool create, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	MDB_txn *txn;
	int rc = mdb_txn_begin(store->env, NULL, create ? 0 : MDB_RDONLY, &txn);

	if (rc != 0)
		return store_fail(err, rc, "store.%llu: first transaction", (unsigned long long)store->number);
	for (int db = 0; db < SHMETA_DB_COUNT && status == SHMETA_OK; db++) {
		unsigned int flags =
			(create ? MDB_CREATE : 0u) | (store_db_integer((enum shmeta_db)db) ? MDB_INTEGERKEY : 0u);
		const char *name = store_db_name((enum shmeta_db)db);
		MDB_val key = store_sentinel((enum shmeta_db)db), value = {8, (void *)"SENTINEL"};
		bool page = db == SHMETA_DB_BLOCKS;

		rc = mdb_dbi_open(txn, name, flags, &store->dbi[db]);
		if (rc == MDB_NOTFOUND)
			status = shmeta_fail(err, SHMETA_ERR_CORRUPT,
			                     "store.%llu: has no database '%s'; it is not a shmeta store, or broken",
			                     (unsigned long long)store->number, name);
		else if (rc != 0)
			status = store_fail(err, rc, "store.%llu: opening database '%s'",
			                    (unsigned long long)store->number, name);
		if (status != SHMETA_OK)
			break;
		if (create) {
			/* In blocks it is a page of its own: the second witness of prove(). */
			value.mv_size = page ? SHMETA_BLOCK_BYTES : 8;
			rc = mdb_put(txn, store->dbi[db], &key, &value, page ? MDB_RESERVE : 0);
			if (rc == 0 && page) {
				memset(value.mv_data, 0, value.mv_size);
				memcpy(value.mv_data, "SENTINEL", 8);
			}
		} else {
			rc = mdb_get(txn, store->dbi[db], &key, &value);
			if (rc == 0 && (value.mv_size < 8 || memcmp(value.mv_data, "SENTINEL", 8) != 0))
				rc = MDB_NOTFOUND;
		}
		if (rc == MDB_NOTFOUND)
			status = shmeta_fail(err, SHMETA_ERR_CORRUPT,
			                     "store.%llu: database '%s' has lost its sentinel: broken, not empty",
			                     (unsigned long long)store->number, name);
		else if (rc != 0)
			status = store_fail(err, rc, "store.%llu: sentinel of '%s'", (unsigned long long)store->number,
			                    name);
		else if (!create && db == SHMETA_DB_META)
			status = check_format(store, txn, err);
	}
	if (status == SHMETA_OK && create) {
		MDB_val key = {strlen(SHMETA_META_BEACON), (void *)SHMETA_META_BEACON},
			value = {SHMETA_BLOCK_BYTES, NULL};
		MDB_val format = {strlen(SHMETA_META_FORMAT), (void *)SHMETA_META_FORMAT};
		MDB_val counters = {strlen(SHMETA_META_COUNTERS), (void *)SHMETA_META_COUNTERS};
		uint64_t seal;

		/* Its seal ends the page. */
		rc = mdb_put(txn, store->dbi[SHMETA_DB_META], &key, &value, MDB_RESERVE);
		if (rc == 0) {
			memset(value.mv_data, 0, value.mv_size);
			memcpy(value.mv_data, beacon_text, sizeof beacon_text);
			seal = shmeta__seal(key.mv_data, key.mv_size, value.mv_data, value.mv_size - sizeof seal);
			memcpy((uint8_t *)value.mv_data + value.mv_size - sizeof seal, &seal, sizeof seal);
			rc = store_put(store, txn, SHMETA_DB_META, &format, &store->format, sizeof store->format);
		}
		if (rc == 0)
			rc = store_put(store, txn, SHMETA_DB_META, &counters, &store->counters, sizeof store->counters);
		if (rc != 0)
			status = store_fail(err, rc, "store.%llu: first records", (unsigned long long)store->number);
	}
	if (status == SHMETA_OK && !create)
		status = store_load_meta(store, txn, err);
	if (status != SHMETA_OK) {
		mdb_txn_abort(txn);
		return status;
	}
	/* Committing keeps the database handles, also of a read transaction. */
	rc = mdb_txn_commit(txn);
	return rc == 0 ? SHMETA_OK : store_fail(err, rc, "store.%llu: first commit", (unsigned long long)store->number);
}

enum shmeta_status store_load_meta(struct shmeta__store *store, MDB_txn *txn, struct shmeta_err *err)
{
	MDB_val key = {strlen(SHMETA_META_FORMAT), (void *)SHMETA_META_FORMAT}, value;
	enum shmeta_status status = check_format(store, txn, err);
	int rc;

	if (status != SHMETA_OK)
		return status;
	rc = store_get(store, txn, SHMETA_DB_META, &key, &value);
	if (rc != 0 || value.mv_size != sizeof store->format)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu: its format record is damaged",
		                   (unsigned long long)store->number);
	memcpy(&store->format, value.mv_data, sizeof store->format);
	store->format.source[sizeof store->format.source - 1] = 0;
	key = (MDB_val){strlen(SHMETA_META_COUNTERS), (void *)SHMETA_META_COUNTERS};
	rc = store_get(store, txn, SHMETA_DB_META, &key, &value);
	if (rc != 0 || value.mv_size != sizeof store->counters)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu: its counters record is missing or damaged",
		                   (unsigned long long)store->number);
	memcpy(&store->counters, value.mv_data, sizeof store->counters);
	store->saved = store->counters;
	return SHMETA_OK;
}

/* Before anything but the meta pages is touched. A living writer may have committed and not lengthened the file yet: look again. */
static enum shmeta_status check_length(struct shmeta__store *store, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_ERR_CORRUPT;
	MDB_envinfo info;
	struct stat st;
	int fd;

	for (int tries = 0; status != SHMETA_OK && tries < LENGTH_TRIES; tries++) {
		if (tries > 0)
			(void)sched_yield();
		(void)mdb_env_info(store->env, &info);
		if (mdb_env_get_fd(store->env, &fd) != 0 || fstat(fd, &st) < 0)
			return shmeta_fail_errno(err, errno, "store.%llu/data.mdb", (unsigned long long)store->number);
		status = shmeta__data_check((uint64_t)st.st_size, info.me_last_pgno, store->page_bytes, err);
	}
	return status;
}

static enum shmeta_status open_env(struct shmeta__store *store, const char *path, bool create, struct shmeta_err *err)
{
	char through_fd[64];
	unsigned int flags = store->writer ? MDB_NOSYNC | MDB_NOTLS : MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS;
	enum shmeta_status status;
	MDB_envinfo info;
	MDB_stat stat;
	MDB_txn *txn;
	int rc, fd;

	if (store->writer) {
		status = check_library(err);
		if (status == SHMETA_OK)
			status = make_lock(store->dir_fd, err);
		if (status != SHMETA_OK)
			return status;
	}
	if (path == NULL) {
		(void)snprintf(through_fd, sizeof through_fd, "/proc/self/fd/%d", store->dir_fd);
		path = through_fd;
	}
	rc = mdb_env_create(&store->env);
	if (rc != 0)
		return store_fail(err, rc, "LMDB environment");
	(void)mdb_env_set_maxdbs(store->env, SHMETA_DB_COUNT);
	(void)mdb_env_set_maxreaders(store->env, STORE_LOCK_READERS);
	rc = mdb_env_set_mapsize(store->env, store->max_bytes);
	if (rc == 0)
		rc = mdb_env_open(store->env, path, flags, 0600);
	if (rc != 0) {
		status = store_fail(err, rc, "store.%llu: opening its data.mdb with a map of %llu bytes%s",
		                    (unsigned long long)store->number, (unsigned long long)store->max_bytes,
		                    rc == ENOENT   ? " (is /proc mounted?)"
		                    : rc == ENOMEM ? " (does ulimit -v allow that much?)"
		                                   : "");
		goto fail;
	}
	/* LMDB sets it for its lock file only. */
	if (mdb_env_get_fd(store->env, &fd) == 0)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	(void)mdb_env_stat(store->env, &stat);
	if (stat.ms_psize != SHMETA_PAGE) {
		status =
			shmeta_fail(err, SHMETA_ERR_VERSION,
		                    "store.%llu: LMDB uses pages of %u bytes, shmeta needs %d: kernels with other page "
		                    "sizes are not supported",
		                    (unsigned long long)store->number, stat.ms_psize, SHMETA_PAGE);
		goto fail;
	}
	store->page_bytes = stat.ms_psize;
	(void)mdb_env_info(store->env, &info);
	store->max_bytes = info.me_mapsize; /* 0 until now for an inspected copy without its page */
	status = create ? SHMETA_OK : check_length(store, err);
	if (status == SHMETA_OK)
		status = open_databases(store, create, err);
	if (status != SHMETA_OK)
		goto fail;
	rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
	if (rc != 0) {
		status = store_fail(err, rc, "store.%llu: reading", (unsigned long long)store->number);
		goto fail;
	}
	status = prove(store, txn, err);
	mdb_txn_abort(txn);
	if (status == SHMETA_OK)
		return status;
fail:
	mdb_env_close(store->env);
	store->env = NULL;
	return status;
}

/* What LMDB holds is what counts. A writer that was killed between LMDB's commit and the page left the page one behind. */
static enum shmeta_status adopt(struct shmeta__store *store, struct shmeta_err *err)
{
	enum shmeta_status status = store_proxy_take(store, err);
	uint64_t txn;

	if (status != SHMETA_OK)
		return status;
	txn = store->proxy[store->proxies - 1].txn;
	if (store->gen->committed > txn)
		return shmeta_fail(
			err, SHMETA_ERR_CORRUPT,
			"store.%llu: its page speaks of commit %llu, its data.mdb ends with %llu; it was rolled "
			"back from outside: remove the directory, the store is filled again from the source",
			(unsigned long long)store->number, (unsigned long long)store->gen->committed,
			(unsigned long long)txn);
	if (store->gen->committing < txn)
		shmeta_store(&store->gen->committing, txn); /* PAIR 1: pin before commit */
	shmeta_store(&store->gen->committed, txn);          /* PAIR 1: pin before commit */
	shmeta_publish(&store->gen->commit_futex, (uint32_t)txn);
	store->found_at_ns = store->now_ns(store->now_arg);
	return SHMETA_OK;
}

enum shmeta_status store_reopen(struct shmeta__store *store, struct shmeta_err *err)
{
	enum shmeta_status status;

	if (store->reads > 0)
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "store.%llu: must be reopened after a failed write of its meta page, but %u read "
		                   "transactions are open",
		                   (unsigned long long)store->number, store->reads);
	store_proxy_drop_all(store);
	if (store->env != NULL)
		mdb_env_close(store->env);
	store->env = NULL;
	status = open_env(store, NULL, false, err);
	if (status == SHMETA_OK)
		status = adopt(store, err);
	if (status != SHMETA_OK)
		return status;
	store->broken = false;
	store->hold = true;
	return SHMETA_OK;
}

/* ---- create, open, copy, remove --------------------------------------------------------------------------------------- */

static struct shmeta__store *store_new(uint64_t number, bool writer)
{
	struct shmeta__store *store = calloc(1, sizeof *store);

	if (store == NULL)
		return NULL;
	store->number = number;
	store->writer = writer;
	store->dir_fd = -1;
	store->now_ns = store_monotonic_ns;
	return store;
}

void shmeta__store_close(struct shmeta__store *store)
{
	if (store == NULL)
		return;
	if (store->write != NULL)
		shmeta__txn_abort(store->write);
	store_proxy_drop_all(store);
	if (store->env != NULL)
		mdb_env_close(store->env);
	if (store->gen != NULL)
		(void)munmap(store->gen, SHMETA_GENERATION_BYTES);
	if (store->dir_fd >= 0)
		(void)close(store->dir_fd);
	free(store);
}

static enum shmeta_status check_sizes(uint64_t number, uint64_t max_bytes, struct shmeta_err *err)
{
	if (number == 0)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "generation numbers count from 1");
	if (max_bytes < STORE_MIN_BYTES)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "store.max_bytes is %llu; the least is %d",
		                   (unsigned long long)max_bytes, STORE_MIN_BYTES);
	if (max_bytes > (uint64_t)1 << 46)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "store.max_bytes is %llu; the most is %llu",
		                   (unsigned long long)max_bytes, 1ull << 46);
	return SHMETA_OK;
}

/* A fresh directory with an empty data.mdb. ret_data_fd is open for writing. */
static enum shmeta_status make_directory(struct shmeta__store *store, int dir_fd, int *ret_data_fd,
                                         struct shmeta_err *err)
{
	char name[32];
	int fd;

	name_of(&name, store->number);
	if (mkdirat(dir_fd, name, 0750) < 0)
		return shmeta_fail_errno(err, errno, "%s: creating the directory", name);
	store->dir_fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (store->dir_fd < 0) {
		int e = errno;

		(void)unlinkat(dir_fd, name, AT_REMOVEDIR);
		return shmeta_fail_errno(err, e, "%s: opening the directory", name);
	}
	/* Whatever the umask; and its files belong to the instance directory's group, as it does itself. */
	(void)fchmod(store->dir_fd, 02750);
	fd = openat(store->dir_fd, "data.mdb", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0)
		return shmeta_fail_errno(err, errno, "%s/data.mdb: creating", name);
	(void)fchmod(fd, 0640);
	*ret_data_fd = fd;
	return SHMETA_OK;
}

/* The generation page of a new generation; like: whose stamps it takes over, or NULL. */
static enum shmeta_status make_page(struct shmeta__store *store, uint64_t grace_ns,
                                    const struct shmeta_generation *like, struct shmeta_err *err)
{
	struct shmeta_generation *gen;
	void *map;
	enum shmeta_status status =
		shmeta__map_file(store->dir_fd, "generation", SHMETA_GENERATION_BYTES, 1, &map, err);

	if (status != SHMETA_OK)
		return status;
	store->gen = gen = map;
	store->touched = (uint64_t *)((char *)map + SHMETA_PAGE);
	gen->incompat = SHMETA_GEN_INCOMPAT_V1;
	gen->generation = store->number;
	gen->max_bytes = store->max_bytes;
	gen->grace_ns = grace_ns;
	gen->touched_words = SHMETA_TOUCHED_WORDS;
	gen->touched_at = SHMETA_PAGE;
	gen->boot_offset_ns = shmeta__boot_offset_ns();
	if (like != NULL)
		memcpy(gen->stamp, like->stamp, sizeof gen->stamp);
	store->grace_ns = grace_ns;
	return SHMETA_OK;
}

/* Last of all: a directory whose making was cut off has no signature. */
static void sign_page(struct shmeta__store *store)
{
	shmeta_fence_write();
	memcpy(store->gen->signature, generation_signature, sizeof generation_signature);
}

static enum shmeta_status give_up(struct shmeta__store *store, int dir_fd, bool made, enum shmeta_status status)
{
	uint64_t number = store->number;

	shmeta__store_close(store);
	if (made)
		(void)shmeta__store_remove(dir_fd, number, NULL);
	return status;
}

enum shmeta_status shmeta__store_create(int dir_fd, uint64_t number, uint64_t max_bytes, uint64_t grace_ns,
                                        const struct shmeta_store_format *format, struct shmeta__store **ret,
                                        struct shmeta_err *err)
{
	struct shmeta__store *store;
	enum shmeta_status status = check_sizes(number, max_bytes, err);
	int fd = -1;

	if (status != SHMETA_OK)
		return status;
	store = store_new(number, true);
	if (store == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	store->max_bytes = max_bytes / SHMETA_PAGE * SHMETA_PAGE;
	store->format = *format;
	store->format.format = SHMETA_STORE_FORMAT;
	store->counters.next_topic_id = store->counters.next_block_id = store->counters.next_tenant = 1;
	store->saved = store->counters;
	status = make_directory(store, dir_fd, &fd, err);
	if (status != SHMETA_OK) {
		/* What was there before is not ours to remove. */
		return give_up(store, dir_fd, store->dir_fd >= 0, status);
	}
	(void)close(fd);
	status = make_page(store, grace_ns, NULL, err);
	if (status == SHMETA_OK)
		status = check_data_file(store, err);
	if (status == SHMETA_OK)
		status = open_env(store, NULL, true, err);
	if (status == SHMETA_OK)
		status = adopt(store, err);
	if (status != SHMETA_OK)
		return give_up(store, dir_fd, true, status);
	sign_page(store);
	*ret = store;
	return SHMETA_OK;
}

enum shmeta_status shmeta__store_open(int dir_fd, uint64_t number, struct shmeta__store **ret, struct shmeta_err *err)
{
	struct shmeta__store *store = store_new(number, true);
	struct shmeta_generation copy;
	enum shmeta_status status;
	char name[32];
	struct stat st;
	void *map;

	if (store == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	name_of(&name, number);
	store->dir_fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (store->dir_fd < 0) {
		status = errno == ENOENT ? shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist", name)
		                         : shmeta_fail_errno(err, errno, "%s: opening the directory", name);
		return give_up(store, dir_fd, false, status);
	}
	status = check_data_file(store, err);
	/* map_file() would make a missing page; here that is a broken store. */
	if (status == SHMETA_OK && fstatat(store->dir_fd, "generation", &st, AT_SYMLINK_NOFOLLOW) < 0)
		status = errno == ENOENT ? shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: has no generation page", name)
		                         : shmeta_fail_errno(err, errno, "%s/generation", name);
	if (status == SHMETA_OK)
		status = shmeta__map_file(store->dir_fd, "generation", SHMETA_GENERATION_BYTES, 1, &map, err);
	if (status != SHMETA_OK)
		return give_up(store, dir_fd, false, status);
	store->gen = map;
	store->touched = (uint64_t *)((char *)map + SHMETA_PAGE);
	copy = *store->gen;
	status = shmeta__generation_check(&copy, (uint64_t)st.st_size, err);
	if (status == SHMETA_OK && copy.generation != number)
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: its page belongs to generation %llu", name,
		                     (unsigned long long)copy.generation);
	if (status == SHMETA_OK)
		status = check_sizes(number, copy.max_bytes, err);
	if (status == SHMETA_OK) {
		store->max_bytes = copy.max_bytes;
		store->grace_ns = copy.grace_ns;
		status = open_env(store, NULL, false, err);
	}
	if (status == SHMETA_OK)
		status = adopt(store, err);
	if (status != SHMETA_OK)
		return give_up(store, dir_fd, false, status);
	store->gen->boot_offset_ns = shmeta__boot_offset_ns();
	store->opened = true;
	*ret = store;
	return SHMETA_OK;
}

enum shmeta_status shmeta__store_copy(struct shmeta__store *store, int dir_fd, uint64_t number, uint64_t max_bytes,
                                      struct shmeta__store **ret, struct shmeta_err *err)
{
	struct shmeta__store *copy;
	enum shmeta_status status;
	MDB_envinfo info;
	int fd = -1, rc;

	if (max_bytes == 0)
		max_bytes = store->max_bytes;
	status = check_sizes(number, max_bytes, err);
	if (status != SHMETA_OK)
		return status;
	if (store->write != NULL)
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "store.%llu: a write transaction is open; copying needs it closed",
		                   (unsigned long long)store->number);
	if (store->broken)
		status = store_reopen(store, err);
	if (status != SHMETA_OK)
		return status;
	(void)mdb_env_info(store->env, &info);
	if ((info.me_last_pgno + 1) * SHMETA_PAGE > max_bytes)
		return shmeta_fail(
			err, SHMETA_ERR_FULL, "store.%llu: has grown to %llu bytes and cannot be copied into %llu",
			(unsigned long long)store->number, (unsigned long long)(info.me_last_pgno + 1) * SHMETA_PAGE,
			(unsigned long long)max_bytes);
	copy = store_new(number, true);
	if (copy == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	copy->max_bytes = max_bytes / SHMETA_PAGE * SHMETA_PAGE;
	copy->now_ns = store->now_ns;
	copy->now_arg = store->now_arg;
	status = make_directory(copy, dir_fd, &fd, err);
	if (status != SHMETA_OK)
		return give_up(copy, dir_fd, copy->dir_fd >= 0, status);
	/* Without compaction: page numbers, and with them all locators, stay. */
	rc = mdb_env_copyfd2(store->env, fd, 0);
	(void)close(fd);
	if (rc != 0)
		return give_up(copy, dir_fd, true,
		               store_fail(err, rc, "store.%llu: copying to store.%llu",
		                          (unsigned long long)store->number, (unsigned long long)number));
	status = make_page(copy, store->grace_ns, store->gen, err);
	if (status == SHMETA_OK)
		status = check_data_file(copy, err);
	if (status == SHMETA_OK)
		status = open_env(copy, NULL, false, err);
	if (status == SHMETA_OK)
		status = adopt(copy, err);
	if (status != SHMETA_OK)
		return give_up(copy, dir_fd, true, status);
	sign_page(copy);
	*ret = copy;
	return SHMETA_OK;
}

enum shmeta_status shmeta__store_remove(int dir_fd, uint64_t number, struct shmeta_err *err)
{
	static const char *const files[] = {"generation", "data.mdb", "lock.mdb"};
	char name[32];
	int fd;

	name_of(&name, number);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? SHMETA_OK : shmeta_fail_errno(err, errno, "%s: opening the directory", name);
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		if (unlinkat(fd, files[i], 0) < 0 && errno != ENOENT) {
			int e = errno;

			(void)close(fd);
			return shmeta_fail_errno(err, e, "%s/%s: removing", name, files[i]);
		}
	(void)close(fd);
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
		return shmeta_fail_errno(err, errno, "%s: removing the directory", name);
	return SHMETA_OK;
}

enum shmeta_status shmeta__store_inspect(const char *path, struct shmeta__store **ret, struct shmeta_err *err)
{
	struct shmeta__store *store = store_new(0, false);
	struct shmeta_generation copy;
	enum shmeta_status status;
	struct stat st;
	void *map;

	if (store == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	store->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->dir_fd < 0) {
		status = errno == ENOENT ? shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist", path)
		                         : shmeta_fail_errno(err, errno, "%s", path);
		return give_up(store, -1, false, status);
	}
	status = check_data_file(store, err);
	/* LMDB would take an empty file for a new environment, and could not make it here. */
	if (status == SHMETA_OK && fstatat(store->dir_fd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_size < 2 * SHMETA_PAGE)
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb has %lld bytes; a store has two pages at least",
		                     (long long)st.st_size);
	/* A copy of data.mdb alone can be looked at as well. */
	if (status == SHMETA_OK && fstatat(store->dir_fd, "generation", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		status = shmeta__map_file(store->dir_fd, "generation", SHMETA_GENERATION_BYTES, 0, &map, err);
		if (status == SHMETA_OK) {
			store->gen = map;
			copy = *store->gen;
			store->touched = (uint64_t *)((char *)map + SHMETA_PAGE);
			status = shmeta__generation_check(&copy, (uint64_t)st.st_size, err);
		}
		if (status == SHMETA_OK) {
			store->number = copy.generation;
			store->max_bytes = copy.max_bytes;
			store->grace_ns = copy.grace_ns;
		}
	}
	if (status == SHMETA_OK)
		status = open_env(store, path, false, err);
	if (status != SHMETA_OK) {
		if (err != NULL)
			(void)shmeta_fail_prefix(err, "%s", path);
		return give_up(store, -1, false, status);
	}
	*ret = store;
	return SHMETA_OK;
}

/* ---- what one can ask it ---------------------------------------------------------------------------------------------- */

struct shmeta_generation *shmeta__store_generation(struct shmeta__store *store)
{
	return store->gen;
}

const struct shmeta_store_format *shmeta__store_format(struct shmeta__store *store)
{
	return &store->format;
}

struct shmeta_store_counters *shmeta__store_counters(struct shmeta__store *store)
{
	return &store->counters;
}

uint64_t shmeta__store_number(struct shmeta__store *store)
{
	return store->number;
}

void shmeta__store_inode(struct shmeta__store *store, uint64_t *ret_dev, uint64_t *ret_ino)
{
	*ret_dev = store->dev;
	*ret_ino = store->ino;
}

enum shmeta_status shmeta__store_usage(struct shmeta__store *store, struct shmeta__store_usage *ret,
                                       struct shmeta_err *err)
{
	struct shmeta__store_usage usage = {.max_bytes = store->max_bytes, .proxies = store->proxies};
	MDB_cursor *cursor = NULL;
	MDB_envinfo info;
	MDB_val key, value;
	MDB_txn *txn;
	struct stat st;
	int rc;

	if (store->broken) {
		enum shmeta_status status = store_reopen(store, err);

		if (status != SHMETA_OK)
			return status;
	}
	if (fstatat(store->dir_fd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) == 0)
		usage.file_bytes = (uint64_t)st.st_size;
	usage.oldest_proxy_txn = store->proxies > 0 ? store->proxy[0].txn : 0;
	rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: reading", (unsigned long long)store->number);
	for (int db = 0; db < SHMETA_DB_COUNT && rc == 0; db++) {
		MDB_stat s;

		rc = mdb_stat(txn, store->dbi[db], &s);
		if (rc != 0)
			break;
		usage.entries[db] = s.ms_entries - 1; /* without the sentinel */
		usage.db_bytes[db] = (s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages) * SHMETA_PAGE;
	}
	/* LMDB's free list is database 0: transaction -> count, page numbers. */
	if (rc == 0)
		rc = mdb_cursor_open(txn, 0, &cursor);
	while (rc == 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		size_t count = 0;

		if (value.mv_size >= sizeof count)
			memcpy(&count, value.mv_data, sizeof count);
		usage.free_bytes += (uint64_t)count * SHMETA_PAGE;
	}
	if (rc == MDB_NOTFOUND)
		rc = 0;
	if (cursor != NULL)
		mdb_cursor_close(cursor);
	(void)mdb_env_info(store->env, &info);
	mdb_txn_abort(txn);
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: usage", (unsigned long long)store->number);
	usage.used_bytes = (info.me_last_pgno + 1) * SHMETA_PAGE;
	usage.used_bytes -= usage.free_bytes < usage.used_bytes ? usage.free_bytes : usage.used_bytes;
	*ret = usage;
	return SHMETA_OK;
}
