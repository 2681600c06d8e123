/* SPDX-License-Identifier: Apache-2.0
 * Transactions on a generation: begin, change, commit in the order that readers rely on, walk. */
#include "shm/store/store_private.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/row_limits.h"
#include "shm/record/entry.h"
#include "shm/record/record.h"

struct shmeta__cursor {
	struct shmeta__txn *txn;
	MDB_cursor *lmdb;
	enum shmeta_db db;
	size_t first_bytes; /* 0: from the first */
	bool begun, ended;
	uint64_t number; /* first key of an integer database */
	uint8_t first[SHMETA_QUARANTINE_KEY_MAX];
};

static void step(struct shmeta__store *store, const char *where)
{
	if (store->step != NULL)
		store->step(store->step_arg, where);
}

/* ---- begin, commit, abort ---- */

enum shmeta_status shmeta__txn_begin(struct shmeta__store *store, uint64_t oldest_pin, struct shmeta__txn **ret,
                                     struct shmeta_err *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct shmeta__txn *txn;
	uint64_t wait_ns;
	int rc;

	if (store->write != NULL)
		return shmeta_fail(err, SHMETA_ERR_BUSY, "store.%llu: a write transaction is open already",
		                   (unsigned long long)store->number);
	if (store->broken)
		status = store_reopen(store, err);
	if (status == SHMETA_OK && store->hold)
		status = shmeta__store_may_write(store, oldest_pin, &wait_ns, err);
	/* The newest commit must have its proxy before pages that it reaches can become free. */
	if (status == SHMETA_OK)
		status = store_proxy_take(store, err);
	if (status != SHMETA_OK)
		return status;
	store_proxy_drop(store, oldest_pin);
	txn = calloc(1, sizeof *txn);
	if (txn == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	rc = mdb_txn_begin(store->env, NULL, 0, &txn->lmdb);
	if (rc != 0) {
		free(txn);
		if (rc == MDB_PANIC)
			store->broken = true;
		return store_fail(err, rc, "store.%llu: beginning a transaction", (unsigned long long)store->number);
	}
	rc = store_content_bytes(store, txn->lmdb, &txn->content);
	if (rc != 0) {
		mdb_txn_abort(txn->lmdb);
		free(txn);
		return store_fail(err, rc, "store.%llu: what it holds", (unsigned long long)store->number);
	}
	txn->store = store;
	txn->write = true;
	txn->number = mdb_txn_id(txn->lmdb);
	store->write = txn;
	store->opened = false;
	*ret = txn;
	return SHMETA_OK;
}

enum shmeta_status shmeta__txn_read(struct shmeta__store *store, struct shmeta__txn **ret, struct shmeta_err *err)
{
	struct shmeta__txn *txn;
	int rc;

	if (store->broken) {
		enum shmeta_status status = store_reopen(store, err);

		if (status != SHMETA_OK)
			return status;
	}
	txn = calloc(1, sizeof *txn);
	if (txn == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn->lmdb);
	if (rc != 0) {
		free(txn);
		return store_fail(err, rc, "store.%llu: beginning to read", (unsigned long long)store->number);
	}
	txn->store = store;
	txn->number = mdb_txn_id(txn->lmdb);
	store->reads++;
	*ret = txn;
	return SHMETA_OK;
}

/* Forget what the transaction announced. */
static void leave(struct shmeta__txn *txn)
{
	struct shmeta__store *store = txn->store;

	if (txn->write) {
		memset(store->touching, 0, sizeof store->touching);
		store->counters = store->saved;
		store->write = NULL;
	} else {
		store->reads--;
	}
	free(txn);
}

void shmeta__txn_abort(struct shmeta__txn *txn)
{
	if (txn == NULL)
		return;
	mdb_txn_abort(txn->lmdb);
	leave(txn);
}

/* Whoever sleeps on a word that this transaction moved. A futex is the low half of its word. */
static void wake_touched(const struct shmeta__store *store)
{
	for (uint32_t i = 0; i < SHMETA_TOUCHED_WORDS / 64; i++)
		for (uint64_t bits = store->touching[i]; bits != 0; bits &= bits - 1)
			(void)syscall(SYS_futex, &store->touched[i * 64 + (uint32_t)__builtin_ctzll(bits)], FUTEX_WAKE,
			              INT_MAX, NULL, NULL, 0);
}

static void publish_touched(struct shmeta__txn *txn)
{
	struct shmeta__store *store = txn->store;

	for (uint32_t i = 0; i < SHMETA_TOUCHED_WORDS / 64; i++)
		for (uint64_t bits = store->touching[i]; bits != 0; bits &= bits - 1)
			shmeta_publish(&store->touched[i * 64 + (uint32_t)__builtin_ctzll(bits)],
			               txn->number); /* PAIR 2: touch before commit */
	/* Early is harmless here too: who sees it before the commit only looks again. */
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		if (txn->classes & 1u << cls)
			shmeta_publish(&store->gen->stamp[cls].changed_txn, txn->number);
}

/* A page that was allocated and released within the transaction is counted by LMDB and not written:
 * the file may end before it. Readers and later writers take a file that is shorter than its commit
 * says for one that was cut off, see shmeta__data_check(). */
static void lengthen(struct shmeta__store *store)
{
	uint64_t bytes;
	MDB_envinfo info;
	struct stat st;
	int fd;

	if (mdb_env_info(store->env, &info) != 0 || mdb_env_get_fd(store->env, &fd) != 0 || fstat(fd, &st) < 0)
		return;
	bytes = ((uint64_t)info.me_last_pgno + 1) * store->page_bytes;
	/* When it fails the store is taken for a cut one once, and made anew. */
	if (bytes > (uint64_t)st.st_size && ftruncate(fd, (off_t)bytes) < 0)
		return;
}

/* Content may grow up to its limit; beyond it only what does not grow is taken. */
static enum shmeta_status check_room(struct shmeta__txn *txn, struct shmeta_err *err)
{
	struct shmeta__store *store = txn->store;
	uint64_t content;
	int rc = store_content_bytes(store, txn->lmdb, &content);

	if (rc != 0)
		return store_fail(err, rc, "store.%llu: what it holds", (unsigned long long)store->number);
	if (content <= txn->content || content <= store_content_max(store))
		return SHMETA_OK;
	return shmeta_fail(err, SHMETA_ERR_FULL,
	                   "store.%llu: %llu bytes of content, of at most %llu (the rest is for what removes)",
	                   (unsigned long long)store->number, (unsigned long long)content,
	                   (unsigned long long)store_content_max(store));
}

enum shmeta_status shmeta__txn_commit(struct shmeta__txn *txn, uint64_t *ret_txn, struct shmeta_err *err)
{
	struct shmeta__store *store = txn->store;
	enum shmeta_status status = SHMETA_OK;
	uint64_t number = txn->number;
	int rc;

	if (!txn->write) {
		shmeta__txn_abort(txn);
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a read transaction cannot be committed");
	}
	if (memcmp(&store->counters, &store->saved, sizeof store->counters) != 0 && txn->failed == SHMETA_OK)
		status = shmeta__put(txn, SHMETA_DB_META, SHMETA_META_COUNTERS, strlen(SHMETA_META_COUNTERS),
		                     &store->counters, sizeof store->counters, err);
	else if (txn->failed != SHMETA_OK)
		status = shmeta_fail(err, txn->failed, "%s", txn->why.text);
	if (status != SHMETA_OK) {
		shmeta__txn_abort(txn);
		return status;
	}
	if (!txn->changed) {
		*ret_txn = number - 1;
		shmeta__txn_abort(txn);
		return SHMETA_OK;
	}
	status = check_room(txn, err);
	if (status != SHMETA_OK) {
		shmeta__txn_abort(txn);
		return status;
	}
	publish_touched(txn);
	step(store, "touched");
	shmeta_store(&store->gen->committing, number); /* PAIR 1: pin before commit */
	step(store, "committing");
	rc = mdb_txn_commit(txn->lmdb);
	if (rc == 0) {
		store->saved = store->counters;
		lengthen(store);
		step(store, "written");
		if (store->journal != NULL)
			shmeta__journal_put(store->journal, number, txn->keys, txn->key_bytes, txn->key_count);
		shmeta_store(&store->gen->committed, number); /* PAIR 1: pin before commit */
		shmeta_publish(&store->gen->commit_futex, (uint32_t)number);
		(void)syscall(SYS_futex, &store->gen->commit_futex, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		wake_touched(store);
		if (txn->committed != NULL)
			txn->committed(txn->committed_arg, store->touching);
		step(store, "committed");
		/* After `committed`, so that whoever begins later than the proxy's time begins on
		 * this commit. When it fails the next begin tries again, and does not begin without
		 * it. */
		(void)store_proxy_take(store, NULL);
		*ret_txn = number;
	} else {
		MDB_txn *probe;

		status = store_fail(err, rc, "store.%llu: committing", (unsigned long long)store->number);
		/* Only a failed write of the meta page leaves the environment unusable. */
		rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &probe);
		if (rc == 0)
			mdb_txn_abort(probe);
		store->broken = rc == MDB_PANIC;
	}
	leave(txn);
	return status;
}

void shmeta__touch(struct shmeta__txn *txn, uint32_t word)
{
	word %= SHMETA_TOUCHED_WORDS;
	txn->store->touching[word / 64] |= UINT64_C(1) << word % 64;
}

void shmeta__touch_class(struct shmeta__txn *txn, enum shmeta_class cls)
{
	txn->classes |= 1u << cls;
}

void shmeta__txn_watch(struct shmeta__txn *txn, shmeta__committed_fn *committed, void *arg)
{
	txn->committed = committed;
	txn->committed_arg = arg;
}

void shmeta__txn_keys(struct shmeta__txn *txn, const void *keys, size_t bytes, uint32_t count)
{
	txn->keys = keys;
	txn->key_bytes = bytes;
	txn->key_count = count;
}

uint64_t shmeta__txn_number(struct shmeta__txn *txn)
{
	return txn->number;
}

/* ---- get, put, delete ---- */

/* LMDB compares integer keys as aligned words. *number holds the copy. */
static MDB_val key_of(enum shmeta_db db, const void *key, size_t key_bytes, uint64_t *number)
{
	if (store_db_integer(db) && key_bytes == sizeof *number) {
		memcpy(number, key, sizeof *number);
		return (MDB_val){sizeof *number, number};
	}
	return (MDB_val){key_bytes, (void *)(uintptr_t)key};
}

static bool key_ok(enum shmeta_db db, size_t key_bytes)
{
	size_t most = db == SHMETA_DB_QUARANTINE ? (size_t)SHMETA_QUARANTINE_KEY_MAX
	              : db == SHMETA_DB_META     ? (size_t)SHMETA_ABSENT_KEY_MAX
	                                         : (size_t)SHMETA_KEY_MAX;

	return store_db_integer(db) ? key_bytes == 8 : key_bytes >= 1 && key_bytes <= most;
}

static enum shmeta_status bad_key(enum shmeta_db db, size_t key_bytes, struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "database '%s': a key of %zu bytes", store_db_name(db),
	                   key_bytes);
}

