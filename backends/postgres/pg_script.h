/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: DDL, gathered before it is told or run. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_SCRIPT_H
#define SHMETA_BACKENDS_POSTGRES_PG_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

struct pg_state;

/* A statement each. Zeroed at first. */
struct pg_script {
	char **lines;
	size_t count, capacity;
	bool failed; /* out of memory */
};
void pg_script_free(struct pg_script *script);
__attribute__((format(printf, 2, 3))) void pg_say(struct pg_script *script, const char *fmt, ...);

/* The tables of semantics.md 1.8, for an empty schema. */
void pg_say_tables(struct pg_script *script, const struct pg_state *state);

#endif
