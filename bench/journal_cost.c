/* SPDX-License-Identifier: Apache-2.0
 * What the change journal costs: commits that change the record of one partition each, with its key told and without, by the writer's own
 * code for both. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "shm/store/store.h"
#include "writer/apply/changed_keys.h"

enum { PARTITIONS = 1000, COMMITS = 4000, STORE_MB = 64, RECORD = 300 };

static void must(enum shmeta_status status, const char *what, const struct shmeta_err *err)
{
	if (status != SHMETA_OK)
		die("journal: %s: %s", what, err->text);
}

static void note(const char *name, const struct span *begun)
{
	double wall = now_s() - begun->wall_s, cpu = cpu_s() - begun->cpu_s;
	struct result *r = result_get(name);

	if (r == NULL)
		r = result_add(name, "commits/s");
	result_value(r, COMMITS / wall);
	result_cpu(r, COMMITS / cpu);
}

static void commits(struct shmeta__store *store, struct changed_keys *keys, bool told, uint64_t *next)
{
	struct span begun = span_begin();
	uint8_t record[RECORD] = {0};
	struct shmeta_err err;
	uint64_t number;

	for (int i = 0; i < COMMITS; i++, ++*next) {
		uint64_t key = shmeta__part_key(1, (uint32_t)(*next % PARTITIONS));
		struct shmeta__txn *txn;

		memcpy(record, next, sizeof *next);
		must(shmeta__txn_begin(store, UINT64_MAX, &txn, &err), "begin", &err);
		must(shmeta__put(txn, SHMETA_DB_PARTS, &key, sizeof key, record, sizeof record, &err), "put", &err);
		shmeta__touch(txn, shmeta__touched_partition(1, (uint32_t)key));
		if (told) {
			changed_keys_begin(keys);
			changed_keys_note(keys, txn, SHMETA_DB_PARTS, &key, sizeof key, false);
			shmeta__txn_keys(txn, keys->bytes, keys->used, keys->count);
		}
		must(shmeta__txn_commit(txn, &number, &err), "commit", &err);
	}
	note(told ? "journal.commits" : "journal.commits_without", &begun);
}

/* The topic whose name the keys carry. */
static void name_topic(struct shmeta__store *store)
{
	uint8_t name[SHMETA_KEY_MAX];
	struct shmeta__txn *txn;
	struct shmeta_err err;
	uint64_t id = 1, number;

	must(shmeta__txn_begin(store, UINT64_MAX, &txn, &err), "begin", &err);
	must(shmeta__put(txn, SHMETA_DB_TOPICS, &id, sizeof id, name, shmeta__name_key(name, 1, "bench-journal", 13),
	                 &err),
	     "put", &err);
	must(shmeta__txn_commit(txn, &number, &err), "commit", &err);
}

void bench_journal(struct bench *b)
{
	const struct shmeta_store_format format = {.source = "bench"};
	struct changed_keys keys = {.bytes = NULL};
	struct shmeta__store *store;
	struct shmeta_err err;
	uint64_t next = 1;
	int dir = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		die("journal: %s", b->dir);
	must(shmeta__store_create(dir, 1, (uint64_t)STORE_MB << 20, 0, &format, &store, &err), "store", &err);
	name_topic(store);
	for (int round = 0; round < b->rounds; round++) {
		commits(store, &keys, round % 2 == 0, &next);
		commits(store, &keys, round % 2 != 0, &next);
	}
	target_min_ratio("journal.commits", 0.9, "journal.commits_without");
	changed_keys_free(&keys);
	shmeta__store_close(store);
	(void)shmeta__store_remove(dir, 1, &err);
	(void)close(dir);
}
