/* SPDX-License-Identifier: Apache-2.0
 * The engine's thread sleeps, and is woken: by whoever has something for it, by the source, by a
 * stop. */
#ifndef SHMETA_WRITER_ENGINE_WAKE_H
#define SHMETA_WRITER_ENGINE_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct sync;

struct engine_wake {
	int event_fd;
	uint32_t stopping;
	uint32_t kicked;   /* there may be something to do: the thread has not looked since   */
	uint32_t sleeping; /* and it waits for event_fd                                       */
	uint64_t woken_ns; /* when it was woken from that last                                */
};

/* ERR_SYSTEM; wake_free() also after that. */
enum shmeta_status wake_init(struct sync *s, struct shmeta_err *err);
void wake_free(struct sync *s);

void sync_wake(struct sync *s); /* any thread */
void wake_stop(struct sync *s); /* any thread: the end is near */
bool sync_stopping(struct sync *s);

/* ---- the engine's thread ---- */

void wake_looks(struct sync *s); /* at all there is to do */
bool wake_is_kicked(struct sync *s);
/* Until somebody wakes it, source_fd (-1: none) is readable, or wait_ns has passed. true: source_fd
 * is. */
bool wake_sleep(struct sync *s, int source_fd, uint64_t wait_ns);

#endif
