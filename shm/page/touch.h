/* SPDX-License-Identifier: Apache-2.0
 * The touch map: which resident records a process has used. The writer makes it in a memfd that it sizes and seals and passes to one
 * process, as the registration page. The process stores a byte at a record's residency number (slot); the writer collects the bytes of
 * all processes and clears them. A byte that is stored while it is collected may be lost: touches are hints.
 *
 * Neither side believes the other: the process is bound by the ceiling of its own view, the writer by the sizes that it chose itself,
 * and a byte means no more than zero or not. */
#ifndef SHMETA_SHM_PAGE_TOUCH_H
#define SHMETA_SHM_PAGE_TOUCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/page/frozen.h"
#include "shm/page/order.h"

enum {
	SHMETA_TOUCH_HEADER = 4096, /* offset of slot 0 */
	SHMETA_TOUCH_VERSION = 1,
	SHMETA_TOUCH_CEILING_MAX = 1 << 28
};

/* Written by the writer before it passes the memfd on, and never again: a store of another generation has other residency numbers, and
 * its readers get another map. */
struct shmeta_touch {
	uint8_t signature[8]; /*  0  "SHMTOUCH"                                          */
	uint32_t version;     /*  8  SHMETA_TOUCH_VERSION                                */
	uint32_t ceiling;     /* 12  slots, one byte each, from SHMETA_TOUCH_HEADER on   */
	uint64_t generation;  /* 16  of the store whose residency numbers these are      */
	uint64_t reserved[5]; /* 24  zero                                                */
};
SHMETA_FROZEN(shmeta_touch, signature, 0);
SHMETA_FROZEN(shmeta_touch, version, 8);
SHMETA_FROZEN(shmeta_touch, ceiling, 12);
SHMETA_FROZEN(shmeta_touch, generation, 16);
SHMETA_FROZEN(shmeta_touch, reserved, 24);
SHMETA_FROZEN_SIZE(shmeta_touch, 64);

/* How many bytes the file of a map has: whole pages. */
static inline size_t touch_file_bytes(uint32_t ceiling)
{
	return (SHMETA_TOUCH_HEADER + (size_t)ceiling + 4095) & ~(size_t)4095;
}

/* A process's own view of its map, in its private memory. Zeroed: it marks nothing. */
struct touch_view {
	uint8_t *slots; /* in the mapping, which outlives the view */
	uint32_t ceiling;
};

/* The view of a mapping of so many bytes for readers of this generation. One that marks nothing when the map is of another generation or
 * version, or says of itself what the mapping does not hold. Does not block; any thread. */
static inline struct touch_view touch_view(void *mapping, size_t bytes, uint64_t generation)
{
	const struct shmeta_touch *map = mapping;
	uint32_t ceiling;

	if (bytes < SHMETA_TOUCH_HEADER || __builtin_memcmp(map->signature, "SHMTOUCH", 8) != 0 ||
	    shmeta_peek(&map->version) != SHMETA_TOUCH_VERSION || shmeta_peek(&map->generation) != generation)
		return (struct touch_view){NULL, 0};
	ceiling = shmeta_peek(&map->ceiling);
	if (ceiling > bytes - SHMETA_TOUCH_HEADER)
		return (struct touch_view){NULL, 0};
	return (struct touch_view){(uint8_t *)mapping + SHMETA_TOUCH_HEADER, ceiling};
}

/* The record in this slot was used: one plain store. A slot beyond the ceiling, as a damaged record may name it, is ignored. */
static inline void touch_mark(struct touch_view view, uint32_t slot)
{
	if (slot < view.ceiling)
		shmeta_poke(&view.slots[slot], (uint8_t)1);
}

/* The writer's side, in touch.c; the library does not have it. */

/* Write the header into a new mapping of touch_file_bytes(ceiling) zero bytes. ceiling: at most SHMETA_TOUCH_CEILING_MAX. */
void touch_init(void *mapping, uint32_t ceiling, uint64_t generation);
/* Or the touched bytes of a mapping into seen[ceiling], private memory of the writer, and clear them. ceiling is the one that the writer
 * gave to touch_init(); what stands in the mapping now is not asked. A byte of seen is 0 or 1. Only cache lines that hold a touch are
 * written. Returns how many slots were touched. Does not block. */
uint32_t touch_collect(void *mapping, uint32_t ceiling, uint8_t *seen);

#endif
