/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what the log of changes tells, and what it cannot. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_COVERAGE_H
#define SHMETA_BACKENDS_POSTGRES_PG_COVERAGE_H

#include "backends/postgres/pg_own.h"

/* Tables whose rows may change without a trigger: by kind, inheritance, subscription, row security;
 * the log, where something of the application's may keep rows out of it. */
enum { PG_PASSED_BY = 5 };
/* What of shmeta's own there is. */
struct pg_own {
	int64_t tables, wanted_tables, readable;       /* readable: to this role */
	bool epochs, epochs_readable, epochs_writable; /* the table of leader epochs is there, which
                                                        * is none of the tables above */
	int64_t triggers, wanted_triggers;             /* those that are as they were made, and
                                                        * always fire */
	char mark[40];
	enum pg_version version;
	char missing[200];                 /* names of triggers */
	char passed_by[PG_PASSED_BY][120]; /* names of tables   */
};
enum shmeta_status pg_count_own(struct pg_state *state, struct pg_own *ret, struct backend_error *err);
/* Is something missing that this version would make? */
bool pg_own_is_due(const struct pg_state *state, const struct pg_own *own);

/* Look at shmeta's own objects and at what they cover: shape.own, shape.feed, coverage. *ret_due:
 * something of them is missing, or of an earlier version, and could be made. */
enum shmeta_status pg_look_for_own(struct pg_state *state, bool *ret_due, struct backend_error *err);
/* What a poll compares with coverage.basis, once it is hashed, as an expression of one text.
 * constant: for a statement that is prepared. */
enum { PG_BASIS_BYTES = 6000 };
void pg_basis_expression(bool constant, char ret[PG_BASIS_BYTES]);
uint64_t pg_hash_value(const PGresult *result, int row, int column);

#endif
