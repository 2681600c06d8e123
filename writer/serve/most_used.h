/* SPDX-License-Identifier: Apache-2.0
 * Which keys are sampled most, and the miss-ratio curve of the partitions among them, in bounded
 * memory: sets of a few places, in which a new key takes the place of the one that was seen least
 * and counts from there (space-saving), so that a key which has more than its set's share of the
 * samples is never lost. All counts are halved now and then. One owner. */
#ifndef SHMETA_WRITER_SERVE_MOST_USED_H
#define SHMETA_WRITER_SERVE_MOST_USED_H

#include <stdbool.h>

#include "shm/page/usage.h"
#include "writer/resident/curve.h"

enum { MOST_USED_WAYS = 8, MOST_USED_SETS = 512, MOST_USED_HALF_LIFE_S = 60, MOST_USED_CURVE_HALF_LIFE_S = 600 };

/* Zeroed: nothing was seen. */
struct most_used {
	struct shmeta_used set[MOST_USED_SETS][MOST_USED_WAYS];
	uint64_t samples, halved_ns;
	bool shown; /* the page has what is known now */
	/* Of partitions. Samples are of lookups and not of keys, but where lookups do not depend on
	 * those before them every part of them has the same curve; loops and scans look better in
	 * it than they are. NULL: none yet, or no memory. */
	struct curve *curve;
	uint64_t curve_samples, curve_halved_ns;
};

void most_used_free(struct most_used *m);

void most_used_add(struct most_used *m, uint64_t key);
/* Write the page, which only the caller writes, and at its time halve all counts. Keys are chosen
 * and written only where something has changed since the last time. */
void most_used_show(struct most_used *m, struct shmeta_usage *page, uint64_t now_ns);

#endif
