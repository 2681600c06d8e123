/* SPDX-License-Identifier: Apache-2.0
 * Waits of event loops: the writer answers when a word that a look depended on has moved since, and
 * then it is looked again. So a lost connection, or another writer, costs one more look. */
#include <string.h>

#include "base/escape.h"
#include "reader/client/client.h"

static struct call *call_new(struct shmeta_watch *watches, size_t count, const struct shmeta_token *since)
{
	size_t handles = count * sizeof(struct shmeta_handle *), words = (count + 1) / 2 * 2 * sizeof(uint32_t);
	struct call *call = shmeta__call_alloc(1, sizeof(struct waiting) + handles + words, NULL);

	if (call == NULL)
		return NULL;
	call->kind = CALL_WAITS;
	call->waiting = (struct waiting *)(void *)call->encoded;
	*call->waiting = (struct waiting){.watches = watches,
	                                  .count = count,
	                                  .since = since != NULL ? *since : (struct shmeta_token){0},
	                                  .handle = (struct shmeta_handle **)(void *)(call->waiting + 1)};
	call->waiting->words = (uint32_t *)(void *)(call->waiting->handle + count);
	/* Whoever answers next is asked again. */
	call->ops[0].flags = OP_KNOWN_BY_ID;
	for (size_t i = 0; i < count; i++)
		watches[i].status = SHMETA_ERR_TIMEOUT;
	return call;
}

static enum shmeta_status submit(struct shmeta_client *c, struct shmeta_watch *watches, size_t count,
                                 const struct shmeta_token *since, shmeta_done_fn *done, void *arg,
                                 uint64_t *ret_ticket)
{
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct call *call = NULL;

	if (shmeta__client_is_forked(c))
		return SHMETA_ERR_FORKED;
	status = shmeta__instance_tenant(c->instance, &err);
	if (status == SHMETA_OK && count > SHMETA_WAIT_MAX)
		status = shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "%zu partitions: one wait takes at most %d",
		                     count, SHMETA_WAIT_MAX);
	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		if (watches[i].topic.data == NULL && watches[i].topic.bytes > 0)
			status = shmeta_fail(&err, SHMETA_ERR_INVALID_ARGUMENT, "the topic of watch %zu is NULL", i);
	if (status == SHMETA_OK) {
		call = call_new(watches, count, since);
		if (call == NULL)
			status = shmeta_fail(&err, SHMETA_ERR_NO_MEMORY, "out of memory");
	}
	if (status == SHMETA_OK) {
		call->done = done;
		call->arg = arg;
		status = shmeta__client_submit(c, call, ret_ticket, &err);
		if (status == SHMETA_OK)
			return SHMETA_OK;
		shmeta__call_free(call);
	}
	(void)shmeta_fail_prefix(&err, "submit a wait");
	return shmeta__instance_fail(c->instance, &err);
}

enum shmeta_status shmeta_submit_wait(struct shmeta_client *c, struct shmeta_watch *watches, size_t count,
                                      shmeta_done_fn *done, void *arg, uint64_t *ret_ticket)
{
	if (c == NULL || watches == NULL || count == 0)
		return SHMETA_ERR_INVALID_ARGUMENT;
	return submit(c, watches, count, NULL, done, arg, ret_ticket);
}

enum shmeta_status shmeta_submit_wait_commit(struct shmeta_client *c, const struct shmeta_token *since,
                                             shmeta_done_fn *done, void *arg, uint64_t *ret_ticket)
{
	if (c == NULL || since == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	return submit(c, NULL, 0, since, done, arg, ret_ticket);
}
