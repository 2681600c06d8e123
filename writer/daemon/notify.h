/* SPDX-License-Identifier: Apache-2.0
 * What the daemon tells the service manager (sd_notify(3)). All of it is a no-op without
 * NOTIFY_SOCKET. Loop thread only. */
#ifndef SHMETA_WRITER_DAEMON_NOTIFY_H
#define SHMETA_WRITER_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

bool notify_listens(void); /* there is a service manager */
void notify_ready(const char *status);
void notify_status(const char *status);
void notify_reloading(void); /* with the monotonic stamp that newer managers ask for; notify_ready()
                              * ends it */
void notify_stopping(const char *status);
void notify_extend(uint32_t seconds, const char *status); /* the start takes that much longer */
/* Keep a descriptor for the next run of this unit; name: printable, without ':'. */
void notify_keep_fd(const char *name, int fd);
void notify_drop_fd(const char *name);

#endif
