/* SPDX-License-Identifier: Apache-2.0
 * Operations for sources whose own schema refuses or changes what shmeta writes: one for each row
 * that an operation writes, so that a test can put a trigger, a CHECK or a rule in the way of that
 * row alone.
 *
 * Rule that every engine keeps: an operation whose row the source refused is not answered OK and
 * leaves nothing behind, and the operations before and behind it in the same batch are done. */
#ifndef SHMETA_TESTS_SUPPORT_HOSTILE_H
#define SHMETA_TESTS_SUPPORT_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/support/source_world.h"

enum { HOSTILE_NOW_MS = 5000 };

struct hostile_op {
	const char *name;
	const char *table, *event; /* the row that is written: "segments", "INSERT" */
	const char *when;          /* holds for that row and for none of the neighbours': "NEW.topic
                                    * = 't'" */
	struct shmeta_op op;
	bool slice; /* the operation is a slice: an object of its own goes before it      */
};
extern const struct hostile_op hostile_ops[];
extern const size_t hostile_op_count;

/* The rows that the operations work on. The backend is open. */
void hostile_rows(struct world *world);
/* The operation in one batch with two neighbours, which set the watermarks of u/0 and u/1 to mark.
 * *ret: its own result. The test fails unless the call and both neighbours succeed. */
void hostile_apply(struct world *world, const struct hostile_op *op, uint64_t mark, struct shmeta_result *ret);
/* All rows as the engine reads them, sorted, without the neighbours' partitions. The caller frees
 * it. */
char *hostile_dump(struct world *world);

#endif
