/* SPDX-License-Identifier: Apache-2.0
 * Taking over an instance directory. */
#include "writer/daemon/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/boot_id_text.h"
#include "shm/page/last_start.h"
#include "writer/daemon/limits.h"
#include "writer/daemon/lock.h"
#include "writer/daemon/log.h"
#include "writer/engine/phase.h"

#define READ_GROUP "shmeta-read"

static const int64_t SLEPT_NS = 1000000000;

enum { VERSION = SHMETA_VERSION_MAJOR << 16 | SHMETA_VERSION_MINOR << 8 | SHMETA_VERSION_PATCH };

static enum shmeta_status make_parents(const char *path, struct shmeta_err *err)
{
	char *copy = strdup(path);
	enum shmeta_status status = SHMETA_OK;

	if (copy == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for a path");
	for (char *p = copy + 1; *p != '\0' && status == SHMETA_OK; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			status = shmeta_fail_errno(err, errno, "cannot create the directory %s", copy);
		*p = '/';
	}
	free(copy);
	return status;
}

/* Files in a set-group-ID directory belong to its group: those who may map the store. */
static void give_to_readers(int dir_fd, const char *path)
{
	struct group entry, *found = NULL;
	char buffer[16384];

	if (getgrnam_r(READ_GROUP, &entry, buffer, sizeof(buffer), &found) != 0 || found == NULL)
		return;
	if (fchown(dir_fd, (uid_t)-1, found->gr_gid) < 0)
		log_event(LOG_WARNING, "group", "cannot give %s to group '%s': %m", path, READ_GROUP);
}

/* Whoever owns the directory, or a link to it, can put other files in the place of ours. */
static enum shmeta_status judge_owner(const char *path, const struct stat *st, struct shmeta_err *err)
{
	struct stat link;
	uid_t owner = st->st_uid;

