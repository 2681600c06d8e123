/* SPDX-License-Identifier: Apache-2.0 */
#include "writer/daemon/limits.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/err.h"

/* While the store is copied to a new generation there are two of it; the rest is the process
 * itself. */
enum { GENERATIONS_AT_ONCE = 2, OWN_MEMORY = 200 << 20 };
/* A commit of one row writes some pages; a generation is a directory with files, and its least
 * size. */
enum { COMMIT_BYTES = 64 << 10, GENERATION_BYTES = 2 << 20, GENERATION_INODES = 8 };

const char *limits_spell_bytes(uint64_t bytes, char *ret, size_t room)
{
	static const char units[] = "KMGT";
	size_t unit = 0;

	while (unit < sizeof units - 1 && bytes > 0 && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(ret, room, "%llu%.*s", (unsigned long long)bytes, unit > 0 ? 1 : 0, unit > 0 ? &units[unit - 1] : "");
	return ret;
}

bool limits_of_files(int dir_fd, bool makes, uint64_t store_max_bytes, char *ret, size_t room)
{
	char bytes[32], most[32];
	struct rlimit file = {.rlim_cur = RLIM_INFINITY};
	struct statfs fs;

	if (fstatfs(dir_fd, &fs) == 0) {
		uint64_t block = (uint64_t)fs.f_bsize;

		if (fs.f_files > 0 && fs.f_ffree < (makes ? GENERATION_INODES : 1)) {
			shmeta__say(
				ret, room,
				"the file system of the instance directory has %llu free inodes of %llu: remove files "
				"from it, or mount it with a larger nr_inodes",
				(unsigned long long)fs.f_ffree, (unsigned long long)fs.f_files);
			return true;
		}
		if (fs.f_blocks > 0 && fs.f_bavail * block < (makes ? GENERATION_BYTES : COMMIT_BYTES)) {
			shmeta__say(
				ret, room,
				"the file system of the instance directory has %s free of %s: remove files from it, "
				"or mount it with a larger size",
				limits_spell_bytes(fs.f_bavail * block, most, sizeof most),
				limits_spell_bytes(fs.f_blocks * block, bytes, sizeof bytes));
			return true;
		}
	}
	if (getrlimit(RLIMIT_FSIZE, &file) == 0 && file.rlim_cur != RLIM_INFINITY && file.rlim_cur < store_max_bytes) {
		shmeta__say(
			ret, room,
			"a file of this process may have %s at most (LimitFSIZE=, ulimit -f), and store.max_bytes = "
			"%s: raise the former",
			limits_spell_bytes(file.rlim_cur, bytes, sizeof bytes),
			limits_spell_bytes(store_max_bytes, most, sizeof most));
		return true;
	}
	return false;
}

uint64_t limits_file_bytes(int dir_fd, uint64_t file_bytes, uint64_t max_bytes)
{
	struct rlimit file = {.rlim_cur = RLIM_INFINITY};
	struct statfs fs;

	if (fstatfs(dir_fd, &fs) == 0 && fs.f_blocks > 0) {
		uint64_t free_bytes = fs.f_bavail * (uint64_t)fs.f_bsize;

		if (file_bytes < max_bytes && free_bytes < max_bytes - file_bytes)
			max_bytes = file_bytes + free_bytes;
	}
	if (getrlimit(RLIMIT_FSIZE, &file) == 0 && file.rlim_cur != RLIM_INFINITY && file.rlim_cur < max_bytes)
		max_bytes = file.rlim_cur;
	return max_bytes;
}

/* ---- memory ---- */

static size_t read_text(const char *path, char *ret, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, ret, room - 1) : -1;

	if (fd >= 0)
		close(fd);
	ret[got > 0 ? got : 0] = '\0';
	return got > 0 ? (size_t)got : 0;
}

/* The line "0::/path" is the unified hierarchy's. */
static bool own_group(const char *proc_file, char *ret, size_t room)
{
	char text[4096];
	const char *line = text;

	read_text(proc_file, text, sizeof text);
	while (line != NULL && strncmp(line, "0::/", 4) != 0)
		line = (line = strchr(line, '\n')) != NULL ? line + 1 : NULL;
	if (line == NULL)
		return false;
	snprintf(ret, room, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	return true;
}

bool limits_memory(const char *proc_file, const char *root, struct limits_memory *ret)
{
	char group[PATH_MAX], path[2 * PATH_MAX], text[32], *end;

	ret->bytes = UINT64_MAX;
	if (!own_group(proc_file, group, sizeof group))
		return false;
	for (char *slash = group + strlen(group); slash != NULL; slash = strrchr(group, '/')) {
		*slash = '\0';
		snprintf(path, sizeof path, "%s%s/memory.max", root, group);
		if (read_text(path, text, sizeof text) == 0)
			continue;
		unsigned long long bytes = strtoull(text, &end, 10);

		if (end == text || bytes >= ret->bytes) /* "max" */
			continue;
		ret->bytes = bytes;
		shmeta__say(ret->file, sizeof ret->file, "%s", path);
	}
	return ret->bytes != UINT64_MAX;
}

bool limits_memory_short(const struct limits_memory *limit, uint64_t store_max_bytes, char *ret, size_t room)
{
	uint64_t need = GENERATIONS_AT_ONCE * store_max_bytes + OWN_MEMORY, fits;
	char has[32], most[32], wants[32], lower[64] = "";

	if (limit->bytes >= need)
		return false;
	fits = limit->bytes > OWN_MEMORY ? (limit->bytes - OWN_MEMORY) / GENERATIONS_AT_ONCE >> 20 << 20 : 0;
	if (fits > 0)
		snprintf(lower, sizeof lower, ", or lower store.max_bytes to %s",
		         limits_spell_bytes(fits, most, sizeof most));
	shmeta__say(
		ret, room,
		"the memory limit of this service is %s (%s), and a store of store.max_bytes = %s may need %s (two of "
		"it while it is copied, and 200M): the kernel kills the writer when it is reached; raise MemoryMax= to "
		"that%s",
		limits_spell_bytes(limit->bytes, has, sizeof has), limit->file,
		limits_spell_bytes(store_max_bytes, most, sizeof most), limits_spell_bytes(need, wants, sizeof wants),
		lower);
	return true;
}
