/* SPDX-License-Identifier: Apache-2.0
 * Below the public API: an instance's pages, or why they cannot be had. */
#ifndef SHMETA_TOOLS_SHMETACTL_INSPECT_H
#define SHMETA_TOOLS_SHMETACTL_INSPECT_H

#include "shm/page/activity.h"
#include "shm/page/touch.h"
#include "shm/page/usage.h"
#include "shm/store/store_inspect.h"
#include "tools/monitor/health.h"
#include "tools/shmetactl/tool.h"

/* Returns 0, or an exit code after having said why. */
int pages_open(struct tool *tool, struct pages *ret);
/* Judges them; commands name the instance as the command line does. */
void tool_health(const struct tool *tool, const struct pages *pages, struct health *ret);

/* ---- cmd_hot.c ---- */

/* A copy of the usage page. Returns 0, or an exit code after having said why. */
int usage_open(struct tool *tool, struct shmeta_usage *ret);

/* ---- inspect_activity.c ---- */

/* What the writer did lately, mapped; and its pages. Returns 0, or an exit code after having said
 * why. */
int activity_open(struct tool *tool, struct pages *pages, const struct shmeta_activity **ret);
void activity_close(struct pages *pages, const struct shmeta_activity *activity);

/* ---- cmd_store.c: generations below the public API ---- */

/* The tenants to look at: the one that was given, otherwise all that the store knows. Owns: the
 * list and its texts. */
int pages_tenants(struct tool *tool, const struct pages *pages, char ***ret, size_t *ret_count);
/* The directory that --store means. */
int store_path(struct tool *tool, const char *given, char ret[PATH_MAX]);
/* What the current generation holds, and the bytes in use: from the store itself. false: it cannot
 * be opened. */
bool pages_content(const struct tool *tool, const struct pages *pages, struct shmeta_store_counters *ret,
                   uint64_t *ret_used);
/* A failure to open a generation, said; returns the exit code. */
int store_say(struct tool *tool, const char *path, const struct shmeta_err *err);

#endif
