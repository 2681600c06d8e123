/* SPDX-License-Identifier: Apache-2.0
 * Lookups in one thread, and what they are measured against on the same data: flat arrays and a raw LMDB floor search. */
#include <errno.h>
#include <lmdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/churn.h"

enum { HOT_QUERIES = 4096, HOT_SEGMENTS = 4, RANDOM_QUERIES = 1 << 20 };

struct query {
	uint32_t part, row; /* row: the answer */
	uint64_t offset;
};

static struct {
	struct shmeta *instance;
	struct shmeta_reader *reader;
	struct shmeta_handle **handles; /* by part */
	struct query *hot, *any;
	uint64_t any_at; /* where the random walk goes on */
	MDB_env *lmdb;
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_cursor *cursor;
} r;

static struct query *queries(const struct bench *b, size_t count, bool hot, uint64_t *seed)
{
	struct query *q = calloc(count, sizeof *q);

	if (q == NULL)
		die("out of memory");
	for (size_t i = 0; i < count; i++) {
		uint64_t row = rng(seed) % b->row_count;
		uint32_t lo = 0, hi = b->part_count;

		if (hot) {
			const struct part *p =
				&b->parts[(uint64_t)(rng(seed) % HOT_PARTITIONS) * b->part_count / HOT_PARTITIONS];

			/* As consumers that follow: near the end of the log. */
			row = p->first + p->count - 1 - rng(seed) % (p->count < HOT_SEGMENTS ? p->count : HOT_SEGMENTS);
		}
		while (hi - lo > 1) {
			uint32_t mid = lo + (hi - lo) / 2;

			if (b->parts[mid].first <= row)
				lo = mid;
			else
				hi = mid;
		}
		q[i].part = lo;
		q[i].row = (uint32_t)row;
		q[i].offset = offset_in(b, &b->parts[lo], row, seed);
	}
	return q;
}

/* ---- the flat array --------------------------------------------------------------------------------------------------- */

static uint32_t flat_binary(const uint64_t *bases, uint32_t count, uint64_t offset)
{
	uint32_t lo = 0;

	while (count > 1) {
		uint32_t half = count / 2;

		lo = bases[lo + half] <= offset ? lo + half : lo;
		count -= half;
	}
	return lo;
}

static uint32_t flat_interpolate(const uint64_t *bases, uint32_t count, uint64_t offset)
{
	uint32_t lo = 0, hi = count;

	for (int probes = 0; hi - lo > 8 && probes < 4; probes++) {
		uint64_t first = bases[lo], last = bases[hi - 1];
		uint32_t at;

		if (offset >= last)
			return hi - 1;
		at = lo + (uint32_t)((double)(offset - first) / (double)(last - first) * (double)(hi - 1 - lo));
		if (bases[at] <= offset) {
			lo = at;
			if (hi > at + 8 && bases[at + 8] > offset)
				hi = at + 8;
		} else {
			hi = at;
			if (at > lo + 8 && bases[at - 8] <= offset)
				lo = at - 8;
		}
	}
	return lo + flat_binary(bases + lo, hi - lo, offset);
}

static double flat(const struct bench *b, const struct query *q, size_t count, size_t repeat,
                   uint32_t (*search)(const uint64_t *, uint32_t, uint64_t))
{
	double start = now_s();
	struct flat_row out;

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			const struct part *p = &b->parts[q[i].part];

			out = b->rows[p->first + search(b->bases + p->first, p->count, q[i].offset)];
			keep(&out);
		}
	return (now_s() - start) * 1e9 / (double)(count * repeat);
}

/* ---- raw LMDB: one entry per segment ---------------------------------------------------------------------------------- */

struct lmdb_key {
	uint8_t part[4], pad[4], base[8];
};

static struct lmdb_key lmdb_key(uint32_t part, uint64_t base)
{
	struct lmdb_key k = {.pad = {0}};

	part = __builtin_bswap32(part);
	base = __builtin_bswap64(base);
	memcpy(k.part, &part, sizeof part);
	memcpy(k.base, &base, sizeof base);
	return k;
}

static void must(int rc, const char *what)
{
	if (rc != 0)
		die("%s: %s", what, mdb_strerror(rc));
}

