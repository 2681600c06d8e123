/* SPDX-License-Identifier: Apache-2.0
 * Sleep and what ends it (wake.h). */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "writer/engine/engine.h"

enum { SLEEP_MOST_S = 3600 };

enum shmeta_status wake_init(struct sync *s, struct shmeta_err *err)
{
	s->wake.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->wake.event_fd >= 0 ? SHMETA_OK : shmeta_fail_errno(err, errno, "eventfd");
}

void wake_free(struct sync *s)
{
	if (s->wake.event_fd >= 0)
		close(s->wake.event_fd);
}

void sync_wake(struct sync *s)
{
	uint64_t one = 1;

	/* Either the thread sees this before it sleeps, or we see that it sleeps. */
	shmeta_store(&s->wake.kicked, 1u);
	if (!shmeta_load(&s->wake.sleeping))
		return;
	shmeta_poke(&s->wake.woken_ns, sync_now(s));
	/* A full counter wakes as well as a new one. */
	while (write(s->wake.event_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

bool sync_stopping(struct sync *s)
{
	return shmeta_observe(&s->wake.stopping) != 0;
}

void wake_stop(struct sync *s)
{
	shmeta_publish(&s->wake.stopping, 1u);
}

void wake_looks(struct sync *s)
{
	shmeta_store(&s->wake.kicked, 0u);
}

bool wake_is_kicked(struct sync *s)
{
	return shmeta_load(&s->wake.kicked) != 0;
}

bool wake_sleep(struct sync *s, int source_fd, uint64_t wait_ns)
{
	struct pollfd fds[2] = {{.fd = s->wake.event_fd, .events = POLLIN}, {.fd = source_fd, .events = POLLIN}};
	struct timespec timeout = {(time_t)(wait_ns / SYNC_S), (long)(wait_ns % SYNC_S)};
	uint64_t events;

	if (wait_ns == SYNC_NEVER)
		timeout = (struct timespec){SLEEP_MOST_S, 0};
	shmeta_store(&s->wake.sleeping, 1u);
	int ready = wake_is_kicked(s) || sync_stopping(s) ? 0 : ppoll(fds, 2, &timeout, NULL);

	shmeta_store(&s->wake.sleeping, 0u);
	if (ready > 0 && fds[0].revents != 0) {
		sync_measured(s, SHMETA_TIMED_WAKE, sync_now(s) - shmeta_peek(&s->wake.woken_ns));
		(void)!read(s->wake.event_fd, &events, sizeof events);
	}
	return ready > 0 && fds[1].revents != 0;
}
