/* SPDX-License-Identifier: Apache-2.0
 * Listening sockets. */
#include "tools/exporter/scrape_sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum { BACKLOG = SOMAXCONN };

static int failed(struct listener *ret, char *why, size_t bytes, const char *where, const char *what)
{
	(void)snprintf(why, bytes, "--listen %s: %s: %s", where, what, strerror(errno));
	if (ret->fd >= 0)
		(void)close(ret->fd);
	ret->fd = -1;
	return -1;
}

static int open_unix(const char *where, struct listener *ret, char *why, size_t bytes)
{
	const char *path = where + strlen("unix:");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat there;
	mode_t mask;
	int probe, bound;

	if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path)) {
		(void)snprintf(why, bytes, "--listen %s: an absolute path of at most %zu bytes is needed", where,
		               sizeof(address.sun_path) - 1);
		return -1;
	}
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	/* What a killed exporter left behind answers nobody. A file that is no socket answers the
	 * same and is not ours. */
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe >= 0 && connect(probe, (struct sockaddr *)&address, sizeof(address)) != 0 && errno == ECONNREFUSED &&
	    lstat(path, &there) == 0 && S_ISSOCK(there.st_mode))
		(void)unlink(path);
	if (probe >= 0)
		(void)close(probe);
	ret->local = true;
	ret->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ret->fd < 0)
		return failed(ret, why, bytes, where, "socket");
	mask = umask(0117);
	bound = bind(ret->fd, (struct sockaddr *)&address, sizeof(address));
	(void)umask(mask);
	if (bound != 0)
		return failed(ret, why, bytes, where, "bind");
	(void)snprintf(ret->path, sizeof(ret->path), "%s", path);
	return listen(ret->fd, BACKLOG) == 0 ? 0 : failed(ret, why, bytes, where, "listen");
}

/* "ADDRESS:PORT" or "[ADDRESS]:PORT" of the loopback interface. */
static bool loopback(const char *where, struct sockaddr_storage *ret, socklen_t *ret_bytes)
{
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
	const char *colon = strrchr(where, ':');
	char address[64], *end;
	unsigned long port;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9' || (size_t)(colon - where) >= sizeof(address))
		return false;
	port = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || port > UINT16_MAX)
		return false;
	memset(ret, 0, sizeof(*ret));
	(void)snprintf(address, sizeof(address), "%.*s", (int)(colon - where), where);
	if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		*ret_bytes = sizeof(*four);
		return (ntohl(four->sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
	}
	if (address[0] != '[' || address[strlen(address) - 1] != ']')
		return false;
	address[strlen(address) - 1] = '\0';
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)port);
	*ret_bytes = sizeof(*six);
	return inet_pton(AF_INET6, address + 1, &six->sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

int listen_open(const char *where, struct listener *ret, char *why, size_t bytes)
{
	struct sockaddr_storage address;
	socklen_t length;
	int yes = 1;

	*ret = (struct listener){.fd = -1};
	if (strncmp(where, "unix:", strlen("unix:")) == 0)
		return open_unix(where, ret, why, bytes);
	if (!loopback(where, &address, &length)) {
		(void)snprintf(
			why, bytes,
			"--listen %s: only 127.0.0.1:PORT, [::1]:PORT and unix:PATH; a reverse proxy in front of it "
			"gives other hosts access, with TLS and passwords",
			where);
		return -1;
	}
	ret->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ret->fd < 0)
		return failed(ret, why, bytes, where, "socket");
	(void)setsockopt(ret->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(ret->fd, (struct sockaddr *)&address, length) != 0)
		return failed(ret, why, bytes, where, "bind");
	return listen(ret->fd, BACKLOG) == 0 ? 0 : failed(ret, why, bytes, where, "listen");
}

int listen_inherited(struct listener ret[LISTENERS], char *why, size_t bytes)
{
	int count = sd_listen_fds(1);

	if (count <= 0)
		return 0;
	if (count > LISTENERS) {
		(void)snprintf(why, bytes, "the service manager handed over %d sockets; %d at most", count, LISTENERS);
		return -1;
	}
	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
			(void)snprintf(why, bytes, "descriptor %d of the service manager is no listening stream socket",
			               fd);
			return -1;
		}
		ret[i] = (struct listener){.fd = fd, .local = sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0};
	}
	return count;
}

void listen_close(struct listener *listener)
{
	if (listener->fd >= 0)
		(void)close(listener->fd);
	if (listener->path[0] != '\0')
		(void)unlink(listener->path);
	listener->fd = -1;
}

void listen_ready(void)
{
	(void)sd_notify(0, "READY=1");
}
