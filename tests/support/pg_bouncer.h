/* SPDX-License-Identifier: Apache-2.0
 * A pgbouncer of one's own in front of a cluster of one's own, for tests: on a Unix socket in the
 * cluster's folder, ended by its process id, and with the process that started it. */
#ifndef SHMETA_TESTS_SUPPORT_PG_BOUNCER_H
#define SHMETA_TESTS_SUPPORT_PG_BOUNCER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/types.h>

#include "tests/support/pg_cluster.h"

enum { PG_BOUNCER_PORT = 6432 }; /* of the socket in cluster->dir */

struct pg_bouncer {
	const struct pg_cluster *cluster;
	pid_t pid;
};

bool pg_bouncer_installed(void);
/* more: lines for its section [pgbouncer]. A failure ends the program with its log. */
void pg_bouncer_start(struct pg_bouncer *b, const struct pg_cluster *cluster, const char *pool_mode, const char *more);
/* Idempotent; also for one that was not started (zeroed). */
void pg_bouncer_stop(struct pg_bouncer *b);
/* Other settings, taken over while it runs. */
void pg_bouncer_reload(struct pg_bouncer *b, const char *pool_mode, const char *more);
/* A connection to its console: PAUSE, RESUME, KILL, ... */
PGconn *pg_bouncer_console(const struct pg_bouncer *b);
/* "postgresql:host=... port=... user=shmeta dbname=...". */
void pg_bouncer_uri(const struct pg_bouncer *b, const char *database, char *ret, size_t bytes);

#endif
