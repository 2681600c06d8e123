/* SPDX-License-Identifier: Apache-2.0
 * What the files behind store.h share. */
#ifndef SHMETA_SHM_STORE_STORE_PRIVATE_H
#define SHMETA_SHM_STORE_STORE_PRIVATE_H

#include <lmdb.h>
#include <stdbool.h>

#include "base/err.h"
#include "shm/page/journal.h"
#include "shm/store/store.h"

/* LMDB's page header, as far as locators depend on it: shmeta__store_prove() compares it with what
 * mdb_get() answers, whenever a store is created or opened. */
struct store_page {
	uint64_t number; /*  0 */
	uint16_t pad;    /*  8 */
	uint16_t flags;  /* 10 */
	uint32_t pages;  /* 12  of an overflow run */
};
_Static_assert(sizeof(struct store_page) == 16, "LMDB's page header");
enum { STORE_PAGE_OVERFLOW = 0x04 };

/* The private reader table: the ladder, copies and read transactions. Nobody else opens it. */
enum { STORE_LOCK_READERS = 512, STORE_PROXIES_MAX = 64 };

/* A read transaction of ours that keeps LMDB from recycling what commit `txn` and later ones can
 * reach. */
struct store_proxy {
	MDB_txn *lmdb;
	uint64_t txn;
	uint64_t taken_at_ns;
};

struct shmeta__store {
	uint64_t number;
	int dir_fd;  /* store.<N>/ */
	bool hold;   /* reopened after MDB_PANIC: wait as after a restart        */
	bool opened; /* found, not made: the former writer's proxies are gone    */
	bool broken; /* LMDB answered MDB_PANIC: reopen at the next begin        */

	MDB_env *env;
	MDB_dbi dbi[SHMETA_DB_COUNT];
	uint64_t max_bytes;
	uint32_t page_bytes;
	const uint8_t *base; /* of LMDB's map */
	uint64_t dev, ino;   /* of data.mdb */

	struct shmeta_generation *gen;
	uint64_t *touched;
	struct shmeta_journal *journal; /* NULL: none could be made; readers are told that it does
                                         * not reach back */
	struct shmeta_store_format format;
	struct shmeta_store_counters counters, saved;

	struct store_proxy proxy[STORE_PROXIES_MAX + 1]; /* ascending by txn */
	uint32_t proxies;
	uint64_t found_at_ns, grace_ns;
	uint64_t (*now_ns)(void *arg);
	void *now_arg;

	struct shmeta__txn *write; /* the open write transaction */
	uint32_t reads;            /* open read transactions */
	uint64_t touching[SHMETA_TOUCHED_WORDS / 64];

	/* Tests look between the steps of a commit. */
	void (*step)(void *arg, const char *where);
	void *step_arg;
};

struct shmeta__txn {
	struct shmeta__store *store;
	MDB_txn *lmdb;
	uint64_t number;
	uint64_t content; /* bytes, when it began */
	bool write, changed;
	uint32_t classes; /* bits of the classes whose records changed */
	const void *keys; /* for the journal: shmeta__txn_keys() */
	size_t key_bytes;
	uint32_t key_count;
	shmeta__committed_fn *committed; /* shmeta__txn_watch(); NULL: nobody is told */
	void *committed_arg;
	uint64_t readable;         /* of the map, as shmeta__txn_pages() found it; 0: not asked
                                    * yet */
	enum shmeta_status failed; /* the first error of a change; then it can only be aborted */
	struct shmeta_err why;     /* its words */
};

/* LMDB's code to a status and a sentence. */
__attribute__((format(printf, 3, 4))) enum shmeta_status store_fail(struct shmeta_err *err, int code, const char *fmt,
                                                                    ...);

/* Values as this format has them: with their seals (shm/record/entry.h). LMDB's codes;
 * MDB_CORRUPTED: a seal is wrong. value must not lie in the store. */
int store_put(struct shmeta__store *store, MDB_txn *txn, enum shmeta_db db, MDB_val *key, const void *value,
              size_t bytes);
int store_get(struct shmeta__store *store, MDB_txn *txn, enum shmeta_db db, MDB_val *key, MDB_val *ret_value);

/* ---- the environment (store_env.c) ---- */

/* Is data.mdb there, a regular file? Notes which. ERR_NOT_RUNNING, ERR_CORRUPT, ERR_SYSTEM. */
enum shmeta_status store_env_find(struct shmeta__store *store, struct shmeta_err *err);
/* Open LMDB's environment and the databases; create: make them, in an empty data.mdb. Nothing stays
 * open when it fails. */
enum shmeta_status store_env_open(struct shmeta__store *store, bool create, struct shmeta_err *err);
/* What LMDB holds is what counts: the page follows it, and the newest commit has its proxy. */
enum shmeta_status store_env_adopt(struct shmeta__store *store, const struct shmeta_journal *like,
                                   struct shmeta_err *err);
/* Close and open the environment again (after MDB_PANIC). */
enum shmeta_status store_reopen(struct shmeta__store *store, struct shmeta_err *err);
/* Map all of data.mdb in dir_fd for reading. name: for sentences, with the directory's. */
enum shmeta_status store_map_data(int dir_fd, const char *name, const uint8_t **ret, uint64_t *ret_bytes,
                                  struct shmeta_err *err);

/* Is it a format record of this program's format? value NULL: there is none. */
enum shmeta_status store_judge_format(uint64_t number, const void *value, size_t bytes, struct shmeta_err *err);

/* What content takes, and may take at most (store_values.c). An LMDB error. */
int store_content_bytes(struct shmeta__store *store, MDB_txn *txn, uint64_t *ret);
uint64_t store_content_max(const struct shmeta__store *store);

/* The ladder (store_proxy.c). */
enum shmeta_status store_proxy_take(struct shmeta__store *store, struct shmeta_err *err);
void store_proxy_drop(struct shmeta__store *store, uint64_t oldest_pin);
void store_proxy_drop_all(struct shmeta__store *store);
uint64_t store_monotonic_ns(void *arg);

static inline bool store_db_integer(enum shmeta_db db)
{
	static const bool integer[SHMETA_DB_COUNT] = {
#define X(name, text, is_integer, what) [SHMETA_DB_##name] = is_integer,
		SHMETA_DB_LIST(X)
#undef X
	};
	return integer[db];
}

static inline const char *store_db_name(enum shmeta_db db)
{
	static const char *const names[SHMETA_DB_COUNT] = {
#define X(name, text, is_integer, what) [SHMETA_DB_##name] = text,
		SHMETA_DB_LIST(X)
#undef X
	};
	return names[db];
}

/* The sentinel's key of a database. */
static inline MDB_val store_sentinel(enum shmeta_db db)
{
	static uint64_t number = SHMETA_SENTINEL_NUMBER;
	static char text[] = SHMETA_SENTINEL_KEY;

	if (store_db_integer(db))
		return (MDB_val){sizeof number, &number};
	return (MDB_val){SHMETA_SENTINEL_BYTES, text};
}

#endif
