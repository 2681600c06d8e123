/* SPDX-License-Identifier: Apache-2.0
 * Where heads of partitions lie. A reader remembers of each partition that it was asked for by name
 * where it found the head, whose checksum it has verified then: 24 bytes, so that ten thousand
 * partitions cost no more than a few hundred open handles. In the commit that the head was found in
 * the place is right without a look; in a later one it is when the head lies on pages of its own
 * and the partition's touched word names no commit after the one known (PAIR 2). */
#include "reader/lookup/lookup.h"

#include <stdlib.h>

struct head_place {
	uint64_t part_key;
	uint64_t known; /* the commit for which the place is known to be right; 0: empty */
	uint64_t where; /* from the beginning of the map << BYTES_BITS | bytes of the head */
};

enum {
	BYTES_BITS = 24,
	PLACES_FIRST = 64,
	PLACES_LAST = 16384,
	NEAR = 8
}; /* NEAR: how far from its own slot an entry may be */

static uint32_t slot_of(uint64_t part_key)
{
	return (uint32_t)(part_key * UINT64_C(0x9E3779B97F4A7C15) >> 40);
}

/* The partition's entry, or the one that it may have: an empty one, else that of its own slot. */
static struct head_place *entry_for(struct head_place *places, uint32_t mask, uint64_t part_key)
{
	uint32_t slot = slot_of(part_key);

	for (uint32_t i = 0; i < NEAR; i++) {
		struct head_place *place = &places[(slot + i) & mask];

		if (place->known == 0 || place->part_key == part_key)
			return place;
	}
	return &places[slot & mask];
}

static void grow(struct shmeta_reader *r)
{
	uint32_t have = r->places == NULL ? 0 : r->place_mask + 1, want = have == 0 ? PLACES_FIRST : have * 2;
	uint32_t more = (want - have) * (uint32_t)sizeof(struct head_place);
	struct head_place *places, *to;

	if (want > PLACES_LAST || !shmeta__cache_grant(r->core, more))
		return;
	places = calloc(want, sizeof *places);
	if (places == NULL) {
		shmeta__cache_return(r->core, more);
		return;
	}
	r->place_count = 0;
	for (uint32_t i = 0; i < have; i++)
		if (r->places[i].known != 0) {
			to = entry_for(places, want - 1, r->places[i].part_key);
			r->place_count += to->known == 0;
			*to = r->places[i];
		}
	free(r->places);
	r->places = places;
	r->place_mask = want - 1;
}

void shmeta__places_keep(struct shmeta_reader *r, uint64_t part_key, const void *head, size_t bytes)
{
	uint64_t at = (uint64_t)((const uint8_t *)head - r->view.pages.base);
	struct head_place *place;

	if (at >> (64 - BYTES_BITS) != 0 || bytes >> BYTES_BITS != 0)
		return;
	if (r->places == NULL || r->place_count > r->place_mask / 4 * 3)
		grow(r);
	if (r->places == NULL)
		return;
	place = entry_for(r->places, r->place_mask, part_key);
	r->place_count += place->known == 0;
	*place = (struct head_place){.part_key = part_key, .known = r->snapshot, .where = at << BYTES_BITS | bytes};
}

const void *shmeta__places_find(struct shmeta_reader *r, uint64_t part_key, uint32_t word, size_t *ret_bytes)
{
	struct head_place *place;
	uint64_t touched, at;
	size_t bytes;

	if (unlikely(r->places == NULL))
		return NULL;
	place = entry_for(r->places, r->place_mask, part_key);
	if (place->part_key != part_key || place->known == 0)
		return NULL;
	at = place->where >> BYTES_BITS;
	bytes = place->where & ((1u << BYTES_BITS) - 1);
	if (place->known != r->snapshot) {
		touched = shmeta_observe(&r->env->touched[word]); /* PAIR 2: touch before commit */
		if (bytes < SHMETA_HEAD_PADDED || touched > place->known || touched > r->snapshot)
			return NULL;
		place->known = r->snapshot;
	}
	if (unlikely(at + bytes > r->view.pages.bytes))
		return NULL;
	*ret_bytes = bytes;
	/* Where a head has few entries, the one that is wanted is among the first. */
	for (size_t line = 0; line < 384; line += 64)
		__builtin_prefetch(r->view.pages.base + at + line);
	return r->view.pages.base + at;
}

void shmeta__places_fetch(const struct shmeta_reader *r, uint64_t part_key)
{
	if (r->places != NULL)
		__builtin_prefetch(&r->places[slot_of(part_key) & r->place_mask]);
}

void shmeta__places_forget(struct shmeta_reader *r)
{
	if (r->places != NULL)
		shmeta__cache_return(r->core, (r->place_mask + 1) * (uint32_t)sizeof *r->places);
	free(r->places);
	r->places = NULL;
	r->place_count = 0;
}
