/* SPDX-License-Identifier: Apache-2.0
 * Waiting until partitions grow. Between two looks no snapshot is open: a waiter sleeps on the
 * touched words of its partitions, which the writer wakes after each commit that changed them.
 *
 * A word holds the number of the last commit that changed what hashes to it, and moves before that
 * commit is published. So: look at the partition in the newest commit; take the word; where it
 * names no commit after the one that was looked at, sleep while it stays. */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "reader/lookup/lookup.h"

/* A generation that is left wakes nobody. */
static const uint64_t SLICE_NS = 1000 * MILLION;
enum { WORDS_MAX = 32 }; /* slept on at a time; for more, each commit is looked at */

/* Low half of a word: the machine is little-endian. */
static uint32_t *futex_of(const uint64_t *word)
{
	return (uint32_t *)(uintptr_t)word;
}

static enum shmeta_status slept(long rc)
{
	return rc >= 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT ? SHMETA_OK : SHMETA_ERR_SYSTEM;
}

/* Sleep until one of the words moves. values: what they were. until_ns: CLOCK_MONOTONIC.
 * UNSUPPORTED: the kernel, or the filter of system calls that the process is under, knows no wait
 * for several. */
static enum shmeta_status sleep_on(const uint64_t *const *words, const uint64_t *values, uint32_t count,
                                   uint64_t until_ns)
{
	struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
	struct futex_waitv waiters[WORDS_MAX];
	long rc;

	/* Not FUTEX_PRIVATE: the writer wakes from another process. */
	if (count == 1)
		return slept(syscall(SYS_futex, futex_of(words[0]), FUTEX_WAIT_BITSET, (uint32_t)values[0], &until,
		                     NULL, FUTEX_BITSET_MATCH_ANY));
	for (uint32_t i = 0; i < count; i++)
		waiters[i] = (struct futex_waitv){
			.val = (uint32_t)values[i], .uaddr = (uintptr_t)futex_of(words[i]), .flags = FUTEX_32};
	rc = syscall(SYS_futex_waitv, waiters, count, 0, &until, CLOCK_MONOTONIC);
	return rc < 0 && (errno == ENOSYS || errno == EPERM) ? SHMETA_ERR_UNSUPPORTED : slept(rc);
}

/* What a look found: the commit, and the words to sleep on. */
struct looked {
	struct env *env; /* referenced: no other can have its address; NULL: there was none yet */
	uint64_t txn;
	uint32_t count; /* WORDS_MAX + 1: too many */
	uint32_t word[WORDS_MAX + 1];
};

static void note_word(struct looked *looked, uint32_t word)
{
	for (uint32_t i = 0; i < looked->count && i < WORDS_MAX; i++)
		if (looked->word[i] == word)
			return;
	if (looked->count <= WORDS_MAX)
		looked->word[looked->count++] = word;
}

/* The partition in this snapshot: has it what is waited for? A topic that was deleted, and a
 * partition that is not resident any more, have nothing to wait for. */
static enum shmeta_status judge(const struct shmeta_wait *wait)
{
	struct shmeta_partition partition;
	enum shmeta_status status = shmeta_get_partition(wait->handle, NULL, &partition, NULL);

	return status == SHMETA_OK && partition.high_watermark <= wait->high_watermark ? SHMETA_ERR_TIMEOUT : status;
}

/* Look at those that may have changed since the last look, at first all: OK, and how many are not
 * to be waited for any more. */
