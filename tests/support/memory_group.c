/* SPDX-License-Identifier: Apache-2.0
 * Control groups of both kinds: the unified hierarchy, and a hierarchy of its own for memory. */
#include "tests/support/memory_group.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int put(const char *directory, const char *name, const char *text)
{
	char path[400];
	int fd, error = 0;

	(void)snprintf(path, sizeof path, "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	(void)close(fd);
	return error;
}

/* Where the test's own group is; a line of /proc/self/cgroup is "number:controllers:/path". */
static int find(struct memory_group *g)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[300];

	g->above[0] = '\0';
	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strstr(line, ":memory:") != NULL) {
			(void)snprintf(g->above, sizeof g->above, "/sys/fs/cgroup/memory%.200s",
			               strstr(line, ":memory:") + strlen(":memory:"));
			g->limit_file = "memory.limit_in_bytes";
		} else if (strncmp(line, "0::", 3) == 0 && g->above[0] == '\0') {
			(void)snprintf(g->above, sizeof g->above, "/sys/fs/cgroup%.200s", line + 3);
			g->limit_file = "memory.max";
		}
	}
	if (f != NULL)
		(void)fclose(f);
	return g->above[0] != '\0' ? 0 : ENOENT;
}

int memory_group_make(struct memory_group *g, uint64_t bytes)
{
	int error = find(g);

	if (error != 0)
		return error;
	(void)snprintf(g->path, sizeof g->path, "%s/shmeta-test-%d", g->above, (int)getpid());
	if (mkdir(g->path, 0755) != 0)
		return errno;
	error = memory_group_limit(g, bytes);
	if (error == 0)
		error = memory_group_enter(g);
	if (error == 0)
		error = memory_group_leave(g);
	if (error != 0)
		memory_group_remove(g);
	return error;
}

int memory_group_limit(const struct memory_group *g, uint64_t bytes)
{
	char text[32];

	if (bytes == UINT64_MAX)
		(void)snprintf(text, sizeof text, "%s", strcmp(g->limit_file, "memory.max") == 0 ? "max" : "-1");
	else
		(void)snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
	return put(g->path, g->limit_file, text);
}

int memory_group_enter(const struct memory_group *g)
{
	return put(g->path, "cgroup.procs", "0");
}

int memory_group_leave(const struct memory_group *g)
{
	return put(g->above, "cgroup.procs", "0");
}

void memory_group_remove(const struct memory_group *g)
{
	(void)rmdir(g->path);
}
