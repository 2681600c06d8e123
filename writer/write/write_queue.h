/* SPDX-License-Identifier: Apache-2.0
 * Calls that wait to be written: copied by whoever sends them, taken in turns by the engine's thread, answered one by one. Private
 * to writer/write/. */
#ifndef SHMETA_WRITER_WRITE_WRITE_QUEUE_H
#define SHMETA_WRITER_WRITE_WRITE_QUEUE_H

#include "writer/engine/engine.h"
#include "writer/write/turns.h"

struct request_ids; /* request_ids.h */

struct sync_writes {
	pthread_mutex_t lock;
	struct turns turns;
	size_t enough;            /* the thread gathers, and need not be woken for fewer */
	size_t recent;            /* calls of a recent round; the engine's thread */
	struct request_ids *done; /* the engine's thread */
	struct write_round *next; /* the same: taken, at work in the source as a rule */
	struct write_call *back;  /* the same: taken, and put back in front until the source was looked at */
};

struct write_call {
	struct turn turn;
	struct write_call *next; /* of its round */
	uint64_t ticket, deadline_ns;
	struct shmeta_str tenant;
	char who[64];
	size_t count;
	struct shmeta_op *ops; /* views into text */
	struct shmeta_result *results;
	bool *again;     /* answered with an earlier one's result */
	uint64_t text[]; /* the operations encoded, then the tenant */
};

/* The next calls in their turns, `most` of work at most (one call at least), or all. NULL: none. */
struct write_call *write_calls_take(struct sync *s, uint64_t most, bool all, bool *ret_more);
/* How many operations wait, of how many calls, and since when. */
size_t write_calls_waiting(struct sync *s, size_t *ret_calls, uint64_t *ret_since_ns);
/* What a burst of calls took is given back when nothing waits any more; malloc alone would keep it. */
void write_calls_at_rest(struct sync *s);
/* OK and ERR_NOT_CACHED come with the results; any other status holds for all operations of the call. */
void write_call_answer(struct sync *s, const struct write_call *call, enum shmeta_status status, const char *sentence);
void write_calls_answer(struct sync *s, struct write_call *calls, enum shmeta_status status,
                        const char *sentence); /* and free them */
void write_call_free(struct write_call *call);

#endif
