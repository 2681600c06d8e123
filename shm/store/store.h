/* SPDX-License-Identifier: Apache-2.0
 * A generation of the store, from the writer's side: the LMDB environment, its generation page, the
 * proxies that keep readers' snapshots alive. The only file behind this header knows <lmdb.h>. All
 * calls come from the one thread that owns the store, except where a comment says otherwise.
 *
 * LMDB: MDB_NOSYNC | MDB_NOTLS, no MDB_WRITEMAP, no DUPSORT, fixed map size, all databases opened
 * in one transaction. Statuses: ERR_FULL for MDB_MAP_FULL, MDB_TXN_FULL, ENOSPC, EDQUOT, EFBIG and
 * EIO (a full tmpfs is EIO); after any of them the transaction is aborted and the store is as it
 * was. After a failed meta write LMDB answers MDB_PANIC for ever: the store reopens itself at the
 * next begin, which answers ERR_BUSY until no reader can be hurt by the proxies that were lost. */
#ifndef SHMETA_SHM_STORE_STORE_H
#define SHMETA_SHM_STORE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/index/part.h"
#include "shm/page/board.h"
#include "shm/record/key.h"

enum { SHMETA_STORE_FORMAT = 4 };

/* META_FORMAT. A store with another format or of another source is refused with a sentence that
 * says both and what to do. */
struct shmeta_store_format {
	uint32_t format;         /*  0  SHMETA_STORE_FORMAT                                  */
	uint32_t writer_version; /*  4  of the program that created it                       */
	uint64_t created_at_ns;  /*  8  CLOCK_BOOTTIME                                       */
	uint8_t boot_id[16];     /* 16  stamps of another boot mean nothing                  */
	uint64_t fingerprint;    /* 32  of the source, as its backend gives it               */
	char source[984];        /* 40  the source for humans, without secrets               */
};
SHMETA_FROZEN(shmeta_store_format, format, 0);
SHMETA_FROZEN(shmeta_store_format, writer_version, 4);
SHMETA_FROZEN(shmeta_store_format, created_at_ns, 8);
SHMETA_FROZEN(shmeta_store_format, boot_id, 16);
SHMETA_FROZEN(shmeta_store_format, fingerprint, 32);
SHMETA_FROZEN(shmeta_store_format, source, 40);
SHMETA_FROZEN_SIZE(shmeta_store_format, 1024);

struct shmeta_store_counters {
	uint64_t next_topic_id; /*  0  never goes back */
	uint64_t next_block_id; /*  8  never goes back */
	uint64_t next_tenant;   /* 16                  */
	uint64_t topics;        /* 24  live            */
	uint64_t partitions;    /* 32                  */
	uint64_t segments;      /* 40                  */
	uint64_t quarantined;   /* 48  rows of the source that cannot be served, now      */
	uint64_t listed;        /* 56  entries of QUARANTINE: some stand for several rows */
	uint64_t incomplete;    /* 64  1 << class: not all that the source has of it is here. Never unset */
};
SHMETA_FROZEN(shmeta_store_counters, next_topic_id, 0);
SHMETA_FROZEN(shmeta_store_counters, next_block_id, 8);
SHMETA_FROZEN(shmeta_store_counters, next_tenant, 16);
SHMETA_FROZEN(shmeta_store_counters, topics, 24);
SHMETA_FROZEN(shmeta_store_counters, partitions, 32);
SHMETA_FROZEN(shmeta_store_counters, segments, 40);
SHMETA_FROZEN(shmeta_store_counters, quarantined, 48);
SHMETA_FROZEN(shmeta_store_counters, listed, 56);
SHMETA_FROZEN(shmeta_store_counters, incomplete, 64);
SHMETA_FROZEN_SIZE(shmeta_store_counters, 72);

struct shmeta__store; /* one open generation */
struct shmeta__txn;   /* one write or read transaction on it */

/* Build an empty generation `number` in dir_fd/store.<number>/ (must not exist). Not current until
 * the board says so. Errors: ERR_FULL, ERR_SYSTEM, ERR_PERMISSION. */
enum shmeta_status shmeta__store_create(int dir_fd, uint64_t number, uint64_t max_bytes, uint64_t grace_ns,
                                        const struct shmeta_store_format *format, struct shmeta__store **ret,
                                        struct shmeta_err *err);
/* May this program take over generation `number` as it was found? Judged by code of ours, which
 * believes nothing, before LMDB, which believes everything, sees it: its page, its format, its boot
 * (boot_id: of this one), then all of data.mdb (shm/tree/tree_check.h). Reads the whole file: takes
 * the longer, the larger it is. Nobody else may write the store meanwhile. OK; otherwise the
 * sentence says what was found: ERR_CORRUPT, ERR_VERSION (another format or boot), ERR_NOT_RUNNING
 * (not there), ERR_NO_MEMORY, ERR_SYSTEM. */
