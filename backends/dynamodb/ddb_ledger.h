/* SPDX-License-Identifier: Apache-2.0
 * Items as they are, and as operations that were judged would leave them. A step that needs an item
 * which was not read yet says so and is judged again once it was; what is written is conditioned on
 * what was read, so that a step is done as it was judged, or not at all. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_LEDGER_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_LEDGER_H

#include "backends/dynamodb/ddb_state.h"

enum ddb_touch {
	DDB_NONE,
	DDB_EXISTS, /* it must be there still, whatever became of it */
	DDB_SAME,   /* it must be as it was read, or still not be there */
	DDB_WRITTEN /* changed, under the same condition */
};

struct ddb_entry {
	struct ddb_key key;
	json_t *base;   /* as it was read; NULL: not there */
	json_t *sent;   /* as it is before the group that is being gathered */
	json_t *item;   /* as the steps that were judged leave it */
	json_t *before; /* as it was before the unit that is being judged, where in_unit */
	bool known, wanted, in_unit;
	bool blind;             /* it is written whatever is there: nobody read it */
	bool throttled;         /* its read was kept back (l->tolerant) */
	enum ddb_touch touch;   /* of the group that is being gathered */
	size_t writer, checker; /* the last groups that wrote it, and that looked at it, plus 1; 0:
                                 * none */
};

struct ddb_ledger {
	struct ddb_entry **entries; /* in the order they were asked for */
	size_t count, capacity;
	size_t *slots; /* by hash: index + 1 */
	size_t slot_count;
	bool missing, no_memory;
	bool tolerant;      /* entries whose read is kept back fail alone */
	bool met_throttled; /* one of them was got */
};

void ddb_ledger_free(struct ddb_ledger *l);
/* The entry of a key. NULL: it has to be read first (l->missing), or there is no memory. */
struct ddb_entry *ddb_ledger_get(struct ddb_ledger *l, const struct ddb_key *key);
/* The entry of an item that is put or deleted whatever is there. NULL as above. */
struct ddb_entry *ddb_ledger_blind(struct ddb_ledger *l, const struct ddb_key *key);
/* It was read already, by a query: it need not be read again. */
void ddb_ledger_prime(struct ddb_ledger *l, const struct ddb_key *key, json_t *item);
/* Read what is wanted. */
enum shmeta_status ddb_ledger_read(struct ddb_state *s, struct ddb_ledger *l, struct backend_error *err);
/* Get one that is needed by itself: its item as it was read, borrowed; NULL where it is not there,
 * or the status is not OK. */
enum shmeta_status ddb_ledger_look(struct ddb_state *s, struct ddb_ledger *l, const struct ddb_key *key,
                                   const json_t **ret, struct backend_error *err);
/* Forget what was judged: every item is as it was read. */
void ddb_ledger_rewind(struct ddb_ledger *l);

#endif
