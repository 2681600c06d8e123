/* SPDX-License-Identifier: Apache-2.0
 * Percentiles of a histogram. */
#include "tools/monitor/percentile.h"

#include <math.h>

struct buckets {
	const uint64_t *count;
	uint32_t n;
	uint64_t (*floor)(uint32_t i);
};

/* Times spread over powers: what is even in their logarithms has no kink where the buckets get
 * twice as wide. */
static double edge_of(const struct buckets *b, uint32_t i)
{
	return i > 0 ? log((double)b->floor(i)) : log((double)b->floor(1)) - 1;
}

static double width_of(const struct buckets *b, uint32_t i)
{
	return edge_of(b, i + 1) - edge_of(b, i);
}

static double density(const struct buckets *b, uint32_t i)
{
	return i + 1 < b->n ? (double)b->count[i] / width_of(b, i) : 0;
}

/* The logarithm of the density at the left edge of bucket i, between those of the buckets around
 * it; `own`: where one of them is empty. */
static double edge_density(const struct buckets *b, uint32_t i, double own)
{
	double before = i > 0 ? density(b, i - 1) : 0, behind = i < b->n ? density(b, i) : 0;

	if (before == 0 || behind == 0)
		return log(own);
	return (log(before) * width_of(b, i) + log(behind) * width_of(b, i - 1)) /
	       (width_of(b, i - 1) + width_of(b, i));
}

/* Where in a bucket, 0..1, `share` of it lies below, when its density grows or falls by a power
 * from its left edge to its right one. */
static double place_in(double growth, double share)
{
	return fabs(growth) < 1e-6 ? share : log1p(share * expm1(growth)) / growth;
}

static uint64_t percentile(const struct buckets *b, double part)
{
	uint64_t all = 0, below = 0;
	double wanted;

	for (uint32_t i = 0; i < b->n; i++)
		all += b->count[i];
	if (all == 0)
		return UINT64_MAX;
	wanted = part * (double)all;
	for (uint32_t i = 0; i < b->n; i++) {
		uint64_t ns;
		double own;

		if (b->count[i] == 0 || (double)(below + b->count[i]) < wanted) {
			below += b->count[i];
			continue;
		}
		if (i + 1 == b->n)
			return b->floor(i);
		own = density(b, i);
		ns = (uint64_t)exp(edge_of(b, i) +
		                   width_of(b, i) * place_in(edge_density(b, i + 1, own) - edge_density(b, i, own),
		                                             (wanted - (double)below) / (double)b->count[i]));
		return ns > b->floor(i) ? ns : b->floor(i); /* whatever was rounded */
	}
	return b->floor(b->n - 1);
}

uint64_t percentile_of(const uint64_t counts[SHMETA_HISTOGRAM_BUCKETS], double part)
{
	return percentile(&(struct buckets){counts, SHMETA_HISTOGRAM_BUCKETS, shmeta__histogram_floor}, part);
}

uint64_t percentile_of_times(const uint64_t counts[SHMETA_TIMES_BUCKETS], double part)
{
	return percentile(&(struct buckets){counts, SHMETA_TIMES_BUCKETS, shmeta__times_floor}, part);
}
