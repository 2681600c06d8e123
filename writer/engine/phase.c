/* SPDX-License-Identifier: Apache-2.0
 * Moving from phase to phase. */
#include "writer/engine/phase.h"

#define BIT(phase) (1u << SHMETA_PHASE_##phase)
static const uint32_t may_follow[] = {
	[SHMETA_PHASE_STARTING] = BIT(LOADING) | BIT(SERVING) | BIT(DEGRADED) | BIT(DRAINING) | BIT(STOPPED),
	[SHMETA_PHASE_LOADING] = BIT(SERVING) | BIT(DEGRADED) | BIT(DRAINING) | BIT(STOPPED),
	[SHMETA_PHASE_SERVING] = BIT(DEGRADED) | BIT(DRAINING) | BIT(STOPPED),
	[SHMETA_PHASE_DEGRADED] = BIT(LOADING) | BIT(SERVING) | BIT(DRAINING) | BIT(STOPPED),
	[SHMETA_PHASE_DRAINING] = BIT(STOPPED),
	[SHMETA_PHASE_STOPPED] = 0,
};

enum phase_moved phase_move(struct shmeta_board *board, enum shmeta_phase to, uint64_t now_ns)
{
	uint32_t from = shmeta_observe(&board->phase);

	do {
		if (from == (uint32_t)to)
			return PHASE_THERE;
		if (from > SHMETA_PHASE_STOPPED || (may_follow[from] & 1u << to) == 0)
			return PHASE_REFUSED;
	} while (!shmeta_replace(&board->phase, &from, (uint32_t)to));
	shmeta_poke(&board->phase_since_ns, now_ns);
	return PHASE_MOVED;
}

void phase_begin(struct shmeta_board *board, uint64_t now_ns)
{
	shmeta_poke(&board->phase_since_ns, now_ns);
	shmeta_publish(&board->phase, (uint32_t)SHMETA_PHASE_STARTING);
}

enum shmeta_phase phase_of(const struct shmeta_board *board)
{
	return (enum shmeta_phase)shmeta_observe(&board->phase);
}

const char *phase_name(enum shmeta_phase phase)
{
	static const char *const names[] = {
#define SHMETA_X(name, number, text) [number] = text,
		SHMETA_PHASE_LIST(SHMETA_X)
#undef SHMETA_X
	};

	return phase <= SHMETA_PHASE_STOPPED ? names[phase] : "?";
}
