/* SPDX-License-Identifier: Apache-2.0
 * One request to the writer, one answer. A request has a connection to itself, taken from the core
 * when an idle one is there. */
#include "reader/request/request.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/escape.h"
#include "shm/wire/op.h"

/* ---- connections ---- */

/* Take and put back the descriptor together with what proves that it is ours, under one lock, which
 * is held for these few stores only. */
static int take_idle(struct core *core)
{
	struct idle_connection idle;

	(void)pthread_mutex_lock(&core->idle_lock);
	idle = core->idle;
	core->idle.fd = -1;
	(void)pthread_mutex_unlock(&core->idle_lock);
	return shmeta__fd_is(idle.fd, idle.dev, idle.ino) ? idle.fd : -1;
}

/* If two threads return a connection at once, one is kept and the other closed. */
static void keep_idle(struct core *core, int fd)
{
	struct idle_connection idle = {.fd = fd};
	int kept;

	shmeta__fd_note(fd, &idle.dev, &idle.ino);
	(void)pthread_mutex_lock(&core->idle_lock);
	kept = core->idle.fd < 0;
	if (kept)
		core->idle = idle;
	(void)pthread_mutex_unlock(&core->idle_lock);
	if (!kept)
		(void)close(fd);
}

/* 0: the deadline has passed. Check the deadline first, so that a peer that is always ready cannot
 * keep the caller beyond it. */
static int wait_ready(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = shmeta__monotonic_ns(), left;
		struct timespec t;
		int rc;

		if (now >= deadline_ns)
			return 0;
		left = deadline_ns - now;
		t = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
		rc = ppoll(&p, 1, &t, NULL);

		if (rc > 0)
			return 1;
		if (rc == 0 || errno != EINTR)
			return 0;
	}
}

/* ---- one request, one answer ---- */

static enum shmeta_status timed_out(const struct core *core, struct shmeta_err *err)
{
	return shmeta_fail(err, SHMETA_ERR_TIMEOUT, "%s: the writer did not answer within the time given",
	                   core->directory);
}

/* The part of a frame that is received on the stack: the fixed part of any frame, and an error
 * text. The rest of a long frame goes straight to the caller's body. */
union packet {
	struct shmeta_frame head;
	struct shmeta_frame_answer answer;
	uint64_t align[128];
};

/* Receive one frame. 1: *ret_bytes is its length, and packet holds its first part; 0: try again;
 * -1: the connection is gone; -2: it is not a frame, or does not fit. */
static int receive(int fd, union packet *packet, const struct answer *ret, size_t *ret_bytes)
{
	int has_rest = ret->body_room > sizeof *packet;
	struct iovec parts[2] = {
		{packet, sizeof *packet},
		{has_rest ? (char *)ret->body + sizeof *packet : NULL, has_rest ? ret->body_room - sizeof *packet : 0}};
	/* Without room for control data the kernel closes descriptors that come along. */
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = has_rest ? 2 : 1};
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
	size_t bytes;

	/* ECONNRESET, told once: the writer closed with requests unread. What it had sent comes
	 * next. */
	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET))
		return 0;
	if (n <= 0)
		return -1;
	bytes = (size_t)n;
	/* Cut an error text that is too long, but never a text that was asked for. */
	if ((message.msg_flags & MSG_TRUNC) != 0 && packet->head.type == SHMETA_FRAME_ANSWER &&
	    ret->body_type != SHMETA_FRAME_ANSWER) {
		bytes = sizeof *packet;
		packet->answer.text_bytes = (uint32_t)(bytes - sizeof packet->answer);
		packet->head.bytes = (uint32_t)bytes;
		message.msg_flags &= ~MSG_TRUNC;
	}
	if ((message.msg_flags & MSG_TRUNC) != 0 || shmeta__frame_check(packet, bytes) != SHMETA_OK)
		return -2;
	if (packet->head.type == ret->body_type        ? bytes > ret->body_room
	    : packet->head.type == SHMETA_FRAME_ANSWER ? bytes > sizeof *packet
	                                               : 1)
		return -2;
	*ret_bytes = bytes;
	return 1;
}

