/* SPDX-License-Identifier: Apache-2.0
 * Operations of several steps: what ddb_apart.c and ddb_topic_end.c share (ddb_apart_steps.c). */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_APART_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_APART_H

#include "backends/dynamodb/ddb_ops.h"

/* What the steps of one operation have in common; a step's own is in its arg. */
struct apart {
	struct ddb_step step;
	struct shmeta_result result;
	const struct backend_op *op;
	json_t *item; /* borrowed */
	struct shmeta_str tenant;
	uint64_t count; /* of what the step did */
};

/* One step for each item of a query's answer. The worst of their results is *r's; *ret_count: the
 * sum of their counts. */
enum shmeta_status ddb_apart_each(struct ddb_writing *w, const struct backend_op *op, struct shmeta_str tenant,
                                  const json_t *items, void (*judge)(struct ddb_writing *, struct ddb_step *),
                                  struct shmeta_result *r, uint64_t *ret_count, struct backend_error *err);
/* An operation's own step. */
enum shmeta_status ddb_apart_once(struct ddb_writing *w, const struct backend_op *op,
                                  void (*judge)(struct ddb_writing *, struct ddb_step *), void *arg,
                                  struct shmeta_result *r, struct backend_error *err);
/* What a query has read of items need not be read again to be written. */
void ddb_apart_prime(struct ddb_writing *w, enum ddb_table table, const json_t *items);
/* The ledger's entry of an item that a query has read. NULL: no memory. */
struct ddb_entry *ddb_apart_entry(struct ddb_writing *w, enum ddb_table table, const json_t *item);
/* Half of the time that a call still has: what stands behind a deletion in it needs some, too. */
uint64_t ddb_apart_half_time(const struct ddb_state *s);

/* ---- ddb_topic_end.c ---- */

enum shmeta_status ddb_delete_topic(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                    struct backend_error *err);

#endif
