/* SPDX-License-Identifier: Apache-2.0
 * One mapped generation: its LMDB environment, opened without LMDB's lock file, and its generation page.
 *
 * After env_open() no descriptor is needed: LMDB keeps the one of data.mdb, but uses it only to close it. */
#include "reader/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/once.h"
#include "shm/store.h"

enum { BEGINS_MAX = 400, SURVEYS_MAX = 3 };
static const uint64_t SURVEY_NS = 10 * MILLION;

static const char *const db_names[SHMETA_DB_COUNT] = {
#define X(name, text, integer, what) [SHMETA_DB_##name] = text,
	SHMETA_DB_LIST(X)
#undef X
};
static const int db_integer[SHMETA_DB_COUNT] = {
#define X(name, text, integer, what) [SHMETA_DB_##name] = integer,
	SHMETA_DB_LIST(X)
#undef X
};

static enum shmeta_status lmdb_fail(struct shmeta_err *err, int rc, const char *what)
{
	switch (rc) {
	case MDB_VERSION_MISMATCH:
		return shmeta_fail(err, SHMETA_ERR_VERSION, "%s: written by another major version of LMDB than %s",
		                   what, mdb_version(NULL, NULL, NULL));
	case MDB_INVALID:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_NOTFOUND:
	case MDB_MAP_RESIZED:
	case MDB_INCOMPATIBLE:
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: %s", what, mdb_strerror(rc));
	default:
		if (rc > 0)
			return shmeta_fail_errno(err, rc, "%s", what);
		return shmeta_fail(err, SHMETA_ERR_SYSTEM, "%s: %s", what, mdb_strerror(rc));
	}
}

/* A file that readers believe must be its writer's alone. */
static enum shmeta_status trusted(const struct stat *st, uid_t owner, const char *name, struct shmeta_err *err)
{
	if (!S_ISREG(st->st_mode))
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: not a regular file", name);
	if (st->st_uid != owner)
		return shmeta_fail(err, SHMETA_ERR_PERMISSION, "%s: belongs to user %u, the board to user %u: refused",
		                   name, st->st_uid, owner);
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return shmeta_fail(err, SHMETA_ERR_PERMISSION,
		                   "%s: mode %04o lets others than its owner write it: refused", name,
		                   st->st_mode & 07777);
	return SHMETA_OK;
}

static enum shmeta_status map_page(struct env *env, const char *store, uid_t owner, struct shmeta_err *err)
{
	struct shmeta_generation copy;
	enum shmeta_status status;
	struct stat st;
	void *map;
	size_t bytes;
	int dir = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 && errno == ENOENT)
		return shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist", store);
	if (dir < 0 && errno == EACCES)
		return shmeta__permission_error(err, store, "opening the store");
	if (dir < 0)
		return shmeta_fail_errno(err, errno, "%s: opening", store);
	status = shmeta__map_file(dir, "generation", SHMETA_PAGE, 0, &map, err);
	if (status == SHMETA_OK) {
		if (fstatat(dir, "generation", &st, AT_SYMLINK_NOFOLLOW) < 0)
			status = shmeta_fail_errno(err, errno, "generation: stat");
		else
			status = trusted(&st, owner, "generation", err);
		shmeta__copy_once(&copy, map, sizeof copy);
		(void)munmap(map, SHMETA_PAGE);
		if (status == SHMETA_OK)
			status = shmeta__generation_check(&copy, (uint64_t)st.st_size, err);
		if (status == SHMETA_OK && copy.generation != env->generation)
			status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "generation: says it is number %llu",
			                     (unsigned long long)copy.generation);
	}
	if (status == SHMETA_OK) {
		bytes = copy.touched_at + (size_t)copy.touched_words * sizeof(uint64_t);
		status = shmeta__map_file(dir, "generation", bytes, 0, &map, err);
		if (status == SHMETA_OK) {
			env->gen = map;
			env->gen_bytes = bytes;
			env->touched = (const uint64_t *)(const void *)((const char *)map + copy.touched_at);
			env->grace_half_ns = copy.grace_ns / 2;
			env->pages.bytes = copy.max_bytes;
		}
	}
	(void)close(dir);
	if (status != SHMETA_OK)
		(void)shmeta_fail_prefix(err, "%s", store);
	return status;
}

