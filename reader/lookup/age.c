/* SPDX-License-Identifier: Apache-2.0
 * Can stamps be compared with this process's clock? They are CLOCK_BOOTTIME of the writer, which a
 * time namespace shifts, and which goes on while the machine sleeps, where CLOCK_MONOTONIC, which
 * is cheap to read, stands still. */
#include "reader/lookup/lookup.h"

void shmeta__reader_judge_clock(struct shmeta_reader *r, uint64_t monotonic_ns)
{
	uint64_t beat = shmeta_observe(&r->board->heartbeat_ns);

	r->offset_least = shmeta__boot_offset_at_least(INT64_MIN);
	r->ageless = r->env->other_boot || shmeta__age(shmeta__board_now_ns(r->board), beat) == UINT64_MAX;
	r->judge_ns = monotonic_ns + AHEAD_NS;
}
