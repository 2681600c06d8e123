/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: shmeta's own tables and triggers. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_TRIGGERS_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_TRIGGERS_H

#include "backends/sqlite/sqlite_state.h"

/* What shmeta's own tables and triggers are like. Those of a newer version are left alone. */
enum { SQLITE_OWN_VERSION = 2 };

/* Are all own objects there, word for word, and do they tell of everything? Fills shape.own,
 * shape.feed and trouble. make: create those that are not, in the transaction that is open;
 * *ret_made: it did. */
int sqlite_own_objects(struct sqlite_state *state, bool make, bool *ret_made);
/* Was what is there made by a newer version? */
bool sqlite_is_newer(struct sqlite_state *state);
/* Take away all that shmeta keeps in the file for itself. */
enum shmeta_status sqlite_remove_managed(struct sqlite_state *state, struct backend_error *err);
/* What making, or removing, all own objects takes. *ret_count: how many there should be;
 * *ret_there: how many are as they should be. */
enum shmeta_status sqlite_tell_objects(struct sqlite_state *state, enum backend_schema_verb verb,
                                       backend_schema_fn *say, void *arg, int *ret_there, int *ret_count,
                                       struct backend_error *err);

#endif
