/* SPDX-License-Identifier: Apache-2.0
 * The seqlock of a page that one process writes and any process copies: a copy is consistent when
 * the page's sequence is even and the same before and after. */
#ifndef SHMETA_SHM_PAGE_SEQLOCK_H
#define SHMETA_SHM_PAGE_SEQLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "shm/page/order.h"

/* Writer: bracket every change of the page. One that died in the middle left it odd; the next one
 * takes it from there. */
static inline void shmeta__seqlock_begin(uint64_t *sequence)
{
	shmeta_poke(sequence, shmeta_peek(sequence) | 1);
	shmeta_fence_write(); /* PAIR 6: a page within an even sequence */
}

static inline void shmeta__seqlock_end(uint64_t *sequence)
{
	shmeta_publish(sequence, shmeta_peek(sequence) + 1); /* PAIR 6: a page within an even sequence */
}

/* Anyone: copy the page, which `sequence` is of. false: it was being written at every try of a
 * bounded number; ret then holds what is there. */
static inline bool shmeta__seqlock_copy(void *ret, const void *page, size_t bytes, const uint64_t *sequence)
{
	enum { TRIES = 1000 };

	for (int i = 0; i < TRIES; i++) {
		uint64_t before = shmeta_observe(sequence); /* PAIR 6: a page within an even sequence */

		memcpy(ret, page, bytes);
		shmeta_fence_read();
		if ((before & 1) == 0 && shmeta_peek(sequence) == before)
			return true;
	}
	return false;
}

#endif
