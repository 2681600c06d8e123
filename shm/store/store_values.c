/* SPDX-License-Identifier: Apache-2.0
 * What every other file of the store says to LMDB: its codes as statuses, values with their seals,
 * and how much content there is.
 *
 * A change copies the pages it touches before the former ones become free, so a store whose content
 * fills it could not even shrink. Therefore content grows to all but a part of max_bytes,
 * STORE_KEPT_BACK; what does not make it larger is always taken, as soon as the pages that it needs
 * are no reader's. */
#include "shm/store/store_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "shm/record/entry.h"

enum { STORE_KEPT_BACK = 32 }; /* one in so many */

enum shmeta_status store_fail(struct shmeta_err *err, int code, const char *fmt, ...)
{
	enum shmeta_status status;
	struct shmeta_err scrap;
	size_t n;
	va_list ap;

	switch (code) {
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case EIO: /* a full tmpfs: LMDB's write came back short */
		status = SHMETA_ERR_FULL;
		break;
	case ENOMEM:
		status = SHMETA_ERR_NO_MEMORY;
		break;
	case EACCES:
	case EPERM:
		status = SHMETA_ERR_PERMISSION;
		break;
	case MDB_VERSION_MISMATCH:
		status = SHMETA_ERR_VERSION;
		break;
	case MDB_INVALID:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_NOTFOUND:
	case MDB_INCOMPATIBLE:
		status = SHMETA_ERR_CORRUPT;
		break;
	case MDB_BAD_VALSIZE:
	case EINVAL:
		status = SHMETA_ERR_INVALID_ARGUMENT;
		break;
	default:
		status = SHMETA_ERR_SYSTEM;
	}
	if (err == NULL)
		err = &scrap;
	err->code = status;
	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	n = strlen(err->text);
	(void)snprintf(err->text + n, sizeof err->text - n, ": %s%s", mdb_strerror(code),
	               code == EIO ? " (LMDB says so when the file system is full)" : "");
	return status;
}

int store_put(struct shmeta__store *store, MDB_txn *txn, enum shmeta_db db, MDB_val *key, const void *value,
              size_t bytes)
{
	MDB_val v = {bytes, (void *)(uintptr_t)value};
	uint64_t seal;
	int rc;

	if (!shmeta__is_sealed(db))
		return mdb_put(txn, store->dbi[db], key, &v, 0);
	v = (MDB_val){bytes + SHMETA_SEAL_BYTES, NULL};
	rc = mdb_put(txn, store->dbi[db], key, &v, MDB_RESERVE);
	if (rc != 0)
		return rc;
	seal = shmeta__seal(key->mv_data, key->mv_size, value, bytes);
	memcpy(v.mv_data, value, bytes);
	memcpy((uint8_t *)v.mv_data + bytes, &seal, sizeof seal);
	return 0;
}

int store_get(struct shmeta__store *store, MDB_txn *txn, enum shmeta_db db, MDB_val *key, MDB_val *ret_value)
{
	int rc = mdb_get(txn, store->dbi[db], key, ret_value);

	if (rc == 0 && !shmeta__unseal(db, key->mv_data, key->mv_size, ret_value->mv_data, &ret_value->mv_size))
		rc = MDB_CORRUPTED;
	return rc;
}

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