/* May it be changed? */
static enum shmeta_status writable(struct shmeta__txn *txn, enum shmeta_db db, size_t key_bytes, struct shmeta_err *err)
{
	if (!txn->write)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a read transaction changes nothing");
	if (!key_ok(db, key_bytes))
		return bad_key(db, key_bytes, err);
	if (txn->failed != SHMETA_OK)
		return shmeta_fail(err, txn->failed, "%s", txn->why.text);
	return SHMETA_OK;
}

static enum shmeta_status change_failed(struct shmeta__txn *txn, enum shmeta_db db, int rc, struct shmeta_err *err)
{
	txn->failed = store_fail(&txn->why, rc, "store.%llu: changing database '%s'",
	                         (unsigned long long)txn->store->number, store_db_name(db));
	return shmeta_fail(err, txn->failed, "%s", txn->why.text);
}

enum shmeta_status shmeta__get(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                               const void **ret_value, size_t *ret_bytes, struct shmeta_err *err)
{
	uint64_t number;
	MDB_val k = key_of(db, key, key_bytes, &number), v;
	int rc;

	if (!key_ok(db, key_bytes))
		return bad_key(db, key_bytes, err);
	rc = store_get(txn->store, txn->lmdb, db, &k, &v);
	if (rc == MDB_NOTFOUND)
		return SHMETA_ABSENT;
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: reading database '%s'", (unsigned long long)txn->store->number,
		                  store_db_name(db));
	*ret_value = v.mv_data;
	*ret_bytes = v.mv_size;
	return SHMETA_OK;
}

