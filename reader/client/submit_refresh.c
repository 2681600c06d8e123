/* SPDX-License-Identifier: Apache-2.0
 * Keys that an event loop has read again: a call of one question, which changes nothing. So a lost
 * connection does not leave its outcome unknown: it is asked again, whichever writer answers
 * then. */
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "reader/client/client.h"

static const char *name_wrong(struct shmeta_str name, int needed)
{
	if (name.bytes == 0)
		return needed ? "is missing" : NULL;
	return name.data == NULL ? "is NULL" : shmeta__name_error(name.data, name.bytes, SHMETA_NAME_MAX);
}

/* Without any name the class as a whole is meant. */
static enum shmeta_status check(const struct shmeta_key *key, uint32_t flags, struct shmeta_err *err)
{
	int has_topic = key->cls != SHMETA_CLASS_AGENT, has_name = key->cls == SHMETA_CLASS_AGENT;
	const char *wrong;
	char shown[80];

	if ((unsigned)key->cls >= SHMETA_CLASS_COUNT)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "there is no class %d", (int)key->cls);
	if ((flags & ~(uint32_t)SHMETA_READ_NO_FILL) != 0)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT,
		                   "flags 0x%x: only SHMETA_READ_NO_FILL is taken here", (unsigned)flags);
	if (key->cls == SHMETA_CLASS_OFFSET)
		has_name = 1;
	if (key->cls == SHMETA_CLASS_LIST)
		has_topic = 0;
	if ((!has_topic && key->topic.bytes > 0) || (!has_name && key->name.bytes > 0))
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "a key of this class has no %s",
		                   !has_topic && key->topic.bytes > 0 ? "topic" : "name");
	wrong = name_wrong(key->topic, 0);
	if (wrong != NULL)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "topic '%s' %s",
		                   shmeta__escape(shown, sizeof shown, key->topic.data, key->topic.bytes), wrong);
	wrong = name_wrong(key->name, key->cls == SHMETA_CLASS_OFFSET && key->topic.bytes > 0);
	if (wrong != NULL)
		return shmeta_fail(err, SHMETA_ERR_INVALID_ARGUMENT, "name '%s' %s",
		                   shmeta__escape(shown, sizeof shown, key->name.data, key->name.bytes), wrong);
	return SHMETA_OK;
}

static struct call *call_new(const struct shmeta *instance, const struct shmeta_key *key, uint32_t flags)
{
	const struct want want = {.cls = key->cls,
	                          .topic = key->topic.bytes > 0 ? key->topic.data : NULL,
	                          .topic_bytes = key->topic.bytes,
	                          .partition_id = key->partition_id,
	                          .name = key->name.bytes > 0 ? key->name.data : NULL,
	                          .name_bytes = key->name.bytes,
	                          .no_fill = (flags & SHMETA_READ_NO_FILL) != 0};
	union refresh_packet packet;
	struct call *call;

	shmeta__refresh_packet(instance, &want, 0, &packet);
	call = shmeta__call_alloc(1, packet.frame.head.bytes, NULL);
	if (call == NULL)
		return NULL;
	memcpy(call->encoded, &packet, packet.frame.head.bytes);
	call->kind = CALL_REFRESHES;
	/* Whoever answers next is asked again. */
	call->ops[0].flags = OP_KNOWN_BY_ID;
	return call;
}

enum shmeta_status shmeta_submit_refresh(struct shmeta_client *c, const struct shmeta_key *key, uint32_t flags,
                                         shmeta_done_fn *done, void *arg, uint64_t *ret_ticket)
{
	struct shmeta_err err = {0};
	enum shmeta_status status;
	struct call *call = NULL;
	struct core *core;

	if (c == NULL || key == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__client_is_forked(c))
		return SHMETA_ERR_FORKED;
	status = shmeta__instance_tenant(c->instance, &err);
	if (status == SHMETA_OK)
		status = check(key, flags, &err);
	if (status == SHMETA_OK) {
		call = call_new(c->instance, key, flags);
		if (call == NULL)
			status = shmeta_fail(&err, SHMETA_ERR_NO_MEMORY, "out of memory");
	}
	if (status != SHMETA_OK) {
		(void)shmeta_fail_prefix(&err, "submit a refresh");
		return shmeta__instance_fail(c->instance, &err);
	}
	core = shmeta__instance_core(c->instance);
	call->since_ns = shmeta__writer_now_ns(core);
	shmeta__core_unref(core, 0);
	call->done = done;
	call->arg = arg;
	status = shmeta__client_submit(c, call, ret_ticket, &err);
	if (status == SHMETA_OK)
		return SHMETA_OK;
	shmeta__call_free(call);
	return shmeta__instance_fail(c->instance, &err);
}

static struct call *take(struct call_list *list, uint64_t ticket)
{
	for (struct call *call = list->first; call != NULL; call = call->next) {
		if (call->kind != CALL_WRITES && call->id == ticket) {
			shmeta__call_unlink(list, call);
			return call;
		}
	}
	return NULL;
}

enum shmeta_status shmeta_client_cancel(struct shmeta_client *c, uint64_t ticket)
{
	/* it has ended; it has not; it is the link's */
	bool told = false, open = false, kept = false;
	struct call *call;

	if (c == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (shmeta__client_is_forked(c))
		return SHMETA_ERR_FORKED;
	(void)pthread_mutex_lock(&c->lock);
	call = take(&c->calls, ticket);
	if (call != NULL && c->sending == call)
		c->sending = call->next;
	if (call != NULL) {
		shmeta__waiting_end(call);
		open = true;
	}
	if (call == NULL)
		call = take(&c->ready, ticket);
	if (call == NULL) {
		call = take(&c->over, ticket);
		told = true;
	}
	if (call != NULL)
		call_gone(c, call);
	(void)pthread_mutex_unlock(&c->lock);
	if (call != NULL && !told)
		shmeta__client_tell_end(c, call, SHMETA_END);
	if (open) {
		(void)pthread_mutex_lock(&c->lock);
		kept = shmeta__link_withdraw(c, call);
		(void)pthread_mutex_unlock(&c->lock);
	}
	if (!kept)
		shmeta__call_free(call);
	return call != NULL ? SHMETA_OK : SHMETA_ERR_NOT_FOUND;
}
