/* SPDX-License-Identifier: Apache-2.0
 * The registration page: a memfd that the writer creates, sizes, seals against growing and
 * shrinking, and passes to one process. Both map it; nobody else does. The process writes its
 * slots, the writer writes the header's second line. What the process writes is untrusted: the
 * writer copies a word, bounds-checks it, and then uses the copy. */
#ifndef SHMETA_SHM_PAGE_SLOTS_H
#define SHMETA_SHM_PAGE_SLOTS_H

#include <stdint.h>

#include "shm/page/frozen.h"
#include "shm/page/order.h"

enum {
	SHMETA_SLOTS_HEADER = 4096, /* file offset of slot 0 */
	SHMETA_SLOT_BYTES = 1024,
	SHMETA_SLOTS_DEFAULT = 64,
	SHMETA_SLOTS_MAX = 1024,
	SHMETA_HISTOGRAM_BUCKETS = 64,
	SHMETA_SAMPLES = 16,
	SHMETA_SAMPLE_EVERY = 1024 /* lookups of a thread for each sample; a power of two */
};

struct shmeta_slots {
	uint8_t signature[8];      /*   0  "SHMSLOTS"; writer                                           */
	uint32_t version;          /*   8  1; writer                                                    */
	uint32_t slot_count;       /*  12  writer                                                       */
	uint64_t registration;     /*  16  number; writer                                               */
	uint64_t epoch;            /*  24  of the writer that made it; writer                           */
	uint64_t reserved1[4];     /*  32                                                               */
	uint32_t revoked;          /*  64  1: pins are no longer honoured; writer          PAIR 5       */
	uint32_t reserved2[15];    /*  68                                                               */
	uint64_t agent_pid;        /* 128  in the agent's namespace; agent                              */
	uint64_t agent_started_ns; /* 136  CLOCK_BOOTTIME; agent                                      */
	uint32_t agent_version;    /* 144  library version; agent                                       */
	uint32_t reserved3;        /* 148                                                               */
	char agent_name[64];       /* 152  agent; not necessarily terminated                            */
	uint64_t reserved4[37];    /* 216                                                               */
};
SHMETA_FROZEN(shmeta_slots, signature, 0);
SHMETA_FROZEN(shmeta_slots, version, 8);
SHMETA_FROZEN(shmeta_slots, slot_count, 12);
SHMETA_FROZEN(shmeta_slots, registration, 16);
SHMETA_FROZEN(shmeta_slots, epoch, 24);
SHMETA_FROZEN(shmeta_slots, revoked, 64);
SHMETA_FROZEN(shmeta_slots, agent_pid, 128);
SHMETA_FROZEN(shmeta_slots, agent_started_ns, 136);
SHMETA_FROZEN(shmeta_slots, agent_version, 144);
SHMETA_FROZEN(shmeta_slots, agent_name, 152);
SHMETA_FROZEN_SIZE(shmeta_slots, 512);

/* C(name, unit, help): one line makes the field, the column of `shmetactl readers`, and the
 * metric. */
#define SHMETA_READER_COUNTERS(C)                                                      \
	C(begins, "snapshots", "snapshots begun")                                      \
	C(retries, "snapshots", "snapshots begun anew because a commit was in flight") \
	C(found, "lookups", "lookups answered FOUND")                                  \
	C(absent, "lookups", "lookups answered by one of the ABSENT family")           \
	C(unknown, "lookups", "lookups answered UNKNOWN")                              \
	C(stale, "lookups", "answers older than their time to live")                   \
	C(errors, "lookups", "lookups answered by an error")                           \
	C(resolves, "lookups", "handles resolved through the store")                   \
	C(fresh_waits, "lookups", "lookups that waited for the writer")                \
	C(expired, "snapshots", "unregistered snapshots discarded")                    \
	C(corrupt, "blocks", "blocks whose checksum was wrong")

struct shmeta_reader_counters {
#define C(name, unit, help) uint64_t name;
	SHMETA_READER_COUNTERS(C)
#undef C
};
SHMETA_FROZEN(shmeta_reader_counters, begins, 0);
SHMETA_FROZEN(shmeta_reader_counters, retries, 8);
SHMETA_FROZEN(shmeta_reader_counters, found, 16);
SHMETA_FROZEN(shmeta_reader_counters, absent, 24);
SHMETA_FROZEN(shmeta_reader_counters, unknown, 32);
SHMETA_FROZEN(shmeta_reader_counters, stale, 40);
SHMETA_FROZEN(shmeta_reader_counters, errors, 48);
SHMETA_FROZEN(shmeta_reader_counters, resolves, 56);
SHMETA_FROZEN(shmeta_reader_counters, fresh_waits, 64);
SHMETA_FROZEN(shmeta_reader_counters, expired, 72);
SHMETA_FROZEN(shmeta_reader_counters, corrupt, 80);
SHMETA_FROZEN_SIZE(shmeta_reader_counters, 88);

struct shmeta_slot {
	uint64_t pin;          /*    0  a commit that must not be recycled; 0: none           PAIR 1      */
	uint64_t generation;   /*    8  the generation the pin speaks of; set while pin is 0              */
	uint32_t in_use;       /*   16  1: a reader owns the slot                                         */
	uint32_t reserved1;    /*   20                                                                    */
	uint64_t reserved2[5]; /* 24                                                                    */
	struct shmeta_reader_counters counters;       /*   64                                           */
	uint64_t reserved3[5];                        /*  152                                           */
	uint64_t histogram[SHMETA_HISTOGRAM_BUCKETS]; /*  192  sampled lookups, log-linear              */
	uint64_t sample[SHMETA_SAMPLES]; /*  704  topic_id << 32 | partition of samples; the writer takes them: 0 */
	uint64_t reserved4[24];          /*  832                                           */
};
SHMETA_FROZEN(shmeta_slot, pin, 0);
SHMETA_FROZEN(shmeta_slot, generation, 8);
SHMETA_FROZEN(shmeta_slot, in_use, 16);
SHMETA_FROZEN(shmeta_slot, counters, 64);
SHMETA_FROZEN(shmeta_slot, histogram, 192);
SHMETA_FROZEN(shmeta_slot, sample, 704);
SHMETA_FROZEN_SIZE(shmeta_slot, SHMETA_SLOT_BYTES);

static inline void shmeta__counters_add(struct shmeta_reader_counters *sum, const struct shmeta_reader_counters *more)
{
#define C(name, unit, help) sum->name += more->name;
	SHMETA_READER_COUNTERS(C)
#undef C
}

static inline uint64_t shmeta__slots_bytes(uint32_t slot_count)
{
	return SHMETA_SLOTS_HEADER + (uint64_t)slot_count * SHMETA_SLOT_BYTES;
}
static inline struct shmeta_slot *shmeta__slot(void *page, uint32_t i)
{
	return (struct shmeta_slot *)((char *)page + SHMETA_SLOTS_HEADER) + i;
}

#endif
