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

void shmeta__lookup_age_unproved(uint64_t now_ns, uint64_t synced_at_ns, const struct known *known,
                                 struct shmeta_freshness *ret)
{
	if (known->synced_at_ns == 0 || (known->synced_at_ns & SHMETA_SYNCED_ALONE) != 0) {
		ret->age_ns = shmeta__stamp_unproved_age(now_ns, synced_at_ns);
		return;
	}
	ret->age_ns = shmeta__age(now_ns, known->synced_at_ns);
	ret->fresh = ret->age_ns < ret->ttl_ns;
}
