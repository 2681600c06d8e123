/* SPDX-License-Identifier: Apache-2.0
 * An emulator of DynamoDB (ddb_server.h). */
#include "tests/support/ddb_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"
#include "tests/support/scratch.h"

enum { START_S = 60, STARTS = 5 };

static void program(char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "%s/pypi/bin/ministack", places_build);
}

bool ddb_server_installed(void)
{
	char path[300];

	program(path, sizeof path);
	return access(path, X_OK) == 0;
}

static int connected(uint16_t port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), good = 0;

	if (fd >= 0)
		good = connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
	(void)close(fd);
	return good;
}

static uint16_t free_port(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &bytes) != 0)
		abort();
	(void)close(fd);
	return ntohs(at.sin_port);
}

static void run(const struct ddb_server *server, const char *path)
{
	char port[8], log[100];
	int fd;

	(void)snprintf(port, sizeof port, "%u", server->port);
	(void)snprintf(log, sizeof log, "%s/log", server->dir);
	setenv("BIND_HOST", "127.0.0.1", 1); /* it would listen everywhere */
	setenv("GATEWAY_PORT", port, 1);
	setenv("EDGE_PORT", port, 1);
	setenv("SERVICES", "dynamodb,dynamodbstreams", 1);
	setenv("HOME", server->dir, 1);
	setenv("TMPDIR", server->dir, 1);
	setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 || chdir(server->dir) != 0)
		_exit(127);
	execl(path, path, (char *)NULL);
	_exit(127);
}

/* 0, and no process: it ended before it took connections, or did not take any. */
static int start(struct ddb_server *server, const char *path, double end)
{
	server->port = free_port();
	server->pid = run_fork();
	if (server->pid == 0)
		run(server, path);
	while (waitpid(server->pid, NULL, WNOHANG) == 0) {
		if (connected(server->port))
			return 1;
		if (run_now_s() > end) {
			(void)kill(server->pid, SIGKILL);
			(void)run_reap(server->pid);
			break;
		}
		(void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	server->pid = 0;
	return 0;
}

void ddb_server_start(struct ddb_server *server)
{
	double end = run_now_s() + START_S;
	char path[300];

	program(path, sizeof path);
	if (!scratch_dir("dynamodb", server->dir))
		abort();
	/* Whoever takes the port meanwhile makes it end. */
	for (int i = 0; i < STARTS && !start(server, path, end); i++)
		;
	if (server->pid == 0) {
		(void)fprintf(stderr, "the emulator does not start:\n");
		(void)snprintf(path, sizeof path, "tail -n 20 '%s/log' >&2", server->dir);
		(void)!system(path);
		abort();
	}
	setenv("AWS_ACCESS_KEY_ID", "AKIDTEST", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "test-secret", 1);
}

void ddb_server_stop(struct ddb_server *server)
{
	char command[100];

	if (server->pid <= 0)
		return;
	(void)kill(server->pid, SIGKILL);
	(void)run_reap(server->pid);
	server->pid = 0;
	(void)snprintf(command, sizeof command, "rm -rf '%s'", server->dir);
	if (system(command) != 0)
		(void)fprintf(stderr, "%s is left\n", server->dir);
}

void ddb_server_uri(uint16_t port, const char *prefix, char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "dynamodb://us-east-1/%s?endpoint=http://127.0.0.1:%u", prefix, port);
}
