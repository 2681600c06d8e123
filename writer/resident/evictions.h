/* SPDX-License-Identifier: Apache-2.0
 * The last evictions, by key: when a record left, and for which budget. A table of fixed size in
 * which a later eviction takes the place of an earlier one, so an old eviction may be forgotten,
 * and none is invented. One owner, no locks, nothing blocks. */
#ifndef SHMETA_WRITER_RESIDENT_EVICTIONS_H
#define SHMETA_WRITER_RESIDENT_EVICTIONS_H

#include "include/shmeta.h"
#include "writer/resident/resident_set.h"

enum { EVICTIONS_MAX = 32768 };

struct eviction {
	uint64_t key;   /* of a partition as in resident_set.h, of a topic evictions_topic() */
	uint64_t at_ns; /* 0: none */
	enum policy_why why;
};

/* Zeroed: none. */
struct evictions {
	struct eviction *of; /* NULL: none yet */
};

void evictions_free(struct evictions *evictions);
/* A topic that is not resident has no number: its names stand for it. */
uint64_t evictions_topic(struct shmeta_str tenant, struct shmeta_str name);
/* Without memory it is not noted. */
void evictions_note(struct evictions *evictions, uint64_t key, enum policy_why why, uint64_t now_ns);
/* NULL: none is known. Valid until the next evictions_note(). */
const struct eviction *evictions_find(const struct evictions *evictions, uint64_t key);

#endif
