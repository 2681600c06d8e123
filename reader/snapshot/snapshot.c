/* SPDX-License-Identifier: Apache-2.0
 * Snapshots: begin and end, and what begin does when something has changed.
 *
 * Why a snapshot is safe (PAIR 1). The reader loads c = committed, stores it in its pin with a full barrier, copies the roots of c from
 * its meta page, and then finds committed still equal to c. So commit c + 1 was not published when the pin was already
 * visible. The writer looks at the pins after publishing c + 1 and before it begins c + 2, the first transaction that could
 * recycle a page of c: it sees the pin. For the same reason no commit was overwriting the meta page of c while it was copied: c + 2
 * is the next one that is written there. A commit that is written and not published, because its writer was stopped or killed in
 * between, is the other meta page's, and readers go on with c.
 * A reader without a slot replaces the pin by its clock: the writer keeps what commit c needs for a grace period after c + 1.
 *
 * A view that already shows c is used again: that is the usual case, and it costs one exchange. */
#include "reader/internal.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES_MAX = 400 };
static const uint64_t REJOIN_NS = 4 * MILLION, LOOK_NS = UINT64_C(1000000000);
static const uint64_t WRITER_AWAY_NS = UINT64_C(5000000000);

const uint32_t shmeta__always = 1;

enum shmeta_status shmeta__reader_fail(struct shmeta_reader *reader, enum shmeta_status code, const char *fmt, ...)
{
	struct shmeta_err err = {.code = code};
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err.text, sizeof err.text, fmt, ap);
	va_end(ap);
	return shmeta__instance_fail(reader->instance, &err);
}

/* ---- membership ---------------------------------------------------------------------------------------------------------- */

static void leave(struct shmeta_reader *r)
{
	struct membership *membership = r->membership;
	struct shmeta_slot *slot = r->slot;

	if (membership == NULL)
		return;
	/* What this reader has counted so far stays in the page it leaves. */
	shmeta_poke(&slot->in_use, 0);
	shmeta_publish(&slot->pin, 0);
	r->slot = &r->own;
	r->guard = &shmeta__always;
	shmeta_poke(&r->membership, NULL); /* before it may be freed: a child may be forked here */
	shmeta__registration_leave(membership, slot);
}

/* Under core->lock. */
static void join(struct shmeta_reader *r)
{
	struct shmeta_slot *slot;
	uint32_t i;

	r->membership = shmeta__registration_join(r->core, &i);
	if (r->membership == NULL)
		return;
	slot = shmeta__slot(r->membership->page, i);
	shmeta_store(&slot->pin, 0);
	slot->generation = r->env == NULL ? 0 : r->env->generation;
	/* The slot goes on counting where its former owner stopped: sums over slots never run backwards. What was counted without a
	 * slot is added. */
	shmeta__counters_add(&slot->counters, &r->own.counters);
	for (unsigned b = 0; b < SHMETA_HISTOGRAM_BUCKETS; b++)
		slot->histogram[b] += r->own.histogram[b];
	memset(&r->own, 0, sizeof r->own);
	shmeta_publish(&slot->in_use, 1);
	r->slot = slot;
	r->guard = &r->membership->page->revoked; /* PAIR 5 */
}

/* Between snapshots. Leaves a page that is not honoured any more, takes a slot when one can be had; waits for nobody. */
static void settle_membership(struct shmeta_reader *r)
{
	uint64_t epoch = shmeta_peek(&r->board->epoch);
	struct core *core = r->core;
	uint64_t now;

	if (r->membership != NULL && shmeta_observe(r->guard) != 0) /* PAIR 5 */
		leave(r);
	if ((r->instance->flags & SHMETA_OPEN_UNREGISTERED) != 0 || r->aside ||
	    (r->membership != NULL && r->epoch == epoch))
		return;
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

/* ---- generation ---------------------------------------------------------------------------------------------------------- */

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
	shmeta__reader_forget(r);
	r->slot->generation = env->generation; /* the pin is 0 */
}

