/* SPDX-License-Identifier: Apache-2.0
 * A writer that is killed at any moment, again and again, leaves a store that is whole and holds what it said was committed. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/store/store.h"
#include "tests/support/instance_dir.h"
#include "tests/support/store_rows.h"

TestSuite(store_kill, .timeout = 120);

enum { KILLS = 200, TOPICS = 4, GENERATIONS_AFTER = 50 };

static const char *const names[TOPICS] = {"alpha", "beta", "gamma", "delta"};

/* Shared with the child. */
struct shared {
	uint64_t committed; /* the last number that commit() answered */
	uint64_t writing;   /* 1: the loop has begun */
};

static uint64_t next(uint64_t *random)
{
	*random = *random * 6364136223846793005u + 1442695040888963407u;
	return *random >> 33;
}

/* The writer: change partitions until killed. Exit status 1: something failed. */
static void write_for_ever(int dir_fd, uint64_t number, uint64_t random, struct shared *shared)
{
	struct shmeta__store *store;
	struct shmeta_err err;

	if (shmeta__store_open(dir_fd, number, &store, &err) != SHMETA_OK)
		_exit(1);
	for (;;) {
		struct shmeta__txn *txn;
		uint64_t committed;

		/* Nobody reads: let pages be used again at once, so that kills hit recycled ones too. */
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
}

static void complain(void *arg, const char *sentence)
{
	(void)arg;
	cr_log_error("%s", sentence);
}

Test(store_kill, a_store_is_whole_and_keeps_what_was_committed_through_200_kills_of_its_writer)
{
	struct shmeta_store_format format = {0};
	struct shmeta__verify_report report;
	struct shmeta__store *store;
	struct shmeta__txn *txn;
	struct instance_dir dir;
	struct shmeta_err err;
	uint64_t random = 20260101, committed = 0, number = 1, in_loop = 0;
	struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(shared, MAP_FAILED);
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
	cr_assert_eq(shmeta__txn_commit(txn, &committed, &err), SHMETA_OK);
	shmeta__store_close(store);
	for (int kills = 0; kills < KILLS; kills++) {
		uint64_t before = shared->committed = committed;
		int status;
		pid_t pid;

		shared->writing = 0;
		pid = fork();
		if (pid == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			write_for_ever(dir.fd, number, random, shared);
		}
		cr_assert_gt(pid, 0);
		(void)usleep((useconds_t)(next(&random) % 12000));
		(void)kill(pid, SIGKILL);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFSIGNALED(status), "the writer failed by itself: %d", WEXITSTATUS(status));
		in_loop += shared->writing;
		cr_assert_eq(shmeta__store_open(dir.fd, number, &store, &err), SHMETA_OK, "kill %d: %s", kills,
		             err.text);
		committed = shmeta__store_generation(store)->committed;
		cr_assert(committed == shared->committed || committed == shared->committed + 1,
		          "kill %d: commit %llu was answered, the store is at %llu", kills,
		          (unsigned long long)shared->committed, (unsigned long long)committed);
		cr_assert_geq(committed, before);
		cr_assert_eq(shmeta__txn_read(store, &txn, &err), SHMETA_OK);
		cr_assert_eq(shmeta__store_verify(txn, complain, NULL, &report, &err), SHMETA_OK, "kill %d: %s", kills,
		             err.text);
		shmeta__txn_abort(txn);
		cr_assert(report.topics == TOPICS && report.partitions == 2 * TOPICS);
		/* Now and then on to a copy, as a writer does that may not write where it finds itself. */
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
	cr_assert_gt(in_loop, KILLS / 4, "only %llu writers were killed at work", (unsigned long long)in_loop);
	cr_assert_gt(committed, 200);
	instance_dir_remove(&dir);
	(void)munmap(shared, sizeof *shared);
}
