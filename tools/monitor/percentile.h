/* SPDX-License-Identifier: Apache-2.0
 * Percentiles of a histogram of the stats page. */
#ifndef SHMETA_TOOLS_MONITOR_PERCENTILE_H
#define SHMETA_TOOLS_MONITOR_PERCENTILE_H

#include "shm/page/histogram.h"

/* The time, in ns, below which `part` (0..1) of all were; UINT64_MAX: there are none. Within a
 * bucket they are taken to be spread as smoothly as the buckets beside it allow. Of times that are
 * spread smoothly, as those of lookups, that is within 2 % (or a nanosecond) of the exact value; of
 * a few that are all alike it can be off by the width of a bucket, a fifth. The last bucket, which
 * is open, gives its lower bound. */
uint64_t percentile_of(const uint64_t counts[SHMETA_HISTOGRAM_BUCKETS], double part);
/* The same of what the writer measures: buckets are twice as wide, so the error may be, too. */
uint64_t percentile_of_times(const uint64_t counts[SHMETA_TIMES_BUCKETS], double part);

#endif
