/* SPDX-License-Identifier: Apache-2.0
 * A real shmetad on a temporary directory, started and ended by a test. Nothing here asserts inside
 * a child. */
#ifndef SHMETA_TESTS_SUPPORT_RUN_DAEMON_H
#define SHMETA_TESTS_SUPPORT_RUN_DAEMON_H

#include <stdint.h>
#include <sys/types.h>

#include "include/shmeta.h"

struct run_daemon {
	char dir[64];      /* of scratch.h                                */
	char instance[96]; /* dir/instance: --dir                         */
	char db[96];       /* dir/source.db                               */
	char log[96];      /* dir/log: what the daemon printed            */
	char config[96];   /* dir/shmeta.conf: empty unless the test wrote it */
	pid_t pid;         /* 0: not running                              */
	int existing;      /* without --create: the source must be there  */
	uid_t user;        /* who it runs as; 0: as the test does         */
};

/* Make the directory. Returns 0. */
int run_daemon_init(struct run_daemon *d);
/* Write its configuration file: `text` and then `more`. Returns 0. */
int run_daemon_configure(const struct run_daemon *d, const char *text, const char *more);
/* Start build/bin/shmetad --config, --dir, --create and --source (NULL: sqlite:db) and wait until
 * it serves (at most 20 s, in make faults 300 s). 0, or -1 after printing its log. */
int run_daemon_start(struct run_daemon *d, const char *source);
/* The same without waiting. */
int run_daemon_spawn(struct run_daemon *d, const char *source);
/* Wait until the board says that another writer than that of `epoch` serves. 0 or -1. */
int run_daemon_wait(struct run_daemon *d, uint64_t epoch);
uint64_t run_daemon_epoch(const struct run_daemon *d); /* 0: no board */
/* Signal it and reap it; its wait status, -1 when it was not running. */
int run_daemon_end(struct run_daemon *d, int signo);
/* Empty the instance directory of a daemon that does not run: the next one finds nothing of a
 * former one. */
void run_daemon_forget(struct run_daemon *d);
/* End it if it runs, remove the directory. */
void run_daemon_done(struct run_daemon *d);

/* Run SQL on the source. 0 or -1 (printed). */
int run_daemon_sql(struct run_daemon *d, const char *sql);

/* Open the instance. Returns NULL after printing the sentence. */
struct shmeta *run_daemon_open(const struct run_daemon *d, const char *agent, uint32_t flags);
/* A reader that has been registered (at most 10 s), or NULL. */
struct shmeta_reader *run_daemon_reader(struct shmeta *instance);
/* Begin, trying again while a commit is in flight. */
enum shmeta_status run_daemon_begin(struct shmeta_reader *reader);

/* Give up root for user, who stays in root's group, which may read the store, and joins the one
 * that may connect to the daemon (group shmeta, where the host has one) and `also`. For a child. 0
 * or -1. */
int run_daemon_become(const struct run_daemon *d, uid_t user, gid_t also);

/* Fork a child that dies with its parent. As fork(). */
pid_t run_fork(void);
/* Reap it; its exit status, 128 + signal when it was killed. */
int run_reap(pid_t pid);

double run_now_s(void);
/* How often a test repeats what it does: `usual` in make test, `full` in make faults. */
uint32_t run_rounds(uint32_t usual, uint32_t full);

#endif
