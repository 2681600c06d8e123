/* SPDX-License-Identifier: Apache-2.0
 * Directories of tests. They lie in $SHMETA_TEST_SCRATCH, which tests/run.sh makes on tmpfs and
 * empties behind each program: what a test that fails could not remove is gone with it, and what a
 * test that passes leaves behind is a failure. */
#ifndef SHMETA_TESTS_SUPPORT_SCRATCH_H
#define SHMETA_TESTS_SUPPORT_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

enum { SCRATCH_PATH_MAX = 64 };

/* Make an empty directory whose name begins with `name`, mode 0700. false: errno says why. Without
 * tests/run.sh: in /dev/shm. */
bool scratch_dir(const char *name, char ret_path[SCRATCH_PATH_MAX]);
/* The path of a file there that does not exist and that no other process names. */
void scratch_file(const char *name, char ret_path[SCRATCH_PATH_MAX]);

/* Give the calling process mounts of its own, which nobody else sees. 0, or errno. */
int scratch_private_mounts(void);

#endif
