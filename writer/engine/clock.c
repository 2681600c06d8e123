/* SPDX-License-Identifier: Apache-2.0
 * The engine's clock, its chance, its waking, and the stamps of classes: what every other file of the engine uses. */
#include <errno.h>
#include <time.h>
#include <unistd.h>

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

static uint64_t chance(struct sync *s)
{
	/* xorshift64*: jitter needs no more. */
	s->random ^= s->random >> 12;
	s->random ^= s->random << 25;
	s->random ^= s->random >> 27;
	return s->random * 0x2545F4914F6CDD1Du;
}

uint64_t sync_jitter(struct sync *s, uint64_t value, uint32_t low, uint32_t high)
{
	uint64_t thousandths = low + (chance(s) >> 33) % (high - low + 1);

	return value / 1000 * thousandths + value % 1000 * thousandths / 1000;
}

void sync_wake_at(struct sync *s, uint64_t due_ns)
{
	if (due_ns < s->wake_ns)
		s->wake_ns = due_ns;
}

void sync_wake(struct sync *s)
{
	uint64_t one = 1;

	/* Either the thread sees this before it sleeps, or we see that it sleeps. */
	shmeta_store(&s->kicked, 1u);
	if (!shmeta_load(&s->sleeping))
		return;
	/* A full counter wakes as well as a new one. */
	while (write(s->event_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

bool sync_stopping(struct sync *s)
{
	return shmeta_observe(&s->stopping) != 0;
}

uint64_t sync_oldest_pin(struct sync *s)
{
	return s->host.oldest_pin(s->host.arg, shmeta__store_number(s->store));
}

uint64_t sync_committed(struct sync *s)
{
	return s->gen == NULL ? 0 : shmeta_peek(&s->gen->committed);
}

void sync_stamp(struct sync *s, struct shmeta_generation *gen, enum shmeta_class cls, uint64_t txn,
                uint64_t synced_at_ns)
{
	struct shmeta_stamp *stamp = &gen->stamp[cls];

	shmeta_poke(&stamp->ttl_ns, s->options.ttl_ms[cls] * SYNC_MS);
	shmeta_publish(&stamp->txn, txn);                   /* PAIR 3: a stamp's commit before its time */
	shmeta_publish(&stamp->synced_at_ns, synced_at_ns); /* PAIR 3: a stamp's commit before its time */
}

void sync_stamp_all(struct sync *s, struct shmeta_generation *gen, uint64_t txn, uint64_t synced_at_ns)
{
	for (int cls = 0; cls < SHMETA_CLASS_COUNT; cls++)
		sync_stamp(s, gen, (enum shmeta_class)cls, txn, synced_at_ns);
}
