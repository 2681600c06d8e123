/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the connection to the file that is at the path now. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_CONNECTION_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_CONNECTION_H

#include "backends/sqlite/sqlite_state.h"

/* Connected to the file that is at the path now, its schema known. Opens it again when it was
 * replaced or an earlier call lost it. */
enum shmeta_status sqlite_ensure(struct sqlite_state *state, struct backend_error *err);
/* Was the schema altered in a way that concerns us? Then everything is looked at again, and
 * reported as changed. */
enum shmeta_status sqlite_check_schema(struct sqlite_state *state, struct backend_error *err);
void sqlite_disconnect(struct sqlite_state *state);

/* Copy SQLite's log into the file, when it has at least so many pages. Not while somebody waits for
 * an answer. */
enum { SQLITE_CHECKPOINT_PAGES = 4000, SQLITE_CHECKPOINT_PAGES_MAX = 32000 };
void sqlite_checkpoint(struct sqlite_state *state, int pages);

#endif
