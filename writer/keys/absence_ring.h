/* SPDX-License-Identifier: Apache-2.0
 * Keys of the absences that a bounded store has records of, in the order in which they were noted:
 * what was noted first goes first. Some of the records may be gone from the store already. One
 * owner. */
#ifndef SHMETA_WRITER_KEYS_ABSENCE_RING_H
#define SHMETA_WRITER_KEYS_ABSENCE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct absence {
	size_t bytes;
	uint8_t key[];
};

/* Zeroed: none, and room for none. */
struct absence_ring {
	struct absence **of;
	size_t at, count, room, most;
};

/* There may be so many. What is there beyond them stays until the caller takes it. false: no
 * memory, and they may be as many as before. */
bool absence_ring_configure(struct absence_ring *ring, size_t most);
bool absence_ring_is_full(const struct absence_ring *ring);
/* Only where it is not full, or one was taken before. false: no memory. */
bool absence_ring_add(struct absence_ring *ring, const void *key, size_t bytes);
/* The oldest one, which is the caller's to free(). Only where there is one. */
struct absence *absence_ring_take(struct absence_ring *ring);
/* Forget all of them; absence_ring_free(): and their room. */
void absence_ring_forget(struct absence_ring *ring);
void absence_ring_free(struct absence_ring *ring);

#endif
