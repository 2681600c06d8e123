/* SPDX-License-Identifier: Apache-2.0
 * <instance>/usage: which keys this host's processes look up most, from the samples that readers
 * leave in their slots, so that looking needs no socket. Written once a second; a seqlock (PAIR 6),
 * as the stats page. What processes say of themselves is believed as far as a bound on how much
 * each may say. */
#ifndef SHMETA_SHM_PAGE_USAGE_H
#define SHMETA_SHM_PAGE_USAGE_H

#include <stdint.h>

#include "base/err.h"
#include "shm/page/frozen.h"
#include "shm/page/order.h"

enum { SHMETA_USAGE_VERSION = 1, SHMETA_USAGE_KEYS = 250 };

/* Sizes at which the miss-ratio curve is told: room for SHMETA_USAGE_SIZE(i) partitions. A miss of
 * 0 is not known; otherwise it is 1 and the share of lookups that would miss, in parts of
 * SHMETA_USAGE_ALL. */
enum { SHMETA_USAGE_SIZES = 22, SHMETA_USAGE_ALL = 10000 };
#define SHMETA_USAGE_SIZE(i) (UINT64_C(16) << (i))

struct shmeta_used {
	uint64_t key;     /*  0  topic number << 32 | partition; all ones in the lower half: the topic itself */
	uint64_t samples; /*  8  of lookups of it, halved with all                                            */
};
SHMETA_FROZEN(shmeta_used, key, 0);
SHMETA_FROZEN(shmeta_used, samples, 8);
SHMETA_FROZEN_SIZE(shmeta_used, 16);

struct shmeta_usage {
	uint8_t signature[8];                       /*    0  "SHMUSAGE"                                       */
	uint32_t version;                           /*    8                                                   */
	uint32_t count;                             /*   12  of used[], the most used first                   */
	uint64_t sequence;                          /*   16  odd: being written                     PAIR 6    */
	uint64_t updated_at_ns;                     /*   24  CLOCK_BOOTTIME                                   */
	uint64_t samples;                           /*   32  of all keys, halved each half_life_s             */
	uint32_t half_life_s;                       /*   40                                                   */
	uint32_t sample_every;                      /*   44  lookups of a thread for each sample              */
	uint32_t curve_samples;                     /*   48  of partitions, which miss[] is of; an older writer: 0 */
	uint16_t miss[SHMETA_USAGE_SIZES];          /*   52                                                   */
	struct shmeta_used used[SHMETA_USAGE_KEYS]; /*   96                                                   */
};
SHMETA_FROZEN(shmeta_usage, signature, 0);
SHMETA_FROZEN(shmeta_usage, version, 8);
SHMETA_FROZEN(shmeta_usage, count, 12);
SHMETA_FROZEN(shmeta_usage, sequence, 16);
SHMETA_FROZEN(shmeta_usage, updated_at_ns, 24);
SHMETA_FROZEN(shmeta_usage, samples, 32);
SHMETA_FROZEN(shmeta_usage, half_life_s, 40);
SHMETA_FROZEN(shmeta_usage, sample_every, 44);
SHMETA_FROZEN(shmeta_usage, curve_samples, 48);
SHMETA_FROZEN(shmeta_usage, miss, 52);
SHMETA_FROZEN(shmeta_usage, used, 96);
SHMETA_FROZEN_SIZE(shmeta_usage, 4096);

/* A consistent copy. ERR_CORRUPT, ERR_VERSION, or, after a bounded number of tries,
 * ERR_CONTENDED. */
enum shmeta_status shmeta__usage_copy(const struct shmeta_usage *page, struct shmeta_usage *ret,
                                      struct shmeta_err *err);

#endif
