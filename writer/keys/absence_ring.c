/* SPDX-License-Identifier: Apache-2.0
 * Keys of noted absences (absence_ring.h). */
#include "writer/keys/absence_ring.h"

#include <stdlib.h>
#include <string.h>

bool absence_ring_configure(struct absence_ring *r, size_t most)
{
	if (most > r->room) {
		struct absence **of = calloc(most, sizeof(struct absence *));

		if (of == NULL)
			return false;
		for (size_t i = 0; i < r->count; i++)
			of[i] = r->of[(r->at + i) % r->room];
		free(r->of);
		r->of = of;
		r->at = 0;
		r->room = most;
	}
	r->most = most;
	return true;
}

bool absence_ring_is_full(const struct absence_ring *r)
{
	return r->count >= r->most;
}

bool absence_ring_add(struct absence_ring *r, const void *key, size_t bytes)
{
	struct absence *absence = malloc(sizeof *absence + bytes);

	if (absence == NULL)
		return false;
	absence->bytes = bytes;
	memcpy(absence->key, key, bytes);
	r->of[(r->at + r->count++) % r->room] = absence;
	return true;
}

struct absence *absence_ring_take(struct absence_ring *r)
{
	struct absence *oldest = r->of[r->at];

	r->at = (r->at + 1) % r->room;
	r->count--;
	return oldest;
}

void absence_ring_forget(struct absence_ring *r)
{
	while (r->count > 0)
		free(absence_ring_take(r));
}

void absence_ring_free(struct absence_ring *r)
{
	absence_ring_forget(r);
	free(r->of);
}
