/* SPDX-License-Identifier: Apache-2.0
 * store.<N>/journal: which keys the newest commits of a generation changed. A ring of frames, one
 * for each commit that changed any; what is pushed out is forgotten, and who asks for it is told
 * so. The writer alone stores here, within its commits; readers copy what they need, judge the
 * copy, and see afterwards whether it was overwritten meanwhile. */
#ifndef SHMETA_SHM_PAGE_JOURNAL_H
#define SHMETA_SHM_PAGE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/page/board.h"
#include "shm/page/frozen.h"

enum {
	SHMETA_JOURNAL_VERSION = 1,
	SHMETA_JOURNAL_RING = 1 << 20, /* bytes of frames */
	SHMETA_JOURNAL_BYTES = SHMETA_PAGE + SHMETA_JOURNAL_RING,
	SHMETA_JOURNAL_KEYS_MAX = SHMETA_JOURNAL_RING / 2 /* bytes of one commit; what is larger is
                                                           * not told */
};

/* tail, head: bytes since the journal was made; the frames in [tail, head) are there, each at its
 * place modulo the ring's size. */
struct shmeta_journal {
	uint8_t signature[8]; /*  0  "SHMJOURN"                                             */
	uint32_t version;     /*  8                                                         */
	uint32_t ring_bytes;  /* 12                                                         */
	uint64_t generation;  /* 16  its own number                                         */
	uint64_t
		first_generation; /* 24  from it on each generation was copied from the one before, and commits count on */
	uint64_t reserved1[4];    /* 32                                                         */
	uint64_t newest;          /* 64  the newest commit that is told of, changes or not   PAIR 8 */
	uint64_t head;            /* 72  PAIR 8                                                 */
	uint64_t tail;            /* 80  PAIR 9                                                 */
	uint64_t oldest;          /* 88  what later commits changed is told                     */
	uint64_t last;            /* 96  the newest commit with a frame, or oldest              */
	uint64_t reserved2[3];    /* 104                                                        */
};
SHMETA_FROZEN(shmeta_journal, signature, 0);
SHMETA_FROZEN(shmeta_journal, version, 8);
SHMETA_FROZEN(shmeta_journal, ring_bytes, 12);
SHMETA_FROZEN(shmeta_journal, generation, 16);
SHMETA_FROZEN(shmeta_journal, first_generation, 24);
SHMETA_FROZEN(shmeta_journal, newest, 64);
SHMETA_FROZEN(shmeta_journal, head, 72);
SHMETA_FROZEN(shmeta_journal, tail, 80);
SHMETA_FROZEN(shmeta_journal, oldest, 88);
SHMETA_FROZEN(shmeta_journal, last, 96);
SHMETA_FROZEN_SIZE(shmeta_journal, 128);

/* A frame: this, the keys, and its size once more, as 8 bytes, for who comes from behind. */
struct shmeta_journal_frame {
	uint64_t seal;  /*  0  XXH3 of the rest and the keys                                  */
	uint64_t txn;   /*  8                                                                 */
	uint64_t after; /* 16  the commit of the frame before, or since when frames are kept  */
	uint32_t bytes; /* 24  of all of it; a multiple of 8                                  */
	uint32_t count; /* 28  keys                                                           */
};
SHMETA_FROZEN(shmeta_journal_frame, seal, 0);
SHMETA_FROZEN(shmeta_journal_frame, txn, 8);
SHMETA_FROZEN(shmeta_journal_frame, after, 16);
SHMETA_FROZEN(shmeta_journal_frame, bytes, 24);
SHMETA_FROZEN(shmeta_journal_frame, count, 28);
SHMETA_FROZEN_SIZE(shmeta_journal_frame, 32);

enum { SHMETA_JOURNAL_DELETED = 1u << 0 };

/* A key; topic and name follow, padded with zeros to a multiple of 8. */
struct shmeta_journal_key {
	uint32_t tenant;
	uint32_t partition_id;
	uint16_t bytes; /* of all of it */
	uint8_t cls;    /* enum shmeta_class */
	uint8_t flags;
	uint16_t topic_bytes;
	uint16_t name_bytes; /* of an agent or a group */
};
SHMETA_FROZEN(shmeta_journal_key, tenant, 0);
SHMETA_FROZEN(shmeta_journal_key, partition_id, 4);
SHMETA_FROZEN(shmeta_journal_key, bytes, 8);
SHMETA_FROZEN(shmeta_journal_key, cls, 10);
SHMETA_FROZEN(shmeta_journal_key, flags, 11);
SHMETA_FROZEN(shmeta_journal_key, topic_bytes, 12);
SHMETA_FROZEN(shmeta_journal_key, name_bytes, 14);
SHMETA_FROZEN_SIZE(shmeta_journal_key, 16);

/* ---- the writer's ---- */

/* The journal goes on behind commit txn: as it is, where it told of that one; as a copy of `like`,
 * where that did; otherwise anew. like: of the generation that this one was copied from, or
 * NULL. */
void shmeta__journal_begin(struct shmeta_journal *journal, uint64_t generation, uint64_t txn,
                           const struct shmeta_journal *like);
/* Commit txn changed these keys. keys NULL with count > 0: too many to be told. Before the commit
 * is published. */
void shmeta__journal_put(struct shmeta_journal *journal, uint64_t txn, const void *keys, size_t bytes, uint32_t count);

/* ---- readers' ---- */

/* A private copy of the head. OK, or ERR_VERSION, ERR_CORRUPT. */
enum shmeta_status shmeta__journal_check(const struct shmeta_journal *copy, uint64_t generation);

/* What was copied, and how far it was walked. */
struct shmeta__journal_part {
	uint8_t *frames; /* free() it; NULL: nothing changed */
	size_t bytes, at;
	size_t frame_end; /* of the frame that is walked */
	uint64_t since, until, txn;
};
/* The frames of all commits after `since`, up to `until`. OK; TOO_OLD: not all of them are there
 * (any more); ERR_CORRUPT, ERR_NO_MEMORY. Takes time in proportion to what changed since. */
enum shmeta_status shmeta__journal_since(const struct shmeta_journal *journal, uint64_t since, uint64_t until,
                                         struct shmeta__journal_part *ret);
/* The next key, in order of commits: a view into part->frames. False: that was all. */
bool shmeta__journal_next(struct shmeta__journal_part *part, struct shmeta_journal_key *ret, const char **ret_text);

#endif