static enum shmeta_status read_format(struct env *env, MDB_txn *txn, struct shmeta_err *err)
{
	struct shmeta_store_format format;
	char boot[37] = "";
	uint8_t now[16] = {0};
	const void *value;
	size_t bytes, n = 0;
	ssize_t got;
	int fd;
	enum shmeta_status status = shmeta__env_get(env, txn, SHMETA_DB_META, SHMETA_META_FORMAT,
	                                            sizeof SHMETA_META_FORMAT - 1, &value, &bytes);

	if (status != SHMETA_OK || bytes != sizeof format)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "meta: no readable format record");
	shmeta__copy_once(&format, value, sizeof format);
	if (format.format != SHMETA_STORE_FORMAT)
		return shmeta_fail(
			err, SHMETA_ERR_VERSION,
			"store format %u (writer %u.%u.%u), this library (%s) reads format %u: use the library of "
			"the writer's version",
			format.format, format.writer_version >> 16, format.writer_version >> 8 & 255,
			format.writer_version & 255, SHMETA_VERSION_STRING, SHMETA_STORE_FORMAT);
	env->lineage = format.created_at_ns ^ format.fingerprint;
	/* CLOCK_BOOTTIME stamps of another boot look like ages, and are none. */
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		got = read(fd, boot, sizeof boot - 1);
		(void)close(fd);
		for (ssize_t i = 0; i < got && n < 32; i++) {
			int c = boot[i] | 0x20;
			int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

			if (digit >= 0) {
				now[n / 2] = (uint8_t)(now[n / 2] << 4 | digit);
				n++;
			}
		}
		env->other_boot = n == 32 && memcmp(now, format.boot_id, sizeof now) != 0;
	}
	return SHMETA_OK;
}

/* Every database is there and holds its sentinel: one without is broken, not empty. */
static enum shmeta_status open_databases(struct env *env, MDB_txn *txn, struct shmeta_err *err)
{
	uint64_t number = SHMETA_SENTINEL_NUMBER;
	MDB_val key, value;
	int rc;

	for (unsigned i = 0; i < SHMETA_DB_COUNT; i++) {
		rc = mdb_dbi_open(txn, db_names[i], 0, &env->dbi[i]);
		if (rc != 0)
			return lmdb_fail(err, rc, db_names[i]);
		key.mv_size = db_integer[i] ? sizeof number : SHMETA_SENTINEL_BYTES;
		key.mv_data = db_integer[i] ? (void *)&number : (void *)(uintptr_t)SHMETA_SENTINEL_KEY;
		rc = mdb_get(txn, env->dbi[i], &key, &value);
		if (rc != 0)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: its sentinel is missing: %s", db_names[i],
			                   mdb_strerror(rc));
		/* First: another format may have other databases. */
		if (i == SHMETA_DB_META) {
			enum shmeta_status status = read_format(env, txn, err);

			if (status != SHMETA_OK)
				return status;
		}
	}
	return SHMETA_OK;
}

/* Where the map begins: the beacon is a value on a page of its own, and that page's header, in the 16 bytes before the value,
 * begins with its number. */
static enum shmeta_status find_base(struct env *env, MDB_txn *txn, struct shmeta_err *err)
{
	const uint8_t *value, *page;
	const void *found;
	uint64_t number;
	uint32_t magic;
	size_t bytes;
	enum shmeta_status status = shmeta__env_get(env, txn, SHMETA_DB_META, SHMETA_META_BEACON,
	                                            sizeof SHMETA_META_BEACON - 1, &found, &bytes);

