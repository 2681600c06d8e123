/* SPDX-License-Identifier: Apache-2.0
 * What other threads see of the engine: counters, and the state of the source in words.
 * sync_read_counters() and sync_source_status() (sync.h) read it. */
#ifndef SHMETA_WRITER_ENGINE_SHOW_H
#define SHMETA_WRITER_ENGINE_SHOW_H

#include <pthread.h>

#include "shm/page/histogram.h"
#include "writer/engine/sync.h"

struct apply;

/* How long calls and reads had waited for budgets of the source by then. */
struct show_waits {
	uint64_t at_ns, postponed_ns;
};

struct show {
	uint64_t shown_ns, last_commit; /* the engine's thread */
	struct show_waits waits[2];     /* the same */
	pthread_mutex_t lock;
	/* Under it. */
	struct sync_counters counters;
	struct shmeta_times times[SHMETA_TIMED_COUNT];
	uint64_t feed_at_ns;
	uint64_t away_since_ns; /* 0: the source is not away */
	int64_t away_since_s;   /* the same, by the wall clock as it is set now */
	char source[1024];      /* why it is away, or its state */
};

void show_init(struct sync *s);
void show_free(struct sync *s);
/* The engine's thread. */
void sync_count_commit(struct sync *s, const struct apply *a, uint64_t began_ns);
void sync_show_now_and_then(struct sync *s); /* as often as somebody can look */
void sync_show(struct sync *s);              /* counters and the state of the source for other
                                              * threads */
void sync_show_clock(struct sync *s);        /* to readers: how far the source's clock is ahead of
                                              * the host's */

#endif
