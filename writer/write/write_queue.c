/* SPDX-License-Identifier: Apache-2.0
 * The queue of calls (write_queue.h). */
#include "writer/write/write_queue.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/wire/op.h"
#include "writer/write/request_ids.h"

enum {
	WORK_BYTES = 1024
}; /* so many count as an operation, and so does a partition that is
                             * made */
enum {
	PART_WORK = 16
}; /* what a round does of a call at least, as long as its operations are
                             * small */

enum shmeta_status write_init(struct sync *s, struct shmeta_err *err)
{
	struct sync_writes *w = calloc(1, sizeof *w);
	struct request_ids *done = request_ids_new();

	if (w == NULL || done == NULL) {
		free(w);
		request_ids_free(done);
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for the write queue");
	}
	(void)pthread_mutex_init(&w->lock, NULL);
	turns_init(&w->turns);
	w->done = done;
	s->writes = w;
	return SHMETA_OK;
}

static void call_free(struct write_call *call)
{
	free(call->ops);
	free(call->results);
	free(call->again);
	free(call->parts);
	free(call->rows);
	free(call);
}

void write_part_free(struct write_part *part)
{
	if (--part->call->unfreed == 0)
		call_free(part->call);
}

static size_t call_bytes(const struct sync_write *write)
{
	const struct write_call *call;

	return sizeof *call + write->bytes + write->tenant.bytes + 1 +
	       write->count * (sizeof *call->ops + sizeof *call->results + sizeof *call->again + sizeof *call->parts);
}

/* It removes, or renews, as much as there is. */
static bool is_open_ended(enum shmeta_op_type type)
{
	return type == SHMETA_OP_DELETE_TOPIC || type == SHMETA_OP_DELETE_SEGMENTS_BEFORE ||
	       type == SHMETA_OP_DELETE_GROUP || type == SHMETA_OP_DEREGISTER_AGENT || type == SHMETA_OP_RENEW_AGENT;
}

/* The segments of its operations' lists. false: no memory. */
static bool unpack_lists(struct write_call *call, size_t rows)
{
	const uint8_t *at = (const uint8_t *)call->text;
	size_t used = 0;

	call->rows = calloc(rows, sizeof *call->rows);
	for (size_t i = 0; call->rows != NULL && i < call->count; i++) {
		shmeta__op_unpack(at, call->rows + used, &call->ops[i]);
		used += shmeta__op_rows(&call->ops[i]);
		at += ((const struct shmeta_wire_op *)(const void *)at)->bytes;
	}
	return call->rows != NULL;
}

static uint64_t work_of(const struct shmeta_op *op, size_t bytes)
{
	return 1 + bytes / WORK_BYTES + shmeta__op_rows(op) +
	       (op->type == SHMETA_OP_CREATE_TOPIC ? op->u.topic.partition_count : 0);
}

/* The operation belongs to the part before it, or to a new one, which it begins. An object and its
 * slices are not parted. */
static struct write_part *part_for(struct write_call *call, struct write_part *part, size_t i, const uint8_t *encoded)
{
	if (part != NULL && (part->turn.work < PART_WORK || call->ops[i].type == SHMETA_OP_ADD_SLICE))
		return part;
	if (part != NULL)
		part->turn.next = &part[1].turn;
	part = part != NULL ? part + 1 : call->parts;
	part->call = call;
	part->encoded = encoded;
	part->first = i;
	return part;
}

/* A copy that holds everything it views; ERR_NO_MEMORY, ERR_PROTOCOL. */
static enum shmeta_status call_new(const struct sync_write *write, struct write_call **ret)
{
	struct write_call *call = malloc(sizeof *call + write->bytes + write->tenant.bytes + 1);
	struct write_part *part = NULL;
	const uint8_t *at, *end;
	size_t rows;

