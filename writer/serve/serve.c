/* SPDX-License-Identifier: Apache-2.0
 * Serving control.sock. */
#include "writer/serve/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm/wire/op.h"
#include "shm/wire/wire.h"
#include "writer/daemon/log.h"
#include "writer/serve/budget.h"
#include "writer/serve/listen.h"
#include "writer/serve/rights.h"
#include "writer/serve/shares.h"

/* Of one connection, before the others have their turn. */
static const uint64_t TURN_NS = 500000;
static const uint64_t CACHE_NS = 100000000;
enum { WHO_BYTES = 64, WRITE_OPS_MAX = SHMETA_FRAME_MAX / sizeof(struct shmeta_wire_op) };

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* An answer that the socket did not take yet. */
struct packet {
	struct packet *next;
	int fd; /* to be passed along; -1: none */
	size_t bytes;
	unsigned char data[];
};

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
	bool spoke;  /* a first frame has come */
	bool parked; /* not read before its user's budget is renewed */
	uint32_t requests;
	struct packet *output, **output_end;
	size_t output_bytes;
};

/* An answer that is made at most so often, whoever asks. */
struct cached {
	char *json; /* NULL: none */
	uint64_t made_ns;
};

/* A refresh under way. The ticket is the index and the use of it, so that a late answer finds nobody. */
struct ticket {
	struct connection *connection; /* NULL: free, or its connection is gone */
	uint64_t id;
	uint32_t use;
	uint32_t next_free;
	bool taken;
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
	struct cached status, config;
	struct ticket *tickets;
	uint32_t ticket_count, free_ticket; /* 0: none is free; index + 1 otherwise */
	/* Tickets, and the connections that they name, are the loop's but for control_written_at_once(). The loop holds this while it
	 * changes them. */
	pthread_mutex_t lock;
	/* A frame is judged where nobody else can change it. */
	_Alignas(8) unsigned char frame[SHMETA_FRAME_MAX];
};

static bool is_privileged(const struct registry_peer *peer)
{
	return peer->uid == 0 || peer->uid == geteuid();
}

/* ---- closing ------------------------------------------------------------------------------------------------------------ */

