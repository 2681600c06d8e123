/* SPDX-License-Identifier: Apache-2.0
 * What the files of the library share.
 *
 *   struct shmeta          one shmeta_open(): tenant, options, last error
 *     struct core          one instance directory, shared by every open of it: board, current generation, registration
 *       struct env         one mapped generation: its data.mdb and its generation page
 *       struct membership  one registration page
 *     struct shmeta_reader holds its own references to an env and a membership, so that a lookup follows no shared pointer
 *
 * Nothing on the way from shmeta_begin() to shmeta_end() waits for another thread. core->lock is held while files are opened: begin only
 * tries it, and goes on with what it has when another thread is at it. All other locks (of the registry of cores, of an instance, of
 * its last error, of the idle connection) are held for a few loads and stores and never over a system call. */
#ifndef SHMETA_READER_INTERNAL_H
#define SHMETA_READER_INTERNAL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "include/shmeta.h"
#include "shm/index/part.h"
#include "shm/page/board.h"
#include "shm/page/slots.h"
#include "shm/record/key.h"
#include "shm/record/record.h"
#include "shm/tree/tree.h"
#include "shm/wire/wire.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum { MILLION = 1000000, THREADS_DEFAULT = 64, THREADS_MAX = 1024, PATH_BYTES = 4096 };

/* ---- one mapped generation (env.c) ------------------------------------------------------------------------------------- */

struct env {
	uint32_t refs;
	uint32_t other_boot; /* 1: published before this boot; its stamps mean nothing */
	uint64_t generation;
	uint64_t grace_half_ns;
	const struct shmeta_generation *gen;
	size_t gen_bytes;
	const uint64_t *touched;
	uint64_t lineage; /* the same in a generation that was copied from another; topic ids mean the same in both */
	const uint8_t *data; /* data.mdb, mapped to its largest size: struct view says how much of it is there */
	uint64_t map_bytes;
};

/* What one commit shows. */
struct view {
	struct shmeta__pages pages; /* bytes: what the commit has in use; the file holds all of it */
	struct shmeta__tree databases;
	uint32_t opened; /* bits: which of db[] have been found */
	struct shmeta__tree db[SHMETA_DB_COUNT];
};

enum shmeta_status shmeta__env_open(const char *directory, uint64_t generation, uid_t owner, struct env **ret,
                                    struct shmeta_err *err);
struct env *shmeta__env_ref(struct env *env);
void shmeta__env_unref(struct env *env); /* accepts NULL */
/* Make the view show commit txn, the newest or the one before it. ERR_CORRUPT: no meta page shows it; while it is being replaced by a
 * later one that is no damage. */
enum shmeta_status shmeta__env_show(const struct env *env, uint64_t txn, struct view *ret, struct shmeta_err *err);
/* OK, ABSENT, ERR_CORRUPT. */
enum shmeta_status shmeta__view_get(struct view *view, enum shmeta_db db, const void *key, size_t key_bytes,
                                    const void **ret_value, size_t *ret_bytes);
/* The first entry at or behind key (key NULL: the one behind place), of a database whose values are not sealed. OK, END, ERR_CORRUPT. */
enum shmeta_status shmeta__view_walk(struct view *view, enum shmeta_db db, const void *key, size_t key_bytes,
                                     struct shmeta__tree_place *place, struct shmeta__tree_entry *ret);

/* ---- registration (registration.c) ------------------------------------------------------------------------------------- */

struct membership {
	uint32_t refs;
	uint32_t slot_count;
	uint32_t asked; /* slots that were wanted; the writer may give fewer */
	int fd;         /* its being open is the sign of life; -1: none */
	uint64_t fd_dev, fd_ino;
	struct shmeta_slots *page;
	size_t page_bytes;
	uint64_t taken[SHMETA_SLOTS_MAX / 64]; /* bits are set under core->lock, cleared without */
};

