/* SPDX-License-Identifier: Apache-2.0
 * An answer to a write that goes past the loop: the engine's thread sends it, because for a client
 * that waits for each write the wake of the loop in between costs as much as the commit. A
 * connection has one struct reply, which shares its socket with the engine's thread for one request
 * at a time, and only while the loop has none of its to answer, so that no answer overtakes
 * another; nothing is locked while it is sent.
 *
 * The request's ticket is the reply itself, marked, so that the engine's thread need not look into
 * the table of tickets, which is the loop's. What cannot be sent at once is the loop's again: the
 * letter with the ticket finds the connection, if it is still there. Private to writer/serve/, but
 * for reply_send(). */
#ifndef SHMETA_WRITER_SERVE_REPLY_H
#define SHMETA_WRITER_SERVE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;
struct reply;

/* The loop's thread. Takes fd, which is closed when the connection has ended and no request is out.
 * NULL: no memory; fd is as it was. */
struct reply *reply_new(struct connection *c, int fd);
/* The connection ends: the peer sees it now, whatever is out. */
void reply_end(struct reply *reply);
/* A ticket for the request with this id; 0: one is out already. */
uint64_t reply_take(struct reply *reply, uint64_t id);
/* Is a request out? *ret_answered_ns: when the engine's thread answered last; 0: never. */
bool reply_is_out(const struct reply *reply, uint64_t *ret_answered_ns);

bool reply_is_ticket(uint64_t ticket);
/* The loop answers it. NULL: nobody is there to hear it. */
struct connection *reply_settle(uint64_t ticket, uint64_t *ret_id);

/* The engine's thread, once for a ticket: send a whole frame (8-aligned) but for its id, which is
 * filled in. true: it is sent, or nobody is there to hear it, and the ticket is settled. false: the
 * loop is to send it. Never blocks. */
bool reply_send(uint64_t ticket, void *frame, size_t bytes);

#endif
