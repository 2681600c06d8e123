/* SPDX-License-Identifier: Apache-2.0
 * How long the engine's work takes: histograms since the start. The engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_MEASURED_H
#define SHMETA_WRITER_ENGINE_MEASURED_H

#include "shm/page/histogram.h"

struct sync;

struct measured {
	struct shmeta_times times[SHMETA_TIMED_COUNT];
};

void sync_measured(struct sync *s, enum shmeta_timed what, uint64_t took_ns);
/* All of them, copied. */
void measured_read(const struct measured *m, struct shmeta_times ret[SHMETA_TIMED_COUNT]);

#endif
