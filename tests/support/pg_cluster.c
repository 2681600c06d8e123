/* SPDX-License-Identifier: Apache-2.0
 * A PostgreSQL server of one's own (pg_cluster.h). */
#include "tests/support/pg_cluster.h"
#include "tests/support/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SETTINGS_MAX = 24, START_MS = 60000 };

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

static const char *programs(void)
{
	static const char *const dirs[] = {"/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin",
	                                   "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/14/bin",
	                                   "/usr/local/pgsql/bin"};
	char path[128];

	for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
		snprintf(path, sizeof path, "%s/initdb", dirs[i]);
		if (access(path, X_OK) == 0)
			return dirs[i];
	}
	return NULL;
}

bool pg_cluster_installed(void)
{
	return programs() != NULL && (getuid() != 0 || getpwnam("postgres") != NULL);
}

bool pg_cluster_become_owner(void)
{
	struct passwd *user = getuid() == 0 ? getpwnam("postgres") : NULL;

	return getuid() != 0 ||
	       (user != NULL && setgroups(0, NULL) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0);
}

/* ---- the supervisor ---- */

struct supervisor {
	char dir[64], log[80], data[80];
	char of[64]; /* where the primary of a standby listens */
	char *argv[8 + 2 * SETTINGS_MAX];
	int control;
	pid_t server;
	bool another; /* not the first of this process */
};

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

