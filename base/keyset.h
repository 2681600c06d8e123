/* SPDX-License-Identifier: Apache-2.0
 * A set of 64-bit hashes of keys that were seen. Zeroed is empty; keyset_free() gives its memory
 * back. */
#ifndef SHMETA_BASE_KEYSET_H
#define SHMETA_BASE_KEYSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

struct keyset { /* 0 is stored as 1 */
	uint64_t *slot;
	size_t slots, used;
};

static inline void keyset_clear(struct keyset *set)
{
	if (set->used > 0)
		memset(set->slot, 0, set->slots * sizeof *set->slot);
	set->used = 0;
}

static inline void keyset_free(struct keyset *set)
{
	free(set->slot);
	*set = (struct keyset){0};
}

static inline size_t keyset_place(const struct keyset *set, uint64_t hash)
{
	size_t i = (size_t)shmeta__secret_hash(hash) & (set->slots - 1);

	while (set->slot[i] != 0 && set->slot[i] != hash)
		i = (i + 1) & (set->slots - 1);
	return i;
}

static inline bool keyset_has(const struct keyset *set, uint64_t hash)
{
	hash = hash == 0 ? 1 : hash;
	return set->slots > 0 && set->slot[keyset_place(set, hash)] == hash;
}

/* 1: added; 0: was there; -1: no memory. */
static inline int keyset_add(struct keyset *set, uint64_t hash)
{
	hash = hash == 0 ? 1 : hash;
	if (set->used * 2 >= set->slots) {
		size_t slots = set->slots == 0 ? 1024 : set->slots * 2;
		struct keyset bigger = {calloc(slots, sizeof *bigger.slot), slots, set->used};

		if (bigger.slot == NULL)
			return -1;
		for (size_t i = 0; i < set->slots; i++)
			if (set->slot[i] != 0)
				bigger.slot[keyset_place(&bigger, set->slot[i])] = set->slot[i];
		free(set->slot);
		*set = bigger;
	}
	size_t i = keyset_place(set, hash);

	if (set->slot[i] == hash)
		return 0;
	set->slot[i] = hash;
	set->used++;
	return 1;
}

#endif
