/* SPDX-License-Identifier: Apache-2.0
 * A process that reads what was seeded, from the first moment of a test to the last: none of its
 * reads may fail. In `make faults` as fast as it can, otherwise with pauses. */
#ifndef SHMETA_TESTS_SUPPORT_RUN_READS_H
#define SHMETA_TESTS_SUPPORT_RUN_READS_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "include/shmeta.h"
#include "tests/support/run_daemon.h"

enum { RUN_READS_TOPICS = 4, RUN_READS_PARTITIONS = 2, RUN_READS_SEGMENTS = 200, RUN_READS_PATIENCE_S = 40 };

/* SQL (PostgreSQL's) that seeds it: topic-0 to topic-3, each with 2 partitions of 200 segments of
 * 10 offsets. */
extern const char run_reads_seed[];

/* What the reading process tells. */
struct run_reads_told {
	_Atomic uint64_t done, failed;
	_Atomic int stop, first;
};

struct run_reads {
	struct run_reads_told *told;
	pid_t pid; /* 0: not running */
};

/* One lookup by name, number i; 0 when it answers what was seeded. */
int run_reads_one(struct shmeta_reader *with, uint64_t i);
/* Returns when it has read. */
void run_reads_start(struct run_reads *r, const struct run_daemon *d);
/* Reads went on since this was called, and none has failed. */
void run_reads_expect(struct run_reads *r);
/* The same for the whole of it; nothing when it was not started. */
void run_reads_end(struct run_reads *r);

#endif
