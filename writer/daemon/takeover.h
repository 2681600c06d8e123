/* SPDX-License-Identifier: Apache-2.0
 * The instance directory, taken by one writer: writer.lock first, then the board and the stats
 * page. Whatever is there already may be mapped by readers: nothing is truncated, emptied or
 * replaced. */
#ifndef SHMETA_WRITER_DAEMON_TAKEOVER_H
#define SHMETA_WRITER_DAEMON_TAKEOVER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/page/activity.h"
#include "shm/page/board.h"
#include "shm/page/stats_page.h"
#include "shm/page/usage.h"

struct instance {
	char path[PATH_MAX];
	int dir_fd, lock_fd;
	struct shmeta_board *board;
	uint64_t board_dev, board_ino;
	struct shmeta_stats *stats;
	struct shmeta_activity *activity;
	struct shmeta_usage *usage;
	uint64_t epoch;                             /* this writer's; on the board after
                                                     * instance_announce() */
	const struct shmeta_generation *generation; /* the current one's page, as instance_look()
                                                     * last found it */
	uint64_t generation_number;
};

/* Make the directory if need be, lock it, map what is in it. ERR_BUSY: another writer runs here. */
enum shmeta_status instance_open(const char *path, struct instance *ret, struct shmeta_err *err);
/* Leave the reason in the directory, for shmetactl status. Nothing is made or written where the
 * directory is missing, may not be trusted, or another writer runs in it. */
void instance_start_failed(const char *path, const char *sentence);
/* Forget why an earlier start failed: before this one can serve, so that whoever sees it serve does
 * not see that. */
void instance_start_over(const struct instance *instance);
/* Write who the writer is, and last its epoch: from then on readers see this writer, in phase
 * STARTING. */
void instance_announce(struct instance *instance);
/* Has the machine slept since the last one? Whoever waits by a clock that stands still meanwhile is
 * late then. */
bool instance_heartbeat(struct instance *instance);
/* Do programs that open the path still find this instance? false: the directory or the board was
 * removed, renamed or replaced. */
bool instance_is_there(const struct instance *instance);
/* The current generation's page, mapped for reading; NULL when there is none. */
const struct shmeta_generation *instance_look(struct instance *instance);
void instance_close(struct instance *instance); /* the lock goes last */

#endif
