/* SPDX-License-Identifier: Apache-2.0
 * A look at everything that shows less than half of what the store has: the source may have been
 * caught in the middle of a restore. What is missing is removed when the next look misses it, too.
 * Everything here belongs to the engine's thread. */
#ifndef SHMETA_WRITER_LOAD_SHRINK_H
#define SHMETA_WRITER_LOAD_SHRINK_H

#include <stdbool.h>
#include <stdint.h>

struct sync;

/* docs/states.md */
enum shrink_state {
	SHRINK_NONE,
	SHRINK_SUSPECTED /* the last look showed so little */
};

struct shrink_rows {
	uint64_t topics, segments;
};

struct shrink {
	enum shrink_state state;
	struct shrink_rows shown; /* by the look that is suspected */
};

/* A look that has ended well showed these, where the store had those: may what is missing be
 * removed? Logs what it suspects and what a second look confirms. */
bool shrink_judge(struct sync *s, struct shrink_rows had, struct shrink_rows shown);
/* What a look has shown is in the store. */
void shrink_over(struct sync *s);

#endif