	if (status != SHMETA_OK || bytes < SHMETA_BLOCK_BYTES)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "meta: no beacon");
	value = found;
	page = value - 16;
	if ((uintptr_t)page % env->pages.page_bytes != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "meta: the beacon is not on a page of its own");
	shmeta__copy_once(&number, page, sizeof number);
	if (number < 2 || number >= env->pages.bytes / env->pages.page_bytes)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "meta: the beacon is on page %llu, which cannot be",
		                   (unsigned long long)number);
	env->pages.base = page - number * env->pages.page_bytes;
	memcpy(&magic, env->pages.base + 16, sizeof magic);
	if (magic != 0xBEEFC0DE)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "meta: the beacon's page number is wrong");
	return SHMETA_OK;
}

/* A transaction of the newest commit, begun by the rules of snapshot.c and without a pin: while the writer is at it, again. */
static enum shmeta_status begin_stable(struct env *env, MDB_txn **ret, struct shmeta_err *err)
{
	MDB_txn *txn = NULL;
	uint64_t committed;
	int rc;

	for (unsigned tries = 0; tries < BEGINS_MAX; tries++) {
		committed = shmeta_load(&env->gen->committed);
		if (committed == 0)
			return shmeta_fail(err, SHMETA_UNKNOWN, "generation %llu: nothing was committed yet",
			                   (unsigned long long)env->generation);
		rc = mdb_txn_begin(env->lmdb, NULL, MDB_RDONLY, &txn);
		if (rc != 0)
			return lmdb_fail(err, rc, "beginning to read");
		shmeta_fence_read();
		/* The last tries believe in a writer that was killed before it could publish its commit. */
		if (shmeta_load(&env->gen->committed) == committed &&
		    (mdb_txn_id(txn) == committed || (tries > BEGINS_MAX / 2 && mdb_txn_id(txn) == committed + 1))) {
			*ret = txn;
			return SHMETA_OK;
		}
		mdb_txn_abort(txn);
		shmeta__relax(tries);
	}
	return shmeta_fail(err, SHMETA_ERR_CONTENDED, "generation %llu: no stable snapshot",
	                   (unsigned long long)env->generation);
}

/* What is looked up once. ERR_CONTENDED: it took so long that pages may have been recycled meanwhile. */
static enum shmeta_status survey(struct env *env, const char *store, struct shmeta_err *err)
{
	uint64_t begun_ns = shmeta__boottime_ns();
	uint64_t limit_ns = env->grace_half_ns > SURVEY_NS ? env->grace_half_ns : SURVEY_NS;
	enum shmeta_status status;
	MDB_txn *txn = NULL;
	int rc;

	status = begin_stable(env, &txn, err);
	if (status != SHMETA_OK)
		return status;
	status = open_databases(env, txn, err);
	if (status == SHMETA_OK)
		status = find_base(env, txn, err);
	if (shmeta__boottime_ns() - begun_ns >= limit_ns)
		status = shmeta_fail(err, SHMETA_ERR_CONTENDED, "%s: opening took longer than half the grace period",
		                     store);
	/* A commit keeps the handles of the databases, an abort would close them. */
	if (status != SHMETA_OK) {
		mdb_txn_abort(txn);
		return status;
	}
	rc = mdb_txn_commit(txn);
	return rc == 0 ? SHMETA_OK : lmdb_fail(err, rc, store);
}

/* Before anything but the meta pages is touched. The writer may have committed and not lengthened the file yet: look again. */
static enum shmeta_status check_length(struct env *env, int fd, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_ERR_CORRUPT;
	MDB_envinfo info;
	struct stat st;

	for (unsigned tries = 0; status != SHMETA_OK && tries < BEGINS_MAX; tries++) {
		if (tries > 0)
			shmeta__relax(tries);
		(void)mdb_env_info(env->lmdb, &info);
		if (fstat(fd, &st) < 0)
			return shmeta_fail_errno(err, errno, "data.mdb: fstat");
		status = shmeta__data_check((uint64_t)st.st_size, info.me_last_pgno, env->pages.page_bytes, err);
	}
	return status;
}

