/* SPDX-License-Identifier: Apache-2.0
 *
 * shmeta: the metadata cache of a host that runs streaming agents.
 *
 * One writer daemon (shmetad) keeps topics, partitions and a sorted segment index of a source
 * database in shared memory; every process of the host reads it through this library without a
 * lock, a system call or a copy.
 *
 * How it is used: shmeta_open() once per process and instance, shmeta_reader_new() once per thread,
 * then as often as you like shmeta_begin(), any number of lookups, shmeta_end(). Everything between
 * begin and end answers from one commit of the writer.
 *
 * Every function's comment says, in this order: what it does; Owns: what the caller must give back;
 * Borrows: what must outlive the call; Threads; Blocks; Errors. Where a word of the comment has a
 * meaning of its own (FOUND, ABSENT, fresh, snapshot), libshmeta(3) defines it.
 *
 * Rules that hold for all of it:
 * - The library never prints, aborts, exits, reads the environment, installs signal handlers or
 *   starts threads.
 * - Outputs are last and are named ret (ret_...). They are written with OK, and where the call says
 *   so; after any other status what they hold means nothing.
 * - errno means nothing after a call, and may have changed.
 * - Statuses below 0 are errors. A NULL where one is not allowed is ERR_INVALID_ARGUMENT
 *   everywhere.
 * - Times named _ms are milliseconds since the Unix epoch; times named _ns are durations or
 *   CLOCK_BOOTTIME nanoseconds.
 * - What the library gives is closed in any order: handles, iterators, readers, clients, lists and
 *   instances.
 * - After fork() the child may only call shmeta_close(), shmeta_reader_free(),
 *   shmeta_partition_close(), shmeta_iter_free(), shmeta_objects_free() and shmeta_client_close();
 *   everything else answers SHMETA_ERR_FORKED, and the parent is unharmed.
 * - No function is async-signal-safe.
 * - Whatever asks the writer may also answer ERR_BUSY, ERR_NO_MEMORY (its own or the writer's),
 *   ERR_SYSTEM (no socket is to be had) and ERR_PROTOCOL, whether or not its comment says so.
 * - A timeout_ms of 0 does not wait: what is not there at once is ERR_TIMEOUT.
 * - No function uses more than 8 KiB of the caller's stack (without callbacks).
 *
 * What bites:
 * - A snapshot that stays open keeps every page that it may read: the store grows with each commit
 *   until the writer revokes it. Begin and end around the lookups of one decision; page long lists.
 * - A thread that dies or is cancelled within a snapshot, or forgets shmeta_end(), leaves it open,
 *   and all threads of its process lose their snapshots when the writer revokes it.
 *   shmeta_reader_free() from another thread ends it.
 * - A child of fork() that neither closes the library's descriptors nor calls exec keeps its dead
 *   parent registered, pins included.
 * - A thread that is cancelled (pthread_cancel) inside the library, or leaves a callback by
 *   longjmp() or an exception, keeps the library's locks: disable cancellation around calls, and
 *   let nothing out of callbacks.
 * - Views die at shmeta_end(): a name, a config map or a lease's holder that is used later must be
 *   copied. In C nothing warns.
 * - Ages are as coarse as the kernel's tick (up to 4 ms), unless SHMETA_OPEN_PRECISE_CLOCK.
 * - Agents, leases and committed offsets are advisory records; a lookup that says fresh was true a
 *   moment ago, not now.
 * - More than `threads` slots: readers beyond what the writer gives go by grace rules, and their
 *   long snapshots end with ERR_EXPIRED.
 * - A deadline ends the wait, not the work: a write that answered ERR_TIMEOUT may be done, or be
 *   done later. Give operations a request_id.
 * - Lookups need up to 8 KiB of stack: tasks and threads with less (and signal handlers, always)
 *   are no place for them.
 * - A file of the instance that somebody truncates under a running process kills it by SIGBUS, as
 *   any mapped file. */
#ifndef SHMETA_H
#define SHMETA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What this header declares is what the shared library shows. */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

#define SHMETA_VERSION_MAJOR 0
#define SHMETA_VERSION_MINOR 1
#define SHMETA_VERSION_PATCH 0

#if defined(__GNUC__)
#define SHMETA_MUST_USE __attribute__((warn_unused_result))
#else
#define SHMETA_MUST_USE
#endif

/* -------------------------------------------------------------------------------------------------
 * Status: what a call answers
 * ---------------------------------------------------------------------------------------------- */

/* X(name, number, text). Numbers >= 0 are answers, numbers < 0 are errors; a number never changes
 * its meaning. The ABSENT family says that the store knows that the source does not have it;
 * UNKNOWN says that nothing may be concluded: it is not loaded yet, or the source has a row that
 * cannot be read (`shmetactl quarantine` says which and why). */
#define SHMETA_STATUS_LIST(X)                                                                         \
	X(OK, 0, "found")                                                                             \
	X(ABSENT, 1, "absent: the source does not have it")                                           \
	X(ABSENT_BEFORE_START, 2, "absent: the offset is below the log start")                        \
	X(ABSENT_GAP, 3, "absent: the offset lies in a gap between segments")                         \
	X(ABSENT_AT_END, 4, "absent: the offset is at or beyond the high watermark")                  \
	X(UNKNOWN, 5, "unknown: not loaded or not readable, nothing may be concluded")                \
	X(END, 6, "end of the list")                                                                  \
	X(TOO_OLD, 7, "the journal does not reach back that far")                                     \
	X(ERR_INVALID_ARGUMENT, -1, "invalid argument")                                               \
	X(ERR_NO_MEMORY, -2, "out of memory")                                                         \
	X(ERR_NOT_RUNNING, -3, "no writer has ever published this instance")                          \
	X(ERR_PERMISSION, -4, "permission denied")                                                    \
	X(ERR_VERSION, -5, "written by an incompatible version")                                      \
	X(ERR_CORRUPT, -6, "failed validation")                                                       \
	X(ERR_FORKED, -7, "handle was opened before fork")                                            \
	X(ERR_NO_SNAPSHOT, -8, "no snapshot is open on this reader")                                  \
	X(ERR_BUSY_SNAPSHOT, -9, "a snapshot is already open on this reader")                         \
	X(ERR_EXPIRED, -10, "the snapshot was too old and was taken back: discard it and begin anew") \
	X(ERR_CONTENDED, -11, "no stable snapshot within the bounded number of tries: retry")         \
	X(ERR_TIMEOUT, -12, "the deadline passed")                                                    \
	X(ERR_WRITER_AWAY, -13, "the writer cannot be reached")                                       \
	X(ERR_SOURCE, -14, "the source database failed")                                              \
	X(ERR_BUSY, -15, "busy: retry later")                                                         \
	X(ERR_DENIED, -16, "the peer may not do this")                                                \
	X(ERR_BUFFER, -17, "the buffer is too small")                                                 \
	X(ERR_CONFIG, -18, "the configuration was refused")                                           \
	X(ERR_SYSTEM, -19, "a system call failed")                                                    \
	X(ERR_UNSUPPORTED, -20, "not supported by this writer or source")                             \
	X(ERR_FULL, -21, "the store is full")                                                         \
	X(ERR_PROTOCOL, -22, "a frame could not be parsed")                                           \
	X(ERR_NOT_TENANT, -23, "no such tenant")                                                      \
	X(ERR_TOPIC_NOT_FOUND, -24, "topic not found")                                                \
	X(ERR_PARTITION_NOT_FOUND, -25, "partition not found")                                        \
	X(ERR_NOT_FOUND, -26, "not found")                                                            \
	X(ERR_ALREADY_EXISTS, -27, "already exists")                                                  \
	X(ERR_CONFLICT, -28, "conflict")                                                              \
	X(ERR_FENCED, -29, "fenced: the epoch is not the current one")                                \
	X(ERR_OUTCOME_UNKNOWN, -30, "the outcome is unknown: it may have been committed")             \
	X(ERR_READ_ONLY, -31, "the source is read-only")                                              \
	X(ERR_NOT_CACHED, -32, "committed to the source, not shown by the store yet")

enum shmeta_status {
#define SHMETA_X(name, number, text) SHMETA_##name = number,
	SHMETA_STATUS_LIST(SHMETA_X)
#undef SHMETA_X
};

/* The sentence of a status. Owns: nothing; the text is constant and never NULL. Threads: any.
 * Blocks: never. */
const char *shmeta_strerror(enum shmeta_status status);

/* The run-time version, "MAJOR.MINOR.PATCH". Compare with the SHMETA_VERSION_* the program was
 * compiled with. Owns: nothing; the text is constant. Threads: any. Blocks: never. */
const char *shmeta_version(void);

/* -------------------------------------------------------------------------------------------------
 * Records. The same structs are what a backend emits, the writer applies, the store encodes and a
 * reader returns.
 * ---------------------------------------------------------------------------------------------- */

/* Bytes that somebody else owns; not terminated by NUL. In an answer: valid until shmeta_end() of
 * the snapshot that gave it, unless the function's comment names a shorter life. */
struct shmeta_str {
	const char *data;
	size_t bytes;
};

enum { SHMETA_NAME_MAX = 249, SHMETA_STRING_MAX = 1024, SHMETA_MAP_MAX = 65536, SHMETA_TENANT_MAX = 64 };
#define SHMETA_DEFAULT_TENANT "00000000-0000-0000-0000-000000000000"

/* A string map, packed: for each pair, in ascending (memcmp) order of the keys, uint32_t key bytes,
 * uint32_t value bytes (both little endian, unaligned), the key, the value. At most SHMETA_MAP_MAX
 * bytes. Read it with shmeta_map_next(). */
struct shmeta_map {
	const void *data;
	size_t bytes;
};

struct shmeta_topic {
	struct shmeta_str name;
	struct shmeta_map config;
	struct shmeta_str cleanup_policy; /* empty where the source has no such column */
	int64_t created_at_ms;
	int64_t updated_at_ms;
	int64_t retention_ms;   /* meaningful when has_retention */
	uint32_t has_retention; /* 0: the source says NULL */
	uint32_t partition_count;
	uint32_t topic_id; /* incarnation: given by the writer, never used twice; 0 in what a
                            * backend emits */
	uint32_t reserved;
};

struct shmeta_partition {
	uint32_t topic_id;
	uint32_t partition_id;
	uint64_t high_watermark;   /* next offset to be written */
	uint64_t log_start_offset; /* base of the first segment that can be read; high_watermark
                                    * when there is none. Backends: 0 */
	uint64_t segment_count;    /* with those that are not resident, as they were when they left,
                                    * as are the other sums. Backends: 0 */
	uint64_t size_bytes;       /* sum over the segments; backends: 0 */
	int64_t created_at_ms;
	int64_t updated_at_ms;
};

struct shmeta_segment {
	uint64_t base_offset;
	uint64_t end_offset; /* inclusive */
	uint64_t size_bytes;
	int64_t created_at_ms;
	int64_t min_timestamp_ms; /* 0 where the source does not record it */
	int64_t max_timestamp_ms;
	uint32_t record_count;
	uint32_t partition_id;
	/* Empty in the answer of a lookup until shmeta_segment_strings() spells them. */
	struct shmeta_str id;
	struct shmeta_str s3_bucket;
	struct shmeta_str s3_key;
	uint64_t locator[2]; /* the library's: where the strings come from */
	/* First byte within the object at s3_key, 0 unless the object holds slices of several
	 * partitions; with size_bytes the byte range to read. In an answer 0 until
	 * shmeta_segment_strings(). */
	uint64_t position;
};

struct shmeta_agent {
	struct shmeta_str agent_id;
	struct shmeta_str address;
	struct shmeta_str availability_zone;
	struct shmeta_str agent_group;
	struct shmeta_map metadata;
	int64_t last_heartbeat_ms;
	int64_t started_at_ms;
};

struct shmeta_lease {
	struct shmeta_str leader_agent_id;
	int64_t lease_expires_at_ms;
	int64_t acquired_at_ms;
	uint64_t epoch;
	uint32_t topic_id;
	uint32_t partition_id;
};

struct shmeta_committed_offset {
	struct shmeta_str group_id;
	struct shmeta_str metadata; /* meaningful when has_metadata */
	uint64_t committed_offset;  /* next offset to consume */
	int64_t committed_at_ms;
	uint32_t topic_id;
	uint32_t partition_id;
	uint32_t has_metadata;
	uint32_t reserved;
};

