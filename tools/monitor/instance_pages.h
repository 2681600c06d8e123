/* SPDX-License-Identifier: Apache-2.0
 * An instance as any program of the host sees it: the board, the generation page and the stats
 * page, copied and judged, with the writer alive, stopped or dead. Owns: the rules by which a
 * writer counts as alive. Nothing here prints, writes or asks the writer. */
#ifndef SHMETA_TOOLS_MONITOR_INSTANCE_PAGES_H
#define SHMETA_TOOLS_MONITOR_INSTANCE_PAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"
#include "shm/page/board.h"
#include "shm/page/last_start.h"
#include "shm/page/stats_page.h"

enum liveness {
	WRITER_ALIVE,
	WRITER_STALLED, /* the process is there, and its heart has not beaten for 5 s: stopped, or
                         * hung */
	WRITER_DEAD
};

/* How the memory of the instance directory is given. */
struct pages_memory {
	bool wants_huge;     /* its mount asks for huge pages */
	uint64_t huge_bytes; /* that the machine's shared memory has got */
};

struct pages {
	int dir_fd;
	struct shmeta_board board;           /* copies, judged */
	struct shmeta_generation generation; /* zeroed when nothing was published yet */
	struct shmeta_stats *stats;          /* a copy; NULL when there is none (stats_error says
                                              * why) */
	struct shmeta_err stats_error;
	struct pages_memory memory;
	uint64_t now_ns;
	enum liveness liveness;
	bool same_boot, alive, published;
	bool start_failed; /* the writer is gone, and a start after it failed: last_start says when
                            * and why */
	struct shmeta_last_start last_start;
	const struct shmeta_generation *live; /* the mapping */
	const struct shmeta_board *live_board;
};
/* OK, or why it cannot be looked at, with a sentence about the file ret_name ("": the directory
 * itself): ERR_NOT_RUNNING, ERR_PERMISSION, ERR_VERSION, ERR_CORRUPT, ERR_SYSTEM. Also then
 * pages_close() is called. Takes no lock and does not wait, but for a bounded number of tries to
 * copy the stats page. */
enum { PAGES_NAME_BYTES = 64 };
enum shmeta_status pages_read(const char *dir, struct pages *ret, char ret_name[PAGES_NAME_BYTES],
                              struct shmeta_err *err);
void pages_close(struct pages *pages);
/* What /proc/self/mountinfo and /proc/meminfo say, of the device of the directory. Takes both. */
void pages_read_memory(FILE *mounts, FILE *meminfo, dev_t device, struct pages_memory *ret);
const char *pages_writer(const struct pages *pages); /* "alive", "stalled", "stopped" or "dead" */
/* The service of the instance of that name, or in that directory, as the units name it. "UNIT"
 * where the directory is none of those that the units make: another service, or none, runs it, and
 * ours is another instance's. */
enum { UNIT_BYTES = 80 };
const char *pages_unit(const char *instance, char ret[UNIT_BYTES]);
const char *pages_unit_of(const char *dir, char ret[UNIT_BYTES]);
/* The name of an instance whose directory our units make, below /run/shmeta, however it is spelled;
 * false: it is none of them. */
bool pages_name_of(const char *dir, char ret[UNIT_BYTES]);
const char *pages_phase(uint32_t phase);
const char *pages_class(enum shmeta_class cls);
const char *pages_version(uint32_t version, char ret[24]); /* "0.1.0" */
/* now - then; UINT64_MAX when then is 0 (never). */
uint64_t pages_since(uint64_t now_ns, uint64_t then_ns);
/* A counter of the writer; UINT64_MAX: there is none, or no stats page. */
uint64_t pages_counter(const struct pages *pages, enum shmeta_counter counter);
/* The same; 0 where an older writer does not have it: then there is nothing to complain of. */
uint64_t pages_count(const struct pages *pages, enum shmeta_counter counter);

#endif
