/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the list of objects. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_OBJECTS_H
#define SHMETA_BACKENDS_POSTGRES_PG_OBJECTS_H

#include "backends/postgres/pg_state.h"

enum shmeta_status pg_list_objects(void *data, const struct backend_object_list *list, backend_object_fn *emit,
                                   void *arg, struct backend_error *err);
bool pg_object_texts(struct pg_state *state);

#endif
