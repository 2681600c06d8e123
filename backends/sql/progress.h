/* SPDX-License-Identifier: Apache-2.0
 * How far a load has come, told to its sink every now and then. */
#ifndef SHMETA_BACKENDS_SQL_PROGRESS_H
#define SHMETA_BACKENDS_SQL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"

struct progress {
	const struct backend_sink *sink;
	bool loading; /* otherwise rows are counted, and nobody is told */
	uint64_t rows, total;
	uint64_t told, told_ns; /* internal */
};

enum { PROGRESS_ROWS = 16384 };

/* From the first row on. */
void progress_start(struct progress *progress);
/* Tell, where it is time to. Not OK: the sink wants no more. */
enum shmeta_status progress_tell(struct progress *progress);
/* Tell in any case. */
enum shmeta_status progress_tell_now(const struct progress *progress);
/* One more row. */
static inline enum shmeta_status progress_row(struct progress *progress)
{
	return ++progress->rows - progress->told >= PROGRESS_ROWS ? progress_tell(progress) : SHMETA_OK;
}

#endif
