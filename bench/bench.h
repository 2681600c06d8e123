/* SPDX-License-Identifier: Apache-2.0
 * shmeta-bench: every figure of docs/benchmarks.md, measured in one run on one machine.
 *
 * A figure is the median of its rounds; the rounds of all figures of a group are interleaved (A B C
 * A B C ...), and a ratio is taken within a round before the median is, so that a machine whose
 * speed drifts does not decide a verdict. */
#ifndef SHMETA_BENCH_BENCH_H
#define SHMETA_BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "include/shmeta.h"

enum { MAX_ROUNDS = 15, MAX_RESULTS = 256, HOT_PARTITIONS = 64 };

/* What was generated, and what every figure runs on. */
struct bench {
	char dir[256];      /* work directory, removed at the end */
	char db[320];       /* the SQLite source                  */
	char instance[320]; /* the instance directory             */
	char bin[256];      /* where shmetad and shmeta-gen are   */
	pid_t daemon;
	bool quick;
	int rounds;
	uint32_t topics, partitions; /* asked for: topics in all, partitions in all */
	uint64_t segments;
	uint64_t seed;
	const char *plot; /* NULL, or where the curves of the policies go */
	/* The flat copy of the data: what a lookup must answer. */
	struct part {
		char topic[64];
		uint32_t partition_id, first, count;
		uint64_t high_watermark;
	} * parts;
	uint32_t part_count;
	struct flat_row {
		uint64_t base, end;
		uint64_t size_bytes;
		int64_t created_at_ms;
		uint32_t record_count;
		uint32_t reserved;
	} * rows;
	uint64_t *bases; /* dense, parallel to rows */
	uint64_t row_count;
};

/* One figure. Values by round; cpu: the same in processor time of the measuring thread, where that
 * says something. */
struct result {
	char name[64];
	const char *unit;
	double value[MAX_ROUNDS], cpu[MAX_ROUNDS];
	int rounds, cpu_rounds;
	char target[160];
	int pass; /* 1, 0, -1: no target, -2: not measured */
	char note[128];
};

struct result *result_get(const char *name); /* NULL: not measured */
struct result *result_add(const char *name, const char *unit);
void result_value(struct result *r, double value);
void result_cpu(struct result *r, double cpu); /* of the round whose value was given last */
void result_missing(const char *name, const char *unit, const char *why);
double result_median(const struct result *r);

/* Verdicts. Several on one figure must all hold. factor * other is compared round by round when
 * both have the same rounds, in processor time when both have it: what else the machine does
 * meanwhile then decides less. */
void target_max(const char *name, double limit); /* median <= limit */
void target_min(const char *name, double limit); /* median >= limit */
/* name <= factor * other */
void target_max_ratio(const char *name, double factor, const char *other);
/* name >= factor * other */
void target_min_ratio(const char *name, double factor, const char *other);

void results_print(FILE *out);
int results_json(const struct bench *b, const char *path);

/* An offset that lies in the row and in no row with a larger base (the data has a few overlaps). */
uint64_t offset_in(const struct bench *b, const struct part *p, uint64_t row, uint64_t *seed);

/* Clocks and random numbers. */
double now_s(void);
double cpu_s(void); /* of this thread */

/* What one thread took for a number of lookups. */
struct span {
	double wall_s, cpu_s;
};
struct span span_begin(void);
void span_end(const char *name, struct span begun,
              double lookups); /* nanoseconds a lookup, a round of the figure; NULL: of none */

uint64_t rng(uint64_t *state);
/* Keeps a value alive against the optimiser. */
static inline void keep(const void *p)
{
	__asm__ volatile("" : : "g"(p) : "memory");
}

/* Stop with a sentence and status 1; children and files are cleaned up. */
_Noreturn __attribute__((format(printf, 1, 2))) void die(const char *fmt, ...);

/* bench_env.c: data, daemon, children */
void env_init(struct bench *b);
void env_generate(const struct bench *b, const char *db, uint32_t topics, uint32_t partitions, uint64_t segments);
void env_read_flat(struct bench *b);
/* source: a uri, or the path of a SQLite file. extra: lines of configuration. Returns once it
 * serves; ret_ready_s: after how long. */
pid_t env_start_daemon(const struct bench *b, const char *source, const char *instance, const char *extra,
                       double *ret_ready_s);
pid_t env_spawn(char *const argv[], const char *log);
void env_track(pid_t pid); /* kill it by its id when the bench ends; or end it with another
                            * signal */
void env_track_to_end(pid_t pid, int signo);
void env_pin(void);      /* this thread stays on the processor it is on; children do not */
void env_unpin(void);    /* back to where it may run by right */
int env_wait(pid_t pid); /* until it has ended: its wait status */
void env_kill(pid_t *pid, int signo);
struct shmeta *env_open(const char *instance);
struct shmeta_reader *env_reader(struct shmeta *instance);
uint64_t env_counter(const char *instance, const char *name); /* from the stats page */
/* until the page was written after now */
void env_wait_stats(const char *instance);
void env_remove(const char *dir); /* with all that is in it */
void env_cleanup(void);

/* The groups of figures. */
void bench_reads(struct bench *b);
void bench_names(struct bench *b);
void bench_scale(struct bench *b);
void bench_peers(struct bench *b);
void bench_source(struct bench *b);
void bench_growth(struct bench *b);
void bench_writes(struct bench *b);
void bench_postgres(struct bench *b);
void bench_dynamodb(struct bench *b);
void bench_policy(struct bench *b);
void bench_refresh(struct bench *b);
void bench_bounded(struct bench *b); /* what a bounded store keeps, and what a hit and a miss
                                      * cost */
void bench_agents(struct bench *b);  /* renewing, asking, planning, waiting */
void bench_journal(struct bench *b); /* commits with the change journal and without */

#endif
