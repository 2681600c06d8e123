/* SPDX-License-Identifier: Apache-2.0
 * What a reader reads from: which core, generation and slot. They change between snapshots only,
 * and nothing here waits for another thread: when one is opening files, a reader goes on with what
 * it has. */
#include "reader/snapshot/snapshot.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t REJOIN_NS = 4 * MILLION;

static const uint32_t always = 1; /* the guard of an unregistered reader */

/* ---- slot ---- */

static void leave(struct shmeta_reader *r)
{
	struct membership *membership = r->membership;
	struct shmeta_slot *slot = r->slot;

	if (membership == NULL)
		return;
	/* The counters stay in the page. */
	shmeta_poke(&slot->in_use, 0);
	shmeta_publish(&slot->pin, 0);
	r->slot = &r->own;
	r->guard = &always;
	r->touch = (struct touch_view){.slots = NULL};
	shmeta_poke(&r->membership, NULL); /* before it may be freed: a child may be forked here */
	shmeta__registration_leave(membership, slot);
}

/* Take slot i of the membership, whose reference it takes over. */
static void settle_in(struct shmeta_reader *r, struct membership *membership, uint32_t i)
{
	struct shmeta_slot *slot = shmeta__slot(membership->page, i);

	r->membership = membership;
	shmeta_store(&slot->pin, 0);
	slot->generation = r->env == NULL ? 0 : r->env->generation;
	/* The slot goes on counting where its former owner stopped: sums over slots never run
	 * backwards. What was counted without a slot is added. */
	shmeta__counters_add(&slot->counters, &r->own.counters);
	for (unsigned b = 0; b < SHMETA_HISTOGRAM_BUCKETS; b++)
		slot->histogram[b] += r->own.histogram[b];
	memset(&r->own, 0, sizeof r->own);
	shmeta_publish(&slot->in_use, 1);
	r->slot = slot;
	if ((r->instance->flags & SHMETA_OPEN_NO_FILL) == 0)
		r->touch = r->membership->touch;
	r->guard = &r->membership->page->revoked; /* PAIR 5: revocation before recycling */
}

/* Under core->lock. */
static void join(struct shmeta_reader *r)
{
	struct membership *membership;
	uint32_t i;

	membership = shmeta__registration_join(r->core, &i);
	if (membership != NULL)
		settle_in(r, membership, i);
}

/* The process has a larger registration by now: move there, if it has room, so that the former one
 * goes back to the writer when its last reader has left it. */
static void move_over(struct shmeta_reader *r)
{
	struct membership *membership = NULL;
	uint32_t i = 0;

	if (shmeta_peek(&r->core->membership) == NULL || pthread_mutex_trylock(&r->core->lock) != 0)
		return;
	if (r->core->membership != r->membership)
		membership = shmeta__registration_join(r->core, &i);
	(void)pthread_mutex_unlock(&r->core->lock);
	if (membership == NULL)
		return;
	leave(r);
	settle_in(r, membership, i);
}

void shmeta__reader_settle_slot(struct shmeta_reader *r)
{
	uint64_t epoch = shmeta_peek(&r->board->epoch);
	struct core *core = r->core;
	uint64_t now;

	if (r->membership != NULL && shmeta_observe(r->guard) != 0) /* PAIR 5: revocation before recycling */
		leave(r);
	if ((r->instance->flags & SHMETA_OPEN_UNREGISTERED) != 0 || r->slotless)
		return;
	if (r->membership != NULL && r->epoch == epoch) {
		if (unlikely(r->membership != shmeta_peek(&core->membership)))
			move_over(r);
		return;
	}
	now = shmeta__monotonic_ns();
	if (r->membership == NULL && now < r->next_join_ns)
		return;
	if (pthread_mutex_trylock(&core->lock) != 0)
		return;
	shmeta__registration_step(core, now);
	if (r->membership != NULL && r->membership != core->membership) {
		(void)pthread_mutex_unlock(&core->lock);
		leave(r);
		if (pthread_mutex_trylock(&core->lock) != 0)
			return;
	}
	if (r->membership == NULL)
		join(r);
	(void)pthread_mutex_unlock(&core->lock);
	r->epoch = epoch;
	r->next_join_ns = now + REJOIN_NS;
}

/* ---- generation ---- */

