/* SPDX-License-Identifier: Apache-2.0
 * Waiting until a commit is published. */
#include "reader/request/request.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const uint64_t FUTEX_SLICE_NS = 100 * MILLION, RETIRED_SLICE_NS = 5 * MILLION;
enum { RETRY_MS = 5 };

enum shmeta_status shmeta__commit_wait(const struct shmeta_generation *gen, uint64_t txn, uint64_t deadline_ns)
{
	uint32_t word = shmeta_observe(&gen->commit_futex);
	uint64_t now = shmeta__monotonic_ns(), left = FUTEX_SLICE_NS;
	struct timespec t;

	if (shmeta_observe(&gen->committed) > txn)
		return SHMETA_OK;
	if (now >= deadline_ns)
		return SHMETA_ERR_TIMEOUT;
	/* A generation may be retired before its successor is current: wait briefly, so that the
	 * caller looks for it soon. */
	if (shmeta_observe(&gen->retired) != 0) /* PAIR 4: new generation before retirement */
		left = RETIRED_SLICE_NS;
	if (left > deadline_ns - now)
		left = deadline_ns - now;
	t = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
	/* Not FUTEX_PRIVATE: the writer wakes from another process. A read-only mapping of a file
	 * is enough to wait on. */
	if (syscall(SYS_futex, &gen->commit_futex, FUTEX_WAIT, word, &t, NULL, 0) < 0 && errno != EAGAIN &&
	    errno != EINTR && errno != ETIMEDOUT)
		return SHMETA_ERR_SYSTEM;
	return SHMETA_OK;
}

/* Nothing is published, so there is no futex to wait on yet; or the writer committed while the
 * store was being opened. */
static int is_to_come(enum shmeta_status status)
{
	return status == SHMETA_UNKNOWN || status == SHMETA_ERR_CONTENDED;
}

static enum shmeta_status pause_until(uint64_t deadline_ns)
{
	if (shmeta__monotonic_ns() >= deadline_ns)
		return SHMETA_ERR_TIMEOUT;
	(void)poll(NULL, 0, RETRY_MS);
	return SHMETA_OK;
}

/* To the directory that took the place of this one. 1: it could be opened. */
static int follow(struct shmeta *instance, struct core **core)
{
	struct core *former = *core;

	*core = shmeta__instance_follow(instance, former);
	shmeta__core_unref(former, 0);
	return *core != former;
}

/* Is the number that a caller has of a store that was left, in whose place this one was loaded?
 * lineage: of the one that was open when he called; 0: none. In one lineage nobody knows of a
 * commit that is not published. */
static int is_of_former(const struct env *env, uint64_t lineage, uint64_t txn, uint64_t committed)
{
	return (lineage != 0 && lineage != env->lineage) || (env->loaded_anew && committed < txn);
}

enum shmeta_status shmeta_wait_commit(struct shmeta *instance, uint64_t txn, uint32_t timeout_ms, uint64_t *ret_txn)
{
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;
	struct env *env;
	uint64_t committed, lineage;
	/* the commits of another directory, or of a store that was loaded anew, are newer than any
	 * of the former */
	int anew = 0;

	if (instance == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	lineage = shmeta__core_lineage(core);
	do {
		committed = 0;
		if (!anew && shmeta__core_is_abandoned(core))
			anew = follow(instance, &core);
		status = shmeta__core_env(core, 1, &env, &err);
		if (is_to_come(status)) {
			status = pause_until(deadline);
		} else if (status == SHMETA_OK) {
			committed = shmeta_observe(&env->gen->committed);
			anew |= is_of_former(env, lineage, txn, committed);
			if (committed <= txn && !anew)
				status = shmeta__commit_wait(env->gen, txn, deadline);
			shmeta__env_unref(env);
		}
	} while (status == SHMETA_OK && committed <= (anew ? 0 : txn));
	shmeta__core_unref(core, 0);
	if (status == SHMETA_ERR_TIMEOUT)
		(void)shmeta_fail(&err, status, "no commit after %llu was published in time", (unsigned long long)txn);
	else if (status == SHMETA_ERR_SYSTEM && err.code != status)
		(void)shmeta_fail(&err, status, "waiting for a commit: the kernel refused the wait");
	if (status != SHMETA_OK)
		return shmeta__instance_fail(instance, &err);
	if (ret_txn != NULL)
		*ret_txn = committed;
	return SHMETA_OK;
}

enum shmeta_status shmeta__wait_shown(struct core *core, uint64_t generation, uint64_t txn, uint64_t deadline_ns,
                                      struct shmeta_err *err)
{
	enum shmeta_status status;
	struct env *env;
	int shown;

	for (;;) {
		status = shmeta__core_env(core, 1, &env, err);
		if (is_to_come(status)) {
			if (pause_until(deadline_ns) == SHMETA_OK)
				continue;
			return shmeta_fail(err, SHMETA_ERR_TIMEOUT, "%s: nothing was published in time",
			                   core->directory);
		}
		if (status != SHMETA_OK)
			return status;
		shown = env->generation > generation ||
		        (env->generation == generation && shmeta_observe(&env->gen->committed) >= txn);
		if (!shown)
			status = shmeta__commit_wait(env->gen, env->generation == generation ? txn - 1 : UINT64_MAX,
			                             deadline_ns);
		shmeta__env_unref(env);
		if (shown)
			return SHMETA_OK;
		if (status != SHMETA_OK)
			return shmeta_fail(err, status, "commit %llu of generation %llu was not published in time",
			                   (unsigned long long)txn, (unsigned long long)generation);
	}
}

enum shmeta_status shmeta_wait_token(struct shmeta *instance, const struct shmeta_token *token, uint32_t timeout_ms)
{
	uint64_t deadline = shmeta__deadline_of(timeout_ms);
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct core *core;

	if (instance == NULL || token == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	core = shmeta__instance_core(instance);
	/* The commit token may come from a new writer that this process has not heard of yet. */
	status = shmeta__instance_answered(instance, &core, &err);
	if (status == SHMETA_OK)
		status = shmeta__wait_shown(core, token->generation, token->txn, deadline, &err);
	if (core != NULL)
		shmeta__core_unref(core, 0);
	return status == SHMETA_OK ? SHMETA_OK : shmeta__instance_fail(instance, &err);
}
