/* SPDX-License-Identifier: Apache-2.0
 * Below the public API: an instance's pages, copied and judged. */
#ifndef SHMETA_TOOLS_SHMETACTL_INSPECT_H
#define SHMETA_TOOLS_SHMETACTL_INSPECT_H

#include "base/err.h"
#include "shm/page/board.h"
#include "shm/page/last_start.h"
#include "shm/page/stats_page.h"
#include "shm/store/store.h"
#include "tools/shmetactl/tool.h"

enum liveness {
	WRITER_ALIVE,
	WRITER_STALLED, /* the process is there, and its heart has not beaten for 5 s: stopped, or hung */
	WRITER_DEAD
};

struct pages {
	int dir_fd;
	struct shmeta_board board;           /* copies, judged */
	struct shmeta_generation generation; /* zeroed when nothing was published yet */
	struct shmeta_stats *stats;          /* a copy; NULL when there is none (stats_error says why) */
	struct shmeta_err stats_error;
	uint64_t now_ns;
	enum liveness liveness;
	bool same_boot, alive, published;
	bool start_failed; /* the writer is gone, and a start after it failed: last_start says when and why */
	struct shmeta_last_start last_start;
	const struct shmeta_generation *live; /* the mapping */
	const struct shmeta_board *live_board;
};
/* Returns 0, or an exit code after having said why. */
int pages_open(struct tool *tool, struct pages *ret);
void pages_close(struct pages *pages);
const char *pages_writer(const struct pages *pages); /* "alive", "stalled", "stopped" or "dead" */
/* The service of the instance, as the units name it. */
enum { UNIT_BYTES = 80 };
const char *pages_unit(const struct tool *tool, char ret[UNIT_BYTES]);
const char *pages_phase(uint32_t phase);
const char *pages_version(uint32_t version, char ret[24]); /* "0.1.0" */
/* now - then; UINT64_MAX when then is 0 (never). */
uint64_t pages_since(uint64_t now_ns, uint64_t then_ns);

/* ---- cmd_store.c: generations below the public API ---- */

/* The tenants to look at: the one that was given, otherwise all that the store knows. Owns: the list and its texts. */
int pages_tenants(struct tool *tool, const struct pages *pages, char ***ret, size_t *ret_count);
/* The directory that --store means. */
int store_path(struct tool *tool, const char *given, char ret[PATH_MAX]);
/* What the current generation holds, and the bytes in use: from the store itself. false: it cannot be opened. */
bool pages_content(const struct tool *tool, const struct pages *pages, struct shmeta_store_counters *ret,
                   uint64_t *ret_used);
/* A failure to open a generation, said; returns the exit code. */
int store_say(struct tool *tool, const char *path, const struct shmeta_err *err);

#endif