struct core;
/* Under core->lock. Move the registration on by at most one step that does not block; now_ns: any monotonic clock. */
void shmeta__registration_step(struct core *core, uint64_t now_ns);
/* Under core->lock. The current one, referenced, with a slot of it; NULL when there is none to be had. */
struct membership *shmeta__registration_join(struct core *core, uint32_t *ret_slot);
/* Gives the slot back and unrefs. */
void shmeta__registration_leave(struct membership *membership, struct shmeta_slot *slot);
void shmeta__membership_unref(struct membership *membership); /* accepts NULL */
/* Under core->lock: forget what is current and what is under way. */
void shmeta__registration_drop(struct core *core);
/* In a forked child, without a lock: close the copies of descriptors, so that the writer sees the parent's death when it comes. */
void shmeta__membership_close(struct membership *membership); /* accepts NULL */
void shmeta__registration_close(struct core *core);

/* ---- one instance directory (core.c) ----------------------------------------------------------------------------------- */

/* A connection for requests that nobody uses; fd -1: none. */
struct idle_connection {
	int fd;
	uint64_t dev, ino;
};

struct core {
	struct core *next;
	uint32_t refs;     /* falls to 0 under cores_lock only */
	uint64_t dev, ino; /* of the board */
	uid_t owner;
	char *directory; /* absolute */
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
	uint64_t next_look_ns;     /* when to look for a replaced board again; read without the lock */
	uint32_t cache_bytes;      /* spent by the readers' caches, see shmeta__cache_grant() */
	pthread_mutex_t idle_lock; /* for idle, and for nothing that takes time */
	struct idle_connection idle;
};

enum shmeta_status shmeta__core_open(const char *directory, const char *agent, uint32_t threads, struct core **ret,
                                     struct shmeta_err *err);
void shmeta__core_unref(struct core *core, uint32_t threads);
struct core *shmeta__core_ref(struct core *core, uint32_t threads);
/* In a forked child: close the copies of its descriptors. */
void shmeta__core_close_inherited(struct core *core);
/* The current generation, referenced. wait: 0: ERR_BUSY instead of waiting for another thread that is opening it. UNKNOWN when
 * nothing was published. */
enum shmeta_status shmeta__core_env(struct core *core, int wait, struct env **ret, struct shmeta_err *err);
/* 1: the board's path now leads to another file. */
int shmeta__core_was_replaced(const struct core *core);
/* Caches are bounded per process: 1 when bytes more may be spent. */
int shmeta__cache_grant(struct core *core, uint32_t bytes);
void shmeta__cache_return(struct core *core, uint32_t bytes);

/* ---- fork (fork.c) ----------------------------------------------------------------------------------------------------- */

/* *word equals *token in the process that called this, and in none that it forks. */
enum shmeta_status shmeta__fork_token(const uint64_t **ret_word, uint64_t *ret_token, struct shmeta_err *err);
/* After a fork the registry is the child's own. Called by core.c under the guard of shmeta__fork_token(). */
void shmeta__core_forget_all(void);

/* ---- one shmeta_open() ------------------------------------------------------------------------------------------------- */

struct shmeta {
	const uint64_t *fork_word;
	uint64_t token;
	uint32_t refs; /* the caller's and its readers' */
	uint32_t flags;
	uint32_t threads;
	uint32_t reader_count;
	struct shmeta_reader *readers;
	struct core *core;  /* under lock */
	uint32_t no_tenant; /* 1: the tenant that was asked for cannot exist; tenant is empty */
	size_t tenant_bytes;
	char tenant[SHMETA_TENANT_MAX + 1];
	char agent[64];
	pthread_mutex_t lock; /* for the fields above; like err_lock never held over a system call */
	pthread_mutex_t err_lock;
	struct shmeta_err err; /* under err_lock */
};

/* What the fork word of a handle or iterator points at once its reader was freed: equals no token of 0. */
extern const uint64_t shmeta__detached_word;

