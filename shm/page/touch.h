/* SPDX-License-Identifier: Apache-2.0
 * The touch map: which resident records a process has used. It lies behind the slots of a
 * registration page, in the same memfd, where the writer that made the page is in bounded mode. The
 * process stores a byte at a record's place (slot), which is a hash of its key; the writer collects
 * the bytes of all processes and clears them. Two records may share a slot, and a byte that is
 * stored while it is collected may be lost: touches are hints.
 *
 * Neither side believes the other: the process is bound by the ceiling of its own view, the writer
 * by the sizes that it chose itself, and a byte means no more than zero or not. */
#ifndef SHMETA_SHM_PAGE_TOUCH_H
#define SHMETA_SHM_PAGE_TOUCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/page/miss.h"

enum {
	SHMETA_TOUCH_HEADER = 4096, /* offset of slot 0 */
	SHMETA_TOUCH_VERSION = 1,
	SHMETA_TOUCH_CEILING_MAX = 1 << 28
};

/* Written by the writer before it passes the memfd on, and never again. Behind it lie the misses
 * (miss.h). */
struct shmeta_touch {
	uint8_t signature[8]; /*  0  "SHMTOUCH"                                          */
	uint32_t version;     /*  8  SHMETA_TOUCH_VERSION                                */
	uint32_t ceiling;     /* 12  slots, one byte each, from SHMETA_TOUCH_HEADER on   */
	uint64_t generation;  /* 16  of the store that it is for; 0: of all              */
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
	struct shmeta_miss *misses; /* SHMETA_MISSES of them, in the map's first page; NULL: none is
                                     * left */
};

/* The misses of a map. */
static inline struct shmeta_miss *touch_misses(void *mapping)
{
	_Static_assert(SHMETA_MISSES_AT + SHMETA_MISSES * sizeof(struct shmeta_miss) <= SHMETA_TOUCH_HEADER,
	               "they lie before the slots");
	return (struct shmeta_miss *)(void *)((char *)mapping + SHMETA_MISSES_AT);
}

/* The view of a mapping of so many bytes for readers of this generation. One that marks nothing
 * when the map is of another generation or version, or says of itself what the mapping does not
 * hold. Does not block; any thread. */
static inline struct touch_view touch_view(void *mapping, size_t bytes, uint64_t generation)
{
	const struct shmeta_touch *map = mapping;
	uint32_t ceiling;

	if (bytes < SHMETA_TOUCH_HEADER || __builtin_memcmp(map->signature, "SHMTOUCH", 8) != 0 ||
	    shmeta_peek(&map->version) != SHMETA_TOUCH_VERSION || shmeta_peek(&map->generation) != generation)
		return (struct touch_view){.slots = NULL};
	ceiling = shmeta_peek(&map->ceiling);
	if (ceiling > bytes - SHMETA_TOUCH_HEADER)
		return (struct touch_view){.slots = NULL};
	return (struct touch_view){(uint8_t *)mapping + SHMETA_TOUCH_HEADER, ceiling, touch_misses(mapping)};
}

/* In place of a partition's number: the topic itself. */
#define TOUCH_TOPIC UINT32_MAX
/* The slot of a key, which is topic number << 32 | partition number, in a map of so many slots. */
static inline uint32_t touch_slot(uint64_t key, uint32_t ceiling)
{
	return (uint32_t)((key * UINT64_C(0x9E3779B97F4A7C15) >> 32) * ceiling >> 32);
}

/* The record in this slot was used: one plain store, and none where the slot is marked, so that
 * threads of a process do not take the line from each other. A slot beyond the ceiling is
 * ignored. */
static inline void touch_mark(struct touch_view view, uint32_t slot)
{
	if (slot < view.ceiling && shmeta_peek(&view.slots[slot]) == 0)
		shmeta_poke(&view.slots[slot], (uint8_t)1);
}

/* How many slots a map for so many records has: with four times as many, few share one. */
static inline uint32_t touch_ceiling(uint64_t records)
{
	uint64_t slots = (4 * records + 63) & ~UINT64_C(63);

	return slots < SHMETA_TOUCH_CEILING_MAX ? (uint32_t)slots : SHMETA_TOUCH_CEILING_MAX;
}

/* The writer's side, in touch.c; the library does not have it. */

/* Write the header into a new mapping of touch_file_bytes(ceiling) zero bytes. ceiling: at most
 * SHMETA_TOUCH_CEILING_MAX. */
void touch_init(void *mapping, uint32_t ceiling, uint64_t generation);
/* Or the touched bytes of a mapping into seen[ceiling], private memory of the writer, and clear
 * them. ceiling is the one that the writer gave to touch_init(); what stands in the mapping now is
 * not asked. A byte of seen is 0 or 1. Only cache lines that hold a touch are written. Returns how
 * many slots were touched. Does not block. */
uint32_t touch_collect(void *mapping, uint32_t ceiling, uint8_t *seen);

#endif
