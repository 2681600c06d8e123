/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the text of what is shmeta's own in a database, and of its removal. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_OWN_H
#define SHMETA_BACKENDS_POSTGRES_PG_OWN_H

#include "backends/postgres/pg_script.h"
#include "backends/postgres/pg_state.h"

#define PG_CHANNEL "shmeta" /* of NOTIFY */
enum {
	PG_PRUNE_LOCK = 0x73686d66, /* advisory: who has it prunes the log */
	PG_CLASS_NONE = 99          /* of a row of the log that tells of nothing */
};

/* Tables, functions and triggers, with their version's mark; the trigger of NOTIFY; and the end of
 * all that. */
void pg_say_own(struct pg_script *script, const struct pg_state *state);
void pg_say_notify(struct pg_script *script, const struct pg_state *state);
void pg_say_removal(struct pg_script *script, const struct pg_state *state);

/* The triggers as the rows of a VALUES: name, table, function, and type as in pg_trigger. */
enum { PG_TRIGGERS = 34 };
void pg_list_triggers(char *ret, size_t bytes);

/* What a mark says of the objects beside which it was found. A later version's are kept as they
 * are: the earlier one takes them for its own, and two versions do not undo each other's while
 * hosts are brought up to date one by one. */
enum pg_version { PG_VERSION_EARLIER, PG_VERSION_SAME, PG_VERSION_LATER };
enum pg_version pg_judge_mark(const struct pg_state *state, const char *mark);

#endif
