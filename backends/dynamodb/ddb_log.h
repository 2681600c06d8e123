/* SPDX-License-Identifier: Apache-2.0
 * The log: one partition of it per writer (a daemon's life), an entry per transaction, written with
 * it. It is the feed, and the record of what was committed: a transaction whose answer was lost has
 * an entry, or gets a void one that keeps it from ever being done. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_LOG_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_LOG_H

#include <jansson.h>
#include <stdbool.h>

#include "backends/backend.h"
#include "backends/dynamodb/ddb_item.h"

struct ddb_state;

/* DDB_IN_FLIGHT_MAX: more entries than these never miss below one that is there, unless they ended.
 * DDB_WINDOW: who begins to follow a log looks at so many of its newest entries: one that may come
 * late is among them. */
enum { DDB_KEEP_LEAST_S = 3600, DDB_IN_FLIGHT_MAX = 8, DDB_WINDOW = 64 };

/* A writer that is followed: all of its entries up to seq, inclusive, are told. */
struct ddb_followed {
	char id[DDB_RANDOM_BYTES];
	int64_t seq;       /* -1: none yet */
	int64_t announced; /* no entry of its has a greater number */
	int64_t keep_s;    /* its entries are there for so long, at least */
	uint64_t gap_ns;   /* since when the next entry is missing and a later one is there; 0: it
                            * is not */
};

/* A transaction of ours of which nobody knew what became. */
struct ddb_doubt {
	uint64_t seq, since_ns;
	json_t *keys;
	json_t *blind; /* items that it writes whatever is there, as ddb_key_text() has them */
	bool known, done;
};

struct ddb_log {
	char writer[DDB_RANDOM_BYTES]; /* "": not registered yet */
	uint64_t next;                 /* the next entry of ours */
	int64_t announced;             /* as the item of the writer says, before anything is sent */
	uint64_t noticed_next;         /* next, as the last changes() saw it: nothing was written
                                        * since */
	uint64_t *unused;              /* numbers below it that no entry took */
	size_t unused_count;
	struct ddb_doubt *doubts; /* until changes() has told what they changed */
	size_t doubt_count;
	uint64_t tried_ns; /* when it was last asked what became of them */
	struct ddb_followed *followed;
	size_t followed_count;
	bool baseline;     /* followed is where changes() goes on */
	int64_t synced_ms; /* of ddb_log_now_ms(): up to when everything is told */
	int64_t beat_ms;   /* the same: when it was last tried to renew the writer's item */
	int64_t said_ms;   /* and when it was renewed */
};

/* How long our entries are sure to be kept. */
int64_t ddb_log_keep_s(const struct ddb_state *s);
/* The time of the wall clock, as the source has it where this host's is known to be wrong. */
int64_t ddb_log_now_ms(const struct ddb_state *s);
void ddb_log_free(struct ddb_log *log);

/* ---- writing ---- */

/* Be a writer, and ask now and then what became of what nobody knows of: before each batch.
 * ERR_BUSY: too much of that is not known for anything to be sent. */
enum shmeta_status ddb_log_register(struct ddb_state *s, struct backend_error *err);
/* So many transactions may be under way at once: fewer while it is not known what became of
 * others. */
size_t ddb_log_room(const struct ddb_state *s);
/* May one of those yet write this item, whatever is there? Then it has to wait. All others are
 * conditioned on what was read, and one that comes late behind another write of its items is not
 * done. */
bool ddb_log_holds(const struct ddb_state *s, const struct ddb_key *key);
/* Say how far the numbers of the coming entries may go, where that was not said yet. */
enum shmeta_status ddb_log_announce(struct ddb_state *s, size_t more, struct backend_error *err);
/* A number for an entry; it is used, or given back. */
uint64_t ddb_log_take(struct ddb_state *s);
void ddb_log_give_back(struct ddb_state *s, uint64_t seq);
/* The item of an entry. keys: borrowed. */
json_t *ddb_log_entry(struct ddb_state *s, uint64_t seq, json_t *keys);
/* Was it committed? OK, or ABSENT: it was not, and never will be. ERR_SOURCE, ERR_BUSY: still
 * unknown. */
enum shmeta_status ddb_log_settle(struct ddb_state *s, uint64_t seq, struct backend_error *err);
/* The same of another writer's. */
enum shmeta_status ddb_log_settle_of(struct ddb_state *s, const char *writer, uint64_t seq, struct backend_error *err);
/* It could not be settled: changes() tells its keys once it is. keys, blind: the log's from now
 * on. */
void ddb_log_doubt(struct ddb_state *s, uint64_t seq, json_t *keys, json_t *blind);
/* Settle them, as far as that can be done now, and tell the keys of those that were committed.
 * *ret_lag_ns: since when it is not known of others; 0: there are none. */
enum shmeta_status ddb_log_settle_doubts(struct ddb_state *s, const struct backend_sink *sink, int *changed,
                                         uint64_t *ret_lag_ns);
/* Now and then: where nothing was written lately say so, so that nobody looks for more; and that
 * this writer lives. */
enum shmeta_status ddb_log_rest(struct ddb_state *s, struct backend_error *err);
/* Numbers that no entry took: void entries, so that nobody waits for them. */
void ddb_log_close_gaps(struct ddb_state *s);

/* ---- keys as entries have them ---- */

/* A text: a letter for the class and the fields, joined by US. */
json_t *ddb_log_key(const struct backend_key *key);
enum shmeta_status ddb_log_tell(const json_t *keys, const struct backend_sink *sink);

/* ---- the feed ---- */

/* Where the log is now, before everything is read. */
enum shmeta_status ddb_log_baseline(struct ddb_state *s, struct backend_error *err);
enum shmeta_status ddb_log_changes(struct ddb_state *s, const struct backend_sink *sink, int *ret_changed,
                                   uint64_t *ret_lag_ns, struct backend_error *err);
enum shmeta_status ddb_log_position(struct ddb_state *s, void *ret, size_t capacity, size_t *ret_bytes);
enum shmeta_status ddb_log_resume(struct ddb_state *s, const void *position, size_t bytes, struct backend_error *err);

#endif
