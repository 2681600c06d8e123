/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what a file must have to be served. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_SCHEMA_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_SCHEMA_H

#include "backends/sqlite/sqlite_state.h"

/* Learn the file's shape; create the schema in an empty file and shmeta's own tables where that is allowed; fill state->sql. */
enum shmeta_status sqlite_attach(struct sqlite_state *state, struct backend_error *err);
/* Hash of the schema objects that concern us: differs when one of them was altered, dropped or made anew. */
int sqlite_objects(struct sqlite_state *state, uint64_t *ret);
enum shmeta_status sqlite_schema(struct sqlite_state *state, enum backend_schema_verb verb, int dry_run,
                                 backend_schema_fn *say, void *arg, struct backend_error *err);

#endif