struct shmeta_group {
	struct shmeta_str group_id;
	int64_t created_at_ms;
	int64_t updated_at_ms;
};

struct shmeta_topic_stats {
	uint64_t partition_count;
	uint64_t segment_count;
	uint64_t size_bytes;
};

/* Walk a packed map. *cursor starts at 0. Returns SHMETA_OK and the next pair, SHMETA_END after the
 * last one, SHMETA_ERR_CORRUPT when the bytes are not a packed map, SHMETA_ERR_INVALID_ARGUMENT
 * when *cursor lies behind them. Needs no snapshot of its own. Borrows: the views live as long as
 * map's bytes. Threads: any, one at a time on a cursor. Blocks: never. */
SHMETA_MUST_USE enum shmeta_status shmeta_map_next(const struct shmeta_map *map, size_t *cursor,
                                                   struct shmeta_str *ret_key, struct shmeta_str *ret_value);

/* The value of one key (NUL-terminated name; a key that holds a NUL is found by shmeta_map_next()
 * only). SHMETA_OK, SHMETA_ABSENT, or SHMETA_ERR_CORRUPT. Borrows, Threads, Blocks: as
 * shmeta_map_next(). */
SHMETA_MUST_USE enum shmeta_status shmeta_map_get(const struct shmeta_map *map, const char *key,
                                                  struct shmeta_str *ret_value);

/* One pair of a map to be packed. */
struct shmeta_pair {
	struct shmeta_str key;
	struct shmeta_str value;
};
/* Pack pairs into a map, for a topic's config or an agent's metadata. They are put in order of
 * their keys, in place. *ret_bytes (may be NULL): what the map takes, also with ERR_BUFFER.
 * Borrows: buffer, for as long as *ret is used. Threads: any. Blocks: never. Errors: ERR_BUFFER,
 * ERR_INVALID_ARGUMENT (a key twice, or more than SHMETA_MAP_MAX bytes). */
SHMETA_MUST_USE enum shmeta_status shmeta_map_pack(struct shmeta_pair *pairs, size_t count, char *buffer, size_t bytes,
                                                   struct shmeta_map *ret, size_t *ret_bytes);

/* -------------------------------------------------------------------------------------------------
 * Freshness
 * ---------------------------------------------------------------------------------------------- */

/* Each class has a time to live of its own. LIST answers the question "which topics are there". */
#define SHMETA_CLASS_LIST(X)                \
	X(TOPIC, 0, "topic", 300000)        \
	X(PARTITION, 1, "partition", 30000) \
	X(SEGMENT, 2, "segment", 30000)     \
	X(LIST, 3, "list", 30000)           \
	X(AGENT, 4, "agent", 5000)          \
	X(LEASE, 5, "lease", 5000)          \
	X(OFFSET, 6, "offset", 5000)

enum shmeta_class {
#define SHMETA_X(name, number, text, ttl_ms) SHMETA_CLASS_##name = number,
	SHMETA_CLASS_LIST(SHMETA_X)
#undef SHMETA_X
		SHMETA_CLASS_COUNT = 7
};

/* How long ago the writer last knew the answer to be true of the source. Meaningful after FOUND and
 * the ABSENT family. */
struct shmeta_freshness {
	uint64_t age_ns; /* UINT64_MAX: nobody can say: of another boot, or ahead of this process's
                         * clock by more than a second */
	uint64_t ttl_ns;
	uint64_t txn;   /* the commit that the snapshot shows */
	uint32_t fresh; /* 1: age_ns < ttl_ns */
	uint32_t hint;  /* 1: an advisory record (agents, leases, offsets); decide on them only
                         * after asking the source */
};

enum shmeta_consistency {
	SHMETA_CACHED = 0, /* whatever the store holds, at once */
	SHMETA_FRESH = 1,  /* when stale or UNKNOWN: have the writer refresh that key, wait, answer
                            * anew */
	SHMETA_SOURCE = 2  /* always: the answer was true of the source at a moment after the call
                            * began */
};

enum shmeta_read_flags {
	SHMETA_READ_MAY_MOVE = 1u << 0, /* FRESH and SOURCE: the reader itself may move to the newer
                                         * snapshot */
	SHMETA_READ_NO_FILL = 1u << 1   /* for looks at much that is not used: a scan, a tool. It
                                         * leaves no trace */
};

/* How a lookup is to be answered; NULL means CACHED.
 *
 * FRESH and SOURCE answer from a newer snapshot when they had to wait for the writer. Without
 * SHMETA_READ_MAY_MOVE that is one of the call's own: the reader's snapshot stays what it is, and
 * its views, iterators and later lookups are not touched. The answer's strings are then copied into
 * `buffer`, where they live as long as it does. A topic needs one (SHMETA_NAME_MAX +
 * SHMETA_STRING_MAX + SHMETA_MAP_MAX bytes always suffice), also where the snapshot's own answer
 * was fresh enough; a segment's strings are spelled into it as by shmeta_segment_strings(), and
 * stay empty without one (buffer NULL). ERR_BUFFER: they do not fit.
 * With SHMETA_READ_MAY_MOVE the reader moves to the newer snapshot, so that its later lookups see
 * it, too: views and iterators of the old one die, also where the call then answers an error. When
 * no newer snapshot could be begun none is open afterwards: lookups and shmeta_end() answer
 * ERR_NO_SNAPSHOT, and shmeta_begin() begins anew. A buffer is optional.
 *
 * What a lookup has the source asked for is its one key: a topic, a partition, an agent, a lease,
 * what one group committed for one partition. Whoever else asks for that key meanwhile shares the
 * read. Lists ask for what they are about: the list of topics, one topic with all that is in it,
 * one partition, one group with its offsets; those of agents, leases and groups for all of the
 * class. A list with FRESH or SOURCE and without SHMETA_READ_MAY_MOVE is of a snapshot of its own,
 * in which its views live until shmeta_iter_free(); such lists need no buffer.
 * A batch asks for all that do not do at once, and then answers as a whole from one snapshot; the
 * strings of its answers go into `buffer` one behind the other.
 *
 * With SHMETA_READ_NO_FILL, which any consistency may have, the answer is the same, but where the
 * store keeps only a part of what the source has (store.mode = bounded) the read does not count as
 * use of the record, and what it has to load is the first to leave again. An instance that was
 * opened with SHMETA_OPEN_NO_FILL reads so always; shmeta_refresh() loads as ever. */
struct shmeta_read {
	size_t size; /* sizeof(struct shmeta_read) */
	enum shmeta_consistency consistency;
	uint32_t timeout_ms; /* FRESH and SOURCE: the longest wait */
	uint32_t flags;      /* enum shmeta_read_flags */
	uint32_t reserved;
	char *buffer; /* FRESH and SOURCE: where the answer's strings go; may be NULL */
	size_t buffer_bytes;
};

/* -------------------------------------------------------------------------------------------------
 * Opening
 * ---------------------------------------------------------------------------------------------- */

struct shmeta;        /* one instance, opened by this process; may be used by all threads */
struct shmeta_reader; /* one thread's way into it: holds at most one snapshot; one thread at a
                       * time */
struct shmeta_handle; /* one partition, resolved; belongs to a reader and is used where that reader
                       * is used */
struct shmeta_iter;   /* a list being walked; belongs to the snapshot it was begun in */

enum shmeta_open_flags {
	SHMETA_OPEN_UNREGISTERED = 1u << 0,  /* never contact the writer: grace rules only
                                              * (inspection of a dead instance) */
	SHMETA_OPEN_PRECISE_CLOCK = 1u << 1, /* ages to the nanosecond instead of the kernel's tick:
                                              * 20 ns a lookup more */
	SHMETA_OPEN_NO_FILL = 1u << 2        /* every read of this instance is as with
                                       * SHMETA_READ_NO_FILL */
};

struct shmeta_options {
	size_t size;           /* sizeof(struct shmeta_options) */
	const char *directory; /* instance directory; NULL: /run/shmeta/<instance> */
	const char *instance;  /* NULL: "default" */
	const char *tenant;    /* NULL: SHMETA_DEFAULT_TENANT. One that cannot exist has nothing and
                             * cannot be written */
	const char *agent;     /* how operators see this process; NULL: the process's name */
	uint32_t flags;        /* enum shmeta_open_flags */
	uint32_t threads;      /* most readers at a time; 0: 64; at most 1024 */
	char *error;           /* may be NULL: receives a sentence when shmeta_open() fails */
	size_t error_bytes;
	uint32_t wait_ms; /* how long to wait for a writer that serves; 0: not at all, and it need
                           * not even live */
	uint32_t reserved;
};

/* Attach to an instance. Works whether the writer is alive or not, as soon as it has published
 * once; a second open of the same instance shares the mappings of the first.
 * Owns: *ret; shmeta_close() it. Borrows: nothing after the return. Threads: any. Blocks: for file
 * opens, one connect, and at most 200 ms for the writer's answer; before that up to wait_ms, until
 * there is an instance whose writer lives and serves.
 * Errors: ERR_TIMEOUT (wait_ms: the writer does not serve yet), ERR_INVALID_ARGUMENT,
 * ERR_NO_MEMORY, ERR_NOT_RUNNING (no such instance), ERR_PERMISSION (says which group to join; or
 * whose the directory, a file in it or a link to it is, where these are not of one owner),
 * ERR_VERSION (says both versions), ERR_CORRUPT, ERR_SYSTEM. */
SHMETA_MUST_USE enum shmeta_status shmeta_open(const struct shmeta_options *options, struct shmeta **ret);

/* Detach. What was made from the instance (readers, clients, lists of objects) goes on until it is
 * closed itself; nothing new can be made from it. Accepts NULL. In a forked child it closes the
 * copies of descriptors and frees the handle.
 * Threads: any; no other thread may be in a call on this instance. Blocks: never, but for closing
 * files. */
void shmeta_close(struct shmeta *instance);

/* The sentence of the last error on this instance that has one, of whichever thread: for humans; ""
 * when there was none, and in a forked child. Errors that have none (a NULL, ERR_FORKED,
 * ERR_NO_SNAPSHOT, ERR_BUSY_SNAPSHOT, ERR_EXPIRED, ERR_CONTENDED, ERR_CORRUPT of a lookup) leave it
 * as it was: shmeta_strerror() has all there is to say. Copied, cut at bytes, terminated; returns
 * ret. Threads: any. Blocks: never. */
const char *shmeta_last_error(struct shmeta *instance, char *ret, size_t bytes);

/* A thread's reader. It may move: threads use it one after the other, with what was made from it,
 * as tasks of a pool do that take a reader each from a shared list and put it back after
 * shmeta_end(). What orders the threads (a lock, a queue) is the caller's. Owns: *ret;
 * shmeta_reader_free() it, before or after the instance. Threads: any may create, one at a time may
 * use. Blocks: never. Errors: ERR_NO_MEMORY, ERR_BUSY (all `threads` readers exist), ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_reader_new(struct shmeta *instance, struct shmeta_reader **ret);

/* Ends an open snapshot, frees the reader. Its handles and iterators answer errors from then on and
 * are closed by their owner, before or after. Accepts NULL. Threads: any; no other thread may be in
 * a call on the reader, its handles or iterators. Blocks: never, but for closing files. */
void shmeta_reader_free(struct shmeta_reader *reader);

/* The last error of this reader's calls that has a sentence: whose other threads' errors do not
 * replace. */
struct shmeta_error {
	size_t size;               /* sizeof(struct shmeta_error), set by the caller */
	enum shmeta_status status; /* OK: there was none */
	uint32_t has_place;        /* 1: `topic` names the topic, and partition_id the partition,
                                    * that was asked for */
	uint32_t partition_id;
	uint32_t reserved;
	char topic[252]; /* terminated; "" where none was asked for */
	char text[484];  /* the sentence, terminated */
};
/* Threads: the reader's. Blocks: never. Errors: ERR_INVALID_ARGUMENT (size), ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_reader_error(struct shmeta_reader *reader, struct shmeta_error *ret);

/* Begin a snapshot: one commit that does not change underfoot.
 * Blocks: never for another thread or process; no system call while the writer's epoch and
 * generation stay the same. In a new generation it opens that one's files itself; while another
 * thread is at that, it goes on in the old one. Errors: ERR_FORKED, ERR_BUSY_SNAPSHOT,
 * ERR_CONTENDED (retry), UNKNOWN (nothing published yet), ERR_VERSION, ERR_CORRUPT, ERR_PERMISSION,
 * ERR_NO_MEMORY, ERR_SYSTEM (a new generation could not be mapped). */
