/* SPDX-License-Identifier: Apache-2.0
 * Calls: operations encoded once, results put where they belong, and what becomes of a call that is
 * over. Nothing here knows of sockets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reader/client/client.h"

enum { ASK_TRIES = 3 };

void shmeta__call_append(struct call_list *list, struct call *call)
{
	call->next = NULL;
	call->prev = list->last;
	if (list->last != NULL)
		list->last->next = call;
	else
		list->first = call;
	list->last = call;
}

void shmeta__call_unlink(struct call_list *list, struct call *call)
{
	if (call->prev != NULL)
		call->prev->next = call->next;
	else
		list->first = call->next;
	if (call->next != NULL)
		call->next->prev = call->prev;
	else
		list->last = call->prev;
}

void shmeta__call_free(struct call *call)
{
	free(call);
}

/* ---- encoding ---- */

static bool is_slice(const struct shmeta_op *op)
{
	return op->type == SHMETA_OP_ADD_SLICE;
}

/* Sizes of everything, or the sentence. An object with its slices is one unit: it must fit one
 * frame. */
static enum shmeta_status measure(const struct shmeta_op *ops, size_t count, size_t unit_max, size_t bytes_max,
                                  size_t *ret_bytes, struct shmeta_err *err)
{
	size_t bytes = 0, unit = 0, first = 0;

	for (size_t i = 0; i < count; i++) {
		size_t one = shmeta__op_bytes(&ops[i]);

		if (one == SIZE_MAX) {
			if (shmeta__op_check(&ops[i], err) == SHMETA_OK)
				(void)shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "it cannot be sent");
			return shmeta_fail_prefix(err, "operation %zu", i);
		}
		if (is_slice(&ops[i]) &&
		    (i == 0 || (!is_slice(&ops[i - 1]) && ops[i - 1].type != SHMETA_OP_COMMIT_OBJECT)))
			return shmeta_fail(
				err, SHMETA_ERR_INVALID_ARGUMENT,
				"operation %zu: a slice stands right behind its commit_object or another slice of it",
				i);
		if (!is_slice(&ops[i])) {
			unit = 0;
			first = i;
		}
		unit += one;
		if (unit > unit_max)
			return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                   "operation %zu: %s%s takes more than the %zu bytes that one frame carries",
			                   first, shmeta__op_name(ops[first].type),
			                   is_slice(&ops[i]) ? " with its slices" : "", unit_max);
		bytes += one;
		if (bytes > bytes_max)
			return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
			                   "the first %zu of %zu operations take %zu bytes: output_bytes allows %zu",
			                   i + 1, count, bytes, bytes_max);
	}
	*ret_bytes = bytes;
	return SHMETA_OK;
}

static void encode(struct call *call, const struct shmeta_op *ops)
{
	size_t at = 0;

	for (size_t i = 0; i < call->count; i++) {
		const struct shmeta_op *op = &ops[i];

		call->ops[i].offset = (uint32_t)at;
		call->ops[i].type = (uint8_t)op->type;
		if (is_slice(op))
			call->ops[i].flags |= OP_FOLLOWS;
		if (op->request_id[0] != 0 || op->request_id[1] != 0)
			call->ops[i].flags |= OP_KNOWN_BY_ID;
		if (!call->traced && shmeta__op_is_traced(op)) {
			call->traced = true;
			memcpy(call->event.trace_id, op->trace_id, sizeof op->trace_id);
		}
		at += shmeta__op_encode(op, call->encoded + at, call->bytes - at);
	}
	/* An object is sent again as a whole or not at all. */
	for (size_t i = 0, end; i < call->count; i = end) {
		unsigned int all = OP_KNOWN_BY_ID;

		end = shmeta__unit_end(call, i);
		for (size_t k = i; k < end; k++)
			all &= call->ops[k].flags;
		for (size_t k = i; k < end; k++)
			call->ops[k].flags = (uint8_t)((call->ops[k].flags & ~(unsigned int)OP_KNOWN_BY_ID) | all);
	}
}

struct call *shmeta__call_alloc(size_t count, size_t bytes, struct shmeta_result *results)
{
	size_t head = (sizeof(struct call) + count * sizeof(struct op) + 15) / 16 * 16;
	size_t own = results == NULL ? count * sizeof *results : 0;
	struct call *call = calloc(1, head + own + bytes);

	if (call == NULL)
		return NULL;
	call->count = call->open = call->event.count = count;
	call->bytes = bytes;
	call->status = SHMETA_OK;
	call->deadline_ns = NEVER;
	call->results = results != NULL ? results : (struct shmeta_result *)(void *)((char *)call + head);
	call->encoded = (uint8_t *)call + head + own;
	return call;
}

enum shmeta_status shmeta__call_new(const struct shmeta_op *ops, size_t count, size_t unit_max, size_t bytes_max,
                                    struct shmeta_result *results, struct call **ret, struct shmeta_err *err)
{
	enum shmeta_status status;
	struct call *call;
	size_t bytes = 0;