static void keep_text(const union packet *packet, struct answer *ret)
{
	size_t room = sizeof *packet - sizeof packet->answer, bytes = packet->answer.text_bytes;

	(void)shmeta__escape(ret->text, sizeof ret->text, &packet->answer + 1, bytes < room ? bytes : room);
}

/* OK also when the connection was closed: then the answer may say why. */
static enum shmeta_status send_request(const struct core *core, int fd, const struct shmeta_frame *request,
                                       uint64_t deadline_ns, struct shmeta_err *err)
{
	for (;;) {
		ssize_t n = send(fd, request, request->bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n == (ssize_t)request->bytes || (n < 0 && errno != EAGAIN && errno != EINTR))
			return SHMETA_OK;
		if (!wait_ready(fd, POLLOUT, deadline_ns))
			return timed_out(core, err);
	}
}

/* The next frame. ERR_WRITER_AWAY: the connection is gone. */
static enum shmeta_status receive_answer(const struct core *core, int fd, uint64_t deadline_ns, struct answer *ret,
                                         union packet *packet, size_t *ret_bytes, struct shmeta_err *err)
{
	int got;

	do {
		if (!wait_ready(fd, POLLIN, deadline_ns))
			return timed_out(core, err);
		got = receive(fd, packet, ret, ret_bytes);
	} while (got == 0);
	if (got == -1)
		return shmeta_fail(err, SHMETA_ERR_WRITER_AWAY, "%s: the writer closed the connection",
		                   core->directory);
	if (got < 0)
		return shmeta_fail(err, SHMETA_ERR_PROTOCOL, "%s: the writer's answer cannot be parsed",
		                   core->directory);
	/* An answer with id 0: the writer refused the connection itself. */
	if (packet->head.id == 0 && packet->head.type == SHMETA_FRAME_ANSWER &&
	    packet->answer.status == SHMETA_ERR_BUSY) {
		keep_text(packet, ret);
		return shmeta_fail(err, SHMETA_ERR_BUSY, "%s: %s", core->directory, ret->text);
	}
	return SHMETA_OK;
}

/* ERR_WRITER_AWAY: the connection is gone. */
static enum shmeta_status exchange(struct core *core, int fd, const struct shmeta_frame *request, uint64_t deadline_ns,
                                   struct answer *ret, struct shmeta_err *err)
{
	union packet packet;
	size_t bytes = 0;
	enum shmeta_status status = send_request(core, fd, request, deadline_ns, err);

	if (status != SHMETA_OK)
		return status;
	do {
		status = receive_answer(core, fd, deadline_ns, ret, &packet, &bytes, err);
		if (status != SHMETA_OK)
			return status;
	} while (packet.head.id != request->id);
	if (packet.head.type == ret->body_type) {
		ret->body_bytes = bytes;
		memcpy(ret->body, &packet, bytes < sizeof packet ? bytes : sizeof packet);
	}
	if (packet.head.type != SHMETA_FRAME_ANSWER) {
		ret->frame = (struct shmeta_frame_answer){.status = SHMETA_OK};
		ret->text[0] = '\0';
		return SHMETA_OK;
	}
	ret->frame = packet.answer;
	keep_text(&packet, ret);
	return SHMETA_OK;
}

enum shmeta_status shmeta__answer_status(const struct answer *answer)
{
	return shmeta__status_known(answer->frame.status) ? (enum shmeta_status)answer->frame.status
	                                                  : SHMETA_ERR_PROTOCOL;
}

/* Do a request's or several requests' exchange on an idle connection, or on a new one. */
typedef enum shmeta_status exchange_fn(struct core *core, int fd, void *arg, uint64_t deadline_ns,
                                       struct shmeta_err *err);