/* initdb and postgres refuse root. */
static pid_t spawn(const struct supervisor *s, char *const argv[])
{
	pid_t self = getpid(), pid = fork();
	int fd;

	if (pid != 0)
		return pid;
	fd = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		_exit(127);
	if (!pg_cluster_become_owner())
		_exit(127);
	/* After setuid(), which clears it. The server dies at once, its files with the supervisor's
	 * folder. */
	prctl(PR_SET_PDEATHSIG, SIGQUIT);
	if (getppid() != self)
		_exit(127);
	signal(SIGTERM, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	execv(argv[0], argv);
	_exit(127);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void end_server(struct supervisor *s, int sig)
{
	if (s->server <= 0)
		return;
	kill(s->server, SIGCONT);
	kill(s->server, sig);
	while (waitpid(s->server, NULL, 0) < 0 && errno == EINTR)
		;
	s->server = 0;
}

static volatile sig_atomic_t orphaned;

static void on_term(int sig)
{
	(void)sig;
	orphaned = 1;
}

static bool run(const struct supervisor *s, char *const argv[])
{
	pid_t pid = spawn(s, argv);
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR && !orphaned)
		;
	return status == 0;
}

/* A folder of the server's user. */
static bool make_folder(const char *path)
{
	struct passwd *user = getuid() == 0 ? getpwnam("postgres") : NULL;

	return mkdir(path, 0700) == 0 &&
	       (getuid() != 0 || (user != NULL && chown(path, user->pw_uid, user->pw_gid) == 0));
}

static bool initdb(const struct supervisor *s, const char *bin, char *data)
{
	char program[160];

	snprintf(program, sizeof program, "%s/initdb", bin);
	return run(s, (char *const[]){program, "-D", data, "-U", "shmeta", "--auth=trust", "--no-sync",
	                              "--locale=C.UTF-8", "--no-instructions", NULL});
}

/* initdb takes a second of a processor. So the first one of a run keeps what it made, and the
 * others copy that. */
static bool copy_template(struct supervisor *s, const char *bin, const char *folder)
{
	char lock[120], template[120], unfinished[120], files[128];
	bool made;
	int fd;

	snprintf(lock, sizeof lock, "%s/lock", folder);
	snprintf(template, sizeof template, "%s/data", folder);
	snprintf(unfinished, sizeof unfinished, "%s/unfinished", folder);
	snprintf(files, sizeof files, "%s/.", template);
	fd = open(lock, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) != 0)
		return false;
	made = access(template, F_OK) == 0;
	if (!made) {
		nftw(unfinished, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
		made = make_folder(unfinished) && initdb(s, bin, unfinished) && rename(unfinished, template) == 0;
	}
	close(fd);
	return made && run(s, (char *const[]){"/bin/cp", "-a", files, (char *)s->data, NULL});
}

static bool prepare(struct supervisor *s, const char *bin)
{
	/* Every copy has the identity of the template, and no two clusters of a test may have the
	 * same. */
	const char *folder = s->another ? NULL : getenv("SHMETA_TEST_PG");
	char program[160];

	if (!make_folder(s->data) || chmod(s->dir, 0711) != 0)
		return false;
	if (getuid() == 0) {
		struct passwd *user = getpwnam("postgres");
		int fd = open(s->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

		if (fd < 0 || fchmod(fd, 0666) != 0 || close(fd) != 0 || user == NULL ||
		    chown(s->dir, user->pw_uid, user->pw_gid) != 0)
			return false;
	}
	if (s->of[0] == '\0')
		return folder != NULL ? copy_template(s, bin, folder) : initdb(s, bin, s->data);
	snprintf(program, sizeof program, "%s/pg_basebackup", bin);
	return run(s, (char *const[]){program, "-D", s->data, "-h", s->of, "-U", "shmeta", "-R", "--no-sync",
	                              "--checkpoint=fast", NULL});
}

__attribute__((noreturn)) static void supervise(struct supervisor *s, const char *bin, pid_t parent)
{
	struct sigaction action = {.sa_handler = on_term};
	bool ok;

	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		orphaned = 1;
	/* What the test runner listens to must not be held open by us. */
	for (int fd = 3; fd < 1024; fd++)
		if (fd != s->control)
			close(fd);
	ok = !orphaned && prepare(s, bin);
	if (ok)
		s->server = spawn(s, s->argv);
	while (ok && !orphaned && write(s->control, "+", 1) == 1) {
		char command;

		if (read(s->control, &command, 1) != 1)
			break;
		if (command == 'd' || command == 'i')
			end_server(s, command == 'd' ? SIGINT : SIGQUIT);
		else if (command == 'u')
			s->server = spawn(s, s->argv);
		else
			break;
	}
	if (!ok && !orphaned)
		(void)!write(s->control, "-", 1);
	end_server(s, SIGQUIT);
	if (ok || orphaned)
		nftw(s->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	_exit(0);
}

/* ---- the test's side ---- */

static void show_log(const struct pg_cluster *cluster)
{
	char path[80], line[500];
	FILE *log;

	snprintf(path, sizeof path, "%s/log", cluster->dir);
	log = fopen(path, "re");
	while (log != NULL && fgets(line, sizeof line, log) != NULL)
		fputs(line, stderr);
	if (log != NULL)
		fclose(log);
}

static void await_word(struct pg_cluster *cluster)
{
	struct pollfd fd = {.fd = cluster->control, .events = POLLIN};
	char word = '-';

	if (poll(&fd, 1, START_MS) != 1 || read(cluster->control, &word, 1) != 1 || word != '+') {
		show_log(cluster);
		die("PostgreSQL in %s: it does not start", cluster->dir);
	}
}

static void await_server(const struct pg_cluster *cluster)
{
	char conninfo[160];

	snprintf(conninfo, sizeof conninfo, "host=%s user=shmeta dbname=postgres", cluster->dir);
	for (int i = 0; i < START_MS / 10; i++) {
		if (PQping(conninfo) == PQPING_OK)
			return;
		nap();
	}
	show_log(cluster);
	die("PostgreSQL in %s: it does not answer", cluster->dir);
}

static void start(struct pg_cluster *cluster, const char *const *settings, const char *of)
{
	static const char *const ours[] = {"fsync=off",
	                                   "full_page_writes=off",
	                                   "listen_addresses=",
	                                   "shared_buffers=32MB",
	                                   "max_wal_size=256MB",
	                                   "jit=off",
	                                   "dynamic_shared_memory_type=mmap",
	                                   "max_connections=60",
	                                   "log_checkpoints=off",
	                                   NULL};
	static char program[160], directories[100];
	static bool started;
	struct supervisor s = {.another = started};
	const char *bin = programs();
	pid_t self = getpid();
	int pair[2], n = 0;

	if (!pg_cluster_installed())
		die("there is no PostgreSQL server to start (Debian: postgresql)");
	memset(cluster, 0, sizeof *cluster);
	if (!scratch_dir("pg", cluster->dir) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		die("PostgreSQL: %s", strerror(errno));
	snprintf(s.dir, sizeof s.dir, "%s", cluster->dir);
	snprintf(s.of, sizeof s.of, "%s", of);
	snprintf(s.data, sizeof s.data, "%s/data", cluster->dir);
	snprintf(s.log, sizeof s.log, "%s/log", cluster->dir);
	snprintf(program, sizeof program, "%s/postgres", bin);
	snprintf(directories, sizeof directories, "unix_socket_directories=%s", cluster->dir);
	s.argv[n++] = program;
	s.argv[n++] = (char *)"-D";
	s.argv[n++] = s.data;
	s.argv[n++] = (char *)"-c";
	s.argv[n++] = directories;
	for (int round = 0; round < 2; round++)
		for (const char *const *at = round == 0 ? ours : settings; at != NULL && *at != NULL; at++) {
			s.argv[n++] = (char *)"-c";
			s.argv[n++] = (char *)*at;
		}
	started = true;
	s.control = pair[1];
	cluster->control = pair[0];
	cluster->supervisor = fork();
	if (cluster->supervisor < 0)
		die("PostgreSQL: fork: %s", strerror(errno));
	if (cluster->supervisor == 0)
		supervise(&s, bin, self);
	close(pair[1]);
	await_word(cluster);
	await_server(cluster);
	cluster->running = true;
}

void pg_cluster_start(struct pg_cluster *cluster, const char *const *settings)
{
	start(cluster, settings, "");
}

void pg_cluster_start_standby(struct pg_cluster *cluster, const struct pg_cluster *of)
{
	start(cluster, NULL, of->dir);
}

void pg_cluster_stop(struct pg_cluster *cluster)
{
	if (cluster->supervisor <= 0)
		return;
	(void)!write(cluster->control, "q", 1);
	close(cluster->control);
	while (waitpid(cluster->supervisor, NULL, 0) < 0 && errno == EINTR)
		;
	memset(cluster, 0, sizeof *cluster);
}

static void command(struct pg_cluster *cluster, const char *word)
{
	if (write(cluster->control, word, 1) != 1)
		die("PostgreSQL in %s: its supervisor is gone", cluster->dir);
	await_word(cluster);
}

void pg_cluster_down(struct pg_cluster *cluster, bool immediate)
{
	command(cluster, immediate ? "i" : "d");
	cluster->running = false;
}

void pg_cluster_up(struct pg_cluster *cluster)
{
	command(cluster, "u");
	await_server(cluster);
	cluster->running = true;
}

PGconn *pg_cluster_connect(const struct pg_cluster *cluster, const char *database)
{
	char conninfo[200];
	PGconn *conn;

	snprintf(conninfo, sizeof conninfo, "host=%s user=shmeta dbname=%s options='-c client_min_messages=warning'",
	         cluster->dir, database);
	conn = PQconnectdb(conninfo);
	if (PQstatus(conn) != CONNECTION_OK)
		die("PostgreSQL: %s", PQerrorMessage(conn));
	return conn;
}

void pg_cluster_sql(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		die("PostgreSQL: %s: %s", sql, PQerrorMessage(conn));
	PQclear(result);
}

void pg_cluster_database(const struct pg_cluster *cluster, const char *name)
{
	PGconn *conn = pg_cluster_connect(cluster, "postgres");
	char sql[200];

	snprintf(sql, sizeof sql, "CREATE DATABASE %s", name);
	/* Two at once quarrel about template1. */
	for (int i = 0; i < 200; i++) {
		PGresult *result = PQexec(conn, sql);
		bool done = PQresultStatus(result) == PGRES_COMMAND_OK;
		const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
		bool again = code != NULL && strcmp(code, "55006") == 0;

		PQclear(result);
		if (done)
			break;
		if (!again || i == 199)
			die("PostgreSQL: %s: %s", sql, PQerrorMessage(conn));
		nap();
	}
	PQfinish(conn);
}

void pg_cluster_uri(const struct pg_cluster *cluster, const char *database, char *ret, size_t bytes)
{
	snprintf(ret, bytes, "postgresql:///%s?host=%s&user=shmeta", database, cluster->dir);
}
