/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what a file must have to be served. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_SCHEMA_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_SCHEMA_H

#include "backends/sqlite/sqlite_state.h"

/* Learn the file's shape; create the schema in an empty file and shmeta's own tables where that is
 * allowed; fill state->sql. */
enum shmeta_status sqlite_attach(struct sqlite_state *state, struct backend_error *err);
/* Hash of the schema objects that concern us, and the schema's version, of one moment. The hash
 * differs when one of them was altered or dropped, and as a rule also when it was made anew. */
int sqlite_objects(struct sqlite_state *state, uint64_t *ret, int64_t *ret_version);
/* May a trigger have been away between two versions that show the same objects? Each statement that
 * alters the schema counts its version up by one, and one alone does not take a trigger away and
 * bring it back. Its row proves nothing: what is dropped from the end of the schema, and made again
 * in the same order, gets the same rows. */
static inline bool sqlite_may_have_missed(int64_t from, int64_t to)
{
	return to != from && to != from + 1;
}
enum shmeta_status sqlite_schema(struct sqlite_state *state, enum backend_schema_verb verb, int dry_run,
                                 backend_schema_fn *say, void *arg, struct backend_error *err);

#endif
