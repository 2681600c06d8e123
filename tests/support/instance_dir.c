/* SPDX-License-Identifier: Apache-2.0
 * An empty instance directory for one test. */
#include "tests/support/instance_dir.h"
#include "tests/support/scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

void instance_dir_make(struct instance_dir *dir)
{
	*dir = (struct instance_dir){.fd = -1};
	cr_assert(scratch_dir("instance", dir->path));
	dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(dir->fd, 0);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void instance_dir_remove(struct instance_dir *dir)
{
	(void)close(dir->fd);
	if (dir->mounted)
		(void)umount2(dir->path, MNT_DETACH);
	(void)nftw(dir->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int instance_dir_limit(struct instance_dir *dir, const char *size)
{
	char options[64];

	(void)snprintf(options, sizeof options, "size=%s,mode=0700", size);
	int error = scratch_private_mounts();

	if (error == 0 && mount("tmpfs", dir->path, "tmpfs", 0, options) < 0)
		error = errno;
	if (error != 0)
		return error;
	dir->mounted = 1;
	(void)close(dir->fd);
	dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir->fd < 0 ? errno : 0;
}

void instance_dir_path(const struct instance_dir *dir, char (*ret_path)[160], uint64_t number, const char *file)
{
	(void)snprintf(*ret_path, sizeof *ret_path, "%s/store.%llu%s%s", dir->path, (unsigned long long)number,
	               *file ? "/" : "", file);
}

void instance_dir_overwrite(const struct instance_dir *dir, uint64_t number, const char *file, int64_t at,
                            const void *bytes, uint64_t count)
{
	char path[160];
	int fd;

	instance_dir_path(dir, &path, number, file);
	fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(lseek(fd, at, SEEK_SET), at);
	cr_assert_eq(write(fd, bytes, count), (ssize_t)count);
	(void)close(fd);
}
