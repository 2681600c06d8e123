/* SPDX-License-Identifier: Apache-2.0
 * See pg_bouncer.h. */
#include "tests/support/pg_bouncer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char program[] = "/usr/sbin/pgbouncer";
enum { START_TRIES = 2000 }; /* of 10 ms */

bool pg_bouncer_installed(void)
{
	return access(program, X_OK) == 0 && pg_cluster_installed();
}

static void configure(const struct pg_bouncer *b, const char *pool_mode, const char *more)
{
	const char *dir = b->cluster->dir;
	char path[100];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/bouncer.users", dir);
	f = fopen(path, "we");
	if (f == NULL || fputs("\"shmeta\" \"\"\n", f) < 0 || fclose(f) != 0)
		abort();
	(void)snprintf(path, sizeof path, "%s/bouncer.ini", dir);
	f = fopen(path, "we");
	if (f == NULL ||
	    fprintf(f,
	            "[databases]\n* = host=%s port=5432\n[pgbouncer]\nlisten_addr =\nlisten_port = %d\n"
	            "unix_socket_dir = %s\nauth_type = trust\nauth_file = %s/bouncer.users\nadmin_users = shmeta\n"
	            "logfile = %s/bouncer.log\nserver_login_retry = 1\npool_mode = %s\n%s\n",
	            dir, PG_BOUNCER_PORT, dir, dir, dir, pool_mode, more) < 0 ||
	    fclose(f) != 0)
		abort();
	(void)chmod(path, 0644);
}

__attribute__((noreturn)) static void be_pgbouncer(const struct pg_bouncer *b, pid_t parent)
{
	char path[100], quiet[] = "-q";
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)snprintf(path, sizeof path, "%s/bouncer.ini", b->cluster->dir);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || !pg_cluster_become_owner())
		_exit(127);
	/* After setuid(), which clears it. */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(127);
	(void)execl(program, program, quiet, path, (char *)NULL);
	_exit(127);
}

PGconn *pg_bouncer_console(const struct pg_bouncer *b)
{
	char uri[200];

	pg_bouncer_uri(b, "pgbouncer", uri, sizeof uri);
	return PQconnectdb(uri + strlen("postgresql:"));
}

void pg_bouncer_start(struct pg_bouncer *b, const struct pg_cluster *cluster, const char *pool_mode, const char *more)
{
	pid_t self = getpid();

	b->cluster = cluster;
	configure(b, pool_mode, more);
	b->pid = fork();
	if (b->pid == 0)
		be_pgbouncer(b, self);
	for (int i = 0; b->pid > 0 && i < START_TRIES; i++) {
		PGconn *console = pg_bouncer_console(b);
		bool there = PQstatus(console) == CONNECTION_OK;

		PQfinish(console);
		if (there)
			return;
		if (waitpid(b->pid, NULL, WNOHANG) == b->pid)
			break;
		(void)usleep(10000);
	}
	(void)fprintf(stderr, "pgbouncer in %s: it does not start; see bouncer.log there\n", cluster->dir);
	abort();
}

void pg_bouncer_stop(struct pg_bouncer *b)
{
	if (b->pid <= 0)
		return;
	(void)kill(b->pid, SIGTERM);
	while (waitpid(b->pid, NULL, 0) < 0 && errno == EINTR)
		;
	b->pid = 0;
}

void pg_bouncer_reload(struct pg_bouncer *b, const char *pool_mode, const char *more)
{
	PGconn *console = pg_bouncer_console(b);

	configure(b, pool_mode, more);
	pg_cluster_sql(console, "RELOAD");
	PQfinish(console);
}

void pg_bouncer_uri(const struct pg_bouncer *b, const char *database, char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "postgresql:host=%s port=%d user=shmeta dbname=%s", b->cluster->dir, PG_BOUNCER_PORT,
	               database);
}
