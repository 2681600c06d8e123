/* SPDX-License-Identifier: Apache-2.0
 * How far a load has come (progress.h). */
#include "backends/sql/progress.h"

#include <time.h>

enum { PROGRESS_NS = 100000000 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void progress_start(struct progress *progress)
{
	progress->rows = progress->told = 0;
	progress->told_ns = now_ns();
}

enum shmeta_status progress_tell_now(const struct progress *progress)
{
	return progress->sink->progress == NULL
	               ? SHMETA_OK
	               : progress->sink->progress(progress->sink->arg, progress->rows, progress->total);
}

enum shmeta_status progress_tell(struct progress *progress)
{
	uint64_t now = now_ns();

	progress->told = progress->rows;
	if (!progress->loading || progress->sink->progress == NULL)
		return SHMETA_OK;
	if (now - progress->told_ns < PROGRESS_NS && progress->rows % (4 * PROGRESS_ROWS) != 0)
		return SHMETA_OK;
	progress->told_ns = now;
	if (progress->total != 0 && progress->rows > progress->total)
		progress->total = progress->rows;
	return progress_tell_now(progress);
}
