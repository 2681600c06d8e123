/* SPDX-License-Identifier: Apache-2.0
 * One topic or partition of so many rows that they are not collected first (fetch_result.h): each
 * window of them is applied as it comes, in one transaction of the store. */
#ifndef SHMETA_WRITER_LOAD_STREAM_H
#define SHMETA_WRITER_LOAD_STREAM_H

#include "writer/keys/fetch_result.h"
#include "writer/load/pass_window.h"

struct stream {
	struct batch *b; /* its keys are those of one entry of kind TOPIC or PART */
	bool restamp;
	bool widen; /* PART: it belongs to another incarnation of its topic */
	size_t at;  /* key being answered */
	bool in_topic, in_partition;
	bool any; /* PART: its row has come */
	struct pass_window window;
	enum shmeta_status failed; /* this side ended it */
	struct shmeta_err err;
};

/* The sink that applies to b->s->apply, whose transaction is open. After a fetch() that returned OK
 * all is applied. */
struct backend_sink stream_sink(struct stream *stream);
void stream_free(struct stream *stream);

#endif
