/* SPDX-License-Identifier: Apache-2.0
 * Answers past the loop (reply.h). */
#include "writer/serve/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/page/board.h"
#include "shm/page/order.h"
#include "shm/wire/wire.h"
#include "writer/serve/packet.h"

/* Of a ticket: no number of the table (tickets.h) and no address has it. */
static const uint64_t MARK = UINT64_C(1) << 63;

struct reply {
	uint64_t holders; /* the connection, and the request that is out */
	uint32_t out;
	int fd;
	uint64_t id; /* of the frame that asked */
	uint64_t answered_ns;
	struct connection *connection; /* the loop's: NULL when it has ended */
};

struct reply *reply_new(struct connection *c, int fd)
{
	struct reply *reply = calloc(1, sizeof(*reply));

	if (reply == NULL)
		return NULL;
	reply->holders = 1;
	reply->fd = fd;
	reply->connection = c;
	return reply;
}

static void give_up(struct reply *reply)
{
	if (!shmeta_unref(&reply->holders))
		return;
	close(reply->fd);
	free(reply);
}

void reply_end(struct reply *reply)
{
	/* What the engine's thread still holds open would not be seen to end. */
	if (shmeta_observe(&reply->out))
		(void)shutdown(reply->fd, SHUT_RDWR);
	reply->connection = NULL;
	give_up(reply);
}

uint64_t reply_take(struct reply *reply, uint64_t id)
{
	if (shmeta_observe(&reply->out))
		return 0;
	reply->id = id;
	shmeta_ref(&reply->holders);
	shmeta_publish(&reply->out, 1u);
	return MARK | (uint64_t)(uintptr_t)reply;
}

bool reply_is_out(const struct reply *reply, uint64_t *ret_answered_ns)
{
	bool out = shmeta_observe(&reply->out);

	*ret_answered_ns = shmeta_peek(&reply->answered_ns);
	return out;
}

bool reply_is_ticket(uint64_t ticket)
{
	return (ticket & MARK) != 0;
}

static struct reply *of(uint64_t ticket)
{
	return (struct reply *)(uintptr_t)(ticket & ~MARK);
}

static void settle(struct reply *reply)
{
	shmeta_publish(&reply->out, 0u);
	give_up(reply);
}

struct connection *reply_settle(uint64_t ticket, uint64_t *ret_id)
{
	struct reply *reply = of(ticket);
	struct connection *c = reply->connection;

	*ret_id = reply->id;
	settle(reply);
	return c;
}

bool reply_send(uint64_t ticket, void *frame, size_t bytes)
{
	struct reply *reply = of(ticket);
	struct shmeta_frame *head = frame;

	head->id = reply->id;
	if (packet_send(reply->fd, frame, bytes, -1) < 0 && packet_would_block(errno))
		return false;
	shmeta_poke(&reply->answered_ns, shmeta__boottime_ns());
	settle(reply);
	return true;
}
