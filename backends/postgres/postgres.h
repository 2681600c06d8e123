/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine, inside: PostgreSQL, and what speaks its protocol.
 *
 * Nothing waits in libpq: every wait is a poll() of ours with a deadline. A connection is always in pipeline mode but during a
 * COPY, so that what can be sent together is (a BEGIN costs no round trip of its own). Parameters and results are binary.
 *
 * What differs between engines stands in one const table each (struct pg_dialect), what differs between databases in
 * struct pg_shape; both are read where statements are written, hardly anywhere else. */
#ifndef SHMETA_BACKENDS_POSTGRES_POSTGRES_H
#define SHMETA_BACKENDS_POSTGRES_POSTGRES_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "backends/backend.h"
#include "backends/rows.h"

/* ---- statements --------------------------------------------------------------------------------------------------------------- */

/* Every statement that runs more than once per connection; prepared under its own name when a connection first needs it. Texts:
 * pg_schema.c and pg_read.c, pg_feed.c; those of writing pg_write.c and pg_objects.c (pg_write_statements(), pg_object_statements()). */
#define PG_READ_STATEMENTS(X) \
	X(BEGIN_READ)         \
	X(BEGIN_WRITE)        \
	X(COMMIT)             \
	X(ROLLBACK)           \
	X(LOAD_STATE)         \
	X(LOAD_TOPICS)        \
	X(LOAD_TOPIC_KEYS)    \
	X(LOAD_OTHER_KEYS)    \
	X(LOAD_PARTITIONS)    \
	X(LOAD_SEGMENTS)      \
	X(AGENTS)             \
	X(GROUPS)             \
	X(OFFSETS)            \
	X(LEASES)             \
	X(KEY_BEGIN)          \
	X(KEY_TOPICS)         \
	X(KEY_PARTITIONS)     \
	X(KEY_SEGMENTS)       \
	X(KEY_ALL_PARTITIONS) \
	X(KEY_ALL_SEGMENTS)   \
	X(KEY_AGENTS)         \
	X(KEY_GROUPS)         \
	X(KEY_OFFSETS)        \
	X(KEY_LEASES)         \
	X(FEED_CHANGES)       \
	X(FEED_LOOK)          \
	X(FEED_STATE)         \
	X(REPLAYED)
/* X(name): the enumerator is PG_name. */
#define PG_WRITE_STATEMENTS(X) \
	X(W_BEGIN)             \
	X(W_LOCK)              \
	X(W_LOCK_TOPICS)       \
	X(W_LOCK_WHOLE)        \
	X(W_LOCK_OBJECTS)      \
	X(W_LOCK_FREE)         \
	X(W_LOCKED_TABLES)     \
	X(W_PATIENCE)          \
	X(W_IMMEDIATE)         \
	X(W_OUTCOME)           \
	X(W_LEFT_OF_TOPICS)    \
	X(W_LEFT_OF_GROUPS)    \
	X(W_LEFT_OF_AGENTS)    \
	X(W_SAVE)              \
	X(W_UNDO)              \
	X(W_RELEASE)           \
	X(W_TOPIC_DELETE)      \
	X(W_TOPIC_CREATE)      \
	X(W_WATERMARK)         \
	X(W_SEGMENTS_DELETE)   \
	X(W_ADD)               \
	X(W_ADD_RAISE)         \
	X(W_ADD_PLAIN)         \
	X(W_ADD_RAISE_PLAIN)   \
	X(W_GROUP_DELETE)      \
	X(W_GROUP_ENSURE)      \
	X(W_OFFSET)            \
	X(W_AGENT_DELETE)      \
	X(W_AGENT_PUT)         \
	X(W_RELEASE_LEASE)     \
	X(W_ACQUIRE)           \
	X(W_OFFER)             \
	X(W_ACCEPT)            \
	X(W_REJECT)            \
	X(W_COMPLETE)          \
	X(W_OBJECT)            \
	X(W_SLICE)             \
	X(W_CONFIRM)
