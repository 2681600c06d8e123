/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine, inside. One connection, statements prepared once and kept for its life.
 *
 * The daemon never opens the database file itself, not even to look: closing any descriptor of it would drop the locks that
 * SQLite holds on it in this process. It uses stat() and inotify on paths. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "backends/backend.h"
#include "backends/rows.h"

/* Every statement that runs more than once per connection. Their text depends on the file's shape (sqlite_schema.c). */
#define SQLITE_STATEMENTS(X)  \
	X(BEGIN)              \
	X(BEGIN_IMMEDIATE)    \
	X(COMMIT)             \
	X(ROLLBACK)           \
	X(DATA_VERSION)       \
	X(SCHEMA_VERSION)     \
	X(SCHEMA_OBJECTS)     \
	X(TOTALS)             \
	X(LOAD_TOPICS)        \
	X(LOAD_TOPIC_KEYS)    \
	X(LOAD_OTHER_KEYS)    \
	X(LOAD_PARTITIONS)    \
	X(LOAD_SEGMENTS)      \
	X(AGENTS)             \
	X(GROUPS)             \
	X(OFFSETS)            \
	X(LEASES)             \
	X(KEYS_CLEAR)         \
	X(KEYS_ADD)           \
	X(KEY_TOPICS)         \
	X(TOPIC_PARTITIONS)   \
	X(TOPIC_SEGMENTS)     \
	X(KEY_PARTITIONS)     \
	X(KEY_SEGMENTS)       \
	X(KEY_AGENTS)         \
	X(KEY_GROUPS)         \
	X(KEY_OFFSETS)        \
	X(GROUP_OFFSETS)      \
	X(KEY_LEASES)         \
	X(ONE_PARTITION)      \
	X(ONE_SEGMENTS)       \
	X(W_TOPIC_INSERT)     \
	X(W_TOPIC_DELETE)     \
	X(W_TOPIC_EXISTS)     \
	X(W_TOPIC_SEGMENTS)   \
	X(W_TOPIC_OFFSETS)    \
	X(W_TOPIC_LEASES)     \
	X(W_TOPIC_PARTITIONS) \
	X(W_TOPIC_LEFT)       \
	X(W_PARTITIONS)       \
	X(W_PARTITION)        \
	X(W_WATERMARK)        \
	X(W_WATERMARK_MAX)    \
	X(W_SEGMENT_INSERT)   \
	X(W_SEGMENT_AT)       \
	X(W_SEGMENT_ID)       \
	X(W_SEGMENTS_BEFORE)  \
	X(W_GROUP_EXISTS)     \
	X(W_GROUP_INSERT)     \
	X(W_GROUP_DELETE)     \
	X(W_OFFSET_PUT)       \
	X(W_AGENT_PUT)        \
	X(W_AGENT_DELETE)     \
	X(W_AGENT_EXISTS)     \
	X(W_AGENT_LEFT)       \
	X(W_AGENT_FOREIGN)    \
	X(W_AGENT_ADDRESS)    \
	X(W_LEASE_GET)        \
	X(W_LEASE_PUT)        \
	X(W_LEASE_DELETE)     \
	X(W_EPOCHS_PLACE)     \
	X(W_EPOCHS_TOPIC)     \
	X(W_EPOCHS_AGENT)     \
	X(W_EPOCH_GET)        \
	X(W_EPOCH_PUT)        \
	X(W_OFFER_PENDING)    \
	X(W_OFFER_PUT)        \
	X(W_OFFER_GET)        \
	X(W_OFFER_STATE)      \
	X(W_OBJECT_GET)       \
	X(W_OBJECT_PUT)       \
	X(W_OBJECT_DELETE)    \
	X(W_OBJECT_KEEP)      \
	X(W_SLICE_PUT)        \
	X(W_OBJECTS_MARK)     \
	X(W_OBJECTS)          \
	X(W_SLICES_TOPIC)     \
	X(W_SLICES_BEFORE)    \
	X(W_LOG)              \
	X(W_SAVE)             \
	X(W_RELEASE)          \
	X(W_UNDO)             \
	X(FEED_STATE)         \
	X(FEED_CHANGES)       \
	X(FEED_PRUNE)

enum sqlite_statement {
#define X(name) ST_##name,
	SQLITE_STATEMENTS(X)
#undef X
		ST_COUNT
};