enum shmeta_status shmeta__store_prove(int dir_fd, uint64_t number, const uint8_t boot_id[16], struct shmeta_err *err);
/* Open an existing one for writing. ERR_VERSION, ERR_CORRUPT, ERR_NOT_RUNNING (not there). lock.mdb
 * is made anew. LMDB can end the process over a damaged one: whoever did not make it proves it
 * first. */
enum shmeta_status shmeta__store_open(int dir_fd, uint64_t number, struct shmeta__store **ret, struct shmeta_err *err);
/* Copy this generation, as its newest commit shows it, to generation `number`; max_bytes 0: the
 * same. The copy's commit numbers go on from the original's. */
enum shmeta_status shmeta__store_copy(struct shmeta__store *store, int dir_fd, uint64_t number, uint64_t max_bytes,
                                      struct shmeta__store **ret, struct shmeta_err *err);
void shmeta__store_close(struct shmeta__store *store); /* accepts NULL; removes nothing */
/* After an open, the proxies that kept readers' snapshots alive died with the former writer. May
 * the next transaction write, without harm to a reader that is still inside? OK, or ERR_BUSY:
 * *ret_wait_ns of grace are left (0: grace is over, but a pin is older than the commit that was
 * found, and only its reader can end that). Always OK for a created or copied generation. Not
 * enforced by shmeta__txn_begin(): whoever opened the store knows whether it copies instead
 * (design.md section 3, point 5). */
enum shmeta_status shmeta__store_may_write(struct shmeta__store *store, uint64_t oldest_pin, uint64_t *ret_wait_ns,
                                           struct shmeta_err *err);
/* For tests: the clock that proxies age by, instead of CLOCK_MONOTONIC (see store_proxy.c for why
 * not CLOCK_BOOTTIME). */
void shmeta__store_set_clock(struct shmeta__store *store, uint64_t (*now_ns)(void *arg), void *arg);

/* Remove a generation's directory. Safe under readers: their mappings live on. */
enum shmeta_status shmeta__store_remove(int dir_fd, uint64_t number, struct shmeta_err *err);

/* mapped read-write */
struct shmeta_generation *shmeta__store_generation(struct shmeta__store *store);
const struct shmeta_store_format *shmeta__store_format(struct shmeta__store *store);
struct shmeta_store_counters *shmeta__store_counters(
	struct shmeta__store *store); /* of the open write transaction, saved at
                                       * commit; of the last commit otherwise */
uint64_t shmeta__store_number(struct shmeta__store *store);
/* of data.mdb */
void shmeta__store_inode(struct shmeta__store *store, uint64_t *ret_dev, uint64_t *ret_ino);

struct shmeta__store_usage {
	uint64_t max_bytes, used_bytes, free_bytes; /* used: pages in use; free: pages on LMDB's
                                                     * free list */
	uint64_t file_bytes, entries[SHMETA_DB_COUNT], db_bytes[SHMETA_DB_COUNT];
	uint64_t proxies, oldest_proxy_txn;
};
enum shmeta_status shmeta__store_usage(struct shmeta__store *store, struct shmeta__store_usage *ret,
                                       struct shmeta_err *err);

/* What is left, and what holds it back. Cheaper than the above: it looks at what was freed since
 * the oldest commit in use. */
struct shmeta__store_room {
	uint64_t max_bytes, file_bytes; /* file: as far as pages were ever used */
	uint64_t used_bytes;            /* by content */
	uint64_t pinned_bytes;          /* free, but of commits that readers are in, or may be in by
                                         * grace */
	uint64_t left_bytes;            /* what content may still grow by */
	uint64_t half_txn;              /* pins of commits before it hold back the older half of
                                         * pinned_bytes; 0: nothing is */
};
/* oldest_pin as for shmeta__txn_begin(). */
enum shmeta_status shmeta__store_room(struct shmeta__store *store, uint64_t oldest_pin, struct shmeta__store_room *ret,
                                      struct shmeta_err *err);
/* A commit that changes nothing, so that what the newest one freed can be used by the next but one.
 * As for shmeta__txn_begin() and shmeta__txn_commit(). */
enum shmeta_status shmeta__store_step(struct shmeta__store *store, uint64_t oldest_pin, struct shmeta_err *err);
/* How full a store is, of which something is to be done: 95, 85, 70 (per cent of max_bytes, content
 * and what is pinned), or 0 and "". *ret: what is to be done. */
unsigned shmeta__room_level(uint64_t used_bytes, uint64_t pinned_bytes, uint64_t max_bytes, const char **ret);
/* Pages that readers hold bring the store to 85 %, and are half of what its content leaves: those
 * that hold the older half are to go. */
