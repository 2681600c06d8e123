/* SPDX-License-Identifier: Apache-2.0
 * The engine without memory: whichever allocation fails, nothing ends, and with memory again the
 * store shows what the source has. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"
#include "tests/support/sync_fixture.h"
#include "writer/engine/engine.h"

TestSuite(no_memory, .timeout = 300);

static struct fixture f;

#ifndef __SANITIZE_ADDRESS__

/* The program's own allocator stands before libc's, and is libc's but for one call. */
extern void *__libc_malloc(size_t bytes);                /* NOLINT */
extern void *__libc_calloc(size_t count, size_t bytes);  /* NOLINT */
extern void *__libc_realloc(void *former, size_t bytes); /* NOLINT */

static uint64_t calls_left; /* 0: none fails */
static bool failed;

static bool fails(void)
{
	if (calls_left == 0 || --calls_left > 0)
		return false;
	failed = true;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t bytes)
{
	return fails() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	return fails() ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *former, size_t bytes)
{
	return fails() ? NULL : __libc_realloc(former, bytes);
}

/* As the daemon does with an engine that cannot go on: it ends, and is started again. */
static void work(void)
{
	static const struct shmeta_op ops[] = {
		{.type = SHMETA_OP_UPDATE_HIGH_WATERMARK, .name = {"t", 1}, .partition_id = 1, .offset = 99999},
		{.type = SHMETA_OP_CREATE_TOPIC, .u.topic = {.name = {"made", 4}, .partition_count = 3}},
		{.type = SHMETA_OP_DELETE_TOPIC, .name = {"u", 1}},
	};
	struct shmeta_err err;
	uint64_t wait_ns;

	if (fixture_try_open(&f, &err) != SHMETA_OK)
		return;
	for (int i = 0; i < 20; i++) {
		if (i == 5)
			(void)fixture_refresh(&f, SHMETA_CLASS_TOPIC, "t", 0, 1);
		if (i == 8)
			(void)fixture_write(&f, ops, sizeof ops / sizeof *ops);
		if (sync_run_once(f.sync, &wait_ns) != SHMETA_OK)
			break;
		f.now_ns += 50000000;
	}
}

enum { RIGHT, NONE_FAILED, NOT_OPENED, DIFFERS };

static int fail_one(uint64_t number)
{
	struct shmeta_err err;

	calls_left = number;
	work();
	calls_left = 0;
	if (!failed)
		return NONE_FAILED;
	if (f.sync != NULL)
		fixture_crash(&f);
	if (fixture_try_open(&f, &err) != SHMETA_OK)
		return NOT_OPENED;
	fixture_pass(&f, 30000);
	return fixture_difference(&f) == NULL ? RIGHT : DIFFERS;
}

Test(no_memory, whichever_allocation_fails_nothing_ends_and_everything_is_shown_in_the_end)
{
	uint64_t number = 1;

	for (int status = RIGHT; status != NONE_FAILED; number++) {
		pid_t pid;

		fixture_init(&f);
		f.options.grace_ns = 1000000; /* of real time */
		/* faults of the engine are not wanted, and would need memory of their own */
		f.options.engine = NULL;
		fixture_topic(&f, "t", 4, 10, 1111);
		fixture_topic(&f, "u", 2, 3, 1111);
		pid = run_fork();
		if (pid == 0)
			_exit(fail_one(number));
		status = run_reap(pid);
		cr_expect(status == RIGHT || status == NONE_FAILED, "allocation %lu: %d", number, status);
		fixture_done(&f);
		cr_assert_lt(number, 100000);
	}
	cr_assert_gt(number, 50, "only %lu allocations", number);
}

Test(no_memory, a_reload_without_it_says_so_and_changes_nothing)
{
	uint64_t number = 1;

	fixture_init(&f);
	fixture_topic(&f, "t", 4, 10, 1111);
	fixture_open(&f);
	fixture_pass(&f, 1000);
	f.options.reconcile_s = 7777;
	for (bool taken = false; !taken; number++) {
		failed = false;
		calls_left = number;
		taken = sync_reconfigure(f.sync, &f.options);
		calls_left = 0;
		cr_assert_eq(taken, !failed, "allocation %lu", number);
		fixture_pass(&f, 100);
		cr_assert_eq(f.sync->options.reconcile_s == 7777, taken, "allocation %lu", number);
	}
	cr_expect_gt(number, 2u);
	fixture_done(&f);
}

#else

Test(no_memory, whichever_allocation_fails_nothing_ends_and_everything_is_shown_in_the_end)
{
	(void)f;
	cr_skip_test("a sanitizer has its own allocator");
}

#endif
