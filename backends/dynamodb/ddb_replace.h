/* SPDX-License-Identifier: Apache-2.0
 * What is judged by segments that a query found: REPLACE_SEGMENTS, and which leader epochs ended.
 * It is done in one transaction, which holds only while the partition's header is as it was before
 * the query; otherwise it is queried and judged anew. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_REPLACE_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_REPLACE_H

#include "backends/dynamodb/ddb_write.h"

/* The statuses are ddb_do_apart()'s. */
enum shmeta_status ddb_replace_segments(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r,
                                        struct backend_error *err);
/* Segments of the operation's partition were deleted. What fails is done after the next
 * deletion. */
void ddb_drop_ended_epochs(struct ddb_writing *w, const struct backend_op *op);

#endif
