/* SPDX-License-Identifier: Apache-2.0
 * An instance whose pages a test makes up: no writer runs, and what tools say of it is what they
 * read. */
#ifndef SHMETA_TESTS_SUPPORT_FORGED_H
#define SHMETA_TESTS_SUPPORT_FORGED_H

#include <pthread.h>
#include <stdint.h>

#include "shm/page/board.h"
#include "shm/page/stats_page.h"

struct forged {
	char dir[64];
	struct shmeta_board *board;
	struct shmeta_generation *generation;
	struct shmeta_stats *stats;
	pthread_t heart;
	uint32_t still; /* 1: it stands still */
};

/* A writer of the version 0.1.0 that serves generation 3 and is well: its heart beats until
 * forged_beat_last(). Fails the test. */
void forge(struct forged *f);
/* Its last beat is one of that long ago. */
void forged_beat_last(struct forged *f, uint64_t ago_ns);
/* The value of a counter of the stats page. */
void forged_count(struct forged *f, const char *name, uint64_t value);
void forged_done(struct forged *f);

#endif
