/* SPDX-License-Identifier: Apache-2.0
 * Adaptive times to live. */
#include "writer/resident/ttl.h"

#include <stddef.h>

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

uint32_t ttl_within(const struct ttl_config *c, uint32_t ttl_ms)
{
	if (ttl_ms == 0)
		return c->base_ms;
	return ttl_ms < c->min_ms ? c->min_ms : ttl_ms > c->max_ms ? c->max_ms : ttl_ms;
}

/* percent of the time, at least a millisecond off unless percent is 100. */
static uint32_t scaled(const struct ttl_config *c, uint32_t ttl_ms, uint32_t percent)
{
	uint64_t old = ttl_within(c, ttl_ms), to = old * percent / 100;

	if (percent > 100 && to == old)
		to++;
	return ttl_within(c, to < 1 ? 1 : to < TTL_MAX_MS ? (uint32_t)to : TTL_MAX_MS);
}

uint32_t ttl_unchanged(const struct ttl_config *c, uint32_t ttl_ms)
{
	return scaled(c, ttl_ms, c->longer_percent);
}

uint32_t ttl_changed(const struct ttl_config *c, uint32_t ttl_ms)
{
	return scaled(c, ttl_ms, c->shorter_percent);
}
