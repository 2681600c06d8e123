/* SPDX-License-Identifier: Apache-2.0
 * A PostgreSQL server for the benchmark, and data in it. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/server.h"

static enum { NOT_TRIED, STARTED, IMPOSSIBLE } state;

static const char *bin_dir(void)
{
	static const char *dirs[] = {"/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin",
	                             "/usr/lib/postgresql/17/bin", "/usr/bin"};
	char path[128];

	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		(void)snprintf(path, sizeof path, "%s/initdb", dirs[i]);
		if (access(path, X_OK) == 0)
			return dirs[i];
	}
	return NULL;
}

/* initdb and postgres refuse root: they run as the user of Debian's package. */
static pid_t spawn(const struct bench *b, char *const argv[])
{
	char log[320];
	pid_t pid = fork();

	(void)snprintf(log, sizeof log, "%s/postgres.log", b->dir);
	if (pid != 0) {
		if (pid < 0)
			die("fork failed");
		/* killed, it would leave its shared memory behind */
		env_track_to_end(pid, SIGQUIT);
		return pid;
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGINT);
	if (freopen(log, "ae", stdout) == NULL || dup2(1, 2) < 0)
		_exit(127);
	if (getuid() == 0) {
		struct passwd *user = getpwnam("postgres");

		if (user == NULL || setgroups(0, NULL) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
			_exit(127);
		(void)prctl(PR_SET_PDEATHSIG, SIGINT); /* setuid cleared it */
	}
	execv(argv[0], argv);
	_exit(127);
}

static void conninfo_of(const struct bench *b, const char *database, char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "host=%s/pg user=bench dbname=%s", b->dir, database);
}

void server_uri(const struct bench *b, const char *database, char *ret, size_t bytes)
{
	char host[3 * sizeof b->dir + 1];
	size_t n = 0;

	for (const char *p = b->dir; *p != '\0'; p++)
		n += (size_t)snprintf(host + n, sizeof host - n, *p == '/' ? "%%2F" : "%c", *p);
	(void)snprintf(ret, bytes, "postgresql://bench@%s%%2Fpg/%s", host, database);
}

static bool start(const struct bench *b)
{
	char program[160], data[330], conninfo[400];
	const char *bin = bin_dir();
	pid_t pid;

	if (bin == NULL)
		return false;
	(void)snprintf(data, sizeof data, "%s/pg", b->dir);
	if (mkdir(data, 0700) != 0 || chmod(b->dir, 0711) != 0)
		return false;
	if (getuid() == 0) {
		struct passwd *user = getpwnam("postgres");

		if (user == NULL || chown(data, user->pw_uid, user->pw_gid) != 0)
			return false;
	}
	(void)snprintf(program, sizeof program, "%s/initdb", bin);
	pid = spawn(b, (char *const[]){program, "-D", data, "-U", "bench", "--auth=trust", "--no-sync", "--locale=C",
	                               "--encoding=UTF8", NULL});
	if (env_wait(pid) != 0)
		return false;
	(void)snprintf(program, sizeof program, "%s/postgres", bin);
	(void)spawn(b, (char *const[]){program, "-D", data, "-k", data, "-c", "listen_addresses=", "-c",
	                               "max_wal_size=8GB", "-c", "shared_buffers=512MB", NULL});
	conninfo_of(b, "postgres", conninfo, sizeof conninfo);
	for (double end = now_s() + 20; now_s() < end; (void)usleep(50000))
		if (PQping(conninfo) == PQPING_OK)
			return true;
	return false;
}

void server_run(PGconn *pg, const char *sql)
{
	PGresult *res = PQexec(pg, sql);

	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
		die("PostgreSQL: %s: %s", sql, PQerrorMessage(pg));
	PQclear(res);
}

