/* SPDX-License-Identifier: Apache-2.0
 * pause, resume, log-level, set: what an operator asks of the running daemon. */
#include <stdlib.h>
#include <string.h>

#include "tools/shmetactl/tool.h"

static int operate(struct tool *tool, enum shmeta_operation operation, const char *text, uint64_t number,
                   const char *schema)
{
	enum shmeta_status status;
	struct shmeta *instance;
	char *became = NULL;
	int code = tool_open_control(tool, &instance);

	if (code != 0)
		return code;
	status = shmeta_operate(instance, operation, text, number, tool->timeout_ms, &became);
	if (status != SHMETA_OK)
		code = tool_say_failed(tool, instance, status, tool->verb);
	else if (tool->json)
		out_record(tool, schema, (struct field[]){f_string("became", became)}, 1);
	else
		(void)printf("%s\n", out_safe(became, strlen(became)));
	free(became);
	shmeta_close(instance);
	return code;
}

/* All words are one text. false: it is too long, said. */
static bool join(struct tool *tool, char ret[SHMETA_OPERATE_TEXT + 1])
{
	size_t n = 0;

	ret[0] = '\0';
	for (int i = 0; i < tool->argc; i++) {
		n += (size_t)snprintf(ret + n, SHMETA_OPERATE_TEXT + 1 - n, "%s%s", i > 0 ? " " : "", tool->argv[i]);
		if (n > SHMETA_OPERATE_TEXT) {
			(void)tool_error(tool, TOOL_USAGE, "the text is too long: at most %d bytes",
			                 (int)SHMETA_OPERATE_TEXT);
			return false;
		}
	}
	return true;
}

int verb_pause(struct tool *tool)
{
	char why[SHMETA_OPERATE_TEXT + 1];

	return join(tool, why) ? operate(tool, SHMETA_OPERATE_PAUSE, why, 0, "pause") : TOOL_USAGE;
}

int verb_resume(struct tool *tool)
{
	return operate(tool, SHMETA_OPERATE_RESUME, "", 0, "resume");
}

int verb_log_level(struct tool *tool)
{
	const char *level = tool->argc > 0 ? tool->argv[0] : "";

	if (tool->for_ms > 0 && level[0] == '\0')
		return tool_error(tool, TOOL_USAGE, "--for needs a level");
	return operate(tool, SHMETA_OPERATE_LOG_LEVEL, level, tool->for_ms, "log_level");
}

int verb_set(struct tool *tool)
{
	char text[SHMETA_OPERATE_TEXT + 1];

	return join(tool, text) ? operate(tool, SHMETA_OPERATE_SET, text, 0, "set") : TOOL_USAGE;
}
