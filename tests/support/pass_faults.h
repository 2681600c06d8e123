/* SPDX-License-Identifier: Apache-2.0
 * Any engine, with what makes a pass over everything difficult: no second connection, a load() that
 * fails for some row, a position that is of no use, no feed. One at a time in a process; its state
 * is that of the engine inside. */
#ifndef SHMETA_TESTS_SUPPORT_PASS_FAULTS_H
#define SHMETA_TESTS_SUPPORT_PASS_FAULTS_H

#include <stdbool.h>

#include "backends/backend.h"

struct pass_faults {
	bool no_second; /* open() refuses what is not the only state that is open */
	bool broken;    /* load() fails for some row behind the first few thousand of them */
	bool no_resume; /* resume() answers ABSENT */
	/* Called before each row of a load() or fetch() is handed on. */
	void (*on_row)(void);
	/* What was called. */
	uint64_t loads, lists, fetches, resumes, rows;
	uint64_t fetch_keys_most, fetch_rows_most; /* of one fetch() */
	uint64_t states;                           /* that are open */
};
extern struct pass_faults pass_faults;

/* Everything zero; the engine inside is this one. feed false: it has none. */
const struct backend_engine *pass_faults_around(const struct backend_engine *engine, bool feed);

#endif
