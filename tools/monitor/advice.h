/* SPDX-License-Identifier: Apache-2.0
 * What to change in a configuration, why, and with which expected effect: rules over what the
 * writer counts, its options, and the miss-ratio curve of the host's lookups. Owns: the rules and
 * their thresholds. Nothing here reads, prints or asks. */
#ifndef SHMETA_TOOLS_MONITOR_ADVICE_H
#define SHMETA_TOOLS_MONITOR_ADVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "shm/page/counters.h"
#include "shm/page/usage.h"

struct advice_facts {
	const struct shmeta_usage *usage;
	const json_t *options;                  /* of the running configuration, as
                                                 * shmeta_get_config() has them */
	uint64_t counter[SHMETA_COUNTER_COUNT]; /* 0: the writer does not have it */
};

enum { ADVICE_MAX = 7 /* one of each rule */, ADVICE_BYTES = 320 };

struct advice {
	const char *name;
	char because[ADVICE_BYTES], change[ADVICE_BYTES], effect[ADVICE_BYTES];
};

/* Writes what there is, in the order of the rules; returns how many. */
size_t advice_judge(const struct advice_facts *facts, struct advice ret[ADVICE_MAX]);

bool advice_is_bounded(const struct advice_facts *facts);
/* Are there enough samples for advice? */
bool advice_knows_curve(const struct shmeta_usage *usage);
/* The share of lookups that miss at a size of the curve; 1 where nothing is known. */
double advice_miss_at(const struct shmeta_usage *usage, size_t i);

#endif
