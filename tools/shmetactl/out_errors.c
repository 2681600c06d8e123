/* SPDX-License-Identifier: Apache-2.0
 * Errors: sentences and exit codes. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/escape.h"
#include "tools/shmetactl/out.h"

static int output_error; /* errno of the first flush that failed */

/* False: the output cannot be written. */
static bool out_flush(void)
{
	if (fflush(stdout) != 0 && output_error == 0)
		output_error = errno;
	return ferror(stdout) == 0;
}

bool out_pause(uint64_t ms)
{
	/* No event is asked for: only that nobody reads any more ends the wait. */
	struct pollfd out = {.fd = STDOUT_FILENO};
	int ready;

	if (!out_flush())
		return false;
	ready = poll(&out, 1, ms < INT_MAX ? (int)ms : INT_MAX);
	if (ready > 0)
		(void)raise(SIGPIPE); /* as the next write would */
	return ready == 0;
}

int out_end(int code)
{
	if (out_flush())
		return code;
	(void)tool_error(NULL, TOOL_UNHEALTHY, "cannot write the output%s%s", output_error != 0 ? ": " : "",
	                 output_error != 0 ? strerror(output_error) : "");
	return code == TOOL_OK ? TOOL_UNHEALTHY : code;
}

void out_note(const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	shmeta__vsay(text, sizeof(text), fmt, ap);
	va_end(ap);
	out_progress_end();
	(void)out_flush();
	(void)fprintf(stderr, "shmetactl: %s\n", out_safe(text, strlen(text)));
}

int tool_error(const struct tool *tool, int code, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	shmeta__vsay(text, sizeof(text), fmt, ap);
	va_end(ap);
	out_progress_end();
	(void)out_flush();
	(void)fprintf(stderr, "shmetactl: %s\n", out_safe(text, strlen(text)));
	if (tool != NULL && tool->json && !list_end_by_error(code, text)) {
		json_t *object = out_document("error");

		out_set(object, "error", out_json_text(text, strlen(text)));
		out_set(object, "exit", json_integer(code));
		out_json(object, 2);
	}
	return code;
}

int tool_exit_of(enum shmeta_status status)
{
	switch (status) {
	case SHMETA_OK:
	case SHMETA_END:
		return TOOL_OK;
	case SHMETA_ABSENT:
	case SHMETA_ABSENT_BEFORE_START:
	case SHMETA_ABSENT_GAP:
	case SHMETA_ABSENT_AT_END:
	case SHMETA_ERR_NOT_TENANT:
	case SHMETA_ERR_TOPIC_NOT_FOUND:
	case SHMETA_ERR_PARTITION_NOT_FOUND:
	case SHMETA_ERR_NOT_FOUND:
		return TOOL_NOT_FOUND;
	case SHMETA_ERR_INVALID_ARGUMENT:
	case SHMETA_ERR_CONFIG:
	case SHMETA_ERR_BUFFER:
		return TOOL_USAGE;
	case SHMETA_ERR_NOT_RUNNING:
	case SHMETA_ERR_WRITER_AWAY:
		return TOOL_NOT_RUNNING;
	case SHMETA_ERR_PERMISSION:
	case SHMETA_ERR_DENIED:
	case SHMETA_ERR_READ_ONLY:
		return TOOL_PERMISSION;
	case SHMETA_ERR_VERSION:
	case SHMETA_ERR_CORRUPT:
	case SHMETA_ERR_PROTOCOL:
		return TOOL_VERSION;
	case SHMETA_ERR_TIMEOUT:
		return TOOL_TIMEOUT;
	case SHMETA_UNKNOWN:
	case SHMETA_TOO_OLD:
	case SHMETA_ERR_NO_MEMORY:
	case SHMETA_ERR_FORKED:
	case SHMETA_ERR_NO_SNAPSHOT:
	case SHMETA_ERR_BUSY_SNAPSHOT:
	case SHMETA_ERR_EXPIRED:
	case SHMETA_ERR_CONTENDED:
	case SHMETA_ERR_SOURCE:
	case SHMETA_ERR_BUSY:
	case SHMETA_ERR_SYSTEM:
	case SHMETA_ERR_UNSUPPORTED:
	case SHMETA_ERR_FULL:
	case SHMETA_ERR_ALREADY_EXISTS:
	case SHMETA_ERR_CONFLICT:
	case SHMETA_ERR_FENCED:
	case SHMETA_ERR_OUTCOME_UNKNOWN:
	case SHMETA_ERR_NOT_CACHED:
		return TOOL_UNHEALTHY;
	}
	return TOOL_UNHEALTHY;
}

const char *tool_outcome(enum shmeta_status status)
{
	switch ((int)status) {
	case SHMETA_OK:
		return "found";
	case SHMETA_ABSENT:
		return "absent";
	case SHMETA_ABSENT_BEFORE_START:
		return "absent_before_start";
	case SHMETA_ABSENT_GAP:
		return "absent_gap";
	case SHMETA_ABSENT_AT_END:
		return "absent_at_end";
	case SHMETA_UNKNOWN:
		return "unknown";
	default:
		return "error";
	}
}

int tool_say_not_opened(struct tool *tool, enum shmeta_status status, const char *error)
{
	if (error[0] == '\0')
		error = shmeta_strerror(status);
	if (strncmp(error, tool->dir, strlen(tool->dir)) == 0)
		return tool_error(tool, tool_exit_of(status), "%s", error);
	return tool_error(tool, tool_exit_of(status), "%s: %s", tool->dir, error);
}

int tool_say_failed(struct tool *tool, struct shmeta *instance, enum shmeta_status status, const char *doing)
{
	char text[512];

	(void)shmeta_last_error(instance, text, sizeof(text));
	/* A writer that hangs or is stopped does what it was sent when it goes on. */
	return tool_error(
		tool, tool_exit_of(status), "%s: %s%s", doing, text[0] != '\0' ? text : shmeta_strerror(status),
		status == SHMETA_ERR_TIMEOUT && strstr(text, "may still be done") == NULL ? "; it may still be done"
											  : "");
}
