/* SPDX-License-Identifier: Apache-2.0
 * Which offsets of which partitions the lookups are asked for. */
#include <stdlib.h>

#include "bench/queries.h"

enum { HOT_SEGMENTS = 4, REPEATS = 8, SEALED_LEAST = 600, SEALED_MOST = 8000 };

static struct query *room(size_t count)
{
	struct query *q = calloc(count, sizeof *q);

	if (q == NULL)
		die("out of memory");
	return q;
}

static uint32_t spread(const struct bench *b, uint64_t i, uint32_t of)
{
	return (uint32_t)(i * b->part_count / of);
}

static struct query ask(const struct bench *b, uint32_t part, uint64_t row, uint64_t *seed)
{
	return (struct query){part, (uint32_t)row, offset_in(b, &b->parts[part], row, seed)};
}

struct query *queries_random(const struct bench *b, size_t count, uint32_t partitions, uint64_t *seed)
{
	uint32_t chosen = partitions < b->part_count ? partitions : b->part_count;
	struct query *q = room(count);

	for (size_t i = 0; i < count; i++) {
		uint64_t row = rng(seed) % b->row_count;
		uint32_t lo = 0, hi = b->part_count;

		if (chosen < b->part_count) {
			lo = spread(b, rng(seed) % chosen, chosen);
			row = b->parts[lo].first + rng(seed) % b->parts[lo].count;
		}
		while (chosen == b->part_count && hi - lo > 1) {
			uint32_t mid = lo + (hi - lo) / 2;

			if (b->parts[mid].first <= row)
				lo = mid;
			else
				hi = mid;
		}
		q[i] = ask(b, lo, row, seed);
	}
	return q;
}

struct query *queries_hot(const struct bench *b, size_t count, uint64_t *seed)
{
	struct query *q = room(count);

	for (size_t i = 0; i < count; i++) {
		uint32_t at = spread(b, rng(seed) % HOT_PARTITIONS, HOT_PARTITIONS);
		const struct part *p = &b->parts[at];

		q[i] = ask(b, at,
		           p->first + p->count - 1 - rng(seed) % (p->count < HOT_SEGMENTS ? p->count : HOT_SEGMENTS),
		           seed);
	}
	return q;
}

struct query *queries_tail(const struct bench *b, size_t count, uint64_t *seed)
{
	struct query *q = room(count);

	for (size_t i = 0; i < count; i++) {
		uint32_t at = spread(b, rng(seed) % HOT_PARTITIONS, HOT_PARTITIONS);

		q[i] = ask(b, at, b->parts[at].first + b->parts[at].count - 1, seed);
	}
	return q;
}

struct query *queries_sealed(const struct bench *b, size_t count, uint64_t *seed)
{
	struct query *q = room(count);
	uint32_t many[HOT_PARTITIONS], n = 0;

	for (uint32_t i = 0; i < b->part_count && n < HOT_PARTITIONS; i++)
		if (b->parts[i].count >= SEALED_LEAST && b->parts[i].count <= SEALED_MOST)
			many[n++] = i;
	if (n == 0)
		die("no partition has %d segments", SEALED_LEAST);
	for (size_t i = 0; i < count; i++) {
		uint32_t at = many[rng(seed) % n];

		q[i] = ask(b, at, b->parts[at].first, seed);
	}
	return q;
}

struct query *queries_repeat(const struct bench *b, size_t count, uint64_t *seed)
{
	struct query *q = room(count);

	for (size_t i = 0; i < count; i += REPEATS) {
		uint64_t turn = i / REPEATS;
		uint32_t at = spread(b, turn % HOT_PARTITIONS, HOT_PARTITIONS);
		uint64_t row = b->parts[at].first + turn / HOT_PARTITIONS % b->parts[at].count, step;
		struct query last = ask(b, at, row, seed);

		step = (last.offset - b->rows[row].base) / REPEATS;
		for (size_t k = 0; k < REPEATS && i + k < count; k++)
			q[i + k] = (struct query){at, last.row, b->rows[row].base + k * step};
	}
	return q;
}
