/* SPDX-License-Identifier: Apache-2.0
 * The pages of the instance that a command line means: all that `status`, `readers` and part of
 * `store` need, with the writer alive, stopped or dead; where they cannot be had, who may, and what
 * to do about it. */
#include "tools/shmetactl/inspect.h"

#include <grp.h>
#include <string.h>
#include <sys/stat.h>

/* Permission errors name who may, and what to do about it. */
static int say_denied(const struct tool *tool, const char *path)
{
	struct stat st;
	char group[64] = "its group";
	struct group entry, *found = NULL;
	char buffer[4096];

	if (stat(path, &st) != 0 && stat(tool->dir, &st) != 0)
		return tool_error(tool, TOOL_PERMISSION, "%s: permission denied", path);
	if (getgrgid_r(st.st_gid, &entry, buffer, sizeof(buffer), &found) == 0 && found != NULL)
		(void)snprintf(group, sizeof(group), "%s", found->gr_name);
	if (st.st_gid == 0)
		return tool_error(tool, TOOL_PERMISSION,
		                  "%s: permission denied: mode %04o, of user %u and root's group", path,
		                  (unsigned)(st.st_mode & 07777), (unsigned)st.st_uid);
	return tool_error(
		tool, TOOL_PERMISSION,
		"%s: permission denied: mode %04o, group %s; join it with 'usermod -aG %s USER' and log in again", path,
		(unsigned)(st.st_mode & 07777), group, group);
}

static int say(const struct tool *tool, int dir_fd, const char *name, const struct shmeta_err *err)
{
	char path[PATH_MAX + 64], unit[UNIT_BYTES];
	struct shmeta_last_start last;

	(void)snprintf(path, sizeof(path), "%s%s%s", tool->dir, name[0] != '\0' ? "/" : "", name);
	if (err->code == SHMETA_ERR_PERMISSION)
		return say_denied(tool, path);
	if (err->code == SHMETA_ERR_VERSION && name[0] == '\0')
		return tool_error(tool, TOOL_VERSION, "%s is not an instance: it is not a directory", tool->dir);
	if (err->code == SHMETA_ERR_NOT_RUNNING && shmeta__last_start_read(dir_fd, &last))
		return tool_error(tool, TOOL_NOT_RUNNING,
		                  "no instance at %s: the last start of shmetad failed at %s: %s", tool->dir,
		                  out_time(last.failed_at_ms), last.sentence);
	if (err->code == SHMETA_ERR_NOT_RUNNING)
		return tool_error(
			tool, TOOL_NOT_RUNNING,
			"no instance at %s: no writer has run here; start shmetad, or name the directory with --dir; "
			"if it was started, 'journalctl -u %s' says why it ended",
			tool->dir, pages_unit_of(tool->dir, unit));
	return tool_error(tool, tool_exit_of(err->code), "%s: %s", path, err->text);
}

/* Whatever is shown of this instance says that its writer is gone: in JSON each document, otherwise
 * one line beside the output. */
static void tell_writer(struct tool *tool, const struct pages *pages)
{
	tool->tell_writer = false;
	out_writer(pages_writer(pages));
	if (pages->alive || tool->json)
		return;
	if (pages->same_boot)
		out_note("the writer is %s, last heartbeat %s ago: this is what it left", pages_writer(pages),
		         out_ns(pages_since(pages->now_ns, pages->board.heartbeat_ns)));
	else
		out_note("the writer ran before this machine started: this is what it left");
}

int pages_open(struct tool *tool, struct pages *ret)
{
	struct shmeta_err err = {0};
	char name[PAGES_NAME_BYTES];
	int code;

	if (pages_read(tool->dir, ret, name, &err) != SHMETA_OK) {
		code = say(tool, ret->dir_fd, name, &err);
		pages_close(ret);
		return code;
	}
	if (tool->tell_writer)
		tell_writer(tool, ret);
	return 0;
}
