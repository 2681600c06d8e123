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
/* Sweep some of what deleted topics left, where it is time. now: free their names, at once. Failures are the next call's. */
void ddb_sweep(struct ddb_writing *w, bool now);

/* All of a topic into its item; inc: which topic of that name it is. */
void ddb_topic_fill(json_t *item, const struct shmeta_topic *topic, const char *inc);

#endif
