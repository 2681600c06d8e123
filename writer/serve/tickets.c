/* SPDX-License-Identifier: Apache-2.0
 * Tickets (tickets.h). */
#include "writer/serve/tickets.h"

#include <stddef.h>
#include <stdlib.h>

#include "writer/serve/connection.h"
#include "writer/serve/reply.h"

static bool grow(struct tickets *tickets)
{
	uint32_t count = tickets->count > 0 ? tickets->count * 2 : 64;
	struct ticket *grown = realloc(tickets->all, count * sizeof(*grown));

	if (grown == NULL)
		return false;
	tickets->all = grown;
	for (uint32_t i = tickets->count; i < count; i++) {
		grown[i] = (struct ticket){.next = tickets->free};
		tickets->free = i + 1;
	}
	tickets->count = count;
	return true;
}

bool tickets_take(struct tickets *tickets, struct connection *c, uint64_t id, uint64_t *ret_number)
{
	struct ticket *ticket;
	uint32_t index;

	if (tickets->free == 0 && !grow(tickets))
		return false;
	index = tickets->free - 1;
	ticket = &tickets->all[index];
	tickets->free = ticket->next;
	ticket->use++;
	ticket->taken = true;
	ticket->connection = c;
	ticket->id = id;
	ticket->former = 0;
	ticket->next = c->tickets;
	if (c->tickets != 0)
		tickets->all[c->tickets - 1].former = index + 1;
	c->tickets = index + 1;
	c->requests++;
	*ret_number = (uint64_t)ticket->use << 32 | index;
	return true;
}

/* Its connection has it no more. */
static void leave(struct tickets *tickets, struct ticket *ticket)
{
	struct connection *c = ticket->connection;

	if (c == NULL)
		return;
	*(ticket->former != 0 ? &tickets->all[ticket->former - 1].next : &c->tickets) = ticket->next;
	if (ticket->next != 0)
		tickets->all[ticket->next - 1].former = ticket->former;
	c->requests--;
	ticket->connection = NULL;
}

static struct ticket *find(const struct tickets *tickets, uint64_t number)
{
	uint32_t index = (uint32_t)number, use = (uint32_t)(number >> 32);
	struct ticket *ticket = index < tickets->count ? &tickets->all[index] : NULL;

	return ticket != NULL && ticket->taken && ticket->use == use ? ticket : NULL;
}

struct connection *tickets_end(struct tickets *tickets, uint64_t number, uint64_t *ret_id)
{
	struct ticket *ticket;
	struct connection *c;

	if (reply_is_ticket(number))
		return reply_settle(number, ret_id);
	ticket = find(tickets, number);
	if (ticket == NULL)
		return NULL;
	c = ticket->connection;
	*ret_id = ticket->id;
	leave(tickets, ticket);
	ticket->taken = false;
	ticket->next = tickets->free;
	tickets->free = (uint32_t)number + 1;
	return c;
}

void tickets_forget(struct tickets *tickets, struct connection *c)
{
	while (c->tickets != 0)
		leave(tickets, &tickets->all[c->tickets - 1]);
}

void tickets_free(struct tickets *tickets)
{
	free(tickets->all);
	*tickets = (struct tickets){0};
}
