/* SPDX-License-Identifier: Apache-2.0
 * The engine's thread: rounds, and when it would rather stay awake, or not listen to the source. */
#ifndef SHMETA_WRITER_ENGINE_THREAD_H
#define SHMETA_WRITER_ENGINE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Its own, but for the last two, which belong to whoever starts and stops it. */
struct engine_thread {
	/* After a small write the thread stays awake for the next one of a client that waits for
	 * each, as long as that is not in vain. */
	bool linger;
	uint32_t lingered_in_vain, lingers_left_out;
	uint64_t ignore_until_ns; /* wake-ups of the source come from our own commit until then: it
                                  * is polled on schedule */
	bool is_there;
	pthread_t id;
};

static inline void thread_lingers(struct engine_thread *t, bool linger)
{
	t->linger = linger;
}
static inline void thread_ignores_source(struct engine_thread *t, uint64_t until_ns)
{
	t->ignore_until_ns = until_ns;
}

#endif
