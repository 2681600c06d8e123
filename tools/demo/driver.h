/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: what the files of the driver share; demo.h is for its reader processes, too. */
#ifndef SHMETA_TOOLS_DEMO_DRIVER_H
#define SHMETA_TOOLS_DEMO_DRIVER_H

#include <sys/types.h>

#include "tools/demo/demo.h"

struct demo_size {
	uint32_t topics, partitions, segments;
};

extern struct demo_driver {
	struct demo_size size;
	struct demo_shared *shared;
	char work[PATH_MAX], bin[PATH_MAX]; /* the directory of this run, and that of the
                                             * programs */
	pid_t writer, readers[READERS];     /* 0: none */
	struct shmeta *look;                /* the driver's own view, unregistered */
	bool color, terminal;
} driver;

/* ---- demo_text.c ---- */

const char *demo_bold(const char *text);
/* 1 000 000, in one of a few static buffers. */
const char *demo_number(uint64_t value);
void demo_title(const char *text);
__attribute__((format(printf, 2, 3))) void demo_fact(const char *name, const char *fmt, ...);

/* ---- demo_process.c ---- */

void demo_catch_signals(void);
void demo_end_process(pid_t *pid, int signo);
/* Ends all processes, and removes the directory. */
void demo_clean_up(void);
/* Says why, cleans up and exits. */
__attribute__((format(printf, 1, 2), noreturn)) void demo_give_up(const char *fmt, ...);
/* Cleans up and exits if a signal came. */
void demo_check_interrupted(void);
void demo_pause_ms(long ms);
/* Start argv[0] (beside this program, or on the PATH when it is a plain name that is not). out, in:
 * -1 or descriptors for it. */
pid_t demo_start(char *const argv[], int in, int out, int err);
/* Waits for it; returns its exit status. */
int demo_finish(pid_t pid);
/* Run it, its output indented below a line that names it. Returns the exit status; *keep (may be
 * NULL) gets the output. */
int demo_show(char *const argv[], bool quiet, char *keep, size_t keep_bytes);
/* Gives up if a reader has ended. */
void demo_reap_readers(void);
/* The first one may show its progress on our terminal; what it says later goes to a log that is
 * shown when something fails. */
void demo_start_writer(bool first);
/* Wait until a writer with a later epoch serves; returns its epoch. */
uint64_t demo_wait_until_serving(uint64_t epoch);
void demo_start_shell(void);
/* Run a statement or several and wait for the shell to have done so. */
__attribute__((format(printf, 1, 2))) void demo_sql(const char *fmt, ...);

/* ---- demo_changes.c ---- */

/* A partition of a topic that is not changing. */
struct demo_partition *demo_pick(uint64_t *seed);
/* count segments of 1 000 records at the end of a partition, and its high watermark behind them, in
 * one transaction; the probe is the last of them. Returns when it began, for demo_change_end(). */
uint64_t demo_add_segments(struct demo_partition *p, unsigned count, bool announce);
/* Wait until all readers saw it, and note how long after `from_ns` that was. */
void demo_change_end(const char *what, uint64_t from_ns);
void demo_move_watermark(struct demo_partition *p);
void demo_create_topic(void);
void demo_delete_topic(struct demo_partition *p);
/* The two that had to wait for something else, an idle poll or a start, are named; of the others
 * the median and the slowest. False: one was not seen. */
bool demo_show_changes(void);

/* ---- demo_setup.c ---- */

void demo_make_work(void);
/* Returns the bytes of the file. */
uint64_t demo_generate(void);
/* What the readers look up: every partition of the file. */
void demo_map_shared(void);
void demo_start_readers(void);

#endif
