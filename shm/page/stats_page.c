/* SPDX-License-Identifier: Apache-2.0
 * Reading the stats page. */
#include "shm/page/stats_page.h"

#include <string.h>

#include "shm/page/seqlock.h"

enum shmeta_status shmeta__stats_copy(const struct shmeta_stats *stats, struct shmeta_stats *ret,
                                      struct shmeta_err *err)
{
	if (memcmp(stats->signature, "SHMSTATS", sizeof stats->signature) != 0)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "stats: not a stats page of shmeta");
	if (stats->version != SHMETA_STATS_VERSION || stats->reader_bytes != sizeof(struct shmeta_stats_reader))
		return shmeta_fail(err, SHMETA_ERR_VERSION, "stats: version %u of its writer, version %d here",
		                   stats->version, SHMETA_STATS_VERSION);
	/* Odd for ever: the writer died while it wrote. The copy is usable but for one torn row;
	 * say so. */
	if (!shmeta__seqlock_copy(ret, stats, sizeof *ret, &stats->sequence))
		return shmeta_fail(err, SHMETA_ERR_CONTENDED, "stats: was being written at every try");
	if (ret->reader_count > SHMETA_STATS_READERS || ret->counter_count > SHMETA_STATS_COUNTERS ||
	    ret->more_count > SHMETA_STATS_MORE)
		return shmeta_fail(err, SHMETA_ERR_CORRUPT, "stats: %u readers and %u counters do not fit",
		                   ret->reader_count, ret->counter_count + ret->more_count);
	return SHMETA_OK;
}

/* Where a counter stands; shmeta__stats_counters(): nowhere. */
static uint32_t place_of(const struct shmeta_stats *stats, enum shmeta_counter counter)
{
	static const char *const names[SHMETA_COUNTER_COUNT] = {
#define C(name, kind, unit, help) [SHMETA_COUNTER_##name] = #name,
		SHMETA_CONTROL_COUNTERS(C) SHMETA_SYNC_COUNTERS(C)
#undef C
	};

	uint32_t count = shmeta__stats_counters(stats), i = 0;

	while (i < count && strncmp(shmeta__stats_name((struct shmeta_stats *)(uintptr_t)stats, i), names[counter],
	                            SHMETA_STATS_NAME) != 0)
		i++;
	return i;
}

bool shmeta__stats_counter(const struct shmeta_stats *stats, enum shmeta_counter counter, uint64_t *ret)
{
	uint32_t at = place_of(stats, counter);

	if (at == shmeta__stats_counters(stats))
		return false;
	*ret = *shmeta__stats_value((struct shmeta_stats *)(uintptr_t)stats, at);
	return true;
}

void shmeta__stats_grow(struct shmeta_stats *copy, enum shmeta_counter counter, uint64_t by)
{
	uint32_t at = place_of(copy, counter);

	if (at < shmeta__stats_counters(copy))
		*shmeta__stats_value(copy, at) += by;
}
