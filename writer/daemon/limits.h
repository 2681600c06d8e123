/* SPDX-License-Identifier: Apache-2.0
 * Limits of the system that stop the writer's files and memory from growing: which one it is, in
 * words, and what to do. */
#ifndef SHMETA_WRITER_DAEMON_LIMITS_H
#define SHMETA_WRITER_DAEMON_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "64M", "1G"; bytes that are no multiple of 1024 without a unit. */
const char *limits_spell_bytes(uint64_t bytes, char *ret, size_t room);

/* Does the system keep files in the directory dir_fd from growing to store_max_bytes, or (makes) a
 * new generation from being made there: the file system's inodes, its space, this process's limit
 * on file sizes? Then *ret says which, and what to do. */
bool limits_of_files(int dir_fd, bool makes, uint64_t store_max_bytes, char *ret, size_t room);

/* How long a file of the directory may become at most, that has file_bytes now and may have
 * max_bytes: less where the file system has no room, or this process's files may not be as long. */
uint64_t limits_file_bytes(int dir_fd, uint64_t file_bytes, uint64_t max_bytes);

struct limits_memory {
	uint64_t bytes;
	char file[512]; /* that says so */
};

/* The least memory.max of the control group that proc_file ("/proc/self/cgroup") names and of those
 * above it, below root ("/sys/fs/cgroup"). false: there is no limit, or no unified hierarchy. */
bool limits_memory(const char *proc_file, const char *root, struct limits_memory *ret);
/* Is the limit less than a store of store_max_bytes may need? Then the sentence says by how much,
 * and what to do. */
bool limits_memory_short(const struct limits_memory *limit, uint64_t store_max_bytes, char *ret, size_t room);

#endif
