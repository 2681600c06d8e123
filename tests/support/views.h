/* SPDX-License-Identifier: Apache-2.0
 * What a source and a store hold, as sorted lines that compare with those of a model (model.h). */
#ifndef SHMETA_TESTS_SUPPORT_VIEWS_H
#define SHMETA_TESTS_SUPPORT_VIEWS_H

#include <stdint.h>

#include "include/shmeta.h"
#include "tests/support/model.h"
#include "tests/support/source_world.h"

/* The seven tables, read by SQL of the test's own. To be freed. */
char *view_source(struct world *world);
/* Everything that one snapshot shows, to be freed; NULL: this time it cannot be looked at.
 * *ret_age_ns: how old the answer is about the first line that differs from `expected`; UINT64_MAX:
 * it claims nothing. */
char *view_store(struct shmeta_reader *reader, const char *expected, uint64_t *ret_age_ns);
/* What the store has for each of the model's keys when the source is asked for it (SOURCE), and for
 * the lists of groups, agents and leases; to be freed. NULL: not all of it could be asked. */
char *view_asked(struct shmeta_reader *reader);
/* The first line in which two texts differ, of the one that has it; it ends at the line's end.
 * NULL: they are the same. */
const char *view_difference(const char *a, const char *b);
/* Every row of a statement, its columns as text (NULL as NULL), each handed to row(). */
void view_each_row(struct world *world, const char *sql,
                   void (*row)(const char *const *column, struct model_lines *lines), struct model_lines *lines);

#endif