#define PG_OBJECT_STATEMENTS(X) \
	X(OBJECTS_MARK)         \
	X(OBJECTS)

#define PG_MOVE_STATEMENTS(X) \
	X(M_OBJECT)           \
	X(M_TOPIC)            \
	X(M_PARTITION)        \
	X(M_SEGMENT)          \
	X(M_AGENT)            \
	X(M_GROUP)            \
	X(M_OFFSET)           \
	X(M_LEASE)            \
	X(M_EPOCH)            \
	X(M_SLICES)           \
	X(X_OBJECTS)          \
	X(X_EPOCHS)

enum pg_statement {
#define X(name) PG_##name,
	PG_READ_STATEMENTS(X) PG_WRITE_STATEMENTS(X) PG_OBJECT_STATEMENTS(X) PG_MOVE_STATEMENTS(X)
#undef X
		PG_STATEMENTS
};

/* ---- engines and databases ------------------------------------------------------------------------------------------------------ */

struct pg_dialect {
	const char *scheme; /* of the uri, without ':'                                                         */
	const char *engine; /* for sentences                                                                   */
	bool snapshots;     /* xid8, pg_current_snapshot() and what comes with them: the feed's position       */
	bool triggers;      /* statement-level triggers with transition tables                                 */
	bool listen;        /* LISTEN and NOTIFY                                                               */
	bool copy_binary;   /* COPY (query) TO STDOUT (FORMAT binary)                                          */
	bool advisory_locks;
	bool replay_positions; /* pg_current_wal_insert_lsn(), pg_last_wal_replay_lsn()                           */
	bool historical_reads; /* AS OF SYSTEM TIME                                                               */
	bool changefeeds;      /* CHANGEFEED FOR, its rows on the connection                                      */
	const char *column_collate; /* of a text column of our own schema */
	const char *identity;       /* one text that names the cluster and the database */
	const char *collate; /* behind a text that is ordered by its bytes                                      */
	const char *clock;   /* its time, in ms since the epoch, at the moment it is asked                      */
	const char *begin_read, *begin_write;
	uint32_t retries; /* of a transaction that the server wants to be tried again (40001, 40P01)         */
};
extern const struct pg_dialect pg_postgresql, pg_cockroachdb;

/* For a transaction that looks up what its parameters name, and nothing else: plans that are made once, whatever the parameters hold, for
 * indexes alone, and never compiled. Planning anew costs a single look-up more than all the rest, and a plan that was made while a
 * table was small must not go on reading it from end to end when it no longer is. */
#define PG_PLAN_ONCE                                                                                 \
	"set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "    \
	"set_config('enable_mergejoin', 'off', true), set_config('random_page_cost', '1.1', true), " \
	"set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)"

/* Which of the columns that not every database has are there. */
struct pg_shape {
	bool organization;        /* topics, partitions, segments, groups, offsets carry organization_id          */
	bool agents_organization; /* nullable: a shared agent has none                                            */
	bool leases_organization;
	bool tenant_uuid; /* organization_id is of type uuid, otherwise text                              */
	bool config_json; /* topics.config, agents.metadata are JSONB, otherwise text                     */
	bool cleanup_policy;
	bool timestamps;    /* segments: min_timestamp, max_timestamp                                       */
	bool segment_place; /* a unique index (topic, partition_id, base_offset), with or without tenant    */
	bool deferrable;    /* a unique constraint of segments is, so that ON CONFLICT cannot be used there */
	bool by_index;      /* partitions and segments are found by an index of topic and partition_id      */
	bool loose_texts;   /* some text column's collation takes different texts for equal                 */
	bool own;           /* shmeta's own tables are there: epochs, transfers, objects, slices            */
	bool feed;          /* and the log with all its triggers, and nothing passes them by                */
	char kinds[8];      /* pg_class.relkind of the seven tables, in the order of backend_tables         */
	/* Columns of integers that are of a type which also holds what is none, a bit each: see pg_number(). */
	uint32_t inexact[7];
};

