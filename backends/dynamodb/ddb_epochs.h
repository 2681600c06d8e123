/* SPDX-License-Identifier: Apache-2.0
 * Leader epochs (semantics.md C13). The newest one of a partition is in its header, where writes
 * under it find it without another read; those before it are in an item of their own, which only
 * the first write under another epoch, and deletions, touch. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_EPOCHS_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_EPOCHS_H

#include "backends/dynamodb/ddb_write.h"

/* The operation wrote to its partition's log from `start` on; header: to be changed. Something may
 * have to be read. */
void ddb_epoch_record(struct ddb_writing *w, const struct backend_op *op, json_t *header, uint64_t start);
/* The log begins here now: epochs that ended are dropped. false: none did, or something has to be
 * read. */
bool ddb_epochs_trim(struct ddb_writing *w, const struct backend_op *op, json_t *header, uint64_t log_start);
/* The topic of a header (to be changed) goes, and its epochs with it. */
void ddb_epochs_drop(struct ddb_writing *w, struct shmeta_str tenant, uint32_t partition, json_t *header);

/* backend_admin.epoch_end() */
enum shmeta_status ddb_epoch_end(void *state, const struct backend_epoch *ask, struct backend_epoch_end *ret,
                                 struct backend_error *err);

#endif
