/* SPDX-License-Identifier: Apache-2.0
 * The writer's socket: connecting, judging who listens there, and telling a descriptor of ours from
 * one that took its number. */
#include "reader/attach/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A path that does not fit sun_path is reached through a descriptor of its directory. */
static enum shmeta_status address_of(const struct core *core, struct sockaddr_un *ret, int *ret_dir,
                                     struct shmeta_err *err)
{
	int n = snprintf(ret->sun_path, sizeof ret->sun_path, "%s/control.sock", core->directory);

	*ret_dir = -1;
	ret->sun_family = AF_UNIX;
	if (n < (int)sizeof ret->sun_path)
		return SHMETA_OK;
	*ret_dir = open(core->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return shmeta_fail_errno(err, errno, "%s", core->directory);
	(void)snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/control.sock", *ret_dir);
	return SHMETA_OK;
}

static enum shmeta_status connect_failed(const struct core *core, int error, struct shmeta_err *err)
{
	switch (error) {
	case EAGAIN:
		return shmeta_fail(err, SHMETA_ERR_BUSY,
		                   "%s/control.sock: the writer has not taken earlier connections yet",
		                   core->directory);
	case EACCES:
	case EPERM:
		return shmeta_fail(
			err, SHMETA_ERR_DENIED,
			"%s/control.sock: this user may not connect: requests to the writer need its group: usermod -aG "
			"shmeta USER, then log in again",
			core->directory);
	case ENOENT:
	case ECONNREFUSED:
	case ECONNRESET:
	case EPROTOTYPE:
		return shmeta_fail(err, SHMETA_ERR_WRITER_AWAY, "%s/control.sock: no writer answers there",
		                   core->directory);
	default:
		return shmeta_fail_errno(err, error, "%s/control.sock: connecting", core->directory);
	}
}

/* connect(), waiting in the kernel's queue, which is fair, while the backlog is full. until_ns 0:
 * do not wait. -1: errno. */
static int connect_until(int fd, const struct sockaddr_un *address, uint64_t until_ns)
{
	int rc;

	do {
		uint64_t now = shmeta__monotonic_ns(), left = until_ns > now ? until_ns - now : 0;
		/* A timeout of zero would mean no timeout. */
		struct timeval patience = {(time_t)(left / 1000000000u), (long)(left % 1000000000u / 1000u) + 1};

		if (until_ns != 0 && (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
		                      fcntl(fd, F_SETFL, 0) < 0))
			return -1;
		rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
	} while (rc < 0 && errno == EINTR && until_ns != 0);
	return rc == 0 && until_ns != 0 ? fcntl(fd, F_SETFL, O_NONBLOCK) : rc;
}

enum shmeta_status shmeta__control_connect(const struct core *core, uint64_t until_ns, int *ret_fd,
                                           struct shmeta_err *err)
{
	struct sockaddr_un address = {0};
	struct ucred peer = {0};
	socklen_t peer_bytes = sizeof peer;
	enum shmeta_status status;
	int dir, rc, error, fd;

	status = address_of(core, &address, &dir, err);
	if (status != SHMETA_OK)
		return status;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	rc = fd < 0 ? -1 : connect_until(fd, &address, until_ns);
	error = errno;
	if (dir >= 0)
		(void)close(dir);
	if (fd < 0)
		return shmeta_fail_errno(err, error, "a socket");
	if (rc < 0) {
		(void)close(fd);
		return connect_failed(core, error, err);
	}
	/* The peer is who called listen(): it must be the owner of the board, or root (systemd's
	 * sockets). */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) < 0 ||
	    (peer.uid != core->owner && peer.uid != 0)) {
		(void)close(fd);
		return shmeta_fail(err, SHMETA_ERR_DENIED,
		                   "%s/control.sock: belongs to user %u, the instance to user %u: refused",
		                   core->directory, peer.uid, core->owner);
	}
	*ret_fd = fd;
	return SHMETA_OK;
}

void shmeta__fd_note(int fd, uint64_t *ret_dev, uint64_t *ret_ino)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		st.st_dev = st.st_ino = 0;
	*ret_dev = st.st_dev;
	*ret_ino = st.st_ino;
}

int shmeta__fd_is(int fd, uint64_t dev, uint64_t ino)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}
