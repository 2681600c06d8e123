/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the list of objects. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_OBJECTS_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_OBJECTS_H

#include "backends/sqlite/sqlite_state.h"

enum shmeta_status sqlite_list_objects(void *data, const struct backend_object_list *list, backend_object_fn *emit,
                                       void *arg, struct backend_error *err);

#endif
