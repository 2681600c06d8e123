/* SPDX-License-Identifier: Apache-2.0
 * What the writer did lately: the page of it, mapped. */
#include <string.h>
#include <sys/mman.h>

#include "tools/shmetactl/inspect.h"

int activity_open(struct tool *tool, struct pages *pages, const struct shmeta_activity **ret)
{
	struct shmeta_err err = {0};
	void *map = NULL;
	int code = pages_open(tool, pages);

	*ret = NULL;
	if (code != 0)
		return code;
	if (shmeta__map_file(pages->dir_fd, "activity", sizeof(struct shmeta_activity), 0, &map, &err) == SHMETA_OK &&
	    shmeta__activity_check(map, &err) == SHMETA_OK) {
		*ret = map;
		return 0;
	}
	if (map != NULL)
		(void)munmap(map, sizeof(struct shmeta_activity));
	pages_close(pages);
	if (err.code == SHMETA_ERR_NOT_RUNNING)
		return tool_error(
			tool, TOOL_VERSION,
			"%s/activity: the writer that ran here kept no such page: it is older than this program",
			tool->dir);
	return tool_error(tool, tool_exit_of(err.code), "%s/activity: %s", tool->dir, err.text);
}

void activity_close(struct pages *pages, const struct shmeta_activity *activity)
{
	if (activity != NULL)
		(void)munmap((void *)(uintptr_t)activity, sizeof(*activity));
	pages_close(pages);
}
