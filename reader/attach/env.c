/* SPDX-License-Identifier: Apache-2.0
 * One mapped generation: its data.mdb and its generation page. After env_open() no descriptor is
 * needed, and none is kept. */
#include "reader/attach/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/boot_id_text.h"
#include "base/once.h"
#include "shm/index/verified.h"
#include "shm/record/entry.h"
#include "shm/store/store.h"

enum { BEGINS_MAX = 400, SURVEYS_MAX = 3 };
static const uint64_t SURVEY_NS = 10 * MILLION;

/* Readers trust the file, so only its writer may be able to change it. */
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

/* A store of a former version has none, and a store may go without: then nobody can say what
 * changed. */
static void map_journal(struct env *env, int dir, uid_t owner)
{
	struct shmeta_journal copy;
	struct stat st;
	void *map;

	if (shmeta__map_file(dir, "journal", SHMETA_JOURNAL_BYTES, 0, &map, NULL) != SHMETA_OK)
		return;
	shmeta__copy_once(&copy, map, sizeof copy);
	if (fstatat(dir, "journal", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    trusted(&st, owner, "journal", NULL) == SHMETA_OK &&
	    shmeta__journal_check(&copy, env->generation) == SHMETA_OK) {
		env->journal = map;
		env->first_generation = copy.first_generation;
	} else {
		(void)munmap(map, SHMETA_JOURNAL_BYTES);
	}
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
			env->map_bytes = copy.max_bytes / SHMETA_PAGE * SHMETA_PAGE;
			map_journal(env, dir, owner);
		}
	}
	(void)close(dir);
	if (status != SHMETA_OK)
		(void)shmeta_fail_prefix(err, "%s", store);
	return status;
}

/* Looked up once per commit. NULL: the tree of databases is damaged. */
static inline const struct shmeta__tree *tree_of(struct view *view, enum shmeta_db db)
{
	if (unlikely((view->opened >> db & 1) == 0)) {
		if (shmeta__tree_open(&view->pages, &view->databases, db, &view->db[db]) != SHMETA_OK)
			return NULL;
		view->opened |= UINT32_C(1) << db;
	}
	return &view->db[db];
}

/* The value as it is stored, sealed or not. */
static enum shmeta_status view_get(struct view *view, enum shmeta_db db, const void *key, size_t key_bytes,
                                   const void **ret_value, size_t *ret_bytes)
{
	const struct shmeta__tree *tree = tree_of(view, db);

	return unlikely(tree == NULL) ? SHMETA_ERR_CORRUPT
	                              : shmeta__tree_get(&view->pages, tree, key, key_bytes, ret_value, ret_bytes);
}

static enum shmeta_status read_format(struct env *env, struct view *view, struct shmeta_err *err)
{
	struct shmeta_store_format format;
	char boot[37] = "";
	uint8_t now[16];
	const void *value;
	size_t bytes;
	ssize_t got;
	int fd;
	enum shmeta_status status =
		view_get(view, SHMETA_DB_META, SHMETA_META_FORMAT, sizeof SHMETA_META_FORMAT - 1, &value, &bytes);

	/* Number and version come first in every format, past and future. */
	if (status != SHMETA_OK || bytes < offsetof(struct shmeta_store_format, created_at_ns))
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "meta: no readable format record");
	shmeta__copy_once(&format, value, offsetof(struct shmeta_store_format, created_at_ns));
	if (format.format != SHMETA_STORE_FORMAT)
		return shmeta_fail(
			err, SHMETA_ERR_VERSION,
			"store format %u (writer %u.%u.%u), this library (%s) reads format %u: use the library of "
			"the writer's version",
			format.format, format.writer_version >> 16, format.writer_version >> 8 & 255,
			format.writer_version & 255, SHMETA_VERSION_STRING, SHMETA_STORE_FORMAT);
	if (!shmeta__unseal(SHMETA_DB_META, SHMETA_META_FORMAT, sizeof SHMETA_META_FORMAT - 1, value, &bytes) ||
	    bytes != sizeof format)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "meta: the format record is damaged");
	shmeta__copy_once(&format, value, sizeof format);
	env->lineage = format.created_at_ns ^ format.fingerprint;
	/* CLOCK_BOOTTIME stamps of another boot cannot be compared with this boot's clock. */
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		got = read(fd, boot, sizeof boot - 1);
		(void)close(fd);
		env->other_boot = got > 0 && shmeta__boot_id_parse(boot, (size_t)got, now) &&
		                  memcmp(now, format.boot_id, sizeof now) != 0;
	}
	return SHMETA_OK;
}