/* What the feed's completeness rests on, as it was seen when the shape was looked at. */
struct pg_coverage {
	uint64_t basis; /* of the catalog's rows: while a poll finds the same, what was seen holds */
	bool unlogged;  /* a crash empties a table, and no trigger tells                         */
	bool meddled; /* something of the application's may run within our transactions: then what they log is read like any other's */
	char why[300], trouble[400]; /* why there is no feed; that as a sentence */
};

/* ---- one connection ------------------------------------------------------------------------------------------------------------- */

#define PG_CHANNEL "shmeta" /* of NOTIFY */

enum {
	PG_PENDING_MAX = 64,       /* statements in flight */
	PG_PRUNE_LOCK = 0x73686d66 /* advisory: who has it prunes the log */
};

struct pg_conn {
	const char *role; /* "primary", "replica": for sentences */
	const char *conninfo;
	PGconn *pg;        /* NULL: not connected */
	uint64_t connects; /* how often it has been connected: what hung on a former one is gone */
	char sqlstate[6];  /* of the last failure; "": it came from no server */
	char said[112];    /* the server's own words for it                   */
	bool prepared[PG_STATEMENTS];
	bool in_transaction; /* a BEGIN was queued and neither COMMIT nor ROLLBACK has been answered */
	bool committing;     /* a COMMIT has been handed to the socket: what becomes of it is the server's to say */
	bool committed;
	bool stale_plan; /* the last failure was a plan of an older schema: prepared anew, try the transaction again */
	bool streaming;  /* rows one at a time, of the result that is being read */
	bool given_out;  /* set by a body that must not run again: rows of it are with the sink */
	bool timed_out;  /* it was closed for a deadline */
	bool begun;      /* pg_begin() was called, and pg_transaction() not yet */
	bool copying;
	bool flowing; /* the result that is being read has begun to come */
	char *copied; /* the last piece of a COPY */
	/* What was sent and not answered, oldest first. */
	struct pg_pending {
		uint8_t kind; /* of pg_conn.c */
		uint8_t statement;
	} pending[PG_PENDING_MAX];
	uint32_t pending_first, pending_count;
	bool failing; /* what was sent behind a failed statement is being skipped, each with this failure */
	struct backend_error failure;
	uint32_t patience_ms; /* instead of options.timeout_ms, for statements that take long; 0: not */
	/* Called about every 100 ms of waiting, where it is there; not OK ends the wait, and the connection. */
	enum shmeta_status (*tick)(void *arg);
	void *tick_arg;
	/* After a failed login: not before, and until then this is what everyone is told. */
	uint64_t retry_at_ns;
	uint32_t failures;
	struct backend_error refused;
	bool in_recovery, server_read_only;
	int server_version;
	int session;  /* its process at the server; 0: not known */
	bool pooled;  /* something that makes sessions of its own is between us and the server */
	bool strange; /* the session is not the one that we prepared: not to be gone on with */
};

/* What other sessions' locks kept from us lately (pg_write_apart.c). */
enum { PG_BUSY_MOST = 32 };
struct pg_busy {
	struct pg_busy_resource {
		uint64_t hash, until_ns; /* CLOCK_MONOTONIC */
	} resource[PG_BUSY_MOST];
	uint64_t tables_until_ns; /* a table was locked */
};

