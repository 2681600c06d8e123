/* SPDX-License-Identifier: Apache-2.0
 * What a batch leaves for the next one (batch.c). The engine's thread. */
#ifndef SHMETA_WRITER_KEYS_BATCH_STATE_H
#define SHMETA_WRITER_KEYS_BATCH_STATE_H

#include <stdint.h>

/* A source that would not be read before its feed has told what became of it. */
enum look_state {
	LOOK_NONE,
	LOOK_NEEDED, /* a fetch met one: it is looked at, and what was to be fetched waits for
                      * that */
	LOOK_MADE    /* the next fetch is made right behind such a look: a second refusal is a
                      * failure */
};

struct batch_state {
	enum look_state look;
	uint32_t full; /* keys of the batch under way for which the store has no room */
};

#endif
