/* SPDX-License-Identifier: Apache-2.0
 * The SQLite engine: what says that something has changed: inotify on the files, and a timer. */
#ifndef SHMETA_BACKENDS_SQLITE_SQLITE_WAKE_H
#define SHMETA_BACKENDS_SQLITE_SQLITE_WAKE_H

#include "backends/sqlite/sqlite_state.h"

int sqlite_wake_fd(void *data);
void sqlite_watch(struct sqlite_state *state); /* after each open */
void sqlite_watch(struct sqlite_state *state); /* after each open */
void sqlite_unwatch(struct sqlite_state *state);
/* While we write, the log of SQLite's need not tell us of each page of our own. What others write
 * meanwhile is found by the next poll, which is soon due, and begins with sqlite_listen(). */
void sqlite_suppress_wakeups(struct sqlite_state *state);
void sqlite_listen(struct sqlite_state *state);
void sqlite_stop_waking(struct sqlite_state *state); /* at close */
/* Empty the queue; notice a -wal that was made anew. true: something was in it. */
bool sqlite_woken(struct sqlite_state *state);
/* After a wake that showed nothing, look again soon: the bytes of a commit wake before the commit
 * can be seen. */
void sqlite_wake_again(struct sqlite_state *state, bool woken, bool changed);

#endif