static void use_env(struct shmeta_reader *r, struct env *env)
{
	shmeta__env_unref(r->env);
	r->parked = 0;
	r->env = env;
	r->gen = env->gen;
	r->clock = (r->instance->flags & SHMETA_OPEN_PRECISE_CLOCK) != 0 ? CLOCK_PRECISE : CLOCK_COARSE;
	r->judge_ns = 0;
	r->tenant = 0;
	r->tenant_txn = 0;
	r->quarantined_txn = 0;
	memset(r->seen, 0, sizeof r->seen);
	r->forget(r);
	r->slot->generation = env->generation; /* the pin is 0 */
}

static enum shmeta_status settle_generation(struct shmeta_reader *r)
{
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct env *env;

	if (r->env != NULL && shmeta_observe(&r->gen->retired) == 0) /* PAIR 4: new generation before retirement */
		return SHMETA_OK;
	status = shmeta__core_env(r->core, 0, &env, &err);
	/* another thread is opening it; a retired generation is never written again */
	if (status == SHMETA_ERR_BUSY)
		return r->env != NULL ? SHMETA_OK : SHMETA_ERR_CONTENDED;
	if (status == SHMETA_UNKNOWN)
		return status;
	if (status != SHMETA_OK)
		return shmeta__reader_keep(r, &err);
	if (env == r->env)
		shmeta__env_unref(env);
	else
		use_env(r, env);
	return SHMETA_OK;
}

/* ---- instance ---- */

void shmeta__reader_use_core(struct shmeta_reader *r, struct core *core)
{
	struct core *former = r->core;

	if (core == former) {
		shmeta__core_unref(core, 0);
		return;
	}
	leave(r);
	r->forget(r);
	shmeta__env_unref(r->env);
	r->env = NULL;
	r->gen = NULL;
	r->parked = 0;
	r->followed = r->untold = 1;
	r->since_txn = 0;
	/* before the former one may be freed: a child may be forked here */
	shmeta_poke(&r->core, core);
	r->board = core->board;
	r->next_join_ns = 0;
	shmeta__core_unref(former, 0);
}

/* Either the instance follows another directory by now, or answers were stale: then the directory
 * may have been removed and created again, and this board will never change again. */
static void settle_instance(struct shmeta_reader *r)
{
	struct core *core;

	shmeta_poke(&r->attached.attention, 0);
	core = shmeta__instance_core(r->instance);
	if (core == r->core && shmeta__core_is_abandoned(core)) {
		shmeta__core_unref(core, 0);
		core = shmeta__instance_follow(r->instance, r->core);
	}
	shmeta__reader_use_core(r, core);
}

enum shmeta_status shmeta__reader_settle(struct shmeta_reader *r)
{
	if (shmeta_peek(&r->attached.attention))
		settle_instance(r);
	shmeta__reader_settle_slot(r);
	return settle_generation(r);
}

/* ---- making and freeing ---- */

struct shmeta_reader *shmeta__reader_make(struct shmeta *instance, struct core *core,
                                          void (*forget)(struct shmeta_reader *reader))
{
	struct shmeta_reader *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);

	if (r == NULL)
		return NULL;
	memset(r, 0, sizeof *r);
	r->fork_word = instance->fork_word;
	r->fork_token = instance->fork_token;
	r->instance = instance;
	r->core = core;
	r->board = core->board;
	r->slot = &r->own;
	r->guard = &always;
	r->forget = forget;
	r->error = &r->own_error;
	return r;
}

void shmeta__reader_drop(struct shmeta_reader *r)
{
	leave(r);
	r->forget(r);
	shmeta__env_unref(r->env);
	shmeta__core_unref(r->core, 0);
	free(r->own_error);
	free(r);
}

void shmeta__reader_abandon(struct shmeta_reader *r)
{
	shmeta__membership_close(r->membership);
	shmeta__core_close_inherited(r->core);
	free(r->own_error);
	free(r);
}

struct shmeta_reader *shmeta__reader_aside(struct shmeta_reader *of, int slotless)
{
	struct core *core = shmeta__core_ref(of->core, 0);
	struct shmeta_reader *r = shmeta__reader_make(of->instance, core, of->forget);

	if (r == NULL) {
		shmeta__core_unref(core, 0);
		return NULL;
	}
	r->slotless = (uint32_t)slotless;
	r->error = of->error;
	return r;
}
