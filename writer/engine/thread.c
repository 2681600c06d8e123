/* SPDX-License-Identifier: Apache-2.0
 * The engine's thread: rounds, and the sleep between them. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "writer/engine/engine.h"

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

/* A wake from sleep costs a thread more than a small commit does. true: there is something to do. */
static bool linger(struct sync *s)
{
	enum { LINGER_US = 150, VAIN = 4, LEFT_OUT = 64, SPINS = 64 };
	uint64_t until;

	if (!s->linger)
		return false;
	s->linger = false;
	if (s->lingered_in_vain >= VAIN && ++s->lingers_left_out < LEFT_OUT)
		return false;
	s->lingers_left_out = 0;
	for (until = sync_now(s) + LINGER_US * 1000; sync_now(s) < until; (void)sched_yield())
		for (int i = 0; i < SPINS; i++) {
			if (shmeta_load(&s->kicked)) {
				s->lingered_in_vain = 0;
				return true;
			}
			relax();
		}
	s->lingered_in_vain++;
	return false;
}

static void *run(void *arg)
{
	struct sync *s = arg;

	while (!sync_stopping(s)) {
		uint64_t wait_ns, events;

		shmeta_store(&s->kicked, 0u);
		sync_run_once(s, &wait_ns);
		if (wait_ns == 0 || linger(s))
			continue;
		/* A source that is away or a store that is full is not looked at before its time: its sign would never stop. */
		bool listen = s->source_open && feed_in_step(s) && !s->source.on && !s->room.on &&
		              sync_now(s) >= s->deaf_until_ns;
		struct pollfd fds[2] = {{.fd = s->event_fd, .events = POLLIN},
		                        {.fd = listen ? session_wake_fd(s) : -1, .events = POLLIN}};
		struct timespec timeout = {(time_t)(wait_ns / SYNC_S), (long)(wait_ns % SYNC_S)};

		if (wait_ns == SYNC_NEVER)
			timeout = (struct timespec){3600, 0};
		shmeta_store(&s->sleeping, 1u);
		int ready = shmeta_load(&s->kicked) || sync_stopping(s) ? 0 : ppoll(fds, 2, &timeout, NULL);

		shmeta_store(&s->sleeping, 0u);
		if (ready <= 0)
			continue;
		if (fds[0].revents != 0)
			(void)!read(s->event_fd, &events, sizeof events);
		if (fds[1].revents != 0) {
			s->poll_due_ns = sync_now(s);
			s->woken = true;
		}
	}
	return NULL;
}

enum shmeta_status sync_start(int dir_fd, struct shmeta_board *board, const struct sync_options *options,
                              const struct sync_host *host, struct sync **ret, struct shmeta_err *err)
{
	struct sync *s;
	enum shmeta_status status = sync_open(dir_fd, board, options, host, &s, err);

	if (status != SHMETA_OK)
		return status;
	int error = pthread_create(&s->thread, NULL, run, s);

	if (error != 0) {
		sync_close(s);
		return shmeta_fail_errno(err, error, "starting the sync thread");
	}
	s->has_thread = true;
	pthread_setname_np(s->thread, "shmetad-sync");
	*ret = s;
	return SHMETA_OK;
}

void sync_stop(struct sync *s)
{
	if (s == NULL)
		return;
	shmeta_publish(&s->stopping, 1u);
	if (s->has_thread) {
		sync_wake(s);
		pthread_join(s->thread, NULL);
		s->has_thread = false;
	}
	sync_close(s);
}
