/* SPDX-License-Identifier: Apache-2.0
 * snapshot/: one commit, held still for a thread.
 *
 * struct shmeta_reader is one thread's way to the store. It owns references to an env and a
 * membership, so that a lookup follows no shared pointer, its slot's pin while a snapshot is open,
 * and the view of the commit that it last showed.
 *
 *   follow.c    which core, generation and slot a reader uses; changing them between snapshots
 *   snapshot.c  begin, end, take; looking keys up in the snapshot */
#ifndef SHMETA_READER_SNAPSHOT_SNAPSHOT_H
#define SHMETA_READER_SNAPSHOT_SNAPSHOT_H

#include "reader/attach/attach.h"

struct name_entry;
struct head_place;

/* A reader's last error that has a sentence. */
struct reader_error {
	enum shmeta_status code;
	uint32_t has_place;
	uint32_t partition_id;
	char topic[SHMETA_NAME_MAX + 1];
	char text[480];
};

struct shmeta_reader {
	/* What begin, end and every lookup read. */
	const uint64_t *fork_word;
	uint64_t fork_token;
	uint64_t snapshot;     /* the commit being read; 0: none */
	const uint32_t *guard; /* not 0: pins are not honoured (revoked, or never registered): judge
                                * by grace */
	const struct shmeta_generation *gen;
	struct shmeta_slot *slot; /* of the registration page, or `own` */
	const struct shmeta_board *board;
	uint64_t parked; /* the commit that view shows and that was published when it was made; 0:
                          * none */
	uint64_t epoch;
	struct attached attached;
	struct touch_view touch; /* of the membership */
	uint32_t clock;          /* enum reader_clock */
	uint32_t tick;           /* lookups, for sampling */
	uint32_t serial;         /* of the snapshot: iterators remember it */
	uint32_t ageless;        /* 1: no stamp can be compared with this process's clock. age.c's,
                                  * as the next two */
	uint64_t judge_ns;       /* CLOCK_MONOTONIC: when it looks again */
	int64_t offset_least;    /* from CLOCK_MONOTONIC to the writer's CLOCK_BOOTTIME */

	uint64_t seen[SHMETA_CLASS_COUNT + 1]; /* synced_at of each class as far as the snapshot
                                                * shows it */
	uint64_t begun_ns;                     /* CLOCK_BOOTTIME of begin, where grace rules */
	struct env *env;
	struct membership *membership;
	struct core *core;
	struct shmeta *instance;
	uint64_t tenant_txn;                   /* when tenant == 0: the snapshot that had no such
                                                * tenant */
	uint64_t quarantined_txn, quarantined; /* rows that this snapshot counts as quarantined */
	uint64_t incomplete;                   /* and 1 << class: it lacks some that the source
                                                * has */
	uint32_t tenant;                       /* number in this env; 0: not known */
	uint32_t expired;                      /* 1: a snapshot that FRESH moved on from had
                                                * outlived its grace */
	uint32_t slotless;                     /* 1: of one lookup, see shmeta__reader_aside() */
	uint32_t followed;                     /* 1: its directory was made anew; the first snapshot
                                                * there is since_generation, since_txn */
	uint32_t untold;                       /* 1: shmeta_changes_since() was not asked there
                                                * yet */
	int told_absent;                       /* 1: the writer has just said that the source does
                                                * not have what is looked up */
	uint64_t since_generation, since_txn;

	/* lookup/ is above this module: what it remembers of the env and core that the reader is
	 * about to leave is void. */
	void (*forget)(struct shmeta_reader *reader);
	/* From here to place_count: lookup/'s. */
	struct shmeta_handle *handles;
	struct shmeta_iter *iters;
	struct name_entry *names;
	uint32_t name_mask, name_misses;
	struct shmeta_handle *parts; /* cache behind the *_named calls; no topic of their own */
	uint32_t part_mask, part_misses;
	struct head_place *places;
	uint32_t place_mask, place_count;
	uint64_t next_join_ns;
	uint64_t look_ns;               /* when a stale answer next asks for attention */
	struct view view;               /* of commit `parked` */
	struct shmeta_slot own;         /* counters of a reader without a slot */
	struct reader_error **error;    /* the last one: own_error, or that of the reader that it
                                         * was made aside of */
	struct reader_error *own_error; /* NULL: there was none, or no memory for it */
};

enum reader_clock { CLOCK_COARSE, CLOCK_PRECISE };

/* ---- follow.c ---- */

/* A reader of the core, whose reference it takes over. NULL: no memory. */
struct shmeta_reader *shmeta__reader_make(struct shmeta *instance, struct core *core,
                                          void (*forget)(struct shmeta_reader *reader));
/* Frees it, but for handles, iterators and its reference to the instance. */
void shmeta__reader_drop(struct shmeta_reader *reader);
/* In a forked child: frees the memory. What was inherited is left alone, see shmeta_close(); a
 * registration or a core that only this reader still held has its connections closed. */
void shmeta__reader_abandon(struct shmeta_reader *reader);
/* A reader for one lookup or list that does not count among the instance's; lives within `of`.
 * slotless: it takes no slot, for a snapshot that ends at once. NULL: no memory. Ended by
 * shmeta__reader_drop(). */
struct shmeta_reader *shmeta__reader_aside(struct shmeta_reader *of, int slotless);
/* Between snapshots. Leaves a slot that is not honoured any more, takes one when it can be had;
 * waits for nobody. */
void shmeta__reader_settle_slot(struct shmeta_reader *reader);
/* Between snapshots: the instance, the slot and the generation to read from. OK, UNKNOWN, ERR_*. */
enum shmeta_status shmeta__reader_settle(struct shmeta_reader *reader);
/* Between snapshots: of another directory, or of the same one made anew. The reference to core goes
 * to the reader. */
void shmeta__reader_use_core(struct shmeta_reader *reader, struct core *core);

/* ---- snapshot.c ---- */

/* Keep err as the reader's last error and the instance's; returns its code. */
enum shmeta_status shmeta__reader_keep(struct shmeta_reader *reader, const struct shmeta_err *err);
/* The same, by its sentence. */
__attribute__((format(printf, 3, 4))) enum shmeta_status shmeta__reader_fail(struct shmeta_reader *reader,
                                                                             enum shmeta_status code, const char *fmt,
                                                                             ...);

/* Grace rules: has the snapshot outlived half the grace period, or was the registration revoked
 * under it? */
int shmeta__snapshot_expired(const struct shmeta_reader *reader);
/* Look a key up in the snapshot: OK, ABSENT, ERR_CORRUPT, ERR_EXPIRED. */
enum shmeta_status shmeta__snapshot_get(struct shmeta_reader *reader, enum shmeta_db db, const void *key,
                                        size_t key_bytes, const void **ret_value, size_t *ret_bytes);
/* Move to a snapshot that shows commit `txn` of `generation` or something newer; waits for it until
 * deadline. */
enum shmeta_status shmeta__snapshot_advance(struct shmeta_reader *reader, uint64_t generation, uint64_t txn,
                                            uint64_t deadline_ns);
/* The tenant's number in this snapshot: OK, ABSENT (0: the store has none), ERR_*. */
enum shmeta_status shmeta__snapshot_tenant(struct shmeta_reader *reader, uint32_t *ret);

#endif
