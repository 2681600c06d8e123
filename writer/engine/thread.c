/* SPDX-License-Identifier: Apache-2.0
 * The engine's thread: rounds, and the sleep between them (thread.h). */
#include <pthread.h>
#include <sched.h>

#include "writer/engine/engine.h"

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

/* A wake from sleep costs a thread more than a small commit does. true: there is something to
 * do. */
static bool linger(struct sync *s)
{
	enum { LINGER_US = 150, VAIN = 4, LEFT_OUT = 64, SPINS = 64 };
	uint64_t until;

	if (!s->thread.linger)
		return false;
	s->thread.linger = false;
	if (s->thread.lingered_in_vain >= VAIN && ++s->thread.lingers_left_out < LEFT_OUT)
		return false;
	s->thread.lingers_left_out = 0;
	for (until = sync_now(s) + LINGER_US * 1000; sync_now(s) < until; (void)sched_yield())
		for (int i = 0; i < SPINS; i++) {
			if (wake_is_kicked(s)) {
				s->thread.lingered_in_vain = 0;
				return true;
			}
			relax();
		}
	s->thread.lingered_in_vain++;
	return false;
}

static void *run(void *arg)
{
	struct sync *s = arg;

	while (!sync_stopping(s)) {
		uint64_t wait_ns;

		wake_looks(s);
		sync_run_once(s, &wait_ns);
		if (wait_ns == 0 || linger(s))
			continue;
		/* A source that is away or a store that is full is not looked at before its time:
		 * its wake-up would never stop. */
		bool listen = session_is_open(&s->session) && feed_in_step(s) && !source_is_away(s) && store_takes(s) &&
		              sync_now(s) >= s->thread.ignore_until_ns;

		if (wake_sleep(s, listen ? session_wake_fd(s) : -1, wait_ns))
			schedule_woken(s, sync_now(s));
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
	int error = pthread_create(&s->thread.id, NULL, run, s);

	if (error != 0) {
		sync_close(s);
		return shmeta_fail_errno(err, error, "starting the sync thread");
	}
	s->thread.is_there = true;
	pthread_setname_np(s->thread.id, "shmetad-sync");
	*ret = s;
	return SHMETA_OK;
}

void sync_stop(struct sync *s)
{
	if (s == NULL)
		return;
	wake_stop(s);
	if (s->thread.is_there) {
		sync_wake(s);
		pthread_join(s->thread.id, NULL);
		s->thread.is_there = false;
	}
	sync_close(s);
}