static inline int shmeta__forked(const struct shmeta *instance)
{
	return shmeta_peek(instance->fork_word) != instance->token;
}
/* Keep err as the instance's last error; returns its code. */
enum shmeta_status shmeta__instance_fail(struct shmeta *instance, const struct shmeta_err *err);
/* Requests to the writer name a tenant: OK, or ERR_INVALID_ARGUMENT when there can be none such. */
enum shmeta_status shmeta__instance_tenant(const struct shmeta *instance, struct shmeta_err *err);
struct core *shmeta__instance_core(struct shmeta *instance); /* referenced; shmeta__core_unref(core, 0) */
/* The path of the board of `from` leads elsewhere: open what is there now, and have the readers follow at their next begin. The
 * instance's core, referenced, as above; `from` when that cannot be opened: the last error says why. */
struct core *shmeta__instance_follow(struct shmeta *instance, struct core *from);
/* The core that shows what a writer answered who was asked through this one, whose reference it takes over. ERR_WRITER_AWAY, and NULL:
 * it cannot be opened. */
enum shmeta_status shmeta__instance_answered(struct shmeta *instance, struct core **core, struct shmeta_err *err);
void shmeta__instance_add(struct shmeta *instance, struct shmeta_reader *reader);
void shmeta__instance_remove(struct shmeta *instance, struct shmeta_reader *reader); /* and no longer counts it */
void shmeta__instance_ref(struct shmeta *instance);
void shmeta__instance_unref(struct shmeta *instance);

/* ---- readers ----------------------------------------------------------------------------------------------------------- */

#define NOT_READY UINT64_MAX /* no commit */

/* What a find by handle reads comes first: two cache lines, and a third for its age. */
struct shmeta_handle {
	const uint64_t *fork_word;
	uint64_t token;
	struct shmeta_reader *reader;
	uint64_t ready; /* the snapshot in which `part` may be used without a look; NOT_READY: none */
	struct shmeta__part part;
	uint64_t known;  /* the commit for which `part` (or `absent`) is known to be right; 0: none */
	uint32_t absent; /* 1: not there in the commit known; 2: never again */
	uint32_t pinned; /* 1: the head lies on pages of its own */
	uint64_t part_key;
	uint64_t lineage; /* of the env in which part_key means the partition */
	int64_t topic_created_at_ms;
	uint32_t word; /* touched word */
	uint32_t topic_bytes;
	struct shmeta_handle *next, **link; /* the caller's handles of this reader */
	char topic[];
} __attribute__((aligned(64)));

struct name_entry {
	uint64_t hash;
	uint64_t known;      /* the commit for which the topic's number is known to be right */
	uint64_t record_txn; /* the commit for which all of topic and stamps is */
	struct shmeta_topic topic;
	struct shmeta__stamps stamps;
	uint32_t name_bytes; /* 0: empty */
	char name[92];       /* longer names are not kept */
};

struct shmeta_reader {
	/* What begin, end and every lookup read. */
	const uint64_t *fork_word;
	uint64_t token;
	uint64_t snapshot;     /* the commit being read; 0: none */
	const uint32_t *guard; /* not 0: pins are not honoured (revoked, or never registered): judge by grace */
	const struct shmeta_generation *gen;
	struct shmeta_slot *slot; /* of the registration page, or `own` */
	const struct shmeta_board *board;
	uint64_t parked; /* the commit that view shows and that was published when it was made; 0: none */
	uint64_t epoch;
	uint32_t attention; /* 1: begin must take the slow way; atomic */
	uint32_t clock;     /* enum reader_clock */
	uint32_t tick;      /* lookups, for sampling */
	uint32_t serial;    /* of the snapshot: iterators remember it */
	/* What clock_trust.c found when it last looked. */
	uint64_t judge_ns;    /* CLOCK_MONOTONIC: when it looks again */
	int64_t offset_least; /* from CLOCK_MONOTONIC to the writer's CLOCK_BOOTTIME */
	uint32_t ageless;     /* 1: no stamp can be compared with this process's clock */

