/* SPDX-License-Identifier: Apache-2.0
 * The listening end of control.sock: it is bound, or taken from the service manager that bound it,
 * and connections are taken off it as fast as a bounded turn of the loop allows. Whoever has gone
 * again before its turn came costs nothing further. */
#ifndef SHMETA_WRITER_SERVE_LISTEN_H
#define SHMETA_WRITER_SERVE_LISTEN_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/err.h"
#include "writer/serve/registry.h"

struct listen_host {
	void *arg;
	/* takes fd, which does not block */
	void (*arrived)(void *arg, int fd, const struct registry_peer *peer);
	void (*shed)(void *arg); /* one was closed for want of descriptors */
};

struct listener {
	struct listen_host host;
	int dir_fd, fd, spare_fd; /* fd -1: not listening */
	bool bound;               /* by us, and so ours to remove */
	uint64_t dev, ino;        /* of control.sock; ino 0: not known */
	uint64_t shed_ns;         /* when one was closed for want of descriptors, last */
	sd_event_source *source;
};

/* Is the descriptor a socket that control.sock could be: local, of packets, listening? */
bool listen_is_ours(int fd);

/* Bind control.sock in an instance directory (path, and open as dir_fd) and listen in the loop.
 * passed_fd: the service manager's socket, which is taken instead (-1: none); ERR_CONFIG where it
 * listens elsewhere. group: see control_start(). After a failure, too, listen_stop() is to be
 * called. */
enum shmeta_status listen_start(struct listener *l, sd_event *event, int dir_fd, const char *path, const char *group,
                                int passed_fd, const struct listen_host *host, struct shmeta_err *err);
/* Do programs that look for control.sock still find it? false: it was removed or replaced. */
bool listen_is_found(const struct listener *l);
/* Nobody comes any more; a socket that was bound here is removed. Idempotent. */
void listen_stop(struct listener *l);

/* Who is at the other end, as the kernel knows it. */
bool listen_peer_of(int fd, struct registry_peer *ret);

#endif
