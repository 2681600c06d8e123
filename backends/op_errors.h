/* SPDX-License-Identifier: Apache-2.0
 * What every engine decides and says in the same words about an operation, once it knows what is in
 * its way. */
#ifndef SHMETA_BACKENDS_OP_ERRORS_H
#define SHMETA_BACKENDS_OP_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

#include "backends/backend.h"

__attribute__((format(printf, 3, 4))) void refuse(struct shmeta_result *result, enum shmeta_status status,
                                                  const char *fmt, ...);
/* The number that the sentence names, and its limits: what the result carries of it
 * (shm/wire/op_result.c). */
void refuse_about(struct shmeta_result *result, uint64_t value, uint64_t least, uint64_t most);

void refuse_tenant(const struct backend_op *op, struct shmeta_result *result);
void refuse_topic_exists(const struct shmeta_op *op, struct shmeta_result *result);
/* The topic, or the partition of it, is not there. */
void refuse_place(const struct shmeta_op *op, bool topic_there, struct shmeta_result *result);
void refuse_agent(struct shmeta_str agent, struct shmeta_result *result);
/* Its address is another agent's; its id is another organization's. */
void refuse_address(const struct shmeta_agent *agent, struct shmeta_result *result);
void refuse_agent_id(const struct shmeta_agent *agent, struct shmeta_result *result);
void refuse_fence(const struct shmeta_op *op, struct shmeta_result *result);
/* A segment is there already; result->existing is filled. */
void refuse_segment(const struct shmeta_op *op, bool identical, struct shmeta_result *result);
void refuse_segment_id(const struct shmeta_op *op, struct shmeta_result *result);
void refuse_leased(const struct shmeta_op *op, int64_t left_ms, struct shmeta_result *result);
/* No epoch is beyond the one that the lease has. */
void refuse_epoch_spent(int64_t epoch, struct shmeta_result *result);
/* A lease that the agent does not hold. */
void refuse_release(const struct shmeta_op *op, struct shmeta_result *result);
/* An offer of a lease that is not the agent's, or of one that is on offer already. */
void refuse_offer(const struct shmeta_op *op, bool offered, struct shmeta_result *result);
/* The source took the operation, and did not do it, or not whole: something of its own schema is in
 * the way. */
void refuse_undone(struct shmeta_result *result);
/* The source's own tables, where what this operation needs is kept, are not there. */
void refuse_unsupported(struct shmeta_result *result);
/* An object is there already: with the same size it is a retry. */
void refuse_object(const struct shmeta_object *object, uint64_t size_bytes, uint64_t slices,
                   struct shmeta_result *result);

/* It cannot be confirmed as deleted. */
void refuse_object_used(uint64_t slices, struct shmeta_result *result);

/* What was offered with a transfer, and what became of it. */
struct transfer_state {
	bool found;     /* there is such a transfer of this tenant  */
	bool addressed; /* it is the caller's to answer             */
	bool expected;  /* it is in the state that the answer needs */
	bool in_time;
	bool held; /* COMPLETE: the former holder still holds the lease */
	struct shmeta_str state;
};
/* true: refused. */
bool refuse_transfer(const struct shmeta_op *op, const struct transfer_state *transfer, struct shmeta_result *result);

/* What a source has room for, of what a move brings. */
struct refuse_room {
	bool tenant, cleanup_policy, timestamps, own;
};
/* true: refused. */
bool refuse_row(const struct backend_row *row, const struct refuse_room *room, struct shmeta_result *result);

/* A slice that is behind no object, or whose bytes do not lie in it. object_bytes: the size of the
 * object before it, with nothing but slices between the two; NULL: there is none. true: refused. */
bool refuse_slice(const uint64_t *object_bytes, const struct shmeta_segment *slice, struct shmeta_result *result);

#endif