/* Every database is there and holds its sentinel: one without is broken, not empty. */
static enum shmeta_status look_at_databases(struct env *env, struct view *view, struct shmeta_err *err)
{
	static const char *const names[SHMETA_DB_COUNT] = {
#define X(name, text, integer, what) [SHMETA_DB_##name] = text,
		SHMETA_DB_LIST(X)
#undef X
	};
	static const int integers[SHMETA_DB_COUNT] = {
#define X(name, text, integer, what) [SHMETA_DB_##name] = integer,
		SHMETA_DB_LIST(X)
#undef X
	};
	static const uint64_t number = SHMETA_SENTINEL_NUMBER;
	enum shmeta_status status = SHMETA_OK;
	const void *value;
	size_t bytes;

	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT && status == SHMETA_OK; db++) {
		const void *key = integers[db] ? (const void *)&number : SHMETA_SENTINEL_KEY;

		status = view_get(view, db, key, integers[db] ? sizeof number : SHMETA_SENTINEL_BYTES, &value, &bytes);
		if (status != SHMETA_OK)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: its sentinel is missing or cannot be reached",
			                   names[db]);
		/* First: another format may have other databases. */
		if (db == SHMETA_DB_META)
			status = read_format(env, view, err);
	}
	return status;
}

/* Read the format and the sentinels in the newest commit, without a pin: try again when the writer
 * committed meanwhile, or when it took so long that pages may have been recycled. */
static enum shmeta_status survey(struct env *env, uint64_t file_bytes, const char *store, struct shmeta_err *err)
{
	uint64_t limit_ns = env->grace_half_ns > SURVEY_NS ? env->grace_half_ns : SURVEY_NS;
	enum shmeta_status status;
	struct view view;

	for (unsigned tries = 0, late = 0; tries < BEGINS_MAX && late < SURVEYS_MAX; tries++) {
		uint64_t committed = shmeta_load(&env->gen->committed), begun_ns = shmeta__boottime_ns();

		if (tries > 0)
			shmeta__relax(tries);
		if (committed == 0)
			return shmeta_fail(err, SHMETA_UNKNOWN, "generation %llu: nothing was committed yet",
			                   (unsigned long long)env->generation);
		status = shmeta__env_show(env, committed, &view, err);
		shmeta_fence_read();
		if (shmeta_load(&env->gen->committed) != committed)
			continue;
		if (status == SHMETA_OK && view.pages.bytes > file_bytes)
			status = shmeta__data_check(file_bytes, view.pages.bytes / SHMETA_PAGE - 1, SHMETA_PAGE, err);
		if (status == SHMETA_OK)
			status = look_at_databases(env, &view, err);
		if (shmeta__boottime_ns() - begun_ns < limit_ns)
			return status;
		late++;
	}
	return shmeta_fail(err, SHMETA_ERR_CONTENDED, "%s: no snapshot of it stayed for long enough to be looked at",
	                   store);
}

static enum shmeta_status map_data(struct env *env, const char *store, uid_t owner, struct shmeta_err *err)
{
	enum shmeta_status status;
	uint64_t file_bytes;
	struct stat st;
	char *path;
	void *map;
	int fd;

