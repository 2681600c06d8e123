/* SPDX-License-Identifier: Apache-2.0
 * Traces of lookups that are made from published distributions; the same in each run. */
#ifndef SHMETA_BENCH_TRACES_H
#define SHMETA_BENCH_TRACES_H

#include <stdint.h>

enum trace_kind {
	TRACE_ZIPF,  /* Zipf 1.0 over all keys */
	TRACE_SCAN,  /* the same, and of each 100 000 lookups 10 000 walk on over all keys in
                     * order */
	TRACE_SHIFT, /* Zipf 1.0; after each 2000 lookups the most used key becomes the least used,
                      * all others move up */
	TRACE_LOOP,  /* 1.2 x as many keys as there is room for, in order, again and again */
	TRACE_TAIL,  /* a new key after each 10 lookups; 19 of 20 lookups near the newest, the
                      * others anywhere behind */
	TRACE_KINDS
};

extern const char *const trace_names[TRACE_KINDS];

/* count lookups of keys below keys; room: for the loop. Freed by free(). */
uint32_t *trace_make(enum trace_kind kind, uint32_t keys, uint32_t room, uint32_t count, uint64_t seed);

#endif
