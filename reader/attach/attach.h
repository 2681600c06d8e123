/* SPDX-License-Identifier: Apache-2.0
 * attach/: how a process comes to an instance, and what it holds of it.
 *
 *   struct shmeta          one shmeta_open(): tenant, options, last error; owns a reference to a
 *                          core
 *     struct core          one instance directory, shared by every open of it in the process: the
 *                          board's mapping, the current generation, the registration, one idle
 *                          connection
 *       struct env         one mapped generation: its data.mdb and its generation page
 *       struct membership  one registration page, and the connection that proves the reader alive
 *
 * Layers, bottom up: reader_clock.c, relax.c, denied.c, socket.c; env.c, registration.c; core.c,
 * fork.c; instance.c.
 *
 * Locks: core->lock is held while files are opened; shmeta_begin() only tries it, and goes on with
 * what it has when another thread holds it. All others (of the registry of cores, of an instance,
 * of its last error, of the idle connection) are held for a few loads and stores and never over a
 * system call. So nothing between shmeta_begin() and shmeta_end() waits for another thread. */
#ifndef SHMETA_READER_ATTACH_ATTACH_H
#define SHMETA_READER_ATTACH_ATTACH_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "include/shmeta.h"
#include "shm/page/board.h"
#include "shm/page/journal.h"
#include "shm/page/slots.h"
#include "shm/page/touch.h"
#include "shm/record/key.h"
#include "shm/tree/tree.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum { MILLION = 1000000, THREADS_DEFAULT = 64, THREADS_MAX = 1024, PATH_BYTES = 4096 };

/* ---- clocks (reader_clock.c) ---- */

uint64_t shmeta__monotonic_ns(void);
uint64_t shmeta__deadline_of(uint32_t timeout_ms); /* CLOCK_MONOTONIC */
uint32_t shmeta__left_ms(uint64_t deadline_ns);    /* at least 1: 0 stands for no deadline */

/* Clocks of one machine differ by less. A stamp that is further ahead comes from another time
 * namespace, or is damaged. */
#define AHEAD_NS (1000 * MILLION)

/* Time passed since then; UINT64_MAX when then lies ahead, so that there is no age. */
static inline uint64_t shmeta__age(uint64_t now, uint64_t then)
{
	return likely(now >= then) ? now - then : then - now > AHEAD_NS ? UINT64_MAX : 0;
}

/* The offset from CLOCK_MONOTONIC to CLOCK_BOOTTIME: the writer's, or this process's when that is
 * larger, because the machine has slept since the writer stored its own. */
int64_t shmeta__boot_offset_at_least(int64_t said);
/* The writer's CLOCK_BOOTTIME, now. */
uint64_t shmeta__board_now_ns(const struct shmeta_board *board);
struct core;
/* CLOCK_BOOTTIME as the writer's stamps count it: never ahead of it, as the offset only grows, by
 * suspends. */
uint64_t shmeta__writer_now_ns(const struct core *core);
/* ---- pausing (relax.c) ---- */

/* Pause for some nanoseconds, the longer the more tries there were; at most a microsecond or
 * two. */
void shmeta__relax(unsigned tries);
/* ---- sockets and descriptors (socket.c) ---- */

/* Sockets of the writer. CLOEXEC, non-blocking, peer checked. until_ns (shmeta__monotonic_ns()):
 * how long to wait while its backlog is full; 0: not at all. ERR_WRITER_AWAY, ERR_DENIED, ERR_BUSY
 * (it is still full). */
enum shmeta_status shmeta__control_connect(const struct core *core, uint64_t until_ns, int *ret_fd,
                                           struct shmeta_err *err);
/* 1: the descriptor is still the one that was noted. The host may have closed it, and its number
 * may be in use again. */
void shmeta__fd_note(int fd, uint64_t *ret_dev, uint64_t *ret_ino);
int shmeta__fd_is(int fd, uint64_t dev, uint64_t ino);

/* ---- errors about files (denied.c) ---- */

enum shmeta_status shmeta__permission_error(struct shmeta_err *err, const char *path, const char *what);

/* ---- one mapped generation (env.c) ---- */

