/* SPDX-License-Identifier: Apache-2.0
 * A packet on a socket of the control protocol: what the loop, which owns the connections, and the
 * engine's thread, which answers writes, both send with. Any thread. Private to writer/serve/. */
#ifndef SHMETA_WRITER_SERVE_PACKET_H
#define SHMETA_WRITER_SERVE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* One packet, at once; fd -1: none is passed. Like send(2). Does not take fd. */
ssize_t packet_send(int socket, const void *data, size_t bytes, int fd);
/* Whether errno says that the socket has no room now. */
bool packet_would_block(int error);

#endif
