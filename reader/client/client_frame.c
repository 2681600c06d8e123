/* SPDX-License-Identifier: Apache-2.0
 * The client's calls as frames, handed to the kernel. */
#include <errno.h>
#include <sys/socket.h>

#include "reader/client/client.h"

static size_t tenant_room(const struct shmeta_client *c)
{
	return (c->instance->tenant_bytes + 7) / 8 * 8;
}

size_t shmeta__frame_room(const struct shmeta_client *c, uint32_t frame_max)
{
	return frame_max - sizeof(struct shmeta_frame_write) - tenant_room(c);
}

size_t shmeta__frame_fill(const struct shmeta_client *c, const struct call *call, size_t i)
{
	size_t room = shmeta__frame_room(c, c->frame_max), begin = call->ops[i].offset, end = i;

	while (end < call->count && op_waits(&call->ops[end])) {
		size_t next = shmeta__unit_end(call, end);

		if (op_end(call, next - 1) - begin > room || (end > i && answer_max(next - i) > c->frame_max))
			break;
		end = next;
	}
	return end;
}

static uint32_t timeout_of(const struct call *call, uint64_t now_ns)
{
	uint64_t left;

	if (call->deadline_ns == NEVER)
		return 0;
	if (call->deadline_ns <= now_ns)
		return 1;
	left = (call->deadline_ns - now_ns + MILLION - 1) / MILLION;
	return left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
}

static ssize_t send_refresh(struct shmeta_client *c, const struct call *call, uint64_t now_ns)
{
	struct shmeta_frame_refresh frame;
	size_t names = shmeta__refresh_frame(call, &frame);
	struct iovec iov[] = {{&frame, sizeof frame}, {call->encoded + sizeof frame, names}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = sizeof iov / sizeof iov[0]};

	frame.head.id = call->id << ID_COUNT_BITS | 1;
	frame.timeout_ms = timeout_of(call, now_ns);
	return sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static uint64_t wait_id(const struct call *call)
{
	return call->id << ID_COUNT_BITS;
}

/* Where it need not wait, or cannot look, the writer is asked for an answer at once: so the
 * descriptor announces it. */
static ssize_t send_wait(struct shmeta_client *c, struct call *call)
{
	struct shmeta_frame_wait frame = {
		.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_WAIT, .id = wait_id(call)},
		.generation = UINT64_MAX};
	struct iovec iov[] = {{&frame, sizeof frame}, {call->waiting->words, 0}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = sizeof iov / sizeof iov[0]};

	if (shmeta__waiting_look(c, call) == SHMETA_ERR_TIMEOUT) {
		frame.generation = call->waiting->looked.generation;
		frame.txn = call->waiting->looked.txn;
		frame.word_count = (uint32_t)shmeta__waiting_words(call);
	}
	frame.flags = frame.word_count == 0 ? SHMETA_WAIT_ANY : 0;
	iov[1].iov_len = frame.word_count * sizeof call->waiting->words[0];
	frame.head.bytes = (uint32_t)(sizeof frame + iov[1].iov_len);
	return sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool shmeta__frame_send_end(struct shmeta_client *c, const struct call *call)
{
	const struct shmeta_frame_wait frame = {.head = {.bytes = sizeof frame,
	                                                 .version = SHMETA_WIRE_VERSION,
	                                                 .type = SHMETA_FRAME_WAIT,
	                                                 .id = wait_id(call)},
	                                        .flags = SHMETA_WAIT_END};

	/* Whatever else is wrong with the connection ends it, and the wait with it. */
	return send(c->fd, &frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ||
	       (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM && errno != EINTR);
}

static ssize_t send_write(struct shmeta_client *c, const struct call *call, size_t i, size_t end, uint64_t now_ns)
{
	static const char zeros[8];
	size_t bytes = op_end(call, end - 1) - call->ops[i].offset, tenant = c->instance->tenant_bytes;
	struct shmeta_frame_write frame = {.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_WRITE},
	                                   .tenant_bytes = (uint32_t)tenant,
	                                   .op_count = (uint32_t)(end - i),
	                                   .timeout_ms = timeout_of(call, now_ns)};
	struct iovec iov[] = {{&frame, sizeof frame},
	                      {c->instance->tenant, tenant},
	                      {(void *)(uintptr_t)zeros, tenant_room(c) - tenant},
	                      {call->encoded + call->ops[i].offset, bytes}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = sizeof iov / sizeof iov[0]};

	frame.head.id = (call->id + i) << ID_COUNT_BITS | (end - i);
	frame.head.bytes = (uint32_t)(sizeof frame + tenant_room(c) + bytes);
	return sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t shmeta__frame_send(struct shmeta_client *c, struct call *call, size_t i, size_t end, uint64_t now_ns)
{
	if (call->kind == CALL_WAITS)
		return send_wait(c, call);
	return call->kind == CALL_REFRESHES ? send_refresh(c, call, now_ns) : send_write(c, call, i, end, now_ns);
}
