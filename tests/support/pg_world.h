/* SPDX-License-Identifier: Apache-2.0
 * Worlds (source_world.h) on PostgreSQL: a program that uses these has a server from before its
 * first test until after its last one, and each test a database of its own there. */
#ifndef SHMETA_TESTS_SUPPORT_PG_WORLD_H
#define SHMETA_TESTS_SUPPORT_PG_WORLD_H

#include <criterion/criterion.h>

#include "tests/support/source_world.h"

/* Of the world that is called w: the call succeeds; the recorder has a line with that part. */
#define ok(call) cr_assert_eq((call), SHMETA_OK, "%s", w->err.text)
#define has(part) \
	cr_expect(recorder_has(&w->recorder, (part)), "no line with '%s' in:\n%s", (part), recorder_text(&w->recorder))

/* A database without tables and without a backend. Skips the test where the machine has no
 * server. */
void pg_world_make(struct world *w);
/* Load it, and follow it from there: nothing has changed meanwhile. */
void pg_world_follow(struct world *w);
/* One operation, with success. */
void pg_world_apply(struct world *w, struct shmeta_op *op);
/* End all sessions of the database but the application's. */
void pg_world_end_sessions(struct world *w);

#endif