	if ((owner == 0 || owner == geteuid()) && lstat(path, &link) == 0 && S_ISLNK(link.st_mode))
		owner = link.st_uid;
	if (owner == 0 || owner == geteuid())
		return SHMETA_OK;
	return shmeta_fail(
		err, SHMETA_ERR_PERMISSION,
		"the instance directory %s belongs to user %u, so its files cannot be trusted; it must belong to "
		"root or to user %u, who runs this daemon: remove it, chown it, or choose another with --dir",
		path, (unsigned)owner, (unsigned)geteuid());
}

/* What works for the daemon, and not for those whom it is there for. */
static void tell_doubts(const char *path, const struct stat *st)
{
	if (st->st_uid != geteuid())
		log_event(LOG_WARNING, "directory",
		          "the instance directory %s belongs to root and its files to user %u: agents refuse an "
		          "instance that has more than one owner; chown it to user %u",
		          path, (unsigned)geteuid(), (unsigned)geteuid());
	if (st->st_mode & S_IWGRP)
		log_event(LOG_WARNING, "directory",
		          "group %u can write to the instance directory %s: its members can remove the store, and "
		          "agents refuse what they put there instead; chmod it to 2750",
		          (unsigned)st->st_gid, path);
}

static enum shmeta_status judge_directory(const char *path, const struct stat *st, struct shmeta_err *err)
{
	if (st->st_mode & S_IWOTH)
		return shmeta_fail(err, SHMETA_ERR_PERMISSION,
		                   "everybody can write to the instance directory %s, so its files cannot be trusted; "
		                   "chmod it to 2750, or choose another with --dir",
		                   path);
	return judge_owner(path, st, err);
}

static enum shmeta_status open_directory(const char *path, int *ret_fd, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct statfs fs;
	struct stat st;
	bool created;
	int fd;

	created = mkdir(path, 0750) == 0;
	if (!created && errno == ENOENT) {
		status = make_parents(path, err);
		if (status != SHMETA_OK)
			return status;
		created = mkdir(path, 0750) == 0;
	}
	if (!created && errno != EEXIST)
		return shmeta_fail_errno(err, errno, "cannot create the instance directory %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return shmeta_fail_errno(err, errno, "cannot open the instance directory %s", path);
	if (fstat(fd, &st) < 0)
		status = shmeta_fail_errno(err, errno, "cannot look at the instance directory %s", path);
	else
		status = judge_directory(path, &st, err);
	if (status != SHMETA_OK) {
		close(fd);
		return status;
	}
	if (created) {
		give_to_readers(fd, path);
		(void)fchmod(fd, 02750); /* umask, and chown, may have taken bits away */
	} else {
		tell_doubts(path, &st);
	}
	if (fstatfs(fd, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
		log_event(LOG_WARNING, "not-tmpfs",
		          "%s is not on tmpfs: it works, but the store is written to a disk for nothing", path);
	*ret_fd = fd;
	return SHMETA_OK;
}

/* A page that readers may have mapped. One that was cut off is made whole, in place. */
static enum shmeta_status map_page(const struct instance *instance, const char *name, uint64_t bytes, void **ret_map,
                                   struct shmeta_err *err)
{
	enum shmeta_status status = shmeta__map_file(instance->dir_fd, name, bytes, 1, ret_map, err);
	struct stat st;
	int fd, error;

	if (status == SHMETA_OK)
		return status;
	fd = status == SHMETA_ERR_CORRUPT ? openat(instance->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
	                                  : -1;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		(void)shmeta_fail_prefix(err, "%s", instance->path);
		return status;
	}
	log_event(LOG_WARNING, "damaged", "%s/%s: made whole again", instance->path, err->text);
	error = posix_fallocate(fd, 0, (off_t)bytes);
	close(fd);
	if (error != 0)
		return shmeta_fail_errno(err, error, "%s/%s: allocating %" PRIu64 " bytes", instance->path, name,
		                         bytes);
	return shmeta__map_file(instance->dir_fd, name, bytes, 1, ret_map, err);
}

/* What a writer of a later version left is not ours to replace; what none left is worth nothing to
 * anybody. */
static enum shmeta_status check_board(const struct instance *instance, struct shmeta_err *err)
{
	static const uint8_t zeroes[8];
	struct shmeta_board copy = *instance->board;
	struct shmeta_err reason;
	enum shmeta_status status;

	/* A writer that died before its first announcement left zeroes. */
	if (memcmp(copy.signature, zeroes, sizeof(zeroes)) == 0 && copy.epoch == 0)
		return SHMETA_OK;
	status = shmeta__board_check(&copy, SHMETA_PAGE, &reason);
	if (status == SHMETA_OK)
		return SHMETA_OK;
	if (status == SHMETA_ERR_VERSION && copy.writer_version > VERSION)
		return shmeta_fail(err, status,
		                   "%s holds a board that this writer (version %s) cannot take over: %.200s. Move the "
		                   "directory away and start again; nothing in it is lost to the source",
		                   instance->path, SHMETA_VERSION_STRING, reason.text);
	log_event(LOG_WARNING, "damaged", "%s: %.200s: it is made anew, and the store with it", instance->path,
	          reason.text);
	memset(instance->board, 0, SHMETA_PAGE);
	instance->board->epoch = copy.epoch; /* the next one is another, whatever this was */
	return SHMETA_OK;
}

static void note_board(struct instance *instance)
{
	struct stat st;

	if (fstatat(instance->dir_fd, "board", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	instance->board_dev = st.st_dev;
	instance->board_ino = st.st_ino;
}

bool instance_is_there(const struct instance *instance)
{
	char path[PATH_MAX];
	struct stat st;

	if (instance->board_ino == 0 || snprintf(path, sizeof(path), "%s/board", instance->path) >= (int)sizeof(path))
		return true;
	/* What cannot be told is no reason to complain. */
	if (stat(path, &st) < 0)
		return errno != ENOENT && errno != ENOTDIR;
	return st.st_dev == instance->board_dev && st.st_ino == instance->board_ino;
}

enum shmeta_status instance_open(const char *path, struct instance *ret, struct shmeta_err *err)
{
	struct instance instance = {.dir_fd = -1, .lock_fd = -1};
	enum shmeta_status status = open_directory(path, &instance.dir_fd, err);
	char limit[400];
	void *map;

	snprintf(instance.path, sizeof(instance.path), "%s", path);
	if (status == SHMETA_OK)
		status = lock_take(instance.dir_fd, path, &instance.lock_fd, err);
	if (status == SHMETA_OK)
		status = map_page(&instance, "board", SHMETA_PAGE, &map, err);
	if (status == SHMETA_OK) {
		instance.board = map;
		note_board(&instance);
		status = check_board(&instance, err);
	}
	if (status == SHMETA_OK)
		status = map_page(&instance, "stats", sizeof(struct shmeta_stats), &map, err);
	if (status == SHMETA_OK) {
		instance.stats = map;
		status = map_page(&instance, "activity", sizeof(struct shmeta_activity), &map, err);
	}
	if (status == SHMETA_OK) {
		instance.activity = map;
		status = map_page(&instance, "usage", sizeof(struct shmeta_usage), &map, err);
	}
	if (status == SHMETA_OK) {
		instance.usage = map;
		shmeta__activity_begin(instance.activity);
		instance.epoch = shmeta_observe(&instance.board->epoch) + 1;
		if (instance.epoch == 0)
			instance.epoch = 1;
		*ret = instance;
		return SHMETA_OK;
	}
	if (status == SHMETA_ERR_FULL && instance.dir_fd >= 0 &&
	    limits_of_files(instance.dir_fd, true, 0, limit, sizeof(limit)))
		(void)shmeta_fail_prefix(err, "%s", limit);
	instance_close(&instance);
	return status;
}

void instance_start_failed(const char *path, const char *sentence)
{
	struct instance instance = {.dir_fd = -1, .lock_fd = -1};
	struct shmeta_err err = {0};
	struct timespec now;
	struct stat st;

	instance.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (instance.dir_fd >= 0 && fstat(instance.dir_fd, &st) == 0 && judge_directory(path, &st, &err) == SHMETA_OK &&
	    lock_take(instance.dir_fd, path, &instance.lock_fd, &err) == SHMETA_OK) {
		clock_gettime(CLOCK_REALTIME, &now);
		if (shmeta__last_start_write(instance.dir_fd, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
		                             sentence, &err) != SHMETA_OK)
			log_event(LOG_WARNING, "directory", "cannot leave the reason in %s: %s", path, err.text);
	}
	instance_close(&instance);
}

void instance_start_over(const struct instance *instance)
{
	shmeta__last_start_remove(instance->dir_fd);
}

/* ---- who the writer is ---- */

static size_t read_small(const char *path, char *ret, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, ret, bytes - 1) : -1;

	if (fd >= 0)
		close(fd);
	ret[got > 0 ? got : 0] = '\0';
	return got > 0 ? (size_t)got : 0;
}

static uint64_t start_ticks(void)
{
	char text[1024], *at;
	uint64_t ticks = 0;

	read_small("/proc/self/stat", text, sizeof(text));
	/* The 22nd field; the second is a name that may hold anything, so count from its last
	 * parenthesis. */
	at = strrchr(text, ')');
	for (int field = 2; at != NULL && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at != NULL)
		ticks = strtoull(at + 1, NULL, 10);
	return ticks;
}

/* The service manager may see another /proc than this process: then it says which boot this is. */
static void read_boot_id(uint8_t ret[16])
{
	const char *given = getenv("SHMETA_BOOT_ID");
	char text[64];

	if (given != NULL)
		snprintf(text, sizeof(text), "%s", given);
	else
		read_small("/proc/sys/kernel/random/boot_id", text, sizeof(text));
	(void)shmeta__boot_id_parse(text, strlen(text), ret);
}

void instance_announce(struct instance *instance)
{
	struct shmeta_board *board = instance->board;

	phase_begin(board, shmeta__boottime_ns());
	(void)instance_heartbeat(instance);
	board->incompat = SHMETA_BOARD_INCOMPAT_V1;
	board->compat = 0;
	board->board_bytes = sizeof(*board);
	board->writer_version = VERSION;
	board->writer_pid = (uint64_t)getpid();
	board->writer_start_ticks = start_ticks();
	read_boot_id(board->boot_id);
	board->started_at_ns = shmeta__boottime_ns();
	memcpy(board->signature, "SHMBOARD", sizeof(board->signature));
	shmeta_publish(&board->epoch, instance->epoch);
}

bool instance_heartbeat(struct instance *instance)
{
	int64_t former = shmeta_peek(&instance->board->boot_offset_ns), offset = shmeta__boot_offset_ns();

	shmeta_poke(&instance->board->boot_offset_ns, offset);
	shmeta_publish(&instance->board->heartbeat_ns, shmeta__boottime_ns());
	return offset - former > SLEPT_NS;
}

const struct shmeta_generation *instance_look(struct instance *instance)
{
	uint64_t number = shmeta_observe(&instance->board->generation); /* PAIR 4: new generation before retirement */
	char name[64];
	void *map;
	int fd;

	if (number == instance->generation_number && instance->generation != NULL)
		return instance->generation;
	if (instance->generation != NULL)
		munmap((void *)(uintptr_t)instance->generation, SHMETA_GENERATION_BYTES);
	instance->generation = NULL;
	instance->generation_number = number;
	if (number == 0)
		return NULL;
	snprintf(name, sizeof(name), "store.%" PRIu64, number);
	fd = openat(instance->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (shmeta__map_file(fd, "generation", SHMETA_GENERATION_BYTES, 0, &map, NULL) == SHMETA_OK)
		instance->generation = map;
	close(fd);
	return instance->generation;
}

void instance_close(struct instance *instance)
{
	if (instance->generation != NULL)
		munmap((void *)(uintptr_t)instance->generation, SHMETA_GENERATION_BYTES);
	if (instance->board != NULL)
		munmap(instance->board, SHMETA_PAGE);
	if (instance->stats != NULL)
		munmap(instance->stats, sizeof(*instance->stats));
	if (instance->activity != NULL)
		munmap(instance->activity, sizeof(*instance->activity));
	if (instance->usage != NULL)
		munmap(instance->usage, sizeof(*instance->usage));
	if (instance->dir_fd >= 0)
		close(instance->dir_fd);
	if (instance->lock_fd >= 0)
		close(instance->lock_fd);
	*instance = (struct instance){.dir_fd = -1, .lock_fd = -1};
}
