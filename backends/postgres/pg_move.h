/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: rows moved between engines, as they are. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_MOVE_H
#define SHMETA_BACKENDS_POSTGRES_PG_MOVE_H

#include "backends/postgres/pg_state.h"

enum shmeta_status pg_extras(void *data, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                             struct backend_error *err);
enum shmeta_status pg_restore(void *data, const struct backend_row *rows, size_t count, struct shmeta_result *results,
                              struct backend_error *err);
bool pg_move_texts(struct pg_state *state);

#endif
