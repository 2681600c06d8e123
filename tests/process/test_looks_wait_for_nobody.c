/* SPDX-License-Identifier: Apache-2.0
 * What an operator asks first answers within 100 ms over 100 000 partitions while the daemon is
 * stopped: it waits for nobody, so its time is the processor's. That is what is measured; how long
 * it took by the wall clock says how busy the machine is. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/streamhouse_schema.h"

TestSuite(looks_wait_for_nobody, .timeout = 240);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 10 };
#else
enum { SLOWER = 1 };
#endif
enum { BUDGET_MS = 100 * SLOWER, TRIES = 5 };

static struct run_daemon d;

static void start(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_sql(&d, "PRAGMA journal_mode = wal;" STREAMHOUSE_V01
	                                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) "
	                                "INSERT INTO topics(name, partition_count, created_at, updated_at) "
	                                "SELECT 't' || i, 1000, 1000, 1 FROM n;"
	                                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
	                                "INSERT INTO partitions SELECT name, i, 0, created_at, 1 FROM topics, n;"),
	             0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	cr_assert_eq(kill(d.pid, SIGSTOP), 0);
}

static void stop(void)
{
	(void)kill(d.pid, SIGCONT);
	run_daemon_done(&d);
}

/* From here on this process dies of whatever lets it wait for a time or for somebody, and connects
 * to nobody. */
static bool forbid_waits(void)
{
#define DIES_OF(call) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		DIES_OF(clock_nanosleep),
		DIES_OF(ppoll),
		DIES_OF(pselect6),
		DIES_OF(epoll_pwait),
		DIES_OF(flock),
#ifdef SYS_nanosleep
		DIES_OF(nanosleep),
#endif
#ifdef SYS_poll
		DIES_OF(poll),
#endif
#ifdef SYS_select
		DIES_OF(select),
#endif
#ifdef SYS_epoll_wait
		DIES_OF(epoll_wait),
#endif
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Its time of the processor in ms. */
static double time_of(const char *verb, const char *option, int *ret_status)
{
	struct rusage usage;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		(void)dup2(null, STDOUT_FILENO);
		if (SLOWER == 1 && !forbid_waits())
			_exit(99);
		(void)execl(places_shmetactl, "shmetactl", "--dir", d.instance, verb, option, (char *)NULL);
		_exit(98);
	}
	cr_assert_eq(wait4(pid, ret_status, 0, &usage), pid);
	return 1000.0 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000.0;
}

Test(looks_wait_for_nobody, status_health_and_stat_answer_while_the_daemon_is_stopped, .init = start, .fini = stop)
{
	static const struct {
		const char *verb, *option;
	} looks[] = {
		{"status", NULL}, {"status", "--json"}, {"health", NULL}, {"health", "--json"}, {"stat", "--json"}};

	for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
		double least = 1e9;

		for (int k = 0; k < TRIES; k++) {
			int status;
			double took = time_of(looks[i].verb, looks[i].option, &status);

			cr_assert(WIFEXITED(status) && WEXITSTATUS(status) < 90, "%s: %s %d", looks[i].verb,
			          WIFSIGNALED(status) ? "it waits: signal" : "exit",
			          WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
			least = took < least ? took : least;
		}
		cr_expect_lt(least, (double)BUDGET_MS, "%s %s took %.0f ms of the processor", looks[i].verb,
		             looks[i].option != NULL ? looks[i].option : "", least);
	}
}
