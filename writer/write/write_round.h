/* SPDX-License-Identifier: Apache-2.0
 * A round of group commit: the parts of calls that it takes, and which of their operations go to
 * the source. The engine's thread. Private to writer/write/. */
#ifndef SHMETA_WRITER_WRITE_WRITE_ROUND_H
#define SHMETA_WRITER_WRITE_WRITE_ROUND_H

#include "writer/write/request_ids.h"
#include "writer/write/write_queue.h"

struct write_round {
	struct sync *s;
	struct write_part *parts; /* taken, in order */
	struct backend_op *ops;   /* those that go to the source */
	struct shmeta_result *results;
	struct shmeta_result **place; /* where each one's result belongs; NULL: of an object that
                                       * goes again, for a slice of it */
	struct request *requests;
	size_t count;
	size_t done; /* so many of them are behind the source, in calls that it answered */
	/* Operations with a request id, by its hash: 1 + index in ops. The second one of an id is
	 * done by the first. */
	uint32_t *by_id;
	size_t by_id_size;
	struct duplicate {
		struct shmeta_result *result;
		size_t of; /* index in ops */
	} * duplicates;
	size_t duplicate_count;
	bool started;                 /* its operations are with the source, and not finished */
	size_t judged, unknown, full; /* results: see is_unjudged(), of unknown outcome, without
                                       * room in the source */
	bool makes_room;              /* in the store */
	uint64_t room_left;           /* there, for what it makes; UINT64_MAX: not asked yet */
	bool no_memory;
};

/* Fill in what goes to the source, of the parts. What violates C9, and what was done before, does
 * not reach it. false: no memory. */
bool write_round_collect(struct write_round *r);
/* And its parts. NULL: nothing. */
void write_round_free(struct write_round *r);

#endif