PGconn *server_connect(const struct bench *b, const char *database)
{
	char conninfo[400], sql[200];
	PGconn *pg;

	if (state == NOT_TRIED)
		state = start(b) ? STARTED : IMPOSSIBLE;
	if (state == IMPOSSIBLE)
		return NULL;
	conninfo_of(b, "postgres", conninfo, sizeof conninfo);
	pg = PQconnectdb(conninfo);
	if (PQstatus(pg) != CONNECTION_OK)
		die("PostgreSQL: %s", PQerrorMessage(pg));
	(void)snprintf(sql, sizeof sql, "CREATE DATABASE %s", database);
	PQclear(PQexec(pg, sql)); /* or it is there */
	PQfinish(pg);
	conninfo_of(b, database, conninfo, sizeof conninfo);
	pg = PQconnectdb(conninfo);
	if (PQstatus(pg) != CONNECTION_OK)
		die("PostgreSQL: %s", PQerrorMessage(pg));
	return pg;
}

/* One value in COPY's text format. */
static size_t copy_value(char *out, size_t room, sqlite3_stmt *q, int column)
{
	const char *text = (const char *)sqlite3_column_text(q, column);
	size_t n = 0;

	if (text == NULL)
		return (size_t)snprintf(out, room, "\\N");
	for (; *text != '\0' && n + 2 < room; text++) {
		char escaped = *text == '\\'   ? '\\'
		               : *text == '\n' ? 'n'
		               : *text == '\t' ? 't'
		               : *text == '\r' ? 'r'
		                               : 0;

		if (escaped != 0)
			out[n++] = '\\';
		out[n++] = escaped != 0 ? escaped : *text;
	}
	if (*text != '\0')
		die("a value of column %d is too long to copy", column);
	return n;
}

static uint64_t copy_table(PGconn *pg, sqlite3 *db, const char *table, const char *columns, uint64_t every)
{
	static char line[1 << 18];
	sqlite3_stmt *q;
	uint64_t rows = 0;
	PGresult *res;
	char sql[400];

	(void)snprintf(sql, sizeof sql, "SELECT %s FROM %s WHERE rowid %% %llu = 0", columns, table,
	               (unsigned long long)every);
	if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK)
		die("%s: %s", table, sqlite3_errmsg(db));
	(void)snprintf(sql, sizeof sql, "COPY %s(%s) FROM STDIN", table, columns);
	res = PQexec(pg, sql);
	if (PQresultStatus(res) != PGRES_COPY_IN)
		die("PostgreSQL: %s: %s", sql, PQerrorMessage(pg));
	PQclear(res);
	while (sqlite3_step(q) == SQLITE_ROW) {
		size_t n = 0;

		for (int i = 0; i < sqlite3_column_count(q); i++) {
			n += copy_value(line + n, sizeof line - n - 2, q, i);
			line[n++] = i + 1 < sqlite3_column_count(q) ? '\t' : '\n';
		}
		if (PQputCopyData(pg, line, (int)n) != 1)
			die("PostgreSQL: %s", PQerrorMessage(pg));
		rows++;
	}
	(void)sqlite3_finalize(q);
	(void)PQputCopyEnd(pg, NULL);
	while ((res = PQgetResult(pg)) != NULL) {
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			die("PostgreSQL: %s: %s", sql, PQerrorMessage(pg));
		PQclear(res);
	}
	return rows;
}

uint64_t server_fill(PGconn *pg, const char *sqlite_path, uint64_t every)
{
	uint64_t segments;
	sqlite3 *db;

	if (sqlite3_open_v2(sqlite_path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		die("%s: %s", sqlite_path, sqlite3_errmsg(db));
	server_run(pg, "SET session_replication_role = replica");
	(void)copy_table(pg, db, "topics", "name, partition_count, retention_ms, created_at, updated_at, config", 1);
	(void)copy_table(pg, db, "partitions", "topic, partition_id, high_watermark, created_at, updated_at", 1);
	segments = copy_table(
		pg, db, "segments",
		"id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, "
		"created_at",
		every);
	server_run(pg, "RESET session_replication_role");
	server_run(pg, "VACUUM ANALYZE");
	(void)sqlite3_close(db);
	return segments;
}
