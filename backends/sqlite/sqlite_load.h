/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: everything, or the names of all topics. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_LOAD_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_LOAD_H

#include "backends/sqlite/sqlite_state.h"

enum shmeta_status sqlite_load(void *data, const struct backend_sink *sink, struct backend_error *err);

#endif