/* Which of the columns that not every file has are there. */
struct sqlite_shape {
	bool organization;        /* topics, partitions, segments, groups, offsets carry organization_id */
	bool agents_organization; /* nullable: a shared agent has none */
	bool leases_organization;
	bool cleanup_policy;
	bool timestamps;     /* segments: min_timestamp, max_timestamp */
	bool segments_rowid; /* segments is a rowid table */
	bool loose;   /* its keys do not refuse, at once, a segment without its partition, or a second one at a place */
	bool own;     /* shmeta's own tables are there, as this version makes them */
	bool feed;    /* and all triggers, and nothing that they cannot tell of   */
	bool slices;  /* shmeta_slices has had a row: segments may lie within larger objects */
	bool foreign; /* the file has triggers that are not shmeta's */
	/* Triggers run for what we write, ours too: because of the application's, or because the change log is not for us to write.
	 * Otherwise none runs on our connection: sqlite_write.c does what ours would, once for a batch in place of once for a row. */
	bool triggers;
};

/* Where in the change log, and of which one: row seq of it has that token, which proves that the log was not rolled back and has
 * grown again since. Kept with the store: its layout is version 4. */
enum { SQLITE_POSITION_VERSION = 4 };
struct sqlite_position {
	uint32_t version, feed;
	uint64_t source, feed_id;
	uint64_t objects; /* the schema: what was dropped and made again in between may have been missing */
	int64_t seq, token;
};

/* The log as it is. before_id: what it was called before something of the feed was missing and had to be made. */
struct sqlite_log {
	int64_t first, last; /* 0: it is empty */
	int64_t last_token;
	bool there; /* the row that was asked for */
	int64_t token;
	uint64_t id, before_id;
};

/* What shmeta's own tables and triggers are like. Those of a newer version are left alone. */
enum { SQLITE_OWN_VERSION = 2 };

/* A file, by what cannot be another one's while somebody has it open; where the file system tells when it was born, also later. */
struct sqlite_file {
	bool there;
	uint64_t device, inode;
	int64_t born;
};
enum { SQLITE_FILES = 3 }; /* the database, -wal, -shm */

/* Rows of the log that are our own, beyond seq: (after, last]. When there are more, the oldest are read like anybody else's. */
enum { SQLITE_OWN_MAX = 64 };
struct sqlite_own {
	int64_t after, last;
};

struct sqlite_state {
	struct backend_options options; /* strings are copies of our own */
	const char *path;
	sqlite3 *db;
	bool bare;          /* for schema(): the file as it is, whatever is in it */
	bool opened_before; /* it was open once: what is missing now may come back */
	bool read_only;     /* the connection cannot, or must not, write */
	uint32_t denied;    /* of files[], a bit each: what could not be opened for writing when they were opened */
	bool wal;
	struct sqlite_shape shape;
	uint64_t source;                        /* fingerprint */
	uint64_t feed_id;                       /* identity of the change log in shmeta_meta */
	uint64_t objects;                       /* hash of the schema objects that matter */
	int64_t schema_version;                 /* of the header: has anything altered the schema */
	struct sqlite_file files[SQLITE_FILES]; /* that the connection has open */
	char *real;                             /* the database's path without symbolic links */
	bool renew;                             /* the connection is of no use any more */
	uint64_t damaged_in; /* 1 + the number of the connection that was made because a page was damaged */
	bool vanished;       /* the file was not there at some time since it was opened */
	bool made;           /* something of the feed was missing and was made, since the last load() */
	bool cramped;        /* shmeta's own tables could not be written: they are tried again */
	char obstacle[300];  /* what the tables are, that there can be no feed; "": nothing */
	char why[300];       /* what shmeta's own objects lack; "": nothing */
	char trouble[400];   /* for feed_trouble() */
	bool unproved;       /* connected anew: is it still the course that the position belongs to? */
	bool shown;          /* load() has shown what is there since */
	uint64_t told;       /* the source that was last spoken of */
	char history[300];   /* changes() has to tell: why this is not the course that the position belongs to */

	char *sql[ST_COUNT];
	sqlite3_stmt *statements[ST_COUNT];

	bool baseline; /* seq and data_version are where changes() goes on; false: it reports LIST */
	bool look;     /* changes() must look whatever the hint says */
	int64_t data_version;
	struct sqlite_position at;             /* version 0: it was never anywhere */
	struct sqlite_own own[SQLITE_OWN_MAX]; /* ascending, while rows of others lie between seq and them */
	size_t own_count;
	int64_t logged; /* rows that we have logged since the log was last pruned */
	bool wrote;     /* we have committed since the descriptor was last drained */

	int wake, inotify, again; /* epoll over inotify and a timer; -1: none */
	int watch_dir, watch_file, watch_wal;
	uint32_t again_ms; /* the timer's last period; 0: not armed */

	struct rows_scratch scratch;
	int wal_pages; /* in the log of SQLite's, after our last commit */
	void *writing; /* sqlite_write.c: what an apply() gathers, kept from one to the next */
	struct backend_counters counters;
	uint64_t reprepares_closed; /* of statements that are gone */
};

