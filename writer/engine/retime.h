/* SPDX-License-Identifier: Apache-2.0
 * Topics whose time to live was configured anew: each record carries its own, so the store is
 * walked once, some topics a round, and nothing is read from the source. What is applied meanwhile
 * has the new one already. Belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_RETIME_H
#define SHMETA_WRITER_ENGINE_RETIME_H

#include <stdbool.h>
#include <stdint.h>

struct sync;

/* docs/states.md */
enum retime_state {
	RETIME_NONE,
	RETIME_UNDER_WAY /* topics behind this number may have another time to live than is
                          * configured */
};

struct retime {
	enum retime_state state;
	uint32_t behind;
};

static inline bool retime_is_done(const struct retime *retime)
{
	return retime->state == RETIME_NONE;
}
/* Times to live may be other ones than the records have. */
void retime_begin(struct sync *s);
/* Bring some records to what is configured, where any are left. */
void retime_some(struct sync *s);

#endif
