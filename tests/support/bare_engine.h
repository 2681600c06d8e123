/* SPDX-License-Identifier: Apache-2.0
 * A sync engine without its thread, on an in-memory source, for programs without Criterion (fuzz
 * targets): an instance directory with a board, and a source. What a program takes for granted and
 * is not so ends it with a sentence on stderr. */
#ifndef SHMETA_TESTS_SUPPORT_BARE_ENGINE_H
#define SHMETA_TESTS_SUPPORT_BARE_ENGINE_H

#include "backends/memory/memory.h"
#include "tests/support/scratch.h"
#include "writer/engine/sync.h"

struct bare_engine {
	char dir[SCRATCH_PATH_MAX];
	int dir_fd;
	struct shmeta_board *board;
	struct memory_db *db;
	char uri[64];
	struct sync_options options;
	struct sync_host host; /* the caller's, before it opens */
	struct sync *sync;     /* NULL: not open */
};

/* A directory, a board and an empty source. */
void bare_engine_init(struct bare_engine *e);
/* Start the engine on what is there. */
enum shmeta_status bare_engine_open(struct bare_engine *e, struct shmeta_err *err);
void bare_engine_close(struct bare_engine *e);
/* Remove all of it. */
void bare_engine_done(struct bare_engine *e);
/* Ends the process unless it holds. */
void bare_engine_must(bool holds, const char *what, const struct shmeta_err *err);

#endif
