/* SPDX-License-Identifier: Apache-2.0
 * Waiting until partitions grow: what wakes, what does not, and that nothing is missed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "reader/lookup/lookup.h"
#include "reader/snapshot/snapshot.h"
#include "tests/support/fake_writer.h"

enum { MANY = 300, LONG_MS = 60000 };

static struct fake_writer *w;
static struct shmeta *instance;
static struct shmeta_reader *reader;
static uint32_t topic;
static struct shmeta_handle *handle[MANY];

static void set_up(void)
{
	w = fake_writer_new();
	fake_begin(w);
	topic = fake_simple_topic(w, "t", MANY);
	for (uint32_t i = 0; i < MANY; i++)
		fake_even_partition(w, topic, i, 0, 1);
	(void)fake_commit(w);
	fake_stamp_all(w);
	cr_assert_eq(fake_open_reader(w, &instance, &reader), 0);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	for (uint32_t i = 0; i < MANY; i++)
		cr_assert_eq(shmeta_partition_open(reader, "t", 1, i, &handle[i]), SHMETA_OK);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

static void tear_down(void)
{
	for (uint32_t i = 0; i < MANY; i++)
		shmeta_partition_close(handle[i]);
	fake_close_all(w, instance, reader);
}

TestSuite(reader_await, .init = set_up, .fini = tear_down, .timeout = 60);

static void grow(uint32_t partition, uint64_t high_watermark)
{
	fake_begin(w);
	fake_partition(w, topic, partition, high_watermark, NULL, 0, 0, 0);
	(void)fake_commit(w);
}

static enum shmeta_status wait_for(uint32_t partition, uint64_t high_watermark, uint32_t timeout_ms)
{
	struct shmeta_wait wait = {.handle = handle[partition], .high_watermark = high_watermark};
	enum shmeta_status status = shmeta_wait_partitions(&wait, 1, timeout_ms, NULL);

	return status == SHMETA_OK ? wait.status : status;
}

static uint8_t touches[4096];

/* A wait of its own: the touches are looked at meanwhile. */
static void *wait_until_it_grows(void *unused)
{
	(void)unused;
	cr_expect_eq(wait_for(3, 5, LONG_MS), SHMETA_OK);
	return NULL;
}

static void await_touch(uint64_t part_key)
{
	uint8_t *slot = &touches[touch_slot(part_key, sizeof touches)];

	for (int i = 0; i < 3000 && __atomic_load_n(slot, __ATOMIC_RELAXED) == 0; i++)
		(void)poll(NULL, 0, 10);
	cr_assert_neq(__atomic_load_n(slot, __ATOMIC_RELAXED), 0);
	__atomic_store_n(slot, 0, __ATOMIC_RELAXED);
}

