/* SPDX-License-Identifier: Apache-2.0
 * Where the exporter listens: a loopback address, a Unix socket, or what the service manager hands
 * over. Owns: the descriptors and the file of a Unix socket. */
#ifndef SHMETA_TOOLS_EXPORTER_SCRAPE_SOCKETS_H
#define SHMETA_TOOLS_EXPORTER_SCRAPE_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

enum { LISTENERS = 4 };
struct listener {
	int fd;
	bool local; /* a Unix socket: no browser connects to it, so that the Host of a request means
                     * nothing */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* to be removed at the end; "" */
};

/* "127.0.0.1:PORT", "[::1]:PORT" or "unix:PATH". An address of another host is refused: a reverse
 * proxy does that, with TLS and passwords. 0, or -1 with a sentence. */
int listen_open(const char *where, struct listener *ret, char *why, size_t bytes);
/* The sockets that the service manager hands over; 0: none. -1 with a sentence when one is no
 * listening stream socket. */
int listen_inherited(struct listener ret[LISTENERS], char *why, size_t bytes);
void listen_close(struct listener *listener);
/* Tells the service manager that requests are answered from now on. */
void listen_ready(void);

#endif
