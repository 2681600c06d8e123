/* SPDX-License-Identifier: Apache-2.0
 * Figures of the long forms: each is a line of the table that `make faults` prints at its end and
 * that docs/reliability.md shows. */
#ifndef SHMETA_TESTS_FIGURE_H
#define SHMETA_TESTS_FIGURE_H

#include <stdint.h>

/* Print one figure, in `make faults` only. case_name: what was done ("kill -9 of the writer under
 * load"). `done` of `target` units ("kills"): what was done, and what the fault asks for; target 0:
 * it asks for no number. fmt: what was measured. None may contain '|'. */
void figure(const char *case_name, uint64_t done, uint64_t target, const char *units, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Sort the values and print "p50 x ms, p99 y ms, max z ms" into `text`. Returns text. */
const char *figure_times(double *ms, uint32_t count, char *text, uint32_t bytes);

#endif
