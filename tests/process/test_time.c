/* SPDX-License-Identifier: Apache-2.0
 * Readers whose clock is not their writer's, and a writer that stands still. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/run_tool.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

TestSuite(time, .timeout = 120);

static struct run_daemon d;

static void teardown(void)
{
	run_daemon_done(&d);
}

/* Exit statuses of who looks. */
enum { FRESH = 10, STALE, AGELESS, FAILED, REFUSED };

static int look(int want_alive)
{
	struct shmeta_state state = {.size = sizeof state};
	struct shmeta *instance = run_daemon_open(&d, "witness", 0);
	struct shmeta_reader *reader = NULL;
	struct shmeta_freshness fresh;
	struct shmeta_topic t;

	if (instance == NULL || shmeta_reader_new(instance, &reader) != SHMETA_OK ||
	    run_daemon_begin(reader) != SHMETA_OK || shmeta_get_topic(reader, "t", 1, NULL, &t, &fresh) != SHMETA_OK ||
	    shmeta_end(reader) != SHMETA_OK || shmeta_get_state(instance, &state) != SHMETA_OK ||
	    (int)state.writer_alive != want_alive)
		return FAILED;
	if (fresh.fresh)
		return FRESH;
	return fresh.age_ns == UINT64_MAX && state.heartbeat_age_ns == UINT64_MAX ? AGELESS : STALE;
}

/* What is seen by a process whose clocks are so many seconds off. */
static int look_from(int seconds)
{
	pid_t pid = run_fork();

	if (pid == 0) {
		char offsets[64];
		int fd, n;

		if (unshare(CLONE_NEWTIME) != 0)
			_exit(REFUSED);
		fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
		n = snprintf(offsets, sizeof offsets, "monotonic %d 0\nboottime %d 0\n", seconds, seconds);
		if (fd < 0 || write(fd, offsets, (size_t)n) != n)
			_exit(REFUSED);
		(void)close(fd);
		pid = fork(); /* children are in it */
		_exit(pid == 0 ? look(0) : pid > 0 ? run_reap(pid) : FAILED);
	}
	return run_reap(pid);
}

static void skip_where_refused(int status)
{
	if (status != REFUSED)
		return;
	teardown(); /* a skipped test has no .fini */
	cr_skip_test("no time namespaces here, or no right to make one");
}

static int look_from_here(int want_alive)
{
	pid_t pid = run_fork();

	if (pid == 0)
		_exit(look(want_alive));
	return run_reap(pid);
}

static void setup(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(run_daemon_end(&d, SIGTERM), 0);
	cr_assert_eq(run_daemon_sql(&d, "INSERT INTO topics(name, partition_count, created_at, updated_at, config) "
	                                "VALUES('t', 1, 1, 1, '{}')"),
	             0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	/* A warm start catches up after it serves. */
	for (double end = run_now_s() + 20; look_from_here(1) != FRESH && run_now_s() < end;)
		(void)usleep(5000);
}

Test(time, in_a_namespace_whose_clocks_are_behind_nothing_is_fresh, .init = setup, .fini = teardown)
{
	int status = look_from(-60);

	skip_where_refused(status);
	cr_assert_eq(look_from_here(1), FRESH);
	cr_assert_eq(status, AGELESS, "%d", status);
	/* The writer stands still: from here it seems to have beaten a moment ago for as long as
	 * the clocks differ. */
	cr_assert_eq(kill(d.pid, SIGSTOP), 0);
	status = look_from(-60);
	cr_assert_eq(kill(d.pid, SIGCONT), 0);
	cr_assert_eq(status, AGELESS, "%d", status);
}

Test(time, in_a_namespace_whose_clocks_are_ahead_everything_is_stale, .init = setup, .fini = teardown)
{
	int status = look_from(100000);

	skip_where_refused(status);
	cr_assert_eq(status, STALE, "%d", status);
}
