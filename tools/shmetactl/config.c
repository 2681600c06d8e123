/* SPDX-License-Identifier: Apache-2.0
 * config show and config check. There is one parser of the configuration, the daemon's: these verbs run the daemon
 * that lies beside this program. */
#include "tools/shmetactl/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The daemon beside this program, in the sbin beside our bin, or on the PATH. */
static int exec_daemon(struct tool *tool, char *const argv[])
{
	char self[PATH_MAX], path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	(void)fflush(stdout);
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (int i = 0; slash != NULL && i < 2; i++) {
		*slash = '\0';
		(void)snprintf(path, sizeof(path), i == 0 ? "%s/shmetad" : "%s/../sbin/shmetad", self);
		(void)execv(path, argv);
		if (errno != ENOENT)
			return tool_error(tool, TOOL_UNHEALTHY, "cannot run %s: %s", path, strerror(errno));
	}
	(void)execvp("shmetad", argv);
	return tool_error(tool, TOOL_NOT_RUNNING, "cannot run shmetad: not beside this program and not on the PATH");
}

static void daemon_argv(char *argv[6], const char *what, const char *file, bool json)
{
	int n = 0;

	argv[n++] = (char *)(uintptr_t) "shmetad";
	if (file != NULL) {
		argv[n++] = (char *)(uintptr_t) "--config";
		argv[n++] = (char *)(uintptr_t)file;
	}
	argv[n++] = (char *)(uintptr_t)what;
	if (json)
		argv[n++] = (char *)(uintptr_t) "--json";
	argv[n] = NULL;
}

/* The daemon's own JSON, in the frame that every verb's JSON has. */
static int config_json(struct tool *tool, char *argv[])
{
	json_t *theirs, *doc, *value;
	json_error_t error;
	const char *key;
	int fd[2], status, code;
	FILE *from;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) != 0)
		return tool_error(tool, TOOL_UNHEALTHY, "pipe: %s", strerror(errno));
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)dup2(fd[1], STDOUT_FILENO);
		tool->json = false;
		_exit(exec_daemon(tool, argv));
	}
	(void)close(fd[1]);
	from = fdopen(fd[0], "r");
	if (pid < 0 || from == NULL)
		return tool_error(tool, TOOL_UNHEALTHY, "fork: %s", strerror(errno));
	theirs = json_loadf(from, JSON_DISABLE_EOF_CHECK, &error);
	(void)fclose(from);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	code = WIFEXITED(status) ? WEXITSTATUS(status) : TOOL_UNHEALTHY;
	if (code != TOOL_OK || !json_is_object(theirs)) {
		json_decref(theirs);
		return tool_error(tool, code != TOOL_OK ? code : TOOL_UNHEALTHY,
		                  "shmetad did not show its configuration");
	}
	doc = out_document("config");
	json_object_foreach(theirs, key, value)
	{
		if (strcmp(key, "schema") != 0 && strcmp(key, "version") != 0 && strcmp(key, "time") != 0)
			out_set(doc, key, json_incref(value));
	}
	json_decref(theirs);
	out_json(doc, 2);
	return TOOL_OK;
}

int verb_config_show(struct tool *tool)
{
	char *argv[6];

	daemon_argv(argv, "--dump-config", tool->config, tool->json);
	return tool->json ? config_json(tool, argv) : exec_daemon(tool, argv);
}

int verb_config_check(struct tool *tool)
{
	char *argv[6];

	if (tool->argc == 1 && tool->config != NULL)
		return tool_error(tool, TOOL_USAGE, "the file is given twice: '%s' and --config '%s'", tool->argv[0],
		                  tool->config);
	daemon_argv(argv, "--check-config", tool->argc == 1 ? tool->argv[0] : tool->config, false);
	return exec_daemon(tool, argv);
}
