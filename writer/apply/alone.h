/* SPDX-License-Identifier: Apache-2.0
 * Records whose key could not be read when it may have changed. The stamp of their class goes on
 * without them: each keeps the time until which it was known to be true (SHMETA_SYNCED_ALONE),
 * until it is applied again. */
#ifndef SHMETA_WRITER_APPLY_ALONE_H
#define SHMETA_WRITER_APPLY_ALONE_H

#include "shm/page/board.h"
#include "writer/apply/apply.h"

/* What the store has of the key, in the transaction of a; gen: of the store. A topic with_segments:
 * and its partitions. OK: it is marked. ABSENT: the store has none of it. ERR_UNSUPPORTED: it
 * stands for records without number. */
enum shmeta_status alone_mark(struct apply *a, const struct backend_key *key, const struct shmeta_generation *gen,
                              struct shmeta_err *err);
/* Is the partition one of them? OK or ABSENT. */
enum shmeta_status alone_partition(struct shmeta__txn *txn, uint32_t topic_id, uint32_t partition_id, bool *ret,
                                   struct shmeta_err *err);

#endif
