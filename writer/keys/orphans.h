/* SPDX-License-Identifier: Apache-2.0
 * Offsets and leases that came before their topic. The feed will name the topic: then they are read
 * again, but not for ever. The engine's thread. */
#ifndef SHMETA_WRITER_KEYS_ORPHANS_H
#define SHMETA_WRITER_KEYS_ORPHANS_H

#include <stdbool.h>
#include <stdint.h>

enum orphans_state {
	ORPHANS_NONE,
	ORPHANS_WAIT, /* until the feed has named all it knows              */
	ORPHANS_DUE   /* offsets and leases are to be read again, all of them */
};

struct orphans {
	enum orphans_state state;
	uint32_t tries; /* reads that found some, one after the other */
};

/* A read of all offsets or leases met so many. followed: a feed will name their topics. */
void orphans_found(struct orphans *o, uint64_t count, bool followed);
/* A topic came that quarantined ones may be of. */
void orphans_adoptable(struct orphans *o);
/* The feed has named all it knows. true: they are due from now on. */
bool orphans_look(struct orphans *o);
void orphans_are_read(struct orphans *o);

#endif
