/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: rows moved between engines, as they are. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_MOVE_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_MOVE_H

#include "backends/sqlite/sqlite_state.h"

enum shmeta_status sqlite_extras(void *data, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                                 struct backend_error *err);
enum shmeta_status sqlite_restore(void *data, const struct backend_row *rows, size_t count,
                                  struct shmeta_result *results, struct backend_error *err);

#endif
