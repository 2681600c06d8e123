/* SPDX-License-Identifier: Apache-2.0
 * What adaptive times to live cost and keep fresh, against a fixed one of 30 s, on the same trace
 * of changes, without a feed. An hour of 100 000 partitions: one in a hundred changes every second,
 * half never, the others at random with a mean period between 10 minutes and a day, evenly by its
 * logarithm. The delay is the time from a change until it is seen, over all changes. Every record
 * is refreshed when its time to live has passed, as if all were in use. */
#include <math.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "writer/resident/ttl.h"

enum {
	PARTITIONS = 100000,
	FAST = PARTITIONS / 100,
	NEVER = PARTITIONS / 2,
	SECONDS = 3600,
	TICKS = 10,
	WHEEL = 1 << 15
};

#define NONE UINT32_MAX

struct partition {
	double change;  /* the first one after it was read; in seconds */
	double period;  /* 0: never */
	uint32_t later; /* in the same place of the wheel */
	uint32_t ttl_ms;
};

struct outcome {
	double rows;
	double changes, delay; /* that happened, and the seconds until each was seen, summed */
	double stale;          /* seconds with a change that was not seen, summed over partitions */
};

static double unit(uint64_t *seed)
{
	return (double)((rng(seed) >> 11) + 1) / 9007199254740993.0;
}

static double next_change(const struct partition *p, double after, uint64_t *seed)
{
	return p->period == 0 ? INFINITY : p->period == 1 ? after + 1 : after - p->period * log(unit(seed));
}

/* The partition is read. Has it changed? */
static bool see(struct partition *p, double now, struct outcome *o, uint64_t *seed)
{
	if (p->change >= now)
		return false;
	o->stale += now - p->change;
	while (p->change < now) {
		o->changes++;
		o->delay += now - p->change;
		p->change = next_change(p, p->change, seed);
	}
	return true;
}

static struct outcome play(const struct ttl_config *config, uint64_t seed)
{
	struct partition *part = calloc(PARTITIONS, sizeof *part);
	uint32_t *wheel = malloc(WHEEL * sizeof *wheel);
	struct outcome o = {0};

	if (part == NULL || wheel == NULL)
		die("out of memory");
	for (uint32_t i = 0; i < WHEEL; i++)
		wheel[i] = NONE;
	for (uint32_t i = 0; i < PARTITIONS; i++) {
		uint32_t place = 1 + (uint32_t)(rng(&seed) % (config->base_ms / (1000 / TICKS)));

		part[i].period = i < FAST ? 1 : i < FAST + NEVER ? 0 : 600 * pow(144, unit(&seed));
		part[i].change = next_change(&part[i], i < FAST ? -unit(&seed) : 0, &seed);
		part[i].ttl_ms = config->base_ms;
		part[i].later = wheel[place]; /* they were read one after the other before */
		wheel[place] = i;
	}
	for (uint32_t tick = 1; tick <= SECONDS * TICKS; tick++) {
		double now = (double)tick / TICKS;

		for (uint32_t i = wheel[tick % WHEEL], later; i != NONE; i = later) {
			struct partition *p = &part[i];
			uint32_t span;

			later = p->later;
			o.rows++;
			p->ttl_ms = see(p, now, &o, &seed) ? ttl_changed(config, p->ttl_ms)
			                                   : ttl_unchanged(config, p->ttl_ms);
			span = p->ttl_ms / (1000 / TICKS);
			p->later = wheel[(tick + span) % WHEEL];
			wheel[(tick + span) % WHEEL] = i;
		}
		wheel[tick % WHEEL] = NONE;
	}
	for (uint32_t i = 0; i < PARTITIONS; i++)
		(void)see(&part[i], SECONDS, &o, &seed);
	free(part);
	free(wheel);
	return o;
}

static void figures(const char *how, const struct ttl_config *config, uint64_t seed)
{
	struct outcome o = play(config, seed);
	char name[64];

	(void)snprintf(name, sizeof name, "refresh.rows_per_s.%s", how);
	result_value(result_add(name, "rows/s"), o.rows / SECONDS);
	(void)snprintf(name, sizeof name, "refresh.delay.%s", how);
	result_value(result_add(name, "s"), o.delay / o.changes);
	(void)snprintf(name, sizeof name, "refresh.stale.%s", how);
	result_value(result_add(name, "%"), o.stale / SECONDS / PARTITIONS * 100);
}

void bench_refresh(struct bench *b)
{
	static const struct ttl_config fixed = {30000, 30000, 30000, 100, 100};

	figures("fixed", &fixed, b->seed);
	figures("adaptive", &ttl_presets[TTL_BALANCED].config, b->seed);
	target_max_ratio("refresh.rows_per_s.adaptive", 0.2, "refresh.rows_per_s.fixed");
	target_max_ratio("refresh.delay.adaptive", 1, "refresh.delay.fixed");
}
