/* SPDX-License-Identifier: Apache-2.0
 * What was applied while a read was under way: an open-addressing table from (topic, partition) to the newest apply. */
#include "writer/keys/apply_clock.h"

#include <stdlib.h>
#include <string.h>

enum { ANYTHING = -2, SLOTS_FIRST = 256 }; /* as a partition: the topic, or any partition of it */

struct floor_note {
	uint64_t topic;
	int64_t partition;
	uint64_t sequence; /* 0: the slot is free */
};

static struct floor_note *place(const struct floor *floor, uint64_t topic, int64_t partition)
{
	size_t i = (size_t)((topic ^ (uint64_t)partition * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u >> 20);

	for (;; i++) {
		struct floor_note *note = &floor->slot[i & (floor->slots - 1)];

		if (note->sequence == 0 || (note->topic == topic && note->partition == partition))
			return note;
	}
}

static bool grow(struct floor *floor)
{
	struct floor bigger = *floor;

	bigger.slots = floor->slots == 0 ? SLOTS_FIRST : floor->slots * 2;
	bigger.slot = calloc(bigger.slots, sizeof *bigger.slot);
	if (bigger.slot == NULL)
		return false;
	for (size_t i = 0; i < floor->slots; i++)
		if (floor->slot[i].sequence != 0)
			*place(&bigger, floor->slot[i].topic, floor->slot[i].partition) = floor->slot[i];
	free(floor->slot);
	*floor = bigger;
	return true;
}

uint64_t floor_read_begins(struct floor *floor)
{
	floor->reads++;
	return floor->sequence;
}

void floor_read_ends(struct floor *floor)
{
	if (--floor->reads > 0)
		return;
	if (floor->used > 0)
		memset(floor->slot, 0, floor->slots * sizeof *floor->slot);
	floor->used = 0;
	floor->all = 0;
}

void floor_apply(struct floor *floor)
{
	floor->sequence++;
}

static void note_one(struct floor *floor, uint64_t topic, int64_t partition)
{
	if (floor->used * 2 >= floor->slots && !grow(floor)) {
		floor->all = floor->sequence;
		return;
	}
	struct floor_note *note = place(floor, topic, partition);

	floor->used += note->sequence == 0;
	*note = (struct floor_note){topic, partition, floor->sequence};
}

void floor_note(struct floor *floor, uint64_t topic, int64_t partition)
{
	if (floor->reads == 0)
		return;
	note_one(floor, topic, partition);
	note_one(floor, topic, ANYTHING);
}

static bool newer(const struct floor *floor, uint64_t topic, int64_t partition, uint64_t began)
{
	return place(floor, topic, partition)->sequence > began;
}

bool floor_overtook(const struct floor *floor, uint64_t topic, int64_t partition, uint64_t began)
{
	if (floor->all > began)
		return true;
	if (floor->used == 0)
		return false;
	if (partition == FLOOR_TOPIC)
		return newer(floor, topic, ANYTHING, began);
	return newer(floor, topic, partition, began) || newer(floor, topic, FLOOR_TOPIC, began);
}

void floor_free(struct floor *floor)
{
	free(floor->slot);
	*floor = (struct floor){0};
}
