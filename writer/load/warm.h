/* SPDX-License-Identifier: Apache-2.0
 * The snapshot file: all rows of the store with the feed's position, written now and then and at a
 * clean stop, read by a start that finds no store. Owns: when it is written, and the rows that it
 * has. docs/LAYOUT.md has the format. */
#ifndef SHMETA_WRITER_LOAD_WARM_H
#define SHMETA_WRITER_LOAD_WARM_H

#include <stdbool.h>
#include <stdint.h>

struct sync;
struct sync_counters;

/* In this order: BEGIN, POSITION as often as there are pieces of it, each topic with its partitions
 * with their segments, the other classes, END. */
enum warm_kind {
	WARM_BEGIN = 1,
	WARM_POSITION,
	WARM_TOPIC,
	WARM_PARTITION,
	WARM_SEGMENT,
	WARM_AGENT,
	WARM_GROUP,
	WARM_OFFSET,
	WARM_LEASE,
	WARM_QUARANTINED,
	WARM_END
};

/* In the row WARM_BEGIN, before the name of the source and the bytes of the position. */
struct warm_begin {
	uint64_t fingerprint;     /*   0  of the source, as struct shmeta_store_format      */
	uint64_t boottime_ns;     /*   8  when the first row was read ...                   */
	int64_t wall_ms;          /*  16  ... and by the wall clock                         */
	uint8_t boot_id[16];      /*  24                                                    */
	uint64_t synced_at_ns[8]; /*  40  by class, CLOCK_BOOTTIME of that boot; 0: never   */
};

/* All of them on the engine's thread, and without effect where no file is configured. */

/* Have a store from the file where there is none. What fails is logged, and there is none. */
void warm_load(struct sync *s);
/* warm.interval was configured anew: it counts from now on. */
void warm_interval_anew(struct sync *s);
/* When it is to be written next; SYNC_NEVER. */
uint64_t warm_when(struct sync *s);
/* Write it if it is time and the store was changed since; meanwhile as for warm_save_rows(). The
 * file is synced by a thread of its own. What fails is logged, and the former file stays. */
void warm_run(struct sync *s, bool (*meanwhile)(struct sync *s));
/* At a clean stop: write it now. Blocks until the file is synced. */
void warm_stop(struct sync *s);
/* Waits for the thread, if there is one. */
void warm_free(struct sync *s);
/* The file's age, as the counter has it. */
void warm_count(struct sync *s, struct sync_counters *ret);

#endif
