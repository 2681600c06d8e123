/* SPDX-License-Identifier: Apache-2.0
 * shmeta-exporter under test. */
#include "tests/support/run_exporter.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/scratch.h"

int run_exporter_start(struct run_exporter *e, const char *fmt, ...)
{
	char options[1024], command[2048];
	double last = run_now_s() + 20;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(options, sizeof(options), fmt, ap);
	va_end(ap);
	memset(e, 0, sizeof(*e));
	if (!scratch_dir("exporter", e->dir))
		return -1;
	snprintf(e->socket, sizeof(e->socket), "%s/http", e->dir);
	snprintf(command, sizeof(command), "exec %sshmeta-exporter --listen unix:%s %s", places_bin, e->socket,
	         options);
	fflush(NULL);
	e->pid = run_fork();
	if (e->pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	while (run_now_s() < last) {
		int fd = run_exporter_connect(e);

		if (fd >= 0) {
			close(fd);
			return 0;
		}
		usleep(20000);
	}
	run_exporter_done(e);
	return -1;
}

void run_exporter_done(struct run_exporter *e)
{
	if (e->pid > 0) {
		kill(e->pid, SIGTERM);
		run_reap(e->pid);
	}
	e->pid = 0;
	if (e->dir[0] != '\0') {
		unlink(e->socket);
		rmdir(e->dir);
	}
}

int run_exporter_connect(const struct run_exporter *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, e->socket, strlen(e->socket) + 1);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

void run_exporter_send(const struct run_exporter *e, const char *request, size_t bytes, struct http_answer *ret)
{
	struct timeval limit = {.tv_sec = 15};
	double began = run_now_s();
	int fd = run_exporter_connect(e);
	size_t used = 0, room = 1 << 20;
	ssize_t n;

	*ret = (struct http_answer){.text = malloc(room)};
	cr_assert(fd >= 0, "the exporter does not accept");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)send(fd, request, bytes, MSG_NOSIGNAL);
	while (used + 1 < room && (n = recv(fd, ret->text + used, room - used - 1, 0)) > 0)
		used += (size_t)n;
	close(fd);
	ret->text[used] = '\0';
	ret->seconds = run_now_s() - began;
	ret->body = ret->text + used;
	if (sscanf(ret->text, "HTTP/1.1 %d", &ret->status) == 1 && strstr(ret->text, "\r\n\r\n") != NULL)
		ret->body = strstr(ret->text, "\r\n\r\n") + 4;
	ret->bytes = used - (size_t)(ret->body - ret->text);
}

void run_exporter_get(const struct run_exporter *e, const char *path, const char *headers, struct http_answer *ret)
{
	char request[1024];
	int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, headers);

	run_exporter_send(e, request, (size_t)n, ret);
}

void http_answer_done(struct http_answer *answer)
{
	free(answer->text);
	answer->text = NULL;
}
