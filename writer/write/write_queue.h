/* SPDX-License-Identifier: Apache-2.0
 * Calls that wait to be written: copied by whoever sends them, taken in turns by the engine's
 * thread, answered one by one. Private to writer/write/. */
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
	struct write_part *back;  /* the same: taken, and put back in front until the source was
                                   * looked at */
};

/* Operations of a call that follow each other: what one round does of it. Between two of them
 * others' calls are done. */
struct write_part {
	struct turn turn;
	struct write_part *next; /* of its round */
	struct write_call *call;
	const uint8_t *encoded; /* its first operation */
	size_t first, end;      /* of the call's operations */
};

/* Answered and freed behind all of its parts. Of these the first may be in a round when the next
 * one is given up. */
struct write_call {
	uint64_t ticket, deadline_ns, came_ns;
	struct shmeta_str tenant;
	char who[64];
	uint32_t uid;
	size_t count;
	struct shmeta_op *ops;       /* views into text, and into rows */
	struct shmeta_segment *rows; /* of the operations' lists; NULL: they have none */
	struct shmeta_result *results;
	bool *again; /* answered with an earlier one's result */
	struct write_part *parts;
	size_t unanswered, unfreed; /* of them */
	bool not_cached;            /* a part's operations are not shown */
	enum shmeta_status failure; /* of the first part that failed whole, */
	size_t failed;              /* and how many operations failed by it */
	char sentence[480];         /* why, the first of these */
	uint64_t text[];            /* the operations encoded, then the tenant */
};

/* The next parts in their turns, `most` of work at most (one at least), or all. NULL: none. */
struct write_part *write_parts_take(struct sync *s, uint64_t most, bool all, bool *ret_more);
/* How many operations wait, of how many calls, and since when. */
size_t write_calls_waiting(struct sync *s, size_t *ret_calls, uint64_t *ret_since_ns);
/* What a burst of calls took is given back when nothing waits any more; malloc alone would keep
 * it. */
void write_calls_at_rest(struct sync *s);
/* The part is done; the store does not show it yet, because of that. */
void write_part_not_cached(struct write_part *part, const char *sentence);
/* The part's operations have this status, as their results say already. */
void write_part_failed(struct write_part *part, enum shmeta_status status, const char *sentence);
/* Their results say it from now on. */
void write_part_fail(struct write_part *part, enum shmeta_status status, const char *sentence);
/* The part is done. A call of which all are is answered: with one status for all where every part
 * failed in the same way, else with its results. */
void write_part_answer(struct sync *s, struct write_part *part);
/* Nobody uses the part any more. */
void write_part_free(struct write_part *part);

#endif
