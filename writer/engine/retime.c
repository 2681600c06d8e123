/* SPDX-License-Identifier: Apache-2.0 */
#include "writer/engine/retime.h"

#include "writer/engine/engine.h"

enum { TOPICS_A_ROUND = 1024, RECORDS_A_ROUND = 4096 };

/* The one way from one state to the other, and on within one. */
static void become(struct sync *s, enum retime_state state, uint32_t behind)
{
	s->retime = (struct retime){state, behind};
}

void retime_begin(struct sync *s)
{
	become(s, RETIME_UNDER_WAY, 0);
}

/* The topics behind *last, which moves. END: those were all. */
static enum shmeta_status retime(struct sync *s, uint32_t *last, struct shmeta_err *err)
{
	struct apply *a = &s->apply;
	enum shmeta_status status = SHMETA_OK;

	for (int i = 0; i < TOPICS_A_ROUND && a->changed < RECORDS_A_ROUND && status == SHMETA_OK; i++) {
		uint64_t id = (uint64_t)*last + 1;
		struct shmeta__cursor *cursor;
		const void *key, *value;
		size_t key_bytes, bytes;

		status = shmeta__cursor_open(a->txn, SHMETA_DB_TOPICS, &id, sizeof id, &cursor, err);
		if (status != SHMETA_OK)
			return status;
		status = shmeta__cursor_next(cursor, &key, &key_bytes, &value, &bytes, err);
		if (status == SHMETA_OK)
			memcpy(&id, key, sizeof id);
		shmeta__cursor_close(cursor);
		if (status == SHMETA_OK)
			status = apply_topic_ttl(a, (uint32_t)id, err);
		if (status == SHMETA_OK || status == SHMETA_ABSENT) {
			*last = (uint32_t)id;
			status = SHMETA_OK;
		}
	}
	return status;
}

void retime_some(struct sync *s)
{
	struct apply_host host = sync_apply_host(s);
	uint32_t last = s->retime.behind;
	struct shmeta_err err = {.code = SHMETA_OK};
	enum retime_state next;
	uint64_t txn, began_ns = sync_now(s);
	enum shmeta_status status;

	if (s->retime.state == RETIME_NONE || !store_is_writable(s) || !store_takes(s))
		return;
	status = apply_begin(&s->apply, s->store, &host, sync_oldest_pin(s), false, &err);
	if (status == SHMETA_OK)
		status = retime(s, &last, &err);
	next = status == SHMETA_END ? RETIME_NONE : RETIME_UNDER_WAY;
	if (status >= 0)
		status = apply_commit(&s->apply, &txn, &err);
	if (status != SHMETA_OK) {
		apply_abort(&s->apply);
		sync_store_failed(s, status, err.text);
		return;
	}
	sync_count_commit(s, &s->apply, began_ns);
	become(s, next, last);
	if (next == RETIME_UNDER_WAY)
		sync_wake_at(s, sync_now(s));
}