	uint64_t seen[SHMETA_CLASS_COUNT + 1]; /* synced_at of each class as far as the snapshot shows it */
	uint64_t begun_ns;                     /* CLOCK_BOOTTIME of begin, where grace rules */
	struct env *env;
	struct membership *membership;
	struct core *core;
	struct shmeta *instance;
	uint64_t tenant_txn;                   /* when tenant == 0: the snapshot that had no such tenant */
	uint64_t quarantined_txn, quarantined; /* rows that this snapshot counts as quarantined */
	uint32_t tenant;                       /* number in this env; 0: not known */
	uint32_t expired;                      /* 1: a snapshot that FRESH moved on from had outlived its grace */
	uint32_t aside;                        /* 1: of one lookup, see shmeta__reader_aside() */

	struct shmeta_reader *next, **link; /* the instance's readers, under its lock */
	struct shmeta_handle *handles;
	struct shmeta_iter *iters;
	struct name_entry *names;
	uint32_t name_mask, name_misses;
	struct shmeta_handle *parts; /* cache behind the *_named calls; no topic of their own */
	uint32_t part_mask, part_misses;
	uint64_t next_join_ns;
	uint64_t look_ns;       /* when a stale answer next asks for attention */
	struct view view;       /* of commit `parked` */
	struct shmeta_slot own; /* counters of a reader without a slot */
};

enum reader_clock { CLOCK_COARSE, CLOCK_PRECISE };

/* ---- clock_trust.c: may stamps be compared with this process's clock? ----------------------------------------------------------- */

/* A stamp that is further ahead than clocks of one machine differ by is one of another time namespace, or damaged. */
#define AHEAD_NS (1000 * MILLION)

/* How long ago it was; UINT64_MAX: it is ahead, and no age. */
static inline uint64_t shmeta__age(uint64_t now, uint64_t then)
{
	return likely(now >= then) ? now - then : then - now > AHEAD_NS ? UINT64_MAX : 0;
}

/* From CLOCK_MONOTONIC to CLOCK_BOOTTIME, as the writer said, at least what this process finds: a machine that has slept since the writer
 * said so is further on. */
int64_t shmeta__boot_offset_at_least(int64_t said);
/* The writer's CLOCK_BOOTTIME, now. */
uint64_t shmeta__board_now_ns(const struct shmeta_board *board);
/* Sets what it found in the reader. Once a second. */
void shmeta__reader_judge_clock(struct shmeta_reader *r, uint64_t monotonic_ns);

extern const uint32_t shmeta__always; /* 1: the guard of an unregistered reader */

/* Pause for some nanoseconds, the longer the more tries there were; at most a microsecond or two. */
void shmeta__relax(unsigned tries);
/* Keep a sentence; returns the code. */
__attribute__((format(printf, 3, 4))) enum shmeta_status shmeta__reader_fail(struct shmeta_reader *reader,
                                                                             enum shmeta_status code, const char *fmt,
                                                                             ...);

/* Grace rules: has the snapshot outlived half the grace period, or was the registration revoked under it? */
int shmeta__snapshot_expired(const struct shmeta_reader *reader);
/* Look a key up in the snapshot: OK, ABSENT, ERR_CORRUPT, ERR_EXPIRED. */
enum shmeta_status shmeta__snapshot_get(struct shmeta_reader *reader, enum shmeta_db db, const void *key,
                                        size_t key_bytes, const void **ret_value, size_t *ret_bytes);
/* A reader for one lookup that neither takes a slot nor counts among the instance's; lives within `of`. NULL: no memory. */
struct shmeta_reader *shmeta__reader_aside(struct shmeta_reader *of);
void shmeta__reader_aside_free(struct shmeta_reader *aside);
/* Move to a snapshot that shows commit `txn` of `generation` or something newer; waits for it until deadline. */
enum shmeta_status shmeta__snapshot_advance(struct shmeta_reader *reader, uint64_t generation, uint64_t txn,
                                            uint64_t deadline_ns);