static enum shmeta_status settle_generation(struct shmeta_reader *r)
{
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct env *env;

	if (r->env != NULL && shmeta_observe(&r->gen->retired) == 0) /* PAIR 4 */
		return SHMETA_OK;
	status = shmeta__core_env(r->core, 0, &env, &err);
	if (status == SHMETA_ERR_BUSY) /* another thread is opening it; a retired generation is never written again */
		return r->env != NULL ? SHMETA_OK : SHMETA_ERR_CONTENDED;
	if (status == SHMETA_UNKNOWN)
		return status;
	if (status != SHMETA_OK)
		return shmeta__instance_fail(r->instance, &err);
	if (env == r->env)
		shmeta__env_unref(env);
	else
		use_env(r, env);
	return SHMETA_OK;
}

/* Of another directory, or of the same one made anew. The reference goes to the reader. Between snapshots. */
static void use_core(struct shmeta_reader *r, struct core *core)
{
	struct core *former = r->core;

	if (core == former) {
		shmeta__core_unref(core, 0);
		return;
	}
	leave(r);
	shmeta__reader_forget(r);
	shmeta__reader_caches_free(r);
	shmeta__env_unref(r->env);
	r->env = NULL;
	r->gen = NULL;
	r->parked = 0;
	shmeta_poke(&r->core, core); /* before the former one may be freed: a child may be forked here */
	r->board = core->board;
	r->next_join_ns = 0;
	shmeta__core_unref(former, 0);
}

/* The writer's heart has stopped, and its directory leads elsewhere. Looked for once a second at most. */
static int is_abandoned(const struct shmeta_reader *r)
{
	uint64_t now = shmeta__monotonic_ns(), beat;

	if (now < shmeta_peek(&r->core->next_look_ns))
		return 0;
	beat = shmeta_peek(&r->board->heartbeat_ns);
	/* One that is ahead says nothing. */
	if (shmeta__age(shmeta__board_now_ns(r->board), beat) < WRITER_AWAY_NS)
		return 0;
	shmeta_poke(&r->core->next_look_ns, now + LOOK_NS);
	return shmeta__core_was_replaced(r->core);
}

/* The instance follows another directory by now, or answers were stale: its writer's directory may have been removed and made anew,
 * and then this board will never move again. */
static void settle_instance(struct shmeta_reader *r)
{
	struct core *core;

	shmeta_poke(&r->attention, 0);
	core = shmeta__instance_core(r->instance);
	if (core == r->core && is_abandoned(r)) {
		shmeta__core_unref(core, 0);
		core = shmeta__instance_follow(r->instance, r->core);
	}
	use_core(r, core);
}

/* ---- begin --------------------------------------------------------------------------------------------------------------- */

/* When each class was last known to be true as far as this snapshot shows it: later stamps may speak of later commits. */
static void note_stamps(struct shmeta_reader *r, uint64_t txn)
{
	for (unsigned i = 0; i < SHMETA_CLASS_COUNT; i++) {
		uint64_t synced = shmeta_observe(&r->gen->stamp[i].synced_at_ns); /* PAIR 3 */

		if (synced != 0 && shmeta_observe(&r->gen->stamp[i].txn) <= txn)
			r->seen[i] = synced;
	}
}

/* A view is accepted only if its commit was published before it was made and no other one until after it (PAIR 1). So a number enters
 * r->parked only here, when the loads on both sides agreed; while the view is being made nothing is parked, and a try that failed
 * leaves nothing that a later one could take for good. */
