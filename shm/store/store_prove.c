/* SPDX-License-Identifier: Apache-2.0
 * A store that was found, judged before LMDB sees it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/once.h"
#include "shm/record/entry.h"
#include "shm/store/store_private.h"
#include "shm/tree/tree_check.h"

struct found {
	const uint8_t *base;
	uint64_t bytes;
};

enum shmeta_status store_map_data(int dir_fd, const char *name, const uint8_t **ret, uint64_t *ret_bytes,
                                  struct shmeta_err *err)
{
	const char *slash = strrchr(name, '/');
	enum shmeta_status status = SHMETA_OK;
	struct stat st;
	void *map;
	int fd = openat(dir_fd, slash != NULL ? slash + 1 : name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist", name)
		                       : shmeta_fail_errno(err, errno, "%s: opening", name);
	if (fstat(fd, &st) < 0)
		status = shmeta_fail_errno(err, errno, "%s", name);
	else if (!S_ISREG(st.st_mode))
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: not a regular file", name);
	else if (st.st_size < 2 * SHMETA_PAGE)
		status =
			shmeta_fail(err, SHMETA_ERR_CORRUPT, "%s: has %lld bytes, a store has two pages at least of %d",
		                    name, (long long)st.st_size, SHMETA_PAGE);
	if (status == SHMETA_OK) {
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			status = shmeta_fail_errno(err, errno, "%s: mapping %lld bytes", name, (long long)st.st_size);
		else {
			*ret = map;
			*ret_bytes = (uint64_t)st.st_size;
		}
	}
	(void)close(fd);
	return status;
}

/* A value of META in the newest commit, with its seal. NULL: it cannot be reached. */
static const void *meta_value(const struct found *found, const char *key, size_t *ret_bytes)
{
	struct shmeta__tree_meta meta;
	struct shmeta__pages pages;
	struct shmeta__tree tree;
	const void *value;
	uint64_t newest;

	if (shmeta__tree_read_meta(found->base, UINT64_MAX, &meta, &newest, NULL) < 0 ||
	    shmeta__tree_read_meta(found->base, newest, &meta, NULL, NULL) != SHMETA_OK ||
	    meta.last_page >= found->bytes / SHMETA_PAGE)
		return NULL;
	pages = (struct shmeta__pages){
		.base = found->base, .bytes = (meta.last_page + 1) * SHMETA_PAGE, .page_bytes = SHMETA_PAGE};
	if (shmeta__tree_open(&pages, &meta.databases, SHMETA_DB_META, &tree) != SHMETA_OK ||
	    shmeta__tree_get(&pages, &tree, key, strlen(key), &value, ret_bytes) != SHMETA_OK)
		return NULL;
	return value;
}

enum shmeta_status store_judge_format(uint64_t number, const void *value, size_t bytes, struct shmeta_err *err)
{
	uint32_t format;

	/* The number comes first in every format, past and future. */
	if (value == NULL || bytes < sizeof format)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                   "store.%llu: has no format record; it is not a shmeta store, or broken",
		                   (unsigned long long)number);
	memcpy(&format, value, sizeof format);
	if (format == SHMETA_STORE_FORMAT)
		return SHMETA_OK;
	return shmeta_fail(err, SHMETA_ERR_VERSION,
	                   "store.%llu: has format %u, this program writes format %d; start the program that made "
	                   "it, or remove the directory: the store is filled again from the source",
	                   (unsigned long long)number, format, SHMETA_STORE_FORMAT);
}

/* The generation page beside it is what the same writer left: stamps and commit numbers carry no
 * checksum. */
static enum shmeta_status judge_page(const struct shmeta_generation *page, uint64_t txn, struct shmeta_err *err)
{
	unsigned long long number = page->generation;

	if (txn < page->committed)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                   "store.%llu: its page speaks of commit %llu, its data.mdb ends with %llu; it was "
		                   "rolled back from outside",
		                   number, (unsigned long long)page->committed, (unsigned long long)txn);
	/* Killed within a commit: LMDB's comes before it is published, and after it was
	 * announced. */
	if (txn != page->committed && txn != page->committing)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                   "store.%llu: its page speaks of commits %llu and %llu, its data.mdb ends with %llu",
		                   number, (unsigned long long)page->committed, (unsigned long long)page->committing,
		                   (unsigned long long)txn);
	/* That a class changes is said before the commit is announced. */
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if (page->stamp[cls].txn > txn || page->stamp[cls].changed_txn > page->committing + 1)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT,
			                   "store.%llu: its page has a stamp of a commit that was not made", number);
	return SHMETA_OK;
}

