/* SPDX-License-Identifier: Apache-2.0
 * Percentiles of a histogram. */
#include "tools/monitor/percentile.h"

#include <math.h>

/* Times spread over powers: what is even in their logarithms has no kink where the buckets get twice as wide. */
static double edge_of(uint32_t i)
{
	return i > 0 ? log((double)shmeta__histogram_floor(i)) : log((double)shmeta__histogram_floor(1)) - 1;
}

static double width_of(uint32_t i)
{
	return edge_of(i + 1) - edge_of(i);
}

static double density(const uint64_t counts[SHMETA_HISTOGRAM_BUCKETS], uint32_t i)
{
	return i + 1 < SHMETA_HISTOGRAM_BUCKETS ? (double)counts[i] / width_of(i) : 0;
}

/* The logarithm of the density at the left edge of bucket i, between those of the buckets around it; `own`: where one of them is empty. */
static double edge_density(const uint64_t counts[SHMETA_HISTOGRAM_BUCKETS], uint32_t i, double own)
{
	double before = i > 0 ? density(counts, i - 1) : 0,
	       behind = i < SHMETA_HISTOGRAM_BUCKETS ? density(counts, i) : 0;

	if (before == 0 || behind == 0)
		return log(own);
	return (log(before) * width_of(i) + log(behind) * width_of(i - 1)) / (width_of(i - 1) + width_of(i));
}

/* Where in a bucket, 0..1, `share` of it lies below, when its density grows or falls by a power from its left edge to its right one. */
static double place_in(double growth, double share)
{
	return fabs(growth) < 1e-6 ? share : log1p(share * expm1(growth)) / growth;
}

uint64_t percentile_of(const uint64_t counts[SHMETA_HISTOGRAM_BUCKETS], double part)
{
	uint64_t all = 0, below = 0;
	double wanted;

	for (uint32_t i = 0; i < SHMETA_HISTOGRAM_BUCKETS; i++)
		all += counts[i];
	if (all == 0)
		return UINT64_MAX;
	wanted = part * (double)all;
	for (uint32_t i = 0; i < SHMETA_HISTOGRAM_BUCKETS; i++) {
		uint64_t ns;
		double own;

		if (counts[i] == 0 || (double)(below + counts[i]) < wanted) {
			below += counts[i];
			continue;
		}
		if (i + 1 == SHMETA_HISTOGRAM_BUCKETS)
			return shmeta__histogram_floor(i);
		own = density(counts, i);
		ns = (uint64_t)exp(edge_of(i) + width_of(i) * place_in(edge_density(counts, i + 1, own) -
		                                                               edge_density(counts, i, own),
		                                                       (wanted - (double)below) / (double)counts[i]));
		return ns > shmeta__histogram_floor(i) ? ns : shmeta__histogram_floor(i); /* whatever was rounded */
	}
	return shmeta__histogram_floor(SHMETA_HISTOGRAM_BUCKETS - 1);
}
