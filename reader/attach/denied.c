/* SPDX-License-Identifier: Apache-2.0
 * Error texts about files that this process may not open. */
#include "reader/attach/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GROUP_BYTES = 4096 };

/* The name of a group from /etc/group, without the name service's modules, which may do anything in
 * a host process. */
static int group_name(gid_t gid, char *out, size_t bytes)
{
	char *text = malloc(GROUP_BYTES + 1), want[16];
	size_t have = 0, want_bytes;
	ssize_t n;
	int found = 0;
	int fd = open("/etc/group", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || text == NULL) {
		if (fd >= 0)
			(void)close(fd);
		free(text);
		return 0;
	}
	want_bytes = (size_t)snprintf(want, sizeof want, ":%u:", gid);
	while (!found && (n = read(fd, text + have, GROUP_BYTES - have)) > 0) {
		char *line = text, *end;

		have += (size_t)n;
		text[have] = 0;
		while ((end = memchr(line, '\n', (size_t)(text + have - line))) != NULL) {
			char *name_end = memchr(line, ':', (size_t)(end - line));
			char *number =
				name_end == NULL ? NULL : memchr(name_end + 1, ':', (size_t)(end - name_end - 1));

			if (number != NULL && (size_t)(end - number) >= want_bytes &&
			    memcmp(number, want, want_bytes) == 0 && (size_t)(name_end - line) < bytes) {
				memcpy(out, line, (size_t)(name_end - line));
				out[name_end - line] = 0;
				found = 1;
				break;
			}
			line = end + 1;
		}
		have = (size_t)(text + have - line);
		if (have >= GROUP_BYTES)
			break; /* a line longer than the buffer */
		memmove(text, line, have);
	}
	(void)close(fd);
	free(text);
	return found;
}

/* "mode 0750, group shmeta-read" of a path, as far as it can be seen. */
static char *describe_path(const char *path, char *out, size_t bytes)
{
	char group[64];
	struct stat st;

	if (stat(path, &st) < 0)
		(void)snprintf(out, bytes, "%s",
		               errno == EACCES ? "in a directory that is closed to this user" : "unseen");
	else if (group_name(st.st_gid, group, sizeof group))
		(void)snprintf(out, bytes, "mode %04o, group %s", st.st_mode & 07777, group);
	else
		(void)snprintf(out, bytes, "mode %04o, group %u", st.st_mode & 07777, st.st_gid);
	return out;
}

enum shmeta_status shmeta__permission_error(struct shmeta_err *err, const char *path, const char *what)
{
	char described[128];

	return shmeta_fail(
		err, SHMETA_ERR_PERMISSION,
		"%s: %s: permission denied (%s); readers belong to the group that owns it: usermod -aG shmeta-read "
		"USER, then log in again",
		path, what, describe_path(path, described, sizeof described));
}
