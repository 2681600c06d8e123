/* SPDX-License-Identifier: Apache-2.0
 * The source that a verb is to open itself (source_uri.h). */
#include "tools/shmetactl/source_uri.h"

#include <string.h>

bool source_uri(const struct tool *tool, const struct pages *pages, char ret[SOURCE_URI_MAX])
{
	ret[0] = '\0';
	if (tool->source != NULL)
		(void)snprintf(ret, SOURCE_URI_MAX, "%s", tool->source);
	else if (pages->stats != NULL)
		(void)snprintf(ret, SOURCE_URI_MAX, "%.*s", (int)sizeof(pages->stats->source), pages->stats->source);
	return ret[0] != '\0' && (tool->source != NULL || strncmp(ret, "memory:", 7) != 0);
}

int source_judge(const struct tool *tool, const char *uri)
{
	static const char other[] = "sslpassword";
	bool replaced = tool->password_file != NULL;
	const char *at = uri;

	if (tool->source == NULL && strlen(uri) >= SHMETA_STATS_TEXT - 1)
		return tool_error(tool, TOOL_USAGE,
		                  "the daemon cannot show so long an address whole: name the source with --source");
	for (; (at = strstr(at, "***")) != NULL; at++) {
		size_t before = (size_t)(at - uri), n = sizeof(other) - 1;

		while (before > 0 && strchr(" \t=", uri[before - 1]) != NULL)
			before--;
		if (replaced && !(before >= n && strncmp(uri + before - n, other, n) == 0))
			continue;
		return tool_error(
			tool, TOOL_USAGE,
			"%s: the password is not known here: the daemon shows *** in its place. %s the source with --source",
			uri, replaced ? "Name" : "Give it with --password-file, or name");
	}
	return 0;
}

int source_exit(enum shmeta_status status, const struct backend_error *err)
{
	return err->denied ? TOOL_PERMISSION : tool_exit_of(status);
}
