/* SPDX-License-Identifier: Apache-2.0
 * What each operation does with items: the same answers as the in-memory engine's. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_OPS_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_OPS_H

#include "backends/dynamodb/ddb_write.h"

/* Operations that are one step. */
void ddb_judge_op(struct ddb_writing *w, struct ddb_step *step);
/* A row that is moved here. */
void ddb_judge_row(struct ddb_writing *w, struct ddb_step *step);
/* Operations of many steps: these are done apart, between two batches of the others. */
bool ddb_is_apart(const struct shmeta_op *op);
enum shmeta_status ddb_do_apart(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                struct backend_error *err);
/* Free the names of deleted topics, for one who waits for one. Failures are the next call's. */
void ddb_free_names(struct ddb_writing *w);
/* Sweep some of what deleted topics left, where it is time: in a call that nobody's write waits
 * for, of a second at most. */
void ddb_sweep(struct ddb_state *s);
void ddb_sweep_begin(struct ddb_state *s);

/* All of a topic into its item; inc: which topic of that name it is. */
void ddb_topic_fill(json_t *item, const struct shmeta_topic *topic, const char *inc);

#endif
