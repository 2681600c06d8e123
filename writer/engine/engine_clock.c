/* SPDX-License-Identifier: Apache-2.0
 * The engine's clocks, its chance, and how long a round may sleep (engine_clock.h): what every
 * other file of the engine uses. */
#include <time.h>

#include "writer/engine/engine.h"

uint64_t sync_now(struct sync *s)
{
	const struct sync_clock *clock = &s->options.clock;

	return clock->boottime_ns != NULL ? clock->boottime_ns(clock->arg) : shmeta__boottime_ns();
}

int64_t sync_wall_ms(struct sync *s)
{
	struct timespec t;

	if (s->options.wall_ms != NULL)
		return s->options.wall_ms(s->options.clock.arg);
	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void clock_seed(struct sync *s, uint32_t seed)
{
	s->clock.random = seed != 0 ? seed * 0x9E3779B97F4A7C15u : sync_now(s) ^ s->board->writer_pid << 32;
	if (s->clock.random == 0)
		s->clock.random = 1;
}

static uint64_t chance(struct sync *s)
{
	/* xorshift64*: jitter needs no more. */
	s->clock.random ^= s->clock.random >> 12;
	s->clock.random ^= s->clock.random << 25;
	s->clock.random ^= s->clock.random >> 27;
	return s->clock.random * 0x2545F4914F6CDD1Du;
}

uint64_t sync_jitter(struct sync *s, uint64_t value, uint32_t low, uint32_t high)
{
	uint64_t thousandths = low + (chance(s) >> 33) % (high - low + 1);

	return value / 1000 * thousandths + value % 1000 * thousandths / 1000;
}

void clock_round_begins(struct sync *s)
{
	s->clock.wake_ns = SYNC_NEVER;
}

void sync_wake_at(struct sync *s, uint64_t due_ns)
{
	if (due_ns < s->clock.wake_ns)
		s->clock.wake_ns = due_ns;
}

uint64_t clock_round_wait(struct sync *s)
{
	uint64_t now = sync_now(s);

	return s->clock.wake_ns == SYNC_NEVER ? SYNC_NEVER : s->clock.wake_ns <= now ? 0 : s->clock.wake_ns - now;
}
