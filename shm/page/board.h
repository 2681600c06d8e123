/* SPDX-License-Identifier: Apache-2.0
 * The board and the generation page: what every reader maps. One writer stores here; readers never
 * do.
 *
 *   board                  one page: who the writer is, whether it lives, which generation is
 *                          current
 *   store.<N>/generation   one page and the touched words: commit numbers and freshness stamps of
 *                          that generation alone
 *   store.<N>/data.mdb     the LMDB environment of generation N; lock.mdb is the writer's alone
 *
 * A generation's numbers live beside its data and not on the board, so that a reader that is still
 * in an old generation can never combine them with those of a new one. Nothing here is ever
 * shortened or replaced under readers. */
#ifndef SHMETA_SHM_PAGE_BOARD_H
#define SHMETA_SHM_PAGE_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "include/shmeta.h"
#include "shm/page/frozen.h"
#include "shm/page/order.h"

enum { SHMETA_PAGE = 4096 };

/* Unknown incompat bit: refuse. Unknown compat bit: ignore. */
enum { SHMETA_BOARD_INCOMPAT_V1 = 1u << 0, SHMETA_BOARD_INCOMPAT_KNOWN = SHMETA_BOARD_INCOMPAT_V1 };
enum { SHMETA_GEN_INCOMPAT_V1 = 1u << 0, SHMETA_GEN_INCOMPAT_KNOWN = SHMETA_GEN_INCOMPAT_V1 };

struct shmeta_board {
	/* Line 0: set when a writer starts. */
	uint8_t signature[8];        /*   0  "SHMBOARD"                                              */
	uint32_t incompat;           /*   8                                                          */
	uint32_t compat;             /*  12                                                          */
	uint32_t board_bytes;        /*  16  size of this struct as its writer knew it               */
	uint32_t writer_version;     /*  20  major << 16 | minor << 8 | patch                        */
	uint64_t writer_pid;         /*  24  in the writer's pid namespace                           */
	uint64_t writer_start_ticks; /*  32  process start, clock ticks since boot                   */
	uint8_t boot_id[16];         /*  40  of the boot the writer runs in                          */
	uint64_t started_at_ns;      /*  56  CLOCK_BOOTTIME                                          */
	/* Line 1: changes with a generation or a phase. */
	uint64_t epoch;          /*  64  + 1 at every start of a writer                               */
	uint64_t generation;     /*  72  the current one; 0: nothing published yet        PAIR 4      */
	uint64_t store_dev;      /*  80  of its data.mdb                                              */
	uint64_t store_ino;      /*  88                                                               */
	uint32_t phase;          /*  96  enum shmeta_phase                                            */
	uint32_t registrations;  /* 100  open ones, kept for the next writer                          */
	uint64_t phase_since_ns; /* 104                                                              */
	uint64_t taking_over;    /* 112  the generation that a writer is about to take over; 0: none  */
	uint64_t reserved1;      /* 120                                                               */
	/* Line 2: moves all the time. */
	uint64_t heartbeat_ns;  /* 128  CLOCK_BOOTTIME of the writer's last turn of its loop         */
	int64_t boot_offset_ns; /* 136  CLOCK_BOOTTIME - CLOCK_MONOTONIC                            */
	uint64_t reserved2[6];  /* 144                                                              */
	uint64_t reserved3[40]; /* 192                                                              */
};
SHMETA_FROZEN(shmeta_board, signature, 0);
SHMETA_FROZEN(shmeta_board, incompat, 8);
SHMETA_FROZEN(shmeta_board, compat, 12);
SHMETA_FROZEN(shmeta_board, board_bytes, 16);
SHMETA_FROZEN(shmeta_board, writer_version, 20);
SHMETA_FROZEN(shmeta_board, writer_pid, 24);
SHMETA_FROZEN(shmeta_board, writer_start_ticks, 32);
SHMETA_FROZEN(shmeta_board, boot_id, 40);
SHMETA_FROZEN(shmeta_board, started_at_ns, 56);
SHMETA_FROZEN(shmeta_board, epoch, 64);
SHMETA_FROZEN(shmeta_board, generation, 72);
SHMETA_FROZEN(shmeta_board, store_dev, 80);
SHMETA_FROZEN(shmeta_board, store_ino, 88);
SHMETA_FROZEN(shmeta_board, phase, 96);
SHMETA_FROZEN(shmeta_board, registrations, 100);
SHMETA_FROZEN(shmeta_board, phase_since_ns, 104);
SHMETA_FROZEN(shmeta_board, taking_over, 112);
SHMETA_FROZEN(shmeta_board, heartbeat_ns, 128);
SHMETA_FROZEN(shmeta_board, boot_offset_ns, 136);
SHMETA_FROZEN_SIZE(shmeta_board, 512);

