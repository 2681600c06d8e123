/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: tables that another session has locked as a whole. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_LOCKED_H
#define SHMETA_BACKENDS_POSTGRES_PG_LOCKED_H

#include "backends/postgres/pg_state.h"

/* Other sessions' locks of whole tables were looked for; was there any a moment ago? */
void pg_locked_seen(struct pg_state *state, bool any);
bool pg_locked_lately(const struct pg_state *state);
/* Ask the server. ERR_BUSY, with the lock's name: some of the keys need a table that cannot be read
 * now. */
enum shmeta_status pg_judge_locked(struct pg_state *state, const struct backend_key *keys, size_t count,
                                   struct backend_error *err);
bool pg_locked_texts(struct pg_state *state);

#endif
