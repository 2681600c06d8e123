/* SPDX-License-Identifier: Apache-2.0
 * What was applied while a read of the source was under way (semantics.md C6, the stale-set race).
 *
 * A result must not overwrite what was applied after its read began. Applies are numbered; while
 * any read is under way, each one notes the keys it applied with its number. A result whose read
 * began before the number noted for its key is read again instead of being applied. Writes change
 * no record by themselves: what they changed at the source is read back as keys (decision 14).
 * Empty when no read is under way. */
#ifndef SHMETA_WRITER_KEYS_APPLY_CLOCK_H
#define SHMETA_WRITER_KEYS_APPLY_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct apply_note; /* apply_clock.c */

struct apply_clock {
	struct apply_note *slot;
	size_t slots, used;
	uint64_t sequence; /* of the newest apply */
	uint64_t all;      /* a note was lost for want of memory: every read that began before is
                            * superseded */
	uint32_t reads;    /* under way */
};

enum { APPLY_CLOCK_TOPIC = -1 }; /* as a partition: the topic with all that it has */

/* A read begins: the number to judge it by. Each is ended once. */
uint64_t apply_clock_read_begins(struct apply_clock *clock);
void apply_clock_read_ends(struct apply_clock *clock);
/* An apply: its number, then its keys. topic: a hash of tenant and name. */
void apply_clock_advance(struct apply_clock *clock);
void apply_clock_note(struct apply_clock *clock, uint64_t topic, int64_t partition);
/* Was something of this key applied after the read with this number began? */
bool apply_clock_superseded(const struct apply_clock *clock, uint64_t topic, int64_t partition, uint64_t began);
void apply_clock_free(struct apply_clock *clock);

#endif
