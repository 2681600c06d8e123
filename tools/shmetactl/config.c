/* SPDX-License-Identifier: Apache-2.0
 * config show and config check. There is one parser of the configuration, the daemon's: these verbs run the daemon
 * that lies beside this program. */
#include "tools/shmetactl/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
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

static int run_daemon(struct tool *tool, const char *what, const char *file, bool json)
{
	char *argv[6];
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
	return exec_daemon(tool, argv);
}

int verb_config_show(struct tool *tool)
{
	return run_daemon(tool, "--dump-config", tool->config, tool->json);
}

int verb_config_check(struct tool *tool)
{
	if (tool->argc == 1 && tool->config != NULL)
		return tool_error(tool, TOOL_USAGE, "the file is given twice: '%s' and --config '%s'", tool->argv[0],
		                  tool->config);
	return run_daemon(tool, "--check-config", tool->argc == 1 ? tool->argv[0] : tool->config, false);
}
