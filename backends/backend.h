/* SPDX-License-Identifier: Apache-2.0
 * Where rows come from. One const table per engine; the core owns the state block; an engine knows
 * nothing of the store, starts no thread, logs nothing and never prints.
 *
 * Contract
 * - All calls come from one thread, never concurrently. They may block, up to the deadlines in the
 *   options.
 * - Rows are borrowed: they die when the sink's function returns. A non-OK answer of the sink ends
 *   the call, which returns it unchanged.
 * - A row that violates semantics.md C9 or cannot be read (not UTF-8, a negative count, a duplicate
 *   base, a segment without its partition) goes to sink->quarantine with its key and a sentence
 *   instead of to its function, and the call goes on.
 * - Every failure fills err with a sentence that names the engine, what was being done, and what
 *   the engine said. ERR_SOURCE: the source cannot answer now (try again); ERR_CONFIG: it never
 *   will (wrong file, wrong schema); ERR_NO_MEMORY. changes(), objects() and epoch_end() also
 *   answer ERR_BUSY: the source answers, but throttles this, or a limit of the options holds it
 *   back.
 * - After ERR_SOURCE every later call may reconnect by itself; the core decides when to try.
 * - Where a connection that was made anew leads to another source (fingerprint()), or another
 *   course of it (sink->history()), than load(), changes() or resume() last spoke of, fetch(),
 *   start(), finish(), apply(), objects() and epoch_end() answer ERR_CONFLICT and do nothing, until
 *   changes() or load() has been called.
 * - The status of fetch() and apply() is the connection's: each key and each operation has one of
 *   its own.
 * - What is of one moment in a load() and in a fetch() is a limit of the engine (enum
 *   backend_moment): everything, or each topic and each partition.
 * - ERR_INVALID_ARGUMENT from load(): the source answers, but not for some row. The core has load()
 *   list the keys (sink->key), and fetches them.
 * - A state may be opened beside another one of the same source, for load() alone; open() fails
 *   where that is not possible. */
#ifndef SHMETA_BACKENDS_BACKEND_H
#define SHMETA_BACKENDS_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"

struct backend_error {
	enum shmeta_status code;
	char text[480];
	int denied; /* the rights of whoever asks do not suffice for it; code says what follows from
                     * that */
	int alone;  /* ERR_SOURCE of objects() or epoch_end(): of what was asked alone; the source
                     * answers */
};

/* What may be asked for, what has changed, what is refreshed: one key. Strings are borrowed by the
 * call they are passed to. A class decides which fields are read:
 *   TOPIC      tenant, topic: the topic and its partitions
 *   PARTITION  tenant, topic, partition_id: that row
 *   SEGMENT    the same: the partition's row and its segments in [from, to]
 *   AGENT      tenant, name (its id): that agent; where all tenants share one namespace of ids,
 *              whosever it is
 *   LEASE      tenant, topic, partition_id: that lease
 *   OFFSET     tenant, name (the group), topic, partition_id: the group's row, and the offset that
 *              it committed there
 *              topic empty: the group's row, and all of its offsets
 *   LIST       everything (only in changes(): reconcile)
 * AGENT and OFFSET without a name, and LEASE without a topic, are the whole class; whoever cannot
 * tell what changed may say so. */
struct backend_key {
	enum shmeta_class cls;
	struct shmeta_str tenant; /* as the source spells it */
	struct shmeta_str topic;
	struct shmeta_str name; /* LIST: why everything is to be compared, for people; may be
                                 * empty */
	uint32_t partition_id;
	uint32_t with_segments; /* TOPIC: each partition is followed by all of its segments */
	uint32_t row_only;      /* TOPIC: without its partitions, which need not be readable */
	uint32_t deleted;       /* in changes(), TOPIC: a delete was seen, so what is there now is
                            * another incarnation */
	uint64_t from, to;      /* SEGMENT: base offsets, inclusive */
	/* Only in sink->quarantine(), where the key is that of one row. SEGMENT: from is its base
	 * offset, to its end offset, INT64_MAX where that cannot be read. OFFSET without a topic:
	 * the group's row. What is set here could not be read, or has no place in a key (a
	 * partition below 0), and is empty above. */
	uint32_t unread; /* enum backend_unread */
};

