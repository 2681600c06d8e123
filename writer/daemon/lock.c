/* SPDX-License-Identifier: Apache-2.0
 * Taking writer.lock. */
#include "writer/daemon/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/escape.h"
#include "writer/daemon/log.h"

#define NAME "writer.lock"
#define NEW_NAME "writer.lock.new"
#define GUARD "writer.lock.guard"

/* Who holds it. */
struct holder {
	int pid;   /* who locked it; 0: it cannot be seen from here */
	bool gone; /* that process has ended: one that inherited the descriptor holds it */
	uid_t uid; /* -1: hidden */
	char name[32];
};

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static void look_at(struct holder *holder)
{
	char path[64];
	struct stat st;
	FILE *f;

	/* /proc may hide other users' processes. */
	holder->gone = kill(holder->pid, 0) < 0 && errno == ESRCH;
	(void)snprintf(path, sizeof path, "/proc/%d", holder->pid);
	holder->uid = stat(path, &st) == 0 ? st.st_uid : (uid_t)-1;
	(void)snprintf(path, sizeof path, "/proc/%d/comm", holder->pid);
	f = fopen(path, "re");
	if (f != NULL && fgets(holder->name, sizeof holder->name, f) != NULL)
		holder->name[strcspn(holder->name, "\n")] = '\0';
	if (f != NULL)
		(void)fclose(f);
}

/* Who holds a lock on the file as the kernel lists them. 0: nobody whom this look has shown. */
static pid_t listed_holder(const struct stat *file)
{
	FILE *locks = fopen("/proc/locks", "re");
	pid_t found = 0;
	char line[256];

	/* "7: FLOCK ADVISORY WRITE 4711 00:1c:42 0 EOF"; who waits for a lock has "->" before
	 * FLOCK. */
	while (locks != NULL && found == 0 && fgets(line, sizeof line, locks) != NULL) {
		char pid[16], major_number[16], minor_number[16], inode[24];

		if (sscanf(line, "%*s FLOCK %*s %*s %15s %15[0-9a-f]:%15[0-9a-f]:%23s", pid, major_number, minor_number,
		           inode) == 4 &&
		    strtoul(inode, NULL, 10) == file->st_ino &&
		    strtoul(major_number, NULL, 16) == major(file->st_dev) &&
		    strtoul(minor_number, NULL, 16) == minor(file->st_dev))
			found = (pid_t)strtol(pid, NULL, 10);
	}
	if (locks != NULL)
		(void)fclose(locks);
	return found;
}

/* From the kernel: what the file says, whoever could write it may have written. The kernel lists
 * locks a page at a time, and finds its place again by counting: where others unlock meanwhile, a
 * look passes over some. */
static struct holder holder_of(const struct stat *file)
{
	enum { LOOKS = 20 };
	struct holder holder = {.pid = 0};

	for (int look = 0; look < LOOKS && holder.pid == 0; look++)
		holder.pid = listed_holder(file);
	if (holder.pid > 0)
		look_at(&holder);
	return holder;
}

static enum shmeta_status refuse(const char *path, const struct holder *holder, struct shmeta_err *err)
{
	char name[4 * sizeof holder->name];

	if (holder->pid > 0 && !holder->gone && holder->uid == (uid_t)-1)
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "another writer runs on %s: process %d of another user holds its %s", path,
		                   holder->pid, NAME);
	if (holder->pid <= 0)
		return shmeta_fail(
			err, SHMETA_ERR_BUSY,
			"another writer runs on %s: a process that cannot be seen from here holds its %s (one of another "
			"container or PID namespace?)",
			path, NAME);
	if (holder->gone)
		return shmeta_fail(
			err, SHMETA_ERR_BUSY,
			"another writer ran on %s: process %d locked its %s and has ended, but one that it started still "
			"holds it; end that one (fuser %s/%s)",
			path, holder->pid, NAME, path, NAME);
	return shmeta_fail(err, SHMETA_ERR_BUSY, "another writer runs on %s: process %d ('%s' of user %u) holds its %s",
	                   path, holder->pid, shmeta__escape_line(name, sizeof name, holder->name),
	                   (unsigned)holder->uid, NAME);
}

/* A writer is one of our user's, or of the user's whose file it is, and holds the lock until it
 * ends. */
static bool may_be_writer(const struct holder *holder, const struct stat *file)
{
	return holder->pid <= 0 ||
	       (!holder->gone && (holder->uid == geteuid() || holder->uid == 0 || holder->uid == file->st_uid));
}

