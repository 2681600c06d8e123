/* SPDX-License-Identifier: Apache-2.0
 * How long a record counts as fresh, by how often its source really changed it. A refresh that
 * found nothing new makes the time to live longer, one that found a change makes it shorter, within
 * bounds. Demand has no part in it: it decides only whether an expired record is read again. The
 * time itself is all that is remembered; bounds that were configured anew apply when it is next
 * used. Pure functions. */
#ifndef SHMETA_WRITER_RESIDENT_TTL_H
#define SHMETA_WRITER_RESIDENT_TTL_H

#include <stdint.h>

enum { TTL_MAX_MS = 31 * 24 * 3600 * 1000U };

struct ttl_config {
	uint32_t min_ms, base_ms, max_ms; /* 1 <= min <= base <= max <= TTL_MAX_MS; base: of a
                                           * record that was read once */
	uint32_t longer_percent;          /* of the old time, after a refresh that found nothing:
                                   * 100..800 */
	uint32_t shorter_percent;         /* of the old time, after one that found a change:
                                           * 10..100 */
};

enum ttl_preset {
	TTL_BALANCED,
	TTL_HIGH_THROUGHPUT,
	TTL_MEMORY_CONSTRAINED,
	TTL_WRITE_HEAVY,
	TTL_READ_HEAVY,
	TTL_PRESETS
};

/* Names as in the configuration: balanced, high-throughput, memory-constrained, write-heavy,
 * read-heavy. */
extern const struct ttl_preset_info {
	const char *name;
	struct ttl_config config;
} ttl_presets[TTL_PRESETS];

/* NULL when the configuration can be used; otherwise what is wrong with it, a constant. */
const char *ttl_config_error(const struct ttl_config *config);

/* The time within the bounds; 0, of a record that has none yet: base_ms. */
uint32_t ttl_within(const struct ttl_config *config, uint32_t ttl_ms);
/* The time after a refresh of a record that had this one (0: base_ms). */
uint32_t ttl_unchanged(const struct ttl_config *config, uint32_t ttl_ms);
uint32_t ttl_changed(const struct ttl_config *config, uint32_t ttl_ms);

#endif
