/* SPDX-License-Identifier: Apache-2.0
 * `make demo`: the programs that it starts, and their end, whichever way it comes. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/demo/driver.h"

enum {
	SERVE_MS = 30000,
	SILENT_MS = 2000 /* before something that goes on says so */
};

static pid_t shell;
static int shell_in = -1, shell_out = -1;
static volatile sig_atomic_t interrupted;

/* ---- the end ---- */

static void on_signal(int signo)
{
	interrupted = signo;
}

void demo_catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void demo_end_process(pid_t *pid, int signo)
{
	if (*pid <= 0)
		return;
	(void)kill(*pid, signo);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

void demo_clean_up(void)
{
	if (driver.shared != NULL)
		atomic_store(&driver.shared->stop, 1);
	for (int i = 0; i < READERS; i++)
		demo_end_process(&driver.readers[i], SIGKILL);
	demo_end_process(&shell, SIGKILL);
	demo_end_process(&driver.writer, SIGKILL);
	if (driver.work[0] != '\0')
		(void)nftw(driver.work, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	driver.work[0] = '\0';
}

__attribute__((format(printf, 1, 2), noreturn)) void demo_give_up(const char *fmt, ...)
{
	va_list ap;

	(void)fflush(stdout);
	(void)fputs("\ndemo: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	demo_clean_up();
	exit(1);
}

void demo_check_interrupted(void)
{
	if (interrupted == 0)
		return;
	(void)fprintf(stderr, "\ndemo: interrupted; everything it started has been ended and removed\n");
	demo_clean_up();
	exit(128 + interrupted);
}

void demo_pause_ms(long ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	(void)nanosleep(&t, NULL);
	demo_check_interrupted();
}

/* ---- programs ---- */

pid_t demo_start(char *const argv[], int in, int out, int err)
{
	char path[PATH_MAX + 64];
	pid_t parent = getpid(), pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		demo_give_up("fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	(void)signal(SIGINT, SIG_IGN); /* the driver ends what it started */
	(void)signal(SIGPIPE, SIG_DFL);
	if (in >= 0)
		(void)dup2(in, STDIN_FILENO);
	if (out >= 0)
		(void)dup2(out, STDOUT_FILENO);
	if (err >= 0)
		(void)dup2(err, STDERR_FILENO);
	(void)snprintf(path, sizeof(path), "%s/%s", driver.bin, argv[0]);
	(void)execv(path, argv);
	(void)execvp(argv[0], argv);
	(void)dprintf(STDERR_FILENO, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

int demo_finish(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
		if (interrupted != 0)
			(void)kill(pid, SIGKILL);
	}
	demo_check_interrupted();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Until there is some, or its end; true when it was long enough to say on a terminal that it goes
 * on. */
static bool wait_for_output(int fd, uint64_t began, bool quiet)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	bool said = false;

	while (poll(&p, 1, 1000) == 0 && interrupted == 0) {
		if (!driver.terminal || quiet || demo_now_ns() - began < SILENT_MS * 1000000ull)
			continue;
		(void)printf("\r    working, %.0f s", (double)(demo_now_ns() - began) / 1e9);
		(void)fflush(stdout);
		said = true;
	}
	return said;
}

int demo_show(char *const argv[], bool quiet, char *keep, size_t keep_bytes)
{
	char line[1024];
	size_t have = 0;
	bool waiting = false;
	uint64_t began;
	FILE *from;
	pid_t pid;
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) != 0)
		demo_give_up("pipe: %s", strerror(errno));
	if (!quiet) {
		(void)printf("\n  $ %s", argv[0]);
		for (int i = 1; argv[i] != NULL; i++)
			if (strcmp(argv[i], "--dir") != 0 && (i == 1 || strcmp(argv[i - 1], "--dir") != 0))
				(void)printf(" %s", argv[i]);
		(void)putchar('\n');
	}
	pid = demo_start(argv, -1, fd[1], -1);
	(void)close(fd[1]);
	from = fdopen(fd[0], "r");
	if (from == NULL)
		demo_give_up("fdopen: %s", strerror(errno));
	(void)setvbuf(from, NULL, _IONBF, 0); /* so that poll() tells all there is */
	began = demo_now_ns();
	for (;;) {
		size_t n;

		waiting = wait_for_output(fd[0], began, quiet) || waiting;
		if (waiting)
			(void)fputs("\r\033[K", stdout);
		waiting = false;
		if (fgets(line, sizeof(line), from) == NULL)
			break;
		n = strlen(line);

		if (!quiet)
			(void)printf("    %s", line);
		if (keep != NULL && have + n + 1 < keep_bytes) {
			memcpy(keep + have, line, n + 1);
			have += n;
		}
	}
	(void)fclose(from);
	(void)fflush(stdout);
	return demo_finish(pid);
}

void demo_reap_readers(void)
{
	for (int i = 0; i < READERS; i++) {
		int status;

		if (driver.readers[i] > 0 && waitpid(driver.readers[i], &status, WNOHANG) == driver.readers[i]) {
			driver.readers[i] = 0;
			demo_give_up("reader %d ended (status %d): %s", i + 1, status,
			             driver.shared->reader[i].first_trouble);
		}
	}
}

/* ---- the writer ---- */

void demo_start_writer(bool first)
{
	char source[PATH_MAX + 32], config[PATH_MAX + 16], log[PATH_MAX + 16];
	char *argv[] = {(char *)"shmetad",       (char *)"--config", config, (char *)"--dir",
	                driver.shared->instance, (char *)"--source", source, NULL};
	int fd;

	(void)snprintf(source, sizeof(source), "sqlite:%s", driver.shared->database);
	(void)snprintf(config, sizeof(config), "%s/shmeta.conf", driver.work);
	(void)snprintf(log, sizeof(log), "%s/shmetad.log", driver.work);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		demo_give_up("%s: %s", log, strerror(errno));
	driver.writer = demo_start(argv, -1, fd, first && isatty(STDERR_FILENO) == 1 ? -1 : fd);
	(void)close(fd);
}

static void give_up_with_log(const char *what)
{
	char path[PATH_MAX + 16], line[512];
	FILE *log;

	(void)snprintf(path, sizeof(path), "%s/shmetad.log", driver.work);
	log = fopen(path, "re");
	while (log != NULL && fgets(line, sizeof(line), log) != NULL)
		(void)fprintf(stderr, "shmetad: %s", line);
	if (log != NULL)
		(void)fclose(log);
	demo_give_up("%s", what);
}

static bool writer_ended(void)
{
	if (waitpid(driver.writer, NULL, WNOHANG) != driver.writer)
		return false;
	driver.writer = 0;
	return true;
}

uint64_t demo_wait_until_serving(uint64_t epoch)
{
	struct shmeta_options options = {.size = sizeof(options),
	                                 .directory = driver.shared->instance,
	                                 .flags = SHMETA_OPEN_UNREGISTERED,
	                                 .threads = 1};
	uint64_t began = demo_now_ns(), now;
	struct shmeta_state state;

	for (;;) {
		state = (struct shmeta_state){.size = sizeof(state)};
		if (driver.look == NULL && shmeta_open(&options, &driver.look) != SHMETA_OK)
			driver.look = NULL;
		if (driver.look != NULL && shmeta_get_state(driver.look, &state) == SHMETA_OK && state.epoch > epoch &&
		    state.phase == SHMETA_PHASE_SERVING)
			break;
		if (writer_ended())
			give_up_with_log("shmetad ended instead of serving");
		now = demo_now_ns();
		if (now - began > SERVE_MS * 1000000ull)
			give_up_with_log("shmetad does not serve");
		demo_pause_ms(2);
	}
	return state.epoch;
}

/* ---- the sqlite3 shell, kept open so that a change costs no start of a program ---- */

void demo_start_shell(void)
{
	char *argv[] = {(char *)"sqlite3", (char *)"-batch", driver.shared->database, NULL};
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
		demo_give_up("pipe: %s", strerror(errno));
	shell = demo_start(argv, in[0], out[1], out[1]);
	(void)close(in[0]);
	(void)close(out[1]);
	shell_in = in[1];
	shell_out = out[0];
}

__attribute__((format(printf, 1, 2))) void demo_sql(const char *fmt, ...)
{
	static const char done[] = "\n.print done\n";
	char text[8192], answer[1024] = "";
	size_t have = 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - sizeof(done), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text) - sizeof(done))
		demo_give_up("statement too long");
	memcpy(text + n, done, sizeof(done));
	if (write(shell_in, text, strlen(text)) != (ssize_t)strlen(text))
		demo_give_up("the sqlite3 program went away");
	while (have < 5 || memcmp(answer + have - 5, "done\n", 5) != 0) {
		ssize_t k = read(shell_out, answer + have, sizeof(answer) - 1 - have);

		demo_check_interrupted();
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			demo_give_up("the sqlite3 program went away");
		have += (size_t)k;
		if (have == sizeof(answer) - 1)
			break;
	}
	answer[have] = '\0';
	if (strcmp(answer, "done\n") != 0)
		demo_give_up("sqlite3: %s", answer);
}
