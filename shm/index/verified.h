/* SPDX-License-Identifier: Apache-2.0
 * Which blocks and directory pages of a store a process has verified, so that none of its threads
 * and handles computes a checksum again that another has computed. By id, because an id is never
 * given to two blocks of one store and a block never changes.
 *
 * Any number of threads, without locks: a word names a group of ids and says which of them were
 * verified. Two threads that set a bit at once, and two groups that share a word, lose what they
 * knew, never more: then it is verified again. */
#ifndef SHMETA_SHM_INDEX_VERIFIED_H
#define SHMETA_SHM_INDEX_VERIFIED_H

#include <stddef.h>
#include <stdint.h>

#include "shm/page/order.h"

enum { SHMETA_VERIFIED_WORDS = 4096, SHMETA_VERIFIED_GROUP = 32 };

/* Zeroed memory knows none. 131 072 blocks, some 30 million segments, have a place of their own. */
struct shmeta__verified {
	uint64_t words[SHMETA_VERIFIED_WORDS]; /* group << 32 | a bit for each id of it */
};

static inline uint64_t *shmeta__verified_word(struct shmeta__verified *verified, uint64_t id)
{
	return &verified->words[id / SHMETA_VERIFIED_GROUP % SHMETA_VERIFIED_WORDS];
}

/* verified may be NULL: then nothing is known. */
static inline int shmeta__verified_has(struct shmeta__verified *verified, uint64_t id)
{
	uint64_t word = verified == NULL ? 0 : shmeta_peek(shmeta__verified_word(verified, id));

	return word >> 32 == id / SHMETA_VERIFIED_GROUP && (word >> id % SHMETA_VERIFIED_GROUP & 1);
}

static inline void shmeta__verified_add(struct shmeta__verified *verified, uint64_t id)
{
	uint64_t group = id / SHMETA_VERIFIED_GROUP, *word, known;

	if (verified == NULL || group > UINT32_MAX)
		return;
	word = shmeta__verified_word(verified, id);
	known = shmeta_peek(word);
	if (known >> 32 != group)
		known = group << 32;
	shmeta_poke(word, known | UINT64_C(1) << id % SHMETA_VERIFIED_GROUP);
}

#endif
