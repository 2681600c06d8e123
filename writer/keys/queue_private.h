/* SPDX-License-Identifier: Apache-2.0
 * The inside of the queue, shared by the files that make it up: queue_entries.c (entries, and their
 * states), queue.c (who asks for them), queue_answers.c (what whoever waits is told). Everything
 * here is called with the queue's lock held. */
#ifndef SHMETA_WRITER_KEYS_QUEUE_PRIVATE_H
#define SHMETA_WRITER_KEYS_QUEUE_PRIVATE_H

#include "writer/keys/queue.h"

/* Somebody who waits for an entry, the list, or a pass. */
struct sync_ticket {
	struct sync_ticket *next;
	uint64_t ticket;
	queue_answered_fn *answered; /* who waits hears by this; NULL: a reader, by its ticket */
	void *arg;
	struct asker *asker; /* whose it is; NULL: the engine's */
};

/* NULL: none waits, or is being fetched. */
struct sync_entry *entry_waiting(const struct sync_queue *q, const struct identity *id);
struct sync_entry *entry_fetched(const struct sync_queue *q, const struct identity *id);
/* The one way from state to state; what is not in the table ends the process. asker: whose line it
 * waits in; THROTTLED only. */
void entry_move(struct sync_queue *q, struct sync_entry *e, enum entry_state to, struct asker *asker);

void ticket_free_all(struct sync_ticket *tickets);

#endif