struct env {
	uint32_t refs;
	uint32_t other_boot;  /* 1: published before this boot; its stamps mean nothing */
	uint32_t loaded_anew; /* 1: this process had one of another lineage before, whose commits
                              * were counted otherwise */
	uint64_t generation;
	uint64_t grace_half_ns;
	const struct shmeta_generation *gen;
	size_t gen_bytes;
	const uint64_t *touched;
	const struct shmeta_journal *journal; /* NULL: there is none */
	uint64_t first_generation;            /* since which commits count on */
	uint64_t lineage;                     /* the same in a generation that was copied from
                                               * another; topic ids mean the same in both */
	const uint8_t *data;                  /* data.mdb, mapped to its largest size: struct view
                                               * says how much of it is there */
	uint64_t map_bytes;
	struct shmeta__verified *verified; /* of all its readers; NULL: no memory */
};

/* What one commit shows. */
struct view {
	struct shmeta__pages pages; /* bytes: what the commit has in use; the file holds all of
                                     * it */
	struct shmeta__tree databases;
	uint32_t opened; /* bits: which of db[] have been found */
	struct shmeta__tree db[SHMETA_DB_COUNT];
};

enum shmeta_status shmeta__env_open(const char *directory, uint64_t generation, uid_t owner, struct env **ret,
                                    struct shmeta_err *err);
struct env *shmeta__env_ref(struct env *env);
void shmeta__env_unref(struct env *env); /* accepts NULL */
/* Make the view show commit txn, the newest or the one before it. ERR_CORRUPT: no meta page shows
 * it; while it is being replaced by a later one that is no damage. */
enum shmeta_status shmeta__env_show(const struct env *env, uint64_t txn, struct view *ret, struct shmeta_err *err);
/* OK, ABSENT, ERR_CORRUPT. */
enum shmeta_status shmeta__view_get(struct view *view, enum shmeta_db db, const void *key, size_t key_bytes,
                                    const void **ret_value, size_t *ret_bytes);
/* The first entry at or behind key (key NULL: the one behind place), of a database whose values are
 * not sealed. OK, END, ERR_CORRUPT. */
enum shmeta_status shmeta__view_walk(struct view *view, enum shmeta_db db, const void *key, size_t key_bytes,
                                     struct shmeta__tree_place *place, struct shmeta__tree_entry *ret);

/* ---- registration (registration.c) ---- */

struct membership {
	uint32_t refs;
	uint32_t slot_count;
	uint32_t asked; /* slots that were wanted; the writer may give fewer */
	int fd;         /* its being open is the sign of life; -1: none */
	uint64_t fd_dev, fd_ino;
	struct shmeta_slots *page;
	size_t page_bytes;                     /* with the touch map behind the slots, if there is
                                                * one */
	struct touch_view touch;               /* marks nothing where there is none */
	uint64_t taken[SHMETA_SLOTS_MAX / 64]; /* bits are set under core->lock, cleared without */
};

/* Under core->lock. Advance the registration by at most one step; does not block. now_ns: any
 * monotonic clock. */
void shmeta__registration_step(struct core *core, uint64_t now_ns);
/* Under core->lock. Take a slot of the current registration page: the page, referenced; NULL when
 * no slot is free. */
struct membership *shmeta__registration_join(struct core *core, uint32_t *ret_slot);
/* Gives the slot back and unrefs. */
void shmeta__registration_leave(struct membership *membership, struct shmeta_slot *slot);
/* Under core->lock: drop the current registration and the pending one. */
void shmeta__registration_drop(struct core *core);
/* In a forked child, without a lock: close the copies of descriptors, so that the writer sees the
 * parent's death when it comes. */
void shmeta__membership_close(struct membership *membership); /* accepts NULL */
void shmeta__registration_close(struct core *core);

/* ---- one instance directory (core.c) ---- */

/* An idle connection for requests; fd -1: none. */
struct idle_connection {
	int fd;
	uint64_t dev, ino;
};

struct core {
	struct core *next;
	uint32_t refs;     /* falls to 0 under cores_lock only */
	uint64_t dev, ino; /* of the board */
	uid_t owner;
	char *directory, *board_path; /* absolute */
	const struct shmeta_board *board;
	char agent[64];

	pthread_mutex_t lock;
	struct env *env;  /* the newest generation that was opened, or NULL */
	uint32_t threads; /* slots that all opens together want; atomic */
	struct membership *membership;
	uint64_t membership_epoch; /* board->epoch when its connection was last known to be alive */
	int pending_fd;            /* a REGISTER was sent on it; -1: none */
	uint64_t pending_dev, pending_ino, pending_id, pending_until_ns;
	uint32_t pending_asked;
	uint64_t backoff_ns;
	uint64_t next_step_ns;
	uint64_t next_look_ns;     /* when to look for a replaced board again; read without the
                                    * lock */
	uint32_t cache_bytes;      /* spent by the readers' caches, see shmeta__cache_grant() */
	pthread_mutex_t idle_lock; /* for idle, and for nothing that takes time */
	struct idle_connection idle;
};

