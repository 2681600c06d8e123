/* SPDX-License-Identifier: Apache-2.0
 * The writer's side of touch maps. */
#include "shm/page/touch.h"

#include <string.h>

enum { LINE = 64, WORDS = LINE / 8 };

void touch_init(void *mapping, uint32_t ceiling, uint64_t generation)
{
	struct shmeta_touch head = {.version = SHMETA_TOUCH_VERSION, .ceiling = ceiling, .generation = generation};

	memcpy(head.signature, "SHMTOUCH", sizeof head.signature);
	memcpy(mapping, &head, sizeof head);
}

/* Bytes that are not zero become 1. */
static uint64_t normal(uint64_t word)
{
	const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);

	return (((word & low) + low) | word) >> 7 & UINT64_C(0x0101010101010101);
}

uint32_t touch_collect(void *mapping, uint32_t ceiling, uint8_t *seen)
{
	uint64_t *line = (uint64_t *)((char *)mapping + SHMETA_TOUCH_HEADER);
	uint32_t touched = 0;

	/* The file is whole pages, so the last line may be read and cleared as a whole; of it only
	 * the slots count. */
	for (uint32_t at = 0; at < ceiling; at += LINE, line += WORDS) {
		uint64_t word[WORDS], any = 0;
		uint32_t n = ceiling - at < LINE ? ceiling - at : LINE;
		uint8_t byte[LINE];

		for (int i = 0; i < WORDS; i++)
			any |= word[i] = shmeta_peek(&line[i]);
		if (any == 0)
			continue;
		for (int i = 0; i < WORDS; i++) {
			if (word[i] != 0)
				shmeta_poke(&line[i], UINT64_C(0));
			word[i] = normal(word[i]);
		}
		memcpy(byte, word, sizeof byte);
		for (uint32_t i = 0; i < n; i++) {
			seen[at + i] |= byte[i];
			touched += byte[i];
		}
	}
	return touched;
}