Test(reader_await, a_partition_counts_as_used_for_as_long_as_it_is_waited_for)
{
	pthread_t thread;

	reader->touch = (struct touch_view){touches, sizeof touches, NULL};
	cr_assert_eq(pthread_create(&thread, NULL, wait_until_it_grows, NULL), 0);
	for (int i = 0; i < 3; i++)
		await_touch(handle[3]->part_key);
	grow(3, 6);
	cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(reader_await, what_holds_already_is_told_at_once_and_a_timeout_tells_that_nothing_holds)
{
	struct shmeta_wait waits[] = {{.handle = handle[0], .high_watermark = 5}, {.handle = handle[1]}};
	struct shmeta_reader *other = fake_reader(instance);
	struct shmeta_handle *of_other;
	size_t ready = 7;

	grow(0, 5);
	cr_expect_eq(shmeta_wait_partitions(waits, 2, 0, &ready), SHMETA_ERR_TIMEOUT);
	cr_expect(waits[0].status == SHMETA_ERR_TIMEOUT && waits[1].status == SHMETA_ERR_TIMEOUT);
	cr_expect_eq(shmeta_wait_partitions(waits, 2, 20, &ready), SHMETA_ERR_TIMEOUT);
	waits[0].high_watermark = 4;
	cr_assert_eq(shmeta_wait_partitions(waits, 2, 0, &ready), SHMETA_OK);
	cr_expect_eq(ready, 1);
	cr_expect(waits[0].status == SHMETA_OK && waits[1].status == SHMETA_ERR_TIMEOUT);
	cr_expect_eq(shmeta_end(reader), SHMETA_ERR_NO_SNAPSHOT, "none is left open");
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_expect_eq(shmeta_wait_partitions(waits, 2, 0, &ready), SHMETA_ERR_BUSY_SNAPSHOT);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	cr_expect_eq(shmeta_wait_partitions(waits, 0, 0, &ready), SHMETA_ERR_INVALID_ARGUMENT);
	cr_assert_eq(shmeta_begin(other), SHMETA_OK);
	cr_assert_eq(shmeta_partition_open(other, "t", 1, 2, &of_other), SHMETA_OK);
	cr_assert_eq(shmeta_end(other), SHMETA_OK);
	waits[1].handle = of_other;
	cr_expect_eq(shmeta_wait_partitions(waits, 2, 0, &ready), SHMETA_ERR_INVALID_ARGUMENT);
	shmeta_partition_close(of_other);
	shmeta_reader_free(other);
}

/* ---- with a writer beside ---- */

enum { TURNS = 3000 };
static sem_t turn;

static void *commit_in_turns(void *unused)
{
	(void)unused;
	for (uint64_t i = 1; i <= TURNS; i++) {
		while (sem_wait(&turn) != 0)
			;
		grow(7, i);
	}
	return NULL;
}

/* One that is missed costs the whole slice of a second. */
Test(reader_await, each_commit_wakes_who_waits_for_it)
{
	pthread_t thread;

	cr_assert_eq(sem_init(&turn, 0, 0), 0);
	cr_assert_eq(pthread_create(&thread, NULL, commit_in_turns, NULL), 0);
	for (uint64_t i = 0; i < TURNS; i++) {
		(void)sem_post(&turn);
		cr_assert_eq(wait_for(7, i, LONG_MS), SHMETA_OK);
	}
	cr_assert_eq(pthread_join(thread, NULL), 0);
	(void)sem_destroy(&turn);
}

enum { FREELY = 2000, SOME = 5 };

static void *commit_freely(void *unused)
{
	(void)unused;
	for (uint64_t i = 1; i <= FREELY; i++)
		grow((uint32_t)(i * 7919 % SOME), i);
	return NULL;
}

Test(reader_await, none_is_missed_by_who_waits_for_several_while_the_writer_runs_freely)
{
	struct shmeta_wait waits[SOME] = {{.handle = handle[0]}};
	struct shmeta_partition p;
	uint64_t highest = 0;
	pthread_t thread;
	size_t ready;

	for (int i = 0; i < SOME; i++)
		waits[i].handle = handle[i];
	cr_assert_eq(pthread_create(&thread, NULL, commit_freely, NULL), 0);
	while (highest < FREELY) {
		cr_assert_eq(shmeta_wait_partitions(waits, SOME, LONG_MS, &ready), SHMETA_OK);
		cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
		for (int i = 0; i < SOME; i++) {
			cr_assert_eq(shmeta_get_partition(handle[i], NULL, &p, NULL), SHMETA_OK);
			if (waits[i].status == SHMETA_OK)
				cr_assert_gt(p.high_watermark, waits[i].high_watermark);
			waits[i].high_watermark = p.high_watermark;
			highest = p.high_watermark > highest ? p.high_watermark : highest;
		}
		cr_assert_eq(shmeta_end(reader), SHMETA_OK);
	}
	cr_assert_eq(pthread_join(thread, NULL), 0);
}

static sem_t started;
static long sleeps;
static enum shmeta_status answered;

static void *wait_and_count(void *unused)
{
	struct rusage before, after;

	(void)unused;
	(void)getrusage(RUSAGE_THREAD, &before);
	(void)sem_post(&started);
	answered = wait_for(1, 0, LONG_MS);
	(void)getrusage(RUSAGE_THREAD, &after);
	sleeps = after.ru_nvcsw - before.ru_nvcsw;
	return NULL;
}

/* A word that names a commit to come: what it wakes for may be over before the waiter sleeps on it,
 * so the commits are looked at. */
Test(reader_await, a_commit_in_flight_is_not_slept_through)
{
	uint64_t *touched = (uint64_t *)(void *)((char *)w->gen + w->gen->touched_at);
	struct rusage before, after;

	shmeta_store(&touched[shmeta__touched_partition(topic, 1)], UINT64_MAX);
	(void)getrusage(RUSAGE_THREAD, &before);
	cr_expect_eq(wait_for(1, 0, 2000), SHMETA_ERR_TIMEOUT);
	(void)getrusage(RUSAGE_THREAD, &after);
	cr_expect_geq(after.ru_nvcsw - before.ru_nvcsw, 6, "%ld looks in two seconds",
	              after.ru_nvcsw - before.ru_nvcsw);
}

Test(reader_await, commits_of_other_partitions_wake_nobody)
{
	pthread_t thread;

	cr_assert_eq(sem_init(&started, 0, 0), 0);
	cr_assert_eq(pthread_create(&thread, NULL, wait_and_count, NULL), 0);
	while (sem_wait(&started) != 0)
		;
	for (uint64_t i = 1; i <= 2000; i++)
		grow(2, i);
	grow(1, 1);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	(void)sem_destroy(&started);
	cr_expect_eq(answered, SHMETA_OK);
	/* A few by the clock, a few while it began. */
	cr_expect_leq(sleeps, 100, "it slept %ld times while others changed 2000 times", sleeps);
}

static void *delete_topic(void *unused)
{
	(void)unused;
	fake_begin(w);
	fake_delete_topic(w, NULL, "t");
	(void)fake_commit(w);
	return NULL;
}

/* As the filters of containers do that are older than the system call, or the kernel itself. */
static void refuse_futex_waitv(int error)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex_waitv, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = {sizeof program / sizeof *program, program};

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

static void *grow_soon(void *arg)
{
	(void)poll(NULL, 0, 300);
	grow(4, 0);
	grow(5, *(uint64_t *)arg);
	return NULL;
}

static void wait_for_two_where_it_is_refused(int error)
{
	struct shmeta_wait waits[2] = {{.handle = handle[4]}, {.handle = handle[5]}};
	uint64_t watermark = 7;
	pthread_t thread;
	size_t ready;

	refuse_futex_waitv(error);
	cr_expect_eq(shmeta_wait_partitions(waits, 2, 50, &ready), SHMETA_ERR_TIMEOUT);
	cr_assert_eq(pthread_create(&thread, NULL, grow_soon, &watermark), 0);
	cr_expect_eq(shmeta_wait_partitions(waits, 2, LONG_MS, &ready), SHMETA_OK);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_expect(waits[0].status == SHMETA_ERR_TIMEOUT && waits[1].status == SHMETA_OK && ready == 1);
}

Test(reader_await, several_are_waited_for_where_the_system_call_for_that_is_refused)
{
	wait_for_two_where_it_is_refused(EPERM);
}

Test(reader_await, several_are_waited_for_where_the_kernel_does_not_know_the_system_call)
{
	wait_for_two_where_it_is_refused(ENOSYS);
}

Test(reader_await, a_topic_that_is_deleted_ends_the_wait)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, delete_topic, NULL), 0);
	cr_expect_eq(wait_for(3, 0, LONG_MS), SHMETA_ABSENT);
	cr_assert_eq(pthread_join(thread, NULL), 0);
}

