/* SPDX-License-Identifier: Apache-2.0
 * Directories of tests (scratch.h). */
#include "tests/support/scratch.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

static const char *base(void)
{
	const char *given = getenv("SHMETA_TEST_SCRATCH");

	return given != NULL ? given : "/dev/shm";
}

bool scratch_dir(const char *name, char ret_path[SCRATCH_PATH_MAX])
{
	(void)snprintf(ret_path, SCRATCH_PATH_MAX, "%s/shmeta-%s-XXXXXX", base(), name);
	return mkdtemp(ret_path) != NULL;
}

void scratch_file(const char *name, char ret_path[SCRATCH_PATH_MAX])
{
	static unsigned made;

	(void)snprintf(ret_path, SCRATCH_PATH_MAX, "%s/shmeta-%s-%d-%u", base(), name, (int)getpid(), made++);
}

int scratch_private_mounts(void)
{
	return unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ? errno : 0;
}
