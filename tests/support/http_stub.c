/* SPDX-License-Identifier: Apache-2.0
 * A scripted HTTP server (http_stub.h). */
#include "tests/support/http_stub.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/run_daemon.h"

enum { REQUEST_MAX = 1 << 20 };

/* A whole request, terminated. false: the connection ended. */
static bool read_request(int fd, char *ret)
{
	size_t have = 0;

	for (;;) {
		ssize_t n = read(fd, ret + have, REQUEST_MAX - 1 - have);
		const char *end, *length;

		if (n <= 0)
			return false;
		have += (size_t)n;
		ret[have] = '\0';
		end = strstr(ret, "\r\n\r\n");
		length = strcasestr(ret, "\r\nContent-Length: ");
		if (end == NULL)
			continue;
		if (length == NULL || length > end || have >= (size_t)(end + 4 - ret) + strtoul(length + 18, NULL, 10))
			return true;
	}
}

static void say(int fd, const char *text)
{
	char head[80];
	int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", strlen(text));

	if (strncmp(text, "HTTP/", 5) != 0 && send(fd, head, (size_t)n, MSG_NOSIGNAL) < 0)
		return;
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		return;
}

__attribute__((noreturn)) static void serve(int listener, const struct http_line *lines, size_t count)
{
	char *request = malloc(REQUEST_MAX);
	size_t next = 0;

	for (;;) {
		int fd = accept(listener, NULL, NULL);

		while (fd >= 0 && request != NULL && read_request(fd, request)) {
			const struct http_line *line = &lines[next];

			next += next + 1 < count;
			if (line->wants != NULL && strstr(request, line->wants) == NULL)
				say(fd, "HTTP/1.1 418 Not what the script wants\r\nContent-Length: 0\r\n\r\n");
			else if (line->answer == NULL)
				continue;
			else if (line->answer[0] == '\0')
				break;
			else
				say(fd, line->answer);
			if (line->answer != NULL && strstr(line->answer, "Connection: close") != NULL)
				break;
		}
		(void)close(fd);
	}
}

void http_stub_start(struct http_stub *stub, const struct http_line *lines, size_t count)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof at;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 16) != 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &bytes) != 0)
		abort();
	stub->port = ntohs(at.sin_port);
	(void)snprintf(stub->url, sizeof stub->url, "http://127.0.0.1:%u", stub->port);
	stub->pid = run_fork();
	if (stub->pid == 0)
		serve(listener, lines, count);
	(void)close(listener);
}

void http_stub_stop(struct http_stub *stub)
{
	if (stub->pid > 0) {
		(void)kill(stub->pid, SIGKILL);
		(void)run_reap(stub->pid);
	}
	stub->pid = 0;
}
