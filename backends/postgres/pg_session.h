/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the primary connection to a database whose shape is known, its own objects made
 * where that is allowed and due, all statements' texts written for it. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_SESSION_H
#define SHMETA_BACKENDS_POSTGRES_PG_SESSION_H

#include "backends/postgres/pg_script.h"
#include "backends/postgres/pg_state.h"

/* The first thing that every call does. */
enum shmeta_status pg_ensure(struct pg_state *state, struct backend_error *err);

/* For `shmetactl schema`. all: otherwise only if something is still due once nobody else is at
 * it. */
enum shmeta_status pg_run_script(struct pg_state *state, const struct pg_script *script, bool all,
                                 struct backend_error *err);
/* The tables, views and foreign tables in the schema where one would be created. */
enum shmeta_status pg_count_tables(struct pg_state *state, int64_t *ret, struct backend_error *err);
/* Is the database one that can be served? */
/* The schema that the tables are looked for in. ERR_CONFIG, with a sentence: there is none. */
enum { PG_PLACE = 200 };
enum shmeta_status pg_judge_place(struct pg_state *state, char schema[PG_PLACE], struct backend_error *err);
enum shmeta_status pg_judge_tables(struct pg_state *state, const struct pg_obstacles *obstacles,
                                   struct backend_error *err);

#endif