/* What the writer knows of a whole class: everything of it that commit `txn` shows was true of the
 * source at synced_at_ns. */
struct shmeta_stamp {
	uint64_t txn;          /*  0  PAIR 3                                                        */
	uint64_t synced_at_ns; /*  8  CLOCK_BOOTTIME; 0: never                                      */
	uint64_t ttl_ns;       /* 16                                                                */
	uint64_t changed_txn;  /* 24  the commit that last changed a record of the class            */
};
SHMETA_FROZEN(shmeta_stamp, txn, 0);
SHMETA_FROZEN(shmeta_stamp, synced_at_ns, 8);
SHMETA_FROZEN(shmeta_stamp, ttl_ns, 16);
SHMETA_FROZEN(shmeta_stamp, changed_txn, 24);
SHMETA_FROZEN_SIZE(shmeta_stamp, 32);

/* In a stamp's synced_at_ns: the rows come from a file that was written in an earlier boot, and the
 * source has not confirmed them since. The other bits are a signed time, mostly from before this
 * boot's clock began: answers have the age that it says, and are not fresh. Whoever does not know
 * of it reads a time far ahead, and so no age. */
#define SHMETA_STAMP_UNPROVED (UINT64_C(1) << 63)

static inline bool shmeta__stamp_is_unproved(uint64_t synced_at_ns)
{
	return (synced_at_ns & SHMETA_STAMP_UNPROVED) != 0;
}
static inline uint64_t shmeta__stamp_unproved(int64_t at_ns)
{
	return (uint64_t)at_ns | SHMETA_STAMP_UNPROVED;
}
/* How long ago an unproved stamp's time is; UINT64_MAX: it lies ahead. */
static inline uint64_t shmeta__stamp_unproved_age(uint64_t now_ns, uint64_t synced_at_ns)
{
	uint64_t sign = synced_at_ns << 1 & SHMETA_STAMP_UNPROVED;
	int64_t at = (int64_t)((synced_at_ns & ~SHMETA_STAMP_UNPROVED) | sign);

	return at <= (int64_t)now_ns ? now_ns - (uint64_t)at : UINT64_MAX;
}

/* Touched words: word i holds the newest commit that changed a partition, or a topic name, that
 * hashes to i. */
enum { SHMETA_TOUCHED_WORDS = 131072 };