/* Could it be locked by somebody who may not write here? */
static bool is_open_to_others(const struct stat *st)
{
	return (st->st_mode & 077) != 0 || st->st_uid != geteuid();
}

/* Under the guard: put a new file, locked, in the place of `old`. ABSENT: somebody else has done
 * it. */
static enum shmeta_status put_new(int dir_fd, const char *path, const struct stat *old, int *ret_fd,
                                  struct shmeta_err *err)
{
	struct stat now;
	int fd, error;

	if (fstatat(dir_fd, NAME, &now, AT_SYMLINK_NOFOLLOW) < 0 || !same_file(&now, old))
		return SHMETA_ABSENT;
	(void)unlinkat(dir_fd, NEW_NAME, 0);
	fd = openat(dir_fd, NEW_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && fchmod(fd, 0600) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
	    renameat(dir_fd, NEW_NAME, dir_fd, NAME) == 0) {
		*ret_fd = fd;
		return SHMETA_OK;
	}
	error = errno;
	if (fd >= 0) {
		(void)unlinkat(dir_fd, NEW_NAME, 0);
		(void)close(fd);
	}
	return shmeta_fail_errno(err, error, "cannot replace %s/%s, which others can lock", path, NAME);
}

/* Those who have the file open keep it, so its mode alone does not help. The guard lets one writer
 * at a time replace it. ABSENT: try again. */
static enum shmeta_status replace(int dir_fd, const char *path, const struct stat *old, int *ret_fd,
                                  struct shmeta_err *err)
{
	int guard = openat(dir_fd, GUARD, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	enum shmeta_status status = SHMETA_ABSENT;
	struct stat st, now;

	if (guard < 0)
		return shmeta_fail_errno(err, errno, "cannot open %s/%s", path, GUARD);
	if (flock(guard, LOCK_EX | LOCK_NB) < 0)
		status = shmeta_fail(err, SHMETA_ERR_BUSY, "another writer starts on %s", path);
	/* Whoever is done removes it. */
	else if (fstat(guard, &st) == 0 && fstatat(dir_fd, GUARD, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
	         same_file(&st, &now)) {
		status = put_new(dir_fd, path, old, ret_fd, err);
		(void)unlinkat(dir_fd, GUARD, 0);
	}
	(void)close(guard);
	return status;
}

/* One try. ABSENT: another writer starts at this moment. */
static enum shmeta_status try(int dir_fd, const char *path, int *ret_fd, struct shmeta_err *err)
{
	int fd = openat(dir_fd, NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600), error;
	enum shmeta_status status = SHMETA_OK;
	struct holder holder;
	struct stat st, now;
	bool locked;

	if (fd < 0 || fstat(fd, &st) < 0) {
		status = shmeta_fail_errno(err, errno, "cannot open %s/%s", path, NAME);
		goto end;
	}
	locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
	error = errno;
	if (!locked && error != EWOULDBLOCK) {
		status = shmeta_fail_errno(err, error, "cannot lock %s/%s", path, NAME);
	} else if (!is_open_to_others(&st)) {
		holder = holder_of(&st);
		if (!locked)
			status = refuse(path, &holder, err);
		else if (fchmod(fd, 0600) < 0 || fstatat(dir_fd, NAME, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
		         !same_file(&st, &now))
			status = SHMETA_ABSENT; /* it has been replaced meanwhile */
	} else {
		int made = -1;

		holder = holder_of(&st);
		if (!locked && may_be_writer(&holder, &st)) {
			status = refuse(path, &holder, err);
			goto end;
		}
		status = replace(dir_fd, path, &st, &made, err);
		if (status == SHMETA_OK)
			log_event(LOG_NOTICE, "lock", "replaced %s/%s, which had mode %04o: others could hold it%s",
			          path, NAME, (unsigned)st.st_mode & 07777, locked ? "" : ", and one did");
		if (status == SHMETA_OK) {
			(void)close(fd);
			fd = made;
		}
	}
end:
	if (status == SHMETA_OK)
		*ret_fd = fd;
	else if (fd >= 0)
		(void)close(fd);
	return status;
}

enum shmeta_status lock_take(int dir_fd, const char *path, int *ret_fd, struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_ABSENT;

	for (int tries = 0; tries < 5 && status == SHMETA_ABSENT; tries++)
		status = try(dir_fd, path, ret_fd, err);
	return status != SHMETA_ABSENT ? status
	                               : shmeta_fail(err, SHMETA_ERR_BUSY, "another writer starts on %s", path);
}
