/* SPDX-License-Identifier: Apache-2.0
 * The ladder of proxies: read transactions of our own that keep LMDB from recycling pages that
 * readers can still reach.
 *
 * What LMDB promises: write transaction N reuses only pages that were freed by a transaction X <
 * min(N - 1, oldest read transaction in the lock table). Snapshot S can reach pages that were freed
 * by X > S. So a proxy at P keeps every snapshot S >= P whole, and only the oldest proxy counts:
 * one that lies between others protects nothing by itself, it is a step to which the oldest can
 * move on later. Dropping an inner one is therefore always safe and costs only pages that stay
 * unusable for longer; dropping at the old end is what needs the argument below.
 *
 * Let d be the moment at which a write transaction is about to begin. The drop rule keeps
 *   K  the newest proxy with txn <= oldest pin, and everything newer;
 *   G  the newest proxy that was taken at or before d - grace, and everything newer.
 * Everything older than both goes.
 *
 * Registered readers: a reader that pinned c holds a snapshot T >= c >= K. A reader whose pin this
 * scan missed stored it after the scan; PAIR 1 then makes sure that T + 2 is at least the
 * transaction that begins now, which LMDB protects without us (it never reuses what N - 1 or N - 2
 * can reach), and the next scan sees the pin.
 *
 * Unregistered readers: one that began at time t0 holds a snapshot S that was the newest commit at
 * t0 or later.
 *   t0 > d - grace: G was taken at or before d - grace < t0, so G's commit was already made at t0,
 *   so S >= G: whole. t0 <= d - grace: its own clock says, at its end, that more than grace / 2 has
 *   passed, and it discards what it read, unless S is still the newest commit: then S is whole
 *   until a grace period after the next one. The other half of grace is for the distance between
 *   its clock (steps of 4 ms) and ours.
 *   Began after d: S >= N - 1, which LMDB protects in this transaction; the next begin judges anew.
 *   So it does not matter how long the write transaction takes.
 * A reader that began grace / 2 ago on the oldest snapshot there was is the first case, whatever
 * the rate of commits and however the ladder was thinned, because thinning never moves G forward
 * past a proxy that is younger than grace.
 *
 * Age is CLOCK_MONOTONIC, not CLOCK_BOOTTIME: while the machine sleeps no reader makes progress
 * either, and a reader that measures by the monotonic clock must not lose its pages to a night's
 * suspend. A reader that measures by boot time merely discards more.
 *
 * Thinning: the newest proxy replaces its neighbour while that one was taken less than grace / 16
 * after the one before. So there are at most about 18 younger than grace. Older ones stay only
 * while a pin holds K; when the table is full the inner one whose neighbours lie closest together
 * in time goes. */
#include "shm/store/store_private.h"

#include <string.h>
#include <time.h>

uint64_t store_monotonic_ns(void *arg)
{
	struct timespec t = {0};

	(void)arg;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void remove_at(struct shmeta__store *store, uint32_t i)
{
	mdb_txn_abort(store->proxy[i].lmdb);
	memmove(&store->proxy[i], &store->proxy[i + 1], (store->proxies - i - 1) * sizeof store->proxy[0]);
	store->proxies--;
}

/* Inner ones only: the oldest protects, the newest is the next writer's. */
static void thin(struct shmeta__store *store)
{
	const struct store_proxy *p = store->proxy;
	uint32_t n = store->proxies, best = 1;

	if (n >= 3 && p[n - 2].taken_at_ns - p[n - 3].taken_at_ns < store->grace_ns / 16) {
		remove_at(store, n - 2);
		return;
	}
	if (n <= STORE_PROXIES_MAX)
		return;
	for (uint32_t i = 2; i + 1 < n; i++)
		if (p[i + 1].taken_at_ns - p[i - 1].taken_at_ns < p[best + 1].taken_at_ns - p[best - 1].taken_at_ns)
			best = i;
	remove_at(store, best);
}

/* A proxy of the newest commit, unless there is one. */
enum shmeta_status store_proxy_take(struct shmeta__store *store, struct shmeta_err *err)
{
	struct store_proxy proxy = {.taken_at_ns = store->now_ns(store->now_arg)};
	int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &proxy.lmdb);

	if (rc != 0)
		return store_fail(err, rc, "store.%llu: keeping the newest commit for readers",
		                  (unsigned long long)store->number);
	proxy.txn = mdb_txn_id(proxy.lmdb);
	if (store->proxies > 0 && store->proxy[store->proxies - 1].txn == proxy.txn) {
		mdb_txn_abort(proxy.lmdb);
		return SHMETA_OK;
	}
	/* A clock that steps back must not make the ladder unordered. */
	if (store->proxies > 0 && proxy.taken_at_ns < store->proxy[store->proxies - 1].taken_at_ns)
		proxy.taken_at_ns = store->proxy[store->proxies - 1].taken_at_ns;
	store->proxy[store->proxies++] = proxy;
	thin(store);
	return SHMETA_OK;
}

/* Drop what neither a pin nor grace needs. */
void store_proxy_drop(struct shmeta__store *store, uint64_t oldest_pin)
{
	uint64_t now = store->now_ns(store->now_arg);
	uint32_t pinned = 0, graced = 0, drop;

	for (uint32_t i = 1; i < store->proxies; i++) {
		if (store->proxy[i].txn <= oldest_pin)
			pinned = i;
		if (now >= store->grace_ns && store->proxy[i].taken_at_ns <= now - store->grace_ns)
			graced = i;
	}
	drop = pinned < graced ? pinned : graced;
	for (uint32_t i = 0; i < drop; i++)
		mdb_txn_abort(store->proxy[i].lmdb);
	memmove(&store->proxy[0], &store->proxy[drop], (store->proxies - drop) * sizeof store->proxy[0]);
	store->proxies -= drop;
}

void store_proxy_drop_all(struct shmeta__store *store)
{
	for (uint32_t i = 0; i < store->proxies; i++)
		mdb_txn_abort(store->proxy[i].lmdb);
	store->proxies = 0;
}

void shmeta__store_set_clock(struct shmeta__store *store, uint64_t (*now_ns)(void *arg), void *arg)
{
	store->now_ns = now_ns;
	store->now_arg = arg;
}

enum shmeta_status shmeta__store_may_write(struct shmeta__store *store, uint64_t oldest_pin, uint64_t *ret_wait_ns,
                                           struct shmeta_err *err)
{
	uint64_t now = store->now_ns(store->now_arg), until = store->found_at_ns + store->grace_ns;
	uint64_t found;

	*ret_wait_ns = 0;
	if (!store->opened && !store->hold)
		return SHMETA_OK;
	found = store->proxies > 0 ? store->proxy[0].txn : 0;
	if (now < until) {
		*ret_wait_ns = until - now;
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "store.%llu: readers may still be in commits before %llu for %llu ms",
		                   (unsigned long long)store->number, (unsigned long long)found,
		                   (unsigned long long)((until - now) / 1000000u));
	}
	if (oldest_pin < found)
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "store.%llu: a reader still pins commit %llu, older than %llu, which was found",
		                   (unsigned long long)store->number, (unsigned long long)oldest_pin,
		                   (unsigned long long)found);
	store->opened = store->hold = false;
	return SHMETA_OK;
}