enum shmeta_status shmeta__put(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                               const void *value, size_t bytes, struct shmeta_err *err)
{
	uint64_t number;
	MDB_val k = key_of(db, key, key_bytes, &number);
	enum shmeta_status status = writable(txn, db, key_bytes, err);
	int rc;

	if (status != SHMETA_OK)
		return status;
	rc = store_put(txn->store, txn->lmdb, db, &k, value, bytes);
	if (rc != 0)
		return change_failed(txn, db, rc, err);
	txn->changed = true;
	return SHMETA_OK;
}

enum shmeta_status shmeta__delete(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                                  struct shmeta_err *err)
{
	uint64_t number;
	MDB_val k = key_of(db, key, key_bytes, &number);
	enum shmeta_status status = writable(txn, db, key_bytes, err);
	int rc;

	if (status != SHMETA_OK)
		return status;
	rc = mdb_del(txn->lmdb, txn->store->dbi[db], &k, NULL);
	if (rc == MDB_NOTFOUND)
		return SHMETA_ABSENT;
	if (rc != 0)
		return change_failed(txn, db, rc, err);
	txn->changed = true;
	return SHMETA_OK;
}

/* ---- blocks ---- */

static enum shmeta_status pager_alloc(void *arg, size_t bytes, uint64_t *ret_id, uint64_t *ret_locator,
                                      void **ret_block)
{
	struct shmeta__txn *txn = arg;
	struct shmeta__store *store = txn->store;
	uint64_t id = store->counters.next_block_id;
	MDB_val key = {sizeof id, &id}, value = {bytes, NULL};
	enum shmeta_status status = writable(txn, SHMETA_DB_BLOCKS, sizeof id, NULL);
	struct store_page page;
	int rc;

	if (status != SHMETA_OK)
		return status;
	if (bytes == 0 || (bytes + sizeof page) % SHMETA_PAGE != 0)
		return SHMETA_ERR_INVALID_ARGUMENT;
	rc = mdb_put(txn->lmdb, store->dbi[SHMETA_DB_BLOCKS], &key, &value, MDB_RESERVE | MDB_NOOVERWRITE);
	if (rc != 0)
		return change_failed(txn, SHMETA_DB_BLOCKS, rc, NULL);
	store->counters.next_block_id++;
	txn->changed = true;
	memcpy(&page, (const uint8_t *)value.mv_data - sizeof page, sizeof page);
	/* LMDB hands out recycled buffers: what the caller leaves unwritten must not be somebody's
	 * old rows. */
	memset(value.mv_data, 0, value.mv_size);
	*ret_id = id;
	*ret_locator = page.number;
	*ret_block = value.mv_data;
	return SHMETA_OK;
}

