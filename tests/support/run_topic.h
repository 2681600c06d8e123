/* SPDX-License-Identifier: Apache-2.0
 * A topic seen from three sides, for tests with a real daemon on a real database: written through
 * shmeta, in the cache, in the table. */
#ifndef SHMETA_TESTS_SUPPORT_RUN_TOPIC_H
#define SHMETA_TESTS_SUPPORT_RUN_TOPIC_H

#include <libpq-fe.h>
#include <stdint.h>

#include "include/shmeta.h"

enum { RUN_TOPIC_PATIENCE_S = 40 };

/* Waits at most RUN_TOPIC_PATIENCE_S. The call's failure, or the operation's own status. */
enum shmeta_status run_topic_create(struct shmeta_client *client, const char *name, uint32_t partitions,
                                    struct shmeta_result *ret);
int run_topic_cached(struct shmeta_reader *reader, const char *name);
int run_topic_stored(PGconn *conn, const char *name);
void run_topic_insert(PGconn *conn, const char *name); /* as another application does */
/* Until the cache shows it (there: 1) or does not any more (0); fails the test after
 * RUN_TOPIC_PATIENCE_S. */
void run_topic_await(struct shmeta_reader *reader, const char *name, int there);

#endif
