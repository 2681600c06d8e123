/* SPDX-License-Identifier: Apache-2.0
 * The sync engine: one thread that owns the backend and the store. It loads, follows changes,
 * refreshes what is asked for or has expired, reconciles, and commits; nobody else writes the
 * store. Everything here but sync_run_* is called from the loop's thread and never blocks.
 *
 *   feed (wake_fd, poll)  ┐
 *   FRESH requests        ├─> queue of keys ─> fetch in bulk ─> differences ─> one commit ─>
 *                         answers
 *   TTL without a feed    ┘
 *   reconcile timer ─> load() compared with the store; what differs is a key in the queue */
#ifndef SHMETA_WRITER_ENGINE_SYNC_H
#define SHMETA_WRITER_ENGINE_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "include/shmeta.h"
#include "shm/page/activity.h"
#include "shm/page/board.h"
#include "shm/page/counters.h"
#include "shm/page/histogram.h"
#include "shm/store/store.h"
#include "writer/resident/ttl.h"

/* All clocks go through one table, so that tests move time by hand. */
struct sync_clock {
	void *arg;
	uint64_t (*boottime_ns)(void *arg);
};

struct sync_ttl_override { /* per topic-name prefix; the longest matching prefix wins */
	const char *prefix;
	uint32_t ttl_ms; /* for the TOPIC, PARTITION and SEGMENT records of matching topics */
};

struct sync_options {
	struct backend_options source;
	const struct backend_engine *engine; /* NULL: the one that source.uri names */
	uint64_t store_max_bytes;
	bool bounded; /* the store keeps within these budgets */
	uint32_t max_topics, max_partitions;
	uint64_t max_segment_bytes, max_bytes;
	uint32_t batch_percent, hot_touches;
	struct ttl_config freshness; /* of partitions, each its own, where the source has no feed;
                                      * max_ms 0: their classes' */
	uint32_t touch_ceiling;      /* slots of the readers' touch maps; 0: they have none. For the
                                      * life of the engine */
	uint64_t grace_ns;
	const char *warm_file;    /* the snapshot file; NULL or empty: none */
	uint64_t warm_interval_s; /* how often it is written; 0: at a stop only */
	uint32_t ttl_ms[SHMETA_CLASS_COUNT];
	const struct sync_ttl_override *overrides;
	size_t override_count;
	uint32_t poll_min_ms, poll_max_ms;                  /* feed poll: adapts between busy and
                                                         * idle */
	uint32_t reconcile_s;                               /* of passes while there is a feed; 0:
                                                             * none by time */
	uint32_t refresh_batch_keys;                        /* most keys in one fetch */
	uint32_t refresh_queue_max;                         /* then BUSY */
	uint64_t refresh_queue_bytes;                       /* the same, of what readers asked
                                                             * for */
	uint32_t refresh_user_rate, refresh_user_burst;     /* keys of a user: a second, and at
                                                             * once; rate 0: no limit */
	uint32_t refresh_queries_s, refresh_rows_s;         /* of reads for readers, a second; 0: no
                                                         * limit */
	uint32_t absent_ttl_ms, absent_max;                 /* what the source was found not to
                                                             * have: how long and how many; 0: not
                                                             * at all */
	uint32_t write_queue_max;                           /* operations waiting; then BUSY */
	uint64_t write_queue_bytes, write_connection_bytes; /* the same in memory; of one
                                                             * connection */
	uint32_t user_share;                                /* percent, see shares.h */
	uint32_t write_batch_max;                           /* most operations in one transaction of
                                                             * the source */
	uint32_t write_linger_ms;                           /* 0..100: wait for company before a
                                                             * group commit */
	uint64_t object_grace_ms;                           /* an object without slices is deletable
                                                             * after that */
	const char *paused;                                 /* start so (sync_pause()); NULL: not */
	uint64_t generations_after;                         /* where the numbers begin in a
                                                             * directory that has had no
                                                             * generation */
	uint64_t accept;                                    /* consent to this fingerprint
                                                             * (sync_accept()); 0: none */
	bool audit;                                         /* one log line per batch of accepted
                                                             * mutations */
	int64_t (*wall_ms)(void *arg);                      /* wall clock for records; NULL: the
                                                             * real one; arg is clock.arg */
	uint32_t retry_min_ms, retry_max_ms;                /* source away: back-off with full
                                                             * jitter */
	uint32_t commit_rows;                               /* loading: rows in one commit */
	uint32_t pass_keys;                                 /* a full pass holds so many keys that
                                                             * differ; 0: 100 000 */
	uint32_t seed;                                      /* of the jitter; 0: from the clock */
	struct sync_clock clock;                            /* boottime_ns NULL: the real one */
};