static enum shmeta_status on_a_connection(struct core *core, exchange_fn *run, void *arg, uint64_t deadline_ns,
                                          struct shmeta_err *err)
{
	enum shmeta_status status;
	int fd = take_idle(core);
	int idle = fd >= 0;

	for (;;) {
		if (fd < 0) {
			status = shmeta__control_connect(core, deadline_ns, &fd, err);
			if (status == SHMETA_ERR_BUSY)
				return timed_out(core, err);
			if (status != SHMETA_OK)
				return status;
		}
		status = run(core, fd, arg, deadline_ns, err);
		if (status == SHMETA_OK)
			break;
		/* An unanswered request may still be answered: the connection cannot serve
		 * another. */
		(void)close(fd);
		fd = -1;
		if (status != SHMETA_ERR_WRITER_AWAY || !idle)
			return status;
		idle = 0; /* it may have been closed long ago */
	}
	keep_idle(core, fd);
	return SHMETA_OK;
}

static uint64_t last_id;

struct one_request {
	struct shmeta_frame *request;
	struct answer *answer;
};

static enum shmeta_status exchange_one(struct core *core, int fd, void *arg, uint64_t deadline_ns,
                                       struct shmeta_err *err)
{
	const struct one_request *one = arg;

	return exchange(core, fd, one->request, deadline_ns, one->answer, err);
}

enum shmeta_status shmeta__ask(struct core *core, struct shmeta_frame *request, uint64_t deadline_ns,
                               struct answer *ret, struct shmeta_err *err)
{
	struct one_request one = {request, ret};
	enum shmeta_status status;

	request->version = SHMETA_WIRE_VERSION;
	request->id = shmeta_add(&last_id, 1);
	status = on_a_connection(core, exchange_one, &one, deadline_ns, err);
	if (status != SHMETA_OK)
		return status;
	status = shmeta__answer_status(ret);
	if (status == SHMETA_OK)
		return SHMETA_OK;
	return shmeta_fail(err, status, "%s", ret->text[0] != 0 ? ret->text : shmeta_strerror(status));
}

/* ---- side by side ---- */

enum {
	UNDER_WAY = 32
}; /* requests that are with the writer at a time: fewer than it takes of a
                          * connection */

/* Each is sent, and answered, once. What an earlier connection brought the answers of is not asked
 * again. */
static enum shmeta_status exchange_all(struct core *core, int fd, void *arg, uint64_t deadline_ns,
                                       struct shmeta_err *err)
{
	const struct requests *requests = arg;
	uint64_t first = shmeta_add(&last_id, requests->count);
	size_t sent = 0, answered = 0;

	while (answered < requests->count) {
		struct answer answer = {.body_type = 0};
		enum shmeta_status status;
		union packet packet;
		size_t bytes;

		if (sent < requests->count && sent - answered < UNDER_WAY) {
			struct shmeta_frame *request = requests->frame(requests->arg, sent);

			if (request == NULL) {
				sent++;
				answered++;
				continue;
			}
			request->version = SHMETA_WIRE_VERSION;
			request->id = first + sent++;
			status = send_request(core, fd, request, deadline_ns, err);
			if (status != SHMETA_OK)
				return status;
			continue;
		}
		status = receive_answer(core, fd, deadline_ns, &answer, &packet, &bytes, err);
		if (status != SHMETA_OK)
			return status;
		if (packet.head.id - first >= sent)
			continue;
		answer.frame = packet.answer;
		keep_text(&packet, &answer);
		answered += requests->answered(requests->arg, packet.head.id - first, &answer) != 0;
	}
	return SHMETA_OK;
}

enum shmeta_status shmeta__ask_side_by_side(struct core *core, const struct requests *requests, uint64_t deadline_ns,
                                            struct shmeta_err *err)
{
	return on_a_connection(core, exchange_all, (void *)(uintptr_t)requests, deadline_ns, err);
}