	if (ops == NULL || count == 0)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "there are no operations");
	status = measure(ops, count, unit_max, bytes_max, &bytes, err);
	if (status != SHMETA_OK)
		return status;
	/* bytes_max bounds the count: each operation takes at least 128 bytes of it. */
	call = shmeta__call_alloc(count, bytes, results);
	if (call == NULL)
		return shmeta_fail(err, SHMETA_ERR_NO_MEMORY, "out of memory for %zu operations", count);
	call->event.type = ops[0].type;
	encode(call, ops);
	*ret = call;
	return SHMETA_OK;
}

size_t shmeta__call_untrace(struct call *call)
{
	size_t at = 0, before = call->bytes;

	for (size_t i = 0; i < call->count; i++) {
		const uint8_t *from = call->encoded + call->ops[i].offset;

		call->ops[i].offset = (uint32_t)at;
		at += shmeta__op_untrace(call->encoded + at, from);
	}
	call->bytes = at;
	call->traced = false;
	return before - at;
}

size_t shmeta__unit_end(const struct call *call, size_t i)
{
	do
		i++;
	while (i < call->count && (call->ops[i].flags & OP_FOLLOWS) != 0);
	return i;
}

/* ---- results ---- */

/* What the caller must know first of a call whose frames met with different fates: that something
 * may have been done unseen, then that something was not done, then that something is not shown
 * yet. */
static unsigned int gravity(enum shmeta_status status)
{
	switch (status) {
	case SHMETA_ERR_OUTCOME_UNKNOWN:
		return 4;
	case SHMETA_ERR_TIMEOUT:
		return 3;
	case SHMETA_ERR_NOT_CACHED:
		return 1;
	default:
		return status == SHMETA_OK ? 0 : 2;
	}
}

static void merge_status(struct call *call, enum shmeta_status status)
{
	if (gravity(status) > gravity(call->status))
		call->status = status;
}

static void op_done(struct call *call, size_t i)
{
	call->ops[i].flags = (uint8_t)((call->ops[i].flags & ~(OP_SENT | OP_HEAD | OP_AGAIN)) | OP_DONE);
	call->open--;
}

void shmeta__result_set(struct shmeta_result *ret, enum shmeta_status status, const char *sentence)
{
	*ret = (struct shmeta_result){.status = status};
	(void)snprintf(ret->text, sizeof ret->text, "%.*s", (int)sizeof ret->text - 1,
	               sentence[0] != 0 || status == SHMETA_OK ? sentence : shmeta_strerror(status));
}

/* Which of the two epochs of a replacement it was, the writer says by the highest (op_result.c). */
static void describe_fence(struct shmeta_result *result, const struct shmeta_op *op)
{
	const int by_compaction =
		op->type == SHMETA_OP_REPLACE_SEGMENTS && (result->most > 0 || op->fence.agent_id.bytes == 0);

	result->epoch = by_compaction ? op->u.replace.compaction_epoch : op->fence.epoch;
	if (by_compaction && result->most > 0)
		result->value = result->epoch;
}

void shmeta__result_describe(struct shmeta_result *result, const struct shmeta_op *op)
{
	struct shmeta_err err = {0};

	if (result->status >= 0) {
		if (op->type == SHMETA_OP_ACQUIRE_LEASE) {
			result->lease.leader_agent_id = op->agent_id;
			result->topic = op->name;
		}
		return;
	}
	result->topic = op->type == SHMETA_OP_CREATE_TOPIC ? op->u.topic.name : op->name;
	result->partition_id = op->partition_id;
	if (result->status == SHMETA_ERR_FENCED)
		describe_fence(result, op);
	if (result->status == SHMETA_ERR_INVALID_ARGUMENT && shmeta__op_check(op, &err) != SHMETA_OK && err.most > 0) {
		result->value = err.value;
		result->least = err.least;
		result->most = err.most;
	}
}

void shmeta__call_settle(struct call *call, size_t from, size_t to, enum shmeta_status status, const char *sentence)
{
	for (size_t i = from; i < to; i++) {
		if ((call->ops[i].flags & OP_DONE) != 0)
			continue;
		shmeta__result_set(&call->results[i], status, sentence);
		op_done(call, i);
		merge_status(call, status);
	}
}

size_t shmeta__frame_end(const struct call *call, size_t i)
{
	if (i >= call->count || (call->ops[i].flags & (OP_SENT | OP_HEAD)) != (OP_SENT | OP_HEAD))
		return 0;
	do
		i++;
	while (i < call->count && (call->ops[i].flags & (OP_SENT | OP_HEAD)) == OP_SENT);
	return i;
}

enum shmeta_status shmeta__call_take_results(struct call *call, size_t i, const struct shmeta_frame_results *frame)
{
	const struct shmeta_token token = {.generation = frame->generation, .txn = frame->txn};
	const uint8_t *at = (const uint8_t *)(frame + 1);
	size_t left = frame->head.bytes - sizeof *frame, end = shmeta__frame_end(call, i), used;