enum backend_unread {
	BACKEND_UNREAD_TENANT = 1u << 0,
	BACKEND_UNREAD_TOPIC = 1u << 1,
	BACKEND_UNREAD_NAME = 1u << 2,
	BACKEND_UNREAD_PARTITION = 1u << 3,
	BACKEND_UNREAD_BASE = 1u << 4
};

/* Where rows go. Functions return SHMETA_OK to go on. Order within one load() or one key of
 * fetch():
 *   topics strictly ascending by tenant and name, both in the order of their bytes;
 *   each topic is followed by its partitions ascending by id, each of these by its segments
 *   ascending by base; after all topics: agents, groups, offsets, leases, each class in any
 *   order. */
struct backend_sink {
	void *arg;
	enum shmeta_status (*topic)(void *arg, struct shmeta_str tenant, const struct shmeta_topic *topic);
	/* of the last topic */
	enum shmeta_status (*partition)(void *arg, const struct shmeta_partition *partition);
	/* of the last partition */
	enum shmeta_status (*segment)(void *arg, const struct shmeta_segment *segment);
	enum shmeta_status (*agent)(void *arg, struct shmeta_str tenant, const struct shmeta_agent *agent);
	enum shmeta_status (*group)(void *arg, struct shmeta_str tenant, const struct shmeta_group *group);
	/* topic_id in the record is 0; topic is its name. */
	enum shmeta_status (*offset)(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
	                             const struct shmeta_committed_offset *offset);
	enum shmeta_status (*lease)(void *arg, struct shmeta_str tenant, struct shmeta_str topic,
	                            const struct shmeta_lease *lease);
	/* A row that cannot be served is quarantined: its key, as far as it can be read
	 * (row->unread), and why. It comes among the rows of its topic, or of its class. Rows of
	 * one load(), or of one key of fetch(), each come once. */
	void (*quarantine)(void *arg, const struct backend_key *row, const char *sentence);
	/* fetch(): before and after each key's rows. For PARTITION and SEGMENT, sink->topic is not
	 * called. What became of the key:
	 *   OK      these are its rows
	 *   ABSENT  the topic (TOPIC) or the partition (PARTITION, SEGMENT) does not exist
	 * Any other, with a sentence: what came since key_begin() is void.
	 *   ERR_INVALID_ARGUMENT the source answers, but not for some row of it (a value that
	 *   cannot be converted, a page
	 *                         that cannot be read)
	 *   ERR_BUSY              another session has locked what it needs, or it is throttled, or
	 *                         held back by a limit of the
	 *                         options, or was not answered while others were
	 *   ERR_SOURCE            not now, while other keys can be read
	 * An engine that reads many keys at a time may end all that it has not answered like this:
	 * the core asks for fewer of them, until the culprit is alone. */
	enum shmeta_status (*key_begin)(void *arg, const struct backend_key *key);
	enum shmeta_status (*key_end)(void *arg, const struct backend_key *key, enum shmeta_status status,
	                              const char *sentence);
	/* changes(): one key that has changed; the same key may come more than once. */
	enum shmeta_status (*changed)(void *arg, const struct backend_key *key);
	/* load(): how far it is. total 0: not known. Called at least every 100 ms or 100 000 rows.
	 * Not OK ends the load. */
	enum shmeta_status (*progress)(void *arg, uint64_t rows_done, uint64_t rows_total);
	/* load(): not NULL: no rows, only the key (TOPIC) of each topic there is, once, in any
	 * order. Nothing is read but the names, so that a row whose other columns cannot be read is
	 * named like any other. Where even a name cannot be read, the names that other tables hold
	 * come instead, and one quarantined TOPIC whose key is unread stands for all others; where
	 * there are none, ERR_INVALID_ARGUMENT. Position and consistency are those of any load():
	 * what happens after this read is told by changes(). */
	enum shmeta_status (*key)(void *arg, const struct backend_key *key);
	/* load(), options.follower_reads: may the topics, partitions and segments that follow be up
	 * to lag_ns older than the call? 0: no, then they are current. Asked at most once, before
	 * the first row, and only where they show no less than anything that the state has shown,
	 * written or seen since it was opened; the core applies nothing of such a load. The other
	 * classes are current all the same. NULL: no. */
	int (*may_lag)(void *arg, uint64_t lag_ns);
	/* changes(): the source is no longer the one, or no longer on the course, that the last
	 * position belongs to: another file, database, schema or cluster, or an earlier state that
	 * was restored. sentence: what was seen. A LIST key follows. NULL: nobody asks. */
	void (*history)(void *arg, const char *sentence);
};

