/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what a database's tables are like (pg_shape.c). */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_SHAPE_H
#define SHMETA_BACKENDS_POSTGRES_PG_SHAPE_H

#include "backends/postgres/postgres.h"

/* What stands in the way of serving it, a sentence's part each; empty: nothing. */
struct pg_obstacles {
	char missing[300];   /* tables and columns that are not there              */
	char forbidden[300]; /* that this role may not read                        */
	char unfit[300];     /* columns of a type that cannot be read as what they are */
};

/* Which tables and columns there are, to the shape (zeroed before) and to the schema's name. */
enum shmeta_status pg_look_at_tables(struct pg_state *state, struct pg_obstacles *ret, struct backend_error *err);
/* name: quoted as a name. */
void pg_set_schema(struct pg_state *state, const char *name);
/* shape.segment_place; shape.by_index; shape.loose_texts. */
enum shmeta_status pg_look_for_place(struct pg_state *state, struct backend_error *err);
enum shmeta_status pg_look_for_indexes(struct pg_state *state, struct backend_error *err);
enum shmeta_status pg_look_for_collations(struct pg_state *state, struct backend_error *err);

/* The first value of the first row, of a query with one number or one text. */
enum shmeta_status pg_one_number(struct pg_state *state, const char *sql, int64_t *ret, struct backend_error *err);
enum shmeta_status pg_one_text(struct pg_state *state, const char *sql, char *ret, size_t bytes,
                               struct backend_error *err);

#endif
