/* SPDX-License-Identifier: Apache-2.0
 * A PostgreSQL server of the benchmark's own: in the work directory, on a Unix socket, ended by its
 * process id. One for all groups, started when it is first asked for. Its storage is the work
 * directory's, like everything that is compared with it. */
#ifndef SHMETA_BENCH_SERVER_H
#define SHMETA_BENCH_SERVER_H

#include <libpq-fe.h>

#include "bench/bench.h"

/* A connection to a database, which is created when it is not there; NULL: no server can be
 * started. The caller PQfinish()es it. */
PGconn *server_connect(const struct bench *b, const char *database);
/* The same as a source for the daemon. */
void server_uri(const struct bench *b, const char *database, char *ret, size_t bytes);

/* Run SQL; a failure ends the benchmark. */
void server_run(PGconn *pg, const char *sql);
/* What a StreamHouse-shaped SQLite file holds, of its segments every n-th, into the tables of the
 * same names; no change log gets it. Returns how many segments. */
uint64_t server_fill(PGconn *pg, const char *sqlite_path, uint64_t every);

#endif