/* The tenant's number in this snapshot: OK, ABSENT (0: the store has none), ERR_*. */
enum shmeta_status shmeta__snapshot_tenant(struct shmeta_reader *reader, uint32_t *ret);

/* ---- walking a database (list.c) --------------------------------------------------------------------------------------- */

struct walk {
	enum shmeta_db db;
	int started;
	struct shmeta__tree_place place;
};
void shmeta__walk_open(enum shmeta_db db, struct walk *ret);
/* The first entry at or behind key (key NULL: the next one). OK, END, ERR_CORRUPT, ERR_EXPIRED. */
enum shmeta_status shmeta__walk_next(struct shmeta_reader *reader, struct walk *walk, const void *key, size_t key_bytes,
                                     const uint8_t **ret_key, size_t *ret_key_bytes, const void **ret_value,
                                     size_t *ret_bytes);
/* The entry that was shown lies behind what the walk is about. END, or ERR_CORRUPT: it is not the one that the writer put there. */
enum shmeta_status shmeta__walk_ends(const struct walk *walk, const uint8_t *key, size_t key_bytes, const void *value,
                                     size_t bytes);

enum iter_kind { ITER_TOPICS, ITER_PARTITIONS, ITER_SEGMENTS, ITER_AGENTS, ITER_LEASES, ITER_OFFSETS, ITER_GROUPS };

/* Topics that a list of leases or offsets visits, in order of name. */
struct topic_range {
	uint32_t topic_id;
	uint32_t name_bytes;
	const char *name;
};

/* A text to compare with; NULL: none. */
struct iter_filter {
	char *text;
	size_t bytes;
};

struct shmeta_iter {
	enum iter_kind kind;
	uint32_t serial; /* of the snapshot it belongs to */
	const uint64_t *fork_word;
	uint64_t token;
	struct shmeta_reader *reader;
	struct shmeta_iter *next, **link;
	struct walk walk;
	uint32_t tenant;
	uint32_t topic_id;
	uint32_t partition_id; /* segments */
	uint32_t done;
	uint32_t never; /* 1: nothing of the kind can exist, whatever is quarantined */
	int64_t now_ms;
	struct iter_filter filter[2]; /* topics: glob; agents: group, zone; leases: topic, agent */
	struct topic_range *ranges;   /* leases and offsets: in order of name */
	size_t range_count, range;
	struct shmeta__part part; /* segments */
	struct shmeta__part_cursor cursor;
	size_t prefix_bytes; /* what all keys of the list begin with */
	uint8_t prefix[SHMETA_KEY_MAX];
	size_t skip_bytes; /* the walk begins at this key when it is behind the prefix */
	uint8_t skip[SHMETA_KEY_MAX];
};
/* db: what it walks; SHMETA_DB_COUNT: nothing. */
enum shmeta_status shmeta__iter_new(struct shmeta_reader *reader, enum iter_kind kind, enum shmeta_db db,
                                    struct shmeta_iter **ret);
/* The next entry whose key begins with the prefix. */
enum shmeta_status shmeta__iter_walk(struct shmeta_iter *iter, const uint8_t **ret_key, size_t *ret_key_bytes,
                                     const void **ret_value, size_t *ret_bytes);
/* Frees what it holds of its reader, which goes; the iterator itself is its owner's. */
void shmeta__iter_detach(struct shmeta_iter *iter);
void shmeta__handle_detach(struct shmeta_handle *handle); /* the same */
/* Why a handle cannot be used whose fork word is not its token. */
enum shmeta_status shmeta__handle_unusable(const struct shmeta_handle *handle);
/* May this call go on with the iterator? */
enum shmeta_status shmeta__iter_ready(const struct shmeta_iter *iter, enum iter_kind kind);

/* When an answer was last known to be true, as far as its own record says. */
struct known {
	uint64_t synced_at_ns;
	uint32_t ttl_ms; /* 0: the class's */
};

