/* SPDX-License-Identifier: Apache-2.0
 * The application beside the backend under test, where the source is DynamoDB: another writer, as a
 * second host's daemon is. Every row is told in its log, since nobody else's changes are. */
#ifndef SHMETA_TESTS_SUPPORT_DDB_WORLD_H
#define SHMETA_TESTS_SUPPORT_DDB_WORLD_H

#include "backends/backend.h"

struct ddb_world;

struct ddb_world *ddb_world_open(const struct backend_options *options);
void ddb_world_close(struct ddb_world *world);
/* A failure ends the program with the sentence. tenant NULL: the default one. */
void ddb_world_do(struct ddb_world *world, const char *tenant, const struct shmeta_op *op, int64_t now_ms);
void ddb_world_put(struct ddb_world *world, const struct backend_row *row);

#endif
