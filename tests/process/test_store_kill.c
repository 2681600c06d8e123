/* SPDX-License-Identifier: Apache-2.0
 * A writer that is killed at any moment, again and again, leaves a store that is whole and holds
 * what it said was committed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/store/store_inspect.h"
#include "tests/support/figure.h"
#include "tests/support/instance_dir.h"
#include "tests/support/run_daemon.h"
#include "tests/support/store_rows.h"

enum { TOPICS = 4, GENERATIONS_AFTER = 50 };

static const char *const names[TOPICS] = {"alpha", "beta", "gamma", "delta"};

/* Shared with the child. */
struct shared {
	uint64_t committed; /* the last number that commit() answered */
	uint64_t writing;   /* 1: the loop has begun */
};

static struct instance_dir dir;
static struct shared *shared;
static uint64_t number; /* of the generation */

static uint64_t next(uint64_t *random)
{
	*random = *random * 6364136223846793005u + 1442695040888963407u;
	return *random >> 33;
}

/* The writer: change partitions, so many commits. Exit status 1: something failed. */
static _Noreturn void write_commits(uint64_t random, uint64_t commits)
{
	struct shmeta__store *store;
	struct shmeta_err err;

	if (shmeta__store_open(dir.fd, number, &store, &err) != SHMETA_OK)
		_exit(1);
	for (; commits > 0; commits--) {
		struct shmeta__txn *txn;
		uint64_t committed;

		/* Nobody reads: let pages be used again at once, so that kills hit recycled ones
		 * too. */
		if (shmeta__txn_begin(store, UINT64_MAX, &txn, &err) != SHMETA_OK)
			_exit(1);
		for (uint64_t n = 1 + next(&random) % 4; n > 0; n--) {
			uint32_t t = (uint32_t)(next(&random) % TOPICS);
			uint32_t p = (uint32_t)(next(&random) % 2);
			enum shmeta_status status;

			status = next(&random) % 8 == 0 ? store_rows_halve(store, txn, t + 1, p, names[t], &err)
			                                : store_rows_append(store, txn, t + 1, p, names[t],
			                                                    (uint32_t)(1 + next(&random) % 300), &err);
			if (status != SHMETA_OK)
				_exit(1);
		}
		__atomic_store_n(&shared->writing, 1, __ATOMIC_SEQ_CST);
		if (shmeta__txn_commit(txn, &committed, &err) != SHMETA_OK)
			_exit(1);
		__atomic_store_n(&shared->committed, committed, __ATOMIC_SEQ_CST);
	}
	_exit(0);
}

static void complain(void *arg, const char *sentence)
{
	(void)arg;
	cr_log_error("%s", sentence);
}

static void make(void)
{
	struct shmeta_store_format format = {0};
	struct shmeta__store *store;
	struct shmeta__txn *txn;
	struct shmeta_err err;

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(shared, MAP_FAILED);
	number = 1;
	instance_dir_make(&dir);
	/* A grace of 1 ns: the ladder keeps next to nothing. */
	cr_assert_eq(shmeta__store_create(dir.fd, number, 128 << 20, 1, &format, &store, &err), SHMETA_OK, "%s",
	             err.text);
	cr_assert_eq(shmeta__txn_begin(store, UINT64_MAX, &txn, &err), SHMETA_OK);
	for (uint32_t t = 0; t < TOPICS; t++) {
		cr_assert_eq(store_rows_topic(store, txn, t + 1, names[t], &err), SHMETA_OK);
		for (uint32_t p = 0; p < 2; p++)
			cr_assert_eq(store_rows_append(store, txn, t + 1, p, names[t], 1000, &err), SHMETA_OK);
	}
	cr_assert_eq(shmeta__txn_commit(txn, &shared->committed, &err), SHMETA_OK);
	shmeta__store_close(store);
}

static void done(void)
{
	instance_dir_remove(&dir);
	(void)munmap(shared, sizeof *shared);
}

TestSuite(store_kill, .init = make, .fini = done, .timeout = 3600); /* make faults takes its time */

/* The state before the commit that was killed, or the one after it; all of it. */
static struct shmeta__store *expect_whole(uint64_t before, uint64_t kills)
{
	struct shmeta__verify_report report;
	struct shmeta__store *store;
	struct shmeta__inspected *of;
	struct shmeta_err err;
	uint64_t committed;
	char path[160];