static enum shmeta_status pager_release(void *arg, uint64_t id)
{
	enum shmeta_status status = shmeta__delete(arg, SHMETA_DB_BLOCKS, &id, sizeof id, NULL);

	return status == SHMETA_ABSENT ? SHMETA_ERR_CORRUPT : status;
}

static enum shmeta_status pager_at(void *arg, uint64_t id, const void **ret_block, size_t *ret_bytes)
{
	enum shmeta_status status = shmeta__get(arg, SHMETA_DB_BLOCKS, &id, sizeof id, ret_block, ret_bytes, NULL);

	return status == SHMETA_ABSENT ? SHMETA_ERR_CORRUPT : status;
}

struct shmeta__pager shmeta__txn_pager(struct shmeta__txn *txn)
{
	return (struct shmeta__pager){.arg = txn, .alloc = pager_alloc, .release = pager_release, .at = pager_at};
}

struct shmeta__pages shmeta__txn_pages(struct shmeta__txn *txn)
{
	struct shmeta__store *store = txn->store;
	struct shmeta__pages pages = {.base = store->base, .page_bytes = store->page_bytes};
	MDB_envinfo info;
	struct stat st;

	/* What was committed when the transaction began does not grow. */
	if (txn->readable == 0 && mdb_env_info(store->env, &info) == 0 &&
	    fstatat(store->dir_fd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) == 0) {
		txn->readable = (info.me_last_pgno + 1) * store->page_bytes;
		if (txn->readable > (uint64_t)st.st_size)
			txn->readable = (uint64_t)st.st_size;
	}
	pages.bytes = txn->readable;
	return pages;
}

/* ---- cursors ---- */

enum shmeta_status shmeta__cursor_open(struct shmeta__txn *txn, enum shmeta_db db, const void *key, size_t key_bytes,
                                       struct shmeta__cursor **ret, struct shmeta_err *err)
{
	struct shmeta__cursor *cursor;
	int rc;

