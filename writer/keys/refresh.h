/* SPDX-License-Identifier: Apache-2.0
 * What the engine asks of the keys: to poll the feed, to bring over what waits, to answer. It owns
 * the queue (queue.h), the answers that are due, and what the feed names. But for
 * refresh_set_limits() all of it belongs to the engine's thread. */
#ifndef SHMETA_WRITER_KEYS_REFRESH_H
#define SHMETA_WRITER_KEYS_REFRESH_H

#include "writer/engine/engine.h"

void refresh_set_limits(struct sync *s, const struct sync_options *options); /* any thread */
enum shmeta_status refresh_init(struct sync *s, struct shmeta_err *err);
void refresh_free(struct sync *s);
/* Ask the feed. */
/* false: it could not be asked. */
bool refresh_poll(struct sync *s);
/* The source would not do what it was asked before the feed has told what became of it
 * (ERR_CONFLICT, backend.h): have it told. true: it is the one that is served, and can be asked
 * again. false: it is away (s->source), or is read whole first (its origin is not the same). */
bool refresh_meet(struct sync *s);
/* Fetch and apply what waits, until nothing does or something fails. */
void refresh_drain(struct sync *s);
bool refresh_pending_feed(struct sync *s);
/* So many keys have changed that a full pass is cheaper: ask for one, and forget them. */
void refresh_bound_feed(struct sync *s);
bool refresh_waiting(struct sync *s);
/* All of a class of agents, offsets or leases is still to be read: that read says how old its rows
 * are, no poll does. */
bool refresh_class_waiting(struct sync *s, enum shmeta_class cls);
/* The feed's keys, and absences that are remembered, no longer matter: everything has been, or will
 * be, read anew. */
void refresh_forget_feed(struct sync *s);
/* Answer all that waits: with the current commit (OK) or the status. */
void refresh_answer_all(struct sync *s, enum shmeta_status status, const char *sentence);
/* Those who asked for the list, or for a full pass, before what answers them began. */
struct sync_ticket;
struct sync_list_tickets {
	struct sync_ticket *list, *pass;
};
struct sync_list_tickets refresh_take_list(struct sync *s, bool pass);
void refresh_answer_list(struct sync *s, struct sync_list_tickets tickets, enum shmeta_status status,
                         const char *sentence, uint64_t synced_at_ns);
/* they wait for the next */
void refresh_return_list(struct sync *s, struct sync_list_tickets tickets);
bool refresh_list_waiting(struct sync *s);
bool refresh_pass_waiting(struct sync *s);
void refresh_answer_refused(struct sync *s);
/* We changed this key at the source ourselves: fetch and apply it like one that the feed named.
 * false: no memory. */
bool refresh_note_own(struct sync *s, const struct backend_key *key);
/* Fetch and apply until nothing that the feed or a write named is left, or something fails. */
void refresh_drain_feed(struct sync *s);
/* One batch of a few keys that only a pass wants. false: nothing waits, or it failed. */
bool batch_run_pass(struct sync *s);

#endif
