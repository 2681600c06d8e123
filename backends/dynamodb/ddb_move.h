/* SPDX-License-Identifier: Apache-2.0
 * Rows from and to other engines, and lists of objects: struct backend_admin. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_MOVE_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_MOVE_H

#include "backends/dynamodb/ddb_state.h"

enum shmeta_status ddb_objects(void *state, const struct backend_object_list *list, backend_object_fn *emit, void *arg,
                               struct backend_error *err);
enum shmeta_status ddb_extras(void *state, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                              struct backend_error *err);
/* In transactions of at most 99 items, not in one. */
enum shmeta_status ddb_restore(void *state, const struct backend_row *rows, size_t count, struct shmeta_result *results,
                               struct backend_error *err);

#endif
