/* SPDX-License-Identifier: Apache-2.0
 * Times to live by record: what a record is given, and when it is due (expiry.h). */
#include "writer/keys/expiry.h"

#include "shm/index/part.h"
#include "writer/engine/engine.h"

enum { LOOKS = 20 /* within the shortest time to live */ };

#define LOOK_LEAST_NS (20 * SYNC_MS)

uint64_t expiry_every_ns(const struct sync *s)
{
	uint64_t least_ms = s->options.freshness.min_ms, every;

	for (size_t i = 0; i < s->options.override_count; i++)
		if (s->options.overrides[i].ttl_ms > 0 && s->options.overrides[i].ttl_ms < least_ms)
			least_ms = s->options.overrides[i].ttl_ms;
	every = least_ms * SYNC_MS / LOOKS;
	return every < LOOK_LEAST_NS ? LOOK_LEAST_NS : every > SYNC_S ? SYNC_S : every;
}

uint32_t expiry_ttl_ms(void *arg, uint32_t topic_ttl_ms, uint32_t before_ms, enum apply_learned learned)
{
	const struct sync *s = arg;

	/* What is configured for a topic stands. */
	if (topic_ttl_ms != 0 || s->expiry.state == EXPIRY_BY_CLASS)
		return topic_ttl_ms;
	switch (learned) {
	case APPLY_LEARNED_SAME:
		return ttl_unchanged(&s->options.freshness, before_ms);
	case APPLY_LEARNED_CHANGE:
		return ttl_changed(&s->options.freshness, before_ms);
	case APPLY_LEARNED_NOTHING:
		break;
	}
	return ttl_within(&s->options.freshness, before_ms);
}

uint64_t expiry_due_ns(const struct sync *s, const void *value, size_t bytes)
{
	struct shmeta_part_head head;

	if (s->expiry.state == EXPIRY_BY_CLASS || bytes < sizeof head)
		return 0;
	memcpy(&head, value, sizeof head);
	return (head.synced_at_ns & ~SHMETA_SYNCED_ALONE) + head.ttl_ms * SYNC_MS / 10 * 8;
}
