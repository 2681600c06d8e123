/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: batches of operations. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_WRITE_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_WRITE_H

#include "backends/sqlite/sqlite_state.h"

enum shmeta_status sqlite_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err);
/* A transaction that may write, on the schema that our statements were made for: what a trigger
 * would do must not be left undone, nor done twice, because somebody made one since. SQLite's code;
 * with one that is OK, *ret_status may say that it is none. */
int sqlite_begin_write(struct sqlite_state *state, enum shmeta_status *ret_status, struct backend_error *err);

#endif
