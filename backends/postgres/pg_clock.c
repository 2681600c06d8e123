/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: the source's clock.
 *
 * Several hosts write to one database, each with a wall clock of its own. What they must agree
 * about, whether a lease or an offer has ended and when a new one will, the server decides within
 * the statement that asks (@clock in pg_write_kinds.c). What needs no more than a good guess,
 * timestamps and the heartbeats that callers bring, is moved by the distance between the caller's
 * clock and the server's. That distance is known from the server's clock beside CLOCK_MONOTONIC, so
 * that a step of the host's wall clock changes nothing. */
#include <stdlib.h>

#include "backends/postgres/pg_clock.h"

/* Clocks that are so close are taken for one: what a caller brings is then stored as it is. */
enum { TOLERANCE_MS = 1000 };

static int64_t in_ms(uint64_t ns)
{
	return (int64_t)(ns / 1000000);
}

const char *pg_clock(const struct pg_state *state)
{
	return state->options.clock != NULL ? state->options.clock : state->dialect->clock;
}

void pg_clock_seen(struct pg_state *state, int64_t source_ms, uint64_t before_ns, uint64_t after_ns)
{
	/* The server looked somewhere between the two. */
	int64_t least, most;

	if (__builtin_sub_overflow(source_ms, in_ms(after_ns), &least) ||
	    __builtin_sub_overflow(source_ms, in_ms(before_ns), &most)) {
		state->clock.known = false;
		return;
	}
	if (state->clock.known && state->clock.ahead_ms >= least && state->clock.ahead_ms <= most)
		return;
	state->clock.known = true;
	state->clock.ahead_ms = least + (most - least) / 2;
}

int64_t pg_clock_distance(const struct pg_state *state, int64_t caller_ms)
{
	int64_t source_ms, distance;

	/* A test's own clock is the caller's time or has nothing to do with ours. */
	if (!state->clock.known || state->options.clock != NULL ||
	    __builtin_add_overflow(in_ms(pg_now_ns()), state->clock.ahead_ms, &source_ms) ||
	    __builtin_sub_overflow(source_ms, caller_ms, &distance))
		return 0;
	return distance > -TOLERANCE_MS && distance < TOLERANCE_MS ? 0 : distance;
}

int64_t pg_clock_moved(int64_t time_ms, int64_t distance)
{
	int64_t moved;

	return __builtin_add_overflow(time_ms, distance, &moved) ? time_ms : moved;
}

int64_t pg_clock_ns(int64_t us)
{
	int64_t ns;

	return !__builtin_mul_overflow(us, 1000, &ns) ? ns : us < 0 ? INT64_MIN : INT64_MAX;
}

uint64_t pg_clock_local(int64_t server_ns, int64_t there_ns, uint64_t here_ns)
{
	__extension__ const __int128 local = (__int128)server_ns - there_ns + here_ns;

	return local <= 0 ? 0 : local > UINT64_MAX ? UINT64_MAX : (uint64_t)local;
}
