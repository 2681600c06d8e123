/* SPDX-License-Identifier: Apache-2.0
 * A control group with a limit on memory, below the one that the test runs in. */
#ifndef SHMETA_TESTS_MEMORY_GROUP_H
#define SHMETA_TESTS_MEMORY_GROUP_H

#include <stdint.h>

struct memory_group {
	char above[256], path[300]; /* directories of the test's own group and of the new one */
	const char *limit_file;
};

/* 0, or errno where none can be made. */
int memory_group_make(struct memory_group *g, uint64_t bytes);
/* UINT64_MAX: no limit any more. */
int memory_group_limit(const struct memory_group *g, uint64_t bytes);
/* The calling process goes in, and out again; what it starts in between stays. */
int memory_group_enter(const struct memory_group *g);
int memory_group_leave(const struct memory_group *g);
/* Nothing may run in it. */
void memory_group_remove(const struct memory_group *g);

#endif
