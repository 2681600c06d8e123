/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: everything, or the names of all topics. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_LOAD_H
#define SHMETA_BACKENDS_POSTGRES_PG_LOAD_H

#include "backends/postgres/pg_state.h"

enum shmeta_status pg_load(void *data, const struct backend_sink *sink, struct backend_error *err);

#endif