static void *grow_one_late(void *unused)
{
	(void)unused;
	for (uint64_t i = 1; i <= 200; i++)
		grow(5, i);
	grow(250, 1);
	return NULL;
}

Test(reader_await, very_many_can_be_waited_for_at_once)
{
	static struct shmeta_wait waits[MANY];
	pthread_t thread;
	size_t ready;

	for (int i = 0; i < MANY; i++)
		waits[i] = (struct shmeta_wait){.handle = handle[i], .high_watermark = i == 5 ? 1000 : 0};
	cr_assert_eq(pthread_create(&thread, NULL, grow_one_late, NULL), 0);
	cr_assert_eq(shmeta_wait_partitions(waits, MANY, LONG_MS, &ready), SHMETA_OK);
	cr_expect_eq(ready, 1);
	cr_expect_eq(waits[250].status, SHMETA_OK);
	cr_expect_eq(waits[5].status, SHMETA_ERR_TIMEOUT);
	cr_assert_eq(pthread_join(thread, NULL), 0);
}

static void *move_on(void *unused)
{
	(void)unused;
	fake_switch_generation(w);
	grow(4, 1);
	return NULL;
}

Test(reader_await, a_wait_goes_on_in_a_new_generation)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, move_on, NULL), 0);
	cr_expect_eq(wait_for(4, 0, LONG_MS), SHMETA_OK);
	cr_assert_eq(pthread_join(thread, NULL), 0);
}