struct pg_state {
	struct backend_options options; /* strings are copies of our own */
	char *uri, *read_uri;
	const struct pg_dialect *dialect;
	struct pg_shape shape;
	struct pg_conn primary, replica; /* replica.conninfo NULL: none */
	struct pg_conn writer; /* for what is written while the primary one reads: connected when that first happens */
	struct {
		uint64_t writer, primary; /* connects of the two when they were seen to lead to one server */
	} alike;
	struct writing *started; /* pg_write.c: begun by start(), not finished */
	struct pg_conn listener; /* of its own: one that listens must not stay in a transaction */
	struct pg_conn streamer; /* of its own: on which a changefeed comes */
	char *sql[PG_STATEMENTS];
	bool careful;            /* the call must not go on in another source than was last spoken of */
	uint64_t told;           /* which that was */
	uint64_t shown_connects; /* load() has shown what is there by this connection */
	bool opened_before;      /* it was open once: what is missing now may come back */
	bool attached;           /* shape and sql are those of the database */
	bool read_only;          /* must not, or cannot, write */
	uint64_t source;         /* fingerprint */
	char origin[24];         /* what our own changes are marked with in the log: another one on each connection */
	char schema[200];        /* where topics lies, quoted as a name; */
	char schema_text[400];   /* that, for within quotes of a text, */
	char served_schema[200]; /* and that of the tables that were served last */
	struct pg_coverage coverage;
	uint64_t make_again_ns; /* making shmeta's own has failed: not before */
	char make_failure[300];
	struct pg_feed *feed;             /* pg_feed.c */
	struct pg_changefeed *changefeed; /* pg_changefeed.c; NULL: not wanted */
	const char *doing;                /* "writing to": for sentences; each call of the vtable says it first */
	struct rows_scratch scratch;
	struct backend_counters counters;
	uint64_t seed; /* of jitter */
	struct {
		uint64_t shown_ns; /* until then topics, partitions and segments were shown or written as they were */
		int64_t read_us;   /* the server's time that was read last */
		bool refused;      /* the last time it was tried */
	} follower;
	/* Adds that take it that nothing is in their way: not for so many batches; after the next conflict, for so many. */
	uint32_t careful_batches, careful_next;
	struct pg_busy busy;
	struct {
		bool known;
		int64_t ahead_ms; /* the server's time less CLOCK_MONOTONIC */
	} clock;
	bool attaching; /* within pg_attach() */
	bool hasty;     /* a transaction is tried again a few times only */
};

/* ---- time ------------------------------------------------------------------------------------------------------------------------ */

enum { PG_TIMEOUT_MS = 5000, PG_CLASS_NONE = 99 /* of a row of the log that tells of nothing */ };

/* CLOCK_MONOTONIC. */
static inline uint64_t pg_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of one call, in milliseconds. */
static inline uint32_t pg_timeout_of(const struct pg_state *state)
{
	return state->options.timeout_ms > 0 ? state->options.timeout_ms : PG_TIMEOUT_MS;
}

/* How long a write waits for one lock before the batch goes on without what needs it. */
static inline uint32_t pg_lock_wait_of(const struct pg_state *state)
{
	return pg_timeout_of(state) / 10 > 20 ? pg_timeout_of(state) / 10 : 20;
}

/* ---- parameters ------------------------------------------------------------------------------------------------------------------
 * All binary: the statement says each one's type, `$1::text`, `$2::int8`, `$3::text[]`. A jsonb or uuid goes as text and is cast
 * again: `$1::text::uuid`. Texts are borrowed until the call that sends them returns. Not to be copied: it points into itself. */

enum { PG_PARAMS_MAX = 24 };

struct pg_params {
	int count;
	const char *values[PG_PARAMS_MAX];
	int lengths[PG_PARAMS_MAX];
	int formats[PG_PARAMS_MAX];
	uint64_t numbers[PG_PARAMS_MAX]; /* in network order */
};

/* One array parameter: a column of values for unnest(). Zeroed at first; pg_array_start() empties it for another use. */
struct pg_array {
	uint8_t *data;
	size_t used, capacity;
	uint32_t count, type;
	bool failed; /* out of memory: pg_param_array() turns it into a failed send */
};

static inline void pg_params_clear(struct pg_params *params)
{
	params->count = 0;
}
void pg_param_text(struct pg_params *params, struct shmeta_str text);
void pg_param_int(struct pg_params *params, int64_t value); /* $n::int8 */
void pg_param_bool(struct pg_params *params, bool value);
void pg_param_null(struct pg_params *params);
void pg_param_array(struct pg_params *params, struct pg_array *array);