enum shmeta_status shmeta__core_open(const char *directory, const char *agent, uint32_t threads, struct core **ret,
                                     struct shmeta_err *err);
void shmeta__core_unref(struct core *core, uint32_t threads);
struct core *shmeta__core_ref(struct core *core, uint32_t threads);
/* In a forked child: nothing that the registry inherited counts. For shmeta__fork_token(). */
void shmeta__core_forget_all(void);
/* In a forked child: close the copies of its descriptors. */
void shmeta__core_close_inherited(struct core *core);
/* The current generation, referenced. wait: 0: ERR_BUSY instead of waiting for another thread that
 * is opening it. UNKNOWN when nothing was published. */
enum shmeta_status shmeta__core_env(struct core *core, int wait, struct env **ret, struct shmeta_err *err);
/* The lineage of the generation that was opened last; 0: there is none. */
uint64_t shmeta__core_lineage(struct core *core);
/* 1: the board's path now leads to another file. */
int shmeta__core_was_replaced(const struct core *core);
/* 1: the heartbeat has stopped, and that is so. Looks at most once a second. */
int shmeta__core_is_abandoned(struct core *core);
/* Caches are bounded per process: 1 when bytes more may be spent. */
int shmeta__cache_grant(struct core *core, uint32_t bytes);
void shmeta__cache_return(struct core *core, uint32_t bytes);

/* ---- fork (fork.c) ---- */

/* *word equals *token in the process that called this, and in none that it forks. forget(): called
 * once in a child, before its first token is given out. */
enum shmeta_status shmeta__fork_token(void (*forget)(void), const uint64_t **ret_word, uint64_t *ret_token,
                                      struct shmeta_err *err);

/* ---- one shmeta_open() (instance.c) ---- */

/* A reader, as its instance sees it. */
struct attached {
	struct attached *next, **link; /* the instance's readers, under its lock */
	uint32_t attention;            /* 1: begin must take the slow way; atomic */
};

struct shmeta {
	const uint64_t *fork_word;
	uint64_t fork_token;
	uint32_t refs; /* the caller's and its readers' */
	uint32_t flags;
	uint32_t threads;
	uint32_t reader_count;
	struct attached *readers;
	struct core *core;  /* under lock */
	uint32_t no_tenant; /* 1: the tenant that was asked for cannot exist; tenant is empty */
	size_t tenant_bytes;
	char tenant[SHMETA_TENANT_MAX + 1];
	char agent[64];
	pthread_mutex_t lock; /* for the fields above; like err_lock never held over a system
                               * call */
	pthread_mutex_t err_lock;
	struct shmeta_err err; /* under err_lock */
};

/* What the fork word of a handle or iterator points at once its reader was freed: equals no token
 * of 0. */
extern const uint64_t shmeta__detached_word;

static inline int shmeta__forked(const struct shmeta *instance)
{
	return shmeta_peek(instance->fork_word) != instance->fork_token;
}
/* Keep err as the instance's last error; returns its code. */
enum shmeta_status shmeta__instance_fail(struct shmeta *instance, const struct shmeta_err *err);
/* Requests to the writer name a tenant: OK, or ERR_INVALID_ARGUMENT when there can be none such. */
enum shmeta_status shmeta__instance_tenant(const struct shmeta *instance, struct shmeta_err *err);
/* referenced; shmeta__core_unref(core, 0) */
struct core *shmeta__instance_core(struct shmeta *instance);
/* The path of the board of `from` leads elsewhere: open what is there now, and have the readers
 * follow at their next begin. The instance's core, referenced, as above; `from` when that cannot be
 * opened: the last error says why. */
struct core *shmeta__instance_follow(struct shmeta *instance, struct core *from);
/* The core that shows what a writer answered who was asked through this one, whose reference it
 * takes over. ERR_WRITER_AWAY, and NULL: it cannot be opened. */
enum shmeta_status shmeta__instance_answered(struct shmeta *instance, struct core **core, struct shmeta_err *err);
/* core: it reads from */
void shmeta__instance_add(struct shmeta *instance, struct attached *reader, const struct core *core);
/* and no longer counts it */
void shmeta__instance_remove(struct shmeta *instance, struct attached *reader);
void shmeta__instance_ref(struct shmeta *instance);
/* In a forked child it also closes the copies of descriptors. */
void shmeta__instance_unref(struct shmeta *instance);

#endif
