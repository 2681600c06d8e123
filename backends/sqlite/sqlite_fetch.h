/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: rows by their keys. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_FETCH_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_FETCH_H

#include "backends/sqlite/sqlite_state.h"

enum shmeta_status sqlite_fetch(void *data, const struct backend_key *keys, size_t count,
                                const struct backend_sink *sink, struct backend_error *err);

#endif