struct shmeta_generation {
	uint8_t signature[8];         /*   0  "SHMGENER"                                                    */
	uint32_t incompat;            /*   8                                                                */
	uint32_t compat;              /*  12                                                                */
	uint64_t generation;          /*  16  its own number                                                */
	uint64_t max_bytes;           /*  24  LMDB map size; never changes                                  */
	uint64_t grace_ns;            /*  32                                                                */
	uint32_t touched_words;       /*  40  a power of two                                                */
	uint32_t touched_at;          /*  44  file offset of the first word                                 */
	uint64_t reserved1[2];        /*  48                                                                */
	uint64_t committed;           /*  64  newest published commit                          PAIR 1       */
	uint64_t committing;          /*  72  the commit that may be in flight                 PAIR 1       */
	uint32_t retired;             /*  80  1: another generation is current                 PAIR 4       */
	uint32_t commit_futex;        /*  84  low word of committed; readers may FUTEX_WAIT on it           */
	int64_t boot_offset_ns;       /*  88  copy of the board's, so that a lookup reads one line          */
	int64_t source_ahead_ms;      /*  96  how far the source's clock is ahead of the host's             */
	uint64_t reserved2[3];        /* 104                                                                */
	struct shmeta_stamp stamp[8]; /* 128  by enum shmeta_class                                    */
	uint64_t reserved3[16];       /* 384                                                          */
};
SHMETA_FROZEN(shmeta_generation, signature, 0);
SHMETA_FROZEN(shmeta_generation, incompat, 8);
SHMETA_FROZEN(shmeta_generation, compat, 12);
SHMETA_FROZEN(shmeta_generation, generation, 16);
SHMETA_FROZEN(shmeta_generation, max_bytes, 24);
SHMETA_FROZEN(shmeta_generation, grace_ns, 32);
SHMETA_FROZEN(shmeta_generation, touched_words, 40);
SHMETA_FROZEN(shmeta_generation, touched_at, 44);
SHMETA_FROZEN(shmeta_generation, committed, 64);
SHMETA_FROZEN(shmeta_generation, committing, 72);
SHMETA_FROZEN(shmeta_generation, retired, 80);
SHMETA_FROZEN(shmeta_generation, commit_futex, 84);
SHMETA_FROZEN(shmeta_generation, boot_offset_ns, 88);
SHMETA_FROZEN(shmeta_generation, source_ahead_ms, 96);
SHMETA_FROZEN(shmeta_generation, stamp, 128);
SHMETA_FROZEN_SIZE(shmeta_generation, 512);

enum { SHMETA_GENERATION_BYTES = SHMETA_PAGE + SHMETA_TOUCHED_WORDS * 8 };

/* A private copy, judged. Pure; the fuzz targets. file_bytes: as fstat says. ERR_CORRUPT or
 * ERR_VERSION with a sentence. */
enum shmeta_status shmeta__board_check(const struct shmeta_board *copy, uint64_t file_bytes, struct shmeta_err *err);
enum shmeta_status shmeta__generation_check(const struct shmeta_generation *copy, uint64_t file_bytes,
                                            struct shmeta_err *err);

/* data.mdb holds all pages up to the last one that its newest commit speaks of, because the writer
 * sees to it before it publishes the commit: a shorter file was cut off, and would kill whoever
 * touches what is missing. ERR_CORRUPT with a sentence. */
enum shmeta_status shmeta__data_check(uint64_t file_bytes, uint64_t last_page, uint32_t page_bytes,
                                      struct shmeta_err *err);

/* Map a file of the instance. dir_fd: the directory. write: create it with posix_fallocate when it
 * is missing (mode 0640), map it read-write; otherwise read-only. The mapping is `bytes` long; a
 * shorter file is ERR_CORRUPT, so that nobody touches what is not there. ERR_NOT_RUNNING when it
 * does not exist and !write. */
enum shmeta_status shmeta__map_file(int dir_fd, const char *name, uint64_t bytes, int write, void **ret_map,
                                    struct shmeta_err *err);

/* The first class that was not verified for so much longer than its time to live that a refresh of
 * it failed or is late; -1: none. copy: of a generation that has been published. */
int shmeta__late_class(const struct shmeta_generation *copy, uint64_t now_ns);

/* Index of the touched word. Partitions and topic names share the words. */
static inline uint32_t shmeta__touched_partition(uint32_t topic_id, uint32_t partition_id)
{
	uint64_t h = ((uint64_t)topic_id << 32 | partition_id) * 0x9E3779B97F4A7C15u;

	return (uint32_t)(h >> 47); /* 17 bits: SHMETA_TOUCHED_WORDS */
}
static inline uint32_t shmeta__touched_name(uint64_t name_hash)
{
	return (uint32_t)((name_hash * 0xD6E8FEB86659FD93u) >> 47);
}

/* Clocks. */
uint64_t shmeta__boottime_ns(void); /* precise */
/* CLOCK_MONOTONIC_COARSE + offset: 3 ns, 4 ms steps */
uint64_t shmeta__coarse_boottime_ns(int64_t boot_offset_ns);
/* CLOCK_BOOTTIME - CLOCK_MONOTONIC, now */
int64_t shmeta__boot_offset_ns(void);

#endif
