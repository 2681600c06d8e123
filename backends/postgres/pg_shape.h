/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what a database's tables are like. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_SHAPE_H
#define SHMETA_BACKENDS_POSTGRES_PG_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "backends/backend.h"
#include "backends/sql/tables.h"

struct pg_state;

/* Which of the columns that not every database has are there. */
struct pg_shape {
	bool organization;        /* topics, partitions, segments, groups, offsets carry
                                   * organization_id */
	bool agents_organization; /* nullable: a shared agent has none */
	bool leases_organization;
	bool tenant_uuid; /* organization_id is of type uuid, otherwise text */
	bool config_json; /* topics.config, agents.metadata are JSONB, otherwise text */
	bool cleanup_policy;
	bool timestamps;    /* segments: min_timestamp, max_timestamp */
	bool segment_place; /* a unique index (topic, partition_id, base_offset), with or without
                             * tenant */
	bool deferrable;    /* a unique constraint of segments is, so that ON CONFLICT cannot be
                             * used there */
	bool by_index;      /* partitions and segments are found by an index of topic and
                             * partition_id */
	bool tenant_in_key; /* leases: organization_id is of their primary key; looked at without
                             * triggers alone */
	bool loose_texts;   /* some text column's collation takes different texts for equal */
	bool own;           /* shmeta's own tables are there: epochs, transfers, objects, slices */
	bool epochs;        /* and that of leader epochs, which this role may write */
	bool epochs_readable;
	bool feed;     /* and the log with all its triggers, and nothing passes them by */
	char kinds[9]; /* pg_class.relkind of the seven tables, in the order of backend_tables; no
                      * byte is left between it and what follows */
	/* Columns of integers that are of a type which also holds what is none, a bit each: see
	 * pg_write_number(). */
	uint32_t inexact[TABLE_COUNT];
};

/* What stands in the way of serving it, a sentence's part each; empty: nothing. */
struct pg_obstacles {
	char missing[300];   /* tables and columns that are not there              */
	char forbidden[300]; /* that this role may not read                        */
	char unfit[300];     /* columns of a type that cannot be read as what they are */
};

/* Look which tables and columns there are: to the shape, which is zeroed before, and the schema's
 * name. */
enum shmeta_status pg_look_at_tables(struct pg_state *state, struct pg_obstacles *ret, struct backend_error *err);
/* name: quoted as a name. */
void pg_set_schema(struct pg_state *state, const char *name);
/* shape.segment_place and shape.tenant_in_key; shape.by_index; shape.loose_texts. */
enum shmeta_status pg_look_for_place(struct pg_state *state, struct backend_error *err);
enum shmeta_status pg_look_for_indexes(struct pg_state *state, struct backend_error *err);
enum shmeta_status pg_look_for_collations(struct pg_state *state, struct backend_error *err);

/* An expression for a column of integers of the row that is called alias, as int8. */
void pg_write_number(FILE *out, const struct pg_shape *shape, enum table_index table, const char *alias,
                     const char *column);
/* Can there be rows of this tenant at all? A database without the column has the one; one of type
 * uuid only well-formed ones. */
bool pg_tenant_possible(const struct pg_state *state, struct shmeta_str tenant);
/* Can the log hold the keys of all tables, and have they triggers at all? And the first table whose
 * keys it cannot; NULL: none. */
bool pg_log_is_possible(const struct pg_shape *shape);
const char *pg_inexact_key(const struct pg_shape *shape);

#endif
