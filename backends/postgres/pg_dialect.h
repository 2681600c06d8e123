/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: what the servers that speak PostgreSQL's protocol can and cannot do, one const
 * table each. */
#ifndef SHMETA_BACKENDS_POSTGRES_PG_DIALECT_H
#define SHMETA_BACKENDS_POSTGRES_PG_DIALECT_H

#include <stdbool.h>
#include <stdint.h>

struct pg_dialect {
	const char *scheme; /* of the uri, without ':' */
	const char *engine; /* for sentences */
	bool snapshots;     /* xid8, pg_current_snapshot() and what comes with them: the feed's
                             * position */
	bool triggers;      /* statement-level triggers with transition tables */
	bool listen;        /* LISTEN and NOTIFY */
	bool copy_binary;   /* COPY (query) TO STDOUT (FORMAT binary) */
	bool advisory_locks;
	bool replay_positions;      /* pg_current_wal_insert_lsn(), pg_last_wal_replay_lsn() */
	bool historical_reads;      /* AS OF SYSTEM TIME */
	bool changefeeds;           /* CHANGEFEED FOR, its rows on the connection */
	const char *column_collate; /* texts by their bytes, which all are where this is empty */
	const char *identity;       /* one text that names the cluster and the database */
	const char *clock;          /* its time, in ms since the epoch, at the moment it is asked */
	const char *begin_read, *begin_write;
	uint32_t retries; /* of a transaction that the server wants to be tried again (40001,
                           * 40P01) */
};
extern const struct pg_dialect pg_postgresql, pg_cockroachdb;

/* For a transaction that looks up what its parameters name, and nothing else: plans that are made
 * once, whatever the parameters hold, for indexes alone, and never compiled. Planning anew costs a
 * single look-up more than all the rest, and a plan that was made while a table was small must not
 * go on reading it from end to end when it no longer is. */
#define PG_PLAN_ONCE                                                                                 \
	"set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "    \
	"set_config('enable_mergejoin', 'off', true), set_config('random_page_cost', '1.1', true), " \
	"set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)"

#endif
