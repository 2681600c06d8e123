/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the verbs of `shmetactl schema`. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_SCHEMA_H
#define SHMETA_BACKENDS_POSTGRES_PG_SCHEMA_H

#include "backends/postgres/pg_state.h"

/* backend.h, schema(); connects by itself. */
enum shmeta_status pg_schema(struct pg_state *state, enum backend_schema_verb verb, int dry_run, backend_schema_fn *say,
                             void *arg, struct backend_error *err);

#endif
