/* SPDX-License-Identifier: Apache-2.0
 * --all-instances: a verb for each instance below a directory, in order of their names. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/shmetactl/out.h"

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of the directories that have a board. An exit code, said, where the directory cannot be
 * read. */
static int find(const struct tool *tool, const char *parent, char ***ret, size_t *ret_count)
{
	DIR *dir = opendir(parent);
	const struct dirent *entry;
	char board[512];

	*ret = NULL;
	*ret_count = 0;
	if (dir == NULL)
		return tool_error(tool, errno == EACCES ? TOOL_PERMISSION : TOOL_NOT_RUNNING, "%s: %s", parent,
		                  strerror(errno));
	while ((entry = readdir(dir)) != NULL) {
		(void)snprintf(board, sizeof(board), "%s/board", entry->d_name);
		/* One that may not be looked into is told of by the verb. */
		if (entry->d_name[0] == '.' || (faccessat(dirfd(dir), board, F_OK, 0) != 0 && errno != EACCES))
			continue;
		*ret = tool_grow(*ret, (*ret_count + 1) * sizeof(**ret));
		(*ret)[(*ret_count)++] = tool_copy(entry->d_name, strlen(entry->d_name));
	}
	(void)closedir(dir);
	if (*ret_count > 0)
		qsort(*ret, *ret_count, sizeof(**ret), by_name);
	return 0;
}

/* The worse of two exit codes: of health, critical (2) is worse than unknown (3). */
static int worse(const struct tool *tool, int a, int b)
{
	static const int weight[] = {0, 1, 3, 2};

	if (strcmp(tool->verb, "health") == 0 && a >= 0 && a < 4 && b >= 0 && b < 4)
		return weight[a] >= weight[b] ? a : b;
	return a >= b ? a : b;
}

static void put_text(const char *text)
{
	json_t *value = out_json_text(text, strlen(text));

	out_json_to(stdout, value, 0);
	json_decref(value);
}

int tool_each_instance(struct tool *tool, int (*run)(struct tool *tool))
{
	char parent[PATH_MAX], **names;
	size_t count;
	int code, worst = TOOL_OK;
	const struct tool given = *tool;

	(void)snprintf(parent, sizeof(parent), "%s", tool->dir[0] != '\0' ? tool->dir : "/run/shmeta");
	code = find(tool, parent, &names, &count);
	if (code != 0)
		return code;
	if (count == 0)
		return tool_error(tool, TOOL_NOT_RUNNING, "no instance below %s: no writer has run there", parent);
	if (tool->json) {
		json_t *head = out_document("instances");
		char *text = json_dumps(head, JSON_COMPACT | JSON_ENSURE_ASCII);

		if (text == NULL)
			tool_no_memory();
		text[strlen(text) - 1] = '\0'; /* the object goes on */
		(void)printf("%s,\"instances\":[", text);
		free(text);
		json_decref(head);
	}
	for (size_t i = 0; i < count; i++) {
		bool fits;

		*tool = given;
		tool->instance = names[i];
		fits = (size_t)snprintf(tool->dir, sizeof(tool->dir), "%s/%s", parent, names[i]) < sizeof(tool->dir);
		if (tool->json) {
			(void)fputs(i > 0 ? ",\n{\"instance\":" : "\n{\"instance\":", stdout);
			put_text(names[i]);
			(void)fputs(",\"document\":", stdout);
		} else {
			(void)printf("%s# %s\n", i > 0 ? "\n" : "", out_safe(names[i], strlen(names[i])));
		}
		code = fits ? run(tool) : tool_error(tool, TOOL_USAGE, "%s/%s: the path is too long", parent, names[i]);
		worst = worse(tool, worst, code);
		if (tool->json)
			(void)printf(",\"exit\":%d}", code);
		free(names[i]);
	}
	if (tool->json)
		(void)puts("\n]}");
	free(names);
	return worst;
}