/* What changes() can tell. It may differ from call to call: load() and changes() may bring a feed,
 * changes() may lose it. */
enum backend_feed_kind {
	BACKEND_FEED_NONE, /* nothing: each call reports LIST, and looks whether there is a feed by
                            * now */
	BACKEND_FEED_HINT, /* that nothing at all has changed, otherwise LIST */
	BACKEND_FEED_KEYS  /* every key that any client changed, but for what reconcile is for */
};

struct backend_options {
	const char *uri;        /* "sqlite:PATH", "memory:", ... */
	uint32_t timeout_ms;    /* for one call, where an engine can wait (busy, network)     */
	uint32_t read_only;     /* never write to the source: no schema, no triggers           */
	uint32_t manage_schema; /* may create shmeta_ tables and triggers in an existing source */
	uint32_t create;        /* open() may make the seven tables, and a database file, where
                                 * there is none of them */
	/* Sources on the network. NULL, 0: none, the default. */
	const char *read_uri;      /* a replica for load() and fetch(), which never show less than
                                    * the source has told */
	const char *password_file; /* its first line is the password; read for each login */
	uint32_t allow_insecure;   /* off this machine without proof of who answers */
	uint32_t notify;           /* the triggers also NOTIFY: seen sooner, at the price of the
                                    * writers' commits */
	uint32_t feed_keep_s;      /* how long changes are kept for other daemons, at least */
	uint32_t follower_reads;   /* load() may read a little of the past from the nearest
                                    * replicas: sink->may_lag() */
	uint32_t changefeed;       /* follow CockroachDB by a changefeed */
	/* Units that the source may be asked per second, where it bills them. 0: no limit. */
	uint32_t read_units_s, write_units_s;
	/* Another session of this thread writes while this one reads: open() fails where its reads
	 * keep writers waiting. */
	uint32_t beside;
	/* For tests: instead of the source's own clock, where it has one, this expression of SQL,
	 * in ms. In it @now is the now_ms of the call. Constant. */
	const char *clock;
};

enum backend_use {
	BACKEND_USES_READ_URI = 1u << 0,
	BACKEND_USES_PASSWORD_FILE = 1u << 1,
	BACKEND_USES_ALLOW_INSECURE = 1u << 2,
	BACKEND_USES_NOTIFY = 1u << 3,
	BACKEND_USES_FEED_KEEP = 1u << 4,
	BACKEND_USES_FOLLOWER_READS = 1u << 5,
	BACKEND_USES_CHANGEFEED = 1u << 6,
	BACKEND_USES_UNITS = 1u << 7
};

/* What is kept in a source beside the rows: is it there, make it, take it away. */
enum backend_schema_verb { BACKEND_SCHEMA_STATUS, BACKEND_SCHEMA_APPLY, BACKEND_SCHEMA_REMOVE };
/* One line: for STATUS what it is about and how it is, otherwise "sql" and a statement. */
typedef enum shmeta_status backend_schema_fn(void *arg, const char *about, const char *text);

/* One operation and whose. */
struct backend_op {
	struct shmeta_str tenant;
	const struct shmeta_op *op; /* checked against C9 already */
};

/* Which objects are to be listed. */
struct backend_object_list {
	struct shmeta_str tenant;
	int all;                                   /* 0: only those without slices, marked grace_ms
                                                    * or longer before now_ms */
	int64_t now_ms, grace_ms;                  /* of the wall clock */
	struct shmeta_str after_bucket, after_key; /* only those behind this one; both empty: from
                                                    * the first on */
	size_t most;
};
typedef enum shmeta_status backend_object_fn(void *arg, const struct shmeta_object_info *info);

