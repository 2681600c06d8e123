/* SPDX-License-Identifier: Apache-2.0
 * Connections of control.sock (connection.h). */
#include "writer/serve/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "writer/daemon/log.h"
#include "writer/serve/armed.h"
#include "writer/serve/packet.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

struct packet {
	struct packet *next;
	int fd; /* to be passed along; -1: none */
	size_t bytes;
	unsigned char data[];
};

bool peer_is_privileged(const struct registry_peer *peer)
{
	return peer->uid == 0 || peer->uid == geteuid();
}

void connection_close(struct connection *c)
{
	struct control *control = c->control;
	uint64_t ticket, id;

	while (armed_forget(control->armed, c, &ticket))
		(void)tickets_end(&control->tickets, ticket, &id);
	tickets_forget(&control->tickets, c);
	if (c->registration != NULL)
		registry_revoke(control->registry, c->registration, shmeta__boottime_ns());
	while (c->output != NULL) {
		struct packet *packet = c->output;

		c->output = packet->next;
		if (packet->fd >= 0)
			close(packet->fd);
		free(packet);
	}
	sd_event_source_disable_unref(c->source);
	sd_event_source_disable_unref(c->process_source);
	reply_end(c->reply);
	if (c->process_fd >= 0)
		close(c->process_fd);
	if (c->former != NULL)
		c->former->next = c->next;
	else
		control->connections = c->next;
	if (c->next != NULL)
		c->next->former = c->former;
	control->count--;
	control->counters->connections = control->count;
	free(c);
}

void connection_evict(struct connection *c, uint64_t *counter, const char *event, const char *fmt, ...)
{
	char why[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	++*counter;
	log_event_by(c->peer.uid, LOG_WARNING, event, "closed a connection of pid %d, uid %u: %s", (int)c->peer.pid,
	             (unsigned)c->peer.uid, why);
	connection_close(c);
}

static void watch(struct connection *c)
{
	/* Once nobody reads the answers, no more requests are read either. */
	uint32_t events = c->output != NULL ? EPOLLOUT : EPOLLIN;

	if (sd_event_source_set_io_events(c->source, events) < 0)
		log_event(LOG_ERR, "control", "cannot change what a connection waits for");
}

bool connection_send(struct connection *c, const void *data, size_t bytes, int fd)
{
	struct packet *packet;

	if (c->output == NULL) {
		if (packet_send(c->fd, data, bytes, fd) >= 0) {
			if (fd >= 0)
				close(fd);
			return true;
		}
		if (!packet_would_block(errno)) {
			if (fd >= 0)
				close(fd);
			connection_close(c);
			return false;
		}
	}
	packet = c->output_bytes + bytes <= c->control->limits.output_max ? malloc(sizeof(*packet) + bytes) : NULL;
	if (packet == NULL) {
		if (fd >= 0)
			close(fd);
		connection_evict(c, &c->control->counters->unread, "unread",
		                 "%zu bytes of answers are waiting to be read", c->output_bytes);
		return false;
	}
	*packet = (struct packet){.fd = fd, .bytes = bytes};
	memcpy(packet->data, data, bytes);
	*c->output_end = packet;
	c->output_end = &packet->next;
	c->output_bytes += bytes;
	watch(c);
	return true;
}

bool connection_answer(struct connection *c, uint64_t id, enum shmeta_status status, const char *text, uint64_t txn,
                       uint64_t generation, uint64_t synced_at_ns)
{
	size_t length = text != NULL ? strlen(text) : 0;
	struct {
		struct shmeta_frame_answer answer;
		char text[SHMETA_FRAME_MAX - sizeof(struct shmeta_frame_answer)];
	} * frame;
	bool alive;

	if (length > sizeof(frame->text))
		length = sizeof(frame->text);
	frame = malloc(sizeof(frame->answer) + length);
	if (frame == NULL) {
		log_event(LOG_ERR, "memory", "no memory for an answer");
		connection_close(c);
		return false;
	}
	frame->answer = (struct shmeta_frame_answer){
		.head = {.bytes = (uint32_t)(sizeof(frame->answer) + length),
	                 .version = SHMETA_WIRE_VERSION,
	                 .type = SHMETA_FRAME_ANSWER,
	                 .id = id},
		.status = status,
		.text_bytes = (uint32_t)length,
		.txn = txn,
		.generation = generation,
		.synced_at_ns = synced_at_ns,
	};
	if (length > 0)
		memcpy((char *)frame + sizeof(frame->answer), text, length);
	alive = connection_send(c, frame, frame->answer.head.bytes, -1);
	free(frame);
	return alive;
}

void connection_flush(struct connection *c)
{
	while (c->output != NULL) {
		struct packet *packet = c->output;

		if (packet_send(c->fd, packet->data, packet->bytes, packet->fd) < 0) {
			if (!packet_would_block(errno))
				connection_close(c);
			return;
		}
		c->output = packet->next;
		if (c->output == NULL)
			c->output_end = &c->output;
		c->output_bytes -= packet->bytes;
		if (packet->fd >= 0)
			close(packet->fd);
		free(packet);
	}
	watch(c);
}

static int on_process_end(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void)source;
	(void)fd;
	(void)events;
	connection_close(arg);
	return 0;
}

/* Its children may have the connection, which then stays open: that the process has ended is what
 * its own descriptor tells. Where none can be had (a kernel before 5.3, a process of a namespace
 * that is not ours, no descriptors left) the connection has to do. */
bool connection_watch_process(struct connection *c)
{
	socklen_t bytes = sizeof(c->process_fd);

	if (c->process_fd >= 0)
		return true;
	/* Of the very process, whatever became of its number; since Linux 6.5. */
	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERPIDFD, &c->process_fd, &bytes) < 0)
		c->process_fd = (int)syscall(SYS_pidfd_open, c->peer.pid, 0);
	if (c->process_fd < 0)
		return errno != ESRCH;
	(void)fcntl(c->process_fd, F_SETFD, FD_CLOEXEC);
	if (sd_event_add_io(c->control->event, &c->process_source, c->process_fd, EPOLLIN, on_process_end, c) >= 0)
		return true;
	close(c->process_fd);
	c->process_fd = -1;
	return true;
}

struct connection *connection_add(struct control *control, int fd, const struct registry_peer *peer,
                                  sd_event_io_handler_t on_ready)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (c != NULL)
		c->reply = reply_new(c, fd);
	if (c == NULL || c->reply == NULL ||
	    sd_event_add_io(control->event, &c->source, fd, EPOLLIN, on_ready, c) < 0) {
		log_event(LOG_ERR, "memory", "no memory for a connection");
		if (c != NULL)
			free(c->reply);
		free(c);
		close(fd);
		return NULL;
	}
	c->control = control;
	c->number = ++control->numbers;
	c->fd = fd;
	c->process_fd = -1;
	c->peer = *peer;
	c->opened_ns = c->active_ns = shmeta__boottime_ns();
	c->output_end = &c->output;
	c->next = control->connections;
	if (c->next != NULL)
		c->next->former = c;
	control->connections = c;
	control->count++;
	control->counters->connections = control->count;
	return c;
}
