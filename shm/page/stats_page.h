/* SPDX-License-Identifier: Apache-2.0
 * <instance>/stats: what the writer knows of itself and of its readers, copied out every second, so
 * that looking needs no socket and works when the writer is dead. A seqlock (PAIR 6): copy, then
 * check that the sequence is even and has not moved. */
#ifndef SHMETA_SHM_PAGE_STATS_PAGE_H
#define SHMETA_SHM_PAGE_STATS_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/page/counters.h"
#include "shm/page/frozen.h"
#include "shm/page/histogram.h"
#include "shm/page/order.h"
#include "shm/page/slots.h"

/* flags: what the writer says of its configuration and its socket. */
enum {
	SHMETA_STATS_RELOAD_REFUSED = 1u << 0, /* the newest reload was refused; `reason` says
                                                * why */
	SHMETA_STATS_RESTART_NEEDED = 1u << 1, /* the newest reload changed options that wait for a
                                                * restart */
	SHMETA_STATS_CUT = 1u << 2             /* nobody can connect: control.sock is gone, or
                                                * descriptors ran out */
};

/* The file has the size that version 1 had, so that a writer takes over the one that it finds. */
enum { SHMETA_STATS_VERSION = 2, SHMETA_STATS_READERS = 1000, SHMETA_STATS_COUNTERS = 64, SHMETA_STATS_TEXT = 1024 };
enum {
	SHMETA_STATS_MORE = 48
}; /* counters behind the readers, where the first ones fill their
                                  * places */

/* One registered process. Names and numbers that the process gave itself were bounds-checked and
 * are otherwise untrusted. */
struct shmeta_stats_reader {
	uint64_t registration;                  /*   0                                                   */
	uint64_t pid;                           /*   8  as the writer sees it (SO_PEERCRED)              */
	uint64_t agent_pid;                     /*  16  as the agent sees itself                         */
	uint32_t uid;                           /*  24                                                   */
	uint32_t gid;                           /*  28                                                   */
	uint64_t connected_at_ns;               /*  32  CLOCK_BOOTTIME                                   */
	uint64_t oldest_pin;                    /*  40  0: none                                          */
	uint64_t pin_age_ns;                    /*  48  since the commit after it was published           */
	uint64_t pin_lag;                       /*  56  commits since                                    */
	uint32_t slots;                         /*  64  in use                                           */
	uint32_t version;                       /*  68                                                   */
	char name[64];                          /*  72                                                   */
	struct shmeta_reader_counters counters; /* 136  sum over the slots                  */
	uint32_t slots_max;                     /* 224  0: the writer does not say                       */
	uint32_t reserved1;                     /* 228                                                   */
	uint64_t reserved[3];                   /* 232                                                   */
};
SHMETA_FROZEN(shmeta_stats_reader, registration, 0);
SHMETA_FROZEN(shmeta_stats_reader, pid, 8);
SHMETA_FROZEN(shmeta_stats_reader, agent_pid, 16);
SHMETA_FROZEN(shmeta_stats_reader, uid, 24);
SHMETA_FROZEN(shmeta_stats_reader, gid, 28);
SHMETA_FROZEN(shmeta_stats_reader, connected_at_ns, 32);
SHMETA_FROZEN(shmeta_stats_reader, oldest_pin, 40);
SHMETA_FROZEN(shmeta_stats_reader, pin_age_ns, 48);
SHMETA_FROZEN(shmeta_stats_reader, pin_lag, 56);
SHMETA_FROZEN(shmeta_stats_reader, slots, 64);
SHMETA_FROZEN(shmeta_stats_reader, version, 68);
SHMETA_FROZEN(shmeta_stats_reader, name, 72);
SHMETA_FROZEN(shmeta_stats_reader, counters, 136);
SHMETA_FROZEN(shmeta_stats_reader, slots_max, 224);
SHMETA_FROZEN(shmeta_stats_reader, reserved, 232);
SHMETA_FROZEN_SIZE(shmeta_stats_reader, 256);

