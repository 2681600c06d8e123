/* SPDX-License-Identifier: Apache-2.0
 * Very many rows, handed on a few hundred at a time. */
#ifndef SHMETA_WRITER_LOAD_PASS_WINDOW_H
#define SHMETA_WRITER_LOAD_PASS_WINDOW_H

#include <stdbool.h>

#include "base/arena.h"

enum { WINDOW_ROWS = 512, WINDOW_WRONG = 512 };

/* Rows of one partition, ascending by base: copies, and the range that they are all of. */
struct pass_window {
	uint64_t from, last_base;
	bool any_base; /* last_base is one */
	size_t count;
	struct arena strings;
	struct shmeta_segment row[WINDOW_ROWS];
};

/* The first row of a partition follows, none of them below from. */
void pass_window_begin(struct pass_window *w, uint64_t from);
/* A row that is good and in order is added: OK. ABSENT: it cannot be served, wrong says why.
 * ERR_NO_MEMORY. */
enum shmeta_status pass_window_add(struct pass_window *w, const struct shmeta_segment *segment,
                                   char wrong[WINDOW_WRONG]);
bool pass_window_full(const struct pass_window *w); /* up to last_base */
/* What was collected up to `to` has been handed on; behind the last offset there is nothing
 * more. */
void pass_window_next(struct pass_window *w, uint64_t to);
void pass_window_free(struct pass_window *w);

#endif
