/* SPDX-License-Identifier: Apache-2.0
 * The libpq engine: which epochs are recorded already.
 *
 * To look for an epoch with each add costs a tenth of it; so those that were committed are
 * remembered. An epoch of a partition is never another one's, and the newest, under which alone
 * anything is written, is never dropped but with its topic, whose next lease has another. */
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "backends/postgres/pg_epochs.h"
#include "base/secret.h"

static uint64_t hash_of(const struct backend_op *op)
{
	const struct shmeta_op *o = op->op;
	const uint64_t numbers[2] = {o->partition_id, o->fence.epoch};
	uint64_t hash = XXH3_64bits_withSeed(numbers, sizeof numbers, shmeta__secret());

	hash = XXH3_64bits_withSeed(o->name.data, o->name.bytes, hash);
	return XXH3_64bits_withSeed(op->tenant.data, op->tenant.bytes, hash) | 1;
}

bool pg_epoch_is_known(const struct pg_state *state, const struct backend_op *op)
{
	const struct pg_led *led;
	uint64_t hash;

	if (op->op->fence.agent_id.bytes == 0)
		return true;
	hash = hash_of(op);
	led = &state->led[(hash >> 1) % PG_LED];
	return led->hash == hash && led->start <= op->op->u.segment.base_offset;
}

void pg_epoch_know(struct pg_state *state, const struct backend_op *op)
{
	const uint64_t base = op->op->u.segment.base_offset;
	struct pg_led *led;
	uint64_t hash;

	if (op->op->fence.agent_id.bytes == 0 || !state->shape.epochs)
		return;
	hash = hash_of(op);
	led = &state->led[(hash >> 1) % PG_LED];
	if (led->hash != hash || base < led->start)
		*led = (struct pg_led){.hash = hash, .start = base};
}

void pg_epochs_forget(struct pg_state *state)
{
	memset(state->led, 0, sizeof state->led);
}