static void close_connection(struct connection *c)
{
	struct control *control = c->control;

	for (uint32_t i = 0; c->requests > 0 && i < control->ticket_count; i++) {
		if (control->tickets[i].connection == c) {
			control->tickets[i].connection = NULL;
			c->requests--;
		}
	}
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
	close(c->fd);
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

__attribute__((format(printf, 4, 5))) static void evict(struct connection *c, uint64_t *counter, const char *event,
                                                        const char *fmt, ...)
{
	char why[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	++*counter;
	log_event_by(c->peer.uid, LOG_WARNING, event, "closed a connection of pid %d, uid %u: %s", (int)c->peer.pid,
	             (unsigned)c->peer.uid, why);
	close_connection(c);
}

/* ---- sending ------------------------------------------------------------------------------------------------------------ */

static ssize_t send_packet(int socket, const void *data, size_t bytes, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} space = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		struct cmsghdr *header;

		message.msg_control = space.bytes;
		message.msg_controllen = sizeof(space.bytes);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
	}
	return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool would_block(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS;
}

static void watch(struct connection *c)
{
	/* Once nobody reads the answers, no more requests are read either. */
	uint32_t events = c->output != NULL ? EPOLLOUT : EPOLLIN;

	if (sd_event_source_set_io_events(c->source, events) < 0)
		log_event(LOG_ERR, "control", "cannot change what a connection waits for");
}

/* Takes fd. False: the connection is gone. */
static bool send_or_queue(struct connection *c, const void *data, size_t bytes, int fd)
{
	struct packet *packet;

	if (c->output == NULL) {
		if (send_packet(c->fd, data, bytes, fd) >= 0) {
			if (fd >= 0)
				close(fd);
			return true;
		}
		if (!would_block(errno)) {
			if (fd >= 0)
				close(fd);
			close_connection(c);
			return false;
		}
	}
	packet = c->output_bytes + bytes <= c->control->limits.output_max ? malloc(sizeof(*packet) + bytes) : NULL;
	if (packet == NULL) {
		if (fd >= 0)
			close(fd);
		evict(c, &c->control->counters->unread, "unread", "%zu bytes of answers are waiting to be read",
		      c->output_bytes);
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

static bool send_answer(struct connection *c, uint64_t id, enum shmeta_status status, const char *text, uint64_t txn,
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
		close_connection(c);
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
	alive = send_or_queue(c, frame, frame->answer.head.bytes, -1);
	free(frame);
	return alive;
}

static void flush_output(struct connection *c)
{
	while (c->output != NULL) {
		struct packet *packet = c->output;

		if (send_packet(c->fd, packet->data, packet->bytes, packet->fd) < 0) {
			if (!would_block(errno))
				close_connection(c);
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

/* ---- tickets ------------------------------------------------------------------------------------------------------------ */

static bool take_ticket(struct control *control, struct connection *c, uint64_t id, uint64_t *ret)
{
	struct ticket *ticket;
	uint32_t index;

	if (control->free_ticket == 0) {
		uint32_t count = control->ticket_count ? control->ticket_count * 2 : 64;
		struct ticket *grown = realloc(control->tickets, count * sizeof(*grown));

		if (grown == NULL)
			return false;
		control->tickets = grown;
		for (uint32_t i = control->ticket_count; i < count; i++) {
			grown[i] = (struct ticket){.next_free = control->free_ticket};
			control->free_ticket = i + 1;
		}
		control->ticket_count = count;
	}
	index = control->free_ticket - 1;
	ticket = &control->tickets[index];
	control->free_ticket = ticket->next_free;
	ticket->use++;
	ticket->taken = true;
	ticket->connection = c;
	ticket->id = id;
	c->requests++;
	*ret = (uint64_t)ticket->use << 32 | index;
	return true;
}

static struct ticket *find_ticket(struct control *control, uint64_t number)
{
	uint32_t index = (uint32_t)number, use = (uint32_t)(number >> 32);
	struct ticket *ticket = index < control->ticket_count ? &control->tickets[index] : NULL;

	return ticket != NULL && ticket->taken && ticket->use == use ? ticket : NULL;
}

static struct connection *end_ticket(struct control *control, uint64_t number, uint64_t *ret_id)
{
	struct ticket *ticket = find_ticket(control, number);
	struct connection *c;

	if (ticket == NULL)
		return NULL;
	c = ticket->connection;
	*ret_id = ticket->id;
	ticket->connection = NULL;
	ticket->taken = false;
	ticket->next_free = control->free_ticket;
	control->free_ticket = (uint32_t)number + 1;
	if (c != NULL)
		c->requests--;
	return c;
}

void control_answer(struct control *control, uint64_t number, enum shmeta_status status, const char *sentence,
                    uint64_t txn, uint64_t generation, uint64_t synced_at_ns)
{
	struct connection *c;
	uint64_t id;

	pthread_mutex_lock(&control->lock);
	c = end_ticket(control, number, &id);
	if (c != NULL) {
		c->active_ns = shmeta__boottime_ns();
		(void)send_answer(c, id, status, sentence, txn, generation, synced_at_ns);
	}
	pthread_mutex_unlock(&control->lock);
}

/* ---- processes that end --------------------------------------------------------------------------------------------------- */

static int on_process_end(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct connection *c = arg;
	struct control *control = c->control;

	(void)source;
	(void)fd;
	(void)events;
	pthread_mutex_lock(&control->lock);
	close_connection(c);
	pthread_mutex_unlock(&control->lock);
	return 0;
}

/* Its children may have the connection, which then stays open: that the process has ended is what its own descriptor tells. Where none
 * can be had (a kernel before 5.3, a process of a namespace that is not ours, no descriptors left) the connection has to do. False: it
 * has ended already. */
static bool watch_process(struct connection *c)
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

/* ---- requests ----------------------------------------------------------------------------------------------------------- */

/* Each answers its frame. False: the connection is gone. */
static bool on_register(struct connection *c, const void *frame)
{
	const struct shmeta_frame_register *request = frame;
	struct control *control = c->control;
	struct shmeta_frame_registered answer;
	struct shmeta_err err = {0};
	int fd;

	if (c->registration != NULL)
		return send_answer(c, request->head.id, SHMETA_ERR_PROTOCOL, "this connection is already registered", 0,
		                   0, 0);
	if (control->draining)
		return send_answer(c, request->head.id, SHMETA_ERR_WRITER_AWAY, "the writer is stopping", 0, 0, 0);
	if (!watch_process(c)) {
		close_connection(c);
		return false;
	}
	if (registry_add(control->registry, request, &c->peer, c->fd, control->limits.registrations_per_user,
	                 is_privileged(&c->peer) ? 100 : control->limits.user_share, &fd, &c->registration,
	                 &err) != SHMETA_OK) {
		log_event_by(c->peer.uid, LOG_WARNING, "register", "cannot register pid %d, uid %u: %s",
		             (int)c->peer.pid, (unsigned)c->peer.uid, err.text);
		return send_answer(c, request->head.id, err.code, err.text, 0, 0, 0);
	}
	control->counters->registrations = registry_count(control->registry);
	answer = (struct shmeta_frame_registered){
		.head = {.bytes = sizeof(answer),
	                 .version = SHMETA_WIRE_VERSION,
	                 .type = SHMETA_FRAME_REGISTERED,
	                 .id = request->head.id},
		.registration = registration_number(c->registration),
		.epoch = registry_epoch(control->registry),
		.slot_count = registration_slots(c->registration),
	};
	return send_or_queue(c, &answer, sizeof(answer), fd);
}

static void forget_cached(struct cached *cached)
{
	free(cached->json);
	cached->json = NULL;
}

static bool send_cached(struct connection *c, const void *frame, struct cached *cached, char *(*make)(void *arg))
{
	const struct shmeta_frame *head = frame;
	uint64_t now = shmeta__boottime_ns();

	if (cached->json == NULL || now - cached->made_ns >= CACHE_NS) {
		free(cached->json);
		cached->json = make(c->control->host.arg);
		cached->made_ns = now;
	}
	return cached->json != NULL
	               ? send_answer(c, head->id, SHMETA_OK, cached->json, 0, 0, 0)
	               : send_answer(c, head->id, SHMETA_ERR_NO_MEMORY, "no memory for the answer", 0, 0, 0);
}

static bool on_status(struct connection *c, const void *frame)
{
	return send_cached(c, frame, &c->control->status, c->control->host.status);
}

static bool on_config(struct connection *c, const void *frame)
{
	return send_cached(c, frame, &c->control->config, c->control->host.config);
}

/* What an administrator has changed shows at once. */
static void forget_answers(struct control *control)
{
	forget_cached(&control->status);
	forget_cached(&control->config);
}

static bool may(const struct connection *c, uint32_t verb)
{
	return (rights_of(&c->control->rights, c->fd, c->peer.uid, c->peer.gid) & verb) != 0;
}

static bool deny(struct connection *c, uint64_t id, const char *what, const char *sentence)
{
	c->control->counters->denied++;
	log_event_by(c->peer.uid, LOG_WARNING, "denied", "pid %d, uid %u may not %s", (int)c->peer.pid,
	             (unsigned)c->peer.uid, what);
	return send_answer(c, id, SHMETA_ERR_DENIED, sentence, 0, 0, 0);
}

/* For the audit log. */
static const char *who(const struct connection *c, char ret[WHO_BYTES])
{
	snprintf(ret, WHO_BYTES, "uid %u pid %d", (unsigned)c->peer.uid, (int)c->peer.pid);
	return ret;
}

static uint64_t deadline_of(uint32_t timeout_ms)
{
	return timeout_ms > 0 ? shmeta__boottime_ns() + timeout_ms * UINT64_C(1000000) : UINT64_MAX;
}

static struct shmeta_str tenant_of(const char *tenant, size_t bytes)
{
	return bytes > 0 ? (struct shmeta_str){tenant, bytes}
	                 : (struct shmeta_str){SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)};
}

/* A ticket for a request that the engine will answer. false: it has been answered; *ret_alive: is the connection there still? */
static bool admitted(struct connection *c, uint64_t id, uint64_t *ret_ticket, bool *ret_alive)
{
	struct control *control = c->control;

	if (control->draining)
		*ret_alive =
			send_answer(c, id, SHMETA_ERR_WRITER_AWAY, "the writer is stopping; nothing was done", 0, 0, 0);
	else if (c->requests >= control->limits.requests_per_connection)
		*ret_alive =
			send_answer(c, id, SHMETA_ERR_BUSY, "this connection has too many requests in flight", 0, 0, 0);
	else if (!take_ticket(control, c, id, ret_ticket))
		*ret_alive = send_answer(c, id, SHMETA_ERR_NO_MEMORY, "no memory for the request; nothing was done", 0,
		                         0, 0);
	else
		return true;
	return false;
}

/* The engine did not take it. */
static bool turned_away(struct connection *c, uint64_t ticket, enum shmeta_status status, const char *busy)
{
	uint64_t id = 0;

	(void)end_ticket(c->control, ticket, &id);
	return send_answer(
		c, id, status,
		status == SHMETA_ERR_BUSY ? busy : "the writer cannot take the request now; nothing was done", 0, 0, 0);
}

static bool on_reload(struct connection *c, const void *frame)
{
	const struct shmeta_frame *head = frame;
	char sentence[1024] = "", name[WHO_BYTES];
	enum shmeta_status status;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, head->id, "reload the configuration",
		            "only root, the daemon's user and members of control.admin_group may reload");
	status = c->control->host.reload(c->control->host.arg, who(c, name), sentence, sizeof(sentence));
	forget_answers(c->control);
	return send_answer(c, head->id, status, sentence, 0, 0, 0);
}

static bool on_accept(struct connection *c, const void *frame)
{
	const struct shmeta_frame_accept *request = frame;
	char sentence[1024] = "", name[WHO_BYTES];
	uint64_t fingerprint = 0;
	enum shmeta_status status;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "accept a source",
		            "only root, the daemon's user and members of control.admin_group may accept a source");
	status = c->control->host.accept(c->control->host.arg, who(c, name), request->fingerprint, &fingerprint,
	                                 sentence, sizeof(sentence));
	forget_answers(c->control);
	return send_answer(c, request->head.id, status, sentence, fingerprint, 0, 0);
}

static bool on_revoke(struct connection *c, const void *frame)
{
	const struct shmeta_frame_revoke *request = frame;
	char sentence[256] = "", name[WHO_BYTES];
	enum shmeta_status status;
	uint64_t count = 0;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "revoke a reader",
		            "only root, the daemon's user and members of control.admin_group may revoke a reader");
	status = c->control->host.revoke(c->control->host.arg, who(c, name), request->reader, &count, sentence,
	                                 sizeof(sentence));
	return send_answer(c, request->head.id, status, sentence, count, 0, 0);
}

static bool on_refresh(struct connection *c, const void *frame)
{
	const struct shmeta_frame_refresh *request = frame;
	const char *name = (const char *)frame + sizeof(*request), *tenant = name + request->name_bytes;
	struct backend_key key = {.cls = (enum shmeta_class)request->cls,
	                          .partition_id = request->partition_id,
	                          .topic = {name, request->name_bytes},
	                          .tenant = tenant_of(tenant, request->tenant_bytes),
	                          .to = UINT64_MAX};
	enum shmeta_status status;
	uint64_t ticket;
	bool alive;

	/* Without a name, topics, partitions and segments mean all of them. */
	if (key.topic.bytes == 0 && key.cls <= SHMETA_CLASS_LIST)
		key.cls = SHMETA_CLASS_LIST;
	if (!admitted(c, request->head.id, &ticket, &alive))
		return alive;
	status = c->control->host.refresh(c->control->host.arg, &key, (request->flags & SHMETA_REFRESH_ASK_RECENT) != 0,
	                                  c->peer.uid, deadline_of(request->timeout_ms), ticket);
	return status == SHMETA_OK ||
	       turned_away(
		       c, ticket, status,
		       "the refresh queue is full, or so much was asked for by this user that its turn would come after "
		       "the deadline (refresh.user_rate); try again later");
}

/* Who deletes objects also confirms that they are gone: a writer, or an administrator who looks. */
static bool on_objects(struct connection *c, const void *frame)
{
	const struct shmeta_frame_objects *request = frame;
	const char *tenant = (const char *)(request + 1), *bucket = tenant + request->tenant_bytes,
		   *key = bucket + request->bucket_bytes;
	const struct sync_object_list list = {.tenant = tenant_of(tenant, request->tenant_bytes),
	                                      .after_bucket = {bucket, request->bucket_bytes},
	                                      .after_key = {key, request->key_bytes},
	                                      .deletable = (request->flags & SHMETA_OBJECTS_ASK_DELETABLE) != 0,
	                                      .most = request->most};
	enum shmeta_status status;
	uint64_t ticket;
	bool alive;

	if (!may(c, SHMETA_VERB_WRITE | SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "list objects",
		            "only root, the daemon's user, those who may write and members of control.admin_group may "
		            "list objects");
	if (!admitted(c, request->head.id, &ticket, &alive))
		return alive;
	status = c->control->host.objects(c->control->host.arg, &list, deadline_of(request->timeout_ms), ticket);
	return status == SHMETA_OK || turned_away(c, ticket, status, "too many lists are being made; try again later");
}

static bool on_invalidate(struct connection *c, const void *frame)
{
	const struct shmeta_frame_invalidate *request = frame;
	const char *name = (const char *)(request + 1), *tenant = name + request->name_bytes;
	const struct sync_invalidation what = {.cls = (enum shmeta_class)request->cls,
	                                       .tenant = tenant_of(tenant, request->tenant_bytes),
	                                       .topic = {name, request->name_bytes},
	                                       .partition_id = request->partition_id,
	                                       .prefix = (request->flags & SHMETA_INVALIDATE_ASK_PREFIX) != 0,
	                                       .dry_run = (request->flags & SHMETA_INVALIDATE_ASK_DRY_RUN) != 0};
	enum shmeta_status status;
	char by[WHO_BYTES];
	uint64_t ticket;
	bool alive;

	if (!may(c, SHMETA_VERB_ADMIN))
		return deny(c, request->head.id, "invalidate",
		            "only root, the daemon's user and members of control.admin_group may invalidate");
	if (!admitted(c, request->head.id, &ticket, &alive))
		return alive;
	status = c->control->host.invalidate(c->control->host.arg, &what, deadline_of(request->timeout_ms), who(c, by),
	                                     ticket);
	return status == SHMETA_OK ||
	       turned_away(c, ticket, status, "too many invalidations are under way; try again later");
}

/* Agree on a version, and say what this peer may do. */
static bool on_hello(struct connection *c, const void *frame)
{
	const struct shmeta_frame_hello *hello = frame;
	struct shmeta_frame_welcome welcome = {.head = {.bytes = sizeof(welcome),
	                                                .version = SHMETA_WIRE_VERSION,
	                                                .type = SHMETA_FRAME_WELCOME,
	                                                .id = hello->head.id},
	                                       .version = SHMETA_WIRE_VERSION,
	                                       .verbs = rights_of(&c->control->rights, c->fd, c->peer.uid, c->peer.gid),
	                                       .epoch = registry_epoch(c->control->registry),
	                                       .frame_max = SHMETA_FRAME_MAX,
	                                       .requests_max = c->control->limits.requests_per_connection};
	char why[120];

	if (hello->version_min <= SHMETA_WIRE_VERSION && hello->version_max >= SHMETA_WIRE_VERSION)
		return send_or_queue(c, &welcome, sizeof(welcome), -1);
	snprintf(why, sizeof(why), "this writer speaks version %d, the client %u to %u; upgrade the older one",
	         SHMETA_WIRE_VERSION, hello->version_min, hello->version_max);
	if (send_answer(c, hello->head.id, SHMETA_ERR_VERSION, why, 0, 0, 0))
		close_connection(c);
	return false;
}

/* The operations of a frame. 0: it does not parse. */
static size_t decode_ops(const struct shmeta_frame_write *request, struct shmeta_op *ops, size_t room)
{
	const unsigned char *at = (const unsigned char *)(request + 1),
			    *end = (const unsigned char *)request + request->head.bytes;
	size_t count = 0;

	at += ((size_t)request->tenant_bytes + 7) / 8 * 8;
	while (count < request->op_count && count < room && at < end) {
		size_t used = 0;

		if (shmeta__op_decode(at, (size_t)(end - at), &ops[count], &used) != SHMETA_OK)
			return 0;
		at += used;
		count++;
	}
	return count == request->op_count && at == end ? count : 0;
}

static bool on_write(struct connection *c, const void *frame)
{
	const struct shmeta_frame_write *request = frame;
	struct control *control = c->control;
	struct shmeta_op *ops;
	enum shmeta_status status;
	char by[WHO_BYTES];
	uint64_t ticket, id;
	size_t count;
	bool alive;

	if (!may(c, SHMETA_VERB_WRITE))
		return deny(
			c, request->head.id, "write",
			"only root, the daemon's user, control.write_users and members of control.write_groups may write");
	if (!admitted(c, request->head.id, &ticket, &alive))
		return alive;
	ops = request->op_count <= WRITE_OPS_MAX ? malloc(request->op_count * sizeof(*ops)) : NULL;
	count = ops != NULL ? decode_ops(request, ops, request->op_count) : 0;
	if (count == 0) {
		free(ops);
		(void)end_ticket(control, ticket, &id);
		evict(c, &control->counters->bad_frames, "bad-frame", "the %u operations of a frame do not parse",
		      request->op_count);
		return false;
	}
	status = control->host.write(control->host.arg, tenant_of((const char *)(request + 1), request->tenant_bytes),
	                             ops, count, deadline_of(request->timeout_ms), c->peer.uid, c->number, who(c, by),
	                             ticket);
	free(ops);
	return status == SHMETA_OK ||
	       turned_away(c, ticket, status,
	                   "the write queue is full, or holds the most of this connection or user (section write and "
	                   "control.user_share of shmeta.conf); nothing was done; try again in 10 ms");
}

void control_written(struct control *control, uint64_t number, void *frame, size_t bytes)
{
	struct shmeta_frame *head = frame;
	struct connection *c;

	pthread_mutex_lock(&control->lock);
	c = end_ticket(control, number, &head->id);
	/* NULL: the client has gone; what it wrote stands */
	if (c != NULL) {
		c->active_ns = shmeta__boottime_ns();
		(void)send_or_queue(c, frame, bytes, -1);
	}
	pthread_mutex_unlock(&control->lock);
}

bool control_written_at_once(struct control *control, uint64_t number, void *frame, size_t bytes)
{
	const struct ticket *ticket;
	struct shmeta_frame *head = frame;
	struct connection *c;
	bool sent = false;

	if (pthread_mutex_trylock(&control->lock) != 0)
		return false;
	ticket = find_ticket(control, number);
	c = ticket != NULL ? ticket->connection : NULL;
	/* What cannot be sent just so, to a client that is gone or does not read, is the loop's to deal with. */
	if (c != NULL && c->output == NULL) {
		head->id = ticket->id;
		sent = send_packet(c->fd, frame, bytes, -1) >= 0;
	}
	if (sent) {
		c->active_ns = shmeta__boottime_ns();
		(void)end_ticket(control, number, &head->id);
	}
	pthread_mutex_unlock(&control->lock);
	return sent;
}

static const struct {
	uint16_t type;
	bool (*handle)(struct connection *c, const void *frame);
} verbs[] = {
	{SHMETA_FRAME_HELLO, on_hello},       {SHMETA_FRAME_WRITE, on_write},
	{SHMETA_FRAME_REGISTER, on_register}, {SHMETA_FRAME_REFRESH, on_refresh},
	{SHMETA_FRAME_STATUS, on_status},     {SHMETA_FRAME_RELOAD, on_reload},
	{SHMETA_FRAME_OBJECTS, on_objects},   {SHMETA_FRAME_INVALIDATE, on_invalidate},
	{SHMETA_FRAME_CONFIG, on_config},     {SHMETA_FRAME_ACCEPT, on_accept},
	{SHMETA_FRAME_REVOKE, on_revoke},
};

/* False: the connection is gone. */
static bool on_frame(struct connection *c, size_t bytes)
{
	const struct shmeta_frame *head = (const void *)c->control->frame;

	if (bytes > SHMETA_FRAME_MAX) {
		evict(c, &c->control->counters->bad_frames, "bad-frame", "a frame of %zu bytes", bytes);
		return false;
	}
	if (shmeta__frame_check(head, bytes) != SHMETA_OK) {
		evict(c, &c->control->counters->bad_frames, "bad-frame", "a frame of %zu bytes does not parse", bytes);
		return false;
	}
	c->control->counters->frames++;
	c->spoke = true;
	c->active_ns = shmeta__boottime_ns();
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (verbs[i].type == head->type)
			return verbs[i].handle(c, head);
	evict(c, &c->control->counters->bad_frames, "bad-frame", "a client does not send %s frames",
	      shmeta__frame_name(head->type));
	return false;
}

static void park(struct connection *c)
{
	if (sd_event_source_set_enabled(c->source, SD_EVENT_OFF) < 0 ||
	    sd_event_source_set_time(c->control->renewal, budget_renewed_ns(&c->control->budget) / 1000 + 1) < 0 ||
	    sd_event_source_set_enabled(c->control->renewal, SD_EVENT_ONESHOT) < 0)
		(void)sd_event_source_set_enabled(c->source, SD_EVENT_ON);
	else
		c->parked = true;
}

static int on_renewal(sd_event_source *source, uint64_t usec, void *arg)
{
	struct control *control = arg;

	(void)source;
	(void)usec;
	for (struct connection *c = control->connections; c != NULL; c = c->next)
		if (c->parked) {
			c->parked = false;
			(void)sd_event_source_set_enabled(c->source, SD_EVENT_ON);
		}
	return 0;
}

/* Frames of one connection, as long as its turn lasts. */
static void read_frames(struct connection *c, int fd)
{
	struct control *control = c->control;
	const uint32_t uid = c->peer.uid;
	uint64_t began = shmeta__boottime_ns(), now = began;
	bool alive = true;

	if (!is_privileged(&c->peer) && !budget_left(&control->budget, uid, began)) {
		park(c);
		return;
	}
	while (alive && c->output == NULL && now - began < TURN_NS) {
		/* MSG_TRUNC: the packet's own length, whatever fitted. */
		ssize_t got = recv(fd, control->frame, sizeof(control->frame), MSG_DONTWAIT | MSG_TRUNC);

		if (got < 0 && (would_block(errno) || errno == EINTR))
			break;
		alive = got > 0 && on_frame(c, (size_t)got);
		if (got <= 0) /* an empty packet is not a frame either */
			close_connection(c);
		now = shmeta__boottime_ns();
	}
	budget_spend(&control->budget, uid, now - began, now);
}

static void serve(struct connection *c, int fd, uint32_t events)
{
	if (c->output != NULL && (events & (EPOLLHUP | EPOLLERR))) {
		close_connection(c); /* nobody is left to read what waits */
		return;
	}
	if (events & EPOLLOUT) {
		flush_output(c);
		return;
	}
	read_frames(c, fd);
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct connection *c = arg;
	struct control *control = c->control;

	(void)source;
	pthread_mutex_lock(&control->lock);
	serve(c, fd, events);
	pthread_mutex_unlock(&control->lock);
	return 0;
}

/* ---- accepting ---------------------------------------------------------------------------------------------------------- */

/* NULL: this peer may have another connection. Root and the daemon's user have no share, only the whole. */
static const char *over_limit(const struct control *control, const struct registry_peer *peer)
{
	const struct control_limits *limits = &control->limits;
	uint32_t shared = limits->connections_max - limits->connections_reserved, mine = 0, unregistered = 0;

	for (const struct connection *c = control->connections; c != NULL; c = c->next)
		if (c->peer.uid == peer->uid) {
			mine++;
			unregistered += c->registration == NULL;
		}
	if (control->count >= limits->connections_max)
		return "the writer has as many connections as it takes (control.connections_max)";
	if (unregistered >= limits->connections_per_user)
		return "this user has as many unregistered connections as one may have (control.connections_per_user)";
	if (is_privileged(peer))
		return NULL;
	if (control->count + limits->connections_reserved >= limits->connections_max)
		return "the writer keeps its last connections for the administrator (control.connections_reserved)";
	if (share_left(shared, limits->user_share, mine, control->count) == 0)
		return "this user has its share of the connections (control.user_share)";
	return NULL;
}

/* Takes fd. NULL: it is closed. */
static struct connection *add_connection(struct control *control, int fd, const struct registry_peer *peer)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (c == NULL || sd_event_add_io(control->event, &c->source, fd, EPOLLIN, on_connection, c) < 0) {
		log_event(LOG_ERR, "memory", "no memory for a connection");
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

/* Before it is watched or anything is kept of it: whoever is refused at a high rate costs little. */
static void refuse(struct control *control, int fd, const struct registry_peer *peer, const char *why)
{
	struct {
		struct shmeta_frame_answer answer;
		char text[200];
	} frame = {.answer = {.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_ANSWER},
	                      .status = SHMETA_ERR_BUSY}};
	int length = snprintf(frame.text, sizeof(frame.text), "%s", why);

	frame.answer.text_bytes = (uint32_t)length;
	frame.answer.head.bytes = (uint32_t)(sizeof(frame.answer) + (size_t)length);
	control->counters->refused++;
	log_event_by(peer->uid, LOG_WARNING, "refused", "refused a connection of pid %d, uid %u: %s", (int)peer->pid,
	             (unsigned)peer->uid, why);
	(void)send_packet(fd, &frame, frame.answer.head.bytes, -1);
	close(fd);
}

static void on_arrived(void *arg, int fd, const struct registry_peer *peer)
{
	struct control *control = arg;
	const char *why = over_limit(control, peer);

	if (why != NULL)
		refuse(control, fd, peer, why);
	else if (add_connection(control, fd, peer) != NULL)
		control->counters->accepted++;
}

static void on_shed(void *arg)
{
	struct control *control = arg;

	control->counters->refused++;
}

/* ---- life --------------------------------------------------------------------------------------------------------------- */

static void unknown_name(void *arg, const char *name)
{
	(void)arg;
	log_event(LOG_WARNING, "group", "control: there is no user or group '%s'; it grants nothing", name);
}

void control_set_limits(struct control *control, const struct control_limits *limits)
{
	control->limits = *limits;
	control->limits.admin_group = control->limits.write_groups = control->limits.write_users = NULL;
	rights_rule_set(&control->rights.admin, NULL, limits->admin_group, unknown_name, NULL);
	rights_rule_set(&control->rights.write, limits->write_users, limits->write_groups, unknown_name, NULL);
}

enum shmeta_status control_start(sd_event *event, int dir_fd, const char *path, const char *group,
                                 const struct control_limits *limits, struct registry *registry,
                                 const struct control_host *host, struct control_counters *counters,
                                 struct control **ret, struct shmeta_err *err)
{
	struct control *control = aligned_alloc(_Alignof(struct control), sizeof(*control));
	const struct listen_host listen = {.arg = control, .arrived = on_arrived, .shed = on_shed};
	enum shmeta_status status;

	if (control == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the control socket");
	memset(control, 0, sizeof(*control));
	(void)pthread_mutex_init(&control->lock, NULL);
	control->event = event;
	control->registry = registry;
	control->host = *host;
	control->counters = counters;
	control_set_limits(control, limits);
	if (sd_event_add_time(event, &control->renewal, CLOCK_BOOTTIME, UINT64_MAX, 1, on_renewal, control) < 0) {
		control_stop(control);
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "no memory for the control socket");
	}
	status = listen_start(&control->listener, event, dir_fd, path, group, &listen, err);
	if (status != SHMETA_OK) {
		control_stop(control);
		return status;
	}
	*ret = control;
	return SHMETA_OK;
}

void control_adopt(struct control *control, int fd, uint64_t number)
{
	struct registration *registration = registry_find(control->registry, number);
	struct registry_peer peer;
	struct connection *c;

	/* systemd hands descriptors over with the flags of its own choice. */
	if (registration == NULL || !listen_peer_of(fd, &peer) || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		close(fd);
		return;
	}
	c = add_connection(control, fd, &peer);
	if (c == NULL)
		return;
	c->spoke = true;
	c->registration = registration;
	registry_reconnect(registration, &peer);
	if (!watch_process(c))
		close_connection(c);
}

void control_sweep(struct control *control, uint64_t now_ns)
{
	pthread_mutex_lock(&control->lock);
	for (struct connection *c = control->connections, *next; c != NULL; c = next) {
		next = c->next;
		/* What the process holds of us ends with its snapshots; it registers anew. */
		if (c->registration != NULL && registration_is_revoked(c->registration)) {
			close_connection(c);
			continue;
		}
		if (c->registration != NULL || c->requests > 0)
			continue;
		if (!c->spoke && now_ns - c->opened_ns > control->limits.first_frame_ns)
			evict(c, &control->counters->silent, "silent", "no frame came within %" PRIu64 " ms",
			      control->limits.first_frame_ns / 1000000);
		else if (now_ns - c->active_ns > control->limits.idle_ns)
			evict(c, &control->counters->silent, "silent", "idle, and not registered, for %" PRIu64 " s",
			      control->limits.idle_ns / 1000000000);
	}
	pthread_mutex_unlock(&control->lock);
	registry_sweep(control->registry, now_ns);
	control->counters->registrations = registry_count(control->registry);
}

void control_drain(struct control *control)
{
	control->draining = true;
	listen_stop(&control->listener);
}

void control_stop(struct control *control)
{
	if (control == NULL)
		return;
	control_drain(control);
	sd_event_source_disable_unref(control->renewal);
	forget_answers(control);
	for (struct connection *c = control->connections, *next; c != NULL; c = next) {
		next = c->next;
		/* The process ends, not the reader: its page is not revoked. */
		c->registration = NULL;
		close_connection(c);
	}
	(void)pthread_mutex_destroy(&control->lock);
	budget_free(&control->budget);
	free(control->tickets);
	free(control);
}
