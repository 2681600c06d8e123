/* SPDX-License-Identifier: Apache-2.0
 * The queue of calls (write_queue.h). */
#include "writer/write/write_queue.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "shm/wire/op.h"
#include "writer/write/request_ids.h"

enum { WORK_BYTES = 1024 }; /* so many count as an operation, and so does a partition that is made */

enum shmeta_status write_init(struct sync *s, struct shmeta_err *err)
{
	int error = pthread_mutex_init(&s->writes.lock, NULL);

	if (error != 0)
		return shmeta_fail_errno(err, error, "the write queue's lock");
	turns_init(&s->writes.turns);
	s->writes.done = request_ids_new();
	if (s->writes.done != NULL)
		return SHMETA_OK;
	(void)pthread_mutex_destroy(&s->writes.lock);
	return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the write queue");
}

void write_call_free(struct write_call *call)
{
	free(call->ops);
	free(call->results);
	free(call->again);
	free(call);
}

/* A copy that holds everything it views. */
static struct write_call *call_new(struct shmeta_str tenant, const struct shmeta_op *ops, size_t count)
{
	size_t bytes = 0, at = 0;
	struct write_call *call;

	for (size_t i = 0; i < count; i++)
		bytes += shmeta__op_bytes(&ops[i]);
	call = malloc(sizeof *call + bytes + tenant.bytes + 1);
	if (call == NULL)
		return NULL;
	memset(call, 0, sizeof *call);
	call->count = count;
	call->turn.ops = count;
	call->turn.bytes = sizeof *call + bytes + tenant.bytes + 1 +
	                   count * (sizeof *call->ops + sizeof *call->results + sizeof *call->again);
	call->turn.work = count + bytes / WORK_BYTES;
	call->ops = calloc(count, sizeof *call->ops);
	call->results = calloc(count, sizeof *call->results);
	call->again = calloc(count, sizeof *call->again);
	if (call->ops == NULL || call->results == NULL || call->again == NULL) {
		write_call_free(call);
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		uint8_t *here = (uint8_t *)call->text + at;
		size_t used = shmeta__op_encode(&ops[i], here, bytes - at), read = 0;

		if (shmeta__op_decode(here, used, &call->ops[i], &read) != SHMETA_OK) {
			write_call_free(call); /* what cannot be encoded was judged before it came here */
			return NULL;
		}
		if (call->ops[i].type == SHMETA_OP_CREATE_TOPIC)
			call->turn.work += call->ops[i].u.topic.partition_count;
		at += used;
	}
	memcpy((uint8_t *)call->text + bytes, tenant.data, tenant.bytes);
	call->tenant = (struct shmeta_str){(const char *)call->text + bytes, tenant.bytes};
	return call;
}

void write_set_limits(struct sync *s, const struct sync_options *options)
{
	(void)pthread_mutex_lock(&s->writes.lock);
	s->writes.turns.limits = (struct turns_limits){.ops = options->write_queue_max,
	                                               .bytes = options->write_queue_bytes,
	                                               .connection_bytes = options->write_connection_bytes,
	                                               .user_share = options->user_share};
	(void)pthread_mutex_unlock(&s->writes.lock);
}

enum shmeta_status sync_write(struct sync *s, struct shmeta_str tenant, const struct shmeta_op *ops, size_t count,
                              uint64_t deadline_ns, uint32_t uid, uint64_t connection, const char *who, uint64_t ticket)
{
	struct sync_writes *w = &s->writes;
	struct write_call *call;
	bool taken, wake;

	if (count == 0)
		return SHMETA_ERR_INVALID_ARGUMENT;
	call = call_new(tenant, ops, count);
	if (call == NULL)
		return SHMETA_ERR_NO_MEMORY;
	call->ticket = ticket;
	call->deadline_ns = deadline_ns;
	call->turn.uid = uid;
	call->turn.connection = connection;
	strncpy(call->who, who, sizeof call->who - 1);
	(void)pthread_mutex_lock(&w->lock);
	taken = turns_add(&w->turns, &call->turn, sync_now(s));
	wake = w->turns.ops >= w->enough;
	(void)pthread_mutex_unlock(&w->lock);
	if (!taken) {
		write_call_free(call);
		return SHMETA_ERR_BUSY;
	}
	if (wake)
		sync_wake(s);
	return SHMETA_OK;
}

/* What was put back; then the next calls in their turns, `most` of work at most (one call at least), or all. NULL: none. */
struct write_call *write_calls_take(struct sync *s, uint64_t most, bool all, bool *ret_more)
{
	struct sync_writes *w = &s->writes;
	struct write_call *first = w->back, **end = &first;
	uint64_t now = sync_now(s);
	struct turn *turn = NULL;

	w->back = NULL;
	while (*end != NULL)
		end = &(*end)->next;
	(void)pthread_mutex_lock(&w->lock);
	if (first == NULL || all)
		turn = turns_take(&w->turns, most, all, now);
	*ret_more = turns_when(&w->turns, now) <= now;
	(void)pthread_mutex_unlock(&w->lock);
	for (; turn != NULL; turn = turn->next) {
		*end = (struct write_call *)turn;
		end = &(*end)->next;
	}
	return first;
}

size_t write_calls_waiting(struct sync *s, uint64_t *ret_since_ns)
{
	size_t ops;

	(void)pthread_mutex_lock(&s->writes.lock);
	ops = s->writes.turns.ops;
	*ret_since_ns = s->writes.turns.since_ns;
	(void)pthread_mutex_unlock(&s->writes.lock);
	return ops;
}

void write_calls_at_rest(struct sync *s)
{
	enum { WORTH_BYTES = 4 << 20 };
	size_t peak = 0;

	(void)pthread_mutex_lock(&s->writes.lock);
	if (s->writes.turns.ops == 0)
		peak = turns_at_rest(&s->writes.turns);
	(void)pthread_mutex_unlock(&s->writes.lock);
	if (peak >= WORTH_BYTES)
		(void)malloc_trim(0);
}

void write_call_answer(struct sync *s, const struct write_call *call, enum shmeta_status status, const char *sentence)
{
	bool each = status == SHMETA_OK || status == SHMETA_ERR_NOT_CACHED;

	s->host.written(s->host.arg, call->ticket, status, sentence, call->ops, each ? call->results : NULL,
	                each ? call->count : 0, s->store != NULL ? sync_committed(s) : 0,
	                s->gen != NULL ? s->gen->generation : 0);
}

void write_calls_answer(struct sync *s, struct write_call *calls, enum shmeta_status status, const char *sentence)
{
	while (calls != NULL) {
		struct write_call *call = calls;

		calls = call->next;
		write_call_answer(s, call, status, sentence);
		write_call_free(call);
	}
}

void write_answer_all(struct sync *s, enum shmeta_status status, const char *sentence)
{
	bool more;

	/* Nobody gathers any more: the next call wakes the engine's thread, however small it is. */
	(void)pthread_mutex_lock(&s->writes.lock);
	s->writes.enough = 0;
	(void)pthread_mutex_unlock(&s->writes.lock);
	write_calls_answer(s, write_calls_take(s, 0, true, &more), status, sentence);
}

bool write_waiting(struct sync *s)
{
	uint64_t now = sync_now(s), when;

	(void)pthread_mutex_lock(&s->writes.lock);
	when = sync_stopping(s) && s->writes.turns.ops > 0 ? now : turns_when(&s->writes.turns, now);
	(void)pthread_mutex_unlock(&s->writes.lock);
	if (when != UINT64_MAX && when > now)
		sync_wake_at(s, when);
	return s->writes.next != NULL || s->writes.back != NULL || when <= now;
}
