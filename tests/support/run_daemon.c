/* SPDX-License-Identifier: Apache-2.0
 * A real shmetad for tests. */
#include "tests/support/run_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "tests/support/places.h"
#include "tests/support/scratch.h"

double run_now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint32_t run_rounds(uint32_t usual, uint32_t full)
{
	return getenv("SHMETA_FAULTS") != NULL ? full : usual;
}

int run_daemon_become(const struct run_daemon *d, uid_t user, gid_t also)
{
	char path[128];
	struct stat st;

	(void)snprintf(path, sizeof path, "%s/control.sock", d->instance);
	if (stat(path, &st) != 0 || setgroups(2, (gid_t[]){st.st_gid, also}) != 0)
		return -1;
	return setresuid(user, user, user);
}

pid_t run_fork(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

int run_reap(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_daemon_init(struct run_daemon *d)
{
	int fd;

	memset(d, 0, sizeof *d);
	if (!scratch_dir("daemon", d->dir))
		return -1;
	(void)chmod(d->dir, 0755); /* for tests that read as another user */
	(void)snprintf(d->instance, sizeof d->instance, "%s/instance", d->dir);
	(void)snprintf(d->db, sizeof d->db, "%s/source.db", d->dir);
	(void)snprintf(d->log, sizeof d->log, "%s/log", d->dir);
	(void)snprintf(d->config, sizeof d->config, "%s/shmeta.conf", d->dir);
	fd = open(d->config, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	(void)close(fd);
	return mkdir(d->instance, 0755);
}

static void print_log(const struct run_daemon *d)
{
	FILE *f = fopen(d->log, "re");

	(void)fprintf(stderr, "--- %s:\n", d->log);
	for (int c; f != NULL && (c = fgetc(f)) != EOF;)
		(void)fputc(c, stderr);
	if (f != NULL)
		(void)fclose(f);
}

uint64_t run_daemon_epoch(const struct run_daemon *d)
{
	struct shmeta_board board = {.epoch = 0};
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/board", d->instance);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fread(&board, sizeof board, 1, f) != 1)
		board.epoch = 0;
	(void)fclose(f);
	return board.epoch;
}

static int serves(const struct run_daemon *d, uint64_t epoch)
{
	struct shmeta_board board = {.epoch = 0};
	char path[128];
	int yes;
	FILE *f;

	(void)snprintf(path, sizeof path, "%s/board", d->instance);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	/* Another one, not a later one: the number may have been damaged. */
	yes = fread(&board, sizeof board, 1, f) == 1 && board.epoch != epoch && board.generation != 0 &&
	      board.phase == SHMETA_PHASE_SERVING;
	(void)fclose(f);
	return yes;
}

int run_daemon_wait(struct run_daemon *d, uint64_t epoch)
{
	double end = run_now_s() + run_rounds(20, 300);

	while (!serves(d, epoch)) {
		siginfo_t dead = {.si_pid = 0};

		if (run_now_s() > end ||
		    (waitid(P_PID, (id_t)d->pid, &dead, WEXITED | WNOHANG | WNOWAIT) == 0 && dead.si_pid != 0)) {
			print_log(d);
			return -1;
		}
		(void)usleep(2000);
	}
	return 0;
}

int run_daemon_spawn(struct run_daemon *d, const char *source)
{
	char uri[128];

	(void)snprintf(uri, sizeof uri, "sqlite:%s", d->db);
	d->pid = run_fork();
	if (d->pid == 0) {
		int fd = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

		if (fd >= 0) {
			(void)dup2(fd, 1);
			(void)dup2(fd, 2);
		}
		/* Opened before, where another user might not get to it. */
		int program = open(places_shmetad, O_PATH | O_CLOEXEC);
		char *const arguments[] = {"shmetad",
		                           "--config",
		                           d->config,
		                           "--dir",
		                           d->instance,
		                           "--source",
		                           source != NULL ? (char *)(uintptr_t)source : uri,
		                           d->existing ? NULL : "--create",
		                           NULL};

		if (d->user != 0 && (setgroups(0, NULL) != 0 || setresgid(d->user, d->user, d->user) != 0 ||
		                     setresuid(d->user, d->user, d->user) != 0 || chdir("/") != 0))
			_exit(126);
		(void)fexecve(program, arguments, environ);
		_exit(127);
	}
	return d->pid > 0 ? 0 : -1;
}

int run_daemon_configure(const struct run_daemon *d, const char *text, const char *more)
{
	FILE *f = fopen(d->config, "we");
	bool written = f != NULL && fputs(text, f) >= 0 && fputs(more, f) >= 0;

	return f != NULL && fclose(f) == 0 && written ? 0 : -1;
}

int run_daemon_start(struct run_daemon *d, const char *source)
{
	uint64_t epoch = run_daemon_epoch(d);

	return run_daemon_spawn(d, source) != 0 ? -1 : run_daemon_wait(d, epoch);
}

int run_daemon_end(struct run_daemon *d, int signo)
{
	int status;

	if (d->pid <= 0)
		return -1;
	/* Before the signal: one behind it can wake a thread that the leak check at the daemon's
	 * end has stopped, and waits for. */
	(void)kill(d->pid, SIGCONT);
	(void)kill(d->pid, signo);
	status = run_reap(d->pid);
	d->pid = 0;
	return status;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

void run_daemon_forget(struct run_daemon *d)
{
	(void)nftw(d->instance, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	(void)mkdir(d->instance, 0755);
}

void run_daemon_done(struct run_daemon *d)
{
	(void)run_daemon_end(d, SIGKILL);
	if (d->dir[0] != '\0')
		(void)nftw(d->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	d->dir[0] = '\0';
}

int run_daemon_sql(struct run_daemon *d, const char *sql)
{
	sqlite3 *db = NULL;
	char *error = NULL;
	int rc = sqlite3_open(d->db, &db);

	if (rc == SQLITE_OK) {
		(void)sqlite3_busy_timeout(db, 10000);
		rc = sqlite3_exec(db, sql, NULL, NULL, &error);
	}
	if (rc != SQLITE_OK)
		(void)fprintf(stderr, "%s: %s\n", d->db, error != NULL ? error : sqlite3_errstr(rc));
	sqlite3_free(error);
	(void)sqlite3_close(db);
	return rc == SQLITE_OK ? 0 : -1;
}

struct shmeta *run_daemon_open(const struct run_daemon *d, const char *agent, uint32_t flags)
{
	char error[480] = "";
	struct shmeta *instance = NULL;
	struct shmeta_options options = {.size = sizeof options,
	                                 .directory = d->instance,
	                                 .agent = agent,
	                                 .flags = flags,
	                                 .error = error,
	                                 .error_bytes = sizeof error};

	if (shmeta_open(&options, &instance) == SHMETA_OK)
		return instance;
	(void)fprintf(stderr, "%s\n", error);
	return NULL;
}

enum shmeta_status run_daemon_begin(struct shmeta_reader *reader)
{
	enum shmeta_status status;

	while ((status = shmeta_begin(reader)) == SHMETA_ERR_CONTENDED)
		;
	return status;
}

struct shmeta_reader *run_daemon_reader(struct shmeta *instance)
{
	struct shmeta_reader *reader = NULL;
	double began = run_now_s(), now;

	if (shmeta_reader_new(instance, &reader) != SHMETA_OK)
		return NULL;
	while ((now = run_now_s()) < began + 10) {
		struct shmeta_snapshot_info info = {.registered = 0};

		if (run_daemon_begin(reader) == SHMETA_OK) {
			(void)!shmeta_snapshot_info(reader, &info);
			(void)shmeta_end(reader);
		}
		if (info.registered)
			return reader;
		/* A thousand processes that wait so must not take the daemon's time. */
		(void)usleep(now < began + 0.1 ? 2000 : 50000);
	}
	shmeta_reader_free(reader);
	return NULL;
}
