/* SPDX-License-Identifier: Apache-2.0
 * Snapshots: begin, end, take, and keys looked up in one.
 *
 * Why a snapshot is safe (PAIR 1). The reader loads c = committed, stores it in its pin with a full
 * barrier, copies the roots of c from its meta page, and then finds committed still equal to c. So
 * commit c + 1 was not published when the pin was already visible. The writer looks at the pins
 * after publishing c + 1 and before it begins c + 2, the first transaction that could recycle a
 * page of c: it sees the pin. For the same reason no commit was overwriting the meta page of c
 * while it was copied: c + 2 is the next one that is written there. A commit that is written and
 * not published, because its writer was stopped or killed in between, is the other meta page's, and
 * readers go on with c. A reader without a slot replaces the pin by its clock: the writer keeps
 * what commit c needs for a grace period after c + 1.
 *
 * A view that already shows c is used again: that is the usual case, and it costs one exchange. */
#include "reader/snapshot/snapshot.h"

#include <poll.h>
#include <string.h>

#include "base/probes.h"
#include "reader/request/request.h"

enum { TRIES_MAX = 400 };

/* ---- begin ---- */

/* When each class was last known to be true as far as this snapshot shows it: later stamps may
 * speak of later commits. */
static void note_stamps(struct shmeta_reader *r, uint64_t txn)
{
	for (unsigned i = 0; i < SHMETA_CLASS_COUNT; i++) {
		uint64_t synced =
			shmeta_observe(&r->gen->stamp[i].synced_at_ns); /* PAIR 3: a stamp's commit before its time */

		if (synced != 0 && shmeta_observe(&r->gen->stamp[i].txn) <= txn)
			r->seen[i] = synced;
	}
}

/* A view is accepted only if its commit was published before it was made and no other one until
 * after it (PAIR 1). So a number enters r->parked only here, when the loads on both sides agreed;
 * while the view is being made nothing is parked, and a try that failed leaves nothing that a later
 * one could take for good. */
static enum shmeta_status take_snapshot(struct shmeta_reader *r)
{
	enum shmeta_status status = SHMETA_OK;
	struct shmeta_err err;
	uint64_t committed;

	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		committed = shmeta_load(&r->gen->committed);
		if (committed == 0)
			return SHMETA_UNKNOWN;
		shmeta_swap(&r->slot->pin, committed); /* PAIR 1: pin before commit */
		if (r->parked != committed) {
			r->parked = 0;
			status = shmeta__env_show(r->env, committed, &r->view, &err);
			shmeta_fence_read();
		}
		if (shmeta_load(&r->gen->committed) == committed) {
			if (status != SHMETA_OK)
				return shmeta__reader_keep(r, &err);
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
	status = shmeta__reader_settle(r);
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
	if (unlikely(r->followed && r->since_txn == 0)) {
		r->since_generation = r->env->generation;
		r->since_txn = r->snapshot;
	}
	r->serial++;
	r->slot->counters.begins++;
	return SHMETA_OK;
}

enum shmeta_status shmeta_begin(struct shmeta_reader *r)
{
	uint64_t committed;

	if (unlikely(r == NULL))
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (unlikely(shmeta_peek(r->fork_word) != r->fork_token))
		return SHMETA_ERR_FORKED;
	if (unlikely(r->snapshot != 0))
		return SHMETA_ERR_BUSY_SNAPSHOT;
	/* The guard first: without a slot, gen and txn may not be there either. */
	if (likely((shmeta_observe(r->guard) | shmeta_peek(&r->attached.attention)) == 0 && r->gen != NULL) &&
	    likely(shmeta_observe(&r->gen->retired) == 0 && shmeta_peek(&r->board->epoch) == r->epoch)) {
		committed = shmeta_observe(&r->gen->committed);
		if (likely(committed == r->parked)) {
			shmeta_swap(&r->slot->pin, committed); /* PAIR 1: pin before commit */
			if (likely(shmeta_load(&r->gen->committed) == committed)) {
				r->snapshot = committed;
				r->serial++;
				r->slot->counters.begins++;
				shmeta_probe_begin(committed);
				return SHMETA_OK;
			}
		}
	}
	enum shmeta_status status = begin_slow(r);

	if (status == SHMETA_OK)
		shmeta_probe_begin(r->snapshot);
	return status;
}

/* ---- end ---- */

int shmeta__snapshot_expired(const struct shmeta_reader *r)
{
	if (shmeta_observe(r->guard) == 0 || r->snapshot == 0) /* PAIR 5: revocation before recycling */
		return 0;
	/* Revoked while the snapshot was open; at which moment is unknown here. */
	if (r->membership != NULL)
		return 1;
	if (shmeta__boottime_ns() - r->begun_ns < r->env->grace_half_ns)
		return 0;
	/* The pages of the snapshot are kept for a grace period that begins when a later commit is
	 * published. */
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
	if (unlikely(shmeta_peek(r->fork_word) != r->fork_token))
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

	/* The writer that answered is not the writer of what is mapped. Its commit numbers start
	 * again and prove nothing here. */
	if (shmeta__core_was_replaced(r->core)) {
		core = shmeta__instance_follow(r->instance, r->core);
		if (core == r->core) {
			shmeta__core_unref(core, 0);
			return SHMETA_ERR_WRITER_AWAY;
		}
		shmeta_publish(&r->slot->pin, 0);
		r->snapshot = 0;
		shmeta__reader_use_core(r, core);
	}
	for (;;) {
		shmeta_publish(&r->slot->pin, 0);
		r->snapshot = 0;
		status = begin_slow(r);
		/* Another thread is opening the generation, or the writer kept committing. */
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
	if (shmeta_peek(r->fork_word) != r->fork_token)
		return SHMETA_ERR_FORKED;
	if (r->snapshot == 0)
		return SHMETA_ERR_NO_SNAPSHOT;
	*ret = (struct shmeta_snapshot_info){.txn = r->snapshot,
	                                     .generation = r->env->generation,
	                                     .epoch = shmeta_peek(&r->board->epoch),
	                                     .registered = shmeta_observe(r->guard) == 0};
	return SHMETA_OK;
}

/* ---- lookups in the snapshot ---- */

enum shmeta_status shmeta__snapshot_get(struct shmeta_reader *r, enum shmeta_db db, const void *key, size_t key_bytes,
                                        const void **ret_value, size_t *ret_bytes)
{
	/* Pages may have been recycled: report that, not damage. */
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
	/* Do not remember a number that may come from a recycled page. */
	memcpy(ret, value, sizeof *ret);
	if (unlikely(shmeta_observe(r->guard) != 0) && shmeta__snapshot_expired(r))
		return SHMETA_ERR_EXPIRED;
	if (*ret == 0)
		return SHMETA_ERR_CORRUPT;
	r->tenant = *ret;
	return SHMETA_OK;
}
