/* SPDX-License-Identifier: Apache-2.0
 * Worlds (source_world.h) on SQLite, and what is done to their files. */
#ifndef SHMETA_TESTS_SUPPORT_SQLITE_WORLD_H
#define SHMETA_TESTS_SUPPORT_SQLITE_WORLD_H

#include "tests/support/source_world.h"

/* A database file with any content, opened by nobody. */
void sqlite_world_bare(struct world *w, const char *sql);
/* Run the sqlite3 program on the world's file: its exit status, or -1. */
int sqlite_world_program(struct world *w, const char *sql);
/* changed() of a sink whose arg counts the keys (a size_t). */
enum shmeta_status sqlite_world_own_changed(void *arg, const struct backend_key *key);
/* Apply, all of it with success. */
void sqlite_world_apply(struct world *w, const struct shmeta_op *op, size_t count);
/* A segment of ten offsets of topic "t"; id: 40 characters of the caller, which the operation
 * refers to. */
struct shmeta_op sqlite_world_add(uint32_t partition, uint64_t base, char *id);

#endif