/* A page of objects: those behind after_bucket, after_key. */
struct sync_object_list {
	struct shmeta_str tenant, after_bucket, after_key;
	bool deletable; /* only what no slice refers to since object_grace_ms */
	size_t most;    /* 0: as many as a frame holds */
	uint32_t uid;   /* who asks */
};

/* What is to be read again: a topic with everything in it, a partition, all topics whose names
 * begin with `topic` (prefix), a class, or, with cls LIST, everything. */
struct sync_invalidation {
	enum shmeta_class cls;
	struct shmeta_str tenant, topic;
	uint32_t partition_id;
	bool prefix, dry_run; /* dry_run: count what the store holds of it, read nothing */
	uint32_t uid;         /* who asks */
};
struct sync_invalidated {
	uint64_t topics, partitions, records; /* records: agents, groups, offsets, leases */
};

/* A source that is not, or no longer, what the store was filled from. */
struct sync_held {
	bool held;            /* it lost too much: not published until somebody consents */
	uint64_t fingerprint; /* what to consent to; 0: nothing */
	/* of what the store shows; known once it was held */
	uint64_t topics, topics_lost, partitions, partitions_lost;
	/* "": nothing is to be consented to */
	char sentence[700];
};

struct shmeta_miss; /* shm/page/miss.h */
/* A user's process met this key unknown, and would have it loaded. */
typedef void sync_missed_fn(void *arg, uint32_t uid, const struct shmeta_miss *miss);

/* What the engine needs from the loop, and tells it: all of it. Called on the engine's thread: hand
 * over, do not block. */
struct sync_host {
	void *arg;
	/* The oldest commit of this generation that a registered reader pins; UINT64_MAX: none. */
	uint64_t (*oldest_pin)(void *arg, uint64_t generation);
	/* The store has little room left because of pins: those of commits before this one are to
	 * go, but none that is younger than the grace period. */
	void (*relieve)(void *arg, uint64_t generation, uint64_t before);
	/* Or what readers have touched since the last call into seen[ceiling] (shm/page/touch.h).
	 * May be NULL. */
	void (*touched)(void *arg, uint8_t *seen, uint32_t ceiling);
	/* Set the bits of the touched words (shm/page/board.h) of partitions that clients wait for,
	 * or have since the last call. May be NULL. */
	void (*waited)(void *arg, uint64_t *words);
	/* Call missed() for each key that a lookup met unknown since the last call; it only takes a
	 * copy. May be NULL. */
	void (*missed)(void *arg, sync_missed_fn *missed, void *missed_arg);
	/* A commit is published that moved these touched words: a bit for each (shm/page/board.h).
	 * NULL: a new generation is. The bits die when it returns. May be NULL. */
	void (*committed)(void *arg, const uint64_t *touched);
	/* May the first write after a restart go to the store that is there? 1: every registration
	 * of the former writer was handed over; 0: copy to a new generation first. */
	int (*all_registrations_kept)(void *arg);
	void (*phase)(void *arg, enum shmeta_phase phase,
	              const char *sentence); /* sentence: why, for STATUS= and logs */
	void (*progress)(void *arg, uint64_t rows_done, uint64_t rows_total);
	/* priority as in syslog(3). event: a short stable word. */
	void (*log)(void *arg, int priority, const char *event, const char *sentence);
	/* Something was done; *event but its number and time. May be NULL. */
	void (*event)(void *arg, const struct shmeta_event *event);
	/* So many calls of sync_write() are about to be answered, one after the other. */
	void (*answering)(void *arg, size_t calls);
	/* The answer to sync_write(). status OK or ERR_NOT_CACHED: results[i] is of ops[i];
	 * otherwise it holds for all of them and results is NULL. The views die when it returns. */
	void (*written)(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence,
	                const struct shmeta_op *ops, const struct shmeta_result *results, size_t count, uint64_t txn,
	                uint64_t generation);
	/* The answers to sync_list_objects() and sync_invalidate() when they were done; otherwise
	 * they come through answer. rows: `count` objects as they travel (shm/wire/op.h); they die
	 * when it returns. */
	void (*objects)(void *arg, uint64_t ticket, const void *rows, size_t bytes, size_t count, bool more);
	void (*invalidated)(void *arg, uint64_t ticket, const struct sync_invalidated *count, uint64_t txn,
	                    uint64_t generation);
	/* The answer to sync_refresh(). */
	void (*answer)(void *arg, uint64_t ticket, enum shmeta_status status, const char *sentence, uint64_t txn,
	               uint64_t generation, uint64_t synced_at_ns);
};

