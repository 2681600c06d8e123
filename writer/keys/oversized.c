/* SPDX-License-Identifier: Apache-2.0
 * Partitions that do not fit (oversized.h): a ring, searched as a whole. That is nothing beside the
 * read that it saves. */
#include "writer/keys/oversized.h"

#define OVERSIZED_NS (OVERSIZED_S * UINT64_C(1000000000))

void oversized_note(struct oversized *o, uint64_t key, uint64_t bytes, uint64_t now_ns)
{
	uint32_t at = 0;

	while (at < OVERSIZED_MAX && (o->of[at].bytes == 0 || o->of[at].key != key))
		at++;
	if (at == OVERSIZED_MAX) {
		at = o->next;
		o->next = (o->next + 1) % OVERSIZED_MAX;
	}
	o->of[at].key = key;
	o->of[at].bytes = bytes;
	o->of[at].until_ns = now_ns + OVERSIZED_NS;
}

uint64_t oversized_bytes(const struct oversized *o, uint64_t key, uint64_t now_ns)
{
	for (uint32_t i = 0; i < OVERSIZED_MAX; i++)
		if (o->of[i].key == key && o->of[i].bytes != 0)
			return now_ns < o->of[i].until_ns ? o->of[i].bytes : 0;
	return 0;
}