	if (key != NULL && !key_ok(db, key_bytes))
		return bad_key(db, key_bytes, err);
	cursor = calloc(1, sizeof *cursor);
	if (cursor == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory");
	rc = mdb_cursor_open(txn->lmdb, txn->store->dbi[db], &cursor->lmdb);
	if (rc != 0) {
		free(cursor);
		return store_fail(err, rc, "store.%llu: walking database '%s'", (unsigned long long)txn->store->number,
		                  store_db_name(db));
	}
	cursor->txn = txn;
	cursor->db = db;
	if (key != NULL) {
		cursor->first_bytes = key_bytes;
		memcpy(cursor->first, key, key_bytes);
	}
	*ret = cursor;
	return SHMETA_OK;
}

enum shmeta_status shmeta__cursor_next(struct shmeta__cursor *cursor, const void **ret_key, size_t *ret_key_bytes,
                                       const void **ret_value, size_t *ret_bytes, struct shmeta_err *err)
{
	MDB_val k, v, sentinel = store_sentinel(cursor->db);
	int rc;

	if (cursor->ended)
		return SHMETA_END;
	if (!cursor->begun && cursor->first_bytes > 0) {
		k = key_of(cursor->db, cursor->first, cursor->first_bytes, &cursor->number);
		rc = mdb_cursor_get(cursor->lmdb, &k, &v, MDB_SET_RANGE);
	} else {
		rc = mdb_cursor_get(cursor->lmdb, &k, &v, MDB_NEXT);
	}
	cursor->begun = true;
	if (rc == 0 && k.mv_size == sentinel.mv_size && memcmp(k.mv_data, sentinel.mv_data, k.mv_size) == 0)
		rc = mdb_cursor_get(cursor->lmdb, &k, &v, MDB_NEXT);
	if (rc == 0 && !shmeta__unseal(cursor->db, k.mv_data, k.mv_size, v.mv_data, &v.mv_size))
		rc = MDB_CORRUPTED;
	cursor->ended = rc != 0;
	if (rc == MDB_NOTFOUND)
		return SHMETA_END;
	if (rc != 0)
		return store_fail(err, rc, "store.%llu: walking database '%s'",
		                  (unsigned long long)cursor->txn->store->number, store_db_name(cursor->db));
	*ret_key = k.mv_data;
	*ret_key_bytes = k.mv_size;
	*ret_value = v.mv_data;
	*ret_bytes = v.mv_size;
	return SHMETA_OK;
}

void shmeta__cursor_close(struct shmeta__cursor *cursor)
{
	if (cursor == NULL)
		return;
	mdb_cursor_close(cursor->lmdb);
	free(cursor);
}

/* ---- what the store keeps of its own ---- */

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

enum shmeta_status shmeta__tenant(struct shmeta__txn *txn, const char *tenant, size_t bytes, int create,
                                  uint32_t *ret_number, struct shmeta_err *err)
{
	struct shmeta__store *store = txn->store;
	size_t prefix = strlen(SHMETA_META_TENANT), value_bytes;
	uint8_t key[sizeof SHMETA_META_TENANT + SHMETA_TENANT_MAX];
	const char *wrong = shmeta__name_error(tenant, bytes, SHMETA_TENANT_MAX);
	enum shmeta_status status;
	const void *value;
	uint32_t number;

	if (wrong != NULL)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "tenant: %s", wrong);
	memcpy(key, SHMETA_META_TENANT, prefix);
	memcpy(key + prefix, tenant, bytes);
	status = shmeta__get(txn, SHMETA_DB_META, key, prefix + bytes, &value, &value_bytes, err);
	if (status == SHMETA_OK) {
		if (value_bytes != sizeof number)
			return shmeta_fail(err, SHMETA_ERR_CORRUPT, "store.%llu: a tenant's number has %zu bytes",
			                   (unsigned long long)store->number, value_bytes);
		memcpy(ret_number, value, sizeof number);
		return SHMETA_OK;
	}
	if (status != SHMETA_ABSENT || !create)
		return status;
	if (store->counters.next_tenant >= UINT32_MAX)
		return shmeta_fail(err, SHMETA_ERR_FULL, "store.%llu: tenant numbers are used up",
		                   (unsigned long long)store->number);
	number = (uint32_t)store->counters.next_tenant;
	status = shmeta__put(txn, SHMETA_DB_META, key, prefix + bytes, &number, sizeof number, err);
	if (status != SHMETA_OK)
		return status;
	store->counters.next_tenant++;
	*ret_number = number;
	return SHMETA_OK;
}
