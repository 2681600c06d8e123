/* SPDX-License-Identifier: Apache-2.0
 * The phases of a writer, and the one way from one to another. The board holds the phase; nobody
 * keeps a second one.
 *
 *   STARTING --> LOADING --> SERVING <--> DEGRADED      any of them --> DRAINING --> STOPPED
 *       |           ^------------------------'|
 *       '--> SERVING (warm) or DEGRADED       '--> LOADING (no store yet; the source is back) */
#ifndef SHMETA_WRITER_ENGINE_PHASE_H
#define SHMETA_WRITER_ENGINE_PHASE_H

#include <stdint.h>

#include "shm/page/board.h"

enum phase_moved {
	PHASE_MOVED,
	PHASE_THERE,  /* it is the phase already    */
	PHASE_REFUSED /* it may not follow this one */
};

/* Any thread: the engine moves, and the loop when it is told to stop. Whoever comes late is
 * refused. */
enum phase_moved phase_move(struct shmeta_board *board, enum shmeta_phase to, uint64_t now_ns);
/* A writer begins with STARTING, whatever the former one left behind. */
void phase_begin(struct shmeta_board *board, uint64_t now_ns);

enum shmeta_phase phase_of(const struct shmeta_board *board);
const char *phase_name(enum shmeta_phase phase);

#endif
