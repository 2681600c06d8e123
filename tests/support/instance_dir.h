/* SPDX-License-Identifier: Apache-2.0
 * An empty instance directory for one test, on tmpfs as in production, and everything below it
 * removed afterwards. */
#ifndef SHMETA_TESTS_SUPPORT_INSTANCE_DIR_H
#define SHMETA_TESTS_SUPPORT_INSTANCE_DIR_H

#include <stdint.h>

struct instance_dir {
	char path[64];
	int fd;
	int mounted;
};

void instance_dir_make(struct instance_dir *dir);
void instance_dir_remove(struct instance_dir *dir);
/* Put a tmpfs of this size over it, in a mount namespace of its own. 0, or the errno of what this
 * machine refuses. */
int instance_dir_limit(struct instance_dir *dir, const char *size);
/* "<dir>/store.<number>/<file>" */
void instance_dir_path(const struct instance_dir *dir, char (*ret_path)[160], uint64_t number, const char *file);
/* Overwrite bytes of a file of a generation. */
void instance_dir_overwrite(const struct instance_dir *dir, uint64_t number, const char *file, int64_t at,
                            const void *bytes, uint64_t count);

#endif