	if (frame->result_count != end - i || (frame->status != SHMETA_OK && frame->status != SHMETA_ERR_NOT_CACHED))
		return SHMETA_ERR_PROTOCOL;
	for (size_t k = i; k < end; k++) {
		if (shmeta__result_decode((enum shmeta_op_type)call->ops[k].type, at, left, &call->results[k], &used) !=
		    SHMETA_OK)
			return SHMETA_ERR_PROTOCOL;
		at += used;
		left -= used;
	}
	if (left != 0)
		return SHMETA_ERR_PROTOCOL;
	for (size_t k = i; k < end; k++) {
		struct shmeta_result *r = &call->results[k];

		/* Sentences that did not fit a frame are left out by the writer. */
		if (r->status < 0 && r->text[0] == 0)
			(void)snprintf(r->text, sizeof r->text, "%s", shmeta_strerror(r->status));
		op_done(call, k);
	}
	merge_status(call, (enum shmeta_status)frame->status);
	if (token_is_later(&token, &call->token))
		call->token = token;
	return SHMETA_OK;
}

/* ---- of calls that refresh ---- */

size_t shmeta__refresh_frame(const struct call *call, struct shmeta_frame_refresh *ret)
{
	memcpy(ret, call->encoded, sizeof *ret);
	return call->bytes - sizeof *ret;
}

static void ask_again(struct shmeta_client *c, struct call *call)
{
	call->ops[0].flags &= (uint8_t) ~(OP_SENT | OP_HEAD);
	call->cursor = 0;
	c->sending = c->calls.first;
}

/* The writer may answer with a read that began before it was asked, as in shmeta__ask_since(): then
 * it is asked again. */
void shmeta__call_take_refresh(struct shmeta_client *c, struct call *call, const struct shmeta_frame_answer *answer)
{
	if (answer->synced_at_ns < call->since_ns && ++call->asked < ASK_TRIES) {
		ask_again(c, call);
		return;
	}
	if (answer->synced_at_ns < call->since_ns) {
		shmeta__call_settle(call, 0, 1, SHMETA_ERR_SOURCE,
		                    "the writer answers with what it read before it was asked");
		return;
	}
	call->token = (struct shmeta_token){.generation = answer->generation, .txn = answer->txn};
	shmeta__call_settle(call, 0, 1, SHMETA_OK, "");
}

/* ---- of calls that wait ---- */

void shmeta__call_take_wait(struct shmeta_client *c, struct call *call)
{
	struct shmeta_token before = call->waiting->looked, *now = &call->waiting->looked;
	enum shmeta_status status = shmeta__waiting_look(c, call);

	/* Where the store was too busy to be looked at, the writer's next answer has it looked at
	 * again. */
	if (status == SHMETA_ERR_TIMEOUT || status == SHMETA_ERR_CONTENDED || status == SHMETA_ERR_EXPIRED) {
		/* As where the store is another one, whose files cannot be opened: the writer would
		 * answer at once for ever. */
		if (now->generation == before.generation && now->txn == before.txn)
			shmeta__waiting_pause(c);
		ask_again(c, call);
		return;
	}
	call->token = call->waiting->looked;
	shmeta__call_settle(call, 0, 1, status, "");
}

/* ---- what may have been done ---- */

static bool is_under_way(const struct op *op)
{
	return (op->flags & OP_DONE) == 0 && (op->flags & (OP_SENT | OP_AGAIN)) != 0;
}

bool shmeta__op_is_exposed(const struct call *call, size_t i)
{
	return call->kind == CALL_WRITES && is_under_way(&call->ops[i]);
}

/* ---- the end of a call ---- */

void shmeta__call_finish(struct shmeta_client *c, struct call *call)
{
	if (c->sending == call)
		c->sending = call->next;
	shmeta__call_unlink(&c->calls, call);
	shmeta__waiting_end(call);
	call->finished = true;
	if (call->waiter == NULL) {
		shmeta__call_append(&c->ready, call);
		return;
	}
	call_gone(c, call);
	(void)pthread_cond_signal(call->waiter);
}

void shmeta__call_expire(struct shmeta_client *c, struct call *call)
{
	enum shmeta_status unsent = c->state == LINK_UP ? SHMETA_ERR_BUSY : SHMETA_ERR_WRITER_AWAY;
	const char *why = unsent == SHMETA_ERR_BUSY ? "the writer took no more requests within the time given: not sent"
	                  : c->why.text[0] != 0     ? c->why.text
	                                            : shmeta_strerror(unsent);

	for (size_t i = 0; i < call->count; i++)
		if (is_under_way(&call->ops[i]))
			shmeta__call_settle(
				call, i, i + 1, SHMETA_ERR_TIMEOUT,
				call->kind != CALL_WRITES
					? "the writer did not answer within the time given"
					: "the writer did not answer within the time given: it may still be done");
	shmeta__call_settle(call, 0, call->count, unsent, why);
	shmeta__call_finish(c, call);
}