	cr_assert_eq(shmeta__store_open(dir.fd, number, &store, &err), SHMETA_OK, "kill %lu: %s", kills, err.text);
	committed = shmeta__store_generation(store)->committed;
	cr_assert(committed == shared->committed || committed == shared->committed + 1,
	          "kill %lu: commit %lu was answered, the store is at %lu", kills, shared->committed, committed);
	cr_assert_geq(committed, before);
	instance_dir_path(&dir, &path, number, "");
	cr_assert_eq(shmeta__inspect_open(path, &of, &err), SHMETA_OK, "kill %lu: %s", kills, err.text);
	cr_assert_eq(shmeta__store_verify(of, complain, NULL, &report, &err), SHMETA_OK, "kill %lu: %s", kills,
	             err.text);
	shmeta__inspect_close(of);
	cr_assert(report.topics == TOPICS && report.partitions == 2 * TOPICS);
	shared->committed = committed;
	return store;
}

Test(store_kill, a_store_is_whole_and_keeps_what_was_committed_however_often_its_writer_is_killed)
{
	const uint64_t kills_in_all = run_rounds(200, 2000);
	uint64_t random = 20260101, in_loop = 0;

	for (uint64_t kills = 0; kills < kills_in_all; kills++) {
		uint64_t before = shared->committed;
		struct shmeta__store *store;
		struct shmeta_err err;
		int status;
		pid_t pid;

		shared->writing = 0;
		pid = fork();
		if (pid == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			write_commits(random, UINT64_MAX);
		}
		cr_assert_gt(pid, 0);
		(void)usleep((useconds_t)(next(&random) % 12000));
		(void)kill(pid, SIGKILL);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFSIGNALED(status), "the writer failed by itself: %d", WEXITSTATUS(status));
		in_loop += shared->writing;
		store = expect_whole(before, kills);
		/* Now and then on to a copy, as a writer does that may not write where it finds
		 * itself. */
		if (kills % GENERATIONS_AFTER == GENERATIONS_AFTER - 1) {
			struct shmeta__store *copy;

			cr_assert_eq(shmeta__store_copy(store, dir.fd, number + 1, 0, &copy, &err), SHMETA_OK, "%s",
			             err.text);
			shmeta__store_close(copy);
			cr_assert_eq(shmeta__store_remove(dir.fd, number, &err), SHMETA_OK);
			number++;
		}
		shmeta__store_close(store);
	}
	cr_assert_gt(in_loop, kills_in_all / 4, "only %lu writers were killed at work", in_loop);
	cr_assert_gt(shared->committed, 200);
	figure("kill -9 of the writer of a store at any moment", kills_in_all, 10000, "kills",
	       "0 stores that were not whole or lacked a commit; %lu kills were within the writing", in_loop);
}

/* ---- at each system call ---- */

/* Kill the writer where it begins its n-th system call. false: it ended before it had made so
 * many. */
static bool kill_at_system_call(uint64_t random, uint64_t n)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
			_exit(2);
		(void)raise(SIGSTOP);
		write_commits(random, 4);
	}
	cr_assert_gt(pid, 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
		done(); /* a skipped test has no .fini */
		cr_skip_test("no process can be traced here");
	}
	cr_assert(WIFSTOPPED(status));
	/* Each call stops it twice, where it begins and where it ends. */
	for (uint64_t stops = 0; stops < 2 * n - 1; stops++) {
		cr_assert_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0, "%s", strerror(errno));
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status)) {
			cr_assert_eq(WEXITSTATUS(status), 0, "the writer failed by itself");
			return false;
		}
		cr_assert(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "%d", status);
	}
	(void)kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return true;
}

Test(store_kill, a_writer_killed_at_any_of_its_system_calls_leaves_the_old_state_or_the_new_one)
{
	uint64_t random = 20260202, n = 1, at_work = 0;

	do {
		uint64_t before = shared->committed;

		shared->writing = 0;
		(void)next(&random);
		if (!kill_at_system_call(random, n))
			break;
		at_work += shared->writing;
		shmeta__store_close(expect_whole(before, n));
	} while (n++ < 10000);
	cr_assert_lt(n, 10000, "the writer never ends");
	cr_assert_gt(at_work, 20, "only %lu of %lu calls were within the writing", at_work, n);
	figure("kill -9 of the writer of a store at each of its system calls", n - 1, 0, "calls",
	       "0 stores that were not whole or lacked a commit; %lu calls were within the writing", at_work);
}
