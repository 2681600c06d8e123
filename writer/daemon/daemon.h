/* SPDX-License-Identifier: Apache-2.0
 * The daemon: one loop for sockets, timers, signals and the service manager; the sync engine on its
 * own thread beside it. Nothing runs in signal context and nothing that may block runs on the
 * loop. */
#ifndef SHMETA_WRITER_DAEMON_DAEMON_H
#define SHMETA_WRITER_DAEMON_DAEMON_H

#include "writer/config/config.h"

/* Exit statuses, as shmetad(8) lists them. */
enum { DAEMON_OK = 0, DAEMON_FAILED = 1, DAEMON_REFUSED = 2, DAEMON_TAKEN = 75 };

/* Run until told to stop. flags: for reloads; borrowed. Takes config. Returns an exit status. */
int daemon_run(const struct config_flags *flags, struct config *config);

#endif
