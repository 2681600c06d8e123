/* SPDX-License-Identifier: Apache-2.0
 * Calls of the DynamoDB API: signed, sent several at a time, repeated while that can help, and
 * judged. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_CALL_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_CALL_H

#include <jansson.h>

#include "backends/backend.h"
#include "backends/dynamodb/ddb_budget.h"
#include "backends/dynamodb/ddb_credentials.h"
#include "backends/dynamodb/ddb_http.h"
#include "backends/dynamodb/ddb_uri.h"

enum ddb_outcome {
	DDB_AWAY,      /* not done: no answer, and nothing was sent; or throttled or postponed until
                        * the deadline */
	DDB_UNKNOWN,   /* sent, and nobody knows what became of it */
	DDB_DONE,      /* answer is its answer */
	DDB_CONDITION, /* not done: a condition does not hold; answer is the error's document */
	DDB_REFUSED    /* not done, and it never will */
};

/* One call. target: "Query"; body: the caller's. Whoever writes makes calls that may be
 * repeated. */
struct ddb_call {
	const char *target;
	json_t *body;
	enum ddb_outcome outcome;
	bool doubted;   /* one of its attempts had no answer */
	bool throttled; /* the last of them was, or it is postponed for its units */
	bool late;      /* others were in its way each time, or it was not answered; unless it is a
                    * fetch's: nor was it begun */
	json_t *answer; /* ddb_call_free() */
	char error[300];
	/* Of ddb_call.c alone. */
	char *text;
	unsigned int tries, renewed;
	struct ddb_units units;
	bool settled, begun;
};

struct ddb_link {
	struct ddb_uri uri;
	struct ddb_http *http;
	struct ddb_credentials credentials;
	int64_t skew_s; /* to be added to this host's clock */
	struct ddb_budget budget;
	uint64_t calls, retries, throttled;
	uint64_t patience_ns; /* what is throttled then (CLOCK_MONOTONIC) is given up; 0: at the
                               * deadline */
	bool in_haste;        /* what has no units now is given up */
	/* Of a load: called every 100 ms or more often while calls are waited for; not OK: they are
	 * given up, and that is their status. What it takes is not taken from them. */
	enum shmeta_status (*turn)(void *arg);
	void *turn_arg;
	enum shmeta_status turned; /* what it has answered */
	/* Since ddb_begin(): attempts that the source answered, be it by throttling, and calls that
	 * were late. */
	uint64_t answered, late;
};

/* OK, ERR_CONFIG, ERR_NO_MEMORY. Nothing is sent. */
enum shmeta_status ddb_link_open(struct ddb_link *link, const struct backend_options *options,
                                 struct backend_error *err);
void ddb_link_close(struct ddb_link *link);

/* Make the calls, in any order, up to 16 at a time. Blocks: until each has its outcome, at most
 * until the deadline (CLOCK_MONOTONIC); of a load the time in which calls are postponed for their
 * units does not count. */
void ddb_link_run(struct ddb_link *link, struct ddb_call *calls, size_t count, uint64_t deadline_ns);
/* Was it throttled, postponed for its units, or late beside others that were answered, until nobody
 * waited any more? Then the source is there, and that is its own affair. */
bool ddb_call_kept_back(const struct ddb_link *link, const struct ddb_call *call);
/* The status of a call that is not DONE, and its sentence: what was being done, and what was
 * answered. ERR_BUSY: it was kept back; of a load, which is all or nothing, that is ERR_SOURCE.
 * What link->turn has answered comes first. */
enum shmeta_status ddb_call_fail(const struct ddb_link *link, const struct ddb_call *call, const char *doing,
                                 struct backend_error *err);
/* Before the next of several tries: full jitter, anywhere up to a bound that doubles from 25 ms to
 * 1 s; never beyond the deadline. */
void ddb_pause(unsigned int tries, uint64_t deadline_ns);
/* The same, with link->turn meanwhile. */
void ddb_link_pause(struct ddb_link *link, unsigned int tries, uint64_t deadline_ns);
/* From now on; NULL: it ends. */
void ddb_link_turns(struct ddb_link *link, enum shmeta_status (*turn)(void *arg), void *arg);
/* Is what is throttled now given up? */
bool ddb_link_gives_up(const struct ddb_link *link);
void ddb_call_free(struct ddb_call *call);

#endif
