/* SPDX-License-Identifier: Apache-2.0
 * HTTP: which requests are answered, and with what headers. Owns: the limits: GET and HEAD alone,
 * 16 connections a socket, 8 KiB of request and headers, one request a connection, 2 s without a
 * byte, 5 s in all. One thread: the caller's. */
#ifndef SHMETA_TOOLS_EXPORTER_HTTP_H
#define SHMETA_TOOLS_EXPORTER_HTTP_H

#include "tools/exporter/instances.h"
#include "tools/exporter/scrape_sockets.h"

enum { HOSTS = 8 };
struct serve_options {
	struct instances *instances;
	const char *host[HOSTS]; /* names under which a reverse proxy is reached, beside those of
                                  * this host itself */
	uint32_t hosts;
	double price; /* of a million statements; 0: not known */
	const char *currency;
};

struct server;
/* options and listener must outlive the server. NULL: no memory, or the library refuses. */
struct server *serve_start(const struct serve_options *options, struct listener *listener);
int serve_fd(const struct server *server); /* readable: there is something to do */
/* Do what is to be done, without waiting. Returns after how many milliseconds to call again at the
 * latest. */
int serve_run(struct server *server);
void serve_stop(struct server *server);

#endif
