/* SPDX-License-Identifier: Apache-2.0
 * Bounded mode where no change feed tells what has changed: each partition has a time to live of
 * its own, by how often reads found it changed (bounded.freshness, writer/resident/ttl.h). The time
 * is in the partition's record, where readers find it. What is used is read again ahead of its
 * expiry; what nobody uses expires. It owns s->expiry; the engine's thread uses it alone. */
#ifndef SHMETA_WRITER_KEYS_EXPIRY_H
#define SHMETA_WRITER_KEYS_EXPIRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "writer/apply/apply.h"

struct sync;

/* docs/states.md */
enum expiry_state {
	EXPIRY_BY_CLASS, /* the class's stamp and time to live say what is fresh                */
	EXPIRY_BEGINS,   /* records are given times of their own                                */
	EXPIRY_BY_RECORD /* every partition has one; the classes of partitions have no limit    */
};

struct expiry {
	enum expiry_state state;
	uint64_t looked_ns; /* when what is due was last looked for */
};

/* A pass need not read partitions: each is read at its time. */
static inline bool expiry_is_by_record(const struct expiry *e)
{
	return e->state == EXPIRY_BY_RECORD;
}
/* Once a round: is it so, and what is due? */
void expiry_run(struct sync *s);
/* How often what is due is looked for; what was used is looked for a fifth as often. */
uint64_t expiry_every_ns(const struct sync *s);
/* As struct apply_watch has it. */
uint32_t expiry_ttl_ms(void *arg, uint32_t topic_ttl_ms, uint32_t before_ms, enum apply_learned learned);
/* When a partition with this record is read again if it is used: a fifth of its time before it
 * expires. 0: not by time. */
uint64_t expiry_due_ns(const struct sync *s, const void *head, size_t bytes);

#endif
