/* SPDX-License-Identifier: Apache-2.0
 * request/: requests to the writer, and waiting for its commits. All of it blocks, up to the
 * caller's deadline, and none of it holds a lock meanwhile.
 *
 *   ask.c          one request, one answer, over a connection of its own, taken from the core when
 *                  it has an idle one
 *   ask_refresh.c  asking that keys are read again
 *   ask_admin.c    what operators and cleaners ask
 *   ask_epoch.c    where an epoch ends
 *   wait.c         waiting until a commit is published */
#ifndef SHMETA_READER_REQUEST_REQUEST_H
#define SHMETA_READER_REQUEST_REQUEST_H

#include "base/row_limits.h"
#include "reader/attach/attach.h"
#include "shm/wire/wire.h"

/* What is to be read again. */
struct want {
	enum shmeta_class cls;
	const char *topic; /* NULL: the whole class */
	size_t topic_bytes;
	uint32_t partition_id;
	uint32_t with_segments; /* TOPIC: and all segments of its partitions */
	uint32_t no_fill;       /* what has to be loaded is the first to leave again */
	const char *name;       /* AGENT: its id; OFFSET: the group. NULL: none, or the whole
                                 * class */
	size_t name_bytes;
};

/* A REFRESH frame, complete but for its id. */
union refresh_packet {
	struct shmeta_frame_refresh frame;
	char bytes[sizeof(struct shmeta_frame_refresh) + 2 * SHMETA_NAME_MAX + SHMETA_TENANT_MAX];
};
/* flags: SHMETA_REFRESH_ASK_RECENT, or 0. The frame's timeout_ms is left 0. */
void shmeta__refresh_packet(const struct shmeta *instance, const struct want *want, uint32_t flags,
                            union refresh_packet *ret);

/* The writer's answer: an ANSWER frame or, for requests that have another one (body_type), that
 * whole frame in body. */
struct answer {
	struct shmeta_frame_answer frame;
	char text[400];
	uint16_t body_type; /* set by the caller; 0: none */
	void *body;
	size_t body_room, body_bytes;
};
/* Send one request and receive its answer. request: a whole frame but for its version and id. OK,
 * the writer's status with its text, or what failed on the way: ERR_TIMEOUT, ERR_WRITER_AWAY,
 * ERR_DENIED, ERR_PROTOCOL, ERR_SYSTEM. */
enum shmeta_status shmeta__ask(struct core *core, struct shmeta_frame *request, uint64_t deadline_ns,
                               struct answer *ret, struct shmeta_err *err);
/* A status that this library does not know is ERR_PROTOCOL. */
enum shmeta_status shmeta__answer_status(const struct answer *answer);
/* Ask the writer to refresh what is wanted. The writer may answer with a read of the source that
 * was under way when the request came; the answer says when that read began. So ask again until a
 * read began at since_ns or later: the second request arrives when the first read is over. since_ns
 * 0: any fresh answer will do, including a key that was found absent a moment before.
 * ret->frame.head.type is 0 where the last request had no answer of the writer's. */
enum shmeta_status shmeta__ask_since(struct shmeta *instance, struct core *core, const struct want *want,
                                     uint64_t since_ns, uint64_t deadline_ns, struct answer *ret,
                                     struct shmeta_err *err);

/* One of many keys that are asked for at once. */
struct asked_key {
	struct want want;
	enum shmeta_status status; /* the writer's */
	uint64_t synced_at_ns;     /* with OK: when it was read */
	int absent;                /* with OK: an offset or a lease that the source does not have */
	int answered;
	size_t index; /* the caller's */
};
/* The same for many keys, side by side. The last commit that shows them goes to *ret_newest. OK:
 * each has been answered; a failure on the way fails all. each: what the writer answers to a key is
 * that key's status, however many there are (err: the last such sentence); otherwise the one key's
 * is returned. */
enum shmeta_status shmeta__ask_all(struct shmeta *instance, struct core *core, struct asked_key *keys, size_t count,
                                   int each, uint64_t since_ns, uint64_t deadline_ns,
                                   struct shmeta_frame_answer *ret_newest, struct shmeta_err *err);

/* Requests side by side on one connection. frame(): the i-th, complete but for version and id,
 * valid until the next call. answered(): its answer, an ANSWER frame; 0: it had one already. */
struct requests {
	size_t count;
	void *arg;
	struct shmeta_frame *(*frame)(void *arg, size_t i); /* NULL: it is answered already */
	int (*answered)(void *arg, size_t i, const struct answer *answer);
};
enum shmeta_status shmeta__ask_side_by_side(struct core *core, const struct requests *requests, uint64_t deadline_ns,
                                            struct shmeta_err *err);

/* Wait on gen's commit word until committed > txn or the deadline, 100 ms at most, 5 ms when gen is
 * retired. OK: look again. */
enum shmeta_status shmeta__commit_wait(const struct shmeta_generation *gen, uint64_t txn, uint64_t deadline_ns);
/* Wait until the newest commit is at least this one. */
enum shmeta_status shmeta__wait_shown(struct core *core, uint64_t generation, uint64_t txn, uint64_t deadline_ns,
                                      struct shmeta_err *err);

#endif
