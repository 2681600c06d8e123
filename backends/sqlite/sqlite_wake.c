/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what says that something has changed. */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "backends/sqlite/sqlite_wake.h"

static const char *file_name(const struct sqlite_state *state)
{
	const char *slash = strrchr(state->path, '/');

	return slash != NULL ? slash + 1 : state->path;
}

static void watch_wal(struct sqlite_state *state)
{
	char wal[PATH_MAX];

	if (snprintf(wal, sizeof wal, "%s-wal", state->path) < (int)sizeof wal)
		state->watch_wal = inotify_add_watch(state->inotify, wal, IN_MODIFY);
}

void sqlite_suppress_wakeups(struct sqlite_state *state)
{
	if (state->inotify < 0 || state->suppressed)
		return;
	if (state->watch_wal >= 0)
		(void)inotify_rm_watch(state->inotify, state->watch_wal);
	state->watch_wal = -1;
	state->suppressed = true;
}

void sqlite_listen(struct sqlite_state *state)
{
	state->suppressed = false;
	watch_wal(state);
}

static bool add(int epoll, int fd)
{
	return fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN}) == 0;
}

/* Without it there is a hint less: polling goes on. */
static void start_waking(struct sqlite_state *state)
{
	state->wake = epoll_create1(EPOLL_CLOEXEC);
	state->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	state->again = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (state->wake < 0 || !add(state->wake, state->inotify) || !add(state->wake, state->again))
		sqlite_stop_waking(state);
}

void sqlite_stop_waking(struct sqlite_state *state)
{
	if (state->wake >= 0)
		close(state->wake);
	if (state->inotify >= 0)
		close(state->inotify);
	if (state->again >= 0)
		close(state->again);
	state->wake = state->inotify = state->again = -1;
	state->watch_dir = state->watch_file = state->watch_wal = -1;
	state->suppressed = false;
}

void sqlite_watch(struct sqlite_state *state)
{
	char copy[PATH_MAX];

	sqlite_unwatch(state);
	if (state->inotify < 0)
		start_waking(state);
	if (state->inotify < 0)
		return;
	snprintf(copy, sizeof copy, "%s", state->path);
	state->watch_dir =
		inotify_add_watch(state->inotify, dirname(copy), IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM);
	state->watch_file =
		inotify_add_watch(state->inotify, state->path, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
	watch_wal(state);
}

void sqlite_unwatch(struct sqlite_state *state)
{
	if (state->inotify < 0)
		return;
	if (state->watch_dir >= 0)
		inotify_rm_watch(state->inotify, state->watch_dir);
	if (state->watch_file >= 0)
		inotify_rm_watch(state->inotify, state->watch_file);
	if (state->watch_wal >= 0)
		inotify_rm_watch(state->inotify, state->watch_wal);
	state->watch_dir = state->watch_file = state->watch_wal = -1;
	state->suppressed = false;
}

bool sqlite_woken(struct sqlite_state *state)
{
	char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	const char *name = file_name(state);
	size_t bytes = strlen(name);
	bool wal = false, any = false;
	uint64_t expired;
	ssize_t got;

	if (state->inotify < 0)
		return false;
	any = read(state->again, &expired, sizeof expired) > 0;
	while ((got = read(state->inotify, buffer, sizeof buffer)) > 0)
		for (const char *at = buffer; at < buffer + got;) {
			const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
			bool ours = event->wd != state->watch_dir ||
			            (event->len > 0 && strncmp(event->name, name, bytes) == 0);

			any |= ours;
			wal |= ours && event->wd == state->watch_dir && strcmp(event->name + bytes, "-wal") == 0;
			at += sizeof *event + event->len;
		}
	if (wal && !state->suppressed)
		watch_wal(state);
	return any;
}

/* The bytes of a commit wake us before the commit can be seen: SQLite publishes it through memory,
 * which wakes nobody. So after a wake that showed nothing look again, a few times, ever later. */
void sqlite_wake_again(struct sqlite_state *state, bool woken, bool changed)
{
	enum { FIRST_MS = 1, LAST_MS = 64 };
	struct itimerspec timer = {.it_interval = {0, 0}};

	if (state->again < 0 || (!woken && !changed))
		return;
	if (changed || state->again_ms >= LAST_MS) {
		if (state->again_ms == 0)
			return;
		state->again_ms = 0;
	} else {
		state->again_ms = state->again_ms == 0 ? FIRST_MS : 2 * state->again_ms;
	}
	timer.it_value.tv_nsec = (long)state->again_ms * 1000000;
	timerfd_settime(state->again, 0, &timer, NULL);
}

int sqlite_wake_fd(void *data)
{
	return ((const struct sqlite_state *)data)->wake;
}
