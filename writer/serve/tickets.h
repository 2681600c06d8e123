/* SPDX-License-Identifier: Apache-2.0
 * Requests that the engine is to answer. A ticket's number is its place in the table and how often
 * the place was used, so that a late answer finds nobody. (Or it is a reply, see reply.h.) The
 * loop's thread. Private to writer/serve/. */
#ifndef SHMETA_WRITER_SERVE_TICKETS_H
#define SHMETA_WRITER_SERVE_TICKETS_H

#include <stdbool.h>
#include <stdint.h>

struct connection;

struct ticket {
	struct connection *connection; /* NULL: free, or its connection is gone */
	uint64_t id;                   /* of the frame that asked */
	uint32_t use;
	uint32_t next, former; /* places + 1: of free ones, or of the same connection; 0: none */
	bool taken;
};

/* Zeroed is empty. */
struct tickets {
	struct ticket *all;
	uint32_t count, free; /* free: the first place + 1; 0: none */
};

/* false: no memory. */
bool tickets_take(struct tickets *tickets, struct connection *c, uint64_t id, uint64_t *ret_number);
/* It is answered. NULL: nobody is there to hear it. */
struct connection *tickets_end(struct tickets *tickets, uint64_t number, uint64_t *ret_id);
/* The connection goes: its answers find nobody. */
void tickets_forget(struct tickets *tickets, struct connection *c);
void tickets_free(struct tickets *tickets);

#endif
