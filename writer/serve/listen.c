/* SPDX-License-Identifier: Apache-2.0
 * Listening on control.sock. */
#include "writer/serve/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "writer/daemon/log.h"

/* What waits longer than the kernel's own bound of the queue makes no sense. */
enum { BACKLOG = 4096, LOOK_EVERY = 16 };
static const uint64_t TURN_NS = 500000; /* of accepting, before others have their turn */

static const char socket_name[] = "control.sock";

bool listen_peer_of(int fd, struct registry_peer *ret)
{
	struct ucred credentials;
	socklen_t bytes = sizeof(credentials);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) < 0)
		return false;
	*ret = (struct registry_peer){.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
	return true;
}

/* Out of descriptors: the listener would stay readable and spin. The spare one takes the connection
 * only to close it. */
static void shed(struct listener *l)
{
	int fd;

	log_event(LOG_ERR, "descriptors", "out of file descriptors: new connections are closed; raise LimitNOFILE");
	if (l->spare_fd >= 0)
		close(l->spare_fd);
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	l->shed_ns = shmeta__boottime_ns();
	l->host.shed(l->host.arg);
}

static bool has_gone(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static int on_listen(sd_event_source *source, int listen_fd, uint32_t events, void *arg)
{
	struct listener *l = arg;
	uint64_t until = shmeta__boottime_ns() + TURN_NS;

	(void)source;
	(void)events;
	for (unsigned i = 1; i % LOOK_EVERY != 0 || shmeta__boottime_ns() < until; i++) {
		struct registry_peer peer;
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			shed(l);
			return 0;
		}
		if (fd < 0)
			return 0;
		if (has_gone(fd) || !listen_peer_of(fd, &peer)) {
			close(fd);
			continue;
		}
		l->host.arrived(l->host.arg, fd, &peer);
	}
	return 0;
}

static bool group_number(const char *name, gid_t *ret)
{
	struct group entry, *found = NULL;
	char buffer[16384];

	if (name == NULL || name[0] == '\0' || getgrnam_r(name, &entry, buffer, sizeof(buffer), &found) != 0 ||
	    found == NULL)
		return false;
	*ret = found->gr_gid;
	return true;
}

/* A path that is too long for a socket address is reached through the open directory. */
static bool address_of(int dir_fd, const char *path, struct sockaddr_un *ret)
{
	ret->sun_family = AF_UNIX;
	if ((size_t)snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", path, socket_name) < sizeof(ret->sun_path))
		return true;
	return (size_t)snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dir_fd, socket_name) <
	       sizeof(ret->sun_path);
}

static enum shmeta_status bind_socket(struct listener *l, const char *path, struct shmeta_err *err)
{
	struct sockaddr_un address = {0};
	mode_t mask;
	int rc;

	if (!address_of(l->dir_fd, path, &address))
		return shmeta_fail(err, SHMETA_ERR_SYSTEM, "the path of %s is too long", path);
	/* Whoever left it is gone: writer.lock is ours. */
	if (unlinkat(l->dir_fd, socket_name, 0) < 0 && errno != ENOENT)
		return shmeta_fail_errno(err, errno, "cannot remove the former %s/%s", path, socket_name);
	l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return shmeta_fail_errno(err, errno, "cannot create the control socket");
	mask = umask(0117);
	rc = bind(l->fd, (const struct sockaddr *)&address, sizeof(address));
	umask(mask);
	if (rc < 0)
		return shmeta_fail_errno(err, errno, "cannot bind %s/%s", path, socket_name);
	l->bound = true;
	if (listen(l->fd, BACKLOG) < 0)
		return shmeta_fail_errno(err, errno, "cannot listen on %s/%s", path, socket_name);
	return SHMETA_OK;
}

bool listen_is_ours(int fd)
{
	return sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 1) > 0;
}

/* Is the socket bound to DIR/control.sock, by whatever path it was reached? Agents look nowhere
 * else. */
static bool leads_here(const struct listener *l, const struct sockaddr_un *address)
{
	struct stat here, there;

	return address->sun_path[0] == '/' && fstatat(l->dir_fd, socket_name, &here, AT_SYMLINK_NOFOLLOW) == 0 &&
	       lstat(address->sun_path, &there) == 0 && S_ISSOCK(here.st_mode) && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
}

/* The service manager bound it, and goes on listening when this process ends. */
static enum shmeta_status take_socket(struct listener *l, int fd, const char *path, struct shmeta_err *err)
{
	struct sockaddr_un address = {0};
	socklen_t bytes = sizeof(address) - 1;

	l->fd = fd;
	if (getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
		return shmeta_fail_errno(err, errno, "the socket that the service manager passed");
	if (!leads_here(l, &address))
		return shmeta_fail(err, SHMETA_ERR_CONFIG,
		                   "the socket that the service manager passed listens on '%s' instead of %s/%s; "
		                   "ListenSequentialPacket= of its unit must name that",
		                   address.sun_path, path, socket_name);
	/* systemd hands descriptors over with the flags of its own choice. */
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return shmeta_fail_errno(err, errno, "the socket that the service manager passed");
	return SHMETA_OK;
}

static void give_to_group(const struct listener *l, const char *group)
{
	gid_t gid;

	if (group_number(group, &gid) && fchownat(l->dir_fd, socket_name, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) < 0)
		log_event(LOG_WARNING, "group",
		          "cannot give the control socket to group '%s': %m; only the daemon's own group can connect",
		          group);
}

static void note_place(struct listener *l)
{
	struct stat st;

	if (fstatat(l->dir_fd, socket_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
}

bool listen_is_found(const struct listener *l)
{
	struct stat st;

	if (l->fd < 0 || l->ino == 0)
		return true;
	/* What cannot be told is no reason to complain. */
	if (fstatat(l->dir_fd, socket_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno != ENOENT;
	return st.st_dev == l->dev && st.st_ino == l->ino;
}

enum shmeta_status listen_start(struct listener *l, sd_event *event, int dir_fd, const char *path, const char *group,
                                int passed_fd, const struct listen_host *host, struct shmeta_err *err)
{
	enum shmeta_status status;

	*l = (struct listener){.host = *host, .dir_fd = dir_fd, .fd = -1};
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	status = passed_fd >= 0 ? take_socket(l, passed_fd, path, err) : bind_socket(l, path, err);
	if (status == SHMETA_OK)
		give_to_group(l, group);
	note_place(l);
	if (status == SHMETA_OK && sd_event_add_io(event, &l->source, l->fd, EPOLLIN, on_listen, l) < 0)
		status = shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "cannot watch the control socket");
	return status;
}

void listen_stop(struct listener *l)
{
	if (l->fd >= 0) {
		l->source = sd_event_source_disable_unref(l->source);
		close(l->fd);
		l->fd = -1;
		if (l->bound)
			(void)unlinkat(l->dir_fd, socket_name, 0);
	}
	if (l->spare_fd >= 0)
		close(l->spare_fd);
	l->spare_fd = -1;
}
