/* SPDX-License-Identifier: Apache-2.0
 * Looking at a generation that may be damaged (store_inspect.h). */
#include "shm/store/store_inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/once.h"
#include "shm/record/entry.h"
#include "shm/store/store_private.h"

enum { TRIES = 6, PAUSE_NS = 1000000 }; /* a living writer may commit between two looks */

static enum shmeta_status damaged(enum shmeta_db db, struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: a page or an entry of '%s' is damaged",
	                   store_db_name(db));
}

/* ---- opening ---- */

static enum shmeta_status read_page(struct shmeta__inspected *of, int dir_fd, struct shmeta_err *err)
{
	struct shmeta_generation copy;
	enum shmeta_status status;
	struct stat st;
	void *map;

	/* A copy of data.mdb alone can be looked at as well. */
	if (fstatat(dir_fd, "generation", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return SHMETA_OK;
	status = shmeta__map_file(dir_fd, "generation", SHMETA_GENERATION_BYTES, 0, &map, err);
	if (status != SHMETA_OK)
		return status;
	shmeta__copy_once(&copy, map, sizeof copy);
	(void)munmap(map, SHMETA_GENERATION_BYTES);
	status = shmeta__generation_check(&copy, (uint64_t)st.st_size, err);
	of->number = copy.generation;
	of->max_bytes = copy.max_bytes;
	of->committed = copy.committed;
	return status;
}

static enum shmeta_status read_format(struct shmeta__inspected *of, struct shmeta_err *err)
{
	const void *value;
	size_t bytes;
	/* With the seal: the number of the format comes first in those that have none. */
	enum shmeta_status status = shmeta__tree_get(&of->pages, &of->tree[SHMETA_DB_META], SHMETA_META_FORMAT,
	                                             strlen(SHMETA_META_FORMAT), &value, &bytes);

	if (status < 0)
		return damaged(SHMETA_DB_META, err);
	status = store_judge_format(of->number, status == SHMETA_OK ? value : NULL, bytes, err);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__inspect_get(of, SHMETA_DB_META, SHMETA_META_FORMAT, strlen(SHMETA_META_FORMAT), &value, &bytes,
	                             err);
	if (status != SHMETA_OK || bytes != sizeof of->format)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: its format record is damaged");
	memcpy(&of->format, value, sizeof of->format);
	of->format.source[sizeof of->format.source - 1] = 0;
	status = shmeta__inspect_get(of, SHMETA_DB_META, SHMETA_META_COUNTERS, strlen(SHMETA_META_COUNTERS), &value,
	                             &bytes, err);
	if (status != SHMETA_OK || bytes != sizeof of->counters)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: its counters record is missing or damaged");
	memcpy(&of->counters, value, sizeof of->counters);
	return SHMETA_OK;
}

/* The newest commit, as far as the file is there. */
static enum shmeta_status show(struct shmeta__inspected *of, struct shmeta_err *err)
{
	struct shmeta__tree_meta meta;
	uint64_t newest = 0;
	enum shmeta_status status = shmeta__tree_read_meta(of->map, UINT64_MAX, &meta, &newest, err);

	if (status == SHMETA_ABSENT)
		status = shmeta__tree_read_meta(of->map, newest, &meta, NULL, err);
	if (status == SHMETA_ABSENT)
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: no meta page speaks of its newest commit");
	if (status != SHMETA_OK)
		return status;
	status = shmeta__data_check(of->map_bytes, meta.last_page, SHMETA_PAGE, err);
	if (status != SHMETA_OK)
		return status;
	of->txn = meta.txn;
	of->free = meta.free;
	if (of->number == 0)
		of->max_bytes = meta.map_bytes;
	of->pages = (struct shmeta__pages){
		.base = of->map, .bytes = (meta.last_page + 1) * SHMETA_PAGE, .page_bytes = SHMETA_PAGE};
	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT; db++) {
		if (shmeta__tree_open(&of->pages, &meta.databases, db, &of->tree[db]) != SHMETA_OK)
			return damaged(db, err);
		/* First: another format may have other databases. */
		if (db == SHMETA_DB_META && (status = read_format(of, err)) != SHMETA_OK)
			return status;
	}
	return SHMETA_OK;
}

static enum shmeta_status look(struct shmeta__inspected *of, int dir_fd, struct shmeta_err *err)
{
	enum shmeta_status status = store_map_data(dir_fd, "data.mdb", &of->map, &of->map_bytes, err);

