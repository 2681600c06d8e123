/* SPDX-License-Identifier: Apache-2.0
 * Partitions that alone take more than a bounded store may have: each was read, and left in the
 * same commit. They are remembered for a while, so that whoever asks again is answered without
 * another read. Bounded; what was noted first goes first. One owner, no locks. */
#ifndef SHMETA_WRITER_KEYS_OVERSIZED_H
#define SHMETA_WRITER_KEYS_OVERSIZED_H

#include <stdint.h>

enum { OVERSIZED_MAX = 256, OVERSIZED_S = 60 };

/* Zeroed: none is known. */
struct oversized {
	struct {
		uint64_t key, bytes, until_ns; /* as in resident_set.h; bytes 0: unused */
	} of[OVERSIZED_MAX];
	uint32_t next;
};

void oversized_note(struct oversized *o, uint64_t key, uint64_t bytes, uint64_t now_ns);
/* How many bytes it had; 0: not known, or not any more. */
uint64_t oversized_bytes(const struct oversized *o, uint64_t key, uint64_t now_ns);

#endif