/* Which epoch of which partition is asked for, and how far what was written under it goes. */
struct backend_epoch {
	struct shmeta_str tenant, topic;
	uint32_t partition_id;
	uint64_t epoch;
};
struct backend_epoch_end {
	/* The greatest one that is kept and not beyond the one that was asked for; 0: there is
	 * none. ABSENT: the highest that a lease had. */
	uint64_t epoch;
	uint64_t end_offset; /* where the next one that is kept begins, or the high watermark */
};

/* One row as a source has it, times, watermarks and epochs included: for moving between engines. */
enum backend_row_kind {
	BACKEND_ROW_OBJECT, /* u.object, since_ms */
	BACKEND_ROW_TOPIC,  /* u.topic: the row alone, not its partitions */
	BACKEND_ROW_PARTITION,
	BACKEND_ROW_SEGMENT, /* one whose bucket and key are an object's is a slice of it, at its
                              * position */
	BACKEND_ROW_AGENT,
	BACKEND_ROW_GROUP,
	BACKEND_ROW_OFFSET,
	BACKEND_ROW_LEASE,
	BACKEND_ROW_EPOCH, /* epoch: the highest that a lease of the partition ever had; the topic
                            * need not exist any more */
	BACKEND_ROW_KINDS
};
struct backend_row {
	enum backend_row_kind kind;
	uint32_t partition_id; /* of an EPOCH; others have it in u */
	struct shmeta_str tenant;
	struct shmeta_str topic; /* the name: PARTITION, SEGMENT, OFFSET, LEASE, EPOCH */
	uint64_t epoch;
	int64_t since_ms; /* OBJECT: since when it is known to have no slices; 0: it has some, or
                           * nobody looked */
	union {
		struct shmeta_object object;
		struct shmeta_topic topic;
		struct shmeta_partition partition;
		struct shmeta_segment segment;
		struct shmeta_agent agent;
		struct shmeta_group group;
		struct shmeta_committed_offset offset;
		struct shmeta_lease lease;
	} u;
};
typedef enum shmeta_status backend_row_fn(void *arg, const struct backend_row *row);

#define BACKEND_COUNTERS(C)                                    \
	C(queries, "statements run on the source")             \
	C(rows, "rows read from the source")                   \
	C(prepares, "statements prepared")                     \
	C(transactions, "transactions begun on the source")    \
	C(reconnects, "times the source was opened again")     \
	C(read_units_load, "units read to compare everything") \
	C(read_units_fetch, "units read by key")               \
	C(read_units_feed, "units read to follow changes")     \
	C(read_units_write, "units read to judge operations")  \
	C(write_units, "units written")                        \
	C(throttled, "calls that the source throttled")        \
	C(postponed_ns, "how long calls waited for their units")
struct backend_counters {
#define C(name, help) uint64_t name;
	BACKEND_COUNTERS(C)
#undef C
};

/* ---- the tables of an engine. All functions get the engine's state. ---- */

struct backend_source {
	enum shmeta_status (*open)(void *state, const struct backend_options *options, struct backend_error *err);
	void (*close)(void *state); /* state may be half-open */
	/* Optional: what open() would refuse whatever the source answers, found without asking it.
	 * OK or ERR_CONFIG. */
	enum shmeta_status (*check)(const struct backend_options *options, struct backend_error *err);
	/* Identity of the source (what it is, not where it is reached): a store filled from another
	 * one must not be used. */
	uint64_t (*fingerprint)(void *state);
	/* For humans, without secrets. */
	void (*describe)(void *state, char *ret, size_t bytes);
	void (*counters)(void *state, struct backend_counters *ret);
	/* Everything. SNAPSHOT: from one consistent read (two, where sink->may_lag() allowed that),
	 * and afterwards changes() reports what happened after that read. BRACKETED: changes()
	 * reports what happened after the first row was asked for, so that whatever the rows are
	 * too old to show comes again. No change is lost between the two. */
	enum shmeta_status (*load)(void *state, const struct backend_sink *sink, struct backend_error *err);
	/* These keys, in order, each with a status of its own (sink->key_end). SNAPSHOT: those of
	 * one topic that follow each other are from one consistent read, and the number of
	 * statements grows with chunks of keys, not with keys. BRACKETED: a partition and the
	 * ranges of its segments that follow each other are of one moment. */
	enum shmeta_status (*fetch)(void *state, const struct backend_key *keys, size_t count,
	                            const struct backend_sink *sink, struct backend_error *err);
	/* Optional: by how much the source's clock is ahead of the host's, which says now_ms; 0: by
	 * less than a second, or that is not known. Asks nobody. */
	int64_t (*clock_ahead_ms)(void *state, int64_t now_ms);
};