static enum shmeta_status look(struct shmeta_reader *r, struct shmeta_wait *waits, size_t count, uint64_t deadline_ns,
                               size_t *ret_ready, struct looked *looked)
{
	struct env *last_env = looked->env;
	uint64_t last_txn = looked->txn;
	enum shmeta_status status;

	for (;;) {
		status = shmeta_begin(r);
		if (status != SHMETA_ERR_CONTENDED || shmeta__monotonic_ns() >= deadline_ns)
			break;
		(void)poll(NULL, 0, 1);
	}
	if (status != SHMETA_OK)
		return status;
	*ret_ready = 0;
	looked->count = 0;
	looked->env = shmeta__env_ref(r->env);
	looked->txn = r->snapshot;
	for (size_t i = 0; i < count; i++) {
		uint32_t word = waits[i].handle->word;

		if (last_env != r->env ||
		    shmeta_observe(&r->env->touched[word]) > last_txn) { /* PAIR 2: touch before commit */
			waits[i].status = judge(&waits[i]);
			word = waits[i].handle->word;
		} else { /* it stays resident while somebody waits for it */
			lookup_touch(r, waits[i].handle->part_key);
		}
		*ret_ready += waits[i].status != SHMETA_ERR_TIMEOUT;
		note_word(looked, word);
	}
	shmeta__env_unref(last_env);
	status = shmeta_end(r);
	if (status != SHMETA_OK) { /* nothing of it counts */
		shmeta__env_unref(looked->env);
		looked->env = NULL;
	}
	return status;
}

static enum shmeta_status sleep_after(const struct looked *looked, uint64_t deadline_ns)
{
	const struct shmeta_generation *gen = looked->env->gen;
	uint64_t value[WORDS_MAX], now = shmeta__monotonic_ns(), until = now + SLICE_NS;
	const uint64_t *word[WORDS_MAX];
	enum shmeta_status status;

	if (now >= deadline_ns)
		return SHMETA_ERR_TIMEOUT;
	if (until > deadline_ns)
		until = deadline_ns;
	for (uint32_t i = 0; i < looked->count && i < WORDS_MAX; i++) {
		word[i] = &looked->env->touched[looked->word[i]];
		value[i] = shmeta_observe(word[i]); /* PAIR 2: touch before commit */
		/* A commit that is published or about to be. */
		if (value[i] > looked->txn)
			return shmeta__commit_wait(gen, looked->txn, deadline_ns);
	}
	if (looked->count > WORDS_MAX || shmeta_observe(&gen->retired) != 0)
		return shmeta__commit_wait(gen, looked->txn, deadline_ns);
	status = sleep_on(word, value, looked->count, until);
	return status != SHMETA_ERR_UNSUPPORTED ? status : shmeta__commit_wait(gen, looked->txn, deadline_ns);
}

enum shmeta_status shmeta_wait_partitions(struct shmeta_wait *waits, size_t count, uint32_t timeout_ms,
                                          size_t *ret_ready)
{
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct looked looked = {.env = NULL};
	struct shmeta_reader *r;
	enum shmeta_status status;
	size_t ready = 0;

	if (waits == NULL || count == 0)
		return SHMETA_ERR_INVALID_ARGUMENT;
	for (size_t i = 0; i < count; i++)
		if (waits[i].handle == NULL || waits[i].handle->reader == NULL ||
		    waits[i].handle->reader != waits[0].handle->reader)
			return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(waits[0].handle->fork_word) != waits[0].handle->fork_token)
		return shmeta__handle_unusable(waits[0].handle);
	r = waits[0].handle->reader;
	for (;;) {
		status = look(r, waits, count, deadline, &ready, &looked);
		if (status == SHMETA_OK && ready > 0)
			break;
		if (status == SHMETA_OK)
			status = sleep_after(&looked, deadline);
		/* The snapshot of one look was taken back: look again. */
		if (status == SHMETA_ERR_EXPIRED && shmeta__monotonic_ns() < deadline)
			status = SHMETA_OK;
		if (status != SHMETA_OK)
			break;
		/* Who waits looks up too little to learn that the directory was made anew. */
		shmeta_poke(&r->attached.attention, 1);
	}
	shmeta__env_unref(looked.env);
	if (status != SHMETA_OK)
		return status;
	if (ret_ready != NULL)
		*ret_ready = ready;
	return SHMETA_OK;
}
