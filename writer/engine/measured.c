/* SPDX-License-Identifier: Apache-2.0
 * Times of the engine's work (measured.h). */
#include <string.h>

#include "writer/engine/engine.h"

void sync_measured(struct sync *s, enum shmeta_timed what, uint64_t took_ns)
{
	struct shmeta_times *times = &s->measured.times[what];

	times->sum_ns += took_ns;
	times->count[shmeta__times_bucket(took_ns)]++;
}

void measured_read(const struct measured *m, struct shmeta_times ret[SHMETA_TIMED_COUNT])
{
	memcpy(ret, m->times, sizeof m->times);
}
