/* SPDX-License-Identifier: Apache-2.0
 * Generations: create, open, copy, remove. Their environments are in store_env.c, transactions in
 * store_txn.c, the ladder of proxies in store_proxy.c. */
#include "shm/store/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STORE_MIN_BYTES = 1 << 20 };

static const char generation_signature[8] = "SHMGENER";

static void name_of(char (*ret_name)[32], uint64_t number)
{
	(void)snprintf(*ret_name, sizeof *ret_name, "store.%llu", (unsigned long long)number);
}

/* ---- create, open, copy, remove ---- */

static struct shmeta__store *store_new(uint64_t number)
{
	struct shmeta__store *store = calloc(1, sizeof *store);

	if (store == NULL)
		return NULL;
	store->number = number;
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
	if (store->journal != NULL)
		(void)munmap(store->journal, SHMETA_JOURNAL_BYTES);
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
	/* Whatever the umask; and its files belong to the instance directory's group, as it does
	 * itself. */
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

/* Readers do without a journal, so a store does, too, where no memory is left for one. */
static void map_journal(struct shmeta__store *store)
{
	void *map;
	enum shmeta_status status = shmeta__map_file(store->dir_fd, "journal", SHMETA_JOURNAL_BYTES, 1, &map, NULL);

	/* One that was cut off: whoever has it mapped finds that nothing comes any more. */
	if (status == SHMETA_ERR_CORRUPT && unlinkat(store->dir_fd, "journal", 0) == 0)
		status = shmeta__map_file(store->dir_fd, "journal", SHMETA_JOURNAL_BYTES, 1, &map, NULL);
	if (status == SHMETA_OK)
		store->journal = map;
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
	store = store_new(number);
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
	map_journal(store);
	if (status == SHMETA_OK)
		status = store_env_find(store, err);
	if (status == SHMETA_OK)
		status = store_env_open(store, true, err);
	if (status == SHMETA_OK)
		status = store_env_adopt(store, NULL, err);
	if (status != SHMETA_OK)
		return give_up(store, dir_fd, true, status);
	sign_page(store);
	*ret = store;
	return SHMETA_OK;
}

enum shmeta_status shmeta__store_open(int dir_fd, uint64_t number, struct shmeta__store **ret, struct shmeta_err *err)
{
	struct shmeta__store *store = store_new(number);
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
	status = store_env_find(store, err);
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
		status = store_env_open(store, false, err);
	}
	if (status == SHMETA_OK) {
		map_journal(store);
		status = store_env_adopt(store, NULL, err);
	}
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
	copy = store_new(number);
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
	map_journal(copy);
	if (status == SHMETA_OK)
		status = store_env_find(copy, err);
	if (status == SHMETA_OK)
		status = store_env_open(copy, false, err);
	if (status == SHMETA_OK)
		status = store_env_adopt(copy, store->journal, err);
	if (status != SHMETA_OK)
		return give_up(copy, dir_fd, true, status);
	sign_page(copy);
	*ret = copy;
	return SHMETA_OK;
}

enum shmeta_status shmeta__store_remove(int dir_fd, uint64_t number, struct shmeta_err *err)
{
	static const char *const files[] = {"generation", "journal", "data.mdb", "lock.mdb"};
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

/* ---- what one can ask it ---- */

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
