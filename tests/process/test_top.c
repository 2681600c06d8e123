/* SPDX-License-Identifier: Apache-2.0
 * shmetactl top on a terminal that a test plays: it shows the instance, follows keys and sizes, a
 * writer that dies and comes back, costs next to nothing, and ends with its terminal. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

TestSuite(top, .timeout = 60);

static struct run_daemon d;
static int terminal = -1;
static pid_t pid;
static char screen[1 << 20]; /* all that was written since the last clear() */
static size_t written;

static void begin(void)
{
	run_tool_need_terminal();
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
}

static void end(void)
{
	if (terminal >= 0)
		(void)close(terminal);
	if (pid > 0)
		(void)kill(pid, SIGKILL);
	run_daemon_done(&d);
}

static void resize(unsigned short rows, unsigned short columns)
{
	const struct winsize size = {.ws_row = rows, .ws_col = columns};

	cr_assert_eq(ioctl(terminal, TIOCSWINSZ, &size), 0);
}

static void start_top(const char *every)
{
	char path[4096];
	const char *name;

	(void)snprintf(path, sizeof(path), "%s/bin/shmetactl", places_build);
	terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	cr_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
	resize(24, 80);
	name = ptsname(terminal);
	pid = run_fork();
	if (pid == 0) {
		int fd;

		(void)setsid();
		fd = open(name, O_RDWR);
		(void)ioctl(fd, TIOCSCTTY, 0);
		(void)dup2(fd, STDIN_FILENO);
		(void)dup2(fd, STDOUT_FILENO);
		(void)setenv("TERM", "xterm", 1);
		(void)unsetenv("LINES");
		(void)unsetenv("COLUMNS");
		(void)execl(path, "shmetactl", "--dir", d.instance, "top", "--every", every, (char *)NULL);
		_exit(127);
	}
}

static void read_some(int wait_ms)
{
	struct pollfd p = {.fd = terminal, .events = POLLIN};

	while (poll(&p, 1, wait_ms) > 0 && written < sizeof(screen) - 4096) {
		ssize_t n = read(terminal, screen + written, 4095);

		if (n <= 0)
			return;
		written += (size_t)n;
		screen[written] = '\0';
		wait_ms = 0;
	}
}

static void clear(void)
{
	read_some(0);
	written = 0;
	screen[0] = '\0';
}

static void await(const char *text)
{
	double until = run_now_s() + 10;

	while (strstr(screen, text) == NULL) {
		cr_assert_lt(run_now_s(), until, "the screen never has '%s': %s", text, screen);
		if (written > sizeof(screen) / 2)
			clear();
		read_some(100);
	}
}

static void press(const char *keys)
{
	clear();
	cr_assert_eq(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static int exit_within(double seconds)
{
	double until = run_now_s() + seconds;
	int status;

	while (run_now_s() < until) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			pid = 0;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		read_some(50);
	}
	return -1;
}

Test(top, it_shows_the_instance_and_obeys_its_keys, .init = begin, .fini = end)
{
	start_top("200ms");
	await("phase serving");
	await("answered n=10");
	await("segment");
	press("2");
	await("memory_free");
	press("j");
	await("heart beats");
	press("3");
	await("pin age");
	press("4");
	await("logarithmic");
	press("5");
	await("slots");
	resize(40, 80); /* there are more checks than rows */
	await("quarantine");
	press("h");
	await("hide counters that are zero");
	press("q");
	cr_assert_eq(exit_within(5), 0);
}

Test(top, it_follows_the_size_of_the_terminal, .init = begin, .fini = end)
{
	start_top("200ms");
	await("phase serving");
	clear();
	resize(10, 30);
	await("1 classes");
	clear();
	resize(4, 12); /* there is no room for a row */
	(void)usleep(700000);
	clear();
	resize(40, 120);
	await("feed");
	press("q");
	cr_assert_eq(exit_within(5), 0);
}

Test(top, a_writer_that_dies_and_one_that_starts_again_are_shown, .init = begin, .fini = end)
{
	start_top("200ms");
	await("phase serving");
	clear();
	(void)run_daemon_end(&d, SIGKILL);
	await("the writer is dead");
	clear();
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	await("health");
	press("q");
	cr_assert_eq(exit_within(5), 0);
}

Test(top, it_ends_with_its_terminal, .init = begin, .fini = end)
{
	start_top("1s");
	await("phase serving");
	(void)close(terminal);
	terminal = -1;
	{
		double until = run_now_s() + 5;
		int status = 0;
		pid_t gone = 0;

		while (gone == 0 && run_now_s() < until) {
			gone = waitpid(pid, &status, WNOHANG);
			(void)usleep(20000);
		}
		cr_assert_eq(gone, pid, "it goes on without a terminal");
		pid = 0;
	}
}

Test(top, it_costs_less_than_a_hundredth_of_a_core, .init = begin, .fini = end)
{
	struct rusage before, after;
	double used;

	start_top("1s");
	await("phase serving");
	(void)usleep(300000);
	clear();
	(void)getrusage(RUSAGE_CHILDREN, &before);
	for (int i = 0; i < 50; i++)
		read_some(100);
	press("q");
	cr_assert_eq(exit_within(5), 0);
	(void)getrusage(RUSAGE_CHILDREN, &after);
	used = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
	       (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e6 +
	       (double)(after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
	       (double)(after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
	/* All of its life, its start included. */
	cr_log_info("top took %.1f ms of the processor in 5 s", used * 1e3);
	cr_assert_lt(used, 0.05, "%.3f s of 5 s", used);
}

Test(top, without_a_terminal_it_says_what_to_use, .init = begin, .fini = end)
{
	struct run_tool t;

	run_tool(&t, "shmetactl --dir %s top", d.instance);
	cr_assert(t.code == 2 && strstr(t.err, "top needs a terminal; 'shmetactl stat --every 1s'") != NULL, "%d %s",
	          t.code, t.err);
	run_tool_done(&t);
}