/* ---- quarantined rows (quarantined.c) ------------------------------------------------------------------------------------- */

/* What a lookup did not find. */
struct missing {
	enum shmeta_class cls; /* TOPIC, PARTITION, SEGMENT; AGENT, LEASE, OFFSET */
	const char *name;      /* the topic; the agent; of offsets: the group */
	size_t name_bytes;
	const char *topic; /* of offsets */
	size_t topic_bytes;
	uint32_t partition_id;
	const uint64_t *offset; /* SEGMENT: what is to be in it; NULL: anything */
};
/* `absent`, or UNKNOWN when the source has a row that may be the one and cannot be served. ERR_CORRUPT, ERR_EXPIRED. */
enum shmeta_status shmeta__missing(struct shmeta_reader *reader, const struct missing *missing,
                                   enum shmeta_status absent);

/* ---- topics and partitions, as the other files need them ---------------------------------------------------------------- */

/* OK, ABSENT, ERR_*. */
enum shmeta_status shmeta__topic_resolve(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                         uint32_t *ret_id);
/* The same with its record. */
enum shmeta_status shmeta__topic_record(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                        struct shmeta_topic *ret);
/* Its record's time where that counts alone (SHMETA_SYNCED_ALONE), otherwise 0. */
enum shmeta_status shmeta__topic_alone(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                       uint64_t *ret_synced_at_ns);
/* The name of a topic of any tenant in this snapshot: tenant number and view. ABSENT when it is gone. */
enum shmeta_status shmeta__topic_name(struct shmeta_reader *reader, uint32_t topic_id, uint32_t *ret_tenant,
                                      struct shmeta_str *ret_name);
/* A cached handle for (topic_id, partition), made right for the snapshot: OK, ABSENT, ERR_*. Valid until the next call. */
enum shmeta_status shmeta__partition_cached(struct shmeta_reader *reader, uint32_t topic_id, uint32_t partition_id,
                                            struct shmeta_handle **ret);
/* The same by name. When it is not there: the right one of ABSENT and UNKNOWN, with its age by class cls. */
enum shmeta_status shmeta__partition_named(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                           uint32_t partition_id, enum shmeta_class cls, uint64_t assured_ns,
                                           struct shmeta_freshness *ret_fresh, struct shmeta_handle **ret);
/* The handle's partition for another reader; shmeta__handle_free(). */
struct shmeta_handle *shmeta__handle_for(const struct shmeta_handle *handle, struct shmeta_reader *reader);
void shmeta__handle_free(struct shmeta_handle *handle); /* one that is in no list; accepts NULL */
enum shmeta_status shmeta__handle_absent(struct shmeta_handle *handle, enum shmeta_class cls, uint64_t assured_ns,
                                         struct shmeta_freshness *ret_fresh);
/* The next partition of a topic, in a walk of PARTS: OK, END, ERR_*. *oldest: its times fall to this partition's. */
enum shmeta_status shmeta__partition_walk(struct shmeta_reader *reader, struct walk *walk, uint32_t topic_id,
                                          struct shmeta_partition *ret, struct known *oldest);
/* Make the handle right for the snapshot: OK or ABSENT, ERR_*. */
enum shmeta_status shmeta__partition_resolve(struct shmeta_handle *handle);
void shmeta__reader_forget(struct shmeta_reader *reader); /* handles and caches: nothing of the env is known any more */
void shmeta__reader_caches_free(struct shmeta_reader *reader); /* and their memory goes back */

/* ---- FRESH and requests (ask.c) ------------------------------------------------------------------------------------- */