/* The writer went, and another one made the directory anew; readers learn of it once the old
 * heartbeat has been still for 5 s. */
static void *remake(void *unused)
{
	uint32_t id;

	(void)unused;
	(void)poll(NULL, 0, 300);
	fake_remake(w);
	fake_begin(w);
	id = fake_simple_topic(w, "t", MANY);
	fake_partition(w, id, 0, 6, NULL, 0, 0, 0);
	fake_partition(w, id, 1, 6, NULL, 0, 0, 0);
	(void)fake_commit(w);
	fake_stamp_all(w);
	return NULL;
}

Test(reader_await, a_wait_goes_on_in_a_directory_that_was_made_anew)
{
	pthread_t thread;

	fake_unserve(w);
	fake_advance(w, UINT64_C(400000000000));
	cr_assert_eq(pthread_create(&thread, NULL, remake, NULL), 0);
	cr_expect_eq(wait_for(0, 5, 30000), SHMETA_OK, "it is there");
	cr_expect_eq(wait_for(1, 5, 0), SHMETA_OK);
	cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(reader_await, a_wait_for_a_commit_goes_on_in_a_directory_that_was_made_anew)
{
	struct shmeta_snapshot_info info;
	pthread_t thread;
	uint64_t txn = 0;

	fake_unserve(w);
	fake_advance(w, UINT64_C(400000000000));
	cr_assert_eq(pthread_create(&thread, NULL, remake, NULL), 0);
	cr_expect_eq(shmeta_wait_commit(instance, 1000, 30000, &txn), SHMETA_OK);
	cr_assert_eq(shmeta_begin(reader), SHMETA_OK);
	cr_assert_eq(shmeta_snapshot_info(reader, &info), SHMETA_OK);
	cr_expect_geq(info.txn, txn);
	cr_expect_lt(txn, 1000);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(shmeta_end(reader), SHMETA_OK);
}

Test(reader_await, a_wait_ends_in_time_also_while_another_thread_opens_the_store)
{
	struct shmeta_wait wait = {.handle = handle[0], .high_watermark = 5};
	struct core *core;
	uint64_t before, took;

	fake_unserve(w);
	fake_advance(w, UINT64_C(400000000000));
	(void)remake(NULL);
	cr_expect_eq(shmeta_wait_commit(instance, 1000, 30000, NULL), SHMETA_OK);
	core = shmeta__instance_core(instance);
	(void)pthread_mutex_lock(&core->lock);
	before = shmeta__monotonic_ns();
	cr_expect_eq(shmeta_wait_partitions(&wait, 1, 50, NULL), SHMETA_ERR_CONTENDED);
	took = shmeta__monotonic_ns() - before;
	(void)pthread_mutex_unlock(&core->lock);
	shmeta__core_unref(core, 0);
	cr_expect_lt(took, UINT64_C(10000000000));
	cr_expect_eq(wait_for(0, 5, 0), SHMETA_OK);
}
