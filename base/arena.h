/* SPDX-License-Identifier: Apache-2.0
 * An arena: memory that is freed all at once, for the strings and rows of one read of the source.
 * Allocations never move. */
#ifndef SHMETA_BASE_ARENA_H
#define SHMETA_BASE_ARENA_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "include/shmeta.h"

struct arena_chunk {
	struct arena_chunk *next;
	size_t bytes;
	char data[];
};

struct arena {
	struct arena_chunk *chunks; /* the one in use first */
	size_t used;                /* of the first */
};

enum { ARENA_CHUNK = 64 * 1024 - 64 };

/* NULL when there is no memory. */
static inline void *arena_alloc(struct arena *arena, size_t bytes)
{
	bytes = (bytes + 7) & ~(size_t)7;
	if (arena->chunks == NULL || arena->chunks->bytes - arena->used < bytes) {
		size_t want = bytes > ARENA_CHUNK ? bytes : ARENA_CHUNK;
		struct arena_chunk *chunk = malloc(sizeof *chunk + want);

		if (chunk == NULL)
			return NULL;
		chunk->next = arena->chunks;
		chunk->bytes = want;
		arena->chunks = chunk;
		arena->used = 0;
	}
	void *p = arena->chunks->data + arena->used;

	arena->used += bytes;
	return p;
}

static inline void arena_free(struct arena *arena)
{
	while (arena->chunks != NULL) {
		struct arena_chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		free(chunk);
	}
	arena->used = 0;
}

/* Empty, but keep the newest chunk for the next use. */
static inline void arena_reset(struct arena *arena)
{
	if (arena->chunks != NULL) {
		struct arena rest = {arena->chunks->next, 0};

		arena->chunks->next = NULL;
		arena_free(&rest);
	}
	arena->used = 0;
}

/* A copy of text, in *ret. Not 0 when there is no memory. */
static inline int arena_str(struct arena *arena, struct shmeta_str text, struct shmeta_str *ret)
{
	char *copy = arena_alloc(arena, text.bytes + 1);

	if (copy == NULL)
		return -1;
	if (text.bytes > 0)
		memcpy(copy, text.data, text.bytes);
	copy[text.bytes] = '\0';
	*ret = (struct shmeta_str){copy, text.bytes};
	return 0;
}

#endif
