/* SPDX-License-Identifier: Apache-2.0
 * What was applied while a read of the source was under way (semantics.md C6, the stale-set race).
 *
 * A result must not overwrite what was applied after its read began. Applies are numbered; while any read is under way, each one
 * notes the keys it applied with its number. A result whose read began before the number noted for its key is read again instead
 * of being applied. Whatever changes records takes part: refreshes now, the write path when it comes: it begins no read, it only
 * notes what it commits. Empty when no read is under way. */
#ifndef SHMETA_WRITER_KEYS_APPLY_CLOCK_H
#define SHMETA_WRITER_KEYS_APPLY_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct floor_note; /* apply_clock.c */

struct floor {
	struct floor_note *slot;
	size_t slots, used;
	uint64_t sequence; /* of the newest apply                                                           */
	uint64_t all;      /* a note was lost for want of memory: every read that began before is superseded */
	uint32_t reads;    /* under way                                                                     */
};

enum { FLOOR_TOPIC = -1 }; /* as a partition: the topic with all that it has */

/* A read begins: the number to judge it by. Each is ended once. */
uint64_t floor_read_begins(struct floor *floor);
void floor_read_ends(struct floor *floor);
/* An apply: its number, then its keys. topic: a hash of tenant and name. */
void floor_apply(struct floor *floor);
void floor_note(struct floor *floor, uint64_t topic, int64_t partition);
/* Was something of this key applied after the read with this number began? */
bool floor_overtook(const struct floor *floor, uint64_t topic, int64_t partition, uint64_t began);
void floor_free(struct floor *floor);

#endif
