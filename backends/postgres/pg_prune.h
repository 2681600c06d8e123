/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the end of old rows in the log of changes. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_PRUNE_H
#define SHMETA_BACKENDS_POSTGRES_PG_PRUNE_H

#include "backends/postgres/pg_state.h"

/* An expression of one text, for a poll to ask and pg_prune_log() to judge. */
extern const char pg_prune_look[];
/* Prune what is old enough, by what a poll has found. Housekeeping: what goes wrong with it goes
 * wrong again with something that matters. *ret_look_at_ns: when to look again. */
void pg_prune_log(struct pg_state *state, const char *found, uint64_t *ret_look_at_ns);

#endif
