/* SPDX-License-Identifier: Apache-2.0
 * When commits were published, as far as somebody looked: for how long has a commit not been the
 * newest? Any commit may be asked for, whatever a reader claims to have pinned. One thread at a
 * time. */
#ifndef SHMETA_WRITER_SERVE_PUBLISHED_H
#define SHMETA_WRITER_SERVE_PUBLISHED_H

#include <stddef.h>
#include <stdint.h>

enum { PUBLISHED_LOOKS = 1024 };

struct published {
	uint64_t generation;
	size_t count;
	struct published_look {
		uint64_t committed, at_ns; /* both ascending */
	} look[PUBLISHED_LOOKS];
};

/* `committed` is the newest commit of the generation. Of another generation than before: all else
 * is forgotten. */
void published_note(struct published *p, uint64_t generation, uint64_t committed, uint64_t now_ns);

/* Time since the commit after this one was published; 0: it is the newest. Never too long. Too
 * short by at most the time between two looks, or a fiftieth of the answer, or for what happened
 * before the first look of the generation. */
uint64_t published_superseded_ns(const struct published *p, uint64_t commit, uint64_t now_ns);

#endif