struct backend_feed {
	enum backend_feed_kind (*kind)(void *state);
	/* Optional: why the feed that the options ask for does not run, and what follows from that;
	 * "": it runs, or none was asked for. Lives until the next call. */
	const char *(*trouble)(void *state);
	/* What has changed since the last call that returned OK (or since load() or since the
	 * position that resume() was given). Cheap when nothing has. *ret_changed: 0 when nothing
	 * has. A replaced or truncated source reports LIST. Whatever the call reports, what happens
	 * behind it is told by the next: a core that is told LIST reads everything afterwards, over
	 * any state.
	 * *ret_lag_ns: what happened until so long before the call is told, by this call and those
	 * before it; what happened since then may be. 0 where that is everything. A feed that
	 * stands still, and may go on, answers OK with a lag that grows. */
	enum shmeta_status (*changes)(void *state, const struct backend_sink *sink, int *ret_changed,
	                              uint64_t *ret_lag_ns, struct backend_error *err);
	/* The feed's position, opaque, of any length up to 16 MiB, to be kept with the store.
	 * ERR_BUFFER: it needs *ret_bytes of room. resume() continues from it: OK; ABSENT when it
	 * cannot (the log was pruned, or something of the feed was missing and had to be made; then
	 * a reconcile is due, and err may say why); ERR_CONFLICT, with a sentence, when it belongs
	 * to another source or another course of this one (sink->history()). */
	enum shmeta_status (*position)(void *state, void *ret, size_t capacity, size_t *ret_bytes);
	enum shmeta_status (*resume)(void *state, const void *position, size_t bytes, struct backend_error *err);
	/* Optional. Readable when something may have changed, now and then in vain; -1: none.
	 * Drained by changes(). May be another one after each call. */
	int (*wake_fd)(void *state);
};

struct backend_writer {
	/* 0: the source as it is now, or as its options say, takes no writes: apply() answers
	 * ERR_READ_ONLY. */
	int (*writable)(void *state);
	/* Do the operations in order. Each is done wholly or not at all, and so is a unit:
	 * COMMIT_OBJECT and the ADD_SLICE operations behind it. Nothing is promised of a batch: an
	 * engine does as many in one transaction as it can. One that fails (semantics.md part A,
	 * and C1, C6, C7, C8 for our answers) leaves nothing behind and does not disturb the
	 * others. now_ms: the host's wall clock, for timestamps, leases and offers; a source that
	 * has a clock of its own, which several hosts share, judges leases and offers by that, and
	 * moves now_ms and heartbeats by the distance between the two.
	 * Every result says what became of its operation, whatever the call answers:
	 *   OK                   committed
	 *   ERR_BUSY             not done: another session's lock kept it out, or the source
	 *                        throttles it, or a limit of the
	 *                        options holds it back
	 *   ERR_OUTCOME_UNKNOWN  may have been committed, or may be yet
	 *   ERR_SOURCE, ERR_CONFIG, ERR_NO_MEMORY, ERR_READ_ONLY   not done: nothing can be at
	 *                                                          present
	 *   ERR_FULL             not done: the source has no room for it, or its files fail to be
	 *                        written; whether it
	 *                        can be read is another matter
	 *   any other            refused
	 * What was changed goes to sink->changed() as keys, cascades included, after the commit;
	 * fetch() of these keys then answers at least what was committed. These changes need not
	 * appear in changes() again, but those of an unknown outcome must. The call answers
	 * ERR_SOURCE or ERR_CONFIG where the source is away, ERR_CONFLICT as said above, otherwise
	 * OK; err has the whole sentence of what a result has no room for. */
	enum shmeta_status (*apply)(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
	                            struct shmeta_result *results, const struct backend_sink *sink,
	                            struct backend_error *err);
	/* Optional, both or none: apply() in two halves, between which the source works and the
	 * caller does something else. start() hands the operations over: OK, or it cannot (nothing
	 * is done; apply() may be able to). finish() is the rest of apply(), with its answers;
	 * nothing is committed before it is called. In between any other call may come but apply(),
	 * start(), objects(), epoch_end(), restore() and schema(), and none shows anything of what
	 * was started; ops and results stay. close() instead of finish(): nothing was done. */
	enum shmeta_status (*start)(void *state, const struct backend_op *ops, size_t count, int64_t now_ms,
	                            struct shmeta_result *results, struct backend_error *err);
	enum shmeta_status (*finish)(void *state, const struct backend_sink *sink, struct backend_error *err);
};

