/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/shmetactl/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file that is written until it is whole; one program has it at a time. -1, errno: EWOULDBLOCK,
 * another one has it. */
static int open_part(const char *part)
{
	struct stat mine, there;
	int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600), error;

	if (fd < 0)
		return -1;
	/* Who waited for nothing may have opened what was renamed since. */
	error = flock(fd, LOCK_EX | LOCK_NB) != 0                                                        ? errno
	        : fstat(fd, &mine) != 0 || !S_ISREG(mine.st_mode)                                        ? EINVAL
	        : lstat(part, &there) != 0 || there.st_ino != mine.st_ino || there.st_dev != mine.st_dev ? EWOULDBLOCK
	        : fchmod(fd, 0600) != 0 || ftruncate(fd, 0) != 0                                         ? errno
	                                                                                                 : 0;
	if (error == 0)
		return fd;
	(void)close(fd);
	errno = error;
	return -1;
}

static char unfinished[PATH_MAX]; /* is removed by a signal that ends the program; "": nothing is */

static void on_end(int signal)
{
	(void)unlink(unfinished);
	(void)kill(getpid(), signal); /* as it would have ended without this */
}

static void remove_when_ended(const char *part)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = part[0] != '\0' ? on_end : SIG_DFL, .sa_flags = (int)SA_RESETHAND},
			 old;

	(void)snprintf(unfinished, sizeof(unfinished), "%s", part);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* nohup stays in force. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			(void)sigaction(signals[i], &action, NULL);
	}
}

int whole_file_begin(struct tool *tool, const char *name, const char *what, const char *else_what,
                     struct whole_file *ret)
{
	struct stat st;
	int fd;

	ret->tool = tool;
	ret->name = name;
	if (snprintf(ret->part, sizeof(ret->part), "%s.part", name) >= (int)sizeof(ret->part))
		return tool_error(tool, TOOL_USAGE, "the name of the file is too long");
	/* The new file would take the place of a device or a pipe, which others need: /dev/null is
	 * not there to be replaced. */
	if (stat(name, &st) == 0 && !S_ISREG(st.st_mode))
		return tool_error(tool, TOOL_USAGE, "%s: %s is written to a regular file only%s", name, what,
		                  else_what);
	if (lstat(name, &st) == 0 && !tool->yes)
		return tool_error(tool, TOOL_USAGE, "%s is there already; say --yes to replace it", name);
	fd = open_part(ret->part);
	if (fd < 0 && errno == EWOULDBLOCK)
		return tool_error(tool, TOOL_UNHEALTHY, "%s: another %s is writing it", name, strchr(what, ' ') + 1);
	ret->out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (ret->out == NULL)
		return tool_error(tool, errno == EACCES ? TOOL_PERMISSION : TOOL_USAGE, "cannot create %s: %s", name,
		                  strerror(errno));
	remove_when_ended(ret->part);
	return 0;
}

int whole_file_end(struct whole_file *file, int code)
{
	if (code == 0 && (fflush(file->out) != 0 || fsync(fileno(file->out)) != 0))
		code = tool_error(file->tool, TOOL_UNHEALTHY, "%s: %s", file->part, strerror(errno));
	if (fclose(file->out) != 0 && code == 0)
		code = tool_error(file->tool, TOOL_UNHEALTHY, "%s: %s", file->part, strerror(errno));
	if (code == 0 && rename(file->part, file->name) != 0)
		code = tool_error(file->tool, TOOL_UNHEALTHY, "%s: %s", file->name, strerror(errno));
	remove_when_ended("");
	if (code != 0)
		(void)unlink(file->part);
	return code;
}
