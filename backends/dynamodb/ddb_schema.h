/* SPDX-License-Identifier: Apache-2.0
 * The four tables: made, looked at, taken away. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_SCHEMA_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_SCHEMA_H

#include "backends/dynamodb/ddb_state.h"

/* As struct backend_admin says; the state is open. */
enum shmeta_status ddb_schema(struct ddb_state *s, enum backend_schema_verb verb, int dry_run, backend_schema_fn *say,
                              void *arg, struct backend_error *err);
/* The identity of the tables; *ret 0: there are none. */
enum shmeta_status ddb_identity(struct ddb_state *s, uint64_t *ret, struct backend_error *err);

#endif