static void lmdb_build(const struct bench *b)
{
	char path[400];
	uint8_t value[96] = {0};

	(void)snprintf(path, sizeof path, "%s/raw-lmdb", b->dir);
	(void)mkdir(path, 0700);
	must(mdb_env_create(&r.lmdb), "LMDB");
	must(mdb_env_set_mapsize(r.lmdb, b->row_count * 256 + (1u << 26)), "LMDB");
	must(mdb_env_open(r.lmdb, path, MDB_NOSYNC, 0600), path);
	must(mdb_txn_begin(r.lmdb, NULL, 0, &r.txn), "LMDB");
	must(mdb_dbi_open(r.txn, NULL, 0, &r.dbi), "LMDB");
	for (uint32_t p = 0; p < b->part_count; p++)
		for (uint32_t i = 0; i < b->parts[p].count; i++) {
			const struct flat_row *row = &b->rows[b->parts[p].first + i];
			struct lmdb_key k = lmdb_key(p, row->base);
			MDB_val key = {sizeof k, &k}, data = {sizeof value, value};

			memcpy(value, row, sizeof *row);
			must(mdb_put(r.txn, r.dbi, &key, &data, MDB_APPEND), "LMDB put");
		}
	must(mdb_txn_commit(r.txn), "LMDB commit");
	must(mdb_txn_begin(r.lmdb, NULL, MDB_RDONLY, &r.txn), "LMDB");
	must(mdb_cursor_open(r.txn, r.dbi, &r.cursor), "LMDB");
	mdb_txn_reset(r.txn);
}

static double lmdb_floor(const struct query *q, size_t count, size_t repeat)
{
	double start = now_s();
	struct flat_row out;

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			struct lmdb_key k = lmdb_key(q[i].part, q[i].offset);
			MDB_val key = {sizeof k, &k}, data = {0, NULL};
			int rc;

			must(mdb_txn_renew(r.txn), "LMDB");
			must(mdb_cursor_renew(r.txn, r.cursor), "LMDB");
			rc = mdb_cursor_get(r.cursor, &key, &data, MDB_SET_RANGE);
			if (rc == MDB_NOTFOUND)
				rc = mdb_cursor_get(r.cursor, &key, &data, MDB_LAST);
			else if (rc == 0 && memcmp(key.mv_data, &k, sizeof k) != 0)
				rc = mdb_cursor_get(r.cursor, &key, &data, MDB_PREV);
			must(rc, "LMDB floor");
			memcpy(&out, data.mv_data, sizeof out);
			keep(&out);
			mdb_txn_reset(r.txn);
		}
	return (now_s() - start) * 1e9 / (double)(count * repeat);
}

/* ---- shmeta ----------------------------------------------------------------------------------------------------------- */

static void begin(void)
{
	enum shmeta_status status;

	while ((status = shmeta_begin(r.reader)) == SHMETA_ERR_CONTENDED)
		;
	if (status != SHMETA_OK)
		die("begin: %s", shmeta_strerror(status));
}

static double begin_end(size_t count)
{
	double start = now_s();

	for (size_t i = 0; i < count; i++) {
		begin();
		(void)shmeta_end(r.reader);
	}
	return (now_s() - start) * 1e9 / (double)count;
}

static void open_handles(const struct bench *b)
{
	r.handles = calloc(b->part_count, sizeof(struct shmeta_handle *));
	if (r.handles == NULL)
		die("out of memory");
	begin();
	for (uint32_t i = 0; i < b->part_count; i++) {
		const struct part *p = &b->parts[i];

		if (shmeta_partition_open(r.reader, p->topic, strlen(p->topic), p->partition_id, &r.handles[i]) !=
		    SHMETA_OK)
			die("%s/%u: no handle", p->topic, p->partition_id);
	}
	(void)shmeta_end(r.reader);
}

/* Each lookup has a snapshot of its own, and asks for its age. */
static double find_handle(const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_segment s;
	struct shmeta_freshness f;
	double start = now_s();

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			enum shmeta_status status;

			begin();
			status = shmeta_find_segment(r.handles[q[i].part], q[i].offset, NULL, &s, &f);
			(void)shmeta_end(r.reader);
			if (status != SHMETA_OK || s.base_offset != b->bases[q[i].row])
				die("find %s/%u %llu: %s", b->parts[q[i].part].topic, b->parts[q[i].part].partition_id,
				    (unsigned long long)q[i].offset, shmeta_strerror(status));
			keep(&f);
		}
	return (now_s() - start) * 1e9 / (double)(count * repeat);
}

static double find_name(const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_segment s;
	struct shmeta_freshness f;
	double start = now_s();

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			const struct part *p = &b->parts[q[i].part];
			enum shmeta_status status;

			begin();
			status = shmeta_find_segment_named(r.reader, p->topic, strlen(p->topic), p->partition_id,
			                                   q[i].offset, NULL, &s, &f);
			(void)shmeta_end(r.reader);
			if (status != SHMETA_OK || s.base_offset != b->bases[q[i].row])
				die("find %s/%u by name: %s", p->topic, p->partition_id, shmeta_strerror(status));
			keep(&f);
		}
	return (now_s() - start) * 1e9 / (double)(count * repeat);
}

static double get_topic(const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_topic t;
	struct shmeta_freshness f;
	double start = now_s();

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			const struct part *p = &b->parts[q[i].part];
			enum shmeta_status status;

			begin();
			status = shmeta_get_topic(r.reader, p->topic, strlen(p->topic), NULL, &t, &f);
			(void)shmeta_end(r.reader);
			if (status != SHMETA_OK)
				die("get_topic %s: %s", p->topic, shmeta_strerror(status));
			keep(&t);
		}
	return (now_s() - start) * 1e9 / (double)(count * repeat);
}

