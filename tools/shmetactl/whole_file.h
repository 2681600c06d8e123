/* SPDX-License-Identifier: Apache-2.0
 * A file that bears its name when it is whole: it is written beside, as NAME.part, and what ends
 * the program before removes that. */
#ifndef SHMETA_TOOLS_SHMETACTL_WHOLE_FILE_H
#define SHMETA_TOOLS_SHMETACTL_WHOLE_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

#include "tools/shmetactl/tool.h"

struct whole_file {
	struct tool *tool;
	const char *name; /* borrowed */
	char part[PATH_MAX];
	FILE *out;
};

/* what: "an export", in sentences; else_what: what may be given instead, "" nothing. 0; else an
 * exit status: nothing was made, and that was said. A file that is there is replaced with --yes. */
int whole_file_begin(struct tool *tool, const char *name, const char *what, const char *else_what,
                     struct whole_file *ret);
/* code 0: all was written, so give it its name; else remove it. Returns code, or the exit status of
 * what failed, said. */
int whole_file_end(struct whole_file *file, int code);

#endif
