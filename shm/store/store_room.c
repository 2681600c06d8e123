/* SPDX-License-Identifier: Apache-2.0
 * What is left of a generation: how much its content takes, how much of the rest is kept for readers, and what a change may still take.
 *
 * A change copies the pages it touches before the former ones become free, so a store whose content fills it could not even shrink.
 * Therefore content grows to all but a part of max_bytes, STORE_KEPT_BACK; what does not make it larger is always taken, as soon as
 * the pages that it needs are no reader's. */
#include "shm/store/store_private.h"

#include <string.h>

enum { STORE_KEPT_BACK = 32 }; /* one in so many */

uint64_t store_content_max(const struct shmeta__store *store)
{
	return store->max_bytes - store->max_bytes / STORE_KEPT_BACK;
}

/* LMDB's own two databases and the meta pages included. */
int store_content_bytes(struct shmeta__store *store, MDB_txn *txn, uint64_t *ret)
{
	uint64_t pages = 2;

	for (int i = 0; i < 2 + SHMETA_DB_COUNT; i++) {
		MDB_stat s;
		int rc = mdb_stat(txn, i < 2 ? (MDB_dbi)i : store->dbi[i - 2], &s);

		if (rc != 0)
			return rc;
		pages += s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages;
	}
	*ret = pages * SHMETA_PAGE;
	return 0;
}

/* The pages that transaction `from` and later ones freed. to > 0: stop behind the one with which they are as many, *ret_txn. LMDB's free
 * list is database 0: transaction -> count, page numbers. */
static int freed_since(MDB_txn *txn, uint64_t from, uint64_t to, uint64_t *ret_pages, uint64_t *ret_txn)
{
	MDB_val key = {sizeof from, &from}, value;
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn, 0, &cursor);

	if (rc != 0)
		return rc;
	*ret_pages = 0;
	for (rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE); rc == 0;
	     rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
		size_t count = 0;

		if (value.mv_size >= sizeof count)
			memcpy(&count, value.mv_data, sizeof count);
		*ret_pages += count;
		if (to > 0 && *ret_pages >= to) {
			memcpy(ret_txn, key.mv_data, sizeof *ret_txn);
			break;
		}
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

enum shmeta_status shmeta__store_room(struct shmeta__store *store, uint64_t oldest_pin, struct shmeta__store_room *ret,
                                      struct shmeta_err *err)
{
	struct shmeta__store_room room = {.max_bytes = store->max_bytes};
	enum shmeta_status status = SHMETA_OK;
	uint64_t oldest, pages = 0, limit = store_content_max(store);
	MDB_envinfo info;
	MDB_txn *txn;
	int rc;

	if (store->broken)
		status = store_reopen(store, err);
	/* As before a transaction: what nobody needs any more does not wait for the next one. */
	if (status == SHMETA_OK && store->write == NULL && !store->hold && !store->opened) {
		status = store_proxy_take(store, err);
		if (status == SHMETA_OK)
			store_proxy_drop(store, oldest_pin);
	}
	if (status != SHMETA_OK)
		return status;
	rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: reading", (unsigned long long)store->number);
	oldest = store->proxies > 0 ? store->proxy[0].txn : mdb_txn_id(txn);
	rc = store_content_bytes(store, txn, &room.used_bytes);
	if (rc == 0)
		rc = freed_since(txn, oldest, 0, &pages, NULL);
	room.pinned_bytes = pages * SHMETA_PAGE;
	if (rc == 0 && pages > 0)
		rc = freed_since(txn, oldest, (pages + 1) / 2, &pages, &room.half_txn);
	(void)mdb_env_info(store->env, &info);
	mdb_txn_abort(txn);
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: its free list", (unsigned long long)store->number);
	room.file_bytes = (info.me_last_pgno + 1) * SHMETA_PAGE;
	room.left_bytes = room.used_bytes < limit ? limit - room.used_bytes : 0;
	*ret = room;
	return SHMETA_OK;
}

unsigned shmeta__room_level(uint64_t used_bytes, uint64_t pinned_bytes, uint64_t max_bytes, const char **ret)
{
	static const struct {
		unsigned level;
		const char *content, *readers; /* whichever takes more of it */
	} levels[] = {
		{95,
	         "full: raise store.max_bytes and restart, or delete topics or segments; only what does not grow it is taken",
	         "full: 'shmetactl readers' says who holds back what is pinned, 'shmetactl revoke' ends that"},
		{85, "nearly full: raise store.max_bytes and restart, or delete topics or segments",
	         "nearly full: readers with old snapshots are cut off; 'shmetactl readers' says who holds back what is pinned"},
		{70, "filling up: plan a larger store.max_bytes",
	         "filling up: 'shmetactl readers' says who holds back what is pinned"},
	};

	*ret = "";
	for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
		if (used_bytes + pinned_bytes < max_bytes / 100 * levels[i].level)
			continue;
		*ret = pinned_bytes > used_bytes ? levels[i].readers : levels[i].content;
		return levels[i].level;
	}
	return 0;
}

enum shmeta_status shmeta__store_step(struct shmeta__store *store, uint64_t oldest_pin, struct shmeta_err *err)
{
	struct shmeta__txn *txn;
	enum shmeta_status status = shmeta__txn_begin(store, oldest_pin, &txn, err);
	uint64_t number;

	if (status != SHMETA_OK)
		return status;
	status = shmeta__put(txn, SHMETA_DB_META, SHMETA_META_COUNTERS, strlen(SHMETA_META_COUNTERS), &store->counters,
	                     sizeof store->counters, err);
	if (status == SHMETA_OK)
		return shmeta__txn_commit(txn, &number, err);
	shmeta__txn_abort(txn);
	return status;
}
