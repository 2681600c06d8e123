/* SPDX-License-Identifier: Apache-2.0
 * A pause: the source is left alone on request, and comes back (sync_pause()). */
#ifndef SHMETA_WRITER_ENGINE_PAUSE_H
#define SHMETA_WRITER_ENGINE_PAUSE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct sync;

struct pause {
	bool on; /* the engine's thread: there is no session, and none is opened */
	pthread_mutex_t lock;
	/* Under it: what was asked for, and not done yet. */
	bool asked, resume;
	bool seen; /* on, or about to be: as the last one that asked left it */
	uint64_t ticket;
	char why[700];
};

static inline bool pause_is_on(const struct pause *pause)
{
	return pause->on;
}

void pause_init(struct sync *s);
void pause_free(struct sync *s);
/* Does somebody want it left alone, or back, and was that not done yet? Any thread. */
bool pause_asked(struct sync *s);
/* Do it; between two things that ask the source. The engine's thread. */
void pause_take(struct sync *s);
/* At the start: as the options say. */
void pause_begin(struct sync *s);

#endif