/* Each function is optional. */
struct backend_admin {
	/* A page of objects in order of bucket and key (memcmp). The first page of a list
	 * (after_bucket and after_key empty) also marks with now_ms every object of the tenant that
	 * it sees without slices for the first time; slices that are added later take the mark
	 * away. ERR_UNSUPPORTED where the source keeps no objects. ERR_FULL as of apply(). */
	enum shmeta_status (*objects)(void *state, const struct backend_object_list *list, backend_object_fn *emit,
	                              void *arg, struct backend_error *err);
	/* How far the log goes that was written under an epoch (semantics.md C13). OK; ABSENT: no
	 * lease of the partition had that epoch yet; ABSENT_BEFORE_START: it is older than those
	 * that are kept. Errors as of a fetch(), and ERR_TOPIC_NOT_FOUND, ERR_PARTITION_NOT_FOUND,
	 * ERR_NOT_TENANT, ERR_UNSUPPORTED where the source keeps none. */
	enum shmeta_status (*epoch_end)(void *state, const struct backend_epoch *ask, struct backend_epoch_end *ret,
	                                struct backend_error *err);
	/* What is kept beside the rows. Instead of open(), on a state as open() gets it; close()
	 * follows. APPLY makes what is missing of shmeta's own tables and triggers, and in an empty
	 * source all tables; REMOVE takes all of its own away, and nothing else. Both in one
	 * transaction, idempotent: what is as it should be costs no statement. Each statement goes
	 * to say() before it is run; dry_run: none is run. */
	enum shmeta_status (*schema)(void *state, const struct backend_options *options, enum backend_schema_verb verb,
	                             int dry_run, backend_schema_fn *say, void *arg, struct backend_error *err);
	/* All rows of a kind that load() does not show, OBJECT or EPOCH, of all tenants. SNAPSHOT:
	 * from one consistent read. BRACKETED: each row as it was at some moment of the call. A
	 * source without such rows has none. */
	enum shmeta_status (*extras)(void *state, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
	                             struct backend_error *err);
	/* Put the rows as they are, each with a result of its own (status and text); in one
	 * transaction, or, where the source has only small ones, in several, one after the other:
	 *   OK                  it was put
	 *   ERR_ALREADY_EXISTS it is there already, with the same content. EPOCH: or one beyond it,
	 *   which stays
	 *   ERR_CONFLICT        its key is there with other content, or what must be one row's is
	 *                       another's; that
	 *                       stays as it is
	 *   ERR_NOT_FOUND       what it hangs on (its topic, partition, group, agent or object) is
	 *                       not there
	 *   ERR_NOT_TENANT, ERR_UNSUPPORTED   the source has no such tenant, or no place for
	 *                                     something that the row
	 *                       has
	 * A LEASE also raises the partition's highest epoch. Rows are checked against C9 already;
	 * parents come first. OK: committed. ERR_OUTCOME_UNKNOWN: may have been. Any other: nothing
	 * was put, but for the rows of transactions that were committed before; put again, these
	 * answer ERR_ALREADY_EXISTS. Who follows the source learns that something has changed, and
	 * need not learn what: then it reconciles. */
	enum shmeta_status (*restore)(void *state, const struct backend_row *rows, size_t count,
	                              struct shmeta_result *results, struct backend_error *err);
};