SHMETA_MUST_USE enum shmeta_status shmeta_begin(struct shmeta_reader *reader);

/* End it. Views and iterators of the snapshot die. SHMETA_ERR_EXPIRED: discard what you read. The
 * reader was not registered, took longer than half the grace period, and the writer has committed
 * meanwhile; or the writer revoked the snapshot, because it was out of date for longer than
 * snapshot.max_age, because the store had no room left, or because an administrator asked for it.
 * The next begin is good again. SHMETA_ERR_NO_SNAPSHOT when none was open.
 * With each of them, and with ERR_FORKED, no snapshot is open afterwards. Threads: the reader's.
 * Blocks: never. */
enum shmeta_status shmeta_end(struct shmeta_reader *reader);

struct shmeta_snapshot_info {
	uint64_t txn;        /* commit number                                        */
	uint64_t generation; /* of the store directory                               */
	uint64_t epoch;      /* of the writer                                        */
	uint32_t registered; /* 1: pinned; 0: grace rules                            */
	uint32_t reserved;
};
/* Which snapshot is open. Threads: the reader's. Blocks: never. Errors: ERR_NO_SNAPSHOT,
 * ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_snapshot_info(struct shmeta_reader *reader, struct shmeta_snapshot_info *ret);

/* -------------------------------------------------------------------------------------------------
 * Topics. All lookups below: Borrows: views in *ret_... live until shmeta_end(). Threads: the
 * reader's. Blocks: never with CACHED; up to read->timeout_ms with FRESH and SOURCE. ret_fresh may
 * be NULL everywhere.
 * A name that cannot exist (empty, longer than SHMETA_NAME_MAX, not UTF-8, with control characters)
 * is ABSENT, fresh for ever (ttl_ns UINT64_MAX), and nobody is asked; so is everything of a tenant
 * that cannot exist. Lists of such are empty. Only writes and requests refuse them.
 * Where ABSENT is an answer UNKNOWN is one, too: nothing is loaded yet, a row that cannot be read
 * may be the one, or the store lacks some of what the source has and nobody has asked the source
 * for this. ret_fresh is written with OK, the ABSENT family and UNKNOWN.
 * Errors of all: ERR_NO_SNAPSHOT, ERR_FORKED, ERR_INVALID_ARGUMENT, ERR_CORRUPT, ERR_EXPIRED,
 * ERR_NO_MEMORY; with FRESH and SOURCE also ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_SOURCE, ERR_BUSY,
 * ERR_DENIED, ERR_BUFFER, ERR_PROTOCOL, and those of shmeta_begin().
 * ---------------------------------------------------------------------------------------------- */

/* A topic by name: OK or ABSENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_topic(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                                    const struct shmeta_read *read, struct shmeta_topic *ret,
                                                    struct shmeta_freshness *ret_fresh);

/* A topic of the instance's tenant by its incarnation: OK or ABSENT, also when it is another
 * tenant's. The source knows no such numbers: FRESH and SOURCE have the topic read that has it, by
 * its name, and the list of topics where none has it. UNKNOWN: none has it, and a topic of the
 * tenant cannot be read, or the store lacks some, where nobody is asked. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_topic_by_id(struct shmeta_reader *reader, uint32_t topic_id,
                                                          const struct shmeta_read *read, struct shmeta_topic *ret,
                                                          struct shmeta_freshness *ret_fresh);

/* In ascending order of name (memcmp). `pattern` may be NULL (all); otherwise a prefix (glob == 0)
 * or an anchored pattern in which only '*' is special (glob == 1). An empty one, of either kind,
 * leaves nothing out. UNKNOWN, and no iterator: the list of topics was never loaded. Borrows:
 * nothing after the return.
 * The next functions answer OK, or END, again and again; with END shmeta_next_topic() writes
 * ret_fresh: the age of the list as a whole. Iterators of all kinds: Owns: *ret; shmeta_iter_free()
 * it, before or after shmeta_end() and shmeta_reader_free(). Errors of the next functions also:
 * ERR_NO_SNAPSHOT when the snapshot that the iterator belongs to is over, although another one is
 * open by now. */