	if (call == NULL)
		return SHMETA_ERR_NO_MEMORY;
	memset(call, 0, sizeof *call);
	call->ticket = write->ticket;
	call->deadline_ns = write->deadline_ns;
	call->uid = write->uid;
	call->count = write->count;
	strncpy(call->who, write->who, sizeof call->who - 1);
	call->ops = malloc(write->count * sizeof *call->ops);
	call->results = calloc(write->count, sizeof *call->results);
	call->again = calloc(write->count, sizeof *call->again);
	call->parts = calloc(write->count, sizeof *call->parts);
	if (call->ops == NULL || call->results == NULL || call->again == NULL || call->parts == NULL) {
		call_free(call);
		return SHMETA_ERR_NO_MEMORY;
	}
	at = memcpy(call->text, write->ops, write->bytes);
	rows = 0;
	end = at + write->bytes;
	for (size_t i = 0; i < write->count; i++) {
		struct shmeta_op *op = &call->ops[i];
		size_t used = 0;

		if (shmeta__op_decode(at, (size_t)(end - at), op, &used) != SHMETA_OK) {
			call_free(call);
			return SHMETA_ERR_PROTOCOL;
		}
		part = part_for(call, part, i, at);
		part->end = i + 1;
		part->turn.uid = write->uid;
		part->turn.connection = write->connection;
		part->turn.ops++;
		part->turn.work += work_of(op, used);
		part->turn.open_ended |= is_open_ended(op->type);
		rows += shmeta__op_rows(op);
		at += used;
	}
	if (at != end) {
		call_free(call);
		return SHMETA_ERR_PROTOCOL;
	}
	part->turn.last = true;
	call->unanswered = call->unfreed = (size_t)(part - call->parts) + 1;
	part->turn.bytes = call_bytes(write) + rows * sizeof *call->rows;
	if (rows > 0 && !unpack_lists(call, rows)) {
		call_free(call);
		return SHMETA_ERR_NO_MEMORY;
	}
	memcpy((uint8_t *)call->text + write->bytes, write->tenant.data, write->tenant.bytes);
	call->tenant = (struct shmeta_str){(const char *)call->text + write->bytes, write->tenant.bytes};
	*ret = call;
	return SHMETA_OK;
}

void write_set_limits(struct sync *s, const struct sync_options *options)
{
	(void)pthread_mutex_lock(&s->writes->lock);
	s->writes->turns.limits = (struct turns_limits){.ops = options->write_queue_max,
	                                                .bytes = options->write_queue_bytes,
	                                                .connection_bytes = options->write_connection_bytes,
	                                                .user_share = options->user_share};
	(void)pthread_mutex_unlock(&s->writes->lock);
}

/* Asked before anything is done for a call: who sends more than there is room for costs little. */
static bool has_room(struct sync *s, const struct sync_write *write)
{
	const struct turn call = {
		.uid = write->uid, .connection = write->connection, .ops = write->count, .bytes = call_bytes(write)};
	bool room;

	(void)pthread_mutex_lock(&s->writes->lock);
	room = turns_room(&s->writes->turns, &call);
	(void)pthread_mutex_unlock(&s->writes->lock);
	return room;
}

enum shmeta_status sync_write(struct sync *s, const struct sync_write *write)
{
	struct sync_writes *w = s->writes;
	struct write_call *call = NULL;
	enum shmeta_status status;
	bool taken, wake;

	if (write->count == 0 || write->count > write->bytes / sizeof(struct shmeta_wire_op))
		return SHMETA_ERR_PROTOCOL;
	if (!has_room(s, write))
		return SHMETA_ERR_BUSY;
	status = call_new(write, &call);
	if (status != SHMETA_OK)
		return status;
	call->came_ns = sync_now(s);
	(void)pthread_mutex_lock(&w->lock);
	taken = turns_add(&w->turns, &call->parts->turn, call->came_ns);
	wake = w->turns.calls >= w->enough;
	(void)pthread_mutex_unlock(&w->lock);
	if (!taken) {
		call_free(call);
		return SHMETA_ERR_BUSY;
	}
	if (wake)
		sync_wake(s);
	return SHMETA_OK;
}

/* What was put back; then the next ones. */
struct write_part *write_parts_take(struct sync *s, uint64_t most, bool all, bool *ret_more)
{
	struct sync_writes *w = s->writes;
	struct write_part *first = w->back, **end = &first;
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
		*end = (struct write_part *)turn;
		end = &(*end)->next;
	}
	return first;
}

