/* SPDX-License-Identifier: Apache-2.0
 * What lookups are measured against on the same data: flat arrays and a raw LMDB floor search. */
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/queries.h"

/* ---- the flat array ---- */

uint32_t flat_binary(const uint64_t *bases, uint32_t count, uint64_t offset)
{
	uint32_t lo = 0;

	while (count > 1) {
		uint32_t half = count / 2;

		lo = bases[lo + half] <= offset ? lo + half : lo;
		count -= half;
	}
	return lo;
}

uint32_t flat_interpolate(const uint64_t *bases, uint32_t count, uint64_t offset)
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

void flat_figure(const char *name, const struct bench *b, const struct query *q, size_t count, size_t repeat,
                 flat_search *search)
{
	struct span begun = span_begin();
	struct flat_row out;

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			const struct part *p = &b->parts[q[i].part];

			out = b->rows[p->first + search(b->bases + p->first, p->count, q[i].offset)];
			keep(&out);
		}
	span_end(name, begun, (double)(count * repeat));
}

/* ---- raw LMDB: one entry per segment ---- */

static struct {
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	MDB_cursor *cursor;
} raw;

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

void lmdb_build(const struct bench *b)
{
	char path[400];
	uint8_t value[96] = {0};

	(void)snprintf(path, sizeof path, "%s/raw-lmdb", b->dir);
	(void)mkdir(path, 0700);
	must(mdb_env_create(&raw.env), "LMDB");
	must(mdb_env_set_mapsize(raw.env, b->row_count * 256 + (1u << 26)), "LMDB");
	must(mdb_env_open(raw.env, path, MDB_NOSYNC, 0600), path);
	must(mdb_txn_begin(raw.env, NULL, 0, &raw.txn), "LMDB");
	must(mdb_dbi_open(raw.txn, NULL, 0, &raw.dbi), "LMDB");
	for (uint32_t p = 0; p < b->part_count; p++)
		for (uint32_t i = 0; i < b->parts[p].count; i++) {
			const struct flat_row *row = &b->rows[b->parts[p].first + i];
			struct lmdb_key k = lmdb_key(p, row->base);
			MDB_val key = {sizeof k, &k}, data = {sizeof value, value};

			memcpy(value, row, sizeof *row);
			must(mdb_put(raw.txn, raw.dbi, &key, &data, MDB_APPEND), "LMDB put");
		}
	must(mdb_txn_commit(raw.txn), "LMDB commit");
	must(mdb_txn_begin(raw.env, NULL, MDB_RDONLY, &raw.txn), "LMDB");
	must(mdb_cursor_open(raw.txn, raw.dbi, &raw.cursor), "LMDB");
	mdb_txn_reset(raw.txn);
}

void lmdb_figure(const char *name, const struct query *q, size_t count, size_t repeat)
{
	struct span begun = span_begin();
	struct flat_row out;

	for (size_t n = 0; n < repeat; n++)
		for (size_t i = 0; i < count; i++) {
			struct lmdb_key k = lmdb_key(q[i].part, q[i].offset);
			MDB_val key = {sizeof k, &k}, data = {0, NULL};
			int rc;

			must(mdb_txn_renew(raw.txn), "LMDB");
			must(mdb_cursor_renew(raw.txn, raw.cursor), "LMDB");
			rc = mdb_cursor_get(raw.cursor, &key, &data, MDB_SET_RANGE);
			if (rc == MDB_NOTFOUND)
				rc = mdb_cursor_get(raw.cursor, &key, &data, MDB_LAST);
			else if (rc == 0 && memcmp(key.mv_data, &k, sizeof k) != 0)
				rc = mdb_cursor_get(raw.cursor, &key, &data, MDB_PREV);
			must(rc, "LMDB floor");
			memcpy(&out, data.mv_data, sizeof out);
			keep(&out);
			mdb_txn_reset(raw.txn);
		}
	span_end(name, begun, (double)(count * repeat));
}

void lmdb_close(void)
{
	mdb_cursor_close(raw.cursor);
	mdb_txn_abort(raw.txn);
	mdb_env_close(raw.env);
}
