/* SPDX-License-Identifier: Apache-2.0
 * The emulator of DynamoDB (emulator.h). */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/emulator.h"

enum { START_S = 120, ANSWER_MOST = 4 << 20 };

static uint16_t port;
static int connection = -1;

static struct sockaddr_in address(void)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void take_port(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = address();
	socklen_t bytes = sizeof at;

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &bytes) != 0)
		die("no port for the emulator of DynamoDB");
	(void)close(fd);
	port = ntohs(at.sin_port);
}

static bool connected(void)
{
	struct sockaddr_in at = address();
	int one = 1;

	connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection >= 0 && connect(connection, (struct sockaddr *)&at, sizeof at) == 0 &&
	    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0)
		return true;
	(void)close(connection);
	connection = -1;
	return false;
}

bool emulator_start(const struct bench *b, pid_t *ret_pid)
{
	char program[400], home[400], log[512], text[8];
	double end = now_s() + START_S;

	(void)snprintf(program, sizeof program, "%s/../pypi/bin/ministack", b->bin);
	if (access(program, X_OK) != 0)
		return false;
	take_port();
	(void)snprintf(home, sizeof home, "%s/emulator", b->dir);
	(void)snprintf(log, sizeof log, "%s.log", home);
	(void)snprintf(text, sizeof text, "%u", port);
	(void)mkdir(home, 0700);
	/* The daemons' environment, too: it is read only by the emulator. */
	setenv("BIND_HOST", "127.0.0.1", 1); /* it would listen everywhere */
	setenv("GATEWAY_PORT", text, 1);
	setenv("EDGE_PORT", text, 1);
	setenv("SERVICES", "dynamodb", 1);
	setenv("TMPDIR", home, 1);
	setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	setenv("AWS_ACCESS_KEY_ID", "AKIDBENCH", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "bench", 1);
	*ret_pid = env_spawn((char *const[]){program, NULL}, log);
	while (!connected()) {
		if (now_s() > end || waitpid(*ret_pid, NULL, WNOHANG) == *ret_pid)
			die("the emulator of DynamoDB does not start (%s)", log);
		(void)usleep(20000);
	}
	return true;
}

void emulator_uri(char *ret, size_t bytes, const char *prefix)
{
	(void)snprintf(ret, bytes, "dynamodb://us-east-1/%s?endpoint=http://127.0.0.1:%u", prefix, port);
}

static void send_all(const char *text, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = send(connection, text, bytes, MSG_NOSIGNAL);

		if (n <= 0)
			die("the emulator of DynamoDB has gone");
		text += n;
		bytes -= (size_t)n;
	}
}

const char *emulator_call(const char *target, const char *body)
{
	static char answer[ANSWER_MOST + 1];
	char head[300], *end = NULL;
	size_t used = 0, wanted = ANSWER_MOST;
	int n = snprintf(head, sizeof head,
	                 "POST / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nX-Amz-Target: DynamoDB_20120810.%s\r\nContent-Type: "
	                 "application/x-amz-json-1.0\r\nContent-Length: %zu\r\n\r\n",
	                 port, target, strlen(body));

	send_all(head, (size_t)n);
	send_all(body, strlen(body));
	while (used < wanted) {
		ssize_t got = recv(connection, answer + used, wanted - used, 0);

		if (got <= 0)
			die("%s: the emulator of DynamoDB does not answer", target);
		used += (size_t)got;
		answer[used] = '\0';
		if (end == NULL && (end = strstr(answer, "\r\n\r\n")) != NULL) {
			const char *length = strcasestr(answer, "\ncontent-length:");

			if (length == NULL || length > end || strncmp(answer, "HTTP/1.1 200", 12) != 0)
				die("%s: %.400s", target, answer);
			wanted = (size_t)(end + 4 - answer) + strtoul(length + 16, NULL, 10);
			if (wanted > ANSWER_MOST)
				die("%s: an answer of %zu bytes", target, wanted);
		}
	}
	return end + 4;
}