struct shmeta_stats {
	uint8_t signature[8];   /*    0  "SHMSTATS"                                         */
	uint32_t version;       /*    8  SHMETA_STATS_VERSION                               */
	uint32_t reader_bytes;  /*   12  sizeof(struct shmeta_stats_reader)                 */
	uint64_t sequence;      /*   16  odd: being written                     PAIR 6      */
	uint64_t updated_at_ns; /*   24  CLOCK_BOOTTIME                                     */
	uint32_t counter_count; /*   32  of counter[] in use; their order is the writer's list, appended only */
	uint32_t reader_count;  /*   36  rows in use                                        */
	uint32_t readers_total; /*   40  registered processes, shown or not                 */
	uint32_t flags;         /*   44  SHMETA_STATS_...                                   */
	uint32_t more_count;    /*   48  of more[] in use                                   */
	uint32_t reserved1;     /*   52                                                     */
	uint64_t reserved2[9];  /*   56                                                     */
	/* What does not fit ends with "...": the longest sentence of a source, with since when
	 * before it, does. */
	char source[SHMETA_STATS_TEXT];                /*  128  the source, without secrets                 */
	char source_status[SHMETA_STATS_TEXT];         /* 1152  "connected", or since when and why not      */
	char reason[SHMETA_STATS_TEXT];                /* 2176  why the phase is what it is; "": nothing to say */
	char counter_name[SHMETA_STATS_COUNTERS][32];  /* 3200  so that any tool can print any counter */
	uint64_t counter[SHMETA_STATS_COUNTERS];       /* 5248                               */
	struct shmeta_reader_counters all_readers;     /* 5760  sum, those that have left included */
	uint64_t lookups_ns[SHMETA_HISTOGRAM_BUCKETS]; /* 5848  sampled lookups of all readers, by histogram.h */
	struct shmeta_times
		times[SHMETA_TIMED_COUNT]; /* 6360  by enum shmeta_timed; grow with the writer, appended only */
	uint64_t reserved3[4];             /* 8160                               */
	struct shmeta_stats_reader reader[SHMETA_STATS_READERS]; /* 8192                    */
	char more_name[SHMETA_STATS_MORE][32];                   /* 264192  counters that follow those of counter[]   */
	uint64_t more[SHMETA_STATS_MORE];                        /* 265728                                            */
	uint64_t reserved4[16];                                  /* 266112                                            */
};
SHMETA_FROZEN(shmeta_stats, signature, 0);
SHMETA_FROZEN(shmeta_stats, version, 8);
SHMETA_FROZEN(shmeta_stats, reader_bytes, 12);
SHMETA_FROZEN(shmeta_stats, sequence, 16);
SHMETA_FROZEN(shmeta_stats, updated_at_ns, 24);
SHMETA_FROZEN(shmeta_stats, counter_count, 32);
SHMETA_FROZEN(shmeta_stats, reader_count, 36);
SHMETA_FROZEN(shmeta_stats, readers_total, 40);
SHMETA_FROZEN(shmeta_stats, flags, 44);
SHMETA_FROZEN(shmeta_stats, more_count, 48);
SHMETA_FROZEN(shmeta_stats, source, 128);
SHMETA_FROZEN(shmeta_stats, source_status, 1152);
SHMETA_FROZEN(shmeta_stats, counter_name, 3200);
SHMETA_FROZEN(shmeta_stats, counter, 5248);
SHMETA_FROZEN(shmeta_stats, all_readers, 5760);
SHMETA_FROZEN(shmeta_stats, lookups_ns, 5848);
SHMETA_FROZEN(shmeta_stats, times, 6360);
SHMETA_FROZEN(shmeta_stats, reason, 2176);
SHMETA_FROZEN(shmeta_stats, reader, 8192);
SHMETA_FROZEN(shmeta_stats, more_name, 264192);
SHMETA_FROZEN(shmeta_stats, more, 265728);
SHMETA_FROZEN_SIZE(shmeta_stats, 8192 + 1008 * 256);

/* Anyone: a consistent copy. ERR_CORRUPT, ERR_VERSION, or, after a bounded number of tries,
 * ERR_CONTENDED: the writer stopped while it wrote; *ret then holds what is there, of which one row
 * may be torn. */
enum shmeta_status shmeta__stats_copy(const struct shmeta_stats *stats, struct shmeta_stats *ret,
                                      struct shmeta_err *err);
/* The counters of a page or a copy, in order; at: below shmeta__stats_counters(). The name need not
 * end with NUL. */
static inline uint32_t shmeta__stats_counters(const struct shmeta_stats *stats)
{
	uint32_t first = stats->counter_count < SHMETA_STATS_COUNTERS ? stats->counter_count : SHMETA_STATS_COUNTERS;
	uint32_t more = stats->more_count < SHMETA_STATS_MORE ? stats->more_count : SHMETA_STATS_MORE;

	return first < SHMETA_STATS_COUNTERS ? first : first + more;
}
static inline char *shmeta__stats_name(struct shmeta_stats *stats, uint32_t at)
{
	return at < SHMETA_STATS_COUNTERS ? stats->counter_name[at] : stats->more_name[at - SHMETA_STATS_COUNTERS];
}
static inline uint64_t *shmeta__stats_value(struct shmeta_stats *stats, uint32_t at)
{
	return at < SHMETA_STATS_COUNTERS ? &stats->counter[at] : &stats->more[at - SHMETA_STATS_COUNTERS];
}
enum { SHMETA_STATS_NAME = 32 };
/* A counter of a copy; false: the writer that filled the page has none of that name. */
bool shmeta__stats_counter(const struct shmeta_stats *stats, enum shmeta_counter counter, uint64_t *ret);
/* In a copy: what has grown since the page was written. */
void shmeta__stats_grow(struct shmeta_stats *copy, enum shmeta_counter counter, uint64_t by);

#endif
