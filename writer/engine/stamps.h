/* SPDX-License-Identifier: Apache-2.0
 * Until when what the store shows was true of the source: the stamps of the classes on the
 * generation page, and what the feed has told. Everything here belongs to the engine's thread. */
#ifndef SHMETA_WRITER_ENGINE_STAMPS_H
#define SHMETA_WRITER_ENGINE_STAMPS_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/page/board.h"

struct sync;

struct stamps {
	uint64_t told_until_ns; /* the feed has named all that changed until then */
	uint64_t unapplied_ns;  /* the same, while what it named is being applied; 0: stamps have
                                 * moved there */
	uint64_t lag_ns;        /* how long before it was asked that was */
	bool named;             /* it has named something since stamps moved */
	uint64_t born_since;    /* next_topic_id when the feed was last asked, or everything was
                                 * read */
};

static inline uint64_t stamps_told_until(const struct stamps *stamps)
{
	return stamps->told_until_ns;
}
/* 0: nothing is to be stamped. */
static inline uint64_t stamps_unapplied(const struct stamps *stamps)
{
	return stamps->unapplied_ns;
}
static inline uint64_t stamps_lag(const struct stamps *stamps)
{
	return stamps->lag_ns;
}
static inline uint64_t stamps_born_since(const struct stamps *stamps)
{
	return stamps->born_since;
}

/* The feed was asked at asked_ns and has told all until lag_ns before; born_since: next_topic_id
 * when it was asked; named: it named something. */
void stamps_feed_told(struct sync *s, uint64_t asked_ns, uint64_t lag_ns, uint64_t born_since, bool named);
/* Everything was read. */
void stamps_all_read(struct sync *s, uint64_t born_since);
/* Whatever the feed named is in the store, and the classes of which nothing waits or fails were
 * stamped. */
void stamps_applied(struct sync *s);
/* The classes' times to live, as they are now. */
void stamps_show_ttl(struct sync *s);
/* Everything of the class that commit txn shows was true of the source at synced_at_ns (PAIR 3). */
void sync_stamp(struct sync *s, struct shmeta_generation *gen, enum shmeta_class cls, uint64_t txn,
                uint64_t synced_at_ns);
uint64_t sync_committed(struct sync *s); /* the newest commit; 0: there is no store */

#endif