/* LMDB would take an empty file for a new environment, and could not make it here. */
static enum shmeta_status check_data_file(const char *store, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct stat st;
	int dir = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 || fstatat(dir, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) < 0)
		status = errno == ENOENT
		                 ? shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s/data.mdb: does not exist", store)
		                 : shmeta_fail_errno(err, errno, "%s/data.mdb", store);
	else if (st.st_size < 2 * SHMETA_PAGE)
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                     "%s/data.mdb: has %lld bytes, a store has two pages at least: it was cut off",
		                     store, (long long)st.st_size);
	if (dir >= 0)
		(void)close(dir);
	return status;
}

static enum shmeta_status open_lmdb(struct env *env, const char *store, uid_t owner, struct shmeta_err *err)
{
	enum shmeta_status status;
	struct stat st;
	MDB_stat info;
	int rc, fd;

	status = check_data_file(store, err);
	if (status != SHMETA_OK)
		return status;
	rc = mdb_env_create(&env->lmdb);
	if (rc != 0)
		return lmdb_fail(err, rc, store);
	(void)mdb_env_set_maxdbs(env->lmdb, SHMETA_DB_COUNT);
	rc = mdb_env_set_mapsize(env->lmdb, env->pages.bytes);
	if (rc == 0)
		rc = mdb_env_open(env->lmdb, store, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0);
	if (rc == EACCES) {
		char *path = NULL;

		if (asprintf(&path, "%s/data.mdb", store) < 0)
			path = NULL;
		status = shmeta__permission_error(err, path != NULL ? path : store, "opening the store");
		free(path);
		return status;
	}
	if (rc == ENOMEM)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY,
		                   "%s: no room for a map of %llu bytes of address space (ulimit -v, RLIMIT_AS)", store,
		                   (unsigned long long)env->pages.bytes);
	if (rc != 0)
		return lmdb_fail(err, rc, store);
	/* LMDB sets the flag for its lock file only: a program that the host starts would keep a retired store's memory in use. */
	if (mdb_env_get_fd(env->lmdb, &fd) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fstat(fd, &st) < 0)
		return shmeta_fail_errno(err, errno, "%s/data.mdb: fstat", store);
	status = trusted(&st, owner, "data.mdb", err);
	if (status != SHMETA_OK)
		return status;
	env->data_dev = st.st_dev;
	env->data_ino = st.st_ino;
	(void)mdb_env_stat(env->lmdb, &info);
	env->pages.page_bytes = info.ms_psize;
	status = check_length(env, fd, err);
	if (status != SHMETA_OK)
		return status;
	for (int i = 0; i < SURVEYS_MAX; i++) {
		status = survey(env, store, err);
		if (status != SHMETA_ERR_CONTENDED)
			break;
	}
	return status;
}

enum shmeta_status shmeta__env_open(const char *directory, uint64_t generation, uid_t owner, struct env **ret,
                                    struct shmeta_err *err)
{
	struct env *env = calloc(1, sizeof *env);
	enum shmeta_status status;
	char *store;