static enum shmeta_status take_snapshot(struct shmeta_reader *r)
{
	enum shmeta_status status = SHMETA_OK;
	struct shmeta_err err;
	uint64_t committed;

	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		committed = shmeta_load(&r->gen->committed);
		if (committed == 0)
			return SHMETA_UNKNOWN;
		shmeta_swap(&r->slot->pin, committed); /* PAIR 1 */
		if (r->parked != committed) {
			r->parked = 0;
			status = shmeta__env_show(r->env, committed, &r->view, &err);
			shmeta_fence_read();
		}
		if (shmeta_load(&r->gen->committed) == committed) {
			if (status != SHMETA_OK)
				return shmeta__instance_fail(r->instance, &err);
			r->parked = committed;
			return SHMETA_OK;
		}
		r->slot->counters.retries++;
		shmeta__relax(tries);
	}
	return SHMETA_ERR_CONTENDED;
}

static __attribute__((noinline)) enum shmeta_status begin_slow(struct shmeta_reader *r)
{
	enum shmeta_status status;

	shmeta_publish(&r->slot->pin, 0);
	if (shmeta_peek(&r->attention))
		settle_instance(r);
	settle_membership(r);
	status = settle_generation(r);
	if (status != SHMETA_OK)
		return status;
	if (r->membership == NULL)
		r->begun_ns = shmeta__boottime_ns();
	status = take_snapshot(r);
	if (status != SHMETA_OK) {
		shmeta_publish(&r->slot->pin, 0);
		return status;
	}
	note_stamps(r, r->parked);
	r->snapshot = r->parked;
	r->serial++;
	r->slot->counters.begins++;
	return SHMETA_OK;
}

enum shmeta_status shmeta_begin(struct shmeta_reader *r)
{
	uint64_t committed;