/* The event of lines that are to be written whatever the log's level and limits are. */
#define SYNC_AUDIT_EVENT "audit"

struct sync_counters {
#define C(name, kind, unit, help) uint64_t name;
	SHMETA_SYNC_COUNTERS(C)
#undef C
};

struct sync;

/* Open source and store (warm when there is a store of this boot and source), start the thread.
 * dir_fd: the instance directory; board: mapped for writing, epoch and writer already set. *options
 * and *host are copied, strings included. ERR_CONFIG: the source or the store cannot be used (err
 * says what to do); ERR_SOURCE does not fail the start: the engine retries, and serves what the
 * store holds. */
enum shmeta_status sync_start(int dir_fd, struct shmeta_board *board, const struct sync_options *options,
                              const struct sync_host *host, struct sync **ret, struct shmeta_err *err);
/* Finish what is being committed, answer what waits with ERR_WRITER_AWAY, join the thread. Accepts
 * NULL. */
void sync_stop(struct sync *sync);

enum sync_refresh_how {
	SYNC_RECENT = 1u << 0, /* what was found absent less than refresh.absent_ttl_ms ago will do;
                       * host->answer then comes at once, on the caller's thread */
	SYNC_NO_FILL = 1u << 1 /* bounded: what has to be loaded is the first to leave again */
};
/* Refresh a key (C4). host->answer comes exactly once per ticket unless BUSY is returned. Keys in
 * flight are shared: one source query however many ask. how: enum sync_refresh_how. */
enum shmeta_status sync_refresh(struct sync *sync, const struct backend_key *key, uint32_t how, uint32_t uid,
                                uint64_t deadline_ns, uint64_t ticket);

/* Operations for the source, as they travel (shm/wire/op.h). */
struct sync_write {
	struct shmeta_str tenant;
	const void *ops; /* 8-aligned */
	size_t bytes, count;
	uint64_t deadline_ns; /* CLOCK_BOOTTIME */
	uint32_t uid;         /* whose it and its request ids are */
	uint64_t connection;  /* never the same number for two of them */
	const char *who;      /* the same as uid for the audit log ("uid 1000 pid 42") */
	uint64_t ticket;
};

/* Queue operations for a group commit; host->written comes exactly once unless this fails. All that
 * `write` views is copied. Order: of two calls of a connection the earlier one takes effect first;
 * connections and users have turns (turns.h). Not begun by the deadline: ERR_TIMEOUT, nothing done.
 * Errors: ERR_BUSY (no room for it, which is known before it is parsed), ERR_PROTOCOL (these are
 * not `count` operations), ERR_NO_MEMORY; then nothing is queued. */
enum shmeta_status sync_write(struct sync *sync, const struct sync_write *write);

