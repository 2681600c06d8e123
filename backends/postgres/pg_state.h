/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine (PostgreSQL, and what speaks its protocol): the state that its layers share.
 *
 * From the bottom to the top, each in a file with a header of the same name:
 *   pg_values pg_dialect                    parameters and results, what servers can do
 *   pg_wire                                 statements on an open connection
 *   pg_login pg_pool pg_link                connections
 *   pg_shape pg_statements                  what a database is like, and the statements' texts for
 *                                           it
 *   pg_script pg_own pg_coverage            what is shmeta's own in it
 *   pg_session                              connected, looked at, ready
 *   pg_transaction                          transactions and queries, tried again where that is
 *                                           asked for
 *   pg_feed pg_changefeed pg_replica        what has changed, and where to read
 *   pg_load pg_fetch pg_write pg_objects pg_epochs pg_move
 *   pg_engine                               the tables of functions
 *
 * What differs between engines stands in one const table each (struct pg_dialect), what differs
 * between databases in struct pg_shape; both are read where statements are written, hardly anywhere
 * else. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_STATE_H
#define SHMETA_BACKENDS_POSTGRES_PG_STATE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "backends/backend.h"
#include "backends/postgres/pg_dialect.h"
#include "backends/postgres/pg_shape.h"
#include "backends/postgres/pg_statements.h"
#include "backends/postgres/pg_wire.h"
#include "backends/rows.h"

/* What the feed's completeness rests on, as it was seen when the shape was looked at. */
struct pg_coverage {
	uint64_t basis;              /* of the catalog's rows: while a poll finds the same, what was
                                      * seen holds */
	bool unlogged;               /* a crash empties a table, and no trigger tells */
	bool meddled;                /* something of the application's may run within our
                                      * transactions: then what they log is read like any other's */
	char why[300], trouble[400]; /* why there is no feed; that as a sentence */
};

/* What other sessions' locks kept from us lately (pg_write_apart.c). */
enum { PG_BUSY_MOST = 32 };
struct pg_busy {
	struct pg_busy_resource {
		uint64_t hash, until_ns; /* CLOCK_MONOTONIC */
	} resource[PG_BUSY_MOST];
	uint64_t tables_until_ns; /* a table was locked */
};

/* How far the primary's own log had come, and which cluster's it is: pg_feed.c keeps it,
 * pg_replica.c waits for it. */
struct pg_written {
	char told[40];    /* all that was told of is before this place; "": not known */
	char loading[40]; /* the same for the load that is on */
	char cluster[40]; /* its system identifier */
};

enum { PG_LED = 4096 };

struct pg_state {
	struct backend_options options; /* strings are copies of our own */
	char *uri, *read_uri;
	const struct pg_dialect *dialect;
	struct pg_shape shape;
	struct pg_conn primary, replica; /* replica.conninfo NULL: none */
	struct pg_conn writer;           /* for what is written while the primary one reads:
                                          * connected when that first happens */
	struct {
		uint64_t writer, primary; /* connects of the two when they were seen to lead to one
                                           * server */
	} alike;
	struct writing *started; /* pg_write.c: begun by start(), not finished */
	struct pg_conn listener; /* of its own: one that listens must not stay in a transaction */
	struct pg_conn streamer; /* of its own: on which a changefeed comes */
	char *sql[PG_STATEMENTS];
	bool (*const *texts)(struct pg_state *state); /* write sql[] for the shape, each a part; the
                                                       * last one is NULL */
	/* What has to hold, on a connection that is connected, before a transaction begins
	 * there. */
	enum shmeta_status (*ready)(struct pg_state *state, struct pg_conn *conn, struct backend_error *err);
	bool careful;            /* the call must not go on in another source than was last spoken
                                  * of */
	uint64_t told;           /* which that was */
	uint64_t courses;        /* how many others, or other courses, were spoken of: what was
                                  * begun before is not for them */
	uint64_t shown_connects; /* load() has shown what is there by this connection */
	bool opened_before;      /* it was open once: what is missing now may come back */
	bool attached;           /* shape and sql are those of the database */
	bool read_only;          /* must not, or cannot, write */
	uint64_t source;         /* fingerprint */
	char origin[24];         /* what our own changes are marked with in the log: another one on
                                  * each connection */
	char schema[200];        /* where topics lies, quoted as a name; */
	char schema_text[400];   /* that, for within quotes of a text, */
	char served_schema[200]; /* and that of the tables that were served last */
	struct pg_coverage coverage;
	uint64_t make_again_ns; /* making shmeta's own has failed: not before */
	char make_failure[300];
	struct pg_feed *feed; /* pg_feed.c */
	struct pg_written written;
	struct pg_changefeed *changefeed; /* pg_changefeed.c; NULL: not wanted */
	const char *doing;                /* "writing to": for sentences; each call of the vtable
                                           * says it first */
	struct rows_scratch scratch;
	struct backend_counters counters;
	uint64_t seed; /* of jitter */
	struct {
		uint64_t shown_ns; /* until then topics, partitions and segments were shown or
                                    * written as they were */
		int64_t read_us;   /* the server's time that was read last */
		bool refused;      /* the last time it was tried */
	} follower;
	/* Adds that take it that nothing is in their way: not for so many batches; after the next
	 * conflict, for so many. */
	uint32_t careful_batches, careful_next;
	struct pg_busy busy;
	/* Epochs that are recorded, at a place that their hash says (pg_epochs.c), from which
	 * offset on. */
	struct pg_led {
		uint64_t hash; /* 0: none */
		uint64_t start;
	} led[PG_LED];
	struct {
		bool known;
		int64_t ahead_ms; /* the server's time less CLOCK_MONOTONIC */
	} clock;
	bool attaching; /* the shape is being looked at */
	bool hasty;     /* a transaction is tried again a few times only */
};

enum { PG_TIMEOUT_MS = 5000 };

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

#endif