static inline int shmeta__room_pressed(const struct shmeta__store_room *room)
{
	return room->used_bytes + room->pinned_bytes >= room->max_bytes / 100 * 85 &&
	       room->pinned_bytes >= (room->max_bytes - room->used_bytes) / 2;
}

/* ---- transactions ---- */

/* Begin the write transaction (one at a time). oldest_pin: the oldest commit any registered reader
 * pins, UINT64_MAX: none. Before it begins, proxies that neither a pin nor grace needs are dropped
 * (design.md section 3). */
enum shmeta_status shmeta__txn_begin(struct shmeta__store *store, uint64_t oldest_pin, struct shmeta__txn **ret,
                                     struct shmeta_err *err);
/* ERR_FULL, too, for a change that makes the content larger than all but a 32nd of max_bytes: the
 * rest is for changes that do not.
 * Commit: touched words, then gen->committing, LMDB's commit, gen->committed (PAIR 1, 2), a proxy
 * for the new commit, futex
 * wake. ret_txn: its number. A transaction without changes is aborted and answers the last commit.
 * Consumes txn always. */
enum shmeta_status shmeta__txn_commit(struct shmeta__txn *txn, uint64_t *ret_txn, struct shmeta_err *err);
void shmeta__txn_abort(struct shmeta__txn *txn); /* accepts NULL */
/* A read transaction of the newest commit, for verify and merges. Any number; shmeta__txn_abort()
 * ends it. */
enum shmeta_status shmeta__txn_read(struct shmeta__store *store, struct shmeta__txn **ret, struct shmeta_err *err);

/* Views returned by get and cursors live until the next put or delete in the transaction, or its
 * end. They are not aligned. get: OK or ABSENT. After an error of put or delete the transaction can
 * only be aborted; commit answers that error. */
enum shmeta_status shmeta__get(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                               const void **ret_value, size_t *ret_bytes, struct shmeta_err *err);
enum shmeta_status shmeta__put(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                               const void *value, size_t bytes, struct shmeta_err *err);
enum shmeta_status shmeta__delete(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                                  struct shmeta_err *err); /* OK or ABSENT */
/* This transaction changes what hashes to the word (shmeta__touched_*). Published before the
 * commit. */
void shmeta__touch(struct shmeta__txn *txn, uint32_t word);
/* This transaction changes records of the class; stamp[cls].changed_txn follows at commit. */
void shmeta__touch_class(struct shmeta__txn *txn, enum shmeta_class cls);
/* Which keys it changes, as frames of the journal have them (shm/page/journal.h); keys NULL with
 * count > 0: too many to be told. Last of all before the commit, until which they are borrowed. */
void shmeta__txn_keys(struct shmeta__txn *txn, const void *keys, size_t bytes, uint32_t count);
/* Who is told once the commit is published, and of which words it moved: a bit for each. The bits
 * die when it returns. */
typedef void shmeta__committed_fn(void *arg, const uint64_t touched[SHMETA_TOUCHED_WORDS / 64]);
void shmeta__txn_watch(struct shmeta__txn *txn, shmeta__committed_fn *committed, void *arg);
uint64_t shmeta__txn_number(struct shmeta__txn *txn);
/* What the content takes of the store as it is now in this transaction: pages of all databases. OK,
 * ERR_*. */
enum shmeta_status shmeta__txn_content(struct shmeta__txn *txn, uint64_t *ret_bytes, struct shmeta_err *err);

/* The pager of the transaction, for shmeta__part_edit_*: blocks are values in BLOCKS, locators
 * their LMDB page numbers. */
struct shmeta__pager shmeta__txn_pager(struct shmeta__txn *txn);
struct shmeta__pages shmeta__txn_pages(struct shmeta__txn *txn); /* of a read transaction */

/* Walk a database from the first key >= key (key NULL: from the first) in key order; sentinels are
 * not shown. A cursor is closed before its transaction ends. */
struct shmeta__cursor;
enum shmeta_status shmeta__cursor_open(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                                       struct shmeta__cursor **ret, struct shmeta_err *err);
/* OK, END */
enum shmeta_status shmeta__cursor_next(struct shmeta__cursor *cursor, const void **ret_key, size_t *ret_key_bytes,
                                       const void **ret_value, size_t *ret_bytes, struct shmeta_err *err);
void shmeta__cursor_close(struct shmeta__cursor *cursor);

/* ---- topics and partitions: the store's own invariants in one place ---- */

/* The tenant's number; create: give it one when it has none. ABSENT otherwise. */
enum shmeta_status shmeta__tenant(struct shmeta__txn *txn, const char *tenant, size_t bytes, int create,
                                  uint32_t *ret_number, struct shmeta_err *err);

#endif