/* Ask the source for a page of objects. host->objects or host->answer comes exactly once unless
 * this fails. deadline_ns: not begun by
 * then: ERR_TIMEOUT. Strings are copied. Errors: ERR_BUSY, ERR_NO_MEMORY. */
enum shmeta_status sync_list_objects(struct sync *sync, const struct sync_object_list *list, uint64_t deadline_ns,
                                     uint64_t ticket);
/* Ask the source where an epoch ends: host->answer, with the epoch in generation and the offset in
 * txn, comes exactly once unless this fails. Deadline, strings and errors as above. */
enum shmeta_status sync_epoch_end(struct sync *sync, const struct backend_epoch *ask, uint32_t uid,
                                  uint64_t deadline_ns, uint64_t ticket);
/* Have what the store holds of these keys read again from the source, and be told
 * (host->invalidated or host->answer, exactly once) when
 * the store shows it. At deadline_ns: ERR_TIMEOUT, and what was not asked for by then is not.
 * Errors as above. */
enum shmeta_status sync_invalidate(struct sync *sync, const struct sync_invalidation *what, uint64_t deadline_ns,
                                   const char *who, uint64_t ticket);

/* Options that change at reload: TTLs, overrides, poll, reconcile, refresh, retry. Takes effect
 * before the next round. false: there is no memory for them, and what was in force stays in
 * force. */
bool sync_reconfigure(struct sync *sync, const struct sync_options *options);

/* Publish the source that is held, or is being read, all the same. ERR_NOT_FOUND: nothing is to be
 * consented to; ERR_CONFLICT: the fingerprint is not that of what is there now. Any thread. */
enum shmeta_status sync_accept(struct sync *sync, uint64_t fingerprint);
void sync_read_held(struct sync *sync, struct sync_held *ret); /* a copy; any thread */

/* Leave the source alone (why: a whole sentence, "paused since ..."), or, with NULL, go on. What is
 * in flight ends first; then every connection is closed, and host->answer tells the ticket. Until
 * then, and after a restart with options.paused, the source counts as away for that reason. Any
 * thread. ERR_NOT_FOUND: it is not paused; ERR_BUSY: the one before has not been done;
 * ERR_NO_MEMORY. */
enum shmeta_status sync_pause(struct sync *sync, const char *why, uint64_t ticket);

/* How a topic (partition UINT64_MAX), or a partition of it, stands in a bounded store: host->answer
 * tells the ticket, as the JSON object that shmeta_operate() describes. The names are copied. Any
 * thread. ERR_INVALID_ARGUMENT; ERR_BUSY: the question before it has not been answered. */
enum shmeta_status sync_explain(struct sync *sync, struct shmeta_str tenant, struct shmeta_str topic,
                                uint64_t partition, uint64_t ticket);
/* Would it answer ERR_BUSY? */
bool sync_pause_is_due(struct sync *sync);

void sync_read_counters(struct sync *sync, struct sync_counters *ret); /* a copy; any thread */
/* How long things took, since the start. Any thread. */
void sync_read_times(struct sync *sync, struct shmeta_times ret[SHMETA_TIMED_COUNT]);
/* The state of the source in words an operator can act on: "connected", or since when and why
 * not. */
void sync_source_status(struct sync *sync, char *ret, size_t bytes);

/* ---- for tests: the same engine without its thread ---- */

enum shmeta_status sync_open(int dir_fd, struct shmeta_board *board, const struct sync_options *options,
                             const struct sync_host *host, struct sync **ret, struct shmeta_err *err);
/* Do everything that is due now; *ret_wait_ns: how long nothing will be due. */
enum shmeta_status sync_run_once(struct sync *sync, uint64_t *ret_wait_ns);
void sync_close(struct sync *sync);
/* Let go of everything as a killed process does: nothing is answered, saved or said. */
void sync_crash(struct sync *sync);
/* Called between reading the source and applying what was read; lets a test interleave. */
void sync_set_fetched_hook(struct sync *sync, void (*hook)(void *arg), void *arg);
struct shmeta__store *sync_store(struct sync *sync);
void *sync_backend_state(struct sync *sync);

#endif
