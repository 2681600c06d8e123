/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: rows by their keys. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_FETCH_H
#define SHMETA_BACKENDS_POSTGRES_PG_FETCH_H

#include "backends/postgres/pg_state.h"

enum shmeta_status pg_fetch(void *data, const struct backend_key *keys, size_t count, const struct backend_sink *sink,
                            struct backend_error *err);

#endif
