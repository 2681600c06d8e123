/* SPDX-License-Identifier: Apache-2.0
 * Leader epochs (semantics.md C13): what all engines have in common. Of each epoch under which
 * something was written to a partition an engine keeps the start: the base of the segment that was
 * added under it, the lowest where there are several, or what the high watermark was before it was
 * set under it first. A row of epoch 0 stands for all that are not kept any more. */
#ifndef SHMETA_BACKENDS_LEADER_EPOCHS_H
#define SHMETA_BACKENDS_LEADER_EPOCHS_H

#include <stdbool.h>

#include "backends/backend.h"

/* Of a partition, at most. */
enum { LEADER_EPOCHS_MOST = 4096 };

/* Those of a partition, for engines that do not keep each in a row. */
struct leader_epochs {
	struct leader_epoch {
		uint64_t epoch, start;
	} * list; /* ascending; of malloc() */
	size_t count;
	bool dropped; /* older ones are not kept any more */
};

/* Something was written under an epoch: the first time from `start` on; an add (lowers) may have
 * begun below that. false: no memory. */
bool leader_epochs_record(struct leader_epochs *e, uint64_t epoch, uint64_t start, bool lowers);
/* Those that end at or below the log start go, but for the newest of them. false: none did. */
bool leader_epochs_trim(struct leader_epochs *e, uint64_t log_start);

/* What a source knows about an epoch that is asked for. */
struct leader_epoch_facts {
	bool topic, partition;                      /* are there */
	bool recorded;                              /* an epoch up to the one that is asked for is
                                                     * kept: the greatest is in epoch */
	bool followed;                              /* one beyond it is kept: the smallest begins at
                                                     * next_start */
	uint64_t current;                           /* the highest that a lease of the partition
                                                     * ever had; 0: there was none */
	uint64_t epoch, next_start, high_watermark; /* above INT64_MAX: it cannot be read */
};
/* Fill in what the list says of the epoch that is asked for. */
void leader_epochs_look_up(const struct leader_epochs *e, uint64_t asked, struct leader_epoch_facts *facts);
enum shmeta_status leader_epoch_judge(const struct backend_epoch *ask, const struct leader_epoch_facts *facts,
                                      struct backend_epoch_end *ret, struct backend_error *err);

/* Does the operation write to its partition's log under a fence? */
static inline bool leader_epoch_writes(const struct shmeta_op *op)
{
	return op->fence.agent_id.bytes > 0 &&
	       (op->type == SHMETA_OP_ADD_SEGMENT || op->type == SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK ||
	        op->type == SHMETA_OP_ADD_SLICE || op->type == SHMETA_OP_UPDATE_HIGH_WATERMARK);
}

#endif
