/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the text of what is shmeta's own in a database (pg_own.c). */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_OWN_H
#define SHMETA_BACKENDS_POSTGRES_PG_OWN_H

#include <stdbool.h>
#include <stddef.h>

#include "backends/postgres/postgres.h"

/* A statement each. Zeroed at first. */
struct pg_script {
	char **lines;
	size_t count, capacity;
	bool failed; /* out of memory */
};
void pg_script_free(struct pg_script *script);
__attribute__((format(printf, 2, 3))) void pg_say(struct pg_script *script, const char *fmt, ...);

struct pg_token {
	const char *name, *text; /* the last one has no name */
};
/* The template with each {name} replaced. The caller frees it; NULL: no memory. */
char *pg_fill(const char *template, const struct pg_token *tokens);

/* Tables, functions and triggers, with their version's mark; the trigger of NOTIFY; and the end of all that. */
void pg_say_own(struct pg_script *script, const struct pg_state *state);
void pg_say_notify(struct pg_script *script, const struct pg_state *state);
void pg_say_removal(struct pg_script *script, const struct pg_state *state);

/* The triggers as the rows of a VALUES: name, table, function, and type as in pg_trigger. */
enum { PG_TRIGGERS = 34 };
void pg_list_triggers(char *ret, size_t bytes);

/* What a mark says of the objects beside which it was found. A later version's are kept as they are: the earlier one takes them for
 * its own, and two versions do not undo each other's while hosts are brought up to date one by one. */
enum pg_version { PG_VERSION_EARLIER, PG_VERSION_SAME, PG_VERSION_LATER };
enum pg_version pg_judge_mark(const struct pg_state *state, const char *mark);

/* ---- pg_coverage.c ------------------------------------------------------------------------------------------------------------------ */

/* Tables whose rows may change without a trigger: by kind, inheritance, subscription, row security; the log, where something of the
 * application's may keep rows out of it. */
enum { PG_PASSED_BY = 5 };
/* What of shmeta's own there is. */
struct pg_own {
	int64_t tables, wanted_tables, readable; /* readable: to this role                            */
	int64_t triggers, wanted_triggers;       /* those that are as they were made, and always fire */
	char mark[40];
	enum pg_version version;
	char missing[200];                 /* names of triggers */
	char passed_by[PG_PASSED_BY][120]; /* names of tables   */
};
enum shmeta_status pg_count_own(struct pg_state *state, struct pg_own *ret, struct backend_error *err);
/* Can the log hold the keys of all tables, and have they triggers at all? And the first table whose keys it cannot; NULL: none. */
bool pg_log_is_possible(const struct pg_shape *shape);
const char *pg_inexact_key(const struct pg_shape *shape);
/* Is something missing that this version would make? */
bool pg_own_is_due(const struct pg_state *state, const struct pg_own *own);

#endif
