/* SPDX-License-Identifier: Apache-2.0
 * Traces of lookups. */
#include "bench/traces.h"

#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"

const char *const trace_names[TRACE_KINDS] = {"zipf", "scan", "shift", "loop", "tail"};

static double unit(uint64_t *seed)
{
	return (double)(rng(seed) >> 11) / 9007199254740992.0;
}

/* Zipf 1.0: the cumulative weights of the ranks, searched by halving. */
struct zipf {
	double *sum;
	uint32_t keys;
};

static struct zipf zipf_new(uint32_t keys)
{
	struct zipf z = {malloc(keys * sizeof *z.sum), keys};
	double sum = 0;

	if (z.sum == NULL)
		die("out of memory");
	for (uint32_t i = 0; i < keys; i++)
		z.sum[i] = sum += 1.0 / (i + 1);
	return z;
}

static uint32_t zipf_rank(const struct zipf *z, uint64_t *seed)
{
	double u = unit(seed) * z->sum[z->keys - 1];
	uint32_t low = 0, count = z->keys - 1;

	while (count > 0) {
		uint32_t half = count / 2;

		if (z->sum[low + half] < u) {
			low += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return low;
}

static uint32_t tail_key(uint32_t i, uint32_t keys, uint64_t *seed)
{
	uint32_t newest = keys / 4 + i / 10; /* there is something behind the first ones */
	double back = rng(seed) % 20 != 0 ? -2000 * log(1 - unit(seed)) : unit(seed) * keys / 4;

	return (newest - (uint32_t)fmin(back, newest)) % keys;
}

uint32_t *trace_make(enum trace_kind kind, uint32_t keys, uint32_t room, uint32_t count, uint64_t seed)
{
	struct zipf z = zipf_new(keys);
	uint32_t *key = malloc(count * sizeof *key), scan = 0;

	if (key == NULL)
		die("out of memory");
	for (uint32_t i = 0; i < count; i++)
		switch (kind) {
		case TRACE_SCAN:
			key[i] = i % 100000 < 10000 ? scan++ % keys : zipf_rank(&z, &seed);
			break;
		case TRACE_SHIFT:
			key[i] = (zipf_rank(&z, &seed) + i / 2000) % keys;
			break;
		case TRACE_LOOP:
			key[i] = i % (room + room / 5);
			break;
		case TRACE_TAIL:
			key[i] = tail_key(i, keys, &seed);
			break;
		default:
			key[i] = zipf_rank(&z, &seed);
			break;
		}
	/* Which keys are popular says nothing of their order. The multiplier is odd and no multiple
	 * of 5. */
	for (uint32_t i = 0; i < count && kind != TRACE_SCAN; i++)
		key[i] = (uint32_t)(key[i] * UINT64_C(7368787) % keys);
	free(z.sum);
	return key;
}