static double get_partition(const struct bench *b, const struct query *q, size_t count, size_t repeat)
{
	struct shmeta_partition p;
	struct shmeta_freshness f;
	double start = now_s();

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			enum shmeta_status status;

			begin();
			status = shmeta_get_partition(r.handles[q[i].part], NULL, &p, &f);
			(void)shmeta_end(r.reader);
			if (status != SHMETA_OK)
				die("get_partition %s: %s", b->parts[q[i].part].topic, shmeta_strerror(status));
			keep(&p);
		}
	return (now_s() - start) * 1e9 / (double)(count * repeat);
}

static double list_topics(void)
{
	struct shmeta_iter *iter = NULL;
	struct shmeta_topic t;
	size_t count = 0;
	double start = now_s(), took;

	begin();
	if (shmeta_list_topics(r.reader, NULL, 0, 0, &iter) != SHMETA_OK)
		die("list_topics failed");
	while (shmeta_next_topic(iter, &t, NULL) == SHMETA_OK)
		count++;
	took = now_s() - start;
	shmeta_iter_free(iter);
	(void)shmeta_end(r.reader);
	return took * 1e9 / (double)count;
}

static const struct query *next_random(size_t count)
{
	const struct query *q = r.any + r.any_at;

	r.any_at = (r.any_at + count) % RANDOM_QUERIES;
	return q;
}

void bench_reads(struct bench *b)
{
	uint64_t seed = b->seed;
	size_t batch = RANDOM_QUERIES / 8;

	r.instance = env_open(b->instance);
	r.reader = env_reader(r.instance);
	r.hot = queries(b, HOT_QUERIES, true, &seed);
	r.any = queries(b, RANDOM_QUERIES, false, &seed);
	open_handles(b);
	lmdb_build(b);
	(void)find_handle(b, r.any, RANDOM_QUERIES, 1); /* every block touched and verified once */
	for (int round = 0; round < b->rounds; round++) {
		pid_t churn;
		uint64_t before;
		double at;

		result_value(result_add("limit.flat.hot", "ns"), flat(b, r.hot, HOT_QUERIES, 300, flat_binary));
		result_value(result_add("snapshot.begin_end", "ns"), begin_end(2000000));
		result_value(result_add("find_segment.handle.hot", "ns"), find_handle(b, r.hot, HOT_QUERIES, 200));
		result_value(result_add("find_segment.name.hot", "ns"), find_name(b, r.hot, HOT_QUERIES, 100));
		result_value(result_add("get_topic.hot", "ns"), get_topic(b, r.hot, HOT_QUERIES, 100));
		result_value(result_add("get_partition.hot", "ns"), get_partition(b, r.hot, HOT_QUERIES, 200));
		result_value(result_add("peer.lmdb_floor.hot", "ns"), lmdb_floor(r.hot, HOT_QUERIES, 50));
		result_value(result_add("limit.flat.random", "ns"), flat(b, next_random(batch), batch, 1, flat_binary));
		result_value(result_add("limit.flat.interpolation", "ns"),
		             flat(b, next_random(batch), batch, 1, flat_interpolate));
		result_value(result_add("find_segment.handle.random", "ns"),
		             find_handle(b, next_random(batch), batch, 1));
		result_value(result_add("get_partition.random", "ns"), get_partition(b, next_random(batch), batch, 1));
		result_value(result_add("peer.lmdb_floor.random", "ns"), lmdb_floor(next_random(batch), batch, 1));
		result_value(result_add("list_topics.per_topic", "ns"), list_topics());

		churn = churn_start(b, 1000);
		(void)find_handle(b, next_random(batch), batch, 1); /* while the churn gets going */
		before = churn_commits(r.instance);
		at = now_s();
		result_value(result_add("find_segment.handle.random_committing", "ns"),
		             find_handle(b, next_random(batch), batch, 4));
		result_value(result_add("commits_while_measuring", "1/s"),
		             (double)(churn_commits(r.instance) - before) / (now_s() - at));
		env_kill(&churn, SIGKILL);
	}
	target_max("find_segment.handle.hot", 30);
	target_max_ratio("find_segment.handle.hot", 5, "limit.flat.hot");
	target_max("find_segment.name.hot", 120);
	target_max("get_topic.hot", 80);
	target_max("get_partition.hot", 30);
	target_max_ratio("find_segment.handle.random", 0.2, "peer.lmdb_floor.random");
	target_max_ratio("find_segment.handle.random", 1, "limit.flat.random");
	target_max_ratio("find_segment.handle.random_committing", 0.3, "peer.lmdb_floor.random");
	mdb_cursor_close(r.cursor);
	mdb_txn_abort(r.txn);
	mdb_env_close(r.lmdb);
	shmeta_reader_free(r.reader);
	shmeta_close(r.instance);
	free(r.handles);
	free(r.hot);
	free(r.any);
}
