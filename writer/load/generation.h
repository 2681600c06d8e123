/* SPDX-License-Identifier: Apache-2.0
 * Which store to start from, the first write after a restart, and how one generation follows
 * another. The engine's thread. */
#ifndef SHMETA_WRITER_LOAD_GENERATION_H
#define SHMETA_WRITER_LOAD_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/store/store.h"

struct sync;

enum { GENERATIONS_LEAVING = 16 };

struct generations {
	uint64_t newest_number; /* of all that ever had a directory here */
	uint64_t next_topic_id; /* lower bound for a new one: identities are never reused in an
                                 * instance */
	uint64_t adopted_at_ns; /* when the store of a former writer was taken over */
	uint64_t load_began_ns; /* 0: no load into a new one is under way */
	/* Those that are no longer current: a directory goes when nobody can be opening it any
	 * more. */
	struct generation_leaving {
		uint64_t number, due_ns;
	} leaving[GENERATIONS_LEAVING];
	size_t leaving_count;
	bool leaving_more; /* directories that did not fit the list: it is made again when these
                            * have gone */
};

static inline uint64_t generation_next_topic_id(const struct generations *generations)
{
	return generations->next_topic_id;
}
static inline uint64_t generation_load_began(const struct generations *generations)
{
	return generations->load_began_ns;
}
/* 0: no longer */
static inline void generation_loads(struct generations *generations, uint64_t began_ns)
{
	generations->load_began_ns = began_ns;
}

void generation_init(struct sync *s);
/* At the start: adopt the store that the board names when it is of this boot and (as far as can be
 * told) of this source; where the source is not usable, only one that was filled from the same
 * URI. */
enum shmeta_status generation_adopt(struct sync *s, bool usable, struct shmeta_err *err);
/* Is the adopted store of the source that has been opened? Moves the origin. */
void generation_judge(struct sync *s);
/* May the store be written now? false: not yet, sync_wake_at() was told, or it failed and the
 * store's health says why. */
bool generation_writable(struct sync *s);
enum shmeta_status generation_create(struct sync *s, struct shmeta__store **ret, struct shmeta_err *err);
/* The same of a source that is described already. */
enum shmeta_status generation_create_as(struct sync *s, const struct shmeta_store_format *format,
                                        struct shmeta__store **ret, struct shmeta_err *err);
/* one that was never published */
void generation_discard(struct sync *s, struct shmeta__store *store);
/* Make store the current generation and retire the former one. */
void generation_publish(struct sync *s, struct shmeta__store *store);
void generation_remove_left(struct sync *s);

#endif
