/* SPDX-License-Identifier: Apache-2.0
 * Adaptive times to live. */
#include "writer/resident/ttl.h"

#include <stddef.h>

enum { STEPS = 8 }; /* per octave */

/* 2^(i / 8), times 2^16. */
static const uint32_t octave[STEPS + 1] = {65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194, 131072};

const struct ttl_preset_info ttl_presets[TTL_PRESETS] = {
	[TTL_BALANCED] = {"balanced", {3000, 30000, 600000, 200, 50}},
	[TTL_HIGH_THROUGHPUT] = {"high-throughput", {5000, 60000, 1800000, 200, 50}},
	[TTL_MEMORY_CONSTRAINED] = {"memory-constrained", {5000, 30000, 300000, 150, 50}},
	[TTL_WRITE_HEAVY] = {"write-heavy", {1000, 10000, 120000, 125, 35}},
	[TTL_READ_HEAVY] = {"read-heavy", {5000, 120000, 3600000, 200, 70}},
};

const char *ttl_config_error(const struct ttl_config *c)
{
	if (c->min_ms < 1 || c->min_ms > c->base_ms || c->base_ms > c->max_ms || c->max_ms > TTL_MAX_MS)
		return "times to live must be 1 ms <= min <= base <= max <= 31 days";
	if (c->longer_percent < 100 || c->longer_percent > 800)
		return "a longer time to live must be 100 to 800 percent of the old one";
	if (c->shorter_percent < 10 || c->shorter_percent > 100)
		return "a shorter time to live must be 10 to 100 percent of the old one";
	return NULL;
}

static uint64_t ms_of(uint8_t ttl)
{
	return (uint64_t)octave[ttl % STEPS] << (ttl / STEPS) >> 16;
}

/* The highest byte that stands for no more than ms. */
static uint8_t byte_of(uint64_t ms)
{
	uint8_t low = 0, high = UINT8_MAX;

	while (low < high) {
		uint8_t middle = (uint8_t)(low + (high - low + 1) / 2);

		if (ms_of(middle) <= ms)
			low = middle;
		else
			high = (uint8_t)(middle - 1);
	}
	return low;
}

static uint64_t bounded_ms(const struct ttl_config *c, uint64_t ms)
{
	return ms < c->min_ms ? c->min_ms : ms > c->max_ms ? c->max_ms : ms;
}

/* The same for a time within the bounds; the longest one is reached. */
static uint8_t byte_within(const struct ttl_config *c, uint64_t ms)
{
	uint8_t ttl = byte_of(ms);

	return ms == c->max_ms && ms_of(ttl) < ms && ttl < UINT8_MAX ? (uint8_t)(ttl + 1) : ttl;
}

uint8_t ttl_first(const struct ttl_config *c)
{
	return byte_within(c, c->base_ms);
}

/* percent of the time, by whole steps, at least one unless percent is 100; the bounds are reached. */
static uint8_t scaled(const struct ttl_config *c, uint8_t ttl, uint32_t percent)
{
	uint64_t old = bounded_ms(c, ms_of(ttl));
	uint8_t from = byte_within(c, old), to = byte_within(c, bounded_ms(c, old * percent / 100));

	if (percent > 100 && to == from && to < byte_within(c, c->max_ms))
		to++;
	if (percent < 100 && to == from && to > byte_within(c, c->min_ms))
		to--;
	return to;
}

uint8_t ttl_unchanged(const struct ttl_config *c, uint8_t ttl)
{
	return scaled(c, ttl, c->longer_percent);
}

uint8_t ttl_changed(const struct ttl_config *c, uint8_t ttl)
{
	return scaled(c, ttl, c->shorter_percent);
}

uint64_t ttl_ns(const struct ttl_config *c, uint8_t ttl)
{
	return bounded_ms(c, ms_of(ttl)) * 1000000;
}
