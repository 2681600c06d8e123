/* SPDX-License-Identifier: Apache-2.0
 * Does the store take what is applied? Full, capped by a limit of the system, or failing otherwise;
 * when it is tried again, and who is asked to let go of pages before it is used up. Everything here
 * belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_STORE_HEALTH_H
#define SHMETA_WRITER_ENGINE_STORE_HEALTH_H

#include "writer/engine/source_health.h"

struct shmeta_op;
struct shmeta_result;

/* docs/states.md */
enum store_health_state {
	STORE_TAKES,  /* what is applied */
	STORE_FULL,   /* what is to be applied does not fit: tried again when there is room, and now
                       * and then */
	STORE_CAPPED, /* the same for a limit of the system, which is looked at meanwhile */
	STORE_FAILS   /* otherwise */
};

struct store_health {
	enum store_health_state state;
	struct sync_trouble trouble;
	enum shmeta_status status; /* what failed last */
	uint64_t cap_looked_ns;    /* CAPPED: when the limit was looked at */
	uint64_t look_ns;          /* when what is left is measured next */
	uint64_t pinned_bytes;     /* FULL: the most that readers held back; when half of it is free
                                    * it is tried again */
	unsigned level;            /* of shmeta__room_level(), as it was told */
};

/* ---- questions ---- */

static inline bool store_is_full(const struct store_health *h)
{
	return h->state == STORE_FULL || h->state == STORE_CAPPED;
}
static inline const char *store_health_text(const struct store_health *h)
{
	return h->trouble.text;
}
static inline uint64_t store_health_when(const struct store_health *h)
{
	return h->trouble.next_ns;
}
static inline enum shmeta_status store_health_status(const struct store_health *h)
{
	return h->status;
}

/* ---- moves ---- */

/* Something could not be put; a store that is damaged is loaded anew. */
void sync_store_failed(struct sync *s, enum shmeta_status status, const char *sentence);
void sync_store_works(struct sync *s);
/* CAPPED: has the limit been lifted? Then it is only FULL, and may be tried; otherwise
 * sync_wake_at() was told when to look again. */
bool store_health_uncapped(struct sync *s);

/* ---- what is left ---- */

/* Measure, at its time; ask for room where it goes to readers. Between transactions. */
void store_health_watch(struct sync *s);
/* Will the store show what the operation makes? Of the room that is left, *left, it takes its part;
 * the first of several measures that: UINT64_MAX before it. false: no; *ret says what to do. */
bool store_health_fits(struct sync *s, const struct shmeta_op *op, uint64_t *left, struct shmeta_result *ret);
/* Does it make room? Then a full store takes it at once, not only when it is tried again. */
bool store_health_freed_by(const struct shmeta_op *op);

#endif
