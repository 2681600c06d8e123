/* SPDX-License-Identifier: Apache-2.0
 * Steps into transactions. A step is an operation, or a part of one: judged against the ledger it
 * says what it touches. Steps that touch at most 99 items go into one transaction, behind them the
 * log entry; transactions that touch nothing in common are under way at the same time. One whose
 * condition does not hold was judged by what is no longer true: its steps are judged anew. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_WRITE_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_WRITE_H

#include "backends/dynamodb/ddb_ledger.h"

enum { DDB_TRANSACTION_ITEMS = 100, DDB_UNIT_ITEMS = DDB_TRANSACTION_ITEMS - 1 };

struct ddb_writing;

struct ddb_step {
	/* Fill the result, and touch what it needs. Called again and again until all that it asks
	 * the ledger for was read, and each time its transaction was in vain. */
	void (*judge)(struct ddb_writing *w, struct ddb_step *step);
	const struct backend_op *op;
	const struct backend_row *row;
	void *arg;
	struct shmeta_result *result;
	bool behind; /* of one unit with the step before it */
	/* ddb_write.c's. */
	bool settled, alone;
	bool single; /* its unit is to have a transaction of its own: one with others was refused */
	size_t group;
};

struct ddb_touched {
	struct ddb_entry *entry;
	enum ddb_touch touch;
};

struct ddb_group {
	json_t *items, *keys, *blind; /* blind: see struct ddb_doubt */
	size_t wave, writes, count;
	uint64_t seq;
	bool done, failed;
};

struct ddb_writing {
	struct ddb_state *s;
	int64_t now_ms;
	json_t *told; /* keys of what was committed */
	char seed[DDB_RANDOM_BYTES];
	/* What an object's slices need of it, within a unit. */
	struct ddb_entry *object;
	struct shmeta_result object_result;
	bool in_object;
	/* ddb_write.c's. */
	struct ddb_ledger ledger;
	struct ddb_touched unit[DDB_TRANSACTION_ITEMS * 4];
	size_t unit_count;
	json_t *unit_keys;
	bool too_much;
	char kept_back[160]; /* why something could not be read for them */
	struct ddb_entry *gathered[DDB_TRANSACTION_ITEMS];
	size_t gathered_count;
	json_t *gathered_keys;
	struct ddb_group *groups;
	size_t group_count;
};

/* Do the steps in order, each wholly or not at all. Every step's result says what became of it; OK,
 * or ERR_SOURCE and ERR_CONFIG where the source is away: then those that were not done say so,
 * too. */
enum shmeta_status ddb_steps(struct ddb_writing *w, struct ddb_step *steps, size_t count, struct backend_error *err);
void ddb_writing_free(struct ddb_writing *w);

/* ---- for judging ---- */

/* A number that nothing had before, and that is the same each time the step is judged: what is read
 * next may depend on it. */
void ddb_stable(const struct ddb_writing *w, const struct ddb_key *key, char ret[DDB_RANDOM_BYTES]);

void ddb_check(struct ddb_writing *w, struct ddb_entry *entry, enum ddb_touch touch);
/* The item is this from now on (its reference is taken over), with another v. */
void ddb_write(struct ddb_writing *w, struct ddb_entry *entry, json_t *item);
void ddb_remove(struct ddb_writing *w, struct ddb_entry *entry);
/* What a follower is to fetch. */
void ddb_tell(struct ddb_writing *w, const struct backend_key *key);

#endif