static enum shmeta_status judge_counters(const struct found *found, uint64_t number,
                                         const struct shmeta__tree_checked *checked, struct shmeta_err *err)
{
	struct shmeta_store_counters counters;
	size_t bytes = 0;
	const void *value = meta_value(found, SHMETA_META_COUNTERS, &bytes);

	if (value == NULL ||
	    !shmeta__unseal(SHMETA_DB_META, SHMETA_META_COUNTERS, strlen(SHMETA_META_COUNTERS), value, &bytes) ||
	    bytes != sizeof counters)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu: its counters record is missing or damaged",
		                   (unsigned long long)number);
	shmeta__copy_once(&counters, value, sizeof counters);
	/* Each database has a sentinel. */
	if (checked->entries[SHMETA_DB_NAMES] == counters.topics + 1 &&
	    checked->entries[SHMETA_DB_TOPICS] == counters.topics + 1 &&
	    checked->entries[SHMETA_DB_PARTS] == counters.partitions + 1 &&
	    checked->entries[SHMETA_DB_QUARANTINE] == counters.listed + 1)
		return SHMETA_OK;
	return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu: its counters are not those of what is in it",
	                   (unsigned long long)number);
}

/* Whose it is, before all of it is looked at: in another boot its stamps mean nothing, and its
 * writer may have ended within a write to a disk. */
static enum shmeta_status judge_origin(const struct found *found, uint64_t number, const uint8_t boot_id[16],
                                       struct shmeta_err *err)
{
	struct shmeta_store_format format;
	size_t bytes = 0;
	const void *value = meta_value(found, SHMETA_META_FORMAT, &bytes);
	enum shmeta_status status = store_judge_format(number, value, bytes, err);

	if (status != SHMETA_OK)
		return status;
	if (!shmeta__unseal(SHMETA_DB_META, SHMETA_META_FORMAT, strlen(SHMETA_META_FORMAT), value, &bytes) ||
	    bytes != sizeof format)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu: its format record is damaged",
		                   (unsigned long long)number);
	shmeta__copy_once(&format, value, sizeof format);
	if (memcmp(format.boot_id, boot_id, sizeof format.boot_id) != 0)
		return shmeta_fail(err, SHMETA_ERR_VERSION, "store.%llu: was written before the machine was started",
		                   (unsigned long long)number);
	return SHMETA_OK;
}

static enum shmeta_status judge_data(const struct found *found, const struct shmeta_generation *page,
                                     struct shmeta_err *err)
{
	struct shmeta__tree_checked checked;
	enum shmeta_status status = shmeta__tree_check(found->base, found->bytes, &checked, err);

	if (status != SHMETA_OK) {
		(void)shmeta_fail_prefix(err, "store.%llu", (unsigned long long)page->generation);
		return status;
	}
	if (checked.last_page >= page->max_bytes / SHMETA_PAGE)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT,
		                   "store.%llu: its page gives it %llu bytes, its data.mdb has %llu in use",
		                   (unsigned long long)page->generation, (unsigned long long)page->max_bytes,
		                   (unsigned long long)(checked.last_page + 1) * SHMETA_PAGE);
	status = judge_page(page, checked.txn, err);
	return status == SHMETA_OK ? judge_counters(found, page->generation, &checked, err) : status;
}

/* The generation page, copied and judged by itself. */
static enum shmeta_status read_page(int fd, uint64_t number, struct shmeta_generation *ret, struct shmeta_err *err)
{
	enum shmeta_status status;
	struct stat st;
	void *map;

	status = shmeta__map_file(fd, "generation", SHMETA_PAGE, 0, &map, err);
	if (status != SHMETA_OK)
		return status == SHMETA_ERR_NOT_RUNNING ? shmeta_fail(err, SHMETA_ERR_CORRUPT, "no generation page")
		                                        : status;
	shmeta__copy_once(ret, map, sizeof *ret);
	(void)munmap(map, SHMETA_PAGE);
	if (fstatat(fd, "generation", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return shmeta_fail_errno(err, errno, "generation");
	status = shmeta__generation_check(ret, (uint64_t)st.st_size, err);
	if (status == SHMETA_OK && ret->generation != number)
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "its page belongs to generation %llu",
		                     (unsigned long long)ret->generation);
	if (status == SHMETA_OK && ret->retired != 0)
		status = shmeta_fail(err, SHMETA_ERR_CORRUPT, "it was retired before its successor became current");
	return status;
}

enum shmeta_status shmeta__store_prove(int dir_fd, uint64_t number, const uint8_t boot_id[16], struct shmeta_err *err)
{
	struct shmeta_generation page;
	enum shmeta_status status;
	struct found found;
	char name[32], data[64];
	int fd;

	(void)snprintf(name, sizeof name, "store.%llu", (unsigned long long)number);
	(void)snprintf(data, sizeof data, "%s/data.mdb", name);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: does not exist", name)
		                       : shmeta_fail_errno(err, errno, "%s: opening the directory", name);
	status = read_page(fd, number, &page, err);
	if (status != SHMETA_OK)
		(void)shmeta_fail_prefix(err, "%s", name);
	else
		status = store_map_data(fd, data, &found.base, &found.bytes, err);
	(void)close(fd);
	if (status != SHMETA_OK)
		return status;
	status = judge_origin(&found, number, boot_id, err);
	if (status == SHMETA_OK)
		status = judge_data(&found, &page, err);
	(void)munmap((void *)(uintptr_t)found.base, found.bytes);
	return status;
}