	if (status != SHMETA_OK)
		return status;
	status = show(of, err);
	if (status != SHMETA_OK) {
		(void)munmap((void *)(uintptr_t)of->map, of->map_bytes);
		of->map = NULL;
	}
	return status;
}

enum shmeta_status shmeta__inspect_open(const char *path, struct shmeta__inspected **ret, struct shmeta_err *err)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	struct shmeta__inspected *of;
	enum shmeta_status status;
	int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir_fd < 0)
		return errno == ENOENT ? shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist", path)
		                       : shmeta_fail_errno(err, errno, "%s", path);
	of = calloc(1, sizeof *of);
	status = of != NULL ? read_page(of, dir_fd, err) : shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	if (status == SHMETA_OK) {
		status = look(of, dir_fd, err);
		for (int tries = 1; status == SHMETA_ERR_CORRUPT && of->number != 0 && tries < TRIES; tries++) {
			(void)nanosleep(&pause, NULL);
			status = look(of, dir_fd, err);
		}
	}
	(void)close(dir_fd);
	if (status == SHMETA_OK) {
		*ret = of;
		return status;
	}
	free(of);
	return err != NULL ? shmeta_fail_prefix(err, "%s", path) : status;
}

void shmeta__inspect_close(struct shmeta__inspected *of)
{
	if (of == NULL)
		return;
	(void)munmap((void *)(uintptr_t)of->map, of->map_bytes);
	free(of);
}

/* ---- entries ---- */

enum shmeta_status shmeta__inspect_get(const struct shmeta__inspected *of, enum shmeta_db db, const void *key,
                                       size_t key_bytes, const void **ret_value, size_t *ret_bytes,
                                       struct shmeta_err *err)
{
	enum shmeta_status status = shmeta__tree_get(&of->pages, &of->tree[db], key, key_bytes, ret_value, ret_bytes);

	if (status == SHMETA_OK && !shmeta__unseal(db, key, key_bytes, *ret_value, ret_bytes))
		status = SHMETA_ERR_CORRUPT;
	return status < 0 ? damaged(db, err) : status;
}

static enum shmeta_status shown(struct shmeta__inspect_walk *walk, enum shmeta_status status,
                                struct shmeta__tree_entry *ret, struct shmeta_err *err)
{
	while (status == SHMETA_OK && shmeta__is_sentinel(walk->db, ret->key, ret->key_bytes))
		status = shmeta__tree_next(&walk->of->pages, &walk->of->tree[walk->db], &walk->place, ret);
	if (status == SHMETA_OK && !shmeta__unseal(walk->db, ret->key, ret->key_bytes, ret->value, &ret->bytes))
		status = SHMETA_ERR_CORRUPT;
	return status < 0 ? damaged(walk->db, err) : status;
}

enum shmeta_status shmeta__inspect_first(struct shmeta__inspect_walk *walk, const struct shmeta__inspected *of,
                                         enum shmeta_db db, const void *key, size_t key_bytes,
                                         struct shmeta__tree_entry *ret, struct shmeta_err *err)
{
	const struct shmeta__tree *tree = &of->tree[db];

	walk->of = of;
	walk->db = db;
	return shown(walk,
	             key == NULL ? shmeta__tree_first(&of->pages, tree, &walk->place, ret)
	                         : shmeta__tree_seek(&of->pages, tree, key, key_bytes, &walk->place, ret),
	             ret, err);
}

enum shmeta_status shmeta__inspect_next(struct shmeta__inspect_walk *walk, struct shmeta__tree_entry *ret,
                                        struct shmeta_err *err)
{
	return shown(walk, shmeta__tree_next(&walk->of->pages, &walk->of->tree[walk->db], &walk->place, ret), ret, err);
}

/* ---- usage ---- */

static enum shmeta_status free_bytes(const struct shmeta__inspected *of, uint64_t *ret, struct shmeta_err *err)
{
	struct shmeta__tree_place place;
	struct shmeta__tree_entry entry;
	enum shmeta_status status = shmeta__tree_first(&of->pages, &of->free, &place, &entry);
	uint64_t count;

	*ret = 0;
	for (; status == SHMETA_OK; status = shmeta__tree_next(&of->pages, &of->free, &place, &entry)) {
		if (entry.bytes < sizeof count)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT,
			                   "data.mdb: an entry of its list of free pages is too short");
		shmeta__copy_once(&count, entry.value, sizeof count);
		if (count > entry.bytes / sizeof count - 1)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT, "data.mdb: more free pages than fit their entry");
		*ret += count * SHMETA_PAGE;
	}
	return status == SHMETA_END ? SHMETA_OK
	                            : shmeta_fail(err, status, "data.mdb: its list of free pages is damaged");
}

enum shmeta_status shmeta__inspect_usage(const struct shmeta__inspected *of, struct shmeta__store_usage *ret,
                                         struct shmeta_err *err)
{
	struct shmeta__store_usage usage = {.max_bytes = of->max_bytes, .file_bytes = of->map_bytes};
	enum shmeta_status status = free_bytes(of, &usage.free_bytes, err);

	if (status != SHMETA_OK)
		return status;
	for (enum shmeta_db db = 0; db < SHMETA_DB_COUNT; db++) {
		/* without the sentinel */
		usage.entries[db] = of->tree[db].entries - (of->tree[db].entries > 0);
		usage.db_bytes[db] = of->tree[db].pages * SHMETA_PAGE;
	}
	usage.used_bytes = of->pages.bytes - (usage.free_bytes < of->pages.bytes ? usage.free_bytes : of->pages.bytes);
	*ret = usage;
	return SHMETA_OK;
}
