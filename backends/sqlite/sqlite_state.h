/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: the state that its layers share. One connection, statements prepared once and
 * kept for its life.
 *
 * From the bottom to the top, each in a file with a header of the same name:
 *   sqlite_db           statements on an open connection
 *   sqlite_files        which files the source is
 *   sqlite_wake         what says that something has changed
 *   sqlite_statements   the statements' texts
 *   sqlite_triggers     shmeta's own tables and triggers
 *   sqlite_schema       what a file must have to be served
 *   sqlite_connection   connected to the file that is at the path now, its schema known
 *   sqlite_feed         what has changed
 *   sqlite_load sqlite_fetch sqlite_write sqlite_objects sqlite_epochs sqlite_move
 *   sqlite_engine       the table of functions
 *
 * The daemon never opens the database file itself, not even to look: closing any descriptor of it
 * would drop the locks that SQLite holds on it in this process. It uses stat() and inotify on
 * paths. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_STATE_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_STATE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"
#include "backends/rows.h"
#include "backends/sqlite/sqlite_statements.h"

/* Which of the columns that not every file has are there. */
struct sqlite_shape {
	bool organization;        /* topics, partitions, segments, groups, offsets carry
                                   * organization_id */
	bool agents_organization; /* nullable: a shared agent has none */
	bool leases_organization;
	bool cleanup_policy;
	bool timestamps;     /* segments: min_timestamp, max_timestamp */
	bool segments_rowid; /* segments is a rowid table */
	bool loose;          /* its keys do not refuse, at once, a segment without its partition, or
                              * a second one at a place */
	bool own;            /* shmeta's own tables are there, as this version makes them */
	bool feed;           /* and all triggers, and nothing that they cannot tell of   */
	bool slices;         /* shmeta_slices has had a row: segments may lie within larger
                              * objects */
	bool foreign;        /* the file has triggers that are not shmeta's */
	/* Triggers run for what we write, ours too: because of the application's, or because the
	 * change log is not for us to write. Otherwise none runs on our connection: sqlite_write.c
	 * does what ours would, once for a batch in place of once for a row. */
	bool triggers;
};

/* Where in the change log, and of which one: row seq of it has that token, which proves that the
 * log was not rolled back and has grown again since. Kept with the store: its layout is version
 * 5. */
enum { SQLITE_POSITION_VERSION = 5 };
struct sqlite_position {
	uint32_t version, feed;
	uint64_t source, feed_id;
	uint64_t objects; /* the schema: what was dropped and made again in between may have been
                           * missing */
	int64_t schema_version;
	int64_t seq, token;
};

/* A file, by what cannot be another one's while somebody has it open; where the file system tells
 * when it was born, also later. */
struct sqlite_file {
	bool there;
	uint64_t device, inode;
	int64_t born;
};
enum { SQLITE_FILES = 3 }; /* the database, -wal, -shm */

/* Rows of the log that are our own, beyond seq: (after, last]. When there are more, the oldest are
 * read like anybody else's. */
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
	uint32_t denied;    /* of files[], a bit each: what could not be opened for writing when
                             * they were opened */
	bool wal;
	struct sqlite_shape shape;
	uint64_t source;                        /* fingerprint */
	uint64_t feed_id;                       /* identity of the change log in shmeta_meta */
	uint64_t objects;                       /* hash of the schema objects that matter */
	int64_t schema_version;                 /* of the header: has anything altered the schema */
	struct sqlite_file files[SQLITE_FILES]; /* that the connection has open */
	char *real;                             /* the database's path without symbolic links */
	bool renew;                             /* the connection is of no use any more */
	uint64_t damaged_in;                    /* 1 + the number of the connection that was made
                                                 * because a page was damaged */
	bool vanished;                          /* the file was not there at some time since it was
                                                 * opened */
	bool altered;                           /* the schema was, since changes() looked: triggers
                                                 * may have been away */
	bool made;                              /* something of the feed was missing and was made,
                                                 * since the last load() */
	bool cramped;                           /* shmeta's own tables could not be written: they
                                                 * are tried again */
	char obstacle[300];                     /* what the tables are, that there can be no feed;
                                                 * "": nothing */
	char why[300];                          /* what shmeta's own objects lack; "": nothing */
	char trouble[400];                      /* for feed_trouble() */
	bool unproved;                          /* connected anew: is it still the course that the
                                                 * position belongs to? */
	bool shown;                             /* load() has shown what is there since */
	uint64_t told;                          /* the source that was last spoken of */
	char history[300];                      /* changes() has to tell: why this is not the course
                                                 * that the position belongs to */

	char *sql[ST_COUNT];
	sqlite3_stmt *statements[ST_COUNT];

	bool baseline; /* seq and data_version are where changes() goes on; false: it reports
                        * LIST */
	bool look;     /* changes() must look whatever the hint says */
	int64_t data_version;
	struct sqlite_position at;             /* version 0: it was never anywhere */
	struct sqlite_own own[SQLITE_OWN_MAX]; /* ascending, while rows of others lie between seq
                                                * and them */
	size_t own_count;
	int64_t logged;  /* rows that we have logged since the log was last pruned */
	bool wrote;      /* we have committed since the descriptor was last drained */
	bool suppressed; /* the log of SQLite's is not watched, because we write to it */

	int wake, inotify, again; /* epoll over inotify and a timer; -1: none */
	int watch_dir, watch_file, watch_wal;
	uint32_t again_ms; /* the timer's last period; 0: not armed */

	struct rows_scratch scratch;
	int wal_pages; /* in the log of SQLite's, after our last commit */
	void *writing; /* sqlite_write.c: what an apply() gathers, kept from one to the next */
	struct backend_counters counters;
	uint64_t reprepares_closed; /* of statements that are gone */
};

#endif