struct want {
	enum shmeta_class cls;
	const char *topic; /* NULL: the whole class */
	size_t topic_bytes;
	uint32_t partition_id;
};
uint64_t shmeta__deadline_of(uint32_t timeout_ms); /* CLOCK_MONOTONIC */
uint64_t shmeta__monotonic_ns(void);
/* Wait on gen's commit word until committed > txn or the deadline, 100 ms at most, 5 ms when gen is retired. OK: look again. */
enum shmeta_status shmeta__commit_wait(const struct shmeta_generation *gen, uint64_t txn, uint64_t deadline_ns);
/* What the writer said. An ANSWER frame, or, where the request has another one (body_type), that, whole, in body. */
struct answer {
	struct shmeta_frame_answer frame;
	char text[400];
	uint16_t body_type; /* set by the caller; 0: none */
	void *body;
	size_t body_room, body_bytes;
};
/* One request, one answer. request: a whole frame but for its version and id. OK, the writer's status with its sentence, or what went
 * wrong on the way: ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_DENIED, ERR_PROTOCOL, ERR_SYSTEM. */
enum shmeta_status shmeta__ask(struct core *core, struct shmeta_frame *request, uint64_t deadline_ns,
                               struct answer *ret, struct shmeta_err *err);
/* Ask for a refresh of what is wanted. A request may be answered by a read of the source that was under way when it came; the answer
 * says when that began. So it is asked again until one began at since_ns or later: the second request comes when that read is over.
 * since_ns 0: whatever is fresh, also what was found absent a moment before. */
enum shmeta_status shmeta__ask_since(struct shmeta *instance, struct core *core, const struct want *want,
                                     uint64_t since_ns, uint64_t deadline_ns, struct answer *ret,
                                     struct shmeta_err *err);
/* CLOCK_BOOTTIME as the writer's stamps count it: never ahead of it, as the offset only grows, by suspends. */
uint64_t shmeta__writer_now_ns(const struct core *core);
/* Until the newest commit is at least this one. */
enum shmeta_status shmeta__wait_shown(struct core *core, uint64_t generation, uint64_t txn, uint64_t deadline_ns,
                                      struct shmeta_err *err);
uint32_t shmeta__left_ms(uint64_t deadline_ns); /* at least 1: 0 stands for no deadline */

/* Sockets of the writer. CLOEXEC, non-blocking, peer checked. until_ns (shmeta__monotonic_ns()): how long to wait while its backlog is
 * full; 0: not at all. ERR_WRITER_AWAY, ERR_DENIED, ERR_BUSY (it is still full). */
enum shmeta_status shmeta__control_connect(const struct core *core, uint64_t until_ns, int *ret_fd,
                                           struct shmeta_err *err);
/* The descriptor is still the one that was noted: nobody closed it under us and reused its number. */
void shmeta__fd_note(int fd, uint64_t *ret_dev, uint64_t *ret_ino);
int shmeta__fd_is(int fd, uint64_t dev, uint64_t ino);

/* ---- reads that ask (fresh.c) -------------------------------------------------------------------------------------------- */

/* Where the answer of a read that may ask comes from: the caller's reader, or one of the call's own whose snapshot is newer. */
struct asked {
	struct shmeta_reader *reader;
	struct shmeta_handle *handle; /* of that reader; NULL for lookups by name */
	uint64_t synced_at_ns;        /* when the source was read; 0: it was not asked */
};
/* Ask the writer and wait. The caller's reader moves to the answer's commit when the read allows it; otherwise a reader and, for a
 * handle (may be NULL), a handle of its own are made, which live until shmeta__asked_end(). */
enum shmeta_status shmeta__asked_begin(struct shmeta_reader *reader, const struct shmeta_handle *handle,
                                       const struct want *want, const struct shmeta_read *read, struct asked *asked);
/* The last step of the lookup, as lookup_done(). */
enum shmeta_status shmeta__asked_end(struct shmeta_reader *reader, struct asked *asked, enum shmeta_status status);

/* ---- files --------------------------------------------------------------------------------------------------------------- */

/* "mode 0750, group shmeta-read" of a path, as far as it can be seen. */
char *shmeta__describe_path(const char *path, char *out, size_t bytes);
enum shmeta_status shmeta__permission_error(struct shmeta_err *err, const char *path, const char *what);

#endif
