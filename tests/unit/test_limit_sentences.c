/* SPDX-License-Identifier: Apache-2.0
 * Limits of the system in words: which one it is, and what to do. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/instance_dir.h"
#include "writer/daemon/limits.h"

TestSuite(limits, .timeout = 60);

static struct instance_dir dir;
static char text[512];

static void make(void)
{
	instance_dir_make(&dir);
}

static void done(void)
{
	instance_dir_remove(&dir);
}

static void limit_or_skip(const char *options)
{
	int error = instance_dir_limit(&dir, options);

	if (error == 0)
		return;
	done(); /* a skipped test has no .fini */
	cr_skip_test("nothing can be mounted here: %s", strerror(error));
}

static bool fill(const char *name, size_t bytes)
{
	static const char page[4096];
	int fd = openat(dir.fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	bool all = fd >= 0;

	for (size_t at = 0; all && at < bytes; at += sizeof page)
		all = write(fd, page, sizeof page) == (ssize_t)sizeof page;
	if (fd >= 0)
		(void)close(fd);
	return all;
}

static void put(const char *name, const char *content)
{
	int fd = openat(dir.fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	(void)close(fd);
}

static const char *path_of(const char *name)
{
	static char path[160];

	(void)snprintf(path, sizeof path, "%s/%s", dir.path, name);
	return path;
}

/* ---- files ---- */

Test(limits, inodes_that_are_used_up_are_told_as_such, .init = make, .fini = done)
{
	char name[16];

	limit_or_skip("1m,nr_inodes=8");
	cr_assert(!limits_of_files(dir.fd, false, 1 << 20, text, sizeof text), "%s", text);
	for (int i = 0; i < 8; i++) {
		(void)snprintf(name, sizeof name, "%d", i);
		(void)fill(name, 0);
	}
	cr_assert(limits_of_files(dir.fd, false, 1 << 20, text, sizeof text));
	cr_expect_not_null(strstr(text, "has 0 free inodes of 8"), "%s", text);
	cr_expect_not_null(strstr(text, "nr_inodes"), "%s", text);
	cr_assert_eq(unlinkat(dir.fd, "0", 0), 0);
	cr_expect(!limits_of_files(dir.fd, false, 1 << 20, text, sizeof text), "%s", text);
	cr_assert(limits_of_files(dir.fd, true, 1 << 20, text, sizeof text));
	cr_expect_not_null(strstr(text, "has 1 free inodes of 8"), "a generation takes more: %s", text);
}

Test(limits, a_file_system_that_is_full_is_told_with_its_size, .init = make, .fini = done)
{
	limit_or_skip("1m");
	cr_assert(!fill("filler", 2 << 20));
	cr_assert(limits_of_files(dir.fd, false, 1 << 20, text, sizeof text));
	cr_expect_not_null(strstr(text, "has 0 free of 1M"), "%s", text);
	cr_assert_eq(unlinkat(dir.fd, "filler", 0), 0);
	cr_expect(!limits_of_files(dir.fd, false, 1 << 20, text, sizeof text), "%s", text);
}

Test(limits, a_limit_on_file_sizes_is_told_where_it_is_below_the_store, .init = make, .fini = done)
{
	struct rlimit limit = {.rlim_cur = 2 << 20, .rlim_max = RLIM_INFINITY};

	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_expect(!limits_of_files(dir.fd, false, 2 << 20, text, sizeof text), "%s", text);
	cr_assert(limits_of_files(dir.fd, false, 64 << 20, text, sizeof text));
	cr_expect_not_null(strstr(text, "2M at most (LimitFSIZE=, ulimit -f)"), "%s", text);
	cr_expect_not_null(strstr(text, "store.max_bytes = 64M"), "%s", text);
}

/* ---- memory ---- */

/* A hierarchy as the kernel shows it: root/a/b, and this process in /a/b. */
static void make_groups(const char *of_a, const char *of_b)
{
	cr_assert_eq(mkdirat(dir.fd, "a", 0700), 0);
	cr_assert_eq(mkdirat(dir.fd, "a/b", 0700), 0);
	put("a/memory.max", of_a);
	put("a/b/memory.max", of_b);
	put("proc", "4:freezer:/x\n0::/a/b\n");
}

static bool find(struct limits_memory *ret)
{
	char proc[160];

	(void)snprintf(proc, sizeof proc, "%s", path_of("proc"));
	return limits_memory(proc, dir.path, ret);
}

Test(limits, the_least_memory_limit_of_the_group_and_those_above_it_counts, .init = make, .fini = done)
{
	struct limits_memory limit;

	make_groups("max\n", "max\n");
	cr_expect(!find(&limit));
	put("a/b/memory.max", "67108864\n");
	cr_assert(find(&limit));
	cr_expect_eq(limit.bytes, 64 << 20);
	cr_expect_str_eq(limit.file, path_of("a/b/memory.max"));
	put("a/memory.max", "33554432\n");
	cr_assert(find(&limit));
	cr_expect_eq(limit.bytes, 32 << 20);
	cr_expect_str_eq(limit.file, path_of("a/memory.max"));
	put("proc", "4:memory:/a/b\n");
	cr_expect(!find(&limit), "there is no unified hierarchy");
	put("proc", "0::/gone\n");
	cr_expect(!find(&limit));
}

Test(limits, a_memory_limit_below_two_stores_and_200_mib_is_told_with_what_is_missing)
{
	struct limits_memory limit = {.bytes = (2248ull << 20), .file = "/sys/fs/cgroup/a/memory.max"};

	cr_expect(!limits_memory_short(&limit, 1 << 30, text, sizeof text), "%s", text);
	limit.bytes = 1 << 30;
	cr_assert(limits_memory_short(&limit, 1 << 30, text, sizeof text));
	cr_expect_not_null(strstr(text, "is 1G (/sys/fs/cgroup/a/memory.max)"), "%s", text);
	cr_expect_not_null(strstr(text, "may need 2248M"), "%s", text);
	cr_expect_not_null(strstr(text, "lower store.max_bytes to 412M"), "%s", text);
	limit.bytes = 64 << 20; /* less than the process itself: no store would do */
	cr_assert(limits_memory_short(&limit, 1 << 30, text, sizeof text));
	cr_expect_null(strstr(text, "lower"), "%s", text);
}
