/* SPDX-License-Identifier: Apache-2.0
 * Stamps, and what the feed has told (stamps.h). */
#include "writer/engine/engine.h"

uint64_t sync_committed(struct sync *s)
{
	return s->gen == NULL ? 0 : shmeta_peek(&s->gen->committed);
}

void sync_stamp(struct sync *s, struct shmeta_generation *gen, enum shmeta_class cls, uint64_t txn,
                uint64_t synced_at_ns)
{
	struct shmeta_stamp *stamp = &gen->stamp[cls];

	shmeta_poke(&stamp->ttl_ns, sync_class_ttl_ns(s, cls));
	shmeta_publish(&stamp->txn, txn);                   /* PAIR 3: a stamp's commit before its time */
	shmeta_publish(&stamp->synced_at_ns, synced_at_ns); /* PAIR 3: a stamp's commit before its time */
}

void stamps_show_ttl(struct sync *s)
{
	for (int cls = 0; s->gen != NULL && cls < SHMETA_CLASS_COUNT; cls++)
		shmeta_poke(&s->gen->stamp[cls].ttl_ns, sync_class_ttl_ns(s, (enum shmeta_class)cls));
}

void stamps_feed_told(struct sync *s, uint64_t asked_ns, uint64_t lag_ns, uint64_t born_since, bool named)
{
	struct stamps *stamps = &s->stamps;

	stamps->unapplied_ns = stamps->told_until_ns = lag_ns < asked_ns ? asked_ns - lag_ns : 1;
	stamps->lag_ns = lag_ns;
	stamps->named |= named;
	stamps->born_since = born_since;
}

void stamps_all_read(struct sync *s, uint64_t born_since)
{
	s->stamps.born_since = born_since;
}

void stamps_applied(struct sync *s)
{
	if (s->stamps.named)
		sync_measured(s, SHMETA_TIMED_VISIBLE, sync_now(s) - s->stamps.unapplied_ns);
	s->stamps.named = false;
	s->stamps.unapplied_ns = 0;
}
