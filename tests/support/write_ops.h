/* SPDX-License-Identifier: Apache-2.0
 * Operations of a test for the engine's queue of writes. */
#ifndef SHMETA_TESTS_SUPPORT_WRITE_OPS_H
#define SHMETA_TESTS_SUPPORT_WRITE_OPS_H

#include "writer/engine/sync.h"

/* sync_write() of operations as a client has them. */
enum shmeta_status write_ops(struct sync *sync, struct shmeta_str tenant, const struct shmeta_op *ops, size_t count,
                             uint64_t deadline_ns, uint32_t uid, uint64_t connection, const char *who, uint64_t ticket);

#endif
