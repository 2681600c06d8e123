/* SPDX-License-Identifier: Apache-2.0
 * One instance directory as this process sees it. Every open of the same board shares one core: one
 * board mapping, one LMDB environment per generation, one registration. Found by the board's device
 * and inode, so that two paths to it are one. */
#include "reader/attach/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/once.h"

enum { CACHE_BUDGET_BYTES = 944 * 1024 };
static const uint64_t LOOK_NS = UINT64_C(1000000000), WRITER_AWAY_NS = UINT64_C(5000000000);

static pthread_mutex_t cores_lock = PTHREAD_MUTEX_INITIALIZER;
static struct core *cores;

void shmeta__core_forget_all(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	memcpy(&cores_lock, &fresh, sizeof cores_lock);
	cores = NULL;
}

/* The owner of a symbolic link to the directory can redirect it at any time. Strip trailing
 * slashes: with one, lstat() would follow the link. */
static enum shmeta_status judge_link(const char *directory, const struct stat *dir, struct shmeta_err *err)
{
	size_t bytes = strlen(directory);
	enum shmeta_status status = SHMETA_OK;
	char *name = strdup(directory);
	struct stat link;

	if (name == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", directory);
	while (bytes > 1 && name[bytes - 1] == '/')
		name[--bytes] = 0;
	if (lstat(name, &link) == 0 && S_ISLNK(link.st_mode) && link.st_uid != dir->st_uid && link.st_uid != 0 &&
	    link.st_uid != geteuid())
		status = shmeta_fail(err, SHMETA_ERR_PERMISSION,
		                     "%s: is a symbolic link of user %u to a directory of user %u: refused; name the "
		                     "directory itself",
		                     name, link.st_uid, dir->st_uid);
	free(name);
	return status;
}

/* Readers trust what they map from the directory, so only its owner may create files in it. A group
 * with write permission can remove files, but files that it creates have another owner. */
static enum shmeta_status judge_directory(const char *directory, const struct stat *dir, const struct stat *board,
                                          struct shmeta_err *err)
{
	if ((dir->st_mode & S_IWOTH) != 0)
		return shmeta_fail(
			err, SHMETA_ERR_PERMISSION,
			"%s: mode %04o lets everybody write there, so nothing in it can be believed; shmetad makes its "
			"directory with mode 0750",
			directory, dir->st_mode & 07777);
	if (board->st_uid != dir->st_uid)
		return shmeta_fail(err, SHMETA_ERR_PERMISSION,
		                   "%s/board: belongs to user %u, its directory to user %u: refused; the "
		                   "directory, its files and the writer must have one owner",
		                   directory, board->st_uid, dir->st_uid);
	if ((board->st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return shmeta_fail(err, SHMETA_ERR_PERMISSION,
		                   "%s/board: mode %04o lets others than its owner write it: refused", directory,
		                   board->st_mode & 07777);
	return SHMETA_OK;
}

static enum shmeta_status open_denied(const char *directory, struct shmeta_err *err)
{
	enum shmeta_status status;
	char *path = NULL;
	struct stat st;

	/* If stat() fails too, the directory itself denies access. */
	if (asprintf(&path, "%s/board", directory) < 0)
		path = NULL;
	status = shmeta__permission_error(err, path != NULL && stat(path, &st) == 0 ? path : directory,
	                                  "opening the instance");
	free(path);
	return status;
}

static enum shmeta_status stat_board(int dir, const char *directory, struct stat *ret_board, struct shmeta_err *err)
{
	enum shmeta_status status;
	struct stat dir_st;

	if (fstatat(dir, "board", ret_board, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == EACCES)
			return open_denied(directory, err);
		if (errno == ENOENT)
			return shmeta_fail(
				err, SHMETA_ERR_NOT_RUNNING,
				"%s: no writer has published there yet: start one (systemctl start shmetad, or shmetad --dir "
				"%s)",
				directory, directory);
		return shmeta_fail_errno(err, errno, "%s/board", directory);
	}
	if (fstat(dir, &dir_st) < 0)
		return shmeta_fail_errno(err, errno, "%s", directory);
	status = judge_link(directory, &dir_st, err);
	return status == SHMETA_OK ? judge_directory(directory, &dir_st, ret_board, err) : status;
}

static enum shmeta_status map_board(int dir, const char *directory, uint64_t file_bytes,
                                    const struct shmeta_board **ret, struct shmeta_err *err)
{
	struct shmeta_board copy;
	enum shmeta_status status;
	void *map;

	status = shmeta__map_file(dir, "board", SHMETA_PAGE, 0, &map, err);
	if (status == SHMETA_ERR_PERMISSION)
		return open_denied(directory, err);
	if (status == SHMETA_OK) {
		shmeta__copy_once(&copy, map, sizeof copy);
		status = shmeta__board_check(&copy, file_bytes, err);
		if (status != SHMETA_OK)
			(void)munmap(map, SHMETA_PAGE);
	}
	if (status != SHMETA_OK) {
		(void)shmeta_fail_prefix(err, "%s", directory);
		return status;
	}
	*ret = map;
	return SHMETA_OK;
}

static void close_idle(struct core *core)
{
	if (shmeta__fd_is(core->idle.fd, core->idle.dev, core->idle.ino))
		(void)close(core->idle.fd);
	core->idle.fd = -1;
}

void shmeta__core_close_inherited(struct core *core)
{
	shmeta__registration_close(core);
	close_idle(core);
}

static void core_free(struct core *core)
{
	close_idle(core);
	shmeta__registration_drop(core);
	shmeta__env_unref(core->env);
	if (core->board != NULL)
		(void)munmap((void *)(uintptr_t)core->board, SHMETA_PAGE);
	(void)pthread_mutex_destroy(&core->idle_lock);
	(void)pthread_mutex_destroy(&core->lock);
	free(core->board_path);
	free(core->directory);
	free(core);
}

/* The path still leads to the directory that was checked. */
static enum shmeta_status same_directory(int dir, const char *path, struct shmeta_err *err)
{
	struct stat judged, there;

	if (fstat(dir, &judged) < 0 || stat(path, &there) < 0)
		return shmeta_fail_errno(err, errno, "%s", path);
	if (judged.st_dev != there.st_dev || judged.st_ino != there.st_ino)
		return shmeta_fail(err, SHMETA_ERR_NOT_RUNNING, "%s: was exchanged while it was opened; open it again",
		                   path);
	return SHMETA_OK;
}

static enum shmeta_status core_new(int dir, const char *directory, const struct stat *st, const char *agent,
                                   struct core **ret, struct shmeta_err *err)
{
	struct core *core = calloc(1, sizeof *core);
	enum shmeta_status status;

	if (core == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", directory);
	(void)pthread_mutex_init(&core->lock, NULL);
	(void)pthread_mutex_init(&core->idle_lock, NULL);
	core->refs = 1;
	core->pending_fd = -1;
	core->idle.fd = -1;
	core->dev = st->st_dev;
	core->ino = st->st_ino;
	core->owner = st->st_uid;
	(void)snprintf(core->agent, sizeof core->agent, "%s", agent);
	/* The working directory may change before the next generation is opened. */
	core->directory = realpath(directory, NULL);
	status = core->directory != NULL ? same_directory(dir, core->directory, err)
	                                 : shmeta_fail_errno(err, errno, "%s", directory);
	if (status == SHMETA_OK && asprintf(&core->board_path, "%s/board", core->directory) < 0) {
		core->board_path = NULL;
		status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "%s: out of memory", directory);
	}
	if (status == SHMETA_OK)
		status = map_board(dir, directory, (uint64_t)st->st_size, &core->board, err);
	if (status != SHMETA_OK) {
		core_free(core);
		return status;
	}
	*ret = core;
	return SHMETA_OK;
}

/* Under cores_lock. Referenced; NULL: there is none. */
static struct core *core_of(const struct stat *st)
{
	struct core *core;

	for (core = cores; core != NULL; core = core->next)
		if (core->dev == st->st_dev && core->ino == st->st_ino) {
			shmeta_ref(&core->refs);
			break;
		}
	return core;
}

static struct core *registered_core(const struct stat *st)
{
	struct core *core;

	(void)pthread_mutex_lock(&cores_lock);
	core = core_of(st);
	(void)pthread_mutex_unlock(&cores_lock);
	return core;
}

static enum shmeta_status core_find(int dir, const char *directory, const char *agent, uint32_t threads,
                                    struct core **ret, struct shmeta_err *err)
{
	enum shmeta_status status;
	struct core *core, *made = NULL;
	struct stat st;

	status = stat_board(dir, directory, &st, err);
	if (status != SHMETA_OK)
		return status;
	core = registered_core(&st);
	if (core == NULL) {
		/* Created without the lock, which covers only the registry's links. */
		status = core_new(dir, directory, &st, agent, &made, err);
		if (status != SHMETA_OK)
			return status;
		(void)pthread_mutex_lock(&cores_lock);
		core = core_of(&st);
		if (core == NULL) {
			core = made;
			made = NULL;
			core->next = cores;
			cores = core;
		}
		(void)pthread_mutex_unlock(&cores_lock);
		if (made != NULL) /* another thread was faster */
			core_free(made);
	}
	(void)shmeta_add(&core->threads, threads);
	*ret = core;
	return SHMETA_OK;
}

enum shmeta_status shmeta__core_open(const char *directory, const char *agent, uint32_t threads, struct core **ret,
                                     struct shmeta_err *err)
{
	enum shmeta_status status;
	int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 && (errno == ENOENT || errno == ENOTDIR))
		return shmeta_fail(
			err, SHMETA_ERR_NOT_RUNNING,
			"%s: there is no instance: no writer has run there (systemctl start shmetad, or shmetad --dir %s)",
			directory, directory);
	if (dir < 0 && errno == EACCES)
		return shmeta__permission_error(err, directory, "opening the instance");
	if (dir < 0)
		return shmeta_fail_errno(err, errno, "%s", directory);
	status = core_find(dir, directory, agent, threads, ret, err);
	(void)close(dir);
	return status;
}

struct core *shmeta__core_ref(struct core *core, uint32_t threads)
{
	shmeta_ref(&core->refs);
	(void)shmeta_add(&core->threads, threads);
	return core;
}

void shmeta__core_unref(struct core *core, uint32_t threads)
{
	struct core **link;

	shmeta_subtract(&core->threads, threads);
	(void)pthread_mutex_lock(&cores_lock);
	if (!shmeta_unref(&core->refs)) {
		(void)pthread_mutex_unlock(&cores_lock);
		return;
	}
	for (link = &cores; *link != core; link = &(*link)->next)
		;
	*link = core->next;
	(void)pthread_mutex_unlock(&cores_lock);
	core_free(core);
}

/* Under core->lock. The board may move on while its generation is being opened; then that directory
 * may be gone. */
static enum shmeta_status open_current(struct core *core, struct env **ret, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_UNKNOWN;

	for (int i = 0; i < 8; i++) {
		uint64_t generation =
			shmeta_observe(&core->board->generation); /* PAIR 4: new generation before retirement */

		if (generation == 0)
			return shmeta_fail(err, SHMETA_UNKNOWN, "%s: the writer has not published anything yet",
			                   core->directory);
		status = shmeta__env_open(core->directory, generation, core->owner, ret, err);
		if (status == SHMETA_OK || shmeta_observe(&core->board->generation) == generation)
			break;
	}
	/* The board names a generation that does not exist: report a missing store, not a writer
	 * that never ran. */
	if (status == SHMETA_ERR_NOT_RUNNING) {
		status = err->code = SHMETA_ERR_SYSTEM;
		(void)shmeta_fail_prefix(err, "the current store is missing");
	}
	return status;
}

enum shmeta_status shmeta__core_env(struct core *core, int wait, struct env **ret, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct env *env;

	if (wait)
		(void)pthread_mutex_lock(&core->lock);
	else if (pthread_mutex_trylock(&core->lock) != 0)
		return SHMETA_ERR_BUSY;
	/* A retired generation may still be the current one: it is retired before its successor is
	 * published when that fails. */
	if (core->env == NULL ||
	    (shmeta_observe(&core->env->gen->retired) != 0 && /* PAIR 4: new generation before retirement */
	     shmeta_observe(&core->board->generation) != core->env->generation)) {
		status = open_current(core, &env, err);
		if (status == SHMETA_OK) {
			env->loaded_anew =
				core->env != NULL && (core->env->loaded_anew || core->env->lineage != env->lineage);
			shmeta__env_unref(core->env);
			core->env = env;
		}
	}
	if (status == SHMETA_OK)
		*ret = shmeta__env_ref(core->env);
	(void)pthread_mutex_unlock(&core->lock);
	return status;
}

uint64_t shmeta__core_lineage(struct core *core)
{
	uint64_t lineage;

	(void)pthread_mutex_lock(&core->lock);
	lineage = core->env != NULL ? core->env->lineage : 0;
	(void)pthread_mutex_unlock(&core->lock);
	return lineage;
}

int shmeta__core_was_replaced(const struct core *core)
{
	struct stat st;

	/* A directory that was removed was not replaced: readers keep what they have mapped. By
	 * path: a process that has no descriptor left must not take the former store for the one
	 * that an answer speaks of. */
	return stat(core->board_path, &st) == 0 && (st.st_dev != core->dev || st.st_ino != core->ino);
}

int shmeta__core_is_abandoned(struct core *core)
{
	uint64_t now = shmeta__monotonic_ns(), beat;

	if (now < shmeta_peek(&core->next_look_ns))
		return 0;
	beat = shmeta_peek(&core->board->heartbeat_ns);
	/* A heartbeat that is ahead proves nothing. */
	if (shmeta__age(shmeta__board_now_ns(core->board), beat) < WRITER_AWAY_NS)
		return 0;
	shmeta_poke(&core->next_look_ns, now + LOOK_NS);
	return shmeta__core_was_replaced(core);
}

int shmeta__cache_grant(struct core *core, uint32_t bytes)
{
	if (shmeta_add(&core->cache_bytes, bytes) <= CACHE_BUDGET_BYTES)
		return 1;
	shmeta_subtract(&core->cache_bytes, bytes);
	return 0;
}

void shmeta__cache_return(struct core *core, uint32_t bytes)
{
	shmeta_subtract(&core->cache_bytes, bytes);
}