size_t write_calls_waiting(struct sync *s, size_t *ret_calls, uint64_t *ret_since_ns)
{
	size_t ops;

	(void)pthread_mutex_lock(&s->writes->lock);
	ops = s->writes->turns.ops;
	*ret_calls = s->writes->turns.calls;
	*ret_since_ns = s->writes->turns.since_ns;
	(void)pthread_mutex_unlock(&s->writes->lock);
	return ops;
}

void write_calls_at_rest(struct sync *s)
{
	enum { WORTH_BYTES = 4 << 20 };
	size_t peak = 0;

	(void)pthread_mutex_lock(&s->writes->lock);
	if (s->writes->turns.ops == 0)
		peak = turns_at_rest(&s->writes->turns);
	(void)pthread_mutex_unlock(&s->writes->lock);
	if (peak >= WORTH_BYTES)
		(void)malloc_trim(0);
}

static void note_sentence(struct write_call *call, const char *sentence)
{
	if (call->sentence[0] == '\0')
		(void)snprintf(call->sentence, sizeof call->sentence, "%s", sentence);
}

void write_part_not_cached(struct write_part *part, const char *sentence)
{
	part->call->not_cached = true;
	note_sentence(part->call, sentence);
}

void write_part_failed(struct write_part *part, enum shmeta_status status, const char *sentence)
{
	struct write_call *call = part->call;

	if (call->failed == 0)
		call->failure = status;
	if (call->failure == status)
		call->failed += part->turn.ops;
	note_sentence(call, sentence);
}

void write_part_fail(struct write_part *part, enum shmeta_status status, const char *sentence)
{
	for (size_t i = part->first; i < part->end; i++) {
		struct shmeta_result *result = &part->call->results[i];

		result->status = status;
		(void)snprintf(result->text, sizeof result->text, "%.*s", (int)sizeof result->text - 1, sentence);
	}
	write_part_failed(part, status, sentence);
}

void write_part_answer(struct sync *s, struct write_part *part)
{
	struct write_call *call = part->call;
	const bool whole = call->failed == call->count;
	const enum shmeta_status status = whole ? call->failure : call->not_cached ? SHMETA_ERR_NOT_CACHED : SHMETA_OK;

	if (--call->unanswered > 0)
		return;
	sync_measured(s, SHMETA_TIMED_WRITE, sync_now(s) - call->came_ns);
	s->host.written(s->host.arg, call->ticket, status, status != SHMETA_OK ? call->sentence : "", call->ops,
	                whole ? NULL : call->results, whole ? 0 : call->count, s->store != NULL ? sync_committed(s) : 0,
	                s->gen != NULL ? s->gen->generation : 0);
}

void write_answer_all(struct sync *s, enum shmeta_status status, const char *sentence)
{
	struct write_part *parts, *next;
	bool more;

	/* Nobody gathers any more: the next call wakes the engine's thread, however small it is. */
	(void)pthread_mutex_lock(&s->writes->lock);
	s->writes->enough = 0;
	(void)pthread_mutex_unlock(&s->writes->lock);
	parts = write_parts_take(s, 0, true, &more);
	for (struct write_part *part = parts; part != NULL; part = next) {
		next = part->next;
		write_part_fail(part, status, sentence);
		write_part_answer(s, part);
		write_part_free(part);
	}
}

bool write_waiting(struct sync *s)
{
	uint64_t now = sync_now(s), when;

	(void)pthread_mutex_lock(&s->writes->lock);
	when = sync_stopping(s) && s->writes->turns.ops > 0 ? now : turns_when(&s->writes->turns, now);
	(void)pthread_mutex_unlock(&s->writes->lock);
	if (when != UINT64_MAX && when > now)
		sync_wake_at(s, when);
	return s->writes->next != NULL || s->writes->back != NULL || when <= now;
}

size_t write_ops_waiting(struct sync *s)
{
	size_t ops;

	(void)pthread_mutex_lock(&s->writes->lock);
	ops = s->writes->turns.ops;
	(void)pthread_mutex_unlock(&s->writes->lock);
	return ops;
}

bool write_is_begun(const struct sync *s)
{
	return s->writes->next != NULL;
}