enum pg_element { PG_ELEMENT_BOOL = 16, PG_ELEMENT_INT8 = 20, PG_ELEMENT_TEXT = 25 }; /* their OIDs */
void pg_array_start(struct pg_array *array, enum pg_element type);
void pg_array_text(struct pg_array *array, struct shmeta_str text);
void pg_array_map(struct pg_array *array, const struct shmeta_map *map); /* as JSON */
void pg_array_int(struct pg_array *array, int64_t value);
void pg_array_bool(struct pg_array *array, bool value);
void pg_array_null(struct pg_array *array);
void pg_array_free(struct pg_array *array);

/* ---- results --------------------------------------------------------------------------------------------------------------------- */

static inline bool pg_is_null(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) != 0;
}
/* Borrowed from the result. NULL gives "". */
static inline struct shmeta_str pg_text(const PGresult *result, int row, int column)
{
	return (struct shmeta_str){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}
/* int8, int4, int2, bool, by its length; NULL gives 0. */
int64_t pg_int(const PGresult *result, int row, int column);
/* Rows that a command has touched. */
uint64_t pg_touched(PGresult *result);

/* ---- running statements -----------------------------------------------------------------------------------------------------------
 * pg_send() queues a statement, pg_sync() ends what goes together, pg_next() waits for the next result in the order of sending.
 * Several connections may be driven at once: send and pg_flush() on each, then read each.
 *
 * A statement that fails makes the server skip all that was sent behind it up to the sync; pg_next() gives each of these the
 * failure's own status and sentence. conn->sqlstate has its code. pg_drop_results() reads and drops what is left.
 *
 * One call has options.timeout_ms, each pg_next() anew. After a deadline or a lost connection the connection is closed, every
 * later pg_next() fails the same way, and the next pg_transaction() or pg_connect() connects again. */

enum shmeta_status pg_connect(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
/* The login alone: nothing is asked, nothing set. */
enum shmeta_status pg_login(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
/* May a connection to these hosts (comma-separated) be made with this sslmode, which cannot tell one server from another unless it
 * is verify-full? */
enum shmeta_status pg_judge_hosts(const struct pg_state *state, const char *hosts, const char *mode,
                                  struct backend_error *err);
void pg_disconnect(struct pg_state *state, struct pg_conn *conn);
bool pg_connected(const struct pg_conn *conn);
/* Closed, and not tried again for a while. */
void pg_shun(struct pg_state *state, struct pg_conn *conn, const struct backend_error *why);

enum shmeta_status pg_send(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                           const struct pg_params *params, struct backend_error *err);
enum shmeta_status pg_sync(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
enum shmeta_status pg_flush(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
/* *ret (may be NULL: not wanted) is the caller's to PQclear(); NULL on failure. */
enum shmeta_status pg_next(struct pg_state *state, struct pg_conn *conn, PGresult **ret, struct backend_error *err);
/* The next result row by row: each call one PGresult with one row; *ret NULL: there are no more. */
enum shmeta_status pg_next_row(struct pg_state *state, struct pg_conn *conn, PGresult **ret, struct backend_error *err);
void pg_drop_results(struct pg_state *state, struct pg_conn *conn);
/* One statement that may run twice: send, sync, next. Outside a transaction it connects, and is tried again, by itself. */
enum shmeta_status pg_query(struct pg_state *state, struct pg_conn *conn, enum pg_statement which,
                            const struct pg_params *params, PGresult **ret, struct backend_error *err);
/* One that is not worth preparing: text results, several commands not allowed. */
enum shmeta_status pg_execute(struct pg_state *state, struct pg_conn *conn, const char *sql, PGresult **ret,
                              struct backend_error *err);

/* COPY (query) TO STDOUT (FORMAT binary). pg_copy_read(): the next piece, borrowed until the next call; *ret NULL: the end, and the
 * connection is as before. Nothing may be in flight at the start, and nothing is sent until the end. */
enum shmeta_status pg_copy_start(struct pg_state *state, struct pg_conn *conn, const char *sql,
                                 struct backend_error *err);
enum shmeta_status pg_copy_read(struct pg_state *state, struct pg_conn *conn, const char **ret, size_t *ret_bytes,
                                struct backend_error *err);

/* The body in a transaction: BEGIN goes out with its first statement, COMMIT after it returned OK, unless it has sent that itself
 * with its last statements (pg_send_commit()). Connects where needed. The body runs again, from its start, when the server asks for
 * it (40001, 40P01: bounded, with jitter), when a plan was stale, and when the connection turned out to be dead before anything was
 * committed. A body must be able to; what it gave out before, it takes back. It is also run again once when its connection died
 * before COMMIT was sent.
 * OK: committed. ERR_OUTCOME_UNKNOWN: the connection, or the server, went away in COMMIT. Anything else: rolled back. */
enum shmeta_status pg_transaction(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                                  enum shmeta_status (*body)(void *arg, struct backend_error *err), void *arg,
                                  struct backend_error *err);
/* The BEGIN of a transaction whose first statements are sent before pg_transaction() is called, with a body that knows. Connects where
 * needed. */
enum shmeta_status pg_begin(struct pg_state *state, struct pg_conn *conn, enum pg_statement begin,
                            struct backend_error *err);
/* Queue the COMMIT and the sync behind what was sent; pg_transaction() takes its result when the body has read the others'. */
enum shmeta_status pg_send_commit(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);

/* ---- pg_pool.c -------------------------------------------------------------------------------------------------------------------- */

/* A pooled connection that was just made: OK, or its sessions are lent to others between our transactions. */
enum shmeta_status pg_judge_pool(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
/* It does: the connection is closed and left alone for a while. */
enum shmeta_status pg_refuse_pool(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);

/* ---- failures -------------------------------------------------------------------------------------------------------------------- */

/* Did the last failure on the connection carry this code, or, with two characters, one of this class? */
bool pg_failed_with(const struct pg_conn *conn, const char *sqlstate);
/* The status and the sentence of a failure, the only place that knows what a SQLSTATE means to us: "postgresql: DOING HOST/DB:
 * what the server said (42P01)". Fills conn->sqlstate. result NULL: the connection's own. */
enum shmeta_status pg_fail(struct pg_state *state, struct pg_conn *conn, const PGresult *result,
                           struct backend_error *err);
/* host:port/database, or the socket's folder; never a secret. */
const char *pg_place(const struct pg_conn *conn, char *buffer, size_t bytes);

/* ---- pg_schema.c -------------------------------------------------------------------------------------------------------------------- */

/* Connected, the database's shape known, own tables made where that is allowed and due. The first thing every call does. */
enum shmeta_status pg_ensure(struct pg_state *state, struct backend_error *err);
/* The statements' texts are others: forget what was prepared from the former ones. */
void pg_replan(struct pg_state *state);
/* Called with each new connection to the primary: identity, shape, statements. */
enum shmeta_status pg_attach(struct pg_state *state, struct backend_error *err);
/* Give a statement its text. false: no memory. */
__attribute__((format(printf, 3, 4))) bool pg_text_of(struct pg_state *state, enum pg_statement which, const char *fmt,
                                                      ...);
/* backend.h, schema(); connects by itself. */
enum shmeta_status pg_schema(struct pg_state *state, enum backend_schema_verb verb, int dry_run, backend_schema_fn *say,
                             void *arg, struct backend_error *err);
/* Can there be rows of this tenant at all? A database without the column has the one; one of type uuid only well-formed ones. */
bool pg_tenant_possible(const struct pg_state *state, struct shmeta_str tenant);
/* The texts of all statements, for the shape that is known. */
enum shmeta_status pg_rewrite(struct pg_state *state, struct backend_error *err);

/* ---- pg_shape.c ----------------------------------------------------------------------------------------------------------------------- */

/* A column of integers, of a row that is called alias, as int8. */
struct pg_expression {
	char text[400];
};
struct pg_expression pg_number(const struct pg_shape *shape, const char *table, const char *alias, const char *column);

/* ---- pg_coverage.c: what the log tells, and what it cannot ----------------------------------------------------------------------------- */

/* Look at shmeta's own objects and at what they cover: shape.own, shape.feed, coverage. *ret_due: something of them is missing,
 * or of an earlier version, and could be made. */
enum shmeta_status pg_look_for_own(struct pg_state *state, bool *ret_due, struct backend_error *err);
/* What a poll compares with coverage.basis, once it is hashed, as an expression of one text. constant: for a statement that is prepared. */
enum { PG_BASIS_BYTES = 6000 };
void pg_basis_expression(bool constant, char ret[PG_BASIS_BYTES]);
uint64_t pg_hash_value(const PGresult *result, int row, int column);
/* Why there is no feed; "": there is one, or none was asked for. */
const char *pg_feed_trouble(void *data);

/* ---- pg_locked.c --------------------------------------------------------------------------------------------------------------------- */

/* Other sessions' locks of whole tables were looked for; was there any a moment ago? */
void pg_locked_seen(struct pg_state *state, bool any);
bool pg_locked_lately(const struct pg_state *state);
/* Ask the server. ERR_BUSY, with the lock's name: some of the keys need a table that cannot be read now. */
enum shmeta_status pg_judge_locked(struct pg_state *state, const struct backend_key *keys, size_t count,
                                   struct backend_error *err);

/* ---- pg_clock.c --------------------------------------------------------------------------------------------------------------------- */

/* An expression for the source's time in ms; @now in it is the caller's (for tests). */
const char *pg_clock(const struct pg_state *state);
/* The server told its time in answer to what was sent and received at these times of CLOCK_MONOTONIC. */
void pg_clock_seen(struct pg_state *state, int64_t source_ms, uint64_t before_ns, uint64_t after_ns);
/* How far the source's clock is ahead of the caller's, who says that it is caller_ms now; 0 where they are close, or nothing is known. */
int64_t pg_clock_distance(const struct pg_state *state, int64_t caller_ms);
/* A time of the caller's as one of the source's; as it is where that would be none. */
int64_t pg_clock_moved(int64_t time_ms, int64_t distance);

/* ---- pg_read.c, pg_feed.c, pg_write.c, pg_objects.c ------------------------------------------------------------------------------------------ */

bool pg_read_statements(struct pg_state *state);
bool pg_feed_statements(struct pg_state *state);
bool pg_write_statements(struct pg_state *state);
bool pg_object_statements(struct pg_state *state);
bool pg_move_statements(struct pg_state *state);

enum shmeta_status pg_load(void *data, const struct backend_sink *sink, struct backend_error *err);
enum shmeta_status pg_fetch(void *data, const struct backend_key *keys, size_t count, const struct backend_sink *sink,
                            struct backend_error *err);
enum shmeta_status pg_changes(void *data, const struct backend_sink *sink, int *ret_changed, uint64_t *ret_lag_ns,
                              struct backend_error *err);
enum shmeta_status pg_position(void *data, void *ret, size_t capacity, size_t *ret_bytes);
enum shmeta_status pg_resume(void *data, const void *bytes, size_t size, struct backend_error *err);
int pg_wake_fd(void *data);
/* Within the transaction of a load(): where the feed goes on after it, and about how many rows there are. */
enum shmeta_status pg_feed_baseline(struct pg_state *state, struct pg_conn *conn, uint64_t *ret_total,
                                    struct backend_error *err);
void pg_feed_loaded(struct pg_state *state, bool ok); /* and its end */
/* With a new connection: is it still the source, and the course of it, that was followed? */
enum shmeta_status pg_feed_meet(struct pg_state *state, struct backend_error *err);
/* ERR_SOURCE where it is not, until changes() or load() has spoken of it. */
enum shmeta_status pg_feed_told(struct pg_state *state, struct backend_error *err);
/* The session that writes may be a new one: does it lead where the one that reads does, and is that told? Nothing is begun through it
 * before. */
enum shmeta_status pg_meet_writer(struct pg_state *state, struct backend_error *err);
void pg_feed_free(struct pg_state *state);
/* More than what CockroachDB lets a node's clock be off before it stops the node: --max-offset, 500 ms. */
#define PG_CLOCKS_NS UINT64_C(1000000000)
/* Where keys are read now: the replica, when it is there and has replayed all that was told of, otherwise the primary. */
struct pg_conn *pg_reader(struct pg_state *state);
/* The same for a whole load, whose baseline is taken here where it is the replica; patient with it. */
enum shmeta_status pg_loader(struct pg_state *state, struct pg_conn **ret, uint64_t *ret_total,
                             struct backend_error *err);
/* After each apply() that may have committed something: what is fetched next must show it, from wherever it is fetched. */
void pg_wrote(struct pg_state *state);
/* Topics, partitions or segments have been shown or written as they are now: no read of the past may show less. */
void pg_follower_passed(struct pg_state *state);
/* May this load read them where the nearest replicas answer? sink->may_lag() has agreed then. */
enum shmeta_status pg_follower_load(struct pg_state *state, const struct backend_sink *sink, bool *ret,
                                    struct backend_error *err);

/* ---- pg_changefeed.c: instead of the log, where options.changefeed asks for it. What begins with pg_ is called in place of pg_feed.c's -- */

bool pg_changefeed_prepare(struct pg_state *state); /* false: no memory */
void pg_changefeed_free(struct pg_state *state);
bool pg_changefeed_runs(const struct pg_state *state);
const char *pg_changefeed_trouble(void *data);
/* Before a load: what happens from now on (or from the time on that followers show, read_us of the server's clock; 0: now) has to be
 * told after it. Then its end. */
enum shmeta_status pg_changefeed_load(struct pg_state *state, int64_t read_us, struct backend_error *err);
void pg_changefeed_loaded(struct pg_state *state);
enum shmeta_status pg_changefeed_changes(struct pg_state *state, const struct backend_sink *sink, int *ret_changed,
                                         uint64_t *ret_lag_ns, struct backend_error *err);
enum shmeta_status pg_changefeed_position(struct pg_state *state, void *ret, size_t capacity, size_t *ret_bytes);
enum shmeta_status pg_changefeed_resume(struct pg_state *state, const void *bytes, size_t size,
                                        struct backend_error *err);
/* pg_changefeed_row.c: the keys of one row's change go to the sink; *ret_list: only everything would be right. */
enum shmeta_status pg_changefeed_row(struct shmeta_str table, struct shmeta_str value, const struct backend_sink *sink,
                                     bool *ret_list);
/* The time of a `resolved` row, as text that a cursor takes. false: it is none. */
bool pg_changefeed_resolved(struct shmeta_str value, char *ret, size_t bytes);
bool pg_changefeed_is_time(const char *text);

enum shmeta_status pg_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, const struct backend_sink *sink, struct backend_error *err);
enum shmeta_status pg_start(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                            struct shmeta_result *results, struct backend_error *err);
enum shmeta_status pg_finish(void *data, const struct backend_sink *sink, struct backend_error *err);
/* What was started, and not finished, is no more. */
void pg_forget_started(struct pg_state *state);
enum shmeta_status pg_list_objects(void *data, const struct backend_object_list *list, backend_object_fn *emit,
                                   void *arg, struct backend_error *err);

enum shmeta_status pg_extras(void *data, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                             struct backend_error *err);
enum shmeta_status pg_restore(void *data, const struct backend_row *rows, size_t count, struct shmeta_result *results,
                              struct backend_error *err);

#endif
