/* SPDX-License-Identifier: Apache-2.0
 * What was applied while a read was under way: an open-addressing table from (topic, partition) to
 * the newest apply. */
#include "writer/keys/apply_clock.h"

#include <stdlib.h>
#include <string.h>

enum { ANYTHING = -2, SLOTS_FIRST = 256 }; /* as a partition: the topic, or any partition of it */

struct apply_note {
	uint64_t topic;
	int64_t partition;
	uint64_t sequence; /* 0: the slot is free */
};

static struct apply_note *place(const struct apply_clock *clock, uint64_t topic, int64_t partition)
{
	size_t i = (size_t)((topic ^ (uint64_t)partition * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u >> 20);

	for (;; i++) {
		struct apply_note *note = &clock->slot[i & (clock->slots - 1)];

		if (note->sequence == 0 || (note->topic == topic && note->partition == partition))
			return note;
	}
}

static bool grow(struct apply_clock *clock)
{
	struct apply_clock bigger = *clock;

	bigger.slots = clock->slots == 0 ? SLOTS_FIRST : clock->slots * 2;
	bigger.slot = calloc(bigger.slots, sizeof *bigger.slot);
	if (bigger.slot == NULL)
		return false;
	for (size_t i = 0; i < clock->slots; i++)
		if (clock->slot[i].sequence != 0)
			*place(&bigger, clock->slot[i].topic, clock->slot[i].partition) = clock->slot[i];
	free(clock->slot);
	*clock = bigger;
	return true;
}

uint64_t apply_clock_read_begins(struct apply_clock *clock)
{
	clock->reads++;
	return clock->sequence;
}

void apply_clock_read_ends(struct apply_clock *clock)
{
	if (--clock->reads > 0)
		return;
	if (clock->used > 0)
		memset(clock->slot, 0, clock->slots * sizeof *clock->slot);
	clock->used = 0;
	clock->all = 0;
}

void apply_clock_advance(struct apply_clock *clock)
{
	clock->sequence++;
}

static void note_one(struct apply_clock *clock, uint64_t topic, int64_t partition)
{
	if (clock->used * 2 >= clock->slots && !grow(clock)) {
		clock->all = clock->sequence;
		return;
	}
	struct apply_note *note = place(clock, topic, partition);

	clock->used += note->sequence == 0;
	*note = (struct apply_note){topic, partition, clock->sequence};
}

void apply_clock_note(struct apply_clock *clock, uint64_t topic, int64_t partition)
{
	if (clock->reads == 0)
		return;
	note_one(clock, topic, partition);
	note_one(clock, topic, ANYTHING);
}

static bool newer(const struct apply_clock *clock, uint64_t topic, int64_t partition, uint64_t began)
{
	return place(clock, topic, partition)->sequence > began;
}

bool apply_clock_superseded(const struct apply_clock *clock, uint64_t topic, int64_t partition, uint64_t began)
{
	if (clock->all > began)
		return true;
	if (clock->used == 0)
		return false;
	if (partition == APPLY_CLOCK_TOPIC)
		return newer(clock, topic, ANYTHING, began);
	return newer(clock, topic, partition, began) || newer(clock, topic, APPLY_CLOCK_TOPIC, began);
}

void apply_clock_free(struct apply_clock *clock)
{
	free(clock->slot);
	*clock = (struct apply_clock){0};
}
