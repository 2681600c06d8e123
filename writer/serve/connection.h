/* SPDX-License-Identifier: Apache-2.0
 * One connection of control.sock: what is known of its peer, answers that wait to be read, its end.
 * A connection belongs to the struct control that it is in; connection_close() frees it. The loop's
 * thread. Private to writer/serve/. */
#ifndef SHMETA_WRITER_SERVE_CONNECTION_H
#define SHMETA_WRITER_SERVE_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "shm/wire/wire.h"
#include "writer/serve/budget.h"
#include "writer/serve/listen.h"
#include "writer/serve/reply.h"
#include "writer/serve/rights.h"
#include "writer/serve/serve.h"
#include "writer/serve/tickets.h"

struct packet; /* an answer that the socket did not take yet */

struct connection {
	struct connection *next, *former;
	struct control *control;
	int fd;
	sd_event_source *source;
	uint64_t number; /* never used again */
	struct registry_peer peer;
	struct registration *registration; /* NULL: not registered */
	int process_fd;                    /* of a registered peer's process; -1: not known */
	sd_event_source *process_source;
	uint64_t opened_ns, active_ns;
	bool spoke;          /* a first frame has come */
	bool parked;         /* not read before its user's budget is renewed */
	bool yields;         /* until then, read when nobody else has sent anything */
	uint32_t requests;   /* tickets that it has in the table */
	uint32_t tickets;    /* the place + 1 of the newest of them; 0: none */
	struct wait *waits;  /* armed.c's */
	size_t wait_words;   /* of those that are not over */
	struct reply *reply; /* owns fd */
	struct packet *output, **output_end;
	size_t output_bytes;
};

/* An answer that is made at most so often, whoever asks. */
struct cached_answer {
	char *json; /* NULL: none */
	uint64_t made_ns;
};

struct control {
	sd_event *event;
	struct listener listener;
	struct registry *registry;
	struct control_host host;
	struct control_counters *counters;
	struct control_limits limits;
	struct rights rights;
	bool draining;
	struct connection *connections;
	uint32_t count;
	uint64_t numbers; /* given to connections */
	struct budget budget;
	sd_event_source *renewal;
	sd_event_source *waits_over; /* when there are more than one turn answers */
	struct cached_answer status, config;
	struct tickets tickets;
	struct armed *armed;
	/* A frame is judged where nobody else can change it. */
	_Alignas(8) unsigned char frame[SHMETA_FRAME_MAX];
};

/* Root and the daemon's user: no share of theirs is bounded, only the whole. */
bool peer_is_privileged(const struct registry_peer *peer);

/* Takes fd. on_ready is called with the connection when there is something to read, or room to
 * write. NULL: no memory, fd is closed. */
struct connection *connection_add(struct control *control, int fd, const struct registry_peer *peer,
                                  sd_event_io_handler_t on_ready);
/* Its registration is revoked, its tickets find nobody. */
void connection_close(struct connection *c);
/* Close it because it broke a rule: counted, and told in the log. */
__attribute__((format(printf, 4, 5))) void connection_evict(struct connection *c, uint64_t *counter, const char *event,
                                                            const char *fmt, ...);
/* Close it when the peer's process ends. false: that has ended already. */
bool connection_watch_process(struct connection *c);

/* Send, or keep until the peer reads. fd, when not -1, is passed along and taken. false: the
 * connection is gone. */
bool connection_send(struct connection *c, const void *data, size_t bytes, int fd);
/* An ANSWER frame. text: NULL for none. false: the connection is gone. */
bool connection_answer(struct connection *c, uint64_t id, enum shmeta_status status, const char *text, uint64_t txn,
                       uint64_t generation, uint64_t synced_at_ns);
/* What waits, as far as the socket takes it; the connection may be gone afterwards. */
void connection_flush(struct connection *c);

#endif