/* ---- sqlite.c ------------------------------------------------------------------------------------------------------------ */

/* The status and the sentence of a failed call: "sqlite: DOING PATH: what the engine said (name of the code)". */
enum shmeta_status sqlite_fail(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err);
/* Could the files not be written, for want of room, a limit or a failing disk? That says nothing of reading them. */
bool sqlite_unwritten(int rc);
/* The same of a call that writes: ERR_FULL where they could not. */
enum shmeta_status sqlite_fail_write(struct sqlite_state *state, int rc, const char *doing, struct backend_error *err);
/* The statement, prepared. NULL: err is filled. */
sqlite3_stmt *sqlite_prepare(struct sqlite_state *state, enum sqlite_statement which, struct backend_error *err,
                             enum shmeta_status *ret_status);
/* Run one that returns no rows, and reset it. Returns SQLite's code, SQLITE_OK when done. */
int sqlite_run(struct sqlite_state *state, enum sqlite_statement which);
/* One that returns a single integer. */
int sqlite_number(struct sqlite_state *state, enum sqlite_statement which, int64_t *ret);
enum shmeta_status sqlite_begin(struct sqlite_state *state, const char *doing, struct backend_error *err);
/* Ends the transaction whatever has happened; statements must be reset. */
void sqlite_end(struct sqlite_state *state);
/* Connected to the file that is at the path now, its schema known. Opens it again when it was replaced or an earlier call lost
 * it. */
enum shmeta_status sqlite_ensure(struct sqlite_state *state, struct backend_error *err);
/* The same for what must not go on in another source, or on another course, than was last spoken of: ERR_SOURCE until changes() or load()
 * has spoken. */
enum shmeta_status sqlite_ensure_told(struct sqlite_state *state, struct backend_error *err);
/* Statements that run once: their text, prepared, run, and one that returns a number. SQLite's codes. */
int sqlite_query(struct sqlite_state *state, const char *sql, sqlite3_stmt **ret);
int sqlite_execute(struct sqlite_state *state, const char *sql);
int sqlite_one_number(struct sqlite_state *state, const char *sql, int64_t *ret);

/* ---- sqlite_files.c ------------------------------------------------------------------------------------------------------------- */

enum sqlite_files_verdict {
	SQLITE_FILES_SAME,   /* those that the connection has open                              */
	SQLITE_FILES_OTHER,  /* others, and nothing of the old set among them                   */
	SQLITE_FILES_BESIDE, /* the same database with other side files, or none                */
	SQLITE_FILES_MIXED,  /* of both; err says what to do                                    */
	SQLITE_FILES_GONE,   /* there is no database                                            */
	SQLITE_FILES_UNKNOWN /* the paths cannot be looked at                                   */
};
/* What lies at the paths now. err is filled for the last three. */
enum sqlite_files_verdict sqlite_files_judge(struct sqlite_state *state, struct backend_error *err);
/* OK while it is SAME: asked before and after each commit. */
enum shmeta_status sqlite_files_check(struct sqlite_state *state, struct backend_error *err);
/* Before they are opened: does another connection of this process have a set open that they would be mixed with? A second
 * connection, of an online comparison, would otherwise open the new database with the -wal that the first one knows to be old. */
enum shmeta_status sqlite_files_before_open(const struct sqlite_state *state, struct backend_error *err);
/* Keep the identities of the files that are at the paths. */
void sqlite_files_note(struct sqlite_state *state);
/* The same just after they were opened. Not OK: something was exchanged meanwhile. */
enum shmeta_status sqlite_files_opened(struct sqlite_state *state, struct backend_error *err);

/* ---- sqlite_triggers.c ---------------------------------------------------------------------------------------------------------- */

/* Are all own objects there, word for word, and do they tell of everything? Fills shape.own, shape.feed and trouble. make: create
 * those that are not, in the transaction that is open; *ret_made: it did. */
int sqlite_own_objects(struct sqlite_state *state, bool make, bool *ret_made);
/* Was what is there made by a newer version? */
bool sqlite_is_newer(struct sqlite_state *state);
/* Take away all that shmeta keeps in the file for itself. */
enum shmeta_status sqlite_remove_managed(struct sqlite_state *state, struct backend_error *err);
/* What making, or removing, all own objects takes. *ret_count: how many there should be; *ret_there: how many are as they should be. */
enum shmeta_status sqlite_tell_objects(struct sqlite_state *state, enum backend_schema_verb verb,
                                       backend_schema_fn *say, void *arg, int *ret_there, int *ret_count,
                                       struct backend_error *err);

