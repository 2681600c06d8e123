/* SPDX-License-Identifier: Apache-2.0
 * Leases, which live in the headers of their partitions, and offers of them. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_LEASE_OPS_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_LEASE_OPS_H

#include "backends/dynamodb/ddb_write.h"

void ddb_acquire_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r);
/* Extend one of the leases of a RENEW_AGENT. false: it is not the agent's, has expired, or has to
 * be read. */
bool ddb_renew_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_str topic, uint32_t partition);
void ddb_release_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r);
void ddb_offer_lease(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r);
/* ACCEPT, COMPLETE and REJECT. */
void ddb_answer_offer(struct ddb_writing *w, const struct backend_op *op, struct shmeta_result *r);
/* Take the lease out of a header; the agent's note of it goes, too. */
void ddb_drop_lease(struct ddb_writing *w, struct shmeta_str tenant, struct shmeta_str topic, uint32_t partition,
                    json_t *header);

#endif
