/* SPDX-License-Identifier: Apache-2.0
 * request/: requests to the writer, and waiting for its commits. All of it blocks, up to the caller's deadline, and none of it
 * holds a lock meanwhile.
 *
 *   ask.c          one request, one answer, over a connection of its own, taken from the core when it has an idle one
 *   ask_refresh.c  asking that keys are read again
 *   ask_admin.c    what operators and cleaners ask
 *   wait.c         waiting until a commit is published */
#ifndef SHMETA_READER_REQUEST_REQUEST_H
#define SHMETA_READER_REQUEST_REQUEST_H

#include "reader/attach/attach.h"
#include "shm/wire/wire.h"

/* What is to be read again. */
struct want {
	enum shmeta_class cls;
	const char *topic; /* NULL: the whole class */
	size_t topic_bytes;
	uint32_t partition_id;
};

/* What the writer said. An ANSWER frame, or, where the request has another one (body_type), that, whole, in body. */
struct answer {
	struct shmeta_frame_answer frame;
	char text[400];
	uint16_t body_type; /* set by the caller; 0: none */
	void *body;
	size_t body_room, body_bytes;
};
/* One request, one answer. request: a whole frame but for its version and id. OK, the writer's status with its sentence, or what went
 * wrong on the way: ERR_TIMEOUT, ERR_WRITER_AWAY, ERR_DENIED, ERR_PROTOCOL, ERR_SYSTEM. */
enum shmeta_status shmeta__ask(struct core *core, struct shmeta_frame *request, uint64_t deadline_ns,
                               struct answer *ret, struct shmeta_err *err);
/* Ask for a refresh of what is wanted. A request may be answered by a read of the source that was under way when it came; the answer
 * says when that began. So it is asked again until one began at since_ns or later: the second request comes when that read is over.
 * since_ns 0: whatever is fresh, also what was found absent a moment before. */
enum shmeta_status shmeta__ask_since(struct shmeta *instance, struct core *core, const struct want *want,
                                     uint64_t since_ns, uint64_t deadline_ns, struct answer *ret,
                                     struct shmeta_err *err);

/* Wait on gen's commit word until committed > txn or the deadline, 100 ms at most, 5 ms when gen is retired. OK: look again. */
enum shmeta_status shmeta__commit_wait(const struct shmeta_generation *gen, uint64_t txn, uint64_t deadline_ns);
/* Until the newest commit is at least this one. */
enum shmeta_status shmeta__wait_shown(struct core *core, uint64_t generation, uint64_t txn, uint64_t deadline_ns,
                                      struct shmeta_err *err);

#endif
