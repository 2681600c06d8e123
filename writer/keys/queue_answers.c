/* SPDX-License-Identifier: Apache-2.0
 * What is told to whoever waits in the queue: for a key, the list, or a pass. */
#include <stdlib.h>

#include "writer/keys/queue_private.h"

void queue_move_tickets(struct sync_ticket **to, struct sync_ticket **from)
{
	while (*to != NULL)
		to = &(*to)->next;
	*to = *from;
	*from = NULL;
}

void ticket_free_all(struct sync_ticket *t)
{
	for (struct sync_ticket *next; t != NULL; t = next) {
		next = t->next;
		free(t);
	}
}

void queue_answer(struct sync *s, struct sync_ticket *tickets, enum shmeta_status status, const char *sentence,
                  uint64_t txn, uint64_t synced_at_ns)
{
	size_t count = 0;

	for (struct sync_ticket *t = tickets; t != NULL; t = t->next, count++) {
		if (t->answered != NULL)
			t->answered(s, t->arg, status, sentence, txn);
		else
			s->host.answer(s->host.arg, t->ticket, status, sentence, txn, s->board->generation,
			               synced_at_ns);
	}
	pthread_mutex_lock(&s->queue->lock);
	s->queue->tickets -= count;
	for (const struct sync_ticket *t = tickets; t != NULL; t = t->next)
		if (t->asker != NULL)
			t->asker->tickets--;
	pthread_mutex_unlock(&s->queue->lock);
	ticket_free_all(tickets);
}

void refresh_answer_refused(struct sync *s)
{
	pthread_mutex_lock(&s->queue->lock);
	struct sync_ticket *refused = s->queue->refused;

	s->queue->refused = NULL;
	pthread_mutex_unlock(&s->queue->lock);
	queue_answer(s, refused, SHMETA_ERR_INVALID_ARGUMENT,
	             "a refresh names a topic of 1..249 bytes of UTF-8 without control characters, or a whole class", 0,
	             0);
}

struct sync_list_tickets refresh_take_list(struct sync *s, bool pass)
{
	struct sync_list_tickets tickets = {0};

	pthread_mutex_lock(&s->queue->lock);
	queue_move_tickets(&tickets.list, &s->queue->list_tickets);
	if (pass)
		queue_move_tickets(&tickets.pass, &s->queue->pass_tickets);
	pthread_mutex_unlock(&s->queue->lock);
	return tickets;
}

void refresh_return_list(struct sync *s, struct sync_list_tickets tickets)
{
	pthread_mutex_lock(&s->queue->lock);
	queue_move_tickets(&s->queue->list_tickets, &tickets.list);
	queue_move_tickets(&s->queue->pass_tickets, &tickets.pass);
	pthread_mutex_unlock(&s->queue->lock);
}

void refresh_answer_list(struct sync *s, struct sync_list_tickets tickets, enum shmeta_status status,
                         const char *sentence, uint64_t synced_at_ns)
{
	queue_move_tickets(&tickets.list, &tickets.pass);
	queue_answer(s, tickets.list, status, sentence, status == SHMETA_OK ? sync_committed(s) : 0, synced_at_ns);
}

/* Give the tickets of an entry to a list of them. */
static void ticket_take(struct sync_ticket **to, struct sync_entry *e)
{
	while (e->tickets != NULL) {
		struct sync_ticket *t = e->tickets;

		e->tickets = t->next;
		t->next = *to;
		*to = t;
	}
}

void refresh_answer_all(struct sync *s, enum shmeta_status status, const char *sentence)
{
	struct sync_queue *q = s->queue;
	struct sync_ticket *tickets = NULL;

	pthread_mutex_lock(&q->lock);
	queue_move_tickets(&tickets, &q->list_tickets);
	queue_move_tickets(&tickets, &q->pass_tickets);
	queue_move_tickets(&tickets, &q->refused);
	for (struct sync_entry *e = q->named.first; e != NULL; e = e->next)
		ticket_take(&tickets, e);
	for (struct asker *a = q->askers.first; a != NULL; a = a->next)
		while (a->throttled.first != NULL)
			entry_move(q, a->throttled.first, ENTRY_ASKED, NULL);
	for (struct sync_entry *e = q->asked.first, *next; e != NULL; e = next) {
		next = e->next;
		ticket_take(&tickets, e);
		queue_forget(q, e);
	}
	pthread_mutex_unlock(&q->lock);
	query_budget_waits(s, false);
	queue_answer(s, tickets, status, sentence, 0, 0);
}

void refresh_forget_feed(struct sync *s)
{
	struct sync_queue *q = s->queue;

	pthread_mutex_lock(&q->lock);
	absent_forget_all(&q->absent);
	for (struct sync_entry *e = q->named.first, *next; e != NULL; e = next) {
		next = e->next;
		if (e->tickets != NULL)
			entry_move(q, e, ENTRY_ASKED, NULL);
		else if (e->want.pass)
			entry_move(q, e, ENTRY_PASS, NULL);
		else
			queue_forget(q, e);
	}
	pthread_mutex_unlock(&q->lock);
}
