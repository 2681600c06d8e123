/* SPDX-License-Identifier: Apache-2.0
 * An open source of this engine, and what its parts ask of each other. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_STATE_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_STATE_H

#include "backends/dynamodb/ddb_call.h"
#include "backends/dynamodb/ddb_item.h"
#include "backends/dynamodb/ddb_log.h"
#include "backends/rows.h"

struct ddb_state {
	struct backend_options options; /* a copy */
	struct ddb_link link;
	struct ddb_log log;
	struct rows_scratch scratch;
	uint64_t rows, reads, transactions; /* counters */
	uint64_t deadline_ns;               /* of the call that is being made */
	uint64_t patience_ns;               /* until then others wait for what is throttled */
	uint64_t settle_ns;                 /* a while later: to learn what became of what was
                                             * sent */
	uint64_t fingerprint;
	uint64_t swept_ns; /* when what deleted topics left was last looked at */
	uint64_t sweep_wait_s, sweep_turn;
	uint32_t sweep_most;         /* segments that one sweep takes away */
	bool sweep_due, sweep_moved; /* something may be left; the last sweep came to something */
	uint64_t hot_ns;             /* until then nobody waits for what is kept back beside others:
                                      * somebody did, in vain */
};

/* The deadlines of a call of the core that begins now: three quarters of its time, and all of it.
 * purpose: as what its units count. */
void ddb_begin(struct ddb_state *s, enum ddb_purpose purpose);
/* It reads something that has no bound, and the next part of that begins: it has the time of a
 * call, too. */
void ddb_go_on(struct ddb_state *s);

/* Something was kept back until nobody waited any more: for a while nobody does. */
void ddb_was_in_vain(struct ddb_state *s);

/* A Query: all items of a pk, in order of sk, within [from, to]. */
struct ddb_query {
	enum ddb_table table;
	const char *pk;
	const char *from, *to; /* NULL: all */
	uint32_t newest;       /* only so many, the greatest sk first; 0: all, ascending */
	uint32_t oldest;       /* only so many, the least sk first; 0: all */
	json_t *items;         /* the answer: an array, ddb_queries_free() */
	bool tolerant;         /* that it is kept back is its own affair, told by `throttled`: its
                                * items are not all */
	bool throttled;
};
/* All of them, several at a time, page by page, each page consistent (strongly). doing: for the
 * sentence. OK: each has its items. */
enum shmeta_status ddb_queries(struct ddb_state *s, struct ddb_query *queries, size_t count, const char *doing,
                               struct backend_error *err);
void ddb_queries_free(struct ddb_query *queries, size_t count);

#endif
