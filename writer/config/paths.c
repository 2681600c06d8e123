/* SPDX-License-Identifier: Apache-2.0 */
#include "writer/config/paths.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* directory/last with one slash between them; directory is "/" or ends with none. */
static char *join(const char *directory, const char *last)
{
	char *joined;

	return asprintf(&joined, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, last) < 0 ? NULL : joined;
}

char *path_absolute(const char *path)
{
	size_t bytes = strlen(path);
	char directory[PATH_MAX], real[PATH_MAX];

	/* "x/" is x: what it is a link to is not looked up here. */
	if (bytes > 1 && path[bytes - 1] == '/') {
		char *shorter = strndup(path, bytes - 1), *found = shorter != NULL ? path_absolute(shorter) : NULL;

		free(shorter);
		return found;
	}
	const char *slash = strrchr(path, '/'), *last = slash != NULL ? slash + 1 : path;

	/* "..", "." and "/" name directories themselves. */
	if (last[0] == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
		if (realpath(path, real) != NULL)
			return strdup(real);
	} else if (slash == NULL
	                   ? realpath(".", real) != NULL
	                   : (size_t)snprintf(directory, sizeof(directory), "%.*s",
	                                      slash == path ? 1 : (int)(slash - path), path) < sizeof(directory) &&
	                             realpath(directory, real) != NULL) {
		return join(real, last);
	}
	if (path[0] == '/' || getcwd(real, sizeof(real)) == NULL)
		return strdup(path);
	return join(real, path);
}
