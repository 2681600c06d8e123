/* SPDX-License-Identifier: Apache-2.0
 * The source that a verb is to open itself: --source, or what the daemon shows of its own, which
 * lacks its secrets. */
#ifndef SHMETA_TOOLS_SHMETACTL_SOURCE_URI_H
#define SHMETA_TOOLS_SHMETACTL_SOURCE_URI_H

#include "backends/backend.h"
#include "tools/shmetactl/inspect.h"

enum { SOURCE_URI_MAX = 4096 };

/* --source, or the source that the daemon of these pages names. false: neither, or one that lives
 * in the daemon's memory; nothing was said. */
bool source_uri(const struct tool *tool, const struct pages *pages, char ret[SOURCE_URI_MAX]);
/* 0, or an exit code, said: the URI has "***" where the secret is that the daemon does not show,
 * and no --password-file takes its place. */
int source_judge(const struct tool *tool, const char *uri);
/* The exit code of a source that could not be opened or read. */
int source_exit(enum shmeta_status status, const struct backend_error *err);

#endif