/* Which rows of a load() and of a fetch() are of one moment. */
enum backend_moment {
	BACKEND_SNAPSHOT, /* all of a call */
	/* A topic's row; a partition with its segments, whose version is read before and after
	 * them, or which are one answer of the source; each other record. Two of them may be of
	 * different moments. */
	BACKEND_BRACKETED
};

/* What the engine can do in one call. The core asks for no more: it cuts batches of keys and of
 * operations by it. 0: as much as anybody asks for. */
struct backend_limits {
	/* Of one fetch(); at least 8, so that a partition and its ranges fit. */
	uint32_t keys;
	/* Operations of one apply() or start(); at least unit_ops. */
	uint32_t ops;
	/* Operations of one unit, its object included; at least 2. More slices follow in units of
	 * their own, each behind the same COMMIT_OBJECT: then all of them are not one unit any
	 * more. */
	uint32_t unit_ops;
	/* Of the operations of one apply() or start(), as they are encoded; one unit may have
	 * more. */
	uint64_t bytes;
	/* What options.feed_keep_s counts as where it is less, in seconds. */
	uint32_t keep_least_s;
	enum backend_moment moment;
};

/* A table that is NULL is not supported: without a feed only load() shows what has changed, without
 * a writer the source is read-only. */
struct backend_engine {
	const char *name;   /* the uri's scheme, without ':' */
	size_t state_bytes; /* zeroed and freed by the core */
	uint32_t uses;      /* BACKEND_USES_...: the options that change anything here */
	struct backend_limits limits;
	const struct backend_source *source;
	const struct backend_feed *feed;
	const struct backend_writer *writer;
	const struct backend_admin *admin;
};

extern const struct backend_engine backend_memory;
extern const struct backend_engine backend_sqlite;
extern const struct backend_engine backend_postgresql, backend_cockroachdb, backend_dynamodb;

/* The engine whose name is the uri's scheme; NULL: none (err says which there are). */
const struct backend_engine *backend_find(const char *uri, struct backend_error *err);

/* A copy whose strings are its own, for whoever keeps options beyond the call that brought them. 0:
 * no memory, *ret holds none. backend_options_free() leaves the numbers and no strings; it may be
 * called again. */
int backend_options_copy(const struct backend_options *from, struct backend_options *ret);
void backend_options_free(struct backend_options *options);

/* AGENT, LEASE, OFFSET: does the key mean the whole class? */
int backend_key_is_class(const struct backend_key *key);

/* The kind of the engine's feed; NONE where it has none. */
enum backend_feed_kind backend_feed_kind(const struct backend_engine *engine, void *state);
/* Does the source take writes, as far as is known without trying? */
int backend_writable(const struct backend_engine *engine, void *state);

/* For apply(): all of these operations have this result, with as much of the sentence as there is
 * room for. What the call is to answer: the status where it is the connection's, otherwise OK. */
enum shmeta_status backend_answer_all(const struct backend_op *ops, size_t count, struct shmeta_result *results,
                                      enum shmeta_status status, const char *sentence);
/* For apply(): tell sink->changed() of all that is done. */
enum shmeta_status backend_tell_done(const struct backend_op *ops, size_t count, const struct shmeta_result *results,
                                     const struct backend_sink *sink);
/* For fetch(): end these keys with this status. begun: the first one has had its key_begin(). */
enum shmeta_status backend_fail_keys(const struct backend_key *keys, size_t count, int begun,
                                     const struct backend_sink *sink, enum shmeta_status status, const char *sentence);

/* Tell sink->changed() what an operation that succeeded has changed. For apply(). */
enum shmeta_status backend_tell(const struct backend_op *op, const struct backend_sink *sink);

__attribute__((format(printf, 3, 4))) enum shmeta_status backend_fail(struct backend_error *err,
                                                                      enum shmeta_status code, const char *fmt, ...);
/* Behind it: it is about what was asked alone. err may be NULL. */
static inline enum shmeta_status backend_alone(struct backend_error *err, enum shmeta_status status)
{
	if (err != NULL)
		err->alone = 1;
	return status;
}
/* Behind it: rights are missing. err may be NULL. */
static inline enum shmeta_status backend_denied(struct backend_error *err, enum shmeta_status status)
{
	if (err != NULL)
		err->denied = 1;
	return status;
}

#endif
