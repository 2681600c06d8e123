/* SPDX-License-Identifier: Apache-2.0
 * writer.lock: one writer an instance. It is flock(2) on a file that nobody but the daemon's user
 * can open, since whoever can open a file, if only for reading, can lock it. */
#ifndef SHMETA_WRITER_DAEMON_LOCK_H
#define SHMETA_WRITER_DAEMON_LOCK_H

#include "base/err.h"

/* Owns: *ret_fd; the lock ends with it. path: of the directory, for sentences. ERR_BUSY: another
 * process holds it; the sentence says which, as the kernel knows it. A file that others could open
 * (former versions made such) is replaced by a new one, also while somebody who is no writer holds
 * it. */
enum shmeta_status lock_take(int dir_fd, const char *path, int *ret_fd, struct shmeta_err *err);

#endif