/* ---- sqlite_schema.c ------------------------------------------------------------------------------------------------------------ */

/* Learn the file's shape; create the schema in an empty file and shmeta's own tables where that is allowed; fill state->sql. */
enum shmeta_status sqlite_attach(struct sqlite_state *state, struct backend_error *err);
/* What file it is, whatever is in it: its path, inode and time of birth. */
uint64_t sqlite_place(const struct sqlite_state *state);
/* Hash of the schema objects that concern us: differs when one of them was altered, dropped or made anew. */
int sqlite_objects(struct sqlite_state *state, uint64_t *ret);
enum shmeta_status sqlite_schema(struct sqlite_state *state, enum backend_schema_verb verb, int dry_run,
                                 backend_schema_fn *say, void *arg, struct backend_error *err);

/* ---- sqlite_statements.c -------------------------------------------------------------------------------------------------------- */

/* The statements' texts, anew, for the shape that is known; looks whether shape.slices has changed. They are prepared anew. */
int sqlite_rewrite(struct sqlite_state *state);

/* ---- sqlite_read.c -------------------------------------------------------------------------------------------------------------- */

enum shmeta_status sqlite_load(void *data, const struct backend_sink *sink, struct backend_error *err);
enum shmeta_status sqlite_fetch(void *data, const struct backend_key *keys, size_t count,
                                const struct backend_sink *sink, struct backend_error *err);

/* ---- sqlite_write.c ------------------------------------------------------------------------------------------------------------- */

enum shmeta_status sqlite_apply(void *data, const struct backend_op *ops, size_t count, int64_t now_ms,
                                struct shmeta_result *results, const struct backend_sink *sink,
                                struct backend_error *err);
enum shmeta_status sqlite_list_objects(void *data, const struct backend_object_list *list, backend_object_fn *emit,
                                       void *arg, struct backend_error *err);

/* A transaction that may write, on the schema that our statements were made for: what a trigger would do must not be left undone,
 * nor done twice, because somebody made one since. SQLite's code; with one that is OK, *ret_status may say that it is none. */
int sqlite_begin_write(struct sqlite_state *state, enum shmeta_status *ret_status, struct backend_error *err);

/* ---- sqlite_move.c -------------------------------------------------------------------------------------------------------------- */

enum shmeta_status sqlite_extras(void *data, enum backend_row_kind kind, backend_row_fn *emit, void *arg,
                                 struct backend_error *err);
enum shmeta_status sqlite_restore(void *data, const struct backend_row *rows, size_t count,
                                  struct shmeta_result *results, struct backend_error *err);

/* Copy SQLite's log into the file, when it has at least so many pages. Not while somebody waits for an answer. */
enum { SQLITE_CHECKPOINT_PAGES = 4000, SQLITE_CHECKPOINT_PAGES_MAX = 32000 };
void sqlite_checkpoint(struct sqlite_state *state, int pages);

/* ---- sqlite_feed.c -------------------------------------------------------------------------------------------------------------- */

enum shmeta_status sqlite_changes(void *data, const struct backend_sink *sink, int *ret_changed, uint64_t *ret_lag_ns,
                                  struct backend_error *err);
enum shmeta_status sqlite_position(void *data, void *ret, size_t capacity, size_t *ret_bytes);
enum shmeta_status sqlite_resume(void *data, const void *bytes, size_t size, struct backend_error *err);
/* The log, in the transaction that is open, and the token of row seq. */
int sqlite_feed_state(struct sqlite_state *state, int64_t seq, struct sqlite_log *ret);
/* load() has read everything, at this state of the log: changes() goes on from here. */
void sqlite_feed_from(struct sqlite_state *state, const struct sqlite_log *log, int64_t data_version);
/* We have committed rows (after, last] of the log; the token is the last one's. */
void sqlite_feed_own(struct sqlite_state *state, int64_t after, int64_t last, int64_t token);
/* Another file is at the path: changes() has to tell. */
void sqlite_feed_replaced(struct sqlite_state *state);
/* Why there is no feed, where there should be one. */
const char *sqlite_feed_trouble(void *data);
/* Was the schema altered in a way that concerns us? Then everything is looked at again, and reported as changed. */
enum shmeta_status sqlite_check_schema(struct sqlite_state *state, struct backend_error *err);
int sqlite_wake_fd(void *data);
void sqlite_watch(struct sqlite_state *state); /* after each open */
void sqlite_unwatch(struct sqlite_state *state);
/* While we write many pages the log need not tell us of each. What comes between is found by the next poll. */
void sqlite_watch_wal(struct sqlite_state *state, bool on);
void sqlite_stop_waking(struct sqlite_state *state); /* at close */

#endif
