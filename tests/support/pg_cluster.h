/* SPDX-License-Identifier: Apache-2.0
 * A PostgreSQL server of one's own, for tests: initdb on tmpfs, a Unix socket and nothing else
 * (unless asked), gone without a trace when it is stopped, and when the process that started it
 * dies. As root it runs as the user `postgres`. It never looks at a server that it did not start.
 *
 * A supervisor process stands between: it starts and ends the server by its process id and removes
 * the folder. */
#ifndef SHMETA_TESTS_SUPPORT_PG_CLUSTER_H
#define SHMETA_TESTS_SUPPORT_PG_CLUSTER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/types.h>

struct pg_cluster {
	char dir[64]; /* the socket lies here; the data in dir/data; log: dir/log */
	pid_t supervisor;
	int control;
	bool running;
};

/* Is there a PostgreSQL on this machine to start? */
bool pg_cluster_installed(void);
/* In a child: become who runs servers (as root: postgres), for good. */
bool pg_cluster_become_owner(void);
/* settings: more of them, "name=value", NULL at the end; NULL: none. A failure ends the program
 * with the server's log. */
void pg_cluster_start(struct pg_cluster *cluster, const char *const *settings);
/* A standby of a running one, which follows it. */
void pg_cluster_start_standby(struct pg_cluster *cluster, const struct pg_cluster *of);
void pg_cluster_stop(struct pg_cluster *cluster);

/* The server alone: ended in order (fast), or as if its machine had died (immediate), and started
 * again on the same data. */
void pg_cluster_down(struct pg_cluster *cluster, bool immediate);
void pg_cluster_up(struct pg_cluster *cluster);

/* A new, empty database; name: of the caller's choice. The superuser is `shmeta`, without a
 * password. */
void pg_cluster_database(const struct pg_cluster *cluster, const char *name);
/* "postgresql://..." */
void pg_cluster_uri(const struct pg_cluster *cluster, const char *database, char *ret, size_t bytes);
/* A connection of the test's own. A failure ends the program. */
PGconn *pg_cluster_connect(const struct pg_cluster *cluster, const char *database);
/* Statements, any number of them; a failure ends the program with the server's words. */
void pg_cluster_sql(PGconn *conn, const char *sql);

#endif