	if (asprintf(&path, "%s/data.mdb", store) < 0)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", store);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		status = shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist", path);
	else if (fd < 0 && errno == EACCES)
		status = shmeta__permission_error(err, path, "opening the store");
	else if (fd < 0 || fstat(fd, &st) < 0)
		status = shmeta_fail_errno(err, errno, "%s", path);
	else
		status = trusted(&st, owner, "data.mdb", err);
	if (status == SHMETA_OK && st.st_size < 2 * SHMETA_PAGE)
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                     "%s: has %lld bytes, a store has two pages at least: it was cut off", path,
		                     (long long)st.st_size);
	free(path);
	if (status != SHMETA_OK) {
		if (fd >= 0)
			(void)close(fd);
		return status;
	}
	/* The file grows within its map. */
	map = mmap(NULL, env->map_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		status = errno == ENOMEM ? shmeta_fail(err, SHMETA_ERR_NO_MEMORY,
		                                       "%s: no room for a map of %llu bytes of address space "
		                                       "(ulimit -v, RLIMIT_AS)",
		                                       store, (unsigned long long)env->map_bytes)
		                         : shmeta_fail_errno(err, errno, "%s: mapping data.mdb", store);
	else
		env->data = map;
	if (status == SHMETA_OK) {
		do {
			file_bytes = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
			status = survey(env, file_bytes, store, err);
			/* The writer may have made it longer since. */
		} while (status == SHMETA_ERR_CORRUPT && fstat(fd, &st) == 0 && (uint64_t)st.st_size > file_bytes);
	}
	(void)close(fd);
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
	env->verified = calloc(1, sizeof *env->verified);
	env->generation = generation;
	/* On the heap: a begin that opens a generation runs on stacks of any size. */
	if (asprintf(&store, "%s/store.%llu", directory, (unsigned long long)generation) < 0) {
		free(env);
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", directory);
	}
	status = map_page(env, store, owner, err);
	if (status == SHMETA_OK)
		status = map_data(env, store, owner, err);
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
	shmeta_ref(&env->refs);
	return env;
}

void shmeta__env_unref(struct env *env)
{
	if (env == NULL || !shmeta_unref(&env->refs))
		return;
	if (env->gen != NULL)
		(void)munmap((void *)(uintptr_t)env->gen, env->gen_bytes);
	if (env->journal != NULL)
		(void)munmap((void *)(uintptr_t)env->journal, SHMETA_JOURNAL_BYTES);
	if (env->data != NULL)
		(void)munmap((void *)(uintptr_t)env->data, env->map_bytes);
	free(env->verified);
	free(env);
}

/* ---- what one commit shows ---- */

enum shmeta_status shmeta__env_show(const struct env *env, uint64_t txn, struct view *ret, struct shmeta_err *err)
{
	struct shmeta__tree_meta meta;
	enum shmeta_status status = shmeta__tree_read_meta(env->data, txn, &meta, NULL, err);

	if (status == SHMETA_ABSENT)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: no meta page speaks of commit %llu",
		                   (unsigned long long)txn);
	if (status != SHMETA_OK)
		return status;
	if (meta.last_page >= env->map_bytes / SHMETA_PAGE)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                   "data.mdb: commit %llu ends with page %llu, which cannot be",
		                   (unsigned long long)txn, (unsigned long long)meta.last_page);
	ret->pages = (struct shmeta__pages){env->data, (meta.last_page + 1) * SHMETA_PAGE, SHMETA_PAGE, env->verified};
	ret->databases = meta.databases;
	ret->opened = 0;
	return SHMETA_OK;
}

enum shmeta_status shmeta__view_get(struct view *view, enum shmeta_db db, const void *key, size_t key_bytes,
                                    const void **ret_value, size_t *ret_bytes)
{
	enum shmeta_status status = view_get(view, db, key, key_bytes, ret_value, ret_bytes);

	if (status == SHMETA_OK && unlikely(!shmeta__unseal(db, key, key_bytes, *ret_value, ret_bytes)))
		status = SHMETA_ERR_CORRUPT;
	return status;
}

enum shmeta_status shmeta__view_walk(struct view *view, enum shmeta_db db, const void *key, size_t key_bytes,
                                     struct shmeta__tree_place *place, struct shmeta__tree_entry *ret)
{
	const struct shmeta__tree *tree = tree_of(view, db);

	if (unlikely(tree == NULL))
		return SHMETA_ERR_CORRUPT;
	return key != NULL ? shmeta__tree_seek(&view->pages, tree, key, key_bytes, place, ret)
	                   : shmeta__tree_next(&view->pages, tree, place, ret);
}