SHMETA_MUST_USE enum shmeta_status shmeta_list_topics(struct shmeta_reader *reader, const char *pattern,
                                                      size_t pattern_bytes, int glob, const struct shmeta_read *read,
                                                      struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_next_topic(struct shmeta_iter *iter, struct shmeta_topic *ret,
                                                     struct shmeta_freshness *ret_fresh);
/* Go on behind `name`, which need not exist: lists in pages, each in a snapshot of its own.
 * Borrows: nothing after the return. ERR_INVALID_ARGUMENT after the first shmeta_next_topic(). */
SHMETA_MUST_USE enum shmeta_status shmeta_skip_topics(struct shmeta_iter *iter, const char *name, size_t name_bytes);
/* Of an iterator of any kind, at any time: does its list have all that the source has? OK; UNKNOWN:
 * the source has rows of this kind (of the same topic, partition or group where the list is of one)
 * that cannot be read and are not in it, or the store lacks some. */
SHMETA_MUST_USE enum shmeta_status shmeta_iter_complete(const struct shmeta_iter *iter);
/* Accepts NULL. Threads: the reader's. Blocks: never. */
void shmeta_iter_free(struct shmeta_iter *iter);

/* Sums over the partitions that the store has: what is quarantined is not in them. As old as the
 * oldest of them. OK or ABSENT. Takes time in proportion to the number of partitions. */
SHMETA_MUST_USE enum shmeta_status shmeta_topic_stats(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                                      const struct shmeta_read *read, struct shmeta_topic_stats *ret,
                                                      struct shmeta_freshness *ret_fresh);

/* Many names, one snapshot: ret_status[i] and ret[i] answer names[i], as shmeta_get_topic().
 * Returns OK when all were looked up, whatever was answered; after an error (ERR_EXPIRED: the
 * snapshot is gone as a whole) no answer counts. Borrows: names until the return. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_topics(struct shmeta_reader *reader, size_t count,
                                                     const struct shmeta_str *names, const struct shmeta_read *read,
                                                     enum shmeta_status *ret_status, struct shmeta_topic *ret);

/* -------------------------------------------------------------------------------------------------
 * Partitions: what is said of lookups above holds.
 * Blocks: never with CACHED; up to read->timeout_ms with FRESH and SOURCE.
 * ---------------------------------------------------------------------------------------------- */

/* A handle remembers where a partition lies, so that a lookup through it need not search. It
 * follows the partition through commits, and answers ABSENT once its topic has been deleted, also
 * when a topic of the same name has been created since. Owns: *ret; shmeta_partition_close() it,
 * before or after its reader; afterwards it answers ERR_INVALID_ARGUMENT. Needs a snapshot. ABSENT
 * and UNKNOWN give no handle. Borrows: nothing after the return. Threads: where its reader is
 * used. */
SHMETA_MUST_USE enum shmeta_status shmeta_partition_open(struct shmeta_reader *reader, const char *topic,
                                                         size_t topic_bytes, uint32_t partition_id,
                                                         struct shmeta_handle **ret);
/* Accepts NULL. Threads: the reader's. Blocks: never. */
void shmeta_partition_close(struct shmeta_handle *handle);

/* The partition's record: OK or ABSENT. By name it costs a search, unless the reader asked for it
 * lately. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_partition(struct shmeta_handle *handle, const struct shmeta_read *read,
                                                        struct shmeta_partition *ret,
                                                        struct shmeta_freshness *ret_fresh);

SHMETA_MUST_USE enum shmeta_status shmeta_get_partition_named(struct shmeta_reader *reader, const char *topic,
                                                              size_t topic_bytes, uint32_t partition_id,
                                                              const struct shmeta_read *read,
                                                              struct shmeta_partition *ret,
                                                              struct shmeta_freshness *ret_fresh);

/* In ascending order of partition_id. A topic that is not there answers ABSENT or UNKNOWN, and
 * gives no iterator. */
SHMETA_MUST_USE enum shmeta_status shmeta_list_partitions(struct shmeta_reader *reader, const char *topic,
                                                          size_t topic_bytes, const struct shmeta_read *read,
                                                          struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_next_partition(struct shmeta_iter *iter, struct shmeta_partition *ret,
                                                         struct shmeta_freshness *ret_fresh);

/* Many handles of one reader (ERR_INVALID_ARGUMENT otherwise), one snapshot, as
 * shmeta_get_topics(). */
SHMETA_MUST_USE enum shmeta_status shmeta_get_partitions(size_t count, struct shmeta_handle *const *handles,
                                                         const struct shmeta_read *read, enum shmeta_status *ret_status,
                                                         struct shmeta_partition *ret);

/* -------------------------------------------------------------------------------------------------
 * Segments: what is said of lookups above holds.
 * Blocks: never with CACHED; up to read->timeout_ms with FRESH and SOURCE.
 * ---------------------------------------------------------------------------------------------- */

/* The segment that contains the offset; where several do, the one with the largest base. Otherwise
 * ABSENT_BEFORE_START, ABSENT_GAP, ABSENT_AT_END, or ABSENT when the partition itself is gone.
 * UNKNOWN in place of these, but not of ABSENT_AT_END, where the source has a segment that cannot
 * be read and may hold the offset. */
SHMETA_MUST_USE enum shmeta_status shmeta_find_segment(struct shmeta_handle *handle, uint64_t offset,
                                                       const struct shmeta_read *read, struct shmeta_segment *ret,
                                                       struct shmeta_freshness *ret_fresh);

SHMETA_MUST_USE enum shmeta_status shmeta_find_segment_named(struct shmeta_reader *reader, const char *topic,
                                                             size_t topic_bytes, uint32_t partition_id, uint64_t offset,
                                                             const struct shmeta_read *read, struct shmeta_segment *ret,
                                                             struct shmeta_freshness *ret_fresh);

/* The first segment, in order of base, whose max_timestamp_ms is at or after the given time.
 * ABSENT_AT_END when none is. UNKNOWN in place of both where one that cannot be read may be the
 * first: it begins behind the one before. */
SHMETA_MUST_USE enum shmeta_status shmeta_find_segment_for_timestamp(struct shmeta_handle *handle, int64_t timestamp_ms,
                                                                     const struct shmeta_read *read,
                                                                     struct shmeta_segment *ret,
                                                                     struct shmeta_freshness *ret_fresh);

/* The segment with the largest base. ABSENT_AT_END when the partition has none. UNKNOWN in place of
 * both where one that cannot be read may be the last. */
SHMETA_MUST_USE enum shmeta_status shmeta_last_segment(struct shmeta_handle *handle, const struct shmeta_read *read,
                                                       struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh);

/* All segments that overlap the offsets [from, to), in ascending order of base; none when from ==
 * to. The iterator outlives the handle. ABSENT and UNKNOWN (the partition is not there) give none.
 * Errors also: ERR_INVALID_ARGUMENT when from > to. */
SHMETA_MUST_USE enum shmeta_status shmeta_list_segments(struct shmeta_handle *handle, uint64_t from, uint64_t to,
                                                        const struct shmeta_read *read, struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_list_segments_named(struct shmeta_reader *reader, const char *topic,
                                                              size_t topic_bytes, uint32_t partition_id, uint64_t from,
                                                              uint64_t to, const struct shmeta_read *read,
                                                              struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_next_segment(struct shmeta_iter *iter, struct shmeta_segment *ret);

/* Spell id, s3_bucket and s3_key of a segment that a lookup gave in this snapshot into the caller's
 * buffer and point the segment's views at it (each is also terminated by NUL). 3 *
 * (SHMETA_STRING_MAX + 1) bytes always suffice.
 * Borrows: buffer, for as long as the views are used; they survive shmeta_end(). ABSENT: the
 * partition is gone. Errors also: ERR_BUFFER (nothing of *segment is changed), ERR_INVALID_ARGUMENT
 * (the partition has no such segment in this snapshot). */
SHMETA_MUST_USE enum shmeta_status shmeta_segment_strings(struct shmeta_handle *handle, struct shmeta_segment *segment,
                                                          char *buffer, size_t bytes);
/* The same for a segment that shmeta_find_segment_named() or a segment iterator of this snapshot
 * gave. */
SHMETA_MUST_USE enum shmeta_status shmeta_segment_strings_named(struct shmeta_reader *reader, const char *topic,
                                                                size_t topic_bytes, struct shmeta_segment *segment,
                                                                char *buffer, size_t bytes);
/* The same for a segment that this iterator gave, also where the list is of a snapshot of its
 * own. */
SHMETA_MUST_USE enum shmeta_status shmeta_iter_segment_strings(struct shmeta_iter *iter, struct shmeta_segment *segment,
                                                               char *buffer, size_t bytes);

struct shmeta_find {
	struct shmeta_handle *handle;
	uint64_t offset;
};
/* Many finds by handles of one reader (ERR_INVALID_ARGUMENT otherwise), one snapshot, as
 * shmeta_get_topics(): ret_status[i] and ret[i] are what shmeta_find_segment() answers to finds[i].
 * Where the data is not in the processor's cache a find of a batch takes a fraction of a single
 * one, because the memory is asked for that of many finds at once. Batches of 8 have most of the
 * gain. After ERR_NO_SNAPSHOT, ERR_FORKED and ERR_EXPIRED no answer counts. Borrows: finds until
 * the return. */
SHMETA_MUST_USE enum shmeta_status shmeta_find_segments(size_t count, const struct shmeta_find *finds,
                                                        const struct shmeta_read *read, enum shmeta_status *ret_status,
                                                        struct shmeta_segment *ret);

struct shmeta_find_named {
	struct shmeta_str topic;
	uint32_t partition_id;
	uint32_t reserved;
	uint64_t offset;
};
/* The same by name: ret_status[i] and ret[i] are what shmeta_find_segment_named() answers to
 * finds[i]. Borrows: finds and the names in them until the return. Threads: the reader's. Blocks:
 * as other lookups. */
SHMETA_MUST_USE enum shmeta_status shmeta_find_segments_named(struct shmeta_reader *reader, size_t count,
                                                              const struct shmeta_find_named *finds,
                                                              const struct shmeta_read *read,
                                                              enum shmeta_status *ret_status,
                                                              struct shmeta_segment *ret);

/* Columns of numbers: one entry a find in each; all but `status` may be NULL. Where status is not
 * OK the others hold 0. */
struct shmeta_columns {
	size_t size;     /* sizeof(struct shmeta_columns) */
	int32_t *status; /* enum shmeta_status */
	uint64_t *base_offset;
	uint64_t *end_offset;
	uint64_t *size_bytes;
	int64_t *created_at_ms;
	int64_t *min_timestamp_ms;
	int64_t *max_timestamp_ms;
	uint32_t *record_count;
};
/* As shmeta_find_segments(), for callers whose records are columns: offsets[i] is looked for in
 * handles[which[i]], or in handles[0] where `which` is NULL. All handles are of one reader. With
 * FRESH and SOURCE the writer is asked once for each handle, however many of its offsets are looked
 * for. The buffer of `read` is not used: columns have no strings. Borrows: all until the return.
 * Threads: the reader's. Blocks: never with CACHED; up to read->timeout_ms with FRESH and SOURCE.
 * Errors also: ERR_INVALID_ARGUMENT (size, no status, which[i] is not below handle_count, handles
 * of several readers). */
SHMETA_MUST_USE enum shmeta_status shmeta_find_columns(struct shmeta_handle *const *handles, size_t handle_count,
                                                       const uint32_t *which, const uint64_t *offsets, size_t count,
                                                       const struct shmeta_read *read,
                                                       const struct shmeta_columns *ret);

/* What to read next, planned in one call. */
struct shmeta_fetch_range {
	struct shmeta_str s3_bucket;
	struct shmeta_str s3_key;
	uint64_t position; /* first byte within the object */
	uint64_t bytes;
	uint32_t first; /* its segments: segments[first] .. segments[first + count - 1] */
	uint32_t count;
};
struct shmeta_fetch {
	size_t size; /* sizeof(struct shmeta_fetch) */
	uint64_t from;
	uint64_t max_bytes;  /* of all segments together; the first one comes whatever its size. 0:
                              * no limit */
	uint64_t min_bytes;  /* only sets `enough` of the plan */
	size_t max_segments; /* room in `segments` */
	struct shmeta_segment *segments;
	size_t max_ranges; /* room in `ranges` */
	struct shmeta_fetch_range *ranges;
	char *buffer; /* for the strings; 3 * (SHMETA_STRING_MAX + 1) bytes always suffice for one
                       * segment */
	size_t buffer_bytes;
};
struct shmeta_fetch_plan {
	size_t size; /* sizeof(struct shmeta_fetch_plan), set by the caller */
	size_t segments;
	size_t ranges;
	uint64_t bytes;           /* of these segments */
	uint64_t available_bytes; /* of all that the store has, from the first one on, that begin
                                  * below the high watermark */
	uint64_t next_offset;     /* behind the last one: `from` of the next plan */
	uint64_t high_watermark;
	uint32_t enough; /* 1: available_bytes >= min_bytes */
	uint32_t reserved;
};
/* The segments to read from an offset on: those that shmeta_list_segments() from there to the high
 * watermark would give, in order, as many as the limits and the room allow, and the byte ranges of
 * objects that they lie in. Slices of one object that follow each other in it are one range. Where
 * `from` lies in a gap the plan begins behind it: look at the first segment's base. What is
 * available is summed up from the index, not by walking it, unless segments overlap; segments
 * behind one that cannot be read count.
 * A plan leads over nothing that the source may have: it ends before a hole that may hold a segment
 * that cannot be read, or is not resident, next_offset is where that hole begins, and a plan from
 * there on is UNKNOWN (`shmetactl quarantine` says which row it is). OK: one segment or more.
 * ABSENT_BEFORE_START, ABSENT_AT_END, ABSENT, UNKNOWN: as shmeta_find_segment() for `from`; UNKNOWN
 * also where such a hole lies between `from` and the first segment; ABSENT_AT_END also where a
 * segment that reaches beyond the high watermark holds it; ABSENT_GAP: the gap reaches to the high
 * watermark. ERR_BUFFER: the strings of the first segment do not fit. Borrows: the strings live as
 * long as fetch->buffer. Threads, Blocks, Errors: as other lookups. */
SHMETA_MUST_USE enum shmeta_status shmeta_plan_fetch(struct shmeta_handle *handle, const struct shmeta_fetch *fetch,
                                                     const struct shmeta_read *read, struct shmeta_fetch_plan *ret,
                                                     struct shmeta_freshness *ret_fresh);

/* -------------------------------------------------------------------------------------------------
 * Advisory records: agents, leases, committed offsets, groups. Their freshness says hint = 1: who
 * decides by one reads it with SOURCE, which has that one record read. What is said above of
 * lookups (views, threads, impossible names, UNKNOWN, blocking, errors) and of iterators holds
 * here; a list of a class that was never loaded is UNKNOWN and gives no iterator. Names that are
 * passed are borrowed until the return. Without SHMETA_READ_MAY_MOVE, FRESH and SOURCE copy the
 * strings of one record into `buffer`, as shmeta_copy_agent() and its like. Blocks: never with
 * CACHED; up to read->timeout_ms with FRESH and SOURCE.
 * ---------------------------------------------------------------------------------------------- */

/* An agent by its id, alive or not: OK or ABSENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_agent(struct shmeta_reader *reader, const char *agent_id,
                                                    size_t agent_id_bytes, const struct shmeta_read *read,
                                                    struct shmeta_agent *ret, struct shmeta_freshness *ret_fresh);

/* now_ms, here and of leases: the host's wall clock. Where the source has a clock of its own, which
 * the records' times are of, the library adds to now_ms by how much that clock is ahead, from one
 * second on (struct shmeta_state, source_ahead_ms).
 * Agents whose last heartbeat is younger than 60 s at now_ms, by agent_id; group and zone (NULL:
 * any) must be equal. */
SHMETA_MUST_USE enum shmeta_status shmeta_list_agents(struct shmeta_reader *reader, const char *group,
                                                      size_t group_bytes, const char *zone, size_t zone_bytes,
                                                      int64_t now_ms, const struct shmeta_read *read,
                                                      struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_next_agent(struct shmeta_iter *iter, struct shmeta_agent *ret,
                                                     struct shmeta_freshness *ret_fresh);
/* As shmeta_skip_topics(). */
SHMETA_MUST_USE enum shmeta_status shmeta_skip_agents(struct shmeta_iter *iter, const char *agent_id,
                                                      size_t agent_id_bytes);

/* The unexpired lease of a partition at now_ms (at expires == now it is expired), or ABSENT. now_ms
 * INT64_MIN: whenever it expires. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_lease(struct shmeta_reader *reader, const char *topic, size_t topic_bytes,
                                                    uint32_t partition_id, int64_t now_ms,
                                                    const struct shmeta_read *read, struct shmeta_lease *ret,
                                                    struct shmeta_freshness *ret_fresh);
/* Unexpired leases by topic name and partition; topic and agent may be NULL (any). */
SHMETA_MUST_USE enum shmeta_status shmeta_list_leases(struct shmeta_reader *reader, const char *topic,
                                                      size_t topic_bytes, const char *agent_id, size_t agent_id_bytes,
                                                      int64_t now_ms, const struct shmeta_read *read,
                                                      struct shmeta_iter **ret);
/* ret_topic: the topic's name. */
SHMETA_MUST_USE enum shmeta_status shmeta_next_lease(struct shmeta_iter *iter, struct shmeta_str *ret_topic,
                                                     struct shmeta_lease *ret, struct shmeta_freshness *ret_fresh);

/* What a group committed for a partition: OK or ABSENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_committed_offset(struct shmeta_reader *reader, const char *group,
                                                               size_t group_bytes, const char *topic,
                                                               size_t topic_bytes, uint32_t partition_id,
                                                               const struct shmeta_read *read,
                                                               struct shmeta_committed_offset *ret,
                                                               struct shmeta_freshness *ret_fresh);
/* Of one group, by topic name and partition. */
SHMETA_MUST_USE enum shmeta_status shmeta_list_committed_offsets(struct shmeta_reader *reader, const char *group,
                                                                 size_t group_bytes, const struct shmeta_read *read,
                                                                 struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_next_committed_offset(struct shmeta_iter *iter, struct shmeta_str *ret_topic,
                                                                struct shmeta_committed_offset *ret,
                                                                struct shmeta_freshness *ret_fresh);

/* A consumer group by its id: OK or ABSENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_group(struct shmeta_reader *reader, const char *group_id,
                                                    size_t group_id_bytes, const struct shmeta_read *read,
                                                    struct shmeta_group *ret, struct shmeta_freshness *ret_fresh);
/* All consumer groups, by group_id. */
SHMETA_MUST_USE enum shmeta_status shmeta_list_groups(struct shmeta_reader *reader, const struct shmeta_read *read,
                                                      struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_next_group(struct shmeta_iter *iter, struct shmeta_group *ret,
                                                     struct shmeta_freshness *ret_fresh);
/* As shmeta_skip_topics(). */
SHMETA_MUST_USE enum shmeta_status shmeta_skip_groups(struct shmeta_iter *iter, const char *group_id,
                                                      size_t group_id_bytes);

/* -------------------------------------------------------------------------------------------------
 * Lookups with their snapshot around them, for callers that cannot hold one: tasks that are
 * suspended, goroutines, virtual threads. The reader has no snapshot open before the call and none
 * after it; the answer is as that of the lookup of the same name, and its strings are in `buffer`
 * (3 * (SHMETA_STRING_MAX + 1) bytes always suffice for a segment, SHMETA_NAME_MAX +
 * SHMETA_STRING_MAX + SHMETA_MAP_MAX for a topic, 4 * SHMETA_STRING_MAX + SHMETA_MAP_MAX for the
 * others; those of a plan are in that of `fetch`). The buffer of `read` is not used. Owns: nothing.
 * Borrows: buffer, for as long as the strings are used. Threads: the reader's.
 * Blocks: never with CACHED; up to read->timeout_ms with FRESH and SOURCE.
 * Errors: those of the lookups and of shmeta_begin(); ERR_BUFFER: the strings do not fit, and *ret
 * means nothing; ERR_BUSY_SNAPSHOT.
 * ---------------------------------------------------------------------------------------------- */

SHMETA_MUST_USE enum shmeta_status shmeta_once_topic(struct shmeta_reader *reader, const char *name, size_t name_bytes,
                                                     const struct shmeta_read *read, char *buffer, size_t bytes,
                                                     struct shmeta_topic *ret, struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_topic_by_id(struct shmeta_reader *reader, uint32_t topic_id,
                                                           const struct shmeta_read *read, char *buffer, size_t bytes,
                                                           struct shmeta_topic *ret,
                                                           struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_topic_stats(struct shmeta_reader *reader, const char *name,
                                                           size_t name_bytes, const struct shmeta_read *read,
                                                           struct shmeta_topic_stats *ret,
                                                           struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_partition(struct shmeta_reader *reader, const char *topic,
                                                         size_t topic_bytes, uint32_t partition_id,
                                                         const struct shmeta_read *read, struct shmeta_partition *ret,
                                                         struct shmeta_freshness *ret_fresh);
/* The segment that holds the offset, its id, bucket, key and position spelled. */
SHMETA_MUST_USE enum shmeta_status shmeta_once_segment(struct shmeta_reader *reader, const char *topic,
                                                       size_t topic_bytes, uint32_t partition_id, uint64_t offset,
                                                       const struct shmeta_read *read, char *buffer, size_t bytes,
                                                       struct shmeta_segment *ret, struct shmeta_freshness *ret_fresh);
/* The same of the segment for a time, and of the last one. */
SHMETA_MUST_USE enum shmeta_status shmeta_once_segment_for_timestamp(struct shmeta_reader *reader, const char *topic,
                                                                     size_t topic_bytes, uint32_t partition_id,
                                                                     int64_t timestamp_ms,
                                                                     const struct shmeta_read *read, char *buffer,
                                                                     size_t bytes, struct shmeta_segment *ret,
                                                                     struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_last_segment(struct shmeta_reader *reader, const char *topic,
                                                            size_t topic_bytes, uint32_t partition_id,
                                                            const struct shmeta_read *read, char *buffer, size_t bytes,
                                                            struct shmeta_segment *ret,
                                                            struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_fetch_plan(struct shmeta_reader *reader, const char *topic,
                                                          size_t topic_bytes, uint32_t partition_id,
                                                          const struct shmeta_fetch *fetch,
                                                          const struct shmeta_read *read, struct shmeta_fetch_plan *ret,
                                                          struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_agent(struct shmeta_reader *reader, const char *agent_id,
                                                     size_t agent_id_bytes, const struct shmeta_read *read,
                                                     char *buffer, size_t bytes, struct shmeta_agent *ret,
                                                     struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_lease(struct shmeta_reader *reader, const char *topic,
                                                     size_t topic_bytes, uint32_t partition_id, int64_t now_ms,
                                                     const struct shmeta_read *read, char *buffer, size_t bytes,
                                                     struct shmeta_lease *ret, struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_committed_offset(struct shmeta_reader *reader, const char *group,
                                                                size_t group_bytes, const char *topic,
                                                                size_t topic_bytes, uint32_t partition_id,
                                                                const struct shmeta_read *read, char *buffer,
                                                                size_t bytes, struct shmeta_committed_offset *ret,
                                                                struct shmeta_freshness *ret_fresh);
SHMETA_MUST_USE enum shmeta_status shmeta_once_group(struct shmeta_reader *reader, const char *group_id,
                                                     size_t group_id_bytes, const struct shmeta_read *read,
                                                     char *buffer, size_t bytes, struct shmeta_group *ret,
                                                     struct shmeta_freshness *ret_fresh);

/* -------------------------------------------------------------------------------------------------
 * Copies, for callers whose memory outlives a snapshot: every view of *record is copied into buffer
 * and repointed. ERR_BUFFER when it does not fit, and *record is as before; *ret_bytes (may be
 * NULL) is what it takes in either case. In the snapshot that gave the record, before shmeta_end().
 * Borrows: buffer, which must not overlap the views, for as long as *record is used. Threads: any.
 * Blocks: never. Errors also: ERR_INVALID_ARGUMENT.
 * ---------------------------------------------------------------------------------------------- */

SHMETA_MUST_USE enum shmeta_status shmeta_copy_topic(struct shmeta_topic *record, char *buffer, size_t bytes,
                                                     size_t *ret_bytes);
SHMETA_MUST_USE enum shmeta_status shmeta_copy_segment(struct shmeta_segment *record, char *buffer, size_t bytes,
                                                       size_t *ret_bytes);
SHMETA_MUST_USE enum shmeta_status shmeta_copy_agent(struct shmeta_agent *record, char *buffer, size_t bytes,
                                                     size_t *ret_bytes);
SHMETA_MUST_USE enum shmeta_status shmeta_copy_group(struct shmeta_group *record, char *buffer, size_t bytes,
                                                     size_t *ret_bytes);
SHMETA_MUST_USE enum shmeta_status shmeta_copy_lease(struct shmeta_lease *record, char *buffer, size_t bytes,
                                                     size_t *ret_bytes);
SHMETA_MUST_USE enum shmeta_status shmeta_copy_committed_offset(struct shmeta_committed_offset *record, char *buffer,
                                                                size_t bytes, size_t *ret_bytes);

/* -------------------------------------------------------------------------------------------------
 * The instance: state, changes, requests to the writer
 * ---------------------------------------------------------------------------------------------- */

#define SHMETA_PHASE_LIST(X)       \
	X(STARTING, 0, "starting") \
	X(LOADING, 1, "loading")   \
	X(SERVING, 2, "serving")   \
	X(DEGRADED, 3, "degraded") \
	X(DRAINING, 4, "draining") \
	X(STOPPED, 5, "stopped")
enum shmeta_phase {
#define SHMETA_X(name, number, text) SHMETA_PHASE_##name = number,
	SHMETA_PHASE_LIST(SHMETA_X)
#undef SHMETA_X
};

struct shmeta_state {
	size_t size; /* set by the caller: sizeof(struct shmeta_state) */
	enum shmeta_phase phase;
	uint32_t writer_pid;   /* in the writer's pid namespace */
	uint32_t writer_alive; /* 1: its heartbeat is younger than 5 s */
	/* How far the clock of the source, which judges leases, is ahead of the host's: add it to
	 * now before a comparison with times of leases and agents. 0: less than a second, or not
	 * known; +-INT32_MAX: 24 days or more. */
	int32_t source_ahead_ms;
	uint64_t heartbeat_age_ns; /* UINT64_MAX: ahead of this process's clock, which is one of
                                   * another time namespace */
	uint64_t epoch;
	uint64_t generation;
	uint64_t committed_txn;
	uint64_t class_age_ns[SHMETA_CLASS_COUNT]; /* since all of a class was known to be true;
                                                    * UINT64_MAX: never, or nobody can say
                                                    * (ahead) */
};
/* From shared memory alone. OK also where nothing was published yet: generation and committed_txn
 * are 0 then. Threads: any. Blocks: for file opens when the generation is a new one, its own or
 * another thread's.
 * Errors: ERR_INVALID_ARGUMENT (size), ERR_FORKED, ERR_VERSION, ERR_CORRUPT, ERR_PERMISSION,
 * ERR_CONTENDED, ERR_NO_MEMORY, ERR_SYSTEM. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_state(struct shmeta *instance, struct shmeta_state *ret);

/* The commit that last changed a record of the class; compare with an earlier answer to learn
 * whether anything did. UNKNOWN: nothing was published yet. Threads, Blocks, Errors: as
 * shmeta_get_state(). */
SHMETA_MUST_USE enum shmeta_status shmeta_changed_txn(struct shmeta *instance, enum shmeta_class cls,
                                                      uint64_t *ret_txn);

/* Wait until a commit newer than `txn` is published: in a directory that was made anew, or a store
 * that was loaded anew, meanwhile: any, and *ret_txn may be less than txn then. A number does not
 * say of which generation it is: where other threads' readers may have gone on to the next one
 * already, shmeta_submit_wait_commit() takes both. Blocks: up to timeout_ms. ret_txn (may be NULL):
 * the newest commit. Threads: any, each on its own. Errors: ERR_TIMEOUT, and those of
 * shmeta_get_state(). */
SHMETA_MUST_USE enum shmeta_status shmeta_wait_commit(struct shmeta *instance, uint64_t txn, uint32_t timeout_ms,
                                                      uint64_t *ret_txn);

/* Proof of a write: a snapshot whose generation and txn are at least these shows it. May be passed
 * to other processes. */
struct shmeta_token {
	uint64_t generation;
	uint64_t txn;
};

/* A key whose record changed. */
struct shmeta_change {
	uint64_t txn; /* the commit */
	/* TOPIC: `topic`. PARTITION: a partition's record or segments. LEASE: of a partition.
	 * AGENT: `name`. OFFSET: what group `name` committed for a partition; the group itself
	 * where `topic` is empty. */
	enum shmeta_class cls;
	uint32_t partition_id;
	struct shmeta_str topic;
	struct shmeta_str name;
	uint32_t deleted; /* 1: it was gone from the store after this commit */
	uint32_t reserved;
	uint64_t reserved2[2];
};
/* What changed in the commits after `since` (generation and txn of an earlier snapshot, from
 * shmeta_snapshot_info()) up to the reader's snapshot: a cache that forgets these keys, and then
 * takes the snapshot's own number for its next `since`, holds what the store holds. TOO_OLD, and no
 * iterator: that cannot be told, and the cache forgets everything. The writer keeps the keys of its
 * newest commits, a megabyte of them; they survive its restarts, but not a store that was loaded
 * anew.
 * The iterator gives the keys of the reader's tenant in order of commits, each once a commit, then
 * END; shmeta_iter_free() it. Not told of are moved freshness stamps, rows that cannot be read, and
 * a lease of which nothing changed but that it ends later (RENEW_AGENT): a cached one that has
 * ended is looked up again.
 * Borrows: `since` until the return; the views of *ret live until shmeta_iter_free(). Threads: the
 * reader's. Blocks: never. Errors: ERR_NO_SNAPSHOT, ERR_FORKED, ERR_INVALID_ARGUMENT, ERR_CORRUPT,
 * ERR_EXPIRED, ERR_NO_MEMORY. */
SHMETA_MUST_USE enum shmeta_status shmeta_changes_since(struct shmeta_reader *reader, const struct shmeta_token *since,
                                                        struct shmeta_iter **ret);
SHMETA_MUST_USE enum shmeta_status shmeta_next_change(struct shmeta_iter *iter, struct shmeta_change *ret);

struct shmeta_wait {
	struct shmeta_handle *handle;
	uint64_t high_watermark;   /* wait until the partition's is beyond this one */
	enum shmeta_status status; /* written: OK: it is; ERR_TIMEOUT: not yet; any other: what a
                                    * lookup answers */
	uint32_t reserved;
};
/* Wait until the high watermark of any of these partitions is beyond a number: the next offset that
 * a consumer reads, for one that found ABSENT_AT_END. At once when one is already. A partition
 * whose topic was deleted, or that is not resident any more, ends the wait, too. A commit between
 * the look and the sleep is not missed. A waiter sleeps until one of its partitions changes; those
 * on other partitions cost it nothing. With more than 32 partitions it looks after each commit
 * whether one of its own changed.
 * OK: *ret_ready (may be NULL) of them are not to be waited for any more, and each says why.
 * Nothing is promised of the next snapshot but that it shows this commit or a newer one.
 * Borrows: waits, whose handles are of one reader. Threads: the reader's. No snapshot may be open
 * on it, and none is afterwards. Blocks: up to timeout_ms. Errors: ERR_TIMEOUT (each status is
 * written), ERR_INVALID_ARGUMENT, and those of shmeta_begin(). */
SHMETA_MUST_USE enum shmeta_status shmeta_wait_partitions(struct shmeta_wait *waits, size_t count, uint32_t timeout_ms,
                                                          size_t *ret_ready);

/* Have the writer read a key from the source again, beginning after this call did, and wait until
 * the store shows it. What must be decided on the source's word is looked up with SOURCE instead.
 * cls TOPIC: `topic` with its list of partitions; PARTITION and SEGMENT: one partition with its
 * segments; LIST, AGENT, LEASE and OFFSET: the whole class (`topic` NULL). Of the first three NULL
 * means the whole class, too. OK also where the source has no such key: then the store shows that.
 * ret_txn (may be NULL): the commit that shows it. Borrows: topic until the return.
 * Threads: any. Blocks: up to timeout_ms. Errors: ERR_TIMEOUT, ERR_WRITER_AWAY (also: the
 * instance's directory was made anew and cannot be opened), ERR_SOURCE, ERR_BUSY, ERR_DENIED,
 * ERR_INVALID_ARGUMENT (an impossible name, class or tenant), ERR_PROTOCOL, ERR_FORKED, and those
 * of shmeta_begin(). */
SHMETA_MUST_USE enum shmeta_status shmeta_refresh(struct shmeta *instance, enum shmeta_class cls, const char *topic,
                                                  size_t topic_bytes, uint32_t partition_id, uint32_t timeout_ms,
                                                  uint64_t *ret_txn);

enum shmeta_invalidate_flags {
	SHMETA_INVALIDATE_PREFIX = 1u << 0, /* TOPIC: every topic that the store holds whose name
                                             * begins with `topic` */
	SHMETA_INVALIDATE_DRY_RUN = 1u << 1 /* only say what the store holds of it */
};
struct shmeta_invalidated {
	uint64_t topics, partitions; /* that the store held */
	uint64_t records;            /* agents, groups, committed offsets, leases */
	uint64_t txn;                /* the commit that shows what was read; a dry run: the newest
                                      * one */
};

/* Have everything that the store holds of a key compared with the source again, segments included,
 * by reads that begin after this call, and wait until the store shows it: for an operator who does
 * not trust what is shown. Until then the store goes on answering as before. It needs the right to
 * administer. cls TOPIC: `topic` whole; PARTITION and SEGMENT: one partition whole; AGENT, LEASE
 * and OFFSET: the class (`topic` NULL); LIST: everything, of all tenants (`topic` NULL). flags:
 * enum shmeta_invalidate_flags. ret may be NULL; written on OK. Threads: any. Blocks: up to
 * timeout_ms; then what was not begun is not. Errors: as shmeta_refresh(), ERR_INVALID_ARGUMENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_invalidate(struct shmeta *instance, enum shmeta_class cls, const char *topic,
                                                     size_t topic_bytes, uint32_t partition_id, uint32_t flags,
                                                     uint32_t timeout_ms, struct shmeta_invalidated *ret);

/* Consent to publish a source that is another one than before, or was taken back to another state,
 * and lost most of its topics or partitions: the writer goes on showing what it showed until
 * somebody does. It needs the right to administer. fingerprint: what is consented to, as this
 * function, the log and `shmetactl status` tell it; 0: only tell. ret_fingerprint and text (cut at
 * text_bytes; each may be NULL): what waits for consent, on OK and ERR_CONFLICT. OK: the writer
 * publishes it as soon as it has been read.
 * Threads: any. Blocks: up to timeout_ms. Errors: ERR_NOT_FOUND (nothing waits), ERR_CONFLICT (it
 * is not, or no longer, what the fingerprint says), ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_DENIED,
 * ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_accept_source(struct shmeta *instance, uint64_t fingerprint,
                                                        uint32_t timeout_ms, uint64_t *ret_fingerprint, char *text,
                                                        size_t text_bytes);

/* Take back the snapshots of a registered process: its next call within each answers ERR_EXPIRED,
 * and it registers anew. reader: its registration or its process id, as `shmetactl readers` lists
 * them. It needs the right to administer. ret_count (may be NULL): how many registrations that was,
 * on OK.
 * Threads: any. Blocks: up to timeout_ms. Errors: ERR_NOT_FOUND (no registered process is meant by
 * this), ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_DENIED, ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_revoke_reader(struct shmeta *instance, uint64_t reader, uint32_t timeout_ms,
                                                        uint64_t *ret_count);

/* What an operator asks of a running writer. */
enum shmeta_operation {
	SHMETA_OPERATE_PAUSE = 1,     /* leave the source alone; text: why */
	SHMETA_OPERATE_RESUME = 2,    /* end that */
	SHMETA_OPERATE_LOG_LEVEL = 3, /* text: a level of log.level, "": the configured one; number:
                                       * for so many ms, 0: until the next reload */
	SHMETA_OPERATE_EXPLAIN = 4,   /* text: a topic; number: a partition of it, UINT64_MAX: the
                                     * topic itself */
	SHMETA_OPERATE_SET = 5        /* text: an option and, behind a space, its value; without a
                                       * value: as the file has it again */
};
enum { SHMETA_OPERATE_TEXT = 400 };

/* Ask for it, and wait until it is done. It needs the right to administer, but for EXPLAIN. PAUSE:
 * once it is answered the writer has no connection to its source; the store stays as it is and its
 * answers age, writes and reads that ask the source are refused with the reason, and a writer that
 * is started again is paused, too. RESUME: it opens its source anew, and judges it as at a start.
 * ret_text (may be NULL): what became of it, as a sentence. EXPLAIN: how the key stands in a
 * bounded store, as one JSON object: mode ("mirror": nothing else); of what is resident
 * resident_for_ms (null: for longer than this is known), queue ("small", "main", "passing"),
 * queue_before and queue_records (how many records of it are looked at before, and all), touches,
 * bytes, next_eviction (when it leaves); of what is not, or whose topic is not, evicted_ms_ago and
 * evicted_because (both null: no eviction is known). SET: an option of the configuration has that
 * value until the writer is started again; the file is read again, too, and all of it is judged, so
 * all of it is in use, or nothing has changed (ERR_CONFIG). Options that take effect at a restart
 * cannot be set, nor those of rights, of the audit and of the source. Owns: *ret_text, terminated;
 * free() it. Borrows: text (at most SHMETA_OPERATE_TEXT bytes; NULL: "") until the return. Threads:
 * any. Blocks: up to timeout_ms. Errors: ERR_NOT_FOUND (RESUME: it is not paused),
 * ERR_INVALID_ARGUMENT (no such operation, level or key, or the text is too long or no UTF-8),
 * ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_DENIED, ERR_BUSY, ERR_NO_MEMORY, ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_operate(struct shmeta *instance, enum shmeta_operation operation,
                                                  const char *text, uint64_t number, uint32_t timeout_ms,
                                                  char **ret_text);

/* Have the writer read its configuration again: all of it, or nothing. sentence (may be NULL): what
 * was taken over, and what waits for a restart; or, with an error, what is wrong. Threads: any.
 * Blocks: up to timeout_ms. Errors: as shmeta_refresh(), and ERR_CONFIG. */
SHMETA_MUST_USE enum shmeta_status shmeta_reload(struct shmeta *instance, uint32_t timeout_ms, char *sentence,
                                                 size_t sentence_bytes);

/* The configuration that the writer runs with, as one JSON object: the file, and each option with
 * its value, its origin, and the value that a restart will bring (`pending`). Passwords are not
 * shown. Owns: *ret, terminated; free() it. Threads: any. Blocks: up to timeout_ms. Errors: as
 * shmeta_refresh(), ERR_NO_MEMORY. */
SHMETA_MUST_USE enum shmeta_status shmeta_get_config(struct shmeta *instance, uint32_t timeout_ms, char **ret);

/* -------------------------------------------------------------------------------------------------
 * Writing. A write goes through the writer: validated, committed to the source, shown by the store,
 * then answered. After OK every new snapshot of every process on the host shows it or something
 * newer.
 *
 * One call carries one or many operations. They are committed together with whatever else waits at
 * the writer (group commit), each has a result of its own, and one that fails harms no other.
 * Operations on one partition take effect in the order of their calls.
 * ---------------------------------------------------------------------------------------------- */

/* What a type reads of struct shmeta_op; everything else is zero.
 *   CREATE_TOPIC                      u.topic
 *   DELETE_TOPIC                      name
 *   UPDATE_HIGH_WATERMARK             name, partition_id, offset, fence
 *   ADD_SEGMENT                       name, partition_id, u.segment, fence
 *   ADD_SEGMENT_AND_UPDATE_WATERMARK  the same; the watermark becomes end_offset + 1
 *   DELETE_SEGMENTS_BEFORE            name, partition_id, offset
 *   ENSURE_GROUP                      group_id
 *   COMMIT_OFFSET                     name, partition_id, u.committed (group, offset, metadata)
 *   DELETE_GROUP                      group_id
 *   REGISTER_AGENT                    u.agent
 *   DEREGISTER_AGENT                  agent_id
 *   ACQUIRE_LEASE                     name, partition_id, agent_id, duration_ms
 *   RELEASE_LEASE                     name, partition_id, agent_id
 *   OFFER_LEASE                       name, partition_id, agent_id (holder), to_agent_id,
 *                                     duration_ms (of the offer)
 *   ACCEPT_LEASE                      transfer_id, agent_id (the one it was offered to)
 *   COMPLETE_LEASE                    transfer_id, agent_id (former holder), duration_ms (of the
 *                                     new lease)
 *   REJECT_LEASE                      transfer_id, agent_id (the one it was offered to)
 *   COMMIT_OBJECT                     u.object; the ADD_SLICE operations right behind it in the
 *                                     same call are its slices
 *   ADD_SLICE                         name, partition_id, u.segment (bucket and key empty: the
 *                                     object's), fence
 *   CONFIRM_OBJECT_DELETED            u.object (bucket, key)
 *   RENEW_AGENT                       agent_id, u.agent.last_heartbeat_ms, duration_ms: its
 *                                     heartbeat, and each lease that it holds and
 *                                     that has not expired now lasts at least so long from now on;
 *                                     epochs stay
 *   REPLACE_SEGMENTS                  name, partition_id, u.replace, fence */
#define SHMETA_OP_LIST(X)                                                          \
	X(CREATE_TOPIC, 1, "create_topic")                                         \
	X(DELETE_TOPIC, 2, "delete_topic")                                         \
	X(UPDATE_HIGH_WATERMARK, 3, "update_high_watermark")                       \
	X(ADD_SEGMENT, 4, "add_segment")                                           \
	X(ADD_SEGMENT_AND_UPDATE_WATERMARK, 5, "add_segment_and_update_watermark") \
	X(DELETE_SEGMENTS_BEFORE, 6, "delete_segments_before")                     \
	X(ENSURE_GROUP, 7, "ensure_consumer_group")                                \
	X(COMMIT_OFFSET, 8, "commit_offset")                                       \
	X(DELETE_GROUP, 9, "delete_consumer_group")                                \
	X(REGISTER_AGENT, 10, "register_agent")                                    \
	X(DEREGISTER_AGENT, 11, "deregister_agent")                                \
	X(ACQUIRE_LEASE, 12, "acquire_partition_lease")                            \
	X(RELEASE_LEASE, 13, "release_partition_lease")                            \
	X(OFFER_LEASE, 14, "offer_partition_lease")                                \
	X(ACCEPT_LEASE, 15, "accept_partition_lease")                              \
	X(COMPLETE_LEASE, 16, "complete_partition_lease")                          \
	X(REJECT_LEASE, 17, "reject_partition_lease")                              \
	X(COMMIT_OBJECT, 18, "commit_object")                                      \
	X(ADD_SLICE, 19, "add_slice")                                              \
	X(CONFIRM_OBJECT_DELETED, 20, "confirm_object_deleted")                    \
	X(RENEW_AGENT, 21, "renew_agent")                                          \
	X(REPLACE_SEGMENTS, 22, "replace_segments")

enum shmeta_op_type {
#define SHMETA_X(name, number, text) SHMETA_OP_##name = number,
	SHMETA_OP_LIST(SHMETA_X)
#undef SHMETA_X
		SHMETA_OP_TYPES = 23
};

/* The holder and the epoch under which the caller writes. agent_id.bytes 0: no fence. */
struct shmeta_fence {
	struct shmeta_str agent_id;
	uint64_t epoch;
};

/* An object that holds slices of many partitions. */
struct shmeta_object {
	struct shmeta_str s3_bucket;
	struct shmeta_str s3_key;
	uint64_t size_bytes;
	int64_t created_at_ms;
};

/* An object as a list shows it. */
struct shmeta_object_info {
	struct shmeta_object object;
	uint64_t slices;               /* that refer to it now */
	int64_t unreferenced_since_ms; /* when it was first seen without any; 0: it has some, or
                                        * nobody has looked yet */
};

/* Segments of a partition that go, and those that come in their place, in one unit: compaction, and
 * many small ones made few. Each list ascends by base. The old ones are given whole: every field is
 * compared with what is there, and nothing may lie between them. The new ones do not overlap, lie
 * between the first old base and the greatest old end, and may leave gaps; there may be none. One
 * that is given in both lists stays. A new one whose bucket and key are those of an object that was
 * committed (COMMIT_OBJECT) is a slice of it at `position`; any other has an object of its own,
 * whose key is none of the old ones'. All other segments and the watermark stay as they are.
 * ERR_CONFLICT: an old one is not there as it was given, or a segment that stays is in the way; the
 * text says which. Of those before the old ones the source looks at the nearest 1024. Once more,
 * when all new ones are there and no old one is left: OK, and count is 0. As many as fit a frame
 * (128 KiB). */
struct shmeta_replace {
	const struct shmeta_segment *old_segments;
	const struct shmeta_segment *new_segments;
	uint32_t old_count; /* 1 and more */
	uint32_t new_count;
	/* Not 0: never lower than the highest that was ever given for the partition, else
	 * ERR_FENCED; it raises that. */
	uint64_t compaction_epoch;
};

/* One operation. */
struct shmeta_op {
	enum shmeta_op_type type;
	uint32_t partition_id;
	struct shmeta_str name; /* of the topic */
	struct shmeta_str group_id;
	struct shmeta_str agent_id;
	struct shmeta_str to_agent_id;
	struct shmeta_fence fence;
	uint64_t offset;
	uint64_t transfer_id;
	int64_t duration_ms;
	/* Made by shmeta_request_id(), another one for each operation; both 0: none. The same
	 * operation again under its id is answered with the first one's result and not done twice;
	 * any other operation under it gets ERR_CONFLICT and is not done. Ids belong to the
	 * caller's uid and tenant; the writer remembers them until it ends, the newest 16384 of all
	 * users together. */
	uint64_t request_id[2];
	union {
		struct shmeta_topic topic;
		struct shmeta_segment segment;
		struct shmeta_committed_offset committed;
		struct shmeta_agent agent;
		struct shmeta_object object;
		struct shmeta_replace replace;
	} u;
	/* Of the caller's trace, the 16 bytes of W3C's trace-id or any others; all 0: none. It
	 * travels with the operation and changes nothing of it; under one request id it may be
	 * another one. The writer names it, in 32 hexadecimal digits, where it tells of the
	 * operation: in the audit, in the event of the commit, among the slow calls. A writer of an
	 * earlier version is not sent it. */
	uint8_t trace_id[16];
	uint64_t reserved[2];
};

/* A request_id: 16 random bytes of the kernel. Owns: nothing. Threads: any; also in a forked child.
 * Blocks: never. Errors: ERR_SYSTEM (the kernel has no random numbers yet, or a sandbox forbids
 * getrandom(2)): both words are 0, so that an operation that takes them has no id and is written
 * all the same; if its answer is lost, its outcome is unknown. ERR_INVALID_ARGUMENT: NULL. */
enum shmeta_status shmeta_request_id(uint64_t ret_id[2]);

/* What became of one operation. */
struct shmeta_result {
	enum shmeta_status status;
	uint32_t partition_id;
	/* DELETE_SEGMENTS_BEFORE: segments deleted; RENEW_AGENT: leases renewed; REPLACE_SEGMENTS:
	 * old ones that went */
	uint64_t count;
	uint64_t transfer_id; /* OFFER_LEASE */
	/* ACQUIRE_LEASE: leader_agent_id is the operation's. COMPLETE_LEASE: leader_agent_id empty.
	 * topic_id is 0. */
	struct shmeta_lease lease;
	struct shmeta_segment existing; /* ERR_ALREADY_EXISTS of an add: what is there; strings
                                         * empty */
	char text[160];                 /* errors: the sentence */
	/* Errors: what the sentence is about, as far as the operation says it; ACQUIRE_LEASE: the
	 * lease's topic, done or not. It and lease.leader_agent_id are bytes of the operation:
	 * those of the caller's for shmeta_write(), of the library's copy, until it goes with the
	 * results, for a submitted call. */
	struct shmeta_str topic;
	uint64_t epoch; /* ERR_FENCED: of the fence; by its compaction_epoch: that */
	/* Where the sentence names a number (most > 0): it, and its limits.
	 *   ERR_INVALID_ARGUMENT of a number, or a length in bytes, out of range; a negative
	 *   duration_ms as its 64 bits ERR_FENCED of REPLACE_SEGMENTS by its compaction_epoch:
	 *   that, from the highest that was ever given on (least) ERR_CONFLICT of REPLACE_SEGMENTS
	 *   by a segment: its base_offset ERR_CONFLICT of ACQUIRE_LEASE: for how many ms another
	 *   agent still holds it */
	uint64_t value, least, most;
	uint64_t reserved[2];
};

/* A connection to the writer, made when first used and again when it breaks. Any thread may call:
 * of the threads in shmeta_write() one at a time waits for the descriptor and takes in the answers
 * of all, the others wait for it, each until its own deadline. Calls are sent in the order they
 * were made. Never shared over fork: in the child every function answers ERR_FORKED, and the
 * parent's connection goes on. */
struct shmeta_client;

/* What a program is told of each call of a client: once when it begins, once when it has ended. */
struct shmeta_call_event {
	uint64_t id;              /* the same for both; no other call of the client has it */
	enum shmeta_op_type type; /* of its first operation; 0: it is of shmeta_submit_refresh() or
                           * shmeta_submit_wait() */
	uint32_t ended;           /* 0: it begins; 1 */
	size_t count;             /* operations */
	uint64_t took_ns;         /* ended: since it began */
	/* ended: what shmeta_write(), `done` or shmeta_client_next_done() says of the call; END: it
	 * was canceled */
	enum shmeta_status status;
	uint32_t reserved;
	uint8_t trace_id[16]; /* of the first operation that has one; all 0: none has */
};
/* Runs on the thread that makes the call: for the end of a submitted one, on that of
 * shmeta_client_process(), shmeta_client_cancel() or shmeta_client_close(), before `done`. No lock
 * is held. It may read, and use other clients, but not this one. *event dies when it returns. */
typedef void shmeta_call_fn(void *arg, const struct shmeta_call_event *event);

struct shmeta_client_options {
	size_t size;                /* sizeof(struct shmeta_client_options) */
	uint32_t requests_max;      /* calls without an answer at a time; then ERR_BUSY. 0: 1024 */
	uint32_t output_bytes;      /* what these calls hold, encoded; then ERR_BUSY. 0: 16 MiB */
	uint32_t submit_timeout_ms; /* of a submitted write or refresh, as timeout_ms of
                                    * shmeta_write(). 0: it waits until it is answered */
	/* NULL: nobody is told. A call whose arguments are refused (ERR_INVALID_ARGUMENT,
	 * ERR_NO_MEMORY, ERR_FORKED) does not begin; one that is ERR_BUSY at once begins and ends.
	 * In a forked child nothing is told. */
	shmeta_call_fn *on_call;
	void *on_call_arg;
};

/* Owns: *ret; shmeta_client_close() it, before or after the instance. Threads: any. Blocks: never:
 * it connects when first used. options may be NULL. Errors: ERR_NO_MEMORY, ERR_FORKED,
 * ERR_INVALID_ARGUMENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_client_open(struct shmeta *instance,
                                                      const struct shmeta_client_options *options,
                                                      struct shmeta_client **ret);
/* Submitted calls without an answer are told so: ERR_OUTCOME_UNKNOWN when sent, ERR_WRITER_AWAY
 * when not. No thread may be in another function of this client. Accepts NULL. In a forked child it
 * only frees memory. Blocks: never, but for what the callbacks do. */
void shmeta_client_close(struct shmeta_client *client);

/* Do `count` operations and wait for their results. ret_results[i] is what became of ops[i].
 *
 * The status is OK when every operation has a result of its own, good or bad; otherwise it holds
 * for all of them:
 *   ERR_OUTCOME_UNKNOWN   sent, and the connection broke before the answer: may have been committed
 *   ERR_TIMEOUT           sent, and not answered in time: may have been committed, or may be later
 *   ERR_NOT_CACHED        committed; each has its result, but the store does not show it yet
 *   ERR_WRITER_AWAY       not sent: no connection within timeout_ms
 *   ERR_BUSY              not sent: this client's limits, or the writer's; or the writer's queue
 *                         was full
 *   ERR_DENIED, ERR_SOURCE, ERR_READ_ONLY, ERR_VERSION, ...   nothing was done
 *   ERR_INVALID_ARGUMENT nothing was sent (an operation that fits no frame; a slice that is not
 *   behind its object)
 * ret_results is written in all of these cases: where an operation has no result of its own, its
 * status is the one that holds for it. A call that needs several frames can meet with several
 * fates: its status is then the first of the above that any of them met. An object and its slices
 * share a frame (128 KiB).
 *
 * A write that may have been done is repeated by the library only when the operation has a
 * request_id and the writer that answers is the one that it was sent to: it recognises the id
 * (shmeta_request_id()). What was never sent goes out when the connection is back.
 *
 * ret_token may be NULL; written when anything was sent. Borrows: ops until the return. Threads:
 * any. Blocks: up to timeout_ms. Errors also: ERR_NO_MEMORY, ERR_SYSTEM (nothing was sent),
 * ERR_FORKED (nothing is written). */
SHMETA_MUST_USE enum shmeta_status shmeta_write(struct shmeta_client *client, const struct shmeta_op *ops, size_t count,
                                                uint32_t timeout_ms, struct shmeta_result *ret_results,
                                                struct shmeta_token *ret_token);

/* The same for event loops: send or queue it and return at once. `done` is called from
 * shmeta_client_process() of this client, exactly once for each call for which this answered OK, at
 * the latest from shmeta_client_close(). results and token die when it returns. It may submit and
 * write, not close. NULL: shmeta_client_next_done() tells instead. ops are copied. Threads: any.
 * Blocks: never. Errors: ERR_BUSY, ERR_INVALID_ARGUMENT, ERR_NO_MEMORY, ERR_FORKED: then done is
 * not called. */
typedef void shmeta_done_fn(void *arg, enum shmeta_status status, const struct shmeta_result *results, size_t count,
                            const struct shmeta_token *token);
SHMETA_MUST_USE enum shmeta_status shmeta_submit(struct shmeta_client *client, const struct shmeta_op *ops,
                                                 size_t count, shmeta_done_fn *done, void *arg);

/* A key of the source. */
struct shmeta_key {
	/* TOPIC: `topic`. PARTITION, SEGMENT: a partition with its segments. LEASE: of a partition.
	 * AGENT: `name`. OFFSET: what group `name` committed for a partition; the group itself
	 * where `topic` is empty. Without any name, and for LIST: all of the class. */
	enum shmeta_class cls;
	uint32_t partition_id;
	struct shmeta_str topic;
	struct shmeta_str name;
	uint64_t reserved[2];
};
/* Have a key read again, as shmeta_refresh() does, for event loops: `done` is called as that of
 * shmeta_submit(), with one result and, with OK, the token of the commit that shows what was read:
 * the next shmeta_begin() does, so that lookups with CACHED answer what FRESH or SOURCE would have.
 * It changes nothing at the source and needs no right to write: a lost connection is not told, it
 * is asked again, also of another writer, until it is answered or submit_timeout_ms has passed.
 * Keys that are asked for by many at a time are read once. Statuses of the call: OK, also where the
 * source has no such key; ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_SOURCE, ERR_BUSY, ERR_DENIED, ...:
 * nothing is known, and the result says why. flags: 0 or SHMETA_READ_NO_FILL. *ret_ticket (may be
 * NULL): for shmeta_client_cancel(). key is copied. Threads: any. Blocks: never. Errors: ERR_BUSY,
 * ERR_INVALID_ARGUMENT, ERR_NO_MEMORY, ERR_FORKED: then done is not called. */
SHMETA_MUST_USE enum shmeta_status shmeta_submit_refresh(struct shmeta_client *client, const struct shmeta_key *key,
                                                         uint32_t flags, shmeta_done_fn *done, void *arg,
                                                         uint64_t *ret_ticket);
/* A partition that a submitted wait is for. */
struct shmeta_watch {
	struct shmeta_str topic;
	uint32_t partition_id;
	enum shmeta_status status; /* written: OK: it has come; ERR_TIMEOUT: not yet; any other:
                                    * what a lookup answers */
	uint64_t high_watermark;   /* wait until the partition's is beyond this one */
	uint64_t reserved[2];
};
enum { SHMETA_WAIT_MAX = 16384 }; /* partitions of one submitted wait */
/* Wait as shmeta_wait_partitions() does, for event loops: `done` is called once, as that of
 * shmeta_submit(), with one result and the token of the commit that was looked at: the next
 * shmeta_begin() shows it. Call it again to go on waiting.
 * It needs no right to write, and no reader: the client has one of its own for this, and the writer
 * answers when one of these partitions may have changed. While no writer runs nothing changes, and
 * the wait goes on with the next one. It has no timeout: shmeta_client_cancel() it. Statuses of the
 * call: OK: at least one of them need not be waited for any more, and each says why. ERR_BUSY: the
 * writer holds too many waits, of this user or of all. ERR_UNSUPPORTED: it is of an earlier
 * version. ERR_DENIED and others: as of shmeta_submit_refresh(). It counts for requests_max until
 * it is over. *ret_ticket may be NULL. Borrows: watches, with their topics, until the wait is over
 * or canceled. Threads: any. Blocks: never, but for file opens when the generation is a new one.
 * Errors: ERR_BUSY, ERR_INVALID_ARGUMENT, ERR_NO_MEMORY, ERR_FORKED: then done is not called. */
SHMETA_MUST_USE enum shmeta_status shmeta_submit_wait(struct shmeta_client *client, struct shmeta_watch *watches,
                                                      size_t count, shmeta_done_fn *done, void *arg,
                                                      uint64_t *ret_ticket);
/* The same for a commit that is newer than `since` (generation and txn of a snapshot, or a token),
 * as shmeta_wait_commit() waits for it. Until a token is shown, as shmeta_wait_token(): pass it
 * with a txn that is less by 1; where it is shown already, the wait is over at once. since is
 * copied. Threads, Blocks, Errors: as shmeta_submit_wait(). */
SHMETA_MUST_USE enum shmeta_status shmeta_submit_wait_commit(struct shmeta_client *client,
                                                             const struct shmeta_token *since, shmeta_done_fn *done,
                                                             void *arg, uint64_t *ret_ticket);
/* Do not wait for a submitted refresh or wait any more: its callback is not called, and
 * shmeta_client_next_done() does not tell of it. A write cannot be canceled. Threads: any. Blocks:
 * never.
 * Errors: ERR_NOT_FOUND (its callback has run, or runs now; or it was told, or canceled),
 * ERR_INVALID_ARGUMENT, ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_client_cancel(struct shmeta_client *client, uint64_t ticket);

/* What became of a submitted call. */
struct shmeta_done {
	size_t size; /* sizeof(struct shmeta_done), set by the caller */
	void *arg;
	const struct shmeta_result *results;
	size_t count;
	enum shmeta_status status;
	uint32_t reserved;
	struct shmeta_token token;
};
/* The next call that was submitted with `done` NULL and is over, in the order in which they ended:
 * a queue in place of callbacks. shmeta_client_process() fills it. What is not taken counts for
 * requests_max and output_bytes, and is dropped by shmeta_client_close(). OK, or END: there is none
 * now. Borrows: the results live until the next call of this function on the client, or its end.
 * Threads: any, one at a time. Blocks: never. Errors: ERR_INVALID_ARGUMENT (size), ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_client_next_done(struct shmeta_client *client, struct shmeta_done *ret);

/* What an event loop waits for: a descriptor (another one after each reconnection; -1: none) and
 * poll(2) events. Both may change with every call on this client: ask again before each wait.
 * Threads: any. Blocks: never. */
int shmeta_client_fd(struct shmeta_client *client);
short shmeta_client_events(struct shmeta_client *client);
/* Send and receive what can be without blocking, call what is done, reconnect when it is due. Call
 * it when the descriptor is ready and within *ret_wait_ms (may be NULL; at most 1000). An answer to
 * a submitted call that another thread's shmeta_write() took in is delivered by the next call: a
 * client of its own avoids the wait. Threads: any. Blocks: never, but for what the callbacks do.
 * OK, ERR_WRITER_AWAY (calls wait for a connection; it tries again), ERR_FORKED,
 * ERR_INVALID_ARGUMENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_client_process(struct shmeta_client *client, uint32_t *ret_wait_ms);

enum shmeta_object_flags {
	SHMETA_OBJECTS_DELETABLE = 1u << 0 /* only those that no slice refers to since
                                            * objects.grace_ms of the writer's configuration */
};
struct shmeta_objects; /* a list of objects being walked */

/* The tenant's objects, as the source has them, in order of bucket and key (memcmp). A deletable
 * one may be deleted from object storage: no reader that keeps to its times to live still looks for
 * it. Delete it there, then write CONFIRM_OBJECT_DELETED, which may be repeated. The grace begins
 * when an object is first seen without slices, by a list of this kind: make one now and then.
 * The list comes in pages, each true of a moment of its own: what is committed or confirmed
 * meanwhile may be in it or not. It needs the right to write or to administer. flags: enum
 * shmeta_object_flags.
 * Owns: *ret; shmeta_objects_free() it, before or after the instance. Threads: any, one at a time
 * on a list.
 * Blocks: up to timeout_ms for each page, also in shmeta_next_object().
 * Errors: ERR_UNSUPPORTED (the source keeps no objects), ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_SOURCE,
 * ERR_BUSY, ERR_DENIED, ERR_NO_MEMORY, ERR_INVALID_ARGUMENT, ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_list_objects(struct shmeta *instance, uint32_t flags, uint32_t timeout_ms,
                                                       struct shmeta_objects **ret);
/* OK and the next object, or END. Borrows: the strings of *ret live until the next call on this
 * list. After an error it may be called again: it goes on where it was. Blocks: up to timeout_ms of
 * the list for each page. Errors: as above. */
SHMETA_MUST_USE enum shmeta_status shmeta_next_object(struct shmeta_objects *list, struct shmeta_object_info *ret);
/* Accepts NULL. Threads: one at a time. Blocks: never. */
void shmeta_objects_free(struct shmeta_objects *list);

/* How far the log of a partition goes that was written under an epoch of its lease: what a follower
 * keeps of its own log when another leads. The first write under a fence records the epoch and
 * where it begins, in the write's own unit: the base of the segment (the lowest that is added under
 * it), or the high watermark before UPDATE_HIGH_WATERMARK. Epochs under which nothing was written
 * are not recorded. Asked of the source, as it is now. It needs the right to write or to
 * administer.
 *   OK                     *ret_end_offset: where the next recorded epoch begins, or the high
 *                          watermark; *ret_epoch: the greatest
 *                          recorded epoch that is not beyond this one, 0: there is none. Each
 *                          pointer may be NULL
 *   ABSENT                 the partition's lease never had that epoch, or one beyond it;
 *                          *ret_epoch: the highest that it had, 0: none, or
 *                          the writer is of an earlier version
 *   ABSENT_BEFORE_START    the epoch is older than those that are kept: the newest 4096, without
 *                          those that end at or below the log
 *                          start when segments are deleted, but with the newest of these
 * shmeta_last_error() has a sentence for each answer but OK. DELETE_TOPIC and CREATE_TOPIC forget
 * the epochs of a topic of that name; one that another program deletes and makes anew has those of
 * the former. Moves to another source leave them behind.
 * Owns: nothing; borrows: topic until the return. Threads: any. Blocks: up to timeout_ms.
 * Errors: ERR_TOPIC_NOT_FOUND, ERR_PARTITION_NOT_FOUND, ERR_NOT_TENANT, ERR_UNSUPPORTED (the source
 * keeps none: it lacks shmeta's own tables), ERR_TIMEOUT, ERR_WRITER_AWAY (also: the writer is of a
 * version before this call), ERR_SOURCE, ERR_BUSY, ERR_DENIED, ERR_INVALID_ARGUMENT, ERR_FORKED. */
SHMETA_MUST_USE enum shmeta_status shmeta_leader_epoch_end(struct shmeta *instance, const char *topic,
                                                           size_t topic_bytes, uint32_t partition_id, uint64_t epoch,
                                                           uint32_t timeout_ms, uint64_t *ret_epoch,
                                                           uint64_t *ret_end_offset);

/* -------------------------------------------------------------------------------------------------
 * The library and the header
 * ---------------------------------------------------------------------------------------------- */

/* Every struct that a caller fills or reads: those that a later version may make longer at their
 * end (docs/compatibility.md), and the others. shmeta-abi.json, installed beside the library, has
 * their fields, sizes and offsets. */
#define SHMETA_GROWING_STRUCT_LIST(X) \
	X(read)                       \
	X(options)                    \
	X(error)                      \
	X(columns)                    \
	X(fetch)                      \
	X(fetch_plan)                 \
	X(state)                      \
	X(call_event)                 \
	X(client_options)             \
	X(done)
#define SHMETA_FIXED_STRUCT_LIST(X) \
	X(str)                      \
	X(map)                      \
	X(pair)                     \
	X(topic)                    \
	X(partition)                \
	X(segment)                  \
	X(agent)                    \
	X(lease)                    \
	X(committed_offset)         \
	X(group)                    \
	X(topic_stats)              \
	X(freshness)                \
	X(snapshot_info)            \
	X(find)                     \
	X(find_named)               \
	X(fetch_range)              \
	X(token)                    \
	X(change)                   \
	X(key)                      \
	X(watch)                    \
	X(wait)                     \
	X(invalidated)              \
	X(fence)                    \
	X(object)                   \
	X(object_info)              \
	X(op)                       \
	X(replace)                  \
	X(result)
#define SHMETA_STRUCT_LIST(X)         \
	SHMETA_GROWING_STRUCT_LIST(X) \
	SHMETA_FIXED_STRUCT_LIST(X)

/* The size that this library takes a struct to have, by its name ("shmeta_topic"); 0: it knows none
 * of that name. For bindings with layouts of their own. Threads: any. Blocks: never. */
size_t shmeta_sizeof(const char *name);

/* 1: each struct has the size in this program that it has in the library, or is longer there where
 * it may grow: what a binding, or a program that opens the library at run time, asks before
 * anything else. Threads: any. Blocks: never. */
static inline int shmeta_abi_matches(void)
{
#define SHMETA_X(name)                                                      \
	if (shmeta_sizeof("shmeta_" #name) != sizeof(struct shmeta_##name)) \
		return 0;
	SHMETA_FIXED_STRUCT_LIST(SHMETA_X)
#undef SHMETA_X
#define SHMETA_X(name)                                                     \
	if (shmeta_sizeof("shmeta_" #name) < sizeof(struct shmeta_##name)) \
		return 0;
	SHMETA_GROWING_STRUCT_LIST(SHMETA_X)
#undef SHMETA_X
	return 1;
}

/* Wait until the store shows what a token proves, so that the next shmeta_begin() does: read your
 * writes, or another process's. Threads: any. Blocks: up to timeout_ms; not at all for the token of
 * a write that this host's writer answered with OK. Errors: ERR_TIMEOUT, ERR_FORKED, ERR_SYSTEM,
 * ERR_INVALID_ARGUMENT. */
SHMETA_MUST_USE enum shmeta_status shmeta_wait_token(struct shmeta *instance, const struct shmeta_token *token,
                                                     uint32_t timeout_ms);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif
#endif
