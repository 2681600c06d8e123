/* SPDX-License-Identifier: Apache-2.0
 * A host whose processors are all taken by agents that look up without end: writing goes on, and
 * what is looked up is right. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/figure.h"
#include "tests/support/run_daemon.h"

TestSuite(busy_agents, .timeout = 3600); /* make faults takes its time */

enum { AGENTS_MAX = 300, WRITES_MAX = 200, PATIENCE_MS = 60000 };

static struct run_daemon d;
static struct shared {
	uint64_t lookups[AGENTS_MAX];
	uint64_t acknowledged; /* the watermark that was answered */
} * shared;

static void setup(void)
{
	cr_assert_eq(run_daemon_init(&d), 0);
	cr_assert_eq(run_daemon_start(&d, NULL), 0);
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(shared, MAP_FAILED);
}

static void teardown(void)
{
	run_daemon_done(&d);
	(void)munmap(shared, sizeof *shared);
}

/* Looks up without a pause. Exit status: what was wrong. */
static int look_up(uint32_t me)
{
	struct shmeta *instance = run_daemon_open(&d, "busy", 0);
	struct shmeta_reader *reader = NULL;
	uint64_t seen = 0;

	if (instance == NULL || shmeta_reader_new(instance, &reader) != SHMETA_OK)
		return 1;
	for (;;) {
		uint64_t least = __atomic_load_n(&shared->acknowledged, __ATOMIC_SEQ_CST);
		enum shmeta_status got;
		struct shmeta_partition p;

		if (run_daemon_begin(reader) != SHMETA_OK)
			return 2;
		got = shmeta_get_partition_named(reader, "t", 1, 0, NULL, &p, NULL);
		/* An unregistered snapshot may have outlived its grace: then it says nothing. */
		if (shmeta_end(reader) != SHMETA_OK && (got == SHMETA_OK || got == SHMETA_ERR_EXPIRED))
			continue;
		if (got != SHMETA_OK)
			return 100 - (int)got;
		if (p.high_watermark < least || p.high_watermark < seen)
			return 4;
		seen = p.high_watermark;
		__atomic_add_fetch(&shared->lookups[me], 1, __ATOMIC_RELAXED);
	}
}

static enum shmeta_status write_one(struct shmeta_client *client, const struct shmeta_op *op)
{
	struct shmeta_result result = {.status = SHMETA_OK};
	enum shmeta_status status = shmeta_write(client, op, 1, PATIENCE_MS, &result, NULL);

	return status != SHMETA_OK ? status : result.status;
}

Test(busy_agents, do_not_keep_the_writer_from_writing, .init = setup, .fini = teardown)
{
	const struct shmeta_op create = {.type = SHMETA_OP_CREATE_TOPIC,
	                                 .u.topic = {.name = {"t", 1}, .partition_count = 1}};
	struct shmeta_op op = {.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t", 1}};
	const uint32_t agents = run_rounds(20, AGENTS_MAX), writes = run_rounds(50, WRITES_MAX);
	struct shmeta *instance = run_daemon_open(&d, "writer", 0);
	static double ms[WRITES_MAX];
	struct shmeta_client *client;
	static pid_t pid[AGENTS_MAX];
	uint64_t lookups = 0;
	char name[100], text[100];

	cr_assert_not_null(instance);
	cr_assert_eq(shmeta_client_open(instance, NULL, &client), SHMETA_OK);
	cr_assert_eq(write_one(client, &create), SHMETA_OK);
	for (uint32_t i = 0; i < agents; i++) {
		pid[i] = run_fork();
		if (pid[i] == 0)
			_exit(look_up(i));
	}
	for (uint32_t i = 0; i < agents; i++)
		while (__atomic_load_n(&shared->lookups[i], __ATOMIC_RELAXED) == 0) {
			siginfo_t info = {.si_pid = 0};

			(void)waitid(P_PID, (id_t)pid[i], &info, WEXITED | WNOHANG | WNOWAIT);
			cr_assert_eq(info.si_pid, 0, "agent %u ended with %d", i, info.si_status);
			(void)usleep(1000); /* the suite's time is the limit */
		}
	for (uint32_t i = 0; i < writes; i++) {
		double began = run_now_s();

		op.offset = i + 1;
		cr_assert_eq(write_one(client, &op), SHMETA_OK, "write %u", i);
		ms[i] = (run_now_s() - began) * 1000;
		__atomic_store_n(&shared->acknowledged, i + 1, __ATOMIC_SEQ_CST);
	}
	for (uint32_t i = 0; i < agents; i++) {
		int status;

		(void)kill(pid[i], SIGKILL);
		status = run_reap(pid[i]);
		cr_expect_eq(status, 128 + SIGKILL, "agent %u ended with %d", i, status);
		lookups += shared->lookups[i];
	}
	(void)snprintf(name, sizeof name, "%u processes that look up without a pause, beside a writing client", agents);
	figure(name, writes, 0, "writes", "0 wrong, or older than acknowledged, of %lu lookups", lookups);
	figure("the same: each write", writes, 0, "writes", "%s", figure_times(ms, writes, text, sizeof text));
	shmeta_client_close(client);
	shmeta_close(instance);
}
