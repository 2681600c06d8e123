/* SPDX-License-Identifier: Apache-2.0
 * Paths that mean the same from every directory. */
#ifndef SHMETA_WRITER_CONFIG_PATHS_H
#define SHMETA_WRITER_CONFIG_PATHS_H

/* An absolute path of the same file: the directory part without symlinks, "." and "..", the last
 * component as it is; it need not exist. Where the directory cannot be resolved, the working
 * directory stands in front of the path. The caller frees it. NULL: no memory. */
char *path_absolute(const char *path);

#endif
