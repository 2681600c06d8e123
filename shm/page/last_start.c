/* SPDX-License-Identifier: Apache-2.0
 * The record of a start that failed, and that of a pause. */
#include "shm/page/last_start.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = sizeof(((struct shmeta_last_start *)0)->sentence) + 32 };

static bool read_record(int dir_fd, const char *name, struct shmeta_last_start *ret)
{
	/* A FIFO or a link that somebody put here neither blocks nor leads elsewhere. */
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	char line[LINE_BYTES], *end;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return false;
	n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, line, sizeof line - 1) : -1;
	close(fd);
	if (n <= 0)
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	errno = 0;
	ret->failed_at_ms = strtoll(line, &end, 10);
	if (end == line || *end != ' ' || end[1] == '\0' || errno != 0)
		return false;
	snprintf(ret->sentence, sizeof ret->sentence, "%s", end + 1);
	return true;
}

static enum shmeta_status write_record(int dir_fd, const char *name, int64_t at_ms, const char *sentence,
                                       struct shmeta_err *err)
{
	char line[LINE_BYTES], new_name[32];
	int n = snprintf(line, sizeof line, "%" PRId64 " %.*s\n", at_ms,
	                 (int)sizeof(((struct shmeta_last_start *)0)->sentence) - 1, sentence);
	int fd, error;
	ssize_t put;

	(void)snprintf(new_name, sizeof new_name, "%s.new", name);
	(void)unlinkat(dir_fd, new_name, 0);
	fd = openat(dir_fd, new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return shmeta_fail_errno(err, errno, "%s", name);
	(void)fchmod(fd, 0640); /* whatever the umask */
	put = write(fd, line, (size_t)n);
	error = put < 0 ? errno : put < n ? ENOSPC : 0;
	if (close(fd) != 0 && error == 0)
		error = errno;
	if (error == 0 && renameat(dir_fd, new_name, dir_fd, name) != 0)
		error = errno;
	if (error == 0)
		return SHMETA_OK;
	(void)unlinkat(dir_fd, new_name, 0);
	return shmeta_fail_errno(err, error, "%s", name);
}

bool shmeta__last_start_read(int dir_fd, struct shmeta_last_start *ret)
{
	return read_record(dir_fd, SHMETA_LAST_START, ret);
}

enum shmeta_status shmeta__last_start_write(int dir_fd, int64_t failed_at_ms, const char *sentence,
                                            struct shmeta_err *err)
{
	return write_record(dir_fd, SHMETA_LAST_START, failed_at_ms, sentence, err);
}

void shmeta__last_start_remove(int dir_fd)
{
	(void)unlinkat(dir_fd, SHMETA_LAST_START, 0);
}

bool shmeta__paused_read(int dir_fd, struct shmeta_last_start *ret)
{
	return read_record(dir_fd, SHMETA_PAUSED, ret);
}

enum shmeta_status shmeta__paused_write(int dir_fd, int64_t since_ms, const char *sentence, struct shmeta_err *err)
{
	return write_record(dir_fd, SHMETA_PAUSED, since_ms, sentence, err);
}

void shmeta__paused_remove(int dir_fd)
{
	(void)unlinkat(dir_fd, SHMETA_PAUSED, 0);
}
