/* SPDX-License-Identifier: Apache-2.0
 * The writer's end of control.sock, played by the test step by step: nothing happens on it by
 * itself, so a test says exactly when a client is greeted, what it is answered and when the
 * connection breaks. Functions end the process with a sentence on stderr when what the test takes
 * for granted fails. One thread at a time. */
#ifndef SHMETA_TESTS_SUPPORT_SCRIPTED_WRITER_H
#define SHMETA_TESTS_SUPPORT_SCRIPTED_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "include/shmeta.h"
#include "shm/wire/op.h"
#include "shm/wire/wire.h"

enum { SCRIPTED_OPS = SHMETA_FRAME_MAX / sizeof(struct shmeta_wire_op), SCRIPTED_PATIENCE_MS = 5000 };

struct scripted_writer {
	char path[108];
	int listen_fd; /* -1: nobody listens */
	int fd;        /* -1: no connection  */
	/* What its WELCOMEs say. */
	uint64_t epoch;
	uint32_t frame_max, requests_max, verbs;
	struct shmeta_frame_hello hello; /* the last one */
	uint32_t accepted;
};

/* A WRITE frame that was received; ops view into packet. */
struct scripted_write {
	uint64_t packet[SHMETA_FRAME_MAX / 8 + 1];
	const struct shmeta_frame_write *frame;
	char tenant[SHMETA_TENANT_MAX + 1];
	size_t count;
	struct shmeta_op ops[SCRIPTED_OPS];
};

/* Listen in an instance directory: epoch 1, the largest frames, 1024 requests, all rights. */
void scripted_listen(struct scripted_writer *s, const char *directory);
void scripted_unlisten(struct scripted_writer *s);
void scripted_stop(struct scripted_writer *s); /* connection, socket, path */

int scripted_accept(struct scripted_writer *s, int timeout_ms); /* 1: there is a connection */
void scripted_take_hello(struct scripted_writer *s);
void scripted_welcome(struct scripted_writer *s);
void scripted_greet(struct scripted_writer *s); /* accept, take the hello, welcome */
void scripted_close(struct scripted_writer *s);

/* The next frame, within so many milliseconds: 1; 0: there is none, -1: the client has closed. */
int scripted_take(struct scripted_writer *s, struct scripted_write *ret, int timeout_ms);
void scripted_send(struct scripted_writer *s, const void *frame, size_t bytes);
/* results NULL: every operation OK. */
void scripted_results(struct scripted_writer *s, const struct scripted_write *write,
                      const struct shmeta_result *results, enum shmeta_status status, uint64_t generation,
                      uint64_t txn);
void scripted_done(struct scripted_writer *s, const struct scripted_write *write);
void scripted_refuse(struct scripted_writer *s, uint64_t id, enum shmeta_status status, const char *text);

#endif
