/* SPDX-License-Identifier: Apache-2.0
 * Clocks: deadlines by CLOCK_MONOTONIC, and the writer's CLOCK_BOOTTIME as far as this process can
 * tell. */
#include "reader/attach/attach.h"

#include <time.h>

/* Two clocks are not read at once. */
static const int64_t JITTER_NS = 1000 * 1000;

uint64_t shmeta__monotonic_ns(void)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t shmeta__deadline_of(uint32_t timeout_ms)
{
	return shmeta__monotonic_ns() + (uint64_t)timeout_ms * MILLION;
}

uint32_t shmeta__left_ms(uint64_t deadline_ns)
{
	uint64_t now = shmeta__monotonic_ns();

	return deadline_ns > now ? (uint32_t)((deadline_ns - now + MILLION - 1) / MILLION) : 1;
}

int64_t shmeta__boot_offset_at_least(int64_t said)
{
	int64_t found = shmeta__boot_offset_ns() - JITTER_NS;

	return said > found ? said : found;
}

uint64_t shmeta__board_now_ns(const struct shmeta_board *board)
{
	return shmeta__monotonic_ns() + (uint64_t)shmeta__boot_offset_at_least(shmeta_peek(&board->boot_offset_ns));
}

uint64_t shmeta__writer_now_ns(const struct core *core)
{
	uint64_t now = shmeta__board_now_ns(core->board), beat = shmeta_observe(&core->board->heartbeat_ns);

	/* If this process's clock is behind, the heartbeat is the best known value of the writer's
	 * clock. */
	return now > beat ? now : beat;
}