	if (unlikely(r == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (unlikely(shmeta_peek(r->fork_word) != r->token))
		return SHMETA_ERR_FORKED;
	if (unlikely(r->snapshot != 0))
		return SHMETA_ERR_BUSY_SNAPSHOT;
	/* The guard first: without a slot, gen and txn may not be there either. */
	if (likely((shmeta_observe(r->guard) | shmeta_peek(&r->attention)) == 0 && r->gen != NULL) &&
	    likely(shmeta_observe(&r->gen->retired) == 0 && shmeta_peek(&r->board->epoch) == r->epoch)) {
		committed = shmeta_observe(&r->gen->committed);
		if (likely(committed == r->parked)) {
			shmeta_swap(&r->slot->pin, committed); /* PAIR 1 */
			if (likely(shmeta_load(&r->gen->committed) == committed)) {
				r->snapshot = committed;
				r->serial++;
				r->slot->counters.begins++;
				return SHMETA_OK;
			}
		}
	}
	return begin_slow(r);
}

/* ---- end ----------------------------------------------------------------------------------------------------------------- */

int shmeta__snapshot_expired(const struct shmeta_reader *r)
{
	if (shmeta_observe(r->guard) == 0 || r->snapshot == 0) /* PAIR 5 */
		return 0;
	/* Revoked under the snapshot: when exactly, nobody knows here. */
	if (r->membership != NULL)
		return 1;
	if (shmeta__boottime_ns() - r->begun_ns < r->env->grace_half_ns)
		return 0;
	/* However long it took: its pages are kept for a grace period that begins when a later commit is published. */
	return shmeta_load(&r->gen->committed) > r->snapshot;
}

static __attribute__((noinline)) enum shmeta_status end_guarded(struct shmeta_reader *r)
{
	int expired = r->expired || shmeta__snapshot_expired(r);

	shmeta_publish(&r->slot->pin, 0);
	r->snapshot = 0;
	r->expired = 0;
	if (!expired)
		return SHMETA_OK;
	r->slot->counters.expired++;
	return SHMETA_ERR_EXPIRED;
}

enum shmeta_status shmeta_end(struct shmeta_reader *r)
{
	if (unlikely(r == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (unlikely(shmeta_peek(r->fork_word) != r->token))
		return SHMETA_ERR_FORKED;
	if (unlikely(r->snapshot == 0))
		return SHMETA_ERR_NO_SNAPSHOT;
	if (unlikely(shmeta_observe(r->guard) | r->expired))
		return end_guarded(r);
	shmeta_publish(&r->slot->pin, 0);
	r->snapshot = 0;
	return SHMETA_OK;
}

enum shmeta_status shmeta__snapshot_advance(struct shmeta_reader *r, uint64_t generation, uint64_t txn,
                                            uint64_t deadline_ns)
{
	enum shmeta_status status;
	struct core *core;

	/* Whoever answered at the path is not the writer of what is mapped. Its numbers begin again: they prove nothing here. */
	if (shmeta__core_was_replaced(r->core)) {
		core = shmeta__instance_follow(r->instance, r->core);
		if (core == r->core) {
			shmeta__core_unref(core, 0);
			return SHMETA_ERR_WRITER_AWAY;
		}
		shmeta_publish(&r->slot->pin, 0);
		r->snapshot = 0;
		use_core(r, core);
	}
	for (;;) {
		shmeta_publish(&r->slot->pin, 0);
		r->snapshot = 0;
		status = begin_slow(r);
		/* Another thread is opening the generation, or it did not hold still. */
		if (status == SHMETA_ERR_CONTENDED && shmeta__monotonic_ns() < deadline_ns) {
			(void)poll(NULL, 0, 1);
			continue;
		}
		if (status != SHMETA_OK) {
			r->expired = 0; /* no snapshot is open that could say so */
			return status;
		}
		if (r->env->generation > generation || (r->env->generation == generation && r->snapshot >= txn))
			return SHMETA_OK;
		status = shmeta__commit_wait(r->gen, r->snapshot, deadline_ns);
		if (status != SHMETA_OK)
			return shmeta__reader_fail(r, status,
			                           "commit %llu of the writer's answer was not published in time",
			                           (unsigned long long)txn);
	}
}

enum shmeta_status shmeta_snapshot_info(struct shmeta_reader *r, struct shmeta_snapshot_info *ret)
{
	if (r == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta_peek(r->fork_word) != r->token)
		return SHMETA_ERR_FORKED;
	if (r->snapshot == 0)
		return SHMETA_ERR_NO_SNAPSHOT;
	*ret = (struct shmeta_snapshot_info){.txn = r->snapshot,
	                                     .generation = r->env->generation,
	                                     .epoch = shmeta_peek(&r->board->epoch),
	                                     .registered = shmeta_observe(r->guard) == 0};
	return SHMETA_OK;
}

/* ---- lookups in the snapshot ----------------------------------------------------------------------------------------------- */

enum shmeta_status shmeta__snapshot_get(struct shmeta_reader *r, enum shmeta_db db, const void *key, size_t key_bytes,
                                        const void **ret_value, size_t *ret_bytes)
{
	/* What lies on pages that may have been recycled is no damage. */
	if (unlikely(shmeta_observe(r->guard) != 0) && shmeta__snapshot_expired(r))
		return SHMETA_ERR_EXPIRED;
	return shmeta__view_get(&r->view, db, key, key_bytes, ret_value, ret_bytes);
}

enum shmeta_status shmeta__snapshot_tenant(struct shmeta_reader *r, uint32_t *ret)
{
	uint8_t key[sizeof SHMETA_META_TENANT - 1 + SHMETA_TENANT_MAX];
	enum shmeta_status status;
	const void *value;
	size_t bytes;

	*ret = r->tenant;
	if (likely(r->tenant != 0))
		return SHMETA_OK;
	if (r->tenant_txn == r->snapshot)
		return SHMETA_ABSENT;
	memcpy(key, SHMETA_META_TENANT, sizeof SHMETA_META_TENANT - 1);
	memcpy(key + sizeof SHMETA_META_TENANT - 1, r->instance->tenant, r->instance->tenant_bytes);
	status = shmeta__snapshot_get(r, SHMETA_DB_META, key, sizeof SHMETA_META_TENANT - 1 + r->instance->tenant_bytes,
	                              &value, &bytes);
	if (status == SHMETA_ABSENT)
		r->tenant_txn = r->snapshot;
	if (status != SHMETA_OK)
		return status;
	if (bytes != sizeof r->tenant)
		return SHMETA_ERR_CORRUPT;
	/* A number that may come from a recycled page is not remembered. */
	memcpy(ret, value, sizeof *ret);
	if (unlikely(shmeta_observe(r->guard) != 0) && shmeta__snapshot_expired(r))
		return SHMETA_ERR_EXPIRED;
	if (*ret == 0)
		return SHMETA_ERR_CORRUPT;
	r->tenant = *ret;
	return SHMETA_OK;
}

/* ---- readers ---------------------------------------------------------------------------------------------------------------- */

/* It takes over the caller's reference to core. */
static struct shmeta_reader *reader_of(struct shmeta *instance, struct core *core)
{
	struct shmeta_reader *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);

	if (r == NULL)
		return NULL;
	memset(r, 0, sizeof *r);
	r->fork_word = instance->fork_word;
	r->token = instance->token;
	r->instance = instance;
	r->core = core;
	r->board = core->board;
	r->slot = &r->own;
	r->guard = &shmeta__always;
	return r;
}

/* Everything but handles, iterators and the reference to the instance. */
static void reader_drop(struct shmeta_reader *r)
{
	leave(r);
	shmeta__reader_caches_free(r);
	shmeta__env_unref(r->env);
	shmeta__core_unref(r->core, 0);
	free(r);
}

struct shmeta_reader *shmeta__reader_aside(struct shmeta_reader *of)
{
	struct core *core = shmeta__core_ref(of->core, 0);
	struct shmeta_reader *r = reader_of(of->instance, core);

	if (r == NULL)
		shmeta__core_unref(core, 0);
	else
		r->aside = 1;
	return r;
}

void shmeta__reader_aside_free(struct shmeta_reader *aside)
{
	reader_drop(aside);
}

enum shmeta_status shmeta_reader_new(struct shmeta *instance, struct shmeta_reader **ret)
{
	struct shmeta_reader *r;
	struct core *core;
	int room;

	if (instance == NULL || ret == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__forked(instance))
		return SHMETA_ERR_FORKED;
	(void)pthread_mutex_lock(&instance->lock);
	room = instance->reader_count < instance->threads;
	if (room) {
		instance->reader_count++;
		instance->refs++;
	}
	(void)pthread_mutex_unlock(&instance->lock);
	if (!room) {
		struct shmeta_err err;

		(void)shmeta_fail(&err, SHMETA_ERR_BUSY, "all %u readers that this open asked for (threads) are taken",
		                  instance->threads);
		return shmeta__instance_fail(instance, &err);
	}
	core = shmeta__instance_core(instance);
	r = reader_of(instance, core);
	if (r == NULL) {
		shmeta__core_unref(core, 0);
		(void)pthread_mutex_lock(&instance->lock);
		instance->reader_count--;
		instance->refs--;
		(void)pthread_mutex_unlock(&instance->lock);
		return SHMETA_ERR_NO_MEMORY;
	}
	shmeta__instance_add(instance, r);
	settle_membership(r);
	*ret = r;
	return SHMETA_OK;
}

void shmeta_reader_free(struct shmeta_reader *r)
{
	struct shmeta *instance;

	if (r == NULL)
		return;
	/* In a forked child: what was inherited is left alone, see shmeta_close(). A registration or a core that only this reader still
	 * held has its connections closed here. */
	if (shmeta_peek(r->fork_word) != r->token) {
		shmeta__membership_close(r->membership);
		shmeta__core_close_inherited(r->core);
		free(r);
		return;
	}
	instance = r->instance;
	/* They are their owners', who may close them later. */
	while (r->iters != NULL)
		shmeta__iter_detach(r->iters);
	while (r->handles != NULL)
		shmeta__handle_detach(r->handles);
	shmeta__instance_remove(instance, r);
	reader_drop(r);
	shmeta__instance_unref(instance);
}
