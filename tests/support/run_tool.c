/* SPDX-License-Identifier: Apache-2.0
 * Run a program and keep what it printed. */
#include "tests/support/run_tool.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/places.h"
#include "tests/support/run_daemon.h"

enum { LIMIT_S = 20, SLOW_LIMIT_S = 180, FULL_LIMIT_S = 600 };

/* What can be read from the descriptors until both end, in two growing texts. 0, or -1 when the
 * time is over. */
static int collect(int fd[2], char *text[2], size_t bytes[2], uint32_t limit_s)
{
	double deadline = run_now_s() + run_rounds(limit_s, FULL_LIMIT_S);
	int open_count = 0;

	for (int i = 0; i < 2; i++) {
		text[i] = calloc(1, 1);
		bytes[i] = 0;
		open_count += fd[i] >= 0;
	}
	while (open_count > 0) {
		struct pollfd p[2] = {{.fd = fd[0], .events = POLLIN}, {.fd = fd[1], .events = POLLIN}};
		double left = deadline - run_now_s();

		if (left <= 0 || poll(p, 2, (int)(left * 1000) + 1) == 0)
			return -1;
		for (int i = 0; i < 2; i++) {
			char part[65536];
			ssize_t n;

			if (p[i].fd < 0 || p[i].revents == 0)
				continue;
			n = read(p[i].fd, part, sizeof(part));
			if (n <= 0) {
				fd[i] = -1; /* a terminal answers EIO at its end */
				open_count--;
				continue;
			}
			text[i] = realloc(text[i], bytes[i] + (size_t)n + 1);
			memcpy(text[i] + bytes[i], part, (size_t)n);
			bytes[i] += (size_t)n;
			text[i][bytes[i]] = '\0';
		}
	}
	return 0;
}

void run_tool_need_terminal(void)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 && (errno == ENODEV || errno == ENOENT))
		cr_skip_test("no pseudoterminal can be opened here; is devpts mounted on /dev/pts?");
	(void)close(fd);
}

static void run(struct run_tool *ret, int terminal, uint32_t limit_s, const char *line)
{
	static const char *const ours[] = {"shmetactl", "shmetad", "shmeta-exporter", "shmeta-demo", "shmeta-gen"};
	int out[2] = {-1, -1}, err[2] = {-1, -1}, from[2], keep[2];
	size_t bytes[2], n = strcspn(line, " ");
	double began = run_now_s();
	char *text[2], *command = NULL;
	const char *from_build = "";
	pid_t pid;

	*ret = (struct run_tool){.code = -1};
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strlen(ours[i]) == n && strncmp(line, ours[i], n) == 0)
			from_build = places_bin;
	cr_assert(asprintf(&command, "exec %s%s", from_build, line) > 0);
	if (terminal) {
		out[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
		cr_assert(out[0] >= 0 && grantpt(out[0]) == 0 && unlockpt(out[0]) == 0, "%s", strerror(errno));
		out[1] = open(ptsname(out[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
		cr_assert(out[1] >= 0, "%s", strerror(errno));
	} else {
		cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
		cr_assert_eq(pipe2(err, O_CLOEXEC), 0);
	}
	(void)fflush(NULL);
	pid = run_fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		(void)dup2(null, STDIN_FILENO);
		(void)dup2(out[1], STDOUT_FILENO);
		(void)dup2(terminal ? out[1] : err[1], STDERR_FILENO);
		(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	(void)close(out[1]);
	if (!terminal)
		(void)close(err[1]);
	keep[0] = from[0] = out[0];
	keep[1] = from[1] = err[0];
	if (collect(from, text, bytes, limit_s) != 0) {
		(void)kill(pid, SIGKILL);
		(void)run_reap(pid);
		ret->code = 124;
	} else {
		ret->code = run_reap(pid);
	}
	(void)close(keep[0]);
	if (!terminal)
		(void)close(keep[1]);
	free(command);
	ret->out = text[0];
	ret->out_bytes = bytes[0];
	ret->err = text[1];
	ret->seconds = run_now_s() - began;
}

__attribute__((format(printf, 1, 0))) static char *formatted(const char *fmt, va_list ap)
{
	char *line = NULL;

	cr_assert(vasprintf(&line, fmt, ap) >= 0);
	return line;
}

__attribute__((format(printf, 4, 0))) static void run_formatted(struct run_tool *ret, int terminal, uint32_t limit_s,
                                                                const char *fmt, va_list ap)
{
	char *line = formatted(fmt, ap);

	run(ret, terminal, limit_s, line);
	free(line);
}

void run_tool(struct run_tool *ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	run_formatted(ret, 0, LIMIT_S, fmt, ap);
	va_end(ap);
}

void run_tool_slow(struct run_tool *ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	run_formatted(ret, 0, SLOW_LIMIT_S, fmt, ap);
	va_end(ap);
}

void run_tool_terminal(struct run_tool *ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	run_formatted(ret, 1, LIMIT_S, fmt, ap);
	va_end(ap);
}

void run_tool_done(struct run_tool *t)
{
	free(t->out);
	free(t->err);
	t->out = t->err = NULL;
}

json_t *run_tool_json(const struct run_tool *t)
{
	json_error_t error;
	json_t *doc = json_loadb(t->out, t->out_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);

	cr_assert(doc != NULL, "not JSON (line %d: %s): %s", error.line, error.text, t->out);
	cr_assert(strncmp(json_string_value(json_object_get(doc, "schema")), "shmeta.", 7) == 0);
	cr_assert_eq(json_integer_value(json_object_get(doc, "version")), 1);
	cr_assert_eq(strlen(json_string_value(json_object_get(doc, "time"))), strlen("2026-01-01T00:00:00.000Z"));
	return doc;
}

char *run_read_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t bytes = 0;

	if (f == NULL || getdelim(&text, &bytes, '\0', f) < 0) {
		free(text);
		text = NULL;
	}
	if (f != NULL)
		(void)fclose(f);
	return text;
}
