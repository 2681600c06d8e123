/* SPDX-License-Identifier: Apache-2.0
 * A generation's LMDB environment: opened, proved to be laid out as locators need it, opened again
 * after a panic.
 *
 * LMDB takes a path where we have a directory: it gets /proc/self/fd/<directory>, so that a rename
 * above us cannot lead it elsewhere. data.mdb and lock.mdb are made by us before LMDB opens them,
 * with their modes whatever the umask, without following links, and lock.mdb allocated in full: a
 * sparse one kills whoever touches it when the tmpfs is full. */
#include "shm/store/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/record/entry.h"

enum {
	/* struct MDB_txninfo and MDB_reader of LMDB 0.9 are cache lines; a few pages more do not
	 * matter. */
	STORE_LOCK_BYTES = ((STORE_LOCK_READERS + 16) * 64 + SHMETA_PAGE - 1) / SHMETA_PAGE * SHMETA_PAGE
};

static const char beacon_text[8] = "SHMBEACN";

/* ---- LMDB's library and layout ---- */

/* LMDB 0.9.26 to 0.9.31 destroy their mutexes under another process that opens at the same moment
 * (ITS#10095). */
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

/* Locators are LMDB page numbers. Prove with two values of this very file that a page number leads
 * to the address that mdb_get() gives, and derive the address of the map. */
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

/* ---- environment ---- */

/* lock.mdb is made anew: nobody but the one writer uses it, and it says nothing that outlives a
 * process. */
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

enum shmeta_status store_env_find(struct shmeta__store *store, struct shmeta_err *err)
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

static enum shmeta_status load_meta(struct shmeta__store *store, MDB_txn *txn, struct shmeta_err *err)
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
		status = load_meta(store, txn, err);
	if (status != SHMETA_OK) {
		mdb_txn_abort(txn);
		return status;
	}
	/* Committing keeps the database handles, also of a read transaction. */
	rc = mdb_txn_commit(txn);
	return rc == 0 ? SHMETA_OK : store_fail(err, rc, "store.%llu: first commit", (unsigned long long)store->number);
}

/* Before anything but the meta pages is touched. */
static enum shmeta_status check_length(struct shmeta__store *store, struct shmeta_err *err)
{
	MDB_envinfo info;
	struct stat st;
	int fd;

	(void)mdb_env_info(store->env, &info);
	if (mdb_env_get_fd(store->env, &fd) != 0 || fstat(fd, &st) < 0)
		return shmeta_fail_errno(err, errno, "store.%llu/data.mdb", (unsigned long long)store->number);
	return shmeta__data_check((uint64_t)st.st_size, info.me_last_pgno, store->page_bytes, err);
}

enum shmeta_status store_env_open(struct shmeta__store *store, bool create, struct shmeta_err *err)
{
	char through_fd[64];
	enum shmeta_status status;
	MDB_envinfo info;
	MDB_stat stat;
	MDB_txn *txn;
	int rc, fd;

	status = check_library(err);
	if (status == SHMETA_OK)
		status = make_lock(store->dir_fd, err);
	if (status != SHMETA_OK)
		return status;
	(void)snprintf(through_fd, sizeof through_fd, "/proc/self/fd/%d", store->dir_fd);
	rc = mdb_env_create(&store->env);
	if (rc != 0)
		return store_fail(err, rc, "LMDB environment");
	(void)mdb_env_set_maxdbs(store->env, SHMETA_DB_COUNT);
	(void)mdb_env_set_maxreaders(store->env, STORE_LOCK_READERS);
	rc = mdb_env_set_mapsize(store->env, store->max_bytes);
	if (rc == 0)
		rc = mdb_env_open(store->env, through_fd, MDB_NOSYNC | MDB_NOTLS, 0600);
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
	store->max_bytes = info.me_mapsize;
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

/* What LMDB holds is what counts. A writer that was killed between LMDB's commit and the page left
 * the page one behind. */
enum shmeta_status store_env_adopt(struct shmeta__store *store, const struct shmeta_journal *like,
                                   struct shmeta_err *err)
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
	if (store->journal != NULL)
		shmeta__journal_begin(store->journal, store->number, txn, like);
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
	status = store_env_open(store, false, err);
	if (status == SHMETA_OK)
		status = store_env_adopt(store, NULL, err);
	if (status != SHMETA_OK)
		return status;
	store->broken = false;
	store->hold = true;
	return SHMETA_OK;
}
