/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: what the driver and its reader processes share. One anonymous mapping, made before
 * the readers are forked; every word that moves is atomic. */
#ifndef SHMETA_TOOLS_DEMO_DEMO_H
#define SHMETA_TOOLS_DEMO_DEMO_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "include/shmeta.h"

enum { READERS = 4, BUCKETS = 512, NAME_BYTES = SHMETA_NAME_MAX + 1 };

struct demo_topic {
	char name[NAME_BYTES];
	_Atomic uint32_t changing; /* 1: a change of it is under way, so that source and cache may
                                    * differ for a moment */
};

struct demo_partition {
	uint32_t topic; /* index */
	uint32_t id;
	_Atomic uint64_t high_watermark;
};

enum probe_kind {
	PROBE_FIND,      /* the segment that holds `offset`: AT_END before, [offset, value] after */
	PROBE_WATERMARK, /* the partition's high watermark: `before`, then `value` */
	PROBE_APPEARS,   /* the topic's partition `partition`: ABSENT before, FOUND after */
	PROBE_VANISHES   /* the topic: FOUND before, ABSENT after */
};

/* The change that is being made. Its answer may be the old one until it is the new one, and never
 * again the old one; any other answer is wrong. */
struct demo_probe {
	enum probe_kind kind;
	char topic[NAME_BYTES];
	uint32_t partition;
	uint64_t offset, before, value;
};

/* What one reader process counted. On lines of its own. */
struct demo_reader {
	_Alignas(64) _Atomic uint64_t lookups;
	_Atomic uint64_t compared, wrong, failed, expired, contended, found, absent, skipped;
	_Atomic uint64_t seen_probe; /* number of the last probe that it saw answered with the new
                                      * value */
	_Atomic uint64_t seen_at_ns; /* CLOCK_MONOTONIC, of that */
	_Atomic uint64_t ready;      /* 1: registered and looking up */
	_Atomic uint64_t histogram[BUCKETS];
	char first_trouble[512]; /* written once, by the first wrong or failed answer */
};

struct demo_shared {
	_Atomic uint32_t stop;
	_Atomic uint64_t probe_number; /* odd numbers 1, 3, ...: probe is set; even: none */
	struct demo_probe probe;
	struct demo_reader reader[READERS];
	char database[PATH_MAX + 16], instance[PATH_MAX + 16];
	uint32_t topic_count, partition_count;
	struct demo_topic *topic;         /* in the mapping */
	struct demo_partition *partition; /* in the mapping */
};

/* A reader process. Never returns. */
_Noreturn void demo_read(struct demo_shared *shared, uint32_t number);

/* Where a bucket of the histogram begins; log-linear: 8 buckets a power of two. */
uint64_t demo_bucket_ns(uint32_t bucket);
uint64_t demo_now_ns(void);

/* demo_sql.c */
uint64_t demo_random(uint64_t *seed);
/* The segment of a random offset by a prepared statement, for so long, in this one process: lookups
 * a second; 0: it failed. */
uint64_t demo_measure_sql(const struct demo_shared *shared, unsigned ms);

#endif
