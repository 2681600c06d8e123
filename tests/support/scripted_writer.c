/* SPDX-License-Identifier: Apache-2.0
 * See scripted_writer.h. */
#include "tests/support/scripted_writer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void granted(int holds, const char *what)
{
	if (holds)
		return;
	(void)fprintf(stderr, "scripted writer: %s: %s\n", what, strerror(errno));
	abort();
}

void scripted_listen(struct scripted_writer *s, const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (s->path[0] == 0) {
		*s = (struct scripted_writer){.fd = -1,
		                              .epoch = 1,
		                              .frame_max = SHMETA_FRAME_MAX,
		                              .requests_max = 1024,
		                              .verbs = SHMETA_VERB_READ | SHMETA_VERB_WRITE};
		granted(snprintf(s->path, sizeof s->path, "%s/control.sock", directory) < (int)sizeof s->path,
		        "a short path");
	}
	(void)unlink(s->path);
	memcpy(address.sun_path, s->path, sizeof s->path);
	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	granted(s->listen_fd >= 0 && bind(s->listen_fd, (struct sockaddr *)&address, sizeof address) == 0 &&
	                listen(s->listen_fd, 16) == 0,
	        s->path);
}

void scripted_unlisten(struct scripted_writer *s)
{
	if (s->listen_fd >= 0)
		(void)close(s->listen_fd);
	s->listen_fd = -1;
	(void)unlink(s->path);
}

void scripted_close(struct scripted_writer *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}

void scripted_stop(struct scripted_writer *s)
{
	scripted_close(s);
	scripted_unlisten(s);
}

static int ready(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) > 0;
}

int scripted_accept(struct scripted_writer *s, int timeout_ms)
{
	if (!ready(s->listen_fd, timeout_ms))
		return 0;
	granted(s->fd < 0, "only one connection at a time");
	s->fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	granted(s->fd >= 0, "accept");
	s->accepted++;
	return 1;
}

void scripted_take_hello(struct scripted_writer *s)
{
	uint64_t packet[SHMETA_FRAME_MAX / 8];
	ssize_t n;

	granted(ready(s->fd, SCRIPTED_PATIENCE_MS), "no HELLO came");
	n = recv(s->fd, packet, sizeof packet, 0);
	granted(n == (ssize_t)sizeof s->hello && shmeta__frame_check(packet, (size_t)n) == SHMETA_OK &&
	                ((const struct shmeta_frame *)packet)->type == SHMETA_FRAME_HELLO,
	        "the first frame is not a HELLO");
	memcpy(&s->hello, packet, sizeof s->hello);
}

void scripted_send(struct scripted_writer *s, const void *frame, size_t bytes)
{
	granted(send(s->fd, frame, bytes, MSG_NOSIGNAL) == (ssize_t)bytes, "send");
}

void scripted_welcome(struct scripted_writer *s)
{
	const struct shmeta_frame_welcome welcome = {.head = {.bytes = sizeof welcome,
	                                                      .version = SHMETA_WIRE_VERSION,
	                                                      .type = SHMETA_FRAME_WELCOME,
	                                                      .id = s->hello.head.id},
	                                             .version = SHMETA_WIRE_VERSION,
	                                             .verbs = s->verbs,
	                                             .epoch = s->epoch,
	                                             .frame_max = s->frame_max,
	                                             .requests_max = s->requests_max};

	scripted_send(s, &welcome, sizeof welcome);
}

void scripted_greet(struct scripted_writer *s)
{
	granted(scripted_accept(s, SCRIPTED_PATIENCE_MS), "nobody connected");
	scripted_take_hello(s);
	scripted_welcome(s);
}

int scripted_take(struct scripted_writer *s, struct scripted_write *ret, int timeout_ms)
{
	const uint8_t *at;
	size_t left, used;
	ssize_t n;

	if (!ready(s->fd, timeout_ms))
		return 0;
	n = recv(s->fd, ret->packet, sizeof ret->packet, 0);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return -1;
	granted(n > 0 && shmeta__frame_check(ret->packet, (size_t)n) == SHMETA_OK &&
	                ((const struct shmeta_frame *)ret->packet)->type == SHMETA_FRAME_WRITE,
	        "this is not a WRITE");
	ret->frame = (const struct shmeta_frame_write *)ret->packet;
	at = (const uint8_t *)(ret->frame + 1);
	left = (size_t)n - sizeof *ret->frame;
	memset(ret->tenant, 0, sizeof ret->tenant);
	memcpy(ret->tenant, at, ret->frame->tenant_bytes);
	used = (ret->frame->tenant_bytes + 7) / 8 * 8;
	for (ret->count = 0; ret->count < ret->frame->op_count; ret->count++) {
		at += used;
		left -= used;
		granted(shmeta__op_decode(at, left, &ret->ops[ret->count], &used) == SHMETA_OK, "an operation");
	}
	granted(left == used, "operations end the frame");
	return 1;
}

void scripted_results(struct scripted_writer *s, const struct scripted_write *write,
                      const struct shmeta_result *results, enum shmeta_status status, uint64_t generation, uint64_t txn)
{
	static const struct shmeta_result fine = {.status = SHMETA_OK};
	uint64_t packet[SHMETA_FRAME_MAX / 8];
	struct shmeta_frame_results *frame = (struct shmeta_frame_results *)packet;
	size_t at = sizeof *frame;

	for (size_t i = 0; i < write->count; i++) {
		size_t used = shmeta__result_encode(write->ops[i].type, results != NULL ? &results[i] : &fine,
		                                    (uint8_t *)packet + at, sizeof packet - at);

		granted(used != 0, "the results fit");
		at += used;
	}
	*frame = (struct shmeta_frame_results){.head = {.bytes = (uint32_t)at,
	                                                .version = SHMETA_WIRE_VERSION,
	                                                .type = SHMETA_FRAME_RESULTS,
	                                                .id = write->frame->head.id},
	                                       .result_count = (uint32_t)write->count,
	                                       .status = status,
	                                       .txn = txn,
	                                       .generation = generation};
	scripted_send(s, packet, at);
}

void scripted_done(struct scripted_writer *s, const struct scripted_write *write)
{
	scripted_results(s, write, NULL, SHMETA_OK, 1, 1);
}

void scripted_refuse(struct scripted_writer *s, uint64_t id, enum shmeta_status status, const char *text)
{
	char packet[sizeof(struct shmeta_frame_answer) + 512];
	struct shmeta_frame_answer answer = {
		.head = {.version = SHMETA_WIRE_VERSION, .type = SHMETA_FRAME_ANSWER, .id = id},
		.status = status,
		.text_bytes = (uint32_t)strlen(text)};

	answer.head.bytes = (uint32_t)(sizeof answer + answer.text_bytes);
	memcpy(packet, &answer, sizeof answer);
	memcpy(packet + sizeof answer, text, answer.text_bytes);
	scripted_send(s, packet, answer.head.bytes);
}
