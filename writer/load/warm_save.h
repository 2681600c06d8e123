/* SPDX-License-Identifier: Apache-2.0
 * The store's rows into the snapshot file. */
#ifndef SHMETA_WRITER_LOAD_WARM_SAVE_H
#define SHMETA_WRITER_LOAD_WARM_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "writer/load/warm_file.h"

struct sync;

/* All rows of the store that is there, into a file that was begun. meanwhile is called about every
 * millisecond, outside of any transaction; when it says false, or the store is another one then,
 * the result is ERR_BUSY. NULL: nobody waits. ERR_NOT_FOUND: the store keeps no position; ERR_FULL:
 * rows are quarantined that are not listed; otherwise what the store or the file failed with.
 * Engine's thread. */
enum shmeta_status warm_save_rows(struct sync *s, bool (*meanwhile)(struct sync *s), struct warm_out *out,
                                  uint64_t *ret_rows, struct shmeta_err *err);

#endif