	if (env == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", directory);
	env->refs = 1;
	env->generation = generation;
	/* On the heap: a begin that opens a generation runs on stacks of any size. */
	if (asprintf(&store, "%s/store.%llu", directory, (unsigned long long)generation) < 0) {
		free(env);
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", directory);
	}
	status = map_page(env, store, owner, err);
	if (status == SHMETA_OK)
		status = open_lmdb(env, store, owner, err);
	free(store);
	if (status != SHMETA_OK) {
		shmeta__env_unref(env);
		return status;
	}
	*ret = env;
	return SHMETA_OK;
}

struct env *shmeta__env_ref(struct env *env)
{
	(void)__atomic_add_fetch(&env->refs, 1, __ATOMIC_RELAXED);
	return env;
}

void shmeta__env_unref(struct env *env)
{
	int fd;

	if (env == NULL || __atomic_sub_fetch(&env->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	if (env->gen != NULL)
		(void)munmap((void *)(uintptr_t)env->gen, env->gen_bytes);
	if (env->lmdb != NULL) {
		/* Somebody closed LMDB's descriptor and the number now is another file's: mdb_env_close() would close that. Then its
		 * few hundred bytes are given up, and only the map is returned. */
		if (env->data_ino != 0 && mdb_env_get_fd(env->lmdb, &fd) == 0 &&
		    !shmeta__fd_is(fd, env->data_dev, env->data_ino)) {
			if (env->pages.base != NULL)
				(void)munmap((void *)(uintptr_t)env->pages.base, env->pages.bytes);
		} else {
			mdb_env_close(env->lmdb);
		}
	}
	free(env);
}

/* What the newest commit has in use. The file is at least as long, see shmeta__data_check(): checked when it was opened, seen to by the
 * writer since; a lookup must not ask, as it makes no system call. */
static uint64_t used_bytes(const struct env *env)
{
	MDB_envinfo info;
	uint64_t used;

	(void)mdb_env_info(env->lmdb, &info);
	used = ((uint64_t)info.me_last_pgno + 1) * env->pages.page_bytes;
	return used < env->pages.bytes ? used : env->pages.bytes;
}

struct shmeta__pages shmeta__env_pages(struct env *env)
{
	struct shmeta__pages pages = env->pages;

	pages.bytes = used_bytes(env);
	return pages;
}

int shmeta__env_holds(struct env *env, const void *value, size_t bytes)
{
	uint64_t at = (uint64_t)((uintptr_t)value - (uintptr_t)env->pages.base);
	uint64_t used = shmeta_peek(&env->used_bytes);

	if (likely(at <= used && bytes <= used - at))
		return 1;
	/* Before the map's place is known only small values are read, and their size is compared with what it must be. */
	if (env->pages.base == NULL)
		return bytes <= SHMETA_PAGE;
	used = used_bytes(env);
	shmeta_poke(&env->used_bytes, used);
	return at <= used && bytes <= used - at;
}

enum shmeta_status shmeta__env_renew(struct env *env, struct MDB_txn **txn, uint64_t *ret_txn)
{
	int rc;

	if (*txn == NULL) {
		rc = mdb_txn_begin(env->lmdb, NULL, MDB_RDONLY, txn);
		if (rc != 0)
			*txn = NULL;
	} else {
		mdb_txn_reset(*txn);
		rc = mdb_txn_renew(*txn);
		if (rc != 0) {
			mdb_txn_abort(*txn);
			*txn = NULL;
		}
	}
	if (rc != 0)
		return rc == ENOMEM ? SHMETA_ERR_NO_MEMORY : SHMETA_ERR_CORRUPT;
	*ret_txn = mdb_txn_id(*txn);
	return SHMETA_OK;
}

void shmeta__env_txn_free(struct MDB_txn *txn)
{
	if (txn != NULL)
		mdb_txn_abort(txn);
}

void shmeta__env_metas(const struct env *env, uint8_t ret[2 * META_BYTES])
{
	memcpy(ret, env->pages.base, META_BYTES);
	memcpy(ret + META_BYTES, env->pages.base + env->pages.page_bytes, META_BYTES);
}

enum shmeta_status shmeta__env_get(struct env *env, struct MDB_txn *txn, enum shmeta_db db, const void *key,
                                   size_t key_bytes, const void **ret_value, size_t *ret_bytes)
{
	MDB_val k = {key_bytes, (void *)(uintptr_t)key}, v;
	int rc = mdb_get(txn, env->dbi[db], &k, &v);

	if (rc == MDB_NOTFOUND)
		return SHMETA_ABSENT;
	if (rc != 0)
		return SHMETA_ERR_CORRUPT;
	if (unlikely(!shmeta__env_holds(env, v.mv_data, v.mv_size)))
		return SHMETA_ERR_CORRUPT;
	*ret_value = v.mv_data;
	*ret_bytes = v.mv_size;
	return SHMETA_OK;
}
