/* SPDX-License-Identifier: Apache-2.0
 * What is left of a generation: how much its content takes, how much of the rest is kept for
 * readers, and what each database takes. */
#include "shm/store/store_private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* The pages that transaction `from` and later ones freed. to > 0: stop behind the one with which
 * they are as many, *ret_txn. LMDB's free list is database 0: transaction -> count, page
 * numbers. */
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

enum shmeta_status shmeta__txn_content(struct shmeta__txn *txn, uint64_t *ret_bytes, struct shmeta_err *err)
{
	int rc = store_content_bytes(txn->store, txn->lmdb, ret_bytes);

	return rc == 0 ? SHMETA_OK
	               : store_fail(err, rc, "store.%llu: measuring", (unsigned long long)txn->store->number);
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

enum shmeta_status shmeta__store_usage(struct shmeta__store *store, struct shmeta__store_usage *ret,
                                       struct shmeta_err *err)
{
	struct shmeta__store_usage usage = {.max_bytes = store->max_bytes, .proxies = store->proxies};
	MDB_cursor *cursor = NULL;
	MDB_envinfo info;
	MDB_val key, value;
	MDB_txn *txn;
	struct stat st;
	int rc;

	if (store->broken) {
		enum shmeta_status status = store_reopen(store, err);

		if (status != SHMETA_OK)
			return status;
	}
	if (fstatat(store->dir_fd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) == 0)
		usage.file_bytes = (uint64_t)st.st_size;
	usage.oldest_proxy_txn = store->proxies > 0 ? store->proxy[0].txn : 0;
	rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: reading", (unsigned long long)store->number);
	for (int db = 0; db < SHMETA_DB_COUNT && rc == 0; db++) {
		MDB_stat s;

		rc = mdb_stat(txn, store->dbi[db], &s);
		if (rc != 0)
			break;
		usage.entries[db] = s.ms_entries - 1; /* without the sentinel */
		usage.db_bytes[db] = (s.ms_branch_pages + s.ms_leaf_pages + s.ms_overflow_pages) * SHMETA_PAGE;
	}
	/* LMDB's free list is database 0: transaction -> count, page numbers. */
	if (rc == 0)
		rc = mdb_cursor_open(txn, 0, &cursor);
	while (rc == 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		size_t count = 0;

		if (value.mv_size >= sizeof count)
			memcpy(&count, value.mv_data, sizeof count);
		usage.free_bytes += (uint64_t)count * SHMETA_PAGE;
	}
	if (rc == MDB_NOTFOUND)
		rc = 0;
	if (cursor != NULL)
		mdb_cursor_close(cursor);
	(void)mdb_env_info(store->env, &info);
	mdb_txn_abort(txn);
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: usage", (unsigned long long)store->number);
	usage.used_bytes = (info.me_last_pgno + 1) * SHMETA_PAGE;
	usage.used_bytes -= usage.free_bytes < usage.used_bytes ? usage.free_bytes : usage.used_bytes;
	*ret = usage;
	return SHMETA_OK;
}
