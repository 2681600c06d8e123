/* SPDX-License-Identifier: Apache-2.0
 * Keys of which a pass has found that the source and the store differ: held until the pass has been
 * judged, then put into the queue some at a time, to be read again like any other key. Bounded:
 * what is found beyond that is only known to be there. */
#ifndef SHMETA_WRITER_LOAD_DIFFERENCES_H
#define SHMETA_WRITER_LOAD_DIFFERENCES_H

#include "base/arena.h"
#include "writer/keys/queue.h"

struct difference; /* differences.c */

struct differences {
	struct difference *newest;
	size_t count, most;
	bool more; /* others were found, and are not held */
	struct arena memory;
};

/* most: so many are held. */
void differences_begin(struct differences *d, size_t most);
void differences_free(struct differences *d);

/* Each: OK or ERR_NO_MEMORY. Strings are copied. segments: with all segments of all partitions. */
enum shmeta_status differences_topic(struct differences *d, struct shmeta_str tenant, struct shmeta_str topic,
                                     bool segments);
/* whole: with all of its segments; otherwise its row and what lies behind the last one. */
enum shmeta_status differences_partition(struct differences *d, struct shmeta_str tenant, struct shmeta_str topic,
                                         uint32_t partition_id, bool whole);
/* A few ranges that follow each other are one. */
enum shmeta_status differences_range(struct differences *d, struct shmeta_str tenant, struct shmeta_str topic,
                                     uint32_t partition_id, uint64_t from, uint64_t to);

/* The read with this number (apply_clock.h) has found all of them: what was brought over since it
 * began is no repair. */
void differences_found(struct differences *d, const struct sync *s, uint64_t sequence);
/* Put up to `most` of them into the queue, and forget these. false: no memory. */
bool differences_ask(struct differences *d, struct sync *s, size_t most);

#endif
