/* SPDX-License-Identifier: Apache-2.0
 * The histogram of a slot: how long sampled lookups took. */
#ifndef SHMETA_SHM_PAGE_HISTOGRAM_H
#define SHMETA_SHM_PAGE_HISTOGRAM_H

#include <stdint.h>

#include "shm/page/slots.h"

/* Log-linear buckets over nanoseconds: 4 per power of two from 8 ns on. Bucket 0 is [0, 8), the
 * last one is open. */
uint32_t shmeta__histogram_bucket(uint64_t ns);
/* The lower bound of bucket i, in ns. */
uint64_t shmeta__histogram_floor(uint32_t i);

#endif
