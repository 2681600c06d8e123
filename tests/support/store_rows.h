/* SPDX-License-Identifier: Apache-2.0
 * Topics and partitions for tests of the store itself, as the writer would put them there.
 * Functions return a status instead of asserting, so that forked children can use them. */
#ifndef SHMETA_TESTS_SUPPORT_STORE_ROWS_H
#define SHMETA_TESTS_SUPPORT_STORE_ROWS_H

#include "shm/record/record.h"
#include "shm/store/store.h"

enum { STORE_ROWS_TENANT = 1 };

/* The default tenant and a topic of this id (given in order from 1) with two partitions, which are
 * not put yet. */
enum shmeta_status store_rows_topic(struct shmeta__store *store, struct shmeta__txn *txn, uint32_t id, const char *name,
                                    struct shmeta_err *err);
/* Append irregular segments to a partition; it is made when it is not there. */
enum shmeta_status store_rows_append(struct shmeta__store *store, struct shmeta__txn *txn, uint32_t topic_id,
                                     uint32_t partition_id, const char *topic, uint32_t rows, struct shmeta_err *err);
/* Drop the oldest half of a partition's segments. */
enum shmeta_status store_rows_halve(struct shmeta__store *store, struct shmeta__txn *txn, uint32_t topic_id,
                                    uint32_t partition_id, const char *topic, struct shmeta_err *err);

#endif
